package agent

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Interfaces are set by rtnetlink (rtnetlink(7)) in a few hand-made messages: up, address, default route. A library for it
// would be a sixth of the whole program.

// A link is a network port as /sys/class/net shows it.
type link struct {
	Name  string
	Index int
	MAC   string
}

// links lists the Ethernet ports there are.
func links() ([]link, error) {
	entries, err := os.ReadDir("/sys/class/net")
	if err != nil {
		return nil, err
	}
	var ls []link
	for _, e := range entries {
		dir := filepath.Join("/sys/class/net", e.Name())
		index, err := strconv.Atoi(readLine(filepath.Join(dir, "ifindex")))
		if err != nil || readLine(filepath.Join(dir, "type")) != "1" { // 1: ARPHRD_ETHER
			continue
		}
		ls = append(ls, link{Name: e.Name(), Index: index, MAC: strings.ToLower(readLine(filepath.Join(dir, "address")))})
	}
	return ls, nil
}

func readLine(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// netlink is one rtnetlink socket.
type netlink struct {
	fd  int
	seq uint32
}

func openNetlink() (*netlink, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, os.NewSyscallError("netlink socket", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("netlink bind", err)
	}
	return &netlink{fd: fd}, nil
}

func (n *netlink) Close() error { return unix.Close(n.fd) }

// up sets an interface up.
func (n *netlink) up(index int) error {
	m := unix.IfInfomsg{Family: unix.AF_UNSPEC, Index: int32(index), Flags: unix.IFF_UP, Change: unix.IFF_UP}
	return n.ask(unix.RTM_NEWLINK, 0, m)
}

// address gives an interface an address; one that it has already is fine.
func (n *netlink) address(index int, p netip.Prefix) error {
	m := unix.IfAddrmsg{Family: family(p.Addr()), Prefixlen: uint8(p.Bits()), Index: uint32(index), Flags: unix.IFA_F_NODAD}
	a := p.Addr().AsSlice()
	err := n.ask(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, m, attr{unix.IFA_LOCAL, a}, attr{unix.IFA_ADDRESS, a})
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}

// gateway makes the default route.
func (n *netlink) gateway(index int, gw netip.Addr) error {
	m := unix.RtMsg{Family: family(gw), Table: unix.RT_TABLE_MAIN, Protocol: unix.RTPROT_STATIC, Scope: unix.RT_SCOPE_UNIVERSE, Type: unix.RTN_UNICAST}
	oif := binary.NativeEndian.AppendUint32(nil, uint32(index))
	return n.ask(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, m, attr{unix.RTA_GATEWAY, gw.AsSlice()}, attr{unix.RTA_OIF, oif})
}

func family(a netip.Addr) uint8 {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// attr is a route attribute: type and value.
type attr struct {
	kind  uint16
	value []byte
}

// ask sends one request and waits for its acknowledgement.
func (n *netlink) ask(kind, flags uint16, body any, attrs ...attr) error {
	n.seq++
	var b bytes.Buffer
	if err := binary.Write(&b, binary.NativeEndian, body); err != nil {
		return err
	}
	for _, a := range attrs {
		_ = binary.Write(&b, binary.NativeEndian, unix.RtAttr{Len: uint16(4 + len(a.value)), Type: a.kind})
		b.Write(a.value)
		b.Write(make([]byte, -len(a.value)&3))
	}
	h := unix.NlMsghdr{
		Len: uint32(unix.NLMSG_HDRLEN + b.Len()), Type: kind,
		Flags: unix.NLM_F_REQUEST | unix.NLM_F_ACK | flags, Seq: n.seq,
	}
	var msg bytes.Buffer
	_ = binary.Write(&msg, binary.NativeEndian, h)
	msg.Write(b.Bytes())
	if err := unix.Sendto(n.fd, msg.Bytes(), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return os.NewSyscallError("netlink send", err)
	}
	buf := make([]byte, 8192)
	for {
		l, _, err := unix.Recvfrom(n.fd, buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return os.NewSyscallError("netlink receive", err)
		}
		if done, err := acknowledged(buf[:l], n.seq); done {
			return err
		}
	}
}

// acknowledged looks for the answer to request seq: NLMSG_ERROR with error 0 is the acknowledgement.
func acknowledged(b []byte, seq uint32) (done bool, err error) {
	for len(b) >= unix.NLMSG_HDRLEN {
		size := binary.NativeEndian.Uint32(b)
		kind := binary.NativeEndian.Uint16(b[4:])
		if size < unix.NLMSG_HDRLEN || int64(size) > int64(len(b)) {
			return true, fmt.Errorf("netlink: message of %d bytes in %d", size, len(b))
		}
		if binary.NativeEndian.Uint32(b[8:]) == seq && kind == unix.NLMSG_ERROR && size >= unix.NLMSG_HDRLEN+4 {
			if code := int32(binary.NativeEndian.Uint32(b[unix.NLMSG_HDRLEN:])); code != 0 {
				return true, unix.Errno(-code)
			}
			return true, nil
		}
		b = b[min(len(b), int(size+3)&^3):]
	}
	return false, nil
}
