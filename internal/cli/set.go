package cli

import (
	"github.com/spf13/cobra"

	"muster/internal/api"
)

func set(s *session) *cobra.Command {
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

What each attribute means: muster attributes. Attributes of groups: muster group set.`,
		Example: `  muster set r1n[1-40] bmc.user=admin bmc.password=-
  muster set r1n7 image.kernelargs+=nosmt location.rack=r1
  muster set r1n7 groups+=gpu console.speed=`,
		Args: args(2, -1),
	}
	c.RunE = func(c *cobra.Command, a []string) error {
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
