package agent

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"muster/internal/api"
)

// service is the server's half of the node protocol, for tests: an authority of its own, mutual TLS, one plan.
type service struct {
	t      *testing.T
	ca     *x509.Certificate
	caKey  *ecdsa.PrivateKey
	caPEM  string
	server *httptest.Server
	pin    string

	mu       sync.Mutex
	life     time.Duration     // of node certificates
	keyOf    map[string]string // token → public key that used it
	plan     api.Plan
	content  []byte
	beat     api.Heartbeat
	enrols   []api.Enrol
	progress []api.Progress
	ups      []api.Up // "up" and heartbeat, as they came
	paths    []string
	renewed  int
	// renewedAt is how many reports had come at the last renewal.
	renewedAt  int
	todo       []api.WorkToDo // handed out in this order
	asked      []api.AskWork
	told       []api.TellWork
	refuseTold func() bool
	// noRenewal refuses to renew.
	noRenewal bool
	changed   chan struct{} // closed and made anew at each report
	// get answers for a file instead of content, when it is set and says so.
	get func(w http.ResponseWriter, r *http.Request) bool
}

func newService(t *testing.T, listener net.Listener) *service {
	t.Helper()
	s := &service{t: t, life: time.Hour, keyOf: make(map[string]string), changed: make(chan struct{}), beat: api.Heartbeat{IntervalMS: 1000}}
	s.caKey = newECDSA(t)
	s.ca = s.sign(&x509.Certificate{Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil, &s.caKey.PublicKey)
	s.caPEM = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.ca.Raw}))

	key := newECDSA(t)
	leaf := s.sign(&x509.Certificate{Subject: pkix.Name{CommonName: "test service"}}, s.ca, &key.PublicKey)
	h := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	s.pin = "sha256:" + hex.EncodeToString(h[:])
	pool := x509.NewCertPool()
	pool.AddCert(s.ca)

	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/node/enrol", s.enrol)
	mux.HandleFunc("POST /v1/node/progress", report(s, func(p api.Progress) { s.progress = append(s.progress, p) }))
	up := report(s, func(u api.Up) { s.ups = append(s.ups, u) })
	mux.HandleFunc("POST /v1/node/up", up)
	mux.HandleFunc("POST /v1/node/heartbeat", up)
	mux.HandleFunc("POST /v1/node/renew", s.renew)
	mux.HandleFunc("POST /v1/node/work", s.work)
	mux.HandleFunc("POST /v1/node/told", s.workTold)
	mux.HandleFunc("GET /v1/node/file/{digest}", s.file)
	s.server = httptest.NewUnstartedServer(mux)
	if listener != nil {
		s.server.Listener.Close()
		s.server.Listener = listener
	}
	s.server.TLS = &tls.Config{
		MinVersion: tls.VersionTLS13, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: pool,
		Certificates: []tls.Certificate{{Certificate: [][]byte{leaf.Raw}, PrivateKey: key}},
	}
	s.server.StartTLS()
	t.Cleanup(s.server.Close)
	return s
}

func newECDSA(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func (s *service) sign(c, parent *x509.Certificate, pub any) *x509.Certificate {
	c.SerialNumber = big.NewInt(time.Now().UnixNano())
	c.NotBefore = time.Now().Add(-time.Second)
	if c.NotAfter.IsZero() {
		c.NotAfter = time.Now().Add(24 * time.Hour)
	}
	if parent == nil {
		parent = c
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, pub, s.caKey)
	if err != nil {
		s.t.Error(err)
		return nil
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		s.t.Error(err)
	}
	return cert
}

func answer(w http.ResponseWriter, v any) { _ = json.NewEncoder(w).Encode(v) }

func refuse(w http.ResponseWriter, status int, what, why string) {
	w.WriteHeader(status)
	answer(w, api.Error{Code: api.Denied, What: what, Why: why})
}

func (s *service) certificate(csrPEM string) (cert string, key string, node string) {
	block, _ := pem.Decode([]byte(csrPEM))
	if block == nil {
		s.t.Error("the CSR is no PEM")
		return
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil || csr.CheckSignature() != nil {
		s.t.Errorf("CSR: %v", err)
		return
	}
	h := sha256.Sum256(csr.RawSubjectPublicKeyInfo)
	c := s.sign(&x509.Certificate{
		Subject: csr.Subject, NotAfter: time.Now().Add(s.life), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, s.ca, csr.PublicKey)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})), hex.EncodeToString(h[:]), csr.Subject.CommonName
}

func (s *service) enrol(w http.ResponseWriter, r *http.Request) {
	var e api.Enrol
	if err := json.NewDecoder(r.Body).Decode(&e); err != nil {
		s.t.Error(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	cert, key, node := s.certificate(e.CSR)
	if used, ok := s.keyOf[e.Token]; ok && used != key {
		refuse(w, http.StatusForbidden, "enrol", "the token was used by another key")
		return
	}
	s.keyOf[e.Token] = key
	s.enrols = append(s.enrols, e)
	plan := s.plan
	plan.Hostname = node
	s.wake()
	answer(w, api.Enrolled{Node: node, Certificate: cert, CA: s.caPEM, UnixMS: time.Now().UnixMilli(), Plan: plan})
}

func (s *service) renew(w http.ResponseWriter, r *http.Request) {
	var q api.Renew
	_ = json.NewDecoder(r.Body).Decode(&q)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.noRenewal {
		refuse(w, http.StatusForbidden, "renew", "no")
		return
	}
	cert, _, node := s.certificate(q.CSR)
	s.renewed++
	s.renewedAt = len(s.paths)
	s.wake()
	answer(w, api.Enrolled{Node: node, Certificate: cert, CA: s.caPEM, UnixMS: time.Now().UnixMilli()})
}

// report takes a document from a node that shows a certificate.
func report[T any](s *service, keep func(T)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if len(r.TLS.VerifiedChains) == 0 {
			refuse(w, http.StatusForbidden, r.URL.Path, "no certificate")
			return
		}
		var doc T
		if err := json.NewDecoder(r.Body).Decode(&doc); err != nil {
			s.t.Error(err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		keep(doc)
		s.paths = append(s.paths, r.TLS.PeerCertificates[0].Subject.CommonName+" "+r.URL.Path)
		s.wake()
		answer(w, s.beat)
	}
}

func (s *service) file(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	get, content := s.get, s.content
	s.mu.Unlock()
	switch {
	case get != nil && get(w, r):
	case len(r.TLS.VerifiedChains) == 0:
		refuse(w, http.StatusForbidden, "file", "no certificate")
	case "sha256:"+r.PathValue("digest") != s.plan.Root.Digest:
		refuse(w, http.StatusNotFound, "file", "no such file")
	default:
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	}
}

func (s *service) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// wait waits until what the nodes reported is as wanted.
func (s *service) wait(t *testing.T, what string, long time.Duration, ok func() bool) {
	t.Helper()
	limit := time.After(long)
	for {
		s.mu.Lock()
		done, changed := ok(), s.changed
		s.mu.Unlock()
		if done {
			return
		}
		select {
		case <-changed:
		case <-limit:
			t.Fatalf("%s: not within %s", what, long)
		}
	}
}

// steps lists the distinct steps reported, in order.
func (s *service) steps() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, p := range s.progress {
		out = append(out, p.Step)
	}
	return slices.Compact(out)
}
