package boot

import (
	"fmt"
	"sync"
	"time"

	"muster/internal/model"
)

// Seen keeps the timeline readable: of events that say the same again, one is told for each time window, with the count of those
// that were not. Machines ask again and again, known ones when an answer was lost, unknown ones for ever.
//
// The zero value is ready; it is safe for several goroutines. It holds at most seenMost different events; beyond that, events
// of unknown machines are only counted (somebody may be making up hardware addresses). Of one node at most seenNode events are
// told in a minute, the others are counted: whoever sends in its name can make each of them different.
type Seen struct {
	mu    sync.Mutex
	last  map[seenKey]*seenState
	nodes map[model.NodeName]*seenBudget
	lost  int // events of unknown machines that found no room
	swept time.Time
}

// seenBudget counts the events of a node since the beginning of a minute.
type seenBudget struct {
	since      time.Time
	told, lost int
}

type seenKey struct {
	who, step, what, reason string
	unknown                 bool
}

type seenState struct {
	told time.Time
	more int
}

const (
	seenKnown   = 5 * time.Second  // a machine that asks again because an answer was lost
	seenUnknown = 10 * time.Minute // a machine that is nobody's
	seenMost    = 4096
	seenNode    = 100
)

// Filter returns those of the events that are to be told now. An event that was held back before carries the count.
func (s *Seen) Filter(events []model.Event, now time.Time) []model.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last == nil {
		s.last = map[seenKey]*seenState{}
	}
	var told []model.Event
	for _, e := range events {
		key := seenKey{who: string(e.Node), step: e.Step, what: e.What, reason: e.Reason}
		window := seenKnown
		if e.Node == "" {
			key.who, key.unknown, window = e.MAC, true, seenUnknown
		}
		st := s.last[key]
		if st != nil && now.Sub(st.told) < window {
			st.more++
			continue
		}
		if st == nil {
			if len(s.last) >= seenMost && now.Sub(s.swept) >= seenKnown {
				s.forget(now)
			}
			if len(s.last) >= seenMost && e.Node == "" {
				s.lost++
				continue
			}
			st = new(seenState)
			if len(s.last) < seenMost {
				s.last[key] = st
			}
		}
		if e.Node != "" && !s.spend(&e, now) {
			continue
		}
		if st.more > 0 {
			e.What += fmt.Sprintf(" (and %d times since %s)", st.more, st.told.UTC().Format("15:04:05"))
		}
		if e.Node == "" && s.lost > 0 {
			e.What += fmt.Sprintf(" (and %d events of other unknown machines)", s.lost)
			s.lost = 0
		}
		st.told, st.more = now, 0
		told = append(told, e)
	}
	return told
}

// spend takes one event from the node's budget; the first one of a new minute carries the count of those that were not told.
func (s *Seen) spend(e *model.Event, now time.Time) bool {
	b := s.nodes[e.Node]
	if b == nil {
		if s.nodes == nil {
			s.nodes = map[model.NodeName]*seenBudget{}
		}
		b = &seenBudget{since: now}
		s.nodes[e.Node] = b
	}
	if now.Sub(b.since) >= time.Minute {
		if b.lost > 0 {
			e.What += fmt.Sprintf(" (and %d other events of it since %s)", b.lost, b.since.UTC().Format("15:04:05"))
		}
		*b = seenBudget{since: now}
	}
	if b.told >= seenNode {
		b.lost++
		return false
	}
	b.told++
	return true
}

// forget drops what is older than its window.
func (s *Seen) forget(now time.Time) {
	s.swept = now
	for k, st := range s.last {
		if age := now.Sub(st.told); age >= seenUnknown || !k.unknown && age >= seenKnown {
			delete(s.last, k)
		}
	}
	for n, b := range s.nodes {
		if now.Sub(b.since) >= seenUnknown {
			delete(s.nodes, n)
		}
	}
}
