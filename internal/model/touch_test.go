package model

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var noon = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

func touch(t testing.TB, before, after any) *Touch {
	t.Helper()
	x, err := TouchOf(before, after)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func TestTouchOf(t *testing.T) {
	n := &Node{Name: "n1", Groups: []GroupName{"a"}, Attrs: map[AttrName]string{"custom.x": "1", "bmc.password": "sealed:v1:old", "custom.gone": "<&>"}}
	changed := &Node{Name: "n1", Aliases: []NodeName{"web"}, Attrs: map[AttrName]string{"custom.x": `two "2"`, "bmc.password": "sealed:v1:new", "custom.new": ""}, Lock: &Lock{Actor: "root", Reason: "disk", Time: noon}}
	for _, c := range []struct {
		name          string
		before, after any
		want, fields  string
	}{
		{"nothing", n, n, "<nil>", ""},
		{"nobody", (*Node)(nil), nil, "<nil>", ""},
		{"added", (*Node)(nil), n, `{"kind":"node","name":"n1","was":null}`, ""},
		{"removed", &Group{Name: "g", Range: "n1", Attrs: map[AttrName]string{"bmc.password": "sealed:v1:x"}}, (*Group)(nil), `{"kind":"group","name":"g","was":{"name":"g","range":"n1","attrs":{"bmc.password":"sealed:v1:x"}},"now":null}`, `[{bmc.password ********  true} {range n1  false}]`},
		{
			"node", n, changed,
			`{"kind":"node","name":"n1","was":{"aliases":null,"groups":["a"],"attrs":{"bmc.password":"sealed:v1:old","custom.gone":"\u003c\u0026\u003e","custom.new":null,"custom.x":"1"},"lock":null},` +
				`"now":{"aliases":["web"],"groups":null,"attrs":{"bmc.password":"sealed:v1:new","custom.gone":null,"custom.new":"","custom.x":"two \"2\""},"lock":{"actor":"root","reason":"disk","time":"2026-11-20T12:00:00Z"}}}`,
			`[{alias  web false} {bmc.password ******** ******** true} {custom.gone <&>  false} {custom.new  "" false} {custom.x 1 two "2" false} {groups a  false} {lock  root: disk false}]`,
		},
		{"lock", changed, &Node{Name: "n1", Aliases: changed.Aliases, Attrs: changed.Attrs, Lock: &Lock{Actor: "eva", Time: noon}}, `{"kind":"node","name":"n1","was":{"lock":{"actor":"root","reason":"disk","time":"2026-11-20T12:00:00Z"}},"now":{"lock":{"actor":"eva","reason":null,"time":"2026-11-20T12:00:00Z"}}}`, `[{lock root: disk eva false}]`},
		{"group", &Group{Name: "g"}, &Group{Name: "g", Range: "n1"}, `{"kind":"group","name":"g","was":{"range":null},"now":{"range":"n1"}}`, `[{range  n1 false}]`},
		{"network", &Network{Name: "c", Prefix: "10.0.0.0/8", DNS: []string{"10.0.0.1"}}, &Network{Name: "c", Prefix: "10.0.0.0/8", VLAN: 7}, `{"kind":"network","name":"c","was":{"dns":["10.0.0.1"],"vlan":null},"now":{"dns":null,"vlan":7}}`, `[{dns 10.0.0.1  false} {vlan  7 false}]`},
		{"role", &Role{Name: "r"}, &Role{Name: "r", Verbs: []string{"get", "list"}}, `{"kind":"role","name":"r","was":{"verbs":null},"now":{"verbs":["get","list"]}}`, `[{verbs  get,list false}]`},
		{"image", &Image{Name: "i", Size: 1 << 60, Root: File{Name: "a"}}, &Image{Name: "i", Size: 1<<60 + 1, Root: File{Name: "b"}}, `{"kind":"image","name":"i","was":{"root_file":{"name":"a"},"size":1152921504606846976},"now":{"root_file":{"name":"b"},"size":1152921504606846977}}`, `[{root_file.name a b false} {size 1152921504606846976 1152921504606846977 false}]`},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := touch(t, c.before, c.after)
			if x == nil {
				if c.want != "<nil>" {
					t.Fatalf("got nil, want %s", c.want)
				}
				return
			}
			b, err := json.Marshal(x)
			if string(b) != c.want || err != nil {
				t.Errorf("got  %s, %v\nwant %s", b, err, c.want)
			}
			var back Touch
			if err := json.Unmarshal(b, &back); err != nil || back.Added() != x.Added() || back.Removed() != x.Removed() {
				t.Errorf("read back as %+v, %v", back, err)
			}
			if got := fmt.Sprint(back.Fields()); got != c.fields && len(back.Fields())+len(c.fields) > 0 {
				t.Errorf("fields\n got %s\nwant %s", got, c.fields)
			}
		})
	}
	if _, err := TouchOf(n, &Node{Name: "n2"}); err == nil {
		t.Error("one node became another")
	}
}

