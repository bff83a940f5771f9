package model

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"muster/internal/model/noderange"
	"pgregory.net/rapid"
)

// anyOps is a random change of a small world: nodes come, change and go, groups too.
func anyOps(t *rapid.T) []Op {
	pick := func(label string, from ...string) string { return rapid.SampledFrom(from).Draw(t, label) }
	nodeName := func() string { return fmt.Sprintf("n%d", rapid.IntRange(1, 12).Draw(t, "node")) }
	attrs := func() []string {
		var out []string
		for range rapid.IntRange(0, 3).Draw(t, "attrs") {
			out = append(out, pick("attr",
				"net.boot.network=x", "location.rack=r1", "location.rack=r2", "location.rack=", "location.rack=r{n1}", "custom.a={location.rack}", "custom.a=plain", "custom.b=x", "custom.b={custom.a}",
				"net.boot.mac=52:54:00:00:00:01", "net.boot.address=10.0.0.{n1}", "net.boot.prefix=24", "net.boot.dns=10.0.0.1 10.0.0.2", "console.speed=9600", "bmc.port=0624",
				"net.boot.dns=+ 10.0.0.3", "net.boot.network=lan", "net.boot.network={custom.b}", "custom.a={rack}", "custom.b={net.boot.domain}"))
		}
		return out
	}
	var ops []Op
	for range rapid.IntRange(1, 4).Draw(t, "ops") {
		switch rapid.IntRange(0, 8).Draw(t, "kind") {
		case 8:
			op := Op{Kind: KindNetwork, Name: pick("network", "lan", "x")}
			if rapid.IntRange(0, 3).Draw(t, "network goes") > 0 {
				op.Doc = &Network{
					Name: NetworkName(op.Name), Prefix: pick("prefix", "10.0.0.0/24", "10.0.0.0/16"), Domain: pick("domain", "", "lan.example", "x"),
					DNS: []string{pick("dns", "10.0.0.1", "10.0.0.2")},
				}
			}
			ops = append(ops, op)
		case 0:
			ops = append(ops, Op{Kind: KindNode, Name: nodeName()})
		case 1:
			ops = append(ops, group(pick("static group", "a", "b", "c", "everything"), "", attrs()...))
		case 2:
			ops = append(ops, group(pick("dynamic group", "d", "e"), pick("range", "net.boot.domain=x", "other,-n5", "location.rack=r1", "~n[1-5]", "a,n7", "(a,b)@custom.b!=x", "@a,-n[1-3]", "custom.*=x", "c[1-3],other"), attrs()...))
		case 3:
			ops = append(ops, Op{Kind: KindGroup, Name: pick("group that goes", "a", "b", "c", "d", "e")})
		case 4:
			ops = append(ops, Op{KindState, "n1", &State{Node: "n1"}})
		default:
			var groups []GroupName
			for _, g := range []GroupName{"a", "b", "c", "d"} {
				if rapid.IntRange(0, 2).Draw(t, "in "+string(g)) == 0 {
					groups = append(groups, g)
				}
			}
			name := nodeName()
			if rapid.IntRange(0, 9).Draw(t, "odd name") == 0 {
				name = pick("name", "a", "c2", "other")
			}
			op := node(name, groups, attrs()...)
			if alias := map[string]NodeName{"n1": "other", "n2": "c3", "n3": "b", "n4": "n5"}[name]; alias != "" && rapid.Bool().Draw(t, "alias") {
				op.Doc.(*Node).Aliases = []NodeName{alias}
			}
			if rapid.IntRange(0, 4).Draw(t, "locked") == 0 {
				op.Doc.(*Node).Lock = &Lock{Actor: "root"}
			}
			ops = append(ops, op)
		}
	}
	return ops
}

