// Package dhcpd is the sockets of DHCP on one interface, version 4 (RFC 2131) and 6 (RFC 8415): it reads a message, asks what to do, and
// sends the answer.
//
//	UDP 67   ──▶ request ──▶ Decide ──▶ reply ──▶ giaddr:67 (a relay) │ ciaddr:68 │ a frame to the machine, or to all
//	UDP 4011 ──▶ what to boot, where another server gives addresses (proxy DHCP) ──▶ to the sender
//	UDP 547  ──▶ DHCPv6 ──▶ to the sender, which is the machine or a relay
//
// A machine that has no address yet cannot answer ARP: its answer is a frame made here, to its hardware address, or to all where
// it set the broadcast flag (RFC 2131 §4.1). It decides nothing and remembers nothing.
package dhcpd

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/mdlayher/packet"
	"golang.org/x/sync/errgroup"

	"muster/internal/boot"
	"muster/internal/boot/port"
	"muster/internal/model"
)

// Options say where to answer and whom to ask. Decide is called from several goroutines, for one message of a socket after the other.
type Options struct {
	Server boot.Server
	Decide func(boot.Request) boot.Decision
	// Tell takes the events of a decision once the answer is on its way, with the time that it took.
	Tell func([]model.Event)
	Log  *slog.Logger // nil is silent
}

// Server holds the sockets between [Open] and the end of Serve.
type Server struct {
	o     Options
	udp   *net.UDPConn // port 67; nil without an IPv4 address
	proxy *net.UDPConn // port 4011
	udp6  *net.UDPConn // port 547; nil without an IPv6 address
	duid  []byte
	raw   *packet.Conn
	self  net.HardwareAddr
}

const (
	// burst is the receive buffer in bytes: a thousand machines that are switched on together send some 700 octets each.
	burst     = 4 << 20
	proxyPort = 4011 // PXE 2.1 §2.2.1
)

// Open takes the ports on the interface: 67 and 4011 where it has an IPv4 address, 547 where it has one of IPv6. Errors are
// *[boot.Error] where something can be done: no such interface, port taken.
func Open(ctx context.Context, o Options) (*Server, error) {
	const what = "DHCP"
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{o: o}
	var err error
	if s.raw, s.self, err = port.Packet(what, o.Server.Interface, 0, nil); err != nil {
		return nil, err
	}
	listen := func(to **net.UDPConn, what string, at netip.AddrPort) {
		if err == nil {
			*to, err = port.Listen(ctx, what, o.Server.Interface, at)
		}
		if err == nil {
			err = (*to).SetReadBuffer(burst)
		}
	}
	if o.Server.Address.IsValid() {
		listen(&s.udp, what, netip.AddrPortFrom(netip.IPv4Unspecified(), dhcpv4.ServerPort))
		listen(&s.proxy, "proxy DHCP", netip.AddrPortFrom(o.Server.Address, proxyPort))
	}
	if o.Server.Address6.IsValid() {
		listen(&s.udp6, "DHCPv6", netip.AddrPortFrom(netip.IPv6Unspecified(), port6))
		if err == nil {
			err = s.join6()
		}
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *Server) close() {
	for _, c := range []*net.UDPConn{s.udp, s.proxy, s.udp6} {
		if c != nil {
			_ = c.Close()
		}
	}
	_ = s.raw.Close()
}

// Serve answers until ctx ends, then gives the ports back.
func (s *Server) Serve(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	defer context.AfterFunc(ctx, s.close)()
	for c, answer := range map[*net.UDPConn]func(b []byte, from netip.AddrPort){
		s.udp:   func(b []byte, from netip.AddrPort) { s.answer(b, from, false) },
		s.proxy: func(b []byte, from netip.AddrPort) { s.answer(b, from, true) },
		s.udp6:  s.answer6,
	} {
		if c == nil {
			continue
		}
		g.Go(func() error {
			buf := make([]byte, 64<<10)
			for {
				n, from, err := c.ReadFromUDPAddrPort(buf)
				if ctx.Err() != nil {
					return nil
				}
				if err != nil {
					return err
				}
				answer(buf[:n], from)
			}
		})
	}
	<-ctx.Done()
	s.close()
	return g.Wait()
}

// answer handles one message. What cannot be read as one is noted and dropped.
func (s *Server) answer(b []byte, from netip.AddrPort, proxy bool) {
	begin := time.Now()
	m, r, err := parse(b)
	if err != nil {
		s.o.Log.Debug("dhcp: message dropped", "from", from, "why", err)
		return
	}
	r.Server, r.ProxyPort = s.o.Server, proxy
	d := s.o.Decide(r)
	if !d.Silent && d.Lease != nil {
		rep := reply(m, r.Server, d.Lease)
		if proxy {
			_, err = s.proxy.WriteToUDPAddrPort(rep.ToBytes(), from)
		} else {
			err = s.send(m, rep)
		}
	}
	s.tell(r, d, begin, err)
}

// tell tells what was decided, with the time that it took, and why an answer was not sent.
func (s *Server) tell(r boot.Request, d boot.Decision, begin time.Time, err error) {
	if err != nil {
		s.o.Log.Error("dhcp: answer not sent", "mac", r.MAC, "node", d.Node, "why", err)
	}
	if !d.Silent {
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
