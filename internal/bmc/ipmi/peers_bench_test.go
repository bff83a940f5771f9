package ipmi

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"muster/internal/bmc"
)

// BenchmarkPower_beside_ipmipower asks 500 processes of ipmi_sim for their power, by FreeIPMI's ipmipower and by a cold
// engine in turns, and reports how much of ipmipower's time we need (below 1: less).
func BenchmarkPower_beside_ipmipower(b *testing.B) {
	const n = 500
	if _, err := exec.LookPath("ipmipower"); err != nil {
		b.Skip("ipmipower is not installed (Debian: freeipmi-tools)")
	}
	targets := make([]bmc.Target, n)
	hosts := make([]string, n)
	for i := range n {
		s := startSim(b, fmt.Sprintf("127.9.%d.%d", 210+i/250, i%250+1), "")
		targets[i] = s.target()
		targets[i].Cipher = 3
		hosts[i] = fmt.Sprintf("%s:%d", s.address, s.port)
	}
	conf := b.TempDir() + "/ipmipower.conf"
	if err := os.WriteFile(conf, []byte("username admin\npassword secret\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	all := func() *Engine {
		e, err := New(Options{})
		if err != nil {
			b.Fatal(err)
		}
		if got := askAll(b.Context(), e, n, func(i int) bmc.Target { return targets[i] }); got != n {
			b.Fatalf("%d of %d", got, n)
		}
		return e
	}
	_ = all().Close() // a process that has its port may still be reading its files
	var theirs, ours, theirCPU, ourCPU time.Duration
	missed := 0
	for b.Loop() {
		// On a loaded machine ipmipower gives some sessions up. Such a round is not counted, for neither side.
		for got := 0; got < n; {
			begin := time.Now()
			c := exec.Command("ipmipower", "--config-file", conf, "-h", strings.Join(hosts, ","), "-D", "LAN_2_0", "-I", "3", "-l", "admin", "-W", "opensesspriv", "--stat")
			out, err := c.CombinedOutput()
			got = bytes.Count(out, []byte(": off"))
			if got == n {
				theirs += time.Since(begin)
				theirCPU += c.ProcessState.UserTime() + c.ProcessState.SystemTime()
				break
			}
			if missed += n - got; missed > n || bytes.Count(out, []byte(": session timeout")) != n-got {
				b.Fatalf("ipmipower: %d of %d, %v\n%.900s", got, n, err, regexp.MustCompile(`(?m)^.*: off\n`).ReplaceAll(out, nil))
			}
		}
		cpu := processorTime()
		begin := time.Now()
		e := all()
		ours += time.Since(begin)
		ourCPU += processorTime() - cpu
		_ = e.Close()
	}
	per := func(d time.Duration) float64 { return float64(d.Microseconds()) / float64(b.N) / 1000 }
	b.ReportMetric(per(theirs), "ipmipower-ms")
	b.ReportMetric(per(ours), "ours-ms")
	b.ReportMetric(per(theirCPU), "ipmipower-cpu-ms")
	b.ReportMetric(per(ourCPU), "ours-cpu-ms")
	b.ReportMetric(float64(ours)/float64(theirs), "wall-ratio")
	b.ReportMetric(float64(missed), "ipmipower-missed")
	b.ReportMetric(float64(ourCPU)/float64(theirCPU), "cpu-ratio")
}

// fleetHosts names BMCs of the fleet from one number up to another.
func fleetHosts(from, to int) string {
	var all []string
	for i := from; i < to; i++ {
		all = append(all, fmt.Sprintf("%s:%d", fleetAddress(i), fleetPort))
	}
	return strings.Join(all, ",")
}

// BenchmarkFleet_beside_ipmipower asks the fleet of stubs for its power: ipmipower, then we cold and warm, with 5 % of the BMCs dead where there are 10,000.
// It reports when the live ones have answered, and the processor time of the whole; ratios below 1 are ours.
func BenchmarkFleet_beside_ipmipower(b *testing.B) {
	if _, err := exec.LookPath("ipmipower"); err != nil {
		b.Skip("ipmipower is not installed (Debian: freeipmi-tools)")
	}
	conf := b.TempDir() + "/ipmipower.conf"
	if err := os.WriteFile(conf, []byte("username admin\npassword secret\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	for _, size := range []struct{ n, dead int }{{200, 0}, {500, 0}, {500, 25}, {10000, 500}} {
		b.Run(fmt.Sprintf("n=%d/dead=%d", size.n, size.dead), func(b *testing.B) {
			live := size.n - size.dead
			startFleet(b, live, size.dead)
			var theirs, cold, warm, theirCPU, coldCPU, warmCPU time.Duration
			missed := 0
			for b.Loop() {
				wall, cpu, got := theirPower(b, conf, size.n, live)
				missed += live - got
				theirs += wall
				theirCPU += cpu
				e, err := New(Options{})
				if err != nil {
					b.Fatal(err)
				}
				wall, cpu = ourPower(b, e, size.n, live)
				cold += wall
				coldCPU += cpu
				wall, cpu = ourPower(b, e, size.n, live)
				warm += wall
				warmCPU += cpu
				_ = e.Close()
			}
			per := func(d time.Duration) float64 { return float64(d.Microseconds()) / float64(b.N) / 1000 }
			for name, d := range map[string]time.Duration{
				"ipmipower-ms": theirs, "ipmipower-cpu-ms": theirCPU, "cold-ms": cold, "cold-cpu-ms": coldCPU, "warm-ms": warm, "warm-cpu-ms": warmCPU,
			} {
				b.ReportMetric(per(d), name)
			}
			b.ReportMetric(float64(cold)/float64(theirs), "cold-wall-ratio")
			b.ReportMetric(float64(warm)/float64(theirs), "warm-wall-ratio")
			b.ReportMetric(float64(coldCPU)/float64(theirCPU), "cold-cpu-ratio")
			b.ReportMetric(float64(missed), "ipmipower-missed")
			if _, err := exec.LookPath("ipmitool"); err == nil && size.n == 200 {
				wall, cpu := ipmitoolPower(b, size.n)
				b.ReportMetric(float64(wall.Milliseconds()), "ipmitool-ms")
				b.ReportMetric(float64(cpu.Milliseconds()), "ipmitool-cpu-ms")
				b.ReportMetric(per(cold)/float64(wall.Milliseconds()), "cold-of-ipmitool")
				b.ReportMetric(per(coldCPU)/float64(cpu.Milliseconds()), "cold-cpu-of-ipmitool")
			}
		})
	}
}

// ipmitoolPower runs an ipmitool for each BMC, 64 at once, as administrators do in a loop.
func ipmitoolPower(b *testing.B, n int) (wall, cpu time.Duration) {
	b.Helper()
	begin := time.Now()
	var all errgroup.Group
	all.SetLimit(64)
	spent := make([]time.Duration, n)
	for i := range n {
		all.Go(func() error {
			c := exec.Command("ipmitool", "-I", "lanplus", "-C", "3", "-H", fleetAddress(i), "-p", strconv.Itoa(fleetPort), "-U", "admin", "-P", "secret", "chassis", "power", "status")
			out, err := c.CombinedOutput()
			if err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			spent[i] = c.ProcessState.UserTime() + c.ProcessState.SystemTime()
			return nil
		})
	}
	if err := all.Wait(); err != nil {
		b.Fatal(err)
	}
	for _, t := range spent {
		cpu += t
	}
	return time.Since(begin), cpu
}

// theirPower runs ipmipower and tells when the live BMCs had answered, or it ended. It is stopped then: dead ones cost it 20 s. Of more than 500 BMCs it
// loses most, so it gets them in portions of 500, each with its share of dead ones.
func theirPower(b *testing.B, conf string, n, live int) (wall, cpu time.Duration, got int) {
	b.Helper()
	portions := (n + 499) / 500
	for k := range portions {
		from, to, want := live*k/portions, live*(k+1)/portions, 0
		hosts := fleetHosts(from, to)
		if live < n {
			hosts += "," + fleetHosts(live+(n-live)*k/portions, live+(n-live)*(k+1)/portions)
		}
		c := exec.Command("ipmipower", "--config-file", conf, "-h", hosts, "-D", "LAN_2_0", "-I", "3", "-l", "admin", "-W", "opensesspriv", "--stat")
		out, err := c.StdoutPipe()
		if err != nil {
			b.Fatal(err)
		}
		begin := time.Now()
		if err := c.Start(); err != nil {
			b.Fatal(err)
		}
		last := time.Duration(0)
		for s := bufio.NewScanner(out); want < to-from && s.Scan(); {
			if strings.HasSuffix(s.Text(), ": off") {
				want++
				last = time.Since(begin)
			}
		}
		_ = c.Process.Kill()
		_ = c.Wait()
		wall += last
		cpu += c.ProcessState.UserTime() + c.ProcessState.SystemTime()
		got += want
	}
	return wall, cpu, got
}

// ourPower asks all and tells when the live ones had answered; the dead ones are given up then.
func ourPower(b *testing.B, e *Engine, n, live int) (wall, cpu time.Duration) {
	b.Helper()
	before, begin := processorTime(), time.Now()
	ctx, cancel := context.WithCancel(b.Context())
	var dead sync.WaitGroup
	for i := live; i < n; i++ {
		dead.Go(func() { _, _ = e.Open(fleetTarget(i, 3)).Power(ctx) })
	}
	if got := askAll(ctx, e, live, func(i int) bmc.Target { return fleetTarget(i, 3) }); got != live {
		b.Fatalf("%d of %d answered", got, live)
	}
	wall = time.Since(begin)
	cancel()
	dead.Wait()
	return wall, processorTime() - before
}

// BenchmarkDeadlines is the heap with 10,000 peers: one deadline set and one due, which is more than a command that is answered in time costs.
func BenchmarkDeadlines(b *testing.B) {
	const n = 10000
	var d deadlines
	now := time.Now()
	peers := make([]*peer, n)
	for i := range peers {
		peers[i] = &peer{place: -1}
		d.set(peers[i], now.Add(time.Duration(i*7919%n)*time.Millisecond))
	}
	i := 0
	for b.Loop() {
		p := d[0]
		d.set(p, time.Time{})
		i++
		d.set(p, now.Add(time.Duration(n+i*7919%n)*time.Millisecond))
	}
}

// BenchmarkSensors_beside_ipmi_sensors reads the sensors of processes of ipmi_sim, by FreeIPMI's ipmi-sensors with a new cache and with a full one, and by a
// cold and a warm engine; both read thresholds too. Ratios below 1 are ours.
func BenchmarkSensors_beside_ipmi_sensors(b *testing.B) {
	const n = 20
	if _, err := exec.LookPath("ipmi-sensors"); err != nil {
		b.Skip("ipmi-sensors is not installed (Debian: freeipmi-tools)")
	}
	targets := make([]bmc.Target, n)
	hosts := make([]string, n)
	for i := range n {
		s := startSimWith(b, fmt.Sprintf("127.9.213.%d", i+1), "", simHardware())
		targets[i] = s.target()
		targets[i].Cipher = 3
		hosts[i] = fmt.Sprintf("%s:%d", s.address, s.port)
	}
	theirs := func(cache string) (wall, cpu time.Duration) {
		begin := time.Now()
		c := exec.Command("ipmi-sensors", "-h", strings.Join(hosts, ","), "-u", "admin", "-p", "secret", "-D", "LAN_2_0", "-I", "3", "-l", "admin", "-W", "opensesspriv",
			"--sdr-cache-directory", cache, "--quiet-cache", "--output-sensor-thresholds", "--comma-separated-output", "--no-header-output")
		out, err := c.CombinedOutput()
		if got := bytes.Count(out, []byte("CPU Temp")); got != n {
			b.Fatalf("ipmi-sensors: %d of %d, %v\n%.900s", got, n, err, out)
		}
		return time.Since(begin), c.ProcessState.UserTime() + c.ProcessState.SystemTime()
	}
	ours := func(e *Engine) (wall, cpu time.Duration) {
		before, begin := processorTime(), time.Now()
		var wg sync.WaitGroup
		for _, t := range targets {
			wg.Go(func() {
				if all, err := e.Open(t).Sensors(b.Context()); err != nil || len(all) != len(simSensors)+4 {
					b.Errorf("%d sensors, %v", len(all), err)
				}
			})
		}
		wg.Wait()
		return time.Since(begin), processorTime() - before
	}
	var wall, cpu [4]time.Duration
	add := func(i int, w, c time.Duration) { wall[i] += w; cpu[i] += c }
	for b.Loop() {
		cache := b.TempDir()
		for i := range 2 {
			w, c := theirs(cache)
			add(i, w, c)
		}
		e, err := New(Options{})
		if err != nil {
			b.Fatal(err)
		}
		for i := range 2 {
			w, c := ours(e)
			add(2+i, w, c)
		}
		_ = e.Close()
	}
	for i, name := range []string{"theirs-cold", "theirs-warm", "cold", "warm"} {
		b.ReportMetric(float64(wall[i].Microseconds())/float64(b.N)/1000, name+"-ms")
		b.ReportMetric(float64(cpu[i].Microseconds())/float64(b.N)/1000, name+"-cpu-ms")
	}
	for i, name := range []string{"cold", "warm"} {
		b.ReportMetric(float64(wall[2+i])/float64(wall[i]), name+"-wall-ratio")
		b.ReportMetric(float64(cpu[2+i])/float64(cpu[i]), name+"-cpu-ratio")
	}
}
