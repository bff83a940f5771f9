package server

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"muster/internal/api"
	"muster/internal/job"
	"muster/internal/model"
)

// working is a service with a node that is up, and the node's side of the protocol.
func working(t *testing.T) (*service, *machine) {
	t.Helper()
	s := start(t, shortDir(t))
	s.add("r1n1", attr("net.boot.mac", "52:54:00:77:00:01"), attr("net.boot.address", "127.0.0.1"))
	fakeImage(t, s)
	m := newMachine(t, s)
	s.deploy("r1n1")
	m.script()
	if _, code := m.enrol(); code != http.StatusOK {
		t.Fatalf("enrolment: %d", code)
	}
	for _, step := range []string{"fetching", "starting"} {
		m.ask("POST", "/v1/node/progress", api.Progress{Step: step}, nil)
	}
	if code := m.ask("POST", "/v1/node/up", api.Up{BootID: "b1", Facts: &model.Facts{BootID: "b1"}}, nil); code != http.StatusOK {
		t.Fatalf("up: %d", code)
	}
	return s, m
}

func (s *service) job(name string, steps ...model.JobStep) {
	s.t.Helper()
	s.must("/v1/jobs/set", api.SetJob{Name: name, Steps: steps}, nil)
}

func (m *machine) work(boot, last string) api.WorkToDo {
	m.t.Helper()
	var todo api.WorkToDo
	if code := m.ask("POST", "/v1/node/work", api.AskWork{BootID: boot, Last: last}, &todo); code != http.StatusOK {
		m.t.Fatalf("work: %d", code)
	}
	return todo
}

func (m *machine) tell(in api.TellWork) {
	m.t.Helper()
	if code := m.ask("POST", "/v1/node/told", in, nil); code != http.StatusOK {
		m.t.Fatalf("told: %d", code)
	}
}

// results are the lines of a verb over nodes that runs in the background.
func (s *service) running(path string, in any) <-chan []api.JobResult {
	out := make(chan []api.JobResult, 1)
	go func() {
		var all []api.JobResult
		for line, err := range s.client.Lines(context.Background(), "POST", path, in, nil) {
			var r api.JobResult
			if err == nil {
				err = json.Unmarshal(line, &r)
			}
			if err != nil {
				s.t.Error(err)
				break
			}
			all = append(all, r)
		}
		out <- all
	}()
	return out
}

func (s *service) jobLog() string {
	s.t.Helper()
	var b strings.Builder
	for line, err := range s.client.Lines(context.Background(), "GET", "/v1/jobs/log/r1n1", nil, nil) {
		if err != nil {
			s.t.Fatal(err)
		}
		b.Write(append(line, '\n'))
	}
	return b.String()
}

func told(jobName, step string, what job.What, output string) api.JobLine {
	return api.JobLine{Time: time.Now(), Job: jobName, Event: job.Event{Step: step, What: what, Output: []byte(output)}}
}

func TestWork_is_handed_out_at_once_and_its_end_told(t *testing.T) {
	s, m := working(t)
	s.job("base", model.JobStep{Name: "a", Script: "echo a"}, model.JobStep{Name: "b", Script: "false"})
	asked := make(chan api.WorkToDo, 1)
	go func() { asked <- m.work("b1", "boot-b1") }()
	results := s.running("/v1/jobs/run", api.RunJob{Range: api.Range{Range: "r1n1"}, Jobs: []string{"base", "base"}})
	todo := <-asked
	if len(todo.Jobs) != 1 || len(todo.Jobs[0].Steps) != 2 || todo.Attrs["net.boot.mac"] != "52:54:00:77:00:01" || todo.Attrs["node"] != "r1n1" {
		t.Fatalf("to do: %+v", todo)
	}

	// While it runs, nobody else gets the node, and is told who has it.
	m.tell(api.TellWork{ID: todo.ID, Lines: []api.JobLine{told("base", "a", job.Begun, ""), told("base", "a", job.Printed, "hello\n")}})
	other := <-s.running("/v1/jobs/run", api.RunJob{Range: api.Range{Range: "r1n1"}, Jobs: []string{"base"}})
	if len(other) != 1 || other[0].Error == nil || other[0].Error.Code != api.Conflict || !strings.Contains(other[0].Error.Why, "step base/a") {
		t.Errorf("got %+v", other)
	}

	// The same lines again, and more: those are there once.
	m.tell(api.TellWork{ID: todo.ID, Lines: []api.JobLine{told("base", "a", job.Begun, ""), told("base", "a", job.Printed, "hello\n"), told("base", "a", job.Done, "")}})
	m.tell(api.TellWork{ID: todo.ID, Seq: 3, Lines: []api.JobLine{told("base", "b", job.Begun, ""), told("base", "b", job.Failed, "")}, Ended: true, Why: "base: step b: it ended with exit status 1"})
	got := <-results
	if len(got) != 1 || got[0].Phase != "failed" || got[0].Step != "base/b" || got[0].Number != 2 || got[0].Steps != 2 || got[0].Error == nil || !strings.Contains(got[0].Error.Why, "exit status 1") {
		t.Errorf("got %+v", got)
	}
	if log := s.jobLog(); strings.Count(log, `"begun"`) != 2 || strings.Count(log, `"printed"`) != 1 {
		t.Errorf("the log:\n%s", log)
	}
	if code := m.ask("POST", "/v1/node/told", api.TellWork{ID: "another"}, nil); code != http.StatusConflict {
		t.Errorf("lines of work that it was not asked for: %d", code)
	}
}

