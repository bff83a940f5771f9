package redfish

import (
	"context"
	"strings"

	"muster/internal/bmc"
)

// Sensors reads the sensors of all chassis of the system: the Sensors collection where there is one, else Thermal and Power, as controllers of before 2020 have.
func (d *driver) Sensors(ctx context.Context) ([]bmc.Sensor, error) {
	var out []bmc.Sensor
	err := d.with(ctx, "sensors", func(ctx context.Context, p *peer, at *place) error {
		boxes, err := p.boxes(ctx, at)
		if err != nil {
			return err
		}
		offered := false
		for _, b := range boxes {
			offered = offered || b.Sensors.ID+b.Thermal.ID+b.Power.ID != ""
			all, err := members[sensor](ctx, p, b.Sensors.ID)
			if err != nil {
				return err
			}
			for _, s := range all {
				out = append(out, s.plain())
			}
			if len(all) > 0 {
				continue
			}
			older, err := p.older(ctx, b)
			if err != nil {
				return err
			}
			out = append(out, older...)
		}
		if !offered {
			return &missing{"it has no sensors"}
		}
		return nil
	})
	return out, err
}

// units are the words for UCUM's codes (Sensor.ReadingUnits), and for what is written in their place.
var units = map[string]string{"Cel": "°C", "cel": "°C", "C": "°C", "{rev}/min": "RPM", "rpm": "RPM", "RPM": "RPM", "Percent": "%", "%": "%", "V": "V", "A": "A", "W": "W"}

var kinds = map[string]string{"°C": "temperature", "RPM": "fan", "V": "voltage", "A": "current", "W": "power"}

func unit(t text) string {
	if u := units[string(t)]; u != "" {
		return u
	}
	return string(t)
}

func (s sensor) plain() bmc.Sensor {
	o := bmc.Sensor{
		Name: string(either(s.Name, s.ID)), Value: s.Reading.v, Unit: unit(s.ReadingUnits), Kind: strings.ToLower(string(s.ReadingType)), Health: s.Status.plain(),
		LowCritical: first(s.Thresholds.LowerCritical, s.Thresholds.LowerFatal), LowWarning: first(s.Thresholds.LowerCaution),
		HighWarning: first(s.Thresholds.UpperCaution), HighCritical: first(s.Thresholds.UpperCritical, s.Thresholds.UpperFatal),
	}
	switch k := kinds[o.Unit]; {
	case k != "":
		o.Kind = k
	case o.Unit == "%" && strings.Contains(strings.ToLower(string(s.PhysicalContext+s.Name)), "fan"):
		o.Kind = "fan"
	}
	return judged(o)
}

func first(all ...threshold) *float64 {
	for _, t := range all {
		if t.Reading.v != nil {
			return t.Reading.v
		}
	}
	return nil
}

// older reads Thermal and Power of a chassis.
func (p *peer) older(ctx context.Context, b chassis) ([]bmc.Sensor, error) {
	var out []bmc.Sensor
	add := func(name, kind, unit string, v number, l limits) {
		out = append(out, judged(bmc.Sensor{
			Name: name, Kind: kind, Unit: unit, Value: v.v, Health: l.Status.plain(), LowCritical: l.LowerThresholdCritical.v,
			LowWarning: l.LowerThresholdNonCritical.v, HighWarning: l.UpperThresholdNonCritical.v, HighCritical: l.UpperThresholdCritical.v,
		}))
	}
	var t thermal
	if b.Thermal.ID != "" {
		if _, err := p.get(ctx, b.Thermal.ID, &t); err != nil && !absent(err) {
			return nil, err
		}
	}
	for _, x := range t.Temperatures {
		add(string(x.Name), "temperature", "°C", x.ReadingCelsius, x.limits)
	}
	for _, x := range t.Fans {
		u := unit(x.ReadingUnits)
		if u == "" {
			u = "RPM"
		}
		add(string(either(x.Name, x.FanName)), "fan", u, x.Reading, x.limits)
	}
	var w power
	if b.Power.ID != "" {
		if _, err := p.get(ctx, b.Power.ID, &w); err != nil && !absent(err) {
			return nil, err
		}
	}
	for _, x := range w.Voltages {
		add(string(x.Name), "voltage", "V", x.ReadingVolts, x.limits)
	}
	for _, x := range w.PowerControl {
		add(string(x.Name), "power", "W", x.PowerConsumedWatts, limits{Status: x.Status})
	}
	for _, x := range w.PowerSupplies {
		v := x.LastPowerOutputWatts
		if v.v == nil {
			v = x.PowerOutputWatts
		}
		add(string(either(x.Name, x.MemberID)), "power", "W", v, limits{Status: x.Status})
	}
	return out, nil
}

// plain is the health in our words (Status of every schema).
func (h health) plain() bmc.Health {
	switch h.State {
	case "Absent", "Disabled", "UnavailableOffline", "StandbyOffline", "Deferring":
		return bmc.Absent
	}
	switch either(h.Health, h.HealthRollup) {
	case "OK":
		return bmc.OK
	case "Warning":
		return bmc.Warning
	case "Critical":
		return bmc.Critical
	}
	return bmc.Unknown
}

// judged gives a sensor the health that its thresholds say, where the controller says none.
func judged(s bmc.Sensor) bmc.Sensor {
	if s.Health != bmc.Unknown || s.Value == nil {
		return s
	}
	below := func(t *float64) bool { return t != nil && *s.Value <= *t }
	above := func(t *float64) bool { return t != nil && *s.Value >= *t }
	switch {
	case below(s.LowCritical), above(s.HighCritical):
		s.Health = bmc.Critical
	case below(s.LowWarning), above(s.HighWarning):
		s.Health = bmc.Warning
	case s.LowCritical != nil || s.LowWarning != nil || s.HighWarning != nil || s.HighCritical != nil:
		s.Health = bmc.OK
	}
	return s
}
