package syntax

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// annotation reads @name{…}, @name(…) or @name[…], which ends at the first closing character of its kind, and keeps it for the token
// behind it. It is false when t is a token: the @ of something else, or of an annotation whose text is wrong.
func (l *lexer) annotation(t *token) bool {
	name := l.run(int(l.pos)+1, isSpace)
	open := l.run(l.run(name, isNoteName), isSpace)
	end := -1
	if open < len(l.src) {
		closing := strings.IndexByte("([{", l.src[open])
		if closing >= 0 && (l.unclosed[closing] == 0 || open < l.unclosed[closing]) {
			if end = strings.IndexByte(l.src[open:], ")]}"[closing]); end < 0 {
				l.unclosed[closing] = open
			}
		}
	}
	if end < 0 {
		l.unknown(t)
		return false
	}
	end += open
	note := &Annotation{Name: l.src[name:l.run(name, isNoteName)]}
	l.across(t, 0, int32(end)+1)
	note.span = t.span
	var problem string
	if note.Entries, problem = annotationEntries(l.src[open+1 : end]); problem == "" && note.Name != "" && !validKey(note.Name) {
		problem = invalidKey(note.Name)
	}
	if problem != "" {
		l.failed(t, problem)
		return false
	}
	l.notes = append(l.notes, note)
	return true
}

func invalidKey(s string) string { return "invalid annotation name or key: '" + s + "'" }

// validKey is Annotation.validKey of panc: letters, underscores, dots and hyphens, the first one a letter or an underscore, and not
// xml at the beginning.
func validKey(s string) bool {
	for i := range len(s) {
		if c := s[i]; class[c]&isLetter == 0 && (i == 0 || c != '.' && c != '-') {
			return false
		}
	}
	return s != "" && (len(s) < 3 || !strings.EqualFold(s[:3], "xml"))
}

// annotationEntries reads the inside of an annotation: `key = value` lines, or anything else as one entry desc. The problem is
// panc's message when it is neither.
func annotationEntries(s string) ([]Entry, string) {
	if !isPairs(s) {
		return []Entry{{"desc", s}}, ""
	}
	var entries []Entry
	l := noteLexer{src: s, line: 1, column: 1}
	for {
		key := l.next()
		switch key.kind {
		case nEOF:
			return entries, ""
		case nKey:
		default:
			return nil, l.unexpected(key, nEOF, nKey)
		}
		if equals := l.next(); equals.kind != nEquals {
			return nil, l.unexpected(equals, nEquals)
		}
		value := l.next()
		if value.kind < nSingleQuoted || value.kind > nValue {
			return nil, l.unexpected(value, nSingleQuoted, nDoubleQuoted, nValue)
		}
		if !validKey(key.text) {
			return nil, invalidKey(key.text)
		}
		entries = append(entries, Entry{key.text, value.value()})
	}
}

// isPairs says whether the first word is followed by an equals sign.
func isPairs(s string) bool {
	const space = " \t\n\v\f\r"
	s = strings.TrimLeft(s, space)
	if i := strings.IndexAny(s, space+"="); i >= 0 {
		return strings.HasPrefix(strings.TrimLeft(s[i:], space), "=")
	}
	return false
}

// noteKind is the kind of a word inside of an annotation, numbered as in panc's second lexer.
type noteKind uint8

const (
	nEOF noteKind = iota
	_
	nEquals
	nKey
	nSingleQuoted
	nDoubleQuoted
	nValue
	nError
)

var noteImage = [...]string{
	nEOF: "<EOF>", nEquals: "<EQUALS>", nKey: "<KEY>", nSingleQuoted: "<SINGLE_QUOTED_STRING>",
	nDoubleQuoted: "<DOUBLE_QUOTED_STRING>", nValue: "<VALUE>", nError: "<ERROR>",
}

type noteToken struct {
	kind         noteKind
	text         string // as written
	line, column int
}

// noteLexer cuts the inside of an annotation into words. Behind an equals sign, value is set until the value has been read.
type noteLexer struct {
	src          string
	pos          int
	line, column int // of src[pos]
	lastLine     int // of the character before pos
	lastColumn   int
	value        bool
}

// step goes on to end.
func (l *noteLexer) step(end int) {
	for l.pos < end {
		r, size := utf8.DecodeRuneInString(l.src[l.pos:])
		l.lastLine, l.lastColumn = l.line, l.column
		if r > 0xffff {
			l.lastColumn++
		}
		l.pos += size
		if r == '\n' || r == '\r' && !strings.HasPrefix(l.src[l.pos:], "\n") {
			l.line, l.column = l.line+1, 1
		} else {
			l.column = l.lastColumn + 1
		}
	}
}

