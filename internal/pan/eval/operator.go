package eval

import (
	"muster/internal/pan/java"
	"muster/internal/pan/syntax"
	"muster/internal/pan/tree"
)

// operator is what panc calls an operator in its messages, and the operands it takes.
type operator struct {
	name, takes string
}

const (
	longs    = "long values"
	numbers  = "longs or doubles"
	anything = "longs, doubles, or strings"
)

var operators = map[syntax.Op]operator{
	syntax.Add: {"add (+)", anything}, syntax.Sub: {"subtract (-)", anything}, syntax.Mul: {"multiply (*)", numbers},
	syntax.Div: {"divide (/)", numbers}, syntax.Mod: {"modulus (%)", longs},
	syntax.BitAnd: {"bit-and (&)", longs}, syntax.BitOr: {"bit-or (|)", longs}, syntax.BitXor: {"bit-exclusive-or (^)", longs},
	syntax.EQ: {"equal (==)", anything}, syntax.NE: {"not-equal (!=)", anything},
	syntax.GT: {"greater-than (>)", anything}, syntax.GE: {"greater-than-equal (>=)", anything},
	syntax.LT: {"less-than (<)", anything}, syntax.LE: {"less-than-equal (<=)", anything},
}

func badOperands(o syntax.Op) string {
	return "arguments for " + operators[o].name + " operation must be " + operators[o].takes
}

func mismatch(o syntax.Op) string {
	return "mismatched or invalid arguments for " + operators[o].name + " operation"
}

// binary is an operator between two values. panc has no range for it.
type binary struct {
	facts
	op   syntax.Op
	a, b op
}

