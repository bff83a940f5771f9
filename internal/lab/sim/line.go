package sim

import (
	"encoding/binary"
	"time"

	"github.com/bougou/go-ipmi/pkg/types"

	"muster/internal/lab/board"
)

// line is serial over LAN while a console has it (§15). All that the machine says from then on goes to the console;
// what it said while no console had the line is gone, as the numbers of the lines show.
type line struct {
	owner   *session
	encrypt bool
	link    board.Link
	feed    []byte // said and not sent yet
	next    int64  // the line that follows in feed
	boots   int    // starts of the machine at which next counts
	retry   time.Time
	begin   time.Time // not before: the answer to Activate Payload goes first
}

const (
	lineRetry = 100 * time.Millisecond
	lineRoom  = 4 << 10 // octets that are made before the console has taken those before
)

// payload answers the commands about serial over LAN (§24).
func (b *bmc) payload(now time.Time, s *session, command byte, q []byte) ([]byte, types.CompletionCode) {
	if s.old {
		return nil, types.CodeInvalidCommand
	}
	if n := map[byte]int{0x48: 6, 0x49: 2, 0x4a: 1, 0x4b: 2, 0x4c: 3, 0x4e: 1, 0x4f: 2}[command]; len(q) < n {
		return nil, types.CodeRequestDataLengthInvalid
	}
	switch command {
	case 0x4e: // Get Channel Payload Support: messages, serial, session setup
		return []byte{0x03, 0, 0x3f, 0, 0, 0, 0, 0}, types.CodeOK
	case 0x4f: // Get Channel Payload Version
		return []byte{0x10}, types.CodeOK
	case 0x4c: // Set User Payload Access
		return nil, types.CodeOK
	}
	if q[0]&0x3f != 1 {
		return nil, types.CodeRequestDataFieldInvalid
	}
	switch command {
	case 0x48: // Activate Payload
		switch {
		case b.sol[0]&1 == 0:
			return nil, types.CodeActivatePayloadTypeDisabled
		case b.line != nil:
			return nil, types.CodeActivatePayloadAlreadyActive
		case s.privilege < 2:
			return nil, types.CodeInsufficientPrivilege
		}
		b.line = &line{owner: s, encrypt: q[2]&0x80 != 0, next: b.machine.speech.said(now), boots: b.machine.boots, begin: now.Add(10 * time.Millisecond)}
		b.line.link.Write = b.typed
		r := make([]byte, 4, 12)
		r = binary.LittleEndian.AppendUint16(r, 255)
		r = binary.LittleEndian.AppendUint16(r, 255)
		r = binary.LittleEndian.AppendUint16(r, b.address.Port())
		return binary.LittleEndian.AppendUint16(r, 0xffff), types.CodeOK // no VLAN
	case 0x49: // Deactivate Payload, from any console
		if b.line == nil {
			return nil, types.CodeDeactivatePayloadAlreadyDeactivated
		}
		b.reply(now, b.line.owner, 0x01, b.line.encrypt, b.line.link.Goodbye().Pack())
		b.line = nil
		return nil, types.CodeOK
	case 0x4a: // Get Payload Activation Status
		r := []byte{1, 0, 0}
		if b.line != nil {
			r[1] = 1
		}
		return r, types.CodeOK
	case 0x4b: // Get Payload Instance Info
		r := make([]byte, 12)
		if b.line != nil {
			binary.LittleEndian.PutUint32(r, b.line.owner.id)
		}
		r[4] = 1
		return r, types.CodeOK
	}
	return nil, types.CodeInvalidCommand
}

// typed is what reaches the machine; it says it again, as a terminal does.
func (b *bmc) typed(p []byte) int {
	b.model.counters.typed.Add(int64(len(p)))
	if l := b.line; l != nil && b.machine.on && len(l.feed)+len(p) <= 2*lineRoom {
		l.feed = append(l.feed, p...)
	}
	return len(p)
}

// serial takes a packet of the console.
func (b *bmc) serial(now time.Time, s *session, m []byte) {
	l := b.line
	var in types.SOLPayloadPacket
	if l == nil || l.owner != s || in.Unpack(m) != nil {
		return
	}
	if out := l.link.Receive(&in); out != nil {
		b.sendSerial(now, out)
	}
	b.speak(now)
}

func (b *bmc) sendSerial(now time.Time, p *types.SOLPayloadPacket) {
	if p.SequenceNumber != 0 {
		b.line.retry = now.Add(lineRetry)
	}
	b.reply(now, b.line.owner, 0x01, b.line.encrypt, p.Pack())
}

// speak sends what is due on the line.
func (b *bmc) speak(now time.Time) {
	l := b.line
	if l == nil || now.Before(l.begin) {
		return
	}
	if now.Sub(l.owner.seen) > silence {
		b.end(l.owner)
		return
	}
	if b.machine.on {
		b.hear(l, b.machine.speech.said(now))
	}
	switch {
	case l.link.Busy() && !now.Before(l.retry):
		if p := l.link.Again(); p != nil {
			b.sendSerial(now, p)
		} else {
			l.retry = now.Add(lineRetry)
		}
	case !l.link.Busy() && len(l.feed) > 0:
		n := min(len(l.feed), board.MaxCharacters)
		b.model.counters.spoken.Add(int64(n))
		p := l.link.Transmit(l.feed[:n:n])
		if l.feed = l.feed[n:]; len(l.feed) == 0 {
			l.feed = nil
		}
		b.sendSerial(now, p)
	}
}

// hear takes lines that were said into the feed while there is room. The others wait as numbers and cost nothing: the
// machine seems to wait for its console.
func (b *bmc) hear(l *line, said int64) {
	l.follow(&b.machine)
	for ; l.next < said && len(l.feed)+lineLength <= lineRoom; l.next++ {
		l.feed = appendLine(l.feed, b.machine.name, l.next)
	}
}

// follow begins at the first line again when the machine has.
func (l *line) follow(m *machine) {
	if l.boots != m.boots {
		l.boots, l.next = m.boots, 0
	}
}

// due is when [bmc.speak] has something to do.
func (l *line) due(b *bmc) time.Time {
	l.follow(&b.machine)
	switch {
	case l.link.Busy():
		return l.retry
	case len(l.feed) > 0:
		return l.begin
	case !b.machine.on:
		return l.owner.seen.Add(silence + time.Second)
	}
	at := b.machine.speech.due(l.next)
	if end := l.owner.seen.Add(silence + time.Second); at.IsZero() || end.Before(at) {
		at = end
	}
	if at.Before(l.begin) {
		at = l.begin
	}
	return at
}
