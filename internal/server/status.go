package server

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"muster/internal/api"
	"muster/internal/model"
)

// heartbeat is how often an agent comes; a node that stays away for three of them is silent.
const (
	heartbeat = 15 * time.Second
	silence   = 3*heartbeat + 5*time.Second
	// slow is how long a booting node may be without news before status says where to look.
	slow = 3 * time.Minute
	// persist is how often mere signs of life are written to the store.
	persist = 10 * time.Minute
)

// sightings is what was observed of nodes, newest first hand: heartbeats come too often for the store.
type sightings struct {
	mu    sync.Mutex
	state map[model.NodeName]*model.State
	saved map[model.NodeName]time.Time
	// parts are records of hardware that the snapshot may not have yet. In state there are none.
	parts map[model.NodeName]*model.Hardware
}

// get returns what was seen of a node: here, else in the snapshot; nil when nothing was.
func (o *sightings) get(snap *model.Snapshot, n model.NodeName) *model.State {
	o.mu.Lock()
	defer o.mu.Unlock()
	if st := o.state[n]; st != nil {
		return st
	}
	return snap.State(n)
}

// update changes what is known of a node and returns the document to keep, nil when it need not be written now.
func (o *sightings) update(snap *model.Snapshot, n model.NodeName, now time.Time, change func(*model.State) (keep bool)) *model.State {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.state == nil {
		o.state, o.saved = map[model.NodeName]*model.State{}, map[model.NodeName]time.Time{}
	}
	old := o.state[n]
	if old == nil {
		old = snap.State(n)
	}
	next := &model.State{Node: n}
	if old != nil {
		*next = *old
	}
	keep := change(next)
	o.state[n] = next
	if !keep && now.Sub(o.saved[n]) < persist {
		return nil
	}
	o.saved[n] = now
	doc := *next
	return &doc
}

func (o *sightings) forget(names []model.NodeName) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, n := range names {
		delete(o.state, n)
		delete(o.saved, n)
		delete(o.parts, n)
	}
}

// move has what was seen of nodes count for their new names.
func (o *sightings) move(was, now []model.NodeName) {
	o.mu.Lock()
	defer o.mu.Unlock()
	states, saved, parts := make([]*model.State, len(was)), make([]time.Time, len(was)), make([]*model.Hardware, len(was))
	for i, n := range was {
		states[i], saved[i], parts[i] = o.state[n], o.saved[n], o.parts[n]
	}
	for _, n := range was {
		delete(o.state, n)
		delete(o.saved, n)
		delete(o.parts, n)
	}
	for i, n := range now {
		if parts[i] != nil {
			o.parts[n] = parts[i]
		}
		if states[i] == nil {
			continue
		}
		st := *states[i]
		st.Node = n
		o.state[n], o.saved[n] = &st, saved[i]
	}
}

// observe records what was seen of a node.
func (s *Server) observe(n model.NodeName, change func(*model.State) bool) {
	if doc := s.seen.update(s.store.Snapshot(), n, time.Now(), change); doc != nil {
		s.store.Observe(n, func(st *model.State) {
			hardware := st.Hardware
			*st = *doc
			st.Hardware = hardware
		})
	}
}

func (s *Server) status(q *request) error {
	var in api.StatusQuery
	if err := q.read(&in); err != nil {
		return err
	}
	nodes, err := q.nodesOrAll("status", in.Range)
	if err != nil {
		return err
	}
	project, err := statusFields(in.Fields)
	if err != nil {
		return err
	}
	st := q.stream(len(nodes))
	for _, n := range nodes {
		line := s.statusOf(q.snap, n, time.Now())
		project(&line)
		st.line(line, false)
	}
	return st.end()
}

// statusFields returns what takes out of a status the fields that were not asked for.
func statusFields(fields []string) (func(*api.NodeStatus), error) {
	if len(fields) == 0 {
		return func(*api.NodeStatus) {}, nil
	}
	known := map[string]func(to, from *api.NodeStatus){
		"status":   func(_, _ *api.NodeStatus) {},
		"reason":   func(to, from *api.NodeStatus) { to.Reason = from.Reason },
		"since":    func(to, from *api.NodeStatus) { to.Since = from.Since },
		"power":    func(to, from *api.NodeStatus) { to.Power = from.Power },
		"power_at": func(to, from *api.NodeStatus) { to.PowerAt = from.PowerAt },
		"image":    func(to, from *api.NodeStatus) { to.Image = from.Image },
		"seen":     func(to, from *api.NodeStatus) { to.Seen = from.Seen },
		"console":  func(to, from *api.NodeStatus) { to.Console = from.Console },
		"facts":    func(to, from *api.NodeStatus) { to.Facts = from.Facts },
	}
	for _, f := range fields {
		if known[f] == nil {
			return nil, noField("status", f, slices.Sorted(maps.Keys(known)))
		}
	}
	return func(st *api.NodeStatus) {
		out := api.NodeStatus{Result: st.Result, Status: st.Status}
		for _, f := range fields {
			known[f](&out, st)
		}
		*st = out
	}, nil
}

