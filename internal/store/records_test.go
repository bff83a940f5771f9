package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"muster/internal/model"
)

// The numbers of records go on after a restart: those that are removed first are the oldest.
func TestRecordsAreNumberedOnAfterARestart(t *testing.T) {
	s := open(t, Options{})
	for range 3 {
		commit(t, s, change("set", node("a")))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, Options{Dir: s.opt.Dir})
	commit(t, s, change("set", node("a")))
	last := uint64(0)
	for _, r := range recordsOf(t, s) {
		if r.order <= last {
			t.Errorf("the record of revision %d has number %d after %d", r.Revision, r.order, last)
		}
		last = r.order
	}
}

// By the record of a change a manager finds out whether it was made, when the answer was lost: it must find it, however much the others write
// meanwhile.
func TestYoungRecordsStay(t *testing.T) {
	at := func(ago time.Duration, n int) (out []recordSize) {
		for range n {
			out = append(out, recordSize{size: 1 << 10, seen: time.Now().Add(-ago)})
		}
		return out
	}
	for name, c := range map[string]struct {
		family string
		have   []recordSize
		want   uint64
	}{
		"few":               {changeFamily, at(time.Hour, 100), 0},
		"young changes":     {changeFamily, at(0, 100_000), 0},
		"old and young":     {changeFamily, append(at(time.Hour, 2_000), at(0, 2_000)...), 2_001},
		"little to remove":  {changeFamily, append(at(time.Hour, 10), at(0, 4_000)...), 0},
		"young told ones":   {toldFamily, at(0, 5_000), 0},
		"a flood of events": {toldFamily, at(0, 100_000), 100_000 - 64<<10 + 1},
	} {
		f := &family{name: c.family, keep: 100, bytes: 64 << 20, age: time.Minute}
		for i := range c.have {
			c.have[i].order, c.have[i].rev = uint64(i+1), model.Revision(i+1)
		}
		f.reset(c.have)
		if got := f.trimAt(); got != c.want {
			t.Errorf("%s: removes those below %d, want %d", name, got, c.want)
		}
	}
}

// Records are read at one revision: a journal that took a later one first would never take those before it.
func TestMissedRecordsAreOfOneRevision(t *testing.T) {
	s := open(t, Options{})
	commit(t, s, change("set", node("a")))
	n := 0
	s.engine.client.KV = &interposed{KV: s.engine.client.KV, afterGet: func() {
		if n++; n == 1 {
			c := change("set", node("a"))
			c.Events = []model.Event{{Step: "test", What: "meanwhile"}}
			rev := commit(t, s, c)
			s.Tell(model.Event{Step: "test", What: "after it"})
			if err := s.Wait(t.Context(), func(w *model.Snapshot) bool { return w.Revision > rev }); err != nil {
				t.Error(err)
			}
		}
	}}
	before := s.Snapshot().Revision
	records, err := s.recordsSince(t.Context(), lacks{})
	if err != nil || len(records) != 1 || records[0].Revision > before {
		t.Errorf("%d records, %v, want the one of before", len(records), err)
	}
}

// What was missed is read again until it is there.
func TestMissedRecordsAreAskedForAgain(t *testing.T) {
	s := open(t, Options{})
	kv := s.engine.client.KV
	s.engine.client.KV = &broken{KV: kv}
	c := change("set", node("a"))
	c.Events = []model.Event{{Step: "test", What: "refused"}}
	s.events.mu.Lock()
	s.events.behind = true // as a disk that hangs for long makes it
	s.events.mu.Unlock()
	commit(t, s, c)
	wake(s.missed)
	eventually(t, "the event", func() bool {
		got, err := s.Events(EventQuery{})
		return err == nil && len(got) == 1 && got[0].What == "refused"
	})
}

// broken answers the first read with an error.
type broken struct {
	clientv3.KV
	once sync.Once
}

func (b *broken) Get(ctx context.Context, key string, o ...clientv3.OpOption) (res *clientv3.GetResponse, err error) {
	err = errors.New("broken")
	b.once.Do(func() { key = "" })
	if key == "" {
		return nil, err
	}
	return b.KV.Get(ctx, key, o...)
}

