// Package console keeps one serial stream per node: always recorded, shared by many watchers, with a log that can be
// read, searched by time and played back.
//
//	           Source ──► Stream (serial over LAN; a socket: [Dial])
//	                        │ one goroutine per console, for sockets one in all
//	                        ▼
//	watchers ◄────────  ring of unsaved bytes (1…64 KiB)
//	                        │ every 0.5 s, all consoles in one write and one fdatasync
//	                        ▼
//	                DIR/.journal/0000000000000001
//	                        │ once a minute, or when 8 KiB have gathered
//	                        ▼
//	        DIR/NODE/20261120T062213.000Z-0000000000000000.log    the bytes, as they came: read it with less
//	        DIR/NODE/20261120T062213.000Z-0000000000000000.idx    when they came, with checksums
//
// It promises:
//   - a byte that has reached the journal survives kill -9 and a power cut; at most the last half second is lost, and
//     every gap in the record is marked in the text with its reason and time;
//   - a torn end of any file is found by its checksum and is harmless: the next start goes on behind it;
//   - a watcher never delays the recorder: one that is too slow is told how many bytes it has missed;
//   - an idle console costs a parked goroutine and nothing else: no open file, no timer, no buffer above 4 KiB;
//   - one that never connected writes nothing, until somebody reads its record: why it does not is kept in memory;
//   - a thousand consoles that are lost together come back at a limited rate, each with its own back-off;
//   - a line that matches the console's [Rules] is told once in ten minutes, and looking for it costs a table step a byte.
//
// Input from watchers is not recorded: it may hold passwords.
package console

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"muster/internal/model"
)

// Stream is a connected serial line. Close unblocks a Read that is under way; Break sends a serial break.
type Stream interface {
	io.ReadWriteCloser
	Break() error
}

// Source connects the console of one node. It is called again after every loss, never twice at a time. ctx ends when
// the node is removed, gets another source, or the hub stops; the stream is closed by the hub then. An error whose method
// Refused() bool answers true says that the login was refused: who insists on it gets the account locked, so the source is
// called again after five minutes first, and in the end once an hour, or when its key changes.
type Source func(ctx context.Context) (Stream, error)

// Options of a hub. The zero value records nothing and keeps the last 64 KiB of every console in memory.
type Options struct {
	// Dir holds one directory per node and the journal; it is made with mode 0700. Empty: memory only.
	Dir string
	// Log gets what the hub itself has to say; nil is silent.
	Log *slog.Logger
	// Alarm is told of lines that match a console's rules ([Hub.SetAlarms]), once in ten minutes for each rule of a console. It is called by the goroutine
	// that records, so it must not wait. Nil: nobody wants to know.
	Alarm func(Alarm)
	// Batch is the longest time that a byte waits for the disk. Zero means half a second.
	Batch time.Duration
	// Rotate begins a new file when one has this many bytes. Zero means 4 MiB. Older files are compressed.
	Rotate int64
	// KeepBytes limits what all consoles have on disk, the oldest files go first. Zero means 8 GiB.
	KeepBytes int64
	// KeepFor removes files that ended longer ago. Zero means 90 days.
	KeepFor time.Duration
	// ConnectRate limits the connection attempts of all consoles together, per second. Zero means 500: ten thousand
	// consoles that are lost at once are back in 20 s.
	ConnectRate int
	// ConnectTimeout ends an attempt to connect. Zero means 30 s.
	ConnectTimeout time.Duration
	// Backoff is the wait before the first new attempt; it doubles up to BackoffMax, each time with ±50 % jitter. A connection
	// that held for a minute begins anew. Zero means 1 s, and one minute for BackoffMax.
	Backoff, BackoffMax time.Duration
}

func (o Options) withDefaults() Options {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Alarm == nil {
		o.Alarm = func(Alarm) {}
	}
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&o.Batch, 500*time.Millisecond)
	def(&o.KeepFor, 90*24*time.Hour)
	def(&o.ConnectTimeout, 30*time.Second)
	def(&o.Backoff, time.Second)
	def(&o.BackoffMax, time.Minute)
	if o.Rotate == 0 {
		o.Rotate = 4 << 20
	}
	if o.KeepBytes == 0 {
		o.KeepBytes = 8 << 30
	}
	if o.ConnectRate == 0 {
		o.ConnectRate = 500
	}
	return o
}

// Error says what could not be done with a console, why, and what to do.
type Error struct{ What, Why, Do string }

func (e *Error) Error() string {
	s := e.What + ": " + e.Why
	if e.Do != "" {
		s += ". " + e.Do
	}
	return s
}

// ErrUnknown is matched by errors about a node that has neither a console nor a record.
var ErrUnknown = errors.New("unknown console")

// Is makes errors.Is(err, ErrUnknown) work.
func (e *Error) Is(target error) bool { return target == ErrUnknown && e.Why == noConsole }

const noConsole = "the node has no console"

// State is how a console stands.
type State string

// The states of a console.
const (
	Waiting      State = "waiting"      // for the first connection
	Connected    State = "connected"    // and recorded
	Reconnecting State = "reconnecting" // Reason says what happened
)

// Info is one console as List shows it.
type Info struct {
	Node     model.NodeName
	State    State
	Reason   string    // why it is not connected, or not recorded
	Since    time.Time // when State was entered
	Bytes    int64     // of output since the record of the node began
	Watchers int
	Writer   string // who has the keyboard, "" when nobody has
}

