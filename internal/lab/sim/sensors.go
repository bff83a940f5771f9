package sim

import (
	"encoding/binary"
	"math"
	"time"

	"github.com/bougou/go-ipmi/pkg/types"

	"muster/internal/lab/board"
)

// sensors are what every simulated machine has, in the order of its SDR repository.
var sensors = []board.Sensor{
	{Number: 1, Name: "Inlet Temp", Kind: 1, Unit: 1, Entity: 64, Factor: 1, Standby: true, Low: board.None, High: [3]float64{42, 47, 52}, Idle: 21, Busy: 24},
	{Number: 2, Name: "CPU1 Temp", Kind: 1, Unit: 1, Entity: 3, Factor: 1, Low: board.None, High: [3]float64{85, 95, 105}, Idle: 34, Busy: 71},
	{Number: 3, Name: "CPU2 Temp", Kind: 1, Unit: 1, Entity: 3, Instance: 2, Factor: 1, Low: board.None, High: [3]float64{85, 95, 105}, Idle: 33, Busy: 69},
	{Number: 4, Name: "DIMM Temp", Kind: 1, Unit: 1, Entity: 32, Factor: 1, Low: board.None, High: [3]float64{80, 85, 90}, Idle: 31, Busy: 52},
	{Number: 6, Name: "Fan 1", Kind: 4, Unit: 18, Entity: 29, Factor: 50, Low: [3]float64{1500, 1000, 500}, High: board.None, Idle: 4200, Busy: 9800},
	{Number: 7, Name: "Fan 2", Kind: 4, Unit: 18, Entity: 29, Instance: 2, Factor: 50, Low: [3]float64{1500, 1000, 500}, High: board.None, Idle: 4100, Busy: 9700},
	{Number: 8, Name: "Fan 3", Kind: 4, Unit: 18, Entity: 29, Instance: 3, Factor: 50, Low: [3]float64{1500, 1000, 500}, High: board.None, Idle: 4300, Busy: 9900},
	{Number: 9, Name: "PSU1 12V", Kind: 2, Unit: 4, Entity: 10, Factor: 6, Exponent: -2, Low: [3]float64{11.4, 11.04, 10.8}, High: [3]float64{12.66, 13.02, 13.2}, Idle: 12.18, Busy: 12},
	{Number: 10, Name: "VBAT", Kind: 2, Unit: 4, Entity: 7, Factor: 2, Exponent: -2, Standby: true, Low: [3]float64{2.7, 2.5, 2.3}, High: board.None, Idle: 3.06, Busy: 3.02},
	{Number: 11, Name: "PSU1 Current", Kind: 3, Unit: 5, Entity: 10, Factor: 1, Exponent: -1, Low: board.None, High: [3]float64{8, 9, 10}, Idle: 0.6, Busy: 2.4},
	{Number: 12, Name: "Power", Kind: 0x0b, Unit: 6, Entity: 7, Factor: 4, Low: board.None, High: [3]float64{800, 900, 1000}, Idle: 128, Busy: 520},
}

// discretes follow them.
var discretes = []board.Discrete{
	{Number: board.SensorACPI, Name: "ACPI State", Kind: board.EventACPI.SensorType, Entity: 7, States: 0x21},
	{Number: 13, Name: "PSU1 Status", Kind: 0x08, Entity: 10, States: 0x0b}, // presence, failure, input lost
	{Number: 14, Name: "PSU2 Status", Kind: 0x08, Entity: 10, Instance: 2, States: 0x0b},
	{Number: 15, Name: "Drive 1", Kind: 0x0d, Entity: 4, States: 0x07}, // presence, fault, predictive failure
	{Number: 16, Name: "Watchdog", Kind: 0x23, Entity: 6, States: 0x0f},
}

func analogOf(number byte) *board.Sensor {
	for i := range sensors {
		if sensors[i].Number == number {
			return &sensors[i]
		}
	}
	return nil
}

func discreteOf(number byte) *board.Discrete {
	for i := range discretes {
		if discretes[i].Number == number {
			return &discretes[i]
		}
	}
	return nil
}

// records are the SDR repository, which is the same for all machines: full records, compact ones, the locators of FRU
// and controller. Record n has id n+1.
var records = func() (all [][]byte) {
	id := func() uint16 { return uint16(len(all) + 1) }
	for i := range sensors {
		all = append(all, sensors[i].Record(id()))
	}
	for i := range discretes {
		all = append(all, discretes[i].Record(id()))
	}
	all = append(all, fruLocator(id(), "Builtin FRU"))
	return append(all, types.PackMCLocator(types.MCLocatorPackOpts{RecordID: id(), DeviceSupport: 0xbf, Name: "BMC"}))
}()

// fruLocator is the record of the built-in FRU, device 0 (type 11h, IPMI 2.0 table 43-7).
func fruLocator(id uint16, name string) []byte {
	b := binary.LittleEndian.AppendUint16(nil, id)
	b = append(b, 0x51, 0x11, byte(11+len(name)), 0x20, 0x00, 0x80, 0x00, 0x00, 0x10, 0x00, 0x07, 0x01, 0x00, 0xc0|byte(len(name)))
	return append(b, name...)
}

// load is how busy the machine is, from 0 to 1. It moves with the time, or with the readings where the fleet is to do
// the same each time; no two machines move alike.
func (m *machine) load(now time.Time, deterministic bool) float64 {
	if !m.on {
		return 0
	}
	x := float64(now.UnixMilli()%86400_000) / 1000
	if deterministic {
		x = float64(m.readings)
	}
	phase := float64(m.mark % 1000)
	return 0.5 + 0.35*math.Sin((x+phase)/47) + 0.15*math.Sin((x+phase)/7)
}

// value reads an analog sensor; ok is false where there is no reading while the machine is off.
func (m *machine) value(now time.Time, s *board.Sensor, deterministic bool) (raw byte, ok bool) {
	m.readings++
	return s.Reading(m.load(now, deterministic)), m.on || s.Standby
}

// states reads a discrete one.
func (m *machine) states(d *board.Discrete) uint16 {
	switch {
	case d.Kind != board.EventACPI.SensorType && d.Number != 16:
		return 0x01 // presence detected
	case d.Number == 16:
		return 0
	case m.on:
		return 0x01 // working
	}
	return 0x20 // soft-off
}

// fru is the inventory of a machine: chassis, board and product (Platform Management FRU Information, v1.0).
func (m *machine) fru() []byte {
	b, err := types.PackFRU(types.FRUPackConfig{
		Chassis: &types.FRUPackChassis{Type: 0x17, PartNumber: "SIM-1U", Serial: m.serial()}, // rack mount chassis
		Board: &types.FRUPackBoard{
			MfgDate: time.Date(2024, 3, 1, 0, 0, 0, 0, time.UTC), Mfg: "muster", Product: "simulated board", Serial: "B" + m.serial(), PartNumber: "SIM-BRD-2",
		},
		Product: &types.FRUPackProduct{Manufacturer: "muster", Name: "simulated machine", PartModel: "SIM-2", Version: "1", Serial: m.serial()},
	})
	if err != nil {
		panic(err) // the fields are ours and short
	}
	return b
}
