package noderange

import (
	"errors"
	"iter"
	"slices"
	"strings"
)

// evaluation works out one plan over one world; it collects the names that do not exist.
type evaluation struct {
	world   World
	names   *Names
	lenient bool // names that do not exist are left out, and pages refused
	unknown []Unknown
	most    int // unknown names that are told; when one is told only, the first ends it
	seen    map[string]bool
	more    int // unknown names besides those
	work    int // words of sets that were gone through
}

const (
	maxUnknown = 100_000 // names that are told
	maxWork    = 1 << 30 // about a second
)

// find is the place of the node that a name or alias stands for.
func (e *evaluation) find(name string) (int, bool) {
	id, ok := e.names.Find(name)
	if !ok {
		if name, ok = e.world.Alias(name); ok {
			id, ok = e.names.Find(name)
		}
	}
	return id, ok
}

// expr returns a set of its own. Nodes outside of within need not be looked at: they are dropped later.
func (e *evaluation) expr(x expr, within *Set) (*Set, error) {
	if e.work += 16 + len(within.words); e.work > maxWork {
		return nil, fail(1, "the expression is too much", "working it out takes too long", "Make a group of a part")
	}
	switch x := x.(type) {
	case list:
		return e.list(x, within)
	case chain:
		s, err := e.expr(x.first, within)
		for i := 0; err == nil && i < len(x.rest); i++ {
			l := x.rest[i]
			var o *Set
			if l.op == '^' {
				if o, err = e.expr(l.x, within); err == nil {
					s.Xor(o)
				}
			} else if o, err = e.expr(l.x, s); err == nil {
				s.And(o)
			}
		}
		return s, err
	case page:
		return e.page(x)
	case word:
		return e.word(x)
	case group:
		if s, ok := e.group(x.name); ok {
			return s.Clone(), nil
		}
		s := e.names.empty()
		if id, ok := e.find(x.name); ok {
			s.Add(id)
		} else {
			e.miss(x.name, x.column)
		}
		return s, nil
	case pick:
		if within.Len() >= e.names.Len()/16 {
			return e.names.matching(x.re).Clone(), nil
		}
		s := e.names.empty()
		for id := range within.All() {
			if x.re.MatchString(e.names.names[id]) {
				s.Add(id)
			}
		}
		return s, nil
	case query:
		s, err := e.world.Match(x.Query, within)
		if err != nil {
			return nil, wrongQuery(x, err)
		}
		return s, nil
	}
	panic("noderange: no such expression")
}

func wrongQuery(x query, err error) *Error {
	if r := (*Error)(nil); errors.As(err, &r) {
		c := *r
		c.Column = x.column
		return &c
	}
	return fail(x.column, "the term about "+x.Attr+" has no answer", err.Error(), "")
}

func (e *evaluation) list(l list, within *Set) (*Set, error) {
	s := e.names.empty()
	for _, x := range l.of {
		if w, ok := x.(word); ok { // of 100,000 names none needs a set of its own
			if id, ok := e.find(w.text); ok {
				s.Add(id)
				continue
			}
		}
		o, err := e.expr(x, within)
		if err != nil {
			return nil, err
		}
		s.Or(o)
	}
	for _, x := range l.without {
		o, err := e.expr(x, s)
		if err != nil {
			return nil, err
		}
		s.AndNot(o)
	}
	return s, nil
}

func (e *evaluation) page(p page) (*Set, error) {
	if e.lenient {
		return nil, pageOfOne()
	}
	s := e.names.all()
	if p.x != nil {
		var err error
		if s, err = e.expr(p.x, s); err != nil {
			return nil, err
		}
	}
	out, n := e.names.empty(), 0
	for id := range s.All() {
		if p.limit >= 0 && n >= p.skip+p.limit {
			break
		}
		if n >= p.skip {
			out.Add(id)
		}
		n++
	}
	return out, nil
}

// group finds a group; "all" is another name of the group that every node is in.
func (e *evaluation) group(name string) (*Set, bool) {
	s, ok := e.world.Group(name)
	if !ok && name == "all" {
		return e.world.Group("everything")
	}
	return s, ok
}

func (e *evaluation) word(w word) (*Set, error) {
	s := e.names.empty()
	if id, ok := e.find(w.text); ok {
		s.Add(id)
		return s, nil
	}
	if g, ok := e.group(w.text); ok {
		return g.Clone(), nil
	}
	switch {
	case w.wrong != nil && !e.lenient:
		return nil, w.wrong
	case w.ranges != nil:
		e.ranged(s, w)
	default:
		e.miss(w.text, w.column)
	}
	return s, nil
}

