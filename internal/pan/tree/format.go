package tree

import (
	"encoding/base64"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"muster/internal/pan/java"
)

// Format is one of the forms in which panc writes a profile.
type Format struct {
	Key    string // as --formats has it: json, pan.gz
	Suffix string // of the file, without the object's name and the dot: json, xml.gz
	// Gzip says that the file is compressed; Write does not do that.
	Gzip  bool
	write func(e *encoder, root *Dict)
}

// formats are all that --formats knows, but for none, which stands for no file at all.
var formats = []Format{
	{"pan", "xml", false, (*encoder).xml},
	{"pan.gz", "xml.gz", true, (*encoder).xml},
	{"xml", "xml", false, (*encoder).xml},
	{"xml.gz", "xml.gz", true, (*encoder).xml},
	{"json", "json", false, (*encoder).json},
	{"json.gz", "json.gz", true, (*encoder).json},
	{"text", "txt", false, (*encoder).text},
	{"dot", "dot", false, (*encoder).dot},
	{"dep", "dep", false, nil},
	{"dep.gz", "dep.gz", true, nil},
	{"null", "null", false, func(*encoder, *Dict) {}},
}

// FormatOf is the format that --formats calls key.
func FormatOf(key string) (Format, bool) {
	for _, f := range formats {
		if f.Key == key {
			return f, true
		}
	}
	return Format{}, false
}

// FormatKeys are the keys of all formats, for a message that says which there are.
func FormatKeys() []string {
	keys := make([]string, len(formats))
	for i, f := range formats {
		keys[i] = f.Key
	}
	return keys
}

// Append adds the profile to b, as Write writes it; for who has a buffer already.
func (f Format) Append(b []byte, root *Dict) ([]byte, error) {
	e := encoder{b: b}
	f.write(&e, root)
	return e.b, e.err
}

// IsDeps says whether the format is one of dependencies, which WriteDeps writes, not Write.
func (f Format) IsDeps() bool { return f.write == nil }

// Write writes the profile whose root is this, which must hold neither undef nor null, byte for byte as panc does (which gives '?' for
// half a surrogate pair). It allocates one buffer.
func (f Format) Write(w io.Writer, root *Dict) error {
	e := &encoder{w: w, b: make([]byte, 0, bufferSize+bufferSize/4)}
	f.write(e, root)
	e.flush()
	return e.err
}

const bufferSize = 32 << 10

// encoder collects bytes and hands them on when a buffer is full.
type encoder struct {
	w      io.Writer // nil: all stays in b
	b      []byte
	path   []byte // dot: where it is
	depth  int
	halves bool // json: half a surrogate pair stays, for a string rather than a file
	flat   bool // json: all on one line, and doubles that are no number in quotes
	err    error
}

func (e *encoder) flush() {
	if e.err == nil && e.w != nil {
		_, e.err = e.w.Write(e.b)
		e.b = e.b[:0]
	}
}

// full is called between elements.
func (e *encoder) full() {
	if len(e.b) >= bufferSize {
		e.flush()
	}
}

// deeper goes one level down; false at a depth at which the tree can only be circular.
func (e *encoder) deeper() bool {
	if e.depth++; e.depth > maxDepth && e.err == nil {
		e.err = errCircular
	}
	return e.err == nil
}

const spaces = "                                                                "

// indent adds n spaces.
func (e *encoder) indent(n int) {
	for ; n > len(spaces); n -= len(spaces) {
		e.b = append(e.b, spaces...)
	}
	e.b = append(e.b, spaces[:n]...)
}

// appendProperty adds a boolean or number as Java prints it.
func appendProperty(b []byte, v Value) []byte {
	switch v := v.(type) {
	case Boolean:
		return strconv.AppendBool(b, bool(v))
	case Long:
		return strconv.AppendInt(b, int64(v), 10)
	case Double:
		return java.AppendDouble(b, float64(v))
	case String:
		return append(b, java.Output(string(v))...)
	}
	return append(b, v.Type()...)
}

