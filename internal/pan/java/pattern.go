package java

import (
	"fmt"
	"slices"
	"strings"
	"sync"
)

// A Pattern is a compiled regular expression of Java's syntax. It is safe for concurrent use.
type Pattern struct {
	source string
	flags  Flags

	root          step
	groups        int
	names         map[string]int
	supplementary bool   // the search steps by code points
	anchored      bool   // begins with \A or ^: only the begin can match
	prefix        string // ASCII that every match begins with
	machines      sync.Pool
}

// Compile compiles a pattern. The error is a [*SyntaxError], whose text is the message of Java's PatternSyntaxException.
// A [Cache] saves compiling a pattern again.
func Compile(source string, flags Flags) (*Pattern, error) {
	p, tree, err := parsePattern(source, flags)
	if err != nil {
		return nil, err
	}
	x := &Pattern{source: source, flags: flags, groups: p.groups, names: p.names, supplementary: p.supplementary}
	c := &compiler{}
	x.root = c.compile(tree, accept{})
	switch first := x.root.(type) {
	case *placeStep:
		x.anchored = first.kind == begin
	case *literalStep:
		x.prefix = first.plain
	}
	x.machines.New = func() any {
		return &machine{groups: make([]int, 2*x.groups), locals: make([]int, c.locals), failedAt: make([]map[int]struct{}, c.loops)}
	}
	return x, nil
}

// ParseFlags reads the flags argument of match(): letters of i, s, m, u, x. Any other is returned as bad.
func ParseFlags(s string) (f Flags, bad string, ok bool) {
	for _, u := range Units(s) {
		switch u {
		case 'i':
			f |= CaseInsensitive
		case 's':
			f |= DotAll
		case 'm':
			f |= Multiline
		case 'u':
			f |= UnicodeCase
		case 'x':
			f |= Comments
		default:
			return 0, FromUnits([]uint16{u}), false
		}
	}
	return f, "", true
}

// A LimitError is a search that was given up: Java would search on for a very long time, or overflow its stack.
type LimitError struct {
	Pattern string
	Length  int // of the text, in UTF-16 units
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("regular expression %q needs too many steps for a text of %d characters; make its repetitions unambiguous, as in a+b instead of (a+)+b", e.Pattern, e.Length)
}

// search is one text being searched by one pattern.
type search struct {
	*machine
	p    *Pattern
	text string
}

func (p *Pattern) search(text string) *search {
	m, ok := p.machines.Get().(*machine)
	if !ok {
		panic("java: pool of machines")
	}
	m.ascii, m.units, m.size = text, nil, len(text)
	if !isASCII(text) {
		m.units = Units(text)
		m.size = len(m.units)
	}
	m.first, m.last, m.previous = -1, 0, -1
	m.steps, m.depth, m.over = stepLimit, 0, false
	return &search{m, p, text}
}

// close gives the machine back.
func (s *search) close() {
	s.ascii, s.units = "", nil
	s.p.machines.Put(s.machine)
}

// find goes to the next match. An error is a *LimitError.
func (s *search) find() (bool, error) {
	m := s.machine
	from := m.last
	if from == m.first {
		from++
	}
	for i := range m.groups {
		m.groups[i] = -1
	}
	if from > m.size {
		return false, nil
	}
	for i := range m.locals {
		m.locals[i] = -1
	}
	for i := range m.failedAt {
		clear(m.failedAt[i])
	}
	m.first = from
	if m.previous < 0 {
		m.previous = from
	}
	ok := s.from(from)
	if m.over {
		return false, &LimitError{s.p.source, m.size}
	}
	if !ok {
		m.first = -1
	}
	m.previous = m.last
	return ok, nil
}

