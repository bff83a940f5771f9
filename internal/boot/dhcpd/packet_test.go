package dhcpd

import (
	"net"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"

	"muster/internal/boot"
)

var (
	hw     = net.HardwareAddr{0x52, 0x54, 0, 0x77, 0, 1}
	srv    = boot.Server{Interface: "br0", Address: netip.MustParseAddr("10.77.0.1"), HTTPPort: 8080}
	client = net.IPv4(10, 77, 1, 1).To4()
)

func message(t testing.TB, mods ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	t.Helper()
	m, err := dhcpv4.New(append([]dhcpv4.Modifier{dhcpv4.WithHwAddr(hw), dhcpv4.WithMessageType(dhcpv4.MessageTypeDiscover)}, mods...)...)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func option(code uint8, value string) dhcpv4.Modifier {
	return dhcpv4.WithOption(dhcpv4.OptGeneric(dhcpv4.GenericOptionCode(code), []byte(value)))
}

func TestParse(t *testing.T) {
	for _, c := range []struct {
		name string
		mods []dhcpv4.Modifier
		want boot.Request
	}{
		{"operating system", nil, boot.Request{}},
		{"BIOS firmware", []dhcpv4.Modifier{option(93, "\x00\x00"), option(60, "PXEClient:Arch:00000:UNDI:002001")}, boot.Request{PXE: true}},
		{"UEFI firmware", []dhcpv4.Modifier{option(93, "\x00\x07")}, boot.Request{PXE: true, Arch: 7}},
		{"UEFI over HTTP", []dhcpv4.Modifier{option(93, "\x00\x10"), option(60, "HTTPClient:Arch:00016:UNDI:003001")}, boot.Request{PXE: true, HTTP: true, Arch: 16}},
		{"old ROM without option 93", []dhcpv4.Modifier{option(60, "PXEClient:Arch:00007:UNDI:003016")}, boot.Request{PXE: true, Arch: 7}},
		{"class without a number", []dhcpv4.Modifier{option(60, "PXEClient:Arch:seven")}, boot.Request{PXE: true}},
		{"iPXE by user class", []dhcpv4.Modifier{option(77, "iPXE")}, boot.Request{IPXE: true}},
		{"iPXE by its options", []dhcpv4.Modifier{option(175, "\x21\x01\x01\x13\x01\x01"), option(93, "\x00\x00")}, boot.Request{IPXE: true, PXE: true}},
		{"iPXE without HTTP is firmware", []dhcpv4.Modifier{option(77, "iPXE"), option(175, "\x21\x01\x01"), option(93, "\x00\x00")}, boot.Request{PXE: true}},
		{"UUID as SMBIOS stores it", []dhcpv4.Modifier{option(97, "\x00\x78\x56\x34\x12\x34\x12\x78\x56\x90\xab\xcd\xef\x12\x34\x56\x78")}, boot.Request{UUID: "12345678-1234-5678-90ab-cdef12345678"}},
		{"requested address goes before ciaddr", []dhcpv4.Modifier{dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(client)), dhcpv4.WithClientIP(net.IPv4(10, 9, 9, 9))}, boot.Request{Asked: netip.MustParseAddr("10.77.1.1")}},
		{"ciaddr of a renewal", []dhcpv4.Modifier{dhcpv4.WithClientIP(client)}, boot.Request{Asked: netip.MustParseAddr("10.77.1.1")}},
		{"relay and server", []dhcpv4.Modifier{dhcpv4.WithGatewayIP(net.IPv4(10, 1, 1, 1)), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(10, 2, 2, 2)))}, boot.Request{Relay: netip.MustParseAddr("10.1.1.1"), ServerID: netip.MustParseAddr("10.2.2.2")}},
		{"link selection and server override of a relay", []dhcpv4.Modifier{option(82, "\x05\x04\x0a\x05\x05\x05\x0b\x04\x0a\x06\x06\x06")}, boot.Request{Link: netip.MustParseAddr("10.5.5.5"), Override: netip.MustParseAddr("10.6.6.6")}},
		{"subnet selection", []dhcpv4.Modifier{option(118, "\x0a\x05\x05\x00")}, boot.Request{Link: netip.MustParseAddr("10.5.5.0")}},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			c.want.Stage, c.want.MAC, c.want.Type = boot.StageDHCP, hw.String(), boot.DHCPDiscover
			_, got, err := parse(message(t, c.mods...).ToBytes())
			if err != nil || !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %+v, %v; want %+v", got, err, c.want)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	reply := message(t)
	reply.OpCode = dhcpv4.OpcodeBootReply
	infiniband := message(t, dhcpv4.WithHWType(iana.HWTypeInfiniband))
	short := message(t)
	short.ClientHWAddr = short.ClientHWAddr[:4]
	bootp := message(t)
	bootp.DeleteOption(dhcpv4.OptionDHCPMessageType)
	for name, b := range map[string][]byte{
		"replies": reply.ToBytes(), "other hardware": infiniband.ToBytes(), "short addresses": short.ToBytes(), "BOOTP": bootp.ToBytes(), "nothing": nil,
	} {
		if _, r, err := parse(b); err == nil {
			t.Errorf("%s: got %+v", name, r)
		}
	}
}

