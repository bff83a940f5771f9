package eval

import (
	"slices"
	"strings"

	"muster/internal/pan/java"
	"muster/internal/pan/syntax"
	"muster/internal/pan/tree"
)

// Asked is what somebody wants to know of how a profile came about. The zero value asks nothing and costs nothing.
type Asked struct {
	Why      []tree.Path   // the history of these paths
	Vars     *java.Pattern // global variables at the end whose names hold this
	Includes bool          // each include, create() and what came of it
}

// Touch is one statement that had to do with a path that was asked about.
type Touch struct {
	Path   tree.Path // asked about
	Target tree.Path // of the statement: the path itself, a parent or a child
	What   string    // "=", "?=", "?= (was set)", "= null", "default"; with "final " before it
	File   string
	Span   syntax.Span
	Value  string   // at Path, behind the statement
	Set    bool     // there is one
	Reads  []string // global variables that the statement has read, sorted
	Calls  []string // from where: FILE:RANGE, the innermost first
}

// Variable is a global variable at the end.
type Variable struct {
	Name, Value string
	Final       bool
	Sets        []Place // each statement that has set it, in order
}

// Place is a statement.
type Place struct {
	File string
	Span syntax.Span
}

// Included is one include or create().
type Included struct {
	Depth   int // of the object template's own: 0
	Name    string
	Kind    syntax.Kind
	By      Place
	Ignored bool // it runs once only, and had run
}

// trace keeps what was asked. All its methods do nothing on nil.
type trace struct {
	Asked
	reads    map[int]bool
	sets     map[int][]Place
	touches  []Touch
	included []Included
}

func (b *build) newTrace() *trace {
	if a := b.asked; len(a.Why) == 0 && a.Vars == nil && !a.Includes {
		return nil
	}
	return &trace{Asked: b.asked, reads: map[int]bool{}, sets: map[int][]Place{}}
}

// read notes that a global was read.
func (t *trace) read(symbol int) {
	if t != nil {
		t.reads[symbol] = true
	}
}

// begin forgets what was read before this statement.
func (t *trace) begin() {
	if t != nil {
		clear(t.reads)
	}
}

// note tells that a statement had to do with a path.
func (x *exec) note(target tree.Path, s syntax.Span, what string, final bool) {
	if x.trace == nil || target.Kind != tree.Absolute {
		return
	}
	if final {
		what = "final " + what
	}
	x.touch(target, what, x.template.Shown, s)
}

// noteDefault tells that a default was put at a bound path or below it.
func (x *exec) noteDefault(target tree.Path, t *fullType) {
	if x.trace == nil {
		return
	}
	file := ""
	if t.template != nil {
		file = t.template.Shown
	}
	x.trace.begin()
	x.touch(target, "default", file, t.span)
}

func (x *exec) touch(target tree.Path, what, file string, s syntax.Span) {
	for _, asked := range x.trace.Why {
		n := min(len(asked.Terms), len(target.Terms))
		if !slices.Equal(asked.Terms[:n], target.Terms[:n]) {
			continue
		}
		t := Touch{Path: asked, Target: target, What: what, File: file, Span: s}
		if v, err := tree.Lookup(x.root, asked.Terms); err == nil && v != nil {
			t.Set = true
			t.Value, _ = tree.Text(v)
		}
		for symbol := range x.trace.reads {
			t.Reads = append(t.Reads, x.build.symbols.name(symbol))
		}
		slices.Sort(t.Reads)
		for i := len(x.calls) - 1; i >= 0; i-- {
			t.Calls = append(t.Calls, x.calls[i].template.Shown+":"+x.calls[i].span.String())
		}
		if what == "default" && x.trace.last(asked) == t.Value {
			continue // the default stands elsewhere below the bound path
		}
		x.trace.touches = append(x.trace.touches, t)
	}
}

// last is the value of a path when it was last touched, "" for none.
func (t *trace) last(p tree.Path) string {
	for i := len(t.touches) - 1; i >= 0; i-- {
		if t.touches[i].Path.Equal(p) {
			return t.touches[i].Value
		}
	}
	return ""
}

// noteVariable tells that a statement has set a global.
func (x *exec) noteVariable(s *setVariable) {
	if x.trace != nil {
		x.trace.sets[s.symbol] = append(x.trace.sets[s.symbol], Place{x.template.Shown, s.span})
	}
}

// noteInclude tells that a template is entered; the call is on the stack already.
func (x *exec) noteInclude(t *Template, first bool) {
	if x.trace == nil || !x.trace.Includes {
		return
	}
	by := x.calls[len(x.calls)-1]
	once := t.Kind == syntax.Unique || t.Kind == syntax.Declaration
	x.trace.included = append(x.trace.included, Included{len(x.calls), t.Name, t.Kind, Place{by.template.Shown, by.span}, once && !first})
}

// Touches are the answer to Asked.Why, in the order of what happened.
func (r *Result) Touches() []Touch {
	if r.x == nil || r.x.trace == nil {
		return nil
	}
	return r.x.trace.touches
}

// Included are the answer to Asked.Includes, in the order of what happened.
func (r *Result) Included() []Included {
	if r.x == nil || r.x.trace == nil {
		return nil
	}
	return r.x.trace.included
}

// Variables are the answer to Asked.Vars, by name.
func (r *Result) Variables() []Variable {
	if r.x == nil || r.x.trace == nil || r.x.trace.Vars == nil {
		return nil
	}
	var all []Variable
	for symbol, g := range r.x.globals {
		if g.value == nil {
			continue
		}
		name := r.x.build.symbols.name(symbol)
		if ok, err := r.x.trace.Vars.Match(name); err != nil || !ok {
			continue
		}
		text, _ := tree.Text(g.value)
		all = append(all, Variable{name, text, g.final, r.x.trace.sets[symbol]})
	}
	slices.SortFunc(all, func(a, b Variable) int { return strings.Compare(a.Name, b.Name) })
	return all
}
