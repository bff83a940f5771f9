package model

import (
	"encoding/json"
	"fmt"
	"runtime"
	"syscall"
	"testing"

	"muster/internal/model/noderange"
)

var sizes = []int{1_000, 10_000, 100_000}

// cluster is n nodes with 40 attributes each, 4 of them expressions, in 10 groups.
func cluster(n int) []Op {
	var ops []Op
	var groups []GroupName
	for g := range 9 {
		name := fmt.Sprintf("g%d", g)
		groups = append(groups, GroupName(name))
		ops = append(ops, group(name, "", fmt.Sprintf("custom.group%d=x", g), "location.room={custom.group0}"))
	}
	ops = append(ops, group("everything", "", "bmc.user=admin", "net.boot.prefix=16"))
	for i := 1; i <= n; i++ {
		attrs := []string{
			fmt.Sprintf("net.boot.mac=52:54:%02x:%02x:%02x:01", i>>16, i>>8&255, i&255),
			"net.boot.address=10.{n1/65536}.{n1/256%256}.{n1%256}",
			"bmc.address=11.{n1/65536}.{n1/256%256}.{n1%256}",
			"location.rack={n1/40}",
			"custom.name={nodename}-bmc",
		}
		for a := range 35 {
			attrs = append(attrs, fmt.Sprintf("custom.a%d=value", a))
		}
		ops = append(ops, node(fmt.Sprintf("n%d", i), groups, attrs...))
	}
	return ops
}

// processor tells the processor time of each round, besides the wall time: other work on the machine counts less.
func processor(b *testing.B) func() {
	used := func() float64 {
		var r syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
			b.Fatal(err)
		}
		return float64(r.Utime.Nano() + r.Stime.Nano())
	}
	before := used()
	return func() { b.ReportMetric((used()-before)/float64(b.N), "cpu-ns/op") }
}

func bigWorld(b testing.TB, n int) *Snapshot { return apply(b, Empty(), cluster(n)...) }

func BenchmarkApply(b *testing.B) {
	for _, n := range sizes {
		ops := cluster(n)
		s := apply(b, Empty(), ops...)
		b.Run(fmt.Sprintf("all/%d", n), func(b *testing.B) {
			defer processor(b)()
			for b.Loop() {
				apply(b, Empty(), ops...)
			}
		})
		b.Run(fmt.Sprintf("one/%d", n), func(b *testing.B) {
			one := node("n500", s.Node("n500").Groups, "net.boot.mac=52:54:00:ff:ff:ff", "net.boot.address=10.255.0.1")
			defer processor(b)()
			for b.Loop() {
				apply(b, s, one)
			}
		})
		b.Run(fmt.Sprintf("state/%d", n), func(b *testing.B) {
			defer processor(b)()
			one := Op{KindState, "n500", &State{Node: "n500", Power: "on"}}
			for b.Loop() {
				apply(b, s, one)
			}
		})
		b.Run(fmt.Sprintf("group/%d", n), func(b *testing.B) {
			defer processor(b)()
			one := group("g3", "", "custom.group3=y")
			for b.Loop() {
				apply(b, s, one)
			}
		})
		b.Run(fmt.Sprintf("check-one/%d", n), func(b *testing.B) {
			defer processor(b)()
			one := node("n500", []GroupName{"g0"}, "net.boot.mac=52:54:00:ff:ff:ff", "net.boot.address=10.255.0.{n1%10}")
			for b.Loop() {
				if p := Check(s, []Op{one}); p != nil {
					b.Fatal(p)
				}
			}
		})
		b.Run(fmt.Sprintf("check-group/%d", n), func(b *testing.B) {
			defer processor(b)()
			one := group("g3", "", "custom.group3=y")
			for b.Loop() {
				if p := Check(s, []Op{one}); p != nil {
					b.Fatal(p)
				}
			}
		})
		b.Run(fmt.Sprintf("check-all/%d", n), func(b *testing.B) {
			defer processor(b)()
			for b.Loop() {
				if p := Check(Empty(), ops); p != nil {
					b.Fatal(p[0])
				}
			}
		})
	}
}

func BenchmarkAttr(b *testing.B) {
	for _, n := range sizes {
		s := bigWorld(b, n)
		for _, a := range []AttrName{"net.boot.mac", "net.boot.address", "bmc.user", "location.room", "console.speed"} {
			b.Run(fmt.Sprintf("%s/%d", a, n), func(b *testing.B) {
				defer processor(b)()
				for b.Loop() {
					for n := range s.Nodes() {
						if _, err := s.Attr(n, a); err != nil {
							b.Fatal(err)
						}
					}
				}
			})
		}
	}
}