// json: Gson, pretty and HTML-safe.

func (e *encoder) json(root *Dict) { e.jsonValue(root) }

func (e *encoder) jsonValue(v Value) {
	switch v := v.(type) {
	case String:
		e.jsonString(string(v))
	case *Dict:
		if v.Len() == 0 {
			e.b = append(e.b, "{}"...)
			return
		}
		if !e.deeper() {
			return
		}
		e.b = append(e.b, '{')
		for i, c := range v.s.entries {
			e.jsonNext(i)
			e.b = append(append(append(e.b, '"'), c.key...), `": `...)
			e.jsonValue(c.value)
		}
		e.jsonEnd('}')
	case *List:
		if v.Len() == 0 {
			e.b = append(e.b, "[]"...)
			return
		}
		if !e.deeper() {
			return
		}
		e.b = append(e.b, '[')
		for i, child := range v.s.items {
			e.jsonNext(i)
			e.jsonValue(child)
		}
		e.jsonEnd(']')
	case Undef:
		if e.err == nil {
			e.err = evaluationError("undef cannot be converted to JSON")
		}
	case Double:
		if d := float64(v); e.flat && (math.IsNaN(d) || math.IsInf(d, 0)) {
			e.b = append(java.AppendDouble(append(e.b, '"'), d), '"')
			return
		}
		e.b = java.AppendDouble(e.b, float64(v))
	default:
		e.b = appendProperty(e.b, v)
	}
}

// jsonNext goes to the i-th child.
func (e *encoder) jsonNext(i int) {
	if i > 0 {
		e.b = append(e.b, ',')
	}
	e.jsonLine(i > 0)
}

func (e *encoder) jsonLine(space bool) {
	switch {
	case !e.flat:
		e.b = append(e.b, '\n')
		e.indent(2 * e.depth)
	case space:
		e.b = append(e.b, ' ')
	}
}

func (e *encoder) jsonEnd(bracket byte) {
	e.depth--
	e.jsonLine(false)
	e.b = append(e.b, bracket)
	e.full()
}

// plainJSON are the bytes that stand for themselves in a string; not those that may start U+2028, U+2029 or half a surrogate pair.
var plainJSON = func() (plain [256]bool) {
	for c := range plain {
		plain[c] = c >= 0x20 && !strings.ContainsRune(`"\<>&='`, rune(c)) && c != 0xE2 && c != 0xED
	}
	return plain
}()

