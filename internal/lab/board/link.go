package board

import "github.com/bougou/go-ipmi/pkg/types"

// MaxCharacters is the character data of one packet: the payload of 255 bytes less the header of 4.
const MaxCharacters = 251

// Bits of the packet's fourth byte (IPMI 2.0 table 15-2): operations to the BMC, status from it.
const (
	controlFlushOut    = 0x01
	ControlBreak       = 0x10
	statusDeactivating = 0x10
)

// Link is the BMC's half of one SOL exchange (§15.9, §15.11): packet in, packet out. One packet with characters is on
// its way at a time; it stays in pending until the client has acknowledged all of it. The zero value with Write set is
// a new link.
type Link struct {
	// Write gives characters to the system and returns how many it took.
	Write func([]byte) int

	out       uint8  // sequence number of pending
	pending   []byte // sent and not acknowledged
	suspended bool   // the client said that it can take nothing now

	in       uint8 // sequence number of the last characters received; 0 before the first
	accepted uint8 // how many of those were taken
	refused  bool  // not all were taken
}

// Busy says that nothing new may be sent.
func (l *Link) Busy() bool { return l.pending != nil }

// Transmit sends characters, at most MaxCharacters. Not when busy.
func (l *Link) Transmit(b []byte) *types.SOLPayloadPacket {
	l.pending = b
	l.out = l.out%15 + 1 // 1 to 15; 0 marks a packet that only acknowledges
	return l.packet()
}

// Again sends the pending characters once more, nil when there are none or the client does not want them now.
func (l *Link) Again() *types.SOLPayloadPacket {
	if l.pending == nil || l.suspended {
		return nil
	}
	return l.packet()
}

// packet is pending characters, if any, with the acknowledgement of what came in.
func (l *Link) packet() *types.SOLPayloadPacket {
	p := &types.SOLPayloadPacket{AckedSequenceNumber: l.in, AcceptedCharacterCount: l.accepted, NACK: l.refused}
	if l.pending != nil && !l.suspended {
		p.SequenceNumber, p.CharacterData = l.out, l.pending
	}
	return p
}

// Goodbye is the last packet: the payload is being deactivated.
func (l *Link) Goodbye() *types.SOLPayloadPacket {
	return &types.SOLPayloadPacket{AckedSequenceNumber: l.in, AcceptedCharacterCount: l.accepted, ControlByte: statusDeactivating}
}

// Receive takes a packet of the client and returns the answer, nil when it wants none.
func (l *Link) Receive(p *types.SOLPayloadPacket) *types.SOLPayloadPacket {
	part := l.acknowledge(p)
	if p.ControlByte&controlFlushOut != 0 {
		l.pending, l.suspended, part = nil, false, false
	}
	if p.SequenceNumber == 0 { // an acknowledgement is not acknowledged (§15.11)
		if part {
			return l.packet()
		}
		return nil
	}
	if p.SequenceNumber != l.in { // else it is a retry: the answer is that of the first time
		n := min(l.Write(p.CharacterData), len(p.CharacterData))
		l.in, l.accepted, l.refused = p.SequenceNumber, uint8(n), n < len(p.CharacterData)
	}
	a := l.packet()
	if !part { // characters on their way are not sent twice for an acknowledgement
		a.SequenceNumber, a.CharacterData = 0, nil
	}
	return a
}

// acknowledge takes the acknowledging half of a packet (table 15-3). True: what is pending now is to be sent at once.
func (l *Link) acknowledge(p *types.SOLPayloadPacket) bool {
	if l.pending == nil || p.AckedSequenceNumber != l.out {
		return false
	}
	n := int(p.AcceptedCharacterCount)
	switch {
	case n >= len(l.pending):
		l.pending, l.suspended = nil, false
	case n > 0: // the rest goes as a new packet: clients take a repeated number for a repeated packet
		l.pending, l.suspended = l.pending[n:], false
		l.out = l.out%15 + 1
		return true
	case p.NACK:
		l.suspended = true
	default: // nothing accepted and no refusal: it asks for the packet again
		l.suspended = false
		return true
	}
	return false
}
