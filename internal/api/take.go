package api

// TakeNodes is POST /v1/take: from now on the nodes' requests to boot are answered, and their controllers may be told to do something.
// Answers [Changed].
type TakeNodes struct {
	Range
	Proxy bool `json:"proxy,omitempty"` // another DHCP server gives their addresses
}

// ReleaseNodes is POST /v1/release: from now on the nodes are only observed. Answers [Changed].
type ReleaseNodes struct {
	Range
}
