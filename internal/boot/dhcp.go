package boot

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"muster/internal/model"
)

// MessageType is option 53 of DHCP (RFC 2132 §9.6).
type MessageType uint8

// The messages of clients and the answers to them.
const (
	DHCPDiscover MessageType = 1
	DHCPOffer    MessageType = 2
	DHCPRequest  MessageType = 3
	DHCPDecline  MessageType = 4
	DHCPAck      MessageType = 5
	DHCPNak      MessageType = 6
	DHCPRelease  MessageType = 7
	DHCPInform   MessageType = 8
)

// LeaseTime is what is promised for an address. The address belongs to the node for good; the time is how long a
// changed gateway or name server takes to reach a system that renews.
const LeaseTime = time.Hour

// Lease is what a DHCP answer carries. Type is DHCPOffer, DHCPAck or DHCPNak.
type Lease struct {
	Type     MessageType
	Address  netip.Prefix  // yiaddr and option 1; for an answer to DHCPInform the address is the client's own
	Gateway  netip.Addr    // option 3; zero when there is none
	DNS      []netip.Addr  // option 6
	Hostname string        // option 12
	Time     time.Duration // option 51; 0 is not sent (answers to DHCPInform, RFC 2131 §4.3.5)
	BootFile string        // "file" and option 67: a name for TFTP or a URL; "" when there is nothing to boot
	Class    string        // option 60, where the firmware insists on it
	Message  string        // option 56, of a DHCPNak
}

// arch is one value of option 93 and what is sent to it: a loader, or the reason why none is.
type arch struct {
	name   string
	loader string
	why    string
}

// archs are the values of option 93 that machines of today send (RFC 4578 §2.1 and the IANA registry). 9 was meant for EFI byte
// code; firmware of x86-64 machines sends it as well as 7.
var archs = map[uint16]arch{
	0:  {name: "x86 BIOS", loader: BIOSLoader},
	6:  {name: "x86 UEFI of 32 bits", why: "its firmware cannot start a 64-bit loader"},
	7:  {name: "x86-64 UEFI", loader: UEFILoader},
	9:  {name: "x86-64 UEFI", loader: UEFILoader},
	11: {name: "arm64 UEFI", why: "there is no arm64 loader; only x86 machines are booted"},
	16: {name: "x86-64 UEFI over HTTP", loader: HTTPLoader},
	19: {name: "arm64 UEFI over HTTP", why: "there is no arm64 loader; only x86 machines are booted"},
}

// client says in words what kind of machine asks.
func (r Request) client() string {
	switch {
	case r.IPXE:
		return "iPXE"
	case !r.PXE:
		return "an operating system"
	}
	if a, ok := archs[r.Arch]; ok {
		return a.name
	}
	return fmt.Sprintf("firmware of architecture %d", r.Arch)
}

func decideDHCP(s *model.Snapshot, r Request) Decision {
	n := s.NodeByMAC(r.MAC)
	if n == nil {
		return unknownMachine(r)
	}
	d := Decision{Node: n.Name, Silent: true, Status: http.StatusNotFound}
	port, err := findNIC(s, n, r.MAC, r.Server.Network)
	if err != nil {
		d.Reason = err.Error()
		return d.warn(StepSilent, fmt.Sprintf("%s asked for an address and got no answer", r.client()))
	}
	if r.Type != DHCPDiscover && r.ServerID.IsValid() && r.ServerID != r.Server.Address {
		d.Reason = fmt.Sprintf("it chose another DHCP server, %s; two on one network need to know of each other", r.ServerID)
		return d.warn(StepSilent, "the request was left to "+r.ServerID.String())
	}
	switch r.Type {
	case DHCPDiscover:
		if r.Server.Network.IsValid() && !r.Server.Network.Contains(port.address) && !port.gateway.IsValid() {
			d.Reason = fmt.Sprintf("net.%s.address %s is not in %s of %s, and net.%s.gateway is not set: it could not reach this service",
				port.name, port.address, r.Server.Network, r.Server.Interface, port.name)
			return d.warn(StepSilent, fmt.Sprintf("%s asked for an address and got no answer", r.client()))
		}
		return lease(s, d, r, port, DHCPOffer)
	case DHCPRequest:
		switch {
		case !r.Asked.IsValid():
			d.Reason = "the request names no address (RFC 2131 §4.3.2)"
			return d.tell(StepSilent, "a DHCP request got no answer")
		case r.Asked != port.address:
			return nak(d, r, port)
		}
		return lease(s, d, r, port, DHCPAck)
	case DHCPInform:
		return lease(s, d, r, port, DHCPAck)
	case DHCPDecline:
		d.Reason = fmt.Sprintf("another machine on %s uses %s; find it (arping -I %s %s), or set net.%s.address",
			r.Server.Interface, port.address, r.Server.Interface, port.address, port.name)
		return d.warn(StepDecline, fmt.Sprintf("%s refused the address %s", r.client(), port.address))
	case DHCPRelease:
		d.Reason = "the address stays the node's"
		return d.tell(StepRelease, fmt.Sprintf("%s gave %s back", r.client(), port.address))
	}
	d.Reason = fmt.Sprintf("DHCP message type %d is not one of a client", r.Type)
	return d
}

