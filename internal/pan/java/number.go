package java

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"unicode"
)

// ErrNumber is Java's NumberFormatException: a text is not the number that is asked for.
var ErrNumber = errors.New("not a number of this kind, or out of its range")

// ParseDouble is Double.parseDouble: white space around is passed over, a letter f or d may follow, a number too large is
// infinite. Hexadecimal digits need an exponent (0x1.8p1). The error is [ErrNumber].
func ParseDouble(s string) (float64, error) {
	s = strings.TrimFunc(s, func(r rune) bool { return r <= ' ' })
	body := strings.TrimLeft(s, "+-")
	if len(s)-len(body) > 1 || body == "" {
		return 0, ErrNumber
	}
	negative := s[0] == '-'
	switch body {
	case "NaN":
		return math.NaN(), nil
	case "Infinity":
		return math.Copysign(math.Inf(1), float64(1-2*b2i(negative))), nil
	}
	hex := len(body) > 1 && body[0] == '0' && body[1]|0x20 == 'x'
	if last := body[len(body)-1] | 0x20; last == 'f' || last == 'd' {
		body = body[:len(body)-1]
	}
	if hex && !strings.ContainsAny(body, "pP") || !hex && strings.ContainsFunc(body, func(r rune) bool {
		return !isDigit(r) && !strings.ContainsRune(".eE+-", r)
	}) || strings.Contains(body, "_") {
		return 0, ErrNumber
	}
	d, err := strconv.ParseFloat(body, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return 0, ErrNumber
	}
	if negative {
		d = -d
	}
	return d, nil
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// ParseLong is Long.parseLong with a radix of 2 to 36: a sign may stand in front, digits of all scripts count. The error is [ErrNumber].
func ParseLong(s string, radix int) (int64, error) {
	negative := strings.HasPrefix(s, "-")
	if negative || strings.HasPrefix(s, "+") {
		s = s[1:]
	}
	return parseDigits(s, radix, negative)
}

// DecodeLong is Long.decode: decimal, 0x, 0X and # for hexadecimal, 0 for octal; a sign in front of that. The error is [ErrNumber].
func DecodeLong(s string) (int64, error) {
	negative := strings.HasPrefix(s, "-")
	if negative || strings.HasPrefix(s, "+") {
		s = s[1:]
	}
	radix := 10
	switch {
	case strings.HasPrefix(s, "0x"), strings.HasPrefix(s, "0X"):
		s, radix = s[2:], 16
	case strings.HasPrefix(s, "#"):
		s, radix = s[1:], 16
	case len(s) > 1 && s[0] == '0':
		s, radix = s[1:], 8
	}
	return parseDigits(s, radix, negative)
}

// parseDigits adds up downwards, where there is room for one more.
func parseDigits(s string, radix int, negative bool) (int64, error) {
	n := int64(0)
	for _, r := range s {
		d := digitValue(r)
		if d < 0 || d >= radix || n < math.MinInt64/int64(radix) {
			return 0, ErrNumber
		}
		n *= int64(radix)
		if n < math.MinInt64+int64(d) {
			return 0, ErrNumber
		}
		n -= int64(d)
	}
	if s == "" || !negative && n == math.MinInt64 {
		return 0, ErrNumber
	}
	if !negative {
		n = -n
	}
	return n, nil
}

// digitValue is Character.digit for a radix of 36: a decimal digit of any script, a Latin letter, also in full width; or -1.
func digitValue(r rune) int {
	switch {
	case isDigit(r):
		return int(r - '0')
	case isLetter(r):
		return int(asciiLower(r)-'a') + 10
	case 0xff21 <= r && r <= 0xff3a:
		return int(r-0xff21) + 10
	case 0xff41 <= r && r <= 0xff5a:
		return int(r-0xff41) + 10
	case r < 128 || r > 0xffff: // a pair of units is no digit
		return -1
	}
	for _, t := range unicode.Nd.R16 {
		if lo := rune(t.Lo); lo <= r && r <= rune(t.Hi) {
			return int(r-lo) % 10
		}
	}
	return -1
}

// Round is Math.round: to the nearest long, halves upwards; what is too large becomes the largest, NaN becomes 0.
func Round(d float64) int64 {
	whole := math.Floor(d)
	if d-whole >= 0.5 {
		whole++
	}
	switch {
	case math.IsNaN(d):
		return 0
	case whole >= 1<<63:
		return math.MaxInt64
	case whole < -1<<63:
		return math.MinInt64
	}
	return int64(whole)
}

// hashCode is Object.hashCode of a value of Pan.
func hashCode(v any) uint32 {
	switch v := v.(type) {
	case string:
		h := uint32(0)
		for _, u := range Units(v) {
			h = h*31 + uint32(u)
		}
		return h
	case int64:
		return uint32(v) ^ uint32(uint64(v)>>32)
	case float64:
		b := math.Float64bits(v)
		if v != v {
			b = 0x7ff8000000000000
		}
		return uint32(b) ^ uint32(b>>32)
	case bool:
		if v {
			return 1231
		}
		return 1237
	}
	return 0
}
