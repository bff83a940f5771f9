package model

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tidwall/btree"
	"muster/internal/model/noderange"
)

// maxProblems is how many problems Check tells; a last one says that there are more.
const maxProblems = 1000

// Check says everything that is wrong with documents that are to be put, in their order; nil when all is well. It looks
// at the world as it would be after them: names, attributes and their values (evaluated for every node that they
// reach), groups that do not exist, ranges of groups, MACs and addresses that two nodes would have. What the documents do not
// touch is not looked at.
func Check(s *Snapshot, ops []Op) []Problem {
	c := &checker{old: s, put: map[*Node]bool{}, told: map[Problem]bool{}}
	b, err := build(s, &Change{Revision: s.Revision + 1, Ops: ops})
	if err != nil {
		return []Problem{{What: err.Error()}}
	}
	c.s = b.s
	for _, op := range ops {
		if n, ok := op.Doc.(*Node); ok {
			c.put[n] = true
		}
	}
	for _, op := range ops {
		switch doc := op.Doc.(type) {
		case *Node:
			if doc != nil {
				c.node(op.Name, doc)
			}
		case *Group:
			if doc != nil {
				c.group(op.Name, doc)
			}
		case *Deployment:
			if doc != nil {
				c.deployment(op.Name, doc)
			}
		case *Network:
			if doc != nil {
				c.network(op.Name, doc)
			}
		case *User:
			if doc != nil {
				c.user(op.Name, doc)
			}
		case *Role:
			if doc != nil {
				c.role(op.Name, doc)
			}
		case *Manager:
			if doc != nil {
				c.manager(op.Name, doc)
			}
		case *SealKey:
			if doc != nil {
				c.sealKey(op.Name, doc)
			}
		}
		if op.Kind == KindGroup && c.s.byGroup[GroupName(op.Name)] == nil {
			c.removed(GroupName(op.Name))
		}
		if op.Kind == KindNetwork && c.s.Network(NetworkName(op.Name)) == nil {
			c.networkRemoved(op.Name)
		}
		if op.Kind == KindRole && c.s.Role(RoleName(op.Name)) == nil {
			c.roleRemoved(RoleName(op.Name))
		}
	}
	for _, n := range b.dirty {
		c.shared(n)
		c.placed(n)
	}
	if c.more > 0 {
		c.found = append(c.found, Problem{What: fmt.Sprintf("%d more problems of the same request", c.more)})
	}
	return c.found
}

type checker struct {
	old, s *Snapshot
	put    map[*Node]bool
	found  []Problem
	told   map[Problem]bool // one value may be reached from a node and from its group
	more   int
}

func (c *checker) tell(p Problem) {
	if c.told[p] {
		return
	}
	c.told[p] = true
	if len(c.found) == maxProblems {
		c.more++
		return
	}
	c.found = append(c.found, p)
}

func (c *checker) name(p *Problem, node NodeName, group GroupName) {
	if p != nil {
		q := *p
		q.Node, q.Group = node, group
		c.tell(q)
	}
}

// written checks values one by one, without a node. It returns those that need not be looked at any more.
func (c *checker) written(attrs map[AttrName]string, node NodeName, group GroupName) map[AttrName]bool {
	var bad map[AttrName]bool
	var found []Problem
	for a, v := range attrs {
		doc, ok := Lookup(a)
		var p *Problem
		switch {
		case !ok:
			p = unknownAttr(a)
		case group != "" && !doc.Inherits:
			p = &Problem{What: string(a) + " is not for groups", Why: "it is about one node", Do: "Set it on nodes"}
		default:
			if p = c.s.memo.check(doc, v); p == nil && doc.Type == NetworkOf && v != "" && !hasExpression(v) {
				p = c.noNetwork(v)
			}
		}
		if p != nil {
			p.Attr, p.Node, p.Group = a, node, group
			found = append(found, *p)
			if bad == nil {
				bad = map[AttrName]bool{}
			}
			bad[a] = true
		}
	}
	slices.SortFunc(found, func(x, y Problem) int { return strings.Compare(string(x.Attr), string(y.Attr)) })
	for _, p := range found {
		c.tell(p)
	}
	return bad
}

