package java

import (
	_ "embed"
	"strconv"
	"strings"
	"sync"
	"unicode"
)

// A predicate says which code points belong to a class. Those of plain UTF-16 units (bmp) never hold for a surrogate or
// beyond; Java searches patterns without others unit by unit.
type predicate struct {
	is  func(r rune) bool
	bmp bool
	low *lowSet // the same for what is below 256, if it is known already
}

func (x *predicate) not() *predicate {
	y := &predicate{is: func(r rune) bool { return !x.is(r) }}
	if x.low != nil {
		y.low = &lowSet{^x.low[0], ^x.low[1], ^x.low[2], ^x.low[3]}
	}
	return y
}

func (x *predicate) or(y *predicate) *predicate {
	z := &predicate{is: func(r rune) bool { return x.is(r) || y.is(r) }, bmp: x.bmp && y.bmp}
	if x.low != nil && y.low != nil {
		z.low = &lowSet{x.low[0] | y.low[0], x.low[1] | y.low[1], x.low[2] | y.low[2], x.low[3] | y.low[3]}
	}
	return z
}

func (x *predicate) and(y *predicate) *predicate {
	return &predicate{is: func(r rune) bool { return x.is(r) && y.is(r) }, bmp: x.bmp && y.bmp}
}

// lowSet is a set of characters below 256.
type lowSet [4]uint64

func (s *lowSet) has(r rune) bool { return s[r>>6]&(1<<(uint(r)&63)) != 0 }
func (s *lowSet) add(r rune)      { s[r>>6] |= 1 << (uint(r) & 63) }

// predicate follows what is added to s later, until it is closed.
func (s *lowSet) predicate() *predicate {
	return &predicate{is: func(r rune) bool { return r < 256 && s.has(r) }, bmp: true}
}

// addFolded adds r and what is equal to it when case is ignored.
func (s *lowSet) addFolded(r rune, f fold) {
	switch {
	case f != foldNone && r < 128:
		s.add(asciiUpper(r))
		s.add(asciiLower(r))
	case f == foldUnicode:
		s.add(unicode.ToLower(r))
		s.add(unicode.ToUpper(r))
	}
	s.add(r)
}

// known is x with the table of what is below 256.
func (x *predicate) known() *predicate {
	if x.low == nil {
		x.low = &lowSet{}
		for r := range rune(256) {
			if x.is(r) {
				x.low.add(r)
			}
		}
	}
	return x
}

// class is a finished predicate.
type class struct {
	low  lowSet
	more func(r rune) bool
}

func newClass(x *predicate) *class {
	if x.low != nil {
		return &class{*x.low, x.is}
	}
	y := *x
	return &class{*y.known().low, x.is}
}

func (c *class) has(r rune) bool {
	if uint32(r) < 256 {
		return c.low.has(r)
	}
	return c.more(r)
}

func asciiLower(r rune) rune {
	if 'A' <= r && r <= 'Z' {
		return r + 'a' - 'A'
	}
	return r
}

func asciiUpper(r rune) rune {
	if 'a' <= r && r <= 'z' {
		return r - 'a' + 'A'
	}
	return r
}

// of is the character that stands for all that are equal to r when case is ignored.
func (f fold) of(r rune) rune {
	switch f {
	case foldASCII:
		return asciiLower(r)
	case foldUnicode:
		if r < 128 {
			return asciiLower(r)
		}
		return unicode.ToLower(unicode.ToUpper(r))
	}
	return r
}

func (p *patternParser) single(c rune) *predicate {
	f := p.fold()
	if f == foldUnicode && unicode.ToUpper(c) != foldUnicode.of(c) {
		c = foldUnicode.of(c)
		return &predicate{is: func(r rune) bool { return r == c || foldUnicode.of(r) == c }}
	}
	x := &predicate{is: func(r rune) bool { return r == c }, bmp: !supplementary(c), low: &lowSet{}}
	if f == foldASCII && c < 128 {
		lower, upper := asciiLower(c), asciiUpper(c)
		x.is = func(r rune) bool { return r == lower || r == upper }
		x.low.add(lower)
		x.low.add(upper)
	} else if c < 256 {
		x.low.add(c)
	}
	return x
}

