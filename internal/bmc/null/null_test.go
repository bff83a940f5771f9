package null

import (
	"errors"
	"strings"
	"testing"

	"muster/internal/bmc"
	"muster/internal/bmc/bmctest"
)

func TestDriver_offers_nothing_and_says_so(t *testing.T) {
	d := Open(bmc.Target{Node: "r1n1"})
	bmctest.Check(t.Context(), d, func(name string, err error) {
		if name != "close twice" && !errors.Is(err, bmctest.ErrNotOffered) {
			t.Errorf("%s: %v; want not offered", name, err)
		}
	})
	if _, err := d.Power(t.Context()); err == nil || !strings.Contains(err.Error(), "the null driver cannot do that. See bmc.driver") {
		t.Errorf("got %v", err)
	}
}
