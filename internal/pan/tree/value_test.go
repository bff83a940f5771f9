package tree

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func TestPut_makes_parents_by_the_kind_of_the_next_term(t *testing.T) {
	root := NewDict(0)
	for _, step := range []struct {
		path string
		v    Value
		want string
	}{
		{"/a/b", Long(1), "{ a, { b, 1 } }"},
		{"/l/2", Long(3), "{ a, { b, 1 }, l, [ undef, undef, 3 ] }"},
		{"/l/0", Long(1), "{ a, { b, 1 }, l, [ 1, undef, 3 ] }"},
		{"/l/1/x", String("y"), "{ a, { b, 1 }, l, [ 1, { x, y }, 3 ] }"},
		{"/l/-1", Long(4), "{ a, { b, 1 }, l, [ 1, { x, y }, 4 ] }"},
		{"/l/0", Null{}, "{ a, { b, 1 }, l, [ { x, y }, 4 ] }"},
		{"/l/9", Null{}, "{ a, { b, 1 }, l, [ { x, y }, 4 ] }"},
		{"/a/b", Null{}, "{ a, {  }, l, [ { x, y }, 4 ] }"},
		{"/a/b", String("now a string"), "{ a, { b, now a string }, l, [ { x, y }, 4 ] }"},
		{"/a", Undef{}, "{ a, undef, l, [ { x, y }, 4 ] }"},
		{"/a/0", Boolean(true), "{ a, [ true ], l, [ { x, y }, 4 ] }"},
		{"/l", Null{}, "{ a, [ true ] }"},
		{"/no/such", Null{}, "{ a, [ true ], no, {  } }"},
	} {
		if err := Put(root, mustPath(t, step.path).Terms, step.v); err != nil {
			t.Fatalf("%s: %v", step.path, err)
		}
		if got := text(t, root); got != step.want {
			t.Fatalf("%s: got %s, want %s", step.path, got, step.want)
		}
	}
}

func TestErrors_have_the_words_of_panc(t *testing.T) {
	root := dictOf("s", String("x"), "d", dictOf("k", Long(1)), "l", ListOf(Long(1), Long(2)))
	for _, c := range []struct {
		do   func(p Path) error
		path string
		want string
	}{
		{func(p Path) error { _, err := Get(root, p.Terms); return err }, "/s/a", "element of type 'string' cannot be dereferenced"},
		{func(p Path) error { _, err := Lookup(root, p.Terms); return err }, "/s/a", ""},
		{func(p Path) error { _, err := Get(root, p.Terms); return err }, "/d/0/a", "cannot dereference element of type 'nlist' with term '0'; error at '/d/0' with full path '/d/0/a'"},
		{func(p Path) error { _, err := Lookup(root, p.Terms); return err }, "/d/0/a", "cannot dereference element of type 'nlist' with term '0'; error at '/d/0' with full path '/d/0/a'"},
		{func(p Path) error { _, err := Get(root, p.Terms); return err }, "/l/k", "cannot dereference element of type 'list' with term 'k'; error at '/l/k' with full path '/l/k'"},
		{func(p Path) error { return Put(root, p.Terms, Long(1)) }, "/l/k", "cannot dereference element of type 'list' with term 'k'; error at '/l/k' with full path '/l/k'"},
		{func(p Path) error { return Put(root, p.Terms, Long(1)) }, "/l/k/z", "cannot dereference element of type 'list' with term 'k'; error at '/l/k' with full path '/l/k/z'"},
		{func(p Path) error { return Put(root, p.Terms, Long(1)) }, "/s/a", "cannot add child to element of type string"},
		{func(p Path) error { return Put(root, p.Terms, Long(1)) }, "/l/-3", "value -3 is an invalid negative list index (lowest allowed -2)"},
		{func(p Path) error { return Put(root, p.Terms, String("x")) }, "/l/1", "existing element of type long cannot be replaced by one of type string"},
		{func(p Path) error { return Put(root, p.Terms, NewList(0)) }, "/d", "existing element of type nlist cannot be replaced by one of type list"},
		{func(p Path) error { _, err := GetList(root, p.Terms); return err }, "/s", "referenced variable of type string is not a list"},
		{func(p Path) error { _, err := GetList(root, p.Terms); return err }, "/s/a", "element of type 'string' cannot be dereferenced"},
		{func(Path) error { return Protect(root).(*Dict).Set("a", Long(1)) }, "/", "illegal attempt to write to protected hash"},
		{func(Path) error { return Protect(NewList(0)).(*List).Append(Long(1)) }, "/", "illegal attempt to write to protected list"},
	} {
		p := mustPath(t, c.path)
		err := c.do(p)
		var term *InvalidTermError
		if errors.As(err, &term) {
			err = term.OfPath(p)
		}
		if got := fmt.Sprint(err); got != c.want && (err != nil || c.want != "") {
			t.Errorf("%s: got %q, want %q", c.path, got, c.want)
		}
	}
	_, err := Get(dictOf("d", NewDict(0)), mustPath(t, "d/0/x").Terms)
	want := "cannot dereference element of type 'nlist' with term '0'; error at 'vd/0' with full path 'v'"
	var term *InvalidTermError
	if !errors.As(err, &term) || term.OfVariable("v").Message != want {
		t.Errorf("got %v, want %q", err, want)
	}
}

