package redfish

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"muster/internal/bmc"
)

// driver is one system of a controller. It holds no session: that is the peer's, which drivers of the same controller share.
type driver struct {
	bmc.Incapable
	engine *Engine
	target bmc.Target

	mu      sync.Mutex
	streams map[*stream]bool
}

var (
	_ bmc.Driver       = (*driver)(nil)
	_ bmc.VirtualMedia = (*driver)(nil)
)

// with runs f with the peer and the place of the target, and explains what went wrong. The context of f ends with the engine, too.
func (d *driver) with(ctx context.Context, what string, f func(ctx context.Context, p *peer, at *place) error) error {
	return d.on(ctx, what, func(ctx context.Context, p *peer) error {
		at, err := p.place(ctx, d.target.System)
		if err == nil {
			err = f(ctx, p, at)
			p.lost(err)
		}
		return err
	})
}

// on is with for what is not of a system.
func (d *driver) on(ctx context.Context, what string, f func(ctx context.Context, p *peer) error) error {
	p, err := d.engine.peer(d.target)
	if err != nil {
		return d.explain(what, err)
	}
	defer d.engine.release(p)
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	defer context.AfterFunc(d.engine.ctx, func() { stop(errClosed) })()
	if err = f(ctx, p); err == nil {
		return nil
	}
	if context.Cause(ctx) == errClosed {
		err = errClosed
	}
	return d.explain(what, err)
}

// Power reads the system: one request, once the controller is known.
func (d *driver) Power(ctx context.Context) (bmc.PowerState, error) {
	var state bmc.PowerState
	err := d.with(ctx, "power status", func(ctx context.Context, p *peer, at *place) (err error) {
		state, err = p.power(ctx, at)
		return err
	})
	return state, err
}

func (p *peer) power(ctx context.Context, at *place) (bmc.PowerState, error) {
	path := at.system
	if p.root.Features.SelectQuery {
		path += "?$select=PowerState"
	}
	var s struct{ PowerState text }
	if _, err := p.get(ctx, path, &s); err != nil {
		return "", err
	}
	switch s.PowerState {
	case "On", "PoweringOff", "Paused":
		return bmc.PowerOn, nil
	case "Off", "PoweringOn":
		return bmc.PowerOff, nil
	}
	return "", &answerError{"PowerState " + string(s.PowerState)}
}

// button is the ResetType that does what a short press of the button does: the opposite of what is, so it needs a look first.
const button = "PushPowerButton"

// resets are the ResetTypes for an action, the best first. Where PowerCycle is not known, ForceRestart comes nearest.
var resets = map[bmc.Action][]text{
	bmc.On: {"On", "ForceOn", button}, bmc.Off: {"ForceOff"}, bmc.SoftOff: {"GracefulShutdown", button},
	bmc.Cycle: {"PowerCycle", "ForceRestart"}, bmc.Reset: {"ForceRestart"}, bmc.Diag: {"Nmi"},
}

// reached are the actions that end in a state: when the machine is in it already, they have nothing to do, whatever the controller says to that.
var reached = map[bmc.Action]bmc.PowerState{bmc.On: bmc.PowerOn, bmc.Off: bmc.PowerOff, bmc.SoftOff: bmc.PowerOff}

// SetPower calls ComputerSystem.Reset with a type that the controller allows.
func (d *driver) SetPower(ctx context.Context, a bmc.Action) error {
	return d.with(ctx, "power "+string(a), func(ctx context.Context, p *peer, at *place) error {
		want := resets[a]
		if want == nil {
			return &wrong{"there is no such action", "The actions are on, off, softoff, cycle, reset and diag"}
		}
		kind := want[0]
		if at.reset != nil {
			i := slices.IndexFunc(want, func(t text) bool { return slices.Contains(at.reset, t) })
			if i < 0 {
				return &missing{"it allows " + joined(at.reset) + " and not " + joined(want)}
			}
			kind = want[i]
		}
		if kind == button {
			if now, err := p.power(ctx, at); err != nil || now == reached[a] {
				return err
			}
		}
		target := at.first.Actions.Reset.Target
		if target == "" {
			target = strings.TrimSuffix(at.system, "/") + "/Actions/ComputerSystem.Reset"
		}
		_, err := p.post(ctx, target, map[string]text{"ResetType": kind})
		if s := status(err); s >= 400 && s < 500 && s != http.StatusUnauthorized && s != http.StatusForbidden && reached[a] != "" {
			if now, e := p.power(ctx, at); e == nil && now == reached[a] {
				return nil
			}
		}
		return err
	})
}

func joined(l []text) string {
	all := make([]string, len(l))
	for i, t := range l {
		all[i] = string(t)
	}
	return strings.Join(all, ", ")
}

// devices are the BootSourceOverrideTargets of a device, the best first.
var devices = map[string][]string{"network": {"Pxe", "UefiHttp"}, "disk": {"Hdd"}, "cd": {"Cd", "UsbCd"}, "setup": {"BiosSetup"}, "default": {"None"}}

