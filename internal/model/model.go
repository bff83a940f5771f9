// Package model holds the nouns of muster and the one immutable picture of the world that all readers share.
//
// A [Snapshot] is never changed. [Apply] takes a snapshot and a [Change] and returns the next one; it is pure: the
// time, the actor and every random value come in with the change, so every manager that applies the same changes
// in the same order holds the same world. A reader takes one snapshot at the top of a request and uses only that.
//
// Nothing in this room opens a socket, reads a file or looks at a clock.
package model

import "time"

// NodeName is the name of a node: an RFC 1123 host name of at most 253 octets.
type NodeName string

// GroupName is the name of a group; same letters as a node name.
type GroupName string

// NetworkName, UserName, RoleName and ManagerName name documents of these families; the letters of a node name.
type (
	NetworkName string
	UserName    string
	RoleName    string
	ManagerName string
)

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
	Aliases  []NodeName          `json:"aliases,omitempty"` // further names; no other node or group has them
	Groups   []GroupName         `json:"groups,omitempty"`
	Attrs    map[AttrName]string `json:"attrs,omitempty"`
	Lock     *Lock               `json:"lock,omitempty"` // nil: not locked
	Created  time.Time           `json:"created,omitzero"`
	Revision Revision            `json:"-"`
}

// Lock keeps a node from being changed, switched off or deployed until it is unlocked.
type Lock struct {
	Actor  string    `json:"actor"` // who locked it
	Reason string    `json:"reason,omitempty"`
	Time   time.Time `json:"time"`
	// Expires is when it ends by itself. Zero: never.
	Expires time.Time `json:"expires,omitzero"`
}

// Holds says that it is there and has not expired.
func (l *Lock) Holds(now time.Time) bool {
	return l != nil && (l.Expires.IsZero() || now.Before(l.Expires))
}

// Group is a named set of nodes whose members inherit its attributes. A group with Range is dynamic: its members are
// the nodes the noderange names, besides those that list it.
type Group struct {
	Name     GroupName           `json:"name"`
	Range    string              `json:"range,omitempty"`
	Attrs    map[AttrName]string `json:"attrs,omitempty"`
	Revision Revision            `json:"-"`
}

// Network is an IP network that ports of nodes are in: what they have in common, written once. A port says with
// net.<name>.network which one.
type Network struct {
	Name     NetworkName `json:"name"`
	Prefix   string      `json:"prefix"` // "10.77.0.0/16"
	Gateway  string      `json:"gateway,omitempty"`
	DNS      []string    `json:"dns,omitempty"`
	Domain   string      `json:"domain,omitempty"`
	VLAN     int         `json:"vlan,omitempty"` // 1 to 4094; 0 is untagged
	MTU      int         `json:"mtu,omitempty"`  // octets; 0 is the port's own
	Mode     string      `json:"mode,omitempty"` // how its machines are answered: one of BootModes; "" is full
	Comment  string      `json:"comment,omitempty"`
	Revision Revision    `json:"-"`
}

// User is a person or program that is known by name: the name of a local user, or that of a certificate. A user with roles may do
// what these allow and nothing else.
type User struct {
	Name     UserName   `json:"name"`
	Roles    []RoleName `json:"roles,omitempty"`
	Comment  string     `json:"comment,omitempty"`
	Revision Revision   `json:"-"`
}

// Role allows verbs on nodes.
type Role struct {
	Name     RoleName `json:"name"`
	Verbs    []string `json:"verbs"`           // names or globs: "power", "image *", "*"
	Range    string   `json:"range,omitempty"` // noderange on whose nodes; empty is all
	Comment  string   `json:"comment,omitempty"`
	Revision Revision `json:"-"`
}

// Manager is a server of the pool.
type Manager struct {
	Name      ManagerName `json:"name"`
	Addresses []string    `json:"addresses,omitempty"` // of its API, "host:port"; the first one is what the others reach it by
	Boot      []BootPlace `json:"boot,omitempty"`      // where it boots machines
	Member    string      `json:"member,omitempty"`    // etcd's number of the member in hex; empty before it joined, and with an external etcd
	Added     time.Time   `json:"added,omitzero"`
	Schema    int         `json:"schema,omitempty"`  // newest schema of the store that it understands
	Version   string      `json:"version,omitempty"` // of its program

	// The one-time token of its join string, as SHA-256 in hex; empty when it has joined.
	TokenHash    string    `json:"token_hash,omitempty"`
	TokenExpires time.Time `json:"token_expires,omitzero"`
	// TokenKey is the fingerprint of the public key that used the token: the same key may ask again, another is refused.
	TokenKey string   `json:"token_key,omitempty"`
	Revision Revision `json:"-"`
}