// Resources are references until they are cloned or protected: reference 1.7.
func TestProtect_is_a_live_view_that_is_copied_by_level_when_written(t *testing.T) {
	inner := dictOf("k", Long(1))
	x := dictOf("a", inner, "l", ListOf(Long(1)))
	view := Protect(x).(*Dict)
	if !Protected(view) || Protected(x) || Protect(view) != Value(view) {
		t.Fatal("a view is not one")
	}
	if child, _ := Get(view, mustPath(t, "a").Terms); !Protected(child) {
		t.Error("what is read through a view can be written")
	}
	clone, err := Clone(x)
	if err != nil {
		t.Fatal(err)
	}
	writable := WritableCopy(view).(*Dict)
	if err := Put(writable, mustPath(t, "a/k").Terms, Long(2)); err != nil {
		t.Fatal(err)
	}
	list, err := GetList(writable, mustPath(t, "l").Terms)
	if err != nil || !list.Protected() {
		t.Fatalf("%v, %v", list, err)
	}
	if err := inner.Set("n", Long(3)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what string
		v    Value
		want string
	}{
		{"the original", x, "{ a, { k, 1, n, 3 }, l, [ 1 ] }"},
		{"the view", view, "{ a, { k, 1, n, 3 }, l, [ 1 ] }"},
		{"the clone", clone, "{ a, { k, 1 }, l, [ 1 ] }"},
		{"the copy", writable, "{ a, { k, 2 }, l, [ 1 ] }"},
	} {
		if got := text(t, c.v); got != c.want {
			t.Errorf("%s: got %s, want %s", c.what, got, c.want)
		}
	}
	if WritableCopy(x) != Value(x) {
		t.Error("what can be written is copied")
	}
}

