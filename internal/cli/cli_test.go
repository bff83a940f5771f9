package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spf13/cobra"

	"muster/internal/api"
)

// verbs is the tree of all verbs without a terminal or environment.
func verbs() *cobra.Command {
	s := &session{in: strings.NewReader(""), out: io.Discard, err: io.Discard, env: func(string) string { return "" }}
	return s.root()
}

func TestEveryVerbExplainsItself(t *testing.T) {
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if len(c.Commands()) == 0 && c.Name() != "help" && !c.Hidden {
			if c.Example == "" || c.Short == "" {
				t.Errorf("%s: no example or no short text", c.CommandPath())
			}
			if len(c.Short) > 80 {
				t.Errorf("%s: %q is longer than a line", c.CommandPath(), c.Short)
			}
		}
		for _, v := range c.Commands() {
			walk(v)
		}
	}
	walk(verbs())
}

func TestOverviewIsOnePage(t *testing.T) {
	var b bytes.Buffer
	overview(&b, verbs())
	if n := strings.Count(b.String(), "\n"); n > 64 {
		t.Errorf("%d lines", n)
	}
	for line := range strings.Lines(b.String()) {
		if len([]rune(line)) > 121 {
			t.Errorf("a line of %d: %q", len(line), line)
		}
	}
}

func TestMoreCommandsStandInTheirJob(t *testing.T) {
	var out, problems bytes.Buffer
	serve := &cobra.Command{Use: "serve", Short: "Run the service", GroupID: JobService, RunE: func(*cobra.Command, []string) error {
		return errors.New("port 67 is taken")
	}}
	none := func(string) string { return "" }
	if got := Main(nil, strings.NewReader(""), &out, &problems, none, serve); got != 0 || !regexp.MustCompile(`(?m)^run the service\n(  .*\n)*  serve       Run the service\n`).MatchString(out.String()) {
		t.Errorf("exit status %d:\n%s", got, out.String())
	}
	if got := Main([]string{"serve"}, strings.NewReader(""), &out, &problems, none, serve); got != 1 || problems.String() != "muster: port 67 is taken\n" {
		t.Errorf("exit status %d: %q", got, problems.String())
	}
}

func TestParseAssignment(t *testing.T) {
	for arg, want := range map[string]api.Assignment{
		"bmc.user=admin":     {Attr: "bmc.user", Op: "=", Value: "admin"},
		"bmc.user=":          {Attr: "bmc.user", Op: "="},
		"a+=b":               {Attr: "a", Op: "+=", Value: "b"},
		"a-=b":               {Attr: "a", Op: "-=", Value: "b"},
		"a=b=c":              {Attr: "a", Op: "=", Value: "b=c"},
		"a==b":               {Attr: "a", Op: "=", Value: "=b"},
		"custom.x-y=@ann":    {Attr: "custom.x-y", Op: "=", Value: "@ann"},
		"net.eth0.mac=a:b":   {Attr: "net.eth0.mac", Op: "=", Value: "a:b"},
		"bmc.address=10.{n}": {Attr: "bmc.address", Op: "=", Value: "10.{n}"},
	} {
		if got, err := parseAssignment(arg); err != nil || got != want {
			t.Errorf("%q: got %+v, %v", arg, got, err)
		}
	}
	for _, arg := range []string{"", "a", "=b", "+=b", "-=b", "a b=c", "ä=c"} {
		if got, err := parseAssignment(arg); err == nil {
			t.Errorf("%q: got %+v", arg, got)
		}
	}
}

// FuzzParseAssignment: never panics, and what is formatted again says the same.
func FuzzParseAssignment(f *testing.F) {
	for _, s := range []string{"a=b", "a+=b", "a-=", "=", "+=", "a", "a=-", "a=@/x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, arg string) {
		a, err := parseAssignment(arg)
		if err == nil && a.Attr+a.Op+a.Value != arg {
			t.Errorf("%q: got %+v", arg, a)
		}
	})
}

