package e2e

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"muster/internal/api"
	"muster/internal/boot"
	"muster/internal/identity"
)

// From switched-off, empty machines to reachable nodes; then what an administrator does all day; then everything is there again
// after kill -9.
func TestFirstLight_bios(t *testing.T) {
	s := newSite(t, 3, "bios")
	s.define("r1n[1-3]")
	s.image("compute")
	s.must("deploy", "r1n[1-3]", "compute")

	t.Run("wrong BMC password", s.wrongPassword)
	t.Run("up", func(t *testing.T) {
		s := s.in(t)
		s.must("power", "r1n[1-3]", "on")
		s.reach(5*time.Minute, "up", "r1n1", "r1n2", "r1n3")
		for _, n := range []string{"r1n1", "r1n2", "r1n3"} {
			w := s.why(n)
			t.Logf("%s: power on to up %.1f s, our own answers %.3f s", n, float64(w.TookMS)/1e3, float64(w.OursUS)/1e6)
			var got []string
			for _, e := range w.Steps {
				got = append(got, e.Step)
			}
			inOrder(t, got, "deploy.armed", "power.on", "dhcp.offer", "dhcp.ack", "boot.script", "boot.file", "node.enrolled", "node.fetching", "node.starting", "node.up")
		}
	})
	t.Run("facts", func(t *testing.T) {
		s := s.in(t)
		// Disks may come a heartbeat later: their drivers load while the agent is up already.
		s.until(time.Minute, "all facts of r1n2", func() (bool, string) {
			f := s.status("r1n2").Facts
			ok := f != nil && f.CPUs >= 1 && f.Memory > 500<<20 && len(f.Disks) == 1 && f.Disks[0].Size == 4<<30 &&
				len(f.NICs) > 0 && f.NICs[0].MAC == "52:54:00:77:00:02" && strings.HasPrefix(f.Image, "sha256:")
			return ok, fmt.Sprintf("%+v", f)
		})
	})
	t.Run("run and copy", func(t *testing.T) {
		s := s.in(t)
		out := s.must("run", "r1n[1-3]", "--fold", "--", "uname -r")
		if !strings.Contains(out, "r1n[1-3]") {
			t.Errorf("equal answers are not folded:\n%s", out)
		}
		file := filepath.Join(t.TempDir(), "hello")
		if err := os.WriteFile(file, []byte("from the manager\n"), 0o640); err != nil {
			t.Fatal(err)
		}
		s.must("copy", "r1n[1-3]", file, "/tmp")
		if out := s.must("run", "r1n3", "--", "cat", "/tmp/hello"); !strings.Contains(out, "from the manager") {
			t.Errorf("copied file:\n%s", out)
		}
		s.refused(1, []string{"run", "r1n2", "--", "exit 7"}, "7")
	})
	t.Run("jobs", s.jobs)
	t.Run("console", func(t *testing.T) {
		s := s.in(t)
		log := s.must("console", "r1n1", "--log")
		for _, want := range []string{"iPXE", "Linux version", "login:"} {
			if !strings.Contains(log, want) {
				t.Errorf("the record of the console has no %q", want)
			}
		}
	})
	t.Run("independent clients", func(t *testing.T) {
		password, err := os.ReadFile(s.bmcFile)
		if err != nil {
			t.Fatal(err)
		}
		c := exec.Command("ip", "netns", "exec", s.netns(), "ipmitool", "-I", "lanplus", "-C", "17", "-H", "10.78.0.1", "-U", "admin", "-E", "chassis", "power", "status")
		c.Env = append(os.Environ(), "IPMI_PASSWORD="+strings.TrimSpace(string(password)))
		if out, err := c.CombinedOutput(); err != nil || !strings.Contains(string(out), "is on") {
			t.Errorf("ipmitool: %v %s", err, out)
		}
	})
	t.Run("token used twice", s.tokenTwice)
	t.Run("kill -9 of the service", func(t *testing.T) {
		s := s.in(t)
		s.kill()
		s.refused(3, []string{"list", "r1n1"}, "muster serve")
		s.start()
		s.parent().serve, s.parent().log = s.serve, s.log
		if got := strings.TrimSpace(s.must("expand", "compute")); got != "r1n1\nr1n2\nr1n3" && got != "r1n[1-3]" {
			t.Errorf("after kill -9 the group has %q", got)
		}
		s.reach(time.Minute, "up", "r1n1", "r1n2", "r1n3")
		if find(s.events("r1n1"), "node.up") == nil {
			t.Error("the timeline lost node.up")
		}
	})
	t.Run("idle", func(t *testing.T) { s.idle(t) })
	t.Run("unknown MAC", s.unknownMAC)
	t.Run("kernel panics", s.panics)
	t.Run("corrupted image", s.corrupted)
	t.Run("service killed in the middle of a boot", s.killedMidBoot)
}

