// Package eval executes Pan: it compiles the tree of a template to operations, runs the operations of an object template and of what it
// includes, sets defaults and validates.
//
//	*syntax.File ──compiler──▶ Template: statements, units of op    once for all objects; constants folded, names are numbers
//	                               │
//	    Build: sources, templates, objects ──Run──▶ exec            once per object: globals, functions, types, bindings, the tree
//	                                                 │  run · setDefaults · validate
//	                                                 ▼
//	                                              Result
//
// It does what panc 10.9 does, peculiarities included, as the probes and panc's own suite show; where panc stands in the way (it loses errors,
// names the wrong file, keeps all in memory) it does better, and docs/pan.md says where. Messages are panc's words: they are an
// interface.
//
// Errors are *Error everywhere inside, because on their way up they are completed: who knows a range, a file or the call stack that
// the error has not yet adds it (exec.at), in panc's order, as the message shows who was first.
//
// A Template is shared by all objects and goroutines and does not change. An exec belongs to one goroutine at a time; another object
// may read its tree once it is executed. There are no goroutines of this package.
package eval
