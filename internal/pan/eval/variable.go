package eval

import (
	"sync"

	"muster/internal/pan/syntax"
	"muster/internal/pan/tree"
)

// Symbols number the names of global variables, so that an object keeps its globals in a slice. The first are those that the
// compiler sets itself.
const (
	symObject = iota
	symLoadpath
	symTemplate
	symFunction
)

type symbols struct {
	mu    sync.RWMutex
	ids   map[string]int
	names []string
}

func newSymbols() *symbols {
	s := &symbols{ids: map[string]int{}}
	for _, n := range []string{"OBJECT", "LOADPATH", "TEMPLATE", "FUNCTION"} {
		s.id(n)
	}
	return s
}

// id is the number of a name, a new one for a new name.
func (s *symbols) id(name string) int {
	s.mu.RLock()
	id, ok := s.ids[name]
	s.mu.RUnlock()
	if ok {
		return id
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if id, ok = s.ids[name]; !ok {
		id = len(s.names)
		s.ids[name], s.names = id, append(s.names, name)
	}
	return id
}

func (s *symbols) lookup(name string) (int, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	id, ok := s.ids[name]
	return id, ok
}

func (s *symbols) name(id int) string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.names[id]
}

func (s *symbols) count() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.names)
}

// global is the place of a global variable; templates that are compiled while this object runs may bring new names.
func (x *exec) global(symbol int) *global {
	if symbol >= len(x.globals) {
		x.globals = append(x.globals, make([]global, max(symbol+1, x.build.symbols.count())-len(x.globals))...)
	}
	return &x.globals[symbol]
}

// globalValue is the value of a global variable, as a view; nil if there is none.
func (x *exec) globalValue(symbol int) tree.Value {
	if symbol >= len(x.globals) {
		return nil
	}
	if x.trace != nil && x.globals[symbol].value != nil {
		x.trace.read(symbol)
	}
	return tree.Protect(x.globals[symbol].value)
}

func (x *exec) hasGlobal(symbol int) bool {
	return symbol < len(x.globals) && x.globals[symbol].value != nil
}

// named is the value of the variable of this name, for substitute().
func (x *exec) named(name string) tree.Value {
	if x.unit != nil {
		if slot, ok := x.unit.names[name]; ok {
			if v := x.locals[x.base+slot]; v != nil {
				return v
			}
		}
	}
	return x.namedGlobal(name)
}

func (x *exec) namedGlobal(name string) tree.Value {
	if x.build == nil {
		return nil
	}
	if id, ok := x.build.symbols.lookup(name); ok {
		return x.globalValue(id)
	}
	return nil
}

// place is a variable that is not SELF: a slot of the frame, and the number of the global that shows through when the slot is empty.
type place struct {
	name   string
	slot   int
	symbol int
}

func (p *place) local(x *exec) tree.Value { return x.locals[x.base+p.slot] }

// value is the local or else the global variable; nil if there is neither.
func (p *place) value(x *exec) tree.Value {
	if v := x.locals[x.base+p.slot]; v != nil {
		return v
	}
	return x.globalValue(p.symbol)
}

// setLocal sets or (nil) removes the local variable; there may be no global of that name.
func (p *place) setLocal(x *exec, v tree.Value) *Error {
	if x.hasGlobal(p.symbol) {
		return globalFromDML(p.name)
	}
	return p.force(x, v)
}

// force is setLocal where the global has been looked for.
func (p *place) force(x *exec, v tree.Value) *Error {
	at := &x.locals[x.base+p.slot]
	old := *at
	*at = v
	if old != nil && v != nil {
		if err := tree.CheckReplacement(old, v); err != nil {
			return fromTree(err)
		}
	}
	return nil
}

func globalFromDML(name string) *Error {
	return evaluation("global variable '" + name + "' cannot be modified from DML block")
}

func notConstant(what string) string { return "invalid use of " + what + " in compile-time context" }

// terms evaluates subscripts.
func (x *exec) terms(index []op) ([]tree.Term, *Error) {
	terms := make([]tree.Term, len(index))
	for i, o := range index {
		v, err := o.eval(x)
		if err != nil {
			return nil, err
		}
		t, e := tree.TermOf(v)
		if e != nil {
			return nil, fromTree(e)
		}
		terms[i] = t
	}
	return terms, nil
}

func subscripts(name string, terms []tree.Term) string {
	for _, t := range terms {
		name += "[" + t.String() + "]"
	}
	return name
}

func undefined(x *exec, s syntax.Span, name string) *Error {
	return x.fail(s, "variable named '"+name+"' is undefined")
}

// variable is a reference to a variable or to a part of it. With asked set it is looked at by exists() and the like, and its absence
// is the value nil.
type variable struct {
	facts
	place
	index []op
	asked bool
}

