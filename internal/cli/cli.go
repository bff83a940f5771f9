// Package cli is the command line: one file a verb. It parses, asks the service through the API, and prints.
//
//	muster VERB NODERANGE [ARGUMENTS] [FLAGS]
//
// It decides nothing about nodes and knows no attribute: the service does. What it does decide is how an answer looks.
// For people it prints "node: text" lines as answers arrive, or, on a terminal, folds equal answers of many nodes into
// one line; for programs (--json) it passes the service's lines through and always ends with a trailer. Answers go to
// standard output, errors of single nodes, questions and progress to standard error, progress only on a terminal.
//
// The exit status is 0 when all went well, 1 when some nodes failed, 2 for wrong usage, 3 when the service does not
// answer and 4 when it is not allowed.
//
// A secret never has to stand in the arguments (see [parseAssignment]), and none is printed.
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"muster/internal/api"
)

// The jobs by which help groups the verbs: cobra.Command.GroupID of what a program adds to [Main].
const (
	JobService  = "service"
	JobDescribe = "describe"
	JobSee      = "see"
	JobHardware = "hardware"
	JobImages   = "images"
	JobDeploy   = "deploy"
	JobNodes    = "nodes"
	JobPeople   = "people"
	JobTry      = "try"
	JobOther    = "other"
)

// Main runs the command line and returns its exit status. Args are without the program's name. Env looks up an
// environment variable, "" when it is not set. More are the commands that other parts of the program bring (serve, lab).
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer, env func(string) string, more ...*cobra.Command) int {
	s := &session{in: stdin, out: stdout, err: stderr, env: env}
	s.outTerminal, s.errTerminal, s.inTerminal = isTerminal(stdout), isTerminal(stderr), isTerminal(stdin)
	out := &wholeWriter{w: stdout}
	if !s.outTerminal {
		s.out = out
	}
	root := s.root()
	root.AddCommand(more...)
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(s.out)
	root.SetErr(stderr)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // the second ^C ends the program at once
	status := s.exit(ctx, root.ExecuteContext(ctx))
	if err := out.failed(); err != nil {
		s.tell(&api.Error{Code: api.Failed, What: "standard output", Why: reason(err), Do: "What was written is not all"})
		return max(status, 1)
	}
	return status
}

// session is one run of the program: its streams, and the flags that all verbs share.
type session struct {
	in       io.Reader
	out, err io.Writer
	env      func(string) string

	inTerminal, outTerminal, errTerminal bool

	flags   flags
	running bool // the arguments were understood; what goes wrong from here on is no wrong usage
	failed  bool // some node failed
	asks    *api.Client
}

// errSilent ends the command with status 1; why was printed.
var errSilent = errors.New("some nodes failed")

func (s *session) exit(ctx context.Context, err error) int {
	var e *api.Error
	switch {
	case err == nil && !s.failed:
		return 0
	case err == nil, errors.Is(err, errSilent):
		return 1
	case ctx.Err() != nil:
		fmt.Fprintln(s.err, "muster: interrupted")
		s.brokenOff("", 0, 0)
		return 1
	case errors.As(err, &e):
	case s.running:
		e = &api.Error{Code: api.Failed, What: err.Error()}
	default:
		e = &api.Error{Code: api.Usage, What: err.Error(), Do: "See: muster help"}
	}
	s.tell(e)
	if s.flags.json {
		s.printJSON(api.Trailer{Trailer: true, Error: e})
	}
	return e.Exit()
}

// brokenOff ends the output of --json where the person ended the command.
func (s *session) brokenOff(what string, asked, answered int) {
	if s.flags.json {
		e := &api.Error{Code: api.Failed, What: or(what, "muster"), Why: "interrupted"}
		s.printJSON(api.Trailer{Asked: asked, Answered: answered, Trailer: true, Error: e})
	}
}

// tell prints an error of the whole command.
func (s *session) tell(e *api.Error) {
	if e.Node == "" {
		fmt.Fprint(s.err, "muster: ")
	}
	fmt.Fprintln(s.err, printableLines(e.Error()))
}

// warn tells something that does not change the exit status.
func (s *session) warn(format string, args ...any) {
	if !s.flags.quiet {
		fmt.Fprintf(s.err, "muster: "+format+"\n", args...)
	}
}

// skipped tells which names --known left out.
func (s *session) skipped(names string) {
	if names != "" {
		s.warn("skipped, for there is no such node or group: %s", printable(names))
	}
}

// printJSON prints one document on one line.
func (s *session) printJSON(v any) {
	enc := json.NewEncoder(s.out)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v)
}

// document prints the answer of a verb that is not a stream: as JSON with its trailer, else by text.
func (s *session) document(v any, text func()) {
	if s.flags.json {
		s.printJSON(v)
		s.printJSON(api.Trailer{Asked: 1, Answered: 1, Trailer: true})
		return
	}
	text()
}

// documents is document for a list.
func documents[T any](s *session, list []T, text func()) {
	if s.flags.json {
		for _, v := range list {
			s.printJSON(v)
		}
		s.printJSON(api.Trailer{Asked: len(list), Answered: len(list), Trailer: true})
		return
	}
	text()
}

// usage is an error of the arguments; do is what to type instead.
func usage(what, why, do string) error {
	return &api.Error{Code: api.Usage, What: what, Why: why, Do: do}
}

// see points at the help of a command.
func see(c *cobra.Command) string { return "See: " + c.CommandPath() + " -h" }

// args checks the number of arguments; most < 0 is no limit.
func args(least, most int) cobra.PositionalArgs {
	return func(c *cobra.Command, a []string) error {
		_, form, _ := strings.Cut(c.UseLine(), " ")
		_, verb, _ := strings.Cut(c.CommandPath(), " ")
		switch {
		case len(a) < least:
			return usage(verb, "too few arguments", "Usage: muster "+form+"\n"+see(c))
		case most >= 0 && len(a) > most:
			return usage(verb, fmt.Sprintf("too many arguments, from %q on", a[most]), "Usage: muster "+form+"\n"+see(c))
		}
		return nil
	}
}

// noun is a command that only holds others.
func noun(name, job, short string, verbs ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: name, GroupID: job, Short: short}
	c.AddCommand(verbs...)
	c.RunE = func(c *cobra.Command, a []string) error { return noSuchVerb(c, a) }
	return c
}

// noSuchVerb says which verbs there are, and the nearest to what was typed.
func noSuchVerb(c *cobra.Command, a []string) error {
	var names []string
	for _, v := range c.Commands() {
		if v.IsAvailableCommand() && v.Name() != "help" {
			names = append(names, v.Name())
		}
	}
	all := "One of: " + strings.Join(names, ", ")
	if !c.HasParent() {
		all = "See: muster help"
	}
	if len(a) == 0 {
		return usage(c.Name(), "say what to do", all)
	}
	if near := slices.Compact(c.SuggestionsFor(a[0])); len(near) > 0 {
		all = "Did you mean " + strings.Join(near, " or ") + "? " + all
	}
	what := strings.TrimPrefix(c.CommandPath()+" "+a[0], "muster ")
	return usage(what, "there is no such verb", all)
}

func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
