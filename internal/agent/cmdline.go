package agent

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"

	"muster/internal/model"
)

// arguments is what the boot script says on the kernel's command line:
//
//	muster.server=https://ADDRESS:PORT[,…]  muster.pin=sha256:HEX  muster.token=TOKEN  muster.node=NAME
//	muster.net=MAC,ADDRESS/PREFIX[,GATEWAY[,DNS…]]  muster.debug
//
// or what the boot loader on a disk says:
//
//	muster.root=UUID  muster.node=NAME  muster.array=UUID[,UUID…]  muster.volume=GROUP/VOLUME
type arguments struct {
	Server string       // base addresses of the managers, with commas between them
	Pin    string       // "sha256:" and the SHA-256 in hex of the managers' public key (SubjectPublicKeyInfo)
	Token  model.Secret // admits one key, once
	Node   model.NodeName
	Net    *Net // nil: ask by DHCP

	Root   string   // UUID of the file system on disk that is the root; "": it is fetched
	Arrays []string // UUIDs of the arrays that it lies on
	Volume string   // the logical volume that it is, "GROUP/VOLUME"; "" for none

	// Debug stops the machine on a failure instead of starting it again.
	Debug bool
}

// Net is the network of the boot port. Only MAC is set when the rest is to be asked by DHCP on that port.
type Net struct {
	MAC     net.HardwareAddr
	Address netip.Prefix // the node's address with the length of its network's prefix
	Gateway netip.Addr   // may be unset
	DNS     []netip.Addr
}

// parseArguments reads a kernel command line. Its error names every argument that is missing or wrong, and never shows the token.
func parseArguments(line string) (arguments, error) {
	var a arguments
	var problems []error
	wrong := func(key, value, want string) {
		problems = append(problems, fmt.Errorf("%s=%s: want %s", key, value, want))
	}
	for _, word := range words(line) {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "muster.server":
			var at []string
			for s := range strings.SplitSeq(value, ",") {
				u, err := url.Parse(s)
				if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
					wrong(key, value, "https://ADDRESS:PORT[,https://ADDRESS:PORT…]")
					at = nil
					break
				}
				at = append(at, "https://"+u.Host)
			}
			a.Server = strings.Join(at, ",")
		case "muster.pin":
			h, ok := strings.CutPrefix(value, "sha256:")
			if b, err := hex.DecodeString(h); !ok || err != nil || len(b) != 32 {
				wrong(key, value, "sha256: and 64 hex digits")
				continue
			}
			a.Pin = strings.ToLower(value)
		case "muster.token":
			a.Token = model.NewSecret(value)
		case "muster.node":
			a.Node = model.NodeName(value)
		case "muster.net":
			n, err := parseNet(value)
			if err != nil {
				problems = append(problems, fmt.Errorf("%s=%s: %w", key, value, err))
				continue
			}
			a.Net = n
		case "muster.root":
			a.Root = strings.ToLower(value)
		case "muster.array":
			a.Arrays = strings.Split(value, ",")
		case "muster.volume":
			a.Volume = value
		case "muster.debug":
			a.Debug = value != "0"
		}
	}
	for key, missing := range map[string]bool{
		"muster.server": a.Server == "" && !strings.Contains(line, "muster.server="),
		"muster.pin":    a.Pin == "" && !strings.Contains(line, "muster.pin="),
		"muster.token":  a.Token.Empty(),
		"muster.node":   a.Node == "",
	} {
		if missing && (a.Root == "" || key == "muster.node") {
			problems = append(problems, fmt.Errorf("%s is missing", key))
		}
	}
	return a, errors.Join(problems...)
}

func parseNet(value string) (*Net, error) {
	f := strings.Split(value, ",")
	mac, err := net.ParseMAC(f[0])
	if err != nil || len(mac) != 6 {
		return nil, fmt.Errorf("want MAC,ADDRESS/PREFIX,GATEWAY,DNS: %q is no MAC address", f[0])
	}
	n := &Net{MAC: mac}
	if len(f) == 1 {
		return n, nil
	}
	if n.Address, err = netip.ParsePrefix(f[1]); err != nil {
		return nil, fmt.Errorf("want ADDRESS/PREFIX: %w", err)
	}
	if len(f) > 2 && f[2] != "" {
		if n.Gateway, err = netip.ParseAddr(f[2]); err != nil {
			return nil, fmt.Errorf("gateway: %w", err)
		}
	}
	for _, d := range f[min(3, len(f)):] {
		if d == "" {
			continue
		}
		a, err := netip.ParseAddr(d)
		if err != nil {
			return nil, fmt.Errorf("DNS: %w", err)
		}
		n.DNS = append(n.DNS, a)
	}
	return n, nil
}

// String gives the form that parseNet reads.
func (n *Net) String() string {
	f := []string{n.MAC.String()}
	if n.Address.IsValid() {
		gateway := ""
		if n.Gateway.IsValid() {
			gateway = n.Gateway.String()
		}
		f = append(f, n.Address.String(), gateway)
		for _, d := range n.DNS {
			f = append(f, d.String())
		}
	}
	return strings.Join(f, ",")
}

// words splits a command line at blanks outside of double quotes, as the kernel does (kernel: lib/cmdline.c, next_arg).
func words(line string) []string {
	var out []string
	var word strings.Builder
	quoted, any := false, false
	end := func() {
		if any {
			out = append(out, word.String())
		}
		word.Reset()
		any = false
	}
	for _, r := range strings.TrimRight(line, "\x00") {
		switch {
		case r == '"':
			quoted, any = !quoted, true
		case !quoted && (r == ' ' || r == '\t' || r == '\n'):
			end()
		default:
			word.WriteRune(r)
			any = true
		}
	}
	end()
	return out
}
