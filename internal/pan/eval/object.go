package eval

import (
	"context"
	"crypto/sha256"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"

	"muster/internal/pan/java"
	"muster/internal/pan/syntax"
	"muster/internal/pan/tree"
)

// Warnings says what deprecated() does.
type Warnings uint8

// What deprecated() does: print, nothing, or fail.
const (
	WarningsOn Warnings = iota
	WarningsOff
	WarningsFatal
)

// Limits bound what a program may do. Zero means panc's default for the first two, and no limit for Steps.
type Limits struct {
	Iteration int   // of one while or for loop: 10,000
	Recursion int   // of includes, function calls and create() within each other: 50; at most 100,000, for which the stack suffices
	Steps     int64 // of one object: rounds of loops, calls, values copied, 64 bytes of string each
}

// Config is what the execution of objects needs to know.
type Config struct {
	FS           fs.FS
	Include      []Dir
	Limits       Limits
	Warnings     Warnings
	DebugInclude *java.Pattern // of the names of templates in which debug() and traceback() work
	DebugExclude *java.Pattern // of those in which they do not, before that
	Initial      string        // DML of the dict that each profile starts with
	Asked        Asked         // what to remember
}

// build is what all objects of one compiler share: sources, templates and the objects themselves.
type build struct {
	sources   *sources
	symbols   *symbols
	patterns  java.Cache
	limits    Limits
	warnings  Warnings
	include   *java.Pattern
	exclude   *java.Pattern
	initial   tree.Value
	asked     Asked
	templates templates

	generation int // of the files; a new one after Forget

	mu      sync.Mutex
	objects map[string]*object
	waits   map[string]string // of an object that is built the object that it refers to
	found   func(name string) // told of each object template that was compiled
}

// Build executes and validates objects. Its methods may be called by several goroutines.
type Build struct{ build }

// New makes a Build. An error is one of Config.Initial.
func New(c Config) (*Build, *Error) {
	b := &Build{build{
		sources: newSources(c.FS, c.Include), symbols: newSymbols(), limits: c.Limits, warnings: c.Warnings,
		include: c.DebugInclude, exclude: c.DebugExclude, asked: c.Asked,
		templates: templates{files: map[string]*parsed{}},
		objects:   map[string]*object{}, waits: map[string]string{},
	}}
	if b.limits.Iteration <= 0 {
		b.limits.Iteration = 10_000
	}
	if b.limits.Recursion <= 0 {
		b.limits.Recursion = 50
	}
	b.limits.Recursion = min(b.limits.Recursion, 100_000)
	if strings.TrimSpace(c.Initial) == "" {
		return b, nil
	}
	var err *Error
	b.initial, err = b.initialData(c.Initial)
	return b, err
}

// initialData folds the DML of --initial-data.
func (b *build) initialData(text string) (tree.Value, *Error) {
	const name = "initial"
	f, bad := syntax.Parse("?", []byte("object template "+name+";\nvariable X = "+text+"\n;"))
	wrong := func(msg string) *Error {
		return syntaxAt(noSpan, "syntax error when evaluating root element: "+msg)
	}
	if len(bad) > 0 {
		return nil, wrong(bad[0].Message)
	}
	v, ok := f.Statements[0].(*syntax.Variable)
	if !ok || len(f.Statements) != 1 {
		return nil, wrong("one expression is needed")
	}
	u, err := (&compiler{symbols: b.symbols}).dmlUnit(v.Body)
	if err != nil {
		return nil, wrong(err.Error())
	}
	value, err := fold(u)
	if err != nil {
		return nil, wrong(err.Error())
	}
	if value == nil {
		return nil, wrong("it is not a constant")
	}
	if _, ok := value.(*tree.Dict); !ok {
		return nil, syntaxAt(noSpan, "root element must be an nlist, not "+value.Type())
	}
	return tree.Protect(value), nil
}

// debug says whether debug() and traceback() work in a template.
func (b *build) debug(template string) bool {
	whole := func(p *java.Pattern) bool {
		if p == nil {
			return false
		}
		m, err := p.Find(template)
		return err == nil && m != nil && m[0] == 0 && m[1] == java.Length(template)
	}
	return !whole(b.exclude) && whole(b.include)
}

// print is the output of debug(), traceback() and deprecated().
func (x *exec) print(line string) { x.printed = append(x.printed, line) }

// object is one object template on its way.
type object struct {
	name string

	mu    sync.Mutex
	built chan struct{} // closed when x or err is there; nil: not begun, or released
	x     *exec
	err   *Error
	keep  bool // another object refers to it

	once  sync.Once
	valid []*Error // what the validation found
}

