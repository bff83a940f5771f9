package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	lacking "muster/internal/need"
)

// real is a lab of its own for one test, driven as a person would: by the command line and by ipmitool and ipmipower.
type real struct {
	*testing.T
	name, dir string
}

// newReal skips where a real lab cannot be, and takes down whatever the test leaves.
func newReal(t *testing.T, kind string, fw Firmware) *real {
	t.Helper()
	if err := missing(os.Geteuid(), append(needs(fw), need{what: "ipmitool", pkg: "ipmitool"}, need{what: "ipmipower", pkg: "freeipmi-tools"}, need{what: "ip", pkg: "iproute2"})); err != nil {
		lacking.Lack(t, "no real lab here: "+err.Error())
	}
	name := fmt.Sprintf("t-%s-%d", kind, os.Getpid())
	r := &real{T: t, name: name, dir: filepath.Join(t.TempDir(), "lab")}
	t.Cleanup(func() {
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(r.dir, daemonLog))
			t.Logf("daemon.log:\n%s", log)
		}
		if out, err := r.run("lab", "down", "--name", r.name); err != nil {
			t.Errorf("lab down: %v\n%s", err, out)
		}
	})
	return r
}

func (r *real) run(args ...string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		r.Fatal(err)
	}
	out, err := exec.Command(self, args...).CombinedOutput()
	return string(out), err
}

// lab runs "muster lab VERB --name …", which must succeed.
func (r *real) lab(verb string, args ...string) string {
	r.Helper()
	out, err := r.run(append([]string{"lab", verb, "--name", r.name}, args...)...)
	if err != nil {
		r.Fatalf("lab %s %v: %v\n%s", verb, args, err, out)
	}
	return out
}

// refused runs a lab command that must fail with exit status 1, and returns what it said.
func (r *real) refused(verb string, args ...string) string {
	r.Helper()
	out, err := r.run(append([]string{"lab", verb, "--name", r.name}, args...)...)
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok || exit.ExitCode() != 1 {
		r.Fatalf("lab %s %v: got %v, want exit status 1\n%s", verb, args, err, out)
	}
	return out
}

func (r *real) state() *State {
	r.Helper()
	s := new(State)
	if err := json.Unmarshal([]byte(r.lab("status", "--json")), s); err != nil {
		r.Fatal(err)
	}
	return s
}

func (r *real) inNamespace(args ...string) *exec.Cmd {
	return exec.Command("ip", append([]string{"netns", "exec", namespaceOf(r.name)}, args...)...)
}

func (r *real) ipmitool(suite string, args ...string) *exec.Cmd {
	return r.inNamespace(append([]string{
		"ipmitool", "-I", "lanplus", "-C", suite, "-H", "10.78.0.1", "-U", bmcUser,
		"-f", filepath.Join(r.dir, passwordFile),
	}, args...)...)
}

// ipmi runs ipmitool with suite 17; it must succeed and say want.
func (r *real) ipmi(want string, args ...string) string {
	r.Helper()
	return r.ipmiSuite("17", want, args...)
}

func (r *real) ipmiSuite(suite, want string, args ...string) string {
	r.Helper()
	out, err := r.ipmitool(suite, args...).CombinedOutput()
	if err != nil || !strings.Contains(string(out), want) {
		r.Fatalf("ipmitool -C %s %v: %v, want %q in:\n%s", suite, args, err, want, out)
	}
	return string(out)
}

// eventually polls for a state that another process reaches by itself.
func (r *real) eventually(what string, within time.Duration, is func() bool) {
	r.Helper()
	deadline := time.After(within)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-deadline:
			r.Fatalf("not within %v: %s", within, what)
		}
	}
}

// nothingLeft checks that the lab is gone with all that it made.
func (r *real) nothingLeft(were ...*Process) {
	r.Helper()
	for _, p := range were {
		if p != nil && p.alive() {
			r.Errorf("process %d still runs", p.PID)
		}
	}
	for _, file := range []string{filepath.Join(namespaces, namespaceOf(r.name)), r.dir, filepath.Join(labs, r.name)} {
		if _, err := os.Lstat(file); !errors.Is(err, os.ErrNotExist) {
			r.Errorf("%s is left (%v)", file, err)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil || bytes.Contains(mounts, []byte(namespaceOf(r.name))) {
		r.Errorf("a mount is left (%v)", err)
	}
}

// console is an "ipmitool sol activate" with its output so far.
type console struct {
	cmd  *exec.Cmd
	keys io.WriteCloser
	mu   sync.Mutex
	out  bytes.Buffer
}

func (c *console) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.Write(b)
}

// text is what came over the line, without ipmitool's own greeting.
func (c *console) text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, line, _ := strings.Cut(c.out.String(), "for help]\n")
	return line
}

