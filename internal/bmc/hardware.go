package bmc

import (
	"context"
	"io"
	"time"

	"muster/internal/model"
)

// Hardware is what a controller tells of its machine and of itself, in the same words whatever protocol it speaks. What a controller cannot do answers an
// [*Error] of kind Unsupported; see [Incapable].
type Hardware interface {
	// Info says who the controller is.
	Info(ctx context.Context) (Info, error)
	// Identify lights the locator, for the duration when that is not zero, or puts it out.
	Identify(ctx context.Context, on bool, duration time.Duration) error
	// Sensors reads all sensors, in the order of the controller.
	Sensors(ctx context.Context) ([]Sensor, error)
	// EventLog reads the log of hardware events, oldest first.
	EventLog(ctx context.Context) ([]LogEntry, error)
	// ClearEventLog empties it.
	ClearEventLog(ctx context.Context) error
	// Inventory lists the parts of the machine, ordered by Slot.
	Inventory(ctx context.Context) ([]Part, error)
	// Settings reads what can be set of the controller, and of the firmware where the controller knows it, ordered by Name.
	Settings(ctx context.Context) ([]Setting, error)
	// Set changes settings and reads them back: a value that did not take is an error that names it. Settings that take effect at the next boot of the
	// machine are returned.
	Set(ctx context.Context, s []Setting) (pending []string, err error)
	// ResetController starts the controller anew; the machine goes on.
	ResetController(ctx context.Context) error
	// Firmware lists what firmware there is, ordered by Name.
	Firmware(ctx context.Context) ([]Firmware, error)
	// UpdateFirmware uploads an image and follows the update until it is done. It returns when the controller says so; a machine that has to be
	// started anew for it is said in the last Progress.
	UpdateFirmware(ctx context.Context, u Update) error
	// Watch calls see for every hardware event as it happens, until ctx ends or the connection does.
	Watch(ctx context.Context, see func(LogEntry)) error
	// Raw sends a request in the words of the protocol and returns the answer: bytes in hexadecimal for IPMI ("0x06 0x01"), a path for Redfish. A last resort.
	Raw(ctx context.Context, request string) (string, error)
}

// What controllers tell, as all of muster knows it.
type (
	Info     = model.Controller
	Health   = model.Health
	Sensor   = model.Sensor
	LogEntry = model.LogEntry
	Part     = model.Part
	Setting  = model.Setting
	Firmware = model.Firmware
)

// The healths.
const (
	OK       = model.Healthy
	Warning  = model.HealthWarning
	Critical = model.HealthCritical
	Absent   = model.HealthAbsent
	Unknown  = model.HealthUnknown
)

// Update is a firmware image to install.
type Update struct {
	Image io.ReadSeeker
	Name  string // of the file: some controllers judge by its ending
	Size  int64  // bytes
	// Targets are names of Firmware that it is for; none lets the controller decide.
	Targets []string
	// Progress, when not nil, is called as the update goes on: percent is 0 to 100, -1 when the controller does not say.
	Progress func(step string, percent int)
}

// Incapable is a driver's part that answers Unsupported to all that it does not do itself: drivers embed it.
type Incapable struct {
	Protocol string // of the driver, for the message: "IPMI"
}

var _ Driver = Incapable{}

func (i Incapable) cannot(what string) error {
	return &Error{Kind: Unsupported, What: what, Why: "the " + i.Protocol + " driver cannot do that", Do: "See bmc.driver: muster attributes bmc.driver"}
}

// Power answers Unsupported; so do all methods but Close.
func (i Incapable) Power(context.Context) (PowerState, error) { return "", i.cannot("power status") }

func (i Incapable) SetPower(_ context.Context, a Action) error { return i.cannot("power " + string(a)) }

func (i Incapable) BootDevice(context.Context) (BootDevice, error) {
	return BootDevice{}, i.cannot("bootdev")
}

func (i Incapable) SetBootDevice(_ context.Context, d BootDevice) error {
	return i.cannot("bootdev " + d.Device)
}

func (i Incapable) Serial(context.Context) (Stream, error) { return nil, i.cannot("console") }

func (i Incapable) Info(context.Context) (Info, error) { return Info{}, i.cannot("bmc info") }

func (i Incapable) Identify(context.Context, bool, time.Duration) error { return i.cannot("identify") }

func (i Incapable) Sensors(context.Context) ([]Sensor, error) { return nil, i.cannot("sensors") }

func (i Incapable) EventLog(context.Context) ([]LogEntry, error) { return nil, i.cannot("eventlog") }

func (i Incapable) ClearEventLog(context.Context) error { return i.cannot("eventlog --clear") }

func (i Incapable) Inventory(context.Context) ([]Part, error) { return nil, i.cannot("inventory") }

func (i Incapable) Settings(context.Context) ([]Setting, error) { return nil, i.cannot("bmc settings") }

func (i Incapable) Set(context.Context, []Setting) ([]string, error) {
	return nil, i.cannot("bmc set")
}

func (i Incapable) ResetController(context.Context) error { return i.cannot("bmc reset") }

func (i Incapable) Firmware(context.Context) ([]Firmware, error) { return nil, i.cannot("firmware") }

func (i Incapable) UpdateFirmware(context.Context, Update) error { return i.cannot("firmware update") }

func (i Incapable) Watch(context.Context, func(LogEntry)) error {
	return i.cannot("events of hardware")
}

func (i Incapable) Raw(context.Context, string) (string, error) { return "", i.cannot("bmc raw") }

// Close does nothing.
func (i Incapable) Close() error { return nil }
