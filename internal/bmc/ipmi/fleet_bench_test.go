package ipmi

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"muster/internal/bmc"
	"muster/internal/model"
	"muster/internal/wire/ipmi/ipmitest"
)

// fleetVariable makes the test program a fleet of so many simulated BMCs, in a process of its own so that its
// processor time is not counted with ours; deadVariable of so many more that say nothing. (Nobody at all at an address of the
// loopback would answer at once, by ICMP.)
const (
	fleetVariable = "MUSTER_TEST_FLEET"
	deadVariable  = "MUSTER_TEST_FLEET_DEAD"
)

const fleetPort = 9624

// fleetOr runs the fleet when this process is to be one, else the tests.
func fleetOr(_ *testing.M, run func()) {
	n, _ := strconv.Atoi(os.Getenv(fleetVariable))
	if n == 0 {
		run()
		return
	}
	dead, _ := strconv.Atoi(os.Getenv(deadVariable))
	for i := range n + dead {
		s, err := newStub(fleetAddress(i), fleetPort)
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		s.with(func(b *ipmitest.BMC) { b.Faults.Mute = i >= n })
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin) // until our starter ends
}

func startFleet(tb testing.TB, live, dead int) {
	tb.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", fleetVariable, live), fmt.Sprintf("%s=%d", deadVariable, dead))
	in, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		tb.Fatalf("fleet: %q %v", line, err)
	}
}

func fleetTarget(i, cipher int) bmc.Target {
	return bmc.Target{Address: fleetAddress(i), Port: fleetPort, User: "admin", Password: model.NewSecret("secret"), Cipher: cipher}
}

// askAll asks n BMCs at once and returns how many answered.
func askAll(ctx context.Context, e *Engine, n int, target func(i int) bmc.Target) int {
	var wg sync.WaitGroup
	var mu sync.Mutex
	answered := 0
	for i := range n {
		wg.Go(func() {
			if _, err := e.Open(target(i)).Power(ctx); err == nil {
				mu.Lock()
				answered++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return answered
}

func processorTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkPower asks simulated BMCs for their power: cold opens all sessions first, warm has them.
func BenchmarkPower(b *testing.B) {
	const most = 2000
	startFleet(b, most, 0)
	for _, cipher := range []int{3, 17} {
		for _, n := range []int{200, 500, most} {
			target := func(i int) bmc.Target { return fleetTarget(i, cipher) }
			report := func(b *testing.B, cpu time.Duration) {
				b.ReportMetric(float64((processorTime()-cpu).Microseconds())/float64(b.N*n), "cpu-µs/BMC")
			}
			b.Run(fmt.Sprintf("cold/suite=%d/n=%d", cipher, n), func(b *testing.B) {
				cpu := processorTime()
				for b.Loop() {
					e, err := New(Options{})
					if err != nil {
						b.Fatal(err)
					}
					if got := askAll(b.Context(), e, n, target); got != n {
						b.Fatalf("%d of %d answered", got, n)
					}
					_ = e.Close()
				}
				report(b, cpu)
			})
			b.Run(fmt.Sprintf("warm/suite=%d/n=%d", cipher, n), func(b *testing.B) {
				e := startEngine(b, Options{})
				askAll(b.Context(), e, n, target)
				cpu := processorTime()
				for b.Loop() {
					if got := askAll(b.Context(), e, n, target); got != n {
						b.Fatalf("%d of %d answered", got, n)
					}
				}
				report(b, cpu)
			})
		}
	}
}

// BenchmarkPower_dead asks 500 BMCs of which 5 % are dead, and tells when the live ones have answered.
func BenchmarkPower_dead(b *testing.B) {
	startFleet(b, 475, 25)
	for b.Loop() {
		e, err := New(Options{})
		if err != nil {
			b.Fatal(err)
		}
		ctx, cancel := context.WithCancel(b.Context())
		var dead sync.WaitGroup
		for i := 475; i < 500; i++ {
			dead.Go(func() { _, _ = e.Open(fleetTarget(i, 17)).Power(ctx) })
		}
		if got := askAll(ctx, e, 475, func(i int) bmc.Target { return fleetTarget(i, 17) }); got != 475 {
			b.Fatalf("%d of 475 answered", got)
		}
		cancel()
		dead.Wait()
		_ = e.Close()
	}
}
