package server

import (
	"maps"
	"path"
	"slices"
	"strings"

	"muster/internal/api"
	"muster/internal/identity"
	"muster/internal/model"
)

func (s *Server) getAttrs(q *request) error {
	var in api.GetAttrs
	if err := q.read(&in); err != nil {
		return err
	}
	nodes, err := q.nodes("get", in.Range)
	if err != nil {
		return err
	}
	fields := map[string]bool{} // of documents, that are asked for
	var globs []string
	for _, g := range in.Attrs {
		switch g {
		case groupsField, "group":
			fields[groupsField] = true
		case aliasesField, "alias":
			fields[aliasesField] = true
		default:
			globs = append(globs, g)
		}
	}
	st := q.stream(len(nodes))
	if !in.Own && len(globs) > 0 && len(fields) == 0 {
		p, err := newProjection(q.snap, api.NodeQuery{Attrs: globs, Fields: []string{"attrs"}, Blame: in.Blame})
		if err != nil {
			return err
		}
		for _, n := range nodes {
			st.each(func(b []byte) ([]byte, bool) { return p.line(b, n) })
		}
		return st.end()
	}
	all := len(in.Attrs) == 0
	for _, n := range nodes {
		line := api.NodeAttrs{Result: api.Result{Node: string(n.Name)}, Attrs: []api.AttrValue{}}
		switch {
		case in.Own:
			line.Attrs = own(n, globs, all)
		case all || len(globs) > 0:
			values, err := q.snap.Attrs(n, globs)
			if err != nil {
				line.Error = &api.Error{Code: api.Failed, What: "get", Why: err.Error(), Node: string(n.Name)}
			}
			for _, v := range values {
				line.Attrs = append(line.Attrs, attrValue(v, in.Blame))
			}
		}
		field := func(name string, value string) {
			if all && value != "" || fields[name] {
				v := api.AttrValue{Attr: name, Value: value}
				if in.Blame {
					v.From = "node"
				}
				line.Attrs = append(line.Attrs, v)
			}
		}
		field(aliasesField, strings.Join(convert[string](n.Aliases), ","))
		field(groupsField, strings.Join(convert[string](n.Groups), ","))
		slices.SortStableFunc(line.Attrs, func(a, b api.AttrValue) int { return strings.Compare(a.Attr, b.Attr) })
		st.each(func(b []byte) ([]byte, bool) { return appendAttrs(b, &line), line.Error != nil })
	}
	return st.end()
}

func attrValue(v model.Value, blame bool) api.AttrValue {
	a := api.AttrValue{Attr: string(v.Name), Value: v.Value, Secret: v.Secret && v.Value != ""}
	if a.Secret {
		a.Value = masked
	}
	if blame {
		a.From = v.From
		if !v.Secret {
			a.Written = v.Written
		}
	}
	return a
}

// own are the attributes that a node has itself, as they were written.
func own(n *model.Node, globs []string, all bool) []api.AttrValue {
	var out []api.AttrValue
	for _, name := range slices.Sorted(maps.Keys(n.Attrs)) {
		matches := func(g string) bool { ok, _ := path.Match(g, string(name)); return ok || g == string(name) }
		if !all && !slices.ContainsFunc(globs, matches) {
			continue
		}
		v := n.Attrs[name]
		out = append(out, api.AttrValue{Attr: string(name), Value: shown(v, true), Secret: identity.Sealed(v)})
	}
	return out
}
