package eval

import (
	"slices"
	"strings"
	"sync/atomic"

	"muster/internal/pan/java"
	"muster/internal/pan/syntax"
	"muster/internal/pan/tree"
)

// statement is a statement of a template, compiled.
type statement interface {
	run(x *exec) *Error
	where() syntax.Span
}

type located struct{ span syntax.Span }

func (l located) where() syntax.Span { return l.span }

// assignConstant is path = value where the value is known.
type assignConstant struct {
	located
	path        tree.Path
	value       tree.Value // a view
	conditional bool
	final       bool
}

func (s *assignConstant) run(x *exec) *Error {
	x.trace.begin()
	set := true
	if s.conditional {
		v, err := x.element(s.path)
		if err != nil {
			return x.at(s.span, err)
		}
		_, undef := v.(tree.Undef)
		set = v == nil || undef
	}
	if set {
		if err := x.checkFinal(s.path, s.span); err != nil {
			return err
		}
		if err := x.put(s.path, s.value); err != nil {
			return x.at(s.span, err)
		}
	}
	x.note(s.path, s.span, how(s.conditional, set), s.final)
	x.setFinal(s.path, s.final)
	return nil
}

// how is the operator of an assignment, and whether it came to nothing because there was a value.
func how(conditional, set bool) string {
	switch {
	case !conditional:
		return "="
	case set:
		return "?="
	}
	return "?= (was set)"
}

func (x *exec) checkFinal(p tree.Path, s syntax.Span) *Error {
	if p.Kind != tree.Absolute {
		return nil
	}
	if err := x.finals.check(p); err != nil {
		err.Span = s
		return x.at(s, err)
	}
	return nil
}

func (x *exec) setFinal(p tree.Path, final bool) {
	if final && p.Kind == tree.Absolute {
		x.finals.set(p)
	}
}

// remove is path = null.
type remove struct {
	located
	path        tree.Path
	conditional bool
	final       bool
}

func (s *remove) run(x *exec) *Error {
	if !s.conditional {
		if err := x.checkFinal(s.path, s.span); err != nil {
			return err
		}
		if err := x.put(s.path, nil); err != nil {
			return x.at(s.span, err)
		}
		x.trace.begin()
		x.note(s.path, s.span, "= null", s.final)
	}
	x.setFinal(s.path, s.final)
	return nil
}

// assign is path = dml.
type assign struct {
	located
	path        tree.Path
	unit        *unit
	conditional bool
	final       bool
}

func (s *assign) run(x *exec) *Error {
	if err := s.assign(x); err != nil {
		return x.at(s.span, err)
	}
	return nil
}

func (s *assign) assign(x *exec) *Error {
	x.trace.begin()
	old, err := x.element(s.path)
	if err != nil {
		return err
	}
	if old == nil {
		// so that the parents are there, whatever the block does
		if err := x.put(s.path, tree.Undef{}); err != nil {
			return err
		}
		old = tree.Undef{}
	}
	x.self = self{kind: selfPath, value: old, path: s.path}
	_, undef := old.(tree.Undef)
	if !undef {
		if err := x.checkFinal(s.path, s.span); err != nil {
			return err
		}
	}
	if !s.conditional || undef {
		v, err := x.block(s.unit)
		if err != nil {
			return err
		}
		if v != old {
			if v, err = x.clone(v); err != nil {
				return err
			}
		}
		if err := x.put(s.path, v); err != nil {
			return err
		}
	}
	x.note(s.path, s.span, how(s.conditional, !s.conditional || undef), s.final)
	x.setFinal(s.path, s.final)
	x.self = noSelf
	return nil
}

// noSelf is SELF where there is none.
var noSelf self

// setVariable is variable name = dml, or with a known value.
type setVariable struct {
	located
	name        string
	symbol      int
	value       tree.Value // a view; nil: unit gives it
	unit        *unit
	conditional bool
	final       bool
}

func (s *setVariable) run(x *exec) *Error {
	if err := s.set(x); err != nil {
		return x.at(s.span, err)
	}
	if s.symbol == symLoadpath {
		return x.setLoadpath()
	}
	return nil
}

func (s *setVariable) set(x *exec) *Error {
	g := x.global(s.symbol)
	if g.value == nil {
		g.value = tree.Undef{}
	}
	_, undef := g.value.(tree.Undef)
	if s.conditional && !undef {
		g.final = g.final || s.final
		return nil
	}
	v := s.value
	if v == nil {
		x.self = self{kind: selfVariable, value: g.value, variable: s.symbol}
		var err *Error
		if v, err = x.block(s.unit); err != nil {
			return err
		}
		g = x.global(s.symbol)
	}
	if err := g.set(v); err != nil {
		return err
	}
	g.final = s.final
	if s.value == nil {
		x.self = noSelf
	}
	x.noteVariable(s)
	return nil
}

