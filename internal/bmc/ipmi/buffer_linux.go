package ipmi

import (
	"net"

	"golang.org/x/sys/unix"
)

// enlarge asks for a receive buffer, past the limit of the system where we may.
func enlarge(c *net.UDPConn, octets int) {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	forced := false
	_ = raw.Control(func(fd uintptr) {
		forced = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, octets) == nil
	})
	if !forced {
		_ = c.SetReadBuffer(octets)
	}
}
