package ipmi

// severity of a state, by the first octet of its text in the tables: '!' critical, '?' warning, '-' there is nothing there.
type severity byte

const (
	fine     severity = 0
	bad      severity = '!'
	doubtful severity = '?'
	nothing  severity = '-'
)

func states(s ...string) []string { return s }

// generic are the states of the event/reading types 02h to 0Ch (table 42-2).
var generic = map[byte][]string{
	0x02: states("idle", "active", "busy"),
	0x03: states("deasserted", "asserted"),
	0x04: states("no failure predicted", "?failure predicted"),
	0x05: states("limit not exceeded", "?limit exceeded"),
	0x06: states("performance met", "?performance lags"),
	0x07: states("ok", "?non-critical, from ok", "!critical, from less severe", "!non-recoverable, from less severe",
		"?non-critical, from more severe", "!critical, from non-recoverable", "!non-recoverable", "monitor", "informational"),
	0x08: states("-absent", "present"),
	0x09: states("disabled", "enabled"),
	0x0a: states("running", "in test", "power off", "on line", "off line", "off duty", "?degraded", "power save", "?install error"),
	0x0b: states("fully redundant", "!redundancy lost", "?redundancy degraded", "?non-redundant, sufficient resources, from redundant",
		"?non-redundant, sufficient resources, from insufficient", "!non-redundant, insufficient resources",
		"?redundancy degraded from full", "?redundancy degraded from non-redundant"),
	0x0c: states("D0", "D1", "D2", "D3"),
}

// specific are the states of sensor types that have their own (table 42-3).
var specific = map[byte][]string{
	0x05: states("?general chassis intrusion", "?drive bay intrusion", "?I/O card area intrusion", "?processor area intrusion", "?LAN leash lost", "?unauthorized dock", "?fan area intrusion"),
	0x06: states("?front panel lockout violation attempted", "?pre-boot user password violation", "?pre-boot setup password violation",
		"?pre-boot network password violation", "?other pre-boot password violation", "?out-of-band access password violation"),
	0x07: states("!internal error", "!thermal trip", "!self test failure", "!hang in POST", "!startup or initialization failure", "?configuration error",
		"!uncorrectable CPU-complex error", "presence detected", "?disabled", "terminator presence detected", "?throttled", "!uncorrectable machine check exception", "?correctable machine check error"),
	0x08: states("presence detected", "!failure detected", "?predictive failure", "!input lost", "!input lost or out of range", "!input out of range", "?configuration error", "standby"),
	0x09: states("power off", "power cycle", "240 VA power down", "interlock power down", "!AC lost", "!soft power control failure", "!failure", "?predictive failure"),
	0x0c: states("?correctable ECC error", "!uncorrectable ECC error", "!parity error", "!memory scrub failed", "?memory device disabled", "?correctable ECC error logging limit reached",
		"presence detected", "?configuration error", "spare", "?throttled", "!critical overtemperature"),
	0x0d: states("drive present", "!drive fault", "?predictive failure", "hot spare", "consistency check in progress", "!in critical array", "!in failed array",
		"rebuild in progress", "?rebuild aborted"),
	0x0f: states("!system firmware error", "!system firmware hang", "system firmware progress"),
	0x10: states("?correctable memory error logging disabled", "event logging disabled for a type", "log area cleared", "?all event logging disabled", "?log full", "?log almost full",
		"?correctable machine check error logging disabled"),
	0x11: states("?BIOS watchdog reset", "?OS watchdog reset", "?OS watchdog shut down", "?OS watchdog power down", "?OS watchdog power cycle", "?OS watchdog NMI",
		"?OS watchdog expired, status only", "?OS watchdog pre-timeout"),
	0x12: states("system reconfigured", "OEM system boot", "!undetermined system hardware failure", "entry added to auxiliary log", "PEF action", "timestamp clock synchronized"),
	0x13: states("!front panel NMI", "!bus timeout", "!I/O channel check NMI", "!software NMI", "!PCI PERR", "!PCI SERR", "!EISA failsafe timeout", "?bus correctable error",
		"!bus uncorrectable error", "!fatal NMI", "!bus fatal error", "?bus degraded"),
	0x14: states("power button pressed", "sleep button pressed", "reset button pressed", "FRU latch open", "FRU service requested"),
	0x19: states("?soft power control failure", "!thermal trip"),
	0x1b: states("connected", "?configuration error"),
	0x1d: states("initiated by power up", "initiated by hard reset", "initiated by warm reset", "user requested PXE boot", "automatic boot to diagnostic", "initiated by OS", "initiated by OS warm restart",
		"system restart"),
	0x1e: states("?no bootable media", "?non-bootable diskette in drive", "?PXE server not found", "?invalid boot sector", "?timeout waiting for boot source"),
	0x1f: states("A: boot completed", "C: boot completed", "PXE boot completed", "diagnostic boot completed", "CD-ROM boot completed", "ROM boot completed", "boot completed",
		"base OS installation started", "base OS installation completed", "?base OS installation aborted", "!base OS installation failed"),
	0x20: states("!critical stop during load or initialization", "!run-time critical stop", "OS graceful stop", "OS graceful shutdown", "soft shutdown initiated by PEF", "agent not responding"),
	0x21: states("!fault", "?identify", "device installed", "ready for installation", "ready for removal", "slot powered off", "device removal requested", "interlock", "slot disabled", "spare device"),
	0x22: states("S0/G0 working", "S1 sleeping, context kept", "S2 sleeping, processor context lost", "S3 sleeping, memory kept", "S4 suspend to disk", "S5/G2 soft off", "S4/S5 soft off",
		"G3 mechanical off", "sleeping", "G1 sleeping", "S5 entered by override", "legacy on", "legacy off", "?unknown"),
	0x23: states("?timer expired", "!hard reset", "!power down", "!power cycle", "reserved", "reserved", "reserved", "reserved", "?timer interrupt"),
	0x24: states("page generated", "LAN alert generated", "event trap generated", "SNMP trap generated"),
	0x25: states("present", "-absent", "disabled"),
	0x27: states("?heartbeat lost", "heartbeat"),
	0x28: states("?sensor access degraded", "!controller access degraded", "!management controller off line", "!management controller unavailable", "?sensor failure", "?FRU failure"),
	0x29: states("?low", "!failed", "presence detected"),
	0x2a: states("activated", "deactivated", "?invalid user name or password", "?disabled by repeated invalid passwords"),
	0x2b: states("hardware change detected", "firmware or software change detected", "?hardware incompatible", "?firmware or software incompatible", "?hardware version unsupported",
		"?firmware or software version unsupported", "hardware changed successfully", "firmware or software changed successfully"),
	0x2c: states("not installed", "inactive", "activation requested", "activation in progress", "active", "deactivation requested", "deactivation in progress", "?communication lost"),
}

