package api

import (
	"time"

	"muster/internal/model"
)

// Inventory is POST /v1/inventory. The parts are read from the controllers, compared with what was read before, and recorded. Kinds are kinds of parts
// (memory, disk, …) or globs of them; none is all. Streams [NodeInventory].
type Inventory struct {
	Range
	Kinds []string `json:"kinds,omitempty"`
	// Cached answers at once what is recorded, and asks no controller.
	Cached bool `json:"cached,omitempty"`
	// History answers the recorded changes, from Since on (as in [EventsQuery]), and asks no controller.
	History bool   `json:"history,omitempty"`
	Since   string `json:"since,omitempty"`
	// Accept takes the missing parts for gone: they are not missed any more.
	Accept bool `json:"accept,omitempty"`
}

// NodeInventory is what a machine is made of. Read says when the parts were read. Changes are those since the reading before, or with History all.
type NodeInventory struct {
	Result
	Read    time.Time    `json:"read,omitzero"`
	Parts   []NodePart   `json:"parts,omitempty"`
	Changes []PartChange `json:"changes,omitempty"`
	// Note is what a reader must know: that the machine was off and some parts could not be seen.
	Note string `json:"note,omitempty"`
}

// NodePart is one part. Missing says since when it is not found any more; zero: it is there.
type NodePart struct {
	model.Part
	Missing time.Time `json:"missing,omitzero"`
}

// PartChange is one change of a part. Did is added, missing, back, replaced, changed or accepted; Was and Now say of what and to what.
type PartChange struct {
	Time time.Time `json:"time"` // of the reading that found it
	Slot string    `json:"slot"`
	Did  string    `json:"did"`
	Was  string    `json:"was,omitempty"`
	Now  string    `json:"now,omitempty"`
	// Before is the time of the reading before: it happened between the two.
	Before time.Time `json:"before,omitzero"`
}

// String is the change in one line.
func (c PartChange) String() string {
	switch c.Did {
	case "added", "back":
		return c.Slot + " " + c.Did + ": " + c.Now
	case "missing", "accepted":
		return c.Slot + " " + c.Did + ": " + c.Was
	}
	return c.Slot + " " + c.Did + ": " + c.Was + " -> " + c.Now
}
