package noderange

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"maps"
	gopath "path"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// fake is a world made of lists.
type fake struct {
	names  *Names
	groups map[string][]string
	alias  map[string]string
	attrs  map[string]map[string]string // node → attribute → value
}

func newFake(names []string, groups map[string][]string) *fake {
	names = slices.Clone(names)
	slices.SortFunc(names, Natural)
	return &fake{names: NewNames(slices.Values(names), len(names)), groups: groups}
}

func (f *fake) Has(name string) bool { _, ok := f.names.Find(name); return ok }
func (f *fake) Names() *Names        { return f.names }

func (f *fake) Alias(name string) (string, bool) {
	n, ok := f.alias[name]
	return n, ok
}

func (f *fake) Groups() iter.Seq[string] { return maps.Keys(f.groups) }

func (f *fake) Aliases() iter.Seq[string] { return maps.Keys(f.alias) }

func (f *fake) Group(name string) (*Set, bool) {
	s := NewSet(f.names.Len())
	if name == "everything" {
		s.Fill()
		return s, true
	}
	members, ok := f.groups[name]
	for _, m := range members {
		if id, ok := f.names.Find(m); ok {
			s.Add(id)
		}
	}
	return s, ok
}

func (f *fake) Match(q Query, within *Set) (*Set, error) {
	if strings.HasPrefix(q.Attr, "secret") {
		return nil, errors.New("it is secret")
	}
	s := NewSet(f.names.Len())
	for id := range within.All() {
		values := []string{f.attrs[f.names.Name(id)][q.Attr]}
		if strings.ContainsAny(q.Attr, "*?") {
			for a, v := range f.attrs[f.names.Name(id)] {
				if ok, _ := gopath.Match(q.Attr, a); ok {
					values = append(values, v)
				}
			}
		}
		if q.Match(values...) {
			s.Add(id)
		}
	}
	return s, nil
}

// groupsOf are the groups that a node is in.
func (f *fake) groupsOf(node string) []string {
	var out []string
	for g, members := range f.groups {
		if slices.Contains(members, node) {
			out = append(out, g)
		}
	}
	return out
}

func numbered(format string, from, to int) []string {
	var out []string
	for i := from; i <= to; i++ {
		out = append(out, fmt.Sprintf(format, i))
	}
	return out
}

// xcat is the cluster of the comparison table in the documentation.
func xcat() *fake {
	g1 := numbered("node%d", 1, 130)
	var frames []string
	for f := 1; f <= 3; f++ {
		frames = append(frames, numbered(fmt.Sprintf("f%dn%%d", f), 1, 20)...)
	}
	m, n := numbered("m%05d", 1, 10000), numbered("n%04d", 1, 1000)
	odd := []string{"rack01unit34", "node-foo-1bar", "foo1bar2"}
	return newFake(slices.Concat(g1, frames, odd, m, n), map[string][]string{
		"g1": g1, "frames": frames, "m": m, "n": n, "compute": slices.Concat(g1, frames, m, n),
	})
}

