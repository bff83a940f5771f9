package job

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// marker is a variable in the environment of a step and of all that it starts: by it they are found, also those that left its process group.
const marker = "MUSTER_STEP_ID"

// lingering is how long a step that has ended may keep its output open by what it left behind.
const lingering = 2 * time.Second

// once makes one attempt. why is empty when it ended well.
func (r *Runner) once(ctx context.Context, name string, s Step, attempt int) (exit int, why string) {
	dir, err := r.room(s)
	if err != nil {
		return 0, err.Error()
	}
	defer os.RemoveAll(dir)
	limit := s.Timeout
	if limit == 0 {
		limit = DefaultTimeout
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("its time of %v was up: it was killed with all that it had started", limit))
	defer cancel()

	inside := strings.TrimPrefix(dir, strings.TrimRight(r.Root, "/"))
	id := filepath.Base(dir)
	args := append(interpreter(s.Script), filepath.Join(inside, "script"))
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = "/"
	cmd.Env = append([]string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive",
		"MUSTER_JOB=" + name, "MUSTER_STEP=" + s.Name, "MUSTER_ATTEMPT=" + strconv.Itoa(attempt),
		"MUSTER_LIB=" + filepath.Join(inside, "lib.sh"), "MUSTER_ATTRS=" + filepath.Join(inside, "attrs"), marker + "=" + id,
	}, r.Env...)
	out := &output{r: r, e: Event{Step: s.Name, What: Printed, Attempt: attempt}, left: r.MaxOutput}
	if out.left == 0 {
		out.left = 16 << 20
	}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Chroot: r.Root, Pdeathsig: syscall.SIGKILL}
	grace := r.Grace
	if grace == 0 {
		grace = 5 * time.Second
	}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = max(grace, lingering)

	// The signal at our death comes when the thread ends that started the step: this one lives until the step does.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return 127, notStarted(args[0], err)
	}
	err = cmd.Wait()
	if ctx.Err() != nil {
		killAll(cmd.Process.Pid, id)
	}
	out.end()
	var ended *exec.ExitError
	switch {
	case ctx.Err() != nil:
		if errors.As(err, &ended) {
			exit = status(ended)
		}
		return exit, context.Cause(ctx).Error()
	case errors.As(err, &ended):
		return status(ended), "it ended with " + ended.ProcessState.String()
	case errors.Is(err, exec.ErrWaitDelay): // it ended well, and something that it left holds its output
		return 0, ""
	case err != nil:
		return 0, err.Error()
	}
	return 0, ""
}

func notStarted(program string, err error) string {
	if errors.Is(err, os.ErrNotExist) {
		return "there is no " + program + " on this machine, which its first line names"
	}
	return err.Error()
}

func status(e *exec.ExitError) int {
	if w, ok := e.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		return 128 + int(w.Signal())
	}
	return e.ExitCode()
}

// interpreter is the program that runs a script, with its argument: Linux gives all that follows the name as one (execve(2)). Asked for
// in this way, a script may lie where nothing may be executed.
func interpreter(script string) []string {
	line, _, _ := strings.Cut(script, "\n")
	line, ok := strings.CutPrefix(line, "#!")
	program, arg, _ := strings.Cut(strings.TrimSpace(line), " ")
	if !ok || program == "" {
		return []string{"/bin/sh"}
	}
	if arg = strings.TrimSpace(arg); arg != "" {
		return []string{program, arg}
	}
	return []string{program}
}

// killAll ends a step's process group and whatever has its marker, until nothing is found any more; a program that makes others faster than they
// are killed is given up after some seconds.
func killAll(group int, id string) {
	_ = syscall.Kill(-group, syscall.SIGKILL)
	want := []byte(marker + "=" + id)
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
		found := false
		dirs, _ := filepath.Glob("/proc/[0-9]*")
		for _, d := range dirs {
			env, err := os.ReadFile(filepath.Join(d, "environ"))
			if err != nil || !hasVariable(env, want) {
				continue
			}
			if pid, err := strconv.Atoi(filepath.Base(d)); err == nil && syscall.Kill(pid, syscall.SIGKILL) == nil {
				found = true
			}
		}
		if !found {
			return
		}
		runtime.Gosched()
	}
}

func hasVariable(env, want []byte) bool {
	for v := range bytes.SplitSeq(env, []byte{0}) {
		if bytes.Equal(v, want) {
			return true
		}
	}
	return false
}

// output passes on what a step prints, up to a limit.
type output struct {
	mu   sync.Mutex
	r    *Runner
	e    Event
	left int64
	cut  int64 // bytes that were not passed on
	over bool
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.over {
		return len(p), nil
	}
	n := min(int64(len(p)), o.left)
	o.left -= n
	o.cut += int64(len(p)) - n
	if n > 0 {
		e := o.e
		e.Output = bytes.Clone(p[:n])
		o.r.tell(e)
	}
	return len(p), nil
}

// end says how much was left out. What comes later is nobody's.
func (o *output) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.over = true
	if o.cut > 0 {
		e := o.e
		e.Output = fmt.Appendf(nil, "\n[muster: %d bytes more were not kept]\n", o.cut)
		o.r.tell(e)
	}
}
