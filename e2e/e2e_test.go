// Package e2e boots real machines: QEMU with its own firmware, virtual BMCs, the built muster, and clients that nobody here
// wrote. Each test has a lab, that is a network namespace, of its own, and ends only what it started.
package e2e

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"muster/internal/api"
	"muster/internal/model"
	"muster/internal/need"
)

var muster string // path of the built program

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	flag.Parse()
	if *fleetSize > 0 {
		fleet()
	}
	if testing.Short() {
		return m.Run() // every test skips: nothing is to be built
	}
	if why := unfit(); why != "" {
		fmt.Println("e2e: skipped:", why)
		return m.Run() // every test says so again
	}
	if err := build(); err != nil {
		fmt.Println(err)
		return 1
	}
	return m.Run()
}

// build makes the program, unless it is made already.
func build() error {
	if muster != "" {
		return nil
	}
	root, err := filepath.Abs("..")
	if err != nil {
		return err
	}
	c := exec.Command("make", "--no-print-directory", "muster")
	c.Dir = root
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("make muster: %w\n%s", err, out)
	}
	muster = filepath.Join(root, "muster")
	return nil
}

// unfit says why machines cannot be booted here.
func unfit() string {
	if os.Getuid() != 0 {
		return "needs root for network namespaces"
	}
	for _, p := range []string{"qemu-system-x86_64", "mmdebstrap", "mksquashfs", "ip"} {
		if _, err := exec.LookPath(p); err != nil {
			return p + " is not installed (demo/prepare.sh test)"
		}
	}
	return ""
}

// site is a lab with a service in it.
type site struct {
	t       *testing.T
	lab     string
	data    string
	logs    string // directory of what the service says; empty: data
	serve   *exec.Cmd
	log     *os.File
	stdin   io.Reader // of the service
	bmcFile string
	up      *site // whose test this reports to, when it is a part of one
}

// newSite makes a lab of n machines and starts the service in it.
func newSite(t *testing.T, n int, firmware string, more ...string) *site {
	t.Helper()
	if testing.Short() {
		t.Skip("boots machines: takes minutes")
	}
	if why := unfit(); why != "" {
		need.Lack(t, why)
	}
	s := &site{t: t, lab: fmt.Sprintf("e%d%s", os.Getpid(), firmware[:1]), data: t.TempDir()}
	if len(filepath.Join(s.data, "muster.sock")) > 100 {
		dir, err := os.MkdirTemp("", "e2e")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		s.data = dir
	}
	s.must(append([]string{"lab", "up", "-n", fmt.Sprint(n), "--firmware", firmware, "--name", s.lab}, more...)...)
	t.Cleanup(func() {
		if t.Failed() {
			s.tellState()
		}
		s.stop()
		out, err := s.try("lab", "down", "--name", s.lab)
		if err != nil {
			t.Errorf("lab down: %v\n%s", err, out)
		}
		s.nothingLeft()
	})
	var status struct {
		Dir string `json:"dir"`
	}
	s.json(&status, "lab", "status", "--name", s.lab, "--json")
	s.bmcFile = filepath.Join(status.Dir, "bmc.password")
	s.start()
	return s
}

func (s *site) netns() string { return "muster-" + s.lab }

// start starts the service of a lab.
func (s *site) start() {
	s.t.Helper()
	s.startWith("serve", "--data", s.data, "--netns", s.netns(), "--boot", "br0")
}

func (s *site) logFile() string { return filepath.Join(cmp.Or(s.logs, s.data), "serve.log") }

// startWith starts a service and waits until it says that it is ready.
func (s *site) startWith(args ...string) {
	s.t.Helper()
	at := s.spawn(args...)
	s.until(30*time.Second, "the service is ready", func() (bool, string) {
		b, _ := os.ReadFile(s.logFile())
		return bytes.Contains(b[at:], []byte("is ready")), string(b[at:])
	})
}

