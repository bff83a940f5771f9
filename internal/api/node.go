package api

import "muster/internal/model"

// What a node and the service say to each other, over TLS. Enrol is the one request without a client certificate; it
// is made with the one-time token of the boot script. Every other request is mutual TLS.

// Enrol is POST /v1/node/enrol. CSR is a PEM certificate request; the private key never leaves the node.
type Enrol struct {
	Token    string   `json:"token"`
	Node     string   `json:"node,omitempty"` // who it is by its boot script; counts where another DHCP server gives its address
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
	Digest string     `json:"digest"`        // of the image's manifest
	Root   model.File `json:"root"`          // fetched from GET /v1/node/file/{digest}; ranges are answered
	Tree   model.File `json:"tree,omitzero"` // likewise; its chunks are fetched from GET /v1/chunks/{digest}
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

// Progress is POST /v1/node/progress: a step of the deployment as the node sees it. Step is "fetching", "starting", "writing" (to disk), "installed" (the disk is
// written and synced), "jobs" or "failed". It may be sent once a second; what repeats, or is late, moves nothing back.
type Progress struct {
	Step string `json:"step"`
	Text string `json:"text,omitempty"` // for failed: why
	Do   string `json:"do,omitempty"`   // for failed: what to look at
	// Final says of a failure that another boot would end in the same way: the node is held at once. In writing and jobs it always is.
	Final bool `json:"final,omitempty"`
	// Made is how far the step is: percent of 100 (fetching, writing), or jobs of so many.
	Made   model.Progress `json:"made,omitzero"`
	Output string         `json:"output,omitempty"` // the last line that the work printed
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
