package api

import (
	"time"

	"muster/internal/job"
	"muster/internal/model"
)

// SetJob is POST /v1/jobs/set: it makes a job, or gives one other steps. Answers [Changed].
type SetJob struct {
	Name    string          `json:"name"`
	Comment string          `json:"comment,omitempty"`
	Steps   []model.JobStep `json:"steps"`
	DryRun  bool            `json:"dry_run,omitempty"`
}

// RunJob is POST /v1/jobs/run: nodes that are up run jobs, one after the other. A job that is named twice runs once. Streams [JobResult]: with Detach at once, else each
// node's when it has ended. A client that goes away does not end the work.
type RunJob struct {
	Range
	Jobs   []string `json:"jobs"`
	Detach bool     `json:"detach,omitempty"`
}

// JobResult is what became of the work of one node. Phase is "asked" for a node that has not begun.
type JobResult struct {
	Result
	ID     string    `json:"id,omitempty"`
	Phase  string    `json:"phase,omitempty"`
	Step   string    `json:"step,omitempty"` // the one that runs or failed, as "job/step"
	Number int       `json:"number,omitempty"`
	Steps  int       `json:"steps,omitempty"`
	Why    string    `json:"why,omitempty"`
	Tail   string    `json:"tail,omitempty"` // the last that was printed
	Began  time.Time `json:"began,omitzero"`
	Ended  time.Time `json:"ended,omitzero"`
}

// JobStatus is POST /v1/jobs/status: the newest work of nodes. Streams [JobResult].
type JobStatus struct{ Range }

// JobLog is GET /v1/jobs/log/{node}: what the node's newest work told, or that of an ID. Streams [JobLine].
type JobLog struct {
	ID     string `json:"id,omitempty"`
	Follow bool   `json:"follow,omitempty"` // until the work has ended
}

// JobLine is an event of a step, or a note.
type JobLine struct {
	Time time.Time `json:"time"`
	Job  string    `json:"job"`
	job.Event
	Note string `json:"note,omitempty"` // in place of an event
}

// AskWork is POST /v1/node/work, of a node that is up: what is there to do? It is answered when there is something, or after half a minute.
type AskWork struct {
	BootID string `json:"boot_id"`
	// Last is the ID of what the node did last since it started; empty: nothing yet.
	Last string `json:"last,omitempty"`
}

// WorkToDo is what a node is to do; an empty ID is nothing.
type WorkToDo struct {
	ID    string            `json:"id,omitempty"`
	Jobs  []JobToDo         `json:"jobs,omitempty"`
	Attrs map[string]string `json:"attrs,omitempty"` // of the node, without secrets
}

// JobToDo is one job with its steps.
type JobToDo struct {
	Name  string     `json:"name"`
	Steps []job.Step `json:"steps"`
}

// TellWork is POST /v1/node/told: what a node says of the work under way, in the order of Seq, the number of the first line. Lines that are there already
// are left out, so a node may say them again when it got no answer.
type TellWork struct {
	ID    string    `json:"id"`
	Seq   int64     `json:"seq"`
	Lines []JobLine `json:"lines,omitempty"`
	// Ended says that the work is over: Why is empty when all of it ended well.
	Ended bool   `json:"ended,omitempty"`
	Why   string `json:"why,omitempty"`
}
