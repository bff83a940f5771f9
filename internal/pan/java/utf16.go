package java

import (
	"iter"
	"slices"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// decode is the code point of s at byte i and its length in bytes. A lone surrogate is one; a byte that is no UTF-8 is U+FFFD.
func decode(s string, i int) (rune, int) {
	if s[i] < utf8.RuneSelf {
		return rune(s[i]), 1
	}
	r, n := utf8.DecodeRuneInString(s[i:])
	if n == 1 && isSurrogateAt(s, i) {
		return 0xd000 | rune(s[i+1]&0x3f)<<6 | rune(s[i+2]&0x3f), 3
	}
	return r, n
}

// isSurrogateAt says that the bytes at i are a lone surrogate.
func isSurrogateAt(s string, i int) bool {
	return i+2 < len(s) && s[i] == 0xed && s[i+1]&0xe0 == 0xa0 && s[i+2]&0xc0 == 0x80
}

func appendCodePoint(b []byte, r rune) []byte {
	if utf16.IsSurrogate(r) {
		return append(b, 0xed, 0x80|byte(r>>6&0x3f), 0x80|byte(r&0x3f))
	}
	return utf8.AppendRune(b, r)
}

func codePoints(s string) iter.Seq2[int, rune] {
	return func(yield func(int, rune) bool) {
		for i := 0; i < len(s); {
			r, n := decode(s, i)
			if !yield(i, r) {
				return
			}
			i += n
		}
	}
}

func fromCodePoints(text []rune) string {
	b := make([]byte, 0, len(text))
	for _, r := range text {
		b = appendCodePoint(b, r)
	}
	return string(b)
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// Length is the number of UTF-16 units of s, as String.length counts.
func Length(s string) int {
	n := 0
	for i := range len(s) {
		if c := s[i]; c&0xc0 != 0x80 { // not inside a character
			n++
			if c >= 0xf0 {
				n++
			}
		}
	}
	return n
}

// Units are the UTF-16 units of s.
func Units(s string) []uint16 {
	u := make([]uint16, 0, len(s))
	for _, r := range codePoints(s) {
		if r > 0xffff {
			high, low := utf16.EncodeRune(r)
			u = append(u, uint16(high), uint16(low))
		} else {
			u = append(u, uint16(r))
		}
	}
	return u
}

// FromUnits is the string of UTF-16 units; pairs of surrogates become one character.
func FromUnits(u []uint16) string {
	b := make([]byte, 0, len(u))
	for i := 0; i < len(u); i++ {
		r := rune(u[i])
		if i+1 < len(u) && isPair(r, rune(u[i+1])) {
			i++
			r = utf16.DecodeRune(r, rune(u[i]))
		}
		b = appendCodePoint(b, r)
	}
	return string(b)
}

func isPair(high, low rune) bool { return high&^0x3ff == 0xd800 && low&^0x3ff == 0xdc00 }

// Substring is the part of s from one UTF-16 unit to before another: String.substring. It panics if they are not
// 0 <= from <= to <= Length(s).
func Substring(s string, from, to int) string {
	if isASCII(s) {
		return s[from:to]
	}
	return FromUnits(Units(s)[from:to])
}

// Compare orders strings as String.compareTo does, by UTF-16 units; that differs from the order of bytes only for characters
// above U+FFFF, which come before those from U+E000.
func Compare(a, b string) int {
	n := min(len(a), len(b))
	for i := range n {
		x, y := a[i], b[i]
		switch {
		case x == y:
		case x >= 0xed && y >= 0xed && (x >= 0xf0 || y >= 0xf0): // first bytes of characters
			const two = 3 + utf8.UTFMax // bytes of a lone surrogate and what follows it
			return slices.Compare(Units(a[i:min(i+two, len(a))]), Units(b[i:min(i+two, len(b))]))
		case x < y:
			return -1
		default:
			return 1
		}
	}
	return len(a) - len(b)
}

// Concat joins strings as Java's + does: halves of a character that meet become that character.
func Concat(a, b string) string {
	if n := len(a) - 3; n >= 0 && a[n] == 0xed && isSurrogateAt(a, n) && isSurrogateAt(b, 0) {
		high, _ := decode(a, n)
		low, _ := decode(b, 0)
		if isPair(high, low) {
			return a[:n] + string(utf16.DecodeRune(high, low)) + b[3:]
		}
	}
	return a + b
}

// Index is the place in UTF-16 units where part begins in s, or -1: String.indexOf.
func Index(s, part string) int {
	if loneAtEdge(part) && !isASCII(s) {
		u, v := Units(s), Units(part)
		for i := range len(u) - len(v) + 1 {
			if slices.Equal(u[i:i+len(v)], v) {
				return i
			}
		}
		return -1
	}
	i := strings.Index(s, part)
	if i <= 0 {
		return i
	}
	return Length(s[:i])
}

// loneAtEdge says that s begins or ends with half a character.
func loneAtEdge(s string) bool {
	return isSurrogateAt(s, 0) || len(s) >= 3 && isSurrogateAt(s, len(s)-3)
}

// Output is s as Java writes it in UTF-8: a lone surrogate becomes a question mark.
func Output(s string) string {
	i := strings.IndexByte(s, 0xed)
	if i < 0 {
		return s
	}
	var b []byte
	last := 0
	for ; i < len(s); i++ {
		if isSurrogateAt(s, i) {
			b = append(append(b, s[last:i]...), '?')
			last = i + 3
		}
	}
	if last == 0 {
		return s
	}
	return string(append(b, s[last:]...))
}

// ToLower is String.toLowerCase(Locale.US).
func ToLower(s string) string {
	if isASCII(s) {
		return strings.ToLower(s)
	}
	b := make([]byte, 0, len(s))
	for i, r := range codePoints(s) {
		switch {
		case r == 0x130:
			b = append(b, "i\u0307"...)
		case r == 0x3a3 && finalSigma(s, i):
			b = append(b, "\u03c2"...)
		default:
			b = appendCodePoint(b, unicode.ToLower(r))
		}
	}
	return string(b)
}

// finalSigma says that the sigma at byte i has a letter with case in front of it in its word, and none behind it. A word is what
// Java's BreakIterator takes for one, in brief: letters and digits, joined by hyphens and the like.
func finalSigma(s string, i int) bool {
	cased := func(r rune) bool {
		return unicode.In(r, unicode.Lower, unicode.Upper, unicode.Title, unicode.Other_Lowercase, unicode.Other_Uppercase)
	}
	word := func(r rune) bool { return r <= 0xffff && unicode.In(r, unicode.L, unicode.Nd, unicode.M) }
	joins := func(r rune) bool {
		return unicode.In(r, unicode.Pd, unicode.Pc) || strings.ContainsRune("\"'.\u00ad\u2027", r)
	}
	reaches := func(text []rune) bool {
		for n, r := range text {
			switch {
			case cased(r) && word(r):
				return true
			case word(r):
			case !joins(r) || n+1 == len(text) || !unicode.IsLetter(text[n+1]):
				return false
			}
		}
		return false
	}
	before := []rune(s[:i])
	slices.Reverse(before)
	return reaches(before) && !reaches([]rune(s[i+len("\u03a3"):]))
}

// ToUpper is String.toUpperCase(Locale.US).
func ToUpper(s string) string {
	if isASCII(s) {
		return strings.ToUpper(s)
	}
	b := make([]byte, 0, len(s))
	for _, r := range codePoints(s) {
		if up, ok := upperSpecial[r]; ok {
			b = append(b, up...)
		} else {
			b = appendCodePoint(b, unicode.ToUpper(r))
		}
	}
	return string(b)
}
