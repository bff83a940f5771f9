package ipmi

import (
	"container/list"
	"context"
	"net/netip"
	"sync"
	"time"
)

// Limits when [Options] say nothing. The networks of controllers are slow and their switches small: what comes at once from 10,000 of them, and the address
// resolution before it, is lost there and asked again. So are answers for which a socket of ours has no room, which is what the limit of all is for: with
// 10,000 controllers asked at once on a busy machine a thousand answers were lost, with 1024 at once none.
const (
	usualInFlight       = 1024
	usualSubnetInFlight = 512
	usualSubnetSessions = 5000
)

// limits bounds what goes on at once: controllers that are asked, in all and in a subnet, and sessions begun in a second in a subnet. Beside it each controller
// is asked one thing at a time. Dead controllers do not keep live ones waiting: a request that nobody answers gives its place up after a while, and the next
// one to a controller that was silent takes none.
type limits struct {
	all      gate
	subnet   gate          // what that of each subnet begins as
	patience time.Duration // after which a place counts as free

	mu      sync.Mutex
	subnets map[netip.Prefix]*gate
	silent  map[netip.AddrPort]bool
}

// gate lets so many pass at once, and so many sessions a second.
type gate struct {
	most   int
	rate   float64   // sessions in a second, and at once; 0: any
	places list.List // of *place, the oldest first
	queue  list.List // of *place that wait
	tokens float64   // sessions that may begin now
	filled time.Time
	timer  *time.Timer // rings for the queue; nil: nobody waits
}

// place is one request's at a gate, in the queue or in flight.
type place struct {
	gate     *gate
	element  *list.Element
	since    time.Time
	session  bool          // begins a session
	admitted chan struct{} // closed when it may go on
}

// pass is one request that may go on: its places, nil where it takes none.
type pass struct {
	of     netip.AddrPort
	places [2]*place
}

// subnetOf is the network of a controller by custom: there is no way to know its true size.
func subnetOf(a netip.Addr) netip.Prefix {
	bits := 24
	if a.Is6() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	if err != nil {
		panic("ipmi: every address has a prefix: " + err.Error())
	}
	return p
}

// enter waits until a request may go on; the pass is to be given back to leave, once. session says that it begins one.
func (l *limits) enter(ctx context.Context, to netip.AddrPort, session bool) (*pass, error) {
	p := &pass{of: to}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.silent[to] {
		return p, nil
	}
	key := subnetOf(to.Addr())
	s := l.subnets[key]
	if s == nil {
		if l.subnets == nil {
			l.subnets, l.silent = map[netip.Prefix]*gate{}, map[netip.AddrPort]bool{}
		}
		s = &gate{most: l.subnet.most, rate: l.subnet.rate, tokens: l.subnet.rate, filled: time.Now()}
		l.subnets[key] = s
	}
	for i, g := range []*gate{s, &l.all} {
		var err error
		if p.places[i], err = l.wait(ctx, g, session); err != nil {
			l.free(p)
			return nil, err
		}
	}
	return p, nil
}

// wait passes one gate. The mutex is held, but not while it waits.
func (l *limits) wait(ctx context.Context, g *gate, session bool) (*place, error) {
	now := time.Now()
	p := &place{gate: g, session: session && g.rate > 0}
	if g.queue.Len() == 0 && l.admit(p, now) {
		return p, nil
	}
	p.admitted = make(chan struct{})
	p.element = g.queue.PushBack(p)
	l.serve(g, now)
	l.mu.Unlock()
	select {
	case <-p.admitted:
		l.mu.Lock()
		return p, nil
	case <-ctx.Done():
	}
	l.mu.Lock()
	select {
	case <-p.admitted: // both at once
		p.remove()
	default:
		g.queue.Remove(p.element)
	}
	l.serve(g, time.Now())
	return nil, &crowdedError{ctx.Err()}
}

// leave gives a pass back, and says whether the controller was silent.
func (l *limits) leave(p *pass, silent bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if silent {
		l.silent[p.of] = true
	} else {
		delete(l.silent, p.of)
	}
	l.free(p)
}

// free takes the places of a pass, and lets in who waits for them.
func (l *limits) free(p *pass) {
	for _, x := range p.places {
		if x == nil {
			continue
		}
		x.remove()
		if x.gate.queue.Len() > 0 {
			l.serve(x.gate, time.Now())
		}
	}
}

// remove takes a place that is in flight and was not given up yet.
func (p *place) remove() {
	if p.element != nil {
		p.gate.places.Remove(p.element)
		p.element = nil
	}
}

// crowdedError says that a request was not sent in time because of others.
type crowdedError struct{ err error }

func (e *crowdedError) Error() string { return "waiting for others: " + e.err.Error() }
func (e *crowdedError) Unwrap() error { return e.err }

// admit lets a place in when there is room.
func (l *limits) admit(p *place, now time.Time) bool {
	g := p.gate
	for g.places.Len() >= g.most {
		oldest := g.places.Front().Value.(*place)
		if now.Sub(oldest.since) < l.patience {
			return false
		}
		oldest.remove()
	}
	if p.session {
		g.tokens = min(g.rate, g.tokens+now.Sub(g.filled).Seconds()*g.rate)
		g.filled = now
		if g.tokens < 1 {
			return false
		}
		g.tokens--
	}
	p.since = now
	p.element = g.places.PushBack(p)
	return true
}

// serve lets in who waits, and sets the timer for the next.
func (l *limits) serve(g *gate, now time.Time) {
	for g.queue.Len() > 0 {
		e := g.queue.Front()
		p := e.Value.(*place)
		if !l.admit(p, now) {
			break
		}
		g.queue.Remove(e)
		close(p.admitted)
	}
	if g.queue.Len() == 0 {
		if g.timer != nil {
			g.timer.Stop()
			g.timer = nil
		}
		return
	}
	wait := time.Millisecond // for a token
	if g.places.Len() >= g.most {
		wait = max(wait, l.patience-now.Sub(g.places.Front().Value.(*place).since))
	}
	if g.timer != nil {
		g.timer.Reset(wait)
		return
	}
	g.timer = time.AfterFunc(wait, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if g.timer != nil {
			g.timer = nil
			l.serve(g, time.Now())
		}
	})
}
