package sim

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/bougou/go-ipmi/pkg/crypto"
	"github.com/bougou/go-ipmi/pkg/types"
)

// version15 takes a packet of IPMI 1.5 (table 13-8): authentication type, sequence number, session, code where there is
// a type, length, message.
func (b *bmc) version15(now time.Time, from netip.AddrPort, data []byte) {
	if len(data) < 14 {
		return
	}
	kind, seq, id := types.AuthType(data[4]), binary.LittleEndian.Uint32(data[5:]), binary.LittleEndian.Uint32(data[9:])
	rest, code := data[13:], []byte(nil)
	if kind != types.AuthTypeNone {
		if len(rest) < 17 {
			return
		}
		code, rest = rest[:16], rest[16:]
	}
	if int(rest[0]) > len(rest)-1 {
		return
	}
	m := rest[1 : 1+int(rest[0])]
	if id == 0 {
		if r := b.message(now, nil, m); r != nil {
			b.send(now, from, append([]byte{6, 0, 0xff, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, byte(len(r))}, r...))
		}
		return
	}
	s := b.find(id)
	if s == nil || !s.old || kind != s.kind ||
		!crypto.VerifyMultiSessionAuthCode(kind, []byte(s.user.password.Reveal()), id, seq, m, code) || s.open && !s.in.fresh(seq) {
		return
	}
	if s.open {
		s.in.take(seq)
	}
	s.from, s.seen = from, now
	if r := b.message(now, s, m); r != nil {
		b.reply15(now, s, r)
	}
}

func (b *bmc) reply15(now time.Time, s *session, m []byte) {
	seq := uint32(0)
	if s.open {
		seq = s.out
		if s.out++; s.out == 0 {
			s.out = 1
		}
	}
	r := []byte{6, 0, 0xff, 7, byte(s.kind)}
	r = binary.LittleEndian.AppendUint32(r, seq)
	r = binary.LittleEndian.AppendUint32(r, s.id)
	r = append(r, crypto.AuthCodeMultiSession(s.kind, []byte(s.user.password.Reveal()), s.id, seq, m)...)
	b.send(now, s.from, append(append(r, byte(len(m))), m...))
}

// challenge is Get Session Challenge (§22.16).
func (b *bmc) challenge(now time.Time, q []byte) ([]byte, types.CompletionCode) {
	if len(q) < 17 {
		return nil, types.CodeRequestDataLengthInvalid
	}
	kind := types.AuthType(q[0] & 0x0f)
	if kind != types.AuthTypeMD5 && kind != types.AuthTypePassword {
		return nil, types.CodeParameterOutOfRange
	}
	name := q[1:17]
	for len(name) > 0 && name[len(name)-1] == 0 {
		name = name[:len(name)-1]
	}
	u, ok := b.login(string(name))
	if !ok {
		return nil, types.CodeGetSessionChallengeInvalidUserName
	}
	s := b.begin(now, netip.AddrPort{})
	if s == nil {
		return nil, types.CodeNodeBusy
	}
	s.old, s.kind, s.user = true, kind, u
	b.fill(s.challenge[:])
	return append(binary.LittleEndian.AppendUint32(nil, s.id), s.challenge[:]...), types.CodeOK
}

// activate is Activate Session (§22.17).
func (b *bmc) activate(s *session, q []byte) ([]byte, types.CompletionCode) {
	switch {
	case len(q) < 22:
		return nil, types.CodeRequestDataLengthInvalid
	case s == nil || !s.old || s.open || [16]byte(q[2:18]) != s.challenge:
		return nil, types.CodeActivateSessionInvalidSessionID
	case q[1]&0x0f == 0 || q[1]&0x0f > s.user.access&0x0f:
		return nil, types.CodeActivateSessionPrivilegeExceedsLimit
	}
	s.most = q[1] & 0x0f
	s.privilege = min(2, s.most)
	first := uint32(b.random.Uint64()) | 1
	s.in = window{newest: first - 1, seen: 1}
	s.out = binary.LittleEndian.Uint32(q[18:])
	s.open = true
	b.model.counters.sessions.Add(1)
	r := binary.LittleEndian.AppendUint32([]byte{byte(s.kind)}, s.id)
	r = binary.LittleEndian.AppendUint32(r, first)
	return append(r, s.most), types.CodeOK
}
