package eval

import (
	"crypto/sha256"
	"io/fs"
	"path"
	"strings"
	"sync"
	"sync/atomic"

	"muster/internal/pan/syntax"
	"muster/internal/pan/tree"
)

// Template is one template, compiled. It is shared by all objects and does not change.
type Template struct {
	Name  string
	Kind  syntax.Kind
	Shown string // its file as messages have it
	Path  string // its file of io/fs

	nameValue tree.Value
	all       []statement // run the first time
	again     []statement // and each later time
}

const structure = syntax.Structure

// run executes the statements: all of them the first time in an object, later without definitions, and nothing of templates that run
// once.
func (t *Template) run(x *exec, first bool) *Error {
	list := t.again
	if first {
		list = t.all
	}
	for _, s := range list {
		if err := s.run(x); err != nil {
			return err
		}
	}
	return nil
}

// parsed is a file of the file system as the compiler has it.
type parsed struct {
	once     sync.Once
	hash     [sha256.Size]byte
	template *Template
	errs     []*Error // in panc's order; the template is not to be run if there is one
}

// templates compiles each file once.
type templates struct {
	mu    sync.Mutex
	files map[string]*parsed
}

// template is the compiled file of a look-up.
func (b *build) compiled(src *Source) *parsed {
	b.templates.mu.Lock()
	p := b.templates.files[src.Path]
	if p == nil {
		p = &parsed{}
		b.templates.files[src.Path] = p
	}
	b.templates.mu.Unlock()
	p.once.Do(func() { b.compile(p, src) })
	return p
}

func (b *build) compile(p *parsed, src *Source) {
	text, err := fs.ReadFile(b.sources.fsys, src.Path)
	if err != nil {
		p.errs = []*Error{{Class: System, File: src.Shown, Msg: "template file cannot be read"}}
		return
	}
	p.hash = sha256.Sum256(text)
	p.template, p.errs = b.compileText(src.Path, src.Shown, text)
	if b.found != nil && len(p.errs) == 0 && p.template.Kind == syntax.Object {
		b.found(p.template.Name)
	}
}

// compileText compiles one template. With errors the template holds what could be read.
func (b *build) compileText(file, shown string, text []byte) (*Template, []*Error) {
	f, bad := syntax.Parse(shown, text)
	t := &Template{Name: f.Name, Kind: f.Kind, Shown: shown, Path: file, nameValue: tree.String(f.Name)}
	if len(bad) > 0 {
		errs := make([]*Error, len(bad))
		for i, e := range bad {
			errs[i] = parseError(e)
		}
		return t, errs
	}
	c := &compiler{symbols: b.symbols, debug: b.debug(f.Name)}
	errs := c.statements(t, f)
	if len(errs) == 0 {
		if msg := badName(f.Name, shown); msg != "" {
			errs = []*Error{syntaxAt(f.Span(), msg)}
		}
		errs = append(errs, c.allowed(t)...)
	}
	for _, e := range errs {
		if e.Class == Syntax && e.File == "" {
			e.File = shown
		}
	}
	for _, s := range t.all {
		switch s.(type) {
		case *define, *bind:
			continue
		}
		if t.Kind != syntax.Unique && t.Kind != syntax.Declaration {
			t.again = append(t.again, s)
		}
	}
	return t, errs
}

// badName says what is wrong with the name of a template in this file.
func badName(name, shown string) string {
	ext := path.Ext(shown)
	switch {
	case ext != ".pan" && ext != ".tpl", !tree.ValidTemplateName(name):
		return "invalid template name (" + name + ")"
	case !strings.HasSuffix("/"+shown, "/"+name+ext):
		return misnamed(name)
	}
	return ""
}

func misnamed(name string) string {
	return "misplaced or misnamed template; relative directory and name must match '" + name + "'"
}

// parseError makes an error of the parser one of ours.
func parseError(e *syntax.Error) *Error {
	class := map[syntax.Class]Class{
		syntax.ParseError: Parse, syntax.SyntaxError: Syntax, syntax.EvaluationError: Evaluation, syntax.SystemError: System,
	}[e.Class]
	return &Error{Class: class, File: e.File, Span: e.Span, Msg: e.Message, as: e.Error(), short: e.Short()}
}

// found is the answer to the last look-up of an include, which is the same for most objects.
type found struct {
	name       string
	load       *loadpath
	generation int
	source     *Source
	template   *Template
}

// namedTemplate is the template of this name: the one that this object already has, or the one on the load path. first says that it
// has not run yet. known, if there is one, remembers the answer.
func (x *exec) namedTemplate(name string, known *atomic.Pointer[found]) (t *Template, first bool, err *Error) {
	if t := x.loaded[name]; t != nil {
		return t, false, nil
	}
	if known == nil {
		t, _, err = x.find(name, false)
		return t, true, err
	}
	if k := known.Load(); k != nil && k.name == name && k.load == x.load && k.generation == x.build.generation {
		if _, noted := x.sources[k.source]; !noted {
			x.sources[k.source] = false
		}
		x.use(k.template)
		return k.template, true, nil
	}
	t, src, err := x.find(name, false)
	if err == nil {
		known.Store(&found{name, x.load, x.build.generation, src, t})
	}
	return t, true, err
}

// use makes a template one that this object depends on.
func (x *exec) use(t *Template) {
	x.loaded[t.Name] = t
	if t.Kind == syntax.Object {
		x.objects[t.Name] = true
	}
}

// find looks a template up and compiles it. With asked set it is only a question: what is not there is nil, and what is there does not
// become a dependency.
func (x *exec) find(name string, asked bool) (*Template, *Source, *Error) {
	if !tree.ValidTemplateName(name) {
		return nil, nil, &Error{Class: IllegalArg, Msg: "invalid template name (" + name + ")"}
	}
	src := x.build.sources.lookup(x.load, name, false)
	x.sources[src] = x.sources[src] || !src.Found() && asked
	if !src.Found() {
		if asked {
			return nil, nil, nil
		}
		e := evaluation("cannot locate template named '" + name + "'")
		if x.template != nil {
			e.File = x.template.Shown
		}
		return nil, nil, e.hinted("template", name, x.templateNames(name))
	}
	p := x.build.compiled(src)
	if len(p.errs) > 0 {
		return nil, nil, launder(p.errs[0], src.Shown)
	}
	if p.template.Name != name {
		if asked {
			return nil, nil, nil
		}
		e := syntaxAt(noSpan, misnamed(name))
		e.File = p.template.Shown
		return nil, nil, evaluation(e.Error())
	}
	if !asked {
		x.use(p.template)
	}
	return p.template, src, nil
}

// launder makes the error of another template one of this object: one of syntax becomes one of evaluation with its message inside, and
// one of evaluation, of which panc does not know the file, will get the place of the include.
func launder(e *Error, file string) *Error {
	switch {
	case e.Class == Syntax:
		outer := evaluation(e.Error())
		outer.Origin = e
		return outer
	case e.Class == Evaluation && e.File == "":
		outer, origin := e.clone(), e.clone()
		origin.File, origin.Span = file, e.Where()
		outer.Origin = origin
		return outer
	}
	return e.clone()
}
