package eval

import (
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"

	"muster/internal/pan/java"
	"muster/internal/pan/syntax"
	"muster/internal/pan/tree"
)

// fullType is a type with its default and its validation.
type fullType struct {
	template *Template // that it is written in; nil for a built-in type
	span     syntax.Span
	base     baseType
	value    tree.Value // the default, a view; nil: none
	with     *unit      // nil: none
}

// baseType is a type without default and validation: a built-in, another one's name, a choice, a record, or a list, dict or link of
// one. defaults gives the replacement of v in which defaults are set, nil when v itself holds them all.
type baseType interface {
	validate(x *exec, v tree.Value) *Error
	defaults(x *exec, v tree.Value) (tree.Value, *Error)
	// standard is the default of a missing value; nil: none.
	standard(x *exec) tree.Value
	// defined says which type named inside is not there.
	defined(x *exec) *Error
	String() string
}

// binding is a type bound to a path.
type binding struct {
	path  tree.Path
	types []*fullType
}

// builtinTypes are those that every object has.
var builtinTypes = map[string]*fullType{
	"boolean":  {base: primitive{"boolean", kinds["is_boolean"]}},
	"long":     {base: primitive{"long", kinds["is_long"]}},
	"double":   {base: primitive{"double", kinds["is_double"]}},
	"string":   {base: primitive{"string", kinds["is_string"]}},
	"number":   {base: primitive{"number", isNumber}},
	"property": {base: primitive{"property", tree.IsProperty}},
	"list":     {base: primitive{"list", kinds["is_list"]}},
	"dict":     {base: primitive{"dict", kinds["is_dict"]}},
	"nlist":    {base: primitive{"nlist", kinds["is_dict"]}},
	"resource": {base: primitive{"resource", tree.IsResource}},
	"element":  {base: primitive{"element", func(tree.Value) bool { return true }}},
}

// typeNamed is the type of this name; nil if there is none.
func (x *exec) typeNamed(name string) *fullType {
	if t := x.types[name]; t != nil {
		return t
	}
	return builtinTypes[name]
}

// place is file and range as messages name a type's definition.
func (t *fullType) place() string {
	if t.template == nil {
		return "?:" + t.span.String()
	}
	return orUnknown(t.template.Shown) + ":" + t.span.String()
}

func (t *fullType) standard(x *exec) tree.Value {
	if t.value != nil {
		return t.value
	}
	return t.base.standard(x)
}

func (t *fullType) validate(x *exec, v tree.Value) *Error {
	if v == nil {
		return invalid("element does not exist")
	}
	if err := t.base.validate(x, v); err != nil {
		return err
	}
	return t.check(x, v)
}

// check runs the validation code, if there is some.
func (t *fullType) check(x *exec, v tree.Value) *Error {
	if t.with == nil {
		return nil
	}
	ok, err := x.checkBlock(t, v)
	if err != nil || ok {
		return err
	}
	err = invalid("user-defined validation failed")
	if tree.IsProperty(v) {
		return x.withValue(err, v)
	}
	return err
}

// withValue adds the element's value to an error.
func (x *exec) withValue(e *Error, v tree.Value) *Error {
	e.HasValue = true
	e.Value, _ = x.show(v)
	return e
}

func mismatched(x *exec, want string, v tree.Value) *Error {
	return x.withValue(invalid("validation requires type of '"+want+"' but element is of type '"+v.Type()+"'"), v)
}

// checkBlock runs validation code: SELF is the value and cannot be changed, and the result has to be a boolean. Errors inside belong
// to the template of the code, which is why a message names another file than panc's, which names the object's.
func (x *exec) checkBlock(t *fullType, v tree.Value) (bool, *Error) {
	before := x.save()
	x.self = self{kind: selfReadOnly, value: v}
	if t.template != nil {
		x.template = t.template
	}
	base, unit := x.enter(t.with)
	x.iters = nil
	result, err := t.with.body.eval(x)
	if err == returning {
		result, err = x.result, nil
	}
	if err != nil {
		x.restore(before)
		if err.Class != Evaluation {
			return false, err
		}
		e := invalid("validation failed because exception was thrown")
		e.File, e.Cause = x.object.Shown, err
		return false, e
	}
	x.leave(base, unit)
	x.self, x.template, x.iters = before.self, before.template, before.iters
	b, ok := result.(tree.Boolean)
	if !ok {
		e := invalid("user-defined validation function returned an element of type " + result.Type() + "; boolean value required")
		e.File = x.object.Shown
		return false, e
	}
	return bool(b), nil
}