// setLoadpath takes over what LOADPATH holds.
func (x *exec) setLoadpath() *Error {
	l, ok := x.globals[symLoadpath].value.(*tree.List)
	if !ok {
		return evaluation("LOADPATH variable must be a list")
	}
	dirs := []string{""}
	for _, v := range l.All() {
		s, ok := text(v)
		switch {
		case !ok:
			return evaluation("LOADPATH contains non-string value")
		case strings.HasPrefix(s, "/"):
			return evaluation("LOADPATH can only contain relative paths")
		}
		dirs = append(dirs, s)
	}
	x.load = x.build.sources.loadpath(dirs)
	return nil
}

// include is include dml; with a constant name the unit is nil.
type include struct {
	located
	name  string
	unit  *unit
	known atomic.Pointer[found]
}

func (s *include) run(x *exec) *Error {
	name := s.name
	if s.unit != nil {
		x.self = self{kind: selfInvalid}
		v, err := x.block(s.unit)
		if err != nil {
			return err
		}
		x.self = noSelf
		switch v := v.(type) {
		case tree.Null, tree.Undef:
			return nil
		case tree.String:
			name = string(v)
		default:
			return evaluation("DML block for computed include statement didn't evaluate to undef, null, or a string")
		}
		if !validInclude(name) {
			return evaluationAt(s.span, "invalid identifier for include: "+name)
		}
	}
	t, first, err := x.namedTemplate(name, &s.known)
	if err != nil {
		return x.at(s.span, err)
	}
	if from := x.template.Kind; !mayInclude(from, t.Kind) {
		return evaluationAt(s.span, from.String()+" template cannot include "+t.Kind.String()+" template")
	}
	if err := x.push(t, s.span); err != nil {
		return err
	}
	x.noteInclude(t, first)
	if err := t.run(x, first); err != nil {
		return err
	}
	x.pop()
	return nil
}

// mayInclude says which kinds of templates may include which.
func mayInclude(from, to syntax.Kind) bool {
	switch to {
	case syntax.Declaration:
		return true
	case syntax.Structure:
		return from == syntax.Structure
	case syntax.Ordinary, syntax.Unique:
		return from == syntax.Object || from == syntax.Ordinary || from == syntax.Unique
	}
	return false
}

// bind is bind path = type and valid path = dml. With a pattern the path is known only when it runs.
type bind struct {
	located
	path    tree.Path
	pattern string
	is      *fullType
}

func (s *bind) run(x *exec) *Error {
	p := s.path
	if s.pattern != "" {
		var err *Error
		if p, err = s.resolve(x); err != nil {
			return err
		}
	}
	if err := s.is.base.defined(x); err != nil {
		if err.Class == Evaluation && err.Span.IsZero() {
			err.Span, err.File, err.Trace = s.span, x.template.Shown, x.stack(s.span)
		}
		return err
	}
	i, found := slices.BinarySearchFunc(x.bindings, p, func(b binding, p tree.Path) int { return b.path.Compare(p) })
	if found {
		x.bindings[i].types = append(x.bindings[i].types, s.is)
		return nil
	}
	x.bindings = slices.Insert(x.bindings, i, binding{p, []*fullType{s.is}})
	return nil
}

func (s *bind) resolve(x *exec) (tree.Path, *Error) {
	var failed *Error
	r, e := java.Substitute(s.pattern, func(name string) (string, bool) {
		v := x.namedGlobal(name)
		if v == nil {
			failed = firstOf(failed, x.fail(s.span, "variable ("+name+") undefined in substitute()"))
			return "", false
		}
		s, err := x.show(v)
		failed = firstOf(failed, err)
		return s, err == nil
	})
	if failed == nil && e != nil {
		failed = evaluation(e.Error())
	}
	if failed != nil {
		// panc puts the whole message of one exception into another
		msg := failed.Msg
		if !failed.Span.IsZero() {
			msg = failed.Error()
		}
		return tree.Path{}, evaluationAt(s.span, msg)
	}
	p, e := tree.ParsePath(r)
	if e != nil {
		return tree.Path{}, evaluationAt(s.span, fromTree(e).Msg)
	}
	if p.Kind != tree.Absolute {
		return tree.Path{}, evaluationAt(s.span, "only absolute paths can be used with bind statements ("+p.String()+")")
	}
	return p, nil
}

// define is type name = type and function name = dml.
type define struct {
	located
	name string
	is   *fullType // or
	unit *unit
}

