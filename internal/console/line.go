package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"muster/internal/model"
)

// console is the line of one node. Its goroutine (run) is the only one that adds bytes.
type console struct {
	h    *Hub
	node string
	stop context.CancelCauseFunc // set before run starts; the cause is why the record ends
	done chan struct{}           // closed when run has returned

	changed chan struct{} // capacity 1: source has changed

	file sync.Mutex // held while the console's file is written; taken before mu
	tail *tail

	mu     sync.Mutex
	source Source
	key    string
	cancel context.CancelFunc // of the connection under way
	stream Stream             // nil while not connected
	state  State
	reason string
	since  time.Time

	ring      ring
	flushed   int64 // up to here the bytes are in the file
	journaled int64 // up to here they are in the journal
	t0        int64 // Unix milliseconds of the byte at flushed
	entries   []byte
	jidx      int // of entries, in the journal
	cur       entry
	idle      bool   // has had no connection yet in this run, and nobody has asked for its record: what is said of it stays in memory
	dirty     bool   // on the recorder's list
	inSegment bool   // on the recorder's list of the journal's segment
	failed    string // why it is not recorded
	lost      int64  // bytes that had to leave memory before they could be written, and
	lostWhy   string // why

	sessions []*Session
	writer   *Session

	look lookout
}

func newConsole(h *Hub, node model.NodeName, key string, src Source) *console {
	c := &console{
		h: h, node: string(node), key: key, source: src, state: Waiting, since: time.Now(),
		done: make(chan struct{}), changed: make(chan struct{}, 1),
	}
	c.look.found = func(rule, line string) { h.o.Alarm(Alarm{node, rule, line}) }
	return c
}

func (c *console) set(key string, src Source) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.source = src
	if key == c.key {
		return
	}
	c.key = key
	select {
	case c.changed <- struct{}{}:
	default:
	}
	if c.cancel != nil {
		c.cancel() // the connection under way
	}
}

func (c *console) info() Info {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := Info{
		Node: model.NodeName(c.node), State: c.state, Reason: c.reason, Since: c.since, Bytes: c.ring.high, Watchers: len(c.sessions),
	}
	if c.state == Connected {
		i.Reason = c.failed
	}
	if c.writer != nil {
		i.Writer = c.writer.o.Who
	}
	return i
}

var (
	errClosed  = errors.New("closed by the other side")
	errChanged = errors.New("its address or password was changed")
	errTimeout = errors.New("no answer in time")
)

// removal is why a console is kept no more.
type removal string

func (r removal) Error() string { return string(r) }

// attempts is what is known of the connections that were made.
type attempts struct {
	began       time.Time // the newest one
	lostAt      time.Time // zero before the first
	told, again string    // the newest reason that was marked; "again " once there was a connection
	delay       time.Duration
}

// run connects, records and reconnects until ctx ends. Ten thousand goroutines wait in it for output: the frames of run, connect and pump are kept small, so that the
// runtime can shrink the stacks to 4 KiB. What formats is in functions of its own.
func (c *console) run(ctx context.Context) {
	defer close(c.done)
	c.resume(ctx)
	a := &attempts{delay: c.h.o.Backoff}
	for ctx.Err() == nil {
		held, err := c.connect(ctx, a)
		if ctx.Err() == nil {
			c.lostLine(ctx, a, held, err)
		}
	}
	c.finish(ctx)
}

// up marks that a connection stands.
func (c *console) up(a *attempts) {
	a.began = time.Now()
	c.wake()
	if a.lostAt.IsZero() {
		c.mark(mark, "console connected")
	} else {
		c.mark(mark, fmt.Sprintf("console connected %safter %s", a.again, span(time.Since(a.lostAt))))
	}
	a.told, a.again = "", "again "
	c.setState(Connected, "")
}

