package tree

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"muster/internal/pan/java"
)

// AppendJSON adds v as json_encode() gives it: as in the json format, null in lists kept, in dicts left out; half a surrogate pair
// stays. An undef is an Evaluation error.
func AppendJSON(b []byte, v Value) ([]byte, error) {
	e := encoder{b: b, halves: true}
	e.jsonValue(v)
	return e.b, e.err
}

// DecodeJSON reads what json_decode() reads, which is what Gson 2.10 reads when lenient: comments, single quotes, missing quotes, ';' for
// ',', '=' or '=>' for ':', null for a value that is missing in a list. A number with a point is a double, else a long; null deletes a
// key. Nothing but white space and comments gives Null.
//
// Errors are panc's, of class Evaluation, or NumberFormat for a number that is no long (1e5) or \u without four digits.
func DecodeJSON(s string) (Value, error) {
	return decodeJSON(jsonReader{s: s})
}

func decodeJSON(r jsonReader) (Value, error) {
	s := r.s
	r.scopes = make([]jsonScope, 1, 16)
	if strings.HasPrefix(s, "\uFEFF") {
		r.pos, r.lineStart = 3, 3
	}
	var v Value
	_, err := r.peek()
	if err == errEOF {
		return Null{}, nil
	}
	if err == nil {
		v, err = r.read()
	}
	if err == nil {
		err = r.end()
	}
	switch {
	case err == nil:
		return v, nil
	case err == errEOF:
		return nil, evaluationError("invalid JSON value " + s + ": java.io.EOFException: End of input" + r.where())
	}
	if e, ok := err.(jsonError); ok {
		return nil, evaluationError("invalid JSON value " + s + ": com.google.gson.stream.MalformedJsonException: " + string(e))
	}
	return nil, err
}

// jsonError is a MalformedJsonException's message.
type jsonError string

func (e jsonError) Error() string { return string(e) }

const errEOF = jsonError("end of input")

// scopeKind is what the reader is in, and jsonToken what comes next, both as in com.google.gson.stream.JsonReader.
type (
	scopeKind uint8
	jsonToken uint8
)

const (
	emptyDocument scopeKind = iota
	document
	emptyArray
	array
	emptyObject
	danglingName
	object
)

const (
	noToken jsonToken = iota
	beginObject
	endObject
	beginArray
	endArray
	trueToken
	falseToken
	nullToken
	singleQuoted
	doubleQuoted
	unquoted
	number
)

type jsonScope struct {
	kind  scopeKind
	name  string // of an object: the last one read
	index int    // of an array: how many values were read
}

type jsonReader struct {
	s         string
	profile   bool // words without quotes are doubles, not strings
	pos       int
	line      int
	lineStart int
	next      jsonToken
	number    int // length of the number that comes
	scopes    []jsonScope
}

func (r *jsonReader) top() *jsonScope { return &r.scopes[len(r.scopes)-1] }

// where is the place as Gson's messages end.
func (r *jsonReader) where() string {
	path := "$"
	for _, s := range r.scopes {
		switch s.kind {
		case emptyArray, array:
			path += "[" + strconv.Itoa(s.index) + "]"
		case emptyObject, danglingName, object:
			path += "." + s.name
		}
	}
	return " at line " + strconv.Itoa(r.line+1) + " column " + strconv.Itoa(java.Length(r.s[r.lineStart:r.pos])+1) + " path " + path
}

func (r *jsonReader) path() string {
	_, path, _ := strings.Cut(r.where(), " path ")
	return path
}

func (r *jsonReader) malformed(what string) error { return jsonError(what + r.where()) }

func (r *jsonReader) read() (Value, error) {
	token, err := r.peek()
	if err != nil {
		return nil, err
	}
	r.next = noToken
	switch token {
	case beginArray:
		return r.array()
	case beginObject:
		return r.object()
	}
	v, err := r.property(token)
	if err == nil {
		r.top().index++
	}
	return v, err
}

