package eval

import (
	"muster/internal/pan/syntax"
	"muster/internal/pan/tree"
)

// builtin is the call of a built-in function that needs nothing but its arguments. Those that treat an argument as a variable or that
// do not evaluate all of them have operations of their own or look at args themselves.
type builtin struct {
	facts
	name string
	args []op
	run  func(x *exec, o *builtin) (tree.Value, *Error)
}

func (o *builtin) eval(x *exec) (tree.Value, *Error) { return o.run(x, o) }

// values evaluates the arguments.
func (o *builtin) values(x *exec) ([]tree.Value, *Error) {
	args := make([]tree.Value, len(o.args))
	for i, a := range o.args {
		v, err := a.eval(x)
		if err != nil {
			return nil, err
		}
		args[i] = v
	}
	return args, nil
}

// fail is an error with range, file and call stack.
func (o *builtin) fail(x *exec, msg string) (tree.Value, *Error) { return nil, x.fail(o.span, msg) }

// bare is an error with the range alone.
func (o *builtin) bare(msg string) (tree.Value, *Error) { return nil, evaluationAt(o.span, msg) }

// runtime refuses to run while constants are folded.
func (o *builtin) runtime(x *exec) *Error {
	if x.constant {
		return evaluationAt(o.span, notConstant(o.name))
	}
	return nil
}

func (o *builtin) bad(msg string) (op, *Error) { return nil, syntaxAt(o.span, msg) }

type maker func(c *compiler, o *builtin) (op, *Error)

// The messages on the number and kind of arguments, behind the name of the function.
const (
	oneString = "() requires exactly one string argument"
	one       = "() requires exactly one argument"
	oneOrTwo  = "() requires exactly one or two arguments"
	oneOrMore = "() requires at least one argument"
	two       = "() requires exactly two arguments"
	twoOrMore = "() requires two or more arguments"
	three     = "() requires exactly three arguments"
	twoThree  = "() must have two or three arguments"
	threeFour = "() must have three or four arguments"
)

// simple makes a function that takes from least to most arguments (most < 0: any number) and runs.
func simple(least, most int, msg string, run func(*exec, *builtin) (tree.Value, *Error)) maker {
	return func(_ *compiler, o *builtin) (op, *Error) {
		if n := len(o.args); n < least || most >= 0 && n > most {
			return o.bad(o.name + msg)
		}
		o.run = run
		return o, nil
	}
}

// builtinNamed is the built-in function of this name; nil if there is none.
func builtinNamed(name string) maker {
	switch name {
	case "append":
		return grow(false)
	case "prepend":
		return grow(true)
	case "base64_encode":
		return simple(1, 1, one, base64Encode)
	case "base64_decode":
		return simple(1, 1, one, base64Decode)
	case "clone":
		return simple(1, 1, one, clone)
	case "create":
		return makeCreate
	case "debug":
		return makeDebug
	case "delete":
		return makeDelete
	case "deprecated":
		return makeDeprecated
	case "dict":
		return makeDict
	case "nlist":
		return makeDict
	case "digest":
		return makeDigest
	case "error":
		return makeError
	case "escape":
		return makeEscape
	case "unescape":
		return makeUnescape
	case "exists":
		return makeExists
	case "path_exists":
		return makePathExists
	case "file_contents":
		return makeFile(1, 2, oneOrTwo, fileContents)
	case "file_exists":
		return makeFile(1, 1, one, fileExists)
	case "first":
		return makeIterate(first)
	case "next":
		return makeIterate(next)
	case "format":
		return makeFormat
	case "if_exists":
		return simple(1, 1, oneString, ifExists)
	case "index":
		return simple(2, 3, twoThree, index)
	case "ip4_to_long":
		return simple(1, 1, one, ip4ToLong)
	case "long_to_ip4":
		return simple(1, 1, one, longToIP4)
	case "is_valid":
		return makeIsValid
	case "join":
		return makeJoin
	case "json_encode":
		return simple(1, 1, one, jsonEncode)
	case "json_decode":
		return simple(1, 1, one, jsonDecode)
	case "key":
		return simple(2, 2, two, key)
	case "length":
		return simple(1, 1, one, length)
	case "list":
		return simple(0, -1, "", list)
	case "match":
		return makeMatch(match)
	case "matches":
		return makeMatch(matches)
	case "max":
		return simple(2, 2, two, larger)
	case "min":
		return simple(2, 2, two, smaller)
	case "merge":
		return simple(1, -1, oneOrMore, merge)
	case "replace":
		return simple(3, 3, three, replace)
	case "return":
		return makeReturn
	case "splice":
		return simple(3, 4, threeFour, splice)
	case "split":
		return simple(2, 3, twoThree, split)
	case "substitute":
		return simple(1, 2, oneOrTwo, substitute)
	case "substr":
		return simple(2, 3, twoThree, substr)
	case "to_boolean":
		return simple(1, 1, one, toBoolean)
	case "to_double":
		return simple(1, 1, one, toDouble)
	case "to_long":
		return makeToLong
	case "to_lowercase":
		return simple(1, 1, oneString, toLower)
	case "to_uppercase":
		return simple(1, 1, oneString, toUpper)
	case "to_string":
		return simple(1, 1, one, toString)
	case "traceback":
		return makeTraceback
	case "value":
		return simple(1, 2, oneOrTwo, value)
	case "is_nlist":
		return makeIs("is_dict", kinds["is_dict"])
	}
	if is := kinds[name]; is != nil {
		return makeIs(name, is)
	}
	return nil
}

