package lab

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"syscall"
	"time"

	"github.com/bougou/go-ipmi/pkg/types"

	"muster/internal/lab/board"
)

// chassis is one machine as its BMC sees it: power, reset, boot device. Its state is the QEMU process and nothing else.
type chassis struct {
	lab    *daemon
	index  int // of the machine in State.Machines
	name   string
	serial *serialPort
	sel    *board.EventLog
	log    *slog.Logger
	resets chan struct{} // capacity 1: the machine was reset, by itself or by us

	op sync.Mutex // held during a power operation: one at a time

	mu       sync.Mutex
	running  *guest // nil: off
	flags    types.BootOptionParam_BootFlags
	lastOn   bool // the last power-on came by command
	cause    restartCause
	identify identifyLight
}

// restartCause is the answer to Get System Restart Cause (IPMI 2.0 table 28-11).
type restartCause uint8

const (
	causeUnknown restartCause = 0x0
	causeControl restartCause = 0x1 // Chassis Control command
	causeGuest   restartCause = 0x8 // soft reset: the system itself asked for it
)

// errState is the completion code of a chassis command that makes no sense now (D5h, IPMI 2.0 table 28-4).
var errState error = types.CodeNotSupported

func (c *chassis) guest() *guest {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.running
}

func (c *chassis) on() bool { return c.guest() != nil }

// powerOn starts the machine; nothing when it is on.
func (c *chassis) powerOn() error {
	c.op.Lock()
	defer c.op.Unlock()
	if c.on() {
		return nil
	}
	return c.begin()
}

// begin is the machine coming on, from off. c.op is held.
func (c *chassis) begin() error {
	if err := c.start(causeControl); err != nil {
		return err
	}
	c.sel.Add(board.EventACPI, 0x00) // S0/G0: working
	return nil
}

// powerOff cuts the power and returns when the process is gone; nothing when it is off.
func (c *chassis) powerOff() error {
	c.op.Lock()
	defer c.op.Unlock()
	c.stop("power off")
	return nil
}

// powerCycle is off and on. From off it is refused, as the standard recommends.
func (c *chassis) powerCycle() error {
	c.op.Lock()
	defer c.op.Unlock()
	if !c.on() {
		return errState
	}
	c.sel.Add(board.EventPowerUnit, 0x01) // power cycle
	c.stop("power cycle")
	return c.begin()
}

// reset pulls the reset line. A boot device that waits for the next boot takes effect: see [chassis.stale].
func (c *chassis) reset() error {
	c.op.Lock()
	defer c.op.Unlock()
	g := c.guest()
	if g == nil {
		return errState
	}
	c.setCause(causeControl)
	if c.stale(g) {
		c.sel.Add(board.EventRestart, 0x07)
		return c.restart(causeControl)
	}
	return c.monitor(g, "system_reset", nil)
}

// softOff presses the power button; the guest decides.
func (c *chassis) softOff() error { return c.ask("system_powerdown") }

// diagnostic raises the non-maskable interrupt.
func (c *chassis) diagnostic() error {
	if err := c.ask("inject-nmi"); err != nil {
		return err
	}
	c.sel.Add(board.EventCritical, 0x00) // front panel NMI / diagnostic interrupt
	return nil
}

func (c *chassis) ask(command string) error {
	g := c.guest()
	if g == nil {
		return errState
	}
	return c.monitor(g, command, nil)
}

// sendBreak puts a break on the serial line.
func (c *chassis) sendBreak() {
	if g := c.guest(); g != nil {
		_ = c.monitor(g, "chardev-send-break", map[string]any{"id": "serial0"})
	}
}

// monitorTime is more than any monitor command takes on a loaded host, and less than clients wait for a BMC.
const monitorTime = 5 * time.Second

func (c *chassis) monitor(g *guest, command string, arguments map[string]any) error {
	ctx, cancel := context.WithTimeout(context.Background(), monitorTime)
	defer cancel()
	return g.qmp.do(ctx, command, arguments)
}

// start starts QEMU with the boot device of now, which uses a one-shot one up. c.op is held.
func (c *chassis) start(cause restartCause) error {
	p := planFor(c.useBootDevice())
	machine := c.lab.machine(c.index)
	g, err := launch(c.lab.spawner, c.lab.spec, machine, p, c.follow)
	if err != nil {
		c.log.Error("machine does not start", "machine", c.name, "err", err)
		c.lab.update(c.index, func(m *Machine) { m.Problem = err.Error() })
		return fmt.Errorf("%s: %w", c.name, err)
	}
	c.serial.plug(g.serial)
	c.mu.Lock()
	c.running, c.cause, c.lastOn = g, cause, true
	next, text := planFor(c.bootDevice()), c.bootText()
	c.mu.Unlock()
	c.lab.update(c.index, func(m *Machine) { m.Power, m.Process, m.Problem, m.Boot = "on", &g.process, "", text })
	c.lab.guests.Go(func() { c.watch(g) })
	c.log.Info("on", "machine", c.name, "pid", g.process.PID, "network", p.network, "disk", p.disk, "menu", p.menu)
	// The firmware has not run yet: what is set now counts from the next reset on.
	if err := errors.Join(c.order(g, next), c.monitor(g, "cont", nil)); err != nil {
		c.stop("it did not start: " + err.Error())
		return fmt.Errorf("%s: %w", c.name, err)
	}
	return nil
}

