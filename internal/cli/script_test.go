package cli

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Exit(Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.Getenv))
	}
	testscript.Main(m, map[string]func(){
		"muster": func() { os.Exit(Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.Getenv)) },
	})
}

// TestScripts runs testdata/script/*.txt against a double of the service. Each has a world of its own; $MUSTER_SERVER is
// its socket. Besides the commands of testscript there are:
//
//	status N COMMAND…          the command ends with exit status N
//	terminal N FILE COMMAND…   the same with all streams on one terminal; FILE is typed at the first question
//	sent TEXT                  the service got it: a secret, or an entry of a copy
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("..", "..", "testdata", "script"),
		Setup: func(env *testscript.Env) error {
			f := newFake()
			socket := filepath.Join(env.WorkDir, "s")
			env.Defer(f.serve(t, socket))
			env.Setenv("MUSTER_SERVER", "unix:"+socket)
			env.Setenv("TZ", "UTC")
			env.Values["fake"] = f
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"status": func(ts *testscript.TestScript, _ bool, args []string) {
				wantStatus(ts, args[0], ts.Exec(args[1], args[2:]...))
			},
			"terminal": func(ts *testscript.TestScript, _ bool, args []string) {
				out, err := onTerminal(ts, ts.ReadFile(args[1]), args[2:])
				_, _ = io.WriteString(ts.Stdout(), strings.ReplaceAll(out, "\r\n", "\n"))
				wantStatus(ts, args[0], err)
			},
			"sent": func(ts *testscript.TestScript, neg bool, args []string) {
				f := ts.Value("fake").(*fake)
				f.mu.Lock()
				defer f.mu.Unlock()
				if slices.Contains(f.asked, args[0]) == neg {
					ts.Fatalf("sent %q: the service got %q", args[0], f.asked)
				}
			},
		},
	})
}

func wantStatus(ts *testscript.TestScript, want string, err error) {
	got := 0
	var exit interface{ ExitCode() int }
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if strconv.Itoa(got) != want {
		ts.Fatalf("exit status %d, want %s", got, want)
	}
}

// onTerminal runs a command with a terminal of its own.
func onTerminal(ts *testscript.TestScript, typed string, args []string) (string, error) {
	name := ""
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		if p := filepath.Join(dir, args[0]); name == "" && exists(p) {
			name = p
		}
	}
	c := exec.Command(name, args[1:]...)
	c.Dir = ts.Getenv("WORK")
	for _, v := range []string{"PATH", "MUSTER_SERVER", "TZ", "HOME", "WORK"} {
		c.Env = append(c.Env, v+"="+ts.Getenv(v))
	}
	x, err := startTerminal(c)
	if err != nil {
		return "", err
	}
	if strings.TrimSpace(typed) != "" {
		if !x.expect("] ") {
			return x.shown(), errors.New("it did not ask")
		}
		x.typed(typed)
	}
	if status := x.end(); status != 0 {
		return x.shown(), &exitStatus{status}
	}
	return x.shown(), nil
}

type exitStatus struct{ status int }

func (e *exitStatus) Error() string { return "exit status " + strconv.Itoa(e.status) }
func (e *exitStatus) ExitCode() int { return e.status }

func exists(path string) bool { _, err := os.Stat(path); return err == nil }
