package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"muster/internal/api"
)

// controllers is the noun bmc.
func controllers(s *session) *cobra.Command {
	return noun("bmc", JobHardware, "The management controllers themselves", bmcInfo(s), bmcTest(s), bmcTrust(s), bmcGet(s), bmcSet(s), bmcReset(s), bmcRaw(s))
}

func bmcInfo(s *session) *cobra.Command {
	c := &cobra.Command{
		Use:     "info NODERANGE",
		Short:   "Say who the controllers are: maker, model, firmware, addresses",
		Example: "  muster bmc info r1n7\n  muster bmc info compute --fold",
		Args:    args(1, 1),
	}
	c.RunE = func(c *cobra.Command, a []string) error {
		r, err := s.over(c.Context(), a[0])
		if err != nil {
			return err
		}
		return ask(c.Context(), s, question[api.NodeBMC]{
			what: "bmc info", path: "/v1/bmc/info", in: api.BMCInfo{Range: r},
			node: func(r *api.NodeBMC) *api.Result { return &r.Result },
			text: func(r *api.NodeBMC) []string {
				var out []string
				for _, f := range [][2]string{
					{"protocol", r.Protocol},
					{"vendor", r.Vendor},
					{"model", r.Model},
					{"firmware", r.Firmware},
					{"address", r.Address},
					{"mac", r.MAC},
					{"machine", r.Machine},
					{"serial", r.Serial},
					{"guid", r.GUID},
					{"session", r.Session},
				} {
					if f[1] != "" {
						out = append(out, printable(f[0]+": "+f[1]))
					}
				}
				return out
			},
		})
	}
	return s.rangeFlags(c)
}

func bmcTest(s *session) *cobra.Command {
	c := &cobra.Command{
		Use:   "test NODERANGE",
		Short: "Say step by step what of the controllers works, and what to do where it does not",
		Long: `Try what muster needs of controllers, step by step: that the settings are there, that something answers, that the login is taken, that the power
can be seen, that the privilege is enough, and that the serial line connects. Nothing of the machine is changed. A controller that cannot do a thing at all
has not failed.`,
		Example: "  muster bmc test r1n7\n  muster bmc test everything --fold",
		Args:    args(1, 1),
	}
	c.RunE = func(c *cobra.Command, a []string) error {
		r, err := s.over(c.Context(), a[0])
		if err != nil {
			return err
		}
		return ask(c.Context(), s, question[api.NodeBMCTest]{
			what: "bmc test", path: "/v1/bmc/test", in: api.BMCTest{Range: r}, despite: true,
			node: func(r *api.NodeBMCTest) *api.Result { return &r.Result },
			text: func(r *api.NodeBMCTest) []string {
				out := make([]string, len(r.Steps))
				for i, st := range r.Steps {
					out[i] = fmt.Sprintf("%-9s %s", st.Step, st.Did)
					if st.Text != "" && st.Did != "failed" { // why it failed is told as the node's error
						out[i] += ": " + printable(st.Text)
					}
					if s.flags.verbose && st.Did == "ok" {
						out[i] += fmt.Sprintf(" (%d ms)", st.MS)
					}
				}
				return out
			},
		})
	}
	return s.rangeFlags(c)
}

func bmcGet(s *session) *cobra.Command {
	c := &cobra.Command{
		Use:   "get NODERANGE [SETTING …]",
		Short: "Show the settings of controllers, and of the firmware where they know it",
		Long: `Show settings, all or those that are named; * and ? are patterns. Fixed ones cannot be set. Where a value comes to count only when the machine is started
anew, it is said too. Passwords are told by no controller.`,
		Example: "  muster bmc get r1n7\n  muster bmc get compute 'lan.*' --fold\n  muster bmc get r1n7 'user.*' bios.BootMode",
		Args:    args(1, -1),
	}
	c.RunE = func(c *cobra.Command, a []string) error {
		r, err := s.over(c.Context(), a[0])
		if err != nil {
			return err
		}
		return ask(c.Context(), s, question[api.NodeSettings]{
			what: "bmc get", path: "/v1/bmc/get", in: api.BMCGet{Range: r, Names: a[1:]},
			node: func(r *api.NodeSettings) *api.Result { return &r.Result },
			text: func(r *api.NodeSettings) []string {
				out := make([]string, len(r.Settings))
				for i, v := range r.Settings {
					out[i] = v.Name + "=" + v.Value
					if v.Pending != "" {
						out[i] += " (" + v.Pending + " after the next boot)"
					}
					if v.Fixed && s.flags.verbose {
						out[i] += " (fixed)"
					}
					out[i] = printable(out[i])
				}
				return out
			},
		})
	}
	return s.rangeFlags(c)
}

