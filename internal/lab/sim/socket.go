package sim

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// socket is a UDP socket with its reader. One socket on the wildcard address serves all controllers: the kernel says
// which address was asked (IP_PKTINFO, ip(7)), and takes the address to answer from.
type socket struct {
	fleet *Fleet
	conn  *net.UDPConn
	only  *bmc // the controller of a port of its own; nil: by address
}

// readers is how many sockets share the wildcard address; the kernel spreads consoles and controllers over them.
const readers = 2

func (f *Fleet) openUDP() ([]*socket, error) {
	var all []*socket
	listen := func(address string, only *bmc) error {
		c := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
			var err error
			return errors.Join(raw.Control(func(fd uintptr) {
				if only != nil {
					return
				}
				_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20) // as root
				err = errors.Join(
					unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1),
					unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1))
			}), err)
		}}
		conn, err := c.ListenPacket(context.Background(), "udp4", address)
		if err != nil {
			return err
		}
		all = append(all, &socket{f, conn.(*net.UDPConn), only})
		return nil
	}
	var err error
	if f.opt.Ports {
		for i := 0; i < f.opt.IPMI && err == nil; i++ {
			err = listen(f.bmcs[i].address.String(), &f.bmcs[i])
		}
	} else {
		// A socket of somebody else would share the port with ours unseen.
		var probe net.PacketConn
		if probe, err = net.ListenPacket("udp4", fmt.Sprint("0.0.0.0:", f.opt.IPMIPort)); err == nil {
			_ = probe.Close()
		}
		for i := 0; i < readers && err == nil; i++ {
			err = listen(fmt.Sprint("0.0.0.0:", f.opt.IPMIPort), nil)
		}
	}
	if err != nil {
		for _, s := range all {
			_ = s.conn.Close()
		}
		return nil, fmt.Errorf("IPMI: %w", err)
	}
	return all, nil
}

// serve reads until the socket is closed.
func (s *socket) serve() error {
	buf, oob := make([]byte, 2048), make([]byte, 64)
	for {
		n, m, _, from, err := s.conn.ReadMsgUDPAddrPort(buf, oob)
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		if err != nil {
			continue // an error of a packet sent before, which somebody did not want
		}
		b := s.only
		if b == nil {
			if asked, ok := askedAddress(oob[:m]); ok {
				b = s.fleet.at(asked)
			}
		}
		if b == nil {
			continue
		}
		now := time.Now()
		b.mu.Lock()
		b.input(now, netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), buf[:n])
		s.fleet.flush(b, now)
		b.mu.Unlock()
	}
}

// transmit sends a packet from the controller's address.
func (f *Fleet) transmit(b *bmc, p packet) {
	s := f.sockets[0]
	var oob []byte
	if f.opt.Ports {
		s = f.sockets[b.index]
	} else {
		oob = fromAddress(b.address.Addr())
	}
	if _, _, err := s.conn.WriteMsgUDPAddrPort(p.data, oob, p.to); err == nil {
		f.counters.sent.Add(1)
	}
}

// The control message of IP_PKTINFO (ip(7)): header (length, level, type), interface, address to answer from, address
// in the header of the packet.
const (
	infoHeader = unix.SizeofCmsghdr
	infoSize   = infoHeader + unix.SizeofInet4Pktinfo
)

func askedAddress(oob []byte) (netip.Addr, bool) {
	if len(oob) < infoSize || binary.NativeEndian.Uint32(oob[infoHeader-8:]) != unix.IPPROTO_IP || binary.NativeEndian.Uint32(oob[infoHeader-4:]) != unix.IP_PKTINFO {
		return netip.Addr{}, false
	}
	return netip.AddrFrom4([4]byte(oob[infoHeader+8:])), true
}

func fromAddress(a netip.Addr) []byte {
	oob := make([]byte, unix.CmsgSpace(unix.SizeofInet4Pktinfo))
	binary.NativeEndian.PutUint64(oob, infoSize)
	binary.NativeEndian.PutUint32(oob[infoHeader-8:], unix.IPPROTO_IP)
	binary.NativeEndian.PutUint32(oob[infoHeader-4:], unix.IP_PKTINFO)
	ip := a.As4()
	copy(oob[infoHeader+4:], ip[:])
	return oob
}
