package server

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"muster/internal/api"
	"muster/internal/boot"
	"muster/internal/boot/tftpd"
	"muster/internal/image/chunk"
	"muster/internal/model"
)

// fakeImage puts an image of three small files where a build would have put it, and makes it known.
func fakeImage(t *testing.T, s *service) *model.Image {
	t.Helper()
	dir := s.srv.imageDir("compute")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	file := func(name string) model.File {
		text := []byte("content of " + name)
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(text)
		return model.File{Name: name, Digest: "sha256:" + hex.EncodeToString(sum[:]), Size: int64(len(text))}
	}
	i := &model.Image{Name: "compute", Digest: "sha256:" + strings.Repeat("0", 64), Kernel: "6.1", Kernelf: file("kernel"), Initrd: file("initramfs"), Root: file("root.squashfs")}
	s.commit(model.Op{Kind: model.KindImage, Name: "compute", Doc: i})
	return i
}

func (s *service) commit(ops ...model.Op) {
	s.t.Helper()
	if _, err := s.srv.store.Commit(context.Background(), &model.Change{Time: time.Now(), Actor: "test", Verb: "test", Ops: ops}); err != nil {
		s.t.Fatal(err)
	}
}

// machine is what boots: the HTTP requests of iPXE, then those of the init with a key of its own.
type machine struct {
	t     testing.TB
	s     *service
	boot  *httptest.Server // nil: at far
	far   child            // a service in another process
	path  string           // of the boot script
	key   *ecdsa.PrivateKey
	csr   string
	token string
	cert  tls.Certificate
}

