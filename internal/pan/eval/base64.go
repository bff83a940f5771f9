package eval

import "strconv"

// decodeBase64 reads base64 as panc's class of that name does (RFC 2045, section 6.8, taken widely): only the low seven bits of a byte
// count, white space is passed over, what follows the padding or lacks some of its quartet is dropped.
func decodeBase64(s string) ([]byte, *Error) {
	out := make([]byte, 0, len(s)*3/4)
	var quartet [4]byte
	n := 0
	for i := 0; i < len(s); i++ {
		c := s[i] & 0x7f
		switch {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			continue
		case c != '=' && base64Value(c) < 0:
			return nil, evaluation("Bad Base64 input character at " + strconv.Itoa(i) + ": " + strconv.Itoa(int(int8(s[i]))) + "(decimal)")
		}
		quartet[n] = c
		if n++; n < 4 {
			continue
		}
		n = 0
		out = appendQuartet(out, quartet)
		if c == '=' {
			break
		}
	}
	return out, nil
}

func appendQuartet(out []byte, q [4]byte) []byte {
	bits := 0
	for _, c := range q {
		// a padding where none may be counts as its code in panc's table, -1
		bits = bits<<6 | base64Value(c)&0xff
	}
	three := []byte{byte(bits >> 16), byte(bits >> 8), byte(bits)}
	switch {
	case q[2] == '=':
		return append(out, three[:1]...)
	case q[3] == '=':
		return append(out, three[:2]...)
	}
	return append(out, three...)
}

// base64Value is the six bits of a character, -1 for none.
func base64Value(c byte) int {
	switch {
	case 'A' <= c && c <= 'Z':
		return int(c - 'A')
	case 'a' <= c && c <= 'z':
		return int(c-'a') + 26
	case '0' <= c && c <= '9':
		return int(c-'0') + 52
	case c == '+':
		return 62
	case c == '/':
		return 63
	}
	return -1
}
