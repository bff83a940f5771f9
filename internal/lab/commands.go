package lab

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	ipmi "github.com/bougou/go-ipmi/pkg/command/chassis"
	"github.com/bougou/go-ipmi/pkg/handlers"
	"github.com/bougou/go-ipmi/pkg/types"
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
func registerLog(r *handlers.Registry, l *eventLog) {
	word := binary.LittleEndian.Uint16
	register(r, types.CommandGetSELInfo, 0, func([]byte) ([]byte, types.CompletionCode) { return l.info(), types.CodeOK })
	register(r, types.CommandReserveSEL, 0, func([]byte) ([]byte, types.CompletionCode) {
		return binary.LittleEndian.AppendUint16(nil, l.reserve()), types.CodeOK
	})
	register(r, types.CommandGetSELEntry, 6, func(q []byte) ([]byte, types.CompletionCode) {
		record, next, ok := l.get(word(q[2:]))
		if !ok {
			return nil, types.CodeRequestedDataNotPresent
		}
		from, n := int(q[4]), int(q[5])
		if from > recordSize {
			return nil, types.CodeParameterOutOfRange
		}
		to := min(from+n, recordSize) // n is FFh for all
		return append(binary.LittleEndian.AppendUint16(nil, next), record[from:to]...), types.CodeOK
	})
	register(r, types.CommandAddSELEntry, recordSize, func(q []byte) ([]byte, types.CompletionCode) {
		return binary.LittleEndian.AppendUint16(nil, l.append([recordSize]byte(q))), types.CodeOK
	})
	register(r, types.CommandDeleteSELEntry, 4, func(q []byte) ([]byte, types.CompletionCode) {
		if !l.delete(word(q[2:])) {
			return nil, types.CodeRequestedDataNotPresent
		}
		return q[2:4], types.CodeOK
	})
	register(r, types.CommandClearSEL, 6, func(q []byte) ([]byte, types.CompletionCode) {
		if !l.reserved(word(q)) {
			return nil, types.CodeReservationCanceled
		}
		if string(q[2:5]) != "CLR" {
			return nil, types.CodeRequestDataFieldInvalid
		}
		if q[5] == 0xaa {
			l.clear()
		}
		return []byte{0x01}, types.CodeOK // erasure completed
	})
	register(r, types.CommandGetSELTime, 0, func([]byte) ([]byte, types.CompletionCode) {
		return binary.LittleEndian.AppendUint32(nil, uint32(l.now().Unix())), types.CodeOK
	})
	// The clock is that of the host: setting it is accepted and changes nothing.
	register(r, types.CommandSetSELTime, 4, func([]byte) ([]byte, types.CompletionCode) { return nil, types.CodeOK })
	register(r, types.CommandGetSELTimeUTCOffset, 0, func([]byte) ([]byte, types.CompletionCode) { return []byte{0, 0}, types.CodeOK })
}

// registerSensors answers the sensor commands (§35).
func registerSensors(r *handlers.Registry, c *chassis) {
	analog := func(cmd types.Command, a func(s *sensor) []byte) {
		register(r, cmd, 1, func(q []byte) ([]byte, types.CompletionCode) {
			s := sensorByNumber(q[0])
			if s == nil {
				return nil, types.CodeRequestedDataNotPresent
			}
			return a(s), types.CodeOK
		})
	}
	analog(types.CommandGetSensorThresholds, func(s *sensor) []byte {
		mask, t := s.thresholds()
		return append([]byte{mask}, t[:]...)
	})
	analog(types.CommandGetSensorHysteresis, func(*sensor) []byte { return []byte{0, 0} })
	analog(types.CommandGetSensorType, func(s *sensor) []byte { return []byte{s.kind, 0x01} })
	register(r, types.CommandGetSensorEventEnable, 1, func([]byte) ([]byte, types.CompletionCode) {
		return []byte{0xc0, 0, 0, 0, 0}, types.CodeOK
	})
	register(r, types.CommandGetSensorReading, 1, func(q []byte) ([]byte, types.CompletionCode) {
		g := c.guest()
		if q[0] == sensorACPI {
			states := byte(0x20) // soft-off
			if g != nil {
				states = 0x01 // working
			}
			return []byte{0, 0xc0, states, 0x80}, types.CodeOK
		}
		s := sensorByNumber(q[0])
		if s == nil {
			return nil, types.CodeRequestedDataNotPresent
		}
		if g == nil && !s.standby {
			return []byte{0, 0xe0, 0xc0}, types.CodeOK // reading unavailable
		}
		raw := s.reading(g.load())
		return []byte{raw, 0xc0, 0xc0 | s.status(raw)}, types.CodeOK
	})
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
