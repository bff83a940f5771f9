package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"muster/internal/api"
	"muster/internal/bmc"
	"muster/internal/model"
	"muster/internal/model/noderange"
)

// Power is switched in an order: a node after those that its power.after names. Nodes with the same text there share one stage, which opens when all
// that it waits for are there; so the graph has as many edges as there are nodes, not as many as pairs.

// attrAfter is the attribute that makes the order.
const attrAfter = "power.after"

// stage is what nodes wait at.
type stage struct {
	nodes   []model.NodeName // that have to be on, or off
	changed time.Time        // when the last of them changed by this request; zero: none did
	err     *api.Error       // it stays shut
	open    chan struct{}    // closed when it is open, or stays shut
}

// turns is the order of one request.
type turns struct {
	want   bmc.PowerState
	stages map[model.NodeName][]*stage
	asked  map[model.NodeName]*turn
}

// turn is one node of the request.
type turn struct {
	number  int // 1 for the first
	awaited bool
	done    chan struct{}
	changed time.Time // when it came to be as it has to; zero: it was so before
	err     *api.Error
	delay   time.Duration
}

// afters are the stages of power.after, by its text.
type afters struct {
	snap *model.Snapshot
	seen map[string]*stage
}

// of returns the stage that a node's power.after names, nil where it is not set.
func (a *afters) of(n *model.Node) (*stage, error) {
	text, err := a.snap.Attr(n, attrAfter)
	if err != nil || text == "" {
		return nil, err
	}
	g := a.seen[text]
	if g == nil {
		names, err := a.snap.Expand(text, noderange.Options{})
		if err != nil {
			e := *problem(err)
			e.What, e.Node = attrAfter+" "+text+": "+e.What, string(n.Name)
			return nil, &e
		}
		g = &stage{nodes: names, open: make(chan struct{})}
		a.seen[text] = g
	}
	return g, nil
}

// order says who waits for whom when nodes are switched on or off. Nodes that are not asked for are waited at, too: as they are.
func (s *Server) order(snap *model.Snapshot, nodes []*model.Node, want bmc.PowerState) (*turns, error) {
	t := &turns{want: want, stages: map[model.NodeName][]*stage{}, asked: make(map[model.NodeName]*turn, len(nodes))}
	for _, n := range nodes {
		t.asked[n.Name] = &turn{done: make(chan struct{})}
	}
	a := &afters{snap, map[string]*stage{}}
	if want == bmc.PowerOn {
		for _, n := range nodes {
			g, err := a.of(n)
			if err != nil {
				return nil, err
			}
			if g == nil {
				continue
			}
			t.stages[n.Name] = []*stage{g}
			delay, err := snap.Attr(n, "power.delay")
			if err != nil {
				return nil, err
			}
			t.asked[n.Name].delay, _ = time.ParseDuration(delay)
		}
	} else {
		users := map[*stage]*stage{} // who waits for it to be on, so that it waits for them to be off
		for n := range snap.Nodes() {
			g, err := a.of(n)
			if err != nil {
				return nil, err
			}
			if g == nil {
				continue
			}
			u := users[g]
			if u == nil {
				u = &stage{open: make(chan struct{})}
				users[g] = u
				for _, m := range g.nodes {
					if t.asked[m] != nil {
						t.stages[m] = append(t.stages[m], u)
					}
				}
			}
			u.nodes = append(u.nodes, n.Name)
		}
	}
	v := visitor{
		next: func(m model.NodeName) []*stage { return t.stages[m] },
		skip: func(m model.NodeName) bool { return t.asked[m] == nil },
	}
	for _, n := range nodes {
		if path := v.visit(n.Name); path != nil {
			return nil, cycle(path)
		}
		t.asked[n.Name].number = v.depth[n.Name]
	}
	for g := range v.stages {
		for _, m := range g.nodes {
			if w := t.asked[m]; w != nil {
				w.awaited = true
			}
		}
	}
	return t, nil
}

// ordered are the nodes as it is their turn: a node never stands before one that it waits for.
func (t *turns) ordered(nodes []*model.Node) []*model.Node {
	out := slices.Clone(nodes)
	slices.SortStableFunc(out, func(a, b *model.Node) int { return t.asked[a.Name].number - t.asked[b.Name].number })
	return out
}

