package exec

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"muster/internal/bmc"
	"muster/internal/bmc/bmctest"
)

// driver is one target of the engine.
type driver struct {
	engine *Engine
	target bmc.Target

	mu      sync.Mutex
	streams map[*stream]bool
}

var _ bmc.Driver = (*driver)(nil)

// do asks the program of the target, starting it when it does not run, and reads the answer into v.
func (d *driver) do(ctx context.Context, what string, r request, v any) error {
	ctx, stop := context.WithTimeout(ctx, d.engine.opt.Timeout)
	defer stop()
	return d.progress(ctx, what, r, v, nil)
}

// Test runs the conformance suite of all drivers on a program, with a node called "test" and nothing else: what the program drives is switched off and on.
// It reports each check as [bmctest.Check] does. The error is that of a program that cannot be talked to at all.
func Test(ctx context.Context, program string, report func(name string, err error)) error {
	e, err := New(Options{})
	if err != nil {
		return err
	}
	defer func() { _ = e.Close() }()
	t := bmc.Target{Node: "test", Program: program}
	d := &driver{engine: e, target: t, streams: map[*stream]bool{}}
	if err := d.do(ctx, "plugin", request{Do: "power"}, nil); err != nil {
		if b := (*bmc.Error)(nil); errors.As(err, &b) && b.Kind == bmc.Invalid {
			return err
		}
	}
	bmctest.Check(ctx, d, report)
	return nil
}

// progress is do without a bound on its time; lines that tell of progress go to see.
func (d *driver) progress(ctx context.Context, what string, r request, v any, see func(line)) error {
	if err := ctx.Err(); err != nil { // not yet asked: the program may go on
		return d.explain(what, err)
	}
	h, err := d.engine.host(ctx, d.target)
	if err != nil {
		return d.explain(what, err)
	}
	defer d.engine.release(h)
	if h.p != nil && h.p.gone() {
		h.setProcess(d.engine, nil)
	}
	if h.p == nil {
		p, err := d.engine.start(ctx, d.target, true)
		if err != nil {
			return d.explain(what, err)
		}
		h.setProcess(d.engine, p)
	}
	if !slices.Contains(h.p.hello.Can, r.Do) {
		return d.cannot(what, h.p)
	}
	answer, err := h.p.ask(ctx, r, see)
	if err == nil && v != nil {
		if e := json.Unmarshal(answer, v); e != nil {
			err = &odd{fmt.Sprintf("to %s it answers %.80q: %v", r.Do, h.p.clean(string(answer)), e)}
		}
	}
	if err != nil {
		return d.explain(what, err)
	}
	return nil
}

// setProcess is read by those who look for an idle process.
func (h *host) setProcess(e *Engine, p *process) {
	e.mu.Lock()
	defer e.mu.Unlock()
	h.p = p
}

func (d *driver) cannot(what string, p *process) error {
	return &bmc.Error{Kind: bmc.Unsupported, What: what, Why: "plugin " + p.hello.Name + " cannot do that", Do: "See bmc.driver: muster attributes bmc.driver"}
}

// explain makes an error for people.
func (d *driver) explain(what string, err error) error {
	name := "plugin " + filepath.Base(d.target.Program)
	e := &bmc.Error{Kind: bmc.Failed, What: what, Err: err}
	var (
		said *bmc.Error
		bad  *odd
		gone *ended
		path *os.PathError
	)
	switch {
	case errors.As(err, &said):
		e.Kind, e.Why, e.Do = said.Kind, said.Why, said.Do
	case errors.Is(err, context.DeadlineExceeded):
		e.Kind, e.Why = bmc.Timeout, name+" did not answer in time and was ended"
		e.Do = "Try it by itself: muster plugin test " + d.target.Program
	case errors.Is(err, context.Canceled):
		e.Kind, e.Why = bmc.Lost, "stopped while waiting for "+name
	case errors.Is(err, errClosed):
		e.Kind, e.Why = bmc.Lost, "the service is stopping"
	case errors.Is(err, errNoProgram):
		e.Kind, e.Why, e.Do = bmc.Invalid, err.Error(), "Set bmc.plugin to the path of the plugin"
	case errors.As(err, &bad), errors.As(err, &gone):
		e.Why, e.Do = name+" does not keep to the contract: "+err.Error(), "Try it by itself: muster plugin test "+d.target.Program
	case errors.As(err, &path):
		e.Kind, e.Why = bmc.Invalid, fmt.Sprintf("%s cannot be started: %v", d.target.Program, path.Err)
		e.Do = "Set bmc.plugin to the path of a program that the manager may run"
	default:
		e.Why = name + ": " + err.Error()
	}
	return e
}

// Power asks for the state.
func (d *driver) Power(ctx context.Context) (bmc.PowerState, error) {
	const what = "power status"
	var s bmc.PowerState
	if err := d.do(ctx, what, request{Do: "power"}, &s); err != nil {
		return "", err
	}
	if s != bmc.PowerOn && s != bmc.PowerOff {
		return "", d.explain(what, &odd{fmt.Sprintf("to power it answers %.20q, neither on nor off", s)})
	}
	return s, nil
}

