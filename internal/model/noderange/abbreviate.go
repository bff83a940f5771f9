package noderange

import "slices"

// Abbreviate is Fold with groups in the place of names: those groups all of whose members are among the names, the largest first, and
// the rest by name. Expanded in the same world it gives the names back.
func Abbreviate(w World, names []string) string {
	all := w.Names()
	left := NewSet(all.Len())
	var other []string // of no node
	for _, n := range names {
		if id, ok := all.Find(n); ok {
			left.Add(id)
		} else {
			other = append(other, n)
		}
	}
	type member struct {
		name string
		set  *Set
	}
	whole := left.Clone()
	var groups []member
	for g := range w.Groups() {
		set, ok := w.Group(g)
		if !ok || w.Has(g) || set.Len() < 2 {
			continue
		}
		rest := set.Clone()
		if rest.AndNot(whole); rest.Len() == 0 {
			groups = append(groups, member{g, set})
		}
	}
	slices.SortStableFunc(groups, func(a, b member) int { return b.set.Len() - a.set.Len() })
	var out []string
	for _, g := range groups {
		news := g.set.Clone()
		if news.And(left); news.Len() > 1 {
			out = append(out, g.name)
			left.AndNot(g.set)
		}
	}
	for id := range left.All() {
		other = append(other, all.Name(id))
	}
	if len(other) > 0 {
		out = append(out, Fold(other))
	}
	text := ""
	for i, t := range out {
		if i > 0 {
			text += ","
		}
		text += t
	}
	return text
}
