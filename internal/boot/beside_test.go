package boot_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/dhcpv6/nclient6"
	"github.com/mdlayher/packet"

	"muster/internal/boot"
	"muster/internal/model"
)

// Programs of others on the same segment: servers that are not ours, relay agents, firmware that Microsoft's key guards.

// elsewhere runs a shell script in a network namespace of its own, to which it moves the named interfaces first, until the test ends. It
// returns once the output has the line that says that it serves.
func elsewhere(t *testing.T, ready, script string, interfaces ...string) {
	t.Helper()
	cmd := exec.Command("sh", "-ec", "read go; ip link set lo up\n"+script)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL, Setpgid: true}
	cmd.WaitDelay = time.Second
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out := &lines{ready: ready, seen: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // the script may have left something in the background
		<-ended
		if t.Failed() {
			t.Logf("elsewhere:\n%s", out)
		}
	})
	for _, i := range interfaces {
		if b, err := exec.Command("ip", "link", "set", i, "netns", fmt.Sprint(cmd.Process.Pid)).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, b)
		}
	}
	_, _ = io.WriteString(in, "go\n")
	select {
	case <-out.seen:
	case <-ended:
		t.Fatalf("it ended:\n%s", out)
	case <-time.After(30 * time.Second):
		t.Fatalf("no %q in\n%s", ready, out)
	}
}