func (b *build) object(name string) *object {
	b.mu.Lock()
	defer b.mu.Unlock()
	o := b.objects[name]
	if o == nil {
		o = &object{name: name}
		b.objects[name] = o
	}
	return o
}

// wait builds the object, or waits for the one who does.
func (o *object) wait(ctx context.Context, b *build) (*exec, *Error) {
	o.mu.Lock()
	if o.built == nil {
		o.built = make(chan struct{})
		o.mu.Unlock()
		x, err := b.execute(ctx, o.name)
		o.mu.Lock()
		o.x, o.err = x, err
		close(o.built)
		o.mu.Unlock()
		return x, err
	}
	built := o.built
	o.mu.Unlock()
	select {
	case <-built:
	case <-ctx.Done():
		return nil, &Error{Class: Internal, Msg: "compilation ended: " + context.Cause(ctx).Error()}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.built == nil {
		o.keep = true
		o.mu.Unlock()
		x, err := o.wait(ctx, b)
		o.mu.Lock()
		return x, err
	}
	return o.x, o.err
}

// release drops the profile, unless other objects have referred to it.
func (o *object) release() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.keep && o.err == nil {
		// if it comes to be needed it is executed and validated once more: validation, too, may refer to others
		o.built, o.x, o.once, o.valid = nil, nil, sync.Once{}, nil
	}
}

// external is the root of another object's profile. With asked set an object that is not there is nil.
func (x *exec) external(name string, asked bool) (tree.Value, *Error) {
	t := x.loaded[name]
	if t == nil {
		var err *Error
		if t, _, err = x.find(name, asked); err != nil {
			return nil, err
		}
		if t == nil {
			return nil, nil
		}
	}
	x.loaded[name] = t
	x.objects[name] = true
	if t.Kind != syntax.Object {
		return nil, evaluation(name + " does not refer to an object template")
	}
	if !x.done {
		if err := x.build.refer(x.object.Name, name); err != nil {
			return nil, err
		}
	}
	o := x.build.object(name)
	o.mu.Lock()
	o.keep = true
	o.mu.Unlock()
	other, err := o.wait(x.ctx, x.build)
	if err != nil {
		return nil, launder(err, t.Shown)
	}
	return tree.Protect(other.root), nil
}

// refer notes that one object waits for another, which must not wait for it.
func (b *build) refer(from, to string) *Error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for next, ok := b.waits[to]; ok; next, ok = b.waits[next] {
		if next != from {
			continue
		}
		cycle := from + " -> " + to
		for n := b.waits[to]; n != "" && n != from; n = b.waits[n] {
			cycle += " -> " + n
		}
		e := evaluation("circular object dependency detected: " + cycle + " -> " + from)
		e.cycle = true
		return e
	}
	b.waits[from] = to
	return nil
}

// execute runs an object template and sets the defaults.
func (b *build) execute(ctx context.Context, name string) (*exec, *Error) {
	src := b.sources.lookup(b.sources.empty, name, false)
	x := &exec{
		build: b, ctx: ctx, load: b.sources.empty,
		functions: map[string]*function{}, types: map[string]*fullType{},
		loaded: map[string]*Template{}, sources: map[*Source]bool{src: false}, objects: map[string]bool{},
	}
	if !src.Found() {
		x.object = &Template{Name: name}
		return x, evaluation("cannot locate object template named '" + name + "'")
	}
	p := b.compiled(src)
	x.object, x.template = p.template, p.template
	if p.template == nil {
		x.object = &Template{Name: name, Shown: src.Shown, Path: src.Path}
	}
	if len(p.errs) > 0 {
		return x, p.errs[0]
	}
	if p.template.Name != name {
		e := syntaxAt(noSpan, misnamed(name))
		e.File = p.template.Shown
		return x, e
	}
	x.loaded[name], x.objects[name] = p.template, true
	x.globals = make([]global, b.symbols.count())
	x.root = tree.NewDict(0)
	if b.initial != nil {
		c, err := x.clone(b.initial)
		if err != nil {
			return x, err
		}
		x.root = c.(*tree.Dict)
	}
	x.globals[symObject] = global{value: p.template.nameValue, final: true}
	x.globals[symLoadpath] = global{value: tree.NewList(0)}
	x.trace = b.newTrace()
	err := p.template.run(x, true)
	if err == nil {
		err = x.setDefaults()
	} else if err.Class == Evaluation && err.File == "" {
		err.File = x.template.Shown
	}
	x.done = true
	b.mu.Lock()
	delete(b.waits, name)
	b.mu.Unlock()
	return x, err
}