func (s *define) run(x *exec) *Error {
	if err := s.define(x); err != nil {
		return x.at(s.span, err)
	}
	return nil
}

func (s *define) define(x *exec) *Error {
	duplicate := func(what, place string) *Error {
		return evaluation("duplicate " + what + " definition: " + s.name + "\nprevious definition [" + place + "]\n")
	}
	if s.is == nil {
		if old := x.functions[s.name]; old != nil {
			return duplicate("function", old.template.Shown+":"+old.span.String())
		}
		x.functions[s.name] = &function{x.template, s.span, s.unit}
		return nil
	}
	if err := s.is.base.defined(x); err != nil {
		return err
	}
	if old := x.typeNamed(s.name); old != nil {
		return duplicate("type", old.place())
	}
	x.types[s.name] = s.is
	return nil
}

// statements compiles those of a file, each up to its first error.
func (c *compiler) statements(t *Template, f *syntax.File) []*Error {
	var errs []*Error
	prefix := prefixes{}
	for _, s := range f.Statements {
		if p, ok := s.(*syntax.Prefix); ok {
			if err := prefix.set(p); err != nil {
				errs = append(errs, err)
			}
			continue
		}
		compiled, err := c.statement(t, s, prefix.current)
		if err != nil {
			errs = append(errs, err.near(s.Span()))
			continue
		}
		if compiled != nil {
			t.all = append(t.all, compiled)
		}
	}
	return errs
}

// prefixes are what relative paths of assignments stand behind.
type prefixes struct {
	current  *tree.Path
	absolute *tree.Path // the last absolute one
}

func (p *prefixes) set(s *syntax.Prefix) *Error {
	p.current = nil
	if s.Path.Text == "" {
		return nil
	}
	path, err := parsePath(s.Path.Text, s.Span(), nil)
	if err != nil {
		return err
	}
	switch {
	case path.Kind == tree.Absolute:
		p.absolute = &path
	case p.absolute == nil:
		return syntaxAt(s.Span(), "given relative prefix ("+path.String()+") requires prior absolute prefix")
	case path.Kind == tree.Relative:
		if path, err = join2(*p.absolute, path, s.Span()); err != nil {
			return err
		}
	}
	p.current = &path
	return nil
}

func join2(prefix, path tree.Path, s syntax.Span) (tree.Path, *Error) {
	r, e := prefix.Join(path.Terms)
	if e != nil {
		return r, syntaxAt(s, fromTree(e).Msg)
	}
	return r, nil
}

// parsePath parses a path of a statement, behind a prefix if there is one.
func parsePath(text string, s syntax.Span, prefix *tree.Path) (tree.Path, *Error) {
	parse := tree.ParsePath
	if prefix != nil && len(prefix.Terms) > 0 {
		parse = tree.ParseTerms
	}
	p, e := parse(text)
	if e != nil {
		return p, syntaxAt(s, fromTree(e).Msg)
	}
	if prefix != nil && p.Kind == tree.Relative {
		return join2(*prefix, p, s)
	}
	return p, nil
}

func (c *compiler) statement(t *Template, s syntax.Statement, prefix *tree.Path) (statement, *Error) {
	at := located{s.Span()}
	switch s := s.(type) {
	case *syntax.Include:
		return c.include(s)
	case *syntax.Bind:
		is, err := c.fullType(t, s.Type)
		if err != nil {
			return nil, err
		}
		return newBind(s.Span(), s.Path.Text, is)
	case *syntax.Valid:
		u, err := c.dmlUnit(s.Body)
		if err != nil {
			return nil, err
		}
		// the type has no range of its own, and neither have most bodies
		return newBind(s.Span(), s.Path.Text, &fullType{template: t, span: bodySpan(s.Body), base: &alias{name: "element"}, with: u})
	case *syntax.Assign:
		return c.assign(s, prefix)
	case *syntax.Variable:
		return c.variableStatement(s)
	case *syntax.Type:
		is, err := c.fullType(t, s.Type)
		if err != nil {
			return nil, err
		}
		return &define{at, s.Name, is, nil}, nil
	case *syntax.Function:
		u, err := c.dmlUnit(s.Body)
		if err != nil {
			return nil, err
		}
		return &define{at, s.Name, nil, u}, nil
	}
	return nil, internal("reached an impossible branch")
}

// bodySpan is the range that panc gives the type of a valid statement: that of the DML node, which has none.
func bodySpan(syntax.Expr) syntax.Span { return syntax.Span{} }