func rangeOf(from, to rune, f fold) *predicate {
	in := func(r rune) bool { return from <= r && r <= to }
	switch f {
	case foldASCII:
		return &predicate{is: func(r rune) bool {
			return in(r) || r < 128 && (in(asciiUpper(r)) || in(asciiLower(r)))
		}}
	case foldUnicode:
		return &predicate{is: func(r rune) bool {
			up := unicode.ToUpper(r)
			return in(r) || in(up) || in(unicode.ToLower(up))
		}}
	}
	x := &predicate{is: in, bmp: to < 0xd800 || from > 0xdfff && to <= 0xffff, low: &lowSet{}}
	for r := from; r <= min(to, 255); r++ {
		x.low.add(r)
	}
	return x
}

// The classes that escapes and names stand for.
var (
	nothing    = inBMP(func(rune) bool { return false })
	anyChar    = (&predicate{is: func(rune) bool { return true }}).known()
	notNewline = (&predicate{is: func(r rune) bool { return r != '\n' }}).known()
	notLineEnd = (&predicate{is: func(r rune) bool { return !isLineEnd(r) }}).known()

	asciiDigit = inBMP(isDigit)
	asciiSpace = inBMP(isSpace)
	asciiWord  = inBMP(func(r rune) bool { return r == '_' || isDigit(r) || isLetter(r) })

	horizontalSpace = inBMP(func(r rune) bool {
		switch r {
		case '\t', ' ', 0xa0, 0x1680, 0x180e, 0x202f, 0x205f, 0x3000:
			return true
		}
		return 0x2000 <= r && r <= 0x200a
	})
	verticalSpace = inBMP(func(r rune) bool { return '\n' <= r && r <= '\r' || r == 0x85 || r|1 == 0x2029 })

	uniDigit = tables(unicode.Nd)
	uniSpace = &predicate{is: func(r rune) bool {
		return '\t' <= r && r <= '\r' || r == 0x85 || unicode.In(r, unicode.Z)
	}}
	uniWord = &predicate{is: func(r rune) bool {
		return isAlphabetic(r) || unicode.In(r, unicode.M, unicode.Nd, unicode.Pc) || r == 0x200c || r == 0x200d
	}}
)

func inBMP(is func(rune) bool) *predicate { return (&predicate{is: is, bmp: true}).known() }

func isLineEnd(r rune) bool { return r == '\n' || r == '\r' || r == 0x85 || r|1 == 0x2029 }

func tables(t ...*unicode.RangeTable) *predicate {
	return &predicate{is: func(r rune) bool { return unicode.In(r, t...) }}
}

func isAlphabetic(r rune) bool {
	return unicode.In(r, unicode.L, unicode.Nl, unicode.Other_Alphabetic)
}

func isLetterOrDigit(r rune) bool {
	return isLetter(r) || isDigit(r) || r > 127 && unicode.In(r, unicode.L, unicode.Nd)
}

func isAssigned(r rune) bool {
	return unicode.In(r, unicode.L, unicode.M, unicode.N, unicode.P, unicode.S, unicode.Z, unicode.Cc, unicode.Cf, unicode.Co, unicode.Cs)
}

func isGraph(r rune) bool {
	return !unicode.In(r, unicode.Z, unicode.Cc, unicode.Cs) && isAssigned(r)
}

// anyCaseOf is t, or all cased letters when case is ignored.
func anyCaseOf(anyCase bool, t ...*unicode.RangeTable) *predicate {
	if anyCase {
		t = []*unicode.RangeTable{unicode.Lower, unicode.Upper, unicode.Title, unicode.Other_Lowercase, unicode.Other_Uppercase}
	}
	return tables(t...)
}

