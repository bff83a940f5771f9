package java

import (
	"strings"
	"unicode"
	"unicode/utf16"
)

// A step is one part of a compiled pattern, linked to what follows it: it matches here and all that follows there, or not at
// all. Where Java's engine leaves captures behind when it backtracks, this one does too.
type step interface {
	match(m *machine, at int) bool
}

// stepLimit bounds the work of one search, in attempts of any step that can be tried again; about a second.
// depthLimit bounds repetitions of groups within one match, which are held on the stack; Java overflows its stack far below.
const (
	stepLimit  = 20_000_000
	depthLimit = 200_000
)

// machine is the state of matching one pattern against one text. Positions are UTF-16 units.
type machine struct {
	ascii  string   // the text, or
	units  []uint16 // the text if it is not ASCII
	size   int
	groups []int // begin and end of each; -1: not set
	locals []int // begins of groups and counts of loops

	first, last  int // of the match; last is also set by the end of a sub-pattern
	previous     int // where the last match ended
	behindTo     int // where a look-behind must end
	failedAt     []map[int]struct{}
	steps, depth int
	over         bool // a limit is reached: nothing matches any more
}

func (m *machine) unit(i int) rune {
	if m.units == nil {
		return rune(m.ascii[i])
	}
	return rune(m.units[i])
}

// char is the code point at i, and where the next one begins.
func (m *machine) char(i int) (rune, int) {
	if m.units == nil {
		return rune(m.ascii[i]), i + 1
	}
	r := rune(m.units[i])
	if i+1 < m.size && isPair(r, rune(m.units[i+1])) {
		return utf16.DecodeRune(r, rune(m.units[i+1])), i + 2
	}
	return r, i + 1
}

// charBefore is the code point that ends at i, and where it begins.
func (m *machine) charBefore(i int) (rune, int) {
	if m.units == nil {
		return rune(m.ascii[i-1]), i - 1
	}
	r := rune(m.units[i-1])
	if i >= 2 && isPair(rune(m.units[i-2]), r) {
		return utf16.DecodeRune(rune(m.units[i-2]), r), i - 2
	}
	return r, i - 1
}

// spend counts work; it is false when none is left.
func (m *machine) spend(n int) bool {
	m.steps -= n
	if m.steps < 0 {
		m.over = true
	}
	return !m.over
}

// compiler links steps.
type compiler struct {
	locals, loops int
}

func (c *compiler) local() int {
	c.locals++
	return c.locals - 1
}

// compile is t with what follows it.
func (c *compiler) compile(t term, next step) step {
	switch t := t.(type) {
	case *sequence:
		for i := len(t.list) - 1; i >= 0; i-- {
			next = c.compile(t.list[i], next)
		}
		return next
	case *choice:
		s := &choiceStep{}
		for _, e := range t.list {
			s.list = append(s.list, c.compile(e, next))
		}
		return s
	case *one:
		return &oneStep{t.class, next}
	case *literal:
		s := &literalStep{text: t.text, fold: t.fold, next: next}
		if s.plain = fromCodePoints(t.text); t.fold != foldNone || !isASCII(s.plain) {
			s.plain = ""
		}
		return s
	case *place:
		return &placeStep{t.kind, next}
	case *backTo:
		return &backStep{t.group, t.fold, next}
	case *group:
		s, _ := c.group(t, next)
		return s
	case *look:
		s := &lookStep{look: t, next: next}
		if t.behind {
			s.body, _ = c.group(t.body, behindEnd{})
		} else {
			s.body, _ = c.group(t.body, accept{})
		}
		return s
	case *atomic:
		body, _ := c.group(t.body, accept{})
		return &atomicStep{body, next}
	case *repeat:
		return c.repeat(t, next)
	}
	panic("java: unknown term")
}

// group is a group, and the local that holds where it began.
func (c *compiler) group(g *group, next step) (step, int) {
	local := c.local()
	return &groupStart{local, c.compile(g.body, &groupEnd{local, g.capture * 2, next})}, local
}

