package cli

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muster/internal/api"
)

func TestParseCSV(t *testing.T) {
	set := func(pairs ...string) []api.Assignment {
		var out []api.Assignment
		for i := 0; i < len(pairs); i += 2 {
			out = append(out, api.Assignment{Attr: pairs[i], Value: pairs[i+1]})
		}
		return out
	}
	for name, tt := range map[string]struct {
		in   string
		want []api.Row
		bad  []string // "line: words"
	}{
		"plain":                     {"node,a.b\nn1,x\n", []api.Row{{Line: 2, Range: "n1", Set: set("a.b", "x")}}, nil},
		"no end of line":            {"node,a.b\nn1,x", []api.Row{{Line: 2, Range: "n1", Set: set("a.b", "x")}}, nil},
		"empty leaves alone":        {"node,a,b\nn1,,x\n", []api.Row{{Line: 2, Range: "n1", Set: set("b", "x")}}, nil},
		"quotes mask":               {"node,a,b\nn1,\"\",\"\"\"\"\"\"\n", []api.Row{{Line: 2, Range: "n1", Set: set("a", `""`, "b", `""`)}}, nil},
		"node is not first":         {"a;Name\nx;n1\n", []api.Row{{Line: 2, Range: "n1", Set: set("a", "x")}}, nil},
		"tabs":                      {"node\ta b\nn1\tx, y; z\n", nil, []string{`1: "a b" is no name`}},
		"tabs keep commas":          {"node\ta\nn1\tx, y; z\n", []api.Row{{Line: 2, Range: "n1", Set: set("a", "x, y; z")}}, nil},
		"separator in a header":     {"# a;b;c\n\"node\",\"a\"\nn1,x\n", []api.Row{{Line: 3, Range: "n1", Set: set("a", "x")}}, nil},
		"lines in a value":          {"node,a\nn1,\"x\ny\"\nn2,z\n", []api.Row{{Line: 2, Range: "n1", Set: set("a", "x\ny")}, {Line: 4, Range: "n2", Set: set("a", "z")}}, nil},
		"line ends of old systems":  {"node,a\rn1,x\r\rn2,y", []api.Row{{Line: 2, Range: "n1", Set: set("a", "x")}, {Line: 4, Range: "n2", Set: set("a", "y")}}, nil},
		"adds and takes away":       {"node,groups+,b-\nn1,g,h\n", []api.Row{{Line: 2, Range: "n1", Set: []api.Assignment{{Attr: "groups", Op: "+=", Value: "g"}, {Attr: "b", Op: "-=", Value: "h"}}}}, nil},
		"an empty column":           {"node,a,\nn1,x,\n", []api.Row{{Line: 2, Range: "n1", Set: set("a", "x")}}, nil},
		"a column without a name":   {"node,a,\nn1,x,y\n", nil, []string{"1: column 3", "line 2"}},
		"only a header":             {"node,a\n", nil, nil},
		"no column node":            {"host,a\nn1,x\n", nil, []string{"1: no column is called node"}},
		"short":                     {"node,a,b\nn1,x\n", nil, []string{"2: it has 2 cells, and the header 3"}},
		"text behind a quote":       {"node,a\nn1,\"x\"y\n", nil, []string{"2: text stands behind"}},
		"a quote inside":            {"node,a\nn1,x\"y\n", nil, []string{"2: a quote stands in a value"}},
		"a secret travels as one":   {"node,bmc.password\nn1,geheim\n", []api.Row{{Line: 2, Range: "n1", Set: []api.Assignment{{Attr: "bmc.password", Secret: &api.SecretValue{Plain: "geheim"}}}}}, nil},
		"an expression is no quote": {"node,a\nn1,{n0:02d}\n", []api.Row{{Line: 2, Range: "n1", Set: set("a", "{n0:02d}")}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, problems := parseCSV(tt.in)
			checkProblems(t, problems, tt.bad)
			if len(tt.bad) == 0 {
				if d := cmp.Diff(tt.want, got); d != "" {
					t.Error(d)
				}
			}
		})
	}
}