// modes are the values of BootSourceOverrideMode.
var modes = map[string]string{"uefi": "UEFI", "bios": "Legacy", "": ""}

// BootDevice reads the override of the system.
func (d *driver) BootDevice(ctx context.Context) (bmc.BootDevice, error) {
	b := bmc.BootDevice{Device: "default"}
	err := d.with(ctx, "bootdev", func(ctx context.Context, p *peer, at *place) error {
		s, err := p.system(ctx, at)
		if err != nil {
			return err
		}
		if path := p.bootPath(at); path != at.system { // what was set there is what the next boot will see
			var later struct{ Boot *bootOverride }
			if _, err := p.get(ctx, path, &later); err != nil {
				return err
			}
			if later.Boot != nil && later.Boot.Enabled != "" {
				s.Boot = later.Boot
			}
		}
		if s.Boot == nil {
			return &missing{"it does not know the boot override"}
		}
		if s.Boot.Enabled != "Once" && s.Boot.Enabled != "Continuous" || s.Boot.Target == "None" || s.Boot.Target == "" {
			return nil
		}
		b = bmc.BootDevice{Device: "other", Persist: s.Boot.Enabled == "Continuous"}
		for name, targets := range devices {
			if slices.Contains(targets, string(s.Boot.Target)) {
				b.Device = name
			}
		}
		for name, mode := range modes {
			if mode == string(s.Boot.Mode) {
				b.Firmware = name
			}
		}
		return nil
	})
	return b, err
}

// SetBootDevice changes the override of the system.
func (d *driver) SetBootDevice(ctx context.Context, b bmc.BootDevice) error {
	return d.with(ctx, "bootdev "+b.Device, func(ctx context.Context, p *peer, at *place) error {
		names, known := devices[b.Device]
		mode, there := modes[b.Firmware]
		if !known || !there {
			return &wrong{"there is no such boot device", "The devices are network, disk, cd, setup and default; the firmware is uefi or bios"}
		}
		if at.first.Boot == nil {
			return &missing{"it does not know the boot override"}
		}
		if b.Device == "cd" && p.quirk.cd != nil {
			names = p.quirk.cd
		}
		if b.Device == "network" && mode == "Legacy" {
			names = names[:1]
		}
		target := names[0]
		if allowed := at.first.Boot.Targets; allowed != nil && b.Device != "default" {
			i := slices.IndexFunc(names, func(n string) bool { return contains(allowed, n) })
			if i < 0 {
				return &missing{"it boots from " + joined(allowed) + " and not from " + strings.Join(names, " or ")}
			}
			target = names[i]
		}
		if mode != "" && at.first.Boot.Modes != nil && !contains(at.first.Boot.Modes, mode) {
			return &missing{"it knows the boot modes " + joined(at.first.Boot.Modes) + " and not " + mode}
		}
		change := map[string]string{"BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": target}
		switch {
		case b.Device == "default":
			change["BootSourceOverrideEnabled"] = "Disabled"
		case b.Persist:
			change["BootSourceOverrideEnabled"] = "Continuous"
		}
		if mode == "" && p.quirk.mode {
			s, err := p.system(ctx, at)
			if err != nil {
				return err
			}
			if s.Boot != nil {
				mode = string(s.Boot.Mode)
			}
		}
		if mode != "" && b.Device != "default" {
			change["BootSourceOverrideMode"] = mode
		}
		_, err := p.patch(ctx, p.bootPath(at), map[string]any{"Boot": change})
		return err
	})
}

// bootPath is the resource in which the override is changed.
func (p *peer) bootPath(at *place) string {
	if settings := at.first.Settings.SettingsObject.ID; p.quirk.settingsBoot && settings != "" {
		return settings
	}
	return at.system
}

// Identify lights the locator of the system, or of its chassis. Redfish knows no duration: the engine puts it out, at the latest when it is closed.
func (d *driver) Identify(ctx context.Context, on bool, duration time.Duration) error {
	return d.with(ctx, "identify", func(ctx context.Context, p *peer, at *place) error {
		path, change, err := p.locator(ctx, at)
		if err != nil {
			return err
		}
		if _, err = p.patch(ctx, path, change(on)); err != nil || !on || duration <= 0 {
			return err
		}
		e := d.engine
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.closed {
			return errClosed
		}
		p.users++
		e.work.Go(func() {
			defer e.release(p)
			t := time.NewTimer(duration)
			defer t.Stop()
			select {
			case <-t.C:
			case <-e.ctx.Done():
			}
			ctx, stop := context.WithTimeout(context.Background(), e.opt.Timeout)
			defer stop()
			if _, err := p.patch(ctx, path, change(false)); err != nil {
				e.log.Warn("locator stays lit", "node", d.target.Node, "err", err)
			}
		})
		return nil
	})
}

