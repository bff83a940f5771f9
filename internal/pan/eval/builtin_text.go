package eval

import (
	"math"
	"strconv"
	"strings"

	"muster/internal/pan/java"
	"muster/internal/pan/syntax"
	"muster/internal/pan/tree"
)

const (
	maxInt32 = math.MaxInt32
	minInt32 = math.MinInt32
)

func decimal(n tree.Long) string { return strconv.FormatInt(int64(n), 10) }

func units(s string) int { return java.Length(s) }

// indexUnits is String.indexOf(part, from).
func indexUnits(s, part string, from int) int {
	n := units(s)
	if from > n {
		if part == "" {
			return n
		}
		return -1
	}
	i := java.Index(java.Substring(s, from, n), part)
	if i < 0 {
		return -1
	}
	return from + i
}

// oneText evaluates an only argument that has to be a string.
func (o *builtin) oneText(x *exec) (string, tree.Value, *Error) {
	v, err := o.args[0].eval(x)
	if err != nil {
		return "", nil, err
	}
	s, ok := text(v)
	if !ok {
		return "", v, nil
	}
	return s, nil, nil
}

func base64Encode(x *exec, o *builtin) (tree.Value, *Error) {
	s, other, err := o.oneText(x)
	if err != nil {
		return nil, err
	}
	if other != nil {
		return o.fail(x, "argument for base64_encode() must be a string")
	}
	if err := x.grown(len(s) * 4 / 3); err != nil {
		return nil, err
	}
	return tree.String(tree.AppendBase64(nil, s)), nil
}

func base64Decode(x *exec, o *builtin) (tree.Value, *Error) {
	s, other, err := o.oneText(x)
	if err != nil {
		return nil, err
	}
	if other != nil {
		return o.fail(x, "argument for base64_decode() must be a string")
	}
	d, err := decodeBase64(s)
	if err != nil {
		return nil, err
	}
	return tree.String(strings.ToValidUTF8(string(d), "\uFFFD")), nil
}

// makeEscape folds the escape of a constant, so that what cannot be escaped is an error of syntax.
func makeEscape(_ *compiler, o *builtin) (op, *Error) {
	return foldText(o, "escape", tree.Escape)
}

func makeUnescape(_ *compiler, o *builtin) (op, *Error) {
	return foldText(o, "unescape", tree.Unescape)
}

func foldText(o *builtin, name string, apply func(string) (string, error)) (op, *Error) {
	if len(o.args) != 1 {
		return o.bad(name + oneString)
	}
	wrong := func(v tree.Value) string { return name + " argument is not a string: " + v.Type() }
	if v, ok := constantOf(o.args[0]); ok {
		s, ok := text(v)
		if !ok {
			return o.bad(wrong(v))
		}
		r, err := apply(s)
		if err != nil {
			return o.bad(fromTree(err).Msg)
		}
		return &constant{value: tree.String(r)}, nil
	}
	o.run = func(x *exec, o *builtin) (tree.Value, *Error) {
		s, other, err := o.oneText(x)
		if err != nil {
			return nil, err
		}
		if other != nil {
			if name == "escape" {
				return o.bare(wrong(other))
			}
			return o.fail(x, wrong(other))
		}
		r, e := apply(s)
		if e != nil {
			return nil, x.at(o.span, fromTree(e))
		}
		if err := x.grown(len(r)); err != nil {
			return nil, err
		}
		return tree.String(r), nil
	}
	return o, nil
}

