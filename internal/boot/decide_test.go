package boot

import (
	"net/http"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"muster/internal/model"
)

var (
	noon = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	here = Server{
		Interface: "br0", Address: netip.MustParseAddr("10.77.0.1"), Network: netip.MustParsePrefix("10.77.0.0/16"),
		HTTPPort: 8080, APIPort: 8443, Pin: "sha256:" + strings.Repeat("ab", 32),
	}
	at1   = netip.MustParseAddr("10.77.1.1")
	relay = netip.MustParseAddr("10.99.0.254")
	other = netip.MustParseAddr("10.77.9.9")
	img   = &model.Image{
		Name: "compute", Kernel: "6.1.0-50-amd64",
		Kernelf: model.File{Name: "vmlinuz", Digest: "sha256:" + strings.Repeat("1", 64), Size: 8 << 20},
		Initrd:  model.File{Name: "initrd.img", Digest: "sha256:" + strings.Repeat("2", 64), Size: 4 << 20},
	}
	armed = model.Deployment{Node: "r1n1", Image: "compute", Boots: 3, Left: 3, Phase: model.Armed}
)

const (
	mac1    = "52:54:00:77:00:01"
	mac2    = "52:54:00:77:00:02" // of the second port of r1n1
	unknown = "52:54:00:99:99:99"
)

var (
	second  = netip.MustParseAddr("10.77.0.2") // another manager
	signed  = map[string]string{ShimLoader: "sha256:1", GrubLoader: "sha256:2"}
	observe = attrs{"net.boot.mode": "observe"}
	proxy   = attrs{"net.boot.mode": "proxy"}
	shim    = attrs{"boot.loader": "shim"}
	who     = Request{MAC: mac1, Server: here, at: noon}.who()
)

type attrs = map[model.AttrName]string