// lines is the output of a program, which is looked through for a word.
type lines struct {
	mu    sync.Mutex
	b     bytes.Buffer
	ready string
	once  sync.Once
	seen  chan struct{}
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, err := l.b.Write(b)
	if strings.Contains(l.b.String(), l.ready) {
		l.once.Do(func() { close(l.seen) })
	}
	return n, err
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// dnsmasq is a DHCP server of somebody else's, 10.77.0.53, at the other end of ve0: it gives addresses of its own and nothing to boot.
func dnsmasq(t *testing.T, more string) {
	t.Helper()
	elsewhere(t, "DHCP, IP range", `ip link set ve1 up; ip address add 10.77.0.53/16 dev ve1
		exec dnsmasq -k --log-facility=- --log-dhcp --port=0 --no-ping --interface=ve1 --bind-interfaces --conf-file=/dev/null --leasefile-ro \
			--dhcp-range=10.77.200.1,10.77.200.100,1h `+more, "ve1")
}

// sniff hears what DHCP servers send on an interface of this namespace, until the test ends. It tells the server identifiers.
func sniff(t *testing.T, name string) (heard func() []*dhcpv4.DHCPv4) {
	t.Helper()
	at, err := net.InterfaceByName(name)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := packet.Listen(at, packet.Raw, 0x0003, nil) // all protocols, and also what leaves
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var all []*dhcpv4.DHCPv4
	go func() {
		buf := make([]byte, 4096)
		for {
			n, _, err := raw.ReadFrom(buf)
			if err != nil {
				return
			}
			const udp = 14 + 20
			if n < udp+8 || binary.BigEndian.Uint16(buf[12:]) != 0x0800 || buf[14] != 0x45 || buf[23] != 17 {
				continue
			}
			if m, err := dhcpv4.FromBytes(buf[udp+8 : n]); err == nil && m.OpCode == dhcpv4.OpcodeBootReply {
				mu.Lock()
				all = append(all, m)
				mu.Unlock()
			}
		}
	}()
	t.Cleanup(func() { _ = raw.Close() })
	return func() []*dhcpv4.DHCPv4 {
		mu.Lock()
		defer mu.Unlock()
		return append([]*dhcpv4.DHCPv4(nil), all...)
	}
}

// exchange is a machine that gets an address by DHCP on an interface, whoever offers it.
func exchange(ctx context.Context, t *testing.T, on, hw string, more ...dhcpv4.Modifier) *nclient4.Lease {
	t.Helper()
	m, err := net.ParseMAC(hw)
	if err != nil {
		t.Fatal(err)
	}
	c, err := nclient4.New(on, nclient4.WithHWAddr(m), nclient4.WithTimeout(time.Second), nclient4.WithRetry(20))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	l, err := c.Request(ctx, append(more, dhcpv4.WithBroadcast(true))...)
	if err != nil {
		t.Fatalf("%s: %v", hw, err)
	}
	return l
}

// of counts the answers of a server.
func of(all []*dhcpv4.DHCPv4, server string) int {
	n := 0
	for _, m := range all {
		if m.ServerIdentifier().String() == server {
			n++
		}
	}
	return n
}

func TestAnotherDHCPServerOnTheSegmentIsUndisturbed(t *testing.T) {
	needs(t, "ip", "dnsmasq")
	if !insideNamespace(t, "link add ve0 type veth peer name ve1", "link set ve0 master br0 up", "link add cl0 type veth peer name cl1", "link set cl1 master br0 up", "link set cl0 up") {
		return
	}
	w := newWorld(t.Logf, 2)
	for _, n := range []string{"n1", "n2"} {
		w.attrs(n, map[model.AttrName]string{"net.boot.mode": "observe"})
	}
	serve(t, w, false)
	dnsmasq(t, "--dhcp-host="+mac(1)+",10.77.1.2 --dhcp-boot=theirs.efi")
	heard := sniff(t, "cl0")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	// A node that is only observed, one that would get another address here, and a machine that nobody knows here.
	pxe := dhcpv4.WithOption(dhcpv4.OptClassIdentifier("PXEClient:Arch:00007:UNDI:003016"))
	for hw, want := range map[string]string{mac(1): "10.77.1.2", mac(2): "10.77.200.", "52:54:00:99:99:99": "10.77.200."} {
		l := exchange(ctx, t, "cl0", hw, pxe)
		if got := l.ACK.YourIPAddr.String(); !strings.HasPrefix(got, want) || l.ACK.ServerIdentifier().String() != "10.77.0.53" {
			t.Errorf("%s got %s of %s, want %s", hw, got, l.ACK.ServerIdentifier(), want)
		}
	}
	for _, n := range []string{"n1", "n2"} {
		if err := w.wait(ctx, n, boot.StepObserved, boot.StepObserved); err != nil {
			t.Fatal(err)
		}
	}
	// A machine that comes back with its old address must not hear that it is refused, whoever it is.
	for _, hw := range []string{mac(2), "52:54:00:99:99:99"} {
		m, _ := net.ParseMAC(hw)
		c, err := nclient4.New("cl0", nclient4.WithHWAddr(m), nclient4.WithTimeout(300*time.Millisecond), nclient4.WithRetry(1))
		if err != nil {
			t.Fatal(err)
		}
		again, err := dhcpv4.New(dhcpv4.WithHwAddr(m), dhcpv4.WithBroadcast(true), dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest),
			dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(net.IPv4(10, 77, 5, 5))))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.SendAndRead(ctx, nclient4.DefaultServers, again, nil)
		_ = c.Close()
	}
	if err := w.wait(ctx, "n2", boot.StepObserved, boot.StepObserved, boot.StepObserved); err != nil {
		t.Fatal(err)
	}
	if n := of(heard(), "10.77.0.1"); n != 0 {
		t.Errorf("%d answers of ours were heard: %v", n, heard())
	}
	if n := of(heard(), "10.77.0.53"); n < 6 {
		t.Errorf("%d answers of the other server were heard: the sniffer is deaf", n)
	}
	var said []string
	w.mu.Lock()
	for _, e := range w.events {
		said = append(said, fmt.Sprintf("%s %t %s (%s)", e.Node, e.Bad, e.What, e.Reason))
	}
	w.mu.Unlock()
	for _, want := range []string{
		"n1 false not answered; the answer would be: x86-64 UEFI was offered 10.77.1.2/16, to boot snponly.efi (net.boot.mode is observe; muster take n1 lets it be answered.",
		"n1 false x86-64 UEFI takes 10.77.1.2 of the DHCP server 10.77.0.53, which is what it would get here",
		"n2 true x86-64 UEFI takes 10.77.200.",
		"n2 false not answered; the answer would be: an operating system was refused the address 10.77.5.5",
	} {
		if !strings.Contains(strings.Join(said, "\n"), want) {
			t.Errorf("nobody said %q:\n%s", want, strings.Join(said, "\n"))
		}
	}
	// The packet after the node was taken is answered.
	w.attrs("n1", map[model.AttrName]string{"net.boot.mode": "full"})
	m, _ := net.ParseMAC(mac(1))
	ask, err := dhcpv4.NewDiscovery(m, pxe, dhcpv4.WithBroadcast(true))
	if err != nil {
		t.Fatal(err)
	}
	c, err := nclient4.New("cl0", nclient4.WithHWAddr(m), nclient4.WithTimeout(5*time.Second), nclient4.WithRetry(1))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err = c.SendAndRead(ctx, nclient4.DefaultServers, ask, func(p *dhcpv4.DHCPv4) bool { return p.ServerIdentifier().String() == "10.77.0.1" }); err != nil {
		t.Errorf("taken: %v", err)
	}
}