func (c *checker) node(name string, n *Node) {
	if string(n.Name) != name {
		c.tell(Problem{Node: n.Name, What: "its document is put as " + quoted(name)})
		return
	}
	c.name(CheckName(name), n.Name, "")
	if name == string(Everything) || name == "all" {
		c.tell(Problem{Node: n.Name, What: name + " cannot be the name of a node", Why: "it stands for all nodes", Do: "Choose another name"})
	}
	c.named(n)
	if l := n.Lock; l != nil && (l.Actor == "" || l.Time.IsZero()) {
		c.tell(Problem{Node: n.Name, What: "its lock says not who or since when", Do: "Give both"})
	}
	for i, g := range n.Groups {
		switch {
		case g == Everything:
			c.tell(Problem{Node: n.Name, What: "it lists the group everything", Why: "every node is a member by itself", Do: "Leave it out"})
		case c.s.byGroup[g] == nil:
			p := Problem{Node: n.Name, What: "no group " + quoted(string(g)), Do: "muster group add " + string(g)}
			if near := c.nearGroup(string(g)); near != "" {
				p.Do = "Did you mean " + near + "? A new one is made by: muster group add " + string(g)
			}
			c.tell(p)
		case slices.Contains(n.Groups[:i], g):
			c.tell(Problem{Node: n.Name, What: "it lists the group " + string(g) + " twice", Do: "Leave one out"})
		}
	}
	bad := c.written(n.Attrs, n.Name, "")
	c.expressions(n, bad)
}

// named checks that the name and the aliases of a node stand for nothing else.
func (c *checker) named(n *Node) {
	tell := func(what, why, do string) { c.tell(Problem{Node: n.Name, What: what, Why: why, Do: do}) }
	if other := c.s.firstHolder(c.s.aliases, string(n.Name)); other != nil && other.Name != n.Name {
		tell("its name is taken", "it is an alias of node "+string(other.Name), "muster set "+string(other.Name)+" alias-="+string(n.Name))
	}
	if c.new(n.Name) && n.Name != "all" && c.s.byGroup[GroupName(n.Name)] != nil { // one that is there already is left alone
		tell("its name is taken", "it is that of a group", "Choose another name")
	}
	for i, a := range n.Aliases {
		what := "alias " + quoted(string(a))
		if p := CheckName(string(a)); p != nil {
			tell(what+" is no name", p.Why, p.Do)
			continue
		}
		why := ""
		for other := range holding(c.s.aliases, string(a)) {
			if other != n.Name {
				why = "node " + string(other) + " has it, too"
				break
			}
		}
		switch {
		case a == n.Name:
			why = "it is the node's own name"
		case a == NodeName(Everything) || a == "all":
			why = "it stands for all nodes"
		case c.s.Node(a) != nil:
			why = "there is a node of this name"
		case c.s.byGroup[GroupName(a)] != nil:
			why = "there is a group of this name"
		case slices.Contains(n.Aliases[:i], a):
			why = "it is there twice"
		}
		if why != "" {
			tell(what+" is taken", why, "Choose another alias, or leave it out")
		}
	}
}

// new says that the change makes the node: then what is wrong with its name is told of it.
func (c *checker) new(n NodeName) bool { return c.old.Node(n) == nil }

func (c *checker) nearGroup(g string) string {
	if len(c.found) == maxProblems {
		return "" // it is not told any more
	}
	return noderange.Nearest(g, world{c.s}.Groups())
}

// expressions works out every expression that the node has or inherits.
func (c *checker) expressions(n *Node, bad map[AttrName]bool) {
	var attrs []AttrName
	for a, v := range n.Attrs {
		if hasExpression(v) && !isSecret(a) {
			attrs = append(attrs, a)
		}
	}
	add := func(g *grouping) {
		if g != nil {
			attrs = append(attrs, g.expressions...)
		}
	}
	for _, g := range n.Groups {
		add(c.s.byGroup[g])
	}
	for _, g := range c.s.dynamic {
		if len(g.expressions) > 0 && c.s.inRange(g, n) {
			add(g)
		}
	}
	add(c.s.byGroup[Everything])
	slices.Sort(attrs)
	for _, a := range slices.Compact(attrs) {
		if !bad[a] {
			c.value(n, a)
		}
	}
}

