package server

import (
	"context"
	"time"

	"muster/internal/api"
	"muster/internal/bmc"
	"muster/internal/model"
)

// identify lights locators. Locks do not hold it back: it changes nothing of a machine, and shows where the one is that somebody works at.
func (s *Server) identify(q *request) error {
	var in api.Identify
	if err := q.read(&in); err != nil {
		return err
	}
	if in.ForMS < 0 || in.ForMS > 0 && !in.On {
		return &api.Error{Code: api.Usage, What: "identify", Why: "a time is for the light being on, and longer than nothing", Do: "Give on and a time as 10m"}
	}
	what := "identify off"
	if in.On {
		what = "identify on"
	}
	nodes, err := q.nodes(what, in.Range)
	if err != nil {
		return err
	}
	last := time.Duration(in.ForMS) * time.Millisecond
	return controllers(s, q, in.Range, nodes, what, powerTime, func(l *api.IdentifyResult) *api.Result { return &l.Result },
		func(ctx context.Context, n *model.Node, d bmc.Driver, out *api.IdentifyResult) error {
			out.On = in.On
			if in.DryRun {
				return nil
			}
			return s.changing(q, n.Name, "identify", what, func() error { return d.Identify(ctx, in.On, last) })
		})
}
