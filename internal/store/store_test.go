package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"

	"muster/internal/model"
)

// open opens a store that the test closes.
func open(t testing.TB, o Options) *Store {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	s, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func node(name string, attrs ...string) model.Op {
	n := &model.Node{Name: model.NodeName(name), Groups: []model.GroupName{"compute"}, Attrs: map[model.AttrName]string{}}
	for i := 0; i < len(attrs); i += 2 {
		n.Attrs[model.AttrName(attrs[i])] = attrs[i+1]
	}
	return model.Op{Kind: model.KindNode, Name: name, Doc: n}
}

func change(verb string, ops ...model.Op) *model.Change {
	return &model.Change{Actor: "root (uid 0)", Verb: verb, Request: "q1", Time: time.Unix(1_700_000_000, 0).UTC(), Ops: ops}
}

func commit(t testing.TB, s *Store, c *model.Change) model.Revision {
	t.Helper()
	rev, err := s.Commit(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

func TestCommit(t *testing.T) {
	t.Run("is in the snapshot and on the timeline when it returns, and after a restart", func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, Options{Dir: dir})
		c := change("node add", node("r1n1", "console.speed", "115200"))
		c.Events = []model.Event{{Node: "r1n1", Step: "node.add", What: "node r1n1 was added"}}
		rev := commit(t, s, c)
		for range 2 {
			n := s.Snapshot().Node("r1n1")
			if n == nil || n.Attrs["console.speed"] != "115200" || n.Revision != rev || c.Revision != rev {
				t.Fatalf("got %+v, change revision %d, want the node at revision %d", n, c.Revision, rev)
			}
			events, err := s.Events(EventQuery{})
			if err != nil || len(events) != 1 || events[0].Actor != c.Actor || !events[0].Time.Equal(c.Time) {
				t.Fatalf("got events %+v, %v", events, err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = open(t, Options{Dir: dir})
		}
	})
	t.Run("removes documents", func(t *testing.T) {
		s := open(t, Options{})
		commit(t, s, change("node add", node("a"), node("b")))
		commit(t, s, change("node remove", model.Op{Kind: model.KindNode, Name: "a"}))
		if s.Snapshot().Node("a") != nil || s.Snapshot().Node("b") == nil {
			t.Fatal("want b only")
		}
	})
	t.Run("built on an older revision names the other writer", func(t *testing.T) {
		s := open(t, Options{})
		base := commit(t, s, change("node add", node("a")))
		other := change("set", node("a", "x", "1"))
		other.Actor, other.Request = "alice (uid 7)", "q7"
		rev := commit(t, s, other)

		mine := change("set", node("a", "x", "2"), node("b"))
		mine.Revision = base
		_, err := s.Commit(t.Context(), mine)
		var conflict *ConflictError
		if !errors.As(err, &conflict) {
			t.Fatalf("got %v", err)
		}
		want := ConflictError{model.KindNode, "a", rev, false, "alice (uid 7)", "set", "q7", other.Time}
		if *conflict != want {
			t.Fatalf("got %+v\nwant %+v", *conflict, want)
		}
		if s.Snapshot().Node("b") != nil || s.Snapshot().Node("a").Attrs["x"] != "1" {
			t.Fatal("something of the refused change was written")
		}
	})
	t.Run("built before a removal is refused", func(t *testing.T) {
		s := open(t, Options{})
		base := commit(t, s, change("node add", node("a")))
		commit(t, s, change("node remove", model.Op{Kind: model.KindNode, Name: "a"}))
		mine := change("set", node("a"))
		mine.Revision = base
		_, err := s.Commit(t.Context(), mine)
		var conflict *ConflictError
		if !errors.As(err, &conflict) || !conflict.Removed {
			t.Fatalf("got %v", err)
		}
		mine.Revision = s.Snapshot().Revision
		if _, err := s.Commit(t.Context(), mine); err != nil {
			t.Fatalf("built on the newest snapshot: %v", err)
		}
	})
	t.Run("names what it cannot write", func(t *testing.T) {
		s := open(t, Options{})
		for _, op := range []model.Op{{Kind: model.KindNode}, {Kind: "change", Name: "x"}, {Kind: "a/b", Name: "x"}, {Name: "x"}} {
			if _, err := s.Commit(t.Context(), change("set", op)); err == nil || !strings.Contains(err.Error(), "no name of a document") {
				t.Errorf("%+v: got %v", op, err)
			}
		}
		if _, err := s.Commit(t.Context(), change("set", node("a"), node("a"))); err == nil || !strings.Contains(err.Error(), "twice") {
			t.Errorf("got %v", err)
		}
		many := make([]model.Op, maxOps)
		for i := range many {
			many[i] = model.Op{Kind: model.KindNode, Name: fmt.Sprint(i)}
		}
		if _, err := s.Commit(t.Context(), change("set", many...)); !IsKind(err, TooLarge) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("is refused when the file system is nearly full, and goes on after", func(t *testing.T) {
		s := open(t, Options{})
		s.opt.Reserve = 1 << 60
		_, err := s.Commit(t.Context(), change("set", node("a")))
		if !IsKind(err, NoSpace) || s.Snapshot().Node("a") != nil {
			t.Fatalf("got %v", err)
		}
		s.opt.Reserve = 0
		commit(t, s, change("set", node("a")))
	})
}

func TestSettle(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	c := change("node add", node("a"))
	c.Events = []model.Event{{Step: "test", What: "once"}}
	rev := commit(t, s, c)
	made := func(order uint64) string { return s.changes.from(order) + "-" + s.changes.tag }
	t.Run("finds a transaction that was made", func(t *testing.T) {
		got, err := s.settle(t.Context(), made(s.changes.order.Load()))
		if got != rev || err != nil {
			t.Fatalf("got %d, %v, want %d", got, err, rev)
		}
	})
	t.Run("keeps out one that was not", func(t *testing.T) {
		next := made(s.changes.order.Load() + 1)
		for range 2 {
			if got, err := s.settle(t.Context(), next); got != 0 || err != nil {
				t.Fatalf("got %d, %v", got, err)
			}
		}
		commit(t, s, change("node add", node("b"))) // wants that key, and takes another
		if got, err := s.settle(t.Context(), next); got != 0 || err != nil {
			t.Fatalf("got %d, %v", got, err)
		}
	})
	for range 2 {
		events, err := s.Events(EventQuery{})
		if err != nil || len(events) != 1 || s.Snapshot().Node("b") == nil {
			t.Fatalf("got events %v, %v", events, err)
		}
		s.Close()
		s = open(t, Options{Dir: dir})
	}
}

func TestUpdate(t *testing.T) {
	t.Run("never loses one of many concurrent updates of one document", func(t *testing.T) {
		s := open(t, Options{})
		commit(t, s, change("node add", node("a", "n", "")))
		const writers, each = 8, 25
		var wg sync.WaitGroup
		for range writers {
			wg.Go(func() {
				for range each {
					_, err := s.Update(t.Context(), func(snap *model.Snapshot) (*model.Change, error) {
						return change("set", node("a", "n", snap.Node("a").Attrs["n"]+"x")), nil
					})
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if got := len(s.Snapshot().Node("a").Attrs["n"]); got != writers*each {
			t.Fatalf("got %d updates, want %d", got, writers*each)
		}
	})
	t.Run("of different documents do not hinder each other", func(t *testing.T) {
		s := open(t, Options{})
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				builds := 0
				_, err := s.Update(t.Context(), func(*model.Snapshot) (*model.Change, error) {
					builds++
					return change("set", node(fmt.Sprint("n", i))), nil
				})
				if err != nil || builds != 1 {
					t.Errorf("built %d times: %v", builds, err)
				}
			})
		}
		wg.Wait()
	})
	t.Run("with nothing to do commits nothing", func(t *testing.T) {
		s := open(t, Options{})
		before := s.Snapshot().Revision
		rev, err := s.Update(t.Context(), func(*model.Snapshot) (*model.Change, error) { return nil, nil })
		if err != nil || rev != before || s.Snapshot().Revision != before {
			t.Fatalf("got %d, %v, want %d", rev, err, before)
		}
		wrong := errors.New("no")
		if _, err := s.Update(t.Context(), func(*model.Snapshot) (*model.Change, error) { return nil, wrong }); err != wrong {
			t.Fatalf("got %v", err)
		}
	})
}

func TestReadersNeverSeeHalfAChange(t *testing.T) {
	t.Parallel()
	s := open(t, Options{})
	const nodes = 300
	ops := func(v string) []model.Op {
		var ops []model.Op
		for i := range nodes {
			ops = append(ops, node(fmt.Sprint("n", i), "v", v))
		}
		return ops
	}
	commit(t, s, change("node add", ops("0")...))
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for ctx.Err() == nil {
				snap := s.Snapshot()
				want := snap.Node("n0").Attrs["v"]
				for i := range nodes {
					if got := snap.Node(model.NodeName(fmt.Sprint("n", i))).Attrs["v"]; got != want {
						t.Errorf("revision %d: n%d has %s, n0 has %s", snap.Revision, i, got, want)
						return
					}
				}
			}
		})
	}
	for v := range 20 {
		commit(t, s, change("set", ops(fmt.Sprint(v))...))
	}
	cancel()
	wg.Wait()
}

func TestObserve(t *testing.T) {
	t.Run("batches, merges what two observers saw and leaves no change record", func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, Options{Dir: dir})
		base := commit(t, s, change("node add", node("a"), node("b")))
		for i := range 1000 {
			s.Observe("a", func(st *model.State) { st.Power = "on" })
			s.Observe("a", func(st *model.State) { st.BootID = fmt.Sprint(i) })
			s.Observe("gone", func(st *model.State) { st.Power = "on" })
		}
		err := s.Wait(t.Context(), func(n *model.Snapshot) bool { return n.State("a") != nil })
		if err != nil {
			t.Fatal(err)
		}
		if st := s.Snapshot().State("a"); st.Power != "on" || st.BootID != "999" || st.Node != "a" {
			t.Fatalf("got %+v", st)
		}
		if s.Snapshot().Revision != base+1 || s.Snapshot().State("gone") != nil {
			t.Fatalf("got revision %d, want one transaction after %d, and no state of a node that is not there", s.Snapshot().Revision, base)
		}
		s.Observe("b", func(st *model.State) { st.Power = "off" })
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, Options{Dir: dir})
		if st := s.Snapshot().State("b"); st == nil || st.Power != "off" {
			t.Fatalf("after close and open: got %+v, want what was observed last", st)
		}
	})
}