// BootPlace is an interface on which a manager boots machines.
type BootPlace struct {
	Address string `json:"address"` // with the length of the network's prefix: "10.77.0.1/16"
	HTTP    int    `json:"http"`    // port of boot scripts and files
	API     int    `json:"api"`     // port of the API
}

// SealKey is a data key under which secrets are sealed, itself sealed under the site key, which is not in the store. With SiteKey it
// is a site key: the one in use, sealed under the one before so that every manager learns it, or an older one, so that what was sealed
// under it can be opened.
type SealKey struct {
	ID       string    `json:"id"`      // 8 hex digits, as in "sealed:v2:<id>:…"
	Wrapped  string    `json:"wrapped"` // the key, sealed under a site key (identity)
	Site     string    `json:"site"`    // ID of that site key
	SiteKey  bool      `json:"site_key,omitempty"`
	Created  time.Time `json:"created"`
	Retired  time.Time `json:"retired,omitzero"` // since when nothing new is sealed under it; zero for the one in use
	Revision Revision  `json:"-"`
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
	// Tree names every file of the tree and the chunks of its content; of an image that an older muster built it is the zero value.
	Tree File `json:"tree_file,omitzero"`

	Revision Revision `json:"-"`
}

// File names content by digest: a boot file of an image.
type File struct {
	Name   string `json:"name"`   // base name inside the image directory
	Digest string `json:"digest"` // "sha256:" and 64 hex digits
	Size   int64  `json:"size"`   // bytes
}

// Deployment is the intent to run an image on a node, counted: each network boot that does not reach Up uses one
// of Boots; when none is left the node is held with Reason.
type Deployment struct {
	Node   NodeName  `json:"node"`
	Image  ImageName `json:"image"`
	Boots  int       `json:"boots"`      // network boots allowed between two times of being up
	Left   int       `json:"boots_left"` // of these, not yet used
	Phase  Phase     `json:"phase"`
	Code   Code      `json:"code,omitempty"`   // why it is in Phase, where that is not the way on
	Reason string    `json:"reason,omitempty"` // why it is held; what to look at
	Since  time.Time `json:"since"`            // when Phase was entered

	// Begun is when it was armed for the first time: another one has another, also with the same image. Zero before there was this field.
	Begun time.Time `json:"begun,omitzero"`
	Actor string    `json:"actor,omitempty"` // who wants it
	// Deadline is when Phase must have been left; then the node is held. Zero: there is no hurry.
	Deadline time.Time `json:"deadline,omitzero"`
	Progress Progress  `json:"progress,omitzero"` // of the work of Phase, as last shared between the managers
	Output   string    `json:"output,omitempty"`  // the last line that the work printed
	// Restart is when the manager that keeps the node sends the armed machine through its network boot, unless that was done. Zero: somebody else does.
	Restart time.Time `json:"restart,omitzero"`
	// Rollout is the one that began it, empty for none.
	Rollout string `json:"rollout,omitempty"`

	// The one-time token of the newest boot script, as SHA-256 in hex; empty before the first script.
	TokenHash    string    `json:"token_hash,omitempty"`
	TokenExpires time.Time `json:"token_expires,omitzero"`
	// TokenKey is the fingerprint of the public key that used the token. The same key may ask again (the answer may
	// have been lost with a killed server); another key is refused.
	TokenKey string `json:"token_key,omitempty"`

	// Layout says that the image goes to disk, and how: see package layout. Empty: the image runs in memory.
	Layout string `json:"layout,omitempty"`
	// Installed is when the node said that its disk is written and boots; zero before. From then on it boots from the disk.
	Installed time.Time `json:"installed,omitzero"`

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
	// Restarted is when it was last sent through its network boot by its BMC for a deployment.
	Restarted time.Time `json:"restarted,omitzero"`
	Facts     *Facts    `json:"facts,omitempty"`
	// Hardware is what the BMC told of the machine's parts; nil: it was never asked.
	Hardware *Hardware `json:"hardware,omitempty"`
	// Doing is the work that it began last; nil: none yet.
	Doing *Doing `json:"doing,omitempty"`
}

// Hardware is the record of a machine's parts: as they were read last, what is missing since when, and what changed. It is packed, as it is long
// and seldom looked at: zstd of JSON, which the server makes and reads.
type Hardware struct {
	Read   time.Time `json:"read"`
	Packed []byte    `json:"packed"`
}

