package store

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"muster/internal/model"
)

// olden makes the journals of a closed store what schema 1 had: one, with numbers from that one on. It leaves out the events of the last change,
// as if they had been lost.
func olden(t *testing.T, dir string, first int64) {
	t.Helper()
	s := open(t, Options{Dir: dir})
	events, err := s.Events(EventQuery{})
	if err != nil {
		t.Fatal(err)
	}
	changes, err := s.Changes(ChangeQuery{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	seq := first
	line := func(format string, a ...any) {
		fmt.Fprintf(&text, `{"seq":%d,`+format+"}\n", append([]any{seq}, a...)...)
		seq++
	}
	event := func(e model.Event, more string) {
		b, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(strings.TrimSuffix(string(b), "}"), ",")
		line("%s%s", rest, more)
	}
	for i, c := range changes {
		b, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		line(`"rev":%d,"change":%s`, c.Revision, b)
		if i == len(changes)-1 {
			break
		}
		for _, e := range events {
			if e.Seq>>partBits == int64(c.Revision) {
				event(e, fmt.Sprintf(`,"rev":%d,"part":%d`, c.Revision, e.Seq&maxPart))
			}
		}
		event(model.Event{Time: time.Unix(5, 0).UTC(), Step: "told", What: fmt.Sprint("t", i)}, "")
		if i%5 == 0 {
			line(`"closed":true`)
		}
	}
	if err := os.RemoveAll(filepath.Join(dir, "changes")); err != nil {
		t.Fatal(err)
	}
	if err := removeFiles(filepath.Join(dir, "events")); err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(text.String(), "\n")
	for n := range slices.Chunk(lines[:len(lines)-1], 10) { // small files
		seq, _ := lineSeq([]byte(n[0]))
		if err := os.WriteFile(journalPath(filepath.Join(dir, "events"), seq), []byte(strings.Join(n, "")), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// The timeline of schema 1 stays readable, before all that comes after, and what it had lost is told.
func TestUpgradeOfTheTimeline(t *testing.T) {
	t.Parallel()
	const changes = 20
	make := func(t *testing.T, first int64) string {
		dir := t.TempDir()
		s := open(t, Options{Dir: dir})
		for i := range changes {
			c := change("set", node("a", "n", fmt.Sprint(i)))
			c.Events = []model.Event{{Node: "a", Step: "test", What: fmt.Sprintf("c%d.a", i)}, {Step: "test", What: fmt.Sprintf("c%d.b", i)}}
			commit(t, s, c)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		olden(t, dir, first)
		return dir
	}
	var want []string
	for i := range changes {
		want = append(want, fmt.Sprintf("c%d.a", i), fmt.Sprintf("c%d.b", i), fmt.Sprint("t", i))
	}
	want = append(want[:len(want)-1], "new", "told")
	check := func(t *testing.T, dir string) []model.Event {
		t.Helper()
		var got []model.Event
		for i := range 2 {
			s := open(t, Options{Dir: dir, EventFile: 1000})
			if i == 0 {
				c := change("set", node("b"))
				c.Events = []model.Event{{Step: "test", What: "new"}}
				commit(t, s, c)
				s.Tell(model.Event{Step: "test", What: "told"})
			}
			var err error
			if got, err = s.Events(EventQuery{}); err != nil || !reflect.DeepEqual(whats(got), want) {
				t.Errorf("%v, got  %v\nwant %v", err, whats(got), want)
			}
			for i := 1; i < len(got); i++ {
				if got[i].Seq <= got[i-1].Seq {
					t.Errorf("seq %d after %d", got[i].Seq, got[i-1].Seq)
				}
			}
			audit, err := s.Changes(ChangeQuery{})
			if err != nil || len(audit) != changes+1 || audit[0].Verb != "set" || audit[0].Revision != audit[changes-1].Revision-changes+1 {
				t.Errorf("got changes %v, %v", revisions(audit), err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) != 5 {
			t.Errorf("got %v, %v, want changes, etcd, events, lock and store.json", entries, err)
		}
		return got
	}
	t.Run("keeps the numbers", func(t *testing.T) {
		if got := check(t, make(t, 1)); got[0].Seq != 2 || got[1].Seq != 3 {
			t.Errorf("got %d and %d, want 2 and 3", got[0].Seq, got[1].Seq)
		}
	})
	t.Run("gives others where they are larger than those of new events", func(t *testing.T) {
		check(t, make(t, 1<<40))
	})
	t.Run("goes on where it was killed", func(t *testing.T) {
		made := make(t, 1)
		before := filepath.Join(t.TempDir(), "before") // the old files
		copyDir(t, filepath.Join(made, "events"), before)
		s := open(t, Options{Dir: made, EventFile: 1000})
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		for name, rest := range map[string]map[string]string{ // directory to what it is made of
			"while the new ones were written": {"events": before, "events.new": "changes"},
			"when they were":                  {"events": before, "events.new": "events", "changes.new": "changes"},
			"when the old one was put aside":  {"events.old": before, "events.new": "events", "changes.new": "changes"},
			"when the new one was in place":   {"events.old": before, "events": "events", "changes.new": "changes"},
			"before the old one was removed":  {"events.old": before, "events": "events", "changes": "changes"},
		} {
			t.Run(name, func(t *testing.T) {
				dir := t.TempDir()
				for _, same := range []string{"etcd", "store.json"} {
					copyDir(t, filepath.Join(made, same), filepath.Join(dir, same))
				}
				for to, from := range rest {
					if from != before {
						from = filepath.Join(made, from)
					}
					copyDir(t, from, filepath.Join(dir, to))
				}
				check(t, dir)
			})
		}
	})
	t.Run("leaves a timeline alone whose audit trail is gone", func(t *testing.T) {
		dir := make(t, 1)
		got := check(t, dir)
		if err := os.RemoveAll(filepath.Join(dir, "changes")); err != nil {
			t.Fatal(err)
		}
		s := open(t, Options{Dir: dir})
		for _, e := range got[len(got)-2:] {
			if again, err := s.Events(EventQuery{After: e.Seq - 1, Limit: 1}); err != nil || len(again) != 1 {
				t.Errorf("got %+v, %v", again, err)
			}
		}
		if audit, err := s.Changes(ChangeQuery{}); err != nil || len(audit) != changes+1 {
			t.Errorf("got changes %v, %v", revisions(audit), err)
		}
		if all, err := s.Events(EventQuery{}); err != nil || !reflect.DeepEqual(all, got) {
			t.Errorf("%v, got  %v\nwant %v", err, whats(all), whats(got))
		}
	})
	t.Run("of more events than there are numbers lets revisions pass", func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, Options{Dir: dir})
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		const n = 300_000
		var text strings.Builder
		for i := range n {
			fmt.Fprintf(&text, `{"seq":%d,"time":"2026-01-01T00:00:00Z","step":"test","what":"e%d"}`+"\n", i+1, i)
		}
		if err := os.RemoveAll(filepath.Join(dir, "changes")); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(journalPath(filepath.Join(dir, "events"), 1), []byte(text.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		s = open(t, Options{Dir: dir})
		c := change("set", node("b"))
		c.Events = []model.Event{{Step: "test", What: "new"}}
		commit(t, s, c)
		got, err := s.Events(EventQuery{})
		if err != nil || len(got) != n+1 || got[0].What != "e0" || got[n-1].What != fmt.Sprint("e", n-1) || got[n].What != "new" {
			t.Errorf("got %d events, %v", len(got), err)
		}
	})
}

func copyDir(t *testing.T, from, to string) {
	t.Helper()
	fi, err := os.Stat(from)
	if err != nil {
		t.Fatal(err)
	}
	if fi.IsDir() {
		err = os.CopyFS(to, os.DirFS(from))
	} else {
		var b []byte
		if b, err = os.ReadFile(from); err == nil {
			err = os.WriteFile(to, b, 0o600)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

func FuzzOldLine(f *testing.F) {
	f.Add([]byte(`{"seq":7,"time":"2026-01-01T00:00:00Z","node":"r1n1","step":"power.on","what":"x"}` + "\n"))
	f.Add([]byte(`{"seq":8,"rev":42,"change":{"revision":0,"verb":"set"}}` + "\n" + `{"seq":9,"time":"2026-01-01T00:00:00Z","rev":42,"part":1}` + "\n"))
	f.Add([]byte(`{"seq":10,"closed":true}` + "\n" + ` {"seq":11,"time":`))
	f.Fuzz(func(t *testing.T, text []byte) {
		path := journalPath(t.TempDir(), 1)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		u := &upgrade{has: map[oldPart]bool{}}
		if err := u.look(path); err != nil {
			t.Fatal(err)
		}
		if lines := int64(strings.Count(string(text), "\n")); u.count+int64(len(u.changes)) > lines {
			t.Fatalf("%d events and %d changes in %d lines", u.count, len(u.changes), lines)
		}
	})
}
