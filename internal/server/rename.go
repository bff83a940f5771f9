package server

import (
	"fmt"
	"slices"
	"strings"

	"muster/internal/api"
	"muster/internal/model"
	"muster/internal/model/noderange"
)

func (s *Server) renameNodes(q *request) error {
	var in api.RenameNodes
	if err := q.read(&in); err != nil {
		return err
	}
	nodes, err := q.disturbs("node rename", in.Range)
	if err != nil {
		return err
	}
	to, err := noderange.ExpandNames(in.To)
	if err != nil {
		return err
	}
	if len(nodes) != len(to) {
		return &api.Error{
			Code: api.Usage, What: "node rename", Why: fmt.Sprintf("the nodes are %d (%s), the names %d (%s)", len(nodes), in.Range.Range, len(to), in.To),
			Do: "Name as many: they are paired in natural order",
		}
	}
	was, now := namesOf(nodes), convert[model.NodeName](to)
	out := api.Changed{Nodes: fold(now), Count: len(now), Skipped: fold(q.skipped), DryRun: in.DryRun}
	for i := range was[:min(len(was), mostChanges)] {
		out.Changes = append(out.Changes, fmt.Sprintf("%s -> %s", was[i], now[i]))
	}
	rev, err := s.commit(q.Context(), q, "node rename", in.DryRun, func(snap *model.Snapshot) ([]model.Op, string, []model.Event, error) {
		ops, err := s.renaming(snap, was, now)
		if err != nil {
			return nil, "", nil, err
		}
		out.Warnings = nil
		if next, err := model.Apply(snap, &model.Change{Revision: snap.Revision + 1, Ops: ops}); err == nil {
			out.Warnings = append(rangesThatMiss(snap, next, was, now), leftBehind(snap, was)...)
		}
		what := fmt.Sprintf("renamed %s to %s (%d)", fold(was), out.Nodes, len(now))
		events := perNode(now, "node.rename", "renamed", q.who.Name)
		if len(events) == len(now) && len(now) > 1 || len(now) == 1 {
			for i := range events {
				events[i].What = "renamed; it was " + string(was[i])
			}
		} else {
			events[0].What = what
		}
		return ops, what, events, nil
	})
	if err != nil {
		return err
	}
	if !in.DryRun {
		s.seen.move(was, now)
		s.works.forget(was)
		for _, n := range now {
			if hw := s.seen.getParts(n); hw != nil { // what was noted under the old name may not be in the store yet
				s.store.Observe(n, func(st *model.State) { st.Hardware = hw })
			}
		}
	}
	out.Revision = int64(rev)
	return q.answer(out)
}

// renaming makes the documents of nodes under new names, and takes the old ones away.
func (s *Server) renaming(snap *model.Snapshot, was, now []model.NodeName) ([]model.Op, error) {
	old, next := map[model.NodeName]bool{}, map[model.NodeName]bool{}
	for i := range was {
		old[was[i]], next[now[i]] = true, true
	}
	w, err := s.writer(snap)
	if err != nil {
		return nil, err
	}
	var ops []model.Op
	for i, name := range was {
		if !next[name] {
			for _, k := range []model.Kind{model.KindNode, model.KindDeployment, model.KindIdentity, model.KindState, model.KindWork} {
				ops = append(ops, model.Op{Kind: k, Name: string(name)})
			}
		}
		n := snap.Node(name)
		switch {
		case n == nil:
			w.wrong(&api.Error{Code: api.Conflict, What: "node rename", Node: string(name), Why: "was removed meanwhile"})
			continue
		case snap.Node(now[i]) != nil && !old[now[i]]:
			w.wrong(&api.Error{Code: api.Conflict, What: "node rename", Node: string(name), Why: string(now[i]) + " is already there", Do: "Choose another name, or rename that one in the same command"})
			continue
		}
		ops = append(ops, w.renamed(snap, n, now[i])...)
	}
	return append(w.sealer.Ops(), ops...), w.err()
}

// renamed are the documents of a node under another name.
func (w *writer) renamed(snap *model.Snapshot, n *model.Node, to model.NodeName) []model.Op {
	c := *n
	c.Name = to
	c.Attrs = w.moved(model.KindNode, string(n.Name), string(to), n.Attrs)
	if slices.Contains(n.Aliases, to) {
		c.Aliases = slices.DeleteFunc(slices.Clone(n.Aliases), func(a model.NodeName) bool { return a == to })
	}
	ops := []model.Op{{Kind: model.KindNode, Name: string(to), Doc: &c}}
	put := func(k model.Kind, doc any) { ops = append(ops, model.Op{Kind: k, Name: string(to), Doc: doc}) }
	if d := snap.Deployment(n.Name); d != nil {
		d := *d
		d.Node = to
		put(model.KindDeployment, &d)
	} else if snap.Deployment(to) != nil {
		put(model.KindDeployment, nil) // of who had the name before
	}
	if w := snap.Work(n.Name); w != nil {
		w := *w
		w.Node = to
		put(model.KindWork, &w)
	} else if snap.Work(to) != nil {
		put(model.KindWork, nil)
	}
	if i := snap.Identity(n.Name); i != nil {
		i := *i
		i.Node = to
		put(model.KindIdentity, &i)
	} else if snap.Identity(to) != nil {
		put(model.KindIdentity, nil)
	}
	if st := snap.State(n.Name); st != nil {
		st := *st
		st.Node = to
		put(model.KindState, &st)
	} else if snap.State(to) != nil {
		put(model.KindState, nil)
	}
	return ops
}

