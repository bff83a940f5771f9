package noderange

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var anyName = rapid.Custom(func(t *rapid.T) string {
	s := ""
	for range rapid.IntRange(1, 3).Draw(t, "parts") {
		s += rapid.SampledFrom([]string{"n", "r", "a-", "x.", "n1-n", "u-", "0", ""}).Draw(t, "text")
		s += fmt.Sprintf("%0*d", rapid.IntRange(1, 3).Draw(t, "width"), rapid.IntRange(0, 120).Draw(t, "number"))
	}
	return s
})

func sortedSet(names []string) []string {
	out := slices.Clone(names)
	slices.SortFunc(out, Natural)
	return slices.Compact(out)
}

func TestExpandOfFoldIsTheSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOfN(anyName, 1, 60).Draw(t, "names")
		want := sortedSet(names)
		folded := Fold(names)
		got, err := ExpandNames(folded)
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("%v folds to %s, which expands to %v, %v", want, folded, got, err)
		}
		got, err = Expand(newFake(want, nil), folded, Options{})
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("%v folds to %s, which is %v, %v among them", want, folded, got, err)
		}
		if again := Fold(got); again != folded {
			t.Fatalf("%v folds to %s and to %s", want, folded, again)
		}
	})
}

func TestNaturalIsATotalOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := anyName.Draw(t, "a"), anyName.Draw(t, "b"), anyName.Draw(t, "c")
		if Natural(a, b) != -Natural(b, a) || (Natural(a, b) == 0) != (a == b) {
			t.Fatalf("%q and %q: %d, %d", a, b, Natural(a, b), Natural(b, a))
		}
		if Natural(a, b) <= 0 && Natural(b, c) <= 0 && Natural(a, c) > 0 {
			t.Fatalf("%q %q %q: not transitive", a, b, c)
		}
	})
}

func TestFindKnowsEveryName(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := sortedSet(rapid.SliceOfN(anyName, 1, 60).Draw(t, "names"))
		index := NewNames(slices.Values(names), len(names))
		for i, n := range names {
			if id, ok := index.Find(n); !ok || id != i {
				t.Fatalf("%s is at %d, %v; want %d", n, id, ok, i)
			}
		}
		other := anyName.Draw(t, "other")
		if _, ok := index.Find(other); ok != slices.Contains(names, other) {
			t.Fatalf("%s among %v: %v", other, names, ok)
		}
	})
}

// meaning is an expression and the set that it stands for, worked out name by name.
type meaning struct {
	text string
	set  map[string]bool
}

const (
	racks, units = 4, 12
)

func grid() []string {
	var names []string
	for r := 1; r <= racks; r++ {
		for u := 1; u <= units; u++ {
			names = append(names, fmt.Sprintf("r%dn%02d", r, u))
		}
	}
	return names
}

func where(all []string, keep func(string) bool) map[string]bool {
	set := map[string]bool{}
	for _, n := range all {
		if keep(n) {
			set[n] = true
		}
	}
	return set
}

