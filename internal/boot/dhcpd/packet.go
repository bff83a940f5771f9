package dhcpd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"

	"muster/internal/boot"
)

// Options and sub-options that the codec has no name for.
var (
	optIPXE = dhcpv4.GenericOptionCode(175) // iPXE's encapsulated options
	optUUID = dhcpv4.OptionClientMachineIdentifier
)

const (
	ipxeHTTP    = 19  // 175.19: this iPXE can do HTTP
	ipxeNoProxy = 176 // 175.176: do not wait for a second DHCP server that knows the boot file
)

// takeThisFile is option 43 of PXE: PXE_DISCOVERY_CONTROL with bit 3, "download the boot file that is named here" (PXE 2.1 §2.2.3, table 2-1).
var takeThisFile = []byte{6, 1, 8, 255}

// parse reads a message of a client and what the decision needs of it.
func parse(b []byte) (*dhcpv4.DHCPv4, boot.Request, error) {
	m, err := dhcpv4.FromBytes(b)
	if err != nil {
		return nil, boot.Request{}, err
	}
	switch {
	case m.OpCode != dhcpv4.OpcodeBootRequest:
		return nil, boot.Request{}, errors.New("it is a reply")
	case m.HWType != iana.HWTypeEthernet || len(m.ClientHWAddr) != 6:
		return nil, boot.Request{}, fmt.Errorf("hardware type %s with %d octets of address, not Ethernet", m.HWType, len(m.ClientHWAddr))
	case m.MessageType() == dhcpv4.MessageTypeNone:
		return nil, boot.Request{}, errors.New("no DHCP message type (BOOTP)")
	}
	r := boot.Request{
		Stage:    boot.StageDHCP,
		MAC:      m.ClientHWAddr.String(),
		Type:     boot.MessageType(m.MessageType()),
		IPXE:     isIPXE(m),
		UUID:     uuid(m.GetOneOption(optUUID)),
		Asked:    addrOf(m.RequestedIPAddress()),
		ServerID: addrOf(m.ServerIdentifier()),
		Relay:    addrOf(m.GatewayIPAddr),
	}
	if agent := m.RelayAgentInfo(); agent != nil {
		r.Link = addrOf(agent.Get(dhcpv4.LinkSelectionSubOption))
		r.Override = addrOf(agent.Get(dhcpv4.ServerIdentifierOverrideSubOption))
	}
	if !r.Link.IsValid() {
		r.Link = addrOf(m.GetOneOption(dhcpv4.OptionSubnetSelection))
	}
	if !r.Asked.IsValid() || r.Asked.IsUnspecified() {
		r.Asked = addrOf(m.ClientIPAddr)
	}
	for _, a := range []*netip.Addr{&r.Asked, &r.ServerID, &r.Relay, &r.Link, &r.Override} {
		if a.IsUnspecified() {
			*a = netip.Addr{}
		}
	}
	r.PXE, r.HTTP, r.Arch = firmware(m)
	return m, r, nil
}

// firmware reads whether and how a client boots from the network. Old ROMs give the architecture in option 60 only:
// "PXEClient:Arch:00007:UNDI:003016" (PXE 2.1 §2.2.3).
func firmware(m *dhcpv4.DHCPv4) (pxe, http bool, arch uint16) {
	class := m.ClassIdentifier()
	http = strings.HasPrefix(class, "HTTPClient")
	pxe = http || strings.HasPrefix(class, "PXEClient")
	if a := m.ClientArch(); len(a) > 0 {
		return true, http, uint16(a[0])
	}
	if f := strings.Split(class, ":"); len(f) > 2 && f[1] == "Arch" {
		if n, err := fmt.Sscanf(f[2], "%05d", &arch); n != 1 || err != nil {
			return pxe, http, 0
		}
	}
	return pxe, http, arch
}

// isIPXE says that iPXE asks and can do HTTP. It names itself in option 77, without the length octets of RFC 3004, and lists
// what it can do in option 175; an iPXE without HTTP gets a loader like any firmware.
func isIPXE(m *dhcpv4.DHCPv4) bool {
	if features := m.GetOneOption(optIPXE); features != nil {
		return suboption(features, ipxeHTTP) != nil
	}
	for _, c := range m.UserClass() {
		if c == "iPXE" {
			return true
		}
	}
	return false
}

// suboption finds a sub-option in encapsulated options; nil when it is not there or the list is cut.
func suboption(b []byte, code byte) []byte {
	for len(b) >= 2 {
		if b[0] == 0 { // pad
			b = b[1:]
			continue
		}
		n := int(b[1])
		if b[0] == 255 || len(b) < 2+n {
			return nil
		}
		if b[0] == code {
			return b[2 : 2+n : 2+n]
		}
		b = b[2+n:]
	}
	return nil
}

