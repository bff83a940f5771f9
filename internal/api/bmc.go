package api

import "muster/internal/model"

// BMCInfo is POST /v1/bmc/info. Streams [NodeBMC].
type BMCInfo struct{ Range }

// NodeBMC is who a controller is.
type NodeBMC struct {
	Result
	model.Controller
}

// BMCTest is POST /v1/bmc/test: says step by step what of a controller works. Nothing of the machine is changed. Streams [NodeBMCTest].
type BMCTest struct{ Range }

// NodeBMCTest are the steps, in their order. The node failed when one of them did; those behind it were not tried then.
type NodeBMCTest struct {
	Result
	Steps []BMCStep `json:"steps"`
}

// BMCStep is one step of a test: "settings", "answer", "login", "power", "privilege", "console". Did is ok, failed or skipped.
type BMCStep struct {
	Step string `json:"step"`
	Did  string `json:"did"`
	Text string `json:"text,omitempty"` // what was found, or why it failed
	Do   string `json:"do,omitempty"`   // what to do about it
	MS   int64  `json:"ms,omitempty"`
}

// BMCReset is POST /v1/bmc/reset: starts controllers anew; the machines go on. Streams [BMCDone].
type BMCReset struct{ Range }

// BMCTrust is POST /v1/bmc/trust: sets bmc.pin to the certificate that each controller shows now, unless it is trusted already. Streams [BMCDone].
type BMCTrust struct{ Range }

// BMCDone says what was done.
type BMCDone struct {
	Result
	Did string `json:"did"`
	// Pending are settings that take effect when the machine is started anew.
	Pending []string `json:"pending,omitempty"`
}

// BMCGet is POST /v1/bmc/get. Names are settings or globs of them; none is all. Streams [NodeSettings].
type BMCGet struct {
	Range
	Names []string `json:"names,omitempty"`
}

// NodeSettings are settings, ordered by name. Secrets are not among them: a controller does not tell them.
type NodeSettings struct {
	Result
	Settings []model.Setting `json:"settings"`
}

// BMCSet is POST /v1/bmc/set. Each attr of Set is a setting (see [BMCGet]), or "password": that of the account that muster logs in with. The
// settings are read back. Where the password of that account is among them, the login with it is tried, and bmc.password is set on the node too, unless
// Leave says not to. Streams [BMCDone].
type BMCSet struct {
	Range
	Set   []Assignment `json:"set"`
	Leave bool         `json:"leave,omitempty"`
}

// BMCRaw is POST /v1/bmc/raw: a request in the words of the protocol, for what has no verb. Streams [NodeRaw].
type BMCRaw struct {
	Range
	Request string `json:"request"` // IPMI: bytes, "0x06 0x01"; Redfish: "GET /redfish/v1"
}

// NodeRaw is the answer in the words of the protocol.
type NodeRaw struct {
	Result
	Answer string `json:"answer"`
}
