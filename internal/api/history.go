package api

import "time"

// History is POST /v1/history: who changed what when, oldest first. Nodes that are gone are found by name, too. Streams [ChangeInfo].
type History struct {
	Range
	// Kind says what Range names: "node" (the default), "group", "network", "user", "role" or "image"; of these, names with commas
	// between them.
	Kind  string `json:"kind,omitempty"`
	Since string `json:"since,omitempty"` // a duration back ("10m") or an RFC 3339 time
	Limit int    `json:"limit,omitempty"` // the newest so many; 0 is 100
}

// Audit is POST /v1/audit: every change of the record, oldest first. Streams [ChangeInfo] without fields.
type Audit struct {
	Actor string `json:"actor,omitempty"` // name or glob
	Verb  string `json:"verb,omitempty"`  // name or glob
	Since string `json:"since,omitempty"`
	Limit int    `json:"limit,omitempty"` // the newest so many; 0 is 100
}

// ChangeInfo is one change: its number is the store's revision. No secret is in it.
type ChangeInfo struct {
	Change  int64     `json:"change"`
	Time    time.Time `json:"time"`
	Actor   string    `json:"actor"`
	Verb    string    `json:"verb"`
	Request string    `json:"request,omitempty"`
	What    string    `json:"what,omitempty"`
	// Fields of the documents that were asked for.
	Fields []FieldChange `json:"fields,omitempty"`
}

// FieldChange is what a change did to one field; Field is empty when the whole document was added or removed.
type FieldChange struct {
	Kind  string `json:"kind"`
	Name  string `json:"name"`
	Field string `json:"field,omitempty"`
	Was   string `json:"was,omitempty"`
	Now   string `json:"now,omitempty"`
	Did   string `json:"did,omitempty"` // "added", "removed"; "" for a change
}

// Undo is POST /v1/undo: takes a change back by a new one, or says what was changed since. Answers [Changed].
type Undo struct {
	Change   int64 `json:"change"`
	DryRun   bool  `json:"dry_run,omitempty"`
	MaxNodes int   `json:"max_nodes,omitempty"` // refuses a change of more nodes; 0 is no limit
}
