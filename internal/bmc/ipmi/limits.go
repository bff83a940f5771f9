package ipmi

import (
	"container/list"
	"context"
	"net/netip"
	"sync"
	"time"
)

// Limits of a subnet when [Options] say nothing. The networks of controllers are slow and their switches small: what comes at once from 10,000 of them, and
// the address resolution before it, is lost there and asked again.
const (
	usualSubnetInFlight = 1024
	usualSubnetSessions = 5000
)

// limits bounds what goes on at once in a subnet: controllers that are asked, and sessions begun in a second. Beside it each controller is asked one thing at
// a time. Dead controllers do not keep live ones waiting: a request that nobody answers gives its place up after a while, and the next one to a controller that
// was silent takes none.
type limits struct {
	inFlight int           // controllers of a subnet
	rate     float64       // sessions of a subnet in a second, and at once
	patience time.Duration // after which a place counts as free

	mu      sync.Mutex
	subnets map[netip.Prefix]*subnet
	silent  map[netip.AddrPort]bool
}

// subnet is one of those that something goes on in.
type subnet struct {
	places list.List // of *place, the oldest first
	queue  list.List // of *place that wait
	tokens float64   // sessions that may begin now
	filled time.Time
	timer  *time.Timer // rings for the queue; nil: nobody waits
}

// place is one request's, in the queue or in flight.
type place struct {
	subnet   *subnet
	of       netip.AddrPort
	element  *list.Element
	since    time.Time
	session  bool          // begins a session
	admitted chan struct{} // closed when it may
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

// enter waits until a request may go on; the place is to be given back to leave, once. session says that it begins one.
func (l *limits) enter(ctx context.Context, to netip.AddrPort, session bool) (*place, error) {
	now := time.Now()
	l.mu.Lock()
	key := subnetOf(to.Addr())
	s := l.subnets[key]
	if s == nil {
		if l.subnets == nil {
			l.subnets, l.silent = map[netip.Prefix]*subnet{}, map[netip.AddrPort]bool{}
		}
		s = &subnet{tokens: l.rate, filled: now}
		l.subnets[key] = s
	}
	p := &place{subnet: s, of: to, session: session}
	if l.silent[to] || s.queue.Len() == 0 && l.admit(s, p, now) {
		l.mu.Unlock()
		return p, nil
	}
	p.admitted = make(chan struct{})
	p.element = s.queue.PushBack(p)
	l.serve(s, now)
	l.mu.Unlock()
	select {
	case <-p.admitted:
		return p, nil
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-p.admitted: // both at once
		l.free(p)
	default:
		s.queue.Remove(p.element)
	}
	l.serve(s, time.Now())
	return nil, &crowdedError{ctx.Err()}
}

// leave gives a place back, and says whether the controller was silent.
func (l *limits) leave(p *place, silent bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if silent {
		l.silent[p.of] = true
	} else {
		delete(l.silent, p.of)
	}
	l.free(p)
	if p.subnet.queue.Len() > 0 {
		l.serve(p.subnet, time.Now())
	}
}

// free takes a place that is in flight and was not given up yet.
func (l *limits) free(p *place) {
	if p.element != nil {
		p.subnet.places.Remove(p.element)
		p.element = nil
	}
}

// crowdedError says that a request was not sent in time because of others.
type crowdedError struct{ err error }

func (e *crowdedError) Error() string { return "waiting for others of the subnet: " + e.err.Error() }
func (e *crowdedError) Unwrap() error { return e.err }

// admit lets a place in when there is room.
func (l *limits) admit(s *subnet, p *place, now time.Time) bool {
	for s.places.Len() >= l.inFlight {
		oldest := s.places.Front().Value.(*place)
		if now.Sub(oldest.since) < l.patience {
			return false
		}
		l.free(oldest)
	}
	if p.session {
		s.tokens = min(l.rate, s.tokens+now.Sub(s.filled).Seconds()*l.rate)
		s.filled = now
		if s.tokens < 1 {
			return false
		}
		s.tokens--
	}
	p.since = now
	p.element = s.places.PushBack(p)
	return true
}

// serve lets in who waits, and sets the timer for the next.
func (l *limits) serve(s *subnet, now time.Time) {
	for s.queue.Len() > 0 {
		e := s.queue.Front()
		p := e.Value.(*place)
		if !l.admit(s, p, now) {
			break
		}
		s.queue.Remove(e)
		close(p.admitted)
	}
	if s.queue.Len() == 0 {
		if s.timer != nil {
			s.timer.Stop()
			s.timer = nil
		}
		return
	}
	wait := time.Millisecond // for a token
	if s.places.Len() >= l.inFlight {
		wait = max(wait, l.patience-now.Sub(s.places.Front().Value.(*place).since))
	}
	if s.timer != nil {
		s.timer.Reset(wait)
		return
	}
	s.timer = time.AfterFunc(wait, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if s.timer != nil {
			s.timer = nil
			l.serve(s, time.Now())
		}
	})
}