// makeDigest is digest(algorithm, message).
func makeDigest(_ *compiler, o *builtin) (op, *Error) {
	if len(o.args) != 2 {
		return o.bad(o.name + two)
	}
	if v, ok := constantOf(o.args[0]); ok {
		algorithm, ok := text(v)
		if !ok {
			return o.bad("first argument of digest() must be a string")
		}
		if !java.HasDigest(algorithm) {
			return o.bad("invalid digest algorithm (" + algorithm + ")")
		}
	}
	if notText(o.args[1]) {
		return o.bad("second argument of digest() must be a string")
	}
	o.run = func(x *exec, o *builtin) (tree.Value, *Error) {
		args, err := o.values(x)
		if err != nil {
			return nil, err
		}
		algorithm, ok := text(args[0])
		if !ok {
			return o.bare("first argument of digest() must be a string")
		}
		message, ok := text(args[1])
		if !ok {
			return o.bare("second argument of digest() must be a string")
		}
		if err := x.grown(len(message)); err != nil {
			return nil, err
		}
		d, ok := java.Digest(algorithm, message)
		if !ok {
			return o.bare("invalid digest algorithm (" + algorithm + ")")
		}
		return tree.String(d), nil
	}
	return o, nil
}

// makeFormat is format(fmt, …): String.format.
func makeFormat(_ *compiler, o *builtin) (op, *Error) {
	if len(o.args) == 0 {
		return o.bad("first argument of format() must be a string")
	}
	o.run = func(x *exec, o *builtin) (tree.Value, *Error) {
		s, err := o.format(x)
		return tree.String(s), err
	}
	return o, nil
}

// format evaluates the arguments and puts them into the first.
func (o *builtin) format(x *exec) (string, *Error) {
	args, err := o.values(x)
	if err != nil {
		return "", err
	}
	f, ok := text(args[0])
	if !ok {
		return "", x.fail(o.span, "first argument to format() must be a string")
	}
	values := make([]any, 0, len(args)-1)
	for _, v := range args[1:] {
		switch v := v.(type) {
		case tree.Resource:
			s, err := x.show(v)
			if err != nil {
				return "", err
			}
			values = append(values, s)
		case tree.String:
			values = append(values, string(v))
		case tree.Long:
			values = append(values, int64(v))
		case tree.Double:
			values = append(values, float64(v))
		case tree.Boolean:
			values = append(values, bool(v))
		default:
			return "", x.fail(o.span, "all arguments to format() must be primitive types")
		}
	}
	s, e := java.Format(f, values...)
	if e != nil {
		return "", x.fail(o.span, "invalid format specification or mismatched types in format(): "+e.Error())
	}
	return s, x.grown(len(s))
}

// makeError is error(fmt, …), which ends the object.
func makeError(_ *compiler, o *builtin) (op, *Error) {
	if len(o.args) == 0 {
		return o.bad(o.name + oneOrMore)
	}
	o.restricted = firstOf(o.restricted, restrictedAt(o.span, o.name))
	o.run = func(x *exec, o *builtin) (tree.Value, *Error) {
		s, err := o.message(x)
		if err != nil {
			return nil, err
		}
		if s == nil {
			return o.bare("the first argument for error() needs to be a string")
		}
		object := "empty"
		if x.object != nil {
			object = x.object.Name
		}
		return o.fail(x, "["+object+"] user-initiated error: "+*s)
	}
	return o, nil
}

// message is the text of error() and debug(): an only argument as it is (nil if it is no string), more of them formatted.
func (o *builtin) message(x *exec) (*string, *Error) {
	if len(o.args) > 1 {
		s, err := o.format(x)
		return &s, err
	}
	s, other, err := o.oneText(x)
	if err != nil || other != nil {
		return nil, err
	}
	return &s, nil
}

// makeDebug is debug(fmt, …); where debugging is off it is undef.
func makeDebug(c *compiler, o *builtin) (op, *Error) {
	if len(o.args) == 0 {
		return o.bad(o.name + oneOrMore)
	}
	if len(o.args) == 1 && notText(o.args[0]) {
		return o.bad(o.name + oneString)
	}
	if !c.debug {
		return &constant{value: tree.Undef{}}, nil
	}
	o.run = func(x *exec, o *builtin) (tree.Value, *Error) {
		if err := o.runtime(x); err != nil {
			return nil, err
		}
		s, err := o.message(x)
		if err != nil {
			return nil, err
		}
		if s == nil {
			return o.fail(x, o.name+oneString)
		}
		x.print("[" + x.object.Name + "] " + *s)
		return tree.String(*s), nil
	}
	return o, nil
}

