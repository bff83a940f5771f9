package ipmi

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"muster/internal/bmc"
	wire "muster/internal/wire/ipmi"
)

// driver is one target of the engine. It holds no session: that is the peer's, which drivers of the same target share.
type driver struct {
	bmc.Incapable
	engine *Engine
	target bmc.Target

	mu      sync.Mutex
	streams map[*stream]bool
}

var _ bmc.Driver = (*driver)(nil)

// talk lets f ask the controller, as often as it wants; its error is explained unless it is explained already.
func (d *driver) talk(ctx context.Context, what string, f func(p *peer, ask wire.Ask) error) error {
	p, err := d.engine.peer(ctx, d.target)
	if err != nil {
		return d.explain(what, err)
	}
	defer d.engine.release(p)
	err = f(p, func(r wire.Request) ([]byte, error) { return p.do(ctx, r, what) })
	var told *bmc.Error
	if err == nil || errors.As(err, &told) {
		return err
	}
	return d.explainSent(what, err, p)
}

func (d *driver) do(ctx context.Context, r wire.Request, what string) (data []byte, err error) {
	err = d.talk(ctx, what, func(_ *peer, ask wire.Ask) error {
		data, err = ask(r)
		return err
	})
	return data, err
}

// Power asks for the chassis status.
func (d *driver) Power(ctx context.Context) (bmc.PowerState, error) {
	const what = "power status"
	data, err := d.do(ctx, wire.ChassisStatus(), what)
	if err != nil {
		return "", err
	}
	on, ok := wire.ParsePower(data)
	switch {
	case !ok:
		return "", d.explain(what, &wire.Error{Cause: wire.Protocol, Step: what})
	case on:
		return bmc.PowerOn, nil
	}
	return bmc.PowerOff, nil
}

var controls = map[bmc.Action]wire.Control{
	bmc.On: wire.PowerUp, bmc.Off: wire.PowerDown, bmc.SoftOff: wire.SoftShutdown,
	bmc.Cycle: wire.PowerCycle, bmc.Reset: wire.HardReset, bmc.Diag: wire.DiagnosticInterrupt,
}

// SetPower starts an action.
func (d *driver) SetPower(ctx context.Context, a bmc.Action) error {
	what := "power " + string(a)
	c, ok := controls[a]
	if !ok {
		return &bmc.Error{
			Kind: bmc.Invalid, What: what, Why: "there is no such action",
			Do: "The actions are on, off, softoff, cycle, reset and diag",
		}
	}
	_, err := d.do(ctx, wire.ChassisControl(c), what)
	return err
}

var devices = map[string]wire.BootDevice{
	"default": wire.BootDefault, "network": wire.BootNetwork, "disk": wire.BootDisk, "cd": wire.BootCD, "setup": wire.BootSetup,
}

// BootDevice asks for the boot flags.
func (d *driver) BootDevice(ctx context.Context) (bmc.BootDevice, error) {
	const what = "bootdev"
	data, err := d.do(ctx, wire.GetBootFlags(), what)
	if err != nil {
		return bmc.BootDevice{}, err
	}
	f, ok := wire.ParseBootFlags(data)
	if !ok {
		return bmc.BootDevice{}, d.explain(what, &wire.Error{Cause: wire.Protocol, Step: what})
	}
	if !f.Valid {
		return bmc.BootDevice{Device: "default"}, nil
	}
	b := bmc.BootDevice{Device: "other", Persist: f.Persist}
	if f.EFI {
		b.Firmware = "uefi"
	}
	for name, device := range devices {
		if device == f.Device {
			b.Device = name
		}
	}
	return b, nil
}

// SetBootDevice sets the boot flags as ipmitool does.
func (d *driver) SetBootDevice(ctx context.Context, b bmc.BootDevice) error {
	what := "bootdev " + b.Device
	device, ok := devices[b.Device]
	if !ok || b.Firmware != "" && b.Firmware != "uefi" && b.Firmware != "bios" {
		return &bmc.Error{
			Kind: bmc.Invalid, What: what, Why: "there is no such boot device",
			Do: "The devices are network, disk, cd, setup and default; the firmware is uefi or bios",
		}
	}
	for _, s := range wire.SetBootFlags(wire.BootFlags{
		Valid: true, Persist: b.Persist && b.Device != "default", EFI: b.Firmware == "uefi", Device: device,
	}) {
		_, err := d.do(ctx, s.Request, what)
		if err != nil && !(s.Optional && answered(err)) {
			return err
		}
	}
	return nil
}

// Serial connects the serial line.
func (d *driver) Serial(ctx context.Context) (bmc.Stream, error) {
	const what = "console"
	p, err := d.engine.peer(ctx, d.target)
	if err != nil {
		return nil, d.explain(what, err)
	}
	s := &stream{driver: d, peer: p, changed: sync.NewCond(&p.mu), opened: make(chan struct{})}
	p.mu.Lock()
	session := !p.machine.Open()
	p.mu.Unlock()
	pass, err := d.engine.limits.enter(ctx, p.to, session)
	if err != nil {
		d.engine.release(p)
		return nil, d.explain(what, err)
	}
	defer func() { d.engine.limits.leave(pass, silence(err)) }()
	p.mu.Lock()
	switch {
	case p.closed:
		p.mu.Unlock()
		d.engine.release(p)
		return nil, d.explain(what, errClosed)
	case p.stream != nil:
		p.mu.Unlock()
		d.engine.release(p)
		return nil, &bmc.Error{
			Kind: bmc.Busy, What: what, Why: "the serial line of BMC " + p.key.String() + " is in use by this service already",
			Do: "Two nodes may have the same bmc.address",
		}
	}
	p.stream = s
	p.machine.OpenSerial(time.Now())
	p.flush()
	p.mu.Unlock()
	d.mu.Lock()
	d.streams[s] = true
	d.mu.Unlock()
	select {
	case <-s.opened:
	case <-ctx.Done():
		_ = s.Close()
		err = ctx.Err()
		return nil, d.explainSent(what, err, p)
	}
	p.mu.Lock()
	err = s.err
	if s.open {
		err = nil // what ended since is told by Read
	}
	p.mu.Unlock()
	if err == io.EOF {
		err = d.explain(what, &wire.Error{Cause: wire.Closed})
	}
	if err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

// drop forgets a stream, once.
func (d *driver) drop(s *stream) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	had := d.streams[s]
	delete(d.streams, s)
	return had
}

// Close ends the streams of the driver. The session stays for a while, for the next driver of the same target.
func (d *driver) Close() error {
	d.mu.Lock()
	all := make([]*stream, 0, len(d.streams))
	for s := range d.streams {
		all = append(all, s)
	}
	d.mu.Unlock()
	for _, s := range all {
		_ = s.Close()
	}
	return nil
}
