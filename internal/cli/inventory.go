package cli

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"muster/internal/api"
)

func inventory(s *session) *cobra.Command {
	var q api.Inventory
	var changes bool
	c := &cobra.Command{
		Use:        "inventory NODERANGE",
		SuggestFor: []string{"rinv", "nodeinventory", "fru"},
		GroupID:    JobHardware,
		Short:      "List the parts of machines, what of them is missing, and what changed",
		Long: `Read the parts of machines from their controllers, compare them with the reading before, and keep the record. A part that is not found any more
is missing, until it is back or --accept takes it for gone. Of a machine that is off a controller may not see all parts: they are not missed then.

--changes prints what is otherwise than at the reading before, and nothing else. --history prints the record of changes, --cached the parts as they were
read last; both answer at once and ask no controller.`,
		Example: `  muster inventory r1n7
  muster inventory compute --kind memory,disk
  muster inventory compute --changes
  muster inventory r1n7 --history --since 30d
  muster inventory r1n7 --accept                 # DIMM A3 was taken out on purpose`,
		Args: args(1, 1),
	}
	c.RunE = func(c *cobra.Command, a []string) (err error) {
		switch {
		case q.Cached && q.History, changes && (q.Cached || q.History), q.Accept && (q.Cached || q.History):
			return usage("inventory", "--cached and --history are about the record, and go with neither each other nor --changes and --accept", "Give one of them")
		case q.Since != "" && !q.History:
			return usage("inventory --since", "it is for --history", "Add --history")
		}
		if q.Since != "" {
			if q.Since, err = sinceArg(q.Since, time.Now()); err != nil {
				return err
			}
		}
		if q.Range, err = s.over(c.Context(), a[0]); err != nil {
			return err
		}
		return ask(c.Context(), s, question[api.NodeInventory]{
			what: "inventory", path: "/v1/inventory", in: q,
			node: func(r *api.NodeInventory) *api.Result { return &r.Result },
			text: func(r *api.NodeInventory) []string {
				if q.History || changes {
					return changeLines(r, q.History)
				}
				out := make([]string, len(r.Parts))
				for i := range r.Parts {
					out[i] = printable(partText(&r.Parts[i], s.flags.verbose))
				}
				return out
			},
			also: func(r *api.NodeInventory) string {
				var out []string
				if !changes && !q.History {
					for _, c := range r.Changes {
						out = append(out, printable("changed: "+c.String()))
					}
				}
				if r.Note != "" {
					out = append(out, printable(r.Note))
				}
				if q.Cached {
					out = append(out, "read "+ago(r.Read, time.Now())+" ago")
				}
				return strings.Join(out, "\n")
			},
		})
	}
	f := c.Flags()
	f.StringSliceVar(&q.Kinds, "kind", nil, "only these `kinds` of parts, with commas: cpu, memory, disk, nic, gpu, power, …; * and ? are patterns")
	f.BoolVar(&changes, "changes", false, "print what is otherwise than at the reading before")
	f.BoolVar(&q.History, "history", false, "print the record of changes")
	f.BoolVar(&q.Cached, "cached", false, "print the parts as they were read last, at once")
	f.BoolVar(&q.Accept, "accept", false, "take the missing parts for gone")
	f.StringVar(&q.Since, "since", "", "with --history: from this `time` on")
	return s.changesNodes(c)
}

func changeLines(r *api.NodeInventory, dated bool) []string {
	if len(r.Changes) == 0 {
		return []string{"no changes"}
	}
	out := make([]string, len(r.Changes))
	for i, c := range r.Changes {
		if out[i] = printable(c.String()); dated {
			out[i] = c.Time.Local().Format(time.DateTime) + " " + out[i]
		}
	}
	return out
}

// partText is "DIMM A1: memory, Samsung M393A4K40 32 GiB serial 123", and of one that is not there "missing since …: …".
func partText(p *api.NodePart, verbose bool) string {
	text := p.Slot + ": "
	if !p.Missing.IsZero() {
		text += "missing since " + p.Missing.Local().Format(time.DateTime) + ": "
	}
	text += p.Kind
	if said := p.Part.String(); said != p.Kind {
		text += ", " + said
	}
	if p.Firmware != "" {
		text += ", firmware " + p.Firmware
	}
	if p.MAC != "" {
		text += ", " + p.MAC
	}
	if p.WWN != "" {
		text += ", " + p.WWN
	}
	if p.Health != "" && p.Health != "ok" && p.Health != "unknown" {
		text += ", " + string(p.Health)
	}
	if verbose {
		for _, name := range slices.Sorted(maps.Keys(p.Other)) {
			text += ", " + name + " " + p.Other[name]
		}
	}
	return text
}
