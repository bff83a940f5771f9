package syntax

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestMessages_are_pancs reads templates that are wrong beside what panc said of them.
func TestMessages_are_pancs(t *testing.T) {
	text, err := os.ReadFile("testdata/messages.txt")
	if err != nil {
		t.Fatal(err)
	}
	cases := strings.Split(string(text), "\n== ")[1:]
	for _, c := range cases {
		name, rest, _ := strings.Cut(c, "\n")
		src, answer, ok := strings.Cut(rest, "\n-- ")
		if !ok {
			t.Fatalf("%s: no answer", name)
		}
		class, message, _ := strings.Cut(strings.TrimSuffix(answer, "\n"), "\n")
		t.Run(name, func(t *testing.T) {
			f, errs := Parse("/t/t.pan", []byte(src))
			if len(errs) == 0 {
				errs = Check(f)
			}
			if len(errs) == 0 {
				t.Fatalf("got no error, want %s\n%s", class, message)
			}
			// The file's last line end is one of the document's.
			if got := strings.TrimSuffix(errs[0].Error(), "\n"); got != strings.TrimSuffix(message, "\n") || errs[0].Class.String() != class {
				t.Errorf("%s\n got %s\n%q\nwant %s\n%q", src, errs[0].Class, got, class, message)
			}
		})
	}
	if len(cases) < 100 {
		t.Errorf("only %d cases were read", len(cases))
	}
}

// expected finds ### "regexp" at the end of a line, and at=LINE when the error is on another one.
var expected = regexp.MustCompile(`(?m)### ("(?:[^"\\]|\\.)*")(?: at=(\d+))?$`)

// TestDocuments has templates with the expected error on each line that is wrong.
func TestDocuments(t *testing.T) {
	files, err := filepath.Glob("testdata/*.pan")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		f, errs := Parse(file, src)
		if len(errs) == 0 {
			errs = Check(f)
		}
		for i, line := range strings.Split(string(src), "\n") {
			m := expected.FindStringSubmatch(line)
			if m == nil {
				continue
			}
			number := i + 1
			if m[2] != "" {
				number, _ = strconv.Atoi(m[2])
			}
			want := regexp.MustCompile(strings.Trim(m[1], `"`))
			at := slices.IndexFunc(errs, func(e *Error) bool {
				return (int(e.Span.Line) == number || number == 0) && want.MatchString(e.Message)
			})
			if at < 0 {
				t.Errorf("%s:%d: no error matches %s", file, number, want)
				continue
			}
			errs = slices.Delete(errs, at, at+1)
		}
		for _, e := range errs {
			t.Errorf("%s:%d: not expected: %s", file, e.Span.Line, e)
		}
	}
}

func TestParse_goes_on_behind_an_error(t *testing.T) {
	f, errs := Parse("t.pan", []byte("object template t;\n'/a' = );\n'/b' = 2;\nvariable X = {\nvariable Y = 3;\n"))
	if len(errs) != 2 || len(f.Statements) != 2 {
		t.Errorf("got %d errors and %d statements, want 2 and 2: %v", len(errs), len(f.Statements), errs)
	}
}

func TestParse_limits_depth(t *testing.T) {
	for name, open := range map[string]string{
		"parentheses": "(", "blocks": "{", "subscripts": "x[", "calls": "f(", "else if": "if (x) y else ", "loops": "while (x) ",
		"unended": "f(g[{", "assigned loops": "x = while (",
	} {
		src := "object template t;\n'/a' = " + strings.Repeat(open, 200_000)
		_, errs := Parse("t.pan", []byte(src))
		if len(errs) != 1 || !strings.Contains(errs[0].Message, "more than 3000 levels") || errs[0].Span.Line != 2 {
			t.Errorf("%s: %v", name, errs)
		}
	}
	src := "object template t;\ntype t = " + strings.Repeat("{ 'a' : ", 200_000)
	if _, errs := Parse("t.pan", []byte(src)); len(errs) != 1 || !strings.Contains(errs[0].Message, "more than 3000 levels") {
		t.Errorf("records: %v", errs)
	}
	for name, more := range map[string]string{"operators": "1 + ", "assignments": "x = "} {
		src := "object template t;\n'/a' = " + strings.Repeat(more, 200_000) + "1;\n"
		if _, errs := Parse("t.pan", []byte(src)); len(errs) != 1 || !strings.Contains(errs[0].Message, "in a row") {
			t.Errorf("%s: %v", name, errs)
		}
	}
}

