package agent

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"muster/internal/api"
	"muster/internal/model"
)

// enrolled is a service with content, and a client that it knows.
func enrolled(t *testing.T) (*service, *client, string) {
	t.Helper()
	s := newService(t, nil)
	s.content = make([]byte, 5<<20+123)
	if _, err := rand.Read(s.content); err != nil {
		t.Fatal(err)
	}
	h := sha256.Sum256(s.content)
	s.plan.Root = model.File{Name: rootImage, Digest: "sha256:" + hex.EncodeToString(h[:]), Size: int64(len(s.content))}
	id := enrolAt(t, s, "r1n1")
	cert, _, err := id.tls()
	if err != nil {
		t.Fatal(err)
	}
	return s, newClient(s.server.URL, s.pin, cert), filepath.Join(t.TempDir(), rootImage)
}

func enrolAt(t *testing.T, s *service, node model.NodeName) *identity {
	t.Helper()
	key, csr, err := newKey(node)
	if err != nil {
		t.Fatal(err)
	}
	var got api.Enrolled
	err = newClient(s.server.URL, s.pin, nil).post(t.Context(), "/v1/node/enrol", api.Enrol{Token: "token of " + string(node), CSR: csr}, &got)
	if err != nil {
		t.Fatal(err)
	}
	return &identity{Server: s.server.URL, Pin: s.pin, Node: node, Image: "compute", Digest: "sha256:1", Key: key, Certificate: got.Certificate, CA: got.CA}
}

func TestFetchBringsVerifiedContent(t *testing.T) {
	s, c, path := enrolled(t)
	var percents []int
	if err := c.fetch(t.Context(), s.plan.Root, path, func(p int) { percents = append(percents, p) }); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(path); err != nil || !bytes.Equal(b, s.content) {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	if len(percents) == 0 || percents[len(percents)-1] != 100 {
		t.Errorf("progress: %v", percents)
	}
}

func TestFetchResumesWhereTheConnectionBroke(t *testing.T) {
	s, c, path := enrolled(t)
	var ranges []string
	s.get = func(w http.ResponseWriter, r *http.Request) bool {
		ranges = append(ranges, r.Header.Get("Range"))
		switch len(ranges) {
		case 1, 2:
			from := 0
			if len(ranges) == 2 {
				_, _ = fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from)
				w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(s.content)-1, len(s.content)))
				w.WriteHeader(http.StatusPartialContent)
			}
			_, _ = w.Write(s.content[from : from+2<<20])
			panic(http.ErrAbortHandler)
		case 3:
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		}
		return false
	}
	if err := c.fetch(t.Context(), s.plan.Root, path, func(int) {}); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(path); !bytes.Equal(b, s.content) {
		t.Errorf("%d bytes, and not the right ones", len(b))
	}
	if len(ranges) != 4 || ranges[0] != "" || !strings.HasPrefix(ranges[3], "bytes=") || ranges[3] == "bytes=0-" {
		t.Errorf("ranges asked: %q", ranges)
	}
}

func TestFetchGoesOnWithAServerThatKnowsNoRanges(t *testing.T) {
	s, c, path := enrolled(t)
	n := 0
	s.get = func(w http.ResponseWriter, _ *http.Request) bool {
		if n++; n == 1 {
			_, _ = w.Write(s.content[:3<<20])
			panic(http.ErrAbortHandler)
		}
		_, _ = w.Write(s.content)
		return true
	}
	if err := c.fetch(t.Context(), s.plan.Root, path, func(int) {}); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(path); !bytes.Equal(b, s.content) {
		t.Error("the content is wrong")
	}
}

func TestWrongContentIsRefusedAndAskedAgainNotForEver(t *testing.T) {
	s, c, path := enrolled(t)
	s.content[len(s.content)/2] ^= 1
	n := 0
	s.get = func(http.ResponseWriter, *http.Request) bool { n++; return false }
	err := c.fetch(t.Context(), s.plan.Root, path, func(int) {})
	var de *digestError
	if !errors.As(err, &de) || n != maxWrong || !strings.Contains(err.Error(), s.plan.Root.Digest) {
		t.Errorf("after %d times: %v", n, err)
	}
	if i, err := os.Stat(path); err != nil || i.Size() != 0 {
		t.Errorf("wrong content is left: %v, %v", i, err)
	}
}

func TestShortenedFileIsRefused(t *testing.T) {
	s, c, path := enrolled(t)
	s.content = s.content[:1<<20]
	err := c.fetch(t.Context(), s.plan.Root, path, func(int) {})
	var de *digestError
	if !errors.As(err, &de) || de.GotLength != 1<<20 {
		t.Errorf("got %v", err)
	}
}

func TestRefusalIsNotRepeated(t *testing.T) {
	s, c, path := enrolled(t)
	n := 0
	s.get = func(w http.ResponseWriter, _ *http.Request) bool {
		n++
		refuse(w, http.StatusForbidden, "file", "the node is held")
		return true
	}
	if err := c.fetch(t.Context(), s.plan.Root, path, func(int) {}); err == nil || n != 1 || !strings.Contains(err.Error(), "the node is held") {
		t.Errorf("asked %d times: %v", n, err)
	}
}

