package e2e

import (
	"bufio"
	"bytes"
	"cmp"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"muster/internal/api"
)

// The figures of a site, through the whole service and the command line, as processes that nobody here is inside of. Each step is
// a benchmark of its own with the wall time, the processor time of the service and of the client, and the bytes between them.

// ownValues are what each node of a real site has of its own.
func ownValues(i int) map[string]string {
	a, b, c := i>>16, i>>8&255, i&255
	return map[string]string{
		"bmc.address":      fmt.Sprintf("10.%d.%d.%d", a, b, c),
		"bmc.password":     fmt.Sprintf("secret of node %d", i),
		"net.boot.mac":     fmt.Sprintf("52:54:00:%02x:%02x:%02x", a, b, c),
		"net.boot.address": fmt.Sprintf("10.%d.%d.%d", 100+a, b, c),
		"net.ib0.mac":      fmt.Sprintf("52:54:01:%02x:%02x:%02x", a, b, c),
		"net.ib0.address":  fmt.Sprintf("10.%d.%d.%d", 200+a, b, c),
		"location.rack":    strconv.Itoa(i / 40),
		"location.unit":    strconv.Itoa(i%40 + 1),
		"custom.serial":    fmt.Sprintf("CZ%08X", i*2654435761&0xffffffff),
		"custom.asset":     strconv.Itoa(700_000 + i),
		"custom.guid":      fmt.Sprintf("0x%016x", i*0x9e3779b9),
		"custom.switch":    fmt.Sprintf("sw%d", i/48),
		"custom.port":      strconv.Itoa(i % 48),
		"custom.owner":     fmt.Sprintf("project%d", i%97),
	}
}

// restValues are the other 26: 22 values and 4 expressions. No BMC is looked for: its driver is null.
func restValues() map[string]string {
	m := map[string]string{
		"bmc.user": "admin", "bmc.driver": "null", "console.speed": "115200", "net.boot.prefix": "16", "net.ib0.prefix": "16",
		"location.site": "main", "location.room": "hall2", "boot.count": "3",
		"custom.row": "{n1/40}", "custom.bmcname": "{nodename}-bmc", "custom.ibname": "{nodename}-ib", "net.boot.gateway": "10.{n1/65536+100}.0.1",
	}
	for i := range 26 - len(m) {
		m["custom.setting"+strconv.Itoa(i)] = "value of setting " + strconv.Itoa(i)
	}
	return m
}

func groupNames() (names []string) {
	for i := range 9 {
		names = append(names, "group"+strconv.Itoa(i))
	}
	return names
}

func nodeName(i int) string { return fmt.Sprintf("r%dn%d", i/1000+1, i%1000+1) }

// rowsFor are n nodes, with the given values besides their own.
func rowsFor(n int, rest map[string]string) []api.Row {
	rows := make([]api.Row, n)
	for i := range rows {
		values := ownValues(i)
		maps.Copy(values, rest)
		set := []api.Assignment{{Attr: "groups", Value: strings.Join(groupNames(), ",")}}
		for _, a := range slices.Sorted(maps.Keys(values)) {
			as := api.Assignment{Attr: a, Value: values[a]}
			if a == "bmc.password" {
				as.Value, as.Secret = "", &api.SecretValue{Plain: values[a]}
			}
			set = append(set, as)
		}
		rows[i] = api.Row{Line: i + 2, Range: nodeName(i), Set: set}
	}
	return rows
}

// writeCSV writes the same as a table.
func writeCSV(path string, rows []api.Row) error {
	var b bytes.Buffer
	b.WriteString("node")
	for _, a := range rows[0].Set {
		b.WriteString("," + a.Attr)
	}
	for _, r := range rows {
		b.WriteString("\n" + r.Range)
		for _, a := range r.Set {
			v := a.Value
			if a.Secret != nil {
				v = a.Secret.Plain
			}
			if strings.ContainsAny(v, ",\"") {
				v = `"` + v + `"`
			}
			b.WriteString("," + v)
		}
	}
	b.WriteByte('\n')
	return os.WriteFile(path, b.Bytes(), 0o600)
}

// benchSite is a service as a process, with a socket in front of it that counts what goes by.
type benchSite struct {
	b    *testing.B
	dir  string
	cmd  *exec.Cmd
	wire atomic.Int64
	api  string // address of the API over TLS
}

// program is the built muster; benchmarks do not build it.
func program(b *testing.B) string {
	path, err := filepath.Abs(cmp.Or(os.Getenv("MUSTER_BENCH"), "../muster")) // another one, to compare with
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		b.Skip("no muster is built: make muster")
	}
	return path
}

