// Package lint says of Pan templates what is allowed and most likely wrong or old-fashioned. It looks at the text only: nothing is
// executed, no file is read.
//
//	all templates ──Add──▶ Library ──Check(one of them)──▶ findings, each with its place
//
// What a template means depends on who includes it, so a Library is to know all templates of a load path: a name counts as defined when
// any of them defines it. That finds what can work in no way, and is silent about what may work.
package lint

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"

	"muster/internal/pan/syntax"
	"muster/internal/pan/tree"
)

// Rule is the name of a kind of finding.
type Rule string

// The rules.
const (
	UndeclaredVariable Rule = "undeclared-variable" // read, and set neither here nor as a global anywhere
	UndefinedFunction  Rule = "undefined-function"
	UndefinedType      Rule = "undefined-type"
	MissingInclude     Rule = "missing-include"  // no template has that name
	RepeatedInclude    Rule = "repeated-include" // of a template that runs once, for the second time
	UnusedInclude      Rule = "unused-include"   // of a template that only defines names, none of which is used
	Deprecated         Rule = "deprecated"
)

// Finding is one thing to look at. Span is where; it begins on line 1 for what concerns the file.
type Finding struct {
	File    string
	Span    syntax.Span
	Rule    Rule
	Message string
}

// Library is what is known of all templates. The zero value is empty and ready.
type Library struct {
	variables, functions, types map[string]bool
	templates                   map[string][]*template // by name: directories of a load path may have the same
}

// template is what a Library keeps of one of them.
type template struct {
	kind     syntax.Kind
	includes []string        // those with a constant name
	defines  map[string]bool // names of functions, types and variables
	uses     map[string]bool // likewise
	acts     bool            // it does more than to define names
	dynamic  bool            // it includes what only a run can tell
}

// Add makes a template known, which is to be free of errors.
func (l *Library) Add(f *syntax.File) {
	if l.templates == nil {
		l.variables, l.functions, l.types = map[string]bool{}, map[string]bool{}, map[string]bool{}
		l.templates = map[string][]*template{}
	}
	t := &template{kind: f.Kind, defines: map[string]bool{}, uses: map[string]bool{}}
	for _, s := range f.Statements {
		switch s := s.(type) {
		case *syntax.Include:
			if name, ok := constant(s.Body); ok {
				t.includes = append(t.includes, name)
			} else {
				t.dynamic = true
			}
		case *syntax.Variable:
			l.variables[s.Name] = true
			t.defines[s.Name] = true
		case *syntax.Function:
			l.functions[s.Name] = true
			t.defines[s.Name] = true
		case *syntax.Type:
			l.types[s.Name] = true
			t.defines[s.Name] = true
		default:
			t.acts = true
		}
	}
	for _, n := range names(f) {
		t.uses[n.name] = true
	}
	l.templates[f.Name] = append(l.templates[f.Name], t)
}

// constant is the name that an include has when it is a string.
func constant(x syntax.Expr) (string, bool) {
	switch x := x.(type) {
	case *syntax.StringLit:
		return x.Value, true
	case *syntax.Group:
		return constant(x.X)
	}
	return "", false
}

// Check is what there is to say of a template that was added, in the order of its text.
func (l *Library) Check(f *syntax.File) []Finding {
	c := checker{Library: l, file: f}
	if strings.HasSuffix(f.Path, ".tpl") {
		c.add(f.Span(), Deprecated, "template files are to end in .pan; .tpl will not be read by version 11 of Pan")
	}
	c.names()
	c.includes()
	for _, s := range f.Statements {
		if p := pathOf(s); p != nil && reserved(p.Place) {
			c.add(p.Span(), Deprecated, "/panc is reserved from version 11 of Pan on; use another path")
		}
	}
	slices.SortStableFunc(c.found, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Span.Line, b.Span.Line), cmp.Compare(a.Span.Col, b.Span.Col))
	})
	return c.found
}

type checker struct {
	*Library
	file  *syntax.File
	found []Finding
}

func (c *checker) add(span syntax.Span, rule Rule, message string) {
	c.found = append(c.found, Finding{c.file.Path, span, rule, message})
}

func pathOf(s syntax.Statement) *syntax.Path {
	switch s := s.(type) {
	case *syntax.Assign:
		return &s.Path
	case *syntax.Bind:
		return &s.Path
	case *syntax.Valid:
		return &s.Path
	}
	return nil
}

func reserved(p tree.Path) bool {
	return p.Kind == tree.Absolute && len(p.Terms) > 0 && p.Terms[0].Key() == "panc"
}

// renamed are the old names of functions and types, with the new ones.
var renamed = map[string]string{"nlist": "dict", "is_nlist": "is_dict"}

// names looks at what the template uses.
func (c *checker) names() {
	for _, n := range names(c.file) {
		var defined map[string]bool
		var builtin []string
		var rule Rule
		var what string
		switch n.kind {
		case aVariable:
			defined, builtin, rule, what = c.variables, variables, UndeclaredVariable, "sets a variable"
		case aFunction:
			defined, builtin, rule, what = c.functions, syntax.Functions, UndefinedFunction, "defines a function"
		case aType:
			defined, builtin, rule, what = c.types, syntax.Types, UndefinedType, "defines a type"
		}
		switch now := renamed[n.name]; {
		case defined[n.name]:
		case !slices.Contains(builtin, n.name):
			c.add(n.span, rule, "no template "+what+" "+n.name+meant(n.name, maps.Keys(defined), slices.Values(builtin)))
		case now != "":
			c.add(n.span, Deprecated, n.name+" is now "+now)
		}
	}
}

// variables are those that no template has to set.
var variables = append([]string{"LOADPATH"}, syntax.AutomaticVariables...)

// meant is what somebody may have meant who wrote word, as the end of a message.
func meant(word string, candidates ...iter.Seq[string]) string {
	if near := syntax.Nearest(word, candidates...); near != "" {
		return "; did you mean " + near + "?"
	}
	return ""
}

// includes looks at the includes with a constant name.
func (c *checker) includes() {
	first := map[string]syntax.Span{}
	for _, s := range c.file.Statements {
		if v, ok := s.(*syntax.Variable); ok && v.Name == "LOADPATH" {
			clear(first) // the same name may be another template now
		}
		s, ok := s.(*syntax.Include)
		if !ok {
			continue
		}
		name, ok := constant(s.Body)
		if !ok {
			continue
		}
		targets := c.templates[name]
		before, again := first[name]
		switch {
		case len(targets) == 0:
			c.add(s.Span(), MissingInclude, "no template is called "+name+meant(name, maps.Keys(c.templates)))
		case again && all(targets, runsOnce):
			c.add(s.Span(), RepeatedInclude, name+" was included on line "+strconv.Itoa(int(before.Line))+", and runs once only")
		case !again && c.unused(name):
			c.add(s.Span(), UnusedInclude, name+" only defines names, and no template uses one of them")
		}
		if !again {
			first[name] = s.Span()
		}
	}
}

func runsOnce(t *template) bool { return t.kind == syntax.Unique || t.kind == syntax.Declaration }
