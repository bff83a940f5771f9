package api

import (
	"time"

	"muster/internal/model"
)

// Assignment is one "attr=value", "attr+=value", "attr-=value" or "attr=" (no value: unset) of a request.
// Op is "=", "+=" or "-="; empty is "=". Besides attributes nodes have "groups" and "aliases", and groups have "range".
type Assignment struct {
	Attr   string       `json:"attr"`
	Op     string       `json:"op,omitempty"`
	Value  string       `json:"value,omitempty"`
	Secret *SecretValue `json:"secret,omitempty"` // instead of Value for attributes of a secret kind
}

// SecretValue carries a secret from the client to the service, where it is sealed, or used at once; it is the only document that
// renders one, and no answer of the service holds it.
type SecretValue struct {
	Plain string `json:"plain"`
}

// String masks the value.
func (SecretValue) String() string { return "********" }

// AddNodes is POST /v1/nodes/add. The range is expanded without looking at what exists; names that exist are refused
// all together. Expressions such as "10.77.1.{n0}" are kept as written. Rows stand instead of Range, Groups and Set. Answers [Changed].
type AddNodes struct {
	Range
	Groups []string     `json:"groups,omitempty"`
	Set    []Assignment `json:"set,omitempty"`
	Rows   []Row        `json:"rows,omitempty"`
}

// RemoveNodes is POST /v1/nodes/remove. Answers [Changed].
type RemoveNodes struct{ Range }

// SetAttrs is POST /v1/set. Rows stand instead of Range and Set; a node that several rows name gets them in their order. Answers [Changed].
type SetAttrs struct {
	Range
	Set  []Assignment `json:"set,omitempty"`
	Rows []Row        `json:"rows,omitempty"`
	// Groups says that Range names groups (one name, or several with commas) and not nodes.
	Groups bool `json:"groups,omitempty"`
}

// Changed says what one commit did. Nodes are folded; Changes has at most 1,000 lines "r1n1: attr: old -> new".
type Changed struct {
	Nodes    string   `json:"nodes"`
	Count    int      `json:"count"`
	Changes  []string `json:"changes,omitempty"`
	Warnings []string `json:"warnings,omitempty"` // what a person should look at
	Skipped  string   `json:"skipped,omitempty"`  // as in [Trailer]
	Revision int64    `json:"revision"`
	DryRun   bool     `json:"dry_run,omitempty"`
}

// GetAttrs is POST /v1/get. Attrs are names or globs, "groups" and "aliases" among them; none means all that are set. Own asks for what
// the nodes have themselves, as it was written, and not for what counts. Streams [NodeAttrs].
type GetAttrs struct {
	Range
	Attrs []string `json:"attrs,omitempty"`
	Blame bool     `json:"blame,omitempty"`
	Own   bool     `json:"own,omitempty"`
}

// NodeAttrs holds effective values, sorted by name; secrets are masked.
type NodeAttrs struct {
	Result
	Attrs []AttrValue `json:"attrs"`
}

// AttrValue is one effective value; From and Written are filled for blame: "node", "group compute", "default", and the
// expression as it was written.
type AttrValue struct {
	Attr    string `json:"attr"`
	Value   string `json:"value"`
	From    string `json:"from,omitempty"`
	Written string `json:"written,omitempty"`
	Secret  bool   `json:"secret,omitempty"` // Value is masked
}

// ListNodes is POST /v1/list. Answers [Names]. An empty range is all nodes.
type ListNodes struct {
	Range
	Limit  int    `json:"limit,omitempty"`  // of names in the answer; 0 is no limit
	After  string `json:"after,omitempty"`  // the name after which the answer begins: Next of the one before
	Locked bool   `json:"locked,omitempty"` // those only that are locked
	Detail bool   `json:"detail,omitempty"` // answer Nodes, too
	// Prefix asks for names and aliases that begin so, of many the first ones: for completion.
	Prefix string `json:"prefix,omitempty"`
}

// Names is a set of names in natural order and folded.
type Names struct {
	Names  []string `json:"names"`
	Folded string   `json:"folded"`
	Next   string   `json:"next,omitempty"` // where a limit cut the names: the After of the next question
	// Skipped is as in [Trailer].
	Skipped string     `json:"skipped,omitempty"`
	Nodes   []NodeInfo `json:"nodes,omitempty"`
}