func BenchmarkFind(b *testing.B) {
	for _, n := range sizes {
		s := bigWorld(b, n)
		s.Names()
		b.Run(fmt.Sprintf("mac/%d", n), func(b *testing.B) {
			defer processor(b)()
			for b.Loop() {
				if s.NodeByMAC("52:54:00:01:00:01") == nil {
					b.Fatal("not found")
				}
			}
		})
		b.Run(fmt.Sprintf("node/%d", n), func(b *testing.B) {
			defer processor(b)()
			for b.Loop() {
				if s.Node("n777") == nil {
					b.Fatal("not found")
				}
			}
		})
		for _, expr := range []string{fmt.Sprintf("n[1-%d]", n), "n7", "g3,-~n.*[3-7]", "bmc.user=admin", "location.rack=7", "g1@~n1.*,-n[1-100]"} {
			b.Run(fmt.Sprintf("%s/%d", expr, n), func(b *testing.B) {
				defer processor(b)()
				for b.Loop() {
					if _, err := s.Expand(expr, noderange.Options{}); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkRange is about terms over all nodes: cold, in a world that nobody asked yet; after a change of one node; warm.
func BenchmarkRange(b *testing.B) {
	for _, n := range sizes {
		ops := append(cluster(n), group("odd", "~n.*[13579]@location.rack=~.*[0-4]", "custom.odd=yes"))
		s := apply(b, Empty(), ops...)
		s.Names()
		for _, expr := range []string{
			"bmc.user=admin", "location.rack=7", "custom.a7=~val.*", "bmc.address=~11\\.0\\..*", "net.*.address=~10\\..*", "custom.odd=yes", "odd",
			"g3,-~n.*[3-7],(custom.group2=x@~n1.*|n2.*5),-location.rack=~.*3",
		} {
			ask := func(b *testing.B, s *Snapshot) {
				if _, err := s.Expand(expr, noderange.Options{}); err != nil {
					b.Fatal(err)
				}
			}
			s := s.clone(s.Revision)
			s.archive = &archive{}
			b.Run(fmt.Sprintf("cold/%s/%d", expr, n), func(b *testing.B) {
				defer processor(b)()
				for b.Loop() {
					c := s.clone(s.Revision)
					c.archive = &archive{}
					c.names = &nameIndex{}
					b.StopTimer()
					c.Names()
					b.StartTimer()
					ask(b, c)
				}
			})
			b.Run(fmt.Sprintf("warm/%s/%d", expr, n), func(b *testing.B) {
				defer processor(b)()
				ask(b, s)
				for b.Loop() {
					ask(b, s)
				}
			})
			b.Run(fmt.Sprintf("changed/%s/%d", expr, n), func(b *testing.B) {
				defer processor(b)()
				s := s.clone(s.Revision)
				s.archive = &archive{}
				ask(b, s)
				for i := 0; b.Loop(); i++ {
					s = apply(b, s, node("n500", s.Node("n500").Groups, fmt.Sprintf("location.rack=%d", i%100)))
					ask(b, s)
				}
			})
		}
	}
}

func BenchmarkMemory(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var before, docs, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			ops := cluster(n)
			runtime.GC()
			runtime.ReadMemStats(&docs)
			s := apply(b, Empty(), ops...)
			s.Names()
			runtime.GC()
			runtime.ReadMemStats(&after)
			runtime.KeepAlive(s)
			runtime.KeepAlive(ops)
			for b.Loop() {
				runtime.Gosched()
			}
			b.ReportMetric(float64(docs.HeapAlloc-before.HeapAlloc)/float64(n), "B/document")
			b.ReportMetric(float64(after.HeapAlloc-docs.HeapAlloc)/float64(n), "B/node-besides")
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, n := range sizes[:2] {
		var docs [][]byte
		for _, op := range cluster(n) {
			if op.Kind == KindNode {
				d, err := json.Marshal(op.Doc)
				if err != nil {
					b.Fatal(err)
				}
				docs = append(docs, d)
			}
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			defer processor(b)()
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			kept := make([]any, len(docs))
			for b.Loop() {
				for i, d := range docs {
					var err error
					if kept[i], err = Decode(KindNode, d); err != nil {
						b.Fatal(err)
					}
				}
			}
			runtime.GC()
			runtime.ReadMemStats(&after)
			b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(len(docs)), "B/document")
			runtime.KeepAlive(kept)
		})
	}
}
