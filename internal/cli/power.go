package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"muster/internal/api"
)

var powerActions = []string{"status", "on", "off", "softoff", "cycle", "reset", "diag"}

func power(s *session) *cobra.Command {
	var wait bool
	c := &cobra.Command{
		Use:        "power NODERANGE [status|on|off|softoff|cycle|reset|diag]",
		SuggestFor: []string{"rpower", "nodepower"},
		GroupID:    JobHardware,
		Short:      "Ask for or change the power of nodes",
		Long: `Ask for the power of nodes as their BMCs report it, or change it. All nodes at once; answers come as BMCs answer.

  on, off    at once             softoff    asks the operating system to shut down
  cycle      off, then on        reset      without going off
  diag       a diagnostic interrupt (NMI)`,
		Example: `  muster power r1n[1-40]
  muster power compute on
  muster power r1n7 softoff --wait && muster power r1n7 on
  muster power everything off --max-nodes 20`,
		Args: args(1, 2),
	}
	c.RunE = func(c *cobra.Command, a []string) error {
		action := "status"
		if len(a) == 2 {
			action = a[1]
		}
		if !slices.Contains(powerActions, action) {
			return usage("power "+action, "there is no such action", "One of: "+strings.Join(powerActions, ", "))
		}
		r, err := s.over(c.Context(), a[0])
		if err != nil {
			return err
		}
		return s.power(c, api.Power{Range: r, Action: action, Wait: wait})
	}
	c.ValidArgsFunction = s.completeNodesThen(powerActions)
	c.Flags().BoolVar(&wait, "wait", false, "answer only when the BMC reports the state asked for")
	return s.changesNodes(c)
}

func (s *session) power(c *cobra.Command, p api.Power) error {
	return ask(c.Context(), s, question[api.PowerResult]{
		what: "power " + p.Action, path: "/v1/power", in: p,
		node: func(r *api.PowerResult) *api.Result { return &r.Result },
		text: func(r *api.PowerResult) []string {
			if r.Was != "" && r.Was != r.State {
				return []string{fmt.Sprintf("%s (was %s)", r.State, r.Was)}
			}
			return []string{r.State}
		},
	})
}
