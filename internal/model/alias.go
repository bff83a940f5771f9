package model

import (
	"slices"
	"strings"
)

// AssignAliases is Assign for the aliases of a node: value is names with commas between them. "=" replaces the list, "+="
// appends those that are not in it, "-=" removes.
func AssignAliases(aliases []NodeName, op, value string) ([]NodeName, error) {
	var out []NodeName
	if op != "=" {
		out = slices.Clone(aliases)
	}
	for name := range strings.FieldsFuncSeq(value, func(r rune) bool { return r == ',' || r == ' ' }) {
		if p := CheckName(name); p != nil {
			return nil, p
		}
		at := slices.Index(out, NodeName(name))
		switch {
		case op == "-=" && at >= 0:
			out = slices.Delete(out, at, at+1)
		case op != "-=" && at < 0:
			out = append(out, NodeName(name))
		}
	}
	return out, nil
}

// aliased returns the node that has the alias, nil when none has.
func (s *Snapshot) aliased(name NodeName) *Node {
	for n := range s.Nodes() {
		if slices.Contains(n.Aliases, name) {
			return n
		}
	}
	return nil
}
