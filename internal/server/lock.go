package server

import (
	"fmt"
	"strings"
	"time"

	"muster/internal/api"
	"muster/internal/model"
)

func (s *Server) lock(q *request) error {
	var in api.LockNodes
	if err := q.read(&in); err != nil {
		return err
	}
	if in.ForMS < 0 {
		return &api.Error{Code: api.Usage, What: "lock", Why: "a lock cannot last less than no time"}
	}
	lock := &model.Lock{Actor: q.who.Name, Reason: in.Reason, Time: time.Now().UTC().Truncate(time.Second)}
	said := "locked"
	if in.ForMS > 0 {
		lock.Expires = lock.Time.Add(time.Duration(in.ForMS) * time.Millisecond)
		said += " until " + lock.Expires.Format(time.RFC3339)
	}
	if in.Reason != "" {
		said += ": " + in.Reason
	}
	return s.relock(q, "lock", in.Range, said, func(n *model.Node) (*model.Lock, bool) {
		return lock, !n.Lock.Holds(lock.Time) || n.Lock.Actor == q.who.Name
	})
}

func (s *Server) unlock(q *request) error {
	var in api.UnlockNodes
	if err := q.read(&in); err != nil {
		return err
	}
	return s.relock(q, "unlock", in.Range, "unlocked", func(n *model.Node) (*model.Lock, bool) {
		return nil, in.Force || !n.Lock.Holds(time.Now()) || n.Lock.Actor == q.who.Name
	})
}

// relock gives nodes the lock that next says, where it says that this party may.
func (s *Server) relock(q *request, verb string, rg api.Range, said string, next func(*model.Node) (*model.Lock, bool)) error {
	nodes, err := q.nodes(verb, rg)
	if err != nil {
		return err
	}
	names := namesOf(nodes)
	out := api.Changed{Skipped: fold(q.skipped), DryRun: rg.DryRun}
	rev, err := s.commit(q.Context(), q, verb, rg.DryRun, func(snap *model.Snapshot) ([]model.Op, string, []model.Event, error) {
		var ops []model.Op
		var changed []model.NodeName
		var others []model.NodeName
		for _, name := range names {
			n := snap.Node(name)
			if n == nil {
				return nil, "", nil, &api.Error{Code: api.Conflict, What: verb, Node: string(name), Why: "was removed meanwhile"}
			}
			lock, may := next(n)
			switch {
			case !may:
				others = append(others, name)
				continue
			case n.Lock == nil && lock == nil:
				continue // it is not locked
			}
			c := *n
			c.Lock = lock
			ops = append(ops, model.Op{Kind: model.KindNode, Name: string(name), Doc: &c})
			changed = append(changed, name)
		}
		if err := unlocked(snap, verb, q.id, others); err != nil {
			e := problem(err)
			for _, p := range append([]*api.Error{e}, e.More...) {
				p.Do = "Ask who locked it, or take it all the same: muster unlock " + rg.Range + " --force"
			}
			return nil, "", nil, e
		}
		out.Nodes, out.Count = fold(changed), len(changed)
		return ops, fmt.Sprintf("%sed %s (%d)", verb, out.Nodes, out.Count) + strings.TrimPrefix(said, verb+"ed"), perNode(changed, "node."+verb, said, q.who.Name), nil
	})
	if err != nil {
		return err
	}
	out.Revision = int64(rev)
	return q.answer(out)
}
