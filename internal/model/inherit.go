package model

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// Value is the effective value of one attribute of a node.
type Value struct {
	Name    AttrName
	Value   string // evaluated; masked when Secret
	From    string // "node", "group compute", "network rack1", "default"; a list that adds says all: "group compute + node"; "" when nothing is set
	Written string // the expression, where Value was worked out from one
	Secret  bool
}

// Attr returns the effective value of an attribute of a node, evaluated and in canonical form; "" when it is not set.
//
// The node's own value counts, then that of its groups in its order, then of dynamic groups in natural order, then of
// Everything, then what the network says that the port is in, then the default. An empty value, written "", masks those after it, the
// default too. A list is taken from where it is found first; when it adds ([Adding]), behind the elements of those after it.
// A secret comes as it is stored: sealed. The error is a [*Problem].
func (s *Snapshot) Attr(n *Node, a AttrName) (string, error) {
	doc, ok := Lookup(a)
	if !ok {
		return "", ofNode(unknownAttr(a), n.Name)
	}
	o := s.find(n, a, doc, false)
	if doc.direct(o) {
		v, _, err := s.value(n, a, doc, o)
		return v, err
	}
	kept := s.cell(n, a)
	if kept != nil {
		if c := kept.Load(); c != nil && c.node == n {
			return c.value, nil
		}
	}
	v, _, err := s.value(n, a, doc, o)
	if kept != nil && err == nil {
		kept.Store(&cell{n, v})
	}
	return v, err
}

// value works out what was found at an origin, and says where it is from altogether.
func (s *Snapshot) value(n *Node, a AttrName, doc *Attr, o origin) (v string, _ origin, err error) {
	if doc.direct(o) { // needs no evaluator, which is on the heap
		if doc.asWritten(o) {
			return o.written, o, nil
		}
		v, err = doc.canonical(a, o)
	} else {
		e := evaluator{s: s, n: n}
		v, o, err = e.from(a, doc, o)
	}
	if err != nil {
		return "", o, ofNode(err, n.Name)
	}
	return v, o, nil
}

// direct says that what is written is all of the value.
func (a *Attr) direct(o origin) bool {
	if a.common != nil && (o.kind == 0 || o.kind == 'd') {
		return false
	}
	if _, adds := a.addition(o.written); adds {
		return false
	}
	return a.Secret || !hasExpression(o.written)
}

// asWritten says that a value is neither an expression nor in need of a canonical form.
func (a *Attr) asWritten(o origin) bool { return o.written == "" || a.Secret || o.kind == 'd' }

func (a *Attr) canonical(name AttrName, o origin) (string, error) {
	v, err := a.Canonical(o.written)
	if err != nil {
		return "", about(name, err)
	}
	return v, nil
}

func ofNode(err error, n NodeName) error {
	if p := (*Problem)(nil); errors.As(err, &p) {
		c := *p
		c.Node = n
		return &c
	}
	return err
}

// Attrs returns the effective values that match one of the names or globs ("net.*.mac"), sorted by name; without globs
// all that are set on the node or its groups. A name that is no glob comes also when it is not set, globs bring
// defaults, too. Secrets are masked. What cannot be worked out is left out and told in the error, all of it.
func (s *Snapshot) Attrs(n *Node, globs []string) ([]Value, error) {
	var errs []error
	var out []Value
	for _, g := range globs {
		if isGlob(g) {
			continue
		}
		if _, ok := Lookup(AttrName(g)); !ok {
			errs = append(errs, unknownAttr(AttrName(g)))
		}
	}
	for _, a := range (&evaluator{s: s, n: n}).attrsOf(globs) {
		doc, ok := Lookup(a)
		if !ok {
			continue
		}
		v, from, err := s.value(n, a, doc, s.find(n, a, doc, false))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		x := Value{Name: a, Value: v, From: from.String(), Secret: doc.Secret}
		if doc.Secret && v != "" {
			x.Value = masked
		} else if hasExpression(from.written) {
			x.Written = from.written
		}
		out = append(out, x)
	}
	return out, errors.Join(errs...)
}

