package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"muster/internal/model"
)

// tape is a journal of events to which a test tells without a store: the numbers are 1, 2, 3 …
type tape struct {
	*journal
	mu sync.Mutex
}

// openTape opens a journal that the test closes.
func openTape(t testing.TB, dir string, size, keep int64) *tape {
	t.Helper()
	j, err := openJournal("timeline", dir, size, keep, logTo(new(bytes.Buffer)), func() {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := j.close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return &tape{journal: j}
}

func (p *tape) Tell(events ...model.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range events {
		e.Seq = p.since()
		if e.Time.IsZero() {
			e.Time = time.Now()
		}
		p.append(e.Seq, &e)
	}
}

func (p *tape) Events(q EventQuery) ([]model.Event, error) {
	to, err := p.now()
	if err != nil {
		return nil, err
	}
	return p.past(q, to)
}

func (p *tape) Follow(ctx context.Context, q EventQuery) iter.Seq2[model.Event, error] {
	return func(yield func(model.Event, error) bool) { p.follow(ctx, q, yield) }
}

func whats(events []model.Event) []string {
	var w []string
	for _, e := range events {
		w = append(w, e.What)
	}
	return w
}

func say(n int) (e []model.Event) {
	for i := range n {
		e = append(e, model.Event{
			Time: time.Unix(int64(1000+i), 0), Node: model.NodeName(fmt.Sprint("n", i%10)), Step: "test",
			What: fmt.Sprint("e", i), Bad: i%7 == 0,
		})
	}
	return e
}

func TestEvents(t *testing.T) {
	tl := openTape(t, t.TempDir(), 2000, 1<<20) // many small files
	s := tl
	all := say(200)
	for _, e := range all {
		s.Tell(e)
		if err := tl.flush(); err != nil {
			t.Fatal(err)
		}
	}
	if len(tl.files) < 5 {
		t.Fatalf("%d files, want many", len(tl.files))
	}
	s.Tell(model.Event{Step: "test", MAC: "52:54:00:77:00:09", What: `about no node, and a trap: ,"node":"n3"`})
	all, err := s.Events(EventQuery{})
	if err != nil || len(all) != 201 {
		t.Fatalf("got %d events, %v", len(all), err)
	}
	for i := 1; i < len(all); i++ {
		if all[i].Seq <= all[i-1].Seq {
			t.Fatalf("seq %d after %d", all[i].Seq, all[i-1].Seq)
		}
	}
	if all[200].Time.IsZero() {
		t.Error("no time was given to the last event")
	}
	n3 := map[model.NodeName]bool{"n3": true}
	for name, c := range map[string]struct {
		q    EventQuery
		want func(model.Event) bool
	}{
		"of a node":          {EventQuery{Nodes: n3}, func(e model.Event) bool { return e.Node == "n3" }},
		"of no node at all":  {EventQuery{Nodes: map[model.NodeName]bool{}}, func(model.Event) bool { return false }},
		"since":              {EventQuery{Since: time.Unix(1100, 0)}, func(e model.Event) bool { return e.Time.Unix() >= 1100 }},
		"after":              {EventQuery{After: all[149].Seq}, func(e model.Event) bool { return e.Seq > all[149].Seq }},
		"bad":                {EventQuery{Bad: true}, func(e model.Event) bool { return e.Bad }},
		"the newest":         {EventQuery{Limit: 3}, func(e model.Event) bool { return e.Seq > all[197].Seq }},
		"none":               {EventQuery{Limit: -1}, func(model.Event) bool { return false }},
		"newest of a node":   {EventQuery{Nodes: n3, Limit: 2}, func(e model.Event) bool { return e.What == "e193" || e.What == "e183" }},
		"of a node, limited": {EventQuery{Nodes: n3, After: all[183].Seq, Limit: 9}, func(e model.Event) bool { return e.What == "e193" }},
		"after the end":      {EventQuery{After: 1 << 40}, func(model.Event) bool { return false }},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := s.Events(c.q)
			if err != nil {
				t.Fatal(err)
			}
			want := slices.DeleteFunc(slices.Clone(all), func(e model.Event) bool { return !c.want(e) })
			if !slices.Equal(whats(got), whats(want)) {
				t.Errorf("got  %v\nwant %v", whats(got), whats(want))
			}
		})
	}
}