func (c *compiler) repeat(t *repeat, next step) step {
	if k := t.run(); k != nil {
		return &runStep{k, int(t.min), next}
	}
	g, isGroup := t.body.(*group)
	if !isGroup || t.mode == possessive {
		s := &repeatStep{body: c.compile(t.body, accept{}), min: int(t.min), max: int(t.max), mode: t.mode, next: next}
		if t.question {
			return &questionStep{*s}
		}
		return s
	}
	if t.question {
		body, _ := c.group(g, next)
		if t.mode == greedy {
			return &choiceStep{[]step{body, next}}
		}
		return &choiceStep{[]step{next, body}}
	}
	if x := newExtent(); func() bool { x.add(g); return x.deterministic }() {
		local := c.local()
		return &groupRepeatStep{repeatStep{
			body: c.compile(g.body, &groupEnd{local, g.capture * 2, accept{}}), min: int(t.min), max: int(t.max), mode: t.mode, next: next,
		}, local, g.capture * 2}
	}
	s := &loopStep{min: int(t.min), max: int(t.max), lazy: t.mode == lazy, failed: -1, next: next}
	s.count = c.local()
	if t.top {
		s.failed = c.loops
		c.loops++
	}
	s.body, s.begin = c.group(g, s)
	return &loopStart{s}
}

// accept ends a sub-pattern or the pattern.
type accept struct{}

func (accept) match(m *machine, at int) bool {
	m.last = at
	return true
}

type behindEnd struct{}

func (behindEnd) match(m *machine, at int) bool { return at == m.behindTo }

type choiceStep struct{ list []step }

func (s *choiceStep) match(m *machine, at int) bool {
	for _, e := range s.list {
		if !m.spend(1) {
			return false
		}
		if e.match(m, at) {
			return true
		}
	}
	return false
}

type oneStep struct {
	class *class
	next  step
}

func (s *oneStep) match(m *machine, at int) bool {
	if at >= m.size {
		return false
	}
	r, after := m.char(at)
	return s.class.has(r) && s.next.match(m, after)
}

type literalStep struct {
	text  []rune
	plain string // text, if it is ASCII and case counts
	fold  fold
	next  step
}

func (s *literalStep) match(m *machine, at int) bool {
	if s.plain != "" && m.units == nil {
		return strings.HasPrefix(m.ascii[at:], s.plain) && s.next.match(m, at+len(s.plain))
	}
	for _, want := range s.text {
		if at >= m.size {
			return false
		}
		var r rune
		if r, at = m.char(at); r != want && (s.fold == foldNone || s.fold.of(r) != want) {
			return false
		}
	}
	return s.next.match(m, at)
}

type groupStart struct {
	local int
	next  step
}

func (s *groupStart) match(m *machine, at int) bool {
	was := m.locals[s.local]
	m.locals[s.local] = at
	ok := s.next.match(m, at)
	m.locals[s.local] = was
	return ok
}

type groupEnd struct {
	local, group int
	next         step
}

func (s *groupEnd) match(m *machine, at int) bool {
	begin := m.locals[s.local]
	if begin < 0 { // the body of a groupRepeatStep, which sets the group itself
		m.last = at
		return true
	}
	b, e := m.groups[s.group], m.groups[s.group+1]
	m.groups[s.group], m.groups[s.group+1] = begin, at
	if s.next.match(m, at) {
		return true
	}
	m.groups[s.group], m.groups[s.group+1] = b, e
	return false
}

// runStep takes as many characters of a class as there are, and gives back one by one.
type runStep struct {
	class *class
	min   int
	next  step
}

func (s *runStep) match(m *machine, at int) bool {
	start, n := at, 0
	if m.units == nil {
		for at < m.size && s.class.low.has(rune(m.ascii[at])) {
			at++
		}
		n = at - start
	} else {
		for at < m.size {
			r, after := m.char(at)
			if !s.class.has(r) {
				break
			}
			at = after
			n++
		}
	}
	if !m.spend(1 + n/16) {
		return false
	}
	for ; n >= s.min; n-- {
		if s.next.match(m, at) {
			return true
		}
		if n == s.min || !m.spend(1) {
			return false
		}
		_, at = m.charBefore(at)
		at = max(at, start)
	}
	return false
}

// repeatStep repeats what is not a group, or a group that gives nothing back: each repetition matches in its first way only.
type repeatStep struct {
	body     step
	min, max int
	mode     mode
	next     step
}

func (s *repeatStep) match(m *machine, at int) bool {
	for range s.min {
		if !m.spend(1) || !s.body.match(m, at) {
			return false
		}
		if m.last == at { // repeating nothing changes nothing
			break
		}
		at = m.last
	}
	switch s.mode {
	case greedy:
		return s.most(m, at, s.min)
	case lazy:
		return s.least(m, at, s.min)
	}
	for n := s.min; n < s.max && m.spend(1) && s.body.match(m, at); n++ {
		if at == m.last {
			break
		}
		at = m.last
	}
	return s.next.match(m, at)
}