func bmcSet(s *session) *cobra.Command {
	var leave bool
	c := &cobra.Command{
		Use:   "set NODERANGE SETTING=VALUE …",
		Short: "Set settings of controllers and read them back",
		Long: `Set settings of controllers, and read them back: one that did not take is an error. What comes to count only when the machine is started anew is said.
Which settings there are: muster bmc get.

A value - is a secret: asked for on a terminal, else one line of standard input. password (or password=-) is that of the account that muster
logs in with. Where its password is set, by this or its own name, the login with the new one is tried, and bmc.password is set on the nodes too;
--leave leaves that as it is.`,
		Example: `  muster bmc set r1n7 lan.gateway=10.78.0.1
  muster bmc set compute password                # and bmc.password
  muster bmc set r1n7 user.3.name=ops user.3.password=- user.3.privilege=operator`,
		Args: args(2, -1),
	}
	c.RunE = func(c *cobra.Command, a []string) error {
		r, err := s.over(c.Context(), a[0])
		if err != nil {
			return err
		}
		words := a[1:]
		for i, w := range words {
			if w == "password" {
				words[i] = "password=-"
			}
		}
		set, err := s.assignments(c.Context(), words)
		if err != nil {
			return err
		}
		return s.bmcDo(c, "bmc set", "/v1/bmc/set", api.BMCSet{Range: r, Set: set, Leave: leave})
	}
	c.ValidArgsFunction = s.completeNodes
	c.Flags().BoolVar(&leave, "leave", false, "leave bmc.password as it is")
	return s.changesNodes(c)
}

func bmcTrust(s *session) *cobra.Command {
	c := &cobra.Command{
		Use:   "trust NODERANGE",
		Short: "Take the certificates that controllers show now for theirs",
		Long: `Set bmc.pin of each node to the certificate that its Redfish controller shows now, where it is not trusted already: from then on another one is refused. Do
it where nobody can stand between, such as on the network of the controllers at the first contact. See what it would take with --dry-run.`,
		Example: "  muster bmc trust compute --dry-run\n  muster bmc trust compute",
		Args:    args(1, 1),
	}
	c.RunE = func(c *cobra.Command, a []string) error {
		r, err := s.over(c.Context(), a[0])
		if err != nil {
			return err
		}
		return s.bmcDo(c, "bmc trust", "/v1/bmc/trust", api.BMCTrust{Range: r})
	}
	return s.changesNodes(c)
}

func bmcReset(s *session) *cobra.Command {
	c := &cobra.Command{
		Use:     "reset NODERANGE",
		Short:   "Start controllers anew; the machines go on",
		Long:    "Start controllers anew (a cold reset). The machines go on; consoles have a gap of the minutes that it takes.",
		Example: "  muster bmc reset r1n7",
		Args:    args(1, 1),
	}
	c.RunE = func(c *cobra.Command, a []string) error {
		r, err := s.over(c.Context(), a[0])
		if err != nil {
			return err
		}
		return s.bmcDo(c, "bmc reset", "/v1/bmc/reset", api.BMCReset{Range: r})
	}
	return s.changesNodes(c)
}

// bmcDo asks for something to be done to controllers.
func (s *session) bmcDo(c *cobra.Command, what, path string, in any) error {
	return ask(c.Context(), s, question[api.BMCDone]{
		what: what, path: path, in: in,
		node: func(r *api.BMCDone) *api.Result { return &r.Result },
		text: func(r *api.BMCDone) []string {
			text := r.Did
			if len(r.Pending) > 0 {
				text += "; counts after the next boot: " + strings.Join(r.Pending, ", ")
			}
			if s.flags.dryRun {
				text = "dry run, nothing was done: " + text
			}
			return []string{printable(text)}
		},
	})
}

func bmcRaw(s *session) *cobra.Command {
	c := &cobra.Command{
		Use:   "raw NODERANGE REQUEST …",
		Short: "Send a request in the words of the protocol, for what has no verb",
		Long: `Send a request in the words of the protocol, and print the answer. It is not looked at: what it does, it does. On the timeline stand its first
two words.

  IPMI      network function, command and data as bytes: 0x06 0x01
  Redfish   a method and a path: GET /redfish/v1/Chassis`,
		Example: "  muster bmc raw r1n7 0x06 0x01\n  muster bmc raw r1n7 GET /redfish/v1/Managers",
		Args:    args(2, -1),
	}
	c.RunE = func(c *cobra.Command, a []string) error {
		r, err := s.over(c.Context(), a[0])
		if err != nil {
			return err
		}
		return ask(c.Context(), s, question[api.NodeRaw]{
			what: "bmc raw", path: "/v1/bmc/raw", in: api.BMCRaw{Range: r, Request: strings.Join(a[1:], " ")},
			node: func(r *api.NodeRaw) *api.Result { return &r.Result },
			text: func(r *api.NodeRaw) []string { return []string{printableLines(r.Answer)} },
		})
	}
	return s.changesNodes(c)
}