func TestWithFiles(t *testing.T) {
	read := func(path string) ([]byte, error) {
		switch path {
		case "/a":
			return []byte("n1 n2\nn[3,5] # the rest\n"), nil
		case "/b":
			return []byte("n9,n8\r\n"), nil
		case "/again":
			return []byte("^/a"), nil
		}
		return nil, errors.New("no such file")
	}
	for in, want := range map[string]string{
		"n1":            "n1",
		"^/a":           "(n1,n2,n[3,5])",
		"x,^/a,y":       "x,(n1,n2,n[3,5]),y",
		"x,-^/b":        "x,-(n9,n8)",
		"x!^/b":         "x!(n9,n8)",
		"x@^/b&(^/b)":   "x@(n9,n8)&((n9,n8))",
		"a^b":           "a^b",
		"a^/regex":      "a^/regex", // behind a term it is the symmetric difference
		"~^/dev/.*":     "~^/dev/.*",
		"custom.x=^/a":  "custom.x=^/a",
		"~n[,^/a],^/b":  "~n[,^/a],(n9,n8)",
		"^/none":        "error",
		"^/again":       "error",
		"^/a^/b,x":      "(n1,n2,n[3,5])^/b,x", // and then the symmetric difference with a regular expression
		"-^/a":          "-(n1,n2,n[3,5])",
		"(^/a),-(^/b)":  "((n1,n2,n[3,5])),-((n9,n8))",
		"n1@compute,^^": "n1@compute,^^",
	} {
		got, err := withFiles(in, read)
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("%q: got %q, want %q (%v)", in, got, want, err)
		}
	}
}

// FuzzWithFiles: never panics, ends, and leaves a noderange without files alone.
func FuzzWithFiles(f *testing.F) {
	for _, s := range []string{"^/a", "a,^/b", "a^/b", "[^/", "(^/)", "^/,^/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		out, err := withFiles(in, func(string) ([]byte, error) { return []byte("n1"), nil })
		if err == nil && !strings.Contains(in, "^/") && out != in {
			t.Errorf("%q: got %q", in, out)
		}
	})
}

func TestSince(t *testing.T) {
	now := time.Date(2026, 11, 20, 6, 30, 0, 0, time.FixedZone("", 3600))
	for in, want := range map[string]string{
		"10m":                       "10m",
		"1h30m":                     "1h30m",
		"2d":                        "48h0m0s",
		"06:12":                     "2026-11-20T06:12:00+01:00",
		"06:12:07":                  "2026-11-20T06:12:07+01:00",
		"23:00":                     "2026-11-19T23:00:00+01:00", // of yesterday
		"2026-11-19":                "2026-11-19T00:00:00+01:00",
		"2026-11-19 10:00":          "2026-11-19T10:00:00+01:00",
		"2026-11-19T10:00:00Z":      "2026-11-19T10:00:00Z",
		"2026-11-19T10:00:00.5Z":    "2026-11-19T10:00:00.5Z",
		"2026-11-19T10:00:00+02:00": "2026-11-19T10:00:00+02:00",
		"-5m":                       "",
		"yesterday":                 "",
		"":                          "",
		"d":                         "",
		"-1d":                       "",
		"999999999999d":             "",
	} {
		got, err := sinceArg(in, now)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: got %q, %v; want %q", in, got, err, want)
		}
	}
}

// FuzzSince: never panics, and what comes out is a duration or a time.
func FuzzSince(f *testing.F) {
	for _, s := range []string{"10m", "2d", "06:12", "2026-11-19 10:00", "9223372036854775807d", "\xff"} {
		f.Add(s)
	}
	now := time.Date(2026, 11, 20, 6, 30, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, in string) {
		out, err := sinceArg(in, now)
		if err != nil {
			return
		}
		_, e1 := time.ParseDuration(out)
		_, e2 := time.Parse(time.RFC3339Nano, out)
		if e1 != nil && e2 != nil {
			t.Errorf("%q: got %q", in, out)
		}
	})
}

func TestCommandLineArrivesAsTyped(t *testing.T) {
	if got := commandLine([]string{"echo $HOME | cat"}); got != "echo $HOME | cat" {
		t.Errorf("one word: got %q", got)
	}
	for _, w := range [][]string{
		{"uname", "-r"},
		{"a  b", "$HOME", "*", "", "it's", `back\slash`, "new\nline", "`x`", "~", "-n", "#", "ä", "a;b", "!x"},
	} {
		line := commandLine(append([]string{"printf", `%s\0`}, w...))
		out, err := exec.Command("sh", "-c", line).Output()
		if got := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00"); err != nil || !slices.Equal(got, w) {
			t.Errorf("%q: got %q, %v", w, got, err)
		}
	}
}

// FuzzShellQuote: what is quoted is one word, and reads back as it was (without asking a shell every time).
func FuzzShellQuote(f *testing.F) {
	for _, s := range []string{"", "a", "it's", "''", "a b", "$x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, w string) {
		q := shellQuote(w)
		var got strings.Builder
		in := false
		for i := 0; i < len(q); i++ {
			switch c := q[i]; {
			case c == '\'':
				in = !in
			case !in && c == '\\':
				i++
				got.WriteByte(q[i])
			case !in && strings.IndexByte(" \t\n$`\"*?[]|&;<>(){}~#!", c) >= 0:
				t.Fatalf("%q: %q is bare in %q", w, c, q)
			default:
				got.WriteByte(c)
			}
		}
		if in || got.String() != w {
			t.Errorf("%q: %q reads as %q", w, q, got.String())
		}
	})
}

