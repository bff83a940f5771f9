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
type ports struct{ macs, addrs, nets []string }

// isPort says that an attribute is indexed: net.<name>.mac and net.<name>.address.
func isPort(a AttrName) bool {
	s := string(a)
	return strings.HasPrefix(s, "net.") && (strings.HasSuffix(s, ".mac") || strings.HasSuffix(s, ".address"))
}

// isRef says that an attribute names a network: net.<name>.network.
func isRef(a AttrName) bool {
	return strings.HasPrefix(string(a), "net.") && strings.HasSuffix(string(a), ".network")
}

// refOf is the attribute that names the network of a port, of which a is another one.
func refOf(a AttrName) AttrName { return a[:strings.LastIndexByte(string(a), '.')] + ".network" }

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
	if slices.Equal(was.macs, is.macs) && slices.Equal(was.addrs, is.addrs) && slices.Equal(was.nets, is.nets) {
		return
	}
	exchange(s.macs, name, was.macs, is.macs)
	exchange(s.addrs, name, was.addrs, is.addrs)
	exchange(s.inNet, name, was.nets, is.nets)
	if len(is.macs)+len(is.addrs)+len(is.nets) == 0 {
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

// portsOf finds the effective MACs, addresses and networks of a node. A value that cannot be worked out is left out.
func (s *Snapshot) portsOf(n *Node) ports {
	var p ports
	e := evaluator{s: s, n: n}
	for _, a := range s.portAttrs(n) {
		v, err := e.attr(a)
		if err != nil || v == "" {
			continue
		}
		switch {
		case isRef(a):
			p.nets = append(p.nets, v)
		case strings.HasSuffix(string(a), ".mac"):
			p.macs = append(p.macs, v)
		default:
			if k, ok := canonicalAddress(v); ok {
				p.addrs = append(p.addrs, k)
			}
		}
	}
	slices.Sort(p.macs)
	slices.Sort(p.addrs)
	slices.Sort(p.nets)
	p.macs, p.addrs, p.nets = slices.Compact(p.macs), slices.Compact(p.addrs), slices.Compact(p.nets)
	return p
}

// portAttrs are the attributes of a node and its groups that the index is made of.
func (s *Snapshot) portAttrs(n *Node) []AttrName {
	var names []AttrName
	for a := range n.Attrs {
		if isPort(a) || isRef(a) {
			names = append(names, a)
		}
	}
	inherit := func(g *grouping) {
		if g != nil {
			for _, a := range g.ports {
				if !slices.Contains(names, a) {
					names = append(names, a)
				}
			}
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
	return names
}
