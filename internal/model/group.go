package model

import (
	"iter"
	"slices"
	"strings"

	"muster/internal/model/noderange"
)

// grouping is a group with what is found from it once.
type grouping struct {
	*Group
	plan        *noderange.Plan // of a dynamic group with a valid range
	ports       []AttrName      // net.*.mac and net.*.address
	expressions []AttrName      // attributes whose values are expressions, sorted
}

func newGrouping(g *Group) *grouping {
	x := &grouping{Group: g}
	if g.Range != "" {
		x.plan, _ = noderange.Parse(g.Range) // Check has told what is wrong with it
	}
	for a, v := range g.Attrs {
		if isPort(a) {
			x.ports = append(x.ports, a)
		}
		if hasExpression(v) && !isSecret(a) {
			x.expressions = append(x.expressions, a)
		}
	}
	slices.Sort(x.expressions)
	return x
}

// groupsOf returns the groups of a node in the order of inheritance: those that it lists, the dynamic ones in natural
// order, and Everything. static leaves the dynamic ones out.
func (s *Snapshot) groupsOf(n *Node, static bool) []GroupName {
	out := make([]GroupName, 0, len(n.Groups)+1)
	for _, g := range n.Groups {
		if g != Everything {
			out = append(out, g)
		}
	}
	if !static {
		for _, g := range s.dynamic {
			if g.Name != Everything && !slices.Contains(n.Groups, g.Name) && s.inRange(g, n) {
				out = append(out, g.Name)
			}
		}
	}
	return append(out, Everything)
}

// Members returns the nodes of a group in natural order.
func (s *Snapshot) Members(name GroupName) []NodeName {
	var out []NodeName
	for n := range s.membersOf(name) {
		out = append(out, n)
	}
	return out
}

func (s *Snapshot) membersOf(name GroupName) iter.Seq[NodeName] {
	g := s.byGroup[name]
	if name != Everything && (g == nil || g.plan == nil) {
		return s.listing(name)
	}
	return func(yield func(NodeName) bool) {
		for n := range s.Nodes() {
			if (name == Everything || slices.Contains(n.Groups, name) || s.inRange(g, n)) && !yield(n.Name) {
				return
			}
		}
	}
}

// listing yields the nodes that list the group, in natural order.
func (s *Snapshot) listing(name GroupName) iter.Seq[NodeName] {
	return func(yield func(NodeName) bool) {
		s.members.Ascend(membership{group: name}, func(m membership) bool {
			return m.group == name && yield(m.node)
		})
	}
}

// inRange says that the range of a dynamic group names the node. Its attribute terms see the values that the node has
// without dynamic groups: so there are no circles.
func (s *Snapshot) inRange(g *grouping, n *Node) bool {
	in, err := g.plan.Match(candidate{s, n})
	return in && err == nil
}

// candidate is a node that a dynamic group asks about.
type candidate struct {
	s *Snapshot
	n *Node
}

func (c candidate) Name() string            { return string(c.n.Name) }
func (c candidate) Exists(name string) bool { return c.s.Has(name) }

func (c candidate) Groups() []string {
	out := make([]string, len(c.n.Groups))
	for i, g := range c.n.Groups {
		out[i] = string(g)
	}
	return out
}

func (c candidate) Match(q noderange.Query) (bool, error) {
	q, doc, err := c.s.prepare(q)
	if err != nil {
		return false, err
	}
	return c.s.answers(q, doc, &evaluator{s: c.s, n: c.n, static: true})
}

// Expand returns the nodes that a noderange names, in natural order. The error is a *noderange.Error.
func (s *Snapshot) Expand(expr string, o noderange.Options) ([]NodeName, error) {
	names, err := noderange.Expand(s.World(), expr, o)
	if err != nil {
		return nil, err
	}
	out := make([]NodeName, len(names))
	for i, n := range names {
		out[i] = NodeName(n)
	}
	return out, nil
}

// World is the snapshot as noderanges see it.
func (s *Snapshot) World() noderange.World { return world{s} }

type world struct{ *Snapshot }

// Has says that a node of this name exists.
func (s *Snapshot) Has(name string) bool { return s.Node(NodeName(name)) != nil }

func (w world) Groups() iter.Seq[string] {
	return func(yield func(string) bool) {
		for g := range w.Snapshot.Groups() {
			if !yield(string(g.Name)) {
				return
			}
		}
	}
}

