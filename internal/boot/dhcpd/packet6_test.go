package dhcpd

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"

	"muster/internal/boot"
)

var (
	hw6      = net.HardwareAddr{0x52, 0x54, 0x00, 0x77, 0x00, 0x01}
	local6   = netip.MustParseAddr("fe80::5054:ff:fe77:1")
	stranger = netip.MustParseAddr("fe80::1234:5678:9abc:def0") // an address that tells no Ethernet address
	self6    = (&dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: net.HardwareAddr{2, 0, 0, 0, 0, 1}}).ToBytes()
	uuid6    = &dhcpv6.DUIDUUID{UUID: [16]byte{1, 2, 3}}
)

// solicit6 is what UEFI firmware sends: its DUID is the machine's UUID (UEFI specification §24.3.4.2.1).
func solicit6(t testing.TB, class string, arch iana.Arch) *dhcpv6.Message {
	t.Helper()
	m, err := dhcpv6.NewSolicit(hw6, dhcpv6.WithClientID(uuid6), dhcpv6.WithIAID([4]byte{0, 0, 0, 9}))
	if err != nil {
		t.Fatal(err)
	}
	m.UpdateOption(&dhcpv6.OptVendorClass{EnterpriseNumber: 343, Data: [][]byte{[]byte(class)}})
	m.UpdateOption(dhcpv6.OptClientArchType(arch))
	return m
}

