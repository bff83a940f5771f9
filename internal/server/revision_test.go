package server

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"muster/internal/api"
	"muster/internal/model"
)

func revision(t *testing.T, res *http.Response) int64 {
	t.Helper()
	n, err := strconv.ParseInt(res.Header.Get(api.RevisionHeader), 10, 64)
	if err != nil {
		t.Fatalf("header %s: %v", api.RevisionHeader, err)
	}
	return n
}

func TestRevision_is_on_every_answer(t *testing.T) {
	s := start(t, shortDir(t))
	s.add("r1n1")
	at := int64(s.srv.store.Snapshot().Revision)
	for _, path := range []string{"/v1/version", "/v1/nodes/r1n1", "/v1/nodes/nosuch", "/v1/nosuch", "/v1/events"} {
		res, _ := s.get(path)
		if got := revision(t, res); got != at {
			t.Errorf("%s: revision %d, want %d", path, got, at)
		}
	}
	res, err := s.client.HTTP().Post(s.client.URL("/v1/nodes/add"), "application/json", strings.NewReader(`{"range":"r1n2"}`))
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if got, want := revision(t, res), int64(s.srv.store.Snapshot().Revision); got != want || got <= at {
		t.Errorf("a change answers revision %d, it made %d", got, want)
	}
	if s.client.Revision() != revision(t, res) {
		t.Errorf("the client remembers %d", s.client.Revision())
	}
}

func TestAtLeast_waits_for_the_revision(t *testing.T) {
	s := start(t, shortDir(t))
	s.add("r1n1")
	next := int64(s.srv.store.Snapshot().Revision) + 1
	answered := make(chan []byte, 1)
	go func() {
		_, b := s.get("/v1/nodes/r1n1?attrs=custom.x", api.AtLeastHeader, strconv.FormatInt(next, 10))
		answered <- b
	}()
	s.must("/v1/set", api.SetAttrs{Range: api.Range{Range: "r1n1"}, Set: []api.Assignment{attr("custom.x", "new")}}, nil)
	if b := <-answered; !strings.Contains(string(b), `"new"`) {
		t.Errorf("answered from an older world: %s", b)
	}
}

func TestAtLeast_says_how_far_behind(t *testing.T) {
	s := start(t, shortDir(t))
	s.known() // its own document is written
	at := s.srv.store.Snapshot().Revision
	began := time.Now()
	res, b := s.get("/v1/version", api.AtLeastHeader, strconv.FormatInt(int64(at)+7, 10))
	if res.StatusCode != http.StatusConflict || !regexp.MustCompile(fmt.Sprintf(" [1-7] before the revision %d ", at+7)).Match(b) {
		t.Errorf("%s: %s", res.Status, b)
	}
	if waited := time.Since(began); waited < behind {
		t.Errorf("it did not wait: %v", waited)
	}
	res, b = s.get("/v1/version", api.AtLeastHeader, "new")
	if res.StatusCode != http.StatusBadRequest {
		t.Errorf("a revision that is none: %s: %s", res.Status, b)
	}
}

func TestStale_is_told_by_a_manager_that_is_cut_off(t *testing.T) {
	s := start(t, shortDir(t))
	if res, _ := s.get("/v1/version"); res.Header.Get(api.StaleHeader) != "" {
		t.Error("a lone manager is stale")
	}
	since := time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC)
	srv := &Server{stale: func() time.Time { return since }}
	w := header{}
	srv.stamp(w, model.Empty())
	if got := http.Header(w).Get(api.StaleHeader); got != "2026-11-20T08:00:00Z" {
		t.Errorf("stale since %q", got)
	}
}

// header is an answer of which only the header counts.
type header http.Header

func (h header) Header() http.Header         { return http.Header(h) }
func (h header) Write(b []byte) (int, error) { return len(b), nil }
func (h header) WriteHeader(int)             {}

