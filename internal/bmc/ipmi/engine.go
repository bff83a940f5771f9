// Package ipmi drives BMCs over IPMI 2.0, or 1.5 where there is nothing else: all of them over a few UDP sockets and one timer.
//
// The talk itself is decided in wire/ipmi; here are the sockets, the clock and the locks around it:
//
//	driver.Power ─▶ peer.Do ─▶ packets ─▶ socket ═══▶ BMCs
//	      ▲                                        │
//	      └─ answer ◀─ peer.Input ◀─ by address and session id ◀─ one reading goroutine a socket
//	                   peer.Tick  ◀─ heap of deadlines ◀─ one timer
//
// A session is opened when the first command needs it, shared by all drivers of the same controller and user, kept
// alive while used, and closed after two minutes without use; so a second command is one round trip. A controller that
// does not answer costs its repetitions and nothing else: nobody waits behind it. How many are asked at once is limited, in
// all and in a subnet, as are the sessions begun in a second there; see [Options]. Nothing runs while nothing is asked,
// and an idle serial line costs one packet in 30 seconds.
package ipmi

import (
	"cmp"
	"container/heap"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"muster/internal/bmc"
	wire "muster/internal/wire/ipmi"
)

// Port is the UDP port of IPMI.
const Port = 623

// Options of an engine. The zero value works.
type Options struct {
	// Sockets is the number of UDP sockets of each address family, 1 when zero. Each has one reading goroutine.
	Sockets int
	// Idle is the time after which an unused session is closed; 2 min when zero.
	Idle time.Duration
	// KeepAlive is the time after which a BMC that said nothing is asked something harmless; 30 s when zero.
	KeepAlive time.Duration
	// Waits are the times between the sendings of a packet and after the last one; 0.5, 1, 2, 4 s when nil.
	Waits []time.Duration
	// InFlight is how many controllers are asked at once, 1024 when zero; those that do not answer are not counted.
	InFlight int
	// SubnetInFlight is how many controllers of a subnet (IPv4 /24, IPv6 /64) are asked at once, 512 when zero.
	SubnetInFlight int
	// SubnetSessions is how many sessions are begun in a second in a subnet, 5000 when zero.
	SubnetSessions int
	// Log gets sessions opened and lost at level debug. Nil is silent.
	Log *slog.Logger
}

// Engine holds the sockets, the timer and the sessions. Make it with [New]; its methods may be called by any goroutine.
type Engine struct {
	opt Options
	log *slog.Logger

	mu      sync.Mutex // never taken before a peer's mutex is asked for: peer first, then engine
	closed  bool
	sockets map[bool][]*net.UDPConn // by "is IPv6"; opened when first needed
	reading sync.WaitGroup          // those who read, and the timer while it rings
	peers   map[key]*peer
	suites  map[netip.AddrPort]wire.Suite // what BMCs have accepted, also after their peer is forgotten
	due     deadlines
	timer   *time.Timer
	alarm   time.Time // when timer goes off; zero: it is stopped

	repositories repositories
	limits       limits

	routes sync.Map // netip.AddrPort → []*peer: who talks with an address
}

// key tells controllers and logins apart: drivers of the same key share a session.
type key struct {
	address  string
	port     int
	user     string
	password [sha256.Size]byte // its digest: a secret is not compared, and nothing that holds a key can print it
	cipher   int
}

// New returns an engine. No socket is opened before the first command.
func New(o Options) (*Engine, error) {
	if o.Sockets == 0 {
		o.Sockets = 1
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	e := &Engine{opt: o, log: o.Log, sockets: map[bool][]*net.UDPConn{}, peers: map[key]*peer{}, suites: map[netip.AddrPort]wire.Suite{}}
	e.limits = limits{
		all:      gate{most: cmp.Or(o.InFlight, usualInFlight)},
		subnet:   gate{most: cmp.Or(o.SubnetInFlight, usualSubnetInFlight), rate: float64(cmp.Or(o.SubnetSessions, usualSubnetSessions))},
		patience: 500 * time.Millisecond,
	}
	if len(o.Waits) > 0 {
		e.limits.patience = o.Waits[0]
	}
	e.timer = time.AfterFunc(time.Hour, e.ring)
	e.timer.Stop()
	return e, nil
}

// Open returns the driver of a controller. It costs nothing: a wrong target is told by the first call.
func (e *Engine) Open(t bmc.Target) bmc.Driver {
	return &driver{Incapable: bmc.Incapable{Protocol: "IPMI"}, engine: e, target: t, streams: map[*stream]bool{}}
}

// Close ends all sessions, telling the controllers once, and waits for the goroutines.
func (e *Engine) Close() error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return nil
	}
	e.closed = true
	peers := make([]*peer, 0, len(e.peers))
	for _, p := range e.peers {
		peers = append(peers, p)
	}
	e.mu.Unlock()
	for _, p := range peers {
		p.mu.Lock()
		p.closed = true
		p.machine.Shutdown(time.Now())
		p.flush()
		p.mu.Unlock()
	}
	e.mu.Lock()
	e.timer.Stop()
	e.alarm = time.Time{}
	var errs []error
	for _, family := range e.sockets {
		for _, c := range family {
			errs = append(errs, c.Close())
		}
	}
	e.mu.Unlock()
	e.reading.Wait()
	return errors.Join(errs...)
}

