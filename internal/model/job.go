package model

import "time"

// JobName names a job.
type JobName string

// Job is a list of steps that run on nodes, one after the other (see the room job for what a step may and may not).
type Job struct {
	Name     JobName   `json:"name"`
	Comment  string    `json:"comment,omitempty"`
	Steps    []JobStep `json:"steps"`
	Revision Revision  `json:"-"`
}

// JobStep is one script of a job. Policy is always (empty means that), once, change or boot.
type JobStep struct {
	Name      string `json:"name"`
	Script    string `json:"script"` // begins with #!, or is for sh
	Policy    string `json:"policy,omitempty"`
	TimeoutMS int64  `json:"timeout_ms,omitempty"` // of one attempt; zero is the room's default
	Retries   int    `json:"retries,omitempty"`
}

// Work is what a node was last told to run, on demand. The newest takes the place of the one before.
type Work struct {
	Node     NodeName  `json:"node"`
	ID       string    `json:"id"` // of the order, which may be for many nodes
	Jobs     []JobName `json:"jobs"`
	Actor    string    `json:"actor"`
	Asked    time.Time `json:"asked"`
	Revision Revision  `json:"-"`
}

// WorkPhase is how far work is.
type WorkPhase string

// The phases of work. Lost is work of which nothing is known any more: the node was started again meanwhile, or was silent for too long.
const (
	WorkRunning WorkPhase = "running"
	WorkDone    WorkPhase = "done"
	WorkFailed  WorkPhase = "failed"
	WorkLost    WorkPhase = "lost"
)

// Doing is what is known of the work that a node began last.
type Doing struct {
	ID      string      `json:"id"` // of the Work; "boot-…" for what it does after each start
	Jobs    []JobName   `json:"jobs"`
	Phase   WorkPhase   `json:"phase"`
	Step    string      `json:"step,omitempty"` // the one that runs or failed, as "job/step"
	Number  int         `json:"number"`         // of that step, from 1 on
	Steps   int         `json:"steps"`          // of all jobs
	Why     string      `json:"why,omitempty"`
	Tail    string      `json:"tail,omitempty"` // the last that was printed
	Began   time.Time   `json:"began"`
	Ended   time.Time   `json:"ended,omitzero"`
	BootID  string      `json:"boot_id"`
	Manager ManagerName `json:"manager"` // which has the whole output
}