func TestWait(t *testing.T) {
	s := open(t, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Wait(ctx, func(*model.Snapshot) bool { return false }); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's", err)
	}
	got := make(chan error)
	go func() { got <- s.Wait(t.Context(), func(*model.Snapshot) bool { return false }) }()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-got; !IsKind(err, Closed) {
		t.Errorf("got %v, want that the store is closed", err)
	}
}

func TestClose(t *testing.T) {
	old := goleak.IgnoreCurrent()
	s := open(t, Options{})
	commit(t, s, change("node add", node("a")))
	start := time.Now()
	for range 3 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("close took %v", time.Since(start))
	goleak.VerifyNone(t, old)
	select {
	case <-s.Done():
	default:
		t.Error("Done is not closed")
	}
	if _, err := s.Commit(t.Context(), change("set", node("a"))); !IsKind(err, Closed) {
		t.Errorf("commit: got %v", err)
	}
	s.Tell(model.Event{Step: "late"})
	s.Observe("a", func(*model.State) { t.Error("called") })
	if s.Snapshot().Node("a") == nil {
		t.Error("the last snapshot can still be read")
	}
}

func TestOpen(t *testing.T) {
	t.Run("a second process is told who holds the directory", func(t *testing.T) {
		s := open(t, Options{})
		_, err := Open(t.Context(), Options{Dir: s.opt.Dir})
		if !IsKind(err, Locked) || !strings.Contains(err.Error(), fmt.Sprintf("pid %d", os.Getpid())) {
			t.Fatalf("got %v", err)
		}
	})
	t.Run("the directory is private, of any length, and nothing listens", func(t *testing.T) {
		dir := t.TempDir()
		for range 12 {
			dir = filepath.Join(dir, strings.Repeat("d", 200))
		}
		s := open(t, Options{Dir: dir})
		commit(t, s, change("node add", node("a")))
		if fi, err := os.Stat(dir); err != nil || fi.Mode().Perm() != 0o700 {
			t.Fatalf("got %v %v, want mode 0700", fi.Mode(), err)
		}
		if got := sockets(t); len(got) > 0 {
			t.Fatalf("the process has sockets: %v", got)
		}
	})
	t.Run("an unknown family of documents is refused as newer", func(t *testing.T) {
		s := open(t, Options{})
		s.Close()
		s = open(t, Options{Dir: s.opt.Dir})
		if _, err := s.engine.client.Put(t.Context(), prefix+"unicorn/u1", "{}"); err != nil {
			t.Fatal(err)
		}
		<-s.Done()
		if err := s.Err(); !strings.Contains(err.Error(), "unicorn") {
			t.Errorf("got %v", err)
		}
		s.Close()
		if _, err := Open(t.Context(), Options{Dir: s.opt.Dir}); !IsKind(err, Newer) {
			t.Fatalf("got %v", err)
		}
	})
	t.Run("a file in the place of the directory is named", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), Options{Dir: path}); err == nil || !strings.Contains(err.Error(), path) {
			t.Fatalf("got %v", err)
		}
	})
	t.Run("a nearly full disk is refused before anything is made", func(t *testing.T) {
		dir := t.TempDir()
		_, err := Open(t.Context(), Options{Dir: dir, Reserve: 1 << 60})
		if !IsKind(err, NoSpace) {
			t.Fatalf("got %v", err)
		}
		if _, err := os.Stat(filepath.Join(dir, "etcd")); !os.IsNotExist(err) {
			t.Fatalf("etcd was started: %v", err)
		}
	})
}

// sockets lists the listening sockets that this process holds.
func sockets(t *testing.T) []string {
	t.Helper()
	mine := map[string]bool{}
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("no /proc")
	}
	for _, fd := range fds {
		if to, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.HasPrefix(to, "socket:[") {
			mine[strings.TrimSuffix(strings.TrimPrefix(to, "socket:["), "]")] = true
		}
	}
	var found []string
	for _, file := range []string{"tcp", "tcp6", "udp", "udp6", "unix"} {
		b, _ := os.ReadFile("/proc/self/net/" + file)
		for _, l := range strings.Split(string(b), "\n") {
			for _, f := range strings.Fields(l) {
				if mine[f] {
					found = append(found, file+" "+l)
				}
			}
		}
	}
	return found
}

// logTo is a logger that a test reads.
func logTo(b *bytes.Buffer) *slog.Logger { return slog.New(slog.NewTextHandler(b, nil)) }

func withCount() []clientv3.OpOption {
	return []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithCountOnly()}
}
