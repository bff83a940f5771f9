package server

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"muster/internal/api"
	"muster/internal/auth"
	"muster/internal/model"
)

// request is one call of the API: who, and the one snapshot that all of it is answered from.
type request struct {
	*http.Request
	w    http.ResponseWriter
	who  auth.Who
	snap *model.Snapshot
	id   string
	// base is the revision that the client has seen: what it touches must not be newer. 0: it does not say.
	base model.Revision
	// skipped are the names that its ranges have and nothing is known of.
	skipped []string
}

// handler does one verb. What it returns is told to the client; nil means that it has answered.
type handler func(*Server, *request) error

// verb wraps a handler: who may, which snapshot, how an error leaves.
func (s *Server) verb(name string, may auth.Kind, h handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		q := &request{Request: r, w: w, who: s.who(r), snap: s.store.Snapshot(), id: requestID()}
		s.stamp(w, q.snap)
		err := allowed(q.snap, q.who, name, may)
		if err != nil {
			s.log.Warn("refused", "verb", name, "who", q.who.Name, "from", r.RemoteAddr)
		} else if err = s.prepare(q); err == nil {
			err = h(s, q)
		}
		if err != nil {
			fail(w, err)
		}
	}
}

// who makes the request. A manager may ask for somebody whom it has let in: it hands on what another manager keeps.
func (s *Server) who(r *http.Request) auth.Who {
	w := s.certificates().From(r)
	if w.Kind == auth.Manager && s.store.Snapshot().Manager(w.Manager) != nil {
		w.Kind = auth.Administrator
		w.Name = or(r.Header.Get(asHeader), w.Name)
	}
	return w
}

// prepare reads what the headers ask of any verb.
func (s *Server) prepare(q *request) error {
	if err := s.atLeast(q); err != nil {
		return err
	}
	if err := q.condition(); err != nil {
		return err
	}
	return q.unpack()
}

func allowed(snap *model.Snapshot, who auth.Who, name string, may auth.Kind) error {
	if may == auth.Nobody {
		return nil
	}
	if may == auth.Node {
		id := snap.Identity(who.Node)
		switch {
		case who.Kind != auth.Node || id == nil:
			return &api.Error{Code: api.Denied, What: name, Why: "only an enrolled node may ask this"}
		case id.Key != who.Key:
			// A certificate outlives the boot that it was made for; the key that enrolled last is the node.
			return &api.Error{Code: api.Denied, What: name, Why: "the node has enrolled again with another key", Node: string(who.Node)}
		}
		return nil
	}
	return auth.Allow(snap, who, name, nil)
}

// fail answers a request with an error, if nothing was answered yet.
func fail(w http.ResponseWriter, err error) {
	e := problem(err)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Del("ETag")
	w.WriteHeader(e.Status())
	_ = json.NewEncoder(w).Encode(e)
}

// problem makes the one kind of error that leaves the service.
func problem(err error) *api.Error {
	var e *api.Error
	var denied *auth.DeniedError
	switch {
	case errors.As(err, &e):
		return e
	case errors.As(err, &denied):
		return &api.Error{Code: api.Denied, What: denied.Verb, Why: denied.Error(), Do: denied.Do()}
	}
	if e := translate(err); e != nil { // what the store says of a time that ran out is more than that it did
		return e
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return &api.Error{Code: api.Failed, What: "time ran out", Do: "Ask for more with --timeout"}
	}
	return &api.Error{Code: api.Failed, What: err.Error()}
}

// answer sends one document.
func (q *request) answer(doc any) error {
	b, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	return q.send(append(b, '\n'))
}

// send sends one document that is JSON already.
func (q *request) send(b []byte) error {
	k := q.sink("application/json")
	k.buf = b
	return k.end()
}

// wants says that the client asked for an answer of this media type.
func (q *request) wants(kind string) bool {
	for _, a := range q.Header.Values("Accept") {
		if hasToken(a, kind) {
			return true
		}
	}
	return false
}
