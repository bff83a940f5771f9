package tree

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// The messages and classes are those that panc gives for value(), whose argument is a path made at run time.
func TestParsePath(t *testing.T) {
	for in, want := range map[string]string{
		"/":                       "/",
		"//":                      "/",
		"/a/b":                    "/a/b",
		"/a/":                     "/a",
		"a/b":                     "a/b",
		"/a/-1":                   "/a/-1",
		"/a/-0":                   "/a/0",
		"/a/{x y}":                "/a/x_20y",
		"/a/{x}{y}":               "/a/xy",
		"/{}":                     "/_",
		"/{/a:b}":                 "/_2fa_3ab",
		"/a.b+c-d_e":              "/a.b+c-d_e",
		"/0a":                     "/0a",
		"x:/a":                    "x:/a",
		"x:a":                     "x:/a",
		"x/y:":                    "x/y:/",
		"x:/":                     "x:/",
		"":                        "1 relative path must have at least one term",
		"0/a":                     "1 first term in path must be a key, not an index",
		"/0":                      "1 first term in path must be a key, not an index",
		"y:/0":                    "1 first term in path must be a key, not an index",
		":/a":                     "1 invalid authority () in path",
		"x/../y:/a":               "1 invalid authority (x/../y) in path",
		"/a/{x{y}}":               "1 path '/a/{x{y}}' contains mismatched or nested braces",
		"/a/}":                    "1 path '/a/}' contains mismatched or nested braces",
		"/a/{":                    "1 path '/a/{' contains mismatched or nested braces",
		"/a//b":                   "0 empty string cannot be used as a path term or nlist key",
		"/a/01":                   "0 index cannot start with leading zero(s): '01'",
		"/a/-01":                  "0 index cannot start with leading zero(s): '-01'",
		"/a/99999999999":          "0 index (99,999,999,999) exceeds largest permitted value (2,147,483,647)",
		"/a/-2147483649":          "0 index (-2,147,483,649) below smallest permitted value (-2,147,483,648)",
		"/a/99999999999999999999": "0 path term or nlist key cannot start with a digit: '99999999999999999999'",
		"/a b":                    "0 invalid path term or nlist key: 'a b'",
		"/.a":                     "0 invalid path term or nlist key: '.a'",
		"/-a":                     "0 invalid path term or nlist key: '-a'",
		"a:b:c":                   "0 invalid path term or nlist key: 'b:c'",
		"/a/{\u4e2d}":             "0 string contains character which cannot be escaped: 4e2d",
		"/a/{\U0001F600}":         "0 string contains character which cannot be escaped: 1f600",
	} {
		p, err := ParsePath(in)
		got := p.String()
		var e *Error
		if errors.As(err, &e) {
			got = string('0'+byte(e.Class)) + " " + e.Message
		} else if err != nil {
			t.Errorf("%s: %v", in, err)
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func TestParseTerms_may_start_with_an_index(t *testing.T) {
	p, err := ParseTerms("0/a")
	if err != nil || p.String() != "0/a" || p.Terms[0].IsKey() {
		t.Errorf("%v, %v", p, err)
	}
}

// Path.compareTo: defaults are set and types checked in this order.
func TestPath_Compare_puts_long_before_short_and_index_before_key(t *testing.T) {
	want := []string{"a/b", "a", "/a/b/c", "/a/-1", "/a/2", "/a/10", "/a/B", "/a/a", "/b/0", "/a", "/b", "/", "y:/a/b", "x:/a"}
	var paths []Path
	for _, s := range want {
		paths = append(paths, mustPath(t, s))
	}
	slices.Reverse(paths)
	slices.SortFunc(paths, Path.Compare)
	var got []string
	for _, p := range paths {
		got = append(got, p.String())
	}
	if !slices.Equal(got, want) {
		t.Errorf(" got %q\nwant %q", got, want)
	}
}

func TestPath_Join(t *testing.T) {
	p, err := mustPath(t, "/a/b").Join(mustPath(t, "c/0").Terms)
	if err != nil || p.String() != "/a/b/c/0" || p.Parent().String() != "/a/b/c" {
		t.Errorf("%v, %v", p, err)
	}
	if _, err := mustPath(t, "x:/a").Join(nil); err == nil || err.Error() != "cannot construct relative path from external path" {
		t.Error(err)
	}
}

func TestTermOf_subscripts(t *testing.T) {
	for in, want := range map[Value]string{
		Long(3): "3", Long(-1): "-1", String("3"): "3", String("{a/b}"): "a_2fb", String("k"): "k",
		String("a/b"): "invalid path term or nlist key: 'a/b'", Boolean(true): "element of type boolean is not a valid index",
		Long(1 << 40): "index (1,099,511,627,776) exceeds largest permitted value (2,147,483,647)",
	} {
		term, err := TermOf(in)
		got := term.String()
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%v: got %q, want %q", in, got, want)
		}
	}
}

func TestEscape_and_Unescape(t *testing.T) {
	for in, want := range map[string]string{"": "_", "a1": "a1", "1+1/\u00e9": "_31_2b1_2f_e9", "a_b.c-d": "a_5fb_2ec_2dd", "\x00": "_00", "\u00ff": "_ff"} {
		got, err := Escape(in)
		if err != nil || got != want {
			t.Errorf("escape %q: %q, %v, want %q", in, got, err, want)
		}
		if back, err := Unescape(got); err != nil || back != in {
			t.Errorf("unescape %q: %q, %v", got, back, err)
		}
	}
	for in, want := range map[string]string{
		"a_4": "string contains incomplete escape sequence", "_": "", "__": "string contains incomplete escape sequence",
		"_g0": "string contains invalid escape sequence: g0", "_\u00e9": "string contains incomplete escape sequence",
		"_\u00e9x": "string contains invalid escape sequence: \u00e9x", "\u4e2d_41": "\u4e2dA", "_+f": "\x0f", "_-0": "\x00", "_-1": "string contains invalid escape sequence: -1", "_\uff10\uff21": "\n",
		"\U0001F600": "\U0001F600\xed\xb8\x80", // panc gives the second half twice
	} {
		got, err := Unescape(in)
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("unescape %q: %q, want %q", in, got, want)
		}
	}
	if _, err := Escape("a\xed\xa0\xbd"); err == nil || !strings.HasSuffix(err.Error(), ": d83d") {
		t.Error(err)
	}
}

func FuzzParsePath(f *testing.F) {
	for _, s := range []string{"/a/b", "a/0", "x:/a", "/a/{b/c}/-1", "", "/", "x:", "{", "/a//b", "/\xff", "x:\u2028"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePath(s)
		if err != nil {
			return
		}
		again, err := ParsePath(p.String())
		if err != nil || !p.Equal(again) {
			t.Errorf("%q is %s and that is %s, %v", s, p, again, err)
		}
	})
}

func FuzzUnescape(f *testing.F) {
	for _, s := range []string{"_", "a_2fb", "_4", "__", "_zz", "\u00e9_41", "\U0001F600", "_\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		_, _ = Unescape(s)
		e, err := Escape(s)
		if err != nil {
			return
		}
		if back, err := Unescape(e); err != nil || back != s {
			t.Errorf("%q is %q and that is %q, %v", s, e, back, err)
		}
	})
}
