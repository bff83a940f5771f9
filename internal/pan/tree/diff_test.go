package tree

import (
	"encoding/json"
	"strings"
	"testing"
)

func diffText(t *testing.T, a, b *Dict) (lines, inJSON string) {
	t.Helper()
	changes := Diff(a, b)
	var l, j strings.Builder
	if err := WriteDiff(&l, changes); err != nil {
		t.Fatal(err)
	}
	if err := WriteDiffJSON(&j, changes); err != nil {
		t.Fatal(err)
	}
	if !json.Valid([]byte(j.String())) {
		t.Errorf("no JSON: %s", j.String())
	}
	return l.String(), j.String()
}

func TestDiff(t *testing.T) {
	for _, c := range []struct{ name, a, b, lines, json string }{
		{"equal", `{"a":{"b":[1,2]}}`, `{"a":{"b":[1,2]}}`, "", "[\n]\n"},
		{
			"leaves", `{"a":1,"b":"x","c":true}`, `{"a":2,"b":"x","d":1.0}`,
			"~ /a 1 -> 2\n- /c true\n+ /d 1.0\n",
			"[\n" + `{"path":"/a","change":"changed","old":1,"new":2},` + "\n" + `{"path":"/c","change":"removed","old":true},` + "\n" + `{"path":"/d","change":"added","new":1.0}` + "\n]\n",
		},
		{
			"a_subtree_is_one_change", `{"a":{}}`, `{"a":{"x":{"y":[1,{}],"z":"<"}}}`,
			"+ /a/x/y/0 1\n+ /a/x/y/1 {}\n+ /a/x/z \"\\u003c\"\n",
			"[\n" + `{"path":"/a/x","change":"added","new":{"y":[1,{}],"z":"\u003c"}}` + "\n]\n",
		},
		{
			"another_type", `{"a":1,"b":[1],"c":{}}`, `{"a":"1","b":{"x":1},"c":[]}`,
			"~ /a 1 -> \"1\"\n- /b/0 1\n+ /b/x 1\n~ /c {} -> []\n", "",
		},
		{"inserted_into_a_list", `{"l":[1,2,3]}`, `{"l":[1,9,2,3]}`, "+ /l/1 9\n", ""},
		{"removed_from_a_list", `{"l":[1,2,3]}`, `{"l":[1,3]}`, "- /l/1 2\n", ""},
		{"changed_inside_a_list", `{"l":[{"a":1},{"a":2},{"a":3}]}`, `{"l":[{"a":1},{"a":5},{"a":3}]}`, "~ /l/1/a 2 -> 5\n", ""},
		{"list_with_both", `{"l":[1,2,3,4]}`, `{"l":[1,7,4]}`, "~ /l/1 2 -> 7\n- /l/2 3\n", ""},
	} {
		lines, inJSON := diffText(t, decodeRoot(t, []byte(c.a)), decodeRoot(t, []byte(c.b)))
		if lines != c.lines {
			t.Errorf("%s:\n got %q\nwant %q", c.name, lines, c.lines)
		}
		if c.json != "" && inJSON != c.json {
			t.Errorf("%s:\n got %s\nwant %s", c.name, inJSON, c.json)
		}
	}
}

// The difference of two random trees, laid over the first, is the second; lists are left out, for their indices move.
func TestDiff_laid_over_the_old_tree_gives_the_new(t *testing.T) {
	for i := range 200 {
		g := newGenerator(*seed + uint64(i))
		a, b := decodeRoot(t, g.json(nil, 0)), decodeRoot(t, g.json(nil, 0))
		mixed, err := Clone(a)
		if err != nil {
			t.Fatal(err)
		}
		for k, v := range b.All() {
			if g.IntN(2) == 0 {
				_ = mixed.(*Dict).Set(k, Null{})
				_ = mixed.(*Dict).Set(k, v)
			}
		}
		got, err := Clone(a)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range Diff(a, mixed.(*Dict)) {
			for _, v := range []Value{Null{}, c.New} {
				if err := Put(got.(*Dict), c.Path.Terms, v); err != nil {
					t.Fatalf("%s: %v", c.Path, err)
				}
			}
		}
		if !Equal(got, mixed) {
			t.Errorf("seed %d: got %s, want %s", *seed+uint64(i), text(t, got), text(t, mixed))
		}
		diffText(t, a, b)
	}
}
