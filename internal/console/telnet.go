package console

// The bytes of RFC 854 that are used here, and three options.
const (
	iac         = 255
	telnetBreak = 243
	subBegin    = 250
	subEnd      = 240
	will        = 251
	wont        = 252
	do          = 253
	dont        = 254

	telnetBinary = 0 // RFC 856
	telnetEcho   = 1 // RFC 857
	telnetSGA    = 3 // suppress go ahead, RFC 858
)

// The sides of an option.
const (
	weDo   = 0
	theyDo = 1
)

// telnet takes the commands out of what a telnet server sends and answers them. It is a step machine: bytes in, bytes of the line and a reply out; a command
// may come in any number of pieces. The zero value is ready. It asks for nothing by itself: a terminal server says what it wants.
type telnet struct {
	state  byte // 0, or what has begun: iac, will … dont, subBegin, subEnd (an iac in a subnegotiation), '\r'
	agreed [2][256]bool
}

// take removes the commands from p, in place; n is how much is left. Each change of an option is answered once, so that two sides never go on for
// ever (RFC 1143).
func (t *telnet) take(p []byte) (n int, reply []byte) {
	for _, b := range p {
		was := t.state
		t.state = 0
		switch was {
		case '\r':
			if b == 0 && !t.agreed[theyDo][telnetBinary] { // CR NUL is a carriage return (RFC 854)
				continue
			}
			fallthrough
		case 0:
			if b == iac {
				t.state = iac
				continue
			}
			if b == '\r' {
				t.state = '\r'
			}
			p[n] = b
			n++
		case iac:
			switch b {
			case iac:
				p[n] = b
				n++
			case will, wont, do, dont, subBegin:
				t.state = b
			}
		case will, wont, do, dont:
			reply = t.answer(reply, was, b)
		case subBegin: // of what was never agreed: passed over
			t.state = subBegin
			if b == iac {
				t.state = subEnd
			}
		case subEnd:
			if b != subEnd {
				t.state = subBegin
			}
		}
	}
	return n, reply
}

// answer agrees to what serves a line of bytes, and to nothing else.
func (t *telnet) answer(reply []byte, verb, option byte) []byte {
	side, yes, no := weDo, byte(will), byte(wont)
	good := option == telnetBinary || option == telnetSGA
	if verb == will || verb == wont {
		side, yes, no = theyDo, do, dont
		good = good || option == telnetEcho
	}
	asked := verb == will || verb == do
	switch was := t.agreed[side][option]; {
	case asked && good && !was:
		t.agreed[side][option] = true
		return append(reply, iac, yes, option)
	case asked && !good, !asked && was:
		t.agreed[side][option] = false
		return append(reply, iac, no, option)
	}
	return reply
}

// appendTelnet encodes bytes for the line.
func appendTelnet(dst, p []byte, binary bool) []byte {
	for _, b := range p {
		dst = append(dst, b)
		switch {
		case b == iac:
			dst = append(dst, iac)
		case b == '\r' && !binary:
			dst = append(dst, 0)
		}
	}
	return dst
}