// kinds are the functions that ask what a value is.
var kinds = map[string]func(tree.Value) bool{
	"is_boolean":  func(v tree.Value) bool { _, ok := v.(tree.Boolean); return ok },
	"is_long":     func(v tree.Value) bool { _, ok := v.(tree.Long); return ok },
	"is_double":   func(v tree.Value) bool { _, ok := v.(tree.Double); return ok },
	"is_string":   func(v tree.Value) bool { _, ok := v.(tree.String); return ok },
	"is_list":     func(v tree.Value) bool { _, ok := v.(*tree.List); return ok },
	"is_dict":     func(v tree.Value) bool { _, ok := v.(*tree.Dict); return ok },
	"is_null":     func(v tree.Value) bool { _, ok := v.(tree.Null); return ok },
	"is_number":   isNumber,
	"is_property": tree.IsProperty,
	"is_resource": tree.IsResource,
	"is_defined":  func(v tree.Value) bool { return tree.IsProperty(v) || tree.IsResource(v) },
}

func isNumber(v tree.Value) bool {
	switch v.(type) {
	case tree.Long, tree.Double:
		return true
	}
	return false
}

// makeIs asks about a variable, which may be unset, or about a value.
func makeIs(name string, is func(tree.Value) bool) maker {
	return func(_ *compiler, o *builtin) (op, *Error) {
		o.name = name
		if len(o.args) != 1 {
			return o.bad(o.name + one)
		}
		asked, isVariable := askedOf(o.args[0])
		if isVariable {
			o.args[0] = asked
		}
		o.run = func(x *exec, o *builtin) (tree.Value, *Error) {
			if isVariable {
				if err := o.runtime(x); err != nil {
					return nil, err
				}
			}
			v, err := o.args[0].eval(x)
			if err != nil {
				return nil, err
			}
			return tree.Boolean(v != nil && is(v)), nil
		}
		return o, nil
	}
}

// text is a value that has to be a string.
func text(v tree.Value) (string, bool) {
	s, ok := v.(tree.String)
	return string(s), ok
}

// notText says whether an argument is a constant other than a string.
func notText(o op) bool {
	v, ok := constantOf(o)
	if !ok {
		return false
	}
	_, ok = v.(tree.String)
	return !ok
}

func clone(x *exec, o *builtin) (tree.Value, *Error) {
	v, err := o.args[0].eval(x)
	if err != nil {
		return nil, err
	}
	return x.clone(v)
}

func list(x *exec, o *builtin) (tree.Value, *Error) {
	args, err := o.values(x)
	if err != nil {
		return nil, err
	}
	return tree.ListOf(args...), nil
}

// makeReturn is return(x), which leaves the function or block.
func makeReturn(_ *compiler, o *builtin) (op, *Error) {
	if len(o.args) != 1 {
		return o.bad(o.name + one)
	}
	o.restricted = firstOf(o.restricted, restrictedAt(o.span, o.name))
	o.run = func(x *exec, o *builtin) (v tree.Value, err *Error) {
		if x.result, err = o.args[0].eval(x); err != nil {
			return nil, err
		}
		return nil, returning
	}
	return o, nil
}

func firstOf(a, b *Error) *Error {
	if a != nil {
		return a
	}
	return b
}

func restrictedAt(s syntax.Span, name string) *Error {
	return syntaxAt(s, name+"() may not appear in a restricted context (either variable indices or function arguments)")
}

