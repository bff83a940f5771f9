package ipmi

import (
	"context"
	"crypto/sha256"
	"net/netip"
	"sync"
	"time"

	"muster/internal/bmc"
	wire "muster/internal/wire/ipmi"
)

// ownController is the slave address of the controller that we talk to: sensors of others lie behind it, and are not asked.
const ownController = 0x20

// Thresholds may be set any time without the repository's time telling, and there are controllers whose repository has no time: so what was read is read
// again after a while.
const (
	limitsAge = 10 * time.Minute
	timeless  = time.Hour
)

// repositories keeps what controllers have said of their sensors. Controllers of one model say the same, so 10,000 of them are kept once.
type repositories struct {
	mu   sync.Mutex
	of   map[netip.AddrPort]*known
	same map[[sha256.Size]byte]*shared
}

// known is the repository of one controller.
type known struct {
	device wire.Device
	stamp  wire.Stamp
	read   time.Time
	all    *shared

	// Guarded by mu: thresholds that the controller has told, by the index of the sensor.
	mu       sync.Mutex
	limits   []wire.Limits
	limitsAt time.Time
}

type shared struct {
	wire.Repository
	digest [sha256.Size]byte
	users  int
}

// get returns what is known of a controller, nil when nothing is.
func (r *repositories) get(a netip.AddrPort) *known {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.of[a]
}

// put replaces it by records as they are on the wire.
func (r *repositories) put(a netip.AddrPort, k *known, records [][]byte) {
	h := sha256.New()
	for _, b := range records {
		h.Write([]byte{byte(len(b))})
		h.Write(b)
	}
	digest := [sha256.Size]byte(h.Sum(nil))
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.of == nil {
		r.of, r.same = map[netip.AddrPort]*known{}, map[[sha256.Size]byte]*shared{}
	}
	s := r.same[digest]
	if s == nil {
		s = &shared{digest: digest}
		for _, b := range records {
			_ = s.Add(b) // a record that cannot be read hides one sensor, not all
		}
		r.same[digest] = s
	}
	s.users++
	k.all = s
	if old := r.of[a]; old != nil {
		if old.all.users--; old.all.users == 0 {
			delete(r.same, old.all.digest)
		}
	}
	r.of[a] = k
}

// repository returns the sensors and inventory devices of a controller: read once, and again when its time stamp says so.
func (d *driver) repository(p *peer, ask wire.Ask) (*known, error) {
	now := time.Now()
	old := d.engine.repositories.get(p.to)
	k := &known{read: now}
	var err error
	if old != nil {
		k.device = old.device
	} else if k.device, err = device(ask); err != nil {
		return nil, err
	}
	if k.stamp, err = wire.GetStamp(ask, k.device); err != nil {
		return nil, err
	}
	if old != nil && old.stamp == k.stamp && (now.Sub(old.read) < timeless || k.stamp.Added+1 > 1) { // 0 and ffffffff are no time
		return old, nil
	}
	records, err := wire.ReadRepository(ask, k.stamp)
	if err != nil {
		return nil, err
	}
	d.engine.repositories.put(p.to, k, records)
	return k, nil
}

// thresholds returns those of all sensors, asking the controller for what it can tell.
func (k *known) thresholds(ask wire.Ask) ([]wire.Limits, error) {
	k.mu.Lock()
	limits, fresh := k.limits, time.Since(k.limitsAt) < limitsAge
	k.mu.Unlock()
	if limits != nil && fresh {
		return limits, nil
	}
	limits = make([]wire.Limits, len(k.all.Sensors))
	for i := range k.all.Sensors {
		s := &k.all.Sensors[i]
		limits[i] = s.Limits
		if s.Mask == 0 || s.Owner != ownController {
			continue
		}
		b, err := ask(wire.GetLimits(s))
		if err != nil && !answered(err) {
			return nil, err
		}
		if l, ok := wire.ParseLimits(b); ok && err == nil {
			limits[i] = l
		}
	}
	k.mu.Lock()
	k.limits, k.limitsAt = limits, time.Now()
	k.mu.Unlock()
	return limits, nil
}

// Sensors reads all sensors that can be read, in the order of the repository.
func (d *driver) Sensors(ctx context.Context) (all []bmc.Sensor, err error) {
	err = d.talk(ctx, "sensors", func(p *peer, ask wire.Ask) error {
		k, err := d.repository(p, ask)
		if err != nil {
			return err
		}
		limits, err := k.thresholds(ask)
		if err != nil {
			return err
		}
		for i := range k.all.Sensors {
			s := &k.all.Sensors[i]
			if !s.Readable || s.Owner&1 != 0 { // events only; software
				continue
			}
			v, err := readSensor(ask, s, limits[i])
			if err != nil {
				return err
			}
			all = append(all, v)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

var healths = map[wire.Condition]bmc.Health{
	wire.Unread: bmc.Unknown, wire.Good: bmc.OK, wire.Missing: bmc.Absent, wire.Warn: bmc.Warning, wire.Severe: bmc.Critical,
}

func readSensor(ask wire.Ask, s *wire.SensorRecord, l wire.Limits) (bmc.Sensor, error) {
	out := bmc.Sensor{Name: s.Name, Kind: s.Kind(), Health: bmc.Unknown}
	if s.Analog {
		out.Unit = s.Unit
	}
	if s.Owner != ownController {
		return out, nil
	}
	value := func(raw byte) *float64 {
		v, ok := s.Value(raw)
		if !ok || s.NonLinear() {
			return nil
		}
		return &v
	}
	for _, t := range []struct {
		to  **float64
		bit int
	}{ // a threshold that is worse than critical stands for a critical one that is not set
		{&out.LowWarning, 0},
		{&out.LowCritical, 2},
		{&out.LowCritical, 1},
		{&out.HighWarning, 3},
		{&out.HighCritical, 5},
		{&out.HighCritical, 4},
	} {
		if s.Analog && l.Has>>t.bit&1 == 1 {
			*t.to = value(l.Raw[t.bit])
		}
	}
	b, err := ask(wire.GetReading(s))
	if c, ok := code(err); ok {
		if c == wire.CodeAbsent || c == wire.CodeState {
			out.Health = bmc.Absent
		}
		return out, nil
	}
	if err != nil {
		return out, err
	}
	r, ok := wire.ParseReading(b)
	if !ok {
		return out, nil
	}
	text, c := s.State(r)
	out.State, out.Health = text, healths[c]
	if !r.Valid {
		out.Health = bmc.Absent
		return out, nil
	}
	if !s.NonLinear() {
		out.Value = value(r.Raw)
		return out, nil
	}
	b, err = ask(wire.GetReadingFactors(s, r.Raw))
	if err != nil && !answered(err) {
		return out, err
	}
	if f, ok := wire.ParseReadingFactors(b); ok && err == nil && s.Analog {
		if v, ok := s.ValueBy(f, r.Raw); ok {
			out.Value = &v
		}
	}
	return out, nil
}
