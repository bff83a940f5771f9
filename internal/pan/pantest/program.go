package pantest

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
)

// Program is a random program: an object template of that name and the templates that it includes, by file name. Most of what
// it does has a meaning; one expression in some dozens is of a wrong type, refers to what is not there, or breaks a limit, so
// that about a third of the programs end with an error. Every program ends. Equal random numbers give equal programs.
func Program(r *rand.Rand, name string) map[string]string {
	p := &program{r: r, name: name, files: make(map[string]string)}
	p.object()
	return p.files
}

// named is one of a few names of variables of a kind; rarely of another, which then changes its type.
func (p *program) named(front string, k kind) string {
	if p.r.IntN(150) == 0 {
		k = p.anyKind()
	}
	return front + [kinds]string{"n", "f", "s", "b", "l", "d"}[k] + strconv.Itoa(p.r.IntN(3))
}

// kind is the type that an expression should have.
type kind int

const (
	long kind = iota
	double
	text
	boolean
	list
	dict
	kinds
)

type variable struct {
	name string
	kind kind
}

type program struct {
	r     *rand.Rand
	name  string
	files map[string]string

	globals   []variable
	functions []variable // by what they return; each takes a string or number
	types     []variable
	paths     []variable
	structs   []string
	others    []string

	locals   []variable
	inLoop   int
	function bool
	depth    int
	prefix   bool
}

func (p *program) chance(percent int) bool { return p.r.IntN(100) < percent }

func (p *program) pick(all ...string) string { return all[p.r.IntN(len(all))] }

func (p *program) object() {
	if p.chance(30) {
		p.structure()
	}
	if p.chance(15) {
		p.other()
	}
	var s strings.Builder
	fmt.Fprintf(&s, "object template %s;\n", p.name)
	n := 2 + p.r.IntN(9)
	for i := range n {
		if p.chance(8) && len(p.files) < 4 {
			s.WriteString(p.include())
		}
		if i == n/2 && p.chance(10) {
			p.prefix = true
			fmt.Fprintf(&s, "prefix '/%s';\n", p.pick("pre", "a", "a/x"))
		}
		s.WriteString(p.statement())
	}
	p.files[p.name+".pan"] = s.String()
}

// other is a second object template, to which values refer; sometimes it refers back.
func (p *program) other() {
	name := p.name + "_other"
	back := ""
	if p.chance(20) {
		back = fmt.Sprintf("'/b/s0' = to_string(value('%s:/%s/n0'%s));\n", p.name, p.pick("a", "b"), p.pick("", ", 7"))
	}
	p.files[name+".pan"] = fmt.Sprintf("object template %s;\n'/a/n0' = %s;\n'/a/d0' = %s;\n%s", name, p.literal(long), p.literal(dict), back)
	p.others = append(p.others, name)
}

// include makes a template and gives the statements that include it.
func (p *program) include() string {
	kind := p.pick("", "unique ", "declaration ")
	name := fmt.Sprintf("%s_%d", p.name, len(p.files))
	p.files[name+".pan"] = ""
	was := p.prefix
	p.prefix = false
	var s strings.Builder
	fmt.Fprintf(&s, "%stemplate %s;\n", kind, name)
	for range 1 + p.r.IntN(4) {
		if kind == "declaration " {
			s.WriteString(p.declaration())
		} else {
			s.WriteString(p.statement())
		}
	}
	p.prefix = was
	p.files[name+".pan"] = s.String()
	once := fmt.Sprintf("include '%s';\n", name)
	switch p.r.IntN(5) {
	case 0:
		return once + once
	case 1:
		return fmt.Sprintf("include if (%s) '%s' else undef;\n", p.expression(boolean), name)
	case 2:
		return fmt.Sprintf("include if_exists('%s');\ninclude if_exists('%s_none');\n", name, p.name)
	}
	return once
}

