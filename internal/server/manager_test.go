package server

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"muster/internal/api"
	"muster/internal/auth"
	"muster/internal/identity"
	"muster/internal/model"
)

// manager is a client with the certificate of a manager of that name, as another host of the pool would have it.
func (s *service) manager(name string) *http.Client {
	s.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		s.t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		s.t.Fatal(err)
	}
	csr := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
	text, _, err := s.srv.keys.SignManager(csr, model.ManagerName(name), []string{"localhost"}, time.Now())
	if err != nil {
		s.t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(text))
	return s.overTLS(tls.Certificate{Certificate: [][]byte{block.Bytes}, PrivateKey: key})
}

func (s *service) overTLS(shown ...tls.Certificate) *http.Client {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(s.srv.keys.CA()))
	t := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: shown}, DisableKeepAlives: true}
	s.t.Cleanup(t.CloseIdleConnections)
	return &http.Client{Transport: t}
}

// over asks with a client; it answers status and body.
func (s *service) over(c *http.Client, method, path string, body []byte, header ...string) (int, string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.srv.APIs()[0]+path, bytes.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	res, err := c.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

func (s *service) whoami(c *http.Client, header ...string) (w api.WhoAmI) {
	s.t.Helper()
	status, b := s.over(c, "GET", "/v1/whoami", nil, header...)
	if err := json.Unmarshal([]byte(b), &w); err != nil || status != http.StatusOK {
		s.t.Fatalf("whoami: %d %s", status, b)
	}
	return w
}

func TestManagers_ask_for_others_while_they_are_in_the_pool(t *testing.T) {
	s := start(t, shortDir(t))
	m2, stranger := s.manager("m2"), s.overTLS()
	asks := func(c *http.Client, path string) int {
		status, _ := s.over(c, "GET", path, nil)
		return status
	}
	if w := s.whoami(m2, asHeader, "ann"); w.Kind != string(auth.Manager) || w.Who != "manager m2" {
		t.Errorf("a manager without a document is %+v", w)
	}
	if got := asks(m2, "/v1/nodes"); got != http.StatusForbidden {
		t.Errorf("a manager without a document reads nodes: %d", got)
	}
	s.commit(model.Op{Kind: model.KindManager, Name: "m2", Doc: &model.Manager{Name: "m2", Added: time.Now()}})
	if w := s.whoami(m2, asHeader, "ann"); w.Kind != string(auth.Administrator) || w.Who != "ann" {
		t.Errorf("a manager of the pool asks for ann as %+v", w)
	}
	if got := asks(m2, "/v1/nodes"); got != http.StatusOK {
		t.Errorf("a manager of the pool reads nodes: %d", got)
	}
	admin, err := tls.LoadX509KeyPair(s.srv.keys.AdminBundle(), s.srv.keys.AdminBundle())
	if err != nil {
		t.Fatal(err)
	}
	if w := s.whoami(s.overTLS(admin), asHeader, "ann"); w.Who != "admin" {
		t.Errorf("an administrator that says to be ann is %+v", w)
	}
	if w := s.whoami(stranger, asHeader, "ann"); w.Who != "nobody" {
		t.Errorf("a stranger that says to be ann is %+v", w)
	}

	// The store's own paths are for managers of the pool only.
	for name, c := range map[string]*http.Client{"a stranger": stranger, "an administrator": s.overTLS(admin)} {
		for _, path := range []string{"/raft", "/raft/stream/message/1", "/raft/probing", "/members", "/members/promote/1", "/leases", "/leases/internal", "/version", "/downgrade/enabled"} {
			if got := asks(c, path); got != http.StatusForbidden {
				t.Errorf("%s asks %s: %d", name, path, got)
			}
		}
	}
	if got := asks(m2, "/members"); got != http.StatusOK {
		t.Errorf("a manager of the pool asks for the members: %d", got)
	}
	s.until("the manager is seen in the pool", func() bool { return s.srv.members.removed(model.Empty(), "m2") })
	var c api.Changed
	s.must("/v1/managers/remove", api.RemoveManager{Name: "m2", Force: true}, &c)
	for _, path := range []string{"/raft/probing", "/leases/internal", "/v1/nodes"} {
		if got := asks(m2, path); got != http.StatusForbidden {
			t.Errorf("a manager that was removed asks %s: %d", path, got)
		}
	}
	wants(t, s.post("/v1/managers/remove", api.RemoveManager{Name: "m2"}, &c), api.Unknown, "no such manager")
}

func TestJoin_takes_the_newest_token_once_and_with_one_key(t *testing.T) {
	s := start(t, shortDir(t))
	token, hash := identity.NewToken()
	csr := func() string {
		_, text := newKey(t)
		return text
	}
	mine := csr()
	key, err := identity.KeyOfCSR(mine)
	if err != nil {
		t.Fatal(err)
	}
	doc := model.Manager{Name: "m2", Added: time.Now(), TokenHash: hash, TokenExpires: time.Now().Add(time.Hour), TokenKey: key}
	s.commit(model.Op{Kind: model.KindManager, Name: "m2", Doc: &doc})
	old := doc
	old.Name, old.TokenExpires = "m3", time.Now().Add(-time.Second)
	in := doc
	in.Name, in.TokenHash = "m4", ""
	s.commit(model.Op{Kind: model.KindManager, Name: "m3", Doc: &old}, model.Op{Kind: model.KindManager, Name: "m4", Doc: &in})
	nobody := s.overTLS()
	for _, tt := range []struct{ name, token, csr, says string }{
		{"m2", token + "x", mine, "not that of the newest invitation"},
		{"m2", "", mine, "not that of the newest invitation"},
		{"m2", token, csr(), "its token was used, with another key"},
		{"m3", token, mine, "its invitation ended"},
		{"m4", "", mine, "not that of the newest invitation"},
		{"m5", token, mine, "nobody invited it"},
	} {
		b, err := json.Marshal(api.JoinManager{Name: tt.name, Token: tt.token, CSR: tt.csr, Addresses: []string{"127.0.0.1:1"}})
		if err != nil {
			t.Fatal(err)
		}
		if status, got := s.over(nobody, "POST", "/v1/managers/join", b); status != http.StatusForbidden || !strings.Contains(got, tt.says) || strings.Contains(got, token) {
			t.Errorf("%s: %d %s, want %q", tt.name, status, got, tt.says)
		}
	}
	if strings.Contains(s.log.String(), token) {
		t.Error("the log has the token")
	}
}

func TestStrangers_send_little(t *testing.T) {
	s := start(t, shortDir(t))
	long := append([]byte(`{"token":"`), bytes.Repeat([]byte("x"), maxBodyOther)...)
	if status, got := s.over(s.overTLS(), "POST", "/v1/node/enrol", append(long, `"}`...)); status != http.StatusBadRequest || !strings.Contains(got, "too large") {
		t.Errorf("%d %s", status, got)
	}
}

func TestCertificates_are_made_anew_for_other_addresses_and_once_a_day(t *testing.T) {
	s := start(t, shortDir(t))
	s.known()
	shown := func() *x509.Certificate {
		c, err := tls.Dial("tcp", strings.TrimPrefix(s.srv.APIs()[0], "https://"), &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0]
	}
	first := shown()
	srv := &Server{cfg: s.srv.cfg, log: s.srv.log, keys: s.srv.keys, store: s.srv.store, apis: s.srv.apis} // the running one looks by itself every second
	now := time.Now()
	if _, err := srv.certify("m", []string{"one.example"}, now); err != nil {
		t.Fatal(err)
	}
	has := func() []string {
		c, err := x509.ParseCertificate(srv.shown.server.Load().Certificates[0].Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		return c.DNSNames
	}
	before := srv.shown.server.Load()
	srv.renewCertificates([]string{"one.example"}, now.Add(recertify-time.Second))
	if srv.shown.server.Load() != before {
		t.Error("within a day and with the same addresses it has other certificates")
	}
	srv.renewCertificates([]string{"one.example"}, now.Add(recertify))
	if srv.shown.server.Load() == before {
		t.Error("after a day it has the same certificate")
	}
	srv.renewCertificates([]string{"two.example"}, now.Add(recertify+time.Second))
	if got := has(); !slices.Equal(got, []string{"two.example"}) {
		t.Errorf("with another address its certificate is for %v", got)
	}
	if again := shown(); !again.Equal(first) || !slices.Contains(first.DNSNames, "localhost") {
		t.Errorf("the running service shows a certificate for %v, and then one for %v", first.DNSNames, again.DNSNames)
	}
}

func TestManagers_list_has_the_one_that_is_asked_from_the_start(t *testing.T) {
	s := start(t, shortDir(t))
	q := &request{
		Request: httptest.NewRequest("GET", "/v1/managers", nil), who: auth.Who{Kind: auth.Administrator},
		snap: model.Empty(), // its own document is not written yet
	}
	w := httptest.NewRecorder()
	q.w = w
	if err := s.srv.listManagers(q); err != nil {
		t.Fatal(err)
	}
	var all []api.ManagerInfo
	if err := json.Unmarshal(w.Body.Bytes(), &all); err != nil || len(all) != 1 || !all[0].Self || all[0].State != "alive" || all[0].Role != "leader" {
		t.Errorf("%s: %v", w.Body, err)
	}
}

func TestJoinManager_refuses_an_invitation_that_ended_and_an_address_that_nobody_answers_at(t *testing.T) {
	s := start(t, shortDir(t))
	token, hash := identity.NewToken()
	invite := func(expires time.Time) {
		t.Helper()
		_, err := s.srv.store.Commit(context.Background(), &model.Change{Actor: "test", Verb: "test", Ops: []model.Op{{
			Kind: model.KindManager, Name: "m2", Doc: &model.Manager{Name: "m2", TokenHash: hash, TokenExpires: expires},
		}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	_, csr := newKey(t)
	join := func(token string) error {
		return s.post("/v1/managers/join", api.JoinManager{Name: "m2", Token: token, CSR: csr, Addresses: []string{nobody}}, new(api.Joined))
	}
	wants(t, join(token), api.Denied, "nobody invited it")
	invite(time.Now().Add(-time.Minute))
	wants(t, join(token), api.Denied, "its invitation ended at")
	invite(time.Now().Add(time.Hour))
	wants(t, join("another"), api.Denied, "not that of the newest invitation")
	wants(t, join(token), api.Conflict, "does not reach it at "+nobody)
	_, csr = newKey(t)
	wants(t, join(token), api.Denied, "with another key")
}