// snapshot is a world with node r1n1, the image compute, and what else is given.
func snapshot(t testing.TB, more attrs, dep *model.Deployment) *model.Snapshot {
	t.Helper()
	a := attrs{
		"net.boot.mac": mac1, "net.boot.address": "10.77.1.1", "net.data.mac": mac2, "net.data.address": "10.99.0.1",
		"net.data.prefix": "24",
	}
	for k, v := range more {
		if a[k] = v; v == "" {
			delete(a, k)
		}
	}
	ops := []model.Op{
		{Kind: model.KindNode, Name: "r1n1", Doc: &model.Node{Name: "r1n1", Attrs: a}},
		{Kind: model.KindNode, Name: "r1n2", Doc: &model.Node{Name: "r1n2", Attrs: attrs{"net.boot.mac": "52:54:00:77:00:03", "net.boot.address": "10.77.1.2"}}},
		{Kind: model.KindImage, Name: "compute", Doc: img},
	}
	if dep != nil {
		d := *dep
		ops = append(ops, model.Op{Kind: model.KindDeployment, Name: "r1n1", Doc: &d})
	}
	s, err := model.Apply(model.Empty(), &model.Change{Revision: 1, Ops: ops})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// pool adds another manager, on the network of the nodes and on one that they do not reach.
func pool(t testing.TB, s *model.Snapshot) *model.Snapshot {
	t.Helper()
	m := &model.Manager{Name: "m2", Boot: []model.BootPlace{{Address: "10.77.0.2/16", HTTP: 8081, API: 8444}, {Address: "10.66.0.2/16", HTTP: 1, API: 2}}}
	s, err := model.Apply(s, &model.Change{Revision: 2, Ops: []model.Op{{Kind: model.KindManager, Name: "m2", Doc: m}}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// deployment returns the deployment that the decision records, nil when it records none.
func deployment(t *testing.T, d Decision) *model.Deployment {
	t.Helper()
	if len(d.Ops) == 0 {
		return nil
	}
	if len(d.Ops) != 1 || d.Ops[0].Kind != model.KindDeployment || d.Ops[0].Name != "r1n1" {
		t.Fatalf("ops: %+v", d.Ops)
	}
	dep := *d.Ops[0].Doc.(*model.Deployment)
	dep.Revision = 0
	return &dep
}

// steps are the steps of the events, "!" before those that a person should look at.
func steps(d Decision) string {
	var s []string
	for _, e := range d.Events {
		if e.Bad {
			e.Step = "!" + e.Step
		}
		s = append(s, e.Step)
	}
	return strings.Join(s, " ")
}

func TestDecide(t *testing.T) {
	bios := Request{Type: DHCPDiscover, PXE: true}
	uefi := Request{Type: DHCPDiscover, PXE: true, Arch: 7}
	ipxe := Request{Type: DHCPDiscover, PXE: true, IPXE: true}
	with := func(r Request, f func(*Request)) Request { f(&r); return r }
	for _, c := range []struct {
		name   string
		attrs  attrs
		dep    *model.Deployment
		r      Request
		silent bool
		lease  *Lease // compared where it is given
		file   string
		steps  string
		reason string // part of it
	}{
		{name: "unknown mac stays silent", dep: &armed, r: with(bios, func(r *Request) { r.MAC = unknown }), silent: true, steps: "dhcp.silent", reason: "no node has net.boot.mac=" + unknown},
		{name: "mac that is none stays silent", r: with(bios, func(r *Request) { r.MAC = "00:11" }), silent: true, reason: "not an Ethernet address"},
		{name: "mac is compared without regard to its form", dep: &armed, r: with(bios, func(r *Request) { r.MAC = "52-54-00-77-00-01" }), file: BIOSLoader, steps: "dhcp.offer"},
		{name: "known node without deployment gets an address and no file", r: bios, steps: "dhcp.offer", reason: "nothing is deployed; muster deploy r1n1 IMAGE", lease: &Lease{
			Type: DHCPOffer, Address: netip.MustParsePrefix("10.77.1.1/16"), Hostname: "r1n1", Time: LeaseTime,
		}},
		{name: "network attributes go into the answer", attrs: attrs{"net.boot.prefix": "24", "net.boot.gateway": "10.77.1.254", "net.boot.dns": "10.77.0.1,10.77.0.2"}, r: bios, steps: "dhcp.offer", lease: &Lease{
			Type: DHCPOffer, Address: netip.MustParsePrefix("10.77.1.1/24"), Hostname: "r1n1", Time: LeaseTime,
			Gateway: netip.MustParseAddr("10.77.1.254"), DNS: []netip.Addr{here.Address, netip.MustParseAddr("10.77.0.2")},
		}},
		{name: "bios gets undionly", dep: &armed, r: bios, file: "undionly.kpxe", steps: "dhcp.offer", reason: "image compute is deployed"},
		{name: "uefi gets snponly", dep: &armed, r: uefi, file: "snponly.efi", steps: "dhcp.offer"},
		{name: "uefi that says byte code gets snponly", dep: &armed, r: with(uefi, func(r *Request) { r.Arch = 9 }), file: "snponly.efi", steps: "dhcp.offer"},
		{name: "uefi http gets a url and its class back", dep: &armed, r: with(uefi, func(r *Request) { r.Arch, r.HTTP = 16, true }), steps: "dhcp.offer", lease: &Lease{
			Type: DHCPOffer, Address: netip.MustParsePrefix("10.77.1.1/16"), Hostname: "r1n1", Time: LeaseTime,
			BootFile: "http://10.77.0.1:8080/boot/loader/ipxe.efi", Class: "HTTPClient",
		}},
		{name: "arm64 gets an address and no file", dep: &armed, r: with(uefi, func(r *Request) { r.Arch = 11 }), steps: "dhcp.offer", reason: "no arm64 UEFI loader snponly-arm64.efi"},
		{name: "arm64 gets its loader where the manager has it", dep: &armed, r: with(uefi, func(r *Request) {
			r.Arch, r.Server.Assets = 11, map[string]string{"snponly-arm64.efi": "sha256:1"}
		}), file: "snponly-arm64.efi", steps: "dhcp.offer"},
		{name: "unheard of architecture gets an address and no file", dep: &armed, r: with(uefi, func(r *Request) { r.Arch = 4711 }), steps: "dhcp.offer", reason: "no loader for architecture 4711"},
		{name: "ipxe gets the script", dep: &armed, r: ipxe, file: "http://10.77.0.1:8080/boot/script?mac=" + mac1, steps: "dhcp.offer"},
		{name: "ipxe of a held node gets the script that says so", dep: &model.Deployment{Node: "r1n1", Image: "compute", Phase: model.Held}, r: ipxe, file: "http://10.77.0.1:8080/boot/script?mac=" + mac1, steps: "dhcp.offer"},
		{name: "operating system gets an address and no file", dep: &armed, r: Request{Type: DHCPDiscover}, steps: "dhcp.offer", reason: "does not ask for something to boot"},
		{name: "second port has its own address", attrs: attrs{"net.data.gateway": "10.99.0.254"}, dep: &armed, r: with(bios, func(r *Request) { r.MAC, r.Relay = mac2, relay }), file: BIOSLoader, steps: "dhcp.offer"},
		{name: "address behind a relay without gateway stays silent", dep: &armed, r: with(bios, func(r *Request) { r.MAC, r.Relay = mac2, relay }), silent: true, steps: "!dhcp.silent", reason: "net.data.gateway is not set"},
		{name: "address of another network without gateway stays silent", dep: &armed, r: with(bios, func(r *Request) { r.MAC = mac2 }), silent: true, steps: "!dhcp.silent", reason: "10.99.0.1 is not in 10.77.0.0/16 of br0"},
		{name: "node without address stays silent", attrs: attrs{"net.boot.address": ""}, r: bios, silent: true, steps: "!dhcp.silent", reason: "muster set r1n1 net.boot.address="},
		{name: "address without prefix outside the network stays silent", attrs: attrs{"net.boot.address": "192.0.2.1"}, r: bios, silent: true, steps: "!dhcp.silent", reason: "net.boot.prefix is not set"},

		{name: "request for the node's address is acknowledged", dep: &armed, r: with(bios, func(r *Request) { r.Type, r.Asked, r.ServerID = DHCPRequest, at1, here.Address }), file: BIOSLoader, steps: "dhcp.ack"},
		{name: "request without server is acknowledged", r: Request{Type: DHCPRequest, Asked: at1}, steps: "dhcp.ack"},
		{name: "request for a wrong address is refused", r: Request{Type: DHCPRequest, Asked: other}, steps: "dhcp.nak", reason: "it asked for 10.77.9.9", lease: &Lease{Type: DHCPNak, Message: "r1n1 has address 10.77.1.1"}},
		{name: "request to another server stays silent", r: Request{Type: DHCPRequest, Asked: other, ServerID: other}, silent: true, steps: "!dhcp.silent", reason: "another DHCP server, 10.77.9.9"},
		{name: "request of an unknown machine is never refused", r: Request{Type: DHCPRequest, MAC: unknown, Asked: other}, silent: true, steps: "dhcp.silent"},
		{name: "request without address stays silent", r: Request{Type: DHCPRequest}, silent: true, steps: "dhcp.silent", reason: "names no address"},
		{name: "inform is answered without lease time", r: Request{Type: DHCPInform, Asked: at1}, steps: "dhcp.ack", lease: &Lease{Type: DHCPAck, Address: netip.MustParsePrefix("10.77.1.1/16"), Hostname: "r1n1"}},
		{name: "decline is recorded for people", r: Request{Type: DHCPDecline, Asked: at1, ServerID: here.Address}, silent: true, steps: "!dhcp.decline", reason: "another machine on br0 uses 10.77.1.1"},
		{name: "release changes nothing", r: Request{Type: DHCPRelease, Asked: at1, ServerID: here.Address}, silent: true, steps: "dhcp.release"},
		{name: "message of a server stays silent", r: Request{Type: DHCPOffer}, silent: true, reason: "not one of a client"},
		{name: "relay agent of another network than the address stays silent", dep: &armed, r: with(bios, func(r *Request) { r.MAC, r.Relay = mac2, at1 }), silent: true, steps: "!dhcp.silent", reason: "the relay agent 10.77.1.1 asks for the network of 10.77.1.1"},
		{name: "link selection counts more than the relay's address", attrs: attrs{"net.data.gateway": "10.99.0.254"}, dep: &armed, r: with(bios, func(r *Request) { r.MAC, r.Relay, r.Link = mac2, other, relay }), file: BIOSLoader, steps: "dhcp.offer"},
		{name: "of two ports with one mac the one on the relay's network counts", attrs: attrs{"net.a.mac": mac2, "net.a.address": "10.98.0.1", "net.a.prefix": "24", "net.data.gateway": "10.99.0.254"}, dep: &armed, r: with(bios, func(r *Request) { r.MAC, r.Relay = mac2, relay }), steps: "dhcp.offer", lease: &Lease{
			Type: DHCPOffer, Address: netip.MustParsePrefix("10.99.0.1/24"), Hostname: "r1n1", Time: LeaseTime, Gateway: relay, BootFile: BIOSLoader,
		}},
		{name: "request to the address that the relay overrides is acknowledged", attrs: attrs{"net.data.gateway": "10.99.0.254"}, r: Request{Type: DHCPRequest, MAC: mac2, Asked: netip.MustParseAddr("10.99.0.1"), ServerID: relay, Override: relay, Relay: relay}, steps: "dhcp.ack"},
		{name: "request to another manager stays silent without a word", r: Request{Type: DHCPRequest, Asked: at1, ServerID: second}, silent: true, reason: "another manager of this pool, 10.77.0.2"},

		{name: "observed node is not answered and it is recorded what it would get", attrs: observe, dep: &armed, r: bios, silent: true, steps: "dhcp.observed", reason: "net.boot.mode is observe; muster take r1n1"},
		{name: "observed node is not refused either", attrs: observe, r: Request{Type: DHCPRequest, Asked: other}, silent: true, steps: "dhcp.observed", reason: "it asked for 10.77.9.9"},
		{name: "observed node takes the address that is written here", attrs: observe, r: Request{Type: DHCPRequest, Asked: at1, ServerID: other}, silent: true, steps: "dhcp.observed", reason: "net.boot.address is 10.77.1.1"},
		{name: "observed node takes another address than is written here", attrs: observe, r: Request{Type: DHCPRequest, Asked: other, ServerID: other}, silent: true, steps: "!dhcp.observed", reason: "net.boot.address is 10.77.1.1"},
		{name: "solicitation of an observed machine stays silent", attrs: observe, r: Request{Stage: StageSolicit}, silent: true, reason: "net.boot.mode is observe"},

		{name: "proxied bios is told what to boot", attrs: proxy, dep: &armed, r: bios, steps: "dhcp.offer", lease: &Lease{Type: DHCPOffer, Proxy: true, BootFile: who + "/undionly.kpxe", Class: "PXEClient"}},
		{name: "proxied uefi is sent to port 4011", attrs: proxy, dep: &armed, r: uefi, steps: "dhcp.offer", lease: &Lease{Type: DHCPOffer, Proxy: true, Class: "PXEClient"}},
		{name: "proxied uefi is told at port 4011 what to boot", attrs: proxy, dep: &armed, r: with(uefi, func(r *Request) { r.Type, r.ProxyPort = DHCPRequest, true }), steps: "dhcp.ack", lease: &Lease{Type: DHCPAck, Proxy: true, BootFile: who + "/snponly.efi", Class: "PXEClient"}},
		{name: "proxied uefi http is told the url at once", attrs: proxy, dep: &armed, r: with(uefi, func(r *Request) { r.Arch, r.HTTP = 16, true }), steps: "dhcp.offer", lease: &Lease{Type: DHCPOffer, Proxy: true, BootFile: "http://10.77.0.1:8080/boot/loader/" + who + "/ipxe.efi", Class: "HTTPClient"}},
		{name: "proxied node without address is told, too", attrs: attrs{"net.boot.mode": "proxy", "net.boot.address": ""}, dep: &armed, r: bios, steps: "dhcp.offer"},
		{name: "proxied request for an address stays silent", attrs: proxy, dep: &armed, r: with(bios, func(r *Request) { r.Type, r.Asked = DHCPRequest, other }), silent: true, reason: "its address is another DHCP server's"},
		{name: "proxied operating system stays silent", attrs: proxy, dep: &armed, r: Request{Type: DHCPDiscover}, silent: true, reason: "its address is another DHCP server's"},
		{name: "proxied node without deployment stays silent", attrs: proxy, r: bios, silent: true, steps: "dhcp.silent", reason: "nothing is deployed"},

		{name: "uefi that is to boot by the shim gets it with its ticket", attrs: shim, dep: &armed, r: with(uefi, func(r *Request) { r.Server.Assets = signed }), file: who + "/shimx64.efi", steps: "dhcp.offer"},
		{name: "manager without the shim says so", attrs: shim, dep: &armed, r: uefi, steps: "dhcp.offer", reason: "no x86-64 UEFI loader shimx64.efi"},
		{name: "shim over http is not offered", attrs: shim, dep: &armed, r: with(uefi, func(r *Request) { r.Arch, r.HTTP, r.Server.Assets = 16, true, signed }), steps: "dhcp.offer", reason: "only by TFTP over IPv4"},
		{name: "bios ignores the shim", attrs: shim, dep: &armed, r: bios, file: BIOSLoader, steps: "dhcp.offer"},
		{name: "solicitation of a known machine is answered", r: Request{Stage: StageSolicit}, reason: "no IPv6 router"},
		{name: "solicitation of an unknown machine stays silent", r: Request{Stage: StageSolicit, MAC: unknown}, silent: true, reason: "no node has"},
		{name: "unknown stage is refused", r: Request{Stage: "lunch"}, silent: true, reason: "no stage"},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			assets := c.r.Server.Assets
			c.r.Server = here
			c.r.Server.Assets = assets
			if c.r.Stage == "" {
				c.r.Stage = StageDHCP
			}
			if c.r.MAC == "" {
				c.r.MAC = mac1
			}
			d := Decide(pool(t, snapshot(t, c.attrs, c.dep)), c.r, noon)
			if d.Silent != c.silent || steps(d) != c.steps || !strings.Contains(d.Reason, c.reason) || d.Reason == "" || len(d.Ops) > 0 {
				t.Errorf("got silent %v, steps %q, reason %q, ops %v; want %v, %q, %q", d.Silent, steps(d), d.Reason, d.Ops, c.silent, c.steps, c.reason)
			}
			if c.lease != nil && !reflect.DeepEqual(d.Lease, c.lease) {
				t.Errorf("got lease %+v, want %+v", d.Lease, c.lease)
			}
			if c.file != "" && (d.Lease == nil || d.Lease.BootFile != c.file) {
				t.Errorf("got lease %+v, want file %q", d.Lease, c.file)
			}
			for _, e := range d.Events {
				if !e.Time.Equal(noon) || e.Reason != d.Reason || (e.Node == "") == (e.MAC == "") {
					t.Errorf("event %+v", e)
				}
			}
		})
	}
}

func TestDecideLoaderAndFile(t *testing.T) {
	kernel := strings.Repeat("1", 64) + "/vmlinuz"
	for _, c := range []struct {
		name   string
		dep    *model.Deployment
		r      Request
		status int
		steps  string
		reason string
	}{
		{"loader goes to a node with a deployment", &armed, Request{Stage: StageLoader, Source: at1, Path: "snponly.efi"}, 200, "boot.loader", "DHCP answer named it"},
		{"loader is refused without deployment", nil, Request{Stage: StageLoader, Source: at1, Path: "snponly.efi"}, 409, "boot.refused", "nothing is deployed"},
		{"loader is refused to strangers", &armed, Request{Stage: StageLoader, Source: other, Path: "snponly.efi"}, 403, "boot.refused", "no node has net.*.address=10.77.9.9"},
		{"other names are refused", &armed, Request{Stage: StageLoader, Source: at1, Path: "../../etc/shadow"}, 404, "!boot.refused", "there is no such loader; there are undionly.kpxe"},
		{"kernel of the deployed image is given", &armed, Request{Stage: StageFile, Source: at1, Path: kernel}, 200, "boot.file", "it is of image compute"},
		{"mapped address is the same address", &armed, Request{Stage: StageFile, Source: netip.MustParseAddr("::ffff:10.77.1.1"), Path: kernel}, 200, "boot.file", ""},
		{"kernel is refused to strangers", &armed, Request{Stage: StageFile, Source: other, Path: kernel}, 403, "boot.refused", "no node has"},
		{"kernel is refused to a node without deployment", &armed, Request{Stage: StageFile, Source: netip.MustParseAddr("10.77.1.2"), Path: kernel}, 409, "!boot.refused", "nothing is deployed"},
		{"other digest is refused", &armed, Request{Stage: StageFile, Source: at1, Path: strings.Repeat("3", 64) + "/vmlinuz"}, 404, "!boot.refused", "no such file"},
		{"file of an image that is gone is refused", &model.Deployment{Node: "r1n1", Image: "gone", Left: 1}, Request{Stage: StageFile, Source: at1, Path: kernel}, 404, "!boot.refused", "image gone"},
		{"no address is no node", &armed, Request{Stage: StageFile, Path: kernel}, 403, "boot.refused", "no node has"},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			c.r.Server = here
			d := Decide(snapshot(t, nil, c.dep), c.r, noon)
			if d.Status != c.status || steps(d) != c.steps || !strings.Contains(d.Reason, c.reason) {
				t.Errorf("got %d, %q, %q; want %d, %q, %q", d.Status, steps(d), d.Reason, c.status, c.steps, c.reason)
			}
			if ok := d.Status == 200; ok != (d.Loader != "" || d.File != model.File{}) {
				t.Errorf("status %d with loader %q and file %+v", d.Status, d.Loader, d.File)
			}
		})
	}
}