func (o *variable) eval(x *exec) (tree.Value, *Error) {
	if len(o.index) == 0 {
		v := o.value(x)
		if v == nil && !o.asked {
			e := undefined(x, o.span, o.name)
			if x.constant {
				return nil, e
			}
			return nil, e.hinted("variable", o.name, x.variableNames()...)
		}
		return v, nil
	}
	terms, err := x.terms(o.index)
	if err != nil {
		return nil, x.at(o.span, err)
	}
	v, err := o.part(x, terms)
	if err != nil {
		return nil, x.at(o.span, err)
	}
	if v == nil && !o.asked {
		return nil, undefined(x, o.span, subscripts(o.name, terms))
	}
	return v, nil
}

// part is the value at terms below the variable. What comes out of a global is a copy.
func (o *variable) part(x *exec, terms []tree.Term) (tree.Value, *Error) {
	v := o.local(x)
	isGlobal := v == nil
	if isGlobal {
		v = x.globalValue(o.symbol)
	}
	switch v.(type) {
	case nil, tree.Undef:
		return nil, nil
	}
	v, e := o.get(v, terms)
	if e != nil {
		if _, term := e.(*tree.InvalidTermError); term && o.asked {
			return nil, nil
		}
		return nil, ofVariable(e, o.name)
	}
	if isGlobal && v != nil {
		return x.clone(v)
	}
	return v, nil
}

func (o *variable) get(v tree.Value, terms []tree.Term) (tree.Value, error) {
	if o.asked {
		return tree.Lookup(v, terms)
	}
	return tree.Get(v, terms)
}

// clone is a deep copy; that of a large value counts as work.
func (x *exec) clone(v tree.Value) (tree.Value, *Error) {
	r, ok := v.(tree.Resource)
	if !ok {
		return v, nil
	}
	if err := x.step(1 + r.Len()); err != nil {
		return nil, err
	}
	c, err := tree.Clone(v)
	if err != nil {
		return nil, fromTree(err)
	}
	return c, nil
}

// selfRef is SELF or a part of it.
type selfRef struct {
	facts
	index []op
	asked bool
}

func (o *selfRef) eval(x *exec) (tree.Value, *Error) {
	if x.constant {
		return nil, evaluationAt(o.span, notConstant("SELF"))
	}
	v, err := x.getSelf()
	if err != nil || len(o.index) == 0 {
		return v, err
	}
	var terms []tree.Term
	if _, undef := v.(tree.Undef); undef {
		v = nil
	} else {
		if terms, err = x.terms(o.index); err != nil {
			return nil, x.at(o.span, err)
		}
		var e error
		if v, e = tree.Get(v, terms); e != nil {
			if _, term := e.(*tree.InvalidTermError); !term || !o.asked {
				return nil, x.at(o.span, ofVariable(e, "SELF"))
			}
			v = nil
		}
	}
	if v == nil && !o.asked {
		return nil, undefined(x, o.span, subscripts("SELF", terms))
	}
	return v, nil
}

// set is the target of an assignment, and what delete(), first(), next() and foreach write to. SELF as a whole is none.
type set struct {
	facts
	place
	index  []op
	isSelf bool
}

func (o *set) eval(*exec) (tree.Value, *Error) {
	return nil, internal("invalid call to execute method of SetValue")
}

// assign sets the variable and gives what the assignment is worth: the value, or its copy where a copy was stored. nil removes it.
func (o *set) assign(x *exec, v tree.Value) (tree.Value, *Error) {
	if o.isSelf {
		return o.assignSelf(x, v)
	}
	if len(o.index) == 0 {
		if tree.Protected(v) {
			var err *Error
			if v, err = x.clone(v); err != nil {
				return nil, err
			}
		}
		if err := o.setLocal(x, v); err != nil {
			return nil, x.at(o.span, err)
		}
		return v, nil
	}
	terms, err := x.terms(o.index)
	if err != nil {
		return nil, x.at(o.span, err)
	}
	if v != nil {
		if v, err = x.clone(v); err != nil {
			return nil, err
		}
	}
	if err := o.assignPart(x, terms, v); err != nil {
		return nil, x.at(o.span, err)
	}
	return v, nil
}

func (o *set) assignPart(x *exec, terms []tree.Term, v tree.Value) *Error {
	if x.hasGlobal(o.symbol) {
		return globalFromDML(o.name)
	}
	whole := o.local(x)
	if tree.Protected(whole) {
		whole = tree.WritableCopy(whole)
		if err := o.force(x, whole); err != nil {
			return err
		}
	}
	switch whole.(type) {
	case nil, tree.Undef:
		whole = emptyFor(terms[0])
		if err := o.force(x, whole); err != nil {
			return err
		}
	}
	return putPart(whole, terms, v, o.name)
}