func (p *program) structure() {
	name := p.name + "_struct"
	var s strings.Builder
	fmt.Fprintf(&s, "structure template %s;\n", name)
	for range 1 + p.r.IntN(4) {
		fmt.Fprintf(&s, "'%s' %s %s;\n", p.pick("a", "b", "c/d", "e"), p.pick("=", "=", "?="), p.expression(p.anyKind()))
	}
	p.files[name+".pan"] = s.String()
	p.structs = append(p.structs, name)
}

func (p *program) anyKind() kind { return kind(p.r.IntN(int(kinds))) }

func (p *program) statement() string {
	if p.chance(40) {
		return p.note() + p.declaration()
	}
	path, k := p.path()
	if k == text && p.chance(10) {
		return fmt.Sprintf("'%s' = <<EOT;\nfirst ${a} 'x'\n\t%s\nEOT\n", path, p.word())
	}
	if p.chance(6) {
		path, k = p.oldPath()
		if p.chance(50) {
			return fmt.Sprintf("'%s' = null;\n", path)
		}
	}
	final := ""
	if p.chance(5) {
		final = "final "
	}
	return fmt.Sprintf("%s'%s' %s %s;\n", final, path, p.pick("=", "=", "=", "?="), p.dml(k))
}

// note is a comment or an annotation, or nothing as a rule.
func (p *program) note() string {
	if p.chance(90) {
		return ""
	}
	return p.pick("# it's \"so\"\n", "@{\n  desc = text of it\n  values = 1, 2\n}\n", "@documentation(free text)\n", "\n\n", "#\n")
}

func (p *program) declaration() string {
	switch p.r.IntN(6) {
	case 0:
		return p.typeStatement()
	case 1:
		return p.functionStatement()
	case 2:
		if len(p.paths) == 0 {
			return ""
		}
		path, k := p.oldPath()
		if !strings.HasPrefix(path, "/") {
			path = "/pre/" + path
		}
		if v, ok := p.find(p.globals, text); ok && p.chance(4) {
			path = "/b/${" + v + "}"
		}
		if p.chance(25) {
			return fmt.Sprintf("valid '%s' = %s;\n", path, p.block(func() string { return p.expression(boolean) }))
		}
		return fmt.Sprintf("bind '%s' = %s;\n", path, p.typeOf(k, 2))
	}
	k := p.anyKind()
	name := p.named("G", k)
	s := fmt.Sprintf("%svariable %s %s %s;\n", map[bool]string{true: "final "}[p.chance(3)], name, p.pick("=", "=", "?="), p.dml(k))
	p.globals = append(p.globals, variable{name, k})
	return s
}

// path is a new path for a value of a kind.
func (p *program) path() (string, kind) {
	k := p.anyKind()
	path := "/" + p.pick("a", "b", "{k/1}") + "/" + p.named("", k)
	if p.chance(5) {
		path = "/w"
		for range 1 + p.r.IntN(3) {
			path += "/" + p.pick("a", "b", "0x", "n-1", "0", "1", p.named("", k))
		}
	}
	if p.prefix && p.chance(60) {
		path = path[1:]
	}
	p.paths = append(p.paths, variable{path, k})
	return path, k
}

func (p *program) oldPath() (string, kind) {
	if len(p.paths) == 0 || p.chance(10) {
		return "/none", p.anyKind()
	}
	v := p.paths[p.r.IntN(len(p.paths))]
	return v.name, v.kind
}

func (p *program) typeNames() (all []string) {
	for _, t := range p.types {
		all = append(all, t.name)
	}
	return all
}

func (p *program) typeStatement() string {
	name := fmt.Sprintf("t_%d", len(p.types))
	k := p.anyKind()
	s := fmt.Sprintf("type %s = %s;\n", name, p.typeOf(k, 2))
	p.types = append(p.types, variable{name, k})
	return s
}

