package ipmi

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"
)

const eventSize = 16

// Event records of the log (§32).
const (
	eventSystem      = 0x02
	eventTimestamped = 0xc0 // to DFh: OEM records with a time; E0h and above: without
	eventPlain       = 0xe0
)

// LogEvent is one record of the system event log, taken apart. A record that is not the system's own (Type is not 2) has only its octets.
type LogEvent struct {
	ID      uint16
	Type    byte
	Time    time.Time // zero: the clock was not set
	Owner   byte      // slave address, or software id with bit 0 set
	LUN     byte
	Sensor  byte // its number
	Kind    byte // sensor type
	Reading byte // event/reading type code
	Over    bool // deassertion
	Data    [3]byte
	Maker   uint32 // of an OEM record with a time
	OEM     []byte // octets of an OEM record
}

// ParseEvent reads one record of 16 octets; it keeps none of them.
func ParseEvent(b []byte) (e LogEvent, ok bool) {
	if len(b) < eventSize {
		return LogEvent{}, false
	}
	e = LogEvent{ID: binary.LittleEndian.Uint16(b), Type: b[2]}
	switch {
	case e.Type >= eventPlain:
		e.OEM = append([]byte{}, b[3:eventSize]...)
		return e, true
	case e.Type >= eventTimestamped:
		e.Maker = uint32(b[7]) | uint32(b[8])<<8 | uint32(b[9])<<16
		e.OEM = append([]byte{}, b[10:eventSize]...)
	default:
		e.Owner, e.LUN, e.Kind, e.Sensor = b[7], b[8]&3, b[10], b[11]
		e.Over, e.Reading, e.Data = b[12]&0x80 != 0, b[12]&0x7f, [3]byte(b[13:])
	}
	e.Time = eventTime(binary.LittleEndian.Uint32(b[3:]))
	return e, true
}

// eventTime is the time of a record; zero when it counts from the start of the controller or is not specified (§37).
func eventTime(n uint32) time.Time {
	if n <= 0x20000000 || n == 0xffffffff {
		return time.Time{}
	}
	return time.Unix(int64(n), 0).UTC()
}

// thresholdEvents are the offsets of threshold events (table 42-2).
var thresholdEvents = [...]string{
	"lower non-critical going low", "lower non-critical going high", "lower critical going low", "lower critical going high",
	"lower non-recoverable going low", "lower non-recoverable going high", "upper non-critical going low", "upper non-critical going high",
	"upper critical going low", "upper critical going high", "upper non-recoverable going low", "upper non-recoverable going high",
}

// Text says in words what happened, and how bad it is. The sensor's record, nil when it is not known, makes values of readings.
func (e *LogEvent) Text(s *SensorRecord) (string, Condition) {
	switch {
	case e.Type >= eventPlain:
		return "OEM record " + hexByte(e.Type) + ": " + hex.EncodeToString(e.OEM), Unread
	case e.Type >= eventTimestamped:
		maker := Vendor(e.Maker)
		if maker != "" {
			maker = " of " + maker
		}
		return "OEM record " + hexByte(e.Type) + maker + ": " + hex.EncodeToString(e.OEM), Unread
	case e.Type != eventSystem:
		return "record of type " + hexByte(e.Type), Unread
	}
	offset := int(e.Data[0] & 0x0f)
	var text string
	c := Unread
	if e.Reading == 1 {
		if offset < len(thresholdEvents) {
			text, c = thresholdEvents[offset], Severe
			if offset%6 < 2 {
				c = Warn
			}
			text += e.values(s)
		}
	} else {
		var v severity
		if text, v = stateText(e.Kind, e.Reading, offset); text != "" {
			c = v.condition()
			text += e.details()
		}
	}
	if text == "" {
		text = fmt.Sprintf("event %d of type %s, data %s %s", offset, hexByte(e.Reading), hexByte(e.Data[1]), hexByte(e.Data[2]))
	}
	if e.Over {
		return text + " (no longer)", Good
	}
	return text, c
}

// values are the reading and the threshold of an event, when it has them (table 29-6).
func (e *LogEvent) values(s *SensorRecord) string {
	var all []string
	for i, name := range []string{"reading", "threshold"} {
		if e.Data[0]>>(6-2*i)&3 != 1 {
			continue
		}
		raw := e.Data[1+i]
		text := "raw " + hexByte(raw)
		if s != nil && !s.NonLinear() {
			if v, ok := s.Value(raw); ok {
				text = strconv.FormatFloat(v, 'f', -1, 64)
				if s.Unit != "" {
					text += " " + s.Unit
				}
			}
		}
		all = append(all, name+" "+text)
	}
	if all == nil {
		return ""
	}
	return ": " + strings.Join(all, ", ")
}

// Details of single events: what table 42-3 says of the second and third octet.
var (
	supplyErrors   = states("vendor mismatch", "revision mismatch", "processor missing", "power supply rating mismatch", "voltage rating mismatch")
	watchdogUses   = states("", "BIOS FRB2", "BIOS/POST", "OS load", "SMS/OS", "OEM")
	firmwareErrors = states("unspecified", "no system memory", "no usable system memory", "hard disk failure", "system board failure", "diskette failure",
		"hard disk controller failure", "keyboard failure", "boot media not found", "video controller failure", "no video device", "firmware ROM corruption",
		"CPU voltage mismatch", "CPU speed mismatch")
	firmwareSteps = states("unspecified", "memory initialization", "hard disk initialization", "secondary processor initialization", "user authentication", "setup entered",
		"USB resource configuration", "PCI resource configuration", "option ROM initialization", "video initialization", "cache initialization", "SMBus initialization",
		"keyboard controller initialization", "management controller initialization", "docking station attached", "docking station enabled", "docking station ejected",
		"docking station disabled", "calling wake-up vector", "starting OS boot", "baseboard initialization", "", "floppy initialization", "keyboard test", "pointing device test",
		"primary processor initialization")
)

