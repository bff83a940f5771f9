package syntax

import (
	"strconv"

	"muster/internal/pan/tree"
)

// Span is a stretch of source as panc prints it: line and column of the first and of the last character, both counted from 1.
// A column counts UTF-16 units (Java's characters). The zero Span is panc's absent range, printed "?".
type Span struct {
	Line, Col, EndLine, EndCol int32
}

// IsZero says whether panc has no range here.
func (s Span) IsZero() bool { return s.Line == 0 }

// String is the panc form, L1.C1-L2.C2, or "?".
func (s Span) String() string {
	if s.IsZero() {
		return "?"
	}
	b := make([]byte, 0, 24)
	b = strconv.AppendInt(b, int64(s.Line), 10)
	b = append(b, '.')
	b = strconv.AppendInt(b, int64(s.Col), 10)
	b = append(b, '-')
	b = strconv.AppendInt(b, int64(s.EndLine), 10)
	b = append(b, '.')
	b = strconv.AppendInt(b, int64(s.EndCol), 10)
	return string(b)
}

// combine is SourceRange.combineSourceRanges of panc: the first span that is there, widened by the others. As in panc the end
// moves to another line only when that line is the smaller one, so a combination never ends below its first line's end.
func combine(spans ...Span) Span {
	var c Span
	for _, s := range spans {
		switch {
		case s.IsZero():
			continue
		case c.IsZero():
			c = s
			continue
		}
		if s.Line < c.Line {
			c.Line, c.Col = s.Line, s.Col
		} else if s.Line == c.Line {
			c.Col = min(c.Col, s.Col)
		}
		if s.EndLine < c.EndLine {
			c.EndLine, c.EndCol = s.EndLine, s.EndCol
		} else if s.EndLine == c.EndLine {
			c.EndCol = max(c.EndCol, s.EndCol)
		}
	}
	return c
}

// Node is a piece of a template. Span is the range that panc gives the same piece, which is not always all of it: loops and if have
// their keyword, unary operators and assignments their operator, and binary operators and groups have none (the zero Span).
type Node interface {
	Span() Span
}

// at is the Span of a node that panc gives one.
type at struct{ span Span }

// Span is the node's range as panc prints it.
func (a at) Span() Span { return a.span }

// Kind is the kind of a template.
type Kind uint8

// The kinds of templates, in the order of panc's TemplateType.
const (
	Ordinary Kind = iota
	Object
	Declaration
	Structure
	Unique
)

// String is the kind as panc's messages and annotations write it.
func (k Kind) String() string {
	switch k {
	case Object:
		return "OBJECT"
	case Declaration:
		return "DECLARATION"
	case Structure:
		return "STRUCTURE"
	case Unique:
		return "UNIQUE"
	}
	return "ORDINARY"
}

// File is one parsed template. Its Span runs from the first word to the ';' of the template line.
type File struct {
	at
	Path        string // as given to Parse; printed in messages
	Kind        Kind
	Name        string
	Annotations []*Annotation // in source order
	Statements  []Statement   // without the empty ones
}

// Statement is one of *Include, *Prefix, *Valid, *Bind, *Assign, *Variable, *Type, *Function.
type Statement interface {
	Node
	statement()
}

// Path is a path. Text is as written, with the escapes of the quotes resolved.
type Path struct {
	at
	Text    string
	Dynamic bool      // of bind and valid: it holds ${GLOBAL}, so that only a run can tell Place; set by Check
	Place   tree.Path // set by Check; of an assignment with the prefix that holds for it
}

// Include is `include dml;`.
type Include struct {
	at
	Body Expr
}

// Prefix is `prefix path;`. It says what the paths of the assignments behind it are relative to. Path.Place is what that is.
type Prefix struct {
	at
	Path Path
}

// Valid is `valid path = dml;`: bind with the type element and the dml as its `with`.
type Valid struct {
	at
	Path Path
	Body Expr
}

// Bind is `bind path = fulltype;`.
type Bind struct {
	at
	Path Path
	Type *FullType
}

// Assign is `[final] path =|?= dml;`.
type Assign struct {
	at
	Path        Path
	Final       bool
	Conditional bool
	Body        Expr
}

// Variable is `[final] variable name =|?= dml;`.
type Variable struct {
	at
	Name        string
	Final       bool
	Conditional bool
	Body        Expr
	Annotations []*Annotation
}

// Type is `type name = fulltype;`.
type Type struct {
	at
	Name        string
	Type        *FullType
	Annotations []*Annotation
}

// Function is `function name = dml;`.
type Function struct {
	at
	Name        string
	Body        Expr
	Annotations []*Annotation
}

func (*Include) statement()  {}
func (*Prefix) statement()   {}
func (*Valid) statement()    {}
func (*Bind) statement()     {}
func (*Assign) statement()   {}
func (*Variable) statement() {}
func (*Type) statement()     {}
func (*Function) statement() {}

// FullType is a type with its default and its validation; Span is panc's combination of the three.
type FullType struct {
	at
	Type    *TypeSpec
	Default Expr // nil: none
	With    Expr // nil: none
}

// TypeSpec is a base type and the clauses [..] {..} * behind it, applied from left to right.
type TypeSpec struct {
	at
	Base    BaseType
	Clauses []Clause
}

// BaseType is a name, a choice or a record.
type BaseType struct {
	at
	Name       string  // "" for a record, "choice" for a choice
	Choices    []Expr  // of a choice: *String, in source order
	Record     bool    //
	Extensible bool    // of a record
	Fields     []Field // of a record, in source order
	Range      *Range  // nil: none
}

