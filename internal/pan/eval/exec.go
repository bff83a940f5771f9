package eval

import (
	"context"
	"strconv"
	"strings"

	"muster/internal/pan/syntax"
	"muster/internal/pan/tree"
)

// exec is the execution of one object template, or (constant set) the folding of constants of one template, where there are no
// globals, no SELF, no functions and no files. It belongs to one goroutine at a time.
type exec struct {
	build    *build
	object   *Template
	constant bool
	ctx      context.Context

	root     *tree.Dict
	relative *tree.Dict // of the structure template that create() runs; nil outside
	globals  []global   // by symbol
	finals   finals
	self     self
	load     *loadpath

	functions map[string]*function
	types     map[string]*fullType
	bindings  []binding

	// Where we are: the template running, and the calls and includes that led to it.
	template *Template
	calls    []call

	// Local variables of the outermost block that runs, at locals[base:]; see unit.
	locals []tree.Value
	base   int
	unit   *unit
	iters  map[tree.Resource]*tree.Iterator

	result tree.Value // what return() gave; see returning

	loaded  map[string]*Template // by name: what has run or been referred to
	sources map[*Source]bool     // all look-ups, for the dependencies
	objects map[string]bool      // other objects referred to
	steps   int64
	printed []string

	done bool // executed: references to other objects can make no circle any more

	trace *trace // nil unless somebody asks why
}

// call is one line of the call stack: in which template, at which place.
type call struct {
	template *Template
	span     syntax.Span
}

// global is a global variable; value nil means that there is none.
type global struct {
	value tree.Value
	final bool
}

// set gives a global a new value, which may not change its type.
func (g *global) set(v tree.Value) *Error {
	if g.final {
		return evaluation("cannot modify final global variable")
	}
	if err := tree.CheckReplacement(g.value, v); err != nil {
		return fromTree(err)
	}
	g.value = v
	return nil
}

// returning is what return() gives for an error, so that all blocks up to the function end; exec.result has the value.
var returning = &Error{Class: "return"}

// fromTree makes an error of values or paths one of ours.
func fromTree(err error) *Error {
	e, ok := err.(*tree.Error)
	if !ok {
		return evaluation(err.Error())
	}
	return &Error{Class: classOf[e.Class], Msg: e.Message}
}

var classOf = map[tree.Class]Class{
	tree.Evaluation: Evaluation, tree.Syntax: Syntax, tree.Validation: Validation, tree.Compiler: Internal,
	tree.NumberFormat: NumberFormat,
}

// ofVariable is fromTree for an access by variable and subscripts.
func ofVariable(err error, name string) *Error {
	if e, ok := err.(*tree.InvalidTermError); ok {
		return fromTree(e.OfVariable(name))
	}
	return fromTree(err)
}

// ofPath is fromTree for an access by path.
func ofPath(err error, p tree.Path) *Error {
	if e, ok := err.(*tree.InvalidTermError); ok {
		return fromTree(e.OfPath(p))
	}
	return fromTree(err)
}

// fail is an EvaluationException at a place of the running template, with the call stack.
func (x *exec) fail(s syntax.Span, msg string) *Error {
	e := &Error{Class: Evaluation, Msg: msg, Span: s}
	if x.template != nil {
		e.File = x.template.Shown
		if !s.IsZero() {
			e.Trace = x.stack(s)
		}
	}
	return e
}

// at completes an error on its way up: range and file when it has none, and if either was new the call stack of this place.
func (x *exec) at(s syntax.Span, e *Error) *Error {
	if e.Class != Evaluation {
		return e
	}
	changed := false
	if e.Span.IsZero() && !s.IsZero() {
		e.Span, changed = s, true
	}
	if e.File == "" && x.template != nil {
		e.File, changed = x.template.Shown, true
	}
	if changed && !s.IsZero() {
		e.Trace = x.stack(s)
	}
	return e
}

// stack is the call stack as panc prints it.
func (x *exec) stack(s syntax.Span) string {
	var b strings.Builder
	b.WriteString(">>> call stack trace \n")
	line := func(t *Template, s syntax.Span) {
		b.WriteString(">>> [")
		if t == nil {
			b.WriteByte('?')
		} else {
			b.WriteString(orUnknown(t.Shown))
		}
		b.WriteByte(':')
		b.WriteString(s.String())
		b.WriteString("]\n")
	}
	line(x.template, s)
	for i := len(x.calls) - 1; i >= 0; i-- {
		line(x.calls[i].template, x.calls[i].span)
	}
	b.WriteString(">>> ====================\n\n")
	return b.String()
}