func TestParse6(t *testing.T) {
	m := solicit6(t, "HTTPClient:Arch:00016:UNDI:003001", iana.EFI_X86_64_HTTP)
	_, r, err := parse6(m.ToBytes(), local6, self6)
	want := boot.Request{Stage: boot.StageDHCP6, MAC: hw6.String(), Type: boot.DHCP6Solicit, PXE: true, HTTP: true, Arch: 16}
	if err != nil || r.MAC != want.MAC || r.Type != want.Type || !r.PXE || !r.HTTP || r.Arch != 16 || r.Chosen || r.IPXE {
		t.Errorf("got %+v, %v; want %+v", r, err, want)
	}
	if _, _, err := parse6(m.ToBytes(), stranger, self6); err == nil {
		t.Error("neither address nor DUID tells who asks, and it was taken")
	}
	m.UpdateOption(dhcpv6.OptClientID(&dhcpv6.DUIDLLT{HWType: iana.HWTypeEthernet, LinkLayerAddr: hw6}))
	m.UpdateOption(&dhcpv6.OptUserClass{UserClasses: [][]byte{[]byte("iPXE")}})
	m.UpdateOption(dhcpv6.OptServerID(&dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: hw6}))
	if _, r, err := parse6(m.ToBytes(), stranger, self6); err != nil || r.MAC != hw6.String() || !r.IPXE || !r.Chosen || r.ForUs {
		t.Errorf("by its DUID: got %+v, %v", r, err)
	}
	duid, _ := dhcpv6.DUIDFromBytes(self6)
	m.UpdateOption(dhcpv6.OptServerID(duid))
	if _, r, err := parse6(m.ToBytes(), stranger, self6); err != nil || !r.ForUs {
		t.Errorf("to this server: got %+v, %v", r, err)
	}

	// Two relays; the inner one is on the machine's link and says its Ethernet address (RFC 6939).
	inner, err := dhcpv6.EncapsulateRelay(solicit6(t, "PXEClient", iana.EFI_X86_64), dhcpv6.MessageTypeRelayForward, net.ParseIP("fd99::fe"), stranger.AsSlice())
	if err != nil {
		t.Fatal(err)
	}
	inner.AddOption(dhcpv6.OptClientLinkLayerAddress(iana.HWTypeEthernet, hw6))
	outer, err := dhcpv6.EncapsulateRelay(inner, dhcpv6.MessageTypeRelayForward, net.ParseIP("fd98::1"), net.ParseIP("fd99::fe"))
	if err != nil {
		t.Fatal(err)
	}
	if _, r, err := parse6(outer.ToBytes(), netip.MustParseAddr("fd98::1"), self6); err != nil || r.MAC != hw6.String() || r.Relay.String() != "fd99::fe" || !r.PXE || r.HTTP {
		t.Errorf("relayed: got %+v, %v", r, err)
	}
	b, err := reply6(outer, self6, &boot.Lease6{Type: boot.DHCP6Advertise, Address: netip.MustParseAddr("fd99::7"), Time: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	rep, err := dhcpv6.RelayMessageFromBytes(b)
	if err != nil || rep.MessageType != dhcpv6.MessageTypeRelayReply || rep.PeerAddr.String() != "fd99::fe" {
		t.Fatalf("answer %v, %v", rep, err)
	}
	in, err := rep.GetInnerMessage()
	if err != nil || in.Options.OneIANA().Options.OneAddress().IPv6Addr.String() != "fd99::7" {
		t.Errorf("answer %v, %v", in, err)
	}
}

func TestReply6(t *testing.T) {
	ask := solicit6(t, "HTTPClient", iana.EFI_X86_64_HTTP)
	l := &boot.Lease6{
		Type: boot.DHCP6Advertise, Address: netip.MustParseAddr("fd77::1:1"), Time: time.Hour, DNS: []netip.Addr{netip.MustParseAddr("fd77::53")},
		BootURL: "http://[fd77::1]:8080/boot/loader/ipxe.efi", Class: "HTTPClient",
	}
	b, err := reply6(ask, self6, l)
	if err != nil {
		t.Fatal(err)
	}
	m, err := dhcpv6.MessageFromBytes(b)
	if err != nil {
		t.Fatal(err)
	}
	ia := m.Options.OneIANA()
	if m.MessageType != dhcpv6.MessageTypeAdvertise || m.TransactionID != ask.TransactionID || ia.IaId != [4]byte{0, 0, 0, 9} || ia.T1 != 30*time.Minute {
		t.Errorf("got %s", m.Summary())
	}
	if a := ia.Options.OneAddress(); a.IPv6Addr.String() != "fd77::1:1" || a.ValidLifetime != time.Hour {
		t.Errorf("address %v", a)
	}
	if m.Options.BootFileURL() != l.BootURL || string(m.Options.VendorClass(enterprise)[0]) != "HTTPClient" || m.Options.DNS()[0].String() != "fd77::53" {
		t.Errorf("got %s", m.Summary())
	}
	if string(m.Options.ClientID().ToBytes()) != string(uuid6.ToBytes()) || string(m.Options.ServerID().ToBytes()) != string(self6) {
		t.Errorf("identifiers of %s", m.Summary())
	}
	// An address that it has from elsewhere ends.
	ask.MessageType = dhcpv6.MessageTypeRenew
	ask.UpdateOption(&dhcpv6.OptIANA{Options: dhcpv6.IdentityOptions{Options: dhcpv6.Options{&dhcpv6.OptIAAddress{IPv6Addr: net.ParseIP("fd77::bad"), ValidLifetime: time.Hour}}}})
	if b, err = reply6(ask, self6, &boot.Lease6{Type: boot.DHCP6Reply, Address: l.Address, Time: time.Hour}); err != nil {
		t.Fatal(err)
	}
	if m, err = dhcpv6.MessageFromBytes(b); err != nil {
		t.Fatal(err)
	}
	all := m.Options.OneIANA().Options.Addresses()
	if len(all) != 2 || all[1].IPv6Addr.String() != "fd77::bad" || all[1].ValidLifetime != 0 {
		t.Errorf("got %v", all)
	}
	if b, err = reply6(ask, self6, &boot.Lease6{Type: boot.DHCP6Reply, Done: true, OffLink: true}); err != nil {
		t.Fatal(err)
	}
	if m, err = dhcpv6.MessageFromBytes(b); err != nil || m.Options.Status().StatusCode != iana.StatusNotOnLink || m.Options.OneIANA() != nil {
		t.Errorf("got %s, %v", m.Summary(), err)
	}
}

func FuzzParse6(f *testing.F) {
	m := solicit6(f, "PXEClient", iana.EFI_X86_64)
	f.Add(m.ToBytes())
	relayed, err := dhcpv6.EncapsulateRelay(m, dhcpv6.MessageTypeRelayForward, net.ParseIP("fd99::fe"), stranger.AsSlice())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(relayed.ToBytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		m, r, err := parse6(b, local6, self6)
		if err != nil {
			return
		}
		if _, err := net.ParseMAC(r.MAC); err != nil {
			t.Fatal(err)
		}
		rep, err := reply6(m, self6, &boot.Lease6{Type: boot.DHCP6Reply, Address: netip.MustParseAddr("fd77::1:1"), Time: time.Hour, BootURL: "tftp://x/y"})
		if err != nil {
			return
		}
		if _, err := dhcpv6.FromBytes(rep); err != nil {
			t.Fatalf("the answer % x is none: %v", rep, err)
		}
	})
}
