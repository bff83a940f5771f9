package console

import (
	"bytes"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"sync"
	"time"

	"muster/internal/model"
)

// Alarm is a line of a console that somebody should look at.
type Alarm struct {
	Node model.NodeName
	Rule string // the expression that the line matches
	Line string // of at most 200 bytes, without control characters
}

// Rules say what in a line is an [Alarm]. They are shared by any number of consoles.
//
// A line is read by one automaton for all rules, a table step a byte; an expression is only tried on a line that has a text
// without which it cannot match. Expressions that have no such text, as "a.*b", are tried on every line.
type Rules struct {
	source []string
	exp    []*regexp.Regexp
	always uint64 // rules without a text

	// The automaton (Aho and Corasick 1975) over bytes, A to Z folded into a to z. A state is its index into next; with the flag, a text of the rules hits[state] ends in it.
	class [256]uint8
	width uint32
	next  []uint32
	hits  map[uint32]uint64
}

const (
	maxRules    = 64
	ends        = 1 << 31 // flag of a state
	maxStates   = 4096
	lineMax     = 1 << 10     // of a longer line, each part is one
	partialWait = time.Second // a line that is not finished is judged after so long: a prompt has no end
	toldFor     = 10 * time.Minute
)

// Compile makes rules of expressions (RE2).
func Compile(expressions []string) (*Rules, error) {
	if len(expressions) > maxRules {
		return nil, &Error{"console.alarms", fmt.Sprintf("%d expressions, of at most %d", len(expressions), maxRules), "Put some together in a group: (a|b)"}
	}
	r := &Rules{source: expressions}
	texts := map[string]uint64{}
	for i, e := range expressions {
		exp, err := regexp.Compile(e)
		if err != nil {
			return nil, &Error{"console.alarms", err.Error(), "See https://golang.org/s/re2syntax"}
		}
		r.exp = append(r.exp, exp)
		tree, err := syntax.Parse(e, syntax.Perl)
		if err != nil {
			return nil, &Error{"console.alarms", err.Error(), ""}
		}
		needs := textsOf(tree.Simplify())
		if shortest(needs) < 3 {
			r.always |= 1 << i
			continue
		}
		for _, t := range needs {
			texts[t] |= 1 << i
		}
	}
	r.build(texts)
	return r, nil
}

// shortest is the length of the shortest text, 0 when there is none.
func shortest(texts []string) int {
	if len(texts) == 0 {
		return 0
	}
	return len(slices.MinFunc(texts, func(a, b string) int { return len(a) - len(b) }))
}

// textsOf are texts, in lower case, of which every match of an expression has at least one; none when that cannot be said.
func textsOf(re *syntax.Regexp) []string {
	const most, longest = 16, 32
	switch re.Op {
	case syntax.OpLiteral:
		// Without case, k is also the Kelvin sign and s the long s (Unicode, simple case folding).
		runes := strings.FieldsFunc(string(re.Rune), func(c rune) bool {
			return c >= 0x80 || re.Flags&syntax.FoldCase != 0 && strings.ContainsRune("kKsS", c)
		})
		if len(runes) == 0 {
			return nil
		}
		t := slices.MaxFunc(runes, func(a, b string) int { return len(a) - len(b) })
		return []string{strings.ToLower(t[:min(len(t), longest)])}
	case syntax.OpCapture, syntax.OpPlus:
		return textsOf(re.Sub[0])
	case syntax.OpRepeat:
		if re.Min > 0 {
			return textsOf(re.Sub[0])
		}
	case syntax.OpConcat:
		var best []string
		for _, sub := range re.Sub {
			if t := textsOf(sub); shortest(t) > shortest(best) {
				best = t
			}
		}
		return best
	case syntax.OpAlternate:
		var all []string
		for _, sub := range re.Sub {
			t := textsOf(sub)
			if len(t) == 0 || len(all)+len(t) > most {
				return nil
			}
			all = append(all, t...)
		}
		return all
	}
	return nil
}

