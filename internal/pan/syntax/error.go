package syntax

import (
	"strconv"
	"strings"
	"unicode/utf16"
)

// Class is the kind of an error: which of panc's exceptions it is.
type Class uint8

// The classes of errors that a template can have before anything of it runs.
const (
	ParseError      Class = iota // ParseException: the grammar does not accept it
	SyntaxError                  // SyntaxException: the grammar does, the second pass does not
	EvaluationError              // EvaluationException: a range whose minimum is above its maximum
	SystemError                  // SystemException: a number beyond 64 bits
)

// String is the name of panc's exception.
func (c Class) String() string {
	return [...]string{"ParseException", "SyntaxException", "EvaluationException", "SystemException"}[c]
}

// Error is one thing wrong with a template. Error is panc's message, byte for byte; Span is where it is, also where panc does not say
// so; it is zero only for what concerns the file as a whole.
type Error struct {
	Class   Class
	File    string
	Span    Span
	Message string // without the line that says class and place
	Node    Node   // of a SyntaxError: where panc noticed it; nil for the template itself. See Sort
	Stmt    int    // of a SyntaxError: the index in File.Statements, or their number for what panc checks behind them

	wanted  kindSet // where the place is a token's
	token   bool    // panc prints the place of a token, with the end line in place of the end column
	nowhere bool    // panc prints no place
}

// Error is the message as panc prints it.
func (e *Error) Error() string {
	place := e.Span.String()
	switch {
	case e.nowhere:
		place = "?"
	case e.token:
		place = strconv.Itoa(int(e.Span.Line)) + "." + strconv.Itoa(int(e.Span.Col)) + "-" +
			strconv.Itoa(int(e.Span.EndLine)) + "." + strconv.Itoa(int(e.Span.EndLine))
	}
	switch e.Class {
	case ParseError:
		return "parse error [" + e.File + ":" + place + "]\n" + e.Message
	case SyntaxError:
		return "syntax error [" + e.File + ":" + place + "]\n" + e.Message + "\n"
	case EvaluationError:
		return "evaluation error [" + e.File + ":" + place + "]\n" + e.Message + "\n"
	}
	return "system error [" + e.File + ":" + place + "]\n" + e.Message + "\n"
}

// Short is what is wrong in one line, for lists of FILE:LINE:COLUMN: the first line of a message, and of those about a token what
// stands there and what may stand there.
func (e *Error) Short() string {
	if !e.token {
		line, _, _ := strings.Cut(e.Message, "\n")
		return line
	}
	found, _, _ := strings.Cut(strings.TrimPrefix(e.Message, "\nEncountered: "), "\n")
	b := "unexpected \"" + found + "\""
	if found == kindImage[tEOF] {
		b = "unexpected end of the file"
	}
	var names []string
	rest := e.wanted
	for _, group := range kindGroups {
		if rest[0]&group.all[0] == group.all[0] && rest[1]&group.all[1] == group.all[1] {
			names = append(names, group.name)
			rest[0] &^= group.all[0] | group.also[0]
			rest[1] &^= group.all[1] | group.also[1]
		}
	}
	for k := range numKinds {
		if rest.has(k) {
			names = append(names, kindImage[k])
		}
	}
	if len(names) == 0 {
		return b
	}
	last := len(names) - 1
	if last == 0 {
		return b + "; expecting " + names[0]
	}
	return b + "; expecting " + strings.Join(names[:last], ", ") + " or " + names[last]
}

// kindGroups are names for many kinds at once: of a group all kinds have to be wanted for its name to stand for them, and for those that
// come with it.
var kindGroups = []struct {
	name      string
	all, also kindSet
}{
	{
		"a statement", kindsOf(tType, tBind, tValid, tPrefix, tInclude, tFunction),
		kindsOf(tSemicolon, tFinal, tVariable, tSingleQuoted, tDoubleQuoted, tEOF),
	},
	{
		"a value", kindsOf(tUndef, tNull, tTrue, tFalse, tDecimal, tHex, tOctal, tDouble, tHeredoc, tSingleQuoted, tDoubleQuoted, tIdentifier, tLParen),
		kindsOf(tPlus, tMinus, tNot, tBitNot, tIf, tFor, tWhile, tForeach, tLBrace, tSemicolon),
	},
	{"an operator", kindsOf(tPlus, tMinus, tMod, tDiv, tGT, tLT, tOr, tAnd, tBitOr, tBitXor, tBitAnd, tEQ, tNE, tGE, tLE, tAsterisk), kindSet{}},
	{"a number", kindsOf(tDecimal, tHex, tOctal), kindSet{}},
	{"a string", kindsOf(tSingleQuoted, tDoubleQuoted), kindsOf(tHeredoc)},
	{"a name", kindsOf(tIdentifier), kindSet{}},
	{"a template's name", kindsOf(tNamespaced), kindSet{}},
	{"the end of the file", kindsOf(tEOF), kindSet{}},
}

func kindsOf(kinds ...kind) (s kindSet) {
	for _, k := range kinds {
		s.add(k)
	}
	return s
}

// appendToken appends the text of a token as JavaCC shows it: ASCII, one \u for each UTF-16 unit of the rest. Of a character that begins
// no token it takes one unit only.
func appendToken(b []byte, s string, one bool) []byte {
	const hex = "0123456789abcdef"
	for _, r := range s {
		switch i := strings.IndexRune("\b\t\n\f\r\"'\\", r); {
		case i >= 0:
			b = append(b, '\\', `btnfr"'\`[i])
		case r >= 0x20 && r <= 0x7e:
			b = append(b, byte(r))
		default:
			for _, u := range utf16.Encode([]rune{r}) {
				b = append(b, '\\', 'u', hex[u>>12], hex[u>>8&15], hex[u>>4&15], hex[u&15])
				if one {
					break
				}
			}
		}
	}
	return b
}
