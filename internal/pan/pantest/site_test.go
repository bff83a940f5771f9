package pantest_test

import (
	"context"
	"testing"
	"testing/fstest"

	"muster/internal/pan"
	"muster/internal/pan/pantest"
	"muster/internal/pan/tree"
)

func TestSite_has_the_shape_of_a_worker_node(t *testing.T) {
	files, objects := pantest.Site(2)
	fsys := fstest.MapFS{}
	for name, text := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	var roots []*tree.Dict
	err := pan.Compile(context.Background(), fsys, objects, pan.Options{Workers: 1}, func(p *pan.Profile) error {
		for _, e := range p.Errors {
			t.Error(e)
		}
		if p.Root == nil {
			return nil
		}
		templates := 0
		for _, d := range p.Deps() {
			if d.Type == tree.Pan {
				templates++
			}
		}
		if templates != pantest.Templates {
			t.Errorf("%s: %d templates, want %d", p.Name, templates, pantest.Templates)
		}
		if n := leaves(p.Root); n != pantest.Leaves {
			t.Errorf("%s: %d leaves, want %d", p.Name, n, pantest.Leaves)
		}
		copied, err := tree.Clone(p.Root) // the profile ends with this function
		roots = append(roots, copied.(*tree.Dict))
		return err
	})
	if err != nil || len(roots) != len(objects) {
		t.Fatalf("%d of %d profiles, %v", len(roots), len(objects), err)
	}
	// Profiles of one site differ in a few places: names, addresses, serial numbers.
	if n := len(tree.Diff(roots[0], roots[1])); n == 0 || n > 100 {
		t.Errorf("the two profiles differ in %d places", n)
	}
}

func leaves(v tree.Value) int {
	n := 0
	switch v := v.(type) {
	case *tree.Dict:
		for _, child := range v.All() {
			n += leaves(child)
		}
	case *tree.List:
		for _, child := range v.All() {
			n += leaves(child)
		}
	default:
		n = 1
	}
	return n
}