func (c *compiler) include(s *syntax.Include) (statement, *Error) {
	u, err := c.dmlUnit(s.Body)
	if err != nil {
		return nil, err
	}
	if err := u.body.known().self; err != nil {
		return nil, err.clone()
	}
	v, err := fold(u)
	if err != nil {
		return nil, err
	}
	switch v := v.(type) {
	case nil:
		return &include{located: located{s.Span()}, unit: u}, nil
	case tree.Undef, tree.Null:
		return nil, nil
	case tree.String:
		if !validInclude(string(v)) {
			return nil, syntaxAt(s.Span(), "invalid identifier ("+string(v)+")")
		}
		return &include{located: located{s.Span()}, name: string(v)}, nil
	}
	return nil, syntaxAt(s.Span(), "DML block must evaluate to a string property, null, or undef")
}

func newBind(s syntax.Span, text string, is *fullType) (statement, *Error) {
	static := true
	if _, err := java.Substitute(text, func(string) (string, bool) { static = false; return "", true }); err != nil || !static {
		return &bind{located: located{s}, pattern: text, is: is}, nil
	}
	p, err := parsePath(text, s, nil)
	if err != nil {
		return nil, err
	}
	if p.Kind != tree.Absolute {
		return nil, syntaxAt(s, "only absolute paths can be used with bind statements ("+p.String()+")")
	}
	return &bind{located: located{s}, path: p, is: is}, nil
}

func (c *compiler) assign(s *syntax.Assign, prefix *tree.Path) (statement, *Error) {
	at := located{s.Span()}
	p, err := parsePath(s.Path.Text, s.Span(), prefix)
	if err != nil {
		return nil, err
	}
	u, err := c.dmlUnit(s.Body)
	if err != nil {
		return nil, err
	}
	v, err := fold(u)
	if err != nil {
		return nil, err
	}
	if p.Kind == tree.External {
		return nil, syntaxAt(s.Span(), "assignment cannot be made to an external path ("+p.String()+")")
	}
	switch v.(type) {
	case nil:
		return &assign{at, p, u, s.Conditional, s.Final}, nil
	case tree.Null:
		return &remove{at, p, s.Conditional, s.Final}, nil
	}
	return &assignConstant{at, p, tree.Protect(v), s.Conditional, s.Final}, nil
}

func (c *compiler) variableStatement(s *syntax.Variable) (statement, *Error) {
	u, err := c.dmlUnit(s.Body)
	if err != nil {
		return nil, err
	}
	v, err := fold(u)
	if err != nil {
		return nil, err
	}
	if slices.Contains(syntax.AutomaticVariables, s.Name) {
		return nil, syntaxAt(s.Span(), "automatic variable ("+s.Name+") may not be set directly")
	}
	r := &setVariable{located: located{s.Span()}, name: s.Name, symbol: c.symbols.id(s.Name), conditional: s.Conditional, final: s.Final}
	if v == nil {
		r.unit = u
	} else {
		r.value = tree.Protect(v)
	}
	return r, nil
}

// allowed checks what the kind of the template allows, and that nothing is defined twice.
func (c *compiler) allowed(t *Template) []*Error {
	var errs []*Error
	for _, s := range t.all {
		if msg := forbidden(t.Kind, s); msg != "" {
			errs = append(errs, syntaxAt(s.where(), msg))
		}
	}
	seen := map[string]syntax.Span{}
	for _, s := range t.all {
		d, ok := s.(*define)
		if !ok {
			continue
		}
		what := "function"
		if d.is != nil {
			what = "type"
		}
		if old, twice := seen[what+" "+d.name]; twice {
			errs = append(errs, syntaxAt(d.span, "duplicate "+what+" definition for "+d.name+"; previous definition at "+old.String()))
		}
		seen[what+" "+d.name] = d.span
	}
	return errs
}

func forbidden(k syntax.Kind, s statement) string {
	path, assigns := assigned(s)
	switch k {
	case syntax.Declaration:
		if assigns {
			return "statement not allowed in declaration template"
		}
	case syntax.Structure:
		switch s.(type) {
		case *setVariable, *bind, *define:
			return "only relative assigment and include statements are allowed in structure templates"
		}
		if assigns && path.Kind == tree.Absolute {
			return "structure templates can only contain assignments to relative paths"
		}
	default:
		if assigns && path.Kind == tree.Relative {
			return "ordinary, object, and unique templates can only contain assignments to absolute paths"
		}
	}
	return ""
}

func assigned(s statement) (tree.Path, bool) {
	switch s := s.(type) {
	case *assignConstant:
		return s.path, true
	case *remove:
		return s.path, true
	case *assign:
		return s.path, true
	}
	return tree.Path{}, false
}
