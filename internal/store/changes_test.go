package store

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"muster/internal/model"
)

func group(name string, attrs ...string) model.Op {
	g := &model.Group{Name: model.GroupName(name), Attrs: map[model.AttrName]string{}}
	for i := 0; i < len(attrs); i += 2 {
		g.Attrs[model.AttrName(attrs[i])] = attrs[i+1]
	}
	return model.Op{Kind: model.KindGroup, Name: name, Doc: g}
}

func revisions(changes []model.Change) (out []model.Revision) {
	for _, c := range changes {
		out = append(out, c.Revision)
	}
	return out
}

// touchText is "kind name was now" of each touch.
func touchText(touches []model.Touch) string {
	var lines []string
	for _, t := range touches {
		lines = append(lines, fmt.Sprintf("%s %s %s %s", t.Kind, t.Name, t.Was, t.Now))
	}
	return strings.Join(lines, "\n")
}

func TestChanges(t *testing.T) {
	s := open(t, Options{EventFile: 700}) // many small files
	by := func(actor, verb string, when int64, ops ...model.Op) model.Revision {
		c := change(verb, ops...)
		c.Actor, c.Time, c.What = actor, time.Unix(when, 0).UTC(), `a trap: ,"actor":"bob","verb":"set"`
		c.Events = []model.Event{{Step: "test", What: "done"}}
		return commit(t, s, c)
	}
	add := by("alice", "node add", 1000, node("a", "x", "1"), node("b"))
	set := by("bob", "set", 2000, node("a", "x", "2"))
	grp := by("alice", "group set", 3000, group("g", "y", "1"))
	s.Tell(model.Event{Step: "test", What: "told"})
	s.awaitTold()
	reveal := by("bob", "secret reveal", 4000)
	same := by("alice", "set", 5000, node("a", "x", "2")) // nothing differs
	gone := by(`eve "q"`, "node remove", 6000, model.Op{Kind: model.KindNode, Name: "a"}, model.Op{Kind: model.KindState, Name: "a"})
	all := []model.Revision{add, set, grp, reveal, same, gone}

	nodeA := map[model.NodeName]bool{"a": true}
	for name, c := range map[string]struct {
		q    ChangeQuery
		want []model.Revision
	}{
		"all":                 {ChangeQuery{}, all},
		"of a node":           {ChangeQuery{Nodes: nodeA}, []model.Revision{add, set, gone}},
		"of another":          {ChangeQuery{Nodes: map[model.NodeName]bool{"b": true, "c": true}}, []model.Revision{add}},
		"of none":             {ChangeQuery{Nodes: map[model.NodeName]bool{}}, nil},
		"of a group":          {ChangeQuery{Docs: map[Doc]bool{{model.KindGroup, "g"}: true, {model.KindUser, "a"}: true}}, []model.Revision{grp}},
		"of a node and group": {ChangeQuery{Nodes: nodeA, Docs: map[Doc]bool{{model.KindGroup, "g"}: true}}, []model.Revision{add, set, grp, gone}},
		"by an actor":         {ChangeQuery{Actor: "bob"}, []model.Revision{set, reveal}},
		"by an odd actor":     {ChangeQuery{Actor: `eve "q"`}, []model.Revision{gone}},
		"of a verb":           {ChangeQuery{Verb: "set"}, []model.Revision{set, same}},
		"since":               {ChangeQuery{Since: time.Unix(3000, 0)}, []model.Revision{grp, reveal, same, gone}},
		"after":               {ChangeQuery{After: grp}, []model.Revision{reveal, same, gone}},
		"before":              {ChangeQuery{Before: grp}, []model.Revision{add, set}},
		"between":             {ChangeQuery{After: add, Before: gone}, []model.Revision{set, grp, reveal, same}},
		"the newest":          {ChangeQuery{Limit: 2}, []model.Revision{same, gone}},
		"the newest of many":  {ChangeQuery{Nodes: nodeA, Actor: "bob", Limit: 5}, []model.Revision{set}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := s.Changes(c.q)
			if err != nil || !reflect.DeepEqual(revisions(got), c.want) {
				t.Errorf("got  %v, %v\nwant %v", revisions(got), err, c.want)
			}
			for _, c := range got {
				if c.Touches != nil || c.Events != nil || c.Request != "q1" {
					t.Errorf("got %+v, want neither touches nor events", c)
				}
			}
		})
	}
	t.Run("with what they touched, of the wanted documents", func(t *testing.T) {
		got, err := s.Changes(ChangeQuery{Nodes: map[model.NodeName]bool{"b": true}, Touches: true})
		if err != nil || len(got) != 1 || touchText(got[0].Touches) != "node b null " {
			t.Errorf("got %+v, %v", got, err)
		}
	})
	t.Run("one by its revision, with all that it touched", func(t *testing.T) {
		for rev, want := range map[model.Revision]string{
			add:    "node a null \nnode b null ",
			set:    `node a {"attrs":{"x":"1"}} {"attrs":{"x":"2"}}`,
			reveal: "",
			same:   "",
			gone:   `node a {"attrs":{"x":"2"},"groups":["compute"],"name":"a"} null`,
		} {
			got, err := s.Change(rev)
			if err != nil || got == nil || got.Revision != rev || !sameTouches(got.Touches, want) {
				t.Errorf("revision %d: got %+v, %v, want %s", rev, got, err, want)
			}
		}
		for _, rev := range []model.Revision{0, 1, grp + 1, gone + 1} {
			if got, err := s.Change(rev); got != nil || err != nil {
				t.Errorf("revision %d: got %+v, %v, want none", rev, got, err)
			}
		}
	})
}

