package syntax

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"muster/internal/pan/tree"
)

// What a template may have at most, so that neither this package nor one that walks its tree runs out of stack. panc dies of a
// StackOverflowError well below.
const (
	maxDepth  = 3000  // things inside of each other: brackets, blocks, records, else if
	maxChain  = 10000 // operators in a row
	maxErrors = 1000  // reported of one file
	maxSource = 1 << 30
)

// Parse reads one template. The name of the file is for messages only. With errors the File holds what could be read; it is never nil,
// and it is not to be executed. The errors are in the order of the text; the first is the one that panc reports.
func Parse(file string, src []byte) (*File, []*Error) {
	f := &File{Path: file}
	if len(src) > maxSource {
		return f, []*Error{{Class: SystemError, File: file, nowhere: true, Message: "template has more than " + strconv.Itoa(maxSource) + " bytes"}}
	}
	p := parser{lexer: newLexer(file, decode(src)), file: f}
	p.template()
	return f, p.errs
}

// decode makes a string of UTF-8 as Java does: each longest piece that could have become a character and did not is one U+FFFD.
func decode(src []byte) string {
	if utf8.Valid(src) {
		return string(src)
	}
	var b strings.Builder
	b.Grow(len(src) + 16)
	for len(src) > 0 {
		r, size := utf8.DecodeRune(src)
		if r == utf8.RuneError && size == 1 {
			size = malformed(src)
		}
		b.WriteRune(r)
		src = src[size:]
	}
	return b.String()
}

// malformed is how many bytes at the start of src begin a character and do not end one; at least 1.
func malformed(src []byte) int {
	for n := min(3, len(src)); n > 1; n-- {
		if !utf8.FullRune(src[:n]) {
			return n
		}
	}
	return 1
}

// parser is one reading of one template. Its methods are the rules of the grammar (grammar.go says them in full) and have their names.
// A rule that cannot go on panics with refused: the statement that is being read is given up, explain says what was wrong with it, and
// the reading goes on behind it.
type parser struct {
	lexer
	tok   token
	prev  Span   // of the token before tok
	start cursor // before tok, where tok is the first token of a statement
	depth int
	file  *File
	errs  []*Error
	texts []hereText
	exprs []Expr // a stack of those that rules are collecting

	fields []Field // likewise

	strings   slab[StringLit]
	longs     slab[LongLit]
	vars      slab[Var]
	calls     slab[Call]
	binaries  slab[Binary]
	blocks    slab[Block]
	groups    slab[Group]
	ifs       slab[If]
	sets      slab[Set]
	assigns   slab[Assign]
	fullTypes slab[FullType]
	typeSpecs slab[TypeSpec]
}

// slab hands out values from chunks of them, which grow with what is asked for.
type slab[T any] struct {
	free []T
	last int
}

func (s *slab[T]) new() *T {
	if len(s.free) == 0 {
		s.last = min(64, 2+2*s.last)
		s.free = make([]T, s.last)
	}
	x := &s.free[0]
	s.free = s.free[1:]
	return x
}

// hereText is a literal that waits for its here-document.
type hereText struct {
	lit   *StringLit
	index int32
}

// refused is the panic of a rule that cannot go on. problem is nil where it did not expect the token.
type refused struct{ problem *Error }

func (p *parser) advance() {
	p.prev = p.tok.span
	p.lexer.next(&p.tok)
}

func (p *parser) refuse() { panic(refused{}) }

// fail leaves the statement for a reason that is not an unexpected token.
func (p *parser) fail(class Class, span Span, format string, args ...any) {
	panic(refused{&Error{Class: class, File: p.lexer.file, Span: span, Message: fmt.Sprintf(format, args...)}})
}

func (p *parser) expect(k kind) Span {
	if p.tok.kind != k {
		p.refuse()
	}
	p.advance()
	return p.prev
}

