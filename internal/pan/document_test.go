package pan

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"muster/internal/pan/eval"
	"muster/internal/pan/tree"
)

// A document is a file of templates in txtar's form:
//
//	-- name.pan --
//	'/a' = 1 + value('/b');   ### "expression of the message"
//	-- name.json --
//	{ … }
//
// Each object template of it is compiled. An error has to be on the line that expects it, behind ###, as a regular expression of its message
// without place and call stack; every line that expects one has to have it. name.json is the profile of the object, name.deps its
// dependencies.
type document struct {
	fs      fstest.MapFS
	objects []string
	want    map[string]string // golden files by name
}

func readDocument(t *testing.T, file string) document {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	d := document{fs: fstest.MapFS{}, want: map[string]string{}}
	object := regexp.MustCompile(`(?m)^object template (\S+);`)
	for _, part := range regexp.MustCompile(`(?m)^-- `).Split(string(text), -1)[1:] {
		name, content, ok := strings.Cut(part, " --\n")
		if !ok {
			t.Fatalf("%s: no name at %.30q", file, part)
		}
		if ext := path.Ext(name); ext == ".json" || ext == ".deps" {
			d.want[name] = content
			continue
		}
		d.fs[name] = &fstest.MapFile{Data: []byte(content)}
		if m := object.FindStringSubmatch(content); m != nil {
			d.objects = append(d.objects, m[1])
		}
	}
	return d
}

// expected is what lines want, "file:line" to expression.
func (d document) expected() map[string]string {
	want := map[string]string{}
	for name, f := range d.fs {
		for i, line := range strings.Split(string(f.Data), "\n") {
			if _, re, ok := strings.Cut(line, "### "); ok {
				want[fmt.Sprintf("%s:%d", name, i+1)] = strings.Trim(re, `" `)
			}
		}
	}
	return want
}

// innermost is the error that has a place in the text: that of validation code stands in another, that of a template in that of its include.
func innermost(e *eval.Error) *eval.Error {
	switch {
	case e.Cause != nil && e.Cause.Class == eval.Evaluation:
		return innermost(e.Cause)
	case e.Origin != nil:
		return innermost(e.Origin)
	}
	return e
}

// place is where an error is expected: on the line of its range; for one of validation, which has none, where the type is bound.
func place(e *eval.Error) string {
	if e.Class == eval.Validation {
		if m := regexp.MustCompile(`in \[(.*):(\d+)\.`).FindStringSubmatch(e.Bound); m != nil {
			return m[1] + ":" + m[2]
		}
		return e.File + ":1"
	}
	return fmt.Sprintf("%s:%d", e.File, e.Where().Line)
}

func TestDocuments(t *testing.T) {
	files, err := fs.Glob(os.DirFS("testdata/doc"), "*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(file, ".txt"), func(t *testing.T) { testDocument(t, "testdata/doc/"+file) })
	}
}

func testDocument(t *testing.T, file string) {
	d := readDocument(t, file)
	want, got := d.expected(), map[string]string{}
	json, _ := tree.FormatOf("json")
	err := Compile(context.Background(), d.fs, d.objects, Options{Workers: 1}, func(p *Profile) error {
		for _, e := range p.Errors {
			e := innermost(e)
			got[place(e)] = e.Msg
		}
		var b strings.Builder
		if golden, ok := d.want[p.Name+".json"]; ok && p.Root != nil {
			if err := json.Write(&b, p.Root); err != nil {
				return err
			}
			if b.String() != strings.TrimSpace(golden) {
				t.Errorf("%s.json\ngot\n%s\nwant\n%s", p.Name, b.String(), golden)
			}
		} else if ok {
			t.Errorf("%s: no profile: %v", p.Name, p.Errors)
		}
		if golden, ok := d.want[p.Name+".deps"]; ok {
			b.Reset()
			if err := tree.WriteDeps(&b, p.Deps()); err != nil {
				return err
			}
			if strings.TrimRight(b.String(), "\n") != strings.TrimRight(golden, "\n") {
				t.Errorf("%s.deps\ngot\n%s\nwant\n%s", p.Name, b.String(), golden)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var places []string
	for p := range want {
		places = append(places, p)
	}
	for p := range got {
		places = append(places, p)
	}
	slices.Sort(places)
	for _, p := range slices.Compact(places) {
		msg, isThere := got[p]
		re, expected := want[p]
		switch {
		case !isThere:
			t.Errorf("%s: no error, want %q", p, re)
		case !expected:
			t.Errorf("%s: unexpected error: %s", p, msg)
		case !regexp.MustCompile(re).MatchString(msg):
			t.Errorf("%s: got error %q, want %q", p, msg, re)
		}
	}
}
