package lint

import "muster/internal/pan/syntax"

func all(list []*template, yes func(*template) bool) bool {
	for _, t := range list {
		if !yes(t) {
			return false
		}
	}
	return true
}

// unused says whether all that a template and those that it includes do is to define names, and no other template uses one of them.
func (l *Library) unused(name string) bool {
	within := map[*template]bool{}
	defines := map[string]bool{}
	if !l.definesOnly(name, within, defines) || len(defines) == 0 {
		return false
	}
	for _, list := range l.templates {
		for _, t := range list {
			if within[t] {
				continue
			}
			for n := range defines {
				if t.uses[n] {
					return false
				}
			}
		}
	}
	return true
}

// definesOnly collects what templates of a name define; it is false when they do anything else.
func (l *Library) definesOnly(name string, within map[*template]bool, defines map[string]bool) bool {
	list := l.templates[name]
	if len(list) == 0 {
		return false
	}
	for _, t := range list {
		if within[t] {
			continue
		}
		within[t] = true
		if t.acts || t.dynamic {
			return false
		}
		for n := range t.defines {
			defines[n] = true
		}
		for _, i := range t.includes {
			if !l.definesOnly(i, within, defines) {
				return false
			}
		}
	}
	return true
}

// nameKind is what a name is the name of.
type nameKind uint8

const (
	aVariable nameKind = iota
	aFunction
	aType
)

// name is the use of one.
type name struct {
	kind nameKind
	name string
	span syntax.Span
}

// names are the functions, types and global variables that a template uses. Variables that are set anywhere in the same piece of DML are
// its own, and those that the template asks whether they exist need not.
func names(f *syntax.File) []name {
	c := collector{asked: map[string]bool{}}
	for _, s := range f.Statements {
		switch s := s.(type) {
		case *syntax.Include:
			c.dml(s.Body)
		case *syntax.Valid:
			c.dml(s.Body)
		case *syntax.Bind:
			c.fullType(s.Type)
		case *syntax.Assign:
			c.dml(s.Body)
		case *syntax.Variable:
			c.dml(s.Body)
		case *syntax.Type:
			c.fullType(s.Type)
		case *syntax.Function:
			c.dml(s.Body)
		}
	}
	kept := c.found[:0]
	for _, n := range c.found {
		if n.kind != aVariable || !c.asked[n.name] {
			kept = append(kept, n)
		}
	}
	return kept
}

type collector struct {
	found []name
	asked map[string]bool
	own   map[string]bool // of the DML that is being read
}

func (c *collector) use(kind nameKind, n string, span syntax.Span) {
	c.found = append(c.found, name{kind, n, span})
}

func (c *collector) fullType(t *syntax.FullType) {
	base := &t.Type.Base
	if !base.Record && base.Choices == nil {
		c.use(aType, base.Name, base.Span())
	}
	for _, field := range base.Fields {
		if field.Include != "" {
			c.use(aType, field.Include, field.Span())
		} else {
			c.fullType(field.Type)
		}
	}
	if t.Default != nil {
		c.dml(t.Default)
	}
	if t.With != nil {
		c.dml(t.With)
	}
}

// dml is a whole piece, which has variables of its own.
func (c *collector) dml(x syntax.Expr) {
	c.own = map[string]bool{}
	c.sets(x)
	c.reads(x)
}

// setBy are the arguments that a function sets, if they are variables.
var setBy = map[string][]int{"append": {0}, "prepend": {0}, "delete": {0}, "first": {1, 2}, "next": {1, 2}}

func (c *collector) sets(x syntax.Expr) {
	for sub := range syntax.Operands(x) {
		if v, ok := sub.(*syntax.Var); ok && syntax.IsTarget(x, v) {
			c.own[v.Name] = true
		}
		c.sets(sub)
	}
	if call, ok := x.(*syntax.Call); ok {
		for _, i := range setBy[call.Name] {
			if v, ok := variable(call, i); ok {
				c.own[v.Name] = true
			}
		}
	}
}

func variable(call *syntax.Call, i int) (*syntax.Var, bool) {
	if i >= len(call.Args) {
		return nil, false
	}
	v, ok := call.Args[i].(*syntax.Var)
	return v, ok
}

// asks are the functions whose argument need not have a value.
var asks = map[string]bool{
	"exists": true, "is_boolean": true, "is_defined": true, "is_dict": true, "is_double": true, "is_list": true, "is_long": true,
	"is_nlist": true, "is_null": true, "is_number": true, "is_property": true, "is_resource": true, "is_string": true,
}

func (c *collector) reads(x syntax.Expr) {
	switch x := x.(type) {
	case *syntax.Var:
		if !c.own[x.Name] {
			c.use(aVariable, x.Name, x.Span())
		}
	case *syntax.Call:
		c.use(aFunction, x.Name, x.Span())
		v, isVariable := variable(x, 0)
		switch {
		case isVariable && asks[x.Name]:
			c.asked[v.Name] = true
		case isVariable && x.Name == "is_valid":
			c.use(aType, v.Name, v.Span())
			for _, arg := range x.Args[1:] {
				c.reads(arg)
			}
			return
		}
	}
	for sub := range syntax.Operands(x) {
		c.reads(sub)
	}
}
