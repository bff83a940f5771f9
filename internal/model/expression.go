package model

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// A value with a brace is an expression: text with terms in braces, "10.1.{n1/256}.{n1%256}". A brace that is meant as
// such is written {{. A term is
//
//	term    = or [ ":" format ]                     format: [0][width][d x X o b]
//	or      = xor { "|" xor }       xor = and { "^" and }     and = shift { "&" shift }
//	shift   = sum { ("<<"|">>") sum }                sum = product { ("+"|"-") product }
//	product = unary { ("*"|"/"|"%") unary }          unary = ["-"] postfix
//	postfix = atom { "[" [i] [":" [j]] "]" | "." ("replace"|"upper"|"lower") "(" … ")" }
//	atom    = number | 'text' | "text" | nodename | n1 n2 … n0 | attribute | attr('attribute') | "(" or ")"
//
// The last word of an attribute's name stands for it where it leaves no doubt: {rack} is {location.rack}.
//
// n1 is the first number in the node's name, n0 the last. Division rounds down, as in Python. Adding to an IP address
// counts addresses on. What is unset, overflows or does not exist is an error, never an empty value.
type expression struct {
	parts []exprPart
	attrs []AttrName // those that it refers to
}

// memo keeps parsed expressions: nodes mostly share a few. It belongs to a line of snapshots and holds nothing of them.
type memo struct {
	parsed sync.Map // string → *expression
	count  atomic.Int64
}

// parse is parseExpression, remembered as long as there is room.
func (m *memo) parse(s string) (*expression, *Problem) {
	const room = 10_000
	if e, ok := m.parsed.Load(s); ok {
		return e.(*expression), nil
	}
	e, p := parseExpression(s)
	if p == nil && m.count.Load() < room {
		if _, had := m.parsed.LoadOrStore(s, e); !had {
			m.count.Add(1)
		}
	}
	return e, p
}

type exprPart struct {
	text string // literal; when term is nil
	term *term
	format
	written string // the term with its braces, for errors
}

type format struct {
	verb  byte // d x X o b; 0 for as it is
	zero  bool
	width int
}

// term is a node of the tree.
type term struct {
	op   byte   // see the constants
	text string // of a literal or an attribute's name
	num  int64
	a, b *term
	c    *term // third operand: the other end of a slice
}

const (
	opNumber = iota + 1
	opText
	opNodeName
	opNth  // num-th number of the name; 0 the last
	opAttr // text
	opNegate
	opIndex   // a[b]
	opSlice   // a[b:c], either may be nil
	opReplace // a.replace(b, c)
	opUpper
	opLower
	opShiftLeft
	opShiftRight
	// the other operators are their own letters: + - * / % & | ^
)

// hasExpression says that a value is not just text.
func hasExpression(s string) bool { return strings.IndexByte(s, '{') >= 0 }

// parseExpression reads a value. The problem says the column.
func parseExpression(s string) (*expression, *Problem) {
	if !readable(s) { // also where no result has it: it is stored and shown as it is written
		return nil, wrong(s, "not readable text", "Leave control characters out")
	}
	p := &exprParser{s: s}
	e := &expression{}
	var text []byte
	for p.at < len(s) {
		open := strings.IndexByte(s[p.at:], '{')
		if open < 0 {
			break
		}
		text = append(text, s[p.at:p.at+open]...)
		p.at += open + 1
		if p.peek() == '{' {
			text = append(text, '{')
			p.at++
			continue
		}
		if len(text) > 0 {
			e.parts = append(e.parts, exprPart{text: string(text)})
			text = nil
		}
		from := p.at - 1
		part, err := p.part()
		if err != nil {
			return nil, err
		}
		part.written = s[from:p.at]
		e.parts = append(e.parts, part)
	}
	if text = append(text, s[p.at:]...); len(text) > 0 {
		e.parts = append(e.parts, exprPart{text: string(text)})
	}
	e.attrs = p.attrs
	return e, nil
}

type exprParser struct {
	s     string
	at    int
	depth int
	attrs []AttrName
}

func (p *exprParser) fail(at int, why, do string) *Problem {
	return &Problem{What: "expression " + quoted(p.s) + fmt.Sprintf(", column %d", at+1), Why: why, Do: do}
}

func (p *exprParser) peek() byte {
	if p.at < len(p.s) {
		return p.s[p.at]
	}
	return 0
}

