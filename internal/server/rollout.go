package server

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"muster/internal/api"
	"muster/internal/model"
)

// A rollout is a document, and its waves are begun by the manager that keeps it, as if its name were a node's: the client that asked for it may go, and the manager may.

const (
	rolloutSchema = 3  // of the store, that has rollouts and claims
	stopAt        = 10 // percent of failures, unless the request says otherwise
	keptRollouts  = 50 // that have ended
)

// rollOut begins a rollout; its keeper begins the first wave.
func (s *Server) rollOut(q *request, in api.Deploy, nodes []*model.Node) error {
	r := &model.Rollout{
		Image: model.ImageName(in.Image), Nodes: namesOf(nodes), Canary: in.Canary, Batch: in.Batch, StopAt: in.StopAt, Boots: in.Boots, Disk: in.Disk, Layout: in.Layout,
		Actor: q.who.Name,
	}
	if r.StopAt == 0 {
		r.StopAt = stopAt
	}
	_, err := s.commit(q.Context(), q, "deploy", in.DryRun, func(snap *model.Snapshot) ([]model.Op, string, []model.Event, error) {
		if err := idle(snap, "deploy", r.Nodes); err != nil {
			return nil, "", nil, err
		}
		if err := q.may(snap, "deploy", r.Nodes); err != nil {
			return nil, "", nil, err
		}
		if err := unlocked(snap, "deploy", q.id, r.Nodes); err != nil {
			return nil, "", nil, err
		}
		doc := *r
		doc.Begun = time.Now()
		r.Begun = doc.Begun
		ops := forgetRollouts(snap)
		for i := 1; ; i++ {
			if doc.Name = in.Image + "-" + strconv.Itoa(i); snap.Rollout(doc.Name) == nil {
				break
			}
		}
		r.Name = doc.Name
		what := fmt.Sprintf("rollout %s of image %s on %s (%d) in %d waves", doc.Name, in.Image, fold(doc.Nodes), len(doc.Nodes), doc.Waves())
		return append(ops, model.Op{Kind: model.KindRollout, Name: doc.Name, Doc: &doc}), what, []model.Event{event("rollout.begun", what)}, nil
	})
	if err != nil {
		return err
	}
	place := make(map[model.NodeName]int, len(r.Nodes))
	for i, n := range r.Nodes {
		place[n] = i
	}
	return each(q, in.Range, nodes, powerFanout, 0, func(_ context.Context, n *model.Node) (api.DeployResult, *api.Error) {
		return api.DeployResult{
			Result: api.Result{Node: string(n.Name)}, Image: in.Image, Phase: "waiting", Begun: r.Begun, Rollout: r.Name, Wave: r.WaveOf(place[n.Name]),
		}, nil
	})
}

// forgetRollouts removes the oldest of those that have ended.
func forgetRollouts(snap *model.Snapshot) []model.Op {
	var ended []*model.Rollout
	for r := range snap.Rollouts() {
		if !r.Ended.IsZero() {
			ended = append(ended, r)
		}
	}
	if len(ended) < keptRollouts {
		return nil
	}
	slices.SortFunc(ended, func(a, b *model.Rollout) int { return a.Ended.Compare(b.Ended) })
	var ops []model.Op
	for _, r := range ended[:len(ended)-keptRollouts+1] {
		ops = append(ops, model.Op{Kind: model.KindRollout, Name: r.Name})
	}
	return ops
}

// left is what nodes leave behind that go out of their rollouts.
type left struct {
	ops   []model.Op
	nodes []model.NodeName
}

