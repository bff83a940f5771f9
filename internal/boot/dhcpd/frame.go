package dhcpd

import (
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// frame makes an Ethernet frame with an IPv4 (RFC 791) and a UDP header (RFC 768) around a DHCP answer, from port 67 to 68.
func frame(from, to net.HardwareAddr, src, dst netip.Addr, payload []byte) []byte {
	const ether, ipv4, udp = 14, 20, 8
	b := make([]byte, ether+ipv4+udp+len(payload))
	copy(b, to)
	copy(b[6:], from)
	binary.BigEndian.PutUint16(b[12:], 0x0800)

	ip := b[ether:]
	ip[0] = 0x45 // version 4, header of 5 words
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	ip[8], ip[9] = 64, 17 // time to live, UDP
	s, d := src.As4(), dst.As4()
	copy(ip[12:], s[:])
	copy(ip[16:], d[:])
	binary.BigEndian.PutUint16(ip[10:], ^sum(0, ip[:ipv4]))

	u := ip[ipv4:]
	binary.BigEndian.PutUint16(u[0:], dhcpv4.ServerPort)
	binary.BigEndian.PutUint16(u[2:], dhcpv4.ClientPort)
	binary.BigEndian.PutUint16(u[4:], uint16(len(u)))
	copy(u[udp:], payload)
	c := ^sum(uint32(sum(uint32(17+len(u)), ip[12:20])), u) // with the pseudo header
	if c == 0 {
		c = 0xffff
	}
	binary.BigEndian.PutUint16(u[6:], c)
	return b
}

// sum is the ones' complement sum of RFC 1071.
func sum(t uint32, b []byte) uint16 {
	for ; len(b) >= 2; b = b[2:] {
		t += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		t += uint32(b[0]) << 8
	}
	for t>>16 != 0 {
		t = t&0xffff + t>>16
	}
	return uint16(t)
}
