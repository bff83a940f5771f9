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
// of unknown machines are only counted (somebody may be making up hardware addresses).
type Seen struct {
	mu    sync.Mutex
	last  map[seenKey]*seenState
	lost  int // events of unknown machines that found no room
	swept time.Time
}

type seenKey struct {
	who, step, what, reason string
}

type seenState struct {
	told time.Time
	more int
}

const (
	seenKnown   = 5 * time.Second  // a machine that asks again because an answer was lost
	seenUnknown = 10 * time.Minute // a machine that is nobody's
	seenMost    = 4096
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
		key := seenKey{string(e.Node), e.Step, e.What, e.Reason}
		window := seenKnown
		if e.Node == "" {
			key.who, window = e.MAC, seenUnknown
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
			s.last[key] = st
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

// forget drops what is older than its window.
func (s *Seen) forget(now time.Time) {
	s.swept = now
	for k, st := range s.last {
		if now.Sub(st.told) >= seenUnknown {
			delete(s.last, k)
		}
	}
}
