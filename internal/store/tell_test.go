package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"muster/internal/model"
)

func TestTell(t *testing.T) {
	t.Run("is on the timeline for who asks after, in order, numbered by revision, in few transactions", func(t *testing.T) {
		s := open(t, Options{})
		before := s.Snapshot().Revision
		start := time.Now()
		const n = 10_000
		for i := range n {
			s.Tell(model.Event{Step: "test", What: fmt.Sprint("e", i)})
		}
		got, err := s.Events(EventQuery{})
		if err != nil || len(got) != n {
			t.Fatalf("got %d events, %v, want %d", len(got), err, n)
		}
		batches := int64(s.Snapshot().Revision - before)
		if most := 1 + n/batchSize + int64(time.Since(start)/gatherFor) + 1; batches > most {
			t.Errorf("%d transactions, want %d at most", batches, most)
		}
		last := int64(0)
		for i, e := range got {
			if e.What != fmt.Sprint("e", i) || e.Seq <= last || e.Seq>>16 > int64(s.Snapshot().Revision) || e.Time.IsZero() {
				t.Fatalf("event %d: got %+v after %d", i, e, last)
			}
			if e.Seq>>16 != last>>16 && e.Seq&maxPart != 1 {
				t.Fatalf("event %d: the first of its revision has part %d", i, e.Seq&maxPart)
			}
			last = e.Seq
		}
		if changes, err := s.Changes(ChangeQuery{}); err != nil || len(changes) > 0 {
			t.Errorf("told events are no changes: got %+v, %v", changes, err)
		}
	})
	t.Run("steadily takes no more than twenty transactions a second, and none when nothing is told", func(t *testing.T) {
		s := open(t, Options{})
		before := s.Snapshot().Revision
		start := time.Now()
		for i := 0; time.Since(start) < 500*time.Millisecond; i++ {
			s.Tell(model.Event{Step: "test", What: fmt.Sprint("e", i)})
			if _, err := s.Events(EventQuery{Limit: 1}); err != nil { // who asks does not make it more
				t.Fatal(err)
			}
		}
		most := int(time.Since(start)/gatherFor) + 1
		after := s.Snapshot().Revision
		if n := int(after - before); n > most || n < 2 {
			t.Errorf("%d transactions, want 2 to %d", n, most)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*gatherFor)
		defer cancel()
		if err := s.Wait(ctx, func(n *model.Snapshot) bool { return n.Revision > after }); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want that nothing happens", err)
		}
	})
	t.Run("what waits at the end is there after it", func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, Options{Dir: dir})
		s.Tell(model.Event{Step: "test", What: "last", Time: time.Date(99_999, 1, 1, 0, 0, 0, 0, time.UTC)})
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s.Tell(model.Event{Step: "test", What: "late"})
		s = open(t, Options{Dir: dir})
		if got, err := s.Events(EventQuery{}); err != nil || len(got) != 1 || got[0].What != "last" {
			t.Fatalf("got %+v, %v", got, err)
		}
	})
}

// refusing refuses transactions while on is set; lost ones are made, and yet refused.
type refusing struct {
	clientv3.KV
	mu       sync.Mutex
	on, lost bool
	tries    int
}

func (r *refusing) set(on, lost bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.on, r.lost = on, lost
}

func (r *refusing) Txn(ctx context.Context) clientv3.Txn { return &refusingTxn{r.KV.Txn(ctx), r} }

type refusingTxn struct {
	clientv3.Txn
	r *refusing
}

func (x *refusingTxn) If(c ...clientv3.Cmp) clientv3.Txn  { x.Txn = x.Txn.If(c...); return x }
func (x *refusingTxn) Then(o ...clientv3.Op) clientv3.Txn { x.Txn = x.Txn.Then(o...); return x }
func (x *refusingTxn) Else(o ...clientv3.Op) clientv3.Txn { x.Txn = x.Txn.Else(o...); return x }

var errNoLeader = errors.New("no leader")

func (x *refusingTxn) Commit() (*clientv3.TxnResponse, error) {
	x.r.mu.Lock()
	defer x.r.mu.Unlock()
	if x.r.tries++; !x.r.on {
		return x.Txn.Commit()
	}
	if x.r.lost {
		if _, err := x.Txn.Commit(); err != nil {
			return nil, err
		}
	}
	return nil, errNoLeader
}

