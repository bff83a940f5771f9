package lab

import (
	"context"
	"encoding/binary"
	"net"
	"sync"
	"time"

	"github.com/bougou/go-ipmi/pkg/bmc"
	"github.com/bougou/go-ipmi/pkg/handlers"
	"github.com/bougou/go-ipmi/pkg/types"

	"muster/internal/lab/board"
)

// sol is serial over LAN (IPMI 2.0 §15) of one BMC, and the transport of its server: SOL packets are taken out of the
// stream of packets here and never reach go-ipmi's own SOL, which loses data that is not acknowledged within its retries,
// and polls.
//
// One session has the payload at a time. While it has, its goroutine alone owns the exchange ([board.Link]): events are a
// packet of the client, bytes from the serial port, and the retry timer. Data that the client does not acknowledge is
// sent again until it is, or until the session ends by itself after a minute of silence (§6.12.15); meanwhile the bytes
// wait in the port, and then the guest waits.
type sol struct {
	*net.UDPConn
	bmc     *bmc.BMC
	chassis *chassis

	sessions sync.WaitGroup // their goroutines

	mu     sync.Mutex
	active *solSession // nil: not activated
}

// solSession is one activation.
type solSession struct {
	session *bmc.Session
	reader  *reader
	packets chan solPacket
	stop    chan struct{}

	mu      sync.Mutex
	encrypt bool // of what we send; Suspend/Resume Payload Encryption changes it
}

type solPacket struct {
	from net.Addr
	wire []byte
}

// solQueue is how many packets of a client may wait; more are dropped, and the client sends them again.
const solQueue = 64

func newSOL(b *bmc.BMC, conn *net.UDPConn, c *chassis) *sol {
	return &sol{UDPConn: conn, bmc: b, chassis: c}
}

// ReadFrom returns the next packet that is not serial over LAN.
func (s *sol) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, from, err := s.UDPConn.ReadFrom(b)
		if err != nil {
			return n, from, err
		}
		id, ok := solPacketOf(b[:n])
		if !ok {
			return n, from, nil
		}
		s.mu.Lock()
		a := s.active
		s.mu.Unlock()
		if a == nil || a.session.BMCID != id {
			continue
		}
		select {
		case a.packets <- solPacket{from, append([]byte(nil), b[:n]...)}:
		default:
		}
	}
}