func TestFirstLight_uefi(t *testing.T) {
	s := newSite(t, 1, "uefi")
	s.define("r1n1")
	s.image("compute")
	s.must("deploy", "r1n1", "compute", "--reboot")
	s.reach(5*time.Minute, "up", "r1n1")
	if find(s.events("r1n1"), "boot.loader") == nil {
		t.Error("the firmware did not fetch the loader by TFTP")
	}
	if out := s.must("run", "r1n1", "--", "test -d /sys/firmware/efi && echo by UEFI"); !strings.Contains(out, "by UEFI") {
		t.Errorf("it did not boot by UEFI: %s", out)
	}
}

// jobs runs steps on machines that are up: what they print, one that never ends, one whose node is reset meanwhile.
func (s *site) jobs(t *testing.T) {
	s = s.in(t)
	dir := t.TempDir()
	script := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	s.must("job", "set", "hello", script("10-say.sh", `. "$MUSTER_LIB"; cat; say "$MUSTER_NODE at $(attr net.boot.address)"`))
	out := s.must("job", "run", "r1n[1-3]", "hello")
	for _, want := range []string{"r1n1 at 10.", "r1n2 at 10.", "r1n3 at 10."} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
	s.must("job", "set", "forever", script("10-wait.sh", "echo waiting; setsid sleep 4321 & sleep 4321"), "--time-limit", "2s")
	s.refused(1, []string{"job", "run", "r1n2", "forever"}, "step wait: its time of 2s was up")
	s.refused(1, []string{"run", "r1n2", "--", "pgrep -f '^sleep 4321'"}, "exit status 1")
	if out := s.must("job", "log", "r1n2"); !strings.Contains(out, "waiting\n") || !strings.Contains(out, "forever/wait: failed after") {
		t.Errorf("the log of the step:\n%s", out)
	}
}

// in is the site with another test to report to.
func (s *site) in(t *testing.T) *site {
	c := *s
	c.t, c.up = t, s
	return &c
}

func (s *site) parent() *site {
	if s.up == nil {
		return s
	}
	return s.up
}

// inOrder checks that steps occur one after the other, others between them allowed.
func inOrder(t *testing.T, got []string, want ...string) {
	t.Helper()
	rest := got
	for _, w := range want {
		i := 0
		for i < len(rest) && rest[i] != w {
			i++
		}
		if i == len(rest) {
			t.Errorf("step %s is missing, or out of order, in %v", w, got)
			return
		}
		rest = rest[i+1:]
	}
}

func (s *site) wrongPassword(t *testing.T) {
	s = s.in(t)
	s.mustIn("not the password\n", "set", "r1n2", "bmc.password=-")
	s.refused(1, []string{"power", "r1n2", "status"}, "r1n2", "refused", "bmc.password")
	password, err := os.ReadFile(s.bmcFile)
	if err != nil {
		t.Fatal(err)
	}
	s.mustIn(string(password), "set", "r1n2", "bmc.password=-")
	if out := s.must("power", "r1n2", "status"); !strings.Contains(out, "off") {
		t.Errorf("with the right password again: %s", out)
	}
}

