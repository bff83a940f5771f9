// Package boot decides what a machine gets at every stage of its way from "power on" to "up".
//
//	firmware   DHCP discover ──▶ offer: address, and the loader that suits the firmware
//	           TFTP or HTTP  ──▶ loader: iPXE                                    [StageLoader]
//	iPXE       DHCP again    ──▶ offer: address, and the address of the script   [StageDHCP]
//	           router solicitation ──▶ "no router here", so that it goes on      [StageSolicit]
//	           GET script    ──▶ kernel, initramfs, arguments, one-time token    [StageScript]
//	           GET file      ──▶ kernel and initramfs, by digest                 [StageFile]
//	init       enrol         ──▶ certificate, for the token, once                [StageEnrol]
//	           progress      ──▶ fetching, starting, or failed and why           [StageProgress]
//	agent      progress      ──▶ to disk: writing, installed, or failed          [StageProgress]
//	agent      up            ──▶ the count of network boots starts afresh        [StageUp]
//
// [Decide] is asked at each arrow, also where the answer is silence, and always says why. It takes values and returns
// values: no socket, no file, no clock. The sockets are in dhcpd, tftpd and ra; the store and the HTTP handlers are the
// server's. What is to be recorded comes back as operations and events; nothing is recorded here.
//
// A deployment is counted: every script that is handed out uses one of its network boots, and when all are used without
// the node having been up, the node is held with the reason on its own console, not looped.
//
// The one-time token is in [Decision.Script] and nowhere else: not in an event, a reason or an error.
package boot

import (
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"muster/internal/model"
)

// Stage is where on its way a machine asks.
type Stage string

// The stages, in the order in which a machine goes through them.
const (
	StageDHCP     Stage = "dhcp"
	StageLoader   Stage = "loader"
	StageDHCP6    Stage = "dhcp6"
	StageSolicit  Stage = "solicit"
	StageScript   Stage = "script"
	StageFile     Stage = "file"
	StageEnrol    Stage = "enrol"
	StageProgress Stage = "progress"
	StageUp       Stage = "up"
	StageLimit    Stage = "limit" // nobody asks: the time of a phase is over
)

// The steps that this room tells on the timeline.
const (
	StepOffer    = "dhcp.offer"
	StepAck      = "dhcp.ack"
	StepNak      = "dhcp.nak"
	StepSilent   = "dhcp.silent"
	StepObserved = "dhcp.observed" // silence to a node that is only observed, and what it would have been answered
	StepDecline  = "dhcp.decline"
	StepRelease  = "dhcp.release"
	StepLoader   = "boot.loader"
	StepScript   = "boot.script"
	StepFile     = "boot.file"
	StepHeld     = "boot.held"
	StepRefused  = "boot.refused"
	StepEnrolled = "node.enrolled"
	StepDenied   = "node.denied" // an enrolment that was refused
	StepFetching = "node.fetching"
	StepStarting = "node.starting"
	StepWriting  = "node.writing"   // the disk, several times
	StepDisk     = "node.installed" // the disk is written
	StepFailed   = "node.failed"
	StepUp       = "node.up"
	StepJobs     = "node.jobs"
	StepLate     = "deploy.held" // a phase took too long
)

// TokenLife is how long the token of a boot script can be used: long enough for a slow machine to load kernel and
// initramfs beside a thousand others.
const TokenLife = 15 * time.Minute

// Server is the place that answers, as the machines reach it.
type Server struct {
	Interface string       // the interface that the machine is on
	Address   netip.Addr   // IPv4 address of that interface: DHCP server, TFTP server and web server
	Network   netip.Prefix // of that address; the prefix of nodes on it that have none of their own
	Address6  netip.Addr   // the same for IPv6; zero where the interface has none
	Network6  netip.Prefix
	HTTPPort  int               // of scripts and boot files
	APIPort   int               // of TLS, where nodes enrol
	Pin       string            // "sha256:…" of the TLS key
	Assets    map[string]string // loaders that are here, by name: "sha256:…"; nil: those of [Loaders]
	Manager   model.ManagerName // this one, in a pool
	TicketKey model.Secret      // makes the tickets of [ScriptURL]; empty: scripts are handed out without
}

// Request is one question of a machine. Which fields are read depends on Stage.
type Request struct {
	Stage  Stage
	Server Server

	// MAC is the hardware address, in any usual form. DHCP, solicit: of the packet. Script: as the URL says.
	MAC string
	// Source is the address that the request came from. Loader, script, file, enrol.
	Source netip.Addr
	// Node is who asks, where a certificate has proved it. Progress, up.
	Node model.NodeName

	// DHCP.
	Type     MessageType
	PXE      bool       // the client says that it boots from the network (option 93, or 60 "PXEClient", "HTTPClient")
	Arch     uint16     // option 93 (RFC 4578 §2.1), where PXE is set
	HTTP     bool       // option 60 begins with "HTTPClient": UEFI HTTP boot
	IPXE     bool       // iPXE that can do HTTP asks (option 77 or 175)
	UUID     string     // option 97, "" when not given
	Asked    netip.Addr // the address that the client wants or has: option 50, else ciaddr
	ServerID netip.Addr // option 54: the server that the client chose
	Relay    netip.Addr // giaddr; of DHCPv6 the link-address
	// Link is an address of the network that the machine is on, where that is not Relay: sub-option 5 of option 82 (RFC 3527), option
	// 118 (RFC 3011).
	Link netip.Addr
	// Override is the address that the relay agent wants the answer to be from: sub-option 11 of option 82 (RFC 5107).
	Override  netip.Addr
	ProxyPort bool // it came to port 4011
	Chosen    bool // DHCPv6: it names the server that it chose
	ForUs     bool // DHCPv6: and that is this one

	// Ticket is that of the URL. Script; loader and file have it in their path.
	Ticket string
	// Grub says that GRUB asks, not iPXE. Script.
	Grub bool

	// Path is the name of the loader, or of the boot file "<64 hex digits of SHA-256>/<name>"; both may have a directory before them
	// that proves who asks.
	Path string

	// TokenHash is, at the script stage, of the fresh Token; at the enrol stage, of the token that the node sent.
	TokenHash string
	Token     model.Secret // script: the fresh token
	Key       string       // enrol: fingerprint of the node's public key
	// Claim is who the node says that it is, where its address does not tell. Enrol.
	Claim model.NodeName

	// Progress: "fetching", "starting", "writing", "installed", "jobs" or "failed", with text for people and what to look at; how far it is, and the last
	// line that the work printed.
	Step, Text, Do string
	Made           model.Progress
	Output         string
	Final          bool // failed: another boot would end in the same way
	// BootID is the kernel's random boot id. Up.
	BootID string

	at time.Time // of the decision
}