func (s *repeatStep) most(m *machine, at, n int) bool {
	if n >= s.max {
		return s.next.match(m, at)
	}
	base := n
	if !m.spend(1) {
		return false
	}
	if !s.body.match(m, at) || m.last == at {
		return s.next.match(m, at)
	}
	width := m.last - at
	at = m.last
	for n++; n < s.max && m.spend(1) && s.body.match(m, at); n++ {
		if at+width != m.last {
			if s.most(m, m.last, n+1) {
				return true
			}
			break
		}
		at += width
	}
	for ; n >= base; n-- {
		if !m.spend(1) {
			return false
		}
		if s.next.match(m, at) {
			return true
		}
		at -= width
	}
	return false
}

func (s *repeatStep) least(m *machine, at, n int) bool {
	for ; m.spend(1); n++ {
		if s.next.match(m, at) {
			return true
		}
		if n >= s.max || !s.body.match(m, at) || at == m.last {
			return false
		}
		at = m.last
	}
	return false
}

// questionStep is a repeatStep of at most one.
type questionStep struct{ repeatStep }

func (s *questionStep) match(m *machine, at int) bool {
	if !m.spend(1) {
		return false
	}
	switch s.mode {
	case greedy:
		return s.body.match(m, at) && s.next.match(m, m.last) || s.next.match(m, at)
	case lazy:
		return s.next.match(m, at) || s.body.match(m, at) && s.next.match(m, m.last)
	}
	if s.body.match(m, at) {
		at = m.last
	}
	return s.next.match(m, at)
}

type atomicStep struct{ body, next step }

func (s *atomicStep) match(m *machine, at int) bool {
	return m.spend(1) && s.body.match(m, at) && s.next.match(m, m.last)
}

// groupRepeatStep repeats a group whose body matches in one way only.
type groupRepeatStep struct {
	repeatStep
	local, group int
}

// set makes the group one repetition.
func (s *groupRepeatStep) set(m *machine, from, to int) {
	if s.group > 0 {
		m.groups[s.group], m.groups[s.group+1] = from, to
	}
}

func (s *groupRepeatStep) match(m *machine, at int) bool {
	was, b, e := m.locals[s.local], m.groups[s.group], m.groups[s.group+1]
	m.locals[s.local] = -1
	ok := true
	for range s.min {
		if ok = m.spend(1) && s.body.match(m, at); !ok {
			break
		}
		s.set(m, at, m.last)
		if at == m.last { // repeating nothing changes nothing
			break
		}
		at = m.last
	}
	if ok {
		if s.mode == greedy {
			ok = s.most(m, at, s.min)
		} else {
			ok = s.least(m, at, s.min)
		}
	}
	if !ok {
		m.locals[s.local] = was
		s.set(m, b, e)
	}
	return ok
}

func (s *groupRepeatStep) most(m *machine, at, n int) bool {
	base, b, e := n, m.groups[s.group], m.groups[s.group+1]
	if n < s.max && m.spend(1) && s.body.match(m, at) {
		width := m.last - at
		s.set(m, at, m.last)
		at = m.last
		if width > 0 {
			for n++; n < s.max && m.spend(1) && s.body.match(m, at); n++ {
				if at+width != m.last {
					if s.most(m, at, n) {
						return true
					}
					break
				}
				s.set(m, at, m.last)
				at = m.last
			}
			for ; n > base; n-- {
				if !m.spend(1) {
					return false
				}
				if s.next.match(m, at) {
					s.set(m, at-width, at)
					return true
				}
				at -= width
				s.set(m, at-width, at)
			}
		}
	}
	s.set(m, b, e)
	return s.next.match(m, at)
}

func (s *groupRepeatStep) least(m *machine, at, n int) bool {
	for ; m.spend(1); n++ {
		if s.next.match(m, at) {
			return true
		}
		if n >= s.max || !s.body.match(m, at) || at == m.last {
			return false
		}
		s.set(m, at, m.last)
		at = m.last
	}
	return false
}

// loopStep repeats any other group: each repetition can be matched in another way. It stands behind the body.
type loopStep struct {
	body         step
	min, max     int
	lazy         bool
	begin, count int // locals: where the repetition began, how many there were
	failed       int // which of machine.failedAt, or -1
	next         step
}

