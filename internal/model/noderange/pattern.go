package noderange

import (
	"fmt"
	"strings"
)

// pattern is a range: texts with lists of numbers between them, text[0] dims[0] text[1] … text[n].
type pattern struct {
	text []string
	dims [][]span
}

// span is lo, lo+step, … hi, each written with at least width digits.
type span struct {
	lo, hi, step uint64
	width        int
}

func (s span) count() uint64 { return (s.hi-s.lo)/s.step + 1 }

// size is how many names the pattern stands for, at most limit+1.
func (p *pattern) size() uint64 {
	n := uint64(1)
	for _, d := range p.dims {
		in := uint64(0)
		for _, s := range d {
			in = min(in+s.count(), limit+1)
		}
		if n *= in; n > limit {
			return limit + 1
		}
	}
	return n
}

// readPattern makes a range of a word: nil when it is just a name.
func readPattern(s string, start int) (*pattern, *Error) {
	var p *pattern
	var err *Error
	switch {
	case strings.IndexByte(s, '[') >= 0:
		p, err = readBrackets(s, start)
	case strings.IndexByte(s, '+') >= 0:
		p, err = readPlus(s, start)
	default:
		p, err = readEnds(s, start)
	}
	if err != nil {
		return nil, err
	}
	if p != nil && p.size() > limit {
		return nil, fail(start+1, s+" is too much", fmt.Sprintf("it stands for more than %d names", limit), "Narrow the range")
	}
	return p, nil
}

// readBrackets reads r[1-3]u[01-10/2].
func readBrackets(s string, start int) (*pattern, *Error) {
	p := &pattern{}
	rest, at := s, start
	for {
		open := strings.IndexByte(rest, '[')
		if open < 0 {
			break
		}
		end := strings.IndexByte(rest, ']') // the parser has seen that it is there
		if i := strings.IndexAny(rest[:open], "]+:"); i >= 0 {
			return nil, fail(at+i+1, fmt.Sprintf("%q does not go with brackets", rune(rest[i])), "", "Write the whole range in the brackets: n[1-20]")
		}
		d, err := readList(rest[open+1:end], at+open+1)
		if err != nil {
			return nil, err
		}
		p.text = append(p.text, rest[:open])
		p.dims = append(p.dims, d)
		rest, at = rest[end+1:], at+end+1
	}
	if i := strings.IndexAny(rest, "]+:"); i >= 0 {
		return nil, fail(at+i+1, fmt.Sprintf("%q does not go with brackets", rune(rest[i])), "", "Write the whole range in the brackets: n[1-20]")
	}
	p.text = append(p.text, rest)
	return p, nil
}

// readList reads 1,3,5-9 and 1-20/2 and 1:20:2.
func readList(s string, at int) ([]span, *Error) {
	var d []span
	for part := range strings.SplitSeq(s, ",") {
		sp, err := readSpan(part, at)
		if err != nil {
			return nil, err
		}
		d = append(d, sp)
		at += len(part) + 1
	}
	return d, nil
}

func readSpan(s string, at int) (span, *Error) {
	body, stride := s, ""
	if i := strings.IndexByte(s, '/'); i >= 0 {
		body, stride = s[:i], s[i+1:]
		if stride == "" {
			stride = "0"
		}
	}
	lo, hi, ranged := strings.Cut(body, "..")
	if !ranged {
		if i := strings.IndexAny(body, "-:"); i >= 0 {
			ranged = true
			lo, hi = body[:i], body[i+1:]
			if a, b, ok := strings.Cut(hi, ":"); ok && body[i] == ':' && stride == "" {
				hi, stride = a, b
				if stride == "" {
					stride = "0"
				}
			}
		}
	}
	if !ranged {
		hi = lo
	}
	for _, n := range []string{lo, hi} {
		if !numeric(n) {
			what := "no number " + n
			if n == "" {
				what = "a number is missing"
			}
			return span{}, fail(at+1, what, fmt.Sprintf("brackets hold numbers of at most %d digits and ranges of them", maxDigits), "Write [1-20], [1,3,5-9] or [1-20/2]")
		}
	}
	sp, err := ends(lo, hi, at)
	if err != nil {
		return sp, err
	}
	if stride != "" {
		if !numeric(stride) || value(stride) == 0 {
			return sp, fail(at+1, "the stride of ["+s+"] is no number above 0", "", "Write [1-20/2] for every second one")
		}
		sp.step = value(stride)
		sp.hi = sp.lo + (sp.hi-sp.lo)/sp.step*sp.step
	}
	return sp, nil
}

func numeric(s string) bool {
	for i := range len(s) {
		if !digit(s[i]) {
			return false
		}
	}
	return s != "" && len(s) <= maxDigits
}