func (c *checker) value(n *Node, a AttrName) {
	if _, err := c.s.Attr(n, a); err != nil {
		if p := (*Problem)(nil); errors.As(err, &p) {
			c.tell(*p)
		}
	}
}

func (c *checker) group(name string, g *Group) {
	if string(g.Name) != name {
		c.tell(Problem{Group: g.Name, What: "its document is put as " + quoted(name)})
		return
	}
	c.name(CheckName(name), "", g.Name)
	if name == "all" {
		c.tell(Problem{Group: g.Name, What: "all cannot be the name of a group", Why: "it stands for all nodes", Do: "Choose another name, or use everything"})
	}
	if n := c.s.firstHolder(c.s.aliases, name); n != nil {
		c.tell(Problem{Group: g.Name, What: "its name is taken", Why: "it is an alias of node " + string(n.Name), Do: "muster set " + string(n.Name) + " alias-=" + name})
	}
	if c.old.Group(g.Name) == nil && c.s.Has(name) && !c.new(NodeName(name)) {
		c.tell(Problem{Group: g.Name, What: "its name is taken", Why: "there is a node of this name", Do: "Choose another name"})
	}
	c.ranged(g)
	bad := c.written(g.Attrs, "", g.Name)

	var before map[AttrName]string
	was := c.old.Group(g.Name)
	if was != nil {
		before = was.Attrs
	}
	// Members need to be looked at where a value depends on the node: for the expressions that changed; for all of
	// their expressions, where these may use what changed.
	all := was != nil && was.Range != g.Range || was == nil && g.Range != ""
	var changed []AttrName
	for a := range differences(before, g.Attrs) {
		all = all || c.s.isUsed(a)
		if hasExpression(g.Attrs[a]) && !bad[a] && !isSecret(a) {
			changed = append(changed, a)
		}
	}
	if !all && len(changed) == 0 {
		return
	}
	slices.Sort(changed)
	empty := true
	for m := range c.s.membersOf(g.Name) {
		empty = false
		n := c.s.Node(m)
		if c.put[n] {
			continue // looked at as a whole
		}
		if all {
			c.expressions(n, bad)
			continue
		}
		for _, a := range changed {
			c.value(n, a)
		}
	}
	if empty {
		c.circles(g, changed)
	}
}

// circles tells what of a group's expressions goes in a circle by what the group and Everything give. It is asked where there is no member:
// those that there are may have values of their own.
func (c *checker) circles(g *Group, changed []AttrName) {
	written := func(a AttrName) string {
		if v, ok := g.Attrs[a]; ok {
			return v
		}
		if e := c.s.byGroup[Everything]; e != nil {
			return e.Attrs[a]
		}
		return ""
	}
	done := map[AttrName]bool{} // those that lead to no circle that was not told
	var line []AttrName
	var follow func(a AttrName)
	follow = func(a AttrName) {
		if i := slices.Index(line, a); i >= 0 {
			p := circle(line[i:])
			p.Group, p.Attr = g.Name, a
			c.tell(*p)
			return
		}
		if done[a] || isSecret(a) {
			return
		}
		line = append(line, a)
		if v := written(a); hasExpression(v) {
			if e, err := c.s.memo.parse(v); err == nil {
				for _, used := range e.attrs {
					follow(used)
				}
			}
		} else if doc, ok := Lookup(a); ok && doc.common != nil && v == "" {
			follow(refOf(a))
		}
		line = line[:len(line)-1]
		done[a] = true
	}
	for _, a := range changed {
		follow(a)
	}
}

// ranged checks the range of a dynamic group.
func (c *checker) ranged(g *Group) {
	if g.Range == "" {
		return
	}
	tell := func(what, why, do string) { c.tell(Problem{Group: g.Name, What: what, Why: why, Do: do}) }
	if g.Name == Everything {
		tell("everything takes no range", "every node is a member by itself", "Leave the range out")
		return
	}
	p, err := noderange.Parse(g.Range)
	if err != nil {
		tell("the range "+quoted(g.Range)+" is wrong", err.Error(), "")
		return
	}
	for _, name := range p.Groups() {
		if x := c.s.byGroup[GroupName(name)]; x != nil && x.Range != "" && !c.s.Has(name) {
			tell("the range uses the group "+name, "it is dynamic, too; ranges of groups see static groups only", "Write its range "+quoted(x.Range)+" instead")
		}
	}
	for _, q := range p.Queries() {
		if _, _, err := c.s.prepare(q); err != nil {
			tell("the range "+quoted(g.Range)+" is wrong", strings.TrimPrefix(err.Error(), "noderange: "), "")
			return
		}
	}
	if _, err := p.Match(candidate{c.s, &Node{Name: "a"}}); err != nil {
		if e := (*noderange.Error)(nil); errors.As(err, &e) && e.Column == 0 {
			tell("the range "+quoted(g.Range)+" is wrong", e.What, e.Do)
		}
	}
}

