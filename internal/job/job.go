// Package job runs steps on a machine: scripts in any language, one after the other, each under limits that it cannot get out of by itself.
//
// A step has its standard input closed, is killed with all that it started when its time is up, and is not run at all when its policy says
// that it was done. What it prints is passed on as it comes. It asks for no name and no network: what it needs to know stands in its environment.
package job

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"muster/internal/durable"
)

// Policy says when a step is run again.
type Policy string

// The policies. The zero value is Always.
const (
	Always Policy = "always"
	Once   Policy = "once"   // until it ended well, then never again on this system
	Change Policy = "change" // again when its script is another
	Boot   Policy = "boot"   // once after each start of the system
)

// Policies are all policies.
var Policies = []Policy{Always, Once, Change, Boot}

// Step is one script. Limits that are zero are [DefaultTimeout], and no retry.
type Step struct {
	Name    string        `json:"name"`
	Script  string        `json:"script"` // begins with #!, or is for sh
	Policy  Policy        `json:"policy,omitempty"`
	Timeout time.Duration `json:"timeout,omitempty"` // of one attempt, in nanoseconds
	Retries int           `json:"retries,omitempty"` // further attempts after one that failed
}

// DefaultTimeout is how long an attempt of a step may take.
const DefaultTimeout = 10 * time.Minute

var stepName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)

// Check says all that is wrong with the steps of a job; nil when nothing is.
func Check(steps []Step) error {
	var wrong []error
	seen := map[string]bool{}
	for i, s := range steps {
		say := func(format string, args ...any) {
			wrong = append(wrong, fmt.Errorf("step %d (%s): "+format, append([]any{i + 1, s.Name}, args...)...))
		}
		if !stepName.MatchString(s.Name) {
			say("the name is wrong: use small letters, digits, dots, hyphens and underscores, 63 at most")
		}
		if seen[s.Name] {
			say("there is another one of that name")
		}
		seen[s.Name] = true
		if strings.TrimSpace(s.Script) == "" {
			say("it has no script")
		}
		if strings.IndexByte(s.Script, 0) >= 0 {
			say("the script has a zero byte")
		}
		if s.Policy != "" && !slices.Contains(Policies, s.Policy) {
			say("there is no policy %s: it is one of %v", s.Policy, Policies)
		}
		if s.Timeout < 0 || s.Timeout > 7*24*time.Hour {
			say("a time limit of %v is not from 1s to 168h", s.Timeout)
		}
		if s.Retries < 0 || s.Retries > 100 {
			say("%d retries are not from 0 to 100", s.Retries)
		}
	}
	return errors.Join(wrong...)
}

// Event is what happens to a step, in the order in which it does.
type Event struct {
	Step    string        `json:"step"`
	What    What          `json:"what"`
	Attempt int           `json:"attempt,omitempty"` // from 1 on
	Output  []byte        `json:"output,omitempty"`  // of both its streams, of Printed
	Exit    int           `json:"exit,omitempty"`    // of Failed: 1 to 255, or 128 and the signal's number
	Why     string        `json:"why,omitempty"`     // of Skipped and Failed
	Took    time.Duration `json:"took,omitempty"`    // of Done and Failed, in nanoseconds
}

// What happened to a step.
type What string

// The events of a step: Skipped; or Begun, any number of Printed, then Done or Failed, and this again for each attempt.
const (
	Skipped What = "skipped"
	Begun   What = "begun"
	Printed What = "printed"
	Done    What = "done"
	Failed  What = "failed"
)

// Runner runs jobs of one machine, one at a time.
type Runner struct {
	// Dir keeps what was done, and the scripts while they run: an absolute path, inside Root. It is made with mode 0700.
	Dir string
	// Boot is this start of the system, such as the kernel's boot id.
	Boot string
	// Env has further variables for all steps, as NAME=value.
	Env []string
	// Attrs are for the function attr of the library.
	Attrs map[string]string
	// Tell hears all events, one after the other; nil is nobody.
	Tell func(Event)
	// MaxOutput is how many bytes of one attempt's output are passed on; the rest is counted. Zero means 16 MiB.
	MaxOutput int64
	// Grace is how long a step whose time is up has after SIGTERM. Zero means 5 s.
	Grace time.Duration
	// Root is the directory that steps take for the root of the file system; empty is none of their own. It takes the rights of root.
	Root string
}

