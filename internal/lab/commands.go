package lab

import (
	"context"
	"errors"
	"time"

	ipmi "github.com/bougou/go-ipmi/pkg/command/chassis"
	"github.com/bougou/go-ipmi/pkg/handlers"
	"github.com/bougou/go-ipmi/pkg/types"

	"muster/internal/lab/board"
)

// answer is a handler without the parts that none of ours needs.
type answer func(request []byte) ([]byte, types.CompletionCode)

func register(r *handlers.Registry, c types.Command, atLeast int, a answer) {
	r.RegisterFunc(c, func(_ context.Context, _ *handlers.HandlerContext, request []byte) ([]byte, types.CompletionCode, error) {
		if len(request) < atLeast {
			return nil, types.CodeRequestDataLengthInvalid, nil
		}
		b, code := a(request)
		return b, code, nil
	})
}

// codeOf is the completion code of a power operation.
func codeOf(err error) types.CompletionCode {
	if err == nil {
		return types.CodeOK
	}
	if code, ok := errors.AsType[types.CompletionCode](err); ok {
		return code
	}
	return types.CodeUnspecifiedError
}

// identifyLight is lit for a time, or until told otherwise.
type identifyLight struct {
	forever bool
	until   time.Time
}

func (l identifyLight) state(now time.Time) ipmi.ChassisIdentifyState {
	switch {
	case l.forever:
		return ipmi.ChassisIdentifyStateIndefiniteOn
	case now.Before(l.until):
		return ipmi.ChassisIdentifyStateTemporaryOn
	}
	return ipmi.ChassisIdentifyStateOff
}

// registerChassis answers the chassis commands (IPMI 2.0 §28).
func registerChassis(r *handlers.Registry, c *chassis) {
	register(r, types.CommandGetChassisStatus, 0, func([]byte) ([]byte, types.CompletionCode) {
		c.mu.Lock()
		defer c.mu.Unlock()
		status := ipmi.GetChassisStatusResponse{
			PowerIsOn: c.running != nil, LastPowerOnByCommand: c.lastOn, PowerRestorePolicy: ipmi.PowerRestorePolicyAlwaysOff,
			ChassisIdentifySupported: true, ChassisIdentifyState: c.identify.state(time.Now()),
		}
		return status.Pack(), types.CodeOK
	})
	register(r, types.CommandChassisControl, 1, func(q []byte) ([]byte, types.CompletionCode) {
		switch q[0] & 0x0f {
		case 0x0:
			return nil, codeOf(c.powerOff())
		case 0x1:
			return nil, codeOf(c.powerOn())
		case 0x2:
			return nil, codeOf(c.powerCycle())
		case 0x3:
			return nil, codeOf(c.reset())
		case 0x4:
			return nil, codeOf(c.diagnostic())
		case 0x5:
			return nil, codeOf(c.softOff())
		}
		return nil, types.CodeParameterOutOfRange
	})
	register(r, types.CommandChassisIdentify, 0, func(q []byte) ([]byte, types.CompletionCode) {
		seconds := 15 // §28.5, when not given
		if len(q) > 0 {
			seconds = int(q[0])
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.identify = identifyLight{forever: len(q) > 1 && q[1]&1 != 0, until: time.Now().Add(time.Duration(seconds) * time.Second)}
		return nil, types.CodeOK
	})
	register(r, types.CommandGetSystemRestartCause, 0, func([]byte) ([]byte, types.CompletionCode) {
		c.mu.Lock()
		defer c.mu.Unlock()
		return []byte{byte(c.cause), lanChannel}, types.CodeOK
	})
	registerBootOptions(r, c)
	// go-ipmi's own resets the host with the BMC; here the machine runs on.
	register(r, types.CommandColdReset, 0, func([]byte) ([]byte, types.CompletionCode) { return nil, types.CodeOK })
	register(r, types.CommandWarmReset, 0, func([]byte) ([]byte, types.CompletionCode) { return nil, types.CodeOK })
}

// registerBootOptions answers Set and Get System Boot Options (§28.12, §28.13) for the parameters that clients use
// around the boot flags: set in progress (0), valid bit clearing (3), boot info acknowledge (4), boot flags (5).
func registerBootOptions(r *handlers.Registry, c *chassis) {
	kept := map[byte][]byte{0: {0}, 3: {0}, 4: {0, 0}} // guarded by c.mu
	register(r, types.CommandSetSystemBootOptions, 1, func(q []byte) ([]byte, types.CompletionCode) {
		n, data := q[0]&0x7f, q[1:]
		if n == 5 {
			if len(data) == 0 {
				return nil, types.CodeOK // only the parameter's lock bit
			}
			var f types.BootOptionParam_BootFlags
			if f.Unpack(data) != nil {
				return nil, types.CodeRequestDataLengthInvalid
			}
			return nil, codeOf(c.setBootFlags(f))
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		old, ok := kept[n]
		if !ok {
			return nil, types.CodeParameterNotSupported
		}
		if len(data) == len(old) {
			kept[n] = append([]byte(nil), data...)
		}
		return nil, types.CodeOK
	})
	register(r, types.CommandGetSystemBootOptions, 1, func(q []byte) ([]byte, types.CompletionCode) {
		n := q[0] & 0x7f
		c.mu.Lock()
		defer c.mu.Unlock()
		data, ok := kept[n]
		if n == 5 {
			data, ok = c.flags.Pack(), true
		}
		if !ok {
			return nil, types.CodeParameterNotSupported
		}
		return append([]byte{0x01, n}, data...), types.CodeOK
	})
}

// registerLog answers the SEL commands (§31).
func registerLog(r *handlers.Registry, l *board.EventLog) {
	for _, c := range board.LogCommands {
		register(r, types.Command{NetFn: types.NetFnStorageRequest, ID: c}, 0, func(q []byte) ([]byte, types.CompletionCode) { return l.Answer(c, q) })
	}
}

// registerSensors answers the sensor commands (§35).
func registerSensors(r *handlers.Registry, c *chassis) {
	table := board.Sensors{
		Analog: sensorByNumber,
		Discrete: func(number byte) *board.Discrete {
			if number == power.Number {
				return &power
			}
			return nil
		},
		Raw: func(s *board.Sensor) (uint8, bool) {
			g := c.guest()
			return s.Reading(g.load()), g != nil || s.Standby
		},
		State: func(*board.Discrete) uint16 {
			if c.on() {
				return 0x01 // working
			}
			return 0x20 // soft-off
		},
	}
	for _, id := range board.SensorCommands {
		register(r, types.Command{NetFn: types.NetFnSensorEventRequest, ID: id}, 0, func(q []byte) ([]byte, types.CompletionCode) { return table.Answer(id, q) })
	}
}

// load is the share of one processor that the machine has used since it came on, 0 for a machine that is off.
func (g *guest) load() float64 {
	if g == nil {
		return 0
	}
	st, err := readStat(g.process.PID)
	if err != nil {
		return 0
	}
	return (time.Duration(st.ticks) * tick).Seconds() / max(time.Since(g.started), time.Millisecond).Seconds()
}