// Where nothing can be committed, what is told waits in memory, and readers are answered.
func TestTellWithoutAMajority(t *testing.T) {
	t.Parallel()
	s := open(t, Options{})
	kv := &refusing{KV: s.engine.client.KV}
	s.engine.client.KV = kv
	s.Tell(model.Event{Step: "test", What: "before"})
	if got, err := s.Events(EventQuery{}); err != nil || len(got) != 1 {
		t.Fatalf("got %+v, %v", got, err)
	}
	kv.set(true, false)
	s.Tell(model.Event{Step: "test", What: "refused"})
	start := time.Now()
	if got, err := s.Events(EventQuery{}); err != nil || len(got) != 1 || time.Since(start) > toldLimit+time.Second {
		t.Fatalf("got %+v, %v after %v", got, err, time.Since(start))
	}
	kv.set(true, true)
	s.Tell(model.Event{Step: "test", What: "after"})
	for range 3 { // made three times over, as far as the teller knows
		if _, err := s.Events(EventQuery{}); err != nil {
			t.Fatal(err)
		}
	}
	kv.set(true, false)
	big := strings.Repeat("x", batchBytes/2)
	for range 2*backlog/len(big) + 10 {
		s.Tell(model.Event{Step: "test", What: big})
	}
	s.Tell(model.Event{Step: "test", What: big + big}, model.Event{Step: "test", What: "too many wait"})
	kv.set(false, false)
	for s.Tell(); !s.teller.idle(); {
		s.awaitTold()
	}
	got, err := s.Events(EventQuery{})
	if err != nil || len(got) < 4 {
		t.Fatalf("got %d events, %v", len(got), err)
	}
	if w := strings.Join(whats(got[:3]), " "); w != "before refused after" {
		t.Errorf("got %s", w)
	}
	lost := 0
	for _, e := range got[3:] {
		switch {
		case e.Step == "events.lost":
			var n int
			_, _ = fmt.Sscan(e.What, &n)
			lost += n
		case e.What != big:
			t.Errorf("got %.80s", e.What)
		}
	}
	if kept := len(got) - 4; lost+kept != 2*backlog/len(big)+12 || lost < 3 {
		t.Errorf("%d kept and %d counted as lost, want %d", kept, lost, 2*backlog/len(big)+12)
	}
}

