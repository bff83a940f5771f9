package model

import (
	"path"
	"regexp"
	"slices"

	"muster/internal/model/noderange"
)

// Grant is on which nodes a user may use a verb. It belongs to one snapshot. The zero value allows nothing.
type Grant struct {
	All   bool       // on every node, those that are still to be added too, and where no node is concerned
	Roles []RoleName // that allow the verb, on these nodes or others; none: the verb is not allowed at all

	nodes map[NodeName]bool
}

// Allows says on which nodes a user may use a verb ("power", "image build"). ruled is false when the user is not known, or has no role: the
// model does not say then what the user may do.
func (s *Snapshot) Allows(user UserName, verb string) (g Grant, ruled bool) {
	u := s.User(user)
	if u == nil || len(u.Roles) == 0 {
		return Grant{}, false
	}
	g.nodes = map[NodeName]bool{}
	for _, name := range u.Roles {
		r := s.Role(name)
		if r == nil || !slices.ContainsFunc(r.Verbs, func(glob string) bool { ok, _ := path.Match(glob, verb); return ok }) {
			continue
		}
		g.Roles = append(g.Roles, name)
		if r.Range == "" {
			g.All = true
			continue
		}
		nodes, err := s.Expand(r.Range, noderange.Options{Known: !excludes.MatchString(r.Range)})
		if err != nil {
			continue
		}
		for _, n := range nodes {
			g.nodes[n] = true
		}
	}
	return g, true
}

// Node says that the verb is allowed on a node of the snapshot.
func (g *Grant) Node(n NodeName) bool { return g.All || g.nodes[n] }

// Denied returns those of the nodes on which the verb is not allowed, in the order given; nil when it is on all.
func (g *Grant) Denied(nodes []NodeName) []NodeName {
	var out []NodeName
	for _, n := range nodes {
		if !g.Node(n) {
			out = append(out, n)
		}
	}
	return out
}

// excludes finds what may be an exclusion in a noderange: names that are unknown by now may not be left out of one.
var excludes = regexp.MustCompile(`(^|[,(\s])-|[!^]`)
