// Package dhcpd is the socket of DHCPv4 (RFC 2131) on one interface: it reads a message, asks what to do, and sends the answer.
//
//	UDP 67 ──▶ request ──▶ Decide ──▶ reply ──▶ giaddr:67 (a relay) │ ciaddr:68 │ a frame to the machine, or to all
//
// A machine that has no address yet cannot answer ARP: its answer is a frame made here, to its hardware address, or to all where
// it set the broadcast flag (RFC 2131 §4.1). It decides nothing and remembers nothing.
package dhcpd

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/mdlayher/packet"

	"muster/internal/boot"
	"muster/internal/boot/port"
	"muster/internal/model"
)

// Options say where to answer and whom to ask. Decide is called for one message after the other.
type Options struct {
	Server boot.Server
	Decide func(boot.Request) boot.Decision
	// Tell takes the events of a decision once the answer is on its way, with the time that it took.
	Tell func([]model.Event)
	Log  *slog.Logger // nil is silent
}

// Server holds the sockets between [Open] and the end of Serve.
type Server struct {
	o    Options
	udp  *net.UDPConn
	raw  *packet.Conn
	self net.HardwareAddr
}

// burst is the receive buffer in bytes: a thousand machines that are switched on together send some 700 octets each.
const burst = 4 << 20

// Open takes UDP port 67 on the interface. Errors are *[boot.Error] where something can be done: no such interface, port taken.
func Open(ctx context.Context, o Options) (*Server, error) {
	const what = "DHCP"
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	udp, err := port.Listen(ctx, what, o.Server.Interface, netip.AddrPortFrom(netip.IPv4Unspecified(), dhcpv4.ServerPort))
	if err != nil {
		return nil, err
	}
	raw, self, err := port.Packet(what, o.Server.Interface, 0, nil)
	if err != nil {
		return nil, errors.Join(err, udp.Close())
	}
	if err := udp.SetReadBuffer(burst); err != nil {
		return nil, errors.Join(err, udp.Close(), raw.Close())
	}
	return &Server{o, udp, raw, self}, nil
}

// Serve answers until ctx ends, then gives the port back.
func (s *Server) Serve(ctx context.Context) error {
	defer s.raw.Close()
	defer s.udp.Close()
	defer context.AfterFunc(ctx, func() { s.udp.Close() })()
	buf := make([]byte, 64<<10)
	for {
		n, from, err := s.udp.ReadFromUDPAddrPort(buf)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		s.answer(buf[:n], from)
	}
}

// answer handles one message. What cannot be read as one is noted and dropped.
func (s *Server) answer(b []byte, from netip.AddrPort) {
	begin := time.Now()
	m, r, err := parse(b)
	if err != nil {
		s.o.Log.Debug("dhcp: message dropped", "from", from, "why", err)
		return
	}
	r.Server = s.o.Server
	d := s.o.Decide(r)
	if !d.Silent && d.Lease != nil {
		if err := s.send(m, reply(m, r.Server, d.Lease)); err != nil {
			s.o.Log.Error("dhcp: answer not sent", "mac", r.MAC, "node", d.Node, "why", err)
		}
		took := time.Since(begin).Microseconds()
		for i := range d.Events {
			d.Events[i].TookUS = took
		}
	}
	if s.o.Tell != nil && len(d.Events) > 0 {
		s.o.Tell(d.Events)
	}
}

// send picks the way of RFC 2131 §4.1.
func (s *Server) send(m, rep *dhcpv4.DHCPv4) error {
	if to, ok := routed(m, rep); ok {
		_, err := s.udp.WriteToUDPAddrPort(rep.ToBytes(), to)
		return err
	}
	hw, ip := rep.ClientHWAddr, addrOf(rep.YourIPAddr)
	if rep.IsBroadcast() || ip.IsUnspecified() {
		hw, ip = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, netip.AddrFrom4([4]byte{255, 255, 255, 255})
	}
	_, err := s.raw.WriteTo(frame(s.self, hw, s.o.Server.Address, ip, rep.ToBytes()), &packet.Addr{HardwareAddr: hw})
	return err
}
