package api

import "muster/internal/model"

// EventLog is POST /v1/eventlog: the log of hardware events that the controller keeps. Last is how many of the newest entries are wanted, 0 all;
// Since as in [EventsQuery] (entries without a time are left out then). Clear empties the log after it was read, all of it. Streams [NodeEventLog].
type EventLog struct {
	Range
	Last  int    `json:"last,omitempty"`
	Since string `json:"since,omitempty"`
	Clear bool   `json:"clear,omitempty"`
}

// NodeEventLog holds entries, oldest first. Cleared is how many the log had when it was emptied.
type NodeEventLog struct {
	Result
	Entries []model.LogEntry `json:"entries"`
	Cleared *int             `json:"cleared,omitempty"`
}
