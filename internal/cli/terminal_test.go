package cli

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// asProgram makes the test binary be muster.
const asProgram = "MUSTER_TEST_AS_PROGRAM"

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

// terminal is a program on a terminal, and all that it has shown.
type terminal struct {
	cmd   *exec.Cmd
	f     *os.File
	ended chan struct{}

	mu   sync.Mutex
	more *sync.Cond
	out  strings.Builder
	seen int
	over bool
}

// startTerminal runs a command with all its streams on a new terminal.
func startTerminal(c *exec.Cmd) (*terminal, error) {
	f, err := pty.Start(c)
	if err != nil {
		return nil, err
	}
	x := &terminal{cmd: c, f: f, ended: make(chan struct{})}
	x.more = sync.NewCond(&x.mu)
	go func() {
		defer close(x.ended)
		b := make([]byte, 4096)
		for {
			n, err := f.Read(b)
			x.mu.Lock()
			x.out.Write(b[:n])
			x.over = err != nil // EIO when the last one closes it
			x.more.Broadcast()
			x.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return x, nil
}

// expect waits until the text has been shown, behind what was expected before.
func (x *terminal) expect(text string) bool {
	late := time.AfterFunc(patience, func() { x.mu.Lock(); x.over = true; x.more.Broadcast(); x.mu.Unlock() })
	defer late.Stop()
	x.mu.Lock()
	defer x.mu.Unlock()
	for {
		if i := strings.Index(x.out.String()[x.seen:], text); i >= 0 {
			x.seen += i + len(text)
			return true
		}
		if x.over {
			return false
		}
		x.more.Wait()
	}
}

func (x *terminal) shown() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.out.String()
}

func (x *terminal) typed(text string) { _, _ = io.WriteString(x.f, text) }

// echo says whether the terminal shows what is typed, and whether it gathers lines: both are off in raw mode.
func (x *terminal) echo() (echo, lines bool) {
	t, err := unix.IoctlGetTermios(int(x.f.Fd()), unix.TCGETS)
	return err == nil && t.Lflag&unix.ECHO != 0, err == nil && t.Lflag&unix.ICANON != 0
}

// until waits for a state that nothing tells of.
func until(cond func() bool) bool {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for late := time.After(patience); !cond(); {
		select {
		case <-late:
			return false
		case <-tick.C:
		}
	}
	return true
}

// end waits for the end of the program and returns its exit status.
func (x *terminal) end() int {
	err := x.cmd.Wait()
	_ = x.f.SetDeadline(time.Now().Add(patience))
	<-x.ended
	x.f.Close()
	if e, ok := err.(*exec.ExitError); ok {
		return e.ExitCode()
	}
	return 0
}

// onFake runs muster on a terminal beside a double of the service.
func onFake(t *testing.T, args ...string) (*terminal, *fake) {
	t.Helper()
	f := newFake()
	f.nodes["r1n1"] = &fakeNode{attrs: map[string]string{}, power: "off"}
	f.nodes["r1n2"] = &fakeNode{attrs: map[string]string{}, power: "off"}
	socket := filepath.Join(t.TempDir(), "s")
	t.Cleanup(f.serve(t, socket))
	c := exec.Command(os.Args[0], args...)
	c.Env = append(os.Environ(), asProgram+"=1", "MUSTER_SERVER=unix:"+socket)
	x, err := startTerminal(c)
	if err != nil {
		t.Skip("no terminal here: ", err)
	}
	t.Cleanup(func() { _ = c.Process.Kill(); x.f.Close() })
	return x, f
}

// typedAt is the next that a console received.
func typedAt(t *testing.T, f *fake) string {
	t.Helper()
	select {
	case s := <-f.typed:
		return s
	case <-time.After(patience):
		t.Fatal("the console received nothing")
	}
	return ""
}

func TestConsoleOnTerminal(t *testing.T) {
	x, f := onFake(t, "console", "r1n1")
	if !x.expect("leave: ctrl-e c .") || !x.expect("connected") || !x.expect("login: ") {
		t.Fatalf("shown: %q", x.shown())
	}
	if echo, lines := x.echo(); echo || lines {
		t.Errorf("the terminal echoes (%t) or gathers lines (%t) at a console", echo, lines)
	}
	for _, tt := range []struct{ typed, received, shown string }{
		{"ab", "ab", "AB"},
		{"\x03", "\x03", "\x03"},            // ^C is the node's
		{"\x05x", "\x05x", "\x05X"},         // a ctrl-e that begins no key
		{"\x05cl0", "<break>", "did break"}, // our keys
		{"\x05ct", "<take>", "did take"},
		{"\x05cc", "\x05c", "\x05C"},
		{"\x05c?", "", "take over the typing"},
		{"\x05cz", "", "no such key"},
		{"\x05cp1", "", "power on"},
	} {
		x.typed(tt.typed)
		if tt.received != "" {
			if got := typedAt(t, f); got != tt.received {
				t.Errorf("typed %q: the console received %q, want %q", tt.typed, got, tt.received)
			}
		}
		if !x.expect(tt.shown) {
			t.Errorf("typed %q: want %q shown, in %q", tt.typed, tt.shown, x.shown())
		}
	}
	if !until(func() bool { f.mu.Lock(); defer f.mu.Unlock(); return f.nodes["r1n1"].power == "on" }) {
		t.Error("the node is not on")
	}
	x.typed("\x05cw")
	if !x.expect("watch only") {
		t.Errorf("shown: %q", x.shown())
	}
	x.typed("unheard\x05c.")
	if got := typedAt(t, f); got != "end" {
		t.Errorf("the console received %q from one who only watches", got)
	}
	if status := x.end(); status != 0 {
		t.Errorf("exit status %d: %q", status, x.shown())
	}
}

func TestConsoleWhereAnotherTypes(t *testing.T) {
	for _, tt := range []struct{ answer, received, shown string }{
		{"y", "<take>", "typing: root (uid 0)"},
		{"n", "", "watch only; ctrl-e c t takes over the typing"},
		{"z", "", "watch only; ctrl-e c t takes over the typing"},
	} {
		t.Run(tt.answer, func(t *testing.T) {
			x, f := onFake(t, "console", "r1n2")
			if !x.expect("typing: ann. Take over the typing? y or n") {
				t.Fatalf("shown: %q", x.shown())
			}
			x.typed(tt.answer)
			if tt.received != "" && typedAt(t, f) != tt.received {
				t.Errorf("the console did not receive %q", tt.received)
			}
			if !x.expect(tt.shown) {
				t.Fatalf("shown: %q", x.shown())
			}
			if tt.received == "" { // nothing is typed; later the person wants it after all
				x.typed("unheard\x05ct")
				if got := typedAt(t, f); got != "<take>" || !x.expect("typing: root (uid 0)") {
					t.Errorf("the console received %q; shown: %q", got, x.shown())
				}
			}
			x.typed("ab")
			if got := typedAt(t, f); got != "ab" {
				t.Errorf("the console received %q", got)
			}
			x.typed("\x05c.")
			if status := x.end(); status != 0 {
				t.Errorf("exit status %d: %q", status, x.shown())
			}
		})
	}
}

// keeper holds the terminal of the test open, to look at it when the program has ended.
func keeper(t *testing.T, x *terminal) {
	t.Helper()
	tty, err := os.OpenFile(ptsName(t, x.f), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tty.Close() })
}

