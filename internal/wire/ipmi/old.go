package ipmi

import (
	"crypto/hmac"
	"crypto/md5" // what the protocol prescribes
	"encoding/binary"
)

// IPMI15 stands in the place of a suite for a session of IPMI 1.5, proved by MD5: for BMCs that have nothing better. Nothing of it is encrypted.
const IPMI15 Suite = -15

// Authentication types of IPMI 1.5 (§13.6).
const (
	authNone = 0x00
	authMD5  = 0x02
)

// oldPacket is one IPMI 1.5 datagram taken apart (§13.6). The slices point into the datagram.
//
//	06 00 ff 07 │ 00 │ nnnnnnnn ssssssss │ ll │ message
//	06 00 ff 07 │ 02 │ nnnnnnnn ssssssss │ md5(16) │ ll │ message
type oldPacket struct {
	authentication    byte
	sequence, session uint32
	code, message     []byte
}

const (
	oldHeader = rmcpSize + 10 // without authentication code
	oldCode   = md5.Size
)

// isOld says that a datagram is of IPMI 1.5.
func isOld(b []byte) bool {
	return len(b) >= oldHeader && b[0] == 0x06 && b[3] == 0x07 && (b[4] == authNone || b[4] == authMD5)
}

func parseOld(b []byte) (p oldPacket, err error) {
	if !isOld(b) {
		return oldPacket{}, errMalformed
	}
	p = oldPacket{authentication: b[4], sequence: binary.LittleEndian.Uint32(b[5:]), session: binary.LittleEndian.Uint32(b[9:])}
	b = b[oldHeader-1:]
	if p.authentication == authMD5 {
		if len(b) < oldCode+1 {
			return oldPacket{}, errMalformed
		}
		p.code, b = b[:oldCode], b[oldCode:]
	}
	if n := int(b[0]); n <= len(b)-1 { // some send an octet more, against what follows in a card's packet filter (table 13-8)
		p.message = b[1 : 1+n]
		return p, nil
	}
	return oldPacket{}, errMalformed
}

// oldAuthCode is the MD5 code of a packet (§22.17.1): password, session, message, sequence, password.
func oldAuthCode(password string, session, sequence uint32, message []byte) []byte {
	key := padded(password, 16)
	h := md5.New()
	h.Write(key)
	h.Write(le32(session))
	h.Write(message)
	h.Write(le32(sequence))
	h.Write(key)
	return h.Sum(nil)
}

// appendOld makes a datagram of a message.
func appendOld(authentication byte, password string, session, sequence uint32, message []byte) []byte {
	b := make([]byte, 0, oldHeader+oldCode+len(message))
	b = append(b, 0x06, 0x00, 0xff, 0x07, authentication)
	b = binary.LittleEndian.AppendUint32(b, sequence)
	b = binary.LittleEndian.AppendUint32(b, session)
	if authentication == authMD5 {
		b = append(b, oldAuthCode(password, session, sequence, message)...)
	}
	return append(append(b, byte(len(message))), message...)
}

// oldSession is an open session of IPMI 1.5.
type oldSession struct {
	authentication byte // of its packets: none, where the BMC wants only the activation proved
	password       string
}

// open proves a packet of the session.
func (c *channel) openOld(p oldPacket) ([]byte, error) {
	if p.authentication != c.old.authentication {
		return nil, errForged
	}
	if p.authentication == authMD5 && !hmac.Equal(p.code, oldAuthCode(c.old.password, p.session, p.sequence, p.message)) {
		return nil, errForged
	}
	if !c.in.take(p.sequence) {
		return nil, errReplay
	}
	return p.message, nil
}

// The requests that open a session (§22.13, §22.16, §22.17).

// capabilities asks what a BMC offers; newer says that the answer shall tell about IPMI 2.0, which some BMCs of 1.5 refuse to be asked.
func capabilities(p Privilege, newer bool) Request {
	channel := byte(presentChannel)
	if newer {
		channel |= 0x80
	}
	return Request{NetFn: netFnApp, Command: 0x38, Data: []byte{channel, byte(p)}}
}

func sessionChallenge(user string) Request {
	return Request{NetFn: netFnApp, Command: 0x39, Data: append([]byte{authMD5}, padded(user, 16)...)}
}

