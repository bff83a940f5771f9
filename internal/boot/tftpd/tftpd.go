// Package tftpd hands out files by TFTP (RFC 1350, with the options blksize, timeout, tsize and windowsize of RFC 2347, 2348, 2349 and
// 7440), reading only.
//
//	RRQ to port 69 ──▶ Open ──▶ a socket of its own ──▶ [OACK] ──▶ DATA, a window ahead of what is acknowledged
//
// A client names a file; what it gets for the name is decided elsewhere, and never meets a file system here. It listens on the address of
// its interface only.
package tftpd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"muster/internal/boot"
	"muster/internal/boot/port"
	"muster/internal/model"
)

// Content is what a client gets.
type Content struct {
	Name string // for people
	Size int64
	Data io.ReaderAt
	Node model.NodeName // who gets it
	Done func()         // called at the end, when it is not nil
}

// Options say where to answer, and whom to ask.
type Options struct {
	Server boot.Server
	// Open is called from several goroutines. The error goes to the client as text.
	Open func(ctx context.Context, name string, from netip.Addr) (Content, error)
	// Tell takes an event of a transfer that broke off; nil: nobody wants it.
	Tell func([]model.Event)
	Log  *slog.Logger // nil is silent
}

// Server holds the sockets between [Open] and the end of Serve.
type Server struct {
	o   Options
	udp []*net.UDPConn // one for each family that the interface has an address of

	mu    sync.Mutex
	under map[netip.Addr]int // transfers under way
}

const (
	// ahead is how many blocks are sent ahead of their acknowledgement to a client that asked for no window.
	ahead = 16
	// resend is the time after which blocks that were not acknowledged are sent again.
	resend = time.Second
	// tries is how often that is done without anything new being acknowledged.
	tries = 5
	// most is how many transfers one address may have: firmware asks for the size first, and again when an answer was lost. Each
	// costs a socket, and somebody may be sending in the name of a node.
	most = 8
	// grace is how long transfers under way may hold up the end of Serve.
	grace = time.Second
)

// Open takes UDP port 69 at the addresses of the interface. Errors are *[boot.Error] where something can be done.
func Open(ctx context.Context, o Options) (*Server, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{o: o, under: map[netip.Addr]int{}}
	for _, a := range []netip.Addr{o.Server.Address, o.Server.Address6} {
		if !a.IsValid() {
			continue
		}
		udp, err := port.Listen(ctx, "TFTP", o.Server.Interface, netip.AddrPortFrom(a, 69))
		if err != nil {
			s.close()
			return nil, err
		}
		s.udp = append(s.udp, udp)
	}
	return s, nil
}

func (s *Server) close() {
	for _, c := range s.udp {
		_ = c.Close()
	}
}

// Serve answers until ctx ends. Transfers that are then under way have a second to end; after it they are broken off.
func (s *Server) Serve(ctx context.Context) error {
	listening, stop := context.WithCancel(ctx)
	transfers, breakOff := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	defer breakOff()
	defer context.AfterFunc(listening, s.close)()
	var wg, listeners sync.WaitGroup
	errs := make(chan error, len(s.udp))
	for _, c := range s.udp {
		listeners.Go(func() {
			buf := make([]byte, 2048)
			for {
				n, from, err := c.ReadFromUDPAddrPort(buf)
				if err != nil {
					if listening.Err() == nil {
						errs <- err
						stop()
					}
					return
				}
				b := append([]byte(nil), buf[:n]...)
				local := c.LocalAddr().(*net.UDPAddr)
				wg.Go(func() { s.answer(transfers, b, local, from) })
			}
		})
	}
	listeners.Wait()
	end := time.AfterFunc(grace, func() {
		s.o.Log.Warn("tftp: transfers under way were broken off")
		breakOff()
	})
	wg.Wait()
	end.Stop()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

// answer handles one request, up to the end of its transfer.
func (s *Server) answer(ctx context.Context, b []byte, local *net.UDPAddr, from netip.AddrPort) {
	from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
	c, err := net.DialUDP("udp", &net.UDPAddr{IP: local.IP, Zone: local.Zone}, net.UDPAddrFromAddrPort(from))
	if err != nil {
		s.o.Log.Debug("tftp: no socket", "to", from, "err", err)
		return
	}
	defer c.Close()
	r, err := parse(b)
	if err != nil {
		_, _ = c.Write(errorPacket(err))
		return
	}
	who := from.Addr().WithZone("")
	if !s.enter(who) {
		_, _ = c.Write(errorPacket(fmt.Errorf("%d transfers to %s are under way", most, who)))
		return
	}
	defer s.leave(who)
	what, err := s.o.Open(ctx, clean(r.name), who)
	if err != nil {
		_, _ = c.Write(errorPacket(err))
		return
	}
	if what.Done != nil {
		defer what.Done()
	}
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	err = (&transfer{conn: c, request: r, content: what}).run()
	// A UEFI machine asks for the size first and breaks that transfer off on purpose: only silence is worth a word.
	if errors.Is(err, errSilent) && s.o.Tell != nil && what.Node != "" {
		s.o.Tell([]model.Event{{
			Time: time.Now(), Node: what.Node, Step: boot.StepLoader, Bad: true,
			What:   what.Name + " was not taken whole by TFTP",
			Reason: "the machine stopped acknowledging; look at its console, and for loss on the network",
		}})
	}
}

// enter counts one more transfer to an address; false says that it has enough.
func (s *Server) enter(a netip.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.under[a] >= most {
		return false
	}
	s.under[a]++
	return true
}

func (s *Server) leave(a netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.under[a]--; s.under[a] == 0 {
		delete(s.under, a)
	}
}

// clean takes off what firmware puts around a name: slashes and backslashes before it, and after it the 0xff that some
// ROMs append where the DHCP option had no final zero.
func clean(name string) string {
	for strings.HasSuffix(name, "\xff") || strings.HasSuffix(name, "\x00") {
		name = name[:len(name)-1]
	}
	name = strings.ReplaceAll(name, `\`, "/")
	return strings.TrimLeft(strings.TrimPrefix(name, "./"), "/")
}
