package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"muster/internal/model"
)

// interposed calls functions of a test where the store talks to etcd.
type interposed struct {
	clientv3.KV
	afterGet, beforeTxn func()
}

func (i *interposed) Get(ctx context.Context, key string, o ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	res, err := i.KV.Get(ctx, key, o...)
	if i.afterGet != nil {
		i.afterGet()
	}
	return res, err
}

func (i *interposed) Txn(ctx context.Context) clientv3.Txn {
	if i.beforeTxn != nil {
		i.beforeTxn()
	}
	return i.KV.Txn(ctx)
}

// What is written while a large world is read page by page is in none of it, and its revision says so.
func TestLoadIsOfOneRevision(t *testing.T) {
	s := open(t, Options{})
	ops := make([]model.Op, 0, page+5)
	for i := range cap(ops) {
		ops = append(ops, node(fmt.Sprintf("n%06d", i)))
	}
	before := commit(t, s, change("node add", ops...))
	i := 0
	s.engine.client.KV = &interposed{KV: s.engine.client.KV, afterGet: func() {
		i++
		commit(t, s, change("set", node("n000000", "n", fmt.Sprint(i)), node(fmt.Sprintf("n%06d", page+4), "n", fmt.Sprint(i))))
	}}
	w, _, err := s.load(t.Context(), lacks{})
	if err != nil || i < 2 {
		t.Fatalf("%d pages, %v", i, err)
	}
	if w.snap.Revision != before {
		t.Errorf("revision %d, want %d", w.snap.Revision, before)
	}
	for _, n := range []model.NodeName{"n000000", model.NodeName(fmt.Sprintf("n%06d", page+4))} {
		if got := w.snap.Node(n); got == nil || got.Attrs["n"] != "" || got.Revision != before {
			t.Errorf("%s: %+v is of a later revision", n, got)
		}
	}
}

// Where so much is written meanwhile that the revision is compacted away, the world is read again, and is whole.
func TestLoadBeginsAgainWhenItsRevisionIsNotKept(t *testing.T) {
	s := open(t, Options{})
	ops := make([]model.Op, 0, page+5)
	for i := range cap(ops) {
		ops = append(ops, node(fmt.Sprintf("n%06d", i)))
	}
	commit(t, s, change("node add", ops...))
	reads := 0
	var last model.Revision
	s.engine.client.KV = &interposed{KV: s.engine.client.KV, afterGet: func() {
		if reads++; reads == 1 {
			last = commit(t, s, change("set", node("n000000", "n", "1")))
			if _, err := s.engine.client.Compact(t.Context(), int64(last)); err != nil {
				t.Fatal(err)
			}
		}
	}}
	w, _, err := s.load(t.Context(), lacks{})
	if err != nil {
		t.Fatalf("after %d reads: %v", reads, err)
	}
	if w.snap.Revision != last || w.snap.Node("n000000").Attrs["n"] != "1" || w.snap.Len() != page+5 {
		t.Errorf("%d nodes of revision %d, want %d of %d", w.snap.Len(), w.snap.Revision, page+5, last)
	}
}

// A document that was removed while the watch was behind is a conflict for a change that was built before.
func TestAWorldThatIsReadAgainKnowsWhatWasRemoved(t *testing.T) {
	s := open(t, Options{})
	base := commit(t, s, change("node add", node("a"), node("b")))
	old := s.world.Load()
	commit(t, s, change("node remove", model.Op{Kind: model.KindNode, Name: "a"}))
	w, _, err := s.load(t.Context(), lacks{events: base + 1, changes: base + 1})
	if err != nil {
		t.Fatal(err)
	}
	w.removeAbsent(old)
	var conflict *ConflictError
	if _, err := unchanged(w, []model.Op{node("a")}, base); !errors.As(err, &conflict) || !conflict.Removed {
		t.Errorf("a: %v, want the conflict", err)
	}
	if _, err := unchanged(w, []model.Op{node("b")}, base); err != nil {
		t.Errorf("b: %v", err)
	}
}

