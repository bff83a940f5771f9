package model

import "time"

// Locked tells, for each of the nodes that is locked at the time, by whom, why, since when and until when; nil when none is. Check does not ask it: whoever
// is about to change, switch or deploy nodes does.
func Locked(s *Snapshot, nodes []NodeName, now time.Time) []Problem {
	var out []Problem
	for _, name := range nodes {
		n := s.Node(name)
		if n == nil || !n.Lock.Holds(now) {
			continue
		}
		why := "by " + n.Lock.Actor + " since " + n.Lock.Time.UTC().Format(time.RFC3339)
		if !n.Lock.Expires.IsZero() {
			why += " until " + n.Lock.Expires.UTC().Format(time.RFC3339)
		}
		if n.Lock.Reason != "" {
			why += ": " + n.Lock.Reason
		}
		out = append(out, Problem{Node: name, What: "it is locked", Why: why, Do: "muster unlock " + string(name)})
	}
	return out
}

// Claimed tells, for each of the nodes on which an operation of another request is under way, which, whose and since when; nil when none is.
func Claimed(s *Snapshot, nodes []NodeName, request string, now time.Time) []Problem {
	var out []Problem
	for _, name := range nodes {
		c := s.Claim(name)
		if c == nil || c.Request == request || !now.Before(c.Expires) {
			continue
		}
		why := c.Operation + " by " + c.Actor + " since " + c.Since.UTC().Format(time.RFC3339) + ", at most until " + c.Expires.UTC().Format(time.RFC3339)
		if c.Reason != "" {
			why += ": " + c.Reason
		}
		out = append(out, Problem{Node: name, What: "an operation is under way", Why: why, Do: "Wait until it has ended"})
	}
	return out
}

// Deploying tells, for each of the nodes whose deployment is under way or waits for its wave, which, whose and since when; nil when none is. One that is armed
// and in no rollout is not under way: the machine has not asked yet.
func Deploying(s *Snapshot, nodes []NodeName) []Problem {
	waiting := s.Waiting()
	var out []Problem
	for _, name := range nodes {
		d, r := s.Deployment(name), waiting[name].Rollout
		if r == nil && d != nil && d.Phase == Armed && d.Rollout != "" && d.Code == "" {
			r = s.Rollout(d.Rollout)
		}
		why := ""
		switch {
		case r != nil && r.Ended.IsZero():
			why = "rollout " + r.Name + " of image " + string(r.Image) + " by " + r.Actor + " since " + r.Begun.UTC().Format(time.RFC3339) + " has them before it"
		case d != nil && d.Phase.Runs():
			why = "deployment of image " + string(d.Image)
			if d.Actor != "" {
				why += " by " + d.Actor
			}
			if !d.Begun.IsZero() {
				why += " since " + d.Begun.UTC().Format(time.RFC3339)
			}
			why += " is " + string(d.Phase)
		default:
			continue
		}
		out = append(out, Problem{Node: name, What: "a deployment is under way", Why: why, Do: "Wait for it, or end it: muster deploy " + string(name) + " --cancel"})
	}
	return out
}
