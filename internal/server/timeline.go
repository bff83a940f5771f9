package server

import (
	"errors"
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
	var in api.EventsQuery
	if err := q.query(&in); err != nil {
		return err
	}
	eq := store.EventQuery{After: in.After, Limit: in.Limit, Bad: in.Bad}
	if in.Range != "" {
		nodes, err := q.nodes("events", api.Range{Range: in.Range, Known: in.Known})
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
	if eq.Since, err = since(in.Since, time.Now()); err != nil {
		return err
	}
	source := q.wants("text/event-stream")
	if id, given, err := q.lastEvent(); err != nil {
		return err
	} else if given && source {
		eq.After, eq.Since, eq.Limit = id, time.Time{}, 0
	}
	if (source || in.Follow) && eq.Since.IsZero() && eq.After == 0 && eq.Limit == 0 {
		eq.Limit = 10 // of the past: enough to see where things stand
	}
	switch {
	case source:
		return s.eventSource(q, eq)
	case in.Follow:
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

// follow sends lines without end.
func (s *Server) follow(q *request, eq store.EventQuery) error {
	k := q.sink("application/x-ndjson")
	defer func() { _ = k.end() }()
	k.open()
	for e, err := range s.store.Follow(q.Context(), eq) {
		var gap *store.GapError
		if errors.As(err, &gap) {
			e = event("events.gap", gap.Error())
			e.Bad = true
		} else if err != nil {
			return nil // the client has gone, or the service stops
		}
		b := jsonLine(e)
		if k.add(func(to []byte) []byte { return append(to, b...) }) != nil {
			return nil
		}
	}
	return nil
}

// eventSource sends the same as server-sent events.
func (s *Server) eventSource(q *request, eq store.EventQuery) error {
	out := q.eventSource()
	defer func() { _ = out.close() }()
	for e, err := range s.store.Follow(q.Context(), eq) {
		var gap *store.GapError
		switch {
		case errors.As(err, &gap):
			err = out.event(0, "gap", api.EventGap{After: gap.After, Oldest: gap.Oldest, Do: "Read again what is kept of nodes: what came between is not told"})
		case err == nil:
			err = out.event(e.Seq, e.Step, e)
		}
		if err != nil {
			return nil // the client has gone, or the service stops
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
