package model

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"muster/internal/model/noderange"
	"pgregory.net/rapid"
)

// reference evaluates noderanges in the slow and obvious way, written from the page about the language: text is cut at its
// operators, sets are maps, every node is asked.
type reference struct {
	nodes  []*Node // in natural order
	groups map[string]*Group
}

type nameSet map[string]bool

// lost says that the expression names what does not exist.
type lost struct{ names nameSet }

// eval returns the names of an expression; still leaves dynamic groups out.
func (r *reference) eval(s string, still bool, l lost) nameSet {
	s = strings.TrimSpace(s)
	body, pages := cutTop(s, "<>")
	out := r.list(body, still, l)
	if pages == "" {
		return out
	}
	limit, skip := len(out), 0
	for _, m := range regexp.MustCompile(`([<>])(\d+)`).FindAllStringSubmatch(pages, -1) {
		n, _ := strconv.Atoi(m[2])
		if m[1] == ">" {
			limit = n
		} else {
			skip = n
		}
	}
	names := slices.SortedFunc(maps.Keys(out), Natural)
	names = names[min(skip, len(names)):]
	out = nameSet{}
	for _, n := range names[:min(limit, len(names))] {
		out[n] = true
	}
	return out
}

// cutTop cuts at the first of the letters outside of brackets and parentheses.
func cutTop(s, at string) (string, string) {
	depth := 0
	for i := range len(s) {
		switch s[i] {
		case '(', '[':
			depth++
		case ')', ']':
			depth--
		}
		if s[i] == '!' && i+1 < len(s) && (s[i+1] == '=' || s[i+1] == '~' && strings.Contains(s[:i], ".")) {
			continue // != and !~ of an attribute
		}
		if i > 0 && depth == 0 && strings.IndexByte(at, s[i]) >= 0 {
			return s[:i], s[i:]
		}
	}
	return s, ""
}

func (r *reference) list(s string, still bool, l lost) nameSet {
	in, out := nameSet{}, nameSet{}
	for sign := ","; s != ""; {
		var item string
		item, s = cutTop(s, ",!")
		into := in
		if sign == "!" || strings.HasPrefix(item, "-") {
			into = out
		}
		maps.Copy(into, r.chain(strings.TrimPrefix(item, "-"), still, l))
		if s != "" {
			sign, s = s[:1], s[1:]
		}
	}
	for n := range out {
		delete(in, n)
	}
	return in
}

func (r *reference) chain(s string, still bool, l lost) nameSet {
	first, s := cutTop(s, "@&^")
	left := r.term(first, still, l)
	for s != "" {
		sign := s[0]
		var next string
		next, s = cutTop(s[1:], "@&^")
		right := r.term(next, still, l)
		both := nameSet{}
		for _, n := range r.nodes {
			a, b := left[string(n.Name)], right[string(n.Name)]
			if sign == '^' && a != b || sign != '^' && a && b {
				both[string(n.Name)] = true
			}
		}
		left = both
	}
	return left
}

func (r *reference) where(keep func(*Node) bool) nameSet {
	out := nameSet{}
	for _, n := range r.nodes {
		if keep(n) {
			out[string(n.Name)] = true
		}
	}
	return out
}

var attributeTerm = regexp.MustCompile(`^([a-z0-9.*]+)(=~|!~|!=|==|=)(.*)$`)

func (r *reference) term(s string, still bool, l lost) nameSet {
	switch {
	case strings.HasPrefix(s, "("):
		return r.eval(s[1:len(s)-1], still, l)
	case s[0] == '~' || s[0] == '/':
		re := regexp.MustCompile("^(?:" + strings.TrimSuffix(s[1:], "/") + ")$")
		return r.where(func(n *Node) bool { return re.MatchString(string(n.Name)) })
	case s[0] == '@':
		name := s[strings.IndexByte(s, ':')+1:]
		name = strings.TrimPrefix(name, "@")
		if g, ok := r.group(name, still); ok {
			return g
		}
		return r.one(name, still, l)
	}
	if m := attributeTerm.FindStringSubmatch(s); m != nil {
		re := regexp.MustCompile("^(?:" + m[3] + ")$")
		if !strings.HasSuffix(m[2], "~") {
			re = regexp.MustCompile("^" + regexp.QuoteMeta(m[3]) + "$")
		}
		return r.where(func(n *Node) bool {
			match := false
			for _, v := range r.values(n, m[1], still) {
				match = match || re.MatchString(v)
			}
			return match != (m[2][0] == '!')
		})
	}
	if len(r.one(s, still, lost{nameSet{}})) > 0 || r.isGroup(s) {
		return r.one(s, still, l)
	}
	out := nameSet{}
	for _, name := range spread(s) {
		maps.Copy(out, r.one(name, still, l))
	}
	return out
}

