package sim

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"

	"muster/internal/model"
	"muster/internal/need"
)

// startAddress is that before the first controller of fleets in tests.
var startAddress = mustAddress("127.21.0.0")

func mustAddress(s string) netip.Addr { return netip.MustParseAddr(s) }

// startFleet runs a fleet on free ports of 127.21.0.0 and up until the test ends.
func startFleet(t testing.TB, o Options) *Fleet {
	t.Helper()
	o.Prefix, o.User, o.Password, o.First = "n", "admin", model.NewSecret("secret"), startAddress
	if o.Seed == 0 {
		o.Seed = 7
	}
	f, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return f
}

// freePorts are two that were free when it was asked.
func freePorts(t testing.TB) (udp, tcp uint16) {
	t.Helper()
	u, err := net.ListenPacket("udp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = u.Close(), l.Close() }()
	return uint16(u.LocalAddr().(*net.UDPAddr).Port), uint16(l.Addr().(*net.TCPAddr).Port)
}

// tool runs a program of somebody else and returns what it says.
func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	need.Programs(t, "ipmitool freeipmi-tools curl", name)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, name, args...)
	c.Env = append(os.Environ(), "HOME="+t.TempDir())
	out, err := c.CombinedOutput()
	if err != nil {
		t.Errorf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (b *bmc) ipmitool(t *testing.T, how string, args ...string) string {
	t.Helper()
	return tool(t, "ipmitool", append([]string{"-I", how, "-H", b.address.Addr().String(), "-p", fmt.Sprint(b.address.Port()), "-U", "admin", "-P", "secret"}, args...)...)
}

func want(t *testing.T, what, got string, patterns ...string) {
	t.Helper()
	for _, p := range patterns {
		if !regexp.MustCompile(p).MatchString(got) {
			t.Errorf("%s: no %q in\n%s", what, p, got)
		}
	}
}

func (b *bmc) turn(on bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.machine.on, b.machine.since = on, time.Now()
}

// What ipmitool understands of a controller, over RMCP+ with both suites and over IPMI 1.5.
func TestIPMItool(t *testing.T) {
	f := startFleet(t, Options{IPMI: 3, Delay: time.Millisecond})
	b := &f.bmcs[0]
	for _, how := range [][]string{{"lanplus", "-C", "17"}, {"lanplus", "-C", "3"}, {"lan"}, {"lan", "-A", "PASSWORD"}} {
		t.Run(strings.Join(how, " "), func(t *testing.T) {
			b.turn(true)
			ask := func(args ...string) string {
				return b.ipmitool(t, how[0], append(how[1:len(how):len(how)], args...)...)
			}
			want(t, "chassis status", ask("chassis", "status"), `System Power +: on`, `Last Power Event +: command`)
			want(t, "sdr", ask("sdr", "elist", "full"), `CPU1 Temp +\| 02h \| ok +\| +3\.1 \| \d+ degrees C`, `Fan 1 .* RPM`, `PSU1 12V .*12\.\d+ Volts`, `Power .* \d+ Watts`)
			want(t, "compact records", ask("sdr", "elist", "compact"), `ACPI State .*S0/G0`, `PSU1 Status .*Presence detected`)
			want(t, "sensor get", ask("sensor", "get", "CPU1 Temp"), `Upper Critical +: 95\.000`, `Upper Non-Critical +: 85\.000`)
			want(t, "fru", ask("fru", "print"), `Chassis Serial +: `+b.machine.serial(), `Board Product +: simulated board`, `Product Part Number +: SIM-2`)
			want(t, "lan print", ask("lan", "print", "1"), `IP Address +: 127\.21\.0\.1`, macText(b.machine.mac(0)), `Cipher Suite Max|RMCP\+ Cipher Suites +: 3,17`)
			want(t, "user list", ask("user", "list", "1"), `2 +admin +.*ADMINISTRATOR`, `3 +operator +.*OPERATOR`, `4 .*NO ACCESS`)
			want(t, "mc info", ask("mc", "info"), `IPMI Version +: 2\.0`, `Chassis Device`, `FRU Inventory Device`)
			want(t, "mc guid", ask("mc", "guid"), `System GUID +: `+b.machine.uuidText())
			want(t, "bootdev", ask("chassis", "bootdev", "pxe", "options=efiboot,persistent"), `Set Boot Device to pxe`)
			want(t, "bootparam", ask("chassis", "bootparam", "get", "5"), `all future boots`, `EFI boot`, `Force PXE`)
			want(t, "sel", ask("sel", "list"), `System ACPI Power State .*(S0/G0: working|S5/G2: soft-off)`)
			ask("sel", "clear")
			want(t, "sel cleared", ask("sel", "info"), `Entries +: 0`)
			ask("chassis", "power", "off")
			want(t, "power", ask("chassis", "power", "status"), `is off`)
			want(t, "sensors of a machine that is off", ask("sdr", "elist", "full"), `CPU1 Temp .*No Reading`, `Inlet Temp .* degrees C`)
			want(t, "the event", ask("sel", "elist"), `ACPI State .*S5/G2`)
		})
	}
	t.Run("accounts", func(t *testing.T) {
		b := &f.bmcs[1]
		ask := func(args ...string) string { return b.ipmitool(t, "lanplus", args...) }
		ask("user", "set", "name", "4", "ann")
		ask("user", "set", "password", "4", "pencil")
		ask("user", "priv", "4", "3", "1")
		ask("user", "enable", "4")
		want(t, "user list", ask("user", "list", "1"), `4 +ann +.*OPERATOR`)
		want(t, "as ann", tool(t, "ipmitool", "-I", "lanplus", "-H", "127.21.0.2", "-p", fmt.Sprint(b.address.Port()), "-U", "ann", "-P", "pencil", "-L", "OPERATOR", "power", "status"), `Power is`)
		if f.bmcs[2].users[1].name != "admin" || len(f.bmcs[2].users) != 3 {
			t.Error("an account that was made on one controller is on another")
		}
	})
}

func TestFreeIPMI(t *testing.T) {
	f := startFleet(t, Options{IPMI: 5, Delay: time.Millisecond})
	for i := range f.bmcs {
		f.bmcs[i].turn(i != 2)
	}
	for _, driver := range []string{"LAN", "LAN_2_0"} {
		t.Run(driver, func(t *testing.T) {
			run := func(name, hosts string, args ...string) string {
				return tool(t, name, append([]string{"-D", driver, "-u", "admin", "-p", "secret", "-h", fmt.Sprintf("%s:%d", hosts, f.opt.IPMIPort)}, args...)...)
			}
			want(t, "ipmipower", run("ipmipower", "127.21.0.[1-5]", "--stat"), `127\.21\.0\.1: on`, `127\.21\.0\.3: off`, `127\.21\.0\.5: on`)
			cache := "--sdr-cache-directory=" + t.TempDir()
			want(t, "ipmi-sensors", run("ipmi-sensors", "127.21.0.1", cache, "-Q"), `CPU1 Temp +\| Temperature`, `Fan 3 +\| Fan .* RPM`, `'S0/G0'`)
			want(t, "ipmi-sel", run("ipmi-sel", "127.21.0.1", cache, "-Q"), `ACPI State +\| System ACPI Power State +\| S0/G0`)
			want(t, "ipmi-fru", run("ipmi-fru", "127.21.0.1", cache, "-Q"), `FRU Chassis Serial Number: `+f.bmcs[0].machine.serial(), `FRU Board Product Name: simulated board`)
			run("ipmipower", "127.21.0.4", "--off")
			want(t, "off", run("ipmipower", "127.21.0.4", "--stat"), `: off`)
			f.bmcs[3].turn(true)
		})
	}
}

// A controller that knows IPMI 1.5 only refuses nothing: it is as if RMCP+ had not been invented.
func TestIPMItool_a_controller_of_version_15(t *testing.T) {
	f := startFleet(t, Options{IPMI: 1, Version15: 1})
	b := &f.bmcs[0]
	want(t, "mc info", b.ipmitool(t, "lan", "mc", "info"), `IPMI Version +: 1\.5`)
	need.Programs(t, "ipmitool", "ipmitool")
	out, err := exec.Command("ipmitool", "-I", "lanplus", "-N", "1", "-R", "0", "-H", "127.21.0.1", "-p", fmt.Sprint(b.address.Port()), "-U", "admin", "-P", "secret", "power", "status").CombinedOutput()
	if err == nil {
		t.Errorf("lanplus worked: %s", out)
	}
}

// What a console gets are all lines from one number on, none missing and none twice, although the network loses,
// repeats and reorders packets.
func TestIPMItool_serial_over_LAN_loses_no_line(t *testing.T) {
	need.Programs(t, "ipmitool", "ipmitool")
	f := startFleet(t, Options{IPMI: 1, Lines: 200})
	b := &f.bmcs[0]
	b.turn(true)
	c := exec.CommandContext(t.Context(), "ipmitool", "-I", "lanplus", "-H", "127.21.0.1", "-p", fmt.Sprint(b.address.Port()), "-U", "admin", "-P", "secret", "sol", "activate")
	terminal, err := pty.Start(c)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = terminal.Close()
		_ = c.Wait()
	}()
	text := make(chan string)
	go func() {
		var all strings.Builder
		buf := make([]byte, 4096)
		for strings.Count(all.String(), "\n") < 600 {
			n, err := terminal.Read(buf)
			all.Write(buf[:n])
			if err != nil {
				break
			}
			if strings.Count(all.String(), "\n") > 20 && b.faultless() {
				_, _ = f.Fault("n1", []string{"drop=5%", "duplicate=10%", "reorder=10%"})
			}
		}
		text <- all.String()
	}()
	var got string
	select {
	case got = <-text:
	case <-time.After(50 * time.Second):
		t.Fatal("no 600 lines in 50 s")
	}
	_, _ = f.Fault("n1", []string{"none"})
	_, _ = io.WriteString(terminal, "\r~.")
	numbers := regexp.MustCompile(`n1 (\d{10}) the`).FindAllStringSubmatch(got, -1)
	var last int
	for i, m := range numbers {
		var n int
		_, _ = fmt.Sscanf(m[1], "%d", &n)
		if i > 0 && n != last+1 {
			t.Fatalf("line %d came after line %d", n, last)
		}
		last = n
	}
	if len(numbers) < 500 {
		t.Errorf("%d lines of 600\n%.2000s", len(numbers), got)
	}
}

