package cli

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"muster/internal/api"
)

var bootDevices = []string{"network", "disk", "cd", "setup", "default"}

func bootdev(s *session) *cobra.Command {
	var persist, uefi, bios bool
	c := &cobra.Command{
		Use:        "bootdev NODERANGE [network|disk|cd|setup|default]",
		SuggestFor: []string{"rsetboot", "nodesetboot", "nodeboot"},
		GroupID:    JobHardware,
		Short:      "Ask for or set what nodes boot from next",
		Long: `Ask for or set the boot device in the BMC: for the next boot only, or with --persist for all.
default takes the override away. --uefi and --bios ask for a kind of firmware, where machines have both.`,
		Example: "  muster bootdev r1n7\n  muster bootdev compute network\n  muster bootdev r1n7 disk --persist --uefi",
		Args:    args(1, 2),
	}
	c.RunE = func(c *cobra.Command, a []string) error {
		q := api.BootDev{Persist: persist}
		if len(a) == 2 {
			q.Device = a[1]
			if !slices.Contains(bootDevices, q.Device) {
				return usage("bootdev "+q.Device, "there is no such device", "One of: "+strings.Join(bootDevices, ", "))
			}
		}
		switch {
		case uefi && bios:
			return usage("bootdev", "--uefi is the opposite of --bios", "Give one of them")
		case q.Device == "" && (persist || uefi || bios):
			return usage("bootdev", "no device to set", "One of: "+strings.Join(bootDevices, ", "))
		case uefi:
			q.Firmware = "uefi"
		case bios:
			q.Firmware = "bios"
		}
		var err error
		if q.Range, err = s.over(c.Context(), a[0]); err != nil {
			return err
		}
		return ask(c.Context(), s, question[api.BootDevResult]{
			what: strings.TrimSpace("bootdev " + q.Device), path: "/v1/bootdev", in: q,
			node: func(r *api.BootDevResult) *api.Result { return &r.Result },
			text: func(r *api.BootDevResult) []string { return []string{bootDevText(r)} },
		})
	}
	f := c.Flags()
	f.BoolVar(&persist, "persist", false, "for all boots, not only the next")
	f.BoolVar(&uefi, "uefi", false, "boot it by UEFI")
	f.BoolVar(&bios, "bios", false, "boot it by BIOS (legacy)")
	c.ValidArgsFunction = s.completeNodesThen(bootDevices)
	return s.changesNodes(c)
}

// bootDevText is "network, next boot only, uefi".
func bootDevText(r *api.BootDevResult) string {
	text := r.Device
	switch {
	case r.Device == "default" || r.Device == "":
		return "default"
	case r.Persist:
		text += ", every boot"
	default:
		text += ", next boot only"
	}
	if r.Firmware != "" {
		text += ", " + r.Firmware
	}
	return text
}
