package tree

import (
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"muster/internal/pan/java"
)

const hexDigits = "0123456789abcdef"

// Escape is Pan's escape(): letters and digits (the first only if a letter) stay, every other character below U+0100 becomes _ and
// two lower-case hexadecimal digits, "" becomes "_". Another character is an Evaluation error.
func Escape(s string) (string, error) {
	if s == "" {
		return "_", nil
	}
	b := make([]byte, 0, len(s)+8)
	for i, c := range s {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9' && i > 0:
			b = append(b, byte(c))
		case c < 256:
			b = append(b, '_', hexDigits[c>>4], hexDigits[c&15])
		default:
			if c == utf8.RuneError {
				c = decode(s[i:])
			}
			return "", evaluationError("string contains character which cannot be escaped: " + strconv.FormatInt(int64(c), 16))
		}
	}
	return string(b), nil
}

// decode is the first character of s, half a surrogate pair included.
func decode(s string) rune {
	if len(s) >= 3 && s[0] == 0xED && s[1] >= 0xA0 && s[1] <= 0xBF && s[2]&0xC0 == 0x80 {
		return rune(s[0]&0x0F)<<12 | rune(s[1]&0x3F)<<6 | rune(s[2]&0x3F)
	}
	c, _ := utf8.DecodeRuneInString(s)
	return c
}

// Unescape is Pan's unescape(), the inverse of Escape; a sequence that Escape does not write is an Evaluation error. As in panc, the
// second half of a surrogate pair comes twice.
func Unescape(s string) (string, error) {
	if s == "_" {
		return "", nil
	}
	if first := strings.IndexFunc(s, func(c rune) bool { return c == '_' || c > 0xFFFF }); first < 0 {
		return s, nil
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '_':
			n := unitsLen(s[i+1:], 2)
			if n < 0 {
				return "", evaluationError("string contains incomplete escape sequence")
			}
			digits := s[i+1 : i+1+n]
			code, err := java.ParseLong(digits, 16)
			if err != nil || code < 0 {
				return "", evaluationError("string contains invalid escape sequence: " + digits)
			}
			b = utf8.AppendRune(b, rune(code))
			i += n
		case c >= 0xF0:
			r, n := utf8.DecodeRuneInString(s[i:])
			b = append(b, s[i:i+n]...)
			if r > 0xFFFF {
				_, low := utf16.EncodeRune(r)
				b = appendUnit(b, low)
			}
			i += n - 1
		default:
			b = append(b, c)
		}
	}
	return string(b), nil
}

// unitsLen is the number of bytes that the first n UTF-16 units of s take, -1 if s is shorter; a pair that n would cut is taken whole.
func unitsLen(s string, n int) int {
	i := 0
	for ; n > 0; n-- {
		if i >= len(s) {
			return -1
		}
		c := s[i]
		switch {
		case c < 0xC0:
			i++
		case c < 0xE0:
			i += 2
		case c < 0xF0:
			i += 3
		default:
			i += 4
			n--
		}
	}
	return min(i, len(s))
}

// appendUnit adds one UTF-16 unit to b; the second half of a surrogate pair joins the first if that is the end of b.
func appendUnit(b []byte, unit rune) []byte {
	if !utf16.IsSurrogate(unit) {
		return utf8.AppendRune(b, unit)
	}
	if n := len(b); unit >= 0xDC00 && n >= 3 {
		if high := decode(string(b[n-3:])); high >= 0xD800 && high < 0xDC00 {
			return utf8.AppendRune(b[:n-3], utf16.DecodeRune(high, unit))
		}
	}
	return append(b, 0xED, byte(0x80|unit>>6&0x3F), byte(0x80|unit&0x3F))
}