// checkProblems wants one problem for each "line: words and, words".
func checkProblems(t *testing.T, got []*api.Error, want []string) {
	t.Helper()
	var told []string
	for _, e := range got {
		told = append(told, fmt.Sprintf("%d: %s: %s", e.Line, e.What, e.Why))
	}
	all := strings.Join(told, "\n")
	if len(want) == 0 && len(got) > 0 {
		t.Errorf("problems:\n%s", all)
	}
	for _, w := range want {
		line, words, _ := strings.Cut(w, ": ")
		if !slices.ContainsFunc(told, func(s string) bool { return strings.HasPrefix(s, line+": ") && strings.Contains(s, words) }) && !strings.Contains(all, w) {
			t.Errorf("not told: %s; but:\n%s", w, all)
		}
	}
}

func TestParseYAML(t *testing.T) {
	for name, tt := range map[string]struct {
		in   string
		want string // "line range attr=value …", rows with | between
		bad  []string
	}{
		"a map":                {"n1: {a.b: x, c: 0755}\nn[2-3]:\n  a:\n    b: yes\n", "1 n1 a.b=x c=0755|2 n[2-3] a.b=yes", nil},
		"a list":               {"- node: n1\n  a: 1\n- {name: n2, b: 2}\n", "1 n1 a=1|3 n2 b=2", nil},
		"documents":            {"node: n1\na: 1\n---\nn2: {a: 2}\n", "1 n1 a=1|4 n2 a=2", nil},
		"elements":             {"n1: {a: [x, y], groups: [], b+: [u, v]}\n", `1 n1 a=x a+=y groups="" b+=u b+=v`, nil},
		"null leaves alone":    {"n1: {a: null, b: ~, c: , d: \"\", e: 'null'}\n", `1 n1 d="" e=null`, nil},
		"a node without":       {"n1:\nn2: {}\n", "1 n1|2 n2", nil},
		"anchors":              {"n1: &x {a: 1}\nn2: *x\n", "1 n1 a=1|2 n2 a=1", nil},
		"merging is refused":   {"n1: &x {a: 1}\nn2: {<<: *x}\n", "", []string{"2: maps are not merged"}},
		"twice":                {"n1: {a: 1, a: 2}\n", "", []string{"1: a is there twice"}},
		"no attribute":         {"n1: {a b: 1}\nn2: x\n", "", []string{`1: "a b" is no name`, "2: a node has attributes"}},
		"no YAML":              {"n1: [\n", "", []string{"did not find"}},
		"a list of lists":      {"n1: {a: [[1]]}\n", "", []string{"1: a: an element is no text"}},
		"an entry of no node":  {"- {a: 1}\n- x\n", "", []string{"1: it names no node", "2: it is no map"}},
		"empty":                {"# nothing\n", "", []string{"1: it is empty"}},
		"a secret is a secret": {"n1: {bmc: {password: geheim}}\n", "1 n1 bmc.password=(secret geheim)", nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, problems := parseYAML(tt.in)
			checkProblems(t, problems, tt.bad)
			var rows []string
			for _, r := range got {
				row := fmt.Sprintf("%d %s", r.Line, r.Range)
				for _, a := range r.Set {
					if a.Secret != nil {
						a.Value = "(secret " + a.Secret.Plain + ")"
					}
					row += " " + a.Attr + or(a.Op, "=") + a.Value
				}
				rows = append(rows, row)
			}
			if got := strings.Join(rows, "|"); len(tt.bad) == 0 && got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

// A file of a kilobyte that stands for a billion values is refused, soon.
func TestParseYAML_does_not_unfold_without_end(t *testing.T) {
	var b strings.Builder
	b.WriteString("a0: &a0 {")
	for i := range 100 {
		fmt.Fprintf(&b, "k%d: x, ", i)
	}
	b.WriteString("}\n")
	for i := 1; i < 7; i++ {
		fmt.Fprintf(&b, "a%d: &a%d {", i, i)
		for k := range 100 {
			fmt.Fprintf(&b, "k%d: *a%d, ", k, i-1)
		}
		b.WriteString("}\n")
	}
	if _, problems := parseYAML(b.String()); len(problems) == 0 {
		t.Error("it was taken")
	}
}

// FuzzCSV: never panics, and what a reader of RFC 4180 takes, it takes the same way, but for what is blank around cells.
func FuzzCSV(f *testing.F) {
	for _, s := range []string{"node,a\nn1,x\n", "node;a\r\n\"n;1\";\"x\"\"y\"\r\n", "\ufeffname\ta\nn1\t\"\"\n", "# x\nnode,a\n\n", "node,\"a\nb\"\n\"", "node,a\nn1,\xff\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		rows, problems := parseCSV(in)
		for _, e := range problems {
			if e.Line < 1 || e.Line > strings.Count(in, "\n")+strings.Count(in, "\r")+1 {
				t.Fatalf("line %d of %q", e.Line, in)
			}
		}
		if len(problems) > 0 || strings.ContainsAny(in, "\r#\"\ufeff ") || strings.ContainsRune(in, '\t') {
			return
		}
		r := csv.NewReader(strings.NewReader(in))
		r.Comma = rune(separatorOf(in))
		want, err := r.ReadAll()
		if err != nil {
			t.Fatalf("%q: taken, but not by encoding/csv: %v", in, err)
		}
		if len(rows) != max(0, len(want)-1) {
			t.Fatalf("%q: %d rows, want %d", in, len(rows), len(want)-1)
		}
	})
}

// FuzzRoundCSV: what is written as a cell is read back.
func FuzzRoundCSV(f *testing.F) {
	for _, s := range []string{"x", `""`, `a "b"`, " x ", "a,b;c\td", "l1\nl2", "#", "-"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, v string) {
		if v == "" || strings.Contains(v, "\r") || strings.ToValidUTF8(v, "") != v {
			return
		}
		rows, problems := parseCSV("node,a,b\nn1," + quoteCSV(v) + ",end\n")
		if len(problems) > 0 || len(rows) != 1 || len(rows[0].Set) != 2 || rows[0].Set[0].Value != v || rows[0].Set[1].Value != "end" {
			t.Errorf("%q: %v %v", v, rows, problems)
		}
	})
}

// FuzzYAML: never panics, and every row names something.
func FuzzYAML(f *testing.F) {
	for _, s := range []string{"n1: {a: 1}", "- {node: n1, a: [x, y]}", "a: &a [*a]", "? [x]\n: y", "n1: {<<: {}}", "---\n...\n", "\t", "!!binary x: y"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		rows, _ := parseYAML(in)
		for _, r := range rows {
			if r.Range == "" {
				t.Fatalf("%q: a row of no node", in)
			}
		}
	})
}

