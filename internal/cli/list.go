package cli

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"muster/internal/api"
	"muster/internal/model"
	"muster/internal/model/noderange"
)

func list(s *session) *cobra.Command {
	var locked, groups, long bool
	c := &cobra.Command{
		Use:        "list [NODERANGE]",
		SuggestFor: []string{"nodels", "nodelist", "ls"},
		GroupID:    JobDescribe,
		Short:      "List the names of nodes",
		Long: `List the names of nodes in natural order, one a line, or folded with --fold. Without a noderange: all.
--groups adds the groups of each, --long aliases, groups, locks and since when it is known.`,
		Example: "  muster list\n  muster list compute,-r1n[1-3] --fold\n  muster list 'bmc.address=~10\\.78\\..*'\n  muster list --locked --long",
		Args:    args(0, 1),
	}
	format := s.formatFlags(c)
	c.RunE = func(c *cobra.Command, a []string) error {
		as, err := format()
		if err != nil {
			return err
		}
		q := api.ListNodes{Locked: locked, Detail: groups || long || locked || as != ""}
		if len(a) == 1 {
			if q.Range, err = s.over(c.Context(), a[0]); err != nil {
				return err
			}
		}
		var names api.Names
		if err := s.do(c.Context(), "POST", "/v1/list", q, &names); err != nil {
			return err
		}
		s.skipped(names.Skipped)
		switch {
		case as != "":
			return s.print(as, nodeSheet(names.Nodes))
		case s.flags.json:
			s.names(names, "\n")
		case long:
			s.table(longList(names.Nodes, time.Now()))
		case groups || locked && !s.flags.fold:
			k := newSink(s.out, s.folds())
			for _, n := range names.Nodes {
				text := lockText(n.Lock)
				if groups {
					text = or(strings.Join(n.Groups, ","), "(no group)")
				}
				k.add(n.Node, text)
			}
			k.end()
		default:
			s.names(names, "\n")
		}
		return nil
	}
	f := c.Flags()
	f.BoolVar(&locked, "locked", false, "only those that are locked, and by whom")
	f.BoolVar(&groups, "groups", false, "with the groups of each")
	f.BoolVarP(&long, "long", "l", false, "with aliases, groups, locks, and since when it is known")
	f.BoolVar(&s.flags.known, "known", false, "skip unknown nodes instead of refusing them all")
	c.ValidArgsFunction = s.completeNodes
	return c
}

// lockText is "locked by root (uid 0) since 2026-11-20 06:00: why".
func lockText(l *model.Lock) string {
	if l == nil {
		return ""
	}
	text := "locked by " + printable(l.Actor) + " since " + l.Time.Local().Format("2006-01-02 15:04")
	if !l.Expires.IsZero() {
		text += " until " + l.Expires.Local().Format("2006-01-02 15:04")
	}
	if l.Reason != "" {
		text += ": " + printable(l.Reason)
	}
	return text
}

func longList(nodes []api.NodeInfo, now time.Time) [][]string {
	rows := [][]string{{"NODE", "ALIASES", "GROUPS", "KNOWN FOR", "LOCK"}}
	for _, n := range nodes {
		rows = append(rows, []string{
			n.Node, or(strings.Join(n.Aliases, ","), "-"), or(strings.Join(n.Groups, ","), "-"), ago(n.Created, now), or(lockText(n.Lock), "-"),
		})
	}
	return rows
}

// nodeSheet has what nodes are besides their attributes.
func nodeSheet(nodes []api.NodeInfo) sheet {
	t := sheet{key: "node"}
	for _, n := range nodes {
		r := sheetRow{name: n.Node}
		for _, v := range []api.AttrValue{{Attr: "aliases", Value: strings.Join(n.Aliases, ",")}, {Attr: "groups", Value: strings.Join(n.Groups, ",")}} {
			if v.Value != "" {
				r.values = append(r.values, v)
			}
		}
		t.rows = append(t.rows, r)
	}
	return t
}