func (r *real) sol(suite string) *console {
	r.Helper()
	c := &console{cmd: r.ipmitool(suite, "sol", "activate")}
	c.cmd.Stdout, c.cmd.Stderr = c, c
	var err error
	if c.keys, err = c.cmd.StdinPipe(); err != nil {
		r.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { _ = c.cmd.Process.Kill(); _ = c.cmd.Wait() })
	r.eventually("serial over LAN is attached", 10*time.Second, func() bool { return r.state().Machines[0].SOL })
	return c
}

func TestLabIsMadeUsedAndRemoved(t *testing.T) {
	t.Parallel()
	r := newReal(t, "bios", BIOS)
	if out := r.lab("down"); !strings.Contains(out, "nothing to take down") {
		t.Errorf("down on nothing said %q", out)
	}
	if out := r.refused("status"); !strings.Contains(out, "is not up") {
		t.Errorf("status of nothing said %q", out)
	}
	out := r.lab("up", "-n", "1", "--memory", "256", "--disk", "64M", "--dir", r.dir)
	for _, want := range []string{"switched off", "bmc.address='10.78.0.{n0}'", "muster serve --netns " + namespaceOf(r.name)} {
		if !strings.Contains(out, want) {
			t.Errorf("lab up does not say %q:\n%s", want, out)
		}
	}
	if out := r.lab("up", "-n", "1", "--memory", "256", "--disk", "64M"); !strings.Contains(out, "already up") {
		t.Errorf("second up said %q", out)
	}
	if out := r.refused("up", "-n", "2"); !strings.Contains(out, "muster lab down --name "+r.name) {
		t.Errorf("up with another shape said %q", out)
	}
	if m := r.state().Machines[0]; m.Power != "off" || m.Process != nil || m.MAC != "52:54:00:77:00:01" {
		t.Errorf("new machine is %+v", m)
	}
	if out := r.lab("exec", "--", "cat", "/sys/class/net/"+bridgeName+"/address"); strings.TrimSpace(out) != "52:54:00:77:ff:01" {
		t.Errorf("lab exec said %q", out)
	}

	r.power()
	r.bootDevices()
	r.records()
	r.serialOverLAN()

	daemon, qemu := r.state().Daemon, r.state().Machines[0].Process
	if qemu == nil {
		t.Fatal("the machine should be on")
	}
	r.lab("down")
	r.nothingLeft(daemon, qemu)
}

