package agent

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"muster/internal/model"
)

// output is a log that a test may read while it is written.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

func startAgent(t *testing.T, s *service, id *identity, dir string) (log *output, stop func()) {
	t.Helper()
	log = new(output)
	a := &agent{id: id, path: filepath.Join(dir, "node.json"), reported: filepath.Join(dir, "reported"), root: machineTree(t), log: log, beat: time.Second}
	if err := a.connect(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.run(ctx) }()
	return log, func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("agent: %v", err)
		}
	}
}

func TestAgentTellsUpOnceThenThatItLives(t *testing.T) {
	s := newService(t, nil)
	id, dir := enrolAt(t, s, "r1n1"), t.TempDir()
	log, stop := startAgent(t, s, id, dir)
	s.wait(t, "a heartbeat", 10*time.Second, func() bool { return len(s.paths) == 2 })
	stop()
	// The agent starts again in the same boot: no second "up", but the facts again.
	_, stop = startAgent(t, s, id, dir)
	s.wait(t, "the next heartbeat", 10*time.Second, func() bool { return len(s.paths) == 3 })
	stop()
	if want := []string{"r1n1 /v1/node/up", "r1n1 /v1/node/heartbeat", "r1n1 /v1/node/heartbeat"}; !slices.Equal(s.paths, want) {
		t.Errorf("got %v, want %v", s.paths, want)
	}
	if s.ups[0].Facts == nil || s.ups[1].Facts != nil || s.ups[2].Facts == nil || s.ups[0].BootID != "boot-id-1" {
		t.Errorf("reports: %+v", s.ups)
	}
	if !strings.Contains(log.String(), "r1n1 is up") {
		t.Errorf("log: %s", log)
	}
}

func TestAgentGivesFactsWhenAsked(t *testing.T) {
	s := newService(t, nil)
	s.beat.Facts = true
	_, stop := startAgent(t, s, enrolAt(t, s, "r1n1"), t.TempDir())
	s.wait(t, "a heartbeat", 10*time.Second, func() bool { return len(s.ups) == 2 })
	stop()
	if s.ups[1].Facts == nil {
		t.Error("the heartbeat has no facts")
	}
}

func TestAgentWaitsForAServiceThatIsAway(t *testing.T) {
	s := newService(t, nil)
	id := enrolAt(t, s, "r1n1")
	right := id.Server
	id.Server = "https://127.0.0.1:1" // nobody listens
	dir := t.TempDir()
	log := new(output)
	a := &agent{id: id, path: filepath.Join(dir, "node.json"), reported: filepath.Join(dir, "reported"), root: machineTree(t), log: log, beat: time.Second}
	if err := a.connect(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := a.once(t.Context()); err == nil {
			t.Fatal("no error")
		}
	}
	a.client.servers = []string{right}
	if err := a.once(t.Context()); err != nil || !slices.Equal(s.paths, []string{"r1n1 /v1/node/up"}) {
		t.Errorf("%v, %v", s.paths, err)
	}
}

func TestAgentRenewsItsCertificateInTime(t *testing.T) {
	s := newService(t, nil)
	s.life = 5 * time.Second
	id, dir := enrolAt(t, s, "r1n1"), t.TempDir()
	s.life = time.Hour
	old := id.Certificate
	log, stop := startAgent(t, s, id, dir)
	s.wait(t, "renewal", 20*time.Second, func() bool { return s.renewed == 1 && len(s.paths) > s.renewedAt })
	stop()
	kept, err := loadIdentity(filepath.Join(dir, "node.json"))
	if err != nil || kept.Certificate == old || kept.Key != id.Key {
		t.Errorf("kept %+v, %v", kept, err)
	}
	if !strings.Contains(log.String(), "certificate renewed until") {
		t.Errorf("log: %s", log)
	}
}

func TestAgentThatGetsNoNewCertificateLivesOn(t *testing.T) {
	s := newService(t, nil)
	s.noRenewal = true
	id, dir := enrolAt(t, s, "r1n1"), t.TempDir()
	a := &agent{id: id, path: filepath.Join(dir, "node.json"), reported: filepath.Join(dir, "reported"), root: machineTree(t), log: new(output)}
	if err := a.connect(); err != nil {
		t.Fatal(err)
	}
	a.renewal = 0
	if err := a.once(t.Context()); err == nil || !lasting(err) || !slices.Equal(s.paths, []string{"r1n1 /v1/node/up"}) {
		t.Errorf("%v, %v", s.paths, err)
	}
}