// draw makes a random expression over the grid; pages says whether it may have pages.
func draw(t *rapid.T, all []string, depth int, pages bool) meaning {
	r1 := rapid.IntRange(1, racks).Draw(t, "r1")
	r2 := rapid.IntRange(r1, racks).Draw(t, "r2")
	u1 := rapid.IntRange(1, units).Draw(t, "u1")
	u2 := rapid.IntRange(u1, units).Draw(t, "u2")
	step := rapid.IntRange(1, 4).Draw(t, "step")
	in := func(n string) bool {
		var r, u int
		fmt.Sscanf(n, "r%dn%d", &r, &u)
		return r1 <= r && r <= r2 && u1 <= u && u <= u2 && (u-u1)%step == 0
	}
	most := 10
	if depth == 0 {
		most = 5
	}
	switch rapid.IntRange(0, most).Draw(t, "form") {
	case 0:
		return meaning{fmt.Sprintf("r[%d-%d]n[%02d-%02d/%d]", r1, r2, u1, u2, step), where(all, in)}
	case 1:
		step = 1
		return meaning{fmt.Sprintf("r%dn%02d-r%dn%02d", r1, u1, r2, u2), where(all, in)}
	case 2:
		return meaning{fmt.Sprintf("rack%d", r1), where(all, func(n string) bool { return strings.HasPrefix(n, fmt.Sprintf("r%dn", r1)) })}
	case 3:
		return meaning{fmt.Sprintf("~r[%d-%d]n.*%d", r1, r2, u1%10), where(all, func(n string) bool {
			return n[1]-'0' >= byte(r1) && n[1]-'0' <= byte(r2) && n[len(n)-1] == byte('0'+u1%10)
		})}
	case 4:
		return meaning{fmt.Sprintf("parity=%d", u1%2), where(all, func(n string) bool { return int(n[len(n)-1]-'0')%2 == u1%2 })}
	case 5:
		step = 1
		r2 = r1
		return meaning{fmt.Sprintf("r%dn%02d+%d", r1, u1, u2-u1), where(all, in)}
	case 10:
		a := draw(t, all, depth-1, pages)
		if !pages {
			return a
		}
		names := slices.SortedFunc(maps.Keys(a.set), Natural)
		names = names[min(r1, len(names)):]
		names = names[:min(u1, len(names))]
		return meaning{fmt.Sprintf("(%s>%d<%d)", a.text, u1, r1), where(names, func(string) bool { return true })}
	}
	a, b, c := draw(t, all, depth-1, pages), draw(t, all, depth-1, pages), draw(t, all, depth-1, pages)
	switch rapid.IntRange(0, 4).Draw(t, "operator") {
	case 0:
		return meaning{"(" + a.text + "," + b.text + ")", where(all, func(n string) bool { return a.set[n] || b.set[n] })}
	case 1:
		return meaning{"(" + a.text + ",-" + b.text + "," + c.text + ")", where(all, func(n string) bool { return (a.set[n] || c.set[n]) && !b.set[n] })}
	case 2:
		return meaning{"(" + a.text + "!" + b.text + ")", where(all, func(n string) bool { return a.set[n] && !b.set[n] })}
	case 3:
		return meaning{"(" + a.text + "@" + b.text + "^" + c.text + ")", where(all, func(n string) bool { return (a.set[n] && b.set[n]) != c.set[n] })}
	}
	return meaning{"(" + a.text + "^" + b.text + "&" + c.text + ")", where(all, func(n string) bool { return (a.set[n] != b.set[n]) && c.set[n] })}
}

func gridWorld() *fake {
	all := grid()
	w := newFake(all, map[string][]string{})
	w.attrs = map[string]map[string]string{}
	for _, n := range all {
		g := "rack" + n[1:2]
		w.groups[g] = append(w.groups[g], n)
		w.attrs[n] = map[string]string{"parity": fmt.Sprint(int(n[len(n)-1]-'0') % 2)}
	}
	return w
}

func TestExpandAgreesWithTheObviousWay(t *testing.T) {
	w := gridWorld()
	rapid.Check(t, func(t *rapid.T) {
		m := draw(t, grid(), 3, true)
		got, err := Expand(w, m.text, Options{})
		want := slices.SortedFunc(maps.Keys(m.set), Natural)
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("%s\n got %v, %v\nwant %v", m.text, got, err, want)
		}
	})
}

func TestMatchAgreesWithExpand(t *testing.T) {
	w := gridWorld()
	rapid.Check(t, func(t *rapid.T) {
		m := draw(t, grid(), 2, false)
		p, err := Parse(m.text)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range grid() {
			in, err := p.Match(member{n, []string{"rack" + n[1:2]}, w})
			if err != nil || in != m.set[n] {
				t.Fatalf("%s of %s: %v, %v; want %v", n, m.text, in, err, m.set[n])
			}
		}
	})
}

