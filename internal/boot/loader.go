package boot

import (
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"muster/internal/model"
)

// The loaders for x86, as Debian's package ipxe names them. iPXE for HTTP boot brings its own network drivers, as the firmware's
// HTTP stack keeps the card.
const (
	BIOSLoader = "undionly.kpxe"
	UEFILoader = "snponly.efi"
	HTTPLoader = "ipxe.efi"
)

// For Secure Boot: Microsoft's key has signed the shim, Debian's GRUB and kernel. The shim asks for GRUB by this name, in its own directory;
// GRUB asks there for its script.
const (
	ShimLoader = "shimx64.efi"
	GrubLoader = "grubx64.efi"
	GrubScript = "grub.cfg"

	// grubFirst is where GRUB looks first, as Debian has signed it; all that it finds there is where to look further: beside itself.
	grubFirst = "grub/grub.cfg"
	grubThere = "configfile $cmdpath/" + GrubScript + "\n"
)

// Loaders are the names that a manager always serves, by TFTP and under /boot/loader/ by HTTP.
var Loaders = []string{BIOSLoader, UEFILoader, HTTPLoader}

// MoreLoaders are served where the manager has them. Those for arm64 are in no package of Debian 12.
var MoreLoaders = []string{ShimLoader, GrubLoader, "snponly-arm64.efi", "ipxe-arm64.efi", "shimaa64.efi", "grubaa64.efi"}

// arch is one value of option 93 and what is sent to it: a loader for each boot.loader, or the reason why none is.
type arch struct {
	name string
	ipxe string
	shim string // "" where the firmware has no Secure Boot: iPXE then
	http bool
	why  string // of there being nothing at all
}

// noGrub is why there is no Secure Boot over HTTP or IPv6.
const noGrub = "boot.loader is shim, and Debian's GRUB 2.06 finds its script only by TFTP over IPv4; let the firmware boot by PXE over IPv4"

// archs are the values of option 93 that machines of today send (RFC 4578 §2.1 and the IANA registry). 9 was meant for EFI byte
// code; firmware of x86-64 machines sends it as well as 7.
var archs = map[uint16]arch{
	0:  {name: "x86 BIOS", ipxe: BIOSLoader},
	6:  {name: "x86 UEFI of 32 bits", why: "its firmware cannot start a 64-bit loader"},
	7:  {name: "x86-64 UEFI", ipxe: UEFILoader, shim: ShimLoader},
	9:  {name: "x86-64 UEFI", ipxe: UEFILoader, shim: ShimLoader},
	11: {name: "arm64 UEFI", ipxe: "snponly-arm64.efi", shim: "shimaa64.efi"},
	16: {name: "x86-64 UEFI over HTTP", ipxe: HTTPLoader, shim: ShimLoader, http: true},
	19: {name: "arm64 UEFI over HTTP", ipxe: "ipxe-arm64.efi", shim: "shimaa64.efi", http: true},
}

// bootFile says what a machine that asks by DHCP is to load next, and why; "" is nothing. Elsewhere says that its address is not from
// here, so that who it is has to be in the name.
func bootFile(s *model.Snapshot, node model.NodeName, r Request, elsewhere bool) (file, why string) {
	dep := deployed(s, node)
	a, known := archs[r.Arch]
	switch {
	case !r.PXE && !r.IPXE:
		return "", "it does not ask for something to boot"
	case dep == nil:
		return "", fmt.Sprintf("nothing is deployed; muster deploy %s IMAGE", node)
	case r.IPXE:
		return ScriptURL(r.Server, r.MAC, r.at),
			fmt.Sprintf("image %s is deployed; iPXE gets the script", dep.Image)
	case !known:
		return "", fmt.Sprintf("there is no loader for architecture %d (option 93)", r.Arch)
	case a.why != "":
		return "", a.why
	}
	kind, err := s.Attr(s.Node(node), "boot.loader")
	if err != nil {
		return "", err.Error()
	}
	loader := a.ipxe
	if kind == "shim" && a.shim != "" {
		if a.http || r.Stage == StageDHCP6 {
			return "", noGrub
		}
		loader, elsewhere = a.shim, true
	}
	if !r.Server.has(loader) {
		return "", fmt.Sprintf("there is no %s loader %s on this manager; put it into the directory loaders of its data", strings.TrimSuffix(a.name, " over HTTP"), loader)
	}
	if elsewhere {
		loader = r.who() + "/" + loader
	}
	if a.http {
		return r.Server.url("/boot/loader/" + loader), fmt.Sprintf("image %s is deployed; %s gets the loader by HTTP", dep.Image, a.name)
	}
	if r.Stage == StageDHCP6 { // RFC 5970 §3.1: always a URL
		loader = "tftp://[" + r.Server.Address.String() + "]/" + loader
	}
	return loader, fmt.Sprintf("image %s is deployed; %s gets the loader by TFTP", dep.Image, a.name)
}

