package console

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"muster/internal/model"
)

// emitMain is the process that holds the far ends: DIR/c0 … with a line of 80 bytes, rate times a second each. It is
// a process of its own so that the benchmark counts the recorder's time only.
func emitMain() {
	dir := os.Getenv("MUSTER_CONSOLE_EMIT")
	if dir == "" {
		return
	}
	n, _ := strconv.Atoi(os.Getenv("MUSTER_CONSOLE_COUNT"))
	rate, _ := strconv.Atoi(os.Getenv("MUSTER_CONSOLE_RATE"))
	for i := range n {
		l, err := net.Listen("unix", filepath.Join(dir, fmt.Sprint("c", i)))
		if err != nil {
			panic(err)
		}
		go func() {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t := time.NewTimer(time.Second * time.Duration(i%1000) / 1000)
			for k := 0; ; k++ {
				<-t.C
				t.Reset(time.Second / time.Duration(rate))
				s := fmt.Sprintf("console %d line %d ", i, k)
				if _, err := fmt.Fprint(c, s, strings.Repeat("x", 78-len(s)), "\r\n"); err != nil {
					return
				}
			}
		}()
	}
	fmt.Println("ready")
	select {}
}

// BenchmarkConsoles prints what a hub costs with all consoles talking: %cpu of one core, MB resident of the whole process.
func BenchmarkConsoles(b *testing.B) {
	for _, c := range []struct{ n, rate int }{{1000, 10}, {5000, 1}, {9000, 1}} {
		b.Run(fmt.Sprintf("%dx%d_lines_per_s", c.n, c.rate), func(b *testing.B) { benchConsoles(b, c.n, c.rate) })
	}
}

func benchConsoles(b *testing.B, n, rate int) {
	dir := b.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), "MUSTER_CONSOLE_EMIT="+dir, fmt.Sprint("MUSTER_CONSOLE_COUNT=", n), fmt.Sprint("MUSTER_CONSOLE_RATE=", rate))
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	if sc := bufio.NewScanner(out); !sc.Scan() {
		b.Fatal("no emitter")
	}
	h, stop := startHub(b, Options{Dir: b.TempDir(), ConnectRate: 5000})
	defer stop()
	for i := range n {
		set(b, h, model.NodeName(fmt.Sprint("n", i)), "k", func(ctx context.Context) (Stream, error) {
			return Dial(ctx, model.ConsoleSource{Network: "unix", Address: filepath.Join(dir, fmt.Sprint("c", i))})
		})
	}
	watched := rules(b)
	for i := range n {
		h.SetAlarms(model.NodeName(fmt.Sprint("n", i)), watched)
	}
	for up := 0; up < n; time.Sleep(100 * time.Millisecond) {
		up = 0
		for _, i := range h.List() {
			if i.State == Connected && i.Bytes > 0 {
				up++
			}
		}
	}
	for _, c := range h.list() { // making the connections and the files is another matter
		if err := c.flush(false); err != nil {
			b.Fatal(err)
		}
	}
	sum := func() (bytes int64) {
		for _, i := range h.List() {
			bytes += i.Bytes
		}
		return bytes
	}
	b.ResetTimer()
	for range b.N {
		took := 75 * time.Second // longer than a segment of the journal lives: the files, which are there, are written once
		start, cpu, bytes := time.Now(), cpuTime(), sum()
		time.Sleep(took)
		took = time.Since(start)
		b.ReportMetric(100*float64(cpuTime()-cpu)/float64(took), "%cpu")
		b.ReportMetric(float64(sum()-bytes)/80/took.Seconds(), "lines/s")
	}
	var ms runtime.MemStats
	runtime.ReadMemStats(&ms)
	b.ReportMetric(float64(ms.StackInuse)/float64(n), "stack-B/console")
	b.ReportMetric(residentMB(), "MB")
	b.ReportMetric(float64(runtime.NumGoroutine())/float64(n), "goroutines/console")
	b.ReportMetric(0, "ns/op")
}

func cpuTime() time.Duration {
	var ru syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &ru)
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}

func residentMB() float64 {
	p, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(p)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "VmRSS:" {
			kb, _ := strconv.ParseFloat(f[1], 64)
			return kb / 1024
		}
	}
	return 0
}
