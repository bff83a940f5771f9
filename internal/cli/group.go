package cli

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"muster/internal/api"
)

func groups(s *session) *cobra.Command {
	return noun("group", JobDescribe, "Groups of nodes, and the attributes that members inherit",
		groupAdd(s), groupRemove(s), groupRename(s), groupList(s), groupShow(s), groupSet(s), groupGet(s))
}

func groupAdd(s *session) *cobra.Command {
	var members, dynamic string
	c := &cobra.Command{
		Use:   "add NAME [attr=value …]",
		Short: "Add a group",
		Long: `Add a group. Its members inherit its attributes. --members are nodes that join now;
--range is a noderange that is asked anew whenever members are needed.`,
		Example: `  muster group add compute bmc.user=admin bmc.password=- --members r1n[1-40]
  muster group add left --range location.rack=r1`,
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
			q.Members, q.MaxNodes = r.Range, r.MaxNodes
		}
		return s.change(c.Context(), "/v1/groups/add", q, groupDid("added", a[0], "joined"))
	}
	c.Flags().StringVar(&members, "members", "", "`noderange` of nodes that join")
	c.Flags().StringVar(&dynamic, "range", "", "`noderange` that says at any time who is a member")
	_ = c.RegisterFlagCompletionFunc("members", s.completeRange)
	_ = c.RegisterFlagCompletionFunc("range", s.completeRange)
	return s.maxFlag(s.changeFlags(c))
}

// groupDid is the sentence about a group; members are those that joined or left.
func groupDid(did, name, members string) func(api.Changed) string {
	return func(r api.Changed) string {
		if r.Count == 0 {
			return did + " group " + name
		}
		return fmt.Sprintf("%s group %s, %s %s", did, name, counted(r.Count, "node"), members)
	}
}

// overGroups is over for the members of groups: it answers the limit that goes to the service.
func (s *session) overGroups(ctx context.Context, names string) (int, error) {
	if s.flags.maxNodes == 0 {
		return 0, nil
	}
	r, err := s.over(ctx, "@"+strings.ReplaceAll(names, ",", ",@"))
	return r.MaxNodes, err
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
		most, err := s.overGroups(c.Context(), a[0])
		if err != nil {
			return err
		}
		if err := s.ask(c.Context(), "remove group "+a[0]); err != nil {
			return err
		}
		return s.change(c.Context(), "/v1/groups/remove",
			api.GroupAction{Name: a[0], DryRun: s.flags.dryRun, MaxNodes: most}, groupDid("removed", a[0], "left"))
	}
	c.ValidArgsFunction = s.completeGroups
	return s.maxFlag(s.changeFlags(c))
}

