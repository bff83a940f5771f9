package model

import (
	"slices"
	"strings"
)

// Masking is what is written for the empty value: attr="" makes an attribute empty, whatever groups and default say,
// while attr= takes the own value away, so that they count again.
const Masking = `""`

// Adding is what the written value of a list begins with that adds its elements to those that the node has without it. Without it,
// a list takes the place of what would be inherited.
const Adding = "+ "

// addition says whether a written value adds to what is inherited, and what.
func (a *Attr) addition(written string) (elements string, ok bool) {
	if a.Type != List {
		return "", false
	}
	return strings.CutPrefix(written, Adding)
}

// Edit changes one of the attributes in a map that nobody else has. With "=" the value is set as it is
// written; empty takes the own value away; [Masking] makes it empty. "+=" and "-=" add and remove elements of the own
// list; where there is no own one, "+=" makes one that adds to what is inherited ([Adding]). Values that the attribute does not take are refused with a
// [*Problem], and nothing is changed; those of expressions are only known for a node, by [Check].
func Edit(attrs map[AttrName]string, a AttrName, op, value string) error {
	doc, ok := Lookup(a)
	if !ok {
		return unknownAttr(a)
	}
	if value != Masking {
		if p := new(memo).check(doc, value); p != nil {
			return about(a, p)
		}
	}
	switch op {
	case "=":
		switch value {
		case "":
			delete(attrs, a)
		case Masking:
			attrs[a] = ""
		default:
			attrs[a] = value
		}
		return nil
	case "+=", "-=":
		if value == "" {
			return nothingAfter(a, op)
		}
		if doc.Type != List {
			return &Problem{Attr: a, What: string(a) + " is no list", Why: "it has one " + string(doc.Type), Do: "Write " + string(a) + "=value"}
		}
		change(attrs, doc, a, op, value)
		return nil
	}
	return &Problem{Attr: a, What: "no assignment " + quoted(op), Do: "Write =, += or -="}
}

// change adds or removes elements of a list.
func change(out map[AttrName]string, doc *Attr, a AttrName, op, value string) {
	written, set := out[a]
	added, adds := doc.addition(written)
	if adds {
		written = added
	}
	if !set && op == "-=" || set && written == "" && op == "-=" {
		return // what is inherited is not taken away, and a mask stays
	}
	own := pieces(doc, written)
	for _, e := range pieces(doc, value) {
		at := slices.Index(own, e)
		switch {
		case op == "+=" && at < 0:
			own = append(own, e)
		case op == "-=" && at >= 0:
			own = slices.Delete(own, at, at+1)
		}
	}
	if len(own) == 0 {
		delete(out, a)
		return
	}
	out[a] = strings.Join(own, doc.Sep)
	if adds || !set {
		out[a] = Adding + out[a]
	}
}

// pieces are the elements of a list; a value with an expression, whose elements are not known yet, is one piece.
func pieces(doc *Attr, s string) []string {
	switch {
	case s == "" || s == Masking:
		return nil
	case hasExpression(s):
		return []string{s}
	}
	return doc.Elements(s)
}

// check says what can be said about a value without a node.
func (m *memo) check(doc *Attr, value string) *Problem {
	if doc.Secret || value == "" {
		return nil
	}
	if added, ok := doc.addition(value); ok {
		if value = strings.TrimSpace(added); value == "" {
			return &Problem{What: "it adds nothing", Do: "Write what to add behind the +"}
		}
	}
	if hasExpression(value) {
		if len(value) > maxValue {
			return wrong(value, "too long", "")
		}
		_, p := m.parse(value)
		return p
	}
	if _, err := doc.Canonical(value); err != nil {
		return about("", err)
	}
	return nil
}

// AssignGroups is Assign for the groups of a node: value is names with commas between them. "=" replaces the list, "+="
// appends those that are not in it, "-=" removes. Everything is in no list: every node is a member.
func AssignGroups(groups []GroupName, op, value string) ([]GroupName, error) {
	out, err := assignNames(groups, op, value)
	return slices.DeleteFunc(out, func(g GroupName) bool { return g == Everything }), err
}

// AssignAliases is AssignGroups for the aliases of a node.
func AssignAliases(aliases []NodeName, op, value string) ([]NodeName, error) {
	return assignNames(aliases, op, value)
}

func nothingAfter(a AttrName, op string) *Problem {
	return &Problem{Attr: a, What: "nothing after " + op, Do: "Write what to add or take away"}
}

func assignNames[S ~string](names []S, op, value string) ([]S, error) {
	var out []S
	if op != "=" {
		if value == "" {
			return nil, nothingAfter("", op)
		}
		out = slices.Clone(names)
	}
	for name := range strings.FieldsFuncSeq(value, func(r rune) bool { return r == ',' || r == ' ' }) {
		if p := CheckName(name); p != nil {
			return nil, p
		}
		at := slices.Index(out, S(name))
		switch {
		case op == "-=" && at >= 0:
			out = slices.Delete(out, at, at+1)
		case op != "-=" && at < 0:
			out = append(out, S(name))
		}
	}
	return out, nil
}
