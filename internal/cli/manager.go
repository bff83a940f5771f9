package cli

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"muster/internal/api"
)

func managers(s *session) *cobra.Command {
	return noun("manager", JobService, "The managers of the pool, which are all equal", managerAdd(s), managerList(s), managerRemove(s))
}

func managerAdd(s *session) *cobra.Command {
	c := &cobra.Command{
		Use:   "add NAME",
		Short: "Invite a manager: print the one-time string that it joins with",
		Long: `Invite a further manager into the pool and print the string that it joins with, once, within a day:

  muster serve --join STRING --listen ADDRESS:7443

on the other host, which becomes manager NAME. All managers are equal: every one answers and takes changes, and the pool goes on as long as a majority
of them lives. So have three or five; two are worse than one, since both must live. Inviting the same name again
makes a new string, and the one before no longer counts.`,
		Example: "  muster manager add m2\n  muster serve --join @join-string --listen 10.1.0.2:7443   # on the other host, with the string in a file",
		Args:    args(1, 1),
	}
	c.RunE = func(c *cobra.Command, a []string) error {
		var inv api.Invitation
		if err := s.do(c.Context(), "POST", "/v1/managers/add", api.AddManager{Name: a[0], DryRun: s.flags.dryRun}, &inv); err != nil {
			return err
		}
		s.document(inv, func() {
			if s.flags.dryRun {
				fmt.Fprintf(s.out, "would invite %s\n", a[0])
				return
			}
			fmt.Fprintln(s.out, inv.Join)
			if s.errTerminal && !s.flags.quiet {
				fmt.Fprintf(s.err, "\nIt holds until %s, once. On the host of %s:\n  muster serve --join STRING --listen ADDRESS:7443\n",
					inv.Expires.Local().Format(time.DateTime), a[0])
			}
		})
		return nil
	}
	return s.changeFlags(c)
}

func managerList(s *session) *cobra.Command {
	c := &cobra.Command{
		Use:     "list",
		Short:   "List the managers: which one leads, which one is silent",
		Example: "  muster manager list",
		Args:    args(0, 0),
	}
	c.RunE = func(c *cobra.Command, _ []string) error {
		var all []api.ManagerInfo
		if err := s.do(c.Context(), "GET", "/v1/managers", nil, &all); err != nil {
			return err
		}
		documents(s, all, func() {
			rows := [][]string{{"MANAGER", "ROLE", "STATE", "REVISION", "ADDRESS", "VERSION"}}
			for _, m := range all {
				name, state, rev := m.Name, m.State, "-"
				if m.Self {
					name += " (this one)"
				}
				if m.Why != "" {
					state += ": " + m.Why
				}
				if !m.Stale.IsZero() {
					state += ", no majority for " + strings.TrimSuffix(ago(m.Stale, time.Now()), " ago")
				}
				if m.Revision > 0 {
					rev = strconv.FormatInt(m.Revision, 10)
				}
				rows = append(rows, []string{name, m.Role, state, rev, or(strings.Join(m.Addresses, " "), "-"), or(m.Version, "-")})
			}
			s.table(rows)
		})
		return nil
	}
	return c
}

func managerRemove(s *session) *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use:   "remove NAME",
		Short: "Take a manager out of the pool",
		Long: `Take a manager out of the pool, dead or alive. A live one stops serving. It is refused when those that are left alive would
be no majority, unless --force is given. The removed host still has the pool's keys in its data directory: wipe that.`,
		Example: "  muster manager remove m2\n  muster manager add m2     # to replace it: join again with an empty data directory",
		Args:    args(1, 1),
	}
	c.RunE = func(c *cobra.Command, a []string) error {
		if err := s.ask(c.Context(), "remove manager "+a[0]); err != nil {
			return err
		}
		return s.change(c.Context(), "/v1/managers/remove", api.RemoveManager{Name: a[0], Force: force, DryRun: s.flags.dryRun},
			func(api.Changed) string { return "removed manager " + a[0] })
	}
	c.Flags().BoolVar(&force, "force", false, "also when the live managers that are left are no majority")
	return s.changeFlags(c)
}