func TestUndoRefusesWhatChangedSince(t *testing.T) {
	before := &Node{Name: "n1", Groups: []GroupName{"a"}, Attrs: map[AttrName]string{"custom.x": "1", "bmc.password": "sealed:v1:a"}}
	after := &Node{Name: "n1", Attrs: map[AttrName]string{"custom.x": "2", "bmc.password": "sealed:v1:b"}, Lock: &Lock{Actor: "root", Time: noon}}
	net := &Network{Name: "c", Prefix: "10.0.0.0/8"}
	touches := []Touch{*touch(t, before, after), *touch(t, nil, &Group{Name: "new"}), *touch(t, net, nil)}
	world := func(ops ...Op) *Snapshot { return apply(t, Empty(), ops...) }
	put := func(n Node) Op { return Op{KindNode, "n1", &n} }
	made := group("new", "")
	other := *after
	other.Attrs = map[AttrName]string{"custom.x": "2", "bmc.password": "sealed:v1:b", "custom.since": "kept"}
	again := other
	again.Attrs = map[AttrName]string{"custom.x": "3", "bmc.password": "sealed:v1:c"}
	again.Lock = &Lock{Actor: "eva", Reason: "mine", Time: noon.Add(time.Hour)}
	again.Groups = []GroupName{"b"}
	for _, c := range []struct {
		name string
		s    *Snapshot
		rev  Revision
		want string
	}{
		{"as it was left", world(put(*after), made), 1, ""},
		{"other fields", world(put(other), made), 1, ""},
		{"the same fields, the same documents", world(put(again), made, Op{KindNetwork, "c", net}), 0, `n1: bmc.password was changed since: it is ******** now. Set it yourself, or undo the later change first
n1: custom.x was changed since: it is 3 now. Set it yourself, or undo the later change first
n1: groups was changed since: it is b now. Set it yourself, or undo the later change first
n1: lock was changed since: it is "eva: mine" now. Set it yourself, or undo the later change first
group new: it was changed since it was made: by change 1. Undo change 1 first, or remove it
network c: it is there again: made anew by change 1. Remove or rename it first`},
		{"gone", world(), 1, "n1: it is not there any more: a later change removed it. Undo that one first\ngroup new: it is not there any more: a later change removed it. Undo that one first"},
	} {
		ops, problems := Undo(c.s, c.rev, touches)
		var got []string
		for _, p := range problems {
			got = append(got, p.Error())
		}
		if strings.Join(got, "\n") != c.want {
			t.Errorf("%s: got\n%s\nwant\n%s", c.name, strings.Join(got, "\n"), c.want)
		}
		if len(problems) > 0 {
			continue
		}
		s := apply(t, c.s, ops...)
		if s.Group("new") != nil || s.Network("c") == nil || s.Node("n1").Attrs["custom.x"] != "1" || s.Node("n1").Lock != nil {
			t.Errorf("%s: it was not taken back: %+v", c.name, s.Node("n1"))
		}
		if c.name == "other fields" && s.Node("n1").Attrs["custom.since"] != "kept" {
			t.Errorf("%s: a later change was taken back, too", c.name)
		}
	}
}

