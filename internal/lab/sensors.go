package lab

import "muster/internal/lab/board"

// sensors are what every machine has. Thresholds are non-critical, critical, non-recoverable.
var sensors = []board.Sensor{
	{Number: 1, Name: "Inlet Temp", Kind: 1, Unit: 1, Entity: 64, Factor: 1, Standby: true, Low: board.None, High: [3]float64{42, 47, 52}, Idle: 22, Busy: 23},
	{Number: 2, Name: "CPU Temp", Kind: 1, Unit: 1, Entity: 3, Factor: 1, Low: board.None, High: [3]float64{85, 95, 105}, Idle: 34, Busy: 71},
	{Number: 3, Name: "Fan 1", Kind: 4, Unit: 18, Entity: 29, Factor: 50, Low: [3]float64{1500, 1000, 500}, High: board.None, Idle: 4200, Busy: 9800},
	{Number: 4, Name: "PSU 12V", Kind: 2, Unit: 4, Entity: 10, Factor: 6, Exponent: -2, Low: [3]float64{11.4, 11.04, 10.8}, High: [3]float64{12.66, 13.02, 13.2}, Idle: 12.12, Busy: 12},
}

// power is the state of the machine as a sensor, which the event log names.
var power = board.Discrete{Number: board.SensorACPI, Name: "ACPI State", Kind: board.EventACPI.SensorType, Entity: 7, States: 0x21}

func sensorByNumber(n uint8) *board.Sensor {
	for i := range sensors {
		if sensors[i].Number == n {
			return &sensors[i]
		}
	}
	return nil
}
