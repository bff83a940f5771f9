package console

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/hinshun/vt10x"
)

// drawScreen turns the newest output of a console into the bytes that make a fresh terminal show what the machine's
// screen shows now. The output itself is not sent again: it begins somewhere in the middle, and questions in it (ESC [ 6 n)
// would make the watcher's terminal type answers into the machine.
//
// What the end of the output has begun and not finished (half an escape sequence, half a character) is appended, so that the
// live bytes complete it.
func drawScreen(recent []byte, cols, rows int) []byte {
	if cols < 20 || cols > 320 {
		cols = 80
	}
	if rows < 5 || rows > 120 {
		rows = 25
	}
	recent = fromBoundary(recent)
	clean, rest := clean(recent)
	out, err := draw(clean, cols, rows)
	if err != nil { // the emulator gave up: show the text
		out = append([]byte("\x1bc"), plainText(clean)...)
	}
	return append(out, rest...)
}

// fromBoundary drops the beginning of the output up to the first line or escape sequence that is whole. Output that
// is complete is shorter than the ring.
func fromBoundary(p []byte) []byte {
	if len(p) < ringMax {
		return p
	}
	if i := bytes.IndexAny(p, "\n\x1b"); i >= 0 && i < 4096 {
		return p[i:]
	}
	return p
}

// clean passes on what is safe to give to the emulator: text and the sequences of ECMA-48, without OSC, DCS and other
// strings, without absurd numbers (which would make it loop), and without 8-bit controls; and from a reset on, or from where there are
// no more than 2,000 sequences that touch the whole screen: a machine shall not make watching it expensive. rest is what is
// unfinished at the end.
func clean(p []byte) (out, rest []byte) {
	const most = 2000
	out = make([]byte, 0, len(p))
	var heavy []int // where in out
	defer func() {
		if n := len(heavy); n > most {
			out = out[heavy[n-most]:]
		}
	}()
	for i := 0; i < len(p); {
		b := p[i]
		switch {
		case b == 0x1b:
			n, keep := escape(p[i:])
			if n == 0 {
				if len(p)-i > 256 { // never finished: not a sequence
					return out, nil
				}
				return out, p[i:]
			}
			switch last := p[i+n-1]; {
			case n == 2 && last == 'c':
				out, heavy = out[:0], heavy[:0]
			case keep:
				if n > 2 && bytes.IndexByte([]byte("JSTLMhlIZ"), last) >= 0 {
					heavy = append(heavy, len(out))
				}
				out = append(out, p[i:i+n]...)
			}
			i += n
		case b < 0x80:
			out = append(out, b)
			i++
		default:
			if !utf8.FullRune(p[i:]) {
				return out, p[i:]
			}
			r, n := utf8.DecodeRune(p[i:])
			if r != utf8.RuneError && r >= 0xa0 {
				out = append(out, p[i:i+n]...)
			} else if r == utf8.RuneError {
				out = append(out, '?')
			}
			i += n
		}
	}
	return out, nil
}

// escape measures the sequence at the beginning of p, which is ESC; 0 when it is not finished. keep says whether the
// emulator may have it.
func escape(p []byte) (n int, keep bool) {
	if len(p) < 2 {
		return 0, false
	}
	switch p[1] {
	case '[': // CSI: parameters, intermediates, one final byte
		digits := 0
		for i := 2; i < len(p); i++ {
			switch b := p[i]; {
			case b >= 0x40 && b <= 0x7e:
				query := b == 'n' || b == 'c'
				return i + 1, digits <= 4 && !query
			case b >= '0' && b <= '9':
				digits++
				if digits > 4 {
					digits = 1 << 20
				}
			case b == ';' || b == '?' && i == 2:
				if digits < 1<<20 {
					digits = 0
				}
			case b >= 0x20 && b < 0x40:
				digits = 1 << 20 // private or intermediate: not for this emulator
			default:
				return i, false // broken off by another control
			}
		}
		return 0, false
	case ']', 'P', 'X', '^', '_': // strings, to BEL or ST
		for i := 2; i < len(p); i++ {
			if p[i] == 0x07 {
				return i + 1, false
			}
			if p[i] == 0x1b {
				if i+1 == len(p) {
					return 0, false
				}
				if p[i+1] == '\\' {
					return i + 2, false
				}
				return i, false
			}
		}
		return 0, false
	case '(', ')', '*', '+', '#', '%', ' ':
		if len(p) < 3 {
			return 0, false
		}
		return 3, p[1] == '('
	case 0x1b:
		return 1, false
	}
	return 2, bytes.IndexByte([]byte("78=>DEHMc"), p[1]) >= 0
}

