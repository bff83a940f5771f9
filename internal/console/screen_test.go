package console

import (
	"bytes"
	"strings"
	"testing"

	"github.com/hinshun/vt10x"
)

// shown is what a terminal shows after the bytes.
func shown(p []byte, cols, rows int) string {
	t := vt10x.New(vt10x.WithSize(cols, rows))
	t.Write(p)
	lines := strings.Split(t.String(), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.TrimRight(strings.Join(lines, "\n"), "\n")
}

func TestDrawScreen(t *testing.T) {
	for name, c := range map[string]struct{ out, want string }{
		"text":             {"Linux version 6.1\r\nlogin: ", "Linux version 6.1\nlogin:"},
		"menu":             {"\x1b[2J\x1b[3;5H\x1b[7mBoot Manager\x1b[0m\x1b[5;5HSetup", "\n\n    Boot Manager\n\n    Setup"},
		"overwritten":      {"50 %\r100 %\r\n", "100 %"},
		"reset":            {strings.Repeat("old ", 100) + "\x1bcnew", "new"},
		"graphics":         {"\x1b(0lqk\x1b(B", "┌─┐"},
		"titles_and_junk":  {"\x1b]0;title\x07a\x1bP1$r0m\x1b\\b\x1b[>c\xffc", "ab?c"},
		"absurd_numbers":   {"\x1b[999999999Ia\x1b[-5Lb\x1b[99999999999999999999999b", "ab"},
		"scrolled_through": {strings.Repeat("line\r\n", 5000) + "end", strings.Repeat("line\n", 24) + "end"},
	} {
		t.Run(name, func(t *testing.T) {
			got := drawScreen([]byte(c.out), 80, 25)
			if s := shown(got, 80, 25); s != c.want {
				t.Errorf("the watcher sees %q, want %q\n%q", s, c.want, got)
			}
		})
	}
}

// A question in the output would make the watcher's terminal type the answer into the machine.
func TestDrawScreen_asks_the_watchers_terminal_nothing(t *testing.T) {
	got := drawScreen([]byte("a\x1b[6nb\x1b[cc\x1b[5n\x1b]11;?\x07\x1bZd\x1b[>0q"), 80, 25)
	for _, q := range []string{"[6n", "[c", "[5n", "]11", "\x1bZ", "q"} {
		if bytes.Contains(got, []byte(q)) {
			t.Errorf("%q is sent on in %q", q, got)
		}
	}
}

func TestDrawScreen_keeps_what_is_unfinished_for_the_live_bytes(t *testing.T) {
	whole := "\x1b[1;1Ha\x1b[31mü€b\x1b[5;5Hc"
	for cut := range len(whole) {
		got := append(drawScreen([]byte(whole[:cut]), 80, 25), whole[cut:]...)
		if s, want := shown(got, 80, 25), shown([]byte(whole), 80, 25); s != want {
			t.Errorf("cut at %d: %q, want %q", cut, s, want)
		}
	}
}

func TestDrawScreen_keeps_colours(t *testing.T) {
	src := "\x1b[1;33;44mhot\x1b[0m plain \x1b[7mrev\x1b[0m \x1b[38;5;200mx"
	a, b := vt10x.New(), vt10x.New()
	a.Write([]byte(src))
	b.Write(drawScreen([]byte(src), 80, 24))
	for x := range 20 {
		if g, w := b.Cell(x, 0), a.Cell(x, 0); g != w {
			t.Errorf("column %d: %+v, want %+v", x, g, w)
		}
	}
}

// What a machine can make a watcher's drawing cost is bounded: counted here is what the emulator is given.
func TestDrawScreen_bounds_the_cost(t *testing.T) {
	for _, s := range []string{"\x1b[9999S", "\x1b[2J", "\x1b[9999I", "\x1b[?1049h", "\x1bc", "\x1b#8"} {
		out, _ := clean(bytes.Repeat([]byte(s), ringMax/len(s)))
		if n := bytes.Count(out, []byte{0x1b}); n > 2000 {
			t.Errorf("%d × %q reach the emulator", n, s)
		}
	}
}

func FuzzDrawScreen(f *testing.F) {
	f.Add([]byte("\x1b[2J\x1b[3;5H\x1b[7mBoot\x1b[0m\r\nlogin: "), 80, 25)
	f.Add([]byte("\x1b[?1049h\x1b[1;5r\x1b[L\x1b[M\x1b[P\x1b[@\x1b#8\x1bM\x1bD\x1bE\x1b7\x1b8"), 20, 5)
	f.Add([]byte("\xc3"), 1, 1)
	f.Fuzz(func(t *testing.T, p []byte, cols, rows int) {
		got := drawScreen(p, cols, rows)
		if bytes.Contains(got, []byte("\x1b[6n")) {
			t.Fatalf("a question is sent on: %q", got)
		}
	})
}

func BenchmarkDrawScreen(b *testing.B) {
	p := bytes.Repeat([]byte("[    1.234567] \x1b[32mpci\x1b[0m 0000:00:1f.2: reg 0x10: [io  0xc040-0xc047]\r\n"), 1000)[:ringMax]
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		drawScreen(p, 80, 25)
	}
}
