package tree

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"unicode/utf16"
)

// dictOf makes a dict of pairs key, value.
func dictOf(pairs ...any) *Dict {
	d := NewDict(0)
	for i := 0; i < len(pairs); i += 2 {
		if err := d.Set(pairs[i].(string), pairs[i+1].(Value)); err != nil {
			panic(err)
		}
	}
	return d
}

func text(t testing.TB, v Value) string {
	t.Helper()
	if v == nil {
		return "nothing"
	}
	s, err := Text(v)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mustPath(t testing.TB, s string) Path {
	t.Helper()
	p, err := ParsePath(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// generator makes random trees, as JSON that json_decode reads, so that panc can be given the same.
type generator struct{ *rand.Rand }

func newGenerator(seed uint64) generator { return generator{rand.New(rand.NewPCG(seed, 0))} }

func (g generator) json(b []byte, depth int) []byte {
	n := g.IntN(6)
	if depth == 0 {
		n = 1 + g.IntN(12)
	}
	switch kind := g.IntN(9); {
	case depth == 0 || kind < 2 && depth < 6:
		b = append(b, '{')
		for i := range n {
			if i > 0 {
				b = append(b, ',')
			}
			b = g.json(fmt.Appendf(b, "%q:", g.key(i)), depth+1)
		}
		return append(b, '}')
	case kind < 3 && depth < 6:
		b = append(b, '[')
		for i := range n {
			if i > 0 {
				b = append(b, ',')
			}
			b = g.json(b, depth+1)
		}
		return append(b, ']')
	case kind == 3:
		return strconv.AppendBool(b, g.IntN(2) == 0)
	case kind == 4:
		return strconv.AppendInt(b, int64(g.Uint64())>>g.IntN(64), 10)
	case kind == 5:
		return g.double(b)
	}
	return g.string(b)
}

// key differs for different i, so that no type clash arises.
func (g generator) key(i int) string {
	const chars = "abzABZ059_+-."
	b := []byte{"abzABZ_"[g.IntN(7)]}
	for range g.IntN(6) {
		b = append(b, chars[g.IntN(len(chars))])
	}
	return string(b) + strconv.Itoa(i)
}

func (g generator) double(b []byte) []byte {
	for {
		d := math.Float64frombits(g.Uint64())
		switch g.IntN(3) {
		case 0:
			d = float64(int64(g.Uint64())>>g.IntN(64)) / math.Pow10(g.IntN(12))
		case 1:
			d = float64(g.IntN(1000)) * math.Pow10(g.IntN(40)-20)
		}
		if math.IsNaN(d) || math.IsInf(d, 0) {
			continue
		}
		s := strconv.FormatFloat(d, 'e', -1, 64)
		if !strings.Contains(s, ".") {
			s = strings.Replace(s, "e", ".0e", 1)
		}
		return append(b, s...)
	}
}

func (g generator) string(b []byte) []byte {
	b = append(b, '"')
	for range g.IntN(40) {
		var c rune
		switch g.IntN(12) {
		case 0:
			c = rune(g.IntN(0x20))
		case 1:
			c = rune(0x7F + g.IntN(0x90))
		case 2:
			c = rune(g.IntN(0x10000))
		case 3:
			c = 0x10000 + rune(g.IntN(0x100000))
		case 4:
			c = []rune{0x2027, 0x2028, 0x2029, 0xD7FF, 0xD800, 0xDBFF, 0xDC00, 0xDFFF, 0xE000, 0xFFFD, 0xFFFE, 0xFFFF, 0xFEFF}[g.IntN(13)]
		case 5:
			c = rune(`"\<>&='/ `[g.IntN(9)])
		case 6:
			c = rune("\n\r\t "[g.IntN(4)])
		default:
			c = 0x20 + rune(g.IntN(0x5F))
		}
		if c == 0 && g.IntN(4) != 0 {
			c = ' ' // few of those that make base64
		}
		if c > 0xFFFF {
			high, low := utf16.EncodeRune(c)
			b = fmt.Appendf(b, `\u%04x\u%04x`, high, low)
		} else {
			b = fmt.Appendf(b, `\u%04x`, c)
		}
	}
	return append(b, '"')
}
