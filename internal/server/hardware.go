package server

import (
	"context"
	"path"
	"slices"
	"time"

	"muster/internal/api"
	"muster/internal/bmc"
	"muster/internal/model"
)

// readTime is how long one BMC may take to read out what it keeps: many give a few records a second.
const readTime = 2 * time.Minute

// controllers does the work on the BMC of every node and streams a line as each has done it. of is the part of a line that all have.
func controllers[T any](s *Server, q *request, rg api.Range, nodes []*model.Node, verb string, limit time.Duration,
	of func(*T) *api.Result, work func(context.Context, *model.Node, bmc.Driver, *T) error,
) error {
	return each(q, rg, nodes, powerFanout, limit, func(ctx context.Context, n *model.Node) (T, *api.Error) {
		var out T
		r := of(&out)
		r.Node = string(n.Name)
		d, err := s.driver(q.snap, n)
		if err == nil {
			defer d.Close()
			err = work(ctx, n, d, &out)
		}
		if err != nil {
			r.Error = bmcProblem(n.Name, verb, err)
		}
		return out, r.Error
	})
}

// changing does something to a machine or its BMC, and tells of it: before it happens, as what follows comes after it on the timeline.
func (s *Server) changing(q *request, n model.NodeName, step, what string, do func() error) error {
	e := about(n, step, what)
	e.Actor = q.who.Name
	s.tell(e)
	err := do()
	if err != nil {
		s.didNot(q, n, step, what, bmcProblem(n, what, err))
	}
	return err
}

// didNot tells that something that was asked for did not work.
func (s *Server) didNot(q *request, n model.NodeName, step, what string, err *api.Error) {
	e := about(n, step, what+" did not work")
	e.Reason, e.Actor, e.Bad = err.Why, q.who.Name, true
	s.tell(e)
}

// checkGlobs refuses globs that match nothing ever.
func checkGlobs(verb string, globs []string) error {
	for _, g := range globs {
		if _, err := path.Match(g, ""); err != nil {
			return &api.Error{Code: api.Usage, What: verb, Why: "the pattern " + g + " is wrong", Do: "Write *, ? and [a-z] as in names of files"}
		}
	}
	return nil
}

// globbed says that a name is among the globs; without any, all are.
func globbed(globs []string, name string) bool {
	return len(globs) == 0 || slices.ContainsFunc(globs, func(g string) bool { ok, _ := path.Match(g, name); return ok || g == name })
}
