package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"muster/internal/api"
)

func status(s *session) *cobra.Command {
	c := &cobra.Command{
		Use:        "status [NODERANGE]",
		SuggestFor: []string{"nodestat"},
		GroupID:    JobSee,
		Short:      "Show what nodes do: off, armed, booting, up, held, silent … and why",
		Long: `Show the truth about nodes in one line each: the status, the image, the power as last seen, and the
reason where something needs a person. -v adds times, console and hardware. Without a noderange: all.`,
		Example: "  muster status\n  muster status compute -v\n  muster status --json | jq -r 'select(.status==\"held\").node'",
		Args:    args(0, 1),
	}
	c.RunE = func(c *cobra.Command, a []string) error {
		r := api.Range{Fanout: s.flags.fanout, TimeoutMS: s.flags.timeout.Milliseconds()}
		if len(a) == 1 {
			var err error
			if r, err = s.over(c.Context(), a[0]); err != nil {
				return err
			}
		}
		now := time.Now()
		return ask(c.Context(), s, question[api.NodeStatus]{
			what: "status", path: "/v1/status",
			in:   api.StatusQuery{Range: r},
			node: func(n *api.NodeStatus) *api.Result { return &n.Result },
			text: func(n *api.NodeStatus) []string { return []string{statusText(n, s.flags.verbose, now)} },
		})
	}
	return s.rangeFlags(c)
}

// statusText is "up, image compute, power on: reason".
func statusText(n *api.NodeStatus, verbose bool, now time.Time) string {
	parts := []string{or(n.Step, n.Status)}
	add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	if n.Image != "" {
		add("image %s", n.Image)
	}
	if n.Power != "" && n.Power != n.Status {
		add("power %s", n.Power)
	}
	if n.Lock != nil {
		add("%s", lockText(n.Lock))
	}
	if verbose {
		if len(n.Aliases) > 0 {
			add("alias %s", strings.Join(n.Aliases, " "))
		}
		if !n.Since.IsZero() {
			add("for %s", ago(n.Since, now))
		}
		if !n.Seen.IsZero() {
			add("seen %s ago", ago(n.Seen, now))
		}
		if !n.Deadline.IsZero() {
			add("held in %s if nothing happens", ago(now, n.Deadline))
		}
		if n.Output != "" {
			add("last output %s", printable(n.Output))
		}
		if n.Console != "" {
			add("console %s", n.Console)
		}
		if f := n.Facts; f != nil {
			add("%d CPUs, %s memory, kernel %s", f.CPUs, size(f.Memory), printable(f.Kernel))
		}
	}
	text := strings.Join(parts, ", ")
	if n.Reason != "" {
		text += ": " + printable(n.Reason)
	}
	return text
}
