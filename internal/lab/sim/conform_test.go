package sim

import (
	"slices"
	"testing"
	"time"

	driver "muster/internal/bmc"
	"muster/internal/bmc/bmctest"
	"muster/internal/bmc/ipmi"
	redfishdriver "muster/internal/bmc/redfish"
)

// muster's own drivers do to simulated controllers, of every vendor's profile and both versions of IPMI, all that drivers have to do.
func TestDrivers_conform_on_the_fleet(t *testing.T) {
	f := startFleet(t, Options{IPMI: 2, Version15: 0.5, Redfish: len(profiles), Delay: 10 * time.Millisecond, Lines: 5})
	i, err := ipmi.New(ipmi.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	r, err := redfishdriver.New(redfishdriver.Options{Poll: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for n := range 2 + len(profiles) {
		name, open, must := "ipmi", i.Open, []string{"power off and on", "sensors", "event log", "inventory", "settings", "identify"}
		if n >= 2 {
			name, open = "redfish/"+profiles[n-2].name, r.Open
		}
		t.Run(name, func(t *testing.T) {
			a := f.Address(n)
			passed := bmctest.Run(t.Context(), t, open(driver.Target{
				Node: "n", Address: a.Addr().String(), Port: int(a.Port()), User: f.opt.User, Password: f.opt.Password, Pins: []string{"any"},
			}))
			for _, want := range must {
				if !slices.Contains(passed, want) {
					t.Errorf("%q did not pass; passed: %q", want, passed)
				}
			}
		})
	}
}
