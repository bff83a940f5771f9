package server

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"muster/internal/api"
	"muster/internal/auth"
	"muster/internal/model"
)

func (s *Server) setGroups(q *request, in api.SetAttrs) error {
	if len(in.Rows) > 0 {
		return &api.Error{Code: api.Usage, What: "group set", Why: "a file describes nodes", Do: "Name groups and attributes: muster group set NAME attr=value"}
	}
	if err := auth.Allow(q.snap, q.who, "group set", nil); err != nil {
		return err // it came as set
	}
	names := splitNames(in.Range.Range)
	set := editsOf(in.Set)
	out := api.Changed{Nodes: strings.Join(names, ","), Count: len(names), DryRun: in.DryRun}
	rev, err := s.commit(q.Context(), q, "group set", in.DryRun, func(snap *model.Snapshot) ([]model.Op, string, []model.Event, error) {
		out.Changes = nil
		w, err := s.writer(snap)
		if err != nil {
			return nil, "", nil, err
		}
		var ops []model.Op
		count := 0
		for _, name := range names {
			old := snap.Group(model.GroupName(name))
			if old == nil && model.GroupName(name) == model.Everything {
				old = &model.Group{Name: model.Everything}
			}
			if old == nil {
				w.wrong(noGroup("group set", name))
				continue
			}
			count += len(snap.Members(old.Name))
			g := *old
			w.group(&g, set)
			out.Changes = append(out.Changes, groupDifferences(old, &g)...)
			ops = append(ops, model.Op{Kind: model.KindGroup, Name: name, Doc: &g})
		}
		if err := w.err(); err != nil {
			return nil, "", nil, err
		}
		if err := tooMany("group set", out.Nodes, count, in.MaxNodes); err != nil {
			return nil, "", nil, err
		}
		what := "set " + assigned(set) + " on group " + out.Nodes
		return append(w.sealer.Ops(), ops...), what, []model.Event{s.said(q, "group.set", what)}, nil
	})
	if err != nil {
		return err
	}
	out.Revision = int64(rev)
	return q.answer(out)
}

// splitNames reads names with commas between them.
func splitNames(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' })
}

func groupDifferences(old, now *model.Group) []string {
	name := "group " + string(now.Name)
	out := attrDifferences(name, old.Attrs, now.Attrs)
	if old.Range != now.Range {
		out = append(out, fmt.Sprintf("%s: range: %s -> %s", name, or(old.Range, "(none)"), or(now.Range, "(none)")))
	}
	return out
}

func noGroup(verb, name string) error {
	return &api.Error{Code: api.Unknown, What: verb, Why: "there is no group " + name, Do: "See them: muster group list; make it: muster group add " + name}
}

func (s *Server) addGroup(q *request) error {
	var in api.GroupAction
	if err := q.read(&in); err != nil {
		return err
	}
	set := editsOf(in.Set)
	if in.Dynamic != "" {
		set = append([]edit{{attr: rangeField, op: "=", value: in.Dynamic}}, set...)
	}
	var members []model.NodeName
	var err error
	if in.Members != "" {
		var err error
		if members, err = q.expand(api.Range{Range: in.Members}); err != nil {
			return err
		}
		if err := tooMany("group add", in.Members, len(members), in.MaxNodes); err != nil {
			return err
		}
	}
	out := api.Changed{Nodes: in.Name, Count: len(members), DryRun: in.DryRun}
	rev, err := s.commit(q.Context(), q, "group add", in.DryRun, func(snap *model.Snapshot) ([]model.Op, string, []model.Event, error) {
		name := model.GroupName(in.Name)
		old := snap.Group(name)
		if old != nil && (len(members) == 0 || in.Dynamic != "") {
			return nil, "", nil, &api.Error{Code: api.Conflict, What: "group add", Why: "group " + in.Name + " is already there", Do: "Change it: muster group set " + in.Name + " ATTR=VALUE"}
		}
		g := &model.Group{Name: name}
		if old != nil {
			*g = *old
		} else {
			old = &model.Group{Name: name}
		}
		w, err := s.writer(snap)
		if err != nil {
			return nil, "", nil, err
		}
		w.group(g, set)
		if err := w.err(); err != nil {
			return nil, "", nil, err
		}
		out.Changes = groupDifferences(old, g)
		ops := append(w.sealer.Ops(), model.Op{Kind: model.KindGroup, Name: in.Name, Doc: g})
		for _, m := range members {
			n := snap.Node(m)
			if n == nil || slices.Contains(n.Groups, name) {
				continue
			}
			c := *n
			c.Groups = append(slices.Clone(n.Groups), name)
			ops = append(ops, model.Op{Kind: model.KindNode, Name: string(m), Doc: &c})
		}
		what := "added group " + in.Name
		switch {
		case snap.Group(name) != nil:
			what = fmt.Sprintf("added %s (%d) to group %s", fold(members), len(members), in.Name)
		case len(members) > 0:
			what += fmt.Sprintf(" with %s (%d)", fold(members), len(members))
		}
		return ops, what, []model.Event{s.said(q, "group.add", what)}, nil
	})
	if err != nil {
		return err
	}
	out.Revision = int64(rev)
	return q.answer(out)
}

