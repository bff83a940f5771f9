package ipmi

import (
	"slices"
	"testing"

	"muster/internal/bmc/bmctest"
)

func TestSim_conforms(t *testing.T) {
	s := startSim(t, "127.9.200.9", "")
	passed := bmctest.Run(t.Context(), t, startEngine(t, Options{}).Open(s.target()))
	for _, want := range []string{"power status", "power off and on", "power status, when there is no time left", "unknown boot device"} {
		if !slices.Contains(passed, want) {
			t.Errorf("%s did not pass", want)
		}
	}
}
