package server

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"muster/internal/api"
	"muster/internal/model"
	"muster/internal/model/noderange"
)

// entry is a row of a request, understood: these nodes get these edits.
type entry struct {
	line  int
	names []model.NodeName
	set   []api.Assignment
}

// rowsOf are the rows of a request: those of a file, or the one of the arguments.
func rowsOf(verb string, rg api.Range, set []api.Assignment, rows []api.Row) ([]api.Row, error) {
	switch {
	case len(rows) == 0:
		return []api.Row{{Range: rg.Range, Set: set}}, nil
	case rg.Range != "" || len(set) > 0:
		return nil, &api.Error{Code: api.Usage, What: verb, Why: "nodes or attributes stand beside a file", Do: "Give one of them"}
	}
	return rows, nil
}

// entries reads rows, each by expand. Everything that is wrong with any of them is told.
func (q *request) entries(verb string, rg api.Range, rows []api.Row, expand func(string) ([]model.NodeName, error)) ([]entry, error) {
	var all []entry
	w := &writer{}
	count := 0
	for _, r := range rows {
		w.line = r.Line
		names, err := expand(r.Range)
		if err != nil {
			w.wrong(err)
			continue
		}
		count += len(names)
		all = append(all, entry{r.Line, names, r.Set})
	}
	if len(w.problems) > 0 { // the rest will not be looked at: tell what is wrong with it now
		for _, r := range rows {
			w.line = r.Line
			w.node(&model.Node{}, slices.DeleteFunc(editsOf(r.Set), func(e edit) bool { return !e.secret.Empty() }))
		}
		return nil, atLines(w.err(), nil)
	}
	return all, tooMany(verb, or(rg.Range, "the file"), count, rg.MaxNodes)
}

