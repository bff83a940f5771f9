package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// far runs a command of an administrator who reaches the pool over the network only: all managers are named, in this order.
func (p *pool) far(identity string, order []int, args ...string) (stdout, stderr string, exit int) {
	p.t.Helper()
	var servers []string
	for _, i := range order {
		servers = append(servers, "https://"+p.addr(i)+":7443")
	}
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", p.hub(), muster}, args...)...)
	c.Env = append(os.Environ(), "MUSTER_SERVER="+strings.Join(servers, ","), "MUSTER_IDENTITY="+identity)
	var out, errs strings.Builder
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		p.t.Fatal(err)
	}
	return out.String(), errs.String(), c.ProcessState.ExitCode()
}

func TestPool_clients(t *testing.T) {
	p := newPool(t, 3)
	a := p.managers[0]
	a.must("node", "add", "w[1-4]", "group=load", "--yes")
	p.ip("-n", p.hub(), "address", "add", hubAddr+"/24", "dev", "br0")
	identity := filepath.Join(a.data, "keys", "admin.pem")
	if _, err := os.Stat(identity); err != nil {
		found, _ := filepath.Glob(filepath.Join(a.data, "keys", "*"))
		t.Fatal(found)
	}
	all := []int{0, 1, 2}
	works := func(what string, order []int, args ...string) (stdout, stderr string, took time.Duration) {
		t.Helper()
		began := time.Now()
		stdout, stderr, exit := p.far(identity, order, args...)
		if exit != 0 {
			t.Errorf("%s: muster %s: exit status %d\n%s%s", what, strings.Join(args, " "), exit, stdout, stderr)
		}
		return stdout, stderr, time.Since(began)
	}
	works("all live", all, "set", "w1", "custom.w=1")

	p.run("the manager that answers is killed", func(t *testing.T) {
		l := p.leader(0)
		order := []int{l, (l + 1) % 3, (l + 2) % 3}
		p.managers[l].kill()
		out, _, read := works("read after kill -9", order, "get", "w1", "custom.w")
		if !strings.Contains(out, "custom.w=1") {
			t.Errorf("read: %s", out)
		}
		_, _, write := works("write after kill -9", order, "set", "w1", "custom.w=2")
		t.Logf("read %v, write %v after kill -9 of the one that answers", read.Round(time.Millisecond), write.Round(time.Millisecond))
		if read > 10*time.Second || write > 20*time.Second {
			t.Errorf("read after %v, write after %v", read, write)
		}
		p.launch(l)
		p.whole(3)
	})

	p.run("a manager whose host is gone is passed over", func(t *testing.T) {
		p.link(1, "down")
		_, _, took := works("first address gone", []int{1, 0, 2}, "get", "w1", "custom.w")
		t.Logf("read %v with the first address gone", took.Round(time.Millisecond))
		if took > 8*time.Second {
			t.Errorf("it took %v", took)
		}
		p.link(1, "up")
		p.whole(3)
	})

	p.run("a manager without a majority refuses, and the client goes on to the next", func(t *testing.T) {
		// The client reaches it, the others do not.
		p.apart(2)
		p.managers[2].until(20*time.Second, "m3 is cut off", func() (bool, string) {
			out, err := p.managers[2].try("version", "--json")
			return err == nil && strings.Contains(out, `"stale"`), out
		})
		out, stderr, exit := p.far(identity, []int{2}, "set", "w1", "custom.w=3")
		if exit != 1 || !strings.Contains(stderr, "majority") || !strings.Contains(stderr, "muster manager list") {
			t.Errorf("the cut off one alone: exit status %d\n%s%s", exit, out, stderr)
		}
		_, _, took := works("the cut off one first", []int{2, 0, 1}, "set", "w1", "custom.w=3")
		t.Logf("write %v when the first manager has no majority", took.Round(time.Millisecond))
		out, stderr, _ = works("read of the cut off one", []int{2}, "get", "w1", "custom.w", "--json")
		if !strings.Contains(stderr, "stale") || !strings.Contains(out, `"2"`) {
			t.Errorf("read of the cut off one:\n%s%s", out, stderr)
		}
		for line := range strings.Lines(out) {
			if !json.Valid([]byte(line)) {
				t.Errorf("no JSON: %s", line)
			}
		}
		out, stderr, _ = works("list of the cut off one", []int{2}, "manager", "list", "--json")
		if !strings.Contains(out, `"stale"`) || !strings.Contains(stderr, "stale") {
			t.Errorf("manager list of the cut off one:\n%s%s", out, stderr)
		}
		p.together()
		p.whole(3)
		works("after it is back", []int{2}, "get", "w1", "custom.w")
	})

	p.run("exit statuses", func(t *testing.T) {
		for _, tt := range []struct {
			args []string
			exit int
		}{
			{[]string{"get", "w1"}, 0},
			{[]string{"get", "nobody9"}, 2},
			{[]string{"set", "w1", "no.such=1"}, 2},
		} {
			if out, stderr, exit := p.far(identity, all, tt.args...); exit != tt.exit {
				t.Errorf("muster %s: exit status %d, want %d\n%s%s", strings.Join(tt.args, " "), exit, tt.exit, out, stderr)
			}
		}
		if _, stderr, exit := p.far(filepath.Join(t.TempDir(), "none"), all, "get", "w1"); exit != 2 {
			t.Errorf("no identity: exit status %d, want 2: %s", exit, stderr)
		}
		foreign := newHostsIdentity(t)
		if _, stderr, exit := p.far(foreign, all, "get", "w1"); exit != 4 && exit != 3 {
			t.Errorf("somebody else's identity: exit status %d, want 3 or 4: %s", exit, stderr)
		} else {
			t.Logf("somebody else's identity: exit status %d: %s", exit, stderr)
		}
		for _, m := range p.managers {
			m.kill()
		}
		if _, stderr, exit := p.far(identity, all, "get", "w1"); exit != 3 || strings.Count(stderr, "10.99.0.") < 3 {
			t.Errorf("all killed: exit status %d, want 3, all three named: %s", exit, stderr)
		}
	})

	p.run("a stop takes two seconds at most, leader or not", func(t *testing.T) {
		// All were killed: now the power is back.
		for i := range p.managers {
			p.managers[i].spawn(p.serve(i)...)
		}
		p.whole(3)
		l := p.someLeader()
		f := (l + 1) % 3
		for what, i := range map[string]int{"leader": l, "follower": f} {
			cpu := cpuOf(t, p.managers[i].serve.Process.Pid)
			<-time.After(3 * time.Second) // what it does in this time is the figure
			t.Logf("idle %s: %.2f %% of a processor, %d MiB", what, 100*(cpuOf(t, p.managers[i].serve.Process.Pid)-cpu).Seconds()/3, rss(t, p.managers[i].serve.Process.Pid)>>20)
		}
		for _, i := range []int{f, l, 3 - f - l} { // at the last there is nobody who could take a lease back
			began := time.Now()
			p.managers[i].stop()
			t.Logf("%s stopped in %v", p.name(i), time.Since(began).Round(time.Millisecond))
		}
	})
}

