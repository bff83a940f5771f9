package console

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"muster/internal/model"
)

func TestMain(m *testing.M) {
	childMain() // these two do not return in a child process of a test
	emitMain()
	goleak.VerifyTestMain(m)
}

// machine is the far end of fake serial lines: it connects as often as it is asked, unless it is down.
type machine struct {
	mu     sync.Mutex
	down   error
	dials  int
	breaks int
	line   net.Conn // our end of the newest line
	up     chan net.Conn
}

func newMachine() *machine { return &machine{up: make(chan net.Conn, 1000)} }

type pipe struct {
	net.Conn
	m *machine
}

func (p pipe) Break() error {
	p.m.mu.Lock()
	defer p.m.mu.Unlock()
	p.m.breaks++
	return nil
}

func (m *machine) source(context.Context) (Stream, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dials++
	if m.down != nil {
		return nil, m.down
	}
	here, there := net.Pipe()
	m.line = there
	m.up <- there
	return pipe{here, m}, nil
}

func (m *machine) setDown(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.down = err
	if err != nil && m.line != nil {
		m.line.Close()
	}
}

func (m *machine) count() (dials, breaks int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.dials, m.breaks
}

// startHub runs a hub until the test ends, or until stop is called.
func startHub(t testing.TB, o Options) (h *Hub, stop func()) {
	t.Helper()
	h, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := h.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	stop = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
	})
	t.Cleanup(stop)
	return h, stop
}

func set(t testing.TB, h *Hub, node model.NodeName, key string, src Source) {
	t.Helper()
	if err := h.Set(node, key, src); err != nil {
		t.Fatal(err)
	}
}

// send writes to the newest line and returns when the hub has read it.
func send(t testing.TB, line net.Conn, s string) {
	t.Helper()
	if _, err := io.WriteString(line, s); err != nil {
		t.Fatal(err)
	}
}

