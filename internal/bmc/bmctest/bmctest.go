// Package bmctest is what every driver has to do, whatever protocol it speaks: the conformance suite that the drivers of this house and the plugins pass.
//
// [Check] changes what it touches: it switches the machine off and on, sets boot device and locator, and empties the log. [CheckReading] only asks.
// What a controller cannot do is no failure, as long as the driver says so: it is reported as [ErrNotOffered].
package bmctest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"slices"
	"sync"
	"time"

	"muster/internal/bmc"
)

// ErrNotOffered is what a check is reported with when the driver says that it cannot do that.
var ErrNotOffered = errors.New("not offered")

// patience is how long a state may take to come about, and pause the time between two looks at it.
const (
	patience = time.Minute
	pause    = 100 * time.Millisecond
)

// T is what [Run] needs of a *testing.T.
type T interface {
	Helper()
	Errorf(format string, args ...any)
	Logf(format string, args ...any)
}

// Run is [Check] for tests: failures are errors of t, and what is not offered is logged. It returns the names of the checks that passed.
func Run(ctx context.Context, t T, d bmc.Driver) []string {
	t.Helper()
	var passed []string
	Check(ctx, d, func(name string, err error) {
		switch {
		case err == nil:
			passed = append(passed, name)
		case errors.Is(err, ErrNotOffered):
			t.Logf("%s: %v", name, err)
		default:
			t.Errorf("%s: %v", name, err)
		}
	})
	return passed
}

// Check runs all checks against a driver, one after the other, and reports each as it is done: nil for passed, an error that wraps [ErrNotOffered] for what
// the driver cannot do, any other error for a failure. The driver is closed afterwards. When ctx ends, the checks that remain fail.
func Check(ctx context.Context, d bmc.Driver, report func(name string, err error)) {
	run(ctx, d, append(slices.Clone(reading), changing...), report)
}

// CheckReading runs the checks that change nothing.
func CheckReading(ctx context.Context, d bmc.Driver, report func(name string, err error)) {
	run(ctx, d, reading, report)
}

type check struct {
	name string
	run  func(ctx context.Context, d bmc.Driver) error
}

func run(ctx context.Context, d bmc.Driver, all []check, report func(string, error)) {
	for _, c := range append(slices.Clone(all), check{"close twice", closing}) {
		report(c.name, judged(c.run(ctx, d)))
	}
}

// judged looks at an error of a driver as such: it is a *bmc.Error that says why. Unsupported is no failure.
func judged(err error) error {
	var e *bmc.Error
	switch {
	case err == nil, errors.Is(err, ErrNotOffered), errors.Is(err, errFailed):
		return err
	case !errors.As(err, &e):
		return fmt.Errorf("the error is no *bmc.Error: %w", err)
	case e.Why == "" || !slices.Contains(errorKinds, e.Kind):
		return fmt.Errorf("the error does not say why, or its kind is unknown: kind %q, why %q", e.Kind, e.Why)
	case e.Kind == bmc.Unsupported:
		return fmt.Errorf("%w: %s", ErrNotOffered, e.Why)
	}
	return err
}

// errFailed is what the suite itself has to say.
var errFailed = errors.New("does not conform")

func failed(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{errFailed}, args...)...)
}

var (
	errorKinds = []bmc.Kind{bmc.Timeout, bmc.Refused, bmc.Unsupported, bmc.Busy, bmc.Invalid, bmc.Failed, bmc.Lost}
	healths    = []bmc.Health{bmc.OK, bmc.Warning, bmc.Critical, bmc.Absent, bmc.Unknown}
	partKinds  = []string{"machine", "board", "chassis", "cpu", "memory", "disk", "storage", "nic", "port", "gpu", "pcie", "power", "fan", "bmc"}
)

// unsupported says whether the driver said that it cannot do something.
func unsupported(err error) bool {
	var e *bmc.Error
	return errors.As(err, &e) && e.Kind == bmc.Unsupported
}

