package model

import (
	"fmt"
	"iter"
	"time"
)

// Rollout is a deployment in waves: the first Canary nodes, then Batch at a time. The next wave begins when each node of those before rests, and none does
// any more when the failures among the nodes that were begun reach StopAt percent. It is in the store, so it goes on whoever dies.
type Rollout struct {
	Name   string     `json:"name"` // of the image, and a number
	Image  ImageName  `json:"image"`
	Nodes  []NodeName `json:"nodes"`            // in the order in which they are begun
	Canary int        `json:"canary,omitempty"` // nodes of the first wave; 0: it is as the others
	Batch  int        `json:"batch,omitempty"`  // nodes of every other wave; 0: all that are left
	StopAt int        `json:"stop_at"`          // percent, 1 to 100
	Boots  int        `json:"boots,omitempty"`  // as of each Deployment; 0: boot.count
	Disk   bool       `json:"disk,omitempty"`   // to disk, as each node's disk.layout says when its wave begins
	Layout string     `json:"layout,omitempty"` // the same, as this says
	Actor  string     `json:"actor"`
	Begun  time.Time  `json:"begun"`

	Wave    int       `json:"wave"`    // how many waves have begun
	Started int       `json:"started"` // how many of Nodes are in them
	Ended   time.Time `json:"ended,omitzero"`
	Code    Code      `json:"code,omitempty"`   // why it ended before its end
	Reason  string    `json:"reason,omitempty"` // the same for people

	Revision Revision `json:"-"`
}

// TooManyFailed is why a rollout was stopped.
const TooManyFailed Code = "too_many_failed"

// Claim says that an operation is under way on a node that another one must not meet: an update of firmware, a capture. It ends with the operation, or when its time is
// over, should its manager be killed.
type Claim struct {
	Node      NodeName  `json:"node"`
	Operation string    `json:"operation"` // the verb: "firmware update"
	Actor     string    `json:"actor"`
	Reason    string    `json:"reason,omitempty"`
	Request   string    `json:"request"` // whose it is
	Since     time.Time `json:"since"`
	Expires   time.Time `json:"expires"`

	Revision Revision `json:"-"`
}

// Rollout returns the rollout of that name, nil when there is none.
func (s *Snapshot) Rollout(name string) *Rollout { return s.rollouts.get(name) }

// Rollouts yields all rollouts in natural order of their names.
func (s *Snapshot) Rollouts() iter.Seq[*Rollout] { return s.rollouts.all() }

// Claim returns what is under way on a node, nil when nothing is known to be; it may have expired.
func (s *Snapshot) Claim(n NodeName) *Claim { return s.claims.get(n) }

// Turn is a node's place in a rollout: the number of its wave, 1 for the first.
type Turn struct {
	Rollout *Rollout
	Wave    int
}

// Waiting are the nodes of rollouts that go on whose waves have not begun.
func (s *Snapshot) Waiting() map[NodeName]Turn {
	var out map[NodeName]Turn
	for r := range s.Rollouts() {
		for i, n := range r.Waiting() {
			if out == nil {
				out = map[NodeName]Turn{}
			}
			out[n] = Turn{r, r.WaveOf(r.Started + i)}
		}
	}
	return out
}

// Waiting are the nodes whose waves have not begun, none when they will not.
func (r *Rollout) Waiting() []NodeName {
	if !r.Ended.IsZero() {
		return nil
	}
	return r.Nodes[r.Started:]
}

// Waves is how many waves there are in all.
func (r *Rollout) Waves() int {
	waves, left := 0, len(r.Nodes)
	for ; left > 0; waves++ {
		left -= r.size(waves)
	}
	return waves
}

// WaveOf is the number of the wave that the node at that place is in, 1 for the first.
func (r *Rollout) WaveOf(place int) int {
	first := r.size(0)
	if place < first {
		return 1
	}
	return 2 + (place-first)/r.size(1)
}

// size is how many nodes a wave has, 0 the first.
func (r *Rollout) size(wave int) int {
	switch {
	case wave == 0 && r.Canary > 0:
		return r.Canary
	case r.Batch > 0:
		return r.Batch
	}
	return max(1, len(r.Nodes))
}

// Tally is what became of the nodes that a rollout has begun.
type Tally struct{ Up, Failed, Gone, Going int }

// Tally counts. Gone are nodes that were removed, cancelled, or deployed otherwise meanwhile: they are nobody's failure.
func (s *Snapshot) Tally(r *Rollout) (t Tally, failed []NodeName) {
	for _, n := range r.Nodes[:r.Started] {
		switch d := s.Deployment(n); {
		case d == nil || d.Rollout != r.Name || d.Phase == Cancelled:
			t.Gone++
		case d.Phase == Held:
			t.Failed++
			failed = append(failed, n)
		case d.Phase == Up:
			t.Up++
		default:
			t.Going++
		}
	}
	return t, failed
}

// Next says how a rollout goes on: the rollout as it is then, and the nodes to arm. It returns nil when there is nothing to do yet.
func (s *Snapshot) Next(r *Rollout, now time.Time) (*Rollout, []NodeName) {
	if !r.Ended.IsZero() {
		return nil, nil
	}
	next := *r
	t, failed := s.Tally(r)
	counted := r.Started - t.Gone
	switch {
	case r.Started < len(r.Nodes) && t.Failed > 0 && t.Failed*100 >= r.StopAt*counted:
		next.Ended, next.Code = now, TooManyFailed
		next.Reason = fmt.Sprintf("%d of %d nodes failed, and %d %% stop it: %d are not begun; see: muster why %s",
			t.Failed, counted, r.StopAt, len(r.Nodes)-r.Started, failed[0])
		return &next, nil
	case t.Going > 0:
		return nil, nil
	case r.Started == len(r.Nodes):
		next.Ended = now
		return &next, nil
	}
	end := min(len(r.Nodes), r.Started+r.size(r.Wave))
	arm := r.Nodes[r.Started:end]
	next.Started, next.Wave = end, r.Wave+1
	return &next, arm
}