// unknownMachine is silence: another server may be there for it. The machine is told of, so that it can be made a node.
func unknownMachine(r Request) Decision {
	d := Decision{Silent: true, Status: http.StatusNotFound, Reason: fmt.Sprintf(
		"no node has net.boot.mac=%s (nor another net.*.mac); to make it one: muster node add NAME net.boot.mac=%s", r.MAC, r.MAC)}
	what := fmt.Sprintf("unknown machine %s (%s", r.MAC, r.client())
	if r.UUID != "" {
		what += ", UUID " + r.UUID
	}
	d = d.tell(StepSilent, what+") asked for an address and got no answer")
	d.Events[0].MAC = r.MAC
	return d
}

func nak(d Decision, r Request, port nic) Decision {
	d.Silent, d.Status = false, http.StatusOK
	d.Reason = fmt.Sprintf("it asked for %s and net.%s.address is %s", r.Asked, port.name, port.address)
	d.Lease = &Lease{Type: DHCPNak, Message: fmt.Sprintf("%s has address %s", d.Node, port.address)}
	return d.tell(StepNak, fmt.Sprintf("%s was refused the address %s", r.client(), r.Asked))
}

// lease answers with the node's address and, where there is something to boot, with where to get it.
func lease(s *model.Snapshot, d Decision, r Request, port nic, t MessageType) Decision {
	d.Silent, d.Status = false, http.StatusOK
	l := &Lease{Type: t, Address: port.cidr(), Gateway: port.gateway, DNS: port.dns, Hostname: string(d.Node), Time: LeaseTime}
	d.Lease = l
	if r.Type == DHCPInform {
		l.Time = 0
	}
	l.BootFile, d.Reason = bootFile(s, d.Node, r)
	if l.BootFile != "" && r.HTTP && !r.IPXE {
		l.Class = "HTTPClient" // UEFI specification §24.7.3.1: an offer without it is not for HTTP boot
	}
	step, verb := StepOffer, "was offered"
	if t == DHCPAck {
		step, verb = StepAck, "has"
	}
	what := fmt.Sprintf("%s %s %s", r.client(), verb, l.Address)
	if l.BootFile != "" {
		shown, _, _ := strings.Cut(l.BootFile, ticketArg)
		what += ", to boot " + shown
	} else if r.PXE || r.IPXE {
		what += ", nothing to boot"
	}
	return d.tell(step, what)
}

// bootFile says what a machine that asks by DHCP is to load next, and why; "" is nothing.
func bootFile(s *model.Snapshot, node model.NodeName, r Request) (file, why string) {
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
	case a.loader == "":
		return "", a.why
	case a.loader == HTTPLoader:
		return fmt.Sprintf("http://%s:%d/boot/loader/%s", r.Server.Address, r.Server.HTTPPort, a.loader),
			fmt.Sprintf("image %s is deployed; %s gets the loader by HTTP", dep.Image, a.name)
	}
	return a.loader, fmt.Sprintf("image %s is deployed; %s gets the loader by TFTP", dep.Image, a.name)
}
