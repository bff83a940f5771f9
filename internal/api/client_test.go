package api

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// service listens on a unix socket and answers by h.
func service(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: h}}
	s.Start()
	t.Cleanup(s.Close)
	c, err := NewClient(Options{Server: "unix:" + path})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func collect(c *Client, t *Trailer) (nodes []string, err error) {
	for r, e := range Stream[PowerResult](context.Background(), c, "POST", "/v1/power", Power{Action: "status"}, t) {
		if e != nil {
			return nodes, e
		}
		nodes = append(nodes, r.Node)
	}
	return nodes, nil
}

func TestStream(t *testing.T) {
	for _, tt := range []struct {
		name, asked, body string
		nodes             int
		err               string // of the error, "" for none
	}{
		{"complete", "2", `{"node":"n1","state":"on"}` + "\n" + `{"node":"n2","state":"on"}` + "\n" + `{"asked":2,"answered":2,"failed":0,"trailer":true}` + "\n", 2, ""},
		{"empty", "0", `{"asked":0,"answered":0,"failed":0,"trailer":true}` + "\n", 0, ""},
		{"blank lines between keep it alive", "", "\n" + `{"node":"n1"}` + "\n\n" + `{"asked":1,"answered":1,"failed":0,"trailer":true}` + "\n", 1, ""},
		{"cut without trailer", "3", `{"node":"n1","state":"on"}` + "\n", 1, "cut after 1 of 3"},
		{"cut where nobody said of how many", "", `{"node":"n1","state":"on"}` + "\n", 1, "cut after 1 line:"},
		{"cut inside a line", "2", `{"node":"n1"}` + "\n" + `{"node":"n`, 1, "cut after 1 of 2"},
		{"cut inside the trailer", "1", `{"node":"n1"}` + "\n" + `{"asked":1,"trailer":true}`, 1, "cut after 1 of 1"},
		{"a text that looks like a trailer is a line", "1", `{"node":"n1","state":"\"trailer\":true"}` + "\n" + `{"asked":1,"answered":1,"failed":0,"trailer":true}` + "\n", 1, ""},
		{"failed after it had begun", "9", `{"node":"n1"}` + "\n" + `{"asked":9,"answered":1,"failed":0,"trailer":true,"error":{"code":"failed","what":"power","why":"the service stops"}}` + "\n", 1, "power: the service stops"},
		{"not a document", "1", `[1]` + "\n", 0, "answer of the service"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := service(t, func(w http.ResponseWriter, _ *http.Request) {
				if tt.asked != "" {
					w.Header().Set(AskedHeader, tt.asked)
				}
				_, _ = io.WriteString(w, tt.body)
			})
			var trailer Trailer
			nodes, err := collect(c, &trailer)
			if len(nodes) != tt.nodes {
				t.Errorf("nodes %v, want %d", nodes, tt.nodes)
			}
			if got := fmt.Sprint(err); (tt.err == "") != (err == nil) || !strings.Contains(got, tt.err) && tt.err != "" {
				t.Errorf("error %v, want %q", err, tt.err)
			}
			if tt.err == "" && trailer.Answered != tt.nodes {
				t.Errorf("trailer %+v", trailer)
			}
		})
	}
}

