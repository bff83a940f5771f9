package java

import (
	"math"
	"math/big"
	"math/bits"
	"strconv"
	"strings"
)

// AppendDouble adds d as the Double.toString of Java up to 18 gives it, which is not always the shortest form: 1.0E23 is
// 9.999999999999999E22, and 4.9E-324 has a digit too many.
func AppendDouble(b []byte, d float64) []byte {
	switch {
	case math.IsNaN(d):
		return append(b, "NaN"...)
	case math.Signbit(d):
		b = append(b, '-')
		d = -d
	}
	if math.IsInf(d, 0) {
		return append(b, "Infinity"...)
	}
	if d == 0 {
		return append(b, "0.0"...)
	}
	f := decimal{brief: true}
	f.of(d)
	return f.append(b)
}

// Double is d as Double.toString gives it.
func Double(d float64) string { return string(AppendDouble(nil, d)) }

// decimal is 0.DIGITS times ten to the exponent. It is found as jdk.internal.math.FloatingDecimal does: digits come one by one
// from the exact quotient until what is left is within half a unit of the last place; in three widths of numbers, each
// with its own overflows.
type decimal struct {
	digits   [24]byte
	n        int
	exponent int
	brief    bool // one digit is enough for a number that needs no exponent; otherwise there are two at least
}

// of finds the digits of d, which is finite and not negative.
func (f *decimal) of(d float64) {
	if d == 0 {
		f.digits[0], f.n, f.exponent = '0', 1, 1
		return
	}
	fraction, exponent := math.Float64bits(d)&(1<<52-1), int(math.Float64bits(d)>>52)
	significant := 53
	if exponent == 0 { // subnormal
		significant = bits.Len64(fraction)
		fraction <<= 53 - significant
		exponent = significant - 52
	} else {
		fraction |= 1 << 52
	}
	f.convert(exponent-1023, fraction, significant)
}

var (
	pow5Bits = [...]int{
		0, 3, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28, 31, 33, 35, 38, 40, 42, 45, 47, 49, 52, 54, 56, 59, 61,
	}
	pow5 = func() (p [27]int64) {
		p[0] = 1
		for i := 1; i < len(p); i++ {
			p[i] = 5 * p[i-1]
		}
		return p
	}()
)

func bitsOfPow5(n int) int {
	if n < len(pow5Bits) {
		return pow5Bits[n]
	}
	return 3 * n
}

// convert finds the digits of fraction/2^52 * 2^exponent; fraction has bit 52 set, significant of its bits count.
func (f *decimal) convert(exponent int, fraction uint64, significant int) {
	zeros := bits.TrailingZeros64(fraction)
	fractionBits := 53 - zeros
	tiny := max(0, fractionBits-exponent-1) // bits right of the point
	if tiny == 0 && exponent <= 62 {
		f.integer(exponent, fraction, significant)
		return
	}
	estimate := estimateExponent(fraction, exponent)
	b5, s5 := max(0, -estimate), max(0, estimate)
	b2 := b5 + tiny + exponent
	s2 := s5 + tiny
	m2 := b2 - significant
	fraction >>= zeros
	b2 -= fractionBits - 1
	common := min(b2, s2)
	b2, s2, m2 = b2-common, s2-common, m2-common
	if fractionBits == 1 { // below a power of two the neighbours are nearer
		m2--
	}
	if m2 < 0 {
		b2, s2, m2 = b2-m2, s2-m2, 0
	}
	f.exponent = estimate
	wide := max(fractionBits+b2+bitsOfPow5(b5), s2+1+bitsOfPow5(s5+1))
	switch {
	case wide < 32:
		generate(f, int32(int64(fraction)*pow5[b5])<<b2, int32(pow5[s5])<<s2, int32(pow5[b5])<<m2)
	case wide < 64:
		generate(f, int64(fraction)*pow5[b5]<<b2, pow5[s5]<<s2, pow5[b5]<<m2)
	default:
		f.generateBig(pow52(int64(fraction), b5, b2), pow52(1, s5, s2), pow52(1, b5, m2))
	}
	f.exponent++
}

// integer is convert for what has no bits right of the point and fits a long; digits that the 53 bits do not carry are dropped.
func (f *decimal) integer(exponent int, fraction uint64, significant int) {
	if exponent >= 52 {
		fraction <<= exponent - 52
	} else {
		fraction >>= 52 - exponent
	}
	f.exponent = 0
	if n := exponent - significant - 1; n > 1 {
		drop := (n * 1233) >> 12 // digits of 2^n: floor(n log10 2)
		if pow := uint64(math.Pow10(drop)); pow > 1 {
			residue := fraction % pow
			fraction /= pow
			f.exponent = drop
			if residue >= pow/2 {
				fraction++
			}
		}
	}
	for fraction%10 == 0 {
		fraction /= 10
		f.exponent++
	}
	f.n = len(strconv.AppendUint(f.digits[:0], fraction, 10))
	f.exponent += f.n
}

func estimateExponent(fraction uint64, exponent int) int {
	d := math.Float64frombits(1023<<52 | fraction&(1<<52-1))
	return int(math.Floor(float64((d-1.5)*0.289529654) + 0.176091259 + float64(float64(exponent)*0.301029995663981)))
}