// makeTraceback is traceback(text); where debugging is off it is undef.
func makeTraceback(c *compiler, o *builtin) (op, *Error) {
	if len(o.args) != 1 || notText(o.args[0]) {
		return o.bad(o.name + oneString)
	}
	if !c.debug {
		return &constant{value: tree.Undef{}}, nil
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
			return o.fail(x, o.name+oneString)
		}
		x.print(s)
		x.print(x.stack(o.span))
		return tree.String(s), nil
	}
	return o, nil
}

// makeDeprecated is deprecated(level, message): it prints, fails or does nothing, and is true.
func makeDeprecated(_ *compiler, o *builtin) (op, *Error) {
	const badLevel = "first argument of deprecated() must be a non-negative long"
	const badText = "second argument of deprecated() must be a string"
	if len(o.args) != 2 {
		return o.bad(o.name + two)
	}
	if v, ok := constantOf(o.args[0]); ok {
		if n, ok := v.(tree.Long); !ok || n < 0 {
			return o.bad(badLevel)
		}
	}
	if notText(o.args[1]) {
		return o.bad(badText)
	}
	o.run = func(x *exec, o *builtin) (tree.Value, *Error) {
		if x.constant {
			return tree.Boolean(true), nil
		}
		args, err := o.values(x)
		if err != nil {
			return nil, err
		}
		level, ok := args[0].(tree.Long)
		if !ok {
			return o.fail(x, badLevel)
		}
		s, ok := text(args[1])
		if !ok {
			return o.fail(x, badText)
		}
		if level < 0 {
			return o.fail(x, badLevel)
		}
		switch x.build.warnings {
		case WarningsOn:
			x.print(s)
		case WarningsFatal:
			return o.fail(x, "deprecation error: "+s)
		}
		return tree.Boolean(true), nil
	}
	return o, nil
}

// makeMatch makes match and matches. With constant pattern and flags the pattern is compiled once, and must be right.
func makeMatch(run func(p *java.Pattern, s string) (tree.Value, error)) maker {
	return func(_ *compiler, o *builtin) (op, *Error) {
		prepared := len(o.args) > 1 && isText(o.args[1]) && (len(o.args) < 3 || isText(o.args[2]))
		for i, a := range o.args {
			if prepared && i > 0 {
				break
			}
			if v, ok := constantOf(a); ok && notText(a) {
				return o.bad(o.name + "() arguments must all be strings; " + v.Type() + " found")
			}
		}
		if len(o.args) < 2 || len(o.args) > 3 {
			return o.bad(o.name + twoThree)
		}
		var flags java.Flags
		if len(o.args) == 3 && isText(o.args[2]) {
			var err *Error
			v, _ := constantOf(o.args[2])
			if flags, err = matchFlags(v); err != nil {
				return o.bad(err.Msg)
			}
		}
		var known *java.Pattern
		if isText(o.args[1]) {
			v, _ := constantOf(o.args[1])
			if !prepared {
				flags = 0 // the flags are not known yet: panc tries the pattern without
			}
			p, err := pattern(v, flags)
			if err != nil {
				return o.bad(err.Msg)
			}
			if prepared {
				known = p
				o.args = o.args[:1]
			}
		}
		o.run = func(x *exec, o *builtin) (tree.Value, *Error) {
			args, err := o.values(x)
			if err != nil {
				return nil, err
			}
			p, flags := known, java.Flags(0)
			for _, i := range []int{0, 2, 1} { // the order in which panc looks at them
				if i >= len(args) {
					continue
				}
				if _, ok := text(args[i]); !ok {
					return o.fail(x, o.name+"() arguments must all be strings; "+lastOther(args)+" found")
				}
				if i == 2 {
					if flags, err = matchFlags(args[2]); err != nil {
						return nil, x.fail(o.span, err.Msg)
					}
				}
			}
			if p == nil {
				if p, err = x.pattern(args[1], flags); err != nil {
					return nil, x.fail(o.span, err.Msg)
				}
			}
			s, _ := text(args[0])
			if err := x.searched(s); err != nil {
				return nil, err
			}
			v, e := run(p, s)
			if e != nil {
				return o.fail(x, e.Error())
			}
			return v, nil
		}
		return o, nil
	}
}

