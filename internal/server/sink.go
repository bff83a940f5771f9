package server

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"

	"muster/internal/api"
)

// gather is how long a line waits for others, so that lines that come together leave together.
const gather = 20 * time.Millisecond

const (
	// compressFrom is the size in bytes from which an answer is compressed for a client that takes it.
	compressFrom = 1 << 10
	// piece is how many bytes of a stream are sent on at once.
	piece = 32 << 10
)

// sink takes an answer in pieces, gathers them, and compresses them when they are many. All methods but end may be called from
// any goroutine.
type sink struct {
	w        http.ResponseWriter
	encoding string // that the client takes; "" for none

	mu    sync.Mutex
	buf   []byte
	begun bool
	over  bool
	enc   compressor  // nil: not compressed
	timer *time.Timer // runs while something waits
	err   error       // the client has gone
}

func (q *request) sink(kind string) *sink {
	h := q.w.Header()
	h.Set("Content-Type", kind)
	k := &sink{w: q.w, encoding: accepted(q.Header.Get("Accept-Encoding"))}
	if k.encoding != "" {
		h.Set("Vary", "Accept-Encoding")
	}
	return k
}

// add takes what put appends. It is sent within gather.
func (k *sink) add(put func([]byte) []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.over || k.err != nil {
		return k.err
	}
	k.buf = put(k.buf)
	if len(k.buf) >= piece {
		k.write()
	}
	if k.timer == nil {
		k.timer = time.AfterFunc(gather, k.late)
	}
	return k.err
}

func (k *sink) late() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.timer = nil
	if !k.over { // after the end the answer is not ours any more
		k.flush()
	}
}

// open sends the headers at once: the client sees that it is connected.
func (k *sink) open() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.flush()
}

// flush is called with mu held.
func (k *sink) flush() {
	k.write()
	if k.enc != nil && k.err == nil {
		k.err = k.enc.Flush()
	}
	if k.err == nil {
		k.err = http.NewResponseController(k.w).Flush()
	}
}

// write hands on what was gathered; it is called with mu held.
func (k *sink) write() {
	if !k.begun {
		k.begun = true
		if k.encoding != "" && (len(k.buf) >= compressFrom || !k.over) {
			k.w.Header().Set("Content-Encoding", k.encoding)
			k.enc = compressors[k.encoding].Get().(compressor)
			k.enc.Reset(k.w)
		} else if k.over {
			k.w.Header().Set("Content-Length", strconv.Itoa(len(k.buf)))
		}
	}
	if len(k.buf) == 0 || k.err != nil {
		return
	}
	if k.enc != nil {
		_, k.err = k.enc.Write(k.buf)
	} else {
		_, k.err = k.w.Write(k.buf)
	}
	k.buf = k.buf[:0]
}

// end sends what is left. A second call does nothing.
func (k *sink) end() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.over {
		return nil
	}
	k.over = true
	if k.timer != nil {
		k.timer.Stop()
	}
	k.write()
	if k.enc != nil {
		if k.err == nil {
			k.err = k.enc.Close()
		}
		k.enc.Reset(nil)
		compressors[k.encoding].Put(k.enc)
		k.enc = nil
	}
	return nil // an answer that the client did not wait for is no error of ours
}

// compressor is what the encoders of both formats have in common.
type compressor interface {
	io.WriteCloser
	Flush() error
	Reset(io.Writer)
}

// compressors keeps the encoders that are not in use, by the name of the format (RFC 9110 § 8.4.1, RFC 8878).
var compressors = map[string]*sync.Pool{
	"zstd": {New: func() any {
		e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(256<<10), zstd.WithLowerEncoderMem(true))
		if err != nil {
			panic(err) // of an option that we chose
		}
		return e
	}},
	"gzip": {New: func() any {
		e, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed)
		return e
	}},
}

// accepted is the format that an Accept-Encoding header takes: zstd, else gzip, else none.
func accepted(header string) string {
	switch {
	case header == "":
		return ""
	case hasToken(header, "zstd"):
		return "zstd"
	case hasToken(header, "gzip"):
		return "gzip"
	}
	return ""
}

// hasToken says that a comma-separated header has the token, and not with the weight 0.
func hasToken(header, token string) bool {
	for part := range strings.SplitSeq(header, ",") {
		name, weight, _ := strings.Cut(part, ";")
		if !strings.EqualFold(strings.TrimSpace(name), token) {
			continue
		}
		q, ok := strings.CutPrefix(strings.ReplaceAll(weight, " ", ""), "q=")
		if v, err := strconv.ParseFloat(q, 64); !ok || err != nil || v > 0 {
			return true
		}
	}
	return false
}

// unpack lets the request's body be read as it was before the client compressed it.
func (q *request) unpack() error {
	switch kind := q.Header.Get("Content-Encoding"); kind {
	case "", "identity":
		return nil
	case "zstd":
		d, err := zstd.NewReader(q.Body, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(8<<20))
		if err != nil {
			return err
		}
		q.Body = d.IOReadCloser()
		return nil
	default:
		return &api.Error{Code: api.Usage, What: q.URL.Path, Why: "the request is compressed as " + kind, Do: "Send it as it is, or with Content-Encoding: zstd"}
	}
}

// stream sends JSON lines as they come, and a trailer.
type stream struct {
	*sink
	trailer api.Trailer // guarded by the sink's lock
}

func (q *request) stream(asked int) *stream {
	st := &stream{q.sink("application/x-ndjson"), api.Trailer{Asked: asked, Skipped: fold(q.skipped), Trailer: true}}
	q.w.Header().Set(api.AskedHeader, strconv.Itoa(asked))
	return st
}

// line sends one line and counts it.
func (st *stream) line(doc any, failed bool) {
	b := jsonLine(doc)
	st.each(func(to []byte) ([]byte, bool) { return append(to, b...), failed })
}

// each sends one line that put appends as JSON with its newline, and counts it: put says whether it failed.
func (st *stream) each(put func([]byte) (_ []byte, failed bool)) {
	_ = st.add(func(b []byte) []byte {
		b, failed := put(b)
		if failed {
			st.trailer.Failed++
		} else {
			st.trailer.Answered++
		}
		return b
	})
}

// tell sends one line that is not counted: progress.
func (st *stream) tell(doc any) {
	b := jsonLine(doc)
	_ = st.add(func(to []byte) []byte { return append(to, b...) })
}

// end sends the trailer.
func (st *stream) end() error {
	st.mu.Lock()
	st.buf = append(st.buf, jsonLine(st.trailer)...)
	st.mu.Unlock()
	return st.sink.end()
}

func jsonLine(doc any) []byte {
	var b bytes.Buffer
	if err := json.NewEncoder(&b).Encode(doc); err != nil {
		return jsonLine(api.Result{Error: problem(err)})
	}
	return b.Bytes()
}
