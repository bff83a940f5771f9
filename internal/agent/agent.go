// Package agent is muster on the node: the init that gets a machine from its kernel to its root, and the agent that reports
// from the running system. Both are one small program, muster-node.
//
// The init ([Init]) is process 1 of the initramfs:
//
//	kernel arguments ─▶ modules ─▶ network ─▶ enrol ─▶ clock ─▶ fetch + verify ─▶ squashfs + overlay ─▶ switch root
//	muster.server=…     of the     as the     with a   of the   the root image,    read-only + memory     /sbin/init
//	muster.token=…      devices    arguments  one-time server   by digest
//	muster.pin=…        there      say, else  token
//	muster.net=…        are        by DHCP
//
// What it promises: it talks to no server but the one whose public key has the digest muster.pin; its private key never
// leaves the machine; no byte of a root whose digest is wrong is ever mounted; a server that goes away and comes back within
// minutes costs time only; and a boot that cannot go on says what, why and what to do on the console and to the server,
// and then starts the machine again, so that the server's count of boots decides what happens. There is no shell.
//
// Where the image goes to disk, the agent in the system in memory writes it there, before it reports "up" ([agent.install]). The init of such a
// system, from its disk, is the same program:
//
//	muster.root=UUID ─▶ modules ─▶ arrays, the volume group ─▶ root, read-only ─▶ switch root
//
// The agent ([Run]) finds the identity that the init left in /run/muster, reports "up" with what it found in the
// machine, keeps a heartbeat, and renews its certificate before it ends.
package agent

import (
	"fmt"
	"io"
)

// The places of what init and agent share.
const (
	runDir       = "/run/muster"
	identityFile = runDir + "/node.json"
	reportedFile = runDir + "/reported"
	lastWorkFile = runDir + "/work"
	diskIdentity = "/var/lib/muster/node.json" // of a system that was installed
	jobsDir      = "/var/lib/muster/jobs"      // what is remembered of steps lasts as long as the system's file system does
)

// failure is why a boot cannot go on, with what a person should look at.
type failure struct {
	What string
	Do   string
	Err  error
}

func (f *failure) Error() string {
	s := f.What
	if f.Err != nil {
		s += ": " + f.Err.Error()
	}
	return s
}

func (f *failure) Unwrap() error { return f.Err }

// console prints what the init does for those who watch the serial line.
type console struct{ w io.Writer }

// say prints one line with the seconds since the kernel started.
func (c *console) say(format string, args ...any) {
	fmt.Fprintf(c.w, "muster: %6.2f %s\n", uptime().Seconds(), fmt.Sprintf(format, args...))
}
