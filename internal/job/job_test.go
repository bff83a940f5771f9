package job

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("MUSTER_JOB_CHILD"); dir != "" { // the process that a test kills
		r := &Runner{Dir: dir}
		fmt.Println(r.Run(context.Background(), "j", []Step{{Name: "s", Script: "echo $$ >" + dir + "/pid; exec sleep 600"}}))
		return
	}
	os.Exit(m.Run())
}

// heard is a runner, and what it tells: one line for each event, without times.
func heard(t *testing.T, r *Runner) *[]string {
	if r.Dir == "" {
		r.Dir = t.TempDir()
	}
	var lines []string
	r.Tell = func(e Event) {
		line := e.Step + " " + string(e.What)
		switch e.What {
		case Printed:
			line += " " + strconv.Quote(string(e.Output))
		case Failed:
			line += fmt.Sprintf(" %d %s", e.Exit, e.Why)
		case Skipped:
			why, _, _ := strings.Cut(e.Why, " 20")
			line += " " + why
		}
		lines = append(lines, line)
	}
	return &lines
}

func same(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestSteps_run_in_order_and_stop_at_the_first_that_fails(t *testing.T) {
	r := new(Runner)
	got := heard(t, r)
	err := r.Run(t.Context(), "j", []Step{
		{Name: "a", Script: "echo one"},
		{Name: "b", Script: "#!/usr/bin/env -S sh -e\necho two >&2; exit 3"},
		{Name: "c", Script: "echo never"},
	})
	same(t, *got, "a begun", `a printed "one\n"`, "a done", "b begun", `b printed "two\n"`, "b failed 3 it ended with exit status 3")
	var e *StepError
	if !errors.As(err, &e) || e.Step != "b" || err.Error() != "step b: it ended with exit status 3" {
		t.Errorf("got %v", err)
	}
}

func TestStep_standard_input_is_closed(t *testing.T) {
	r := new(Runner)
	got := heard(t, r)
	if err := r.Run(t.Context(), "j", []Step{{Name: "a", Script: "cat; echo \"that was all: $?\"; read x || echo none"}, {Name: "b", Script: "echo here"}}); err != nil {
		t.Fatal(err)
	}
	if all := strings.Join(*got, "\n"); !strings.Contains(all, "that was all: 0") || !strings.Contains(all, "none") || !strings.HasSuffix(all, "b done") {
		t.Error(all)
	}
}

// Whatever a step starts ends with it when its time is up: in its process group, in a session of its own, without a parent, deaf to SIGTERM.
func TestStep_is_killed_with_all_that_it_started(t *testing.T) {
	dir := t.TempDir()
	script := `
cd ` + dir + `
trap '' TERM
sh -c 'echo $$ >1; exec sleep 600' &
setsid sh -c 'echo $$ >2; trap "" TERM; while :; do sleep 600; done' &
(setsid sh -c 'echo $$ >3; exec sleep 600' &)
while [ ! -s 1 ] || [ ! -s 2 ] || [ ! -s 3 ]; do sleep 0.01; done
echo ready
while :; do sleep 600; done
`
	r := &Runner{Grace: 100 * time.Millisecond}
	got := heard(t, r)
	began := time.Now()
	err := r.Run(t.Context(), "j", []Step{{Name: "forever", Script: script, Timeout: 3 * time.Second}})
	if err == nil || !strings.Contains(err.Error(), "its time of 3s was up") {
		t.Errorf("got %v", err)
	}
	if took := time.Since(began); took > time.Minute {
		t.Errorf("it took %v", took)
	}
	if len(*got) < 2 || (*got)[1] != `forever printed "ready\n"` {
		t.Errorf("got %q", *got)
	}
	for _, file := range []string{"1", "2", "3"} {
		b, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
		if err != nil {
			t.Fatal(err)
		}
		if alive(pid) {
			t.Errorf("process %s lives on", file)
			_ = syscall.Kill(pid, syscall.SIGKILL) // ours: it wrote its number into our directory
		}
	}
}

// alive says that a process runs; one that is dead and not yet waited for does not.
func alive(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := bytes.Cut(b, []byte(") "))
	return len(rest) > 0 && rest[0] != 'Z' && rest[0] != 'X'
}

func TestStep_that_leaves_a_service_behind_is_not_waited_for(t *testing.T) {
	r := new(Runner)
	heard(t, r)
	dir := t.TempDir()
	if err := r.Run(t.Context(), "j", []Step{{Name: "a", Script: "sleep 600 & echo $! >" + dir + "/pid"}}); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(dir + "/pid")
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || !alive(pid) {
		t.Fatalf("what it left is dead: %v", err)
	}
	_ = syscall.Kill(pid, syscall.SIGKILL)
}

func TestSteps_end_when_the_runner_is_killed(t *testing.T) {
	dir := t.TempDir()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), "MUSTER_JOB_CHILD="+dir)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer c.Process.Kill()
	pid := 0
	for end := time.Now().Add(20 * time.Second); pid == 0 && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		b, _ := os.ReadFile(dir + "/pid")
		pid, _ = strconv.Atoi(strings.TrimSpace(string(b)))
	}
	if pid == 0 {
		t.Fatal("the step did not begin")
	}
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = c.Wait()
	for end := time.Now().Add(20 * time.Second); alive(pid); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the step lives on")
		}
	}
}

