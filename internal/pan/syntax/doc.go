// Package syntax reads Pan, the language of Quattor's configuration: bytes of one template in, a tree with positions out. It
// evaluates nothing and reads no file.
//
//	object template node1;      Parse    bytes -> *File, and the errors that panc finds while parsing
//	prefix '/hw';               Check    *File -> the errors that panc finds in the tree without evaluating it
//	'cores' = 4 * 2;
//
// panc (the reference compiler, github.com/quattor/pan) reads a template in two passes. The first is its grammar; what it does not
// accept is a parse error. The second turns the tree into operations, statement after statement, folds constants on the way, and
// raises syntax errors, each of which ends the file. Parse is the first pass. Check is what of the second pass needs no values; what
// needs them (folding, the arguments of built-in functions, error() and return() inside of arguments, SELF inside of include) is the
// evaluator's, and Sort brings the errors of both into the order in which panc would have met them.
//
// Unlike panc, both report all errors of a file. The first one is panc's, byte for byte.
package syntax
