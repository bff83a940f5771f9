package agent

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"muster/internal/api"
	"muster/internal/image"
	"muster/internal/model"
	"muster/internal/need"
)

// The long way, with nothing left out but the firmware: an image is built from packages, machines boot its kernel and
// initramfs in QEMU, enrol at a service of this test, fetch the root, report "up", and are reached by ssh.
//
// The packages come from the host's apt sources. MUSTER_TEST_CACHE names a folder that keeps them for the next run.

func needs(t *testing.T, programs ...string) {
	t.Helper()
	if testing.Short() {
		t.Skip("boots machines: skipped by -short")
	}
	need.Root(t, "makes a network namespace and a package tree")
	need.Programs(t, "qemu-system-x86 mmdebstrap squashfs-tools iproute2", programs...)
}

func TestNodesBootTheirImageAndReport(t *testing.T) {
	needs(t, "qemu-system-x86_64", "mmdebstrap", "mksquashfs", "ip")
	dir, signer := testImage(t)
	m, err := image.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{1, 3} {
		t.Run(strconv.Itoa(n)+" at once", func(t *testing.T) { bootNodes(t, dir, m, n, signer) })
	}
}

func bootNodes(t *testing.T, dir string, m *image.Manifest, n int, signer ssh.Signer) {
	netns := newNamespace(t, n)
	s := newService(t, netns.listen(t, "10.77.0.1:0"))
	img := m.Image()
	content, err := os.ReadFile(filepath.Join(dir, image.RootFile))
	if err != nil {
		t.Fatal(err)
	}
	s.content = content
	s.plan = api.Plan{Image: string(m.Name), Digest: m.Digest, Root: img.Root, AuthorizedKeys: []string{strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))}}
	start := time.Now()
	nodes := make([]*machine, n)
	for i := range nodes {
		name := fmt.Sprintf("r1n%d", i+1)
		mac, address := fmt.Sprintf("52:54:00:77:00:%02x", i+1), fmt.Sprintf("10.77.1.%d", i+1)
		nodes[i] = netns.boot(t, dir, i, name, mac, fmt.Sprintf("console=ttyS0,115200 quiet panic=5 muster.server=%s muster.pin=%s muster.token=token-%d muster.node=%s muster.net=%s,%s/16,,10.77.0.1",
			s.server.URL, s.pin, i, name, mac, address))
		nodes[i].address = address
	}
	for _, v := range nodes {
		s.wait(t, v.name+" up", 4*time.Minute, func() bool { return slices.Contains(s.paths, v.name+" /v1/node/up") })
		t.Logf("%s up after %.1f s; qemu took %.1f s of processor time", v.name, time.Since(start).Seconds(), v.cpu())
	}
	for _, v := range nodes {
		t.Logf("console of %s\n%s", v.name, v.marks())
	}
	want := []string{"fetching", "starting"}
	if got := s.steps(); n == 1 && !slices.Equal(got, want) {
		t.Errorf("steps reported: %v, want %v", got, want)
	}
	s.mu.Lock()
	ups, enrols := slices.Clone(s.ups), slices.Clone(s.enrols)
	s.mu.Unlock()
	f := ups[0].Facts
	if f == nil || f.Kernel != m.Kernel || f.Image != m.Digest || f.CPUs != 1 || f.Memory < 500<<20 || len(f.NICs) != 1 || f.UptimeMS == 0 || f.BootID != ups[0].BootID || !strings.Contains(f.OS, "Debian") {
		t.Errorf("facts: %+v", f)
	} else {
		t.Logf("facts: %+v", *f)
	}
	for i, v := range nodes {
		var host string
		for _, e := range enrols {
			if e.Token == fmt.Sprintf("token-%d", i) {
				host = e.HostKeys[0]
			}
		}
		out := netns.ssh(t, v.address, host, signer, "hostname; uname -r; stat -c '%a %U' /run/muster/node.json; cat /etc/resolv.conf; wc -c < /etc/machine-id; sshd -t && echo sshd configuration fine; systemctl --failed --no-legend; ls -A /boot")
		want := v.name + "\n" + m.Kernel + "\n600 root\nnameserver 10.77.0.1\n33\nsshd configuration fine\nconfig-" + m.Kernel + "\n"
		if out != want {
			t.Errorf("%s over ssh: got %s\nwant %s", v.name, out, want)
		}
	}
}

