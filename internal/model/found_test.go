package model

import (
	"fmt"
	"sync"
	"testing"
)

// TestKeptValuesFollowTheWorld asks twice each time: the second answer may be a kept one.
func TestKeptValuesFollowTheWorld(t *testing.T) {
	s := apply(t, Empty(), network("c", "10.0.0.0/8", "10.0.0.1"), group("g", "", "custom.a={n1+1}", "net.boot.network=c"), node("n1", []GroupName{"g"}), node("n2", []GroupName{"g"}))
	show := func(s *Snapshot, n *Node) string {
		s.Names()
		var out []string
		for range 2 {
			for _, a := range []AttrName{"custom.a", "net.boot.gateway", "custom.none"} {
				v, err := s.Attr(n, a)
				out = append(out, fmt.Sprint(v, err))
			}
		}
		return fmt.Sprint(out)
	}
	twice := func(a, b string) string {
		return fmt.Sprintf("[%s<nil> %s<nil> <nil> %s<nil> %s<nil> <nil>]", a, b, a, b)
	}
	check := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: got %s, want %s", what, got, want)
		}
	}
	check("n1", show(s, s.Node("n1")), twice("2", "10.0.0.1"))
	check("n2", show(s, s.Node("n2")), twice("3", "10.0.0.1"))
	own := *s.Node("n1")
	own.Attrs = map[AttrName]string{"custom.a": "{n1+7}"}
	check("n1 as it might be", show(s, &own), twice("8", "10.0.0.1"))
	check("n1 again", show(s, s.Node("n1")), twice("2", "10.0.0.1"))
	next := apply(t, s, network("c", "10.0.0.0/8", "10.0.0.9"), group("g", "", "custom.a={n1+5}", "net.boot.network=c"))
	check("after a change of group and network", show(next, next.Node("n1")), twice("6", "10.0.0.9"))
	check("the old world", show(s, s.Node("n1")), twice("2", "10.0.0.1"))
	seen := apply(t, next, Op{KindState, "n1", &State{Node: "n1"}})
	if seen.found != next.found {
		t.Error("an observation threw away what was found")
	}
	check("after an observation", show(seen, seen.Node("n1")), twice("6", "10.0.0.9"))
}

func TestFewAttributesAreKept(t *testing.T) {
	attrs := []string{}
	for i := range maxColumns * 3 {
		attrs = append(attrs, fmt.Sprintf("custom.a%d={n1+%d}", i, i))
	}
	s := apply(t, Empty(), node("n1", nil, attrs...))
	s.Names()
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			for i := range maxColumns * 3 {
				if v, err := s.Attr(s.Node("n1"), AttrName(fmt.Sprintf("custom.a%d", i))); v != fmt.Sprint(i+1) || err != nil {
					t.Errorf("custom.a%d is %s, %v", i, v, err)
				}
			}
		})
	}
	wait.Wait()
	kept := 0
	s.found.columns.Range(func(any, any) bool { kept++; return true })
	if kept == 0 || kept > maxColumns {
		t.Errorf("%d attributes are kept, of at most %d", kept, maxColumns)
	}
}

// BenchmarkAgain reads what is worked out for every node: an expression, what a network gives, and what a dynamic group gives.
func BenchmarkAgain(b *testing.B) {
	for _, n := range sizes {
		s := apply(b, bigWorld(b, n), network("c", "10.0.0.0/8", "10.0.0.1"), group("everything", "", "net.boot.network=c", "custom.sum={net.boot.gateway+n1}"),
			group("dyn", "~n.*[0-4],location.rack=7", "ssh.user={nodename}"), group("plain", "~n.*7", "ssh.port=24"))
		s.Names()
		for _, a := range []AttrName{"net.boot.address", "net.boot.gateway", "custom.sum", "ssh.user", "ssh.port"} {
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