// accept steps over a token if it is of the kind.
func (p *parser) accept(k kind) bool {
	if p.tok.kind != k {
		return false
	}
	p.advance()
	return true
}

func (p *parser) enter() {
	if p.depth++; p.depth > maxDepth {
		p.fail(ParseError, p.tok.span, "more than %d levels inside of each other; use variables or functions", maxDepth)
	}
}

func (p *parser) leave() { p.depth-- }

// template reads the whole file.
func (p *parser) template() {
	p.start = p.cursor
	p.advance()
	p.guard(p.header, true)
	p.file.Statements = make([]Statement, 0, 4+len(p.src)/150)
	for p.tok.kind != tEOF || p.pending() {
		p.guard(p.statement, false)
	}
	for _, t := range p.texts {
		if int(t.index) < len(p.bodies) {
			t.lit.Value = p.bodies[t.index]
		}
	}
}

// guard runs a rule. When it is refused, the error is kept and the rest of the statement skipped.
func (p *parser) guard(rule func(), header bool) {
	defer func() {
		r := recover()
		if r == nil {
			return
		}
		why, ok := r.(refused)
		if !ok {
			panic(r)
		}
		problem := why.problem
		if problem == nil {
			problem = p.explain(header)
		}
		if problem == nil {
			problem = &Error{Class: ParseError, File: p.lexer.file, Span: p.tok.span, token: true, Message: "\nEncountered: " + p.tok.text + "\n"}
		}
		p.errs = append(p.errs, problem)
		p.depth, p.exprs, p.fields = 0, p.exprs[:0], p.fields[:0]
		p.skip()
	}()
	rule()
}

// skip goes on to the next statement behind the token that was refused: behind a ';' outside of all brackets, or at a word that only a
// statement begins with, in the first column.
func (p *parser) skip() {
	bad := p.tok.begin
	p.cursor = p.start
	p.advance()
	if len(p.errs) >= maxErrors {
		p.pos = int32(len(p.src))
	}
	first, depth := p.tok.begin, 0
	for ; p.tok.kind != tEOF; p.advance() {
		switch p.tok.kind {
		case tLBrace, tLParen, tLBracket:
			depth++
		case tRBrace, tRParen, tRBracket:
			depth--
		case tSemicolon:
			if depth <= 0 && p.tok.begin >= bad {
				p.endStatement()
				return
			}
		case tType, tBind, tValid, tFinal, tPrefix, tFunction, tVariable:
			if p.tok.span.Col == 1 && p.tok.begin >= bad && p.tok.begin > first {
				p.cursor = p.before()
				p.start = p.cursor
				p.advance()
				return
			}
		}
	}
	p.read = p.heredocs
}

// before is the place of tok, which is the first of its line.
func (p *parser) before() cursor {
	c := p.cursor
	c.pos, c.line, c.lineStart, c.mode = p.tok.begin, p.tok.span.Line, p.tok.begin, modeDefault
	return c
}

// endStatement steps over the ';' that ends one.
func (p *parser) endStatement() {
	if p.tok.kind != tSemicolon {
		p.refuse()
	}
	p.start = p.cursor
	p.advance()
}

// header is [structure|object|declaration|unique] template NAME ;
func (p *parser) header() {
	f := p.file
	begin := p.tok.span
	f.Annotations = p.notes
	switch p.tok.kind {
	case tStructure:
		f.Kind = Structure
	case tObject:
		f.Kind = Object
	case tDeclaration:
		f.Kind = Declaration
	case tUnique:
		f.Kind = Unique
	}
	if f.Kind != Ordinary {
		p.advance()
	}
	p.expect(tTemplate)
	f.Name = p.tok.text
	p.expect(tNamespaced)
	f.span = from(begin, p.tok.span)
	p.endStatement()
}

// from is the span from the beginning of one to the end of another.
func from(a, b Span) Span { return Span{a.Line, a.Col, b.EndLine, b.EndCol} }

