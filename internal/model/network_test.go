package model

import (
	"fmt"
	"testing"

	"muster/internal/model/noderange"
)

func network(name, prefix, gateway string, dns ...string) Op {
	return Op{KindNetwork, name, &Network{Name: NetworkName(name), Prefix: prefix, Gateway: gateway, DNS: dns}}
}

func netWorld(t testing.TB) *Snapshot {
	s := apply(t, Empty(),
		Op{KindNetwork, "compute", &Network{Name: "compute", Prefix: "10.77.0.0/16", Gateway: "10.77.0.1", DNS: []string{"10.77.0.2", "10.77.0.3"}, Domain: "hpc.example.org", VLAN: 7, MTU: 9000}},
		network("bmc", "fd00:1::/64", ""),
		group("rack1", "", "net.boot.network=compute"),
		group("odd", "custom.side=odd", "net.side.network={custom.side.replace('odd', 'compute')}"),
		node("n1", []GroupName{"rack1"}, "net.boot.address={net.boot.gateway+n1+100}"),
		node("n2", []GroupName{"rack1"}, "net.boot.address=10.77.2.2", "net.boot.gateway=10.77.0.254", "net.boot.dns=", "net.boot.mtu=1500", "net.ipmi.network=bmc"),
		node("n3", nil, "custom.side=odd", "net.boot.dns=10.9.9.9"),
	)
	var ops []Op
	for n := range s.Nodes() {
		ops = append(ops, Op{KindNode, string(n.Name), n})
	}
	if p := Check(s, ops); p != nil {
		t.Fatal(told(p))
	}
	return s
}

func TestANetworkGivesWhatThePortDoesNotSet(t *testing.T) {
	s := netWorld(t)
	for _, c := range []struct{ node, attr, value, from string }{
		{"n1", "net.boot.prefix", "16", "network compute"},
		{"n1", "net.boot.gateway", "10.77.0.1", "network compute"},
		{"n1", "net.boot.dns", "10.77.0.2,10.77.0.3", "network compute"},
		{"n1", "net.boot.domain", "hpc.example.org", "network compute"},
		{"n1", "net.boot.mtu", "9000", "network compute"},
		{"n1", "net.boot.vlan", "7", "network compute"},
		{"n1", "net.boot.address", "10.77.0.102", "node"},
		{"n1", "net.boot.mac", "", ""},
		{"n1", "net.eth1.prefix", "", ""},
		{"n2", "net.boot.gateway", "10.77.0.254", "node"},
		{"n2", "net.boot.dns", "", "node"}, // masked
		{"n2", "net.boot.mtu", "1500", "node"},
		{"n2", "net.boot.vlan", "7", "network compute"},
		{"n2", "net.ipmi.prefix", "64", "network bmc"},
		{"n2", "net.ipmi.gateway", "", ""},
		{"n3", "net.side.prefix", "16", "network compute"},
		{"n3", "net.boot.prefix", "", ""},
	} {
		got, err := s.Attrs(s.Node(NodeName(c.node)), []string{c.attr})
		if err != nil || len(got) != 1 || got[0].Value != c.value || got[0].From != c.from {
			t.Errorf("%s %s: got %+v, %v; want %q from %q", c.node, c.attr, got, err, c.value, c.from)
		}
	}
	var names []AttrName
	all, err := s.Attrs(s.Node("n1"), nil)
	for _, v := range all {
		names = append(names, v.Name)
	}
	if got, want := fmt.Sprint(names, err), "[net.boot.address net.boot.dns net.boot.domain net.boot.gateway net.boot.mtu net.boot.network net.boot.prefix net.boot.vlan] <nil>"; got != want {
		t.Errorf("all of n1: %s", got)
	}
	for expr, want := range map[string]string{"net.boot.vlan=7": "[n1 n2]", "net.*.gateway=10.77.0.1": "[n1 n3]"} {
		if got, err := s.Expand(expr, noderange.Options{}); fmt.Sprint(got) != want || err != nil {
			t.Errorf("%s: %v, %v; want %s", expr, got, err, want)
		}
	}
	moved := apply(t, s, network("compute", "10.0.0.0/8", "10.5.0.0"))
	if n := moved.NodeByAddress("10.5.0.101"); n == nil || n.Name != "n1" || s.NodeByAddress("10.5.0.101") != nil {
		t.Errorf("the address that depends on the gateway did not follow it: %v", n)
	}
	if moved.Described != moved.Revision {
		t.Error("Described did not move")
	}
}

