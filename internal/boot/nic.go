package boot

import (
	"cmp"
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
	mode    string // of model.BootModes
	address netip.Addr
	prefix  int
	gateway netip.Addr // zero when there is none
	dns     []netip.Addr
}

// cidr is the address with the length of its prefix.
func (n nic) cidr() netip.Prefix { return netip.PrefixFrom(n.address, n.prefix) }

// findNIC reads the port of the node that has the request's MAC. Where several have it (a port with an IPv4 and an IPv6 address, or one
// that is moved between networks), it is the one with an address of the request's family and on the network that the machine is on.
// The error names the attribute to set; mode and name are right also then.
func findNIC(s *model.Snapshot, n *model.Node, r Request) (nic, error) {
	best, rank := nic{mac: r.MAC}, 0
	var why error
	consider := func(name, mac string) {
		if m, ok := canonicalMAC(mac); !ok || m != r.MAC {
			return
		}
		p := nic{mac: r.MAC, name: name}
		err := p.read(s, n, r.Server.Network)
		is := 1
		switch {
		case err != nil:
		case p.address.Is4() != r.v4(): // of the other family
			is = 2
		case !p.cidr().Contains(r.link()):
			is = 3
		default:
			is = 4
		}
		if is > rank {
			best, rank, why = p, is, err
		}
	}
	// It is nearly always the port that boots, and looking for all of them takes longer than all else.
	if mac, err := s.Attr(n, "net.boot.mac"); err == nil {
		if consider("boot", mac); rank == 4 {
			return best, nil
		}
	}
	macs, err := s.Attrs(n, []string{"net.*.mac"})
	for _, v := range macs {
		consider(strings.TrimSuffix(strings.TrimPrefix(string(v.Name), "net."), ".mac"), v.Value)
	}
	if rank == 0 {
		return best, cmp.Or(err, fmt.Errorf("no net.*.mac of %s is %s any more", n.Name, r.MAC))
	}
	return best, why
}

// read reads what the attributes say of the port. On is the network of this service on its interface.
func (p *nic) read(s *model.Snapshot, n *model.Node, on netip.Prefix) error {
	var err error
	if p.mode, err = p.attr(s, n, "mode"); err != nil {
		p.mode = model.ModeObserve
		return err
	}
	text, err := p.attr(s, n, "address")
	if err != nil {
		return err
	}
	if text == "" {
		return fmt.Errorf("net.%s.address is not set; muster set %s net.%s.address=ADDRESS", p.name, n.Name, p.name)
	}
	if p.address, err = netip.ParseAddr(text); err != nil || p.address.Zone() != "" {
		return fmt.Errorf("net.%s.address: %q is not an IP address", p.name, text)
	}
	return p.surroundings(s, n, on)
}

// surroundings reads what the port needs besides its address.
func (p *nic) surroundings(s *model.Snapshot, n *model.Node, on netip.Prefix) error {
	text, err := p.attr(s, n, "prefix")
	if err != nil {
		return err
	}
	switch {
	case text != "":
		if p.prefix, err = strconv.Atoi(text); err != nil || p.prefix < 1 || p.prefix > p.address.BitLen() {
			return fmt.Errorf("net.%s.prefix: %q is not a length from 1 to %d", p.name, text, p.address.BitLen())
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
		if p.gateway, err = netip.ParseAddr(text); err != nil || p.gateway.Is4() != p.address.Is4() {
			return fmt.Errorf("net.%s.gateway: %q is not an address of the kind of %s", p.name, text, p.address)
		}
	}
	if text, err = p.attr(s, n, "dns"); err != nil {
		return err
	}
	for _, f := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' }) {
		a, err := netip.ParseAddr(f)
		if err != nil {
			return fmt.Errorf("net.%s.dns: %q is not an IP address", p.name, f)
		}
		p.dns = append(p.dns, a)
	}
	return nil
}

// servers are the name servers of the port's own family.
func (p *nic) servers() []netip.Addr {
	var out []netip.Addr
	for _, a := range p.dns {
		if a.Is4() == p.address.Is4() {
			out = append(out, a)
		}
	}
	return out
}

func (p *nic) attr(s *model.Snapshot, n *model.Node, what string) (string, error) {
	return s.Attr(n, model.AttrName("net."+p.name+"."+what))
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
