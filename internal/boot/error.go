package boot

// Error says why a socket of the boot services cannot be had, and what to do.
type Error struct {
	What string // "DHCP on br0"
	Why  string // "UDP port 67 is taken by dnsmasq (pid 812)"
	Do   string // "Stop it, or …"
}

func (e *Error) Error() string { return e.What + ": " + e.Why + ". " + e.Do }