// A second key with the token of a boot script is refused and recorded; the same key may ask again.
func (s *site) tokenTwice(t *testing.T) {
	s = s.in(t)
	s.must("node", "add", "r1n9", "net.boot.mac=52:54:00:77:00:09", "net.boot.address=10.77.1.9", "net.boot.prefix=16")
	s.must("deploy", "r1n9", "compute")
	defer s.must("node", "remove", "r1n9")
	ip := exec.Command("ip", "-n", s.netns(), "address", "add", "10.77.1.9/32", "dev", "lo")
	if out, err := ip.CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	client := clientFrom(t, s.netns(), "10.77.1.9")
	const bare = "http://10.77.0.1:7080/boot/script?mac=52:54:00:77:00:09"
	if resp, err := client.Get(bare); err != nil || resp.StatusCode != http.StatusForbidden {
		t.Errorf("a script without the ticket of a DHCP answer: %v, %v", resp, err)
	}
	resp, err := client.Get(bare + "&ticket=" + s.ticket("52:54:00:77:00:09"))
	if err != nil {
		t.Fatal(err)
	}
	script, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	m := regexp.MustCompile(`muster\.token=(\S+)`).FindSubmatch(script)
	if m == nil {
		t.Fatalf("no token in the script:\n%s", script)
	}
	enrol := func(csr string) int {
		body, _ := json.Marshal(api.Enrol{Token: string(m[1]), CSR: csr})
		resp, err := client.Post("https://10.77.0.1:7443/v1/node/enrol", "application/json", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.StatusCode
	}
	one, other := newRequest(t), newRequest(t)
	for i, step := range []struct {
		csr  string
		want int
	}{{one, 200}, {one, 200}, {other, 403}} {
		if got := enrol(step.csr); got != step.want {
			t.Errorf("enrolment %d: status %d, want %d", i, got, step.want)
		}
	}
	if e := find(s.events("r1n9"), "node.denied"); e == nil || !e.Bad {
		t.Errorf("the refusal is not on the timeline: %+v", e)
	}
	for _, e := range s.events("r1n9") {
		if strings.Contains(fmt.Sprint(e), string(m[1])) {
			t.Errorf("the timeline shows the token: %+v", e)
		}
	}
}

// ticket is what a DHCP answer would carry. No machine stands behind r1n9, so the test makes it with the service's own key.
func (s *site) ticket(mac string) string {
	s.t.Helper()
	keys, _, err := identity.Open(identity.Options{Dir: filepath.Join(s.data, "keys")})
	if err != nil {
		s.t.Fatal(err)
	}
	_, ticket, _ := strings.Cut(boot.ScriptURL(boot.Server{TicketKey: keys.TicketKey()}, mac, time.Now()), "&ticket=")
	return ticket
}

// clientFrom is an HTTP client inside a namespace with a source address; the service's certificate is not looked at.
func clientFrom(t *testing.T, netns, source string) *http.Client {
	t.Helper()
	return &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		DialContext: func(ctx context.Context, _, addr string) (c netConn, err error) {
			return dialIn(ctx, netns, source, addr)
		},
	}}
}