func (r *jsonReader) property(token jsonToken) (Value, error) {
	switch token {
	case trueToken, falseToken:
		return Boolean(token == trueToken), nil
	case nullToken:
		return Null{}, nil
	case number:
		s := r.s[r.pos : r.pos+r.number]
		r.pos += r.number
		return jsonNumber(s)
	}
	s, err := r.string(token)
	if r.profile && token == unquoted {
		return r.word(s)
	}
	return String(s), err
}

// word is what a profile has without quotes: a double that is no number.
func (r *jsonReader) word(s string) (Value, error) {
	switch s {
	case "NaN", "Infinity", "-Infinity":
		d, err := strconv.ParseFloat(s, 64)
		return Double(d), err
	}
	return nil, r.malformed("Expected value")
}

func jsonNumber(s string) (Value, error) {
	if strings.Contains(s, ".") {
		d, _ := strconv.ParseFloat(s, 64) // out of range is infinite, as in Java
		return Double(d), nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return nil, &Error{NumberFormat, noLong(s)}
	}
	return Long(n), nil
}

// noLong is what Long.decode says of a decimal number that is none or too large.
func noLong(s string) string {
	digits := strings.TrimPrefix(s, "-")
	if octal := strings.TrimPrefix(digits, "0"); octal != digits {
		return `For input string: "` + s[:len(s)-len(digits)] + octal + `" under radix 8`
	}
	return `For input string: "` + s + `"`
}

func (r *jsonReader) push(k scopeKind) error {
	if len(r.scopes) > maxDepth {
		return errCircular
	}
	r.scopes = append(r.scopes, jsonScope{kind: k})
	return nil
}

func (r *jsonReader) pop() {
	r.scopes = r.scopes[:len(r.scopes)-1]
	r.top().index++
	r.next = noToken
}

func (r *jsonReader) array() (Value, error) {
	if err := r.push(emptyArray); err != nil {
		return nil, err
	}
	l := NewList(0)
	for {
		token, err := r.peek()
		if err != nil {
			return nil, err
		}
		if token == endArray {
			r.pop()
			return l, nil
		}
		v, err := r.read()
		if err != nil {
			return nil, err
		}
		l.s.items = append(l.s.items, v)
	}
}

func (r *jsonReader) object() (Value, error) {
	if err := r.push(emptyObject); err != nil {
		return nil, err
	}
	d := NewDict(0)
	for {
		token, err := r.peek()
		if err != nil {
			return nil, err
		}
		if token == endObject {
			r.pop()
			return d, nil
		}
		r.next = noToken
		name, err := r.string(token)
		if err != nil {
			return nil, err
		}
		r.top().name = name
		key, err := NewTerm(name)
		if err != nil {
			return nil, err
		}
		v, err := r.read()
		if err != nil {
			return nil, err
		}
		if !key.IsKey() {
			return nil, evaluationError("JSON path '" + r.path() + "' is not a valid PAN path")
		}
		if err := d.Set(key.key, v); err != nil {
			return nil, err
		}
	}
}

// end checks that nothing follows; here Gson is not lenient.
func (r *jsonReader) end() error {
	for ; r.pos < len(r.s); r.pos++ {
		switch r.s[r.pos] {
		case '\n':
			r.line++
			r.lineStart = r.pos + 1
		case ' ', '\t', '\r':
		default:
			column := java.Length(r.s[r.lineStart:r.pos]) + 2 // behind the character
			return jsonError("Use JsonReader.setLenient(true) to accept malformed JSON at line " + strconv.Itoa(r.line+1) +
				" column " + strconv.Itoa(column) + " path $")
		}
	}
	return nil
}

// peek is what comes next; of a keyword or bracket it is consumed, of the rest the text is still to be read.
func (r *jsonReader) peek() (jsonToken, error) {
	if r.next != noToken {
		return r.next, nil
	}
	t, err := r.doPeek()
	r.next = t
	return t, err
}

