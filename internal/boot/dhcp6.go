package boot

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"muster/internal/model"
)

// The messages of DHCPv6 (RFC 8415 §7.3), as [Request.Type] of [StageDHCP6] has them.
const (
	DHCP6Solicit     MessageType = 1
	DHCP6Advertise   MessageType = 2
	DHCP6Request     MessageType = 3
	DHCP6Confirm     MessageType = 4
	DHCP6Renew       MessageType = 5
	DHCP6Rebind      MessageType = 6
	DHCP6Reply       MessageType = 7
	DHCP6Release     MessageType = 8
	DHCP6Decline     MessageType = 9
	DHCP6Information MessageType = 11
)

// Lease6 is what a DHCPv6 answer carries. Type is DHCP6Advertise or DHCP6Reply.
type Lease6 struct {
	Type    MessageType
	Address netip.Addr    // of the IA_NA that was asked for; zero where none was
	Time    time.Duration // valid lifetime
	DNS     []netip.Addr  // option 23
	BootURL string        // option 59 (RFC 5970); "" when there is nothing to boot
	Class   string        // in option 16, where the firmware insists on it
	OffLink bool          // status NotOnLink: the addresses are of another network
	Done    bool          // status Success, of messages that ask for nothing
}

// Advert is what a router advertisement says: how the machine gets an address, and which are on its link.
type Advert struct {
	Prefix netip.Prefix // on-link, not for addresses made up; zero: none
}

// decideDHCP6 answers like decideDHCP: known nodes by their Ethernet address, everybody else not at all.
func decideDHCP6(s *model.Snapshot, r Request) Decision {
	n := s.NodeByMAC(r.MAC)
	if n == nil {
		return unknownMachine(r)
	}
	d := Decision{Node: n.Name, Silent: true, Status: http.StatusNotFound}
	port, err := findNIC(s, n, r)
	asked := r.client() + " asked for an IPv6 address and got no answer"
	switch {
	case r.Chosen && !r.ForUs:
		d.Reason = "it chose another DHCPv6 server"
		return d
	case port.mode == model.ModeProxy:
		d.Reason = fmt.Sprintf("net.%s.mode is proxy, which there is not in DHCPv6: its address is another server's", port.name)
		return d
	case err != nil:
		d.Reason = err.Error()
		d = d.warn(StepSilent, asked)
	case port.address.Is4():
		d.Reason = fmt.Sprintf("net.%s.address %s is no IPv6 address", port.name, port.address)
		if r.Type == DHCP6Solicit {
			d = d.tell(StepSilent, asked)
		}
	default:
		d = fullDHCP6(s, d, r, port)
	}
	if port.mode == model.ModeObserve {
		return observed(d, port)
	}
	return d
}

func fullDHCP6(s *model.Snapshot, d Decision, r Request, port nic) Decision {
	link := r.link()
	if link.IsValid() && !port.cidr().Contains(link) {
		d.Reason = fmt.Sprintf("it is on the network of %s, and net.%s.address %s is not in it", link, port.name, port.cidr())
		return d.warn(StepSilent, r.client()+" asked for an IPv6 address and got no answer")
	}
	l := &Lease6{Type: DHCP6Reply, Address: port.address, Time: LeaseTime, DNS: port.servers()}
	d.Silent, d.Status, d.Lease6 = false, http.StatusOK, l
	step, verb := StepAck, "has"
	switch r.Type {
	case DHCP6Solicit:
		l.Type, step, verb = DHCP6Advertise, StepOffer, "was offered"
	case DHCP6Request, DHCP6Renew, DHCP6Rebind:
	case DHCP6Information:
		l.Address, verb = netip.Addr{}, "asked about"
	case DHCP6Confirm:
		l.Address, l.Done, l.OffLink = netip.Addr{}, true, !port.cidr().Contains(r.Asked)
		d.Reason = fmt.Sprintf("net.%s.address is %s", port.name, port.cidr())
		return d.tell(StepAck, fmt.Sprintf("%s asked whether %s is of this network", r.client(), r.Asked))
	case DHCP6Decline:
		l.Address, l.Done = netip.Addr{}, true
		d.Reason = fmt.Sprintf("another machine on %s uses %s; find it (ndisc6 %s %s), or set net.%s.address", r.Server.Interface, port.address, port.address, r.Server.Interface, port.name)
		return d.warn(StepDecline, fmt.Sprintf("%s refused the address %s", r.client(), port.address))
	case DHCP6Release:
		l.Address, l.Done = netip.Addr{}, true
		d.Reason = "the address stays the node's"
		return d.tell(StepRelease, fmt.Sprintf("%s gave %s back", r.client(), port.address))
	default:
		d.Silent, d.Status, d.Lease6 = true, http.StatusBadRequest, nil
		d.Reason = fmt.Sprintf("DHCPv6 message type %d is not one of a client", r.Type)
		return d
	}
	l.BootURL, d.Reason = bootFile(s, d.Node, r, false)
	if l.BootURL != "" && r.HTTP && !r.IPXE {
		l.Class = "HTTPClient"
	}
	what := fmt.Sprintf("%s %s %s", r.client(), verb, port.cidr())
	if l.BootURL != "" {
		what += ", to boot " + shown(l.BootURL)
	} else if r.PXE || r.IPXE {
		what += ", nothing to boot"
	}
	return d.tell(step, strings.TrimSpace(what))
}

// decideSolicit answers a router solicitation of a node that is known (RFC 4861 §6.2.6). A port with an IPv6 address is sent to DHCPv6.
// Any other gets an answer, too: iPXE of 2019 waits some twelve seconds for an advertisement before it goes on over IPv4. It leaves no
// event: DHCP tells of the machine.
func decideSolicit(s *model.Snapshot, r Request) Decision {
	silent := Decision{Silent: true, Status: http.StatusNotFound}
	n := s.NodeByMAC(r.MAC)
	if n == nil {
		silent.Reason = "no node has net.*.mac=" + r.MAC
		return silent
	}
	port, err := findNIC(s, n, r)
	if port.mode == model.ModeObserve {
		silent.Node, silent.Reason = n.Name, fmt.Sprintf("net.%s.mode is %s", port.name, port.mode)
		return silent
	}
	d := Decision{Status: http.StatusOK, Node: n.Name, Advert: &Advert{}}
	if err != nil || !port.address.Is6() || port.mode != model.ModeFull {
		d.Reason = "known node; the answer says that there is no IPv6 router, so that iPXE goes on at once"
		return d
	}
	d.Advert.Prefix = port.cidr().Masked()
	d.Reason = fmt.Sprintf("net.%s.address is %s; the answer sends it to DHCPv6", port.name, port.cidr())
	return d
}