// lastOther is the type of the last value that is no string.
func lastOther(args []tree.Value) (other string) {
	for _, v := range args {
		if _, ok := text(v); !ok {
			other = v.Type()
		}
	}
	return other
}

func isText(o op) bool {
	v, ok := constantOf(o)
	if !ok {
		return false
	}
	_, ok = v.(tree.String)
	return ok
}

func matchFlags(v tree.Value) (java.Flags, *Error) {
	s, _ := text(v)
	f, bad, ok := java.ParseFlags(s)
	if !ok {
		return 0, evaluation("invalid matching flag for regular expression: " + bad)
	}
	return f, nil
}

func pattern(v tree.Value, flags java.Flags) (*java.Pattern, *Error) {
	s, _ := text(v)
	p, err := java.Compile(s, flags)
	if err != nil {
		return nil, evaluation("invalid regular expression: " + err.Error())
	}
	return p, nil
}

// pattern compiles what is known only when it runs, each text once.
func (x *exec) pattern(v tree.Value, flags java.Flags) (*java.Pattern, *Error) {
	if x.build == nil {
		return pattern(v, flags)
	}
	s, _ := text(v)
	p, err := x.build.patterns.Compile(s, flags)
	if err != nil {
		return nil, evaluation("invalid regular expression: " + err.Error())
	}
	return p, nil
}

func match(p *java.Pattern, s string) (tree.Value, error) {
	ok, err := p.Match(s)
	return tree.Boolean(ok), err
}

// matches is the list of groups, up to the last that took part.
func matches(p *java.Pattern, s string) (tree.Value, error) {
	groups, err := p.Matches(s)
	if err != nil {
		return nil, err
	}
	l := tree.NewList(len(groups))
	for _, g := range groups {
		_ = l.Append(tree.String(g))
	}
	return l, nil
}

// replace evaluates its arguments one by one, and looks at each before the next.
func replace(x *exec, o *builtin) (tree.Value, *Error) {
	v, err := o.args[0].eval(x)
	if err != nil {
		return nil, err
	}
	if _, ok := text(v); !ok {
		return o.fail(x, "first argument to replace() must be a regular expression string")
	}
	p, err := x.pattern(v, 0)
	if err != nil {
		return o.fail(x, err.Msg)
	}
	if v, err = o.args[1].eval(x); err != nil {
		return nil, err
	}
	with, ok := text(v)
	if !ok {
		return o.fail(x, "second argument to replace() must be a replacement string")
	}
	if v, err = o.args[2].eval(x); err != nil {
		return nil, err
	}
	s, ok := text(v)
	if !ok {
		return o.fail(x, "third argument to replace() must be a string")
	}
	if err := x.searched(s); err != nil {
		return nil, err
	}
	r, e := p.ReplaceAll(s, with)
	if e != nil {
		if r, ok := e.(*java.ReplacementError); ok {
			if r.NoGroup {
				return nil, &Error{Class: IndexBounds, Msg: r.What}
			}
			return o.fail(x, "invalid replacement string; check '$' and '\\' characters")
		}
		return o.fail(x, e.Error())
	}
	return tree.String(r), x.grown(len(r))
}

// searched counts the search of a text for a regular expression, which costs more than to copy it.
func (x *exec) searched(s string) *Error { return x.step(len(s) >> 2) }