func (r *jsonReader) doPeek() (jsonToken, error) {
	top := r.top()
	scope := top.kind
	switch scope {
	case emptyArray:
		top.kind = array
	case array:
		c, err := r.nonSpace()
		switch {
		case err != nil:
			return noToken, err
		case c == ']':
			return endArray, nil
		case c != ',' && c != ';':
			return noToken, r.malformed("Unterminated array")
		}
	case emptyObject, object:
		return r.peekName(scope)
	case danglingName:
		top.kind = object
		c, err := r.nonSpace()
		switch {
		case err != nil:
			return noToken, err
		case c == '=':
			if r.pos < len(r.s) && r.s[r.pos] == '>' {
				r.pos++
			}
		case c != ':':
			return noToken, r.malformed("Expected ':'")
		}
	case emptyDocument:
		if _, err := r.nonSpace(); err != nil {
			return noToken, err
		}
		r.back()
		if strings.HasPrefix(r.s[r.pos:], ")]}'\n") {
			r.pos += 5
		}
		top.kind = document
	}
	return r.peekValue(scope)
}

func (r *jsonReader) peekName(scope scopeKind) (jsonToken, error) {
	r.top().kind = danglingName
	if scope == object {
		c, err := r.nonSpace()
		switch {
		case err != nil:
			return noToken, err
		case c == '}':
			return endObject, nil
		case c != ',' && c != ';':
			return noToken, r.malformed("Unterminated object")
		}
	}
	c, err := r.nonSpace()
	switch {
	case err != nil:
		return noToken, err
	case c == '"':
		return doubleQuoted, nil
	case c == '\'':
		return singleQuoted, nil
	case c == '}' && scope != object:
		return endObject, nil
	case c == '}':
		return noToken, r.malformed("Expected name")
	}
	r.back()
	if !isLiteral(c) {
		return noToken, r.malformed("Expected name")
	}
	return unquoted, nil
}

func (r *jsonReader) peekValue(scope scopeKind) (jsonToken, error) {
	c, err := r.nonSpace()
	if err != nil {
		return noToken, err
	}
	switch c {
	case ']', ';', ',':
		if c == ']' && scope == emptyArray {
			return endArray, nil
		}
		if scope != emptyArray && scope != array {
			return noToken, r.malformed("Unexpected value")
		}
		r.back()
		return nullToken, nil
	case '\'':
		return singleQuoted, nil
	case '"':
		return doubleQuoted, nil
	case '[':
		return beginArray, nil
	case '{':
		return beginObject, nil
	}
	r.back()
	if t := r.peekKeyword(); t != noToken {
		return t, nil
	}
	if r.number = jsonNumberLen(r.s[r.pos:]); r.number > 0 {
		return number, nil
	}
	if !isLiteral(c) {
		return noToken, r.malformed("Expected value")
	}
	return unquoted, nil
}

// nonSpace takes the next byte that is neither white space nor in a comment.
func (r *jsonReader) nonSpace() (byte, error) {
	for r.pos < len(r.s) {
		c := r.s[r.pos]
		r.pos++
		switch c {
		case '\n':
			r.line++
			r.lineStart = r.pos
		case ' ', '\r', '\t':
		case '#':
			r.skipLine()
		case '/':
			switch {
			case strings.HasPrefix(r.s[r.pos:], "*"):
				r.pos++
				if err := r.skipComment(); err != nil {
					return 0, err
				}
			case strings.HasPrefix(r.s[r.pos:], "/"):
				r.skipLine()
			default:
				return c, nil
			}
		default:
			if c >= 0x80 { // the whole character, for the column
				_, n := utf8.DecodeRuneInString(r.s[r.pos-1:])
				r.pos += n - 1
			}
			return c, nil
		}
	}
	return 0, errEOF
}

// back gives back what nonSpace took.
func (r *jsonReader) back() {
	_, n := utf8.DecodeLastRuneInString(r.s[:r.pos])
	r.pos -= n
}

func (r *jsonReader) skipLine() {
	for r.pos < len(r.s) {
		c := r.s[r.pos]
		r.pos++
		if c == '\n' {
			r.line++
			r.lineStart = r.pos
		}
		if c == '\n' || c == '\r' {
			return
		}
	}
}

func (r *jsonReader) skipComment() error {
	for ; r.pos+2 <= len(r.s); r.pos++ {
		if r.s[r.pos] == '\n' {
			r.line++
			r.lineStart = r.pos + 1
		}
		if r.s[r.pos] == '*' && r.s[r.pos+1] == '/' {
			r.pos += 2
			return nil
		}
	}
	return r.malformed("Unterminated comment")
}

