package syntax

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestAnnotations_are_what_panc_annotations_writes compares with files that panc-annotations 10.9 wrote of the templates beside them.
func TestAnnotations_are_what_panc_annotations_writes(t *testing.T) {
	files, err := filepath.Glob("testdata/annotations/*.pan")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile(file + ".annotation.xml")
		if err != nil {
			t.Fatal(err)
		}
		f, errs := Parse(file, src)
		if errs = append(errs, Check(f)...); len(errs) > 0 {
			t.Fatal(errs)
		}
		got := strings.Split(string(Annotations(f)), "\n")
		for i, line := range strings.Split(string(want), "\n") {
			if i >= len(got) || got[i] != line {
				t.Errorf("%s.annotation.xml:%d: want\n%q, got\n%q", file, i+1, line, got[min(i, len(got)-1)])
			}
		}
	}
}
