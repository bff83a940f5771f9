// Package ra answers router solicitations (RFC 4861 §6.2.6) of known machines on one interface: "I am here, and I am no router".
//
// A machine that gets an IPv6 address of us is told that it is to ask by DHCPv6 (the managed flag), and which prefix is on its link:
// DHCPv6 itself tells no prefix. To any other machine the advertisement says nothing at all; it is for iPXE, which after DHCPv4 asks for an IPv6
// router and waits some twelve seconds when nobody answers. The router lifetime is 0 and no prefix is for addresses that a machine
// makes up (RFC 4862): no machine takes a route or an address from it. It goes to the machine that asked and to no other, so a
// network that has real routers is not disturbed.
//
// The socket is a raw one, so the interface itself needs no IPv6 address.
package ra

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/mdlayher/ndp"
	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"muster/internal/boot"
	"muster/internal/boot/port"
)

// Options say where to answer and whom to ask.
type Options struct {
	Server boot.Server
	Decide func(boot.Request) boot.Decision
	Log    *slog.Logger // nil is silent
}

// Server holds the socket between [Open] and the end of Serve.
type Server struct {
	o    Options
	raw  *packet.Conn
	self net.HardwareAddr
}

const (
	etherIPv6  = 0x86dd
	ether      = 14 // octets of an Ethernet header
	ipv6       = 40 // octets of an IPv6 header
	icmpv6     = 58
	solicit    = 133 // type of a router solicitation
	prefixLife = 24 * time.Hour
	hopLimit   = 255 // a neighbour's packet; a router would have taken one off (RFC 4861 §6.1.1)
	allRouters = "\x33\x33\x00\x00\x00\x02"
)

// onlySolicitations lets the kernel drop everything else: next header ICMPv6, type of router solicitation.
var onlySolicitations = []bpf.Instruction{
	bpf.LoadAbsolute{Off: ether + 6, Size: 1},
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: icmpv6, SkipTrue: 3},
	bpf.LoadAbsolute{Off: ether + ipv6, Size: 1},
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: solicit, SkipTrue: 1},
	bpf.RetConstant{Val: 1 << 16},
	bpf.RetConstant{Val: 0},
}

// Open listens on the interface. Errors are *[boot.Error] where something can be done.
func Open(o Options) (*Server, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	filter, err := bpf.Assemble(onlySolicitations)
	if err != nil {
		return nil, err
	}
	raw, self, err := port.Packet("router advertisements", o.Server.Interface, etherIPv6, filter)
	if err != nil {
		return nil, err
	}
	if err := raw.JoinGroup(net.HardwareAddr(allRouters)); err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	return &Server{o, raw, self}, nil
}

// Serve answers until ctx ends.
func (s *Server) Serve(ctx context.Context) error {
	defer s.raw.Close()
	defer context.AfterFunc(ctx, func() { s.raw.Close() })()
	buf := make([]byte, 2048)
	for {
		n, _, err := s.raw.ReadFrom(buf)
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, unix.ENETDOWN) { // told once; the socket hears again when the interface is up
			s.o.Log.Warn("router advertisements: the interface is down", "interface", s.o.Server.Interface)
			continue
		}
		if err != nil {
			return err
		}
		who, at, ok := parse(buf[:n])
		if !ok {
			continue
		}
		d := s.o.Decide(boot.Request{Stage: boot.StageSolicit, Server: s.o.Server, MAC: who.String()})
		if d.Silent || d.Advert == nil {
			continue
		}
		b, err := advertisement(s.self, who, at, *d.Advert)
		if err == nil {
			_, err = s.raw.WriteTo(b, &packet.Addr{HardwareAddr: who})
		}
		if err != nil {
			s.o.Log.Error("router advertisement not sent", "mac", who, "why", err)
		}
	}
}

// parse reads the hardware and the IPv6 address of the machine from a frame with a router solicitation.
func parse(b []byte) (who net.HardwareAddr, at netip.Addr, ok bool) {
	if len(b) < ether+ipv6+8 || binary.BigEndian.Uint16(b[12:]) != etherIPv6 {
		return nil, at, false
	}
	ip := b[ether:]
	if ip[0]>>4 != 6 || ip[6] != icmpv6 || ip[7] != hopLimit {
		return nil, at, false
	}
	m, err := ndp.ParseMessage(ip[ipv6:])
	if err != nil {
		return nil, at, false
	}
	if _, ok = m.(*ndp.RouterSolicitation); !ok {
		return nil, at, false
	}
	at, _ = netip.AddrFromSlice(ip[8:24])
	return net.HardwareAddr(append([]byte(nil), b[6:12]...)), at, true
}

// advertisement makes the frame of the answer. A machine that has no address yet is answered at all nodes' address, in a frame
// to itself (RFC 6085).
func advertisement(self, who net.HardwareAddr, at netip.Addr, a boot.Advert) ([]byte, error) {
	src := linkLocal(self)
	if !at.IsLinkLocalUnicast() {
		at = netip.IPv6LinkLocalAllNodes()
	}
	adv := &ndp.RouterAdvertisement{
		CurrentHopLimit:      64,
		ManagedConfiguration: a.Prefix.IsValid(),
		Options:              []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: self}},
	}
	if a.Prefix.IsValid() {
		adv.Options = append(adv.Options, &ndp.PrefixInformation{
			PrefixLength: uint8(a.Prefix.Bits()), OnLink: true, ValidLifetime: prefixLife, PreferredLifetime: prefixLife, Prefix: a.Prefix.Masked().Addr(),
		})
	}
	msg, err := ndp.MarshalMessageChecksum(adv, src, at)
	if err != nil {
		return nil, err
	}
	b := make([]byte, ether+ipv6, ether+ipv6+len(msg))
	copy(b, who)
	copy(b[6:], self)
	binary.BigEndian.PutUint16(b[12:], etherIPv6)
	ip := b[ether:]
	ip[0], ip[6], ip[7] = 0x60, icmpv6, hopLimit
	binary.BigEndian.PutUint16(ip[4:], uint16(len(msg)))
	s, d := src.As16(), at.As16()
	copy(ip[8:], s[:])
	copy(ip[24:], d[:])
	return append(b, msg...), nil
}

// linkLocal is the address that the interface has by its hardware address (RFC 4291 appendix A).
func linkLocal(hw net.HardwareAddr) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 8: hw[0] ^ 2, 9: hw[1], 10: hw[2], 11: 0xff, 12: 0xfe, 13: hw[3], 14: hw[4], 15: hw[5]})
}
