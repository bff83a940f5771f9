package syntax

import (
	"strconv"
	"unicode/utf8"

	"muster/internal/pan/java"
)

// Annotations is the XML that panc-annotations writes of a template: the types with their fields and defaults, the functions and the
// variables, with the annotations before them, the last one first. Check has to have been here.
func Annotations(f *File) []byte {
	w := noteWriter{b: []byte(`<?xml version="1.0" encoding="UTF-8"?>`)}
	w.open("template")
	w.attr("xmlns", "http://quattor.org/pan/annotations")
	w.attr("name", f.Name)
	w.attr("source-range", f.span.String())
	w.attr("type", f.Kind.String())
	w.notes(f.Annotations)
	for _, s := range f.Statements {
		switch s := s.(type) {
		case *Variable:
			w.named("variable", s.Name, s.span, s.Annotations)
			w.close("variable")
		case *Function:
			w.named("function", s.Name, s.span, s.Annotations)
			w.close("function")
		case *Type:
			w.named("type", s.Name, s.span, s.Annotations)
			w.fullType(s.Type)
			w.close("type")
		case *Bind:
			w.fullType(s.Type)
		}
	}
	w.close("template")
	return append(w.b, '\n')
}

// noteWriter writes elements as Java's indenting serializer does.
type noteWriter struct {
	b       []byte
	depth   int
	started bool // the last tag is still open
	text    bool // the last thing was text
}

func (w *noteWriter) line() {
	w.b = append(w.b, '\n')
	for range w.depth {
		w.b = append(w.b, "    "...)
	}
}

func (w *noteWriter) open(name string) {
	if w.started {
		w.b = append(w.b, '>')
	}
	if w.depth > 0 {
		w.line()
	}
	w.b = append(append(w.b, '<'), name...)
	w.depth++
	w.started, w.text = true, false
}

func (w *noteWriter) close(name string) {
	w.depth--
	if w.started {
		w.b = append(w.b, "/>"...)
	} else {
		if !w.text {
			w.line()
		}
		w.b = append(append(append(w.b, "</"...), name...), '>')
	}
	w.started, w.text = false, false
}

func (w *noteWriter) attr(name, value string) {
	w.b = append(append(append(w.b, ' '), name...), `="`...)
	w.escaped(value, true)
	w.b = append(w.b, '"')
}

// named opens an element for something with a name, a place and annotations.
func (w *noteWriter) named(element, name string, span Span, notes []*Annotation) {
	w.open(element)
	w.attr("name", name)
	w.attr("source-range", span.String())
	w.notes(notes)
}

func (w *noteWriter) notes(notes []*Annotation) {
	for i := len(notes) - 1; i >= 0; i-- {
		note := notes[i]
		if note.Name != "" {
			w.open(note.Name)
		}
		for _, entry := range note.Entries {
			w.open(entry.Key)
			if entry.Value != "" {
				w.b = append(w.b, '>')
				w.escaped(entry.Value, false)
				w.started, w.text = false, true
			}
			w.close(entry.Key)
		}
		if note.Name != "" {
			w.close(note.Name)
		}
	}
}

func (w *noteWriter) fullType(t *FullType) {
	base := &t.Type.Base
	w.open("basetype")
	if !base.Record {
		w.attr("name", base.Name)
	}
	w.attr("source-range", base.span.String())
	w.attr("extensible", strconv.FormatBool(base.Extensible))
	if base.Range != nil {
		w.attr("range", base.Range.String())
	}
	for _, field := range base.Fields {
		if field.Include != "" {
			w.named("include", field.Include, field.span, nil)
			w.close("include")
			continue
		}
		w.open("field")
		w.attr("name", field.Key)
		w.attr("source-range", field.span.String())
		w.attr("required", strconv.FormatBool(field.Required))
		w.notes(field.Annotations)
		w.fullType(field.Type)
		w.close("field")
	}
	w.close("basetype")
	if text, ok := literal(t.Default); ok {
		w.open("default")
		w.attr("source-range", t.Default.Span().String())
		w.attr("text", text)
		w.close("default")
	}
}

// literal is the text of a literal, as Java prints its value.
func literal(x Expr) (string, bool) {
	switch x := x.(type) {
	case *StringLit:
		return x.Value, true
	case *LongLit:
		return strconv.FormatInt(x.Value, 10), true
	case *DoubleLit:
		return string(java.AppendDouble(nil, x.Value)), true
	case *BoolLit:
		return strconv.FormatBool(x.Value), true
	}
	return "", false
}

// escaped writes text, or the value of an attribute: what Java writes by its number is not the same in both.
func (w *noteWriter) escaped(s string, attr bool) {
	b, start := w.b, 0
	for i := 0; i < len(s); {
		r, n := rune(s[i]), 1
		if r >= utf8.RuneSelf {
			r, n = utf8.DecodeRuneInString(s[i:])
		}
		replacement := ""
		switch {
		case r == '<':
			replacement = "&lt;"
		case r == '>':
			replacement = "&gt;"
		case r == '&':
			replacement = "&amp;"
		case r == '"' && attr:
			replacement = "&quot;"
		case r < ' ' && (attr || r != '\t' && r != '\n'), r >= 0x7f && r <= 0x9f && !attr, r > 0xffff:
			replacement = "&#" + strconv.Itoa(int(r)) + ";"
		}
		i += n
		if replacement != "" {
			b = append(append(b, s[start:i-n]...), replacement...)
			start = i
		}
	}
	w.b = append(b, s[start:]...)
}
