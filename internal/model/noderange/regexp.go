package noderange

import (
	"regexp"
	"regexp/syntax"
	"slices"
)

// Regexp is a regular expression of an expression: it matches whole names and values. Most are simple (n1.*, rack[1-4]-.*7,
// n\d+): letters at both ends with one repetition between them. These are matched byte by byte; the others, and text
// besides ASCII, by package regexp.
type Regexp struct {
	*regexp.Regexp
	simple     bool
	head, tail []letters
	repeated   bool    // of middle, at least least times, between head and tail
	middle     letters // as often as there is room
	least      int
}

// letters is a set of ASCII letters, a bit each.
type letters [2]uint64

func (l *letters) has(c byte) bool { return l[c>>6&1]&(1<<(c&63)) != 0 }

func compile(s string) (*Regexp, error) {
	re, err := regexp.Compile("^(?:" + s + ")$")
	if err != nil {
		return nil, err
	}
	r := &Regexp{Regexp: re}
	if tree, err := syntax.Parse(s, syntax.Perl); err == nil {
		r.simplify(tree.Simplify())
	}
	return r, nil
}

// simplify takes the expression apart, when it is simple.
func (r *Regexp) simplify(x *syntax.Regexp) {
	parts := []*syntax.Regexp{x}
	if x.Op == syntax.OpConcat {
		parts = x.Sub
	}
	if len(parts) > 0 && parts[0].Op == syntax.OpBeginText {
		parts = parts[1:]
	}
	if n := len(parts); n > 0 && parts[n-1].Op == syntax.OpEndText {
		parts = parts[:n-1]
	}
	for _, p := range parts {
		if (p.Op == syntax.OpStar || p.Op == syntax.OpPlus) && !r.repeated {
			l, ok := lettersOf(p.Sub[0])
			if !ok || len(l) != 1 {
				return
			}
			r.repeated, r.middle = true, l[0]
			if p.Op == syntax.OpPlus {
				r.least = 1
			}
			continue
		}
		l, ok := lettersOf(p)
		if !ok {
			return
		}
		if r.repeated {
			r.tail = append(r.tail, l...)
		} else {
			r.head = append(r.head, l...)
		}
	}
	r.simple = true
}

// lettersOf is what an expression of fixed length takes at each place; false when it is another one.
func lettersOf(x *syntax.Regexp) ([]letters, bool) {
	switch x.Op {
	case syntax.OpCapture:
		return lettersOf(x.Sub[0])
	case syntax.OpLiteral:
		if x.Flags&syntax.FoldCase != 0 || slices.ContainsFunc(x.Rune, func(c rune) bool { return c >= 0x80 }) {
			return nil, false
		}
		out := make([]letters, len(x.Rune))
		for i, c := range x.Rune {
			out[i][c>>6] = 1 << (c & 63)
		}
		return out, true
	case syntax.OpAnyCharNotNL, syntax.OpAnyChar: // a new line is left to package regexp
		return []letters{{^uint64(0), ^uint64(0)}}, true
	case syntax.OpCharClass:
		var l letters
		for i := 0; i < len(x.Rune); i += 2 {
			for c := x.Rune[i]; c <= x.Rune[i+1] && c < 0x80; c++ {
				l[c>>6] |= 1 << (c & 63)
			}
		}
		return []letters{l}, true
	}
	return nil, false
}

// MatchString says that the expression matches all of s.
func (r *Regexp) MatchString(s string) bool {
	if !r.simple {
		return r.Regexp.MatchString(s)
	}
	for i := range len(s) {
		if s[i] >= 0x80 || s[i] == '\n' {
			return r.Regexp.MatchString(s)
		}
	}
	more := len(s) - len(r.head) - len(r.tail)
	if more < r.least || more > 0 && !r.repeated {
		return false
	}
	for i := range r.head {
		if !r.head[i].has(s[i]) {
			return false
		}
	}
	end := len(s) - len(r.tail)
	for i := range r.tail {
		if !r.tail[i].has(s[end+i]) {
			return false
		}
	}
	for i := len(r.head); i < end; i++ {
		if !r.middle.has(s[i]) {
			return false
		}
	}
	return true
}

// matching returns the names that the expression matches; the set is not to be changed. The newest answers are
// remembered, as people and dynamic groups ask the same again.
func (n *Names) matching(re *Regexp) *Set {
	const most = 64
	n.mu.Lock()
	defer n.mu.Unlock()
	set := n.matched[re.String()]
	if set == nil {
		set = n.empty()
		for id, name := range n.names {
			if re.MatchString(name) {
				set.Add(id)
			}
		}
		if n.matched == nil || len(n.matched) >= most {
			n.matched = map[string]*Set{}
		}
		n.matched[re.String()] = set
	}
	return set
}