// uuid formats option 97 (RFC 4578 §2.3): one octet of zero, then 16 octets of which the first eight are little-endian, as SMBIOS
// stores them.
func uuid(b []byte) string {
	if len(b) != 17 || b[0] != 0 {
		return ""
	}
	b = b[1:]
	return fmt.Sprintf("%08x-%04x-%04x-%x-%x", binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint16(b[4:]),
		binary.LittleEndian.Uint16(b[6:]), b[8:10], b[10:16])
}

// reply makes the message of an answer (RFC 2131 table 3). Relay options (82, RFC 3046) and the client's identifier
// (61, RFC 6842) and UUID (97) go back as they came.
func reply(m *dhcpv4.DHCPv4, srv boot.Server, l *boot.Lease) *dhcpv4.DHCPv4 {
	self := srv.Address
	if agent := m.RelayAgentInfo(); agent != nil {
		if a := addrOf(agent.Get(dhcpv4.ServerIdentifierOverrideSubOption)); a.Is4() {
			self = a
		}
	}
	mods := []dhcpv4.Modifier{
		dhcpv4.WithMessageType(dhcpv4.MessageType(l.Type)),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(ipOf(self))),
		dhcpv4.WithOptionCopied(m, optUUID),
	}
	opt := func(o dhcpv4.Option) { mods = append(mods, dhcpv4.WithOption(o)) }
	switch {
	case l.Type == boot.DHCPNak:
		mods = append(mods, dhcpv4.WithBroadcast(true))
		opt(dhcpv4.OptMessage(l.Message))
	case l.Proxy:
		mods = append(mods, dhcpv4.WithServerIP(ipOf(srv.Address)), dhcpv4.WithClientIP(m.ClientIPAddr))
		opt(dhcpv4.OptClassIdentifier(l.Class))
		if l.BootFile != "" {
			opt(dhcpv4.OptBootFileName(l.BootFile))
			opt(dhcpv4.OptTFTPServerName(srv.Address.String()))
			if l.Class == "PXEClient" {
				opt(dhcpv4.OptGeneric(dhcpv4.OptionVendorSpecificInformation, takeThisFile))
			}
		}
	default:
		mods = append(mods, dhcpv4.WithServerIP(ipOf(srv.Address)), dhcpv4.WithClientIP(m.ClientIPAddr))
		if l.Time > 0 {
			mods = append(mods, dhcpv4.WithYourIP(ipOf(l.Address.Addr())))
			opt(dhcpv4.OptIPAddressLeaseTime(l.Time))
		}
		opt(dhcpv4.OptSubnetMask(net.CIDRMask(l.Address.Bits(), 32)))
		opt(dhcpv4.OptHostName(l.Hostname))
		if l.Gateway.IsValid() {
			opt(dhcpv4.OptRouter(ipOf(l.Gateway)))
		}
		if len(l.DNS) > 0 {
			var dns []net.IP
			for _, a := range l.DNS {
				dns = append(dns, ipOf(a))
			}
			opt(dhcpv4.OptDNS(dns...))
		}
		if l.BootFile != "" {
			opt(dhcpv4.OptBootFileName(l.BootFile))
			opt(dhcpv4.OptTFTPServerName(srv.Address.String()))
		}
		if l.Class != "" {
			opt(dhcpv4.OptClassIdentifier(l.Class))
		}
		if m.GetOneOption(optIPXE) != nil {
			// Without it iPXE waits two seconds for a proxy DHCP server, each time.
			opt(dhcpv4.OptGeneric(optIPXE, []byte{ipxeNoProxy, 1, 1}))
		}
	}
	// The only error is of the random transaction id that the reply does not keep.
	rep, _ := dhcpv4.NewReplyFromRequest(m, mods...)
	if l.Type != boot.DHCPNak {
		rep.BootFileName = l.BootFile
	}
	return rep
}

// routed says whether an answer goes by the kernel's routes: to the relay, or to an address that the client holds.
func routed(m, rep *dhcpv4.DHCPv4) (netip.AddrPort, bool) {
	if relay := addrOf(m.GatewayIPAddr); relay.IsValid() && !relay.IsUnspecified() {
		return netip.AddrPortFrom(relay, dhcpv4.ServerPort), true
	}
	if client := addrOf(m.ClientIPAddr); client.IsValid() && !client.IsUnspecified() && rep.MessageType() != dhcpv4.MessageTypeNak {
		return netip.AddrPortFrom(client, dhcpv4.ClientPort), true
	}
	return netip.AddrPort{}, false
}

func addrOf(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

func ipOf(a netip.Addr) net.IP { return net.IP(a.AsSlice()) }
