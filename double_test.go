package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"muster/internal/bmc"
	"muster/internal/model"
)

// double is a driver for scripts: it stands in for bmc.driver=redfish, and remembers of each node what was done. What bmc.system says of a node is its
// fate, several with commas between them:
//
//	dead        nothing answers
//	slow        it comes on, and goes off, only at the third look
//	stuck       it does neither
//	hollow      DIMM A2 is not there
//	swapped     DIMM A1 is another one
//	warm        CPU 1 is too hot
//	mute        the controller has no serial line and no inventory
//	strange     its certificate is trusted only when it is pinned
//	pending     settings count after the next boot
//
// The right password is what the controller was last told, "first" before that.
type double struct {
	mu       sync.Mutex
	machines map[model.NodeName]*machine
}

type machine struct {
	mu       sync.Mutex
	power    bmc.PowerState
	next     bmc.PowerState
	looks    int // until power is next
	password string
	log      []bmc.LogEntry
	gateway  string
	device   bmc.BootDevice
}

func (d *double) open(t bmc.Target) bmc.Driver {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.machines == nil {
		d.machines = map[model.NodeName]*machine{}
	}
	m := d.machines[t.Node]
	if m == nil {
		m = &machine{
			power: bmc.PowerOff, password: "first", gateway: "10.78.0.1", device: bmc.BootDevice{Device: "default"},
			log: []bmc.LogEntry{
				{ID: "1", Text: "log cleared", Health: bmc.OK},
				{ID: "2", Time: time.Date(2026, 11, 20, 6, 12, 1, 0, time.UTC), Sensor: "PSU 1", Kind: "power supply", Text: "input lost", Health: bmc.Critical},
				{ID: "3", Time: time.Date(2026, 11, 20, 6, 14, 0, 0, time.UTC), Sensor: "PSU 1", Kind: "power supply", Text: "input lost", Health: bmc.OK, Over: true},
			},
		}
		d.machines[t.Node] = m
	}
	return &doubled{Incapable: bmc.Incapable{Protocol: "double"}, m: m, t: t}
}

type doubled struct {
	bmc.Incapable
	m *machine
	t bmc.Target
}

func (d *doubled) fate(what string) bool {
	return slices.Contains(strings.Split(d.t.System, ","), what)
}

// reach is the way of every call: it fails where nothing answers, or the login is refused. The caller holds the lock.
func (d *doubled) reach(what string) error {
	if d.fate("dead") {
		return &bmc.Error{Kind: bmc.Timeout, What: what, Why: "BMC " + d.t.Address + " does not answer", Do: "Look at bmc.address"}
	}
	if seen := "sha256:" + strings.Repeat("ab", 32); d.fate("strange") && !slices.Contains(d.t.Pins, seen) {
		return &bmc.Error{Kind: bmc.Refused, What: what, Why: "the certificate " + seen + " is not trusted", Err: &bmc.CertificateError{Seen: seen, Pins: d.t.Pins}}
	}
	if d.t.Password.Reveal() != d.m.password {
		return &bmc.Error{Kind: bmc.Refused, What: what, Why: "BMC " + d.t.Address + " refused user " + d.t.User, Do: "Set bmc.password"}
	}
	return nil
}

func (d *doubled) Power(context.Context) (bmc.PowerState, error) {
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	if err := d.reach("power status"); err != nil {
		return "", err
	}
	if d.m.next != "" && !d.fate("stuck") {
		if d.m.looks--; d.m.looks <= 0 {
			d.m.power, d.m.next = d.m.next, ""
		}
	}
	return d.m.power, nil
}

func (d *doubled) SetPower(_ context.Context, a bmc.Action) error {
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	if err := d.reach("power " + string(a)); err != nil {
		return err
	}
	if d.m.next = bmc.PowerOn; a == bmc.Off || a == bmc.SoftOff {
		d.m.next = bmc.PowerOff
	}
	if d.m.looks = 1; d.fate("slow") {
		d.m.looks = 3
	}
	return nil
}

func (d *doubled) BootDevice(context.Context) (bmc.BootDevice, error) {
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	err := d.reach("bootdev")
	return d.m.device, err
}

func (d *doubled) Serial(context.Context) (bmc.Stream, error) {
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	if err := d.reach("console"); err != nil {
		return nil, err
	}
	if d.fate("mute") {
		return nil, &bmc.Error{Kind: bmc.Unsupported, What: "console", Why: "it has no serial line"}
	}
	r, w := io.Pipe()
	return silentLine{r, w}, nil
}

// silentLine says nothing until it is closed.
type silentLine struct {
	*io.PipeReader
	w *io.PipeWriter
}

func (l silentLine) Write(b []byte) (int, error) { return len(b), nil }
func (l silentLine) Break() error                { return nil }
func (l silentLine) Close() error                { return l.w.Close() }

