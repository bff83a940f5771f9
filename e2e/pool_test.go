package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"muster/internal/api"
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

func newPool(t *testing.T, n int) *pool {
	t.Helper()
	if testing.Short() {
		t.Skip("runs three managers: takes a minute")
	}
	if os.Getuid() != 0 {
		t.Skip("needs root for network namespaces")
	}
	p := &pool{t: t, tag: fmt.Sprintf("p%d", os.Getpid())}
	t.Cleanup(func() {
		for _, m := range p.managers {
			if m.serve != nil {
				m.kill()
			}
			if t.Failed() {
				b, _ := os.ReadFile(filepath.Join(m.data, "serve.log"))
				t.Logf("log of %s:\n%s", m.lab, b[max(0, len(b)-4000):])
			}
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
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		p.managers = append(p.managers, &site{t: t, lab: p.name(i), data: dir})
	}
	p.launch(0, "--name", p.name(0))
	for i := 1; i < n; i++ {
		p.launch(i, "--join", p.managers[0].must("manager", "add", p.name(i)))
	}
	p.whole(n)
	return p
}

// launch starts a manager and waits until it is ready.
func (p *pool) launch(i int, more ...string) {
	p.t.Helper()
	m := p.managers[i]
	args := append([]string{"serve", "--data", m.data, "--netns", p.ns(i), "--listen", p.addr(i) + ":7443"}, more...)
	m.startWith(args...)
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

	t.Run("what one manager is told all know, a writer reads its own writes anywhere", func(t *testing.T) {
		b.must("node", "add", "w[1-60]", "group=load", "bmc.password=of-the-pool", "--yes")
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

	t.Run("one timeline on all", func(t *testing.T) {
		want := a.must("events", "w1", "--json")
		for _, m := range p.managers[1:] {
			m.until(10*time.Second, "the same events", func() (bool, string) {
				got, err := m.try("events", "w1", "--json")
				return err == nil && got == want, got
			})
		}
	})

	t.Run("kill -9 of any manager at any time loses nothing", func(t *testing.T) {
		rounds := 8
		if os.Getenv("MUSTER_LONG") != "" {
			rounds = 60
		}
		p.kills(t, rounds)
	})

	t.Run("the leader is killed", func(t *testing.T) {
		l := p.leader(0)
		p.managers[l].kill()
		other := p.managers[(l+1)%3]
		t.Logf("next write %v after kill -9 of the leader", nextWrite(t, other, "w1,w2", "after the kill", 20*time.Second).Round(time.Millisecond))
		p.launch(l)
		p.whole(3)
	})

	t.Run("the leader is cut off", func(t *testing.T) {
		l := p.leader(0)
		cut, other := p.managers[l], p.managers[(l+1)%3]
		p.link(l, "down")
		t.Logf("next write %v after the leader was cut off", nextWrite(t, other, "w1,w2", "majority", 30*time.Second).Round(time.Millisecond))
		out := cut.refused(1, []string{"set", "w1,w2", "custom.w=minority"}, "majority")
		t.Logf("the minority says: %s", out)
		if out, err := cut.try("get", "w3", "custom.w"); err != nil || !strings.Contains(out, "stale") {
			t.Errorf("a read of the minority is not marked stale, or fails: %v %s", err, out)
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

	t.Run("a dead manager is replaced", func(t *testing.T) {
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
		out, err := p.once(2)
		if err == nil || !strings.Contains(out, "removed") {
			t.Errorf("a removed manager started: %v\n%s", err, out)
		}
		if err := os.RemoveAll(c.data); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(c.data, 0o700); err != nil {
			t.Fatal(err)
		}
		join := b.must("manager", "add", "m3")
		p.launch(2, "--join", join)
		p.whole(3)
		if out := c.must("list", "load", "--json"); !strings.Contains(out, "w60") {
			t.Errorf("the new manager lacks nodes: %s", out)
		}
		d := t.TempDir()
		x := &site{t: t, data: d}
		x.secondJoin(p, join)
	})

	t.Run("backup, restore", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "b")
		b.must("backup", file)
		if out := b.must("restore", file, "--check"); !strings.Contains(out, "whole") {
			t.Error(out)
		}
	})
}

// once starts a manager that is expected to end by itself.
func (p *pool) once(i int) (string, error) {
	m := p.managers[i]
	ctx, cancel := context.WithTimeout(p.t.Context(), 30*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, muster, "serve", "--data", m.data, "--netns", p.ns(i), "--listen", p.addr(i)+":7443").CombinedOutput()
	return string(out), err
}

// secondJoin: a join string lets one manager in, once.
func (s *site) secondJoin(p *pool, join string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, muster, "serve", "--data", s.data, "--netns", p.ns(2), "--listen", p.addr(2)+":7444", "--join", strings.TrimSpace(join)).CombinedOutput()
	if err == nil || !bytes.Contains(out, []byte("muster manager add")) {
		s.t.Errorf("a join string worked twice: %v\n%s", err, out)
	}
}

// kills ends managers with kill -9 at random moments, one or all at once, while every manager has a writer; then it looks for every write
// that was acknowledged.
func (p *pool) kills(t *testing.T, rounds int) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	type ack struct{ pair, n int }
	acks := make([]ack, 0, 10_000)
	var mu sync.Mutex
	for w := range 6 {
		wg.Go(func() {
			c := p.managers[w%3].client()
			nodes := fmt.Sprintf("w%d,w%d", 10+2*w, 11+2*w)
			for n := 1; ctx.Err() == nil; n++ {
				limit, cancel := context.WithTimeout(ctx, 15*time.Second)
				_, err := write(limit, c, nodes, strconv.Itoa(n))
				cancel()
				if err == nil {
					mu.Lock()
					acks = append(acks, ack{w, n})
					mu.Unlock()
				}
			}
		})
	}
	for range rounds {
		<-time.After(time.Duration(100+r.IntN(900)) * time.Millisecond) // a random moment, not a condition
		victims := []int{r.IntN(3)}
		if r.IntN(4) == 0 {
			victims = []int{0, 1, 2}
		}
		for _, i := range victims {
			p.managers[i].kill()
		}
		var up sync.WaitGroup
		for _, i := range victims {
			up.Go(func() { p.launch(i) })
		}
		up.Wait()
	}
	p.whole(3)
	stop()
	wg.Wait()
	last := map[int]int{}
	for _, a := range acks {
		last[a.pair] = max(last[a.pair], a.n)
	}
	t.Logf("%d acknowledged writes", len(acks))
	for _, m := range p.managers {
		for w := range 6 {
			m.until(10*time.Second, "both nodes of a write are the same, and not older than what was acknowledged", func() (bool, string) {
				out, err := m.try("get", fmt.Sprintf("w%d,w%d", 10+2*w, 11+2*w), "custom.w", "--no-fold")
				var got []int
				for line := range strings.Lines(out) {
					if _, v, ok := strings.Cut(strings.TrimSpace(line), "custom.w="); ok {
						n, _ := strconv.Atoi(v)
						got = append(got, n)
					}
				}
				return err == nil && len(got) == 2 && got[0] == got[1] && got[0] >= last[w], fmt.Sprintf("%s, acknowledged %d: %s", m.lab, last[w], out)
			})
		}
	}
}
