package model

import (
	"maps"
	"math"
	"path"
	"slices"
	"strings"
	"sync"

	"muster/internal/model/noderange"
)

// Noderanges ask about all nodes at once: who is in a group, who has a value. The answers are views: the value of an
// attribute for every place of Names, the members of a group as bits. A view is made when first asked for and kept in the
// archive, which a line of snapshots shares. Another snapshot takes it over: each snapshot knows the last steps that led to
// it, so the nodes that changed between the two are known, in either direction, and only their rows are worked out again.
// A step that may have moved any row makes the view void.

// step is what one change may have done to views.
type step struct {
	nodes  []NodeName         // whose documents changed
	attrs  map[AttrName]bool  // that changed in a group
	groups map[GroupName]bool // whose ranges changed
	linked bool               // an expression or a range may use what changed
	all    bool               // nothing is sure
}

// history is the last steps that led to a snapshot, oldest first. A step is known by its pointer.
type history []*step

// maxSteps is how far apart two snapshots may be for one to take over the views of the other.
const maxSteps = 256

func (h history) and(s *step) history {
	return append(slices.Clip(slices.Clone(h[max(0, len(h)-maxSteps+1):])), s)
}

// between returns the steps that lead from one history to the other, in either direction; false when that is not known.
func between(a, b history) ([]*step, bool) {
	for i := len(a) - 1; i >= 0; i-- {
		if j := slices.Index(b, a[i]); j >= 0 {
			return append(slices.Clone(a[i+1:]), b[j+1:]...), true
		}
	}
	return nil, false
}

// view is a column or a roll. It is immutable.
type view interface {
	// void says that the step may have moved any row.
	void(*step) bool
	// moved returns the view of another snapshot in which only these nodes differ; nil when it is easier made anew.
	moved(s *Snapshot, from *noderange.Names, nodes []NodeName) view
	bytes() int
}

// subject is what a view is about: an attribute, or a group. Static views leave dynamic groups out: ranges of groups ask for them.
type subject struct {
	attr   string
	group  GroupName
	static bool
}

// archive keeps views. It holds at most maxArchive bytes: those not asked for longest go first.
type archive struct {
	mu    sync.Mutex
	slots map[subject]*slot
	size  int
	clock int
}

const maxArchive = 64 << 20

// slot is one view of the archive. Its lock is held while the view is made: who asks for the same waits.
type slot struct {
	mu       sync.Mutex
	view     view
	names    *noderange.Names
	history  history
	revision Revision

	size, used int // under the archive's lock
}

// slot finds or makes the place of a view.
func (a *archive) slot(of subject) *slot {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.slots == nil {
		a.slots = map[subject]*slot{}
	}
	x := a.slots[of]
	if x == nil {
		x = &slot{}
		a.slots[of] = x
	}
	a.clock++
	x.used = a.clock
	return x
}

// weigh notes the size of a view, and throws out others when there is too much.
func (a *archive) weigh(of subject, x *slot, size int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.slots[of] != x { // thrown out meanwhile
		return
	}
	a.size += size - x.size
	x.size = size
	for a.size > maxArchive && len(a.slots) > 1 {
		var oldest subject
		least := math.MaxInt
		for k, y := range a.slots {
			if y != x && y.used < least {
				oldest, least = k, y.used
			}
		}
		a.size -= a.slots[oldest].size
		delete(a.slots, oldest)
	}
}

// view returns the view of this snapshot, from the archive when that has it or one that is near.
func (s *Snapshot) view(of subject, build func() view) view {
	x := s.archive.slot(of)
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.view != nil && x.history[len(x.history)-1] == s.history[len(s.history)-1] {
		return x.view
	}
	v := s.taken(x)
	if v == nil {
		v = build()
	}
	if x.view == nil || s.Revision >= x.revision {
		x.view, x.names, x.history, x.revision = v, s.Names(), s.history, s.Revision
		s.archive.weigh(of, x, v.bytes())
	}
	return v
}

// taken makes the view of this snapshot out of that of another one; nil when that cannot be.
func (s *Snapshot) taken(x *slot) view {
	if x.view == nil {
		return nil
	}
	steps, ok := between(x.history, s.history)
	if !ok {
		return nil
	}
	var nodes []NodeName
	for _, st := range steps {
		if st.all || x.view.void(st) {
			return nil
		}
		nodes = append(nodes, st.nodes...)
	}
	if len(nodes) > 64+s.Len()/4 {
		return nil
	}
	if len(nodes) == 0 {
		return x.view
	}
	return x.view.moved(s, x.names, nodes)
}