const secret = "s3cr3t-token"

func script(s *model.Snapshot, from netip.Addr) Decision { return scriptAt(s, from, noon) }

func scriptAt(s *model.Snapshot, from netip.Addr, at time.Time) Decision {
	return Decide(s, Request{Stage: StageScript, Server: here, MAC: mac1, Source: from, Token: model.NewSecret(secret), TokenHash: "h1"}, at)
}

func TestDecideScript(t *testing.T) {
	t.Run("uses_one_network_boot_and_stores_the_token", func(t *testing.T) {
		d := script(snapshot(t, nil, &armed), at1)
		want := &model.Deployment{
			Node: "r1n1", Image: "compute", Boots: 3, Left: 2, Phase: model.Booting, Since: noon, Deadline: noon.Add(limits[model.Booting]),
			TokenHash: "h1", TokenExpires: noon.Add(TokenLife),
		}
		if got := deployment(t, d); d.Status != http.StatusOK || !reflect.DeepEqual(got, want) {
			t.Errorf("got %d %+v, want %+v", d.Status, got, want)
		}
		wantScript := `#!ipxe
echo muster: r1n1 boots image compute, kernel 6.1.0-50-amd64 (network boot 1 of 3)
set tries:int32 0
:fetch
imgfree ||
kernel --timeout 20000 --name kernel http://10.77.0.1:8080/boot/file/` + strings.Repeat("1", 64) + `/vmlinuz initrd=initrd console=ttyS0,115200 panic=10 muster.server=https://10.77.0.1:8443 muster.pin=sha256:` + strings.Repeat("ab", 32) + ` muster.node=r1n1 muster.net=52:54:00:77:00:01,10.77.1.1/16,, BOOTIF=01-52-54-00-77-00-01 muster.token=` + secret + ` && initrd --timeout 20000 --name initrd http://10.77.0.1:8080/boot/file/` + strings.Repeat("2", 64) + `/initrd.img && boot ||
inc tries
iseq ${tries} 20 && goto failed ||
echo muster: kernel or initramfs did not come from 10.77.0.1, again in 3 s
sleep 3
goto fetch
:failed
echo muster: kernel or initramfs did not come, this machine starts again. See:
echo muster:   muster why r1n1
sleep 10
reboot ||
exit 1
`
		if got := d.Script.Reveal(); got != wantScript {
			t.Errorf("got script\n%s\nwant\n%s", got, wantScript)
		}
	})
	t.Run("names_every_manager_that_the_node_reaches", func(t *testing.T) {
		text := script(pool(t, snapshot(t, nil, &armed)), at1).Script.Reveal()
		for _, want := range []string{
			" muster.server=https://10.77.0.1:8443,https://10.77.0.2:8444 ", "http://10.77.0.1:8080/boot/file/" + strings.Repeat("2", 64) + "/initrd.img && boot ||\n",
			"http://10.77.0.2:8081/boot/file/" + strings.Repeat("2", 64) + "/initrd.img && boot ||\n", "did not come from 10.77.0.1 or 10.77.0.2,",
		} {
			if !strings.Contains(text, want) {
				t.Errorf("no %q in\n%s", want, text)
			}
		}
		if strings.Contains(text, "10.66.0.2") {
			t.Errorf("a manager that cannot be reached is named:\n%s", text)
		}
		text = script(pool(t, snapshot(t, attrs{"net.boot.gateway": "10.77.0.254"}, &armed)), at1).Script.Reveal()
		if want := ",https://10.66.0.2:2 "; !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	})
	t.Run("grub_gets_the_same_in_its_own_words", func(t *testing.T) {
		d := Decide(pool(t, snapshot(t, attrs{"image.kernelargs": "a='b;c"}, &armed)), Request{
			Stage: StageScript, Server: here, MAC: mac1, Source: at1, Grub: true, Token: model.NewSecret(secret), TokenHash: "h1",
		}, noon)
		line := `'console=ttyS0,115200' 'panic=10' 'muster.server=https://10.77.0.1:8443,https://10.77.0.2:8444' 'muster.pin=sha256:` + strings.Repeat("ab", 32) +
			`' 'muster.node=r1n1' 'muster.net=52:54:00:77:00:01,10.77.1.1/16,,' 'BOOTIF=01-52-54-00-77-00-01' 'a='\''b;c' 'muster.token=` + secret + `'`
		want := `echo 'muster: r1n1 boots image compute, kernel 6.1.0-50-amd64 (network boot 1 of 3)'
`
		for _, a := range []string{"10.77.0.1", "10.77.0.2"} {
			want += "if linux (tftp," + a + ")/file/" + strings.Repeat("1", 64) + "/vmlinuz " + line + "; then\n" +
				"  if initrd (tftp," + a + ")/file/" + strings.Repeat("2", 64) + "/initrd.img; then boot; fi\nfi\n"
		}
		want += `echo 'muster: kernel or initramfs did not come, or the kernel is not signed; this machine starts again. See: muster why r1n1'
sleep 10
reboot
`
		if got := d.Script.Reveal(); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	})
	t.Run("a_proxied_machine_is_known_by_its_ticket_wherever_it_is", func(t *testing.T) {
		srv := here
		srv.TicketKey = model.NewSecret("key")
		r := Request{MAC: mac1, Server: srv, at: noon}
		r = Request{Stage: StageScript, Server: srv, MAC: mac1, Source: other, Ticket: strings.TrimPrefix(r.who(), "525400770001-"), Token: model.NewSecret(secret), TokenHash: "h1"}
		s := snapshot(t, proxy, &armed)
		text := Decide(s, r, noon).Script.Reveal()
		if !strings.Contains(text, " muster.net="+mac1+" ") {
			t.Errorf("its address is said in\n%s", text)
		}
		i := strings.Index(text, "/boot/file/")
		if i < 0 {
			t.Fatal(text)
		}
		path, _, _ := strings.Cut(text[i+len("/boot/file/"):], " ")
		if d := Decide(s, Request{Stage: StageFile, Server: srv, Source: other, Path: path}, noon); d.Status != http.StatusOK || d.Node != "r1n1" {
			t.Errorf("%s: got %d, %s", path, d.Status, d.Reason)
		}
		if d := Decide(s, Request{Stage: StageFile, Server: srv, Source: other, Path: strings.Replace(path, "-", "-0", 1)}, noon); d.Status == http.StatusOK {
			t.Error("a wrong ticket gets the kernel")
		}
		r.Ticket = strings.Repeat("0", 32)
		if d := Decide(s, r, noon); d.Status != http.StatusForbidden {
			t.Errorf("a wrong ticket gets the script: %s", d.Reason)
		}
	})
	t.Run("an_observed_machine_gets_no_script", func(t *testing.T) {
		if d := script(snapshot(t, observe, &armed), at1); d.Status != http.StatusForbidden || !strings.Contains(d.Reason, "muster take r1n1") || len(d.Ops) > 0 {
			t.Errorf("got %d, %s", d.Status, d.Reason)
		}
	})
	t.Run("network_and_arguments_come_from_attributes", func(t *testing.T) {
		d := script(snapshot(t, attrs{
			"net.boot.gateway": "10.77.0.254", "net.boot.dns": "10.77.0.1,10.77.0.2", "image.kernelargs": "mitigations=off quiet",
			"console.device": "ttyS1", "console.speed": "57600",
		}, &armed), at1)
		for _, want := range []string{
			" console=ttyS1,57600 ", " muster.net=52:54:00:77:00:01,10.77.1.1/16,10.77.0.254,10.77.0.1,10.77.0.2 ", " mitigations=off quiet ",
		} {
			if !strings.Contains(d.Script.Reveal(), want) {
				t.Errorf("no %q in\n%s", want, d.Script.Reveal())
			}
		}
	})
	up := armed
	up.Phase, up.TokenKey, up.TokenHash = model.Up, "k", "old"
	used := armed
	used.Left, used.Phase = 0, model.Booting
	held := used
	held.Phase, held.Reason = model.Held, "3 network boots did not reach up; last step: booting"
	gone := armed
	gone.Image = "gone"
	for _, c := range []struct {
		name   string
		attrs  attrs
		dep    *model.Deployment
		from   netip.Addr
		status int
		phase  model.Phase // of what is recorded; "" for nothing
		left   int
		steps  string
		reason string
		script string // part of it
	}{
		{"node that was up gets the count afresh", nil, &up, at1, 200, model.Booting, 2, "boot.script", "was up and boots again", "boot ||"},
		{"last network boot used up holds the node", nil, &used, at1, 200, model.Held, 0, "!boot.held", "3 network boots did not reach up; last step: booting", ":held\nsleep 3600 ||\ngoto held\n"},
		{"held node stays held", nil, &held, at1, 200, "", 0, "!boot.held", held.Reason, "echo muster: 3 network boots did not reach up, last step: booting"},
		{"other address is refused", nil, &armed, other, 403, "", 0, "!boot.refused", "10.77.9.9 asked, and the node with " + mac1 + " is at 10.77.1.1", ""},
		{"no deployment is refused", nil, nil, at1, 409, "", 0, "boot.refused", "nothing is deployed", ""},
		{"image that is gone uses no network boot", nil, &gone, at1, 200, "", 0, "!boot.held", "no image gone any more", "goto held"},
		{"line in an argument uses no network boot", attrs{"image.kernelargs": "quiet a\x01b"}, &armed, at1, 200, "", 0, "!boot.held", "image.kernelargs", "goto held"},
		{"octets beyond ASCII in an argument use no network boot", attrs{"image.kernelargs": "quiet=ä"}, &armed, at1, 200, "", 0, "!boot.held", "not printable ASCII", "goto held"},
		{"expansion in an argument uses no network boot", attrs{"image.kernelargs": "x=${net0/ip}"}, &armed, at1, 200, "", 0, "!boot.held", "image.kernelargs", "goto held"},
		{"command in an argument uses no network boot", attrs{"image.kernelargs": "quiet && shell"}, &armed, at1, 200, "", 0, "!boot.held", "another iPXE command", "goto held"},
		{"our own argument cannot be set", attrs{"image.kernelargs": "muster.server=https://evil"}, &armed, at1, 200, "", 0, "!boot.held", "service's own", "goto held"},
		{"arguments that a kernel would cut use no network boot", attrs{"image.kernelargs": strings.Repeat("a=b ", 500)}, &armed, at1, 200, "", 0, "!boot.held", "shorten image.kernelargs", "goto held"},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			d := script(snapshot(t, c.attrs, c.dep), c.from)
			if d.Status != c.status || steps(d) != c.steps || !strings.Contains(d.Reason, c.reason) || !strings.Contains(d.Script.Reveal(), c.script) {
				t.Errorf("got %d, %q, %q, script %q; want %d, %q, %q, %q", d.Status, steps(d), d.Reason, d.Script.Reveal(), c.status, c.steps, c.reason, c.script)
			}
			var phase model.Phase
			var left int
			if dep := deployment(t, d); dep != nil {
				phase, left = dep.Phase, dep.Left
			}
			if phase != c.phase || left != c.left {
				t.Errorf("recorded phase %q, left %d; want %q, %d", phase, left, c.phase, c.left)
			}
		})
	}
	t.Run("unknown_mac_is_refused", func(t *testing.T) {
		d := Decide(snapshot(t, nil, &armed), Request{Stage: StageScript, Server: here, MAC: unknown, Source: other}, noon)
		if d.Status != http.StatusNotFound || steps(d) != "boot.refused" || d.Events[0].MAC != unknown {
			t.Errorf("got %+v", d)
		}
	})
}

