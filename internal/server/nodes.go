package server

import (
	"fmt"

	"muster/internal/api"
	"muster/internal/model"
)

func (s *Server) addNodes(q *request) error {
	var in api.AddNodes
	if err := q.readRows(&in, &in.Rows); err != nil {
		return err
	}
	for _, g := range in.Groups {
		in.Set = append(in.Set, api.Assignment{Attr: groupsField, Op: "+=", Value: g})
	}
	rows, err := rowsOf("node add", in.Range, in.Set, in.Rows)
	if err != nil {
		return err
	}
	all, err := q.entries("node add", in.Range, rows, fresh)
	if err != nil {
		return err
	}
	return s.describe(q, "node add", in.Range, true, all)
}

func (s *Server) removeNodes(q *request) error {
	var in api.RemoveNodes
	if err := q.read(&in); err != nil {
		return err
	}
	nodes, err := q.disturbs("node remove", in.Range)
	if err != nil {
		return err
	}
	names := namesOf(nodes)
	rev, err := s.commit(q.Context(), q, "node remove", in.DryRun, func(snap *model.Snapshot) ([]model.Op, string, []model.Event, error) {
		var ops []model.Op
		for _, n := range names {
			ops = append(ops, model.Op{Kind: model.KindNode, Name: string(n)})
			if snap.Deployment(n) != nil {
				ops = append(ops, model.Op{Kind: model.KindDeployment, Name: string(n)})
			}
			if snap.Claim(n) != nil {
				ops = append(ops, model.Op{Kind: model.KindClaim, Name: string(n)})
			}
			if snap.Identity(n) != nil {
				ops = append(ops, model.Op{Kind: model.KindIdentity, Name: string(n)})
			}
			if snap.Work(n) != nil {
				ops = append(ops, model.Op{Kind: model.KindWork, Name: string(n)})
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
		s.works.forget(names)
	}
	return q.answer(api.Changed{Nodes: fold(names), Count: len(names), Skipped: fold(q.skipped), Revision: int64(rev), DryRun: in.DryRun})
}

func namesOf(nodes []*model.Node) []model.NodeName {
	names := make([]model.NodeName, len(nodes))
	for i, n := range nodes {
		names[i] = n.Name
	}
	return names
}
