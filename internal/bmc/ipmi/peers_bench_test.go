package ipmi

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"muster/internal/bmc"
)

// BenchmarkPower_beside_ipmipower asks 200 processes of ipmi_sim for their power, by FreeIPMI's ipmipower and by a cold
// engine in turns, and reports how much of ipmipower's time we need (below 1: less).
func BenchmarkPower_beside_ipmipower(b *testing.B) {
	const n = 200
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