// loopStart enters a loop.
type loopStart struct{ *loopStep }

func (s loopStart) match(m *machine, at int) bool {
	was := m.locals[s.count]
	m.locals[s.count] = 1
	var ok bool
	switch {
	case s.min > 0:
		ok = s.body.match(m, at)
	case s.lazy:
		ok = s.next.match(m, at) || s.max > 0 && s.body.match(m, at)
	default:
		ok = s.max > 0 && s.body.match(m, at) || s.next.match(m, at)
	}
	m.locals[s.count] = was
	return ok
}

func (s *loopStep) match(m *machine, at int) bool {
	if !m.spend(1) {
		return false
	}
	n := m.locals[s.count]
	switch {
	case at <= m.locals[s.begin]: // it matched nothing: once is enough
	case n < s.min:
		return s.again(m, at, n)
	case s.lazy:
		return s.next.match(m, at) || n < s.max && s.again(m, at, n)
	case n < s.max:
		if s.failed >= 0 {
			if _, ok := m.failedAt[s.failed][at]; ok {
				break
			}
		}
		if s.again(m, at, n) {
			return true
		}
		if s.failed >= 0 {
			if m.failedAt[s.failed] == nil {
				m.failedAt[s.failed] = make(map[int]struct{})
			}
			m.failedAt[s.failed][at] = struct{}{}
		}
	}
	return s.next.match(m, at)
}

// again matches the body once more.
func (s *loopStep) again(m *machine, at, n int) bool {
	if m.depth++; m.depth > depthLimit {
		m.over = true
		return false
	}
	m.locals[s.count] = n + 1
	ok := s.body.match(m, at)
	if !ok {
		m.locals[s.count] = n
	}
	m.depth--
	return ok
}

type backStep struct {
	group int
	fold  fold
	next  step
}

func (s *backStep) match(m *machine, at int) bool {
	if 2*s.group+1 >= len(m.groups) { // \7 with fewer groups
		return false
	}
	from, to := m.groups[2*s.group], m.groups[2*s.group+1]
	n := to - from
	if from < 0 || at+n > m.size || !m.spend(1+n/16) {
		return false
	}
	for i := range n {
		x, y := m.unit(at+i), m.unit(from+i)
		if x != y && (s.fold == foldNone || s.fold.of(x) != s.fold.of(y)) {
			return false
		}
	}
	return s.next.match(m, at+n)
}

type lookStep struct {
	*look
	body, next step
}

func (s *lookStep) match(m *machine, at int) bool {
	if !m.spend(1) {
		return false
	}
	var found bool
	if s.behind {
		found = s.lookBehind(m, at)
	} else {
		found = s.body.match(m, at)
	}
	return found != s.not && s.next.match(m, at)
}

func (s *lookStep) lookBehind(m *machine, at int) bool {
	was := m.behindTo
	m.behindTo = at
	defer func() { m.behindTo = was }()
	if !s.supplementary {
		from := max(int(int32(at)-s.most), 0)
		for i := at - int(s.least); i >= from && m.spend(1); i-- {
			if s.body.match(m, i) {
				return true
			}
		}
		return false
	}
	back := func(i int, n int32) int {
		for ; n > 0 && i > 0; n-- {
			_, i = m.charBefore(i)
		}
		return i
	}
	from := back(at, s.most)
	for i := back(at, s.least); i >= from && m.spend(1); {
		if s.body.match(m, i) {
			return true
		}
		if i == 0 {
			break
		}
		_, i = m.charBefore(i)
	}
	return false
}

type placeStep struct {
	kind placeKind
	next step
}

func (s *placeStep) match(m *machine, at int) bool {
	switch s.kind {
	case lineBreak:
		return s.lineBreak(m, at)
	case grapheme:
		return at < m.size && s.next.match(m, m.graphemeEnd(at))
	}
	return m.isAt(s.kind, at) && s.next.match(m, at)
}

func (s *placeStep) lineBreak(m *machine, at int) bool {
	if at >= m.size {
		return false
	}
	r := m.unit(at)
	if r == '\r' && at+1 < m.size && m.unit(at+1) == '\n' && s.next.match(m, at+2) {
		return true
	}
	return verticalSpace.is(r) && s.next.match(m, at+1)
}

