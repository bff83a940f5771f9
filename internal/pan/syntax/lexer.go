package syntax

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// lexMode is where the lexer stands: the word behind `template` is lexed by rules of its own.
type lexMode uint8

const (
	modeDefault lexMode = iota
	modeName
)

// cursor is all of a lexer that changes as it goes on: a copy of it is a place to come back to.
type cursor struct {
	pos       int32
	line      int32
	lineStart int32 // so that pos-lineStart+1 is the column in UTF-16 units
	lastEnd   int32 // the column of the character that ended the line before
	heredocs  int32 // announced so far
	read      int32 // of those, read to their end so far
	mode      lexMode
}

// pending says whether here-documents begin on the next line, or have no end.
func (c *cursor) pending() bool { return c.read < c.heredocs }

// lexer cuts one template into tokens as panc's generated lexer does: the longest match wins, and a character that begins nothing
// is a token too. Strings are pieces of src wherever nothing in them had to be replaced.
type lexer struct {
	cursor
	file     string
	src      string
	err      *Error        // why the last token is tFailed
	notes    []*Annotation // those right before the last token
	marks    []string      // of the here-documents, by number
	bodies   []string      // likewise
	unclosed [3]int        // from here on no ) ] } is left to end an annotation; 0: not known
}

func newLexer(file, src string) lexer {
	return lexer{file: file, src: src, cursor: cursor{line: 1}}
}

// What a byte can be, as bits.
const (
	isLetter uint8 = 1 << iota // begins a word
	isDigit
	isHexDigit
	isName // of templates
	isSpace
	isNoteName // of annotations
)

var class = func() (c [256]uint8) {
	for b := range c {
		switch {
		case b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z', b == '_':
			c[b] = isLetter | isName | isNoteName
		case b >= '0' && b <= '9':
			c[b] = isDigit | isHexDigit | isName | isNoteName
		case b == '-', b == '.':
			c[b] = isName | isNoteName
		case b == '+', b == '/':
			c[b] = isName
		case b == ' ', b == '\t', b == '\f', b == '\n', b == '\r':
			c[b] = isSpace
		}
		if b >= 'a' && b <= 'f' || b >= 'A' && b <= 'F' {
			c[b] |= isHexDigit
		}
	}
	return c
}()

// column is the column of the character at offset pos of the current line.
func (l *lexer) column(pos int32) int32 { return pos - l.lineStart + 1 }

// newline steps over the line end at pos: \n, \r or both.
func (l *lexer) newline() {
	if l.src[l.pos] == '\r' && int(l.pos)+1 < len(l.src) && l.src[l.pos+1] == '\n' {
		l.pos++
	}
	l.lastEnd = l.column(l.pos)
	l.pos++
	l.line++
	l.lineStart = l.pos
}

// wide takes the byte c, which is not ASCII and has just been passed, out of the column where it is not a UTF-16 unit of its own.
func (l *lexer) wide(c byte) {
	if c < 0xc0 {
		l.lineStart++ // a byte that continues a character
	} else if c >= 0xf0 {
		l.lineStart-- // a character of four bytes is two units
	}
}

// end is the place of the last character of the source before pos: panc puts the end of a file there, and 0.0 for an empty one.
func (l *lexer) end() Span {
	switch column := l.column(l.pos) - 1; {
	case l.pos == 0:
		return Span{}
	case column < 1:
		return Span{l.line - 1, l.lastEnd, l.line - 1, l.lastEnd}
	default:
		return Span{l.line, column, l.line, column}
	}
}

// operators of one byte, and those that one more byte makes others.
var (
	single = [256]kind{
		'{': tLBrace, '?': tOptional, ':': tColon, ';': tSemicolon, ',': tComma, '(': tLParen, ')': tRParen, '[': tLBracket,
		']': tRBracket, '}': tRBrace, '=': tAssign, '+': tPlus, '-': tMinus, '%': tMod, '/': tDiv, '!': tNot, '>': tGT, '<': tLT,
		'|': tBitOr, '^': tBitXor, '&': tBitAnd, '~': tBitNot, '*': tAsterisk,
	}
	double = [256]struct {
		second byte
		kind   kind
	}{
		'.': {'.', tRange}, '|': {'|', tOr}, '&': {'&', tAnd}, '=': {'=', tEQ}, '!': {'=', tNE}, '>': {'=', tGE}, '<': {'=', tLE},
		'?': {'=', tAssignDefault},
	}
)