func expand(s *session) *cobra.Command {
	var count bool
	var separator string
	c := &cobra.Command{
		Use:        "expand NODERANGE",
		SuggestFor: []string{"nodeset"},
		GroupID:    JobDescribe,
		Short:      "Expand a noderange; its names need not exist",
		Long:       "Expand a noderange into names, one a line, or with another separator, or count them. The names need not exist.",
		Example:    "  muster expand r[1-3]n[01-40]\n  muster expand r1n1-r1n10,-r1n[3-5] --fold\n  muster expand compute -c\n  muster expand r1n[1-3] -s ,",
		Args:       args(1, 1),
	}
	c.RunE = func(c *cobra.Command, a []string) error {
		r, err := s.over(c.Context(), a[0])
		if err != nil {
			return err
		}
		var names api.Names
		if err := s.do(c.Context(), "POST", "/v1/expand", api.Expand{Range: r, Short: true}, &names); err != nil {
			return err
		}
		if names.Folded != "" { // as of an empty group; 100,000 names are expanded faster than read
			if names.Names, err = noderange.ExpandNames(names.Folded); err != nil {
				return err
			}
		}
		if count && !s.flags.json {
			fmt.Fprintln(s.out, len(names.Names))
			return nil
		}
		s.names(names, strings.NewReplacer(`\n`, "\n", `\t`, "\t").Replace(separator))
		return nil
	}
	c.Flags().BoolVarP(&count, "count", "c", false, "say how many names there are")
	c.Flags().StringVarP(&separator, "separator", "s", "\n", "`text` between names, a line end if nothing else is said")
	c.Flag("separator").DefValue = ""
	c.ValidArgsFunction = s.completeNodes
	return c
}

// names prints names with a separator, or folded where that was asked for.
func (s *session) names(n api.Names, separator string) {
	s.document(n, func() {
		if s.flags.fold {
			if n.Folded != "" {
				fmt.Fprintln(s.out, n.Folded)
			}
			return
		}
		w := bufio.NewWriter(s.out)
		defer w.Flush()
		for i, name := range n.Names {
			if i > 0 {
				_, _ = w.WriteString(separator)
			}
			_, _ = w.WriteString(name)
		}
		if len(n.Names) > 0 {
			_, _ = io.WriteString(w, "\n")
		}
	})
}

// fold needs no service: it is the same folding as that of answers. Which groups there are, only the service knows.
func fold(s *session) *cobra.Command {
	var groups bool
	c := &cobra.Command{
		Use:        "fold",
		SuggestFor: []string{"xcoll", "nodeset"},
		GroupID:    JobDescribe,
		Short:      "Fold names from standard input into one noderange",
		Long: `Fold names from standard input, parted by white space or commas, into one noderange. It needs no service,
unless --groups writes groups where all of their members are among the names.`,
		Example: "  muster list compute | muster fold\n  squeue -h -o %N | muster fold --groups",
		Args:    args(0, 0),
	}
	c.RunE = func(c *cobra.Command, _ []string) error {
		r := bufio.NewScanner(s.in)
		r.Buffer(nil, 1<<20)
		var names []string
		for r.Scan() {
			names = append(names, strings.FieldsFunc(r.Text(), func(r rune) bool { return r == ',' || r == ' ' || r == '\t' || r == '\r' })...)
		}
		if err := r.Err(); err != nil {
			return usage("fold", "standard input: "+err.Error(), "Give names, one a line")
		}
		out := api.Names{Names: names, Folded: noderange.Fold(names)}
		if groups {
			if err := s.do(c.Context(), "POST", "/v1/fold", api.Fold{Names: names, Groups: true}, &out); err != nil {
				return err
			}
		}
		s.document(out, func() {
			if out.Folded != "" {
				fmt.Fprintln(s.out, out.Folded)
			}
		})
		return nil
	}
	c.Flags().BoolVarP(&groups, "groups", "g", false, "write groups where all of their members are there")
	return c
}