// setDefaults goes over the bindings in the order of their paths and inserts defaults. As in panc it ends, without a word, at a path
// that cannot be read.
func (x *exec) setDefaults() *Error {
	for _, b := range x.bindings {
		v, err := x.element(b.path)
		if err != nil {
			if err.Class == Evaluation {
				return nil
			}
			return err
		}
		_, undef := v.(tree.Undef)
		if v == nil || undef {
			for _, t := range b.types {
				d := t.standard(x)
				if d == nil {
					continue
				}
				v, undef = d, false
				if err := x.put(b.path, d); err != nil {
					return err
				}
				x.noteDefault(b.path, t)
				break
			}
		}
		if v == nil || undef {
			continue
		}
		for _, t := range b.types {
			r, err := t.base.defaults(x, v)
			if err != nil {
				return err
			}
			if r == nil {
				continue
			}
			v = r
			if err := x.put(b.path, r); err != nil {
				return err
			}
		}
		for _, t := range b.types {
			x.noteDefault(b.path, t)
		}
	}
	return nil
}

// validate checks the finished profile: nothing undefined, and each binding. Where panc ends at the first problem this one goes on with the
// next binding; the first is panc's.
func (x *exec) validate() []*Error {
	if at, undefined := tree.Undefined(x.root); undefined {
		e := invalid("element at /" + at + " is undefined")
		e.File = x.object.Shown
		return []*Error{e}
	}
	var errs []*Error
	for _, b := range x.bindings {
		v, err := x.mustElement(b.path)
		if err != nil {
			if err.Class != Evaluation {
				return append(errs, err)
			}
			v = nil
		}
		for _, t := range b.types {
			before := x.save()
			err := t.validate(x, v)
			if err == nil {
				continue
			}
			x.restore(before)
			if err.Class == Validation {
				err.bound(b.path, t, x.object.Shown)
			}
			if !slices.ContainsFunc(errs, func(e *Error) bool { return e.Error() == err.Error() }) {
				errs = append(errs, err)
			}
			break
		}
		if len(errs) >= maxProblems {
			break
		}
	}
	return errs
}

// maxProblems is how many problems of one object are told at most.
const maxProblems = 100

// bound completes an error of validation by the binding that asked for it.
func (e *Error) bound(p tree.Path, t *fullType, file string) {
	e.Path = p.String()
	slices.Reverse(e.terms)
	for _, term := range e.terms {
		if e.Path != "/" {
			e.Path += "/"
		}
		e.Path += term
	}
	e.Bound = "path '" + p.String() + "' bound to type " + t.base.String() + " in [" + t.place() + "]"
	if e.File == "" {
		e.File = file
	}
}

// Result is what became of one object.
type Result struct {
	Name   string
	File   string     // as messages name it
	Root   *tree.Dict // the profile; nil with errors
	Errors []*Error

	Printed []string // what debug(), traceback() and deprecated() said, in lines

	Sources []*Source // all look-ups, answered or not
	Objects []string  // all objects that it refers to, sorted, itself not included
	Cycle   bool      // it failed because objects refer to each other in a circle: the message depends on which of them was begun with

	x      *exec
	others []*exec
}

// Run executes and validates one object and all that it refers to.
func (b *Build) Run(ctx context.Context, name string) *Result {
	o := b.object(name)
	x, err := o.wait(ctx, &b.build)
	r := &Result{Name: name, x: x}
	if x != nil {
		r.File = x.object.Shown
	}
	if err != nil {
		if x != nil {
			r.describe(x)
		}
		r.Errors = append(r.Errors, reported(x, err)...)
		r.Cycle = err.circular()
		return r
	}
	r.Errors = b.valid(o, x)
	r.Cycle = slices.ContainsFunc(r.Errors, (*Error).circular)
	r.describe(x) // after the validation, which another goroutine may have done, and which may have referred to more
	if len(r.Errors) > 0 {
		return r
	}
	others, err := b.others(ctx, x)
	if err != nil {
		r.Errors, r.Cycle = []*Error{err}, err.circular()
		return r
	}
	r.Root, r.others = x.root, others
	return r
}

// reported is all that is wrong with an object whose template does not compile, or the one problem of its execution.
func reported(x *exec, err *Error) []*Error {
	if x != nil && x.build != nil {
		if p := x.build.compiledPath(x.object); p != nil && len(p.errs) > 0 && p.errs[0] == err {
			return p.errs
		}
	}
	if err.Class == Syntax {
		err = launder(err, "")
	}
	return []*Error{err}
}

func (b *build) compiledPath(t *Template) *parsed {
	if t == nil {
		return nil
	}
	b.templates.mu.Lock()
	defer b.templates.mu.Unlock()
	return b.templates.files[t.Path]
}

// valid is the validation of an object, done once.
func (b *build) valid(o *object, x *exec) []*Error {
	o.once.Do(func() { o.valid = x.validate() })
	return o.valid
}

