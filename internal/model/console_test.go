package model

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestConsoleSource(t *testing.T) {
	for v, want := range map[string]string{
		"bmc":                               "bmc",
		"unix:/run/vm/r1n1.serial":          "unix:/run/vm/r1n1.serial",
		"tcp:10.77.1.9:07001":               "tcp:10.77.1.9:7001",
		"telnet:[FD00::9]:23":               "telnet:[fd00::9]:23",
		"tcp:[fe80::1%eth0]:23":             "tcp:[fe80::1%eth0]:23",
		"tcp:[::ffff:10.0.0.1]:23":          "tcp:10.0.0.1:23",
		"telnet:ts1.example.org:7001":       "telnet:ts1.example.org:7001",
		"":                                  "error",
		"bmc:":                              "error",
		"BMC":                               "error",
		"/run/x":                            "error",
		"unix:run/x":                        "error",
		"unix:/run/../etc/x":                "error",
		"unix:/" + strings.Repeat("x", 107): "error",
		"tcp:":                              "error",
		"tcp:host":                          "error",
		"tcp:host:0":                        "error",
		"tcp:host:65536":                    "error",
		"tcp:host:ssh":                      "error",
		"tcp::23":                           "error",
		"tcp:fd00::9:23":                    "error",
		"tcp:[10.0.0.1]:23":                 "error",
		"tcp:[fd00::1:23":                   "error",
		"tcp:a b:23":                        "error",
		"ssh:host:22":                       "error",
	} {
		c, err := ParseConsoleSource(v)
		if got := c.String(); err != nil {
			if p := (*Problem)(nil); want != "error" || !errors.As(err, &p) {
				t.Errorf("%q: %v, want %q", v, err, want)
			}
		} else if got != want {
			t.Errorf("%q is %q, want %q", v, got, want)
		}
	}
}

func FuzzConsoleSource(f *testing.F) {
	for _, s := range []string{"bmc", "unix:/a/b", "tcp:h:1", "telnet:[::1%é]:2", "tcp:[::ffff:1.2.3.4]:3"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := ParseConsoleSource(s)
		if err != nil {
			return
		}
		if again, err := ParseConsoleSource(c.String()); err != nil || again != c {
			t.Errorf("%q is %q, and that is %+v, %v", s, c, again, err)
		}
	})
}

func TestAlternatives(t *testing.T) {
	for s, want := range map[string][]string{
		"a":                      {"a"},
		"a|b c|d":                {"a", "b c", "d"},
		"(a|b)c|[|]|[]|]|[^]|]":  {"(a|b)c", "[|]", "[]|]", "[^]|]"},
		`a\|b|\Qc|d\E|e`:         {`a\|b`, `\Qc|d\E`, "e"},
		`[[:alpha:]|]|[\]|]|\\|`: {"[[:alpha:]|]", `[\]|]`, `\\`, ""},
		`\Qa|b`:                  {`\Qa|b`},
	} {
		if got := Alternatives(s); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", s, got, want)
		}
	}
}

// An expression that is one has parts that are, and together they match what it does.
func FuzzAlternatives(f *testing.F) {
	for _, s := range []string{"a|b(c|d)[|]", `\Q|\E|[^]|]`, "[[:alpha:]|]|x", `\x{41}|(?P<n>a|b)`} {
		f.Add(s, "ab|cd]x")
	}
	f.Fuzz(func(t *testing.T, s, text string) {
		parts := Alternatives(s)
		if got := strings.Join(parts, "|"); got != s {
			t.Fatalf("%q comes back as %q", s, got)
		}
		whole, err := regexp.Compile(s)
		if err != nil || strings.Contains(s, "(?") { // a flag counts for its own part
			return
		}
		any := false
		for _, p := range parts {
			e, err := regexp.Compile(p)
			if err != nil {
				t.Fatalf("%q has the part %q: %v", s, p, err)
			}
			any = any || e.MatchString(text)
		}
		if any != whole.MatchString(text) {
			t.Errorf("%q matches %q: %t, its parts: %t", s, text, !any, any)
		}
	})
}

func TestConsoleAlarms_add_to_the_default(t *testing.T) {
	doc, _ := Lookup("console.alarms")
	if v, err := doc.Canonical(doc.Default); err != nil || v != doc.Default {
		t.Errorf("the default is %q, %v", v, err)
	}
	attrs := map[AttrName]string{}
	if err := Edit(attrs, "console.alarms", "+=", "ib0: link (down|lost)|Out of paper"); err != nil {
		t.Fatal(err)
	}
	if err := Edit(attrs, "console.alarms", "-=", "Out of paper"); err != nil || attrs["console.alarms"] != "+ ib0: link (down|lost)" {
		t.Errorf("%q, %v", attrs["console.alarms"], err)
	}
	for _, bad := range []string{"a(", "a||b", "x*", "a|b)"} {
		if err := Edit(map[AttrName]string{}, "console.alarms", "=", bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