func TestStreamOfKilledService(t *testing.T) {
	c := service(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"node":"n1"}`+"\n")
		w.(http.Flusher).Flush()
		conn, _, _ := w.(http.Hijacker).Hijack()
		conn.Close()
	})
	nodes, err := collect(c, nil)
	var cut *CutError
	if !errors.As(err, &cut) || cut.Got != 1 || len(nodes) != 1 {
		t.Errorf("got %v, %v; want one node and a CutError", nodes, err)
	}
}

func TestStreamStopsWithItsContext(t *testing.T) {
	gone := make(chan struct{})
	c := service(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, `{"node":"n1"}`+"\n")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		close(gone)
	})
	stop := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	var last error
	for _, err := range c.Lines(ctx, "POST", "/v1/power", Power{}, nil) {
		last = err
		cancel(stop)
	}
	if last != stop {
		t.Errorf("got %v, want the cause of the context", last)
	}
	<-gone // the service saw it
}

func TestErrorBodies(t *testing.T) {
	for _, tt := range []struct {
		name   string
		status int
		body   string
		code   Code
		text   string
	}{
		{"ours", 404, `{"code":"unknown","what":"node r1n9","why":"it does not exist","do":"Did you mean r1n1?"}`, Unknown, "node r1n9: it does not exist. Did you mean r1n1?"},
		{"several", 400, `{"code":"usage","what":"set","why":"two problems","more":[{"what":"a","node":"n1"},{"what":"b","node":"n2"}]}`, Usage, "set: two problems\nn1: a\nn2: b"},
		{"a route that the service does not have", 404, "404 page not found\n", Failed, "muster version"},
		{"of a proxy between", 403, "<html>no</html>", Denied, "HTTP 403"},
		{"json of somebody else", 500, `{"message":"boom"}`, Failed, "HTTP 500"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := service(t, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(tt.status)
				_, _ = io.WriteString(w, tt.body)
			})
			err := c.Do(t.Context(), "GET", "/v1/version", nil, new(Version))
			var e *Error
			if !errors.As(err, &e) || e.Code != tt.code || !strings.Contains(e.Error(), tt.text) {
				t.Errorf("got %v, want %s %q", err, tt.code, tt.text)
			}
		})
	}
}

func TestDoSendsAndDecodes(t *testing.T) {
	c := service(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		_ = json.NewEncoder(w).Encode(Names{Names: []string{r.Method, r.URL.String(), r.Header.Get("Content-Type"), string(b)}})
	})
	for _, tt := range []struct {
		in   any
		want []string
	}{
		{nil, []string{"POST", "/v1/x?a=b", "", ""}},
		{Fold{Names: []string{"n1"}}, []string{"POST", "/v1/x?a=b", "application/json", `{"names":["n1"]}`}},
		{strings.NewReader("tar"), []string{"POST", "/v1/x?a=b", "application/octet-stream", "tar"}},
	} {
		var out Names
		if err := c.Do(t.Context(), "POST", "/v1/x?a=b", tt.in, &out); err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(out.Names) != fmt.Sprint(tt.want) {
			t.Errorf("got %q, want %q", out.Names, tt.want)
		}
	}
}

func TestUnreachable(t *testing.T) {
	dir := t.TempDir()
	stale := filepath.Join(dir, "stale")
	l, err := net.Listen("unix", stale)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	for _, tt := range []struct{ name, server, why string }{
		{"no socket", "unix:" + dir + "/none", "no such socket. Start it: muster serve --data " + dir},
		{"socket of a killed service", "unix:" + stale, "nobody listens there. Start it: muster serve --data " + dir},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := NewClient(Options{Server: tt.server})
			if err != nil {
				t.Fatal(err)
			}
			err = c.Do(t.Context(), "GET", "/v1/version", nil, nil)
			var e *Error
			if !errors.As(err, &e) || e.Code != Unreachable || !strings.Contains(e.Error(), tt.why) || !strings.Contains(e.What, tt.server) {
				t.Errorf("got %v, want %q", err, tt.why)
			}
		})
	}
}

func TestPermissionDeniedIsNotUnreachable(t *testing.T) {
	c, err := NewClient(Options{Server: "unix:/s"})
	if err != nil {
		t.Fatal(err)
	}
	err = c.Explain(&net.OpError{Op: "dial", Net: "unix", Err: os.NewSyscallError("connect", syscall.EACCES)})
	var e *Error
	if !errors.As(err, &e) || e.Code != Denied || !strings.Contains(e.Do, "group muster") {
		t.Errorf("got %v, want denied with the group to be in", err)
	}
}

func TestServerAddresses(t *testing.T) {
	for server, why := range map[string]string{
		"":                     "neither unix",
		"http://h:1":           "neither unix",
		"https://":             "neither unix",
		"https://h/x":          "neither unix",
		"unix:muster.sock":     "not absolute",
		"https://h:1":          "asks who you are",
		"unix:/run/m/m.sock":   "",
		"https://[::1":         "missing ']'",
		"/run/muster/muster.s": "neither unix",
	} {
		_, err := NewClient(Options{Server: server})
		if (err == nil) != (why == "") || err != nil && !strings.Contains(err.Error(), why) {
			t.Errorf("%q: got %v, want %q", server, err, why)
		}
	}
}

// authority issues certificates for the tests of TLS.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert, key}
}

// issue returns certificate, key and CA in PEM.
func (a *authority) issue(t *testing.T, name string, ips ...net.IP) []byte {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, IPAddresses: ips,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	k, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	for _, p := range []*pem.Block{{Type: "CERTIFICATE", Bytes: der}, {Type: "PRIVATE KEY", Bytes: k}, {Type: "CERTIFICATE", Bytes: a.cert.Raw}} {
		if err := pem.Encode(&b, p); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

func TestIdentityOverTLS(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	both := ca.issue(t, "server", net.IPv4(127, 0, 0, 1))
	pair, err := tls.X509KeyPair(both, both)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(Version{Who: r.TLS.PeerCertificates[0].Subject.CommonName})
	}))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)

	// A client that trusts the service, and whose own certificate is of another CA.
	stranger := other.issue(t, "eve")
	strangerTrusting := append(bytes.Clone(bytes.TrimSuffix(stranger, tail(stranger))), tail(ca.issue(t, "x"))...)
	port := s.URL[strings.LastIndex(s.URL, ":"):]
	for _, tt := range []struct {
		name, server string
		identity     []byte
		code         Code
		text         string
	}{
		{"ours", s.URL, ca.issue(t, "ann"), "", ""},
		{"the service is of another CA", s.URL, stranger, Unreachable, "not of the CA in the identity file"},
		{"the identity is of another CA", s.URL, strangerTrusting, Denied, "refused the identity"},
		{"a name that the certificate does not hold", "https://localhost" + port, ca.issue(t, "ann"), Unreachable, "localhost"},
		{"no key in it", s.URL, []byte("hello"), Usage, "identity"},
		{"no CA in it", s.URL, bytes.TrimSuffix(stranger, tail(stranger)), Usage, "holds no CA"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "identity.pem")
			if err := os.WriteFile(file, tt.identity, 0o600); err != nil {
				t.Fatal(err)
			}
			var v Version
			c, err := NewClient(Options{Server: tt.server, Identity: file})
			if err == nil {
				err = c.Do(t.Context(), "GET", "/v1/version", nil, &v)
			}
			var e *Error
			switch {
			case tt.code == "" && (err != nil || v.Who != "ann"):
				t.Errorf("got %+v, %v", v, err)
			case tt.code != "" && (!errors.As(err, &e) || e.Code != tt.code || !strings.Contains(e.Error(), tt.text)):
				t.Errorf("got %v, want %s %q", err, tt.code, tt.text)
			}
		})
	}
}

// tail is the last PEM block of b: the CA of an identity.
func tail(b []byte) []byte { return b[bytes.LastIndex(b, []byte("-----BEGIN")):] }

// FuzzParseTrailer: never panics, and what is taken for a trailer says so itself.
func FuzzParseTrailer(f *testing.F) {
	f.Add([]byte(`{"asked":1,"answered":1,"failed":0,"trailer":true}`))
	f.Add([]byte(`{"node":"n1","state":"\"trailer\":true"}`))
	f.Add([]byte(`{"trailer":false}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, ok := parseTrailer(b); ok && !got.Trailer {
			t.Errorf("%q is no trailer", b)
		}
	})
}
