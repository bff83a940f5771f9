package sim

import (
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"muster/internal/lab/board"
	"muster/internal/model"
)

// bmc is one simulated controller with its machine: packet, request or the time in, packets out. It has no socket, no
// goroutine and no clock, so ten thousand of them cost little more than their state.
type bmc struct {
	index   int // in the fleet, from 0
	address netip.AddrPort
	model   *kind

	mu       sync.Mutex
	machine  machine
	faults   Faults
	random   rand.PCG
	sessions []*session
	users    []user // shared until one is changed: see editUsers
	lan      map[byte][]byte
	sol      [3]byte // enabled, authentication, bit rate: parameters 1, 2 and 5 of serial over LAN
	line     *line
	watchdog [8]byte
	reserved uint16 // reservation of the SDR repository
	out      []packet
	held     []packet // kept back, to come after the next
	wake     time.Time
	redfish  *redfish // nil for a controller that speaks IPMI
}

// kind is what the controllers of a fleet have in common.
type kind struct {
	users         []user        // of a new one
	delay         time.Duration // between a power command and the power
	deterministic bool          // sensors move with readings, not with the clock
	only15        bool          // no RMCP+
	lines         float64       // a second, on a serial line
	counters      *counters
}

// packet is a datagram for a console, not before the time.
type packet struct {
	to   netip.AddrPort
	data []byte
	at   time.Time
}

// user is an account of a controller, by its number in the list + 1.
type user struct {
	name     string
	password model.Secret
	enabled  bool
	access   byte // privilege limit, and bits 4 to 6 of Set User Access (IPMI 2.0 table 22-29)
}

// maxUsers is how many accounts a controller has room for.
const maxUsers = 10

// noUsers are empty places for accounts: nobody may come in.
var noUsers = func() (all [maxUsers]user) {
	for i := range all {
		all[i].access = 0x0f
	}
	return all
}()

// newUsers are the accounts of a new controller: the nameless one, which is off, and the administrator.
func newUsers(name string, password model.Secret) []user {
	return []user{
		{access: 0x10 | 1},
		{name: name, password: password, enabled: true, access: 0x30 | 4},
		{name: "operator", password: password, enabled: true, access: 0x30 | 3},
	}
}

// editUsers returns the accounts for changing.
func (b *bmc) editUsers() []user {
	if len(b.users) < maxUsers {
		b.users = append(append(make([]user, 0, maxUsers), b.users...), noUsers[len(b.users):]...)
	}
	return b.users
}

// login finds an account that may log in, and its password as it counts now.
func (b *bmc) login(name string) (u user, ok bool) {
	for _, u := range b.users {
		if u.enabled && u.name == name {
			if b.faults.Password {
				u.password = model.NewSecret(u.password.Reveal() + "?")
			}
			return u, true
		}
	}
	return user{}, false
}

// fill is the randomness of ids and challenges: reproducible, not secret.
func (b *bmc) fill(p []byte) {
	for i := range p {
		p[i] = byte(b.random.Uint64())
	}
}

func (b *bmc) chance(p float64) bool {
	return p > 0 && rand.New(&b.random).Float64() < p
}

// send hands a packet to the network, which may lose, repeat, delay or reorder it.
func (b *bmc) send(now time.Time, to netip.AddrPort, data []byte) {
	f := &b.faults
	if f.Dead || b.chance(f.Drop) {
		b.model.counters.dropped.Add(1)
		return
	}
	p := packet{to, data, now.Add(f.Delay)}
	if b.chance(f.Reorder) && len(b.held) < 4 {
		p.at = p.at.Add(20 * time.Millisecond) // when no other comes meanwhile
		b.held = append(b.held, p)
		return
	}
	b.out = append(b.out, p)
	if b.chance(f.Duplicate) {
		b.out = append(b.out, p)
	}
	for _, h := range b.held {
		h.at = p.at
		b.out = append(b.out, h)
	}
	b.held = b.held[:0]
}

// input takes a datagram from a console.
func (b *bmc) input(now time.Time, from netip.AddrPort, data []byte) {
	b.model.counters.received.Add(1)
	if b.faults.Dead || b.redfish != nil || b.chance(b.faults.Drop) {
		b.model.counters.dropped.Add(1)
		return
	}
	b.machine.settle(now)
	b.rmcp(now, from, data)
}

// tick does what is due.
func (b *bmc) tick(now time.Time) {
	b.machine.settle(now)
	b.out = append(b.out, b.held...)
	b.held = b.held[:0]
	b.speak(now)
}

// due is when [bmc.tick] has something to do, zero when never.
func (b *bmc) due() time.Time {
	at := b.machine.due()
	earlier := func(t time.Time) {
		if !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	if len(b.held) > 0 {
		earlier(b.held[0].at)
	}
	if b.line != nil {
		earlier(b.line.due(b))
	}
	return at
}

func (b *bmc) init(m *kind, index int, name string, address netip.AddrPort, seed uint64, now time.Time) {
	b.model, b.index, b.address, b.users = m, index, address, m.users
	b.random = *rand.NewPCG(seed, uint64(index))
	b.sol = [3]byte{1, 4, 0x0a}
	b.machine = newMachine(name, b.chance(0.8), now)
	b.machine.log.Now = func() time.Time { return b.machine.at }
	b.machine.speech = speech{rate: m.lines, since: now}
	b.past(now)
}

// past writes into the log what happened before: a start, and now and then a fan or a temperature.
func (b *bmc) past(now time.Time) {
	m := &b.machine
	m.at = now.Add(-time.Duration(1+b.random.Uint64()%720) * time.Hour)
	m.log.Add(board.EventACPI, 0x00)
	for range b.random.Uint64() % 4 {
		m.at = m.at.Add(10 * time.Minute)
		s := &sensors[b.random.Uint64()%8]
		offset := byte(0x07) // upper non-critical, going high
		if s.Kind == 4 {
			offset = 0x00 // lower non-critical, going low
		}
		_, thresholds := s.Thresholds()
		threshold := thresholds[3]
		if s.Kind == 4 {
			threshold = thresholds[0]
		}
		m.log.Append([board.RecordSize]byte{2: 0x02, 7: 0x20, 9: 0x04, 10: s.Kind, 11: s.Number, 12: 0x01, 13: 0x50 | offset, 14: threshold, 15: threshold})
	}
	m.at = now
}