// anyDoc draws a document of every family whose changes are kept.
func anyDoc(t *rapid.T, kind Kind) any {
	word := rapid.SampledFrom([]string{"", "a", "b<\"ä", "sealed:v1:x"})
	attrs := func() map[AttrName]string {
		return rapid.MapOfN(rapid.SampledFrom([]AttrName{"custom.a", "custom.b", "bmc.password", "net.boot.dns"}), word, 0, 4).Draw(t, "attrs")
	}
	words := func() []string { return rapid.SliceOfN(word, 0, 3).Draw(t, "words") }
	number := rapid.SampledFrom([]int{0, 1, 4094})
	switch kind {
	case KindNode:
		n := &Node{Name: "x", Attrs: attrs(), Created: noon.Add(time.Duration(number.Draw(t, "time")))}
		for _, w := range words() {
			n.Groups, n.Aliases = append(n.Groups, GroupName(w)), append(n.Aliases, NodeName(w))
		}
		if rapid.Bool().Draw(t, "locked") {
			n.Lock = &Lock{Actor: word.Draw(t, "actor"), Reason: word.Draw(t, "reason"), Time: noon.Add(time.Duration(number.Draw(t, "time"))), Expires: noon.Add(time.Duration(number.Draw(t, "expires")))}
		}
		return n
	case KindGroup:
		return &Group{Name: "x", Range: word.Draw(t, "range"), Attrs: attrs()}
	case KindNetwork:
		return &Network{Name: "x", Prefix: word.Draw(t, "prefix"), Gateway: word.Draw(t, "gateway"), DNS: words(), VLAN: number.Draw(t, "vlan")}
	case KindUser:
		return &User{Name: "x", Comment: word.Draw(t, "comment")}
	case KindRole:
		return &Role{Name: "x", Verbs: words(), Range: word.Draw(t, "range")}
	}
	return &Image{Name: "x", Size: int64(number.Draw(t, "size")), Kernelf: File{word.Draw(t, "name"), word.Draw(t, "digest"), 7}, Built: noon}
}

var touched = []Kind{KindNode, KindGroup, KindNetwork, KindUser, KindRole, KindImage}

// canonical is a document as JSON, without the differences that nobody sees: an empty list and none.
func canonical(t testing.TB, doc any) string {
	t.Helper()
	if head(doc).doc == nil {
		return "none"
	}
	m, err := treeOf(doc)
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range m {
		if l, ok := v.([]any); v == nil || ok && len(l) == 0 {
			delete(m, k)
		}
	}
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestUndoOfAnyChangeGivesTheOldDocumentsBack(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		kind := rapid.SampledFrom(touched).Draw(rt, "kind")
		draw := func(label string) any {
			if rapid.IntRange(0, 4).Draw(rt, label) == 0 {
				return nil
			}
			return anyDoc(rt, kind)
		}
		before, after := draw("before"), draw("after")
		x := touch(t, before, after)
		if x == nil {
			if canonical(t, before) != canonical(t, after) {
				rt.Fatalf("no touch from %s to %s", canonical(t, before), canonical(t, after))
			}
			return
		}
		s := Empty()
		if after != nil {
			s = apply(t, s, Op{kind, "x", after})
		}
		b, err := json.Marshal(x)
		if err != nil {
			rt.Fatal(err)
		}
		var stored Touch
		if err := json.Unmarshal(b, &stored); err != nil {
			rt.Fatal(err)
		}
		ops, problems := Undo(s, s.Revision, []Touch{stored})
		if len(problems) > 0 {
			rt.Fatalf("%s: %v", b, problems)
		}
		if got, want := canonical(t, apply(t, s, ops...).Doc(kind, "x")), canonical(t, before); got != want {
			rt.Fatalf("%s\n got %s\nwant %s", b, got, want)
		}
	})
}

// TestTouchesAreMergePatches checks the typed way against RFC 7386: each patch makes one document of the other.
func TestTouchesAreMergePatches(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		kind := rapid.SampledFrom(touched).Draw(rt, "kind")
		before, after := anyDoc(rt, kind), anyDoc(rt, kind)
		x := touch(t, before, after)
		if x == nil {
			return
		}
		through := func(doc any, patch json.RawMessage) string {
			tree, err := treeOf(doc)
			if err != nil {
				rt.Fatal(err)
			}
			p, err := readObject(patch)
			if err != nil {
				rt.Fatalf("%s: %v", patch, err)
			}
			b, err := json.Marshal(merge(tree, p))
			if err != nil {
				rt.Fatal(err)
			}
			out, err := Decode(kind, b)
			if err != nil {
				rt.Fatalf("%s: %v", b, err)
			}
			return canonical(t, out)
		}
		if got, want := through(before, x.Now), canonical(t, after); got != want {
			rt.Fatalf("now %s\n got %s\nwant %s", x.Now, got, want)
		}
		if got, want := through(after, x.Was), canonical(t, before); got != want {
			rt.Fatalf("was %s\n got %s\nwant %s", x.Was, got, want)
		}
	})
}