func split(x *exec, o *builtin) (tree.Value, *Error) {
	v, err := o.args[0].eval(x)
	if err != nil {
		return nil, err
	}
	if _, ok := text(v); !ok {
		return o.fail(x, "first argument to split() must be a regular expression string")
	}
	p, err := x.pattern(v, 0)
	if err != nil {
		return o.fail(x, err.Msg)
	}
	limit := int32(0)
	if len(o.args) == 3 {
		if v, err = o.args[1].eval(x); err != nil {
			return nil, err
		}
		n, ok := v.(tree.Long)
		if !ok {
			return o.fail(x, "second argument to split() must be a long value")
		}
		limit = int32(n)
	}
	if v, err = o.args[len(o.args)-1].eval(x); err != nil {
		return nil, err
	}
	s, ok := text(v)
	if !ok {
		return o.fail(x, "last argument to split() must be a string")
	}
	if err := x.searched(s); err != nil {
		return nil, err
	}
	parts, e := p.Split(s, limit)
	if e != nil {
		return o.fail(x, e.Error())
	}
	l := tree.NewList(len(parts))
	for _, s := range parts {
		_ = l.Append(tree.String(s))
	}
	return l, x.step(len(parts))
}

// substitute puts values for ${name}: from a dict, or of variables.
func substitute(x *exec, o *builtin) (tree.Value, *Error) {
	args, err := o.values(x)
	if err != nil {
		return nil, err
	}
	s, ok := text(args[0])
	if !ok {
		return o.fail(x, "first argument to substitute() must be a string")
	}
	look := x.named
	if len(args) == 2 {
		d, ok := args[1].(*tree.Dict)
		if !ok {
			return o.fail(x, "second argument to substitute() must be an nlist")
		}
		look = d.Lookup
	}
	var failed *Error
	r, e := java.Substitute(s, func(name string) (string, bool) {
		v := look(name)
		if v == nil {
			failed = firstOf(failed, x.fail(o.span, "variable ("+name+") undefined in substitute()"))
			return "", false
		}
		s, err := x.show(v)
		failed = firstOf(failed, err)
		return s, err == nil
	})
	if failed != nil {
		return nil, failed
	}
	if e != nil {
		return o.fail(x, e.Error())
	}
	return tree.String(r), x.grown(len(r))
}

func substr(x *exec, o *builtin) (tree.Value, *Error) {
	v, err := o.args[0].eval(x)
	if err != nil {
		return nil, err
	}
	s, ok := text(v)
	if !ok {
		return o.fail(x, "first argument to substr() must be a string")
	}
	n := units(s)
	if v, err = o.args[1].eval(x); err != nil {
		return nil, err
	}
	l, ok := v.(tree.Long)
	switch {
	case !ok:
		return o.fail(x, "second argument to substr() must be a long")
	case l > maxInt32 || l < minInt32:
		return o.fail(x, "second argument to substr() cannot be converted to int: "+decimal(l))
	}
	start := int(l)
	if start < 0 {
		start += n
	}
	switch {
	case start > n:
		return o.fail(x, "start index in substr() is greater than the string length")
	case start < 0:
		return o.fail(x, "start index in substr() is less than zero")
	}
	end := n
	if len(o.args) == 3 {
		if v, err = o.args[2].eval(x); err != nil {
			return nil, err
		}
		l, ok := v.(tree.Long)
		switch {
		case !ok:
			return o.fail(x, "second and optional third arguments to substr() must be longs")
		case l > maxInt32 || l < minInt32:
			return o.fail(x, "third argument to substr() cannot be converted to int: "+decimal(l))
		}
		if end = start + int(l); l < 0 {
			end = n + int(l)
		}
		switch {
		case end > n:
			return o.fail(x, "end index in substr() is greater than the string length")
		case end < 0:
			return o.fail(x, "end index in substr() is less than zero")
		case end < start:
			return o.fail(x, "start index is after ending index in substr()")
		}
	}
	return tree.String(java.Substring(s, start, end)), nil
}

