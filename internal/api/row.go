package api

// Row is one entry of a file of nodes: what a noderange gets. [AddNodes] and [SetAttrs] take many of them as one change; Line is where
// the entry begins in the file, for errors; 0 is nowhere.
type Row struct {
	Line  int          `json:"line,omitempty"`
	Range string       `json:"range"`
	Set   []Assignment `json:"set,omitempty"`
}
