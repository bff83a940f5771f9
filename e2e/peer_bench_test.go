package e2e

import (
	"bytes"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"muster/internal/api"
)

// peer looks for a program that nobody here wrote; without it the benchmark is skipped with a line that says so.
func peer(b *testing.B, name, pkg string) string {
	path, err := exec.LookPath(name)
	if err != nil {
		b.Skip("no " + name + " here: apt-get install -y " + pkg)
	}
	return path
}

// loadTime is how long one load is.
const loadTime = 3 * time.Second

// wantedRate is how many requests a second are to be answered.
const wantedRate = 15_000

// BenchmarkGET asks for one node of 10,000, over connections that are kept, each waiting for its answer before it asks again: h2load over
// the unix socket, ab over TLS with a client certificate. The clients run on the same processors.
func BenchmarkGET(b *testing.B) {
	s := newBenchSite(b)
	s.start()
	rows := rowsFor(10_000, nil)
	c, err := api.NewClient(api.Options{Server: "unix:" + s.socket()})
	if err != nil {
		b.Fatal(err)
	}
	if err := c.Do(b.Context(), "POST", "/v1/set", everything(restValues()), new(api.Changed)); err != nil {
		b.Fatal(err)
	}
	if err := c.Do(b.Context(), "POST", "/v1/nodes/add", api.AddNodes{Rows: rows}, new(api.Changed)); err != nil {
		b.Fatal(err)
	}
	const path = "/v1/nodes/r3n77?attrs=net.boot.address,bmc.user"
	p99 := map[string]float64{} // by name and connections, µs
	unix := func(name, socket string, connections int, more ...string) {
		name = fmt.Sprintf("%s/%d", name, connections)
		s.under(name, func(b *testing.B) {
			log := filepath.Join(s.dir, "requests.log")
			s.load(b, peer(b, "h2load", "nghttp2-client"), append([]string{
				"--h1", "-t1", "-c", strconv.Itoa(connections), "-D", fmt.Sprint(loadTime.Seconds()),
				"-B", "unix:" + socket, "--log-file", log, "http://localhost" + path,
			}, more...)...)
			text, err := os.ReadFile(log)
			if err != nil {
				b.Fatal(err)
			}
			var times []int // time of the answer, status, microseconds
			for line := range strings.Lines(string(text)) {
				f := strings.Fields(line)
				us, err := strconv.Atoi(f[2])
				if f[1] != "200" || err != nil {
					b.Fatal(line)
				}
				times = append(times, us)
			}
			slices.Sort(times)
			b.ReportMetric(float64(times[len(times)/2]), "p50-µs")
			p99[name] = float64(times[len(times)*99/100])
			b.ReportMetric(p99[name], "p99-µs")
			if of, ok := p99[strings.Replace(name, "h2load", "h2load_plain", 1)]; ok {
				b.ReportMetric(p99[name]/of, "p99-of-plain")
			}
			_ = os.Remove(log)
		})
	}
	plain := s.plain()
	for _, connections := range []int{1, 16, 64} {
		unix("unix_h2load_plain", plain, connections)
		unix("unix_h2load", s.socket(), connections)
	}
	// As many as are to be reached, and not as many as the machine can: without a queue of the client's own making.
	each := strconv.FormatFloat(wantedRate/64., 'f', -1, 64)
	unix("unix_h2load_plain_15k", plain, 64, "--rps", each)
	unix("unix_h2load_15k", s.socket(), 64, "--rps", each)
	for _, connections := range []int{1, 16, 64} {
		s.under(fmt.Sprintf("tls_ab/%d", connections), func(b *testing.B) {
			table := filepath.Join(s.dir, "served.csv")
			s.load(b, peer(b, "ab", "apache2-utils"), "-q", "-k", "-t", fmt.Sprint(loadTime.Seconds()), "-n", "1000000", "-c", strconv.Itoa(connections),
				"-E", filepath.Join(s.dir, "data", "keys", "admin.pem"), "-e", table, "https://"+s.api+path)
			text, err := os.ReadFile(table)
			if err != nil {
				b.Fatal(err)
			}
			for line := range strings.Lines(string(text)) { // percent, milliseconds
				percent, ms, _ := strings.Cut(strings.TrimSpace(line), ",")
				if v, err := strconv.ParseFloat(ms, 64); err == nil && (percent == "50" || percent == "99") {
					b.ReportMetric(1000*v, "p"+percent+"-µs")
				}
			}
		})
	}
}

