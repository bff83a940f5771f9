package model

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"muster/internal/model/noderange"
	"pgregory.net/rapid"
)

func node(name string, groups []GroupName, attrs ...string) Op {
	return Op{KindNode, name, &Node{Name: NodeName(name), Groups: groups, Attrs: attributeMap(attrs)}}
}

func group(name, rng string, attrs ...string) Op {
	return Op{KindGroup, name, &Group{Name: GroupName(name), Range: rng, Attrs: attributeMap(attrs)}}
}

func attributeMap(attrs []string) map[AttrName]string {
	m := map[AttrName]string{}
	for _, a := range attrs {
		name, value, _ := strings.Cut(a, "=")
		m[AttrName(name)] = value
	}
	return m
}

func TestApplyKeepsTheOldWorld(t *testing.T) {
	old := apply(t, Empty(), node("n2", nil, "net.boot.mac=52:54:00:00:00:02"), node("n10", nil), node("n1", nil))
	next := apply(t, old, Op{Kind: KindNode, Name: "n2"}, node("n3", nil), node("n1", nil, "net.boot.mac=52:54:00:00:00:01"))
	names := func(s *Snapshot) string {
		var out []string
		for n := range s.Nodes() {
			out = append(out, string(n.Name))
		}
		return strings.Join(out, " ")
	}
	if got := names(old); got != "n1 n2 n10" {
		t.Errorf("old world: %s", got)
	}
	if got := names(next); got != "n1 n3 n10" {
		t.Errorf("new world: %s", got)
	}
	if old.NodeByMAC("52:54:00:00:00:02") == nil || old.NodeByMAC("52:54:00:00:00:01") != nil {
		t.Error("the old index changed")
	}
	if next.NodeByMAC("52:54:00:00:00:02") != nil || next.NodeByMAC("52-54-00-00-00-01") == nil {
		t.Error("the new index did not")
	}
	if got := next.Node("n3").Revision; got != 2 {
		t.Errorf("revision %d", got)
	}
	if next.Len() != 3 || next.Names().Len() != 3 || old.Names().Len() != 3 || next.Names() == old.Names() {
		t.Error("wrong index of names")
	}
	if s := apply(t, next, node("n1", nil)); s.Names() != next.Names() {
		t.Error("the index of names was made anew without need")
	}
	if _, err := Apply(next, &Change{Ops: []Op{{Kind: "widget", Name: "x"}}}); err == nil {
		t.Error("an unknown family was taken")
	}
	if _, err := Apply(next, &Change{Ops: []Op{{KindNode, "x", &Group{}}}}); err == nil {
		t.Error("a document of another family was taken")
	}
	var gone *Node
	if s := apply(t, next, Op{KindNode, "n1", gone}); s.Node("n1") != nil {
		t.Error("a nil document did not remove")
	}
}