func splice(x *exec, o *builtin) (tree.Value, *Error) {
	args, err := o.values(x)
	if err != nil {
		return nil, err
	}
	var at [2]int
	for i, which := range []string{"second", "third"} {
		l, ok := args[1+i].(tree.Long)
		switch {
		case !ok:
			return o.fail(x, which+" argument to splice() must be a long")
		case l > maxInt32 || l < minInt32:
			return o.fail(x, which+" argument to splice() cannot be converted to int: "+decimal(l))
		}
		at[i] = int(l)
	}
	const other = "fourth argument of splice() must be of the same type as the first"
	switch v := args[0].(type) {
	case tree.String:
		middle := ""
		if len(args) == 4 {
			var ok bool
			if middle, ok = text(args[3]); !ok {
				return o.fail(x, other)
			}
		}
		s := string(v)
		n := units(s)
		start, end, msg := cut(at[0], at[1], n, "string")
		if msg != "" {
			return o.fail(x, msg)
		}
		r := java.Concat(java.Concat(java.Substring(s, 0, start), middle), java.Substring(s, end, n))
		return tree.String(r), x.grown(len(r))
	case *tree.List:
		middle := tree.NewList(0)
		if len(args) == 4 {
			var ok bool
			if middle, ok = args[3].(*tree.List); !ok {
				return o.fail(x, other)
			}
		}
		start, end, msg := cut(at[0], at[1], v.Len(), "list")
		if msg != "" {
			return o.fail(x, msg)
		}
		result := tree.NewList(v.Len() + middle.Len())
		n := 0
		add := func(l *tree.List, from, to int) {
			for i := from; i < to; i++ {
				_ = result.Set(n, l.Value(i)) // null at its place leaves a hole or nothing, as in panc
				n++
			}
		}
		add(v, 0, start)
		add(middle, 0, middle.Len())
		add(v, end, v.Len())
		return result, x.step(result.Len())
	}
	return o.fail(x, "first argument of splice() must be a string or list")
}

// cut says from where to where splice takes out; msg is what is wrong with that.
func cut(start, length, n int, of string) (from, to int, msg string) {
	if start < 0 {
		start += n
	}
	end := start + length
	if length < 0 {
		end = n + length
	}
	switch {
	case start < 0:
		msg = "start index in splice() is before beginning of " + of
	case start > n:
		msg = "start index in splice() is after end of " + of
	case end < 0:
		msg = "end index in splice() is before beginning of " + of
	case end > n:
		msg = "end index in splice() is after end of " + of
	case end < start:
		msg = "end index is before the start index"
	}
	return start, end, msg
}

// makeJoin is join(separator, list) and join(separator, a, b, …).
func makeJoin(_ *compiler, o *builtin) (op, *Error) {
	if len(o.args) < 2 {
		return o.bad(o.name + twoOrMore)
	}
	for _, a := range o.args[:2] {
		if v, ok := constantOf(a); ok {
			if _, null := v.(tree.Null); null {
				return o.bad("value cannot be null for " + o.name + "()")
			}
		}
	}
	if _, ok := constantOf(o.args[1]); ok && len(o.args) == 2 {
		return o.bad("second argument of " + o.name + "() must be a variable reference or a list")
	}
	o.run = join
	return o, nil
}

func join(x *exec, o *builtin) (tree.Value, *Error) {
	const wrong = "join() only accepts strings or a list of strings as input arguments"
	v, err := o.args[0].eval(x)
	if err != nil {
		return nil, err
	}
	sep, ok := text(v)
	if !ok {
		return o.fail(x, "first argument in join() must be a string")
	}
	var parts []string
	size := 0
	if len(o.args) == 2 {
		if v, err = o.args[1].eval(x); err != nil {
			return nil, err
		}
		l, ok := v.(*tree.List)
		if !ok {
			return o.fail(x, wrong)
		}
		for _, v := range l.All() {
			s, ok := text(v)
			switch {
			case tree.IsResource(v):
				return o.fail(x, "join() doesn't accept nested elements in the passed list")
			case !ok:
				return o.fail(x, "join() only accepts strings as elements in the list")
			}
			parts = append(parts, s)
			size += len(s) + len(sep)
		}
	} else {
		for _, a := range o.args[1:] {
			if v, err = a.eval(x); err != nil {
				return nil, err
			}
			s, ok := text(v)
			if _, isList := v.(*tree.List); isList {
				return o.fail(x, "join() only accepts a single list as an argument or all the arguments individually")
			} else if !ok {
				return o.fail(x, wrong)
			}
			parts = append(parts, s)
			size += len(s) + len(sep)
		}
	}
	if err := x.grown(size); err != nil {
		return nil, err
	}
	return tree.String(strings.Join(parts, sep)), nil
}

