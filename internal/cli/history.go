package cli

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"muster/internal/api"
)

func history(s *session) *cobra.Command {
	var since, kind string
	var last int
	c := &cobra.Command{
		Use:     "history NODERANGE",
		GroupID: JobSee,
		Short:   "Show who changed what of nodes, and when",
		Long: `Show the changes of nodes, oldest first: their number, who made them, and each field as it was and as it became.
Nodes that were removed have a history, too; one that was renamed has what was before under its old name. With --kind it is that of groups, networks, users, roles, images or jobs.
A change is taken back by its number: muster undo CHANGE.`,
		Example: `  muster history r1n7
  muster history compute --kind group --since 7d
  muster history r1n[1-40] --last 5`,
		Args: args(1, 1),
	}
	c.RunE = func(c *cobra.Command, a []string) error {
		in := api.History{Kind: kind, Limit: last}
		in.Range.Range = a[0]
		if kind == "" || kind == "node" {
			r, err := s.over(c.Context(), a[0])
			if err != nil {
				return err
			}
			in.Range = r
		}
		var err error
		if in.Since, err = sinceFlag(since); err != nil {
			return err
		}
		if err := lastFlag(last); err != nil {
			return err
		}
		return s.changesOf(c.Context(), "/v1/history", in)
	}
	f := c.Flags()
	f.StringVar(&since, "since", "", sinceHelp)
	f.StringVar(&kind, "kind", "", "what is named: `node`, group, network, user, role, image or job")
	f.IntVar(&last, "last", 0, "the newest `N` changes (default 100)")
	f.BoolVar(&s.flags.known, "known", false, "skip unknown nodes instead of refusing them all")
	c.ValidArgsFunction = s.completeNodes
	return c
}

const sinceHelp = "from this `time` on: 10m, 2h, 3d, 15:04, '2006-01-02 15:04' or RFC 3339"

func sinceFlag(since string) (string, error) {
	if since == "" {
		return "", nil
	}
	return sinceArg(since, time.Now())
}

func lastFlag(last int) error {
	if last < 0 {
		return usage("--last", "it is negative", "Give how many of the newest")
	}
	return nil
}

func audit(s *session) *cobra.Command {
	var since, actor, verb string
	var last int
	c := &cobra.Command{
		Use:     "audit",
		GroupID: JobPeople,
		Short:   "Show the record of all changes: who, when, what",
		Long: `Show the record of changes, oldest first. Every change stands in it, written in the same transaction as the
change itself, and so does every secret that was shown. It holds no secret.`,
		Example: `  muster audit --since 1d
  muster audit --actor 'alice*' --verb 'node *'
  muster audit --last 1000 --json`,
		Args: args(0, 0),
	}
	c.RunE = func(c *cobra.Command, _ []string) error {
		in := api.Audit{Actor: actor, Verb: verb, Limit: last}
		var err error
		if in.Since, err = sinceFlag(since); err != nil {
			return err
		}
		if err := lastFlag(last); err != nil {
			return err
		}
		return s.changesOf(c.Context(), "/v1/audit", in)
	}
	f := c.Flags()
	f.StringVar(&since, "since", "", sinceHelp)
	f.StringVar(&actor, "actor", "", "only changes by this `name` or glob")
	f.StringVar(&verb, "verb", "", "only this `verb` or glob: set, 'node *'")
	f.IntVar(&last, "last", 0, "the newest `N` changes (default 100)")
	return c
}

// changesOf prints changes as they come.
func (s *session) changesOf(ctx context.Context, path string, in any) error {
	cl, err := s.client()
	if err != nil {
		return err
	}
	out := &lazyWriter{w: s.out}
	defer out.flush()
	var trailer api.Trailer
	if s.flags.json {
		for line, err := range cl.Lines(ctx, "POST", path, in, &trailer) {
			if err != nil {
				return err
			}
			fmt.Fprintf(out, "%s\n", line)
		}
		out.flush()
		s.skipped(trailer.Skipped)
		s.printJSON(trailer)
		return nil
	}
	for c, err := range api.Stream[api.ChangeInfo](ctx, cl, "POST", path, in, &trailer) {
		if err != nil {
			return err
		}
		writeChange(out, c)
	}
	s.skipped(trailer.Skipped)
	return nil
}

func writeChange(w io.Writer, c api.ChangeInfo) {
	fmt.Fprintf(w, "%d  %s  %s  %s", c.Change, c.Time.Local().Format(time.DateTime), printable(c.Actor), c.Verb)
	if c.What != "" {
		fmt.Fprintf(w, ": %s", printable(c.What))
	}
	fmt.Fprintln(w)
	for _, f := range c.Fields {
		name := f.Name
		if f.Kind != "node" {
			name = f.Kind + " " + name
		}
		if f.Did != "" {
			fmt.Fprintf(w, "    %s: %s\n", name, f.Did)
			continue
		}
		fmt.Fprintf(w, "    %s: %s: %s -> %s\n", name, f.Field, printable(or(f.Was, "(unset)")), printable(or(f.Now, "(unset)")))
	}
}

func undo(s *session) *cobra.Command {
	c := &cobra.Command{
		Use:     "undo CHANGE",
		GroupID: JobDescribe,
		Short:   "Take a change back by a new one",
		Long: `Take a change back, by its number as history and audit show it and as a change prints it with --verbose. What was changed again since
is not overwritten: it is named, and nothing is done. Taking back is a change itself, and can be taken back.`,
		Example: "  muster history r1n7\n  muster undo 1234 --dry-run\n  muster undo 1234",
		Args:    args(1, 1),
	}
	c.RunE = func(c *cobra.Command, a []string) error {
		most := s.flags.maxNodes
		if s.flags.yes || s.flags.dryRun {
			most = 0
		}
		n, err := strconv.ParseInt(strings.TrimPrefix(a[0], "#"), 10, 64)
		if err != nil || n <= 0 {
			return usage("undo "+a[0], "it is no number of a change", "See: muster audit, or muster history NODE")
		}
		return s.change(c.Context(), "/v1/undo", api.Undo{Change: n, DryRun: s.flags.dryRun, MaxNodes: most}, func(r api.Changed) string {
			return fmt.Sprintf("took change %d back: %s", n, counted(r.Count, "document"))
		})
	}
	c.ValidArgsFunction = cobra.NoFileCompletions
	return s.maxFlag(s.changeFlags(c))
}
