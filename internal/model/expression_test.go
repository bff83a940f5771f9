package model

import (
	"fmt"
	"strings"
	"testing"
)

// one makes a world of one node with the attributes.
func one(t testing.TB, name string, attrs map[AttrName]string) (*Snapshot, *Node) {
	s := apply(t, Empty(), Op{KindNode, name, &Node{Name: NodeName(name), Attrs: attrs}})
	return s, s.Node(NodeName(name))
}

func apply(t testing.TB, s *Snapshot, ops ...Op) *Snapshot {
	t.Helper()
	next, err := Apply(s, &Change{Revision: s.Revision + 1, Ops: ops})
	if err != nil {
		t.Fatal(err)
	}
	return next
}

func TestExpressions(t *testing.T) {
	for written, want := range map[string]string{
		"plain":                               "plain",
		"{nodename}":                          "r2n017",
		"{n1}":                                "2",
		"{n2}":                                "17",
		"{n0}":                                "17",
		"{n2:03d}":                            "017",
		"{n2:4d}":                             "  17",
		"{n2:04}":                             "0017",
		"{n2:x}{n2:X}{n2:o}{n2:b}":            "11112110001",
		"{255:02X}":                           "FF",
		"{0xff}":                              "255",
		"{-3:03d}":                            "-003",
		"{{n1}":                               "{n1}",
		`{{"a":{{"b":{n1}}}`:                  `{"a":{"b":2}}`,
		"a } b":                               "a } b",
		"10.1.{n2/256}.{n2%256}":              "10.1.0.17",
		"{n1+n2*2}":                           "36",
		"{(n1+n2)*2}":                         "38",
		"{n1-n2}":                             "-15",
		"{-n1 - -n2}":                         "15",
		"{7/2} {-7/2} {7%3} {-7%3} {7%-3}":    "3 -4 1 2 -2",
		"{1<<4|1} {6&3} {6^3} {256>>4}":       "17 2 5 16",
		"{1+2<<1}":                            "6",
		"{nodename[0:2]}-{nodename[-3:]}":     "r2-017",
		"{nodename[1]}{nodename[-1]}":         "27",
		"{nodename[2:n1+1]}":                  "n",
		"{nodename[:2].upper()}":              "R2",
		"{nodename.replace('n', '-node')}":    "r2-node017",
		"{nodename.upper().lower()}":          "r2n017",
		"{custom.num * 2}":                    "42",
		"{custom.rack}/{custom.rack[0]}":      "B7/B",
		"{custom.rack.lower()}":               "b7",
		"{custom.addr + n2}":                  "10.1.1.11",
		"{custom.addr + 256}":                 "10.1.1.250",
		"{custom.addr - 10}":                  "10.1.0.240",
		"{n2 + custom.addr}":                  "10.1.1.11",
		"{custom.six+1}":                      "fd00::1:0",
		"{custom.addr - '10.1.0.0'}":          "250",
		"{attr('custom.with-dash')}":          "dashed",
		"{custom.indirect}":                   "17",
		"{'text'[1:3]}{\"it's\"}":             "exit's",
		"{ n1 + 1 : 02d }":                    "03",
		"{n1+}":                               "error: column 5: something is missing here",
		"{n1":                                 "error: column 1: this { is not closed",
		"{}":                                  "error: column 2: something is missing here",
		"{n3}":                                "error: {n3} has no value: the name r2n017 has 2 numbers, n3 is not there",
		"{rack}":                              "error: {rack} has no value: location.rack is not set",
		"{room}/{room[0]}/{room.upper()}":     "a1/a/A1",
		"{attr('room')}{count+1}":             "a14",
		"{address}":                           "error: column 2: address may be bmc.address or net.<name>.address. Write the whole name",
		"{mac}":                               "error: column 2: mac may be net.<name>.mac. Write the whole name",
		"{user}":                              "error: column 2: user may be bmc.user or ssh.user. Write the whole name",
		"{password}":                          "error: bmc.password is secret",
		"{rakc}":                              "error: no attribute rakc. There are nodename, n1, n2 …, n0 (the last number), and attributes",
		"{location}":                          "error: no attribute location",
		"{bmc.adress}":                        "error: no attribute bmc.adress. Did you mean bmc.address?",
		"{bmc.password}":                      "error: bmc.password is secret",
		"{location.rack}":                     "error: {location.rack} has no value: location.rack is not set",
		"{n1/0}":                              "error: {n1/0} has no value: division by zero",
		"{n1 % (n1-n1)}":                      "error: division by zero",
		"{9223372036854775807+1}":             "error: the number is too large",
		"{9223372036854775807*2}":             "error: the number is too large",
		"{1<<63}":                             "error: a shift goes by 0 to 62",
		"{4<<62}":                             "error: the number is too large",
		"{nodename+1}":                        "error: + needs a number, and r2n017 is none",
		"{nodename:02d}":                      "error: a format needs a number, and r2n017 is none",
		"{nodename[9]}":                       "error: r2n017 has 6 letters, none at that place",
		"{custom.high+1}":                     "error: there is no address 1 from 255.255.255.255",
		"{custom.addr-custom.six}":            "error: are addresses of different kinds",
		"{nodename.title()}":                  "error: no method .title",
		"{nodename.replace('a')}":             "error: .replace takes two texts",
		"{n1:}":                               "error: the format is empty",
		"{n1:99d}":                            "error: the format is wider than 64",
		"{n1 n2}":                             "error: 'n' does not belong here",
		"{custom.self}":                       "error: custom.self: the expressions go in a circle: custom.self uses custom.self",
		"{custom.a}":                          "error: the expressions go in a circle: custom.a uses custom.b uses custom.c uses custom.a",
		"{custom.wide100}":                    "error: the expression is too much work",
		"{({n1})}":                            "error: column 3: '{' does not belong here",
		"{" + strings.Repeat("(", 100) + "1}": "error: terms are too deep within each other",
		"{" + strings.Repeat("-", 100) + "1}": "error: terms are too deep within each other",
		"{custom.addr.replace('.', '-')}":     "10-1-0-250",
		"{attr('custom.with-dash', 1)}":       "error: attr takes the name of one attribute",
	} {
		attrs := map[AttrName]string{
			"custom.num": "21", "custom.rack": "B7", "custom.addr": "10.1.0.250", "custom.six": "fd00::ffff", "custom.with-dash": "dashed",
			"custom.indirect": "{n2}", "custom.high": "255.255.255.255", "location.room": "a1",
			"custom.self": "{custom.self}", "custom.a": "x{custom.b}", "custom.b": "{custom.c}", "custom.c": "{custom.a}",
			"custom.tested": written,
		}
		for i := range 20 {
			next := fmt.Sprintf("custom.wide%d", 101+i)
			attrs[AttrName(fmt.Sprintf("custom.wide%d", 100+i))] = "{" + next + "[0:0]}{" + next + "}"
		}
		attrs["custom.wide120"] = "x"
		s, n := one(t, "r2n017", attrs)
		got, err := s.Attr(n, "custom.tested")
		if message, bad := strings.CutPrefix(want, "error"); bad {
			if message = strings.TrimPrefix(message, ": "); err == nil || !strings.Contains(err.Error(), message) {
				t.Errorf("%s: got %q, %v\nwant %s", written, got, err, want)
			}
		} else if err != nil || got != want {
			t.Errorf("%s: got %q, %v; want %q", written, got, err, want)
		}
	}
}

