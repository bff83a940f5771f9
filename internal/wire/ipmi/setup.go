package ipmi

import (
	"crypto/hmac"
	"encoding/binary"
	"time"
)

// setup is a session on its way: Open Session and the RAKP messages (§13.17 to §13.24).
type setup struct {
	exchange
	number    Suite
	privilege Privilege
	step      setupStep
	tag       byte
	packet    []byte // the newest one sent
	sends     int
	at        time.Time // when to send it again, or to start anew when packet is nil
	sik       []byte

	// Of IPMI 1.5; the session id is in console and bmc.
	oldCommand, oldNumber byte
	oldAuth               byte   // of the session's packets
	firstIn, firstOut     uint32 // sequence numbers that each side begins with
	asked                 bool   // the BMC was asked what it offers
	plain                 bool   // and refused to be asked about IPMI 2.0
}

type setupStep int

const (
	stepOpen setupStep = iota
	stepRAKP1
	stepRAKP3
	stepChallenge // of IPMI 1.5, as the next
	stepActivate
)

func (s setupStep) String() string {
	return [...]string{"open session", "RAKP 1", "RAKP 3", "get session challenge", "activate session"}[s]
}

// The answer that each step waits for.
func (s setupStep) answer() payloadType {
	return [...]payloadType{payloadOpenResponse, payloadRAKP2, payloadRAKP4, payloadNone, payloadNone}[s]
}

// sendsBeforeRestart bounds the repetitions of the RAKP messages: a BMC that has taken one and whose answer was lost
// may ignore its repetition, so that only a fresh start helps.
const sendsBeforeRestart = 3

func newSetup(c *Config, suite Suite, privilege Privilege) *setup {
	alg, ok := suite.algorithms()
	if !ok && suite != IPMI15 {
		panic("ipmi: suite was checked by NewPeer")
	}
	s := &setup{number: suite, privilege: privilege}
	s.exchange = exchange{suite: alg, user: c.User, password: c.Password, role: 0x10 | byte(privilege)} // look the user up by name only
	var id [5]byte
	for s.console == 0 {
		c.Rand(id[:])
		s.console, s.tag = binary.LittleEndian.Uint32(id[:]), id[4]
	}
	c.Rand(s.consoleRand[:])
	s.firstIn = binary.LittleEndian.Uint32(s.consoleRand[:]) | 1 // zero is for packets outside of a session
	return s
}

// say makes the message of the next step.
func (s *setup) say(step setupStep, kind payloadType, message []byte) {
	s.step, s.sends = step, 0
	s.tag++
	message[0] = s.tag
	s.packet = setupPacket(kind, message)
}

// open asks for the session (table 13-9).
func (s *setup) open() {
	if s.number == IPMI15 {
		s.openOld()
		return
	}
	m := append([]byte{0, byte(s.privilege), 0, 0}, le32(s.console)...)
	for i, alg := range []byte{s.suite.authentication, s.suite.integrity, s.suite.confidentiality} {
		m = append(m, byte(i), 0, 0, 8, alg, 0, 0, 0)
	}
	s.say(stepOpen, payloadOpenRequest, m)
}

// rakp1 says who we are (table 13-11).
func (s *setup) sendRAKP1() {
	m := append([]byte{0, 0, 0, 0}, le32(s.bmc)...)
	m = append(m, s.consoleRand[:]...)
	m = append(m, s.role, 0, 0, byte(len(s.user)))
	s.say(stepRAKP1, payloadRAKP1, append(m, s.user...))
}

// rakp3 proves it, or says with a status why we go no further (table 13-13).
func (s *setup) sendRAKP3(status Status) {
	m := append([]byte{0, byte(status), 0, 0}, le32(s.bmc)...)
	if status == 0 {
		m = append(m, s.exchange.rakp3()...)
	}
	s.say(stepRAKP3, payloadRAKP3, m)
}

// verdict is what a packet meant for the setup.
type verdict int

const (
	ignored   verdict = iota // not for us, or of an earlier step
	advanced                 // the next message is in packet
	opened                   // the session is open: make the channel
	restarted                // start again from Open Session
	refused                  // error says why
)

// input takes a message of the session setup.
func (s *setup) input(kind payloadType, m []byte) (verdict, *Error) {
	if s.packet == nil || kind != s.step.answer() || len(m) < 2 || m[0] != s.tag {
		return ignored, nil
	}
	if len(m) < 8 && m[1] == 0 || len(m) >= 8 && binary.LittleEndian.Uint32(m[4:]) != s.console {
		return ignored, nil
	}
	if status := Status(m[1]); status != 0 {
		cause := status.cause()
		if cause == 0 {
			return restarted, &Error{Cause: Protocol, Step: s.step.String(), Status: status}
		}
		return refused, &Error{Cause: cause, Step: s.step.String(), Status: status}
	}
	switch s.step {
	case stepOpen:
		return s.inputOpen(m)
	case stepRAKP1:
		return s.inputRAKP2(m)
	}
	if len(m) < 8+s.suite.code || !hmac.Equal(m[8:8+s.suite.code], s.rakp4(s.sik)) {
		// For the BMC the session is open, and stays so for a minute: another start would take another of its few.
		return refused, &Error{Cause: Protocol, Step: "RAKP 4 (the BMC may have a key K_G of its own)"}
	}
	return opened, nil
}

func (s *setup) inputOpen(m []byte) (verdict, *Error) {
	if len(m) < 36 {
		return refused, &Error{Cause: Protocol, Step: s.step.String()}
	}
	if m[16] != s.suite.authentication || m[24] != s.suite.integrity || m[32] != s.suite.confidentiality {
		return refused, &Error{Cause: NoSuite, Step: s.step.String()}
	}
	s.bmc = binary.LittleEndian.Uint32(m[8:])
	s.sendRAKP1()
	return advanced, nil
}

func (s *setup) inputRAKP2(m []byte) (verdict, *Error) {
	size := s.suite.new().Size()
	if len(m) < 40+size {
		return refused, &Error{Cause: Protocol, Step: s.step.String()}
	}
	copy(s.bmcRand[:], m[8:])
	copy(s.guid[:], m[24:])
	if !hmac.Equal(m[40:40+size], s.exchange.rakp2()) {
		s.sendRAKP3(0x0f) // lets the BMC forget the session at once
		return refused, &Error{Cause: WrongPassword, Step: "RAKP 2"}
	}
	s.sik = s.integrityKey()
	s.sendRAKP3(0)
	return advanced, nil
}
