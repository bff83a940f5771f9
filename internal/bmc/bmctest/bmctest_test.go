package bmctest

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"muster/internal/bmc"
)

// flawed is a driver with one flaw: the suite has to find it.
type flawed struct {
	bmc.Incapable
	flaw string
}

func (f flawed) Power(context.Context) (bmc.PowerState, error) {
	switch f.flaw {
	case "state":
		return "maybe", nil
	case "plain error":
		return "", errors.New("something")
	case "no reason":
		return "", &bmc.Error{Kind: bmc.Failed}
	case "no kind":
		return "", &bmc.Error{Kind: "odd", Why: "so"}
	case "deaf to its context":
		return bmc.PowerOn, nil
	}
	return f.Incapable.Power(context.Background())
}

func (f flawed) SetPower(ctx context.Context, a bmc.Action) error {
	if f.flaw == "takes any action" {
		return nil
	}
	return f.Incapable.SetPower(ctx, a)
}

func (f flawed) Sensors(ctx context.Context) ([]bmc.Sensor, error) {
	nan := math.NaN()
	switch f.flaw {
	case "no number":
		return []bmc.Sensor{{Name: "x", Health: bmc.OK, Value: &nan}}, nil
	case "health":
		return []bmc.Sensor{{Name: "x", Health: "fine"}}, nil
	}
	return f.Incapable.Sensors(ctx)
}

func (f flawed) EventLog(ctx context.Context) ([]bmc.LogEntry, error) {
	if f.flaw == "newest first" {
		return []bmc.LogEntry{
			{ID: "2", Text: "b", Health: bmc.OK, Time: time.Unix(2e9, 0)}, {ID: "1", Text: "a", Health: bmc.OK, Time: time.Unix(1e9, 0)},
		}, nil
	}
	return f.Incapable.EventLog(ctx)
}

func (f flawed) Inventory(ctx context.Context) ([]bmc.Part, error) {
	switch f.flaw {
	case "slot twice":
		return []bmc.Part{{Slot: "CPU 1", Kind: "cpu"}, {Slot: "CPU 1", Kind: "cpu"}}, nil
	case "MAC":
		return []bmc.Part{{Slot: "NIC 1", Kind: "port", MAC: "02-00-00-00-00-01"}}, nil
	}
	return f.Incapable.Inventory(ctx)
}

func (f flawed) SetBootDevice(ctx context.Context, b bmc.BootDevice) error {
	if f.flaw == "forgets" {
		return nil
	}
	return f.Incapable.SetBootDevice(ctx, b)
}

func (f flawed) BootDevice(ctx context.Context) (bmc.BootDevice, error) {
	if f.flaw == "forgets" {
		return bmc.BootDevice{Device: "disk"}, nil
	}
	return f.Incapable.BootDevice(ctx)
}

func (f flawed) Close() error {
	if f.flaw == "closes once" {
		return errors.New("closed already")
	}
	return nil
}

func TestCheck_finds_flaws(t *testing.T) {
	for flaw, check := range map[string]string{
		"state": "power status", "plain error": "power status", "no reason": "power status", "no kind": "power status", "deaf to its context": "power status, when there is no time left",
		"takes any action": "unknown action of power", "no number": "sensors", "health": "sensors", "newest first": "event log", "slot twice": "inventory", "MAC": "inventory",
		"forgets": "boot device network", "closes once": "close twice",
	} {
		var failures []string
		Check(t.Context(), flawed{bmc.Incapable{Protocol: "flawed"}, flaw}, func(name string, err error) {
			if err != nil && !errors.Is(err, ErrNotOffered) {
				failures = append(failures, name)
			}
		})
		if !slices.Contains(failures, check) {
			t.Errorf("%s: failed are %q; want %q", flaw, failures, check)
		}
	}
}

type recorder struct{ failures, notes []string }

func (r *recorder) Helper()                   {}
func (r *recorder) Errorf(f string, a ...any) { r.failures = append(r.failures, f) }
func (r *recorder) Logf(f string, a ...any)   { r.notes = append(r.notes, f) }
func (r *recorder) String() string            { return strings.Join(r.failures, ",") }

func TestRun_reports_failures_and_notes_what_is_not_offered(t *testing.T) {
	r := &recorder{}
	passed := Run(t.Context(), r, flawed{bmc.Incapable{Protocol: "flawed"}, "state"})
	if len(r.failures) == 0 || len(r.notes) == 0 || !slices.Contains(passed, "close twice") || slices.Contains(passed, "power status") {
		t.Errorf("passed %q, failed %s, %d notes", passed, r, len(r.notes))
	}
}

func TestCheckReading_changes_nothing(t *testing.T) {
	CheckReading(t.Context(), flawed{bmc.Incapable{Protocol: "flawed"}, ""}, func(name string, _ error) {
		for _, c := range changing {
			if c.name == name {
				t.Errorf("%s is run", name)
			}
		}
	})
}
