package lab

import (
	"encoding/binary"
	"math"
)

// sensor is an analog sensor with its thresholds. Values are in the sensor's unit; on the wire they are one byte
// that stands for factor × byte × 10^exponent.
type sensor struct {
	number   uint8
	name     string
	kind     uint8 // sensor type, IPMI 2.0 table 42-3
	unit     uint8 // table 43-15: 1 degrees C, 4 volts, 18 revolutions a minute
	entity   uint8 // table 43-13: 3 processor, 7 system board, 29 fan, 10 power supply, 64 air inlet
	factor   int
	exponent int
	standby  bool // reads also while the machine is off
	low      [3]float64
	high     [3]float64
	idle     float64 // reading at no load
	busy     float64 // reading at full load
}

var none = [3]float64{math.NaN(), math.NaN(), math.NaN()}

const sensorACPI = 5

// sensors are what every machine has. Thresholds are non-critical, critical, non-recoverable.
var sensors = []sensor{
	{number: 1, name: "Inlet Temp", kind: 1, unit: 1, entity: 64, factor: 1, standby: true, low: none, high: [3]float64{42, 47, 52}, idle: 22, busy: 23},
	{number: 2, name: "CPU Temp", kind: 1, unit: 1, entity: 3, factor: 1, low: none, high: [3]float64{85, 95, 105}, idle: 34, busy: 71},
	{number: 3, name: "Fan 1", kind: 4, unit: 18, entity: 29, factor: 50, low: [3]float64{1500, 1000, 500}, high: none, idle: 4200, busy: 9800},
	{number: 4, name: "PSU 12V", kind: 2, unit: 4, entity: 10, factor: 6, exponent: -2, low: [3]float64{11.4, 11.04, 10.8}, high: [3]float64{12.66, 13.02, 13.2}, idle: 12.12, busy: 12},
}

func sensorByNumber(n uint8) *sensor {
	for i := range sensors {
		if sensors[i].number == n {
			return &sensors[i]
		}
	}
	return nil
}

// raw is the byte that stands for the value.
func (s *sensor) raw(value float64) uint8 {
	return uint8(math.Round(value / float64(s.factor) / math.Pow10(s.exponent)))
}

// thresholds returns the mask of those that exist and their six bytes, in the order of Get Sensor Thresholds
// (IPMI 2.0 table 35-9): lower non-critical, critical, non-recoverable, then upper ones.
func (s *sensor) thresholds() (mask uint8, t [6]uint8) {
	for i, v := range append(s.low[:3:3], s.high[:]...) {
		if !math.IsNaN(v) {
			mask |= 1 << i
			t[i] = s.raw(v)
		}
	}
	return mask, t
}

// status is the threshold comparison byte of Get Sensor Reading: bit i is set when threshold i is crossed.
func (s *sensor) status(raw uint8) uint8 {
	mask, t := s.thresholds()
	var b uint8
	for i := range 6 {
		if mask&(1<<i) != 0 && (i < 3 && raw <= t[i] || i >= 3 && raw >= t[i]) {
			b |= 1 << i
		}
	}
	return b
}

// reading is the value at a load between 0 and 1.
func (s *sensor) reading(load float64) uint8 {
	return s.raw(s.idle + (s.busy-s.idle)*min(max(load, 0), 1))
}

// record is the full sensor record (type 01h, IPMI 2.0 table 43-1).
func (s *sensor) record(id uint16) []byte {
	mask, t := s.thresholds()
	b := make([]byte, 48, 64)
	binary.LittleEndian.PutUint16(b[0:], id)
	b[2], b[3] = 0x51, 0x01
	b[5] = 0x20     // owner: the BMC
	b[7] = s.number // sensor number
	b[8], b[9] = s.entity, 1
	b[10] = 0x7f // scanning and events are on
	b[11] = 0x44 // re-arms by itself, thresholds are readable
	b[12], b[13] = s.kind, 0x01
	b[18] = mask // readable thresholds; none are settable
	b[21] = s.unit
	b[24] = uint8(s.factor)
	b[29] = uint8(s.exponent) << 4
	b[30] = 0x01 // the nominal reading below is given
	b[31] = s.reading(0)
	b[34], b[35] = 0xff, 0x00 // largest and smallest raw reading
	for i, at := range []int{41, 40, 39, 38, 37, 36} {
		b[at] = t[i]
	}
	b[47] = 0xc0 | uint8(len(s.name))
	b = append(b, s.name...)
	b[4] = uint8(len(b) - 5)
	return b
}

// acpiRecord is the compact record (type 02h, table 43-2) of the power state sensor that the event log names.
func acpiRecord(id uint16) []byte {
	const name = "ACPI State"
	b := make([]byte, 32, 64)
	binary.LittleEndian.PutUint16(b[0:], id)
	b[2], b[3] = 0x51, 0x02
	b[5], b[7] = 0x20, sensorACPI
	b[8], b[9] = 7, 1
	b[10], b[11] = 0x67, 0x40
	b[12], b[13] = eventACPI.sensorType, sensorDirect
	binary.LittleEndian.PutUint16(b[14:], 0x21) // working and soft-off are events
	binary.LittleEndian.PutUint16(b[18:], 0x21) // and can be read
	b[20] = 0xc0                                // no reading, only states
	b[23] = 0x01
	b[31] = 0xc0 | uint8(len(name))
	b = append(b, name...)
	b[4] = uint8(len(b) - 5)
	return b
}
