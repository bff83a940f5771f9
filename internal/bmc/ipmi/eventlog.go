package ipmi

import (
	"context"
	"strconv"
	"time"

	"muster/internal/bmc"
	wire "muster/internal/wire/ipmi"
)

// sensorKey is how an event names its sensor.
type sensorKey struct{ owner, lun, number byte }

// EventLog reads the system event log. Events name their sensors by numbers: the repository makes names and values of them, as far as it can be read.
func (d *driver) EventLog(ctx context.Context) (all []bmc.LogEntry, err error) {
	err = d.talk(ctx, "eventlog", func(p *peer, ask wire.Ask) error {
		events, err := wire.ReadLog(ask)
		if err != nil || len(events) == 0 {
			return err
		}
		sensors := map[sensorKey]*wire.SensorRecord{}
		k, err := d.repository(p, ask)
		if err != nil && !answered(err) {
			return err
		}
		if err == nil {
			for i := range k.all.Sensors {
				s := &k.all.Sensors[i]
				sensors[sensorKey{s.Owner, s.LUN, s.Number}] = s
			}
		}
		for _, e := range events {
			s := sensors[sensorKey{e.Owner, e.LUN, e.Sensor}]
			if s != nil && s.Type != e.Kind { // the number of another
				s = nil
			}
			text, c := e.Text(s)
			l := bmc.LogEntry{ID: strconv.Itoa(int(e.ID)), Time: e.Time, Text: text, Health: healths[c], Over: e.Over}
			if e.OEM == nil {
				l.Kind = wire.SensorType(e.Kind)
				l.Sensor = "sensor " + strconv.Itoa(int(e.Sensor))
			}
			if s != nil {
				l.Sensor, l.Kind = s.Name, s.Kind()
			}
			all = append(all, l)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// erasePause is the time between two questions whether the log is erased.
const erasePause = 100 * time.Millisecond

// ClearEventLog erases the log and waits until it is empty.
func (d *driver) ClearEventLog(ctx context.Context) error {
	return d.talk(ctx, "eventlog --clear", func(_ *peer, ask wire.Ask) error {
		reservation, done, err := wire.ClearLog(ask)
		tick := time.NewTicker(erasePause)
		defer tick.Stop()
		for err == nil && !done {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return ctx.Err()
			}
			done, err = wire.LogCleared(ask, reservation)
		}
		return err
	})
}
