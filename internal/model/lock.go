package model

import "time"

// Locked tells, for each of the nodes that is locked, by whom, why and since when; nil when none is. Check does not ask it: whoever
// is about to change, switch or deploy nodes does.
func Locked(s *Snapshot, nodes []NodeName) []Problem {
	var out []Problem
	for _, name := range nodes {
		n := s.Node(name)
		if n == nil || n.Lock == nil {
			continue
		}
		why := "by " + n.Lock.Actor + " since " + n.Lock.Time.UTC().Format(time.RFC3339)
		if n.Lock.Reason != "" {
			why += ": " + n.Lock.Reason
		}
		out = append(out, Problem{Node: name, What: "it is locked", Why: why, Do: "muster unlock " + string(name)})
	}
	return out
}