// A manager that was away while more changes were made than are kept says so in its audit trail.
func TestAuditTrailOfAManagerThatWasAwayTooLong(t *testing.T) {
	s := open(t, Options{})
	var revs []model.Revision
	for i := range 5 {
		revs = append(revs, commit(t, s, change("set", node("a", "n", fmt.Sprint(i)))))
	}
	if err := s.audit.sync(); err != nil {
		t.Fatal(err)
	}
	records := recordsOf(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := removeFiles(s.auditDir()); err != nil {
		t.Fatal(err)
	}
	s = open(t, Options{Dir: s.opt.Dir})
	if got, err := s.Changes(ChangeQuery{}); err != nil || fmt.Sprint(revisions(got)) != fmt.Sprint(revs) {
		t.Fatalf("got %v, %v, want %v: all are kept", revisions(got), err, revs)
	}
	if _, err := s.engine.client.Delete(t.Context(), s.changes.from(0), clientv3.WithRange(s.changes.from(records[3].order))); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := removeFiles(s.auditDir()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		s = open(t, Options{Dir: s.opt.Dir})
		for _, q := range []ChangeQuery{{}, {Nodes: map[model.NodeName]bool{"a": true}}} {
			got, err := s.Changes(q)
			if err != nil || len(got) != 3 || got[0].Verb != ChangesLost || !strings.Contains(got[0].What, fmt.Sprint("revision ", revs[3])) || got[1].Revision != revs[3] {
				t.Errorf("got %+v, %v", got, err)
			}
		}
		if c, err := s.Change(revs[3] - 1); c != nil || err != nil {
			t.Errorf("what is lost is no change: %+v, %v", c, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// Clocks jump, and every manager has its own: what is asked for since some time is found whatever the order of times is, in every file, and
// what is told and committed has the order of its revisions.
func TestClocksThatJump(t *testing.T) {
	o := Options{Dir: t.TempDir(), EventFile: 600}
	s := open(t, o)
	now := time.Now().UTC().Truncate(time.Second)
	hours := []time.Duration{0, 5, -7, 1, 30, -48, 0, 2, -1}
	for i, h := range hours {
		c := change("set", node("a", "n", fmt.Sprint(i)))
		c.Time = now.Add(h * time.Hour)
		c.Events = []model.Event{{Step: "test", What: fmt.Sprint("c", i), Reason: strings.Repeat("x", 300)}}
		commit(t, s, c)
		s.Tell(model.Event{Step: "test", What: fmt.Sprint("t", i), Time: now.Add(h * time.Hour), Reason: strings.Repeat("x", 300)})
		s.awaitTold()
	}
	check := func(s *Store, told bool) {
		t.Helper()
		for _, since := range []time.Duration{-100, -8, -1, 0, 1, 3, 29, 31} {
			var want, events, changes []string
			for i, h := range hours {
				if h >= since {
					want = append(want, fmt.Sprint("c", i))
				}
			}
			got, err := s.Events(EventQuery{Since: now.Add(since * time.Hour)})
			if err != nil {
				t.Fatal(err)
			}
			last := int64(0)
			for _, e := range got {
				if e.Seq <= last {
					t.Errorf("%d after %d", e.Seq, last)
				}
				if last = e.Seq; e.What[0] == 'c' {
					events = append(events, e.What)
				}
			}
			if told && len(got) != 2*len(want) {
				t.Errorf("since %v hours: %d events, want %d", int(since), len(got), 2*len(want))
			}
			cs, err := s.Changes(ChangeQuery{Since: now.Add(since * time.Hour), Touches: true})
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range cs {
				var now string
				for _, f := range c.Touches[0].Fields() {
					now = string(f.Now)
				}
				changes = append(changes, "c"+strings.Trim(now, `"`))
			}
			if fmt.Sprint(events) != fmt.Sprint(want) || len(changes) != len(want) {
				t.Errorf("since %d hours: events %v, changes %v, want %v", since, events, changes, want)
			}
		}
	}
	check(s, true)
	n := 0
	for e, err := range s.Follow(t.Context(), EventQuery{Since: now.Add(-time.Hour)}) {
		if err != nil || e.Time.Before(now.Add(-time.Hour)) {
			t.Fatalf("%+v, %v", e, err)
		}
		if n++; e.What == fmt.Sprint("t", len(hours)-1) {
			break
		}
	}
	if n != 14 {
		t.Errorf("followed %d events, want 14", n)
	}
	_, file := backup(t, s, nil)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	check(open(t, o), true)
	check(restored(t, file), true)
}

// Events are told from all that is told, in any order of times, once: waiting for it is by a clock that does not jump.
func TestTellerIgnoresTheTimesOfEvents(t *testing.T) {
	tl := newTeller()
	for _, at := range []time.Time{time.Now().Add(99 * time.Hour), {}, time.Unix(0, 0), time.Now().Add(-99 * time.Hour)} {
		tl.tell([]model.Event{{Step: "test", Time: at}})
	}
	if tl.take(); len(tl.batch) != 4 || tl.batch[2].Time.Unix() != 0 || tl.batch[1].Time.IsZero() {
		t.Errorf("got %+v", tl.batch)
	}
}

func FuzzJoin(f *testing.F) {
	f.Add([]byte(`{"name":"m2","id":"1f","url":"https://127.0.0.1:1","peers":["https://127.0.0.1:2"]}`))
	f.Add([]byte(`{"peers":["\u0000://"],"url":1}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var j Join
		if json.Unmarshal(text, &j) != nil {
			return
		}
		b, err := json.Marshal(&j)
		if err != nil {
			t.Fatal(err)
		}
		var again Join
		if err := json.Unmarshal(b, &again); err != nil || fmt.Sprint(again) != fmt.Sprint(j) {
			t.Fatalf("%+v became %+v, %v", j, again, err)
		}
		for _, u := range append(j.Peers, j.URL) {
			_ = checkURL("join", u)
		}
	})
}

func FuzzSchemaAndRecord(f *testing.F) {
	f.Add([]byte("2"), "0000000000000001-ABCDEFGH")
	f.Add([]byte(`{"verb":"set","touches":[],"events":[{"step":"x"}]}`), "ffffffffffffffff")
	f.Add([]byte(nil), "-")
	f.Fuzz(func(t *testing.T, value []byte, key string) {
		s := &Store{}
		if err := s.noteSchema(kvOf(schemaKey, value)); err == nil && (s.schema.Load() < 1 || s.schema.Load() > Schema) {
			t.Errorf("schema %d of %q", s.schema.Load(), value)
		}
		for _, family := range []string{changeFamily, toldFamily} {
			r, err := readRecord(kvOf(prefix+family+"/"+key, value))
			if err != nil {
				continue
			}
			if r.family != family || r.void != (len(value) == 0) {
				t.Errorf("got %+v", r)
			}
			last := int64(0)
			r.lines(func(seq int64, _ *changeLine) { last = seq }, func(seq int64, _ *model.Event) {
				if seq <= last {
					t.Errorf("%d after %d", seq, last)
				}
				last = seq
			})
		}
	})
}

func kvOf(key string, value []byte) *mvccpb.KeyValue {
	return &mvccpb.KeyValue{Key: []byte(key), Value: value, ModRevision: 7}
}
