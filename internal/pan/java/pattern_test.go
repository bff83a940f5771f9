package java

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestPattern_gives_up_after_a_number_of_steps(t *testing.T) {
	for name, c := range map[string]struct{ pattern, text string }{
		"nested repetitions": {`(?:(?:a+)+)+\1()$`, strings.Repeat("a", 60) + "b"},
		"back reference":     {`(a*)*(a*)*(a*)*\3b`, strings.Repeat("a", 300)},
		"look-behind":        {`(?<=a{0,100000}c?)(?<=a{0,100000}c)b`, strings.Repeat("ab", 10_000)},
		"deep":               {`(?:a|b)*\1()`, strings.Repeat("ab", 300_000)},
		"possessive":         {`(?:a*b?){0,2000000000}+(?:a*c?){0,2000000000}d`, strings.Repeat("a", 100_000)},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := Compile(c.pattern, 0)
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			ok, err := p.Match(c.text)
			if took := time.Since(began); took > time.Minute {
				t.Errorf("it took %v", took)
			}
			if limit := (*LimitError)(nil); err != nil && !errors.As(err, &limit) || ok {
				t.Errorf("got %v, %v", ok, err)
			}
			again, errAgain := p.Match(c.text)
			if again != ok || (err == nil) != (errAgain == nil) {
				t.Errorf("got %v, %v, then %v, %v", ok, err, again, errAgain)
			}
		})
	}
}

func TestPattern_of_nested_repetitions_is_searched_once_per_place(t *testing.T) {
	p, err := Compile(`(a+)+$`, 0)
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := p.Match(strings.Repeat("a", 1000) + "b"); ok || err != nil {
		t.Errorf("got %v, %v", ok, err)
	}
}

func TestPattern_nested_too_deep_is_an_error(t *testing.T) {
	for _, s := range []string{strings.Repeat("(", 100_000), strings.Repeat("[", 100_000), strings.Repeat("(?:", 500_000)} {
		if _, err := Compile(s, 0); err == nil || !strings.Contains(err.Error(), "Nested deeper than 1000") {
			t.Errorf("%.10s…: got %v", s, err)
		}
	}
}