// typeOf is a type for values of a kind, sometimes with a default and a validation.
func (p *program) typeOf(k kind, depth int) string {
	s := p.baseType(k, depth)
	if p.chance(10) {
		s += " = " + p.literal(k)
	}
	if p.chance(20) {
		s += " with " + p.block(func() string {
			switch k {
			case long, double:
				return "SELF " + p.pick("<", ">", "!=") + " " + p.literal(long)
			case text:
				return fmt.Sprintf("match(SELF, '%s')", p.regexp())
			case boolean:
				return "SELF || !SELF"
			}
			return "length(SELF) " + p.pick("<", ">=") + " " + strconv.Itoa(p.r.IntN(4))
		})
	}
	return s
}

func (p *program) baseType(k kind, depth int) string {
	for _, t := range p.types {
		if t.kind == k && p.chance(25) {
			return t.name
		}
	}
	limits := func() string {
		return p.pick("", "", "", "(0..)", "(..100)", "(1..10)", "(2)", "(-5..5)")
	}
	if p.chance(4) {
		k = p.anyKind()
	}
	switch k {
	case long:
		return "long" + limits()
	case double:
		return p.pick("double", "number") + limits()
	case text:
		if p.chance(4) {
			return p.baseType(p.anyKind(), 0) + "*"
		}
		if p.chance(15) {
			return "choice('one', 'two', '" + p.word() + "')"
		}
		return "string" + limits()
	case boolean:
		return "boolean"
	case list:
		if depth == 0 {
			return "list"
		}
		return p.typeInside(depth) + p.pick("[]", "[]", "[1..]", "[0..3]", "[2]")
	}
	if depth == 0 {
		return p.pick("dict", "extensible {}")
	}
	if p.chance(40) {
		return p.typeInside(depth) + p.pick("{}", "{}", "{1..}", "{0..2}")
	}
	var s strings.Builder
	s.WriteString(p.pick("", "", "extensible ") + "{ ")
	for _, field := range []string{"a", "b", "c", "k"} {
		if p.chance(50) {
			fmt.Fprintf(&s, "'%s' %s %s\n", field, p.pick("?", "?", ":"), p.typeOf(p.anyKind(), depth-1))
		}
	}
	return s.String() + "}"
}

// typeInside is a type without default and validation, as an element's is.
func (p *program) typeInside(depth int) string { return p.baseType(p.anyKind(), depth-1) }

func (p *program) functionStatement() string {
	name := fmt.Sprintf("f_%d", len(p.functions))
	k := p.anyKind()
	was, function := p.locals, p.function
	p.locals, p.function = nil, true
	body := p.block(func() string {
		if p.chance(30) {
			return "return(" + p.expression(k) + ")"
		}
		return p.expression(k)
	})
	p.locals, p.function = was, function
	p.functions = append(p.functions, variable{name, k})
	return fmt.Sprintf("function %s = %s;\n", name, body)
}

// dml is the right side of an assignment.
func (p *program) dml(k kind) string {
	if p.chance(45) {
		return p.expression(k)
	}
	was := p.locals
	p.locals = nil
	defer func() { p.locals = was }()
	if p.chance(15) && (k == list || k == dict) && !p.function {
		return p.block(func() string {
			if k == list {
				return fmt.Sprintf("SELF[%d] = %s; SELF", p.r.IntN(3), p.expression(p.anyKind()))
			}
			return fmt.Sprintf("SELF['%s'] = %s; SELF", p.word(), p.expression(p.anyKind()))
		})
	}
	return p.block(func() string { return p.expression(k) })
}

// block is some steps and then what last makes.
func (p *program) block(last func() string) string {
	n := len(p.locals)
	defer func() { p.locals = p.locals[:min(n, len(p.locals))] }()
	var s strings.Builder
	s.WriteString("{ ")
	for range p.r.IntN(4) {
		s.WriteString(p.step() + ";\n  ")
	}
	return s.String() + last() + "; }"
}