// The examples of RFC 7386, appendix A, whose results are objects.
func TestMergePatch(t *testing.T) {
	for _, c := range []struct{ target, patch, want string }{
		{`{"a":"b"}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"b"}`, `{"b":"c"}`, `{"a":"b","b":"c"}`},
		{`{"a":"b"}`, `{"a":null}`, `{}`},
		{`{"a":"b","b":"c"}`, `{"a":null}`, `{"b":"c"}`},
		{`{"a":["b"]}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"c"}`, `{"a":["b"]}`, `{"a":["b"]}`},
		{`{"a":{"b":"c"}}`, `{"a":{"b":"d","c":null}}`, `{"a":{"b":"d"}}`},
		{`{"a":[{"b":"c"}]}`, `{"a":[1]}`, `{"a":[1]}`},
		{`{"e":null}`, `{"a":1}`, `{"a":1,"e":null}`},
		{`{}`, `{"a":{"bb":{"ccc":null}}}`, `{"a":{"bb":{}}}`},
	} {
		target, err := readObject([]byte(c.target))
		if err != nil {
			t.Fatal(err)
		}
		patch, err := readObject([]byte(c.patch))
		if err != nil {
			t.Fatal(err)
		}
		got, err := json.Marshal(merge(target, patch))
		if string(got) != c.want || err != nil {
			t.Errorf("%s with %s: got %s, %v, want %s", c.target, c.patch, got, err, c.want)
		}
	}
}

func FuzzMergePatch(f *testing.F) {
	f.Add(`{"a":{"b":1},"c":[1,{"d":2}]}`, `{"a":{"b":1.0,"x":"y"}}`)
	f.Add(`{"a":null}`, `{"a":{}}`)
	f.Add(`{"":{"":[]}}`, `{"":{"":{}}}`)
	f.Fuzz(func(t *testing.T, from, to string) {
		x, err := readObject([]byte(from))
		if err != nil {
			return
		}
		y, err := readObject([]byte(to))
		if err != nil {
			return
		}
		x, y = withoutNull(x), withoutNull(y) // a merge patch cannot tell them
		d := difference(x, y)
		if got := merge(x, d).(map[string]any); !equal(got, y) {
			t.Fatalf("from %v to %v: %v gives %v", x, y, d, got)
		}
		if again := difference(y, y); len(again) > 0 {
			t.Fatalf("%v differs from itself: %v", y, again)
		}
	})
}

func withoutNull(m map[string]any) map[string]any {
	out := map[string]any{}
	for k, v := range m {
		if inside, ok := v.(map[string]any); ok {
			v = withoutNull(inside)
		}
		if v != nil {
			out[k] = v
		}
	}
	return out
}

// What the store kept may be damaged: it is told, whatever it is.
func FuzzUndoOfAnyRecord(f *testing.F) {
	f.Add(`{"attrs":{"custom.x":"1"}}`, `{"attrs":{"custom.x":"2"}}`)
	f.Add(`{"attrs":7,"groups":{"a":1}}`, `{"lock":{"actor":[]}}`)
	f.Add(`null`, ``)
	f.Add(`{"name":"x"}`, `null`)
	f.Fuzz(func(t *testing.T, was, now string) {
		s, _ := one(t, "n1", map[AttrName]string{"custom.x": "2"})
		x := Touch{Kind: KindNode, Name: "n1", Was: json.RawMessage(was), Now: json.RawMessage(now)}
		x.Fields()
		ops, problems := Undo(s, 1, []Touch{x})
		if len(ops)+len(problems) == 0 {
			t.Fatal("neither done nor refused")
		}
	})
}

func BenchmarkTouch(b *testing.B) {
	for _, n := range sizes {
		var before, after []any
		for _, op := range cluster(n) {
			if x, ok := op.Doc.(*Node); ok {
				y := *x
				y.Attrs = map[AttrName]string{}
				for a, v := range x.Attrs {
					y.Attrs[a] = v
				}
				y.Attrs["custom.a7"] = "another"
				before, after = append(before, x), append(after, &y)
			}
		}
		b.Run(fmt.Sprintf("set/%d", n), func(b *testing.B) {
			defer processor(b)()
			for b.Loop() {
				for i := range before {
					if x, err := TouchOf(before[i], after[i]); err != nil || x == nil {
						b.Fatal(err)
					}
				}
			}
		})
		b.Run(fmt.Sprintf("undo/%d", n), func(b *testing.B) {
			var ops []Op
			var touches []Touch
			for i := range after {
				ops = append(ops, Op{KindNode, string(after[i].(*Node).Name), after[i]})
				touches = append(touches, *touch(b, before[i], after[i]))
			}
			s := apply(b, Empty(), ops...)
			defer processor(b)()
			for b.Loop() {
				if _, problems := Undo(s, s.Revision, touches); problems != nil {
					b.Fatal(problems[0])
				}
			}
		})
	}
}
