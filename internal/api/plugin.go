package api

// Plugin is one line of GET /v1/plugins (a JSON array): a program in the directory plugins of the manager that was asked.
type Plugin struct {
	Name  string `json:"name"` // for bmc.plugin
	Path  string `json:"path"`
	Nodes string `json:"nodes,omitempty"` // folded: whose BMC it drives
	Why   string `json:"why,omitempty"`   // why it is not run; empty: it is fit
}
