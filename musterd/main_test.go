package main

import (
	"io"
	"testing"

	"muster/internal/server"
)

func TestWrongUseIsExitStatusTwo(t *testing.T) {
	for _, args := range [][]string{{"lab", "foo"}, {"lab", "up", "extra"}, {"lab", "up", "--memry", "3"}, {"lab", "exec"}, {"lab", "-q", "status"}, {"serve", "extra"}, {"serve", "--dta", "x"}} {
		c := root()
		c.SetArgs(args)
		c.SetOut(io.Discard)
		if err := c.Execute(); err == nil || server.Exit(err) != 2 {
			t.Errorf("%v: %v, want wrong usage", args, err)
		}
	}
}
