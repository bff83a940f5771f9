package cli

import (
	"bufio"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"muster/internal/api"
	"muster/internal/model/noderange"
)

func list(s *session) *cobra.Command {
	c := &cobra.Command{
		Use:        "list [NODERANGE]",
		SuggestFor: []string{"nodels", "nodelist", "ls"},
		GroupID:    JobDescribe,
		Short:      "List the names of nodes",
		Long:       "List the names of nodes in natural order, one a line, or folded with --fold. Without a noderange: all.",
		Example:    "  muster list\n  muster list compute,-r1n[1-3] --fold\n  muster list 'bmc.address=~10\\.78\\..*'",
		Args:       args(0, 1),
	}
	c.RunE = func(c *cobra.Command, a []string) error {
		var r api.Range
		if len(a) == 1 {
			var err error
			if r, err = s.over(c.Context(), a[0]); err != nil {
				return err
			}
		}
		var names api.Names
		if err := s.do(c.Context(), "POST", "/v1/list", api.ListNodes{Range: r}, &names); err != nil {
			return err
		}
		s.names(names)
		return nil
	}
	c.Flags().BoolVar(&s.flags.known, "known", false, "skip unknown nodes instead of refusing them all")
	c.ValidArgsFunction = s.completeNodes
	return c
}

func expand(s *session) *cobra.Command {
	c := &cobra.Command{
		Use:        "expand NODERANGE",
		SuggestFor: []string{"nodeset"},
		GroupID:    JobDescribe,
		Short:      "Expand a noderange; its names need not exist",
		Example:    "  muster expand r[1-3]n[01-40]\n  muster expand r1n1-r1n10,-r1n[3-5] --fold",
		Args:       args(1, 1),
	}
	c.RunE = func(c *cobra.Command, a []string) error {
		r, err := s.over(c.Context(), a[0])
		if err != nil {
			return err
		}
		var names api.Names
		if err := s.do(c.Context(), "POST", "/v1/expand", api.Expand{Range: r}, &names); err != nil {
			return err
		}
		s.names(names)
		return nil
	}
	c.ValidArgsFunction = s.completeNodes
	return c
}

// names prints names one a line, or folded where that was asked for.
func (s *session) names(n api.Names) {
	s.document(n, func() {
		if s.flags.fold {
			if n.Folded != "" {
				fmt.Fprintln(s.out, n.Folded)
			}
			return
		}
		w := bufio.NewWriter(s.out)
		defer w.Flush()
		for _, name := range n.Names {
			_, _ = w.WriteString(name + "\n")
		}
	})
}

// fold needs no service: it is the same folding as that of answers.
func fold(s *session) *cobra.Command {
	c := &cobra.Command{
		Use:        "fold",
		SuggestFor: []string{"xcoll", "nodeset"},
		GroupID:    JobDescribe,
		Short:      "Fold names from standard input into one noderange",
		Long:       "Fold names from standard input, parted by white space or commas, into one noderange. It needs no service.",
		Example:    "  muster list compute | muster fold\n  squeue -h -o %N | muster fold",
		Args:       args(0, 0),
	}
	c.RunE = func(*cobra.Command, []string) error {
		r := bufio.NewScanner(s.in)
		r.Buffer(nil, 1<<20)
		var names []string
		for r.Scan() {
			names = append(names, strings.FieldsFunc(r.Text(), func(r rune) bool { return r == ',' || r == ' ' || r == '\t' || r == '\r' })...)
		}
		if err := r.Err(); err != nil {
			return usage("fold", "standard input: "+err.Error(), "Give names, one a line")
		}
		folded := noderange.Fold(names)
		s.document(api.Names{Names: names, Folded: folded}, func() {
			if folded != "" {
				fmt.Fprintln(s.out, folded)
			}
		})
		return nil
	}
	return c
}