func TestParse_takes_what_is_deep_and_allowed(t *testing.T) {
	deep := strings.Repeat("f({1;", 1400) + "1" + strings.Repeat("})", 1400)
	chain := strings.Repeat("1 + ", 9000) + "1"
	f, errs := Parse("t.pan", []byte("object template t;\n'/a' = "+deep+";\n'/b' = "+chain+";\n"))
	if errs = append(errs, Check(f)...); len(errs) > 0 {
		t.Error(errs)
	}
}

// TestParse_ends_in_time has what takes panc, or a careless reader, a time that is more than linear in the length.
func TestParse_ends_in_time(t *testing.T) {
	const n = 300_000
	for name, src := range map[string]string{
		"subscripts in subscripts":    "'/a' = " + strings.Repeat("x[", 2900) + " 1 2" + strings.Repeat("]", 2900) + ";",
		"annotations that do not end": strings.Repeat("@(", n),
		"strings that do not end":     "'/a' = '" + strings.Repeat("''", n) + "\n;",
		"quotes behind backslashes":   "'/a' = " + strings.Repeat(`"\`, n) + "\n;",
		"errors":                      strings.Repeat("a;", n),
		"braces":                      strings.Repeat("}", n),
		"here-documents":              "'/a' = " + strings.Repeat("<<E+", n) + "\n",
		"statements on one line":      strings.Repeat("'/é' = 'ü';", n/10),
		"lines":                       strings.Repeat("\n", n) + ")",
	} {
		start := time.Now()
		_, errs := Parse("t.pan", []byte("object template t;\n"+src))
		if d := time.Since(start); d > 10*time.Second {
			t.Errorf("%s: %v", name, d)
		}
		if len(errs) > maxErrors+1 {
			t.Errorf("%s: %d errors", name, len(errs))
		}
	}
}

func TestDecode_replaces_as_Java_does(t *testing.T) {
	for in, want := range map[string]string{
		"a\xffb": "a\ufffdb", "\xc3\xa4": "ä", "\xe4\xb8x": "\ufffdx", "\xf0\x9f\x98": "\ufffd", "\xed\xa0\x80": "\ufffd\ufffd\ufffd",
		"\xc0\x80": "\ufffd\ufffd", "\xe4": "\ufffd", "\xf8\x88": "\ufffd\ufffd",
	} {
		if got := decode([]byte(in)); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

// TestSort puts errors of one statement into the order in which panc makes operations: the value before what it is assigned to.
func TestSort_orders_by_statement_and_node(t *testing.T) {
	f, errs := Parse("t.pan", []byte("object template t;\n'/a' = { x[1] = y = f(z, 2 + 3) };\n'/b' = 4;\n"))
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	first := f.Statements[0].(*Assign)
	set := first.Body.(*Group).X.(*Set)
	call := set.Value.(*Call)
	var unsorted []*Error
	want := []Node{&first.Path, call.Args[0], call.Args[1], call, set.Targets[1], set.Targets[0], set, first}
	for i := range want {
		unsorted = append(unsorted, &Error{Node: want[(i*3)%len(want)]})
	}
	unsorted = append([]*Error{{Stmt: 2}, {Stmt: 1, Node: f.Statements[1]}}, unsorted...)
	Sort(f, unsorted)
	var got []Node
	for _, e := range unsorted[:len(want)] {
		got = append(got, e.Node)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	if unsorted[8].Stmt != 1 || unsorted[9].Stmt != 2 {
		t.Error("statements are not in order")
	}
}

func ExampleParse() {
	_, errs := Parse("t.pan", []byte("object template t;\n'/a' = 1 +;\nbind '/b' = ;\n"))
	for _, e := range errs {
		fmt.Printf("%s:%d:%d %s\n", e.File, e.Span.Line, e.Span.Col, e.Short())
	}
	// Output:
	// t.pan:2:11 unexpected ";"; expecting a value
	// t.pan:3:13 unexpected ";"; expecting a name, "{", "extensible" or "choice"
}
