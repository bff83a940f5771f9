package server

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"muster/internal/api"
	"muster/internal/job"
	"muster/internal/model"
)

// The work of nodes as they tell of it. Of each node there are files DIR/jobs/NODE/ID.jsonl, one line for each line that it told, on the manager that it
// told them to; the newest stay.
const (
	workKept = 20               // files of a node
	workMax  = 64 << 20         // bytes of one of them
	tailSize = 1 << 10          // bytes of Doing.Tail
	askWait  = 20 * time.Second // an agent waits half a minute for an answer
)

// works is what nodes do, as far as they tell this manager.
type works struct {
	mu    sync.Mutex
	doing map[model.NodeName]*model.Doing // newer than the snapshot's, perhaps
	told  map[model.NodeName]int64        // how many lines of the work under way are in the file
	asks  map[*ask]bool                   // of nodes that wait for something to do
	grown chan struct{}                   // closed and made anew when something was told
}

// doing is what a node does, or did last; nil: nothing yet.
func (s *Server) doing(snap *model.Snapshot, n model.NodeName) *model.Doing {
	s.works.mu.Lock()
	here := s.works.doing[n]
	s.works.mu.Unlock()
	var there *model.Doing
	if st := snap.State(n); st != nil {
		there = st.Doing
	}
	if here == nil || there != nil && there.Began.After(here.Began) {
		return there
	}
	return here
}

// forget forgets what nodes did that are removed, or have another name now: what the store has of them counts then.
func (w *works) forget(names []model.NodeName) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, n := range names {
		delete(w.doing, n)
		delete(w.told, n)
	}
}

// does notes what a node does.
func (s *Server) does(n model.NodeName, d *model.Doing) {
	s.works.mu.Lock()
	if s.works.doing == nil {
		s.works.doing = map[model.NodeName]*model.Doing{}
	}
	s.works.doing[n] = d
	if s.works.grown != nil {
		close(s.works.grown)
	}
	s.works.grown = make(chan struct{})
	s.works.mu.Unlock()
	s.store.Observe(n, func(st *model.State) { st.Doing = d })
}

// askWork is POST /v1/node/work. After each start of a node its own jobs come first.
func (s *Server) askWork(q *request) error {
	var in api.AskWork
	if err := q.read(&in); err != nil {
		return err
	}
	n := q.who.Node
	if in.BootID == "" || len(in.BootID) > 64 {
		return &api.Error{Code: api.Usage, What: "work", Why: "no boot id is given"}
	}
	a := &ask{node: n, news: make(chan struct{}, 1)}
	s.works.listen(a, true)
	defer s.works.listen(a, false)
	late := time.NewTimer(askWait)
	defer late.Stop()
	for {
		todo, err := s.workOf(s.store.Snapshot(), n, in)
		if err != nil {
			return err
		}
		if todo.ID != "" {
			return q.answer(todo)
		}
		select {
		case <-a.news:
		case <-late.C:
			return q.answer(api.WorkToDo{})
		case <-q.Context().Done():
			return q.Context().Err()
		}
	}
}

// ask is a node that waits for something to do.
type ask struct {
	node model.NodeName
	news chan struct{}
}

func (w *works) listen(a *ask, begin bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.asks == nil {
		w.asks = map[*ask]bool{}
	}
	if w.asks[a] = true; !begin {
		delete(w.asks, a)
	}
}

// followWork wakes the nodes that wait when there is something to do for them. One goroutine looks for all: the store changes often, orders seldom.
func (s *Server) followWork(ctx context.Context) error {
	for seen := s.store.Snapshot(); ; {
		if err := s.store.Wait(ctx, func(now *model.Snapshot) bool { return now.Ordered != seen.Ordered }); err != nil {
			return nil // the store says why
		}
		now := s.store.Snapshot()
		s.works.mu.Lock()
		for a := range s.works.asks {
			if now.Work(a.node) != seen.Work(a.node) {
				select {
				case a.news <- struct{}{}:
				default:
				}
			}
		}
		s.works.mu.Unlock()
		seen = now
	}
}

// workOf is what a node is to do now, and notes that it begins.
func (s *Server) workOf(snap *model.Snapshot, name model.NodeName, in api.AskWork) (api.WorkToDo, error) {
	n := snap.Node(name)
	if n == nil {
		return api.WorkToDo{}, &api.Error{Code: api.Conflict, What: "work", Why: "the node was removed", Node: string(name)}
	}
	d := s.doing(snap, name)
	unheard := d != nil && d.Phase == model.WorkRunning && d.Number == 0 && d.BootID == in.BootID // our answer did not reach it
	if d != nil && d.Phase == model.WorkRunning && !unheard {                                     // who works does not ask
		lost := *d
		lost.Phase, lost.Ended, lost.Why = model.WorkLost, time.Now(), "the node's agent began anew while step "+d.Step+" ran"
		if d.BootID != in.BootID {
			lost.Why = "the node was started again while step " + d.Step + " ran"
		}
		s.does(name, &lost)
		e := about(name, "job.lost", lost.Why)
		e.Bad = true
		s.tell(e)
		d = &lost
	}
	if id := "boot-" + in.BootID; in.Last == "" && (d == nil || d.BootID != in.BootID) || unheard && d.ID == id {
		list, err := snap.Attr(n, "jobs")
		if err != nil {
			return api.WorkToDo{}, err
		}
		jobs, twice := onlyOnce(splitNames(list))
		if len(jobs) > 0 {
			return s.handOut(snap, n, id, in.BootID, convert[model.JobName](jobs), twice)
		}
	}
	w := snap.Work(name)
	if w == nil || d != nil && d.ID == w.ID && !unheard || in.Last == w.ID || time.Since(w.Asked) > askedLimit {
		return api.WorkToDo{}, nil
	}
	return s.handOut(snap, n, w.ID, in.BootID, w.Jobs, nil)
}

