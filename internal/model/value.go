package model

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"muster/internal/model/layout"
	"muster/internal/model/noderange"
)

// maxValue is the longest value of an attribute, in bytes.
const maxValue = 64 << 10

// Canonical returns a value of the attribute in the one form that is compared and shown: a MAC address as
// 52:54:00:77:00:01, a boolean as true or false, an IP address as RFC 5952 writes it. It refuses a value that the
// attribute does not take. The empty value is always taken: it is "not set".
func (a *Attr) Canonical(value string) (string, error) {
	if value == "" {
		return "", nil
	}
	if len(value) > maxValue {
		return "", &Problem{What: fmt.Sprintf("the value is too long: %d bytes, of at most %d", len(value), maxValue)}
	}
	if a.Type == List {
		return a.list(value)
	}
	return a.one(a.Type, value)
}

var (
	pin      = regexp.MustCompile((&Attr{Type: Pin}).Pattern())
	fileName = regexp.MustCompile((&Attr{Type: FileName}).Pattern())
)

func (a *Attr) list(value string) (string, error) {
	elements := a.Elements(value)
	for i, e := range elements {
		c, err := a.one(a.Of, e)
		if err != nil {
			return "", err
		}
		elements[i] = c
	}
	return strings.Join(elements, a.Sep), nil
}

// Elements returns the elements of a list as they are written.
func (a *Attr) Elements(value string) []string {
	switch {
	case a.Of == Regexp:
		return Alternatives(value)
	case a.Sep == " ":
		return strings.Fields(value)
	}
	return strings.FieldsFunc(value, func(r rune) bool { return r == ' ' || string(r) == a.Sep })
}

func (a *Attr) one(t Type, v string) (string, error) {
	switch t {
	case Integer:
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return "", wrong(v, "no whole number", "")
		}
		if a.Min != a.Max && (n < a.Min || n > a.Max) {
			return "", wrong(v, fmt.Sprintf("not between %d and %d", a.Min, a.Max), "")
		}
		return strconv.FormatInt(n, 10), nil
	case Boolean:
		switch strings.ToLower(v) {
		case "true", "yes", "on", "1":
			return "true", nil
		case "false", "no", "off", "0":
			return "false", nil
		}
		return "", wrong(v, "neither true nor false", "")
	case Address:
		ip, err := netip.ParseAddr(v)
		if err != nil || strings.ContainsFunc(ip.Zone(), func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
			return "", wrong(v, "no IP address", "Write 10.77.1.1 or fd00::1")
		}
		return written(ip.Unmap(), v), nil
	case Prefix:
		p, err := netip.ParsePrefix(v)
		if err != nil {
			return "", wrong(v, "no IP prefix", "Write 10.77.0.0/16")
		}
		if p != p.Masked() {
			return "", wrong(v, "an address inside of a prefix", "Write "+p.Masked().String())
		}
		return p.String(), nil
	case MAC:
		if m, ok := canonicalMAC(v); ok {
			return m, nil
		}
		return "", wrong(v, "no MAC address", "Write six octets: 52:54:00:77:00:01")
	case Duration:
		if d, err := time.ParseDuration(v); err != nil || d < 0 {
			return "", wrong(v, "no duration", "Write 90s, 10m or 1h30m")
		}
		return v, nil
	case Choice:
		if slices.Contains(a.Choices, v) {
			return v, nil
		}
		return "", wrong(v, "not one of "+strings.Join(a.Choices, ", "), "")
	case NetworkOf:
		if p := CheckName(v); p != nil {
			return "", p
		}
		return v, nil
	case ConsoleAt:
		c, err := ParseConsoleSource(v)
		return c.String(), err
	case Regexp:
		if !readable(v) {
			return "", wrong(v, "not readable text", "Leave control characters out")
		}
		return canonicalPattern(v)
	case Pin:
		if v = strings.ToLower(v); pin.MatchString(v) {
			return v, nil
		}
		return "", wrong(v, "no pin of a certificate", "Write sha256: and the 64 hex digits of its SHA-256, or any")
	case LayoutOf:
		if _, err := layout.Parse(v); err != nil {
			return "", &Problem{What: "the layout is wrong", Why: strings.ReplaceAll(err.Error(), "\n", "; ")}
		}
		return v, nil
	case FileName:
		if fileName.MatchString(v) {
			return v, nil
		}
		return "", wrong(v, "no name of a file", "Write its name alone, without a path: letters, digits, and . _ - inside, at most 64")
	case NodeRange:
		if _, err := noderange.Parse(v); err != nil {
			return "", err
		}
		return v, nil
	}
	if !readable(v) {
		return "", wrong(v, "not readable text", "Leave control characters out")
	}
	return v, nil
}