// stateText returns the text of one state and what it means for the health; the text is empty when there is none.
func stateText(sensorType, reading byte, offset int) (string, severity) {
	table := generic[reading]
	if reading == 0x6f {
		table = specific[sensorType]
	}
	if offset >= len(table) {
		return "", fine
	}
	s := table[offset]
	switch severity(s[0]) {
	case bad, doubtful, nothing:
		return s[1:], severity(s[0])
	}
	return s, fine
}

// sensorTypes are the names of table 42-3, in lower case.
var sensorTypes = [...]string{
	"", "temperature", "voltage", "current", "fan", "physical security", "platform security", "processor", "power supply", "power unit", "cooling device",
	"other", "memory", "drive slot", "memory resize", "system firmware", "event logging", "watchdog", "system event", "critical interrupt", "button", "module",
	"microcontroller", "add-in card", "chassis", "chip set", "other FRU", "cable", "terminator", "system boot", "boot error", "OS boot", "OS stop", "slot",
	"ACPI power state", "watchdog", "platform alert", "entity presence", "monitor ASIC", "LAN", "management subsystem", "battery", "session audit",
	"version change", "FRU state",
}

// SensorType names a sensor type: "temperature", "power supply"; OEM types are "oem c0".
func SensorType(t byte) string {
	if t > 0 && int(t) < len(sensorTypes) {
		return sensorTypes[t]
	}
	return "oem " + hexByte(t)
}

const hexDigits = "0123456789abcdef"

func hexByte(b byte) string { return string([]byte{hexDigits[b>>4], hexDigits[b&0x0f]}) }
