package server

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"muster/internal/api"
	"muster/internal/auth"
	"muster/internal/model"
)

func unzip(t *testing.T, kind string, b []byte) []byte {
	t.Helper()
	var r io.Reader = bytes.NewReader(b)
	switch kind {
	case "zstd":
		d, err := zstd.NewReader(r)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		r = d
	case "gzip":
		d, err := gzip.NewReader(r)
		if err != nil {
			t.Fatal(err)
		}
		r = d
	}
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("%s: %v", kind, err)
	}
	return out
}

func TestAnswers_are_compressed_when_they_are_large_and_the_client_takes_it(t *testing.T) {
	s := start(t, shortDir(t))
	s.add("r1n[1-200]", attr("custom.x", "the same"))
	for range 50 {
		s.srv.tell(model.Event{Node: "r1n1", Step: "test", What: "the same"})
	}
	s.known() // and what was told is committed
	for _, path := range []string{"/v1/nodes?limit=200", "/v1/events", "/v1/attributes"} {
		_, plain := s.get(path)
		if len(plain) < compressFrom {
			t.Fatalf("%s has %d bytes", path, len(plain))
		}
		for accept, kind := range map[string]string{"gzip": "gzip", "gzip, zstd": "zstd", "zstd;q=0, gzip;q=0.5": "gzip", "br": "", "zstd;q=0.0": ""} {
			res, b := s.get(path, "Accept-Encoding", accept)
			if got := res.Header.Get("Content-Encoding"); got != kind {
				t.Errorf("%s, Accept-Encoding %s: %q, want %q", path, accept, got, kind)
			}
			if got := unzip(t, kind, b); !bytes.Equal(got, plain) {
				t.Errorf("%s as %s is another: %d bytes, want %d", path, kind, len(got), len(plain))
			}
			if kind != "" && len(b) > len(plain)/2 {
				t.Errorf("%s as %s: %d bytes of %d", path, kind, len(b), len(plain))
			}
		}
	}
	if res, _ := s.get("/v1/nodes/r1n1?attrs=custom.x", "Accept-Encoding", "zstd"); res.Header.Get("Content-Encoding") != "" || res.ContentLength < 0 {
		t.Errorf("a small answer: %v", res.Header)
	}
}

// A line that comes alone reaches a client of a compressed stream within gather, not at the end.
func TestStreams_are_flushed_while_they_are_compressed(t *testing.T) {
	for _, kind := range []string{"", "zstd", "gzip"} {
		t.Run("as "+kind, func(t *testing.T) {
			more := make(chan struct{})
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				q := &request{Request: r, w: w}
				st := q.stream(2)
				st.line(api.Result{Node: "r1n1"}, false)
				<-more
				st.line(api.Result{Node: "r1n2"}, true)
				_ = st.end()
			}))
			defer srv.Close()
			r, err := http.NewRequest("POST", srv.URL, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Accept-Encoding", kind)
			res, err := http.DefaultTransport.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			var body io.Reader = res.Body
			switch kind {
			case "zstd":
				d, err := zstd.NewReader(body, zstd.WithDecoderConcurrency(1))
				if err != nil {
					t.Fatal(err)
				}
				defer d.Close()
				body = d
			case "gzip":
				if body, err = gzip.NewReader(body); err != nil {
					t.Fatal(err)
				}
			}
			in := bufio.NewReader(body)
			if line, err := in.ReadString('\n'); err != nil || line != "{\"node\":\"r1n1\"}\n" {
				t.Fatalf("first line %q, %v", line, err)
			}
			close(more)
			rest, err := io.ReadAll(in)
			if want := "{\"node\":\"r1n2\"}\n{\"asked\":2,\"answered\":1,\"failed\":1,\"trailer\":true}\n"; string(rest) != want || err != nil {
				t.Errorf("rest %q, %v", rest, err)
			}
		})
	}
}

func TestRequests_may_be_compressed(t *testing.T) {
	s := start(t, shortDir(t))
	e, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	post := func(encoding string, b []byte) error {
		r, err := http.NewRequestWithContext(context.Background(), "POST", s.client.URL("/v1/nodes/add"), bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Encoding", encoding)
		res, err := s.client.HTTP().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return api.ReadError(res)
		}
		return nil
	}
	if err := post("zstd", e.EncodeAll([]byte(`{"range":"r1n[1-3]"}`), nil)); err != nil {
		t.Fatal(err)
	}
	if n := s.srv.store.Snapshot().Len(); n != 3 {
		t.Errorf("%d nodes", n)
	}
	wants(t, post("br", []byte(`x`)), api.Usage, "compressed as br", "zstd")
	wants(t, post("zstd", []byte(`{"range":"r1n9"}`)), api.Usage, "cannot be read")
	bomb := e.EncodeAll([]byte(`{"range":"`+strings.Repeat("a", maxBody)+`"}`), nil)
	wants(t, post("zstd", bomb), api.Usage, "too large")
}

// Nobody who may not ask makes the service unpack anything.
func TestRequests_of_strangers_are_not_unpacked(t *testing.T) {
	s := start(t, shortDir(t))
	h := s.srv.verb("set", auth.Administrator, (*Server).setAttrs)
	w, r := httptest.NewRecorder(), httptest.NewRequest("POST", "/v1/set", failing{t})
	r.Header.Set("Content-Encoding", "zstd")
	h(w, r)
	if w.Code != http.StatusForbidden {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

type failing struct{ t *testing.T }

func (f failing) Read([]byte) (int, error) {
	f.t.Error("the body was read")
	return 0, io.EOF
}

func TestSink_sends_nothing_after_its_end(t *testing.T) {
	w := httptest.NewRecorder()
	q := &request{Request: httptest.NewRequest("GET", "/", nil), w: w}
	st := q.stream(1)
	st.line(api.Result{Node: "r1n1"}, false)
	_ = st.end()
	sent := w.Body.Len()
	st.line(api.Result{Node: "r1n2"}, false)
	st.late()
	if w.Body.Len() != sent {
		t.Errorf("after the end: %s", w.Body)
	}
}

// FuzzAccepted: never panics; a format is only used that the header names.
func FuzzAccepted(f *testing.F) {
	f.Add("gzip, deflate, br, zstd;q=0")
	f.Add(";;,,q=,")
	f.Fuzz(func(t *testing.T, header string) {
		if got := accepted(header); got != "" && !strings.Contains(strings.ToLower(header), got) {
			t.Errorf("%q: %s", header, got)
		}
	})
}

func BenchmarkStream_10k_lines(b *testing.B) {
	for _, kind := range []string{"plain", "zstd", "gzip"} {
		b.Run(kind, func(b *testing.B) {
			r := httptest.NewRequest("POST", "/", nil)
			r.Header.Set("Accept-Encoding", kind)
			for b.Loop() {
				w := &discard{header: http.Header{}}
				st := (&request{Request: r, w: w}).stream(10_000)
				for range 10_000 {
					st.each(func(b []byte) ([]byte, bool) {
						return append(b, `{"node":"r1n1","attrs":[{"attr":"net.boot.address","value":"10.77.1.1"}]}`+"\n"...), false
					})
				}
				_ = st.end()
				b.ReportMetric(float64(w.n), "B/answer")
			}
		})
	}
}

type discard struct {
	header http.Header
	n      int
	status int // 0: none was said
}

func (d *discard) Header() http.Header              { return d.header }
func (d *discard) Write(b []byte) (int, error)      { d.n += len(b); return len(b), nil }
func (d *discard) WriteHeader(status int)           { d.status = status }
func (d *discard) SetWriteDeadline(time.Time) error { return nil }
func (d *discard) Flush()                           {}