var actions = []bmc.Action{bmc.On, bmc.Off, bmc.SoftOff, bmc.Cycle, bmc.Reset, bmc.Diag}

// SetPower starts an action.
func (d *driver) SetPower(ctx context.Context, a bmc.Action) error {
	what := "power " + string(a)
	if !slices.Contains(actions, a) {
		return &bmc.Error{Kind: bmc.Invalid, What: what, Why: "there is no such action", Do: "The actions are on, off, softoff, cycle, reset and diag"}
	}
	return d.do(ctx, what, request{Do: "setPower", Action: string(a)}, nil)
}

// BootDevice asks for the override.
func (d *driver) BootDevice(ctx context.Context) (bmc.BootDevice, error) {
	var b bmc.BootDevice
	err := d.do(ctx, "bootdev", request{Do: "bootDevice"}, &b)
	return b, err
}

// SetBootDevice sets the override.
func (d *driver) SetBootDevice(ctx context.Context, b bmc.BootDevice) error {
	what := "bootdev " + b.Device
	if !slices.Contains([]string{"network", "disk", "cd", "setup", "default"}, b.Device) || !slices.Contains([]string{"", "uefi", "bios"}, b.Firmware) {
		return &bmc.Error{
			Kind: bmc.Invalid, What: what, Why: "there is no such boot device",
			Do: "The devices are network, disk, cd, setup and default; the firmware is uefi or bios",
		}
	}
	return d.do(ctx, what, request{Do: "setBootDevice", Device: b.Device, Persist: b.Persist, Firmware: b.Firmware}, nil)
}

// Info asks who the controller is. What the program does not say is its name.
func (d *driver) Info(ctx context.Context) (bmc.Info, error) {
	var i bmc.Info
	err := d.do(ctx, "bmc info", request{Do: "info"}, &i)
	if err == nil && i.Protocol == "" {
		i.Protocol = filepath.Base(d.target.Program)
	}
	return i, err
}

// Identify lights the locator.
func (d *driver) Identify(ctx context.Context, on bool, duration time.Duration) error {
	return d.do(ctx, "identify", request{Do: "identify", On: &on, Seconds: int((duration + time.Second - 1) / time.Second)}, nil)
}

// Sensors reads them.
func (d *driver) Sensors(ctx context.Context) (s []bmc.Sensor, err error) {
	err = d.do(ctx, "sensors", request{Do: "sensors"}, &s)
	return s, err
}

// EventLog reads it.
func (d *driver) EventLog(ctx context.Context) (l []bmc.LogEntry, err error) {
	err = d.do(ctx, "eventlog", request{Do: "eventLog"}, &l)
	return l, err
}

// ClearEventLog empties it.
func (d *driver) ClearEventLog(ctx context.Context) error {
	return d.do(ctx, "eventlog --clear", request{Do: "clearEventLog"}, nil)
}

// Inventory lists the parts.
func (d *driver) Inventory(ctx context.Context) (p []bmc.Part, err error) {
	err = d.do(ctx, "inventory", request{Do: "inventory"}, &p)
	slices.SortStableFunc(p, func(a, b bmc.Part) int { return strings.Compare(a.Slot, b.Slot) })
	return p, err
}

// Settings reads them.
func (d *driver) Settings(ctx context.Context) (s []bmc.Setting, err error) {
	err = d.do(ctx, "bmc settings", request{Do: "settings"}, &s)
	slices.SortStableFunc(s, func(a, b bmc.Setting) int { return strings.Compare(a.Name, b.Name) })
	return s, err
}

// Set changes settings; the program reads them back.
func (d *driver) Set(ctx context.Context, all []bmc.Setting) (pending []string, err error) {
	r := request{Do: "set"}
	for _, s := range all {
		o := setting{Name: s.Name, Value: s.Value}
		if s.Secret != nil {
			o.Secret = s.Secret.Reveal()
		}
		r.Settings = append(r.Settings, o)
	}
	err = d.do(ctx, "bmc set", r, &pending)
	return pending, err
}

// ResetController starts the controller anew.
func (d *driver) ResetController(ctx context.Context) error {
	return d.do(ctx, "bmc reset", request{Do: "resetController"}, nil)
}

// Firmware lists what there is.
func (d *driver) Firmware(ctx context.Context) (f []bmc.Firmware, err error) {
	err = d.do(ctx, "firmware", request{Do: "firmware"}, &f)
	slices.SortStableFunc(f, func(a, b bmc.Firmware) int { return strings.Compare(a.Name, b.Name) })
	return f, err
}