// sameTouches compares touches with their text; the order of members in a removed document is the model's.
func sameTouches(got []model.Touch, want string) bool {
	for i := range got {
		if got[i].Removed() {
			var v any
			_ = json.Unmarshal(got[i].Was, &v)
			got[i].Was, _ = json.Marshal(v)
		}
	}
	return touchText(got) == want
}

// A change that replaces what is there, whatever it is, records what was there.
func TestTouchesOfAChangeThatWasOvertaken(t *testing.T) {
	s := open(t, Options{})
	commit(t, s, change("node add", node("a", "x", "1")))
	first := true
	s.engine.client.KV = &interposed{KV: s.engine.client.KV, beforeTxn: func() {
		if first {
			first = false
			commit(t, s, change("set", node("a", "x", "2")))
		}
	}}
	c := change("set", node("a", "x", "3"))
	commit(t, s, c)
	if want := `node a {"attrs":{"x":"2"}} {"attrs":{"x":"3"}}`; touchText(c.Touches) != want {
		t.Errorf("got %s, want %s", touchText(c.Touches), want)
	}
}

func TestChangesOfManyDocuments(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	const n = 5000
	var ops []model.Op
	for i := range n {
		ops = append(ops, node(fmt.Sprint("n", i), "x", fmt.Sprint(i)))
	}
	ops = append(ops, group("g"))
	first := commit(t, s, change("node add", ops...))
	for i := range n {
		ops[i] = node(fmt.Sprint("n", i), "x", fmt.Sprint(i*i), "y", "new")
	}
	c := change("set", ops[:n]...)
	second := commit(t, s, c)
	one := func(s *Store, i int) {
		t.Helper()
		name := model.NodeName(fmt.Sprint("n", i))
		got, err := s.Changes(ChangeQuery{Nodes: map[model.NodeName]bool{name: true}, Touches: true})
		if err != nil || len(got) != 2 || got[0].Revision != first || got[1].Revision != second {
			t.Fatalf("%s: got %v, %v", name, revisions(got), err)
		}
		want := fmt.Sprintf(`node %s {"attrs":{"x":"%d","y":null}} {"attrs":{"x":"%d","y":"new"}}`, name, i, i*i)
		if i*i == i {
			want = fmt.Sprintf(`node %s {"attrs":{"y":null}} {"attrs":{"y":"new"}}`, name)
		}
		if touchText(got[0].Touches) != fmt.Sprintf("node %s null ", name) || touchText(got[1].Touches) != want {
			t.Errorf("%s: got %s, %s", name, touchText(got[0].Touches), touchText(got[1].Touches))
		}
	}
	for range 2 {
		for i := 0; i < n; i += 97 {
			one(s, i)
		}
		one(s, n-1)
		for _, none := range []string{"a", "n", "n0x", "z"} {
			if got, err := s.Changes(ChangeQuery{Nodes: map[model.NodeName]bool{model.NodeName(none): true}}); err != nil || len(got) > 0 {
				t.Errorf("%s: got %v, %v", none, revisions(got), err)
			}
		}
		if got, err := s.Change(second); err != nil || !reflect.DeepEqual(got.Touches, c.Touches) {
			t.Errorf("got %d touches, %v, want %d", len(got.Touches), err, len(c.Touches))
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, Options{Dir: dir})
	}
	if fi := sizes(t, dir)["/changes/00000000000000000001.jsonl"]; fi == 0 || fi > 200_000 {
		t.Errorf("the audit trail takes %d bytes", fi)
	}
}

