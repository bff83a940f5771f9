package tree

import (
	"iter"
	"slices"
	"strings"
)

// Dict is a map from key to value, kept in the order of its keys. Keys are those that a Term can be, so they are ASCII and their
// order by bytes is Java's order by UTF-16 units.
type Dict struct{ s *dict }

// dict is what a Dict and its view share; both headers live in it, so that protecting costs no allocation and no race.
type dict struct {
	entries []entry
	changes uint32 // structural ones: a key more or less
	own     Dict
	view    Dict
}

type entry struct {
	key   string
	value Value
}

// NewDict is an empty dict with room for n keys.
func NewDict(n int) *Dict {
	s := new(dict)
	s.own.s, s.view.s = s, s
	if n > 0 {
		s.entries = make([]entry, 0, n)
	}
	return &s.own
}

// Len is the number of keys.
func (d *Dict) Len() int { return len(d.s.entries) }

// Protected says whether this is a view.
func (d *Dict) Protected() bool { return d == &d.s.view }

// Key is the i-th key in order.
func (d *Dict) Key(i int) string { return d.s.entries[i].key }

// Value is the value of the i-th key in order.
func (d *Dict) Value(i int) Value {
	if d.Protected() {
		return Protect(d.s.entries[i].value)
	}
	return d.s.entries[i].value
}

func (d *Dict) find(key string) (int, bool) {
	entries := d.s.entries
	low, high := 0, len(entries)
	if high == 0 || entries[high-1].key < key { // keys often come in order
		return high, false
	}
	for low < high {
		middle := int(uint(low+high) / 2)
		if entries[middle].key < key {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low, entries[low].key == key
}

// Lookup is the value at key, nil if there is none.
func (d *Dict) Lookup(key string) Value {
	if i, ok := d.find(key); ok {
		return d.Value(i)
	}
	return nil
}

// Get is the value at t, nil if there is none; an index is an *InvalidTermError.
func (d *Dict) Get(t Term) (Value, error) {
	if !t.IsKey() {
		return nil, &InvalidTermError{Term: t.String(), Type: d.Type()}
	}
	return d.Lookup(t.key), nil
}

// Put sets the value at t; see Resource.
func (d *Dict) Put(t Term, v Value) error {
	if !t.IsKey() {
		return &InvalidTermError{Term: t.String(), Type: d.Type()}
	}
	return d.Set(t.key, v)
}

// Set sets the value at key, which has to be one that Term accepts; Null or nil deletes it.
func (d *Dict) Set(key string, v Value) error {
	if d.Protected() {
		return errProtectedDict
	}
	s := d.s
	i, found := d.find(key)
	if _, null := v.(Null); null || v == nil {
		if found {
			s.entries = slices.Delete(s.entries, i, i+1)
			s.changes++
		}
		return nil
	}
	if found {
		old := s.entries[i].value
		s.entries[i].value = v
		return CheckReplacement(old, v)
	}
	s.entries = slices.Insert(s.entries, i, entry{key, v})
	s.changes++
	return nil
}

// All goes over keys and values in order. The dict must not change meanwhile; where it may, use Iterate.
func (d *Dict) All() iter.Seq2[string, Value] {
	return func(yield func(string, Value) bool) {
		for i := range d.s.entries {
			if !yield(d.s.entries[i].key, d.Value(i)) {
				return
			}
		}
	}
}

// Iterate is panc's iteration: keys as String values, in order; see Iterator.
func (d *Dict) Iterate() Iterator {
	return Iterator{dict: d.s, protected: d.Protected(), changes: d.s.changes, more: d.Len() > 0}
}

func (d *Dict) writableCopy() *Dict {
	if !d.Protected() {
		return d
	}
	c := NewDict(0)
	c.s.entries = slices.Clone(d.s.entries)
	for i, e := range c.s.entries {
		c.s.entries[i].value = Protect(e.value)
	}
	return c
}

// DictOf is a dict of pairs in any order; of equal keys the last counts, Null is left out. It is the quick way to a large one.
func DictOf(keys []string, values []Value) *Dict {
	d := NewDict(len(keys))
	for i, k := range keys {
		if _, null := values[i].(Null); !null {
			d.s.entries = append(d.s.entries, entry{k, values[i]})
		}
	}
	slices.SortStableFunc(d.s.entries, func(a, b entry) int { return strings.Compare(a.key, b.key) })
	last := 0
	for i, e := range d.s.entries {
		if i > 0 && d.s.entries[last].key != e.key {
			last++
		}
		d.s.entries[last] = e
	}
	d.s.entries = d.s.entries[:min(last+1, len(d.s.entries))]
	return d
}
