// Package sim is a fleet of simulated management controllers in one process: thousands over IPMI behind two UDP sockets,
// thousands over Redfish behind one TCP listener, each on a loopback address of its own. It is a product (muster lab
// sim) and what muster is measured against.
//
//	consoles ─▶ 0.0.0.0:9623/udp ─▶ by the address asked ─▶ bmc ─┬─ session   RMCP+ suites 3 and 17, or IPMI 1.5
//	            (IP_PKTINFO)                                     ├─ commands  chassis, sensors, SDR, SEL, FRU, LAN, users
//	                                                             ├─ line      serial over LAN
//	                                                             ├─ machine   power, boot device, log, light, lines
//	clients  ─▶ 0.0.0.0:9443/tcp ─▶ by the address asked ─▶ bmc ─┴─ redfish   the same machine, in a vendor's way (profile)
//	orders   ─▶ unix socket ─▶ faults, talk, status
//
// A controller is a step machine: packet, request or the time in, packets out. It has no goroutine and no socket; one heap
// of deadlines serves all. What it does wrong is diced from the fleet's seed, so that a run can be repeated.
//
// It takes its packets apart with go-ipmi's codecs and cryptography and shares nothing with wire/ipmi, so that a mistake
// made there does not answer itself; it is proved by ipmitool, FreeIPMI, curl and gofish. Passwords and keys protect
// nothing: it listens on the loopback only, and its randomness can be foretold.
package sim
