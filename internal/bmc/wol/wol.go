// Package wol wakes machines that have no management controller: by the magic packet (six octets 0xff, then the MAC address 16 times; AMD's Magic Packet
// Technology, publication 20213). It does nothing else. Whether a machine is on it cannot know, and a machine that does not wake says nothing.
package wol

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"syscall"

	"github.com/mdlayher/packet"

	"muster/internal/bmc"
)

// Port is the UDP port of discard, which is customary for magic packets.
const Port = 9

// EtherType is that of magic packets in bare Ethernet frames.
const EtherType = 0x0842

// Open returns the driver of a machine. It costs nothing: a wrong target is told by the first call.
func Open(t bmc.Target) bmc.Driver {
	return driver{Incapable: bmc.Incapable{Protocol: "wol"}, target: t}
}

type driver struct {
	bmc.Incapable
	target bmc.Target
}

var errMAC = errors.New("no MAC address is known")

// magic is the packet for a target. A password that reads as a MAC address or an IPv4 address is appended: SecureOn.
func magic(t bmc.Target) ([]byte, net.HardwareAddr, error) {
	to, err := net.ParseMAC(t.MAC)
	if err != nil || len(to) != 6 {
		return nil, nil, errMAC
	}
	p := append(bytes.Repeat([]byte{0xff}, 6), bytes.Repeat(to, 16)...)
	secret := t.Password.Reveal()
	if m, err := net.ParseMAC(secret); err == nil && len(m) == 6 {
		p = append(p, m...)
	} else if a, err := netip.ParseAddr(secret); err == nil && a.Is4() {
		p = append(p, a.AsSlice()...)
	}
	return p, to, nil
}

// SetPower knows only "on". The packet goes to the broadcast address of each network that this host is in, to bmc.address when that is set (a broadcast
// address elsewhere, or a host that keeps listening), and as a bare Ethernet frame where the service may send those. One way that works is enough.
func (d driver) SetPower(ctx context.Context, a bmc.Action) error {
	what := "power " + string(a)
	switch a {
	case bmc.On:
	case bmc.Off, bmc.SoftOff, bmc.Cycle, bmc.Reset, bmc.Diag:
		return d.Incapable.SetPower(ctx, a)
	default:
		return &bmc.Error{Kind: bmc.Invalid, What: what, Why: "there is no such action", Do: "Waking (wol) knows only on"}
	}
	p, to, err := magic(d.target)
	if err != nil {
		return &bmc.Error{Kind: bmc.Invalid, What: what, Why: "no MAC address is known to wake node " + string(d.target.Node), Do: "Set the MAC address of the interface that it boots from", Err: err}
	}
	if err := ctx.Err(); err != nil {
		return &bmc.Error{Kind: bmc.Lost, What: what, Why: "stopped before the packet was sent", Err: err}
	}
	sent, errs := false, []error(nil)
	note := func(err error) {
		sent = sent || err == nil
		errs = append(errs, err)
	}
	for _, to := range d.addresses() {
		note(send(ctx, to, p))
	}
	frames(p, to, note)
	if !sent {
		return &bmc.Error{
			Kind: bmc.Failed, What: what, Why: "the packet could not be sent: " + errors.Join(errs...).Error(), Do: "Look at the networks of the manager", Err: errors.Join(errs...),
		}
	}
	return nil
}

// addresses are where the packet goes by UDP.
func (d driver) addresses() []string {
	port := d.target.Port
	if port == 0 {
		port = Port
	}
	hosts := []string{"255.255.255.255"}
	if d.target.Address != "" {
		hosts = append(hosts, d.target.Address)
	}
	all, err := net.InterfaceAddrs()
	if err != nil {
		all = nil // the general broadcast remains
	}
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && !n.IP.IsLoopback() {
			if b := broadcast(n); b != nil {
				hosts = append(hosts, b.String())
			}
		}
	}
	for i, h := range hosts {
		hosts[i] = net.JoinHostPort(h, strconv.Itoa(port))
	}
	return hosts
}

// broadcast is the last address of an IPv4 network; nil of others, and of those too small to have one.
func broadcast(n *net.IPNet) net.IP {
	ip := n.IP.To4()
	if ones, bits := n.Mask.Size(); ip == nil || bits-ones < 2 {
		return nil
	}
	mask := n.Mask[len(n.Mask)-4:]
	b := make(net.IP, 4)
	for i := range b {
		b[i] = ip[i] | ^mask[i]
	}
	return b
}

func send(ctx context.Context, to string, p []byte) error {
	d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if e := c.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_BROADCAST, 1) }); e != nil {
			return e
		}
		return err
	}}
	c, err := d.DialContext(ctx, "udp", to)
	if err != nil {
		return err
	}
	_, err = c.Write(p)
	return errors.Join(err, c.Close())
}

// frames sends the packet on all Ethernet interfaces that are up. To a service without that right it says nothing: UDP is the common way.
func frames(p []byte, to net.HardwareAddr, note func(error)) {
	all, err := net.Interfaces()
	if err != nil {
		return
	}
	for _, i := range all {
		if i.Flags&net.FlagUp == 0 || i.Flags&net.FlagLoopback != 0 || len(i.HardwareAddr) != 6 {
			continue
		}
		c, err := packet.Listen(&i, packet.Datagram, EtherType, nil)
		if err != nil {
			continue
		}
		for _, to := range []net.HardwareAddr{{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, to} {
			_, err = c.WriteTo(p, &packet.Addr{HardwareAddr: to})
			if err == nil {
				note(nil)
			}
		}
		_ = c.Close()
	}
}