// grow makes append and prepend. With one argument, or with a variable for the first, they change the variable.
func grow(front bool) maker {
	return func(c *compiler, o *builtin) (op, *Error) {
		n := len(o.args)
		if n < 1 || n > 2 {
			return o.bad(o.name + oneOrTwo)
		}
		if v, ok := constantOf(o.args[n-1]); ok {
			if _, null := v.(tree.Null); null {
				return o.bad("value cannot be null for " + o.name + "()")
			}
		}
		wrong := "first argument of " + o.name + "() must be a variable reference or a list"
		if n == 1 {
			target := &listVariable{facts: facts{span: o.span}, place: place{name: "SELF"}, isSelf: true}
			target.self = syntaxAt(o.span, "SELF cannot be used within include statement")
			o.args = []op{target, o.args[0]}
			o.facts = factsOf(o.span, o.args...)
		} else if l, ok := c.listOf(o.args[0]); ok {
			o.args[0] = l
		} else if _, ok := constantOf(o.args[0]); ok {
			return o.bad(wrong)
		}
		o.run = func(x *exec, o *builtin) (tree.Value, *Error) {
			target, err := o.args[0].eval(x)
			if err != nil {
				return nil, err
			}
			v, err := o.args[1].eval(x)
			if err != nil {
				return nil, err
			}
			if _, null := v.(tree.Null); null {
				return o.bare("value cannot be null for " + o.name + "()")
			}
			l, ok := target.(*tree.List)
			if !ok {
				return o.bare(wrong)
			}
			if l.Protected() {
				l = tree.WritableCopy(l).(*tree.List)
			}
			if front { // it moves the others
				if err := x.step(l.Len() / 8); err != nil {
					return nil, err
				}
			}
			e := error(nil)
			if front {
				e = l.Prepend(v)
			} else {
				e = l.Append(v)
			}
			if e != nil {
				return nil, fromTree(e)
			}
			return l, nil
		}
		return o, nil
	}
}

// makeDelete removes a local variable or a part of one.
func makeDelete(c *compiler, o *builtin) (op, *Error) {
	if len(o.args) != 1 {
		return o.bad(o.name + one)
	}
	target, ok, err := c.setOf(o.args[0])
	if err != nil {
		return nil, err
	}
	if !ok {
		return o.bad("first argument of " + o.name + "() must be a variable reference")
	}
	o.run = func(x *exec, _ *builtin) (tree.Value, *Error) {
		if _, err := target.assign(x, nil); err != nil {
			return nil, err
		}
		return tree.Undef{}, nil
	}
	return o, nil
}

// makeDict is dict(k, v, …).
func makeDict(_ *compiler, o *builtin) (op, *Error) {
	if len(o.args)%2 != 0 {
		return o.bad("hash/nlist function must have an even number of arguments")
	}
	seen := map[string]bool{}
	for i := 0; i < len(o.args); i += 2 {
		v, ok := constantOf(o.args[i])
		if !ok {
			continue
		}
		k, err := dictKey(v)
		if err != nil {
			return nil, toSyntax(o.span, err)
		}
		if seen[k] {
			return o.bad("duplicate key (" + k + ") in nlist function")
		}
		seen[k] = true
	}
	o.run = func(x *exec, o *builtin) (tree.Value, *Error) {
		args, err := o.values(x)
		if err != nil {
			return nil, err
		}
		d, err := dictOf(args)
		if err != nil {
			return nil, x.at(o.span, err)
		}
		return d, nil
	}
	return o, nil
}

func dictOf(args []tree.Value) (*tree.Dict, *Error) {
	d := tree.NewDict(len(args) / 2)
	for i := 0; i < len(args); i += 2 {
		k, err := dictKey(args[i])
		if err != nil {
			return nil, err
		}
		old := d.Lookup(k)
		if e := d.Set(k, args[i+1]); e != nil {
			return nil, fromTree(e)
		}
		if old != nil {
			return nil, evaluation("duplicate key (" + k + ") in nlist function")
		}
	}
	return d, nil
}

// dictKey is the key that a value is.
func dictKey(v tree.Value) (string, *Error) {
	s, ok := text(v)
	if !ok {
		return "", evaluation("nlist keys must be string; argument is of type " + v.Type())
	}
	t, err := tree.NewTerm(s)
	if err != nil {
		return "", fromTree(err)
	}
	if !t.IsKey() {
		return "", evaluation("invalid key (" + s + ") for nlist() or hash()")
	}
	return t.Key(), nil
}