// keys runs the step machine over all of the input.
func keys(in []byte) (send []byte, found []key, actions string) {
	var e escape
	for _, b := range in {
		s, k, a := e.step(b)
		send = append(send, s...)
		if k != keyNone {
			found, actions = append(found, k), actions+a
		}
	}
	return append(send, e.end()...), found, actions
}

func TestEscape(t *testing.T) {
	for _, tt := range []struct {
		in, send string
		keys     []key
	}{
		{"hello\r", "hello\r", nil},
		{"\x05", "\x05", nil},
		{"\x05\x05c.", "\x05", []key{keyLeave}},
		{"a\x05c.b", "ab", []key{keyLeave}},
		{"\x05x\x05c?", "\x05x", []key{keyHelp}},
		{"\x05cl0", "", []key{keyBreak}},
		{"\x05cl1x", "x", []key{keyUnknown}},
		{"\x05cp1\x05cp?", "", []key{keyPower, keyPower}},
		{"\x05cpd\x05cps", "", []key{keyPower, keyPower}},
		{"\x05cpx", "", []key{keyUnknown}},
		{"\x05ct\x05cf\x05cw\x05cs", "", []key{keyTake, keyTake, keyWatch, keyWatch}},
		{"\x05cc", "\x05c", nil},
		{"\x05c", "", nil}, // half a key is not for the node
	} {
		send, found, _ := keys([]byte(tt.in))
		if string(send) != tt.send || !slices.Equal(found, tt.keys) {
			t.Errorf("%q: got %q %v, want %q %v", tt.in, send, found, tt.send, tt.keys)
		}
	}
}

// FuzzEscape: never panics, invents nothing, and passes all that holds no ctrl-e.
func FuzzEscape(f *testing.F) {
	for _, s := range []string{"a", "\x05c.", "\x05\x05\x05", "\x05cp1", "\x05cl"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		send, found, _ := keys(in)
		if len(send) > len(in) || bytes.IndexByte(in, ctrlE) < 0 && (!bytes.Equal(send, in) || len(found) > 0) {
			t.Errorf("%q: got %q %v", in, send, found)
		}
	})
}

func TestFoldedAnswersAreInNaturalOrder(t *testing.T) {
	var b bytes.Buffer
	k := newSink(&b, true)
	for _, n := range []string{"n10", "n2", "n1", "n11"} {
		k.add(n, map[bool]string{true: "on", false: "off"}[n == "n2" || n == "n1"])
	}
	k.add("n3", "two\nlines\n")
	k.add("n4", "two\r\nlines\r\n\r\n")
	k.add("n5", "\n")
	k.end()
	want := "n[1-2]: on\n---------------\nn3\n---------------\ntwo\nlines\n---------------\nn4\n---------------\ntwo\r\nlines\nn[10-11]: off\n"
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

// BenchmarkFold is the figure of the comparison with clush -b and dshbak -c: 2,000 outputs of 1 KB.
func BenchmarkFold(b *testing.B) {
	outputs := make([]string, 2000)
	for i := range outputs {
		outputs[i] = strings.Repeat(fmt.Sprintf("line of text %d\n", i%7), 64)
	}
	for b.Loop() {
		k := newSink(io.Discard, true)
		for i, o := range outputs {
			k.add(fmt.Sprintf("n%d", i), o)
		}
		k.end()
	}
}

func TestPlaybackKeepsPausesButLongOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var record, out bytes.Buffer
		for _, after := range []time.Duration{0, time.Second, 1500 * time.Millisecond, time.Hour} {
			b, _ := json.Marshal(api.ConsoleChunk{Time: fakeStart.Add(after), Data: []byte("x")})
			record.Write(append(b, '\n'))
		}
		began := time.Now()
		if err := playback(t.Context(), &out, &record, 2); err != nil || out.String() != "xxxx" {
			t.Errorf("got %q, %v", out.String(), err)
		}
		if got, want := time.Since(began), 750*time.Millisecond+longestPause; got != want {
			t.Errorf("it took %s, want %s", got, want)
		}
	})
}

