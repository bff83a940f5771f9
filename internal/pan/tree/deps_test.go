package tree

import (
	"slices"
	"strings"
	"testing"
)

// The bytes are those of panc for such files.
func TestWriteDeps(t *testing.T) {
	deps := []Dep{
		{"sub/inc", Tpl, "/srv/inc d\u00e9"},
		{"zz/y", AbsentSource, ""},
		{"ab.txt", AbsentText, ""},
		{"host", Pan, "/srv"},
		{"t+x.txt", TextFile, "/srv/a%b"},
		{"host", Pan, "/srv"},
		{"host", AbsentSource, ""},
		{"root", Pan, "/"},
	}
	const want = `ab.txt ABSENT_TEXT 
host PAN file:/srv/
host ABSENT_SOURCE 
root PAN file:/
sub/inc TPL file:/srv/inc%20d%C3%A9/
t+x.txt TEXT file:/srv/a%25b/
zz/y ABSENT_SOURCE 
`
	var b strings.Builder
	if err := WriteDeps(&b, deps); err != nil {
		t.Fatal(err)
	}
	if b.String() != want {
		t.Errorf(" got %s\nwant %s", b.String(), want)
	}
	back, err := ParseDeps(want)
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(deps, Dep.Compare)
	if deps = slices.Compact(deps); !slices.Equal(back, deps) {
		t.Errorf(" got %v\nwant %v", back, deps)
	}
}

func FuzzParseDeps(f *testing.F) {
	f.Add("a PAN file:/srv/\nb ABSENT_TEXT \n")
	f.Add("a TPL file:/a%20b/")
	f.Add("a TPL /")
	f.Add("a NOPE \n")
	f.Fuzz(func(t *testing.T, s string) {
		deps, err := ParseDeps(s)
		if err != nil {
			return
		}
		var b strings.Builder
		if err := WriteDeps(&b, deps); err != nil {
			t.Fatal(err)
		}
		again, err := ParseDeps(b.String())
		slices.SortFunc(deps, Dep.Compare)
		if err != nil || !slices.Equal(again, slices.Compact(deps)) {
			t.Errorf("%q: %v, %v", b.String(), again, err)
		}
	})
}