func toLower(x *exec, o *builtin) (tree.Value, *Error) { return changeCase(x, o, java.ToLower) }
func toUpper(x *exec, o *builtin) (tree.Value, *Error) { return changeCase(x, o, java.ToUpper) }

func changeCase(x *exec, o *builtin, change func(string) string) (tree.Value, *Error) {
	s, other, err := o.oneText(x)
	if err != nil {
		return nil, err
	}
	if other != nil {
		return o.fail(x, "invalid argument to "+o.name+"(); string required")
	}
	return tree.String(change(s)), x.grown(len(s))
}

func toString(x *exec, o *builtin) (tree.Value, *Error) {
	v, err := o.args[0].eval(x)
	if err != nil {
		return nil, err
	}
	if _, ok := v.(tree.String); ok {
		return v, nil
	}
	s, err := x.show(v)
	return tree.String(s), err
}

// show is the text of a value, as to_string() has it.
func (x *exec) show(v tree.Value) (string, *Error) {
	s, err := tree.Text(v)
	if err != nil {
		return "", fromTree(err)
	}
	return s, x.grown(len(s))
}

func toBoolean(x *exec, o *builtin) (tree.Value, *Error) {
	v, err := o.args[0].eval(x)
	if err != nil {
		return nil, err
	}
	switch v := v.(type) {
	case tree.Boolean:
		return v, nil
	case tree.Long:
		return tree.Boolean(v != 0), nil
	case tree.Double:
		return tree.Boolean(v != 0), nil
	case tree.String:
		return tree.Boolean(v != "" && !strings.EqualFold(string(v), "false")), nil
	}
	return o.fail(x, "to_boolean argument is not a property: "+v.Type())
}

func toDouble(x *exec, o *builtin) (tree.Value, *Error) {
	v, err := o.args[0].eval(x)
	if err != nil {
		return nil, err
	}
	switch v := v.(type) {
	case tree.Boolean:
		if v {
			return tree.Double(1), nil
		}
		return tree.Double(0), nil
	case tree.Long:
		return tree.Double(v), nil
	case tree.Double:
		return v, nil
	case tree.String:
		d, err := java.ParseDouble(string(v))
		if err != nil {
			return o.fail(x, "string cannot be converted to double: "+string(v))
		}
		return tree.Double(d), nil
	}
	return o.fail(x, "to_double argument is not a property: "+v.Type())
}

// makeToLong is to_long(x) and to_long(x, radix).
func makeToLong(_ *compiler, o *builtin) (op, *Error) {
	if n := len(o.args); n < 1 || n > 2 {
		return o.bad(o.name + oneOrTwo)
	}
	o.run = toLong
	return o, nil
}

func toLong(x *exec, o *builtin) (tree.Value, *Error) {
	args, err := o.values(x)
	if err != nil {
		return nil, err
	}
	radix := 0
	if len(args) == 2 {
		if radix, err = o.radix(x, args[1]); err != nil {
			return nil, err
		}
	}
	switch v := args[0].(type) {
	case tree.Boolean:
		if v {
			return tree.Long(1), nil
		}
		return tree.Long(0), nil
	case tree.Long:
		return v, nil
	case tree.Double:
		return tree.Long(java.Round(float64(v))), nil
	case tree.String:
		n, e := int64(0), error(nil)
		if radix == 0 {
			n, e = java.DecodeLong(string(v))
		} else {
			n, e = java.ParseLong(string(v), radix)
		}
		if e != nil {
			return o.fail(x, "string cannot be converted to long: "+string(v))
		}
		return tree.Long(n), nil
	}
	return o.fail(x, "invalid argument of type "+args[0].Type()+"; expecting a property")
}

