package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"muster/internal/api"
	"muster/internal/model"
	"muster/internal/store"
)

// Command is `muster serve`. node is the node program for images; it may be missing where no image is built.
func Command(node []byte) *cobra.Command {
	var cfg Config
	var netns, level string
	var ask bool
	var external func() (*store.External, error)
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run the service",
		Long: `Run the service: store, API on a unix socket and on TLS, BMCs and consoles, and, on the
interfaces named with --boot, DHCP, TFTP and HTTP for machines that boot from the network.

Without --boot nothing is answered on any network but the TLS API on the loopback address.
The first start makes keys, a certificate authority and an administrator in the data directory.

One manager needs nothing else. With --join it becomes one of a pool, see muster manager add -h; with --etcd the store is an
etcd that the site runs already.`,
		Example: `  muster serve --data /var/lib/muster --boot eth1
  muster serve --data ./data --netns muster-lab --boot br0     # beside: muster lab up
  muster serve --listen 10.1.0.2:7443 --join @join-string      # join: see muster manager add
  muster serve --etcd https://db1:2379,https://db2:2379 --etcd-ca ca.pem --etcd-cert me.pem --etcd-key me.key`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if netns != "" {
				inside, err := isInside(netns)
				if err != nil {
					return err
				}
				if !inside {
					return enter(netns)
				}
				// Without the handle somebody else entered for us: then there is no way outside.
				if _, err := unix.FcntlInt(outsideFD, unix.F_SETFD, unix.FD_CLOEXEC); err == nil {
					cfg.Outside = fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), outsideFD)
				}
			}
			if cfg.ConsoleDays < 1 || cfg.ConsoleDays > 36500 || cfg.ConsoleGiB < 1 || cfg.ConsoleGiB > 1<<20 {
				return &api.Error{
					Code: api.Usage, What: "serve", Why: fmt.Sprintf("--console-days %d and --console-gib %d are not both from 1 on", cfg.ConsoleDays, cfg.ConsoleGiB),
					Do: "Give at least one day and one GiB; console.record=false on nodes or groups records nothing of theirs",
				}
			}
			log, err := logger(cmd.ErrOrStderr(), level)
			if err != nil {
				return err
			}
			if cfg.Data, err = filepath.Abs(cfg.Data); err != nil {
				return err
			}
			if ask {
				_, err := os.Stat(filepath.Join(cfg.Data, "keys", "seal.json"))
				if cfg.SiteKey.Passphrase, err = passphrase(os.Stdin, cmd.ErrOrStderr(), err != nil); err != nil {
					return err
				}
			}
			if cfg.External, err = external(); err != nil {
				return err
			}
			if at, ok := strings.CutPrefix(cfg.Join, "@"); ok || cfg.Join == "-" {
				word, err := secretFile("serve --join", or(at, "-"))
				if err != nil {
					return err
				}
				cfg.Join = word.Reveal()
			}
			cfg.Log, cfg.Node, cfg.Version = log, node, api.BuildVersion()
			cfg.Ready = func(s *Server) { announce(cmd.ErrOrStderr(), s) }
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			return Run(ctx, cfg)
		},
	}
	external = etcdFlags(c)
	f := c.Flags()
	f.StringVar(&cfg.Data, "data", "/var/lib/muster", "`directory` of all state")
	f.StringSliceVar(&cfg.Boot, "boot", nil, "interface on which to answer DHCP, TFTP and boot HTTP; may be repeated")
	f.StringSliceVar(&cfg.Listen, "listen", nil, fmt.Sprintf("address:port of the TLS API (default port %d on the boot interfaces, else on 127.0.0.1)", APIPort))
	f.IntVar(&cfg.HTTPPort, "http-port", HTTPPort, "port of boot scripts, kernels and initramfs on the boot interfaces")
	f.IntVar(&cfg.ConsoleDays, "console-days", 90, "for how many `days` what consoles printed is kept")
	f.IntVar(&cfg.ConsoleGiB, "console-gib", 8, "how many `GiB` of what consoles printed are kept, compressed; the oldest go first")
	f.StringVar(&cfg.SiteKey.File, "site-key-file", "", "`file` of 32 random bytes that unlocks the secrets, such as a credential of systemd; default: the key lies in the data directory")
	f.BoolVar(&ask, "passphrase", false, "unlock the secrets with a passphrase: asked for on a terminal, else one line of standard input")
	c.MarkFlagsMutuallyExclusive("site-key-file", "passphrase")
	f.StringVar(&cfg.Name, "name", "", "`name` of this manager in a pool (default the host's; one that joins has that of its invitation)")
	f.StringVar(&cfg.Join, "join", "", "`string` that manager add printed on another host: become a manager of its pool; @FILE reads it from a file, - from standard input; needed once")
	f.StringVar(&cfg.Advertise, "advertise", "", "`address:port` at which other managers reach this one (default the first of --listen that is not of this host only)")
	c.MarkFlagsMutuallyExclusive("join", "etcd")
	f.StringVar(&netns, "netns", "", "network namespace to serve in, such as that of a lab; image builds still fetch packages outside of it")
	f.StringVar(&level, "log-level", "info", "debug, info, warn or error")
	return c
}

