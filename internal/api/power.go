package api

import "time"

// Power is POST /v1/power. Action is status, on, off, softoff, cycle, reset or diag. Streams [PowerResult].
//
// Nodes are switched on after those that their power.after names, and power.delay later; they are switched off before these. Each node's time begins
// when it is its turn.
type Power struct {
	Range
	Action string `json:"action"`
	// Wait answers only when the BMC reports the state asked for.
	Wait bool `json:"wait,omitempty"`
	// Cached answers a status at once with what was seen last, and asks no BMC.
	Cached bool `json:"cached,omitempty"`
	// NoOrder leaves power.after and power.delay out of account.
	NoOrder bool `json:"no_order,omitempty"`
}

// PowerResult is the state as the BMC reported it, and for actions what was done: "on", "off"; "on (was off)".
type PowerResult struct {
	Result
	State string `json:"state"`
	Was   string `json:"was,omitempty"`
	// Seen says when a cached state was seen.
	Seen time.Time `json:"seen,omitzero"`
	// Turn, of a dry run, is when it is the node's turn: 1 for the first; 0 where there is no order. After are the nodes that it waits for, folded.
	Turn    int    `json:"turn,omitempty"`
	After   string `json:"after,omitempty"`
	DelayMS int64  `json:"delay_ms,omitempty"`
}
