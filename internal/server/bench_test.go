package server

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"muster/internal/api"
	"muster/internal/auth"
	"muster/internal/identity"
)

// load is what a load generator is asked for, and what it has found.
type load struct {
	Address     string // "unix:…" or "host:port"
	Identity    string // PEM file, for TLS
	Path        []string
	Connections int
	Time        time.Duration

	Requests int
	P50, P99 time.Duration
	Problem  string
}

// loadVariable makes this test binary a load generator: a process of its own, so that the service's processor time can be told apart.
const loadVariable = "MUSTER_TEST_LOAD"

func TestLoadGenerator(t *testing.T) {
	text := os.Getenv(loadVariable)
	if text == "" {
		t.Skip("for benchmarks only")
	}
	var l load
	if err := json.Unmarshal([]byte(text), &l); err != nil {
		t.Fatal(err)
	}
	l.run()
	b, err := json.Marshal(l)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println("load:" + string(b))
}

func (l *load) dial() (net.Conn, error) {
	if path, ok := strings.CutPrefix(l.Address, "unix:"); ok {
		return net.Dial("unix", path)
	}
	pem, err := os.ReadFile(l.Identity)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(pem, pem)
	if err != nil {
		return nil, err
	}
	pair.Certificate = pair.Certificate[:1]
	return tls.Dial("tcp", l.Address, &tls.Config{Certificates: []tls.Certificate{pair}, InsecureSkipVerify: true})
}

// run asks over connections that are kept, each waiting for its answer before it asks again.
func (l *load) run() {
	var (
		mu    sync.Mutex
		times []time.Duration
		wg    sync.WaitGroup
	)
	for c := range l.Connections {
		wg.Go(func() {
			mine, err := l.ask(c)
			mu.Lock()
			defer mu.Unlock()
			times = append(times, mine...)
			if err != nil {
				l.Problem = err.Error()
			}
		})
	}
	wg.Wait()
	slices.Sort(times)
	if l.Requests = len(times); l.Requests > 0 {
		l.P50, l.P99 = times[len(times)/2], times[len(times)*99/100]
	}
}

func (l *load) ask(c int) (times []time.Duration, err error) {
	conn, err := l.dial()
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	in := bufio.NewReaderSize(conn, 64<<10)
	var requests [][]byte
	for _, p := range l.Path {
		requests = append(requests, []byte("GET "+p+" HTTP/1.1\r\nHost: muster\r\n\r\n"))
	}
	for end, i := time.Now().Add(l.Time), c*7919; time.Now().Before(end); i++ {
		began := time.Now()
		if _, err := conn.Write(requests[i%len(requests)]); err != nil {
			return times, err
		}
		status, err := in.ReadSlice('\n')
		if err != nil {
			return times, err
		}
		if !bytes.HasPrefix(status, []byte("HTTP/1.1 200")) {
			return times, fmt.Errorf("%s", status)
		}
		length := 0
		for {
			line, err := in.ReadSlice('\n')
			if err != nil {
				return times, err
			}
			if v, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
				length, _ = strconv.Atoi(string(bytes.TrimSpace(v)))
			}
			if len(line) == 2 {
				break
			}
		}
		if length == 0 {
			return times, fmt.Errorf("no length")
		}
		if _, err := in.Discard(length); err != nil {
			return times, err
		}
		times = append(times, time.Since(began))
	}
	return times, nil
}

// processor is the time that this process has used.
func processor() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// many is a service with that many nodes in groups, with attributes and expressions, and without BMCs to look for.
func many(b *testing.B, nodes int) *service {
	s := start(b, shortDir(b))
	set := []api.Assignment{attr("net.boot.address", "10.128.{n0/250}.{n0%250}"), attr("location.rack", "{n0/40}")}
	for i := range 30 {
		set = append(set, attr("custom.a"+strconv.Itoa(i), "value "+strconv.Itoa(i)))
	}
	var c api.Changed
	s.must("/v1/nodes/add", api.AddNodes{Range: api.Range{Range: "n[1-" + strconv.Itoa(nodes) + "]"}, Groups: []string{"compute", "site1"}, Set: set}, &c)
	s.must("/v1/set", api.SetAttrs{Range: api.Range{Range: "compute"}, Groups: true, Set: []api.Assignment{attr("bmc.user", "admin"), attr("console.speed", "9600")}}, &c)
	return s
}