func TestETag_is_of_nodes_and_groups_as_they_are(t *testing.T) {
	s := start(t, shortDir(t))
	s.add("r1n[1-2]")
	s.until("the manager has written its document", func() bool { // which is a change, too
		m := s.srv.store.Snapshot().Manager(s.srv.name())
		return m != nil
	})
	for _, path := range []string{"/v1/nodes/r1n1", "/v1/nodes?limit=1", "/v1/groups", "/v1/groups/compute"} {
		res, _ := s.get(path)
		tag := res.Header.Get("ETag")
		if res.StatusCode != http.StatusOK || tag == "" {
			t.Fatalf("%s: %s, tag %s", path, res.Status, tag)
		}
		// What was observed is not part of the documents.
		s.commit(model.Op{Kind: model.KindState, Name: "r1n1", Doc: &model.State{Node: "r1n1", Power: "on"}})
		for _, match := range []string{tag, `"1", ` + tag, "W/" + tag, "*"} {
			res, b := s.get(path, "If-None-Match", match)
			if res.StatusCode != http.StatusNotModified || len(b) > 0 || res.Header.Get("ETag") != tag {
				t.Errorf("%s, If-None-Match %s: %s %q", path, match, res.Status, b)
			}
		}
		s.must("/v1/set", api.SetAttrs{Range: api.Range{Range: "r1n1"}, Set: []api.Assignment{attr("custom.x", path)}}, nil)
		res, b := s.get(path, "If-None-Match", tag)
		if res.StatusCode != http.StatusOK || len(b) == 0 || res.Header.Get("ETag") == tag {
			t.Errorf("%s after a change: %s, tag %s, was %s", path, res.Status, res.Header.Get("ETag"), tag)
		}
	}
}

func TestIfMatch_refuses_to_change_what_is_newer(t *testing.T) {
	s := start(t, shortDir(t))
	s.add("r1n[1-2]")
	res, _ := s.get("/v1/nodes/r1n1")
	seen := res.Header.Get("ETag")
	seenAt, err := strconv.ParseInt(strings.Trim(seen, `"`), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	set := func(in api.SetAttrs, match string) (*http.Response, error) {
		b := jsonLine(in)
		r, err := http.NewRequestWithContext(context.Background(), "POST", s.client.URL("/v1/set"), strings.NewReader(string(b)))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("If-Match", match)
		res, err := s.client.HTTP().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if res.StatusCode/100 != 2 {
			return res, api.ReadError(res)
		}
		return res, nil
	}
	in := func(nodes, value string) api.SetAttrs {
		return api.SetAttrs{Range: api.Range{Range: nodes}, Set: []api.Assignment{attr("custom.x", value)}}
	}
	// Nobody was there before: taken. Its answer tells what to go on from.
	res, err = set(in("r1n1", "mine"), seen)
	if err != nil {
		t.Fatal(err)
	}
	after := revision(t, res)
	// Now r1n1 is newer than what was seen first; r1n2 is not.
	_, err = set(in("r1n[1-2]", "other"), seen)
	wants(t, err, api.Conflict, "node r1n1", "revision "+strconv.FormatInt(after, 10), "(set, request ")
	if _, err = set(in("r1n2", "other"), seen); err != nil {
		t.Errorf("a node that nobody changed: %v", err)
	}
	if _, err = set(in("r1n1", "mine again"), strconv.Quote(strconv.FormatInt(after, 10))); err != nil {
		t.Errorf("on the newest revision: %v", err)
	}
	_, err = set(in("r1n1", "x"), "yesterday")
	wants(t, err, api.Usage, "If-Match", "yesterday")
	// The same in the document, for groups too, and in a dry run.
	doc := in("r1n1", "x")
	doc.IfRevision = seenAt
	wants(t, s.post("/v1/set", doc, nil), api.Conflict, "node r1n1")
	doc.DryRun = true
	wants(t, s.post("/v1/set", doc, nil), api.Conflict, "node r1n1")
	doc = in("compute", "x")
	doc.Groups = true
	s.must("/v1/set", doc, nil)
	doc.IfRevision = seenAt
	wants(t, s.post("/v1/set", doc, nil), api.Conflict, "group compute")
	wants(t, s.post("/v1/groups/add", api.GroupAction{Name: "compute", Members: "r1n1", IfRevision: seenAt}, nil), api.Conflict, "compute")
}