func activateSession(p Privilege, challenge []byte, first uint32) Request {
	d := append([]byte{authMD5, byte(p)}, challenge...)
	return Request{NetFn: netFnApp, Command: 0x3a, Data: binary.LittleEndian.AppendUint32(d, first)}
}

// offers is the answer to capabilities.
type offers struct{ rmcpPlus, md5 bool }

func parseCapabilities(b []byte) (o offers, ok bool) {
	if len(b) < 4 {
		return offers{}, false
	}
	return offers{rmcpPlus: b[1]&0x80 != 0 && b[3]&0x02 != 0, md5: b[1]&0x04 != 0}, true
}

// sayOld makes the message of a step of the setup: outside of a session, or under the temporary id with the proof.
func (s *setup) sayOld(step setupStep, r Request) {
	s.step, s.sends = step, 0
	s.tag++
	s.oldCommand, s.oldNumber = r.Command, s.tag&0x3f
	m := appendMessage(nil, r, s.oldNumber)
	if step == stepActivate {
		s.packet = appendOld(authMD5, s.password, s.console, 0, m)
		return
	}
	s.packet = appendOld(authNone, "", 0, 0, m)
}

// openOld begins the setup of a session of IPMI 1.5.
func (s *setup) openOld() { s.sayOld(stepChallenge, sessionChallenge(s.user)) }

// probe is the question what the BMC offers, to be sent beside an Open Session that nobody has answered.
func (s *setup) probe(newer bool) []byte {
	return appendOld(authNone, "", 0, 0, appendMessage(nil, capabilities(s.privilege, newer), s.tag&0x3f))
}

// Completion codes of Get Session Challenge and Activate Session.
const (
	codeBadUser  Code = 0x81 // of the challenge: no such user; of the activation: no session left
	codeNullUser Code = 0x82 // of the challenge: the null user is off; of the activation: no session left for the user
	codeNoSlot   Code = 0x83 // none left for the privilege
	codeBadLevel Code = 0x86
)

// inputOld takes an answer of the setup.
func (s *setup) inputOld(a answer) (verdict, *Error) {
	if s.packet == nil || a.netFn != netFnApp || a.command != s.oldCommand || a.number != s.oldNumber {
		return ignored, nil
	}
	fail := func(c Cause) (verdict, *Error) { return refused, &Error{Cause: c, Step: s.step.String(), Code: a.code} }
	switch {
	case a.code == CodeOK:
	case a.code == CodeBusy || a.code == CodeInitializing:
		return ignored, nil // it is asked again soon
	case s.step == stepChallenge && (a.code == codeBadUser || a.code == codeNullUser):
		return fail(UnknownUser)
	case s.step == stepActivate && a.code >= codeBadUser && a.code <= codeNoSlot:
		return fail(NoSession)
	case s.step == stepActivate && (a.code == codeBadLevel || a.code == CodePrivilege):
		return fail(NoPrivilege)
	case s.step == stepActivate && a.code == 0x85: // the temporary session has expired
		return restarted, &Error{Cause: Protocol, Step: s.step.String()}
	case s.step == stepActivate:
		return fail(WrongPassword)
	default:
		return fail(Protocol)
	}
	switch s.step {
	case stepChallenge:
		if len(a.data) < 20 {
			return fail(Protocol)
		}
		s.console = binary.LittleEndian.Uint32(a.data)
		s.sayOld(stepActivate, activateSession(s.privilege, a.data[4:20], s.firstIn))
		return advanced, nil
	case stepActivate:
		if len(a.data) < 10 {
			return fail(Protocol)
		}
		s.oldAuth = a.data[0] & 0x0f
		s.console = binary.LittleEndian.Uint32(a.data[1:])
		s.bmc, s.firstOut = s.console, binary.LittleEndian.Uint32(a.data[5:])
		if s.oldAuth != authNone && s.oldAuth != authMD5 {
			return fail(Protocol)
		}
		return opened, nil
	}
	return ignored, nil
}

// newOldChannel makes the session of a setup that has come to its end.
func newOldChannel(s *setup) *channel {
	c := &channel{console: s.console, bmc: s.bmc, suite: IPMI15, old: &oldSession{authentication: s.oldAuth, password: s.password}}
	c.out = s.firstOut - 1
	return c
}