// lostLine marks why there is no connection, and waits until another may be tried.
func (c *console) lostLine(ctx context.Context, a *attempts, held bool, err error) {
	if held || a.lostAt.IsZero() {
		a.lostAt = time.Now()
	}
	reason := oneLine(err.Error())
	if a.told != reason {
		what := "console lost: "
		switch {
		case a.told != "":
			what = "console still lost: "
		case !held:
			what = "console not connected: "
		}
		c.mark(mark, what+reason)
		a.told = reason
	}
	c.setState(Reconnecting, reason)
	if errors.Is(err, errChanged) || held && time.Since(a.began) >= time.Minute {
		a.delay = c.h.o.Backoff
	}
	if errors.Is(err, errChanged) {
		return
	}
	most := c.h.o.BackoffMax
	if refused(err) {
		a.delay, most = max(a.delay, refusedBackoff), refusedMax
	} else {
		a.delay = min(a.delay, most)
	}
	wait := time.NewTimer(a.delay/2 + rand.N(a.delay))
	defer wait.Stop()
	a.delay = min(2*a.delay, most)
	select {
	case <-ctx.Done():
	case <-wait.C:
	case <-c.changed:
		a.delay = c.h.o.Backoff
	}
}

// finish ends the record with the reason.
func (c *console) finish(ctx context.Context) {
	why := "muster stops"
	if r := removal(""); errors.As(context.Cause(ctx), &r) {
		why = string(r)
	}
	c.mark(ending, "recording ends: "+why)
	c.setState(Waiting, "stopped: "+why)
}

// The waits after a refused login; see [Source].
const (
	refusedBackoff = 5 * time.Minute
	refusedMax     = time.Hour
)

// refused says whether a source was refused the login.
func refused(err error) bool {
	var r interface{ Refused() bool }
	return errors.As(err, &r) && r.Refused()
}

// connect makes one connection and records until it is lost. held says that it stood.
func (c *console) connect(ctx context.Context, a *attempts) (held bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, conn, key, err := c.dial(ctx, cancel, a)
	if err == nil {
		held = true
		c.up(a)
		closed := make(chan struct{})
		unhook := context.AfterFunc(ctx, func() {
			s.Close()
			close(closed)
		})
		if conn != nil {
			err = c.h.poll.pump(c, conn)
		} else {
			err = c.pump(s)
		}
		c.look.end()
		c.mu.Lock()
		c.stream = nil
		c.mu.Unlock()
		if unhook() {
			s.Close()
		} else {
			<-closed
		}
		if errors.Is(err, io.EOF) {
			err = errClosed
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cancel = nil
	if c.key != key {
		err = errChanged
	}
	return held, err
}

// dial makes a connection, when its turn has come; key is that of the source that was asked, conn is not nil when the poller is to read it.
func (c *console) dial(ctx context.Context, cancel context.CancelFunc, a *attempts) (s Stream, conn *socket, key string, err error) {
	select {
	case <-c.changed:
	default:
	}
	a.began = time.Now()
	c.mu.Lock()
	c.cancel = cancel
	src, key := c.source, c.key
	c.mu.Unlock()
	if err := c.h.rate.Wait(ctx); err != nil {
		return nil, nil, key, err
	}
	timeout := time.AfterFunc(c.h.o.ConnectTimeout, cancel)
	s, err = src(ctx)
	inTime := timeout.Stop()
	switch {
	case err != nil && !inTime:
		return nil, nil, key, errTimeout
	case err != nil:
		return nil, nil, key, err
	}
	s, conn = c.h.poll.adopt(s)
	c.mu.Lock()
	ok := ctx.Err() == nil && c.key == key
	if ok {
		c.stream = s
	}
	c.mu.Unlock()
	if !ok {
		s.Close()
		return nil, nil, key, errTimeout
	}
	return s, conn, key, nil
}

// pump records what the stream gives. Its buffer is small while little comes: there may be ten thousand of them.
func (c *console) pump(s Stream) error {
	const small, large = 512, 16 << 10
	buf := make([]byte, small)
	slack := 0
	for {
		n, err := s.Read(buf)
		if n > 0 {
			c.take(buf[:n])
		}
		if err != nil {
			return err
		}
		switch {
		case n == len(buf) && n < large:
			buf, slack = make([]byte, 2*n), 0
		case n > small || len(buf) == small:
			slack = 0
		default:
			if slack++; slack == 64 {
				buf = make([]byte, small)
			}
		}
	}
}

// take records what a stream gave.
func (c *console) take(p []byte) {
	c.tellLost()
	c.add(output, p)
	c.look.feed(p)
}

// watched says that somebody is attached.
func (c *console) watched() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.sessions) > 0
}

