package sim

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"time"

	"github.com/bougou/go-ipmi/pkg/crypto"
	"github.com/bougou/go-ipmi/pkg/protocol"
	"github.com/bougou/go-ipmi/pkg/types"
)

// session is a console that logs in or has logged in, over RMCP+ (IPMI 2.0) or IPMI 1.5.
type session struct {
	id, console uint32
	from        netip.AddrPort
	seen        time.Time // when it last said something
	open        bool
	user        user
	most        byte // privilege that it may ask for
	privilege   byte // that it has now
	in          window
	out         uint32

	// RMCP+
	auth        types.AuthAlg
	integrity   types.IntegrityAlg
	crypt       types.CryptAlg
	consoleRand [16]byte
	bmcRand     [16]byte
	role        byte
	sik, k1, k2 []byte

	// IPMI 1.5
	old       bool
	kind      types.AuthType
	challenge [16]byte
}

const (
	maxSessions = 8
	silence     = time.Minute // after which a session ends (§6.12.15)
	unfinished  = 15 * time.Second
)

// window is the newest sequence number and, bit i, whether newest-i was seen (§6.12.13).
type window struct {
	newest uint32
	seen   uint64
}

// fresh says that a number may come now: not seen, at most 32 back, and not far ahead.
func (w *window) fresh(n uint32) bool {
	d := int32(n - w.newest)
	return n != 0 && (w.seen == 0 || d > 0 && d <= 64 || d <= 0 && d > -32 && w.seen>>uint(-d)&1 == 0)
}

func (w *window) take(n uint32) {
	d := int32(n - w.newest)
	switch {
	case w.seen == 0 || d >= 64:
		w.newest, w.seen = n, 1
	case d > 0:
		w.newest, w.seen = n, w.seen<<uint(d)|1
	default:
		w.seen |= 1 << uint(-d)
	}
}

// find returns the session of an id, nil for none.
func (b *bmc) find(id uint32) *session {
	for _, s := range b.sessions {
		if s.id == id {
			return s
		}
	}
	return nil
}

// end forgets a session, and with it its serial line.
func (b *bmc) end(s *session) {
	b.sessions = slices.DeleteFunc(b.sessions, func(x *session) bool { return x == s })
	if b.line != nil && b.line.owner == s {
		b.line = nil
	}
}

// begin makes room for a session. nil: all are taken.
func (b *bmc) begin(now time.Time, from netip.AddrPort) *session {
	for _, s := range slices.Clone(b.sessions) {
		if age := now.Sub(s.seen); age > silence || !s.open && age > unfinished {
			b.end(s)
		}
	}
	if len(b.sessions) == maxSessions {
		i := slices.IndexFunc(b.sessions, func(s *session) bool { return !s.open })
		if i < 0 {
			return nil
		}
		b.end(b.sessions[i])
	}
	s := &session{from: from, seen: now}
	for s.id == 0 || b.find(s.id) != nil {
		s.id = uint32(b.random.Uint64())
	}
	b.sessions = append(b.sessions, s)
	return s
}

// rmcp takes a datagram apart by its class (§13.1.3).
func (b *bmc) rmcp(now time.Time, from netip.AddrPort, data []byte) {
	if len(data) < 5 || data[0] != 0x06 {
		return
	}
	switch {
	case data[3] == 0x06 && len(data) >= 12 && data[8] == 0x80: // presence ping
		b.send(now, from, protocol.BuildASFPresencePong(data[9]))
	case data[3] == 0x07 && data[4] == 0x06:
		if !b.model.only15 {
			b.rmcpPlus(now, from, data)
		}
	case data[3] == 0x07:
		b.version15(now, from, data)
	}
}

func (b *bmc) rmcpPlus(now time.Time, from netip.AddrPort, data []byte) {
	id, seq, kind, flags, payload, ok := protocol.ParseRMCPPlusHeader(data)
	if !ok {
		return
	}
	setup := func(kind byte, m []byte) {
		if m != nil {
			b.send(now, from, protocol.BuildRMCPPlusPacket(kind, 0, 0, 0, m))
		}
	}
	switch {
	case kind == 0x10:
		setup(0x11, b.openSession(now, from, payload))
	case kind == 0x12:
		setup(0x13, b.rakp1(payload))
	case kind == 0x14:
		setup(0x15, b.rakp3(now, from, payload))
	case kind == 0x00 && id == 0:
		if m := b.message(now, nil, payload); m != nil {
			setup(0x00, m)
		}
	case kind <= 0x01:
		s := b.find(id)
		if s == nil || !s.open || s.old {
			return
		}
		clear, ok := s.unseal(data, payload, flags, seq)
		if !ok {
			return
		}
		s.in.take(seq)
		s.from, s.seen = from, now
		if kind == 0x01 {
			b.serial(now, s, clear)
			return
		}
		if m := b.message(now, s, clear); m != nil {
			b.reply(now, s, 0x00, s.crypt != types.CryptAlg_None, m)
		}
	}
}

