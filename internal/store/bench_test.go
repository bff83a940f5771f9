package store

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"muster/internal/model"
)

var scales = []int{1_000, 10_000, 100_000}

// many are n nodes with ten attributes each.
func many(n int) []model.Op {
	ops := make([]model.Op, n)
	for i := range ops {
		ops[i] = node(fmt.Sprintf("r%dn%d", i/1000+1, i%1000+1),
			"bmc.address", fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255), "bmc.user", "admin", "bmc.driver", "ipmi",
			"bmc.password", "sealed:v1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
			"net.boot.mac", fmt.Sprintf("52:54:00:%02x:%02x:%02x", i>>16, i>>8&255, i&255), "net.boot.address", "{bmc.address+1000}",
			"net.boot.prefix", "16", "console.speed", "115200", "location.rack", strconv.Itoa(i/1000), "custom.owner", "somebody")
	}
	return ops
}

// cpu is the processor time of this process, etcd and the garbage collector included. It is steadier than wall time where others run too.
func cpu() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// spent reports the processor time since start for each of the benchmark's runs.
func spent(b *testing.B, d time.Duration) {
	b.ReportMetric(float64(d.Microseconds())/1000/float64(b.N), "cpu-ms/op")
}

// BenchmarkDefine is all nodes in one commit into an empty store, visible to readers.
func BenchmarkDefine(b *testing.B) {
	for _, n := range scales {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			var used time.Duration
			for range b.N {
				b.StopTimer()
				s := open(b, Options{Dir: b.TempDir()})
				ops := many(n)
				used -= cpu()
				b.StartTimer()
				commit(b, s, change("node add", ops...))
				b.StopTimer()
				used += cpu()
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
			}
			spent(b, used)
		})
	}
}

// BenchmarkSetEach changes one attribute of every node, as one Update with a comparison for each.
func BenchmarkSetEach(b *testing.B) {
	for _, n := range scales {
		s := open(b, Options{Dir: b.TempDir()})
		commit(b, s, change("node add", many(n)...))
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			start := cpu()
			defer func() { spent(b, cpu()-start) }()
			for range b.N {
				_, err := s.Update(b.Context(), func(*model.Snapshot) (*model.Change, error) { return change("set", many(n)...), nil })
				if err != nil {
					b.Fatal(err)
				}
			}
		})
		s.Close()
	}
}

// BenchmarkColdStart is Open of a store that was killed with that many nodes.
func BenchmarkColdStart(b *testing.B) {
	for _, n := range append([]int{0}, scales...) {
		dir := b.TempDir()
		s := open(b, Options{Dir: dir})
		if n > 0 {
			commit(b, s, change("node add", many(n)...))
		}
		s.Close()
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			var used time.Duration
			for range b.N {
				used -= cpu()
				s := open(b, Options{Dir: dir})
				used += cpu()
				b.StopTimer()
				s.Close()
				b.StartTimer()
			}
			spent(b, used)
		})
	}
}

// BenchmarkCommit is one node by one writer, on disk and visible, in a store of that many.
func BenchmarkCommit(b *testing.B) {
	for _, n := range scales {
		s := open(b, Options{Dir: b.TempDir()})
		ops := many(n)
		commit(b, s, change("node add", ops...))
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			start := cpu()
			defer func() { spent(b, cpu()-start) }()
			for i := range b.N {
				c := change("set", node(ops[i%n].Name, "custom.n", strconv.Itoa(i)))
				c.Events = []model.Event{{Node: model.NodeName(ops[i%n].Name), Step: "test", What: "changed"}}
				commit(b, s, c)
			}
		})
		b.Run(strconv.Itoa(n)+"/parallel", func(b *testing.B) {
			start := cpu()
			defer func() { spent(b, cpu()-start) }()
			b.SetParallelism(32)
			b.RunParallel(func(pb *testing.PB) {
				for i := 0; pb.Next(); i++ {
					commit(b, s, change("set", node(ops[i%n].Name, "custom.n", strconv.Itoa(i))))
				}
			})
		})
		s.Close()
	}
}

// BenchmarkWatch is from the end of one commit's transaction in etcd to the snapshot of a reader that waits for it.
func BenchmarkWatch(b *testing.B) {
	s := open(b, Options{Dir: b.TempDir()})
	commit(b, s, change("node add", many(10_000)...))
	var took time.Duration
	for range b.N {
		seen := make(chan time.Time)
		rev := s.Snapshot().Revision
		go func() {
			if s.Wait(b.Context(), func(n *model.Snapshot) bool { return n.Revision > rev }) == nil {
				seen <- time.Now()
			}
		}()
		if _, err := s.engine.client.Put(b.Context(), prefix+"node/r1n1", `{"name":"r1n1"}`); err != nil {
			b.Fatal(err)
		}
		done := time.Now()
		took += (<-seen).Sub(done)
	}
	b.ReportMetric(float64(took.Microseconds())/float64(b.N), "µs/put-to-snapshot")
}

// BenchmarkTell is one event told, on disk as part of its batch and readable at the end, as fast as the batches are committed.
func BenchmarkTell(b *testing.B) {
	s := open(b, Options{Dir: b.TempDir()})
	before := s.Snapshot().Revision
	e := model.Event{Time: time.Now(), Node: "r1n1", Step: "dhcp.offer", What: "offered 10.77.1.1", Reason: "deployment of compute is armed"}
	b.ResetTimer()
	start := cpu()
	for i := range b.N {
		s.Tell(e)
		if i%10_000 == 9_999 {
			s.awaitTold()
		}
	}
	if got, err := s.Events(EventQuery{Limit: 1}); err != nil || len(got) != 1 {
		b.Fatal(got, err)
	}
	spent(b, cpu()-start)
	b.ReportMetric(float64(s.Snapshot().Revision-before), "transactions")
}

