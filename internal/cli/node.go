package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"muster/internal/api"
)

func nodes(s *session) *cobra.Command {
	return noun("node", JobDescribe, "Add, remove and rename nodes", nodeAdd(s), nodeRemove(s), nodeRename(s))
}

func nodeAdd(s *session) *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "add NODERANGE [attr=value …]",
		Short: "Add nodes that do not exist yet",
		Long: `Add nodes. All of them are added, or none: a name that exists refuses the whole request.

A value may be an expression, which is kept as written: {n0} is the last number in the
node's name, {nodename} its name. groups= names the groups that the nodes join, aliases= further
names of a node.

-f FILE takes nodes and attributes from a table or from YAML, as one change (see muster set -h).

Secrets never have to stand in the arguments:
  attr=-        reads one line of standard input, not shown when typed on a terminal
  attr=@/path   reads the first line of a file (its path begins with / or ./ or ../)`,
		Example: `  muster node add r1n[1-40] group=compute bmc.address=10.78.1.{n0} bmc.user=admin bmc.password=-
  muster node add r1n1 net.boot.mac=52:54:00:77:00:01 net.boot.address=10.77.1.1 --dry-run
  muster node add login1 aliases=login groups=service
  muster node add -f nodes.csv --dry-run`,
	}
	fileFlag(c, &file, 1)
	c.RunE = func(c *cobra.Command, a []string) error {
		if file != "" {
			return s.changeFile(c.Context(), file, "/v1/nodes/add", func(r api.Range, rows []api.Row) any {
				return api.AddNodes{Range: r, Rows: rows}
			}, "added")
		}
		r, err := s.rangeOf(a[0])
		if err != nil {
			return err
		}
		set, err := s.assignments(c.Context(), a[1:])
		if err != nil {
			return err
		}
		q := api.AddNodes{Range: r}
		for _, v := range set {
			if v.Attr != "group" && v.Attr != "groups" {
				q.Set = append(q.Set, v)
				continue
			}
			if v.Op != "=" || v.Secret != nil {
				return usage(v.Attr+v.Op+v.Value, "a new node is in no group yet", "Give groups=NAME or groups=NAME,NAME")
			}
			q.Groups = append(q.Groups, strings.FieldsFunc(v.Value, func(r rune) bool { return r == ',' })...)
		}
		return s.change(c.Context(), "/v1/nodes/add", q, nodesDid("added"))
	}
	return s.maxFlag(s.changeFlags(c))
}

func nodeRemove(s *session) *cobra.Command {
	c := &cobra.Command{
		Use:   "remove NODERANGE",
		Short: "Remove nodes and all that is known of them",
		Long: `Remove nodes and their attributes, deployments and identities. On a terminal it asks first;
--yes does not ask, and neither does a command without a terminal.`,
		Example: "  muster node remove r1n40\n  muster node remove old --dry-run",
		Args:    args(1, 1),
	}
	c.RunE = func(c *cobra.Command, a []string) error {
		r, err := s.over(c.Context(), a[0])
		if err != nil {
			return err
		}
		if err := s.ask(c.Context(), "remove "+r.Range); err != nil {
			return err
		}
		return s.change(c.Context(), "/v1/nodes/remove", api.RemoveNodes{Range: r}, nodesDid("removed"))
	}
	c.ValidArgsFunction = s.completeNodes
	c.Flags().BoolVar(&s.flags.known, "known", false, "skip unknown nodes instead of refusing them all")
	return s.maxFlag(s.changeFlags(c))
}

// change puts one change and prints what it did, as told by did: "added r1n[1-3] (3)".
func (s *session) change(ctx context.Context, path string, in any, did func(api.Changed) string) error {
	var r api.Changed
	if err := s.do(ctx, "POST", path, in, &r); err != nil {
		return err
	}
	for _, w := range r.Warnings {
		s.warn("%s", printableLines(w))
	}
	s.skipped(r.Skipped)
	if s.flags.json {
		s.printJSON(r)
		s.printJSON(api.Trailer{Asked: r.Count, Answered: r.Count, Trailer: true, Revision: r.Revision})
		return nil
	}
	if s.flags.quiet {
		return nil
	}
	if s.flags.verbose || r.DryRun {
		for _, l := range r.Changes {
			fmt.Fprintln(s.out, printable(l))
		}
	}
	text := did(r)
	switch {
	case r.DryRun:
		text = "dry run, nothing was done: " + text
	case undoable(path, r) && (s.flags.verbose || s.outTerminal):
		text += fmt.Sprintf(" (change %d; take it back: muster undo %d)", r.Revision, r.Revision)
	}
	fmt.Fprintln(s.out, text)
	return nil
}

// undoable says that it is worth telling how a change is taken back.
func undoable(path string, r api.Changed) bool {
	switch {
	case path == "/v1/managers/remove" || path == "/v1/secret/rotate":
		return false
	case strings.HasSuffix(path, "/set"):
		return len(r.Changes) > 0
	}
	return r.Revision > 0 && r.Count+len(r.Changes) > 0
}

// counted is a number with its noun.
func counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// nodesDid is the sentence about a change of nodes.
func nodesDid(did string) func(api.Changed) string {
	return func(r api.Changed) string {
		if r.Count > 1 {
			return fmt.Sprintf("%s %s (%d)", did, r.Nodes, r.Count)
		}
		return did + " " + r.Nodes
	}
}