func TestTokenIsInTheScriptOnly(t *testing.T) {
	for _, a := range []attrs{nil, {"image.kernelargs": "a=${x}"}, {"image.kernelargs": strings.Repeat("a=b ", 500)}} {
		d := script(snapshot(t, a, &armed), at1)
		if dump := spew(d); strings.Contains(dump, secret) {
			t.Errorf("the token is in %s", dump)
		}
	}
}

func TestDecideEnrol(t *testing.T) {
	booting := armed
	booting.Phase, booting.Left, booting.TokenHash, booting.TokenExpires = model.Booting, 2, "h1", noon.Add(TokenLife)
	enrolled := booting
	enrolled.Phase, enrolled.TokenKey = model.Enrolled, "key1"
	fetching := enrolled
	fetching.Phase = model.Fetching
	held := enrolled
	held.Phase, held.Reason = model.Held, "it broke"
	late := noon.Add(TokenLife + time.Second)
	for _, c := range []struct {
		name      string
		dep       *model.Deployment
		from      netip.Addr
		hash, key string
		now       time.Time
		status    int
		phase     model.Phase
		steps     string
		reason    string
	}{
		{"first key is taken", &booting, at1, "h1", "key1", noon, 200, model.Enrolled, "node.enrolled", "the first time"},
		{"same key asks again", &enrolled, at1, "h1", "key1", noon, 200, "", "node.enrolled", "asked again"},
		{"same key asks again later on its way", &fetching, at1, "h1", "key1", noon, 200, "", "node.enrolled", "asked again"},
		{"other key is refused", &enrolled, at1, "h1", "key2", noon, 403, "", "!node.denied", "used already, with another key"},
		{"other token is refused", &booting, at1, "h0", "key1", noon, 403, "", "!node.denied", "not of the newest boot script"},
		{"no token is refused", &armed, at1, "", "key1", noon, 403, "", "!node.denied", "no token"},
		{"token is refused after its time", &booting, at1, "h1", "key1", late, 403, "", "!node.denied", "ended at 2026-11-20T12:15:00Z"},
		{"same key is refused after its time", &enrolled, at1, "h1", "key1", late, 403, "", "!node.denied", "ended at"},
		{"held node is refused", &held, at1, "h1", "key1", noon, 403, "", "!node.denied", "is held: it broke"},
		{"node without deployment is refused", nil, at1, "h1", "key1", noon, 403, "", "!node.denied", "nothing is deployed"},
		{"address of no node is refused", &booting, other, "h1", "key1", noon, 403, "", "!node.denied", "no node has net.*.address=10.77.9.9"},
		{"token of another node is refused", &booting, netip.MustParseAddr("10.77.1.2"), "h1", "key1", noon, 403, "", "!node.denied", "nothing is deployed"},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			d := Decide(snapshot(t, nil, c.dep), Request{Stage: StageEnrol, Server: here, Source: c.from, TokenHash: c.hash, Key: c.key}, c.now)
			if d.Status != c.status || steps(d) != c.steps || !strings.Contains(d.Reason, c.reason) {
				t.Errorf("got %d, %q, %q; want %d, %q, %q", d.Status, steps(d), d.Reason, c.status, c.steps, c.reason)
			}
			dep := deployment(t, d)
			if (dep == nil) != (c.phase == "") || dep != nil && (dep.Phase != c.phase || dep.TokenKey != c.key || dep.Left != c.dep.Left) {
				t.Errorf("recorded %+v, want phase %q", dep, c.phase)
			}
		})
	}
}

