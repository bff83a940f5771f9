package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"muster/internal/api"
	"muster/internal/need"
)

// pool is three managers as real processes, each in a network namespace of its own, with a bridge between them.
type pool struct {
	t        *testing.T
	tag      string // of the names of namespaces
	managers []*site
}

func (p *pool) hub() string          { return "muster-" + p.tag + "h" }
func (p *pool) ns(i int) string      { return fmt.Sprintf("muster-%s%d", p.tag, i+1) }
func (p *pool) addr(i int) string    { return fmt.Sprintf("10.99.0.%d", i+1) }
func (p *pool) name(i int) string    { return fmt.Sprintf("m%d", i+1) }
func (p *pool) port(i int) string    { return fmt.Sprintf("p%d", i+1) }
func (p *pool) ip(args ...string)    { p.t.Helper(); run1(p.t, "ip", args...) }
func (p *pool) link(i int, s string) { p.t.Helper(); p.ip("-n", p.hub(), "link", "set", p.port(i), s) }

func run1(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// long says that there is time: MUSTER_LONG=1, see demo/long.sh.
var long = os.Getenv("MUSTER_LONG") != ""

// newPool makes a pool of n managers.
func newPool(t *testing.T, n int) *pool {
	t.Helper()
	p := newHosts(t, n)
	p.form(n)
	return p
}

// form makes a pool of the first n hosts.
func (p *pool) form(n int) {
	p.t.Helper()
	p.launch(0, "--name", p.name(0))
	for i := 1; i < n; i++ {
		p.launch(i, "--join", p.managers[0].invite(p.name(i)))
	}
	p.whole(n)
}

// newHosts makes the hosts of n managers, on which none runs yet.
func newHosts(t *testing.T, n int) *pool {
	t.Helper()
	if testing.Short() {
		t.Skip("runs three managers: takes a minute")
	}
	need.Root(t, "makes network namespaces")
	p := &pool{t: t, tag: fmt.Sprintf("p%d", os.Getpid())}
	t.Cleanup(func() {
		for _, m := range p.managers {
			if m.serve != nil {
				m.kill()
			}
			if t.Failed() {
				b, _ := os.ReadFile(m.logFile())
				t.Logf("log of %s:\n%s", m.lab, b[max(0, len(b)-4000):])
			}
			_ = errors.Join(os.RemoveAll(m.data), os.RemoveAll(m.logs))
		}
		for i := range n {
			_ = exec.Command("ip", "netns", "del", p.ns(i)).Run()
		}
		_ = exec.Command("ip", "netns", "del", p.hub()).Run()
	})
	p.ip("netns", "add", p.hub())
	p.ip("-n", p.hub(), "link", "add", "br0", "type", "bridge")
	p.ip("-n", p.hub(), "link", "set", "br0", "up")
	for i := range n {
		p.ip("netns", "add", p.ns(i))
		p.ip("-n", p.ns(i), "link", "set", "lo", "up")
		p.ip("-n", p.hub(), "link", "add", p.port(i), "type", "veth", "peer", "name", "eth0", "netns", p.ns(i))
		p.ip("-n", p.hub(), "link", "set", p.port(i), "master", "br0", "up")
		p.ip("-n", p.ns(i), "address", "add", p.addr(i)+"/24", "dev", "eth0")
		p.ip("-n", p.ns(i), "link", "set", "eth0", "up")
		dir, err := os.MkdirTemp("", "pool")
		if err != nil {
			t.Fatal(err)
		}
		p.managers = append(p.managers, &site{t: t, lab: p.name(i), data: dir})
	}
	return p
}

// run runs a part of the test: what fails in it is its failure.
func (p *pool) run(name string, f func(t *testing.T)) {
	p.t.Helper()
	whole := p.t
	belongs := func(t *testing.T) {
		p.t = t
		for _, m := range p.managers {
			m.t = t
		}
	}
	whole.Run(name, func(t *testing.T) {
		belongs(t)
		defer belongs(whole)
		f(t)
	})
}

// launch starts a manager and waits until it is ready.
func (p *pool) launch(i int, more ...string) {
	p.t.Helper()
	p.managers[i].startWith(p.serve(i, more...)...)
}

// serve is how a manager is started.
func (p *pool) serve(i int, more ...string) []string {
	return append([]string{"serve", "--data", p.managers[i].data, "--netns", p.ns(i), "--listen", p.addr(i) + ":7443"}, more...)
}

// wipe empties the data directory of a manager.
func (p *pool) wipe(i int) {
	p.t.Helper()
	d := p.managers[i].data
	if err := errors.Join(os.RemoveAll(d), os.Mkdir(d, 0o700)); err != nil {
		p.t.Fatal(err)
	}
}

// fails starts a manager that has to end by itself with an exit status, and to say all of the words.
func (p *pool) fails(i, exit int, args []string, words ...string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 30*time.Second)
	defer cancel()
	c := exec.CommandContext(ctx, muster, args...)
	out, _ := c.CombinedOutput()
	if got := c.ProcessState.ExitCode(); got != exit {
		p.t.Errorf("%s: exit status %d, want %d\n%s", p.name(i), got, exit, out)
	}
	for _, w := range words {
		if !bytes.Contains(out, []byte(w)) {
			p.t.Errorf("%s does not say %q:\n%s", p.name(i), w, out)
		}
	}
}

