package pan

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"muster/internal/pan/tree"
)

// answers are what a compilation gave: of each object the profile in JSON, its dependencies and what it printed, or its errors.
type answers struct {
	mu      sync.Mutex
	objects map[string]string
	again   []string // those that were not Unchanged
}

func (o *answers) take(p *Profile) error {
	var b strings.Builder
	for _, e := range p.Errors {
		b.WriteString(e.Error())
	}
	if p.Root != nil {
		json, _ := tree.FormatOf("json")
		if err := json.Write(&b, p.Root); err != nil {
			return err
		}
		if err := tree.WriteDeps(&b, p.Deps()); err != nil {
			return err
		}
		b.WriteString(strings.Join(p.Printed, "\n"))
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if !p.Unchanged {
		o.objects[p.Name] = b.String()
		o.again = append(o.again, p.Name)
	}
	return nil
}

func compile(t testing.TB, c *Compiler, objects []string) *answers {
	t.Helper()
	o := &answers{objects: map[string]string{}}
	if err := c.Compile(context.Background(), objects, o.take); err != nil {
		t.Fatal(err)
	}
	slices.Sort(o.again)
	return o
}

func newCompiler(t testing.TB, fsys fstest.MapFS, o Options) *Compiler {
	t.Helper()
	c, err := NewCompiler(fsys, o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// network makes objects that refer to each other: forwards, in circles, to broken ones, in validation.
func network(n int, seed uint64) (fstest.MapFS, []string) {
	r := rand.New(rand.NewPCG(seed, 0))
	fsys := fstest.MapFS{
		"lib.pan": {Data: []byte("declaration template lib;\nfunction twice = ARGV[0] + ARGV[0];\ntype small = long(0..500);\nvariable LIST = list(1, 2);\n")},
		"bad.pan": {Data: []byte("template bad;\n'/x' = 1 +;\n")},
	}
	var objects []string
	name := func(i int) string { return fmt.Sprintf("o%02d", i) }
	for i := range n {
		var b strings.Builder
		fmt.Fprintf(&b, "object template %s;\ninclude 'lib';\n'/n' = %d;\n", name(i), i)
		for range r.IntN(4) {
			to := name(r.IntN(n))
			switch r.IntN(8) {
			case 0:
				fmt.Fprintf(&b, "'/v' = value('%s:/n') + 0;\n", to)
			case 1:
				fmt.Fprintf(&b, "'/w' = twice(value('%s:/n', 7));\n", to)
			case 2:
				fmt.Fprintf(&b, "valid '/n' = value('%s:/n') >= 0;\n", to)
			case 3:
				fmt.Fprintf(&b, "'/e' = exists('%s:/v');\n", to)
			case 4:
				fmt.Fprintf(&b, "bind '/w' = small;\n")
			case 5:
				fmt.Fprintf(&b, "'/l' = { x = LIST; append(x, value('/n')); x; };\n")
			case 6:
				fmt.Fprintf(&b, "'/s' = deprecated(1, 'of %s') && value('/n') > 3;\n", name(i))
			default:
				if r.IntN(6) == 0 {
					b.WriteString("include 'bad';\n")
				}
			}
		}
		fsys[name(i)+".pan"] = &fstest.MapFile{Data: []byte(b.String())}
		objects = append(objects, name(i))
	}
	return fsys, objects
}

func TestCompile_gives_the_same_with_any_number_of_workers(t *testing.T) {
	for seed := range uint64(30) {
		fsys, objects := network(12, seed)
		want := compile(t, newCompiler(t, fsys, Options{Workers: 1}), objects)
		for _, workers := range []int{2, 8} {
			got := compile(t, newCompiler(t, fsys, Options{Workers: workers}), objects)
			if d := cmp.Diff(want.objects, got.objects); d != "" {
				t.Fatalf("seed %d, %d workers: %s", seed, workers, d)
			}
		}
	}
}

// TestCompiler_warm_gives_what_a_cold_one_gives changes files at random, and compares with a compiler that knows nothing.
func TestCompiler_warm_gives_what_a_cold_one_gives(t *testing.T) {
	for seed := range uint64(20) {
		fsys, objects := network(10, seed)
		warm := newCompiler(t, fsys, Options{Workers: 2})
		known := compile(t, warm, objects).objects
		r := rand.New(rand.NewPCG(seed, 1))
		for step := range 12 {
			other, _ := network(10, seed*100+uint64(step))
			file := slices.Sorted(maps.Keys(fsys))[r.IntN(len(fsys))]
			switch {
			case r.IntN(5) == 0 && strings.HasPrefix(file, "o"):
				delete(fsys, file)
			case other[file] != nil:
				fsys[file] = other[file]
			}
			if r.IntN(2) == 0 {
				warm.Changed(file)
			} else {
				warm.Rescan()
			}
			maps.Copy(known, compile(t, warm, objects).objects)
			cold := compile(t, newCompiler(t, fsys, Options{Workers: 1}), objects)
			if d := cmp.Diff(cold.objects, known); d != "" {
				t.Fatalf("seed %d, step %d, %s changed: %s", seed, step, file, d)
			}
			for _, o := range objects {
				if f := o + ".pan"; fsys[f] == nil {
					fsys[f] = &fstest.MapFile{Data: []byte("object template " + o + ";\n'/n' = 1;\n")}
				}
			}
			warm.Rescan()
			maps.Copy(known, compile(t, warm, objects).objects)
		}
	}
}

func TestCompiler_compiles_again_only_what_is_concerned(t *testing.T) {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	fsys := fstest.MapFS{
		"a.pan":       file("object template a;\ninclude 'common';\n'/x' = 1;\n"),
		"b.pan":       file("object template b;\ninclude { if_exists('site/b') };\n'/x' = value('a:/x');\n"),
		"c.pan":       file("object template c;\nvariable LOADPATH = list('site');\ninclude 'only';\n'/t' = file_contents('text');\n"),
		"common.pan":  file("template common;\n'/c' = 1;\n"),
		"only.pan":    file("template only;\n"),
		"text":        file("one"),
		"unused.pan":  file("template unused;\n"),
		"site/x.pan":  file("template x;\n"),
		"site/b.text": file(""),
	}
	objects := []string{"a", "b", "c"}
	c := newCompiler(t, fsys, Options{})
	compile(t, c, objects)
	for _, step := range []struct {
		name, file, text string
		want             []string
	}{
		{"nothing", "", "", nil},
		{"the_same_content", "common.pan", "template common;\n'/c' = 1;\n", nil},
		{"a_template_that_nobody_uses", "unused.pan", "template unused;\n'/c' = 1;\n", nil},
		{"an_include_of_what_another_refers_to", "common.pan", "template common;\n'/c' = 2;\n", []string{"a", "b"}},
		{"a_template_that_was_not_there", "site/b.pan", "template site/b;\n'/s' = 1;\n", []string{"b"}},
		{"a_file_that_was_read", "text", "two", []string{"c"}},
		{"a_template_further_up_the_load_path", "only.tpl", "template only;\n", nil},
		{"a_template_that_goes", "only.pan", "", []string{"c"}},
		{"a_template_that_comes_back", "only.pan", "template only;\n'/o' = 1;\n", []string{"c"}},
	} {
		for _, look := range []string{"told", "looking"} {
			if step.file != "" && look == "told" {
				if step.text == "" {
					delete(fsys, step.file)
				} else {
					fsys[step.file] = file(step.text)
				}
			}
			var again []string
			if look == "told" && step.file != "" {
				again = c.Changed(step.file)
			} else {
				again = c.Rescan()
			}
			want := step.want
			if look == "looking" {
				want = nil
			}
			if d := cmp.Diff(want, again); d != "" {
				t.Errorf("%s, %s: %s", step.name, look, d)
			}
			if got := compile(t, c, objects).again; !slices.Equal(got, want) {
				t.Errorf("%s, %s: %v compiled again, want %v", step.name, look, got, want)
			}
		}
	}
}

func TestCompile_ends_with_its_context_and_leaves_nothing(t *testing.T) {
	fsys := fstest.MapFS{
		"a.pan": {Data: []byte("object template a;\n'/n' = 1;\n'/a' = { for (i = 0; i < 10000; i = i + 1) for (j = 0; j < 10000; j = j + 1) value('/n'); 1; };\n")},
		"b.pan": {Data: []byte("object template b;\n'/a' = value('a:/a');\n")},
	}
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	c := newCompiler(t, fsys, Options{Workers: 2})
	why := errors.New("no patience")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(why)
	err := c.Compile(ctx, []string{"a", "b"}, func(*Profile) error { t.Error("a profile came about"); return nil })
	if !errors.Is(err, why) {
		t.Errorf("got %v, want the cause of the end", err)
	}
	delete(fsys, "a.pan")
	c.Changed("a.pan")
	if got := compile(t, c, []string{"b"}); !strings.Contains(got.objects["b"], "referenced path (a:/a) doesn't exist") {
		t.Errorf("what was left half done counts: %s", got.objects["b"])
	}
}

func TestCompile_limits_the_work(t *testing.T) {
	for name, body := range map[string]string{
		"loops":   "for (i = 0; i < 9000; i = i + 1) for (j = 0; j < 9000; j = j + 1) n + j",
		"strings": "s = to_string(n); for (i = 0; i < 9000; i = i + 1) s = s + s; s",
		"lists":   "l = list(n); for (i = 0; i < 9000; i = i + 1) l = merge(l, l); l",
		"replace": "s = to_string(n); for (i = 0; i < 9000; i = i + 1) s = replace('.', '$0$0', s); s",
		"calls":   "f(n)",
		"nested":  "x = list(n); for (i = 0; i < 9000; i = i + 1) x = list(x); x",
		"itself":  "x = list(n); append(x, x); to_string(x)",
	} {
		t.Run(name, func(t *testing.T) {
			src := "object template x;\n'/n' = 1;\nfunction f = { f(ARGV[0]); f(ARGV[0]); };\n'/a' = { n = value('/n'); " + body + "; };\n"
			got := compile(t, newCompiler(t, fstest.MapFS{"x.pan": {Data: []byte(src)}}, Options{Steps: 1e6}), []string{"x"})
			if !strings.HasPrefix(got.objects["x"], "evaluation error [x.pan:") && !strings.HasPrefix(got.objects["x"], "{") {
				t.Errorf("%s: got %.300s", body, got.objects["x"])
			}
		})
	}
}

func TestCompile_keeps_memory_flat(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles 300 profiles")
	}
	fsys, objects := site(300)
	var most uint64
	count := 0
	err := Compile(context.Background(), fsys, objects, Options{Workers: 1}, func(*Profile) error {
		if count++; count%50 == 0 {
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			most = max(most, m.HeapAlloc)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if most > 200<<20 {
		t.Errorf("%d MB are held, want at most 200 for 300 profiles", most>>20)
	}
}

func TestProfile_answers_why(t *testing.T) {
	fsys := fstest.MapFS{
		"o.pan": {Data: []byte("object template o;\nvariable V = 3;\ninclude 'u';\ninclude 'u';\n'/a/b' = V;\n'/a/b' ?= 9;\n'/a' = { SELF['b'] = SELF['b'] + V; SELF; };\n" +
			"'/z' = V;\n'/a/c' = 1;\ntype t = { 'b' : long 'c' : long 'd' : long = 4 };\nbind '/a' = t;\n")},
		"u.pan": {Data: []byte("unique template u;\nvariable V = SELF + 1;\nfinal '/f' = 1;\n")},
	}
	var got []string
	err := Compile(context.Background(), fsys, []string{"o"}, Options{Why: []string{"/a/b", "/a/d", "/f"}, Vars: "^V$", Includes: true}, func(p *Profile) error {
		for _, x := range p.Touches() {
			got = append(got, fmt.Sprintf("%s: %s:%s %s %s -> %s %v %v", x.Path, x.File, x.Span, x.Target, x.What, x.Value, x.Reads, x.Calls))
		}
		for _, v := range p.Variables() {
			got = append(got, fmt.Sprint(v))
		}
		for _, i := range p.Included() {
			got = append(got, fmt.Sprint(i))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"/f: u.pan:3.1-3.15 /f final = -> 1 [] [o.pan:3.1-3.12]",
		"/a/b: o.pan:5.1-5.11 /a/b = -> 4 [V] []",
		"/a/b: o.pan:6.1-6.12 /a/b ?= (was set) -> 4 [] []",
		"/a/b: o.pan:7.1-7.44 /a = -> 8 [V] []",
		"/a/d: o.pan:7.1-7.44 /a = ->  [V] []",
		"/a/d: o.pan:11.13-11.13 /a default -> 4 [] []",
		"{V 4 false [{o.pan 2.1-2.15} {u.pan 2.1-2.22}]}",
		"{1 u UNIQUE {o.pan 3.1-3.12} false}",
		"{1 u UNIQUE {o.pan 4.1-4.12} true}",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
