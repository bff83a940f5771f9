package server

import (
	"strings"

	"muster/internal/api"
	"muster/internal/model/noderange"
)

func (s *Server) listNodes(q *request) error {
	var in api.ListNodes
	if err := q.read(&in); err != nil {
		return err
	}
	if strings.TrimSpace(in.Range.Range) == "" {
		names := make([]string, 0, q.snap.Len())
		for n := range q.snap.Nodes() {
			names = append(names, string(n.Name))
		}
		return q.answer(api.Names{Names: names, Folded: noderange.Fold(names)})
	}
	names, err := q.expand(in.Range)
	if err != nil {
		return err
	}
	return q.answer(api.Names{Names: convert[string](names), Folded: fold(names)})
}

func (s *Server) expandRange(q *request) error {
	var in api.Expand
	if err := q.read(&in); err != nil {
		return err
	}
	names, err := noderange.Expand(q.snap.World(), in.Range.Range, noderange.Options{})
	if err != nil {
		plain, perr := noderange.ExpandNames(in.Range.Range)
		if perr != nil {
			return err
		}
		return q.answer(api.Names{Names: convert[string](plain), Folded: fold(plain)})
	}
	return q.answer(api.Names{Names: convert[string](names), Folded: fold(names)})
}

func (s *Server) foldNames(q *request) error {
	var in api.Fold
	if err := q.read(&in); err != nil {
		return err
	}
	return q.answer(api.Names{Names: in.Names, Folded: noderange.Fold(in.Names)})
}