// limits are the defaults of deploy.limit.*.
var limits = map[model.Phase]time.Duration{
	model.Armed: 15 * time.Minute, model.Booting: 10 * time.Minute, model.Enrolled: 5 * time.Minute, model.Fetching: time.Hour,
	model.Starting: 10 * time.Minute, model.Writing: 2 * time.Hour, model.Jobs: 2 * time.Hour,
}

// late is a deployment whose phase should have ended a second ago.
func late(p model.Phase) *model.Deployment {
	since := noon.Add(-limits[p] - time.Second)
	return &model.Deployment{
		Node: "r1n1", Image: "compute", Boots: 3, Left: 2, Phase: p, Since: since, Deadline: since.Add(limits[p]),
		Progress: model.Progress{Done: 43, Of: 100}, Output: "last words",
	}
}

func TestDecideProgressAndUp(t *testing.T) {
	in := func(p model.Phase, left int) *model.Deployment {
		return &model.Deployment{Node: "r1n1", Image: "compute", Boots: 3, Left: left, Phase: p}
	}
	disk := func(p model.Phase, left int) *model.Deployment {
		d := in(p, left)
		d.Layout = "l"
		return d
	}
	onDisk := func(p model.Phase, left int) *model.Deployment {
		d := disk(p, left)
		d.Installed = noon
		return d
	}
	broke := Request{Stage: StageProgress, Step: "failed", Text: "root image:\nwrong digest", Do: "muster image check compute"}
	for _, c := range []struct {
		name   string
		dep    *model.Deployment
		r      Request
		status int
		want   *model.Deployment // as recorded, without Since
		steps  string
		reason string
	}{
		{"fetching is recorded", in(model.Enrolled, 2), Request{Stage: StageProgress, Step: "fetching", Text: "43 %"}, 200, in(model.Fetching, 2), "node.fetching", "reports it"},
		{"fetching again is not told again", in(model.Fetching, 2), Request{Stage: StageProgress, Step: "fetching", Text: "44 %"}, 200, nil, "", "is fetching"},
		{"starting is recorded", in(model.Fetching, 2), Request{Stage: StageProgress, Step: "starting"}, 200, in(model.Starting, 2), "node.starting", ""},
		{"writing begins with its progress", disk(model.Starting, 2), Request{Stage: StageProgress, Step: "writing", Made: model.Progress{Done: 7, Of: 100}, Output: "mkfs.ext4\n"}, 200, &model.Deployment{
			Node: "r1n1", Image: "compute", Boots: 3, Left: 2, Phase: model.Writing, Layout: "l", Progress: model.Progress{Done: 7, Of: 100}, Output: "mkfs.ext4",
		}, "node.writing", ""},
		{"starting does not follow writing", disk(model.Writing, 2), Request{Stage: StageProgress, Step: "starting"}, 200, nil, "", "a late report does not move it"},
		{"a report of the boot before does not skip the enrolment", in(model.Booting, 2), Request{Stage: StageProgress, Step: "fetching"}, 200, nil, "", "is booting"},
		{"up of the boot before does not skip it either", in(model.Booting, 2), Request{Stage: StageUp, BootID: "b0"}, 200, nil, "node.up", "runs from before"},
		{"progress that is none is refused", in(model.Fetching, 2), Request{Stage: StageProgress, Step: "fetching", Made: model.Progress{Done: 101, Of: 100}}, 400, nil, "", "101 of 100"},
		{"a job that fails holds the node at once", in(model.Jobs, 2), Request{Stage: StageProgress, Step: "failed", Text: "job mount: exit status 3"}, 200, &model.Deployment{
			Node: "r1n1", Image: "compute", Boots: 3, Left: 2, Phase: model.Held, Code: model.NodeFailed, Reason: "jobs, the node stopped: job mount: exit status 3",
		}, "!node.failed", ""},
		{"a failure that would come again holds the node at once", in(model.Fetching, 2), Request{Stage: StageProgress, Step: "failed", Text: "two disks match", Final: true}, 200, &model.Deployment{
			Node: "r1n1", Image: "compute", Boots: 3, Left: 2, Phase: model.Held, Code: model.NodeFailed, Reason: "fetching, the node stopped: two disks match",
		}, "!node.failed", ""},
		{"cancelled is nothing deployed", in(model.Cancelled, 2), Request{Stage: StageProgress, Step: "fetching"}, 409, nil, "", "nothing is deployed"},
		{"a phase that took too long holds the node", late(model.Starting), Request{Stage: StageLimit}, 200, &model.Deployment{
			Node: "r1n1", Image: "compute", Boots: 3, Left: 2, Phase: model.Held, Code: model.PhaseTooLong, Progress: model.Progress{Done: 43, Of: 100}, Output: "last words",
			Reason: "starting 43 % for more than 10m0s (deploy.limit.starting): starting, the init switched to the root and the agent has not reported; look at: muster console r1n1 --log",
		}, "!deploy.held", ""},
		{"a phase in its time is left alone", in(model.Starting, 2), Request{Stage: StageLimit}, 200, nil, "", "no time is over"},
		{"late report does not go back", in(model.Up, 3), Request{Stage: StageProgress, Step: "fetching"}, 200, nil, "", "is up"},
		{"unknown step is refused", in(model.Enrolled, 2), Request{Stage: StageProgress, Step: "dancing"}, 400, nil, "", `no step "dancing"`},
		{"progress without deployment is refused", nil, Request{Stage: StageProgress, Step: "starting"}, 409, nil, "", "nothing is deployed"},
		{"failure is recorded and the node stays armed", in(model.Fetching, 2), broke, 200, &model.Deployment{
			Node: "r1n1", Image: "compute", Boots: 3, Left: 2, Phase: model.Armed, Code: model.NodeFailed,
			Reason: "fetching, the node stopped: root image: wrong digest; look at: muster image check compute",
		}, "!node.failed", "root image: wrong digest"},
		{"failure of the last network boot holds the node", in(model.Fetching, 0), broke, 200, &model.Deployment{
			Node: "r1n1", Image: "compute", Boots: 3, Left: 0, Phase: model.Held, Code: model.NodeFailed,
			Reason: "3 network boots did not reach up; last step: fetching, the node stopped: root image: wrong digest; look at: muster image check compute",
		}, "!node.failed", ""},
		{"the agent that writes the disk is heard", disk(model.Starting, 2), Request{Stage: StageProgress, Step: "writing", Text: "partition /dev/vda"}, 200, disk(model.Writing, 2), "node.writing", "reports it"},
		{"each of its steps is told", disk(model.Writing, 2), Request{Stage: StageProgress, Step: "writing", Text: "copies 512 MB"}, 200, nil, "node.writing", "reports it"},
		{"how far it is is not", disk(model.Writing, 2), Request{Stage: StageProgress, Step: "writing", Made: model.Progress{Done: 43, Of: 100}}, 200, nil, "", "is writing"},
		{"who is to run in memory writes no disk", in(model.Starting, 2), Request{Stage: StageProgress, Step: "writing"}, 409, nil, "!boot.refused", "to memory"},
		{"a written disk is recorded and its boots are counted from there", disk(model.Writing, 0), Request{Stage: StageProgress, Step: "installed"}, 200, onDisk(model.Starting, 3), "node.installed", "starts again, from disk"},
		{"a disk is written once", onDisk(model.Starting, 3), Request{Stage: StageProgress, Step: "installed"}, 200, nil, "", "is starting"},
		{"a written disk is believed although all reports before it were lost", disk(model.Enrolled, 1), Request{Stage: StageProgress, Step: "installed"}, 200, onDisk(model.Starting, 3), "node.installed", ""},
		{"a late report does not begin to write what is written", onDisk(model.Starting, 3), Request{Stage: StageProgress, Step: "writing"}, 200, nil, "", "late report"},
		{"a disk of another deployment is not this one's", disk(model.Booting, 2), Request{Stage: StageProgress, Step: "installed"}, 200, nil, "", "is booting"},
		{"who is to run in memory has no written disk", in(model.Starting, 2), Request{Stage: StageProgress, Step: "installed"}, 200, nil, "", "is starting"},
		{"a layout that fits nothing holds the node at once", disk(model.Starting, 2), Request{Stage: StageProgress, Step: "failed", Final: true, Text: "2 disks are local,\nand 1 is wanted", Do: "the layout"}, 200, &model.Deployment{
			Node: "r1n1", Image: "compute", Boots: 3, Left: 2, Phase: model.Held, Layout: "l", Code: model.NodeFailed,
			Reason: "starting, the node stopped: 2 disks are local, and 1 is wanted; look at: the layout",
		}, "!node.failed", "2 disks are local"},
		{"who is held stays up and the reason is the last word", disk(model.Held, 2), Request{Stage: StageUp, BootID: "b1"}, 200, nil, "", "stays up in memory"},
		{"up without a written disk holds the node", disk(model.Starting, 2), Request{Stage: StageUp, BootID: "b1"}, 200, &model.Deployment{
			Node: "r1n1", Image: "compute", Boots: 3, Left: 2, Phase: model.Held, Layout: "l", Code: model.NodeFailed,
			Reason: "the system in memory reported up without having written the disk: the agent in image compute cannot; build the image again",
		}, "!node.failed", "without having written"},
		{"up from disk", onDisk(model.Booting, 2), Request{Stage: StageUp, BootID: "b1"}, 200, onDisk(model.Up, 3), "node.up", "free again"},
		{"up frees the count", in(model.Starting, 0), Request{Stage: StageUp, BootID: "b1"}, 200, in(model.Up, 3), "node.up", "3 network boots are free again"},
		{"up of a system from before does not count", in(model.Armed, 3), Request{Stage: StageUp, BootID: "b0"}, 200, nil, "node.up", "runs from before"},
		{"up without deployment is told", nil, Request{Stage: StageUp}, 200, nil, "node.up", "nothing is deployed"},
		{"up again is told when the boot is another", in(model.Up, 3), Request{Stage: StageUp, BootID: "b2"}, 200, nil, "node.up", "before"},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			c.r.Server, c.r.Node = here, "r1n1"
			d := Decide(snapshot(t, nil, c.dep), c.r, noon)
			if d.Status != c.status || steps(d) != c.steps || !strings.Contains(d.Reason, c.reason) {
				t.Errorf("got %d, %q, %q; want %d, %q, %q", d.Status, steps(d), d.Reason, c.status, c.steps, c.reason)
			}
			got := deployment(t, d)
			if c.want != nil {
				c.want.Since = noon
				if limit := limits[c.want.Phase]; limit > 0 {
					c.want.Deadline = noon.Add(limit)
				}
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("recorded %+v, want %+v", got, c.want)
			}
		})
	}
}

