package cli

import (
	"fmt"
	"path"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"muster/internal/api"
)

func groups(s *session) *cobra.Command {
	return noun("group", JobDescribe, "Groups of nodes, and the attributes that members inherit",
		groupAdd(s), groupRemove(s), groupList(s), groupSet(s), groupGet(s))
}

func groupAdd(s *session) *cobra.Command {
	var members, dynamic string
	c := &cobra.Command{
		Use:   "add NAME [attr=value …]",
		Short: "Add a group",
		Long: `Add a group. Its members inherit its attributes. --members are nodes that join now;
--dynamic is a noderange that is asked anew whenever members are needed.`,
		Example: `  muster group add compute bmc.user=admin bmc.password=- --members r1n[1-40]
  muster group add left --dynamic 'location.rack=r1'`,
		Args: args(1, -1),
	}
	c.RunE = func(c *cobra.Command, a []string) error {
		set, err := s.assignments(c.Context(), a[1:])
		if err != nil {
			return err
		}
		q := api.GroupAction{Name: a[0], Dynamic: dynamic, Set: set, DryRun: s.flags.dryRun}
		if members != "" {
			r, err := s.over(c.Context(), members)
			if err != nil {
				return err
			}
			q.Members = r.Range
		}
		return s.change(c.Context(), "/v1/groups/add", q, groupDid("added", a[0], "joined"))
	}
	c.Flags().StringVar(&members, "members", "", "`noderange` of nodes that join")
	c.Flags().StringVar(&dynamic, "dynamic", "", "`noderange` that says at any time who is a member")
	return s.changeFlags(c)
}

// groupDid is the sentence about a group; members are those that joined or left.
func groupDid(did, name, members string) func(api.Changed) string {
	return func(r api.Changed) string {
		if r.Count == 0 {
			return did + " group " + name
		}
		return fmt.Sprintf("%s group %s, %d nodes %s", did, name, r.Count, members)
	}
}

func groupRemove(s *session) *cobra.Command {
	c := &cobra.Command{
		Use:     "remove NAME",
		Short:   "Remove a group; its nodes stay",
		Long:    "Remove a group. Its nodes stay, and no longer inherit from it. On a terminal it asks first.",
		Example: "  muster group remove old --dry-run",
		Args:    args(1, 1),
	}
	c.RunE = func(c *cobra.Command, a []string) error {
		if err := s.ask(c.Context(), "remove group "+a[0]); err != nil {
			return err
		}
		return s.change(c.Context(), "/v1/groups/remove",
			api.GroupAction{Name: a[0], DryRun: s.flags.dryRun}, groupDid("removed", a[0], "left"))
	}
	c.ValidArgsFunction = s.completeGroups
	return s.changeFlags(c)
}

func groupList(s *session) *cobra.Command {
	c := &cobra.Command{
		Use:     "list",
		Short:   "List groups and their members",
		Example: "  muster group list",
		Args:    args(0, 0),
	}
	c.RunE = func(c *cobra.Command, _ []string) error {
		var all []api.GroupInfo
		if err := s.do(c.Context(), "GET", "/v1/groups", nil, &all); err != nil {
			return err
		}
		documents(s, all, func() {
			rows := [][]string{{"GROUP", "NODES", "MEMBERS"}}
			for _, g := range all {
				name := g.Name
				if g.Range != "" {
					name += " (" + g.Range + ")"
				}
				rows = append(rows, []string{name, strconv.Itoa(g.Count), or(g.Members, "-")})
			}
			s.table(rows)
		})
		return nil
	}
	return c
}

func groupSet(s *session) *cobra.Command {
	c := &cobra.Command{
		Use:     "set NAME[,NAME] attr=value …",
		Short:   "Set attributes that members inherit",
		Long:    "Set attributes of groups; their members inherit them. The forms are those of muster set.",
		Example: "  muster group set compute bmc.user=admin bmc.password=-\n  muster group set everything console.speed=115200",
		Args:    args(2, -1),
	}
	c.RunE = func(c *cobra.Command, a []string) error {
		set, err := s.assignments(c.Context(), a[1:])
		if err != nil {
			return err
		}
		return s.change(c.Context(), "/v1/set",
			api.SetAttrs{Range: api.Range{Range: a[0], DryRun: s.flags.dryRun}, Set: set, Groups: true},
			func(api.Changed) string { return "set group " + a[0] })
	}
	c.ValidArgsFunction = s.completeGroups
	return s.changeFlags(c)
}

func groupGet(s *session) *cobra.Command {
	c := &cobra.Command{
		Use:     "get NAME [attr …]",
		Short:   "Show attributes of a group as they were written",
		Example: "  muster group get compute\n  muster group get compute 'bmc.*'",
		Args:    args(1, -1),
	}
	c.RunE = func(c *cobra.Command, a []string) error {
		var all []api.GroupInfo
		if err := s.do(c.Context(), "GET", "/v1/groups", nil, &all); err != nil {
			return err
		}
		i := slices.IndexFunc(all, func(g api.GroupInfo) bool { return g.Name == a[0] })
		if i < 0 {
			return &api.Error{Code: api.Unknown, What: "group " + a[0], Why: "there is no such group", Do: "See: muster group list"}
		}
		g := all[i]
		for name := range g.Attrs {
			if len(a) > 1 && !slices.ContainsFunc(a[1:], func(glob string) bool { ok, _ := path.Match(glob, name); return ok }) {
				delete(g.Attrs, name)
			}
		}
		s.document(g, func() {
			for _, name := range sortedKeys(g.Attrs) {
				fmt.Fprintf(s.out, "%s: %s=%s\n", g.Name, name, g.Attrs[name])
			}
		})
		return nil
	}
	c.ValidArgsFunction = s.completeGroups
	return c
}
