package boot

import (
	"fmt"
	"strings"
	"testing"
)

func spew(v any) string { return fmt.Sprintf("%v %+v %#v %q", v, v, v, v) }

func TestKernelArg(t *testing.T) {
	for _, ok := range []string{"quiet", "console=ttyS0,115200", "a=$x", "root=UUID=1-2", `dyndbg="file`, "a=b#c", "a||b", "m.net=02:00,10.0.0.1/8,,"} {
		if err := kernelArg(ok); err != nil {
			t.Errorf("%q: %v", ok, err)
		}
	}
	for _, bad := range []string{"", "a b", "a\nb", "a\rshell", "a\tb", "ä", "a\x00", "||", "&&", ";", "#x", "${net0/mac}", "a${", `a\`} {
		if kernelArg(bad) == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// commands splits a script as iPXE does: lines, joined where one ends with a backslash, then tokens, then commands.
func commands(script string) (out [][]string) {
	script = strings.ReplaceAll(script, "\r\n", "\n")
	script = strings.ReplaceAll(script, "\\\n", "")
	for line := range strings.SplitSeq(script, "\n") {
		cmd := []string{}
		for tok := range strings.FieldsFuncSeq(line, func(r rune) bool { return r == ' ' || r == '\t' || r == '\r' || r == '\v' || r == '\f' }) {
			if tok[0] == '#' {
				break
			}
			if tok == "||" || tok == "&&" || tok == ";" {
				out = append(out, cmd)
				cmd = []string{}
				continue
			}
			cmd = append(cmd, tok)
		}
		if len(cmd) > 0 {
			out = append(out, cmd)
		}
	}
	return out
}

func FuzzSay(f *testing.F) {
	for _, s := range []string{"", "wrong digest", "a\nshell", "a && shell", "${net0/mac}", "||| x", `end\`, "# no", "; sanboot", strings.Repeat("x", 1000), "-n", "\xff\xfe"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var b strings.Builder
		say(&b, text)
		for _, c := range commands(b.String()) {
			if len(c) < 2 || c[0] != "echo" || c[1] != "muster:" {
				t.Fatalf("%q became the command %q", text, c)
			}
		}
		if strings.Contains(b.String(), "${") || !strings.HasSuffix(b.String(), "\n") || strings.HasSuffix(b.String(), "\\\n") {
			t.Fatalf("%q became %q", text, b.String())
		}
	})
}

func FuzzKernelArgs(f *testing.F) {
	for _, s := range []string{"quiet", "a=b c=d", "a\nshell", "x && shell", "${net0/mac}", "|| y", `end\`, "# no", "; sanboot http://x", "muster.node=other"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, args string) {
		d := script(snapshot(t, attrs{"image.kernelargs": args}, &armed), at1)
		var names []string
		for _, c := range commands(d.Script.Reveal()) {
			if len(c) > 0 {
				names = append(names, c[0])
			}
		}
		got := strings.Join(names, " ")
		got = strings.ReplaceAll(strings.ReplaceAll(got, "echo echo", "echo"), "echo echo", "echo")
		boots := "echo set :fetch imgfree kernel initrd boot inc iseq goto echo sleep goto :failed echo sleep reboot exit"
		holds := "echo :held sleep goto"
		for strings.Contains(got, "echo echo") {
			got = strings.ReplaceAll(got, "echo echo", "echo")
		}
		if got != boots && got != holds {
			t.Fatalf("arguments %q made the script\n%s", args, d.Script.Reveal())
		}
		if n := strings.Count(d.Script.Reveal(), "${"); n > 1 { // ${tries} is ours
			t.Fatalf("arguments %q made %d expansions", args, n)
		}
	})
}