// What people describe leaves touches; what is observed, proved or secret leaves none, and batches of told events leave no change.
func TestTouchesOfOtherFamilies(t *testing.T) {
	s := open(t, Options{})
	c := change(
		"all", model.Op{Kind: model.KindImage, Name: "i", Doc: &model.Image{Name: "i"}},
		model.Op{Kind: model.KindUser, Name: "u", Doc: &model.User{Name: "u"}}, model.Op{Kind: model.KindRole, Name: "r", Doc: &model.Role{Name: "r"}},
		model.Op{Kind: model.KindNetwork, Name: "w", Doc: &model.Network{Name: "w"}}, node("n"), group("g"),
		model.Op{Kind: model.KindState, Name: "n", Doc: &model.State{Node: "n"}}, model.Op{Kind: model.KindSealKey, Name: "k", Doc: &model.SealKey{ID: "k"}},
		model.Op{Kind: model.KindIdentity, Name: "n", Doc: &model.Identity{Node: "n"}}, model.Op{Kind: model.KindManager, Name: "m", Doc: &model.Manager{Name: "m"}},
		model.Op{Kind: model.KindDeployment, Name: "n", Doc: &model.Deployment{Node: "n"}},
	)
	commit(t, s, c)
	if want := "group g null \nimage i null \nnetwork w null \nnode n null \nrole r null \nuser u null "; touchText(c.Touches) != want {
		t.Errorf("got\n%s\nwant\n%s", touchText(c.Touches), want)
	}
	if _, err := s.Commit(t.Context(), &model.Change{Ops: []model.Op{node("x")}}); err == nil || !strings.Contains(err.Error(), "verb") {
		t.Errorf("a change without a verb: %v", err)
	}
	c = change("loud")
	c.Events = make([]model.Event, maxPart)
	if _, err := s.Commit(t.Context(), c); !IsKind(err, TooLarge) {
		t.Errorf("too many events: %v", err)
	}
	c.Events = c.Events[1:]
	rev := commit(t, s, c)
	if events, err := s.Events(EventQuery{Limit: 1}); err != nil || len(events) != 1 || events[0].Seq != int64(rev)<<16+maxPart-1 {
		t.Errorf("the last of as many as a change takes: %+v, %v", events, err)
	}
}

