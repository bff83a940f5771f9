package tree

import (
	"bufio"
	"encoding/json"
	"io"
	"slices"
)

// Change is one place at which two profiles differ. Old is nil for what was added, New for what was removed.
type Change struct {
	// Path is absolute. What was removed from a list has its index in the old list, everything else in a list that in the new one.
	Path     Path
	Old, New Value
}

// Diff is where the tree b differs from a, in tree order; nothing if they are equal. A subtree that is there on one side only is one
// change, as is a value of another type. Of lists only the part between equal beginnings and equal ends counts, so that an element
// put in between is one change. The trees must not be circular; no finished profile is.
func Diff(a, b *Dict) []Change {
	d := differ{}
	d.dicts(a, b)
	return d.changes
}

type differ struct {
	terms   []Term
	changes []Change
}

func (d *differ) at(t Term, do func()) {
	d.terms = append(d.terms, t)
	do()
	d.terms = d.terms[:len(d.terms)-1]
}

func (d *differ) changed(t Term, from, to Value) {
	p := Path{Kind: Absolute, Terms: append(slices.Clone(d.terms), t)}
	d.changes = append(d.changes, Change{p, from, to})
}

func (d *differ) values(t Term, from, to Value) {
	switch f := from.(type) {
	case *Dict:
		if to, ok := to.(*Dict); ok {
			d.at(t, func() { d.dicts(f, to) })
			return
		}
	case *List:
		if to, ok := to.(*List); ok {
			d.at(t, func() { d.lists(f, to) })
			return
		}
	}
	if !Equal(from, to) {
		d.changed(t, from, to)
	}
}

func (d *differ) dicts(a, b *Dict) {
	if a.s == b.s {
		return
	}
	i, j := 0, 0
	for i < a.Len() || j < b.Len() {
		switch {
		case j == b.Len() || i < a.Len() && a.Key(i) < b.Key(j):
			d.changed(Term{key: a.Key(i)}, a.s.entries[i].value, nil)
			i++
		case i == a.Len() || b.Key(j) < a.Key(i):
			d.changed(Term{key: b.Key(j)}, nil, b.s.entries[j].value)
			j++
		default:
			d.values(Term{key: a.Key(i)}, a.s.entries[i].value, b.s.entries[j].value)
			i++
			j++
		}
	}
}

func (d *differ) lists(a, b *List) {
	if a.s == b.s {
		return
	}
	from, to := a.s.items, b.s.items
	start := 0
	for start < min(len(from), len(to)) && Equal(from[start], to[start]) {
		start++
	}
	end := 0
	for end < min(len(from), len(to))-start && Equal(from[len(from)-1-end], to[len(to)-1-end]) {
		end++
	}
	for i := start; i < max(len(from), len(to))-end; i++ {
		switch {
		case i >= len(to)-end:
			d.changed(Index(i), from[i], nil)
		case i >= len(from)-end:
			d.changed(Index(i), nil, to[i])
		default:
			d.values(Index(i), from[i], to[i])
		}
	}
}

// WriteDiff writes one line per leaf, empty list and empty dict that differs: "+ PATH VALUE" for what was added, "- PATH VALUE" for what was
// removed, "~ PATH OLD -> NEW" for what changed. Values are as in JSON.
func WriteDiff(w io.Writer, changes []Change) error {
	b := bufio.NewWriter(w)
	for _, c := range changes {
		switch {
		case isLeaf(c.Old) && isLeaf(c.New):
			b.WriteString("~ " + c.Path.String() + " ")
			b.Write(compact(c.Old))
			b.WriteString(" -> ")
			b.Write(compact(c.New))
			b.WriteByte('\n')
		default:
			writeLeaves(b, "- ", c.Path.String(), c.Old)
			writeLeaves(b, "+ ", c.Path.String(), c.New)
		}
	}
	return b.Flush()
}

func writeLeaves(b *bufio.Writer, sign, path string, v Value) {
	switch v := v.(type) {
	case nil:
		return
	case *Dict:
		for key, child := range v.All() {
			writeLeaves(b, sign, path+"/"+key, child)
		}
	case *List:
		for i, child := range v.All() {
			writeLeaves(b, sign, path+"/"+Index(i).String(), child)
		}
	}
	if isLeaf(v) {
		b.WriteString(sign + path + " ")
		b.Write(compact(v))
		b.WriteByte('\n')
	}
}

// isLeaf says whether v is a property or an empty resource.
func isLeaf(v Value) bool {
	switch v := v.(type) {
	case nil:
		return false
	case *Dict:
		return v.Len() == 0
	case *List:
		return v.Len() == 0
	}
	return true
}

// compact is v in JSON on one line.
func compact(v Value) []byte {
	e := encoder{flat: true}
	e.jsonValue(v)
	return e.b
}

// WriteDiffJSON writes the changes as a JSON list, one object per line: path, change ("added", "removed", "changed"), and the values as old
// and new.
func WriteDiffJSON(w io.Writer, changes []Change) error {
	b := bufio.NewWriter(w)
	separator := "["
	for _, c := range changes {
		line := struct {
			Path   string          `json:"path"`
			Change string          `json:"change"`
			Old    json.RawMessage `json:"old,omitempty"`
			New    json.RawMessage `json:"new,omitempty"`
		}{Path: c.Path.String(), Change: "changed"}
		if c.Old == nil {
			line.Change = "added"
		} else {
			line.Old = compact(c.Old)
		}
		if c.New == nil {
			line.Change = "removed"
		} else {
			line.New = compact(c.New)
		}
		text, err := json.Marshal(line)
		if err != nil {
			return err
		}
		b.WriteString(separator + "\n")
		b.Write(text)
		separator = ","
	}
	if len(changes) == 0 {
		b.WriteString(separator)
	}
	b.WriteString("\n]\n")
	return b.Flush()
}