func TestCheckOfNetworks(t *testing.T) {
	s := netWorld(t)
	for _, c := range []struct {
		name string
		ops  []Op
		want string
	}{
		{"good", []Op{network("a-1", "fd00:2::/64", "fd00:2::1", "10.0.0.1"), node("n9", nil, "net.boot.network=a-1", "net.boot.address=fd00:2::9")}, ""},
		{"all wrong at once", []Op{{KindNetwork, "x_y", &Network{Name: "x_y", Prefix: "10.0.0.1/8", Gateway: "10.0.0.1", DNS: []string{"z", "FD00::1"}, Domain: "a..b", VLAN: 4095, MTU: 7, Comment: "\x01"}}}, `network x_y: x_y cannot be a name: it holds '_'. Use letters, digits, dashes and dots (RFC 1123)
network x_y: prefix: 10.0.0.1/8 is wrong: an address inside of a prefix. Write 10.0.0.0/8
network x_y: dns: z is wrong: no IP address. Write 10.77.1.1 or fd00::1
network x_y: dns: FD00::1 is not in its usual form. Write fd00::1
network x_y: domain: a..b cannot be a name: a part between dots is empty. Use letters, digits, dashes and dots (RFC 1123)
network x_y: vlan: 4095 is wrong: not between 1 and 4094. 0 is untagged
network x_y: mtu: 7 is wrong: not between 576 and 65535. 0 is the port's own
network x_y: comment: "\x01" is not readable text. Leave control characters out`},
		{"no prefix", []Op{network("x", "", "")}, "network x: it has no prefix: that is what makes it a network. Give one: prefix=10.77.0.0/16"},
		{"gateway outside", []Op{network("x", "10.1.0.0/16", "10.2.0.1")}, "network x: gateway: 10.2.0.1 is outside of 10.1.0.0/16: no node could reach it. Give an address of the network"},
		{"an address outside", []Op{node("n4", []GroupName{"rack1"}, "net.boot.address=10.78.0.1", "net.ipmi.address=10.1.1.1", "net.ipmi.network=bmc")}, `n4: net.boot.address: 10.78.0.1 is outside of 10.77.0.0/16: that is network compute, which net.boot.network names. Give it an address inside, or name another network
n4: net.ipmi.address: 10.1.1.1 is outside of fd00:1::/64: that is network bmc, which net.ipmi.network names. Give it an address inside, or name another network`},
		{"a network that moves away", []Op{network("compute", "10.77.0.0/24", "10.77.0.1")}, "n2: net.boot.address: 10.77.2.2 is outside of 10.77.0.0/24: that is network compute, which net.boot.network names. Give it an address inside, or name another network"},
		{"a network that an expression uses", []Op{network("compute", "10.77.0.0/16", "")}, "n1: net.boot.address: {net.boot.gateway+n1+100} has no value: net.boot.gateway is not set"},
		{"a group that places its members elsewhere", []Op{group("rack1", "", "net.boot.network=bmc")}, `n1: net.boot.address: {net.boot.gateway+n1+100} has no value: net.boot.gateway is not set
n2: net.boot.address: 10.77.2.2 is outside of fd00:1::/64: that is network bmc, which net.boot.network names. Give it an address inside, or name another network`},
		{"unknown", []Op{group("rack1", "", "net.boot.network=compuet"), node("n5", nil, "net.a.network=zzz", "net.b.network=no{n1}")}, `group rack1: net.boot.network: no network compuet. Did you mean compute?
n1: net.boot.address: {net.boot.gateway+n1+100} has no value: net.boot.gateway is not set
n5: net.a.network: no network zzz. muster network add zzz prefix=…
n5: net.b.network: no network no5. muster network add no5 prefix=…`},
		{"in use", []Op{{Kind: KindNetwork, Name: "compute"}, {Kind: KindNetwork, Name: "bmc"}}, `network compute: 3 nodes are in it: n[1-3]. Give their ports another network first
network compute: group rack1 names it: its net.boot.network. Set another one first
network bmc: 1 nodes are in it: n2. Give their ports another network first
n3: net.side.network: no network compute. muster network add compute prefix=…`},
		{"not in use any more", []Op{{Kind: KindNetwork, Name: "bmc"}, node("n2", nil)}, ""},
		{"a circle", []Op{node("n5", nil, "net.a.network={net.a.domain}")}, "n5: net.a.network: {net.a.domain} has no value: net.a.network: the expressions go in a circle: net.a.network uses net.a.network. Give one of them a value of its own"},
	} {
		if got := told(Check(s, c.ops)); got != c.want {
			t.Errorf("%s: got\n%s\nwant\n%s", c.name, got, c.want)
		}
	}
}

