package eval

import (
	"slices"

	"muster/internal/pan/syntax"
	"muster/internal/pan/tree"
)

// compiler turns the expressions of one template into operations. It folds constants where panc does, because a problem met then is
// one of syntax.
type compiler struct {
	symbols *symbols
	debug   bool           // debug() and traceback() are calls, not undef
	names   map[string]int // of the unit being compiled
}

// unitOf compiles an outermost block.
func (c *compiler) unitOf(compile func() (op, *Error)) (*unit, *Error) {
	outer := c.names
	c.names = map[string]int{}
	defer func() { c.names = outer }()
	body, err := compile()
	if err != nil {
		return nil, err
	}
	return &unit{body: body, names: c.names}, nil
}

// dmlUnit compiles a statement's DML.
func (c *compiler) dmlUnit(e syntax.Expr) (*unit, *Error) {
	return c.unitOf(func() (op, *Error) { return c.dml(e) })
}

// wrappedUnit is for defaults and validations: there panc keeps the DML operation also around a single one, so that its range
// completes errors.
func (c *compiler) wrappedUnit(e syntax.Expr) (*unit, *Error) {
	return c.unitOf(func() (op, *Error) {
		o, err := c.dml(e)
		if err != nil {
			return nil, err
		}
		if _, ok := o.(*sequence); ok {
			return o, nil
		}
		return &sequence{factsOf(dmlSpan(e), o), []op{o}}, nil
	})
}

// dmlSpan is the range of the DML operation around an expression.
func dmlSpan(e syntax.Expr) syntax.Span { return e.Span() }

// place is the slot and the symbol of a variable.
func (c *compiler) place(name string) place {
	slot, ok := c.names[name]
	if !ok {
		slot = len(c.names)
		c.names[name] = slot
	}
	return place{name: name, slot: slot, symbol: c.symbols.id(name)}
}

// dml compiles what stands where the grammar says dml: a block in a block becomes one, a single expression itself.
func (c *compiler) dml(e syntax.Expr) (op, *Error) {
	b, ok := e.(*syntax.Block)
	if !ok {
		return c.expr(e)
	}
	var list []op
	for _, e := range b.List {
		o, err := c.dml(e)
		if err != nil {
			return nil, err
		}
		if s, ok := o.(*sequence); ok {
			list = append(list, s.list...)
		} else {
			list = append(list, o)
		}
	}
	return &sequence{factsOf(b.Span(), list...), list}, nil
}

func (c *compiler) dmls(list []syntax.Expr) ([]op, *Error) {
	ops := make([]op, len(list))
	for i, e := range list {
		o, err := c.dml(e)
		if err != nil {
			return nil, err
		}
		ops[i] = o
	}
	return ops, nil
}

// restricted compiles subscripts or arguments, in which neither error() nor return() may stand.
func (c *compiler) restricted(list []syntax.Expr) ([]op, *Error) {
	ops := make([]op, len(list))
	for i, e := range list {
		o, err := c.dml(e)
		if err != nil {
			return nil, err
		}
		if err := o.known().restricted; err != nil {
			return nil, err.clone()
		}
		ops[i] = o
	}
	return ops, nil
}

func (c *compiler) expr(e syntax.Expr) (op, *Error) {
	switch e := e.(type) {
	case *syntax.StringLit:
		return &constant{value: tree.String(e.Value)}, nil
	case *syntax.LongLit:
		return &constant{value: tree.Long(e.Value)}, nil
	case *syntax.DoubleLit:
		return &constant{value: tree.Double(e.Value)}, nil
	case *syntax.BoolLit:
		return &constant{value: tree.Boolean(e.Value)}, nil
	case *syntax.NullLit:
		return &constant{value: tree.Null{}}, nil
	case *syntax.UndefLit:
		return &constant{value: tree.Undef{}}, nil
	case *syntax.Block:
		return c.dml(e)
	case *syntax.Group:
		return c.dml(e.X)
	case *syntax.Var:
		return c.variable(e)
	case *syntax.Call:
		return c.call(e)
	case *syntax.Unary:
		a, err := c.expr(e.X)
		if err != nil {
			return nil, err
		}
		return newUnary(e.Op, e.Span(), a)
	case *syntax.Binary:
		return c.binary(e)
	case *syntax.Set:
		return c.assignment(e)
	case *syntax.If:
		return c.ifElse(e)
	case *syntax.While:
		return c.while(e)
	case *syntax.For:
		ops, err := c.dmls([]syntax.Expr{e.Init, e.Cond, e.Step, e.Body})
		if err != nil {
			return nil, err
		}
		return &loop{factsOf(e.Span(), ops...), ops[0], ops[1], ops[2], ops[3]}, nil
	case *syntax.Foreach:
		return c.foreach(e)
	}
	return nil, internal("reached an impossible branch")
}

