package ipmi

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	wire "muster/internal/wire/ipmi"
)

// peer is the machine of one controller with its lock, its socket and those who wait for it.
type peer struct {
	engine *Engine
	key    key
	to     netip.AddrPort
	conn   *net.UDPConn

	// Guarded by engine.mu.
	users    int
	deadline time.Time
	place    int // in engine.due, -1 when not there

	mu      sync.Mutex
	closed  bool // by Engine.Close
	machine *wire.Peer
	planned time.Time // newest deadline given to the engine, zero after it has come
	waiting map[uint64]chan wire.Event
	stream  *stream
	unsent  error // why the newest packet could not be sent, nil when it was
}

// do sends one request and waits for its answer, at most as long as the context lets it.
func (p *peer) do(ctx context.Context, r wire.Request, name string) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p.mu.Lock()
	session := !p.machine.Open()
	p.mu.Unlock()
	pass, err := p.engine.limits.enter(ctx, p.to, session)
	if err != nil {
		return nil, err
	}
	data, err := p.doNow(ctx, r, name)
	p.engine.limits.leave(pass, silence(err))
	return data, err
}

// silence says that nobody answered.
func silence(err error) bool {
	var w *wire.Error
	return errors.As(err, &w) && w.Cause == wire.NoAnswer || errors.Is(err, context.DeadlineExceeded)
}

// doNow is do past the limits.
func (p *peer) doNow(ctx context.Context, r wire.Request, name string) ([]byte, error) {
	answer := make(chan wire.Event, 1)
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, errClosed
	}
	id := p.machine.Do(time.Now(), r, name)
	p.waiting[id] = answer
	p.flush()
	p.mu.Unlock()
	select {
	case e := <-answer:
		return e.Data, e.Err
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.waiting, id)
	sent := p.machine.Cancel(time.Now(), id)
	p.flush()
	if sent && r.Once {
		return nil, &wire.Error{Cause: wire.AnswerLost, Step: name}
	}
	return nil, ctx.Err()
}

// session says how the controller is talked to.
func (p *peer) session() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.machine.Session()
}

// input takes a packet of the controller; false says that it is for another peer of the same address.
func (p *peer) input(id uint32, b []byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.machine.Owns(id) {
		return false
	}
	p.machine.Input(time.Now(), b)
	p.flush()
	return true
}

// flush carries out what the machine wants: packets to the socket, events to those who wait, its next deadline to the
// timer. It follows every call of the machine. p.mu is held.
func (p *peer) flush() {
	for _, b := range p.machine.Packets() {
		_, p.unsent = p.conn.WriteToUDPAddrPort(b, p.to)
	}
	ended := false
	for _, e := range p.machine.Events() {
		switch e.Kind {
		case wire.Answered:
			if w := p.waiting[e.ID]; w != nil {
				delete(p.waiting, e.ID)
				w <- e
			}
		case wire.SessionOpen:
			p.engine.remember(p, e.Suite)
		case wire.SessionEnd:
			ended = true
		case wire.SerialOpen, wire.SerialData, wire.SerialRoom, wire.SerialClosed:
			p.serial(e)
		}
	}
	p.engine.schedule(p, p.machine.Next())
	if ended {
		p.engine.log.Debug("IPMI session ended", "bmc", p.key.String())
	}
	if !p.machine.Open() { // its last session, or the attempt at one, is over
		p.engine.mu.Lock()
		p.engine.forget(p)
		p.engine.mu.Unlock()
	}
}

// serial tells the stream. p.mu is held.
func (p *peer) serial(e wire.Event) {
	s := p.stream
	if s == nil {
		return
	}
	switch e.Kind {
	case wire.SerialOpen:
		close(s.opened)
		s.open = true
	case wire.SerialData:
		s.buf = append(s.buf, e.Data...)
		if len(s.buf) > streamBuffer && !s.held {
			s.held = true
			p.machine.Hold(true)
		}
	case wire.SerialClosed:
		p.stream = nil
		s.end(e.Err)
	}
	s.changed.Broadcast()
}

// remember keeps what a controller has accepted, for its later sessions.
func (e *Engine) remember(p *peer, s wire.Suite) {
	e.log.Debug("IPMI session open", "bmc", p.key.String(), "suite", int(s))
	e.mu.Lock()
	defer e.mu.Unlock()
	e.suites[p.to] = s
}