func (p *program) step() string {
	p.depth++
	defer func() { p.depth-- }()
	switch p.r.IntN(9) {
	case 0:
		return fmt.Sprintf("if (%s) { %s; }", p.expression(boolean), p.inner()) + p.pick("", " else { "+p.inner()+"; }")
	case 1:
		if p.inLoop > 1 {
			break
		}
		p.inLoop++
		defer func() { p.inLoop-- }()
		i := fmt.Sprintf("i%d", p.inLoop)
		p.locals = append(p.locals, variable{i, long})
		limit := p.r.IntN(5)
		if p.r.IntN(300) == 0 {
			return fmt.Sprintf("%s = 0; while (%s < 20000) { %s = %s + 1; }", i, i, i, i)
		}
		if p.chance(50) {
			return fmt.Sprintf("for (%s = 0; %s < %d; %s = %s + 1) { %s; }", i, i, limit, i, i, p.inner())
		}
		return fmt.Sprintf("%s = %d; while (%s > 0) { %s = %s - 1; %s; }", i, limit, i, i, i, p.inner())
	case 2:
		if p.inLoop > 1 {
			break
		}
		p.inLoop++
		defer func() { p.inLoop-- }()
		k := kind(int(list) + p.r.IntN(2))
		key, value := fmt.Sprintf("k%d", p.inLoop), fmt.Sprintf("v%d", p.inLoop)
		over := "clone(" + p.expression(k) + ")" // a list that grows meanwhile has no end
		if v, ok := p.local(dict); ok && k == dict && strings.HasPrefix(v, "xd") {
			over = v
		}
		p.locals = append(p.locals, variable{key, map[kind]kind{list: long, dict: text}[k]})
		defer func() { p.locals = p.locals[:len(p.locals)-1] }()
		return fmt.Sprintf("foreach (%s; %s; %s) { %s; }", key, value, over, p.inner())
	case 3:
		if v, ok := p.local(list); ok && !strings.HasPrefix(v, "xd") {
			return p.pick("append", "prepend") + "(" + v + ", " + p.added() + ")"
		}
	case 4:
		if v, ok := p.local(dict); ok {
			return fmt.Sprintf("%s['%s'] = %s", v, p.word(), p.added())
		}
	case 5:
		if v, ok := p.local(list); ok {
			return fmt.Sprintf("%s[%d] = %s", v, p.r.IntN(4)-1, p.added())
		}
	case 6:
		if v, ok := p.local(kind(int(list) + p.r.IntN(2))); ok && strings.HasPrefix(v, "xd") && p.inLoop == 0 && p.chance(50) {
			p.inLoop++
			defer func() { p.inLoop-- }()
			return fmt.Sprintf("more = first(%s, %s, val); while (more) { %s; more = next(%s, key, val); }", v, p.pick("key", "undef"), p.inner(), v)
		}
		if v, ok := p.local(dict); ok && p.chance(30) {
			return "delete(" + v + "['" + p.word() + "'])"
		}
	case 7:
		if p.chance(3) {
			return "if (" + p.expression(boolean) + ") error('stop %d', 3)"
		}
	}
	return p.assign()
}

// inner is a step that may not be taken: what it sets is not relied on.
func (p *program) inner() string {
	n := len(p.locals)
	defer func() { p.locals = p.locals[:min(n, len(p.locals))] }()
	if p.depth > 3 {
		return p.assign()
	}
	return p.step()
}

// added is what a step puts into a resource. In a loop it does not depend on what is there: it would double each time.
func (p *program) added() string {
	if p.inLoop > 0 {
		return p.literal(p.anyKind())
	}
	return p.expression(p.anyKind())
}

func (p *program) assign() string {
	k := p.anyKind()
	if p.inLoop > 0 {
		return p.named("y", k) + " = " + p.expression(k) // which nothing reads
	}
	name := p.named("x", k)
	s := name + " = " + p.expression(k)
	if p.chance(5) {
		s = p.named("x", k) + " = " + s
	}
	p.locals = append(p.locals, variable{name, k})
	return s
}

func (p *program) local(k kind) (string, bool) { return p.find(p.locals, k) }

