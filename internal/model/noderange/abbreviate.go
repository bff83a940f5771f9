package noderange

import (
	"cmp"
	"math/bits"
	"slices"
	"strings"
)

// Abbreviate writes nodes with the help of groups where that is shorter: "compute,-n[100-300]", "rack1,rack2,n7". One group that is
// just these nodes wins; else groups are taken that save most text, one after the other, and what is too much is taken
// away. Expanding the result in the same world gives the same nodes. Names of no node are folded beside them.
//
// The same nodes in the same world give the same text.
func Abbreviate(w World, names []string) string {
	plain := Fold(names)
	index := w.Names()
	a := abbreviation{index: index, want: index.empty(), with: index.empty(), without: index.empty()}
	for _, n := range names {
		if id, ok := index.Find(n); ok {
			a.want.Add(id)
		} else {
			a.others = append(a.others, n)
		}
	}
	if a.want.Len() == 0 {
		return plain
	}
	a.gather(w)
	best := plain
	try := func() {
		if s := a.text(); len(s) < len(best) {
			best = s
		}
	}
	for _, o := range a.offers {
		if o.set.Equal(a.want) {
			a.take(o)
			try()
			return best
		}
	}
	for first := true; len(a.taken) < maxTaken; first = false {
		o := a.dearest()
		if o == nil {
			break
		}
		a.take(o)
		if first {
			try()
		}
	}
	if len(a.taken) > 1 {
		try()
		a.thin(&best)
	}
	return best
}

// maxTaken is the number of groups that one abbreviation names.
const maxTaken = 64

// abbreviation is one on its way: with is all nodes of the groups taken, without those of them that are too much.
type abbreviation struct {
	index         *Names
	want          *Set
	with, without *Set
	others        []string // names of no node
	offers        []*offer
	taken         []*offer
}

// offer is a group that may be named. gain is how many letters it saved when it was last looked at.
type offer struct {
	text string
	set  *Set
	gain int
}

// gather collects the groups that have any wanted node, the shortest name first. A group that a node has the name of is written
// with an @.
func (a *abbreviation) gather(w World) {
	names := []string{"everything"}
	for g := range w.Groups() {
		names = append(names, g)
	}
	slices.SortFunc(names, func(x, y string) int { return cmp.Or(len(x)-len(y), Natural(x, y)) })
	for _, g := range slices.Compact(names) {
		set, ok := w.Group(g)
		if !ok || !set.Meets(a.want) {
			continue
		}
		text := g
		if _, alias := w.Alias(g); alias || w.Has(g) {
			text = "@" + g
		}
		o := &offer{text: text, set: set}
		if o.gain = a.gain(o); o.gain > 0 || set.Equal(a.want) {
			a.offers = append(a.offers, o)
		}
	}
}

// The text of ranges is guessed from their number: a stretch of neighbours is "n[1-3]," or a part of it.
const (
	perStretch   = 8
	perExclusion = 4 // ",-" and the name once more
)

// gain guesses how many letters a further group saves.
func (a *abbreviation) gain(o *offer) int {
	var now, then, out, more stretches
	for i, w := range o.set.words {
		left := a.want.words[i] &^ a.with.words[i]
		breaks := a.index.breaks[i]
		now.add(left, breaks)
		then.add(left&^w, breaks)
		out.add(a.without.words[i], breaks)
		more.add((a.with.words[i]|w)&^a.want.words[i], breaks)
	}
	cost := len(o.text) + 1 + (more.n-out.n)*perStretch
	if more.n > 0 && out.n == 0 {
		cost += perExclusion
	}
	gain := (now.n-then.n)*perStretch - cost
	if then.n == 0 { // no rest, which would need a name
		gain += perExclusion
	}
	return gain
}

// stretches counts runs of neighbours.
type stretches struct {
	n    int
	last uint64 // 1 when the word before ended in a run
}

func (s *stretches) add(w, breaks uint64) {
	if w == 0 {
		s.last = 0
		return
	}
	s.n += bits.OnesCount64(w & (^(w<<1 | s.last) | breaks))
	s.last = w >> 63
}

// dearest is the offer that saves most, nil when none saves anything. Gains mostly fall while groups are taken, so one
// that still leads after it was looked at again is taken without looking at all others.
func (a *abbreviation) dearest() *offer {
	for len(a.offers) > 0 {
		best := 0
		for i, o := range a.offers {
			if o.gain > a.offers[best].gain {
				best = i
			}
		}
		o := a.offers[best]
		was := o.gain
		o.gain = a.gain(o)
		switch {
		case o.gain <= 0:
			a.offers = slices.Delete(a.offers, best, best+1)
		case o.gain >= was:
			a.offers = slices.Delete(a.offers, best, best+1)
			return o
		}
	}
	return nil
}

func (a *abbreviation) take(o *offer) {
	a.taken = append(a.taken, o)
	a.with.Or(o.set)
	a.without.Or(o.set)
	a.without.AndNot(a.want)
}

// thin leaves out groups that save nothing after all; it looks only while that is quick.
func (a *abbreviation) thin(best *string) {
	const quick = 20_000 // nodes to fold
	work := 0
	for i := len(a.taken) - 1; i >= 0 && len(a.taken) > 1; i-- {
		fewer := abbreviation{index: a.index, want: a.want, with: a.index.empty(), without: a.index.empty(), others: a.others}
		for j, o := range a.taken {
			if j != i {
				fewer.take(o)
			}
		}
		rest := a.want.Clone()
		rest.AndNot(fewer.with)
		if work += rest.Len() + fewer.without.Len(); work > quick {
			return
		}
		if s := fewer.text(); len(s) <= len(*best) {
			*best = s
			a.taken = fewer.taken
		}
	}
}

// text writes the abbreviation: groups by name, what is left, what is too much.
func (a *abbreviation) text() string {
	var words []string
	for _, o := range a.taken {
		words = append(words, o.text)
	}
	slices.SortFunc(words, Natural)
	rest := a.want.Clone()
	rest.AndNot(a.with)
	words = append(words, foldWords(append(namesOf[string](a.index, rest), a.others...))...)
	for _, x := range foldWords(namesOf[string](a.index, a.without)) {
		words = append(words, "-"+x)
	}
	return strings.Join(words, ",")
}
