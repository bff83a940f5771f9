package exec

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"muster/internal/bmc"
	"muster/internal/bmc/bmctest"
	"muster/internal/model"
	"muster/internal/need"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const secret = "not-calvin"

func startEngine(tb testing.TB, o Options) *Engine {
	tb.Helper()
	e, err := New(o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = e.Close() })
	return e
}

// script makes a plugin of a shell script that follows a hello.
func script(tb testing.TB, can, text string) string {
	tb.Helper()
	name := filepath.Join(tb.TempDir(), "plugin.sh")
	hello := `{"hello":"bmc","versions":[1],"name":"test","can":["` + strings.ReplaceAll(can, " ", `","`) + `"]}`
	if err := os.WriteFile(name, []byte("#!/bin/sh\necho '"+hello+"'\n"+text), 0o755); err != nil {
		tb.Fatal(err)
	}
	return name
}

// opened is the beginning of most: the target is accepted.
const opened = "read line; echo '{\"id\":1}'\n"

func example(tb testing.TB, name string) string {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join("../../../packaging/plugins", name))
	if err != nil {
		tb.Fatal(err)
	}
	p := filepath.Join(tb.TempDir(), name) // what it keeps is beside it
	if err := os.WriteFile(p, b, 0o755); err != nil {
		tb.Fatal(err)
	}
	return p
}

func target(program string) bmc.Target {
	return bmc.Target{Node: "r1n1", Program: program, Address: "10.1.9.4", User: "admin", Password: model.NewSecret(secret)}
}

func wantError(t *testing.T, err error, kind bmc.Kind, parts ...string) {
	t.Helper()
	var e *bmc.Error
	if !errors.As(err, &e) || e.Kind != kind {
		t.Fatalf("got %v; want kind %s", err, kind)
	}
	for _, p := range parts {
		if !strings.Contains(e.Error(), p) {
			t.Errorf("got %q; want %q in it", e, p)
		}
	}
	if strings.Contains(e.Error(), secret) {
		t.Errorf("%q shows the password", e)
	}
}

func TestExamples_conform(t *testing.T) {
	for name, want := range map[string][]string{
		"example.sh": {"power status", "power off and on", "power reset", "boot device network, for every boot, uefi", "info"},
		"example.py": {
			"power status", "power off and on", "power diag", "boot device network, for every boot, uefi", "info", "sensors", "event log", "clear event log", "inventory",
			"settings", "unknown setting", "firmware", "raw request that is none", "identify", "serial line",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if strings.HasSuffix(name, ".py") {
				needPython(t)
			}
			passed := map[string]bool{}
			err := Test(t.Context(), example(t, name), func(name string, err error) {
				passed[name] = err == nil
				if err != nil && !errors.Is(err, bmctest.ErrNotOffered) {
					t.Errorf("%s: %v", name, err)
				}
			})
			if err != nil {
				t.Error(err)
			}
			for _, w := range want {
				if !passed[w] {
					t.Errorf("%s did not pass", w)
				}
			}
		})
	}
}

func TestTest_tells_when_there_is_no_plugin(t *testing.T) {
	err := Test(t.Context(), "/etc/passwd", func(name string, err error) { t.Errorf("%s: %v", name, err) })
	wantError(t, err, bmc.Invalid, "/etc/passwd cannot be started: permission denied")
}

func needPython(t *testing.T) {
	t.Helper()
	if err := exec.Command("/usr/bin/env", append([]string{"-i"}, append(environment, "python3", "-c", "pass")...)...).Run(); err != nil {
		need.Lack(t, "needs python3: apt-get install python3-minimal")
	}
}

