package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// invite makes a join string.
func (s *site) invite(name string) string {
	s.t.Helper()
	return strings.TrimSpace(s.must("manager", "add", name))
}

// role is what manager list says of a manager: "leader", "follower", "learner", "invited", or nothing.
func (s *site) role(name string) string {
	list, _ := s.listManagers()
	for _, m := range list {
		if m.Name == name {
			return m.Role
		}
	}
	return ""
}

func (s *site) votes(name string) {
	s.t.Helper()
	s.until(30*time.Second, name+" votes", func() (bool, string) {
		r := s.role(name)
		return r == "follower" || r == "leader", r
	})
}

// alive are the managers that s says are alive and vote.
func (s *site) alive() (n int) {
	list, _ := s.listManagers()
	for _, m := range list {
		if m.State == "alive" && (m.Role == "leader" || m.Role == "follower") {
			n++
		}
	}
	return n
}

// ended waits until a manager has ended by itself, with exit status 1, and said the words.
func (s *site) ended(words ...string) {
	s.t.Helper()
	done := make(chan error, 1)
	go func(c interface{ Wait() error }) { done <- c.Wait() }(s.serve)
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		s.t.Fatalf("%s does not end", s.lab)
	}
	if got := s.serve.ProcessState.ExitCode(); got != 1 {
		s.t.Errorf("%s ended with exit status %d, want 1", s.lab, got)
	}
	_ = s.log.Close()
	s.serve = nil
	b, err := os.ReadFile(s.logFile())
	if err != nil {
		s.t.Fatal(err)
	}
	for _, w := range words {
		if !strings.Contains(string(b), w) {
			s.t.Errorf("%s does not say %q:\n%s", s.lab, w, b[max(0, len(b)-2000):])
		}
	}
}

