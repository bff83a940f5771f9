package java

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"testing"
	"unicode/utf16"
	"unicode/utf8"
)

const (
	high = "\xed\xa0\xbd" // \ud83d
	low  = "\xed\xb8\x80" // \ude00
)

func TestStrings_count_UTF_16_units(t *testing.T) {
	for _, c := range []struct {
		s    string
		want int
	}{{"", 0}, {"abc", 3}, {"aé€", 3}, {"a😀b", 4}, {high, 1}, {"x" + low + "y", 3}} {
		if got := Length(c.s); got != c.want {
			t.Errorf("Length(%q) is %d, want %d", c.s, got, c.want)
		}
	}
	if got := Substring("a😀b", 1, 2); got != high {
		t.Errorf("half a character: %q", got)
	}
	if got := Substring("aé😀b", 1, 4); got != "é😀" {
		t.Errorf("got %q", got)
	}
	if got := Concat(Concat("a", high), Concat(low, "b")); got != "a😀b" {
		t.Errorf("joined halves: %q", got)
	}
	if got := Concat(low, high); got != low+high {
		t.Errorf("halves in the wrong order: %q", got)
	}
	for _, c := range []struct {
		s, part string
		want    int
	}{{"aé😀b", "b", 4}, {"abc", "", 0}, {"abc", "x", -1}, {"a😀", low, 2}, {"a😀", high, 1}, {"abc", low, -1}} {
		if got := Index(c.s, c.part); got != c.want {
			t.Errorf("Index(%q, %q) is %d, want %d", c.s, c.part, got, c.want)
		}
	}
}

func TestOutput_writes_lone_surrogates_as_Java_does(t *testing.T) {
	for s, want := range map[string]string{"a" + high + "b" + low: "a?b?", "\ud7ff한": "\ud7ff한", "": "", low: "?"} {
		if got := Output(s); got != want || !utf8.ValidString(got) {
			t.Errorf("%q: got %q, want %q", s, got, want)
		}
	}
}

func TestSubstitute_stops(t *testing.T) {
	if s, err := Substitute("a${b}", func(string) (string, bool) { return "", false }); !errors.Is(err, ErrUndefined) || s != "" {
		t.Errorf("got %q, %v", s, err)
	}
	names := 0
	_, err := Substitute("${v0}", func(name string) (string, bool) {
		names++
		n, err := strconv.Atoi(name[1:])
		if err != nil || n > 40 {
			return strings.Repeat("x", 1000), true
		}
		next := "${v" + strconv.Itoa(n+1) + "}"
		return next + next, true
	})
	if !errors.Is(err, ErrTooLong) {
		t.Errorf("after %d names: %v", names, err)
	}
}

func TestFormat_refuses_what_would_fill_memory(t *testing.T) {
	for _, f := range []string{"%2000000000s", "%.2000000000f"} {
		if _, err := Format(f, "x"); err == nil || !strings.Contains(err.Error(), "too large") {
			t.Errorf("%s: %v", f, err)
		}
	}
	if s, err := Format("%.2000000000s", "x"); s != "x" || err != nil {
		t.Errorf("got %q, %v", s, err)
	}
}

func FuzzStrings(f *testing.F) {
	for _, s := range []string{"", "abc", "a😀é", high + low, "\xff\xfe", "\ue000\U00010000", "\xed\xa0"} {
		f.Add(s, "x😀")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		a, b = FromUnits(Units(a)), FromUnits(Units(b)) // as everything that a program can hold
		u, v := Units(a), Units(b)
		if FromUnits(u) != a {
			t.Fatalf("%q became %q", a, FromUnits(u))
		}
		if Length(a) != len(u) {
			t.Errorf("Length(%q) is %d, want %d", a, Length(a), len(u))
		}
		if got, want := Concat(a, b), FromUnits(append(u[:len(u):len(u)], v...)); got != want {
			t.Errorf("%q + %q: got %q, want %q", a, b, got, want)
		}
		want := len(u) - len(v)
		for i := range min(len(u), len(v)) {
			if u[i] != v[i] {
				want = int(u[i]) - int(v[i])
				break
			}
		}
		if got := Compare(a, b); (got > 0) != (want > 0) || (got < 0) != (want < 0) {
			t.Errorf("Compare(%q, %q) is %d, want %d", a, b, got, want)
		}
		if out := Output(a); !utf8.ValidString(out) || string(utf16.Decode(u)) != strings.ReplaceAll(a, a, out) && !strings.Contains(out, "?") {
			t.Errorf("Output(%q) is %q", a, out)
		}
		for _, s := range []string{ToLower(a), ToUpper(a)} {
			if FromUnits(Units(s)) != s {
				t.Errorf("case of %q: %q", a, s)
			}
		}
	})
}