// statement reads one of them up to its ';'. At the end of the file only an unended here-document is left to say.
func (p *parser) statement() {
	begin, notes := p.tok.span, p.notes
	switch p.tok.kind {
	case tSemicolon:
		p.endStatement()
	case tInclude:
		p.advance()
		s := &Include{Body: p.dml()}
		s.span = p.ended(begin)
		p.add(s)
	case tPrefix:
		p.advance()
		s := &Prefix{Path: p.path()}
		s.span = p.ended(begin)
		p.add(s)
	case tValid:
		p.advance()
		s := &Valid{Path: p.path()}
		p.expect(tAssign)
		s.Body = p.dml()
		s.span = p.ended(begin)
		p.add(s)
	case tBind:
		p.advance()
		s := &Bind{Path: p.path()}
		p.expect(tAssign)
		s.Type = p.fullType()
		s.span = p.ended(begin)
		p.add(s)
	case tFinal:
		p.advance()
		if p.tok.kind == tVariable {
			p.variable(begin, notes, true)
		} else {
			p.assign(begin, true)
		}
	case tSingleQuoted, tDoubleQuoted:
		p.assign(begin, false)
	case tVariable:
		p.variable(begin, notes, false)
	case tType:
		p.advance()
		s := &Type{Annotations: notes}
		s.Name, _ = p.name()
		p.expect(tAssign)
		s.Type = p.fullType()
		s.span = p.ended(begin)
		p.add(s)
	case tFunction:
		p.advance()
		s := &Function{Annotations: notes}
		s.Name, _ = p.name()
		p.expect(tAssign)
		s.Body = p.dml()
		s.span = p.ended(begin)
		p.add(s)
	case tEOF:
		panic(refused{&Error{Class: ParseError, File: p.lexer.file, Span: p.tok.span, Message: "EOF while processing heredoc", nowhere: true}})
	default:
		p.refuse()
	}
}

func (p *parser) add(s Statement) { p.file.Statements = append(p.file.Statements, s) }

// ended is the span from begin to the ';', which is stepped over.
func (p *parser) ended(begin Span) Span {
	s := from(begin, p.tok.span)
	p.endStatement()
	return s
}

func (p *parser) assign(begin Span, final bool) {
	s := p.assigns.new()
	s.Final, s.Path = final, p.path()
	s.Conditional = p.assignment()
	s.Body = p.dml()
	s.span = p.ended(begin)
	p.add(s)
}

func (p *parser) variable(begin Span, notes []*Annotation, final bool) {
	p.advance()
	s := &Variable{Final: final, Annotations: notes}
	s.Name, _ = p.name()
	s.Conditional = p.assignment()
	s.Body = p.dml()
	s.span = p.ended(begin)
	p.add(s)
}

// assignment is = or ?=, the latter being true.
func (p *parser) assignment() bool {
	if p.accept(tAssignDefault) {
		return true
	}
	p.expect(tAssign)
	return false
}

func (p *parser) name() (string, Span) {
	name := p.tok.text
	return name, p.expect(tIdentifier)
}

func (p *parser) path() Path {
	if p.tok.kind != tSingleQuoted && p.tok.kind != tDoubleQuoted {
		p.refuse()
	}
	path := Path{at: at{p.tok.span}, Text: p.tok.text}
	p.advance()
	return path
}

// fullType is a type with its default and its validation.
func (p *parser) fullType() *FullType {
	p.enter()
	t := p.fullTypes.new()
	t.Type = p.typeSpec()
	t.span = t.Type.span
	if p.accept(tAssign) {
		t.span = combine(t.span, p.prev)
		t.Default = p.dml()
	}
	if p.accept(tWith) {
		t.span = combine(t.span, p.prev)
		t.With = p.dml()
	}
	p.leave()
	return t
}

