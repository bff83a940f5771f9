package sim

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	driver "muster/internal/bmc"
	engine "muster/internal/bmc/ipmi"
	"muster/internal/model"
)

// process is a fleet in a process of its own.
type process struct {
	cmd      *exec.Cmd
	password model.Secret
	udp, tcp uint16
	fleet    Options
}

func startProcess(t testing.TB, args ...string) *process {
	t.Helper()
	dir := t.TempDir()
	p := &process{fleet: Options{First: netip.MustParseAddr("127.22.0.0")}}
	p.udp, p.tcp = freePorts(t)
	p.cmd = exec.Command(os.Args[0], append([]string{
		"sim", "--first", "127.22.0.0", "--ipmi-port", fmt.Sprint(p.udp), "--redfish-port", fmt.Sprint(p.tcp), "--socket", filepath.Join(dir, "sim.sock"), "--deterministic", "7",
	}, args...)...)
	p.cmd.Stderr = os.Stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // the thread that starts it must not end before it
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		_ = p.cmd.Wait()
		runtime.UnlockOSThread()
	})
	lines := bufio.NewScanner(out)
	if !lines.Scan() || !strings.Contains(lines.Text(), "BMCs") {
		t.Fatalf("fleet: %q %v", lines.Text(), lines.Err())
	}
	b, err := os.ReadFile(filepath.Join(dir, "sim.password"))
	if err != nil {
		t.Fatal(err)
	}
	p.password = model.NewSecret(strings.TrimSpace(string(b)))
	return p
}

func (p *process) target(i int) driver.Target {
	return driver.Target{Address: after(p.fleet.First, i+1).String(), Port: int(p.udp), User: "admin", Password: p.password}
}

// resident is what the process has in memory: total and its peak, in MiB, and the processor time it had.
func (p *process) resident(t testing.TB) (now, peak float64, cpu time.Duration) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	field := func(name string) float64 {
		_, rest, _ := strings.Cut(string(b), name+":")
		var kib float64
		_, _ = fmt.Sscan(rest, &kib)
		return kib / 1024
	}
	s, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(s), ") ")
	f := strings.Fields(rest)
	var user, system int64
	_, _ = fmt.Sscan(f[11], &user)
	_, _ = fmt.Sscan(f[12], &system)
	return field("VmRSS"), field("VmHWM"), time.Duration(user+system) * 10 * time.Millisecond
}

// outcomeOf asks all n at once and tells when the last of those that answered did.
func outcomeOf(ctx context.Context, e *engine.Engine, n int, target func(int) driver.Target) (answered int64, last time.Duration) {
	var wg sync.WaitGroup
	var latest atomic.Int64
	var count atomic.Int64
	start := time.Now()
	for i := range n {
		wg.Go(func() {
			if _, err := e.Open(target(i)).Power(ctx); err == nil {
				count.Add(1)
				took := int64(time.Since(start))
				for old := latest.Load(); took > old && !latest.CompareAndSwap(old, took); old = latest.Load() {
				}
			}
		})
	}
	wg.Wait()
	return count.Load(), time.Duration(latest.Load())
}

func ownTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkFleet_power asks 10,000 controllers, 5 % of them dead, for their power: cold opens the sessions, warm has them.
// live-s is when the last of the living had answered.
func BenchmarkFleet_power(b *testing.B) {
	const n, dead = 10000, 500
	p := startProcess(b, "--ipmi", fmt.Sprint(n), "--dead", "5%")
	for b.Loop() {
		e, err := engine.New(engine.Options{})
		if err != nil {
			b.Fatal(err)
		}
		for _, phase := range []string{"cold", "warm"} {
			cpu := ownTime()
			got, last := outcomeOf(b.Context(), e, n, p.target)
			if got != n-dead {
				b.Fatalf("%s: %d of %d answered", phase, got, n-dead)
			}
			b.ReportMetric(last.Seconds(), phase+"-live-s")
			b.ReportMetric((ownTime() - cpu).Seconds(), phase+"-cpu-s")
		}
		_ = e.Close()
	}
	_, peak, cpu := p.resident(b)
	b.ReportMetric(peak, "fleet-peak-MiB")
	b.ReportMetric(cpu.Seconds(), "fleet-cpu-s")
}