// whole waits until all managers are alive and vote, and one of them leads.
func (p *pool) whole(n int) {
	p.t.Helper()
	p.managers[0].until(30*time.Second, "the pool is whole", func() (bool, string) {
		for i, m := range p.managers[:n] {
			var voters, leaders int
			list, err := m.listManagers()
			for _, o := range list {
				if o.State == "alive" && (o.Role == "leader" || o.Role == "follower") && o.Stale.IsZero() {
					voters++
				}
				if o.Role == "leader" {
					leaders++
				}
			}
			if err != nil || voters != n || leaders != 1 {
				return false, fmt.Sprintf("%s: %v, %+v", p.name(i), err, list)
			}
		}
		return true, ""
	})
}

func (s *site) listManagers() ([]api.ManagerInfo, error) {
	out, err := s.command("manager", "list", "--json").Output()
	if err != nil {
		return nil, err
	}
	var list []api.ManagerInfo
	for line := range bytes.Lines(out) {
		var m api.ManagerInfo
		if err := json.Unmarshal(line, &m); err != nil {
			return nil, err
		}
		if m.Name != "" {
			list = append(list, m)
		}
	}
	return list, nil
}

// leader is the number of the manager that leads, as manager i sees it; -1 when none does.
func (p *pool) leader(i int) int {
	list, _ := p.managers[i].listManagers()
	for _, m := range list {
		if m.Role == "leader" && m.State == "alive" {
			for j := range p.managers {
				if p.name(j) == m.Name {
					return j
				}
			}
		}
	}
	return -1
}

// someLeader waits until there is a leader, as any manager that runs sees it.
func (p *pool) someLeader() (l int) {
	p.t.Helper()
	p.managers[0].until(20*time.Second, "there is a leader", func() (bool, string) {
		for i, m := range p.managers {
			if m.serve != nil {
				l = p.leader(i)
				return l >= 0, "none"
			}
		}
		return false, "no manager runs"
	})
	return l
}

