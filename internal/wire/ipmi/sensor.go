package ipmi

import (
	"strconv"
	"strings"
)

// Condition is how a sensor or an event is, the worst first when several hold.
type Condition int

// The conditions.
const (
	Unread  Condition = iota // the controller does not say
	Good                     // nothing is wrong
	Missing                  // there is nothing there
	Warn                     // a non-critical threshold, or a state that asks for attention
	Severe                   // a critical or non-recoverable threshold, or a state that is a failure
)

func (s severity) condition() Condition {
	switch s {
	case bad:
		return Severe
	case doubtful:
		return Warn
	case nothing:
		return Missing
	}
	return Good
}

// GetReading asks for the reading of a sensor (§35.14).
func GetReading(s *SensorRecord) Request {
	return Request{NetFn: netFnSensor, LUN: s.LUN, Command: 0x2d, Data: []byte{s.Number}}
}

// Reading is what a sensor says now.
type Reading struct {
	Raw    byte
	Valid  bool   // Raw is a reading
	States uint16 // thresholds that are passed (bits 0 to 5, in the order of Limits), or states that hold (bits 0 to 14)
}

// ParseReading reads the answer to [GetReading].
func ParseReading(b []byte) (r Reading, ok bool) {
	if len(b) < 2 {
		return Reading{}, false
	}
	r = Reading{Raw: b[0], Valid: b[1]&0x40 != 0 && b[1]&0x20 == 0} // scanned, and not unavailable
	if len(b) > 2 {
		r.States = uint16(b[2])
	}
	if len(b) > 3 {
		r.States |= uint16(b[3]&0x7f) << 8
	}
	return r, true
}

// GetLimits asks for the thresholds of a sensor (§35.9).
func GetLimits(s *SensorRecord) Request {
	return Request{NetFn: netFnSensor, LUN: s.LUN, Command: 0x27, Data: []byte{s.Number}}
}

// ParseLimits reads the answer to [GetLimits].
func ParseLimits(b []byte) (l Limits, ok bool) {
	if len(b) < 7 {
		return Limits{}, false
	}
	return Limits{Has: b[0] & 0x3f, Raw: [6]byte(b[1:])}, true
}

// thresholdNames are those of the bits of a threshold sensor's reading.
var thresholdNames = [6]string{
	"below lower non-critical", "below lower critical", "below lower non-recoverable",
	"above upper non-critical", "above upper critical", "above upper non-recoverable",
}

// State puts what holds in words, and says how good it is. Of thresholds the farthest that is passed is told.
func (s *SensorRecord) State(r Reading) (text string, c Condition) {
	if !r.Valid {
		return "", Unread
	}
	if s.Reading == 1 {
		for _, bit := range [...]int{2, 5, 1, 4, 0, 3} {
			if r.States>>bit&1 == 1 {
				if bit%3 == 0 {
					return thresholdNames[bit], Warn
				}
				return thresholdNames[bit], Severe
			}
		}
		return "", Good
	}
	c = Good
	var all []string
	for bit := range 15 {
		if r.States>>bit&1 == 0 {
			continue
		}
		t, v := stateText(s.Type, s.Reading, bit)
		if t == "" {
			t = "state " + strconv.Itoa(bit)
		}
		all = append(all, t)
		c = max(c, v.condition())
	}
	return strings.Join(all, ", "), c
}

// Kind names what a sensor measures: its type, or "power" where the unit says so.
func (s *SensorRecord) Kind() string {
	if s.Unit == "W" {
		return "power"
	}
	if s.Type == 0x0a && s.Unit == "RPM" {
		return "fan"
	}
	return SensorType(s.Type)
}
