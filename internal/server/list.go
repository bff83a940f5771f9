package server

import (
	"sort"
	"strconv"
	"strings"

	"muster/internal/api"
	"muster/internal/model"
	"muster/internal/model/noderange"
)

func (s *Server) listNodes(q *request) error {
	var in api.ListNodes
	if err := q.read(&in); err != nil {
		return err
	}
	if strings.TrimSpace(in.Range.Range) == "" {
		in.Range.Range = string(model.Everything)
	}
	names, err := q.expand(in.Range)
	if err != nil {
		return err
	}
	names, next, err := page(names, in.After, in.Limit)
	if err != nil {
		return err
	}
	return q.answer(api.Names{Names: convert[string](names), Folded: fold(names), Next: next})
}

// page cuts the names after that one, limit of them at most; 0 is no limit. next is not empty where some are left.
func page(names []model.NodeName, after string, limit int) (cut []model.NodeName, next string, err error) {
	if limit < 0 {
		return nil, "", &api.Error{Code: api.Usage, What: "limit", Why: strconv.Itoa(limit) + " is negative", Do: "Give how many at most; 0 is no limit"}
	}
	if after != "" {
		i := sort.Search(len(names), func(i int) bool { return model.Natural(string(names[i]), after) > 0 })
		names = names[i:]
	}
	if limit > 0 && limit < len(names) {
		names = names[:limit]
		next = string(names[limit-1])
	}
	return names, next, nil
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