// TestViewsAgreeWithTheNodes asks snapshots of one line, side lines and old ones in any order: each answer is what the nodes
// themselves say.
func TestViewsAgreeWithTheNodes(t *testing.T) {
	terms := []string{
		"location.rack=r1", "location.rack=", "location.rack!=r2", "location.rack=~r.*", "custom.a=r1", "custom.a!~p.*", "custom.b=~.+", "console.speed=9600", "console.speed=115200",
		"net.boot.prefix=24", `net.boot.dns="10.0.0.1,10.0.0.2"`, "net.boot.dns=~.*2", "bmc.port=624", "net.boot.address=~10\\..*", "net.*.prefix=24", "custom.*=x", "*.rack=~r[12]",
		"net.boot.domain=x", "net.*.domain=~lan.*", `net.boot.dns=~.*3`, "net.boot.network=x",
	}
	rapid.Check(t, func(t *rapid.T) {
		line := []*Snapshot{Empty()}
		for range rapid.IntRange(2, 12).Draw(t, "changes") {
			s := line[max(0, len(line)-1-rapid.IntRange(0, 2).Draw(t, "back"))]
			line = append(line, applied(t, s, anyOps(t)...))
			for range rapid.IntRange(0, 4).Draw(t, "questions") {
				s := line[rapid.IntRange(0, len(line)-1).Draw(t, "snapshot")]
				agree(t, s, rapid.SampledFrom(terms).Draw(t, "term"))
			}
			s = line[rapid.IntRange(0, len(line)-1).Draw(t, "snapshot")]
			for g := range s.Groups() {
				var want []NodeName
				for n := range s.membersOf(g.Name) {
					want = append(want, n)
				}
				if got := s.Members(g.Name); !slices.Equal(got, want) {
					t.Fatalf("members of %s (%s): %v, want %v", g.Name, g.Range, got, want)
				}
				set, _ := s.World().Group(string(g.Name))
				if set.Len() != len(want) {
					t.Fatalf("members of %s (%s): %d, want %v", g.Name, g.Range, set.Len(), want)
				}
			}
		}
	})
}

// TestIndexesAreThoseOfAWorldBuiltAfresh compares all that is found from the documents and kept with every change, after any history,
// with what one change makes that puts the same documents.
func TestIndexesAreThoseOfAWorldBuiltAfresh(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := Empty()
		for range rapid.IntRange(1, 12).Draw(t, "changes") {
			before := s
			s = applied(t, s, anyOps(t)...)
			sameIndexes(t, s)
			if rapid.Bool().Draw(t, "ask") { // now and then, so that views are taken over many steps
				sameViews(t, s)
			}
			sameIndexes(t, before) // the old one is as it was
		}
		sameViews(t, s)
	})
}

// TestAskedValuesFollowTheNetworkOfAGroup asks for what a network gives before and after a group names it.
func TestAskedValuesFollowTheNetworkOfAGroup(t *testing.T) {
	s := apply(t, Empty(), network("lan", "10.0.0.0/8", "10.0.0.1"), group("g", ""), node("n1", []GroupName{"g"}), node("n2", nil))
	for _, term := range []string{"net.boot.prefix=8", "net.*.prefix=8"} {
		if got, err := s.Expand("("+term+")", noderange.Options{}); err != nil || len(got) > 0 {
			t.Fatalf("%s: %v, %v", term, got, err)
		}
		next := apply(t, s, group("g", "", "net.boot.network=lan"))
		if got, err := next.Expand("("+term+")", noderange.Options{}); err != nil || fmt.Sprint(got) != "[n1]" {
			t.Errorf("%s: %v, %v; want n1", term, got, err)
		}
	}
}

// TestPortsFollowTheMembersOfDynamicGroups changes who is in one without touching the nodes themselves.
func TestPortsFollowTheMembersOfDynamicGroups(t *testing.T) {
	const mac = "52:54:00:00:00:01"
	has := func(s *Snapshot, want string) {
		t.Helper()
		got := ""
		if n := s.NodeByMAC(mac); n != nil {
			got = string(n.Name)
		}
		if got != want {
			t.Errorf("%s is of %q, want %q", mac, got, want)
		}
	}
	s := apply(t, Empty(), group("z", ""), group("dyn", "z", "net.boot.mac="+mac), node("n1", []GroupName{"z"}))
	has(s, "n1")
	has(apply(t, s, node("z", nil)), "z") // the name means a node now

	// n1 is in dyn by the network that it has without dyn.
	s = apply(t, Empty(), network("lan", "10.0.0.0/8", "10.0.0.1"), network("other", "11.0.0.0/8", "11.0.0.1"), group("everything", "", "net.boot.network=lan"),
		group("dyn", "net.boot.gateway=10.0.0.1", "net.boot.mac="+mac, "net.boot.network=other"), node("n1", nil))
	has(s, "n1")
	has(apply(t, s, network("lan", "10.0.0.0/8", "10.0.0.2")), "")
}