// unseal proves and decrypts a packet of the session.
func (s *session) unseal(data, payload []byte, flags byte, seq uint32) ([]byte, bool) {
	n, ok := crypto.IntegrityAuthCodeLen(s.integrity)
	end := 16 + len(payload)
	signed := end + types.IntegrityPadLen(12, len(payload)) + 2
	if !ok || flags&0x40 == 0 || len(data) != signed+n || !s.in.fresh(seq) {
		return nil, false
	}
	sum, err := crypto.SessionIntegrityAuthCode(s.integrity, data[4:signed], s.k1, "")
	if err != nil || !crypto.Equal(sum, data[signed:]) {
		return nil, false
	}
	if flags&0x80 == 0 {
		return payload, true
	}
	clear, err := crypto.DecryptAESPayload(payload, s.k2)
	return clear, err == nil
}

// reply seals a payload for the console of the session.
func (b *bmc) reply(now time.Time, s *session, kind byte, encrypt bool, payload []byte) {
	if s.old {
		b.reply15(now, s, payload)
		return
	}
	flags := byte(0x40)
	if encrypt {
		var iv [16]byte
		b.fill(iv[:])
		sealed, err := crypto.EncryptAESPayload(payload, s.k2, iv[:])
		if err != nil {
			return
		}
		payload, flags = sealed, flags|0x80
	}
	if s.out++; s.out == 0 {
		s.out = 1
	}
	data := protocol.BuildRMCPPlusPacket(kind, flags, s.console, s.out, payload)
	n := types.IntegrityPadLen(12, len(payload))
	for range n {
		data = append(data, 0xff)
	}
	data = append(data, byte(n), 0x07)
	sum, err := crypto.SessionIntegrityAuthCode(s.integrity, data[4:], s.k1, "")
	if err != nil {
		return
	}
	b.send(now, s.from, append(data, sum...))
}

// status begins an answer of the session setup (table 13-10): tag, status, privilege, reserved, session of the console.
func status(m []byte, code byte, console uint32) []byte {
	return binary.LittleEndian.AppendUint32([]byte{m[0], code, 0, 0}, console)
}

// Statuses of table 13-15.
const (
	statusResources    = 0x01
	statusSession      = 0x02
	statusRole         = 0x09
	statusPrivilege    = 0x0a
	statusName         = 0x0d
	statusIntegrity    = 0x0f
	statusNoSuite      = 0x11
	statusIllegalParam = 0x12
)

func (b *bmc) openSession(now time.Time, from netip.AddrPort, m []byte) []byte {
	if len(m) < 32 {
		return nil
	}
	console := binary.LittleEndian.Uint32(m[4:])
	if m[8] != 0 || m[16] != 1 || m[24] != 2 || console == 0 {
		return status(m, statusIllegalParam, console)
	}
	auth, integrity, crypt := types.AuthAlg(m[12]&0x3f), types.IntegrityAlg(m[20]&0x3f), types.CryptAlg(m[28]&0x3f)
	suite3 := auth == types.AuthAlg_HMAC_SHA1 && integrity == types.IntegrityAlg_HMAC_SHA1_96
	suite17 := auth == types.AuthAlg_HMAC_SHA256 && integrity == types.IntegrityAlg_HMAC_SHA256_128
	if !suite3 && !suite17 || crypt != types.CryptAlg_AES_CBC_128 {
		return status(m, statusNoSuite, console)
	}
	s := b.begin(now, from)
	if s == nil {
		return status(m, statusResources, console)
	}
	s.console, s.auth, s.integrity, s.crypt, s.most = console, auth, integrity, crypt, m[1]&0x0f
	if s.most == 0 {
		s.most = 4 // the highest that the proposed suite allows
	}
	r := status(m, 0, console)
	r[2] = s.most
	r = binary.LittleEndian.AppendUint32(r, s.id)
	return append(r, m[8:32]...)
}