// power drives the machine through all its states with both tools and both suites.
func (r *real) power() {
	r.Helper()
	pid := func() int {
		if p := r.state().Machines[0].Process; p != nil {
			return p.PID
		}
		return 0
	}
	for _, suite := range []string{"3", "17"} {
		r.ipmiSuite(suite, "Chassis Power is off", "power", "status")
		if out, err := r.ipmitool(suite, "power", "cycle").CombinedOutput(); err == nil || !bytes.Contains(out, []byte("not supported in present state")) {
			r.Fatalf("cycle from off: %v %s", err, out)
		}
		r.ipmiSuite(suite, "Up/On", "power", "on")
		r.ipmiSuite(suite, "Chassis Power is on", "power", "status")
		first := pid()
		r.ipmiSuite(suite, "Up/On", "power", "on") // once more changes nothing
		r.ipmiSuite(suite, "Reset", "power", "reset")
		r.ipmiSuite(suite, "Soft", "power", "soft")
		r.ipmiSuite(suite, "Diag", "power", "diag")
		if now := pid(); now != first || first == 0 {
			r.Errorf("process changed from %d to %d without a power cycle", first, now)
		}
		r.ipmiSuite(suite, "Cycle", "power", "cycle")
		if now := pid(); now == first || now == 0 {
			r.Errorf("process is %d after a power cycle, was %d", now, first)
		}
		r.ipmiSuite(suite, "Down/Off", "power", "off")
		r.ipmiSuite(suite, "Chassis Power is off", "power", "status")
		if pid() != 0 {
			r.Error("a process is left after power off")
		}
	}
	password, err := readPassword(r.dir)
	if err != nil {
		r.Fatal(err)
	}
	config := filepath.Join(r.TempDir(), "freeipmi.conf")
	text := "username " + bmcUser + "\npassword " + password.Reveal() + "\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		r.Fatal(err)
	}
	for _, step := range []struct{ do, want string }{
		{"--on", "ok"}, {"--stat", "on"}, {"--reset", "ok"}, {"--pulse", "ok"}, {"--soft", "ok"}, {"--cycle", "ok"}, {"--off", "ok"}, {"--stat", "off"},
	} {
		for _, suite := range []string{"3", "17"} {
			out, err := r.inNamespace("ipmipower", "--config-file", config, "-D", "LAN_2_0", "-I", suite, "-h", "10.78.0.1", step.do).CombinedOutput()
			want := step.want
			if step.do == "--off" || step.do == "--on" {
				want = "ok" // twice is no error
			}
			if got := strings.TrimSpace(string(out)); err != nil || got != "10.78.0.1: "+want {
				r.Errorf("ipmipower -I %s %s: %q %v, want %q", suite, step.do, got, err, want)
			}
		}
	}
	// A machine that ends by itself is off at once, and the log says so.
	r.ipmi("Up/On", "power", "on")
	if err := r.state().Machines[0].Process.end(syscall.SIGKILL, 5*time.Second); err != nil {
		r.Fatal(err)
	}
	r.eventually("power is off after the process died", 5*time.Second, func() bool { return pid() == 0 })
	r.ipmi("Chassis Power is off", "power", "status")
	r.ipmi("AC lost", "sel", "list")
	// A wrong password is refused.
	if out, err := r.inNamespace("ipmitool", "-I", "lanplus", "-C", "17", "-R", "1", "-N", "1", "-H", "10.78.0.1", "-U", bmcUser, "-P", "wrong", "power", "status").CombinedOutput(); err == nil {
		r.Errorf("a wrong password was accepted: %s", out)
	}
}

// bootDevices sets every device and checks what the firmware then does, on the serial port.
func (r *real) bootDevices() {
	r.Helper()
	for _, d := range []struct{ ask, report, word string }{
		{"pxe", "Force PXE", "network"},
		{"disk", "Force Boot from default Hard-Drive", "disk"},
		{"cdrom", "Force Boot from CD/DVD", "cd"},
		{"bios", "Force Boot into BIOS Setup", "setup"},
	} {
		r.ipmi("Set Boot Device", "chassis", "bootdev", d.ask, "options=persistent,efiboot")
		out := r.ipmi(d.report, "chassis", "bootparam", "get", "5")
		if !strings.Contains(out, "all future boots") || !strings.Contains(out, "EFI") {
			r.Errorf("bootparam after %s persistent,efiboot:\n%s", d.ask, out)
		}
		if got, want := r.state().Machines[0].Boot, d.word+" persistent, uefi"; got != want {
			r.Errorf("boot device is %q, want %q", got, want)
		}
	}
	r.ipmi("Set Boot Device", "chassis", "bootdev", "none")
	if got := r.state().Machines[0].Boot; !strings.HasPrefix(got, "default") {
		r.Errorf("boot device is %q after none", got)
	}

	// Once from disk: the firmware goes to the disk and not to the network, and forgets it.
	const fromDisk, fromNetwork = "Booting from Hard Disk", "Configuring (net0"
	r.ipmi("Set Boot Device", "chassis", "bootdev", "disk")
	r.ipmi("Up/On", "power", "on")
	r.serialSays(fromDisk)
	if got := r.state().Machines[0].Boot; got != "default" {
		r.Errorf("boot device is %q after it was used", got)
	}
	if strings.Contains(r.serialLog(), fromNetwork) {
		r.Error("the network was tried with the boot device disk")
	}
	// A reset without a device takes the usual order again, network first; with one it takes the device.
	r.truncateSerialLog()
	r.ipmi("Reset", "power", "reset")
	r.serialSays(fromNetwork)
	r.truncateSerialLog()
	r.ipmi("Set Boot Device", "chassis", "bootdev", "disk")
	r.ipmi("Reset", "power", "reset")
	r.serialSays(fromDisk)
	if strings.Contains(r.serialLog(), fromNetwork) {
		r.Error("the network was tried after reset with the boot device disk")
	}
	r.ipmi("Down/Off", "power", "off")
	r.truncateSerialLog()
}

