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
	From    string // "node", "group compute", "default"; "" when nothing is set
	Written string // the expression, where Value was worked out from one
	Secret  bool
}

// Attr returns the effective value of an attribute of a node, evaluated and in canonical form; "" when it is not set.
//
// The node's own value counts, then that of its groups in its order, then of dynamic groups in natural order, then of
// Everything, then the default. An empty value, written "", masks those after it, the default too. A list is taken as it is
// from where it is found first. A secret comes as it is stored: sealed. The error is a [*Problem].
func (s *Snapshot) Attr(n *Node, a AttrName) (string, error) {
	doc, ok := Lookup(a)
	if !ok {
		return "", ofNode(unknownAttr(a), n.Name)
	}
	v, _, err := s.value(n, a, doc)
	return v, err
}

// value is Attr for an attribute that was looked up.
func (s *Snapshot) value(n *Node, a AttrName, doc *Attr) (string, origin, error) {
	o := s.find(n, a, doc, false)
	if doc.asWritten(o) {
		return o.written, o, nil
	}
	v, err := o.written, error(nil)
	if hasExpression(v) {
		e := evaluator{s: s, n: n}
		v, err = e.evaluated(a, doc, o)
	} else {
		v, err = doc.canonical(a, o)
	}
	if err != nil {
		return "", o, ofNode(err, n.Name)
	}
	return v, o, nil
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
		v, from, err := s.value(n, a, doc)
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
	for a := range e.n.Attrs {
		take(a)
	}
	for _, g := range e.s.groupsOf(e.n, e.static) {
		if g := e.s.byGroup[g]; g != nil {
			for a := range g.Attrs {
				if doc, ok := Lookup(a); ok && doc.Inherits {
					take(a)
				}
			}
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

// origin says where a value is written.
type origin struct {
	kind    byte // 0 nowhere, 'n' node, 'g' group, 'd' default
	group   GroupName
	written string
}

func (o origin) String() string {
	switch o.kind {
	case 'n':
		return "node"
	case 'g':
		return "group " + string(o.group)
	case 'd':
		return "default"
	}
	return ""
}

// find looks a value up along the line of inheritance; static leaves dynamic groups out.
func (s *Snapshot) find(n *Node, a AttrName, doc *Attr, static bool) origin {
	if v, ok := n.Attrs[a]; ok {
		return origin{kind: 'n', written: v}
	}
	if doc.Inherits {
		for _, name := range n.Groups {
			if g := s.byGroup[name]; g != nil && name != Everything {
				if v, ok := g.Attrs[a]; ok {
					return origin{'g', name, v}
				}
			}
		}
		if !static {
			for _, g := range s.dynamic {
				if v, ok := g.Attrs[a]; ok && g.Name != Everything && s.inRange(g, n) {
					return origin{'g', g.Name, v}
				}
			}
		}
		if g := s.byGroup[Everything]; g != nil {
			if v, ok := g.Attrs[a]; ok {
				return origin{'g', Everything, v}
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
	switch {
	case doc.asWritten(o):
		return o.written, nil
	case hasExpression(o.written):
		return e.evaluated(a, doc, o)
	}
	return doc.canonical(a, o)
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
		var circle []string
		for _, x := range append(e.stack[i:], a) {
			circle = append(circle, string(x))
		}
		return "", &Problem{What: "the expressions go in a circle", Why: strings.Join(circle, " uses "), Do: "Give one of them a value of its own"}
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

// isSecret says that the values of an attribute are sealed.
func isSecret(a AttrName) bool {
	doc, ok := Lookup(a)
	return ok && doc.Secret
}