// TestExpandAnswersAsXCAT is the table of answers that xCAT gives in that cluster, with what is answered otherwise on purpose.
func TestExpandAnswersAsXCAT(t *testing.T) {
	w := xcat()
	for _, c := range []struct {
		expr           string
		nodes, unknown int
		otherwise      string // what xCAT answers instead, and why that is not done here
	}{
		{expr: "node1-node10", nodes: 10},
		{expr: "node001-node010", unknown: 10},
		{expr: "node[01-10]", nodes: 1, unknown: 9}, // node10 only
		{expr: "node1:node10", nodes: 10},
		{expr: "f[1-2]n[1-3]", nodes: 6},
		{expr: "f1n1-f1n5", nodes: 5},
		{expr: "node10+3", nodes: 4},
		{expr: "node1-node10,-node3-node5,node4", nodes: 7}, // node4 stays out
		{expr: "-node17-node32,g1", nodes: 114},
		{expr: "(node1-node5,node9)@node3-node20", nodes: 4},
		{expr: "all,-(m,n,frames)", nodes: 133},
		{expr: "all,-/node.*", nodes: 11062},
		{expr: "g1@frames"},
		{expr: "all@m@compute,-m00001", nodes: 9999},
		{expr: "m@n,node1", nodes: 1},
		{expr: "node1-node3@node2-node5", nodes: 2},
		{expr: "node1,@node1", nodes: 1, otherwise: "the same, as nothing is before the @; here it is the node, as no group has that name"},
		{expr: "-node1"},
		{expr: "@g1", nodes: 130, otherwise: "0, as nothing is before the @; here, as for ClusterShell, an @ that begins a term names a group"},
		{expr: "node1-node5-node9", unknown: 1},
		{expr: "node[1-3][4-5]", nodes: 6}, // node14 … node35
		{expr: "/node1", nodes: 1},
		{expr: "/frame.*"},
	} {
		var skipped []Unknown
		got, err := Expand(w, c.expr, Options{Known: true, Skipped: func(u Unknown) { skipped = append(skipped, u) }})
		if err != nil || len(got) != c.nodes || len(skipped) != c.unknown {
			t.Errorf("%s: %d nodes, %d unknown, %v; want %d, %d (xCAT: %s)", c.expr, len(got), len(skipped), err, c.nodes, c.unknown, cmp.Or(c.otherwise, "the same"))
		}
		if !slices.IsSortedFunc(got, Natural) {
			t.Errorf("%s: not in natural order", c.expr)
		}
		_, err = Expand(w, c.expr, Options{})
		if (err != nil) != (c.unknown > 0) {
			t.Errorf("%s: error %v with %d unknown names", c.expr, err, c.unknown)
		}
	}
	for expr, want := range map[string]string{
		"node[01-10]":                     "node10",
		"node1-node10,-node3-node5,node4": "node[1-2,6-10]",
		"node[1-3][4-5]":                  "node[14-15,24-25,34-35]",
		"node10+3":                        "node[10-13]",
	} {
		if got, err := Expand(w, expr, Options{Known: true}); err != nil || Fold(got) != want {
			t.Errorf("%s is %s, %v; want %s", expr, Fold(got), err, want)
		}
	}
}

