package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"muster/internal/api"
)

func lock(s *session) *cobra.Command {
	var reason string
	var life time.Duration
	c := &cobra.Command{
		Use:     "lock NODERANGE",
		GroupID: JobDescribe,
		Short:   "Keep nodes from being changed, switched or deployed",
		Long: `Lock nodes: until they are unlocked, or --for is over, whatever would change or disturb them is refused, saying who
locked them, why and since when: set, node remove and rename, joining and leaving groups, power
actions, boot devices, deployments. Looking at them, run, copy and console go on.`,
		Example: "  muster lock r1n7 --reason 'memory is exchanged' --for 2h\n  muster list --locked",
		Args:    args(1, 1),
	}
	c.RunE = func(c *cobra.Command, a []string) error {
		if c.Flags().Changed("for") && life < time.Millisecond {
			return usage(fmt.Sprintf("--for %s", life), "it is no time", "Write 90s, 10m or 1h30m")
		}
		r, err := s.over(c.Context(), a[0])
		if err != nil {
			return err
		}
		return s.change(c.Context(), "/v1/lock", api.LockNodes{Range: r, Reason: reason, ForMS: life.Milliseconds()}, nodesDid("locked"))
	}
	c.Flags().StringVar(&reason, "reason", "", "`text` that tells others why")
	c.Flags().DurationVar(&life, "for", 0, "`time` after which it ends by itself (default: never)")
	return s.locks(c)
}

func unlock(s *session) *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use:     "unlock NODERANGE",
		GroupID: JobDescribe,
		Short:   "Let locked nodes be changed again",
		Long:    "Unlock nodes. What somebody else has locked is only unlocked with --force.",
		Example: "  muster unlock r1n7\n  muster unlock rack1 --force",
		Args:    args(1, 1),
	}
	c.RunE = func(c *cobra.Command, a []string) error {
		r, err := s.over(c.Context(), a[0])
		if err != nil {
			return err
		}
		return s.change(c.Context(), "/v1/unlock", api.UnlockNodes{Range: r, Force: force}, func(r api.Changed) string {
			if r.Count == 0 {
				return "nothing to unlock"
			}
			return nodesDid("unlocked")(r)
		})
	}
	c.Flags().BoolVar(&force, "force", false, "also where somebody else has locked")
	return s.locks(c)
}

func (s *session) locks(c *cobra.Command) *cobra.Command {
	c.ValidArgsFunction = s.completeNodes
	c.Flags().BoolVar(&s.flags.known, "known", false, "skip unknown nodes instead of refusing them all")
	return s.maxFlag(s.changeFlags(c))
}