// below adds a term to where an error of validation is.
func (e *Error) below(t string) *Error {
	if e.Class == Validation {
		e.terms = append(e.terms, t)
	}
	return e
}

// of adds the name of a type to an error of validation.
func (e *Error) of(name string, t *fullType) *Error {
	if e.Class == Validation {
		e.Types = append(e.Types, "type: '"+name+"' ["+t.place()+"]")
	}
	return e
}

// primitive is a built-in type.
type primitive struct {
	name string
	is   func(tree.Value) bool
}

func (t primitive) validate(x *exec, v tree.Value) *Error {
	if t.is(v) {
		return nil
	}
	return mismatched(x, t.name, v)
}

func (primitive) defaults(*exec, tree.Value) (tree.Value, *Error) { return nil, nil }
func (primitive) standard(*exec) tree.Value                       { return nil }
func (primitive) defined(*exec) *Error                            { return nil }
func (primitive) String() string                                  { return "ConcretePrimitiveType" }

// alias is a type by name, maybe with a range.
type alias struct {
	name string
	in   *syntax.Range
}

func (t *alias) validate(x *exec, v tree.Value) *Error {
	is := x.typeNamed(t.name)
	err := is.validate(x, v)
	if err == nil && t.in != nil {
		err = inRange(*t.in, v)
	}
	if err != nil {
		return err.of(t.name, is)
	}
	return nil
}

func (t *alias) defaults(x *exec, v tree.Value) (tree.Value, *Error) {
	return x.typeNamed(t.name).base.defaults(x, v)
}

func (t *alias) standard(x *exec) tree.Value { return x.typeNamed(t.name).standard(x) }
func (t *alias) defined(x *exec) *Error      { return typeDefined(x, t.name) }

func (t *alias) String() string {
	if t.in == nil {
		return t.name
	}
	return t.name + "(" + t.in.String() + ")"
}

func typeDefined(x *exec, name string) *Error {
	if x.typeNamed(name) == nil {
		return evaluation("referenced type '"+name+"' is not defined").hinted("type", name, maps.Keys(x.types), maps.Keys(builtinTypes))
	}
	return nil
}

// inRange checks a number's value or a string's or resource's size.
func inRange(r syntax.Range, v tree.Value) *Error {
	size := func(what string, n int) *Error {
		if int64(n) >= r.Min && int64(n) <= r.Max {
			return nil
		}
		return invalid(what + " size (" + tree.FormatNumber(int64(n)) + ") is outside range " + r.String())
	}
	switch v := v.(type) {
	case tree.Long:
		if int64(v) >= r.Min && int64(v) <= r.Max {
			return nil
		}
		return invalid("value (" + tree.FormatNumber(int64(v)) + ") is outside range " + r.String())
	case tree.Double:
		if float64(v) >= float64(r.Min) && float64(v) <= float64(r.Max) {
			return nil
		}
		return invalid("value (" + java.Number(float64(v)) + ") is outside range " + r.String())
	case tree.String:
		return size("string", units(string(v)))
	case *tree.List:
		return size("list", v.Len())
	case *tree.Dict:
		return size("hash", v.Len())
	}
	return invalid("range checking cannot be applied to element of type " + v.Type())
}

// choice is a string out of a list.
type choice struct{ values []string }

func (t *choice) validate(x *exec, v tree.Value) *Error {
	if err := builtinTypes["string"].validate(x, v); err != nil {
		return err
	}
	s, _ := text(v)
	if slices.Contains(t.values, s) {
		return nil
	}
	return invalid("value (" + s + ") is not a possible choice value")
}

