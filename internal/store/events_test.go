package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"muster/internal/model"
)

// openLines opens a timeline that the test closes.
func openLines(t testing.TB, dir string, size, keep int64) *timeline {
	t.Helper()
	tl, _, err := openTimeline(dir, size, keep, logTo(new(bytes.Buffer)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tl.close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return tl
}

// asStore lets a test ask a timeline as a store is asked.
func asStore(tl *timeline) *Store { return &Store{timeline: tl} }

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
	tl := openLines(t, t.TempDir(), 2000, 1<<20) // many small files
	s := asStore(tl)
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
	tl := openLines(t, t.TempDir(), 2000, 10_000)
	s := asStore(tl)
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
		tl := openLines(t, t.TempDir(), 1000, 1<<30)
		s := asStore(tl)
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
		s := asStore(openLines(t, t.TempDir(), 1000, 1<<30))
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
		s := asStore(openLines(t, t.TempDir(), 1000, 1<<30))
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
			s = asStore(openLines(t, t.TempDir(), 1000, 1<<30))
			s.Tell(say(50)...)
		}
	})
	t.Run("ends with its context and with the store", func(t *testing.T) {
		tl := openLines(t, t.TempDir(), 1000, 1<<30)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for _, c := range []context.Context{ctx, t.Context()} {
			wg.Go(func() {
				for range asStore(tl).Follow(c, EventQuery{}) {
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
	t.Run("is told that its place is of a timeline that is gone", func(t *testing.T) {
		s := asStore(openLines(t, t.TempDir(), 1000, 1<<30))
		all := say(30)
		s.Tell(all...)
		var got []string
		for e, err := range s.Follow(t.Context(), EventQuery{After: 5000}) {
			var gap *GapError
			if errors.As(err, &gap) && *gap == (GapError{After: 5000, Oldest: 1}) {
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
		if want := append([]string{"gap"}, whats(all)...); !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
	t.Run("that is slow hinders nobody, and is told what it missed", func(t *testing.T) {
		tl := openLines(t, t.TempDir(), 1000, 5000)
		s := asStore(tl)
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
	tl := openLines(t, t.TempDir(), 100, 1<<30)
	asStore(tl).Tell(say(10)...)
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
	asStore(tl).Tell(model.Event{Step: "test", What: "more"})
	if err := tl.flush(); err == nil {
		t.Fatal("it did not fail")
	}
	if err := failing.Close(); err != nil {
		t.Errorf("the file was closed although it is not on disk: %v", err)
	}
	tl.writing.Lock()
	tl.file = good
	tl.writing.Unlock()
	if got, err := asStore(tl).Events(EventQuery{}); err != nil || len(got) != 11 {
		t.Errorf("%d events, %v", len(got), err)
	}
}

func TestTornTimeline(t *testing.T) {
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
		"a torn last line is cut":                {line(1) + line(2) + line(3)[:20], "e1 e2", true},
		"so are blocks of zeros":                 {line(1) + line(2) + strings.Repeat("\x00", 5000), "e1 e2", true},
		"and a line without its end":             {line(1) + strings.TrimSuffix(line(2), "\n"), "e1", true},
		"a damaged line elsewhere is left there": {line(1) + line(2)[:20] + "\n" + line(3), "e1 e3", false},
		"a file of nothing good":                 {"\x00\x01\n\n\n", "", true},
		"an empty file":                          {"", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := write(t, dir, c.text)
			log := new(bytes.Buffer)
			tl, _, err := openTimeline(dir, 1<<20, 1<<20, logTo(log))
			if err != nil {
				t.Fatal(err)
			}
			s := asStore(tl)
			if got, err := s.Events(EventQuery{}); err != nil || strings.Join(whats(got), " ") != c.want {
				t.Errorf("got %v, %v, want %s", whats(got), err, c.want)
			}
			s.Tell(model.Event{Step: "test", What: "more"})
			if err := tl.close(); err != nil {
				t.Fatal(err)
			}
			b, _ := os.ReadFile(path)
			if c.cut == strings.HasPrefix(string(b), c.text) {
				t.Errorf("cut: %t, want %t", !c.cut, c.cut)
			}
			if (c.cut || strings.Contains(name, "elsewhere")) != strings.Contains(log.String(), path) {
				t.Errorf("log: %s", log)
			}
			tl = openLines(t, dir, 1<<20, 1<<20)
			got, err := asStore(tl).Events(EventQuery{})
			if want := strings.TrimSpace(c.want + " more"); err != nil || strings.Join(whats(got), " ") != want {
				t.Errorf("after the next start: got %v, %v, want %s", whats(got), err, want)
			}
			for i := 1; i < len(got); i++ {
				if got[i].Seq <= got[i-1].Seq {
					t.Errorf("seq %d after %d", got[i].Seq, got[i-1].Seq)
				}
			}
		})
	}
}

// The events of a committed change are on the timeline once after a restart, whatever the timeline lost.
func TestLostEventsAreToldAgain(t *testing.T) {
	const changes = 30
	made := t.TempDir()
	s := open(t, Options{Dir: made})
	for i := range changes {
		c := change("set", node("a", "n", fmt.Sprint(i)))
		for j := range i % 4 {
			c.Events = append(c.Events, model.Event{Step: "test", What: fmt.Sprintf("c%d.%d", i, j)})
		}
		commit(t, s, c)
		s.Tell(model.Event{Step: "told", What: "told"})
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(made, "events", "*"))
	whole, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	check := func(t *testing.T, s *Store) {
		t.Helper()
		events, err := s.Events(EventQuery{})
		if err != nil {
			t.Fatal(err)
		}
		n := map[string]int{}
		for _, e := range events {
			if e.Step == "test" {
				n[e.What]++
			}
		}
		for i := range changes {
			for j := range i % 4 {
				if what := fmt.Sprintf("c%d.%d", i, j); n[what] != 1 {
					t.Errorf("%s is there %d times", what, n[what])
				}
			}
		}
	}
	harms := map[string][]byte{"everything": nil, "a line in the middle": bytes.Replace(whole, []byte(`c15.1`), []byte{'"', 0, 0, 0, 0}, 1)}
	for cut := len(whole) - 40; cut > len(whole)/2; cut -= 1187 {
		harms[fmt.Sprint("the end from byte ", cut)] = whole[:cut]
	}
	for name, text := range harms {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(files[0], text, 0o600); err != nil {
				t.Fatal(err)
			}
			for range 3 { // small files: what is told again lies across several
				s := open(t, Options{Dir: made, EventFile: 1000})
				check(t, s)
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
			}
			now, _ := filepath.Glob(filepath.Join(made, "events", "*"))
			for _, f := range now {
				if f != files[0] {
					os.Remove(f)
				}
			}
		})
	}
}

func TestOldChangeRecordsAreRemoved(t *testing.T) {
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
		res, err := s.engine.client.Get(t.Context(), changePrefix, withCount()...)
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
	key := s.changeKey(s.order.Load())
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

func FuzzTimeline(f *testing.F) {
	f.Add([]byte(`{"seq":1,"time":"2026-01-01T00:00:00Z","node":"r1n1","step":"test","what":"e"}` + "\n"))
	f.Add([]byte(`{"seq":2,"rev":4,"change":{"revision":0,"verb":"set"}}` + "\n" + `{"seq":3,"time":"2026-01-01T00:00:00Z","rev":4,"part":1}` + "\n"))
	f.Add([]byte(`{"seq":9,"closed":true}` + "\n" + `{"seq":`))
	f.Add([]byte("{\"seq\":1,\"time\":\"\",\"node\":\"\n\x00\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "00000000000000000001.jsonl"), text, 0o600); err != nil {
			t.Fatal(err)
		}
		var before []model.Event
		for i := range 2 {
			tl, _, err := openTimeline(dir, 100, 1<<20, logTo(new(bytes.Buffer)))
			if err != nil {
				t.Fatal(err)
			}
			s := asStore(tl)
			got, err := s.Events(EventQuery{})
			if err != nil {
				t.Fatal(err)
			}
			if i == 1 && (len(got) != len(before)+1 || got[len(got)-1].What != "more") {
				t.Fatalf("got %d events, want the %d of before and one more", len(got), len(before))
			}
			before = got
			s.Tell(model.Event{Node: "n", Step: "test", What: "more"})
			if err := tl.close(); err != nil {
				t.Fatal(err)
			}
		}
	})
}