func TestPolicies(t *testing.T) {
	dir := t.TempDir()
	run := func(boot string, s Step) string {
		r := &Runner{Dir: dir, Boot: boot}
		got := heard(t, r)
		_ = r.Run(t.Context(), "j", []Step{s})
		return (*got)[len(*got)-1]
	}
	for _, x := range []struct {
		boot string
		step Step
		want string
	}{
		{"1", Step{Name: "once", Script: "false", Policy: Once}, "once failed 1 it ended with exit status 1"},
		{"1", Step{Name: "once", Script: "true", Policy: Once}, "once done"},
		{"2", Step{Name: "once", Script: "true # another", Policy: Once}, "once skipped was done"},
		{"1", Step{Name: "change", Script: "true", Policy: Change}, "change done"},
		{"2", Step{Name: "change", Script: "true", Policy: Change}, "change skipped was done"},
		{"2", Step{Name: "change", Script: "true # another", Policy: Change}, "change done"},
		{"1", Step{Name: "boot", Script: "true", Policy: Boot}, "boot done"},
		{"1", Step{Name: "boot", Script: "true", Policy: Boot}, "boot skipped was done"},
		{"2", Step{Name: "boot", Script: "true", Policy: Boot}, "boot done"},
		{"1", Step{Name: "always", Script: "true"}, "always done"},
		{"1", Step{Name: "always", Script: "true"}, "always done"},
	} {
		if got := run(x.boot, x.step); got != x.want {
			t.Errorf("%+v: got %q, want %q", x.step, got, x.want)
		}
	}
}

func TestStep_is_tried_again(t *testing.T) {
	r := new(Runner)
	got := heard(t, r)
	if err := r.Run(t.Context(), "j", []Step{{Name: "a", Script: `[ "$MUSTER_ATTEMPT" = 2 ]`, Retries: 3}}); err != nil {
		t.Fatal(err)
	}
	same(t, *got, "a begun", "a failed 1 it ended with exit status 1", "a begun", "a done")
}

func TestStep_that_prints_without_end_is_cut(t *testing.T) {
	r := &Runner{MaxOutput: 1000}
	got := heard(t, r)
	if err := r.Run(t.Context(), "j", []Step{{Name: "a", Script: "yes | head -c 5000"}}); err != nil {
		t.Fatal(err)
	}
	if n := len(*got); !strings.Contains((*got)[n-2], "4000 bytes more were not kept") {
		t.Errorf("got %q", (*got)[n-2])
	}
}

func TestStep_without_its_interpreter_says_so(t *testing.T) {
	r := new(Runner)
	heard(t, r)
	err := r.Run(t.Context(), "j", []Step{{Name: "a", Script: "#!/opt/none/python9\n"}})
	if err == nil || !strings.Contains(err.Error(), "there is no /opt/none/python9 on this machine, which its first line names") {
		t.Errorf("got %v", err)
	}
}

func TestStep_knows_nothing_of_our_environment(t *testing.T) {
	t.Setenv("SECRET", "leaks")
	r := &Runner{Env: []string{"MUSTER_NODE=r1n1"}}
	got := heard(t, r)
	if err := r.Run(t.Context(), "j", []Step{{Name: "a", Script: "env"}}); err != nil {
		t.Fatal(err)
	}
	all := strings.Join(*got, "")
	if strings.Contains(all, "leaks") || !strings.Contains(all, "MUSTER_NODE=r1n1") || !strings.Contains(all, "MUSTER_JOB=j") {
		t.Error(all)
	}
}

func TestCheck_tells_all(t *testing.T) {
	err := Check([]Step{
		{Name: "A b", Script: " "}, {Name: "x", Script: "true", Policy: "never", Timeout: -1, Retries: 101}, {Name: "x", Script: "\x00"},
	})
	if err == nil {
		t.Fatal("nothing was said")
	}
	for _, want := range []string{"the name is wrong", "no script", "no policy never", "time limit", "101 retries", "another one of that name", "zero byte"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in %v", want, err)
		}
	}
}

// The library, in every shell that is here.
func TestLibrary(t *testing.T) {
	for _, shell := range []string{"dash", "bash", "busybox sh"} {
		name, arg, _ := strings.Cut(shell, " ")
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		t.Run(shell, func(t *testing.T) {
			dir := t.TempDir()
			r := &Runner{Attrs: map[string]string{"net.boot.address": "10.0.0.7", "net_boot.address": "wrong", "custom.a*b": "a  b=c"}}
			got := heard(t, r)
			err := r.Run(t.Context(), "j", []Step{{Name: "a", Script: "#!" + path + " " + arg + `
. "$MUSTER_LIB"
[ "$(attr net.boot.address)" = 10.0.0.7 ] || fail "address: $(attr net.boot.address)"
[ "$(attr 'custom.a*b')" = 'a  b=c' ] || fail "custom: $(attr 'custom.a*b')"
[ "$(attr none other)" = other ] || fail default
cd ` + dir + `
echo text | put d/f 0600 || fail "put does not say that it changed"
echo text | put d/f && fail "put says that it changed"
[ "$(stat -c %a d/f)" = 600 ] || fail mode
line_in d/f more || fail line_in
line_in d/f more && fail "line_in twice"
[ "$(cat d/f)" = "text
more" ] || fail "content: $(cat d/f)"
have sh || fail have
have no-such-program && fail "have what is not there"
say well
`}})
			if err != nil {
				t.Fatalf("%v\n%s", err, strings.Join(*got, "\n"))
			}
		})
	}
}