var errClosed = errors.New("the engine is closed")

// peer returns the peer of a target and counts one more user of it, who calls release. A host name is resolved here.
func (e *Engine) peer(ctx context.Context, t bmc.Target) (*peer, error) {
	k := key{t.Address, t.Port, t.User, sha256.Sum256([]byte(t.Password.Reveal())), t.Cipher}
	if k.port == 0 {
		k.port = Port
	}
	e.mu.Lock()
	p := e.peers[k]
	if p != nil && !e.closed {
		p.users++
		e.mu.Unlock()
		return p, nil
	}
	e.mu.Unlock()
	address, err := resolve(ctx, t.Address)
	if err != nil {
		return nil, err
	}
	to := netip.AddrPortFrom(address, uint16(k.port))
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, errClosed
	}
	if p := e.peers[k]; p != nil { // another goroutine was first
		p.users++
		return p, nil
	}
	machine, err := wire.NewPeer(wire.Config{
		User: t.User, Password: t.Password.Reveal(), Suite: wire.Suite(t.Cipher), Known: e.suites[to],
		Rand: random, Waits: e.opt.Waits, Idle: e.opt.Idle, KeepAlive: e.opt.KeepAlive,
	})
	if err != nil {
		return nil, err
	}
	conn, err := e.socket(to)
	if err != nil {
		return nil, err
	}
	p = &peer{engine: e, key: k, to: to, conn: conn, users: 1, machine: machine, waiting: map[uint64]chan wire.Event{}, place: -1}
	e.peers[k] = p
	e.route(to, func(all []*peer) []*peer { return append(all, p) })
	return p, nil
}

// random fills b; crypto/rand never fails.
func random(b []byte) { _, _ = rand.Read(b) }

// route changes who gets the packets of an address. e.mu is held; readers see the old or the new list.
func (e *Engine) route(to netip.AddrPort, change func([]*peer) []*peer) {
	var all []*peer
	if v, ok := e.routes.Load(to); ok {
		all = append(all, v.([]*peer)...)
	}
	if all = change(all); len(all) == 0 {
		e.routes.Delete(to)
		return
	}
	e.routes.Store(to, all)
}

// release counts one user less. A peer that nobody uses stays as long as its session does: the next command is quick.
func (e *Engine) release(p *peer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	p.users--
	e.forget(p)
}

// forget drops a peer without users and session. Both mutexes are held.
func (e *Engine) forget(p *peer) {
	if p.users > 0 || p.machine.Open() || e.peers[p.key] != p {
		return
	}
	delete(e.peers, p.key)
	e.route(p.to, func(all []*peer) []*peer {
		out := all[:0]
		for _, q := range all {
			if q != p {
				out = append(out, q)
			}
		}
		return out
	})
	e.due.set(p, time.Time{})
}

// resolve reads an address, or asks for that of a host name.
func resolve(ctx context.Context, address string) (netip.Addr, error) {
	if a, err := netip.ParseAddr(address); err == nil {
		return a.Unmap(), nil
	}
	if address == "" {
		return netip.Addr{}, errNoAddress
	}
	all, err := net.DefaultResolver.LookupNetIP(ctx, "ip", address)
	if err != nil {
		return netip.Addr{}, err
	}
	return all[0].Unmap(), nil
}

var errNoAddress = errors.New("no BMC address is set")

