package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// spawner starts processes from one operating system thread that lives as long as the daemon. The kernel sends a
// child's parent-death signal when the *thread* that made it ends, so no other thread of a Go program will do.
type spawner struct {
	jobs chan func()
}

func newSpawner() *spawner { return &spawner{jobs: make(chan func())} }

// run serves until stop. It must have ended nothing before all machines have ended: its thread ends with it.
func (s *spawner) run() {
	runtime.LockOSThread()
	for job := range s.jobs {
		job()
	}
}

func (s *spawner) stop() { close(s.jobs) }

func (s *spawner) start(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	done := make(chan error, 1)
	s.jobs <- func() { done <- cmd.Start() }
	return <-done
}

// guest is one QEMU process, from power on to power off.
type guest struct {
	cmd     *exec.Cmd
	process Process
	qmp     *qmp
	serial  net.Conn
	plan    bootPlan
	started time.Time
	done    chan struct{} // closed when the process has ended and all know it
	// monitorEnded is closed when the last message of the monitor has been heard.
	monitorEnded chan struct{}
	ending       string // why it ends, set by who ends it; "" is the guest itself. Guarded by the machine's mu
}

// startTime limits how long QEMU may take to open its disk, tap and monitor.
const startTime = 20 * time.Second

// launch starts QEMU for m, stopped, with its monitor ready. The caller waits for it in any case when err is nil.
func launch(sp *spawner, s *State, m Machine, p bootPlan, events func(string)) (*guest, error) {
	serial, serialChild, err := socketPair("serial")
	if err != nil {
		return nil, err
	}
	defer func() { _ = serialChild.Close() }()
	if err := unix.SetsockoptInt(int(serialChild.Fd()), unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, uartBuffer); err != nil {
		return nil, errors.Join(fmt.Errorf("send buffer of the serial port: %w", err), serial.Close())
	}
	monitor, monitorChild, err := socketPair("monitor")
	if err != nil {
		return nil, errors.Join(err, serial.Close())
	}
	defer func() { _ = monitorChild.Close() }()
	logName := filepath.Join(s.machineDir(m.Name), "qemu.log")
	log, err := os.OpenFile(logName, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, errors.Join(err, serial.Close(), monitor.Close())
	}
	defer func() { _ = log.Close() }()

	cmd := exec.Command(qemuProgram, qemuArguments(s, m, p)...)
	cmd.ExtraFiles = []*os.File{serialFD - 3: serialChild, qmpFD - 3: monitorChild}
	cmd.Stdout, cmd.Stderr = log, log
	if err := sp.start(cmd); err != nil {
		return nil, errors.Join(err, serial.Close(), monitor.Close())
	}
	g := &guest{cmd: cmd, qmp: newQMP(monitor, events), serial: serial, plan: p, started: time.Now(), done: make(chan struct{}), monitorEnded: make(chan struct{})}
	go func() { g.qmp.run(); close(g.monitorEnded) }()

	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	_ = serialChild.Close() // so that the monitor ends with the process
	_ = monitorChild.Close()
	err = g.qmp.do(ctx, "qmp_capabilities", nil)
	if err == nil {
		g.process, err = identify(cmd.Process.Pid)
	}
	if err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		<-g.monitorEnded
		_ = serial.Close()
		if said := lastLines(logName); said != "" {
			return nil, errors.New(said)
		}
		return nil, err
	}
	return g, nil
}

// lastLines returns the end of a log on one line.
func lastLines(name string) string {
	text, _ := os.ReadFile(name)
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	lines = lines[max(0, len(lines)-3):]
	return string(bytes.Join(lines, []byte(" / ")))
}

// uartBuffer is the send buffer of the machine's end of the serial socket. The UART writes single bytes, each of which costs the kernel
// 768: the default buffer holds a quarter of a kilobyte, and a guest kernel that waits longer than 10 ms for room gives the
// byte up (wait_for_lsr in its 8250 driver). The kernel doubles the value: this one holds 87 kB, more than a kernel prints while the
// daemon waits for a processor. It costs nothing while it is empty, and 64 MiB of kernel memory while a reader stands still.
const uartBuffer = 32 << 20

// socketPair returns a connection for us and the other end as a file for a child.
func socketPair(name string) (net.Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socket for the %s: %w", name, err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), name), os.NewFile(uintptr(fds[1]), name)
	conn, err := net.FileConn(ours)
	if err := errors.Join(err, ours.Close()); err != nil {
		return nil, nil, errors.Join(err, theirs.Close())
	}
	return conn, theirs, nil
}