// leave takes nodes whose waves have not begun out of their rollouts; one of which nobody is left has ended.
func leave(snap *model.Snapshot, asked map[model.NodeName]bool, actor string, now time.Time) left {
	var out left
	for r := range snap.Rollouts() {
		var stay []model.NodeName
		for _, n := range r.Waiting() {
			if asked[n] {
				out.nodes = append(out.nodes, n)
			} else {
				stay = append(stay, n)
			}
		}
		if len(stay) == len(r.Waiting()) {
			continue
		}
		next := *r
		next.Nodes = slices.Concat(r.Nodes[:r.Started], stay)
		if len(stay) == 0 {
			next.Ended, next.Code, next.Reason = now, model.ByPerson, "the rest was cancelled by "+actor
		}
		out.ops = append(out.ops, model.Op{Kind: model.KindRollout, Name: r.Name, Doc: &next})
	}
	return out
}

// advance takes a rollout on: its next wave, or its end.
func (s *Server) advance(ctx context.Context, name string) error {
	_, err := s.store.Update(ctx, func(snap *model.Snapshot) (*model.Change, error) {
		r := snap.Rollout(name)
		if r == nil {
			return nil, nil
		}
		now := time.Now()
		next, arm := snap.Next(r, now)
		if next == nil {
			return nil, nil
		}
		c := &model.Change{Time: now, Actor: r.Actor, Verb: "deploy", Request: requestID(), Ops: []model.Op{{Kind: model.KindRollout, Name: name, Doc: next}}}
		switch {
		case next.Code != "":
			c.What = "rollout " + name + " was stopped: " + next.Reason
			e := event("rollout.stopped", "rollout "+name+" of image "+string(r.Image)+" was stopped")
			e.Reason, e.Bad = next.Reason, true
			c.Events = []model.Event{e}
		case len(arm) == 0:
			c.What = "rollout " + name + " has ended"
			c.Events = []model.Event{event("rollout.done", c.What)}
		default:
			wave := fmt.Sprintf("wave %d of %d of rollout %s", next.Wave, next.Waves(), name)
			c.What = fmt.Sprintf("%s: armed %s (%d) with image %s", wave, fold(arm), len(arm), r.Image)
			var armed []model.NodeName
			for _, n := range arm {
				op, why := s.begin(snap, r, n, now)
				if op.Doc == nil {
					continue // it was removed meanwhile
				}
				c.Ops = append(c.Ops, op)
				if why == "" {
					armed = append(armed, n)
					continue
				}
				e := about(n, "deploy.held", "the node is held: its wave could not begin")
				e.Reason, e.Bad = why, true
				c.Events = append(c.Events, e)
			}
			c.Events = append(c.Events, perNode(armed, "deploy.armed", "armed with image "+string(r.Image)+", "+wave, r.Actor)...)
		}
		return c, nil
	})
	return err
}

// begin is the deployment of a node whose wave begins. A node that is locked by now, or on which something else is under way, is held at once, with why.
func (s *Server) begin(snap *model.Snapshot, r *model.Rollout, name model.NodeName, now time.Time) (model.Op, string) {
	n := snap.Node(name)
	if n == nil {
		return model.Op{}, ""
	}
	boots, err := bootsOf(snap, n, r.Boots)
	var disks string
	if err == nil && r.Disk {
		disks, err = diskLayout(snap, n, r.Layout)
	}
	if err == nil {
		err = unlocked(snap, "deploy", "", []model.NodeName{name})
	}
	if d := snap.Deployment(name); err == nil && d != nil && d.Phase.Runs() {
		err = &api.Error{Code: api.Conflict, What: "deploy", Why: "a deployment of image " + string(d.Image) + " is under way"}
	}
	if err == nil && snap.Image(r.Image) == nil {
		err = &api.Error{Code: api.Conflict, What: "deploy", Why: "image " + string(r.Image) + " was removed"}
	}
	d := model.Deployment{
		Node: name, Image: r.Image, Boots: boots, Left: boots, Phase: model.Armed, Since: now, Begun: now, Actor: r.Actor, Rollout: r.Name, Restart: now, Layout: disks,
	}
	if err != nil {
		d.Phase, d.Code, d.Reason, d.Restart = model.Held, model.Refused, problem(err).Error(), time.Time{}
		return model.Op{Kind: model.KindDeployment, Name: string(name), Doc: &d}, d.Reason
	}
	return armedOp(snap, d), ""
}