func emptyFor(t tree.Term) tree.Value {
	if t.IsKey() {
		return tree.NewDict(0)
	}
	return tree.NewList(0)
}

func putPart(whole tree.Value, terms []tree.Term, v tree.Value, name string) *Error {
	r, ok := whole.(tree.Resource)
	if !ok {
		return evaluation("cannot add child to element of type " + whole.Type())
	}
	if err := tree.Put(r, terms, v); err != nil {
		return ofVariable(err, name)
	}
	return nil
}

func (o *set) assignSelf(x *exec, v tree.Value) (tree.Value, *Error) {
	if x.constant {
		return nil, evaluationAt(o.span, notConstant("SetSelf"))
	}
	terms, err := x.terms(o.index)
	if err != nil {
		return nil, x.at(o.span, err)
	}
	worth := v
	if v != nil {
		if worth, err = x.clone(v); err != nil {
			return nil, err
		}
	}
	if err := x.selfModifiable(); err != nil {
		return nil, x.at(o.span, err)
	}
	whole, err := x.getSelf()
	if err != nil {
		return nil, x.at(o.span, err)
	}
	if tree.Protected(whole) {
		whole = tree.WritableCopy(whole)
		if err := x.setSelf(whole); err != nil {
			return nil, x.at(o.span, err)
		}
	}
	if _, undef := whole.(tree.Undef); undef {
		whole = emptyFor(terms[0])
		if err := x.setSelf(whole); err != nil {
			return nil, x.at(o.span, err)
		}
	}
	if err := putPart(whole, terms, v, "SELF"); err != nil {
		return nil, x.at(o.span, err)
	}
	return worth, nil
}

func (x *exec) selfModifiable() *Error {
	switch x.self.kind {
	case selfNone:
		return internal("SELF is not defined")
	case selfReadOnly, selfInvalid:
		return evaluation("cannot modify SELF from validation function")
	}
	return nil
}

// assignment is a = b = value.
type assignment struct {
	facts
	value   op
	targets []*set // in the order of work: the rightmost first
}

func (o *assignment) eval(x *exec) (tree.Value, *Error) {
	v, err := o.value.eval(x)
	if err != nil {
		return nil, err
	}
	for _, t := range o.targets {
		if v, err = t.assign(x, v); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// listVariable is the variable that append() and prepend() change: it is made, or made writable, as needed.
type listVariable struct {
	facts
	place
	index  []op
	isSelf bool
}

func (o *listVariable) what() string {
	what := "SimpleListVariable"
	if len(o.index) > 0 {
		what = "NestedListVariable"
	}
	if o.isSelf {
		what = "Self" + what
	}
	return what
}

func (o *listVariable) eval(x *exec) (tree.Value, *Error) {
	if o.isSelf && x.constant {
		return nil, evaluationAt(o.span, notConstant(o.what()))
	}
	var terms []tree.Term
	if len(o.index) > 0 {
		var err *Error
		if terms, err = x.terms(o.index); err != nil {
			return nil, x.at(o.span, err)
		}
	}
	whole, err := o.whole(x)
	if err != nil {
		return nil, err
	}
	if len(terms) == 0 {
		if _, ok := whole.(*tree.List); !ok {
			return nil, evaluationAt(o.span, "referenced variable of type "+whole.Type()+" is not a list")
		}
		return whole, nil
	}
	r, ok := whole.(tree.Resource)
	if !ok {
		return nil, evaluation("element of type '" + whole.Type() + "' cannot be dereferenced")
	}
	l, e := tree.GetList(r, terms)
	if e != nil {
		return nil, ofVariable(e, o.name)
	}
	return l, nil
}

// whole is the variable, writable; an empty list if there was nothing.
func (o *listVariable) whole(x *exec) (tree.Value, *Error) {
	var v tree.Value
	var err *Error
	if o.isSelf {
		if err := x.selfModifiable(); err != nil {
			return nil, x.at(o.span, err)
		}
		if v, err = x.getSelf(); err != nil {
			return nil, err
		}
	} else if v = o.local(x); v == nil {
		if x.constant {
			return nil, evaluationAt(o.span, notConstant(o.what()))
		}
		if x.hasGlobal(o.symbol) {
			return nil, evaluationAt(o.span, globalFromDML(o.name).Msg)
		}
	}
	switch v.(type) {
	case nil, tree.Undef, tree.Null:
		v = tree.NewList(0)
	default:
		if !tree.Protected(v) {
			return v, nil
		}
		v = tree.WritableCopy(v)
	}
	if o.isSelf {
		return v, x.setSelf(v)
	}
	return v, o.setLocal(x, v)
}
