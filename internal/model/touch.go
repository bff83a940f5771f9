package model

import (
	"bytes"
	"encoding/json"
	"reflect"
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

// TouchOf says what a change does to one document. before is nil when the change makes it, after when the change removes it; a nil
// pointer to a document counts as nil. It returns nil when nothing differs. Secrets are in it as the documents hold them: sealed.
func TouchOf(before, after any) (*Touch, error) {
	was, kind, err := objectOf(before)
	if err != nil {
		return nil, err
	}
	is, newKind, err := objectOf(after)
	if err != nil {
		return nil, err
	}
	name, ok := is["name"].(string)
	if !ok {
		name, _ = was["name"].(string)
	}
	switch {
	case was == nil && is == nil:
		return nil, nil
	case was == nil:
		return &Touch{Kind: newKind, Name: name, Was: null}, nil
	case is == nil:
		whole, err := json.Marshal(was)
		return &Touch{kind, name, whole, null}, err
	}
	to := difference(was, is)
	if len(to) == 0 {
		return nil, nil
	}
	t := &Touch{Kind: kind, Name: name}
	if t.Now, err = json.Marshal(to); err != nil {
		return nil, err
	}
	t.Was, err = json.Marshal(difference(is, was))
	return t, err
}

// objectOf is a document as a JSON object, nil when there is none.
func objectOf(doc any) (map[string]any, Kind, error) {
	if doc == nil {
		return nil, "", nil
	}
	b, err := json.Marshal(doc)
	if err != nil {
		return nil, "", err
	}
	var m map[string]any
	err = json.Unmarshal(b, &m)
	return m, KindOf(doc), err
}

// difference is the merge patch that makes the second object of the first.
func difference(from, to map[string]any) map[string]any {
	out := map[string]any{}
	for k, v := range to {
		x, inside := from[k].(map[string]any)
		y, ok := v.(map[string]any)
		if inside && ok {
			if d := difference(x, y); len(d) > 0 {
				out[k] = d
			}
		} else if !reflect.DeepEqual(from[k], v) {
			out[k] = v
		}
	}
	for k := range from {
		if _, ok := to[k]; !ok {
			out[k] = nil
		}
	}
	return out
}
