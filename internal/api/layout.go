package api

// Layout is POST /v1/layout: what a layout would make of the disks that nodes last reported, as if these were empty; For renders it for the installer of a
// distribution ("preseed", "kickstart", "autoinstall", "autoyast", "cloud-init", "ignition"). Text is the layout; empty: the node's disk.layout. Streams
// [LayoutResult].
type Layout struct {
	Range
	Text string `json:"text,omitempty"`
	For  string `json:"for,omitempty"`
	// Mirror is where the installer finds packages, Suite which of them for Debian; empty: as the installer has it.
	Mirror string `json:"mirror,omitempty"`
	Suite  string `json:"suite,omitempty"`
}

// LayoutResult is the plan in words and commands, or the answers of the installer.
type LayoutResult struct {
	Result
	Text string `json:"text,omitempty"`
}