// next reads the next token into t.
func (l *lexer) next(t *token) {
	if l.notes != nil {
		l.notes = nil
	}
	for int(l.pos) < len(l.src) {
		switch c := l.src[l.pos]; c {
		case ' ', '\t', '\f':
			l.pos++
		case '\n', '\r':
			l.newline()
			if l.pending() {
				l.readHeredocs()
			}
		case '#':
			l.skipComment()
		case '@':
			if !l.annotation(t) {
				return
			}
		default:
			l.token(t, c)
			return
		}
	}
	*t = token{kind: tEOF, begin: l.pos, end: l.pos, span: l.end()}
}

// plain makes a token of the bytes from pos to end, which hold no line end, and steps over it.
func (l *lexer) plain(t *token, k kind, end int32) {
	column := l.column(l.pos)
	t.kind, t.begin, t.end = k, l.pos, end
	t.text = l.src[l.pos:end]
	t.span = Span{l.line, column, l.line, column + end - l.pos - 1}
	l.pos = end
}

// failed makes t, whose text panc's lexer takes and then refuses, the token of an error.
func (l *lexer) failed(t *token, message string) {
	t.kind = tFailed
	l.err = &Error{Class: ParseError, File: l.file, Span: t.span, Message: message}
}

// token reads a token that begins with c.
func (l *lexer) token(t *token, c byte) {
	switch bits := class[c]; {
	case l.mode == modeName:
		l.namespaced(t, c)
	case bits&isLetter != 0:
		l.word(t)
	case bits&isDigit != 0:
		l.number(t)
	case c == '\'':
		l.singleQuoted(t)
	case c == '"':
		l.doubleQuoted(t)
	default:
		l.operator(t, c)
	}
}

func (l *lexer) word(t *token) {
	src, end := l.src, int(l.pos)+1
	for end < len(src) && class[src[end]]&(isLetter|isDigit) != 0 {
		end++
	}
	l.plain(t, tIdentifier, int32(end))
	if t.kind = keyword(t.text); t.kind == tTemplate {
		l.mode = modeName
	}
}

// namespaced reads the name of a template; a brace ends the wait for one.
func (l *lexer) namespaced(t *token, c byte) {
	src, end := l.src, int(l.pos)
	for end < len(src) && class[src[end]]&isName != 0 {
		end++
	}
	switch {
	case end > int(l.pos):
		l.mode = modeDefault
		l.plain(t, tNamespaced, int32(end))
	case c == '{':
		l.mode = modeDefault
		l.plain(t, tLBrace, l.pos+1)
	default:
		l.unknown(t)
	}
}

// run is the end of the bytes from pos on that have one of the bits.
func (l *lexer) run(pos int, bits uint8) int {
	for pos < len(l.src) && class[l.src[pos]]&bits != 0 {
		pos++
	}
	return pos
}

// number reads a long or a double, the longest that there is: 08 is 0 and 8, but 08.5 is one.
func (l *lexer) number(t *token) {
	src, pos := l.src, int(l.pos)
	digits := l.run(pos, isDigit)
	end := digits
	if end+1 < len(src) && src[end] == '.' && class[src[end+1]]&isDigit != 0 {
		end = l.run(end+1, isDigit)
	}
	if end < len(src) && src[end]|0x20 == 'e' {
		exponent := end + 1
		if exponent < len(src) && (src[exponent] == '+' || src[exponent] == '-') {
			exponent++
		}
		if exponent < len(src) && class[src[exponent]]&isDigit != 0 {
			end = l.run(exponent, isDigit)
		}
	}
	switch {
	case end > digits:
		l.plain(t, tDouble, int32(end))
	case src[pos] != '0':
		l.plain(t, tDecimal, int32(end))
	case pos+2 < len(src) && src[pos+1]|0x20 == 'x' && class[src[pos+2]]&isHexDigit != 0:
		l.plain(t, tHex, int32(l.run(pos+2, isHexDigit)))
	default:
		for end = pos + 1; end < len(src) && src[end] >= '0' && src[end] <= '7'; {
			end++
		}
		l.plain(t, tOctal, int32(end))
	}
}