// build makes the automaton of texts.
func (r *Rules) build(texts map[string]uint64) {
	r.width = 1 // class 0 is every byte that is in no text
	for t := range texts {
		for _, b := range []byte(t) {
			if r.class[b] == 0 {
				r.class[b] = uint8(r.width)
				r.width++
			}
		}
	}
	for b := byte('A'); b <= 'Z'; b++ {
		r.class[b] = r.class[b|0x20]
	}
	type node struct {
		next map[uint8]int
		fail int
		hits uint64
	}
	trie := []node{{next: map[uint8]int{}}}
	for t, rules := range texts {
		if len(trie)+len(t) > maxStates {
			r.always |= rules
			continue
		}
		at := 0
		for _, b := range []byte(t) {
			to, ok := trie[at].next[r.class[b]]
			if !ok {
				to = len(trie)
				trie[at].next[r.class[b]] = to
				trie = append(trie, node{next: map[uint8]int{}})
			}
			at = to
		}
		trie[at].hits |= rules
	}
	r.next = make([]uint32, len(trie)*int(r.width))
	r.hits = map[uint32]uint64{}
	step := func(from int, c uint32) int { return int(r.next[from*int(r.width)+int(c)]&^ends) / int(r.width) }
	for queue := []int{0}; len(queue) > 0; queue = queue[1:] { // in the order of their length: what fail leads to is done
		at := queue[0]
		for c := range r.width {
			to, ok := trie[at].next[uint8(c)]
			switch {
			case ok:
				if at != 0 {
					trie[to].fail = step(trie[at].fail, c)
				}
				trie[to].hits |= trie[trie[to].fail].hits
				queue = append(queue, to)
			case at != 0:
				to = step(trie[at].fail, c)
			}
			state := uint32(to) * r.width
			if h := trie[to].hits; h != 0 {
				r.hits[state] = h
				state |= ends
			}
			r.next[uint32(at)*r.width+c] = state
		}
	}
}

// scan goes on from a state over a piece of a line. hits are the rules of which it has met a text.
func (r *Rules) scan(state uint32, p []byte) (_ uint32, hits uint64) {
	next := r.next
	for _, b := range p {
		state = next[state+uint32(r.class[b])]
		if state&ends != 0 {
			state &^= ends
			hits |= r.hits[state]
		}
	}
	return state, hits
}

// lookout watches the lines of one console. The zero value watches for nothing. A line costs memory only while it is not finished.
type lookout struct {
	mu    sync.Mutex
	rules *Rules
	part  []byte // of the line under way
	state uint32
	hits  uint64 // in the line under way
	told  map[int]time.Time
	wait  *time.Timer // until an unfinished line is judged
	found func(rule, line string)
}

// watchFor takes other rules.
func (l *lookout) watchFor(r *Rules) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.rules != r {
		l.rules, l.told = r, nil
		l.fresh()
	}
}

// feed takes what the machine has printed.
func (l *lookout) feed(p []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.rules == nil {
		return
	}
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		line, whole := p, i >= 0
		if whole {
			line = p[:i]
		}
		line = line[:min(len(line), lineMax-len(l.part))]
		var hits uint64
		l.state, hits = l.rules.scan(l.state, line)
		l.hits |= hits
		p = p[len(line):]
		full := len(l.part)+len(line) == lineMax
		switch {
		case whole && len(line) == i:
			p = p[1:]
			l.judge(line)
			l.fresh()
		case full:
			l.judge(line)
			l.fresh()
		default: // the piece ends here
			l.part = append(l.part, line...)
			if l.hits|l.rules.always != 0 && l.wait == nil {
				l.wait = time.AfterFunc(partialWait, l.late)
			}
		}
	}
}

// fresh begins a line. l.mu is held.
func (l *lookout) fresh() {
	l.state, l.hits = 0, 0
	if l.part = l.part[:0]; cap(l.part) > 64 {
		l.part = nil
	}
	if l.wait != nil {
		l.wait.Stop()
		l.wait = nil
	}
}

// late judges a line that did not end.
func (l *lookout) late() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.wait != nil { // not finished meanwhile
		l.wait = nil
		l.judge(nil)
	}
}

// end is the loss of the line.
func (l *lookout) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.rules != nil {
		l.judge(nil)
	}
	l.fresh()
}

// judge tries the rules on the line under way, with what came now. A rule that was told in the last ten minutes is not tried: what a
// machine repeats costs nothing. l.mu is held.
func (l *lookout) judge(rest []byte) {
	hits := l.hits | l.rules.always
	if hits == 0 {
		return
	}
	line := rest
	if len(l.part) > 0 {
		line = append(l.part, rest...)
		l.part = line[:len(l.part)]
	}
	if line = bytes.TrimRight(line, "\r"); len(line) == 0 {
		return
	}
	for i, e := range l.rules.exp {
		if hits&(1<<i) == 0 {
			continue
		}
		now := time.Now()
		if at, ok := l.told[i]; ok && now.Sub(at) < toldFor || !e.Match(line) {
			continue
		}
		if l.told == nil {
			l.told = map[int]time.Time{}
		}
		l.told[i] = now
		l.found(l.rules.source[i], oneLine(Plain(line)))
	}
}
