package lab

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Process is one process of this boot of this host, told apart from a later one with the same number.
type Process struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks from boot to its start, field 22 of /proc/PID/stat
	Boot  string `json:"boot"`  // /proc/sys/kernel/random/boot_id
}

// identify returns the identity of a running process.
func identify(pid int) (Process, error) {
	st, err := readStat(pid)
	if err != nil {
		return Process{}, err
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return Process{}, err
	}
	return Process{PID: pid, Start: st.start, Boot: strings.TrimSpace(string(boot))}, nil
}

// procStat is what /proc/PID/stat says about a process.
type procStat struct {
	state byte   // R, S, Z …
	ticks uint64 // processor time, user and system
	start uint64 // ticks from boot to its start
}

// tick is the unit of times in /proc (USER_HZ, 100 on every Linux that Go runs on).
const tick = 10 * time.Millisecond

func readStat(pid int) (procStat, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return procStat{}, err
	}
	return parseStat(text)
}

// parseStat reads /proc/PID/stat. The second field is the program's name in parentheses and may hold anything,
// parentheses and spaces included, so the fields are counted from its end (proc(5)).
func parseStat(text []byte) (procStat, error) {
	i := bytes.LastIndexByte(text, ')')
	fields := bytes.Fields(text[i+1:])
	if i < 0 || len(fields) < 20 || len(fields[0]) != 1 {
		return procStat{}, errors.New("unexpected text in /proc/PID/stat")
	}
	var n [3]uint64
	for k, field := range []int{11, 12, 19} {
		var err error
		if n[k], err = strconv.ParseUint(string(fields[field]), 10, 64); err != nil {
			return procStat{}, fmt.Errorf("/proc/PID/stat: %w", err)
		}
	}
	return procStat{state: fields[0][0], ticks: n[0] + n[1], start: n[2]}, nil
}

// alive says that this very process still runs. A zombie does not.
func (p Process) alive() bool {
	now, err := identify(p.PID)
	if err != nil || now != p {
		return false
	}
	st, err := readStat(p.PID)
	return err == nil && st.state != 'Z' && st.state != 'X'
}

// end sends the signal, waits, and kills what does not end in time. It never touches another process that got the
// same number: the identity is checked after a pidfd holds the process fast. Nil when it is gone.
func (p Process) end(sig syscall.Signal, patience time.Duration) error {
	fd, err := unix.PidfdOpen(p.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("process %d: %w", p.PID, err)
	}
	defer func() { _ = unix.Close(fd) }()
	if !p.alive() {
		return nil
	}
	for _, s := range []syscall.Signal{sig, syscall.SIGKILL} {
		if err := unix.PidfdSendSignal(fd, s, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("process %d: signal %v: %w", p.PID, s, err)
		}
		if ended(fd, patience) {
			return nil
		}
	}
	return fmt.Errorf("process %d does not end, even when killed", p.PID)
}

func ended(pidfd int, patience time.Duration) bool {
	deadline := time.Now().Add(patience)
	for {
		left := max(time.Until(deadline), 0)
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, int(left.Milliseconds()))
		if n > 0 {
			return true
		}
		if !errors.Is(err, unix.EINTR) {
			return false
		}
	}
}

// inhabitants lists the processes of a network namespace as "name (pid)", without the one that asks.
func inhabitants(namespace string) []string {
	var want unix.Stat_t
	if unix.Stat(filepath.Join(namespaces, namespace), &want) != nil {
		return nil
	}
	procs, _ := filepath.Glob("/proc/[0-9]*")
	var found []string
	for _, p := range procs {
		var st unix.Stat_t
		if unix.Stat(p+"/ns/net", &st) != nil || st.Ino != want.Ino || st.Dev != want.Dev {
			continue
		}
		pid := filepath.Base(p)
		if pid == strconv.Itoa(os.Getpid()) {
			continue
		}
		name, _ := os.ReadFile(p + "/comm")
		found = append(found, strings.TrimSpace(string(name))+" ("+pid+")")
	}
	return found
}
