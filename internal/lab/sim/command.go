package sim

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"muster/internal/api"
	"muster/internal/model"
)

// defaultSocket is where a fleet takes orders.
const defaultSocket = "/run/muster-sim.sock"

// Command is "muster lab sim".
func Command() *cobra.Command {
	var o Options
	var socket, password, first string
	dead, slow, old := percent{&o.Dead}, percent{&o.Slow}, percent{&o.Version15}
	c := &cobra.Command{
		Use:   "sim",
		Short: "Run a fleet of simulated BMCs in one process, to try and measure on",
		Long: `Run simulated BMCs in one process until it is interrupted: IPMI over one UDP port, Redfish over one TCP port, each BMC
on a loopback address of its own. Nothing is reachable from outside. Each has power, boot device, sensors, event log,
inventory, accounts, and over IPMI a serial line on which its machine says numbered lines; over Redfish one of several
vendors' ways. The commands that make the nodes in muster are printed at start.

Nodes are numbered from 1: first those that speak IPMI, then those that speak Redfish. The BMC of node i has the i-th
address after --first: n1 is 127.20.0.1, n256 is 127.20.1.0, so an expression gives it: 127.20.{n0/256}.{n0%256}.`,
		Example: `  muster lab sim --ipmi 10000 --redfish 2000 --dead 5% --slow 1%
  muster lab sim --ipmi 100 --lines 10 --deterministic 7
  muster lab sim fault 'n[1-20]' drop=30% delay=200ms
  muster lab sim talk 'n[1-100]' 10
  ipmitool -I lanplus -H 127.20.0.1 -p 9623 -U admin -f /run/muster-sim.password sdr`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			if password == "" {
				password = strings.TrimSuffix(socket, filepath.Ext(socket)) + ".password"
			}
			return run(ctx, cmd.OutOrStdout(), o, first, socket, password)
		},
	}
	c.PersistentFlags().StringVar(&socket, "socket", defaultSocket, "unix socket on which the fleet takes orders")
	f := c.Flags()
	f.IntVar(&o.IPMI, "ipmi", 100, "how many BMCs speak IPMI")
	f.IntVar(&o.Redfish, "redfish", 0, "how many BMCs speak Redfish")
	f.StringVar(&o.Prefix, "prefix", "n", "what names of nodes begin with")
	f.StringVar(&first, "first", "127.20.0.0", "address before that of node 1; its last two numbers are 0")
	f.BoolVar(&o.Ports, "ports", false, "one address and a port for each BMC, the i-th after --ipmi-port or --redfish-port; a socket each")
	f.Uint16Var(&o.IPMIPort, "ipmi-port", 9623, "UDP port of IPMI")
	f.Uint16Var(&o.RedfishPort, "redfish-port", 9443, "TCP port of Redfish")
	f.StringVar(&o.User, "user", "admin", "administrator of all BMCs")
	f.StringVar(&password, "password", "", "file with the password; made when there is none (default: beside the socket)")
	f.Var(dead, "dead", "share of BMCs that answer nothing, such as 5%")
	f.Var(slow, "slow", "share of BMCs that take "+Slow.String()+" for every answer")
	f.Var(old, "ipmi15", "share of IPMI BMCs that know IPMI 1.5 only")
	f.Uint64Var(&o.Seed, "deterministic", 0, "seed that makes the fleet the same each time")
	f.DurationVar(&o.Delay, "delay", 2*time.Second, "time between a power command and the power")
	f.Float64Var(&o.Lines, "lines", 0, "lines a second that each machine says on its serial line")
	f.StringSliceVar(&o.Profiles, "profile", nil, "vendors of the Redfish BMCs: "+strings.Join(Profiles(), ", ")+" (default all in turn)")
	c.AddCommand(faultCommand(&socket), talkCommand(&socket), statusCommand(&socket), nodesCommand(&socket), authorityCommand(&socket))
	return c
}

