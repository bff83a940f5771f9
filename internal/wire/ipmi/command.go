package ipmi

import "encoding/binary"

// Network functions (table 5-1).
const (
	netFnChassis   = 0x00
	netFnSensor    = 0x04 // sensor/event
	netFnApp       = 0x06
	netFnStorage   = 0x0a
	netFnTransport = 0x0c
)

// Privilege is a session privilege level (table 22-19).
type Privilege byte

// The levels that a session is opened at.
const (
	Operator      Privilege = 3
	Administrator Privilege = 4
)

// GetDeviceID asks who the BMC is (§20.1); it is also what keeps a session alive.
func GetDeviceID() Request { return Request{NetFn: netFnApp, Command: 0x01} }

// ChassisStatus asks for the power state (§28.2); see [ParsePower].
func ChassisStatus() Request { return Request{NetFn: netFnChassis, Command: 0x01} }

// ParsePower reads the answer to [ChassisStatus].
func ParsePower(data []byte) (on, ok bool) {
	if len(data) == 0 {
		return false, false
	}
	return data[0]&1 != 0, true
}

// Control is an action of Chassis Control (§28.3).
type Control byte

// The actions.
const (
	PowerDown           Control = 0
	PowerUp             Control = 1
	PowerCycle          Control = 2
	HardReset           Control = 3
	DiagnosticInterrupt Control = 4
	SoftShutdown        Control = 5
)

// ChassisControl acts on the power of the machine. Cycle, reset and diagnostic interrupt are sent a single time.
func ChassisControl(c Control) Request {
	once := c == PowerCycle || c == HardReset || c == DiagnosticInterrupt
	return Request{NetFn: netFnChassis, Command: 0x02, Data: []byte{byte(c)}, Once: once}
}

// BootDevice is the device selector of the boot flags (table 28-14, parameter 5).
type BootDevice byte

// The devices that muster names. Values are those on the wire.
const (
	BootDefault BootDevice = 0
	BootNetwork BootDevice = 1
	BootDisk    BootDevice = 2
	BootCD      BootDevice = 5
	BootSetup   BootDevice = 6
)

// BootFlags is what the firmware shall boot next.
type BootFlags struct {
	Valid   bool // false: the BMC has nothing to say to the firmware
	Persist bool // for every boot, not only the next one
	EFI     bool
	Device  BootDevice
}

// Parameters of Set and Get System Boot Options.
const (
	bootProgress    = 0
	bootValidClear  = 3
	bootAcknowledge = 4
	bootFlags       = 5
)

func setBoot(parameter byte, data ...byte) Request {
	return Request{NetFn: netFnChassis, Command: 0x08, Data: append([]byte{parameter}, data...)}
}

// BootStep is one request of [SetBootFlags]. The answer of an Optional step does not matter: many BMCs have only the flags.
type BootStep struct {
	Request  Request
	Optional bool
}

// SetBootFlags returns the requests that set the boot flags, to be sent in this order (§28.12, and the way ipmitool
// goes): claim the parameters; keep the flags for more than the 60 s after which a BMC would drop them when no chassis
// command follows; take the acknowledge back from the firmware, so that it looks at the flags; the flags; release.
func SetBootFlags(f BootFlags) []BootStep {
	var b byte
	if f.Valid {
		b |= 0x80
	}
	if f.Persist {
		b |= 0x40
	}
	if f.EFI {
		b |= 0x20
	}
	return []BootStep{
		{setBoot(bootProgress, 1), true},
		{setBoot(bootValidClear, 0x08), true},
		{setBoot(bootAcknowledge, 1, 1), true},
		{setBoot(bootFlags, b, byte(f.Device)<<2, 0, 0, 0), false},
		{setBoot(bootProgress, 0), true},
	}
}

// GetBootFlags asks for the boot flags (§28.13); see [ParseBootFlags].
func GetBootFlags() Request {
	return Request{NetFn: netFnChassis, Command: 0x09, Data: []byte{bootFlags, 0, 0}}
}

// ParseBootFlags reads the answer to [GetBootFlags]: version, parameter (bit 7: invalid), five octets of flags.
func ParseBootFlags(data []byte) (f BootFlags, ok bool) {
	if len(data) < 4 || data[1]&0x7f != bootFlags {
		return BootFlags{}, false
	}
	if data[1]&0x80 != 0 || data[2]&0x80 == 0 {
		return BootFlags{}, true
	}
	return BootFlags{Valid: true, Persist: data[2]&0x40 != 0, EFI: data[2]&0x20 != 0, Device: BootDevice(data[3] >> 2 & 0x0f)}, true
}

func setPrivilege(p Privilege) Request {
	return Request{NetFn: netFnApp, Command: 0x3b, Data: []byte{byte(p)}}
}

func closeSession(bmc uint32) Request {
	return Request{NetFn: netFnApp, Command: 0x3c, Data: binary.LittleEndian.AppendUint32(nil, bmc)}
}

// activateSerial asks for serial over LAN, instance 1, authenticated, serial alerts fail meanwhile (§24.1).
func activateSerial(encrypt bool) Request {
	aux := byte(0x40)
	if encrypt {
		aux |= 0x80
	}
	return Request{NetFn: netFnApp, Command: 0x48, Data: []byte{byte(payloadSerial), 1, aux, 0, 0, 0}}
}

func deactivateSerial() Request {
	return Request{NetFn: netFnApp, Command: 0x49, Data: []byte{byte(payloadSerial), 1, 0, 0, 0, 0}}
}

// serialOwner asks on which session the serial payload is active (§24.4, Get Payload Instance Info).
func serialOwner() Request {
	return Request{NetFn: netFnApp, Command: 0x4b, Data: []byte{byte(payloadSerial), 1}}
}

// Completion codes of Activate Payload (table 24-2).
const (
	codeSerialActive       Code = 0x80
	codeSerialDisabled     Code = 0x81
	codeSerialNoEncryption Code = 0x83
)

// CodeSerialDisabled is what Activate Payload answers when serial over LAN is off in the BMC.
const CodeSerialDisabled = codeSerialDisabled

// serialRoom reads the answer to Activate Payload: how many characters one packet to the BMC may hold. Some BMCs give
// nonsense (0, or octets swapped); what any of them takes is used then.
func serialRoom(data []byte) int {
	const usual, most = 64, 180
	if len(data) < 6 {
		return usual
	}
	n := int(binary.LittleEndian.Uint16(data[4:])) - serialHeader
	switch {
	case n < 1:
		return usual
	case n > most:
		return most
	}
	return n
}
