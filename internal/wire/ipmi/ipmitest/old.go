package ipmitest

import (
	"bytes"
	"encoding/binary"
	"time"

	"github.com/bougou/go-ipmi/pkg/crypto"
	"github.com/bougou/go-ipmi/pkg/protocol"
	"github.com/bougou/go-ipmi/pkg/types"
)

// old takes a packet of IPMI 1.5 and says whether it was one.
func (b *BMC) old(now time.Time, pkt []byte) bool {
	if len(pkt) < 14 || pkt[3] != 0x07 || pkt[4] != 0 && pkt[4] != 2 {
		return false
	}
	seq, id, body := binary.LittleEndian.Uint32(pkt[5:]), binary.LittleEndian.Uint32(pkt[9:]), pkt[13:]
	var code []byte
	if pkt[4] == 2 {
		if len(pkt) < 30 {
			return true
		}
		code, body = body[:16], body[16:]
	}
	if len(body) < 1+int(body[0]) {
		return true
	}
	m := body[1 : 1+int(body[0])]
	netFn, cmd, data, number, ok := protocol.ParseIPMIRequest(m)
	if !ok {
		return true
	}
	proved := code != nil && crypto.VerifyMultiSessionAuthCode(types.AuthTypeMD5, []byte(b.Password), id, seq, m, code)
	switch {
	case netFn == 6 && cmd == 0x38:
		b.capabilities(number, data)
	case !b.Faults.Only15:
	case netFn == 6 && cmd == 0x39 && id == 0 && len(data) == 17:
		b.challenge(number, data)
	case netFn == 6 && cmd == 0x3a && len(data) == 22 && proved:
		b.activateOld(number, id, data)
	default:
		s := b.sessions[id]
		if s == nil || !s.open || s.plain != (code == nil) || !s.plain && !proved || !s.fresh(seq) {
			return true
		}
		s.take(seq)
		b.command(now, s, m)
	}
	return true
}

// sayOld wraps an answer: proved under a session, else bare.
func (b *BMC) sayOld(s *session, id uint32, m []byte) {
	p := []byte{6, 0, 0xff, 7, 0}
	seq := uint32(0)
	if s != nil {
		s.outSeq++
		seq = s.outSeq
	}
	proved := s != nil && !s.plain
	if proved {
		p[4] = 2
	}
	p = binary.LittleEndian.AppendUint32(p, seq)
	p = binary.LittleEndian.AppendUint32(p, id)
	if proved {
		p = append(p, crypto.AuthCodeMultiSession(types.AuthTypeMD5, []byte(b.Password), id, seq, m)...)
	}
	b.out = append(b.out, append(append(p, byte(len(m))), m...))
}

// answerOld is an answer outside of a session, from and to the addresses of §13.8.
func (b *BMC) answerOld(cmd, number, code byte, data []byte) {
	b.sayOld(nil, 0, messageOld(cmd, number, code, data))
}

func messageOld(cmd, number, code byte, data []byte) []byte {
	r := protocol.BuildIPMIResponse(6, cmd, number, code, data)
	r[0], r[3] = 0x81, 0x20
	r[2], r[len(r)-1] = protocol.Checksum(r[:2]), protocol.Checksum(r[3:len(r)-1])
	return r
}

// capabilities answers Get Channel Authentication Capabilities (§13.13, §22.13): IPMI 2.0, or nothing newer than 1.5.
func (b *BMC) capabilities(number byte, data []byte) {
	switch {
	case !b.Faults.Only15:
		b.answerOld(0x38, number, 0, []byte{1, 0x80, 0x04, 0x02, 0, 0, 0, 0})
	case b.Faults.Strict15 && len(data) > 0 && data[0]&0x80 != 0:
		b.answerOld(0x38, number, 0xcc, nil)
	default:
		b.answerOld(0x38, number, 0, []byte{1, 0x16, 0x04, 0, 0, 0, 0, 0})
	}
}

func (b *BMC) challenge(number byte, data []byte) {
	if name := string(bytes.TrimRight(data[1:], "\x00")); name != b.User {
		b.answerOld(0x39, number, 0x81, nil)
		return
	}
	if b.sessions == nil {
		b.sessions = map[uint32]*session{}
	}
	b.ids++
	s := &session{id: 0x15000000 | b.ids, inSeen: map[uint32]bool{}, old: true, plain: b.Faults.Plain15}
	b.Rand(s.bmcRand[:])
	b.sessions[s.id] = s
	b.answerOld(0x39, number, 0, append(binary.LittleEndian.AppendUint32(nil, s.id), s.bmcRand[:]...))
}

func (b *BMC) activateOld(number byte, id uint32, data []byte) {
	s := b.sessions[id]
	switch {
	case s == nil || s.open:
		b.answerOld(0x3a, number, 0x85, nil)
	case b.Faults.Full > 0:
		b.Faults.Full--
		b.answerOld(0x3a, number, 0x81, nil)
	case !bytes.Equal(data[2:18], s.bmcRand[:]):
		b.answerOld(0x3a, number, 0xcc, nil)
	default:
		delete(b.sessions, id)
		s.open = true
		b.Opened++
		s.id ^= 0x00a50000 // another id than the temporary one
		s.console = s.id
		b.sessions[s.id] = s
		s.outSeq = binary.LittleEndian.Uint32(data[18:]) - 1
		var first [4]byte
		b.Rand(first[:])
		s.inNewest = binary.LittleEndian.Uint32(first[:])&0x7fffffff | 1
		kind := byte(2)
		if s.plain {
			kind = 0
		}
		r := binary.LittleEndian.AppendUint32([]byte{kind}, s.id)
		r = append(binary.LittleEndian.AppendUint32(r, s.inNewest), 4)
		b.sayOld(s, id, messageOld(0x3a, number, 0, r))
		s.inNewest-- // the first one comes under the number that was told
	}
}
