// Command muster turns racks of bare metal into a running, configured, observed cluster.
//
// This file only picks the program. The command line is linked in; the daemon (serve, restore, lab) is carried along compressed
// and started from memory, because linking etcd costs every command 8 ms of processor time at its start.
package main

import (
	"embed"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/klauspost/compress/zstd"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"muster/internal/cli"
)

//go:embed all:payload
var payload embed.FS

func main() {
	if len(os.Args) > 1 && slices.Contains([]string{"serve", "restore", "lab"}, os.Args[1]) {
		fmt.Fprintln(os.Stderr, "muster:", daemon(os.Args))
		os.Exit(1)
	}
	args := os.Args[1:]
	if filepath.Base(os.Args[0]) == "panc" {
		args = append([]string{"panc"}, args...)
	}
	os.Exit(cli.Main(args, os.Stdin, os.Stdout, os.Stderr, os.Getenv,
		carried("serve", "Run the service: store, API, BMCs, consoles, boot services", cli.JobService),
		carried("restore", "Make a data directory of a backup", cli.JobService),
		carried("lab", "Make virtual machines with BMCs to try everything on", cli.JobTry)))
}

// carried is a command of the daemon in the help of the command line; muster help serve starts the daemon for its own help.
func carried(name, short, job string) *cobra.Command {
	c := &cobra.Command{Use: name, Short: short, GroupID: job, DisableFlagParsing: true}
	c.SetHelpFunc(func(*cobra.Command, []string) {
		fmt.Fprintln(os.Stderr, "muster:", daemon([]string{"muster", name, "--help"}))
		os.Exit(1)
	})
	// main has started the daemon, unless flags of the command line stand before the verb: the daemon says that it has none of them.
	c.Run = func(_ *cobra.Command, args []string) {
		fmt.Fprintln(os.Stderr, "muster:", daemon(append([]string{"muster", name}, args...)))
		os.Exit(1)
	}
	return c
}

// daemon replaces this process by musterd. It returns only when that cannot be done.
func daemon(args []string) error {
	f, err := payload.Open("payload/musterd.zst")
	if err != nil {
		return fmt.Errorf("%s: this program was built without its daemon. Build it with: make", args[1])
	}
	z, err := zstd.NewReader(f)
	if err != nil {
		return err
	}
	defer z.Close()
	// Kernels before 6.3 do not know MFD_EXEC; later ones may refuse to execute without it (memfd_create(2)).
	fd, err := unix.MemfdCreate("musterd", unix.MFD_CLOEXEC|unix.MFD_EXEC)
	if err == unix.EINVAL {
		fd, err = unix.MemfdCreate("musterd", unix.MFD_CLOEXEC)
	}
	if err != nil {
		return fmt.Errorf("%s: memory file for the daemon: %w", args[1], err)
	}
	m := os.NewFile(uintptr(fd), "musterd")
	if _, err := z.WriteTo(m); err != nil {
		return fmt.Errorf("%s: unpack the daemon: %w", args[1], err)
	}
	err = unix.Exec(fmt.Sprintf("/proc/self/fd/%d", fd), args, os.Environ())
	return fmt.Errorf("%s: start the daemon: %w", args[1], err)
}
