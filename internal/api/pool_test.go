package api

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// managers are services on sockets of their own. A nil handler is one that is not there.
func managers(t *testing.T, handlers ...http.HandlerFunc) (*Client, []*httptest.Server) {
	t.Helper()
	var addresses []string
	servers := make([]*httptest.Server, len(handlers))
	for i, h := range handlers {
		path := filepath.Join(t.TempDir(), "s")
		addresses = append(addresses, "unix:"+path)
		if h == nil {
			continue
		}
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		servers[i] = &httptest.Server{Listener: l, Config: &http.Server{Handler: h}}
		servers[i].Start()
		t.Cleanup(servers[i].Close)
	}
	c, err := NewClient(Options{Server: strings.Join(addresses, ",")})
	if err != nil {
		t.Fatal(err)
	}
	return c, servers
}

// says answers with its name and with what it was sent.
func says(name string, revision int64) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.Header().Set(RevisionHeader, fmt.Sprint(revision))
		_ = json.NewEncoder(w).Encode(Names{Names: []string{name, r.Header.Get(AtLeastHeader)}, Folded: string(b)})
	}
}

func TestPool_asks_the_next_manager_when_one_cannot_be_connected(t *testing.T) {
	c, servers := managers(t, nil, says("b", 7), says("c", 5))
	for _, tt := range []struct {
		name string
		in   any
		want string // what came
	}{
		{"a document", Fold{Names: []string{"n1"}}, `{"names":["n1"]}`},
		{"a stream, which can be read once only", io.MultiReader(strings.NewReader("t"), strings.NewReader("ar")), "tar"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c.pool.current.Store(0)
			var out Names
			if err := c.Do(t.Context(), "POST", "/v1/x", tt.in, &out); err != nil || out.Names[0] != "b" || out.Folded != tt.want {
				t.Errorf("got %+v, %v", out, err)
			}
		})
	}
	if c.pool.current.Load() != 1 {
		t.Errorf("the manager that answered is not remembered: %d", c.pool.current.Load())
	}
	// The second one dies: what is asked next goes on with the third one, and sees at least what the second one said.
	servers[1].Close()
	var out Names
	if err := c.Do(t.Context(), "GET", "/v1/x", nil, &out); err != nil || out.Names[0] != "c" || out.Names[1] != "7" {
		t.Errorf("got %+v, %v; want c, asked for revision 7", out, err)
	}
	if c.Revision() != 7 {
		t.Errorf("revision %d", c.Revision())
	}
	servers[2].Close()
	err := c.Do(t.Context(), "GET", "/v1/x", nil, &out)
	var e *Error
	if !errors.As(err, &e) || e.Code != Unreachable || len(e.More) != 2 {
		t.Errorf("got %v, want all three named", err)
	}
}

// A connection was made: the request may have been taken, whatever became of the answer.
func TestPool_never_repeats_what_may_have_been_taken(t *testing.T) {
	for name, end := range map[string]http.HandlerFunc{
		"cut before an answer": func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			conn, _, _ := w.(http.Hijacker).Hijack()
			conn.Close()
		},
		"cut before it was read": func(w http.ResponseWriter, _ *http.Request) {
			conn, _, _ := w.(http.Hijacker).Hijack()
			conn.Close()
		},
		"an error": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(500)
			_ = json.NewEncoder(w).Encode(&Error{Code: Failed, What: "x"})
		},
	} {
		t.Run(name, func(t *testing.T) {
			var took, second atomic.Int32
			c, _ := managers(t, func(w http.ResponseWriter, r *http.Request) { took.Add(1); end(w, r) },
				func(http.ResponseWriter, *http.Request) { second.Add(1) })
			if err := c.Do(t.Context(), "POST", "/v1/x", Fold{}, nil); err == nil {
				t.Error("no error")
			}
			if took.Load() != 1 || second.Load() != 0 {
				t.Errorf("asked %d and %d times", took.Load(), second.Load())
			}
		})
	}
}

// A body is closed when nobody takes it: who writes to the other end of a pipe is waiting.
func TestPool_closes_the_body_that_nobody_took(t *testing.T) {
	c, _ := managers(t, nil, nil)
	r, w := io.Pipe()
	if err := c.Do(t.Context(), "POST", "/v1/copy", r, nil); err == nil {
		t.Error("no error")
	}
	if _, err := w.Write([]byte("x")); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("the writer got %v", err)
	}
}

