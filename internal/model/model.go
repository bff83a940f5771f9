// Package model holds the nouns of muster and the one immutable picture of the world that all readers share.
//
// A [Snapshot] is never changed. [Apply] takes a snapshot and a [Change] and returns the next one; it is pure: the
// time, the actor and every random value come in with the change, so every manager that applies the same changes
// in the same order holds the same world. A reader takes one snapshot at the top of a request and uses only that.
//
// Nothing in this room opens a socket, reads a file or looks at a clock.
package model

import (
	"encoding/json"
	"time"
)

// NodeName is the name of a node: an RFC 1123 host name of at most 253 octets.
type NodeName string

// GroupName is the name of a group; same letters as a node name.
type GroupName string

// ImageName is the name that people give to an image.
type ImageName string

// AttrName is a dotted attribute name such as "bmc.address" or "net.boot.mac".
type AttrName string

// Revision counts committed changes; a later change has a larger revision.
type Revision int64

// Everything is the group that every node belongs to, last in the order of inheritance.
const Everything GroupName = "everything"

// Node is one machine. Attrs holds the values as they were written, which may be expressions; a secret
// attribute holds a sealed envelope (see identity), never a readable value.
type Node struct {
	Name     NodeName            `json:"name"`
	Groups   []GroupName         `json:"groups,omitempty"`
	Attrs    map[AttrName]string `json:"attrs,omitempty"`
	Created  time.Time           `json:"created,omitzero"`
	Revision Revision            `json:"-"`
}

// Group is a named set of nodes whose members inherit its attributes. A group with Range is dynamic: its members are
// the nodes the noderange names, besides those that list it.
type Group struct {
	Name     GroupName           `json:"name"`
	Range    string              `json:"range,omitempty"`
	Attrs    map[AttrName]string `json:"attrs,omitempty"`
	Revision Revision            `json:"-"`
}

// Image is a bootable tree known to the managers, by name; the files are found by digest.
type Image struct {
	Name    ImageName `json:"name"`
	Digest  string    `json:"digest"` // "sha256:…" of the manifest: names this very build
	Built   time.Time `json:"built"`
	Kernel  string    `json:"kernel"` // release of the kernel, as uname -r prints it
	Size    int64     `json:"size"`   // bytes of the compressed root
	Recipe  string    `json:"recipe,omitempty"`
	Kernelf File      `json:"kernel_file"`
	Initrd  File      `json:"initrd_file"`
	Root    File      `json:"root_file"`
}

// File names content by digest: a boot file of an image.
type File struct {
	Name   string `json:"name"`   // base name inside the image directory
	Digest string `json:"digest"` // "sha256:" and 64 hex digits
	Size   int64  `json:"size"`   // bytes
}

// Phase is where a deployment stands.
type Phase string

// The phases of a deployment, in the order in which a node goes through them; Held is the end of one that failed.
const (
	Armed    Phase = "armed"    // waiting for the node's network boot
	Booting  Phase = "booting"  // a boot script was handed out
	Enrolled Phase = "enrolled" // the init holds a certificate
	Fetching Phase = "fetching" // the root image is on its way
	Starting Phase = "starting" // root verified and mounted, the init switches to it
	Up       Phase = "up"       // the agent in the running system has reported
	Held     Phase = "held"     // the network boots were used up, or the node reported why it cannot go on
)

// Deployment is the intent to run an image on a node, counted: each network boot that does not reach Up uses one
// of Boots; when none is left the node is held with Reason.
type Deployment struct {
	Node   NodeName  `json:"node"`
	Image  ImageName `json:"image"`
	Boots  int       `json:"boots"`      // network boots allowed between two times of being up
	Left   int       `json:"boots_left"` // of these, not yet used
	Phase  Phase     `json:"phase"`
	Reason string    `json:"reason,omitempty"` // why it is held; what to look at
	Since  time.Time `json:"since"`            // when Phase was entered

	// The one-time token of the newest boot script, as SHA-256 in hex; empty before the first script.
	TokenHash    string    `json:"token_hash,omitempty"`
	TokenExpires time.Time `json:"token_expires,omitzero"`
	// TokenKey is the fingerprint of the public key that used the token. The same key may ask again (the answer may
	// have been lost with a killed server); another key is refused.
	TokenKey string `json:"token_key,omitempty"`

	Revision Revision `json:"-"`
}

// Identity is what the node proved when it enrolled.
type Identity struct {
	Node     NodeName  `json:"node"`
	Key      string    `json:"key"`       // fingerprint of the node's TLS public key, "sha256:…"
	HostKeys []string  `json:"host_keys"` // ssh host keys in authorized_keys form
	Enrolled time.Time `json:"enrolled"`
	Expires  time.Time `json:"expires"` // end of the certificate
	Revision Revision  `json:"-"`
}

