package store

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
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"muster/internal/model"
)

// authority is a CA for the managers of a test.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{dir: t.TempDir(), key: key}
	a.cert = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, filepath.Join(a.dir, "ca.pem"), "CERTIFICATE", der)
	return a
}

func writePEM(t testing.TB, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// issue makes the files of a manager that is reached at the addresses.
func (a *authority) issue(t testing.TB, name string, at ...net.IP) PeerFiles {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name, OrganizationalUnit: []string{"muster manager"}},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: at, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	f := PeerFiles{filepath.Join(a.dir, name+".pem"), filepath.Join(a.dir, name+".key"), filepath.Join(a.dir, "ca.pem")}
	writePEM(t, f.Cert, "CERTIFICATE", der)
	writePEM(t, f.Key, "EC PRIVATE KEY", pkcs)
	return f
}

// gate is a manager's TLS listener, for those who show a certificate of the test's authority. It can be shut to some of them.
type gate struct {
	server *http.Server
	peers  atomic.Pointer[http.Handler]

	mu    sync.Mutex
	shut  map[string]bool // to these names
	conns map[string]map[net.Conn]bool
}

func newGate() *gate { return &gate{shut: map[string]bool{}, conns: map[string]map[net.Conn]bool{}} }

func (g *gate) serve(l net.Listener, f PeerFiles) error {
	cert, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		return err
	}
	ca, err := os.ReadFile(f.CA)
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	c := &tls.Config{
		Certificates: []tls.Certificate{cert}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, NextProtos: []string{"h2", "http/1.1"},
	}
	c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		c := c.Clone()
		c.VerifyConnection = func(s tls.ConnectionState) error {
			return g.enter(s.PeerCertificates[0].Subject.CommonName, hello.Conn)
		}
		return c, nil
	}
	g.server = &http.Server{
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0),
		// As strict as a server for people may be: the peers' streams must outlive it.
		ReadTimeout: time.Second, WriteTimeout: time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h := g.peers.Load()
			if h == nil {
				http.Error(w, "not yet", http.StatusServiceUnavailable)
				return
			}
			(*h).ServeHTTP(w, r)
		}),
	}
	go func() { _ = g.server.Serve(tls.NewListener(l, c)) }()
	return nil
}

func (g *gate) mount(h http.Handler) { g.peers.Store(&h) }

func (g *gate) enter(name string, c net.Conn) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut[name] {
		return errors.New("shut")
	}
	if g.conns[name] == nil {
		g.conns[name] = map[net.Conn]bool{}
	}
	g.conns[name][c] = true
	return nil
}

func (g *gate) set(name string, shut bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut[name] = shut; shut {
		for c := range g.conns[name] {
			c.Close()
		}
		delete(g.conns, name)
	}
}

// cut keeps the managers of one side from those of the other, or lets them through again.
func cut(one, other []*manager, shut bool) {
	for _, a := range one {
		for _, b := range other {
			a.gate.set(b.name, shut)
			b.gate.set(a.name, shut)
		}
	}
}

// manager is one manager of a test: a store with its listener.
type manager struct {
	*Store
	name  string
	dir   string
	by    *authority
	files PeerFiles
	at    string // host:port
	gate  *gate
	log   syncBuffer
}

// syncBuffer is a log that may be read while it is written.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func (m *manager) url() string { return "https://" + m.at }

func newManager(t testing.TB, a *authority, name string) *manager {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") // to find a free port, which is its own from then on
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	m := &manager{name: name, by: a, dir: t.TempDir(), files: a.issue(t, name, net.IPv4(127, 0, 0, 1)), gate: newGate(), at: l.Addr().String()}
	t.Cleanup(m.stop)
	return m
}

// start opens the manager's store and serves its peers.
func (m *manager) start(t testing.TB, join *Join) {
	t.Helper()
	if err := m.open(t.Context(), join); err != nil {
		t.Fatalf("%s: %v\n%s", m.name, err, &m.log)
	}
}

func (m *manager) open(ctx context.Context, join *Join) error {
	l, err := net.Listen("tcp", m.at)
	if err != nil {
		return err
	}
	if err := m.gate.serve(l, m.files); err != nil {
		return err
	}
	m.Store, err = Open(ctx, Options{
		Dir: m.dir, Name: model.ManagerName(m.name), Peer: m.files, Join: join, Mount: m.gate.mount, Log: slog.New(slog.NewTextHandler(&m.log, nil)),
	})
	if err != nil {
		m.Store = nil
		m.gate.server.Close()
	}
	return err
}