func TestExample_in_python_does_all(t *testing.T) {
	needPython(t)
	at := target(example(t, "example.py"))
	d := startEngine(t, Options{}).Open(at)
	var steps []string
	err := d.UpdateFirmware(t.Context(), bmc.Update{Image: bytes.NewReader([]byte("2.0\nrest")), Size: 8, Progress: func(s string, p int) { steps = append(steps, fmt.Sprint(s, p)) }})
	if err != nil || !slices.Equal(steps, []string{"install0", "install50", "install100"}) {
		t.Errorf("%v, %q", err, steps)
	}
	if f, err := d.Firmware(t.Context()); err != nil || !slices.Equal(f, []bmc.Firmware{{Name: "BMC", Version: "2.0", Updatable: true}}) {
		t.Errorf("%v, %v", f, err)
	}
	if pending, err := d.Set(t.Context(), []bmc.Setting{{Name: "lan.gateway", Value: "10.1.0.9"}}); err != nil || len(pending) > 0 {
		t.Errorf("%v %v", pending, err)
	}
	if s, err := d.Settings(t.Context()); err != nil || s[1].Value != "10.1.0.9" {
		t.Errorf("%v, %v", s, err)
	}
	line, err := d.Serial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := line.Write([]byte("root\r")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len("login: root\r"))
	if _, err := io.ReadFull(line, got); err != nil || string(got) != "login: root\r" {
		t.Errorf("%q %v", got, err)
	}
	_ = d.Close()
	if _, err := line.Read(got); err != io.EOF {
		t.Errorf("after Close: %v", err)
	}

	ctx, stop := context.WithCancel(t.Context())
	end := make(chan error, 1)
	var seen bmc.LogEntry
	file := at.Program + ".d/r1n1"
	go func() { end <- d.Watch(ctx, func(e bmc.LogEntry) { seen = e; stop() }) }()
	for n := 0; ctx.Err() == nil; n++ { // what was there before it began to watch is no event
		state := fmt.Sprintf(`{"log":[{"id":"e%d","text":"PSU 2 lost its input","health":"critical"}]}`, n)
		if err := errors.Join(os.WriteFile(file+".t", []byte(state), 0o600), os.Rename(file+".t", file)); err != nil {
			t.Fatal(err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(300 * time.Millisecond):
		}
	}
	if err := <-end; err != nil || seen.Text != "PSU 2 lost its input" || seen.Health != bmc.Critical {
		t.Errorf("%+v %v", seen, err)
	}
}

// What a program gets is what it needs: nothing of the manager's environment, and secrets on stdin alone.
func TestProgram_gets_a_clean_environment(t *testing.T) {
	t.Setenv("MUSTER_TEST_SECRET", "of the manager")
	dir := t.TempDir()
	p := script(t, "power", `read line
printf '%s' "$line" >`+dir+`/stdin
tr '\0' '\n' </proc/self/environ >`+dir+`/env
tr '\0' ' ' </proc/$$/cmdline >`+dir+`/args
ls -l /proc/$$/fd >`+dir+`/files
echo '{"id":1}'
read line; echo '{"id":2,"answer":"on"}'
`)
	if s, err := startEngine(t, Options{}).Open(target(p)).Power(t.Context()); err != nil || s != bmc.PowerOn {
		t.Fatal(s, err)
	}
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if env := read("env"); strings.Contains(env, "MUSTER") || strings.Contains(env, secret) || !strings.Contains(env, "PATH=/usr/local/sbin:") {
		t.Errorf("environment: %s", env)
	}
	if args := strings.TrimSpace(read("args")); args != "/bin/sh "+p {
		t.Errorf("arguments: %s", args)
	}
	if in := read("stdin"); !strings.Contains(in, `"password":"`+secret+`"`) {
		t.Errorf("stdin: %s", in)
	}
	for line := range strings.Lines(read("files")) {
		if _, what, ok := strings.Cut(line, " -> "); ok && !strings.HasPrefix(what, "pipe:") && !strings.HasPrefix(what, "/dev/null") && !strings.HasPrefix(what, dir) && strings.TrimSpace(what) != p {
			t.Errorf("the program has open %s", line)
		}
	}
}

// A program that hangs is killed with its children, and the next request starts another.
func TestProgram_that_hangs_is_killed_with_its_children(t *testing.T) {
	dir := t.TempDir()
	p := script(t, "power", opened+`if [ -e `+dir+`/second ]; then read line; echo '{"id":2,"answer":"off"}'; read line; fi
touch `+dir+`/second
sleep 1000 & echo $! >`+dir+`/child
wait
`)
	d := startEngine(t, Options{Timeout: 500 * time.Millisecond}).Open(target(p))
	_, err := d.Power(t.Context())
	wantError(t, err, bmc.Timeout, "plugin plugin.sh did not answer in time", "muster plugin test")
	b, err := os.ReadFile(filepath.Join(dir, "child"))
	if err != nil {
		t.Fatal(err)
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(stat), ") Z ") {
			break
		}
		if time.Now().After(deadline) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			t.Fatal("the child lives")
		}
	}
	if s, err := d.Power(t.Context()); err != nil || s != bmc.PowerOff {
		t.Errorf("the next: %q %v", s, err)
	}
}

