package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"muster/internal/model"
)

// A restored store goes on: with the revisions that documents had, above those that the old store may have given out since.
func TestRestore(t *testing.T) {
	s := open(t, Options{})
	for _, c := range fixtureChanges() {
		commit(t, s, c)
	}
	commit(t, s, change("manager add", managerOp("m1", Schema), managerOp("m2", Schema)))
	base := commit(t, s, change("set", node("r1n2", "x", "1")))
	info, file := backup(t, s, nil)
	want := documents(s.Snapshot())
	delete(want, "manager/m1")
	delete(want, "manager/m2")

	got := restored(t, file)
	for again := range 2 {
		if have := documents(got.Snapshot()); len(have) != len(want) {
			t.Fatalf("start %d: got %v\nwant %v", again, have, want)
		}
		if n := got.Snapshot().Node("r1n2"); n.Revision != base || n.Attrs["x"] != "1" {
			t.Errorf("got %+v, want the node at revision %d", n, base)
		}
		if rev := got.Snapshot().Revision; rev != info.Revision+gap {
			t.Errorf("revision %d, want %d", rev, info.Revision+gap)
		}
		if schema := schemaOf(t, got); schema != fmt.Sprint(Schema) {
			t.Errorf("schema %s", schema)
		}
		events, err := got.Events(EventQuery{})
		if err != nil || len(events) != 2*len(fixtureChanges()) {
			t.Errorf("%d events, %v, want those of the change records", len(events), err)
		}
		if err := got.Close(); err != nil {
			t.Fatal(err)
		}
		got = open(t, Options{Dir: got.opt.Dir})
	}

	c := change("set", node("r1n2", "x", "2"))
	c.Revision = base
	if rev := commit(t, got, c); rev <= info.Revision+gap {
		t.Errorf("the next change has revision %d, want one above %d", rev, info.Revision+gap)
	}
	c = change("set", node("r1n2", "x", "3"))
	c.Revision = base
	if _, err := got.Commit(t.Context(), c); !errors.As(err, new(*ConflictError)) {
		t.Errorf("a change built on the revision of the backup: %v, want a conflict", err)
	}
	if n := len(recordsOf(t, got)); n != len(recordsOf(t, s))+1 {
		t.Errorf("%d change records, want one more than %d", n, len(recordsOf(t, s)))
	}
	_, second := backup(t, got, nil)
	if d := differ(got.Snapshot(), restored(t, second).Snapshot()); d != "" {
		t.Errorf("a backup of what was restored, -want +got:\n%s", d)
	}
}

func TestRestoreOfSchema1(t *testing.T) {
	s := open(t, Options{Dir: unpackFixture(t, "testdata/schema-1.tar.gz")})
	s.schema.Store(1)
	info, file := backup(t, s, nil)
	got := restored(t, file)
	if d := differ(s.Snapshot(), got.Snapshot()); d != "" || info.Schema != 1 || schemaOf(t, got) != fmt.Sprint(Schema) {
		t.Errorf("schema %d became %s, -want +got:\n%s", info.Schema, schemaOf(t, got), d)
	}
}