var reading = []check{
	{"info", info},
	{"power status", powerStatus},
	{"power status, asked by several at once", together},
	{"power status, when there is no time left", noTime},
	{"unknown action of power", unknownAction},
	{"boot device", readBoot},
	{"unknown boot device", unknownBoot},
	{"sensors", sensors},
	{"event log", eventLog},
	{"inventory", inventory},
	{"settings", settings},
	{"unknown setting", unknownSetting},
	{"firmware", firmware},
	{"raw request that is none", raw},
}

var changing = []check{
	{"power off and on", powerOffOn},
	{"power softoff", once(bmc.SoftOff)},
	{"power cycle", once(bmc.Cycle)},
	{"power reset", once(bmc.Reset)},
	{"power diag", once(bmc.Diag)},
	{"boot device network", bootFrom(bmc.BootDevice{Device: "network"})},
	{"boot device disk", bootFrom(bmc.BootDevice{Device: "disk"})},
	{"boot device cd", bootFrom(bmc.BootDevice{Device: "cd"})},
	{"boot device setup", bootFrom(bmc.BootDevice{Device: "setup"})},
	{"boot device network, for every boot, uefi", bootFrom(bmc.BootDevice{Device: "network", Persist: true, Firmware: "uefi"})},
	{"boot device default", bootFrom(bmc.BootDevice{Device: "default"})},
	{"identify", identify},
	{"clear event log", clearLog},
	{"serial line", serial},
}

func info(ctx context.Context, d bmc.Driver) error {
	i, err := d.Info(ctx)
	if err == nil && i.Protocol == "" {
		return failed("Info has no Protocol")
	}
	return err
}

func powerStatus(ctx context.Context, d bmc.Driver) error {
	s, err := d.Power(ctx)
	if err == nil && s != bmc.PowerOn && s != bmc.PowerOff {
		return failed("the state of power is %q and neither on nor off", s)
	}
	return err
}

func together(ctx context.Context, d bmc.Driver) error {
	errs := make([]error, 8)
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() { errs[i] = powerStatus(ctx, d) })
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// noTime: a call whose context has ended comes back, with an error that says so, and the driver works as before.
func noTime(ctx context.Context, d bmc.Driver) error {
	if err := powerStatus(ctx, d); err != nil {
		return err
	}
	gone, stop := context.WithCancel(ctx)
	stop()
	began := time.Now()
	_, err := d.Power(gone)
	var e *bmc.Error
	switch {
	case err == nil:
		return failed("a call whose context has ended succeeds")
	case !errors.As(err, &e) || e.Kind != bmc.Lost && e.Kind != bmc.Timeout:
		return failed("a call whose context has ended answers %v; want kind lost or timeout", err)
	case time.Since(began) > 5*time.Second:
		return failed("a call whose context has ended takes %s", time.Since(began))
	}
	return powerStatus(ctx, d)
}

// wantInvalid: what cannot be is refused, without being sent.
func wantInvalid(err error, what string) error {
	var e *bmc.Error
	switch {
	case err == nil:
		return failed("%s is accepted", what)
	case errors.As(err, &e) && e.Kind == bmc.Invalid:
		return nil
	}
	return err
}

func unknownAction(ctx context.Context, d bmc.Driver) error {
	return wantInvalid(d.SetPower(ctx, "explode"), "the action explode")
}

func unknownBoot(ctx context.Context, d bmc.Driver) error {
	return wantInvalid(d.SetBootDevice(ctx, bmc.BootDevice{Device: "tape"}), "the boot device tape")
}

func unknownSetting(ctx context.Context, d bmc.Driver) error {
	_, err := d.Set(ctx, []bmc.Setting{{Name: "lan.moon", Value: "full"}})
	return wantInvalid(err, "the setting lan.moon")
}

