package server

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"time"

	"muster/internal/api"
	"muster/internal/job"
	"muster/internal/model"
)

var jobs = &family[model.Job]{
	kind: model.KindJob, noun: "job",
	all:  (*model.Snapshot).Jobs,
	name: func(j *model.Job) string { return string(j.Name) },
	usedBy: func(snap *model.Snapshot, name string) string {
		var who []model.NodeName
		for n := range snap.Nodes() {
			if list, err := snap.Attr(n, "jobs"); err == nil && slices.Contains(splitNames(list), name) {
				who = append(who, n.Name)
			}
		}
		if len(who) == 0 {
			return ""
		}
		return "it is named by jobs of " + fold(who) + ", which run none of their jobs after their next start"
	},
}

// setJob is POST /v1/jobs/set.
func (s *Server) setJob(q *request) error {
	var in api.SetJob
	if err := q.read(&in); err != nil {
		return err
	}
	if p := model.CheckName(in.Name); p != nil {
		return p
	}
	if len(in.Steps) == 0 {
		return &api.Error{Code: api.Usage, What: "job set " + in.Name, Why: "it has no step", Do: "Give it scripts, or a file of steps: muster job set -h"}
	}
	if err := job.Check(stepsOf(in.Steps)); err != nil {
		return &api.Error{Code: api.Usage, What: "job set " + in.Name, Why: err.Error()}
	}
	did := "added"
	rev, err := s.commit(q.Context(), q, "job set", in.DryRun, func(snap *model.Snapshot) ([]model.Op, string, []model.Event, error) {
		if did = "added"; snap.Job(model.JobName(in.Name)) != nil {
			did = "changed"
		}
		what := fmt.Sprintf("%s job %s of %d steps", did, in.Name, len(in.Steps))
		doc := &model.Job{Name: model.JobName(in.Name), Comment: in.Comment, Steps: in.Steps}
		return []model.Op{{Kind: model.KindJob, Name: in.Name, Doc: doc}}, what, []model.Event{s.said(q, "job.set", what)}, nil
	})
	if err != nil {
		return err
	}
	return q.answer(api.Changed{Nodes: in.Name, Count: 1, Changes: []string{did + " job " + in.Name}, Revision: int64(rev), DryRun: in.DryRun})
}

func stepsOf(in []model.JobStep) []job.Step {
	out := make([]job.Step, len(in))
	for i, s := range in {
		out[i] = job.Step{Name: s.Name, Script: s.Script, Policy: job.Policy(s.Policy), Timeout: time.Duration(s.TimeoutMS) * time.Millisecond, Retries: s.Retries}
	}
	return out
}

// onlyOnce leaves names out that stand there before, and says which.
func onlyOnce(names []string) (out, twice []string) {
	for _, n := range names {
		if slices.Contains(out, n) {
			twice = append(twice, n)
		} else {
			out = append(out, n)
		}
	}
	return out, twice
}

// runJob is POST /v1/jobs/run.
func (s *Server) runJob(q *request) error {
	var in api.RunJob
	if err := q.read(&in); err != nil {
		return err
	}
	names, twice := onlyOnce(in.Jobs)
	if len(names) == 0 {
		return &api.Error{Code: api.Usage, What: "job run", Why: "no job is named", Do: "Name one: muster job list"}
	}
	var wrong []*api.Error
	for _, j := range names {
		if q.snap.Job(model.JobName(j)) == nil {
			wrong = append(wrong, jobs.unknown(q.snap, "job run", j))
		}
	}
	if err := together(wrong); err != nil {
		return err
	}
	nodes, err := q.disturbs("job run", in.Range)
	if err != nil {
		return err
	}
	up, st := s.ableToWork(q, nodes, names, twice, in.DryRun)
	if in.DryRun {
		return st.end()
	}
	id := rand.Text()
	if len(up) > 0 {
		if err := s.orderWork(q, id, up, convert[model.JobName](names)); err != nil {
			return err
		}
	}
	if in.Detach {
		for _, n := range up {
			st.line(api.JobResult{Result: api.Result{Node: string(n.Name)}, ID: id, Phase: "asked"}, false)
		}
		return st.end()
	}
	s.awaitWork(q.Context(), st, id, up)
	return st.end()
}

// ableToWork are the nodes that can run something now; of the others it says why not.
func (s *Server) ableToWork(q *request, nodes []*model.Node, jobs, twice []string, dry bool) ([]*model.Node, *stream) {
	st := q.stream(len(nodes))
	var up []*model.Node
	for _, n := range nodes {
		status := s.statusOf(q.snap, n, time.Now())
		line := api.JobResult{Result: api.Result{Node: string(n.Name)}}
		doing := s.doing(q.snap, n.Name)
		switch w := q.snap.Work(n.Name); {
		case status.Status != string(model.Up):
			line.Error = &api.Error{Code: api.Failed, What: "job run", Node: line.Node, Why: "the node is " + status.Status + ": only one that is up runs jobs", Do: "See: muster why " + line.Node}
		case doing != nil && doing.Phase == model.WorkRunning, w != nil && (doing == nil || doing.ID != w.ID) && time.Since(w.Asked) < askedLimit:
			line.Error = busy(w, doing, line.Node)
		case dry:
			line.Why = "would run " + strings.Join(jobs, ", ")
			if len(twice) > 0 {
				line.Why += " (" + strings.Join(twice, ", ") + " was named twice and runs once)"
			}
		default:
			up = append(up, n)
			continue
		}
		st.line(line, line.Error != nil)
	}
	return up, st
}