func (s *site) client() *api.Client {
	s.t.Helper()
	c, err := api.NewClient(api.Options{Server: "unix:" + filepath.Join(s.data, "muster.sock")})
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// write sets one attribute of two nodes to the same value, in one change.
func write(ctx context.Context, c *api.Client, nodes, value string) (int64, error) {
	var r api.Changed
	in := api.SetAttrs{Set: []api.Assignment{{Attr: "custom.w", Op: "=", Value: value}}}
	in.Range.Range = nodes
	err := c.Do(ctx, "POST", "/v1/set", in, &r)
	return r.Revision, err
}

// nextWrite is how long it takes until a manager takes a write again.
func nextWrite(t *testing.T, m *site, nodes, value string, limit time.Duration) time.Duration {
	t.Helper()
	c, began := m.client(), time.Now()
	for {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		_, err := write(ctx, c, nodes, value)
		cancel()
		if err == nil {
			return time.Since(began)
		}
		if time.Since(began) > limit {
			t.Fatalf("no write within %v: %v", limit, err)
		}
	}
}

func TestPool(t *testing.T) {
	p := newPool(t, 3)
	a, b, c := p.managers[0], p.managers[1], p.managers[2]

	p.run("what one manager is told all know, a writer reads its own writes anywhere", func(t *testing.T) {
		b.must("node", "add", "w[1-60]", "group=load", "bmc.password=of-the-pool", "--yes")
		c.until(10*time.Second, "m3 has the nodes", func() (bool, string) { out, err := c.try("get", "w[1-60]", "custom.w"); return err == nil, out })
		rev, err := write(t.Context(), c.client(), "w1,w2", "first")
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range p.managers {
			out := m.must("get", "w[1-2]", "custom.w", "--at-least", strconv.FormatInt(rev, 10), "--no-fold")
			if strings.Count(out, "custom.w=first") != 2 {
				t.Errorf("%s: %s", m.lab, out)
			}
			if got := m.must("secret", "reveal", "w1", "bmc.password"); !strings.Contains(got, "of-the-pool") {
				t.Errorf("%s cannot open a secret that another sealed: %s", m.lab, got)
			}
		}
	})

	p.run("one timeline on all", func(t *testing.T) {
		want := a.must("events", "w1", "--json")
		for _, m := range p.managers[1:] {
			m.until(10*time.Second, "the same events", func() (bool, string) {
				got, err := m.try("events", "w1", "--json")
				return err == nil && got == want, got
			})
		}
	})

	p.run("kill -9 of any manager at any time loses nothing", func(t *testing.T) {
		rounds := 20
		if long {
			rounds = 200
		}
		p.kills(t, rounds)
	})

	p.run("the leader is killed", func(t *testing.T) {
		l := p.leader(0)
		p.managers[l].kill()
		other := p.managers[(l+1)%3]
		t.Logf("next write %v after kill -9 of the leader", nextWrite(t, other, "w1,w2", "after the kill", 20*time.Second).Round(time.Millisecond))
		p.launch(l)
		p.whole(3)
	})

	p.run("the leader is cut off", func(t *testing.T) {
		l := p.leader(0)
		cut, other := p.managers[l], p.managers[(l+1)%3]
		p.link(l, "down")
		t.Logf("next write %v after the leader was cut off", nextWrite(t, other, "w1,w2", "majority", 30*time.Second).Round(time.Millisecond))
		out := cut.refused(1, []string{"set", "w1,w2", "custom.w=minority"}, "majority")
		t.Logf("the minority says: %s", out)
		if out, err := cut.try("get", "w3", "custom.w"); err != nil || !strings.Contains(out, "stale") {
			t.Errorf("a read of the minority is not marked stale, or fails: %v %s", err, out)
		}
		if out, err := cut.try("backup", filepath.Join(t.TempDir(), "last")); err != nil {
			t.Errorf("the minority may be all that is left, and gives no backup: %v %s", err, out)
		}
		p.link(l, "up")
		p.whole(3)
		for _, m := range p.managers {
			m.until(5*time.Second, "the majority's write is there", func() (bool, string) {
				out, err := m.try("get", "w1,w2", "custom.w", "--no-fold")
				return err == nil && strings.Count(out, "custom.w=majority") == 2, out
			})
		}
	})

	p.run("a dead manager is replaced", func(t *testing.T) {
		c.kill()
		a.until(15*time.Second, "m3 is silent", func() (bool, string) {
			list, _ := a.listManagers()
			for _, m := range list {
				if m.Name == "m3" {
					return m.State == "silent", fmt.Sprintf("%+v", m)
				}
			}
			return false, "not there"
		})
		a.must("manager", "remove", "m3", "--yes")
		// The one that was removed is told so when it comes back.
		p.fails(2, 1, p.serve(2), "removed", "muster manager add")
		p.wipe(2)
		join := b.must("manager", "add", "m3")
		p.launch(2, "--join", join)
		p.whole(3)
		if out := c.must("list", "load", "--json"); !strings.Contains(out, "w60") {
			t.Errorf("the new manager lacks nodes: %s", out)
		}
	})

	p.run("backup, restore", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "b")
		b.must("backup", file)
		if out := b.must("restore", file, "--check"); !strings.Contains(out, "whole") {
			t.Error(out)
		}
	})
}