// handOut hands work out.
func (s *Server) handOut(snap *model.Snapshot, n *model.Node, id, bootID string, jobs []model.JobName, twice []string) (api.WorkToDo, error) {
	todo := api.WorkToDo{ID: id}
	d := &model.Doing{ID: id, Jobs: jobs, Phase: model.WorkRunning, Began: time.Now(), BootID: bootID, Manager: s.name()}
	var missing []string
	for _, name := range jobs {
		j := snap.Job(name)
		if j == nil {
			missing = append(missing, string(name))
			continue
		}
		todo.Jobs = append(todo.Jobs, api.JobToDo{Name: string(name), Steps: stepsOf(j.Steps)})
		d.Steps += len(j.Steps)
	}
	lines := []api.JobLine{}
	note := func(text string) { lines = append(lines, api.JobLine{Time: time.Now(), Note: text}) }
	for _, name := range twice {
		note("job " + name + " is named twice in jobs, and runs once" + namedBy(snap, n))
	}
	if len(missing) > 0 {
		d.Phase, d.Ended, d.Why = model.WorkFailed, time.Now(), "there is no job "+strings.Join(missing, ", ")+": nothing was begun"
		note(d.Why)
		todo = api.WorkToDo{}
	}
	values, err := snap.Attrs(n, nil)
	if err != nil {
		return api.WorkToDo{}, err
	}
	todo.Attrs = map[string]string{"node": string(n.Name)}
	for _, v := range values {
		if !v.Secret {
			todo.Attrs[string(v.Name)] = v.Value
		}
	}
	if err := s.beginLog(n.Name, id, lines); err != nil {
		return api.WorkToDo{}, err
	}
	s.does(n.Name, d)
	e := about(n.Name, "job.begin", "begins "+strings.Join(convert[string](jobs), ", "))
	if d.Phase == model.WorkFailed {
		e.Step, e.What, e.Bad = "job.failed", d.Why, true
	}
	s.tell(e)
	return todo, nil
}

// namedBy says where a node's jobs come from.
func namedBy(snap *model.Snapshot, n *model.Node) string {
	if values, err := snap.Attrs(n, []string{"jobs"}); err == nil && len(values) == 1 {
		return " (" + values[0].From + ")"
	}
	return ""
}

// toldWork is POST /v1/node/told.
func (s *Server) toldWork(q *request) error {
	var in api.TellWork
	if err := q.read(&in); err != nil {
		return err
	}
	n := q.who.Node
	d := s.doing(q.snap, n)
	if d == nil || d.ID != in.ID {
		return &api.Error{Code: api.Conflict, What: "work told", Why: "the node was not asked for this, or for something else since", Node: string(n)}
	}
	if d.Manager != s.name() { // the node came to us with it
		moved := *d
		note := api.JobLine{Time: time.Now(), Note: "manager " + string(d.Manager) + " keeps what came before"}
		if err := s.beginLog(n, d.ID, []api.JobLine{note}); err != nil {
			return err
		}
		moved.Manager = s.name()
		d = &moved
	}
	if err := s.addToLog(n, in); err != nil {
		return &api.Error{Code: api.Failed, What: "work told", Why: err.Error(), Node: string(n)}
	}
	next := *d
	for _, l := range in.Lines {
		follow(&next, l)
	}
	if in.Ended && next.Phase == model.WorkRunning {
		next.Ended, next.Why = time.Now(), in.Why
		e := about(n, "job.done", fmt.Sprintf("%s: %d steps", strings.Join(convert[string](next.Jobs), ", "), next.Steps))
		next.Phase = model.WorkDone
		if in.Why != "" {
			next.Phase = model.WorkFailed
			e.Step, e.What, e.Reason, e.Bad = "job.failed", strings.Join(convert[string](next.Jobs), ", "), in.Why, true
		}
		s.tell(e)
	}
	s.does(n, &next)
	return q.answer(struct{}{})
}

// follow has what is known of work go along with a line.
func follow(d *model.Doing, l api.JobLine) {
	switch l.What {
	case job.Begun, job.Skipped:
		if at := l.Job + "/" + l.Step; d.Step != at {
			d.Step, d.Number = at, d.Number+1
		}
		if l.What == job.Begun {
			d.Tail = ""
		}
	case job.Printed:
		d.Tail += strings.ToValidUTF8(string(l.Output), "\uFFFD")
		if n := len(d.Tail) - tailSize; n > 0 {
			d.Tail = strings.ToValidUTF8(d.Tail[n:], "")
		}
	}
}