// UpdateFirmware gives the program the image as a file, and follows it.
func (d *driver) UpdateFirmware(ctx context.Context, u bmc.Update) error {
	const what = "firmware update"
	name := filepath.Base(u.Name)
	if u.Name == "" {
		name = "firmware.bin"
	}
	file, err := os.CreateTemp("", "muster-firmware-")
	if err == nil {
		defer func() { _ = os.Remove(file.Name()) }()
		_, err = u.Image.Seek(0, io.SeekStart)
	}
	if err == nil {
		_, err = io.Copy(file, u.Image)
		err = errors.Join(err, file.Close())
	}
	if err != nil {
		return d.explain(what, err)
	}
	return d.progress(ctx, what, request{Do: "updateFirmware", File: file.Name(), Name: name, Size: u.Size, Targets: u.Targets}, nil, func(l line) {
		percent := -1
		if l.Progress.Percent != nil {
			percent = max(-1, min(100, *l.Progress.Percent))
		}
		if u.Progress != nil {
			u.Progress(l.Progress.Step, percent)
		}
	})
}

// Raw hands a request on.
func (d *driver) Raw(ctx context.Context, r string) (answer string, err error) {
	err = d.do(ctx, "bmc raw", request{Do: "raw", Request: r}, &answer)
	return answer, err
}

// alone starts a process of its own for a request that does not end, and has it answer.
func (d *driver) alone(ctx context.Context, what, do string) (*process, error) {
	ctx, stop := context.WithTimeout(ctx, d.engine.opt.Timeout)
	defer stop()
	if !filepath.IsAbs(d.target.Program) {
		return nil, d.explain(what, errNoProgram)
	}
	p, err := d.engine.start(ctx, d.target, false)
	if err != nil {
		return nil, d.explain(what, err)
	}
	if !slices.Contains(p.hello.Can, do) {
		p.kill()
		return nil, d.cannot(what, p)
	}
	if _, err := p.ask(ctx, request{Do: do}, nil); err != nil {
		p.kill()
		return nil, d.explain(what, err)
	}
	return p, nil
}

// Watch follows the events of the program.
func (d *driver) Watch(ctx context.Context, see func(bmc.LogEntry)) error {
	const what = "events of hardware"
	p, err := d.alone(ctx, what, "watch")
	if err != nil {
		return err
	}
	defer p.kill()
	for {
		b, err := p.line(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return &bmc.Error{Kind: bmc.Lost, What: what, Why: "plugin " + p.hello.Name + ": " + err.Error(), Err: err}
		}
		l, err := parse(b)
		switch {
		case err != nil:
			return d.explain(what, &odd{fmt.Sprintf("as an event it says %.80q", p.clean(string(b)))})
		case l.Event != nil:
			see(*l.Event)
		case l.End != nil:
			return &bmc.Error{Kind: bmc.Lost, What: what, Why: "plugin " + p.hello.Name + ": " + p.clean(*l.End)}
		}
	}
}

// Serial connects the serial line.
func (d *driver) Serial(ctx context.Context) (bmc.Stream, error) {
	p, err := d.alone(ctx, "console", "serial")
	if err != nil {
		return nil, err
	}
	s := &stream{driver: d, p: p, end: make(chan struct{})}
	d.mu.Lock()
	d.streams[s] = true
	d.mu.Unlock()
	return s, nil
}

// stream is a serial line that a program serves.
type stream struct {
	driver *driver
	p      *process
	end    chan struct{} // closed by Close
	once   sync.Once
	rest   []byte // of Read: one goroutine reads
	lost   error

	writing sync.Mutex
}

// Read reads from the machine.
func (s *stream) Read(b []byte) (int, error) {
	for len(s.rest) == 0 {
		if s.lost != nil {
			return 0, s.ended(s.lost)
		}
		var data []byte
		var ok bool
		select {
		case <-s.end:
			return 0, io.EOF
		case data, ok = <-s.p.lines:
		}
		l, err := parse(data)
		switch {
		case !ok:
			s.lost = &ended{s.p.clean(s.p.said.String())}
		case err != nil:
			s.lost = &odd{fmt.Sprintf("on the serial line it says %.80q", s.p.clean(string(data)))}
		case l.End != nil:
			s.lost = errors.New(s.p.clean(*l.End))
		}
		s.rest = l.Data
	}
	n := copy(b, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

func (s *stream) ended(err error) error {
	select {
	case <-s.end:
		return io.EOF
	default:
		return &bmc.Error{Kind: bmc.Lost, What: "console", Why: "plugin " + s.p.hello.Name + " has lost the serial line: " + err.Error(), Err: err}
	}
}

func (s *stream) send(v any) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := s.p.send(context.Background(), v); err != nil {
		return s.ended(err)
	}
	return nil
}

// Write types to the machine.
func (s *stream) Write(b []byte) (int, error) {
	if err := s.send(struct {
		Data []byte `json:"data"`
	}{b}); err != nil {
		return 0, err
	}
	return len(b), nil
}

// Break sends a break.
func (s *stream) Break() error {
	return s.send(struct {
		Break bool `json:"break"`
	}{true})
}

// Close ends the program.
func (s *stream) Close() error {
	s.once.Do(func() {
		close(s.end)
		s.driver.mu.Lock()
		delete(s.driver.streams, s)
		s.driver.mu.Unlock()
		s.p.kill()
	})
	return nil
}

// Close ends the streams of the driver. The program stays for a while, for the next driver of the same target.
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