func newBenchSite(b *testing.B) *benchSite {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		b.Fatal(err)
	}
	s := &benchSite{b: b, dir: dir}
	b.Cleanup(func() {
		if s.cmd != nil {
			_ = s.cmd.Process.Kill()
			_ = s.cmd.Wait()
		}
		_ = os.RemoveAll(dir)
	})
	l, err := net.Listen("unix", filepath.Join(dir, "counted"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close() })
	go s.count(l)
	return s
}

func (s *benchSite) socket() string { return filepath.Join(s.dir, "data", "muster.sock") }

// count passes connections on to the service.
func (s *benchSite) count(l net.Listener) {
	for {
		from, err := l.Accept()
		if err != nil {
			return
		}
		to, err := net.Dial("unix", s.socket())
		if err != nil {
			_ = from.Close()
			continue
		}
		pass := func(to, from *net.UnixConn) {
			_, _ = io.Copy(io.MultiWriter(to, counter{&s.wire}), from)
			_ = to.CloseWrite()
		}
		go pass(to.(*net.UnixConn), from.(*net.UnixConn))
		go pass(from.(*net.UnixConn), to.(*net.UnixConn))
	}
}

// counter counts what is written to it.
type counter struct{ n *atomic.Int64 }

func (c counter) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return len(p), nil
}

// start starts the service and returns how long it took until it was ready.
func (s *benchSite) start() time.Duration {
	began := time.Now()
	s.cmd = exec.Command(program(s.b), "serve", "--data", filepath.Join(s.dir, "data"), "--listen", "127.0.0.1:0", "--log-level", "warn")
	out, err := s.cmd.StderrPipe()
	if err != nil {
		s.b.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		s.b.Fatal(err)
	}
	in := bufio.NewScanner(out)
	for in.Scan() {
		if _, at, ok := strings.Cut(in.Text(), ", API https://"); ok {
			s.api, _, _ = strings.Cut(at, " ")
			took := time.Since(began)
			go func() { _, _ = io.Copy(io.Discard, out) }()
			return took
		}
		s.b.Log(in.Text())
	}
	s.b.Fatal("the service ended before it was ready")
	return 0
}

func (s *benchSite) stop() time.Duration {
	began := time.Now()
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	if err := s.cmd.Wait(); err != nil {
		s.b.Fatal(err)
	}
	s.cmd = nil
	return time.Since(began)
}

// cpu is the processor time of the service so far (clock_getcpuclockid(3)).
func (s *benchSite) cpu() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^s.cmd.Process.Pid<<3|2), &t); err != nil {
		s.b.Fatal(err)
	}
	return time.Duration(t.Nano())
}

// memory is a line of the service's status in MB.
func (s *benchSite) memory(name string) float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		s.b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), name+":")
	kb, _ := strconv.Atoi(strings.Fields(rest)[0])
	return float64(kb) / 1024
}

// reportMemory tells the memory after a rest in which nothing is asked: of what was freed the system has all back then.
func (s *benchSite) reportMemory(b *testing.B) {
	time.Sleep(8 * time.Second)
	b.ReportMetric(s.memory("VmRSS"), "MB")
	b.ReportMetric(s.memory("RssFile"), "MB-file") // of the database and the program: the system takes it back when it needs it
	b.ReportMetric(s.memory("VmHWM"), "MB-peak")
}

// muster runs a command of the command line, and discards what it prints.
func (s *benchSite) muster(socket string, args ...string) *exec.Cmd {
	c := exec.Command(program(s.b), args...)
	var stderr bytes.Buffer
	c.Env = append(os.Environ(), "MUSTER_SERVER=unix:"+socket)
	c.Stderr = &stderr
	if err := c.Run(); err != nil {
		s.b.Fatalf("muster %s: %v %.2000s", strings.Join(args, " "), err, stderr.Bytes())
	}
	return c
}

// under runs a part of the benchmark.
func (s *benchSite) under(name string, do func(b *testing.B)) {
	all := s.b
	defer func() { s.b = all }()
	all.Run(name, func(b *testing.B) {
		s.b = b
		b.ReportMetric(0, "ns/op")
		do(b)
	})
}

// step measures a command: wall time, the service's and the client's processor time, and, by a further run or the same one where it cannot be
// repeated, the bytes on the wire.
func (s *benchSite) step(name string, times int, args ...string) {
	s.under(name, func(b *testing.B) {
		var client, wall time.Duration
		socket := s.socket()
		if times == 1 {
			socket = filepath.Join(s.dir, "counted")
		}
		before, bytes := s.cpu(), s.wire.Load()
		for range times {
			began := time.Now()
			c := s.muster(socket, args...)
			wall += time.Since(began)
			client += c.ProcessState.UserTime() + c.ProcessState.SystemTime()
		}
		used := s.cpu() - before
		if times > 1 {
			s.muster(filepath.Join(s.dir, "counted"), args...)
		}
		s.report(b, wall, used, client, s.wire.Load()-bytes, times)
	})
}