// TestLoopEndsAfterThreeNetworkBoots is a kernel that panics: only DHCP, script and files are ever asked for.
func TestLoopEndsAfterThreeNetworkBoots(t *testing.T) {
	s := snapshot(t, nil, &armed)
	var seen []string
	for i := range 6 {
		d := scriptAt(s, at1, noon.Add(time.Duration(i)*20*time.Second))
		seen = append(seen, steps(d))
		next, err := model.Apply(s, &model.Change{Revision: model.Revision(i + 2), Ops: d.Ops})
		if err != nil {
			t.Fatal(err)
		}
		s = next
	}
	want := []string{"boot.script", "boot.script", "boot.script", "!boot.held", "!boot.held", "!boot.held"}
	if !reflect.DeepEqual(seen, want) {
		t.Errorf("got %q, want %q", seen, want)
	}
	dep := s.Deployment("r1n1")
	if dep.Phase != model.Held || !strings.Contains(dep.Reason, "3 network boots did not reach up; last step: booting") || !strings.Contains(dep.Reason, "muster console r1n1 --log") {
		t.Errorf("got %+v", dep)
	}
}

// iPXE asks again within seconds when an answer was lost; that is the same boot, also the last one.
// A node that is installed is sent on to its disk, gets neither kernel nor token, and is held when it never comes up from there.
func TestInstalledNodeBootsFromItsDiskAndIsCounted(t *testing.T) {
	dep := model.Deployment{Node: "r1n1", Image: "compute", Boots: 2, Left: 2, Phase: model.Starting, Layout: "l", Installed: noon.Add(-time.Hour), TokenHash: "old", TokenExpires: noon.Add(time.Hour)}
	var got []string
	for i := range 6 { // two asks in each boot, as a UEFI does that goes through its entries
		s := snapshot(t, nil, &dep)
		ask := Request{Stage: StageScript, Server: here, MAC: mac1, Source: at1}
		d := Decide(s, ask, noon.Add(time.Duration(i/2)*10*time.Minute+time.Duration(i%2)*time.Minute))
		script := d.Script.Reveal()
		if d.Status != http.StatusOK || strings.Contains(script, "\nkernel ") || strings.Contains(script, "muster.token") {
			t.Fatalf("%d %s\n%s", d.Status, d.Reason, script)
		}
		got = append(got, map[bool]string{true: "disk", false: "held"}[strings.HasSuffix(script, "\nexit 1\n")])
		if next := deployment(t, d); next != nil {
			dep = *next
		}
		if dep.TokenHash != "" {
			t.Error("a token is left")
		}
	}
	if strings.Join(got, " ") != "disk disk disk disk held held" || dep.Phase != model.Held {
		t.Errorf("%v, then %s", got, dep.Phase)
	}
}