// StepError is a step that did not end well. Later steps were not begun.
type StepError struct {
	Step    string
	Why     string
	Attempt int
}

func (e *StepError) Error() string {
	if e.Attempt > 1 {
		return fmt.Sprintf("step %s: %s (attempt %d)", e.Step, e.Why, e.Attempt)
	}
	return "step " + e.Step + ": " + e.Why
}

// mark is what is kept of a step that ended well.
type mark struct {
	Digest string    `json:"digest"` // of its script
	Boot   string    `json:"boot"`
	At     time.Time `json:"at"`
}

//go:embed lib.sh
var library []byte

// Run runs the steps of a job in their order. It ends with the first step that does not end well, with a [*StepError], or with ctx.
func (r *Runner) Run(ctx context.Context, name string, steps []Step) error {
	if err := Check(steps); err != nil {
		return err
	}
	if !stepName.MatchString(name) {
		return fmt.Errorf("%q is not the name of a job", name)
	}
	done := filepath.Join(r.Root, r.Dir, "done", name)
	if err := os.MkdirAll(done, 0o700); err != nil {
		return err
	}
	for _, s := range steps {
		path := filepath.Join(done, s.Name+".json")
		if why := s.spared(path, r.Boot); why != "" {
			r.tell(Event{Step: s.Name, What: Skipped, Why: why})
			continue
		}
		if err := r.attempts(ctx, name, s); err != nil {
			return err
		}
		b, err := json.Marshal(mark{s.digest(), r.Boot, time.Now().UTC()})
		if err != nil {
			return err
		}
		if err := durable.WriteFile(path, b, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (s *Step) digest() string {
	h := sha256.Sum256([]byte(s.Script))
	return "sha256:" + hex.EncodeToString(h[:])
}

// spared says why a step is not to be run; empty when it is.
func (s *Step) spared(path, boot string) string {
	var m mark
	b, err := os.ReadFile(path)
	if err != nil || json.Unmarshal(b, &m) != nil { // never done, or nobody knows
		return ""
	}
	at := m.At.Format(time.DateTime) + "Z"
	switch {
	case s.Policy == Once:
		return "was done " + at
	case s.Policy == Change && m.Digest == s.digest():
		return "was done " + at + ", and has not changed"
	case s.Policy == Boot && m.Boot == boot && boot != "":
		return "was done " + at + ", since the system started"
	}
	return ""
}

// attempts runs a step until it ends well, or has no attempt left.
func (r *Runner) attempts(ctx context.Context, name string, s Step) error {
	for attempt := 1; ; attempt++ {
		r.tell(Event{Step: s.Name, What: Begun, Attempt: attempt})
		began := time.Now()
		exit, why := r.once(ctx, name, s, attempt)
		took := time.Since(began)
		if why == "" {
			r.tell(Event{Step: s.Name, What: Done, Attempt: attempt, Took: took})
			return nil
		}
		r.tell(Event{Step: s.Name, What: Failed, Attempt: attempt, Exit: exit, Why: why, Took: took})
		if attempt > s.Retries || ctx.Err() != nil {
			return &StepError{s.Name, why, attempt}
		}
		select {
		case <-time.After(min(time.Second<<(attempt-1), time.Minute)):
		case <-ctx.Done():
			return &StepError{s.Name, "it was ended before its next attempt", attempt}
		}
	}
}

func (r *Runner) tell(e Event) {
	if r.Tell != nil {
		r.Tell(e)
	}
}

// room makes the directory of one attempt, with the script, the library and the attributes.
func (r *Runner) room(s Step) (dir string, err error) {
	dir = filepath.Join(r.Root, r.Dir, "run", rand.Text())
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	var attrs strings.Builder
	for _, a := range slices.Sorted(maps.Keys(r.Attrs)) {
		fmt.Fprintf(&attrs, "%s=%s\n", a, strings.NewReplacer("\n", " ", "\r", " ").Replace(r.Attrs[a]))
	}
	for file, text := range map[string][]byte{"script": []byte(s.Script), "lib.sh": library, "attrs": []byte(attrs.String())} {
		if err := os.WriteFile(filepath.Join(dir, file), text, 0o600); err != nil {
			return "", errors.Join(err, os.RemoveAll(dir))
		}
	}
	return dir, nil
}
