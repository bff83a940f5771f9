package store

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	clientv3 "go.etcd.io/etcd/client/v3"

	"muster/internal/model"
)

// fixtureTime is the time of everything in the fixture.
var fixtureTime = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// fixtureChanges are what was committed into the stored fixture, in order: a few documents of each family there was in schema 1, changed and
// removed ones too.
func fixtureChanges() []*model.Change {
	n1 := node("r1n1", "bmc.address", "10.0.1.1", "net.boot.mac", "52:54:00:00:01:01", "location.rack", "{n1}",
		"bmc.password", "sealed:v1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	changes := []*model.Change{
		change("group add",
			model.Op{Kind: model.KindGroup, Name: "compute", Doc: &model.Group{Name: "compute", Attrs: map[model.AttrName]string{"bmc.user": "admin"}}},
			model.Op{Kind: model.KindGroup, Name: "rack1", Doc: &model.Group{Name: "rack1", Range: "r1n[1-40]"}}),
		change("node add", n1, node("r1n2"), node("r1n3"), node("r1n4")),
		change("image add", model.Op{Kind: model.KindImage, Name: "debian", Doc: &model.Image{
			Name: "debian", Digest: "sha256:" + strings.Repeat("a", 64), Built: fixtureTime, Kernel: "6.12.0-1-amd64", Size: 1 << 28,
			Root: model.File{Name: "root.squashfs", Digest: "sha256:" + strings.Repeat("b", 64), Size: 1 << 28},
		}}),
		change("deploy", model.Op{Kind: model.KindDeployment, Name: "r1n1", Doc: &model.Deployment{
			Node: "r1n1", Image: "debian", Boots: 3, Left: 2, Phase: model.Booting, Since: fixtureTime,
		}}),
		change("enroll", model.Op{Kind: model.KindIdentity, Name: "r1n2", Doc: &model.Identity{
			Node: "r1n2", Key: "sha256:" + strings.Repeat("c", 64), HostKeys: []string{"ssh-ed25519 AAAA"},
			Enrolled: fixtureTime, Expires: fixtureTime.AddDate(1, 0, 0),
		}}),
		change("observe", model.Op{Kind: model.KindState, Name: "r1n2", Doc: &model.State{
			Node: "r1n2", Power: "on", PowerAt: fixtureTime, Facts: &model.Facts{Kernel: "6.12.0", CPUs: 8, Memory: 1 << 34},
		}}),
		change("set", node("r1n3", "custom.owner", "somebody")),
		change("node remove", model.Op{Kind: model.KindNode, Name: "r1n4"}),
	}
	for _, c := range changes {
		c.Time = fixtureTime
		c.What = c.Verb + " of the fixture"
		c.Events = []model.Event{{Node: "r1n1", Step: "fixture", What: c.Verb + ", first"}, {Step: "fixture", What: c.Verb + ", second"}}
	}
	return changes
}

// MUSTER_STORE_FIXTURE=testdata/schema-N.tar.gz go test -run TestWriteFixture ./internal/store writes the fixture of the schema that the code has. It is run
// once for each schema, by the last commit that has it.
const fixtureEnv = "MUSTER_STORE_FIXTURE"

func TestWriteFixture(t *testing.T) {
	path := os.Getenv(fixtureEnv)
	if path == "" {
		t.Skip(fixtureEnv + " is not set")
	}
	s := open(t, Options{})
	for _, c := range fixtureChanges() {
		commit(t, s, c)
		s.Tell(model.Event{Time: fixtureTime, Step: "fixture", What: "told after " + c.Verb})
		if _, err := s.Events(EventQuery{}); err != nil { // written before the next change
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewWriterLevel(f, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(z)
	err = filepath.WalkDir(s.opt.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) == ".tmp" { // room that etcd laid by for its next log file
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(s.opt.Dir, path)
		if err != nil {
			return err
		}
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(b))}); err != nil {
			return err
		}
		_, err = w.Write(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
}

// unpackFixture makes the directory that was packed into a fixture. What is zero becomes a hole: etcd lays by 64 MiB for its log.
func unpackFixture(t testing.TB, path string) string {
	t.Helper()
	dir := t.TempDir()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			return dir
		}
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(dir, h.Name)
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := unpackFile(to, h.Size, r); err != nil {
			t.Fatal(err)
		}
	}
}

