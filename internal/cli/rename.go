package cli

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"muster/internal/api"
)

func nodeRename(s *session) *cobra.Command {
	c := &cobra.Command{
		Use:   "rename NODERANGE NAMES",
		Short: "Give nodes other names; all that is known of them moves along",
		Long: `Rename nodes, all or none: as many names as nodes, paired in natural order. Attributes, groups,
deployments, identities and what was observed move along in one change. --dry-run shows the pairs.

What keeps an old name is told: ranges of groups and roles that named it, records of consoles.`,
		Example: "  muster node rename r1n7 r1n8\n  muster node rename n[1-10] m[1-10] --dry-run",
		Args:    args(2, 2),
	}
	c.RunE = func(c *cobra.Command, a []string) error {
		r, err := s.over(c.Context(), a[0])
		if err != nil {
			return err
		}
		to, err := withFiles(a[1], os.ReadFile)
		if err != nil {
			return err
		}
		return s.change(c.Context(), "/v1/nodes/rename", api.RenameNodes{Range: r, To: to}, func(r api.Changed) string {
			return fmt.Sprintf("renamed %s to %s", a[0], r.Nodes)
		})
	}
	c.ValidArgsFunction = s.completeNodes
	return s.maxFlag(s.changeFlags(c))
}

func groupRename(s *session) *cobra.Command {
	c := &cobra.Command{
		Use:     "rename NAME NAME",
		Short:   "Give a group another name; its members stay",
		Long:    "Rename a group. Its members and its attributes stay. Ranges of other groups and of roles that use it are told.",
		Example: "  muster group rename rack1 r1",
		Args:    args(2, 2),
	}
	c.RunE = func(c *cobra.Command, a []string) error {
		q := api.RenameGroup{Name: a[0], To: a[1], DryRun: s.flags.dryRun}
		most, err := s.overGroups(c.Context(), a[0])
		if err != nil {
			return err
		}
		q.MaxNodes = most
		return s.change(c.Context(), "/v1/groups/rename", q, func(r api.Changed) string {
			return fmt.Sprintf("renamed group %s to %s (nodes that list it: %d)", a[0], a[1], r.Count)
		})
	}
	c.ValidArgsFunction = s.completeGroups
	return s.maxFlag(s.changeFlags(c))
}