// posixClass is \p{Alpha} and so on under the flag U; names are matched without regard to case. Nil: no such name.
func posixClass(name string, anyCase bool) *predicate {
	switch strings.ToUpper(name) {
	case "ALPHA":
		return &predicate{is: isAlphabetic}
	case "LOWER":
		return anyCaseOf(anyCase, unicode.Lower, unicode.Other_Lowercase)
	case "UPPER":
		return anyCaseOf(anyCase, unicode.Upper, unicode.Other_Uppercase)
	case "SPACE":
		return uniSpace
	case "PUNCT":
		return tables(unicode.P)
	case "XDIGIT":
		return tables(unicode.Nd, unicode.Hex_Digit)
	case "ALNUM":
		return &predicate{is: func(r rune) bool { return isAlphabetic(r) || unicode.Is(unicode.Nd, r) }}
	case "CNTRL":
		return tables(unicode.Cc)
	case "DIGIT":
		return uniDigit
	case "BLANK":
		return &predicate{is: func(r rune) bool { return r == '\t' || unicode.Is(unicode.Zs, r) }}
	case "GRAPH":
		return &predicate{is: isGraph}
	case "PRINT":
		return &predicate{is: func(r rune) bool { return isGraph(r) || unicode.Is(unicode.Zs, r) }}
	}
	return nil
}

// unicodeClass is \p{IsAlphabetic} and so on: the binary properties, then the POSIX classes. Nil: no such name.
func unicodeClass(name string, anyCase bool) *predicate {
	switch strings.ToUpper(name) {
	case "ALPHABETIC":
		return &predicate{is: isAlphabetic}
	case "ASSIGNED":
		return &predicate{is: isAssigned}
	case "CONTROL":
		return tables(unicode.Cc)
	case "HEXDIGIT", "HEX_DIGIT":
		return tables(unicode.Nd, unicode.Hex_Digit)
	case "IDEOGRAPHIC":
		return tables(unicode.Ideographic)
	case "JOINCONTROL", "JOIN_CONTROL":
		return tables(unicode.Join_Control)
	case "LETTER":
		return tables(unicode.L)
	case "LOWERCASE":
		return anyCaseOf(anyCase, unicode.Lower, unicode.Other_Lowercase)
	case "UPPERCASE":
		return anyCaseOf(anyCase, unicode.Upper, unicode.Other_Uppercase)
	case "TITLECASE":
		return anyCaseOf(anyCase, unicode.Title)
	case "NONCHARACTERCODEPOINT", "NONCHARACTER_CODE_POINT":
		return tables(unicode.Noncharacter_Code_Point)
	case "PUNCTUATION":
		return tables(unicode.P)
	case "WHITESPACE", "WHITE_SPACE":
		return uniSpace
	case "WORD":
		return uniWord
	}
	return posixClass(name, anyCase)
}

// asciiRanges are the POSIX classes without the flag U, as pairs of first and last.
var asciiRanges = map[string]string{
	"ASCII": "\x00\x7f", "Alnum": "09AZaz", "Alpha": "AZaz", "Blank": "\t\t  ", "Cntrl": "\x00\x1f\x7f\x7f", "Digit": "09", "Graph": "!~",
	"Lower": "az", "Print": " ~", "Punct": "!/:@[`{~", "Space": "\t\r  ", "Upper": "AZ", "XDigit": "09AFaf",
}

