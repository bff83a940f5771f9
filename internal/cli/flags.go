package cli

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"muster/internal/api"
)

// The sockets where the service of this machine is looked for, in this order.
const (
	packagedSocket = "/run/muster/muster.sock"
	dataSocket     = "/var/lib/muster/muster.sock"
)

// flags are common to all verbs, or to all verbs of a kind.
type flags struct {
	server, identity   string
	json, fold, noFold bool
	quiet, verbose     bool
	dryRun, yes, known bool
	maxNodes, fanout   int
	atLeast            int64
	timeout            time.Duration
}

func (s *session) commonFlags(c *cobra.Command) {
	f := c.PersistentFlags()
	f.StringVar(&s.flags.server, "server", "", "`address` of the service: unix:/path or https://host:port, or several with commas (MUSTER_SERVER)")
	f.StringVar(&s.flags.identity, "identity", "", "PEM `file` with certificate, key and CA, for https (MUSTER_IDENTITY)")
	f.Int64Var(&s.flags.atLeast, "at-least", 0, "answer from this `revision` or a newer one: what was written on another manager")
	f.BoolVar(&s.flags.json, "json", false, "one JSON object a line, a trailer at the end")
	f.BoolVar(&s.flags.fold, "fold", false, "fold equal answers also when the output is not a terminal")
	f.BoolVar(&s.flags.noFold, "no-fold", false, "one line a node also on a terminal, as answers arrive")
	f.BoolVarP(&s.flags.quiet, "quiet", "q", false, "errors only: no progress, no warnings")
	f.BoolVarP(&s.flags.verbose, "verbose", "v", false, "say more")
}

// rangeFlags are for verbs over nodes.
func (s *session) rangeFlags(c *cobra.Command) *cobra.Command {
	f := c.Flags()
	f.BoolVar(&s.flags.known, "known", false, "skip unknown nodes instead of refusing them all")
	f.IntVar(&s.flags.fanout, "fanout", 0, "work on at most `N` nodes at once (default: the service's)")
	f.DurationVar(&s.flags.timeout, "timeout", 0, "give up on a node after this `time`, as 30s or 2m (default: the verb's)")
	if c.ValidArgsFunction == nil {
		c.ValidArgsFunction = s.completeNodes
	}
	return c
}

// changeFlags are for verbs that change something.
func (s *session) changeFlags(c *cobra.Command) *cobra.Command {
	f := c.Flags()
	f.BoolVarP(&s.flags.dryRun, "dry-run", "n", false, "say what would change, change nothing")
	f.BoolVarP(&s.flags.yes, "yes", "y", false, "do not ask")
	return c
}

// maxFlag is for verbs that change nodes.
func (s *session) maxFlag(c *cobra.Command) *cobra.Command {
	c.Flags().IntVar(&s.flags.maxNodes, "max-nodes", 0, "ask before touching more than `N` nodes; refuse where nobody can be asked")
	return c
}

// changesNodes are all flags of a verb that changes nodes.
func (s *session) changesNodes(c *cobra.Command) *cobra.Command {
	return s.maxFlag(s.changeFlags(s.rangeFlags(c)))
}

// check refuses flags that make no sense, before anything is asked.
func (f *flags) check() error {
	switch {
	case f.fold && f.noFold:
		return usage("--fold", "it is the opposite of --no-fold", "Give one of them")
	case f.timeout < 0:
		return usage("--timeout "+f.timeout.String(), "it is negative", "Give a time as 30s or 2m")
	case f.maxNodes < 0:
		return usage(fmt.Sprintf("--max-nodes %d", f.maxNodes), "it is negative", "Give a number of nodes")
	case f.fanout < 0:
		return usage(fmt.Sprintf("--fanout %d", f.fanout), "it is negative", "Give a number of nodes")
	}
	return nil
}

// client is the client of the service that flags, environment or this machine name.
func (s *session) client() (*api.Client, error) {
	if s.asks != nil {
		return s.asks, nil
	}
	o := api.Options{Server: s.flags.server, Identity: s.flags.identity, AtLeast: s.flags.atLeast}
	told := false
	o.Stale = func(since string) {
		if !told {
			told = true
			s.warn("stale: the manager that answers has been cut off from the majority since %s; what it says may be old", since)
		}
	}
	if o.Server == "" {
		o.Server = s.env("MUSTER_SERVER")
	}
	if o.Identity == "" {
		o.Identity = s.env("MUSTER_IDENTITY")
	}
	if o.Server == "" {
		o.Server = "unix:" + packagedSocket
		if _, err := os.Stat(packagedSocket); err != nil {
			o.Server = "unix:" + dataSocket
		}
	}
	c, err := api.NewClient(o)
	s.asks = c
	return c, err
}

// do asks one question of the service.
func (s *session) do(ctx context.Context, method, path string, in, out any) error {
	c, err := s.client()
	if err != nil {
		return err
	}
	return c.Do(ctx, method, path, in, out)
}

// rangeOf makes the part of a request that names nodes. Files are read here.
func (s *session) rangeOf(nr string) (api.Range, error) {
	r := api.Range{
		Known: s.flags.known, DryRun: s.flags.dryRun, MaxNodes: s.flags.maxNodes,
		Fanout: s.flags.fanout, TimeoutMS: s.flags.timeout.Milliseconds(),
	}
	if s.flags.yes || s.flags.dryRun {
		r.MaxNodes = 0
	}
	var err error
	if r.Range, err = withFiles(nr, os.ReadFile); err != nil {
		return r, err
	}
	if strings.TrimSpace(r.Range) == "" {
		return r, usage("noderange", "it is empty", "All nodes are the group everything")
	}
	return r, s.checkRange(r.Range)
}

// over is rangeOf for nodes that exist. The person is asked where --max-nodes says so; where nobody can be asked, the
// service refuses.
func (s *session) over(ctx context.Context, nr string) (api.Range, error) {
	r, err := s.rangeOf(nr)
	if err != nil || r.MaxNodes == 0 || !s.canAsk() {
		return r, err
	}
	var names api.Names
	if err := s.do(ctx, "POST", "/v1/list", api.ListNodes{Range: api.Range{Range: r.Range, Known: r.Known}}, &names); err != nil {
		return r, err
	}
	if len(names.Names) > r.MaxNodes {
		if err := s.ask(ctx, fmt.Sprintf("touch %d nodes: %s", len(names.Names), names.Folded)); err != nil {
			return r, err
		}
		r.MaxNodes = len(names.Names)
	}
	return r, nil
}

// canAsk says whether somebody sits there.
func (s *session) canAsk() bool { return s.inTerminal && s.errTerminal }

// ask wants a yes on the terminal. Where nobody can be asked, or with --yes, the answer is yes.
func (s *session) ask(ctx context.Context, what string) error {
	if s.flags.yes || s.flags.dryRun || !s.canAsk() {
		return nil
	}
	fmt.Fprintf(s.err, "%s? [y/N] ", what)
	line, err := await(ctx, func() (string, error) { return readLine(s.in) }, func() {})
	if ctx.Err() != nil {
		fmt.Fprintln(s.err)
	}
	if err == nil {
		switch strings.ToLower(strings.TrimSpace(line)) {
		case "y", "yes":
			return nil
		}
	}
	fmt.Fprintln(s.err, "muster: nothing was done")
	return errSilent
}
