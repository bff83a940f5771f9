package api

// WhoAmI is GET /v1/whoami: who the service takes the client for, and what they may do.
type WhoAmI struct {
	Who  string `json:"who"`  // "ann (uid 1000)"
	Kind string `json:"kind"` // administrator, user, node, nobody
	User string `json:"user,omitempty"`
	// Limited says that only Roles count; else the kind does.
	Limited bool   `json:"limited,omitempty"`
	Roles   []Role `json:"roles,omitempty"`
	May     string `json:"may"` // one line for people
}

// Role is a role of somebody, with the nodes of its range at this time.
type Role struct {
	Name  string   `json:"name"`
	Verbs []string `json:"verbs"`
	Range string   `json:"range,omitempty"`
	Nodes string   `json:"nodes,omitempty"` // folded; empty is all
}
