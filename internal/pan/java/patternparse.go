package java

import (
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
)

// Flags are the flags of a [Pattern], as match() takes them and as (?idmsuxU) sets them inside.
type Flags uint8

// The flags, by their letter inside a pattern.
const (
	UnixLines       Flags = 1 << iota // d: only \n ends a line
	CaseInsensitive                   // i: ASCII letters, unless UnicodeCase
	Comments                          // x: white space and #… are not part of the pattern
	Multiline                         // m: ^ and $ at every line
	DotAll                            // s
	UnicodeCase                       // u: CaseInsensitive for all letters
	UnicodeClasses                    // U: \w \d \s \b and \p{Alpha} by Unicode
	canonEq                           // c: read, without effect: nothing in Pan sets it
)

// A SyntaxError is Java's PatternSyntaxException: the pattern cannot be compiled.
type SyntaxError struct {
	What    string // Java's description
	Pattern string
	Index   int // in code points, near which; it may point one behind the end
}

// Error is the text of PatternSyntaxException.getMessage: the description, the pattern, and a caret below the place.
func (e *SyntaxError) Error() string {
	text := e.What
	if e.Index >= 0 {
		text += " near index " + strconv.Itoa(e.Index)
	}
	text += "\n" + e.Pattern
	units := Units(e.Pattern)
	if e.Index < 0 || e.Index >= len(units) {
		return text
	}
	pad := make([]byte, e.Index)
	for i := range pad {
		pad[i] = ' '
		if units[i] == '\t' {
			pad[i] = '\t'
		}
	}
	return text + "\n" + string(pad) + "^"
}

// maxNesting limits groups and classes within each other. Java overflows its stack at a few thousand.
const maxNesting = 1000

// The tree of a pattern.
type (
	term interface{}

	sequence struct{ list []term }
	choice   struct{ list []term }
	one      struct{ class *class } // one code point
	literal  struct {
		text []rune // folded if fold is not foldNone
		fold fold
	}
	place  struct{ kind placeKind } // matches nothing, at certain places; and \R and \X, which are places with a width
	backTo struct {
		group int
		fold  fold
	}
	group struct {
		body    term
		capture int // 0: none
	}
	look struct {
		body          *group
		behind, not   bool
		least, most   int32 // of a look-behind: how far it looks back
		supplementary bool  // it looks back by code points, not by UTF-16 units
	}
	atomic struct{ body *group }
	repeat struct {
		body     term
		min, max int32
		mode     mode
		question bool // written as ? (or {0,1})
		top      bool // not inside another repetition: where the body did not match once it need not be tried again
	}
)

// unlimited is the maximum of a repetition without one.
const unlimited = 1<<31 - 1

type mode uint8

const (
	greedy mode = iota
	lazy
	possessive
)

type fold uint8

const (
	foldNone fold = iota
	foldASCII
	foldUnicode
)

type placeKind uint8

const (
	begin           placeKind = iota // \A, ^
	end                              // \z
	lineBegin                        // ^ with m
	unixLineBegin                    // ^ with m and d
	textEnd                          // $, \Z: the end, or before the last line terminator
	unixTextEnd                      // the same with d
	lineEnd                          // $ with m
	unixLineEnd                      // $ with m and d
	lastMatch                        // \G
	wordBound                        // \b
	notWordBound                     // \B
	uniWordBound                     // \b with U
	uniNotWordBound                  // \B with U
	graphemeBound                    // \b{g}
	lineBreak                        // \R
	grapheme                         // \X
)

// patternParser reads a pattern with one cursor, as Java's does, so that its errors point to the same place: with the
// flag x the cursor has passed white space wherever Java's has.
type patternParser struct {
	source string
	text   []rune // code points, \Q…\E replaced by escapes, and zeros behind
	n      int    // code points in text
	at     int
	flags  Flags
	depth  int

	groups        int // capturing groups so far, and one for the whole match
	names         map[string]int
	refers        bool // there is a back reference
	supplementary bool // the search for a match steps by code points
	tops          []*repeat
	literal       []rune // scratch
}