func afresh(t *rapid.T, s *Snapshot) *Snapshot {
	var ops []Op
	for n := range s.Networks() {
		ops = append(ops, Op{KindNetwork, string(n.Name), n})
	}
	for g := range s.Groups() {
		ops = append(ops, Op{KindGroup, string(g.Name), g})
	}
	for n := range s.Nodes() {
		ops = append(ops, Op{KindNode, string(n.Name), n})
	}
	for i, op := range ops { // Apply stamps what it is given
		switch d := op.Doc.(type) {
		case *Network:
			c := *d
			ops[i].Doc = &c
		case *Group:
			c := *d
			ops[i].Doc = &c
		case *Node:
			c := *d
			ops[i].Doc = &c
		}
	}
	return applied(t, Empty(), ops...)
}

func sameIndexes(t *rapid.T, s *Snapshot) {
	show := func(s *Snapshot) map[string]string {
		groups, portsOf := map[GroupName]string{}, map[NodeName]ports{}
		for name, g := range s.byGroup {
			ports := slices.Sorted(slices.Values(g.ports))
			groups[name] = fmt.Sprint(g.Group == s.groups.get(name), g.plan != nil, ports, g.expressions)
		}
		var dynamic []GroupName
		for _, g := range s.dynamic {
			dynamic = append(dynamic, g.Name)
		}
		for n := range s.Nodes() {
			if p := s.ports.get(n.Name); p != nil {
				portsOf[n.Name] = *p
			}
		}
		names := s.Names()
		all := []string{}
		for id := range names.Len() {
			all = append(all, names.Name(id))
		}
		return map[string]string{
			"members": fmt.Sprint(s.members.Items()), "groups": fmt.Sprint(groups), "dynamic groups": fmt.Sprint(dynamic),
			"aliases": fmt.Sprint(s.aliases.Items()), "MACs": fmt.Sprint(s.macs.Items()), "addresses": fmt.Sprint(s.addrs.Items()), "nodes in networks": fmt.Sprint(s.inNet.Items()),
			"ports": fmt.Sprint(s.ports.tree.Len(), portsOf), "names": fmt.Sprint(all),
		}
	}
	fresh := afresh(t, s)
	want := show(fresh)
	for what, got := range show(s) {
		if got != want[what] {
			t.Fatalf("%s:\n%s\nwant:\n%s", what, got, want[what])
		}
	}
	for a := range fresh.used { // those that were used once may be there still
		if !s.used[a] {
			t.Fatalf("%s is used, and not noted", a)
		}
	}
}

// sameViews compares the views.
func sameViews(t *rapid.T, s *Snapshot) {
	fresh := afresh(t, s)
	for _, static := range []bool{false, true} {
		for name, g := range s.byGroup {
			if got, want := s.roll(g, static), fresh.roll(fresh.byGroup[name], static); !got.Equal(want) {
				t.Fatalf("roll of %s (static: %v): %d members, want %d", name, static, got.Len(), want.Len())
			}
		}
		for _, attr := range []string{"location.rack", "custom.a", "custom.b", "net.boot.dns", "net.boot.domain", "net.boot.network", "net.boot.address", "custom.*", "net.*.domain"} {
			show := func(s *Snapshot) string {
				var doc *Attr
				if !isGlob(attr) {
					doc, _ = Lookup(AttrName(attr))
				}
				c := s.column(attr, doc, static)
				var out []string
				for id, k := range c.rows {
					v := ""
					switch i := int(k) - len(c.values.values); {
					case c.wrong[id] != nil:
						v = "wrong"
					case i >= 0:
						v = c.more[i]
					default:
						v = c.values.values[k]
					}
					out = append(out, s.Names().Name(id)+"="+v)
				}
				return fmt.Sprintf("%q", out)
			}
			if got, want := show(s), show(fresh); got != want {
				t.Fatalf("column %s (static: %v):\n%s\nwant:\n%s", attr, static, got, want)
			}
		}
	}
}