// generate makes the digits of b/s, within m/s, in the arithmetic of a Java int or long.
func generate[T int32 | int64](f *decimal, b, s, m T) {
	tens := s * 10
	q := b / s
	b = 10 * (b % s)
	m *= 10
	low, high := b < m, b+m > tens
	if q == 0 && !high {
		f.exponent--
	} else {
		f.put(int(q))
	}
	if !f.brief || f.exponent < -3 || f.exponent >= 8 {
		low, high = false, false
	}
	for !low && !high {
		q = b / s
		b = 10 * (b % s)
		m *= 10
		if m > 0 {
			low, high = b < m, b+m > tens
		} else {
			low, high = true, true // m overflowed
		}
		f.put(int(q))
	}
	f.round(low, high, int64(b<<1-tens))
}

// generateBig is generate without limits; here the upper end counts as reached.
func (f *decimal) generateBig(b, s, m *big.Int) {
	ten := big.NewInt(10)
	tens := new(big.Int).Mul(s, ten)
	var q, sum big.Int
	step := func() (low, high bool) {
		q.QuoRem(b, s, b)
		b.Mul(b, ten)
		m.Mul(m, ten)
		return b.Cmp(m) < 0, sum.Add(b, m).Cmp(tens) >= 0
	}
	low, high := step()
	if q.Sign() == 0 && !high {
		f.exponent--
	} else {
		f.put(int(q.Int64()))
	}
	if !f.brief || f.exponent < -3 || f.exponent >= 8 {
		low, high = false, false
	}
	for !low && !high {
		low, high = step()
		f.put(int(q.Int64()))
	}
	f.round(low, high, int64(sum.Lsh(b, 1).Cmp(tens)))
}

func pow52(n int64, p5, p2 int) *big.Int {
	p := new(big.Int).Exp(big.NewInt(5), big.NewInt(int64(p5)), nil)
	p.Mul(p, big.NewInt(n))
	return p.Lsh(p, uint(p2))
}

func (f *decimal) put(digit int) {
	f.digits[f.n] = byte('0' + digit)
	f.n++
}

// round rounds the last digit; rest is what is left, against half a unit.
func (f *decimal) round(low, high bool, rest int64) {
	last := f.n - 1
	if !high || low && (rest < 0 || rest == 0 && f.digits[last]&1 == 0) {
		return
	}
	for f.digits[last] == '9' && last > 0 {
		f.digits[last] = '0'
		last--
	}
	if f.digits[last] == '9' {
		f.exponent++
		f.digits[last] = '1'
		return
	}
	f.digits[last]++
}

func (f *decimal) append(b []byte) []byte {
	digits := f.digits[:f.n]
	switch e := f.exponent; {
	case e > 0 && e < 8:
		for i := range e {
			if i < f.n {
				b = append(b, digits[i])
			} else {
				b = append(b, '0')
			}
		}
		return appendOrZero(append(b, '.'), digits[min(e, f.n):])
	case e <= 0 && e > -3:
		return append(append(b, "0.00"[:2-e]...), digits...)
	default:
		b = appendOrZero(append(b, digits[0], '.'), digits[1:])
		return strconv.AppendInt(append(b, 'E'), int64(e-1), 10)
	}
}

func appendOrZero(b, digits []byte) []byte {
	if len(digits) == 0 {
		return append(b, '0')
	}
	return append(b, digits...)
}

// Number is d as panc's messages have it where they say {0,number}: NumberFormat for the locale US, with groups of three
// and at most three digits behind the point, rounded half to even from the digits that Double gives.
func Number(d float64) string {
	switch {
	case math.IsNaN(d):
		return "NaN"
	case math.IsInf(d, 0):
		return "-∞"[b2i(d > 0):]
	}
	f := decimal{brief: true}
	f.of(math.Abs(d))
	if n := f.exponent + 3; n < f.n {
		if n < 0 || !f.halfEven(math.Abs(d), n) {
			f.n = max(n, 0)
		} else if f.digits[n], f.n = '9', n+1; n == 0 {
			f.digits[0], f.n, f.exponent = '1', 1, f.exponent+1
		} else {
			f.cut(n)
			f.n = n
		}
	}
	sign := "-"[:b2i(math.Signbit(d))]
	digits := strings.TrimRight(string(f.digits[:f.n]), "0")
	if digits == "" {
		return sign + "0"
	}
	whole := "0"
	if e := f.exponent; e > 0 {
		whole = digits[:min(e, len(digits))] + strings.Repeat("0", max(0, e-len(digits)))
		digits = digits[min(e, len(digits)):]
	} else {
		digits = strings.Repeat("0", -e) + digits
	}
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if digits != "" {
		whole += "." + digits
	}
	return sign + whole
}

// halfEven says whether the first n digits of f, which stand for d, are rounded up. At exactly half, d itself may be above or
// below what the digits say.
func (f *decimal) halfEven(d float64, n int) bool {
	switch next := f.digits[n]; {
	case next != '5':
		return next > '5'
	case n < f.n-1:
		return strings.Trim(string(f.digits[n+1:f.n]), "0") != "" // 5.0E-4 is a half that is never rounded up
	}
	exact, ok := new(big.Rat).SetString("0." + string(f.digits[:f.n]) + "e" + strconv.Itoa(f.exponent))
	if !ok {
		panic("java: digits of a double")
	}
	if c := new(big.Rat).SetFloat64(d).Cmp(exact); c != 0 {
		return c > 0
	}
	return n > 0 && f.digits[n-1]&1 == 1
}
