package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
)

// qmp talks to the machine monitor of one QEMU process: JSON commands, answers and events on one stream
// (QEMU Machine Protocol specification, docs/interop/qmp-spec.txt).
type qmp struct {
	conn   io.ReadWriteCloser
	events func(name string) // called in order from run; must not wait for an answer

	mu      sync.Mutex
	next    int
	waiting map[int]chan error
	closed  bool
}

func newQMP(conn io.ReadWriteCloser, events func(string)) *qmp {
	return &qmp{conn: conn, events: events, waiting: make(map[int]chan error)}
}

var errMonitorGone = errors.New("the machine's monitor is gone")

// qmpMessage is any message from QEMU: greeting, answer, error or event.
type qmpMessage struct {
	ID    *int `json:"id"`
	Error *struct {
		Class string `json:"class"`
		Desc  string `json:"desc"`
	} `json:"error"`
	Event string `json:"event"`
}

// run reads until the stream ends, which it does with the process. All who wait for an answer then get an error.
func (q *qmp) run() {
	in := json.NewDecoder(q.conn)
	for {
		var m qmpMessage
		if in.Decode(&m) != nil {
			break
		}
		switch {
		case m.Event != "":
			q.events(m.Event)
		case m.ID != nil:
			var err error
			if m.Error != nil {
				err = fmt.Errorf("qemu: %s: %s", m.Error.Class, m.Error.Desc)
			}
			q.answer(*m.ID, err)
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	for id, c := range q.waiting {
		delete(q.waiting, id)
		c <- errMonitorGone
	}
	_ = q.conn.Close()
}

func (q *qmp) answer(id int, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if c, ok := q.waiting[id]; ok {
		delete(q.waiting, id)
		c <- err
	}
}

// do sends a command and waits for its answer. run must be running.
func (q *qmp) do(ctx context.Context, command string, arguments map[string]any) error {
	c := make(chan error, 1)
	id, err := q.send(c, command, arguments)
	if err != nil {
		return err
	}
	select {
	case err := <-c:
		return err
	case <-ctx.Done():
		q.answer(id, nil) // forget it
		return fmt.Errorf("qemu: %s: %w", command, ctx.Err())
	}
}

func (q *qmp) send(c chan error, command string, arguments map[string]any) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return 0, errMonitorGone
	}
	q.next++
	text, err := json.Marshal(struct {
		ID      int            `json:"id"`
		Execute string         `json:"execute"`
		Args    map[string]any `json:"arguments,omitempty"`
	}{q.next, command, arguments})
	if err != nil {
		return 0, err
	}
	if _, err := q.conn.Write(append(text, '\n')); err != nil {
		return 0, fmt.Errorf("%w: %w", errMonitorGone, err)
	}
	q.waiting[q.next] = c
	return q.next, nil
}
