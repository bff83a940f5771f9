package board

import (
	"encoding/binary"
	"math"

	"github.com/bougou/go-ipmi/pkg/types"
)

// Sensor is an analog sensor with its thresholds. Values are in the sensor's unit; on the wire they are one byte
// that stands for factor × byte × 10^exponent.
type Sensor struct {
	Number   uint8
	Name     string // at most 16 octets
	Kind     uint8  // sensor type, IPMI 2.0 table 42-3
	Unit     uint8  // table 43-15: 1 degrees C, 4 volts, 5 amperes, 6 watts, 18 revolutions a minute
	Entity   uint8  // table 43-13: 3 processor, 7 system board, 29 fan, 10 power supply, 64 air inlet
	Instance uint8  // of the entity; 0 is the first, as 1
	Factor   int
	Exponent int
	Standby  bool // reads also while the machine is off
	// Low and High are the non-critical, critical and non-recoverable threshold; NaN where there is none.
	Low, High [3]float64
	Idle      float64 // reading at no load
	Busy      float64 // reading at full load
}

// None are thresholds that do not exist.
var None = [3]float64{math.NaN(), math.NaN(), math.NaN()}

// SensorACPI is the number of the sensor that tells the power state.
const SensorACPI = 5

// Raw is the byte that stands for the value.
func (s *Sensor) Raw(value float64) uint8 {
	return uint8(math.Round(value / float64(s.Factor) / math.Pow10(s.Exponent)))
}

// Thresholds returns the mask of those that exist and their six bytes, in the order of Get Sensor Thresholds
// (IPMI 2.0 table 35-9): lower non-critical, critical, non-recoverable, then upper ones.
func (s *Sensor) Thresholds() (mask uint8, t [6]uint8) {
	for i, v := range append(s.Low[:3:3], s.High[:]...) {
		if !math.IsNaN(v) {
			mask |= 1 << i
			t[i] = s.Raw(v)
		}
	}
	return mask, t
}

// Status is the threshold comparison byte of Get Sensor Reading: bit i is set when threshold i is crossed.
func (s *Sensor) Status(raw uint8) uint8 {
	mask, t := s.Thresholds()
	var b uint8
	for i := range 6 {
		if mask&(1<<i) != 0 && (i < 3 && raw <= t[i] || i >= 3 && raw >= t[i]) {
			b |= 1 << i
		}
	}
	return b
}

// Reading is the value at a load between 0 and 1.
func (s *Sensor) Reading(load float64) uint8 {
	return s.Raw(s.Idle + (s.Busy-s.Idle)*min(max(load, 0), 1))
}

// Record is the full sensor record (type 01h, IPMI 2.0 table 43-1).
func (s *Sensor) Record(id uint16) []byte {
	mask, t := s.Thresholds()
	b := make([]byte, 48, 64)
	binary.LittleEndian.PutUint16(b[0:], id)
	b[2], b[3] = 0x51, 0x01
	b[5] = 0x20     // owner: the BMC
	b[7] = s.Number // sensor number
	b[8], b[9] = s.Entity, max(s.Instance, 1)
	b[10] = 0x7f // scanning and events are on
	b[11] = 0x44 // re-arms by itself, thresholds are readable
	b[12], b[13] = s.Kind, 0x01
	b[18] = mask // readable thresholds; none are settable
	b[21] = s.Unit
	b[24] = uint8(s.Factor)
	b[29] = uint8(s.Exponent) << 4
	b[30] = 0x01 // the nominal reading below is given
	b[31] = s.Reading(0)
	b[34], b[35] = 0xff, 0x00 // largest and smallest raw reading
	for i, at := range []int{41, 40, 39, 38, 37, 36} {
		b[at] = t[i]
	}
	b[47] = 0xc0 | uint8(len(s.Name))
	b = append(b, s.Name...)
	b[4] = uint8(len(b) - 5)
	return b
}

// Discrete is a sensor that has states and no value. States are those it can have: bit i is offset i of table 42-3.
type Discrete struct {
	Number   uint8
	Name     string
	Kind     uint8
	Entity   uint8
	Instance uint8
	States   uint16
}

// Record is the compact sensor record (type 02h, IPMI 2.0 table 43-2).
func (d *Discrete) Record(id uint16) []byte {
	b := make([]byte, 32, 64)
	binary.LittleEndian.PutUint16(b[0:], id)
	b[2], b[3] = 0x51, 0x02
	b[5], b[7] = 0x20, d.Number
	b[8], b[9] = d.Entity, max(d.Instance, 1)
	b[10], b[11] = 0x67, 0x40
	b[12], b[13] = d.Kind, SensorDirect
	binary.LittleEndian.PutUint16(b[14:], d.States) // that are events
	binary.LittleEndian.PutUint16(b[18:], d.States) // that can be read
	b[20] = 0xc0                                    // no reading, only states
	b[23] = 0x01
	b[31] = 0xc0 | uint8(len(d.Name))
	b = append(b, d.Name...)
	b[4] = uint8(len(b) - 5)
	return b
}

// Sensors are those of a machine as the sensor commands (§35) ask for them.
type Sensors struct {
	Analog   func(number byte) *Sensor   // nil for others
	Discrete func(number byte) *Discrete // nil for others
	// Raw reads an analog sensor. ok is false where there is no reading now.
	Raw func(s *Sensor) (raw uint8, ok bool)
	// State reads a discrete one.
	State func(d *Discrete) uint16
}

// SensorCommands are the commands of network function Sensor/Event that [Sensors.Answer] knows.
var SensorCommands = []byte{0x25, 0x27, 0x29, 0x2d, 0x2f}

// Answer does a command of [SensorCommands] and returns its answer and completion code.
func (t Sensors) Answer(command byte, q []byte) ([]byte, types.CompletionCode) {
	if len(q) < 1 {
		return nil, types.CodeRequestDataLengthInvalid
	}
	s, d := t.Analog(q[0]), t.Discrete(q[0])
	switch {
	case command == 0x29: // Get Sensor Event Enable
		return []byte{0xc0, 0, 0, 0, 0}, types.CodeOK
	case command == 0x2d && d != nil: // Get Sensor Reading
		states := t.State(d)
		return []byte{0, 0xc0, byte(states), 0x80 | byte(states>>8)}, types.CodeOK
	case command == 0x2f && d != nil:
		return []byte{d.Kind, SensorDirect}, types.CodeOK
	case s == nil:
		return nil, types.CodeRequestedDataNotPresent
	case command == 0x25: // Get Sensor Hysteresis
		return []byte{0, 0}, types.CodeOK
	case command == 0x27: // Get Sensor Thresholds
		mask, thresholds := s.Thresholds()
		return append([]byte{mask}, thresholds[:]...), types.CodeOK
	case command == 0x2f: // Get Sensor Type
		return []byte{s.Kind, 0x01}, types.CodeOK
	case command == 0x2d:
		raw, ok := t.Raw(s)
		if !ok {
			return []byte{0, 0xe0, 0xc0}, types.CodeOK // reading unavailable
		}
		return []byte{raw, 0xc0, 0xc0 | s.Status(raw)}, types.CodeOK
	}
	return nil, types.CodeInvalidCommand
}
