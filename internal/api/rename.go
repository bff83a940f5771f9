package api

// RenameNodes is POST /v1/nodes/rename: the nodes of Range get the names of To, pairwise in natural order. What belongs to a node moves
// along. Answers [Changed] with a line "r1n1 -> r2n1" for each.
type RenameNodes struct {
	Range
	To string `json:"to"`
}

// RenameGroup is POST /v1/groups/rename. Answers [Changed].
type RenameGroup struct {
	Name     string `json:"name"`
	To       string `json:"to"`
	DryRun   bool   `json:"dry_run,omitempty"`
	MaxNodes int    `json:"max_nodes,omitempty"` // refuses a group with more members; 0 is no limit
}
