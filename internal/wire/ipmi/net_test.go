package ipmi

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"sort"
	"testing"
	"time"

	"muster/internal/wire/ipmi/ipmitest"
)

// loss is how a network treats packets, each probability for itself.
type loss struct {
	drop, double, delay float64
	jitter              time.Duration // delayed packets come up to this much later, and so out of order
}

// world is one peer and one BMC with a network between them, all in simulated time and from one seed.
type world struct {
	t      *testing.T
	rng    *rand.Rand
	loss   loss
	now    time.Time
	peer   *Peer
	bmc    *ipmitest.BMC
	flying []flight
	sent   int

	answers map[uint64]Event
	read    bytes.Buffer
	opens   []Suite
	line    bool
	closed  []error
}

type flight struct {
	at    time.Time
	order int
	toBMC bool
	b     []byte
}

func newWorld(t *testing.T, seed uint64, l loss, edit func(*Config, *ipmitest.BMC)) *world {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 1))
	random := func(b []byte) {
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
	}
	w := &world{t: t, rng: rng, loss: l, now: time.Unix(1e9, 0), answers: map[uint64]Event{}}
	w.bmc = &ipmitest.BMC{User: "admin", Password: "secret", Rand: random}
	c := Config{User: "admin", Password: "secret", Rand: random}
	if edit != nil {
		edit(&c, w.bmc)
	}
	p, err := NewPeer(c)
	if err != nil {
		t.Fatal(err)
	}
	w.peer = p
	return w
}

const latency = time.Millisecond

func (w *world) post(toBMC bool, b []byte) {
	n := 1
	if w.rng.Float64() < w.loss.double {
		n = 2
	}
	for range n {
		if w.rng.Float64() < w.loss.drop {
			continue
		}
		at := w.now.Add(latency)
		if w.rng.Float64() < w.loss.delay {
			at = at.Add(time.Duration(w.rng.Int64N(int64(w.loss.jitter))))
		}
		w.sent++
		w.flying = append(w.flying, flight{at, w.sent, toBMC, bytes.Clone(b)})
	}
	sort.SliceStable(w.flying, func(i, k int) bool { return w.flying[i].at.Before(w.flying[k].at) })
}

// flush carries out what both sides want.
func (w *world) flush() {
	for _, b := range w.peer.Packets() {
		w.post(true, b)
	}
	for _, e := range w.peer.Events() {
		switch e.Kind {
		case Answered:
			if _, twice := w.answers[e.ID]; twice {
				w.t.Fatalf("request %d was answered twice", e.ID)
			}
			w.answers[e.ID] = e
		case SessionOpen:
			w.opens = append(w.opens, e.Suite)
		case SerialOpen:
			w.line = true
		case SerialData:
			w.read.Write(e.Data)
		case SerialClosed:
			w.line = false
			w.closed = append(w.closed, e.Err)
		}
	}
	for _, b := range w.bmc.Output() {
		w.post(false, b)
	}
}

const step = 10 * time.Millisecond

// until lets the world run to a condition, at most for a simulated time.
func (w *world) until(what string, most time.Duration, cond func() bool) {
	w.t.Helper()
	end := w.now.Add(most)
	w.flush()
	for !cond() {
		if w.now.After(end) {
			w.t.Fatalf("no %s after %v of simulated time", what, most)
		}
		next := w.now.Add(step) // the BMC's own clock
		if len(w.flying) > 0 && w.flying[0].at.Before(next) {
			next = w.flying[0].at
		}
		if n := w.peer.Next(); !n.IsZero() && n.Before(next) {
			next = n
		}
		if next.After(w.now) {
			w.now = next
		}
		w.bmc.Tick(w.now)
		if n := w.peer.Next(); !n.IsZero() && !w.now.Before(n) {
			w.peer.Tick(w.now)
			w.flush()
		}
		for len(w.flying) > 0 && !w.flying[0].at.After(w.now) {
			f := w.flying[0]
			w.flying = w.flying[1:]
			if f.toBMC {
				w.bmc.Input(w.now, f.b)
			} else {
				w.peer.Input(w.now, f.b)
			}
			w.flush()
		}
	}
}

// do runs one request to its end.
func (w *world) do(r Request) ([]byte, error) {
	w.t.Helper()
	id := w.peer.Do(w.now, r, "command")
	w.until("answer", 3*time.Minute, func() bool { _, ok := w.answers[id]; return ok })
	return w.answers[id].Data, w.answers[id].Err
}

func (w *world) connect() {
	w.t.Helper()
	w.peer.OpenSerial(w.now)
	n := len(w.closed)
	w.until("serial line", 3*time.Minute, func() bool { return w.line || len(w.closed) > n })
	if !w.line {
		w.t.Fatalf("no serial line: %v", w.closed)
	}
}

// wait lets a time pass.
func (w *world) wait(d time.Duration) {
	end := w.now.Add(d)
	w.until("time", d+time.Second, func() bool { return !w.now.Before(end) })
}

func text(n int) []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "%d: the quick brown fox\r\n", i)
	}
	return b.Bytes()[:n]
}
