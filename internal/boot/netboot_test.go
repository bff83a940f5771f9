package boot_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mdlayher/packet"

	"muster/internal/boot"
	"muster/internal/boot/dhcpd"
	"muster/internal/boot/ra"
	"muster/internal/boot/tftpd"
	"muster/internal/model"
	"muster/internal/need"
)

var withoutRA = flag.Bool("without-ra", false, "answer no router solicitations, to see how long iPXE waits")

// The network of the tests: one bridge in a namespace that lives as long as the test's process.
var server = boot.Server{
	Interface: "br0", Address: netip.MustParseAddr("10.77.0.1"), Network: netip.MustParsePrefix("10.77.0.0/16"),
	HTTPPort: 8080, APIPort: 8443, Pin: "sha256:" + strings.Repeat("ab", 32),
}

// world holds the snapshot that the services decide on, and what they told.
type world struct {
	mu     sync.Mutex
	snap   *model.Snapshot
	server boot.Server
	files  map[string]string // paths of what is handed out by digest; any other is of zeros
	events []model.Event
	log    func(string, ...any)
	told   chan struct{} // closed and renewed with each event
}

func newWorld(log func(string, ...any), nodes int) *world {
	snap := model.Empty()
	c := &model.Change{Revision: 1}
	file := func(name string, i int) model.File {
		return model.File{Name: name, Digest: fmt.Sprintf("sha256:%064x", i), Size: 4096}
	}
	c.Ops = append(c.Ops, model.Op{Kind: model.KindImage, Name: "compute", Doc: &model.Image{
		Name: "compute", Kernel: "6.1.0-test", Kernelf: file("vmlinuz", 1), Initrd: file("initrd.img", 2),
	}})
	for i := 1; i <= nodes; i++ {
		name := fmt.Sprintf("n%d", i)
		c.Ops = append(c.Ops, model.Op{Kind: model.KindNode, Name: name, Doc: &model.Node{Name: model.NodeName(name), Attrs: map[model.AttrName]string{
			"net.boot.mac": mac(i), "net.boot.address": fmt.Sprintf("10.77.%d.%d", 1+i/250, 1+i%250),
		}}}, model.Op{Kind: model.KindDeployment, Name: name, Doc: &model.Deployment{
			Node: model.NodeName(name), Image: "compute", Boots: 3, Left: 3, Phase: model.Armed,
		}})
	}
	snap, err := model.Apply(snap, c)
	if err != nil {
		panic(err)
	}
	return &world{snap: snap, server: server, log: log, told: make(chan struct{})}
}

func mac(i int) string { return fmt.Sprintf("52:54:00:77:%02x:%02x", i>>8, i&0xff) }

func (w *world) decide(r boot.Request) boot.Decision {
	w.mu.Lock()
	defer w.mu.Unlock()
	d := boot.Decide(w.snap, r, time.Now())
	if len(d.Ops) > 0 {
		next, err := model.Apply(w.snap, &model.Change{Revision: w.snap.Revision + 1, Ops: d.Ops})
		if err != nil {
			panic(err)
		}
		w.snap = next
	}
	return d
}

func (w *world) tell(events []model.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range events {
		w.events = append(w.events, e)
		if w.log != nil {
			w.log("%s %s: %s (%s) %d µs", e.Node, e.Step, e.What, e.Reason, e.TookUS)
		}
	}
	close(w.told)
	w.told = make(chan struct{})
}

// wait returns once the node has told all the steps, in this order.
func (w *world) wait(ctx context.Context, node string, steps ...string) error {
	for {
		w.mu.Lock()
		left := steps
		for _, e := range w.events {
			if len(left) > 0 && string(e.Node) == node && e.Step == left[0] {
				left = left[1:]
			}
		}
		told := w.told
		w.mu.Unlock()
		if len(left) == 0 {
			return nil
		}
		select {
		case <-told:
		case <-ctx.Done():
			return fmt.Errorf("%s did not get to %s", node, left[0])
		}
	}
}