// apart cuts a manager off from the other managers, but not from those who ask it.
func (p *pool) apart(i int) {
	p.t.Helper()
	for j := range p.managers {
		if j != i {
			p.ip("-n", p.ns(i), "route", "add", "blackhole", p.addr(j)+"/32")
		}
	}
}

// together takes back what apart did.
func (p *pool) together() {
	p.t.Helper()
	for i := range p.managers {
		p.ip("-n", p.ns(i), "route", "flush", "type", "blackhole")
	}
}

// newHostsIdentity is the administrator of another installation.
func newHostsIdentity(t *testing.T) string {
	t.Helper()
	s := &site{t: t, lab: "other", data: t.TempDir()}
	s.startWith("serve", "--data", s.data, "--listen", "127.0.0.1:0")
	s.stop()
	return filepath.Join(s.data, "keys", "admin.pem")
}

// cpuOf is the processor time that a process has used.
func cpuOf(t *testing.T, pid int) time.Duration {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	var ticks time.Duration
	for _, s := range f[11:13] { // utime, stime; 100 a second
		var n time.Duration
		_, _ = fmt.Sscan(s, &n)
		ticks += n
	}
	return ticks * 10 * time.Millisecond
}

func rss(t *testing.T, pid int) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		t.Fatal(err)
	}
	var size, resident int64
	_, _ = fmt.Sscan(string(b), &size, &resident)
	return resident * int64(unix.Getpagesize())
}
