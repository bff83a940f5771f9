package console

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"

	"muster/internal/model"
)

// AttachOptions say how somebody watches a console.
type AttachOptions struct {
	Write bool   // wants the keyboard when nobody has it
	Take  bool   // takes it from whoever has it
	Who   string // "root (uid 0)", told to the others
	// Cols and Rows are the size of the watcher's terminal; zero means 80 × 25. The screen is drawn for it.
	Cols, Rows int
}

// EventType says what an event is about.
type EventType string

// The events of a session.
const (
	StateEvent  EventType = "state"  // Text: "connected", "reconnecting: BMC 10.1.7.7 does not answer"
	WriterEvent EventType = "writer" // Text: who has the keyboard now, "" when nobody has
)

// Event tells a watcher of what is not output.
type Event struct {
	Type EventType
	Text string
	Mine bool // the watcher itself has the keyboard
}

// Session is one watcher. Read gives first the screen as it is and then what comes; Read is for one goroutine, the other methods
// may be called from any.
type Session struct {
	c      *console
	o      AttachOptions
	screen []byte // still to be read, before the live bytes
	events chan Event
	wake   chan struct{} // capacity 1
	done   chan struct{}
	once   sync.Once
	unhook func() bool

	// guarded by c.mu
	pos int64 // of the next live byte
}

// Attach begins to watch the console of a node. The session ends with Close, with ctx, or when the node's console is
// removed; Read returns io.EOF then.
func (h *Hub) Attach(ctx context.Context, node model.NodeName, o AttachOptions) (*Session, error) {
	c := h.lookup(node)
	if c == nil {
		return nil, &Error{"console " + string(node), noConsole, "Set bmc.address, bmc.user and bmc.password of the node, or console.source"}
	}
	s := &Session{c: c, o: o, events: make(chan Event, 16), wake: make(chan struct{}, 1), done: make(chan struct{})}

	c.mu.Lock()
	end, low := c.ring.high, max(c.ring.low, c.ring.high-ringMax)
	recent := c.ring.appendTo(nil, low, end)
	s.pos = end
	c.sessions = append(c.sessions, s)
	s.tell(c.stateEvent())
	switch {
	case o.Write && (o.Take || c.writer == nil):
		c.setWriter(s)
	case c.writer != nil:
		s.tell(Event{Type: WriterEvent, Text: c.writer.o.Who})
	}
	c.mu.Unlock()

	if h.root != nil && end-low < ringMax {
		older, err := readBefore(h.root, c.node, low, int(ringMax-(end-low)))
		if err != nil {
			s.Close()
			return nil, &Error{"console " + string(node), err.Error(), "Look at the directory of the console record"}
		}
		recent = append(older, recent...)
	}
	s.screen = drawScreen(recent, o.Cols, o.Rows)
	s.unhook = context.AfterFunc(ctx, s.end)
	return s, nil
}

// Read waits for output. A watcher that is more than 64 KiB behind is told how much it has missed.
func (s *Session) Read(p []byte) (int, error) {
	if len(s.screen) > 0 {
		n := copy(p, s.screen)
		s.screen = s.screen[n:]
		return n, nil
	}
	for len(p) > 0 {
		s.c.mu.Lock()
		r := &s.c.ring
		if missed := r.low - s.pos; missed > 0 {
			s.pos = r.low
			s.screen = fmt.Appendf(nil, "\r\n[… %d bytes skipped: this watcher is too slow; the record has them]\r\n", missed)
			s.c.mu.Unlock()
			return s.Read(p)
		}
		if s.pos < r.high {
			to := min(r.high, s.pos+int64(len(p)))
			a, b := r.parts(s.pos, to)
			n := copy(p, a)
			n += copy(p[n:], b)
			s.pos = to
			s.c.mu.Unlock()
			return n, nil
		}
		s.c.mu.Unlock()
		select {
		case <-s.wake:
		case <-s.done:
			return 0, io.EOF
		}
	}
	return 0, nil
}