// attrsOf collects the names for Attrs, sorted.
func (e *evaluator) attrsOf(globs []string) []AttrName {
	var out []AttrName
	take := func(a AttrName) {
		if len(globs) == 0 {
			out = append(out, a)
			return
		}
		for _, g := range globs {
			if g == string(a) {
				out = append(out, a)
				return
			}
			if ok, err := path.Match(g, string(a)); ok && err == nil {
				out = append(out, a)
				return
			}
		}
	}
	var refs []AttrName
	set := func(a AttrName) {
		take(a)
		if isRef(a) {
			refs = append(refs, a)
		}
	}
	for a := range e.n.Attrs {
		set(a)
	}
	for _, g := range e.s.groupsOf(e.n, e.static) {
		if g := e.s.byGroup[g]; g != nil {
			for a := range g.Attrs {
				if doc, ok := Lookup(a); ok && doc.Inherits {
					set(a)
				}
			}
		}
	}
	for _, ref := range refs {
		for _, a := range e.networked(ref) {
			take(a)
		}
	}
	if len(globs) > 0 {
		for i := range known.all {
			if a := &known.all[i]; a.Default != "" {
				take(a.Name)
			}
		}
		for _, g := range globs {
			if _, ok := Lookup(AttrName(g)); ok {
				out = append(out, AttrName(g))
			}
		}
	}
	slices.SortFunc(out, func(a, b AttrName) int { return Natural(string(a), string(b)) })
	return slices.Compact(out)
}

// networked are the attributes that the network gives which an attribute names.
func (e *evaluator) networked(ref AttrName) []AttrName {
	name, err := e.attr(ref)
	if err != nil || name == "" {
		return nil
	}
	n := e.s.Network(NetworkName(name))
	if n == nil {
		return nil
	}
	var out []AttrName
	port := strings.TrimSuffix(string(ref), ".network")
	for _, doc := range known.common {
		if doc.common(n) != "" {
			out = append(out, AttrName(port+string(doc.Name[strings.LastIndexByte(string(doc.Name), '.'):])))
		}
	}
	return out
}

// origin says where a value is written.
type origin struct {
	kind    byte   // 0 nowhere, 'n' node, 'g' group, 'w' network, 'd' default, 's' several
	name    string // of the group or network; all of a list that adds
	written string
}

func (o origin) String() string {
	switch o.kind {
	case 'n':
		return "node"
	case 'g':
		return "group " + o.name
	case 'w':
		return "network " + o.name
	case 'd':
		return "default"
	}
	return o.name
}

// find looks a value up along the line of inheritance, networks left out; static leaves dynamic groups out.
func (s *Snapshot) find(n *Node, a AttrName, doc *Attr, static bool) origin {
	return s.findBehind(n, a, doc, static, 0)
}

// findBehind is find for what stands behind so many values.
func (s *Snapshot) findBehind(n *Node, a AttrName, doc *Attr, static bool, skip int) origin {
	if v, ok := n.Attrs[a]; ok {
		if skip == 0 {
			return origin{kind: 'n', written: v}
		}
		skip--
	}
	if doc.Inherits {
		for _, name := range n.Groups {
			if g := s.byGroup[name]; g != nil && name != Everything {
				if v, ok := g.Attrs[a]; ok {
					if skip == 0 {
						return origin{'g', string(name), v}
					}
					skip--
				}
			}
		}
		if !static {
			for _, g := range s.dynamic {
				if v, ok := g.Attrs[a]; ok && g.Name != Everything && !slices.Contains(n.Groups, g.Name) && s.inRange(g, n) {
					if skip == 0 {
						return origin{'g', string(g.Name), v}
					}
					skip--
				}
			}
		}
		if g := s.byGroup[Everything]; g != nil {
			if v, ok := g.Attrs[a]; ok {
				if skip == 0 {
					return origin{'g', string(Everything), v}
				}
			}
		}
	}
	if doc.Default != "" {
		return origin{kind: 'd', written: doc.Default}
	}
	return origin{}
}

// evaluator works out attributes of one node; it is the scope of their expressions.
type evaluator struct {
	s      *Snapshot
	n      *Node
	static bool       // without dynamic groups
	stack  []AttrName // attributes being worked out, for finding circles
	steps  int
}

func (e *evaluator) nodeName() NodeName { return e.n.Name }

// attr is the effective value. The error is a *Problem about the attribute, without the node.
func (e *evaluator) attr(a AttrName) (string, error) {
	doc, ok := Lookup(a)
	if !ok {
		return "", unknownAttr(a)
	}
	o := e.s.find(e.n, a, doc, e.static)
	if doc.direct(o) && doc.asWritten(o) {
		return o.written, nil
	}
	v, _, err := e.from(a, doc, o)
	return v, err
}

