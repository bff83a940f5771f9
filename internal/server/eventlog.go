package server

import (
	"context"
	"fmt"
	"strings"
	"time"

	"muster/internal/api"
	"muster/internal/bmc"
	"muster/internal/model"
)

func (s *Server) eventLog(q *request) error {
	var in api.EventLog
	if err := q.read(&in); err != nil {
		return err
	}
	if in.Last < 0 {
		return &api.Error{Code: api.Usage, What: "eventlog", Why: fmt.Sprintf("%d entries cannot be the last", in.Last)}
	}
	from, err := since(in.Since, time.Now())
	if err != nil {
		return err
	}
	verb, reach := "eventlog list", q.nodes
	if in.Clear {
		verb, reach = "eventlog clear", q.disturbs
	}
	nodes, err := reach(verb, in.Range)
	if err != nil {
		return err
	}
	return controllers(s, q, in.Range, nodes, strings.TrimSuffix(verb, " list"), readTime, func(l *api.NodeEventLog) *api.Result { return &l.Result },
		func(ctx context.Context, n *model.Node, d bmc.Driver, out *api.NodeEventLog) error {
			all, err := d.EventLog(ctx)
			if err != nil {
				return err
			}
			out.Entries = []model.LogEntry{}
			for _, e := range all {
				if from.IsZero() || !e.Time.Before(from) {
					out.Entries = append(out.Entries, e)
				}
			}
			if in.Last > 0 && len(out.Entries) > in.Last {
				out.Entries = out.Entries[len(out.Entries)-in.Last:]
			}
			if !in.Clear || in.DryRun {
				return nil
			}
			count := len(all)
			err = s.changing(q, n.Name, "eventlog.clear", fmt.Sprintf("event log of the BMC cleared, it had %d entries", count), func() error { return d.ClearEventLog(ctx) })
			if err == nil {
				out.Cleared = &count
			}
			return err
		})
}
