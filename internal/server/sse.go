package server

import (
	"strconv"
	"strings"
	"time"

	"muster/internal/api"
)

// alive is how often a stream of server-sent events carries a comment, so that nobody between takes it for dead.
const alive = 15 * time.Second

// eventSource sends server-sent events (HTML Living Standard § 9.2).
type eventSource struct {
	*sink
	stop, stopped chan struct{}
}

// eventSource begins the answer. The caller ends it with close.
func (q *request) eventSource() *eventSource {
	q.w.Header().Set("Cache-Control", "no-store")
	e := &eventSource{q.sink("text/event-stream"), make(chan struct{}), make(chan struct{})}
	e.open()
	go e.keepAlive()
	return e
}

func (e *eventSource) keepAlive() {
	defer close(e.stopped)
	t := time.NewTicker(alive)
	defer t.Stop()
	for {
		select {
		case <-e.stop:
			return
		case <-t.C:
			if e.comment("alive") != nil {
				return
			}
		}
	}
}

func (e *eventSource) comment(text string) error {
	return e.add(func(b []byte) []byte { return append(append(append(b, ": "...), text...), "\n\n"...) })
}

// event sends one event; id 0 leaves the client's as it is. The error says that the client has gone.
func (e *eventSource) event(id int64, name string, doc any) error {
	data := jsonLine(doc) // one line: JSON has no bare line feeds
	return e.add(func(b []byte) []byte {
		if id != 0 {
			b = append(strconv.AppendInt(append(b, "id: "...), id, 10), '\n')
		}
		b = append(append(append(b, "event: "...), name...), "\ndata: "...)
		return append(append(b, data...), '\n')
	})
}

func (e *eventSource) close() error {
	close(e.stop)
	<-e.stopped
	return e.end()
}

// lastEvent is the id of the last event that a client has seen; given says that it sent one.
func (q *request) lastEvent() (id int64, given bool, err error) {
	text := strings.TrimSpace(q.Header.Get("Last-Event-ID"))
	if text == "" {
		return 0, false, nil
	}
	id, err = strconv.ParseInt(text, 10, 64)
	if err != nil || id < 0 {
		return 0, false, &api.Error{Code: api.Usage, What: "header Last-Event-ID", Why: text + " is not the id of an event"}
	}
	return id, true, nil
}