func TestScriptAskedTwiceInOneBootCountsOnce(t *testing.T) {
	s := snapshot(t, nil, &model.Deployment{Node: "r1n1", Image: "compute", Boots: 1, Left: 1, Phase: model.Armed})
	for i, c := range []struct {
		after time.Duration
		steps string
	}{{0, "boot.script"}, {2 * time.Second, "boot.script"}, {20 * time.Second, "!boot.held"}} {
		d := scriptAt(s, at1, noon.Add(c.after))
		if steps(d) != c.steps {
			t.Errorf("after %v: %s, want %s", c.after, steps(d), c.steps)
		}
		next, err := model.Apply(s, &model.Change{Revision: model.Revision(i + 2), Ops: d.Ops})
		if err != nil {
			t.Fatal(err)
		}
		s = next
	}
}

func TestDecideDoesNotChangeItsSnapshot(t *testing.T) {
	s := snapshot(t, nil, &armed)
	before := *s.Deployment("r1n1")
	script(s, at1)
	if after := *s.Deployment("r1n1"); !reflect.DeepEqual(before, after) {
		t.Errorf("got %+v, want %+v", after, before)
	}
}

// BenchmarkDecide is what the decision costs of one DHCP message of a known node.
func BenchmarkDecide(b *testing.B) {
	s := snapshot(b, nil, &armed)
	r := Request{Stage: StageDHCP, Type: DHCPDiscover, MAC: mac1, PXE: true, Server: here}
	b.ReportAllocs()
	for b.Loop() {
		if d := Decide(s, r, noon); d.Silent {
			b.Fatal(d.Reason)
		}
	}
}
