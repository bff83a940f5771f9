package eval

import (
	"muster/internal/pan/syntax"
	"muster/internal/pan/tree"
)

// op is one operation of DML, compiled: names are slots, built-in functions are resolved, constants are folded. It is shared by all
// objects and does not change.
type op interface {
	// eval does it. What it returns with an error does not count; the error may be returning.
	eval(x *exec) (tree.Value, *Error)
	// facts are what the places above have to know of it.
	known() *facts
}

// facts is the part that all operations have.
type facts struct {
	span syntax.Span
	// restricted is the first error() or return() inside, which may not stand in a subscript or argument; self is the first SELF
	// inside, which may not stand in an include.
	restricted *Error
	self       *Error
}

func (f *facts) known() *facts { return f }

// factsOf are the facts of an operation that holds others.
func factsOf(s syntax.Span, inside ...op) facts {
	f := facts{span: s}
	for _, o := range inside {
		if o == nil {
			continue
		}
		in := o.known()
		if f.restricted == nil {
			f.restricted = in.restricted
		}
		if f.self == nil {
			f.self = in.self
		}
	}
	return f
}

// unit is an outermost block: a statement's DML, a function, a validation. Its local variables are slots of a frame.
type unit struct {
	body  op
	names map[string]int // of a local variable its slot
}

// constant is a value.
type constant struct {
	facts
	value tree.Value
}

func (o *constant) eval(*exec) (tree.Value, *Error) { return o.value, nil }

// constantOf is the value of an operation that is one.
func constantOf(o op) (tree.Value, bool) {
	c, ok := o.(*constant)
	if !ok {
		return nil, false
	}
	return c.value, true
}

// sequence is { a; b; … }: the value of the last.
type sequence struct {
	facts
	list []op
}

func (o *sequence) eval(x *exec) (v tree.Value, err *Error) {
	v = tree.Undef{}
	for _, s := range o.list {
		if v, err = s.eval(x); err != nil {
			return nil, x.at(o.span, err)
		}
	}
	return v, nil
}

type ifElse struct {
	facts
	cond, then, other op
}

func (o *ifElse) eval(x *exec) (tree.Value, *Error) {
	v, err := o.cond.eval(x)
	if err != nil {
		return nil, err
	}
	b, ok := v.(tree.Boolean)
	switch {
	case !ok:
		return nil, evaluationAt(o.span, msgIfElse)
	case bool(b):
		return o.then.eval(x)
	}
	return o.other.eval(x)
}

const (
	msgIfElse = "if-else test must evaluate to a boolean property"
	msgLoop   = "loop test must evaluate to a boolean property"
)

// loop is while and for: init and step are nil for while.
type loop struct {
	facts
	init, cond, next, body op
}

func (o *loop) eval(x *exec) (v tree.Value, err *Error) {
	v = tree.Undef{}
	if o.init != nil {
		if v, err = o.init.eval(x); err != nil {
			return nil, err
		}
	}
	limit := x.iterationLimit()
	for count := 1; ; count++ {
		c, err := o.cond.eval(x)
		if err != nil {
			return nil, err
		}
		b, ok := c.(tree.Boolean)
		if !ok {
			return nil, x.fail(o.span, msgLoop)
		}
		if !b {
			return v, nil
		}
		if count > limit {
			return nil, x.fail(o.span, "loop iteration count ("+tree.FormatNumber(int64(limit))+") has been exceeded")
		}
		if err := x.step(1); err != nil {
			return nil, err
		}
		if v, err = o.body.eval(x); err != nil {
			return nil, err
		}
		if o.next != nil {
			if _, err := o.next.eval(x); err != nil {
				return nil, err
			}
		}
	}
}

type foreach struct {
	facts
	key, value *set
	in, body   op
}

func (o *foreach) eval(x *exec) (tree.Value, *Error) {
	in, err := o.in.eval(x)
	if err != nil {
		return nil, err
	}
	r, ok := in.(tree.Resource)
	if !ok {
		return nil, evaluationAt(o.span, "third foreach argument does not evaluate to a resource")
	}
	if _, err := o.key.assign(x, tree.Undef{}); err != nil {
		return nil, err
	}
	if _, err := o.value.assign(x, tree.Undef{}); err != nil {
		return nil, err
	}
	var result tree.Value = tree.Undef{}
	for i := r.Iterate(); i.More(); {
		if err := x.step(1); err != nil {
			return nil, err
		}
		k, v, e := i.Next()
		if e != nil {
			return nil, evaluationAt(o.span, fromTree(e).Msg)
		}
		if _, err := o.key.assign(x, k); err != nil {
			return nil, err
		}
		if _, err := o.value.assign(x, tree.Undef{}); err != nil {
			return nil, err
		}
		if _, err := o.value.assign(x, v); err != nil {
			return nil, err
		}
		if result, err = o.body.eval(x); err != nil {
			return nil, err
		}
	}
	return result, nil
}

// invoke is the call of a function of the templates.
type invoke struct {
	facts
	name      string
	nameValue tree.Value
	args      []op
}

func (o *invoke) eval(x *exec) (tree.Value, *Error) {
	f := x.functions[o.name]
	if f == nil {
		e := x.fail(o.span, "undefined function: "+o.name)
		if x.constant {
			return nil, e
		}
		return nil, e.hinted("function", o.name, x.functionNames()...)
	}
	argv := tree.NewList(len(o.args))
	for i, a := range o.args {
		v, err := a.eval(x)
		if err != nil {
			return nil, err
		}
		// null at its place is no argument, and what is behind it is written where it would have been (ListResource.put)
		if e := argv.Set(i, v); e != nil {
			return nil, fromTree(e)
		}
	}
	if err := x.step(1); err != nil {
		return nil, err
	}
	base, unit := x.enter(f.unit)
	if slot, ok := f.unit.names["ARGV"]; ok {
		x.locals[x.base+slot] = argv
	}
	if slot, ok := f.unit.names["ARGC"]; ok {
		x.locals[x.base+slot] = tree.Long(argv.Len())
	}
	outer := x.globals[symFunction]
	x.globals[symFunction] = global{value: o.nameValue, final: true}
	if err := x.push(f.template, o.span); err != nil {
		return nil, err
	}
	v, err := f.unit.body.eval(x)
	if err == returning {
		v, err = x.result, nil
	}
	if err != nil {
		return nil, err
	}
	x.globals[symFunction] = outer
	x.pop()
	x.leave(base, unit)
	return v, nil
}

// function is a function as an object has it.
type function struct {
	template *Template
	span     syntax.Span
	unit     *unit
}