func (r *real) serialLog() string {
	text, err := os.ReadFile(filepath.Join(r.dir, "r1n1", "serial.log"))
	if err != nil {
		r.Fatal(err)
	}
	return string(text)
}

func (r *real) truncateSerialLog() {
	if err := os.Truncate(filepath.Join(r.dir, "r1n1", "serial.log"), 0); err != nil {
		r.Fatal(err)
	}
}

func (r *real) serialSays(want string) {
	r.Helper()
	r.eventually("serial port says "+want, 40*time.Second, func() bool { return strings.Contains(r.serialLog(), want) })
}

// records reads everything that a BMC keeps.
func (r *real) records() {
	r.Helper()
	r.ipmi("Up/On", "power", "on")
	r.ipmi("S0/G0: working", "sel", "list")
	r.ipmi("S5/G2: soft-off", "sel", "list")
	r.ipmi("Critical Interrupt", "sel", "elist")
	r.ipmi("Clearing SEL", "sel", "clear")
	r.eventually("SEL is empty", 5*time.Second, func() bool {
		out, _ := r.ipmitool("17", "sel", "list").CombinedOutput()
		return strings.Contains(string(out), "no entries")
	})
	for _, want := range []string{"Inlet Temp       | 22 degrees C      | ok", "PSU 12V", "RPM"} {
		r.ipmi(want, "sdr", "list")
	}
	r.ipmi("CPU Temp", "sensor", "list")
	r.ipmi("47.000", "sensor", "get", "Inlet Temp")
	r.ipmi("Product Name          : lab machine", "fru", "print")
	r.ipmi("IPMI Version              : 2.0", "mc", "info")
	r.ipmi("identify interval", "chassis", "identify", "2")
	r.ipmi("10.78.0.1", "lan", "print", "1")
	r.ipmi(bmcUser, "user", "list", "1")
	r.ipmi("Down/Off", "power", "off")
}

// serialOverLAN holds one session over power on, a client that stops, and a power cycle: not a byte may be lost.
func (r *real) serialOverLAN() {
	r.Helper()
	r.truncateSerialLog()
	c := r.sol("17")
	if out, err := r.ipmitool("3", "sol", "activate").CombinedOutput(); err == nil || !bytes.Contains(out, []byte("already active")) {
		r.Errorf("second sol activate: %v %s", err, out)
	}
	r.ipmi("Up/On", "power", "on")
	r.eventually("the firmware's first line comes over the LAN", 20*time.Second, func() bool { return strings.Contains(c.text(), "SeaBIOS (version") })
	client := childOf(r.T, c.cmd.Process.Pid)
	if err := syscall.Kill(client, syscall.SIGSTOP); err != nil {
		r.Fatal(err)
	}
	r.serialSays("Open Source Network Boot Firmware") // goes on without the client
	if err := syscall.Kill(client, syscall.SIGCONT); err != nil {
		r.Fatal(err)
	}
	r.eventually("iPXE's banner comes over the LAN", 20*time.Second, func() bool { return strings.Contains(c.text(), "Open Source Network Boot Firmware") })
	r.ipmi("Cycle", "power", "cycle")
	r.eventually("the second boot comes over the same session", 20*time.Second, func() bool { return strings.Count(c.text(), "SeaBIOS (version") >= 2 })
	if _, err := io.WriteString(c.keys, "\r~."); err != nil {
		r.Fatal(err)
	}
	if err := c.cmd.Wait(); err != nil {
		r.Errorf("sol activate: %v", err)
	}
	got, _, _ := strings.Cut(c.text(), "~.")
	if log := r.serialLog(); !strings.HasPrefix(log, got) {
		n := 0
		for n < len(got) && n < len(log) && got[n] == log[n] {
			n++
		}
		r.Errorf("serial over LAN differs from the log after %d of %d bytes: got %q, log %q", n, len(got), around(got, n), around(log, n))
	}
	r.eventually("serial over LAN is detached", 5*time.Second, func() bool { return !r.state().Machines[0].SOL })
}