func raw(ctx context.Context, d bmc.Driver) error {
	_, err := d.Raw(ctx, "no such request at all")
	return wantInvalid(err, "a raw request that is none")
}

func readBoot(ctx context.Context, d bmc.Driver) error {
	b, err := d.BootDevice(ctx)
	if err == nil && !slices.Contains([]string{"network", "disk", "cd", "setup", "default", "other"}, b.Device) {
		return failed("the boot device is %q", b.Device)
	}
	return err
}

func sensors(ctx context.Context, d bmc.Driver) error {
	all, err := d.Sensors(ctx)
	for i, s := range all {
		switch {
		case s.Name == "":
			return failed("sensor %d has no name", i)
		case !slices.Contains(healths, s.Health):
			return failed("sensor %s: health %q", s.Name, s.Health)
		}
		for _, v := range []*float64{s.Value, s.LowCritical, s.LowWarning, s.HighWarning, s.HighCritical} {
			if v != nil && (math.IsNaN(*v) || math.IsInf(*v, 0)) {
				return failed("sensor %s: a value is no number", s.Name)
			}
		}
	}
	return err
}

func eventLog(ctx context.Context, d bmc.Driver) error {
	all, err := d.EventLog(ctx)
	var before time.Time
	for i, e := range all {
		switch {
		case e.ID == "" || e.Text == "":
			return failed("entry %d has no id or no text: %+v", i, e)
		case !slices.Contains(healths, e.Health):
			return failed("entry %s: health %q", e.ID, e.Health)
		case !e.Time.IsZero() && e.Time.Before(before):
			return failed("entry %s is older than the one before it: oldest first", e.ID)
		}
		if !e.Time.IsZero() {
			before = e.Time
		}
	}
	return err
}

func inventory(ctx context.Context, d bmc.Driver) error {
	all, err := d.Inventory(ctx)
	if err != nil {
		return err
	}
	slots := make([]string, len(all))
	for i, p := range all {
		slots[i] = p.Slot
		switch {
		case p.Slot == "":
			return failed("part %d has no slot", i)
		case !slices.Contains(partKinds, p.Kind):
			return failed("part %s: kind %q", p.Slot, p.Kind)
		case p.Health != "" && !slices.Contains(healths, p.Health):
			return failed("part %s: health %q", p.Slot, p.Health)
		case p.Bytes < 0 || p.Cores < 0 || p.Threads < 0 || p.Mbps < 0:
			return failed("part %s: a number is less than none", p.Slot)
		}
		if p.MAC != "" {
			if m, err := net.ParseMAC(p.MAC); err != nil || m.String() != p.MAC {
				return failed("part %s: MAC address %q", p.Slot, p.MAC)
			}
		}
	}
	if err := inOrder(slots); err != nil {
		return err
	}
	again, err := d.Inventory(ctx)
	if err != nil {
		return err
	}
	if !slices.EqualFunc(all, again, func(a, b bmc.Part) bool { return a.Slot == b.Slot }) {
		return failed("the slots differ at the second reading")
	}
	return nil
}

func inOrder(names []string) error {
	for i := 1; i < len(names); i++ {
		if names[i] <= names[i-1] {
			return failed("%q comes after %q: names are unique and in order", names[i], names[i-1])
		}
	}
	return nil
}

func settings(ctx context.Context, d bmc.Driver) error {
	all, err := d.Settings(ctx)
	if err != nil {
		return err
	}
	names := make([]string, len(all))
	for i, s := range all {
		names[i] = s.Name
		if s.Secret != nil {
			return failed("setting %s shows a secret", s.Name)
		}
	}
	return inOrder(names)
}

func firmware(ctx context.Context, d bmc.Driver) error {
	all, err := d.Firmware(ctx)
	if err != nil {
		return err
	}
	names := make([]string, len(all))
	for i, f := range all {
		names[i] = f.Name
	}
	return inOrder(names)
}