// Field is one line of a record: a field, or the inclusion of another record type.
type Field struct {
	at          // the path; of an inclusion the type's name
	Include     string
	Path        Path
	Key         string // of the field; set by Check
	Required    bool
	Type        *FullType
	Annotations []*Annotation
}

// ClauseKind is what a Clause makes of the type before it.
type ClauseKind uint8

// The clauses: T[], T{}, T*.
const (
	List ClauseKind = iota
	Dict
	Link
)

// Clause is one of [range], {range}, *.
type Clause struct {
	at
	Kind  ClauseKind
	Range *Range // nil: none
}

// Range is min..max, both included; a missing minimum is 0, a missing maximum 2^63-1, as in panc.
type Range struct {
	Min, Max int64
}

// String is the range as panc prints it: the maximum 2^63-1 is left out.
func (r Range) String() string {
	b := strconv.AppendInt(nil, r.Min, 10)
	b = append(b, ".."...)
	if r.Max != 1<<63-1 {
		b = strconv.AppendInt(b, r.Max, 10)
	}
	return string(b)
}

// Expr is an expression of DML: *StringLit, *LongLit, *DoubleLit, *BoolLit, *NullLit, *UndefLit, *Var, *Call, *Unary, *Binary,
// *Set, *If, *While, *For, *Foreach; and where the grammar says dml (every Body, Cond, Then, Else, index and argument, each
// expression of a Block) also *Block and *Group.
//
// panc wraps each of those places into a DML operation, whose range is the Span of the expression in that place: so the zero Span
// for a Binary or a Group.
type Expr interface {
	Node
	expr()
}

// StringLit is a string in quotes or a here-document.
type StringLit struct {
	at
	Value string
}

// LongLit is a decimal, octal or hexadecimal number.
type LongLit struct {
	at
	Value int64
}

// DoubleLit is a number with a fraction or an exponent; too large ones are infinite, as in Java.
type DoubleLit struct {
	at
	Value float64
}

// BoolLit is true or false.
type BoolLit struct {
	at
	Value bool
}

// NullLit is null.
type NullLit struct{ at }

// UndefLit is undef.
type UndefLit struct{ at }

// Var is a variable with its subscripts; Span ends at the last ']'.
type Var struct {
	at
	Name  string
	Index []Expr
}

// Call is a function with its arguments.
type Call struct {
	at
	Name string
	Args []Expr
}

// Op is an operator.
type Op uint8

// The operators, unary ones first.
const (
	Plus   Op = iota // unary +
	Minus            // unary -
	Not              // !
	BitNot           // ~
	Or               // ||
	And              // &&
	BitOr            // |
	BitXor           // ^
	BitAnd           // &
	EQ               // ==
	NE               // !=
	LT               // <
	GT               // >
	LE               // <=
	GE               // >=
	Add              // +
	Sub              // -
	Mul              // *
	Div              // /
	Mod              // %
)

var opText = [...]string{"+", "-", "!", "~", "||", "&&", "|", "^", "&", "==", "!=", "<", ">", "<=", ">=", "+", "-", "*", "/", "%"}

// String is the operator as written.
func (o Op) String() string { return opText[o] }

// Unary is an operator before an operand; Span is the operator.
type Unary struct {
	at
	Op Op
	X  Expr
}

// Binary is an operator between two operands. panc has no range for it: Span is zero. OpSpan is the operator.
type Binary struct {
	Op     Op
	X, Y   Expr
	OpSpan Span
}

// Span is zero.
func (*Binary) Span() Span { return Span{} }

// Set is a = b = … = value; Span is the last '='. Value is evaluated first, then the targets from right to left.
type Set struct {
	at
	Targets []*Var
	Value   Expr
}

// If is an if; Span is the keyword. Else is nil when there is none.
type If struct {
	at
	Cond, Then, Else Expr
}

// While is a while loop; Span is the keyword.
type While struct {
	at
	Cond, Body Expr
}

// For is for(init; cond; step) body; Span is the keyword.
type For struct {
	at
	Init, Cond, Step, Body Expr
}

// Foreach is foreach(key; value; in) body; Span is the keyword.
type Foreach struct {
	at
	Key, Value *Var
	In, Body   Expr
}

// Block is {a; b; …} with two or more expressions; Span is from '{' to '}'.
type Block struct {
	at
	List []Expr
}

// Group is (x) or {x}: panc has a node for it without a range, so Span is zero.
type Group struct {
	X Expr
}

// Span is zero.
func (*Group) Span() Span { return Span{} }

func (*StringLit) expr() {}
func (*LongLit) expr()   {}
func (*DoubleLit) expr() {}
func (*BoolLit) expr()   {}
func (*NullLit) expr()   {}
func (*UndefLit) expr()  {}
func (*Var) expr()       {}
func (*Call) expr()      {}
func (*Unary) expr()     {}
func (*Binary) expr()    {}
func (*Set) expr()       {}
func (*If) expr()        {}
func (*While) expr()     {}
func (*For) expr()       {}
func (*Foreach) expr()   {}
func (*Block) expr()     {}
func (*Group) expr()     {}

// Annotation is one `@name{…}`; Name is empty for an anonymous one.
type Annotation struct {
	at
	Name    string
	Entries []Entry
}

// Entry is one `key = value` of an annotation; free text is the entry desc.
type Entry struct {
	Key, Value string
}
