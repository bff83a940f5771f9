package noderange

// Candidate is one node that a plan is asked about.
type Candidate interface {
	// Name of the node.
	Name() string
	// Exists says that a node of this name exists: it wins over a group of the same name.
	Exists(name string) bool
	// Groups are the groups the node is in.
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
		return false, fail(0, "a page (> and <) does not say of one node whether it is meant", "", "Leave it out")
	case word:
		return matchWord(x, c), nil
	case group:
		return inGroup(x.name, c), nil
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

func matchWord(w word, c Candidate) bool {
	if w.text == c.Name() {
		return true
	}
	if c.Exists(w.text) {
		return false
	}
	if inGroup(w.text, c) {
		return true
	}
	if w.ranges == nil {
		return false
	}
	if w.ranges.matches(c.Name()) {
		return true
	}
	for _, g := range c.Groups() {
		if w.ranges.matches(g) && !c.Exists(g) {
			return true
		}
	}
	return false
}

func inGroup(name string, c Candidate) bool {
	if name == "all" || name == "everything" {
		return true
	}
	for _, g := range c.Groups() {
		if g == name {
			return true
		}
	}
	return false
}
