package pan

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"muster/internal/pan/pantest"
	"muster/internal/pan/tree"
)

// said is all that a profile says, as text: its JSON, or all of its errors, and what it printed.
func said(t testing.TB, p *Profile) string {
	t.Helper()
	var b strings.Builder
	for _, e := range p.Errors {
		fmt.Fprintf(&b, "%s %s\n", e.Class, e.Error())
	}
	if p.Root != nil {
		format, _ := tree.FormatOf("json")
		if err := format.Write(&b, p.Root); err != nil {
			t.Error(err)
		}
	}
	return b.String() + strings.Join(p.Printed, "\n")
}

// outcomes compiles objects; those that did not change are not in it.
func outcomes(t testing.TB, c *Compiler, objects []string) map[string]string {
	t.Helper()
	var mu sync.Mutex
	all := make(map[string]string)
	err := c.Compile(context.Background(), objects, func(p *Profile) error {
		if p.Unchanged {
			return nil
		}
		s := said(t, p)
		mu.Lock()
		defer mu.Unlock()
		all[p.Name] = s
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// Random programs give the same profiles, errors and messages with one worker and with many, one by one, and in a warm compiler after any of
// their templates was changed and changed back.
func TestPrograms_compile_the_same_in_every_way(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	fsys := fstest.MapFS{}
	var objects []string
	for i := range 150 {
		name := fmt.Sprintf("program_%d", i)
		objects = append(objects, name)
		for file, text := range pantest.Program(rand.New(rand.NewPCG(seed, uint64(i)+1)), name) {
			fsys[file] = &fstest.MapFile{Data: []byte(text)}
		}
	}
	compiler := func(workers int) *Compiler {
		c, err := NewCompiler(fsys, Options{Workers: workers, Steps: 5_000_000})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	want := outcomes(t, compiler(1), objects)
	same := func(how string, got map[string]string) {
		t.Helper()
		for name, s := range got {
			if s != want[name] {
				t.Errorf("%s, %s:\n%s\ngot  %s\nwant %s", name, how, fsys[name+".pan"].Data, s, want[name])
			}
		}
	}
	warm := compiler(8)
	first := outcomes(t, warm, objects)
	if len(want) < len(objects) || len(first) != len(want) {
		t.Fatalf("%d and %d profiles of %d objects", len(want), len(first), len(objects))
	}
	same("8 workers", first)
	for _, name := range objects[:20] {
		same("alone", outcomes(t, compiler(1), []string{name}))
	}
	files := slices.Sorted(maps.Keys(fsys))
	for range 20 {
		file := files[r.IntN(len(files))]
		whole := fsys[file].Data
		fsys[file] = &fstest.MapFile{Data: whole[:r.IntN(len(whole))]}
		warm.Changed(file)
		outcomes(t, warm, objects)
		fsys[file] = &fstest.MapFile{Data: whole}
		warm.Changed(file)
		again := outcomes(t, warm, objects)
		if object := strings.TrimSuffix(file, ".pan"); want[object] != "" && again[object] == "" {
			t.Errorf("%s was changed back, and not compiled again", object)
		}
		same("after "+file+" was cut and made whole", again)
	}
}

func TestProgram_is_the_same_for_equal_random_numbers(t *testing.T) {
	for i := range uint64(20) {
		a, b := pantest.Program(rand.New(rand.NewPCG(i, 0)), "a"), pantest.Program(rand.New(rand.NewPCG(i, 0)), "a")
		if !maps.Equal(a, b) {
			t.Errorf("%d: got %v and %v", i, a, b)
		}
	}
}

// A random program means something: most of them can be parsed, and a good part compiles.
func TestProgram_means_something(t *testing.T) {
	const n = 200
	fine := 0
	for i := range uint64(n) {
		fsys := fstest.MapFS{}
		for file, text := range pantest.Program(rand.New(rand.NewPCG(i, 7)), "a") {
			fsys[file] = &fstest.MapFile{Data: []byte(text)}
		}
		err := Compile(context.Background(), fsys, []string{"a"}, Options{Steps: 5_000_000}, func(p *Profile) error {
			if len(p.Errors) == 0 {
				fine++
			} else if p.Errors[0].Class == "ParseException" {
				t.Errorf("%s\n%s", fsys["a.pan"].Data, p.Errors[0])
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if fine < n/4 || fine > n*3/4 {
		t.Errorf("%d of %d compile", fine, n)
	}
}