func (p *program) find(all []variable, k kind) (string, bool) {
	var names []string
	for _, v := range all {
		if v.kind == k {
			names = append(names, v.name)
		}
	}
	if len(names) == 0 {
		return "", false
	}
	return p.pick(names...), true
}

func (p *program) word() string { return p.pick("a", "b", "c", "k", "one", "two") }

func (p *program) regexp() string {
	return p.pick("^a", "b$", "[a-z]+", `(\w)(\d)?`, `^\d+$`, "o|e", `(?<=a)b`, `(.)\1`, "", ",", `\s*`)
}

func (p *program) literal(k kind) string {
	switch k {
	case long:
		return p.pick("0", "1", "2", "-3", "7", "0x1f", "010", "100", "-1", "9223372036854775807", strconv.Itoa(p.r.IntN(1000)))
	case double:
		return p.pick("0.0", "1.5", "-2.5", "1e3", "1.0e23", "0.1", "3.14159", "1e-5", "12345678.9")
	case text:
		return p.pick("''", "'a'", "'abc'", `"x\ty"`, `"\x41b"`, "'one'", "'12'", "'a,b,,c'", "'it''s'", "'äé'", "'😀z'", "'<&>='", "' '", "'/a/b'", "'true'", "'1.50'", "'"+p.word()+"'")
	case boolean:
		return p.pick("true", "false")
	case list:
		return p.pick("list()", "list(1, 2, 3)", "list('a', 'b')", "list(list(1), list())", "list(true)", "list(1.5, 2.5)")
	}
	return p.pick("dict()", "dict('a', 1)", "dict('b', 'x', 'a', 'y')", "dict('k', list(1, 2))", "dict('one', dict('two', 2))", "dict('c', true, 'k', 0.5)")
}

// expression is of kind k, as a rule.
func (p *program) expression(k kind) string {
	switch p.r.IntN(500) {
	case 0, 1:
		k = p.anyKind()
	case 2:
		return p.pick("undef", "null", "NOWHERE", "nowhere", "SELF", "value('/nowhere')", "ARGV", "FUNCTION")
	}
	p.depth++
	defer func() { p.depth-- }()
	if p.depth > 4 || p.chance(35) {
		return p.literal(k)
	}
	if p.chance(25) {
		if v, ok := p.local(k); ok {
			return v
		}
	}
	if p.chance(25) {
		if v, ok := p.find(p.globals, k); ok {
			return v
		}
	}
	if p.chance(15) {
		if f, ok := p.find(p.functions, k); ok {
			return f + "(" + p.expression(p.anyKind()) + ")"
		}
	}
	if p.chance(8) && !p.prefix {
		if v, ok := p.find(p.paths, k); ok && v[0] == '/' {
			return fmt.Sprintf("value('%s'%s)", v, p.pick("", ", "+p.literal(k)))
		}
	}
	if p.chance(6) {
		return fmt.Sprintf("if (%s) %s else %s", p.expression(boolean), p.parenthesis(k), p.parenthesis(k))
	}
	if len(p.others) > 0 && p.chance(15) {
		switch k {
		case long, dict:
			return fmt.Sprintf("value('%s:/a/%s0'%s)", p.others[0], map[kind]string{long: "n", dict: "d"}[k], p.pick("", ", "+p.literal(k)))
		case boolean:
			return fmt.Sprintf("%s('%s:/%s/n0')", p.pick("exists", "path_exists"), p.others[0], p.pick("a", "b"))
		}
	}
	if p.chance(5) {
		return "clone(" + p.expression(k) + ")"
	}
	switch k {
	case long:
		return p.longExpression()
	case double:
		return p.doubleExpression()
	case text:
		return p.textExpression()
	case boolean:
		return p.booleanExpression()
	case list:
		return p.listExpression()
	}
	return p.dictExpression()
}

func (p *program) parenthesis(k kind) string { return "(" + p.expression(k) + ")" }