// percent is a flag that takes "5%" or "0.05".
type percent struct{ v *float64 }

func (p percent) String() string {
	if p.v == nil {
		return "0%"
	}
	return strconv.FormatFloat(*p.v*100, 'g', -1, 64) + "%"
}

func (p percent) Type() string { return "share" }

func (p percent) Set(s string) (err error) {
	*p.v, err = share(s)
	return err
}

func run(ctx context.Context, out io.Writer, o Options, first, socket, password string) error {
	var err error
	if o.First, err = netip.ParseAddr(first); err != nil {
		return usage("--first: " + err.Error())
	}
	if o.Password, err = passwordOf(password); err != nil {
		return &api.Error{Code: api.Failed, What: "lab sim: password", Why: err.Error(), Do: "Say where it may be kept with --password FILE, and the socket with --socket PATH"}
	}
	if err := o.check(); err != nil {
		return usage(strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	f, err := New(o)
	if err != nil {
		return &api.Error{Code: api.Failed, What: "lab sim", Why: err.Error(), Do: "Is another fleet running? muster lab sim status. Other ports: --ipmi-port, --redfish-port"}
	}
	_, _ = fmt.Fprintf(out, "%d BMCs: %s, seed %d, password in %s, orders at %s\n", len(f.bmcs), f.Range(), f.seed, password, socket)
	for _, c := range f.NodeCommands(password) {
		_, _ = fmt.Fprintln(out, "  "+c)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return f.Control(ctx, socket, password) })
	g.Go(func() error { return f.Run(ctx) })
	err = g.Wait()
	if ctx.Err() != nil && err == nil {
		return nil
	}
	return err
}

func usage(why string) error {
	return &api.Error{Code: api.Usage, What: "lab sim", Why: why}
}

// passwordOf reads the password, or makes one.
func passwordOf(file string) (model.Secret, error) {
	made := strings.ToLower(rand.Text()[:16])
	w, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		_, err = w.WriteString(made + "\n")
		return model.NewSecret(made), errors.Join(err, w.Close())
	}
	if !errors.Is(err, os.ErrExist) {
		return model.Secret{}, err
	}
	b, err := os.ReadFile(file)
	line, _, _ := bytes.Cut(b, []byte("\n"))
	return model.NewSecret(string(line)), err
}

func faultCommand(socket *string) *cobra.Command {
	return &cobra.Command{
		Use:   "fault RANGE FAULT…",
		Short: "Let BMCs of a running fleet do something wrong, or right again",
		Long: `Let BMCs of a running fleet do something wrong. Faults add up; "none" takes all back.

  dead, alive            answers nothing; Redfish takes the connection and is silent
  slow                   takes ` + Slow.String() + ` for every answer
  delay=200ms            takes that long
  drop=30%               loses packets, each way; breaks Redfish requests off
  duplicate=5%           sends answers twice (IPMI)
  reorder=10%            sends answers after the next one (IPMI)
  password=wrong|right   all passwords are other ones
  certificate=new        shows another certificate (Redfish)
  firmware=hang|ok       updates stop half way, or go on (Redfish)
  none                   nothing of all that`,
		Example: "  muster lab sim fault 'n[1-20]' drop=30%\n  muster lab sim fault n7 dead\n  muster lab sim fault 'n[1-10000]' none",
		Args:    cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return tell(cmd, *socket, "/fault", order{Range: args[0], Faults: args[1:]})
		},
	}
}

