package eval

import (
	"bytes"
	"compress/gzip"
	"io"
	"strings"

	"muster/internal/pan/tree"
)

// value is value(path) and value(path, default): a copy of what stands at a path, maybe of another profile.
func value(x *exec, o *builtin) (tree.Value, *Error) {
	args, err := o.values(x)
	if err != nil {
		return nil, err
	}
	if err := o.runtime(x); err != nil {
		return nil, err
	}
	s, ok := text(args[0])
	if !ok {
		return o.fail(x, "value() requires one string argument; "+args[0].Type()+" found")
	}
	p, e := tree.ParsePath(s)
	if e != nil {
		if err := fromTree(e); err.Class != Syntax {
			return nil, err
		}
		return o.fail(x, fromTree(e).Msg)
	}
	v, err := x.element(p)
	if err != nil {
		return nil, err
	}
	_, undef := v.(tree.Undef)
	if (v == nil || undef) && len(args) == 2 {
		v = args[1]
	}
	if v == nil {
		return o.fail(x, "referenced path ("+p.String()+") doesn't exist")
	}
	return x.clone(v)
}

// makeExists is exists(x) of a variable, of a path or of a template.
func makeExists(_ *compiler, o *builtin) (op, *Error) {
	if len(o.args) != 1 {
		return o.bad(o.name + one)
	}
	const wrong = "exists() requires one variable reference or string argument"
	if asked, ok := askedOf(o.args[0]); ok {
		o.args[0] = asked
		o.run = variableExists
		return o, nil
	}
	if notText(o.args[0]) {
		return o.bad(wrong)
	}
	o.run = func(x *exec, o *builtin) (tree.Value, *Error) {
		if err := o.runtime(x); err != nil {
			return nil, err
		}
		s, other, err := o.oneText(x)
		if err != nil {
			return nil, err
		}
		if other != nil {
			return o.fail(x, wrong)
		}
		if p, e := tree.ParsePath(s); e == nil && p.Kind != tree.Relative {
			v, err := x.element(p)
			return tree.Boolean(v != nil), err
		}
		if !tree.ValidTemplateName(s) {
			return o.fail(x, "exists() requires a valid external path, absolute path, or template name")
		}
		there, err := x.templateExists(s)
		return tree.Boolean(there), err
	}
	return o, nil
}

func variableExists(x *exec, o *builtin) (tree.Value, *Error) {
	if err := o.runtime(x); err != nil {
		return nil, err
	}
	v, err := o.args[0].eval(x)
	if err != nil {
		return nil, x.at(o.span, err)
	}
	return tree.Boolean(v != nil), nil
}

// templateExists says whether the name leads to a template; one that cannot be compiled is there, too.
func (x *exec) templateExists(name string) (bool, *Error) {
	if x.loaded[name] != nil {
		return true, nil
	}
	t, _, err := x.find(name, true)
	if err != nil {
		if err.Class == Evaluation {
			return true, nil
		}
		return false, err
	}
	return t != nil, nil
}

// makePathExists is path_exists(p), of absolute and external paths only.
func makePathExists(_ *compiler, o *builtin) (op, *Error) {
	const relative = "relative path is not allowed"
	const wrong = "{0}() requires exactly one string argument" // panc forgets to say which function
	if len(o.args) != 1 {
		return o.bad(o.name + one)
	}
	if v, ok := constantOf(o.args[0]); ok {
		s, ok := text(v)
		if !ok {
			return o.bad(wrong)
		}
		p, err := tree.ParsePath(s)
		switch {
		case err != nil:
			return nil, syntaxAt(noSpan, fromTree(err).Msg)
		case p.Kind == tree.Relative:
			return o.bad(relative)
		}
	}
	o.run = func(x *exec, o *builtin) (tree.Value, *Error) {
		if err := o.runtime(x); err != nil {
			return nil, err
		}
		s, other, err := o.oneText(x)
		if err != nil {
			return nil, err
		}
		if other != nil {
			return o.fail(x, wrong)
		}
		p, e := tree.ParsePath(s)
		if e != nil {
			err := fromTree(e)
			if err.Class == Syntax {
				return o.fail(x, err.Error())
			}
			return nil, err
		}
		if p.Kind == tree.Relative {
			return o.fail(x, relative)
		}
		v, err := x.element(p)
		return tree.Boolean(v != nil), err
	}
	return o, nil
}

// ifExists is if_exists(name): the name, or undef.
func ifExists(x *exec, o *builtin) (tree.Value, *Error) {
	if err := o.runtime(x); err != nil {
		return nil, err
	}
	s, other, err := o.oneText(x)
	if err != nil {
		return nil, err
	}
	if other != nil {
		return o.fail(x, "if_exists argument is not a string: "+other.Type())
	}
	if !tree.ValidTemplateName(s) {
		return o.fail(x, "invalid template name: "+s)
	}
	there, err := x.templateExists(s)
	if err != nil {
		return nil, err
	}
	if !there {
		return tree.Undef{}, nil
	}
	return tree.String(s), nil
}

