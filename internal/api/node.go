package api

import "muster/internal/model"

// What a node and the service say to each other, over TLS. Enrol is the one request without a client certificate; it
// is made with the one-time token of the boot script. Every other request is mutual TLS.

// Enrol is POST /v1/node/enrol. CSR is a PEM certificate request; the private key never leaves the node.
type Enrol struct {
	Token    string   `json:"token"`
	CSR      string   `json:"csr"`
	HostKeys []string `json:"host_keys"` // ssh host public keys in authorized_keys form
}

// Enrolled answers [Enrol]: the certificate, the CA, and what to do next.
type Enrolled struct {
	Node        string `json:"node"`
	Certificate string `json:"certificate"` // PEM chain
	CA          string `json:"ca"`          // PEM
	UnixMS      int64  `json:"unix_ms"`     // the service's clock: the node sets its own by it
	Plan        Plan   `json:"plan"`
}

// Plan is what the node is to run: GET /v1/node/plan gives it again.
type Plan struct {
	Image  string     `json:"image"`
	Digest string     `json:"digest"` // of the image's manifest
	Root   model.File `json:"root"`   // fetched from GET /v1/node/file/{digest}; ranges are answered
	// AuthorizedKeys are the root ssh keys besides those in the image.
	AuthorizedKeys []string `json:"authorized_keys,omitempty"`
	Hostname       string   `json:"hostname"`
	// Disk says that the image is to be written to disk, once it runs in memory.
	Disk *DiskPlan `json:"disk,omitempty"`
}

// DiskPlan is what an installation needs besides the root.
type DiskPlan struct {
	Layout string     `json:"layout"` // see package layout
	Kernel model.File `json:"kernel"` // fetched like the root: a root has none
}

// Progress is POST /v1/node/progress: a step of the boot as the node sees it. Step is "fetching", "starting",
// "writing" (to disk, several times), "installed", "held" (nothing may be written) or "failed".
type Progress struct {
	Step string `json:"step"`
	Text string `json:"text,omitempty"` // "43 %"; for held and failed: why
	Do   string `json:"do,omitempty"`   // for held and failed: what to look at
}

// Up is POST /v1/node/up, once for each boot, and POST /v1/node/heartbeat, with Facts only when they changed.
type Up struct {
	BootID string       `json:"boot_id"`
	Facts  *model.Facts `json:"facts,omitempty"`
}

// Heartbeat answers both: when to come again.
type Heartbeat struct {
	IntervalMS int64 `json:"interval_ms"`
	// Facts asks for the facts with the next one: the service does not have them.
	Facts bool `json:"facts,omitempty"`
}

// Renew is POST /v1/node/renew: a new certificate for a new request, before the old one ends. Answers [Enrolled] without
// a plan.
type Renew struct {
	CSR string `json:"csr"`
}
