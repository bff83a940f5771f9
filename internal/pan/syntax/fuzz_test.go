package syntax

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func seeds(f *testing.F) {
	files, err := filepath.Glob("testdata/*.pan")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(src))
	}
	text, err := os.ReadFile("testdata/messages.txt")
	if err != nil {
		f.Fatal(err)
	}
	for _, c := range strings.Split(string(text), "\n== ")[1:] {
		_, rest, _ := strings.Cut(c, "\n")
		src, _, _ := strings.Cut(rest, "\n-- ")
		f.Add(src)
	}
}

// FuzzParse reads anything: no panic, no error without a place or a text, and both readings of the grammar, the parser's and that of
// panc's rules, agree on what is wrong first.
func FuzzParse(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, src string) {
		file, errs := Parse("/t/t.pan", []byte(src))
		p := parser{lexer: newLexer("/t/t.pan", decode([]byte(src))), file: &File{}}
		p.start = p.cursor
		whole := p.explain(true)
		switch {
		case len(errs) == 0 && whole != nil:
			t.Errorf("%q: panc's rules say\n%s", src, whole)
		case len(errs) > 0 && errs[0].token && whole != nil && errs[0].Error() != whole.Error():
			t.Errorf("%q: got\n%s\npanc's rules say\n%s", src, errs[0], whole)
		}
		for _, e := range errs {
			if e.Message == "" || e.Short() == "" || e.Span.EndLine < e.Span.Line {
				t.Errorf("%q: bad error %#v", src, e)
			}
		}
		if len(errs) > 0 {
			return
		}
		checked := Check(file)
		sorted := append([]*Error(nil), checked...)
		Sort(file, sorted)
		if !reflect.DeepEqual(sorted, checked) {
			t.Errorf("%q: %v is not in order", src, checked)
		}
		Annotations(file)
	})
}

// FuzzAnnotation reads anything inside of an annotation.
func FuzzAnnotation(f *testing.F) {
	for _, s := range []string{"", "text", " a = b\n c = 'd' e=\"f\"\"g\"", "a = b\\\r\n c", "a = 'b", "=", "é = ü", "a = \\\n\\\nb", "a =\n 'x' ' y'"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		entries, problem := annotationEntries(strings.ToValidUTF8(s, "?"))
		if problem == "" && len(entries) == 0 {
			t.Errorf("%q: neither entries nor a problem", s)
		}
		for _, e := range entries {
			if !validKey(e.Key) {
				t.Errorf("%q: key %q", s, e.Key)
			}
		}
	})
}