// one is a node, else an alias, else a group.
func (r *reference) one(name string, still bool, l lost) nameSet {
	for _, n := range r.nodes {
		if string(n.Name) == name {
			return nameSet{name: true}
		}
	}
	for _, n := range r.nodes {
		if slices.Contains(n.Aliases, NodeName(name)) {
			return nameSet{string(n.Name): true}
		}
	}
	g, ok := r.group(name, still)
	if !ok {
		l.names[name] = true
	}
	return g
}

func (r *reference) isGroup(name string) bool {
	_, ok := r.groups[name]
	return ok || name == "everything" || name == "all"
}

func (r *reference) group(name string, still bool) (nameSet, bool) {
	if !r.isGroup(name) {
		return nil, false
	}
	if name == "everything" || name == "all" {
		return r.where(func(*Node) bool { return true }), true
	}
	members := r.where(func(n *Node) bool { return slices.Contains(n.Groups, GroupName(name)) })
	if g := r.groups[name]; g.Range != "" && !still {
		maps.Copy(members, r.eval(g.Range, true, lost{nameSet{}}))
	}
	return members, true
}

// values are those of an attribute, or of all that a glob matches.
func (r *reference) values(n *Node, attr string, still bool) []string {
	if !strings.Contains(attr, "*") {
		return []string{r.value(n, AttrName(attr), still)}
	}
	re := regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(attr), `\*`, ".*") + "$")
	var out []string
	for _, a := range []AttrName{"location.rack", "location.room", "custom.a"} {
		if v, ok := r.find(n, a, still); re.MatchString(string(a)) && ok {
			out = append(out, v)
		}
	}
	if out == nil {
		out = []string{""}
	}
	return out
}

func (r *reference) value(n *Node, a AttrName, still bool) string {
	v, _ := r.find(n, a, still)
	return v
}

// find follows the line: own value, groups as listed, dynamic groups in natural order, everything.
func (r *reference) find(n *Node, a AttrName, still bool) (string, bool) {
	if v, ok := n.Attrs[a]; ok {
		return v, true
	}
	line := slices.Clone(n.Groups)
	if !still {
		for _, name := range slices.SortedFunc(maps.Keys(r.groups), Natural) {
			if g := r.groups[name]; g.Range != "" && r.eval(g.Range, true, lost{nameSet{}})[string(n.Name)] {
				line = append(line, g.Name)
			}
		}
	}
	for _, g := range append(line, Everything) {
		if x := r.groups[string(g)]; x != nil {
			if v, ok := x.Attrs[a]; ok {
				return v, true
			}
		}
	}
	return "", false
}

var (
	bracket  = regexp.MustCompile(`^(.*?)\[([^\]]*)\](.*)$`)
	further  = regexp.MustCompile(`^(.*?)(\d+)(\D*)\+(\d+)$`)
	numbers  = regexp.MustCompile(`\d+`)
	stretch  = regexp.MustCompile(`^(\d+)(?:(?:-|:|\.\.)(\d+)(?:[/:](\d+))?)?$`)
	betweens = regexp.MustCompile(`-|:|\.\.`)
)

// spread is the names that a range stands for; a word that is none stands for itself.
func spread(s string) []string {
	if m := bracket.FindStringSubmatch(s); m != nil {
		var out []string
		for _, part := range strings.Split(m[2], ",") {
			x := stretch.FindStringSubmatch(part)
			for _, n := range count(x[1], x[2], x[3]) {
				out = append(out, spread(m[1]+n+m[3])...)
			}
		}
		return out
	}
	if m := further.FindStringSubmatch(s); m != nil {
		from, _ := strconv.Atoi(m[2])
		more, _ := strconv.Atoi(m[4])
		var out []string
		for _, n := range count(m[2], fmt.Sprintf("%0*d", len(m[2]), from+more), "") {
			out = append(out, m[1]+n+m[3])
		}
		return out
	}
	for _, at := range betweens.FindAllStringIndex(s, -1) {
		a, b := s[:at[0]], s[at[1]:]
		if a == "" || numbers.ReplaceAllString(a, "#") != numbers.ReplaceAllString(b, "#") || !strings.ContainsAny(a, "0123456789") {
			continue
		}
		out := []string{""}
		texts, low, high := numbers.Split(a, -1), numbers.FindAllString(a, -1), numbers.FindAllString(b, -1)
		for i, text := range texts {
			var longer []string
			for _, head := range out {
				if i == len(low) {
					longer = append(longer, head+text)
					continue
				}
				for _, n := range count(low[i], high[i], "") {
					longer = append(longer, head+text+n)
				}
			}
			out = longer
		}
		return out
	}
	return []string{s}
}

