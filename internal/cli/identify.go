package cli

import (
	"time"

	"github.com/spf13/cobra"

	"muster/internal/api"
)

func identify(s *session) *cobra.Command {
	var last time.Duration
	words := []string{"on", "off"}
	c := &cobra.Command{
		Use:        "identify NODERANGE on|off",
		SuggestFor: []string{"rbeacon", "nodeidentify", "locate"},
		GroupID:    JobHardware,
		Short:      "Light the locator of machines, so that they are found in the rack",
		Long: `Light the locator of machines, or put it out. --for puts it out again after a time. Locked nodes take it too: it changes nothing
of the machine, and shows where it is.`,
		Example: "  muster identify r1n7 on --for 10m\n  muster identify rack1 off",
		Args:    args(2, 2),
	}
	c.RunE = func(c *cobra.Command, a []string) (err error) {
		q := api.Identify{On: a[1] == "on", ForMS: last.Milliseconds()}
		switch {
		case a[1] != "on" && a[1] != "off":
			return usage("identify "+a[1], "it is neither on nor off", "Say on or off")
		case last < 0 || last > 0 && !q.On:
			return usage("identify --for", "it says how long the light is on", "muster identify "+a[0]+" on --for 10m")
		}
		if q.Range, err = s.over(c.Context(), a[0]); err != nil {
			return err
		}
		return ask(c.Context(), s, question[api.IdentifyResult]{
			what: "identify " + a[1], path: "/v1/identify", in: q,
			node: func(r *api.IdentifyResult) *api.Result { return &r.Result },
			text: func(*api.IdentifyResult) []string { return []string{a[1]} },
		})
	}
	c.ValidArgsFunction = s.completeNodesThen(words)
	c.Flags().DurationVar(&last, "for", 0, "put it out again after this `time`: 10m")
	return s.changesNodes(c)
}
