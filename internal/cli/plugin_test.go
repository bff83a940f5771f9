package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"muster/internal/bmc/bmctest"
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
		report("sensors", fmt.Errorf("%w: it has none", bmctest.ErrNotOffered))
		return nil
	}
	for _, tt := range []struct {
		program, out, said string
		json, fails, wrong bool
	}{
		{"pdu.sh", "power: ok\nsensors: not offered: it has none\n3 checks, 1 failed\n", "bootdev: it says disk, and was told network\n", false, true, false},
		{"pdu.sh", `{"check":"power"}
{"check":"bootdev","error":{"code":"failed","what":"bootdev","why":"it says disk, and was told network"}}
{"check":"sensors","notOffered":true}
{"asked":3,"answered":2,"failed":1,"trailer":true}
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