func TestReply(t *testing.T) {
	lease := &boot.Lease{
		Type: boot.DHCPOffer, Address: netip.MustParsePrefix("10.77.1.1/16"), Gateway: srv.Address, DNS: []netip.Addr{srv.Address},
		Hostname: "r1n1", Time: time.Hour, BootFile: "snponly.efi",
	}
	t.Run("offer_carries_address_and_file_and_echoes_what_must_be_echoed", func(t *testing.T) {
		m := message(t, option(82, "\x01\x04port"), option(61, "client"), option(97, "\x00"+strings.Repeat("u", 16)), dhcpv4.WithGatewayIP(net.IPv4(10, 1, 1, 1)))
		rep, err := dhcpv4.FromBytes(reply(m, srv, lease).ToBytes())
		if err != nil {
			t.Fatal(err)
		}
		if rep.OpCode != dhcpv4.OpcodeBootReply || rep.TransactionID != m.TransactionID || !rep.YourIPAddr.Equal(client) || rep.BootFileName != "snponly.efi" ||
			!rep.ServerIPAddr.Equal(ipOf(srv.Address)) || rep.MessageType() != dhcpv4.MessageTypeOffer || !rep.ServerIdentifier().Equal(ipOf(srv.Address)) ||
			rep.BootFileNameOption() != "snponly.efi" || rep.TFTPServerName() != "10.77.0.1" || rep.HostName() != "r1n1" ||
			rep.SubnetMask().String() != "ffff0000" || rep.IPAddressLeaseTime(0) != time.Hour || len(rep.Router()) != 1 || len(rep.DNS()) != 1 {
			t.Errorf("got %s", rep.Summary())
		}
		for _, code := range []uint8{82, 61, 97} {
			c := dhcpv4.GenericOptionCode(code)
			if got, want := rep.GetOneOption(c), m.GetOneOption(c); !reflect.DeepEqual(got, want) {
				t.Errorf("option %d: got %q, want %q", code, got, want)
			}
		}
		if to, ok := routed(m, rep); !ok || to.String() != "10.1.1.1:67" {
			t.Errorf("goes to %v, %v", to, ok)
		}
		if rep.GetOneOption(optIPXE) != nil {
			t.Error("iPXE's options went to another client")
		}
	})
	t.Run("ipxe_is_told_not_to_wait_for_a_proxy", func(t *testing.T) {
		rep := reply(message(t, option(175, "\x13\x01\x01")), srv, lease)
		if got := rep.GetOneOption(optIPXE); string(got) != "\xb0\x01\x01" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("nak_has_no_address_and_goes_to_all", func(t *testing.T) {
		m := message(t, dhcpv4.WithClientIP(client))
		rep := reply(m, srv, &boot.Lease{Type: boot.DHCPNak, Message: "no"})
		if _, ok := routed(m, rep); ok || !rep.IsBroadcast() || rep.MessageType() != dhcpv4.MessageTypeNak || rep.Message() != "no" ||
			!rep.YourIPAddr.IsUnspecified() || !rep.ClientIPAddr.IsUnspecified() || rep.BootFileName != "" || rep.SubnetMask() != nil {
			t.Errorf("got %s", rep.Summary())
		}
	})
	t.Run("inform_is_answered_at_its_own_address_without_a_lease", func(t *testing.T) {
		m := message(t, dhcpv4.WithMessageType(dhcpv4.MessageTypeInform), dhcpv4.WithClientIP(client))
		l := *lease
		l.Type, l.Time = boot.DHCPAck, 0
		rep := reply(m, srv, &l)
		if to, ok := routed(m, rep); !ok || to.String() != "10.77.1.1:68" || !rep.YourIPAddr.IsUnspecified() || rep.Options.Has(dhcpv4.OptionIPAddressLeaseTime) {
			t.Errorf("got %v %v %s", to, ok, rep.Summary())
		}
	})
}

func TestReplyOfAProxyHasNoAddress(t *testing.T) {
	m := message(t, option(60, "PXEClient:Arch:00000:UNDI:002001"), option(97, "\x00"+strings.Repeat("u", 16)))
	rep := reply(m, srv, &boot.Lease{Type: boot.DHCPOffer, Proxy: true, BootFile: "d/undionly.kpxe", Class: "PXEClient"})
	if !rep.YourIPAddr.IsUnspecified() || rep.Options.Has(dhcpv4.OptionSubnetMask) || rep.Options.Has(dhcpv4.OptionIPAddressLeaseTime) {
		t.Errorf("it gives an address: %s", rep.Summary())
	}
	if rep.BootFileName != "d/undionly.kpxe" || rep.ClassIdentifier() != "PXEClient" || rep.ServerIPAddr.String() != "10.77.0.1" || !rep.Options.Has(optUUID) ||
		string(rep.GetOneOption(dhcpv4.OptionVendorSpecificInformation)) != string(takeThisFile) {
		t.Errorf("got %s", rep.Summary())
	}
	// UEFI firmware is to ask at port 4011: a file in the offer, or option 43, would keep it from that.
	rep = reply(m, srv, &boot.Lease{Type: boot.DHCPOffer, Proxy: true, Class: "PXEClient"})
	if rep.BootFileName != "" || rep.Options.Has(dhcpv4.OptionVendorSpecificInformation) || rep.ClassIdentifier() != "PXEClient" {
		t.Errorf("got %s", rep.Summary())
	}
}

func TestReplyIsFromWhereTheRelayWantsItAndHasItsOptions(t *testing.T) {
	const agent = "\x01\x03br1\x0b\x04\x0a\x06\x06\x06"
	rep := reply(message(t, option(82, agent)), srv, &boot.Lease{Type: boot.DHCPOffer, Address: netip.MustParsePrefix("10.99.0.7/24"), Time: time.Hour})
	if rep.ServerIdentifier().String() != "10.6.6.6" || string(rep.GetOneOption(dhcpv4.OptionRelayAgentInformation)) != agent {
		t.Errorf("got %s", rep.Summary())
	}
}

func TestFrameHasRightChecksums(t *testing.T) {
	for _, n := range []int{0, 1, 300, 301} {
		payload := make([]byte, n)
		for i := range payload {
			payload[i] = byte(i * 7)
		}
		b := frame(hw, hw, srv.Address, netip.MustParseAddr("10.77.1.1"), payload)
		ip := b[14:]
		if got := sum(0, ip[:20]); got != 0xffff {
			t.Errorf("%d octets: IPv4 header sums to %#x", n, got)
		}
		if got := sum(uint32(sum(uint32(17+len(ip)-20), ip[12:20])), ip[20:]); got != 0xffff {
			t.Errorf("%d octets: UDP sums to %#x", n, got)
		}
	}
}

// FuzzMessage takes any packet through reading and answering.
func FuzzMessage(f *testing.F) {
	f.Add(message(f).ToBytes())
	f.Add(message(f, option(93, "\x00\x07"), option(60, "PXEClient:Arch:00007:UNDI:003016"), option(97, strings.Repeat("\x00", 17))).ToBytes())
	f.Add(message(f, option(77, "iPXE"), option(175, "\x13\x01\x01\xff"), option(82, "\x01\x04port")).ToBytes())
	f.Add(message(f, dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest), dhcpv4.WithClientIP(client), dhcpv4.WithGatewayIP(client)).ToBytes())
	f.Add([]byte{1, 1, 6})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, r, err := parse(b)
		if err != nil {
			return
		}
		if len(r.MAC) != 17 || r.Asked.IsValid() && r.Asked.IsUnspecified() {
			t.Fatalf("%+v", r)
		}
		for _, l := range []*boot.Lease{
			{Type: boot.DHCPAck, Address: netip.MustParsePrefix("10.77.1.1/16"), Time: time.Hour, BootFile: "x", Hostname: "n", Class: "HTTPClient"},
			{Type: boot.DHCPNak, Message: "no"},
		} {
			rep := reply(m, srv, l)
			back, err := dhcpv4.FromBytes(rep.ToBytes())
			if err != nil {
				t.Fatalf("our answer cannot be read: %v", err)
			}
			if back.TransactionID != m.TransactionID || back.ClientHWAddr.String() != r.MAC || back.MessageType() != dhcpv4.MessageType(l.Type) {
				t.Fatalf("answer %s to %s", back.Summary(), m.Summary())
			}
			routed(m, rep)
		}
	})
}