func plainText(p []byte) []byte {
	out := make([]byte, 0, len(p))
	for i := 0; i < len(p); {
		if p[i] == 0x1b {
			n, _ := escape(p[i:])
			i += max(1, n)
			continue
		}
		if b := p[i]; b >= ' ' || b == '\n' || b == '\r' || b == '\t' || b == '\b' {
			out = append(out, b)
		}
		i++
	}
	return out
}

// The attribute bits of vt10x.Glyph.Mode, which that package does not export.
const (
	glyphReverse = 1 << iota
	glyphUnderline
	glyphBold
	_
	glyphItalic
	glyphBlink
)

// draw runs output through the emulator and writes its screen down: reset, rows with their attributes, cursor, modes.
func draw(p []byte, cols, rows int) (out []byte, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("terminal emulator: %v", r)
		}
	}()
	t := vt10x.New(vt10x.WithSize(cols, rows), vt10x.WithWriter(io.Discard))
	if _, err := t.Write(p); err != nil {
		return nil, err
	}
	out = append(out, "\x1bc\x1b[0m\x1b[2J\x1b[H"...)
	bare := vt10x.Glyph{FG: vt10x.DefaultFG, BG: vt10x.DefaultBG}
	at := bare
	for y := range rows {
		used := 0
		for x := range cols {
			if g := t.Cell(x, y); g.Char != ' ' && g.Char != 0 || g.BG != vt10x.DefaultBG || g.Mode&(glyphReverse|glyphUnderline) != 0 {
				used = x + 1
			}
		}
		if used == 0 {
			continue
		}
		out = fmt.Appendf(out, "\x1b[%d;1H", y+1)
		for x := range used {
			g := t.Cell(x, y)
			if g.FG != at.FG || g.BG != at.BG || g.Mode != at.Mode {
				out = sgr(out, unswap(g))
				at = g
			}
			if g.Char < ' ' {
				g.Char = ' '
			}
			out = utf8.AppendRune(out, g.Char)
		}
	}
	cur := t.Cursor()
	out = sgr(out, cur.Attr)
	out = fmt.Appendf(out, "\x1b[%d;%dH", cur.Y+1, min(cur.X, cols-1)+1)
	if t.Mode()&vt10x.ModeAppCursor != 0 {
		out = append(out, "\x1b[?1h"...)
	}
	if t.Mode()&vt10x.ModeAppKeypad != 0 {
		out = append(out, "\x1b="...)
	}
	if t.Mode()&vt10x.ModeInsert != 0 {
		out = append(out, "\x1b[4h"...)
	}
	if !t.CursorVisible() {
		out = append(out, "\x1b[?25l"...)
	}
	return out, nil
}

// sgr selects the attributes of a glyph (ECMA-48, 8.3.117).
func sgr(out []byte, g vt10x.Glyph) []byte {
	out = append(out, "\x1b[0"...)
	for _, m := range []struct {
		bit  int16
		code string
	}{{glyphBold, ";1"}, {glyphItalic, ";3"}, {glyphUnderline, ";4"}, {glyphBlink, ";5"}, {glyphReverse, ";7"}} {
		if g.Mode&m.bit != 0 {
			out = append(out, m.code...)
		}
	}
	out = colour(out, g.FG, 30)
	out = colour(out, g.BG, 40)
	return append(out, 'm')
}

// unswap gives a cell the colours that were asked for: the emulator stores a reversed one with its colours exchanged.
func unswap(g vt10x.Glyph) vt10x.Glyph {
	if g.Mode&glyphReverse != 0 {
		g.FG, g.BG = g.BG, g.FG
	}
	return g
}

func colour(out []byte, c vt10x.Color, base int) []byte {
	switch {
	case c < 8:
		return strconv.AppendInt(append(out, ';'), int64(base)+int64(c), 10)
	case c < 16:
		return strconv.AppendInt(append(out, ';'), int64(base)+60+int64(c)-8, 10)
	case c < 256:
		return fmt.Appendf(out, ";%d;5;%d", base+8, c)
	case c < 1<<24:
		return fmt.Appendf(out, ";%d;2;%d;%d;%d", base+8, c>>16&255, c>>8&255, c&255)
	}
	return out // a default
}

// Plain is what was printed, as text: without escape sequences and other controls, bytes that are not UTF-8 replaced.
func Plain(p []byte) string {
	text, _ := clean(p)
	return strings.ToValidUTF8(strings.ReplaceAll(string(plainText(text)), "\r", "\n"), "\uFFFD")
}
