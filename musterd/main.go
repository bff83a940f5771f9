// Command musterd is the daemon's half of muster: serve and lab. muster carries it along and starts it from memory.
package main

import (
	"embed"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"muster/internal/lab"
	"muster/internal/server"
)

//go:embed all:payload
var payload embed.FS

func main() {
	// Started from memory, the kernel would call it by the number of a file descriptor.
	_ = os.WriteFile("/proc/self/comm", []byte("muster"), 0)
	node, _ := payload.ReadFile("payload/muster-node")
	root := &cobra.Command{Use: "muster", SilenceUsage: true, SilenceErrors: true}
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(server.Command(node), lab.Command())
	if err := root.Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "muster:", err)
		os.Exit(server.Exit(err))
	}
}
