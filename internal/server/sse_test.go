package server

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"muster/internal/api"
	"muster/internal/model"
)

// message is one server-sent event as a client sees it.
type message struct{ id, event, data string }

// feed reads server-sent events until the test ends it.
type feed struct {
	t    testing.TB
	in   *bufio.Reader
	body io.Closer
	stop context.CancelFunc
}

func (s *service) feed(path string, header ...string) *feed {
	s.t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	s.t.Cleanup(stop)
	res := s.open(ctx, path, append(header, "Accept", "text/event-stream")...)
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "text/event-stream" {
		b, _ := io.ReadAll(res.Body)
		s.t.Fatalf("%s: %s %s: %s", path, res.Status, res.Header.Get("Content-Type"), b)
	}
	return &feed{s.t, bufio.NewReader(res.Body), res.Body, stop}
}

// next is the next event; comments are skipped.
func (s *feed) next() message {
	s.t.Helper()
	var m message
	for {
		line, err := s.in.ReadString('\n')
		if err != nil {
			s.t.Fatalf("the events ended: %v", err)
		}
		switch name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": "); name {
		case "id":
			m.id = value
		case "event":
			m.event = value
		case "data":
			m.data = value
		case "":
			if value == "" && m.event != "" {
				return m
			}
		}
	}
}

func (s *feed) close() { s.stop(); _ = s.body.Close() }

func TestEventSource_resumes_where_it_was_cut(t *testing.T) {
	s := start(t, shortDir(t))
	src := s.feed("/v1/events?after=0&limit=1")
	src.next() // what was there
	s.srv.tell(model.Event{Node: "r1n1", Step: "power.on", What: "one\nline"}, model.Event{Node: "r1n1", Step: "power.off", What: "two"})
	first := src.next()
	var e model.Event
	if err := json.Unmarshal([]byte(first.data), &e); err != nil || first.event != "power.on" || strconv.FormatInt(e.Seq, 10) != first.id || e.What != "one\nline" {
		t.Errorf("%+v, %v", first, err)
	}
	src.close()
	s.srv.tell(model.Event{Node: "r1n1", Step: "power.cycle", What: "three"})
	again := s.feed("/v1/events", "Last-Event-ID", first.id)
	defer again.close()
	for _, want := range []string{"power.off", "power.cycle"} {
		if m := again.next(); m.event != want {
			t.Errorf("after %s came %+v, want %s", first.id, m, want)
		}
	}
	if res, b := s.get("/v1/events", "Last-Event-ID", "x", "Accept", "text/event-stream"); res.StatusCode != http.StatusBadRequest {
		t.Errorf("%s %s", res.Status, b)
	}
}

func TestEventSource_says_that_there_is_a_gap(t *testing.T) {
	s := start(t, shortDir(t))
	src := s.feed("/v1/events", "Last-Event-ID", strconv.FormatInt(1<<60, 10)) // of a timeline that is gone
	defer src.close()
	m := src.next()
	var gap api.EventGap
	if err := json.Unmarshal([]byte(m.data), &gap); err != nil || m.event != "gap" || m.id != "" || gap.After != 1<<60 || gap.Do == "" {
		t.Errorf("%+v, %v", m, err)
	}
	if m := src.next(); m.event != "service.start" {
		t.Errorf("after the gap came %+v", m)
	}
}

func TestEventSource_that_is_not_read_keeps_nobody_waiting(t *testing.T) {
	s := start(t, shortDir(t))
	idle := s.feed("/v1/events")
	defer idle.close()
	lazy := s.feed("/v1/watch")
	defer lazy.close()
	s.add("r1n1")
	long := strings.Repeat("x", 4<<10)
	for i := range 3000 { // more than sockets hold
		s.srv.tell(model.Event{Node: "r1n1", Step: "test", What: strconv.Itoa(i) + long})
	}
	src := s.feed("/v1/events?limit=1")
	defer src.close()
	if m := src.next(); !strings.Contains(m.data, `"2999x`) {
		t.Errorf("%.100s", m.data)
	}
	s.add("r1n2")
}

func (m message) watched(t *testing.T) (w api.Watched) {
	t.Helper()
	if err := json.Unmarshal([]byte(m.data), &w); err != nil || m.event != "change" || m.id != strconv.FormatInt(w.Revision, 10) {
		t.Fatalf("%+v: %v", m, err)
	}
	return w
}

