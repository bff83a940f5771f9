package syntax

import "sync"

// rule is one piece of the grammar of panc, which JavaCC made a parser of. explain follows it to find what panc would have expected.
type rule struct {
	op    ruleOp
	kind  kind    // of a terminal
	list  []*rule // of a sequence or a choice; one of an option or a repetition
	look  int     // tokens that JavaCC looks ahead to decide for this; 0: the next one, by its kind
	id    int     // of the decision, among those by the next token or those by looking ahead
	first kindSet // how it can begin
	empty bool    // it can be nothing
}

type ruleOp uint8

const (
	opTerminal ruleOp = iota
	opSequence
	opChoice
	opOption
	opRepeat
)

// kindSet is a set of kinds of tokens.
type kindSet [2]uint64

func (s *kindSet) add(k kind)     { s[k>>6] |= 1 << (k & 63) }
func (s kindSet) has(k kind) bool { return s[k>>6]&(1<<(k&63)) != 0 }
func (s *kindSet) join(o kindSet) { s[0] |= o[0]; s[1] |= o[1] }

const (
	unlimited = 1<<31 - 1 // of a LOOKAHEAD without a number
	places    = 7         // with a LOOKAHEAD
)

// grammar is the whole of it.
type grammar struct {
	file, statements *rule
	choices          int // how many ids of them there are
}

func seq(list ...*rule) *rule    { return &rule{op: opSequence, list: list} }
func choice(list ...*rule) *rule { return &rule{op: opChoice, list: list} }
func option(list ...*rule) *rule { return &rule{op: opOption, list: []*rule{seq(list...)}} }
func repeat(list ...*rule) *rule { return &rule{op: opRepeat, list: []*rule{seq(list...)}} }

// ahead makes it look n tokens ahead; place is its number among those that do, in the order of the text of PanParser.jjt.
func (r *rule) ahead(n, place int) *rule { r.look, r.id = n, place; return r }
func terminal(k kind) *rule              { return &rule{kind: k} }
func terminals(kinds ...kind) *rule { // any of them
	r := choice()
	for _, k := range kinds {
		r.list = append(r.list, terminal(k))
	}
	return r
}