// has says that this manager has a loader.
func (srv Server) has(loader string) bool {
	if srv.Assets == nil {
		return slices.Contains(Loaders, loader)
	}
	return srv.Assets[loader] != ""
}

// url is the address of something that this manager serves by HTTP.
func (srv Server) url(path string) string {
	return "http://" + netip.AddrPortFrom(srv.Address, uint16(srv.HTTPPort)).String() + path
}

// shown is a boot file without what proves who asks for it.
func shown(file string) string {
	file, _, _ = strings.Cut(file, ticketArg)
	before, name, ok := strings.Cut(file, "-")
	if i := strings.IndexByte(name, '/'); ok && i == 2*ticketLen && len(before) >= 12 && isHex(before[len(before)-12:]) {
		return before[:len(before)-12] + name[i+1:]
	}
	return file
}

// decideLoader answers a request for a loader by TFTP or HTTP.
func decideLoader(s *model.Snapshot, r Request) Decision {
	n, d := nodeAt(s, r)
	what := fmt.Sprintf("loader %.60q", r.Path)
	switch {
	case n == nil:
		return d.tell(StepRefused, fmt.Sprintf("%s was refused to %s", what, r.Source))
	case r.Path == grubFirst:
		d.Status, d.Reason, d.Script = http.StatusOK, "GRUB is sent to the script beside it", model.NewSecret(grubThere)
		return d
	case !r.Server.has(r.Path):
		names := Loaders
		if r.Server.Assets != nil {
			names = slices.Sorted(maps.Keys(r.Server.Assets))
		}
		d.Status, d.Reason = http.StatusNotFound, "there is no such loader; there are "+strings.Join(names, ", ")
		if optional(r.Path) {
			return d
		}
		return d.warn(StepRefused, what+" was refused")
	case deployed(s, n.Name) == nil:
		d.Status, d.Reason = http.StatusConflict, fmt.Sprintf("nothing is deployed; muster deploy %s IMAGE", n.Name)
		return d.tell(StepRefused, what+" was refused")
	}
	d.Status, d.Reason, d.Loader = http.StatusOK, "the DHCP answer named it", r.Path
	if sum := r.Server.Assets[r.Path]; sum != "" {
		d.Reason += ", " + sum
	}
	return d.tell(StepLoader, "loader "+r.Path+" handed out")
}

// optional says of a name that shim or GRUB look for it and go on well without it.
func optional(name string) bool {
	return strings.HasPrefix(name, "revocations") || strings.HasPrefix(name, "shim_certificate") || strings.HasPrefix(name, "grub/")
}

// decideFile answers a request for a kernel or an initramfs. Only what the node is to boot is given.
func decideFile(s *model.Snapshot, r Request) Decision {
	n, d := nodeAt(s, r)
	hexa, name, _ := strings.Cut(r.Path, "/")
	what := fmt.Sprintf("boot file %.60q", name)
	if n == nil {
		return d.tell(StepRefused, fmt.Sprintf("%s was refused to %s", what, r.Source))
	}
	dep := deployed(s, n.Name)
	if dep == nil {
		d.Status, d.Reason = http.StatusConflict, fmt.Sprintf("nothing is deployed; muster deploy %s IMAGE", n.Name)
		return d.warn(StepRefused, what+" was refused")
	}
	if img := s.Image(dep.Image); img != nil {
		for _, f := range []model.File{img.Kernelf, img.Initrd} {
			if f.Digest == "sha256:"+hexa {
				d.Status, d.File = http.StatusOK, f
				d.Reason = fmt.Sprintf("it is of image %s, which is deployed", dep.Image)
				return d.tell(StepFile, fmt.Sprintf("%s of image %s handed out (%d bytes)", f.Name, dep.Image, f.Size))
			}
		}
	}
	d.Status, d.Reason = http.StatusNotFound, fmt.Sprintf("image %s, which is deployed, has no such file (any more); the next boot gets the right one", dep.Image)
	return d.warn(StepRefused, what+" was refused")
}

// nodeAt finds the node by what its name of the file proves ([Request.who]), else by the address that the request came from. Without
// one the decision is a refusal.
func nodeAt(s *model.Snapshot, r Request) (*model.Node, Decision) {
	if r.MAC != "" && r.Ticket != "" && r.ticketHolds(r.at) {
		if n := s.NodeByMAC(r.MAC); n != nil {
			return n, Decision{Node: n.Name}
		}
	}
	n := s.NodeByAddress(r.Source.String())
	if n == nil {
		return nil, Decision{Status: http.StatusForbidden, Reason: fmt.Sprintf("no node has net.*.address=%s", r.Source)}
	}
	return n, Decision{Node: n.Name}
}