// stop closes the store and, after it, the listener.
func (m *manager) stop() {
	if m.Store != nil {
		_ = m.Close()
		m.Store = nil
		m.gate.server.Close()
	}
}

// join makes the manager a full member of the pool that by is of, and says how long that took.
func (m *manager) join(t testing.TB, by *manager) time.Duration {
	t.Helper()
	begin := time.Now()
	j, err := by.AddMember(t.Context(), model.ManagerName(m.name), m.url())
	if err != nil {
		t.Fatal(err)
	}
	b, _ := json.Marshal(j) // as it travels
	var got Join
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	m.start(t, &got)
	if err := by.Promote(t.Context(), model.ManagerName(m.name)); err != nil {
		t.Fatal(err)
	}
	return time.Since(begin)
}

// newPool makes a pool of managers m1, m2 …
func newPool(t testing.TB, n int) []*manager {
	t.Helper()
	a := newAuthority(t)
	var all []*manager
	for i := range n {
		m := newManager(t, a, fmt.Sprint("m", i+1))
		if i == 0 {
			m.start(t, nil)
			if err := m.Advertise(t.Context(), m.url()); err != nil {
				t.Fatal(err)
			}
		} else {
			t.Logf("%s joined in %v", m.name, m.join(t, all[0]).Round(time.Millisecond))
		}
		all = append(all, m)
	}
	return all
}

// leader waits until one of the managers leads and all know it.
func leader(t testing.TB, all []*manager) *manager {
	t.Helper()
	var found *manager
	eventually(t, "a leader that all know", func() bool {
		found = nil
		for _, m := range all {
			h := m.Health()
			if i := slices.IndexFunc(all, func(m *manager) bool { return m.name == string(h.Leader) }); i < 0 || found != nil && found != all[i] {
				return false
			} else {
				found = all[i]
			}
		}
		return true
	})
	return found
}

