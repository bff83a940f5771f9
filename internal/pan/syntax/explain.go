package syntax

import "strings"

// explain finds the message of panc for the statement that begins at start (or for the file, from its header on) and was refused.
// JavaCC's parsers note at each decision what they compared the next token with; the message lists what was noted since the last token.
// That cannot be known from the place alone, so the statement is read again, by the grammar and JavaCC's rules. Nil when nothing is
// found, which is after maxSteps.
func (p *parser) explain(file bool) (problem *Error) {
	g := panGrammar()
	e := &explanation{tokens: []token{{}}, noted: make([]int, g.choices), group: make([]kindSet, g.choices), gen: 1}
	e.lexer = p.lexer
	e.lexer.cursor = p.start
	defer func() {
		if r := recover(); r != nil {
			why, ok := r.(refused)
			if !ok {
				panic(r)
			}
			problem = why.problem
		}
	}()
	if file {
		e.run(g.file)
	} else {
		e.run(g.statements)
	}
	return nil
}

// maxSteps bounds the tokens that an explanation looks at: looking ahead at subscripts inside of subscripts takes panc a time that is
// exponential in their depth.
const maxSteps = 1 << 20

// explanation is a reading by the grammar as JavaCC's parser does it. It ends by a panic with refused.
type explanation struct {
	lexer
	tokens []token // all that were read, the first being an empty one
	at     int     // the last token that was taken
	gen    int     // counts the tokens that were taken
	steps  int

	noted   []int          // by id of a choice: gen when no alternative fitted
	group   []kindSet      // and what those would have begun with
	looks   [places][]look // when it looked ahead, by the id of the place
	looking [places]*rule  // and what it compared

	// While looking ahead: where, the furthest token, and how many more there may be. Rescanning, wanted is called with each kind.
	scan, last, left int
	wanted           func(k kind)
}

// look is one time of looking ahead: it counts for the message while gen is below until.
type look struct {
	until, from, tokens int
}

// enough is the panic that ends looking ahead when all tokens that it may see have fitted.
type enough struct{}

// peek is the kind of token i, which is read if it was not.
func (e *explanation) peek(i int) kind {
	for len(e.tokens) <= i {
		var t token
		e.next(&t)
		if t.kind == tFailed {
			panic(refused{e.err})
		}
		e.tokens = append(e.tokens, t)
	}
	return e.tokens[i].kind
}

// run takes what the rule says.
func (e *explanation) run(r *rule) {
	switch r.op {
	case opTerminal:
		if e.peek(e.at+1) != r.kind {
			e.refuse(r.kind)
		}
		e.at++
		e.gen++
	case opSequence:
		for _, sub := range r.list {
			e.run(sub)
		}
	case opOption:
		if e.decide(r) {
			e.run(r.list[0])
		}
	case opRepeat:
		for e.decide(r) {
			e.run(r.list[0])
		}
	case opChoice:
		for i := 0; i < len(r.list); i++ {
			if sub := r.list[i]; sub.look > 0 {
				if e.lookAhead(sub, sub) {
					e.run(sub)
					return
				}
				continue
			}
			group, next := r.list[i], e.peek(e.at+1)
			e.group[group.id] = kindSet{}
			for ; i < len(r.list) && r.list[i].look == 0; i++ {
				if r.list[i].first.has(next) {
					e.run(r.list[i])
					return
				}
				e.group[group.id].join(r.list[i].first)
			}
			e.noted[group.id] = e.gen
			i--
		}
		e.refuse(tFailed)
	}
}

// decide says whether an option or a repetition is entered.
func (e *explanation) decide(r *rule) bool {
	if r.look > 0 {
		return e.lookAhead(r, r.list[0])
	}
	if r.first.has(e.peek(e.at + 1)) {
		return true
	}
	e.noted[r.id], e.group[r.id] = e.gen, r.first
	return false
}

// lookAhead compares what comes with body, as far as r may look.
func (e *explanation) lookAhead(r, body *rule) (fits bool) {
	e.scan, e.last, e.left = e.at, e.at, r.look
	fits = e.scanned(body)
	e.looking[r.id] = body
	// JavaCC keeps a list of the times that still count, and takes the first place that is free.
	list, i := e.looks[r.id], 0
	for i < len(list) && list[i].until > e.gen {
		i++
	}
	if i == len(list) {
		list = append(list, look{})
	}
	list[i] = look{until: e.gen + r.look - e.left, from: e.at, tokens: r.look}
	e.looks[r.id] = list
	return fits
}

