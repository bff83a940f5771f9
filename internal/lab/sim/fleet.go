package sim

import (
	"container/heap"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	mathrand "math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"muster/internal/model"
)

// Options of a fleet. IPMI or Redfish, Prefix, User, Password and First must be set; New tells what is wrong.
type Options struct {
	IPMI    int // controllers that speak IPMI: nodes 1 to IPMI
	Redfish int // controllers that speak Redfish: the nodes after them
	// Prefix is what names of nodes begin with: "n" makes n1, n2, …
	Prefix string
	// User is the administrator, account 2.
	User string
	// Password is of the administrator and of the account "operator".
	Password model.Secret
	// Dead and Slow are the shares, 0 to 1, of controllers that are so from the start.
	Dead, Slow float64
	// Version15 is the share of IPMI controllers that know IPMI 1.5 only.
	Version15 float64
	// First is the address of node 0: node i has the address i after it, all in 127.0.0.0/8. With Ports, all controllers
	// have First, and node i the port i after IPMIPort or RedfishPort.
	First    netip.Addr
	Ports    bool
	IPMIPort uint16
	// RedfishPort is that of HTTPS. A port that is 0 is a free one, but with Ports.
	RedfishPort uint16
	// Seed makes the fleet the same each time: who is dead, what is lost, ids, values; 0 is a new one each time.
	Seed uint64
	// Delay is between a power command and the power; Lines is how many lines a second each machine says on its serial line.
	Delay    time.Duration
	Lines    float64
	Profiles []string // of Redfish, by name, dealt out in turn; none: all
}

// counters are what the fleet did, for those who count losses.
type counters struct {
	received, sent, dropped   atomic.Int64 // datagrams
	commands, sessions        atomic.Int64 // of IPMI
	requests, logins, streams atomic.Int64 // of Redfish: requests, sessions, streams of events
	spoken, typed             atomic.Int64 // octets on serial lines, without repetitions
}

// Fleet is simulated controllers behind few sockets. Make it with [New], then [Fleet.Run].
type Fleet struct {
	opt      Options
	seed     uint64
	bmcs     []bmc
	counters counters
	web      *web // nil without Redfish

	sockets []*socket

	mu    sync.Mutex
	due   deadlines
	timer *time.Timer
	alarm time.Time // when timer goes off; zero: it is stopped
}

// check reports all that is wrong.
func (o *Options) check() error {
	var errs []error
	wrong := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	const most = 65000
	n := o.IPMI + o.Redfish
	wrong(o.IPMI < 0 || o.Redfish < 0 || n > most, "there may be up to %d controllers", most)
	wrong(n == 0, "there is no controller: give --ipmi or --redfish")
	wrong(o.Prefix == "", "names need letters before the number")
	wrong(len(o.Prefix) > 32, "%q is too long for names", o.Prefix)
	wrong(len(o.User) < 1 || len(o.User) > 16, "a user of IPMI has 1 to 16 octets")
	wrong(len(o.Password.Reveal()) < 1 || len(o.Password.Reveal()) > 16, "a password has 1 to 16 octets, for IPMI 1.5")
	for name, v := range map[string]float64{"dead": o.Dead, "slow": o.Slow, "1.5 only": o.Version15} {
		wrong(!(v >= 0 && v <= 1), "the share of %s is between 0%% and 100%%", name)
	}
	wrong(!(o.Lines >= 0 && o.Lines <= 1e6), "a machine says 0 to 1,000,000 lines a second")
	wrong(o.Delay < 0, "a delay is not negative")
	switch {
	case !o.First.Is4():
		wrong(true, "the first address is one of IPv4")
	case !o.Ports:
		b := o.First.As4()
		wrong(!o.First.IsLoopback() || b[2]|b[3] != 0, "nodes have addresses of the loopback after one that ends in .0.0, such as 127.20.0.0, not after %s", o.First)
	default:
		wrong(int(o.IPMIPort)+o.IPMI > math.MaxUint16 || int(o.RedfishPort)+n > math.MaxUint16, "there are no ports for %d controllers", n)
	}
	for _, p := range o.Profiles {
		_, err := profileOf(p)
		wrong(err != nil, "%v", err)
	}
	return errors.Join(errs...)
}

// choosePorts takes free ports where none are given.
func (o *Options) choosePorts() error {
	if o.IPMIPort == 0 && !o.Ports {
		c, err := net.ListenPacket("udp4", "0.0.0.0:0")
		if err != nil {
			return err
		}
		o.IPMIPort = c.LocalAddr().(*net.UDPAddr).AddrPort().Port()
		_ = c.Close()
	}
	if o.RedfishPort == 0 && !o.Ports {
		l, err := net.Listen("tcp4", "0.0.0.0:0")
		if err != nil {
			return err
		}
		o.RedfishPort = l.Addr().(*net.TCPAddr).AddrPort().Port()
		_ = l.Close()
	}
	return nil
}

