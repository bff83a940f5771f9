package store

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"muster/internal/model"
	"muster/internal/need"
)

// etcdElsewhere is a real etcd, with the limits that it has by itself, that answers to clients with a certificate of the authority.
type etcdElsewhere struct {
	External
	dir, url string
	files    PeerFiles
	args     []string
	cmd      *exec.Cmd
}

func startElsewhere(t *testing.T, args ...string) *etcdElsewhere {
	t.Helper()
	need.Programs(t, "etcd-server", "etcd")
	a := newAuthority(t)
	f := a.issue(t, "etcd", net.IPv4(127, 0, 0, 1))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	e := &etcdElsewhere{dir: t.TempDir(), url: "https://" + l.Addr().String(), files: f, args: args}
	me := a.issue(t, "muster", net.IPv4(127, 0, 0, 1))
	e.External = External{Endpoints: []string{l.Addr().String()}, Cert: me.Cert, Key: me.Key, CA: me.CA}
	e.start(t)
	t.Cleanup(e.kill)
	return e
}

func (e *etcdElsewhere) start(t *testing.T) {
	t.Helper()
	e.cmd = exec.Command("etcd", append([]string{
		"--data-dir", e.dir, "--listen-client-urls", e.url, "--advertise-client-urls", e.url, "--listen-peer-urls", "http://127.0.0.1:0",
		"--cert-file", e.files.Cert, "--key-file", e.files.Key, "--trusted-ca-file", e.files.CA, "--client-cert-auth",
	}, e.args...)...)
	e.cmd.Env = append(os.Environ(), "ETCD_UNSUPPORTED_ARCH=") // and nothing of ours
	var said syncBuffer
	e.cmd.Stdout, e.cmd.Stderr = &said, &said
	if err := e.cmd.Start(); err != nil {
		t.Fatal(err)
	}
}

func (e *etcdElsewhere) kill() {
	_ = e.cmd.Process.Kill()
	_ = e.cmd.Wait()
}

func openElsewhere(t *testing.T, e *etcdElsewhere, name string) *Store {
	t.Helper()
	return open(t, Options{Name: model.ManagerName(name), External: &e.External})
}

func TestExternal(t *testing.T) {
	t.Parallel()
	e := startElsewhere(t)
	a, b := openElsewhere(t, e, "a"), openElsewhere(t, e, "b")
	t.Run("two managers write and read the same", func(t *testing.T) {
		rev := commit(t, a, change("node add", node("n", "x", "1")))
		if err := b.AtLeast(t.Context(), rev); err != nil || b.Snapshot().Node("n") == nil {
			t.Fatal(err)
		}
		base := commit(t, b, change("set", node("n", "x", "2")))
		mine := change("set", node("n", "x", "3"))
		mine.Revision = rev
		_, err := a.Commit(t.Context(), mine)
		if c := (*ConflictError)(nil); !errors.As(err, &c) || c.Revision != base || c.Actor == "" {
			t.Fatalf("got %v", err)
		}
		want := []model.ManagerName{"a", "b"}
		eventually(t, "both leases", func() bool { return slices.Equal(a.Alive(), want) && slices.Equal(b.Alive(), want) })
		if h := a.Health(); !h.Since.IsZero() || h.Alone {
			t.Fatalf("got %+v", h)
		}
	})
	t.Run("what is beyond its limits is refused with the flags that raise them", func(t *testing.T) {
		many := change("node add")
		for i := range 200 {
			many.Ops = append(many.Ops, node(fmt.Sprint("many", i)))
		}
		large := change("set", node("large", "x", noise(4<<20)))
		larger := change("set", node("large", "x", noise(10<<20)))
		for _, c := range []*model.Change{many, large, larger} {
			_, err := a.Commit(t.Context(), c)
			if !IsKind(err, TooLarge) || !strings.Contains(err.Error(), "--max-txn-ops") || !strings.Contains(err.Error(), "--max-request-bytes") {
				t.Fatalf("got %v", err)
			}
		}
		if a.Snapshot().Node("many0") != nil || a.Snapshot().Node("large") != nil {
			t.Fatal("part of it was written")
		}
	})
	t.Run("its members are its own", func(t *testing.T) {
		if _, err := a.AddMember(t.Context(), "c", "https://127.0.0.1:1"); !IsKind(err, Forbidden) {
			t.Fatalf("got %v", err)
		}
		if ms, err := a.Members(t.Context()); err != nil || len(ms) != 1 {
			t.Fatalf("got %v, %v", ms, err)
		}
	})
	t.Run("away and back, nothing is lost and nothing is told twice", func(t *testing.T) {
		c := change("set", node("before"))
		c.Events = []model.Event{{Step: "test", What: "before"}}
		commit(t, a, c)
		e.kill()
		eventually(t, "the loss to be noticed", func() bool { return !a.Health().Since.IsZero() && !b.Health().Since.IsZero() })
		begin := time.Now()
		_, err := a.Commit(t.Context(), change("set", node("away")))
		if !IsKind(err, NoMajority) || !strings.Contains(err.Error(), e.Endpoints[0]) {
			t.Fatalf("got %v", err)
		}
		t.Logf("refused after %v: %v", time.Since(begin).Round(time.Millisecond), err)
		if a.Snapshot().Node("before") == nil {
			t.Fatal("reads do not go on")
		}
		e.start(t)
		begin = time.Now()
		t.Logf("wrote %v after etcd was started", writesAgain(t, &manager{Store: a}, begin))
		c = change("set", node("after"))
		c.Events = []model.Event{{Step: "test", What: "after"}}
		rev := commit(t, a, c)
		if err := b.AtLeast(t.Context(), rev); err != nil {
			t.Fatal(err)
		}
		for _, s := range []*Store{a, b} {
			events, err := s.Events(EventQuery{})
			if err != nil || len(events) != 2 || events[0].What != "before" || events[1].What != "after" {
				t.Fatalf("got %v, %v", events, err)
			}
		}
	})
	t.Run("a manager that lags behind its compaction reads everything again", func(t *testing.T) {
		rev := commit(t, a, change("set", node("n", "x", "4")))
		if err := b.AtLeast(t.Context(), rev); err != nil {
			t.Fatal(err)
		}
		dir := b.opt.Dir
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		for i := range 5 {
			rev = commit(t, a, change("set", node("n", "x", fmt.Sprint(i))))
		}
		if _, err := a.engine.client.Compact(t.Context(), int64(rev)); err != nil {
			t.Fatal(err)
		}
		b = open(t, Options{Name: "b", External: &e.External, Dir: dir})
		if got := b.Snapshot().Node("n").Attrs["x"]; got != "4" {
			t.Fatalf("got %s", got)
		}
	})
	t.Run("another schema is named", func(t *testing.T) {
		if _, err := a.engine.client.Put(t.Context(), schemaKey, fmt.Sprint(Schema+1)); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), Options{Dir: t.TempDir(), External: &e.External}); !IsKind(err, Newer) {
			t.Fatalf("got %v", err)
		}
	})
}