func (p *parser) typeSpec() *TypeSpec {
	t := p.typeSpecs.new()
	p.baseType(&t.Base)
	var last Span
	for {
		var c Clause
		begin := p.tok.span
		switch p.tok.kind {
		case tLBracket:
			p.advance()
			c.Kind, c.Range = List, p.optionalRange(tRBracket)
		case tLBrace:
			p.advance()
			c.Kind, c.Range = Dict, p.optionalRange(tRBrace)
		case tAsterisk:
			p.advance()
			c.Kind = Link
		default:
			t.span = combine(t.Base.span, last)
			return t
		}
		c.span = from(begin, p.prev)
		last = c.span
		t.Clauses = append(t.Clauses, c)
		if len(t.Clauses) > maxDepth {
			p.fail(ParseError, c.span, "more than %d clauses behind a type", maxDepth)
		}
	}
}

func (p *parser) baseType(t *BaseType) {
	begin := p.tok.span
	switch p.tok.kind {
	case tChoice:
		t.Name = "choice"
		p.advance()
		p.expect(tLParen)
		mark := len(p.exprs)
		p.exprs = append(p.exprs, p.stringLit())
		for p.accept(tComma) {
			p.exprs = append(p.exprs, p.stringLit())
		}
		t.Choices = p.collect(mark)
		p.expect(tRParen)
	case tIdentifier:
		t.Name, _ = p.name()
		if p.accept(tLParen) {
			t.Range = p.optionalRange(tRParen)
		}
	case tLBrace, tExtensible:
		t.Record, t.Extensible = true, p.accept(tExtensible)
		p.expect(tLBrace)
		mark := len(p.fields)
		for !p.accept(tRBrace) {
			field := p.field()
			p.fields = append(p.fields, field)
		}
		t.Fields = slices.Clone(p.fields[mark:])
		clear(p.fields[mark:])
		p.fields = p.fields[:mark]
		if p.accept(tLParen) {
			t.Range = p.optionalRange(tRParen)
		}
	default:
		p.refuse()
	}
	t.span = from(begin, p.prev)
}

func (p *parser) field() (f Field) {
	f.Annotations = p.notes
	if p.accept(tInclude) {
		f.Annotations = nil
		f.Include, f.span = p.name()
		return f
	}
	f.Path = p.path()
	f.span = f.Path.span
	if !p.accept(tOptional) {
		p.expect(tColon)
		f.Required = true
	}
	f.Type = p.fullType()
	return f
}

// optionalRange reads up to the bracket that closes it; nil when there is nothing before it.
func (p *parser) optionalRange(closing kind) *Range {
	if p.accept(closing) {
		return nil
	}
	r := &Range{Max: math.MaxInt64}
	begin := p.tok.span
	if p.accept(tRange) {
		r.Max = p.bound(false)
	} else {
		r.Min = p.bound(p.accept(tMinus))
		if !p.accept(tRange) {
			r.Max = r.Min
		} else if p.tok.kind != closing {
			r.Max = p.bound(p.accept(tMinus))
		}
	}
	if r.Min > r.Max {
		// panc finds this while parsing and does not say where.
		panic(refused{&Error{
			Class: EvaluationError, File: p.lexer.file, Span: from(begin, p.prev), nowhere: true,
			Message: "minimum range value (" + tree.FormatNumber(r.Min) + ") must be less than or equal to maximum value (" + tree.FormatNumber(r.Max) + ")",
		}})
	}
	p.expect(closing)
	return r
}

func (p *parser) bound(negative bool) int64 {
	n := p.long()
	if negative {
		return -n
	}
	return n
}

// long reads the digits of a long.
func (p *parser) long() int64 {
	switch p.tok.kind {
	case tDecimal, tHex, tOctal:
	default:
		p.refuse()
	}
	n, err := strconv.ParseInt(p.tok.text, 0, 64)
	if err != nil {
		p.fail(SystemError, p.tok.span, "number %s is too large: a long has 64 bits and ends at %d", p.tok.text, math.MaxInt64)
	}
	p.advance()
	return n
}

