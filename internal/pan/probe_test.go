package pan

import (
	"bufio"
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"muster/internal/pan/tree"
)

// probe is a small program with what panc 10.9 made of it.
type probe struct {
	Name, Src, Status, JSON, Class, Message string
}

func probes(t testing.TB) []probe {
	f, err := os.Open("testdata/probes.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []probe
	for s := bufio.NewScanner(f); s.Scan(); {
		var p probe
		if err := json.Unmarshal(s.Bytes(), &p); err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	return all
}

// TestProbes compares profiles, classes and messages with what panc gave for the same programs; a loop may do 100 rounds, as when the
// answers were recorded.
func TestProbes(t *testing.T) {
	format, _ := tree.FormatOf("json")
	for _, p := range probes(t) {
		t.Run(p.Name, func(t *testing.T) {
			fsys := fstest.MapFS{p.Name + ".pan": {Data: []byte(p.Src)}}
			calls := 0
			err := Compile(context.Background(), fsys, []string{p.Name}, Options{Iteration: 100}, func(r *Profile) error {
				calls++
				if p.Status == "OK" {
					if len(r.Errors) > 0 {
						t.Errorf("%s\ngot error %s", p.Src, r.Errors[0])
						return nil
					}
					var b strings.Builder
					if err := format.Write(&b, r.Root); err != nil {
						t.Error(err)
					}
					if b.String() != p.JSON {
						t.Errorf("%s\ngot  %s\nwant %s", p.Src, b.String(), p.JSON)
					}
					return nil
				}
				if len(r.Errors) == 0 {
					t.Errorf("%s\ngot no error, want %s", p.Src, p.Message)
					return nil
				}
				if e := r.Errors[0]; string(e.Class) != p.Class || e.Error() != p.Message {
					t.Errorf("%s\ngot  %s %q\nwant %s %q", p.Src, e.Class, e.Error(), p.Class, p.Message)
				}
				return nil
			})
			if err != nil || calls != 1 {
				t.Errorf("%d profiles, error %v", calls, err)
			}
		})
	}
}