func unpackFile(path string, size int64, r io.Reader) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		return err
	}
	buf := make([]byte, 64<<10)
	for off := int64(0); off < size; {
		n, err := io.ReadFull(r, buf[:min(size-off, int64(len(buf)))])
		if err != nil {
			return err
		}
		if len(bytes.Trim(buf[:n], "\x00")) > 0 {
			if _, err := f.WriteAt(buf[:n], off); err != nil {
				return err
			}
		}
		off += int64(n)
	}
	return nil
}

// Everything that a store of schema 1 has is there after it was opened, and an older muster does not open it any more.
func TestOpenOfSchema1(t *testing.T) {
	dir := unpackFixture(t, "testdata/schema-1.tar.gz")
	want := model.Empty()
	revs := map[string]model.Revision{} // of the newest change of each verb
	var events []string
	for i, c := range fixtureChanges() {
		c.Revision = model.Revision(i + 3) // the schema itself was revision 2
		revs[c.Verb] = c.Revision
		for _, e := range c.Events {
			events = append(events, e.What)
		}
		events = append(events, "told after "+c.Verb)
		var err error
		if want, err = model.Apply(want, c); err != nil {
			t.Fatal(err)
		}
	}
	for again := range 2 {
		s := open(t, Options{Dir: dir})
		if d := differ(want, s.Snapshot()); d != "" {
			t.Errorf("documents, -want +got:\n%s", d)
		}
		told, err := s.Events(EventQuery{})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for i, e := range told {
			got = append(got, e.What)
			if i > 0 && e.Seq <= told[i-1].Seq {
				t.Errorf("event %d has number %d after %d", i, e.Seq, told[i-1].Seq)
			}
		}
		if d := cmp.Diff(events, got); d != "" {
			t.Errorf("events, -want +got:\n%s", d)
		}
		_, records, err := s.load(t.Context(), lacks{})
		if err != nil || len(records) != len(revs) {
			t.Errorf("%d records, %v, want %d", len(records), err, len(revs))
		}
		for _, r := range records {
			if revs[r.Verb] != r.Revision || r.What != r.Verb+" of the fixture" {
				t.Errorf("record %+v, want revision %d", r, revs[r.Verb])
			}
		}
		if got := schemaOf(t, s); got != fmt.Sprint(Schema) {
			t.Errorf("start %d: schema %s, want 2", again, got)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func schemaOf(t *testing.T, s *Store) string {
	t.Helper()
	res, err := s.engine.client.Get(t.Context(), schemaKey)
	if err != nil {
		t.Fatal(err)
	}
	return string(res.Kvs[0].Value)
}

// differ compares all documents of two snapshots, their revisions included.
func differ(want, got *model.Snapshot) string {
	return cmp.Diff(documents(want), documents(got), cmpopts.EquateEmpty())
}

// documents are all documents of a snapshot by "kind/name".
func documents(s *model.Snapshot) map[string]any {
	m := map[string]any{}
	for n := range s.Nodes() {
		m["node/"+string(n.Name)] = n
		if id := s.Identity(n.Name); id != nil {
			m["identity/"+string(n.Name)] = id
		}
		if st := s.State(n.Name); st != nil {
			m["state/"+string(n.Name)] = st
		}
	}
	collect(m, s.Groups(), func(g *model.Group) string { return "group/" + string(g.Name) })
	collect(m, s.Images(), func(i *model.Image) string { return "image/" + string(i.Name) })
	collect(m, s.Deployments(), func(d *model.Deployment) string { return "deployment/" + string(d.Node) })
	collect(m, s.Networks(), func(n *model.Network) string { return "network/" + string(n.Name) })
	collect(m, s.Users(), func(u *model.User) string { return "user/" + string(u.Name) })
	collect(m, s.Roles(), func(r *model.Role) string { return "role/" + string(r.Name) })
	collect(m, s.Managers(), func(x *model.Manager) string { return "manager/" + string(x.Name) })
	collect(m, s.SealKeys(), func(k *model.SealKey) string { return "sealkey/" + k.ID })
	return m
}

func collect[D any](m map[string]any, docs iter.Seq[*D], key func(*D) string) {
	for d := range docs {
		m[key(d)] = d
	}
}

func setSchemaOf(t *testing.T, s *Store, version string) {
	t.Helper()
	if _, err := s.engine.client.Put(t.Context(), schemaKey, version); err != nil {
		t.Fatal(err)
	}
}

func managerOp(name string, schema int) model.Op {
	return model.Op{Kind: model.KindManager, Name: name, Doc: &model.Manager{Name: model.ManagerName(name), Schema: schema}}
}

func TestSchemaIsRaisedWhenEveryManagerKnowsIt(t *testing.T) {
	s := open(t, Options{})
	commit(t, s, change("manager add", managerOp("m1", Schema), managerOp("m2", Schema-1), managerOp("m3", 0)))
	setSchemaOf(t, s, "1")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, Options{Dir: s.opt.Dir})
	if got := schemaOf(t, s); got != "1" {
		t.Fatalf("schema %s while two managers do not know a newer one, want 1", got)
	}
	commit(t, s, change("manager", managerOp("m2", Schema)))
	s.raiseSchema(t.Context())
	if got := schemaOf(t, s); got != "1" {
		t.Fatalf("schema %s while a manager does not know a newer one, want 1", got)
	}
	// One that comes while the documents are read keeps it from being raised, and is asked about after.
	var txns atomic.Int32
	s.engine.client.KV = &interposed{KV: s.engine.client.KV, beforeTxn: func() {
		if txns.Add(1) == 2 { // after the removal's
			commit(t, s, change("manager add", managerOp("m4", 0)))
		}
	}}
	commit(t, s, change("manager remove", model.Op{Kind: model.KindManager, Name: "m3"}))
	if err := s.Wait(t.Context(), func(n *model.Snapshot) bool { return n.Manager("m4") != nil }); err != nil {
		t.Fatal(err)
	}
	s.raiseSchema(t.Context())
	if got := schemaOf(t, s); got != "1" {
		t.Fatalf("schema %s while a manager that just came does not know a newer one, want 1", got)
	}
	commit(t, s, change("manager", managerOp("m4", Schema+1)))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for res := range s.engine.client.Watch(ctx, schemaKey, clientv3.WithRev(2)) {
		if len(res.Events) == 0 {
			break
		}
		if string(res.Events[len(res.Events)-1].Kv.Value) == fmt.Sprint(Schema) && schemaOf(t, s) == fmt.Sprint(Schema) && s.schema.Load() == Schema {
			return
		}
	}
	t.Fatalf("schema %s although every manager knows %d", schemaOf(t, s), Schema)
}

func TestNewerSchemaIsRefused(t *testing.T) {
	s := open(t, Options{})
	commit(t, s, change("node add", node("a")))
	setSchemaOf(t, s, fmt.Sprint(Schema+1))
	<-s.Done()
	if err := s.Err(); !IsKind(err, Newer) || !strings.Contains(err.Error(), fmt.Sprint("schema ", Schema+1)) || !strings.Contains(err.Error(), s.opt.Dir) {
		t.Errorf("the watch ended with %v, want that schema %d of %s is newer", err, Schema+1, s.opt.Dir)
	}
	if _, err := s.Commit(t.Context(), change("set", node("a", "x", "1"))); !IsKind(err, Newer) {
		t.Errorf("commit: %v, want that the store is newer", err)
	}
	if s.Snapshot().Node("a") == nil {
		t.Error("the last snapshot can still be read")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Options{Dir: s.opt.Dir}); !IsKind(err, Newer) {
		t.Errorf("open: %v, want that the store is newer", err)
	}
}
