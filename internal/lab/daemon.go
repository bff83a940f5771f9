package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"muster/internal/lab/board"
	"muster/internal/model"
)

// daemon is the one process of a lab that is up: all BMCs, parent of all machines, and the writer of lab.json.
type daemon struct {
	spec    *State // as read at the start; its machines' fields of change are not looked at
	log     *slog.Logger
	spawner *spawner
	guests  sync.WaitGroup // watchers of machines

	mu    sync.Mutex
	state *State // as on disk
}

// update changes the state of one machine and writes it down.
func (d *daemon) update(index int, change func(*Machine)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	before := d.state.Machines[index]
	change(&d.state.Machines[index])
	if d.state.Machines[index] == before {
		return
	}
	if err := d.state.save(); err != nil {
		d.log.Error("the lab's state is not written", "err", err)
	}
}

func (d *daemon) machine(index int) Machine {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.state.Machines[index]
}

// runDaemon serves the lab in dir, in whose namespace it must already be, until ctx ends. ready is called when all BMCs
// listen; then all machines are off.
func runDaemon(ctx context.Context, dir string, log io.Writer, ready func() error) (err error) {
	d := &daemon{log: slog.New(slog.NewTextHandler(log, nil)), spawner: newSpawner()}
	if d.spec, err = loadState(dir); err != nil {
		return err
	}
	if d.state, err = loadState(dir); err != nil {
		return err
	}
	password, err := readPassword(dir)
	if err != nil {
		return err
	}
	self, err := identify(os.Getpid())
	if err != nil {
		return err
	}
	d.state.Daemon = &self
	for i := range d.state.Machines {
		m := &d.state.Machines[i]
		m.Power, m.Process, m.Boot, m.SOL, m.Problem = "off", nil, "default", false, ""
	}
	if err := d.state.save(); err != nil {
		return err
	}

	go d.spawner.run()
	defer d.spawner.stop() // last: the machines die with its thread
	controllers, err := d.open(password)
	defer d.close(controllers)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, c := range controllers {
		g.Go(func() error { return c.serve(ctx) })
		g.Go(func() error { c.chassis.followResets(ctx); return nil })
	}
	d.log.Info("lab is up", "name", d.spec.Name, "machines", len(controllers))
	if err := ready(); err != nil {
		return err
	}
	err = g.Wait()
	d.log.Info("lab ends", "name", d.spec.Name, "err", err)
	return err
}

func (d *daemon) open(password model.Secret) ([]*controller, error) {
	var all []*controller
	for i, m := range d.spec.Machines {
		serialLog, err := os.OpenFile(filepath.Join(d.spec.machineDir(m.Name), "serial.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return all, err
		}
		c := &chassis{
			lab: d, index: i, name: m.Name, log: d.log, serial: newSerialPort(serialLog),
			sel: &board.EventLog{Now: time.Now}, resets: make(chan struct{}, 1),
		}
		b, err := listen(c, m, d.spec.User, password)
		if err != nil {
			return all, errors.Join(err, serialLog.Close())
		}
		all = append(all, b)
	}
	return all, nil
}

// close turns all machines off and waits for everything that they started.
func (d *daemon) close(all []*controller) {
	for _, c := range all {
		c.chassis.op.Lock() // for good: no machine starts any more
		c.chassis.stop("the lab goes down")
	}
	d.guests.Wait()
	for _, c := range all {
		_ = c.server.Close()
		c.sol.close()
		c.chassis.serial.wait()
		_ = c.chassis.serial.log.Close()
	}
}

// setSOL notes whether a serial-over-LAN session is attached.
func (c *chassis) setSOL(attached bool) {
	c.lab.update(c.index, func(m *Machine) { m.SOL = attached })
}

// tellReady is the daemon's half of the conversation with "lab up": one line on a pipe, then end of file. An end of
// file without the line means that the daemon died; its log says why.
func tellReady(pipe *os.File) func() error {
	return func() error {
		_, err := fmt.Fprintln(pipe, "ready")
		return errors.Join(err, pipe.Close())
	}
}