func TestEventsKeepsNoMoreThanItIsTold(t *testing.T) {
	tl := openTape(t, t.TempDir(), 2000, 10_000)
	s := tl
	for _, e := range say(500) {
		s.Tell(e)
		if err := tl.flush(); err != nil {
			t.Fatal(err)
		}
	}
	got, err := s.Events(EventQuery{})
	if err != nil || len(got) < 50 || len(got) > 150 || got[len(got)-1].What != "e499" {
		t.Fatalf("got %d events, the last %+v, %v", len(got), got[len(got)-1], err)
	}
	t.Run("and says so to who asks for older ones", func(t *testing.T) {
		var gap *GapError
		n := 0
		for e, err := range s.Follow(t.Context(), EventQuery{After: 3}) {
			if errors.As(err, &gap) {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			if n++; e.What == "e499" {
				break
			}
		}
		if gap == nil || gap.After != 3 || gap.Oldest != got[0].Seq || n != len(got) {
			t.Fatalf("got %+v and %d events", gap, n)
		}
	})
}

func TestFollow(t *testing.T) {
	t.Run("yields the past, then what comes, over many files, each once", func(t *testing.T) {
		tl := openTape(t, t.TempDir(), 1000, 1<<30)
		s := tl
		const n = 3000
		all := say(n)
		s.Tell(all[:100]...)
		var wg sync.WaitGroup
		wg.Go(func() {
			for _, e := range all[100:] {
				s.Tell(e)
			}
		})
		for range 3 {
			wg.Go(func() {
				i := 0
				for e, err := range s.Follow(t.Context(), EventQuery{}) {
					if err != nil || e.What != all[i].What {
						t.Errorf("event %d: got %+v, %v", i, e, err)
						return
					}
					if i++; i == n {
						return
					}
				}
			})
		}
		wg.Wait()
	})
	t.Run("resumes", func(t *testing.T) {
		s := openTape(t, t.TempDir(), 1000, 1<<30)
		all := say(300)
		s.Tell(all...)
		var after int64
		for i := 0; i < len(all); {
			for e, err := range s.Follow(t.Context(), EventQuery{After: after}) {
				if err != nil || e.What != all[i].What {
					t.Fatalf("event %d: got %+v, %v", i, e, err)
				}
				after = e.Seq
				if i++; i%7 == 0 || i == len(all) {
					break
				}
			}
		}
	})
	t.Run("begins with the newest of the past, or with none", func(t *testing.T) {
		s := openTape(t, t.TempDir(), 1000, 1<<30)
		s.Tell(say(50)...)
		for _, limit := range []int{2, -1} {
			var got []string
			next := make(chan struct{})
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				defer close(next)
				for e := range s.Follow(ctx, EventQuery{Limit: limit}) {
					got = append(got, e.What)
					if e.What == "new" {
						return
					}
				}
			}()
			for ended := false; !ended; { // a follower that has not begun yet would miss a single one
				s.Tell(model.Event{Step: "test", What: "new"})
				select {
				case <-next:
					ended = true
				case <-time.After(10 * time.Millisecond):
				}
			}
			cancel()
			// By the time that it began, one or two may have been new.
			text := strings.Join(got, " ")
			if limit < 0 && text != "new" || limit > 0 && text != "e48 e49 new" && text != "e49 new" && text != "new new" && text != "new" {
				t.Errorf("limit %d: got %s", limit, text)
			}
			s = openTape(t, t.TempDir(), 1000, 1<<30)
			s.Tell(say(50)...)
		}
	})
	t.Run("ends with its context and with the store", func(t *testing.T) {
		tl := openTape(t, t.TempDir(), 1000, 1<<30)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for _, c := range []context.Context{ctx, t.Context()} {
			wg.Go(func() {
				for range tl.Follow(c, EventQuery{}) {
					t.Error("there is no event")
				}
			})
		}
		cancel()
		if err := tl.close(); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
	})
	t.Run("that is slow hinders nobody, and is told what it missed", func(t *testing.T) {
		tl := openTape(t, t.TempDir(), 1000, 5000)
		s := tl
		s.Tell(say(1)...)
		all := say(1000)
		i, gaps := 0, 0
		var last int64
		for e, err := range s.Follow(t.Context(), EventQuery{}) {
			var gap *GapError
			if errors.As(err, &gap) {
				if gaps++; gap.After != last {
					t.Errorf("gap after %d, want after %d", gap.After, last)
				}
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			if i == 0 { // meanwhile the writer goes round the whole of what is kept
				for _, e := range all {
					s.Tell(e)
					if err := tl.flush(); err != nil {
						t.Fatal(err)
					}
				}
			}
			if e.Seq <= last {
				t.Fatalf("seq %d after %d", e.Seq, last)
			}
			last = e.Seq
			if i++; e.What == "e999" {
				break
			}
		}
		if gaps != 1 || i > 100 {
			t.Errorf("got %d gaps, %d events", gaps, i)
		}
	})
}

// A disk that fails when a full file is to be synced may work again later: the timeline goes on then.
func TestTimelineGoesOnAfterAFailedSync(t *testing.T) {
	tl := openTape(t, t.TempDir(), 100, 1<<30)
	tl.Tell(say(10)...)
	if err := tl.flush(); err != nil {
		t.Fatal(err)
	}
	in, failing, err := os.Pipe() // a file that cannot be synced
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	tl.writing.Lock()
	good := tl.file
	tl.file = failing
	tl.writing.Unlock()
	tl.Tell(model.Event{Step: "test", What: "more"})
	if err := tl.flush(); err == nil {
		t.Fatal("it did not fail")
	}
	if err := failing.Close(); err != nil {
		t.Errorf("the file was closed although it is not on disk: %v", err)
	}
	tl.writing.Lock()
	tl.file = good
	tl.writing.Unlock()
	if got, err := tl.Events(EventQuery{}); err != nil || len(got) != 11 {
		t.Errorf("%d events, %v", len(got), err)
	}
}

// A new file is begun when the full one is on disk, and not before: after a power cut only the newest one is looked at.
func TestNoNewFileOfAJournalBeforeTheFullOneIsOnDisk(t *testing.T) {
	dir := t.TempDir()
	j, err := openJournal("timeline", dir, 1, 1<<20, slog.New(slog.DiscardHandler), func() {})
	if err != nil {
		t.Fatal(err)
	}
	defer j.close()
	j.append(1, &gapLine{Seq: 1, Gap: true})
	if err := j.sync(); err != nil {
		t.Fatal(err)
	}
	_, unsynced, err := os.Pipe() // fsync(2) of a pipe is an error
	if err != nil {
		t.Fatal(err)
	}
	j.writing.Lock()
	full := j.file
	j.file = unsynced
	j.writing.Unlock()
	j.append(2, &gapLine{Seq: 2, Gap: true})
	if err := j.sync(); err == nil {
		t.Error("no error")
	}
	if files, err := journalFiles(dir); err != nil || len(files) != 1 {
		t.Errorf("%d files, %v: a new one was begun", len(files), err)
	}
	j.writing.Lock()
	j.file = full
	j.writing.Unlock()
	if err := j.sync(); err != nil {
		t.Error(err)
	}
	if files, err := journalFiles(dir); err != nil || len(files) != 2 {
		t.Errorf("%d files, %v: want the second", len(files), err)
	}
}

func TestTornJournal(t *testing.T) {
	write := func(t *testing.T, dir, text string) string {
		t.Helper()
		path := filepath.Join(dir, "00000000000000000001.jsonl")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	line := func(n int) string {
		return fmt.Sprintf(`{"seq":%d,"time":"2026-01-01T00:00:00Z","step":"test","what":"e%d"}`+"\n", n, n)
	}
	for name, c := range map[string]struct {
		text, want string
		cut        bool
	}{
		"a torn last line is cut":                   {line(1) + line(2) + line(3)[:40], "e1 e2", true},
		"so are blocks of zeros":                    {line(1) + line(2) + strings.Repeat("\x00", 5000), "e1 e2", true},
		"and a line without its end":                {line(1) + strings.TrimSuffix(line(2), "\n"), "e1", true},
		"and a line that has the number of another": {line(1) + line(2) + line(2), "e1 e2", true},
		"a file of nothing good":                    {"\x00\x01\n\n\n", "", true},
		"an empty file":                             {"", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := write(t, dir, c.text)
			log := new(bytes.Buffer)
			j, err := openJournal("timeline", dir, 1<<20, 1<<20, logTo(log), func() {})
			if err != nil {
				t.Fatal(err)
			}
			s := &tape{journal: j}
			if got, err := s.Events(EventQuery{}); err != nil || strings.Join(whats(got), " ") != c.want {
				t.Errorf("got %v, %v, want %s", whats(got), err, c.want)
			}
			s.Tell(model.Event{Step: "test", What: "more"})
			if err := j.close(); err != nil {
				t.Fatal(err)
			}
			b, _ := os.ReadFile(path)
			if c.cut == strings.HasPrefix(string(b), c.text) {
				t.Errorf("cut: %t, want %t", !c.cut, c.cut)
			}
			if c.cut != strings.Contains(log.String(), path) {
				t.Errorf("log: %s", log)
			}
			got, err := openTape(t, dir, 1<<20, 1<<20).Events(EventQuery{})
			if want := strings.TrimSpace(c.want + " more"); err != nil || strings.Join(whats(got), " ") != want {
				t.Errorf("after the next start: got %v, %v, want %s", whats(got), err, want)
			}
		})
	}
	t.Run("a damaged line in the middle is put back in its place, and nothing behind it is lost or doubled", func(t *testing.T) {
		dir := t.TempDir()
		write(t, dir, line(1)+line(2)[:20]+"\n"+line(3)+"\x00\x00"+line(4)+line(4)+line(5)+line(6)[:9])
		tl := openTape(t, dir, 1<<20, 1<<20)
		if got, err := tl.Events(EventQuery{}); err != nil || strings.Join(whats(got), " ") != "e1 e3 e4 e5" {
			t.Fatalf("before: got %v, %v", whats(got), err)
		}
		if !tl.harmed || tl.since() != 1 {
			t.Fatalf("harmed %t, since %d", tl.harmed, tl.since())
		}
		var have []entry
		for n := 2; n < 7; n++ {
			have = append(have, entry{int64(n), []byte(strings.Replace(line(n), `"test"`, `"again"`, 1))})
		}
		if err := tl.mend(have); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			got, err := tl.Events(EventQuery{})
			if err != nil || strings.Join(whats(got), " ") != "e1 e2 e3 e4 e5" || got[1].Step != "again" || got[2].Step != "test" {
				t.Fatalf("got %+v, %v", got, err)
			}
			if tl.harmed || tl.since() != 6 {
				t.Fatalf("harmed %t, since %d", tl.harmed, tl.since())
			}
			tl = openTape(t, dir, 1<<20, 1<<20)
		}
	})
}