// places says for each place of the names where it was in the older ones, -1 when it was not.
func places(from, to *noderange.Names) []int {
	out := make([]int, to.Len())
	i := 0
	for j := range out {
		name := to.Name(j)
		for i < from.Len() && from.Name(i) != name && Natural(from.Name(i), name) < 0 {
			i++
		}
		out[j] = -1
		if i < from.Len() && from.Name(i) == name {
			out[j] = i
			i++
		}
	}
	return out
}

// roll is the members of a group.
type roll struct {
	group  GroupName
	static bool
	ranged bool // dynamic
	set    *noderange.Set
}

// roll returns the members of a group; the set is not to be changed.
func (s *Snapshot) roll(g *grouping, static bool) *noderange.Set {
	return s.view(subject{group: g.Name, static: static}, func() view { return s.newRoll(g, static) }).(*roll).set
}

func (s *Snapshot) newRoll(g *grouping, static bool) *roll {
	names := s.Names()
	r := &roll{group: g.Name, static: static, ranged: g.plan != nil && !static, set: noderange.NewSet(names.Len())}
	if r.ranged {
		if set, err := g.plan.Set(still{s}); err == nil {
			r.set.Or(set)
		} else { // of some nodes it has no answer
			id := 0
			for n := range s.Nodes() {
				if s.inRange(g, n) {
					r.set.Add(id)
				}
				id++
			}
		}
	}
	for n := range s.listing(g.Name) {
		if id, ok := names.Find(string(n)); ok {
			r.set.Add(id)
		}
	}
	return r
}

func (r *roll) void(st *step) bool {
	return !r.static && (st.groups[r.group] || r.ranged && st.linked)
}

func (r *roll) moved(s *Snapshot, from *noderange.Names, nodes []NodeName) view {
	g := s.byGroup[r.group]
	if g == nil {
		return nil
	}
	names, c := s.Names(), *r
	if from == names {
		c.set = r.set.Clone()
	} else {
		c.set = noderange.NewSet(names.Len())
		for id, was := range places(from, names) {
			if was >= 0 && r.set.Has(was) {
				c.set.Add(id)
			}
		}
	}
	for _, name := range nodes {
		id, ok := names.Find(string(name))
		if !ok {
			continue
		}
		if n := s.Node(name); slices.Contains(n.Groups, r.group) || r.ranged && s.inRange(g, n) {
			c.set.Add(id)
		} else {
			c.set.Remove(id)
		}
	}
	return &c
}

func (r *roll) bytes() int { return r.set.Size()/8 + 128 }

// column is the value of an attribute, or the values of all that a glob matches, for every node.
type column struct {
	attr    string
	static  bool
	derived bool // some values are worked out, or come from dynamic groups
	rows    []uint32
	values  *lexicon
	more    []string      // values besides those, which came since; not many
	wrong   map[int]error // by place: values that cannot be worked out
}

// lexicon is the values of a column, each once. What a regular expression says of them is remembered.
type lexicon struct {
	values []string
	ids    map[string]uint32
	size   int

	mu      sync.Mutex
	matches map[string]*noderange.Set
}

// apartValues stands between the values of a row of several attributes; no value holds it.
const apartValues = "\x00"

// column returns the values of an attribute or glob.
func (s *Snapshot) column(attr string, doc *Attr, static bool) *column {
	return s.view(subject{attr: attr, static: static}, func() view { return s.newColumn(attr, doc, static) }).(*column)
}

func (s *Snapshot) newColumn(attr string, doc *Attr, static bool) *column {
	c := &column{attr: attr, static: static, derived: doc == nil, rows: make([]uint32, s.Len()), values: &lexicon{ids: map[string]uint32{}}}
	f := &filling{s: s, column: c, attr: AttrName(attr), doc: doc, written: map[origin]uint32{}}
	f.begin()
	id := 0
	for n := range s.Nodes() {
		if id == 1000 && len(c.values.values) > id/2 { // mostly different: room for all
			ids := make(map[string]uint32, s.Len())
			maps.Copy(ids, c.values.ids)
			c.values.ids = ids
		}
		f.row(id, n)
		id++
	}
	return c
}

func (l *lexicon) id(v string) uint32 {
	id, ok := l.ids[v]
	if !ok {
		id = uint32(len(l.values))
		l.ids[v] = id
		l.values = append(l.values, v)
		l.size += len(v) + 64
	}
	return id
}

// filling fills a column. What groups give is found once for nodes of the same groups, and brought into its form once.
type filling struct {
	*column
	s    *Snapshot
	attr AttrName
	doc  *Attr
	glob globber

	nodes   evaluator // of the node that is asked now
	plain   bool      // the value is the first one on the line of inheritance
	dynamic []giver
	groups  []GroupName // those for which inherited was found
	found   bool
	// inherited is what static groups, Everything or the default give.
	inherited origin
	last      origin
	lastID    uint32
	written   map[origin]uint32 // values by how they are written
}

