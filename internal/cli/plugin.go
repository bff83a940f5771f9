package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"muster/internal/api"
	"muster/internal/bmc/bmctest"
	"muster/internal/bmc/exec"
)

// conformance runs the suite that all drivers pass on a program, and reports each check by its name.
type conformance func(ctx context.Context, program string, report func(name string, err error)) error

func plugins(s *session) *cobra.Command {
	return noun("plugin", JobOther, "Programs that drive controllers for muster (bmc.driver=exec)", pluginList(s), pluginTest(s, exec.Test))
}

func pluginList(s *session) *cobra.Command {
	c := &cobra.Command{
		Use:   "list",
		Short: "List the service's plugins, and whose controllers they drive",
		Long: `List the programs in the directory plugins of the service's data, by the names that bmc.plugin takes, and the nodes whose controllers they drive.
A program that others than its owner may write is not run.`,
		Example: "  muster plugin list",
		Args:    args(0, 0),
	}
	c.RunE = func(c *cobra.Command, _ []string) error {
		var all []api.Plugin
		if err := s.do(c.Context(), "GET", "/v1/plugins", nil, &all); err != nil {
			return err
		}
		documents(s, all, func() {
			if len(all) == 0 {
				fmt.Fprintln(s.err, "no plugin yet; put programs into the directory plugins of the service's data")
				return
			}
			for _, p := range all {
				text := p.Name + ": " + or(p.Nodes, "no node")
				if p.Why != "" {
					text += "; not run: it " + p.Why
				}
				fmt.Fprintln(s.out, printable(text))
			}
		})
		return nil
	}
	return c
}

func pluginTest(s *session, suite conformance) *cobra.Command {
	c := &cobra.Command{
		Use:   "test PROGRAM",
		Short: "Run a program of this machine through the suite that all drivers pass",
		Long: `Run a program of this machine through the suite that muster's own drivers pass, check by check. It is run here and not by the service. What a program says
that it cannot do is no failure.`,
		Example: "  muster plugin test ./pdu.sh",
		Args:    args(1, 1),
	}
	c.RunE = func(c *cobra.Command, a []string) error {
		program, err := filepath.Abs(a[0])
		if err != nil {
			return err
		}
		trailer := api.Trailer{Trailer: true}
		err = suite(c.Context(), program, func(name string, err error) {
			trailer.Asked++
			line := check{Check: name}
			offered := !errors.Is(err, bmctest.ErrNotOffered)
			if err == nil || !offered {
				trailer.Answered++
			} else {
				trailer.Failed++
				s.failed = true
				line.Error = &api.Error{Code: api.Failed, What: name, Why: err.Error()}
			}
			switch {
			case s.flags.json:
				line.NotOffered = !offered
				s.printJSON(line)
			case !offered && s.flags.quiet:
			case !offered:
				fmt.Fprintf(s.out, "%s: %s\n", name, printableLines(err.Error()))
			case err != nil:
				fmt.Fprintf(s.err, "%s: %s\n", name, printableLines(err.Error()))
			case !s.flags.quiet:
				fmt.Fprintf(s.out, "%s: ok\n", name)
			}
		})
		if err != nil {
			return &api.Error{Code: api.Failed, What: "plugin test " + a[0], Why: err.Error()}
		}
		if s.flags.json {
			s.printJSON(trailer)
		} else if !s.flags.quiet {
			fmt.Fprintf(s.out, "%d checks, %d failed\n", trailer.Asked, trailer.Failed)
		}
		return nil
	}
	return c
}

// check is one check of a suite, for --json.
type check struct {
	Check      string     `json:"check"`
	NotOffered bool       `json:"notOffered,omitempty"` // the program says that it cannot do it
	Error      *api.Error `json:"error,omitempty"`
}