func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for !holds() {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func others(all []*manager, but *manager) []*manager {
	return slices.DeleteFunc(slices.Clone(all), func(m *manager) bool { return m == but })
}

func names(t testing.TB, s *Store) (all []string) {
	t.Helper()
	ms, err := s.Members(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range ms {
		n := string(m.Name)
		if m.Learner {
			n += " (learner)"
		}
		all = append(all, n)
	}
	return all
}

func TestPool(t *testing.T) {
	t.Parallel()
	all := newPool(t, 3)
	t.Run("every manager writes, and reads what another wrote", func(t *testing.T) {
		for i, m := range all {
			name := fmt.Sprint("n", i)
			rev := commit(t, m.Store, change("node add", node(name)))
			for _, o := range all {
				if err := o.AtLeast(t.Context(), rev); err != nil || o.Snapshot().Node(model.NodeName(name)) == nil {
					t.Fatalf("%s does not see what %s wrote in revision %d: %v", o.name, m.name, rev, err)
				}
			}
		}
	})
	t.Run("a conflict names the writer on another manager", func(t *testing.T) {
		base := commit(t, all[0].Store, change("set", node("a")))
		other := change("set", node("a", "x", "1"))
		other.Actor = "alice (uid 7)"
		commit(t, all[1].Store, other)
		mine := change("set", node("a", "x", "2"))
		mine.Revision = base
		_, err := all[2].Commit(t.Context(), mine)
		if c := (*ConflictError)(nil); !errors.As(err, &c) || c.Actor != "alice (uid 7)" {
			t.Fatalf("got %v", err)
		}
	})
	t.Run("no update of one document by all managers is lost", func(t *testing.T) {
		first := commit(t, all[0].Store, change("set", node("count", "n", "")))
		const each = 40
		var wg sync.WaitGroup
		begin := time.Now()
		for _, m := range all {
			if err := m.AtLeast(t.Context(), first); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				wg.Go(func() {
					for range each {
						_, err := m.Update(t.Context(), func(s *model.Snapshot) (*model.Change, error) {
							return change("set", node("count", "n", s.Node("count").Attrs["n"]+"x")), nil
						})
						if err != nil {
							t.Error(err)
						}
					}
				})
			}
		}
		wg.Wait()
		rev := commit(t, all[0].Store, change("set", node("last")))
		if err := all[2].AtLeast(t.Context(), rev); err != nil {
			t.Fatal(err)
		}
		if got := len(all[2].Snapshot().Node("count").Attrs["n"]); got != 2*each*len(all) {
			t.Fatalf("got %d updates, want %d", got, 2*each*len(all))
		}
		t.Logf("%d contended updates by three managers in %v", 2*each*len(all), time.Since(begin).Round(time.Millisecond))
	})
	t.Run("all are alive, and one that stops is not", func(t *testing.T) {
		want := []model.ManagerName{"m1", "m2", "m3"}
		for _, m := range all {
			eventually(t, "all leases", func() bool { return slices.Equal(m.Alive(), want) })
		}
		all[2].stop()
		begin := time.Now()
		eventually(t, "the end of the lease of m3", func() bool { return slices.Equal(all[0].Alive(), want[:2]) })
		t.Logf("a manager that stopped was not alive after %v", time.Since(begin).Round(time.Millisecond))
		all[2].start(t, nil)
		eventually(t, "all leases", func() bool { return slices.Equal(all[0].Alive(), want) })
	})
	t.Run("all stopped, all started", func(t *testing.T) {
		rev := commit(t, all[0].Store, change("set", node("before")))
		for _, m := range all {
			m.stop()
		}
		begin := time.Now()
		var wg sync.WaitGroup
		for _, m := range all {
			wg.Go(func() {
				if err := m.open(context.Background(), nil); err != nil {
					t.Errorf("%s: %v", m.name, err)
				}
			})
		}
		wg.Wait()
		if t.Failed() {
			t.FailNow()
		}
		for _, m := range all {
			if err := m.AtLeast(t.Context(), rev); err != nil || m.Snapshot().Node("before") == nil {
				t.Fatal(err)
			}
			commit(t, m.Store, change("set", node("after")))
		}
		t.Logf("wrote again %v after the start of all", time.Since(begin).Round(time.Millisecond))
	})
}

func TestPoolLosesItsLeader(t *testing.T) {
	t.Parallel()
	all := newPool(t, 3)
	t.Run("cut off, it refuses writes and goes on reading, and the others write", func(t *testing.T) {
		old := leader(t, all)
		rest := others(all, old)
		commit(t, old.Store, change("set", node("a", "x", "1")))
		begin := time.Now()
		cut([]*manager{old}, rest, true)
		t.Logf("leader cut off: the others wrote after %v", writesAgain(t, rest[0], begin))
		eventually(t, "it to notice", func() bool { return !old.Health().Since.IsZero() })
		t.Logf("it noticed after %v", time.Since(begin).Round(time.Millisecond))
		_, err := old.Commit(t.Context(), change("set", node("minority")))
		if !IsKind(err, NoMajority) {
			t.Fatalf("got %v", err)
		}
		t.Logf("the one that is cut off says after %v: %v", time.Since(begin).Round(time.Millisecond), err)
		if h := old.Health(); h.Leader != "" || h.Since.IsZero() || h.Alone {
			t.Fatalf("got %+v", h)
		}
		if n := old.Snapshot().Node("a"); n == nil || n.Attrs["x"] != "1" {
			t.Fatalf("got %+v", n)
		}
		eventually(t, "the end of its own lease", func() bool { return !slices.Contains(old.Alive(), model.ManagerName(old.name)) })

		begin = time.Now()
		cut([]*manager{old}, rest, false)
		if err := old.Wait(t.Context(), func(s *model.Snapshot) bool { return s.Node("again") != nil }); err != nil {
			t.Fatal(err)
		}
		if old.Snapshot().Node("minority") != nil {
			t.Fatal("a change that was refused was made")
		}
		commit(t, old.Store, change("set", node("healed")))
		t.Logf("healed: it wrote after %v", time.Since(begin).Round(time.Millisecond))
		eventually(t, "its lease", func() bool { return slices.Contains(old.Alive(), model.ManagerName(old.name)) })
	})
	t.Run("every write under way when it is lost is made once", func(t *testing.T) {
		first := commit(t, all[0].Store, change("set", node("count", "n", "")))
		var wg sync.WaitGroup
		var wrote atomic.Int64
		var longest [3]time.Duration
		stop := make(chan struct{})
		for i, m := range all {
			if err := m.AtLeast(t.Context(), first); err != nil {
				t.Fatal(err)
			}
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					begin := time.Now()
					_, err := m.Update(t.Context(), func(s *model.Snapshot) (*model.Change, error) {
						return change("set", node("count", "n", s.Node("count").Attrs["n"]+"x")), nil
					})
					if err != nil {
						t.Error(err)
						return
					}
					wrote.Add(1)
					longest[i] = max(longest[i], time.Since(begin))
				}
			})
		}
		for range 3 {
			so := wrote.Load()
			eventually(t, "writes", func() bool { return wrote.Load() > so+20 })
			old := leader(t, all)
			rest := others(all, old)
			cut([]*manager{old}, rest, true)
			eventually(t, "another leader", func() bool { h := rest[0].Health(); return h.Leader != "" && h.Leader != model.ManagerName(old.name) })
			cut([]*manager{old}, rest, false)
		}
		close(stop)
		wg.Wait()
		last := commit(t, all[0].Store, change("set", node("last")))
		for _, m := range all {
			if err := m.AtLeast(t.Context(), last); err != nil {
				t.Fatal(err)
			}
			if got, want := len(m.Snapshot().Node("count").Attrs["n"]), int(wrote.Load()); got != want {
				t.Fatalf("%s has %d updates, %d were acknowledged", m.name, got, want)
			}
		}
		t.Logf("%d updates while three leaders were lost; the longest took %v", wrote.Load(), slices.Max(longest[:]).Round(time.Millisecond))
	})
	t.Run("stopped, it hands over", func(t *testing.T) {
		old := leader(t, all)
		rest := others(all, old)
		begin := time.Now()
		done := make(chan struct{})
		go func() { old.stop(); close(done) }()
		eventually(t, "another leader", func() bool { h := rest[0].Health(); return h.Leader != "" && h.Leader != model.ManagerName(old.name) })
		t.Logf("leader stopped: the others wrote after %v", writesAgain(t, rest[0], begin))
		<-done
		old.start(t, nil)
	})
	t.Run("removed, the others write", func(t *testing.T) {
		old := leader(t, all)
		rest := others(all, old)
		begin := time.Now()
		if err := rest[0].RemoveMember(t.Context(), model.ManagerName(old.name)); err != nil {
			t.Fatal(err)
		}
		gone := time.Now()
		t.Logf("leader removed by another in %v: the others wrote after %v", gone.Sub(begin).Round(time.Millisecond), writesAgain(t, rest[0], gone))
		select {
		case <-old.Done():
		case <-time.After(20 * time.Second):
			t.Fatal("the one that was removed goes on")
		}
		if err := old.Err(); !IsKind(err, Removed) {
			t.Fatalf("got %v", err)
		}
		old.stop()
		if err := old.open(t.Context(), nil); !IsKind(err, Removed) {
			t.Fatalf("got %v", err)
		}
	})
}

