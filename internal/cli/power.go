package cli

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"muster/internal/api"
)

var powerActions = []string{"status", "on", "off", "softoff", "cycle", "reset", "diag"}

func power(s *session) *cobra.Command {
	var wait, cached, noOrder bool
	c := &cobra.Command{
		Use:        "power NODERANGE [status|on|off|softoff|cycle|reset|diag]",
		SuggestFor: []string{"rpower", "nodepower"},
		GroupID:    JobHardware,
		Short:      "Ask for or change the power of nodes",
		Long: `Ask for the power of nodes as their BMCs report it, or change it. All nodes at once; answers come as BMCs answer.

  on, off    at once             softoff    asks the operating system to shut down
  cycle      off, then on        reset      without going off
  diag       a diagnostic interrupt (NMI)

on comes after the nodes that power.after names, and power.delay later; off comes before them. Who waits for whom: --dry-run. A node that
is not named and is not as it has to be stops those that wait for it; --no-order leaves all of it out of account.

--wait answers when the BMC reports the state asked for. --cached answers a status at once with what was seen last, and its age.`,
		Example: `  muster power r1n[1-40]
  muster power compute on
  muster power r1n7 softoff --wait && muster power r1n7 on
  muster power everything status --cached
  muster power storage,compute on --dry-run          # in which order
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
		switch {
		case cached && action != "status":
			return usage("power "+action, "--cached is for the status", "Leave it out")
		case wait && action == "status":
			return usage("power status", "--wait is for on, off, softoff, cycle and reset", "Leave it out")
		}
		r, err := s.over(c.Context(), a[0])
		if err != nil {
			return err
		}
		return s.power(c, api.Power{Range: r, Action: action, Wait: wait, Cached: cached, NoOrder: noOrder})
	}
	c.ValidArgsFunction = s.completeNodesThen(powerActions)
	c.Flags().BoolVar(&wait, "wait", false, "answer only when the BMC reports the state asked for")
	c.Flags().BoolVar(&cached, "cached", false, "answer the status at once with what was seen last")
	c.Flags().BoolVar(&noOrder, "no-order", false, "leave power.after and power.delay out of account")
	return s.changesNodes(c)
}

func (s *session) power(c *cobra.Command, p api.Power) error {
	return ask(c.Context(), s, question[api.PowerResult]{
		what: "power " + p.Action, path: "/v1/power", in: p,
		node: func(r *api.PowerResult) *api.Result { return &r.Result },
		text: func(r *api.PowerResult) []string { return []string{powerText(r, time.Now())} },
	})
}

// powerText is "on", "on (was off)", "on (seen 5s ago)", or of a dry run "off, turn 2: after s[1-2] and 90s".
func powerText(r *api.PowerResult, now time.Time) string {
	text := r.State
	switch {
	case !r.Seen.IsZero():
		text += " (seen " + ago(r.Seen, now) + " ago)"
	case r.Was != "" && r.Was != r.State:
		text += " (was " + r.Was + ")"
	}
	if r.Turn > 0 {
		text += fmt.Sprintf(", turn %d", r.Turn)
	}
	if r.After != "" {
		text += ": after " + r.After
		if r.DelayMS > 0 {
			text += " and " + (time.Duration(r.DelayMS) * time.Millisecond).String()
		}
	}
	return text
}
