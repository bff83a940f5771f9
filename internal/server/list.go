package server

import (
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"muster/internal/api"
	"muster/internal/model"
	"muster/internal/model/noderange"
)

// mostPrefixed is how many names are answered of those that begin in some way: for a shell to offer.
const mostPrefixed = 200

func (s *Server) listNodes(q *request) error {
	var in api.ListNodes
	if err := q.read(&in); err != nil {
		return err
	}
	nodes, err := q.nodesOrAll("list", in.Range)
	if err != nil {
		return err
	}
	out := api.Names{Names: make([]string, 0, len(nodes)), Skipped: fold(q.skipped)}
	if in.Locked {
		nodes = slices.DeleteFunc(nodes, func(n *model.Node) bool { return !n.Lock.Holds(time.Now()) })
	}
	if nodes, out.Next, err = page(nodes, in.After, in.Limit); err != nil {
		return err
	}
	for _, n := range nodes {
		if in.Prefix != "" {
			for _, name := range append([]model.NodeName{n.Name}, n.Aliases...) {
				if strings.HasPrefix(string(name), in.Prefix) && len(out.Names) < mostPrefixed {
					out.Names = append(out.Names, string(name))
				}
			}
			continue
		}
		out.Names = append(out.Names, string(n.Name))
		if in.Detail {
			out.Nodes = append(out.Nodes, api.NodeInfo{
				Node: string(n.Name), Aliases: convert[string](n.Aliases), Groups: groupsOf(q.snap, n), Lock: held(n.Lock), Created: n.Created,
			})
		}
	}
	out.Folded = noderange.Fold(out.Names)
	return q.answer(out)
}

// groupsOf are the groups that a node is a member of, those with a range included.
func groupsOf(snap *model.Snapshot, n *model.Node) []string {
	var out []string
	for _, g := range snap.GroupsOf(n) {
		if g != model.Everything {
			out = append(out, string(g))
		}
	}
	return out
}

// page cuts the nodes after that name, limit of them at most; 0 is no limit. next is not empty where some are left.
func page(nodes []*model.Node, after string, limit int) (cut []*model.Node, next string, err error) {
	if limit < 0 {
		return nil, "", &api.Error{Code: api.Usage, What: "limit", Why: strconv.Itoa(limit) + " is negative", Do: "Give how many at most; 0 is no limit"}
	}
	if after != "" {
		i := sort.Search(len(nodes), func(i int) bool { return model.Natural(string(nodes[i].Name), after) > 0 })
		nodes = nodes[i:]
	}
	if limit > 0 && limit < len(nodes) {
		nodes = nodes[:limit]
		next = string(nodes[limit-1].Name)
	}
	return nodes, next, nil
}

func (s *Server) expandRange(q *request) error {
	var in api.Expand
	if err := q.read(&in); err != nil {
		return err
	}
	names, err := noderange.ExpandAny(q.snap.World(), in.Range.Range)
	if err != nil {
		return err
	}
	out := api.Names{Names: names, Folded: noderange.Fold(names)}
	if in.Short {
		out.Names = []string{}
	}
	return q.answer(out)
}

func (s *Server) foldNames(q *request) error {
	var in api.Fold
	if err := q.read(&in); err != nil {
		return err
	}
	out := api.Names{Names: in.Names}
	if in.Groups {
		out.Folded = noderange.Abbreviate(q.snap.World(), in.Names)
	} else {
		out.Folded = noderange.Fold(in.Names)
	}
	return q.answer(out)
}

// held is a lock as others are to see it: nil when it has expired.
func held(l *model.Lock) *model.Lock {
	if l.Holds(time.Now()) {
		return l
	}
	return nil
}
