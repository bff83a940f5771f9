package cli

import (
	"bytes"
	"io"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// yaml writes the sheet. Its rows are written by hand where all in them is plain, which is fifty times as fast as by the library and the
// same text; others by the library.
func (t *sheet) yaml(w io.Writer) error {
	y := yamlWriter{known: map[string]string{}}
	for _, r := range t.rows {
		b, plain := y.row(y.line[:0], r)
		if y.line = b; !plain {
			var err error
			if b, err = yamlRow(r); err != nil {
				return err
			}
		}
		if _, err := w.Write(b); err != nil {
			return err
		}
	}
	return nil
}

// yamlRow writes one row by the library.
func yamlRow(r sheetRow) ([]byte, error) {
	text := func(v string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: v} }
	m := &yaml.Node{Kind: yaml.MappingNode}
	for _, v := range r.values {
		value := text(v.Value)
		switch {
		case v.Value == "":
			continue
		case v.Value == masking:
			value.Value, value.Style = "", yaml.DoubleQuotedStyle
		case slices.Contains(listFields, v.Attr):
			value = &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
			for e := range strings.SplitSeq(v.Value, ",") {
				value.Content = append(value.Content, text(e))
			}
		}
		m.Content = append(m.Content, text(v.Attr), value)
	}
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(&yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{text(r.name), m}}); err != nil {
		return nil, err
	}
	err := e.Close()
	return b.Bytes(), err
}

type yamlWriter struct {
	line  []byte            // room for a row
	known map[string]string // what the library made of a text; "" when it takes more than a line
}

func (y *yamlWriter) row(b []byte, r sheetRow) (_ []byte, plain bool) {
	const longKey = 100 // the library writes keys of more than 128 bytes in another form
	if !yamlPlain(r.name) || len(r.name) > longKey {
		return b, false
	}
	b = append(append(b, r.name...), ':')
	empty := len(b)
	for _, v := range r.values {
		if v.Value == "" {
			continue
		}
		if !yamlPlain(v.Attr) || len(v.Attr) > longKey {
			return b, false
		}
		b = append(append(append(b, "\n  "...), v.Attr...), ": "...)
		switch {
		case v.Value == masking:
			b = append(b, masking...)
		case slices.Contains(listFields, v.Attr):
			b = append(b, '[')
			for e := range strings.SplitSeq(v.Value, ",") {
				if !yamlPlain(e) {
					return b, false
				}
				b = append(append(b, e...), ", "...)
			}
			b = append(b[:len(b)-2], ']')
		default:
			text := y.text(v.Value)
			if text == "" {
				return b, false
			}
			b = append(b, text...)
		}
	}
	if len(b) == empty {
		b = append(b, " {}"...)
	}
	return append(b, '\n'), true
}

// text is a value as the library writes it; "" when it takes more than a line.
func (y *yamlWriter) text(s string) string {
	const room = 1 << 12
	switch {
	case yamlPlain(s):
		return s
	case s[0] != '0' && len(s) < 18 && digits(s):
		return `"` + s + `"`
	}
	text, ok := y.known[s]
	if !ok {
		b, err := yaml.Marshal(&yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s})
		if text = strings.TrimSuffix(string(b), "\n"); err != nil || strings.Contains(text, "\n") {
			text = ""
		}
		if len(y.known) >= room {
			clear(y.known)
		}
		y.known[s] = text
	}
	return text
}

func digits(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < '0' || r > '9' })
}

// yamlPlain says that a text stands for itself, and for a string, wherever it stands. Of other texts it is not known.
func yamlPlain(s string) bool {
	if s == "" {
		return false
	}
	letters, dots := false, 0
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z':
			letters = true
		case c == '.':
			dots++
		case '0' <= c && c <= '9', c == '-' && i > 0:
		default:
			return false
		}
	}
	switch first := s[0]; {
	case '0' <= first && first <= '9': // 10.1.2.3 is no number, and nothing else that has digits and dots only
		return !letters && dots == 3 && s[len(s)-1] != '.' && !strings.ContainsAny(s, "-")
	case first == '.':
		return false
	}
	if len(s) <= 5 { // y, no, true, null …
		switch strings.ToLower(s) {
		case "y", "n", "yes", "no", "on", "off", "true", "false", "null":
			return false
		}
	}
	return true
}
