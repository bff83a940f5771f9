// Package need ends tests on machines that lack what they need: a program, root. They are skipped; under make test, which installs all
// programs and sets MUSTER_TEST_ALL, they fail, so that none is left out unseen. It serves tests only.
package need

import (
	"os"
	"os/exec"
	"testing"
)

// All says that no test may be left out for what this machine lacks: MUSTER_TEST_ALL is set.
func All() bool { return os.Getenv("MUSTER_TEST_ALL") != "" }

// Programs sees that programs are in PATH, or there where they are given as absolute paths; pkg are the Debian packages that they are in.
func Programs(tb testing.TB, pkg string, programs ...string) {
	tb.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			Lack(tb, "needs "+p+": apt-get install "+pkg)
		}
	}
}

// Root sees that the test runs as root, which it needs for that.
func Root(tb testing.TB, what string) {
	tb.Helper()
	if os.Getuid() != 0 {
		Lack(tb, "needs root: "+what)
	}
}

// Lack ends the test for what is not here.
func Lack(tb testing.TB, why string) {
	tb.Helper()
	if All() {
		tb.Fatal(why + " (MUSTER_TEST_ALL is set: no test is left out)")
	}
	tb.Skip(why)
}