func TestPool_join(t *testing.T) {
	p := newHosts(t, 6)
	a := p.managers[0]

	p.run("a manager that no other reaches says how to start it", func(t *testing.T) {
		a.startWith("serve", "--data", a.data, "--netns", p.ns(0), "--name", p.name(0))
		a.refused(1, []string{"manager", "add", "m2"}, "loopback", "--listen ADDRESS:7443")
		a.stop()
	})
	p.launch(0)
	a.must("node", "add", "w[1-40]", "group=load", "bmc.password=of-the-pool", "--yes")

	p.run("kill -9 anywhere in a join", func(t *testing.T) {
		step := 40 * time.Millisecond
		if long {
			step = 5 * time.Millisecond
		}
		p.killJoiner(1, step)
	})

	p.run("an invitation counts once, and only the newest", func(t *testing.T) {
		old := a.invite("m3")
		join := a.invite("m3")
		p.fails(2, 4, p.serve(2, "--join", old), "newest invitation", "muster manager add m3")
		p.fails(2, 2, p.serve(2, "--join", join[:len(join)-7]), "missing or altered", "whole string")
		p.launch(2, "--join", join)
		a.votes("m3")
		p.fails(3, 4, p.serve(3, "--join", join), "its token", "muster manager add m3")
		p.wipe(3)
		a.refused(1, []string{"manager", "add", "m3"}, "in the pool", "muster manager remove m3")
	})

	p.run("an address that nobody reaches is told, and another one works with the same string", func(t *testing.T) {
		join := a.invite("m4")
		p.fails(3, 1, p.serve(3, "--join", join, "--advertise", "10.99.0.77:7443"), "does not reach it at 10.99.0.77:7443", "--advertise")
		p.fails(3, 2, []string{"serve", "--data", p.managers[3].data, "--netns", p.ns(3), "--join", join}, "no address", "--listen")
		p.fails(3, 1, p.serve(3, "--join", join, "--advertise", p.addr(0)+":7443"), "is the address of manager m1")
		// The pool is not reached: the manager that is asked is cut off.
		p.link(3, "down")
		p.fails(3, 3, p.serve(3, "--join", join), "no manager of the pool answers", p.addr(0))
		p.link(3, "up")
		file := filepath.Join(t.TempDir(), "join")
		if err := os.WriteFile(file, []byte(join+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		p.launch(3, "--join", "@"+file)
		a.votes("m4")
	})

	p.run("the fifth gets the string on standard input, and is promoted though the manager that let it in died", func(t *testing.T) {
		join := p.managers[1].invite("m5")
		e := p.managers[4]
		in, err := os.CreateTemp(t.TempDir(), "join")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := in.WriteString(join + "\n"); err != nil {
			t.Fatal(err)
		}
		if _, err := in.Seek(0, 0); err != nil {
			t.Fatal(err)
		}
		e.stdin = in
		e.spawn(p.serve(4, "--join", "-")...)
		e.stdin = nil
		e.until(30*time.Second, "m5 has a place", func() (bool, string) {
			_, err := os.Stat(filepath.Join(e.data, "store", "join.json"))
			if err != nil {
				_, err = os.Stat(filepath.Join(e.data, "store", "store.json"))
			}
			return err == nil, "no join.json"
		})
		p.managers[1].kill()
		a.votes("m5")
		p.launch(1)
		p.whole(5)
	})

	p.run("a host with a store of its own is not taken for one that joins", func(t *testing.T) {
		join := a.invite("m6")
		p.launch(5, "--name", "lone")
		p.managers[5].stop()
		p.fails(5, 1, p.serve(5, "--join", join), "another installation", "empty directory")
		p.wipe(5)
	})

	p.run("one that never came is removed", func(t *testing.T) {
		a.must("manager", "remove", "m6", "--yes") // invited only
		if r := a.role("m6"); r != "" {
			t.Errorf("m6 is still there: %s", r)
		}
		p.launchDoomed(5, a.invite("m6"))
		p.wipe(5)
		if r := a.role("m6"); r != "learner" {
			t.Errorf("m6 is %q, want learner", r)
		}
		// It lost its files, so it cannot have the same place again; with the same name and a new string it gets another.
		p.launch(5, "--join", a.invite("m6"))
		a.votes("m6")
		a.must("manager", "remove", "m6", "--yes")
		p.managers[5].ended("removed", "muster manager add")
		p.wipe(5)
		p.launchDoomed(5, a.invite("m6"))
		a.must("manager", "remove", "m6", "--yes")
		if r := a.role("m6"); r != "" {
			t.Errorf("m6 is still there: %s", r)
		}
		p.fails(5, 1, p.serve(5), "removed")
	})

	p.run("removing followers, the leader, and not the one that is asked", func(t *testing.T) {
		a.refused(1, []string{"manager", "remove", "m1", "--yes"}, "the manager that you ask", "--server https://")
		a.refused(2, []string{"manager", "remove", "m9", "--yes"}, "no such manager", "muster manager list")
		for left := 5; left > 2; left-- {
			l := p.someLeader()
			other := func(i int) int { // the next one that runs
				for i = (i + 1) % 5; p.managers[i].serve == nil; {
					i = (i + 1) % 5
				}
				return i
			}
			victim := l
			if left == 4 {
				victim = other(l)
			}
			ask := other(victim)
			p.managers[ask].must("manager", "remove", p.name(victim), "--yes")
			p.managers[victim].ended("removed")
			t.Logf("removed %s (leader %d), next write after %v", p.name(victim), l, nextWrite(t, p.managers[ask], "w1,w2", fmt.Sprint("left", left), 20*time.Second).Round(time.Millisecond))
			p.managers[ask].until(20*time.Second, "the others are whole", func() (bool, string) {
				n := p.managers[ask].alive()
				return n == left-1, fmt.Sprint(n)
			})
		}
	})

	p.run("removing one of the last two does not leave the other without a majority", func(t *testing.T) {
		var two []int
		for i, m := range p.managers {
			if m.serve != nil {
				two = append(two, i)
			}
		}
		stay, dead := p.managers[two[0]], p.managers[two[1]]
		dead.kill()
		stay.refused(1, []string{"manager", "remove", dead.lab, "--yes"}, "majority")
		p.launch(two[1])
		stay.until(20*time.Second, "both live", func() (bool, string) { n := stay.alive(); return n == 2, fmt.Sprint(n) })
		stay.must("manager", "remove", dead.lab, "--yes")
		dead.ended("removed")
		if list, err := stay.listManagers(); err != nil || len(list) != 1 {
			t.Errorf("left are: %v %+v", err, list)
		}
		stay.refused(1, []string{"manager", "remove", stay.lab, "--yes"}, "only manager")
		stay.must("set", "w1", "custom.w=alone")
	})
}

// killJoiner kills a manager that joins, later each time, until it comes to be ready; every start is with the same string, or, when it has its
// place already, every other one without.
func (p *pool) killJoiner(i int, step time.Duration) {
	t, m := p.t, p.managers[i]
	t.Helper()
	join := p.managers[0].invite(p.name(i))
	kills, bare := 0, 0
	for delay := step; ; delay += step {
		var more []string
		_, err := os.Stat(filepath.Join(m.data, "store", "join.json"))
		if err == nil && kills%2 == 1 {
			bare++
		} else {
			more = []string{"--join", join}
		}
		at := m.spawn(p.serve(i, more...)...)
		end := time.Now().Add(delay)
		for ready := false; !ready && time.Now().Before(end); {
			if err := syscall.Kill(m.serve.Process.Pid, 0); err != nil {
				t.Fatal(err)
			}
			b, _ := os.ReadFile(m.logFile())
			ready = strings.Contains(string(b[at:]), "is ready")
			if strings.Contains(string(b[at:]), "muster: ") {
				t.Fatalf("after %d kills it ends by itself:\n%s", kills, b[at:])
			}
			if ready {
				if list, err := m.listManagers(); err != nil || len(list) != 2 {
					t.Errorf("managers are: %v %+v", err, list)
				}
				t.Logf("%d kills, %d of the starts without the string; ready within %v", kills, bare, delay)
				p.managers[0].votes(p.name(i))
				if got := m.must("secret", "reveal", "w1", "bmc.password"); !strings.Contains(got, "of-the-pool") {
					t.Errorf("it cannot open a secret: %s", got)
				}
				return
			}
			<-time.After(2 * time.Millisecond)
		}
		m.kill()
		kills++
	}
}

// launchDoomed starts a manager that joins and kills it as soon as it has its place.
func (p *pool) launchDoomed(i int, join string) {
	p.t.Helper()
	m := p.managers[i]
	m.spawn(p.serve(i, "--join", join)...)
	end := time.Now().Add(20 * time.Second)
	for {
		if _, err := os.Stat(filepath.Join(m.data, "store", "join.json")); err == nil {
			break
		}
		if time.Now().After(end) {
			p.t.Fatal("it gets no place")
		}
		<-time.After(time.Millisecond)
	}
	m.kill()
}