// BenchmarkEventsOfANode looks for the events of one node among a million.
func BenchmarkEventsOfANode(b *testing.B) {
	tl := openTape(b, b.TempDir(), 8<<20, 1<<30)
	s := tl
	for i := range 1_000_000 {
		s.Tell(model.Event{Node: model.NodeName(fmt.Sprint("r1n", i%10_000)), Step: "dhcp.offer", What: "offered 10.77.1.1", Reason: "armed"})
		if i%10_000 == 0 {
			if err := tl.flush(); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ResetTimer()
	for range b.N {
		got, err := s.Events(EventQuery{Nodes: map[model.NodeName]bool{"r1n77": true}})
		if err != nil || len(got) != 100 {
			b.Fatal(len(got), err)
		}
	}
}

// BenchmarkChangesOfANode looks for the changes of one node in an audit trail of 200 MB: many small changes, with some of 10,000 nodes among them.
func BenchmarkChangesOfANode(b *testing.B) {
	s := open(b, Options{Dir: b.TempDir()})
	names := many(10_000)
	all := make([]model.Touch, len(names))
	for i := range names {
		all[i] = model.Touch{
			Kind: model.KindNode, Name: names[i].Name, Was: []byte(`{"attrs":{"custom.n":"1"}}`),
			Now: fmt.Appendf(nil, `{"attrs":{"custom.n":"%d"}}`, i*7919),
		}
	}
	slices.SortFunc(all, func(a, b model.Touch) int { return strings.Compare(a.Name, b.Name) })
	_, packed, err := packTouches(all)
	if err != nil {
		b.Fatal(err)
	}
	size, large := 0, 0
	for rev := model.Revision(1000); size < 200<<20; rev++ {
		l := &changeLine{Seq: int64(rev) << partBits, Change: *change("set")}
		l.Revision, l.What = rev, "custom.n of a node was set"
		if rev%500 == 0 {
			l.TouchesZ = packed
			large++
		} else {
			t := all[int(rev)%len(all)]
			if l.Touches, _, err = packTouches([]model.Touch{t}); err != nil {
				b.Fatal(err)
			}
		}
		s.audit.append(l.Seq, l)
		size += 250 + len(l.TouchesZ)
		if rev%500 == 0 {
			if err := s.audit.flush(); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(large), "large")
	b.ResetTimer()
	for name, q := range map[string]ChangeQuery{
		"node":        {Nodes: map[model.NodeName]bool{"r1n77": true}, Touches: true},
		"newest ten":  {Nodes: map[model.NodeName]bool{"r1n77": true}, Touches: true, Limit: 10},
		"other actor": {Actor: "eve"},
		"newest 1000": {Limit: 1000},
	} {
		b.Run(name, func(b *testing.B) {
			start := cpu()
			defer func() { spent(b, cpu()-start) }()
			for range b.N {
				got, err := s.Changes(q)
				if err != nil || q.Nodes != nil && len(got) < 10 {
					b.Fatal(len(got), err)
				}
				b.ReportMetric(float64(len(got)), "changes")
			}
		})
	}
}

const idleEnv = "MUSTER_STORE_IDLE"

// idleServer opens the store named by the environment, says so and does nothing more.
func idleServer(dir string) {
	s, err := Open(context.Background(), Options{Dir: dir})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("open")
	_, _ = bufio.NewReader(os.Stdin).ReadByte()
	s.Close()
}

// BenchmarkIdle is what an open store costs that nobody uses: processor time and memory of a process of its own. One run is
// ten seconds.
func BenchmarkIdle(b *testing.B) {
	for _, n := range append([]int{3}, scales...) {
		dir := b.TempDir()
		s := open(b, Options{Dir: dir})
		commit(b, s, change("node add", many(n)...))
		s.Close()
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), idleEnv+"="+dir)
			in, err := cmd.StdinPipe()
			if err != nil {
				b.Fatal(err)
			}
			out, err := cmd.StdoutPipe()
			if err != nil {
				b.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				b.Fatal(err)
			}
			if l, _ := bufio.NewReader(out).ReadString('\n'); l != "open\n" {
				b.Fatal(l)
			}
			before := ticks(b, cmd.Process.Pid)
			const watch = 10 * time.Second
			time.Sleep(watch)
			used := ticks(b, cmd.Process.Pid) - before
			b.ReportMetric(100*float64(used)/100/watch.Seconds(), "%core")
			for name, unit := range map[string]string{"VmRSS": "MB-RSS", "RssAnon": "MB-anon", "VmHWM": "MB-peak"} {
				b.ReportMetric(memory(b, cmd.Process.Pid, name), unit)
			}
			in.Close()
			if err := cmd.Wait(); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// ticks is the processor time of a process in hundredths of a second.
func ticks(b *testing.B, pid int) int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Skip(err)
	}
	f := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+2:]))
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return user + system
}

func memory(b *testing.B, pid int, name string) float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Skip(err)
	}
	_, rest, _ := strings.Cut(string(text), name+":")
	kb, _ := strconv.Atoi(strings.Fields(rest)[0])
	return float64(kb) / 1024
}
