package agent

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"muster/internal/api"
	"muster/internal/job"
)

// An agent does the work that it gets, tells all of it in order, though the service fails at times, and begins nothing twice.
func TestAgent_does_its_work_once_and_tells_all(t *testing.T) {
	s := newService(t, nil)
	id := enrolAt(t, s, "r1n1")
	cert, _, err := id.tls()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	c := newClient(id.Server, id.Pin, cert)
	log := new(output)
	w := &worker{
		client: func() *client { return c }, dir: filepath.Join(dir, "jobs"), last: filepath.Join(dir, "work"), boot: "b1", log: log,
		env: []string{"MUSTER_NODE=r1n1"},
	}
	marker := filepath.Join(dir, "ran")
	s.todo = []api.WorkToDo{{ID: "one", Attrs: map[string]string{"custom.x": "42"}, Jobs: []api.JobToDo{
		{Name: "base", Steps: []job.Step{
			{Name: "hello", Script: ". \"$MUSTER_LIB\"; say \"$MUSTER_NODE has $(attr custom.x)\"; echo x >>" + marker},
			{Name: "many", Script: "seq 1 20000"},
		}},
		{Name: "next", Steps: []job.Step{{Name: "bad", Script: "exit 9"}, {Name: "never", Script: "echo never"}}},
	}}}
	var refused atomic.Int64
	s.refuseTold = func() bool { return refused.Add(1)%3 == 1 }
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.run(ctx)
	}()
	s.wait(t, "the work has ended", 60*time.Second, func() bool { return len(s.told) > 0 && s.told[len(s.told)-1].Ended })
	s.wait(t, "it asks for more", 30*time.Second, func() bool { return len(s.asked) > 1 })
	stop()
	<-done

	var out strings.Builder
	var steps []string
	next := int64(0)
	for _, in := range s.told {
		if in.Seq != next {
			t.Fatalf("lines from %d on, want %d", in.Seq, next)
		}
		next += int64(len(in.Lines))
		for _, l := range in.Lines {
			if l.What == job.Printed {
				out.Write(l.Output)
			} else {
				steps = append(steps, l.Job+"/"+l.Step+" "+string(l.What))
			}
		}
	}
	var want strings.Builder
	want.WriteString("r1n1 has 42\n")
	for i := range 20000 {
		want.WriteString(strconv.Itoa(i+1) + "\n")
	}
	if out.String() != want.String() {
		t.Errorf("%d bytes were told, want %d", out.Len(), want.Len())
	}
	if got, want := strings.Join(steps, ", "), "base/hello begun, base/hello done, base/many begun, base/many done, next/bad begun, next/bad failed"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if last := s.told[len(s.told)-1]; last.Why != "next: step bad: it ended with exit status 9" {
		t.Errorf("why: %q", last.Why)
	}
	if s.asked[0].Last != "" || s.asked[1].Last != "one" || s.asked[0].BootID != "b1" {
		t.Errorf("asked %+v", s.asked)
	}
	if b, _ := os.ReadFile(marker); string(b) != "x\n" {
		t.Errorf("the step ran %d times", len(b)/2)
	}
}

func (s *service) work(w http.ResponseWriter, r *http.Request) {
	report(s, func(in api.AskWork) { s.asked = append(s.asked, in) })(discard{w}, r)
	s.mu.Lock()
	var todo api.WorkToDo
	if len(s.todo) > 0 {
		todo, s.todo = s.todo[0], s.todo[1:]
	}
	s.mu.Unlock()
	if todo.ID == "" {
		select {
		case <-r.Context().Done():
		case <-time.After(100 * time.Millisecond): // as the service does, in short
		}
	}
	answer(w, todo)
}

func (s *service) workTold(w http.ResponseWriter, r *http.Request) {
	if s.refuseTold() {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	report(s, func(in api.TellWork) { s.told = append(s.told, in) })(w, r)
}

// discard leaves the answer to somebody else.
type discard struct{ http.ResponseWriter }

func (discard) Write(p []byte) (int, error) { return len(p), nil }
