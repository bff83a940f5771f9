package sim

import (
	"context"
	"fmt"
	"os"
	"testing"
)

// TestMain makes the test program a fleet when its first argument is "sim", so that a fleet's memory and processor time
// are not counted with ours.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "sim" {
		c := Command()
		c.SilenceUsage, c.SilenceErrors = true, true
		c.SetArgs(os.Args[2:])
		c.SetOut(os.Stdout)
		if err := c.ExecuteContext(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}
