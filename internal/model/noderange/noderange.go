// Package noderange is the one language in which every command names nodes (docs/using.md, "Noderange").
//
// An expression goes through three steps: [Parse] makes a [Plan] of it, the plan is evaluated over the nodes of a
// [World] as sets of bits, one bit for each node in natural order, and the set is read out as names:
//
//	"r1n[1-40],-~.*5@compute"  →  plan  →  0b1101…  →  r1n1 r1n2 …
//
// Precedence, from tight to loose: one term; the chain a@b a&b a^b, left to right; the list a,b with its exclusions
// a,-b and a!b, which win whatever the order; the page >limit<skip. Parentheses group.
//
// [Fold] is the way back: expanding what was folded gives the set back.
//
// The room knows names as strings and nothing of documents; who has nodes implements World.
package noderange

import (
	"iter"
	"slices"
)

// World is what an expression is evaluated against. Every answer is of one revision.
type World interface {
	// Has says that a node of exactly this name exists.
	Has(name string) bool
	// Alias is the node that has this alias; false when none has.
	Alias(name string) (node string, ok bool)
	// Names is the index of all nodes.
	Names() *Names
	// Group is the set of a group's members over Names(), which is not changed; false when there is no such group.
	// Every node is in "everything", which is always there.
	Group(name string) (*Set, bool)
	// Groups and Aliases yield the names of all groups, and all aliases, for telling the nearest one.
	Groups() iter.Seq[string]
	Aliases() iter.Seq[string]
	// Match answers an attribute term for the nodes of within.
	Match(q Query, within *Set) (*Set, error)
}

// Query is an attribute term: nodes whose effective value answers it.
type Query struct {
	Attr   string  // name or glob, "net.*.mac"
	Negate bool    // != and !~
	Value  string  // of = and !=
	Regexp *Regexp // of =~ and !~; nil for = and !=
}

// Options say what is done with names that do not exist.
type Options struct {
	// Known skips unknown names instead of refusing the expression; each is told to Skipped, when that is set.
	Known   bool
	Skipped func(Unknown)
}

// limit is the number of names that the ranges of one expression may stand for.
const limit = 1_000_000

// Expand returns the nodes that the expression names, in natural order, each once. The error is an [*Error].
func Expand(w World, expr string, o Options) ([]string, error) { return ExpandTo[string](w, expr, o) }

// ExpandTo is [Expand] with names of a type of their own.
func ExpandTo[N ~string](w World, expr string, o Options) ([]N, error) {
	p, err := Parse(expr)
	if err != nil {
		return nil, err
	}
	if names, ok := exact[N](p, w); ok {
		return names, nil
	}
	e := &evaluation{world: w, names: w.Names(), most: maxUnknown}
	set, err := e.expr(p.root, e.names.all())
	if err != nil {
		return nil, err
	}
	if len(e.unknown) > 0 {
		e.nearest()
		if !o.Known {
			return nil, e.refusal()
		}
		if o.Skipped != nil {
			for _, u := range e.unknown {
				o.Skipped(u)
			}
		}
	}
	return namesOf[N](e.names, set), nil
}

// ExpandNames returns the names that the expression stands for, whether they exist or not, in natural order: for
// adding nodes. Groups, regular expressions and attribute terms are refused, as they stand for existing nodes.
func ExpandNames(expr string) ([]string, error) {
	p, err := Parse(expr)
	if err != nil {
		return nil, err
	}
	f := free{}
	if err := f.collect(p); err != nil {
		return nil, err
	}
	slices.SortFunc(f.made, Natural)
	f.made = slices.Compact(f.made)
	if list, ok := p.root.(list); ok && len(list.without) == 0 && list.plain() {
		return f.made, nil
	}
	f.names = NewNames(slices.Values(f.made), len(f.made))
	return Expand(&f, expr, Options{})
}

// ExpandAny is [Expand] where everything that the expression names exists, else [ExpandNames]: what a noderange stands for, told to somebody
// who need not have the nodes. The error is that of Expand.
func ExpandAny(w World, expr string) ([]string, error) {
	p, err := Parse(expr)
	if err != nil {
		return nil, err
	}
	e := &evaluation{world: w, names: w.Names(), most: 1} // 100,000 names that do not exist are no reason to look for what was meant
	if set, err := e.expr(p.root, e.names.all()); err == nil && len(e.unknown) == 0 {
		return namesOf[string](e.names, set), nil
	}
	if names, err := ExpandNames(expr); err == nil {
		return names, nil
	}
	return Expand(w, expr, Options{})
}

// exact answers the most usual expression, a few names of existing nodes, without an index.
func exact[N ~string](p *Plan, w World) ([]N, bool) {
	l, ok := p.root.(list)
	if !ok || len(l.without) > 0 || len(l.of) > 64 {
		return nil, false
	}
	names := make([]N, 0, len(l.of))
	for _, t := range l.of {
		x, ok := t.(word)
		if !ok {
			return nil, false
		}
		name := x.text
		if !w.Has(name) {
			if name, ok = w.Alias(name); !ok {
				return nil, false
			}
		}
		names = append(names, N(name))
	}
	slices.SortFunc(names, func(a, b N) int { return Natural(string(a), string(b)) })
	return slices.Compact(names), true
}