func (d *doubled) Info(context.Context) (bmc.Info, error) {
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	return bmc.Info{Protocol: "redfish 1.15.0", Vendor: "ACME", Model: "BMC9", Firmware: "7.00", Machine: "ACME R650", Serial: "CN" + string(d.t.Node), Session: "session"}, d.reach("bmc info")
}

func (d *doubled) Identify(context.Context, bool, time.Duration) error {
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	return d.reach("identify")
}

func (d *doubled) Sensors(context.Context) ([]bmc.Sensor, error) {
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	value := func(v float64) *float64 { return &v }
	cpu := bmc.Sensor{Name: "CPU 1", Kind: "temperature", Value: value(45.5), Unit: "°C", Health: bmc.OK, HighWarning: value(80), HighCritical: value(90)}
	if d.fate("warm") {
		cpu.Value, cpu.Health = value(85), bmc.Warning
	}
	return []bmc.Sensor{
		cpu,
		{Name: "Fan 1", Kind: "fan", Value: value(3000), Unit: "RPM", Health: bmc.OK},
		{Name: "Fan 2", Kind: "fan", Health: bmc.Absent},
		{Name: "PSU 1", Kind: "power supply", State: "presence detected", Health: bmc.OK},
	}, d.reach("sensors")
}

func (d *doubled) EventLog(context.Context) ([]bmc.LogEntry, error) {
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	return d.m.log, d.reach("eventlog")
}

func (d *doubled) ClearEventLog(context.Context) error {
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	err := d.reach("eventlog --clear")
	if err == nil {
		d.m.log = nil
	}
	return err
}

func (d *doubled) Inventory(context.Context) ([]bmc.Part, error) {
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	dimm := bmc.Part{Slot: "DIMM A1", Kind: "memory", Vendor: "Samsung", Model: "M393", Serial: "A1-1", Bytes: 32 << 30, Health: bmc.OK}
	second := dimm
	second.Slot, second.Serial = "DIMM A2", "A2-1"
	if d.fate("swapped") {
		dimm.Serial = "A1-2"
	}
	parts := []bmc.Part{{Slot: "CPU 1", Kind: "cpu", Vendor: "ACME", Model: "Gold 6430", Cores: 32, Health: bmc.OK}, dimm}
	if !d.fate("hollow") {
		parts = append(parts, second)
	}
	if d.fate("mute") {
		return nil, &bmc.Error{Kind: bmc.Unsupported, What: "inventory", Why: "it tells no inventory"}
	}
	return parts, d.reach("inventory")
}

func (d *doubled) Settings(context.Context) ([]bmc.Setting, error) {
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	return []bmc.Setting{
		{Name: "bios.BootMode", Value: "Uefi", Pending: map[bool]string{true: "Bios"}[d.fate("pending")]},
		{Name: "lan.address", Value: d.t.Address, Fixed: true},
		{Name: "lan.gateway", Value: d.m.gateway},
		{Name: "user.2.name", Value: "admin"},
	}, d.reach("bmc settings")
}

func (d *doubled) Set(_ context.Context, all []bmc.Setting) (pending []string, err error) {
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	if err := d.reach("bmc set"); err != nil {
		return nil, err
	}
	for _, v := range all {
		switch v.Name {
		case "lan.gateway":
			d.m.gateway = v.Value
		case "user.2.password":
			d.m.password = v.Secret.Reveal()
		default:
			return nil, &bmc.Error{Kind: bmc.Invalid, What: "bmc set", Why: "it has no setting " + v.Name, Do: "See: muster bmc get"}
		}
		if d.fate("pending") {
			pending = append(pending, v.Name)
		}
	}
	return pending, nil
}

func (d *doubled) ResetController(context.Context) error {
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	return d.reach("bmc reset")
}

func (d *doubled) Firmware(context.Context) ([]bmc.Firmware, error) {
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	return []bmc.Firmware{{Name: "BIOS", Version: "2.1", Updatable: true}, {Name: "BMC", Version: "7.00"}}, d.reach("firmware")
}

func (d *doubled) UpdateFirmware(_ context.Context, u bmc.Update) error {
	d.m.mu.Lock()
	err := d.reach("firmware update")
	d.m.mu.Unlock()
	if err != nil {
		return err
	}
	b, err := io.ReadAll(u.Image)
	if err != nil {
		return err
	}
	if string(b) != "an image\n" || u.Size != int64(len(b)) {
		return &bmc.Error{Kind: bmc.Failed, What: "firmware update", Why: fmt.Sprintf("%q of %d octets is no image", b, u.Size)}
	}
	u.Progress("upload", 50)
	u.Progress("verify", -1)
	u.Progress(u.Name+" for "+strings.Join(u.Targets, "+")+", counts after a reset", 100)
	return nil
}

func (d *doubled) Raw(_ context.Context, request string) (string, error) {
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	return "got " + request, d.reach("bmc raw")
}