// dml is an expression or a block.
func (p *parser) dml() Expr {
	p.enter()
	var x Expr
	switch p.tok.kind {
	case tLBrace:
		x = p.block()
	case tSemicolon:
		p.fail(ParseError, p.tok.span, "illegal empty DML statement")
	default:
		x = p.expression()
	}
	p.leave()
	return x
}

func (p *parser) block() Expr {
	mark := len(p.exprs)
	begin := p.expect(tLBrace)
	p.exprs = append(p.exprs, p.dml())
	for p.accept(tSemicolon) && p.tok.kind != tRBrace {
		p.exprs = append(p.exprs, p.dml())
	}
	span := from(begin, p.expect(tRBrace))
	if len(p.exprs) == mark+1 {
		x := p.exprs[mark]
		p.exprs = p.exprs[:mark]
		return p.group(x)
	}
	b := p.blocks.new()
	b.List, b.span = p.collect(mark), span
	return b
}

func (p *parser) group(x Expr) Expr {
	g := p.groups.new()
	g.X = x
	return g
}

// collect takes what was collected since mark off the stack.
func (p *parser) collect(mark int) []Expr {
	list := slices.Clone(p.exprs[mark:])
	clear(p.exprs[mark:])
	p.exprs = p.exprs[:mark]
	return list
}

// expression is any number of assignments and one value.
func (p *parser) expression() Expr {
	if p.tok.kind != tIdentifier {
		return p.value()
	}
	var set *Set
	for {
		var x Expr
		if p.tok.kind != tIdentifier {
			x = p.value()
		} else {
			x = p.reference()
			if v, ok := x.(*Var); ok && p.tok.kind == tAssign {
				if set == nil {
					set = p.sets.new()
				} else if len(set.Targets) >= maxChain {
					p.fail(ParseError, p.tok.span, "more than %d assignments in a row", maxChain)
				}
				set.Targets = append(set.Targets, v)
				set.span = p.tok.span
				p.advance()
				continue
			}
			x = p.binary(x, 1)
		}
		if set == nil {
			return x
		}
		set.Value = x
		return set
	}
}

// value is what may stand behind an assignment: a loop, an if, or an operation.
func (p *parser) value() Expr {
	at := at{p.tok.span}
	switch p.tok.kind {
	case tIf:
		x := p.ifs.new()
		x.at = at
		p.advance()
		p.expect(tLParen)
		x.Cond = p.dml()
		p.expect(tRParen)
		x.Then = p.dml()
		if p.accept(tElse) {
			x.Else = p.dml()
		}
		return x
	case tWhile:
		x := &While{at: at}
		p.advance()
		p.expect(tLParen)
		x.Cond = p.dml()
		p.expect(tRParen)
		x.Body = p.dml()
		return x
	case tFor:
		x := &For{at: at}
		p.advance()
		p.expect(tLParen)
		x.Init = p.dml()
		p.expect(tSemicolon)
		x.Cond = p.dml()
		p.expect(tSemicolon)
		x.Step = p.dml()
		p.expect(tRParen)
		x.Body = p.dml()
		return x
	case tForeach:
		x := &Foreach{at: at}
		p.advance()
		p.expect(tLParen)
		x.Key = p.target()
		p.expect(tSemicolon)
		x.Value = p.target()
		p.expect(tSemicolon)
		x.In = p.dml()
		p.expect(tRParen)
		x.Body = p.dml()
		return x
	}
	return p.binary(p.unary(), 1)
}

// precedence is how strongly an operator binds; 0 is none.
var precedence = [tFailed + 1]struct {
	level int
	op    Op
}{
	tOr: {1, Or}, tAnd: {2, And}, tBitOr: {3, BitOr}, tBitXor: {4, BitXor}, tBitAnd: {5, BitAnd}, tEQ: {6, EQ}, tNE: {6, NE},
	tLT: {7, LT}, tGT: {7, GT}, tLE: {7, LE}, tGE: {7, GE}, tPlus: {8, Add}, tMinus: {8, Sub}, tAsterisk: {9, Mul}, tDiv: {9, Div},
	tMod: {9, Mod},
}

