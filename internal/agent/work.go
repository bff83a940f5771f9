package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"muster/internal/api"
	"muster/internal/durable"
	"muster/internal/job"
)

// worker does the work that the service has for the node: its own jobs after each start, and what people ask for.
type worker struct {
	client func() *client
	dir    string // where the steps that were done are remembered
	last   string // file with the ID of the work that was begun last since the start
	boot   string
	env    []string
	log    io.Writer
}

// run asks for work and does it until ctx ends.
func (w *worker) run(ctx context.Context) {
	for attempt := 0; ctx.Err() == nil; {
		if err := w.once(ctx); err == nil { // the service lets those wait for whom there is nothing
			attempt = 0
			continue
		}
		attempt++ // the service is away, or knows nothing of work: the reports of the node tell why
		select {
		case <-time.After(max(time.Second, backoff(attempt))):
		case <-ctx.Done():
		}
	}
}

// once asks for work, waits for it at the service's side, and does it.
func (w *worker) once(ctx context.Context) error {
	last, err := os.ReadFile(w.last)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	var todo api.WorkToDo
	if err := w.client().post(ctx, "/v1/node/work", api.AskWork{BootID: w.boot, Last: string(last)}, &todo); err != nil {
		return err
	}
	if todo.ID == "" {
		if len(last) > 0 {
			return nil
		}
		return durable.WriteFile(w.last, []byte("boot-"+w.boot), 0o600) // there is nothing to do after this start
	}
	// Before it begins: what was half done when this process is killed is not begun again by itself.
	if err := durable.WriteFile(w.last, []byte(todo.ID), 0o600); err != nil {
		return err
	}
	w.do(ctx, todo)
	return nil
}

// do runs the jobs in their order and tells of it as they go. The first step that fails ends the work.
func (w *worker) do(ctx context.Context, todo api.WorkToDo) {
	t := &teller{w: w, id: todo.ID, kick: make(chan struct{}, 1)}
	told := make(chan struct{})
	go func() {
		defer close(told)
		t.run(ctx)
	}()
	why := ""
	for _, j := range todo.Jobs {
		fmt.Fprintf(w.log, "job %s begins\n", j.Name)
		r := &job.Runner{
			Dir: w.dir, Boot: w.boot, Env: w.env, Attrs: todo.Attrs,
			Tell: func(e job.Event) { t.line(api.JobLine{Time: time.Now().UTC(), Job: j.Name, Event: e}) },
		}
		if err := r.Run(ctx, j.Name, j.Steps); err != nil {
			why = j.Name + ": " + err.Error()
			fmt.Fprintf(w.log, "job %s\n", why)
			break
		}
		fmt.Fprintf(w.log, "job %s is done\n", j.Name)
	}
	t.end(why)
	<-told
}

// teller brings lines to the service in their order, each once, however often the way there breaks.
type teller struct {
	w    *worker
	id   string
	kick chan struct{}

	mu    sync.Mutex
	lines []api.JobLine // that the service has not got yet
	size  int
	seq   int64 // of the first of them
	lost  int64 // bytes of output that did not fit in meanwhile
	ended bool
	why   string
}

// Limits of what waits for the service, in bytes: what is sent at once, and what is kept of output while the service is away.
const (
	tellAtOnce = 256 << 10
	tellKept   = 8 << 20
)

// gather is how long a line waits for others.
const gather = 100 * time.Millisecond

func (t *teller) line(l api.JobLine) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.size+len(l.Output) > tellKept && l.What == job.Printed {
		t.lost += int64(len(l.Output))
		return
	}
	if t.lost > 0 {
		note := fmt.Sprintf("%d bytes of output are missing here: the service was not reached for too long", t.lost)
		t.lines, t.lost = append(t.lines, api.JobLine{Time: l.Time, Job: l.Job, Note: note}), 0
	}
	t.lines, t.size = append(t.lines, l), t.size+len(l.Output)
	t.wake()
}

func (t *teller) wake() {
	select {
	case t.kick <- struct{}{}:
	default:
	}
}

func (t *teller) end(why string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended, t.why = true, why
	t.wake()
}

// next is what is to be sent now.
func (t *teller) next() (in api.TellWork, empty bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	in = api.TellWork{ID: t.id, Seq: t.seq}
	size := 0
	for _, l := range t.lines {
		if size > 0 && size+len(l.Output) > tellAtOnce || len(in.Lines) == 1000 {
			break
		}
		size += len(l.Output)
		in.Lines = append(in.Lines, l)
	}
	if t.ended && len(in.Lines) == len(t.lines) {
		in.Ended, in.Why = true, strings.ToValidUTF8(t.why, "?")
	}
	return in, len(in.Lines) == 0 && !in.Ended
}

func (t *teller) sent(in api.TellWork) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, l := range in.Lines {
		t.size -= len(l.Output)
	}
	t.lines, t.seq = t.lines[len(in.Lines):], t.seq+int64(len(in.Lines))
}

func (t *teller) run(ctx context.Context) {
	for attempt := 0; ; {
		in, empty := t.next()
		if empty {
			select {
			case <-t.kick:
			case <-ctx.Done():
				return
			}
			select { // what is printed in the next moment goes along
			case <-time.After(gather):
			case <-ctx.Done():
				return
			}
			continue
		}
		err := t.w.client().post(ctx, "/v1/node/told", in, nil)
		switch {
		case err == nil:
			attempt = 0
			if t.sent(in); in.Ended {
				return
			}
			continue
		case ctx.Err() != nil || lasting(err): // the service wants to hear no more of it
			if in.Ended || ctx.Err() != nil {
				return
			}
			t.sent(in)
			continue
		}
		select {
		case <-time.After(backoff(attempt)):
		case <-ctx.Done():
			return
		}
		attempt++
	}
}

// bootID is this start of the system.
func bootID(root string) string {
	b, _ := os.ReadFile(filepath.Join(root, "proc/sys/kernel/random/boot_id"))
	return strings.TrimSpace(string(b))
}