func (p *program) call(function string, args ...kind) string {
	var all []string
	for _, k := range args {
		all = append(all, p.expression(k))
	}
	return function + "(" + strings.Join(all, ", ") + ")"
}

func (p *program) longExpression() string {
	switch p.r.IntN(11) {
	case 0, 1:
		return p.parenthesis(long) + " " + p.pick("+", "-", "*") + " " + p.parenthesis(long)
	case 2:
		return p.parenthesis(long) + " " + p.pick("/", "%") + " " + p.pick("2", "3", "-7", p.parenthesis(long))
	case 3:
		return p.parenthesis(long) + " " + p.pick("&", "|", "^") + " " + p.parenthesis(long)
	case 4:
		return p.pick("-", "~", "+") + p.parenthesis(long)
	case 5:
		return p.call("length", kind(int(text)+p.r.IntN(2)*2))
	case 6:
		return p.call("length", dict)
	case 7:
		return p.call("to_long", p.pickKind(long, double, boolean))
	case 8:
		return p.call(p.pick("min", "max"), long, long)
	case 9:
		return p.call("index", text, text)
	case 10:
		return p.call("index", long, list)
	}
	return p.call("to_long", text)
}

func (p *program) doubleExpression() string {
	switch p.r.IntN(4) {
	case 0:
		return p.parenthesis(double) + " " + p.pick("+", "-", "*", "/") + " " + p.parenthesis(p.numeric())
	case 1:
		return "-" + p.parenthesis(double)
	case 2:
		return p.call("to_double", p.pickKind(long, double, boolean))
	}
	return p.call(p.pick("min", "max"), double, p.numeric())
}

func (p *program) numeric() kind             { return p.pickKind(long, double) }
func (p *program) pickKind(all ...kind) kind { return all[p.r.IntN(len(all))] }
func (p *program) regexpCall(name string) string {
	return name + "(" + p.expression(text) + ", '" + p.regexp() + "')"
}

func (p *program) textExpression() string {
	switch p.r.IntN(18) {
	case 0, 1, 2:
		return p.parenthesis(text) + " + " + p.parenthesis(text)
	case 3:
		return p.call("to_string", p.anyKind())
	case 4:
		return "format('%" + p.pick("d", "5d", "x", "05d", "s", "h", "o", ",d") + "', " + p.expression(long) + ")"
	case 5:
		return fmt.Sprintf("format('%s', %s, %s)", p.pick("%s-%s", "%5s|%-4s", "%s", "%2$s%1$s", "%s%%"), p.expression(p.anyKind()), p.expression(p.anyKind()))
	case 6:
		return p.call(p.pick("to_lowercase", "to_uppercase", "base64_encode"), text)
	case 7:
		return p.pick("unescape(escape(", "(escape(") + p.literal(text) + "))"
	case 8:
		return fmt.Sprintf("substr(%s + 'äbc', %d%s)", p.expression(text), p.r.IntN(4)-1, p.pick("", ", 1", ", -1", ", 2"))
	case 9:
		return fmt.Sprintf("splice(%s + '😀b', %d, %d%s)", p.expression(text), p.r.IntN(3)-1, p.r.IntN(3)-1, p.pick("", ", "+p.expression(text)))
	case 10:
		return fmt.Sprintf("replace('%s', %s, %s)", p.regexp(), p.pick("'x'", `'<$0>'`, "''", p.expression(text)), p.expression(text))
	case 11:
		return "join(" + p.expression(text) + ", list(" + p.expression(text) + ", " + p.expression(text) + "))"
	case 12:
		return fmt.Sprintf("key(merge(%s, dict('zz', 1)), %d)", p.expression(dict), p.r.IntN(2))
	case 13:
		return p.call("json_encode", p.anyKind())
	case 14:
		return fmt.Sprintf("digest('%s', %s)", p.pick("MD5", "SHA-1", "sha-256"), p.expression(text))
	case 15:
		return p.pick("TEMPLATE", "OBJECT")
	case 16:
		return fmt.Sprintf("substitute(%s, dict('a', %s, 'b', 'B'))", p.pick(`'${a}-${b}'`, `'$${a}'`, p.expression(text)), p.expression(p.anyKind()))
	}
	return "long_to_ip4(" + p.pick("3232235777", "0", "167772161", p.expression(long)) + ")"
}