// Facts is what the agent found in the running system.
type Facts struct {
	Kernel string `json:"kernel"`
	OS     string `json:"os"`
	Image  string `json:"image"` // digest of the image's manifest
	CPUs   int    `json:"cpus"`
	CPU    string `json:"cpu"`
	Memory int64  `json:"memory"`         // bytes
	UEFI   bool   `json:"uefi,omitempty"` // it was booted by UEFI, else by BIOS
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
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	Model  string `json:"model,omitempty"`
	WWN    string `json:"wwn,omitempty"`
	Serial string `json:"serial,omitempty"`
	Bus    string `json:"bus,omitempty"`    // as layouts select by it: "sata", "nvme", "usb"
	Path   string `json:"path,omitempty"`   // as below /dev/disk/by-path
	Fabric string `json:"fabric,omitempty"` // "fc", "iscsi", …: it is not the machine's own
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
	KindNetwork    Kind = "network"
	KindUser       Kind = "user"
	KindRole       Kind = "role"
	KindManager    Kind = "manager"
	KindSealKey    Kind = "sealkey"
	KindJob        Kind = "job"
	KindWork       Kind = "work"
	KindRollout    Kind = "rollout"
	KindClaim      Kind = "claim"
)

// Op puts one document, or removes it when Doc is nil. Doc is a pointer to the type that Kind names
// (*Node, *Group, *Image …) and is not changed after it is given away.
type Op struct {
	Kind Kind
	Name string
	Doc  any
}

// Change is one committed transaction: who, when, why, what.
type Change struct {
	Revision Revision  `json:"revision"` // set by the store
	Time     time.Time `json:"time"`
	Actor    string    `json:"actor"`             // "root (uid 0)", "node r1n1", "muster"
	Verb     string    `json:"verb"`              // "node add", "boot"
	Request  string    `json:"request"`           // request id
	What     string    `json:"what,omitempty"`    // one line for people; never a secret
	Events   []Event   `json:"events,omitempty"`  // what to tell on the timeline with this change
	Touches  []Touch   `json:"touches,omitempty"` // what it did to each document; set by the store
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

// NewDoc returns an empty document of a family.
func NewDoc(k Kind) (any, error) {
	switch k {
	case KindNode:
		return new(Node), nil
	case KindGroup:
		return new(Group), nil
	case KindImage:
		return new(Image), nil
	case KindDeployment:
		return new(Deployment), nil
	case KindIdentity:
		return new(Identity), nil
	case KindState:
		return new(State), nil
	case KindNetwork:
		return new(Network), nil
	case KindUser:
		return new(User), nil
	case KindRole:
		return new(Role), nil
	case KindManager:
		return new(Manager), nil
	case KindSealKey:
		return new(SealKey), nil
	case KindJob:
		return new(Job), nil
	case KindWork:
		return new(Work), nil
	case KindRollout:
		return new(Rollout), nil
	case KindClaim:
		return new(Claim), nil
	}
	return nil, &UnknownKindError{k}
}

// KindOf is the family of a document, "" when it is none.
func KindOf(doc any) Kind {
	switch doc.(type) {
	case *Node:
		return KindNode
	case *Group:
		return KindGroup
	case *Image:
		return KindImage
	case *Deployment:
		return KindDeployment
	case *Identity:
		return KindIdentity
	case *State:
		return KindState
	case *Network:
		return KindNetwork
	case *User:
		return KindUser
	case *Role:
		return KindRole
	case *Manager:
		return KindManager
	case *SealKey:
		return KindSealKey
	case *Job:
		return KindJob
	case *Work:
		return KindWork
	case *Rollout:
		return KindRollout
	case *Claim:
		return KindClaim
	}
	return ""
}

// SetRevision stamps a document that nobody else has seen yet with the revision of its last change.
func SetRevision(doc any, rev Revision) {
	switch d := doc.(type) {
	case *Node:
		d.Revision = rev
	case *Group:
		d.Revision = rev
	case *Image:
		d.Revision = rev
	case *Deployment:
		d.Revision = rev
	case *Identity:
		d.Revision = rev
	case *Network:
		d.Revision = rev
	case *User:
		d.Revision = rev
	case *Role:
		d.Revision = rev
	case *Manager:
		d.Revision = rev
	case *SealKey:
		d.Revision = rev
	case *Job:
		d.Revision = rev
	case *Work:
		d.Revision = rev
	case *Rollout:
		d.Revision = rev
	case *Claim:
		d.Revision = rev
	}
}

// UnknownKindError says that the store holds a family of documents that this program does not know:
// it was written by a newer one.
type UnknownKindError struct{ Kind Kind }

func (e *UnknownKindError) Error() string {
	return "document family " + string(e.Kind) + " is not known to this version: the store was written by a newer muster"
}