func (*choice) defaults(*exec, tree.Value) (tree.Value, *Error) { return nil, nil }
func (*choice) standard(*exec) tree.Value                       { return nil }
func (*choice) defined(*exec) *Error                            { return nil }
func (t *choice) String() string                                { return "choice(" + strings.Join(t.values, ", ") + ")" }

// listOf is T[].
type listOf struct {
	base baseType
	in   *syntax.Range
}

func (t *listOf) validate(x *exec, v tree.Value) *Error {
	l, ok := v.(*tree.List)
	if !ok {
		return mismatched(x, "list", v)
	}
	if t.in != nil {
		if err := inRange(*t.in, v); err != nil {
			return err
		}
	}
	for i := range l.Len() {
		if err := t.base.validate(x, l.Value(i)); err != nil {
			return err.below(strconv.Itoa(i))
		}
	}
	return nil
}

func (t *listOf) defaults(x *exec, v tree.Value) (tree.Value, *Error) {
	l, ok := v.(*tree.List)
	if !ok {
		return nil, nil
	}
	var changed *tree.List
	for i := range l.Len() {
		child := l.Value(i)
		set := func(v tree.Value) *Error {
			if changed == nil {
				changed = tree.WritableCopy(l).(*tree.List)
			}
			if e := changed.Set(i, v); e != nil {
				return fromTree(e)
			}
			return nil
		}
		if err := element(x, t.base, child, set); err != nil {
			return nil, err
		}
	}
	if changed == nil {
		return nil, nil
	}
	return changed, nil
}

// element sets the defaults of one element of a list or dict.
func element(x *exec, t baseType, child tree.Value, set func(tree.Value) *Error) *Error {
	if _, undef := child.(tree.Undef); undef {
		if d := t.standard(x); d != nil {
			child = d
			if err := set(d); err != nil {
				return err
			}
		}
	}
	r, err := t.defaults(x, child)
	if err != nil || r == nil {
		return err
	}
	return set(r)
}

func (*listOf) standard(*exec) tree.Value { return nil }
func (t *listOf) defined(x *exec) *Error  { return t.base.defined(x) }
func (t *listOf) String() string          { return t.base.String() + "[" + rangeText(t.in) + "]" }

func rangeText(r *syntax.Range) string {
	if r == nil {
		return ""
	}
	return r.String()
}

// dictType is T{}.
type dictType struct {
	base baseType
	in   *syntax.Range
}

func (t *dictType) validate(x *exec, v tree.Value) *Error {
	d, ok := v.(*tree.Dict)
	if !ok {
		return mismatched(x, "dict", v)
	}
	if t.in != nil {
		if err := inRange(*t.in, v); err != nil {
			return err
		}
	}
	for k, child := range d.All() {
		if err := t.base.validate(x, child); err != nil {
			return err.below(k)
		}
	}
	return nil
}

func (t *dictType) defaults(x *exec, v tree.Value) (tree.Value, *Error) {
	d, ok := v.(*tree.Dict)
	if !ok {
		return nil, nil
	}
	var changed *tree.Dict
	for i := range d.Len() {
		k, child := d.Key(i), d.Value(i)
		set := func(v tree.Value) *Error {
			if changed == nil {
				changed = tree.WritableCopy(d).(*tree.Dict)
			}
			if e := changed.Set(k, v); e != nil {
				return fromTree(e)
			}
			return nil
		}
		if err := element(x, t.base, child, set); err != nil {
			return nil, err
		}
	}
	if changed == nil {
		return nil, nil
	}
	return changed, nil
}

func (*dictType) standard(*exec) tree.Value { return nil }
func (t *dictType) defined(x *exec) *Error  { return t.base.defined(x) }
func (t *dictType) String() string          { return t.base.String() + "{" + rangeText(t.in) + "}" }

// link is T*: the path of an element that is a T.
type link struct{ base baseType }