// after are the nodes that a node waits for.
func (t *turns) after(n model.NodeName) []model.NodeName {
	all := map[model.NodeName]bool{}
	for _, g := range t.stages[n] {
		for _, m := range g.nodes {
			all[m] = true
		}
	}
	return slices.SortedFunc(maps.Keys(all), func(a, b model.NodeName) int { return model.Natural(string(a), string(b)) })
}

// run opens the stages as nodes come to be on or off. It returns when all are open or shut, or ctx ends.
func (t *turns) run(ctx context.Context, s *Server, snap *model.Snapshot) {
	var all sync.WaitGroup
	started := map[*stage]bool{}
	for _, gs := range t.stages {
		for _, g := range gs {
			if started[g] {
				continue
			}
			started[g] = true
			all.Go(func() {
				defer close(g.open)
				g.err = t.await(ctx, s, snap, g)
			})
		}
	}
	all.Wait()
}

// await waits until all that a stage waits for are as they have to be; the error says which is not.
func (t *turns) await(ctx context.Context, s *Server, snap *model.Snapshot, g *stage) *api.Error {
	bad := func(m model.NodeName, why string) *api.Error {
		verb := "is switched on only after"
		if t.want == bmc.PowerOff {
			verb = "is switched off only after"
		}
		return &api.Error{Code: api.Failed, Why: fmt.Sprintf("it %s %s (%s), and that %s", verb, m, attrAfter, why), Do: "Name it too, or leave the order out of account: --no-order"}
	}
	var outside []model.NodeName
	for _, m := range g.nodes {
		w := t.asked[m]
		if w == nil {
			outside = append(outside, m)
			continue
		}
		select {
		case <-w.done:
		case <-ctx.Done():
			return &api.Error{Code: api.Failed, Why: "it was not its turn before the request ended"}
		}
		if w.err != nil {
			e := bad(m, "did not come "+string(t.want)+": "+w.err.Why)
			e.Do = "Mend that first, or leave the order out of account: --no-order"
			return e
		}
		if w.changed.After(g.changed) {
			g.changed = w.changed
		}
	}
	found := make([]*api.Error, len(outside))
	slots := make(chan struct{}, powerFanout)
	var all sync.WaitGroup
	for i, m := range outside {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			now, err := s.powerOf(ctx, snap, m)
			var none noBMC
			switch {
			case errors.As(err, &none), isUnsupported(err): // nobody can tell
			case err != nil:
				found[i] = bad(m, "does not say whether it is "+string(t.want)+": "+bmcProblem(m, "", err).Why)
			case now != t.want:
				found[i] = bad(m, "is "+string(now))
			}
		})
	}
	all.Wait()
	for _, e := range found {
		if e != nil {
			return e
		}
	}
	return nil
}

// powerOf asks a node's BMC for the power.
func (s *Server) powerOf(ctx context.Context, snap *model.Snapshot, n model.NodeName) (bmc.PowerState, error) {
	ctx, cancel := context.WithTimeout(ctx, powerTime)
	defer cancel()
	d, err := s.driver(snap, snap.Node(n))
	if err != nil {
		return "", err
	}
	defer d.Close()
	return d.Power(ctx)
}

// wait waits until it is the node's turn. Of nodes that were as they have to be before the request there is no delay.
func (t *turns) wait(ctx context.Context, n model.NodeName) error {
	var last time.Time
	for _, g := range t.stages[n] {
		select {
		case <-g.open:
		case <-ctx.Done():
			return ctx.Err()
		}
		if g.err != nil {
			e := *g.err
			e.Node, e.What = string(n), "power "+string(t.want)
			return &e
		}
		if g.changed.After(last) {
			last = g.changed
		}
	}
	if d := t.asked[n].delay; d > 0 && !last.IsZero() {
		return pause(ctx, time.Until(last.Add(d)))
	}
	return nil
}

