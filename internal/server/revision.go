package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"muster/internal/api"
	"muster/internal/model"
)

// behind is how long a request waits for the revision that it asks for.
const behind = 5 * time.Second

// stamp sets the headers of every answer: what it was answered from, and whether that may be stale.
func (s *Server) stamp(w http.ResponseWriter, snap *model.Snapshot) {
	h := w.Header()
	h.Set(api.RevisionHeader, strconv.FormatInt(int64(snap.Revision), 10))
	if s.stale != nil {
		if since := s.stale(); !since.IsZero() {
			h.Set(api.StaleHeader, since.UTC().Format(time.RFC3339))
		}
	}
}

// at tells the client the revision of what it has changed.
func (q *request) at(rev model.Revision) {
	q.w.Header().Set(api.RevisionHeader, strconv.FormatInt(int64(rev), 10))
}

// atLeast waits until the snapshot is as new as the client has seen the world already, on this manager or another.
func (s *Server) atLeast(q *request) error {
	text := q.Header.Get(api.AtLeastHeader)
	if text == "" {
		return nil
	}
	rev, err := strconv.ParseInt(text, 10, 64)
	if err != nil || rev < 0 {
		return &api.Error{Code: api.Usage, What: "header " + api.AtLeastHeader, Why: text + " is no revision", Do: "Send the number that an answer gave as " + api.RevisionHeader}
	}
	return s.await(q, model.Revision(rev))
}

// await brings the request's snapshot to the revision.
func (s *Server) await(q *request, rev model.Revision) error {
	if q.snap.Revision >= rev {
		return nil
	}
	ctx, cancel := context.WithTimeout(q.Context(), behind)
	defer cancel()
	err := s.store.Wait(ctx, func(snap *model.Snapshot) bool { return snap.Revision >= rev })
	q.snap = s.store.Snapshot()
	s.stamp(q.w, q.snap)
	if errors.Is(err, context.DeadlineExceeded) {
		return &api.Error{
			Code: api.Conflict, What: "behind",
			Why: fmt.Sprintf("this manager has revision %d, %d before the revision %d that was asked for", q.snap.Revision, rev-q.snap.Revision, rev),
			Do:  "Ask again, or ask another manager; after a restore from a backup, ask without the header " + api.AtLeastHeader,
		}
	}
	return err
}

// condition reads the revision of If-Match of what changes something.
func (q *request) condition() error {
	text := q.Header.Get("If-Match")
	if text == "" || text == "*" || q.Method == http.MethodGet || q.Method == http.MethodHead {
		return nil
	}
	rev, err := strconv.ParseInt(strings.Trim(text, `"`), 10, 64)
	if err != nil || rev <= 0 {
		return &api.Error{Code: api.Usage, What: "header If-Match", Why: text + " is no revision", Do: `Send the ETag of an answer, as in If-Match: "1234"`}
	}
	q.base = model.Revision(rev)
	return nil
}

// unchanged answers 304 when the client has the document as nodes and groups are now. Else the answer carries its tag.
func (q *request) unchanged() bool {
	tag := `"` + strconv.FormatInt(int64(q.snap.Described), 10) + `"`
	q.w.Header().Set("ETag", tag)
	for _, h := range q.Header.Values("If-None-Match") {
		for have := range strings.SplitSeq(h, ",") {
			have = strings.TrimPrefix(strings.TrimSpace(have), "W/")
			if have == tag || have == "*" {
				q.w.WriteHeader(http.StatusNotModified)
				return true
			}
		}
	}
	return false
}

// conditioned refuses a change of what is newer than the client has seen. It is for dry runs: the store itself judges what is
// committed.
func conditioned(snap *model.Snapshot, ops []model.Op, base model.Revision) error {
	for _, op := range ops {
		var rev model.Revision
		switch op.Kind {
		case model.KindNode:
			if d := snap.Node(model.NodeName(op.Name)); d != nil {
				rev = d.Revision
			}
		case model.KindGroup:
			if d := snap.Group(model.GroupName(op.Name)); d != nil {
				rev = d.Revision
			}
		}
		if rev > base {
			return &api.Error{
				Code: api.Conflict, What: "conflict", Why: fmt.Sprintf("%s %s was changed meanwhile, in revision %d", op.Kind, op.Name, rev),
				Do: "Look at it and ask again",
			}
		}
	}
	return nil
}
