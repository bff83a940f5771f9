package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"muster/internal/api"
	"muster/internal/need"
)

// sim is a BMC of Debian's ipmi_sim, whose machine says a line every fifth of a second.
type sim struct {
	port int
	ns   string
	dir  string
}

// sims starts the BMCs of nodes n1, n2, … on an address that all hosts of a pool reach.
func (p *pool) sims(n int) []sim {
	t := p.t
	t.Helper()
	need.Programs(t, "openipmi", "ipmi_sim")
	p.ip("-n", p.hub(), "address", "add", hubAddr+"/24", "dev", "br0")
	p.ip("-n", p.hub(), "link", "set", "lo", "up")
	var all []sim
	for i := 1; i <= n; i++ {
		s := sim{port: 9100 + i, ns: p.hub(), dir: t.TempDir()}
		machine(t, s.ns, fmt.Sprintf("127.0.0.1:%d", s.port+100), fmt.Sprintf("n%d", i))
		s.start(t)
		all = append(all, s)
	}
	return all
}

// machine is the serial line of one: it speaks to whoever connects.
func machine(t *testing.T, ns, addr, name string) {
	t.Helper()
	l := listenIn(t, ns, addr)
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	t.Cleanup(func() { stop(); _ = l.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				tick := time.NewTicker(200 * time.Millisecond)
				defer tick.Stop()
				for n := 1; ; n++ {
					select {
					case <-ctx.Done():
						return
					case <-tick.C:
					}
					if _, err := fmt.Fprintf(c, "this is %s, line %d\r\n", name, n); err != nil {
						return
					}
				}
			})
		}
	})
}

// listenIn listens inside a network namespace.
func listenIn(t *testing.T, ns, addr string) net.Listener {
	t.Helper()
	type result struct {
		l   net.Listener
		err error
	}
	done := make(chan result, 1)
	go func() {
		runtime.LockOSThread() // the thread is not given back to the scheduler: it ends with this goroutine
		f, err := os.Open("/run/netns/" + ns)
		if err == nil {
			defer f.Close()
			err = unix.Setns(int(f.Fd()), unix.CLONE_NEWNET)
		}
		if err != nil {
			done <- result{nil, err}
			return
		}
		l, err := net.Listen("tcp", addr)
		done <- result{l, err}
	}()
	r := <-done
	if r.err != nil {
		t.Fatal(r.err)
	}
	return r.l
}

func (s sim) start(t *testing.T) {
	t.Helper()
	state := filepath.Join(s.dir, "state.sh")
	for name, text := range map[string]string{
		"lan.conf": fmt.Sprintf(`name "sim"
set_working_mc 0x20
  startlan 1
    addr %s %d
    priv_limit admin
    allowed_auths_callback none md2 md5 straight
    allowed_auths_user none md2 md5 straight
    allowed_auths_operator none md2 md5 straight
    allowed_auths_admin none md2 md5 straight
    guid a123456789abcdefa123456789abcdef
  endlan
  chassis_control "%s"
  sol "tcp:127.0.0.1:%d" 115200
  user 1 false "" "" admin 10 none md2 md5 straight
  user 2 true "admin" "secret" admin 10 none md2 md5 straight
`, hubAddr, s.port, state, s.port+100),
		"sim.emu":  "mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02\nsel_enable 0x20 1000 0x0a\nmc_enable 0x20\n",
		"state.sh": "#!/bin/sh\nop=$1; shift\nfor k; do [ \"$op\" = get ] && echo \"$k:1\"; done\nexit 0\n",
	} {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// The shell ends it when we close the pipe or die.
	c := exec.Command("ip", "netns", "exec", s.ns, "sh", "-c", `ipmi_sim -n -c "$1/lan.conf" -f "$1/sim.emu" -s "$1/state" </dev/null >"$1/log" 2>&1 & read line; kill -9 $! 2>/dev/null; wait`, "sh", s.dir)
	alive, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = alive.Close(); _ = c.Wait() })
}

// consoles waits until a manager lists all n consoles, each once and recording.
func (s *site) consoles(n int) {
	s.t.Helper()
	s.until(60*time.Second, fmt.Sprintf("%s lists %d consoles, each once", s.lab, n), func() (bool, string) {
		out, err := s.try("console", "list", "--json")
		var nodes []string
		for line := range strings.Lines(out) {
			var c api.ConsoleInfo
			if json.Unmarshal([]byte(line), &c) == nil && c.Node != "" && c.State == "recording" {
				nodes = append(nodes, c.Node)
			}
		}
		var want []string
		for i := 1; i <= n; i++ {
			want = append(want, fmt.Sprintf("n%d", i))
		}
		return err == nil && strings.Join(nodes, ",") == strings.Join(want, ","), out
	})
}

