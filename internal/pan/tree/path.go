package tree

import (
	"cmp"
	"math"
	"strconv"
	"strings"
)

// Term is one step of a path: a key of a dict or an index of a list.
type Term struct {
	key   string // "" for an index
	index int32
}

// Index is the term of a list index, which has to fit 32 bits; NewIndex checks.
func Index(i int) Term { return Term{index: int32(i)} }

// NewIndex is the term of a list index; one beyond 32 bits is an Evaluation error.
func NewIndex(i int64) (Term, error) {
	switch {
	case i > math.MaxInt32:
		return Term{}, evaluationError("index (" + FormatNumber(i) + ") exceeds largest permitted value (2,147,483,647)")
	case i < math.MinInt32:
		return Term{}, evaluationError("index (" + FormatNumber(i) + ") below smallest permitted value (-2,147,483,648)")
	}
	return Term{index: int32(i)}, nil
}

// NewTerm reads a term as panc does: digits are an index, {text} is the key escape(text), anything else has to be a key. The error is
// of class Evaluation.
func NewTerm(s string) (Term, error) {
	if len(s) >= 2 && s[0] == '{' && s[len(s)-1] == '}' {
		var err error
		if s, err = Escape(s[1 : len(s)-1]); err != nil {
			return Term{}, err
		}
	}
	if s == "" {
		return Term{}, evaluationError("empty string cannot be used as a path term or nlist key")
	}
	digits := s
	if s[0] == '-' {
		digits = s[1:]
	}
	switch {
	case digits != "" && allDigits(digits):
		if len(digits) > 1 && digits[0] == '0' {
			return Term{}, evaluationError("index cannot start with leading zero(s): '" + s + "'")
		}
		i, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return Term{}, evaluationError("path term or nlist key cannot start with a digit: '" + s + "'")
		}
		return NewIndex(i)
	case isKey(s):
		return Term{key: s}, nil
	}
	return Term{}, evaluationError("invalid path term or nlist key: '" + s + "'")
}

// TermOf is the term that a value is when it stands in a subscript: a string is read as by NewTerm, a long is an index.
func TermOf(v Value) (Term, error) {
	switch v := v.(type) {
	case String:
		return NewTerm(string(v))
	case Long:
		return NewIndex(int64(v))
	}
	return Term{}, evaluationError("element of type " + v.Type() + " is not a valid index")
}

func allDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

func isWord(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_'
}

func isKey(s string) bool {
	if !isWord(s[0]) {
		return false
	}
	for i := 1; i < len(s); i++ {
		if c := s[i]; !isWord(c) && c != '+' && c != '-' && c != '.' {
			return false
		}
	}
	return true
}

// IsKey says whether t is a key, else it is an index.
func (t Term) IsKey() bool { return t.key != "" }

// Key is the key; "" for an index.
func (t Term) Key() string { return t.key }

// Index is the index; 0 for a key.
func (t Term) Index() int { return int(t.index) }

// Value is the term as a String or a Long.
func (t Term) Value() Value {
	if t.IsKey() {
		return String(t.key)
	}
	return Long(t.index)
}

func (t Term) String() string {
	if t.IsKey() {
		return t.key
	}
	return strconv.Itoa(int(t.index))
}

// Compare orders indices before keys, indices by number, keys as Java does.
func (t Term) Compare(o Term) int {
	if t.IsKey() != o.IsKey() {
		if t.IsKey() {
			return 1
		}
		return -1
	}
	if t.IsKey() {
		return strings.Compare(t.key, o.key)
	}
	return cmp.Compare(t.index, o.index)
}

// PathKind says where a path starts.
type PathKind uint8

const (
	// Relative starts at a structure template's root or a prefix: a/b.
	Relative PathKind = iota
	// Absolute starts at the profile's root: /a/b.
	Absolute
	// External starts at another profile's root: host:/a/b.
	External
)

// Path is a place in a profile. It is not changed once made.
type Path struct {
	Kind      PathKind
	Authority string // the object template of an External path
	Terms     []Term
}

// ParsePath reads a path: /a/b, a/b, or object:/a/b (the slash may be missing); {text} stands for escape(text), empty terms at the end are
// dropped. Errors are panc's, of class Syntax, for the terms of class Evaluation.
func ParsePath(s string) (Path, error) { return parsePath(s, false) }

// ParseTerms reads a relative path that may start with an index, as it stands in a list's subscript.
func ParseTerms(s string) (Path, error) { return parsePath(s, true) }

