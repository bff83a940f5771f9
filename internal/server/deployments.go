package server

import (
	"context"
	"errors"
	"sync"
	"time"

	"muster/internal/api"
	"muster/internal/boot"
	"muster/internal/model"
)

// What goes on with deployments when nobody asks: phases that take too long end in held, machines are restarted whose manager or client died before it
// could, and how far each node is gets shared. Each node is the business of the manager that keeps it (see keeper); should two think
// so for a moment, the commit of the second finds the deployment in another phase.

const (
	deployLook  = time.Second // between two looks at all deployments
	shareEvery  = 2 * time.Second
	restartWait = 2 * powerTime // who armed a node restarts it in that time, or the keeper does
)

// made is how far the nodes are in the phases of their deployments, first hand: reports come every second from each, too often for the store. The zero
// value is ready.
type made struct {
	mu    sync.Mutex
	nodes map[model.NodeName]*report
}

// report is the newest one of a node; since names the phase of the deployment that it is about.
type report struct {
	since    time.Time
	progress model.Progress
	output   string
	at       time.Time
	changed  bool // since it was last shared
}

// note takes a report in. One that tells of less than there was is late: it moves nothing.
func (m *made) note(n *boot.Made) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.nodes == nil {
		m.nodes = map[model.NodeName]*report{}
	}
	r := m.nodes[n.Of.Node]
	if r == nil || r.since.Before(n.Of.Since) {
		r = &report{since: n.Of.Since, progress: n.Of.Progress, output: n.Of.Output}
		m.nodes[n.Of.Node] = r
	} else if r.since.After(n.Of.Since) {
		return // decided on a snapshot from before
	}
	r.at = time.Now()
	if share(n.Progress) >= share(r.progress) && n.Progress.Of > 0 && n.Progress != r.progress {
		r.progress, r.changed = n.Progress, true
	}
	if n.Output != "" && n.Output != r.output {
		r.output, r.changed = n.Output, true
	}
}

func share(p model.Progress) float64 {
	if p.Of == 0 {
		return 0
	}
	return float64(p.Done) / float64(p.Of)
}

func (m *made) get(d *model.Deployment) (report, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r := m.nodes[d.Node]; r != nil && r.since.Equal(d.Since) {
		return *r, true
	}
	return report{}, false
}

// of is how far a deployment is: as it was told here, or shared by another manager, whichever is more.
func (m *made) of(d *model.Deployment) model.Progress {
	if r, ok := m.get(d); ok && share(r.progress) >= share(d.Progress) {
		return r.progress
	}
	return d.Progress
}

func (m *made) output(d *model.Deployment) string {
	if r, ok := m.get(d); ok && r.output != "" {
		return r.output
	}
	return d.Output
}

// newest is when the node was last heard of in its phase.
func (m *made) newest(d *model.Deployment) time.Time {
	if r, ok := m.get(d); ok && r.at.After(d.Since) {
		return r.at
	}
	return d.Since
}

// due are the reports that the other managers are to know: a tenth more than they do, another job, other words. Those of phases that are over are dropped.
func (m *made) due(snap *model.Snapshot) map[model.NodeName]report {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := map[model.NodeName]report{}
	for n, r := range m.nodes {
		d := snap.Deployment(n)
		if d == nil || d.Since.After(r.since) {
			delete(m.nodes, n)
			continue
		}
		if r.changed && d.Since.Equal(r.since) && (d.Phase == model.Jobs && r.progress != d.Progress || share(r.progress)-share(d.Progress) >= 0.1) {
			r.changed = false
			out[n] = *r
		}
	}
	return out
}