func pick(table []string, i byte) string {
	if int(i) < len(table) {
		return table[i]
	}
	return ""
}

// details tells what the second and third octet say: in words where the sensor type defines them, in hexadecimal where the event has octets that nobody here
// can read.
func (e *LogEvent) details() string {
	offset, two, three := e.Data[0]&0x0f, e.Data[1], e.Data[2]
	has2, has3 := e.Data[0]>>6, e.Data[0]>>4&3
	join := func(s string) string {
		if s == "" {
			return ""
		}
		return ": " + s
	}
	if e.Reading == 0x6f {
		switch {
		case e.Kind == 0x0c && has3 == 3:
			return ": module " + strconv.Itoa(int(three))
		case e.Kind == 0x08 && offset == 6 && has3 == 3:
			return join(pick(supplyErrors, three&0x0f))
		case e.Kind == 0x0f && has2 == 3 && offset == 2:
			return join(pick(firmwareSteps, two))
		case e.Kind == 0x0f && has2 == 3:
			return join(pick(firmwareErrors, two))
		case e.Kind == 0x23 && has2 == 3:
			return join(pick(watchdogUses, two&0x0f))
		case e.Kind == 0x2a && has2 == 3:
			return ": user " + strconv.Itoa(int(two&0x3f))
		case e.Kind == 0x10 && offset == 5 && has3 == 3:
			return ": " + strconv.Itoa(int(three)) + " % full"
		case e.Kind == 0x21 && has3 == 3:
			return ": slot " + strconv.Itoa(int(three&0x7f))
		case e.Kind == 0x13 && has2 != 0 && has3 != 0 && (offset == 4 || offset == 5): // OEM codes by the table; what firmware means by them is the PCI address
			return fmt.Sprintf(": data %s %s", hexByte(two), hexByte(three))
		}
	}
	var all []string
	if has2 >= 2 && two != 0xff { // OEM code, or sensor-specific
		all = append(all, "data 2 "+hexByte(two))
	}
	if has3 >= 2 && three != 0xff {
		all = append(all, "data 3 "+hexByte(three))
	}
	return join(strings.Join(all, ", "))
}

// LogInfo is how full the log is (§31.2).
type LogInfo struct {
	Entries, Free int // records; octets
	Added, Erased uint32
	Reservation   bool
	Overflow      bool
}

// GetLogInfo asks for it.
func GetLogInfo(ask Ask) (LogInfo, error) {
	b, err := ask(Request{NetFn: netFnStorage, Command: 0x40})
	if err != nil {
		return LogInfo{}, err
	}
	if len(b) < 14 {
		return LogInfo{}, &Error{Cause: Protocol, Step: "get SEL info"}
	}
	return LogInfo{
		Entries: int(binary.LittleEndian.Uint16(b[1:])), Free: int(binary.LittleEndian.Uint16(b[3:])),
		Added: binary.LittleEndian.Uint32(b[5:]), Erased: binary.LittleEndian.Uint32(b[9:]), Reservation: b[13]&0x02 != 0, Overflow: b[13]&0x80 != 0,
	}, nil
}

// ReadLog reads all records, oldest first (§31.5). Records that come while it reads are read too.
func ReadLog(ask Ask) ([]LogEvent, error) {
	info, err := GetLogInfo(ask)
	if err != nil || info.Entries == 0 {
		return nil, err
	}
	var all []LogEvent
	seen := map[uint16]bool{}
	for id := uint16(0); len(all) < recordsMost*16; {
		d := binary.LittleEndian.AppendUint16([]byte{0, 0}, id)
		b, err := ask(Request{NetFn: netFnStorage, Command: 0x43, Data: append(d, 0, wholeRecord)})
		if commandCode(err) == CodeAbsent { // it was cleared meanwhile, or the controller counted wrong
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		if len(b) < 2+eventSize {
			return nil, &Error{Cause: Protocol, Step: "get SEL entry"}
		}
		e, _ := ParseEvent(b[2:])
		all = append(all, e)
		next := binary.LittleEndian.Uint16(b)
		if next == lastRecord || next == id || seen[next] {
			return all, nil
		}
		id = next
		seen[id] = true
	}
	return all, nil
}

// ClearLog begins to erase the log and says whether it is done already; else ask [LogCleared] until it is (§31.9).
func ClearLog(ask Ask) (reservation uint16, done bool, err error) {
	for try := 0; ; try++ {
		b, err := ask(Request{NetFn: netFnStorage, Command: 0x42})
		switch {
		case commandCode(err) == CodeInvalid: // no reservations there
		case err != nil:
			return 0, false, err
		case len(b) < 2:
			return 0, false, &Error{Cause: Protocol, Step: "reserve SEL"}
		default:
			reservation = binary.LittleEndian.Uint16(b)
		}
		done, err = clearLog(ask, reservation, 0xaa)
		if commandCode(err) != CodeReservation || try == reserveMost {
			return reservation, done, err
		}
	}
}

// LogCleared asks how far the erasure is.
func LogCleared(ask Ask, reservation uint16) (done bool, err error) {
	return clearLog(ask, reservation, 0)
}

func clearLog(ask Ask, reservation uint16, what byte) (bool, error) {
	d := binary.LittleEndian.AppendUint16(nil, reservation)
	b, err := ask(Request{NetFn: netFnStorage, Command: 0x47, Data: append(d, 'C', 'L', 'R', what)})
	if err != nil {
		return false, err
	}
	return len(b) == 0 || b[0]&0x0f == 1, nil
}