// tooMany keeps to --max-nodes, where 0 is no limit.
func tooMany(verb, what string, count, most int) error {
	if most == 0 || count <= most {
		return nil
	}
	return &api.Error{
		Code: api.Usage, What: verb, Why: fmt.Sprintf("%s names %d nodes, more than --max-nodes %d", what, count, most),
		Do: "Name fewer, or allow more with --max-nodes",
	}
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// describe commits what the entries make of nodes, all or nothing. With add the nodes are new, else they are there.
func (s *Server) describe(q *request, verb string, rg api.Range, add bool, all []entry) error {
	var names []model.NodeName
	lines := map[model.NodeName]int{} // where a node is described last
	for _, e := range all {
		for _, n := range e.names {
			if _, twice := lines[n]; !twice {
				names = append(names, n)
			}
			lines[n] = e.line
		}
	}
	slices.SortFunc(names, func(a, b model.NodeName) int { return model.Natural(string(a), string(b)) })
	out := api.Changed{Nodes: fold(names), Count: len(names), Skipped: fold(q.skipped), DryRun: rg.DryRun}
	build := func(snap *model.Snapshot) ([]model.Op, string, []model.Event, error) {
		d, err := s.describing(snap, add)
		if err != nil {
			return nil, "", nil, err
		}
		for _, e := range all {
			d.entry(e)
		}
		d.conflict()
		if err := d.w.err(); err != nil {
			return nil, "", nil, err
		}
		ops := append(d.w.sealer.Ops(), d.ops(names)...)
		out.Changes = d.changes(names)
		of := fmt.Sprintf("%s (%d)", out.Nodes, len(names))
		what, step, said := "added "+of, "node.add", "defined"
		switch {
		case !add && len(all) == 1:
			said = assigned(editsOf(all[0].set))
			what, step = "set "+said+" on "+of, "node.set"
		case !add:
			what, step, said = "set "+of+" from a file", "node.set", "from a file"
		}
		return ops, what, perNode(names, step, said, q.who.Name), nil
	}
	rev, err := s.commit(q.Context(), q, verb, rg.DryRun, build)
	if err != nil {
		return atLines(err, lines)
	}
	out.Revision = int64(rev)
	return q.answer(out)
}

// atLines says of the problems of nodes where in the file these stand.
func atLines(err error, lines map[model.NodeName]int) error {
	e := *problem(err)
	more := e.More
	e.More = nil
	all := []*api.Error{}
	for _, p := range append([]*api.Error{&e}, more...) {
		c := *p
		if c.Line == 0 {
			c.Line = lines[model.NodeName(c.Node)]
		}
		all = append(all, &c)
	}
	slices.SortStableFunc(all, func(a, b *api.Error) int {
		switch {
		case a.Line == 0 || b.Line == 0:
			return b.Line - a.Line // what stands nowhere comes last
		}
		return a.Line - b.Line
	})
	return together(all)
}

// description is a change of nodes in the making.
type description struct {
	snap  *model.Snapshot
	w     *writer
	add   bool
	now   time.Time
	docs  map[model.NodeName]*model.Node
	lines map[model.NodeName]int // where a new node was described first
	there []model.NodeName       // to be added, and known already
	edits []edit                 // of the entry at hand: one list for all, or the memory between the documents would be full of holes
}

func (s *Server) describing(snap *model.Snapshot, add bool) (*description, error) {
	w, err := s.writer(snap)
	return &description{snap: snap, w: w, add: add, now: time.Now(), docs: map[model.NodeName]*model.Node{}, lines: map[model.NodeName]int{}}, err
}

// entry makes the edits of one entry.
func (d *description) entry(e entry) {
	d.w.line = e.line
	d.edits = appendEdits(d.edits[:0], e.set)
	set := d.edits
	var pattern *model.Node // what all new nodes of the entry are like
	if d.add && len(e.names) > 1 && !secrets(set) {
		pattern = &model.Node{}
		d.w.node(pattern, set)
	}
	for _, name := range e.names {
		switch old := d.docs[name]; {
		case !d.add && old == nil:
			if old = d.snap.Node(name); old == nil {
				d.w.wrong(&api.Error{Code: api.Conflict, What: "set", Node: string(name), Why: "was removed meanwhile"})
				continue
			}
			c := *old
			d.docs[name] = &c
			d.w.node(&c, set)
		case !d.add:
			d.w.node(old, set)
		case old != nil:
			why := fmt.Sprintf("it stands in line %d already", d.lines[name])
			d.w.wrong(&api.Error{Code: api.Usage, What: "node add", Node: string(name), Why: why, Do: "Leave one of them out"})
		case d.snap.Node(name) != nil:
			d.there, d.lines[name] = append(d.there, name), e.line
		default:
			n := &model.Node{}
			if pattern != nil {
				*n = *pattern
			}
			n.Name, n.Created = name, d.now
			if pattern == nil {
				d.w.node(n, set)
			}
			d.docs[name], d.lines[name] = n, e.line
		}
	}
}

// conflict tells the nodes that are there already, all together.
func (d *description) conflict() {
	if len(d.there) > 0 {
		d.w.line = d.lines[d.there[0]]
		d.w.wrong(&api.Error{
			Code: api.Conflict, What: "node add", Why: "already there: " + fold(d.there),
			Do: "Change them with: muster set " + fold(d.there) + " ATTR=VALUE",
		})
	}
}

// ops puts the nodes, and the groups that they list and that are not there yet.
func (d *description) ops(names []model.NodeName) []model.Op {
	var ops []model.Op
	made := map[model.GroupName]bool{}
	for _, name := range names {
		for _, g := range d.docs[name].Groups {
			if g != model.Everything && !made[g] && d.snap.Group(g) == nil {
				made[g] = true
				ops = append(ops, model.Op{Kind: model.KindGroup, Name: string(g), Doc: &model.Group{Name: g}})
			}
		}
	}
	for _, name := range names {
		ops = append(ops, model.Op{Kind: model.KindNode, Name: string(name), Doc: d.docs[name]})
	}
	return ops
}

// mostChanges is how many lines of differences are told.
const mostChanges = 1000

// changes are the differences, for people; of many the first ones.
func (d *description) changes(names []model.NodeName) []string {
	var out []string
	for _, name := range names {
		old := d.snap.Node(name)
		if old == nil {
			old = &model.Node{}
		}
		if out = append(out, differences(old, d.docs[name])...); len(out) >= mostChanges {
			return out[:mostChanges]
		}
	}
	return out
}

// known expands a noderange of a file. The most usual one, the name of a node, costs nothing.
func (q *request) known(known bool) func(string) ([]model.NodeName, error) {
	return func(expr string) ([]model.NodeName, error) {
		if n := q.snap.Node(model.NodeName(expr)); n != nil {
			return []model.NodeName{n.Name}, nil
		}
		return q.expand(api.Range{Range: expr, Known: known})
	}
}

// fresh expands a noderange whose names need not exist.
func fresh(expr string) ([]model.NodeName, error) {
	if model.CheckName(expr) == nil && !strings.ContainsAny(expr, "-.:") {
		return []model.NodeName{model.NodeName(expr)}, nil
	}
	names, err := noderange.ExpandNames(expr)
	return convert[model.NodeName](names), err
}
