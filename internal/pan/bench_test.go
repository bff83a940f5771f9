package pan

import (
	"context"
	"io"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"muster/internal/pan/pantest"
	"muster/internal/pan/tree"
)

func site(profiles int) (fstest.MapFS, []string) {
	files, objects := pantest.Site(profiles)
	fsys := fstest.MapFS{}
	for name, text := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return fsys, objects
}

// processorTime is what this process has used; the clock on the wall says little on a machine that does other things.
func processorTime(b testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// writeJSON writes a profile nowhere.
func writeJSON(b testing.TB) func(*Profile) error {
	format, _ := tree.FormatOf("json")
	return func(p *Profile) error {
		for _, e := range p.Errors {
			b.Error(e)
		}
		if p.Root == nil {
			return nil
		}
		return format.Write(io.Discard, p.Root)
	}
}

// BenchmarkProfiles is the work on profiles with 300 templates and 1,800 leaves each, in one goroutine, from nothing.
func BenchmarkProfiles(b *testing.B) {
	for _, n := range []struct {
		name  string
		count int
	}{{"1", 1}, {"100", 100}, {"1000", 1000}} {
		b.Run(n.name, func(b *testing.B) {
			fsys, objects := site(n.count)
			b.ReportAllocs()
			before := processorTime(b)
			for b.Loop() {
				if err := Compile(context.Background(), fsys, objects, Options{Workers: 1}, writeJSON(b)); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64((processorTime(b)-before).Microseconds())/float64(b.N*n.count), "cpu-µs/profile")
		})
	}
}

// BenchmarkTemplates reads and compiles the 300 templates of a profile.
func BenchmarkTemplates(b *testing.B) {
	fsys, _ := site(1)
	var files []Dir
	for name := range fsys {
		files = append(files, Dir{Path: name, Shown: name})
	}
	for b.Loop() {
		c, err := NewCompiler(fsys, Options{Workers: 1})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := c.Files(context.Background(), files); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkExecute executes and validates one profile whose templates are compiled.
func BenchmarkExecute(b *testing.B) {
	fsys, objects := site(1)
	c, err := NewCompiler(fsys, Options{Workers: 1})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		clear(c.known)
		c.build.Drop(objects[0])
		if err := c.Compile(context.Background(), objects, func(*Profile) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkWrite writes one profile in a format.
func BenchmarkWrite(b *testing.B) {
	fsys, objects := site(1)
	for _, key := range []string{"json", "pan", "text", "dep"} {
		b.Run(key, func(b *testing.B) {
			format, _ := tree.FormatOf(key)
			err := Compile(context.Background(), fsys, objects, Options{}, func(p *Profile) error {
				for b.Loop() {
					if format.IsDeps() {
						_ = tree.WriteDeps(io.Discard, p.Deps())
					} else if err := format.Write(io.Discard, p.Root); err != nil {
						b.Fatal(err)
					}
				}
				return nil
			})
			if err != nil {
				b.Fatal(err)
			}
		})
	}
}

// BenchmarkUnchanged is a look at 1,000 profiles of which nothing has changed: told so, and after reading all files again.
func BenchmarkUnchanged(b *testing.B) {
	fsys, objects := site(1000)
	c, err := NewCompiler(fsys, Options{Workers: 1})
	if err != nil {
		b.Fatal(err)
	}
	compile := func() {
		if err := c.Compile(context.Background(), objects, writeJSON(b)); err != nil {
			b.Fatal(err)
		}
	}
	compile()
	b.Run("told", func(b *testing.B) {
		for b.Loop() {
			compile()
		}
	})
	b.Run("looked", func(b *testing.B) {
		for b.Loop() {
			if again := c.Rescan(); len(again) > 0 {
				b.Fatalf("%v compile again", again)
			}
			compile()
		}
	})
}

// BenchmarkOneChanged compiles 100 profiles of which one has another template than before.
func BenchmarkOneChanged(b *testing.B) {
	fsys, objects := site(100)
	c, err := NewCompiler(fsys, Options{Workers: 1})
	if err != nil {
		b.Fatal(err)
	}
	if err := c.Compile(context.Background(), objects, writeJSON(b)); err != nil {
		b.Fatal(err)
	}
	file := objects[0] + ".pan"
	text := fsys[file].Data
	for i := 0; b.Loop(); i++ {
		fsys[file] = &fstest.MapFile{Data: append(text[:len(text):len(text)], "\n\n"[:1+i%2]...)}
		if again := c.Changed(file); len(again) != 1 {
			b.Fatalf("%v compile again, want one", again)
		}
		if err := c.Compile(context.Background(), objects, writeJSON(b)); err != nil {
			b.Fatal(err)
		}
	}
}
