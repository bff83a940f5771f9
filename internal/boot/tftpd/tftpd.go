// Package tftpd hands out the loaders by TFTP (RFC 1350, with the options blksize and tsize of RFC 2348 and 2349), reading only.
//
// A client names a file; the name is looked up in a fixed map and never meets a file system. The protocol is
// github.com/pin/tftp; whether and why a machine gets a file is decided elsewhere. It listens on the address of its interface only.
package tftpd

import (
	"bytes"
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

	"github.com/pin/tftp/v3"

	"muster/internal/boot"
	"muster/internal/boot/port"
	"muster/internal/model"
)

// Options say where to answer, with what, and whom to ask. Decide is called from several goroutines.
type Options struct {
	Server boot.Server
	Files  Files
	Decide func(boot.Request) boot.Decision
	// Tell takes the events of a decision, with the time that it took, before the file is sent.
	Tell func([]model.Event)
	Log  *slog.Logger // nil is silent
}

// Server holds the socket between [Open] and the end of Serve.
type Server struct {
	o    Options
	udp  *net.UDPConn
	tftp *tftp.Server

	mu    sync.Mutex
	under map[netip.Addr]int // transfers under way
}

const (
	// window is how many blocks are sent ahead of their acknowledgement.
	window = 16
	// resend is the time after which a block that was not acknowledged is sent again.
	resend = time.Second
	// most is how many transfers one address may have: firmware asks for the size first, and again when an answer was lost. Each
	// costs a socket, and somebody may be sending in the name of a node.
	most = 8
	// grace is how long transfers under way may hold up the end of Serve.
	grace = time.Second
)

// Open takes UDP port 69 at the address of the interface. Errors are *[boot.Error] where something can be done.
func Open(ctx context.Context, o Options) (*Server, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	udp, err := port.Listen(ctx, "TFTP", o.Server.Interface, netip.AddrPortFrom(o.Server.Address, 69))
	if err != nil {
		return nil, err
	}
	s := &Server{o: o, udp: udp, under: map[netip.Addr]int{}}
	s.tftp = tftp.NewServer(s.read, nil)
	s.tftp.SetAnticipate(window)
	s.tftp.SetTimeout(resend)
	return s, nil
}

// Serve answers until ctx ends. Transfers that are then under way have a second to end; one that waits for a machine that has gone
// is left behind and ends with its retries.
func (s *Server) Serve(ctx context.Context) error {
	done := make(chan struct{})
	defer context.AfterFunc(ctx, func() {
		defer close(done)
		s.tftp.Shutdown()
	})()
	err := s.tftp.Serve(s.udp)
	if ctx.Err() == nil {
		return err
	}
	select {
	case <-done:
	case <-time.After(grace):
		s.o.Log.Warn("tftp: transfers under way were left")
	}
	return nil
}

// read answers one request. The error goes to the client as text.
func (s *Server) read(name string, to io.ReaderFrom) error {
	begin := time.Now()
	out := to.(tftp.OutgoingTransfer)
	remote := out.RemoteAddr()
	from, _ := netip.AddrFromSlice(remote.IP)
	from = from.Unmap()
	if !s.enter(from) {
		return fmt.Errorf("%d transfers to %s are under way", most, from)
	}
	defer s.leave(from)
	d := s.o.Decide(boot.Request{Stage: boot.StageLoader, Server: s.o.Server, Source: from, Path: clean(name)})
	file, ok := s.o.Files[d.Loader]
	took := time.Since(begin).Microseconds()
	for i := range d.Events {
		d.Events[i].TookUS = took
	}
	if s.o.Tell != nil && len(d.Events) > 0 {
		s.o.Tell(d.Events)
	}
	if !ok {
		return errors.New(d.Reason)
	}
	out.SetSize(int64(len(file.Data)))
	_, err := to.ReadFrom(bytes.NewReader(file.Data))
	// A UEFI machine asks for the size first and breaks that transfer off on purpose: only silence is worth a word.
	if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() && s.o.Tell != nil && d.Node != "" {
		s.o.Tell([]model.Event{{
			Time: time.Now(), Node: d.Node, Step: boot.StepLoader, Bad: true,
			What:   fmt.Sprintf("loader %s was not taken whole", file.Name),
			Reason: "the machine stopped acknowledging; look at its console, and for loss on the network",
		}})
	}
	return err
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