func (s *benchSite) report(b *testing.B, wall, server, client time.Duration, wire int64, times int) {
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 / float64(times) }
	b.ReportMetric(ms(wall), "ms")
	b.ReportMetric(ms(server), "server-cpu-ms")
	if client > 0 {
		b.ReportMetric(ms(client), "client-cpu-ms")
	}
	b.ReportMetric(float64(wire)/1e6, "MB-wire")
}

// post asks the API itself, without the command line's parsing.
func (s *benchSite) post(name, path string, in any) {
	s.under(name, func(b *testing.B) {
		c, err := api.NewClient(api.Options{Server: "unix:" + filepath.Join(s.dir, "counted")})
		if err != nil {
			b.Fatal(err)
		}
		before, bytes, began := s.cpu(), s.wire.Load(), time.Now()
		if err := c.Do(b.Context(), http.MethodPost, path, in, new(api.Changed)); err != nil {
			b.Fatal(err)
		}
		s.report(b, time.Since(began), s.cpu()-before, 0, s.wire.Load()-bytes, 1)
		c.HTTP().CloseIdleConnections()
	})
}

// benchKinds: of a site's 40 attributes each node has 14 of its own, and the others through ten groups; of a strict one, all.
var benchKinds = []string{"site", "strict"}

func BenchmarkService(b *testing.B) {
	for _, kind := range benchKinds {
		for _, n := range []int{1_000, 10_000, 100_000} {
			b.Run(kind+"/"+strconv.Itoa(n), func(b *testing.B) { benchService(b, kind, n) })
		}
	}
}

func benchService(b *testing.B, kind string, n int) {
	s := newBenchSite(b)
	rest := restValues()
	own := map[string]string{}
	if kind == "strict" {
		own = rest
	}
	rows := rowsFor(n, own)
	csv := filepath.Join(s.dir, "nodes.csv")
	if err := writeCSV(csv, rows); err != nil {
		b.Fatal(err)
	}
	s.start()
	if kind == "site" {
		names := slices.Sorted(maps.Keys(rest))
		for g, group := range append(groupNames(), "everything") {
			args := []string{"group", "add", group}
			if group == "everything" {
				args = []string{"group", "set", group}
			}
			for i := g; i < len(names); i += 10 {
				args = append(args, names[i]+"="+rest[names[i]])
			}
			s.muster(s.socket(), args...)
		}
	}
	s.step("define_csv", 1, "node", "add", "-f", csv)
	s.under("memory_defined", s.reportMemory)
	_ = os.Remove(csv)
	s.step("set_group", 5, "group", "set", "group3", "custom.of=x")
	s.step("set_each", 1, "set", "everything", "custom.owner=everybody", "--yes")
	s.step("get_one", 10, "get", "everything", "net.boot.address")
	s.step("get_expression", 10, "get", "everything", "custom.bmcname")
	s.step("range", 10, "expand", "group3,-~r.*n.*[3-7],(location.rack=~.*1@~r1.*|r2.*),-custom.serial=~.*3")
	s.step("get_own_yaml", 1, "get", "everything", "--own", "--yaml")
	s.step("one_node_command", 20, "get", "r1n7", "bmc.address")
	s.under("stop", func(b *testing.B) { b.ReportMetric(float64(s.stop().Milliseconds()), "ms") })
	s.under("cold_start", func(b *testing.B) {
		b.ReportMetric(float64(s.start().Milliseconds()), "ms")
		b.ReportMetric(float64(s.cpu().Milliseconds()), "server-cpu-ms")
	})
	s.under("memory_restarted", s.reportMemory)
	s.post("define_api", "/v1/nodes/add", api.AddNodes{Rows: renamed(rows)})
}

// renamed are the same nodes by other names and addresses, to be added once more.
func renamed(rows []api.Row) []api.Row {
	rows = rows[:min(len(rows), 10_000)]
	for i := range rows {
		rows[i].Range = "x" + rows[i].Range
		rows[i].Set = slices.DeleteFunc(rows[i].Set, func(a api.Assignment) bool {
			return strings.HasSuffix(a.Attr, ".mac") || strings.HasSuffix(a.Attr, ".address")
		})
	}
	return rows
}
