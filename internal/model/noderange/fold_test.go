package noderange

import (
	"slices"
	"strings"
	"testing"
)

func TestFold(t *testing.T) {
	for names, want := range map[string]string{
		"":                              "",
		"web":                           "web",
		"n1":                            "n1",
		"n1 n1":                         "n1",
		"n2 n1":                         "n[1-2]",
		"n1 n2 n3 n5":                   "n[1-3,5]",
		"n8 n9 n10 n11":                 "n[8-11]",
		"r1n01 r1n02 r1n09 r1n10 r1n11": "r1n[01-02,09-11]",
		"n01 n02 n1 n2":                 "n[1-2],n[01-02]",
		"n098 n099 n100 n101":           "n[098-101]",
		"n98 n99 n100":                  "n[98-100]",
		"n098 n99":                      "n098,n99",
		"r1n1 r1n2 r2n1 r2n2":           "r[1-2]n[1-2]",
		"r1n1 r1n2 r2n1 r2n2 r3n1":      "r[1-2]n[1-2],r3n1",
		"r1n1 r2n2":                     "r1n1,r2n2",
		"r1n1 r3n1 r2n2":                "r[1,3]n1,r2n2",
		"a1-a5":                         "a1-a[5]",
		"n5-n1":                         "n5-n[1]",
		"b2 a10 a9":                     "a[9-10],b2",
		"n0 n1":                         "n[0-1]",
		"n1.c n2.c n3.d":                "n[1-2].c,n3.d",
		"n1234567890123456789012":       "n1234567890123456789012",
	} {
		got := Fold(strings.Fields(names))
		if got != want {
			t.Errorf("%s: got %s, want %s", names, got, want)
		}
	}
}

func TestFoldLeavesTheNamesAlone(t *testing.T) {
	names := []string{"n3", "n1", "n2"}
	Fold(names)
	if !slices.Equal(names, []string{"n3", "n1", "n2"}) {
		t.Errorf("the argument was changed: %v", names)
	}
}