func (b *bmc) faultless() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.faults == Faults{}
}

// curl verifies the certificate with the fleet's authority and logs in, with a name or with a session.
func TestCurl(t *testing.T) {
	f := startFleet(t, Options{Redfish: len(profiles), Delay: time.Millisecond})
	authority := filepath.Join(t.TempDir(), "authority.pem")
	if err := os.WriteFile(authority, f.Authority(), 0o600); err != nil {
		t.Fatal(err)
	}
	for i := range f.bmcs {
		b := &f.bmcs[i]
		p := b.redfish.profile
		t.Run(p.name, func(t *testing.T) {
			url := "https://" + b.address.String()
			curl := func(args ...string) string {
				return tool(t, "curl", append([]string{"-sS", "-w", " status=%{http_code}", "--cacert", authority, "-u", "admin:secret"}, args...)...)
			}
			want(t, "root", curl(url+"/redfish/v1"), `"RedfishVersion":"`+p.version+`"`, `status=200`)
			want(t, "system", curl(url+p.systemPath()), `"PowerState":"O`, `"`+p.led+`":`, `"SerialNumber":"`+b.machine.serial()+`"`)
			want(t, "expand", curl("-g", url+"/redfish/v1/Systems?$expand=*($levels=1)"), map[bool]string{true: `"Members":\[\{.*"PowerState":`, false: `status=501`}[p.expand])
			change := []string{"-X", "PATCH", "-H", "Content-Type: application/json", "-d", `{"Boot":{"BootSourceOverrideTarget":"Pxe","BootSourceOverrideEnabled":"Once"}}`, url + p.systemPath()}
			if p.ifMatch {
				want(t, "change without ETag", curl(change...), `status=428`)
				want(t, "change with a wrong one", curl(append(change, "-H", `If-Match: "0"`)...), `status=412`)
				change = append(change, "-H", "If-Match: *")
			}
			want(t, "change", curl(change...), `"BootSourceOverrideTarget":"Pxe"`, `status=200`)
			b.turn(false)
			want(t, "reset", curl("-d", `{"ResetType":"On"}`, url+p.systemPath()+"/Actions/ComputerSystem.Reset"), `status=204`)
			eventually(t, "power", func() bool { return strings.Contains(curl(url+p.systemPath()), `"PowerState":"On"`) })
			want(t, "one-shot override", curl(url+p.systemPath()), `"BootSourceOverrideEnabled":"Disabled"`)
			login := curl("-D", "-", "-d", `{"UserName":"admin","Password":"secret"}`, url+"/redfish/v1/SessionService/Sessions")
			if !p.sessions {
				want(t, "no sessions", login, `status=404`)
				return
			}
			want(t, "login", login, `status=201`)
			token := regexp.MustCompile(`(?i)X-Auth-Token: (\w+)`).FindStringSubmatch(login)
			want(t, "with token", tool(t, "curl", "-sS", "--cacert", authority, "-H", "X-Auth-Token: "+token[1], url+p.managerPath()), `"FirmwareVersion":"2\.10\.0"`)
			if p.events {
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				c := exec.CommandContext(ctx, "curl", "-sSN", "--cacert", authority, "-u", "admin:secret", url+eventPath)
				out, err := c.StdoutPipe()
				if err != nil {
					t.Fatal(err)
				}
				if err := c.Start(); err != nil {
					t.Fatal(err)
				}
				defer func() { _ = c.Wait() }()
				defer cancel()
				buf, seen := make([]byte, 4096), ""
				for !strings.Contains(seen, "diagnostic interrupt") {
					n, err := out.Read(buf)
					if seen += string(buf[:n]); err != nil {
						t.Fatalf("events: %q %v", seen, err)
					}
					if strings.HasPrefix(seen, ": here") && !strings.Contains(seen, "data:") {
						curl("-d", `{"ResetType":"Nmi"}`, url+p.systemPath()+"/Actions/ComputerSystem.Reset")
					}
				}
			}
		})
	}
}

// eventually waits for a condition that comes with time.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("no %s in 20 s", what)
		}
	}
}