// NodeInfo is what a node is besides its attributes. Groups are those that it is a member of, in the order of inheritance, without everything.
type NodeInfo struct {
	Node    string      `json:"node"`
	Aliases []string    `json:"aliases,omitempty"`
	Groups  []string    `json:"groups,omitempty"`
	Lock    *model.Lock `json:"lock,omitempty"`
	Created time.Time   `json:"created,omitzero"`
}

// Expand is POST /v1/expand: like ListNodes, but names need not exist. Answers [Names]; where Short is set, Folded only, which
// noderange.ExpandNames makes all of the names of.
type Expand struct {
	Range
	Short bool `json:"short,omitempty"`
}

// Fold is POST /v1/fold. Groups abbreviates to groups where all members are among the names. Answers [Names].
type Fold struct {
	Names  []string `json:"names"`
	Groups bool     `json:"groups,omitempty"`
}

// GroupAction is POST /v1/groups/add and /v1/groups/remove. Members is an optional noderange: static members get the
// group appended to their list. Dynamic is the noderange of a dynamic group. Answers [Changed].
type GroupAction struct {
	Name    string       `json:"name"`
	Members string       `json:"members,omitempty"`
	Dynamic string       `json:"dynamic,omitempty"`
	Set     []Assignment `json:"set,omitempty"`
	DryRun  bool         `json:"dry_run,omitempty"`
	// IfRevision refuses a change of a document that is newer: the revision that the sender has seen. 0 takes any.
	IfRevision int64 `json:"if_revision,omitempty"`
	// MaxNodes refuses a request that touches more nodes; 0 is no limit.
	MaxNodes int `json:"max_nodes,omitempty"`
}

// GroupInfo is one line of GET /v1/groups (a JSON array), and GET /v1/groups/{name}.
type GroupInfo struct {
	Name    string            `json:"name"`
	Range   string            `json:"range,omitempty"`
	Members string            `json:"members"` // folded
	Count   int               `json:"count"`
	Attrs   map[string]string `json:"attrs,omitempty"` // as written, secrets masked
	// Revision is that of the last change of the group itself.
	Revision int64 `json:"revision,omitempty"`
}

// AttrDoc is one line of GET /v1/attributes?glob= (a JSON array): the schema of an attribute.
type AttrDoc struct {
	Name     string   `json:"name"`
	Type     string   `json:"type"`
	Of       string   `json:"of,omitempty"`  // of a list: the type of its elements
	Sep      string   `json:"sep,omitempty"` // of a list: what stands between two elements
	Unit     string   `json:"unit,omitempty"`
	Default  string   `json:"default,omitempty"`
	Choices  []string `json:"choices,omitempty"`
	Min      int64    `json:"min,omitempty"` // of an integer; both 0 for no limits
	Max      int64    `json:"max,omitempty"`
	Inherits bool     `json:"inherits,omitempty"` // groups may set it for their members
	Help     string   `json:"help"`
}

// StatusQuery is POST /v1/status. Streams [NodeStatus].
type StatusQuery struct {
	Range
	// Fields are those of [NodeStatus] besides node, error and status that are wanted; none is all.
	Fields []string `json:"fields,omitempty"`
}

// NodeStatus is the truth about a node in one line. Status is one of: "defined" (nothing deployed), "off", "armed",
// "booting", "enrolled", "fetching", "starting", "writing", "jobs", "up", "held", "cancelled", "silent" (was up, its heartbeat stopped), "waiting" (its
// wave has not begun).
type NodeStatus struct {
	Result
	Status  string    `json:"status"`
	Reason  string    `json:"reason,omitempty"`
	Since   time.Time `json:"since,omitzero"`
	Power   string    `json:"power,omitempty"` // as last seen
	PowerAt time.Time `json:"power_at,omitzero"`
	Image   string    `json:"image,omitempty"`
	// Step is the status with its progress, where there is one: "fetching 43 %", "jobs 3/7". Output is the last line that the work printed.
	Step     string         `json:"step,omitempty"`
	Progress model.Progress `json:"progress,omitzero"`
	Output   string         `json:"output,omitempty"`
	Code     model.Code     `json:"code,omitempty"`
	Rollout  string         `json:"rollout,omitempty"` // that began the deployment, or will
	Begun    time.Time      `json:"begun,omitzero"`    // when the deployment was armed for the first time
	Deadline time.Time      `json:"deadline,omitzero"` // when the node is held if nothing happens
	Seen     time.Time      `json:"seen,omitzero"`
	Console  string         `json:"console,omitempty"` // "recording", or why not
	Aliases  []string       `json:"aliases,omitempty"`
	Lock     *model.Lock    `json:"lock,omitempty"`
	Facts    *model.Facts   `json:"facts,omitempty"`
}

