package api

// Identify is POST /v1/identify: lights the locator of machines, for ForMS milliseconds when that is not 0, or puts it out. Streams [IdentifyResult].
type Identify struct {
	Range
	On    bool  `json:"on"`
	ForMS int64 `json:"for_ms,omitempty"`
}

// IdentifyResult says what the controller took.
type IdentifyResult struct {
	Result
	On bool `json:"on"`
}