// A node that is told no address asks for it by DHCP; a root whose digest is wrong is never mounted: the node says so,
// and starts again.
func TestNodeWithoutAddressRefusesAWrongRoot(t *testing.T) {
	needs(t, "qemu-system-x86_64", "mmdebstrap", "mksquashfs", "ip", "dnsmasq")
	dir, _ := testImage(t)
	netns := newNamespace(t, 1)
	s := newService(t, netns.listen(t, "10.77.0.1:0"))
	s.content = bytes.Repeat([]byte("not a root "), 1000)
	s.plan = api.Plan{Image: "compute", Digest: "sha256:1", Root: model.File{Name: image.RootFile, Digest: "sha256:" + strings.Repeat("ab", 32), Size: int64(len(s.content))}}
	dhcp := exec.CommandContext(t.Context(), "ip", "netns", "exec", netns.name, "dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--port=0", "--interface=br0", "--bind-interfaces",
		"--no-ping", "--leasefile-ro", "--dhcp-range=10.77.1.50,10.77.1.60,255.255.0.0")
	if err := dhcp.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = dhcp.Process.Kill()
		_ = dhcp.Wait()
	})
	v := netns.boot(t, dir, 0, "r1n1", "52:54:00:77:00:01", fmt.Sprintf("console=ttyS0 quiet muster.server=%s muster.pin=%s muster.token=t muster.node=r1n1", s.server.URL, s.pin))
	failed := func() bool {
		return len(s.progress) > 0 && s.progress[len(s.progress)-1].Step == "failed"
	}
	s.wait(t, "report of the failure", 2*time.Minute, failed)
	if p := s.progress[len(s.progress)-1]; !strings.Contains(p.Text, "abababab") || !strings.Contains(p.Do, "muster image show compute") {
		t.Errorf("reported %+v", p)
	}
	select { // with -no-reboot the machine's start ends the process
	case <-v.ended:
	case <-time.After(time.Minute):
		t.Error("the machine did not start again")
	}
	marks := v.marks()
	for _, want := range []string{"network: 52:54:00:77:00:01,10.77.1.", "refused:", "FAILED: root image of compute", "the machine starts again"} {
		if !strings.Contains(marks, want) {
			t.Errorf("the console does not say %q:\n%s", want, marks)
		}
	}
}