// BootDev is POST /v1/bootdev. Device is "" (ask), network, disk, cd, setup or default; Firmware "", "uefi" or "bios".
// Streams [BootDevResult].
type BootDev struct {
	Range
	Device   string `json:"device,omitempty"`
	Persist  bool   `json:"persist,omitempty"`
	Firmware string `json:"firmware,omitempty"`
}

// BootDevResult is the override as the BMC reports it.
type BootDevResult struct {
	Result
	Device   string `json:"device"`
	Persist  bool   `json:"persist,omitempty"`
	Firmware string `json:"firmware,omitempty"`
}

// Deploy is POST /v1/deploy: arms nodes with an image for a number of network boots (0: default 3); None takes the
// intent away. Power cycles the nodes into the network when Reboot is set. Streams [DeployResult].
type Deploy struct {
	Range
	Image  string `json:"image,omitempty"`
	None   bool   `json:"none,omitempty"`
	Boots  int    `json:"boots,omitempty"`
	Reboot bool   `json:"reboot,omitempty"`
	// Retry arms again, with the same image, those of the nodes that are held or cancelled. Cancel ends what is under way or waits; the machine stays as it is.
	Retry  bool `json:"retry,omitempty"`
	Cancel bool `json:"cancel,omitempty"`
	// Batch and Canary make it a rollout in waves (see [model.Rollout]): the first Canary nodes, then Batch at a time. StopAt is the percentage of failures that
	// stops it; 0 is 10.
	Batch  int `json:"batch,omitempty"`
	Canary int `json:"canary,omitempty"`
	StopAt int `json:"stop_at,omitempty"`
	// Disk writes the image to disk, as the node's disk.layout says, or as Layout does where it is not empty.
	Disk   bool   `json:"disk,omitempty"`
	Layout string `json:"layout,omitempty"`
}

// DeployResult says where the deployment stands. In a rollout Phase is "waiting", and Wave the number of the node's wave.
type DeployResult struct {
	Result
	Image   string    `json:"image,omitempty"`
	Phase   string    `json:"phase,omitempty"`
	Begun   time.Time `json:"begun,omitzero"` // of the deployment or rollout; what began before is another
	Rollout string    `json:"rollout,omitempty"`
	Wave    int       `json:"wave,omitempty"`
}

// RolloutInfo is one of GET /v1/rollouts (array), newest last, and GET /v1/rollouts/{name}. State is running, done, stopped or cancelled.
type RolloutInfo struct {
	Name    string     `json:"name"`
	Image   string     `json:"image"`
	State   string     `json:"state"`
	Reason  string     `json:"reason,omitempty"`
	Nodes   string     `json:"nodes"` // folded
	Count   int        `json:"count"`
	Wave    int        `json:"wave"`
	Waves   int        `json:"waves"`
	Up      int        `json:"up"`
	Going   int        `json:"going"`
	Failed  int        `json:"failed"`
	Waiting int        `json:"waiting"`
	StopAt  int        `json:"stop_at"`
	Actor   string     `json:"actor"`
	Begun   time.Time  `json:"begun"`
	Ended   time.Time  `json:"ended,omitzero"`
	Code    model.Code `json:"code,omitempty"`
}

// Why is GET /v1/why/{name}: name is a node or a MAC address of an unknown machine.
type Why struct {
	Node    string        `json:"node"`
	Status  NodeStatus    `json:"status"`
	Steps   []model.Event `json:"steps"`             // of the newest attempt, from its power on
	Stopped string        `json:"stopped,omitempty"` // the step it stopped at, when it is not up
	Look    []string      `json:"look,omitempty"`    // what to look at
	// OursUS is the time of our own answers in sum, TookMS the time from power on to up.
	OursUS  int64    `json:"ours_us"`
	TookMS  int64    `json:"took_ms,omitempty"`
	Console []string `json:"console,omitempty"` // last lines of the console, when it is not up
	// EventLog is what the BMC's event log has since the attempt began, or its last entries, when the node is not up; EventLogError why it could not be read.
	EventLog      []model.LogEntry `json:"event_log,omitempty"`
	EventLogError string           `json:"event_log_error,omitempty"`
	// Do is one sentence that says what to do now.
	Do string `json:"do"`
}

