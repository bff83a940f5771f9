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

// RotateSecrets is POST /v1/secret/rotate: seals every secret anew under a fresh data key. With Forget the data keys are thrown away that
// were retired more than ten minutes ago and that nothing is under: what history holds of old secrets cannot be opened any more. Answers [Changed].
type RotateSecrets struct {
	Forget bool `json:"forget,omitempty"`
	DryRun bool `json:"dry_run,omitempty"`
}

// ChangeSiteKey is POST /v1/secret/site-key: makes a new site key and puts the data keys under it. All managers learn it, and each keeps it
// locked as before; By says what unlocks it from now on on the manager that is asked, which then has to be started with that. Answers
// [Changed], whose Count is that of the data keys.
type ChangeSiteKey struct {
	By         string       `json:"by,omitempty"`         // "key": it lies readable in the data directory; "file", "passphrase"; empty is as before
	File       string       `json:"file,omitempty"`       // of "file": the path, on the manager's host
	Passphrase *SecretValue `json:"passphrase,omitempty"` // of "passphrase"
	DryRun     bool         `json:"dry_run,omitempty"`
}