func TestMatches_ends_with_the_last_group_that_matched(t *testing.T) {
	for _, c := range []struct {
		pattern, text string
		want          []string
	}{
		{`(a)|(b)|(c)`, "b", []string{"b", "", "b"}},
		{`(a)?(b)?`, "x", []string{""}},
		{`(?<name>a)(x)?`, "a", []string{"a", "a"}},
		{`(a)`, "b", nil},
		{`(.)\1`, "a😀😀", []string{"😀😀", "😀"}},
	} {
		p, err := Compile(c.pattern, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := p.Matches(c.text); err != nil || !slices.Equal(got, c.want) || (got == nil) != (c.want == nil) {
			t.Errorf("%s in %s: got %q, %v, want %q", c.pattern, c.text, got, err, c.want)
		}
	}
}

func TestParseFlags(t *testing.T) {
	if f, _, ok := ParseFlags("ismux"); !ok || f != CaseInsensitive|DotAll|Multiline|UnicodeCase|Comments {
		t.Errorf("got %b, %v", f, ok)
	}
	if _, bad, ok := ParseFlags("i😀"); ok || bad != "\xed\xa0\xbd" {
		t.Errorf("got %q, %v", bad, ok)
	}
}

func TestCache_compiles_once_and_remembers_errors(t *testing.T) {
	var c Cache
	p, err := c.Compile("a+", 0)
	if err != nil {
		t.Fatal(err)
	}
	if q, _ := c.Compile("a+", 0); p != q {
		t.Error("compiled twice")
	}
	if q, _ := c.Compile("a+", DotAll); p == q {
		t.Error("flags are not told apart")
	}
	_, err = c.Compile("(", 0)
	if _, again := c.Compile("(", 0); err == nil || err != again {
		t.Errorf("got %v, then %v", err, again)
	}
}

// Patterns without anything peculiar to Java match the same as Go's own engine says.
func TestPattern_agrees_with_Go_on_what_both_know(t *testing.T) {
	atom := rapid.SampledFrom([]string{"a", "b", "ab", ".", "[ab]", "[^a]", `\d`, `\w`, "x", "é", "1", `\.`, `\s`})
	quantifier := rapid.SampledFrom([]string{"", "", "", "*", "+", "?", "*?", "+?", "??", "{2}", "{1,3}", "{0,2}?"})
	var expression func(depth int) *rapid.Generator[string]
	expression = func(depth int) *rapid.Generator[string] {
		return rapid.Custom(func(t *rapid.T) string {
			s := ""
			for range rapid.IntRange(1, 3).Draw(t, "n") {
				if depth > 0 && rapid.IntRange(0, 2).Draw(t, "group") == 0 {
					open := rapid.SampledFrom([]string{"(", "(?:"}).Draw(t, "open")
					s += open + expression(depth-1).Draw(t, "body") + ")" + rapid.SampledFrom([]string{"", "", "?"}).Draw(t, "q")
				} else {
					s += atom.Draw(t, "atom") + quantifier.Draw(t, "q")
				}
			}
			if rapid.IntRange(0, 4).Draw(t, "or") == 0 {
				s += "|" + atom.Draw(t, "other")
			}
			return s
		})
	}
	rapid.Check(t, func(t *rapid.T) {
		s := expression(2).Draw(t, "pattern")
		text := rapid.StringOfN(rapid.SampledFrom([]rune("ab1xé. \t")), 0, 12, -1).Draw(t, "text")
		want := regexp.MustCompile(s).FindStringSubmatchIndex(text)
		p, err := Compile(s, 0)
		if err != nil {
			t.Fatal(err)
		}
		got, err := p.Find(text)
		if err != nil {
			t.Fatal(err)
		}
		for i, n := range want {
			if n > 0 {
				want[i] = Length(text[:n])
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s in %q: got %v, want %v", s, text, got, want)
		}
	})
}

func FuzzPattern(f *testing.F) {
	for _, r := range recorded(f) {
		switch r.op {
		case "find":
			f.Add(readField(f, r.args[0]), uint8(patternFlags(f, r.args[1])), readField(f, r.args[2]), "$0")
		case "replace":
			f.Add(readField(f, r.args[0]), uint8(0), readField(f, r.args[2]), readField(f, r.args[1]))
		}
	}
	f.Fuzz(func(t *testing.T, pattern string, flags uint8, text, replacement string) {
		if len(pattern) > 200 || len(text) > 200 {
			return
		}
		pattern, text, replacement = FromUnits(Units(pattern)), FromUnits(Units(text)), FromUnits(Units(replacement))
		p, err := Compile(pattern, Flags(flags)&(1<<7-1))
		if err != nil {
			if e := (*SyntaxError)(nil); !errors.As(err, &e) || !strings.Contains(err.Error(), pattern) {
				t.Errorf("error %T %v", err, err)
			}
			return
		}
		ok, err := p.Match(text)
		places, errFind := p.Find(text)
		if (err == nil) != (errFind == nil) || ok != (places != nil) {
			t.Errorf("%v %v, %v %v", ok, err, places, errFind)
		}
		for i := 0; i < len(places); i += 2 {
			if from, to := places[i], places[i+1]; from > to || to > Length(text) || (from < 0) != (to < 0) {
				t.Errorf("places %v in a text of %d", places, Length(text))
			}
		}
		parts, err := p.Split(text, -1)
		if err == nil && !ok && (len(parts) != 1 || parts[0] != text) {
			t.Errorf("no match, and parts %q of %q", parts, text)
		}
		if s, err := p.ReplaceAll(text, replacement); err == nil && !ok && s != text {
			t.Errorf("no match, and %q became %q", text, s)
		}
	})
}

var benchmarks = []struct{ name, pattern, text string }{
	{"hostname", `^(([a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9\-]*[a-zA-Z0-9])\.)*([A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9\-]*[A-Za-z0-9])$`, "wn-204-07.cluster.example.org"},
	{"ipv4", `^(25[0-5]|2[0-4]\d|[0-1]?\d?\d)(\.(25[0-5]|2[0-4]\d|[0-1]?\d?\d)){3}$`, "192.168.204.17"},
	{"words", `^(yes|no|true|false|on|off)$`, "false"},
	{"look-around", `^(?!-)[a-z0-9-]{1,63}(?<!-)$`, "wn-204-07"},
	{"unanchored", `\d+:\d+`, "time of day is about 12:34 or so"},
	{"path", `^(/[\w.+-]+)+/?$`, "/software/components/profile/env/PATH"},
}

func BenchmarkPattern(b *testing.B) {
	for _, c := range benchmarks {
		b.Run(c.name, func(b *testing.B) {
			p, err := Compile(c.pattern, 0)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if ok, err := p.Match(c.text); !ok || err != nil {
					b.Fatal(ok, err)
				}
			}
		})
	}
}

// BenchmarkGo is what Go's own engine needs for the same.
func BenchmarkGo(b *testing.B) {
	for _, c := range benchmarks {
		p, err := regexp.Compile(c.pattern)
		if err != nil {
			continue
		}
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				if !p.MatchString(c.text) {
					b.Fatal("no match")
				}
			}
		})
	}
}

func BenchmarkCompile(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Compile(benchmarks[0].pattern, 0); err != nil {
			b.Fatal(err)
		}
	}
}