// A machine whose clock was set years ahead or back has certificates that seem to have ended, or not to have begun.
func TestRenewalIsDueAfterHalfTheLifeWhateverTheClockSays(t *testing.T) {
	const life = 24 * time.Hour
	for name, from := range map[string]time.Time{"ahead": time.Unix(0, 0), "right": time.Now(), "behind": time.Now().AddDate(20, 0, 0)} {
		t.Run(name, func(t *testing.T) {
			cert := &tls.Certificate{Leaf: &x509.Certificate{NotBefore: from, NotAfter: from.Add(life)}}
			a := &agent{id: new(identity)}
			before := uptime()
			a.use(cert, cert.Leaf.NotAfter, halfLife(cert))
			if in := a.renewal - before; in < life/2 || in > life/2+time.Minute {
				t.Errorf("renewed after %s", in)
			}
		})
	}
}

// machineTree is /proc and /sys of a small machine.
func machineTree(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range map[string]string{
		"proc/sys/kernel/osrelease":           "6.1.0-56-amd64\n",
		"proc/sys/kernel/random/boot_id":      "boot-id-1\n",
		"proc/cpuinfo":                        "processor\t: 0\nmodel name\t: QEMU  TCG CPU\n\nprocessor\t: 1\nmodel name\t: QEMU  TCG CPU\n",
		"proc/meminfo":                        "MemTotal:         723672 kB\nMemFree: 1 kB\n",
		"etc/os-release":                      "NAME=Debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n",
		"sys/class/dmi/id/product_uuid":       "9338014E-D678-48A2\n",
		"sys/class/dmi/id/sys_vendor":         "QEMU\n",
		"sys/block/vda/device/vendor":         "0x1af4\n",
		"sys/block/vda/size":                  "8388608\n",
		"sys/block/sr0/device/type":           "5\n",
		"sys/block/loop0/size":                "100\n",
		"sys/class/net/lo/address":            "00:00:00:00:00:00\n",
		"sys/class/net/eth0/address":          "52:54:00:77:00:01\n",
		"sys/class/net/eth0/speed":            "-1\n",
		"sys/class/net/eth1/address":          "52:54:00:77:00:02\n",
		"sys/class/net/eth1/speed":            "25000\n",
		"sys/class/net/eth0/device/modalias":  "virtio:d00000001v00001AF4\n",
		"sys/class/net/eth1/device/modalias":  "pci:v000015B3\n",
		"sys/class/net/eth1/device/unrelated": "",
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../../../bus/virtio/drivers/virtio_net", filepath.Join(root, "sys/class/net/eth0/device/driver")); err != nil {
		t.Fatal(err)
	}
	return root
}

func TestFactsOfAMachine(t *testing.T) {
	got := facts(machineTree(t), "sha256:1")
	if got.UptimeMS <= 0 {
		t.Error("no uptime")
	}
	got.UptimeMS = 0
	want := &model.Facts{
		Kernel: "6.1.0-56-amd64", OS: "Debian GNU/Linux 12 (bookworm)", Image: "sha256:1", CPUs: 2, CPU: "QEMU TCG CPU", Memory: 723672 << 10,
		Disks: []model.Disk{{Name: "vda", Size: 4 << 30, Bus: "other"}},
		NICs: []model.NIC{
			{Name: "eth0", MAC: "52:54:00:77:00:01", Driver: "virtio_net"},
			{Name: "eth1", MAC: "52:54:00:77:00:02", Speed: 25000},
		},
		BootID: "boot-id-1", UUID: "9338014e-d678-48a2", Vendor: "QEMU",
	}
	if !sameFacts(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	other := *want
	other.Disks = nil
	if sameFacts(want, &other) {
		t.Error("a lost disk is not seen")
	}
}

func FuzzFactsParsers(f *testing.F) {
	f.Add("processor : 0\nmodel name : x\nMemTotal: 1 kB\nPRETTY_NAME=\"y\"\n")
	f.Fuzz(func(t *testing.T, s string) {
		if n, _ := processors(s); n < 0 {
			t.Error(n)
		}
		memory(s)
		osName(s)
	})
}