// set puts documents of nodes, and whatever else.
func (w *world) set(ops ...model.Op) {
	w.mu.Lock()
	defer w.mu.Unlock()
	next, err := model.Apply(w.snap, &model.Change{Revision: w.snap.Revision + 1, Ops: ops})
	if err != nil {
		panic(err)
	}
	w.snap = next
}

// attrs gives node n1 or n2 … further attributes; "" takes one away.
func (w *world) attrs(node string, more map[model.AttrName]string) {
	n := *w.snap.Node(model.NodeName(node))
	n.Attrs = maps.Clone(n.Attrs)
	for a, v := range more {
		if n.Attrs[a] = v; v == "" {
			delete(n.Attrs, a)
		}
	}
	w.set(model.Op{Kind: model.KindNode, Name: node, Doc: &n})
}

// open is the little of the service that machines need by TFTP.
func (w *world) open(files tftpd.Files) func(context.Context, string, netip.Addr) (tftpd.Content, error) {
	return func(_ context.Context, name string, from netip.Addr) (tftpd.Content, error) {
		r := boot.Request{Stage: boot.StageLoader, Server: w.server, Source: from, Path: name}
		if path, ok := strings.CutPrefix(name, "file/"); ok {
			r.Stage, r.Path = boot.StageFile, path
		} else if strings.HasSuffix(name, "/grub.cfg") && !strings.HasPrefix(name, "grub/") {
			r.Stage, r.Grub = boot.StageScript, true
			r.Token, r.TokenHash = model.NewSecret("test-token"), "hash"
		}
		d := w.decide(r)
		w.tell(d.Events)
		var b []byte
		switch {
		case d.Status != http.StatusOK:
			return tftpd.Content{}, errors.New(d.Reason)
		case !d.Script.Empty():
			b = []byte(d.Script.Reveal())
		case r.Stage == boot.StageFile:
			b = w.content(d.File)
		default:
			b = files[d.Loader].Data
		}
		return tftpd.Content{Name: name, Size: int64(len(b)), Data: bytes.NewReader(b), Node: d.Node}, nil
	}
}

func (w *world) content(f model.File) []byte {
	if path := w.files[f.Digest]; path != "" {
		b, err := os.ReadFile(path)
		if err != nil {
			panic(err)
		}
		return b
	}
	return make([]byte, f.Size)
}

// ServeHTTP is the little of the service that the machines need here.
func (w *world) ServeHTTP(rw http.ResponseWriter, q *http.Request) {
	begin := time.Now()
	from := netip.MustParseAddrPort(q.RemoteAddr).Addr()
	r := boot.Request{Server: w.server, Source: from}
	switch rest := strings.TrimPrefix(q.URL.Path, "/boot/"); {
	case rest == "script":
		r.Stage, r.MAC, r.Ticket = boot.StageScript, q.FormValue("mac"), q.FormValue("ticket")
		r.Token, r.TokenHash = model.NewSecret("test-token"), "hash"
	case strings.HasPrefix(rest, "loader/"):
		r.Stage, r.Path = boot.StageLoader, strings.TrimPrefix(rest, "loader/")
	default:
		r.Stage, r.Path = boot.StageFile, strings.TrimPrefix(rest, "file/")
	}
	d := w.decide(r)
	for i := range d.Events {
		d.Events[i].TookUS = time.Since(begin).Microseconds()
	}
	w.tell(d.Events)
	switch {
	case d.Status != http.StatusOK:
		http.Error(rw, d.Reason, d.Status)
	case d.Loader != "":
		http.ServeFile(rw, q, filepath.Join(tftpd.Dir, d.Loader))
	case r.Stage == boot.StageScript:
		io.WriteString(rw, d.Script.Reveal())
	default:
		rw.Write(w.content(d.File))
	}
}

