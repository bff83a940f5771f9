package model

import (
	"sync"
	"sync/atomic"
)

// found is what readers worked out of single nodes: it stays right as long as nothing changes that people write.
//
// The columns of the archive (index.go) do not serve here. They are made for all nodes at once, 0.1 s of 100,000, which is wrong for who
// asks for a few; and they are of the snapshot's own documents, while a reader may ask about a node as it might be: to find that out takes a
// search of the tree. Measured at 100,000 nodes, an address that is an expression takes 0.95 µs to work out, 0.6 µs from a cell, 0.75 µs from a
// column that is there.
type found struct {
	roles   sync.Map // range → *noderange.Set
	columns sync.Map // AttrName → keptValues
	count   atomic.Int32
}

// keptValues holds the values of one attribute that were worked out, by the places of the nodes in Names.
type keptValues []atomic.Pointer[cell]

type cell struct {
	node  *Node // whose value it is: a reader may ask about a node as it might be
	value string
}

// maxColumns is how many attributes are kept: one of 100,000 nodes takes about 6 MB.
const maxColumns = 8

// cell is the place where the value of an attribute of a node is kept; nil when it is not kept. Only a reader who asked for Names has use
// for it: who looks at a few nodes shall not pay for an index of all.
func (s *Snapshot) cell(n *Node, a AttrName) *atomic.Pointer[cell] {
	if !s.names.made.Load() {
		return nil
	}
	names := s.Names()
	id, ok := names.Find(string(n.Name))
	if !ok {
		return nil
	}
	c, ok := s.found.columns.Load(a)
	if !ok {
		if s.found.count.Add(1) > maxColumns {
			s.found.count.Add(-1)
			return nil
		}
		var had bool
		if c, had = s.found.columns.LoadOrStore(a, make(keptValues, names.Len())); had {
			s.found.count.Add(-1)
		}
	}
	return &c.(keptValues)[id]
}
