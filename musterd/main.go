// Command musterd is the daemon's half of muster: serve and lab. muster carries it along and starts it from memory.
package main

import (
	"embed"
	"fmt"
	"os"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"muster/internal/api"
	"muster/internal/lab"
	"muster/internal/server"
)

//go:embed all:payload
var payload embed.FS

func main() {
	// Started from memory, the kernel would call it by the number of a file descriptor.
	_ = os.WriteFile("/proc/self/comm", []byte("muster"), 0)
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(75) // less garbage beside the snapshot of a large site, for 5 % more processor time
	}
	if err := root().Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "muster:", err)
		os.Exit(server.Exit(err))
	}
}

func root() *cobra.Command {
	node, _ := payload.ReadFile("payload/muster-node")
	root := &cobra.Command{Use: "muster", SilenceUsage: true, SilenceErrors: true}
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(server.Command(node), server.RestoreCommand(), lab.Command())
	root.SetFlagErrorFunc(usage)
	argumentsAreUsage(root)
	return root
}

// argumentsAreUsage makes wrong arguments wrong usage, of all commands.
func argumentsAreUsage(c *cobra.Command) {
	if check := c.Args; check != nil {
		c.Args = func(c *cobra.Command, args []string) error {
			if err := check(c, args); err != nil {
				return usage(c, err)
			}
			return nil
		}
	}
	for _, sub := range c.Commands() {
		argumentsAreUsage(sub)
	}
}

func usage(c *cobra.Command, err error) error {
	what := strings.TrimPrefix(c.CommandPath(), "muster ")
	return &api.Error{Code: api.Usage, What: what, Why: err.Error(), Do: "See: muster " + what + " -h"}
}