func TestSetLaws(t *testing.T) {
	w := gridWorld()
	expand := func(t *rapid.T, expr string) string {
		got, err := Expand(w, expr, Options{})
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(got, ",")
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := draw(t, grid(), 1, true).text, draw(t, grid(), 1, true).text, draw(t, grid(), 1, true).text
		for _, law := range [][2]string{
			{a + "," + a, a},
			{a + "," + b, b + "," + a},
			{a + "@" + b, b + "@" + a},
			{a + "^" + b, b + "^" + a},
			{"(" + a + "," + b + ")@" + c, "(" + a + "@" + c + "),(" + b + "@" + c + ")"},
			{a + ",-" + b, a + "@(everything,-" + b + ")"},
			{a + "^" + b, "(" + a + "," + b + "),-(" + a + "@" + b + ")"},
			{a + "!" + b, a + ",-" + b},
			{a + "^" + a, a + ",-" + a},
			{"everything,-(" + a + "," + b + ")", "(everything,-" + a + ")@(everything,-" + b + ")"},
		} {
			if x, y := expand(t, law[0]), expand(t, law[1]); x != y {
				t.Fatalf("%s is %s, but %s is %s", law[0], x, law[1], y)
			}
		}
	})
}

// FuzzExpand: never panics, ends, answers nodes of the world in order, and the same a second time.
func FuzzExpand(f *testing.F) {
	for _, s := range []string{"g,-n[1-3]", "(((g)))", "~n.*[12]", "n[1-3][1-9][1-9]", "custom.a=b", "everything>3<1", "al1@g", "@x:g^~.*", "-(n1,all)", "~(a+)+$"} {
		f.Add(s)
	}
	w := newFake(numbered("n%d", 1, 300), map[string][]string{"g": {"n1", "n7"}, "n1-n3": {"n9"}})
	w.alias = map[string]string{"al1": "n5"}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := Expand(w, s, Options{Known: true})
		again, errAgain := Expand(w, s, Options{Known: true})
		if (err == nil) != (errAgain == nil) || !slices.Equal(got, again) {
			t.Fatalf("%q: %v, %v, and then %v, %v", s, got, err, again, errAgain)
		}
		if !slices.IsSortedFunc(got, Natural) || slices.ContainsFunc(got, func(n string) bool { return !w.Has(n) }) {
			t.Fatalf("%q: %v", s, got)
		}
		if text := Abbreviate(w, got); len(got) > 0 {
			if back, err := Expand(w, text, Options{}); err != nil || !slices.Equal(back, got) {
				t.Fatalf("%q: %v is abbreviated to %s, which is %v, %v", s, got, text, back, err)
			}
		}
		p, err := Parse(s)
		if err != nil {
			return
		}
		set, err := p.Set(w)
		for id, n := range w.names.names {
			in, merr := p.Match(member{n, w.groupsOf(n), w})
			if err == nil && merr == nil && in != set.Has(id) {
				t.Fatalf("%q: %s is in: %v, of the set: %v", s, n, in, set.Has(id))
			}
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"n1", "n1-n20", "n[1-20/2],-n3", "r[1-3]u[01-10]", "n10+3", "~n.*,/a{1,2}/", "a.b=c", "a.b!~c", "@g&h^i!j", "(a,(b))>3<2", "^/etc/x", "a,b%c",
		"n[1:9:2]..n", "[", "-", "n[999999999999999999-999999999999999999]", "\x00", `a="b`, "n0-n00", "1..2", "0^-",
	} {
		f.Add(s)
	}
	w := newFake([]string{"n1", "n2", "a-b"}, map[string][]string{"g": {"n1"}})
	f.Fuzz(func(t *testing.T, s string) {
		got, err := Expand(w, s, Options{})
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.Column < 1 || e.Column > len(s)+1 {
				t.Fatalf("%q: %#v", s, err)
			}
		}
		if err == nil && !slices.IsSortedFunc(got, Natural) {
			t.Fatalf("%q: %v is not sorted", s, got)
		}
		p, err := Parse(s)
		if err != nil || size(p) > 10000 {
			return
		}
		names, err := ExpandNames(s)
		if err != nil || len(names) == 0 {
			return
		}
		again, err := ExpandNames(Fold(names))
		if err != nil || !slices.Equal(names, again) {
			t.Fatalf("%q: %v folds to %s, which is %v, %v", s, names, Fold(names), again, err)
		}
	})
}

// size is how many names the words of a plan stand for.
func size(p *Plan) uint64 {
	n := uint64(0)
	for _, t := range p.terms {
		if w, ok := t.(word); ok && w.ranges != nil {
			n += w.ranges.size()
		}
	}
	return n
}