// others are the objects that an object refers to, and those that they refer to. It is not good as long as they are not.
func (b *build) others(ctx context.Context, x *exec) (all []*exec, _ *Error) {
	checked := map[string]bool{x.object.Name: true}
	queue := slices.Sorted(maps.Keys(x.objects))
	for len(queue) > 0 {
		name := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		if checked[name] {
			continue
		}
		checked[name] = true
		o := b.object(name)
		other, err := o.wait(ctx, b)
		if err == nil {
			if bad := b.valid(o, other); len(bad) > 0 {
				err = bad[0]
			}
		}
		if err != nil {
			if err.Class != Evaluation && err.Class != Syntax {
				return nil, err
			}
			e := invalid("object dependency on " + name + " raised exception")
			e.File = x.object.Shown
			return nil, e
		}
		all = append(all, other)
		queue = append(queue, slices.Sorted(maps.Keys(other.objects))...)
	}
	return all, nil
}

// describe notes what the object has to do with.
func (r *Result) describe(x *exec) {
	r.Sources, r.Objects, r.Printed = make([]*Source, 0, len(x.sources)), nil, x.printed
	for s := range x.sources {
		r.Sources = append(r.Sources, s)
	}
	for name := range x.objects {
		if name != r.Name {
			r.Objects = append(r.Objects, name)
		}
	}
	slices.Sort(r.Objects)
}

// Deps are the files that the profile depends on, for the dep format: also those of the objects it refers to. There are none after Release.
func (r *Result) Deps() []tree.Dep {
	var deps []tree.Dep
	if r.x != nil {
		deps = appendDeps(deps, r.x)
	}
	for _, x := range r.others {
		deps = appendDeps(deps, x)
	}
	return deps
}

func appendDeps(deps []tree.Dep, x *exec) []tree.Dep {
	for name, t := range x.loaded {
		kind := tree.Pan
		if strings.HasSuffix(t.Shown, ".tpl") {
			kind = tree.Tpl
		}
		deps = append(deps, tree.Dep{Name: name, Type: kind, Dir: strings.TrimSuffix(strings.TrimSuffix(t.Shown[:len(t.Shown)-len(".pan")], name), "/")})
	}
	for s, absent := range x.sources {
		switch {
		case s.Text && s.Found():
			deps = append(deps, tree.Dep{Name: s.Name, Type: tree.TextFile, Dir: s.Dir})
		case s.Text:
			deps = append(deps, tree.Dep{Name: s.Name, Type: tree.AbsentText})
		case absent:
			deps = append(deps, tree.Dep{Name: s.Name, Type: tree.AbsentSource})
		}
	}
	return deps
}

// Release drops the profile of an object that has been used.
func (b *Build) Release(r *Result) {
	r.Root, r.x, r.others = nil, nil, nil
	b.object(r.Name).release()
}

// Found sets who is told of each object template that is compiled, referred to or not: panc writes the profiles of all.
func (b *Build) Found(f func(name string)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.found = f
}

// File compiles one file, wherever it is, and tells what is wrong with it. The template holds what could be read of it; it may be nil.
func (b *Build) File(d Dir) (*Template, []*Error) {
	p := b.compiled(&Source{Path: d.Path, Shown: d.Shown})
	return p.template, p.errs
}

// Forget drops what has to do with the files of io/fs given, and tells which look-ups those were. Nothing may run meanwhile.
func (b *Build) Forget(files map[string]bool) map[*Source]bool {
	b.generation++
	for f := range files {
		delete(b.templates.files, f)
	}
	return b.sources.forget(files)
}

// Drop forgets an object, so that it will be executed again.
func (b *Build) Drop(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.objects, name)
	delete(b.waits, name)
}

// Reset forgets all objects, of which some may have been left half done; compiled templates stay.
func (b *Build) Reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.objects)
	clear(b.waits)
}

// Changed are the files that are not any more what they were when they were last read, and those that are there now and would have been
// taken had they been there before.
func (b *Build) Changed() map[string]bool {
	changed := map[string]bool{}
	for f, p := range b.templates.files {
		text, err := fs.ReadFile(b.sources.fsys, f)
		if err != nil || sha256.Sum256(text) != p.hash {
			changed[f] = true
		}
	}
	b.sources.changed(changed)
	return changed
}

// Same says whether a template's file still has the content that it was compiled from.
func (b *Build) Same(file string) bool {
	p := b.templates.files[file]
	if p == nil {
		return false
	}
	text, err := fs.ReadFile(b.sources.fsys, file)
	return err == nil && sha256.Sum256(text) == p.hash
}

// Located says whether there is an object template of this name on the include path.
func (b *Build) Located(name string) bool {
	return b.sources.lookup(b.sources.empty, name, false).Found()
}
