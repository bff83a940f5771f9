package e2e

import (
	"cmp"
	"crypto/rand"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"muster/internal/api"
	"muster/internal/wire/ipmi/ipmitest"
)

// watchFor is how long consoles are watched: longer than a segment of muster's journal lives, so that all work is in it.
const watchFor = 70 * time.Second

// BenchmarkConsolesBeside is what recording consoles costs, beside conserver and conman, one after the other: %cpu of one core, memory in MB (proportional
// set size of all its processes), lines a second that reached the files, and those that were said. The ratio is the peer's processor time for a line to muster's.
func BenchmarkConsolesBeside(b *testing.B) {
	for _, c := range []struct{ n, rate int }{{1000, 10}, {5000, 1}, {10000, 1}} {
		b.Run(fmt.Sprintf("%dx%d", c.n, c.rate), func(b *testing.B) {
			ours := 0.0
			for _, server := range []struct {
				name string
				run  func(*testing.B, *talkers) (group int, kept func() int64)
			}{{"muster", musterConsoles}, {"conserver", conserver}, {"conman", conman}} {
				b.Run(server.name, func(b *testing.B) {
					talk := newTalkers(b, c.n, c.rate, true)
					group, kept := server.run(b, talk)
					talk.heard(b, server.name == "muster")
					cpu, said, had, began := groupCPU(group), talk.lines(), kept(), time.Now()
					time.Sleep(watchFor)
					took := time.Since(began).Seconds()
					cpu, said, had = groupCPU(group)-cpu, talk.lines()-said, kept()-had
					b.ReportMetric(0, "ns/op")
					b.ReportMetric(100*cpu.Seconds()/took, "%cpu")
					b.ReportMetric(groupMB(group), "MB")
					b.ReportMetric(float64(had)/80/took, "lines/s")
					b.ReportMetric(float64(said)/took, "said/s")
					perLine := cpu.Seconds() / float64(max(1, said))
					if server.name == "muster" {
						ours = perLine
					} else if ours > 0 {
						b.ReportMetric(perLine/ours, "x-muster")
					}
				})
			}
		})
	}
}

// heard waits until every console is connected and has said something; of a peer, until the number grows no more: one fell apart at 3,146.
func (k *talkers) heard(b *testing.B, all bool) {
	b.Helper()
	for before, still := -1, 0; ; time.Sleep(time.Second) {
		up := 0
		for i := range k.sent {
			if k.sent[i].Load() > 0 {
				up++
			}
		}
		if up == len(k.sent) {
			return
		}
		if still++; up > before {
			before, still = up, 0
		}
		if still == 20 {
			if all {
				b.Fatalf("%d of %d consoles are connected", up, len(k.sent))
			}
			b.Skipf("%d of %d consoles are connected here: no figure", up, len(k.sent))
		}
	}
}

// running starts a program in a process group of its own.
func running(b *testing.B, dir, name string, args ...string) int {
	b.Helper()
	out, err := os.Create(filepath.Join(dir, filepath.Base(name)+".out"))
	if err != nil {
		b.Fatal(err)
	}
	c := exec.Command(name, args...)
	c.Dir, c.Stdout, c.Stderr = dir, out, out
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL) // the group that was made two lines above
		_ = c.Wait()
		_ = out.Close()
		if b.Failed() {
			text, _ := os.ReadFile(out.Name())
			b.Logf("%.2000s", text)
		}
	})
	return c.Process.Pid
}

// musterService runs muster with its data under a directory.
func musterService(b *testing.B, dir string) (group int, c *api.Client) {
	b.Helper()
	data := filepath.Join(dir, "data")
	group = running(b, dir, program(b), "serve", "--data", data, "--listen", "127.0.0.1:0", "--log-level", "warn")
	c, err := api.NewClient(api.Options{Server: "unix:" + filepath.Join(data, "muster.sock")})
	if err != nil {
		b.Fatal(err)
	}
	var v api.Version
	for c.Do(b.Context(), "GET", "/v1/version", nil, &v) != nil {
		time.Sleep(100 * time.Millisecond)
	}
	return group, c
}

func musterConsoles(b *testing.B, k *talkers) (int, func() int64) {
	group, c := musterService(b, k.dir)
	b.ReportMetric(groupMB(group), "MB-without")
	in := api.AddNodes{Set: []api.Assignment{
		{Attr: "bmc.driver", Op: "=", Value: "null"}, {Attr: "console.source", Op: "=", Value: "unix:" + k.dir + "/c{n0}"},
	}}
	in.Range.Range = fmt.Sprintf("n[0-%d]", len(k.sent)-1)
	if err := c.Do(b.Context(), "POST", "/v1/nodes/add", in, new(api.Changed)); err != nil {
		b.Fatal(err)
	}
	k.heard(b, true)
	begun(b, c, len(k.sent))
	return group, func() int64 { return recorded(b, c, len(k.sent)) }
}