// A manager that joins late, or was away for long, gets all records that are kept, and says where some are missing.
func TestAManagerThatWasAway(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	s.told.keep, s.told.age = 10, 0
	var first int64
	for i := range 10 + trimEvery + 200 {
		s.Tell(model.Event{Step: "told", What: fmt.Sprint("t", i)})
		for err := error(nil); !s.teller.idle(); err = s.commitTold(t.Context()) { // not waiting for the gatherer
			if err != nil {
				t.Fatal(err)
			}
		}
		if i%100 == 0 {
			c := change("set", node("a", "n", fmt.Sprint(i)))
			c.Events = []model.Event{{Step: "test", What: fmt.Sprint("c", i)}}
			rev := commit(t, s, c)
			if i == 0 {
				first = int64(rev)<<partBits + 1
			}
		}
	}
	all, err := s.Events(EventQuery{})
	if err != nil || len(all) != 10+trimEvery+200+13 {
		t.Fatalf("%d events, %v", len(all), err)
	}
	changes, err := s.Changes(ChangeQuery{})
	if err != nil || len(changes) != 13 {
		t.Fatalf("%d changes, %v", len(changes), err)
	}
	err = s.Wait(t.Context(), func(*model.Snapshot) bool {
		s.told.mu.Lock()
		defer s.told.mu.Unlock()
		return len(s.told.have) < 10+trimEvery
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, j := range []string{"events", "changes"} {
		if err := removeFiles(filepath.Join(dir, j)); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		s = open(t, Options{Dir: dir})
		if got, err := s.Changes(ChangeQuery{}); err != nil || fmt.Sprint(revisions(got)) != fmt.Sprint(revisions(changes)) {
			t.Errorf("changes %v, %v, want %v", revisions(got), err, revisions(changes))
		}
		got, err := s.Events(EventQuery{})
		if err != nil || len(got) < 13+10 || len(got) >= len(all) || got[0].Seq != first {
			t.Fatalf("%d events, %v", len(got), err)
		}
		// What is there has the numbers that the others know it by, and a follower is told what is not.
		known := map[int64]string{}
		for _, e := range all {
			known[e.Seq] = e.What
		}
		var gap *GapError
		n := 0
		for e, err := range s.Follow(t.Context(), EventQuery{After: first}) {
			if errors.As(err, &gap) {
				continue
			}
			if err != nil || known[e.Seq] != e.What {
				t.Fatalf("%+v, %v: the others know %q by that number", e, err, known[e.Seq])
			}
			if n++; e.Seq == all[len(all)-1].Seq {
				break
			}
		}
		if n != len(got)-1 || gap == nil || gap.After >= gap.Oldest {
			t.Fatalf("followed %d, want %d; gap %v", n, len(got)-1, gap)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A disk that takes no lines for longer than memory lasts loses none: what was refused is read from the records when it takes some again.
func TestAJournalThatWasBehind(t *testing.T) {
	t.Parallel()
	s := open(t, Options{})
	commit(t, s, change("set", node("a")))
	s.Tell(model.Event{Step: "test", What: "first"})
	s.awaitTold()
	if err := s.events.flush(); err != nil {
		t.Fatal(err)
	}
	s.events.writing.Lock() // a disk that hangs
	big := strings.Repeat("x", batchBytes-1000)
	n := 2 * backlog / len(big)
	for range n {
		c := change("set", node("a"))
		c.Events = []model.Event{{Step: "test", What: big}}
		commit(t, s, c)
	}
	s.events.mu.Lock()
	behind, waits := s.events.behind, len(s.events.buf)
	s.events.mu.Unlock()
	if !behind || waits > backlog+2*batchBytes {
		t.Errorf("behind %t, %d bytes wait", behind, waits)
	}
	s.events.writing.Unlock()
	deadline, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	i := 0
	for e, err := range s.Follow(deadline, EventQuery{}) {
		if err != nil || i > 0 && e.What != big || i == 0 && e.What != "first" {
			t.Fatalf("event %d: %.80s, %v", i, e.What, err)
		}
		if i++; i == n+1 {
			break
		}
	}
	if i != n+1 {
		t.Fatalf("%d events, want %d", i, n+1)
	}
	commit(t, s, change("set", node("a")))
	if got, err := s.Changes(ChangeQuery{}); err != nil || len(got) != n+2 {
		t.Errorf("%d changes, %v", len(got), err)
	}
}

// A follower goes on where it was, whatever manager it asks, and is told when its place is of a timeline that is gone.
func TestFollowOfAStore(t *testing.T) {
	s := open(t, Options{})
	for i := range 30 {
		c := change("set", node("a", "n", fmt.Sprint(i)))
		c.Events = []model.Event{{Step: "test", What: fmt.Sprint("e", i)}}
		commit(t, s, c)
	}
	all, err := s.Events(EventQuery{})
	if err != nil || len(all) != 30 {
		t.Fatal(len(all), err)
	}
	t.Run("resumes", func(t *testing.T) {
		for e, err := range s.Follow(t.Context(), EventQuery{After: all[9].Seq}) {
			if err != nil || !reflect.DeepEqual(e, all[10]) {
				t.Fatalf("got %+v, %v, want %+v", e, err, all[10])
			}
			break
		}
	})
	t.Run("of a later revision than there is begins anew", func(t *testing.T) {
		after := (int64(s.Snapshot().Revision) + 1000) << partBits
		var got []string
		for e, err := range s.Follow(t.Context(), EventQuery{After: after}) {
			var gap *GapError
			if errors.As(err, &gap) && *gap == (GapError{After: after, Oldest: 1}) {
				got = append(got, "gap")
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			if got = append(got, e.What); len(got) == len(all)+1 {
				break
			}
		}
		if want := append([]string{"gap"}, whats(all)...); strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("got %v, want %v", got, want)
		}
	})
	t.Run("on a manager that is behind goes on with what comes", func(t *testing.T) {
		old := s.world.Load()
		s.world.Store(&world{snap: model.Empty(), docs: old.docs, next: make(chan struct{})}) // it has seen nothing yet
		gone := s.isOfAnotherTimeline(t.Context(), all[29].Seq)
		s.world.Store(old)
		if gone {
			t.Error("it takes a number of its own timeline for one of another")
		}
	})
}

func TestTellLogsWhatItCannotCommit(t *testing.T) {
	log := new(syncBuffer)
	s := open(t, Options{Log: slog.New(slog.NewTextHandler(log, nil))})
	kv := &refusing{KV: s.engine.client.KV, on: true}
	s.engine.client.KV = kv
	s.Tell(model.Event{Step: "test", What: "e"})
	if got, err := s.Events(EventQuery{}); err != nil || len(got) > 0 {
		t.Fatalf("got %+v, %v", got, err)
	}
	kv.set(false, false)
	if got, err := s.Events(EventQuery{}); err != nil || len(got) != 1 {
		t.Fatalf("got %+v, %v", got, err)
	}
	if !strings.Contains(log.String(), "not committed yet") {
		t.Errorf("log: %s", log)
	}
}

func removeFiles(dir string) error {
	files, err := journalFiles(dir)
	for _, f := range files {
		err = errors.Join(err, os.Remove(journalPath(dir, f)))
	}
	return err
}