func (l *lexer) operator(t *token, c byte) {
	second := byte(0)
	if int(l.pos)+1 < len(l.src) {
		second = l.src[l.pos+1]
	}
	switch {
	case c == '<' && second == '<':
		l.heredoc(t)
	case double[c].second == second && second != 0:
		l.plain(t, double[c].kind, l.pos+2)
	case single[c] != 0:
		l.plain(t, single[c], l.pos+1)
	default:
		l.unknown(t)
	}
}

// unknown makes a token of a character that begins none.
func (l *lexer) unknown(t *token) {
	_, size := utf8.DecodeRuneInString(l.src[l.pos:])
	column := l.column(l.pos)
	*t = token{kind: tError, begin: l.pos, end: l.pos + int32(size), text: l.src[l.pos : l.pos+int32(size)]}
	t.span = Span{l.line, column, l.line, column}
	for range size {
		if c := l.src[l.pos]; c >= utf8.RuneSelf {
			l.wide(c)
		}
		l.pos++
	}
}

// heredoc reads <<MARK. The text begins on the next line.
func (l *lexer) heredoc(t *token) {
	pos := int(l.pos) + 2
	if pos >= len(l.src) || class[l.src[pos]]&isLetter == 0 {
		l.plain(t, tHeredocMark, int32(pos))
		return
	}
	l.plain(t, tHeredoc, int32(l.run(pos, isLetter|isDigit)))
	l.marks = append(l.marks[:l.heredocs], t.text[2:])
	t.index = l.heredocs
	t.text = strconv.Itoa(int(t.index)) // what panc's messages show
	l.heredocs++
}

// readHeredocs reads the here-documents that were announced on the line before, up to the line with the last mark or the end of file.
func (l *lexer) readHeredocs() {
	begin := l.pos
	for l.pending() && int(l.pos) < len(l.src) {
		line := l.pos
		l.skipComment() // to the end of the line
		if l.src[line:l.pos] == l.marks[l.read] {
			l.bodies = append(l.bodies[:l.read], l.src[begin:line])
			l.read++
			begin = -1
		}
		if int(l.pos) < len(l.src) {
			l.newline()
		}
		if begin < 0 {
			begin = l.pos
		}
	}
	l.mode = modeDefault
}

// skipComment goes to the end of the line.
func (l *lexer) skipComment() {
	src, pos := l.src, int(l.pos)
	for pos < len(src) && src[pos] != '\n' && src[pos] != '\r' {
		if src[pos] >= utf8.RuneSelf {
			l.wide(src[pos])
		}
		pos++
	}
	l.pos = int32(pos)
}

// across steps from pos to end, over characters of any kind, and gives t that place.
func (l *lexer) across(t *token, k kind, end int32) {
	t.kind, t.begin, t.end = k, l.pos, end
	t.span.Line, t.span.Col = l.line, l.column(l.pos)
	for l.pos < end {
		switch c := l.src[l.pos]; {
		case c == '\n' || c == '\r':
			l.newline()
		case c >= utf8.RuneSelf:
			l.wide(c)
			l.pos++
		default:
			l.pos++
		}
	}
	t.span.EndLine, t.span.EndCol = l.line, l.column(end)-1
}