// testImage builds the image, or takes it from MUSTER_TEST_CACHE.
func testImage(t *testing.T) (dir string, signer ssh.Signer) {
	t.Helper()
	cache := os.Getenv("MUSTER_TEST_CACHE")
	if cache == "" {
		cache = t.TempDir()
	}
	private, _, err := newHostKey("test")
	if err != nil {
		t.Fatal(err)
	}
	if signer, err = ssh.ParsePrivateKey([]byte(private)); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "muster-node")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", program, "muster/node")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("muster-node: %.2f MB", float64(len(b))/1e6)
	images := t.TempDir()
	// No key of this run in the image: it comes with the plan, so that the compressed root can be kept.
	_, err = image.Build(t.Context(), image.Options{Dir: images, Cache: filepath.Join(cache, "image"), Chunks: filepath.Join(cache, "chunks"), Source: "debian12", Name: "test", NodeProgram: b, Progress: func(s image.Step) {
		if s.Done {
			t.Logf("%s: %s (%d ms, cached: %v)", s.Name, s.Text, s.MS, s.Cached)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(images, "test"), signer
}

// namespace is a network of its own: a bridge with a tap for each machine.
type namespace struct{ name string }

func newNamespace(t *testing.T, taps int) *namespace {
	t.Helper()
	ns := &namespace{name: fmt.Sprintf("t-agent-%d", os.Getpid())}
	ip := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
		}
	}
	ip("netns", "add", ns.name)
	t.Cleanup(func() { ip("netns", "del", ns.name) })
	ip("-n", ns.name, "link", "set", "lo", "up")
	ip("-n", ns.name, "link", "add", "br0", "type", "bridge", "stp_state", "0", "forward_delay", "0", "mcast_snooping", "0")
	ip("-n", ns.name, "addr", "add", "10.77.0.1/16", "dev", "br0")
	ip("-n", ns.name, "link", "set", "br0", "up")
	for i := range taps {
		tap := fmt.Sprintf("tap%d", i)
		ip("-n", ns.name, "tuntap", "add", "dev", tap, "mode", "tap")
		ip("-n", ns.name, "link", "set", tap, "master", "br0", "up")
	}
	return ns
}

// in runs f on a thread inside the namespace; sockets made there stay there.
func (ns *namespace) in(t *testing.T, f func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		fd, err := unix.Open("/run/netns/"+ns.name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = unix.Setns(fd, unix.CLONE_NEWNET)
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func (ns *namespace) listen(t *testing.T, address string) (l net.Listener) {
	t.Helper()
	ns.in(t, func() (err error) { l, err = net.Listen("tcp4", address); return err })
	return l
}

func (ns *namespace) ssh(t *testing.T, address, hostKey string, signer ssh.Signer, command string) string {
	t.Helper()
	var conn net.Conn
	ns.in(t, func() (err error) { conn, err = net.DialTimeout("tcp4", address+":22", 20*time.Second); return err })
	defer conn.Close()
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(hostKey))
	if err != nil {
		t.Fatal(err)
	}
	c, chans, reqs, err := ssh.NewClientConn(conn, address, &ssh.ClientConfig{User: "root", Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: ssh.FixedHostKey(key), HostKeyAlgorithms: []string{ssh.KeyAlgoED25519}})
	if err != nil {
		t.Fatal(err)
	}
	client := ssh.NewClient(c, chans, reqs)
	defer client.Close()
	session, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	out, err := session.CombinedOutput(command)
	if err != nil {
		t.Logf("ssh %s: %v", address, err)
	}
	return string(out)
}

// machine is one QEMU without disks; its power is the process.
type machine struct {
	name    string
	address string
	cmd     *exec.Cmd
	start   time.Time

	ended chan struct{} // closed when the console is: the process is over
	mu    sync.Mutex
	lines []string // of the console, with the seconds since the start, and of QEMU's processor time
}

func (ns *namespace) boot(t *testing.T, dir string, tap int, name, mac, arguments string) *machine {
	t.Helper()
	m := &machine{name: name, start: time.Now(), ended: make(chan struct{})}
	// Never with KVM: see the laboratory's notes; a hypervisor that opens is not one that boots. Without erms, since the
	// emulator does "rep movsb" and "rep stosb" byte by byte, which kernels prefer for copying where it is announced: about a seventh of
	// all the processor time of a boot.
	m.cmd = exec.CommandContext(t.Context(), "ip", "netns", "exec", ns.name, "qemu-system-x86_64", "-name", name, "-M", "q35,graphics=off", "-accel", "tcg", "-cpu", "max,-erms",
		"-m", "768", "-display", "none", "-no-reboot", "-serial", "stdio", "-monitor", "none",
		"-object", "rng-random,id=r0,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=r0",
		"-netdev", fmt.Sprintf("tap,id=n0,ifname=tap%d,script=no,downscript=no", tap), "-device", "virtio-net-pci,netdev=n0,romfile=,mac="+mac,
		"-kernel", filepath.Join(dir, image.KernelFile), "-initrd", filepath.Join(dir, image.InitrdFile), "-append", arguments)
	out, err := m.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var errs bytes.Buffer
	m.cmd.Stderr = &errs
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(m.ended)
		for s := bufio.NewScanner(out); s.Scan(); {
			m.mu.Lock()
			m.lines = append(m.lines, fmt.Sprintf("%6.2f %6.2f %s", time.Since(m.start).Seconds(), m.cpu(), strings.TrimSpace(s.Text())))
			m.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		_ = m.cmd.Process.Kill()
		<-m.ended
		_ = m.cmd.Wait()
		if t.Failed() {
			m.mu.Lock()
			t.Logf("console of %s:\n%s\n%s", name, strings.Join(m.lines, "\n"), errs.String())
			m.mu.Unlock()
		}
	})
	return m
}

var escapes = regexp.MustCompile(`\x1b\[[0-9;?]*[a-zA-Z]`)

// marks are the lines of the init.
func (m *machine) marks() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []string
	for _, l := range m.lines {
		if l = escapes.ReplaceAllString(l, ""); strings.Contains(l, "muster:") {
			out = append(out, l)
		}
	}
	return strings.Join(out, "\n")
}

// cpu is the processor time that the machine took so far, in seconds.
func (m *machine) cpu() float64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", m.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	user, _ := strconv.ParseFloat(f[11], 64)
	system, _ := strconv.ParseFloat(f[12], 64)
	return (user + system) / 100
}
