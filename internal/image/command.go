package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
)

// StepError is a step of a build that did not end well. Tail holds the last lines that its command printed.
type StepError struct {
	Step string
	Err  error
	Tail []string
}

func (e *StepError) Error() string {
	msg := "image build, step " + e.Step + ": " + e.Err.Error()
	if len(e.Tail) > 0 {
		msg += ". Its last lines:\n  " + strings.Join(e.Tail, "\n  ")
	}
	return msg
}

func (e *StepError) Unwrap() error { return e.Err }

// tailLines is how many lines of a failing command are shown.
const tailLines = 12

// lines passes what a command prints on, line by line, and keeps the last ones.
type lines struct {
	mu   sync.Mutex
	part []byte
	tail []string
	log  io.Writer
	each func(line string)
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.part = append(l.part, p...)
	for {
		line, rest, ok := bytes.Cut(l.part, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		l.line(string(line))
		l.part = append(l.part[:0], rest...)
	}
}

func (l *lines) line(s string) {
	// A progress bar draws over itself: its last form counts.
	s = strings.TrimRight(s, "\r ")
	if i := strings.LastIndexByte(s, '\r'); i >= 0 {
		s = s[i+1:]
	}
	if s == "" {
		return
	}
	fmt.Fprintln(l.log, s)
	l.tail = append(l.tail, s)
	if len(l.tail) > tailLines {
		l.tail = l.tail[1:]
	}
	if l.each != nil {
		l.each(s)
	}
}

func (l *lines) end() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.part) > 0 {
		l.line(string(l.part))
		l.part = nil
	}
	return l.tail
}

// run runs a command to its end. Its children end with it, and it ends with us: a build that is killed leaves no process
// behind. each hears every line that it prints; stdin may be nil.
func (b *build) run(ctx context.Context, stdin io.Reader, each func(string), env []string, name string, args ...string) error {
	if _, err := exec.LookPath(name); err != nil {
		return fmt.Errorf("%s is not installed. Install it: apt-get install %s", name, debianPackageOf(name))
	}
	fmt.Fprintf(b.log, "# %s %s\n", name, strings.Join(args, " "))
	program := name
	if os.Geteuid() == 0 {
		// In a process namespace of its own all the command's children end when it does.
		args = append([]string{"--pid", "--fork", "--kill-child", "--mount-proc", "--", name}, args...)
		name = "unshare"
	}
	cmd := b.o.Command(ctx, name, args...)
	out := &lines{log: b.log, each: each}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, out, out
	cmd.Env = append(append(os.Environ(), "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive"), env...)
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	// The signal comes when the thread that started the child ends: this one lives until the child does.
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := cmd.Run()
	tail := out.end()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%s ended with %s", program, exit.ProcessState)
	}
	return &StepError{Err: err, Tail: tail}
}

func debianPackageOf(tool string) string {
	switch tool {
	case "mksquashfs":
		return "squashfs-tools"
	case "unshare":
		return "util-linux"
	}
	return tool
}