func agree(t *rapid.T, s *Snapshot, term string) {
	got, err := s.Expand("("+term+")", noderange.Options{})
	plan, perr := noderange.Parse(term)
	if perr != nil {
		t.Fatal(perr)
	}
	q := plan.Queries()[0]
	var want []NodeName
	failed := false
	for n := range s.Nodes() {
		values, verr := s.Attrs(n, []string{q.Attr})
		if verr != nil {
			failed = true
		}
		var texts []string
		for _, v := range values {
			texts = append(texts, v.Value)
		}
		if len(texts) == 0 {
			texts = []string{""}
		}
		if verr == nil && q.Match(texts...) {
			want = append(want, n.Name)
		}
	}
	if failed {
		if err == nil {
			t.Fatalf("%s has an answer: %v, but some value has none", term, got)
		}
		return
	}
	if err != nil || !slices.Equal(got, want) {
		t.Fatalf("%s: got %v, %v; want %v", term, got, err, want)
	}
}

// TestArchiveIsBounded asks for more attributes than there is room for.
func TestArchiveIsBounded(t *testing.T) {
	long := strings.Repeat("x", 32<<10)
	var ops []Op
	for i := range 200 {
		var attrs []string
		for a := range 20 {
			attrs = append(attrs, fmt.Sprintf("custom.a%d=%d%s", a, i, long))
		}
		ops = append(ops, node(fmt.Sprintf("n%d", i), nil, attrs...))
	}
	s := apply(t, Empty(), ops...)
	for a := range 20 {
		got, err := s.Expand(fmt.Sprintf("custom.a%d=~7x*", a), noderange.Options{})
		if err != nil || len(got) != 1 || got[0] != "n7" {
			t.Fatal(got, err)
		}
	}
	a := s.archive
	if sum := 0; a.size > maxArchive || len(a.slots) >= 20 {
		t.Errorf("%d bytes, %d views", a.size, len(a.slots))
	} else {
		for _, x := range a.slots {
			sum += x.size
		}
		if sum != a.size {
			t.Errorf("%d bytes are counted as %d", sum, a.size)
		}
	}
}

// TestViewsAreTakenOver says that a change of one node does not make the views anew.
func TestViewsAreTakenOver(t *testing.T) {
	s := apply(t, Empty(), group("g", "", "custom.a=group"), group("dyn", "custom.a=group"), node("n1", []GroupName{"g"}), node("n2", nil))
	column := func(s *Snapshot) *column {
		doc, _ := Lookup("custom.a")
		return s.column("custom.a", doc, false)
	}
	first := column(s)
	if next := apply(t, s, Op{KindState, "n1", &State{Node: "n1"}}); column(next) != first {
		t.Error("an observation made the column anew")
	}
	next := apply(t, s, node("n2", nil, "custom.a=own"), node("n3", []GroupName{"g"}))
	moved := column(next)
	if moved.values != first.values {
		t.Error("a changed node made the column anew")
	}
	if again := column(next); again != moved {
		t.Error("the second question made the column anew")
	}
	if got := column(s); len(got.rows) != 2 || got.values != first.values {
		t.Errorf("the old world has %d rows", len(got.rows))
	}
	if other := column(apply(t, next, group("g", "", "custom.a=other"))); other.values == first.values {
		t.Error("a changed group left the column as it was")
	}
}

