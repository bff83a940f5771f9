package tree

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

var (
	update = flag.Bool("update", false, "write the golden files anew, by the reference compiler that PANC names")
	seed   = flag.Uint64("seed", 1, "of the random trees")
	rounds = flag.Int("rounds", 20, "random trees that are compared with the reference compiler")
)

// compared are the formats that write a profile, without those that differ by compression only.
var compared = []string{"pan", "json", "text", "dot"}

// panc compiles one object template per source, each the root of its JSON, with the reference compiler; it returns the directory with
// the outputs. The test is skipped if PANC names no compiler.
func panc(t *testing.T, sources map[string][]byte) string {
	t.Helper()
	program := os.Getenv("PANC")
	if program == "" {
		t.Skip("PANC names no reference compiler")
	}
	dir := t.TempDir()
	args := []string{"--formats", strings.Join(compared, ","), "--include-path", dir, "--output-dir", dir}
	for name, json := range sources {
		source := "object template " + name + ";\n'/' = json_decode(file_contents('" + name + ".in'));\n"
		write(t, filepath.Join(dir, name+".in"), json)
		write(t, filepath.Join(dir, name+".pan"), []byte(source))
		args = append(args, filepath.Join(dir, name+".pan"))
	}
	if out, err := exec.Command(program, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", program, err, out)
	}
	return dir
}

func write(t testing.TB, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(name, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func decodeRoot(t testing.TB, json []byte) *Dict {
	t.Helper()
	v, err := DecodeJSON(string(json))
	if err != nil {
		t.Fatal(err)
	}
	return v.(*Dict)
}

// compare checks all formats of the tree against the files dir/name.*.
func compare(t *testing.T, root *Dict, dir, name string) {
	t.Helper()
	for _, key := range compared {
		f, _ := FormatOf(key)
		var b bytes.Buffer
		if err := f.Write(&b, root); err != nil {
			t.Fatal(err)
		}
		want := read(t, filepath.Join(dir, name+"."+f.Suffix))
		if got := b.Bytes(); !bytes.Equal(got, want) {
			g, w := strings.Split(string(got), "\n"), strings.Split(string(want), "\n")
			for i := range g {
				if i == len(w) || g[i] != w[i] {
					t.Errorf("%s: %s line %d\n got %+q\nwant %+q", name, key, i+1, g[i], append(w, "")[min(i, len(w))])
					break
				}
			}
		}
	}
}

func TestWrite_gives_the_bytes_of_panc(t *testing.T) {
	const dir = "testdata/golden"
	in, err := filepath.Glob(dir + "/*.in")
	if err != nil || len(in) == 0 {
		t.Fatal("no golden files", err)
	}
	sources := make(map[string][]byte)
	for _, file := range in {
		sources[strings.TrimSuffix(filepath.Base(file), ".in")] = read(t, file)
	}
	if *update {
		out := panc(t, sources)
		for name := range sources {
			for _, key := range compared {
				f, _ := FormatOf(key)
				write(t, filepath.Join(dir, name+"."+f.Suffix), read(t, filepath.Join(out, name+"."+f.Suffix)))
			}
		}
	}
	for name, json := range sources {
		compare(t, decodeRoot(t, json), dir, name)
	}
}

func TestWrite_agrees_with_panc_on_random_trees(t *testing.T) {
	sources := make(map[string][]byte)
	for i := range *rounds {
		sources["random"+strconv.Itoa(i)] = newGenerator(*seed+uint64(i)).json(nil, 0)
	}
	dir := panc(t, sources)
	for name, json := range sources {
		compare(t, decodeRoot(t, json), dir, name)
	}
	if t.Failed() {
		t.Logf("seed %d", *seed)
	}
}

// Every character that XML can hold, in runs, so that a change of escaping between neighbours shows.
func TestWrite_agrees_with_panc_on_every_character(t *testing.T) {
	b := []byte(`{"c":[`)
	for c := 0; c < 0x30000; c += 64 {
		if c > 0 {
			b = append(b, ',')
		}
		b = append(b, '"')
		for i := c; i < c+64; i++ {
			if i < 0x20 || i >= 0xD800 && i < 0xE000 || i&0xFFFE == 0xFFFE {
				continue
			}
			switch i {
			case '"', '\\':
				b = append(b, '\\', byte(i))
			default:
				b = fmt.Appendf(b, "%c", i)
			}
		}
		b = append(b, '"')
	}
	b = append(b, "]}"...)
	dir := panc(t, map[string][]byte{"chars": b})
	compare(t, decodeRoot(t, b), dir, "chars")
}

func BenchmarkWrite(b *testing.B) {
	root := profile(1800)
	for _, key := range compared {
		f, _ := FormatOf(key)
		b.Run(key, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := f.Write(io.Discard, root); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// profile is a tree of about n leaves, shaped as those of worker nodes: long paths, short strings, many packages.
func profile(n int) *Dict {
	root := NewDict(0)
	for i := range n {
		p, err := ParsePath(fmt.Sprintf("/software/components/component%02d/services/service%d/setting%d", i/90, i/9%10, i%9))
		if err != nil {
			panic(err)
		}
		v := Value(String("/usr/lib64/value of " + strconv.Itoa(i)))
		if i%4 == 0 {
			v = Long(i)
		}
		if err := Put(root, p.Terms, v); err != nil {
			panic(err)
		}
	}
	return root
}