func FuzzExpression(f *testing.F) {
	for _, s := range []string{
		"{n1}", "10.1.{n1/256}.{n1%256}", "{nodename[1:-2].replace('a','b').upper()}", "{custom.a+1:02x}", "{{", "{attr('custom.a')}", "{1<<2|3&4^5}",
		"{-9223372036854775808/-1}", "{'", "{a.b.c(", "}", "{n99}", "{0x:d}", "{custom.addr-1}", "{nodename.replace('a','b\x8e')}",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, written string) {
		s, n := one(t, "r1n2", map[AttrName]string{"custom.a": "7", "custom.addr": "::1", "custom.tested": written})
		got, err := s.Attr(n, "custom.tested")
		if err != nil && got != "" {
			t.Fatalf("%q: value %q and error %v", written, got, err)
		}
		if err == nil && !hasExpression(written) && got != written {
			t.Fatalf("%q became %q", written, got)
		}
		if doubled := strings.ReplaceAll(written, "{", "{{"); err == nil && len(doubled) < 1000 {
			s, n := one(t, "r1n2", map[AttrName]string{"custom.tested": doubled})
			if got, err := s.Attr(n, "custom.tested"); err != nil || got != written {
				t.Fatalf("%q with doubled braces: %q, %v", written, got, err)
			}
		}
	})
}