// begun reads all records once: what is read is in its file, and to make the files is not what is measured. Of the peers they were made at the start.
func begun(b *testing.B, c *api.Client, n int) {
	b.Helper()
	for i := range n {
		r, err := c.Open(b.Context(), fmt.Sprintf("/v1/console/n%d/log?tail=1", i))
		if err != nil {
			b.Fatal(err)
		}
		_ = r.Close()
	}
}

// recorded is how many bytes of output n consoles have; not 0 when all of them are recorded.
func recorded(b *testing.B, c *api.Client, n int) (bytes int64) {
	var all []api.ConsoleInfo
	if err := c.Do(b.Context(), "GET", "/v1/consoles", nil, &all); err != nil {
		b.Fatal(err)
	}
	for _, i := range all {
		if i.State != "recording" {
			return 0
		}
		bytes += i.Bytes
	}
	if len(all) < n {
		return 0
	}
	return bytes
}

// conserver runs conserver with 500 consoles a process, 128 where there are few, as /etc/conserver would say.
func conserver(b *testing.B, k *talkers) (int, func() int64) {
	logs, conf := filepath.Join(k.dir, "logs"), &strings.Builder{}
	fmt.Fprintf(conf, "config * { defaultaccess allowed; }\ndefault * { master localhost; rw *; logfile %s/&; type uds; }\naccess * { trusted 127.0.0.1; }\n", logs)
	for i := range k.sent {
		fmt.Fprintf(conf, "console c%d { uds %s; }\n", i, k.socket(i))
	}
	configure(b, k.dir, logs, "conserver.cf", conf.String())
	each := "128"
	if len(k.sent) > 1000 {
		each = "500"
	}
	return running(b, k.dir, peer(b, "conserver", "conserver-server"), "-C", filepath.Join(k.dir, "conserver.cf"), "-P", "/dev/null", "-p", "33782", "-b", "33800", "-M", "127.0.0.1", "-m", each), func() int64 { return size(logs) }
}

func conman(b *testing.B, k *talkers) (int, func() int64) {
	logs, conf := filepath.Join(k.dir, "logs"), &strings.Builder{}
	fmt.Fprintf(conf, "server port=33790\nserver loopback=on\nserver pidfile=%q\nserver logdir=%q\nglobal log=\"%%N.log\"\n", filepath.Join(k.dir, "pid"), logs)
	for i := range k.sent {
		fmt.Fprintf(conf, "console name=\"c%d\" dev=\"unix:%s\"\n", i, k.socket(i))
	}
	configure(b, k.dir, logs, "conman.conf", conf.String())
	return running(b, k.dir, peer(b, "conmand", "conman"), "-F", "-c", filepath.Join(k.dir, "conman.conf")), func() int64 { return size(logs) }
}

// configure makes the directory of the logs and the configuration file.
func configure(b *testing.B, dir, logs, name, text string) {
	b.Helper()
	if err := cmp.Or(os.MkdirAll(logs, 0o755), os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600)); err != nil {
		b.Fatal(err)
	}
}

// size is how many bytes the files in a directory have.
func size(dir string) (n int64) {
	all, _ := os.ReadDir(dir)
	for _, d := range all {
		if i, err := d.Info(); err == nil {
			n += i.Size()
		}
	}
	return n
}

// members are the processes of a group.
func members(group int) (pids []string) {
	all, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, p := range all {
		if f := statFields(p); len(f) > 20 && f[2] == strconv.Itoa(group) {
			pids = append(pids, filepath.Base(filepath.Dir(p)))
		}
	}
	return pids
}

// statFields are the fields of a process behind its name, from the state on (proc(5)).
func statFields(path string) []string {
	text, _ := os.ReadFile(path)
	return strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
}

// groupCPU is the processor time of a process group so far.
func groupCPU(group int) (d time.Duration) {
	for _, pid := range members(group) {
		f := statFields("/proc/" + pid + "/stat")
		if len(f) > 13 {
			user, _ := strconv.Atoi(f[11])
			system, _ := strconv.Atoi(f[12])
			d += time.Duration(user+system) * time.Second / 100 // USER_HZ
		}
	}
	return d
}

func groupMB(group int) (mb float64) {
	for _, pid := range members(group) {
		text, _ := os.ReadFile("/proc/" + pid + "/smaps_rollup")
		_, rest, _ := strings.Cut(string(text), "\nPss:")
		if f := strings.Fields(rest); len(f) > 0 {
			kb, _ := strconv.Atoi(f[0])
			mb += float64(kb) / 1024
		}
	}
	return mb
}

