package syntax

import (
	"slices"
	"testing"
)

func TestNearest(t *testing.T) {
	for word, want := range map[string]string{
		"lengt": "length", "mathc": "match", "is_def": "", "undoubled": "", "to_upper": "", "xx": "", "lisst": "list", "to_strin": "to_string",
		"ma": "", "mac": "max", "length": "", "is_lisst": "is_list", "is_losg": "is_long", "mi": "", "mxx": "max",
	} {
		if got := Nearest(word, slices.Values(Functions)); got != want {
			t.Errorf("%s: got %q, want %q", word, got, want)
		}
		backwards := slices.Clone(Functions)
		slices.Reverse(backwards)
		if got := Nearest(word, slices.Values(backwards)); got != want {
			t.Errorf("%s, from behind: got %q, want %q", word, got, want)
		}
	}
}
