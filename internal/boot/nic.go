package boot

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"muster/internal/model"
)

// nic is one network port of a node, as its attributes net.<name>.* describe it.
type nic struct {
	name    string // "boot" of net.boot.mac
	mac     string
	address netip.Addr
	prefix  int
	gateway netip.Addr // zero when there is none
	dns     []netip.Addr
}

// cidr is the address with the length of its prefix.
func (n nic) cidr() netip.Prefix { return netip.PrefixFrom(n.address, n.prefix) }

// findNIC reads the port of the node that has the MAC. The error names the attribute to set.
func findNIC(s *model.Snapshot, n *model.Node, mac string, on netip.Prefix) (nic, error) {
	p := nic{mac: mac}
	macs, err := s.Attrs(n, []string{"net.*.mac"})
	for _, v := range macs {
		if m, ok := canonicalMAC(v.Value); ok && m == mac {
			p.name = strings.TrimSuffix(strings.TrimPrefix(string(v.Name), "net."), ".mac")
			break
		}
	}
	if p.name == "" && err != nil {
		return p, err
	}
	if p.name == "" {
		return p, fmt.Errorf("no net.*.mac of %s is %s any more", n.Name, mac)
	}
	text, err := p.attr(s, n, "address")
	if err != nil {
		return p, err
	}
	if text == "" {
		return p, fmt.Errorf("net.%s.address is not set; muster set %s net.%s.address=ADDRESS", p.name, n.Name, p.name)
	}
	if p.address, err = parseIPv4(text); err != nil {
		return p, fmt.Errorf("net.%s.address: %w", p.name, err)
	}
	return p, p.surroundings(s, n, on)
}

// surroundings reads what the port needs besides its address.
func (p *nic) surroundings(s *model.Snapshot, n *model.Node, on netip.Prefix) error {
	text, err := p.attr(s, n, "prefix")
	if err != nil {
		return err
	}
	switch {
	case text != "":
		if p.prefix, err = strconv.Atoi(text); err != nil || p.prefix < 1 || p.prefix > 32 {
			return fmt.Errorf("net.%s.prefix: %q is not a length from 1 to 32", p.name, text)
		}
	case on.IsValid() && on.Contains(p.address):
		p.prefix = on.Bits()
	default:
		return fmt.Errorf("net.%s.prefix is not set and %s is not in the network %s of this service; muster set %s net.%s.prefix=LENGTH",
			p.name, p.address, on, n.Name, p.name)
	}
	if text, err = p.attr(s, n, "gateway"); err != nil {
		return err
	}
	if text != "" {
		if p.gateway, err = parseIPv4(text); err != nil {
			return fmt.Errorf("net.%s.gateway: %w", p.name, err)
		}
	}
	if text, err = p.attr(s, n, "dns"); err != nil {
		return err
	}
	for _, f := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' }) {
		a, err := parseIPv4(f)
		if err != nil {
			return fmt.Errorf("net.%s.dns: %w", p.name, err)
		}
		p.dns = append(p.dns, a)
	}
	return nil
}

func (p *nic) attr(s *model.Snapshot, n *model.Node, what string) (string, error) {
	return s.Attr(n, model.AttrName("net."+p.name+"."+what))
}

func parseIPv4(text string) (netip.Addr, error) {
	a, err := netip.ParseAddr(text)
	if err != nil || !a.Is4() {
		return netip.Addr{}, fmt.Errorf("%q is not an IPv4 address", text)
	}
	return a, nil
}

// canonicalMAC returns an Ethernet address as 52:54:00:77:00:01, from six pairs of hex digits with ":" or "-" between
// them.
func canonicalMAC(text string) (string, bool) {
	if len(text) != 17 {
		return "", false
	}
	b := []byte(strings.ToLower(text))
	for i, c := range b {
		switch {
		case i%3 == 2 && (c == ':' || c == '-'):
			b[i] = ':'
		case i%3 != 2 && (c >= '0' && c <= '9' || c >= 'a' && c <= 'f'):
		default:
			return "", false
		}
	}
	return string(b), true
}
