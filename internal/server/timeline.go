package server

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"muster/internal/api"
	"muster/internal/auth"
	"muster/internal/model"
	"muster/internal/store"
)

// tell writes lines of the timeline that belong to no change.
func (s *Server) tell(e ...model.Event) { s.store.Tell(e...) }

func event(step, what string) model.Event {
	return model.Event{Time: time.Now(), Step: step, What: what}
}

// said is a line about what somebody asked for.
func (s *Server) said(q *request, step, what string) model.Event {
	return model.Event{Time: time.Now(), Step: step, What: what, Actor: q.who.Name}
}

func about(n model.NodeName, step, what string) model.Event {
	e := event(step, what)
	e.Node = n
	return e
}

// events is GET /v1/events.
func (s *Server) events(q *request) error {
	v := q.URL.Query()
	var eq store.EventQuery
	if rg := v.Get("range"); rg != "" {
		nodes, err := q.nodes("events", api.Range{Range: rg, Known: v.Get("known") == "true"})
		if err != nil {
			return err
		}
		eq.Nodes = map[model.NodeName]bool{}
		for _, n := range nodes {
			eq.Nodes[n.Name] = true
		}
	} else if some, all := auth.Nodes(q.snap, q.who, "events"); !all {
		eq.Nodes = some
	}
	var err error
	if eq.Since, err = since(v.Get("since"), time.Now()); err != nil {
		return err
	}
	for name, to := range map[string]*int64{"after": &eq.After} {
		if v.Get(name) == "" {
			continue
		}
		if *to, err = strconv.ParseInt(v.Get(name), 10, 64); err != nil {
			return &api.Error{Code: api.Usage, What: "events", Why: name + " is not a number: " + v.Get(name)}
		}
	}
	if l := v.Get("limit"); l != "" {
		if eq.Limit, err = strconv.Atoi(l); err != nil || eq.Limit < 0 {
			return &api.Error{Code: api.Usage, What: "events", Why: "limit is not a number: " + l}
		}
	}
	eq.Bad = v.Get("bad") == "true"
	if v.Get("follow") == "true" {
		if eq.Since.IsZero() && eq.After == 0 && eq.Limit == 0 {
			eq.Limit = 10 // of the past: enough to see where things stand
		}
		return s.follow(q, eq)
	}
	all, err := s.store.Events(eq)
	if err != nil {
		return err
	}
	st := q.stream(len(all))
	for _, e := range all {
		st.line(e, false)
	}
	return st.end()
}

func (s *Server) follow(q *request, eq store.EventQuery) error {
	q.w.Header().Set("Content-Type", "application/x-ndjson")
	enc, out := json.NewEncoder(q.w), http.NewResponseController(q.w)
	_ = out.Flush()
	for e, err := range s.store.Follow(q.Context(), eq) {
		var gap *store.GapError
		if errors.As(err, &gap) {
			e = event("events.gap", gap.Error())
			e.Bad = true
		} else if err != nil {
			return nil // the client has gone, or the service stops
		}
		if enc.Encode(e) != nil || out.Flush() != nil {
			return nil
		}
	}
	return nil
}

// since reads "10m", "2h" back from now, or an RFC 3339 time; empty is no bound.
func since(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil {
		return now.Add(-d), nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	return time.Time{}, &api.Error{
		Code: api.Usage, What: "since", Why: text + " is neither a duration nor a time",
		Do: "Write it like 10m, 2h or 2026-11-20T06:00:00Z",
	}
}
