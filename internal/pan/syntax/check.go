package syntax

import (
	"errors"
	"path"
	"slices"
	"strings"

	"muster/internal/pan/tree"
)

// Check is what panc's second pass finds in a template without evaluating anything: paths, prefixes, names that may not be set or called,
// statements that this kind of template may not have, and double definitions. It sets the Place of each path and the Key of each field.
// The template is to be free of parse errors. The errors are in the order in which panc would meet them.
//
// Left to the evaluator, because folding decides it: arguments of built-in functions, constant subscripts, error() and return() in
// arguments and subscripts, SELF and the name in an include, and defaults.
func Check(f *File) []*Error {
	c := checker{file: f}
	for c.stmt = range f.Statements {
		c.statement(f.Statements[c.stmt])
	}
	c.stmt = len(f.Statements)
	c.template()
	return c.errs
}

type checker struct {
	file     *File
	stmt     int
	errs     []*Error
	prefix   *tree.Path // that holds now; nil: none
	absolute *tree.Path // the last absolute one, which a relative one begins at
}

func (c *checker) fail(n Node, span Span, message string) {
	c.errs = append(c.errs, &Error{Class: SyntaxError, File: c.file.Path, Span: span, Message: message, Node: n, Stmt: c.stmt})
}

// parsed reads a path; an index may be first where a prefix comes before it.
func (c *checker) parsed(p *Path, s Statement, indexFirst bool) bool {
	parse := tree.ParsePath
	if indexFirst {
		parse = tree.ParseTerms
	}
	place, err := parse(p.Text)
	if err != nil {
		c.fail(p, s.Span(), err.Error())
		return false
	}
	p.Place = place
	return true
}

func (c *checker) statement(s Statement) {
	switch s := s.(type) {
	case *Include:
		c.expr(s.Body)
	case *Prefix:
		c.setPrefix(s)
	case *Valid:
		c.expr(s.Body)
		c.bound(&s.Path, s)
	case *Bind:
		c.fullType(s.Type)
		c.bound(&s.Path, s)
	case *Assign:
		c.assign(s)
	case *Variable:
		c.expr(s.Body)
		if slices.Contains(AutomaticVariables, s.Name) {
			c.fail(s, s.span, "automatic variable ("+s.Name+") may not be set directly")
		}
	case *Type:
		c.fullType(s.Type)
	case *Function:
		c.expr(s.Body)
	}
}

func (c *checker) setPrefix(s *Prefix) {
	if s.Path.Text == "" {
		c.prefix = nil
		return
	}
	if !c.parsed(&s.Path, s, false) {
		return
	}
	place := &s.Path.Place
	switch {
	case place.Kind == tree.Absolute:
		c.absolute = place
	case c.absolute == nil:
		c.fail(s, s.span, "given relative prefix ("+place.String()+") requires prior absolute prefix")
		return
	case place.Kind == tree.Relative:
		*place, _ = c.absolute.Join(place.Terms)
	}
	c.prefix = place
}

func (c *checker) assign(s *Assign) {
	ok := c.parsed(&s.Path, s, c.prefix != nil && len(c.prefix.Terms) > 0)
	place := &s.Path.Place
	if ok && c.prefix != nil && place.Kind == tree.Relative {
		joined, err := c.prefix.Join(place.Terms)
		if err != nil {
			c.fail(&s.Path, s.span, err.Error())
			ok = false
		}
		*place = joined
	}
	c.expr(s.Body)
	if ok && place.Kind == tree.External {
		c.fail(s, s.span, "assignment cannot be made to an external path ("+place.String()+")")
	}
}

// bound is the path of a bind or valid.
func (c *checker) bound(p *Path, s Statement) {
	if p.Dynamic = isDynamic(p.Text); p.Dynamic {
		return
	}
	if c.parsed(p, s, false) && p.Place.Kind != tree.Absolute {
		c.fail(s, s.Span(), "only absolute paths can be used with bind statements ("+p.Place.String()+")")
	}
}

// isDynamic says whether substitution would look a variable up: there is ${…}, and not $${…}.
func isDynamic(s string) bool {
	for i := 0; ; i += 2 {
		next := strings.Index(s[i:], "${")
		if next < 0 {
			return false
		}
		if i += next; (i == 0 || s[i-1] != '$') && strings.Contains(s[i:], "}") {
			return true
		}
	}
}

func (c *checker) fullType(t *FullType) {
	for i := range t.Type.Base.Fields {
		field := &t.Type.Base.Fields[i]
		if field.Include == "" {
			c.key(field)
			c.fullType(field.Type)
		}
	}
	if t.Default != nil {
		c.expr(t.Default)
	}
	if t.With != nil {
		c.expr(t.With)
	}
}

func (c *checker) key(field *Field) {
	place, err := tree.ParsePath(field.Path.Text)
	var problem *tree.Error
	switch {
	case errors.As(err, &problem) && problem.Class == tree.Evaluation:
		c.fail(&field.Path, field.span, "field name ("+field.Path.Text+") must be a valid path")
	case err != nil:
		c.fail(&field.Path, field.span, err.Error())
	case len(place.Terms) != 1:
		c.fail(&field.Path, field.span, "field name ("+field.Path.Text+") must be a valid term")
	default:
		field.Path.Place, field.Key = place, place.Terms[0].Key()
	}
}

