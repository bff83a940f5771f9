package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"muster/internal/need"
)

// load is writers that never stop: six of them, each sets two nodes to the same number, one number after the other.
type load struct {
	p    *pool
	stop context.CancelFunc
	wg   sync.WaitGroup
	mu   sync.Mutex
	last map[int]int // of each pair, what was acknowledged
	acks int
}

func pair(w int) string { return fmt.Sprintf("w%d,w%d", 10+2*w, 11+2*w) }

// write begins to write.
func (p *pool) write() *load {
	ctx, stop := context.WithCancel(p.t.Context())
	l := &load{p: p, stop: stop, last: map[int]int{}}
	for w := range 6 {
		c := p.managers[w%3].client()
		l.wg.Go(func() {
			for n := 1; ctx.Err() == nil; n++ {
				limit, cancel := context.WithTimeout(ctx, 15*time.Second)
				_, err := write(limit, c, pair(w), strconv.Itoa(n))
				cancel()
				if err == nil {
					l.mu.Lock()
					l.acks++
					l.last[w] = n
					l.mu.Unlock()
				}
			}
		})
	}
	return l
}

func (l *load) acknowledged() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.acks
}

// moves waits until a write is acknowledged.
func (l *load) moves(what string) {
	l.p.t.Helper()
	was := l.acknowledged()
	l.p.managers[0].until(30*time.Second, "writes go on "+what, func() (bool, string) { n := l.acknowledged(); return n > was, fmt.Sprint(n) })
}

// end stops the writers and looks, on every manager, for what was acknowledged; then the managers must agree in all that they say.
func (l *load) end() {
	p := l.p
	p.t.Helper()
	p.whole(3)
	l.stop()
	l.wg.Wait()
	p.t.Logf("%d acknowledged writes", l.acks)
	for _, m := range p.managers[:3] {
		for w := range 6 {
			m.until(10*time.Second, "both nodes of a write are the same, and not older than what was acknowledged", func() (bool, string) {
				out, err := m.try("get", pair(w), "custom.w", "--no-fold")
				var got []int
				for line := range strings.Lines(out) {
					if _, v, ok := strings.Cut(strings.TrimSpace(line), "custom.w="); ok {
						n, _ := strconv.Atoi(v)
						got = append(got, n)
					}
				}
				ok := len(got) == 2 && got[0] == got[1] && got[0] >= l.last[w]
				return err == nil && (ok || l.last[w] == 0), fmt.Sprintf("%s, acknowledged %d: %s", m.lab, l.last[w], out)
			})
		}
	}
	p.agree()
}

// agree compares all that the managers say, byte by byte.
func (p *pool) agree() {
	p.t.Helper()
	for _, args := range [][]string{{"get", "everything", "--json"}, {"audit", "--last", "100000", "--json"}, {"events", "--last", "100000", "--json"}} {
		var said [3]string
		p.managers[0].until(15*time.Second, "all managers say the same: "+strings.Join(args, " "), func() (bool, string) {
			for i, m := range p.managers[:3] {
				out, err := m.command(args...).Output()
				if err != nil {
					return false, err.Error()
				}
				said[i] = string(out)
			}
			return said[0] == said[1] && said[1] == said[2], differ(said)
		})
	}
}

// differ says which lines not all of them have, or have more than once.
func differ(said [3]string) string {
	count := make(map[string][3]int)
	for i, s := range said {
		for line := range strings.Lines(s) {
			n := count[line]
			n[i]++
			count[line] = n
		}
	}
	var out []string
	for line, n := range count {
		if n != [3]int{1, 1, 1} {
			out = append(out, fmt.Sprintf("%d %d %d times: %s", n[0], n[1], n[2], strings.TrimSpace(line)))
		}
	}
	slices.SortFunc(out, func(a, b string) int { return strings.Compare(a[strings.Index(a, ":"):], b[strings.Index(b, ":"):]) })
	return fmt.Sprintf("%d lines differ, the first and last of them:\n%s", len(out), strings.Join(slices.Concat(out[:min(len(out), 5)], out[max(0, len(out)-5):]), "\n"))
}

// kills ends managers with kill -9 at random moments, one or all at once, while every manager has two writers.
func (p *pool) kills(t *testing.T, rounds int) {
	r := dice(t)
	l := p.write()
	for range rounds {
		<-time.After(time.Duration(50+r.IntN(450)) * time.Millisecond) // a random moment, not a condition
		victims := []int{r.IntN(3)}
		if r.IntN(4) == 0 {
			victims = []int{0, 1, 2}
		}
		p.crash(victims, victims)
	}
	l.end()
}

// crash kills managers and starts some of them again.
func (p *pool) crash(victims, back []int) {
	p.t.Helper()
	for _, i := range victims {
		p.managers[i].kill()
	}
	var up sync.WaitGroup
	for _, i := range back {
		up.Go(func() { p.launch(i) })
	}
	up.Wait()
}

func dice(t *testing.T) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

// times is how often a part is done: once, or often when there is time.
func times(often int) int {
	if long {
		return often
	}
	return 1
}