// wantPower waits until the power is in a state. A driver that cannot say is believed.
func wantPower(ctx context.Context, d bmc.Driver, want bmc.PowerState) error {
	deadline := time.Now().Add(patience)
	for {
		s, err := d.Power(ctx)
		switch {
		case unsupported(err):
			return nil
		case err != nil:
			return err
		case s == want:
			return nil
		case time.Now().After(deadline):
			return failed("power is not %s after %s", want, patience)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func powerOffOn(ctx context.Context, d bmc.Driver) error {
	supported := false
	for _, a := range []bmc.Action{bmc.Off, bmc.Off, bmc.On, bmc.On} { // twice: what is so already is no error
		err := d.SetPower(ctx, a)
		if unsupported(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", a, err)
		}
		supported = true
		want := bmc.PowerOn
		if a == bmc.Off {
			want = bmc.PowerOff
		}
		if err := wantPower(ctx, d, want); err != nil {
			return err
		}
	}
	if !supported {
		return fmt.Errorf("%w: neither off nor on", ErrNotOffered)
	}
	return nil
}

// once is an action on a machine that is on; it is on again afterwards.
func once(a bmc.Action) func(context.Context, bmc.Driver) error {
	return func(ctx context.Context, d bmc.Driver) error {
		if err := d.SetPower(ctx, bmc.On); err != nil {
			return err
		}
		if err := wantPower(ctx, d, bmc.PowerOn); err != nil {
			return err
		}
		if err := d.SetPower(ctx, a); err != nil {
			return err
		}
		if err := d.SetPower(ctx, bmc.On); err != nil {
			return err
		}
		return wantPower(ctx, d, bmc.PowerOn)
	}
}

func bootFrom(want bmc.BootDevice) func(context.Context, bmc.Driver) error {
	return func(ctx context.Context, d bmc.Driver) error {
		if err := d.SetBootDevice(ctx, want); err != nil {
			return err
		}
		got, err := d.BootDevice(ctx)
		switch {
		case unsupported(err):
			return nil
		case err != nil:
			return err
		case got.Device == "default" && want.Device != "default":
			return fmt.Errorf("%w: the controller does not tell the override that is set", ErrNotOffered)
		case got.Device != want.Device, got.Persist != want.Persist, want.Firmware != "" && got.Firmware != want.Firmware:
			return failed("set %+v, read %+v", want, got)
		}
		return nil
	}
}

func identify(ctx context.Context, d bmc.Driver) error {
	if err := d.Identify(ctx, true, 0); err != nil {
		return err
	}
	return d.Identify(ctx, false, 0)
}

func clearLog(ctx context.Context, d bmc.Driver) error {
	if err := d.ClearEventLog(ctx); err != nil {
		return err
	}
	all, err := d.EventLog(ctx)
	if err == nil && len(all) > 1 { // that it was cleared may be an event
		return failed("%d entries after it was cleared", len(all))
	}
	return err
}

func serial(ctx context.Context, d bmc.Driver) error {
	s, err := d.Serial(ctx)
	if err != nil {
		return err
	}
	if err := s.Break(); err != nil && !unsupported(err) {
		_ = s.Close()
		return err
	}
	if _, err := s.Write([]byte("\r")); err != nil {
		_ = s.Close()
		return err
	}
	end := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, s)
		end <- err
	}()
	if err := s.Close(); err != nil {
		return err
	}
	select {
	case err := <-end:
		if err != nil {
			return failed("Read ends with %v after Close; want io.EOF", err)
		}
	case <-time.After(patience):
		return failed("Read does not end after Close")
	}
	again, err := d.Serial(ctx)
	if err != nil {
		return fmt.Errorf("the second time: %w", err)
	}
	return again.Close()
}

func closing(_ context.Context, d bmc.Driver) error {
	for range 2 {
		if err := d.Close(); err != nil {
			return failed("Close: %v", err)
		}
	}
	return nil
}
