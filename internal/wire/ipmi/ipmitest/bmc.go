// Package ipmitest is the other side of the wire for tests and benchmarks: a BMC as a step machine, with power, boot
// flags, a serial line and faults on request.
//
// It speaks through the codecs and the cryptography of go-ipmi, not through those of package ipmi, so that a mistake
// made there does not answer itself. Like a peer it has no socket, no clock and no goroutine; thousands of them run
// behind one socket.
package ipmitest

import (
	"encoding/binary"
	"time"

	"github.com/bougou/go-ipmi/pkg/crypto"
	"github.com/bougou/go-ipmi/pkg/protocol"
	"github.com/bougou/go-ipmi/pkg/types"
)

// Faults is what a BMC does wrong.
type Faults struct {
	Refuse17      bool // knows suite 3 only
	Refuse3       bool // knows suite 17 only
	OperatorOnly  bool // the user may not be administrator
	HideUsers     bool // answers RAKP 1 of an unknown user with a false proof instead of "unauthorized name"
	RAKP2, RAKP4  byte // refuses RAKP 1 or a right RAKP 3 with this status
	HasKG         bool // has a key K_G of its own
	Full          int  // this many Open Session requests are answered "no resources"
	Busy          int  // this many commands are answered "node busy"
	SerialTaken   bool // another console has the serial line
	NoOwner       bool // does not tell whose the serial line is
	NoEncryptLine bool // refuses an encrypted serial line
	Refuse        int  // this many serial packets from the console are refused (NACK)
	Partial       int  // when not 0, characters taken of one serial packet at most
	Mute          bool // says nothing
	Only15        bool // knows IPMI 1.5 only, and drops what is newer
	Strict15      bool // and refuses to be asked about IPMI 2.0
	Plain15       bool // and wants no packet proved but the first
}

// BMC is one controller and its machine. The fields may be read and set between calls.
type BMC struct {
	User, Password string
	Faults         Faults
	Hardware       Hardware
	Rand           func([]byte)

	On      bool
	Actions []byte  // chassis control actions, in order
	Boot    [5]byte // boot flags
	Typed   []byte  // what reached the machine over the serial line
	Breaks  int
	Opened  int // sessions that were opened
	Asked   int // RAKP 1 messages that came

	sessions map[uint32]*session
	ids      uint32
	line     *line
	out      [][]byte
}

type session struct {
	console, id uint32
	auth        types.AuthAlg
	integrity   types.IntegrityAlg
	consoleRand [16]byte
	bmcRand     [16]byte
	role        byte
	user        string
	sik, k1, k2 []byte
	open        bool
	old, plain  bool // of IPMI 1.5; without proofs
	inNewest    uint32
	inSeen      map[uint32]bool
	outSeq      uint32
}

// line is the active serial payload: one packet at a time, sent again until acknowledged.
type line struct {
	owner     *session
	encrypt   bool
	after     uint32
	in        byte
	inCount   byte
	inNACK    bool
	out       byte
	pending   []byte
	suspended bool
	at        time.Time
	feed      []byte
}

const (
	lineRetry = 100 * time.Millisecond
	lineMost  = 60 // characters of a packet
)

var guid = [16]byte{0xa1, 0x23, 0x45, 0x67, 0x89}

// Output returns the packets to send to the console, in order, and forgets them.
func (b *BMC) Output() [][]byte {
	out := b.out
	b.out = nil
	return out
}

// Restart forgets all sessions and the serial line, as a BMC that was reset does.
func (b *BMC) Restart() { b.sessions, b.line = nil, nil }

// Feed lets the machine write to its serial line.
func (b *BMC) Feed(now time.Time, p []byte) {
	if b.line != nil {
		b.line.feed = append(b.line.feed, p...)
		b.Tick(now)
	}
}

// LineIdle says that all that was fed has been acknowledged.
func (b *BMC) LineIdle() bool { return b.line == nil || b.line.pending == nil && len(b.line.feed) == 0 }

// HasLine says whether a console has the serial line.
func (b *BMC) HasLine() bool { return b.line != nil }

// StealLine gives the serial line to another console and tells nobody.
func (b *BMC) StealLine() { b.line = nil }

// EndLine ends serial over LAN from this side, as a BMC does when another console takes it.
func (b *BMC) EndLine() {
	if l := b.line; l != nil {
		b.line = nil
		b.sendSerial(l, &types.SOLPayloadPacket{ControlByte: 0x10})
	}
}

