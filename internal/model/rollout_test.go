package model

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// run is a rollout over n nodes, each of which ends as fate says of its number, 1 for the first; it returns the waves as they began, and the end.
func rollOut(t *testing.T, r Rollout, n int, fate func(int) Phase) (waves []int, end *Rollout) {
	t.Helper()
	ops := []Op{{KindImage, "i", &Image{Name: "i"}}}
	for i := range n {
		name := NodeName(fmt.Sprintf("n%d", i+1))
		r.Nodes = append(r.Nodes, name)
		ops = append(ops, Op{KindNode, string(name), &Node{Name: name}})
	}
	r.Name, r.Image, r.Begun = "i-1", "i", noon
	rev := Revision(0)
	apply := func(s *Snapshot, ops []Op) *Snapshot {
		rev++
		s, err := Apply(s, &Change{Revision: rev, Ops: ops})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := apply(Empty(), append(ops, Op{KindRollout, r.Name, &r}))
	for range 3 * n {
		next, arm := s.Next(s.Rollout("i-1"), noon)
		if next == nil {
			t.Fatal("it goes no further")
		}
		ops := []Op{{KindRollout, "i-1", next}}
		for _, name := range arm {
			ops = append(ops, Op{KindDeployment, string(name), &Deployment{Node: name, Image: "i", Phase: Fetching, Rollout: "i-1"}})
		}
		s = apply(s, ops)
		if !next.Ended.IsZero() {
			return waves, next
		}
		waves = append(waves, len(arm))
		for i, name := range arm {
			if i == 0 && len(arm) > 1 {
				if again, _ := s.Next(s.Rollout("i-1"), noon); again != nil {
					t.Fatalf("wave %d has not ended, and it goes on", next.Wave)
				}
			}
			place := slices.Index(r.Nodes, name) + 1
			if got := next.WaveOf(place - 1); got != next.Wave {
				t.Errorf("%s began in wave %d, and says %d", name, next.Wave, got)
			}
			s = apply(s, []Op{{KindDeployment, string(name), &Deployment{Node: name, Image: "i", Phase: fate(place), Rollout: "i-1"}}})
		}
	}
	t.Fatal("it never ends")
	return nil, nil
}

func TestRollout(t *testing.T) {
	good := func(int) Phase { return Up }
	bad := func(from, to int) func(int) Phase {
		return func(i int) Phase {
			if i >= from && i <= to {
				return Held
			}
			return Up
		}
	}
	for _, c := range []struct {
		name  string
		r     Rollout
		n     int
		fate  func(int) Phase
		waves string
		why   string // "" is done
	}{
		{"canary, then all", Rollout{Canary: 2, StopAt: 10}, 40, good, "[2 38]", ""},
		{"batches", Rollout{Batch: 15, StopAt: 10}, 40, good, "[15 15 10]", ""},
		{"canary, then batches", Rollout{Canary: 1, Batch: 20, StopAt: 10}, 40, good, "[1 20 19]", ""},
		{"canary fails", Rollout{Canary: 1, StopAt: 10}, 40, bad(1, 1), "[1]", "1 of 1 nodes failed, and 10 % stop it: 39 are not begun; see: muster why n1"},
		{"fewer failures than the share", Rollout{Batch: 20, StopAt: 10}, 40, bad(1, 1), "[20 20]", ""},
		{"the share is reached later", Rollout{Batch: 10, StopAt: 20}, 40, bad(12, 15), "[10 10]", "4 of 20 nodes failed, and 20 % stop it: 20 are not begun; see: muster why n12"},
		{"failures of the last wave stop nothing", Rollout{Batch: 20, StopAt: 1}, 40, bad(21, 40), "[20 20]", ""},
		{"who was cancelled has not failed", Rollout{Batch: 20, StopAt: 1}, 40, func(i int) Phase { return map[bool]Phase{true: Cancelled, false: Up}[i < 10] }, "[20 20]", ""},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			waves, end := rollOut(t, c.r, c.n, c.fate)
			if fmt.Sprint(waves) != c.waves || end.Reason != c.why || (end.Code == TooManyFailed) != (c.why != "") || !end.Ended.Equal(noon) {
				t.Errorf("waves %v, want %s; ended %+v", waves, c.waves, end)
			}
			if c.why == "" && end.Waves() != len(waves) {
				t.Errorf("%d waves were announced, %d came", end.Waves(), len(waves))
			}
		})
	}
}

func TestDeploying_and_Claimed_name_what_is_under_way(t *testing.T) {
	put := func(n NodeName, p Phase) Op {
		return Op{KindDeployment, string(n), &Deployment{Node: n, Image: "i", Phase: p, Actor: "eva", Begun: noon}}
	}
	s, err := Apply(Empty(), &Change{Revision: 1, Ops: []Op{
		put("n1", Fetching), put("n2", Up), put("n3", Held), put("n4", Armed),
		{KindRollout, "i-1", &Rollout{Name: "i-1", Image: "i", Nodes: []NodeName{"n8", "n5"}, Started: 1, Actor: "ada", Begun: noon}},
		{KindRollout, "i-2", &Rollout{Name: "i-2", Image: "i", Nodes: []NodeName{"n6"}, Actor: "ada", Begun: noon, Ended: noon}},
		{KindClaim, "n7", &Claim{Node: "n7", Operation: "firmware update", Actor: "bo", Reason: "bios.bin", Request: "q1", Since: noon, Expires: noon.Add(time.Hour)}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	all := []NodeName{"n1", "n2", "n3", "n4", "n5", "n6", "n7"}
	want := `n1: a deployment is under way: deployment of image i by eva since 2026-11-20T12:00:00Z is fetching. Wait for it, or end it: muster deploy n1 --cancel
n5: a deployment is under way: rollout i-1 of image i by ada since 2026-11-20T12:00:00Z has them before it. Wait for it, or end it: muster deploy n5 --cancel`
	if got := told(Deploying(s, all)); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	want = "n7: an operation is under way: firmware update by bo since 2026-11-20T12:00:00Z, at most until 2026-11-20T13:00:00Z: bios.bin. Wait until it has ended"
	if got := told(Claimed(s, all, "q2", noon)); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	if got := append(Claimed(s, all, "q1", noon), Claimed(s, all, "q2", noon.Add(time.Hour))...); got != nil {
		t.Errorf("of the own request, or after its time: %v", got)
	}
}

func TestLocked_ends_with_its_time(t *testing.T) {
	s, err := Apply(Empty(), &Change{Revision: 1, Ops: []Op{
		{KindNode, "n1", &Node{Name: "n1", Lock: &Lock{Actor: "eva", Reason: "disk", Time: noon, Expires: noon.Add(time.Hour)}}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if got := Locked(s, []NodeName{"n1"}, noon); len(got) != 1 || got[0].Why != "by eva since 2026-11-20T12:00:00Z until 2026-11-20T13:00:00Z: disk" {
		t.Errorf("got %v", got)
	}
	if got := Locked(s, []NodeName{"n1"}, noon.Add(time.Hour)); got != nil {
		t.Errorf("after its time: %v", got)
	}
}
