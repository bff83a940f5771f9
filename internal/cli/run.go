package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"muster/internal/api"
)

// maxStdin is how much standard input may be sent along with a command.
const maxStdin = 32 << 20

func run(s *session) *cobra.Command {
	var stdin bool
	c := &cobra.Command{
		Use:        "run NODERANGE -- COMMAND [ARGUMENT …]",
		SuggestFor: []string{"xdsh", "psh", "clush", "pdsh", "nodeshell", "nodersh", "exec"},
		GroupID:    JobNodes,
		Short:      "Run a command on nodes, in parallel, by ssh",
		Long: `Run a command on nodes. The host keys are known from enrolment; there is nothing to accept.

One word behind -- is given to the node's shell as it is, so that it may be a whole script:
  muster run compute -- 'cd /var/log && du -sh . | cut -f1'
Several words are a program and its arguments, each of which arrives as typed here:
  muster run compute -- echo 'a  b' '$HOME'        prints: a  b $HOME

Standard input stays here unless --stdin sends it to every node. A command that ends with another
status than 0 makes its node count as failed.`,
		Example: `  muster run r1n[1-3] -- uname -r
  muster run compute --fanout 10 --timeout 5m -- 'apt-get -q update && apt-get -qy upgrade'
  muster run compute --stdin -- 'cat > /etc/motd' < motd`,
		Args: args(1, -1),
	}
	c.RunE = func(c *cobra.Command, a []string) error {
		if at := c.ArgsLenAtDash(); at != 1 || len(a) < 2 {
			why := "no command"
			if at > 1 || at < 0 && len(a) > 1 {
				why = fmt.Sprintf("%q stands before --", a[1])
			}
			return usage("run", why, "Write the command behind --: muster run "+a[0]+" -- uname -r")
		}
		q := api.Run{Command: commandLine(a[1:])}
		var err error
		if q.Range, err = s.over(c.Context(), a[0]); err != nil {
			return err
		}
		if s.flags.dryRun {
			return s.wouldReach(c, q.Range, "run "+q.Command)
		}
		if stdin {
			if q.Stdin, err = io.ReadAll(io.LimitReader(s.in, maxStdin+1)); err != nil {
				return usage("run --stdin", reason(err), "")
			}
			if len(q.Stdin) > maxStdin {
				return usage("run --stdin", "standard input is larger than "+size(maxStdin), "Bring large files with: muster copy")
			}
		}
		return ask(c.Context(), s, question[api.RunResult]{
			what: "run", path: "/v1/run", in: q,
			node: func(r *api.RunResult) *api.Result { return &r.Result },
			text: func(r *api.RunResult) []string { return []string{string(r.Stdout)} },
			also: func(r *api.RunResult) string { return withNote(string(r.Stderr), r.Note) },
			bad: func(r *api.RunResult) string {
				if r.Exit == 0 {
					return ""
				}
				return fmt.Sprintf("exit status %d", r.Exit)
			},
		})
	}
	c.Flags().BoolVar(&stdin, "stdin", false, "send standard input to every node")
	return s.changesNodes(c)
}

// wouldReach tells the nodes of a dry run.
func (s *session) wouldReach(c *cobra.Command, r api.Range, what string) error {
	var names api.Names
	if err := s.do(c.Context(), "POST", "/v1/list", api.ListNodes{Range: api.Range{Range: r.Range, Known: r.Known}}, &names); err != nil {
		return err
	}
	s.skipped(names.Skipped)
	s.document(names, func() {
		fmt.Fprintf(s.out, "dry run, nothing was done: %s on %s (%d)\n", what, names.Folded, len(names.Names))
	})
	return nil
}

// withNote adds what muster has to say of an output to it.
func withNote(stderr, note string) string {
	if note == "" {
		return stderr
	}
	if stderr != "" && !strings.HasSuffix(stderr, "\n") {
		stderr += "\n"
	}
	return stderr + "muster: " + note + "\n"
}

// commandLine is what the node's shell gets: one word as it is, several quoted so that they arrive as they are.
func commandLine(words []string) string {
	if len(words) == 1 {
		return words[0]
	}
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = shellQuote(w)
	}
	return strings.Join(quoted, " ")
}

// shellQuote quotes a word for a POSIX shell (XCU 2.2.2), only where it needs it.
func shellQuote(w string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("@%+=:,./_-", r)
	}
	if w != "" && strings.IndexFunc(w, func(r rune) bool { return !plain(r) }) < 0 {
		return w
	}
	return "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
}