// Tick sends serial packets that are due.
func (b *BMC) Tick(now time.Time) {
	l := b.line
	if l == nil || b.Faults.Mute {
		return
	}
	if l.pending == nil && len(l.feed) > 0 {
		n := min(len(l.feed), lineMost)
		l.pending, l.feed, l.out, l.at = l.feed[:n:n], l.feed[n:], l.out%15+1, now
	}
	if l.pending != nil && !l.suspended && !now.Before(l.at) {
		l.at = now.Add(lineRetry)
		b.sendSerial(l, &types.SOLPayloadPacket{SequenceNumber: l.out, CharacterData: l.pending})
	}
}

// Input takes a packet of the console.
func (b *BMC) Input(now time.Time, pkt []byte) {
	if b.Faults.Mute || b.Hardware.gone || b.old(now, pkt) || b.Faults.Only15 {
		return
	}
	id, seq, kind, flags, payload, ok := protocol.ParseRMCPPlusHeader(pkt)
	if !ok || pkt[4] != 0x06 {
		return
	}
	switch kind {
	case 0x10:
		b.openSession(payload)
	case 0x12:
		b.rakp1(payload)
	case 0x14:
		b.rakp3(payload)
	case 0x00, 0x01:
		s := b.sessions[id]
		if s == nil || !s.open || flags&0x40 == 0 || !s.fresh(seq) {
			return
		}
		n, _ := crypto.IntegrityAuthCodeLen(s.integrity)
		if len(pkt) < 16+len(payload)+2+n {
			return
		}
		sum, err := crypto.SessionIntegrityAuthCode(s.integrity, pkt[4:len(pkt)-n], s.k1, "")
		if err != nil || !crypto.Equal(sum, pkt[len(pkt)-n:]) {
			return
		}
		if flags&0x80 != 0 {
			if payload, err = crypto.DecryptAESPayload(payload, s.k2); err != nil {
				return
			}
		}
		s.take(seq)
		if kind == 0 {
			b.command(now, s, payload)
		} else {
			b.serial(now, s, seq, payload)
		}
	}
}

// fresh is the window of §6.12.13: 16 back, 15 ahead, nothing twice.
func (s *session) fresh(seq uint32) bool {
	d := int64(seq) - int64(s.inNewest)
	return seq != 0 && d >= -16 && d <= 15 && !s.inSeen[seq]
}

func (s *session) take(seq uint32) {
	s.inSeen[seq] = true
	s.inNewest = max(s.inNewest, seq)
}

func (b *BMC) setup(kind byte, m []byte) {
	b.out = append(b.out, protocol.BuildRMCPPlusPacket(kind, 0, 0, 0, m))
}

func status(m []byte, code byte, console uint32) []byte {
	return binary.LittleEndian.AppendUint32([]byte{m[0], code, 0, 0}, console)
}

func (b *BMC) openSession(m []byte) {
	if len(m) < 32 {
		return
	}
	console := binary.LittleEndian.Uint32(m[4:])
	fail := func(code byte) { b.setup(0x11, status(m, code, console)) }
	if b.Faults.Full > 0 {
		b.Faults.Full--
		fail(0x01)
		return
	}
	auth, integrity := types.AuthAlg(m[12]), types.IntegrityAlg(m[20])
	switch {
	case auth == types.AuthAlg_HMAC_SHA256 && integrity == types.IntegrityAlg_HMAC_SHA256_128 && !b.Faults.Refuse17:
	case auth == types.AuthAlg_HMAC_SHA1 && integrity == types.IntegrityAlg_HMAC_SHA1_96 && !b.Faults.Refuse3:
	default:
		fail(0x11)
		return
	}
	if b.sessions == nil {
		b.sessions = map[uint32]*session{}
	}
	b.ids++
	s := &session{console: console, id: 0x5e550000 | b.ids, auth: auth, integrity: integrity, inSeen: map[uint32]bool{}}
	b.sessions[s.id] = s
	r := status(m, 0, console)
	r[2] = m[1]
	r = binary.LittleEndian.AppendUint32(r, s.id)
	b.setup(0x11, append(r, m[8:32]...))
}

