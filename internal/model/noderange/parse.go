package noderange

import (
	"fmt"
	"strings"
)

// Plan is a parsed expression. It is immutable and may be evaluated any number of times.
type Plan struct {
	root  expr
	terms []term // every leaf, in the order of the text
}

// expr is one of list, chain, page and the leaves: word, group, pick, query, path.
type expr any

// list is a,b,-c: the union of its parts without those excluded.
type list struct{ of, without []expr }

// chain is a@b^c, left to right.
type chain struct {
	first expr
	rest  []link
}

type link struct {
	op byte // '@' and '^'
	x  expr
}

// page is x>limit<skip; limit -1 is no limit. x is nil for all nodes.
type page struct {
	x           expr
	limit, skip int
}

// word is a node, a group or a range.
type word struct {
	text   string
	column int
	// ranges says what the word stands for when no node and no group has that name; nil when it is just a name.
	ranges *pattern
	// wrong is why the word is no valid range; told only when no node and no group has that name.
	wrong *Error
}

// group is @name.
type group struct {
	name   string
	column int
}

// pick is ~regex and /regex.
type pick struct {
	re     *Regexp
	column int
}

// query is an attribute term.
type query struct {
	Query
	column int
}

// path is ^/file: from and to are its place in the text.
type path struct {
	file     string
	from, to int
}

// term is a leaf.
type term = expr

// plain says that a list is nothing but words.
func (l list) plain() bool {
	for _, x := range l.of {
		if _, ok := x.(word); !ok {
			return false
		}
	}
	return true
}

// Parse reads an expression. The error is an [*Error].
func Parse(text string) (*Plan, error) {
	p := &parser{text: text}
	plan, err := p.parse()
	if err != nil {
		return nil, err
	}
	for _, t := range plan.terms {
		if f, ok := t.(path); ok {
			return nil, fail(f.from+1, "^"+f.file+" is not read here", "only the command line reads files, never the service",
				"Give the names, or use a muster command, which puts them in")
		}
	}
	return plan, nil
}

type parser struct {
	text  string
	at    int
	depth int
	names uint64 // that all ranges so far stand for
	bytes uint64 // of these names
	// costly counts regular expressions and attribute terms
	costly int
	local  int // up to here, sites has found no %
	terms  []term
}

const (
	maxText   = 4 << 20  // bytes of an expression
	maxDepth  = 100      // parentheses within each other
	maxBytes  = 64 << 20 // of all names that the ranges stand for
	maxCostly = 1000     // regular expressions and attribute terms
)

func (p *parser) parse() (*Plan, error) {
	if len(p.text) > maxText {
		return nil, fail(1, "the expression is too long", fmt.Sprintf("%d bytes, of at most %d", len(p.text), maxText), "Make a group of the nodes")
	}
	if p.space(); p.at == len(p.text) {
		return nil, fail(1, "the noderange is empty", "", `Write "everything" for all nodes`)
	}
	x, err := p.paged()
	if err != nil {
		return nil, err
	}
	if p.at < len(p.text) {
		return nil, p.unexpected()
	}
	return &Plan{root: x, terms: p.terms}, nil
}

func (p *parser) unexpected() *Error {
	c := p.text[p.at]
	switch {
	case c == ')':
		return fail(p.at+1, "this ) closes nothing", "", "Take it away, or open it with (")
	case c == ']':
		return fail(p.at+1, "this ] closes nothing", "", "Take it away, or open it with [")
	case isName(c) || c == '[' || c == '(':
		return fail(p.at+1, "two terms stand side by side", "", "Join them with a comma")
	}
	return fail(p.at+1, fmt.Sprintf("%q does not belong here", rune(c)), "", "Quote the shell's special letters; muster help noderange shows all forms")
}

func (p *parser) space() {
	for p.at < len(p.text) && strings.IndexByte(" \t\r\n", p.text[p.at]) >= 0 {
		p.at++
	}
}

func (p *parser) peek() byte {
	if p.at < len(p.text) {
		return p.text[p.at]
	}
	return 0
}

// paged is list [>limit] [<skip].
func (p *parser) paged() (expr, error) {
	var x expr
	var err error
	if c := p.peek(); c != '>' && c != '<' {
		if x, err = p.list(); err != nil {
			return nil, err
		}
	}
	pg := page{x: x, limit: -1, skip: -1}
	for {
		c := p.peek()
		if c != '>' && c != '<' {
			break
		}
		start := p.at
		p.at++
		from := p.at
		for digit(p.peek()) {
			p.at++
		}
		if p.at == from || p.at-from > 9 {
			return nil, fail(start+1, "a page needs a count", fmt.Sprintf("after %c comes a whole number", c), "Write >10<20 for ten nodes after the first twenty")
		}
		n := int(value(p.text[from:p.at]))
		switch {
		case c == '>' && pg.limit < 0:
			pg.limit = n
		case c == '<' && pg.skip < 0:
			pg.skip = n
		default:
			return nil, fail(start+1, fmt.Sprintf("a second %c", c), "a page has one limit and one start", "Take one away")
		}
		p.space()
	}
	if pg.limit < 0 && pg.skip < 0 {
		return x, nil
	}
	pg.skip = max(pg.skip, 0)
	return pg, nil
}