func (w world) Group(name string) (*noderange.Set, bool) {
	names := w.Names()
	set := noderange.NewSet(names.Len())
	g := w.byGroup[GroupName(name)]
	switch n := w.aliased(NodeName(name)); {
	case n != nil:
		id, _ := names.Find(string(n.Name))
		set.Add(id)
	case name == string(Everything):
		set.Fill()
	case g == nil:
		return nil, false
	case g.plan != nil:
		id := 0
		for n := range w.Nodes() {
			if slices.Contains(n.Groups, g.Name) || w.inRange(g, n) {
				set.Add(id)
			}
			id++
		}
	default:
		for n := range w.listing(g.Name) {
			if id, ok := names.Find(string(n)); ok {
				set.Add(id)
			}
		}
	}
	return set, true
}

func (w world) Match(q noderange.Query, within *noderange.Set) (*noderange.Set, error) {
	q, doc, err := w.prepare(q)
	if err != nil {
		return nil, err
	}
	names := w.Names()
	set := noderange.NewSet(names.Len())
	e := evaluator{s: w.Snapshot}
	test := func(id int, n *Node) error {
		e.n = n
		in, err := w.answers(q, doc, &e)
		if in {
			set.Add(id)
		}
		return err
	}
	if holders, ok := w.portHolders(q); ok {
		for n := range holders {
			if id, ok := names.Find(string(n)); ok && within.Has(id) {
				if err := test(id, w.Node(n)); err != nil {
					return nil, err
				}
			}
		}
		return set, nil
	}
	if within.Len() < names.Len()/16 {
		for id := range within.All() {
			if err := test(id, w.Node(NodeName(names.Name(id)))); err != nil {
				return nil, err
			}
		}
		return set, nil
	}
	id := 0
	for n := range w.Nodes() {
		if within.Has(id) {
			if err := test(id, n); err != nil {
				return nil, err
			}
		}
		id++
	}
	return set, nil
}

// prepare brings the value of an attribute term into the form that values have. doc is nil for a glob.
func (s *Snapshot) prepare(q noderange.Query) (noderange.Query, *Attr, error) {
	if isGlob(q.Attr) {
		if m, ok := canonicalMAC(q.Value); ok && strings.HasSuffix(q.Attr, "mac") {
			q.Value = m
		}
		return q, nil, nil
	}
	doc, ok := Lookup(AttrName(q.Attr))
	if !ok {
		u := unknownAttr(AttrName(q.Attr))
		return q, nil, &noderange.Error{What: u.What, Do: u.Do}
	}
	if doc.Secret {
		return q, nil, &noderange.Error{What: q.Attr + " is secret", Why: "asking for it would tell it", Do: "Ask for another attribute"}
	}
	if q.Regexp == nil {
		if v, err := doc.Canonical(q.Value); err == nil {
			q.Value = v
		}
	}
	return q, doc, nil
}

// answers says whether the node's value answers a prepared term; for a glob, whether that of any attribute does.
func (s *Snapshot) answers(q noderange.Query, doc *Attr, e *evaluator) (bool, error) {
	if doc != nil {
		v, err := e.attr(AttrName(q.Attr))
		return err == nil && q.Match(v), err
	}
	var values []string
	for _, a := range e.attrsOf([]string{q.Attr}) {
		if isSecret(a) {
			continue
		}
		v, err := e.attr(a)
		if err != nil {
			return false, err
		}
		values = append(values, v)
	}
	if len(values) == 0 {
		values = []string{""}
	}
	return q.Match(values...), nil
}

// portHolders answers net.*.mac=… and net.*.address=… from the index.
func (s *Snapshot) portHolders(q noderange.Query) (iter.Seq[NodeName], bool) {
	if q.Regexp != nil || q.Negate || q.Value == "" || !isPort(AttrName(q.Attr)) {
		return nil, false
	}
	tree, key := s.macs, q.Value
	if strings.HasSuffix(q.Attr, ".address") {
		k, ok := canonicalAddress(q.Value)
		if !ok {
			return nil, false
		}
		tree, key = s.addrs, k
	}
	return holding(tree, key), true
}

func isGlob(s string) bool { return strings.ContainsAny(s, "*?") }
