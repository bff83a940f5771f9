package tree

import "strconv"

// Class is the exception class that panc reports for an error.
type Class uint8

const (
	// Evaluation is an EvaluationException.
	Evaluation Class = iota
	// Syntax is a SyntaxException.
	Syntax
	// Validation is a ValidationException.
	Validation
	// Compiler is a CompilerError: panc's own invariant broke.
	Compiler
	// NumberFormat is a java.lang.NumberFormatException, which panc does not expect and reports bare.
	NumberFormat
)

// Error is what panc says about a value or path, without position and call stack.
type Error struct {
	Class   Class
	Message string
}

func (e *Error) Error() string { return e.Message }

func evaluationError(message string) *Error { return &Error{Evaluation, message} }

var (
	errCircular      = evaluationError("stack overflow; check for circular data structure")
	errConcurrent    = evaluationError("resource changed structurally during iteration")
	errProtectedDict = &Error{Compiler, "illegal attempt to write to protected hash"}
	errProtectedList = &Error{Compiler, "illegal attempt to write to protected list"}
)

// InvalidTermError says that a dict was given an index or a list a key. It becomes a message only with the path or variable that was
// being read or written.
type InvalidTermError struct {
	Term string // the term that does not fit
	Type string // of the resource
	// Terms are those from the root or variable to Term, itself included; set by Get, Lookup, Put and GetList of this package.
	Terms []Term
}

func (e *InvalidTermError) Error() string {
	return "cannot dereference element of type '" + e.Type + "' with term '" + e.Term + "'"
}

// at adds the place: terms[:n] lead to the term that does not fit.
func at(err error, terms []Term, n int) error {
	if e, ok := err.(*InvalidTermError); ok {
		e.Terms = terms[:n]
	}
	return err
}

// OfPath is panc's error for an access by path.
func (e *InvalidTermError) OfPath(p Path) *Error {
	place := ""
	switch p.Kind {
	case Absolute:
		place = "/"
	case External:
		place = p.Authority + ":"
	}
	return evaluationError(e.Error() + "; error at '" + place + e.place() + "' with full path '" + p.String() + "'")
}

func (e *InvalidTermError) place() string { return Path{Terms: e.Terms}.String() }

// OfVariable is panc's error for an access by variable and subscripts; it glues the terms to the name as if they were a path.
func (e *InvalidTermError) OfVariable(name string) *Error {
	return evaluationError(e.Error() + "; error at '" + name + e.place() + "' with full path '" + name + "'")
}

// FormatNumber is a long as panc's messages have it where they say {0,number}: groups of three with commas.
func FormatNumber(n int64) string {
	s := strconv.FormatInt(n, 10)
	first := 0
	if n < 0 {
		first = 1
	}
	for i := len(s) - 3; i > first; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