func TestAliases(t *testing.T) {
	n1 := node("n1", []GroupName{"g"})
	n1.Doc.(*Node).Aliases = []NodeName{"login", "al7"}
	s := apply(t, Empty(), group("g", ""), group("dyn", "al[1-9],n2"), n1, node("n2", nil), node("n3", nil))
	for expr, want := range map[string]string{
		"login": "n1", "login,n2": "n1,n2", "al[7-7]": "n1", "g,-login": "", "dyn": "n1,n2", "@login": "n1", "everything!login": "n2,n3", "(login)": "n1", "login,n1": "n1",
	} {
		got, err := s.Expand(expr, noderange.Options{})
		if text := strings.Trim(strings.ReplaceAll(fmt.Sprint(got), " ", ","), "[]"); err != nil || text != want {
			t.Errorf("%s: %s, %v; want %s", expr, text, err, want)
		}
	}
	s = apply(t, s, node("n1", nil))
	var unknown *noderange.Error
	if _, err := s.Expand("login", noderange.Options{}); !errors.As(err, &unknown) || len(unknown.Unknown) != 1 {
		t.Errorf("an alias that went: %v", err)
	}
	if got := fmt.Sprint(s.Members("dyn")); got != "[n2]" {
		t.Errorf("the group keeps the alias: %s", got)
	}
}

func applied(t *rapid.T, s *Snapshot, ops ...Op) *Snapshot {
	next, err := Apply(s, &Change{Revision: s.Revision + 1, Ops: ops})
	if err != nil {
		t.Fatal(err)
	}
	return next
}

// TestFewNodesAreAskedOneByOne compares terms behind an intersection, which ask a few nodes, with the same terms over all.
func TestFewNodesAreAskedOneByOne(t *testing.T) {
	var ops []Op
	for i := range 200 {
		ops = append(ops, node(fmt.Sprintf("n%d", i), []GroupName{"g"}, fmt.Sprintf("location.rack=r%d", i%3), "custom.a={location.rack}"))
	}
	s := apply(t, Empty(), append(ops, group("g", "", "location.room=hall"), group("odd", "~.*[13579]", "bmc.user=odd"))...)
	for _, term := range []string{"location.rack=r1", "custom.a=~r[12]", "custom.a!=r1", "*.room=hall", "location.*=~r2|x", "bmc.user=odd", "bmc.user!~odd"} {
		few, err := s.Expand("n[1-9]@("+term+")", noderange.Options{})
		if err != nil || len(s.archive.slots) > 0 {
			t.Fatalf("%s: %v, %d views", term, err, len(s.archive.slots))
		}
		old := s.archive
		s.archive = &archive{}
		all, err := s.Expand("("+term+")@n[1-9]", noderange.Options{})
		if err != nil || !slices.Equal(few, all) || len(all) == 0 {
			t.Errorf("%s: %v one by one, %v from the column, %v", term, few, all, err)
		}
		if len(s.archive.slots) == 0 {
			t.Errorf("%s asked every node", term)
		}
		s.archive = old
	}
}

// TestViewsOfManyReaders asks while the world goes on; the race detector looks on.
func TestViewsOfManyReaders(t *testing.T) {
	s := apply(t, Empty(), group("odd", "~.*[13579]@custom.a=x", "custom.b=odd"), group("g", "", "custom.a=x"))
	for i := range 100 {
		s = apply(t, s, node(fmt.Sprintf("n%d", i), []GroupName{"g"}))
	}
	var now atomic.Pointer[Snapshot]
	now.Store(s)
	var readers sync.WaitGroup
	for r := range 4 {
		readers.Go(func() {
			for range 200 {
				s := now.Load()
				for expr, want := range map[string]int{"custom.a=x": s.Len(), "custom.b=odd": 50, "odd": 50, "~n[0-9]": 10, "g,-custom.b=~o.*": s.Len() - 50} {
					if got, err := s.Expand(expr, noderange.Options{}); err != nil || len(got) != want {
						t.Errorf("reader %d: %s: %d nodes, %v; want %d", r, expr, len(got), err, want)
						return
					}
				}
			}
		})
	}
	for i := range 300 {
		s = apply(t, s, node(fmt.Sprintf("n%d", i%50*2+100), []GroupName{"g"}, fmt.Sprintf("custom.c=%d", i)))
		now.Store(s)
	}
	readers.Wait()
}