func (o *binary) eval(x *exec) (tree.Value, *Error) {
	a, err := o.a.eval(x)
	if err != nil {
		return nil, err
	}
	b, err := o.b.eval(x)
	if err != nil {
		return nil, err
	}
	v, err := operate(o.op, a, b)
	if err != nil {
		return nil, err
	}
	if s, ok := v.(tree.String); ok {
		if err := x.grown(len(s)); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// operate applies an operator. An error that panc raises for the kind of an operand alone has keepClass set.
func operate(o syntax.Op, a, b tree.Value) (tree.Value, *Error) {
	switch a := a.(type) {
	case tree.Long:
		switch b := b.(type) {
		case tree.Long:
			return operateLongs(o, int64(a), int64(b))
		case tree.Double:
			return operateDoubles(o, float64(a), float64(b))
		}
	case tree.Double:
		switch b := b.(type) {
		case tree.Long:
			return operateDoubles(o, float64(a), float64(b))
		case tree.Double:
			return operateDoubles(o, float64(a), float64(b))
		}
	case tree.String:
		if b, ok := b.(tree.String); ok {
			return operateStrings(o, string(a), string(b))
		}
	case tree.Boolean:
		if b, ok := b.(tree.Boolean); ok {
			switch o {
			case syntax.EQ:
				return tree.Boolean(a == b), nil
			case syntax.NE:
				return tree.Boolean(a != b), nil
			}
		}
	}
	if mismatches(o) && tree.IsProperty(a) && tree.IsProperty(b) {
		return nil, evaluation(mismatch(o))
	}
	return nil, wrongType(o)
}

// mismatches says whether an operator takes any two properties and then looks whether they fit.
func mismatches(o syntax.Op) bool {
	switch o {
	case syntax.Add, syntax.EQ, syntax.NE, syntax.LT, syntax.LE, syntax.GT, syntax.GE:
		return true
	}
	return false
}

// wrongType is an error that stays an EvaluationException when constants are folded.
func wrongType(o syntax.Op) *Error {
	e := evaluation(badOperands(o))
	e.keepClass = true
	return e
}

func operateLongs(o syntax.Op, a, b int64) (tree.Value, *Error) {
	switch o {
	case syntax.Add:
		return tree.Long(a + b), nil
	case syntax.Sub:
		return tree.Long(a - b), nil
	case syntax.Mul:
		return tree.Long(a * b), nil
	case syntax.Div:
		if b == 0 {
			return nil, evaluation("division by zero")
		}
		if b == -1 {
			return tree.Long(-a), nil // Go's division traps where Java's wraps
		}
		return tree.Long(a / b), nil
	case syntax.Mod:
		if b == 0 {
			return nil, evaluation("second argument for modulus (%) operation cannot be zero")
		}
		if b == -1 {
			return tree.Long(0), nil
		}
		return tree.Long(a % b), nil
	case syntax.BitAnd:
		return tree.Long(a & b), nil
	case syntax.BitOr:
		return tree.Long(a | b), nil
	case syntax.BitXor:
		return tree.Long(a ^ b), nil
	}
	// comparisons are those of doubles, so that large neighbours are equal
	return operateDoubles(o, float64(a), float64(b))
}

func operateDoubles(o syntax.Op, a, b float64) (tree.Value, *Error) {
	switch o {
	case syntax.Add:
		return tree.Double(a + b), nil
	case syntax.Sub:
		return tree.Double(a - b), nil
	case syntax.Mul:
		return tree.Double(a * b), nil
	case syntax.Div:
		if b == 0 {
			return nil, evaluation("division by zero")
		}
		return tree.Double(a / b), nil
	case syntax.EQ:
		return tree.Boolean(a == b), nil
	case syntax.NE:
		return tree.Boolean(a != b), nil
	case syntax.LT:
		return tree.Boolean(a < b), nil
	case syntax.LE:
		return tree.Boolean(a <= b), nil
	case syntax.GT:
		return tree.Boolean(a > b), nil
	case syntax.GE:
		return tree.Boolean(a >= b), nil
	}
	return nil, wrongType(o)
}

func operateStrings(o syntax.Op, a, b string) (tree.Value, *Error) {
	switch o {
	case syntax.Add:
		return tree.String(a + b), nil
	case syntax.EQ:
		return tree.Boolean(a == b), nil
	case syntax.NE:
		return tree.Boolean(a != b), nil
	case syntax.LT:
		return tree.Boolean(java.Compare(a, b) < 0), nil
	case syntax.LE:
		return tree.Boolean(java.Compare(a, b) <= 0), nil
	case syntax.GT:
		return tree.Boolean(java.Compare(a, b) > 0), nil
	case syntax.GE:
		return tree.Boolean(java.Compare(a, b) >= 0), nil
	}
	return nil, wrongType(o)
}

// newBinary folds an operator between two constants, as panc does while it parses: a mismatch is then an error of syntax.
func newBinary(o syntax.Op, a, b op) (op, *Error) {
	x, okx := constantOf(a)
	y, oky := constantOf(b)
	if !okx || !oky {
		return &binary{facts: factsOf(syntax.Span{}, a, b), op: o, a: a, b: b}, nil
	}
	v, err := operate(o, x, y)
	if err != nil {
		if err.keepClass {
			return nil, err
		}
		return nil, toSyntax(syntax.Span{}, err)
	}
	return &constant{value: v}, nil
}

// logical is && (or false) and || (or true).
type logical struct {
	facts
	or   bool
	a, b op
}

func logicalMessage(or bool, which string) string {
	name := "logical-and (&&)"
	if or {
		name = "logical-or (||)"
	}
	return which + " argument for " + name + " operation must be a boolean value"
}

func (o *logical) eval(x *exec) (tree.Value, *Error) {
	v, err := o.a.eval(x)
	if err != nil {
		return nil, err
	}
	a, ok := v.(tree.Boolean)
	if !ok {
		return nil, evaluation(logicalMessage(o.or, "first"))
	}
	if bool(a) == o.or {
		return a, nil
	}
	if v, err = o.b.eval(x); err != nil {
		return nil, err
	}
	if _, ok := v.(tree.Boolean); !ok {
		return nil, evaluation(logicalMessage(o.or, "second"))
	}
	return v, nil
}

func newLogical(or bool, a, b op) (op, *Error) {
	x, constX := constantOf(a)
	y, constY := constantOf(b)
	if constX {
		v, ok := x.(tree.Boolean)
		if !ok {
			return nil, syntaxAt(syntax.Span{}, logicalMessage(or, "first"))
		}
		if bool(v) == or {
			return &constant{value: v}, nil
		}
	}
	if constY {
		if _, ok := y.(tree.Boolean); !ok {
			return nil, syntaxAt(syntax.Span{}, logicalMessage(or, "second"))
		}
		if constX {
			return &constant{value: y}, nil
		}
	}
	return &logical{facts: factsOf(syntax.Span{}, a, b), or: or, a: a, b: b}, nil
}

// unary is an operator before a value.
type unary struct {
	facts
	op syntax.Op
	a  op
}

func (o *unary) eval(x *exec) (tree.Value, *Error) {
	v, err := o.a.eval(x)
	if err != nil {
		return nil, err
	}
	if v, err = operateOne(o.op, v); err != nil {
		return nil, evaluationAt(o.span, err.Msg)
	}
	return v, nil
}

func operateOne(o syntax.Op, v tree.Value) (tree.Value, *Error) {
	switch o {
	case syntax.Plus:
		// panc looks at the operand only when it is a constant
		return v, nil
	case syntax.Minus:
		switch v := v.(type) {
		case tree.Long:
			return -v, nil
		case tree.Double:
			return -v, nil
		}
		return nil, evaluation("argument for unary minus (-) operation must be a long or double")
	case syntax.Not:
		if b, ok := v.(tree.Boolean); ok {
			return !b, nil
		}
		return nil, evaluation("argument for logical-not (!) operation must be a boolean value")
	}
	if n, ok := v.(tree.Long); ok {
		return ^n, nil
	}
	return nil, evaluation("argument for bit-not (~) operation must be a long value")
}

func newUnary(o syntax.Op, s syntax.Span, a op) (op, *Error) {
	v, ok := constantOf(a)
	if !ok {
		return &unary{facts: factsOf(s, a), op: o, a: a}, nil
	}
	if o == syntax.Plus {
		switch v.(type) {
		case tree.Long, tree.Double:
			return a, nil
		}
		return nil, syntaxAt(s, "argument for unary plus (+) operation must be a long or double")
	}
	v, err := operateOne(o, v)
	if err != nil {
		return nil, evaluationAt(s, err.Msg) // not one of syntax: the operand's kind is wrong
	}
	return &constant{value: v}, nil
}