// A backup of a lone manager goes on in an etcd elsewhere: with other revisions, in the same order.
func TestExternalIsRestored(t *testing.T) {
	t.Parallel()
	s := open(t, Options{})
	many := change("node add")
	for i := range 3 * restoreOps {
		many.Ops = append(many.Ops, node(fmt.Sprint("n", i), "x", "1"))
	}
	commit(t, s, many)
	commit(t, s, change("manager add", managerOp("m1", Schema)))
	for i := range 3 {
		commit(t, s, change("set", node("n7", "x", fmt.Sprint("of ", i))))
	}
	_, file := backup(t, s, nil)
	content := func(s *Store) map[string]string {
		m := map[string]string{}
		for name, d := range documents(s.Snapshot()) {
			b, err := json.Marshal(d)
			if err != nil {
				t.Fatal(err)
			}
			m[name] = string(b)
		}
		delete(m, "manager/m1")
		return m
	}
	record := func(s *Store) (out []string) {
		changes, err := s.Changes(ChangeQuery{Touches: true})
		if err != nil {
			t.Fatal(err)
		}
		last := model.Revision(0)
		for _, c := range changes {
			if c.Revision <= last {
				t.Errorf("%s has revision %d after %d", c.Verb, c.Revision, last)
			}
			last = c.Revision
			out = append(out, fmt.Sprint(c.Verb, c.Time, len(c.Touches)))
		}
		return out
	}
	for name, raised := range map[string][]string{"the limits that etcd has by itself": nil, "limits raised": {"--max-txn-ops", "1000"}} {
		t.Run(name, func(t *testing.T) {
			e := startElsewhere(t, raised...)
			o := Options{Dir: t.TempDir(), External: &e.External}
			if _, err := Restore(t.Context(), o, bytes.NewReader(file)); err != nil {
				t.Fatal(err)
			}
			got := open(t, o)
			if d := cmp.Diff(content(s), content(got)); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
			if d := cmp.Diff(record(s), record(got)); d != "" {
				t.Errorf("changes, -want +got:\n%s", d)
			}
			if schema := schemaOf(t, got); schema != fmt.Sprint(Schema) {
				t.Errorf("schema %s", schema)
			}
			// What nobody has touched since can be taken back, where its change could stay one transaction.
			changes, err := got.Changes(ChangeQuery{Verb: "node add", Touches: true})
			if err != nil || len(changes) != 1 {
				t.Fatalf("%v, %v", changes, err)
			}
			if _, problems := model.Undo(got.Snapshot(), changes[0].Revision, changes[0].Touches); raised != nil && (len(problems) != 1 || problems[0].Node != "n7") {
				t.Errorf("undo: %v, want that n7 was changed since", problems)
			}
			commit(t, got, change("set", node("n1", "x", "2")))
			again := Options{Dir: t.TempDir(), External: &e.External}
			if _, err := Restore(t.Context(), again, bytes.NewReader(file)); !IsKind(err, Occupied) || !strings.Contains(err.Error(), "etcdctl del") {
				t.Errorf("into one that has something: %v", err)
			}
			if n := got.Snapshot().Node("n1"); n == nil || n.Attrs["x"] != "2" {
				t.Errorf("it was changed: %+v", n)
			}
		})
	}
}

