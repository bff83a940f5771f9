package noderange

import (
	"fmt"
	"strings"
)

// Error refuses an expression: what is wrong at which column (1 is the first byte), why, and what to do.
type Error struct {
	Column  int
	What    string
	Why     string
	Do      string
	Unknown []Unknown // every name that does not exist, where that is the reason
}

// Unknown is a name that is neither a node nor a group, and the name that was probably meant ("" when none is near).
type Unknown struct {
	Name   string
	Near   string
	Column int
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("noderange")
	if e.Column > 0 {
		fmt.Fprintf(&b, ", column %d", e.Column)
	}
	b.WriteString(": " + e.What)
	if e.Why != "" {
		b.WriteString(": " + e.Why)
	}
	if e.Do != "" {
		b.WriteString(". " + e.Do)
	}
	return b.String()
}

func fail(column int, what, why, do string) *Error {
	return &Error{Column: column, What: what, Why: why, Do: do}
}

// nearest finds what the first few unknown names were meant to be; a person does not read more.
func (e *evaluation) nearest() {
	const told = 10
	for i := range min(told, len(e.unknown)) {
		u := &e.unknown[i]
		u.Near = Nearest(u.Name, func(yield func(string) bool) {
			for g := range e.world.Groups() {
				if !yield(g) {
					return
				}
			}
			for _, n := range e.names.names {
				if !yield(n) {
					return
				}
			}
		})
	}
}

// refusal makes one error of all unknown names.
func (e *evaluation) refusal() *Error {
	names := make([]string, len(e.unknown))
	var hints []string
	for i, u := range e.unknown {
		names[i] = u.Name
		if u.Near != "" && len(hints) < 3 {
			hints = append(hints, u.Near+" for "+u.Name)
		}
	}
	r := &Error{Column: e.unknown[0].Column, Unknown: e.unknown}
	if len(names) == 1 {
		r.What = "no node or group " + names[0]
		if near := e.unknown[0].Near; near != "" {
			r.Do = "Did you mean " + near + "?"
		}
		return r
	}
	r.What = fmt.Sprintf("%d names are neither node nor group", len(names))
	r.Why = Fold(names)
	if len(hints) > 0 {
		r.Do = "Did you mean " + strings.Join(hints, ", ") + "?"
	}
	return r
}
