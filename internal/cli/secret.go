package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"muster/internal/api"
)

func secrets(s *session) *cobra.Command {
	return noun("secret", JobDescribe, "Show secrets, which is put on record, and seal them anew", secretReveal(s), secretRotate(s))
}

func secretReveal(s *session) *cobra.Command {
	var group bool
	c := &cobra.Command{
		Use:   "reveal NODERANGE ATTR",
		Short: "Show a secret in readable form; this is put on record",
		Long: `Show a secret attribute of nodes in readable form. That it was shown, to whom and of which nodes, is on the audit trail before
it is. With --group the name is that of a group, and the secret the one written on it.`,
		Example: "  muster secret reveal r1n7 bmc.password\n  muster secret reveal compute bmc.password --group",
		Args:    args(2, 2),
	}
	c.RunE = func(c *cobra.Command, a []string) error {
		in := api.Reveal{Attr: a[1], Group: group}
		in.Range.Range = a[0]
		if !group {
			r, err := s.over(c.Context(), a[0])
			if err != nil {
				return err
			}
			in.Range = r
		}
		return ask(c.Context(), s, question[api.Revealed]{
			what: "secret reveal", path: "/v1/secret/reveal", in: in,
			node: func(n *api.Revealed) *api.Result { return &n.Result },
			text: func(n *api.Revealed) []string { return []string{n.Attr + "=" + n.Plain} },
		})
	}
	c.ValidArgsFunction = s.completeNodesThenAttributes("")
	s.rangeFlags(c).Flags().BoolVar(&group, "group", false, "the name is that of a group")
	return s.maxFlag(c)
}

func secretRotate(s *session) *cobra.Command {
	var forget bool
	c := &cobra.Command{
		Use:   "rotate",
		Short: "Seal every secret anew under a fresh data key",
		Long: `Make a fresh data key and seal every secret of every node and group anew under it, in one change. The keys before are kept, so that
undo can bring old secrets back; with --forget those are thrown away that were not in use for ten minutes, and what history holds of old
secrets cannot be opened any more. So to be rid of all, rotate, and rotate --forget a quarter of an hour later.`,
		Example: "  muster secret rotate\n  muster secret rotate --forget",
		Args:    args(0, 0),
	}
	c.RunE = func(c *cobra.Command, _ []string) error {
		if forget {
			if err := s.ask(c.Context(), "throw the old data keys away"); err != nil {
				return err
			}
		}
		return s.change(c.Context(), "/v1/secret/rotate", api.RotateSecrets{Forget: forget, DryRun: s.flags.dryRun}, func(r api.Changed) string {
			return fmt.Sprintf("sealed the secrets of %d nodes and groups anew", r.Count)
		})
	}
	c.Flags().BoolVar(&forget, "forget", false, "throw away data keys that were not in use for ten minutes")
	return s.changeFlags(c)
}
