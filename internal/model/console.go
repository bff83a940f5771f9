package model

import (
	"net/netip"
	"path"
	"regexp"
	"strconv"
	"strings"
)

// ConsoleSource says where the console of a node comes from: "bmc", the serial line of its management controller; or a socket:
// "unix:/run/vm/r1n1.serial" (QEMU), "tcp:host:port" (QEMU, a terminal server's raw port), "telnet:host:port" (RFC 854: a terminal server that passes on
// a break).
type ConsoleSource struct {
	Network string // "bmc", "unix", "tcp" or "telnet"
	Address string // path of the socket, or host:port; empty for bmc
}

// maxSocketPath is what a unix socket's address holds (unix(7), sun_path), less its end.
const maxSocketPath = 107

const consoleSourceForm = "Write bmc, unix:/path, tcp:host:port or telnet:host:port"

// ParseConsoleSource reads a source as [ConsoleSource.String] writes it. The error is a [*Problem].
func ParseConsoleSource(v string) (ConsoleSource, error) {
	network, address, _ := strings.Cut(v, ":")
	switch network {
	case "bmc":
		if v == "bmc" {
			return ConsoleSource{Network: "bmc"}, nil
		}
	case "unix":
		switch {
		case !path.IsAbs(address) || path.Clean(address) != address || !readable(address):
			return ConsoleSource{}, wrong(v, "the path of a socket begins with / and is written without .. and doubled /", "Write unix:/run/vm/r1n1.serial")
		case len(address) > maxSocketPath:
			return ConsoleSource{}, wrong(v, "the path of a socket has at most "+strconv.Itoa(maxSocketPath)+" bytes", "")
		}
		return ConsoleSource{network, address}, nil
	case "tcp", "telnet":
		if hp, ok := canonicalHostPort(address); ok {
			return ConsoleSource{network, hp}, nil
		}
		return ConsoleSource{}, wrong(v, "it needs a host and a port", "Write "+network+":10.77.1.9:7001, "+network+":[fd00::9]:7001 or "+network+":ts1.example.org:7001")
	}
	return ConsoleSource{}, wrong(v, "no source of a console", consoleSourceForm)
}

// String is the canonical form.
func (c ConsoleSource) String() string {
	if c.Address == "" {
		return c.Network
	}
	return c.Network + ":" + c.Address
}

// canonicalHostPort reads host:port, where an IPv6 address stands in brackets.
func canonicalHostPort(s string) (string, bool) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return "", false
	}
	host, port := s[:i], s[i+1:]
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return "", false
	}
	port = strconv.FormatUint(n, 10)
	if inner, ok := strings.CutPrefix(host, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		ip, err := netip.ParseAddr(inner)
		if !ok || err != nil || ip.Is4() || strings.ContainsFunc(ip.Zone(), func(r rune) bool { return r <= ' ' || r >= 0x7f || r == ']' }) {
			return "", false
		}
		if ip = ip.Unmap(); ip.Is4() {
			return ip.String() + ":" + port, true
		}
		return "[" + ip.String() + "]:" + port, true
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.String() + ":" + port, ip.Is4() // an IPv6 address without brackets is not told from its port
	}
	return host + ":" + port, CheckName(host) == nil
}

// NoAlarms is the value of console.alarms that watches for nothing.
const NoAlarms = "none"

// Alternatives are the parts of a regular expression between those | that stand in no group, class or quotation: joined with | they are the expression.
func Alternatives(expression string) []string {
	var out []string
	depth, class, begin := 0, -1, 0
	for i := 0; i < len(expression); i++ {
		switch c := expression[i]; {
		case c == '\\' && strings.HasPrefix(expression[i:], `\Q`):
			end := strings.Index(expression[i:], `\E`)
			if end < 0 {
				i = len(expression)
				break
			}
			i += end + 1
		case c == '\\':
			i++
		case class >= 0: // a ] that comes first in a class is a character of it, and [:alpha:] stands in one
			switch {
			case c == '[' && i+1 < len(expression) && expression[i+1] == ':':
				if end := strings.Index(expression[i+2:], ":]"); end >= 0 {
					i += end + 3
				}
			case c == ']' && i > class:
				class = -1
			}
		case c == '[':
			class = i + 1
			if class < len(expression) && expression[class] == '^' {
				class++
			}
		case c == '(':
			depth++
		case c == ')':
			depth--
		case c == '|' && depth == 0:
			out, begin = append(out, expression[begin:i]), i+1
		}
	}
	return append(out, expression[begin:])
}

// canonicalPattern checks one regular expression (RE2).
func canonicalPattern(v string) (string, error) {
	if v == "" {
		return "", wrong(v, "an empty regular expression matches every line", "Write text between the |")
	}
	re, err := regexp.Compile(v)
	if err != nil {
		return "", wrong(v, "no regular expression: "+strings.TrimPrefix(err.Error(), "error parsing regexp: "), "See https://golang.org/s/re2syntax")
	}
	if re.MatchString("") {
		return "", wrong(v, "it matches an empty line", "Say what stands in the line")
	}
	return v, nil
}