// BuildImage is POST /v1/images/build. Streams [BuildStep] and a trailer.
type BuildImage struct {
	Source  string   `json:"source"` // "debian12"
	Name    string   `json:"name"`
	Mirror  string   `json:"mirror,omitempty"`    // instead of the host's own apt sources
	Package []string `json:"packages,omitempty"`  // besides those of the source
	RootKey []string `json:"root_keys,omitempty"` // authorized_keys lines besides the service's own
	Fresh   bool     `json:"fresh,omitempty"`     // do not use the cache
	// Hooks are programs that change the tree before it is packed: each is run as root on the service's host, with the tree's path.
	Hooks [][]byte `json:"hooks,omitempty"`
}

// BuildStep is one line of progress. Done closes the step; MS is its time in milliseconds.
type BuildStep struct {
	Step   string `json:"step"`
	Text   string `json:"text,omitempty"`
	Done   bool   `json:"done,omitempty"`
	Cached bool   `json:"cached,omitempty"`
	MS     int64  `json:"ms,omitempty"`
	// Image is set on the last line.
	Image *model.Image `json:"image,omitempty"`
	Error *Error       `json:"error,omitempty"`
}

// ImageInfo is GET /v1/images (array) and GET /v1/images/{name}.
type ImageInfo struct {
	model.Image
	Nodes    string   `json:"nodes,omitempty"` // folded: where it is deployed
	Dir      string   `json:"dir"`
	Packages int      `json:"packages"`
	Problems []string `json:"problems,omitempty"` // of a check of the files against their digests
}

// Run is POST /v1/run: Command is run by the node's shell exactly as given. Streams [RunResult] as nodes finish.
type Run struct {
	Range
	Command string `json:"command"`
	Stdin   []byte `json:"stdin,omitempty"`
}

// RunResult is what a command printed, and its exit status (-1 when it did not run).
type RunResult struct {
	Result
	Stdout []byte `json:"stdout,omitempty"`
	Stderr []byte `json:"stderr,omitempty"`
	Note   string `json:"note,omitempty"` // what a reader must know of the output: that it was cut
	Exit   int    `json:"exit"`
	MS     int64  `json:"ms"`
}

// CopyResult is what was copied to a node: see [CopyFiles].
type CopyResult struct {
	Result
	Files int   `json:"files"`
	Bytes int64 `json:"bytes"`
}

// ConsoleControl is a text message of the web socket: see [ConsoleAttach].
type ConsoleControl struct {
	Type string `json:"type"`           // to the service: "break", "take"; to the client: "state", "writer", "error"
	Text string `json:"text,omitempty"` // "connected", "reconnecting: …"; name of the writer, empty when nobody types; what was refused and why
	You  bool   `json:"you,omitempty"`  // of "writer": it is who reads this
}

// ConsoleInfo is one line of GET /v1/consoles (array).
type ConsoleInfo struct {
	Node     string    `json:"node"`
	State    string    `json:"state"` // "recording" or why not
	Since    time.Time `json:"since"`
	Bytes    int64     `json:"bytes"`
	Watchers int       `json:"watchers"`
	Manager  string    `json:"manager,omitempty"` // of a pool: which one keeps it
}

// Unknown machines: GET /v1/discovered (array): what asked and was not answered.
type Discovered struct {
	MAC    string    `json:"mac"`
	First  time.Time `json:"first"`
	Last   time.Time `json:"last"`
	Count  int       `json:"count"`
	Vendor string    `json:"vendor,omitempty"` // DHCP vendor class
	UUID   string    `json:"uuid,omitempty"`
	Reason string    `json:"reason"` // why it was not answered
}

// Version is GET /v1/version.
type Version struct {
	Version  string    `json:"version"`
	Started  time.Time `json:"started"`
	Revision int64     `json:"revision"`
	Manager  string    `json:"manager"`        // its name in the pool
	Stale    time.Time `json:"stale,omitzero"` // since when it is cut off from the majority
	Who      string    `json:"who"`
	Pin      string    `json:"pin"`  // of the service's key
	API      []string  `json:"api"`  // addresses of the API
	Boot     []string  `json:"boot"` // interfaces of the boot services
	Data     string    `json:"data"`
}

// ConsoleChunk is one line of [ConsoleLog] with Replay: output that came together. Mark says that the line is the
// service's own and not the machine's.
type ConsoleChunk struct {
	Time time.Time `json:"time"`
	Data []byte    `json:"data"`
	Mark bool      `json:"mark,omitempty"`
}