func TestPool_consoles(t *testing.T) {
	const n = 6
	p := newHosts(t, 3)
	sims := p.sims(n)
	p.form(3)
	a := p.managers[0]
	for i, s := range sims {
		a.must("node", "add", fmt.Sprintf("n%d", i+1), "bmc.address="+hubAddr, fmt.Sprintf("bmc.port=%d", s.port), "bmc.user=admin", "bmc.password=secret", "--yes")
	}

	p.run("each is kept by one manager, and every manager shows all", func(t *testing.T) {
		kept := 0
		for _, m := range p.managers {
			m.consoles(n)
			kept += len(m.keeps())
		}
		if kept != n {
			t.Errorf("%d are kept, want %d", kept, n)
		}
	})

	p.run("the record and the line are had through any manager", func(t *testing.T) {
		for _, m := range p.managers {
			for i := 1; i <= n; i++ {
				node := fmt.Sprintf("n%d", i)
				m.until(20*time.Second, "the record of "+node+" through "+m.lab, func() (bool, string) {
					out, err := m.try("console", node, "--log")
					return err == nil && strings.Contains(out, "this is "+node+", line"), out
				})
			}
			m.watches("n1")
		}
	})

	p.run("they move when their manager is killed, and come back", func(t *testing.T) {
		began := time.Now()
		p.managers[1].kill()
		for _, m := range []*site{a, p.managers[2]} {
			m.consoles(n)
		}
		t.Logf("all consoles are kept %v after kill -9", time.Since(began).Round(time.Millisecond))
		for i := 1; i <= n; i++ {
			p.managers[2].watches(fmt.Sprintf("n%d", i))
		}
		p.launch(1)
		p.whole(3)
		for _, m := range p.managers {
			m.consoles(n)
		}
	})

	p.run("a manager that is cut off lets go of them, though it reaches the BMCs", func(t *testing.T) {
		i := 0 // that keeps most
		for j, m := range p.managers {
			if len(m.keeps()) > len(p.managers[i].keeps()) {
				i = j
			}
		}
		cut := p.managers[i]
		kept := cut.keeps()
		p.apart(i)
		began := time.Now()
		cut.until(30*time.Second, cut.lab+" keeps none", func() (bool, string) {
			out := cut.keeps()
			return len(out) == 0, strings.Join(out, ",")
		})
		t.Logf("%s let go of %s after %v", cut.lab, strings.Join(kept, ","), time.Since(began).Round(time.Millisecond))
		asked := time.Now()
		out, err := cut.try("console", kept[0], "--log")
		if took := time.Since(asked); took > 15*time.Second {
			t.Errorf("the cut off one answers after %v", took)
		}
		if err == nil || !strings.Contains(out, "muster manager list") {
			t.Errorf("the cut off one does not say that it cannot: %v %s", err, out)
		}
		for j, m := range p.managers {
			if j != i {
				m.consoles(n)
			}
		}
		p.together()
		p.whole(3)
		for _, m := range p.managers {
			m.consoles(n)
		}
	})

	p.run("a watch through a manager ends when the host of the one that keeps it vanishes", func(t *testing.T) {
		i, node := p.keeper()
		through := p.managers[(i+1)%3]
		c, lines := through.watch(node)
		if !lines.Scan() {
			t.Fatalf("%s: nothing comes of %s", through.lab, node)
		}
		p.link(i, "down")
		began := time.Now()
		for lines.Scan() {
		}
		_ = c.Wait()
		t.Logf("the watch ended %v after the host vanished", time.Since(began).Round(time.Millisecond))
		for j, m := range p.managers {
			if j != i {
				m.consoles(n)
			}
		}
		p.link(i, "up")
		p.whole(3)
	})
}

// keeper is a manager that keeps a console, and the node.
func (p *pool) keeper() (int, string) {
	p.t.Helper()
	for i, m := range p.managers {
		if kept := m.keeps(); len(kept) > 0 {
			return i, kept[0]
		}
	}
	p.t.Fatal("no manager keeps a console")
	return 0, ""
}

// keeps are the nodes whose consoles a manager keeps itself.
func (s *site) keeps() (nodes []string) {
	s.t.Helper()
	var all []api.ConsoleInfo
	if err := s.client().Do(s.t.Context(), "GET", "/v1/consoles", nil, &all); err != nil {
		s.t.Fatal(err)
	}
	for _, i := range all {
		if i.Manager == s.lab {
			nodes = append(nodes, i.Node)
		}
	}
	return nodes
}

// watch looks at a console.
func (s *site) watch(node string) (*exec.Cmd, *bufio.Scanner) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
	s.t.Cleanup(cancel)
	c := exec.CommandContext(ctx, muster, "console", node, "--watch", "--linger", "20s")
	c.Env = s.command().Env
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return c, bufio.NewScanner(out)
}

// watches looks at a console until a line comes.
func (s *site) watches(node string) {
	s.t.Helper()
	c, lines := s.watch(node)
	var said []string
	for lines.Scan() {
		if said = append(said, lines.Text()); strings.Contains(lines.Text(), "this is "+node+", line") {
			_ = c.Process.Kill()
			_ = c.Wait()
			return
		}
	}
	s.t.Errorf("%s: console %s --watch: %v\n%s", s.lab, node, c.Wait(), strings.Join(said, "\n"))
}
