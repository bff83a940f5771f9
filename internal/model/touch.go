package model

import (
	"bytes"
	"encoding/json"
)

// Touch is what a change did to one document, in a form that can be shown, and taken back: see [Undo].
type Touch struct {
	Kind Kind   `json:"kind"`
	Name string `json:"name"`
	// Was is the JSON merge patch (RFC 7386) that makes the old document of the new one; null when there was no old one. Of a removed
	// document it is the whole.
	Was json.RawMessage `json:"was,omitempty"`
	// Now is the merge patch that makes the new document of the old one; null when it was removed, empty when it was added.
	Now json.RawMessage `json:"now,omitempty"`
}

var null = json.RawMessage("null")

// Added says that the change made the document.
func (t *Touch) Added() bool { return bytes.Equal(t.Was, null) }

// Removed says that the change removed the document.
func (t *Touch) Removed() bool { return bytes.Equal(t.Now, null) }
