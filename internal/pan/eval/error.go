package eval

import (
	"cmp"
	"strings"

	"muster/internal/pan/syntax"
)

// Class is the kind of a problem, named as panc names its exceptions.
type Class string

// The classes. What Java raises on its own and panc does not catch keeps Java's name.
const (
	Syntax       Class = "SyntaxException"
	Parse        Class = "ParseException"
	Evaluation   Class = "EvaluationException"
	Validation   Class = "ValidationException"
	System       Class = "SystemException"
	Internal     Class = "CompilerError"
	NumberFormat Class = "NumberFormatException"
	IndexBounds  Class = "IndexOutOfBoundsException"
	IllegalArg   Class = "IllegalArgumentException"
)

// Error is one problem, with all that panc prints of it. The zero Span, an empty File and an empty Trace are what panc does not know.
type Error struct {
	Class Class
	Msg   string
	Span  syntax.Span
	File  string
	Trace string
	Near  syntax.Span // where it is, when panc does not say; not part of the message
	Hint  string      // what may have been meant, in one line; not part of the message

	// Of a ValidationException.
	Path     string   // of the element, "" when unknown
	Value    string   // of the element
	HasValue bool     //
	Types    []string // "type: 'x' [file:range]", innermost first
	Bound    string   // "path '/p' bound to type t in [file:range]"
	Cause    *Error
	Origin   *Error // the error of another template that this one wraps

	terms []string // from the bound path to the element, outermost last
	cycle bool     // a circular object dependency: which object meets it depends on the order of work

	as        string // what the parser printed
	short     string // and in one line
	keepClass bool   // not made an error of syntax when met while folding
}

// Error is the message as panc prints it; it ends with a newline, but for the classes of Java and of the parser.
func (e *Error) Error() string {
	if e.as != "" {
		return e.as
	}
	var b strings.Builder
	switch e.Class {
	case Syntax:
		e.head(&b, "syntax error [")
	case Evaluation:
		e.head(&b, "evaluation error [")
		if e.Trace != "" {
			b.WriteString(e.Trace)
			b.WriteByte('\n')
		}
	case Parse:
		e.head(&b, "parse error [")
		return strings.TrimSuffix(b.String(), "\n")
	case System:
		b.WriteString("system error [")
		b.WriteString(orUnknown(e.File))
		b.WriteString("]\n")
		b.WriteString(e.Msg)
		b.WriteByte('\n')
	case Validation:
		e.validation(&b)
	default:
		return e.Msg
	}
	return b.String()
}

func (e *Error) head(b *strings.Builder, kind string) {
	b.WriteString(kind)
	b.WriteString(orUnknown(e.File))
	b.WriteByte(':')
	b.WriteString(e.Span.String())
	b.WriteString("]\n")
	b.WriteString(e.Msg)
	b.WriteByte('\n')
}

func (e *Error) validation(b *strings.Builder) {
	b.WriteString("validation error [")
	b.WriteString(orUnknown(e.File))
	b.WriteString("]\n")
	b.WriteString(e.Msg)
	b.WriteByte('\n')
	if e.Path != "" {
		b.WriteString("element path: '")
		b.WriteString(e.Path)
		b.WriteString("'\n")
	}
	if e.HasValue {
		b.WriteString("element value: ")
		b.WriteString(e.Value)
		b.WriteByte('\n')
	}
	for _, t := range e.Types {
		b.WriteString(t)
		b.WriteByte('\n')
	}
	if e.Bound != "" {
		b.WriteString(e.Bound)
		b.WriteByte('\n')
	}
	if e.Cause != nil {
		b.WriteString("caused by: ")
		b.WriteString(e.Cause.Error())
	}
}

func orUnknown(s string) string {
	if s == "" {
		return "?"
	}
	return s
}

// Where is the place of the problem, also where panc's message has none.
func (e *Error) Where() syntax.Span {
	if e.Span.IsZero() {
		return e.Near
	}
	return e.Span
}

// Short is what is wrong in one line, for lists of FILE:LINE:COLUMN.
func (e *Error) Short() string { return cmp.Or(e.short, strings.Join(strings.Fields(e.Msg), " ")) }

// circular says whether objects that refer to each other in a circle are the reason.
func (e *Error) circular() bool { return e.cycle || e.Cause != nil && e.Cause.circular() }

// near notes where a problem is that panc gives no range.
func (e *Error) near(s syntax.Span) *Error {
	if e != nil && e.Near.IsZero() {
		e.Near = s
	}
	return e
}

// evaluation is an EvaluationException without a place; who catches it on the way adds one.
func evaluation(msg string) *Error { return &Error{Class: Evaluation, Msg: msg} }

// evaluationAt is an EvaluationException that knows its range but neither file nor trace.
func evaluationAt(s syntax.Span, msg string) *Error {
	return &Error{Class: Evaluation, Msg: msg, Span: s}
}

func syntaxAt(s syntax.Span, msg string) *Error { return &Error{Class: Syntax, Msg: msg, Span: s} }

func invalid(msg string) *Error { return &Error{Class: Validation, Msg: msg} }

func internal(msg string) *Error { return &Error{Class: Internal, Msg: msg} }

// toSyntax makes a problem met while folding constants one of syntax, as panc does for most of them.
func toSyntax(s syntax.Span, e *Error) *Error {
	if e.Class != Evaluation {
		return e
	}
	return syntaxAt(s, e.Msg)
}

// clone lets a problem of a shared template be completed for one object.
func (e *Error) clone() *Error {
	c := *e
	return &c
}