// receiveBuffer is asked for each socket, in octets: room for the answers of some ten thousand BMCs that come at once.
// The kernel may give less; what does not fit is asked again.
const receiveBuffer = 8 << 20

// socket returns the socket for an address, opening those of its family when they are first needed. e.mu is held.
func (e *Engine) socket(to netip.AddrPort) (*net.UDPConn, error) {
	six := to.Addr().Is6()
	if e.sockets[six] == nil {
		network := "udp4"
		if six {
			network = "udp6"
		}
		for range e.opt.Sockets {
			c, err := net.ListenUDP(network, nil)
			if err != nil {
				return nil, err
			}
			enlarge(c, receiveBuffer)
			e.sockets[six] = append(e.sockets[six], c)
			e.reading.Add(1)
			go e.read(c)
		}
	}
	octets := to.Addr().As16()
	return e.sockets[six][int(octets[15])%len(e.sockets[six])], nil
}

// read hands the packets of a socket to their peers until the socket is closed.
func (e *Engine) read(c *net.UDPConn) {
	defer e.reading.Done()
	buf := make([]byte, 2048)
	for {
		n, from, err := c.ReadFromUDPAddrPort(buf)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue // an ICMP error of some BMC; the repetitions of its peer will tell
		}
		id, ok := wire.Addressee(buf[:n])
		if !ok {
			continue
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		all, _ := e.routes.Load(from)
		peers, _ := all.([]*peer)
		for _, p := range peers {
			if p.input(id, buf[:n]) {
				break
			}
		}
	}
}

// ring is what the timer calls: every peer whose time has come.
func (e *Engine) ring() {
	now := time.Now()
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return
	}
	e.reading.Add(1)
	defer e.reading.Done()
	e.alarm = time.Time{}
	var peers []*peer
	for len(e.due) > 0 && !e.due[0].deadline.After(now) {
		p := e.due[0]
		e.due.set(p, time.Time{})
		peers = append(peers, p)
	}
	e.arm()
	e.mu.Unlock()
	for _, p := range peers {
		p.mu.Lock()
		p.planned = time.Time{}
		p.machine.Tick(now)
		p.flush()
		p.mu.Unlock()
	}
}

// schedule sets when a peer is to be ticked. p.mu is held.
func (e *Engine) schedule(p *peer, at time.Time) {
	// A deadline that moves away is left where it is: the timer finds out and asks again. So a command that is
	// answered in time costs no work in the heap.
	if at.Equal(p.planned) || !p.planned.IsZero() && !at.IsZero() && at.After(p.planned) {
		return
	}
	p.planned = at
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return
	}
	e.due.set(p, at)
	e.arm()
}

// arm sets the timer to the earliest deadline. e.mu is held.
func (e *Engine) arm() {
	if e.closed || len(e.due) == 0 {
		return
	}
	first := e.due[0].deadline
	if e.alarm.IsZero() || first.Before(e.alarm) {
		e.alarm = first
		e.timer.Reset(time.Until(first))
	}
}

// deadlines is a heap of peers, the earliest first. With 10,000 peers a deadline that comes and the next one that is set take 0.4 µs together, where a
// command takes 20 µs of our time: there is nothing for a timer wheel to gain.
type deadlines []*peer

func (d deadlines) Len() int           { return len(d) }
func (d deadlines) Less(i, k int) bool { return d[i].deadline.Before(d[k].deadline) }

func (d deadlines) Swap(i, k int) {
	d[i], d[k] = d[k], d[i]
	d[i].place, d[k].place = i, k
}

// Push and Pop are the heap's.
func (d *deadlines) Push(x any) {
	p := x.(*peer)
	p.place = len(*d)
	*d = append(*d, p)
}

func (d *deadlines) Pop() any {
	last := len(*d) - 1
	p := (*d)[last]
	(*d)[last] = nil
	*d = (*d)[:last]
	p.place = -1
	return p
}

// set puts a peer where its deadline belongs; zero takes it out.
func (d *deadlines) set(p *peer, at time.Time) {
	p.deadline = at
	switch {
	case at.IsZero() && p.place >= 0:
		heap.Remove(d, p.place)
	case at.IsZero():
	case p.place >= 0:
		heap.Fix(d, p.place)
	default:
		heap.Push(d, p)
	}
}

// address is how messages name a controller.
func (k key) String() string {
	if k.port == Port {
		return k.address
	}
	return net.JoinHostPort(k.address, strconv.Itoa(k.port))
}