func TestClone_of_a_circular_structure_is_an_error(t *testing.T) {
	l, other := NewList(0), NewList(0)
	for range 2 { // a way of two branches each time: whoever only stops at a depth does not stop
		if err := errors.Join(l.Append(l), other.Append(other)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Clone(l); err == nil || err.Error() != "stack overflow; check for circular data structure" {
		t.Error(err)
	}
	if path, ok := Undefined(l); ok {
		t.Errorf("%s is undefined", path)
	}
	if _, err := Text(l); err == nil {
		t.Error("to_string has an end")
	}
	if _, err := AppendJSON(nil, l); err == nil {
		t.Error("json_encode has an end")
	}
	for _, key := range compared {
		f, _ := FormatOf(key)
		if err := f.Write(new(strings.Builder), dictOf("l", l)); err == nil {
			t.Errorf("%s has an end", key)
		}
	}
	if Equal(l, other) {
		t.Error("two circular structures are equal")
	}
}

func TestEqual_needs_the_same_type(t *testing.T) {
	values := []Value{
		Long(1), Double(1), Boolean(true), String("1"),
		Undef{},
		Null{},
		Double(0), Double(negativeZero), NewDict(0), NewList(0),
		ListOf(Long(1)), ListOf(Long(1), Long(2)), dictOf("a", Long(1)), dictOf("b", Long(1)), dictOf("a", Long(2)),
	}
	for i, a := range values {
		for j, b := range values {
			if Equal(a, b) != (i == j) {
				t.Errorf("%s %s, %s %s: %v", a.Type(), text(t, a), b.Type(), text(t, b), Equal(a, b))
			}
		}
		if c, err := Clone(a); err != nil || !Equal(a, c) || !Equal(Protect(a), c) {
			t.Errorf("%s is not equal to its clone", text(t, a))
		}
	}
}

var negativeZero = func() float64 { z := 0.0; return -z }()

func TestIterate_a_dict_ends_where_a_tree_map_throws(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(d *Dict, key string) error
		want string
	}{
		{"nothing", func(*Dict, string) error { return nil }, "a b c"},
		{"replace", func(d *Dict, k string) error { return d.Set(k, Long(9)) }, "a b c"},
		{"remove", func(d *Dict, k string) error { return d.Set(k, Null{}) }, "a resource changed structurally during iteration"},
		{"add", func(d *Dict, k string) error { return d.Set("z", Long(9)) }, "a resource changed structurally during iteration"},
		{"add_at_the_last", func(d *Dict, k string) error {
			if k == "c" {
				return d.Set("z", Long(1))
			}
			return nil
		}, "a b c"},
	} {
		d := dictOf("b", Long(2), "a", Long(1), "c", Long(3))
		var got []string
		for i := d.Iterate(); i.More(); {
			k, _, err := i.Next()
			if err != nil {
				got = append(got, err.Error())
				break
			}
			got = append(got, string(k.(String)))
			if err := c.do(d, got[len(got)-1]); err != nil {
				t.Fatal(err)
			}
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%s: got %s, want %s", c.name, s, c.want)
		}
	}
}

func TestIterate_a_list_reaches_what_is_appended(t *testing.T) {
	l := ListOf(Long(1), Long(2))
	n := 0
	for i := l.Iterate(); i.More(); n++ {
		k, v, err := i.Next()
		if err != nil || k != Long(n) {
			t.Fatal(k, v, err)
		}
		if n < 3 {
			if err := l.Append(v); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n != 5 {
		t.Errorf("%d steps, want 5", n)
	}
}

// A dict of any history is the same as a map of it that is sorted.
func TestDict_keeps_order_through_random_changes(t *testing.T) {
	r := rand.New(rand.NewPCG(*seed, 0))
	d, model := NewDict(0), map[string]Value{}
	for range 5000 {
		key := fmt.Sprintf("k%d", r.IntN(300))
		if r.IntN(3) == 0 {
			delete(model, key)
			if err := d.Set(key, Null{}); err != nil {
				t.Fatal(err)
			}
			continue
		}
		v := Long(r.IntN(1000))
		model[key] = v
		if err := d.Set(key, v); err != nil {
			t.Fatal(err)
		}
	}
	var keys []string
	for k, v := range d.All() {
		if model[k] != v || d.Lookup(k) != v {
			t.Errorf("%s: %v, want %v", k, v, model[k])
		}
		keys = append(keys, k)
	}
	if len(keys) != len(model) || !slices.IsSorted(keys) {
		t.Errorf("%d keys, want %d, sorted: %q", len(keys), len(model), keys)
	}
	values := make([]Value, len(keys))
	r.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	for i, k := range keys {
		values[i] = model[k]
	}
	if !Equal(d, DictOf(keys, values)) {
		t.Error("DictOf is another one")
	}
}

func TestUndefined_is_the_first_in_tree_order(t *testing.T) {
	root := dictOf("a", ListOf(Long(1), dictOf("x", Long(1))), "b", ListOf(Long(1), dictOf("y", Undef{}), Null{}), "c", Undef{})
	if path, ok := Undefined(root); path != "b/1/y" || !ok {
		t.Errorf("%q, %v", path, ok)
	}
	if path, ok := Undefined(dictOf("a", NewList(0))); ok {
		t.Errorf("%q", path)
	}
}

func TestFormatNumber_groups_by_three(t *testing.T) {
	for n, want := range map[int64]string{0: "0", -1: "-1", 999: "999", 1000: "1,000", -1000: "-1,000", 123456: "123,456", 9223372036854775807: "9,223,372,036,854,775,807"} {
		if got := FormatNumber(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}

func BenchmarkDict(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		keys := make([]string, n)
		for i := range keys {
			keys[i] = fmt.Sprintf("key%04d", i)
		}
		rand.New(rand.NewPCG(1, 0)).Shuffle(n, func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
		b.Run(fmt.Sprintf("set/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				d := NewDict(0)
				for i, k := range keys {
					_ = d.Set(k, Long(i))
				}
			}
		})
		d := NewDict(0)
		for i, k := range keys {
			_ = d.Set(k, Long(i))
		}
		b.Run(fmt.Sprintf("lookup/%d", n), func(b *testing.B) {
			for b.Loop() {
				for _, k := range keys {
					if d.Lookup(k) == nil {
						b.Fatal(k)
					}
				}
			}
		})
	}
}

func BenchmarkClone(b *testing.B) {
	root := profile(1800)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Clone(root); err != nil {
			b.Fatal(err)
		}
	}
}