// BenchmarkFleet_redfish asks 2,000 controllers for their system over kept connections.
func BenchmarkFleet_redfish(b *testing.B) {
	const n = 2000
	p := startProcess(b, "--ipmi", "0", "--redfish", fmt.Sprint(n), "--profile", "openbmc")
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, MaxIdleConnsPerHost: 1}} //nolint:gosec // what is measured is the fleet
	profile, _ := profileOf("openbmc")
	all := func() time.Duration {
		var wg sync.WaitGroup
		start := time.Now()
		limit := make(chan struct{}, 200)
		for i := range n {
			wg.Go(func() {
				limit <- struct{}{}
				defer func() { <-limit }()
				r, _ := http.NewRequestWithContext(b.Context(), http.MethodGet, fmt.Sprintf("https://%s:%d%s", after(p.fleet.First, i+1), p.tcp, profile.systemPath()), nil)
				r.SetBasicAuth("admin", p.password.Reveal())
				a, err := client.Do(r)
				if err != nil {
					b.Error(err)
					return
				}
				if a.StatusCode != http.StatusOK {
					b.Error(a.Status)
				}
				_, _ = io.Copy(io.Discard, a.Body) // else the connection is not kept
				_ = a.Body.Close()
			})
		}
		wg.Wait()
		return time.Since(start)
	}
	for b.Loop() {
		b.ReportMetric(all().Seconds(), "cold-s")
		b.ReportMetric(all().Seconds(), "warm-s")
	}
	now, peak, _ := p.resident(b)
	b.ReportMetric(now, "fleet-MiB")
	b.ReportMetric(peak, "fleet-peak-MiB")
}

// BenchmarkFleet_consoles has 1,000 serial lines open for 10 s, on which 10 lines a second are said, and counts them.
func BenchmarkFleet_consoles(b *testing.B) {
	const n, rate = 1000, 10
	const long = 10 * time.Second
	p := startProcess(b, "--ipmi", fmt.Sprint(n), "--lines", fmt.Sprint(rate), "--delay", "1ms")
	for b.Loop() {
		e, err := engine.New(engine.Options{})
		if err != nil {
			b.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(b.Context(), long)
		var wg sync.WaitGroup
		var lines, gaps atomic.Int64
		_, _, fleet := p.resident(b)
		cpu := ownTime()
		for i := range n {
			wg.Go(func() {
				d := e.Open(p.target(i))
				_ = d.SetPower(ctx, driver.On)
				s, err := d.Serial(ctx)
				if err != nil {
					b.Error(err)
					return
				}
				stop := context.AfterFunc(ctx, func() { _ = s.Close() })
				defer stop()
				last := int64(-1)
				for r := bufio.NewScanner(s); r.Scan(); {
					words := strings.Fields(r.Text())
					if len(words) < 2 {
						continue
					}
					number, err := strconv.ParseInt(words[1], 10, 64)
					if err != nil {
						continue
					}
					if lines.Add(1); last >= 0 && number != last+1 && number != 0 {
						gaps.Add(1)
					}
					last = number
				}
			})
		}
		wg.Wait()
		cancel()
		_, _, after := p.resident(b)
		b.ReportMetric(float64(lines.Load())/long.Seconds(), "lines/s")
		b.ReportMetric(float64(gaps.Load()), "gaps")
		b.ReportMetric((ownTime()-cpu).Seconds()/long.Seconds()*100, "cpu-%")
		b.ReportMetric((after-fleet).Seconds()/long.Seconds()*100, "fleet-cpu-%")
		_ = e.Close()
	}
}

// The largest fleet of the help text, idle: little memory, and no processor time at all.
func TestFleet_idle_costs_little(t *testing.T) {
	begin := time.Now()
	p := startProcess(t, "--ipmi", "10000", "--redfish", "2000", "--dead", "5%", "--slow", "1%")
	took := time.Since(begin)
	_, _, before := p.resident(t)
	idle := time.NewTimer(2 * time.Second)
	<-idle.C
	now, peak, cpu := p.resident(t)
	t.Logf("ready in %v; %.0f MiB resident, peak %.0f; %v of processor time to start, %v in 2 s idle", took.Round(time.Millisecond), now, peak, before, cpu-before)
	if peak > 300 {
		t.Errorf("%.0f MiB, want at most 300", peak)
	}
	if cpu-before > 200*time.Millisecond {
		t.Errorf("%v of processor time in 2 s without a packet", cpu-before)
	}
}