// panGrammar is PanParser.jjt: the same rules in the same order, with the same places to look ahead at.
var panGrammar = sync.OnceValue(func() *grammar {
	t := terminal
	dml, expression, fullType := seq(), seq(), seq()

	path := terminals(tSingleQuoted, tDoubleQuoted)
	str := choice(terminals(tSingleQuoted, tDoubleQuoted), t(tHeredoc))
	long := terminals(tDecimal, tHex, tOctal)

	variable := seq(t(tIdentifier), repeat(t(tLBracket), dml, t(tRBracket)))
	primary := choice(long, t(tDouble), str, t(tUndef), t(tNull), terminals(tTrue, tFalse), variable, seq(t(tLParen), dml, t(tRParen)))
	functional := choice(
		seq(t(tIdentifier), t(tLParen), option(dml), repeat(t(tComma), dml).ahead(2, 5), option(t(tComma)), t(tRParen)).ahead(2, 6),
		primary)
	operand := choice(seq(t(tPlus), functional), seq(t(tMinus), functional), seq(t(tNot), functional), seq(t(tBitNot), functional), functional)
	for _, level := range [][]kind{{tAsterisk, tDiv, tMod}, {tPlus, tMinus}, {tLT, tGT, tLE, tGE}, {tEQ, tNE}, {tBitAnd}, {tBitXor}, {tBitOr}, {tAnd}, {tOr}} {
		if len(level) == 1 {
			operand = seq(operand, repeat(t(level[0]), operand))
			continue
		}
		operators := choice()
		for _, k := range level {
			operators.list = append(operators.list, seq(t(k), operand))
		}
		operand = seq(operand, repeat(operators))
	}
	expression.list = []*rule{
		repeat(variable, t(tAssign)).ahead(unlimited, 4),
		choice(
			seq(t(tIf), t(tLParen), dml, t(tRParen), dml, option(t(tElse), dml).ahead(2, 3)),
			seq(t(tWhile), t(tLParen), dml, t(tRParen), dml),
			seq(t(tFor), t(tLParen), dml, t(tSemicolon), dml, t(tSemicolon), dml, t(tRParen), dml),
			seq(t(tForeach), t(tLParen), variable, t(tSemicolon), variable, t(tSemicolon), dml, t(tRParen), dml),
			operand),
	}
	block := seq(t(tLBrace), dml, repeat(t(tSemicolon), dml).ahead(2, 2), option(t(tSemicolon)), t(tRBrace))
	dml.list = []*rule{choice(choice(expression, block), t(tSemicolon))}

	rng := choice(
		seq(option(t(tMinus)), long, option(t(tRange), option(option(t(tMinus)), long))),
		seq(t(tRange), long))
	limits := option(t(tLParen), option(rng), t(tRParen))
	field := choice(seq(path, terminals(tOptional, tColon), fullType), seq(t(tInclude), t(tIdentifier)))
	base := choice(
		seq(t(tChoice), t(tLParen), str, repeat(t(tComma), str), t(tRParen)),
		seq(t(tIdentifier), limits),
		seq(option(t(tExtensible)), t(tLBrace), repeat(field), t(tRBrace), limits))
	clause := choice(seq(t(tLBracket), option(rng), t(tRBracket)), seq(t(tLBrace), option(rng), t(tRBrace)), t(tAsterisk))
	fullType.list = []*rule{base, repeat(clause), option(t(tAssign), dml), option(t(tWith), dml)}

	assign := terminals(tAssign, tAssignDefault)
	statement := choice(
		t(tSemicolon),
		seq(t(tInclude), dml, t(tSemicolon)),
		seq(t(tPrefix), path, t(tSemicolon)),
		seq(t(tValid), path, t(tAssign), dml, t(tSemicolon)),
		seq(t(tBind), path, t(tAssign), fullType, t(tSemicolon)),
		seq(option(t(tFinal)), path, assign, dml, t(tSemicolon)).ahead(2, 0),
		seq(option(t(tFinal)), t(tVariable), t(tIdentifier), assign, dml, t(tSemicolon)).ahead(2, 1),
		seq(t(tType), t(tIdentifier), t(tAssign), fullType, t(tSemicolon)),
		seq(t(tFunction), t(tIdentifier), t(tAssign), dml, t(tSemicolon)))

	g := &grammar{statements: seq(repeat(statement), t(tEOF))}
	g.file = seq(
		option(terminals(tStructure, tObject, tDeclaration, tUnique)), t(tTemplate), t(tNamespaced), t(tSemicolon), g.statements)
	for g.prepare(g.file, map[*rule]bool{}) {
	}
	g.number(g.file, map[*rule]bool{})
	return g
})

// prepare finds how the rules can begin, until nothing changes any more.
func (g *grammar) prepare(r *rule, seen map[*rule]bool) (changed bool) {
	if seen[r] {
		return false
	}
	seen[r] = true
	for _, sub := range r.list {
		changed = g.prepare(sub, seen) || changed
	}
	first, empty := r.first, r.empty
	switch r.op {
	case opTerminal:
		r.first.add(r.kind)
	case opSequence:
		r.empty = true
		for _, sub := range r.list {
			if r.empty {
				r.first.join(sub.first)
			}
			r.empty = r.empty && sub.empty
		}
	default:
		r.empty = r.op != opChoice
		for _, sub := range r.list {
			r.first.join(sub.first)
			r.empty = r.empty || sub.empty
		}
	}
	return changed || first != r.first || empty != r.empty
}

// number gives each place of a decision by the next token an id. A group of alternatives is noted under the id of its first.
func (g *grammar) number(r *rule, seen map[*rule]bool) {
	if seen[r] {
		return
	}
	seen[r] = true
	if r.look == 0 {
		r.id = g.choices
		g.choices++
	}
	for _, sub := range r.list {
		g.number(sub, seen)
	}
}