func TestMachinesBehindRelayAgentsAreAnswered(t *testing.T) {
	needs(t, "ip", "dhcrelay", "dnsmasq")
	if !insideNamespace(t, "link add ve0 type veth peer name ve1", "link set ve0 master br0 up", "link add cl0 type veth peer name cl1",
		"address add fd77::1/64 dev br0 nodad", "route add 10.99.0.0/24 via 10.77.0.9", "-6 route add fd99::/64 via fd77::9") {
		return
	}
	for name, relay := range map[string]string{"isc-dhcp-relay": "exec dhcrelay -4 -d -a -m append -id br1 -iu ve1 10.77.0.1"} {
		t.Run(name, func(t *testing.T) {
			// The machine's link-local address is in use at once.
			if err := os.WriteFile("/proc/sys/net/ipv6/conf/cl0/accept_dad", []byte("0"), 0); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command("ip", "link", "set", "cl0", "address", mac(1), "up").CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			w := newWorld(t.Logf, 1)
			w.server.Address6, w.server.Network6 = netip.MustParseAddr("fd77::1"), netip.MustParsePrefix("fd77::/64")
			w.attrs("n1", map[model.AttrName]string{
				"net.far6.mac": mac(1), "net.far6.address": "fd99::7", "net.far6.prefix": "64", "net.far6.gateway": "fd99::fe",
				"net.far.mac": mac(1), "net.far.address": "10.99.0.7", "net.far.prefix": "24", "net.far.gateway": "10.99.0.254",
			})
			serve(t, w, false)
			heard := sniff(t, "br0")
			elsewhere(t, "br1", `ip link add br1 type bridge stp_state 0 forward_delay 0; ip link set cl1 master br1 up; ip link set ve1 up; ip link set br1 up
				ip address add 10.77.0.9/16 dev ve1; ip address add 10.99.0.254/24 dev br1; echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
				ip address add fd77::9/64 dev ve1 nodad; ip address add fd99::fe/64 dev br1 nodad
				sysctl -q net.ipv6.conf.br1.accept_dad=0; ip link set br1 down; ip link set br1 up; ip address add fd99::fe/64 dev br1 nodad || :
				dhcrelay -6 -d --no-pid -l br1 -u fd77::1%ve1 &
				`+relay, "ve1", "cl1")
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			l := exchange(ctx, t, "cl0", mac(1), dhcpv4.WithOption(dhcpv4.OptClassIdentifier("PXEClient:Arch:00000:UNDI:002001")))
			mask, _ := l.ACK.SubnetMask().Size()
			if got := fmt.Sprintf("%s/%d %v %s", l.ACK.YourIPAddr, mask, l.ACK.Router(), l.ACK.BootFileNameOption()); got != "10.99.0.7/24 [10.99.0.254] undionly.kpxe" {
				t.Errorf("got %s", got)
			}
			six, err := nclient6.New("cl0", nclient6.WithTimeout(time.Second), nclient6.WithRetry(20))
			if err != nil {
				t.Fatal(err)
			}
			defer six.Close()
			got6, err := six.Solicit(ctx, dhcpv6.WithClientID(&dhcpv6.DUIDUUID{UUID: [16]byte{1}}))
			if err == nil {
				got6, err = six.Request(ctx, got6)
			}
			if err != nil {
				t.Fatal(err)
			}
			if a := got6.Options.OneIANA().Options.OneAddress(); a == nil || a.IPv6Addr.String() != "fd99::7" {
				t.Errorf("DHCPv6: got %s", got6.Summary())
			}
			tagged := 0
			for _, m := range heard() {
				if agent := m.RelayAgentInfo(); agent != nil && string(agent.Get(dhcpv4.AgentCircuitIDSubOption)) == "br1" {
					tagged++
				}
			}
			if tagged != 2 {
				t.Errorf("%d answers have the relay agent's option: %v", tagged, heard())
			}
		})
	}
}

