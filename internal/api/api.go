// Package api is what the service and its clients say to each other: documents, errors, streams and the Go client.
//
// Every verb is one POST or GET under /v1 with JSON. A verb over a noderange answers one JSON line for each node as it
// completes and ends with a [Trailer]; a stream without its trailer was cut and is an error, never a short list.
package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

// Code says what kind of error it is; programs decide by it, never by the text.
type Code string

// The codes and the exit status that the command line makes of them.
const (
	Usage       Code = "usage"       // 2: the request itself is wrong
	Unknown     Code = "unknown"     // 2: something named in the request does not exist
	Failed      Code = "failed"      // 1: it was tried and did not work
	Conflict    Code = "conflict"    // 1: another writer was first, or the state does not allow it
	Minority    Code = "minority"    // 1: this manager is cut off from the majority; nothing was done
	Unreachable Code = "unreachable" // 3: the service does not answer
	Denied      Code = "denied"      // 4: not allowed
)

// Error says what happened, why, and what to do about it. It is the same on the command line, in JSON and on a page.
type Error struct {
	Code Code   `json:"code"`
	What string `json:"what"`          // "power on", "node add"
	Why  string `json:"why,omitempty"` // "BMC 10.1.7.7 refused user admin"
	Do   string `json:"do,omitempty"`  // "Set bmc.password for group rack1, then: muster power r1n07 status"
	Node string `json:"node,omitempty"`
	Line int    `json:"line,omitempty"` // of a file, where it is about one
	// More holds the other problems of the same input: all are reported at once.
	More []*Error `json:"more,omitempty"`
}

func (e *Error) Error() string {
	var b strings.Builder
	e.write(&b)
	for _, m := range e.More {
		b.WriteString("\n")
		m.write(&b)
	}
	return b.String()
}

func (e *Error) write(b *strings.Builder) {
	if e.Line > 0 {
		fmt.Fprintf(b, "line %d: ", e.Line)
	}
	if e.Node != "" {
		fmt.Fprintf(b, "%s: ", e.Node)
	}
	b.WriteString(e.What)
	if e.Why != "" {
		fmt.Fprintf(b, ": %s", e.Why)
	}
	if e.Do != "" {
		fmt.Fprintf(b, ". %s", e.Do)
	}
}

// Status is the HTTP status that carries the error.
func (e *Error) Status() int {
	switch e.Code {
	case Usage:
		return http.StatusBadRequest
	case Unknown:
		return http.StatusNotFound
	case Denied:
		return http.StatusForbidden
	case Conflict:
		return http.StatusConflict
	case Unreachable:
		return http.StatusBadGateway
	case Minority:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// Exit is the exit status of a command that ends with the error.
func (e *Error) Exit() int {
	switch e.Code {
	case Usage, Unknown:
		return 2
	case Unreachable:
		return 3
	case Denied:
		return 4
	}
	return 1
}

// Trailer ends every stream. Asked = answered + failed unless the caller's time ran out.
type Trailer struct {
	Asked    int  `json:"asked"`
	Answered int  `json:"answered"`
	Failed   int  `json:"failed"`
	Trailer  bool `json:"trailer"` // always true: tells the trailer from a line
	// Revision is the store's revision after the request, where it changed something.
	Revision int64 `json:"revision,omitempty"`
	// Skipped are the names, folded, that the range has and nothing is known of, where the request took only those known.
	Skipped string `json:"skipped,omitempty"`
	// Error is set when the stream as a whole failed after it had begun.
	Error *Error `json:"error,omitempty"`
}

// Result is embedded in every line of a stream: which node, and its error where it failed.
type Result struct {
	Node  string `json:"node"`
	Error *Error `json:"error,omitempty"`
}

// Range is embedded in every request over nodes.
type Range struct {
	Range  string `json:"range"`
	Known  bool   `json:"known,omitempty"`   // skip unknown nodes instead of refusing
	DryRun bool   `json:"dry_run,omitempty"` // say what would change, change nothing
	// MaxNodes refuses a request that touches more nodes; 0 is no limit.
	MaxNodes int `json:"max_nodes,omitempty"`
	// Fanout limits how many nodes are worked on at once; 0 is the service's default.
	Fanout int `json:"fanout,omitempty"`
	// TimeoutMS ends the work on one node, in milliseconds; 0 is the verb's default.
	TimeoutMS int64 `json:"timeout_ms,omitempty"`
	// IfRevision refuses a change of a document that is newer: the revision that the sender has seen. 0 takes any.
	IfRevision int64 `json:"if_revision,omitempty"`
}

// Raw is one undecoded line of a stream.
type Raw = json.RawMessage