func noField(what, field string, have []string) error {
	return &api.Error{Code: api.Usage, What: what, Why: "there is no field " + field, Do: "There are: " + strings.Join(have, ", ")}
}

// statusOf says the truth about a node as far as it is known.
func (s *Server) statusOf(snap *model.Snapshot, n *model.Node, now time.Time) api.NodeStatus {
	out := api.NodeStatus{Result: api.Result{Node: string(n.Name)}, Status: "defined", Since: n.Created, Aliases: convert[string](n.Aliases), Lock: n.Lock}
	st := s.seen.get(snap, n.Name)
	if st != nil {
		out.Power, out.PowerAt, out.Seen, out.Facts = st.Power, st.PowerAt, st.Seen, st.Facts
	}
	if info, ok := s.consoles.Info(n.Name); ok {
		out.Console = recording(info)
	}
	d := snap.Deployment(n.Name)
	if d == nil {
		if snap.State(n.Name) == nil {
			out.Reason = "nothing is deployed"
		}
		return out
	}
	out.Status, out.Since, out.Image, out.Reason = string(d.Phase), d.Since, string(d.Image), d.Reason
	off := st != nil && st.Power == "off" && st.PowerAt.After(d.Since)
	switch d.Phase {
	case model.Up:
		seen := d.Since
		if st != nil && st.Seen.After(seen) {
			seen = st.Seen
		}
		if s.started.After(seen) {
			seen = s.started // we were not there to hear it
		}
		if st != nil && st.Down.After(st.Seen) && st.Down.After(d.Since) {
			out.Status, out.Since = "off", st.Down
			if st.Power != "off" {
				out.Status, out.Reason = "armed", "it was up, was restarted, and has not booted from the network since"
			}
		} else if away := now.Sub(seen); away > silence {
			out.Status, out.Since = "silent", seen
			out.Reason = fmt.Sprintf("no heartbeat for %s; look at: muster console %s --log", away.Round(time.Second), n.Name)
		}
	case model.Armed:
		if out.Reason == "" {
			out.Reason = "waits for its network boot"
		}
		if st == nil || st.Power == "off" {
			out.Reason += "; start it: muster power " + string(n.Name) + " on"
		} else if now.Sub(d.Since) > slow {
			out.Reason += "; it is on: muster bootdev " + string(n.Name) + " network && muster power " + string(n.Name) + " cycle"
		}
	case model.Booting, model.Enrolled, model.Fetching, model.Starting, model.Writing:
		switch away := now.Sub(d.Since); {
		case off:
			out.Reason = "its power went off after step " + string(d.Phase)
		case away > slow && out.Reason == "":
			out.Reason = fmt.Sprintf("no news for %s; see: muster why %s", away.Round(time.Second), n.Name)
		}
	}
	return out
}

// watchPower asks every BMC for the power state now and then, so that status tells the truth without being asked.
func (s *Server) watchPower(ctx context.Context) error {
	const every = 30 * time.Second
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		s.askPower(ctx)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
}

func (s *Server) askPower(ctx context.Context) {
	snap := s.store.Snapshot()
	keepers := s.keepers()
	slots := make(chan struct{}, powerFanout)
	var wg sync.WaitGroup
	defer wg.Wait()
	for n := range snap.Nodes() {
		if keeper(keepers, n.Name) != s.name() {
			continue
		}
		if _, err := s.readBMC(snap, n); err != nil {
			continue
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		wg.Go(func() {
			defer func() { <-slots }()
			ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
			defer cancel()
			d, err := s.driver(snap, n)
			if err != nil {
				return
			}
			defer d.Close()
			if p, err := d.Power(ctx); err == nil {
				s.sawPower(n.Name, string(p))
			}
		})
	}
}

// sawPower records the power state; a change that nobody asked for is an event.
func (s *Server) sawPower(n model.NodeName, power string) {
	changed := false
	s.observe(n, func(st *model.State) bool {
		changed = st.Power != power
		st.Power, st.PowerAt = power, time.Now()
		if power == "off" {
			st.Down = st.PowerAt
		}
		return changed
	})
	if changed {
		s.tell(about(n, "power.seen", "power is "+power))
	}
}
