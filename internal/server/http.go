package server

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"muster/internal/api"
	"muster/internal/auth"
	"muster/internal/model"
)

// request is one call of the API: who, and the one snapshot that all of it is answered from.
type request struct {
	*http.Request
	w    http.ResponseWriter
	who  auth.Who
	snap *model.Snapshot
	id   string
}

// handler does one verb. What it returns is told to the client; nil means that it has answered.
type handler func(*Server, *request) error

// verb wraps a handler: who may, which snapshot, how an error leaves.
func (s *Server) verb(name string, may auth.Kind, h handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		q := &request{Request: r, w: w, who: s.certificates().From(r), snap: s.store.Snapshot(), id: requestID()}
		if err := allowed(q.snap, q.who, name, may); err != nil {
			s.log.Warn("refused", "verb", name, "who", q.who.Name, "from", r.RemoteAddr)
			fail(w, err)
			return
		}
		if err := h(s, q); err != nil {
			fail(w, err)
		}
	}
}

func allowed(snap *model.Snapshot, who auth.Who, name string, may auth.Kind) error {
	if may == auth.Nobody {
		return nil
	}
	if may == auth.Node {
		id := snap.Identity(who.Node)
		switch {
		case who.Kind != auth.Node || id == nil:
			return &api.Error{Code: api.Denied, What: name, Why: "only an enrolled node may ask this"}
		case id.Key != who.Key:
			// A certificate outlives the boot that it was made for; the key that enrolled last is the node.
			return &api.Error{Code: api.Denied, What: name, Why: "the node has enrolled again with another key", Node: string(who.Node)}
		}
		return nil
	}
	return auth.Allow(snap, who, name, nil)
}

// fail answers a request with an error, if nothing was answered yet.
func fail(w http.ResponseWriter, err error) {
	e := problem(err)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(e.Status())
	_ = json.NewEncoder(w).Encode(e)
}

// problem makes the one kind of error that leaves the service.
func problem(err error) *api.Error {
	var e *api.Error
	var denied *auth.DeniedError
	switch {
	case errors.As(err, &e):
		return e
	case errors.As(err, &denied):
		return &api.Error{Code: api.Denied, What: denied.Verb, Why: denied.Error(), Do: denied.Do()}
	case errors.Is(err, context.DeadlineExceeded):
		return &api.Error{Code: api.Failed, What: "time ran out", Do: "Ask for more with --timeout"}
	}
	if e := translate(err); e != nil {
		return e
	}
	return &api.Error{Code: api.Failed, What: err.Error()}
}

// maxBody is the largest request document, in bytes: 100,000 nodes with some attributes fit.
const maxBody = 64 << 20

// read decodes the request's document. A field that is not known is refused: it is a typing error or a newer client.
func (q *request) read(doc any) error {
	d := json.NewDecoder(http.MaxBytesReader(q.w, q.Body, maxBody))
	d.DisallowUnknownFields()
	if err := d.Decode(doc); err != nil && !errors.Is(err, io.EOF) {
		return &api.Error{Code: api.Usage, What: q.URL.Path, Why: "the request cannot be read: " + err.Error()}
	}
	return nil
}

// answer sends one document.
func (q *request) answer(doc any) error {
	q.w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(q.w).Encode(doc)
}

// stream sends JSON lines as they come. Lines that come together leave together: a line waits at most gather.
type stream struct {
	mu      sync.Mutex
	enc     *json.Encoder
	flush   func() error
	flushed time.Time
	timer   *time.Timer // runs while lines wait
	ended   bool
	trailer api.Trailer
}

const gather = 20 * time.Millisecond

func (q *request) stream(asked int) *stream {
	q.w.Header().Set("Content-Type", "application/x-ndjson")
	q.w.Header().Set(api.AskedHeader, strconv.Itoa(asked))
	return &stream{
		enc: json.NewEncoder(q.w), flush: http.NewResponseController(q.w).Flush,
		trailer: api.Trailer{Asked: asked, Trailer: true},
	}
}

// line sends one line and counts it.
func (st *stream) line(doc any, failed bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if failed {
		st.trailer.Failed++
	} else {
		st.trailer.Answered++
	}
	st.send(doc)
}

// tell sends one line that is not counted: progress.
func (st *stream) tell(doc any) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.send(doc)
}

// send is called with mu held.
func (st *stream) send(doc any) {
	_ = st.enc.Encode(doc)
	switch now := time.Now(); {
	case st.timer != nil:
	case now.Sub(st.flushed) >= gather:
		_ = st.flush()
		st.flushed = now
	default:
		st.timer = time.AfterFunc(gather, st.late)
	}
}

func (st *stream) late() {
	st.mu.Lock()
	defer st.mu.Unlock()
	if !st.ended { // after the end the answer is not ours any more
		_ = st.flush()
		st.flushed, st.timer = time.Now(), nil
	}
}

// end sends the trailer.
func (st *stream) end() error {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.ended = true
	return st.enc.Encode(st.trailer)
}

// each does the work on every node, at most fanout at once, each within its own time, and streams a line as a node
// completes. work returns the line and the error in it.
func each[T any](q *request, rg api.Range, nodes []*model.Node, fanout int, limit time.Duration, work func(context.Context, *model.Node) (T, *api.Error)) error {
	if rg.Fanout > 0 {
		fanout = rg.Fanout
	}
	if rg.TimeoutMS > 0 {
		limit = time.Duration(rg.TimeoutMS) * time.Millisecond
	}
	st := q.stream(len(nodes))
	slots := make(chan struct{}, max(1, min(fanout, len(nodes))))
	var wg sync.WaitGroup
	for _, n := range nodes {
		select {
		case slots <- struct{}{}:
		case <-q.Context().Done():
			wg.Wait()
			return st.end() // for nobody: the client has gone
		}
		wg.Go(func() {
			defer func() { <-slots }()
			ctx, cancel := context.WithTimeout(q.Context(), limit)
			defer cancel()
			line, err := work(ctx, n)
			st.line(line, err != nil)
		})
	}
	wg.Wait()
	return st.end()
}