func (t *link) validate(x *exec, v tree.Value) *Error {
	s, ok := text(v)
	if !ok {
		return invalid("property cannot marked as both type 'link' and type '" + v.Type() + "'")
	}
	p, e := tree.ParsePath(s)
	if e != nil {
		err := fromTree(e)
		if err.Class == Syntax {
			return invalid("invalid link path '" + s + "'")
		}
		return err
	}
	target, err := x.mustElement(p)
	if err != nil {
		if err.Class != Evaluation {
			return err
		}
		outer := invalid("error evaluating path '" + p.String() + "': " + err.Msg)
		outer.cycle = err.cycle
		return outer
	}
	if err := t.base.validate(x, target); err != nil {
		if err.Class != Validation {
			return err
		}
		outer := invalid("element at linked path failed validation: '" + p.String() + "'")
		outer.Cause = err
		return outer
	}
	return nil
}

func (t *link) defaults(x *exec, v tree.Value) (tree.Value, *Error) {
	s, ok := text(v)
	if !ok {
		return nil, nil
	}
	p, e := tree.ParsePath(s)
	if e != nil {
		return nil, nil // validation will say so
	}
	target, err := x.mustElement(p)
	if err != nil {
		return nil, swallow(err)
	}
	r, err := t.base.defaults(x, target)
	if err != nil || r == nil {
		return nil, swallow(err)
	}
	return nil, swallow(x.put(p, r))
}

// swallow drops an EvaluationException, as panc does where it sets defaults through a link.
func swallow(err *Error) *Error {
	if err != nil && err.Class == Evaluation {
		return nil
	}
	return err
}

func (*link) standard(*exec) tree.Value { return nil }
func (t *link) defined(x *exec) *Error  { return t.base.defined(x) }
func (t *link) String() string          { return t.base.String() + "*" }

// record is { fields }. Fields are in the order of their names; one name may be both a required and an optional field.
type record struct {
	extensible bool
	in         *syntax.Range
	includes   []string
	required   []field
	optional   []field
	names      map[string]bool // of all fields that are not included
}

type field struct {
	name string
	is   *fullType
}

