package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"muster/internal/api"
	"muster/internal/identity"
	"muster/internal/model"
	"muster/internal/model/noderange"
)

// nodes expands a request's range on its snapshot and keeps to its limits.
func (q *request) nodes(verb string, rg api.Range) ([]*model.Node, error) {
	names, err := q.expand(rg)
	if err != nil {
		return nil, err
	}
	if rg.MaxNodes > 0 && len(names) > rg.MaxNodes {
		return nil, &api.Error{
			Code: api.Usage, What: verb, Why: fmt.Sprintf("%s names %d nodes, more than --max-nodes %d", rg.Range, len(names), rg.MaxNodes),
			Do: "Name fewer, or allow more with --max-nodes",
		}
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
	return q.snap.Expand(rg.Range, noderange.Options{Known: rg.Known})
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
	return q.snap.Node(names[0]), nil
}

func convert[T, S ~string](in []S) []T {
	out := make([]T, len(in))
	for i, v := range in {
		out[i] = T(v)
	}
	return out
}

func fold[S ~string](names []S) string { return noderange.Fold(convert[string](names)) }

// commit builds a change on the newest snapshot and commits it, checked as a whole.
func (s *Server) commit(ctx context.Context, q *request, verb string, dry bool, build func(*model.Snapshot) (ops []model.Op, what string, events []model.Event, err error)) (model.Revision, error) {
	make := func(snap *model.Snapshot) (*model.Change, error) {
		ops, what, events, err := build(snap)
		if err != nil {
			return nil, err
		}
		if problems := model.Check(snap, ops); len(problems) > 0 {
			return nil, refused(problems)
		}
		return &model.Change{Time: time.Now(), Actor: q.who.Name, Verb: verb, Request: q.id, What: what, Events: events, Ops: ops}, nil
	}
	if dry {
		_, err := make(q.snap)
		return q.snap.Revision, err
	}
	return s.store.Update(ctx, make)
}

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
		set, err := s.sealed(in.Set)
		if err != nil {
			return nil, "", nil, err
		}
		groups, rest, err := regroup(convert[model.GroupName](in.Groups), set)
		if err != nil {
			return nil, "", nil, err
		}
		attrs, err := assign(nil, rest)
		if err != nil {
			return nil, "", nil, err
		}
		ops := make([]model.Op, 0, len(names)+len(groups))
		ops = append(ops, newGroups(snap, groups)...)
		now := time.Now()
		for _, n := range names {
			ops = append(ops, model.Op{Kind: model.KindNode, Name: string(n), Doc: &model.Node{
				Name: model.NodeName(n), Groups: groups, Attrs: attrs, Created: now,
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
			if snap.State(n) != nil {
				ops = append(ops, model.Op{Kind: model.KindState, Name: string(n)})
			}
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

// sealed replaces the readable secrets of a request by sealed envelopes. What names a secret attribute without being
// sent as a secret is sealed too; nothing readable goes on from here.
func (s *Server) sealed(in []api.Assignment) ([]api.Assignment, error) {
	out := slices.Clone(in)
	for i, a := range out {
		attr, known := model.Lookup(model.AttrName(a.Attr))
		plain, given := a.Value, a.Secret != nil
		if given {
			plain = a.Secret.Plain
		}
		switch {
		case known && attr.Secret && plain != "":
			text, err := s.keys.Seal(model.NewSecret(plain))
			if err != nil {
				return nil, err
			}
			out[i].Value, out[i].Secret = text, nil
		case given:
			out[i].Value, out[i].Secret = plain, nil
		}
	}
	return out, nil
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

func (s *Server) setAttrs(q *request) error {
	var in api.SetAttrs
	if err := q.read(&in); err != nil {
		return err
	}
	set, err := s.sealed(in.Set)
	if err != nil {
		return err
	}
	if in.Groups {
		return s.setGroups(q, in, set)
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
		var ops []model.Op
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

func first[T any](in []T, n int) []T { return in[:min(n, len(in))] }

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

// assigned tells assignments without their secrets.
func assigned(set []api.Assignment) string {
	var parts []string
	for _, a := range set {
		v := a.Value
		if identity.Sealed(v) {
			v = "********"
		}
		parts = append(parts, a.Attr+a.Op+v)
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
	for _, k := range slices.Sorted(mapsKeys(keys)) {
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

func mapsKeys(m map[model.AttrName]bool) func(func(model.AttrName) bool) {
	return func(yield func(model.AttrName) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
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
		return "********"
	}
	return v
}

func (s *Server) getAttrs(q *request) error {
	var in api.GetAttrs
	if err := q.read(&in); err != nil {
		return err
	}
	nodes, err := q.nodes("get", in.Range)
	if err != nil {
		return err
	}
	st := q.stream(len(nodes))
	for _, n := range nodes {
		line := api.NodeAttrs{Result: api.Result{Node: string(n.Name)}, Attrs: []api.AttrValue{}}
		values, err := q.snap.Attrs(n, in.Attrs)
		if err != nil {
			line.Error = &api.Error{Code: api.Failed, What: "get", Why: err.Error(), Node: string(n.Name)}
		}
		for _, v := range values {
			a := api.AttrValue{Attr: string(v.Name), Value: v.Value}
			if v.Secret {
				a.Value = shown(v.Value)
			}
			if in.Blame {
				a.From, a.Written = v.From, v.Written
				if v.Secret {
					a.Written = ""
				}
			}
			line.Attrs = append(line.Attrs, a)
		}
		st.line(line, line.Error != nil)
	}
	return st.end()
}

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