func TestInheritance(t *testing.T) {
	s := apply(t, Empty(),
		group("everything", "", "location.site=here", "bmc.user=everyone", "console.speed=9600", "net.boot.dns=10.0.0.1"),
		group("a", "", "bmc.user=a", "location.room=a", "net.boot.address=10.0.0.{n1}"),
		group("b", "", "bmc.user=b", "location.rack=b", "location.room=b", "node.comment=not inherited"),
		group("odd", "~.*[13579]", "bmc.user=odd", "location.unit={n1}", "location.rack=odd"),
		group("second", "bmc.user=own", "location.room=second"),
		node("n1", nil),
		node("n2", []GroupName{"a", "b"}),
		node("n3", []GroupName{"b", "a", "gone"}, "bmc.user=own", "console.speed=", "net.boot.dns=10.0.0.2 10.0.0.3"),
	)
	for _, c := range []struct{ node, attr, value, from string }{
		{"n1", "location.site", "here", "group everything"},
		{"n1", "bmc.user", "odd", "group odd"},
		{"n1", "location.unit", "1", "group odd"},
		{"n1", "console.speed", "9600", "group everything"},
		{"n1", "console.device", "ttyS0", "default"},
		{"n1", "location.room", "", ""},
		{"n2", "bmc.user", "a", "group a"},
		{"n2", "location.room", "a", "group a"},
		{"n2", "location.rack", "b", "group b"},
		{"n2", "net.boot.address", "10.0.0.2", "group a"},
		{"n2", "node.comment", "", ""},
		{"n3", "location.room", "b", "group b"},
		{"n3", "location.rack", "b", "group b"}, // listed groups before dynamic ones
		{"n3", "bmc.user", "own", "node"},
		{"n3", "console.speed", "", "node"}, // masked, the default too
		{"n3", "net.boot.dns", "10.0.0.2,10.0.0.3", "node"},
	} {
		got, err := s.Attrs(s.Node(NodeName(c.node)), []string{c.attr})
		if err != nil || len(got) != 1 || got[0].Value != c.value || got[0].From != c.from {
			t.Errorf("%s %s: got %+v, %v; want %q from %q", c.node, c.attr, got, err, c.value, c.from)
		}
	}
	groups := fmt.Sprint(s.groupsOf(s.Node("n1"), false), s.groupsOf(s.Node("n2"), false), s.groupsOf(s.Node("n3"), false))
	if want := "[odd everything] [a b everything] [b a gone odd second everything]"; groups != want {
		t.Errorf("groups %s, want %s", groups, want)
	}
	members := fmt.Sprint(s.Members("a"), s.Members("odd"), s.Members("everything"), s.Members("none"))
	if want := "[n2 n3] [n1 n3] [n1 n2 n3] []"; members != want {
		t.Errorf("members %s, want %s", members, want)
	}
	for expr, want := range map[string]string{
		"odd": "n1,n3", "@a": "n2,n3", "everything,-odd": "n2", "net.boot.address=10.0.0.2": "n2", "net.*.address=010.0.0.2": "",
		"bmc.user=~o.*": "n1,n3", "location.*=second": "", "net.*.dns=~.*\\.3": "n3", "location.room=": "n1", "location.unit!=": "n1,n3",
	} {
		got, err := s.Expand(expr, noderange.Options{})
		if fmt.Sprint(got) != fmt.Sprint(strings.FieldsFunc(want, func(r rune) bool { return r == ',' })) || err != nil {
			t.Errorf("%s: %v, %v; want %s", expr, got, err, want)
		}
	}
	for expr, want := range map[string]string{
		"bmc.password=x": "noderange, column 1: bmc.password is secret: asking for it would tell it. Ask for another attribute",
		"n1,bmc.usr=x":   "noderange, column 4: no attribute bmc.usr. Did you mean bmc.user?",
	} {
		if _, err := s.Expand(expr, noderange.Options{}); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", expr, err, want)
		}
	}
}

// A range with a glob asks for all attributes of a node, and so for its groups: not for the dynamic ones, or it asks itself.
func TestDynamicGroupWithAGlobInItsRange(t *testing.T) {
	ops := []Op{
		group("compute", "", "custom.color=red"),
		group("red", "custom.*=red", "custom.hot=red", "net.boot.address=10.0.0.{n1}"),
		group("wired", "net.*.mac=~.+", "bmc.user=wired"),
		node("n1", []GroupName{"compute"}),
		node("n2", nil, "net.boot.mac=52:54:00:00:00:02"),
	}
	if p := Check(Empty(), ops); p != nil {
		t.Fatal(p)
	}
	s := apply(t, Empty(), ops...)
	if got := fmt.Sprint(s.Members("red"), s.Members("wired")); got != "[n1] [n2]" {
		t.Errorf("members %s", got)
	}
	if n := s.NodeByAddress("10.0.0.1"); n == nil || n.Name != "n1" {
		t.Errorf("10.0.0.1 is of %v", n)
	}
	if p := Check(s, []Op{group("compute", "", "custom.color=blue")}); p != nil {
		t.Error(p)
	}
	if s = apply(t, s, group("compute", "", "custom.color=blue")); s.NodeByAddress("10.0.0.1") != nil {
		t.Error("10.0.0.1 is still of n1, which is in red no more")
	}
}