// list is item {(','|'!') item}.
func (p *parser) list() (expr, error) {
	var l list
	out := false // the next item is taken away
	for {
		p.space()
		if p.peek() == '-' {
			if out {
				return nil, fail(p.at+1, "taken away twice", "! and - both mean without", "Write one of them")
			}
			out = true
			p.at++
		}
		x, err := p.chain()
		if err != nil {
			return nil, err
		}
		if out {
			l.without = append(l.without, x)
		} else {
			l.of = append(l.of, x)
		}
		switch p.peek() {
		case ',':
			out = false
		case '!':
			out = true
		default:
			return l, nil
		}
		p.at++
	}
}

// chain is term {('@'|'&'|'^') term}.
func (p *parser) chain() (expr, error) {
	x, err := p.term()
	if err != nil {
		return nil, err
	}
	c := chain{first: x}
	for {
		p.space()
		op := p.peek()
		if op == '&' {
			op = '@'
		}
		if op != '@' && op != '^' {
			break
		}
		p.at++
		x, err := p.term()
		if err != nil {
			return nil, err
		}
		c.rest = append(c.rest, link{op, x})
	}
	if len(c.rest) == 0 {
		return x, nil
	}
	return c, nil
}

func (p *parser) leaf(t term) term {
	p.terms = append(p.terms, t)
	return t
}

func (p *parser) term() (expr, error) {
	p.space()
	start := p.at
	switch c := p.peek(); {
	case c == '(':
		if p.depth++; p.depth > maxDepth {
			return nil, fail(p.at+1, "too many parentheses within each other", fmt.Sprintf("more than %d", maxDepth), "Make a group of a part")
		}
		p.at++
		x, err := p.paged()
		if err != nil {
			return nil, err
		}
		if p.peek() != ')' {
			if p.at < len(p.text) {
				return nil, p.unexpected()
			}
			return nil, fail(start+1, "this ( is not closed", "", "Close it with )")
		}
		p.depth--
		p.at++
		return x, nil
	case c == '~' || c == '/':
		p.at++
		re, err := p.regexp(start, c == '/')
		if err != nil {
			return nil, err
		}
		return p.leaf(pick{re, start + 1}), nil
	case c == '@':
		p.at++
		name := p.name()
		if p.peek() == ':' { // @source:group of ClusterShell: the groups of muster are the only source
			p.at++
			name = p.name()
		}
		if name == "" && p.peek() == '*' {
			p.at++
			name = "everything"
		}
		if name == "" {
			return nil, fail(start+1, "@ without a group", "", "Write @ and the name of a group")
		}
		return p.leaf(group{name, start + 1}), nil
	case c == '^':
		p.at++
		if p.peek() != '/' {
			return nil, fail(start+1, "^ has nothing before it", "a^b is what is in one of both only; ^/path names a file", "Write both sides")
		}
		from := p.at
		p.until(",@&!^()")
		return p.leaf(path{strings.TrimSpace(p.text[from:p.at]), start, p.at}), nil
	case c == '-': // where it takes away, list has read it
		return nil, fail(start+1, "a name does not begin with a dash", "- takes away where a comma stands before it", "Write a,-b for a without b")
	case c == 0 && p.at == len(p.text), strings.IndexByte(",!&)<>", c) >= 0:
		return nil, fail(min(p.at, len(p.text)-1)+1, "a name is missing", "", "Write a node, a group or a range here")
	}
	return p.word()
}

// name reads letters of names.
func (p *parser) name() string {
	from := p.at
	for p.at < len(p.text) && isName(p.text[p.at]) {
		p.at++
	}
	return p.text[from:p.at]
}

func isName(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || digit(c) || c == '-' || c == '.' || c == '_'
}

// until moves to the first of the stops that stands outside of brackets, parentheses and braces, or to the end.
func (p *parser) until(stops string) {
	depth := 0
	class := false // inside of [ ], where brackets and parentheses are plain letters
	for ; p.at < len(p.text); p.at++ {
		c := p.text[p.at]
		switch {
		case c == '\\':
			p.at++
			if p.at >= len(p.text) {
				return
			}
		case class:
			class = c != ']'
		case c == '[':
			class = true
			if rest := p.text[p.at+1:]; strings.HasPrefix(rest, "^]") {
				p.at += 2
			} else if strings.HasPrefix(rest, "]") {
				p.at++
			}
		case depth == 0 && strings.IndexByte(stops, c) >= 0:
			return
		case c == '(' || c == '{':
			depth++
		case (c == ')' || c == '}') && depth > 0:
			depth--
		}
	}
}