// Whatever the files lost, all events and changes whose records are kept are there once after a restart, in order, with the numbers
// that they had.
func TestWhatIsLostIsToldAgain(t *testing.T) {
	t.Parallel()
	const changes = 30
	made := t.TempDir()
	s := open(t, Options{Dir: made})
	for i := range changes {
		c := change("set", node("a", "n", fmt.Sprint(i)))
		for j := range i % 4 {
			c.Events = append(c.Events, model.Event{Step: "test", What: fmt.Sprintf("c%d.%d", i, j)})
		}
		commit(t, s, c)
		s.Tell(model.Event{Step: "told", What: fmt.Sprint("t", i)})
		if i%10 == 0 {
			s.awaitTold()
		}
	}
	wantEvents, err := s.Events(EventQuery{})
	if err != nil || len(wantEvents) != 43+changes {
		t.Fatalf("%d events, %v", len(wantEvents), err)
	}
	wantChanges, err := s.Changes(ChangeQuery{Touches: true})
	if err != nil || len(wantChanges) != changes {
		t.Fatalf("%d changes, %v", len(wantChanges), err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"events", "changes"} {
		path := journalPath(filepath.Join(made, dir), 1)
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		middle := whole[len(whole)/2:][:10]
		harms := map[string][]byte{"everything": nil, "a piece of a line in the middle": bytes.Replace(whole, middle, []byte{'"', 0, 0, 0, 0}, 1)}
		for cut := len(whole) - 40; cut > len(whole)/2; cut -= 1187 {
			harms[fmt.Sprint("the end from byte ", cut)] = whole[:cut]
		}
		lines := bytes.SplitAfter(whole, []byte("\n"))
		harms["line ends, and all of some lines"] = slices.Concat(lines[0], lines[1], []byte{0, 0}, lines[3], lines[4][:len(lines[4])-1], slices.Concat(lines[5:]...))
		for name, text := range harms {
			t.Run(dir+" lost "+name, func(t *testing.T) {
				for _, f := range []string{"events", "changes"} {
					now, _ := filepath.Glob(filepath.Join(made, f, "*"))
					for _, file := range now {
						if file != journalPath(filepath.Join(made, f), 1) {
							os.Remove(file)
						}
					}
				}
				if err := os.WriteFile(path, text, 0o600); err != nil {
					t.Fatal(err)
				}
				for range 2 { // small files: what is told again lies across several
					s := open(t, Options{Dir: made, EventFile: 1000})
					if got, err := s.Events(EventQuery{}); err != nil || !reflect.DeepEqual(got, wantEvents) {
						t.Errorf("%v, got  %+v\nwant %+v", err, got, wantEvents)
					}
					if got, err := s.Changes(ChangeQuery{Touches: true}); err != nil || !reflect.DeepEqual(got, wantChanges) {
						t.Errorf("%v, got  %+v\nwant %+v", err, got, wantChanges)
					}
					if err := s.Close(); err != nil {
						t.Fatal(err)
					}
				}
			})
		}
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOldChangeRecordsAreRemoved(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, Options{Dir: dir, Changes: 10, trimAge: 1})
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range (trimEvery + 100) / 8 {
				c := change("set", node(fmt.Sprint("n", w)))
				c.Events = []model.Event{{Step: "test", What: fmt.Sprintf("%d.%d", w, i)}}
				commit(t, s, c)
			}
		})
	}
	wg.Wait()
	records := func() int {
		res, err := s.engine.client.Get(t.Context(), s.changes.from(0), withCount()...)
		if err != nil {
			t.Fatal(err)
		}
		return int(res.Count)
	}
	if err := s.Wait(t.Context(), func(*model.Snapshot) bool { return records() < 10+trimEvery }); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, Options{Dir: dir, Changes: 10, trimAge: 1})
	commit(t, s, change("set", node("n0")))
	events, err := s.Events(EventQuery{})
	if want := (trimEvery + 100) / 8 * 8; err != nil || len(events) != want {
		t.Errorf("got %d events, %v, want %d", len(events), err, want)
	}
}

