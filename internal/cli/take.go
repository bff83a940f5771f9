package cli

import (
	"github.com/spf13/cobra"

	"muster/internal/api"
)

func take(s *session) *cobra.Command {
	var proxy bool
	c := &cobra.Command{
		Use:     "take NODERANGE",
		GroupID: JobDeploy,
		Short:   "Answer nodes that were only observed, and let them be switched",
		Long: `Take nodes over from another system: their requests to boot are answered from the next packet on, and
power, bootdev and what changes their controllers work. It sets net.<name>.mode of their ports to
full, or to proxy: then another DHCP server goes on giving their addresses, and muster tells what to
boot.

In a network with mode=observe nothing is answered before that; what would have been is recorded:
muster why NODE. It also tells which address a node takes of the other server.`,
		Example: "  muster network set compute mode=observe\n  muster take r1n7\n  muster take rack1 --proxy",
		Args:    args(1, 1),
	}
	c.RunE = func(c *cobra.Command, a []string) error {
		r, err := s.over(c.Context(), a[0])
		if err != nil {
			return err
		}
		return s.change(c.Context(), "/v1/take", api.TakeNodes{Range: r, Proxy: proxy}, handed("took", "they are taken already"))
	}
	c.Flags().BoolVar(&proxy, "proxy", false, "another DHCP server gives their addresses")
	return s.locks(c)
}

func release(s *session) *cobra.Command {
	c := &cobra.Command{
		Use:     "release NODERANGE",
		GroupID: JobDeploy,
		Short:   "Hand nodes back: only observe them",
		Long: `Hand nodes back to another system: from the next packet on nothing that they ask is answered, and what
would have been is recorded. It sets net.<name>.mode of their ports to observe.`,
		Example: "  muster release r1n7",
		Args:    args(1, 1),
	}
	c.RunE = func(c *cobra.Command, a []string) error {
		r, err := s.over(c.Context(), a[0])
		if err != nil {
			return err
		}
		return s.change(c.Context(), "/v1/release", api.ReleaseNodes{Range: r}, handed("released", "they are observed only already"))
	}
	return s.locks(c)
}

func handed(did, nothing string) func(api.Changed) string {
	return func(r api.Changed) string {
		if r.Count == 0 {
			return nothing
		}
		return nodesDid(did)(r)
	}
}