// from searches for a match at a position or behind it.
func (s *search) from(at int) bool {
	m := s.machine
	for ; at <= m.size; at++ {
		if s.p.prefix != "" && m.units == nil {
			i := strings.Index(m.ascii[at:], s.p.prefix)
			if i < 0 {
				return false
			}
			at += i
		}
		if !m.spend(1) {
			return false
		}
		if s.p.root.match(m, at) {
			m.first = at
			m.groups[0], m.groups[1] = at, m.last
			return true
		}
		if s.p.anchored {
			return false
		}
		if s.p.supplementary && m.units != nil && at < m.size {
			_, after := m.char(at)
			at = after - 1
		}
	}
	return false
}

// part is the text between two UTF-16 units.
func (s *search) part(from, to int) string {
	if s.units == nil {
		return s.text[from:to]
	}
	return FromUnits(s.units[from:to])
}

// Match says whether the pattern is found anywhere in text: Matcher.find. An error is a [*LimitError].
func (p *Pattern) Match(text string) (bool, error) {
	s := p.search(text)
	defer s.close()
	return s.find()
}

// Find gives begin and end of the first match and of its groups in UTF-16 units, two numbers each, -1 for a group that did not
// match; nil if there is no match. An error is a [*LimitError].
func (p *Pattern) Find(text string) ([]int, error) {
	s := p.search(text)
	defer s.close()
	ok, err := s.find()
	if !ok || err != nil {
		return nil, err
	}
	return slices.Clone(s.groups), nil
}

// Matches gives the first match and its groups up to the last one that matched, the empty string for one that did not; nil
// if there is no match: the built-in matches(). An error is a [*LimitError].
func (p *Pattern) Matches(text string) ([]string, error) {
	s := p.search(text)
	defer s.close()
	ok, err := s.find()
	if !ok || err != nil {
		return nil, err
	}
	last := 0
	for i := range p.groups {
		if s.groups[2*i] >= 0 {
			last = i
		}
	}
	all := make([]string, last+1)
	for i := range all {
		if s.groups[2*i] >= 0 {
			all[i] = s.part(s.groups[2*i], s.groups[2*i+1])
		}
	}
	return all, nil
}

// A ReplacementError is a replacement that does not fit the pattern. Java throws an IllegalArgumentException, or an
// IndexOutOfBoundsException (NoGroup) for the number of a group that does not exist.
type ReplacementError struct {
	What    string
	NoGroup bool
}

func (e *ReplacementError) Error() string { return e.What }

// ReplaceAll replaces every match: $1 and ${name} stand for groups, a backslash in front of a character for that
// character. A wrong replacement is an error, a [*ReplacementError], only if there is a match. Other errors are a [*LimitError].
func (p *Pattern) ReplaceAll(text, replacement string) (string, error) {
	s := p.search(text)
	defer s.close()
	var out []uint16
	var b strings.Builder // the same while all is ASCII
	ascii := s.units == nil && isASCII(replacement)
	add := func(part string) {
		if ascii {
			b.WriteString(part)
		} else {
			out = append(out, Units(part)...)
		}
	}
	done, found := 0, false
	for {
		ok, err := s.find()
		if err != nil {
			return "", err
		}
		if !ok {
			break
		}
		found = true
		add(s.part(done, s.first))
		done = s.last
		if err := s.expand(replacement, add); err != nil {
			return "", err
		}
	}
	if !found {
		return text, nil
	}
	add(s.part(done, s.size))
	if ascii {
		return b.String(), nil
	}
	return FromUnits(out), nil
}

func (s *search) expand(replacement string, add func(string)) error {
	wrong := func(what string) error { return &ReplacementError{What: what} }
	for replacement != "" {
		i := strings.IndexAny(replacement, `\$`)
		if i != 0 {
			if i < 0 {
				i = len(replacement)
			}
			add(replacement[:i])
			replacement = replacement[i:]
			continue
		}
		isGroup := replacement[0] == '$'
		replacement = replacement[1:]
		switch {
		case !isGroup && replacement == "":
			return wrong("character to be escaped is missing")
		case !isGroup:
			_, n := decode(replacement, 0)
			add(replacement[:n])
			replacement = replacement[n:]
			continue
		case replacement == "":
			return wrong("Illegal group reference: group index is missing")
		}
		group, rest, err := s.p.reference(replacement)
		if err != nil {
			return err
		}
		if from := s.groups[2*group]; from >= 0 {
			add(s.part(from, s.groups[2*group+1]))
		}
		replacement = rest
	}
	return nil
}

