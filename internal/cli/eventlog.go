package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"muster/internal/api"
	"muster/internal/model"
)

func eventlog(s *session) *cobra.Command {
	var q api.EventLog
	c := &cobra.Command{
		Use:        "eventlog NODERANGE",
		SuggestFor: []string{"reventlog", "nodeeventlog", "sel"},
		GroupID:    JobHardware,
		Short:      "Show or clear the log of hardware events that controllers keep",
		Long: `Show the log of hardware events that the controllers keep, oldest first. What was not well says so; an event is over when what it told of is.
--clear empties the log after reading it; -v prints then what it held, as --json does. What muster itself saw happen: muster events.`,
		Example: `  muster eventlog r1n7 --last 20
  muster eventlog compute --since 1d
  muster eventlog r1n7 --clear -v > r1n7.log`,
		Args: args(1, 1),
	}
	c.RunE = func(c *cobra.Command, a []string) (err error) {
		if q.Last < 0 {
			return usage("--last", "it is negative", "Give a number of entries")
		}
		if q.Since != "" {
			if q.Since, err = sinceArg(q.Since, time.Now()); err != nil {
				return err
			}
		}
		if q.Range, err = s.over(c.Context(), a[0]); err != nil {
			return err
		}
		what := "eventlog"
		if q.Clear {
			what = "eventlog --clear"
			if err := s.ask(c.Context(), "clear the event logs of "+a[0]); err != nil {
				return err
			}
		}
		return ask(c.Context(), s, question[api.NodeEventLog]{
			what: what, path: "/v1/eventlog", in: q,
			node: func(r *api.NodeEventLog) *api.Result { return &r.Result },
			text: func(r *api.NodeEventLog) []string {
				var out []string
				if r.Cleared == nil || s.flags.verbose {
					for _, e := range r.Entries {
						out = append(out, printable(entryText(e, time.Local)))
					}
				}
				switch {
				case r.Cleared != nil:
					out = append(out, fmt.Sprintf("cleared, it had %d entries", *r.Cleared))
				case len(r.Entries) == 0:
					out = append(out, "no entries")
				}
				return out
			},
		})
	}
	f := c.Flags()
	f.BoolVar(&q.Clear, "clear", false, "empty the log after reading it")
	f.IntVar(&q.Last, "last", 0, "only the newest `N` entries")
	f.StringVar(&q.Since, "since", "", "from this `time` on: 10m, 2h, 3d, 15:04, '2006-01-02 15:04' or RFC 3339")
	return s.changesNodes(c)
}

// entryText is "2026-11-20 06:12:01 PSU 1: input lost (critical)".
func entryText(e model.LogEntry, zone *time.Location) string {
	text := "(no time)          "
	if !e.Time.IsZero() {
		text = e.Time.In(zone).Format(time.DateTime)
	}
	text += " "
	if e.Sensor != "" {
		text += e.Sensor + ": "
	}
	text += e.Text
	if e.Health == model.HealthWarning || e.Health == model.HealthCritical {
		text += " (" + string(e.Health) + ")"
	}
	if e.Over {
		text += ", over"
	}
	return text
}