// binary goes on behind the operand x with operators that bind at least as strongly as level.
func (p *parser) binary(x Expr, level int) Expr {
	for n := 0; ; n++ {
		operator := precedence[p.tok.kind]
		if operator.level < level {
			return x
		}
		if n == maxChain {
			p.fail(ParseError, p.tok.span, "more than %d operators in a row", maxChain)
		}
		b := p.binaries.new()
		b.Op, b.X, b.OpSpan = operator.op, x, p.tok.span
		p.advance()
		b.Y = p.unary()
		if precedence[p.tok.kind].level > operator.level {
			b.Y = p.binary(b.Y, operator.level+1)
		}
		x = b
	}
}

func (p *parser) unary() Expr {
	var op Op
	switch p.tok.kind {
	case tPlus:
		op = Plus
	case tMinus:
		op = Minus
	case tNot:
		op = Not
	case tBitNot:
		op = BitNot
	default:
		return p.operand()
	}
	x := &Unary{at: at{p.tok.span}, Op: op}
	p.advance()
	x.X = p.operand()
	return x
}

// operand is a literal, a variable, a call or something in parentheses.
func (p *parser) operand() Expr {
	at := at{p.tok.span}
	switch p.tok.kind {
	case tIdentifier:
		return p.reference()
	case tSingleQuoted, tDoubleQuoted, tHeredoc:
		return p.stringLit()
	case tDecimal, tHex, tOctal:
		x := p.longs.new()
		x.at, x.Value = at, p.long()
		return x
	case tDouble:
		n, _ := strconv.ParseFloat(p.tok.text, 64) // out of range is an infinity, as in Java
		p.advance()
		return &DoubleLit{at, n}
	case tTrue, tFalse:
		x := &BoolLit{at, p.tok.kind == tTrue}
		p.advance()
		return x
	case tNull:
		p.advance()
		return &NullLit{at}
	case tUndef:
		p.advance()
		return &UndefLit{at}
	case tLParen:
		p.advance()
		x := p.dml()
		p.expect(tRParen)
		return p.group(x)
	}
	p.refuse()
	return nil
}

func (p *parser) stringLit() Expr {
	switch p.tok.kind {
	case tSingleQuoted, tDoubleQuoted, tHeredoc:
	default:
		p.refuse()
	}
	x := p.strings.new()
	x.span = p.tok.span
	if p.tok.kind == tHeredoc {
		p.texts = append(p.texts, hereText{x, p.tok.index})
	} else {
		x.Value = p.tok.text
	}
	p.advance()
	return x
}

// reference is a call or a variable.
func (p *parser) reference() Expr {
	name, begin := p.name()
	if p.tok.kind != tLParen {
		return p.subscripts(name, begin)
	}
	c := p.calls.new()
	c.Name = name
	p.advance()
	mark := len(p.exprs)
	// A comma may stand before the first argument and behind the last one.
	if p.tok.kind != tComma && p.tok.kind != tRParen {
		p.exprs = append(p.exprs, p.dml())
	}
	for p.accept(tComma) && p.tok.kind != tRParen {
		p.exprs = append(p.exprs, p.dml())
	}
	c.Args = p.collect(mark)
	c.span = from(begin, p.expect(tRParen))
	return c
}

func (p *parser) target() *Var {
	name, begin := p.name()
	return p.subscripts(name, begin)
}

func (p *parser) subscripts(name string, begin Span) *Var {
	v := p.vars.new()
	v.Name, v.span = name, begin
	if p.tok.kind != tLBracket {
		return v
	}
	mark := len(p.exprs)
	for p.accept(tLBracket) {
		p.exprs = append(p.exprs, p.dml())
		v.span = from(begin, p.expect(tRBracket))
	}
	v.Index = p.collect(mark)
	return v
}