func TestExpand(t *testing.T) {
	w := newFake([]string{
		"n1", "n2", "n3", "n9", "n10", "n11", "n12", "n13", "n14", "a-b", "n1-n3", "r1u01", "r1u02", "r2u01", "r2u02",
		"x.cluster", "web", "p08", "p09", "p10", "p100", "10", "11",
	}, map[string][]string{
		"compute": {"n1", "n2", "n3"}, "rack1": {"r1u01", "r1u02"}, "rack2": {"r2u01", "r2u02"}, "web": {"n9"}, "p-q": {"n10"},
	})
	w.alias = map[string]string{"al7": "n9", "al8": "n10", "compute2": "n1"}
	w.attrs = map[string]map[string]string{
		"n1": {"custom.role": "db", "custom.note": "a,b"}, "n2": {"custom.role": "web"}, "n3": {"custom.role": "webcache"},
	}
	for expr, want := range map[string]string{
		"n2,n1,n2":                        "n1,n2",
		"n10,n9":                          "n9,n10",
		"n1-n3":                           "n1-n3", // an exact node wins
		"n2-n3":                           "n2,n3",
		"n2..n3":                          "n2,n3",
		"n[2..3]":                         "n2,n3",
		"n[1,3,9-11]":                     "n1,n3,n9,n10,n11",
		"n[9-14/2]":                       "n9,n11,n13",
		"n[9:14:2]":                       "n9,n11,n13",
		"n[9:11]":                         "n9,n10,n11",
		"p[08-10]":                        "p08,p09,p10",
		"p08-p10":                         "p08,p09,p10",
		"p08+2":                           "p08,p09,p10",
		"p[08,100]":                       "p08,p100",
		"r1u01-r2u02":                     "r1u01,r1u02,r2u01,r2u02",
		"r[1-2]u[01-02]":                  "r1u01,r1u02,r2u01,r2u02",
		"rack[1-2]":                       "r1u01,r1u02,r2u01,r2u02",
		"rack1-rack2":                     "r1u01,r1u02,r2u01,r2u02",
		"compute":                         "n1,n2,n3",
		"@compute":                        "n1,n2,n3",
		"@slurm:compute":                  "n1,n2,n3",
		"@*@compute":                      "n1,n2,n3",
		"web":                             "web",
		"@web":                            "n9",
		"p-q":                             "n10",
		"a-b":                             "a-b",
		"10-11":                           "10,11",
		"compute!n2":                      "n1,n3",
		"compute!n2,n2":                   "n1,n3", // an exclusion wins whatever the order
		"compute,-n2":                     "n1,n3",
		"compute&n[2-3]":                  "n2,n3",
		"compute@n[2-3]":                  "n2,n3",
		"compute^n[3,9]":                  "n1,n2,n9",
		"compute ^ ( n3 , n9 )":           "n1,n2,n9",
		"(n1,n2),-(n2)":                   "n1",
		"~n1[0-4]":                        "n10,n11,n12,n13,n14",
		"/n1[0-4]/":                       "n10,n11,n12,n13,n14",
		"/n1[0-4]/,n9":                    "n9,n10,n11,n12,n13,n14",
		"/n1{1,2}/,~n(2|3)":               "n1,n2,n3,n11",
		"~n1[^,@]@/.*2":                   "n12",
		"@compute,-~.*2":                  "n1,n3",
		"compute!~n[12]":                  "n3",
		"/^n[12]$/":                       "n1,n2",
		"~^n1|^n2^compute":                "n3",
		"n2-n2":                           "n2",
		"custom.role=web":                 "n2",
		"custom.role==web":                "n2",
		"compute@custom.role!=web":        "n1,n3",
		"custom.role=~web.*":              "n2,n3",
		"compute@custom.role!~web.*":      "n1",
		"compute@custom.role=":            "",
		`custom.note="a,b"`:               "n1",
		"n[9-14]>2<1":                     "n10,n11",
		"n[9-14]<4":                       "n13,n14",
		"n[9-14]<3>1":                     "n12",
		"compute>0":                       "",
		">2":                              "10,11",
		"(compute>2),n9":                  "n1,n2,n9",
		"n12@(everything>20)":             "n12",
		"all@x.cluster":                   "x.cluster",
		"everything,-all":                 "",
		"n9,compute@(n1,web),-(@web&web)": "n1,n9",
		// All other forms of the page, each once more.
		"n[1-3],n[1-3]":        "n1,n2,n3",
		"al7":                  "n9", // a node, else an alias, else a group
		"al[7-8]":              "n9,n10",
		"al7-al8":              "n9,n10",
		"al7+1":                "n9,n10",
		"@al7":                 "n9",
		"(al7)":                "n9",
		"n9,al7":               "n9",
		"web,@web":             "n9,web",
		"n9:n11":               "n9,n10,n11",
		"n9..n11":              "n9,n10,n11",
		"n9+2":                 "n9,n10,n11",
		"r1u01:r2u02":          "r1u01,r1u02,r2u01,r2u02",
		"r1u01..r2u01":         "r1u01,r2u01",
		"n1&n1":                "n1",
		"compute@n1@n2":        "",
		"compute@n[1-2]^n2":    "n1", // left to right
		"n1^compute@n[1-2]":    "n2",
		"-n2,compute":          "n1,n3",
		"compute,-n1,-n2":      "n3",
		"compute!n1!n2":        "n3",
		"compute,-(n1,n2),n1":  "n3",
		"everything>1":         "10",
		"everything<21>1":      "web",
		"~N1":                  "", // names compare case-sensitively
		"~(?i)N1":              "n1",
		"~n1|n2":               "n1,n2",
		"~^n1$":                "n1",
		"/n1":                  "n1", // the closing slash may be left out
		"custom.*=web":         "n2",
		"custom.r?le=db":       "n1",
		"compute@custom.*!=db": "n2,n3",
		"custom.role='db'":     "n1",
		"n1@custom.note!=":     "n1",
		"n2@custom.note=":      "n2", // unset is the empty string
	} {
		got, err := Expand(w, expr, Options{})
		if err != nil || strings.Join(got, ",") != want {
			t.Errorf("%s = %s, %v; want %s", expr, strings.Join(got, ","), err, want)
		}
	}
}