// ranged adds the nodes, or groups, of a range. The numbers of its last brackets are one stretch of a series of the
// index, where what stands around them leaves no doubt which digits belong to the number.
func (e *evaluation) ranged(s *Set, w word) {
	p := w.ranges
	if len(p.dims) == 0 { // both ends are the same
		e.element(s, p.text[0], w.column)
		return
	}
	last := len(p.dims) - 1
	before, after := p.text[last], p.text[last+1]
	if strings.ContainsAny(after, "0123456789") || before == "" && last > 0 || before != "" && digit(before[len(before)-1]) {
		p.each(func(b []byte) bool {
			e.element(s, string(b), w.column)
			return !e.ended()
		})
		return
	}
	p.head(nil, 0, last, func(b []byte) bool {
		b = append(b, before...)
		var in []place
		if l := e.names.series[around{string(b), after}]; l != nil {
			in = *l
		}
		for _, sp := range p.dims[last] {
			i := 0
			for v := sp.lo; v <= sp.hi; v += sp.step {
				n := int32(max(sp.width, digits(v)))
				if v == sp.lo || sp.step > 1 {
					i = search(in, v, n)
				}
				for i < len(in) && (in[i].value < v || in[i].value == v && in[i].digits < n) {
					i++
				}
				if i < len(in) && in[i].value == v && in[i].digits == n {
					s.Add(int(in[i].id))
					continue
				}
				e.absent(s, string(appendNumber(b, v, sp.width))+after, w.column)
				if e.ended() {
					return false
				}
			}
		}
		return true
	})
}

// element adds a name of a range.
func (e *evaluation) element(s *Set, name string, column int) {
	if id, ok := e.names.Find(name); ok {
		s.Add(id)
		return
	}
	e.absent(s, name, column)
}

// absent adds what a name stands for that is no node's.
func (e *evaluation) absent(s *Set, name string, column int) {
	if node, ok := e.world.Alias(name); ok {
		if id, ok := e.names.Find(node); ok {
			s.Add(id)
			return
		}
	}
	if g, ok := e.world.Group(name); ok {
		s.Or(g)
		return
	}
	e.miss(name, column)
}

func (e *evaluation) miss(name string, column int) {
	if e.lenient {
		return
	}
	if len(e.unknown) == e.most {
		e.more++
		return
	}
	if e.seen == nil {
		e.seen = map[string]bool{}
	}
	if !e.seen[name] {
		e.seen[name] = true
		e.unknown = append(e.unknown, Unknown{Name: name, Column: column})
	}
}

// ended says that nothing is left to find out.
func (e *evaluation) ended() bool { return e.most == 1 && len(e.unknown) == 1 }

// free is the world in which every name exists that the expression stands for.
type free struct {
	made  []string
	names *Names
}

func (f *free) Has(name string) bool            { _, ok := f.names.Find(name); return ok }
func (f *free) Alias(string) (string, bool)     { return "", false }
func (f *free) Names() *Names                   { return f.names }
func (f *free) Group(string) (*Set, bool)       { return nil, false }
func (f *free) Groups() iter.Seq[string]        { return slices.Values([]string(nil)) }
func (f *free) Aliases() iter.Seq[string]       { return slices.Values([]string(nil)) }
func (f *free) Match(Query, *Set) (*Set, error) { return f.names.empty(), nil }

// collect makes the names of all words.
func (f *free) collect(p *Plan) error {
	if pg, ok := p.root.(page); ok && pg.x == nil {
		return fail(1, "a page of nothing", "names that need not exist cannot be counted through", "Write the names before it")
	}
	for _, t := range p.terms {
		switch t := t.(type) {
		case word:
			switch {
			case t.wrong != nil:
				return t.wrong
			case t.ranges == nil:
				f.made = append(f.made, t.text)
			default:
				f.make(t.ranges)
			}
		case group:
			return existing(t.column, "@"+t.name)
		case pick:
			return existing(t.column, "a regular expression")
		case query:
			return existing(t.column, "the attribute term about "+t.Attr)
		}
	}
	if len(f.made) > limit {
		return fail(1, "the expression stands for too many names", "", "Narrow it")
	}
	return nil
}

func existing(column int, what string) *Error {
	return fail(column, what+" stands for nodes that exist", "here names are made", "Write names and ranges only: n[1-20]")
}

// make appends the names of a range, all of them parts of one string.
func (f *free) make(p *pattern) {
	n := int(p.size())
	buf := make([]byte, 0, n*16)
	ends := make([]int, 0, n)
	p.each(func(b []byte) bool {
		buf = append(buf, b...)
		ends = append(ends, len(buf))
		return true
	})
	all, from := string(buf), 0
	f.made = slices.Grow(f.made, n)
	for _, to := range ends {
		f.made = append(f.made, all[from:to])
		from = to
	}
}