// scanned is fits, with enough being a yes.
func (e *explanation) scanned(r *rule) (fits bool) {
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(enough); !ok {
				panic(r)
			}
			fits = true
		}
	}()
	return e.fits(r)
}

// fits compares what comes with a rule and goes on behind it.
func (e *explanation) fits(r *rule) bool {
	switch r.op {
	case opTerminal:
		return e.token(r.kind)
	case opSequence:
		for _, sub := range r.list {
			if !e.fits(sub) {
				return false
			}
		}
	case opOption, opRepeat:
		for {
			back := e.scan
			if !e.fits(r.list[0]) {
				e.scan = back
				return true
			}
			if r.op == opOption {
				return true
			}
		}
	case opChoice:
		back := e.scan
		for _, sub := range r.list {
			e.scan = back
			if e.fits(sub) {
				return true
			}
		}
		return false
	}
	return true
}

// token compares the next token while looking ahead.
func (e *explanation) token(k kind) bool {
	if e.steps++; e.steps > maxSteps {
		panic(refused{})
	}
	if e.scan == e.last {
		e.left--
		e.last++
	}
	e.scan++
	next := e.peek(e.scan)
	if e.wanted != nil {
		e.wanted(k)
	}
	if next == k && e.left == 0 && e.scan == e.last {
		panic(enough{})
	}
	return next == k
}

// refuse ends the reading with panc's message for the next token. wanted is the one kind that may stand there, or tFailed: any of those
// noted.
func (e *explanation) refuse(wanted kind) {
	var set kindSet
	if wanted < numKinds {
		set.add(wanted)
	}
	for id, gen := range e.noted {
		if gen == e.gen {
			set.join(e.group[id])
		}
	}
	var list []kind
	for k := range numKinds {
		if set.has(k) {
			list = append(list, k)
		}
	}
	for _, k := range e.repeated() {
		if set.has(k) {
			list = append(list, k)
		}
	}
	next := e.tokens[e.at+1]
	b := []byte("\nEncountered: ")
	if next.kind == tEOF {
		b = append(b, kindImage[tEOF]...)
	} else {
		b = appendToken(b, strings.ReplaceAll(next.text, "\x00", ""), next.kind == tError)
	}
	b = append(b, "\nWas expecting"...)
	if len(list) > 1 {
		b = append(b, " one of"...)
	}
	b = append(b, ":\n    "...)
	for _, k := range list {
		b = append(b, kindImage[k]...)
		b = append(b, ' ')
		if k != tEOF {
			b = append(b, "..."...)
		}
		b = append(b, "\n    "...)
	}
	panic(refused{&Error{Class: ParseError, File: e.file, Span: next.span, Message: string(b), token: true, wanted: set}})
}

// repeated are the kinds that JavaCC lists once more. It looks ahead again from each place from which it looked at the token that does
// not fit, and collects the sequences of kinds that it compares. Of those it keeps the ones that it has already, by mistake: so
// none of two or more kinds, and some of one kind twice.
func (e *explanation) repeated() (twice []kind) {
	var sequence []kind
	flush := func() {
		if len(sequence) == 1 {
			twice = append(twice, sequence[0])
		}
	}
	e.wanted = func(k kind) {
		place := e.scan - e.at
		switch {
		case place < 0 || place >= 100:
		case place == len(sequence)+1:
			sequence = append(sequence, k)
		case len(sequence) != 0:
			flush()
			if place != 0 {
				for len(sequence) < place {
					sequence = append(sequence, 0)
				}
				sequence = append(sequence[:place-1], k)
			}
		}
	}
	for id, list := range e.looks {
		for _, l := range list {
			if l.until <= e.gen {
				continue
			}
			e.scan, e.last, e.left = l.from, l.from, l.tokens
			if e.rescan(e.looking[id]) {
				break
			}
		}
	}
	e.wanted = nil
	flush()
	return twice
}

// rescan looks ahead once more and says whether it saw enough.
func (e *explanation) rescan(r *rule) (saw bool) {
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(enough); !ok {
				panic(r)
			}
			saw = true
		}
	}()
	e.fits(r)
	return false
}
