// Package bmc is what muster can ask of the management controller of a machine, whatever protocol it speaks.
//
// A [Driver] stands for one controller. It is made by an engine (see bmc/ipmi) without talking to anybody, may be used
// by many goroutines at once, and opens, shares and closes the session to the controller by itself. Every call obeys
// its context and answers with an [*Error] that says what was tried, why it did not work and what to do about it.
package bmc

import (
	"context"
	"io"

	"muster/internal/model"
)

// Target says where a controller is and how to log in.
type Target struct {
	Node    model.NodeName
	Address string // IPv4 or IPv6 address, or a host name; no port
	Port    int    // 0 is the standard port of the protocol: 623 for IPMI
	User    string
	// Password is revealed only to compute the proof of the login.
	Password model.Secret
	// Cipher is the IPMI cipher suite that is tried first: 3 or 17; 0 is 17.
	Cipher int
	// Pins are the certificates that a Redfish controller may show, as "sha256:" and 64 hexadecimal digits of the whole certificate (DER); none: it
	// is verified with the authorities of the system. "any" takes each, for the first contact.
	Pins []string
	// System is the Redfish system to drive where a controller has several, by its Id; empty: the only one.
	System string
	// Program is the plugin of the exec driver: the path of a program.
	Program string
	// MAC is where the wol driver sends its packets: that of the machine's boot interface.
	MAC string
}

// Action is something done to the power of a machine.
type Action string

// The actions.
const (
	On      Action = "on"
	Off     Action = "off"     // at once
	SoftOff Action = "softoff" // asks the operating system, by ACPI
	Cycle   Action = "cycle"   // off and on again; refused by many controllers when the machine is off
	Reset   Action = "reset"
	Diag    Action = "diag" // diagnostic interrupt: an NMI, for a crash dump
)

// PowerState is "on" or "off".
type PowerState string

// The states of power.
const (
	PowerOn  PowerState = "on"
	PowerOff PowerState = "off"
)

// BootDevice is what the firmware is told to boot from, before its own order.
type BootDevice struct {
	Device  string // "network", "disk", "cd", "setup" or "default": the firmware's own order
	Persist bool   // for every boot, not only the next one
	// Firmware is "uefi", "bios" or "". IPMI knows one bit for it: "" and "bios" set the same.
	Firmware string
}

// Driver is one controller. All methods may be called by several goroutines at once.
type Driver interface {
	// Power asks for the state of the main power.
	Power(ctx context.Context) (PowerState, error)
	// SetPower starts an action; it does not wait for the state that follows. Cycle, reset and diag are done at most once.
	SetPower(ctx context.Context, a Action) error
	// BootDevice asks for the override that is set. Device is "default" when there is none.
	BootDevice(ctx context.Context) (BootDevice, error)
	// SetBootDevice sets the override, or takes it back with "default".
	SetBootDevice(ctx context.Context, d BootDevice) error
	// Serial connects the serial line of the machine. One stream at a time; another console that has the line loses
	// it. The context bounds the connecting only.
	Serial(ctx context.Context) (Stream, error)
	Hardware
	// Close lets go of the driver. Its streams end.
	Close() error
}

// Stream is the serial line of a machine. Read returns io.EOF after Close, and an [*Error] that says why when the line
// was lost: connect again then, after a while.
type Stream interface {
	io.ReadWriteCloser
	// Break sends a serial break.
	Break() error
}

// Kind says what kind of trouble an [Error] is; callers branch by it.
type Kind string

// The kinds of errors.
const (
	Timeout     Kind = "timeout"     // no answer
	Refused     Kind = "refused"     // user, password or privilege: asking again does not help and may lock the account
	Unsupported Kind = "unsupported" // the controller cannot do it
	Busy        Kind = "busy"        // sessions, serial line or the controller itself are taken: try again later
	Invalid     Kind = "invalid"     // the target or the request itself is wrong; nothing was sent
	Failed      Kind = "failed"      // the controller answered with an error
	Lost        Kind = "lost"        // the session or the line has ended
)

// Error says what was tried ("power on"), why it did not work ("BMC 10.1.7.7 refused user admin") and what to do.
type Error struct {
	Kind          Kind
	What, Why, Do string
	Err           error // what the protocol said
}

func (e *Error) Error() string {
	s := e.Why
	if e.What != "" {
		s = e.What + ": " + s
	}
	if e.Do != "" {
		s += ". " + e.Do
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// Refused says that the login was refused: who asks again by himself does so rarely, as the controller may lock the account.
func (e *Error) Refused() bool { return e.Kind == Refused }