func (e *encoder) jsonString(s string) {
	b, start := append(e.b, '"'), 0
	for i := 0; i < len(s); {
		c := s[i]
		if plainJSON[c] {
			i++
			continue
		}
		n := 1
		replacement := ""
		switch c {
		case '"':
			replacement = `\"`
		case '\\':
			replacement = `\\`
		case '\t':
			replacement = `\t`
		case '\b':
			replacement = `\b`
		case '\n':
			replacement = `\n`
		case '\r':
			replacement = `\r`
		case '\f':
			replacement = `\f`
		case 0xE2:
			if strings.HasPrefix(s[i:], "\u2028") {
				n, replacement = 3, `\u2028`
			} else if strings.HasPrefix(s[i:], "\u2029") {
				n, replacement = 3, `\u2029`
			}
		case 0xED:
			if i+2 < len(s) && s[i+1] >= 0xA0 && !e.halves {
				n, replacement = 3, "?"
			}
		default:
			b = append(append(b, s[start:i]...), '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			i++
			start = i
			continue
		}
		if replacement != "" {
			b = append(append(b, s[start:i]...), replacement...)
			start = i + n
		}
		i += n
	}
	e.b = append(append(b, s[start:]...), '"')
}

// xml: the JDK's serializer, indent 4.

func (e *encoder) xml(root *Dict) {
	e.b = append(e.b, `<?xml version="1.0" encoding="UTF-8"?><nlist format="pan" name="profile"`...)
	e.xmlContent(root, "nlist")
	e.b = append(e.b, '\n')
}

// xmlElement is a child on its own line; a list's children have no name.
func (e *encoder) xmlElement(v Value, name string) {
	tag := v.Type()
	e.b = append(e.b, '\n')
	e.indent(4 * e.depth)
	e.b = append(append(e.b, '<'), tag...)
	if name != "" {
		e.b = append(append(append(e.b, ` name="`...), name...), '"')
	}
	e.xmlContent(v, tag)
}

// xmlContent is all of an element after its tag and name.
func (e *encoder) xmlContent(v Value, tag string) {
	switch v := v.(type) {
	case *Dict:
		if v.Len() == 0 {
			e.b = append(e.b, "/>"...)
			return
		}
		e.b = append(e.b, '>')
		if !e.deeper() {
			return
		}
		for _, c := range v.s.entries {
			e.xmlElement(c.value, c.key)
		}
		e.xmlEnd()
	case *List:
		if v.Len() == 0 {
			e.b = append(e.b, "/>"...)
			return
		}
		e.b = append(e.b, '>')
		if !e.deeper() {
			return
		}
		for _, child := range v.s.items {
			e.xmlElement(child, "")
		}
		e.xmlEnd()
	case String:
		switch {
		case v == "":
			e.b = append(e.b, "/>"...)
			return
		case isPlain(&plainXML, string(v)):
			e.b = append(append(e.b, '>'), v...)
		case validXML(string(v)):
			e.xmlText(string(v))
		default:
			e.b = append(e.b, ` encoding="base64">`...)
			e.b = AppendBase64(e.b, string(v))
		}
	default:
		e.b = appendProperty(append(e.b, '>'), v)
	}
	e.b = append(append(append(e.b, '<', '/'), tag...), '>')
}

func (e *encoder) xmlEnd() {
	e.depth--
	e.b = append(e.b, '\n')
	e.indent(4 * e.depth)
	e.full()
}

// plainXML are the bytes that XML takes as they are; a string of others needs a closer look.
var plainXML = func() (plain [256]bool) {
	for c := range plain {
		plain[c] = c >= 0x20 && c < 0x7F && c != '<' && c != '>' && c != '&' || c == '\t' || c == '\n'
	}
	return plain
}()

func isPlain(plain *[256]bool, s string) bool {
	for i := range len(s) {
		if !plain[s[i]] {
			return false
		}
	}
	return true
}

// validXML says whether XML 1.0 (section 2.2, Char) can hold s at all.
func validXML(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c < 0x20:
			if c != '\t' && c != '\n' && c != '\r' {
				return false
			}
		case c == 0xED:
			if i+1 < len(s) && s[i+1] >= 0xA0 { // half a surrogate pair
				return false
			}
		case c == 0xEF:
			if i+2 < len(s) && s[i+1] == 0xBF && s[i+2] >= 0xBE { // U+FFFE, U+FFFF
				return false
			}
		}
	}
	return true
}

// xmlText adds s with everything escaped that the serializer escapes: markup, CR, U+007F to U+009F and all beyond U+FFFF.
func (e *encoder) xmlText(s string) {
	b, start := append(e.b, '>'), 0
	for i := 0; i < len(s); {
		c := s[i]
		n := 1
		replacement := ""
		switch {
		case c == '<':
			replacement = "&lt;"
		case c == '>':
			replacement = "&gt;"
		case c == '&':
			replacement = "&amp;"
		case c == '\r', c == 0x7F, c == 0xC2 && s[i+1] < 0xA0, c >= 0xF0:
			var r rune
			r, n = utf8.DecodeRuneInString(s[i:])
			b = append(append(b, s[start:i]...), '&', '#')
			b = append(strconv.AppendInt(b, int64(r), 10), ';')
			i += n
			start = i
			continue
		default:
			i++
			continue
		}
		b = append(append(b, s[start:i]...), replacement...)
		i += n
		start = i
	}
	e.b = append(b, s[start:]...)
}