func TestServerWithAnotherKeyGetsNoToken(t *testing.T) {
	s := newService(t, nil)
	wrong := "sha256:" + strings.Repeat("00", 32)
	c := newClient(s.server.URL, wrong, nil)
	attempts := 0
	err := c.patiently(t.Context(), "enrol", time.Minute, func() error {
		attempts++
		return c.post(t.Context(), "/v1/node/enrol", api.Enrol{Token: "secret"}, nil)
	})
	var pe *pinError
	if !errors.As(err, &pe) || pe.Got != s.pin || attempts != 1 {
		t.Errorf("after %d attempts: %v", attempts, err)
	}
	if len(s.enrols) != 0 {
		t.Error("the token reached the server")
	}
}

// A server that is killed in the middle of a boot: the same token with the same key is asked again until it is back.
func TestEnrolOutlastsAServerThatIsAway(t *testing.T) {
	s := newService(t, nil)
	listener := s.server.Listener.Addr().String()
	s.server.CloseClientConnections()
	c := newClient("https://"+listener, s.pin, nil)
	down := true
	real := c.http.Transport
	c.http.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
		if down {
			down = false
			return nil, io.ErrUnexpectedEOF
		}
		return real.RoundTrip(r)
	})
	_, csr, err := newKey("r1n1")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the answer to the first may have been lost
		var got api.Enrolled
		err = c.patiently(t.Context(), "enrol", time.Minute, func() error {
			return c.post(t.Context(), "/v1/node/enrol", api.Enrol{Token: "t", CSR: csr}, &got)
		})
		if err != nil || got.Node != "r1n1" {
			t.Fatalf("got %+v, %v", got, err)
		}
	}
	_, other, _ := newKey("r1n1")
	err = c.post(t.Context(), "/v1/node/enrol", api.Enrol{Token: "t", CSR: other}, nil)
	if err == nil || !strings.Contains(err.Error(), "used by another key") || !lasting(err) {
		t.Errorf("another key with the same token: %v", err)
	}
}

// One of two managers is dead, before enrolment or in the midst of the root image: the other one goes on, at once.
func TestAnotherManagerTakesOver(t *testing.T) {
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := "https://" + dead.Addr().String()
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	s := newService(t, nil)
	_, csr, err := newKey("r1n1")
	if err != nil {
		t.Fatal(err)
	}
	c := newClient(at+","+s.server.URL, s.pin, nil)
	began := time.Now()
	var got api.Enrolled
	if err := c.post(t.Context(), "/v1/node/enrol", api.Enrol{Token: "t", CSR: csr}, &got); err != nil || got.Node != "r1n1" {
		t.Fatalf("got %+v, %v", got, err)
	}
	if c.server() != s.server.URL {
		t.Errorf("it goes on with %s", c.server())
	}
	s, c, path := enrolled(t)
	c.servers = []string{at, s.server.URL}
	if err := c.fetch(t.Context(), s.plan.Root, path, func(int) {}); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
	// One that refuses is not the last word while there is another one.
	n := 0
	c = &client{servers: []string{"a", "b"}}
	err = c.patiently(t.Context(), "x", time.Hour, func() error {
		if n++; c.server() == "a" {
			return &statusError{Status: 404}
		}
		return nil
	})
	if err != nil || n != 2 {
		t.Errorf("after %d: %v", n, err)
	}
	n = 0
	err = c.patiently(t.Context(), "x", time.Hour, func() error { n++; return &statusError{Status: 404} })
	if !lasting(err) || n != 2 {
		t.Errorf("both refuse: after %d: %v", n, err)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestPatienceEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c := &client{}
	n := 0
	err := c.patiently(ctx, "x", time.Hour, func() error {
		if n++; n == 2 {
			cancel()
		}
		return io.EOF
	})
	if !errors.Is(err, io.EOF) || n != 2 {
		t.Errorf("after %d: %v", n, err)
	}
}

func TestSlowCipherIsKnownByItsSpeed(t *testing.T) {
	if s := speedOfAES(); s <= 0 {
		t.Errorf("speed %f", s)
	}
	// What preferFastCipher relies on: crypto/tls looks at this instruction.
	if len(tls.CipherSuites()) == 0 {
		t.Error("no cipher suites")
	}
}

func TestFailuresSayWhatWhyAndWhatToDo(t *testing.T) {
	s := newService(t, nil)
	id := enrolAt(t, s, "r1n1")
	cert, _, err := id.tls()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	b := &boot{con: &console{w: &out}, client: newClient(s.server.URL, s.pin, cert)}
	b.tellFailure(&failure{What: "root image of compute", Err: errors.New("wrong digest"), Do: "muster image check compute"})
	if got := s.progress; len(got) != 1 || got[0] != (api.Progress{Step: "failed", Text: "root image of compute: wrong digest", Do: "muster image check compute"}) {
		t.Errorf("reported %+v", got)
	}
	for _, want := range []string{"FAILED: root image of compute: wrong digest", "muster image check compute"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("console %q does not say %q", out.String(), want)
		}
	}
}

func TestSlowContentIsNoStall(t *testing.T) {
	told := 0
	h := &heard{r: iotest.OneByteReader(strings.NewReader("abc")), tell: func() { told++ }}
	if b, err := io.ReadAll(h); err != nil || string(b) != "abc" || told != 3 {
		t.Errorf("%q, %v, told %d times", b, err, told)
	}
}
