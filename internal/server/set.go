package server

import (
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
	if err := q.readRows(&in, &in.Rows); err != nil {
		return err
	}
	if in.Groups {
		return s.setGroups(q, in)
	}
	rows, err := rowsOf("set", in.Range, in.Set, in.Rows)
	if err != nil {
		return err
	}
	all, err := q.entries("set", in.Range, rows, q.known(in.Known))
	if err != nil {
		return err
	}
	return s.describe(q, "set", in.Range, false, all)
}

func differences(old, now *model.Node) []string {
	out := attrDifferences(string(now.Name), old.Attrs, now.Attrs)
	for field, lists := range map[string][2][]string{
		groupsField:  {convert[string](old.Groups), convert[string](now.Groups)},
		aliasesField: {convert[string](old.Aliases), convert[string](now.Aliases)},
	} {
		if !slices.Equal(lists[0], lists[1]) {
			out = append(out, fmt.Sprintf("%s: %s: %s -> %s", now.Name, field, join(lists[0]), join(lists[1])))
		}
	}
	slices.Sort(out)
	return out
}

func attrDifferences(name string, old, now map[model.AttrName]string) []string {
	var out []string
	keys := map[model.AttrName]bool{}
	for k := range old {
		keys[k] = true
	}
	for k := range now {
		keys[k] = true
	}
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		a, had := old[k]
		b, has := now[k]
		if a != b || had != has {
			out = append(out, fmt.Sprintf("%s: %s: %s -> %s", name, k, shown(a, had), shown(b, has)))
		}
	}
	return out
}

func join[S ~string](in []S) string {
	if len(in) == 0 {
		return "(none)"
	}
	return strings.Join(convert[string](in), ",")
}

// shown is a value as it was written, for people, without secrets.
func shown(v string, set bool) string {
	switch {
	case !set:
		return "(unset)"
	case v == "":
		return model.Masking
	case identity.Sealed(v):
		return masked
	}
	return v
}