func (m *machine) isAt(kind placeKind, at int) bool {
	switch kind {
	case begin:
		return at == 0
	case end:
		return at == m.size
	case lineBegin:
		if at == m.size {
			return false
		}
		return at == 0 || isLineEnd(m.unit(at-1)) && !(m.unit(at-1) == '\r' && m.unit(at) == '\n')
	case unixLineBegin:
		return at < m.size && (at == 0 || m.unit(at-1) == '\n')
	case textEnd:
		switch {
		case at < m.size-2 || at == m.size-2 && !(m.unit(at) == '\r' && m.unit(at+1) == '\n'):
			return false
		case at == m.size:
			return true
		}
		return isLineEnd(m.unit(at)) && !(m.unit(at) == '\n' && at > 0 && m.unit(at-1) == '\r')
	case lineEnd:
		if at == m.size {
			return true
		}
		return isLineEnd(m.unit(at)) && !(m.unit(at) == '\n' && at > 0 && m.unit(at-1) == '\r')
	case unixTextEnd:
		return at == m.size || at == m.size-1 && m.unit(at) == '\n'
	case unixLineEnd:
		return at == m.size || m.unit(at) == '\n'
	case lastMatch:
		return at == m.previous
	case wordBound, notWordBound:
		return m.wordBefore(at, isWord) != m.wordAt(at, isWord) == (kind == wordBound)
	case uniWordBound, uniNotWordBound:
		return m.wordBefore(at, uniWord.is) != m.wordAt(at, uniWord.is) == (kind == uniWordBound)
	case graphemeBound:
		if at == 0 || at == m.size {
			return true
		}
		return !(m.units != nil && isPair(m.unit(at-1), m.unit(at))) && m.graphemeEnd(min(m.last, at)) <= at
	}
	panic("java: unknown place")
}

// isWord is a letter of a word to \b, which knows all letters even where \w knows those of ASCII only.
func isWord(r rune) bool { return r == '_' || isLetterOrDigit(r) }

func (m *machine) wordBefore(at int, word func(rune) bool) bool {
	if at == 0 {
		return false
	}
	r, _ := m.charBefore(at)
	return word(r) || unicode.Is(unicode.Mn, r) && m.marked(at-1)
}

func (m *machine) wordAt(at int, word func(rune) bool) bool {
	if at >= m.size {
		return false
	}
	r, _ := m.char(at)
	return word(r) || unicode.Is(unicode.Mn, r) && m.marked(at)
}

// marked says that the mark at i belongs to a letter or digit.
func (m *machine) marked(i int) bool {
	for ; i >= 0; i-- {
		r, _ := m.char(i)
		if isLetterOrDigit(r) {
			return true
		}
		if !unicode.Is(unicode.Mn, r) {
			return false
		}
	}
	return false
}

// graphemeEnd is where the grapheme at i ends (Unicode Annex 29, extended; its rules for emoji and Hangul in brief).
func (m *machine) graphemeEnd(i int) int {
	if i >= m.size {
		return i
	}
	r, i := m.char(i)
	if r == '\r' && i < m.size && m.unit(i) == '\n' {
		return i + 1
	}
	if unicode.In(r, unicode.Cc, unicode.Zl, unicode.Zp) {
		return i
	}
	flags := 0
	for i < m.size {
		n, after := m.char(i)
		switch {
		case unicode.In(n, unicode.M) || n == 0x200c || n == 0x200d || 0x1f3fb <= n && n <= 0x1f3ff:
		case r == 0x200d && unicode.Is(unicode.So, n): // joined emoji
		case unicode.Is(unicode.Regional_Indicator, r) && unicode.Is(unicode.Regional_Indicator, n) && flags == 0:
			flags++
		case hangul(r, n):
		default:
			return i
		}
		r, i = n, after
	}
	return i
}

// hangul says that two letters of Hangul are one syllable.
func hangul(r, n rune) bool {
	const base, syllables, perVowel = 0xac00, 11172, 28
	leading := func(r rune) bool { return 0x1100 <= r && r <= 0x115f }
	vowel := func(r rune) bool { return 0x1160 <= r && r <= 0x11a7 }
	trailing := func(r rune) bool { return 0x11a8 <= r && r <= 0x11ff }
	syllable := func(r rune) bool { return base <= r && r < base+syllables }
	open := syllable(r) && (r-base)%perVowel == 0
	return leading(r) && (leading(n) || vowel(n) || syllable(n)) || (vowel(r) || open) && vowel(n) || (vowel(r) || trailing(r) || syllable(r)) && trailing(n)
}