func (l *noteLexer) next() noteToken {
	for l.pos < len(l.src) {
		kind, end := l.match()
		if end == 0 {
			l.step(l.pos + 1) // white space
			continue
		}
		t := noteToken{kind, l.src[l.pos:end], l.line, l.column}
		l.step(end)
		if kind == nEquals {
			l.value = true
		} else if kind != nError {
			l.value = false
		}
		return t
	}
	return noteToken{nEOF, "", l.lastLine, l.lastColumn}
}

// match is the longest token at pos, with its end; the end is 0 for one character of white space.
func (l *noteLexer) match() (noteKind, int) {
	rest := l.src[l.pos:]
	c := rest[0]
	if l.value {
		switch c {
		case '\'', '"':
			if end := quotedEnd(rest); end > 0 {
				return nSingleQuoted + noteKind(strings.IndexByte(`'"`, c)), l.pos + end
			}
		default:
			if end := valueEnd(rest); end > 1 || end == 1 && class[c]&isSpace == 0 {
				return nValue, l.pos + end
			}
		}
	} else {
		equals := strings.TrimLeft(rest, " \t")
		if strings.HasPrefix(equals, "=") {
			return nEquals, len(l.src) - len(strings.TrimLeft(equals[1:], " \t"))
		}
		end := 0
		for end < len(rest) && class[rest[end]]&isNoteName != 0 {
			end++
		}
		if end > 0 {
			return nKey, l.pos + end
		}
	}
	if class[c]&isSpace != 0 {
		return 0, 0
	}
	_, size := utf8.DecodeRuneInString(rest)
	return nError, l.pos + size
}

// quotedEnd is the end of the longest string at the start of s, or 0: its quote is doubled inside of it.
func quotedEnd(s string) int {
	end := 0
	for i := 1; i < len(s); i++ {
		if s[i] != s[0] {
			continue
		}
		end = i + 1
		if i+1 == len(s) || s[i+1] != s[0] {
			return end
		}
		i++
	}
	return end
}

// valueEnd is the end of the value without quotes at the start of s, or 0: it goes to the end of the line, and over it behind a
// backslash.
func valueEnd(s string) int {
	i := 0
	for n := continuation(s); n > 0; n = continuation(s[i:]) {
		i += n
	}
	if i == len(s) || strings.IndexByte("\n\r'\"\\", s[i]) >= 0 {
		return 0
	}
	for i < len(s) {
		if n := continuation(s[i:]); n > 0 {
			i += n
		} else if s[i] == '\n' || s[i] == '\r' {
			break
		} else {
			i++
		}
	}
	return i
}

// continuation is the length of a backslash and a line end at the start of s, or 0.
func continuation(s string) int {
	for _, c := range []string{"\\\r\n", "\\\n", "\\\r"} {
		if strings.HasPrefix(s, c) {
			return len(c)
		}
	}
	return 0
}

var continued = strings.NewReplacer("\\\n", "", "\\\r", "")

// value is what a value stands for. As panc's expression for it prefers \r to \r\n, the \n behind a continued line stays.
func (t noteToken) value() string {
	switch t.kind {
	case nSingleQuoted:
		return strings.ReplaceAll(t.text[1:len(t.text)-1], "''", "'")
	case nDoubleQuoted:
		return strings.ReplaceAll(t.text[1:len(t.text)-1], `""`, `"`)
	}
	s := continued.Replace(t.text)
	return strings.TrimFunc(s, func(r rune) bool { return r <= ' ' })
}

// unexpected is JavaCC's message for a token that stands where only others may.
func (l *noteLexer) unexpected(t noteToken, want ...noteKind) string {
	b := []byte(`Encountered "`)
	if t.kind == nEOF {
		b = append(b, noteImage[nEOF]...)
	} else {
		b = append(b, ' ')
		b = append(b, noteImage[t.kind]...)
		b = append(b, ` "`...)
		b = appendToken(b, t.text, t.kind == nError)
		b = append(b, ` "`...)
	}
	b = append(b, `" at line `...)
	b = strconv.AppendInt(b, int64(t.line), 10)
	b = append(b, ", column "...)
	b = strconv.AppendInt(b, int64(t.column), 10)
	b = append(b, ".\nWas expecting"...)
	if len(want) > 1 {
		b = append(b, " one of"...)
	}
	b = append(b, ":\n    "...)
	for _, k := range want {
		b = append(b, noteImage[k]...)
		b = append(b, ' ')
		if k != nEOF {
			b = append(b, "..."...)
		}
		b = append(b, "\n    "...)
	}
	return string(b)
}