// giver is a dynamic group that gives the attribute.
type giver struct {
	origin
	set *noderange.Set
}

func (f *filling) begin() {
	if f.doc == nil {
		f.glob = globber{glob: f.column.attr}
		return
	}
	// A list may gather from several groups, and what a network gives depends on the port: these are asked node by node.
	f.plain = f.doc.Type != List && (isPort(f.attr) || !strings.HasPrefix(f.column.attr, "net."))
	f.derived, f.lastID = !f.plain, math.MaxUint32
	for _, g := range f.s.byGroup {
		f.derived = f.derived || hasExpression(g.Attrs[f.attr])
	}
	if f.static || !f.doc.Inherits {
		return
	}
	for _, g := range f.s.dynamic {
		if v, ok := g.Attrs[f.attr]; ok && g.Name != Everything {
			f.derived = true
			if f.plain {
				f.dynamic = append(f.dynamic, giver{origin{'g', string(g.Name), v}, f.s.roll(g, false)})
			}
		}
	}
}

func (f *filling) row(id int, n *Node) {
	if !f.plain {
		v, err := f.value(f.of(n))
		f.set(id, v, err)
		return
	}
	o := f.origin(id, n)
	if o == f.last && f.lastID != math.MaxUint32 {
		f.rows[id] = f.lastID
		return
	}
	f.last, f.lastID = o, math.MaxUint32
	if !f.doc.asWritten(o) && hasExpression(o.written) {
		f.derived = true
		v, err := f.of(n).evaluated(f.attr, f.doc, o)
		f.set(id, v, err)
		return
	}
	k, ok := f.written[o]
	if !ok {
		v, err := o.written, error(nil)
		if !f.doc.asWritten(o) {
			v, err = f.doc.canonical(f.attr, o)
		}
		if err != nil {
			f.set(id, "", err)
			return
		}
		k = f.values.id(v)
		f.written[o] = k
	}
	f.rows[id], f.lastID = k, k
}

// of is the evaluator of a node; it is the same each time.
func (f *filling) of(n *Node) *evaluator {
	f.nodes.s, f.nodes.n, f.nodes.static = f.s, n, f.static
	return &f.nodes
}

func (f *filling) value(e *evaluator) (string, error) {
	if f.doc != nil {
		return e.attr(f.attr)
	}
	v, err := f.glob.values(e)
	return strings.Join(v, apartValues), err
}

func (f *filling) set(id int, v string, err error) {
	if err != nil {
		if f.wrong == nil {
			f.wrong = map[int]error{}
		}
		f.wrong[id] = err
	}
	f.rows[id] = f.values.id(v)
}

func (f *filling) origin(id int, n *Node) origin {
	if v, ok := n.Attrs[f.attr]; ok {
		return origin{kind: 'n', written: v}
	}
	if !f.found || !slices.Equal(f.groups, n.Groups) {
		f.found, f.groups = true, n.Groups
		f.inherited = f.s.find(&Node{Name: n.Name, Groups: n.Groups}, f.attr, f.doc, true)
	}
	if f.inherited.kind == 'g' && f.inherited.name != string(Everything) {
		return f.inherited
	}
	for _, g := range f.dynamic {
		if g.set.Has(id) {
			return g.origin
		}
	}
	return f.inherited
}

func (c *column) void(st *step) bool {
	if c.derived && st.linked {
		return true
	}
	if !isGlob(c.attr) {
		a := AttrName(c.attr)
		doc, _ := Lookup(a)
		return st.attrs[a] || doc.common != nil && st.attrs[refOf(a)]
	}
	for a := range st.attrs {
		if ok, err := path.Match(c.attr, string(a)); ok && err == nil || isRef(a) { // a network gives others
			return true
		}
	}
	return false
}

func (c *column) moved(s *Snapshot, from *noderange.Names, nodes []NodeName) view {
	const most = 1000 // further values
	names, to := s.Names(), *c
	to.wrong = nil
	set := func(id int, v string, err error) bool {
		if err != nil {
			if to.wrong == nil {
				to.wrong = map[int]error{}
			}
			to.wrong[id] = err
		}
		k, ok := to.find(v)
		if !ok {
			k = uint32(len(to.values.values) + len(to.more))
			to.more = append(slices.Clip(to.more), v)
		}
		to.rows[id] = k
		return len(to.more) <= most
	}
	if from == names {
		to.rows = slices.Clone(c.rows)
		for id, err := range c.wrong {
			set(id, "", err)
		}
	} else {
		to.rows = make([]uint32, names.Len())
		for id, was := range places(from, names) {
			if was >= 0 {
				to.rows[id] = c.rows[was]
				if err := c.wrong[was]; err != nil {
					set(id, "", err)
				}
			}
		}
	}
	var doc *Attr
	if !isGlob(c.attr) {
		doc, _ = Lookup(AttrName(c.attr))
	}
	f := filling{column: &to, s: s, attr: AttrName(c.attr), doc: doc, glob: globber{glob: c.attr}}
	for _, name := range nodes {
		id, ok := names.Find(string(name))
		if !ok {
			continue
		}
		n := s.Node(name)
		delete(to.wrong, id)
		to.derived = to.derived || hasExpression(n.Attrs[f.attr])
		v, err := f.value(f.of(n))
		if !set(id, v, err) {
			return nil
		}
	}
	return &to
}