// count is the numbers from one to another, padded as the first one is.
func count(from, to, step string) []string {
	a, _ := strconv.Atoi(from)
	b, by := a, 1
	if to != "" {
		b, _ = strconv.Atoi(to)
	}
	if step != "" {
		by, _ = strconv.Atoi(step)
	}
	width := 0
	if from[0] == '0' {
		width = len(from)
	}
	var out []string
	for n := a; n <= b; n += by {
		out = append(out, fmt.Sprintf("%0*d", width, n))
	}
	return out
}

// anyWorld is a random world, as the model and as the reference see it.
func anyWorld(t *rapid.T) (*Snapshot, *reference) {
	names := []string{"n1", "n2", "n3", "n4", "n5", "n9", "n10", "n11", "r1u01", "r1u02", "r2u01", "r2u02", "r3u09", "r3u10", "a-b", "n1-n3", "g2", "x"}
	r := &reference{groups: map[string]*Group{}}
	var ops []Op
	attrs := func(label string) []string {
		var out []string
		for _, a := range []string{"location.rack", "location.room", "custom.a"} {
			if rapid.IntRange(0, 2).Draw(t, label+" has "+a) == 0 {
				out = append(out, a+"="+rapid.SampledFrom([]string{"", "r1", "r2", "web"}).Draw(t, "value"))
			}
		}
		return out
	}
	addGroup := func(name, rng string) {
		op := group(name, rng, attrs(name)...)
		r.groups[name] = op.Doc.(*Group)
		ops = append(ops, op)
	}
	for _, g := range []string{"g1", "g2", "rack1", "rack2", "everything", "p-q"} {
		addGroup(g, "")
	}
	for i, g := range []string{"d1", "d2"} {
		if rapid.Bool().Draw(t, "dynamic "+g) {
			addGroup(g, anyExpr(t, i+1, false))
		}
	}
	for i, name := range names {
		if rapid.IntRange(0, 4).Draw(t, name) == 0 {
			continue
		}
		var groups []GroupName
		for _, g := range []GroupName{"rack1", "g1", "g2", "p-q", "d1"} {
			if r.groups[string(g)] != nil && rapid.IntRange(0, 2).Draw(t, name+" in "+string(g)) == 0 {
				groups = append(groups, g)
			}
		}
		op := node(name, groups, attrs(name)...)
		n := op.Doc.(*Node)
		if rapid.IntRange(0, 3).Draw(t, "alias") == 0 {
			n.Aliases = []NodeName{NodeName(fmt.Sprintf("al%d", i))}
		}
		r.nodes = append(r.nodes, n)
		ops = append(ops, op)
	}
	slices.SortFunc(r.nodes, func(a, b *Node) int { return Natural(string(a.Name), string(b.Name)) })
	return applied(t, Empty(), ops...), r
}

// anyExpr is a random expression; a range of a group has no pages and no dynamic groups.
func anyExpr(t *rapid.T, depth int, free bool) string {
	if depth > 0 && rapid.IntRange(0, 3).Draw(t, "join") > 0 {
		a, b := anyExpr(t, depth-1, free), anyExpr(t, depth-1, free)
		switch rapid.IntRange(0, 8).Draw(t, "operator") {
		case 0, 1:
			return a + "," + b
		case 2:
			return a + ",-(" + b + ")"
		case 3:
			return "(" + a + ")!(" + b + ")"
		case 4:
			return "(" + a + ")@(" + b + ")"
		case 5:
			return "(" + a + ")&(" + b + ")^(" + anyExpr(t, depth-1, free) + ")"
		case 6:
			return "-(" + a + ")," + b
		case 7:
			if free {
				return fmt.Sprintf("(%s>%d<%d)", a, rapid.IntRange(0, 9).Draw(t, "limit"), rapid.IntRange(0, 9).Draw(t, "skip"))
			}
		}
		return "(" + a + "),(" + b + ")"
	}
	words := []string{
		"n1", "n2", "n10", "n1-n3", "n[1-5]", "n[1,3,9-11]", "n[1-11/2]", "n[1:9:2]", "n1:n4", "n9..n11", "n[2..4]", "n9+2", "r1u01-r2u02", "r[1-2]u[01-02]", "r3u[09-10]", "r3u09+1",
		"a-b", "g1", "g2", "@g2", "@x:g1", "@g1", "rack1", "rack[1-2]", "rack1-rack2", "p-q", "everything", "all", "al3", "al[1-4]", "@al3", "x", "n2-n2",
		"~n1.*", "/n[1-3]/", "~r.u0[12]", "~.*", "/.*1|x", "~n[0-9]+", "~[^n].*",
		"location.rack=r1", "location.rack=", "location.rack!=r2", "location.rack==web", "location.room=~r[12]", "custom.a!~w.*", "location.*=r1", "location.*!=r1", "custom.a=",
	}
	if free {
		words = append(words, "d1", "@d2", "d[1-2]")
	}
	return rapid.SampledFrom(words).Draw(t, "word")
}