// spawn starts a service, and says where in the log it begins.
func (s *site) spawn(args ...string) (at int64) {
	s.t.Helper()
	log, err := os.OpenFile(s.logFile(), os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	if at, err = log.Seek(0, 2); err != nil {
		s.t.Fatal(err)
	}
	s.log = log
	s.serve = exec.Command(muster, args...)
	s.serve.Stdin, s.serve.Stdout, s.serve.Stderr = s.stdin, log, log
	if err := s.serve.Start(); err != nil {
		s.t.Fatal(err)
	}
	return at
}

// kill ends the service as a power failure would.
func (s *site) kill() {
	s.t.Helper()
	_ = s.serve.Process.Signal(syscall.SIGKILL)
	_ = s.serve.Wait()
	_ = s.log.Close()
	s.serve = nil
}

// stop ends the service and checks that it does so cleanly within two seconds.
func (s *site) stop() {
	if s.serve == nil {
		return
	}
	began := time.Now()
	_ = s.serve.Process.Signal(syscall.SIGTERM)
	err := s.serve.Wait()
	if took := time.Since(began); err != nil || took > 2*time.Second {
		s.t.Errorf("SIGTERM: ended after %v with %v; wanted cleanly within 2 s", took, err)
	}
	_ = s.log.Close()
	s.serve = nil
}

// nothingLeft checks that neither the namespace nor the directory nor a process of the lab is there any more.
func (s *site) nothingLeft() {
	if _, err := os.Stat("/run/netns/" + s.netns()); err == nil {
		s.t.Errorf("the namespace %s is left", s.netns())
	}
	dir := filepath.Dir(s.bmcFile)
	if _, err := os.Stat(dir); err == nil {
		s.t.Errorf("%s is left", dir)
	}
	programs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range programs { // machines have their disk in the lab's directory, its daemon has the directory itself
		if b, err := os.ReadFile(p); err == nil && (bytes.Contains(b, []byte(dir+"/")) || bytes.Contains(b, []byte(dir+"\x00"))) {
			s.t.Errorf("%s is left: %s", p, bytes.ReplaceAll(b, []byte{0}, []byte(" ")))
		}
	}
}

func (s *site) command(args ...string) *exec.Cmd {
	c := exec.Command(muster, args...)
	c.Env = append(os.Environ(), "MUSTER_SERVER=unix:"+filepath.Join(s.data, "muster.sock"))
	return c
}

func (s *site) try(args ...string) (string, error) {
	out, err := s.command(args...).CombinedOutput()
	return string(out), err
}

// must runs a command that has to succeed, and returns what it printed on standard output.
func (s *site) must(args ...string) string {
	s.t.Helper()
	return s.mustIn("", args...)
}

func (s *site) mustIn(stdin string, args ...string) string {
	s.t.Helper()
	c := s.command(args...)
	var stderr bytes.Buffer
	c.Stdin, c.Stderr = strings.NewReader(stdin), &stderr
	out, err := c.Output()
	if err != nil {
		s.t.Fatalf("muster %s: %v\n%s%s", strings.Join(args, " "), err, out, stderr.Bytes())
	}
	return string(out)
}

// refused runs a command that has to fail with an exit status, and whose message has to contain all of the words.
func (s *site) refused(exit int, args []string, words ...string) string {
	s.t.Helper()
	out, err := s.try(args...)
	var e *exec.ExitError
	if !errors.As(err, &e) || e.ExitCode() != exit {
		s.t.Errorf("muster %s: %v, want exit %d\n%s", strings.Join(args, " "), err, exit, out)
	}
	for _, w := range words {
		if !strings.Contains(out, w) {
			s.t.Errorf("muster %s does not say %q:\n%s", strings.Join(args, " "), w, out)
		}
	}
	return out
}

// json decodes the first JSON document that a command prints.
func (s *site) json(to any, args ...string) {
	s.t.Helper()
	out := s.must(args...)
	if err := json.NewDecoder(strings.NewReader(out)).Decode(to); err != nil {
		s.t.Fatalf("muster %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// until waits for a condition; it looks again as often as a fifth of a second.
func (s *site) until(limit time.Duration, what string, cond func() (ok bool, state string)) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, state := cond()
		if ok {
			return
		}
		select {
		case <-ctx.Done():
			s.t.Fatalf("not within %v: %s; it is:\n%s", limit, what, state)
		case <-tick.C:
		}
	}
}

// status is what the service says of a node.
func (s *site) status(node string) api.NodeStatus {
	s.t.Helper()
	var st api.NodeStatus
	s.json(&st, "status", node, "--json")
	return st
}

func (s *site) why(name string) api.Why {
	s.t.Helper()
	var w api.Why
	s.json(&w, "why", name, "--json")
	return w
}

// reach waits until nodes have a status.
func (s *site) reach(limit time.Duration, want string, nodes ...string) {
	s.t.Helper()
	s.until(limit, strings.Join(nodes, ",")+" "+want, func() (bool, string) {
		var all []string
		ok := true
		for _, n := range nodes {
			st := s.status(n)
			ok = ok && st.Status == want
			all = append(all, fmt.Sprintf("%s: %s %s", n, st.Status, st.Reason))
		}
		return ok, strings.Join(all, "\n")
	})
}

// events are the steps on the timeline of a node.
func (s *site) events(node string) []model.Event {
	s.t.Helper()
	var out []model.Event
	for line := range strings.Lines(s.must("events", node, "--json")) {
		var e model.Event
		if json.Unmarshal([]byte(line), &e) == nil && e.Step != "" {
			out = append(out, e)
		}
	}
	return out
}

func find(events []model.Event, step string) *model.Event {
	for i := range events {
		if events[i].Step == step {
			return &events[i]
		}
	}
	return nil
}

// define makes nodes of the lab's machines.
func (s *site) define(nodes string, more ...string) {
	s.t.Helper()
	password, err := os.ReadFile(s.bmcFile)
	if err != nil {
		s.t.Fatal(err)
	}
	args := []string{
		"node", "add", nodes, "group=compute", "bmc.address=10.78.0.{n0}", "bmc.user=admin", "bmc.password=-",
		"net.boot.mac=52:54:00:77:00:{n0:02x}", "net.boot.address=10.77.1.{n0}", "net.boot.prefix=16",
	}
	s.mustIn(string(password), append(args, more...)...)
}

// image builds the image; the packages are cached over all tests and runs.
func (s *site) image(name string, packages ...string) {
	s.t.Helper()
	if cache := os.Getenv("MUSTER_TEST_CACHE"); cache != "" {
		dir := filepath.Join(cache, "image")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			s.t.Fatal(err)
		}
		if err := os.Symlink(dir, filepath.Join(s.data, "cache")); err != nil && !errors.Is(err, os.ErrExist) {
			s.t.Fatal(err)
		}
	}
	s.must(append([]string{"image", "build", "debian12", "--name", name}, withPackages(packages)...)...)
}

func withPackages(packages []string) []string {
	if len(packages) == 0 {
		return nil
	}
	return []string{"--package", strings.Join(packages, ",")}
}

// tellState prints what a person would look at after a failure.
func (s *site) tellState() {
	for _, args := range [][]string{{"status"}, {"events", "--bad"}, {"why", "r1n1"}} {
		out, _ := s.try(args...)
		s.t.Logf("muster %s:\n%s", strings.Join(args, " "), out)
	}
	if b, err := os.ReadFile(s.logFile()); err == nil {
		s.t.Logf("serve.log:\n%s", b[max(0, len(b)-4000):])
	}
}