func TestExpandRefuses(t *testing.T) {
	w := newFake([]string{"n1", "n2", "Web1"}, map[string][]string{"rack1": {"n1"}})
	for expr, want := range map[string]string{
		"":                        `noderange, column 1: the noderange is empty. Write "everything" for all nodes`,
		"n1,rakc1":                "noderange, column 4: no node or group rakc1. Did you mean rack1?",
		"web1":                    "noderange, column 1: no node or group web1. Did you mean Web1?",
		"n1-n4":                   "noderange, column 1: 2 names are neither node nor group: n[3-4]. Did you mean n1 for n[3-4]?",
		"n10-n1":                  "noderange, column 1: the range 10-1 runs backwards: a range goes up. Write 1-10",
		"n[10-1]":                 "noderange, column 3: the range 10-1 runs backwards: a range goes up. Write 1-10",
		"n[1-]":                   "noderange, column 3: a number is missing: brackets hold numbers of at most 18 digits and ranges of them. Write [1-20], [1,3,5-9] or [1-20/2]",
		"n[1,x]":                  "noderange, column 5: no number x: brackets hold numbers of at most 18 digits and ranges of them. Write [1-20], [1,3,5-9] or [1-20/2]",
		"n[1-3/0]":                "noderange, column 3: the stride of [1-3/0] is no number above 0. Write [1-20/2] for every second one",
		"n[001-20]":               "noderange, column 3: 001 and 20 are padded differently: one has 3 digits, the other 2. Write both with the same number of digits",
		"n[1":                     "noderange, column 2: this [ is not closed. Close it with ]",
		"n1]":                     "noderange, column 3: this ] closes nothing. Take it away, or open it with [",
		"(n1":                     "noderange, column 1: this ( is not closed. Close it with )",
		"n1)":                     "noderange, column 3: this ) closes nothing. Take it away, or open it with (",
		"n1,,n2":                  "noderange, column 4: a name is missing. Write a node, a group or a range here",
		"n1,":                     "noderange, column 3: a name is missing. Write a node, a group or a range here",
		"n1 n2":                   "noderange, column 4: two terms stand side by side. Join them with a comma",
		"n1-n5:":                  "noderange, column 6: n1-n5: is no range: both ends are the same name with other numbers. Write n1:n20 or n[1:20]",
		"n+3":                     "noderange, column 2: n+3 is no range: before + stands a name with a number, after it how many further ones. Write n10+3 for n10 to n13",
		"n[1-2]+3":                `noderange, column 7: '+' does not go with brackets. Write the whole range in the brackets: n[1-20]`,
		"n[1-1000001]":            "noderange, column 1: n[1-1000001] is too much: it stands for more than 1000000 names. Narrow the range",
		"n[1-9999]m[1-999]":       "noderange, column 1: n[1-9999]m[1-999] is too much: it stands for more than 1000000 names. Narrow the range",
		"n[1-500000],m[0-500000]": "noderange, column 13: the expression is too much: it stands for more than 1000000 names. Narrow its ranges, or name a group",
		"~n(":                     "noderange, column 1: no regular expression n(: missing closing ): `^(?:n()$`. The syntax is that of RE2",
		"/":                       "noderange, column 1: the regular expression is empty. Write it after /",
		"n*":                      `noderange, column 2: names are not matched by * and ?. Write a regular expression: ~n.*`,
		"^/etc/hosts":             "noderange, column 1: ^/etc/hosts is not read here: only the command line reads files, never the service. Give the names, or use a muster command, which puts them in",
		"^n1":                     "noderange, column 1: ^ has nothing before it: a^b is what is in one of both only; ^/path names a file. Write both sides",
		"east%n1":                 "noderange, column 1: % names other sites: this service is one site by itself. Leave out what stands before the % and the % itself",
		"east,west%n1":            "noderange, column 1: % names other sites: this service is one site by itself. Leave out what stands before the % and the % itself",
		"all%all":                 "noderange, column 1: % names other sites: this service is one site by itself. Leave out what stands before the % and the % itself",
		"n1,(site-2%n[1-3])":      "noderange, column 5: % names other sites: this service is one site by itself. Leave out what stands before the % and the % itself",
		"n2,N1,RACK1":             "noderange, column 4: 2 names are neither node nor group: N1,RACK1. Did you mean n1 for N1, rack1 for RACK1?",
		"@":                       "noderange, column 1: @ without a group. Write @ and the name of a group",
		"n1>":                     "noderange, column 3: a page needs a count: after > comes a whole number. Write >10<20 for ten nodes after the first twenty",
		"n1>1>2":                  "noderange, column 5: a second >: a page has one limit and one start. Take one away",
		"n1,secret.x=1":           "noderange, column 4: the term about secret.x has no answer: it is secret",
		"n1!-n2":                  "noderange, column 4: taken away twice: ! and - both mean without. Write one of them",
		"n1^-n2":                  "noderange, column 4: a name does not begin with a dash: - takes away where a comma stands before it. Write a,-b for a without b",
		"custom.a=\"x":            "noderange, column 10: this quote is not closed. Close it with \"",
		"n1;n2":                   `noderange, column 3: ';' does not belong here. Quote the shell's special letters; muster help noderange shows all forms`,
	} {
		_, err := Expand(w, expr, Options{})
		if err == nil || err.Error() != want {
			t.Errorf("%s:\n got %v\nwant %s", expr, err, want)
		}
	}
}

