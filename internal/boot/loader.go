package boot

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"muster/internal/model"
)

// The loaders, as Debian's package ipxe names them. iPXE for HTTP boot brings its own network drivers, as the firmware's
// HTTP stack keeps the card.
const (
	BIOSLoader = "undionly.kpxe"
	UEFILoader = "snponly.efi"
	HTTPLoader = "ipxe.efi"
)

// Loaders are the names that are served, by TFTP and under /boot/loader/ by HTTP. No other name is.
var Loaders = []string{BIOSLoader, UEFILoader, HTTPLoader}

// decideLoader answers a request for a loader by TFTP or HTTP.
func decideLoader(s *model.Snapshot, r Request) Decision {
	n, d := nodeAt(s, r)
	what := fmt.Sprintf("loader %.60q", r.Path)
	switch {
	case n == nil:
		return d.tell(StepRefused, fmt.Sprintf("%s was refused to %s", what, r.Source))
	case !slices.Contains(Loaders, r.Path):
		d.Status, d.Reason = http.StatusNotFound, "there is no such loader; there are "+strings.Join(Loaders, ", ")
		return d.warn(StepRefused, what+" was refused")
	case deployed(s, n.Name) == nil:
		d.Status, d.Reason = http.StatusConflict, fmt.Sprintf("nothing is deployed; muster deploy %s IMAGE", n.Name)
		return d.tell(StepRefused, what+" was refused")
	}
	d.Status, d.Reason, d.Loader = http.StatusOK, "the DHCP answer named it", r.Path
	return d.tell(StepLoader, "loader "+r.Path+" handed out")
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

// nodeAt finds the node by the address that a request came from. Without one the decision is a refusal.
func nodeAt(s *model.Snapshot, r Request) (*model.Node, Decision) {
	n := s.NodeByAddress(r.Source.String())
	if n == nil {
		return nil, Decision{Status: http.StatusForbidden, Reason: fmt.Sprintf("no node has net.*.address=%s", r.Source)}
	}
	return n, Decision{Node: n.Name}
}