// Hub holds the consoles of all nodes.
type Hub struct {
	o    Options
	root *os.Root // of o.Dir, nil without one
	rate *rate.Limiter
	rec  *recorder // nil without Dir
	poll *poller   // set while Run runs

	mu       sync.Mutex
	consoles map[model.NodeName]*console
	start    func(*console) // set while Run runs
}

// New opens the directory of the record; nothing runs and nothing is changed in it before Run.
func New(o Options) (*Hub, error) {
	o = o.withDefaults()
	h := &Hub{
		o:        o,
		rate:     rate.NewLimiter(rate.Limit(o.ConnectRate), max(1, o.ConnectRate/10)),
		consoles: map[model.NodeName]*console{},
	}
	if o.Dir == "" {
		return h, nil
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, &Error{"console record", err.Error(), "Give the service a directory that it may write"}
	}
	root, err := os.OpenRoot(o.Dir)
	if err != nil {
		return nil, &Error{"console record", err.Error(), "Give the service a directory that it may read and write"}
	}
	h.root = root
	h.rec = &recorder{h: h, kick: make(chan struct{}, 1), rotated: make(chan closedFile, 64)}
	return h, nil
}

// Run takes the record's lock, puts what a killed predecessor left in the journal into its place, and then connects and
// records until ctx ends; it returns when every stream is closed and every byte is on disk. It is called once.
func (h *Hub) Run(ctx context.Context) error {
	var all, keeper sync.WaitGroup
	h.poll = &poller{ctx: ctx}
	defer h.poll.close()
	stop := func() {}
	if h.rec != nil {
		defer h.root.Close()
		if err := h.rec.open(); err != nil {
			return err
		}
		rctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		stop = cancel
		keeper.Go(func() { h.rec.run(rctx) })
		keeper.Go(func() { h.keep(rctx) })
	}
	defer stop()
	h.mu.Lock()
	h.start = func(c *console) {
		cctx, cancel := context.WithCancelCause(ctx)
		c.stop = cancel
		all.Go(func() {
			defer cancel(nil)
			c.run(cctx)
		})
	}
	for _, c := range h.consoles {
		h.start(c)
	}
	h.mu.Unlock()

	<-ctx.Done()
	h.mu.Lock()
	h.start = func(*console) {} // what is set from now on is not started
	h.mu.Unlock()
	all.Wait()
	stop()
	keeper.Wait()
	if h.rec != nil {
		return h.rec.close(h.list())
	}
	return nil
}

// Set gives a node its console. key is a fingerprint of what the source connects to and as whom: with the same key a running
// connection is left alone, with another one it is made anew at once. An error says that the name is not a node's.
func (h *Hub) Set(node model.NodeName, key string, src Source) error {
	if !validName(string(node)) {
		return &Error{"console", "\"" + string(node) + "\" is not the name of a node", "Use letters, digits, dots and hyphens (RFC 1123)"}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if c := h.consoles[node]; c != nil {
		c.set(key, src)
		return nil
	}
	c := newConsole(h, node, key, src)
	h.consoles[node] = c
	if h.start != nil {
		h.start(c)
	}
	return nil
}

// SetAlarms gives the console of a node the rules by which it raises alarms; nil is none. It is for consoles that were Set.
func (h *Hub) SetAlarms(node model.NodeName, r *Rules) {
	if c := h.lookup(node); c != nil {
		c.look.watchFor(r)
	}
}

// Remove ends the console of a node and its watchers' sessions; its record ends with the reason. What was recorded stays until retention takes it.
func (h *Hub) Remove(node model.NodeName, reason string) {
	h.mu.Lock()
	c := h.consoles[node]
	delete(h.consoles, node)
	h.mu.Unlock()
	if c == nil {
		return
	}
	if c.stop != nil {
		c.stop(removal(oneLine(reason)))
		<-c.done
	}
	c.closeSessions()
	if err := c.flush(false); err != nil {
		h.o.Log.Error("console record not written", "node", string(node), "error", err)
	}
}

// List tells of all consoles, in the order of their names' bytes.
func (h *Hub) List() []Info {
	var out []Info
	for _, c := range h.list() {
		out = append(out, c.info())
	}
	slices.SortFunc(out, func(a, b Info) int { return strings.Compare(string(a.Node), string(b.Node)) })
	return out
}

// Info tells of one console; false when the node has none.
func (h *Hub) Info(node model.NodeName) (Info, bool) {
	c := h.lookup(node)
	if c == nil {
		return Info{}, false
	}
	return c.info(), true
}

// Sync puts every byte that has arrived on stable storage and returns when it is there.
func (h *Hub) Sync() error {
	if h.rec == nil {
		return nil
	}
	return h.rec.batch()
}

func (h *Hub) list() []*console {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make([]*console, 0, len(h.consoles))
	for _, c := range h.consoles {
		out = append(out, c)
	}
	return out
}

func (h *Hub) lookup(node model.NodeName) *console {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.consoles[node]
}

// validName says whether s may become a directory: RFC 1123 labels (letters, digits, inner hyphens), at most 253 octets.
func validName(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, b := range []byte(label) {
			if !(b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || b == '-') {
				return false
			}
		}
	}
	return true
}