func TestExpandTellsEveryUnknownName(t *testing.T) {
	w := newFake([]string{"n1", "n2"}, nil)
	_, err := Expand(w, "n[1-5],x7,n4", Options{})
	var e *Error
	if !errors.As(err, &e) {
		t.Fatal(err)
	}
	want := []Unknown{{"n3", "n1", 1}, {"n4", "n1", 1}, {"n5", "n1", 1}, {"x7", "", 8}}
	if !slices.Equal(e.Unknown, want) {
		t.Errorf("got %v, want %v", e.Unknown, want)
	}
}

func TestCaretPointsAtTheColumn(t *testing.T) {
	for expr, want := range map[string]string{
		"n1,rakc1":                            "  n1,rakc1\n     ^",
		"n1\t;":                               "  n1 ;\n     ^",
		strings.Repeat("n1,", 50) + "(n1":     "  …" + strings.Repeat("n1,", 50)[110:] + "(n1\n  " + strings.Repeat(" ", 41) + "^",
		"(" + strings.Repeat("n1,", 50)[:149]: "  (" + strings.Repeat("n1,", 50)[:29] + "…\n  ^",
	} {
		_, err := Parse(expr)
		if err == nil {
			_, err = Expand(newFake([]string{"n1"}, nil), expr, Options{})
		}
		var e *Error
		if !errors.As(err, &e) {
			t.Fatalf("%s: %v", expr, err)
		}
		if e.Caret(expr) != want {
			t.Errorf("%s (%v):\n%s\nwant\n%s", expr, err, e.Caret(expr), want)
		}
	}
	if got := (&Error{}).Caret("n1"); got != "" {
		t.Errorf("no column: %q", got)
	}
}

// TestExpandIsBounded gives expressions that would be too much work or memory for what they are long.
func TestExpandIsBounded(t *testing.T) {
	w := newFake(numbered("n%d", 1, 2000), map[string][]string{"g": {"n1"}})
	for what, expr := range map[string]string{
		"parentheses":         strings.Repeat("(", 1<<20),
		"closed ones":         strings.Repeat("(", 200) + "n1" + strings.Repeat(")", 200),
		"brackets":            "n" + strings.Repeat("[1-9]", 1000),
		"open brackets":       strings.Repeat("[", 1<<20),
		"a huge range":        "n[1-999999999999999999]",
		"many ranges":         strings.Repeat("n[1-100000],", 1000) + "n1",
		"long names":          strings.Repeat("a", 2000) + "[1-100000]",
		"regular expressions": strings.Repeat("~n.*x,", 100_000) + "n1",
		"a long one":          "~" + strings.Repeat("(a|b)", 400_000),
		"attribute terms":     strings.Repeat("custom.a=b,", 100_000) + "n1",
		"repetitions":         "~(((a{100}){100}){100}){100}",
		"a long text":         strings.Repeat("x", maxText+1),
		"a large number":      "n99999999999999999+999999999999999999",
	} {
		if _, err := Expand(w, expr, Options{}); err == nil {
			t.Errorf("%s were taken", what)
		}
	}
	for what, expr := range map[string]string{
		"groups":        strings.Repeat("g,", 200_000) + "g",
		"intersections": "g" + strings.Repeat("@g", 200_000),
		"pages":         strings.Repeat("(", 90) + "g" + strings.Repeat(">1)", 90),
	} {
		if got, err := Expand(w, expr, Options{}); err != nil || len(got) != 1 {
			t.Errorf("%s: %d nodes, %v", what, len(got), err)
		}
	}
	_, err := Expand(w, "x[1-1000000]", Options{})
	var e *Error
	if !errors.As(err, &e) || len(e.Unknown) != maxUnknown || !strings.HasPrefix(e.What, "1000000 names") {
		t.Errorf("a million unknown names: %d told, %.100v", len(e.Unknown), err)
	}
}