func (p *program) booleanExpression() string {
	switch p.r.IntN(11) {
	case 0, 1:
		return p.parenthesis(long) + " " + p.comparison() + " " + p.parenthesis(p.numeric())
	case 2:
		return p.parenthesis(text) + " " + p.comparison() + " " + p.parenthesis(text)
	case 3, 4:
		return p.parenthesis(boolean) + " " + p.pick("&&", "||") + " " + p.parenthesis(boolean)
	case 5:
		return "!" + p.parenthesis(boolean)
	case 6:
		return p.regexpCall("match")
	case 7:
		if len(p.locals) > 0 && p.chance(70) {
			return p.pick("is_defined", "exists", "is_list", "is_string", "is_long") + "(" + p.locals[p.r.IntN(len(p.locals))].name + p.pick("", "['a']", "[0]") + ")"
		}
		return p.call("is_"+p.pick("boolean", "double", "list", "long", "dict", "null", "number", "property", "resource", "string", "defined"), p.anyKind())
	case 8:
		path, _ := p.oldPath()
		if !strings.HasPrefix(path, "/") {
			path = "/" + path
		}
		return p.pick("exists", "path_exists") + "('" + path + "')"
	case 9:
		return p.call("to_boolean", p.pickKind(long, double, text, boolean))
	}
	return "is_valid(" + p.pick(append([]string{"long", "string", "list", "dict", "element", "property"}, p.typeNames()...)...) + ", " + p.expression(p.anyKind()) + ")"
}

func (p *program) comparison() string { return p.pick("==", "!=", "<", "<=", ">", ">=") }

func (p *program) listExpression() string {
	switch p.r.IntN(10) {
	case 0, 1:
		k := p.anyKind()
		return p.call("list", k, k)
	case 8:
		return "ip4_to_long('" + p.pick("10.0.0.1", "10.1.2.3/24", "192.168.1.255/32") + "')"
	case 2:
		return p.call(p.pick("append", "prepend"), list, p.anyKind())
	case 3:
		return p.call("merge", list, list)
	case 4:
		return fmt.Sprintf("split('%s'%s, %s)", p.regexp(), p.pick("", ", 2", ", -1"), p.expression(text))
	case 5:
		return p.regexpCall("matches")
	case 6:
		return fmt.Sprintf("splice(%s, %d, %d%s)", p.expression(list), p.r.IntN(3)-1, p.r.IntN(3)-1, p.pick("", ", "+p.expression(list)))
	case 7:
		return "json_decode(json_encode(" + p.expression(list) + "))"
	}
	return p.call("list", p.anyKind(), p.anyKind(), p.anyKind())
}

func (p *program) dictExpression() string {
	switch p.r.IntN(7) {
	case 0, 1:
		return fmt.Sprintf("dict('%s', %s)", p.word(), p.expression(p.anyKind()))
	case 2:
		return fmt.Sprintf("dict('a', %s, 'k'+escape(%s), %s)", p.expression(p.anyKind()), p.literal(text), p.expression(p.anyKind()))
	case 3:
		return "merge(" + p.expression(dict) + ", dict('m', " + p.expression(p.anyKind()) + "))"
	case 4:
		return "json_decode(json_encode(" + p.expression(dict) + "))"
	case 5:
		if len(p.structs) > 0 {
			return fmt.Sprintf("create('%s'%s)", p.structs[0], p.pick("", ", 'z', "+p.expression(p.anyKind())))
		}
	}
	return fmt.Sprintf("dict('%s', %s, '%s', %s)", p.pick("a", "b"), p.expression(p.anyKind()), p.pick("c", "k"), p.expression(p.anyKind()))
}