// A restore that was not finished is not taken for a store; the next one begins anew, and the one before writes no more.
func TestExternalRestoreThatWasNotFinished(t *testing.T) {
	t.Parallel()
	s := open(t, Options{})
	commit(t, s, change("node add", node("a"), node("b")))
	_, file := backup(t, s, nil)
	e := startElsewhere(t)
	g, err := connect(t.Context(), &e.External, s.log)
	if err != nil {
		t.Fatal(err)
	}
	defer g.close(time.Second)
	half := &elsewhere{client: g.client, etcd: &e.External, what: "restore", token: "the first"}
	if err := half.begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	stray := clientv3.OpPut(prefix+"node/stray", "{}")
	if err := half.mine(t.Context(), 0, stray); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Options{Dir: t.TempDir(), External: &e.External}); !IsKind(err, Damaged) || !strings.Contains(err.Error(), "not finished") {
		t.Errorf("got %v", err)
	}
	o := Options{Dir: t.TempDir(), External: &e.External}
	if _, err := Restore(t.Context(), o, bytes.NewReader(file)); err != nil {
		t.Fatal(err)
	}
	if err := half.mine(t.Context(), 0, stray); !IsKind(err, Occupied) {
		t.Errorf("the first goes on: %v", err)
	}
	got := open(t, o)
	if got.Snapshot().Len() != 2 || got.Snapshot().Node("stray") != nil {
		t.Errorf("got %v", documents(got.Snapshot()))
	}
}

// A document beyond etcd's limits refuses the whole, with the flags that raise them, and nothing is left.
func TestExternalRestoreBeyondItsLimits(t *testing.T) {
	t.Parallel()
	s := open(t, Options{})
	commit(t, s, change("node add", node("a")))
	commit(t, s, change("set", node("large", "x", noise(2<<20))))
	_, file := backup(t, s, nil)
	e := startElsewhere(t)
	o := Options{Dir: t.TempDir(), External: &e.External}
	if _, err := Restore(t.Context(), o, bytes.NewReader(file)); !IsKind(err, TooLarge) || !strings.Contains(err.Error(), "--max-request-bytes") {
		t.Errorf("got %v", err)
	}
	if got := open(t, o); got.Snapshot().Len() != 0 {
		t.Errorf("a part is there: %v", documents(got.Snapshot()))
	}
}

// noise is text that compression does not make smaller than half of it.
func noise(bytes int) string {
	b := make([]byte, bytes/2)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return hex.EncodeToString(b)
}

func TestExternalThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	x := External{Endpoints: []string{"127.0.0.1:1"}}
	if _, err := Open(t.Context(), Options{Dir: t.TempDir(), External: &x}); !IsKind(err, NoMajority) || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Fatalf("got %v", err)
	}
	// Nor later, when the documents are read: that is no damage.
	s := &Store{opt: Options{External: &x}}
	if err := s.unread(t.Context(), &brokenError{rpctypes.ErrTimeout}); !IsKind(err, NoMajority) {
		t.Errorf("got %v", err)
	}
	if err := s.unread(t.Context(), errors.New("document node/a: no JSON")); !IsKind(err, Damaged) {
		t.Errorf("got %v", err)
	}
}

// With the limits that the error names, large changes go through.
func TestExternalWithLimitsRaised(t *testing.T) {
	t.Parallel()
	e := startElsewhere(t, "--max-txn-ops", fmt.Sprint(maxOps), "--max-request-bytes", fmt.Sprint(maxBytes))
	s := openElsewhere(t, e, "a")
	large := change("node add")
	for i := range 20_000 {
		large.Ops = append(large.Ops, node(fmt.Sprint("n", i)))
	}
	commit(t, s, large)
	if s.Snapshot().Node("n19999") == nil {
		t.Fatal("it is not there")
	}
}
