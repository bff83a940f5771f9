package model

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Phase is where a deployment stands.
type Phase string

// The phases of a deployment, in the order in which a node goes through them; the last three are ends, which only somebody's word leaves.
const (
	Armed     Phase = "armed"     // waiting for the node's network boot
	Booting   Phase = "booting"   // a boot script was handed out
	Enrolled  Phase = "enrolled"  // the init holds a certificate
	Fetching  Phase = "fetching"  // the root image is on its way
	Starting  Phase = "starting"  // root verified and mounted, the init switches to it
	Writing   Phase = "writing"   // the system in memory writes the disks; then it is starting once more, from there
	Jobs      Phase = "jobs"      // the system runs, its jobs do
	Up        Phase = "up"        // the agent in the running system has reported
	Held      Phase = "held"      // it goes no further; Reason says why
	Cancelled Phase = "cancelled" // somebody took the intent back
)

// Phases are all of them.
var Phases = []Phase{Armed, Booting, Enrolled, Fetching, Starting, Writing, Jobs, Up, Held, Cancelled}

// follows is the whole machine: what may come after a phase, of one deployment. A report may have been lost, so that a phase is left out; the script
// is asked for again wherever a machine is reset; a boot that failed arms for the next one. Nothing but the network boot leads back.
var follows = map[Phase][]Phase{
	Armed:     {Armed, Booting, Held, Cancelled},
	Booting:   {Booting, Enrolled, Armed, Held, Cancelled},
	Enrolled:  {Fetching, Starting, Writing, Jobs, Up, Booting, Armed, Held, Cancelled},
	Fetching:  {Starting, Writing, Jobs, Up, Booting, Armed, Held, Cancelled},
	Starting:  {Writing, Jobs, Up, Booting, Armed, Held, Cancelled},
	Writing:   {Jobs, Up, Booting, Armed, Held, Cancelled},
	Jobs:      {Up, Booting, Armed, Held, Cancelled},
	Up:        {Booting, Armed},
	Held:      {Armed},
	Cancelled: {Armed},
}

// onDisk is what may follow besides once the disk is written: the machine starts again, and the system on its disk does not enrol.
var onDisk = map[Phase][]Phase{
	Writing: {Starting},
	Booting: {Jobs, Up},
}

// CanFollow says whether a deployment may go from one phase to another.
func (p Phase) CanFollow(from Phase) bool { return slices.Contains(follows[from], p) }

// Rests says that nothing is under way: only somebody's word, or a machine that boots again, leaves the phase.
func (p Phase) Rests() bool { return p == Up || p == Held || p == Cancelled }

// Runs says that the machine is at work on it: from its boot script to the end.
func (p Phase) Runs() bool { return p != Armed && !p.Rests() && follows[p] != nil }

// Code says in a word for programs why a deployment is where it is; the message for people is beside it.
type Code string

// The codes.
const (
	BootsUsedUp  Code = "boots_used_up" // held: none of the network boots reached up
	PhaseTooLong Code = "phase_too_long"
	NodeFailed   Code = "node_failed" // armed again, or held: the node told why it cannot go on
	BMCFailed    Code = "bmc_failed"  // held: the machine could not be restarted
	ByPerson     Code = "by_person"   // cancelled
	Again        Code = "again"       // armed: somebody wanted it tried again
	Refused      Code = "refused"     // held: when its wave began, it was locked or busy
)

// Progress is how much of a phase's work is done: percent of 100, or jobs of so many. Zero: there is nothing to tell.
type Progress struct {
	Done int `json:"done"`
	Of   int `json:"of"`
}

// Step says where the deployment stands in a few words: "fetching 43 %", "writing disk 7 %", "jobs 3/7", "held".
func (d *Deployment) Step() string { return d.Phase.Step(d.Progress) }

// Step is the phase with the progress of its work.
func (p Phase) Step(made Progress) string {
	what := string(p)
	if p == Writing {
		what = "writing disk"
	}
	switch {
	case made.Of == 0 || p.Rests():
		return what
	case p == Jobs:
		return fmt.Sprintf("%s %d/%d", what, made.Done, made.Of)
	}
	return fmt.Sprintf("%s %d %%", what, made.Done*100/made.Of)
}

// Valid says that it can be shown: nothing is less than nothing, or more than all of it.
func (p Progress) Valid() bool { return p.Done >= 0 && p.Of >= p.Done && p.Of <= 1<<20 }

// TransitionError says that a deployment cannot go from one phase to the other.
type TransitionError struct{ From, To Phase }

func (e *TransitionError) Error() string {
	if follows[e.To] == nil {
		return fmt.Sprintf("a deployment has no phase %q", e.To)
	}
	var may []string
	for _, p := range follows[e.From] {
		may = append(may, string(p))
	}
	return fmt.Sprintf("a deployment does not go from %s to %s, only to %s", e.From, e.To, strings.Join(may, ", "))
}

// follows says whether the deployment may go from one phase to another.
func (d *Deployment) follows(from, p Phase) bool {
	return p.CanFollow(from) || !d.Installed.IsZero() && slices.Contains(onDisk[from], p)
}

// To is the deployment after it has gone to another phase; limit is how long it may stay there, 0 as long as it takes. What belongs to the phase before
// is gone: reason, code, progress, output. The error is a *[TransitionError].
func (d *Deployment) To(p Phase, now time.Time, limit time.Duration) (Deployment, error) {
	next := *d
	if !d.follows(d.Phase, p) {
		return next, &TransitionError{d.Phase, p}
	}
	next.Phase, next.Since = p, now
	next.Code, next.Reason, next.Progress, next.Output, next.Deadline = "", "", Progress{}, "", time.Time{}
	if limit > 0 && !p.Rests() {
		next.Deadline = now.Add(limit)
	}
	return next, nil
}

// Late says that a deployment has been in its phase for too long.
func (d *Deployment) Late(now time.Time) bool {
	return !d.Phase.Rests() && !d.Deadline.IsZero() && now.After(d.Deadline)
}

// Limit is how long a node may be in a phase of its deployment; 0 is as long as it takes.
func (s *Snapshot) Limit(n *Node, p Phase) time.Duration {
	if n == nil || p.Rests() {
		return 0
	}
	text, err := s.Attr(n, AttrName("deploy.limit."+string(p)))
	if err != nil {
		return 0 // an expression without a value; muster check names it
	}
	d, _ := time.ParseDuration(text)
	return d
}

// transition is what is wrong with putting a deployment in the place of another; "" is nothing. One with another beginning is another deployment, which
// may be anywhere: taking a change back brings it.
func transition(was, is *Deployment) string {
	switch {
	case follows[is.Phase] == nil:
		return (&TransitionError{To: is.Phase}).Error()
	case was == nil || !was.Begun.Equal(is.Begun) || was.Phase == is.Phase || is.follows(was.Phase, is.Phase):
		return ""
	}
	return (&TransitionError{was.Phase, is.Phase}).Error()
}
