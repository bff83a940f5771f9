package model

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"math/bits"
	"net/netip"
	"strconv"
	"strings"
)

// scope is what an expression is evaluated in: one node, and the way to its other attributes.
type scope interface {
	nodeName() NodeName
	attr(AttrName) (string, error)
}

// result is a value on its way: a number, an address or text.
type result struct {
	kind byte // 'n', 'a', 't'
	num  int64
	addr netip.Addr
	text string
}

func numberOf(n int64) result    { return result{kind: 'n', num: n} }
func textOf(s string) result     { return result{kind: 't', text: s} }
func addrOf(a netip.Addr) result { return result{kind: 'a', addr: a} }

func (r result) String() string {
	switch r.kind {
	case 'n':
		return strconv.FormatInt(r.num, 10)
	case 'a':
		return r.addr.String()
	}
	return r.text
}

// evaluate works the expression out.
func (e *expression) evaluate(s scope) (string, error) {
	var b []byte
	for _, p := range e.parts {
		if p.term == nil {
			b = append(b, p.text...)
			continue
		}
		r, err := p.term.evaluate(s)
		if err == nil {
			b, err = p.append(b, r)
		}
		if err != nil {
			return "", &Problem{What: cut(p.written) + " has no value", Why: err.Error()}
		}
		if len(b) > maxValue {
			return "", &Problem{What: cut(p.written) + " has no value", Why: fmt.Sprintf("the result is longer than %d bytes", maxValue)}
		}
	}
	return string(b), nil
}

func (f format) append(b []byte, r result) ([]byte, error) {
	if f.verb == 0 {
		if r.kind == 'n' {
			return strconv.AppendInt(b, r.num, 10), nil
		}
		return append(b, r.String()...), nil
	}
	n, err := r.number("a format")
	if err != nil {
		return nil, err
	}
	base := map[byte]int{'d': 10, 'x': 16, 'X': 16, 'o': 8, 'b': 2}[f.verb]
	if n < 0 {
		b = append(b, '-')
	}
	digits := strconv.FormatUint(magnitude(n), base)
	if f.verb == 'X' {
		digits = strings.ToUpper(digits)
	}
	pad := byte(' ')
	if f.zero {
		pad = '0'
	}
	for range f.width - len(digits) {
		b = append(b, pad)
	}
	return append(b, digits...), nil
}

func magnitude(n int64) uint64 {
	if n < 0 {
		return uint64(-(n + 1)) + 1
	}
	return uint64(n)
}

// number is the value as a number; text that is one counts, as attributes are text.
func (r result) number(use string) (int64, error) {
	switch r.kind {
	case 'n':
		return r.num, nil
	case 't':
		if n, err := strconv.ParseInt(r.text, 10, 64); err == nil {
			return n, nil
		}
	}
	return 0, fmt.Errorf("%s needs a number, and %s is none", use, quoted(r.String()))
}

// operand makes a number or an address of text that is one.
func (r result) operand() result {
	if r.kind == 't' {
		if n, err := strconv.ParseInt(r.text, 10, 64); err == nil {
			return numberOf(n)
		}
		if a, err := netip.ParseAddr(r.text); err == nil {
			return addrOf(a)
		}
	}
	return r
}

func (t *term) evaluate(s scope) (result, error) {
	switch t.op {
	case opNumber:
		return numberOf(t.num), nil
	case opText:
		return textOf(t.text), nil
	case opNodeName:
		return textOf(string(s.nodeName())), nil
	case opNth:
		return nth(string(s.nodeName()), int(t.num))
	case opAttr:
		v, err := s.attr(AttrName(t.text))
		if err == nil && v == "" {
			err = fmt.Errorf("%s is not set", t.text)
		}
		return textOf(v), err
	}
	a, err := t.a.evaluate(s)
	if err != nil {
		return result{}, err
	}
	switch t.op {
	case opNegate:
		n, err := a.number("-")
		if n == math.MinInt64 {
			return result{}, errOverflow
		}
		return numberOf(-n), err
	case opUpper:
		return textOf(strings.ToUpper(a.String())), nil
	case opLower:
		return textOf(strings.ToLower(a.String())), nil
	case opReplace:
		return t.replace(s, a)
	case opIndex, opSlice:
		return t.slice(s, a)
	}
	b, err := t.b.evaluate(s)
	if err != nil {
		return result{}, err
	}
	return calculate(t.op, a.operand(), b.operand())
}

// nth is the n-th number in a name, or the last for 0.
func nth(name string, n int) (result, error) {
	found, have := "", 0
	for i := 0; i < len(name); {
		if name[i] < '0' || name[i] > '9' {
			i++
			continue
		}
		from := i
		for i < len(name) && name[i] >= '0' && name[i] <= '9' {
			i++
		}
		have++
		found = name[from:i]
		if have == n {
			break
		}
	}
	if have == 0 || have < n {
		return result{}, fmt.Errorf("the name %s has %d numbers, n%d is not there", name, have, n)
	}
	v, err := strconv.ParseInt(found, 10, 64)
	if err != nil {
		return result{}, fmt.Errorf("the number %s in the name %s is too large", found, name)
	}
	return numberOf(v), nil
}

