package java

import (
	"errors"
	"slices"
	"strings"
	"unicode/utf8"
)

// ErrUndefined is a variable that [Substitute] was not given.
var ErrUndefined = errors.New("undefined variable")

// A CycleError is a variable that contains itself; its text is that of the IllegalStateException of StrSubstitutor.
type CycleError struct {
	Text  string   // of the outermost variable
	Names []string // from there on
}

func (e *CycleError) Error() string {
	return "Infinite loop in property interpolation of " + e.Text + ": " + strings.Join(e.Names, "->")
}

// substituteLimit bounds the bytes that Substitute works on: variables that contain others twice grow without bound.
const substituteLimit = 1 << 28

// ErrTooLong is a text that grows beyond what is sensible.
var ErrTooLong = errors.New("the text grows beyond 256 MiB; take out the variables that contain each other many times")

// Substitute replaces ${name} in s by what look gives, and again in that, as StrSubstitutor of Apache Commons Lang 3 does: $${name}
// is left as ${name}, ${name:-other} looks for name and would take other. Errors are [ErrUndefined] when look does not know
// a name, which ends it at once, a [*CycleError], or [ErrTooLong].
func Substitute(s string, look func(name string) (string, bool)) (string, error) {
	x := substitution{look: look}
	return x.text(s)
}

type substitution struct {
	look func(string) (string, bool)
	open []string // the outermost text, and the variables on the way to here
	size int
}

func (x *substitution) text(s string) (string, error) {
	if x.size += len(s); x.size > substituteLimit {
		return "", ErrTooLong
	}
	var done []byte
	dropped := 0
	for {
		i := strings.Index(s, "${")
		if i < 0 {
			break
		}
		done = append(done, s[:i]...)
		if n := len(done); n > 0 && done[n-1] == '$' { // one $ is dropped, and what follows is looked at from the { on
			s = s[i+1:]
			dropped++
			continue
		}
		n := strings.IndexByte(s[i:], '}')
		if n < 0 {
			s = s[i:]
			break
		}
		if len(x.open) == 0 { // Java takes this from its buffer, in which the last character was moved along
			_, last := utf8.DecodeLastRuneInString(s)
			x.open = []string{string(done) + s[i:] + strings.Repeat(s[len(s)-last:], dropped)}
		}
		value, err := x.variable(s[i+len("${") : i+n])
		if err != nil {
			return "", err
		}
		done = append(done, value...)
		s = s[i+n+1:]
	}
	return string(append(done, s...)), nil
}

func (x *substitution) variable(name string) (string, error) {
	if i := strings.Index(name, ":-"); i >= 0 && !strings.Contains(name[:i], "${") {
		name = name[:i]
	}
	if slices.Contains(x.open, name) {
		return "", &CycleError{x.open[0], x.open[1:]}
	}
	value, ok := x.look(name)
	if !ok {
		return "", ErrUndefined
	}
	x.open = append(x.open, name)
	value, err := x.text(value)
	x.open = x.open[:len(x.open)-1]
	return value, err
}