func TestProgram_that_does_not_keep_to_the_contract(t *testing.T) {
	dir := t.TempDir()
	plain := func(name, text string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
		return p
	}
	e := startEngine(t, Options{Timeout: 10 * time.Second})
	for name, c := range map[string]struct {
		program string
		kind    bmc.Kind
		want    string
	}{
		"no path":        {"plugin.sh", bmc.Invalid, "bmc.plugin is no absolute path"},
		"no program":     {"/nonexistent/plugin", bmc.Invalid, "no such file"},
		"no hello":       {plain("a", "#!/bin/sh\necho hello\nread x\n"), bmc.Failed, `no hello but "hello"`},
		"another hello":  {plain("b", "#!/bin/sh\necho '{\"hello\":\"hook\"}'\nread x\n"), bmc.Failed, `hello is "hook"`},
		"other versions": {plain("c", "#!/bin/sh\necho '{\"hello\":\"bmc\",\"versions\":[7]}'\nread x\n"), bmc.Failed, "versions [7]"},
		"ends":           {script(t, "power", opened+"echo oops the password is "+secret+" >&2\nexit 1\n"), bmc.Failed, "saying: oops the password is ********"},
		"closes stdout":  {script(t, "power", opened+"exec >&-\nsleep 1000\n"), bmc.Failed, "ended without an answer"},
		"wrong id":       {script(t, "power", opened+"read x\necho '{\"id\":7,\"answer\":\"on\"}'\nread x\n"), bmc.Failed, "to power it says"},
		"wrong answer":   {script(t, "power", opened+"read x\necho '{\"id\":2,\"answer\":\"maybe\"}'\nread x\n"), bmc.Failed, "neither on nor off"},
		"wrong type":     {script(t, "power", opened+"read x\necho '{\"id\":2,\"answer\":[1]}'\nread x\n"), bmc.Failed, "to power it answers"},
		"no reason":      {script(t, "power", opened+"read x\necho '{\"id\":2,\"error\":{\"kind\":\"bad\"}}'\nread x\n"), bmc.Failed, "does not say why"},
		"busy":           {script(t, "power", opened+"read x\necho '{\"id\":2,\"error\":{\"kind\":\"busy\",\"why\":\"the bus "+secret+" is taken\",\"do\":\"Wait\"}}'\nread x\n"), bmc.Busy, "the bus ******** is taken. Wait"},
		"not able":       {script(t, "sensors", opened+"read x\n"), bmc.Unsupported, "plugin test cannot do that"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := e.Open(target(c.program)).Power(t.Context())
			wantError(t, err, c.kind, c.want)
		})
	}
}

// There are never more processes than allowed, and each request gets its turn.
func TestProcesses_are_bounded_and_shared(t *testing.T) {
	dir := t.TempDir()
	p := script(t, "power", opened+`echo x >>`+dir+`/started
i=1
while read line; do i=$((i+1)); echo "{\"id\":$i,\"answer\":\"on\"}"; done
`)
	e := startEngine(t, Options{Processes: 3, Idle: time.Hour})
	var all sync.WaitGroup
	for n := range 12 {
		node := target(p)
		node.Node = model.NodeName(fmt.Sprintf("n%d", n))
		all.Go(func() {
			for range 3 {
				if s, err := e.Open(node).Power(t.Context()); err != nil || s != bmc.PowerOn {
					t.Errorf("%s: %q %v", node.Node, s, err)
				}
				e.mu.Lock()
				if n := len(e.running); n > 3 {
					t.Errorf("%d run; want 3 at most", n)
				}
				e.mu.Unlock()
			}
		})
	}
	all.Wait()
	one := target(p)
	for range 5 {
		if _, err := e.Open(one).Power(t.Context()); err != nil {
			t.Error(err)
		}
	}
	before, _ := os.ReadFile(filepath.Join(dir, "started"))
	if _, err := e.Open(one).Power(t.Context()); err != nil {
		t.Error(err)
	}
	if after, _ := os.ReadFile(filepath.Join(dir, "started")); len(after) != len(before) {
		t.Error("a process that is in use is started anew")
	}
}

func TestWatch(t *testing.T) {
	p := script(t, "watch", opened+`read line; echo '{"id":2}'
echo '{"event":{"id":"1","text":"Fan 1 has failed","health":"critical"}}'
echo '{"end":"the bus is gone"}'
read line
`)
	var seen []bmc.LogEntry
	err := startEngine(t, Options{}).Open(target(p)).Watch(t.Context(), func(e bmc.LogEntry) { seen = append(seen, e) })
	wantError(t, err, bmc.Lost, "the bus is gone")
	if want := (bmc.LogEntry{ID: "1", Text: "Fan 1 has failed", Health: bmc.Critical}); len(seen) != 1 || seen[0] != want {
		t.Errorf("%+v", seen)
	}
}

func FuzzLine(f *testing.F) {
	f.Add([]byte(`{"id":2,"answer":"on"}`))
	f.Add([]byte(`{"id":2,"error":{"kind":"busy","why":"x"},"progress":{"percent":7},"event":{"time":"2026-03-01T00:00:00Z"},"data":"bG9naW4="}`))
	p := &process{secret: secret}
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := parse(data)
		if err != nil || l.Error == nil {
			return
		}
		var e *bmc.Error
		if !errors.As(p.judge(l), &e) || e.Why == "" || e.Kind == "" || strings.Contains(e.Error(), secret) {
			t.Errorf("%+v", e)
		}
	})
}