// parsePattern reads a pattern. The error is a *SyntaxError.
func parsePattern(source string, flags Flags) (p *patternParser, root term, err error) {
	if flags&UnicodeClasses != 0 {
		flags |= UnicodeCase
	}
	p = &patternParser{source: source, flags: flags, groups: 1}
	for _, r := range codePoints(source) {
		p.text = append(p.text, r)
		p.supplementary = p.supplementary || supplementary(r)
	}
	p.text = unquote(p.text)
	p.n = len(p.text)
	p.text = append(p.text, 0, 0, 0, 0)
	defer func() {
		switch e := recover().(type) {
		case nil:
		case *SyntaxError:
			p, root, err = nil, nil, e
		default:
			panic(e)
		}
	}()
	root = p.alternatives()
	if p.at != p.n {
		if p.peek() == ')' {
			p.fail("Unmatched closing ')'")
		}
		p.fail("Unexpected internal error") // a backslash at the end
	}
	for _, r := range p.tops {
		r.top = !p.refers
	}
	return p, root, nil
}

// supplementary says that a code point is not one ordinary UTF-16 unit.
func supplementary(r rune) bool { return r > 0xffff || utf16.IsSurrogate(r) }

// unquote replaces \Q…\E by escaped characters. It changes the positions that errors give, as in Java.
func unquote(text []rune) []rune {
	from := 0
	for from < len(text)-1 && !(text[from] == '\\' && text[from+1] == 'Q') {
		if text[from] == '\\' {
			from++
		}
		from++
	}
	if from >= len(text)-1 {
		return text
	}
	at := func(i int) rune {
		if i < len(text) {
			return text[i]
		}
		return 0
	}
	out := append([]rune(nil), text[:from]...)
	quoted, first := true, true
	for i := from + 2; i < len(text); {
		c := text[i]
		i++
		switch {
		case c > 127 || isLetter(c):
			out = append(out, c)
		case isDigit(c):
			if first { // it must not become part of an escape in front
				out = append(out, '\\', 'x', '3')
			}
			out = append(out, c)
		case c != '\\':
			if quoted {
				out = append(out, '\\')
			}
			out = append(out, c)
		case quoted && at(i) == 'E':
			i++
			quoted = false
		case quoted:
			out = append(out, '\\', '\\')
		case at(i) == 'Q':
			i++
			quoted, first = true, true
			continue
		default:
			out = append(out, c)
			if i < len(text) {
				out = append(out, text[i])
				i++
			}
		}
		first = false
	}
	return out
}

func isDigit(c rune) bool  { return '0' <= c && c <= '9' }
func isLetter(c rune) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' }
func isSpace(c rune) bool  { return c == ' ' || '\t' <= c && c <= '\r' }
func isOctal(c rune) bool  { return '0' <= c && c <= '7' }

