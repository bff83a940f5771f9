package tree

import (
	"fmt"
	"iter"
	"slices"
)

// List is a sequence of values, numbered from 0.
type List struct{ s *list }

// list is what a List and its view share; see dict.
type list struct {
	items []Value
	own   List
	view  List
}

// NewList is an empty list with room for n values.
func NewList(n int) *List {
	s := new(list)
	s.own.s, s.view.s = s, s
	if n > 0 {
		s.items = make([]Value, 0, n)
	}
	return &s.own
}

// ListOf is a list of these values; it takes the slice over.
func ListOf(items ...Value) *List {
	l := NewList(0)
	l.s.items = items
	return l
}

// Len is the number of values.
func (l *List) Len() int { return len(l.s.items) }

// Protected says whether this is a view.
func (l *List) Protected() bool { return l == &l.s.view }

// Value is the i-th value.
func (l *List) Value(i int) Value {
	if l.Protected() {
		return Protect(l.s.items[i])
	}
	return l.s.items[i]
}

// Lookup is the value at index, from the end if index is negative, nil if there is none.
func (l *List) Lookup(index int) Value {
	if index < 0 {
		index += len(l.s.items)
	}
	if index < 0 || index >= len(l.s.items) {
		return nil
	}
	return l.Value(index)
}

// Get is the value at t, nil if there is none; a key is an *InvalidTermError.
func (l *List) Get(t Term) (Value, error) {
	if t.IsKey() {
		return nil, &InvalidTermError{Term: t.key, Type: l.Type()}
	}
	return l.Lookup(int(t.index)), nil
}

// Put sets the value at t; see Resource and Set.
func (l *List) Put(t Term, v Value) error {
	if t.IsKey() {
		return &InvalidTermError{Term: t.key, Type: l.Type()}
	}
	return l.Set(int(t.index), v)
}

// maxHole is how many elements one index may make. panc has no limit but its memory.
const maxHole = 1 << 20

// Set sets the value at index, from the end if index is negative. Beyond the end the list grows with undef between; Null or nil
// takes the value out and moves the rest up, beyond the end it does nothing.
func (l *List) Set(index int, v Value) error {
	if l.Protected() {
		return errProtectedList
	}
	s, size := l.s, len(l.s.items)
	if index < -size {
		return evaluationError(fmt.Sprintf("value %d is an invalid negative list index (lowest allowed -%s)", index, FormatNumber(int64(size))))
	}
	if index < 0 {
		index += size
	}
	if _, null := v.(Null); null || v == nil {
		if index < size {
			s.items = slices.Delete(s.items, index, index+1)
		}
		return nil
	}
	if index < size {
		old := s.items[index]
		s.items[index] = v
		return CheckReplacement(old, v)
	}
	if index-size > maxHole {
		return evaluationError("index (" + FormatNumber(int64(index)) + ") is too far behind the end of a list of " + FormatNumber(int64(size)))
	}
	for len(s.items) < index {
		s.items = append(s.items, Undef{})
	}
	s.items = append(s.items, v)
	return nil
}

// Append puts v behind the last value, Null too.
func (l *List) Append(v Value) error {
	if l.Protected() {
		return errProtectedList
	}
	l.s.items = append(l.s.items, v)
	return nil
}

// Prepend puts v before the first value, Null too.
func (l *List) Prepend(v Value) error {
	if l.Protected() {
		return errProtectedList
	}
	l.s.items = slices.Insert(l.s.items, 0, v)
	return nil
}

// All goes over indices and values in order. The list must not change meanwhile; where it may, use Iterate.
func (l *List) All() iter.Seq2[int, Value] {
	return func(yield func(int, Value) bool) {
		for i := range l.s.items {
			if !yield(i, l.Value(i)) {
				return
			}
		}
	}
}

// Iterate is panc's iteration: indices as Long values; see Iterator.
func (l *List) Iterate() Iterator {
	return Iterator{list: l.s, protected: l.Protected()}
}

func (l *List) writableCopy() *List {
	if !l.Protected() {
		return l
	}
	c := ListOf(slices.Clone(l.s.items)...)
	for i, v := range c.s.items {
		c.s.items[i] = Protect(v)
	}
	return c
}