// push enters a template by include, create() or function call.
func (x *exec) push(t *Template, s syntax.Span) *Error {
	if limit := x.callLimit(); len(x.calls)+1 > limit {
		return x.fail(s, "call depth limit ("+strconv.Itoa(limit)+") exceeded")
	}
	x.calls = append(x.calls, call{x.template, s})
	x.template = t
	return nil
}

// pop leaves it. After an error nobody pops: the error ends the object, or restore brings everything back.
func (x *exec) pop() {
	n := len(x.calls) - 1
	x.template = x.calls[n].template
	x.calls = x.calls[:n]
}

func (x *exec) callLimit() int {
	if x.build == nil {
		return 50
	}
	return x.build.limits.Recursion
}

func (x *exec) iterationLimit() int {
	if x.constant {
		return 1000
	}
	return x.build.limits.Iteration
}

// state is what has to be as before when an error is swallowed.
type state struct {
	template *Template
	calls    int
	base     int
	locals   int
	unit     *unit
	iters    map[tree.Resource]*tree.Iterator
	self     self
	relative *tree.Dict
	function global
	name     global
}

func (x *exec) save() state {
	s := state{x.template, len(x.calls), x.base, len(x.locals), x.unit, x.iters, x.self, x.relative, global{}, global{}}
	if !x.constant {
		s.function, s.name = x.globals[symFunction], x.globals[symTemplate]
	}
	return s
}

func (x *exec) restore(s state) {
	x.template, x.calls, x.base, x.locals, x.unit = s.template, x.calls[:s.calls], s.base, x.locals[:s.locals], s.unit
	x.iters, x.self, x.relative = s.iters, s.self, s.relative
	if !x.constant {
		x.globals[symFunction], x.globals[symTemplate] = s.function, s.name
	}
}

// enter makes room for the local variables of a unit; leave with the values returned.
func (x *exec) enter(u *unit) (base int, unit *unit) {
	base, unit = x.base, x.unit
	x.base, x.unit = len(x.locals), u
	for range u.names {
		x.locals = append(x.locals, nil)
	}
	return base, unit
}

func (x *exec) leave(base int, u *unit) {
	x.locals = x.locals[:x.base]
	x.base, x.unit = base, u
}

// block runs the outermost DML of a statement: with locals and iterators of its own and TEMPLATE set (if this is not inside of
// another block, by create()).
func (x *exec) block(u *unit) (tree.Value, *Error) {
	base, unit := x.enter(u)
	iters := x.iters
	x.iters = nil
	named := !x.constant && x.template != nil && x.globals[symTemplate].value == nil
	if named {
		x.globals[symTemplate] = global{value: x.template.nameValue, final: true}
	}
	v, err := u.body.eval(x)
	if err == returning {
		v, err = x.result, nil
	}
	if named {
		x.globals[symTemplate] = global{}
	}
	x.iters = iters
	x.leave(base, unit)
	return v, err
}

// step counts work against the limit and looks whether somebody has lost patience.
func (x *exec) step(n int) *Error {
	before := x.steps
	x.steps += int64(n)
	if x.build == nil {
		if x.steps > constantSteps {
			return evaluation("too much work for a constant")
		}
		return nil
	}
	if limit := x.build.limits.Steps; limit > 0 && x.steps > limit {
		return evaluation("work limit (" + tree.FormatNumber(limit) + " steps) has been exceeded")
	}
	if before>>12 != x.steps>>12 && x.ctx.Err() != nil {
		return &Error{Class: Internal, Msg: "compilation ended: " + context.Cause(x.ctx).Error()}
	}
	return nil
}

// constantSteps is the work after which folding gives up and leaves an expression to the execution, which has limits of its own.
const constantSteps = 1 << 20

// longest is how long a string may get, in bytes. Java's end at 2^31-1 units, or when the memory does.
const longest = 1 << 28

// grown counts a string that was built against the limits.
func (x *exec) grown(n int) *Error {
	if n > longest {
		return evaluation("string of " + tree.FormatNumber(int64(n)) + " bytes is too long")
	}
	return x.step(n >> 6)
}