func around(s string, n int) string { return s[max(0, n-20):min(len(s), n+40)] }

// childOf returns ipmitool under "ip netns exec", which replaces itself: the process itself, when it has no child.
func childOf(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return pid
	}
	var child int
	if _, err := fmt.Sscan(string(text), &child); err != nil {
		return pid
	}
	return child
}

func TestMachinesDieWithTheDaemonAndTheLabComesBackWithItsDisks(t *testing.T) {
	t.Parallel()
	r := newReal(t, "kill", BIOS)
	up := []string{"-n", "1", "--memory", "256", "--disk", "64M", "--dir", r.dir}
	r.lab("up", up...)
	r.ipmi("Up/On", "power", "on")
	kill := func() (daemon, qemu *Process) {
		daemon, qemu = r.state().Daemon, r.state().Machines[0].Process
		if err := syscall.Kill(daemon.PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		r.eventually("the machine died with the daemon", 5*time.Second, func() bool { return !qemu.alive() })
		return daemon, qemu
	}
	kill()
	if out := r.refused("status"); !strings.Contains(out, "its daemon is gone") {
		t.Errorf("status after kill -9 said %q", out)
	}
	disk := filepath.Join(r.dir, "r1n1", "disk.raw")
	if err := os.WriteFile(disk, []byte("installed"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := r.lab("up", up...); !strings.Contains(out, "bringing it up again") {
		t.Errorf("up after kill -9 said %q", out)
	}
	if text, _ := os.ReadFile(disk); string(text) != "installed" {
		t.Errorf("the disk holds %q", text)
	}
	r.ipmi("Up/On", "power", "on")

	foreign := r.inNamespace("sleep", "1000")
	if err := foreign.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = foreign.Process.Kill(); _ = foreign.Wait() })
	r.eventually("the foreign process is in the namespace", 5*time.Second, func() bool { return strings.Contains(strings.Join(inhabitants(namespaceOf(r.name)), " "), "sleep") })
	daemon, qemu := kill()
	if out := r.lab("down"); !strings.Contains(out, fmt.Sprintf("sleep (%d)", foreign.Process.Pid)) {
		t.Errorf("down does not name the foreign process: %s", out)
	}
	if id, err := identify(foreign.Process.Pid); err != nil || !id.alive() {
		t.Error("lab down ended a process that is not of the lab")
	}
	r.nothingLeft(daemon, qemu)
}

func TestUEFIMachinePowersItselfOff(t *testing.T) {
	t.Parallel()
	r := newReal(t, "uefi", UEFI)
	r.lab("up", "-n", "1", "--firmware", "uefi", "--memory", "256", "--disk", "64M", "--dir", r.dir)
	c := r.sol("3")
	r.ipmi("Set Boot Device", "chassis", "bootdev", "disk", "options=efiboot")
	r.ipmi("Up/On", "power", "on")
	// An empty disk ends in the UEFI shell, which takes commands over the LAN.
	r.eventually("the UEFI shell", 40*time.Second, func() bool { return strings.Contains(c.text(), "Shell>") })
	if strings.Contains(c.text(), "PXE over IPv4") {
		t.Error("the network was tried with the boot device disk")
	}
	if _, err := io.WriteString(c.keys, "reset -s\r"); err != nil {
		t.Fatal(err)
	}
	r.eventually("power is off", 20*time.Second, func() bool { return r.state().Machines[0].Power == "off" })
	r.ipmi("Chassis Power is off", "power", "status")
	r.ipmi("S5/G2: soft-off", "sel", "list")
	if out := r.ipmi("", "sel", "list"); strings.Contains(out, "AC lost") {
		t.Errorf("a guest's own power off is no power failure:\n%s", out)
	}
}

func TestUpUndoesEverythingWhenItFails(t *testing.T) {
	t.Parallel()
	r := newReal(t, "undo", BIOS)
	if err := makeNamespace(namespaceOf(r.name)); err != nil {
		t.Fatal(err)
	}
	if out := r.refused("up", "--dir", r.dir); !strings.Contains(out, "exists") {
		t.Errorf("up with its namespace taken said %q", out)
	}
	if !namespaceExists(namespaceOf(r.name)) {
		t.Error("a namespace that is not of the lab was removed")
	}
	if err := removeNamespace(namespaceOf(r.name)); err != nil {
		t.Fatal(err)
	}
	r.nothingLeft()
	if err := os.MkdirAll(filepath.Join(r.dir, "mine"), 0o700); err != nil {
		t.Fatal(err)
	}
	if out := r.refused("up", "--dir", r.dir); !strings.Contains(out, "not empty") {
		t.Errorf("up in a directory in use said %q", out)
	}
	if err := os.Remove(filepath.Join(r.dir, "mine")); err != nil {
		t.Fatal(err)
	}
	// An interrupt half-way, when the directory has been filled.
	r2 := request{name: r.name, dir: r.dir, shape: shape{machines: 2, firmware: BIOS, memory: 256, disk: 1 << 20}}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := up(ctx, io.Discard, r2); err == nil || !strings.Contains(err.Error(), "interrupted") || errors.Is(err, context.Canceled) {
		t.Errorf("up with a cancelled context: %v, want an error that says interrupted and is not taken for a clean end", err)
	}
	if entries, err := os.ReadDir(r.dir); err != nil || len(entries) > 0 {
		t.Errorf("the directory that was there before holds %v (%v), want it empty", entries, err)
	}
	if err := os.Remove(r.dir); err != nil {
		t.Fatal(err)
	}
	r.nothingLeft()
}

func TestUpAndDownGoOnWhereAKillCutThemOff(t *testing.T) {
	t.Parallel()
	r := newReal(t, "cut", BIOS)
	up := []string{"lab", "up", "--name", r.name, "-n", "1", "--memory", "256", "--disk", "64M", "--dir", r.dir}
	link := filepath.Join(labs, r.name)
	for _, err := range []error{
		os.MkdirAll(r.dir, 0o700),
		os.WriteFile(filepath.Join(r.dir, "."+stateFile+".new1"), nil, 0o600), // up, killed while it wrote lab.json
		os.MkdirAll(labs, 0o700),
		os.Symlink(filepath.Join(r.dir, "gone"), link), // down, killed before it removed the link
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	// A pipe that the caller left open for lab up ends with lab up: the daemon does not hold it.
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	cmd := exec.Command("/proc/self/exe", up...)
	cmd.ExtraFiles = []*os.File{write}
	out, err := cmd.CombinedOutput()
	write.Close()
	if err != nil {
		t.Fatalf("lab up: %v\n%s", err, out)
	}
	if err := read.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := read.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the daemon holds what lab up inherited: %v", err)
	}
	if out := r.refused("up", "--dir", t.TempDir()); !strings.Contains(out, "there is a lab "+r.name+" in "+r.dir) {
		t.Errorf("up of the same name elsewhere said %q", out)
	}

	daemon := r.state().Daemon
	if err := daemon.end(syscall.SIGKILL, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	// ip netns add, killed between the name and the namespace; and a daemon killed while it wrote lab.json.
	if err := removeNamespace(namespaceOf(r.name)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{filepath.Join(namespaces, namespaceOf(r.name)), filepath.Join(r.dir, "."+stateFile+".new2")} {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// What cannot be removed keeps lab.json, so that down can be typed again.
	machine := filepath.Join(r.dir, "r1n1")
	if err := syscall.Mount("tmpfs", machine, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(machine, syscall.MNT_DETACH) })
	if out := r.refused("down"); !strings.Contains(out, "busy") {
		t.Errorf("down with a busy directory said %q", out)
	}
	if err := syscall.Unmount(machine, 0); err != nil {
		t.Fatal(err)
	}
	if out := r.lab("down"); !strings.Contains(out, "is down and removed") {
		t.Errorf("down again said %q", out)
	}
	if entries, err := os.ReadDir(r.dir); err != nil || len(entries) > 0 {
		t.Errorf("the directory that was there before holds %v (%v), want it empty", entries, err)
	}
	if err := os.Remove(r.dir); err != nil {
		t.Fatal(err)
	}
	r.nothingLeft(daemon)
}