func (b *BMC) rakp1(m []byte) {
	if len(m) < 28 || len(m) < 28+int(m[27]) {
		return
	}
	b.Asked++
	s := b.sessions[binary.LittleEndian.Uint32(m[4:])]
	if s == nil || s.open {
		b.setup(0x13, status(m, 0x02, 0))
		return
	}
	copy(s.consoleRand[:], m[8:])
	s.role, s.user = m[24], string(m[28:28+int(m[27])])
	b.Rand(s.bmcRand[:])
	password := b.Password
	switch {
	case b.Faults.RAKP2 != 0:
		b.setup(0x13, status(m, b.Faults.RAKP2, s.console))
		return
	case s.user != b.User && b.Faults.HideUsers:
		password = "nobody knows"
	case s.user != b.User:
		b.setup(0x13, status(m, 0x0d, s.console))
		return
	case b.Faults.OperatorOnly && s.role&0x0f > 3:
		b.setup(0x13, status(m, 0x0a, s.console))
		return
	}
	code, _ := crypto.RAKP2AuthCode(s.auth, s.console, s.id, s.consoleRand[:], s.bmcRand[:], guid[:], s.role, s.user, crypto.PadPassword20([]byte(password)))
	r := append(status(m, 0, s.console), s.bmcRand[:]...)
	r = append(r, guid[:]...)
	b.setup(0x13, append(r, code...))
}

func (b *BMC) rakp3(m []byte) {
	if len(m) < 8 {
		return
	}
	s := b.sessions[binary.LittleEndian.Uint32(m[4:])]
	switch {
	case s == nil || s.open: // a repetition of what was taken is not answered: some BMCs are like that
		return
	case m[1] != 0:
		delete(b.sessions, s.id)
		return
	}
	key := crypto.PadPassword20([]byte(b.Password))
	want, _ := crypto.RAKP3AuthCode(s.auth, s.bmcRand[:], s.console, s.role, s.user, key)
	if !crypto.Equal(want, m[8:]) {
		delete(b.sessions, s.id)
		b.setup(0x15, status(m, 0x0f, s.console))
		return
	}
	if b.Faults.RAKP4 != 0 {
		delete(b.sessions, s.id)
		b.setup(0x15, status(m, b.Faults.RAKP4, s.console))
		return
	}
	if b.Faults.HasKG {
		key = crypto.PadPassword20([]byte("K_G"))
	}
	s.sik, s.k1, s.k2, _ = crypto.DeriveSessionKeys(s.auth, s.consoleRand[:], s.bmcRand[:], s.role, s.user, key)
	s.open = true
	b.Opened++
	icv, _ := crypto.RAKP4ICV(s.auth, s.consoleRand[:], s.id, guid[:], s.sik)
	b.setup(0x15, append(status(m, 0, s.console), icv...))
}

func (b *BMC) send(s *session, kind byte, encrypt bool, payload []byte) {
	if s.old {
		b.sayOld(s, s.id, payload)
		return
	}
	flags := byte(0x40)
	if encrypt {
		var iv [16]byte
		b.Rand(iv[:])
		payload, _ = crypto.EncryptAESPayload(payload, s.k2, iv[:])
		flags |= 0x80
	}
	s.outSeq++
	pkt := protocol.BuildRMCPPlusPacket(kind, flags, s.console, s.outSeq, payload)
	n := types.IntegrityPadLen(12, len(payload))
	for range n {
		pkt = append(pkt, 0xff)
	}
	pkt = append(pkt, byte(n), 0x07)
	sum, _ := crypto.SessionIntegrityAuthCode(s.integrity, pkt[4:], s.k1, "")
	b.out = append(b.out, append(pkt, sum...))
}

func (b *BMC) command(now time.Time, s *session, m []byte) {
	netFn, cmd, data, number, ok := protocol.ParseIPMIRequest(m)
	if !ok {
		return
	}
	code, answer := byte(0xc1), []byte(nil)
	if b.Faults.Busy > 0 {
		b.Faults.Busy--
		code = 0xc0
	} else {
		code, answer = b.run(s, netFn, cmd, data)
	}
	b.send(s, 0, true, protocol.BuildIPMIResponse(netFn, cmd, number, code, answer))
	if netFn == 6 && cmd == 0x3c {
		delete(b.sessions, s.id)
		if b.line != nil && b.line.owner == s {
			b.line = nil
		}
	}
}