// locator finds the resource that has the locator, and how it is changed.
func (p *peer) locator(ctx context.Context, at *place) (string, func(on bool) any, error) {
	located := func(on bool) any { return map[string]bool{"LocationIndicatorActive": on} }
	led := func(on bool) any {
		state := text("Off")
		if on {
			state = "Blinking"
			if a := at.first.Indicators; a != nil && !slices.Contains(a, state) {
				state = "Lit"
			}
		}
		return map[string]text{"IndicatorLED": state}
	}
	switch {
	case at.first.Located != nil:
		return at.system, located, nil
	case at.first.IndicatorLED != nil:
		return at.system, led, nil
	}
	boxes, err := p.boxes(ctx, at)
	if err != nil {
		return "", nil, err
	}
	for _, b := range boxes {
		switch {
		case b.Located != nil:
			return b.link.ID, located, nil
		case b.IndicatorLED != nil:
			return b.link.ID, led, nil
		}
	}
	return "", nil, &missing{"it has no locator"}
}

// ResetController calls Manager.Reset.
func (d *driver) ResetController(ctx context.Context) error {
	return d.with(ctx, "bmc reset", func(ctx context.Context, p *peer, at *place) error {
		_, m, err := p.manager(ctx, at)
		if err != nil {
			return err
		}
		kind := text("GracefulRestart")
		if a := m.Actions.Reset.ResetTypes; a != nil && !slices.Contains(a, kind) {
			kind = "ForceRestart"
		}
		_, err = p.post(ctx, m.Actions.Reset.Target, map[string]text{"ResetType": kind})
		if errors.Is(err, errUnsure) && ctx.Err() == nil {
			err = nil // it is gone, as it was told to
		}
		return err
	})
}

// Info says who the controller is.
func (d *driver) Info(ctx context.Context) (bmc.Info, error) {
	var i bmc.Info
	err := d.with(ctx, "bmc info", func(ctx context.Context, p *peer, at *place) error {
		_, m, err := p.manager(ctx, at)
		if err != nil {
			return err
		}
		all, err := members[ethernet](ctx, p, m.Ethernet.ID)
		if err != nil {
			return err
		}
		s, err := p.system(ctx, at)
		if err != nil {
			return err
		}
		i = bmc.Info{
			Protocol: "redfish " + string(p.root.RedfishVersion), Vendor: string(either(m.Manufacturer, p.root.Vendor, s.Manufacturer)),
			Model: string(either(m.Model, p.root.Product, m.Name)), Firmware: string(m.FirmwareVersion), GUID: strings.ToLower(string(s.UUID)),
			Machine: strings.TrimSpace(string(s.Manufacturer + " " + s.Model)), Serial: string(s.SerialNumber), Session: "session",
		}
		if e := outside(all); e != nil {
			i.MAC = mac(either(e.MACAddress, e.PermanentMACAddress))
			if len(e.IPv4Addresses) > 0 {
				i.Address = string(e.IPv4Addresses[0].Address)
			}
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.basic {
			i.Session = "basic"
		}
		return nil
	})
	return i, err
}

// outside is the interface by which the controller is reached: the first that is in use and has an address.
func outside(all []ethernet) *ethernet {
	for i, e := range all {
		if (e.InterfaceEnabled == nil || *e.InterfaceEnabled) && len(e.IPv4Addresses) > 0 && !strings.HasPrefix(string(e.IPv4Addresses[0].Address), "169.254.") {
			return &all[i]
		}
	}
	if len(all) > 0 {
		return &all[0]
	}
	return nil
}

// either is the first that is said.
func either[T ~string](all ...T) T {
	for _, t := range all {
		if t != "" {
			return t
		}
	}
	return ""
}

func mac(t text) string { return strings.ToLower(strings.ReplaceAll(string(t), "-", ":")) }

// Raw reads a path, or sends "METHOD PATH JSON". The answer is what the controller sent.
func (d *driver) Raw(ctx context.Context, request string) (string, error) {
	const what = "bmc raw"
	c := call{method: http.MethodGet, path: strings.TrimSpace(request)}
	if !strings.HasPrefix(c.path, "/") {
		method, rest, _ := strings.Cut(c.path, " ")
		path, content, _ := strings.Cut(strings.TrimSpace(rest), " ")
		c.method, c.path, content = strings.ToUpper(method), path, strings.TrimSpace(content)
		if content != "" {
			if !json.Valid([]byte(content)) {
				return "", d.explain(what, &wrong{"what follows the path is no JSON", "Write it as: PATCH /redfish/v1/Systems/1 '{\"AssetTag\":\"7\"}'"})
			}
			c.body, _ = jsonBody(json.RawMessage(content))
		}
	}
	known := []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}
	if !strings.HasPrefix(c.path, "/") || !slices.Contains(known, c.method) {
		return "", d.explain(what, &wrong{"a request is a path, or a method, a path and JSON", "For example: /redfish/v1/Systems"})
	}
	var a answer
	err := d.on(ctx, what, func(ctx context.Context, p *peer) (err error) {
		a, err = p.do(ctx, c)
		return err
	})
	return string(a.body), err
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