// plain is a socket where net/http answers the same few bytes to all: the tail that it has is that of the client and the machine.
func (s *benchSite) plain() string {
	path := filepath.Join(s.dir, "plain")
	l, err := net.Listen("unix", path)
	if err != nil {
		s.b.Fatal(err)
	}
	answer := []byte(`{"name":"r3n77","attrs":{"bmc.user":"admin","net.boot.address":"10.100.7.8"}}` + "\n")
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(answer) })}
	go func() { _ = srv.Serve(l) }()
	s.b.Cleanup(func() { _ = srv.Close() })
	return path
}

// everything sets the values of the group that all nodes are in.
func everything(values map[string]string) api.SetAttrs {
	in := api.SetAttrs{Range: api.Range{Range: "everything"}, Groups: true}
	for _, a := range slices.Sorted(maps.Keys(values)) {
		in.Set = append(in.Set, api.Assignment{Attr: a, Value: values[a]})
	}
	return in
}

var (
	loadRate = regexp.MustCompile(`(?:finished in [^,]*, |Requests per second: +)([0-9.]+)`)
	loadDone = regexp.MustCompile(`(?:status codes: |Complete requests: +)([0-9]+)`)
	loadBad  = regexp.MustCompile(`(?:Non-2xx responses|Failed requests): +[1-9]`)
)

// load runs a load generator and reports what it says of itself, and what a request costs the service, if it is that which was asked.
func (s *benchSite) load(b *testing.B, program string, args ...string) {
	before := s.cpu()
	out, err := exec.Command(program, args...).CombinedOutput()
	used := s.cpu() - before
	rate, done := loadRate.FindSubmatch(out), loadDone.FindSubmatch(out)
	if err != nil || rate == nil || done == nil || loadBad.Match(out) {
		b.Fatalf("%v\n%s", err, out)
	}
	perSecond, _ := strconv.ParseFloat(string(rate[1]), 64)
	requests, _ := strconv.ParseFloat(string(done[1]), 64)
	b.ReportMetric(perSecond, "req/s")
	if perRequest := float64(used.Microseconds()) / requests; perRequest > 2 {
		b.ReportMetric(perRequest, "server-cpu-µs")
	}
}

// BenchmarkNodeset is the noderange of 100,000 names as a process, by ClusterShell and by muster with its service: the ratio of their processor
// times is what counts.
func BenchmarkNodeset(b *testing.B) {
	nodeset := peer(b, "nodeset", "clustershell")
	s := newBenchSite(b)
	s.start()
	var one, two bytes.Buffer
	for i := range 100_000 {
		fmt.Fprintf(&one, "n%d\n", i+1)
		fmt.Fprintf(&two, "r%dn%d\n", i/1000+1, i%1000+1)
	}
	for _, c := range []struct {
		name         string
		stdin        []byte
		theirs, ours []string
	}{
		{"expand", nil, []string{"-e", "n[1-100000]"}, []string{"expand", "n[1-100000]"}},
		{"fold_1-D", one.Bytes(), []string{"-f"}, []string{"fold"}},
		{"fold_2-D", two.Bytes(), []string{"-f"}, []string{"fold"}},
	} {
		s.under(c.name, func(b *testing.B) {
			run := func(program string, args []string) (time.Duration, int) {
				cmd := exec.Command(program, args...)
				cmd.Env = append(os.Environ(), "MUSTER_SERVER=unix:"+s.socket())
				cmd.Stdin = bytes.NewReader(c.stdin)
				out, err := cmd.Output()
				if err != nil {
					b.Fatalf("%s: %v", program, err)
				}
				return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), len(strings.Fields(string(out)))
			}
			theirs, names := run(nodeset, c.theirs)
			before := s.cpu()
			ours, same := run(program(b), c.ours)
			ours += s.cpu() - before
			if names != same {
				b.Fatalf("%d words by nodeset, %d by muster", names, same)
			}
			b.ReportMetric(float64(theirs.Microseconds())/1000, "clustershell-cpu-ms")
			b.ReportMetric(float64(ours.Microseconds())/1000, "cpu-ms")
			b.ReportMetric(ours.Seconds()/theirs.Seconds(), "ratio")
		})
	}
}