func length(x *exec, o *builtin) (tree.Value, *Error) {
	v, err := o.args[0].eval(x)
	if err != nil {
		return nil, err
	}
	switch v := v.(type) {
	case tree.String:
		return tree.Long(units(string(v))), nil
	case tree.Resource:
		return tree.Long(v.Len()), nil
	case tree.Undef:
		return tree.Long(0), nil
	}
	return o.fail(x, "argument to length must be undef, string, or resource; element of type "+v.Type()+" is not valid")
}

func key(x *exec, o *builtin) (tree.Value, *Error) {
	args, err := o.values(x)
	if err != nil {
		return nil, err
	}
	d, ok := args[0].(*tree.Dict)
	if !ok {
		return o.fail(x, "first argument to key() must be a dict")
	}
	n, ok := args[1].(tree.Long)
	switch {
	case !ok:
		return o.fail(x, "second argument to key() must be a long")
	case n > maxInt32:
		return o.fail(x, "index exceeds maximum value (2147483647): "+decimal(n))
	case n < 0 || int(n) >= d.Len():
		return o.fail(x, "index out of bounds in key(): "+decimal(n))
	}
	return tree.String(d.Key(int(n))), nil
}

// makeIterate makes first and next, which set two variables (or undef for none) and say whether there was an element.
func makeIterate(run func(x *exec, o *builtin, k, v *set) (tree.Value, *Error)) maker {
	return func(c *compiler, o *builtin) (op, *Error) {
		if len(o.args) != 3 {
			return o.bad(o.name + three)
		}
		var targets [2]*set
		for i, a := range o.args[1:] {
			s, ok, err := c.setOf(a)
			if err != nil {
				return nil, err
			}
			if !ok {
				v, isConstant := constantOf(a)
				if _, undef := v.(tree.Undef); !isConstant || !undef {
					return o.bad("argument must be a variable reference or undef")
				}
				continue
			}
			targets[i] = s
			o.args[1+i] = s
		}
		o.run = func(x *exec, o *builtin) (tree.Value, *Error) { return run(x, o, targets[0], targets[1]) }
		return o, nil
	}
}

// resource is the first argument of first and next.
func (o *builtin) resource(x *exec) (tree.Resource, *Error) {
	v, err := o.args[0].eval(x)
	if err != nil {
		return nil, err
	}
	r, ok := v.(tree.Resource)
	if !ok {
		return nil, x.fail(o.span, "first argument to "+o.name+"() must be a resource")
	}
	return r, nil
}

// give assigns where there is a target.
func (x *exec) give(s *set, v tree.Value) *Error {
	if s == nil {
		return nil
	}
	_, err := s.assign(x, v)
	return err
}

func first(x *exec, o *builtin, k, v *set) (tree.Value, *Error) {
	r, err := o.resource(x)
	if err != nil {
		return nil, err
	}
	if err := x.give(k, tree.Undef{}); err != nil {
		return nil, err
	}
	if err := x.give(v, tree.Undef{}); err != nil {
		return nil, err
	}
	i := r.Iterate()
	if x.iters == nil {
		x.iters = map[tree.Resource]*tree.Iterator{}
	}
	x.iters[r] = &i
	return x.advance(o, &i, k, v, false)
}

func next(x *exec, o *builtin, k, v *set) (tree.Value, *Error) {
	r, err := o.resource(x)
	if err != nil {
		return nil, err
	}
	i := x.iters[r]
	if i == nil {
		return o.fail(x, "no valid iterator found for resource")
	}
	return x.advance(o, i, k, v, true)
}

func (x *exec) advance(o *builtin, i *tree.Iterator, k, v *set, again bool) (tree.Value, *Error) {
	if !i.More() {
		return tree.Boolean(false), nil
	}
	keyValue, value, e := i.Next()
	if e != nil {
		return o.bare(fromTree(e).Msg)
	}
	if err := x.give(k, keyValue); err != nil {
		return nil, err
	}
	if again {
		if err := x.give(v, tree.Undef{}); err != nil {
			return nil, err
		}
	}
	if err := x.give(v, value); err != nil {
		return nil, err
	}
	return tree.Boolean(true), nil
}