func (c *checker) deployment(name string, d *Deployment) {
	if c.s.Node(NodeName(name)) == nil {
		c.tell(Problem{Node: NodeName(name), What: "no such node", Why: "a deployment is put for it", Do: "muster node add " + name})
	}
	if why := transition(c.old.Deployment(NodeName(name)), d); why != "" {
		c.tell(Problem{Node: NodeName(name), What: "its deployment", Why: why, Do: "muster why " + name})
	}
	if c.s.Image(d.Image) == nil {
		p := Problem{Node: NodeName(name), What: "no image " + quoted(string(d.Image)), Do: "muster image list shows those that there are"}
		if near := noderange.Nearest(string(d.Image), func(yield func(string) bool) {
			for i := range c.s.Images() {
				if !yield(string(i.Name)) {
					return
				}
			}
		}); near != "" {
			p.Do = "Did you mean " + near + "?"
		}
		c.tell(p)
	}
}

// removed checks that no node lists a group that is gone, and no role names it: what the role allows would be less, or more, without a word.
func (c *checker) removed(name GroupName) {
	var members []string
	for n := range c.s.listing(name) {
		members = append(members, string(n))
	}
	if len(members) > 0 {
		c.tell(Problem{Group: name, What: fmt.Sprintf("%d nodes still list it", len(members)), Why: cut(noderange.Fold(members)), Do: "Take them out of it first"})
	}
	for r := range c.s.Roles() {
		if r.Range == "" {
			continue
		}
		_, err := noderange.Expand(c.s.World(), r.Range, noderange.Options{})
		if e := (*noderange.Error)(nil); errors.As(err, &e) && slices.ContainsFunc(e.Unknown, func(u noderange.Unknown) bool { return u.Name == string(name) }) {
			c.tell(Problem{Group: name, What: "role " + string(r.Name) + " names it", Why: "its range is " + quoted(r.Range), Do: "Change that first: muster role set " + string(r.Name) + " range=…"})
		}
	}
}

func cut(s string) string {
	const longest = 80
	if len(s) > longest {
		return s[:longest] + "…"
	}
	return s
}

// shared tells the MACs and addresses that another node has, too. Of two new nodes it is told once, of the later.
func (c *checker) shared(name NodeName) {
	p := c.s.ports.get(name)
	if p == nil || !c.touched(name) {
		return
	}
	tell := func(what, key string, tree *btree.BTreeG[holder]) {
		var other NodeName
		first := false
		for h := range holding(tree, key) { // which may be all nodes: only the first one looks further than one
			switch {
			case h == name:
				first = other == ""
			case first && c.touched(h):
				return
			case other == "":
				other = h
			}
			if other != "" && !first {
				break
			}
		}
		if other == "" {
			return
		}
		c.tell(Problem{Node: name, Attr: c.holds(name, key), What: what + " " + key + " is taken", Why: "node " + string(other) + " has it", Do: "Give one of them another"})
	}
	for _, m := range p.macs {
		tell("MAC", m, c.s.macs)
	}
	for _, a := range p.addrs {
		tell("address", a, c.s.addrs)
	}
}

// touched says that a node's ports were worked out anew, so that the problem is told of it.
func (c *checker) touched(n NodeName) bool { return c.s.ports.get(n) != c.old.ports.get(n) }

// holds finds the attribute of a node that has a MAC or address.
func (c *checker) holds(name NodeName, key string) AttrName {
	n := c.s.Node(name)
	e := evaluator{s: c.s, n: n}
	for _, a := range e.attrsOf([]string{"net.*.mac", "net.*.address"}) {
		if v, err := e.attr(a); err == nil && v == key {
			return a
		}
	}
	return ""
}
