package sim

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"time"

	"muster/internal/lab/board"
)

// machine is what stands behind a BMC: power, what it boots, its light, its log. It has no clock: time comes with every
// call, and what was to happen by then has happened.
type machine struct {
	name string
	mark uint64 // of the machine: serial numbers and addresses are made of it

	on    bool
	since time.Time // when it came on, or off
	next  []transition
	cause byte    // of the newest start (IPMI 2.0 table 28-11)
	boot  [5]byte // boot flags as in boot option parameter 5 (table 28-14)
	boots int     // starts so far

	identify struct {
		forever bool
		until   time.Time
	}
	policy   byte // what happens when power returns: 0 stays off, 1 as before, 2 on (table 28-8)
	log      board.EventLog
	at       time.Time // the clock of the log
	readings int       // of sensors
	speech   speech
}

// transition is a change of power that is on its way.
type transition struct {
	at time.Time
	on bool
}

// The ways to act on the power, with the numbers of Chassis Control (IPMI 2.0 §28.3).
const (
	powerDown = iota
	powerUp
	powerCycle
	hardReset
	diagnostic
	softShutdown
)

func newMachine(name string, on bool, now time.Time) machine {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name))
	return machine{name: name, mark: h.Sum64(), on: on, since: now, at: now}
}

// settle lets happen what was to happen until now. It must run before anything of the machine is read.
func (m *machine) settle(now time.Time) {
	for len(m.next) > 0 && !m.next[0].at.After(now) {
		t := m.next[0]
		m.next = m.next[1:]
		m.at = t.at
		if t.on == m.on {
			continue
		}
		m.on, m.since = t.on, t.at
		if t.on {
			m.log.Add(board.EventACPI, 0x00)
			m.start(t.at)
		} else {
			m.log.Add(board.EventACPI, 0x05)
		}
	}
	m.at = now
}

// start is the firmware beginning anew: it uses a boot device for once up.
func (m *machine) start(now time.Time) {
	m.boots++
	m.cause = 0x1
	if m.boot[0]&0x40 == 0 {
		m.boot = [5]byte{}
	}
	m.speech.restart(now)
}

// act starts an action; the state follows after the delay. False: it makes no sense in the present state.
func (m *machine) act(now time.Time, action int, delay time.Duration) bool {
	m.settle(now)
	going := m.on
	if n := len(m.next); n > 0 {
		going = m.next[n-1].on
	}
	switch action {
	case powerDown:
		m.next = append(m.next[:0], transition{now.Add(delay), false})
	case powerUp:
		if !going {
			m.next = append(m.next, transition{now.Add(delay), true})
		}
	case powerCycle:
		if !m.on {
			return false
		}
		m.log.Add(board.EventPowerUnit, 0x01)
		m.next = append(m.next[:0], transition{now.Add(delay), false}, transition{now.Add(2 * delay), true})
	case hardReset:
		if !m.on {
			return false
		}
		m.log.Add(board.EventRestart, 0x07)
		m.start(now)
	case diagnostic:
		if !m.on {
			return false
		}
		m.log.Add(board.EventCritical, 0x00)
	case softShutdown:
		if !m.on {
			return false
		}
		m.next = append(m.next[:0], transition{now.Add(3 * delay), false}) // the system takes its time
	default:
		return false
	}
	m.settle(now)
	return true
}

// due is when the machine has something to do, zero when never.
func (m *machine) due() time.Time {
	if len(m.next) == 0 {
		return time.Time{}
	}
	return m.next[0].at
}

// lit says whether the locator is on, and whether for good.
func (m *machine) lit(now time.Time) (on, forever bool) {
	return m.identify.forever || now.Before(m.identify.until), m.identify.forever
}

func (m *machine) light(now time.Time, on bool, d time.Duration) {
	m.identify.forever, m.identify.until = on && d == 0, now.Add(d)
}

func (m *machine) serial() string { return fmt.Sprintf("SIM%07X", m.mark&0xfffffff) }

// mac is the n-th address of the machine: 0 is the BMC's, the network ports follow.
func (m *machine) mac(n byte) [6]byte {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], m.mark)
	return [6]byte{0x52, 0x54, b[5], b[6], b[7], n}
}

func macText(b [6]byte) string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3], b[4], b[5])
}

// uuid is that of the machine in the order in which it is written.
func (m *machine) uuid() [16]byte {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], m.mark)
	binary.BigEndian.PutUint64(b[8:], m.mark*0x9e3779b97f4a7c15)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80 // version 4, as most boards claim
	return b
}

func (m *machine) uuidText() string {
	b := m.uuid()
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