// serve runs all boot services until the test ends.
func serve(t *testing.T, w *world, advertise bool) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	run := func(what string, f func(context.Context) error) {
		wg.Go(func() {
			if err := f(ctx); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		})
	}
	files, err := tftpd.Load()
	if err != nil {
		need.Lack(t, "no boot loaders: "+err.Error())
	}
	server := w.server
	server.Assets = files.Assets()
	w.server = server
	d, err := dhcpd.Open(ctx, dhcpd.Options{Server: server, Decide: w.decide, Tell: w.tell})
	if err != nil {
		t.Fatal(err)
	}
	run("dhcpd", d.Serve)
	f, err := tftpd.Open(ctx, tftpd.Options{Server: server, Open: w.open(files), Tell: w.tell})
	if err != nil {
		t.Fatal(err)
	}
	run("tftpd", f.Serve)
	if advertise {
		a, err := ra.Open(ra.Options{Server: server, Decide: w.decide})
		if err != nil {
			t.Fatal(err)
		}
		run("ra", a.Serve)
	}
	hs := &http.Server{Handler: w}
	for _, a := range []netip.Addr{server.Address, server.Address6} {
		if !a.IsValid() {
			continue
		}
		l, err := net.Listen("tcp", netip.AddrPortFrom(a, 8080).String())
		if err != nil {
			t.Fatal(err)
		}
		go hs.Serve(l)
	}
	t.Cleanup(func() {
		begin := time.Now()
		hs.Close()
		cancel()
		wg.Wait()
		if took := time.Since(begin); took > 1500*time.Millisecond {
			t.Errorf("the services took %v to stop", took)
		}
	})
}

// needs skips without root or a program.
func needs(t *testing.T, programs ...string) {
	t.Helper()
	if testing.Short() {
		t.Skip("real machines are not for -short")
	}
	need.Root(t, "makes a network namespace")
	for _, p := range programs {
		if !strings.HasPrefix(p, "/") {
			need.Programs(t, "what demo/prepare.sh lists", p)
		} else if _, err := os.Stat(p); err != nil {
			need.Lack(t, "needs the file "+p)
		}
	}
}

