package model

// Owner says where the effective value of an attribute of a node is written: [KindNode] and its name, [KindGroup] and that of the
// group; "" when it is the default or not set. Sealed values are bound to that place.
func (s *Snapshot) Owner(n *Node, a AttrName) (Kind, string) {
	doc, ok := Lookup(a)
	if !ok {
		return "", ""
	}
	switch o := s.find(n, a, doc, false); o.kind {
	case 'n':
		return KindNode, string(n.Name)
	case 'g':
		return KindGroup, o.name
	}
	return "", ""
}
