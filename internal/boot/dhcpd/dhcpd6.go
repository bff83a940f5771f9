package dhcpd

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"
	"golang.org/x/net/ipv6"

	"muster/internal/boot"
	"muster/internal/boot/port"
)

const (
	port6 = 547 // RFC 8415 §7.2
	// enterprise is the number that UEFI firmware has in its vendor class, Intel's (UEFI specification §24.7.3.1).
	enterprise = 343
)

// join6 hears what machines and relays send to all servers (RFC 8415 §7.1), and makes the server's DUID: of its Ethernet address
// (RFC 8415 §11.4), so that it is the same after a restart.
func (s *Server) join6() error {
	ifi, err := port.Interface("DHCPv6", s.o.Server.Interface)
	if err != nil {
		return err
	}
	p := ipv6.NewPacketConn(s.udp6)
	for _, group := range []string{"ff02::1:2", "ff05::1:3"} {
		if err := p.JoinGroup(ifi, &net.UDPAddr{IP: net.ParseIP(group)}); err != nil {
			return fmt.Errorf("DHCPv6 on %s: group %s: %w", s.o.Server.Interface, group, err)
		}
	}
	s.duid = (&dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: s.self}).ToBytes()
	return nil
}

func (s *Server) answer6(b []byte, from netip.AddrPort) {
	begin := time.Now()
	m, r, err := parse6(b, from.Addr(), s.duid)
	if err != nil {
		s.o.Log.Debug("dhcpv6: message dropped", "from", from, "why", err)
		return
	}
	r.Server = s.o.Server
	d := s.o.Decide(r)
	if !d.Silent && d.Lease6 != nil {
		var rep []byte
		if rep, err = reply6(m, s.duid, d.Lease6); err == nil {
			_, err = s.udp6.WriteToUDPAddrPort(rep, from)
		}
	}
	s.tell(r, d, begin, err)
}

// parse6 reads a message of a client, as it came or in the envelopes of relays, and what the decision needs of it.
func parse6(b []byte, from netip.Addr, self []byte) (dhcpv6.DHCPv6, boot.Request, error) {
	r := boot.Request{Stage: boot.StageDHCP6}
	whole, err := dhcpv6.FromBytes(b)
	if err != nil {
		return nil, r, err
	}
	peer := from.WithZone("")
	var mac string
	at := whole
	for at.IsRelay() { // the innermost relay is the one on the machine's link
		relay, ok := at.(*dhcpv6.RelayMessage)
		if !ok || relay.MessageType != dhcpv6.MessageTypeRelayForward {
			return nil, r, errors.New("it is a reply to a relay")
		}
		if a := addrOf(relay.LinkAddr); a.IsValid() && !a.IsUnspecified() {
			r.Relay = a
		}
		if a, ok := netip.AddrFromSlice(relay.PeerAddr); ok {
			peer = a
		}
		if _, hw := relay.Options.ClientLinkLayerAddress(); len(hw) == 6 { // RFC 6939
			mac = hw.String()
		}
		if at = relay.Options.RelayMessage(); at == nil {
			return nil, r, errors.New("a relay's message without the client's")
		}
	}
	m, ok := at.(*dhcpv6.Message)
	if !ok {
		return nil, r, errors.New("no message of a client")
	}
	if mac == "" {
		mac = hardware(peer, m.Options.ClientID())
	}
	if mac == "" {
		return nil, r, fmt.Errorf("neither its address %s nor its DUID tells its Ethernet address", peer)
	}
	r.MAC, r.Type = mac, boot.MessageType(m.MessageType)
	if id := m.Options.ServerID(); id != nil {
		r.Chosen, r.ForUs = true, string(id.ToBytes()) == string(self)
	}
	if ia := m.Options.OneIANA(); ia != nil {
		for _, a := range ia.Options.Addresses() {
			r.Asked = addrOf(a.IPv6Addr)
		}
	}
	class := ""
	for _, o := range m.Options.Options {
		if v, ok := o.(*dhcpv6.OptVendorClass); ok && len(v.Data) > 0 {
			class = string(v.Data[0])
		}
	}
	r.HTTP = strings.HasPrefix(class, "HTTPClient")
	if a := m.Options.ArchTypes(); len(a) > 0 {
		r.PXE, r.Arch = true, uint16(a[0])
	}
	for _, c := range m.Options.UserClasses() {
		r.IPXE = r.IPXE || string(c) == "iPXE"
	}
	return whole, r, nil
}

