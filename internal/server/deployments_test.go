package server

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"muster/internal/api"
	"muster/internal/boot"
	"muster/internal/model"
)

// enrolled is a machine that has a deployment and got as far as its certificate.
func enrolled(t *testing.T, s *service, set ...api.Assignment) *machine {
	t.Helper()
	s.add("r1n1", append([]api.Assignment{attr("net.boot.mac", "52:54:00:77:00:01"), attr("net.boot.address", "127.0.0.1")}, set...)...)
	fakeImage(t, s)
	s.deploy("r1n1")
	m := newMachine(t, s)
	m.script()
	if _, code := m.enrol(); code != http.StatusOK {
		t.Fatalf("enrolment: %d", code)
	}
	return m
}

func (m *machine) report(step string, done, of int) int {
	m.t.Helper()
	return m.ask("POST", "/v1/node/progress", api.Progress{Step: step, Made: model.Progress{Done: done, Of: of}}, nil)
}

// steps are the nodes' lines of the timeline with that step.
func (s *service) told(step string) []model.Event {
	s.t.Helper()
	var out []model.Event
	for e, err := range api.Stream[model.Event](context.Background(), s.client, "GET", "/v1/events", nil, nil) {
		if err != nil {
			s.t.Fatal(err)
		}
		if e.Step == step {
			out = append(out, e)
		}
	}
	return out
}

// The limit is that of the attribute; it goes on over a restart of the service, and ends in held, once, with where the node was.
func TestDeployment_that_takes_too_long_is_held_also_over_a_restart(t *testing.T) {
	data := shortDir(t)
	s := start(t, data)
	m := enrolled(t, s, attr("deploy.limit.fetching", "2s"))
	if m.report("fetching", 43, 100) != http.StatusOK {
		t.Fatal("the report was refused")
	}
	if st := s.status("r1n1"); st.Step != "fetching 43 %" || st.Deadline.Sub(st.Since) != 2*time.Second {
		t.Fatalf("status %+v", st)
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	s = start(t, data)
	m.s = s
	s.until("held", func() bool { return m.phase() == "held" })
	st := s.status("r1n1")
	if st.Code != model.PhaseTooLong || !strings.HasPrefix(st.Reason, "fetching 43 % for more than 2s (deploy.limit.fetching): ") {
		t.Errorf("status %+v", st)
	}
	if m.report("starting", 0, 0); m.phase() != "held" {
		t.Errorf("a late report moved it to %s", m.phase())
	}
	if m.ask("POST", "/v1/node/up", api.Up{BootID: "b1"}, nil); m.phase() != "held" {
		t.Errorf("a late agent moved it to %s", m.phase())
	}
	if got := s.told(boot.StepLate); len(got) != 1 || !got[0].Bad || got[0].Node != "r1n1" || got[0].Reason != st.Reason {
		t.Errorf("told %+v", got)
	}
}

// What a node reports every second is in the status at once, does not go back, and is written only now and then.
func TestDeployment_progress_is_told_at_once_and_written_now_and_then(t *testing.T) {
	s := start(t, shortDir(t))
	m := enrolled(t, s)
	m.report("fetching", 0, 100)
	before := s.srv.store.Snapshot().Deployment("r1n1")
	for p := 1; p <= 9; p++ {
		m.report("fetching", p, 100)
	}
	m.report("fetching", 5, 100)
	if st := s.status("r1n1"); st.Step != "fetching 9 %" {
		t.Errorf("status %+v", st)
	}
	if got := s.srv.store.Snapshot().Deployment("r1n1"); got != before {
		t.Errorf("nine percent were written: %+v", got)
	}
	m.report("fetching", 43, 100)
	s.until("shared", func() bool { return s.srv.store.Snapshot().Deployment("r1n1").Progress.Done == 43 })
	s.srv.made = made{} // as on a manager that was not told, or after a start
	if st := s.status("r1n1"); st.Step != "fetching 43 %" {
		t.Errorf("status %+v", st)
	}
	m.report("fetching", 20, 100) // late
	if st := s.status("r1n1"); st.Step != "fetching 43 %" {
		t.Errorf("a late report moved it to %s", st.Step)
	}
	m.ask("POST", "/v1/node/progress", api.Progress{Step: "jobs", Made: model.Progress{Done: 3, Of: 7}, Output: "mounted /home"}, nil)
	if st := s.status("r1n1"); st.Step != "jobs 3/7" || st.Output != "mounted /home" || st.Status != "jobs" {
		t.Errorf("status %+v", st)
	}
}

// A machine whose BMC cannot be reached does not stay armed without a word.
func TestDeployment_that_cannot_be_restarted_is_held(t *testing.T) {
	s := start(t, shortDir(t))
	s.add("r1n1", attr("bmc.driver", "null"))
	fakeImage(t, s)
	for r, err := range api.Stream[api.DeployResult](context.Background(), s.client, "POST", "/v1/deploy", api.Deploy{Range: api.Range{Range: "r1n1"}, Image: "compute", Reboot: true}, nil) {
		if err != nil {
			t.Fatal(err)
		}
		if r.Error == nil || r.Phase != "held" {
			t.Errorf("answer %+v", r)
		}
	}
	if st := s.status("r1n1"); st.Status != "held" || st.Code != model.BMCFailed || !strings.Contains(st.Reason, "could not be restarted") {
		t.Errorf("status %+v", st)
	}
}