func groupList(s *session) *cobra.Command {
	c := &cobra.Command{
		Use:     "list",
		Short:   "List groups and their members",
		Example: "  muster group list\n  muster group list --yaml",
		Args:    args(0, 0),
	}
	format := s.formatFlags(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		as, err := format()
		if err != nil {
			return err
		}
		all, err := s.groupInfos(c.Context())
		if err != nil {
			return err
		}
		if as != "" && as != "table" {
			return s.print(as, groupSheet(all))
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

func (s *session) groupInfos(ctx context.Context) ([]api.GroupInfo, error) {
	var all []api.GroupInfo
	return all, s.do(ctx, "GET", "/v1/groups", nil, &all)
}

// groupSheet has range, members and attributes of groups.
func groupSheet(all []api.GroupInfo) sheet {
	t := sheet{key: "group"}
	for _, g := range all {
		r := sheetRow{name: g.Name}
		add := func(attr, value string) {
			r.values = append(r.values, api.AttrValue{Attr: attr, Value: value, Secret: value == masked})
		}
		if g.Range != "" {
			add("range", g.Range)
		}
		add("members", g.Members)
		for _, name := range sortedKeys(g.Attrs) {
			add(name, g.Attrs[name])
		}
		t.rows = append(t.rows, r)
	}
	return t
}

// masked is how the service shows a secret.
const masked = "********"

// namedGroups are the groups of these names, each of which has to be there.
func (s *session) namedGroups(ctx context.Context, names []string) ([]api.GroupInfo, error) {
	all, err := s.groupInfos(ctx)
	if err != nil {
		return nil, err
	}
	var out []api.GroupInfo
	for _, name := range names {
		i := slices.IndexFunc(all, func(g api.GroupInfo) bool { return g.Name == name })
		if i < 0 {
			return nil, &api.Error{Code: api.Unknown, What: "group " + name, Why: "there is no such group", Do: "See: muster group list"}
		}
		out = append(out, all[i])
	}
	return out, nil
}

func groupShow(s *session) *cobra.Command {
	c := &cobra.Command{
		Use:     "show NAME …",
		Short:   "Show all that a group is: range, members, attributes",
		Example: "  muster group show compute",
		Args:    args(1, -1),
	}
	format := s.formatFlags(c)
	c.RunE = func(c *cobra.Command, a []string) error {
		as, err := format()
		if err != nil {
			return err
		}
		all, err := s.namedGroups(c.Context(), commaSeparated(a))
		if err != nil {
			return err
		}
		if s.flags.json {
			documents(s, all, nil)
			return nil
		}
		return s.print(or(as, "stanza"), groupSheet(all))
	}
	c.ValidArgsFunction = s.completeGroups
	return c
}

// commaSeparated reads names given as several arguments, with commas, or both.
func commaSeparated(a []string) []string {
	var out []string
	for _, names := range a {
		out = append(out, strings.FieldsFunc(names, func(r rune) bool { return r == ',' })...)
	}
	return out
}

func groupSet(s *session) *cobra.Command {
	c := &cobra.Command{
		Use:   "set NAME[,NAME] attr=value …",
		Short: "Set attributes that members inherit",
		Long: `Set attributes of groups; their members inherit them. The forms are those of muster set.
range= is the noderange of a dynamic group; members of others join by muster set NODERANGE groups+=NAME.`,
		Example: `  muster group set compute bmc.user=admin bmc.password=-
  muster group set everything console.speed=115200
  muster group set left range='location.rack=r2'`,
		Args: args(2, -1),
	}
	c.RunE = func(c *cobra.Command, a []string) error {
		set, err := s.assignments(c.Context(), a[1:])
		if err != nil {
			return err
		}
		most, err := s.overGroups(c.Context(), a[0])
		if err != nil {
			return err
		}
		return s.change(c.Context(), "/v1/set",
			api.SetAttrs{Range: api.Range{Range: a[0], DryRun: s.flags.dryRun, MaxNodes: most}, Set: set, Groups: true},
			func(api.Changed) string { return "set group " + a[0] })
	}
	c.ValidArgsFunction = func(c *cobra.Command, a []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(a) == 0 {
			return s.completeGroups(c, a, typed)
		}
		return s.completeNodesThenAttributes("=")(c, a, typed)
	}
	return s.maxFlag(s.changeFlags(c))
}

func groupGet(s *session) *cobra.Command {
	c := &cobra.Command{
		Use:   "get NAME … [attr …]",
		Short: "Show attributes of groups as they were written",
		Long: `Show the attributes of groups as they were written. What is the name of a group stands for it;
anything else is an attribute or a glob, of which only these are shown.`,
		Example: "  muster group get compute\n  muster group get compute rack1 'bmc.*'",
		Args:    args(1, -1),
	}
	format := s.formatFlags(c)
	c.RunE = func(c *cobra.Command, a []string) error {
		as, err := format()
		if err != nil {
			return err
		}
		all, err := s.groupInfos(c.Context())
		if err != nil {
			return err
		}
		var names, globs []string
		for i, x := range commaSeparated(a) {
			if i == 0 || slices.ContainsFunc(all, func(g api.GroupInfo) bool { return g.Name == x }) {
				names = append(names, x)
			} else {
				globs = append(globs, x)
			}
		}
		some, err := s.namedGroups(c.Context(), names)
		if err != nil {
			return err
		}
		t := sheet{key: "group"}
		for _, g := range some {
			r := sheetRow{name: g.Name}
			for _, name := range sortedKeys(g.Attrs) {
				if len(globs) > 0 && !slices.ContainsFunc(globs, func(glob string) bool { ok, _ := path.Match(glob, name); return ok }) {
					delete(g.Attrs, name)
					continue
				}
				r.values = append(r.values, api.AttrValue{Attr: name, Value: g.Attrs[name], Secret: g.Attrs[name] == masked})
			}
			t.rows = append(t.rows, r)
		}
		if as != "" {
			return s.print(as, t)
		}
		documents(s, some, func() {
			for _, r := range t.rows {
				for _, v := range r.values {
					fmt.Fprintf(s.out, "%s: %s=%s\n", r.name, v.Attr, v.Value)
				}
			}
		})
		return nil
	}
	c.ValidArgsFunction = s.completeGroups
	return c
}
