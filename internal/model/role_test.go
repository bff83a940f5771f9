package model

import (
	"fmt"
	"testing"
)

func role(name, rng string, verbs ...string) Op {
	return Op{KindRole, name, &Role{Name: RoleName(name), Verbs: verbs, Range: rng}}
}

func user(name string, roles ...RoleName) Op {
	return Op{KindUser, name, &User{Name: UserName(name), Roles: roles}}
}

func roleWorld(t testing.TB) *Snapshot {
	return apply(t, Empty(),
		group("compute", ""), group("secret", ""), group("left", "location.rack=r1"),
		node("n1", []GroupName{"compute"}, "location.rack=r1"), node("n2", []GroupName{"compute"}), node("n3", []GroupName{"secret"}), node("n4", nil),
		role("operator", "compute", "power", "console", "image *"), role("viewer", "", "get", "list"), role("mender", "left,n4,gone", "power"),
		role("most", "everything,-secret", "run"), role("master", "", "*"),
		user("eva", "operator", "viewer"), user("kim_1", "mender", "operator"), user("odd", "most", "nothing"), user("guest"), user("root", "master"),
	)
}

func TestAllows(t *testing.T) {
	s := roleWorld(t)
	all := []NodeName{"n1", "n2", "n3", "n4"}
	show := func(s *Snapshot, user UserName, verb string) string {
		g, ruled := s.Allows(user, verb)
		var on []NodeName
		for _, n := range append(all, "n9") {
			if g.Node(n) {
				on = append(on, n)
			}
		}
		return fmt.Sprintf("%v %v %v %v %v %s", ruled, g.All, g.Roles, on, g.Denied(all), told(g.Broken))
	}
	for _, c := range []struct{ user, verb, want string }{
		{"eva", "power", "true false [operator] [n1 n2] [n3 n4] "},
		{"eva", "image build", "true false [operator] [n1 n2] [n3 n4] "},
		{"eva", "image", "true false [] [] [n1 n2 n3 n4] "},
		{"eva", "get", "true true [viewer] [n1 n2 n3 n4 n9] [] "},
		{"eva", "run", "true false [] [] [n1 n2 n3 n4] "},
		{"kim_1", "power", "true false [mender operator] [n1 n2 n4] [n3] "},
		{"odd", "run", "true false [most] [n1 n2 n4] [n3] "},
		{"guest", "get", "false false [] [] [n1 n2 n3 n4] "},
		{"nobody", "get", "false false [] [] [n1 n2 n3 n4] "},
		{"root", "image build", "true true [master] [n1 n2 n3 n4 n9] [] "},
	} {
		if got := show(s, UserName(c.user), c.verb); got != c.want {
			t.Errorf("%s %s: got %s, want %s", c.user, c.verb, got, c.want)
		}
	}
	// What was found for one snapshot holds for the next as long as nothing is described anew, and no longer.
	seen := apply(t, s, Op{KindState, "n1", &State{Node: "n1", Power: "on"}})
	if seen.found != s.found || seen.Described != s.Described {
		t.Error("an observation threw away what was found")
	}
	moved := apply(t, seen, node("n4", []GroupName{"compute"}), node("n1", nil, "location.rack=r2"))
	if got := show(moved, "kim_1", "power"); got != "true false [mender operator] [n2 n4] [n1 n3] " {
		t.Errorf("after the change: %s", got)
	}
	// A group that an exclusion names and that is gone must not widen the role.
	gone := apply(t, s, Op{Kind: KindGroup, Name: "secret"})
	if got := show(gone, "odd", "run"); got != `true false [most] [] [n1 n2 n3 n4] role most: its range everything,-secret has no answer: noderange, column 13: no node or group secret. Set another range of the role` {
		t.Errorf("without the excluded group: %s", got)
	}
}

