package noderange

import "strings"

// Natural compares two names the way people count: n2 before n10. Digit runs compare by value; where every value is
// equal, the name with fewer leading zeros comes first. It is a total order: 0 means the same string.
func Natural(a, b string) int {
	n := min(len(a), len(b))
	p := 0
	for p < n && a[p] == b[p] {
		p++
	}
	if p == len(a) && p == len(b) {
		return 0
	}
	for p > 0 && digit(a[p-1]) {
		p-- // the difference may be inside a number: compare it as a whole
	}
	i, j, tie := p, p, 0
	for i < len(a) && j < len(b) {
		if !digit(a[i]) || !digit(b[j]) {
			if a[i] != b[j] {
				return sign(int(a[i]) - int(b[j]))
			}
			i++
			j++
			continue
		}
		zi, zj := i, j
		for i < len(a) && a[i] == '0' {
			i++
		}
		for j < len(b) && b[j] == '0' {
			j++
		}
		zeros := (i - zi) - (j - zj)
		si, sj := i, j
		for i < len(a) && digit(a[i]) {
			i++
		}
		for j < len(b) && digit(b[j]) {
			j++
		}
		if d := (i - si) - (j - sj); d != 0 {
			return sign(d)
		}
		if d := strings.Compare(a[si:i], b[sj:j]); d != 0 {
			return d
		}
		if tie == 0 {
			tie = sign(zeros)
		}
	}
	if d := (len(a) - i) - (len(b) - j); d != 0 {
		return sign(d)
	}
	return tie
}

func digit(c byte) bool { return '0' <= c && c <= '9' }

func sign(n int) int {
	switch {
	case n < 0:
		return -1
	case n > 0:
		return 1
	}
	return 0
}

// maxDigits is the length of the longest digit run that counts as a number; a longer one is text.
const maxDigits = 18

// number is a digit run of a name: value and the digits it is written with.
type number struct {
	value  uint64
	digits int
}

// run returns the digit run of s that begins at i or later: s[from:to]. ok is false when there is none.
func run(s string, i int) (from, to int, ok bool) {
	for i < len(s) {
		if !digit(s[i]) {
			i++
			continue
		}
		from = i
		for i < len(s) && digit(s[i]) {
			i++
		}
		if i-from <= maxDigits {
			return from, i, true
		}
	}
	return 0, 0, false
}

// lastRun is run from the right.
func lastRun(s string) (from, to int, ok bool) {
	i := len(s)
	for i > 0 {
		if !digit(s[i-1]) {
			i--
			continue
		}
		to = i
		for i > 0 && digit(s[i-1]) {
			i--
		}
		if to-i <= maxDigits {
			return i, to, true
		}
	}
	return 0, 0, false
}

func value(s string) uint64 {
	var v uint64
	for i := range len(s) {
		v = v*10 + uint64(s[i]-'0')
	}
	return v
}

func digits(v uint64) int {
	n := 1
	for v >= 10 {
		v /= 10
		n++
	}
	return n
}

// appendNumber writes v with at least width digits.
func appendNumber(b []byte, v uint64, width int) []byte {
	n := max(digits(v), width)
	for range n {
		b = append(b, '0')
	}
	for i := len(b) - 1; v > 0; i-- {
		b[i] = byte('0' + v%10)
		v /= 10
	}
	return b
}
