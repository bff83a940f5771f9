package model

import (
	"iter"
	"slices"
	"strings"

	"github.com/tidwall/btree"
)

// holder is a node that has an alias, MAC or address.
type holder struct {
	key  string
	node NodeName
}

// ports is what a node has in the index, each sorted.
type ports struct{ macs, addrs []string }

// isPort says that an attribute is indexed: net.<name>.mac and net.<name>.address.
func isPort(a AttrName) bool {
	s := string(a)
	return strings.HasPrefix(s, "net.") && (strings.HasSuffix(s, ".mac") || strings.HasSuffix(s, ".address"))
}

// NodeByMAC returns the node one of whose net.<name>.mac it is, in any usual notation; nil when there is none.
func (s *Snapshot) NodeByMAC(mac string) *Node {
	m, ok := canonicalMAC(mac)
	if !ok {
		return nil
	}
	return s.firstHolder(s.macs, m)
}

// NodeByAddress returns the node one of whose net.<name>.address it is; nil when there is none. A zone is left out.
func (s *Snapshot) NodeByAddress(addr string) *Node {
	a, ok := canonicalAddress(addr)
	if !ok {
		return nil
	}
	return s.firstHolder(s.addrs, a)
}

func (s *Snapshot) firstHolder(t *btree.BTreeG[holder], key string) *Node {
	for n := range holding(t, key) {
		return s.Node(n)
	}
	return nil
}

// holding yields the nodes that have an alias, MAC or address, in natural order.
func holding(t *btree.BTreeG[holder], key string) iter.Seq[NodeName] {
	return func(yield func(NodeName) bool) {
		t.Ascend(holder{key: key}, func(h holder) bool { return h.key == key && yield(h.node) })
	}
}

// indexPorts brings the index of ports in line with a node, which may be gone.
func (s *Snapshot) indexPorts(name NodeName) {
	var is ports
	if n := s.Node(name); n != nil {
		is = s.portsOf(n)
	}
	var was ports
	if p := s.ports.get(name); p != nil {
		was = *p
	}
	if slices.Equal(was.macs, is.macs) && slices.Equal(was.addrs, is.addrs) {
		return
	}
	exchange(s.macs, name, was.macs, is.macs)
	exchange(s.addrs, name, was.addrs, is.addrs)
	if len(is.macs)+len(is.addrs) == 0 {
		s.ports.remove(name)
	} else {
		s.ports.set(name, &is)
	}
}

func exchange[S ~string](t *btree.BTreeG[holder], name NodeName, was, is []S) {
	for _, k := range was {
		if !slices.Contains(is, k) {
			t.Delete(holder{string(k), name})
		}
	}
	for _, k := range is {
		if !slices.Contains(was, k) {
			t.Set(holder{string(k), name})
		}
	}
}

// portsOf finds the effective MACs and addresses of a node. A value that cannot be worked out is left out.
func (s *Snapshot) portsOf(n *Node) ports {
	var names []AttrName
	for a := range n.Attrs {
		if isPort(a) {
			names = append(names, a)
		}
	}
	inherit := func(g *grouping) {
		if g != nil {
			names = append(names, g.ports...)
		}
	}
	for _, g := range n.Groups {
		inherit(s.byGroup[g])
	}
	for _, g := range s.dynamic {
		if len(g.ports) > 0 && s.inRange(g, n) {
			inherit(g)
		}
	}
	inherit(s.byGroup[Everything])

	var p ports
	e := evaluator{s: s, n: n}
	for _, a := range names {
		v, err := e.attr(a)
		if err != nil || v == "" {
			continue
		}
		if strings.HasSuffix(string(a), ".mac") {
			p.macs = append(p.macs, v)
		} else if k, ok := canonicalAddress(v); ok {
			p.addrs = append(p.addrs, k)
		}
	}
	slices.Sort(p.macs)
	slices.Sort(p.addrs)
	p.macs, p.addrs = slices.Compact(p.macs), slices.Compact(p.addrs)
	return p
}