func FuzzFormat(f *testing.F) {
	for _, r := range recorded(f) {
		if r.op == "format" {
			f.Add(readField(f, r.args[0]), "text", int64(-42), 1.5, true)
		}
	}
	f.Fuzz(func(t *testing.T, format, s string, n int64, d float64, b bool) {
		for _, args := range [][]any{{s, n, d, b}, {n, d, b, s}, {d, s, n, b}, {}} {
			if _, err := Format(format, args...); err != nil {
				if e := (*FormatError)(nil); !errors.As(err, &e) {
					t.Errorf("error %T %v", err, err)
				}
			}
		}
		if got, err := Format("%s", d); err != nil || got != Double(d) {
			t.Errorf("%v: %s, %v", d, got, err)
		}
	})
}

func FuzzNumber(f *testing.F) {
	for _, r := range recorded(f) {
		switch r.op {
		case "parse", "decode", "long":
			f.Add(readField(f, r.args[0]), uint64(1))
		case "double":
			f.Add("0", math.Float64bits(readBits(f, r.args[0])))
		}
	}
	f.Fuzz(func(t *testing.T, s string, n uint64) {
		if d, err := ParseDouble(s); err == nil {
			if back, err := ParseDouble(Double(d)); err != nil || back != d && d == d {
				t.Errorf("%q is %v, %s, %v", s, d, Double(d), back)
			}
		}
		if i, err := DecodeLong(s); err == nil {
			if back, err := DecodeLong(strconv.FormatInt(i, 10)); err != nil || back != i {
				t.Errorf("%q is %d, then %d, %v", s, i, back, err)
			}
		}
		for radix := 2; radix <= 36; radix++ {
			if back, err := ParseLong(strconv.FormatInt(int64(n), radix), radix); err != nil || back != int64(n) {
				t.Errorf("%d in radix %d: %d, %v", int64(n), radix, back, err)
			}
		}
		d := math.Float64frombits(n)
		if back, err := ParseDouble(Double(d)); err != nil || back != d && d == d {
			t.Errorf("%v is %s, then %v, %v", d, Double(d), back, err)
		}
	})
}

func FuzzSubstitute(f *testing.F) {
	for _, r := range recorded(f) {
		if r.op == "substitute" {
			f.Add(readField(f, r.args[0]), "1", "${a}")
		}
	}
	f.Fuzz(func(t *testing.T, s, a, b string) {
		_, err := Substitute(s, func(name string) (string, bool) {
			switch name {
			case "a":
				return a, true
			case "b":
				return b, true
			}
			return "", false
		})
		cycle := (*CycleError)(nil)
		if err != nil && !errors.Is(err, ErrUndefined) && !errors.Is(err, ErrTooLong) && !errors.As(err, &cycle) {
			t.Errorf("error %T %v", err, err)
		}
	})
}

func BenchmarkDouble(b *testing.B) {
	for _, d := range []float64{1, 0.1, math.Pi, 1e100} {
		b.Run(strconv.FormatFloat(d, 'g', -1, 64), func(b *testing.B) {
			buf := make([]byte, 0, 32)
			for b.Loop() {
				buf = AppendDouble(buf[:0], d)
			}
		})
	}
}

func BenchmarkFormat(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Format("%s/%d", "host", int64(7)); err != nil {
			b.Fatal(err)
		}
	}
}
