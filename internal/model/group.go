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
	ports       []AttrName      // net.*.mac, net.*.address and net.*.network
	expressions []AttrName      // attributes whose values are expressions, sorted
}

func newGrouping(g *Group) *grouping {
	x := &grouping{Group: g}
	if g.Range != "" {
		x.plan, _ = noderange.Parse(g.Range) // Check has told what is wrong with it
	}
	for a, v := range g.Attrs {
		if isPort(a) || isRef(a) {
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
	if g := s.byGroup[name]; name != Everything && g != nil && g.plan != nil {
		names := s.Names()
		for id := range s.roll(g, false).All() {
			out = append(out, NodeName(names.Name(id)))
		}
		return out
	}
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

func (c candidate) Name() string                     { return string(c.n.Name) }
func (c candidate) Has(name string) bool             { return c.s.Has(name) }
func (c candidate) Alias(name string) (string, bool) { return c.s.Alias(name) }

func (c candidate) Aliases() []string {
	out := make([]string, len(c.n.Aliases))
	for i, a := range c.n.Aliases {
		out[i] = string(a)
	}
	return out
}

func (c candidate) HasGroup(name string) bool {
	return name == string(Everything) || c.s.byGroup[GroupName(name)] != nil
}

func (c candidate) Groups() []string {
	out := make([]string, len(c.n.Groups))
	for i, g := range c.n.Groups {
		out[i] = string(g)
	}
	return out
}

func (c candidate) Match(q noderange.Query) (bool, error) {
	asked, doc, err := c.s.prepare(q)
	if err != nil {
		return false, err
	}
	return asked.answers(doc, &evaluator{s: c.s, n: c.n, static: true})
}

// Expand returns the nodes that a noderange names, in natural order. The error is a *noderange.Error.
func (s *Snapshot) Expand(expr string, o noderange.Options) ([]NodeName, error) {
	return noderange.ExpandTo[NodeName](s.World(), expr, o)
}

// World is the snapshot as noderanges see it.
func (s *Snapshot) World() noderange.World { return world{s} }

type world struct{ *Snapshot }

// still is the world that ranges of groups see: without dynamic groups, so there are no circles.
type still struct{ *Snapshot }

// Has says that a node of this name exists.
func (s *Snapshot) Has(name string) bool { return s.Node(NodeName(name)) != nil }

// Alias returns the node that has this alias; false when none has.
func (s *Snapshot) Alias(name string) (string, bool) {
	if n := s.firstHolder(s.aliases, name); n != nil {
		return string(n.Name), true
	}
	return "", false
}

func (w world) Groups() iter.Seq[string] {
	return func(yield func(string) bool) {
		for g := range w.Snapshot.Groups() {
			if !yield(string(g.Name)) {
				return
			}
		}
	}
}

// Aliases yields all aliases.
func (s *Snapshot) Aliases() iter.Seq[string] {
	return func(yield func(string) bool) {
		s.aliases.Scan(func(h holder) bool { return yield(h.key) })
	}
}

func (w world) Group(name string) (*noderange.Set, bool) { return w.group(name, false) }

func (w world) Match(q noderange.Query, within *noderange.Set) (*noderange.Set, error) {
	return w.match(q, within, false)
}

func (w still) Groups() iter.Seq[string] { return world(w).Groups() }

func (w still) Group(name string) (*noderange.Set, bool) { return w.group(name, true) }

func (w still) Match(q noderange.Query, within *noderange.Set) (*noderange.Set, error) {
	return w.match(q, within, true)
}

func (s *Snapshot) group(name string, static bool) (*noderange.Set, bool) {
	if name == string(Everything) {
		set := noderange.NewSet(s.Names().Len())
		set.Fill()
		return set, true
	}
	g := s.byGroup[GroupName(name)]
	if g == nil {
		return nil, false
	}
	return s.roll(g, static), true
}

// match answers an attribute term for nodes: a few are asked one by one, many from a column.
func (s *Snapshot) match(q noderange.Query, within *noderange.Set, static bool) (*noderange.Set, error) {
	asked, doc, err := s.prepare(q)
	if err != nil {
		return nil, err
	}
	names := s.Names()
	set := noderange.NewSet(names.Len())
	test := func(id int, n *Node) error {
		in, err := asked.answers(doc, &evaluator{s: s, n: n, static: static})
		if in {
			set.Add(id)
		}
		return err
	}
	if holders, ok := s.portHolders(asked.Query); ok {
		for n := range holders {
			if id, ok := names.Find(string(n)); ok && within.Has(id) {
				if err := test(id, s.Node(n)); err != nil {
					return nil, err
				}
			}
		}
		return set, nil
	}
	if within.Len() < names.Len()/16 {
		for id := range within.All() {
			if err := test(id, s.Node(NodeName(names.Name(id)))); err != nil {
				return nil, err
			}
		}
		return set, nil
	}
	return s.column(q.Attr, doc, static).answer(asked.Query, within)
}

// prepared is an attribute term whose value has the form that values have.
type prepared struct{ noderange.Query }

// prepare refuses terms that have no answer. doc is nil for a glob.
func (s *Snapshot) prepare(q noderange.Query) (prepared, *Attr, error) {
	if isGlob(q.Attr) {
		if m, ok := canonicalMAC(q.Value); ok && strings.HasSuffix(q.Attr, "mac") {
			q.Value = m
		}
		return prepared{q}, nil, nil
	}
	doc, ok := Lookup(AttrName(q.Attr))
	if !ok {
		u := unknownAttr(AttrName(q.Attr))
		return prepared{q}, nil, &noderange.Error{What: u.What, Do: u.Do}
	}
	if doc.Secret {
		return prepared{q}, nil, &noderange.Error{What: q.Attr + " is secret", Why: "asking for it would tell it", Do: "Ask for another attribute"}
	}
	if q.Regexp == nil {
		if v, err := doc.Canonical(q.Value); err == nil {
			q.Value = v
		}
	}
	return prepared{q}, doc, nil
}

// answers says whether the node's value answers the term; for a glob, whether that of any attribute does.
func (q prepared) answers(doc *Attr, e *evaluator) (bool, error) {
	if doc != nil {
		v, err := e.attr(AttrName(q.Attr))
		return err == nil && q.Query.Match(v), err
	}
	values, err := (&globber{glob: q.Attr}).values(e)
	return err == nil && q.Query.Match(values...), err
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