func (t *record) defined(x *exec) *Error {
	for _, name := range t.includes {
		if err := typeDefined(x, name); err != nil {
			return err
		}
		if _, ok := x.typeNamed(name).base.(*record); !ok {
			return evaluation("record definition includes non-record type: '" + name + "'")
		}
	}
	for _, fields := range [][]field{t.required, t.optional} {
		for _, f := range fields {
			if err := f.is.base.defined(x); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *record) standard(x *exec) tree.Value {
	for _, name := range t.includes {
		if v := x.typeNamed(name).standard(x); v != nil {
			return v
		}
	}
	return nil
}

func (t *record) defaults(x *exec, v tree.Value) (tree.Value, *Error) {
	d, ok := v.(*tree.Dict)
	if !ok {
		return nil, nil
	}
	for _, name := range t.includes {
		r, err := x.typeNamed(name).base.defaults(x, d)
		if err != nil {
			return nil, err
		}
		if changed, ok := r.(*tree.Dict); ok {
			d = changed
		}
	}
	set := func(name string, v tree.Value) *Error {
		if d.Protected() {
			d = tree.WritableCopy(d).(*tree.Dict)
		}
		if e := d.Set(name, v); e != nil {
			return fromTree(e)
		}
		return nil
	}
	for _, f := range t.required {
		child := d.Lookup(f.name)
		switch child.(type) {
		case nil, tree.Undef:
			if child = f.is.standard(x); child == nil {
				continue
			}
			if err := set(f.name, child); err != nil {
				return nil, err
			}
		}
		if err := inside(x, f, child, set); err != nil {
			return nil, err
		}
	}
	for _, f := range t.optional {
		child := d.Lookup(f.name)
		if child == nil {
			continue
		}
		if _, undef := child.(tree.Undef); undef {
			if standard := f.is.standard(x); standard != nil {
				child = standard
				if err := set(f.name, child); err != nil {
					return nil, err
				}
			}
		}
		if err := inside(x, f, child, set); err != nil {
			return nil, err
		}
	}
	if d == v {
		return nil, nil
	}
	return d, nil
}

// inside sets the defaults below a field.
func inside(x *exec, f field, child tree.Value, set func(string, tree.Value) *Error) *Error {
	r, err := f.is.base.defaults(x, child)
	if err != nil || r == nil {
		return err
	}
	return set(f.name, r)
}

func (t *record) validate(x *exec, v tree.Value) *Error {
	d, ok := v.(*tree.Dict)
	if !ok {
		return mismatched(x, "dict", v)
	}
	if !t.extensible {
		var unknown []string
		for i := range d.Len() {
			if k := d.Key(i); !t.knows(x, k) {
				unknown = append(unknown, k)
			}
		}
		if len(unknown) > 0 {
			return invalid("record definition contains unexpected field(s): "+strings.Join(unknown, " ")+" ").
				hinted("field", unknown[0], t.fields(x))
		}
	}
	return t.validateIncluded(x, d)
}

// fields are the names of all fields, included ones too.
func (t *record) fields(x *exec) iter.Seq[string] {
	return func(yield func(string) bool) {
		for name := range t.names {
			if !yield(name) {
				return
			}
		}
		for _, i := range t.includes {
			if r, ok := x.typeNamed(i).base.(*record); ok {
				for name := range r.fields(x) {
					if !yield(name) {
						return
					}
				}
			}
		}
	}
}

// knows says whether a field is one of this record or of one that it includes.
func (t *record) knows(x *exec, name string) bool {
	if t.names[name] {
		return true
	}
	for _, i := range t.includes {
		if r, ok := x.typeNamed(i).base.(*record); ok && r.knows(x, name) {
			return true
		}
	}
	return false
}

// validateIncluded validates what a record says itself, which is what counts when another includes it.
func (t *record) validateIncluded(x *exec, d *tree.Dict) *Error {
	if t.in != nil {
		if err := inRange(*t.in, d); err != nil {
			return err
		}
	}
	for _, name := range t.includes {
		is := x.typeNamed(name)
		if err := is.validateIncluded(x, d); err != nil {
			return err.of(name, is)
		}
	}
	for _, f := range t.required {
		child := d.Lookup(f.name)
		if child == nil {
			return invalid("record is missing required field: "+f.name).hinted("field", f.name, func(yield func(string) bool) {
				for k := range d.All() {
					if !t.knows(x, k) && !yield(k) {
						return
					}
				}
			})
		}
		if err := f.is.validate(x, child); err != nil {
			return err.below(f.name)
		}
	}
	for _, f := range t.optional {
		if child := d.Lookup(f.name); child != nil {
			if err := f.is.validate(x, child); err != nil {
				return err.below(f.name)
			}
		}
	}
	return nil
}

func (t *fullType) validateIncluded(x *exec, d *tree.Dict) *Error {
	if r, ok := t.base.(*record); ok {
		if err := r.validateIncluded(x, d); err != nil {
			return err
		}
		return t.check(x, d)
	}
	return invalid("type cannot be included in another type definition")
}

// String is what panc prints of a record that is bound to a path without a name: Java's way over several lines.
func (t *record) String() string {
	var b strings.Builder
	if t.extensible {
		b.WriteString("extensible ")
	}
	b.WriteString("{\n")
	for _, i := range t.includes {
		b.WriteString("\tinclude " + i + "\n")
	}
	for _, f := range t.required {
		b.WriteString("\n" + f.name + " : " + f.is.String() + "\n")
	}
	for _, f := range t.optional {
		b.WriteString("\n" + f.name + " ? " + f.is.String() + "\n")
	}
	b.WriteString("}")
	if t.in != nil {
		b.WriteString(" (" + t.in.String() + ")")
	}
	b.WriteString("\n")
	return b.String()
}

// String is the type as panc's Java prints one inside of a record; of validation code it prints names of classes, which mean nothing
// here.
func (t *fullType) String() string {
	standard, with := "null", "null"
	if t.value != nil {
		standard, _ = tree.Text(t.value)
	}
	if t.with != nil {
		with = "{ … }"
	}
	return "FullType(" + t.base.String() + ")\ndefault value=" + standard + "\nwith=" + with + "\n"
}

// fullType compiles a type.
func (c *compiler) fullType(t *Template, s *syntax.FullType) (*fullType, *Error) {
	base, err := c.typeSpec(t, s.Type)
	if err != nil {
		return nil, err
	}
	f := &fullType{template: t, span: s.Span(), base: base}
	if s.Default != nil {
		if f.value, err = c.defaultValue(s.Default); err != nil {
			return nil, err
		}
	}
	if s.With != nil {
		if f.with, err = c.wrappedUnit(s.With); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// defaultValue folds a default, which has to be a constant.
func (c *compiler) defaultValue(e syntax.Expr) (tree.Value, *Error) {
	u, err := c.wrappedUnit(e)
	if err != nil {
		return nil, err
	}
	v, err := fold(u)
	if err != nil {
		return nil, err
	}
	span := u.body.known().span
	switch v.(type) {
	case nil:
		return nil, syntaxAt(span, "DML block for default value does not evaluate to a compile-time constant")
	case tree.Undef, tree.Null:
		return nil, syntaxAt(span, "undef is not a valid default value")
	}
	return tree.Protect(v), nil
}

func (c *compiler) typeSpec(t *Template, s *syntax.TypeSpec) (baseType, *Error) {
	base, err := c.baseType(t, &s.Base)
	if err != nil {
		return nil, err
	}
	for _, clause := range s.Clauses {
		switch clause.Kind {
		case syntax.List:
			base = &listOf{base, clause.Range}
		case syntax.Dict:
			base = &dictType{base, clause.Range}
		default:
			base = &link{base}
		}
	}
	return base, nil
}

func (c *compiler) baseType(t *Template, s *syntax.BaseType) (baseType, *Error) {
	switch {
	case s.Record:
		return c.record(t, s)
	case len(s.Choices) > 0:
		r := &choice{}
		for _, e := range s.Choices {
			if l, ok := e.(*syntax.StringLit); ok {
				r.values = append(r.values, l.Value)
			}
		}
		return r, nil
	}
	return &alias{s.Name, s.Range}, nil
}

func (c *compiler) record(t *Template, s *syntax.BaseType) (baseType, *Error) {
	r := &record{extensible: s.Extensible, in: s.Range, names: map[string]bool{}}
	for i := range s.Fields {
		f := &s.Fields[i]
		if f.Include != "" {
			r.includes = append(r.includes, f.Include)
			continue
		}
		name, err := fieldName(f)
		if err != nil {
			return nil, err
		}
		is, err := c.fullType(t, f.Type)
		if err != nil {
			return nil, err
		}
		r.names[name] = true
		if f.Required {
			r.required = addField(r.required, field{name, is})
		} else {
			r.optional = addField(r.optional, field{name, is})
		}
	}
	return r, nil
}

// addField keeps fields in order; of two with one name the later counts.
func addField(fields []field, f field) []field {
	i, found := slices.BinarySearchFunc(fields, f.name, func(f field, name string) int { return strings.Compare(f.name, name) })
	if found {
		fields[i] = f
		return fields
	}
	return slices.Insert(fields, i, f)
}

func fieldName(f *syntax.Field) (string, *Error) {
	p, e := tree.ParsePath(f.Path.Text)
	if e != nil {
		err := fromTree(e)
		if err.Class == Syntax {
			return "", syntaxAt(f.Span(), err.Msg)
		}
		return "", syntaxAt(f.Span(), "field name ("+f.Path.Text+") must be a valid path")
	}
	switch {
	case len(p.Terms) != 1:
		return "", syntaxAt(f.Span(), "field name ("+f.Path.Text+") must be a valid term")
	case !p.Terms[0].IsKey():
		return "", syntaxAt(f.Span(), "field name ("+f.Path.Text+") must be a valid key, not an index")
	}
	return p.Terms[0].Key(), nil
}