func (p *exprParser) space() {
	for p.peek() == ' ' || p.peek() == '\t' {
		p.at++
	}
}

// eat takes the sign when it is next.
func (p *exprParser) eat(sign string) bool {
	p.space()
	if strings.HasPrefix(p.s[p.at:], sign) {
		p.at += len(sign)
		return true
	}
	return false
}

func (p *exprParser) part() (exprPart, *Problem) {
	start := p.at - 1
	t, err := p.binary(0)
	if err != nil {
		return exprPart{}, err
	}
	part := exprPart{term: t}
	if p.eat(":") {
		p.space()
		if part.format, err = p.format(); err != nil {
			return part, err
		}
	}
	if !p.eat("}") {
		if p.at == len(p.s) {
			return part, p.fail(start, "this { is not closed", "Close it with }, or write {{ for a brace")
		}
		return part, p.fail(p.at, fmt.Sprintf("%q does not belong here", []rune(p.s[p.at:])[0]), "Close the term with }")
	}
	return part, nil
}

func (p *exprParser) format() (format, *Problem) {
	f := format{verb: 'd'}
	from := p.at
	if p.peek() == '0' {
		f.zero = true
		p.at++
	}
	for c := p.peek(); '0' <= c && c <= '9'; c = p.peek() {
		if f.width = f.width*10 + int(c-'0'); f.width > 64 {
			return f, p.fail(from, "the format is wider than 64", "")
		}
		p.at++
	}
	if c := p.peek(); c != 0 && strings.IndexByte("dxXob", c) >= 0 {
		f.verb = c
		p.at++
	}
	if p.at == from {
		return f, p.fail(from, "the format is empty", "Write {n1:02d} for two digits, {n1:x} for hexadecimal")
	}
	return f, nil
}

// levels are the binary operators, loosest first.
var levels = [][]string{{"|"}, {"^"}, {"&"}, {"<<", ">>"}, {"+", "-"}, {"*", "/", "%"}}

func (p *exprParser) binary(level int) (*term, *Problem) {
	if level == len(levels) {
		return p.unary()
	}
	t, err := p.binary(level + 1)
	if err != nil {
		return nil, err
	}
	for {
		op := byte(0)
		for _, sign := range levels[level] {
			if p.eat(sign) {
				switch op = sign[0]; op {
				case '<':
					op = opShiftLeft
				case '>':
					op = opShiftRight
				}
				break
			}
		}
		if op == 0 {
			return t, nil
		}
		b, err := p.binary(level + 1)
		if err != nil {
			return nil, err
		}
		t = &term{op: op, a: t, b: b}
	}
}

func (p *exprParser) unary() (*term, *Problem) {
	p.space()
	const deepest = 64
	if p.depth++; p.depth > deepest {
		return nil, p.fail(p.at, "terms are too deep within each other", "Use an attribute custom.… for a part")
	}
	defer func() { p.depth-- }()
	if p.eat("-") {
		t, err := p.unary()
		return &term{op: opNegate, a: t}, err
	}
	t, err := p.atom()
	for err == nil {
		switch {
		case p.eat("["):
			t, err = p.slice(t)
		case p.eat("."):
			from := p.at
			t, err = p.method(t, p.word(), from)
		default:
			return t, nil
		}
	}
	return nil, err
}

func (p *exprParser) word() string {
	from := p.at
	for p.at < len(p.s) && wordLetter(p.s[p.at]) {
		p.at++
	}
	return p.s[from:p.at]
}

func wordLetter(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_'
}

func (p *exprParser) atom() (*term, *Problem) {
	p.space()
	from := p.at
	switch c := p.peek(); {
	case c == '(':
		p.at++
		t, err := p.binary(0)
		if err == nil && !p.eat(")") {
			err = p.fail(from, "this ( is not closed", "Close it with )")
		}
		return t, err
	case c == '\'' || c == '"':
		end := strings.IndexByte(p.s[p.at+1:], c)
		if end < 0 {
			return nil, p.fail(from, "this quote is not closed", "Close it with "+string(c))
		}
		p.at += end + 2
		return &term{op: opText, text: p.s[from+1 : from+1+end]}, nil
	case '0' <= c && c <= '9':
		n, err := strconv.ParseInt(p.word(), 0, 64)
		if err != nil {
			return nil, p.fail(from, p.s[from:p.at]+" is no number", "Write 10, or 0x0a")
		}
		return &term{op: opNumber, num: n}, nil
	case wordLetter(c):
		return p.name(from)
	case c == 0 && p.at == len(p.s):
		return nil, p.fail(from, "something is missing here", "Close the term with }, or write {{ for a brace")
	case c == '}':
		return nil, p.fail(from, "something is missing here", "Write {{ for a brace")
	}
	return nil, p.fail(from, fmt.Sprintf("%q does not belong here", []rune(p.s[from:])[0]), "Write {{ for a brace that is not a term")
}

