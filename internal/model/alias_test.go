package model

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"muster/internal/model/noderange"
)

func aliased(name, aliases string, groups ...GroupName) Op {
	n := &Node{Name: NodeName(name), Groups: groups}
	for _, a := range strings.Fields(aliases) {
		n.Aliases = append(n.Aliases, NodeName(a))
	}
	return Op{KindNode, name, n}
}

func TestAnAliasStandsForItsNode(t *testing.T) {
	s := apply(t, Empty(), group("compute", ""), group("web", "www[1-2],mail", "bmc.user=web"),
		aliased("n1", "www1 login"), aliased("n2", "www2", "compute"), aliased("n3", ""))
	expand := func(expr string) string {
		got, err := s.Expand(expr, noderange.Options{})
		if err != nil {
			return err.Error()
		}
		return fmt.Sprint(got)
	}
	for expr, want := range map[string]string{
		"login": "[n1]", "www[1-2]": "[n1 n2]", "www1-www2,n3": "[n1 n2 n3]", "everything,-www1": "[n2 n3]", "compute@www2": "[n2]", "@login": "[n1]",
		"web": "[n1 n2]", "n1": "[n1]", "www3": "noderange, column 1: no node or group www3. Did you mean www1?", "lgoin": "noderange, column 1: no node or group lgoin. Did you mean login?",
	} {
		if got := expand(expr); got != want {
			t.Errorf("%s: got %s, want %s", expr, got, want)
		}
	}
	if n := s.Find("login"); n != s.Node("n1") || s.Find("n2") != s.Node("n2") || s.Find("compute") != nil || s.Node("login") != nil {
		t.Errorf("login is %v", n)
	}
	next := apply(t, s, aliased("n1", "www1"), aliased("n3", "login"))
	if next.Find("login").Name != "n3" || s.Find("login").Name != "n1" {
		t.Error("the alias did not go from n1 to n3 in the new world only")
	}
	if got := fmt.Sprint(next.Members("web")); got != "[n1 n2]" {
		t.Errorf("members of web: %s", got)
	}
	if apply(t, s, Op{Kind: KindNode, Name: "n1"}).Find("login") != nil {
		t.Error("the alias of a node that is gone")
	}
}

func TestNamesAndAliasesStandForOneThing(t *testing.T) {
	s := apply(t, Empty(), group("compute", ""), aliased("n1", "www1 login"), aliased("n2", ""), group("old", ""), node("old", nil))
	for _, c := range []struct {
		name string
		ops  []Op
		want string
	}{
		{"free", []Op{aliased("n2", "www2 mail.example.org")}, ""},
		{"kept", []Op{aliased("n1", "www1"), node("old", nil), group("old", "")}, ""},
		{"passed on", []Op{aliased("n1", "www1"), aliased("n2", "login")}, ""},
		{"all ways to be wrong", []Op{aliased("n2", "n1 login compute n2 all a_b x x")}, `n2: alias n1 is taken: there is a node of this name. Choose another alias, or leave it out
n2: alias login is taken: node n1 has it, too. Choose another alias, or leave it out
n2: alias compute is taken: there is a group of this name. Choose another alias, or leave it out
n2: alias n2 is taken: it is the node's own name. Choose another alias, or leave it out
n2: alias all is taken: it stands for all nodes. Choose another alias, or leave it out
n2: alias a_b is no name: it holds '_'. Use letters, digits, dashes and dots (RFC 1123)
n2: alias x is taken: it is there twice. Choose another alias, or leave it out`},
		{"a node with the name of an alias", []Op{node("login", nil)}, "login: its name is taken: it is an alias of node n1. muster set n1 alias-=login"},
		{"a group with the name of an alias", []Op{group("login", "")}, "group login: its name is taken: it is an alias of node n1. muster set n1 alias-=login"},
		{"a node with the name of a group", []Op{node("compute", nil)}, "compute: its name is taken: it is that of a group. Choose another name"},
		{"a group with the name of a node", []Op{group("n1", "")}, "group n1: its name is taken: there is a node of this name. Choose another name"},
		{"both in one change", []Op{group("both", ""), node("both", nil)}, "both: its name is taken: it is that of a group. Choose another name"},
		{"two in one change", []Op{aliased("n1", "x"), aliased("n2", "x")}, "n1: alias x is taken: node n2 has it, too. Choose another alias, or leave it out\nn2: alias x is taken: node n1 has it, too. Choose another alias, or leave it out"},
	} {
		if got := told(Check(s, c.ops)); got != c.want {
			t.Errorf("%s: got\n%s\nwant\n%s", c.name, got, c.want)
		}
	}
}

func told(problems []Problem) string {
	var out []string
	for _, p := range problems {
		out = append(out, p.Error())
	}
	return strings.Join(out, "\n")
}

func TestAssignAliases(t *testing.T) {
	before := []NodeName{"www1", "login"}
	for assignment, want := range map[string]string{"=mail": "[mail]", "+=mail,www1": "[www1 login mail]", "-=www1": "[login]", "=": "[]", "+=a_b": "[] a_b cannot be a name: it holds '_'. Use letters, digits, dashes and dots (RFC 1123)"} {
		op, value, _ := strings.Cut(assignment, "=")
		got, err := AssignAliases(before, op+"=", value)
		text := fmt.Sprint(got)
		if err != nil {
			text += " " + err.Error()
		}
		if text != want || !slices.Equal(before, []NodeName{"www1", "login"}) {
			t.Errorf("%s: got %s, want %s", assignment, text, want)
		}
	}
}

func TestLockedSaysWhoWhyAndSinceWhen(t *testing.T) {
	s := apply(t, Empty(), Op{KindNode, "n1", &Node{Name: "n1", Lock: &Lock{Actor: "eva (uid 7)", Reason: "new disk", Time: noon}}}, node("n2", nil),
		Op{KindNode, "n3", &Node{Name: "n3", Lock: &Lock{Actor: "root", Time: noon}}})
	if got, want := told(Locked(s, []NodeName{"n1", "n2", "n3", "n4"}, noon)), `n1: it is locked: by eva (uid 7) since 2026-11-20T12:00:00Z: new disk. muster unlock n1
n3: it is locked: by root since 2026-11-20T12:00:00Z. muster unlock n3`; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := Locked(s, []NodeName{"n2"}, noon); got != nil {
		t.Errorf("n2: %v", got)
	}
	if p := Check(s, []Op{node("n1", nil), {KindNode, "n2", &Node{Name: "n2", Lock: &Lock{}}}}); told(p) != "n2: its lock says not who or since when. Give both" {
		t.Errorf("Check: %v", p)
	}
}