func TestAttrs(t *testing.T) {
	s := apply(t, Empty(), group("g", "", "custom.b=x", "net.eth0.address=10.0.{n1}.1"),
		node("n7", []GroupName{"g"}, "bmc.password=sealed:v1:abc", "net.eth0.mac=52-54-00-AA-00-01", "custom.bad={n2}"))
	show := func(globs ...string) string {
		v, err := s.Attrs(s.Node("n7"), globs)
		return fmt.Sprint(v, err)
	}
	bad := " n7: custom.bad: {n2} has no value: the name n7 has 1 numbers, n2 is not there"
	for _, c := range []struct{ got, want string }{
		{show(), "[{bmc.password ******** node  true} {custom.b x group g  false} {net.eth0.address 10.0.7.1 group g 10.0.{n1}.1 false} {net.eth0.mac 52:54:00:aa:00:01 node  false}]" + bad},
		{show("net.*.mac", "boot.count"), "[{boot.count 3 default  false} {net.eth0.mac 52:54:00:aa:00:01 node  false}] <nil>"},
		{show("net.eth1.mac"), "[{net.eth1.mac    false}] <nil>"},
		{show("ssh.*"), "[{ssh.port 22 default  false} {ssh.user root default  false}] <nil>"},
		{show("bcm.address"), "[] no attribute bcm.address. Did you mean bmc.address?"},
	} {
		if c.got != c.want {
			t.Errorf("got  %s\nwant %s", c.got, c.want)
		}
	}
	if v, err := s.Attr(s.Node("n7"), "bmc.password"); v != "sealed:v1:abc" || err != nil {
		t.Errorf("%s, %v", v, err)
	}
}

func TestNodeByAddressLeavesTheZoneOut(t *testing.T) {
	s, n := one(t, "n1", map[AttrName]string{"net.a.address": "fe80::1%eth0", "net.b.address": "10.0.0.1"})
	for _, a := range []string{"fe80::1", "fe80::1%br0", "fe80:0::1", "10.0.0.1", "::ffff:10.0.0.1"} {
		if s.NodeByAddress(a) != n {
			t.Errorf("%s is not found", a)
		}
	}
	if s.NodeByAddress("10.0.0.2") != nil || s.NodeByAddress("x") != nil || s.NodeByMAC("x") != nil {
		t.Error("found what is not there")
	}
}

