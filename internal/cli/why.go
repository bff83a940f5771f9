package cli

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"muster/internal/api"
)

func why(s *session) *cobra.Command {
	c := &cobra.Command{
		Use:     "why NODE",
		GroupID: JobSee,
		Short:   "Tell every step of a node on its way up, and what to look at when it stopped",
		Long: `Tell every step of a node's newest attempt, from power on to up, each with its time and reason; and
when it is not up, the step it stopped at, what to look at, the last lines of its console and of its BMC's event log, and
what its work printed last. The last sentence says what to do.
A MAC address tells about a machine that is not known: what it asked, and why it got no answer.`,
		Example: "  muster why r1n2\n  muster why 52:54:00:77:00:09",
		Args:    args(1, 1),
	}
	c.RunE = func(c *cobra.Command, a []string) error {
		var w api.Why
		if err := s.do(c.Context(), "GET", "/v1/why/"+url.PathEscape(a[0]), nil, &w); err != nil {
			return err
		}
		s.document(w, func() { fmt.Fprint(s.out, whyText(&w, time.Local)) })
		return nil
	}
	c.ValidArgsFunction = s.completeNodes
	return c
}

func whyText(w *api.Why, zone *time.Location) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n", w.Node, statusText(&w.Status, false, time.Time{}))
	width, day := 0, ""
	for _, e := range w.Steps {
		width = max(width, len(e.Step))
	}
	for _, e := range w.Steps {
		t := e.Time.In(zone)
		if d := t.Format(time.DateOnly); d != day {
			day = d
			fmt.Fprintf(&b, "\n  %s\n", day)
		}
		mark := " "
		if e.Bad {
			mark = "!"
		}
		fmt.Fprintf(&b, "%s %s  %-*s  %s\n", mark, t.Format("15:04:05.000"), width, e.Step, eventText(e))
	}
	if len(w.Steps) == 0 {
		b.WriteString("\n  nothing has happened yet\n")
	}
	if w.Stopped != "" {
		fmt.Fprintf(&b, "\nstopped at %s\n", printable(w.Stopped))
	}
	for _, l := range w.Look {
		fmt.Fprintf(&b, "  look at: %s\n", printable(l))
	}
	if len(w.Console) > 0 {
		b.WriteString("\nlast lines of the console\n")
		for _, l := range w.Console {
			fmt.Fprintf(&b, "  | %s\n", printable(l))
		}
	}
	if w.Status.Output != "" {
		fmt.Fprintf(&b, "\nlast output of the work\n  | %s\n", printable(w.Status.Output))
	}
	if len(w.EventLog) > 0 {
		b.WriteString("\nevent log of the BMC\n")
		for _, e := range w.EventLog {
			fmt.Fprintf(&b, "  | %s\n", printable(entryText(e, zone)))
		}
	} else if w.EventLogError != "" {
		fmt.Fprintf(&b, "\nthe event log of the BMC could not be read: %s\n", printable(w.EventLogError))
	}
	if w.TookMS > 0 {
		fmt.Fprintf(&b, "\nup %.1f s after power on, of which our own answers took %.1f ms\n", float64(w.TookMS)/1000, float64(w.OursUS)/1000)
	}
	if w.Do != "" {
		fmt.Fprintf(&b, "\nwhat to do: %s\n", printable(w.Do))
	}
	return b.String()
}

// printable keeps control characters of a machine from the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return -1
		}
		return r
	}, s)
}
