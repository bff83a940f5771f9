package ipmi

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"muster/internal/bmc"
	"muster/internal/model"
	"muster/internal/need"
)

// simState is ipmi_sim's callback: power and boot device in files, with shell builtins only.
const simState = `#!/bin/sh
p=$1 op=$2; shift 2
while [ $# -gt 0 ]; do
  k=$1; shift
  if [ "$op" = get ]; then
    v=0; [ "$k" = boot ] && v=default
    [ -r "$p/$k" ] && read -r v < "$p/$k"
    echo "$k:$v"
  else
    v=$1; shift
    case $k in power|boot) echo "$v" > "$p/$k" ;; esac
    echo "$op $k $v" >> "$p/calls"
  fi
done
`

// simBMC is a process of Debian's ipmi_sim.
type simBMC struct {
	dir     string
	address string
	port    int
	cmd     *exec.Cmd
	alive   io.Closer
	log     func(...any)
	said    bytes.Buffer // to be read after the end
}

// startSim starts ipmi_sim on a free port of an address of the loopback. serial, when not empty, is the TCP address that it takes the
// machine's serial line from.
func startSim(tb testing.TB, address, serial string) *simBMC {
	tb.Helper()
	return startSimWith(tb, address, serial, "")
}

// startSimWith gives it hardware by further commands (ipmi_sim_cmd(5)).
func startSimWith(tb testing.TB, address, serial, hardware string) *simBMC {
	tb.Helper()
	need.Programs(tb, "openipmi", "ipmi_sim")
	s := &simBMC{dir: tb.TempDir(), address: address, log: tb.Log}
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(address), 0)))
	if err != nil {
		tb.Fatal(err)
	}
	s.port = c.LocalAddr().(*net.UDPAddr).Port
	_ = c.Close()
	script := filepath.Join(s.dir, "state.sh")
	lan := fmt.Sprintf(`name "sim"
set_working_mc 0x20
  startlan 1
    addr %s %d
    priv_limit admin
    allowed_auths_callback none md2 md5 straight
    allowed_auths_user none md2 md5 straight
    allowed_auths_operator none md2 md5 straight
    allowed_auths_admin none md2 md5 straight
    guid a123456789abcdefa123456789abcdef
  endlan
  chassis_control "%s %s"
`, address, s.port, script, s.dir)
	if serial != "" {
		lan += fmt.Sprintf("  sol \"tcp:%s\" 115200\n", serial)
	}
	lan += `  user 1 false "" "" admin 10 none md2 md5 straight
  user 2 true "admin" "secret" admin 10 none md2 md5 straight
  user 3 true "helper" "secret" operator 10 none md2 md5 straight
`
	emu := "mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02\nsel_enable 0x20 1000 0x0a\n" + hardware + "mc_enable 0x20\n"
	for name, text := range map[string]string{"lan.conf": lan, "sim.emu": emu, "state.sh": simState} {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o755); err != nil {
			tb.Fatal(err)
		}
	}
	tb.Cleanup(s.stop)
	s.start(tb)
	return s
}

func (s *simBMC) start(tb testing.TB) {
	tb.Helper()
	// The shell ends it when we close the pipe or die.
	s.cmd = exec.Command("sh", "-c", `ipmi_sim -n -c "$1/lan.conf" -f "$1/sim.emu" -s "$1/state" </dev/null & read line; kill -9 $! 2>/dev/null; wait`, "sh", s.dir)
	var err error
	if s.alive, err = s.cmd.StdinPipe(); err != nil {
		tb.Fatal(err)
	}
	s.said.Reset()
	s.cmd.Stdout, s.cmd.Stderr = &s.said, &s.said
	if err := s.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	// It has no way to say that it is ready; the kernel shows when it has its port.
	ip := netip.MustParseAddr(s.address).As4()
	entry := fmt.Appendf(nil, " %02X%02X%02X%02X:%04X ", ip[3], ip[2], ip[1], ip[0], s.port)
	eventually(tb, "ipmi_sim", func() bool {
		all, err := os.ReadFile("/proc/net/udp")
		return err == nil && bytes.Contains(all, entry)
	})
}

func (s *simBMC) stop() {
	_ = s.alive.Close()
	_ = s.cmd.Wait()
	if said := s.said.String(); strings.Contains(said, "nable") {
		s.log("ipmi_sim said: " + said)
	}
}

func (s *simBMC) file(name string) string {
	b, _ := os.ReadFile(filepath.Join(s.dir, name))
	return strings.TrimSpace(string(b))
}

func (s *simBMC) target() bmc.Target {
	return bmc.Target{Node: "r1n1", Address: s.address, Port: s.port, User: "admin", Password: model.NewSecret("secret")}
}