func attach(t testing.TB, h *Hub, node model.NodeName, o AttachOptions) *Session {
	t.Helper()
	s, err := h.Attach(t.Context(), node, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// readUntil reads until want has come.
func readUntil(t testing.TB, r io.Reader, want string) string {
	t.Helper()
	var got strings.Builder
	buf := make([]byte, 4096)
	for !strings.Contains(got.String(), want) {
		n, err := r.Read(buf)
		got.Write(buf[:n])
		if err != nil {
			t.Fatalf("read: %v; want %q, got %q", err, want, got.String())
		}
	}
	return got.String()
}

// waitEvent reads events until one is want.
func waitEvent(t testing.TB, s *Session, want Event) {
	t.Helper()
	for e := range s.Events() {
		if e == want {
			return
		}
	}
	t.Fatalf("session ended without the event %v", want)
}

func logOf(t testing.TB, h *Hub, node model.NodeName, o LogOptions) string {
	t.Helper()
	r, err := h.Log(node, o)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestAttach(t *testing.T) {
	for _, mode := range []string{"memory", "recorded"} {
		t.Run(mode, func(t *testing.T) {
			o := Options{}
			if mode == "recorded" {
				o.Dir = t.TempDir()
			}
			h, _ := startHub(t, o)
			m := newMachine()
			set(t, h, "r1n1", "k", m.source)
			line := <-m.up

			a := attach(t, h, "r1n1", AttachOptions{Write: true, Who: "ann"})
			send(t, line, "GRUB menu\r\n")
			readUntil(t, a, "GRUB menu")

			b := attach(t, h, "r1n1", AttachOptions{Write: true, Who: "bob"})
			if got := readUntil(t, b, "GRUB menu"); !strings.HasPrefix(got, "\x1bc") {
				t.Errorf("the replay does not begin with a reset: %q", got)
			}
			send(t, line, "live\r\n")
			readUntil(t, a, "live")
			readUntil(t, b, "live")

			go a.Write([]byte("ls\r"))
			buf := make([]byte, 3)
			if _, err := io.ReadFull(line, buf); err != nil || string(buf) != "ls\r" {
				t.Errorf("the machine got %q, %v", buf, err)
			}

			var ce *Error
			if _, err := b.Write([]byte("x")); !errors.As(err, &ce) || ce.Why != "ann has the keyboard" {
				t.Errorf("bob's write: %v", err)
			}
			b.Take()
			waitEvent(t, a, Event{Type: WriterEvent, Text: "bob"})
			if err := a.Break(); !errors.As(err, &ce) || ce.Why != "bob has the keyboard" {
				t.Errorf("ann's break after bob took over: %v", err)
			}
			if err := b.Break(); err != nil {
				t.Error(err)
			}
			if _, n := m.count(); n != 1 {
				t.Errorf("%d breaks reached the machine", n)
			}
			b.Close()
			if err := a.Break(); err != nil { // nobody has the keyboard: ann gets it by using it
				t.Error(err)
			}
			waitEvent(t, a, Event{Type: WriterEvent, Text: "ann", Mine: true})
			w := attach(t, h, "r1n1", AttachOptions{Who: "eve"})
			waitEvent(t, w, Event{Type: WriterEvent, Text: "ann"})
			if _, err := w.Write([]byte("x")); err == nil {
				t.Error("a watcher wrote")
			}
			if i, ok := h.Info("r1n1"); !ok || i.State != Connected || i.Watchers != 2 || i.Writer != "ann" {
				t.Errorf("info: %+v", i)
			}
			h.Remove("r1n1", "the node was removed")
			if _, err := io.ReadAll(w); err != nil {
				t.Errorf("after the node was removed: %v, want the end", err)
			}
			if _, err := h.Attach(t.Context(), "r1n1", AttachOptions{}); !errors.Is(err, ErrUnknown) {
				t.Errorf("attach to a removed node: %v", err)
			}
		})
	}
}

func TestWrite_ends_when_another_takes_the_keyboard(t *testing.T) {
	h, _ := startHub(t, Options{})
	m := newMachine()
	set(t, h, "r1n1", "k", m.source)
	line := <-m.up
	a := attach(t, h, "r1n1", AttachOptions{Write: true, Who: "ann"})
	waitEvent(t, a, Event{Type: StateEvent, Text: "connected"})
	b := attach(t, h, "r1n1", AttachOptions{Write: true, Who: "bob"})
	pasted := make(chan error)
	go func() {
		n, err := a.Write(make([]byte, 1<<20)) // the machine is slow to read
		if n > 2*pasteSize {
			t.Errorf("%d octets were written after bob took over", n)
		}
		pasted <- err
	}()
	if _, err := io.ReadFull(line, make([]byte, pasteSize/2)); err != nil {
		t.Fatal(err)
	}
	b.Take()
	if _, err := io.ReadFull(line, make([]byte, pasteSize/2)); err != nil {
		t.Fatal(err)
	}
	var ce *Error
	if err := <-pasted; !errors.As(err, &ce) || ce.Why != "bob has the keyboard" {
		t.Errorf("ann's paste: %v", err)
	}
}

func TestAttach_slow_watcher_skips_and_delays_nobody(t *testing.T) {
	h, _ := startHub(t, Options{Dir: t.TempDir()})
	m := newMachine()
	set(t, h, "r1n1", "k", m.source)
	line := <-m.up
	slow := attach(t, h, "r1n1", AttachOptions{Who: "slow"})
	const lines = 5000
	for i := range lines {
		send(t, line, fmt.Sprintf("line %05d %s\r\n", i, strings.Repeat("x", 60)))
	}
	send(t, line, "the end\r\n")
	got := readUntil(t, slow, "the end")
	if !strings.Contains(got, "bytes skipped") {
		t.Error("the slow watcher was not told")
	}
	if len(got) > 80<<10 {
		t.Errorf("%d bytes were kept for the slow watcher", len(got))
	}
	all := logOf(t, h, "r1n1", LogOptions{})
	if n := strings.Count(all, "\r\nline "); n != lines {
		t.Errorf("%d of %d lines recorded", n, lines)
	}
}

func TestHub_stops_with_its_watchers_told(t *testing.T) {
	h, stop := startHub(t, Options{})
	m := newMachine()
	set(t, h, "r1n1", "k", m.source)
	<-m.up
	s := attach(t, h, "r1n1", AttachOptions{})
	stop()
	waitEvent(t, s, Event{Type: StateEvent, Text: "waiting: stopped: muster stops"})
}

func TestSet_refuses_names_that_are_not_nodes(t *testing.T) {
	h, err := New(Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer h.root.Close()
	for _, n := range []model.NodeName{"", "..", ".journal", "a/b", "-a", "a..b", "a-", "a\x00", "ü", model.NodeName(strings.Repeat("a", 64))} {
		if err := h.Set(n, "", nil); err == nil {
			t.Errorf("%q accepted", n)
		}
		if _, err := h.Log(n, LogOptions{}); !errors.Is(err, ErrUnknown) {
			t.Errorf("log of %q: %v", n, err)
		}
	}
	if !validName("rack-1.n01.example") {
		t.Error("a good name was refused")
	}
}

func TestRing(t *testing.T) {
	var r ring
	var all []byte
	for i := range 4000 {
		p := bytes.Repeat([]byte{byte(i)}, i%97)
		all = append(all, p...)
		r.write(p, max(0, int64(len(all))-int64(300+i)))
		if r.high != int64(len(all)) || r.high-r.low > int64(len(r.buf)) {
			t.Fatalf("low %d high %d cap %d after %d bytes", r.low, r.high, len(r.buf), len(all))
		}
		if got := r.appendTo(nil, r.low, r.high); !bytes.Equal(got, all[r.low:]) {
			t.Fatalf("after %d bytes the ring does not hold the newest", len(all))
		}
	}
	if len(r.buf) > 8<<10 {
		t.Errorf("the ring has grown to %d", len(r.buf))
	}
	r.forget(r.high)
	if r.buf != nil {
		t.Error("an empty large ring keeps its memory")
	}
	r.write([]byte("x"), r.high)
	if got := r.appendTo(nil, r.low, r.high); string(got) != "x" {
		t.Errorf("got %q", got)
	}
}
