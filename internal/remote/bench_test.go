package remote

import (
	"context"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"muster/internal/model"
)

// stubMain is a process that plays a thousand nodes on one port, so that the benchmark counts the client's time only.
func stubMain() {
	key := os.Getenv("MUSTER_REMOTE_STUB")
	if key == "" {
		return
	}
	host, err := ssh.ParsePrivateKey([]byte(key))
	if err != nil {
		panic(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(l.Addr().(*net.TCPAddr).Port)
	serveStub(context.Background(), l, host, func(_ string, ch ssh.Channel) int {
		ch.Write([]byte("6.1.0-50-amd64\n"))
		return 0
	})
}

// BenchmarkRun_stub is a fan-out over stub servers in another process; cpu-ms/host is the client's alone.
func BenchmarkRun_stub(b *testing.B) {
	for _, n := range []int{1000, 5000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			host, hostPEM := newKey(b)
			if blk, _ := pem.Decode(hostPEM); blk == nil {
				b.Fatal("no key")
			}
			cmd := exec.Command(os.Args[0], "-test.run=^$")
			cmd.Env = append(os.Environ(), "MUSTER_REMOTE_STUB="+string(hostPEM))
			out, err := cmd.StdoutPipe()
			if err != nil {
				b.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				b.Fatal(err)
			}
			defer cmd.Wait()
			defer cmd.Process.Kill()
			var port int
			if _, err := fmt.Fscan(out, &port); err != nil {
				b.Fatal(err)
			}
			ours, _ := newKey(b)
			fanOut(b, n, Target{Address: "127.0.0.1", Port: port, HostKeys: []string{authorized(host)}}, Options{Signer: ours})
		})
	}
}

// BenchmarkRun_sshd is the same over one real server; its wall time is the server's.
func BenchmarkRun_sshd(b *testing.B) {
	t, o := sshd(b)
	fanOut(b, 200, t, o)
}

func fanOut(b *testing.B, n int, t Target, o Options) {
	targets := make([]Target, n)
	for i := range targets {
		targets[i] = t
		targets[i].Node = model.NodeName(fmt.Sprint("n", i))
	}
	cpu, start := cpuTime(), time.Now()
	for b.Loop() {
		for r := range Run(b.Context(), targets, "uname -r", o) {
			if r.Err != nil || !strings.Contains(string(r.Stdout), ".") {
				b.Fatal(r.Err)
			}
		}
	}
	hosts := float64(n * b.N)
	b.ReportMetric(float64(cpuTime()-cpu)/1e6/hosts, "cpu-ms/host")
	b.ReportMetric(time.Since(start).Seconds()/float64(b.N), "s/fan-out")
	b.ReportMetric(0, "ns/op")
}

func cpuTime() time.Duration {
	var ru syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &ru)
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}