// from works out the value that was found at an origin, and says where it is from altogether.
func (e *evaluator) from(a AttrName, doc *Attr, o origin) (string, origin, error) {
	o, err := e.network(a, doc, o)
	if err != nil {
		return "", o, err
	}
	if _, adds := doc.addition(o.written); adds {
		return e.sum(a, doc)
	}
	v, err := e.single(a, doc, o)
	return v, o, err
}

// single works out the value of one origin.
func (e *evaluator) single(a AttrName, doc *Attr, o origin) (string, error) {
	switch {
	case doc.asWritten(o):
		return o.written, nil
	case hasExpression(o.written):
		return e.evaluated(a, doc, o)
	}
	return doc.canonical(a, o)
}

// network asks the network that a port is in, where nothing else sets the attribute.
func (e *evaluator) network(a AttrName, doc *Attr, o origin) (origin, error) {
	if doc.common == nil || o.kind != 0 && o.kind != 'd' {
		return o, nil
	}
	name, err := e.attr(refOf(a))
	if err != nil || name == "" {
		return o, err
	}
	if n := e.s.Network(NetworkName(name)); n != nil {
		if v := doc.common(n); v != "" {
			return origin{'w', name, v}, nil
		}
	}
	return o, nil
}

// sum is the value of a list that adds to what is inherited: the elements of the farthest origin come first, each once.
func (e *evaluator) sum(a AttrName, doc *Attr) (string, origin, error) {
	var line []origin
	for adds := true; adds; {
		o, err := e.network(a, doc, e.s.findBehind(e.n, a, doc, e.static, len(line)))
		if err != nil {
			return "", o, err
		}
		line = append(line, o)
		_, adds = doc.addition(o.written)
	}
	var elements, written []string
	all := origin{kind: 's'}
	for _, o := range slices.Backward(line) {
		if o.written == "" {
			continue // nothing more, or masked
		}
		from := o.String()
		written = append(written, o.written)
		if added, ok := doc.addition(o.written); ok {
			o.written = added
		}
		v, err := e.single(a, doc, o)
		if err != nil {
			return "", o, err
		}
		for _, x := range doc.Elements(v) {
			if !slices.Contains(elements, x) {
				elements = append(elements, x)
			}
		}
		if all.name != "" {
			from = " + " + from
		}
		all.name += from
	}
	all.written = strings.Join(written, " ")
	return strings.Join(elements, doc.Sep), all, nil
}

func (e *evaluator) evaluated(a AttrName, doc *Attr, o origin) (string, error) {
	v, err := e.work(a, o.written)
	if err != nil {
		return "", about(a, err)
	}
	if v, err = doc.Canonical(v); err != nil {
		p := about(a, err)
		p.What += " (from " + cut(o.written) + ")"
		return "", p
	}
	return v, nil
}

// about makes a problem of an attribute of any error.
func about(a AttrName, err error) *Problem {
	c := Problem{Attr: a}
	if p := (*Problem)(nil); errors.As(err, &p) {
		c = *p
		c.Attr = a
	} else {
		c.What = err.Error()
	}
	return &c
}

// work evaluates the expression of an attribute.
func (e *evaluator) work(a AttrName, written string) (string, error) {
	const most = 1000 // attributes that one value may use, counting each use
	if i := slices.Index(e.stack, a); i >= 0 {
		return "", circle(e.stack[i:])
	}
	if e.steps++; e.steps > most {
		return "", &Problem{What: "the expression is too much work", Why: fmt.Sprintf("it uses more than %d attributes", most)}
	}
	x, err := e.s.memo.parse(written)
	if err != nil {
		return "", err
	}
	e.stack = append(e.stack, a)
	v, fault := x.evaluate(e)
	e.stack = e.stack[:len(e.stack)-1]
	if len(e.stack) == 0 {
		e.steps = 0
	}
	return v, fault
}

// circle says that each of these attributes uses the next one, and the last the first.
func circle(of []AttrName) *Problem {
	var line []string
	for _, a := range of {
		line = append(line, string(a))
	}
	line = append(line, line[0])
	return &Problem{What: "the expressions go in a circle", Why: strings.Join(line, " uses "), Do: "Give one of them a value of its own"}
}

// isSecret says that the values of an attribute are sealed.
func isSecret(a AttrName) bool {
	doc, ok := Lookup(a)
	return ok && doc.Secret
}