// keepDeployments looks after deployments until ctx ends.
func (s *Server) keepDeployments(ctx context.Context) error {
	t := time.NewTicker(deployLook)
	defer t.Stop()
	var shared time.Time
	var works sync.WaitGroup
	defer works.Wait()
	k := &deploymentKeeper{s: s, busy: map[model.NodeName]bool{}}
	for {
		k.look(ctx, &works)
		if now := time.Now(); now.Sub(shared) >= shareEvery {
			shared = now
			if err := s.shareMade(ctx); err != nil && ctx.Err() == nil {
				s.log.Warn("deployments: how far nodes are is not shared yet", "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
}

// shareMade writes how far nodes are, so that all managers know and the next start does.
func (s *Server) shareMade(ctx context.Context) error {
	due := s.made.due(s.store.Snapshot())
	if len(due) == 0 {
		return nil
	}
	return s.store.Note(ctx, func(snap *model.Snapshot) []model.Op {
		var ops []model.Op
		for n, r := range due {
			d := snap.Deployment(n)
			if d == nil || !d.Since.Equal(r.since) {
				continue
			}
			next := *d
			next.Progress, next.Output = r.progress, r.output
			ops = append(ops, model.Op{Kind: model.KindDeployment, Name: string(n), Doc: &next})
		}
		return ops
	})
}

// deploymentKeeper is what one manager does for the deployments of the nodes that it keeps.
type deploymentKeeper struct {
	s    *Server
	mu   sync.Mutex
	busy map[model.NodeName]bool // being restarted
}

// look is one look at all deployments. Work that takes long goes on in works.
func (k *deploymentKeeper) look(ctx context.Context, works *sync.WaitGroup) {
	s, now := k.s, time.Now()
	if !s.cutOff().IsZero() {
		return // nothing could be written
	}
	snap, keepers, me := s.store.Snapshot(), s.keepers(), s.name()
	var late []model.NodeName
	for d := range snap.Deployments() {
		if d.Phase.Rests() || !d.Late(now) && !k.unstarted(snap, d, now) || keeper(keepers, d.Node) != me {
			continue
		}
		if d.Late(now) {
			late = append(late, d.Node)
		} else if n := snap.Node(d.Node); n != nil && k.begin(d.Node) {
			works.Go(func() {
				defer k.end(d.Node)
				ctx, cancel := context.WithTimeout(ctx, powerTime)
				defer cancel()
				s.restart(ctx, snap, n, d.Actor)
			})
		}
	}
	for r := range snap.Rollouts() {
		if next, _ := snap.Next(r, now); next == nil || keeper(keepers, model.NodeName("rollout "+r.Name)) != me {
			continue
		}
		if err := s.advance(ctx, r.Name); err != nil && ctx.Err() == nil {
			s.log.Warn("deployments: the next wave has not begun yet", "rollout", r.Name, "err", err)
		}
	}
	if len(late) > 0 {
		if err := s.holdLate(ctx, late); err != nil && ctx.Err() == nil {
			s.log.Warn("deployments: nodes whose time is over are not held yet", "err", err)
		}
	}
}

// unstarted says that a node was to be restarted and nobody has done so.
func (k *deploymentKeeper) unstarted(snap *model.Snapshot, d *model.Deployment, now time.Time) bool {
	if d.Restart.IsZero() || now.Before(d.Restart) || d.Phase != model.Armed {
		return false
	}
	st := k.s.seen.get(snap, d.Node)
	return st == nil || st.Restarted.Before(d.Since)
}

func (k *deploymentKeeper) begin(n model.NodeName) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.busy[n] {
		return false
	}
	k.busy[n] = true
	return true
}

func (k *deploymentKeeper) end(n model.NodeName) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.busy, n)
}

// holdLate holds nodes whose time is over, all in one change with its lines of the timeline.
func (s *Server) holdLate(ctx context.Context, names []model.NodeName) error {
	_, err := s.store.Update(ctx, func(snap *model.Snapshot) (*model.Change, error) {
		c := &model.Change{Time: time.Now(), Actor: "muster", Verb: "deploy held", Request: requestID(), What: "the time of a phase was over: " + fold(names)}
		for _, n := range names {
			d := boot.Decide(snap, boot.Request{Stage: boot.StageLimit, Node: n}, c.Time)
			c.Ops, c.Events = append(c.Ops, d.Ops...), append(c.Events, d.Events...)
		}
		if len(c.Ops) == 0 {
			return nil, nil // another manager was first, or the nodes were
		}
		return c, nil
	})
	return err
}

// restart sends a node through its network boot. One that cannot be is held with the reason.
func (s *Server) restart(ctx context.Context, snap *model.Snapshot, n *model.Node, actor string) *api.Error {
	err := s.reboot(ctx, snap, n, actor)
	if err == nil {
		return nil
	}
	e := bmcProblem(n.Name, "deploy --reboot", err)
	if errors.Is(err, context.Canceled) {
		return e // the client or the service went away: the keeper tries again
	}
	text := *e
	text.Node = ""
	_, err = s.store.Update(context.WithoutCancel(ctx), func(snap *model.Snapshot) (*model.Change, error) {
		d := snap.Deployment(n.Name)
		if d == nil || d.Phase != model.Armed || d.Restart.IsZero() {
			return nil, nil
		}
		now := time.Now()
		next, err := d.To(model.Held, now, 0)
		if err != nil {
			return nil, err
		}
		next.Code, next.Reason, next.Restart = model.BMCFailed, "it could not be restarted: "+text.Error(), time.Time{}
		told := about(n.Name, boot.StepLate, "the node is held: it could not be restarted")
		told.Reason, told.Bad = text.Error(), true
		return &model.Change{
			Time: now, Actor: "muster", Verb: "deploy held", Request: requestID(), What: told.What, Events: []model.Event{told},
			Ops: []model.Op{{Kind: model.KindDeployment, Name: string(n.Name), Doc: &next}},
		}, nil
	})
	if err != nil {
		s.log.Warn("deployments: a node that could not be restarted is not held", "node", n.Name, "err", err)
	}
	return e
}
