package ra

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"

	"github.com/mdlayher/ndp"
	"golang.org/x/net/bpf"

	"muster/internal/boot"
)

var (
	self = net.HardwareAddr{0x02, 0, 0, 0, 0, 1}
	who  = net.HardwareAddr{0x52, 0x54, 0, 0x77, 0, 1}
)

// solicitation is the frame that a machine with hardware address who sends from an address.
func solicitation(t testing.TB, from netip.Addr) []byte {
	t.Helper()
	to := netip.MustParseAddr("ff02::2")
	msg, err := ndp.MarshalMessageChecksum(&ndp.RouterSolicitation{Options: []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: who}}}, from, to)
	if err != nil {
		t.Fatal(err)
	}
	b := append([]byte(allRouters), who...)
	b = append(b, 0x86, 0xdd, 0x60, 0, 0, 0, 0, byte(len(msg)), icmpv6, hopLimit)
	s, d := from.As16(), to.As16()
	return append(append(append(b, s[:]...), d[:]...), msg...)
}

func TestSolicitationIsReadAndAnswered(t *testing.T) {
	for from, to := range map[string]string{"fe80::5054:ff:fe77:1": "fe80::5054:ff:fe77:1", "::": "ff02::1"} {
		b := solicitation(t, netip.MustParseAddr(from))
		hw, at, ok := parse(b)
		if !ok || hw.String() != who.String() || at.String() != from {
			t.Fatalf("got %v %v %v", hw, at, ok)
		}
		a, err := advertisement(self, hw, at, boot.Advert{})
		if err != nil {
			t.Fatal(err)
		}
		ip := a[ether:]
		dst, _ := netip.AddrFromSlice(ip[24:40])
		if !bytes.Equal(a[:6], who) || dst.String() != to || ip[7] != 255 || int(binary.BigEndian.Uint16(ip[4:])) != len(ip)-ipv6 {
			t.Errorf("from %s: frame % x", from, a)
		}
		m, err := ndp.ParseMessage(ip[ipv6:])
		if err != nil {
			t.Fatal(err)
		}
		adv := m.(*ndp.RouterAdvertisement)
		if adv.RouterLifetime != 0 || adv.ManagedConfiguration || adv.OtherConfiguration || len(adv.Options) != 1 {
			t.Errorf("got %+v", adv)
		}
	}
}

func TestMachineWithAnIPv6AddressIsSentToDHCPv6(t *testing.T) {
	prefix := netip.MustParsePrefix("fd77::/64")
	a, err := advertisement(self, who, netip.MustParseAddr("fe80::1"), boot.Advert{Prefix: prefix})
	if err != nil {
		t.Fatal(err)
	}
	m, err := ndp.ParseMessage(a[ether+ipv6:])
	if err != nil {
		t.Fatal(err)
	}
	adv := m.(*ndp.RouterAdvertisement)
	if adv.RouterLifetime != 0 || !adv.ManagedConfiguration || len(adv.Options) != 2 {
		t.Fatalf("got %+v", adv)
	}
	p, ok := adv.Options[1].(*ndp.PrefixInformation)
	if !ok || !p.OnLink || p.AutonomousAddressConfiguration || netip.PrefixFrom(p.Prefix, int(p.PrefixLength)) != prefix {
		t.Errorf("got %+v", adv.Options[1])
	}
}

func TestFilterLetsSolicitationsOnlyThrough(t *testing.T) {
	vm, err := bpf.NewVM(onlySolicitations)
	if err != nil {
		t.Fatal(err)
	}
	rs := solicitation(t, netip.MustParseAddr("fe80::1"))
	na := bytes.Clone(rs)
	na[ether+ipv6] = 136
	udp := bytes.Clone(rs)
	udp[ether+6] = 17
	for name, c := range map[string]struct {
		b    []byte
		pass bool
	}{"solicitation": {rs, true}, "neighbour advertisement": {na, false}, "UDP": {udp, false}} {
		if n, err := vm.Run(c.b); err != nil || n > 0 != c.pass {
			t.Errorf("%s: got %d, %v", name, n, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(solicitation(f, netip.MustParseAddr("fe80::1")))
	f.Add(solicitation(f, netip.MustParseAddr("::")))
	f.Add(make([]byte, 70))
	f.Fuzz(func(t *testing.T, b []byte) {
		hw, at, ok := parse(b)
		if !ok {
			return
		}
		a, err := advertisement(self, hw, at, boot.Advert{})
		if err != nil || !bytes.Equal(a[:6], b[6:12]) {
			t.Fatalf("answer % x, %v", a, err)
		}
	})
}
