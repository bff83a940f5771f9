package noderange

import (
	"fmt"
	"iter"
	"slices"
	"strings"
	"unicode"
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

// Caret shows where in the expression the error is: a line of it, and below an arrow. "" when that is not known.
func (e *Error) Caret(expr string) string {
	const before, after = 40, 30 // letters shown on both sides
	at := e.Column - 1
	if at < 0 || at > len(expr) {
		return ""
	}
	left, right := []rune(expr[:at]), []rune(expr[at:])
	if len(left) > before {
		left = append([]rune("…"), left[len(left)-before:]...)
	}
	if len(right) > after {
		right = append(right[:after:after], '…')
	}
	line := strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, string(left)+string(right))
	return "  " + line + "\n  " + strings.Repeat(" ", len(left)) + "^"
}

// nearest finds what unknown names were meant to be: of as many as can be looked for at once.
func (e *evaluation) nearest() {
	const comparisons = 2_000_000
	told := max(10, comparisons/(1+len(e.names.names)))
	for i := range min(told, len(e.unknown)) {
		u := &e.unknown[i]
		u.Near = Nearest(u.Name, func(yield func(string) bool) {
			for _, names := range []iter.Seq[string]{e.world.Groups(), slices.Values(e.names.names), e.world.Aliases()} {
				for n := range names {
					if !yield(n) {
						return
					}
				}
			}
		})
	}
}

// refusal makes one error of all unknown names.
func (e *evaluation) refusal() *Error {
	const most = 10 // hints
	names := make([]string, len(e.unknown))
	var nears []string
	meant := map[string][]string{}
	for i, u := range e.unknown {
		names[i] = u.Name
		if u.Near == "" {
			continue
		}
		if meant[u.Near] == nil {
			nears = append(nears, u.Near)
		}
		meant[u.Near] = append(meant[u.Near], u.Name)
	}
	var hints []string
	for _, n := range nears[:min(most, len(nears))] {
		hints = append(hints, n+" for "+Fold(meant[n]))
	}
	r := &Error{Column: e.unknown[0].Column, Unknown: e.unknown}
	if len(names) == 1 {
		r.What = "no node or group " + names[0]
		if near := e.unknown[0].Near; near != "" {
			r.Do = "Did you mean " + near + "?"
		}
		return r
	}
	r.What = fmt.Sprintf("%d names are neither node nor group", len(names)+e.more)
	r.Why = Fold(names)
	if len(hints) > 0 {
		r.Do = "Did you mean " + strings.Join(hints, ", ") + "?"
	}
	return r
}
