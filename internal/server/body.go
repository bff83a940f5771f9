package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"muster/internal/api"
	"muster/internal/auth"
	"muster/internal/model"
)

// conditional is a document that may say which revision its sender has seen.
type conditional interface{ Condition() int64 }

const (
	// maxBody is the largest request document, in bytes.
	maxBody = 64 << 20
	// maxBodyOther is that of who is no administrator.
	maxBodyOther = 1 << 20
	// maxRows is the largest one with rows: 100,000 nodes with 40 attributes each have 200 MB. They are read one by one.
	maxRows = 512 << 20
)

// readDocument decodes a request's document. A field that is not known is refused: it is a typing error or a newer client.
func readDocument(body io.Reader, doc any) error {
	d := json.NewDecoder(body)
	d.DisallowUnknownFields()
	if err := d.Decode(doc); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// strangerTime is how long somebody without a certificate may take to send a document.
const strangerTime = 10 * time.Second

// read decodes the request's document.
func (q *request) read(doc any) error {
	most := int64(maxBody)
	if q.who.Kind == auth.Nobody || q.who.Kind == auth.Node {
		most = maxBodyOther
	}
	if q.who.Kind == auth.Nobody {
		c := http.NewResponseController(q.w)
		_ = c.SetReadDeadline(time.Now().Add(strangerTime))
		defer func() { _ = c.SetReadDeadline(time.Time{}) }()
	}
	return q.understood(doc, readDocument(http.MaxBytesReader(q.w, q.Body, most), doc))
}

// understood says of a document that was read what is wrong with it, or notes what it says of the revision that its sender has seen.
func (q *request) understood(doc any, err error) error {
	if big := (*http.MaxBytesError)(nil); errors.As(err, &big) {
		return &api.Error{
			Code: api.Usage, What: q.URL.Path, Why: fmt.Sprintf("it is too large: more than %d MiB", big.Limit>>20),
			Do: "Ask for it in parts, or set what is equal on a group",
		}
	}
	if err != nil {
		return &api.Error{Code: api.Usage, What: q.URL.Path, Why: "the request cannot be read: " + err.Error()}
	}
	if c, ok := doc.(conditional); ok && c.Condition() != 0 {
		q.base = model.Revision(c.Condition())
	}
	return nil
}

// readRows is read for a document with rows, which are a field of it: these are never in memory as text, and what they have alike is there once.
func (q *request) readRows(doc any, rows *[]api.Row) error {
	d := json.NewDecoder(http.MaxBytesReader(q.w, q.Body, maxRows))
	rest := []byte{'{'}
	err := members(d, func(key string) error {
		if key != "rows" {
			var value json.RawMessage
			if err := d.Decode(&value); err != nil {
				return err
			}
			if len(rest)+len(value) > maxBody {
				return &http.MaxBytesError{Limit: maxBody}
			}
			rest = append(append(append(appendString(rest, key), ':'), value...), ',')
			return nil
		}
		r := rowReader{names: map[string]string{}, values: map[string]string{}}
		return elements(d, func() error {
			if err := d.Decode(&r.text); err != nil {
				return err
			}
			row, err := r.row()
			*rows = append(*rows, row)
			return err
		})
	})
	if err == nil {
		err = readDocument(bytes.NewReader(append(bytes.TrimSuffix(rest, []byte{','}), '}')), doc)
	}
	return q.understood(doc, err)
}

// members calls see for each member of the object that comes next; see reads its value. Nothing at all and null are an empty object.
func members(d *json.Decoder, see func(key string) error) error {
	if err := opens(d, '{'); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, errNull) {
			return nil
		}
		return err
	}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return err
		}
		key, _ := t.(string) // the decoder has seen that it is one
		if err := see(key); err != nil {
			return err
		}
	}
	_, err := d.Token()
	return err
}

// elements calls see for each element of the array that comes next; see reads it. null is an empty array.
func elements(d *json.Decoder, see func() error) error {
	if err := opens(d, '['); err != nil {
		if errors.Is(err, errNull) {
			return nil
		}
		return err
	}
	for d.More() {
		if err := see(); err != nil {
			return err
		}
	}
	_, err := d.Token()
	return err
}

var errNull = errors.New("null")

func opens(d *json.Decoder, want json.Delim) error {
	t, err := d.Token()
	switch {
	case err != nil:
		return err
	case t == nil:
		return errNull
	case t != want:
		return fmt.Errorf("%v stands where %v is expected", t, want)
	}
	return nil
}

// rowReader reads rows by hand in the form in which muster's command line writes them, any others as JSON.
type rowReader struct {
	text          json.RawMessage   // of the row at hand
	names, values map[string]string // those that were met
}

// rowShared is how many names, and how many values, are remembered. Most values are one node's own: they are forgotten now and then.
const rowShared = 1 << 14

func (r *rowReader) row() (api.Row, error) {
	if row, ok := r.plain(); ok {
		return row, nil
	}
	var row api.Row
	return row, readDocument(bytes.NewReader(r.text), &row)
}

// plain reads {"line":2,"range":"r1n1","set":[{"attr":"bmc.address","value":"10.0.0.1"},{"attr":…,"secret":{"plain":"…"}}]}, false for anything else.
func (r *rowReader) plain() (row api.Row, ok bool) {
	b := []byte(r.text)
	take := func(s string) bool {
		rest, ok := bytes.CutPrefix(b, []byte(s))
		b = rest
		return ok
	}
	text := func() ([]byte, bool) {
		for i, c := range b {
			switch {
			case c == '"':
				t := b[:i]
				b = b[i+1:]
				return t, true
			case c < ' ' || c > '~' || c == '\\':
				return nil, false
			}
		}
		return nil, false
	}
	if !take("{") {
		return row, false
	}
	if take(`"line":`) {
		i := bytes.IndexByte(b, ',')
		n, err := strconv.Atoi(string(b[:max(0, i)]))
		if err != nil {
			return row, false
		}
		row.Line, b = n, b[i+1:]
	}
	if !take(`"range":"`) {
		return row, false
	}
	name, ok := text()
	if !ok {
		return row, false
	}
	row.Range = string(name)
	if !take(`,"set":[`) {
		return row, string(b) == "}"
	}
	row.Set = make([]api.Assignment, 0, bytes.Count(b, []byte(`{"attr":`)))
	for {
		var a api.Assignment
		if !take(`{"attr":"`) {
			return row, false
		}
		attr, ok := text()
		if !ok {
			return row, false
		}
		a.Attr = shared(r.names, attr)
		if take(`,"op":"`) {
			op, ok := text()
			if !ok {
				return row, false
			}
			a.Op = shared(r.names, op)
		}
		if take(`,"value":"`) {
			value, ok := text()
			if !ok {
				return row, false
			}
			a.Value = shared(r.values, value)
		}
		if take(`,"secret":{"plain":"`) {
			secret, ok := text()
			if !ok || !take("}") {
				return row, false
			}
			a.Secret = &api.SecretValue{Plain: string(secret)}
		}
		if !take("}") {
			return row, false
		}
		row.Set = append(row.Set, a)
		if take("]") {
			return row, string(b) == "}"
		}
		if !take(",") {
			return row, false
		}
	}
}

func shared(all map[string]string, text []byte) string {
	if s, ok := all[string(text)]; ok {
		return s
	}
	s := string(text)
	if len(all) >= rowShared {
		clear(all)
	}
	all[s] = s
	return s
}
