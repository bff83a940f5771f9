package lab

import (
	"encoding/binary"
	"net"

	"github.com/bougou/go-ipmi/pkg/bmc"
	"github.com/bougou/go-ipmi/pkg/crypto"
	"github.com/bougou/go-ipmi/pkg/protocol"
	"github.com/bougou/go-ipmi/pkg/types"
)

// The RMCP+ packet (IPMI 2.0 table 13-8): RMCP header, session header, payload, then for an authenticated session
// padding, its length, next header and the authentication code over all from the session header on.
const (
	sessionStart = 4
	payloadStart = 16
	nextHeader   = 0x07
)

// solPacketOf says whether a packet is serial over LAN inside a session, and of which.
func solPacketOf(wire []byte) (session uint32, ok bool) {
	if len(wire) < payloadStart || wire[3]&0x1f != 0x07 || wire[4] != 0x06 { // class IPMI, format RMCP+
		return 0, false
	}
	id, _, kind, _, _, ok := protocol.ParseRMCPPlusHeader(wire)
	return id, ok && id != 0 && kind == uint8(types.PayloadTypeSOL)
}

// open verifies, decrypts and parses a packet of the session. False: it is not to be answered.
func (s *sol) open(a *solSession, p solPacket) (*types.SOLPayloadPacket, bool) {
	session := a.session
	_, sequence, _, flags, payload, ok := protocol.ParseRMCPPlusHeader(p.wire)
	if !ok || !authentic(p.wire, len(payload), session, flags) {
		return nil, false
	}
	session.ProcMu.Lock() // shared with the commands of the session, which go-ipmi handles
	ok = bmc.InboundSeqValid(session.InboundSeq, sequence)
	if ok {
		session.InboundSeq = max(sequence, session.InboundSeq)
		session.SetAddr(p.from)
	}
	session.ProcMu.Unlock()
	if !ok {
		return nil, false
	}
	s.bmc.Sessions.Touch(session.BMCID)
	if flags&types.PayloadFlagEncrypted != 0 {
		var err error
		if len(session.K2) < 16 {
			return nil, false
		}
		if payload, err = crypto.DecryptAESPayload(payload, session.K2); err != nil {
			return nil, false
		}
	}
	in := new(types.SOLPayloadPacket)
	if in.Unpack(payload) != nil {
		return nil, false
	}
	return in, true
}

// send encrypts and authenticates as the session does. A packet that cannot be sent is a lost packet.
func (s *sol) send(a *solSession, to net.Addr, p *types.SOLPayloadPacket) {
	a.mu.Lock()
	encrypt := a.encrypt
	a.mu.Unlock()
	session, payload, flags := a.session, p.Pack(), uint8(0)
	if encrypt {
		sealed, err := crypto.EncryptAESPayload(payload, session.K2, crypto.RandomBytes(16))
		if err != nil {
			return
		}
		payload, flags = sealed, types.PayloadFlagEncrypted
	}
	length, ok := crypto.IntegrityAuthCodeLen(session.IntegrityAlg)
	if !ok {
		return
	}
	if length > 0 {
		flags |= types.PayloadFlagAuthenticated
	}
	wire := protocol.BuildRMCPPlusPacket(uint8(types.PayloadTypeSOL), flags, session.ConsoleID, session.NextOutboundSeq(), payload)
	if length > 0 {
		pad := types.IntegrityPadLen(payloadStart-sessionStart, len(payload))
		for range pad {
			wire = append(wire, 0xff)
		}
		wire = append(wire, byte(pad), nextHeader)
		code, err := crypto.SessionIntegrityAuthCode(session.IntegrityAlg, wire[sessionStart:], session.K1, "")
		if err != nil || len(code) != length {
			return
		}
		wire = append(wire, code...)
	}
	_, _ = s.WriteTo(wire, to)
}

// authentic verifies the authentication code of a packet whose payload has n bytes.
func authentic(wire []byte, n int, session *bmc.Session, flags uint8) bool {
	length, ok := crypto.IntegrityAuthCodeLen(session.IntegrityAlg)
	if !ok {
		return false
	}
	if length == 0 {
		return true
	}
	pad := types.IntegrityPadLen(payloadStart-sessionStart, n)
	signed := payloadStart + n + pad + 2
	if flags&types.PayloadFlagAuthenticated == 0 || len(wire) != signed+length ||
		int(binary.LittleEndian.Uint16(wire[payloadStart-2:])) != n || int(wire[signed-2]) != pad || wire[signed-1] != nextHeader {
		return false
	}
	code, err := crypto.SessionIntegrityAuthCode(session.IntegrityAlg, wire[sessionStart:signed], session.K1, "")
	return err == nil && crypto.Equal(code, wire[signed:])
}