func (b *bmc) rakp1(m []byte) []byte {
	if len(m) < 28 || int(m[27]) > 16 || len(m) < 28+int(m[27]) {
		return nil
	}
	s := b.find(binary.LittleEndian.Uint32(m[4:]))
	if s == nil || s.open || s.old {
		return status(m, statusSession, 0)
	}
	again := [16]byte(m[8:24]) == s.consoleRand && s.role == m[24]
	s.consoleRand, s.role = [16]byte(m[8:24]), m[24]
	if !again {
		b.fill(s.bmcRand[:])
	}
	s.user = user{}
	u, ok := b.login(string(m[28 : 28+int(m[27])]))
	role := s.role & 0x0f
	switch {
	case !ok:
		return status(m, statusName, s.console)
	case role == 0 || role > 4:
		return status(m, statusRole, s.console)
	case role > u.access&0x0f:
		return status(m, statusPrivilege, s.console)
	}
	s.user, s.most = u, role
	guid := b.guid()
	code, err := crypto.RAKP2AuthCode(s.auth, s.console, s.id, s.consoleRand[:], s.bmcRand[:], guid[:], s.role, u.name, s.key())
	if err != nil {
		return nil
	}
	r := append(status(m, 0, s.console), s.bmcRand[:]...)
	r = append(r, guid[:]...)
	return append(r, code...)
}

// key is the user's key K_UID, which is also that of the session: the controller has none of its own (K_G).
func (s *session) key() []byte { return crypto.PadPassword20([]byte(s.user.password.Reveal())) }

func (b *bmc) rakp3(now time.Time, from netip.AddrPort, m []byte) []byte {
	if len(m) < 8 {
		return nil
	}
	s := b.find(binary.LittleEndian.Uint32(m[4:]))
	switch {
	case s == nil || s.old || !s.user.enabled: // RAKP 1 has not been, or named nobody
		return status(m, statusSession, 0)
	case m[1] != 0: // the console gives up
		if !s.open {
			b.end(s)
		}
		return nil
	case s.open && s.in.seen != 0: // it has the answer: it has used it
		return nil
	}
	want, err := crypto.RAKP3AuthCode(s.auth, s.bmcRand[:], s.console, s.role, s.user.name, s.key())
	if err != nil || !crypto.Equal(want, m[8:]) {
		if !s.open {
			b.end(s)
		}
		return status(m, statusIntegrity, s.console)
	}
	s.sik, s.k1, s.k2, err = crypto.DeriveSessionKeys(s.auth, s.consoleRand[:], s.bmcRand[:], s.role, s.user.name, s.key())
	if err != nil {
		return nil
	}
	if !s.open {
		b.model.counters.sessions.Add(1)
	}
	s.open, s.from, s.seen = true, from, now
	s.privilege = min(2, s.most) // user, until it asks for more (§22.18)
	guid := b.guid()
	icv, err := crypto.RAKP4ICV(s.auth, s.consoleRand[:], s.id, guid[:], s.sik)
	if err != nil {
		return nil
	}
	return append(status(m, 0, s.console), icv...)
}

// guid is the GUID of the controller as it goes over the wire: the first three fields little-endian (§20.8).
func (b *bmc) guid() [16]byte {
	u := b.machine.uuid()
	return [16]byte{u[3], u[2], u[1], u[0], u[5], u[4], u[7], u[6], u[8], u[9], u[10], u[11], u[12], u[13], u[14], u[15]}
}

// message does the command of an IPMI message and returns the answer, nil for none.
func (b *bmc) message(now time.Time, s *session, m []byte) []byte {
	netFn, command, data, number, ok := protocol.ParseIPMIRequest(m)
	if !ok || netFn&1 != 0 || protocol.Checksum(m[:2]) != m[2] || protocol.Checksum(m[3:len(m)-1]) != m[len(m)-1] {
		return nil
	}
	b.model.counters.commands.Add(1)
	answer, code := b.run(now, s, netFn, command, data)
	r := protocol.BuildIPMIResponse(netFn, command, number, byte(code), answer)
	r[0], r[3], r[4] = m[3], 0x20, m[4] // to the software that asked, with its sequence number and unit
	r[2], r[len(r)-1] = protocol.Checksum(r[:2]), protocol.Checksum(r[3:len(r)-1])
	return r
}
