// Program muster-node is muster on a node: as process 1 of the initramfs it boots the node, and as "muster-node agent" it reports
// from the running system. It is small: it carries neither the service nor the command line.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"muster/internal/agent"
)

func main() {
	switch {
	case os.Getpid() == 1:
		agent.Init()
	case len(os.Args) == 2 && os.Args[1] == "agent":
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		if err := agent.Run(ctx, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "muster-node:", err)
			os.Exit(1)
		}
	default:
		fmt.Fprintln(os.Stderr, "usage: muster-node agent\nAs process 1 of an initramfs it boots the machine; see the kernel arguments muster.*")
		os.Exit(2)
	}
}
