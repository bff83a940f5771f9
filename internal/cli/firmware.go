package cli

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"muster/internal/api"
)

func firmware(s *session) *cobra.Command {
	return noun("firmware", JobHardware, "Firmware of machines: which there is, and new ones", firmwareList(s), firmwareUpdate(s))
}

func firmwareList(s *session) *cobra.Command {
	c := &cobra.Command{
		Use:     "list NODERANGE",
		Short:   "List the firmware of machines with its versions",
		Example: "  muster firmware list r1n7\n  muster firmware list compute --fold",
		Args:    args(1, 1),
	}
	c.RunE = func(c *cobra.Command, a []string) error {
		r, err := s.over(c.Context(), a[0])
		if err != nil {
			return err
		}
		return ask(c.Context(), s, question[api.NodeFirmware]{
			what: "firmware list", path: "/v1/firmware/list", in: api.FirmwareList{Range: r},
			node: func(r *api.NodeFirmware) *api.Result { return &r.Result },
			text: func(r *api.NodeFirmware) []string {
				out := make([]string, len(r.Firmware))
				for i, f := range r.Firmware {
					if out[i] = f.Name + ": " + f.Version; s.flags.verbose && f.Updatable {
						out[i] += " (can be updated)"
					}
					out[i] = printable(out[i])
				}
				return out
			},
		})
	}
	return s.rangeFlags(c)
}

func firmwareUpdate(s *session) *cobra.Command {
	var targets []string
	c := &cobra.Command{
		Use:   "update NODERANGE FILE",
		Short: "Update the firmware of machines with an image",
		Long: `Send an image to the service, which uploads it to the controllers and follows each until it is done, an hour at most (--timeout). The controller decides
what the image is for, unless --target says so. Some firmware counts only when the machine is started anew: the answer says it.`,
		Example: `  muster firmware update r1n7 bios-2.1.bin
  muster firmware update compute bmc.fwpkg --target BMC --fanout 8`,
		Args: args(2, 2),
	}
	c.RunE = func(c *cobra.Command, a []string) error {
		f, err := os.Open(a[1])
		if err != nil {
			return usage("firmware update", reason(err), "Give a file")
		}
		defer f.Close()
		if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
			return usage("firmware update "+a[1], "it is empty, or no file", "Give the image")
		}
		r, err := s.over(c.Context(), a[0])
		if err != nil {
			return err
		}
		what := "update the firmware of " + a[0] + " with " + filepath.Base(a[1])
		if s.flags.dryRun {
			return s.wouldReach(c, r, "firmware update with "+filepath.Base(a[1]))
		}
		if err := s.ask(c.Context(), what); err != nil {
			return err
		}
		q := rangeQuery(r)
		q.Set("name", filepath.Base(a[1]))
		if len(targets) > 0 {
			q["targets"] = targets
		}
		return ask(c.Context(), s, question[api.FirmwareStep]{
			what: "firmware update", path: "/v1/firmware/update?" + q.Encode(), in: f,
			node: func(r *api.FirmwareStep) *api.Result { return &r.Result },
			news: func(r *api.FirmwareStep) string {
				if r.Done {
					return ""
				}
				if r.Percent != nil {
					return strings.TrimSpace(fmt.Sprintf("%s %d %%", r.Step, *r.Percent))
				}
				return or(r.Step, "…")
			},
			text: func(r *api.FirmwareStep) []string {
				if r.Step == "" {
					return []string{"done"}
				}
				return []string{printable("done: " + r.Step)}
			},
		})
	}
	c.ValidArgsFunction = s.completeNodesThenFiles
	c.Flags().StringSliceVar(&targets, "target", nil, "`names` of firmware list that it is for, with commas")
	return s.changesNodes(c)
}

// rangeQuery is a request's range as parameters, where the body is something else.
func rangeQuery(r api.Range) url.Values {
	q := url.Values{"range": {r.Range}}
	for name, v := range map[string]int64{"timeout_ms": r.TimeoutMS, "fanout": int64(r.Fanout), "max_nodes": int64(r.MaxNodes)} {
		if v > 0 {
			q.Set(name, fmt.Sprint(v))
		}
	}
	if r.Known {
		q.Set("known", "true")
	}
	return q
}
