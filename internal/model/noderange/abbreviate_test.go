package noderange

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestAbbreviate(t *testing.T) {
	var all []string
	groups := map[string][]string{"web": {"n1"}, "odd": nil, "login": {"n1", "n2", "n3", "n5", "n7"}}
	for r := 1; r <= 4; r++ {
		rack := numbered(fmt.Sprintf("r%dn%%02d", r), 1, 40)
		groups[fmt.Sprintf("rack%d", r)] = rack
		all = append(all, rack...)
	}
	n := numbered("n%d", 1, 1000)
	c := numbered("gpu%d", 1, 48)
	groups["compute"] = slices.Concat(n, c)
	for i := 0; i < len(n); i += 2 {
		groups["odd"] = append(groups["odd"], n[i])
	}
	all = slices.Concat(all, n, c, []string{"web", "x.y"})
	w := newFake(all, groups)
	for expr, want := range map[string]string{
		"compute":             "compute",
		"n[1-1000]":           "n[1-1000]",
		"n[1-99,301-1000]":    "n[1-99,301-1000]", // shorter than compute without the others
		"compute,-n[100-300]": "compute,-n[100-300]",
		"rack1,rack2,n7":      "rack1,rack2,n7",
		"rack1,r2n[01-40]":    "rack1,rack2",
		"everything":          "everything",
		"everything,-r3n07":   "everything,-r3n07",
		"n7":                  "n7",
		"n1":                  "n1", // a group that saves nothing
		"r1n[01-03]":          "r1n[01-03]",
		"odd":                 "odd",
		"odd,n2":              "odd,n2",
		"odd,-n9":             "odd,-n9",
		"login":               "login",
		"rack[1-3]":           "r[1-3]n[01-40]", // needs no group
	} {
		names, err := Expand(w, expr, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if got := Abbreviate(w, names); got != want {
			t.Errorf("%s: got %s, want %s", expr, got, want)
		}
	}
	if got := Abbreviate(w, []string{"n2", "gone7", "gone8"}); got != "gone[7-8],n2" {
		t.Errorf("names of no node: %s", got)
	}
	if got := Abbreviate(w, nil); got != "" {
		t.Errorf("nothing: %s", got)
	}
}

func TestAbbreviateWritesGroupsThatNodesHaveTheNameOfWithAnAt(t *testing.T) {
	names := numbered("n%d", 1, 99)
	odd := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return len(n)%2 == 0 || strings.HasSuffix(n, "3") })
	w := newFake(append(names, "g"), map[string][]string{"g": odd})
	if got := Abbreviate(w, odd); got != "@g" {
		t.Errorf("got %s", got)
	}
	w = newFake(names, map[string][]string{"g": odd})
	w.alias = map[string]string{"g": "n1"}
	if got := Abbreviate(w, odd); got != "@g" {
		t.Errorf("got %s", got)
	}
}

// anyWorld has random nodes in random groups, some of them named as nodes or ranges.
func anyWorld(t *rapid.T) *fake {
	all := sortedSet(rapid.SliceOfN(anyName, 1, 60).Draw(t, "nodes"))
	groups := map[string][]string{}
	for _, g := range append([]string{"g", "rack1", "rack2", "n1-n3", "a-5", "very-long-name-of-a-group"}, all[0]) {
		mask := rapid.Uint64().Draw(t, "members of "+g)
		if rapid.Bool().Draw(t, "many in "+g) {
			mask = ^uint64(0) << rapid.IntRange(0, 63).Draw(t, "from")
		}
		for i, n := range all {
			if mask>>(i%64)&1 == 1 {
				groups[g] = append(groups[g], n)
			}
		}
	}
	w := newFake(all, groups)
	w.alias = map[string]string{"rack2": all[len(all)-1]}
	return w
}

func TestExpandOfAbbreviateIsTheSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := anyWorld(t)
		names := w.names.names
		set := map[string]bool{}
		for range rapid.IntRange(0, 3).Draw(t, "groups") {
			for _, n := range w.groups[rapid.SampledFrom([]string{"g", "rack1", "rack2", "n1-n3", "a-5", "very-long-name-of-a-group", names[0]}).Draw(t, "group")] {
				set[n] = true
			}
		}
		for range rapid.IntRange(0, 4).Draw(t, "nodes") {
			n := rapid.SampledFrom(names).Draw(t, "node")
			set[n] = !set[n]
		}
		maps.DeleteFunc(set, func(_ string, in bool) bool { return !in })
		want := slices.SortedFunc(maps.Keys(set), Natural)
		if len(want) == 0 {
			return
		}
		text := Abbreviate(w, want)
		got, err := Expand(w, text, Options{})
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("%v is abbreviated to %s, which is %v, %v", want, text, got, err)
		}
		if plain := Fold(want); len(text) > len(plain) {
			t.Fatalf("%s is longer than %s", text, plain)
		}
		if again := Abbreviate(w, want); again != text {
			t.Fatalf("%s and %s", text, again)
		}
	})
}

func BenchmarkAbbreviate(b *testing.B) {
	for _, n := range sizes {
		names := numbered("n%d", 1, n)
		groups := map[string][]string{"compute": names}
		for r := range 100 {
			groups[fmt.Sprintf("rack%d", r)] = names[r*n/100 : (r+1)*n/100]
		}
		w := &cached{newFake(names, groups), map[string]*Set{}}
		for _, expr := range []string{"compute", "compute,-n[100-300]", "rack[3-50],n7", "~.*[13]"} {
			all, err := Expand(w, expr, Options{})
			if err != nil {
				b.Fatal(err)
			}
			b.Run(fmt.Sprintf("%s/%d", expr, n), func(b *testing.B) {
				for b.Loop() {
					Abbreviate(w, all)
				}
			})
		}
	}
}

// cached is a world that finds each group once, as the model does.
type cached struct {
	*fake
	sets map[string]*Set
}

func (c *cached) Group(name string) (*Set, bool) {
	if s := c.sets[name]; s != nil {
		return s, true
	}
	s, ok := c.fake.Group(name)
	if ok {
		c.sets[name] = s
	}
	return s, ok
}
