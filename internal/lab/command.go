package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"muster/internal/api"
	"muster/internal/lab/sim"
)

const defaultName = "lab"

// Command is "muster lab". Its errors are *[api.Error] where the person can do something about them.
func Command() *cobra.Command {
	c := &cobra.Command{
		Use:   "lab",
		Short: "Virtual machines with virtual BMCs on a private network, or simulated BMCs, to try everything on",
		Long: `A lab is a private network namespace with a bridge and virtual machines (QEMU), each behind a virtual BMC on an
address of its own that speaks IPMI 2.0: power, boot device, event log, sensors, inventory and serial over LAN.
The machines are switched off and their disks are empty. Nothing of a lab is reachable from outside.

"lab sim" is another thing: BMCs by the thousand with no machine behind them, in one process.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }, // without it cobra takes any word for a question for help
	}
	c.AddCommand(upCommand(), downCommand(), statusCommand(), execCommand(), sim.Command(), runCommand())
	return c
}

// where is the lab that a command means.
type where struct{ name, dir string }

func (w *where) flags(c *cobra.Command) {
	c.Flags().StringVar(&w.name, "name", defaultName, "name of the lab; its namespace is muster-NAME")
	c.Flags().StringVar(&w.dir, "dir", "", "directory of the lab (default "+labs+"/NAME)")
}

func upCommand() *cobra.Command {
	var w where
	var machines, memory int
	var firmware, disk string
	var disks int
	c := &cobra.Command{
		Use:   "up",
		Short: "Make a lab and start its BMCs",
		Long: `Make a lab and start its BMCs; the machines stay off until a BMC turns them on. A lab that is up is left as it is;
one whose daemon was killed is brought up again with its disks as they are.`,
		Example: "  muster lab up -n 3\n  muster lab up --name efi --firmware uefi --memory 1024 --disk 8G",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			size, err := parseSize(disk)
			if err != nil {
				return &api.Error{Code: api.Usage, What: "lab up", Why: "--disk " + err.Error()}
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
			defer stop()
			return up(ctx, cmd.OutOrStdout(), request{
				name: w.name, dir: w.dir,
				shape: shape{machines: machines, firmware: Firmware(firmware), memory: memory, disk: size, more: disks - 1},
			})
		},
	}
	w.flags(c)
	c.Flags().IntVarP(&machines, "machines", "n", 3, "number of machines")
	c.Flags().StringVar(&firmware, "firmware", string(BIOS), "bios (SeaBIOS and iPXE) or uefi (OVMF)")
	c.Flags().IntVar(&memory, "memory", 768, "memory of each machine in MiB")
	c.Flags().IntVar(&disks, "disks", 1, "disks of each machine, all of the same size")
	c.Flags().StringVar(&disk, "disk", "4G", "size of each machine's disk; it takes no space until it is written")
	return c
}

func downCommand() *cobra.Command {
	var w where
	c := &cobra.Command{
		Use: "down", Short: "Turn the machines off and remove the lab with its disks", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return down(cmd.OutOrStdout(), w.name, w.dir) },
	}
	w.flags(c)
	return c
}

func statusCommand() *cobra.Command {
	var w where
	var asJSON bool
	c := &cobra.Command{
		Use: "status", Short: "Show the machines of a lab", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := running(w)
			if err != nil {
				return err
			}
			if asJSON {
				e := json.NewEncoder(cmd.OutOrStdout())
				e.SetIndent("", "  ")
				return e.Encode(s)
			}
			return s.print(cmd.OutOrStdout())
		},
	}
	w.flags(c)
	c.Flags().BoolVar(&asJSON, "json", false, "the lab as one JSON document")
	return c
}

// running is the lab, which must be up.
func running(w where) (*State, error) {
	s, err := find(w.name, w.dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, &api.Error{Code: api.Failed, What: "lab " + w.name + " is not up", Do: "To make it: muster lab up" + (&State{Name: w.name}).flag()}
	}
	if errors.Is(err, os.ErrPermission) {
		return nil, &api.Error{Code: api.Denied, What: "lab " + w.name, Why: err.Error(), Do: "Run it with sudo"}
	}
	if err != nil {
		return nil, err
	}
	if !s.up() {
		return nil, &api.Error{
			Code: api.Failed, What: "lab " + s.Name + " is not up", Why: "its daemon is gone, and its machines with it",
			Do: "To bring it up again with its disks: muster lab up" + s.flag() + "; to remove it: muster lab down" + s.flag(),
		}
	}
	return s, nil
}

func (s *State) print(out io.Writer) error {
	_, _ = fmt.Fprintf(out, "lab %s: %s, namespace %s, daemon %d\ndirectory %s, BMC user %s, password in %s\n",
		s.Name, describe(s), s.Namespace, s.Daemon.PID, s.Dir, s.User, filepath.Join(s.Dir, passwordFile))
	t := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "NAME\tPOWER\tPID\tBMC\tMAC\tBOOT DEVICE\tSOL\tUUID")
	for _, m := range s.Machines {
		pid, sol := "-", "-"
		if m.Process != nil {
			pid = fmt.Sprint(m.Process.PID)
		}
		if m.SOL {
			sol = "attached"
		}
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", m.Name, m.Power, pid, m.BMC, m.MAC, m.Boot, sol, m.UUID)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, m := range s.Machines {
		if m.Problem != "" {
			_, _ = fmt.Fprintf(out, "%s did not start: %s\n", m.Name, m.Problem)
		}
	}
	return nil
}

func execCommand() *cobra.Command {
	var w where
	c := &cobra.Command{
		Use:     "exec [flags] -- COMMAND [ARGUMENT…]",
		Short:   "Run a command inside the lab's network",
		Example: "  muster lab exec -- tcpdump -ni br0\n  muster lab exec -- ssh root@10.77.1.1",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			s, err := running(w)
			if err != nil {
				return err
			}
			program, err := exec.LookPath(args[0])
			if err != nil {
				return &api.Error{Code: api.Usage, What: "lab exec", Why: err.Error()}
			}
			return onThread(func() error {
				if err := enter(s.Namespace); err != nil {
					return fmt.Errorf("lab exec: %w", err)
				}
				if err := mountSys(); err != nil {
					return fmt.Errorf("lab exec: /sys: %w", err)
				}
				return unix.Exec(program, args, os.Environ()) // the thread becomes the process
			})
		},
	}
	w.flags(c)
	c.Flags().SetInterspersed(false)
	return c
}

// mountSys shows the namespace's own devices in /sys/class/net, in a mount namespace of the calling thread.
func mountSys() error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return err
	}
	if err := unix.Unmount("/sys", unix.MNT_DETACH); err != nil && err != unix.EINVAL { // EINVAL: nothing is mounted there
		return err
	}
	return unix.Mount("sysfs", "/sys", "sysfs", 0, "")
}

// readyFD is the pipe on which "lab up" waits.
const readyFD = 3

func runCommand() *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use: "run", Short: "the daemon of a lab; lab up starts it", Hidden: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			unix.CloseOnExec(readyFD)
			ready := os.NewFile(readyFD, "ready")
			signal.Ignore(syscall.SIGHUP, syscall.SIGINT)
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM)
			defer stop()
			return runDaemon(ctx, dir, cmd.ErrOrStderr(), tellReady(ready))
		},
	}
	c.Flags().StringVar(&dir, "dir", "", "directory of the lab")
	return c
}