// ends makes a span of its two ends as they are written.
func ends(lo, hi string, at int) (span, *Error) {
	s := span{lo: value(lo), hi: value(hi), step: 1}
	if s.lo > s.hi {
		return s, fail(at+1, fmt.Sprintf("the range %s-%s runs backwards", lo, hi), "a range goes up", fmt.Sprintf("Write %s-%s", hi, lo))
	}
	if lo[0] == '0' && len(lo) > 1 {
		s.width = len(lo)
	}
	if len(hi) < s.width || hi[0] == '0' && len(hi) > 1 && len(hi) != len(lo) {
		return s, fail(at+1, fmt.Sprintf("%s and %s are padded differently", lo, hi), fmt.Sprintf("one has %d digits, the other %d", len(lo), len(hi)), "Write both with the same number of digits")
	}
	return s, nil
}

// readPlus reads n10+3: n10 and three further ones.
func readPlus(s string, start int) (*pattern, *Error) {
	i := strings.IndexByte(s, '+')
	base, more := s[:i], s[i+1:]
	from, to, ok := lastRun(base)
	if !ok || !numeric(more) || strings.IndexByte(base, ':') >= 0 {
		return nil, fail(start+i+1, s+" is no range", "before + stands a name with a number, after it how many further ones", "Write n10+3 for n10 to n13")
	}
	lo := value(base[from:to])
	sp := span{lo: lo, hi: lo + value(more), step: 1}
	if base[from] == '0' && to-from > 1 {
		sp.width = to - from
	}
	if digits(sp.hi) > maxDigits {
		return nil, fail(start+1, s+" is too much", "its last number is too long", "Narrow the range")
	}
	return &pattern{text: []string{base[:from], base[to:]}, dims: [][]span{{sp}}}, nil
}

// readEnds reads n1-n20, n1:n20, n1..n20 and r1u01-r3u10: two names that differ in numbers only. The two are equally
// many parts long, so the sign between them is the middle one.
func readEnds(s string, start int) (*pattern, *Error) {
	for _, sign := range []string{"-", ":", ".."} {
		n := strings.Count(s, sign)
		if n%2 == 0 {
			continue
		}
		at := 0
		for range n / 2 {
			at += strings.Index(s[at:], sign) + len(sign)
		}
		at += strings.Index(s[at:], sign)
		if p, err := between(s[:at], s[at+len(sign):], start); p != nil || err != nil {
			return p, err
		}
	}
	if i := strings.IndexByte(s, ':'); i >= 0 {
		return nil, fail(start+i+1, s+" is no range", "both ends are the same name with other numbers", "Write n1:n20 or n[1:20]")
	}
	return nil, nil
}

// between makes the range of two names; nil when they differ in more than their numbers.
func between(a, b string, start int) (*pattern, *Error) {
	p := &pattern{}
	var wrong *Error
	ia, ib, text := 0, 0, 0 // text is where the running text begins in a
	for {
		fa, ta, oka := run(a, ia)
		fb, tb, okb := run(b, ib)
		if !oka || !okb {
			if oka || okb || a[ia:] != b[ib:] || ia == 0 {
				return nil, nil
			}
			break
		}
		if a[ia:fa] != b[ib:fb] {
			return nil, nil
		}
		if a[fa:ta] != b[fb:tb] {
			sp, err := ends(a[fa:ta], b[fb:tb], start)
			if err != nil && wrong == nil {
				wrong = err
			}
			p.text = append(p.text, a[text:fa])
			p.dims = append(p.dims, []span{sp})
			text = ta
		}
		ia, ib = ta, tb
	}
	if wrong != nil {
		return nil, wrong
	}
	p.text = append(p.text, a[text:])
	return p, nil
}

// each yields the names of the pattern in the order of its numbers, the last one fastest; b is the same buffer
// each time.
func (p *pattern) each(yield func(b []byte) bool) {
	p.head(nil, 0, len(p.dims), func(b []byte) bool {
		return yield(append(b, p.text[len(p.text)-1]...))
	})
}

// head yields text[d] dims[d] … dims[end-1] after b.
func (p *pattern) head(b []byte, d, end int, yield func([]byte) bool) bool {
	if d == end {
		return yield(b)
	}
	b = append(b, p.text[d]...)
	for _, s := range p.dims[d] {
		for v := s.lo; v <= s.hi; v += s.step {
			if !p.head(appendNumber(b, v, s.width), d+1, end, yield) {
				return false
			}
		}
	}
	return true
}

// matches says that the name is one of the pattern's.
func (p *pattern) matches(name string) bool { return p.rest(name, 0) }

func (p *pattern) rest(s string, d int) bool {
	t := p.text[d]
	if !strings.HasPrefix(s, t) {
		return false
	}
	s = s[len(t):]
	if d == len(p.dims) {
		return s == ""
	}
	for n := 1; n <= len(s) && n <= maxDigits && digit(s[n-1]); n++ {
		v := value(s[:n])
		for _, sp := range p.dims[d] {
			if v < sp.lo || v > sp.hi || (v-sp.lo)%sp.step != 0 || n != max(digits(v), sp.width) {
				continue
			}
			if p.rest(s[n:], d+1) {
				return true
			}
			break
		}
	}
	return false
}
