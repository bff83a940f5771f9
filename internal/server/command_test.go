package server

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/creack/pty"

	"muster/internal/api"
)

func TestPassphrase_is_a_line_of_standard_input(t *testing.T) {
	for in, want := range map[string]string{"correct horse\n": "correct horse", "correct horse": "correct horse", " a b \r\nmore": " a b "} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		_, _ = w.WriteString(in)
		w.Close()
		if got, err := passphrase(r, &bytes.Buffer{}, true); err != nil || got.Reveal() != want {
			t.Errorf("%q: %q, %v", in, got.Reveal(), err)
		}
		r.Close()
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	w.Close()
	_, err = passphrase(r, &bytes.Buffer{}, true)
	wants(t, err, api.Usage, "standard input")
}

func TestPassphrase_on_a_terminal_is_not_shown_and_a_new_one_asked_for_twice(t *testing.T) {
	for _, c := range []struct {
		typed, want, refused string
		fresh                bool
	}{
		{"horse\n", "horse", "", false},
		{"horse\nhorse\n", "horse", "", true},
		{"horse\nhorsE\n", "", "not the same", true},
		{"\n", "", "empty", false},
	} {
		outside, inside, err := pty.Open()
		if err != nil {
			t.Fatal(err)
		}
		_, _ = outside.WriteString(c.typed) // it waits in the terminal
		var out bytes.Buffer
		got, err := passphrase(inside, &out, c.fresh)
		if c.refused != "" {
			wants(t, err, api.Usage, c.refused)
		} else if err != nil || got.Reveal() != c.want {
			t.Errorf("%q: %q, %v", c.typed, got.Reveal(), err)
		}
		if asked := strings.Count(out.String(), ": "); asked > 2 || c.fresh != (asked == 2) || strings.Contains(out.String(), "hors") {
			t.Errorf("%q: the terminal shows %q", c.typed, out.String())
		}
		inside.Close()
		outside.Close()
	}
}
