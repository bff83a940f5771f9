package api

import (
	"encoding/json"
	"time"
)

// AddManager is POST /v1/managers/add: invites a manager of that name into the pool. Answers [Invitation].
type AddManager struct {
	Name   string `json:"name"`
	DryRun bool   `json:"dry_run,omitempty"`
}

// Invitation holds the one-time join string for muster serve --join.
type Invitation struct {
	Name    string    `json:"name"`
	Join    string    `json:"join"`
	Expires time.Time `json:"expires"`
}

// RemoveManager is POST /v1/managers/remove. Force removes one without which the pool has no majority of live
// managers left at the moment. Answers [Changed].
type RemoveManager struct {
	Name   string `json:"name"`
	Force  bool   `json:"force,omitempty"`
	DryRun bool   `json:"dry_run,omitempty"`
}

// ManagerInfo is one line of GET /v1/managers (an array).
type ManagerInfo struct {
	Name      string    `json:"name"`
	Addresses []string  `json:"addresses,omitempty"`
	Role      string    `json:"role"`               // "leader", "follower", "learner", "invited", "equal" (external etcd)
	State     string    `json:"state"`              // "alive", "silent", or "-" when invited
	Self      bool      `json:"self,omitempty"`     // the one that answers
	Stale     time.Time `json:"stale,omitzero"`     // since when it has had no majority, as far as it says
	Revision  int64     `json:"revision,omitempty"` // of its snapshot; 0 when it did not answer
	Version   string    `json:"version,omitempty"`
	Why       string    `json:"why,omitempty"` // why it did not answer
}

// JoinManager is POST /v1/managers/join, of a manager that was invited. CSR is a PEM certificate request; Addresses are those of its
// API, "host:port", the first one for the other managers. Answers [Joined].
type JoinManager struct {
	Name      string   `json:"name"`
	Token     string   `json:"token"`
	CSR       string   `json:"csr"`
	Addresses []string `json:"addresses"`
	Schema    int      `json:"schema"`
	Member    string   `json:"member,omitempty"` // the place that it was given before, where it has begun to fill it
	Version   string   `json:"version"`
}

// Joined is what a new manager needs: the keys that all managers share (a PEM bundle; it goes over TLS to a
// caller who proved the token), and its place in the pool.
type Joined struct {
	Keys   []byte          `json:"keys"`
	Member json.RawMessage `json:"member"` // store.Join
}