// newKey makes a key and a PEM certificate request for it.
func newKey(t *testing.T) (*ecdsa.PrivateKey, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	return key, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

func newMachine(t *testing.T, s *service) *machine {
	t.Helper()
	place := boot.Server{
		Interface: "lo", Address: netip.MustParseAddr("127.0.0.1"), Network: netip.MustParsePrefix("127.0.0.0/8"),
		HTTPPort: 7080, APIPort: 7443, Pin: s.srv.keys.Pin(), TicketKey: s.srv.keys.TicketKey(),
	}
	h := s.srv.bootHandler(place, tftpd.Files{boot.UEFILoader: {Name: boot.UEFILoader, Data: []byte("loader")}})
	url := boot.ScriptURL(place, "52:54:00:77:00:01", time.Now()) // as the DHCP answer says it
	m := &machine{t: t, s: s, boot: httptest.NewServer(h), path: url[strings.Index(url, "/boot/"):]}
	t.Cleanup(m.boot.Close)
	m.key, m.csr = newKey(t)
	return m
}

func (m *machine) url() string {
	if m.boot == nil {
		return m.far.Boot
	}
	return m.boot.URL
}

func (m *machine) api() string {
	if m.boot == nil {
		return m.far.API
	}
	return m.s.srv.APIs()[0]
}

func (m *machine) hostKey() string {
	if m.boot == nil {
		return m.far.HostKey
	}
	return m.s.srv.keys.SSHAuthorizedKey()
}

func (m *machine) get(path string) (int, string) {
	m.t.Helper()
	resp, err := http.Get(m.url() + path)
	if err != nil {
		m.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		m.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func (m *machine) script() string {
	m.t.Helper()
	code, text := m.get(m.path)
	if code != http.StatusOK {
		m.t.Fatalf("script: %d %s", code, text)
	}
	if found := regexp.MustCompile(`muster\.token=(\S+)`).FindStringSubmatch(text); found != nil {
		m.token = found[1]
	}
	return text
}

// ask is a request of the init or the agent over TLS, with the certificate once there is one.
func (m *machine) ask(method, path string, in, out any) int {
	m.t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		m.t.Fatal(err)
	}
	conf := &tls.Config{InsecureSkipVerify: true}
	if m.cert.Certificate != nil {
		conf.Certificates = []tls.Certificate{m.cert}
	}
	transport := &http.Transport{TLSClientConfig: conf}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequest(method, m.api()+path, bytes.NewReader(body))
	if err != nil {
		m.t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		m.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		m.t.Fatal(err)
	}
	switch to := out.(type) {
	case nil:
	case *[]byte:
		*to = b
	default:
		if err := json.Unmarshal(b, to); resp.StatusCode == http.StatusOK && err != nil {
			m.t.Fatalf("%s: %v: %s", path, err, b)
		}
	}
	return resp.StatusCode
}

func (m *machine) enrol() (api.Enrolled, int) {
	m.t.Helper()
	var out api.Enrolled
	code := m.ask("POST", "/v1/node/enrol", api.Enrol{Token: m.token, CSR: m.csr, HostKeys: []string{m.hostKey()}}, &out)
	if code == http.StatusOK {
		block, _ := pem.Decode([]byte(out.Certificate))
		m.cert = tls.Certificate{Certificate: [][]byte{block.Bytes}, PrivateKey: m.key}
	}
	return out, code
}

func (m *machine) phase() string {
	m.t.Helper()
	d := m.s.srv.store.Snapshot().Deployment("r1n1")
	if d == nil {
		return "none"
	}
	return string(d.Phase)
}

// The whole way from the script to up, as the service sees it, with a restart of the service in the middle.
func TestBoot_from_script_to_up_over_a_restart(t *testing.T) {
	data := shortDir(t)
	s := start(t, data)
	s.add("r1n1", attr("net.boot.mac", "52:54:00:77:00:01"), attr("net.boot.address", "127.0.0.1"))
	img := fakeImage(t, s)
	m := newMachine(t, s)
	if code, text := m.get("/boot/script?mac=52:54:00:77:00:01"); code != http.StatusForbidden || !strings.Contains(text, "DHCP") {
		t.Errorf("script without a ticket: %d %s", code, text)
	}
	if code, text := m.get(m.path); code != http.StatusConflict || !strings.Contains(text, "nothing is deployed") {
		t.Errorf("script without a deployment: %d %s", code, text)
	}
	s.deploy("r1n1")
	if text := m.script(); !strings.Contains(text, strings.TrimPrefix(img.Kernelf.Digest, "sha256:")) || m.token == "" {
		t.Fatalf("script:\n%s", text)
	}
	for _, f := range []model.File{img.Kernelf, img.Initrd} {
		path := "/boot/file/" + strings.TrimPrefix(f.Digest, "sha256:") + "/" + f.Name
		if code, text := m.get(path); code != http.StatusOK || text != "content of "+f.Name {
			t.Errorf("%s: %d %s", path, code, text)
		}
	}
	root := strings.TrimPrefix(img.Root.Digest, "sha256:")
	if code, _ := m.get("/boot/file/" + root + "/root.squashfs"); code == http.StatusOK {
		t.Error("the root was handed out without a certificate")
	}
	if code, _ := m.get("/boot/file/..%2f..%2fkeys/ca.key"); code == http.StatusOK {
		t.Error("a file of the client's choice was handed out")
	}
	if code, text := m.get("/boot/loader/" + boot.UEFILoader); code != http.StatusOK || text != "loader" {
		t.Errorf("loader: %d %s", code, text)
	}
	if code := m.ask("GET", "/v1/node/file/"+root, nil, nil); code != http.StatusForbidden {
		t.Errorf("root without a certificate: %d", code)
	}

	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	s = start(t, data)
	m.s = s
	enrolled, code := m.enrol()
	if code != http.StatusOK || enrolled.Node != "r1n1" || enrolled.Plan.Root.Digest != img.Root.Digest || m.phase() != "enrolled" {
		t.Fatalf("enrolment after the restart: %d %+v, phase %s", code, enrolled, m.phase())
	}
	if _, code := m.enrol(); code != http.StatusOK {
		t.Errorf("the same key again: %d", code)
	}
	thief := newMachine(t, s)
	thief.token = m.token
	if _, code := thief.enrol(); code != http.StatusForbidden {
		t.Errorf("another key with the same token: %d", code)
	}
	if got := s.srv.store.Snapshot().Identity("r1n1"); got == nil || len(got.HostKeys) != 1 {
		t.Errorf("identity: %+v", got)
	}

	var content []byte
	if code := m.ask("GET", "/v1/node/file/"+root, nil, &content); code != http.StatusOK || string(content) != "content of root.squashfs" {
		t.Errorf("root: %d %s", code, content)
	}
	w, err := s.srv.chunks.Write(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	d, err := w.Put([]byte("content of a file"))
	if err := errors.Join(err, w.Flush(), w.Close()); err != nil {
		t.Fatal(err)
	}
	if code := m.ask("GET", "/v1/chunks/"+d.String(), nil, &content); code != http.StatusOK {
		t.Errorf("chunk: %d %s", code, content)
	} else if plain, err := chunk.Unpack(d, content, nil, "the service"); err != nil || string(plain) != "content of a file" {
		t.Errorf("chunk: %q, %v", plain, err)
	}
	if code := m.ask("GET", "/v1/chunks/"+chunk.Sum(nil).String(), nil, nil); code != http.StatusNotFound {
		t.Errorf("a chunk that is not there: %d", code)
	}
	if code := m.ask("GET", "/v1/chunks/nonsense", nil, nil); code != http.StatusBadRequest {
		t.Errorf("no digest: %d", code)
	}
	if code := newMachine(t, s).ask("GET", "/v1/chunks/"+d.String(), nil, nil); code != http.StatusForbidden {
		t.Errorf("a chunk without a certificate: %d", code)
	}
	for _, step := range []string{"fetching", "starting"} {
		if code := m.ask("POST", "/v1/node/progress", api.Progress{Step: step}, nil); code != http.StatusOK || m.phase() != step {
			t.Errorf("progress %s: %d, phase %s", step, code, m.phase())
		}
	}
	facts := &model.Facts{Kernel: "6.1", CPUs: 2, BootID: "b1"}
	if code := m.ask("POST", "/v1/node/up", api.Up{BootID: "b1", Facts: facts}, nil); code != http.StatusOK || m.phase() != "up" {
		t.Errorf("up: %d, phase %s", code, m.phase())
	}
	if st := s.status("r1n1"); st.Status != "up" || st.Facts == nil || st.Facts.CPUs != 2 {
		t.Errorf("status %+v", st)
	}
	var why api.Why
	if err := s.client.Do(context.Background(), "GET", "/v1/why/r1n1", nil, &why); err != nil {
		t.Fatal(err)
	}
	all, _ := json.Marshal(why)
	if bytes.Contains(all, []byte(m.token)) {
		t.Error("the timeline shows the token")
	}
	if why.OursUS == 0 {
		t.Error("the time of our own answers was not measured")
	}
}

// Boots that never reach up use the deployment up; then the machine is stopped, and armed again by deploy.
func TestBoot_loop_is_held(t *testing.T) {
	s := start(t, shortDir(t))
	s.add("r1n1", attr("net.boot.mac", "52:54:00:77:00:01"), attr("net.boot.address", "127.0.0.1"))
	fakeImage(t, s)
	s.deploy("r1n1")
	m := newMachine(t, s)
	for i := range 3 {
		if text := m.script(); !strings.Contains(text, "muster.token=") {
			t.Fatalf("script %d:\n%s", i, text)
		}
		m.script() // the first answer was lost: the same boot
		if _, code := m.enrol(); code != http.StatusOK {
			t.Fatalf("enrolment %d: %d", i, code)
		}
	}
	if text := m.script(); strings.Contains(text, "muster.token=") || !strings.Contains(text, "held") {
		t.Errorf("the fourth script:\n%s", text)
	}
	if st := s.status("r1n1"); st.Status != "held" || !strings.Contains(st.Reason, "3 network boots") {
		t.Errorf("status %+v", st)
	}
	if _, code := m.enrol(); code != http.StatusForbidden {
		t.Errorf("enrolment of a held node: %d", code)
	}
	s.deploy("r1n1")
	if text := m.script(); !strings.Contains(text, "muster.token=") {
		t.Errorf("after deploy:\n%s", text)
	}
}

func TestDeploy_refuses_a_damaged_image_with_all_that_is_wrong(t *testing.T) {
	s := start(t, shortDir(t))
	s.add("r1n1")
	fakeImage(t, s)
	dir := s.srv.imageDir("compute")
	if err := os.Truncate(filepath.Join(dir, "root.squashfs"), 3); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "kernel")); err != nil {
		t.Fatal(err)
	}
	err := s.post("/v1/deploy", api.Deploy{Range: api.Range{Range: "r1n1"}, Image: "compute"}, nil)
	wants(t, err, api.Conflict, "kernel is missing", "root.squashfs has 3 bytes", "image build")
	if d := s.srv.store.Snapshot().Deployment("r1n1"); d != nil {
		t.Errorf("it was armed all the same: %+v", d)
	}
}

func (s *service) deploy(nodes string) {
	s.t.Helper()
	for _, err := range api.Stream[api.DeployResult](context.Background(), s.client, "POST", "/v1/deploy", api.Deploy{Range: api.Range{Range: nodes}, Image: "compute"}, nil) {
		if err != nil {
			s.t.Fatal(err)
		}
	}
}

func (s *service) status(node string) (st api.NodeStatus) {
	s.t.Helper()
	for line, err := range api.Stream[api.NodeStatus](context.Background(), s.client, "POST", "/v1/status", api.StatusQuery{Range: api.Range{Range: node}}, nil) {
		if err != nil {
			s.t.Fatal(err)
		}
		st = line
	}
	return st
}

func TestDiscovered_lists_unknown_machines_until_they_are_known(t *testing.T) {
	s := start(t, shortDir(t))
	const mac = "52:54:00:77:00:09"
	d := boot.Decide(s.srv.store.Snapshot(), boot.Request{Stage: boot.StageDHCP, Type: boot.DHCPDiscover, MAC: mac, UUID: "4d4d3f06-7aad-4cf6-bb5b-b8ba4d80091b"}, time.Now())
	s.srv.tellBoot(d.Events)
	s.srv.tellBoot(d.Events)
	var got []api.Discovered
	list := func() {
		t.Helper()
		if err := s.client.Do(context.Background(), "GET", "/v1/discovered", nil, &got); err != nil {
			t.Fatal(err)
		}
	}
	if list(); len(got) != 1 || got[0].MAC != mac || got[0].Count != 2 || !strings.HasPrefix(got[0].UUID, "4d4d3f06") || got[0].Reason == "" {
		t.Errorf("discovered: %+v", got)
	}
	s.add("r1n9", attr("net.boot.mac", mac))
	if list(); len(got) != 0 {
		t.Errorf("a known machine is still listed: %+v", got)
	}
}