// binary compiles a chain of operators without recursion on its left side, which in generated templates can be long.
func (c *compiler) binary(e *syntax.Binary) (op, *Error) {
	var chain []*syntax.Binary
	var first syntax.Expr = e
	for {
		b, ok := first.(*syntax.Binary)
		if !ok {
			break
		}
		chain = append(chain, b)
		first = b.X
	}
	a, err := c.expr(first)
	if err != nil {
		return nil, err
	}
	for i := len(chain) - 1; i >= 0; i-- {
		b, err := c.expr(chain[i].Y)
		if err != nil {
			return nil, err
		}
		switch o := chain[i].Op; o {
		case syntax.And, syntax.Or:
			a, err = newLogical(o == syntax.Or, a, b)
		default:
			a, err = newBinary(o, a, b)
		}
		if err != nil {
			return nil, err.near(chain[i].OpSpan)
		}
	}
	return a, nil
}

func (c *compiler) variable(e *syntax.Var) (op, *Error) {
	index, err := c.restricted(e.Index)
	if err != nil {
		return nil, err
	}
	if e.Name == "SELF" {
		return newSelfRef(e.Span(), index, false), nil
	}
	return &variable{facts: factsOf(e.Span(), index...), place: c.place(e.Name), index: index}, nil
}

func newSelfRef(s syntax.Span, index []op, asked bool) *selfRef {
	o := &selfRef{facts: factsOf(s, index...), index: index, asked: asked}
	o.self = syntaxAt(s, "SELF cannot be used within include statement")
	return o
}

// target compiles what an assignment writes to.
func (c *compiler) target(e *syntax.Var) (*set, *Error) {
	index, err := c.restricted(e.Index)
	if err != nil {
		return nil, err
	}
	return c.newSet(e.Name, e.Span(), index)
}

func (c *compiler) newSet(name string, s syntax.Span, index []op) (*set, *Error) {
	switch name {
	case "OBJECT", "FUNCTION", "TEMPLATE":
		return nil, syntaxAt(s, "automatic variable ("+name+") may not be set directly")
	}
	for i, o := range index {
		if v, ok := constantOf(o); ok {
			if _, err := tree.TermOf(v); err != nil {
				return nil, syntaxAt(s, "index "+tree.FormatNumber(int64(i))+" is not a valid term")
			}
		}
	}
	o := &set{facts: factsOf(s, index...), index: index}
	if name == "SELF" {
		if len(index) == 0 {
			return nil, syntaxAt(s, "SELF variable may not be set directly")
		}
		o.isSelf = true
		o.self = syntaxAt(s, "SELF cannot be used within include statement")
		return o, nil
	}
	o.place = c.place(name)
	return o, nil
}

// setOf makes the target of a variable that a function writes to.
func (c *compiler) setOf(o op) (*set, bool, *Error) {
	switch o := o.(type) {
	case *variable:
		s, err := c.newSet(o.name, o.span, o.index)
		return s, true, err
	case *selfRef:
		s, err := c.newSet("SELF", o.span, o.index)
		return s, true, err
	}
	return nil, false, nil
}