func ptsName(t *testing.T, f *os.File) string {
	t.Helper()
	n, err := unix.IoctlGetInt(int(f.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join("/dev/pts", strconv.Itoa(n))
}

func TestConsoleGivesTheTerminalBack(t *testing.T) {
	for _, tt := range []struct {
		name   string
		end    func(x *terminal)
		status int
	}{
		{"on leaving", func(x *terminal) { x.typed("\x05c.") }, 0},
		{"when the service ends it", func(x *terminal) { x.typed("bye") }, 1},
		{"on SIGTERM", func(x *terminal) { _ = x.cmd.Process.Signal(syscall.SIGTERM) }, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x, _ := onFake(t, "console", "r1n1")
			keeper(t, x)
			if !x.expect("login: ") {
				t.Fatalf("shown: %q", x.shown())
			}
			tt.end(x)
			err := x.cmd.Wait()
			if echo, lines := x.echo(); !echo || !lines {
				t.Errorf("the terminal does not echo (%t) or gather lines (%t): %q", echo, lines, x.shown())
			}
			if got := x.cmd.ProcessState.ExitCode(); got != tt.status {
				t.Errorf("exit status %d, want %d (%v): %q", got, tt.status, err, x.shown())
			}
		})
	}
}

func TestSecretIsNotShown(t *testing.T) {
	x, f := onFake(t, "set", "r1n1", "bmc.password=-")
	if !x.expect("bmc.password: ") || !until(func() bool { echo, _ := x.echo(); return !echo }) {
		t.Fatalf("shown: %q", x.shown())
	}
	x.typed("geheim\n")
	if status := x.end(); status != 0 || strings.Contains(x.shown(), "geheim") {
		t.Errorf("exit status %d, shown %q", status, x.shown())
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.asked) != 1 || f.asked[0] != "bmc.password geheim" {
		t.Errorf("the service got %q", f.asked)
	}
}

func TestInterruptedPromptGivesTheEchoBack(t *testing.T) {
	x, f := onFake(t, "set", "r1n1", "bmc.password=-")
	keeper(t, x)
	if !x.expect("bmc.password: ") || !until(func() bool { echo, _ := x.echo(); return !echo }) {
		t.Fatalf("shown: %q", x.shown())
	}
	x.typed("\x03")
	_ = x.cmd.Wait()
	if echo, _ := x.echo(); !echo || x.cmd.ProcessState.ExitCode() != 1 || !x.expect("interrupted") {
		t.Errorf("echo %t, exit status %d, shown %q", echo, x.cmd.ProcessState.ExitCode(), x.shown())
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.asked) != 0 {
		t.Errorf("the service got %q", f.asked)
	}
}

func TestInterruptSaysHowManyAnswered(t *testing.T) {
	f := newFake()
	for _, n := range []string{"n1", "n2", "n3"} {
		f.nodes[n] = &fakeNode{attrs: map[string]string{}, power: "off"}
	}
	f.nodes["n3"].attrs["custom.fate"] = "hang"
	socket := filepath.Join(t.TempDir(), "s")
	t.Cleanup(f.serve(t, socket))
	c := exec.Command(os.Args[0], "power", "n[1-3]")
	c.Env = append(os.Environ(), asProgram+"=1", "MUSTER_SERVER=unix:"+socket)
	x, err := startTerminal(c)
	if err != nil {
		t.Skip("no terminal here: ", err)
	}
	// The line of progress is on the terminal, and is taken away.
	if !x.expect("power status … 2 of 3") {
		t.Fatalf("shown: %q", x.shown())
	}
	x.typed("\x03")
	if !x.expect("\r\x1b[Kn[1-2]: off") || !x.expect("power status: interrupted: 2 of 3 answered") {
		t.Errorf("shown: %q", x.shown())
	}
	if status := x.end(); status != 1 {
		t.Errorf("exit status %d", status)
	}
}
