package server

import (
	"context"
	"net/http"
	"net/http/httptest"
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

// deployed puts where the deployments of nodes are, as their machines would have brought them there.
func (s *service) becomes(p model.Phase, nodes ...model.NodeName) {
	s.t.Helper()
	for _, n := range nodes {
		var d *model.Deployment
		s.until(string(n)+" armed and restarted", func() bool {
			d = s.srv.store.Snapshot().Deployment(n)
			st := s.srv.seen.get(s.srv.store.Snapshot(), n)
			return d != nil && d.Phase == model.Armed && st != nil && !st.Restarted.Before(d.Since)
		})
		next := *d
		next.Phase, next.Since = p, time.Now()
		s.commit(model.Op{Kind: model.KindDeployment, Name: string(n), Doc: &next})
	}
}

func (s *service) rollout(name string) (out api.RolloutInfo) {
	s.t.Helper()
	if err := s.client.Do(context.Background(), "GET", "/v1/rollouts/"+name, nil, &out); err != nil {
		s.t.Fatal(err)
	}
	return out
}

func (s *service) deployed(in api.Deploy) (out []api.DeployResult, err error) {
	s.t.Helper()
	for r, err := range api.Stream[api.DeployResult](context.Background(), s.client, "POST", "/v1/deploy", in, nil) {
		if err != nil {
			return out, err
		}
		out = append(out, r)
	}
	return out, nil
}

// A rollout goes from wave to wave with nobody asking, over a restart of the service, and stops where too many fail.
func TestRollout_goes_on_by_itself_and_stops_at_the_share(t *testing.T) {
	data := shortDir(t)
	s := start(t, data)
	s.add("n[1-7]", attr("bmc.driver", "redfish"), attr("bmc.address", "10.0.0.1"), attr("bmc.user", "u"))
	fakeImage(t, s)
	all := api.Range{Range: "n[1-7]"}
	got, err := s.deployed(api.Deploy{Range: all, Image: "compute", Reboot: true, Canary: 1, Batch: 2, StopAt: 30})
	if err != nil || len(got) != 7 || got[0].Phase != "waiting" || got[0].Rollout != "compute-1" {
		t.Fatalf("%+v, %v", got, err)
	}
	s.becomes(model.Up, "n1")
	s.becomes(model.Fetching, "n2", "n3")
	_, err = s.deployed(api.Deploy{Range: all, Image: "compute"})
	wants(t, err, api.Conflict, "n[2-3]: deployment of image compute by root (uid 0) since", "n[4-7]: rollout compute-1 of image compute", "muster deploy n[2-3] --cancel")
	if st := s.status("n5"); st.Status != "waiting" || st.Reason != "it is defined, and waits for wave 3 of 4 of rollout compute-1" {
		t.Errorf("status %+v", st)
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	s = start(t, data)
	if r := s.rollout("compute-1"); r.State != "running" || r.Wave != 2 || r.Waves != 4 || r.Up != 1 || r.Going != 2 || r.Waiting != 4 {
		t.Errorf("%+v", r)
	}
	for n, p := range map[model.NodeName]model.Phase{"n2": model.Up, "n3": model.Held} {
		next := *s.srv.store.Snapshot().Deployment(n)
		next.Phase = p
		s.commit(model.Op{Kind: model.KindDeployment, Name: string(n), Doc: &next})
	}
	s.until("stopped", func() bool { return s.rollout("compute-1").State == "stopped" })
	r := s.rollout("compute-1")
	if r.Reason != "1 of 3 nodes failed, and 30 % stop it: 4 are not begun; see: muster why n3" || r.Waiting != 0 {
		t.Errorf("%+v", r)
	}
	if st := s.status("n5"); st.Status != "defined" {
		t.Errorf("a node that was not begun: %+v", st)
	}
	if got := s.told("rollout.stopped"); len(got) != 1 || got[0].Reason != r.Reason {
		t.Errorf("told %+v", got)
	}
	// What is held is tried again, with the same image; what is up is left alone.
	got, err = s.deployed(api.Deploy{Range: api.Range{Range: "n[1-3]"}, Retry: true, Reboot: true})
	if err != nil || got[0].Phase == "" {
		t.Fatal(err)
	}
	phases := map[string]string{}
	for _, r := range got {
		phases[r.Node] = r.Phase
	}
	if phases["n1"] != "up" || phases["n2"] != "up" || phases["n3"] != "armed" {
		t.Errorf("after the retry: %v", phases)
	}
	if d := s.srv.store.Snapshot().Deployment("n3"); d.Code != model.Again || d.Left != d.Boots || d.Deadline.IsZero() {
		t.Errorf("%+v", d)
	}
}

func TestCancel_ends_what_is_under_way_and_what_waits(t *testing.T) {
	s := start(t, shortDir(t))
	m := enrolled(t, s)
	m.report("fetching", 43, 100)
	got, err := s.deployed(api.Deploy{Range: api.Range{Range: "r1n1"}, Cancel: true})
	if err != nil || got[0].Phase != "cancelled" {
		t.Fatalf("%+v, %v", got, err)
	}
	if st := s.status("r1n1"); st.Status != "cancelled" || st.Code != model.ByPerson || st.Reason != "by root (uid 0) when it was fetching 43 %; the machine was left as it is" {
		t.Errorf("status %+v", st)
	}
	if code := m.report("fetching", 50, 100); code != http.StatusConflict || m.phase() != "cancelled" {
		t.Errorf("a report after it: %d, %s", code, m.phase())
	}
	if code := m.ask("GET", "/v1/node/plan", nil, nil); code != http.StatusConflict {
		t.Errorf("the plan after it: %d", code)
	}
	if code, _ := m.get(m.path); code != http.StatusConflict {
		t.Errorf("the boot script after it: %d", code)
	}
	if _, err := s.deployed(api.Deploy{Range: api.Range{Range: "r1n1"}, Retry: true}); err != nil || m.phase() != "armed" {
		t.Errorf("retry: %v, %s", err, m.phase())
	}
	for _, in := range []api.Deploy{
		{Cancel: true, Image: "compute"},
		{Cancel: true, None: true},
		{Retry: true, Image: "compute"},
		{Image: "compute", Batch: 2},
		{Image: "compute", StopAt: 5, Reboot: true},
		{Image: "compute", Batch: 2, StopAt: 101, Reboot: true},
		{Image: "compute", Batch: -2, Reboot: true},
	} {
		in.Range = api.Range{Range: "r1n1"}
		_, err := s.deployed(in)
		wants(t, err, api.Usage)
	}
}

// What must not meet names each other, both ways, and ends with its time where its manager was killed.
func TestClaims_and_deployments_refuse_each_other(t *testing.T) {
	s := start(t, shortDir(t))
	s.add("n1,n2")
	fakeImage(t, s)
	claim := &model.Claim{Node: "n1", Operation: "capture", Actor: "eva", Reason: "gold", Request: "q1", Since: time.Now(), Expires: time.Now().Add(time.Hour)}
	s.commit(model.Op{Kind: model.KindClaim, Name: "n1", Doc: claim})
	_, err := s.deployed(api.Deploy{Range: api.Range{Range: "n[1-2]"}, Image: "compute"})
	wants(t, err, api.Conflict, "on n1 there is under way: capture by eva since", "gold")
	expired := *claim
	expired.Expires = time.Now()
	s.commit(model.Op{Kind: model.KindClaim, Name: "n1", Doc: &expired})
	if _, err := s.deployed(api.Deploy{Range: api.Range{Range: "n[1-2]"}, Image: "compute"}); err != nil {
		t.Error(err)
	}
	d := *s.srv.store.Snapshot().Deployment("n2")
	d.Phase = model.Writing
	s.commit(model.Op{Kind: model.KindDeployment, Name: "n2", Doc: &d})
	q := &request{Request: httptest.NewRequest("POST", "/", nil), snap: s.srv.store.Snapshot(), id: "q2"}
	_, err = s.srv.claim(q, []*model.Node{q.snap.Node("n2")}, "firmware update", "bios.bin", time.Hour)
	wants(t, err, api.Conflict, "n2: deployment of image compute", "is writing", "muster deploy n2 --cancel")
}