// New makes the controllers and opens the sockets. Nobody answers before [Fleet.Run].
func New(o Options) (*Fleet, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if err := o.choosePorts(); err != nil {
		return nil, err
	}
	f := &Fleet{opt: o, seed: o.Seed, bmcs: make([]bmc, o.IPMI+o.Redfish)}
	if f.seed == 0 {
		var b [8]byte
		_, _ = rand.Read(b[:])
		f.seed = binary.LittleEndian.Uint64(b[:])
	}
	common := kind{
		users: newUsers(o.User, o.Password), delay: o.Delay, deterministic: o.Seed != 0,
		lines: o.Lines, counters: &f.counters,
	}
	old := common
	old.only15 = true
	now := time.Now()
	// Shares are dealt out, not diced: 5 % of 100 are 5.
	order := mathrand.New(mathrand.NewPCG(f.seed, math.MaxUint64)).Perm(len(f.bmcs))
	dead, slow := int(math.Round(o.Dead*float64(len(order)))), int(math.Round(o.Slow*float64(len(order))))
	rank := make([]int, len(order))
	for at, i := range order {
		rank[i] = at
	}
	for i := range f.bmcs {
		b, k := &f.bmcs[i], &common
		if i < o.IPMI && float64(i%100) >= 100-100*o.Version15 {
			k = &old
		}
		b.init(k, i, fmt.Sprint(o.Prefix, i+1), f.Address(i), f.seed, now)
		b.faults.Dead = rank[i] < dead
		if rank[i] >= dead && rank[i] < dead+slow {
			b.faults.Delay = Slow
		}
	}
	f.timer = time.AfterFunc(time.Hour, f.ring)
	f.timer.Stop()
	if err := f.open(); err != nil {
		return nil, errors.Join(err, f.close())
	}
	return f, nil
}

// Address is where controller i listens, counted from 0: that of node i+1.
func (f *Fleet) Address(i int) netip.AddrPort {
	port := f.opt.IPMIPort
	if i >= f.opt.IPMI {
		port = f.opt.RedfishPort
	}
	if f.opt.Ports {
		return netip.AddrPortFrom(f.opt.First, port+uint16(i+1))
	}
	return netip.AddrPortFrom(after(f.opt.First, i+1), port)
}

func after(a netip.Addr, n int) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(a.AsSlice())+uint32(n))
	return netip.AddrFrom4(b)
}

// at is the controller of an address, nil for none.
func (f *Fleet) at(a netip.Addr) *bmc {
	a = a.Unmap()
	if !a.Is4() {
		return nil
	}
	i := int64(binary.BigEndian.Uint32(a.AsSlice())) - int64(binary.BigEndian.Uint32(f.opt.First.AsSlice())) - 1
	if i < 0 || i >= int64(len(f.bmcs)) {
		return nil
	}
	return &f.bmcs[i]
}

func (f *Fleet) open() error {
	var err error
	if f.opt.IPMI > 0 {
		if f.sockets, err = f.openUDP(); err != nil {
			return err
		}
	}
	if f.opt.Redfish > 0 {
		f.web, err = f.openWeb()
	}
	return err
}

func (f *Fleet) close() error {
	var errs []error
	for _, s := range f.sockets {
		errs = append(errs, s.conn.Close())
	}
	if f.web != nil {
		errs = append(errs, f.web.close())
	}
	return errors.Join(errs...)
}

// Run answers until ctx ends, and closes the sockets.
func (f *Fleet) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, s := range f.sockets {
		g.Go(s.serve)
	}
	if f.web != nil {
		f.web.serve(g)
	}
	g.Go(func() error {
		<-ctx.Done()
		f.mu.Lock()
		f.timer.Stop()
		f.due = nil
		f.mu.Unlock()
		return f.close()
	})
	err := g.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// do calls a function on a controller, sends what comes of it and notes when it is to be called again.
func (f *Fleet) do(b *bmc, now time.Time, call func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.machine.settle(now)
	call()
	f.flush(b, now)
}

// flush is the end of [Fleet.do]. b.mu is held.
func (f *Fleet) flush(b *bmc, now time.Time) {
	for _, p := range b.out {
		if p.at.After(now) {
			f.later(p.at, func(time.Time) { f.transmit(b, p) })
		} else {
			f.transmit(b, p)
		}
	}
	b.out = b.out[:0]
	if b.redfish != nil {
		b.tell()
	}
	if at := b.due(); !at.IsZero() && (b.wake.IsZero() || at.Before(b.wake)) {
		b.wake = at
		f.later(at, func(now time.Time) {
			f.do(b, now, func() {
				if !b.wake.After(now) {
					b.wake = time.Time{}
				}
				b.tick(now)
			})
		})
	}
}

// deadline is something to be done at a time.
type deadline struct {
	at time.Time
	do func(now time.Time)
}

type deadlines []deadline

func (d deadlines) Len() int           { return len(d) }
func (d deadlines) Less(i, j int) bool { return d[i].at.Before(d[j].at) }
func (d deadlines) Swap(i, j int)      { d[i], d[j] = d[j], d[i] }
func (d *deadlines) Push(x any)        { *d = append(*d, x.(deadline)) }
func (d *deadlines) Pop() any {
	old := *d
	x := old[len(old)-1]
	old[len(old)-1] = deadline{}
	*d = old[:len(old)-1]
	return x
}

func (f *Fleet) later(at time.Time, do func(time.Time)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	heap.Push(&f.due, deadline{at, do})
	f.arm()
}

// arm sets the timer to the first deadline. f.mu is held.
func (f *Fleet) arm() {
	if len(f.due) == 0 || !f.alarm.IsZero() && !f.due[0].at.Before(f.alarm) {
		return
	}
	f.alarm = f.due[0].at
	f.timer.Reset(max(time.Until(f.alarm), time.Millisecond))
}

// ring does what is due.
func (f *Fleet) ring() {
	now := time.Now()
	var ready []deadline
	f.mu.Lock()
	f.alarm = time.Time{}
	for len(f.due) > 0 && !f.due[0].at.After(now) {
		ready = append(ready, heap.Pop(&f.due).(deadline))
	}
	f.mu.Unlock()
	for _, d := range ready {
		d.do(now)
	}
	f.mu.Lock()
	f.arm()
	f.mu.Unlock()
}