func (c *column) find(v string) (uint32, bool) {
	if id, ok := c.values.ids[v]; ok {
		return id, true
	}
	i := slices.Index(c.more, v)
	return uint32(len(c.values.values) + i), i >= 0
}

func (c *column) bytes() int { return 4*len(c.rows) + c.values.size + 16*len(c.more) + 256 }

// answer finds the nodes whose values answer the term. A value that cannot be worked out is the error of a node of within.
func (c *column) answer(q noderange.Query, within *noderange.Set) (*noderange.Set, error) {
	first := math.MaxInt
	for id := range c.wrong {
		if id < first && within.Has(id) {
			first = id
		}
	}
	if err := c.wrong[first]; err != nil {
		return nil, err
	}
	set := noderange.NewSet(len(c.rows))
	if q.Regexp == nil && !isGlob(c.attr) {
		if want, ok := c.find(q.Value); ok {
			for id, k := range c.rows {
				if k == want {
					set.Add(id)
				}
			}
		}
	} else {
		positive := q
		positive.Negate = false
		hits := c.hits(positive)
		for id, k := range c.rows {
			if hits.Has(int(k)) {
				set.Add(id)
			}
		}
	}
	if q.Negate {
		set.Not()
	}
	return set, nil
}

// hits says which of the values match.
func (c *column) hits(q noderange.Query) *noderange.Set {
	const most = 32 // expressions
	test := func(set *noderange.Set, from int, values []string) {
		for i, v := range values {
			var in bool
			if isGlob(c.attr) {
				in = q.Match(strings.Split(v, apartValues)...)
			} else {
				in = q.Match(v)
			}
			if in {
				set.Add(from + i)
			}
		}
	}
	l := c.values
	l.mu.Lock()
	known := l.matches[q.Key()]
	if known == nil {
		known = noderange.NewSet(len(l.values))
		test(known, 0, l.values)
		if l.matches == nil || len(l.matches) >= most {
			l.matches = map[string]*noderange.Set{}
		}
		l.matches[q.Key()] = known
	}
	l.mu.Unlock()
	if len(c.more) == 0 {
		return known
	}
	set := noderange.NewSet(len(l.values) + len(c.more))
	set.Or(known)
	test(set, len(l.values), c.more)
	return set
}

// globber finds the values of a glob. It remembers which names match.
type globber struct {
	glob     string
	matches  map[AttrName]bool
	defaults []AttrName
}

func (g *globber) match(a AttrName) bool {
	in, ok := g.matches[a]
	if !ok {
		m, err := path.Match(g.glob, string(a))
		in = m && err == nil && !isSecret(a)
		g.matches[a] = in
	}
	return in
}

// values returns those of all matching attributes of a node, sorted; "" when it has none.
func (g *globber) values(e *evaluator) ([]string, error) {
	if g.matches == nil {
		g.matches = map[AttrName]bool{}
		for i := range known.all {
			if a := &known.all[i]; a.Default != "" && g.match(a.Name) {
				g.defaults = append(g.defaults, a.Name)
			}
		}
	}
	attrs := slices.Clone(g.defaults)
	set := func(a AttrName) {
		if g.match(a) {
			attrs = append(attrs, a)
		}
		if isRef(a) {
			for _, common := range e.networked(a) {
				if g.match(common) {
					attrs = append(attrs, common)
				}
			}
		}
	}
	for a := range e.n.Attrs {
		set(a)
	}
	for _, name := range e.s.groupsOf(e.n, e.static) {
		if x := e.s.byGroup[name]; x != nil {
			for a := range x.Attrs {
				if doc, ok := Lookup(a); ok && doc.Inherits {
					set(a)
				}
			}
		}
	}
	slices.Sort(attrs)
	attrs = slices.Compact(attrs)
	values := make([]string, 0, max(1, len(attrs)))
	for _, a := range attrs {
		v, err := e.attr(a)
		if err != nil {
			return nil, err
		}
		values = append(values, v)
	}
	if len(values) == 0 {
		values = append(values, "")
	}
	slices.Sort(values)
	return slices.Compact(values), nil
}