// expr checks an expression in the order in which panc makes operations of it.
func (c *checker) expr(x Expr) {
	for sub := range Operands(x) {
		if v, ok := sub.(*Var); ok && IsTarget(x, v) {
			c.target(v)
		} else {
			c.expr(sub)
		}
	}
	if call, ok := x.(*Call); ok && slices.Contains(AutomaticVariables, call.Name) {
		c.fail(x, call.span, call.Name+" cannot be used as a function")
	}
}

// target checks a variable that is set.
func (c *checker) target(v *Var) {
	for _, index := range v.Index {
		c.expr(index)
	}
	switch v.Name {
	case "OBJECT", "FUNCTION", "TEMPLATE":
		c.fail(v, v.span, "automatic variable ("+v.Name+") may not be set directly")
	case "SELF":
		if len(v.Index) == 0 {
			c.fail(v, v.span, "SELF variable may not be set directly")
		}
	}
}

// template checks what panc looks at when it has all statements.
func (c *checker) template() {
	f := c.file
	extension := path.Ext(f.Path)
	switch {
	case extension != ".pan" && extension != ".tpl", !tree.ValidTemplateName(f.Name):
		c.fail(nil, f.span, "invalid template name ("+f.Name+")")
	case !strings.HasSuffix("/"+f.Path, "/"+f.Name+extension):
		c.fail(nil, f.span, "misplaced or misnamed template; relative directory and name must match '"+f.Name+"'")
	}
	for _, s := range f.Statements {
		if problem := misplaced(f.Kind, s); problem != "" {
			c.fail(nil, s.Span(), problem)
		}
	}
	types, functions := map[string]Span{}, map[string]Span{}
	for _, s := range f.Statements {
		switch s := s.(type) {
		case *Type:
			c.once(types, "type", s.Name, s.span)
		case *Function:
			c.once(functions, "function", s.Name, s.span)
		}
	}
}

// misplaced says why a statement may not stand in a template of this kind; "" when it may.
func misplaced(k Kind, s Statement) string {
	assign, isAssign := s.(*Assign)
	switch k {
	case Declaration:
		if isAssign {
			return "statement not allowed in declaration template"
		}
	case Structure:
		switch s.(type) {
		case *Variable, *Bind, *Valid, *Function, *Type:
			return "only relative assigment and include statements are allowed in structure templates"
		}
		if isAssign && assign.Path.Place.Kind == tree.Absolute {
			return "structure templates can only contain assignments to relative paths"
		}
	default:
		if isAssign && assign.Path.Place.Kind == tree.Relative && assign.Path.Place.Terms != nil {
			return "ordinary, object, and unique templates can only contain assignments to absolute paths"
		}
	}
	return ""
}

func (c *checker) once(seen map[string]Span, what, name string, span Span) {
	if before, twice := seen[name]; twice {
		c.fail(nil, span, "duplicate "+what+" definition for "+name+"; previous definition at "+before.String())
	}
	seen[name] = span
}

// Sort brings the syntax errors of one template into the order in which panc would have met them, so that the first is panc's. Two of one
// statement are ordered by their Node: an error of a node comes behind those of the nodes inside of it.
func Sort(f *File, errs []*Error) {
	orders := map[int]map[Node]int{}
	slices.SortStableFunc(errs, func(a, b *Error) int {
		if a.Stmt != b.Stmt || a.Stmt >= len(f.Statements) {
			return a.Stmt - b.Stmt
		}
		order := orders[a.Stmt]
		if order == nil {
			order = map[Node]int{}
			number(order, f.Statements[a.Stmt])
			orders[a.Stmt] = order
		}
		return order[a.Node] - order[b.Node]
	})
}

// number counts the nodes of a statement in panc's order.
func number(order map[Node]int, s Statement) {
	var expr func(Expr)
	expr = func(x Expr) {
		for sub := range Operands(x) {
			expr(sub)
		}
		order[x] = len(order)
	}
	var fullType func(*FullType)
	fullType = func(t *FullType) {
		for i := range t.Type.Base.Fields {
			if field := &t.Type.Base.Fields[i]; field.Include == "" {
				order[&field.Path] = len(order)
				fullType(field.Type)
			}
		}
		if t.Default != nil {
			expr(t.Default)
		}
		if t.With != nil {
			expr(t.With)
		}
		order[t] = len(order)
	}
	switch s := s.(type) {
	case *Include:
		expr(s.Body)
	case *Valid:
		expr(s.Body)
		order[&s.Path] = len(order)
	case *Bind:
		fullType(s.Type)
		order[&s.Path] = len(order)
	case *Assign:
		order[&s.Path] = len(order)
		expr(s.Body)
	case *Variable:
		expr(s.Body)
	case *Type:
		fullType(s.Type)
	case *Function:
		expr(s.Body)
	}
	order[s] = len(order)
}