// insideNamespace runs the test again in a process with a network namespace of its own, which goes away with it, and says whether
// this is that process.
func insideNamespace(t *testing.T, setup ...string) bool {
	t.Helper()
	const mark = "MUSTER_TEST_NAMESPACE"
	if os.Getenv(mark) == t.Name() {
		for _, s := range append([]string{
			"link set lo up", "link add br0 type bridge stp_state 0 forward_delay 0",
			"address add 10.77.0.1/16 dev br0", "link set br0 up",
		}, setup...) {
			if out, err := exec.Command("ip", strings.Fields(s)...).CombinedOutput(); err != nil {
				t.Fatalf("ip %s: %v: %s", s, err, out)
			}
		}
		return true
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", fmt.Sprintf("-without-ra=%t", *withoutRA))
	cmd.Env = append(os.Environ(), mark+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(out, []byte("--- SKIP")) {
		t.Skip("skipped in its namespace")
	}
	return false
}

// machine is a QEMU machine with an empty memory of its firmware. Its console goes to a file.
func machine(t *testing.T, i int, firmware string) (console string) {
	t.Helper()
	console, _ = start(t, i, firmware)
	return console
}

// start is machine, and how to switch it off before the test ends.
func start(t *testing.T, i int, firmware string) (console string, off func()) {
	t.Helper()
	dir := t.TempDir()
	console = filepath.Join(dir, "console")
	memory := "256"
	if firmware == "secboot" {
		memory = "512" // for Debian's kernel
	}
	args := []string{
		"-name", fmt.Sprintf("n%d", i), "-accel", "tcg,tb-size=32", "-cpu", "max,-erms", "-m", memory, "-display", "none", "-monitor", "none",
		"-serial", "file:" + console, "-boot", "order=n,reboot-timeout=5000",
		"-netdev", fmt.Sprintf("tap,id=n0,ifname=tap%d,script=no,downscript=no", i),
		"-object", "rng-random,id=r0,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=r0",
	}
	nic := "virtio-net-pci,netdev=n0,mac=" + mac(i)
	if firmware == "bios" {
		args = append(args, "-M", "q35,graphics=off", "-device", nic)
	} else {
		code, empty := "/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"
		board := []string{"-M", "q35"}
		if firmware == "secboot" {
			code, empty = "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd", "/usr/share/OVMF/OVMF_VARS_4M.ms.fd"
			board = []string{"-M", "q35,smm=on", "-global", "driver=cfi.pflash01,property=secure,value=on", "-global", "ICH9-LPC.disable_s3=1"}
		}
		vars := filepath.Join(dir, "vars.fd")
		b, err := os.ReadFile(empty)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(vars, b, 0o600); err != nil {
			t.Fatal(err)
		}
		// Without romfile= the iPXE in QEMU's own option ROM takes the place of the firmware's network boot.
		args = append(args, board...)
		args = append(args, "-device", nic+",romfile=",
			"-drive", "if=pflash,unit=0,format=raw,readonly=on,file="+code,
			"-drive", "if=pflash,unit=1,format=raw,file="+vars)
		if firmware == "uefi6" {
			args = append(args, "-fw_cfg", "name=opt/org.tianocore/IPv4PXESupport,string=n")
		}
		if firmware == "uefi-http" {
			args = append(args, "-fw_cfg", "name=opt/org.tianocore/IPv4PXESupport,string=n", "-fw_cfg", "name=opt/org.tianocore/IPv6PXESupport,string=n")
		}
	}
	cmd := exec.Command("qemu-system-x86_64", args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	off = sync.OnceFunc(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	t.Cleanup(off)
	return console, off
}

func TestNetboot(t *testing.T) {
	needs(t, "qemu-system-x86_64", "ip", "/usr/share/OVMF/OVMF_CODE_4M.fd", tftpd.Dir)
	var taps []string
	for i := 1; i <= 3; i++ {
		taps = append(taps, fmt.Sprintf("tuntap add dev tap%d mode tap", i), fmt.Sprintf("link set tap%d master br0 up", i))
	}
	if !insideNamespace(t, taps...) {
		return
	}
	begin := time.Now()
	w := newWorld(func(f string, a ...any) { t.Logf("%5.1f s  "+f, append([]any{time.Since(begin).Seconds()}, a...)...) }, 3)
	serve(t, w, !*withoutRA)
	ctx, cancel := context.WithTimeout(context.Background(), 150*time.Second)
	defer cancel()
	for i, m := range []struct {
		firmware string
		steps    []string
	}{
		{"bios", []string{boot.StepOffer, boot.StepAck, boot.StepScript, boot.StepFile}},
		{"uefi", []string{boot.StepOffer, boot.StepAck, boot.StepLoader, boot.StepOffer, boot.StepAck, boot.StepScript, boot.StepFile}},
		{"uefi-http", []string{boot.StepOffer, boot.StepAck, boot.StepLoader, boot.StepOffer, boot.StepAck, boot.StepScript, boot.StepFile}},
	} {
		node := fmt.Sprintf("n%d", i+1)
		console := machine(t, i+1, m.firmware)
		defer func() {
			if t.Failed() {
				b, _ := os.ReadFile(console)
				t.Logf("console of %s:\n%q", node, b[max(0, len(b)-3000):])
			}
		}()
		if err := w.wait(ctx, node, m.steps...); err != nil {
			t.Errorf("%s: %v", m.firmware, err)
			continue
		}
		t.Logf("%s: kernel asked for %.1f s after the first machine was switched on", m.firmware, time.Since(begin).Seconds())
	}
}

// TestAnInterfaceThatGoesDownAndUpIsServedOn is a bridge that is restarted beneath the services.
func TestAnInterfaceThatGoesDownAndUpIsServedOn(t *testing.T) {
	needs(t, "ip")
	if !insideNamespace(t, "link add ve0 type veth peer name ve1", "link set ve0 master br0 up", "link set ve1 up") {
		return
	}
	w := newWorld(t.Logf, 1)
	serve(t, w, true) // a service that ends by itself fails the test
	at, err := net.InterfaceByName("ve1")
	if err != nil {
		t.Fatal(err)
	}
	raw, err := packet.Listen(at, packet.Raw, 0x86dd, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	who, err := net.ParseMAC(mac(1))
	if err != nil {
		t.Fatal(err)
	}
	// A router solicitation without source address, its checksum as RFC 4443 §2.3 has it.
	b := append([]byte{0x33, 0x33, 0, 0, 0, 2}, who...)
	b = append(b, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 8, 58, 255)
	b = append(append(b, make([]byte, 16)...), 0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2)
	b = append(b, 133, 0, 0x7b, 0xb8, 0, 0, 0, 0)
	answered := func() bool {
		deadline := time.Now().Add(10 * time.Second)
		buf := make([]byte, 2048)
		for time.Now().Before(deadline) {
			if _, err := raw.WriteTo(b, &packet.Addr{HardwareAddr: b[:6]}); err != nil {
				t.Log(err)
			}
			_ = raw.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
			for {
				n, _, err := raw.ReadFrom(buf)
				if err != nil {
					break
				}
				if n > 54 && bytes.Equal(buf[:6], who) && buf[54] == 134 {
					return true
				}
			}
		}
		return false
	}
	if !answered() {
		t.Fatal("a solicitation is not answered")
	}
	for _, state := range []string{"down", "up"} {
		if out, err := exec.Command("ip", "link", "set", "br0", state).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	if !answered() {
		t.Error("a solicitation is not answered after the interface was down")
	}
}

func TestEveryExchangeOfPerfdhcpIsAnswered(t *testing.T) {
	needs(t, "perfdhcp", "ip")
	if !insideNamespace(t, "link add ve0 type veth peer name ve1", "link set ve0 master br0 up") {
		return
	}
	const machines, rate = 1000, 1000
	w := newWorld(nil, machines)
	serve(t, w, false)
	var macs strings.Builder
	for i := 1; i <= machines; i++ {
		fmt.Fprintln(&macs, mac(i))
	}
	list := filepath.Join(t.TempDir(), "macs")
	if err := os.WriteFile(list, []byte(macs.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	// perfdhcp speaks as a relay at 10.77.0.2, from a namespace of its own; it begins when its end of the cable is there.
	cmd := exec.Command("sh", "-ec", fmt.Sprintf(`read go; ip link set lo up; ip link set ve1 up; ip address add 10.77.0.2/16 dev ve1
		exec perfdhcp -4 -l ve1 -r %d -R %d -n %d -M %s -W 2000000 -s 1`, rate, machines, 2*machines, list))
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if b, err := exec.Command("ip", "link", "set", "ve1", "netns", fmt.Sprint(cmd.Process.Pid)).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	before := cpu()
	io.WriteString(in, "go\n")
	err = cmd.Wait()
	t.Logf("our processor time: %v for %d exchanges of four messages", cpu()-before, 2*machines)
	t.Logf("%s", out.Bytes())
	if err != nil {
		t.Error(err)
	}
	told := map[string]int{}
	for _, e := range w.events {
		told[e.Step]++
		if e.Step == boot.StepSilent {
			t.Errorf("%s: %s", e.What, e.Reason)
		}
	}
	t.Logf("told: %v", told)
	if m := regexp.MustCompile(`drops: (\d+)`).FindAllStringSubmatch(out.String(), -1); len(m) != 2 || m[0][1] != "0" || m[1][1] != "0" {
		t.Errorf("perfdhcp saw drops: %v", m)
	}
}

func cpu() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
