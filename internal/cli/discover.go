package cli

import (
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"muster/internal/api"
)

func discover(s *session) *cobra.Command {
	return noun("discover", JobSee, "Machines that asked for an address and are not known", discoverList(s))
}

func discoverList(s *session) *cobra.Command {
	c := &cobra.Command{
		Use:     "list",
		Short:   "List unknown machines, and why they got no answer",
		Example: "  muster discover list\n  muster why 52:54:00:77:00:09",
		Args:    args(0, 0),
	}
	c.RunE = func(c *cobra.Command, _ []string) error {
		var all []api.Discovered
		if err := s.do(c.Context(), "GET", "/v1/discovered", nil, &all); err != nil {
			return err
		}
		documents(s, all, func() {
			if len(all) == 0 {
				fmt.Fprintln(s.err, "no unknown machine has asked")
				return
			}
			now := time.Now()
			rows := [][]string{{"MAC", "LAST", "ASKED", "VENDOR", "REASON"}}
			for _, d := range all {
				rows = append(rows, []string{d.MAC, ago(d.Last, now) + " ago", strconv.Itoa(d.Count), printable(or(d.Vendor, "-")), printable(d.Reason)})
			}
			s.table(rows)
		})
		return nil
	}
	return c
}
