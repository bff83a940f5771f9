package boot

import (
	"fmt"
	"net/http"
	"net/netip"
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
	Proxy    bool          // tells only what to boot; there is no address in it
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
	port, err := findNIC(s, n, r)
	switch {
	case port.mode == model.ModeProxy:
		return proxyDHCP(s, d, r, port)
	case err != nil:
		d.Reason = err.Error()
		d = d.warn(StepSilent, fmt.Sprintf("%s asked for an address and got no answer", r.client()))
	case !port.address.Is4():
		d.Reason = fmt.Sprintf("net.%s.address %s is no IPv4 address; it is given by DHCPv6", port.name, port.address)
		d = d.tell(StepSilent, fmt.Sprintf("%s asked for an IPv4 address and got no answer", r.client()))
	case port.mode == model.ModeObserve && r.Type == DHCPRequest && r.ServerID.IsValid():
		return taken(d, r, port)
	default:
		d = fullDHCP(s, d, r, port)
	}
	if port.mode == model.ModeObserve {
		return observed(d, port)
	}
	return d
}

// observed makes silence of an answer, and records what it would have been.
func observed(d Decision, port nic) Decision {
	d.Silent, d.Status, d.Lease, d.Lease6 = true, http.StatusNotFound, nil, nil
	d.Reason = fmt.Sprintf("net.%s.mode is observe; muster take %s lets it be answered. Without that: %s", port.name, d.Node, d.Reason)
	for i := range d.Events {
		e := &d.Events[i]
		e.Step, e.Reason, e.What = StepObserved, d.Reason, "not answered; the answer would be: "+e.What
	}
	return d
}

// taken records which address an observed machine takes of which server: where it is not what is written here, taking the node over
// would change its address.
func taken(d Decision, r Request, port nic) Decision {
	what := fmt.Sprintf("%s takes %s of the DHCP server %s", r.client(), r.Asked, r.ServerID)
	d.Reason = fmt.Sprintf("net.%s.mode is observe; net.%s.address is %s", port.name, port.name, port.address)
	if r.Asked == port.address {
		return d.tell(StepObserved, what+", which is what it would get here")
	}
	return d.warn(StepObserved, what+"; here it would get another one")
}

// fullDHCP answers with address and what to boot.
func fullDHCP(s *model.Snapshot, d Decision, r Request, port nic) Decision {
	if r.Type != DHCPDiscover && r.ServerID.IsValid() && r.ServerID != r.Server.Address && r.ServerID != r.Override {
		if ours(s, r.ServerID) {
			d.Reason = fmt.Sprintf("it chose another manager of this pool, %s", r.ServerID)
			return d
		}
		d.Reason = fmt.Sprintf("it chose another DHCP server, %s; two on one network need to know of each other", r.ServerID)
		return d.warn(StepSilent, "the request was left to "+r.ServerID.String())
	}
	switch r.Type {
	case DHCPDiscover:
		link := r.link()
		switch {
		case r.remote() && !port.cidr().Contains(link):
			d.Reason = fmt.Sprintf("the relay agent %s asks for the network of %s, and net.%s.address %s is not in it", r.Relay, link, port.name, port.cidr())
		case !r.remote() && r.Server.Network.IsValid() && !r.Server.Network.Contains(port.address) && !port.gateway.IsValid():
			d.Reason = fmt.Sprintf("net.%s.address %s is not in %s of %s, and net.%s.gateway is not set: it could not reach this service",
				port.name, port.address, r.Server.Network, r.Server.Interface, port.name)
		case r.remote() && !r.Server.Network.Contains(port.address) && !port.gateway.IsValid():
			d.Reason = fmt.Sprintf("it is behind the relay agent %s, and net.%s.gateway is not set: it could not reach this service", r.Relay, port.name)
		default:
			return lease(s, d, r, port, DHCPOffer)
		}
		return d.warn(StepSilent, fmt.Sprintf("%s asked for an address and got no answer", r.client()))
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

// proxyDHCP answers only with what to boot, beside another DHCP server that gives the address (PXE 2.1 §2.2.3). An offer without address
// goes out for a discover; UEFI firmware takes the file from a second answer only, which it asks for at port 4011.
func proxyDHCP(s *model.Snapshot, d Decision, r Request, port nic) Decision {
	d.Reason = fmt.Sprintf("net.%s.mode is proxy: its address is another DHCP server's", port.name)
	switch {
	case !r.PXE && !r.IPXE, r.Type != DHCPDiscover && !r.ProxyPort:
		return d // its other server answers
	case r.Type != DHCPDiscover && r.Type != DHCPRequest && r.Type != DHCPInform:
		return d
	}
	file, why := bootFile(s, d.Node, r, true)
	d.Reason += "; " + why
	if file == "" {
		return d.tell(StepSilent, r.client()+" was not told what to boot")
	}
	d.Silent, d.Status = false, http.StatusOK
	l := &Lease{Type: DHCPOffer, Proxy: true, BootFile: file, Class: "PXEClient"}
	d.Lease = l
	if r.HTTP && !r.IPXE {
		l.Class = "HTTPClient"
	}
	what := fmt.Sprintf("%s was told to boot %s; its address comes from elsewhere", r.client(), shown(file))
	switch {
	case r.Type != DHCPDiscover:
		l.Type = DHCPAck
		return d.tell(StepAck, what)
	case r.Arch >= 6 && !r.HTTP && !r.IPXE:
		l.BootFile = ""
		what = r.client() + " was told to ask at port 4011 what to boot; its address comes from elsewhere"
	}
	return d.tell(StepOffer, what)
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
	l := &Lease{Type: t, Address: port.cidr(), Gateway: port.gateway, DNS: port.servers(), Hostname: string(d.Node), Time: LeaseTime}
	d.Lease = l
	if r.Type == DHCPInform {
		l.Time = 0
	}
	l.BootFile, d.Reason = bootFile(s, d.Node, r, false)
	if l.BootFile != "" && r.HTTP && !r.IPXE {
		l.Class = "HTTPClient" // UEFI specification §24.7.3.1: an offer without it is not for HTTP boot
	}
	step, verb := StepOffer, "was offered"
	if t == DHCPAck {
		step, verb = StepAck, "has"
	}
	what := fmt.Sprintf("%s %s %s", r.client(), verb, l.Address)
	if l.BootFile != "" {
		what += ", to boot " + shown(l.BootFile)
	} else if r.PXE || r.IPXE {
		what += ", nothing to boot"
	}
	return d.tell(step, what)
}
