package server

import (
	"slices"
	"strings"
	"sync"

	"muster/internal/api"
	"muster/internal/model"
)

// machines are the unknown ones that asked for an address, newest last. It is observed state: it starts empty.
type machines struct {
	mu  sync.Mutex
	mac map[string]*api.Discovered
}

// mostMachines bounds what somebody who makes up hardware addresses can fill.
const mostMachines = 4096

// note takes the events of the boot services and keeps those of unknown machines.
func (m *machines) note(events []model.Event) {
	for _, e := range events {
		if e.MAC == "" || e.Node != "" {
			continue
		}
		m.mu.Lock()
		if m.mac == nil {
			m.mac = map[string]*api.Discovered{}
		}
		d := m.mac[e.MAC]
		if d == nil && len(m.mac) < mostMachines {
			d = &api.Discovered{MAC: e.MAC, First: e.Time}
			m.mac[e.MAC] = d
		}
		if d != nil {
			d.Last, d.Reason = e.Time, e.Reason
			d.Count++
			if _, rest, ok := strings.Cut(e.What, "UUID "); ok {
				d.UUID, _, _ = strings.Cut(rest, ")")
			}
		}
		m.mu.Unlock()
	}
}

// list returns those that are still unknown, the newest last.
func (m *machines) list(snap *model.Snapshot) []api.Discovered {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := []api.Discovered{}
	for mac, d := range m.mac {
		if snap.NodeByMAC(mac) != nil {
			delete(m.mac, mac)
			continue
		}
		out = append(out, *d)
	}
	slices.SortFunc(out, func(a, b api.Discovered) int { return a.Last.Compare(b.Last) })
	return out
}

func (s *Server) discovered(q *request) error { return q.answer(s.unknown.list(q.snap)) }