func TestSim_power_and_boot_device(t *testing.T) {
	s := startSim(t, "127.9.200.1", "")
	e := startEngine(t, Options{Waits: []time.Duration{20 * time.Second}}) // a repeated packet would be done twice
	d := e.Open(s.target())
	for _, step := range []struct {
		action bmc.Action
		want   bmc.PowerState
	}{{bmc.On, "on"}, {bmc.Reset, "on"}, {bmc.SoftOff, "on"}, {bmc.Off, "off"}, {bmc.On, "on"}, {bmc.Cycle, "off"}} {
		if err := d.SetPower(t.Context(), step.action); err != nil {
			t.Fatalf("%s: %v", step.action, err)
		}
		if got, err := d.Power(t.Context()); err != nil || got != step.want {
			t.Errorf("after %s: got %q %v, want %q", step.action, got, err, step.want)
		}
	}
	if got, want := s.file("calls"), "set power 1\nset reset 1\nset shutdown 1\nset power 0\nset power 1\nset power 0"; got != want {
		t.Errorf("ipmi_sim did:\n%s\nwant:\n%s", got, want)
	}
	for _, b := range []bmc.BootDevice{{Device: "network"}, {Device: "disk"}} {
		if err := d.SetBootDevice(t.Context(), b); err != nil {
			t.Error(err)
		}
		want := map[string]string{"network": "pxe", "disk": "default"}[b.Device]
		if got := s.file("boot"); got != want {
			t.Errorf("boot device %s: ipmi_sim was told %q, want %q", b.Device, got, want)
		}
	}
	if _, err := d.BootDevice(t.Context()); err != nil {
		t.Error(err)
	}
	if got := e.suites[netip.AddrPortFrom(netip.MustParseAddr(s.address), uint16(s.port))]; got != 3 {
		t.Errorf("suite %d, want 3 after a refused 17", got)
	}
}

// ipmi_sim does a repeated packet again, as some BMCs do: a reset must not be repeated, however slow the answer.
func TestSim_reset_is_done_once(t *testing.T) {
	s := startSim(t, "127.9.200.5", "")
	hasty := []time.Duration{time.Millisecond, time.Millisecond, time.Millisecond, 10 * time.Second}
	d := startEngine(t, Options{Waits: hasty}).Open(s.target())
	for range 3 {
		if err := d.SetPower(t.Context(), bmc.Reset); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := s.file("calls"), "set reset 1\nset reset 1\nset reset 1"; got != want {
		t.Errorf("ipmi_sim did:\n%s\nwant:\n%s", got, want)
	}
}

func TestSim_errors(t *testing.T) {
	s := startSim(t, "127.9.200.2", "")
	e := startEngine(t, Options{})
	wrong := s.target()
	wrong.Password = model.NewSecret("guess")
	_, err := e.Open(wrong).Power(t.Context())
	wantError(t, err, bmc.Refused, "BMC "+net.JoinHostPort(s.address, strconv.Itoa(s.port))+" refused user admin")
	t.Log(err)
	unknown := s.target()
	unknown.User = "root"
	_, err = e.Open(unknown).Power(t.Context())
	wantError(t, err, bmc.Refused, "refused user root")
	t.Log(err)
	helper := s.target()
	helper.User = "helper"
	if err := e.Open(helper).SetPower(t.Context(), bmc.On); err != nil {
		t.Errorf("an operator may not power on: %v", err)
	}
	if err := e.Open(s.target()).SetPower(t.Context(), bmc.Diag); err == nil {
		t.Error("ipmi_sim knows the diagnostic interrupt now")
	} else {
		wantError(t, err, bmc.Unsupported, "cannot do this")
	}
}

func TestSim_restart(t *testing.T) {
	s := startSim(t, "127.9.200.3", "")
	d := startEngine(t, Options{Waits: []time.Duration{100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond}}).Open(s.target())
	if _, err := d.Power(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.stop()
	_, err := d.Power(t.Context())
	wantError(t, err, bmc.Timeout, "does not answer")
	s.start(t)
	if _, err := d.Power(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.stop()
	s.start(t)
	if _, err := d.Power(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestSim_serial(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	s := startSim(t, "127.9.200.4", l.Addr().String())
	d := startEngine(t, Options{KeepAlive: 200 * time.Millisecond}).Open(s.target())
	st, err := d.Serial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	machine, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = machine.Close() }()
	exchange(t, st, machine)
	if got, err := d.Power(t.Context()); err != nil || got != bmc.PowerOff {
		t.Errorf("power beside the line: %q %v", got, err)
	}
	if err := st.Break(); err != nil {
		t.Error(err)
	}
	if _, err := st.Write([]byte("x")); err != nil {
		t.Error(err)
	}
	signal := make([]byte, 3)
	if _, err := io.ReadFull(machine, signal); err != nil || string(signal) != "\xff\xf3x" { // a break, in telnet's words
		t.Errorf("break: the machine got % x %v", signal, err)
	}

	// Another console takes the line: an engine of its own, as another service would be.
	other := startEngine(t, Options{}).Open(s.target())
	taken, err := other.Serial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, err = st.Read(make([]byte, 10))
	wantError(t, err, bmc.Lost, "another console took it")
	_ = st.Close()
	exchange(t, taken, machine)
	if err := taken.Close(); err != nil {
		t.Error(err)
	}
	st, err = d.Serial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	exchange(t, st, machine)
	_ = st.Close()
}

// exchange sends text both ways over a line and wants all of it at the other end.
func exchange(t *testing.T, st io.ReadWriter, machine io.ReadWriter) {
	t.Helper()
	down, up := lines(8000), lines(3000)
	done := make(chan error, 2)
	go func() { _, err := machine.Write(down); done <- err }()
	go func() { _, err := st.Write(up); done <- err }()
	check := func(name string, r io.Reader, want []byte) {
		got := make([]byte, len(want))
		if n, err := io.ReadFull(r, got); err != nil || string(got) != string(want) {
			t.Errorf("%s: %d of %d octets, %v\n%q", name, n, len(want), err, got[:n])
		}
	}
	typed := make(chan struct{})
	go func() { check("to the machine", machine, up); close(typed) }()
	check("from the machine", st, down)
	<-typed
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func lines(n int) []byte {
	var b []byte
	for i := 0; len(b) < n; i++ {
		b = fmt.Appendf(b, "%5d the quick brown fox jumps over the lazy dog\r\n", i)
	}
	return b[:n]
}