// TestIndexFollowsEveryChange compares the index after random changes with one made from all documents at once.
func TestIndexFollowsEveryChange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := Empty()
		nodeNames := []string{"n1", "n2", "n3", "n10"}
		groupNames := []GroupName{"a", "b", "odd", "everything"}
		value := map[string][]string{
			"net.boot.mac":     {"52:54:00:00:00:{n1:02x}", "{custom.mac}", ""},
			"net.boot.address": {"10.0.0.{n1}", "{custom.base+n1}", "wrong", "{net.boot.gateway+n1}"},
			"net.boot.network": {"c", "{custom.color}", ""},
			"custom.mac":       {"52:54:00:00:01:{n1:02x}", "{custom.deep}"},
			"custom.deep":      {"52:54:00:00:02:{n1:02x}"},
			"custom.base":      {"10.1.0.0", "10.2.0.0"},
			"custom.color":     {"red", "blue"},
			"location.rack":    {"r1", "r2"},
		}
		attrs := func() []string {
			var out []string
			for _, a := range []string{"net.boot.mac", "net.boot.address", "net.boot.network", "custom.mac", "custom.deep", "custom.base", "custom.color", "location.rack"} {
				if rapid.Bool().Draw(t, a) {
					out = append(out, a+"="+rapid.SampledFrom(value[a]).Draw(t, "value"))
				}
			}
			return out
		}
		next := func(ops []Op) {
			n, err := Apply(s, &Change{Revision: s.Revision + 1, Ops: ops})
			if err != nil {
				t.Fatal(err)
			}
			s = n
		}
		for range rapid.IntRange(1, 8).Draw(t, "changes") {
			var ops []Op
			for range rapid.IntRange(1, 3).Draw(t, "ops") {
				switch rapid.IntRange(0, 6).Draw(t, "kind") {
				case 6:
					n := &Network{Name: NetworkName(rapid.SampledFrom([]string{"c", "red"}).Draw(t, "network"))}
					op := Op{Kind: KindNetwork, Name: string(n.Name)}
					if n.Gateway = rapid.SampledFrom([]string{"", "10.3.0.0", "10.4.0.0"}).Draw(t, "gateway"); n.Gateway != "" {
						op.Doc = n
					}
					ops = append(ops, op)
				case 0:
					ops = append(ops, Op{Kind: KindNode, Name: rapid.SampledFrom(nodeNames).Draw(t, "node")})
				case 1:
					ops = append(ops, Op{Kind: KindGroup, Name: string(rapid.SampledFrom(groupNames).Draw(t, "group"))})
				case 2, 3:
					n := node(rapid.SampledFrom(nodeNames).Draw(t, "node"), rapid.SliceOfNDistinct(rapid.SampledFrom(groupNames[:2]), 0, 2, rapid.ID).Draw(t, "groups"), attrs()...)
					n.Doc.(*Node).Aliases = rapid.SliceOfNDistinct(rapid.SampledFrom([]NodeName{"x", "y"}), 0, 2, rapid.ID).Draw(t, "aliases")
					ops = append(ops, n)
				default:
					g := rapid.SampledFrom(groupNames).Draw(t, "group")
					r := ""
					if g == "odd" {
						r = rapid.SampledFrom([]string{"~.*[13]", "location.rack=r1", "a", "n[1-2]", "custom.c*=red", "x", "net.boot.gateway=10.3.0.0"}).Draw(t, "range")
					}
					ops = append(ops, group(string(g), r, attrs()...))
				}
			}
			next(ops)
		}
		whole := Empty()
		var ops []Op
		for n := range s.Nodes() {
			ops = append(ops, Op{KindNode, string(n.Name), n})
		}
		for g := range s.Groups() {
			ops = append(ops, Op{KindGroup, string(g.Name), g})
		}
		for n := range s.Networks() {
			ops = append(ops, Op{KindNetwork, string(n.Name), n})
		}
		whole, err := Apply(whole, &Change{Ops: ops})
		if err != nil {
			t.Fatal(err)
		}
		if got, want := indexed(s), indexed(whole); got != want {
			t.Fatalf("got  %s\nwant %s", got, want)
		}
	})
}

func indexed(s *Snapshot) string {
	var b strings.Builder
	for _, tree := range []interface{ Scan(func(holder) bool) }{s.aliases, s.macs, s.addrs, s.inNet} {
		tree.Scan(func(h holder) bool { fmt.Fprint(&b, h, " "); return true })
	}
	s.members.Scan(func(m membership) bool { fmt.Fprint(&b, m, " "); return true })
	for _, g := range s.dynamic {
		fmt.Fprint(&b, g.Name, " ")
	}
	return b.String()
}

func TestApplyOfOneSnapshotAtTheSameTime(t *testing.T) {
	s := apply(t, Empty(), node("n1", nil), node("n2", nil))
	var wait sync.WaitGroup
	for i := range 8 {
		wait.Go(func() {
			name := fmt.Sprintf("x%d", i)
			next, err := Apply(s, &Change{Ops: []Op{node(name, nil)}})
			if err != nil || next.Len() != 3 || next.Node(NodeName(name)) == nil {
				t.Errorf("%v, %d nodes", err, next.Len())
			}
			if s.Node("n1") == nil || s.Len() != 2 || s.Names().Len() != 2 {
				t.Error("the old world changed")
			}
		})
	}
	wait.Wait()
}

func TestDecode(t *testing.T) {
	want := &Node{Name: "n1", Groups: []GroupName{"a"}, Attrs: map[AttrName]string{"bmc.user": "x"}}
	b, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := Decode(KindNode, b)
	if n, ok := doc.(*Node); err != nil || !ok || n.Attrs["bmc.user"] != "x" || !slices.Equal(n.Groups, want.Groups) {
		t.Errorf("%+v, %v", doc, err)
	}
	if _, err := Decode("widget", b); err == nil {
		t.Error("an unknown family was read")
	}
	if _, err := Decode(KindGroup, []byte("{")); err == nil {
		t.Error("half a document was read")
	}
}