func (t *term) replace(s scope, a result) (result, error) {
	old, err := t.b.evaluate(s)
	if err != nil {
		return result{}, err
	}
	by, err := t.c.evaluate(s)
	if err != nil {
		return result{}, err
	}
	if old.String() == "" {
		return result{}, errors.New(".replace needs a text to look for")
	}
	text := a.String()
	if n := strings.Count(text, old.String()); len(text)+n*len(by.String()) > maxValue {
		return result{}, fmt.Errorf("the result of .replace is longer than %d bytes", maxValue)
	}
	return textOf(strings.ReplaceAll(text, old.String(), by.String())), nil
}

// slice is a[i] and a[i:j], with Python's meaning of negative numbers.
func (t *term) slice(s scope, a result) (result, error) {
	text := a.String()
	bound := func(x *term, otherwise int) (int, error) {
		if x == nil {
			return otherwise, nil
		}
		r, err := x.evaluate(s)
		if err != nil {
			return 0, err
		}
		n, err := r.number("a slice")
		if n < 0 {
			n += int64(len(text))
		}
		if t.op == opSlice {
			n = min(max(n, 0), int64(len(text)))
		}
		if n < 0 || n > int64(len(text)) {
			n = int64(len(text))
		}
		return int(n), err
	}
	i, err := bound(t.b, 0)
	if err != nil {
		return result{}, err
	}
	if t.op == opIndex {
		if i >= len(text) {
			return result{}, fmt.Errorf("%s has %d letters, none at that place", quoted(text), len(text))
		}
		return textOf(text[i : i+1]), nil
	}
	j, err := bound(t.c, len(text))
	if err != nil {
		return result{}, err
	}
	return textOf(text[i:max(i, j)]), nil
}

var errOverflow = errors.New("the number is too large")

func calculate(op byte, a, b result) (result, error) {
	sign := string(op)
	switch op {
	case opShiftLeft:
		sign = "<<"
	case opShiftRight:
		sign = ">>"
	}
	if op == '+' && b.kind == 'a' {
		a, b = b, a
	}
	if a.kind == 'a' && (op == '+' || op == '-') {
		if b.kind == 'a' && op == '-' {
			return apart(a.addr, b.addr)
		}
		n, err := b.number(sign)
		if err != nil {
			return result{}, err
		}
		return move(a.addr, n, op == '-')
	}
	x, err := a.number(sign)
	if err != nil {
		return result{}, err
	}
	y, err := b.number(sign)
	if err != nil {
		return result{}, err
	}
	n, err := integer(op, x, y)
	return numberOf(n), err
}

func integer(op byte, x, y int64) (int64, error) {
	switch op {
	case '+':
		n := x + y
		if (x < 0) == (y < 0) && (n < 0) != (x < 0) {
			return 0, errOverflow
		}
		return n, nil
	case '-':
		n := x - y
		if (x < 0) != (y < 0) && (n < 0) != (x < 0) {
			return 0, errOverflow
		}
		return n, nil
	case '*':
		hi, lo := bits.Mul64(magnitude(x), magnitude(y))
		if hi != 0 || lo > math.MaxInt64 {
			return 0, errOverflow
		}
		return x * y, nil
	case '/', '%':
		if y == 0 {
			return 0, errors.New("division by zero")
		}
		if x == math.MinInt64 && y == -1 {
			return 0, errOverflow
		}
		q, r := x/y, x%y
		if r != 0 && (r < 0) != (y < 0) { // Go rounds to zero, Python down
			q, r = q-1, r+y
		}
		if op == '/' {
			return q, nil
		}
		return r, nil
	case opShiftLeft, opShiftRight:
		if y < 0 || y > 62 {
			return 0, errors.New("a shift goes by 0 to 62")
		}
		if op == opShiftRight {
			return x >> y, nil
		}
		if n := x << y; n>>y == x {
			return n, nil
		}
		return 0, errOverflow
	case '&':
		return x & y, nil
	case '|':
		return x | y, nil
	}
	return x ^ y, nil
}

// move counts addresses on, or back.
func move(a netip.Addr, n int64, back bool) (result, error) {
	d := big.NewInt(n)
	if back {
		d.Neg(d)
	}
	b := a.AsSlice()
	sum := d.Add(d, new(big.Int).SetBytes(b))
	if sum.Sign() < 0 || sum.BitLen() > len(b)*8 {
		return result{}, fmt.Errorf("there is no address %d from %s", n, a)
	}
	out, _ := netip.AddrFromSlice(sum.FillBytes(b))
	return addrOf(out.WithZone(a.Zone())), nil
}

// apart is how many addresses lie between two.
func apart(a, b netip.Addr) (result, error) {
	if a.BitLen() != b.BitLen() {
		return result{}, fmt.Errorf("%s and %s are addresses of different kinds", a, b)
	}
	d := new(big.Int).Sub(new(big.Int).SetBytes(a.AsSlice()), new(big.Int).SetBytes(b.AsSlice()))
	if !d.IsInt64() {
		return result{}, errOverflow
	}
	return numberOf(d.Int64()), nil
}