// BenchmarkConsolesSOL is the same by serial over LAN: BMCs in a process of their own, each with its address, and a line of 80 bytes so many times a second.
func BenchmarkConsolesSOL(b *testing.B) {
	for _, c := range []struct{ n, rate int }{{1000, 1}, {5000, 1}} {
		b.Run(fmt.Sprintf("%dx%d", c.n, c.rate), func(b *testing.B) {
			dir := b.TempDir()
			running(b, dir, os.Args[0], "-test.run=^$", fmt.Sprintf("-console.fleet=%d", c.n), fmt.Sprintf("-console.rate=%d", c.rate))
			group, client := musterService(b, dir)
			secret := api.Assignment{Attr: "bmc.password", Op: "=", Secret: &api.SecretValue{Plain: "secret"}}
			in := api.AddNodes{Set: []api.Assignment{
				{Attr: "bmc.address", Op: "=", Value: "127.10.{n0/250}.{n0%250+1}"},
				{Attr: "bmc.port", Op: "=", Value: strconv.Itoa(fleetPort)},
				{Attr: "bmc.user", Op: "=", Value: "admin"},
				secret,
			}}
			in.Range.Range = fmt.Sprintf("n[0-%d]", c.n-1)
			if err := client.Do(b.Context(), "POST", "/v1/nodes/add", in, new(api.Changed)); err != nil {
				b.Fatal(err)
			}
			began := time.Now()
			for recorded(b, client, c.n) == 0 {
				time.Sleep(time.Second)
			}
			b.ReportMetric(time.Since(began).Seconds(), "s-to-connect")
			begun(b, client, c.n)
			cpu, kept, began := groupCPU(group), recorded(b, client, c.n), time.Now()
			time.Sleep(watchFor)
			took := time.Since(began).Seconds()
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(100*(groupCPU(group)-cpu).Seconds()/took, "%cpu")
			b.ReportMetric(groupMB(group), "MB")
			b.ReportMetric(float64(recorded(b, client, c.n)-kept)/80/took, "lines/s")
		})
	}
}

var (
	fleetSize = flag.Int("console.fleet", 0, "be so many simulated BMCs that talk, and nothing else")
	fleetRate = flag.Int("console.rate", 1, "lines a second of each")
)

const fleetPort = 9625

// fleet is many simulated BMCs until the process is ended.
func fleet() {
	for i := range *fleetSize {
		c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 10, byte(i/250), byte(i%250+1)), Port: fleetPort})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		go talkingBMC(c, i)
	}
	select {}
}

// talkingBMC serves one BMC, whose machine prints lines as soon as it has a console.
func talkingBMC(c *net.UDPConn, i int) {
	b := &ipmitest.BMC{User: "admin", Password: "secret", On: true, Rand: func(p []byte) { _, _ = rand.Read(p) }}
	buf := make([]byte, 2048)
	var console net.Addr
	pause := time.Second / time.Duration(*fleetRate)
	due := time.Now().Add(pause * time.Duration(i%100) / 100)
	for line := 0; ; {
		_ = c.SetReadDeadline(due)
		n, from, err := c.ReadFrom(buf)
		now := time.Now()
		if err == nil {
			console = from
			b.Input(now, slices.Clone(buf[:n]))
		} else if due = due.Add(pause); b.HasLine() {
			s := fmt.Sprintf("console %d line %d ", i, line)
			b.Feed(now, []byte(s+strings.Repeat("x", 78-len(s))+"\r\n"))
			line++
		}
		b.Tick(now)
		for _, p := range b.Output() {
			_, _ = c.WriteTo(p, console)
		}
	}
}

// BenchmarkAttach is how long somebody who attaches waits for the screen, while 1,000 consoles talk; the record of this one fills the ring.
func BenchmarkAttach(b *testing.B) {
	talk := newTalkers(b, 1000, 10, true)
	musterConsoles(b, talk)
	talk.heard(b, true)
	for talk.sent[0].Load() < 1000 { // 80 kB: more than is replayed
		time.Sleep(time.Second)
	}
	c, err := api.NewClient(api.Options{Server: "unix:" + filepath.Join(talk.dir, "data", "muster.sock")})
	if err != nil {
		b.Fatal(err)
	}
	var times []time.Duration
	attach := func() {
		began := time.Now()
		ws, _, err := websocket.Dial(b.Context(), c.URL("/v1/console/n0/attach?cols=80&rows=25"), &websocket.DialOptions{HTTPClient: c.HTTP()})
		if err != nil {
			b.Fatal(err)
		}
		for {
			kind, text, err := ws.Read(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			if kind == websocket.MessageBinary && strings.Contains(string(text), "console 0 line") {
				break
			}
		}
		times = append(times, time.Since(began))
		_ = ws.CloseNow()
	}
	for b.Loop() {
		for range 100 {
			attach()
		}
	}
	b.ReportMetric(0, "ns/op")
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(times[len(times)*99/100].Microseconds())/1000, "p99-ms")
}
