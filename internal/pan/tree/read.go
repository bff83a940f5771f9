package tree

import (
	"bytes"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// ReadJSON reads a profile in the json format. What panc wrote comes back as it was, but for half a surrogate pair, which is '?' in the
// file.
func ReadJSON(b []byte) (*Dict, error) {
	v, err := decodeJSON(jsonReader{s: string(b), profile: true})
	if err != nil {
		return nil, fmt.Errorf("profile in JSON: %w", err)
	}
	root, ok := v.(*Dict)
	if !ok {
		return nil, fmt.Errorf("profile in JSON: the root is of type %s, not nlist", v.Type())
	}
	return root, nil
}

// ReadXML reads a profile in the pan (xml) format. What panc wrote comes back as it was, but for half a surrogate pair. Errors say the
// line.
func ReadXML(b []byte) (*Dict, error) {
	r := xmlReader{d: xml.NewDecoder(bytes.NewReader(b))}
	root, err := r.root()
	if err != nil {
		line, _ := r.d.InputPos()
		return nil, fmt.Errorf("profile in XML: line %d: %w", line, err)
	}
	return root, nil
}

type xmlReader struct {
	d     *xml.Decoder
	depth int
}

func (r *xmlReader) root() (*Dict, error) {
	start, err := r.start()
	if err != nil {
		return nil, err
	}
	if start == nil || start.Name.Local != "nlist" || attribute(start, "format") != "pan" {
		return nil, errors.New(`the root is not <nlist format="pan">`)
	}
	v, err := r.value(start)
	if err != nil {
		return nil, err
	}
	for {
		switch t, err := r.d.Token(); t := t.(type) {
		case nil:
			if err != io.EOF {
				return nil, err
			}
			return v.(*Dict), nil
		case xml.StartElement:
			return nil, fmt.Errorf("a second root, <%s>", t.Name.Local)
		}
	}
}

// start is the next start of an element, nil at the end of the one that holds it.
func (r *xmlReader) start() (*xml.StartElement, error) {
	for {
		t, err := r.d.Token()
		if err != nil {
			return nil, err
		}
		switch t := t.(type) {
		case xml.StartElement:
			return &t, nil
		case xml.EndElement:
			return nil, nil
		case xml.CharData:
			if len(bytes.TrimSpace(t)) > 0 {
				return nil, fmt.Errorf("text %q between elements", t)
			}
		}
	}
}

func attribute(e *xml.StartElement, name string) string {
	for _, a := range e.Attr {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

func (r *xmlReader) value(e *xml.StartElement) (Value, error) {
	switch e.Name.Local {
	case "nlist":
		d := NewDict(0)
		return d, r.children(func(child *xml.StartElement, v Value) error {
			t, err := NewTerm(attribute(child, "name"))
			if err != nil {
				return err
			}
			if !t.IsKey() || d.Lookup(t.key) != nil {
				return fmt.Errorf("name %q cannot stand here or stands here twice", attribute(child, "name"))
			}
			return d.Set(t.key, v)
		})
	case "list":
		l := NewList(0)
		return l, r.children(func(_ *xml.StartElement, v Value) error { return l.Append(v) })
	}
	text, err := r.text()
	if err != nil {
		return nil, err
	}
	switch e.Name.Local {
	case "string":
		if attribute(e, "encoding") != "base64" {
			return String(text), nil
		}
		decoded, err := base64.StdEncoding.DecodeString(text)
		return String(strings.ToValidUTF8(string(decoded), "\uFFFD")), err
	case "long":
		n, err := strconv.ParseInt(text, 10, 64)
		return Long(n), err
	case "double":
		if strings.Trim(text, "+-.0123456789eE") != "" && text != "NaN" && strings.TrimPrefix(text, "-") != "Infinity" {
			return nil, fmt.Errorf("%q is no double", text)
		}
		d, err := strconv.ParseFloat(text, 64)
		return Double(d), err
	case "boolean":
		if text != "true" && text != "false" {
			return nil, fmt.Errorf("%q is no boolean", text)
		}
		return Boolean(text == "true"), nil
	}
	return nil, fmt.Errorf("<%s> is none of nlist, list, string, long, double, boolean", e.Name.Local)
}

func (r *xmlReader) children(add func(*xml.StartElement, Value) error) error {
	if r.depth++; r.depth > maxDepth {
		return errors.New("nested too deep")
	}
	defer func() { r.depth-- }()
	for {
		child, err := r.start()
		if child == nil || err != nil {
			return err
		}
		v, err := r.value(child)
		if err == nil {
			err = add(child, v)
		}
		if err != nil {
			return err
		}
	}
}

// text is all up to the end of the element, which holds no other.
func (r *xmlReader) text() (string, error) {
	var b []byte
	for {
		t, err := r.d.Token()
		if err != nil {
			return "", err
		}
		switch t := t.(type) {
		case xml.CharData:
			b = append(b, t...)
		case xml.StartElement:
			return "", fmt.Errorf("<%s> inside a property", t.Name.Local)
		case xml.EndElement:
			return string(b), nil
		}
	}
}