// full says that there is no room for n bytes before the disk has some.
func (c *console) full(n int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ring.high+int64(n)-c.flushed > ringMax
}

// add appends output to the stream, wakes the watchers and tells the recorder. It waits for the disk only when the memory for
// one console is full.
func (c *console) add(k kind, p []byte) {
	c.mu.Lock()
	for c.ring.high+int64(len(p))-c.flushed > ringMax {
		c.mu.Unlock()
		_ = c.flush(true) // a failure shows in info and in the record, and the recorder logs it
		c.mu.Lock()
	}
	keep := c.flushed
	memory := c.h.rec == nil
	if memory || len(c.sessions) > 0 {
		keep = c.ring.high + int64(len(p)) - ringMax
	}
	c.ring.write(p, keep)
	tell := false
	if memory {
		c.flushed = c.ring.high
	} else {
		c.note(time.Now(), k, len(p))
		if !c.idle || c.ring.high-c.flushed >= flushSize {
			c.idle = false
			tell, c.dirty = !c.dirty, true
		}
	}
	for _, s := range c.sessions {
		s.poke()
	}
	c.mu.Unlock()
	if tell {
		c.h.rec.touch(c)
	}
}

// tellLost marks a gap in the record as soon as it is written again. What is lost is at the mark, or right before it.
func (c *console) tellLost() {
	c.mu.Lock()
	n, why := c.lost, c.lostWhy
	again := n > 0 && c.failed == ""
	if again {
		c.lost = 0
	}
	c.mu.Unlock()
	if again {
		c.mark(mark, fmt.Sprintf("%d bytes are missing here: they could not be recorded: %s", n, why))
	}
}

// wake begins the record of an idle console with what was said of it so far.
func (c *console) wake() {
	c.mu.Lock()
	tell := c.idle && !c.dirty
	c.idle, c.dirty = false, c.dirty || tell
	c.mu.Unlock()
	if tell {
		c.h.rec.touch(c)
	}
}

// mark writes a line of ours into the record, on a line of its own.
func (c *console) mark(k kind, text string) {
	c.add(k, fmt.Appendf(nil, "\r\n[muster: %s %s]\r\n", time.Now().Format(time.TimeOnly), text))
}

// resume finds where the record of an earlier run ended, and says in it what happened between.
func (c *console) resume(ctx context.Context) {
	if c.h.rec == nil {
		return
	}
	for delay := time.Second; ; delay = min(2*delay, time.Minute) {
		c.file.Lock()
		t, err := c.openTail()
		c.file.Unlock()
		if err == nil {
			c.begin(t)
			return
		}
		c.setState(Waiting, oneLine(err.Error()))
		c.h.o.Log.Error("console record cannot be read", "node", c.node, "error", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(delay):
		}
	}
}

func (c *console) begin(t *tail) {
	end := t.end()
	c.mu.Lock()
	c.ring.low, c.ring.high, c.flushed, c.journaled, c.idle = end, end, end, end, true
	c.mu.Unlock()
	today := time.Now().Format("2006-01-02 -0700")
	last := time.UnixMilli(t.last)
	switch {
	case t.last == 0:
		c.mark(mark, "recording begins, "+today)
	case t.closed:
		c.mark(mark, fmt.Sprintf("recording goes on after %s, %s", span(time.Since(last)), today))
	default:
		c.mark(mark, fmt.Sprintf("recording was interrupted: muster did not stop cleanly; the last output is of %s; %s",
			last.Format(time.DateTime), today))
	}
}

func span(d time.Duration) string {
	if d < time.Second {
		return d.Round(time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

func (c *console) setState(s State, reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != s {
		c.since = time.Now()
	}
	if c.state == s && c.reason == reason {
		return
	}
	c.state, c.reason = s, reason
	for _, w := range c.sessions {
		w.tell(c.stateEvent())
	}
}

func (c *console) stateEvent() Event {
	e := Event{Type: StateEvent, Text: string(c.state)}
	if c.reason != "" {
		e.Text += ": " + c.reason
	}
	return e
}
