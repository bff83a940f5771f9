package cli

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"testing"
)

func TestPluginTest_tells_every_check(t *testing.T) {
	suite := func(_ context.Context, program string, report func(string, error)) error {
		if !filepath.IsAbs(program) {
			t.Errorf("the program is %q", program)
		}
		if filepath.Base(program) == "gone.sh" {
			return errors.New("it does not start")
		}
		report("power", nil)
		report("bootdev", errors.New("it says disk, and was told network"))
		return nil
	}
	for _, tt := range []struct {
		program, out, said string
		json, fails, wrong bool
	}{
		{"pdu.sh", "power: ok\n2 checks, 1 failed\n", "bootdev: it says disk, and was told network\n", false, true, false},
		{"pdu.sh", `{"check":"power"}
{"check":"bootdev","error":{"code":"failed","what":"bootdev","why":"it says disk, and was told network"}}
{"asked":2,"answered":1,"failed":1,"trailer":true}
`, "", true, true, false},
		{"gone.sh", "", "", false, false, true},
	} {
		var out, said bytes.Buffer
		s := &session{out: &out, err: &said, flags: flags{json: tt.json}}
		c := pluginTest(s, suite)
		c.SetArgs([]string{tt.program})
		c.SilenceErrors, c.SilenceUsage = true, true
		err := c.Execute()
		if (err != nil) != tt.wrong || s.failed != tt.fails || out.String() != tt.out || said.String() != tt.said {
			t.Errorf("%s: error %v, failed %v\n%s%s\nwant error %v, failed %v\n%s%s", tt.program, err, s.failed, out.String(), said.String(), tt.wrong, tt.fails, tt.out, tt.said)
		}
	}
}

func TestPlugins_has_no_verb_without_a_suite(t *testing.T) {
	for _, c := range plugins(&session{}, nil).Commands() {
		if c.Name() == "test" {
			t.Error("plugin test is there, and has nothing to test with")
		}
	}
}