func TestTimesAndSizes(t *testing.T) {
	now := time.Date(2026, 11, 20, 6, 0, 0, 0, time.UTC)
	for d, want := range map[time.Duration]string{5 * time.Second: "5s", 90 * time.Second: "1m", 5 * time.Hour: "5h", 47 * time.Hour: "47h", 72 * time.Hour: "3d", -time.Second: "0s"} {
		if got := ago(now.Add(-d), now); got != want {
			t.Errorf("%s: got %s, want %s", d, got, want)
		}
	}
	if got := ago(time.Time{}, now); got != "never" {
		t.Errorf("zero time: %s", got)
	}
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 180_500_000: "180.5 MB", 1 << 62: "4.6 EB"} {
		if got := size(n); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
}

func TestControlCharactersOfMachinesAreNotPrinted(t *testing.T) {
	if got := printable("a\x1b[2Jb\x07\tc\x9b2Jä\u009d"); got != "a[2Jb\tc\ufffd2Jä" {
		t.Errorf("got %q", got)
	}
}

// A full disk behind a redirection is no success.
func TestOutputThatCannotBeWrittenIsNoSuccess(t *testing.T) {
	f := newFake()
	f.nodes["n1"] = &fakeNode{attrs: map[string]string{}, power: "off"}
	socket := filepath.Join(t.TempDir(), "s")
	t.Cleanup(f.serve(t, socket))
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("needs /dev/full: " + err.Error())
	}
	defer full.Close()
	for _, verb := range []string{"power n1", "list", "list --json", "group list", "get n1 --fold"} {
		var told bytes.Buffer
		status := Main(strings.Fields(verb), strings.NewReader(""), full, &told, func(name string) string {
			return map[string]string{"MUSTER_SERVER": "unix:" + socket}[name]
		})
		if want := "muster: standard output: /dev/full: no space left on device. What was written is not all\n"; status != 1 || told.String() != want {
			t.Errorf("%s: exit status %d, told %q", verb, status, told.String())
		}
	}
}

// TestInterruptedJSONHasItsTrailer: a program that reads --json learns from the trailer that it is not all.
func TestInterruptedJSONHasItsTrailer(t *testing.T) {
	var out, told bytes.Buffer
	s := &session{out: &out, err: &told}
	s.flags.json = true
	if err := s.interrupted("power status", 2, 3); !errors.Is(err, errSilent) {
		t.Error(err)
	}
	want := `{"asked":3,"answered":2,"failed":0,"trailer":true,"error":{"code":"failed","what":"power status","why":"interrupted"}}` + "\n"
	if out.String() != want {
		t.Errorf("got %s", out.String())
	}
}

// TestFollowSurvivesARestart: events go on after the service has gone and come back, without loss or double, and ^C is
// how one leaves.
func TestFollowSurvivesARestart(t *testing.T) {
	f := newFake()
	socket := filepath.Join(t.TempDir(), "s")
	stop := f.serve(t, socket)
	say := func(what string) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.tell("r1n1", "test", what, "", false)
	}
	say("one")
	read, write := io.Pipe()
	problems, told := io.Pipe()
	exit := make(chan int)
	go func() {
		exit <- Main([]string{"events", "--follow"}, strings.NewReader(""), write, told, func(name string) string {
			return map[string]string{"MUSTER_SERVER": "unix:" + socket}[name]
		})
		write.Close()
	}()
	lines := bufio.NewScanner(read)
	next := func(want string) {
		t.Helper()
		if !lines.Scan() || !strings.Contains(lines.Text(), " "+want+",") {
			t.Fatalf("got %q, want %s", lines.Text(), want)
		}
	}
	next("one")
	say("two")
	next("two")
	stop()
	if l, _ := bufio.NewReader(problems).ReadString('\n'); l != "muster: the service went away; waiting for it\n" {
		t.Errorf("told %q", l)
	}
	say("three")
	t.Cleanup(f.serve(t, socket))
	next("three")
	if err := syscall.Kill(syscall.Getpid(), syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if got := <-exit; got != 0 {
		t.Errorf("exit status %d", got)
	}
}

func TestWrongNoderangeIsShownOnATerminal(t *testing.T) {
	var err strings.Builder
	s := &session{err: &err, errTerminal: true}
	if e := s.checkRange("n1,n[3-2]"); e == nil || !strings.HasPrefix(e.Error(), "noderange, column 6: ") {
		t.Errorf("got %v", e)
	}
	if want := "  n1,n[3-2]\n       ^\n"; err.String() != want {
		t.Errorf("got\n%swant\n%s", err.String(), want)
	}
	err.Reset()
	s.errTerminal = false
	if e := s.checkRange("n1,n[3-2]"); e == nil || err.Len() > 0 {
		t.Errorf("got %v, %q", e, err.String())
	}
	if e := s.checkRange("n[1-2],compute"); e != nil {
		t.Error(e)
	}
}