func talkCommand(socket *string) *cobra.Command {
	var burst int64
	c := &cobra.Command{
		Use:     "talk RANGE LINES",
		Short:   "Set how many lines a second machines say on their serial lines",
		Long:    "Set how many numbered lines of " + strconv.Itoa(lineLength) + " octets a second machines say on their serial lines, and let them say some at once.\nA line is the node's name, the number of the line since power-on, and filler: who has all numbers has lost nothing.",
		Example: "  muster lab sim talk 'n[1-1000]' 10\n  muster lab sim talk n1 0 --burst 1000000",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			rate, err := strconv.ParseFloat(args[1], 64)
			if err != nil {
				return usage(fmt.Sprintf("%q is no number of lines a second", args[1]))
			}
			return tell(cmd, *socket, "/talk", order{Range: args[0], Lines: rate, Burst: burst})
		},
	}
	c.Flags().Int64Var(&burst, "burst", 0, "lines that are said at once")
	return c
}

func statusCommand(socket *string) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "status", Short: "Show what a running fleet is and did", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b, err := ask(cmd.Context(), *socket, http.MethodGet, "/status", nil)
			if err != nil {
				return err
			}
			if asJSON {
				_, err = cmd.OutOrStdout().Write(b)
				return err
			}
			var s Status
			if err := json.Unmarshal(b, &s); err != nil {
				return err
			}
			t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 8, 2, ' ', 0)
			_, _ = fmt.Fprintf(t, "nodes\t%s: %d IPMI, %d Redfish, seed %d\n", s.Range, s.IPMI, s.Redfish, s.Seed)
			_, _ = fmt.Fprintf(t, "state\t%d dead, %d with other faults, %d machines on, %d consoles\n", s.Dead, s.Faulty, s.On, s.Consoles)
			_, _ = fmt.Fprintf(t, "IPMI\t%d packets in, %d out, %d lost by faults, %d commands, %d sessions\n", s.Received, s.Sent, s.Dropped, s.Commands, s.Sessions)
			_, _ = fmt.Fprintf(t, "Redfish\t%d requests, %d sessions, %d streams of events\n", s.Requests, s.Logins, s.Streams)
			_, _ = fmt.Fprintf(t, "serial\t%d octets out, %d in\nmemory\t%d MiB\n", s.Spoken, s.Typed, s.Memory>>20)
			return t.Flush()
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "as one JSON document")
	return c
}

func nodesCommand(socket *string) *cobra.Command {
	return fetchCommand(socket, "nodes", "Print the nodes of a running fleet as CSV, for muster node add -f", "/nodes")
}

func authorityCommand(socket *string) *cobra.Command {
	return fetchCommand(socket, "authority", "Print the certificate with which those of the Redfish BMCs are signed", "/authority")
}

func fetchCommand(socket *string, use, short, path string) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b, err := ask(cmd.Context(), *socket, http.MethodGet, path, nil)
			if err == nil {
				_, err = cmd.OutOrStdout().Write(b)
			}
			return err
		},
	}
}

func tell(cmd *cobra.Command, socket, path string, o order) error {
	body, err := json.Marshal(o)
	if err != nil {
		return err
	}
	b, err := ask(cmd.Context(), socket, http.MethodPost, path, body)
	if err != nil {
		return err
	}
	var out outcome
	if err := json.Unmarshal(b, &out); err != nil {
		return err
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %d BMCs\n", o.Range, out.Nodes)
	return err
}

// ask sends an order to the fleet at the socket.
func ask(ctx context.Context, socket, method, path string, body []byte) ([]byte, error) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	r, err := http.NewRequestWithContext(ctx, method, "http://fleet"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	a, err := client.Do(r)
	if err != nil {
		return nil, &api.Error{Code: api.Failed, What: "no fleet answers at " + socket, Why: errors.Unwrap(err).Error(), Do: "Start one: muster lab sim --ipmi 100; or say where it is: --socket PATH"}
	}
	defer func() { _ = a.Body.Close() }()
	b, err := io.ReadAll(a.Body)
	if err != nil || a.StatusCode == http.StatusOK {
		return b, err
	}
	var out outcome
	if json.Unmarshal(b, &out) == nil && out.Error != "" {
		return nil, usage(out.Error)
	}
	return nil, &api.Error{Code: api.Failed, What: "lab sim", Why: a.Status}
}