// rangesThatMiss warns of groups and roles whose ranges named a node by its old name, and not by its new one.
func rangesThatMiss(snap, next *model.Snapshot, was, now []model.NodeName) []string {
	var out []string
	miss := func(what, expr, set string) {
		before, _ := snap.Expand(expr, noderange.Options{Known: true})
		after, _ := next.Expand(expr, noderange.Options{Known: true})
		has := map[model.NodeName]bool{}
		for _, n := range after {
			has[n] = true
		}
		had := map[model.NodeName]bool{}
		for _, n := range before {
			had[n] = true
		}
		var lost []model.NodeName
		for i, n := range was {
			if had[n] && !has[now[i]] {
				lost = append(lost, now[i])
			}
		}
		if len(lost) > 0 {
			out = append(out, fmt.Sprintf("%s: its range %s does not name %s any more. Change it: %s range=…", what, expr, fold(lost), set))
		}
	}
	for g := range snap.Groups() {
		if g.Range != "" {
			miss("group "+string(g.Name), g.Range, "muster group set "+string(g.Name))
		}
	}
	for r := range snap.Roles() {
		if r.Range != "" {
			miss("role "+string(r.Name), r.Range, "muster role set "+string(r.Name))
		}
	}
	return out
}

// leftBehind says what keeps the old names.
func leftBehind(snap *model.Snapshot, was []model.NodeName) []string {
	var recorded, running []model.NodeName
	for _, n := range was {
		if v, err := snap.Attr(snap.Node(n), "bmc.address"); err == nil && v != "" {
			recorded = append(recorded, n)
		}
		if snap.Identity(n) != nil {
			running = append(running, n)
		}
	}
	var out []string
	if len(recorded) > 0 {
		out = append(out, "what the consoles of "+fold(recorded)+" said stays recorded under the old names; the new ones begin empty")
	}
	if len(running) > 0 {
		out = append(out, "what runs on "+fold(running)+" holds certificates of the old names: it is not heard of until its next boot")
	}
	return out
}

func (s *Server) renameGroup(q *request) error {
	var in api.RenameGroup
	if err := q.read(&in); err != nil {
		return err
	}
	from, to := model.GroupName(in.Name), model.GroupName(in.To)
	out := api.Changed{Nodes: in.To, DryRun: in.DryRun}
	rev, err := s.commit(q.Context(), q, "group rename", in.DryRun, func(snap *model.Snapshot) ([]model.Op, string, []model.Event, error) {
		old := snap.Group(from)
		switch {
		case from == model.Everything:
			return nil, "", nil, &api.Error{Code: api.Usage, What: "group rename", Why: "everything is the group of all nodes, and keeps its name"}
		case old == nil:
			return nil, "", nil, noGroup("group rename", in.Name)
		case snap.Group(to) != nil:
			return nil, "", nil, &api.Error{Code: api.Conflict, What: "group rename", Why: "group " + in.To + " is already there", Do: "Choose another name"}
		}
		w, err := s.writer(snap)
		if err != nil {
			return nil, "", nil, err
		}
		g := *old
		g.Name, g.Attrs = to, w.moved(model.KindGroup, in.Name, in.To, old.Attrs)
		ops := append(w.sealer.Ops(), model.Op{Kind: model.KindGroup, Name: in.To, Doc: &g}, model.Op{Kind: model.KindGroup, Name: in.Name})
		out.Count = 0
		for n := range snap.Nodes() {
			at := slices.Index(n.Groups, from)
			if at < 0 {
				continue
			}
			c := *n
			c.Groups = slices.Clone(n.Groups)
			c.Groups[at] = to
			ops = append(ops, model.Op{Kind: model.KindNode, Name: string(n.Name), Doc: &c})
			out.Count++
		}
		if err := tooMany("group rename", in.Name, out.Count, in.MaxNodes); err != nil {
			return nil, "", nil, err
		}
		out.Warnings = rangesThatUse(snap, in.Name)
		what := "renamed group " + in.Name + " to " + in.To
		return ops, what, []model.Event{s.said(q, "group.rename", what)}, w.err()
	})
	if err != nil {
		return err
	}
	out.Revision = int64(rev)
	return q.answer(out)
}

// rangesThatUse warns of groups and roles whose ranges use a group by name.
func rangesThatUse(snap *model.Snapshot, name string) []string {
	var out []string
	uses := func(what, expr string) {
		if p, err := noderange.Parse(expr); err == nil && expr != "" && slices.Contains(p.Groups(), name) {
			noun, of, _ := strings.Cut(what, " ")
			out = append(out, fmt.Sprintf("%s: its range %s uses %s. Change it: muster %s set %s range=…", what, expr, name, noun, of))
		}
	}
	for g := range snap.Groups() {
		uses("group "+string(g.Name), g.Range)
	}
	for r := range snap.Roles() {
		uses("role "+string(r.Name), r.Range)
	}
	return out
}
