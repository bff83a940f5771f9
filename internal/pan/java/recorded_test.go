package java

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"
)

// readField undoes the writing of testdata/Record.java: \uXXXX is a UTF-16 unit.
func readField(t testing.TB, s string) string {
	t.Helper()
	var u []uint16
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			u = append(u, uint16(s[i]))
			continue
		}
		n, err := strconv.ParseUint(s[i+2:i+6], 16, 16)
		if err != nil {
			t.Fatal(err)
		}
		u = append(u, uint16(n))
		i += len("uXXXX")
	}
	return FromUnits(u)
}

func writeField(s string) string {
	var b strings.Builder
	for _, u := range Units(s) {
		if u < ' ' || u > '~' || u == '\\' {
			fmt.Fprintf(&b, `\u%04x`, u)
		} else {
			b.WriteByte(byte(u))
		}
	}
	return b.String()
}

func readBits(t testing.TB, s string) float64 {
	t.Helper()
	n, err := strconv.ParseUint(s, 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	return math.Float64frombits(n)
}

// recorded is testdata/recorded.txt: operations, their arguments, and what Java answers.
func recorded(t testing.TB) (all []recording) {
	t.Helper()
	data, err := os.ReadFile("testdata/recorded.txt")
	if err != nil {
		t.Fatal(err)
	}
	for n, line := range strings.Split(strings.TrimSuffix(string(data), "\n"), "\n") {
		question, answer, ok := strings.Cut(line, "\t=> ")
		if !ok {
			t.Fatalf("testdata/recorded.txt:%d: no answer", n+1)
		}
		f := strings.Split(question, "\t")
		all = append(all, recording{n + 1, f[0], f[1:], answer})
	}
	return all
}

type recording struct {
	line   int
	op     string
	args   []string
	answer string
}

// patternFlags are ours for those of Pattern.compile.
func patternFlags(t testing.TB, s string) (f Flags) {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	for i, x := range []Flags{UnixLines, CaseInsensitive, Comments, Multiline, 0, DotAll, UnicodeCase, 0, UnicodeClasses} {
		if n&(1<<i) != 0 {
			f |= x
		}
	}
	return f
}

func TestRecorded(t *testing.T) {
	seen := make(map[string]int)
	for _, r := range recorded(t) {
		seen[r.op]++
		t.Run(fmt.Sprintf("%s/%d", r.op, r.line), func(t *testing.T) {
			got, err := ours(t, r)
			if err == nil {
				if got != r.answer {
					t.Errorf("%s %q: got %s, want %s", r.op, r.args, got, r.answer)
				}
				return
			}
			_, text, ok := strings.Cut(strings.TrimPrefix(r.answer, "!"), ": ")
			switch {
			case !strings.HasPrefix(r.answer, "!") || !ok:
				t.Errorf("%s %q: got error %q, want %s", r.op, r.args, err, r.answer)
			case !errors.Is(err, ErrNumber) && err.Error() != readField(t, text):
				t.Errorf("%s %q: got error\n%s\nwant\n%s", r.op, r.args, err, readField(t, text))
			}
		})
	}
	for _, op := range []string{"find", "replace", "split", "format", "double", "number", "parse", "decode", "long", "round", "upper", "lower", "compare", "substitute", "digest"} {
		if seen[op] == 0 {
			t.Errorf("no recording of %s", op)
		}
	}
}

// ours answers a question as Record.java writes answers.
func ours(t testing.TB, r recording) (string, error) {
	arg := func(i int) string { return readField(t, r.args[i]) }
	compile := func(flags Flags) (*Pattern, error) { return Compile(arg(0), flags) }
	switch r.op {
	case "find":
		p, err := compile(patternFlags(t, r.args[1]))
		if err != nil {
			return "", err
		}
		places, err := p.Find(arg(2))
		if places == nil {
			return "none", err
		}
		var pairs []string
		for i := 0; i < len(places); i += 2 {
			pairs = append(pairs, fmt.Sprintf("%d,%d", places[i], places[i+1]))
		}
		return strings.Join(pairs, " "), err
	case "replace":
		p, err := compile(0)
		if err != nil {
			return "", err
		}
		s, err := p.ReplaceAll(arg(2), arg(1))
		return writeField(s), err
	case "split":
		p, err := compile(0)
		if err != nil {
			return "", err
		}
		limit, err := strconv.Atoi(r.args[1])
		if err != nil {
			t.Fatal(err)
		}
		parts, err := p.Split(arg(2), int32(limit))
		s := ""
		for _, part := range parts {
			s += "[" + writeField(part) + "]"
		}
		return s, err
	case "format":
		s, err := Format(arg(0), readValues(t, r.args[1:])...)
		return writeField(s), err
	case "double":
		return Double(readBits(t, r.args[0])), nil
	case "number":
		return writeField(Number(readBits(t, r.args[0]))), nil
	case "parse":
		d, err := ParseDouble(arg(0))
		if d != d {
			d = readBits(t, "7ff8000000000000")
		}
		return strconv.FormatUint(math.Float64bits(d), 16), err
	case "decode":
		n, err := DecodeLong(arg(0))
		return strconv.FormatInt(n, 10), err
	case "long":
		radix, err := strconv.Atoi(r.args[1])
		if err != nil {
			t.Fatal(err)
		}
		n, err := ParseLong(arg(0), radix)
		return strconv.FormatInt(n, 10), err
	case "round":
		return strconv.FormatInt(Round(readBits(t, r.args[0])), 10), nil
	case "upper":
		return writeField(ToUpper(arg(0))), nil
	case "lower":
		return writeField(ToLower(arg(0))), nil
	case "compare":
		c := Compare(arg(0), arg(1))
		return strconv.Itoa(b2i(c > 0) - b2i(c < 0)), nil
	case "substitute":
		s, err := Substitute(arg(0), func(name string) (string, bool) {
			for i := 1; i < len(r.args); i += 2 {
				if arg(i) == name {
					return arg(i + 1), true
				}
			}
			return "", false
		})
		return writeField(s), err
	case "digest":
		s, ok := Digest(arg(0), arg(1))
		if ok != HasDigest(arg(0)) {
			t.Errorf("HasDigest(%s) is %v", arg(0), !ok)
		}
		if !ok {
			return "", fmt.Errorf("%s MessageDigest not available", arg(0))
		}
		return s, nil
	}
	t.Fatalf("unknown operation %s", r.op)
	return "", nil
}

// readValues reads arguments of String.format: a letter for the type, then the value.
func readValues(t testing.TB, args []string) (all []any) {
	t.Helper()
	for _, a := range args {
		switch a[0] {
		case 'S':
			all = append(all, readField(t, a[1:]))
		case 'L':
			n, err := strconv.ParseInt(a[1:], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, n)
		case 'D':
			all = append(all, readBits(t, a[1:]))
		default:
			all = append(all, a[1:] == "true")
		}
	}
	return all
}