func parsePath(s string, indexFirst bool) (Path, error) {
	s, err := escapeBraces(s)
	if err != nil {
		return Path{}, err
	}
	var p Path
	if authority, rest, ok := strings.Cut(s, ":"); ok {
		if strings.ContainsAny(rest, "\n\r\u0085\u2028\u2029") { // what Java's "." does not match
			return Path{}, &Error{Compiler, "internal compiler error; file bug report"}
		}
		if !ValidTemplateName(authority) {
			return Path{}, &Error{Syntax, "invalid authority (" + authority + ") in path"}
		}
		p.Kind, p.Authority = External, authority
		s = strings.TrimPrefix(rest, "/")
	} else if s, ok = strings.CutPrefix(s, "/"); ok {
		p.Kind = Absolute
	}
	for s != "" && s[len(s)-1] == '/' {
		s = s[:len(s)-1]
	}
	if s != "" {
		p.Terms = make([]Term, 0, 1+strings.Count(s, "/"))
		for more := true; more; {
			var term string
			term, s, more = strings.Cut(s, "/")
			t, err := NewTerm(term)
			if err != nil {
				return Path{}, err
			}
			p.Terms = append(p.Terms, t)
		}
	}
	if p.Kind == Relative && len(p.Terms) == 0 {
		return Path{}, &Error{Syntax, "relative path must have at least one term"}
	}
	if len(p.Terms) > 0 && !p.Terms[0].IsKey() && (p.Kind != Relative || !indexFirst) {
		return Path{}, &Error{Syntax, "first term in path must be a key, not an index"}
	}
	return p, nil
}

// escapeBraces puts escape(text) for each {text}.
func escapeBraces(s string) (string, error) {
	if strings.IndexByte(s, '{') < 0 && strings.IndexByte(s, '}') < 0 {
		return s, nil
	}
	var b strings.Builder
	for rest := s; rest != ""; {
		i := strings.IndexAny(rest, "{}")
		if i < 0 {
			b.WriteString(rest)
			break
		}
		end := strings.IndexAny(rest[i+1:], "{}")
		if rest[i] == '}' || end < 0 || rest[i+1+end] == '{' {
			return "", &Error{Syntax, "path '" + s + "' contains mismatched or nested braces"}
		}
		b.WriteString(rest[:i])
		escaped, err := Escape(rest[i+1 : i+1+end])
		if err != nil {
			return "", err
		}
		b.WriteString(escaped)
		rest = rest[i+end+2:]
	}
	return b.String(), nil
}

// ValidTemplateName says whether s can be the name of a template: [\w./+-]+, no term empty (but at the end) or starting with a dot.
func ValidTemplateName(s string) bool {
	if s == "" {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !isWord(c) && c != '.' && c != '/' && c != '+' && c != '-' {
			return false
		}
	}
	for more := true; more; {
		var term string
		s = strings.TrimRight(s, "/")
		term, s, more = strings.Cut(s, "/")
		if more && term == "" || strings.HasPrefix(term, ".") {
			return false
		}
	}
	return true
}

// Join is p with the terms of a relative path added; p must not be external (class Syntax).
func (p Path) Join(terms []Term) (Path, error) {
	if p.Kind == External {
		return Path{}, &Error{Syntax, "cannot construct relative path from external path"}
	}
	all := make([]Term, 0, len(p.Terms)+len(terms))
	return Path{Kind: p.Kind, Terms: append(append(all, p.Terms...), terms...)}, nil
}

// Parent is the path without its last term; the root's is the root.
func (p Path) Parent() Path {
	p.Terms = p.Terms[:max(len(p.Terms)-1, 0)]
	return p
}

func (p Path) String() string {
	var b []byte
	switch p.Kind {
	case External:
		b = append(append(b, p.Authority...), ":/"...)
	case Absolute:
		b = append(b, '/')
	}
	for i, t := range p.Terms {
		if i > 0 {
			b = append(b, '/')
		}
		if t.IsKey() {
			b = append(b, t.key...)
		} else {
			b = strconv.AppendInt(b, int64(t.index), 10)
		}
	}
	return string(b)
}

// Compare is panc's order, in which it sets defaults and validates: relative paths, absolute ones, external ones; of each longer before
// shorter, then term by term. It does not look at the authority.
func (p Path) Compare(o Path) int {
	if p.Kind != o.Kind {
		return cmp.Compare(p.Kind, o.Kind)
	}
	if c := cmp.Compare(len(o.Terms), len(p.Terms)); c != 0 {
		return c
	}
	for i, t := range p.Terms {
		if c := t.Compare(o.Terms[i]); c != 0 {
			return c
		}
	}
	return 0
}

// Equal says whether both are the same place.
func (p Path) Equal(o Path) bool { return p.Authority == o.Authority && p.Compare(o) == 0 }