// finish lets those go on that wait for the node.
func (t *turns) finish(n model.NodeName, out *api.PowerResult, err *api.Error) {
	me := t.asked[n]
	if me.err = err; err == nil && out.Was != string(t.want) {
		me.changed = time.Now()
	}
	close(me.done)
}

// visitor walks along who waits for whom, and finds how deep each stands.
type visitor struct {
	next  func(model.NodeName) []*stage
	skip  func(model.NodeName) bool // nil: nobody
	depth map[model.NodeName]int    // 1 for who waits for nobody
	// stages are those that were walked, with the depth of the deepest node in each.
	stages map[*stage]int
	path   []model.NodeName
	on     map[model.NodeName]bool
}

// visit returns the nodes of a cycle, nil when there is none.
func (v *visitor) visit(n model.NodeName) []model.NodeName {
	if v.depth == nil {
		v.depth, v.stages, v.on = map[model.NodeName]int{}, map[*stage]int{}, map[model.NodeName]bool{}
	}
	if v.depth[n] > 0 {
		return nil
	}
	if v.on[n] {
		return append(slices.Clone(v.path[slices.Index(v.path, n):]), n)
	}
	v.on[n], v.path = true, append(v.path, n)
	deepest := 0
	for _, g := range v.next(n) {
		depth, walked := v.stages[g]
		if !walked {
			for _, m := range g.nodes {
				if v.skip != nil && v.skip(m) {
					continue
				}
				if c := v.visit(m); c != nil {
					return c
				}
				depth = max(depth, v.depth[m])
			}
			v.stages[g] = depth
		}
		deepest = max(deepest, depth)
	}
	v.path, v.on[n] = v.path[:len(v.path)-1], false
	v.depth[n] = deepest + 1
	return nil
}

// cycle refuses an order in which nodes wait for themselves.
func cycle(path []model.NodeName) error {
	const most = 8
	steps := convert[string](path)
	if len(steps) > most {
		steps = append(append(slices.Clone(steps[:most-1]), "…"), steps[len(steps)-1])
	}
	return &api.Error{
		Code: api.Usage, What: attrAfter, Why: "nodes would wait for themselves: " + strings.Join(steps, " after "),
		Do: "Leave one of them out: " + attrAfter + "= takes away what a node or group inherits",
	}
}

// checkOrder refuses a change after which nodes would wait for themselves, or for names that there are not. What a change does only by who
// is in a group is found when a group says power.after; else when power is switched.
func checkOrder(snap *model.Snapshot, ops []model.Op) error {
	if !touchesOrder(snap, ops) {
		return nil
	}
	next, err := model.Apply(snap, &model.Change{Revision: snap.Revision + 1, Ops: ops})
	if err != nil {
		return err
	}
	a := &afters{next, map[string]*stage{}}
	var wrong error
	v := visitor{next: func(m model.NodeName) []*stage {
		g, err := a.of(next.Node(m))
		if err != nil && wrong == nil {
			wrong = err
		}
		if g == nil {
			return nil
		}
		return []*stage{g}
	}}
	for n := range next.Nodes() {
		if path := v.visit(n.Name); path != nil {
			return cycle(path)
		}
		if wrong != nil {
			return wrong
		}
	}
	return nil
}

func touchesOrder(snap *model.Snapshot, ops []model.Op) bool {
	moves := false // somebody comes into a group
	for _, op := range ops {
		switch d := op.Doc.(type) {
		case *model.Node:
			if d == nil {
				continue
			}
			old := snap.Node(d.Name)
			if v := d.Attrs[attrAfter]; v != "" && (old == nil || old.Attrs[attrAfter] != v) {
				return true
			}
			moves = moves || old == nil || !slices.Equal(old.Groups, d.Groups)
		case *model.Group:
			if d == nil {
				continue
			}
			old := snap.Group(d.Name)
			if v := d.Attrs[attrAfter]; v != "" && (old == nil || old.Attrs[attrAfter] != v) {
				return true
			}
			moves = moves || old != nil && old.Range != d.Range || old == nil && d.Range != ""
		}
	}
	if !moves {
		return false
	}
	for g := range snap.Groups() {
		if g.Attrs[attrAfter] != "" {
			return true
		}
	}
	return false
}