// FuzzRoundYAML: what is written as YAML is read back.
func FuzzRoundYAML(f *testing.F) {
	for _, s := range []string{"x", `""`, "null", "0755", "yes", "- a", "{n0}", "a: b", "l1\nl2", "#", "*x", "!y", "1e3", "<<", "=", "\u0085"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, v string) {
		if v == "" || strings.ToValidUTF8(v, "") != v {
			return
		}
		var b bytes.Buffer
		sh := sheet{key: "node", rows: []sheetRow{{"n1", []api.AttrValue{{Attr: "custom.a", Value: v}, {Attr: "groups", Value: "g,h"}}}}}
		if err := sh.yaml(&b); err != nil {
			t.Fatal(err)
		}
		rows, problems := parseYAML(b.String())
		want := []api.Assignment{{Attr: "custom.a", Value: v}, {Attr: "groups", Value: "g"}, {Attr: "groups", Op: "+=", Value: "h"}}
		if len(problems) > 0 || len(rows) != 1 || !cmp.Equal(rows[0].Set, want) {
			t.Errorf("%q:\n%s: %v %v", v, b.String(), rows, problems)
		}
	})
}

func TestFilesAreToldApart(t *testing.T) {
	for _, tt := range []struct {
		path, text string
		want       bool
	}{
		{"x.csv", "n1: {}", true},
		{"x.yml", "node,a", false},
		{"-", "node,a\n", true},
		{"-", "\ufeff# x\n\n\"Name\";a\n", true},
		{"-", "node\tbmc.address\n", true},
		{"-", "n1:\n  a: 1\n", false},
		{"-", "- node: n1\n", false},
		{"-", "node: n1\n", false},
		{"-", "", false},
	} {
		if got := isCSV(tt.path, tt.text); got != tt.want {
			t.Errorf("%s %q: %v", tt.path, tt.text, got)
		}
	}
}

func TestUTF16IsNamed(t *testing.T) {
	s := &session{in: strings.NewReader("\xff\xfen\x00"), out: io.Discard, err: io.Discard}
	var e *api.Error
	if _, err := s.rowsOf("-"); !errors.As(err, &e) || !strings.Contains(e.Error(), "UTF-16. Save it as UTF-8") {
		t.Error(err)
	}
}