func (o *builtin) radix(x *exec, v tree.Value) (int, *Error) {
	n, ok := v.(tree.Long)
	switch {
	case ok && (n < 2 || n > 36):
		return 0, x.fail(o.span, "radix value "+tree.FormatNumber(int64(n))+" is not within valid range [2, 36]")
	case ok:
		return int(n), nil
	case tree.IsProperty(v):
		class := map[string]string{"boolean": "Boolean", "double": "Double", "string": "String"}[v.Type()]
		return 0, evaluation("radix must be a long not class org.quattor.pan.dml.data." + class + "Property")
	}
	return 0, x.fail(o.span, "invalid argument of type "+v.Type()+"; expecting a property")
}

func ip4ToLong(x *exec, o *builtin) (tree.Value, *Error) {
	args, err := o.values(x)
	if err != nil {
		return nil, err
	}
	s, ok := text(args[0])
	if !ok {
		return o.fail(x, "argument to ip4_to_long() must be a string")
	}
	const form = `argument to ip4_to_long() must be a string in dotted notation with an optional bitmask, like "127.0.0.1/8"`
	// Java's $ stands before a line's end, too
	address, mask, masked := strings.Cut(trimLine(s), "/")
	parts := strings.Split(address, ".")
	if len(parts) != 4 || masked && !digits(mask) {
		return o.fail(x, form)
	}
	n := int64(0)
	for _, p := range parts {
		if !digits(p) {
			return o.fail(x, form)
		}
	}
	for _, p := range parts {
		b, e := strconv.ParseInt(p, 10, 64)
		if e != nil {
			return nil, &Error{Class: NumberFormat, Msg: `For input string: "` + p + `"`}
		}
		if b > 255 {
			return o.fail(x, form)
		}
		n = n<<8 | b
	}
	bits := int64(0xFFFFFFFF)
	if m, e := strconv.ParseInt(mask, 10, 32); masked && e == nil {
		if m > 32 {
			return o.fail(x, "bitmask to IP must be between 0 and 32.")
		}
		bits = bits >> (32 - m) << (32 - m)
	}
	return tree.ListOf(tree.Long(n), tree.Long(bits)), nil
}

func trimLine(s string) string {
	for _, end := range []string{"\r\n", "\n", "\r", "\u0085", "\u2028", "\u2029"} {
		if r, ok := strings.CutSuffix(s, end); ok {
			return r
		}
	}
	return s
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

func longToIP4(x *exec, o *builtin) (tree.Value, *Error) {
	args, err := o.values(x)
	if err != nil {
		return nil, err
	}
	n, ok := args[0].(tree.Long)
	switch {
	case !ok:
		return o.fail(x, "argument to ip4_to_long must be a long")
	case n < 0 || n > 0xFFFFFFFF:
		return o.fail(x, "argument to ip4_to_long must be a 32-bit integer")
	}
	return tree.String(decimal(n>>24) + "." + decimal(n>>16&255) + "." + decimal(n>>8&255) + "." + decimal(n&255)), nil
}

func jsonEncode(x *exec, o *builtin) (tree.Value, *Error) {
	v, err := o.args[0].eval(x)
	if err != nil {
		return nil, err
	}
	b, e := tree.AppendJSON(nil, v)
	if e != nil {
		return nil, x.at(o.span, fromTree(e))
	}
	return tree.String(b), x.grown(len(b))
}

func jsonDecode(x *exec, o *builtin) (tree.Value, *Error) {
	s, other, err := o.oneText(x)
	if err != nil {
		return nil, err
	}
	if other != nil {
		return o.fail(x, "argument for json_decode() must be a string")
	}
	if err := x.grown(len(s)); err != nil {
		return nil, err
	}
	v, e := tree.DecodeJSON(s)
	if e != nil {
		return nil, x.at(o.span, fromTree(e))
	}
	return v, nil
}

// noSpan is panc's absent range.
var noSpan syntax.Span