// AppendBase64 adds s as base64_encode() and the XML format have it: in lines of 76 characters; each full line ends with a newline, also
// the last.
func AppendBase64(b []byte, s string) []byte {
	text := []byte(java.Output(s))
	const line = 57 // bytes that make 76 characters
	for len(text) >= line {
		b = base64.StdEncoding.AppendEncode(b, text[:line])
		b = append(b, '\n')
		text = text[line:]
	}
	return base64.StdEncoding.AppendEncode(b, text)
}

// text: one line per element.

func (e *encoder) text(root *Dict) { e.textValue(root, "profile") }

func (e *encoder) textValue(v Value, name string) {
	e.indent(2 * e.depth)
	switch v := v.(type) {
	case *Dict:
		e.b = append(append(append(e.b, '+', '-'), name...), '\n')
		if !e.deeper() {
			return
		}
		for _, c := range v.s.entries {
			e.textValue(c.value, c.key)
		}
		e.depth--
	case *List:
		e.b = append(append(append(e.b, '+', '-'), name...), '\n')
		if !e.deeper() {
			return
		}
		for i, child := range v.s.items {
			e.textValue(child, strconv.Itoa(i))
		}
		e.depth--
	default:
		e.b = append(append(append(e.b, '$', ' '), name...), " : ("...)
		e.b = append(append(e.b, v.Type()...), ") '"...)
		e.b = append(appendProperty(e.b, v), '\'', '\n')
		e.full()
	}
}

// dot: a digraph for Graphviz.

func (e *encoder) dot(root *Dict) {
	e.b = append(e.b, "digraph \"profile\" {\nbgcolor = beige\nnode [ color = black, shape = box, fontname=Helvetica ]\nedge [ color = black ]\n"+
		"\"/profile\" [ label = \"profile\"]\n"...)
	e.path = append(e.path, "/profile"...)
	e.dotChildren(root)
	e.b = append(e.b, "}\n"...)
}

func (e *encoder) dotChildren(v Value) {
	if !e.deeper() {
		return
	}
	switch v := v.(type) {
	case *Dict:
		for _, c := range v.s.entries {
			e.dotNode(c.value, c.key)
		}
	case *List:
		for i, child := range v.s.items {
			e.dotNode(child, strconv.Itoa(i))
		}
	}
	e.depth--
}

func (e *encoder) dotNode(v Value, name string) {
	parent := len(e.path)
	e.path = append(append(e.path, '/'), name...)
	e.b = append(append(append(e.b, '"'), e.path...), `" [ label = "`...)
	e.b = append(e.b, name...)
	if IsProperty(v) {
		e.b = append(e.b, '\\', 'n')
		e.dotLabel(v)
	}
	e.b = append(append(append(e.b, `" ]`+"\n"+`"`...), e.path[:parent]...), `" -> "`...)
	e.b = append(append(e.b, e.path...), '"', '\n')
	e.full()
	e.dotChildren(v)
	e.path = e.path[:parent]
}

// dotLabel adds a value, line ends as one space, of strings with quotes; cut to 12 UTF-16 units (the first quote is one) and "..." if
// longer than 15.
func (e *encoder) dotLabel(v Value) {
	s, isString := v.(String)
	text, quote := "", ""
	if isString {
		text, quote = "'"+joinLines(string(s)), "'"
	} else {
		var number [32]byte
		text = string(appendProperty(number[:0], v))
	}
	if java.Length(text) > 15 {
		text = java.Substring(text, 0, 12) + "..."
	}
	e.b = append(append(e.b, java.Output(text)...), quote...)
}

// joinLines makes one space of each run of line ends.
func joinLines(s string) string {
	if !strings.ContainsAny(s, "\r\n") {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := range len(s) {
		switch c := s[i]; {
		case c != '\r' && c != '\n':
			b = append(b, c)
		case i == 0 || s[i-1] != '\r' && s[i-1] != '\n':
			b = append(b, ' ')
		}
	}
	return string(b)
}