// regexp reads up to the end of the term; slash allows a closing slash.
func (p *parser) regexp(start int, slash bool) (*Regexp, error) {
	from := p.at
	for p.until(",@&!^)<>"); p.peek() == '^' && (p.at == from || p.text[p.at-1] == '|'); p.until(",@&!^)<>") {
		p.at++ // the beginning of the name, and not the operator
	}
	s := strings.TrimSpace(p.text[from:p.at])
	if slash {
		s = strings.TrimSuffix(s, "/")
	}
	if s == "" {
		return nil, fail(start+1, "the regular expression is empty", "", "Write it after "+p.text[start:from])
	}
	if p.costly += 1 + len(s)/1000; p.costly > maxCostly {
		return nil, p.tooCostly(start)
	}
	re, err := compile(s)
	if err != nil {
		return nil, fail(start+1, "no regular expression "+s, strings.TrimPrefix(err.Error(), "error parsing regexp: "), "The syntax is that of RE2")
	}
	return re, nil
}

// word reads a node, group or range, and attribute terms, which begin like one.
func (p *parser) word() (expr, error) {
	start := p.at
	for p.at < len(p.text) {
		c := p.text[p.at]
		if c == '[' {
			end := strings.IndexByte(p.text[p.at:], ']')
			if end < 0 {
				return nil, fail(p.at+1, "this [ is not closed", "", "Close it with ]")
			}
			p.at += end + 1
			continue
		}
		if !isName(c) && strings.IndexByte(":+*?", c) < 0 {
			break
		}
		p.at++
	}
	text := p.text[start:p.at]
	if q, err := p.query(start, text); q != nil || err != nil {
		return q, err
	}
	if p.peek() == '%' || strings.HasPrefix(p.text[p.at:], ",") && p.sites() {
		return nil, fail(start+1, "% names other sites", "this service is one site by itself", "Leave out what stands before the % and the % itself")
	}
	if text == "" {
		return nil, p.unexpected()
	}
	if i := strings.IndexAny(text, "*?"); i >= 0 {
		return nil, fail(start+i+1, "names are not matched by * and ?", "", "Write a regular expression: ~"+wildcard(text))
	}
	w := word{text: text, column: start + 1}
	w.ranges, w.wrong = readPattern(text, start)
	if w.wrong != nil && strings.ContainsAny(text, "[]+:") { // cannot be a name
		return nil, w.wrong
	}
	if w.ranges != nil {
		p.names += w.ranges.size()
		p.bytes += w.ranges.size() * uint64(len(text)+8)
		if p.names > limit || p.bytes > maxBytes {
			return nil, fail(start+1, "the expression is too much", fmt.Sprintf("it stands for more than %d names", limit), "Narrow its ranges, or name a group")
		}
	}
	return p.leaf(w), nil
}

func (p *parser) tooCostly(start int) *Error {
	return fail(start+1, "the expression is too much", fmt.Sprintf("it has more than %d regular expressions and attribute terms", maxCostly), "Make a group of a part, or one regular expression of several: ~a.*|b.*")
}

// sites says that a % comes later in this comma list of plain names: site1,site2%nodes.
func (p *parser) sites() bool {
	if p.at < p.local {
		return false
	}
	for p.local = p.at; p.local < len(p.text); p.local++ {
		switch c := p.text[p.local]; {
		case c == '%':
			return true
		case !isName(c) && c != ',':
			return false
		}
	}
	return false
}

func wildcard(s string) string {
	return strings.NewReplacer(".", `\.`, "*", ".*", "?", ".").Replace(s)
}

// query reads the rest of an attribute term; nil when the word is none.
func (p *parser) query(start int, attr string) (expr, error) {
	rest := p.text[p.at:]
	q := query{column: start + 1}
	q.Attr = attr
	matches := false
	switch {
	case strings.HasPrefix(rest, "=~"):
		matches = true
		p.at += 2
	case strings.HasPrefix(rest, "!~") && strings.ContainsAny(attr, ".*?"): // else: without those that match
		matches, q.Negate = true, true
		p.at += 2
	case strings.HasPrefix(rest, "!="):
		q.Negate = true
		p.at += 2
	case strings.HasPrefix(rest, "=="):
		p.at += 2
	case strings.HasPrefix(rest, "="):
		p.at++
	default:
		return nil, nil
	}
	if p.costly++; p.costly > maxCostly {
		return nil, p.tooCostly(start)
	}
	if attr == "" {
		return nil, fail(start+1, "an attribute is missing", "", "Write attr=value")
	}
	if strings.ContainsAny(attr, "[]+:") {
		return nil, fail(start+1, "no attribute "+attr, "", "Attributes are letters and dots, * and ? for any")
	}
	if matches {
		re, err := p.regexp(p.at-2, false)
		if err != nil {
			return nil, err
		}
		q.Regexp = re
		return p.leaf(q), nil
	}
	if c := p.peek(); c == '"' || c == '\'' {
		end := strings.IndexByte(p.text[p.at+1:], c)
		if end < 0 {
			return nil, fail(p.at+1, "this quote is not closed", "", "Close it with "+string(c))
		}
		q.Value = p.text[p.at+1 : p.at+1+end]
		p.at += end + 2
		return p.leaf(q), nil
	}
	from := p.at
	for p.at < len(p.text) && strings.IndexByte(",@&!^()<>", p.text[p.at]) < 0 {
		p.at++
	}
	q.Value = strings.TrimSpace(p.text[from:p.at])
	return p.leaf(q), nil
}