// isLiteral says whether c may stand in a word without quotes.
func isLiteral(c byte) bool { return strings.IndexByte("/\\;#={}[]:, \t\f\r\n", c) < 0 }

func (r *jsonReader) peekKeyword() jsonToken {
	for _, k := range [...]struct {
		word  string
		token jsonToken
	}{{"true", trueToken}, {"false", falseToken}, {"null", nullToken}} {
		n := len(k.word)
		rest := r.s[r.pos:]
		if len(rest) < n || !strings.EqualFold(rest[:n], k.word) {
			continue
		}
		if len(rest) > n && isLiteral(rest[n]) {
			return noToken
		}
		r.pos += n
		return k.token
	}
	return noToken
}

// jsonNumberLen is the length of the number at the start of s, 0 if there is none: then it is a word, as are 010, 1., +1 and numbers that do
// not fit Gson's buffer of 1,024.
func jsonNumberLen(s string) int {
	i := 0
	digits := func() int {
		from := i
		for i < len(s) && s[i] >= '0' && s[i] <= '9' {
			i++
		}
		return i - from
	}
	if i < len(s) && s[i] == '-' {
		i++
	}
	first := i
	if n := digits(); n == 0 || n > 1 && s[first] == '0' {
		return 0
	}
	if i < len(s) && s[i] == '.' {
		i++
		if digits() == 0 {
			return 0
		}
	}
	if i < len(s) && (s[i] == 'e' || s[i] == 'E') {
		i++
		if i < len(s) && (s[i] == '+' || s[i] == '-') {
			i++
		}
		if digits() == 0 {
			return 0
		}
	}
	if i >= 1024 || i < len(s) && isLiteral(s[i]) {
		return 0
	}
	return i
}

func (r *jsonReader) string(token jsonToken) (string, error) {
	switch token {
	case singleQuoted:
		return r.quoted('\'')
	case doubleQuoted:
		return r.quoted('"')
	}
	start := r.pos
	for r.pos < len(r.s) && isLiteral(r.s[r.pos]) {
		r.pos++
	}
	return r.s[start:r.pos], nil
}

func (r *jsonReader) quoted(quote byte) (string, error) {
	var b []byte
	start := r.pos
	for r.pos < len(r.s) {
		c := r.s[r.pos]
		r.pos++
		switch c {
		case quote:
			if b == nil {
				return r.s[start : r.pos-1], nil
			}
			return string(append(b, r.s[start:r.pos-1]...)), nil
		case '\\':
			b = append(b, r.s[start:r.pos-1]...)
			unit, err := r.escape()
			if err != nil {
				return "", err
			}
			b = appendUnit(b, unit)
			start = r.pos
		case '\n':
			r.line++
			r.lineStart = r.pos
		}
	}
	return "", r.malformed("Unterminated string")
}

// escape reads what follows a backslash: one UTF-16 unit.
func (r *jsonReader) escape() (rune, error) {
	if r.pos == len(r.s) {
		return 0, r.malformed("Unterminated escape sequence")
	}
	c, n := utf8.DecodeRuneInString(r.s[r.pos:])
	r.pos += n
	switch c {
	case 'u':
		n := unitsLen(r.s[r.pos:], 4)
		if n < 0 {
			return 0, r.malformed("Unterminated escape sequence")
		}
		digits := r.s[r.pos : r.pos+n]
		unit, err := strconv.ParseUint(digits, 16, 16)
		if err != nil {
			return 0, &Error{NumberFormat, `\u` + digits}
		}
		r.pos += n
		return rune(unit), nil
	case 't':
		return '\t', nil
	case 'b':
		return '\b', nil
	case 'n':
		return '\n', nil
	case 'r':
		return '\r', nil
	case 'f':
		return '\f', nil
	case '\n':
		r.line++
		r.lineStart = r.pos
		return c, nil
	case '\'', '"', '\\', '/':
		return c, nil
	}
	return 0, r.malformed("Invalid escape sequence")
}
