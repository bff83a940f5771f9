package api

import (
	"time"

	"muster/internal/model"
)

// The headers of the API's own.
const (
	// RevisionHeader of every answer is the revision of the store that it was answered from; of a change, the one that it made.
	RevisionHeader = "Muster-Revision"
	// AtLeastHeader of a request asks for an answer from that revision or a newer one: a client that sends the largest it has seen reads
	// its own writes on every manager.
	AtLeastHeader = "Muster-At-Least"
	// StaleHeader of an answer says since when (RFC 3339) the manager is cut off from the majority: what it says may be old.
	StaleHeader = "Muster-Stale"
)

// Condition is the revision that the sender of a request has seen, 0 when it does not say.
func (r *Range) Condition() int64 { return r.IfRevision }

// Condition is the revision that the sender of a request has seen, 0 when it does not say.
func (g *GroupAction) Condition() int64 { return g.IfRevision }

// NodeQuery is GET /v1/nodes/{name}. Answers [Node].
type NodeQuery struct {
	// Attrs are names or globs of attributes; with them the document has these attributes and, without Fields, nothing else.
	Attrs []string `json:"attrs,omitempty"`
	// Fields are aliases, groups, lock, created, revision, attrs; none is all, or attrs alone where Attrs are given.
	Fields []string `json:"fields,omitempty"`
	// Blame says of each attribute where its value comes from.
	Blame bool `json:"blame,omitempty"`
}

// NodesQuery is GET /v1/nodes. Answers [Nodes] or, to Accept: application/x-ndjson, streams [Node] lines.
type NodesQuery struct {
	// Range is a noderange; empty is all nodes.
	Range string `json:"range,omitempty"`
	NodeQuery
	// Limit is how many nodes a page has, 1,000 if it is not given, and 10,000 at most. A stream has no limit if none is given.
	Limit int `json:"limit,omitempty"`
	// After is the name after which the page begins: Next of the page before.
	After string `json:"after,omitempty"`
}

// Node is one node: what is written of it, and the effective values of its attributes. Only what was asked for is there.
type Node struct {
	Name    string   `json:"name"`
	Aliases []string `json:"aliases,omitempty"`
	// Groups are those that the node lists, in their order.
	Groups  []string    `json:"groups,omitempty"`
	Lock    *model.Lock `json:"lock,omitempty"`
	Created time.Time   `json:"created,omitzero"`
	// Revision is that of the last change of the node itself.
	Revision int64 `json:"revision,omitempty"`
	Attrs    Attrs `json:"attrs,omitempty"`
	// Blame says by attribute where its value comes from.
	Blame map[string]Origin `json:"blame,omitempty"`
	// Error says which attributes cannot be worked out, and why.
	Error *Error `json:"error,omitempty"`
}

// Attrs are effective values by the names of their attributes. A secret that is set is "********", what is not set is "".
type Attrs map[string]string

// Origin says where a value comes from.
type Origin struct {
	From    string `json:"from"`              // "node", "group compute", "default"; "" when nothing is set
	Written string `json:"written,omitempty"` // the expression, where the value was worked out from one
}

// Nodes is a page of nodes in the natural order of their names.
type Nodes struct {
	Nodes []Node `json:"nodes"`
	// Total is how many nodes there are in the range.
	Total int `json:"total"`
	// Next is the After of the next page, empty on the last one. A page begins behind a name, so nodes that come or go between two
	// pages neither hide nor repeat another.
	Next     string `json:"next,omitempty"`
	Revision int64  `json:"revision"`
}

// AttributesQuery is GET /v1/attributes. Answers [AttrDoc] documents.
type AttributesQuery struct {
	Glob string `json:"glob,omitempty"` // only these, such as "net.*.mac"
}

// EventsQuery is GET /v1/events. Streams model.Event lines and, without Follow, a trailer; to Accept: text/event-stream it
// sends server-sent events, whose id is the sequence number to go on from (Last-Event-ID).
type EventsQuery struct {
	Range  string `json:"range,omitempty"`  // noderange; empty is everything, also what is about no node
	Known  bool   `json:"known,omitempty"`  // skip unknown nodes instead of refusing
	Since  string `json:"since,omitempty"`  // a duration back ("10m") or an RFC 3339 time
	After  int64  `json:"after,omitempty"`  // a sequence number to go on from
	Limit  int    `json:"limit,omitempty"`  // only the newest; 0 is no limit
	Bad    bool   `json:"bad,omitempty"`    // only what a person should look at
	Follow bool   `json:"follow,omitempty"` // go on with what happens from now on
}

// EventGap is the data of a server-sent event "gap": events after After and before Oldest are no longer kept. Read again what
// they would have told of.
type EventGap struct {
	After  int64  `json:"after"`
	Oldest int64  `json:"oldest"`
	Do     string `json:"do"`
}

// WatchQuery is GET /v1/watch: server-sent events, one "change" ([Watched]) for what was committed, and "reread" ([Reread]) where
// that is not known any more. The id of an event is its revision.
type WatchQuery struct {
	// Since is the revision after which to begin: that of the documents that were read. 0 is now; Last-Event-ID goes before it.
	Since int64    `json:"since,omitempty"`
	Kinds []string `json:"kinds,omitempty"` // node, group, network, user, role; none is all
}

// Watched says which documents were changed, up to a revision.
type Watched struct {
	Revision int64     `json:"revision"`
	Changed  []Touched `json:"changed"`
}

// Touched is one document that was changed.
type Touched struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
	Did  string `json:"did"` // "added", "changed", "removed"
}

// Reread tells a watcher to read again what it keeps, and to go on from the revision.
type Reread struct {
	Revision int64  `json:"revision"`
	Why      string `json:"why"`
}

// CopyFiles is POST /v1/copy; the body is a tar stream made by the client, and is unpacked under Dest on every node. Streams
// [CopyResult].
type CopyFiles struct {
	Range
	Dest string `json:"dest"`
}

// ConsoleLog is GET /v1/console/{node}/log: plain bytes as recorded, or, with Replay, [ConsoleChunk] lines without a trailer.
type ConsoleLog struct {
	Since  string `json:"since,omitempty"`  // as in [EventsQuery]
	Until  string `json:"until,omitempty"`  // the same: nothing that came then or later
	Tail   int    `json:"tail,omitempty"`   // only the last lines
	Grep   string `json:"grep,omitempty"`   // only lines that match this regular expression (RE2), without their escape sequences; tail counts these
	Times  bool   `json:"times,omitempty"`  // with the time before each line
	Replay bool   `json:"replay,omitempty"` // with the times of the pieces
}

// ConsoleAttach is GET /v1/console/{node}/attach, a web socket: binary messages carry bytes both ways, text messages carry
// [ConsoleControl]. First comes the screen as it is, for a terminal that was just made, then what the machine prints. Take makes a writer of somebody who does not ask for
// write, too. A page of another origin is refused.
type ConsoleAttach struct {
	Write bool `json:"write,omitempty"`
	Take  bool `json:"take,omitempty"` // the right to write, from whoever has it
	Cols  int  `json:"cols,omitempty"` // of the watcher's screen
	Rows  int  `json:"rows,omitempty"`
}
