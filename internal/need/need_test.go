package need

import (
	"cmp"
	"strings"
	"testing"
)

// ended notes how a test ended first, and goes on.
type ended struct {
	testing.TB
	how string
}

func (e *ended) Helper()           {}
func (e *ended) Skip(args ...any)  { e.how = cmp.Or(e.how, "skipped: "+args[0].(string)) }
func (e *ended) Fatal(args ...any) { e.how = cmp.Or(e.how, "failed: "+args[0].(string)) }

func TestPrograms_that_are_missing_skip_and_under_make_test_fail(t *testing.T) {
	for all, want := range map[string]string{"": "skipped: needs no-such-program: apt-get install a-package", "1": "failed: needs no-such-program"} {
		t.Setenv("MUSTER_TEST_ALL", all)
		e := &ended{TB: t}
		Programs(e, "a-package", "sh", "no-such-program")
		if !strings.HasPrefix(e.how, want) {
			t.Errorf("MUSTER_TEST_ALL=%q: %s, want %s", all, e.how, want)
		}
	}
	e := &ended{TB: t}
	if Programs(e, "dash", "sh", "/bin/sh"); e.how != "" {
		t.Errorf("what is here: %s", e.how)
	}
}
