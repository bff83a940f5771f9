package server

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"muster/internal/api"
	"muster/internal/identity"
	"muster/internal/model"
)

func (s *Server) setAttrs(q *request) error {
	var in api.SetAttrs
	if err := q.read(&in); err != nil {
		return err
	}
	secrets, set := hide(in.Set), in.Set
	if in.Groups {
		return s.setGroups(q, in, secrets)
	}
	nodes, err := q.nodes("set", in.Range)
	if err != nil {
		return err
	}
	var changes []string
	names := make([]model.NodeName, len(nodes))
	for i, n := range nodes {
		names[i] = n.Name
	}
	rev, err := s.commit(q.Context(), q, "set", in.DryRun, func(snap *model.Snapshot) ([]model.Op, string, []model.Event, error) {
		changes = nil
		seal, err := s.sealing(snap, secrets)
		if err != nil {
			return nil, "", nil, err
		}
		ops := seal.ops()
		for _, name := range names {
			old := snap.Node(name)
			if old == nil {
				return nil, "", nil, &api.Error{Code: api.Conflict, What: "set", Node: string(name), Why: "was removed meanwhile"}
			}
			n := *old
			groups, rest, err := regroup(old.Groups, set)
			if err != nil {
				return nil, "", nil, err
			}
			n.Groups = groups
			ops = append(ops, newGroups(snap, groups)...)
			if n.Attrs, err = assign(old.Attrs, rest); err != nil {
				return nil, "", nil, err
			}
			seal.fill(n.Attrs, model.KindNode, string(name))
			changes = append(changes, differences(old, &n)...)
			ops = append(ops, model.Op{Kind: model.KindNode, Name: string(name), Doc: &n})
		}
		return ops, "set " + assigned(set) + " on " + fold(names), perNode(names, "node.set", assigned(set), q.who.Name), nil
	})
	if err != nil {
		return err
	}
	return q.answer(api.Changed{Nodes: fold(names), Count: len(names), Changes: first(changes, 1000), Revision: int64(rev), DryRun: in.DryRun})
}

// regroup takes "group" out of the assignments: the groups of a node are its own field, in order.
func regroup(groups []model.GroupName, set []api.Assignment) (_ []model.GroupName, rest []api.Assignment, err error) {
	for _, a := range set {
		if a.Attr != "group" && a.Attr != "groups" {
			rest = append(rest, a)
			continue
		}
		if groups, err = model.AssignGroups(groups, a.Op, a.Value); err != nil {
			return nil, nil, err
		}
	}
	return groups, rest, nil
}

// newGroups makes the groups that a node lists and that are not there yet.
func newGroups(snap *model.Snapshot, groups []model.GroupName) []model.Op {
	var ops []model.Op
	for _, g := range groups {
		if g != model.Everything && snap.Group(g) == nil {
			ops = append(ops, model.Op{Kind: model.KindGroup, Name: string(g), Doc: &model.Group{Name: g}})
		}
	}
	return ops
}

// assign applies assignments to attributes; the error names all that are wrong.
func assign(attrs map[model.AttrName]string, set []api.Assignment) (map[model.AttrName]string, error) {
	var problems []model.Problem
	for _, a := range set {
		next, err := model.Assign(attrs, model.AttrName(a.Attr), a.Op, a.Value)
		var p *model.Problem
		switch {
		case errors.As(err, &p):
			problems = append(problems, *p)
		case err != nil:
			return nil, err
		default:
			attrs = next
		}
	}
	if len(problems) > 0 {
		return nil, refused(problems)
	}
	return attrs, nil
}

// assigned tells assignments without their secrets, after hide.
func assigned(set []api.Assignment) string {
	var parts []string
	for _, a := range set {
		parts = append(parts, a.Attr+a.Op+a.Value)
	}
	return strings.Join(parts, " ")
}

func differences(old, now *model.Node) []string {
	var out []string
	keys := map[model.AttrName]bool{}
	for k := range old.Attrs {
		keys[k] = true
	}
	for k := range now.Attrs {
		keys[k] = true
	}
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		a, b := old.Attrs[k], now.Attrs[k]
		if a == b {
			continue
		}
		out = append(out, fmt.Sprintf("%s: %s: %s -> %s", now.Name, k, shown(a), shown(b)))
	}
	if !slices.Equal(old.Groups, now.Groups) {
		out = append(out, fmt.Sprintf("%s: group: %s -> %s", now.Name, join(old.Groups), join(now.Groups)))
	}
	return out
}

func join[S ~string](in []S) string {
	if len(in) == 0 {
		return "(none)"
	}
	return strings.Join(convert[string](in), ",")
}

func shown(v string) string {
	switch {
	case v == "":
		return "(unset)"
	case identity.Sealed(v):
		return masked
	}
	return v
}
