package server

import (
	"fmt"
	"maps"
	"time"

	"muster/internal/api"
	"muster/internal/model"
	"muster/internal/model/noderange"
)

func (s *Server) addNodes(q *request) error {
	var in api.AddNodes
	if err := q.read(&in); err != nil {
		return err
	}
	names, err := noderange.ExpandNames(in.Range.Range)
	if err != nil {
		return err
	}
	if in.MaxNodes > 0 && len(names) > in.MaxNodes {
		return &api.Error{Code: api.Usage, What: "node add", Why: fmt.Sprintf("%s names %d nodes, more than --max-nodes %d", in.Range.Range, len(names), in.MaxNodes)}
	}
	secrets := hide(in.Set)
	rev, err := s.commit(q.Context(), q, "node add", in.DryRun, func(snap *model.Snapshot) ([]model.Op, string, []model.Event, error) {
		var there []string
		for _, n := range names {
			if snap.Node(model.NodeName(n)) != nil {
				there = append(there, string(n))
			}
		}
		if len(there) > 0 {
			return nil, "", nil, &api.Error{
				Code: api.Conflict, What: "node add", Why: "already there: " + noderange.Fold(there),
				Do: "Change them with: muster set " + noderange.Fold(there) + " ATTR=VALUE",
			}
		}
		seal, err := s.sealing(snap, secrets)
		if err != nil {
			return nil, "", nil, err
		}
		groups, rest, err := regroup(convert[model.GroupName](in.Groups), in.Set)
		if err != nil {
			return nil, "", nil, err
		}
		attrs, err := assign(nil, rest)
		if err != nil {
			return nil, "", nil, err
		}
		ops := make([]model.Op, 0, len(names)+len(groups)+1)
		ops = append(ops, seal.ops()...)
		ops = append(ops, newGroups(snap, groups)...)
		now := time.Now()
		for _, n := range names {
			own := attrs
			if len(secrets) > 0 { // an envelope is bound to its node
				own = maps.Clone(attrs)
				seal.fill(own, model.KindNode, string(n))
			}
			ops = append(ops, model.Op{Kind: model.KindNode, Name: string(n), Doc: &model.Node{
				Name: model.NodeName(n), Groups: groups, Attrs: own, Created: now,
			}})
		}
		what := fmt.Sprintf("added %s (%d)", fold(names), len(names))
		return ops, what, perNode(names, "node.add", "defined", q.who.Name), nil
	})
	if err != nil {
		return err
	}
	return q.answer(api.Changed{Nodes: fold(names), Count: len(names), Revision: int64(rev), DryRun: in.DryRun})
}

func (s *Server) removeNodes(q *request) error {
	var in api.RemoveNodes
	if err := q.read(&in); err != nil {
		return err
	}
	nodes, err := q.nodes("node remove", in.Range)
	if err != nil {
		return err
	}
	names := make([]model.NodeName, len(nodes))
	for i, n := range nodes {
		names[i] = n.Name
	}
	rev, err := s.commit(q.Context(), q, "node remove", in.DryRun, func(snap *model.Snapshot) ([]model.Op, string, []model.Event, error) {
		var ops []model.Op
		for _, n := range names {
			ops = append(ops, model.Op{Kind: model.KindNode, Name: string(n)})
			if snap.Deployment(n) != nil {
				ops = append(ops, model.Op{Kind: model.KindDeployment, Name: string(n)})
			}
			if snap.Identity(n) != nil {
				ops = append(ops, model.Op{Kind: model.KindIdentity, Name: string(n)})
			}
			// Also where there is none yet: an observation may be on its way.
			ops = append(ops, model.Op{Kind: model.KindState, Name: string(n)})
		}
		return ops, fmt.Sprintf("removed %s (%d)", fold(names), len(names)), perNode(names, "node.remove", "removed", q.who.Name), nil
	})
	if err != nil {
		return err
	}
	if !in.DryRun {
		s.seen.forget(names)
	}
	return q.answer(api.Changed{Nodes: fold(names), Count: len(names), Revision: int64(rev), DryRun: in.DryRun})
}