// The target: 15,000 requests a second, the 99th percentile 5 ms, with the load generator on the same two cores.
func BenchmarkGET_node_of_10k(b *testing.B) {
	s := many(b, 10_000)
	var paths []string
	for i := range 1000 {
		paths = append(paths, fmt.Sprintf("/v1/nodes/n%d?attrs=net.boot.address,bmc.user", i*10+1))
	}
	for name, address := range map[string]string{"unix": "unix:" + s.srv.Socket(), "tls": strings.TrimPrefix(s.srv.APIs()[0], "https://")} {
		for _, connections := range []int{1, 16, 64} {
			b.Run(fmt.Sprintf("%s/%d_connections", name, connections), func(b *testing.B) {
				l := load{Address: address, Identity: s.srv.keys.AdminBundle(), Path: paths, Connections: connections, Time: 2 * time.Second}
				text, err := json.Marshal(l)
				if err != nil {
					b.Fatal(err)
				}
				for b.Loop() {
					before := processor()
					cmd := exec.Command(os.Args[0], "-test.run=^TestLoadGenerator$")
					cmd.Env = append(os.Environ(), loadVariable+"="+string(text))
					out, err := cmd.Output()
					if err != nil {
						b.Fatalf("%v: %s", err, out)
					}
					_, found, _ := bytes.Cut(out, []byte("load:"))
					found, _, _ = bytes.Cut(found, []byte("\n"))
					if err := json.Unmarshal(found, &l); err != nil || l.Problem != "" {
						b.Fatalf("%v, %s: %s", err, l.Problem, out)
					}
					b.ReportMetric(float64(l.Requests)/l.Time.Seconds(), "req/s")
					b.ReportMetric(float64(l.P50.Microseconds()), "p50-µs")
					b.ReportMetric(float64(l.P99.Microseconds()), "p99-µs")
					b.ReportMetric(float64((processor()-before).Microseconds())/float64(l.Requests), "server-µs/req")
				}
			})
		}
	}
}

// The target: 50 ms of the service's processor time, 1 MB on the wire.
func BenchmarkGet_one_attribute_of_10k(b *testing.B) {
	s := many(b, 10_000)
	body := []byte(`{"range":"everything","attrs":["net.boot.address"]}`)
	for _, encoding := range []string{"identity", "zstd"} {
		b.Run(encoding, func(b *testing.B) {
			var wire int64
			began, count := processor(), 0
			for b.Loop() {
				r, err := http.NewRequest("POST", s.client.URL("/v1/get"), bytes.NewReader(body))
				if err != nil {
					b.Fatal(err)
				}
				r.Header.Set("Accept-Encoding", encoding)
				res, err := s.client.HTTP().Do(r)
				if err != nil {
					b.Fatal(err)
				}
				if wire, err = io.Copy(io.Discard, res.Body); err != nil {
					b.Fatal(err)
				}
				res.Body.Close()
				count++
			}
			b.ReportMetric(float64((processor()-began).Microseconds())/float64(count)/1000, "cpu-ms/op")
			b.ReportMetric(float64(wire), "wire-B/op")
		})
	}
}

// What one request costs without a connection.
func BenchmarkHandler_node(b *testing.B) {
	s := many(b, 1000)
	h := s.srv.verb("get", auth.Administrator, (*Server).showNode)
	r, err := http.NewRequest("GET", "/v1/nodes/n77?attrs=net.boot.address,bmc.user", nil)
	if err != nil {
		b.Fatal(err)
	}
	here, there := net.Pipe()
	defer here.Close()
	defer there.Close()
	r = r.WithContext(auth.ConnContext(b.Context(), here))
	leaf := &x509.Certificate{PublicKey: make(ed25519.PublicKey, ed25519.PublicKeySize), Subject: pkix.Name{CommonName: "admin", OrganizationalUnit: []string{identity.UnitAdmin}}}
	r.TLS = &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{leaf}}}
	r.SetPathValue("name", "n77")
	b.ReportAllocs()
	for b.Loop() {
		w := &discard{header: http.Header{}}
		h(w, r)
		if w.n == 0 || w.status != 0 && w.status != http.StatusOK {
			b.Fatalf("%d bytes, status %d", w.n, w.status)
		}
	}
}