// makeCreate is create(template, k, v, …).
func makeCreate(_ *compiler, o *builtin) (op, *Error) {
	if len(o.args)%2 != 1 {
		return o.bad("create() requires an odd number of arguments")
	}
	o.run = create
	return o, nil
}

func create(x *exec, o *builtin) (tree.Value, *Error) {
	if err := o.runtime(x); err != nil {
		return nil, err
	}
	args, err := o.values(x)
	if err != nil {
		return nil, err
	}
	name, ok := text(args[0])
	if !ok {
		return o.fail(x, "first argument of create() must be a string")
	}
	outer := x.relative
	x.relative = tree.NewDict(0)
	if err := x.runStructure(o, name); err != nil {
		return nil, err
	}
	root := x.relative
	x.relative = outer
	for i := 1; i < len(args); i += 2 {
		k, ok := text(args[i])
		if !ok {
			return o.bare("key arguments of create() must be strings; argument " + tree.FormatNumber(int64(i)) + " is of type " + args[i].Type())
		}
		t, e := tree.NewTerm(k)
		if e != nil {
			return nil, fromTree(e)
		}
		if !t.IsKey() {
			return nil, evaluation("invalid key (" + k + ") for create()")
		}
		if e := root.Set(t.Key(), args[i+1]); e != nil {
			return nil, fromTree(e)
		}
	}
	return root, nil
}

// runStructure runs a structure template into the relative root.
func (x *exec) runStructure(o *builtin, name string) *Error {
	t, first, err := x.namedTemplate(name, nil)
	if err != nil {
		return x.at(o.span, err)
	}
	if t.Kind != structure {
		return evaluationAt(o.span, "first argument of create() must be the name of structure template")
	}
	if err := x.push(t, o.span); err != nil {
		return err
	}
	x.noteInclude(t, first)
	self := x.self
	x.self = noSelf
	if err := t.run(x, first); err != nil {
		return err
	}
	x.self = self
	x.pop()
	return nil
}

// makeFile makes file_contents and file_exists.
func makeFile(least, most int, msg string, run func(*exec, *builtin, *Source, []tree.Value) (tree.Value, *Error)) maker {
	return func(_ *compiler, o *builtin) (op, *Error) {
		if n := len(o.args); n < least || n > most {
			return o.bad(o.name + msg)
		}
		wrong := o.name + "() requires a relative file name"
		if v, ok := constantOf(o.args[0]); ok && relativeName(v) == "" {
			return o.bad(wrong)
		}
		o.run = func(x *exec, o *builtin) (tree.Value, *Error) {
			if err := o.runtime(x); err != nil {
				return nil, err
			}
			args, err := o.values(x)
			if err != nil {
				return nil, err
			}
			name := relativeName(args[0])
			if name == "" {
				return o.bare(wrong)
			}
			src := x.build.sources.lookup(x.load, name, true)
			if !tree.ValidTemplateName(name) {
				return nil, &Error{Class: IllegalArg, Msg: "invalid template name (" + name + ")"}
			}
			x.sources[src] = true
			return run(x, o, src, args)
		}
		return o, nil
	}
}

// relativeName is the name of a file below the load path; "" if it is none.
func relativeName(v tree.Value) string {
	s, ok := text(v)
	if !ok || strings.HasPrefix(s, "/") {
		return ""
	}
	return s
}

func fileExists(_ *exec, _ *builtin, src *Source, _ []tree.Value) (tree.Value, *Error) {
	return tree.Boolean(src.Found()), nil
}

func fileContents(x *exec, o *builtin, src *Source, args []tree.Value) (tree.Value, *Error) {
	compression := ""
	if len(args) == 2 {
		var ok bool
		if compression, ok = text(args[1]); !ok {
			return o.bare("second argument of file_contents() must be a string")
		}
	}
	switch {
	case !src.Found():
		return o.bare("file (" + src.Name + ") does not exist")
	case src.IsDir:
		return o.bare("directory (" + o.name + ") not allowed")
	}
	b, err := x.build.sources.read(src)
	if err != nil {
		return nil, &Error{Class: System, File: src.Shown, Msg: err.Error()}
	}
	switch {
	case len(args) == 2 && compression != "gzip":
		return nil, &Error{Class: IllegalArg, Msg: "invalid compression name (" + compression + ")"}
	case len(args) == 2:
		if b, err = unzip(b); err != nil {
			return nil, &Error{Class: System, File: src.Shown, Msg: err.Error()}
		}
	}
	return tree.String(strings.ToValidUTF8(string(b), "\uFFFD")), x.grown(len(b))
}

func unzip(b []byte) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(z, longest))
}
