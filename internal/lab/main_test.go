package lab

import (
	"fmt"
	"os"
	"testing"
)

// TestMain makes the test binary a muster that knows only "lab", so that "lab up" finds "lab run" in /proc/self/exe.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "lab" {
		c := Command()
		c.SilenceUsage, c.SilenceErrors = true, true
		c.SetArgs(os.Args[2:])
		c.SetOut(os.Stdout)
		if err := c.Execute(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}
