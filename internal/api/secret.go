package api

// Reveal is POST /v1/secret/reveal: shows secrets of nodes, or of a group as written on it. Each is on the audit trail before it is shown.
// Streams [Revealed].
type Reveal struct {
	Range
	Group bool   `json:"group,omitempty"` // Range names a group
	Attr  string `json:"attr"`
}

// Revealed is a secret in readable form: the only answer that has one.
type Revealed struct {
	Result
	Attr  string `json:"attr"`
	Plain string `json:"plain"`
	From  string `json:"from,omitempty"`
}

// RotateSecrets is POST /v1/secret/rotate: seals every secret anew under a fresh data key. With Forget those that were not in use for ten minutes are
// thrown away: what history holds of old secrets cannot be opened any more. Answers [Changed].
type RotateSecrets struct {
	Forget bool `json:"forget,omitempty"`
	DryRun bool `json:"dry_run,omitempty"`
}