func TestExpandAgreesWithTheReference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, r := anyWorld(t)
		for range 4 {
			expr := anyExpr(t, 3, true)
			l := lost{nameSet{}}
			names := slices.SortedFunc(maps.Keys(r.eval(expr, false, l)), Natural)
			want := make([]NodeName, len(names))
			for i, n := range names {
				want[i] = NodeName(n)
			}
			missing := nameSet{}
			got, err := s.Expand(expr, noderange.Options{Known: true, Skipped: func(u noderange.Unknown) { missing[u.Name] = true }})
			if err != nil || !slices.Equal(got, want) {
				t.Fatalf("%s\n got %v, %v\nwant %v", expr, got, err, want)
			}
			if !maps.Equal(missing, l.names) {
				t.Fatalf("%s\nunknown %v\n   want %v", expr, missing, l.names)
			}
			var refused *noderange.Error
			if _, err = s.Expand(expr, noderange.Options{}); (err != nil) != (len(l.names) > 0) || err != nil && (!errors.As(err, &refused) || len(refused.Unknown) != len(l.names)) {
				t.Fatalf("%s: %v, with %v unknown", expr, err, l.names)
			}
		}
	})
}

func TestAbbreviateOfASnapshotIsTheSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, _ := anyWorld(t)
		names, err := noderange.Expand(s.World(), anyExpr(t, 3, true), noderange.Options{Known: true})
		if err != nil || len(names) == 0 {
			return
		}
		text := noderange.Abbreviate(s.World(), names)
		if got, err := noderange.Expand(s.World(), text, noderange.Options{}); err != nil || !slices.Equal(got, names) {
			t.Fatalf("%v is abbreviated to %s, which is %v, %v", names, text, got, err)
		}
	})
}

func TestSetLawsOfASnapshot(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, _ := anyWorld(t)
		a, b, c := "("+anyExpr(t, 1, true)+")", "("+anyExpr(t, 1, true)+")", "("+anyExpr(t, 1, true)+")"
		for _, law := range [][2]string{
			{a + "," + b, b + "," + a},
			{a + "@" + b, b + "@" + a},
			{a + "^" + b, b + "^" + a},
			{a + "," + a, a},
			{a + "@" + a, a},
			{a + "@" + b + "@" + c, a + "@(" + b + "@" + c + ")"},
			{a + "@(" + b + "," + c + ")", "(" + a + "@" + b + "),(" + a + "@" + c + ")"},
			{a + ",(" + b + "@" + c + ")", "(" + a + "," + b + ")@(" + a + "," + c + ")"},
			{a + ",-" + b, a + "!" + b},
			{a + ",-" + b, a + "@(everything,-" + b + ")"},
			{"everything,-(" + a + "," + b + ")", "(all,-" + a + ")@(all,-" + b + ")"},
			{"everything,-(" + a + "@" + b + ")", "(all,-" + a + "),(all,-" + b + ")"},
			{"all,-(all,-" + a + ")", a},
			{a + "^" + b, "(" + a + "," + b + ")!(" + a + "@" + b + ")"},
		} {
			x, errX := s.Expand(law[0], noderange.Options{Known: true})
			y, errY := s.Expand(law[1], noderange.Options{Known: true})
			if errX != nil || errY != nil || !slices.Equal(x, y) {
				t.Fatalf("%s is %v, %v, but %s is %v, %v", law[0], x, errX, law[1], y, errY)
			}
		}
	})
}