// By the record of a change a manager finds out whether it was made, when the answer was lost: it must find it, however much the others write
// meanwhile.
func TestYoungChangeRecordsStay(t *testing.T) {
	s := open(t, Options{Changes: 10})
	rev := commit(t, s, change("set", node("a")))
	key := s.changes.from(s.changes.order.Load()) + "-" + s.changes.tag
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for range 2 * trimEvery / 16 {
				commit(t, s, change("set", node(fmt.Sprint("n", w))))
			}
		})
	}
	wg.Wait()
	if got, err := s.settle(t.Context(), key); err != nil || got != rev {
		t.Fatalf("got %d, %v, want %d", got, err, rev)
	}
}

func FuzzJournal(f *testing.F) {
	f.Add([]byte(`{"seq":1,"time":"2026-01-01T00:00:00Z","node":"r1n1","step":"test","what":"e"}` + "\n"))
	f.Add([]byte(`{"seq":2,"revision":4,"verb":"set"}` + "\n" + `{"seq":3,"time":"2026-01-01T00:00:00Z"}` + "\n"))
	f.Add([]byte(`{"seq":9,"gap":true}` + "\n" + `{"seq":`))
	f.Add([]byte("{\"seq\":1,\"time\":\"\",\"node\":\"\n\x00\n{\"seq\":4,\"time\":\"2026-01-01T00:00:00Z\"}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "00000000000000000001.jsonl"), text, 0o600); err != nil {
			t.Fatal(err)
		}
		var before []model.Event
		for i := range 2 {
			j, err := openJournal("timeline", dir, 100, 1<<20, logTo(new(bytes.Buffer)), func() {})
			if err != nil {
				t.Fatal(err)
			}
			if err := j.mend(nil); err != nil {
				t.Fatal(err)
			}
			s := &tape{journal: j}
			got, err := s.Events(EventQuery{})
			if err != nil {
				t.Fatal(err)
			}
			full := j.since() == math.MaxInt64 // there is no larger number
			if i == 1 && !full && (len(got) != len(before)+1 || got[len(got)-1].What != "more") {
				t.Fatalf("got %d events, want the %d of before and one more", len(got), len(before))
			}
			before = got
			s.Tell(model.Event{Node: "n", Step: "test", What: "more"})
			if err := j.close(); err != nil {
				t.Fatal(err)
			}
		}
	})
}
