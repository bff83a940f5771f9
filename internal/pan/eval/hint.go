package eval

import (
	"iter"
	"maps"
	"path"
	"slices"
	"strings"

	"muster/internal/pan/syntax"
)

// hinted adds the near miss to an error: what somebody may have meant who wrote word. It is not part of the message, which is panc's.
func (e *Error) hinted(what, word string, candidates ...iter.Seq[string]) *Error {
	if best := syntax.Nearest(word, candidates...); best != "" {
		e.Hint = "no " + what + " " + word + "; did you mean " + best + "?"
	}
	return e
}

// functionNames are those of this object and of the language.
func (x *exec) functionNames() []iter.Seq[string] {
	return []iter.Seq[string]{maps.Keys(x.functions), slices.Values(syntax.Functions)}
}

// variableNames are those of the globals and of the block that runs.
func (x *exec) variableNames() []iter.Seq[string] {
	return []iter.Seq[string]{
		func(yield func(string) bool) {
			for symbol, g := range x.globals {
				if g.value != nil && !yield(x.build.symbols.name(symbol)) {
					return
				}
			}
		},
		func(yield func(string) bool) {
			for name, slot := range x.unit.names {
				if x.locals[x.base+slot] != nil && !yield(name) {
					return
				}
			}
		},
	}
}

// templateNames are those beside where a template of this name would be.
func (x *exec) templateNames(name string) iter.Seq[string] {
	dir := path.Dir(name)
	return func(yield func(string) bool) {
		s := x.build.sources
		for _, d := range s.include {
			for _, rel := range x.load.dirs {
				for file := range s.names(path.Join(d.Path, rel, dir)) {
					base, ok := strings.CutSuffix(file, ".pan")
					if ok && !yield(path.Join(dir, base)) {
						return
					}
				}
			}
		}
	}
}