// readable says that text is UTF-8 without control characters.
func readable(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' && c != '\n' || c == 0x7f {
			return false
		}
	}
	return utf8.ValidString(s)
}

// written is an address as text: that one which it was read from, when it is the canonical form.
func written(ip netip.Addr, from string) string {
	var b [64]byte
	if c := ip.AppendTo(b[:0]); string(c) != from {
		return string(c)
	}
	return from
}

func wrong(value, why, do string) *Problem {
	return &Problem{What: quoted(value) + " is wrong", Why: why, Do: do}
}

// canonicalMAC reads a hardware address of 6 octets (EUI-48), 8 (EUI-64) or 20 (IP over InfiniBand, RFC 4391 §9.1.1),
// with colons, dashes, Cisco's dots or nothing between them, and writes it small and with colons.
func canonicalMAC(s string) (string, bool) {
	if isCanonicalMAC(s) {
		return s, true
	}
	var hex [40]byte
	n := 0
	sep := byte(0)
	group := 0 // digits since the last separator
	every := 0 // digits between separators
	for i := range len(s) {
		c := s[i]
		switch {
		case '0' <= c && c <= '9' || 'a' <= c && c <= 'f':
		case 'A' <= c && c <= 'F':
			c += 'a' - 'A'
		case c == ':' || c == '-' || c == '.':
			if sep == 0 {
				sep, every = c, group
				if every != 2 && (every != 4 || c != '.') {
					return "", false
				}
			}
			if c != sep || group != every {
				return "", false
			}
			group = 0
			continue
		default:
			return "", false
		}
		if n == len(hex) {
			return "", false
		}
		hex[n] = c
		n++
		group++
	}
	if n != 12 && n != 16 && n != 40 || sep != 0 && group != every {
		return "", false
	}
	out := make([]byte, 0, n/2*3)
	for i := 0; i < n; i += 2 {
		if i > 0 {
			out = append(out, ':')
		}
		out = append(out, hex[i], hex[i+1])
	}
	return string(out), true
}

func isCanonicalMAC(s string) bool {
	if len(s) != 17 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if i%3 == 2 {
			if c != ':' {
				return false
			}
		} else if !('0' <= c && c <= '9' || 'a' <= c && c <= 'f') {
			return false
		}
	}
	return true
}

// canonicalAddress is the form in which addresses are indexed: without the zone of a link-local one.
func canonicalAddress(s string) (string, bool) {
	ip, err := netip.ParseAddr(s)
	if err != nil {
		return "", false
	}
	return written(ip.Unmap().WithZone(""), s), true
}

// CheckName says why s cannot be the name of a node or group; nil when it can: RFC 1123 §2.1, labels of letters, digits
// and inner dashes, at most 63 octets each and 253 in all.
func CheckName(s string) *Problem {
	bad := func(why string) *Problem {
		return &Problem{What: quoted(s) + " cannot be a name", Why: why, Do: "Use letters, digits, dashes and dots (RFC 1123)"}
	}
	switch {
	case s == "":
		return bad("it is empty")
	case len(s) > 253:
		return bad(fmt.Sprintf("it has %d octets, of at most 253", len(s)))
	}
	for label := range strings.SplitSeq(s, ".") {
		switch {
		case label == "":
			return bad("a part between dots is empty")
		case len(label) > 63:
			return bad(fmt.Sprintf("the part %s… has %d octets, of at most 63", label[:16], len(label)))
		case label[0] == '-' || label[len(label)-1] == '-':
			return bad("the part " + quoted(label) + " begins or ends with a dash")
		}
		for i := range len(label) {
			c := label[i]
			if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-') {
				return bad("it holds " + strconv.QuoteRune([]rune(label[i:])[0]))
			}
		}
	}
	return nil
}