// element is the value at a path; nil with no error where there is none.
func (x *exec) element(p tree.Path) (tree.Value, *Error) {
	var from tree.Value
	switch p.Kind {
	case tree.Absolute:
		from = x.root
	case tree.Relative:
		if x.relative == nil {
			return nil, evaluation("relative path ('" + p.String() + "') cannot be used to retrieve element in configuration")
		}
		from = x.relative
	case tree.External:
		if p.Authority == x.object.Name {
			from = x.root
			break
		}
		root, err := x.external(p.Authority, true)
		if root == nil || err != nil {
			return nil, err
		}
		from = root
	}
	v, err := tree.Lookup(from, p.Terms)
	if err != nil {
		return nil, ofPath(err, p)
	}
	return v, nil
}

// mustElement is element where the path has to exist.
func (x *exec) mustElement(p tree.Path) (tree.Value, *Error) {
	var from tree.Value
	switch p.Kind {
	case tree.External:
		if p.Authority == x.object.Name {
			from = x.root
			break
		}
		root, err := x.external(p.Authority, false)
		if err != nil {
			return nil, err
		}
		from = root
	case tree.Relative:
		return nil, evaluation("relative path ('" + p.String() + "') cannot be used to retrieve element in configuration")
	default:
		from = x.root
	}
	v, err := tree.Get(from, p.Terms)
	if err != nil {
		return nil, ofPath(err, p)
	}
	if v == nil {
		return nil, evaluation("path '" + p.String() + "' does not have an associated value")
	}
	return v, nil
}

// put sets or (nil, Null) deletes the value at a path that is not external.
func (x *exec) put(p tree.Path, v tree.Value) *Error {
	root := &x.root
	if p.Kind == tree.Relative {
		root = &x.relative
		if *root == nil {
			return internal("invalid attempt set relative path in configuration: " + p.String())
		}
	} else if len(p.Terms) == 0 {
		if v == nil {
			return evaluation("cannot set root element to null")
		}
		d, ok := v.(*tree.Dict)
		if !ok {
			return evaluation("root element cannot be replaced by element of type " + v.Type())
		}
		x.root = d
		return nil
	}
	if (*root).Protected() {
		*root = tree.WritableCopy(*root).(*tree.Dict)
	}
	if err := tree.Put(*root, p.Terms, v); err != nil {
		return ofPath(err, p)
	}
	return nil
}

// self is what SELF stands for. Setting it writes through to where it came from.
type self struct {
	kind     selfKind
	value    tree.Value
	path     tree.Path
	variable int // symbol
}

type selfKind uint8

const (
	selfNone selfKind = iota
	selfPath
	selfVariable
	selfReadOnly
	selfInvalid // inside of include
)

// getSelf is the value of SELF.
func (x *exec) getSelf() (tree.Value, *Error) {
	switch x.self.kind {
	case selfNone:
		return nil, internal("SELF is not defined")
	case selfInvalid:
		return nil, evaluation("MSG_INVALID_SELF_REF_IN_INCLUDE") // what panc prints: it does not find its text
	}
	return x.self.value, nil
}

// setSelf replaces the value of SELF, by a writable copy of itself or by a new resource.
func (x *exec) setSelf(v tree.Value) *Error {
	x.self.value = v
	switch x.self.kind {
	case selfPath:
		return x.put(x.self.path, v)
	case selfVariable:
		return x.globals[x.self.variable].set(v)
	}
	return nil
}

// finals are the paths that may not change any more.
type finals struct {
	final    bool
	children map[tree.Term]*finals
}

func (f *finals) set(p tree.Path) {
	for _, t := range p.Terms {
		next := f.children[t]
		if next == nil {
			if f.children == nil {
				f.children = map[tree.Term]*finals{}
			}
			next = &finals{}
			f.children[t] = next
		}
		f = next
	}
	f.final = true
}

// check says why p may not be changed: it, a parent or a child of it is final.
func (f *finals) check(p tree.Path) *Error {
	if f.children == nil && !f.final {
		return nil
	}
	reason := func(at string) *Error {
		return evaluation(p.String() + " cannot be modified; " + at + " is marked as final")
	}
	at := ""
	for _, t := range p.Terms {
		if f = f.children[t]; f == nil {
			return nil
		}
		at += "/" + t.String()
		if f.final {
			return reason(at)
		}
	}
	if f.final {
		return evaluation("null")
	}
	if f.children == nil {
		return nil
	}
	for !f.final {
		var first tree.Term
		found := false
		for t := range f.children {
			if !found || t.Compare(first) < 0 {
				first, found = t, true
			}
		}
		at += "/" + first.String()
		f = f.children[first]
	}
	return reason(at)
}
