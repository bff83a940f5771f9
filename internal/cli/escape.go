package cli

// ctrlE begins every key of ours at a console, as in conserver and Confluent.
const ctrlE = 0x05

// key is something that the person at a console wants of us and not of the node.
type key int

const (
	keyNone key = iota
	keyLeave
	keyHelp
	keyBreak
	keyTake
	keyWatch
	keyUnknown
	keyPower // with its action
)

// escape finds our keys in what is typed. It is a step machine: bytes in, bytes for the node and keys out; a key may come
// in any number of pieces. The zero value is ready.
type escape struct {
	state byte // 0, or how far a key is: 'e' ctrl-e, 'c' ctrl-e c, 'l' and 'p' wait for one more
}

// powerKeys are the actions behind ctrl-e c p.
var powerKeys = map[byte]string{'1': "on", '0': "off", 'c': "cycle", 'r': "reset", 's': "softoff", 'd': "diag", '?': "status"}

// step takes one byte. Send goes to the node, before what comes next.
func (e *escape) step(b byte) (send []byte, k key, action string) {
	was := e.state
	e.state = 0
	switch was {
	case 0:
		if b == ctrlE {
			e.state = 'e'
			return nil, keyNone, ""
		}
		return []byte{b}, keyNone, ""
	case 'e':
		switch b {
		case 'c':
			e.state = 'c'
			return nil, keyNone, ""
		case ctrlE:
			e.state = 'e' // the first was for the node, the second may begin a key
			return []byte{ctrlE}, keyNone, ""
		}
		return []byte{ctrlE, b}, keyNone, ""
	case 'c':
		switch b {
		case '.':
			return nil, keyLeave, ""
		case '?':
			return nil, keyHelp, ""
		case 't', 'f': // f and s: as in conserver
			return nil, keyTake, ""
		case 'w', 's':
			return nil, keyWatch, ""
		case 'c':
			return []byte{ctrlE, 'c'}, keyNone, ""
		case 'l', 'p':
			e.state = b
			return nil, keyNone, ""
		}
	case 'l':
		if b == '0' {
			return nil, keyBreak, ""
		}
	case 'p':
		if a, ok := powerKeys[b]; ok {
			return nil, keyPower, a
		}
	}
	return nil, keyUnknown, ""
}

// end is what is left for the node when the input ends: a ctrl-e that began nothing.
func (e *escape) end() []byte {
	defer func() { e.state = 0 }()
	if e.state == 'e' {
		return []byte{ctrlE}
	}
	return nil
}

const keysHelp = `ctrl-e c .   leave                 ctrl-e c l 0  send a break
ctrl-e c t   take over the typing  ctrl-e c w    watch only, until t
ctrl-e c p   power: 1 on, 0 off, c cycle, r reset, s soft off, d diag, ? status
ctrl-e c c   send ctrl-e and c     ctrl-e c ?    show these keys`
