package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func open(t *testing.T) (*Authority, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "keys")
	a, made, err := Open(Options{Dir: dir, Fresh: true})
	if err != nil || !made {
		t.Fatalf("first Open: made %v, %v", made, err)
	}
	return a, dir
}

func request(t *testing.T) (*ecdsa.PrivateKey, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "somebody else"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return key, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

func TestOpen_gives_the_same_keys_again(t *testing.T) {
	a, dir := open(t)
	b, made, err := Open(Options{Dir: dir, Fresh: true})
	if err != nil || made {
		t.Fatalf("second Open: made %v, %v", made, err)
	}
	if a.Pin() != b.Pin() || a.CA() != b.CA() || a.SSHAuthorizedKey() != b.SSHAuthorizedKey() {
		t.Error("keys changed between two starts")
	}
	if a.TicketKey().Reveal() != b.TicketKey().Reveal() {
		t.Error("the tickets of a boot under way are void after a restart")
	}
}

func TestOpen_keeps_files_private(t *testing.T) {
	_, dir := open(t)
	for _, n := range append(slices.Clone(names), sealPlain, complete, ".") {
		info, err := os.Stat(filepath.Join(dir, n))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", n, info.Mode())
		}
	}
}

func TestOpen_refuses_private_keys_that_others_may_use(t *testing.T) {
	_, dir := open(t)
	for _, n := range []string{"ca.key", "server.key", "ssh.key", "ca.crt", "ssh.pub"} {
		path := filepath.Join(dir, n)
		if err := os.Chmod(path, 0o640); err != nil {
			t.Fatal(err)
		}
		_, _, err := Open(Options{Dir: dir})
		if private := strings.HasSuffix(n, ".key"); private != (err != nil) || private && !strings.Contains(err.Error(), "chmod 600 "+path) {
			t.Errorf("%s: %v", n, err)
		}
		if err := os.Chmod(path, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOpen_names_every_damaged_file_and_makes_none_anew(t *testing.T) {
	_, dir := open(t)
	for _, n := range []string{"server.key", "seal.key"} {
		if err := os.WriteFile(filepath.Join(dir, n), []byte("rubbish"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, _, err := Open(Options{Dir: dir, Fresh: true})
	if err == nil || !strings.Contains(err.Error(), "server.key") || !strings.Contains(err.Error(), "seal.key") {
		t.Fatalf("Open of two damaged files: %v", err)
	}
	b, _ := os.ReadFile(filepath.Join(dir, "seal.key"))
	if string(b) != "rubbish" {
		t.Error("a damaged file was replaced")
	}
}

func TestOpen_keeps_whole_keys_when_the_administrators_file_was_taken_away(t *testing.T) {
	for _, fresh := range []bool{true, false} {
		a, dir := open(t)
		old, err := os.ReadFile(a.AdminBundle())
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(a.AdminBundle()); err != nil {
			t.Fatal(err)
		}
		b, made, err := Open(Options{Dir: dir, Fresh: fresh})
		if err != nil || made || b.Pin() != a.Pin() || b.CA() != a.CA() {
			t.Fatalf("fresh %v: made %v, %v, or other keys", fresh, made, err)
		}
		if now, err := os.ReadFile(b.AdminBundle()); err != nil || string(now) == string(old) || !strings.HasSuffix(string(now), a.CA()) {
			t.Errorf("fresh %v: the administrator's file: %v", fresh, err)
		}
	}
}

func TestOpen_begins_again_after_a_first_start_that_was_killed(t *testing.T) {
	written := append(slices.Clone(names), sealPlain, complete)
	for done := range len(names) + 1 {
		a, dir := open(t)
		for _, n := range written[done:] {
			if err := os.Remove(filepath.Join(dir, n)); err != nil {
				t.Fatal(err)
			}
		}
		if _, _, err := Open(Options{Dir: dir}); err == nil {
			t.Errorf("%d files: keys were made beside a store", done)
		}
		if b, made, err := Open(Options{Dir: dir, Fresh: true}); err != nil || !made || b.Pin() == a.Pin() {
			t.Errorf("%d files: made %v, %v", done, made, err)
		}
	}
}

func TestOpen_refuses_new_keys_beside_an_old_store(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	if _, _, err := Open(Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), "backup") {
		t.Errorf("Open without keys beside a store: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "ca.key")); err == nil {
		t.Error("it made keys all the same")
	}
}

func TestSignNode_names_the_proved_node_and_not_the_request(t *testing.T) {
	a, _ := open(t)
	key, csr := request(t)
	now := time.Now()
	certText, fingerprint, expires, err := a.SignNode("r1n1", csr, now)
	if err != nil {
		t.Fatal(err)
	}
	if want := Fingerprint(key.Public()); fingerprint != want {
		t.Errorf("fingerprint %s, want %s", fingerprint, want)
	}
	if want, _ := KeyOfCSR(csr); fingerprint != want {
		t.Errorf("KeyOfCSR %s, SignNode %s", want, fingerprint)
	}
	if !expires.Equal(now.Add(NodeLife)) {
		t.Errorf("expires %v", expires)
	}
	block, _ := pem.Decode([]byte(certText))
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if cert.Subject.CommonName != "r1n1" || len(cert.Subject.OrganizationalUnit) != 1 || cert.Subject.OrganizationalUnit[0] != UnitNode || cert.IsCA {
		t.Errorf("subject %v, CA %v", cert.Subject, cert.IsCA)
	}
}

func TestServerTLS_has_the_pinned_key_and_takes_only_its_own_clients(t *testing.T) {
	a, _ := open(t)
	other, _ := open(t)
	server, err := a.ServerTLS([]string{"127.0.0.1", "localhost"})
	if err != nil {
		t.Fatal(err)
	}
	dial := func(by *Authority) (peer []*x509.Certificate, err error) {
		key, csr := request(t)
		certText, _, _, err := by.SignNode("r1n1", csr, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode([]byte(certText))
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM([]byte(a.CA()))
		c, s := net.Pipe()
		defer c.Close()
		defer s.Close()
		done := make(chan error, 1)
		go func() { done <- tls.Server(s, server).Handshake() }()
		client := tls.Client(c, &tls.Config{RootCAs: pool, ServerName: "localhost", Certificates: []tls.Certificate{{Certificate: [][]byte{block.Bytes}, PrivateKey: key}}})
		if err := client.Handshake(); err != nil {
			return nil, err
		}
		go func() { _, _ = client.Read(make([]byte, 1)) }() // TLS 1.3: the server's alert comes after the client has finished
		if err := <-done; err != nil {
			return nil, err
		}
		return client.ConnectionState().PeerCertificates, nil
	}
	peer, err := dial(a)
	if err != nil {
		t.Fatal(err)
	}
	if got := Fingerprint(peer[0].PublicKey); got != a.Pin() {
		t.Errorf("server key %s, pin %s", got, a.Pin())
	}
	if _, err := dial(other); err == nil {
		t.Error("a certificate of another CA was accepted")
	}
}

func TestNewToken_is_stored_by_its_hash_only(t *testing.T) {
	token, hash := NewToken()
	again, _ := NewToken()
	if token == again || len(token) != 64 {
		t.Errorf("tokens %s and %s", token, again)
	}
	if hash != TokenHash(token) || strings.Contains(hash, token) {
		t.Error("the hash is not the token's")
	}
}

func TestHostKey(t *testing.T) {
	a, _ := open(t)
	line := a.SSHAuthorizedKey()
	got, err := HostKey(line)
	if err != nil || !strings.HasPrefix(line, got) || strings.HasSuffix(got, "muster") {
		t.Errorf("HostKey(%q) = %q, %v", line, got, err)
	}
	for _, bad := range []string{"", "ssh-ed25519", line + "\n" + line, `command="rm" rubbish`} {
		if got, err := HostKey(bad); err == nil {
			t.Errorf("HostKey(%q) = %q", bad, got)
		}
	}
}