// Write sends input to the machine. Only the writer may; a session that was attached for writing becomes it when
// nobody is.
func (s *Session) Write(p []byte) (int, error) {
	done := 0
	for {
		st, err := s.keyboard("write")
		if err != nil {
			return done, err
		}
		n, err := st.Write(p[done:min(len(p), done+pasteSize)])
		done += n
		if err != nil {
			return done, &Error{"console " + s.c.node + ": write", err.Error(), "It reconnects by itself; what was typed is lost"}
		}
		if done == len(p) {
			return done, nil
		}
	}
}

// pasteSize is how much of a long input is written before the keyboard is looked at again: somebody may have taken it over
// while the machine was slow to read.
const pasteSize = 1 << 10

// Break sends a serial break, under the same rules as Write.
func (s *Session) Break() error {
	st, err := s.keyboard("break")
	if err != nil {
		return err
	}
	if err := st.Break(); err != nil {
		return &Error{"console " + s.c.node + ": break", err.Error(), "It reconnects by itself; send the break again then"}
	}
	return nil
}

func (s *Session) keyboard(what string) (Stream, error) {
	c := s.c
	what = "console " + c.node + ": " + what
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !slices.Contains(c.sessions, s):
		return nil, &Error{what, "the session has ended", "Attach again"}
	case !s.o.Write:
		return nil, &Error{what, "attached for watching only", "Attach without --watch"}
	case c.writer == nil:
		c.setWriter(s)
	case c.writer != s:
		return nil, &Error{what, c.writer.o.Who + " has the keyboard", "Take it over, or wait"}
	}
	if c.stream == nil {
		why := "not connected yet"
		if c.reason != "" {
			why = "not connected: " + c.reason
		}
		return nil, &Error{what, why, "It reconnects by itself"}
	}
	return c.stream, nil
}

// Take makes this session the writer; the one who was is told. It makes a watcher a writer, so the caller asks first whether
// the person may.
func (s *Session) Take() {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if slices.Contains(s.c.sessions, s) {
		s.o.Write = true
		s.c.setWriter(s)
	}
}

// Events tells of changes, beginning with the state at the time of Attach. When nobody reads, the oldest are dropped. It is
// closed with the session.
func (s *Session) Events() <-chan Event { return s.events }

// Close ends the session. It may be called more than once.
func (s *Session) Close() error {
	if s.unhook != nil {
		s.unhook()
	}
	s.end()
	return nil
}

func (s *Session) end() {
	s.once.Do(func() {
		c := s.c
		c.mu.Lock()
		defer c.mu.Unlock()
		c.sessions = slices.DeleteFunc(c.sessions, func(x *Session) bool { return x == s })
		if c.writer == s {
			c.setWriter(nil)
		}
		if len(c.sessions) == 0 && c.h.rec != nil {
			c.ring.forget(c.flushed)
		}
		close(s.events)
		close(s.done)
	})
}

func (c *console) closeSessions() {
	c.mu.Lock()
	all := slices.Clone(c.sessions)
	c.mu.Unlock()
	for _, s := range all {
		s.end()
	}
}

// setWriter gives the keyboard to s, or to nobody. c.mu is held.
func (c *console) setWriter(s *Session) {
	if c.writer == s {
		return
	}
	c.writer = s
	e := Event{Type: WriterEvent}
	if s != nil {
		e.Text = s.o.Who
	}
	for _, w := range c.sessions {
		e.Mine = w == s
		w.tell(e)
	}
}

// tell queues an event; of a queue that nobody reads the oldest goes. c.mu is held.
func (s *Session) tell(e Event) {
	for {
		select {
		case s.events <- e:
			return
		default:
		}
		select {
		case <-s.events:
		default:
		}
	}
}

// poke wakes the reader. c.mu is held.
func (s *Session) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}
