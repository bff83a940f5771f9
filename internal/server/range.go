package server

import (
	"context"
	"fmt"
	"strings"
	"time"

	"muster/internal/api"
	"muster/internal/model"
	"muster/internal/model/noderange"
)

// nodes expands a request's range on its snapshot, keeps to its limits, and to what the roles of the party allow.
func (q *request) nodes(verb string, rg api.Range) ([]*model.Node, error) {
	names, err := q.expand(rg)
	if err != nil {
		return nil, err
	}
	if err := tooMany(verb, rg.Range, len(names), rg.MaxNodes); err != nil {
		return nil, err
	}
	if err := q.may(q.snap, verb, names); err != nil {
		return nil, err
	}
	nodes := make([]*model.Node, len(names))
	for i, n := range names {
		nodes[i] = q.snap.Node(n)
	}
	return nodes, nil
}

func (q *request) expand(rg api.Range) ([]model.NodeName, error) {
	if strings.TrimSpace(rg.Range) == "" {
		return nil, &api.Error{Code: api.Usage, What: "no nodes named", Do: "Name them: r1n[1-3], a group, or everything"}
	}
	return q.snap.Expand(rg.Range, noderange.Options{Known: rg.Known, Skipped: func(u noderange.Unknown) { q.skipped = append(q.skipped, u.Name) }})
}

// one expands a range that has to name exactly one node.
func (q *request) one(verb, expr string) (*model.Node, error) {
	names, err := q.expand(api.Range{Range: expr})
	if err != nil {
		return nil, err
	}
	if len(names) != 1 {
		return nil, &api.Error{Code: api.Usage, What: verb, Why: fmt.Sprintf("%s names %d nodes", expr, len(names)), Do: "Name one"}
	}
	return q.snap.Node(names[0]), q.may(q.snap, verb, names)
}

func convert[T, S ~string](in []S) []T {
	out := make([]T, len(in))
	for i, v := range in {
		out[i] = T(v)
	}
	return out
}

func fold[S ~string](names []S) string { return noderange.Fold(convert[string](names)) }

// commit builds a change on the newest snapshot and commits it, checked as a whole. No ops are no change.
func (s *Server) commit(ctx context.Context, q *request, verb string, dry bool, build func(*model.Snapshot) (ops []model.Op, what string, events []model.Event, err error)) (model.Revision, error) {
	make := func(snap *model.Snapshot) (*model.Change, error) {
		ops, what, events, err := build(snap)
		if err != nil {
			return nil, err
		}
		if err := q.guard(snap, verb, ops); err != nil {
			return nil, err
		}
		if problems := model.Check(snap, ops); len(problems) > 0 {
			return nil, refused(problems)
		}
		if err := checkOrder(snap, ops); err != nil {
			return nil, err
		}
		return &model.Change{Time: time.Now(), Actor: q.who.Name, Verb: verb, Request: q.id, What: what, Events: events, Ops: ops}, nil
	}
	if q.base > q.snap.Revision {
		if err := s.await(q, q.base); err != nil {
			return 0, err
		}
	}
	if dry {
		c, err := make(q.snap)
		if err == nil && q.base > 0 {
			err = conditioned(q.snap, c.Ops, q.base)
		}
		return q.snap.Revision, err
	}
	rev, err := s.write(ctx, q, make)
	if err == nil {
		q.at(rev)
	}
	return rev, err
}

// write commits what make builds; on the revision that the client has seen, where it says so.
func (s *Server) write(ctx context.Context, q *request, make func(*model.Snapshot) (*model.Change, error)) (model.Revision, error) {
	if q.base == 0 {
		return s.store.Update(ctx, make)
	}
	c, err := make(s.store.Snapshot())
	if err != nil {
		return 0, err
	}
	c.Revision = q.base
	return s.store.Commit(ctx, c)
}

// perNode makes the timeline's lines of a change: one for each node while they are few, else one for all.
func perNode[S ~string](names []S, step, what, actor string) []model.Event {
	const few = 64
	now := time.Now()
	if len(names) > few {
		return []model.Event{{Time: now, Step: step, What: fold(names) + ": " + what, Actor: actor}}
	}
	out := make([]model.Event, len(names))
	for i, n := range names {
		out[i] = model.Event{Time: now, Node: model.NodeName(n), Step: step, What: what, Actor: actor}
	}
	return out
}