func TestObserveWhileABatchIsOnItsWay(t *testing.T) {
	t.Parallel()
	s := open(t, Options{})
	commit(t, s, change("node add", node("a"), node("b")))
	first := true
	s.engine.client.KV = &interposed{KV: s.engine.client.KV, beforeTxn: func() {
		if !first {
			return
		}
		first = false
		s.Observe("a", func(st *model.State) { st.BootID = "1" })
		commit(t, s, change("node remove", model.Op{Kind: model.KindNode, Name: "b"}))
	}}
	s.mu.Lock() // both in one batch
	for _, n := range []model.NodeName{"a", "b"} {
		s.observed[n] = &model.State{Node: n, Power: "on"}
	}
	s.mu.Unlock()
	wake(s.observe)
	if err := s.Wait(t.Context(), func(n *model.Snapshot) bool { st := n.State("a"); return st != nil && st.BootID == "1" }); err != nil {
		t.Fatal(err)
	}
	if st := s.Snapshot().State("a"); st.Power != "on" {
		t.Errorf("the newer observation undid the older: %+v", st)
	}
	if st := s.Snapshot().State("b"); st != nil {
		t.Errorf("a node that was removed meanwhile has a state: %+v", st)
	}
}

func TestANodeIsRemovedWhileItIsObserved(t *testing.T) {
	s := open(t, Options{})
	base := commit(t, s, change("node add", node("a")))
	s.Observe("a", func(st *model.State) { st.Power = "on" })
	if err := s.Wait(t.Context(), func(n *model.Snapshot) bool { return n.State("a") != nil }); err != nil {
		t.Fatal(err)
	}
	c := change("node remove", model.Op{Kind: model.KindNode, Name: "a"}, model.Op{Kind: model.KindState, Name: "a"})
	c.Revision = base // before it was observed
	commit(t, s, c)
	if s.Snapshot().Node("a") != nil || s.Snapshot().State("a") != nil {
		t.Error("something of it is left")
	}
}

func TestCommitTakesOnlyWhatCanBeReadAgain(t *testing.T) {
	s := open(t, Options{})
	commit(t, s, change("node add", node("a")))
	for _, op := range []model.Op{
		{Kind: model.KindNode, Name: "b", Doc: &model.Group{Name: "b"}},
		{Kind: "unicorn", Name: "b", Doc: &model.Node{Name: "b"}},
		{Kind: model.KindNode, Name: "b", Doc: model.Node{Name: "b"}},
	} {
		if _, err := s.Commit(t.Context(), change("node add", op)); err == nil {
			t.Errorf("%s with a %T was taken", op.Kind, op.Doc)
		}
	}
	commit(t, s, change("node remove", model.Op{Kind: model.KindNode, Name: "a", Doc: (*model.Node)(nil)}))
	if got := s.Snapshot().Len(); got != 0 || s.Err() != nil {
		t.Errorf("%d nodes, %v", got, s.Err())
	}
	if _, err := s.Commit(t.Context(), change("node add", node("c"), node("c"))); err == nil || s.Snapshot().Len() != 0 {
		t.Errorf("a document twice: %v", err)
	}
}

func TestOpenOfAStoreThatIsGoneBesideItsTimeline(t *testing.T) {
	s := open(t, Options{})
	commit(t, s, change("node add", node("a")))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"etcd", "store.json"} {
		if err := os.RemoveAll(filepath.Join(s.opt.Dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Open(t.Context(), Options{Dir: s.opt.Dir}); !IsKind(err, Damaged) {
		t.Fatalf("got %v, want that the store is gone", err)
	}
}

// etcd's answer comes late when a disk is full: what made it give up meanwhile is the reason, and not that it was late.
func TestReadySaysWhyTheMemberFailedMeanwhile(t *testing.T) {
	s := open(t, Options{})
	s.engine.client.KV = &interposed{KV: s.engine.client.KV, afterGet: func() { s.engine.fail(syscall.ENOSPC) }}
	if err := s.engine.ready(t.Context(), false, true); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("%v, want the reason", err)
	}
}
