package noderange

import "slices"

// Candidate is one node that a plan is asked about.
type Candidate interface {
	// Name of the node.
	Name() string
	// Has says that a node of this name exists, and Alias which node has this alias: both win over a group.
	Has(name string) bool
	Alias(name string) (node string, ok bool)
	// Aliases are those of the node.
	Aliases() []string
	// HasGroup says that a group of this name exists, and Groups which ones the node is in.
	HasGroup(name string) bool
	Groups() []string
	// Match answers an attribute term.
	Match(q Query) (bool, error)
}

// Match says whether the expression names this one node. It costs what the expression is long, however many nodes
// there are. Names that do not exist are not told: they may come later. Pages have no answer for one node: they are
// refused with an [*Error].
func (p *Plan) Match(c Candidate) (bool, error) { return match(p.root, c) }

// Match answers the term for one value; a term about several values is answered by one that matches.
func (q Query) Match(values ...string) bool {
	for _, v := range values {
		if q.Regexp != nil && q.Regexp.MatchString(v) || q.Regexp == nil && q.Value == v {
			return !q.Negate
		}
	}
	return q.Negate
}

// Key is the same for terms that the same values answer, whatever the attribute.
func (q Query) Key() string {
	sign := "="
	if q.Negate {
		sign = "!="
	}
	if q.Regexp != nil {
		return sign + "~" + q.Regexp.String()
	}
	return sign + q.Value
}

// Set returns the nodes that the expression names, as [Plan.Match] says for each of them: names that do not exist are left
// out. The error, an [*Error], is that of any node that has no answer, or of a page.
func (p *Plan) Set(w World) (*Set, error) {
	e := &evaluation{world: w, names: w.Names(), lenient: true}
	return e.expr(p.root, e.names.all())
}

// Groups are the names that the expression may mean as groups; ranges of groups are not among them.
func (p *Plan) Groups() []string {
	var g []string
	for _, t := range p.terms {
		switch t := t.(type) {
		case group:
			g = append(g, t.name)
		case word:
			g = append(g, t.text)
		}
	}
	return g
}

// Queries are the attribute terms of the expression.
func (p *Plan) Queries() []Query {
	var q []Query
	for _, t := range p.terms {
		if t, ok := t.(query); ok {
			q = append(q, t.Query)
		}
	}
	return q
}

func match(x expr, c Candidate) (bool, error) {
	switch x := x.(type) {
	case list:
		for _, o := range x.without {
			if in, err := match(o, c); in || err != nil {
				return false, err
			}
		}
		for _, o := range x.of {
			if in, err := match(o, c); in || err != nil {
				return in, err
			}
		}
		return false, nil
	case chain:
		in, err := match(x.first, c)
		for i := 0; err == nil && i < len(x.rest); i++ {
			l := x.rest[i]
			if l.op == '@' && !in {
				continue
			}
			var o bool
			o, err = match(l.x, c)
			if l.op == '^' {
				in = in != o
			} else {
				in = o
			}
		}
		return in, err
	case page:
		return false, pageOfOne()
	case word:
		return matchWord(x, c), nil
	case group:
		if hasGroup(x.name, c) {
			return inGroup(x.name, c), nil
		}
		return means(x.name, c) == c.Name(), nil
	case pick:
		return x.re.MatchString(c.Name()), nil
	case query:
		in, err := c.Match(x.Query)
		if err != nil {
			return false, wrongQuery(x, err)
		}
		return in, nil
	}
	panic("noderange: no such expression")
}

// means is the node that a name or alias stands for; "" when it stands for none.
func means(name string, c Candidate) string {
	if name == c.Name() || c.Has(name) {
		return name
	}
	node, _ := c.Alias(name)
	return node
}

func pageOfOne() *Error {
	return fail(0, "a page (> and <) does not say of one node whether it is meant", "", "Leave it out")
}

func matchWord(w word, c Candidate) bool {
	if n := means(w.text, c); n != "" {
		return n == c.Name()
	}
	if hasGroup(w.text, c) {
		return inGroup(w.text, c)
	}
	if w.ranges == nil {
		return false
	}
	if w.ranges.matches(c.Name()) {
		return true
	}
	for _, a := range c.Aliases() {
		if w.ranges.matches(a) && means(a, c) == c.Name() {
			return true
		}
	}
	for _, g := range c.Groups() {
		if w.ranges.matches(g) && means(g, c) == "" && c.HasGroup(g) {
			return true
		}
	}
	return false
}

func hasGroup(name string, c Candidate) bool {
	return name == "all" || name == "everything" || c.HasGroup(name)
}

func inGroup(name string, c Candidate) bool {
	return name == "all" || name == "everything" || slices.Contains(c.Groups(), name)
}