// TestProxyDHCP boots every kind of firmware beside a server that gives addresses and nothing to boot.
func TestProxyDHCP(t *testing.T) {
	needs(t, "qemu-system-x86_64", "ip", "dnsmasq", "/usr/share/OVMF/OVMF_CODE_4M.fd")
	setup := []string{"link add ve0 type veth peer name ve1", "link set ve0 master br0 up"}
	for i := 1; i <= 3; i++ {
		setup = append(setup, fmt.Sprintf("tuntap add dev tap%d mode tap", i), fmt.Sprintf("link set tap%d master br0 up", i))
	}
	if !insideNamespace(t, setup...) {
		return
	}
	begin := time.Now()
	w := newWorld(func(f string, a ...any) { t.Logf("%5.1f s  "+f, append([]any{time.Since(begin).Seconds()}, a...)...) }, 3)
	w.server.TicketKey = model.NewSecret("key")
	for i := 1; i <= 3; i++ {
		w.attrs(fmt.Sprintf("n%d", i), map[model.AttrName]string{"net.boot.mode": "proxy", "net.boot.address": ""})
	}
	serve(t, w, true)
	dnsmasq(t, "")
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Second)
	defer cancel()
	for i, m := range []struct {
		firmware string
		steps    []string
	}{
		{"bios", []string{boot.StepOffer, boot.StepScript, boot.StepFile}},
		{"uefi", []string{boot.StepOffer, boot.StepAck, boot.StepLoader, boot.StepOffer, boot.StepScript, boot.StepFile}},
		{"uefi-http", []string{boot.StepOffer, boot.StepLoader, boot.StepOffer, boot.StepScript, boot.StepFile}},
	} {
		boots(ctx, t, w, i+1, m.firmware, m.steps...)
	}
}

// boots switches a machine on and waits for what it gets to.
func boots(ctx context.Context, t *testing.T, w *world, i int, firmware string, steps ...string) (console string) {
	t.Helper()
	node := fmt.Sprintf("n%d", i)
	console, off := start(t, i, firmware)
	if firmware != "secboot" { // that one goes on to the kernel
		defer off()
	}
	if err := w.wait(ctx, node, steps...); err != nil {
		b, _ := os.ReadFile(console)
		t.Errorf("%s: %v\nconsole of %s:\n%q", firmware, err, node, b[max(0, len(b)-3000):])
	}
	return console
}