// listOf makes the list variable of a variable that append or prepend changes.
func (c *compiler) listOf(o op) (op, bool) {
	switch o := o.(type) {
	case *variable:
		return &listVariable{facts: o.facts, place: o.place, index: o.index}, true
	case *selfRef:
		return &listVariable{facts: o.facts, place: place{name: "SELF"}, index: o.index, isSelf: true}, true
	}
	return nil, false
}

// askedOf makes the reference of a variable that a function only asks about.
func askedOf(o op) (op, bool) {
	switch o := o.(type) {
	case *variable:
		n := *o
		n.asked = true
		return &n, true
	case *selfRef:
		n := *o
		n.asked = true
		return &n, true
	}
	return nil, false
}

func (c *compiler) assignment(e *syntax.Set) (op, *Error) {
	v, err := c.expr(e.Value)
	if err != nil {
		return nil, err
	}
	o := &assignment{facts: factsOf(e.Span(), v), value: v}
	for i := len(e.Targets) - 1; i >= 0; i-- {
		t, err := c.target(e.Targets[i])
		if err != nil {
			return nil, err
		}
		o.targets = append(o.targets, t)
		o.facts = factsOf(e.Span(), o, t)
	}
	return o, nil
}

func (c *compiler) ifElse(e *syntax.If) (op, *Error) {
	cond, err := c.dml(e.Cond)
	if err != nil {
		return nil, err
	}
	then, err := c.dml(e.Then)
	if err != nil {
		return nil, err
	}
	var other op = &constant{value: tree.Undef{}}
	if e.Else != nil {
		if other, err = c.dml(e.Else); err != nil {
			return nil, err
		}
	}
	v, ok := constantOf(cond)
	if !ok {
		return &ifElse{factsOf(e.Span(), cond, then, other), cond, then, other}, nil
	}
	switch v {
	case tree.Boolean(true):
		return then, nil
	case tree.Boolean(false):
		return other, nil
	}
	return nil, syntaxAt(e.Span(), msgIfElse)
}

func (c *compiler) while(e *syntax.While) (op, *Error) {
	ops, err := c.dmls([]syntax.Expr{e.Cond, e.Body})
	if err != nil {
		return nil, err
	}
	if v, ok := constantOf(ops[0]); ok {
		switch v {
		case tree.Boolean(false):
			return &constant{value: tree.Undef{}}, nil
		case tree.Boolean(true):
		default:
			return nil, syntaxAt(e.Span(), msgLoop)
		}
	}
	return &loop{factsOf(e.Span(), ops...), nil, ops[0], nil, ops[1]}, nil
}

func (c *compiler) foreach(e *syntax.Foreach) (op, *Error) {
	k, err := c.target(e.Key)
	if err != nil {
		return nil, err
	}
	v, err := c.target(e.Value)
	if err != nil {
		return nil, err
	}
	ops, err := c.dmls([]syntax.Expr{e.In, e.Body})
	if err != nil {
		return nil, err
	}
	return &foreach{factsOf(e.Span(), k, v, ops[0], ops[1]), k, v, ops[0], ops[1]}, nil
}

func (c *compiler) call(e *syntax.Call) (op, *Error) {
	args, err := c.restricted(e.Args)
	if err != nil {
		return nil, err
	}
	if slices.Contains(syntax.AutomaticVariables, e.Name) {
		return nil, syntaxAt(e.Span(), e.Name+" cannot be used as a function")
	}
	made := builtinNamed(e.Name)
	if made == nil {
		return &invoke{factsOf(e.Span(), args...), e.Name, tree.String(e.Name), args}, nil
	}
	return made(c, &builtin{facts: factsOf(e.Span(), args...), name: e.Name, args: args})
}

// fold is the value that a unit has without any context; nil if it has none. An error is one that panc does not catch here.
func fold(u *unit) (tree.Value, *Error) {
	if o, ok := constantOf(u.body); ok {
		return o, nil
	}
	x := &exec{constant: true}
	v, err := x.block(u)
	switch {
	case err == nil:
		return v, nil
	case err.Class == Evaluation:
		return nil, nil
	}
	return nil, err
}
