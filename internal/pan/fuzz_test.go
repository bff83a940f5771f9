package pan

import (
	"context"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"muster/internal/pan/pantest"
	"muster/internal/pan/tree"
)

// run compiles one object with limits on its work, and writes it in all formats.
func run(t testing.TB, fsys fstest.MapFS, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	calls := 0
	err := Compile(ctx, fsys, []string{name}, Options{Workers: 1, Steps: 200_000, DebugInclude: ".*", Why: []string{"/a", "/b/c"}, Vars: ".", Includes: true},
		func(p *Profile) error {
			if p.Name == name {
				calls++
			}
			for _, e := range p.Errors {
				if e.Error() == "" {
					t.Errorf("an error without text: %#v", e)
				}
			}
			p.Touches()
			p.Variables()
			if p.Root == nil {
				if len(p.Errors) == 0 {
					t.Errorf("%s: neither a profile nor an error", p.Name)
				}
				return nil
			}
			for _, key := range tree.FormatKeys() {
				f, _ := tree.FormatOf(key)
				if f.IsDeps() || f.Gzip {
					continue
				}
				if err := f.Write(io.Discard, p.Root); err != nil {
					t.Errorf("%s: %v", key, err)
				}
			}
			return nil
		})
	if err != nil || calls != 1 {
		t.Errorf("%d profiles, error %v", calls, err)
	}
}

// FuzzCompile runs whatever text behind "object template x;": it ends, within its limits, with a profile or an error. The seeds are the probes,
// the documents, and what has to do with limits.
func FuzzCompile(f *testing.F) {
	for _, p := range probes(f) {
		_, body, _ := strings.Cut(p.Src, ";\n")
		f.Add(body)
	}
	for _, s := range []string{
		"'/a' = " + strings.Repeat("(", 500) + "1" + strings.Repeat(")", 500) + ";",
		"'/a' = " + strings.Repeat("-", 500) + "1;",
		"'/a' = {x = list(1); " + strings.Repeat("x = list(x);", 200) + "x;};",
		"'/a' = {SELF['x'] = SELF; SELF;};",
		"'/n'=1; '/a' = {x = list(value('/n')); append(x, x); to_string(x) + json_encode(x);};",
		"'/n'=1; '/a' = {s = to_string(value('/n')); while(true) s = s + s; s;};",
		"function f = f(); '/a' = f();",
		"'/l/2147483646' = 1;",
		"'/n'=1; '/a' = {x[1000000000] = value('/n'); x;};",
		"'/a' = splice(list(), 0, 0); '/b' = substr('é中😀', 3, 1); '/c' = format('%1000000000d', 1);",
		"'/a' = match('aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab', '(a*)*c');",
		"type t = { 'a' : t2 = dict() }; type t2 = { 'b' ? t3 }; bind '/a' = t;",
		"'/n' = 1; '/a' = {d = dict(); foreach(k; v; list(1, 2)) {d[k + ''] = d;}; d;};",
		"variable X = {SELF['a'] = SELF; SELF;}; '/a' = X;",
		"bind '/${A}/${B}' = long; variable A = '${B}'; variable B = '${A}'; '/s' = substitute('${A}');",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body string) {
		run(t, fstest.MapFS{
			"x.pan":  {Data: []byte("object template x;\n" + body)},
			"y.pan":  {Data: []byte("template y;\n" + body)},
			"z.pan":  {Data: []byte("structure template z;\n'a' = 1;\n")},
			"xx.pan": {Data: []byte("object template xx;\n'/v' = 1;\n")},
			"t.txt":  {Data: []byte(body)},
		}, "x")
	})
}

// FuzzProgram runs random programs that mostly have a meaning.
func FuzzProgram(f *testing.F) {
	for seed := range uint64(50) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		fsys := fstest.MapFS{}
		for name, text := range pantest.Program(rand.New(rand.NewPCG(seed, 0)), "x") {
			fsys[name] = &fstest.MapFile{Data: []byte(text)}
		}
		run(t, fsys, "x")
	})
}