func TestPool_remembers_the_largest_revision_of_any_answer(t *testing.T) {
	revisions := []int64{3, 9, 4}
	var mu sync.Mutex
	c, _ := managers(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if len(revisions) == 0 { // a stream, whose trailer says what it made
			w.Header().Set(RevisionHeader, "9")
			_, _ = io.WriteString(w, `{"asked":0,"answered":0,"failed":0,"trailer":true,"revision":12}`+"\n")
			return
		}
		w.Header().Set(RevisionHeader, fmt.Sprint(revisions[0]))
		revisions = revisions[1:]
		_ = json.NewEncoder(w).Encode(Names{Folded: r.Header.Get(AtLeastHeader)})
	})
	for _, want := range []string{"", "3", "9"} {
		var out Names
		if err := c.Do(t.Context(), "GET", "/v1/x", nil, &out); err != nil || out.Folded != want {
			t.Errorf("asked for at least %q, want %q (%v)", out.Folded, want, err)
		}
	}
	for range c.Lines(t.Context(), "POST", "/v1/deploy", nil, nil) {
	}
	if c.Revision() != 12 {
		t.Errorf("after a stream: %d", c.Revision())
	}
}

// Over the network large documents are compressed both ways; on the socket nothing is.
func TestPool_compresses_over_the_network_only(t *testing.T) {
	big := Fold{Names: strings.Fields(strings.Repeat("r1n1 ", 20_000))}
	type took struct {
		accept, encoding string
		bytes, names     int
	}
	seen := make(chan took, 1)
	handler := func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		x := took{accept: r.Header.Get("Accept-Encoding"), encoding: r.Header.Get("Content-Encoding"), bytes: len(raw)}
		if x.encoding == "zstd" {
			d, _ := zstd.NewReader(nil)
			raw, _ = d.DecodeAll(raw, nil)
		}
		var in Fold
		_ = json.Unmarshal(raw, &in)
		x.names = len(in.Names)
		seen <- x
		out, _ := json.Marshal(Names{Names: in.Names})
		if x.accept == "zstd" {
			e, _ := zstd.NewWriter(nil)
			w.Header().Set("Content-Encoding", "zstd")
			out = e.EncodeAll(out, nil)
		}
		_, _ = w.Write(out)
	}
	ca := newAuthority(t)
	both := ca.issue(t, "server", net.IPv4(127, 0, 0, 1))
	pair, err := tls.X509KeyPair(both, both)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	far := httptest.NewUnstartedServer(http.HandlerFunc(handler))
	far.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: roots, ClientAuth: tls.RequireAndVerifyClientCert}
	far.StartTLS()
	t.Cleanup(far.Close)
	identity := filepath.Join(t.TempDir(), "id.pem")
	if err := os.WriteFile(identity, ca.issue(t, "ann"), 0o600); err != nil {
		t.Fatal(err)
	}
	overTLS, err := NewClient(Options{Server: far.URL, Identity: identity})
	if err != nil {
		t.Fatal(err)
	}
	near, _ := managers(t, handler)
	for name, c := range map[string]*Client{"tls": overTLS, "unix": near} {
		for range 3 { // the decoders are used again
			var out Names
			if err := c.Do(t.Context(), "POST", "/v1/fold", big, &out); err != nil || len(out.Names) != len(big.Names) {
				t.Fatalf("%s: %d names, %v", name, len(out.Names), err)
			}
			x := <-seen
			if x.names != len(big.Names) || (name == "tls") != (x.encoding == "zstd" && x.accept == "zstd" && x.bytes < 10_000) {
				t.Errorf("%s: the service took %+v", name, x)
			}
		}
	}
}

// An answer that is no zstd, or is cut inside, is an error and not a short answer.
func TestPool_tells_a_damaged_answer(t *testing.T) {
	e, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	whole := e.EncodeAll([]byte(strings.Repeat(`{"node":"n1"}`+"\n", 1000)), nil)
	for name, b := range map[string][]byte{"cut": whole[:len(whole)/2], "rubbish": []byte("rubbish"), "empty": nil} {
		u := &unpacked{raw: io.NopCloser(bytes.NewReader(b))}
		got, err := io.ReadAll(u)
		if name != "empty" && err == nil {
			t.Errorf("%s: %d bytes and no error", name, len(got))
		}
		if _, again := u.Read(make([]byte, 1)); again == nil {
			t.Errorf("%s: reading goes on after the end", name)
		}
	}
}
