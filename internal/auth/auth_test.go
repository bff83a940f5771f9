package auth

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"muster/internal/model"
)

var certificates = Certificates{NodeUnit: "node", AdminUnit: "admin", ManagerUnit: "manager", Fingerprint: func(any) string { return "sha256:f" }}

func TestFrom_unix_socket_peer_is_told_by_the_kernel(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan Who, 1)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got <- certificates.From(r) }))
	srv.Listener = l
	srv.Config.ConnContext = ConnContext
	srv.Start()
	defer srv.Close()
	c := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}}
	resp, err := c.Get("http://muster/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	w := <-got
	if w.Kind != Administrator || !strings.Contains(w.Name, "uid") {
		t.Errorf("this process (uid %d) is %+v", os.Getuid(), w)
	}
}

func TestFrom_certificate_says_who(t *testing.T) {
	for unit, want := range map[string]Who{
		"admin":   {Kind: Administrator, Name: "x", User: "x", Key: "sha256:f"},
		"node":    {Kind: Node, Name: "node x", Node: "x", Key: "sha256:f"},
		"manager": {Kind: Manager, Name: "manager x", Manager: "x", Key: "sha256:f"},
		"server":  {Kind: Nobody, Name: "nobody", Key: "sha256:f"},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		leaf := &x509.Certificate{Subject: pkix.Name{CommonName: "x", OrganizationalUnit: []string{unit}}}
		r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}, VerifiedChains: [][]*x509.Certificate{{leaf}}}
		if got := certificates.From(r); got != want {
			t.Errorf("unit %s: %+v, want %+v", unit, got, want)
		}
		r.TLS.VerifiedChains = nil
		if got := certificates.From(r); got.Kind != Nobody {
			t.Errorf("unit %s, not verified: %+v", unit, got)
		}
	}
}

// A key's fingerprint takes more processor time than answering a small question.
func TestFrom_reads_the_certificate_once_for_each_connection(t *testing.T) {
	read := 0
	c := certificates
	c.Fingerprint = func(any) string { read++; return "sha256:f" }
	ask := func(ctx context.Context, unit string) Who {
		leaf := &x509.Certificate{Subject: pkix.Name{CommonName: "x", OrganizationalUnit: []string{unit}}}
		r := httptest.NewRequest("GET", "/", nil).WithContext(ctx)
		r.TLS = &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{leaf}}}
		return c.From(r)
	}
	one, two := ConnContext(t.Context(), &tls.Conn{}), ConnContext(t.Context(), &tls.Conn{})
	for range 3 {
		if w := ask(one, "admin"); w.Kind != Administrator || w.User != "x" {
			t.Errorf("%+v", w)
		}
		if w := ask(two, "node"); w.Kind != Node || w.Node != "x" {
			t.Errorf("%+v", w)
		}
	}
	if read != 2 {
		t.Errorf("two certificates were read %d times", read)
	}
}

func TestAllow_only_administrators(t *testing.T) {
	if err := Allow(model.Empty(), Who{Kind: Administrator}, "power", nil); err != nil {
		t.Error(err)
	}
	for _, k := range []Kind{Node, Manager, Nobody, Other} {
		var denied *DeniedError
		if err := Allow(model.Empty(), Who{Kind: k, Name: "somebody"}, "power", nil); !errors.As(err, &denied) || denied.Do() == "" {
			t.Errorf("%s: %v", k, err)
		}
	}
}