// propertyClass is a general category, a POSIX class or a method of Character (\p{javaLowerCase}). Nil: no such name.
func propertyClass(name string, anyCase bool) *predicate {
	if pairs, ok := asciiRanges[name]; ok {
		if anyCase && (name == "Lower" || name == "Upper") {
			pairs = asciiRanges["Alpha"]
		}
		return &predicate{is: func(r rune) bool {
			for i := 0; i < len(pairs); i += 2 {
				if rune(pairs[i]) <= r && r <= rune(pairs[i+1]) {
					return true
				}
			}
			return false
		}, bmp: true}
	}
	switch name {
	case "Lu", "Ll", "Lt":
		if anyCase {
			return tables(unicode.Lu, unicode.Ll, unicode.Lt)
		}
	case "Cn":
		return &predicate{is: func(r rune) bool { return !isAssigned(r) }}
	case "C":
		return &predicate{is: func(r rune) bool { return unicode.Is(unicode.C, r) || !isAssigned(r) }}
	case "LC":
		return tables(unicode.Lu, unicode.Ll, unicode.Lt)
	case "LD":
		return tables(unicode.L, unicode.Nd)
	case "L1":
		return &predicate{is: func(r rune) bool { return r < 256 }, bmp: true}
	case "all":
		return anyChar
	}
	if t, ok := unicode.Categories[name]; ok && len(name) <= 2 {
		return tables(t)
	}
	java, ok := strings.CutPrefix(name, "java")
	if !ok {
		return nil
	}
	switch java {
	case "LowerCase":
		return anyCaseOf(anyCase, unicode.Lower, unicode.Other_Lowercase)
	case "UpperCase":
		return anyCaseOf(anyCase, unicode.Upper, unicode.Other_Uppercase)
	case "TitleCase":
		return anyCaseOf(anyCase, unicode.Title)
	case "Alphabetic":
		return &predicate{is: isAlphabetic}
	case "Ideographic":
		return tables(unicode.Ideographic)
	case "Digit":
		return uniDigit
	case "Defined":
		return &predicate{is: isAssigned}
	case "Letter":
		return tables(unicode.L)
	case "LetterOrDigit":
		return &predicate{is: isLetterOrDigit}
	case "JavaIdentifierStart":
		return tables(unicode.L, unicode.Nl, unicode.Sc, unicode.Pc)
	case "JavaIdentifierPart":
		return &predicate{is: func(r rune) bool {
			return isIgnorable(r) || unicode.In(r, unicode.L, unicode.Nl, unicode.Sc, unicode.Pc, unicode.Nd, unicode.Mn, unicode.Mc)
		}}
	case "UnicodeIdentifierStart":
		return tables(unicode.L, unicode.Nl, unicode.Other_ID_Start)
	case "UnicodeIdentifierPart":
		return &predicate{is: func(r rune) bool {
			return isIgnorable(r) || unicode.In(r, unicode.L, unicode.Nl, unicode.Other_ID_Start, unicode.Other_ID_Continue, unicode.Pc, unicode.Nd, unicode.Mn, unicode.Mc)
		}}
	case "IdentifierIgnorable":
		return &predicate{is: isIgnorable}
	case "SpaceChar":
		return tables(unicode.Z)
	case "Whitespace":
		return &predicate{is: func(r rune) bool {
			return '\t' <= r && r <= '\r' || 0x1c <= r && r <= 0x1f ||
				unicode.Is(unicode.Z, r) && r != 0xa0 && r != 0x2007 && r != 0x202f
		}}
	case "ISOControl":
		return &predicate{is: func(r rune) bool { return r <= 0x1f || 0x7f <= r && r <= 0x9f }}
	case "Mirrored":
		return &predicate{is: func(r rune) bool { return strings.ContainsRune("()<>[]{}\u00ab\u00bb\u2039\u203a", r) }}
	}
	return nil
}

func isIgnorable(r rune) bool {
	return r <= 8 || 0xe <= r && r <= 0x1b || 0x7f <= r && r <= 0x9f || unicode.Is(unicode.Cf, r)
}

// scriptClass is \p{IsGreek} and \p{sc=Grek}. Only the long names are known. Nil: no such script.
func scriptClass(name string) *predicate {
	for script, t := range unicode.Scripts {
		if strings.EqualFold(script, name) {
			return tables(t)
		}
	}
	return nil
}

// blocks.txt has a line "first last name name…" for each block of Unicode 13: in hexadecimal, names as Java takes them, in
// capitals, separated by |.
//
//go:embed blocks.txt
var blockList string

var blocks = sync.OnceValue(func() map[string][2]rune {
	all := make(map[string][2]rune)
	for line := range strings.Lines(blockList) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 3)
		first, err := strconv.ParseInt(f[0], 16, 32)
		last, err2 := strconv.ParseInt(f[1], 16, 32)
		if err != nil || err2 != nil {
			panic("java: blocks.txt: " + line)
		}
		for name := range strings.SplitSeq(f[2], "|") {
			all[name] = [2]rune{rune(first), rune(last)}
		}
	}
	return all
})

// blockClass is \p{InGreek} and \p{blk=Greek}. Nil: no such block.
func blockClass(name string) *predicate {
	b, ok := blocks()[strings.ToUpper(name)]
	if !ok {
		return nil
	}
	return &predicate{is: func(r rune) bool { return b[0] <= r && r <= b[1] }}
}