func TestCheckOfPeopleAndManagers(t *testing.T) {
	s := roleWorld(t)
	for _, c := range []struct {
		name string
		ops  []Op
		want string
	}{
		{"good", []Op{
			role("a", "compute,n4", "*", "node add", "image *"), user("eva@example.org", "a"), user("www-data_2.x"),
			{KindManager, "m1", &Manager{Name: "m1"}},
			{KindSealKey, "0123abcd", &SealKey{ID: "0123abcd", Wrapped: "x"}},
		}, ""},
		{"users", []Op{user("a b"), user("-a"), user(""), user("x", "operater", "viewer", "viewer"), {KindUser, "c", &User{Name: "c", Comment: "\x00"}}, {KindUser, "k", &User{Name: "other"}}}, `user a b: "a b" cannot be the name of a user: it holds ' '. Use letters, digits and . _ - @ inside
user -a: -a cannot be the name of a user: it begins with -. Use letters, digits and . _ - @ inside
user : "" cannot be the name of a user: it is empty. Use letters, digits and . _ - @ inside
user x: no role operater. Did you mean operator? A new one is made by: muster role add operater
user x: it has the role viewer twice. Leave one out
user c: comment: "\x00" is not readable text. Leave control characters out
user k: its document is put under another name than other`},
		{"roles", []Op{role("r_1", "", "power"), role("none", ""), role("verbs", "", "po[wer", "Power", "a  b", ""), role("range", "n[1", "get"), role("attr", "bmc.password=x", "get"), role("unknown", "n1,n7,everything,-nothing", "get")}, `role r_1: r_1 cannot be a name: it holds '_'. Use letters, digits, dashes and dots (RFC 1123)
role none: it allows no verb. Name some, or globs of them: power 'image *'
role verbs: po[wer is no verb. Write power, 'image build', 'image *' or '*'
role verbs: Power is no verb. Write power, 'image build', 'image *' or '*'
role verbs: "a  b" is no verb. Write power, 'image build', 'image *' or '*'
role verbs: "" is no verb. Write power, 'image build', 'image *' or '*'
role range: the range n[1 is wrong: noderange, column 2: this [ is not closed. Close it with ]
role attr: the range bmc.password=x is wrong: bmc.password is secret: asking for it would tell it. Ask for another attribute
role unknown: the range n1,n7,everything,-nothing is wrong: noderange, column 4: 2 names are neither node nor group: n7,nothing. Did you mean n1 for n7?`},
		{"removed while in use", []Op{{Kind: KindRole, Name: "operator"}}, "role operator: 2 users have it: eva, kim_1. Take it away from them first"},
		{"groups that roles name", []Op{
			node("n1", nil), node("n2", nil), node("n3", nil),
			{Kind: KindGroup, Name: "compute"},
			{Kind: KindGroup, Name: "secret"},
			{Kind: KindGroup, Name: "left"},
			role("mender", "n1", "power"), group("rack1", ""), group("rack2", ""),
		}, `group compute: role operator names it: its range is compute. Change that first: muster role set operator range=…
group secret: role most names it: its range is everything,-secret. Change that first: muster role set most range=…`},
		{"removed with its users", []Op{{Kind: KindRole, Name: "most"}, user("odd")}, ""},
		{"managers and keys", []Op{{KindManager, "m_1", &Manager{Name: "m_1"}}, {KindManager, "m2", &Manager{Name: "m3"}}, {KindSealKey, "0123ABCD", &SealKey{ID: "1"}}}, `manager m_1: m_1 cannot be a name: it holds '_'. Use letters, digits, dashes and dots (RFC 1123)
manager m2: its document is put under another name than m3
data key 0123ABCD: its document is put under another name than 1
data key 0123ABCD: 0123ABCD cannot name a data key: that takes 8 hex digits
data key 0123ABCD: it holds no key`},
	} {
		if got := told(Check(s, c.ops)); got != c.want {
			t.Errorf("%s: got\n%s\nwant\n%s", c.name, got, c.want)
		}
	}
}

func TestCheckOfAGroupThatARangeOfGroupsNames(t *testing.T) {
	s := apply(t, Empty(), group("rack1", ""), group("rack2", ""), group("rack3", ""), role("r", "rack[1-2]", "power"))
	want := `group rack2: role r names it: its range is rack[1-2]. Change that first: muster role set r range=…`
	if got := told(Check(s, []Op{{Kind: KindGroup, Name: "rack2"}, {Kind: KindGroup, Name: "rack3"}})); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := told(Check(s, []Op{{Kind: KindGroup, Name: "rack2"}, role("r", "rack1", "power")})); got != "" {
		t.Errorf("changed with it: %s", got)
	}
}

func BenchmarkAllows(b *testing.B) {
	for _, n := range sizes {
		s := apply(b, bigWorld(b, n), role("operator", "g3,-location.rack=7", "power"), user("eva", "operator"))
		nodes := s.Members(Everything)
		b.Run(fmt.Sprintf("first/%d", n), func(b *testing.B) {
			defer processor(b)()
			for b.Loop() {
				again := apply(b, s, user("kim"))
				if g, ok := again.Allows("eva", "power"); !ok || g.Broken != nil {
					b.Fatal(g.Broken)
				}
			}
		})
		b.Run(fmt.Sprintf("again/%d", n), func(b *testing.B) {
			defer processor(b)()
			for b.Loop() {
				if g, ok := s.Allows("eva", "power"); !ok || g.Broken != nil {
					b.Fatal(g.Broken)
				}
			}
		})
		b.Run(fmt.Sprintf("denied/%d", n), func(b *testing.B) {
			g, _ := s.Allows("eva", "power")
			defer processor(b)()
			for b.Loop() {
				if len(g.Denied(nodes)) == 0 {
					b.Fatal("none denied")
				}
			}
		})
	}
}
