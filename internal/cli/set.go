package cli

import (
	"github.com/spf13/cobra"

	"muster/internal/api"
)

func set(s *session) *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:        "set NODERANGE attr=value …",
		SuggestFor: []string{"chdef", "chtab"},
		GroupID:    JobDescribe,
		Short:      "Set attributes of nodes: attr=value attr+=value attr-=value attr=",
		Long: `Set attributes of nodes, all or none.

  attr=value    set            attr+=value   add to a list
  attr=         take away      attr-=value   take from a list
  attr=-        a secret: one line of standard input, not shown when typed on a terminal
  attr=@/path   a secret: the first line of a file (its path begins with / or ./ or ../)

groups and aliases are set the same way. What each attribute means: muster attributes.
Attributes of groups: muster group set.

-f FILE sets many nodes as one change; - is standard input. A file is a table (CSV)
  node,groups,bmc.address,location.rack
  r1n1,"compute,rack1",10.78.1.1,r1
or YAML
  r1n1: {groups: [compute, rack1], bmc: {address: 10.78.1.1}, location.rack: r1}
The column node may hold a noderange. An empty cell leaves a value alone, "" makes it empty.`,
		Example: `  muster set r1n[1-40] bmc.user=admin bmc.password=-
  muster set r1n1 aliases+=login
  muster set -f nodes.csv --dry-run
  muster set r1n7 image.kernelargs+=nosmt location.rack=r1
  muster set r1n7 groups+=gpu console.speed=`,
	}
	fileFlag(c, &file, 2)
	c.RunE = func(c *cobra.Command, a []string) error {
		if file != "" {
			return s.changeFile(c.Context(), file, "/v1/set", func(r api.Range, rows []api.Row) any {
				return api.SetAttrs{Range: r, Rows: rows}
			}, "set")
		}
		r, err := s.over(c.Context(), a[0])
		if err != nil {
			return err
		}
		set, err := s.assignments(c.Context(), a[1:])
		if err != nil {
			return err
		}
		return s.change(c.Context(), "/v1/set", api.SetAttrs{Range: r, Set: set}, nodesDid("set"))
	}
	c.ValidArgsFunction = s.completeNodesThenAttributes("=")
	c.Flags().BoolVar(&s.flags.known, "known", false, "skip unknown nodes instead of refusing them all")
	return s.maxFlag(s.changeFlags(c))
}