// activate gives the payload to the session of a request. The code is that of Activate Payload (table 24-2).
func (s *sol) activate(session *bmc.Session, encrypt, authenticate bool) types.CompletionCode {
	canEncrypt := session.CryptAlg != types.CryptAlg_None && len(session.K2) >= 16
	canAuthenticate := session.IntegrityAlg != types.IntegrityAlg_None
	enabled, _ := s.bmc.SOL.Config().GetParam(1) // table 26-5
	policy, _ := s.bmc.SOL.Config().GetParam(2)
	switch {
	case enabled[0]&0x01 == 0:
		return types.CodeActivatePayloadTypeDisabled
	case policy[0]&0x80 != 0 && !encrypt:
		return types.CodeActivatePayloadCannotActivateWithoutEncryption
	case session.PrivilegeLevel < bmc.PrivilegeLevelOperator:
		return types.CodeInsufficientPrivilege
	case encrypt && (!canEncrypt || !authenticate):
		return types.CodeActivatePayloadCannotActivateWithEncryption
	case authenticate && !canAuthenticate:
		return types.CodeRequestDataFieldInvalid
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.active != nil {
		return types.CodeActivatePayloadAlreadyActive
	}
	a := &solSession{
		session: session, encrypt: encrypt, reader: s.chassis.serial.attach(),
		packets: make(chan solPacket, solQueue), stop: make(chan struct{}),
	}
	s.active = a
	s.sessions.Go(func() { s.run(a) })
	s.chassis.setSOL(true)
	return types.CodeOK
}

// deactivate takes the payload from whoever has it, and tells that client. False when nobody has it. It does not wait
// for the session's goroutine, which may wait for the lock of the very command that deactivates.
func (s *sol) deactivate(of func(*solSession) bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.active
	if a == nil || !of(a) {
		return false
	}
	s.active = nil
	a.reader.detach()
	close(a.stop)
	s.chassis.setSOL(false)
	return true
}

func (s *sol) sessionEnded(id uint32) {
	s.deactivate(func(a *solSession) bool { return a.session.BMCID == id })
}

// close deactivates and waits.
func (s *sol) close() {
	s.deactivate(func(*solSession) bool { return true })
	s.sessions.Wait()
}

// retryInterval is the time to wait for an acknowledgement. It is long for a client on the same host, and short for the
// case that a packet was lost.
const retryInterval = 100 * time.Millisecond

// run exchanges packets until the payload is deactivated.
func (s *sol) run(a *solSession) {
	// The lock is held until the answer to Activate Payload is on its way. Characters must not overtake it: ipmitool takes
	// them for the answer, and gives up with "Invalid command".
	a.session.ProcMu.Lock()
	//lint:ignore SA2001 waiting for the lock is all that is wanted
	a.session.ProcMu.Unlock()

	l := board.Link{Write: s.chassis.serial.write}
	collect := time.NewTimer(0)
	retry := time.NewTimer(0)
	defer collect.Stop()
	defer retry.Stop()
	collecting := false
	to := a.session.GetAddr()
	send := func(p *types.SOLPayloadPacket) {
		s.send(a, to, p)
		if p.SequenceNumber != 0 {
			retry.Reset(retryInterval)
		}
	}
	more := func() { // sends what waits, unless something is on its way
		if !l.Busy() && a.reader.waiting() > 0 {
			send(l.Transmit(a.reader.take(board.MaxCharacters)))
		}
	}
	for {
		select {
		case <-a.stop:
			s.send(a, to, l.Goodbye())
			return
		case p := <-a.packets:
			in, ok := s.open(a, p)
			if !ok {
				continue
			}
			to = p.from
			if in.ControlByte&board.ControlBreak != 0 {
				s.chassis.sendBreak()
			}
			if out := l.Receive(in); out != nil {
				send(out)
			}
			more()
		case <-a.reader.wake:
			if a.reader.waiting() >= board.MaxCharacters {
				more()
			} else if !collecting {
				collecting = true
				collect.Reset(solCollect)
			}
		case <-collect.C:
			collecting = false
			more()
		case <-retry.C:
			if p := l.Again(); p != nil {
				send(p)
			}
		}
	}
}

// solCollect is how long characters are collected into one packet: shorter than a person notices, and long enough that
// a line of output is not sent byte by byte.
const solCollect = 10 * time.Millisecond

// register puts the payload commands (§24) in place of go-ipmi's.
func (s *sol) register(r *handlers.Registry) {
	type reply = func([]byte) ([]byte, types.CompletionCode)
	handle := func(c types.Command, atLeast int, h func(session *bmc.Session) reply) {
		r.RegisterFunc(c, func(_ context.Context, hc *handlers.HandlerContext, q []byte) ([]byte, types.CompletionCode, error) {
			switch {
			case hc.Session == nil:
				return nil, types.CodeNotSupported, nil
			case len(q) < atLeast:
				return nil, types.CodeRequestDataLengthInvalid, nil
			case q[0]&0x3f != uint8(types.PayloadTypeSOL):
				return nil, types.CodeRequestDataFieldInvalid, nil
			case atLeast > 1 && q[1]&0x0f != 1: // one instance
				return nil, types.CodeParameterOutOfRange, nil
			}
			b, code := h(hc.Session)(q)
			return b, code, nil
		})
	}
	handle(types.CommandActivatePayload, 6, func(session *bmc.Session) reply {
		return func(q []byte) ([]byte, types.CompletionCode) {
			if code := s.activate(session, q[2]&0x80 != 0, q[2]&0x40 != 0); code != types.CodeOK {
				return nil, code
			}
			b := make([]byte, 4, 12)                     // auxiliary data: no test mode
			b = binary.LittleEndian.AppendUint16(b, 255) // payload sizes, header included
			b = binary.LittleEndian.AppendUint16(b, 255)
			b = binary.LittleEndian.AppendUint16(b, rmcpPort)
			return binary.LittleEndian.AppendUint16(b, 0xffff), types.CodeOK // no VLAN
		}
	})
	handle(types.CommandDeactivatePayload, 2, func(session *bmc.Session) reply {
		return func([]byte) ([]byte, types.CompletionCode) {
			// Any session with the right to activate may take the payload from a client that was killed.
			if session.PrivilegeLevel < bmc.PrivilegeLevelOperator {
				return nil, types.CodeInsufficientPrivilege
			}
			if !s.deactivate(func(*solSession) bool { return true }) {
				return nil, types.CodeDeactivatePayloadAlreadyDeactivated
			}
			return nil, types.CodeOK
		}
	})
	handle(types.CommandGetPayloadActivationStatus, 1, func(*bmc.Session) reply {
		return func([]byte) ([]byte, types.CompletionCode) {
			s.mu.Lock()
			defer s.mu.Unlock()
			b := []byte{1, 0, 0} // capacity, instances 1 to 16
			if s.active != nil {
				b[1] = 1
			}
			return b, types.CodeOK
		}
	})
	handle(types.CommandGetPayloadInstanceInfo, 2, func(*bmc.Session) reply {
		return func([]byte) ([]byte, types.CompletionCode) {
			s.mu.Lock()
			defer s.mu.Unlock()
			b := make([]byte, 12)
			if s.active != nil {
				binary.LittleEndian.PutUint32(b, s.active.session.BMCID)
			}
			b[4] = 1 // serial port number
			return b, types.CodeOK
		}
	})
	handle(types.CommandSuspendResumePayloadEncryption, 3, func(session *bmc.Session) reply {
		return func(q []byte) ([]byte, types.CompletionCode) { return nil, s.setEncryption(session, q[2]&0x1f) }
	})
}

// setEncryption is Suspend/Resume Payload Encryption (table 24-5).
func (s *sol) setEncryption(session *bmc.Session, operation uint8) types.CompletionCode {
	s.mu.Lock()
	a := s.active
	s.mu.Unlock()
	if a == nil || a.session != session {
		return types.CodeSuspendResumePayloadEncryptionNotActive
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case operation == 0:
		a.encrypt = false
	case operation == 1 && len(session.K2) >= 16 && session.CryptAlg != types.CryptAlg_None:
		a.encrypt = true
	case operation == 1:
		return types.CodeSuspendResumePayloadEncryptionNotAvailable
	default:
		return types.CodeSuspendResumePayloadEncryptionNotSupported
	}
	return types.CodeOK
}