// claim says on nodes that an operation is under way which no deployment and no other operation may meet, for a time at most; what it returns takes that back. Nodes
// where something is under way refuse all of it.
func (s *Server) claim(q *request, nodes []*model.Node, operation, reason string, life time.Duration) (release func(), err error) {
	names := namesOf(nodes)
	if s.store.Version() < rolloutSchema { // an older manager could not read it
		return func() {}, idle(q.snap, operation, names)
	}
	_, err = s.store.Update(q.Context(), func(snap *model.Snapshot) (*model.Change, error) {
		if err := idle(snap, operation, names); err != nil {
			return nil, err
		}
		if err := unlocked(snap, operation, q.id, names); err != nil {
			return nil, err
		}
		now := time.Now()
		c := &model.Change{Time: now, Actor: q.who.Name, Verb: operation, Request: q.id, What: fmt.Sprintf("%s begins on %s (%d)", operation, fold(names), len(names))}
		for _, n := range names {
			if snap.Node(n) == nil {
				return nil, &api.Error{Code: api.Conflict, What: operation, Why: "was removed meanwhile", Node: string(n)}
			}
			c.Ops = append(c.Ops, model.Op{Kind: model.KindClaim, Name: string(n), Doc: &model.Claim{
				Node: n, Operation: operation, Actor: q.who.Name, Reason: reason, Request: q.id, Since: now, Expires: now.Add(life),
			}})
		}
		return c, nil
	})
	if err != nil {
		return nil, err
	}
	return func() {
		_, err := s.store.Update(context.WithoutCancel(q.Context()), func(snap *model.Snapshot) (*model.Change, error) {
			c := &model.Change{Time: time.Now(), Actor: q.who.Name, Verb: operation, Request: q.id, What: operation + " has ended on " + fold(names)}
			for _, n := range names {
				if have := snap.Claim(n); have != nil && have.Request == q.id {
					c.Ops = append(c.Ops, model.Op{Kind: model.KindClaim, Name: string(n)})
				}
			}
			if len(c.Ops) == 0 {
				return nil, nil
			}
			return c, nil
		})
		if err != nil {
			s.log.Warn("what an operation claimed is not free yet", "operation", operation, "nodes", fold(names), "err", err)
		}
	}, nil
}

func (s *Server) listRollouts(q *request) error {
	var all []*model.Rollout
	for r := range q.snap.Rollouts() {
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b *model.Rollout) int { return a.Begun.Compare(b.Begun) })
	out := make([]api.RolloutInfo, len(all))
	for i, r := range all {
		out[i] = rolloutInfo(q.snap, r)
	}
	return q.answer(out)
}

func (s *Server) showRollout(q *request) error {
	name := q.PathValue("name")
	r := q.snap.Rollout(name)
	if r == nil {
		return &api.Error{Code: api.Unknown, What: "rollout " + name, Why: "there is none of that name", Do: "It may have ended long ago; see: muster history"}
	}
	return q.answer(rolloutInfo(q.snap, r))
}

func rolloutInfo(snap *model.Snapshot, r *model.Rollout) api.RolloutInfo {
	t, _ := snap.Tally(r)
	out := api.RolloutInfo{
		Name: r.Name, Image: string(r.Image), State: "running", Reason: r.Reason, Nodes: fold(r.Nodes), Count: len(r.Nodes), Wave: r.Wave, Waves: r.Waves(),
		Up: t.Up, Going: t.Going, Failed: t.Failed, Waiting: len(r.Waiting()), StopAt: r.StopAt, Actor: r.Actor, Begun: r.Begun, Ended: r.Ended, Code: r.Code,
	}
	switch {
	case r.Ended.IsZero():
	case r.Code == model.ByPerson:
		out.State = "cancelled"
	case r.Code != "":
		out.State = "stopped"
	default:
		out.State = "done"
	}
	return out
}
