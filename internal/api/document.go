package api

// DocAction is POST /v1/networks/add, /set and /remove, and the same of /v1/users and /v1/roles. Name is one name; of set and remove it may
// be several with commas. The fields of each are those of its document in model, lists with commas. Answers [Changed].
//
// GET /v1/networks, /v1/users and /v1/roles answer arrays of model.Network, model.User and model.Role.
type DocAction struct {
	Name   string       `json:"name"`
	Set    []Assignment `json:"set,omitempty"`
	DryRun bool         `json:"dry_run,omitempty"`
}
