// Package lab makes bare metal out of nothing: a private network with machines that are switched off and empty, each
// behind a management controller of its own. It is a product (muster lab up) and the ground on which the end-to-end tests stand.
//
//	outside                        namespace muster-lab (no way in, no way out)
//	                   ┌────────────────────────────────────────────────────────────────┐
//	muster lab exec ──▶│ br0 10.77.0.1/16 ──┬── tap1 ── r1n1 (QEMU, virtio, 52:54:00:77:00:01)
//	muster serve       │                    └── tap2 ── r1n2                            │
//	  --netns ────────▶│ lo 10.78.0.1/32:623  BMC of r1n1 ─ IPMI 2.0, suites 3 and 17   │
//	                   │    10.78.0.2/32:623  BMC of r1n2 ─ power, boot device, SEL,    │
//	                   │                                    SDR, FRU, serial over LAN   │
//	                   └────────────────────────────────────────────────────────────────┘
//
// One daemon ("lab run", started by "lab up" inside the namespace) is all the BMCs and the parent of all the machines.
// What it promises:
//
//   - The power state is the process: no QEMU is off, and a guest that powers itself off is off at once.
//   - The serial port outlives the machine: a serial-over-LAN session sees the firmware's first byte and stays over power
//     cycles; a reader may be 1 MiB behind and loses nothing; beyond that the guest waits, which firmware does and a kernel
//     does not: it gives characters up after 10 ms. With no reader the guest never waits. Everything is also in
//     DIR/NAME/serial.log.
//   - Machines die with the daemon, also by kill -9; "lab down" then removes processes (by pid and start time), links,
//     namespace and directory, and ends nothing that the lab did not start.
//
// What it never does: use KVM (the host's may be a broken one, and a test bed must behave the same everywhere), or give
// the machines a way to the outside.
//
// The directory of a lab: lab.json (what exists, rewritten on every change), bmc.password, daemon.log and for each
// machine disk.raw, serial.log, qemu.log and, with UEFI, vars.fd.
package lab
