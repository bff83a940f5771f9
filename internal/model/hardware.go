package model

import (
	"cmp"
	"strconv"
	"strings"
	"time"
)

// What management controllers tell of machines, in the same words whatever protocol they speak.

// Controller is who a management controller is.
type Controller struct {
	Protocol string `json:"protocol"` // "ipmi 2.0", "redfish 1.15.0", the name of a plugin
	Vendor   string `json:"vendor,omitempty"`
	Model    string `json:"model,omitempty"`    // of the controller: "iDRAC9"
	Firmware string `json:"firmware,omitempty"` // its version
	MAC      string `json:"mac,omitempty"`
	Address  string `json:"address,omitempty"` // as the controller says, which may differ from that by which it was asked
	GUID     string `json:"guid,omitempty"`    // of the machine: the UUID that its firmware shows
	Machine  string `json:"machine,omitempty"` // vendor and model of the machine
	Serial   string `json:"serial,omitempty"`  // of the machine
	// Session says how the controller is talked to: "suite 17", "session", "basic".
	Session string `json:"session,omitempty"`
}

// Health says how a sensor, a part or an event is.
type Health string

// The healths.
const (
	Healthy        Health = "ok"
	HealthWarning  Health = "warning"
	HealthCritical Health = "critical"
	HealthAbsent   Health = "absent"  // there is nothing to read: an empty slot, a machine that is off
	HealthUnknown  Health = "unknown" // the controller does not say
)

// Sensor is one reading.
type Sensor struct {
	Name   string   `json:"name"`            // as the controller names it
	Kind   string   `json:"kind"`            // "temperature", "fan", "voltage", "current", "power", or the IPMI type in lower case
	Value  *float64 `json:"value,omitempty"` // in Unit; nil: a state only, or no reading
	Unit   string   `json:"unit,omitempty"`  // "°C", "RPM", "V", "A", "W", "%", … ; empty: a state
	State  string   `json:"state,omitempty"` // of a discrete sensor, in words: "presence detected, failure"
	Health Health   `json:"health"`
	// Thresholds in Unit; nil: not set.
	LowCritical  *float64 `json:"lowCritical,omitempty"`
	LowWarning   *float64 `json:"lowWarning,omitempty"`
	HighWarning  *float64 `json:"highWarning,omitempty"`
	HighCritical *float64 `json:"highCritical,omitempty"`
}

// LogEntry is one hardware event.
type LogEntry struct {
	ID     string    `json:"id"`            // of the controller
	Time   time.Time `json:"time,omitzero"` // zero: the controller's clock was not set
	Sensor string    `json:"sensor,omitempty"`
	Kind   string    `json:"kind,omitempty"` // as Sensor.Kind
	Text   string    `json:"text"`           // what happened, in words
	Health Health    `json:"health"`
	Over   bool      `json:"over,omitempty"` // the condition has ended
}

// Part is one part of a machine.
type Part struct {
	// Slot names the place of the part in its machine, unique and the same at each reading: "DIMM A1", "CPU 1", "NIC 1 port 2". A part that vanishes
	// is missed by it.
	Slot     string `json:"slot"`
	Kind     string `json:"kind"` // "machine", "board", "chassis", "cpu", "memory", "disk", "storage", "nic", "port", "gpu", "pcie", "power", "fan", "bmc"
	Vendor   string `json:"vendor,omitempty"`
	Model    string `json:"model,omitempty"`
	Serial   string `json:"serial,omitempty"`
	Number   string `json:"number,omitempty"` // part number
	Firmware string `json:"firmware,omitempty"`
	MAC      string `json:"mac,omitempty"`
	WWN      string `json:"wwn,omitempty"`
	Bytes    int64  `json:"bytes,omitempty"` // of memory and disks
	Cores    int    `json:"cores,omitempty"`
	Threads  int    `json:"threads,omitempty"`
	Mbps     int64  `json:"mbps,omitempty"` // of a port: Mbit/s
	Health   Health `json:"health,omitempty"`
	// Other holds what has no field, by names in lower case: "asset tag", "speed".
	Other map[string]string `json:"other,omitempty"`
}

// String is the part in words: who made it, which model, how much of it, which serial number.
func (p Part) String() string {
	var w []string
	for _, t := range []string{p.Vendor, cmp.Or(p.Model, p.Number)} {
		if t != "" {
			w = append(w, t)
		}
	}
	if p.Bytes > 0 {
		w = append(w, amount(p.Bytes, p.Kind))
	}
	if p.Serial != "" {
		w = append(w, "serial "+p.Serial)
	}
	if len(w) == 0 {
		return p.Kind
	}
	return strings.Join(w, " ")
}

// amount is a number of bytes as makers write it: memory by 1024, disks by 1000.
func amount(n int64, kind string) string {
	base, units := int64(1000), []string{"B", "kB", "MB", "GB", "TB", "PB"}
	if kind == "memory" {
		base, units = 1024, []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}
	}
	f, i := float64(n), 0
	for f >= float64(base) && i < len(units)-1 {
		f, i = f/float64(base), i+1
	}
	return strconv.FormatFloat(f, 'g', 4, 64) + " " + units[i]
}

// Setting is one setting of a controller or of the firmware: "lan.address", "lan.gateway", "user.2.name", "bios.BootMode".
type Setting struct {
	Name   string  `json:"name"`
	Value  string  `json:"value,omitempty"`
	Secret *Secret `json:"-"` // in place of Value, where it is one: "user.2.password"
	Fixed  bool    `json:"fixed,omitempty"`
	// Pending is the value after the next boot, where that is another one.
	Pending string `json:"pending,omitempty"`
}

// Firmware is one firmware of a machine.
type Firmware struct {
	Name      string `json:"name"` // "BIOS", "BMC", "NIC 1"
	Version   string `json:"version"`
	Updatable bool   `json:"updatable,omitempty"`
}