// State is what was observed of a node; it may be lost and is found again by asking.
type State struct {
	Node    NodeName  `json:"node"`
	Power   string    `json:"power,omitempty"` // "on", "off" or "" when never seen
	PowerAt time.Time `json:"power_at,omitzero"`
	Seen    time.Time `json:"seen,omitzero"` // last heartbeat of the agent
	Down    time.Time `json:"down,omitzero"` // when it was last off, or restarted through its BMC: what Seen saw has ended
	BootID  string    `json:"boot_id,omitempty"`
	Facts   *Facts    `json:"facts,omitempty"`
}

// Facts is what the agent found in the running system.
type Facts struct {
	Kernel string `json:"kernel"`
	OS     string `json:"os"`
	Image  string `json:"image"` // digest of the image's manifest
	CPUs   int    `json:"cpus"`
	CPU    string `json:"cpu"`
	Memory int64  `json:"memory"` // bytes
	Disks  []Disk `json:"disks,omitempty"`
	NICs   []NIC  `json:"nics,omitempty"`
	BootID string `json:"boot_id"` // the kernel's random boot id: changes with every boot
	Serial string `json:"serial,omitempty"`
	UUID   string `json:"uuid,omitempty"`
	Vendor string `json:"vendor,omitempty"`
	Model  string `json:"model,omitempty"`
	// UptimeMS is the time since the kernel started, in milliseconds, when the facts were taken.
	UptimeMS int64 `json:"uptime_ms"`
}

// Disk is a block device of a node. Size is in bytes.
type Disk struct {
	Name  string `json:"name"`
	Size  int64  `json:"size"`
	Model string `json:"model,omitempty"`
	WWN   string `json:"wwn,omitempty"`
}

// NIC is a network port of a node. Speed is in Mbit/s, 0 when unknown.
type NIC struct {
	Name   string `json:"name"`
	MAC    string `json:"mac"`
	Driver string `json:"driver,omitempty"`
	Speed  int    `json:"speed,omitempty"`
}

// Kind names a family of documents in the store; it is the second part of a document's key.
type Kind string

// The families of documents.
const (
	KindNode       Kind = "node"
	KindGroup      Kind = "group"
	KindImage      Kind = "image"
	KindDeployment Kind = "deployment"
	KindIdentity   Kind = "identity"
	KindState      Kind = "state"
)

// Op puts one document, or removes it when Doc is nil. Doc is a pointer to the type that Kind names
// (*Node, *Group, *Image, *Deployment, *Identity, *State) and is not changed after it is given away.
type Op struct {
	Kind Kind
	Name string
	Doc  any
}

// Change is one committed transaction: who, when, why, what.
type Change struct {
	Revision Revision  `json:"revision"` // set by the store
	Time     time.Time `json:"time"`
	Actor    string    `json:"actor"`            // "root (uid 0)", "node r1n1", "muster"
	Verb     string    `json:"verb"`             // "node add", "boot"
	Request  string    `json:"request"`          // request id
	What     string    `json:"what,omitempty"`   // one line for people; never a secret
	Events   []Event   `json:"events,omitempty"` // what to tell on the timeline with this change
	Ops      []Op      `json:"-"`
}

// Event is one line of the timeline.
type Event struct {
	Seq    int64     `json:"seq"`
	Time   time.Time `json:"time"`
	Node   NodeName  `json:"node,omitempty"`   // empty when it is about the service or an unknown machine
	MAC    string    `json:"mac,omitempty"`    // of an unknown machine
	Step   string    `json:"step"`             // dotted, from a fixed list: "power.on", "dhcp.offer", "boot.script", "node.up" …
	What   string    `json:"what"`             // one line for people
	Reason string    `json:"reason,omitempty"` // why it was done, or why not
	Actor  string    `json:"actor,omitempty"`
	Bad    bool      `json:"bad,omitempty"` // something that a person should look at
	// TookUS is the time that our own answer took, in microseconds, where the event is an answer.
	TookUS int64 `json:"took_us,omitempty"`
}

// Decode reads the document of a family from its JSON form.
func Decode(k Kind, b []byte) (any, error) {
	var doc any
	switch k {
	case KindNode:
		doc = new(Node)
	case KindGroup:
		doc = new(Group)
	case KindImage:
		doc = new(Image)
	case KindDeployment:
		doc = new(Deployment)
	case KindIdentity:
		doc = new(Identity)
	case KindState:
		doc = new(State)
	default:
		return nil, &UnknownKindError{k}
	}
	if err := json.Unmarshal(b, doc); err != nil {
		return nil, err
	}
	return doc, nil
}

// UnknownKindError says that the store holds a family of documents that this program does not know:
// it was written by a newer one.
type UnknownKindError struct{ Kind Kind }

func (e *UnknownKindError) Error() string {
	return "document family " + string(e.Kind) + " is not known to this version: the store was written by a newer muster"
}