func isHex(c rune) bool {
	return isDigit(c) || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func hexValue(c rune) rune {
	switch {
	case isDigit(c):
		return c - '0'
	case c >= 'a':
		return c - 'a' + 10
	}
	return c - 'A' + 10
}

func (p *patternParser) has(f Flags) bool { return p.flags&f != 0 }

// fail ends parsing; parsePattern returns the error.
func (p *patternParser) fail(what string) {
	panic(&SyntaxError{What: what, Pattern: p.source, Index: p.at - 1})
}

func (p *patternParser) char(i int) rune {
	if i >= len(p.text) {
		p.fail("Unexpected internal error")
	}
	return p.text[i]
}

// peek is the character at the cursor, after it has passed white space and comments if they are allowed.
func (p *patternParser) peek() rune {
	if p.has(Comments) {
		for isSpace(p.char(p.at)) || p.char(p.at) == '#' {
			if p.char(p.at) == '#' {
				p.passComment()
				continue
			}
			p.at++
		}
	}
	return p.char(p.at)
}

// passComment moves to the end of line that ends a comment, or to the end of the pattern.
func (p *patternParser) passComment() {
	for {
		p.at++
		c := p.char(p.at)
		if c == 0 && p.at >= p.n {
			p.at = p.n
			return
		}
		if c == 0 || c == '\n' || !p.has(UnixLines) && (c == '\r' || c|1 == 0x2029 || c == 0x85) {
			return
		}
	}
}

// next moves on by one and peeks.
func (p *patternParser) next() rune {
	p.at++
	return p.peek()
}

// read takes the character at the cursor, or the first one behind white space and comments.
func (p *patternParser) read() rune {
	if p.has(Comments) {
		p.peek()
	}
	c := p.char(p.at)
	p.at++
	return c
}

// skip passes the character at the cursor and takes the following one, whatever it is.
func (p *patternParser) skip() rune {
	c := p.char(p.at + 1)
	p.at += 2
	return c
}

func (p *patternParser) nest() {
	if p.depth++; p.depth > maxNesting {
		p.fail("Nested deeper than " + strconv.Itoa(maxNesting))
	}
}

func (p *patternParser) alternatives() term {
	p.nest()
	defer func() { p.depth-- }()
	var all []term
	for {
		all = append(all, p.sequence())
		if p.peek() != '|' {
			break
		}
		p.next()
	}
	if len(all) == 1 {
		return all[0]
	}
	return &choice{all}
}

func (p *patternParser) sequence() *sequence {
	s := &sequence{}
	for {
		var t term
		switch c := p.peek(); c {
		case '(':
			if t := p.group(); t != nil {
				s.list = append(s.list, t)
			}
			continue
		case '[':
			t = p.one(p.class(true))
		case '^':
			p.next()
			t = p.place(begin, lineBegin, begin, unixLineBegin)
		case '$':
			p.next()
			t = p.place(textEnd, lineEnd, unixTextEnd, unixLineEnd)
		case '.':
			p.next()
			t = &one{newClass(p.dot())}
		case '|', ')':
			return s
		case '?', '*', '+':
			p.next()
			p.fail("Dangling meta character '" + string(c) + "'")
		case 0:
			if p.at >= p.n {
				return s
			}
			t = p.atom()
		default:
			t = p.atom()
		}
		s.list = append(s.list, p.repeated(t))
	}
}

func (p *patternParser) dot() *predicate {
	switch {
	case p.has(DotAll):
		return anyChar
	case p.has(UnixLines):
		return notNewline
	}
	return notLineEnd
}

// place chooses one of four kinds by the flags m and d.
func (p *patternParser) place(plain, multi, unix, unixMulti placeKind) term {
	switch {
	case p.has(Multiline) && p.has(UnixLines):
		return &place{unixMulti}
	case p.has(Multiline):
		return &place{multi}
	case p.has(UnixLines):
		return &place{unix}
	}
	return &place{plain}
}

func (p *patternParser) one(x *predicate) term {
	p.supplementary = p.supplementary || !x.bmp
	return &one{newClass(x)}
}

// atom reads a run of plain characters, or one escape that is not a character. A quantifier belongs to the last
// character of a run, which is then left for the next atom. A run may be empty: {2} repeats nothing.
func (p *patternParser) atom() term {
	run := p.literal[:0]
	before := 0 // where the last character of the run began
	c := p.peek()
loop:
	for {
		switch c {
		case '*', '+', '?', '{':
			if len(run) > 1 {
				p.at = before
				run = run[:len(run)-1]
			}
			break loop
		case '$', '.', '^', '(', '[', '|', ')':
			break loop
		case '\\':
			if c := p.char(p.at + 1); c == 'p' || c == 'P' {
				if len(run) > 0 {
					break loop
				}
				p.at++
				return p.one(p.property())
			}
			start := p.at
			e := p.escape(false, false)
			if !e.isChar {
				if len(run) == 0 {
					return e.term
				}
				p.at = start
				break loop
			}
			before = start
			run = append(run, e.char)
			c = p.peek()
			continue
		case 0:
			if p.at >= p.n {
				break loop
			}
		}
		before = p.at
		run = append(run, c)
		c = p.next()
	}
	p.literal = run
	for _, r := range run {
		p.supplementary = p.supplementary || supplementary(r)
	}
	if len(run) == 1 {
		return p.one(p.single(run[0]))
	}
	t := &literal{text: append([]rune(nil), run...), fold: p.fold()}
	for i, r := range t.text {
		t.text[i] = t.fold.of(r)
	}
	return t
}

func (p *patternParser) fold() fold {
	switch {
	case p.has(CaseInsensitive) && p.has(UnicodeCase):
		return foldUnicode
	case p.has(CaseInsensitive):
		return foldASCII
	}
	return foldNone
}

// escaped is what an escape means: a character, or else a class, or else another term.
type escaped struct {
	isChar bool
	char   rune
	class  *predicate
	term   term
}

// escape reads what follows a backslash, with the cursor on the backslash. In a range, \v is a character.
func (p *patternParser) escape(inClass, inRange bool) escaped {
	char := func(r rune) escaped { return escaped{isChar: true, char: r} }
	class := func(x, unicode *predicate, not bool) escaped {
		if unicode != nil && p.has(UnicodeClasses) {
			x = unicode
		}
		if not {
			x = x.not()
		}
		if inClass {
			return escaped{class: x}
		}
		return escaped{class: x, term: p.one(x)}
	}
	c := p.skip()
	if inClass && strings.ContainsRune("123456789ABGRXZbkz", c) {
		p.fail("Illegal/unsupported escape sequence")
	}
	switch c {
	case '0':
		return char(p.octal())
	case '1', '2', '3', '4', '5', '6', '7', '8', '9':
		return escaped{term: p.numberedGroup(int(c - '0'))}
	case 'A':
		return escaped{term: &place{begin}}
	case 'B':
		if p.has(UnicodeClasses) {
			return escaped{term: &place{uniNotWordBound}}
		}
		return escaped{term: &place{notWordBound}}
	case 'b':
		if p.peek() == '{' {
			if p.skip() == 'g' {
				if p.read() == '}' {
					return escaped{term: &place{graphemeBound}}
				}
				p.fail("Illegal/unsupported escape sequence")
			}
			p.at -= 2
		}
		if p.has(UnicodeClasses) {
			return escaped{term: &place{uniWordBound}}
		}
		return escaped{term: &place{wordBound}}
	case 'd', 'D':
		return class(asciiDigit, uniDigit, c == 'D')
	case 's', 'S':
		return class(asciiSpace, uniSpace, c == 'S')
	case 'w', 'W':
		return class(asciiWord, uniWord, c == 'W')
	case 'h', 'H':
		return class(horizontalSpace, nil, c == 'H')
	case 'V':
		return class(verticalSpace, nil, true)
	case 'v':
		if inRange {
			return char('\v')
		}
		return class(verticalSpace, nil, false)
	case 'G':
		return escaped{term: &place{lastMatch}}
	case 'R':
		return escaped{term: &place{lineBreak}}
	case 'X':
		return escaped{term: &place{grapheme}}
	case 'Z':
		if p.has(UnixLines) {
			return escaped{term: &place{unixTextEnd}}
		}
		return escaped{term: &place{textEnd}}
	case 'z':
		return escaped{term: &place{end}}
	case 'N':
		return char(p.namedChar())
	case 'a':
		return char('\a')
	case 'c':
		if p.at < p.n {
			return char(p.read() ^ 64)
		}
		p.fail("Illegal control escape sequence")
	case 'e':
		return char(0x1b)
	case 'f':
		return char('\f')
	case 'n':
		return char('\n')
	case 'r':
		return char('\r')
	case 't':
		return char('\t')
	case 'u':
		return char(p.unicode())
	case 'x':
		return char(p.hex())
	case 'k':
		if p.read() != '<' {
			p.fail(`\k is not followed by '<' for named capturing group`)
		}
		name := p.groupName(p.read())
		n, ok := p.names[name]
		if !ok {
			p.fail("named capturing group <" + name + "> does not exist")
		}
		p.refers = true
		return escaped{term: &backTo{n, p.fold()}}
	default:
		if !isLetter(c) {
			return char(c)
		}
	}
	p.fail("Illegal/unsupported escape sequence")
	return escaped{}
}

// numberedGroup takes as many digits as still name a group that has begun.
func (p *patternParser) numberedGroup(n int) term {
	for isDigit(p.peek()) {
		more := n*10 + int(p.peek()-'0')
		if p.groups-1 < more {
			break
		}
		n = more
		p.read()
	}
	p.refers = true
	return &backTo{n, p.fold()}
}

func (p *patternParser) octal() rune {
	a := p.read()
	if !isOctal(a) {
		p.fail("Illegal octal escape sequence")
	}
	b := p.read()
	if !isOctal(b) {
		p.at--
		return a - '0'
	}
	c := p.read()
	if isOctal(c) && a <= '3' {
		return (a-'0')*64 + (b-'0')*8 + c - '0'
	}
	p.at--
	return (a-'0')*8 + b - '0'
}

func (p *patternParser) hex() rune {
	a := p.read()
	if isHex(a) {
		if b := p.read(); isHex(b) {
			return hexValue(a)*16 + hexValue(b)
		}
	} else if a == '{' && isHex(p.peek()) {
		r := rune(0)
		for {
			c := p.read()
			if c == '}' {
				return r
			}
			if !isHex(c) {
				p.fail("Unclosed hexadecimal escape sequence")
			}
			if r = r<<4 + hexValue(c); r > 0x10ffff {
				p.fail("Hexadecimal codepoint is too big")
			}
		}
	}
	p.fail("Illegal hexadecimal escape sequence")
	return 0
}

// unicode reads the digits of \uHHHH; two of them that are a surrogate pair are one character.
func (p *patternParser) unicode() rune {
	four := func() (r rune) {
		for range 4 {
			c := p.read()
			if !isHex(c) {
				p.fail("Illegal Unicode escape sequence")
			}
			r = r<<4 + hexValue(c)
		}
		return r
	}
	high := four()
	if high < 0xd800 || high > 0xdbff {
		return high
	}
	back := p.at
	if p.read() == '\\' && p.read() == 'u' {
		if low := four(); 0xdc00 <= low && low <= 0xdfff {
			return utf16.DecodeRune(high, low)
		}
	}
	p.at = back
	return high
}

// namedChar reads \N{…}. No table of names is linked, so that every name is unknown.
func (p *patternParser) namedChar() rune {
	if p.read() != '{' {
		p.fail("Illegal character name escape sequence")
	}
	from := p.at
	for p.read() != '}' {
		if p.at >= p.n {
			p.fail("Unclosed character name escape sequence")
		}
	}
	p.fail("Unknown character name [" + fromCodePoints(p.text[from:p.at-1]) + "]")
	return 0
}

// class reads a bracketed class with the cursor on the bracket, or (consume is false) the right side of && up to the bracket
// that closes. Characters below 256 are collected in one set per class: what comes later in the class is then also part of
// an earlier left side of &&, as in Java.
func (p *patternParser) class(consume bool) *predicate {
	p.nest()
	defer func() { p.depth-- }()
	var all, last *predicate // what is read; what was read last
	var low lowSet
	bits := low.predicate()
	not, hasBits := false, false
	join := func(x *predicate) {
		if all == nil {
			all = x
		} else {
			all = all.or(x)
		}
	}
	c := p.next()
	if c == '^' && p.char(p.at-1) == '[' {
		c = p.next()
		not = true
	}
	for {
		switch c {
		case '[':
			last = p.class(true)
			join(last)
			c = p.peek()
			continue
		case '&':
			if p.next() != '&' {
				p.at--
				break
			}
			var right *predicate
			for c = p.next(); c != ']' && c != '&'; c = p.peek() {
				var x *predicate
				if c == '[' {
					x = p.class(true)
				} else {
					p.at--
					x = p.class(false)
				}
				if right == nil {
					right = x
				} else {
					right = right.or(x)
				}
			}
			if hasBits {
				if all == nil {
					last = bits
				}
				join(bits)
				hasBits = false
			}
			if right != nil {
				last = right
			}
			switch {
			case all == nil && right == nil:
				p.fail("Bad class syntax")
			case all == nil:
				all = right
			case last == nil:
				all = nothing
			default:
				all = all.and(last)
			}
			continue
		case 0:
			if p.at >= p.n {
				p.fail("Unclosed character class")
			}
		case ']':
			if all == nil && !hasBits {
				break // an ordinary character at this place
			}
			if consume {
				p.next()
			}
			if hasBits { // they are complete
				closed := *bits
				closed.low = &low
				join(&closed)
			}
			if not {
				return all.not()
			}
			return all
		}
		if last = p.classRange(&low); last == nil {
			hasBits = true
		} else {
			join(last)
		}
		c = p.peek()
	}
}

// classRange reads one member of a class: a character, a range, or an escape. It is nil if the member went into low.
func (p *patternParser) classRange(low *lowSet) *predicate {
	c := p.peek()
	if c == '\\' {
		if n := p.char(p.at + 1); n == 'p' || n == 'P' {
			p.at++
			return p.property()
		}
		e := p.escape(true, p.char(min(p.at+2, len(p.text)-1)) == '-')
		if !e.isChar {
			return e.class
		}
		c = e.char
	} else {
		p.next()
	}
	if p.peek() == '-' {
		switch p.char(p.at + 1) {
		case '[', ']':
		default:
			p.next()
			last := p.peek()
			if last == '\\' {
				e := p.escape(true, true)
				if last = -1; e.isChar {
					last = e.char
				}
			} else {
				p.next()
			}
			if last < c {
				p.fail("Illegal character range")
			}
			return rangeOf(c, last, p.fold())
		}
	}
	if f := p.fold(); c < 256 && !(f == foldUnicode && strings.ContainsRune("\u00ff\u00b5IiSsKk\u00c5\u00e5", c)) {
		low.addFolded(c, f)
		return nil
	}
	return p.single(c)
}

// property reads the name behind \p or \P, with the cursor on the letter.
func (p *patternParser) property() *predicate {
	not := p.char(p.at) == 'P'
	var name string
	if p.next() != '{' {
		name = fromCodePoints([]rune{p.char(p.at)})
		p.read()
	} else {
		p.next()
		from := p.at
		p.text[p.n] = '}' // the end, if there is no other
		for p.read() != '}' {
		}
		p.text[p.n] = 0
		if p.at > p.n {
			p.fail("Unclosed character family")
		}
		if from+1 >= p.at {
			p.fail("Empty character family")
		}
		name = fromCodePoints(p.text[from : p.at-1])
	}
	x := p.namedProperty(name)
	if not {
		p.supplementary = true
		return x.not()
	}
	return x
}

func (p *patternParser) namedProperty(name string) *predicate {
	anyCase := p.has(CaseInsensitive)
	if key, value, ok := strings.Cut(name, "="); ok {
		key = strings.ToLower(key)
		var x *predicate
		switch key {
		case "sc", "script":
			x = scriptClass(value)
		case "blk", "block":
			x = blockClass(value)
		case "gc", "general_category":
			x = propertyClass(value, anyCase)
		}
		if x == nil {
			p.fail("Unknown Unicode property {name=<" + key + ">, value=<" + value + ">}")
		}
		return x
	}
	var x *predicate
	switch {
	case strings.HasPrefix(name, "In"):
		x = blockClass(name[2:])
	case strings.HasPrefix(name, "Is"):
		if x = unicodeClass(name[2:], anyCase); x == nil {
			x = propertyClass(name[2:], anyCase)
		}
		if x == nil {
			x = scriptClass(name[2:])
		}
	default:
		if p.has(UnicodeClasses) {
			x = posixClass(name, anyCase)
		}
		if x == nil {
			x = propertyClass(name, anyCase)
		}
	}
	if x == nil {
		p.fail("Unknown character property name {" + name + "}")
	}
	return x
}

func (p *patternParser) groupName(c rune) string {
	if !isLetter(c) {
		p.fail("capturing group name does not start with a Latin letter")
	}
	var name []rune
	for isLetter(c) || isDigit(c) {
		name = append(name, c)
		c = p.read()
	}
	if c != '>' {
		p.fail("named capturing group is missing trailing '>'")
	}
	return string(name)
}

// group reads a group with its quantifier. It is nil for flags alone, which then hold to the end of the group around.
func (p *patternParser) group() term {
	flags, tops := p.flags, len(p.tops)
	capture := func() *group {
		g := &group{capture: p.groups}
		p.groups++
		return g
	}
	var g *group // quantified as a group
	var t term   // or as one thing
	if p.next() != '?' {
		g = capture()
		g.body = p.alternatives()
	} else {
		g = &group{}
		switch c := p.skip(); c {
		case ':':
			g.body = p.alternatives()
		case '=', '!':
			g.body = p.alternatives()
			t = &look{body: g, not: c == '!'}
		case '>':
			g.body = p.alternatives()
			t = &atomic{g}
		case '<':
			c = p.read()
			if c != '=' && c != '!' {
				name := p.groupName(c)
				if _, ok := p.names[name]; ok {
					p.fail("Named capturing group <" + name + "> is already defined")
				}
				if p.names == nil {
					p.names = make(map[string]int)
				}
				g = capture()
				p.names[name] = g.capture
				g.body = p.alternatives()
				break
			}
			start := p.at
			g.body = p.alternatives()
			x := newExtent()
			x.add(g)
			if !x.bounded {
				p.fail("Look-behind group does not have an obvious maximum length")
			}
			l := &look{body: g, behind: true, not: c == '!', least: x.least, most: x.most}
			for _, r := range p.text[min(start, p.n):p.n] {
				l.supplementary = l.supplementary || supplementary(r)
			}
			t = l
			p.tops = p.tops[:min(tops, len(p.tops))]
		case '$', '@':
			p.fail("Unknown group type")
		default:
			p.at--
			p.inlineFlags()
			switch p.read() {
			case ')':
				return nil
			case ':':
			default:
				p.fail("Unknown inline modifier")
			}
			g.body = p.alternatives()
		}
	}
	if p.has(Comments) {
		p.peek()
	}
	if p.at++; p.char(p.at-1) != ')' {
		p.fail("Unclosed group")
	}
	p.flags = flags
	if t == nil {
		t = g
	}
	whole := p.repeated(t)
	if r, ok := whole.(*repeat); ok && t == term(g) {
		p.tops = p.tops[:min(tops, len(p.tops))]
		if !r.question && r.mode == greedy && r.max == unlimited {
			p.tops = append(p.tops, r)
		}
	}
	return whole
}

func (p *patternParser) inlineFlags() {
	on := true
	for c := p.peek(); ; c = p.next() {
		var f Flags
		switch c {
		case 'i':
			f = CaseInsensitive
		case 'm':
			f = Multiline
		case 's':
			f = DotAll
		case 'd':
			f = UnixLines
		case 'u':
			f = UnicodeCase
		case 'c':
			f = canonEq
		case 'x':
			f = Comments
		case 'U':
			f = UnicodeClasses | UnicodeCase
		default:
			if c != '-' || !on {
				return
			}
			on = false
		}
		if on {
			p.flags |= f
		} else {
			p.flags &^= f
		}
	}
}

// repeated reads the quantifier behind t, if there is one.
func (p *patternParser) repeated(t term) term {
	switch p.peek() {
	case '?':
		return &repeat{body: t, max: 1, mode: p.mode(), question: true}
	case '*':
		return &repeat{body: t, max: unlimited, mode: p.mode()}
	case '+':
		return &repeat{body: t, min: 1, max: unlimited, mode: p.mode()}
	case '{':
	default:
		return t
	}
	c := p.skip()
	if !isDigit(c) {
		p.fail("Illegal repetition")
	}
	number := func() int64 {
		n := int64(0)
		for ; isDigit(c); c = p.read() {
			if n = n*10 + int64(c-'0'); n > unlimited {
				p.fail("Illegal repetition range")
			}
		}
		return n
	}
	least := number()
	most := least
	if c == ',' {
		if c = p.read(); c == '}' {
			p.at--
			return &repeat{body: t, min: int32(least), max: unlimited, mode: p.mode()}
		}
		most = number()
	}
	if c != '}' {
		p.fail("Unclosed counted closure")
	}
	if most < least {
		p.fail("Illegal repetition range")
	}
	p.at--
	return &repeat{body: t, min: int32(least), max: int32(most), mode: p.mode(), question: least == 0 && most == 1}
}

// mode reads what follows a quantifier whose last character is at the cursor.
func (p *patternParser) mode() mode {
	switch p.next() {
	case '?':
		p.next()
		return lazy
	case '+':
		p.next()
		return possessive
	}
	return greedy
}

// extent is what Java knows of a term's length when it compiles: whether a look-behind is allowed, how far it looks back, and
// whether a repeated group is matched in one of two ways. The numbers overflow as Java's do: (?<=a*) is allowed.
type extent struct {
	least, most   int32
	bounded       bool
	deterministic bool // there is one way to match only
}

func newExtent() *extent { return &extent{bounded: true, deterministic: true} }

// add adds terms that follow each other. What follows a choice is measured on its own and then added: so it overflows apart.
func (x *extent) add(todo ...term) {
	for len(todo) > 0 {
		t := todo[0]
		todo = todo[1:]
		switch t := t.(type) {
		case *sequence:
			todo = append(slices.Clone(t.list), todo...)
		case *group:
			todo = append([]term{t.body}, todo...)
		case *choice:
			x.addChoice(t, todo)
			return
		case *one:
			x.least++
			x.most++
		case *literal:
			x.least += int32(len(t.text))
			x.most += int32(len(t.text))
		case *place:
			switch t.kind {
			case lineBreak:
				x.least++
				x.most += 2
			case grapheme:
				x.least++
				x.deterministic = false
			}
		case *backTo:
			x.bounded = false
		case *atomic:
			x.add(t.body)
		case *repeat:
			if g, ok := t.body.(*group); ok && t.question && t.mode != possessive {
				todo = append([]term{&choice{[]term{g, &sequence{}}}}, todo...)
			} else if !x.addRepeat(t) {
				return
			}
		}
	}
}

func (x *extent) addChoice(t *choice, rest []term) {
	least, most := int32(unlimited), int32(-1)
	for _, e := range t.list {
		y := newExtent()
		y.add(e)
		least, most = min(least, y.least), max(most, y.most)
		x.bounded = x.bounded && y.bounded
	}
	y := newExtent()
	y.add(rest...)
	x.least += least + y.least
	x.most += most + y.most
	x.bounded = x.bounded && y.bounded
	x.deterministic = false
}

// addRepeat says whether what follows is still looked at.
func (x *extent) addRepeat(t *repeat) bool {
	switch {
	case t.question:
		least := x.least
		x.add(t.body)
		x.least = least
		x.deterministic = false
		return true
	case t.run() != nil:
		x.least += t.min
		if x.bounded {
			x.most += unlimited
		}
		x.deterministic = false
		return true
	}
	y := newExtent()
	y.add(t.body)
	if _, ok := t.body.(*group); ok && t.mode != possessive && !y.deterministic {
		x.bounded, x.deterministic = false, false
		return false
	}
	before := x.least
	if x.least += y.least * t.min; x.least < before {
		x.least = 0xfffffff
	}
	if x.bounded = x.bounded && y.bounded; x.bounded {
		before := x.most
		if x.most += y.most * t.max; x.most < before {
			x.bounded = false
		}
	}
	x.deterministic = x.deterministic && y.deterministic && t.min == t.max
	return true
}

// run is the class whose members t takes as many of as there are, or nil.
func (t *repeat) run() *class {
	if o, ok := t.body.(*one); ok && !t.question && t.mode == greedy && t.max == unlimited {
		return o.class
	}
	return nil
}