// singleQuoted reads '…', in which ” is a quote. Without an end on this line the quote is a token that nothing expects.
func (l *lexer) singleQuoted(t *token) {
	src, end, quotes, wide := l.src, int32(0), 0, false
scan:
	for pos := int(l.pos) + 1; pos < len(src); pos++ {
		switch c := src[pos]; {
		case c == '\'':
			end = int32(pos) + 1
			if pos+1 == len(src) || src[pos+1] != '\'' {
				break scan
			}
			pos++
			quotes++
		case c == '\n' || c == '\r':
			break scan // with the first quote of the last pair as the end
		case c >= utf8.RuneSelf:
			wide = true
		}
	}
	if end == 0 {
		l.unknown(t)
		return
	}
	text := src[l.pos+1 : end-1]
	if wide {
		l.across(t, tSingleQuoted, end)
	} else {
		l.plain(t, tSingleQuoted, end)
	}
	if t.text = text; quotes > 0 {
		t.text = strings.ReplaceAll(text, "''", "'")
	}
}

// doubleQuoted reads "…". As a quote behind a backslash may end the string as well as be a character of it, the longest match
// decides: "\\" ends only if no further quote is on the line.
func (l *lexer) doubleQuoted(t *token) {
	src, end, special := l.src, int32(0), false
scan:
	for pos := int(l.pos) + 1; pos < len(src); pos++ {
		switch c := src[pos]; {
		case c == '"':
			end = int32(pos) + 1
			if src[pos-1] != '\\' {
				break scan
			}
		case c == '\\' || c >= utf8.RuneSelf:
			special = true
		case c == '\r':
			if src[pos-1] != '\\' {
				break scan
			}
		case c == '\n':
			if src[pos-1] != '\\' && (src[pos-1] != '\r' || src[pos-2] != '\\') {
				break scan
			}
		}
	}
	if end == 0 {
		l.unknown(t)
		return
	}
	text := src[l.pos+1 : end-1]
	if !special {
		l.plain(t, tDoubleQuoted, end)
		t.text = text
		return
	}
	l.across(t, tDoubleQuoted, end)
	var problem string
	if t.text, problem = unquote(text); problem != "" {
		l.failed(t, problem)
	}
}

// unquote resolves the escapes of a double-quoted string, or says what is wrong with the first wrong one, in panc's words.
func unquote(s string) (text, problem string) {
	i := strings.IndexByte(s, '\\')
	if i < 0 {
		return s, ""
	}
	b := make([]byte, 0, len(s))
	for ; i >= 0; i = strings.IndexByte(s, '\\') {
		b = append(b, s[:i]...)
		s = s[i+1:]
		if s == "" {
			return "", "double-quoted string contains incomplete escape sequence"
		}
		skip := 1
		switch s[0] {
		case 'n':
			b = append(b, '\n')
		case 't':
			b = append(b, '\t')
		case 'r':
			b = append(b, '\r')
		case 'b':
			b = append(b, '\b')
		case 'f':
			b = append(b, '\f')
		case '\\', '"':
			b = append(b, s[0])
		case '\n':
		case '\r':
			if strings.HasPrefix(s, "\r\n") {
				skip = 2
			}
		case 'x':
			r, size, problem := hexEscape(s[1:])
			if problem != "" {
				return "", problem
			}
			b = utf8.AppendRune(b, r)
			skip += size
		default:
			r, _ := utf8.DecodeRuneInString(s)
			return "", "double-quoted string contains an illegal escape sequence (\\" + string(r) + ")"
		}
		s = s[skip:]
	}
	return string(append(b, s...)), ""
}

// hexEscape reads the two characters behind \x. As in Java the first may be a sign: \x+1 is \x01.
func hexEscape(s string) (r rune, size int, problem string) {
	_, first := utf8.DecodeRuneInString(s)
	_, second := utf8.DecodeRuneInString(s[first:])
	if second == 0 {
		return 0, 0, "double-quoted string contains incomplete hex escape sequence"
	}
	size = first + second
	n, err := strconv.ParseInt(s[:size], 16, 32)
	if err != nil || n < 0 {
		return 0, 0, "double-quoted string contains illegal hex replacement (" + s[:size] + ")"
	}
	return rune(n), size, ""
}
