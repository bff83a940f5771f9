package server

import (
	"fmt"
	"iter"
	"slices"
	"strings"

	"muster/internal/api"
	"muster/internal/model"
	"muster/internal/model/noderange"
)

// family is a kind of documents that are no nodes and no groups: how they are found and what can be set of them.
type family[T any] struct {
	kind   model.Kind
	noun   string // "network"
	fields []member[T]
	all    func(*model.Snapshot) iter.Seq[*T]
	name   func(*T) string
	make   func(name string) *T
	// usedBy says what stops working when a document is removed; "" for nothing.
	usedBy func(snap *model.Snapshot, name string) string
	// refuse says what is wrong with a document that a person wants; nil is nothing, and model.Check looks at it besides.
	refuse func(*T) error
}

// member is one thing that can be set. A list has elements, anything else one or none.
type member[T any] struct {
	names []string // by which it is set; the first one is shown
	list  bool
	get   func(*T) []string
	put   func(*T, []string) error
}

// text is a field of one word or sentence.
func text[T any](at func(*T) *string, names ...string) member[T] {
	return member[T]{
		names: names,
		get: func(d *T) []string {
			if v := *at(d); v != "" {
				return []string{v}
			}
			return nil
		},
		put: func(d *T, v []string) error {
			*at(d) = strings.Join(v, "")
			return nil
		},
	}
}

// words is a field of several, with commas between them.
func words[T any, S ~string](at func(*T) *[]S, names ...string) member[T] {
	return member[T]{
		names: names, list: true,
		get: func(d *T) []string { return convert[string](*at(d)) },
		put: func(d *T, v []string) error {
			*at(d) = convert[S](v)
			return nil
		},
	}
}

func (f *family[T]) find(snap *model.Snapshot, name string) *T {
	for d := range f.all(snap) {
		if f.name(d) == name {
			return d
		}
	}
	return nil
}

func (f *family[T]) unknown(snap *model.Snapshot, verb, name string) *api.Error {
	e := &api.Error{Code: api.Unknown, What: verb, Why: "there is no " + f.noun + " " + name, Do: "See: muster " + f.noun + " list"}
	if near := noderange.Nearest(name, func(yield func(string) bool) {
		for d := range f.all(snap) {
			if !yield(f.name(d)) {
				return
			}
		}
	}); near != "" {
		e.Do = "Did you mean " + near + "? " + e.Do
	}
	return e
}

// assign makes the assignments on a document that nobody else has seen yet, and tells the differences.
func (f *family[T]) assign(w *writer, verb string, d *T, set []api.Assignment) (changes []string) {
	for _, a := range set {
		i := slices.IndexFunc(f.fields, func(x member[T]) bool { return slices.Contains(x.names, a.Attr) })
		if i < 0 {
			var names []string
			for _, x := range f.fields {
				names = append(names, x.names[0])
			}
			e := &api.Error{Code: api.Usage, What: verb, Why: "a " + f.noun + " has no " + a.Attr, Do: "One of: " + strings.Join(names, ", ")}
			if near := noderange.Nearest(a.Attr, slices.Values(names)); near != "" {
				e.Do = "Did you mean " + near + "? " + e.Do
			}
			w.wrong(e)
			continue
		}
		x := f.fields[i]
		old := x.get(d)
		next, err := assignList(x.list, old, a)
		if err == nil {
			err = x.put(d, next)
		}
		if err != nil {
			e := *problem(err)
			e.What = verb + ": " + a.Attr
			w.wrong(&e)
			continue
		}
		if !slices.Equal(old, next) {
			changes = append(changes, fmt.Sprintf("%s %s: %s: %s -> %s", f.noun, f.name(d), x.names[0], join(old), join(next)))
		}
	}
	return changes
}