func TestRegexpAgreesWithTheLibrary(t *testing.T) {
	texts := []string{"", "n", "n1", "n10", "n17", "rack1-u07", "rack2-u17", "N1", "nn", "n1\n", "nü7", "n\xff7", "ab", "abab", "n1n1", "x.y", "xzy"}
	simple := 0
	for _, s := range []string{
		"n.*", ".*7", "n.*7", "n1", "n[0-9]+", `n\d+`, "rack[12]-.*7", "n.+", ".*", ".", "..", "n.?", "(ab)*", "(?i)n1", "a|n1", "n1[07]?", "[^n].*", "n.*1.*", "(n)(1)", "^n1$", "^n.*", "n$", "",
		"(?s).*", "[^a]*", `x\.y`, "x.y", "[[:alpha:]]+", `\pL\d`, "n1{2}", "n$1", "(?:n|r).*", "[ü-ÿ]*", "nü.*",
	} {
		re, err := compile(s)
		if err != nil {
			t.Fatal(err)
		}
		if re.simple {
			simple++
		}
		for _, x := range texts {
			if got, want := re.MatchString(x), re.Regexp.MatchString(x); got != want {
				t.Errorf("%s of %q: %v, want %v", s, x, got, want)
			}
		}
	}
	if simple < 15 {
		t.Errorf("only %d are matched byte by byte", simple)
	}
}

