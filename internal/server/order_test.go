package server

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"muster/internal/api"
	"muster/internal/bmc"
	"muster/internal/model"
)

// world is a snapshot of nodes with what they wait for: "a", "b=a", "c=a,b 5s".
func world(t testing.TB, lines ...string) (*model.Snapshot, []*model.Node) {
	t.Helper()
	var ops []model.Op
	for _, l := range lines {
		l, delay, _ := strings.Cut(l, " ")
		name, after, _ := strings.Cut(l, "=")
		n := &model.Node{Name: model.NodeName(name), Attrs: map[model.AttrName]string{}}
		if after != "" {
			n.Attrs[attrAfter] = after
		}
		if delay != "" {
			n.Attrs["power.delay"] = delay
		}
		ops = append(ops, model.Op{Kind: model.KindNode, Name: name, Doc: n})
	}
	snap, err := model.Apply(model.Empty(), &model.Change{Revision: 1, Ops: ops})
	if err != nil {
		t.Fatal(err)
	}
	var nodes []*model.Node
	for n := range snap.Nodes() {
		nodes = append(nodes, n)
	}
	return snap, nodes
}

func TestOrder_gives_turns(t *testing.T) {
	lines := []string{"c1=s1 5s", "c2=s1,s2", "s1=p", "s2", "p", "x"}
	for _, tt := range []struct {
		want bmc.PowerState
		only string // nodes that are asked for; "" for all
		say  string
	}{
		{bmc.PowerOn, "", "p 1, s2 1, x 1, s1 2 after p, c2 3 after s[1-2], c1 3 after s1 5s"},
		{bmc.PowerOff, "", "c1 1, c2 1, x 1, s1 2 after c[1-2], s2 2 after c2, p 3 after s1"},
		{bmc.PowerOn, "c1 c2", "c1 1 after s1 5s, c2 1 after s[1-2]"},
		{bmc.PowerOff, "s1 p", "s1 1 after c[1-2], p 2 after s1"},
	} {
		snap, nodes := world(t, lines...)
		if tt.only != "" {
			nodes = slices.DeleteFunc(nodes, func(n *model.Node) bool { return !slices.Contains(strings.Fields(tt.only), string(n.Name)) })
		}
		o, err := new(Server).order(snap, nodes, tt.want)
		if err != nil {
			t.Fatal(err)
		}
		place := map[model.NodeName]int{}
		for i, n := range o.ordered(nodes) {
			place[n.Name] = i
		}
		for _, n := range nodes {
			for _, m := range o.after(n.Name) {
				if o.asked[m] == nil {
					continue
				}
				if place[m] > place[n.Name] || o.asked[m].number >= o.asked[n.Name].number {
					t.Errorf("%s, %q: %s stands before %s", tt.want, tt.only, n.Name, m)
				}
				if !o.asked[m].awaited {
					t.Errorf("%s, %q: nobody looks whether %s is %s", tt.want, tt.only, m, tt.want)
				}
			}
			line := fmt.Sprintf("%s %d", n.Name, o.asked[n.Name].number)
			if a := o.after(n.Name); len(a) > 0 {
				line += " after " + fold(a)
			}
			if d := o.asked[n.Name].delay; d > 0 {
				line += " " + d.String()
			}
			if !slices.Contains(strings.Split(tt.say, ", "), line) {
				t.Errorf("%s, %q: %s", tt.want, tt.only, line)
			}
		}
	}
}

func TestOrder_names_who_would_wait_for_themselves(t *testing.T) {
	for _, tt := range []struct{ lines, say string }{
		{"a=a", "a after a"},
		{"a=b b=c c=d d=b", "b after c after d after b"},
		{"a=b,c b c=a", "a after c after a"},
	} {
		snap, nodes := world(t)
		var ops []model.Op
		next, _ := world(t, strings.Fields(tt.lines)...)
		for n := range next.Nodes() {
			ops = append(ops, model.Op{Kind: model.KindNode, Name: string(n.Name), Doc: n})
		}
		err := checkOrder(snap, ops)
		wants(t, err, api.Usage, tt.say)
		for n := range next.Nodes() {
			nodes = append(nodes, n)
		}
		_, err = new(Server).order(next, nodes, bmc.PowerOn)
		wants(t, err, api.Usage, tt.say)
		_, err = new(Server).order(next, nodes, bmc.PowerOff)
		wants(t, err, api.Usage, "wait for themselves")
	}
	snap, _ := world(t, "a")
	var e *api.Error
	if err := checkOrder(snap, []model.Op{{Kind: model.KindNode, Name: "b", Doc: &model.Node{Name: "b", Attrs: map[model.AttrName]string{attrAfter: "z"}}}}); !errors.As(err, &e) || e.Node != "b" {
		t.Errorf("a name that there is not: %v", err)
	}
}

// BenchmarkOrder is what an order costs before the first BMC is asked: a hundred storage nodes before all others.
func BenchmarkOrder(b *testing.B) {
	for _, size := range []int{1000, 10_000, 100_000} {
		lines := make([]string, size)
		for i := range lines {
			if lines[i] = fmt.Sprintf("n%d=n[1-100]", i+1); i < 100 {
				lines[i] = fmt.Sprintf("n%d", i+1)
			}
		}
		snap, nodes := world(b, lines...)
		for _, want := range []bmc.PowerState{bmc.PowerOn, bmc.PowerOff} {
			b.Run(fmt.Sprintf("%d/%s", size, want), func(b *testing.B) {
				for b.Loop() {
					o, err := new(Server).order(snap, nodes, want)
					if err != nil || o.asked["n1"].number+o.asked["n101"].number != 3 {
						b.Fatal(err, o.asked["n1"].number, o.asked["n101"].number)
					}
				}
			})
		}
		b.Run(fmt.Sprintf("%d/set", size), func(b *testing.B) {
			op := []model.Op{{Kind: model.KindNode, Name: "n1", Doc: &model.Node{Name: "n1", Attrs: map[model.AttrName]string{attrAfter: "n2"}}}}
			for b.Loop() {
				if err := checkOrder(snap, op); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