// hardware finds the Ethernet address of a machine: that of its link-local address (RFC 4291 appendix A), as firmware makes it,
// else that of its DUID, which may be of another port.
func hardware(peer netip.Addr, id dhcpv6.DUID) string {
	if a := peer.As16(); peer.IsLinkLocalUnicast() && a[11] == 0xff && a[12] == 0xfe {
		return net.HardwareAddr{a[8] ^ 2, a[9], a[10], a[13], a[14], a[15]}.String()
	}
	switch d := id.(type) {
	case *dhcpv6.DUIDLLT:
		if d.HWType == iana.HWTypeEthernet {
			return d.LinkLayerAddr.String()
		}
	case *dhcpv6.DUIDLL:
		if d.HWType == iana.HWTypeEthernet {
			return d.LinkLayerAddr.String()
		}
	}
	return ""
}

// reply6 makes the answer, in as many envelopes of relays as the message came in.
func reply6(whole dhcpv6.DHCPv6, self []byte, l *boot.Lease6) ([]byte, error) {
	m, err := whole.GetInnerMessage()
	if err != nil {
		return nil, err
	}
	duid, err := dhcpv6.DUIDFromBytes(self)
	if err != nil {
		return nil, err
	}
	rep := &dhcpv6.Message{MessageType: dhcpv6.MessageType(l.Type), TransactionID: m.TransactionID}
	if id := m.Options.ClientID(); id != nil {
		rep.AddOption(dhcpv6.OptClientID(id))
	}
	rep.AddOption(dhcpv6.OptServerID(duid))
	for _, ia := range m.Options.IANA() {
		answer := &dhcpv6.OptIANA{IaId: ia.IaId}
		if l.Address.IsValid() {
			answer.T1, answer.T2 = l.Time/2, l.Time*4/5
			answer.Options.Add(&dhcpv6.OptIAAddress{IPv6Addr: ipOf(l.Address), PreferredLifetime: l.Time, ValidLifetime: l.Time})
			for _, a := range ia.Options.Addresses() { // what it has from elsewhere ends
				if addrOf(a.IPv6Addr) != l.Address && m.MessageType != dhcpv6.MessageTypeSolicit {
					answer.Options.Add(&dhcpv6.OptIAAddress{IPv6Addr: a.IPv6Addr})
				}
			}
			rep.AddOption(answer)
		}
	}
	switch {
	case l.OffLink:
		rep.AddOption(&dhcpv6.OptStatusCode{StatusCode: iana.StatusNotOnLink, StatusMessage: "the address is of another network"})
	case l.Done:
		rep.AddOption(&dhcpv6.OptStatusCode{StatusCode: iana.StatusSuccess})
	}
	if len(l.DNS) > 0 {
		var dns []net.IP
		for _, a := range l.DNS {
			dns = append(dns, ipOf(a))
		}
		rep.AddOption(dhcpv6.OptDNS(dns...))
	}
	if l.BootURL != "" {
		rep.AddOption(dhcpv6.OptBootFileURL(l.BootURL))
	}
	if l.Class != "" {
		rep.AddOption(&dhcpv6.OptVendorClass{EnterpriseNumber: enterprise, Data: [][]byte{[]byte(l.Class)}})
	}
	relay, ok := whole.(*dhcpv6.RelayMessage)
	if !ok {
		return rep.ToBytes(), nil
	}
	out, err := dhcpv6.NewRelayReplFromRelayForw(relay, rep)
	if err != nil {
		return nil, err
	}
	return out.ToBytes(), nil
}