// name reads nodename, n1, and attributes: words with dots, the last of which may be a method.
func (p *exprParser) name(from int) (*term, *Problem) {
	w := p.word()
	end := p.at // of the name, without a method
	for p.peek() == '.' {
		p.at++
		before := p.at
		if p.word(); p.at == before {
			return nil, p.fail(before, "a name ends with a dot", "")
		}
		if p.peek() == '(' {
			p.at = end
			break
		}
		end = p.at
	}
	name := p.s[from:end]
	switch {
	case w == "attr" && name == w && p.peek() == '(':
		return p.attr()
	case name == "nodename":
		return &term{op: opNodeName}, nil
	case len(name) > 1 && len(name) < 4 && name[0] == 'n' && strings.Trim(name[1:], "0123456789") == "":
		n, _ := strconv.ParseInt(name[1:], 10, 64)
		return &term{op: opNth, num: n}, nil
	}
	return p.reference(name, from)
}

// attr reads attr('custom.my-attr'): for names with a dash.
func (p *exprParser) attr() (*term, *Problem) {
	from := p.at
	p.at++
	t, err := p.atom()
	if err != nil {
		return nil, err
	}
	if t.op != opText || !p.eat(")") {
		return nil, p.fail(from, "attr takes the name of one attribute in quotes", "Write attr('custom.my-attribute')")
	}
	return p.reference(t.text, from)
}

func (p *exprParser) reference(name string, from int) (*term, *Problem) {
	a, ok := Lookup(AttrName(name))
	if !ok {
		short, several := Short(name)
		switch {
		case several != nil:
			return nil, p.fail(from, several.What, several.Do)
		case short != nil:
			a, ok, name = short, true, string(short.Name)
		}
	}
	if !ok {
		u := unknownAttr(AttrName(name))
		if near := Suggest(AttrName(name)); near == "" {
			u.Do = "There are nodename, n1, n2 …, n0 (the last number), and attributes"
		}
		return nil, p.fail(from, u.What, u.Do)
	}
	if a.Secret {
		return nil, p.fail(from, name+" is secret", "Secrets are not part of other values")
	}
	p.attrs = append(p.attrs, AttrName(name))
	return &term{op: opAttr, text: name}, nil
}

func (p *exprParser) slice(t *term) (*term, *Problem) {
	from := p.at - 1
	s := &term{op: opIndex, a: t}
	var err *Problem
	if p.space(); p.peek() != ':' {
		if s.b, err = p.binary(0); err != nil {
			return nil, err
		}
	}
	if p.eat(":") {
		s.op = opSlice
		if p.space(); p.peek() != ']' {
			if s.c, err = p.binary(0); err != nil {
				return nil, err
			}
		}
	}
	if !p.eat("]") {
		return nil, p.fail(from, "this [ is not closed", "Close it with ]")
	}
	return s, nil
}

func (p *exprParser) method(t *term, name string, from int) (*term, *Problem) {
	ops := map[string]byte{"replace": opReplace, "upper": opUpper, "lower": opLower}
	m := &term{op: ops[name], a: t}
	if m.op == 0 || !p.eat("(") {
		return nil, p.fail(from, "no method ."+name, "There are .replace('a','b'), .upper() and .lower()")
	}
	if m.op == opReplace {
		var err *Problem
		if m.b, err = p.binary(0); err != nil {
			return nil, err
		}
		if !p.eat(",") {
			return nil, p.fail(p.at, ".replace takes two texts", "Write .replace('a','b')")
		}
		if m.c, err = p.binary(0); err != nil {
			return nil, err
		}
	}
	if !p.eat(")") {
		return nil, p.fail(p.at, "."+name+"( is not closed", "Close it with )")
	}
	return m, nil
}
