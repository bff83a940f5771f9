package lint

import (
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"muster/internal/pan/syntax"
)

// expected finds ### "regexp" on a line.
var expected = regexp.MustCompile(`### "((?:[^"\\]|\\.)*)"`)

// TestCheck has templates with the expected findings on the lines that they are about.
func TestCheck(t *testing.T) {
	var library Library
	sources := map[*syntax.File]string{}
	dir := os.DirFS("testdata")
	err := fs.WalkDir(dir, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		src, err := fs.ReadFile(dir, name)
		if err != nil {
			return err
		}
		f, errs := syntax.Parse(name, src)
		if errs = append(errs, syntax.Check(f)...); len(errs) > 0 {
			t.Error(errs[0])
		}
		library.Add(f)
		sources[f] = string(src)
		return nil
	})
	if err != nil || len(sources) == 0 {
		t.Fatal(len(sources), err)
	}
	for f, src := range sources {
		found := library.Check(f)
		for i, line := range strings.Split(src, "\n") {
			for _, m := range expected.FindAllStringSubmatch(line, -1) {
				want := regexp.MustCompile(m[1])
				at := slices.IndexFunc(found, func(f Finding) bool { return int(f.Span.Line) == i+1 && want.MatchString(f.Message) })
				if at < 0 {
					t.Errorf("%s:%d: nothing says %s", f.Path, i+1, want)
					continue
				}
				found = slices.Delete(found, at, at+1)
			}
		}
		for _, more := range found {
			t.Errorf("%s:%d: not expected: %s (%s)", more.File, more.Span.Line, more.Message, more.Rule)
		}
	}
}

func TestCheck_the_same_name_after_another_load_path_is_not_repeated(t *testing.T) {
	var library Library
	var of *syntax.File
	for name, src := range map[string]string{
		"a.pan": "template a;\ninclude 'b';\nvariable LOADPATH = list('x');\ninclude 'b';\n",
		"b.pan": "unique template b;\n'/x' = 1;\n",
	} {
		f, errs := syntax.Parse(name, []byte(src))
		if errs = append(errs, syntax.Check(f)...); len(errs) > 0 {
			t.Fatal(errs)
		}
		library.Add(f)
		if path.Base(name) == "a.pan" {
			of = f
		}
	}
	if found := library.Check(of); len(found) > 0 {
		t.Error(found)
	}
}
