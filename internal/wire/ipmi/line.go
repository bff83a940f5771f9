package ipmi

import (
	"bytes"
	"time"
)

// OpenSerial connects the serial line. SerialOpen or SerialClosed follows. When somebody else has the line, it is taken
// away from them. Calling it while there is a line does nothing.
func (p *Peer) OpenSerial(now time.Time) {
	if p.line != nil || p.wantSerial {
		return
	}
	p.used, p.wantSerial = now, true
	p.attempt++
	p.activate(p.attempt, 1, true)
	p.advance(now)
}

// activate asks for the line on behalf of one OpenSerial; round counts the times, and each further one first
// deactivates whoever has it.
func (p *Peer) activate(attempt uint64, round int, encrypt bool) {
	p.calls = append(p.calls, &call{
		request: activateSerial(encrypt), name: "activate serial over LAN", line: true,
		done: func(_ time.Time, data []byte, err *Error) {
			wanted := p.wantSerial && p.attempt == attempt
			switch {
			case !wanted: // CloseSerial came first
				if err == nil {
					p.deactivate(nil)
				}
			case err == nil:
				p.line = &serial{room: serialRoom(data)}
				p.wantSerial, p.after = false, p.seq
				p.encryptLine = encrypt
				p.events = append(p.events, Event{Kind: SerialOpen})
				p.owner, p.ownerUnknown = nil, false
				p.askOwner("serial over LAN")
			case err.Cause == Command && err.Code == codeSerialActive && round < serialRounds:
				p.deactivate(func() {
					if p.wantSerial && p.attempt == attempt {
						p.activate(attempt, round+1, encrypt)
					}
				})
			case err.Cause == Command && err.Code == codeSerialNoEncryption && encrypt:
				p.activate(attempt, round, false)
			default:
				p.endSerial(err)
			}
		},
	})
}

// askOwner looks whose the line is. There are BMCs that give it to another console and never tell; and the answer keeps
// the session alive as well as any. What the id in it means differs between BMCs: it only has to stay the same.
func (p *Peer) askOwner(name string) {
	line := p.line
	p.insert(&call{request: serialOwner(), name: name, quiet: true, done: func(_ time.Time, data []byte, err *Error) {
		switch {
		case p.line != line || p.line == nil:
		case err != nil || len(data) < 4: // not every BMC has the command
			p.ownerUnknown = true
		case p.owner == nil:
			p.owner = append([]byte{}, data[:4]...)
		case !bytes.Equal(p.owner, data[:4]):
			p.endSerial(&Error{Cause: SerialEnded})
		}
	}})
}

func (p *Peer) deactivate(then func()) {
	p.calls = append(p.calls, &call{
		request: deactivateSerial(), name: "deactivate serial over LAN",
		done: func(time.Time, []byte, *Error) {
			if then != nil {
				then()
			}
		},
	})
}

// CloseSerial disconnects the serial line.
func (p *Peer) CloseSerial(now time.Time) {
	had := p.line != nil
	p.endSerial(nil)
	if had {
		p.used = now
		p.deactivate(nil)
	} else {
		p.forget(func(c *call) bool { return c.line })
	}
	p.advance(now)
}

func (p *Peer) endSerial(why *Error) {
	if p.line == nil && !p.wantSerial {
		return
	}
	p.line, p.wantSerial, p.full = nil, false, false
	e := Event{Kind: SerialClosed}
	if why != nil {
		e.Err = why
	}
	p.events = append(p.events, e)
}

// Write queues characters for the machine and returns how many were taken; when fewer than given, SerialRoom follows.
func (p *Peer) Write(now time.Time, b []byte) int {
	if p.line == nil {
		return 0
	}
	n := p.line.write(b)
	p.full = p.full || n < len(b)
	p.advance(now)
	return n
}

// Break sends a serial break after what was written before.
func (p *Peer) Break(now time.Time) {
	if p.line != nil {
		p.line.sendBreak()
		p.advance(now)
	}
}

// Hold refuses characters from the machine while the reader is full; the BMC keeps them as long as it can.
func (p *Peer) Hold(full bool) {
	if p.line == nil {
		return
	}
	if b := p.line.hold(full); b != nil {
		p.send(p.live.seal(payloadSerial, p.encryptLine, b))
	}
}

func (p *Peer) inputSerial(now time.Time, payload []byte) {
	// Late packets are those of an earlier line, or repetitions of characters that are done with: four bits of packet
	// number cannot tell them from new ones, the sequence of the session can.
	if p.line == nil || int32(p.seq-p.after) < 0 {
		return
	}
	p.after = p.seq
	reply, data, ended := p.line.input(now, payload)
	if reply != nil {
		p.send(p.live.seal(payloadSerial, p.encryptLine, reply))
	}
	if len(data) > 0 {
		p.events = append(p.events, Event{Kind: SerialData, Data: data})
	}
	if ended {
		p.endSerial(&Error{Cause: SerialEnded})
	}
}

// runLine sends what is due on the line.
func (p *Peer) runLine(now time.Time) {
	b, dead := p.line.output(now)
	if dead {
		// Not deactivated: the line may be another console's by now.
		p.endSerial(&Error{Cause: SerialSilent})
		return
	}
	if b != nil {
		p.send(p.live.seal(payloadSerial, p.encryptLine, b))
	}
	if p.full && p.line.waiting < serialQueue/2 {
		p.full = false
		p.events = append(p.events, Event{Kind: SerialRoom})
	}
}