func TestWork_after_a_start_comes_from_the_attribute_jobs(t *testing.T) {
	s, m := working(t)
	s.job("base", model.JobStep{Name: "a", Script: "true"})
	s.must("/v1/set", api.SetAttrs{Range: api.Range{Range: "r1n1"}, Set: []api.Assignment{attr("jobs", "base,base")}}, nil)
	todo := m.work("b1", "")
	if todo.ID != "boot-b1" || len(todo.Jobs) != 1 {
		t.Fatalf("to do: %+v", todo)
	}
	if again := m.work("b1", ""); again.ID != todo.ID { // our answer was lost
		t.Errorf("asked again: %+v", again)
	}
	if log := s.jobLog(); !strings.Contains(log, "named twice") {
		t.Errorf("nobody says that it is named twice:\n%s", log)
	}
	m.tell(api.TellWork{ID: todo.ID, Lines: []api.JobLine{told("base", "a", job.Begun, "")}})

	// The node dies there, and starts again.
	todo = m.work("b2", "")
	if todo.ID != "boot-b2" {
		t.Errorf("after the next start: %+v", todo)
	}
	s.until("the timeline says that the work was lost", func() bool {
		_, b := s.get("/v1/events?range=r1n1")
		return strings.Contains(string(b), "job.lost") && strings.Contains(string(b), "started again while step base/a ran")
	})
	m.tell(api.TellWork{ID: todo.ID, Ended: true})
	if d := s.srv.doing(s.srv.store.Snapshot(), "r1n1"); d.Phase != model.WorkDone {
		t.Errorf("%+v", d)
	}

	s.must("/v1/jobs/remove", api.DocAction{Name: "base"}, nil)
	go m.ask("POST", "/v1/node/work", api.AskWork{BootID: "b3"}, nil) // there is nothing for it: it waits until the service ends
	s.until("it says that there is no such job", func() bool {
		d := s.srv.doing(s.srv.store.Snapshot(), "r1n1")
		return d.BootID == "b3" && d.Phase == model.WorkFailed && strings.Contains(d.Why, "there is no job base")
	})
}

// A node that was removed is told so, and one that is added by its name knows nothing of the work of the other.
func TestWork_of_a_node_that_is_removed(t *testing.T) {
	s, m := working(t)
	s.job("base", model.JobStep{Name: "a", Script: "true"})
	s.must("/v1/set", api.SetAttrs{Range: api.Range{Range: "r1n1"}, Set: []api.Assignment{attr("jobs", "base")}}, nil)
	m.work("b1", "")
	s.must("/v1/nodes/remove", api.RemoveNodes{Range: api.Range{Range: "r1n1"}}, nil)
	var e api.Error
	if code := m.ask("POST", "/v1/node/work", api.AskWork{BootID: "b1"}, &e); code == http.StatusOK {
		t.Errorf("a node that was removed is answered %d", code)
	}
	s.add("r1n1")
	if d := s.srv.doing(s.srv.store.Snapshot(), "r1n1"); d != nil {
		t.Errorf("the new node has done %+v", d)
	}
}

// What was told is kept by a service that is killed, and not written twice by the next.
func TestWork_log_goes_on_after_a_restart(t *testing.T) {
	s, m := working(t)
	s.job("base", model.JobStep{Name: "a", Script: "true"})
	s.must("/v1/set", api.SetAttrs{Range: api.Range{Range: "r1n1"}, Set: []api.Assignment{attr("jobs", "base,base")}}, nil)
	todo := m.work("b1", "")
	first := api.TellWork{ID: todo.ID, Lines: []api.JobLine{told("base", "a", job.Begun, ""), told("base", "a", job.Printed, "x")}}
	m.tell(first)
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	s = start(t, s.data)
	m.s = s
	m.tell(first) // it had no answer
	m.tell(api.TellWork{ID: todo.ID, Seq: 2, Lines: []api.JobLine{told("base", "a", job.Done, "")}, Ended: true})
	if log := s.jobLog(); strings.Count(log, `"begun"`) != 1 || strings.Count(log, `"printed"`) != 1 || strings.Count(log, `"done"`) != 1 {
		t.Errorf("the log:\n%s", log)
	}
}

func TestJobRun_of_a_node_that_is_not_up(t *testing.T) {
	s := start(t, shortDir(t))
	s.add("r1n1")
	s.job("base", model.JobStep{Name: "a", Script: "true"})
	got := <-s.running("/v1/jobs/run", api.RunJob{Range: api.Range{Range: "r1n1"}, Jobs: []string{"base"}})
	if len(got) != 1 || got[0].Error == nil || !strings.Contains(got[0].Error.Why, "only one that is up runs jobs") {
		t.Errorf("got %+v", got)
	}
	wants(t, s.post("/v1/jobs/run", api.RunJob{Range: api.Range{Range: "r1n1"}, Jobs: []string{"bsae"}}, nil), api.Unknown, "there is no job bsae", "Did you mean base?")
	wants(t, s.post("/v1/jobs/set", api.SetJob{Name: "x", Steps: []model.JobStep{{Name: "A", Script: ""}}}, nil), api.Usage, "the name is wrong", "no script")
}
