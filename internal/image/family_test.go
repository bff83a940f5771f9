package image

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestRecipesRunTheseCommands shows for every recipe what a build would run. testdata/recipe/NAME.txt is written by: go test -run
// RunTheseCommands ./internal/image -update.
func TestRecipesRunTheseCommands(t *testing.T) {
	for _, r := range Recipes() {
		t.Run(r.Name, func(t *testing.T) {
			s, err := r.with([]string{"chrony"}).script("WORK", "http://archive.example/linux", nil, [][]byte{[]byte("#!/bin/sh\n: > \"$1/etc/motd\"\n")})
			if err != nil {
				t.Fatal(err)
			}
			var got strings.Builder
			for _, f := range s.Files {
				fmt.Fprintf(&got, "file %s %o\n", f.Name, f.Mode)
				for line := range strings.Lines(f.Content) {
					fmt.Fprintf(&got, "  | %s\n", strings.TrimRight(line, "\n"))
				}
			}
			for _, c := range s.Commands {
				fmt.Fprintln(&got, c[0])
				for _, a := range c[1:] {
					if !strings.HasPrefix(a, "--dpkgopt=path-") { // hundreds, and the same for all
						fmt.Fprintf(&got, "  %s\n", a)
					}
				}
			}
			for _, p := range s.Programs {
				fmt.Fprintf(&got, "needs %s\n", p[0])
			}
			file := filepath.Join("testdata", "recipe", r.Name+".txt")
			if *update {
				if err := os.WriteFile(file, []byte(got.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil || got.String() != string(want) {
				t.Errorf("%v: got\n%s\nwant\n%s", err, got.String(), want)
			}
		})
	}
}

func TestRecipeOfAnotherFamilyAsksForItsMirror(t *testing.T) {
	r, err := findRecipe("el9")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.script("WORK", "", nil, nil); err == nil || !strings.Contains(err.Error(), "--mirror URL (it holds BaseOS/x86_64/os, AppStream/x86_64/os)") {
		t.Errorf("got %v", err)
	}
}
