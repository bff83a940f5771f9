package model

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestCheckTellsAllProblemsAtOnce(t *testing.T) {
	s := apply(t, Empty(),
		group("compute", "", "net.boot.prefix=16"),
		group("everything", ""),
		group("racks", "", "location.unit={n2}"),
		group("base", "", "custom.base=10.0.0.0"),
		group("dyn", "n1"),
		node("n1", []GroupName{"compute"}, "net.boot.mac=52:54:00:00:00:01", "net.boot.address=10.0.0.1"),
		node("n5", []GroupName{"base"}, "net.boot.address={custom.base+n1}"),
		Op{KindImage, "debian12", &Image{Name: "debian12"}},
	)
	long := strings.Repeat("a", 254)
	for _, c := range []struct {
		name string
		ops  []Op
		want []string
	}{
		{"good", []Op{node("n2", []GroupName{"compute"}, "bmc.address=10.0.1.{n1}", "bmc.password=sealed:v1:{x", "custom.x.y=1", "image.kernelargs=quiet {nodename}")}, nil},
		{"names", []Op{node("a_b", nil), node("-a", nil), node("a..b", nil), node(long, nil), node("", nil), node("all", nil), group("all", ""), group("x y", ""), node("é", nil)}, []string{
			`a_b: a_b cannot be a name: it holds '_'. Use letters, digits, dashes and dots (RFC 1123)`,
			`-a: -a cannot be a name: the part -a begins or ends with a dash. Use letters, digits, dashes and dots (RFC 1123)`,
			`a..b: a..b cannot be a name: a part between dots is empty. Use letters, digits, dashes and dots (RFC 1123)`,
			long + ": " + long[:80] + `… cannot be a name: it has 254 octets, of at most 253. Use letters, digits, dashes and dots (RFC 1123)`,
			`"" cannot be a name: it is empty. Use letters, digits, dashes and dots (RFC 1123)`,
			`all: all cannot be the name of a node: it stands for all nodes. Choose another name`,
			`group all: all cannot be the name of a group: it stands for all nodes. Choose another name, or use everything`,
			`group x y: "x y" cannot be a name: it holds ' '. Use letters, digits, dashes and dots (RFC 1123)`,
			`é: é cannot be a name: it holds 'é'. Use letters, digits, dashes and dots (RFC 1123)`,
		}},
		{"attributes and values", []Op{node("n2", nil, "bcm.address=1", "bmc.address=10.0.0.300", "bmc.cipher=5", "bmc.port=0", "console.record=maybe", "net.boot.mac=52:54:00", "net.boot.dns=10.0.0.1,x", "net.x.y.mac=1", "custom.=1", "boot.count=many")}, []string{
			"n2: no attribute bcm.address. Did you mean bmc.address?",
			"n2: bmc.address: 10.0.0.300 is wrong: no IP address. Write 10.77.1.1 or fd00::1",
			"n2: bmc.cipher: 5 is wrong: not one of 3, 17",
			"n2: bmc.port: 0 is wrong: not between 1 and 65535",
			"n2: boot.count: many is wrong: no whole number",
			"n2: console.record: maybe is wrong: neither true nor false",
			"n2: no attribute custom.. muster attributes lists all; your own are named custom.…",
			"n2: net.boot.dns: x is wrong: no IP address. Write 10.77.1.1 or fd00::1",
			"n2: net.boot.mac: 52:54:00 is wrong: no MAC address. Write six octets: 52:54:00:77:00:01",
			"n2: no attribute net.x.y.mac. muster attributes lists all; your own are named custom.…",
		}},
		{"expressions by node", []Op{node("n300", nil, "bmc.address=10.0.0.{n1}", "bmc.user={n2}", "custom.a={custom.b}", "custom.b={custom.a}", "custom.c={n1")}, []string{
			"n300: custom.c: expression {n1, column 1: this { is not closed. Close it with }, or write {{ for a brace",
			"n300: bmc.address: 10.0.0.300 is wrong (from 10.0.0.{n1}): no IP address. Write 10.77.1.1 or fd00::1",
			"n300: bmc.user: {n2} has no value: the name n300 has 1 numbers, n2 is not there",
			"n300: custom.a: {custom.b} has no value: custom.b: {custom.a} has no value: custom.a: the expressions go in a circle: custom.a uses custom.b uses custom.a. Give one of them a value of its own",
			"n300: custom.b: {custom.a} has no value: custom.a: {custom.b} has no value: custom.b: the expressions go in a circle: custom.b uses custom.a uses custom.b. Give one of them a value of its own",
		}},
		{"inherited expression", []Op{node("n2", []GroupName{"racks"})}, []string{
			"n2: location.unit: {n2} has no value: the name n2 has 1 numbers, n2 is not there",
		}},
		{"groups", []Op{node("n2", []GroupName{"comptue", "compute", "compute", "everything"})}, []string{
			"n2: no group comptue. Did you mean compute? A new one is made by: muster group add comptue",
			"n2: it lists the group compute twice. Leave one out",
			"n2: it lists the group everything: every node is a member by itself. Leave it out",
		}},
		{"a group of the same change", []Op{node("n2", []GroupName{"new"}), group("new", "")}, nil},
		{"taken ports", []Op{node("n2", nil, "net.eth0.mac=52-54-00-00-00-01", "net.eth0.address=10.0.0.1"), node("n3", nil, "net.boot.mac=525400000009"), node("n4", nil, "net.boot.mac=5254.0000.0009")}, []string{
			"n2: net.eth0.mac: MAC 52:54:00:00:00:01 is taken: node n1 has it. Give one of them another",
			"n2: net.eth0.address: address 10.0.0.1 is taken: node n1 has it. Give one of them another",
			"n4: net.boot.mac: MAC 52:54:00:00:00:09 is taken: node n3 has it. Give one of them another",
		}},
		{"ports that change hands", []Op{node("n1", nil), node("n2", nil, "net.boot.mac=52:54:00:00:00:01")}, nil},
		{"a group gives all members one address", []Op{node("n2", []GroupName{"compute"}), group("compute", "", "net.eth1.address=10.9.9.9")}, []string{
			"n2: net.eth1.address: address 10.9.9.9 is taken: node n1 has it. Give one of them another",
		}},
		{"a group's expression is wrong for a member", []Op{group("compute", "", "bmc.address=10.0.{n1+255}.1")}, []string{
			"n1: bmc.address: 10.0.256.1 is wrong (from 10.0.{n1+255}.1): no IP address. Write 10.77.1.1 or fd00::1",
		}},
		{"a member's expression uses the group's value", []Op{group("base", "", "custom.base=soon")}, []string{
			"n5: net.boot.address: {custom.base+n1} has no value: + needs a number, and soon is none",
		}},
		{"a member's expression takes an address", []Op{group("base", "", "custom.base=9.255.255.252")}, []string{
			"n5: net.boot.address: address 10.0.0.1 is taken: node n1 has it. Give one of them another",
		}},
		{"a group that goes", []Op{{Kind: KindGroup, Name: "compute"}}, []string{
			"group compute: 1 nodes still list it: n1. Take them out of it first",
		}},
		{"a circle in a group without members", []Op{
			group("new", "", "custom.a={custom.b}", "custom.b=x{custom.c}", "custom.c={custom.a}", "custom.d={custom.a}", "custom.e={custom.f}", "custom.f=1", "custom.g={custom.g}"),
			group("nobody", "~none", "net.boot.gateway={net.boot.gateway}", "net.boot.network={net.boot.domain}"),
		}, []string{
			"group new: custom.a: the expressions go in a circle: custom.a uses custom.b uses custom.c uses custom.a. Give one of them a value of its own",
			"group new: custom.g: the expressions go in a circle: custom.g uses custom.g. Give one of them a value of its own",
			"group nobody: net.boot.gateway: the expressions go in a circle: net.boot.gateway uses net.boot.gateway. Give one of them a value of its own",
			"group nobody: net.boot.network: the expressions go in a circle: net.boot.network uses net.boot.domain uses net.boot.network. Give one of them a value of its own",
		}},
		{"a circle with what everything gives", []Op{group("new", "", "custom.a={custom.b}"), group("everything", "", "custom.b={custom.a}"), node("n1", nil, "custom.a=x")}, []string{
			"group new: custom.a: the expressions go in a circle: custom.a uses custom.b uses custom.a. Give one of them a value of its own",
			"n5: custom.b: {custom.a} has no value: custom.a is not set",
		}},
		{"a circle that its member does not go in", []Op{group("new", "", "custom.a={custom.b}", "custom.b={custom.a}"), node("n7", []GroupName{"new"}, "custom.b=1")}, nil},
		{"a group that goes with its members", []Op{{Kind: KindGroup, Name: "compute"}, node("n1", nil)}, nil},
		{"not for groups", []Op{group("compute", "", "node.comment=x")}, []string{
			"group compute: node.comment is not for groups: it is about one node. Set it on nodes",
		}},
		{"ranges", []Op{group("r1", "n[1-"), group("r2", "n[1-9]>2"), group("r3", "dyn,n2"), group("r4", "bmc.password=x"), group("r5", "bcm.user=x"), group("r6", "n[1-9],compute@bmc.user=~x.*"), group("everything", "n1")}, []string{
			"group r1: the range n[1- is wrong: noderange, column 2: this [ is not closed. Close it with ]",
			"group r2: the range n[1-9]>2 is wrong: a page (> and <) does not say of one node whether it is meant. Leave it out",
			"group r3: the range uses the group dyn: it is dynamic, too; ranges of groups see static groups only. Write its range n1 instead",
			"group r4: the range bmc.password=x is wrong: bmc.password is secret: asking for it would tell it. Ask for another attribute",
			"group r5: the range bcm.user=x is wrong: no attribute bcm.user. Did you mean bmc.user?",
			"group everything: everything takes no range: every node is a member by itself. Leave the range out",
		}},
		{"deployments", []Op{{KindDeployment, "n9", &Deployment{Node: "n9", Image: "debian21", Phase: Armed}}, {KindDeployment, "n1", &Deployment{Node: "n1", Image: "debian12", Phase: Armed}}}, []string{
			"n9: no such node: a deployment is put for it. muster node add n9",
			"n9: no image debian21. Did you mean debian12?",
		}},
		{"a deployment of no phase", []Op{{KindDeployment, "n1", &Deployment{Node: "n1", Image: "debian12", Phase: "dancing"}}}, []string{
			`n1: its deployment: a deployment has no phase "dancing". muster why n1`,
		}},
		{"wrong document", []Op{{KindNode, "n1", &Group{}}}, []string{"document n1: *model.Group is not *model.Node"}},
		{"wrong key", []Op{{KindNode, "n1", &Node{Name: "n2"}}, {KindGroup, "g", &Group{Name: "h"}}}, []string{"n2: its document is put as n1", "group h: its document is put as g"}},
		{"what is not touched", []Op{node("n1", []GroupName{"compute"}, "net.boot.mac=52:54:00:00:00:01", "net.boot.address=10.0.0.1")}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, p := range Check(s, c.ops) {
				got = append(got, p.Error())
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
}

func TestCheckStopsTelling(t *testing.T) {
	var ops []Op
	for i := range 1500 {
		ops = append(ops, node(fmt.Sprintf("n%d", i), nil, "bmc.port=x"))
	}
	got := Check(Empty(), ops)
	if len(got) != maxProblems+1 || got[maxProblems].What != "500 more problems of the same request" {
		t.Errorf("%d problems, the last %v", len(got), got[len(got)-1])
	}
}

// TestCheckOfOneAddressForAll is about a mistake that many make once: it must not look through all nodes for each of them.
func TestCheckOfOneAddressForAll(t *testing.T) {
	const n = 50_000
	start := time.Now()
	got := Check(bigWorld(t, n), []Op{group("everything", "", "net.eth7.address=10.9.9.9")})
	if want := fmt.Sprintf("%d more problems of the same request", n-1-maxProblems); len(got) != maxProblems+1 || got[maxProblems].What != want {
		t.Errorf("%d problems, the last %v, want %s", len(got), got[len(got)-1], want)
	}
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestAssign(t *testing.T) {
	for _, c := range []struct{ before, assignment, want string }{
		{"", "bmc.user=root", "bmc.user=root"},
		{"bmc.user=root", "bmc.user=", ""},
		{"bmc.user=root", `bmc.user=""`, "bmc.user="},
		{"", "image.kernelargs+=quiet splash", "image.kernelargs=+ quiet splash"},
		{"image.kernelargs=+ quiet", "image.kernelargs+=splash quiet", "image.kernelargs=+ quiet splash"},
		{"image.kernelargs=+ quiet splash", "image.kernelargs-=quiet", "image.kernelargs=+ splash"},
		{"image.kernelargs=+ quiet", "image.kernelargs-=quiet", ""},
		{"image.kernelargs=", "image.kernelargs+=quiet", "image.kernelargs=quiet"},
		{"image.kernelargs=", "image.kernelargs-=quiet", "image.kernelargs="},
		{"", "image.kernelargs-=quiet", ""},
		{"image.kernelargs=quiet", "image.kernelargs=+ {nodename}", "image.kernelargs=+ {nodename}"},
		{"", "image.kernelargs=+ ", "error: image.kernelargs: it adds nothing. Write what to add behind the +"},
		{"", "net.boot.dns=+ x", "error: net.boot.dns: x is wrong: no IP address. Write 10.77.1.1 or fd00::1"},
		{"image.kernelargs=quiet", "image.kernelargs+=console=ttyS0,115200 quiet", "image.kernelargs=quiet console=ttyS0,115200"},
		{"image.kernelargs=quiet splash", "image.kernelargs-=quiet x", "image.kernelargs=splash"},
		{"image.kernelargs=quiet", "image.kernelargs-=quiet", ""},
		{"image.kernelargs=quiet", "image.kernelargs+={nodename}", "image.kernelargs=quiet {nodename}"},
		{"net.boot.dns=10.0.0.1", "net.boot.dns+=10.0.0.2", "net.boot.dns=10.0.0.1,10.0.0.2"},
		{"bmc.user=x", "bmc.user+=y", "error: bmc.user is no list: it has one string. Write bmc.user=value"},
		{"", "bmc.address=x", "error: bmc.address: x is wrong: no IP address. Write 10.77.1.1 or fd00::1"},
		{"", "bmc.address={n1", "error: bmc.address: expression {n1, column 1: this { is not closed. Close it with }, or write {{ for a brace"},
		{"", "bcm.address=x", "error: no attribute bcm.address. Did you mean bmc.address?"},
		{"", "image.kernelargs+=", "error: image.kernelargs: nothing after +=. Write what to add or take away"},
		{"image.kernelargs=a", "image.kernelargs-=", "error: image.kernelargs: nothing after -=. Write what to add or take away"},
	} {
		after := attributeMap(strings.FieldsFunc(c.before, func(r rune) bool { return r == ';' }))
		before := fmt.Sprint(after)
		name, value, _ := strings.Cut(c.assignment, "=")
		a := strings.TrimRight(name, "+-")
		err := Edit(after, AttrName(a), name[len(a):]+"=", value)
		got := ""
		for a, v := range after {
			got = string(a) + "=" + v
		}
		if err != nil {
			got = "error: " + err.Error()
		}
		if got != c.want {
			t.Errorf("%s after %s: got %s, want %s", c.assignment, c.before, got, c.want)
		}
		if err != nil && fmt.Sprint(after) != before {
			t.Errorf("%s is refused, and yet changed %s to %v", c.assignment, before, after)
		}
	}
}

func TestAssignGroups(t *testing.T) {
	before := []GroupName{"a", "b"}
	for assignment, want := range map[string]string{"=c,d,c": "[c d]", "+=b,c,everything": "[a b c]", "-=a,x": "[b]", "=": "[]", "+=": "[] nothing after +=. Write what to add or take away", "=x_y": "[] x_y cannot be a name: it holds '_'. Use letters, digits, dashes and dots (RFC 1123)"} {
		op, value, _ := strings.Cut(assignment, "=")
		got, err := AssignGroups(before, op+"=", value)
		text := fmt.Sprint(got)
		if err != nil {
			text += " " + err.Error()
		}
		if text != want {
			t.Errorf("%s: got %s, want %s", assignment, text, want)
		}
	}
}

func TestCanonical(t *testing.T) {
	for _, c := range []struct {
		of          Attr
		value, want string
	}{
		{Attr{Type: MAC}, "52-54-00-77-00-0A", "52:54:00:77:00:0a"},
		{Attr{Type: MAC}, "5254.0077.000A", "52:54:00:77:00:0a"},
		{Attr{Type: MAC}, "52540077000a", "52:54:00:77:00:0a"},
		{Attr{Type: MAC}, "00:11:22:33:44:55:66:77", "00:11:22:33:44:55:66:77"},
		{Attr{Type: MAC}, strings.Repeat("8", 40), strings.Repeat("88:", 19) + "88"},
		{Attr{Type: MAC}, "52:54:00:77:00", "error"},
		{Attr{Type: MAC}, "52:54-00:77:00:01", "error"},
		{Attr{Type: MAC}, "5:25:40:07:70:001", "error"},
		{Attr{Type: MAC}, "52:54:00:77:00:01:", "error"},
		{Attr{Type: MAC}, "52:54:00:77:00:0g", "error"},
		{Attr{Type: Address}, "FD00:0::1", "fd00::1"},
		{Attr{Type: Address}, "::ffff:10.0.0.1", "10.0.0.1"},
		{Attr{Type: Address}, "10.0.0.01", "error"},
		{Attr{Type: Prefix}, "10.77.0.0/16", "10.77.0.0/16"},
		{Attr{Type: Prefix}, "10.77.0.1/16", "error"},
		{Attr{Type: Integer, Min: 1, Max: 5}, "+3", "3"},
		{Attr{Type: Integer, Min: 1, Max: 5}, "6", "error"},
		{Attr{Type: Boolean}, "Yes", "true"},
		{Attr{Type: Boolean}, "off", "false"},
		{Attr{Type: Duration}, "1h30m", "1h30m"},
		{Attr{Type: Duration}, "-1s", "error"},
		{Attr{Type: Duration}, "5", "error"},
		{Attr{Type: NodeRange}, "n[1-3]", "n[1-3]"},
		{Attr{Type: NodeRange}, "n[1-3", "error"},
		{Attr{Type: Choice, Choices: []string{"a"}}, "a", "a"},
		{Attr{Type: Choice, Choices: []string{"a"}}, "b", "error"},
		{Attr{Type: Pin}, "SHA256:" + strings.Repeat("AB", 32), "sha256:" + strings.Repeat("ab", 32)},
		{Attr{Type: Pin}, "any", "any"},
		{Attr{Type: Pin}, "sha256:ab", "error"},
		{Attr{Type: FileName}, "pdu-2.sh", "pdu-2.sh"},
		{Attr{Type: FileName}, "../../bin/sh", "error"},
		{Attr{Type: FileName}, "/bin/sh", "error"},
		{Attr{Type: FileName}, "..", "error"},
		{Attr{Type: String}, "a\x00b", "error"},
		{Attr{Type: String}, "ä b", "ä b"},
		{Attr{Type: String}, strings.Repeat("x", maxValue+1), "error"},
		{Attr{Type: Integer}, "", ""},
	} {
		got, err := c.of.Canonical(c.value)
		if err != nil {
			got = "error"
		}
		if got != c.want {
			t.Errorf("%s %q: got %q, %v; want %q", c.of.Type, c.value, got, err, c.want)
		}
	}
}

func TestSchemaIsSound(t *testing.T) {
	for _, a := range Schema() {
		if a.Help == "" || a.Type == "" {
			t.Errorf("%s: no help or type", a.Name)
		}
		if v, err := a.Canonical(a.Default); err != nil || v != a.Default {
			t.Errorf("%s: default %q is %q, %v", a.Name, a.Default, v, err)
		}
		if (a.Type == SecretOf) != a.Secret || (a.Type == List) != (a.Of != "" && a.Sep != "") || (a.Type == Choice) != (len(a.Choices) > 0) {
			t.Errorf("%s: its fields do not go together", a.Name)
		}
		name := AttrName(strings.Replace(string(a.Name), "<name>", "eth0", 1))
		if got, ok := Lookup(name); !ok || got.Name != a.Name {
			t.Errorf("%s is not found", name)
		}
	}
}

// TestShortNames holds the words that expressions may use instead of whole names: stored ones break when a new attribute ends in one of them.
func TestShortNames(t *testing.T) {
	var words []string
	for word := range known.short {
		if a, _ := Short(word); a != nil {
			words = append(words, word)
		}
	}
	slices.Sort(words)
	want := "after alarms armed booting cipher comment count delay driver enrolled fetching kernelargs layout loader password pin plugin rack record room site source speed starting system unit writing"
	if got := strings.Join(words, " "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestExamplesAreTaken(t *testing.T) {
	for _, a := range Schema() {
		if a.Example == "" && a.Type != Choice && a.Type != Boolean && !a.Secret {
			t.Errorf("%s has no example", a.Name)
		}
		if p := new(memo).check(&a, a.Example); p != nil {
			t.Errorf("%s: %v", a.Name, p)
		}
		if a.Section() == "" {
			t.Errorf("%s is in no section", a.Name)
		}
	}
}

func FuzzCanonicalMatchesItsPattern(f *testing.F) {
	for _, s := range []string{"10.0.0.1", "FD00::1%eth0", "10.0.0.0/8", "52-54-00-77-00-0A", "Yes", "+7", "1h30m", ".5s", "-0", "17", "a-b.c"} {
		f.Add(s)
	}
	var all []Attr
	for _, t := range []Type{Integer, Boolean, Address, Prefix, MAC, Duration, NetworkOf, Choice, Pin, FileName} {
		all = append(all, Attr{Type: t, Choices: []string{"3", "17", "a.b"}})
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, a := range all {
			v, err := a.Canonical(s)
			if err != nil || s == "" {
				continue
			}
			if !regexp.MustCompile(a.Pattern()).MatchString(v) {
				t.Errorf("%s: %q, of %q, does not match %s", a.Type, v, s, a.Pattern())
			}
			if again, err := a.Canonical(v); err != nil || again != v {
				t.Errorf("%s: %q of %q is %q, %v", a.Type, v, s, again, err)
			}
		}
	})
}

func TestSuggest(t *testing.T) {
	for name, want := range map[AttrName]AttrName{
		"bcm.address": "bmc.address", "rack": "location.rack", "net.eth0.adress": "net.eth0.address", "BMC.User": "bmc.user", "zzz": "", "net.boot.macs": "net.boot.mac",
	} {
		if got := Suggest(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}