func TestListsAddToWhatIsInherited(t *testing.T) {
	s := apply(t, Empty(),
		Op{KindNetwork, "c", &Network{Name: "c", Prefix: "10.0.0.0/8", DNS: []string{"10.0.0.1"}}},
		group("everything", "", "image.kernelargs=quiet  audit=0", "net.boot.network=c"),
		group("gpu", "", "image.kernelargs=+ iommu=pt quiet", "net.boot.dns=+ 10.0.0.2"),
		group("own", "", "image.kernelargs=nosmt"),
		group("none", "", "image.kernelargs="),
		group("dyn", "~n.*[89]", "image.kernelargs=+ dyn={n1}"),
		node("n1", nil),
		node("n2", []GroupName{"gpu"}, "image.kernelargs=+ host={nodename}"),
		node("n3", []GroupName{"gpu", "own"}, "net.boot.dns=+ 10.0.0.3 10.0.0.1"),
		node("n4", []GroupName{"gpu", "none"}),
		node("n5", []GroupName{"gpu"}, "image.kernelargs=alone"),
		node("n8", []GroupName{"gpu", "dyn"}),
		node("n9", nil, "image.kernelargs=+ x{n2}"),
	)
	for _, c := range []struct{ node, attr, value, from, written string }{
		{"n1", "image.kernelargs", "quiet audit=0", "group everything", ""},
		{"n2", "image.kernelargs", "quiet audit=0 iommu=pt host=n2", "group everything + group gpu + node", "quiet  audit=0 + iommu=pt quiet + host={nodename}"},
		{"n3", "image.kernelargs", "nosmt iommu=pt quiet", "group own + group gpu", ""},
		{"n4", "image.kernelargs", "iommu=pt quiet", "group gpu", ""},
		{"n5", "image.kernelargs", "alone", "node", ""},
		{"n8", "image.kernelargs", "quiet audit=0 dyn=8 iommu=pt", "group everything + group dyn + group gpu", "quiet  audit=0 + dyn={n1} + iommu=pt quiet"},
		{"n1", "net.boot.dns", "10.0.0.1", "network c", ""},
		{"n2", "net.boot.dns", "10.0.0.1,10.0.0.2", "network c + group gpu", ""},
		{"n3", "net.boot.dns", "10.0.0.1,10.0.0.2,10.0.0.3", "network c + group gpu + node", ""},
	} {
		got, err := s.Attrs(s.Node(NodeName(c.node)), []string{c.attr})
		if want := (Value{AttrName(c.attr), c.value, c.from, c.written, false}); err != nil || len(got) != 1 || got[0] != want {
			t.Errorf("%s %s: got %+v, %v\nwant %+v", c.node, c.attr, got, err, want)
		}
	}
	if v, err := s.Attr(s.Node("n9"), "image.kernelargs"); err == nil || v != "" {
		t.Errorf("n9: %q, %v", v, err)
	}
	if got, err := s.Expand("image.kernelargs=~.*iommu=pt.*", noderange.Options{Known: true}); err == nil {
		t.Errorf("a range over a value that cannot be worked out: %v", got)
	}
}
