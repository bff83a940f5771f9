package model

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// The table as a whole: no phase is forgotten, each is reached, and each can end.
func TestPhases_are_all_in_the_table(t *testing.T) {
	if len(follows) != len(Phases) {
		t.Errorf("%d phases, %d in the table", len(Phases), len(follows))
	}
	reached, grew := map[Phase]bool{Armed: true}, true
	for grew {
		grew = false
		for from := range reached {
			for _, to := range follows[from] {
				grew = grew || !reached[to]
				reached[to] = true
			}
		}
	}
	for _, p := range Phases {
		if !reached[p] {
			t.Errorf("%s is never reached", p)
		}
		if !p.Rests() && (!Held.CanFollow(p) || !Cancelled.CanFollow(p)) {
			t.Errorf("%s can be neither held nor cancelled", p)
		}
		if p.Rests() && p.Runs() || !p.Rests() && !p.Runs() && p != Armed {
			t.Errorf("%s rests and runs, or neither", p)
		}
	}
}

// Whatever order reports come in, how often and how late, only a network boot leads back to an earlier phase, and only a person leaves an end.
func TestPhases_reports_never_move_a_deployment_back(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	reports := []Phase{Fetching, Starting, Writing, Jobs, Up}
	for range 2000 {
		d := Deployment{Phase: Enrolled}
		for range 30 {
			to := reports[r.IntN(len(reports))]
			next, err := d.To(to, noon, 0)
			back := slices.Index(Phases, to) <= slices.Index(Phases, d.Phase)
			if back != (err != nil) {
				t.Fatalf("seed %d: from %s to %s: %v", seed, d.Phase, to, err)
			}
			if err == nil {
				d = next
			}
		}
		if d.Phase != Up && r.IntN(2) == 0 {
			d, _ = d.To(Held, noon, 0)
			for _, to := range reports {
				if _, err := d.To(to, noon, 0); !errors.As(err, new(*TransitionError)) {
					t.Fatalf("held goes to %s", to)
				}
			}
		}
	}
}

func TestTo_leaves_behind_what_belongs_to_the_phase(t *testing.T) {
	d := Deployment{
		Node: "n1", Phase: Fetching, Code: NodeFailed, Reason: "r", Since: noon.Add(-time.Hour), Deadline: noon, Boots: 3, Left: 1, TokenKey: "k",
		Progress: Progress{43, 100}, Output: "o", Begun: noon.Add(-time.Hour),
	}
	got, err := d.To(Starting, noon, time.Minute)
	want := Deployment{Node: "n1", Phase: Starting, Since: noon, Deadline: noon.Add(time.Minute), Boots: 3, Left: 1, TokenKey: "k", Begun: d.Begun}
	if err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	if got.Late(noon.Add(time.Minute)) || !got.Late(noon.Add(time.Minute+1)) {
		t.Error("it is late at its deadline, or never")
	}
	if end, err := got.To(Up, noon, time.Minute); err != nil || !end.Deadline.IsZero() || end.Late(noon.Add(time.Hour)) {
		t.Errorf("an end has a deadline: %+v, %v", end, err)
	}
}

func TestStep(t *testing.T) {
	for want, d := range map[string]Deployment{
		"fetching 43 %":    {Phase: Fetching, Progress: Progress{43, 100}},
		"fetching":         {Phase: Fetching},
		"writing disk 7 %": {Phase: Writing, Progress: Progress{7, 100}},
		"jobs 3/7":         {Phase: Jobs, Progress: Progress{3, 7}},
		"held":             {Phase: Held, Progress: Progress{3, 7}},
	} {
		if got := d.Step(); got != want {
			t.Errorf("%+v: %q, want %q", d, got, want)
		}
	}
}

func TestCheck_refuses_a_transition_that_is_not_in_the_table(t *testing.T) {
	begun := noon.Add(-time.Hour)
	put := func(p Phase, at time.Time) Op {
		return Op{KindDeployment, "n1", &Deployment{Node: "n1", Image: "i", Phase: p, Begun: at}}
	}
	s, err := Apply(Empty(), &Change{Revision: 1, Ops: []Op{
		{KindNode, "n1", &Node{Name: "n1"}},
		{KindImage, "i", &Image{Name: "i"}},
		put(Starting, begun),
	}})
	if err != nil {
		t.Fatal(err)
	}
	if got := Check(s, []Op{put(Fetching, begun)}); len(got) != 1 || got[0].Why != "a deployment does not go from starting to fetching, only to writing, jobs, up, booting, armed, held, cancelled" {
		t.Errorf("back: %v", got)
	}
	for _, ok := range []Op{put(Starting, begun), put(Up, begun), put(Fetching, noon), {KindDeployment, "n1", nil}} {
		if got := Check(s, []Op{ok}); len(got) > 0 {
			t.Errorf("%+v: %v", ok.Doc, got)
		}
	}
}

func TestLimit_is_the_attribute_of_the_phase(t *testing.T) {
	s, err := Apply(Empty(), &Change{Revision: 1, Ops: []Op{
		{KindNode, "n1", &Node{Name: "n1", Attrs: map[AttrName]string{"deploy.limit.fetching": "90s", "deploy.limit.jobs": "0s"}}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	for p, want := range map[Phase]time.Duration{Fetching: 90 * time.Second, Jobs: 0, Starting: 10 * time.Minute, Held: 0, Up: 0} {
		if got := s.Limit(s.Node("n1"), p); got != want {
			t.Errorf("%s: %s, want %s", p, got, want)
		}
	}
	for _, p := range Phases {
		if _, ok := known.exact[AttrName("deploy.limit."+string(p))]; ok == p.Rests() {
			t.Errorf("%s has an attribute for its limit, or has none", p)
		}
	}
}

// A machine whose disk is written starts again, and comes up from there without enrolment; one whose disk is not cannot.
func TestTo_on_disk_starts_again(t *testing.T) {
	begun := noon.Add(-time.Hour)
	for _, c := range []struct{ from, to Phase }{{Writing, Starting}, {Booting, Jobs}, {Booting, Up}} {
		d := Deployment{Phase: c.from, Layout: "l", Begun: begun}
		if _, err := d.To(c.to, noon, 0); !errors.As(err, new(*TransitionError)) {
			t.Errorf("%s to %s, nothing written: %v", c.from, c.to, err)
		}
		was := d
		d.Installed = noon
		next, err := d.To(c.to, noon, 0)
		if err != nil || next.Phase != c.to || next.Layout != "l" || next.Installed != noon {
			t.Errorf("%s to %s: %+v, %v", c.from, c.to, next, err)
		}
		if why := transition(&was, &next); why != "" {
			t.Error(why)
		}
		if next.Installed = (time.Time{}); transition(&was, &next) == "" {
			t.Errorf("%s to %s is committed, with nothing written", c.from, c.to)
		}
	}
}