// follow hears the events of the running machine's monitor.
func (c *chassis) follow(event string) {
	if event != "RESET" {
		return
	}
	select {
	case c.resets <- struct{}{}:
	default: // one is waiting to be looked at
	}
}

// order sets the boot order from the next reset on.
func (c *chassis) order(g *guest, p bootPlan) error {
	set := func(device string, index int) error {
		return c.monitor(g, "qom-set", map[string]any{"path": "/machine/peripheral/" + device, "property": "bootindex", "value": index})
	}
	// QEMU refuses an index that is taken, also by the device itself.
	return errors.Join(set("net0", -1), set("disk0", -1), set("net0", p.network), set("disk0", p.disk))
}

// stop ends the process and waits for it. c.op is held.
func (c *chassis) stop(why string) {
	c.mu.Lock()
	g := c.running
	if g != nil && g.ending == "" {
		g.ending = why
	}
	c.mu.Unlock()
	if g == nil {
		return
	}
	_ = g.cmd.Process.Signal(syscall.SIGKILL)
	<-g.done
}

// restart is a reset by a new process. c.op is held.
func (c *chassis) restart(cause restartCause) error {
	c.stop("reset")
	return c.start(cause)
}

// watch waits for the process, which is the machine's power, and tells everyone.
func (c *chassis) watch(g *guest) {
	err := g.cmd.Wait()
	<-g.monitorEnded
	c.mu.Lock()
	why := g.ending
	c.running = nil
	c.mu.Unlock()
	if why == "" {
		why = "the guest powered itself off"
		if err != nil {
			why = "qemu ended: " + err.Error() // a crash, or someone killed it: to the BMC a power failure
			c.sel.Add(board.EventPowerUnit, 0x04)
		}
	}
	if why != "reset" {
		c.sel.Add(board.EventACPI, 0x05) // S5/G2: soft-off
	}
	c.lab.update(c.index, func(m *Machine) { m.Power, m.Process = "off", nil })
	c.log.Info("off", "machine", c.name, "pid", g.process.PID, "why", why)
	close(g.done)
}

// followResets acts on resets until ctx ends. A reset that a boot device waits for becomes a new process: the device
// cannot be given to the running one in time, since SeaBIOS resets once more some 30 ms after every reset of a guest
// that had booted, and the second reset would already take the order after the one shot.
func (c *chassis) followResets(ctx context.Context) {
	var seen time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.resets:
			if time.Since(seen) > time.Second {
				c.sel.Add(board.EventRestart, 0x07) // system restart
			}
			seen = time.Now()
			c.op.Lock()
			if g := c.guest(); g != nil && c.stale(g) {
				if err := c.restart(causeGuest); err != nil {
					c.log.Error("restart", "machine", c.name, "err", err)
				}
			}
			c.op.Unlock()
		}
	}
}

// stale says that the running process cannot boot as the BMC was told for the next boot.
func (c *chassis) stale(g *guest) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	oneShot := c.flags.BootFlagsValid && !c.flags.Persist && c.bootDevice() != "default"
	return oneShot || g.plan.menu != planFor(c.bootDevice()).menu
}

func (c *chassis) setCause(cause restartCause) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cause = cause
}

// setBootFlags keeps boot option parameter 5 (IPMI 2.0 table 28-14). A persistent device counts from the next reset, also
// of a running machine. The valid bit does not expire after 60 s as it may on a real BMC: on a slow host that surprises.
func (c *chassis) setBootFlags(f types.BootOptionParam_BootFlags) error {
	c.mu.Lock()
	c.flags = f
	g, p, text := c.running, planFor(c.bootDevice()), c.bootText()
	if f.BootFlagsValid && !f.Persist {
		p = planFor("default")
	}
	c.mu.Unlock()
	c.lab.update(c.index, func(m *Machine) { m.Boot = text })
	if g == nil {
		return nil
	}
	return c.order(g, p)
}

// useBootDevice returns the device for the boot that begins now and forgets a one-shot one.
func (c *chassis) useBootDevice() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	device := c.bootDevice()
	if !c.flags.Persist {
		c.flags = types.BootOptionParam_BootFlags{}
	}
	return device
}

// bootDevice is the device of the flags in words: network, disk, cd, setup, floppy or default. c.mu is held.
func (c *chassis) bootDevice() string {
	if !c.flags.BootFlagsValid {
		return "default"
	}
	return deviceName(c.flags.BootDeviceSelector)
}

// deviceName is the word for a boot device selector (IPMI 2.0 table 28-14, parameter 5, data 2).
func deviceName(s types.BootDeviceSelector) string {
	switch s {
	case 0x0:
		return "default"
	case 0x1:
		return "network"
	case 0x2, 0x3, 0x4: // disk, disk in safe mode, diagnostic partition
		return "disk"
	case 0x5, 0x8: // CD, remote CD
		return "cd"
	case 0x6:
		return "setup"
	}
	return "floppy" // and other removable or remote media: the machine has none
}

// bootText is the boot device for people: "default", "network once", "disk persistent, uefi". c.mu is held.
func (c *chassis) bootText() string {
	text := c.bootDevice()
	switch {
	case !c.flags.BootFlagsValid:
		return text
	case c.flags.Persist:
		text += " persistent"
	default:
		text += " once"
	}
	if c.flags.BIOSBootType {
		text += ", uefi"
	}
	return text
}