func TestPool_faults(t *testing.T) {
	p := newPool(t, 3)
	p.managers[1].must("node", "add", "w[1-60]", "group=load", "bmc.password=of-the-pool", "--yes")

	p.run("a manager is cut off, both ways or one", func(t *testing.T) {
		r := dice(t)
		l := p.write()
		for range times(20) {
			for _, kind := range []string{"link", "in", "out"} {
				i := r.IntN(3)
				heal := p.cut(i, kind)
				l.moves(fmt.Sprintf("with %s cut off (%s)", p.name(i), kind))
				<-time.After(time.Duration(500+r.IntN(2000)) * time.Millisecond) // longer or shorter than an election
				heal()
				p.whole(3)
			}
		}
		l.end()
	})

	p.run("the power fails, and one stays dead for a while", func(t *testing.T) {
		r := dice(t)
		l := p.write()
		for range times(20) {
			l.moves("before the power cut")
			dead := r.IntN(3)
			p.crash([]int{0, 1, 2}, []int{(dead + 1) % 3, (dead + 2) % 3})
			l.moves("with " + p.name(dead) + " dead")
			p.launch(dead)
		}
		l.end()
	})
}

// cut cuts a manager off: its link, or what comes in only, or what goes out only. It returns what heals it.
func (p *pool) cut(i int, kind string) (heal func()) {
	p.t.Helper()
	if kind == "link" {
		p.link(i, "down")
		return func() { p.link(i, "up") }
	}
	need.Programs(p.t, "nftables", "nft")
	hook, where := "input", "iif"
	if kind == "out" {
		hook, where = "output", "oif"
	}
	for _, cmd := range []string{
		"add table inet cut", "add chain inet cut c { type filter hook " + hook + " priority 0 ; }", "add rule inet cut c " + where + " eth0 drop",
	} {
		p.ip(append([]string{"netns", "exec", p.ns(i), "nft"}, cmd)...)
	}
	return func() { p.ip("netns", "exec", p.ns(i), "nft", "delete table inet cut") }
}

func TestPool_full_disk(t *testing.T) {
	p := newHosts(t, 3)
	full := p.managers[2]
	run1(t, "mount", "-t", "tmpfs", "-o", "size=420m,mode=0700", "tmpfs", full.data)
	t.Cleanup(func() { _ = exec.Command("umount", "-l", full.data).Run() })
	logs, err := os.MkdirTemp("", "pool") // what it says when nothing can be written has to be read
	if err != nil {
		t.Fatal(err)
	}
	full.logs = logs
	p.form(3)
	p.managers[1].must("node", "add", "w[1-60]", "group=load", "bmc.password=of-the-pool", "--yes")
	ballast := filepath.Join(full.data, "ballast")
	l := p.write()
	l.moves("before the disk is full")

	p.run("no room but the reserve: it refuses, the others go on", func(t *testing.T) {
		fill(t, ballast, full.data, 100<<20)
		full.refused(1, []string{"set", "w1", "custom.w=full"}, full.data, "MiB left", "Make room")
		l.moves("with a full disk at m3")
		full.must("get", "w1")
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
		full.must("set", "w1", "custom.w=room")
	})

	p.run("not a byte is left: it stops and says why, the others go on, it comes back when there is room", func(t *testing.T) {
		fill(t, ballast, full.data, 0)
		// etcd's log has room in the file that it has begun; what does not fit is the next one, or a page of the database.
		big := strings.Repeat("x", 60<<10)
		done := make(chan error, 1)
		go func(c *exec.Cmd) { done <- c.Wait() }(full.serve)
		deadline := time.Now().Add(90 * time.Second)
		var err error
		for stopped := false; !stopped; {
			p.managers[0].must("set", "w[1-9]", "custom.big="+big)
			select {
			case err = <-done:
				stopped = true
			default:
				if time.Now().After(deadline) {
					t.Fatal("m3 goes on without a byte left")
				}
			}
		}
		if err == nil {
			t.Error("it stopped as if nothing was")
		}
		_ = full.log.Close()
		full.serve = nil
		b, _ := os.ReadFile(full.logFile())
		if !strings.Contains(string(b[max(0, len(b)-600):]), "muster: store "+full.data+"/store stopped: no space left") {
			t.Errorf("it does not say why it stopped: %s", b[max(0, len(b)-600):])
		}
		l.moves("without m3")
		p.fails(2, 1, p.serve(2), "no space left", "Make room")
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
		p.launch(2)
	})
	l.end()
}

// fill leaves so many bytes on the file system of a directory.
func fill(t *testing.T, file, dir string, left int64) {
	t.Helper()
	free := freeOn(t, dir)
	f, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	piece := make([]byte, 1<<20)
	for n := free - left; n > 0; n -= int64(len(piece)) {
		if _, err := f.Write(piece[:min(n, int64(len(piece)))]); err != nil {
			return // the service took some, too
		}
	}
}

func freeOn(t *testing.T, dir string) int64 {
	t.Helper()
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		t.Fatal(err)
	}
	return int64(fs.Bavail) * fs.Bsize
}