// TestExpandOfManyNames is about lists that a program wrote, or ^/file: each name is looked at once.
func TestExpandOfManyNames(t *testing.T) {
	names := numbered("n%06d", 1, 100_000)
	w := newFake(names, nil)
	start := time.Now()
	got, err := Expand(w, strings.Join(names, ","), Options{})
	if err != nil || !slices.Equal(got, names) {
		t.Errorf("%d names, %v", len(got), err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestExpandNames(t *testing.T) {
	for expr, want := range map[string]string{
		"n[1-3]":                  "n1,n2,n3",
		"n[8-10],n[08-10]":        "n8,n08,n9,n09,n10",
		"n1-n3,a-b,-n2":           "a-b,n1,n3",
		"r[1-2]u[1-2]":            "r1u1,r1u2,r2u1,r2u2",
		"n[1-9]@n[3-4]":           "n3,n4",
		"n[1-3]^n[3-4]":           "n1,n2,n4",
		"n[1-9]>2<1":              "n2,n3",
		"n1-n[5]":                 "n1-n5",
		"rack7,all":               "all,rack7",
		"n[1-3]x[4-5][6-7]!n2x46": "n1x46,n1x47,n1x56,n1x57,n2x47,n2x56,n2x57,n3x46,n3x47,n3x56,n3x57",
	} {
		got, err := ExpandNames(expr)
		if err != nil || strings.Join(got, ",") != want {
			t.Errorf("%s = %s, %v; want %s", expr, strings.Join(got, ","), err, want)
		}
	}
	for _, expr := range []string{"@a", "~n.*", "custom.a=1", "", ">3", "n3-n1"} {
		if got, err := ExpandNames(expr); err == nil {
			t.Errorf("%q = %v, want an error", expr, got)
		}
	}
}

// What it is short for: Expand, else ExpandNames, else the error of Expand.
func TestExpandAny_is_Expand_where_all_of_it_exists_and_ExpandNames_otherwise(t *testing.T) {
	w := newFake(append(numbered("n%d", 1, 9), "r1n1", "x"), map[string][]string{"rack1": {"n1", "n2"}, "rack2": {"x"}, "void": nil})
	for _, expr := range []string{
		"n[1-3]", "n[1-30]", "rack[1-2]", "rack[1-3]", "rack1,n30", "n3-n12,-n[1-9]", "r[1-2]n[1-2]", "void", "@rack1", "@rack9",
		"~n.*", "~n.*,m1", "n[1-9]>2<1", "n[10-20]>2<1", "n[", "n3-n1", "", "n[1-2]x[3-4],q[1-2][5-6]",
	} {
		want, refused := Expand(w, expr, Options{})
		if refused != nil {
			if names, err := ExpandNames(expr); err == nil {
				want, refused = names, nil
			}
		}
		got, err := ExpandAny(w, expr)
		if !slices.Equal(got, want) || !reflect.DeepEqual(err, refused) {
			t.Errorf("%q = %v, %v; want %v, %v", expr, got, err, want, refused)
		}
	}
}

func TestFilesAreReadByTheClient(t *testing.T) {
	read := func(path string) (string, error) {
		switch path {
		case "/etc/nodes":
			return "n1 n2 # two\n\nn[5-6,8],\n", nil
		case "/empty":
			return "# nothing\n", nil
		case "/bad":
			return "n[1", nil
		}
		return "", errors.New("no such file")
	}
	for expr, want := range map[string]string{
		"n1-n3":                     "n1-n3",
		"^/etc/nodes":               "(n1,n2,n[5-6,8])",
		"all,-^/etc/nodes@n[1-9],x": "all,-(n1,n2,n[5-6,8])@n[1-9],x",
		"n1^(^/etc/nodes)":          "n1^((n1,n2,n[5-6,8]))",
		"^/none":                    "noderange, column 1: ^/none cannot be read: no such file",
		"n1,^/empty":                "noderange, column 4: ^/empty holds no names. Write one name on each line",
		"^/bad":                     "noderange, column 1: ^/bad holds no noderange: noderange, column 2: this [ is not closed. Close it with ]. Mend the file",
	} {
		got, err := Files(expr, read)
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: got %s, want %s", expr, got, want)
		}
	}
}

// member is a node that dynamic groups ask about.
type member struct {
	name   string
	groups []string
	w      *fake
}

func (m member) Name() string                     { return m.name }
func (m member) Has(name string) bool             { return m.w.Has(name) }
func (m member) Alias(name string) (string, bool) { return m.w.Alias(name) }
func (m member) Groups() []string                 { return m.groups }

func (m member) HasGroup(name string) bool {
	_, ok := m.w.groups[name]
	return ok
}

func (m member) Aliases() []string {
	var out []string
	for a, n := range m.w.alias {
		if n == m.name {
			out = append(out, a)
		}
	}
	return out
}

func (m member) Match(q Query) (bool, error) { return q.Match(m.w.attrs[m.name][q.Attr]), nil }

func TestNatural(t *testing.T) {
	sorted := []string{"", "0", "00", "1", "2", "10", "a", "a-1", "a1", "a01", "a1b", "a2", "a10", "a10b2", "a10b10", "b", "n99999999999999999998", "n99999999999999999999"}
	for i, a := range sorted {
		for j, b := range sorted {
			if got, want := Natural(a, b), sign(i-j); got != want {
				t.Errorf("Natural(%q, %q) = %d, want %d", a, b, got, want)
			}
		}
	}
}

func TestNearest(t *testing.T) {
	among := slices.Values([]string{"rack1", "rack2", "compute", "Storage7"})
	for name, want := range map[string]string{"rakc1": "rack1", "storage7": "Storage7", "comptue": "compute", "comput": "compute", "xyz": "", "": ""} {
		if got := Nearest(name, among); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", name, got, want)
		}
	}
}

func TestQueryMatch(t *testing.T) {
	re, err := compile("a.*")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		q      Query
		values []string
		want   bool
	}{
		{Query{Value: "a"}, []string{"b", "a"}, true},
		{Query{Value: "a", Negate: true}, []string{"b", "a"}, false},
		{Query{Value: ""}, nil, false},
		{Query{Regexp: re}, []string{"abc"}, true},
		{Query{Regexp: re, Negate: true}, []string{"b"}, true},
	} {
		if got := c.q.Match(c.values...); got != c.want {
			t.Errorf("%v %v: %v", c.q, c.values, got)
		}
	}
}
