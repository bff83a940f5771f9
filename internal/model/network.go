package model

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"muster/internal/model/noderange"
)

// The limits of what a network says: RFC 791 (every host takes 576 octets; a length has 16 bits) and IEEE 802.1Q.
const (
	minMTU  = 576
	maxMTU  = 65535
	maxVLAN = 4094
)

// How a machine that boots from the network is answered.
const (
	ModeObserve = "observe" // never; what it would have been answered is recorded
	ModeProxy   = "proxy"   // with what to boot; its address is another DHCP server's
	ModeFull    = "full"    // with address and what to boot
)

// BootModes are all of them.
var BootModes = []string{ModeObserve, ModeProxy, ModeFull}

// bits is the length of the prefix, as text.
func (n *Network) bits() string {
	p, err := netip.ParsePrefix(n.Prefix)
	if err != nil {
		return ""
	}
	return strconv.Itoa(p.Bits())
}

// number is a number as text, "" for 0.
func number(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

// Contains says that an address is in the network; false also when it is none.
func (n *Network) Contains(address string) bool {
	a, err := netip.ParseAddr(address)
	if err != nil {
		return false
	}
	p, err := netip.ParsePrefix(n.Prefix)
	return err == nil && p.Contains(a.Unmap().WithZone(""))
}

func (c *checker) network(name string, n *Network) {
	tell := c.teller("network " + name)
	if string(n.Name) != name {
		tell(&Problem{What: "its document is put under another name than " + quoted(string(n.Name))})
		return
	}
	tell(CheckName(name))
	value := func(field string, a Attr, v string) bool {
		got, err := a.Canonical(v)
		switch {
		case err != nil:
			p := about("", err)
			p.What = field + ": " + p.What
			tell(p)
		case got != v:
			tell(&Problem{What: field + ": " + quoted(v) + " is not in its usual form", Do: "Write " + got})
		}
		return err == nil
	}
	if n.Prefix == "" {
		tell(&Problem{What: "it has no prefix", Why: "that is what makes it a network", Do: "Give one: prefix=10.77.0.0/16"})
	}
	if value("prefix", Attr{Type: Prefix}, n.Prefix) && n.Prefix != "" && value("gateway", Attr{Type: Address}, n.Gateway) && n.Gateway != "" && !n.Contains(n.Gateway) {
		tell(&Problem{What: "gateway: " + n.Gateway + " is outside of " + n.Prefix, Why: "no node could reach it", Do: "Give an address of the network"})
	}
	for _, d := range n.DNS {
		value("dns", Attr{Type: Address}, d)
	}
	if n.Domain != "" {
		if p := CheckName(n.Domain); p != nil {
			tell(&Problem{What: "domain: " + p.What, Why: p.Why, Do: p.Do})
		}
	}
	if n.VLAN < 0 || n.VLAN > maxVLAN {
		tell(&Problem{What: fmt.Sprintf("vlan: %d is wrong", n.VLAN), Why: fmt.Sprintf("not between 1 and %d", maxVLAN), Do: "0 is untagged"})
	}
	if n.MTU != 0 && (n.MTU < minMTU || n.MTU > maxMTU) {
		tell(&Problem{What: fmt.Sprintf("mtu: %d is wrong", n.MTU), Why: fmt.Sprintf("not between %d and %d", minMTU, maxMTU), Do: "0 is the port's own"})
	}
	if n.Mode != "" && !slices.Contains(BootModes, n.Mode) {
		tell(&Problem{What: "mode: " + quoted(n.Mode) + " is wrong", Do: "Choose of " + strings.Join(BootModes, ", ")})
	}
	tell(checkComment(n.Comment))
	for m := range holding(c.old.inNet, name) { // what it says may stand in their expressions
		if n := c.s.Node(m); n != nil && !c.put[n] {
			c.expressions(n, nil)
		}
	}
}

func (c *checker) noNetwork(name string) *Problem {
	if c.s.Network(NetworkName(name)) != nil {
		return nil
	}
	p := &Problem{What: "no network " + quoted(name), Do: "muster network add " + name + " prefix=…"}
	if len(c.found) < maxProblems {
		if near := noderange.Nearest(name, func(yield func(string) bool) {
			for n := range c.s.Networks() {
				if !yield(string(n.Name)) {
					return
				}
			}
		}); near != "" {
			p.Do = "Did you mean " + near + "?"
		}
	}
	return p
}

// networkRemoved checks that no node is in a network that is gone, and no group names it.
func (c *checker) networkRemoved(name string) {
	var nodes []string
	for n := range holding(c.s.inNet, name) {
		nodes = append(nodes, string(n))
	}
	if len(nodes) > 0 {
		c.tell(Problem{Of: "network " + name, What: fmt.Sprintf("%d nodes are in it", len(nodes)), Why: cut(noderange.Fold(nodes)), Do: "Give their ports another network first"})
	}
	for g := range c.s.Groups() {
		for _, a := range c.s.byGroup[g.Name].ports {
			if isRef(a) && g.Attrs[a] == name {
				c.tell(Problem{Of: "network " + name, What: "group " + string(g.Name) + " names it", Why: "its " + string(a), Do: "Set another one first"})
			}
		}
	}
}

// placed checks that the addresses of a node are inside of the networks that its ports are in.
func (c *checker) placed(name NodeName) {
	if p := c.s.ports.get(name); p == nil || len(p.nets) == 0 {
		return
	}
	e := evaluator{s: c.s, n: c.s.Node(name)}
	refs := c.s.portAttrs(e.n)
	slices.Sort(refs)
	for _, ref := range refs {
		if !isRef(ref) {
			continue
		}
		v, o, err := c.s.value(e.n, ref, refDoc, c.s.find(e.n, ref, refDoc, false))
		if err != nil || v == "" {
			continue // told as a value
		}
		network := c.s.Network(NetworkName(v))
		if network == nil {
			if hasExpression(o.written) { // else it is told where it is written
				p := c.noNetwork(v)
				p.Node, p.Attr = name, ref
				c.tell(*p)
			}
			continue
		}
		at := ref[:len(ref)-len("network")] + "address"
		if ip, err := e.attr(at); err == nil && ip != "" && !network.Contains(ip) {
			c.tell(Problem{Node: name, Attr: at, What: ip + " is outside of " + network.Prefix, Why: "that is network " + v + ", which " + string(ref) + " names", Do: "Give it an address inside, or name another network"})
		}
	}
}

// refDoc documents net.<name>.network.
var refDoc, _ = Lookup("net.x.network")