func TestRestoreIntoADirectoryThatHasSomething(t *testing.T) {
	s := open(t, Options{})
	commit(t, s, change("node add", node("a")))
	_, file := backup(t, s, nil)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	foreign := t.TempDir()
	if err := os.WriteFile(filepath.Join(foreign, "thesis.txt"), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{s.opt.Dir, foreign} {
		before := sizes(t, dir)
		_, err := Restore(t.Context(), Options{Dir: dir}, bytes.NewReader(file))
		if !IsKind(err, Occupied) || !strings.Contains(err.Error(), "mv "+dir) {
			t.Errorf("got %v, want that there is something, and what to do", err)
		}
		if after := sizes(t, dir); !maps.Equal(before, after) {
			t.Errorf("files were changed:\nbefore %v\nafter  %v", before, after)
		}
	}
	running := open(t, Options{Dir: s.opt.Dir})
	if _, err := Restore(t.Context(), Options{Dir: s.opt.Dir}, bytes.NewReader(file)); !IsKind(err, Occupied) {
		t.Errorf("a store that is open: %v", err)
	}
	commit(t, running, change("node add", node("b")))
}

func TestRestoreWithoutRoom(t *testing.T) {
	s := open(t, Options{})
	commit(t, s, change("node add", node("a")))
	_, file := backup(t, s, nil)
	for name, c := range map[string]struct {
		size    string
		reserve int64
	}{
		"is refused before anything is made": {"size=150m", 0},
		"leaves nothing when it runs out":    {"size=40m", -1},
	} {
		t.Run(name, func(t *testing.T) {
			dir := small(t, c.size)
			_, err := Restore(t.Context(), Options{Dir: dir, Reserve: c.reserve}, bytes.NewReader(file))
			if !IsKind(err, NoSpace) {
				t.Errorf("got %v", err)
			}
			if left := sizes(t, dir); len(left) > 1 || len(left) == 1 && left["/lock"] == 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

func TestRestoreThatIsCancelled(t *testing.T) {
	s := open(t, Options{})
	commit(t, s, change("node add", node("a")))
	_, file := backup(t, s, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dir := t.TempDir()
	if _, err := Restore(ctx, Options{Dir: dir}, bytes.NewReader(file)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if left := sizes(t, dir); len(left) > 1 {
		t.Errorf("left: %v", left)
	}
	if _, err := Restore(t.Context(), Options{Dir: dir}, bytes.NewReader(file)); err != nil {
		t.Errorf("again: %v", err)
	}
}

const restoreEnv = "MUSTER_STORE_RESTORE"

// restoreInto is the process that is killed: it restores the file beside the directory into it.
func restoreInto(dir string) {
	f, err := os.Open(dir + ".backup")
	if err == nil {
		_, err = Restore(context.Background(), Options{Dir: dir}, f)
	}
	fmt.Println("done", err)
}

// Whenever a restore is killed, what it leaves is not opened as a store, and the next restore begins anew.
func TestKillDuringRestore(t *testing.T) {
	t.Parallel()
	rounds := 6
	if testing.Short() {
		rounds = 4
	} else if long {
		rounds = 60
	}
	self, err := os.Executable()
	if err != nil {
		t.Skipf("cannot find the test's own program: %v", err)
	}
	s := open(t, Options{})
	ops := make([]model.Op, page)
	for i := range ops {
		ops[i] = node(fmt.Sprintf("n%06d", i), "custom.x", strings.Repeat("x", 100))
	}
	commit(t, s, change("node add", ops...))
	_, file := backup(t, s, nil)
	dir := filepath.Join(t.TempDir(), "store")
	if err := os.WriteFile(dir+".backup", file, 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(kill time.Duration) (done bool) {
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), restoreEnv+"="+dir)
		var out bytes.Buffer
		cmd.Stdout = &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(kill, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		timer.Stop()
		if out.Len() > 0 && out.String() != "done <nil>\n" {
			t.Fatal(out.String())
		}
		return out.Len() > 0
	}
	start := time.Now()
	if !run(time.Minute) {
		t.Fatal("not done in a minute")
	}
	took := time.Since(start)
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d, a restore takes %v", seed, took)
	killed := 0
	for round := range rounds {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		for !run(time.Duration(random.Int64N(int64(took)))) {
			if !isUnfinished(dir) {
				if _, err := os.Stat(filepath.Join(dir, "store.json")); err == nil { // killed after its last step
					break
				}
				continue // not begun
			}
			killed++
			if s, err := Open(t.Context(), Options{Dir: dir}); err == nil {
				_ = s.Close()
				t.Fatalf("round %d: half a restore was opened as a store", round)
			} else if !IsKind(err, Damaged) || !strings.Contains(err.Error(), "restore") {
				t.Fatalf("round %d: %v", round, err)
			}
			if random.IntN(3) == 0 {
				break
			}
		}
		if isUnfinished(dir) && !run(time.Minute) {
			t.Fatal("not done in a minute")
		}
		got := open(t, Options{Dir: dir})
		if got.Snapshot().Len() != len(ops) {
			t.Fatalf("round %d: %d nodes, want %d", round, got.Snapshot().Len(), len(ops))
		}
		if err := got.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if killed == 0 {
		t.Error("none was killed while it was at work")
	}
	t.Logf("%d were killed at work", killed)
}

// The first start after a restore names the manager, which is the only one, and whoever was with the old one is a stranger to it.
func TestFirstStartAfterRestore(t *testing.T) {
	s := open(t, Options{Name: "old"})
	commit(t, s, change("manager add", managerOp("old", Schema)))
	_, file := backup(t, s, nil)
	dir := filepath.Join(t.TempDir(), "new")
	if _, err := Restore(t.Context(), Options{Dir: dir}, bytes.NewReader(file)); err != nil {
		t.Fatal(err)
	}
	for _, asked := range []model.ManagerName{"first", "another"} { // it keeps the name of its first start
		got := open(t, Options{Dir: dir, Name: asked})
		if n := names(t, got); got.Name() != "first" || len(n) != 1 || n[0] != "first" || got.Snapshot().Manager("old") != nil {
			t.Errorf("started as %s: got %s of %v", asked, got.Name(), n)
		}
		a, b := s.engine.member.Cluster(), got.engine.member.Cluster()
		if a.ID() == b.ID() || s.engine.member.MemberID() == got.engine.member.MemberID() {
			t.Errorf("cluster %s, was %s: the members of the old one could talk to it", b.ID(), a.ID())
		}
		if err := got.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
