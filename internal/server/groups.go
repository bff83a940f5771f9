package server

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"muster/internal/api"
	"muster/internal/model"
	"muster/internal/model/noderange"
)

func (s *Server) setGroups(q *request, in api.SetAttrs, secrets hidden) error {
	names := strings.FieldsFunc(in.Range.Range, func(r rune) bool { return r == ',' || r == ' ' })
	rev, err := s.commit(q.Context(), q, "group set", in.DryRun, func(snap *model.Snapshot) ([]model.Op, string, []model.Event, error) {
		seal, err := s.sealing(snap, secrets)
		if err != nil {
			return nil, "", nil, err
		}
		ops := seal.ops()
		for _, name := range names {
			old := snap.Group(model.GroupName(name))
			if old == nil && model.GroupName(name) == model.Everything {
				old = &model.Group{Name: model.Everything}
			}
			if old == nil {
				return nil, "", nil, noGroup("group set", name)
			}
			g := *old
			if g.Attrs, err = assign(old.Attrs, in.Set); err != nil {
				return nil, "", nil, err
			}
			seal.fill(g.Attrs, model.KindGroup, name)
			ops = append(ops, model.Op{Kind: model.KindGroup, Name: name, Doc: &g})
		}
		what := "set " + assigned(in.Set) + " on group " + strings.Join(names, ",")
		return ops, what, []model.Event{s.said(q, "group.set", what)}, nil
	})
	if err != nil {
		return err
	}
	return q.answer(api.Changed{Nodes: strings.Join(names, ","), Count: len(names), Revision: int64(rev), DryRun: in.DryRun})
}

func noGroup(verb, name string) error {
	return &api.Error{Code: api.Unknown, What: verb, Why: "there is no group " + name, Do: "See them: muster group list; make it: muster group add " + name}
}

func (s *Server) addGroup(q *request) error {
	var in api.GroupAction
	if err := q.read(&in); err != nil {
		return err
	}
	if in.Dynamic != "" {
		if _, err := noderange.Expand(q.snap.World(), in.Dynamic, noderange.Options{Known: true}); err != nil {
			return err
		}
	}
	secrets := hide(in.Set)
	var members []model.NodeName
	var err error
	if in.Members != "" {
		if members, err = q.expand(api.Range{Range: in.Members}); err != nil {
			return err
		}
	}
	rev, err := s.commit(q.Context(), q, "group add", in.DryRun, func(snap *model.Snapshot) ([]model.Op, string, []model.Event, error) {
		name := model.GroupName(in.Name)
		old := snap.Group(name)
		if old != nil && (len(members) == 0 || in.Dynamic != "") {
			return nil, "", nil, &api.Error{Code: api.Conflict, What: "group add", Why: "group " + in.Name + " is already there", Do: "Change it: muster group set " + in.Name + " ATTR=VALUE"}
		}
		g := &model.Group{Name: name, Range: in.Dynamic}
		if old != nil {
			*g = *old
		}
		seal, err := s.sealing(snap, secrets)
		if err != nil {
			return nil, "", nil, err
		}
		if g.Attrs, err = assign(g.Attrs, in.Set); err != nil {
			return nil, "", nil, err
		}
		seal.fill(g.Attrs, model.KindGroup, in.Name)
		ops := append(seal.ops(), model.Op{Kind: model.KindGroup, Name: in.Name, Doc: g})
		for _, m := range members {
			n := snap.Node(m)
			if n == nil || slices.Contains(n.Groups, name) {
				continue
			}
			c := *n
			c.Groups = append(slices.Clone(n.Groups), name)
			ops = append(ops, model.Op{Kind: model.KindNode, Name: string(m), Doc: &c})
		}
		what := "group " + in.Name
		if len(members) > 0 {
			what += " with " + fold(members)
		}
		return ops, what, []model.Event{s.said(q, "group.add", what)}, nil
	})
	if err != nil {
		return err
	}
	return q.answer(api.Changed{Nodes: in.Name, Count: len(members), Revision: int64(rev), DryRun: in.DryRun})
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
		what := fmt.Sprintf("group %s removed from %d nodes", in.Name, count)
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
			info.Attrs[string(k)] = shown(v)
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
			Name: string(a.Name), Type: string(a.Type), Unit: a.Unit, Default: a.Default, Choices: a.Choices, Help: a.Help,
		})
	}
	return q.answer(out)
}
