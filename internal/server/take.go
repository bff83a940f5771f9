package server

import (
	"fmt"
	"maps"
	"strings"

	"muster/internal/api"
	"muster/internal/model"
)

func (s *Server) take(q *request) error {
	var in api.TakeNodes
	if err := q.read(&in); err != nil {
		return err
	}
	mode := model.ModeFull
	if in.Proxy {
		mode = model.ModeProxy
	}
	return s.hand(q, "take", in.Range, mode)
}

func (s *Server) release(q *request) error {
	var in api.ReleaseNodes
	if err := q.read(&in); err != nil {
		return err
	}
	return s.hand(q, "release", in.Range, model.ModeObserve)
}

// hand sets the mode of every port of nodes that has a hardware address, on the nodes themselves. A port whose mode is right already is left
// as it is, whoever says so.
func (s *Server) hand(q *request, verb string, rg api.Range, mode string) error {
	nodes, err := q.nodes(verb, rg)
	if err != nil {
		return err
	}
	names := namesOf(nodes)
	out := api.Changed{Skipped: fold(q.skipped), DryRun: rg.DryRun}
	rev, err := s.commit(q.Context(), q, verb, rg.DryRun, func(snap *model.Snapshot) ([]model.Op, string, []model.Event, error) {
		if err := unlocked(snap, verb, q.id, names); err != nil {
			return nil, "", nil, err
		}
		var ops []model.Op
		var changed []model.NodeName
		var portless []model.NodeName
		for _, name := range names {
			n := snap.Node(name)
			if n == nil {
				return nil, "", nil, &api.Error{Code: api.Conflict, What: verb, Node: string(name), Why: "was removed meanwhile"}
			}
			next, ports, err := withMode(snap, n, mode)
			switch {
			case err != nil:
				return nil, "", nil, err
			case ports == 0:
				portless = append(portless, name)
			case next != nil:
				ops = append(ops, model.Op{Kind: model.KindNode, Name: string(name), Doc: next})
				changed = append(changed, name)
			}
		}
		if len(portless) > 0 {
			return nil, "", nil, &api.Error{
				Code: api.Usage, What: verb, Why: fold(portless) + " has no port with a hardware address, so nothing that it asks is known to be its",
				Do: "Give it one: muster set " + fold(portless) + " net.boot.mac=ADDRESS",
			}
		}
		out.Nodes, out.Count = fold(changed), len(changed)
		what := map[string]string{"take": "took ", "release": "released "}[verb] + out.Nodes
		said := map[string]string{
			model.ModeFull: "its requests to boot are answered", model.ModeProxy: "its requests to boot are answered, its address is another DHCP server's",
			model.ModeObserve: "its requests to boot are only observed",
		}[mode]
		return ops, fmt.Sprintf("%s (%d)", what, out.Count), perNode(changed, "node."+verb, said, q.who.Name), nil
	})
	if err != nil {
		return err
	}
	out.Revision = int64(rev)
	return q.answer(out)
}

// withMode is the node with the mode set on its ports, nil when all of them have it; and how many ports there are.
func withMode(snap *model.Snapshot, n *model.Node, mode string) (*model.Node, int, error) {
	macs, err := snap.Attrs(n, []string{"net.*.mac"})
	if err != nil {
		return nil, 0, err
	}
	ports := 0
	next := *n
	next.Attrs = maps.Clone(n.Attrs)
	differs := false
	for _, v := range macs {
		if v.Value == "" {
			continue
		}
		ports++
		a := model.AttrName(strings.TrimSuffix(string(v.Name), "mac") + "mode")
		is, err := snap.Attr(n, a)
		if err != nil {
			return nil, 0, err
		}
		if is == mode {
			continue
		}
		if next.Attrs == nil {
			next.Attrs = map[model.AttrName]string{}
		}
		next.Attrs[a], differs = mode, true
	}
	if !differs {
		return nil, ports, nil
	}
	return &next, ports, nil
}

// onlyOurs refuses nodes that are only observed: what switches them, or changes their controllers, is another system's to do.
func onlyOurs(snap *model.Snapshot, verb string, names []model.NodeName) error {
	var others []model.NodeName
	for _, name := range names {
		n := snap.Node(name)
		if n == nil {
			continue
		}
		if mode, err := snap.Attr(n, "net.boot.mode"); err == nil && mode == model.ModeObserve {
			others = append(others, name)
		}
	}
	if len(others) == 0 {
		return nil
	}
	is := " is"
	if len(others) > 1 {
		is = " are"
	}
	return &api.Error{Code: api.Conflict, What: verb, Why: fold(others) + is + " only observed (net.boot.mode)", Do: "Take over what is to be yours: muster take " + fold(others)}
}