func FuzzPackTouches(f *testing.F) {
	f.Add("r1n1", "r1n2", `{"attrs":{"x":"1"}}`, 3)
	f.Add("a", "{\"from\":", `{"kind":"node","name":"r1n1"}`, 700)
	f.Add("é\"", "\\", "null", 1500)
	f.Fuzz(func(t *testing.T, x, y, patch string, n int) {
		if !json.Valid([]byte(patch)) || n < 0 || n > 3000 {
			return
		}
		var all []model.Touch
		for i := range n {
			all = append(all, model.Touch{Kind: model.KindNode, Name: fmt.Sprintf("%s%06d%s", strings.ToValidUTF8(x, ""), i, strings.ToValidUTF8(y, "")), Now: []byte(patch)})
		}
		plain, packed, err := packTouches(all)
		if err != nil {
			t.Fatal(err)
		}
		line, err := json.Marshal(&changeLine{Seq: 7, Change: model.Change{What: x + y}, Touches: plain, TouchesZ: packed})
		if err != nil {
			t.Fatal(err)
		}
		var u touchReader
		defer u.close()
		got, err := u.all(append(line, '\n'))
		if err != nil || len(got) != len(all) {
			t.Fatalf("got %d, %v, want %d", len(got), err, n)
		}
		for i := range got {
			compact := new(bytes.Buffer)
			_ = json.Compact(compact, all[i].Now)
			var a, b any
			_, _ = json.Unmarshal(got[i].Now, &a), json.Unmarshal(all[i].Now, &b)
			if got[i].Name != all[i].Name || !reflect.DeepEqual(a, b) {
				t.Fatalf("got %+v, want %+v", got[i], all[i])
			}
		}
	})
}

// FuzzChangeLine looks for changes in lines that anything may have happened to.
func FuzzChangeLine(f *testing.F) {
	f.Add([]byte(`{"seq":65536,"revision":1,"time":"2026-01-01T00:00:00Z","actor":"a","verb":"set","request":"","touches":[{"kind":"node","name":"r1n1","was":null}]}` + "\n"))
	f.Add([]byte(`{"seq":65536,"revision":1,"actor":"a","touchesz":[{"from":{"kind":"node","name":"r1n1"},"z":"KLUv/QQA"},{"from":{"kind":"node","name":"r1n3"},"z":""}]}` + "\n"))
	f.Add([]byte(`{"seq":1,"touchesz":[{"from":` + "\n"))
	f.Fuzz(func(t *testing.T, line []byte) {
		for _, q := range []ChangeQuery{{}, {Touches: true}, {Nodes: map[model.NodeName]bool{"r1n1": true}, Touches: true}, {Actor: "a", Verb: "set"}} {
			w := newWanted(&q)
			c, ok := w.want(1, line)
			w.unpack.close()
			if ok && q.Actor != "" && (c.Actor != q.Actor || c.Verb != q.Verb) {
				t.Fatalf("got %+v", c)
			}
			if ok && q.Nodes != nil && (len(c.Touches) == 0 || c.Touches[0].Name != "r1n1") {
				t.Fatalf("got %+v", c)
			}
		}
	})
}

func TestChangesAfter_says_whether_it_has_all(t *testing.T) {
	s := open(t, Options{})
	var revs []model.Revision
	put := func(name string) { revs = append(revs, commit(t, s, change("set", node(name)))) }
	put("a")
	put("b")
	has := func(q ChangeQuery, want int, whole bool) {
		t.Helper()
		if got, all, err := s.ChangesAfter(q); err != nil || len(got) != want || all != whole {
			t.Errorf("%+v: %d changes, all of them %v, %v; want %d, %v", q, len(got), all, err, want, whole)
		}
	}
	has(ChangeQuery{After: revs[0]}, 1, true)
	has(ChangeQuery{After: revs[0] - 1, Limit: 1}, 1, false)
	// As when this manager was away, and the others kept no record of what came next.
	s.audit.append(int64(revs[1])<<partBits|maxPart, &gapLine{Seq: int64(revs[1])<<partBits | maxPart, Gap: true})
	put("c")
	has(ChangeQuery{After: revs[1]}, 1, true)
	has(ChangeQuery{After: revs[0]}, 3, false) // one of them says that some are lost
	if got, err := s.Changes(ChangeQuery{}); err != nil || len(got) != 4 {
		t.Errorf("%d changes, %v", len(got), err)
	}
}