func TestWatch_tells_what_changed_by_name(t *testing.T) {
	s := start(t, shortDir(t))
	s.add("r1n[1-3]")
	src := s.feed("/v1/watch?since=" + strconv.FormatInt(int64(s.srv.store.Snapshot().Revision), 10))
	defer src.close()
	groups := s.feed("/v1/watch?kinds=group")
	defer groups.close()
	names := func(w api.Watched) string {
		var out []string
		for _, c := range w.Changed {
			out = append(out, c.Kind+" "+c.Name+" "+c.Did)
		}
		return strings.Join(out, ", ")
	}
	s.must("/v1/set", api.SetAttrs{Range: api.Range{Range: "r1n2"}, Set: []api.Assignment{attr("custom.x", "1")}}, nil)
	if got := names(src.next().watched(t)); got != "node r1n2 changed" {
		t.Errorf("set: %s", got)
	}
	s.commit(model.Op{Kind: model.KindState, Name: "r1n1", Doc: &model.State{Node: "r1n1", Power: "on"}}) // observed: no change
	s.must("/v1/nodes/add", api.AddNodes{Range: api.Range{Range: "r1n4"}, Groups: []string{"new"}}, nil)
	if got := names(src.next().watched(t)); got != "node r1n4 added, group new added" {
		t.Errorf("add: %s", got)
	}
	if got := names(groups.next().watched(t)); got != "group new added" {
		t.Errorf("groups only: %s", got)
	}
	s.must("/v1/nodes/remove", api.RemoveNodes{Range: api.Range{Range: "r1n1,r1n3"}}, nil)
	w := src.next().watched(t)
	if got := names(w); got != "node r1n1 removed, node r1n3 removed" || w.Revision != int64(s.srv.store.Snapshot().Described) {
		t.Errorf("remove: %s at %d", got, w.Revision)
	}
}

func TestWatch_goes_on_where_it_was_cut(t *testing.T) {
	s := start(t, shortDir(t))
	s.add("r1n1")
	old := int64(s.srv.store.Snapshot().Described)
	s.add("r1n2")
	s.set("r1n1", attr("custom.x", "1"))
	var c api.Changed
	s.must("/v1/groups/add", api.GroupAction{Name: "rack"}, &c)
	s.must("/v1/nodes/remove", api.RemoveNodes{Range: api.Range{Range: "r1n2"}}, &c)
	since := strconv.FormatInt(old, 10)
	for name, src := range map[string]*feed{
		"since": s.feed("/v1/watch?since=" + since), "Last-Event-ID": s.feed("/v1/watch", "Last-Event-ID", since), "nodes": s.feed("/v1/watch?kinds=node&since=" + since),
	} {
		want := []string{"node r1n2 added", "node r1n1 changed", "group rack added", "node r1n2 removed"}
		if name == "nodes" {
			want = slices.Delete(want, 2, 3)
		}
		last := old
		for _, want := range want {
			w := src.next().watched(t)
			if len(w.Changed) != 1 || w.Changed[0].Kind+" "+w.Changed[0].Name+" "+w.Changed[0].Did != want || w.Revision <= last {
				t.Errorf("%s: got %+v after %d, want %s", name, w, last, want)
			}
			last = w.Revision
		}
		if last != c.Revision {
			t.Errorf("%s: the last one is of revision %d, want %d", name, last, c.Revision)
		}
	}
	live := s.feed("/v1/watch?since=" + since)
	for range 4 {
		live.next()
	}
	s.add("r1n9")
	if w := live.next().watched(t); len(w.Changed) != 1 || w.Changed[0].Name != "r1n9" {
		t.Errorf("what comes after the past is %+v", w)
	}
}

func TestWatch_says_to_reread_what_is_not_known_any_more(t *testing.T) {
	data := shortDir(t)
	s := start(t, data)
	s.add("r1n1")
	s.add("r1n2")
	s.add("r1n3")
	begin := int64(s.srv.store.Snapshot().Described)
	old := begin - 2
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	// The record begins later, as when its oldest files were removed.
	files, err := filepath.Glob(filepath.Join(data, "store", "changes", "*"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(b, fmt.Appendf(nil, `"revision":%d,`, begin))
	at = bytes.LastIndexByte(b[:max(at, 0)], '\n') + 1
	var first struct {
		Seq int64 `json:"seq"`
	}
	if err := json.NewDecoder(bytes.NewReader(b[at:])).Decode(&first); err != nil || first.Seq>>16 != begin {
		t.Fatal(first, err)
	}
	if err := errors.Join(os.WriteFile(filepath.Join(filepath.Dir(files[0]), fmt.Sprintf("%020d.jsonl", first.Seq)), b[at:], 0o600), os.Remove(files[0])); err != nil {
		t.Fatal(err)
	}
	s = start(t, data)
	for _, src := range []*feed{s.feed("/v1/watch?since=" + strconv.FormatInt(old, 10)), s.feed("/v1/watch", "Last-Event-ID", strconv.FormatInt(old, 10))} {
		m := src.next()
		var r api.Reread
		if err := json.Unmarshal([]byte(m.data), &r); err != nil || m.event != "reread" || r.Revision < int64(s.srv.store.Snapshot().Described) || r.Why == "" {
			t.Errorf("%+v, %v", m, err)
		}
		src.close()
	}
	if res, b := s.get("/v1/watch?kinds=nodes"); res.StatusCode != http.StatusBadRequest || !strings.Contains(string(b), "node, group") {
		t.Errorf("%s %s", res.Status, b)
	}
}