func index(x *exec, o *builtin) (tree.Value, *Error) {
	args, err := o.values(x)
	if err != nil {
		return nil, err
	}
	from := 0
	if len(args) == 3 {
		n, ok := args[2].(tree.Long)
		if !ok {
			return o.fail(x, "third argument of index() must be a long")
		}
		from = max(0, int(int32(n)))
	}
	what := args[0]
	switch in := args[1].(type) {
	case tree.String:
		if s, ok := text(what); ok {
			return tree.Long(indexUnits(string(in), s, from)), nil
		}
	case *tree.List:
		for i := from; i < in.Len(); i++ {
			if tree.Equal(what, in.Value(i)) {
				return tree.Long(i), nil
			}
		}
		return tree.Long(-1), nil
	case *tree.Dict:
		for k, v := range in.All() {
			if !tree.Equal(what, v) {
				continue
			}
			if from == 0 {
				return tree.String(k), nil
			}
			from--
		}
		return tree.String(""), nil
	}
	return o.fail(x, "invalid argument(s) in call to index()")
}

func merge(x *exec, o *builtin) (tree.Value, *Error) {
	args, err := o.values(x)
	if err != nil {
		return nil, err
	}
	const wrong = "merge() arguments must be all lists or dicts"
	total := 0
	for _, a := range args {
		if r, ok := a.(tree.Resource); ok {
			total += r.Len()
		}
	}
	if err := x.step(total); err != nil {
		return nil, err
	}
	switch args[0].(type) {
	case *tree.Dict:
		result := tree.NewDict(total)
		for _, a := range args {
			d, ok := a.(*tree.Dict)
			if !ok {
				return o.fail(x, wrong)
			}
			for k, v := range d.All() {
				if old := result.Lookup(k); old != nil {
					if e := tree.CheckReplacement(old, v); e != nil {
						return nil, fromTree(e)
					}
					return o.fail(x, "two (or more) children have the same name in merge(): "+k)
				}
				if e := result.Set(k, v); e != nil {
					return nil, fromTree(e)
				}
			}
		}
		return result, nil
	case *tree.List:
		result, n := tree.NewList(total), 0
		for _, a := range args {
			l, ok := a.(*tree.List)
			if !ok {
				return o.fail(x, wrong)
			}
			for _, v := range l.All() {
				if e := result.Set(n, v); e != nil { // null leaves a hole, as in panc
					return nil, fromTree(e)
				}
				n++
			}
		}
		return result, nil
	}
	return o.fail(x, wrong)
}

func larger(x *exec, o *builtin) (tree.Value, *Error)  { return extreme(x, o, true) }
func smaller(x *exec, o *builtin) (tree.Value, *Error) { return extreme(x, o, false) }

func extreme(x *exec, o *builtin, most bool) (tree.Value, *Error) {
	args, err := o.values(x)
	if err != nil {
		return nil, err
	}
	a, okA := args[0].(tree.Long)
	b, okB := args[1].(tree.Long)
	switch {
	case okA && okB && most:
		return max(a, b), nil
	case okA && okB:
		return min(a, b), nil
	case !isNumber(args[0]) || !isNumber(args[1]):
		return o.fail(x, "all arguments to "+o.name+" must be longs or doubles")
	}
	da, db := number(args[0]), number(args[1])
	if most {
		return max(da, db), nil
	}
	return min(da, db), nil
}

func number(v tree.Value) tree.Double {
	if l, ok := v.(tree.Long); ok {
		return tree.Double(l)
	}
	return v.(tree.Double)
}

// makeIsValid takes the name of a type where others take a variable.
func makeIsValid(_ *compiler, o *builtin) (op, *Error) {
	if len(o.args) != 2 {
		return o.bad(o.name + two)
	}
	const wrong = "is_valid() requires the first argument to be a type"
	name := ""
	switch a := o.args[0].(type) {
	case *variable:
		if len(a.index) == 0 {
			name = a.name
		}
	case *selfRef:
		if len(a.index) == 0 {
			name = "SELF"
		}
	default:
		return o.bad(wrong)
	}
	o.run = func(x *exec, o *builtin) (tree.Value, *Error) {
		if err := o.runtime(x); err != nil {
			return nil, err
		}
		if name == "" {
			return o.bare(wrong)
		}
		v, err := o.args[1].eval(x)
		if err != nil {
			return nil, err
		}
		t := x.typeNamed(name)
		if t == nil {
			return o.bare("type lookup failed for '" + name + "'")
		}
		before := x.save()
		err = t.validate(x, v)
		if err == nil {
			return tree.Boolean(true), nil
		}
		if err.Class != Validation {
			return nil, err
		}
		x.restore(before)
		return tree.Boolean(false), nil
	}
	return o, nil
}
