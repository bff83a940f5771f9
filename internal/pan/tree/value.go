// Package tree holds what a Pan program works on and what it leaves behind: values, paths, and the profile in the formats that
// panc writes, byte for byte.
//
//	Value ─┬─ Boolean Long Double String      properties, immutable
//	       ├─ *List *Dict                     resources, references: two variables may name one of them
//	       └─ Undef Null                      transient: "not yet" and "delete"
//
// A resource is a reference, as in panc: what is put into one is not copied. Protect gives a view of it that cannot be written
// (globals, constants, what value() returns); WritableCopy of a view copies one level and leaves the children as views, so that a
// change of one leaf in a large tree costs its path only.
//
// Nothing here knows positions in templates: errors carry panc's class and message, the evaluator adds where and the call stack.
// Reading a tree changes nothing in it, so a finished one may be read by any number of goroutines; writing needs care by the caller.
package tree

import "slices"

// Value is one of Boolean, Long, Double, String, *List, *Dict, Undef, Null; nil means that there is none.
type Value interface {
	// Type is panc's word for the type, as its messages and outputs have it: a Dict is an "nlist".
	Type() string
}

type (
	// Boolean is a Pan boolean.
	Boolean bool
	// Long is a Pan long: 64 bits, signed, arithmetic wraps.
	Long int64
	// Double is a Pan double (IEEE 754 binary64).
	Double float64
	// String is a Pan string in UTF-8. Half of a surrogate pair, which Java's strings may hold, is written as its three bytes
	// (ED A0..BF xx, "WTF-8"); the output formats put '?' for it, as Java's encoder does.
	String string
	// Undef is a value that is not set yet.
	Undef struct{}
	// Null deletes what it is assigned to.
	Null struct{}
)

func (Boolean) Type() string { return "boolean" }
func (Long) Type() string    { return "long" }
func (Double) Type() string  { return "double" }
func (String) Type() string  { return "string" }
func (Undef) Type() string   { return "undef" }
func (Null) Type() string    { return "null" }
func (*List) Type() string   { return "list" }
func (*Dict) Type() string   { return "nlist" }

// Resource is a *List or a *Dict.
type Resource interface {
	Value
	Len() int
	// Get is the child at t, nil if there is none; of a view the child is protected too. A term of the wrong kind is an
	// *InvalidTermError, which lacks the place: whoever knows it calls At.
	Get(t Term) (Value, error)
	// Put sets the child at t; Null or nil deletes it. It fails as Get does, for a view, and where CheckReplacement does.
	Put(t Term, v Value) error
	// Iterate goes over the children in order: a dict's by key, a list's by index.
	Iterate() Iterator
	// Protected says whether this is a view that cannot be written.
	Protected() bool
}

// IsResource says whether v is a list or a dict.
func IsResource(v Value) bool {
	switch v.(type) {
	case *List, *Dict:
		return true
	}
	return false
}

// IsProperty says whether v is a boolean, long, double or string.
func IsProperty(v Value) bool {
	switch v.(type) {
	case Boolean, Long, Double, String:
		return true
	}
	return false
}

// Protected says whether v is a view that cannot be written; properties never are, nor need they.
func Protected(v Value) bool {
	r, ok := v.(Resource)
	return ok && r.Protected()
}

// Protect is a view of v that cannot be written, nor can anything reached through it. The view is live: what is changed in v
// through another reference shows. It costs nothing.
func Protect(v Value) Value {
	switch v := v.(type) {
	case *Dict:
		return &v.s.view
	case *List:
		return &v.s.view
	}
	return v
}

// WritableCopy of a view is a copy of its first level whose children are views; everything else is returned as it is.
func WritableCopy(v Value) Value {
	switch v := v.(type) {
	case *Dict:
		return v.writableCopy()
	case *List:
		return v.writableCopy()
	}
	return v
}

// maxDepth is how deep a tree may nest before Clone, Equal and the writers call it circular: Java's stack holds some thousand levels.
const maxDepth = 5000

// Clone is a deep copy of v that can be written. A circular structure is an Evaluation error.
func Clone(v Value) (Value, error) { return clone(v, 0) }

func clone(v Value, depth int) (Value, error) {
	if depth > maxDepth {
		return nil, errCircular
	}
	switch v := v.(type) {
	case *Dict:
		c := NewDict(v.Len())
		for _, e := range v.s.entries {
			x, err := clone(e.value, depth+1)
			if err != nil {
				return nil, err
			}
			c.s.entries = append(c.s.entries, entry{e.key, x})
		}
		return c, nil
	case *List:
		c := NewList(v.Len())
		for _, child := range v.s.items {
			x, err := clone(child, depth+1)
			if err != nil {
				return nil, err
			}
			c.s.items = append(c.s.items, x)
		}
		return c, nil
	}
	return v, nil
}

// Equal is panc's equality, as index() uses it: same type, same value, all children equal. Doubles are equal when their bits are.
func Equal(a, b Value) bool { return equal(a, b, 0) }

func equal(a, b Value, depth int) bool {
	if depth > maxDepth {
		return false
	}
	switch a := a.(type) {
	case Double:
		b, ok := b.(Double)
		return ok && (a == b && (a != 0 || signbit(a) == signbit(b)) || a != a && b != b)
	case *Dict:
		b, ok := b.(*Dict)
		return ok && (a.s == b.s || slices.EqualFunc(a.s.entries, b.s.entries, func(a, b entry) bool {
			return a.key == b.key && equal(a.value, b.value, depth+1)
		}))
	case *List:
		b, ok := b.(*List)
		return ok && (a.s == b.s || slices.EqualFunc(a.s.items, b.s.items, func(a, b Value) bool { return equal(a, b, depth+1) }))
	}
	return a == b
}

func signbit(d Double) bool { return 1/d < 0 }

// CheckReplacement says whether a place that holds old may be given v: the first value fixes the type, undef and null may always
// come and go. The error is of class Evaluation.
func CheckReplacement(old, v Value) error {
	switch old.(type) {
	case nil, Undef, Null:
		return nil
	}
	switch v.(type) {
	case nil, Undef, Null:
		return nil
	}
	if old.Type() != v.Type() {
		return evaluationError("existing element of type " + old.Type() + " cannot be replaced by one of type " + v.Type())
	}
	return nil
}
