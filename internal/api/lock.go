package api

// LockNodes is POST /v1/lock. A node that somebody else has locked is refused. Answers [Changed].
type LockNodes struct {
	Range
	Reason string `json:"reason,omitempty"`
	ForMS  int64  `json:"for_ms,omitempty"` // how long, in milliseconds; 0: until it is unlocked
}

// UnlockNodes is POST /v1/unlock. The lock of somebody else is refused unless Force is set. Answers [Changed].
type UnlockNodes struct {
	Range
	Force bool `json:"force,omitempty"`
}