// etcdFlags are those that name an etcd of the site's own; what it returns reads them, nil when there is none.
func etcdFlags(c *cobra.Command) func() (*store.External, error) {
	var x store.External
	var password string
	f := c.Flags()
	f.StringSliceVar(&x.Endpoints, "etcd", nil, "addresses of an etcd of the site's own, https://host:2379, instead of the store in this process; may be repeated")
	f.StringVar(&x.Cert, "etcd-cert", "", "PEM `file` of the certificate to show to it")
	f.StringVar(&x.Key, "etcd-key", "", "PEM `file` of the key of --etcd-cert")
	f.StringVar(&x.CA, "etcd-ca", "", "PEM `file` of the CA of its certificate")
	f.StringVar(&x.User, "etcd-user", "", "`user` to log in to it as")
	f.StringVar(&password, "etcd-password-file", "", "`file` with the password of --etcd-user on its first line")
	return func() (_ *store.External, err error) {
		switch given := c.Flags().Changed; {
		case len(x.Endpoints) == 0:
			for _, of := range []string{"etcd-cert", "etcd-key", "etcd-ca", "etcd-user", "etcd-password-file"} {
				if given(of) {
					return nil, &api.Error{Code: api.Usage, What: c.Name() + " --" + of, Why: "no etcd is named", Do: "Add --etcd https://HOST:2379"}
				}
			}
			return nil, nil
		case password != "":
			x.Password, err = secretFile(c.Name()+" --etcd-password-file", password)
		}
		return &x, err
	}
}

// secretFile reads the first line of a file; "-" is standard input.
func secretFile(what, path string) (model.Secret, error) {
	in := os.Stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return model.Secret{}, &api.Error{Code: api.Usage, What: what, Why: err.Error()}
		}
		defer f.Close()
		in = f
	}
	line, err := bufio.NewReader(in).ReadString('\n')
	if line = strings.TrimRight(line, "\r\n"); line == "" {
		return model.Secret{}, &api.Error{Code: api.Usage, What: what, Why: fmt.Sprintf("%s has nothing on its first line (%v)", path, err)}
	}
	return model.NewSecret(line), nil
}

// passphrase reads a line from a terminal without showing it, twice when it is a new one; else a line of the file.
func passphrase(in *os.File, out io.Writer, fresh bool) (model.Secret, error) {
	bad := func(why string) (model.Secret, error) {
		return model.Secret{}, &api.Error{Code: api.Usage, What: "serve --passphrase", Why: why, Do: "Type it when it is asked for, or send it as one line of standard input"}
	}
	if !term.IsTerminal(int(in.Fd())) {
		line, err := bufio.NewReader(in).ReadString('\n')
		if line = strings.TrimRight(line, "\r\n"); line == "" {
			return bad("there is none on standard input")
		} else if err != nil && !errors.Is(err, io.EOF) {
			return bad(err.Error())
		}
		return model.NewSecret(line), nil
	}
	var first string
	for _, prompt := range []string{"Passphrase of the secrets: ", "Again: "} {
		fmt.Fprint(out, prompt)
		b, err := term.ReadPassword(int(in.Fd()))
		fmt.Fprintln(out)
		switch {
		case err != nil:
			return bad(err.Error())
		case len(b) == 0:
			return bad("it is empty")
		case first != "" && first != string(b):
			return bad("the two are not the same")
		}
		if first = string(b); !fresh {
			break
		}
	}
	return model.NewSecret(first), nil
}

func logger(w io.Writer, level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, &api.Error{Code: api.Usage, What: "serve", Why: "there is no log level " + level, Do: "Use debug, info, warn or error"}
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: l})), nil
}

func announce(w io.Writer, s *Server) {
	fmt.Fprintf(w, "muster is ready: socket unix:%s", s.Socket())
	if len(s.apis) > 0 {
		fmt.Fprintf(w, ", API %s", strings.Join(s.apis, " "))
	}
	if len(s.cfg.Boot) > 0 {
		fmt.Fprintf(w, ", boot services on %s", strings.Join(s.cfg.Boot, " "))
	}
	fmt.Fprintln(w)
}

// The namespace is entered by starting again inside it, since all threads must be in it. A handle on the one outside
// stays open at a fixed number.
const outsideFD = 100

func namespacePath(name string) string {
	if strings.Contains(name, "/") {
		return name
	}
	return filepath.Join("/run/netns", name)
}

// isInside says whether this process is in the namespace already.
func isInside(name string) (bool, error) {
	want, err := os.Stat(namespacePath(name))
	if err != nil {
		return false, &api.Error{Code: api.Usage, What: "serve --netns " + name, Why: err.Error(), Do: "See which there are: ip netns list; make one with: muster lab up"}
	}
	have, err := os.Stat("/proc/self/ns/net")
	if err != nil {
		return false, fmt.Errorf("serve --netns: %w", err)
	}
	return os.SameFile(want, have), nil
}

// enter starts this program again inside the namespace. It returns only when that cannot be done.
func enter(name string) error {
	ns, err := os.Open(namespacePath(name))
	if err != nil {
		return fmt.Errorf("serve --netns: %w", err)
	}
	runtime.LockOSThread() // exec keeps the calling thread's namespace for the whole new program
	outside, err := os.Open("/proc/self/ns/net")
	if err != nil {
		return fmt.Errorf("serve --netns: %w", err)
	}
	if err := unix.Dup3(int(outside.Fd()), outsideFD, 0); err != nil {
		return fmt.Errorf("serve --netns: %w", err)
	}
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return &api.Error{Code: api.Usage, What: "serve --netns " + name, Why: "enter the namespace: " + err.Error(), Do: "It needs root"}
	}
	return unix.Exec("/proc/self/exe", os.Args, os.Environ())
}

// Exit is the exit status for an error of the daemon's commands.
func Exit(err error) int {
	var e *api.Error
	switch {
	case errors.As(err, &e):
		return e.Exit()
	case errors.Is(err, context.Canceled):
		return 0
	}
	return 1
}