func TestPoolReplacesAMember(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	var all []*manager
	for i := range 3 {
		m := newManager(t, a, fmt.Sprint("m", i+1))
		if i == 0 {
			m.start(t, nil)
			if err := m.Advertise(t.Context(), m.url()); err != nil {
				t.Fatal(err)
			}
		} else {
			m.join(t, all[0])
		}
		all = append(all, m)
	}
	dead := all[2]
	dead.stop()
	rev := commit(t, all[1].Store, change("set", node("a")))
	begin := time.Now()
	if err := all[1].RemoveMember(t.Context(), "m3"); err != nil {
		t.Fatal(err)
	}
	t.Logf("removed a dead member in %v", time.Since(begin).Round(time.Millisecond))
	if err := all[1].RemoveMember(t.Context(), "m3"); !IsKind(err, NoMember) {
		t.Fatalf("got %v", err)
	}
	another := newManager(t, a, "m3") // of the same name, in an empty directory
	t.Logf("another took its place in %v", another.join(t, all[1]).Round(time.Millisecond))
	if err := another.AtLeast(t.Context(), rev); err != nil || another.Snapshot().Node("a") == nil {
		t.Fatal(err)
	}
	if got, want := names(t, all[0].Store), []string{"m1", "m2", "m3"}; !slices.Equal(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	t.Run("the one that was removed while dead is told so", func(t *testing.T) {
		begin := time.Now()
		err := dead.open(t.Context(), nil)
		if err == nil {
			select {
			case <-dead.Done():
				err = dead.Err()
			case <-time.After(20 * time.Second):
			}
			dead.stop()
		}
		if !IsKind(err, Removed) {
			t.Fatalf("got %v", err)
		}
		t.Logf("after %v: %v", time.Since(begin).Round(time.Millisecond), err)
	})
	t.Run("a name and an address that are taken are refused", func(t *testing.T) {
		if _, err := all[0].AddMember(t.Context(), "m2", "https://127.0.0.1:1"); !IsKind(err, Occupied) {
			t.Fatalf("got %v", err)
		}
		if _, err := all[0].AddMember(t.Context(), "m4", all[1].url()); !IsKind(err, Occupied) {
			t.Fatalf("got %v", err)
		}
		if _, err := all[0].AddMember(t.Context(), "m4", "http://127.0.0.1:1"); !IsKind(err, Forbidden) {
			t.Fatalf("got %v", err)
		}
	})
	t.Run("a directory that has another store does not join", func(t *testing.T) {
		another.stop()
		if err := another.open(t.Context(), &Join{Name: "m3", ID: "1", URL: another.url(), Peers: []string{all[0].url()}}); !IsKind(err, Occupied) {
			t.Fatalf("got %v", err)
		}
	})
}

// writesAgain waits until the manager writes, and says how long after begin that was.
func writesAgain(t testing.TB, m *manager, begin time.Time) time.Duration {
	t.Helper()
	for {
		_, err := m.Commit(t.Context(), change("set", node("again")))
		if err == nil {
			return time.Since(begin).Round(time.Millisecond)
		}
		if !IsKind(err, NoMajority) && !IsKind(err, Uncertain) {
			t.Fatal(err)
		}
	}
}

// long says that tests may take their time and half the machine.
var long = os.Getenv("MUSTER_LONG") != ""

// A commit of many documents is made on every manager, whoever makes it. In the long run it is as large as one may be, and the leader stays:
// here three managers share a disk and the processors, which is the worst case.
func TestPoolLargeCommit(t *testing.T) {
	t.Parallel()
	docs, filler := 10_000, ""
	if long {
		docs, filler = 100_000, strings.Repeat("x", 900)
	}
	all := newPool(t, 3)
	lead := leader(t, all)
	term := lead.engine.member.Term()
	for _, by := range []*manager{lead, others(all, lead)[0]} {
		large := change("node add")
		for i := range docs {
			large.Ops = append(large.Ops, node(fmt.Sprint("n", i), "custom.filler", filler))
		}
		begin := time.Now()
		rev := commit(t, by.Store, large)
		took := time.Since(begin)
		for _, m := range all {
			if err := m.AtLeast(t.Context(), rev); err != nil || m.Snapshot().Node(model.NodeName(fmt.Sprint("n", docs-1))) == nil {
				t.Fatal(err)
			}
		}
		t.Logf("by the leader: %v; took %v, seen by all after %v", by == lead, took.Round(time.Millisecond), time.Since(begin).Round(time.Millisecond))
		if now := lead.engine.member.Term(); now != term {
			t.Logf("the leader was unseated: term %d, then %d", term, now)
			if long {
				t.Fail()
			}
			lead, term = leader(t, all), now
		}
	}
}

// What waits for a majority keeps nobody: not the end of a manager, and not the start of one whose store is of an older schema.
func TestWithoutALeader(t *testing.T) {
	t.Parallel()
	all := newPool(t, 2)
	commit(t, all[0].Store, change("set", node("a")))
	lead := leader(t, all)
	rest := others(all, lead)[0]
	t.Run("a follower leaves it to the leader to push a large change out of the log", func(t *testing.T) {
		before := lead.engine.member.AppliedIndex()
		rest.giveBack(t.Context())
		if n := lead.engine.member.AppliedIndex() - before; n > 100 {
			t.Errorf("%d entries of a follower", n)
		}
		before = lead.engine.member.AppliedIndex()
		lead.giveBack(t.Context())
		if n := lead.engine.member.AppliedIndex() - before; n < 102+catchUp {
			t.Errorf("%d entries of the leader", n)
		}
	})
	setSchemaOf(t, lead.Store, "1")
	if err := rest.Wait(t.Context(), func(*model.Snapshot) bool { return rest.schema.Load() == 1 }); err != nil {
		t.Fatal(err)
	}
	rest.stop()
	eventually(t, "it to notice", func() bool { return !lead.Health().Since.IsZero() })
	lead.Tell(model.Event{Step: "test", What: "told"})
	lead.Observe("a", func(st *model.State) { st.Power = "on" })
	begin := time.Now()
	lead.stop()
	if took := time.Since(begin); took > 10*closeLimit {
		t.Errorf("it took %v to close, want %v at most", took, closeLimit)
	}
	begin = time.Now()
	lead.start(t, nil)
	if took := time.Since(begin); took > aloneLimit+2*time.Second {
		t.Errorf("it took %v to open", took)
	}
	if lead.Snapshot().Node("a") == nil {
		t.Error("it reads nothing")
	}
}