// askedLimit is how long a node may take to begin what it was told to; then it may be told something else.
const askedLimit = 2 * time.Minute

// busy names the work that is in the way.
func busy(w *model.Work, d *model.Doing, node string) *api.Error {
	e := &api.Error{Code: api.Conflict, What: "job run", Node: node, Do: "Wait for it: muster job log " + node + " --follow"}
	switch {
	case d != nil && d.Phase == model.WorkRunning:
		e.Why = fmt.Sprintf("it runs %s since %s, step %s", strings.Join(convert[string](d.Jobs), ", "), d.Began.Format(time.DateTime), d.Step)
		if w != nil && w.ID == d.ID {
			e.Why += ", for " + w.Actor
		}
	default:
		e.Why = fmt.Sprintf("%s was asked for by %s at %s, and is about to begin", strings.Join(convert[string](w.Jobs), ", "), w.Actor, w.Asked.Format(time.DateTime))
	}
	return e
}

// orderWork commits what nodes are to run, all or none.
func (s *Server) orderWork(q *request, id string, nodes []*model.Node, jobs []model.JobName) error {
	names := namesOf(nodes)
	_, err := s.commit(q.Context(), q, "job run", false, func(snap *model.Snapshot) ([]model.Op, string, []model.Event, error) {
		ops := make([]model.Op, len(names))
		for i, n := range names {
			ops[i] = model.Op{Kind: model.KindWork, Name: string(n), Doc: &model.Work{Node: n, ID: id, Jobs: jobs, Actor: q.who.Name, Asked: time.Now()}}
		}
		list := strings.Join(convert[string](jobs), ", ")
		return ops, fmt.Sprintf("asked %s (%d) to run %s", fold(names), len(names), list), perNode(names, "job.asked", "asked to run "+list, q.who.Name), nil
	})
	return err
}

// awaitWork tells what becomes of an order, each node's line when it has ended.
func (s *Server) awaitWork(ctx context.Context, st *stream, id string, nodes []*model.Node) {
	began := time.Now()
	again := time.NewTicker(200 * time.Millisecond)
	defer again.Stop()
	for pending := nodes; len(pending) > 0; {
		snap := s.store.Snapshot()
		var still []*model.Node
		for _, n := range pending {
			line, over := s.workLine(snap, n.Name, id)
			if status := s.statusOf(snap, n, time.Now()).Status; !over && (line.Phase == "asked" && time.Since(began) > askedLimit || status == "silent" || snap.Node(n.Name) == nil) {
				line.Error = &api.Error{
					Code: api.Failed, What: "job run", Node: line.Node, Why: "nothing is heard of the node; it is " + status, Do: "See: muster why " + line.Node + "; muster job log " + line.Node,
				}
				over = true
			}
			if !over {
				still = append(still, n)
				continue
			}
			st.line(line, line.Error != nil)
		}
		if pending = still; len(pending) == 0 {
			return
		}
		select {
		case <-again.C:
		case <-ctx.Done(): // the work goes on
			return
		}
	}
}

// workLine is the newest of a node's work of that order, and whether it has ended.
func (s *Server) workLine(snap *model.Snapshot, n model.NodeName, id string) (api.JobResult, bool) {
	line := api.JobResult{Result: api.Result{Node: string(n)}, ID: id, Phase: "asked"}
	d := s.doing(snap, n)
	if d == nil || d.ID != id {
		return line, false
	}
	resultOf(&line, d)
	return line, d.Phase != model.WorkRunning
}

func resultOf(line *api.JobResult, d *model.Doing) {
	line.ID, line.Phase, line.Step, line.Number, line.Steps = d.ID, string(d.Phase), d.Step, d.Number, d.Steps
	line.Why, line.Tail, line.Began, line.Ended = d.Why, d.Tail, d.Began, d.Ended
	if d.Phase == model.WorkFailed || d.Phase == model.WorkLost {
		line.Error = &api.Error{Code: api.Failed, What: "job run", Why: d.Why, Node: line.Node, Do: "See: muster job log " + line.Node}
	}
}

// jobStatus is POST /v1/jobs/status.
func (s *Server) jobStatus(q *request) error {
	var in api.JobStatus
	if err := q.read(&in); err != nil {
		return err
	}
	nodes, err := q.nodesOrAll("job status", in.Range)
	if err != nil {
		return err
	}
	st := q.stream(len(nodes))
	for _, n := range nodes {
		line := api.JobResult{Result: api.Result{Node: string(n.Name)}}
		w, d := q.snap.Work(n.Name), s.doing(q.snap, n.Name)
		switch {
		case w != nil && (d == nil || d.ID != w.ID && d.Began.Before(w.Asked)):
			line.ID, line.Phase = w.ID, "asked"
		case d != nil:
			resultOf(&line, d)
			line.Error = nil // it is known, and no answer failed
		}
		st.line(line, false)
	}
	return st.end()
}