// reference reads what follows a $: the name of a group in braces, or as many digits as name one.
func (p *Pattern) reference(s string) (group int, rest string, err error) {
	wrong := func(what string) (int, string, error) { return 0, "", &ReplacementError{What: what} }
	digit := func(i int) bool { return i < len(s) && isDigit(rune(s[i])) }
	if s[0] == '{' {
		n := 1
		for n < len(s) && (isLetter(rune(s[n])) || digit(n)) {
			n++
		}
		switch name := s[1:n]; {
		case name == "":
			return wrong("named capturing group has 0 length name")
		case n == len(s) || s[n] != '}':
			return wrong("named capturing group is missing trailing '}'")
		case isDigit(rune(name[0])):
			return wrong("capturing group name {" + name + "} starts with digit character")
		case p.names[name] == 0:
			return wrong("No group with name {" + name + "}")
		default:
			return p.names[name], s[n+1:], nil
		}
	}
	if !digit(0) {
		return wrong("Illegal group reference")
	}
	group = int(s[0] - '0')
	n := 1
	for ; digit(n) && group*10+int(s[n]-'0') < p.groups; n++ {
		group = group*10 + int(s[n]-'0')
	}
	if group >= p.groups {
		return 0, "", &ReplacementError{What: fmt.Sprintf("No group %d", group), NoGroup: true}
	}
	return group, s[n:], nil
}

// Split cuts text at every match, into at most limit parts if limit is positive. With limit 0, empty parts at the end are
// dropped; a match of nothing at the begin does not make an empty first part. An error is a [*LimitError].
func (p *Pattern) Split(text string, limit int32) ([]string, error) {
	s := p.search(text)
	defer s.close()
	var parts []string
	done := 0
	for limit <= 0 || len(parts) < int(limit)-1 {
		ok, err := s.find()
		if err != nil {
			return nil, err
		}
		if !ok {
			break
		}
		if s.last == 0 {
			continue
		}
		parts = append(parts, s.part(done, s.first))
		done = s.last
	}
	if done == 0 {
		return []string{text}, nil
	}
	parts = append(parts, s.part(done, s.size))
	if limit == 0 {
		for len(parts) > 0 && parts[len(parts)-1] == "" {
			parts = parts[:len(parts)-1]
		}
	}
	return parts, nil
}

// Groups is the number of groups, without the whole match.
func (p *Pattern) Groups() int { return p.groups - 1 }

// A Cache keeps compiled patterns, and the errors of those that cannot be compiled. The zero value is ready to use.
type Cache struct {
	mu  sync.RWMutex
	all map[cacheKey]cached
}

type cacheKey struct {
	source string
	flags  Flags
}

type cached struct {
	pattern *Pattern
	err     error
}

// cacheLimit bounds a cache of patterns that a program makes up as it runs; a full one begins anew.
const cacheLimit = 10_000

// Compile is [Compile], remembered.
func (c *Cache) Compile(source string, flags Flags) (*Pattern, error) {
	key := cacheKey{source, flags}
	c.mu.RLock()
	x, ok := c.all[key]
	c.mu.RUnlock()
	if !ok {
		x.pattern, x.err = Compile(source, flags)
		c.mu.Lock()
		if c.all == nil || len(c.all) >= cacheLimit {
			c.all = make(map[cacheKey]cached)
		}
		c.all[key] = x
		c.mu.Unlock()
	}
	return x.pattern, x.err
}
