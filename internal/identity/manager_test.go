package identity

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"muster/internal/model"
)

// certificate reads the files of a manager, which must belong together.
func certificate(t *testing.T, f PeerFiles) (tls.Certificate, *x509.Certificate) {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return pair, c
}

func TestManager_keeps_its_certificate_until_it_has_to_be_another(t *testing.T) {
	a, dir := open(t)
	now := time.Now()
	hosts := []string{"m1.example", "10.1.0.1"}
	get := func(name model.ManagerName, hosts []string, at time.Time) *x509.Certificate {
		t.Helper()
		f, err := a.Manager(name, hosts, at)
		if err != nil {
			t.Fatal(err)
		}
		_, c := certificate(t, f)
		return c
	}
	first := get("m1", hosts, now)
	if first.Subject.CommonName != "m1" || !slices.Equal(first.Subject.OrganizationalUnit, []string{UnitManager}) || !slices.Equal(first.DNSNames, hosts[:1]) ||
		len(first.IPAddresses) != 1 || first.IPAddresses[0].String() != hosts[1] || first.IsCA || first.NotAfter.Sub(now).Round(time.Hour) != ManagerLife {
		t.Errorf("certificate: %v %v %v until %v", first.Subject, first.DNSNames, first.IPAddresses, first.NotAfter)
	}
	for what, c := range map[string]struct {
		name  model.ManagerName
		hosts []string
		after time.Duration
		same  bool
	}{
		"again":                        {"m1", hosts, 0, true},
		"two thirds of its life later": {"m1", hosts, ManagerLife*2/3 - time.Minute, true},
		"a third is left":              {"m1", hosts, ManagerLife*2/3 + time.Minute, false},
		"another host":                 {"m1", append(slices.Clone(hosts), "10.1.0.2"), 0, false},
		"another name":                 {"m2", hosts, 0, false},
		"the clock was set back":       {"m1", hosts, -48 * time.Hour, false},
	} {
		_ = os.Remove(filepath.Join(dir, managerCert))
		before := get("m1", hosts, now)
		got := get(c.name, c.hosts, now.Add(c.after))
		if got.Equal(before) != c.same {
			t.Errorf("%s: the same certificate is %v, want %v", what, !c.same, c.same)
		}
		if Fingerprint(got.PublicKey) != Fingerprint(first.PublicKey) {
			t.Errorf("%s: another key", what)
		}
		if now := now.Add(c.after); now.Before(got.NotBefore) || now.After(got.NotAfter) {
			t.Errorf("%s: valid from %v to %v at %v", what, got.NotBefore, got.NotAfter, now)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, managerCert), []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	get("m1", hosts, now)
	if err := os.WriteFile(filepath.Join(dir, managerKey), []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Manager("m1", hosts, now); err == nil || !strings.Contains(err.Error(), managerKey) {
		t.Errorf("a damaged key: %v", err)
	}
}

// The way of a joiner: its own key, a certificate by the pool, the keys over mutual TLS, then its own certificates.
func TestSignManager_lets_a_joiner_in(t *testing.T) {
	a, _ := open(t)
	dir := filepath.Join(t.TempDir(), "keys")
	csr, keyFile, err := ManagerRequest(dir, "m2")
	if err != nil {
		t.Fatal(err)
	}
	again, _, err := ManagerRequest(dir, "m2")
	if err != nil {
		t.Fatal(err)
	}
	certText, fingerprint, err := a.SignManager(csr, "m2", []string{"127.0.0.1"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, request := range []string{csr, again} {
		if got, err := KeyOfCSR(request); err != nil || got != fingerprint {
			t.Errorf("the key is %s, of the request %s, %v", fingerprint, got, err)
		}
	}
	keyText, err := os.ReadFile(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	joiner, err := tls.X509KeyPair([]byte(certText), keyText)
	if err != nil {
		t.Fatal(err)
	}
	f, err := a.Manager("m1", []string{"127.0.0.1"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	member, _ := certificate(t, f)
	pool := x509.NewCertPool()
	if caText, err := os.ReadFile(f.CA); err != nil || !pool.AppendCertsFromPEM(caText) {
		t.Fatalf("CA: %v", err)
	}
	// Each of them is client and server.
	for _, ends := range [][2]tls.Certificate{{joiner, member}, {member, joiner}} {
		c, s := net.Pipe()
		done := make(chan error, 1)
		go func() {
			done <- tls.Server(s, &tls.Config{Certificates: ends[1:], ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert}).Handshake()
		}()
		client := tls.Client(c, &tls.Config{Certificates: ends[:1], RootCAs: pool, ServerName: "127.0.0.1"})
		if err := client.Handshake(); err != nil {
			t.Error(err)
		}
		go func() { _, _ = client.Read(make([]byte, 1)) }() // TLS 1.3: the server finishes after the client
		if err := <-done; err != nil {
			t.Error(err)
		}
		c.Close()
		s.Close()
	}
	if err := Import(export(t, a), Options{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	b, _, err := Open(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if f, err = b.Manager("m2", []string{"127.0.0.1"}, time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, c := certificate(t, f); Fingerprint(c.PublicKey) != fingerprint {
		t.Error("after the import it has another key")
	}
}

func TestSignManager_names_what_it_was_told_and_not_the_request(t *testing.T) {
	a, _ := open(t)
	_, csr := request(t)
	text, _, err := a.SignManager(csr, "m2", []string{"m2.example"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(text))
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil || c.Subject.CommonName != "m2" || !slices.Equal(c.DNSNames, []string{"m2.example"}) {
		t.Errorf("%v %v, %v", c.Subject, c.DNSNames, err)
	}
	for _, name := range []model.ManagerName{"", "m 2", "m2/../x"} {
		if _, _, err := a.SignManager(csr, name, nil, time.Now()); err == nil {
			t.Errorf("signed for %q", name)
		}
	}
	if _, _, err := a.SignManager("rubbish", "m2", nil, time.Now()); err == nil {
		t.Error("signed rubbish")
	}
}