func (s *Server) removeGroup(q *request) error {
	var in api.GroupAction
	if err := q.read(&in); err != nil {
		return err
	}
	name := model.GroupName(in.Name)
	count := 0
	rev, err := s.commit(q.Context(), q, "group remove", in.DryRun, func(snap *model.Snapshot) ([]model.Op, string, []model.Event, error) {
		if snap.Group(name) == nil {
			return nil, "", nil, noGroup("group remove", in.Name)
		}
		ops := []model.Op{{Kind: model.KindGroup, Name: in.Name}}
		count = 0
		for n := range snap.Nodes() {
			if slices.Contains(n.Groups, name) {
				c := *n
				c.Groups = slices.DeleteFunc(slices.Clone(n.Groups), func(g model.GroupName) bool { return g == name })
				ops = append(ops, model.Op{Kind: model.KindNode, Name: string(n.Name), Doc: &c})
				count++
			}
		}
		if err := tooMany("group remove", in.Name, count, in.MaxNodes); err != nil {
			return nil, "", nil, err
		}
		what := fmt.Sprintf("removed group %s (%d)", in.Name, count)
		return ops, what, []model.Event{s.said(q, "group.remove", what)}, nil
	})
	if err != nil {
		return err
	}
	return q.answer(api.Changed{Nodes: in.Name, Count: count, Revision: int64(rev), DryRun: in.DryRun})
}

func (s *Server) listGroups(q *request) error {
	if q.unchanged() {
		return nil
	}
	out := []api.GroupInfo{}
	for g := range q.snap.Groups() {
		out = append(out, groupInfo(q.snap, g))
	}
	return q.answer(out)
}

// showGroup is GET /v1/groups/{name}.
func (s *Server) showGroup(q *request) error {
	name := q.PathValue("name")
	g := q.snap.Group(model.GroupName(name))
	if g == nil && model.GroupName(name) == model.Everything {
		g = &model.Group{Name: model.Everything}
	}
	if g == nil {
		return noGroup("group get", name)
	}
	if q.unchanged() {
		return nil
	}
	return q.answer(groupInfo(q.snap, g))
}

func groupInfo(snap *model.Snapshot, g *model.Group) api.GroupInfo {
	members := snap.Members(g.Name)
	info := api.GroupInfo{Name: string(g.Name), Range: g.Range, Members: fold(members), Count: len(members), Revision: int64(g.Revision)}
	if len(g.Attrs) > 0 {
		info.Attrs = map[string]string{}
		for k, v := range g.Attrs {
			info.Attrs[string(k)] = shown(v, true)
		}
	}
	return info
}

func (s *Server) attributes(q *request) error {
	var in api.AttributesQuery
	if err := q.query(&in); err != nil {
		return err
	}
	glob := in.Glob
	if _, err := path.Match(glob, ""); err != nil {
		return &api.Error{Code: api.Usage, What: "attributes", Why: "the pattern " + glob + " is not closed", Do: "Write it like net.*.mac"}
	}
	out := []api.AttrDoc{}
	for _, a := range model.Schema() {
		if ok, _ := path.Match(glob, string(a.Name)); !ok && glob != "" && glob != string(a.Name) {
			continue
		}
		out = append(out, api.AttrDoc{
			Name: string(a.Name), Type: string(a.Type), Of: string(a.Of), Sep: a.Sep, Unit: a.Unit, Default: a.Default, Choices: a.Choices,
			Min: a.Min, Max: a.Max, Inherits: a.Inherits, Help: a.Help,
		})
	}
	return q.answer(out)
}