// TestIPv6Only boots UEFI firmware on a segment without any IPv4: by TFTP and by HTTP.
func TestIPv6Only(t *testing.T) {
	needs(t, "qemu-system-x86_64", "ip", "/usr/share/OVMF/OVMF_CODE_4M.fd")
	setup := []string{"address del 10.77.0.1/16 dev br0", "address add fd77::1/64 dev br0 nodad"}
	for i := 1; i <= 2; i++ {
		setup = append(setup, fmt.Sprintf("tuntap add dev tap%d mode tap", i), fmt.Sprintf("link set tap%d master br0 up", i))
	}
	if !insideNamespace(t, setup...) {
		return
	}
	begin := time.Now()
	w := newWorld(func(f string, a ...any) { t.Logf("%5.1f s  "+f, append([]any{time.Since(begin).Seconds()}, a...)...) }, 2)
	w.server.Address, w.server.Network = netip.Addr{}, netip.Prefix{}
	w.server.Address6, w.server.Network6 = netip.MustParseAddr("fd77::1"), netip.MustParsePrefix("fd77::/64")
	for i := 1; i <= 2; i++ {
		w.attrs(fmt.Sprintf("n%d", i), map[model.AttrName]string{"net.boot.address": fmt.Sprintf("fd77::1:%d", i)})
	}
	serve(t, w, true)
	ctx, cancel := context.WithTimeout(context.Background(), 420*time.Second)
	defer cancel()
	steps := []string{boot.StepOffer, boot.StepAck, boot.StepLoader, boot.StepOffer, boot.StepAck, boot.StepScript, boot.StepFile}
	var both sync.WaitGroup // firmware waits long for IPv4, which there is none of
	both.Go(func() { boots(ctx, t, w, 1, "uefi6", steps...) })
	both.Go(func() { boots(ctx, t, w, 2, "uefi-http", steps...) })
	both.Wait()
}

// TestSecureBoot boots Debian's kernel by the shim and GRUB that are signed, on firmware with Microsoft's keys; the kernel itself says that
// nothing unsigned was in between. The same firmware refuses iPXE, which is not signed.
func TestSecureBoot(t *testing.T) {
	needs(t, "qemu-system-x86_64", "ip", "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd", "/usr/lib/shim/shimx64.efi.signed", "/usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed")
	if os.Getenv("MUSTER_TEST_KERNEL") == "" { // the namespace has no way to the packages
		t.Setenv("MUSTER_TEST_KERNEL", signedKernel(t))
	}
	if !insideNamespace(t, "tuntap add dev tap1 mode tap", "link set tap1 master br0 up", "tuntap add dev tap2 mode tap", "link set tap2 master br0 up") {
		return
	}
	kernel := os.Getenv("MUSTER_TEST_KERNEL")
	begin := time.Now()
	w := newWorld(func(f string, a ...any) { t.Logf("%5.1f s  "+f, append([]any{time.Since(begin).Seconds()}, a...)...) }, 2)
	w.server.TicketKey = model.NewSecret("key")
	w.attrs("n1", map[model.AttrName]string{"boot.loader": "shim"})
	w.files = map[string]string{fmt.Sprintf("sha256:%064x", 1): kernel}
	serve(t, w, true)
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Second)
	defer cancel()
	console := boots(ctx, t, w, 1, "secboot", boot.StepOffer, boot.StepAck, boot.StepLoader, boot.StepLoader, boot.StepScript, boot.StepFile, boot.StepFile)
	says(ctx, t, console, "Secure boot enabled")
	refused, off := start(t, 2, "secboot")
	defer off()
	says(ctx, t, refused, "Access Denied")
}

// says waits for a text on a console.
func says(ctx context.Context, t *testing.T, console, text string) {
	t.Helper()
	for tick := time.NewTicker(100 * time.Millisecond); ; <-tick.C {
		b, err := os.ReadFile(console)
		if err != nil && !os.IsNotExist(err) { // the machine makes it
			t.Fatal(err)
		}
		if bytes.Contains(b, []byte(text)) {
			return
		}
		if ctx.Err() != nil {
			t.Errorf("no %q on the console:\n%q", text, b[max(0, len(b)-3000):])
			return
		}
	}
}

// signedKernel is Debian's kernel, as its package has it.
func signedKernel(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	out, err := exec.Command("sh", "-ec", `cd "$0"; p=$(apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: \(linux-image-.*-amd64\)$/\1/p'); apt-get -q download "$p"; dpkg -x ./*.deb .`, dir).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	found, _ := filepath.Glob(filepath.Join(dir, "boot", "vmlinuz-*"))
	if len(found) != 1 {
		t.Fatalf("kernels: %v", found)
	}
	return found[0]
}
