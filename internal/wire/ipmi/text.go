package ipmi

import (
	"strings"
	"unicode"
)

// Encodings of a type/length octet: bits 7:6 (§43.15 for SDRs, FRU specification v1.0 §13).
const (
	encodingBinary = iota // in an SDR: Unicode
	encodingBCD           // BCD plus
	encodingSix           // 6-bit ASCII, packed
	encodingASCII         // 8-bit ASCII and Latin 1
)

const bcdPlus = "0123456789 -.:,_"

// decodeText reads the characters of a field. Of what cannot be printed nothing is left, nor are blanks at the ends: vendors fill with them.
func decodeText(encoding byte, b []byte) string {
	var s strings.Builder
	switch encoding {
	case encodingBCD:
		for _, c := range b {
			s.WriteByte(bcdPlus[c>>4])
			s.WriteByte(bcdPlus[c&0x0f])
		}
	case encodingSix:
		for i := 0; i*6+6 <= len(b)*8; i++ {
			bit := i * 6
			v := uint16(b[bit/8]) >> (bit % 8)
			if bit%8 > 2 {
				v |= uint16(b[bit/8+1]) << (8 - bit%8)
			}
			s.WriteByte(byte(v&0x3f) + 0x20)
		}
	default: // Latin 1, and what is called Unicode or binary and mostly is ASCII
		for _, c := range b {
			s.WriteRune(rune(c))
		}
	}
	clean := strings.Map(func(r rune) rune {
		if r == 0xa0 || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s.String())
	return strings.TrimSpace(clean)
}
