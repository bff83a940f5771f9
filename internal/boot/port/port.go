// Package port gets the sockets of the boot services: UDP ports that hear one interface only. Where it cannot, the error names
// the interfaces that there are, or the program that has the port.
package port

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"muster/internal/boot"
)

// Interface finds the network interface. What is the service that wants it, for the error.
func Interface(what, name string) (*net.Interface, error) {
	ifi, err := net.InterfaceByName(name)
	if err == nil {
		return ifi, nil
	}
	var names []string
	all, _ := net.Interfaces()
	for _, i := range all {
		names = append(names, i.Name)
	}
	return nil, &boot.Error{
		What: what + " on " + name, Why: fmt.Sprintf("there is no interface %q; there are %s", name, strings.Join(names, ", ")),
		Do: "Name one of these with --boot, or make it first (in the lab: muster lab up)",
	}
}

// Listen binds a UDP port and hears the named interface only. The port is not shared: with SO_REUSEADDR a second boot server
// would take it as well and both would answer in turns; two interfaces do not need it, as each socket has its own device.
func Listen(ctx context.Context, what, name string, at netip.AddrPort) (*net.UDPConn, error) {
	if _, err := Interface(what, name); err != nil {
		return nil, err
	}
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if e := c.Control(func(fd uintptr) { err = unix.SetsockoptString(int(fd), unix.SOL_SOCKET, unix.SO_BINDTODEVICE, name) }); e != nil {
			return e
		}
		return err
	}}
	family := "udp4"
	if at.Addr().Is6() {
		family = "udp6"
	}
	c, err := lc.ListenPacket(ctx, family, at.String())
	e := &boot.Error{What: what + " on " + name}
	switch {
	case err == nil:
		return c.(*net.UDPConn), nil
	case errors.Is(err, unix.EADDRINUSE):
		e.Why = fmt.Sprintf("UDP port %d is taken by %s", at.Port(), holder(at.Port()))
		e.Do = "Stop that program, or keep it off this interface"
	case errors.Is(err, unix.EADDRNOTAVAIL):
		e.Why = fmt.Sprintf("%s is not an address of this host", at.Addr())
		e.Do = fmt.Sprintf("Give it to the interface: ip address add %s/PREFIX dev %s", at.Addr(), name)
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		e.Why = fmt.Sprintf("UDP port %d needs root", at.Port())
		e.Do = "Run it as root, or with CAP_NET_BIND_SERVICE and CAP_NET_RAW"
	default:
		return nil, fmt.Errorf("%s on %s: %w", what, name, err)
	}
	return nil, e
}

// holder names the programs that have a UDP port, from /proc: "dnsmasq (pid 812)".
func holder(port uint16) string {
	table, _ := os.ReadFile("/proc/self/net/udp")
	table6, _ := os.ReadFile("/proc/self/net/udp6")
	table = append(table, table6...)
	sockets := map[string]bool{}
	for l := range bytes.Lines(table) {
		f := strings.Fields(string(l)) // sl local_address rem_address st queues tr tm->when retrnsmt uid timeout inode
		if len(f) < 10 {
			continue
		}
		_, hex, _ := strings.Cut(f[1], ":")
		if p, err := strconv.ParseUint(hex, 16, 16); err == nil && uint16(p) == port {
			sockets["socket:["+f[9]+"]"] = true
		}
	}
	var who []string
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, fd := range fds {
		if target, err := os.Readlink(fd); err == nil && sockets[target] {
			pid := strings.Split(fd, "/")[2]
			comm, _ := os.ReadFile("/proc/" + pid + "/comm")
			who = append(who, fmt.Sprintf("%s (pid %s)", strings.TrimSpace(string(comm)), pid))
		}
	}
	if len(who) == 0 {
		return "another program"
	}
	return strings.Join(who, ", ")
}

// Packet opens a raw socket on an Ethernet interface and says its hardware address. Protocol 0 hears nothing and only sends.
func Packet(what, name string, protocol int, filter []bpf.RawInstruction) (*packet.Conn, net.HardwareAddr, error) {
	ifi, err := Interface(what, name)
	if err != nil {
		return nil, nil, err
	}
	if len(ifi.HardwareAddr) != 6 {
		return nil, nil, &boot.Error{What: what + " on " + name, Why: name + " is not an Ethernet interface", Do: "Name an Ethernet interface or a bridge"}
	}
	c, err := packet.Listen(ifi, packet.Raw, protocol, &packet.Config{Filter: filter})
	if errors.Is(err, unix.EPERM) {
		return nil, nil, &boot.Error{What: what + " on " + name, Why: "a raw socket needs root", Do: "Run it as root, or with CAP_NET_RAW"}
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%s on %s: %w", what, name, err)
	}
	return c, ifi.HardwareAddr, nil
}