func newRequest(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

// A machine that no node describes gets no answer, and the reason is told.
func (s *site) unknownMAC(t *testing.T) {
	s = s.in(t)
	s.must("power", "r1n3", "off")
	s.must("set", "r1n3", "net.boot.mac=52:54:00:77:00:f3")
	s.must("power", "r1n3", "on")
	const mac = "52:54:00:77:00:03"
	s.until(time.Minute, "the machine is heard of", func() (bool, string) {
		out, _ := s.try("discover", "list")
		return strings.Contains(out, mac), out
	})
	out := s.must("why", mac)
	for _, want := range []string{mac, "no node has", "muster node add"} {
		if !strings.Contains(out, want) {
			t.Errorf("why %s does not say %q:\n%s", mac, want, out)
		}
	}
	if st := s.status("r1n3"); st.Status == "up" {
		t.Errorf("r1n3 is %s", st.Status)
	}
	s.must("power", "r1n3", "off")
	s.must("set", "r1n3", "net.boot.mac=52:54:00:77:00:{n0:02x}")
}

// A kernel that panics uses up the network boots and is held with the reason; it does not loop.
func (s *site) panics(t *testing.T) {
	s = s.in(t)
	s.must("power", "r1n2", "off")
	s.must("set", "r1n2", "image.kernelargs=rdinit=/nothing panic=1")
	s.must("deploy", "r1n2", "compute", "--boots", "3", "--reboot")
	s.reach(4*time.Minute, "held", "r1n2")
	w := s.why("r1n2")
	if !strings.Contains(w.Status.Reason, "3 network boots") || len(w.Look) == 0 {
		t.Errorf("held with %q, look at %q", w.Status.Reason, w.Look)
	}
	scripts := 0
	for _, e := range w.Steps {
		if e.Step == "boot.script" {
			scripts++
		}
	}
	if scripts != 3 {
		t.Errorf("%d boot scripts were handed out, want 3", scripts)
	}
	if !strings.Contains(s.must("console", "r1n2", "--log"), "Kernel panic") {
		t.Error("the record of the console has no panic")
	}
	s.must("power", "r1n2", "off")
	s.must("set", "r1n2", "image.kernelargs=")
}

// A root image that was damaged on the manager's disk is refused by the node, which says why.
func (s *site) corrupted(t *testing.T) {
	s = s.in(t)
	path := filepath.Join(s.data, "images", "compute", "root.squashfs")
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	flip := func() {
		b := make([]byte, 1)
		if _, err := f.ReadAt(b, 1<<20); err != nil {
			t.Fatal(err)
		}
		b[0] ^= 0xff
		if _, err := f.WriteAt(b, 1<<20); err != nil {
			t.Fatal(err)
		}
	}
	flip()
	defer flip()
	s.refused(1, []string{"image", "show", "compute"}, "root.squashfs", "digest")
	s.must("power", "r1n2", "off")
	s.must("deploy", "r1n2", "compute", "--boots", "1", "--reboot")
	s.reach(3*time.Minute, "held", "r1n2")
	if st := s.status("r1n2"); !strings.Contains(st.Reason, "digest") {
		t.Errorf("held with %q", st.Reason)
	}
	s.must("power", "r1n2", "off")
}

// A boot goes on to its end although the service is killed in the middle of it.
func (s *site) killedMidBoot(t *testing.T) {
	s = s.in(t)
	s.must("deploy", "r1n2", "compute", "--reboot")
	s.until(2*time.Minute, "r1n2 is in the middle of its boot", func() (bool, string) {
		st := s.status("r1n2")
		return st.Status == "enrolled" || st.Status == "fetching", st.Status
	})
	s.kill()
	s.start()
	s.parent().serve, s.parent().log = s.serve, s.log
	s.reach(3*time.Minute, "up", "r1n2")
}

// idle measures what the service costs while nothing happens. It prints; the figures are judged by people.
func (s *site) idle(t *testing.T) {
	cpu := func() time.Duration {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.serve.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		var user, sys int64
		f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+2:]))
		_, _ = fmt.Sscan(f[11], &user)
		_, _ = fmt.Sscan(f[12], &sys)
		return time.Duration(user+sys) * 10 * time.Millisecond
	}
	const over = 20 * time.Second
	before := cpu()
	<-time.After(over) // the time itself is what is measured
	used := cpu() - before
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.serve.Process.Pid))
	rss := regexp.MustCompile(`VmRSS:\s+(\d+)`).FindSubmatch(b)
	t.Logf("idle with 3 nodes: %.2f %% of a core over %v, %s kB resident", 100*used.Seconds()/over.Seconds(), over, rss[1])
}