// workDir is where the files of a node's work lie. The name is a node's, by its certificate or by the snapshot.
func (s *Server) workDir(n model.NodeName) string {
	return filepath.Join(s.cfg.Data, "jobs", string(n))
}

// beginLog makes the file of work that begins, and removes the oldest ones beyond those that are kept.
func (s *Server) beginLog(n model.NodeName, id string, lines []api.JobLine) error {
	dir := s.workDir(n)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	s.works.mu.Lock()
	if s.works.told == nil {
		s.works.told = map[model.NodeName]int64{}
	}
	s.works.told[n] = 0
	s.works.mu.Unlock()
	old, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
	if err != nil {
		return err
	}
	slices.SortFunc(old, func(a, b string) int { return modified(a).Compare(modified(b)) })
	for len(old) >= workKept {
		_ = os.Remove(old[0])
		old = old[1:]
	}
	return appendLines(filepath.Join(dir, id+".jsonl"), lines, os.O_TRUNC, false)
}

func modified(path string) time.Time {
	fi, err := os.Stat(path)
	if err != nil {
		return time.Time{}
	}
	return fi.ModTime()
}

// addToLog adds the lines that are not there yet.
func (s *Server) addToLog(n model.NodeName, in api.TellWork) error {
	s.works.mu.Lock()
	defer s.works.mu.Unlock()
	if s.works.told == nil {
		s.works.told = map[model.NodeName]int64{}
	}
	path := filepath.Join(s.workDir(n), in.ID+".jsonl")
	if _, known := s.works.told[n]; !known { // this service has begun anew
		s.works.told[n] = countTold(path)
	}
	skip := max(0, s.works.told[n]-in.Seq)
	if skip > int64(len(in.Lines)) {
		skip = int64(len(in.Lines))
	}
	in.Lines = in.Lines[skip:]
	if fi, err := os.Stat(path); err == nil && fi.Size() > workMax {
		in.Lines = nil
	}
	if err := appendLines(path, in.Lines, os.O_APPEND, in.Ended); err != nil {
		return err
	}
	s.works.told[n] = max(s.works.told[n], in.Seq+skip+int64(len(in.Lines)))
	return nil
}

// countTold counts the lines of a file that a node told; those of the service itself are of no job.
func countTold(path string) (n int64) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(b) {
		if bytes.HasSuffix(line, []byte("\n")) && !bytes.Contains(line, []byte(`,"job":"",`)) {
			n++
		}
	}
	return n
}

func appendLines(path string, lines []api.JobLine, how int, sync bool) error {
	var b bytes.Buffer
	for _, l := range lines {
		if err := json.NewEncoder(&b).Encode(l); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|how, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b.Bytes())
	if err == nil && sync {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// jobLog is GET /v1/jobs/log/{node}.
func (s *Server) jobLog(q *request) error {
	var in api.JobLog
	if err := q.query(&in); err != nil {
		return err
	}
	n, err := q.one("job log", q.PathValue("node"))
	if err != nil {
		return err
	}
	d := s.doing(q.snap, n.Name)
	if d == nil {
		return &api.Error{Code: api.Unknown, What: "job log", Why: "the node ran no job yet", Node: string(n.Name)}
	}
	id := d.ID
	if in.ID != "" {
		id = in.ID
	}
	if done, err := s.handOnTo(q, d.Manager, n.Name, "job log"); done || err != nil {
		return err
	}
	// The name of the file comes from what is there: never from the client.
	entries, err := os.ReadDir(s.workDir(n.Name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	i := slices.IndexFunc(entries, func(e fs.DirEntry) bool { return e.Name() == id+".jsonl" })
	if i < 0 {
		return &api.Error{Code: api.Unknown, What: "job log", Why: "of " + id + " nothing is kept here", Node: string(n.Name)}
	}
	f, err := os.Open(filepath.Join(s.workDir(n.Name), entries[i].Name()))
	if err != nil {
		return err
	}
	defer f.Close()
	return s.sendLog(q, f, n.Name, in.Follow && id == d.ID)
}

// sendLog sends the lines of a file, and those that come while the work goes on.
func (s *Server) sendLog(q *request, f *os.File, n model.NodeName, followed bool) error {
	out := q.stream(0)
	r := bufio.NewReader(f)
	var part []byte
	for {
		s.works.mu.Lock()
		grown := s.works.grown
		s.works.mu.Unlock()
		d := s.doing(s.store.Snapshot(), n)
		for {
			line, err := r.ReadBytes('\n')
			part = append(part, line...)
			if err != nil {
				break
			}
			if err := out.add(func(b []byte) []byte { return append(b, part...) }); err != nil {
				return out.end() // nobody listens
			}
			part = part[:0]
		}
		if !followed || d == nil || d.Phase != model.WorkRunning {
			return out.end()
		}
		if grown == nil {
			grown = make(chan struct{})
		}
		select {
		case <-grown:
		case <-q.Context().Done():
			return out.end()
		}
	}
}
