package noderange

import (
	"iter"
	"math/bits"
	"slices"
	"sort"
	"sync"
)

// Names is an index of names: each has a number, its place in natural order. The names never change.
type Names struct {
	names  []string
	series map[around]*[]place
	breaks []uint64 // places whose name does not continue the one before by 1, as n8 n9

	mu      sync.Mutex
	matched map[string]*Set // by regular expression
}

// around is what stands before and after the last number of a name; a name without a number has its text before and
// "\x00" after, which no name holds.
type around struct{ before, after string }

// place is one member of a series: its last number, the digits that it is written with, and its place in order. A
// series is sorted by number, then digits.
type place struct {
	value  uint64
	digits int32
	id     int32
}

// NewNames indexes names, which come in natural order, each once; count is how many there will be about.
func NewNames(names iter.Seq[string], count int) *Names {
	n := &Names{names: make([]string, 0, count), series: map[around]*[]place{}}
	var last around
	var in *[]place
	var before place
	for s := range names {
		a, p := split(s)
		p.id = int32(len(n.names))
		n.names = append(n.names, s)
		if p.id%64 == 0 {
			n.breaks = append(n.breaks, 0)
		}
		if a != last || p.value != before.value+1 {
			n.breaks[p.id/64] |= 1 << (p.id % 64)
		}
		before = p
		if in == nil || a != last {
			last = a
			if in = n.series[a]; in == nil {
				in = new([]place)
				n.series[a] = in
			}
		}
		*in = append(*in, p)
	}
	return n
}

func split(s string) (around, place) {
	from, to, ok := lastRun(s)
	if !ok {
		return around{s, "\x00"}, place{}
	}
	return around{s[:from], s[to:]}, place{value: value(s[from:to]), digits: int32(to - from)}
}

// Len is how many names there are.
func (n *Names) Len() int { return len(n.names) }

// Name is the name at a place.
func (n *Names) Name(id int) string { return n.names[id] }

// Find returns the place of a name; false when it is not there.
func (n *Names) Find(name string) (int, bool) {
	a, p := split(name)
	in := n.series[a]
	if in == nil {
		return 0, false
	}
	i := search(*in, p.value, p.digits)
	if i < len(*in) && (*in)[i].value == p.value && (*in)[i].digits == p.digits {
		return int((*in)[i].id), true
	}
	return 0, false
}

// search returns the first of a series that is not before the number.
func search(in []place, v uint64, digits int32) int {
	// Most series have no holes: the number is where its distance from the first one says.
	if len(in) > 0 && v >= in[0].value {
		if i := v - in[0].value; i < uint64(len(in)) && in[i].value == v && in[i].digits == digits {
			return int(i)
		}
	}
	return sort.Search(len(in), func(i int) bool {
		return in[i].value > v || in[i].value == v && in[i].digits >= digits
	})
}

func (n *Names) empty() *Set { return NewSet(len(n.names)) }

func (n *Names) all() *Set {
	s := n.empty()
	s.Fill()
	return s
}

// namesOf reads a set out as names.
func namesOf[N ~string](n *Names, s *Set) []N {
	out := make([]N, 0, s.Len())
	for id := range s.All() {
		out = append(out, N(n.names[id]))
	}
	return out
}

// Set is a set of places, one bit each. The sets of one operation are over the same names.
type Set struct {
	words []uint64
	size  int
}

// NewSet returns an empty set over size names.
func NewSet(size int) *Set { return &Set{make([]uint64, (size+63)/64), size} }

// Add puts a place into the set.
func (s *Set) Add(id int) { s.words[id/64] |= 1 << (id % 64) }

// Remove takes a place out of the set.
func (s *Set) Remove(id int) { s.words[id/64] &^= 1 << (id % 64) }

// Size is how many names the set is over.
func (s *Set) Size() int { return s.size }

// Has says that a place is in the set.
func (s *Set) Has(id int) bool { return s.words[id/64]&(1<<(id%64)) != 0 }

// Fill puts every place into the set.
func (s *Set) Fill() {
	for i := range s.words {
		s.words[i] = ^uint64(0)
	}
	s.trim()
}

// Len is how many places are in the set.
func (s *Set) Len() int {
	n := 0
	for _, w := range s.words {
		n += bits.OnesCount64(w)
	}
	return n
}

// Equal says that both sets hold the same.
func (s *Set) Equal(o *Set) bool { return slices.Equal(s.words, o.words) }

// Meets says that the sets have a place in common.
func (s *Set) Meets(o *Set) bool {
	for i, w := range o.words {
		if s.words[i]&w != 0 {
			return true
		}
	}
	return false
}

// All yields the places in order.
func (s *Set) All() iter.Seq[int] {
	return func(yield func(int) bool) {
		for i, w := range s.words {
			for w != 0 {
				if !yield(i*64 + bits.TrailingZeros64(w)) {
					return
				}
				w &= w - 1
			}
		}
	}
}

// Or adds the other set, which may be over fewer names.
func (s *Set) Or(o *Set) {
	for i, w := range o.words {
		s.words[i] |= w
	}
}

// And keeps what is in the other set, too.
func (s *Set) And(o *Set) {
	for i, w := range o.words {
		s.words[i] &= w
	}
}

// AndNot takes the other set away.
func (s *Set) AndNot(o *Set) {
	for i, w := range o.words {
		s.words[i] &^= w
	}
}

// Xor keeps what is in one of both sets only.
func (s *Set) Xor(o *Set) {
	for i, w := range o.words {
		s.words[i] ^= w
	}
}

// Not turns the set into what is not in it.
func (s *Set) Not() {
	for i := range s.words {
		s.words[i] = ^s.words[i]
	}
	s.trim()
}

// trim drops the bits behind the last place.
func (s *Set) trim() {
	if r := s.size % 64; r != 0 {
		s.words[len(s.words)-1] &= 1<<r - 1
	}
}

// Clone returns a copy.
func (s *Set) Clone() *Set { return &Set{append([]uint64(nil), s.words...), s.size} }
