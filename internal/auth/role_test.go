package auth

import (
	"errors"
	"strings"
	"testing"

	"muster/internal/model"
)

// site has nodes n1…n3, of which n1 and n2 are in rack1, and people.
func site(t *testing.T) *model.Snapshot {
	t.Helper()
	c := &model.Change{Revision: 1}
	put := func(k model.Kind, name string, doc any) {
		c.Ops = append(c.Ops, model.Op{Kind: k, Name: name, Doc: doc})
	}
	put(model.KindGroup, "rack1", &model.Group{Name: "rack1"})
	for _, n := range []model.NodeName{"n1", "n2", "n3"} {
		node := &model.Node{Name: n}
		if n != "n3" {
			node.Groups = []model.GroupName{"rack1"}
		}
		put(model.KindNode, string(n), node)
	}
	role := func(name, nodes string, verbs ...string) {
		put(model.KindRole, name, &model.Role{Name: model.RoleName(name), Range: nodes, Verbs: verbs})
	}
	role("operator", "rack1", "power", "status", "group list")
	role("watcher", "", "status", "power status", "image *")
	role("rack", "rack1", "*")
	role("boss", "", "*")
	for u, roles := range map[string][]model.RoleName{"ann": {"operator"}, "bob": {"watcher", "operator"}, "eve": {"rack"}, "kim": {"boss"}, "new": nil, "lost": {"gone"}} {
		put(model.KindUser, u, &model.User{Name: model.UserName(u), Roles: roles})
	}
	s, err := model.Apply(model.Empty(), c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAllow_a_user_with_roles_may_what_these_allow(t *testing.T) {
	s := site(t)
	on := func(n ...model.NodeName) []model.NodeName { return append([]model.NodeName{}, n...) }
	for _, tt := range []struct {
		user  model.UserName
		kind  Kind
		verb  string
		nodes []model.NodeName
		want  string // words of the refusal; empty: allowed
	}{
		{"ann", Other, "power", nil, ""},
		{"ann", Other, "power off", on("n1", "n2"), ""},
		{"ann", Other, "power off", on("n1", "n3"), "on n3: the role operator does not allow it"},
		{"ann", Administrator, "power off", on("n3"), "operator"}, // a document limits administrators, too
		{"ann", Other, "set", nil, "may not use set"},
		{"ann", Other, "group list", nil, ""},
		{"ann", Other, "whoami", nil, ""},
		{"ann", Other, "image list", nil, "image list"},
		{"bob", Other, "power", nil, ""},
		{"bob", Other, "power status", on("n3"), ""},
		{"bob", Other, "power on", on("n3"), "watcher, operator"},
		{"bob", Other, "image build", nil, ""},
		{"bob", Other, "imagine", nil, "imagine"},
		{"eve", Administrator, "set", on("n2"), ""},
		{"eve", Administrator, "user set", nil, "user set"}, // a role with a range gives nothing that is not about its nodes
		{"eve", Administrator, "backup", nil, "backup"},
		{"kim", Other, "user set", nil, ""},
		{"kim", Other, "power on", on("n3"), ""},
		{"lost", Administrator, "status", nil, "status"}, // its only role is gone: that is less, not more
		{"new", Administrator, "set", nil, ""},
		{"new", Other, "set", nil, "may not"},
		{"stranger", Administrator, "set", nil, ""},
		{"stranger", Other, "status", nil, "may not"},
		{"stranger", Other, "whoami", nil, ""},
	} {
		err := Allow(s, Who{Kind: tt.kind, Name: string(tt.user), User: tt.user}, tt.verb, tt.nodes)
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%s %s %v: %v", tt.user, tt.verb, tt.nodes, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s %s %v: %v, want a refusal with %q", tt.user, tt.verb, tt.nodes, err, tt.want)
		}
	}
	if err := Allow(s, Who{Kind: Administrator, User: "ann", Root: true}, "user set", nil); err != nil {
		t.Errorf("root at the socket is limited: %v", err)
	}
}

func TestDenied_says_which_role_would_do(t *testing.T) {
	s := site(t)
	var d *DeniedError
	if err := Allow(s, Who{Kind: Other, Name: "ann", User: "ann"}, "set", []model.NodeName{"n1"}); !errors.As(err, &d) || d.Do() != "It takes one of the roles boss, rack; somebody who may gives it: muster user set ann roles+=boss" {
		t.Errorf("got %v: %s", err, d.Do())
	}
	if err := Allow(s, Who{Kind: Other, Name: "ann", User: "ann"}, "set", []model.NodeName{"n3"}); !errors.As(err, &d) || !strings.Contains(d.Do(), "the role boss;") {
		t.Errorf("got %v: %s", err, d.Do())
	}
}

func TestNodes_are_those_of_all_roles_that_have_the_verb(t *testing.T) {
	s := site(t)
	for user, want := range map[model.UserName]int{"ann": 2, "bob": -1, "lost": 0, "stranger": -1} {
		got, all := Nodes(s, Who{Kind: Administrator, User: user}, "status")
		if all != (want < 0) || !all && len(got) != want {
			t.Errorf("%s: %v, all %v", user, got, all)
		}
	}
}