func assignList(list bool, old []string, a api.Assignment) ([]string, error) {
	value := a.Value
	if a.Secret != nil {
		value = a.Secret.Plain
	}
	if value == model.Masking {
		value = ""
	}
	var given []string
	switch {
	case list:
		for v := range strings.SplitSeq(value, ",") {
			if v = strings.TrimSpace(v); v != "" {
				given = append(given, v)
			}
		}
	case value != "":
		given = []string{value}
	}
	switch a.Op {
	case "", "=":
		return given, nil
	case "+=", "-=":
		if !list {
			return nil, &api.Error{Code: api.Usage, Why: "it is no list", Do: "Write " + a.Attr + "=" + value}
		}
		if len(given) == 0 {
			return nil, &api.Error{Code: api.Usage, Why: "nothing after " + a.Op, Do: "Write what to add or take away"}
		}
	default:
		return nil, &api.Error{Code: api.Usage, Why: "there is no assignment " + a.Op, Do: "Write =, += or -="}
	}
	next := slices.Clone(old)
	for _, v := range given {
		at := slices.Index(next, v)
		switch {
		case a.Op == "+=" && at < 0:
			next = append(next, v)
		case a.Op == "-=" && at >= 0:
			next = slices.Delete(next, at, at+1)
		}
	}
	return next, nil
}

// change commits what build makes of each named document: the document to put, nil to remove it.
func (f *family[T]) change(s *Server, q *request, verb, did string, build func(snap *model.Snapshot, w *writer, name string, set []api.Assignment) (*T, []string)) error {
	var in api.DocAction
	if err := q.read(&in); err != nil {
		return err
	}
	verb = f.noun + " " + verb
	names := splitNames(in.Name)
	if len(names) == 0 {
		return &api.Error{Code: api.Usage, What: verb, Why: "no " + f.noun + " is named", Do: "Name one"}
	}
	out := api.Changed{Nodes: strings.Join(names, ","), Count: len(names), DryRun: in.DryRun}
	rev, err := s.commit(q.Context(), q, verb, in.DryRun, func(snap *model.Snapshot) ([]model.Op, string, []model.Event, error) {
		w := &writer{}
		out.Changes, out.Warnings = nil, nil
		var ops []model.Op
		for _, name := range names {
			d, changes := build(snap, w, name, in.Set)
			out.Changes = append(out.Changes, changes...)
			op := model.Op{Kind: f.kind, Name: name}
			if d != nil {
				op.Doc = d
				if f.refuse != nil {
					if err := f.refuse(d); err != nil {
						w.wrong(err)
					}
				}
			} else if used := f.usedBy(snap, name); used != "" {
				out.Warnings = append(out.Warnings, f.noun+" "+name+": "+used)
			}
			ops = append(ops, op)
		}
		what := did + " " + f.noun + " " + out.Nodes
		return ops, what, []model.Event{s.said(q, strings.ReplaceAll(verb, " ", "."), what)}, w.err()
	})
	if err != nil {
		return err
	}
	out.Revision = int64(rev)
	return q.answer(out)
}

func (f *family[T]) add(s *Server, q *request) error {
	return f.change(s, q, "add", "added", func(snap *model.Snapshot, w *writer, name string, set []api.Assignment) (*T, []string) {
		if f.find(snap, name) != nil {
			w.wrong(&api.Error{
				Code: api.Conflict, What: f.noun + " add", Why: f.noun + " " + name + " is already there",
				Do: "Change it: muster " + f.noun + " set " + name + " FIELD=VALUE",
			})
		}
		d := f.make(name)
		if p := model.CheckName(name); p != nil {
			w.wrong(p)
		}
		return d, f.assign(w, f.noun+" add", d, set)
	})
}

func (f *family[T]) set(s *Server, q *request) error {
	return f.change(s, q, "set", "set", func(snap *model.Snapshot, w *writer, name string, set []api.Assignment) (*T, []string) {
		old := f.find(snap, name)
		if old == nil {
			w.wrong(f.unknown(snap, f.noun+" set", name))
			return f.make(name), nil
		}
		d := *old
		return &d, f.assign(w, f.noun+" set", &d, set)
	})
}

func (f *family[T]) remove(s *Server, q *request) error {
	return f.change(s, q, "remove", "removed", func(snap *model.Snapshot, w *writer, name string, _ []api.Assignment) (*T, []string) {
		if f.find(snap, name) == nil {
			w.wrong(f.unknown(snap, f.noun+" remove", name))
		}
		return nil, nil
	})
}

// listDocuments answers all documents of a family.
func listDocuments[T any](all func(*model.Snapshot) iter.Seq[*T]) handler {
	return func(_ *Server, q *request) error {
		out := []*T{}
		for d := range all(q.snap) {
			out = append(out, d)
		}
		return q.answer(out)
	}
}