func (b *BMC) run(s *session, netFn, cmd byte, data []byte) (code byte, answer []byte) {
	if code, answer, ok := b.Hardware.run(netFn, cmd, data); ok {
		return code, answer
	}
	switch {
	case netFn == 6 && cmd == 0x01:
		return 0, []byte{0x20, 1, 2, 3, 0x51, 0, 0, 0, 0, 0, 0}
	case netFn == 6 && cmd == 0x3b && len(data) == 1:
		if b.Faults.OperatorOnly && data[0] > 3 {
			return 0x81, nil
		}
		return 0, data
	case netFn == 6 && cmd == 0x3c:
		return 0, nil
	case netFn == 6 && cmd == 0x48 && s.old:
		return 0xc1, nil
	case netFn == 6 && cmd == 0x48 && len(data) == 6:
		return b.activate(s, data[2]&0x80 != 0)
	case netFn == 6 && cmd == 0x4b && len(data) == 2 && !b.Faults.NoOwner:
		var id uint32
		if b.line != nil {
			id = b.line.owner.id
		}
		return 0, append(binary.LittleEndian.AppendUint32(nil, id), make([]byte, 8)...)
	case netFn == 6 && cmd == 0x49:
		b.Faults.SerialTaken = false
		b.EndLine()
		return 0, nil
	case netFn == 0 && cmd == 0x01:
		on := byte(0)
		if b.On {
			on = 1
		}
		return 0, []byte{on, 0, 0}
	case netFn == 0 && cmd == 0x02 && len(data) == 1:
		b.Actions = append(b.Actions, data[0])
		if data[0] == 2 && !b.On {
			return 0xd5, nil
		}
		b.On = data[0] != 0 && data[0] != 5
		return 0, nil
	case netFn == 0 && cmd == 0x08 && len(data) == 6 && data[0] == 5:
		copy(b.Boot[:], data[1:])
		return 0, nil
	case netFn == 0 && cmd == 0x08:
		return 0x80, nil
	case netFn == 0 && cmd == 0x09:
		return 0, append([]byte{1, 5}, b.Boot[:]...)
	}
	return 0xc1, nil
}

func (b *BMC) activate(s *session, encrypt bool) (byte, []byte) {
	switch {
	case b.line != nil || b.Faults.SerialTaken:
		return 0x80, nil
	case encrypt && b.Faults.NoEncryptLine:
		return 0x83, nil
	}
	b.line = &line{owner: s, encrypt: encrypt}
	return 0, []byte{0, 0, 0, 0, 104, 0, 255, 0, 0x6f, 0x02, 0xff, 0xff}
}

func (b *BMC) sendSerial(l *line, p *types.SOLPayloadPacket) {
	p.AckedSequenceNumber, p.AcceptedCharacterCount, p.NACK = l.in, l.inCount, l.inNACK
	b.send(l.owner, 1, l.encrypt, p.Pack())
}

func (b *BMC) serial(now time.Time, s *session, seq uint32, m []byte) {
	l := b.line
	var in types.SOLPayloadPacket
	if l == nil || l.owner != s || seq < l.after || in.Unpack(m) != nil {
		return
	}
	l.after = seq // what comes late is a repetition
	if in.AckedSequenceNumber != 0 && l.pending != nil && in.AckedSequenceNumber == l.out {
		switch n := int(in.AcceptedCharacterCount); {
		case in.NACK && n == 0:
			l.suspended = true
		case n == 0:
			l.suspended, l.at = false, now
		case n >= len(l.pending):
			l.pending, l.suspended = nil, false
		default:
			l.pending, l.out, l.suspended, l.at = l.pending[n:], l.out%15+1, false, now
		}
	}
	if in.SequenceNumber != 0 {
		if in.SequenceNumber != l.in {
			b.typed(l, &in)
		}
		b.sendSerial(l, &types.SOLPayloadPacket{})
	}
	b.Tick(now)
}

func (b *BMC) typed(l *line, in *types.SOLPayloadPacket) {
	l.in, l.inNACK = in.SequenceNumber, false
	if b.Faults.Refuse > 0 {
		b.Faults.Refuse--
		l.inCount, l.inNACK = 0, true
		return
	}
	if in.ControlByte&0x10 != 0 {
		b.Breaks++
	}
	take := in.CharacterData
	if b.Faults.Partial > 0 && len(take) > b.Faults.Partial {
		take = take[:b.Faults.Partial]
	}
	b.Typed = append(b.Typed, take...)
	l.inCount = byte(len(take))
}