// Decision is the answer to a [Request]. It holds the reason whatever the answer is.
type Decision struct {
	// Silent says that nothing is to be sent: DHCP, solicit.
	Silent bool
	// Status is the HTTP status at the stages that are asked over HTTP; elsewhere 200 says yes.
	Status int
	// Reason says why, for people. It is what a refused client is told.
	Reason string
	// Node is whom it is about, "" for an unknown machine.
	Node model.NodeName

	Lease  *Lease       // DHCP
	Lease6 *Lease6      // DHCPv6
	Advert *Advert      // solicit
	Loader string       // loader: the name of the file to send
	File   model.File   // file: what to send
	Script model.Secret // script: that of iPXE or GRUB, which holds the token; loader: what GRUB reads first

	Ops    []model.Op
	Events []model.Event

	// Made says that the node goes on in the phase that it is in, and how far it is: too often for the store.
	Made *Made
}

// Made is what a node reports of the work of a phase that it is in already.
type Made struct {
	Of       model.Deployment // as it was
	Progress model.Progress
	Output   string
}

// Decide answers one request of a machine from the snapshot. It is pure: the same arguments give the same answer. The caller
// sends the answer, and commits Ops and Events together where there are Ops, deciding again on a conflict.
func Decide(s *model.Snapshot, r Request, now time.Time) Decision {
	r.at = now
	if r.Stage == StageLoader || r.Stage == StageFile || r.Stage == StageScript && r.Path != "" {
		r.MAC, r.Ticket = "", ""
		r = r.cutWho()
	}
	if mac, ok := canonicalMAC(r.MAC); ok {
		r.MAC = mac
	} else if r.Stage == StageDHCP || r.Stage == StageDHCP6 || r.Stage == StageSolicit || r.Stage == StageScript {
		return Decision{Silent: true, Status: http.StatusBadRequest, Reason: fmt.Sprintf("%.40q is not an Ethernet address", r.MAC)}
	}
	r.Source = r.Source.Unmap().WithZone("")
	if !r.v4() {
		r.Server.Address, r.Server.Network = r.Server.Address6, r.Server.Network6
	}
	var d Decision
	switch r.Stage {
	case StageDHCP:
		d = decideDHCP(s, r)
	case StageDHCP6:
		d = decideDHCP6(s, r)
	case StageSolicit:
		d = decideSolicit(s, r)
	case StageLoader:
		d = decideLoader(s, r)
	case StageScript:
		d = decideScript(s, r, now)
	case StageFile:
		d = decideFile(s, r)
	case StageEnrol:
		d = decideEnrol(s, r, now)
	case StageProgress:
		d = decideProgress(s, r, now)
	case StageUp:
		d = decideUp(s, r, now)
	case StageLimit:
		d = decideLimit(s, r, now)
	default:
		d = Decision{Silent: true, Status: http.StatusBadRequest, Reason: fmt.Sprintf("there is no stage %q", r.Stage)}
	}
	for i := range d.Events {
		d.Events[i].Time = now
		d.Events[i].Node = d.Node
	}
	return d
}

// v4 says that a request is about IPv4.
func (r Request) v4() bool {
	return r.Stage == StageDHCP || r.Stage != StageDHCP6 && r.Stage != StageSolicit && !r.Source.Is6()
}

// remote says that the machine is not on the interface's network, but behind a relay agent.
func (r Request) remote() bool { return r.Relay.IsValid() || r.Link.IsValid() }

// link is an address of the network that the machine is on.
func (r Request) link() netip.Addr {
	switch {
	case r.Link.IsValid():
		return r.Link
	case r.Relay.IsValid():
		return r.Relay
	}
	return r.Server.Address
}

// tell adds the one event that goes with the decision.
func (d Decision) tell(step, what string) Decision {
	d.Events = append(d.Events, model.Event{Step: step, What: what, Reason: d.Reason})
	return d
}

// warn adds an event that a person should look at.
func (d Decision) warn(step, what string) Decision {
	d = d.tell(step, what)
	d.Events[len(d.Events)-1].Bad = true
	return d
}

// put records the deployment as it is after the decision.
func (d Decision) put(dep model.Deployment) Decision {
	d.Ops = append(d.Ops, model.Op{Kind: model.KindDeployment, Name: string(dep.Node), Doc: &dep})
	return d
}
