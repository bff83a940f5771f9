package store

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"muster/internal/model"
)

// A damaged directory is named, and left as it is: what a person may still rescue is not written over.
func TestDamagedDirectoryIsNamedAndLeftAlone(t *testing.T) {
	t.Parallel()
	made := t.TempDir()
	s := open(t, Options{Dir: made})
	for i := range 200 {
		commit(t, s, change("node add", node("r1n"+string(rune('a'+i%26))+strings.Repeat("x", i), "a", strings.Repeat("v", 500))))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	overwrite := func(t *testing.T, path string, off int64, n int) {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteAt(bytes.Repeat([]byte{0xa5}, n), off); err != nil {
			t.Fatal(err)
		}
	}
	const db = "etcd/member/snap/db"
	for name, harm := range map[string]func(t *testing.T, dir string){
		"both meta pages overwritten": func(t *testing.T, dir string) { overwrite(t, filepath.Join(dir, db), 0, 8192) },
		"all pages but the meta pages overwritten": func(t *testing.T, dir string) {
			overwrite(t, filepath.Join(dir, db), 8192, 1<<20)
		},
		"database cut": func(t *testing.T, dir string) {
			if err := os.Truncate(filepath.Join(dir, db), 40960); err != nil {
				t.Fatal(err)
			}
		},
		"database empty": func(t *testing.T, dir string) {
			if err := os.Truncate(filepath.Join(dir, db), 0); err != nil {
				t.Fatal(err)
			}
		},
		"database gone": func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, db)); err != nil {
				t.Fatal(err)
			}
		},
		"log gone": func(t *testing.T, dir string) {
			if err := os.RemoveAll(filepath.Join(dir, "etcd/member/wal")); err != nil {
				t.Fatal(err)
			}
		},
		"log empty": func(t *testing.T, dir string) {
			logs, _ := filepath.Glob(filepath.Join(dir, "etcd/member/wal/*.wal"))
			for _, l := range logs {
				if err := os.Remove(l); err != nil {
					t.Fatal(err)
				}
			}
		},
		"log overwritten": func(t *testing.T, dir string) {
			logs, _ := filepath.Glob(filepath.Join(dir, "etcd/member/wal/*.wal"))
			overwrite(t, logs[0], 4096, 4096)
		},
		"etcd gone": func(t *testing.T, dir string) {
			if err := os.RemoveAll(filepath.Join(dir, "etcd")); err != nil {
				t.Fatal(err)
			}
		},
		"mark gone": func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, "store.json")); err != nil {
				t.Fatal(err)
			}
		},
		"join overwritten before there is a store": func(t *testing.T, dir string) {
			for _, name := range []string{"store.json", "etcd", "events", "changes"} {
				if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(filepath.Join(dir, joinFile), []byte("\xa5\xa5"), 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"mark overwritten": func(t *testing.T, dir string) { overwrite(t, filepath.Join(dir, "store.json"), 0, 10) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "store")
			if out, err := exec.Command("cp", "-a", made, dir).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			harm(t, dir)
			before := sizes(t, dir)
			_, err := Open(t.Context(), Options{Dir: dir})
			if !IsKind(err, Damaged) || !strings.Contains(err.Error(), dir) {
				t.Fatalf("got %v, want that %s is damaged", err, dir)
			}
			t.Log(err)
			if after := sizes(t, dir); !maps.Equal(before, after) {
				t.Errorf("files were changed:\nbefore %v\nafter  %v", before, after)
			}
			// The lock is let go: after a repair the same process may open it again.
			if l, err := acquire(t.Context(), dir); err != nil {
				t.Errorf("still locked: %v", err)
			} else if err := l.release(); err != nil {
				t.Error(err)
			}
		})
	}
}

func sizes(t *testing.T, dir string) map[string]int64 {
	t.Helper()
	m := map[string]int64{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		fi, err := d.Info()
		if err == nil {
			m[path[len(dir):]] = fi.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// small mounts a file system of that many bytes.
func small(t *testing.T, options string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Skipf("cannot mount a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestFullFileSystem(t *testing.T) {
	t.Parallel()
	t.Run("refuses commits, keeps what is there, and goes on when there is room", func(t *testing.T) {
		dir := small(t, "size=300m")
		s := open(t, Options{Dir: dir, Reserve: 16 << 20})
		commit(t, s, change("node add", node("a")))
		ballast := filepath.Join(dir, "ballast")
		f, err := os.Create(ballast)
		if err != nil {
			t.Fatal(err)
		}
		for chunk := make([]byte, 64<<10); err == nil; {
			_, err = f.Write(chunk)
		}
		f.Close()
		if _, err := s.Commit(t.Context(), change("node add", node("b"))); !IsKind(err, NoSpace) {
			t.Fatalf("got %v", err)
		} else {
			t.Log(err)
		}
		// The timeline has no reserve of its own: events wait in memory.
		big := strings.Repeat("x", 100<<10)
		for range 20 {
			s.Tell(model.Event{Step: "test", What: big})
		}
		if _, err := s.Events(EventQuery{}); err != nil {
			t.Fatalf("reading: %v", err)
		}
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
		commit(t, s, change("node add", node("b")))
		events, err := s.Events(EventQuery{})
		if err != nil || len(events) != 20 {
			t.Fatalf("got %d events, %v, want all 20", len(events), err)
		}
		for _, e := range events {
			if e.What != big {
				t.Fatal("an event was torn")
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, Options{Dir: dir, Reserve: 16 << 20})
		if s.Snapshot().Node("a") == nil || s.Snapshot().Node("b") == nil {
			t.Fatal("a node is lost")
		}
	})
	t.Run("is named at open", func(t *testing.T) {
		_, err := Open(t.Context(), Options{Dir: small(t, "size=40m"), Reserve: -1})
		if !IsKind(err, NoSpace) {
			t.Fatalf("got %v", err)
		}
		t.Log(err)
	})
}

func TestReadOnlyFileSystem(t *testing.T) {
	dir := small(t, "size=300m")
	s := open(t, Options{Dir: dir, Reserve: -1})
	commit(t, s, change("node add", node("a")))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	_, err := Open(t.Context(), Options{Dir: dir})
	if !IsKind(err, Forbidden) || !strings.Contains(err.Error(), "read-only") {
		t.Fatalf("got %v", err)
	}
}

// A follower whose disk is full refuses what it is asked, and stops with the reason when the others' changes have no place on it either. These go
// on, and it has all of them once there is room. It is a process of its own: what etcd leaves behind when it stops so goes away with the process.
func TestFullDiskOfAFollower(t *testing.T) {
	t.Parallel()
	all := newPool(t, 2)
	m := newManager(t, all[0].by, "m3")
	j, err := all[0].AddMember(t.Context(), "m3", m.url())
	if err != nil {
		t.Fatal(err)
	}
	third := &process{managerProcess: managerProcess{
		Name: "m3", Dir: small(t, "size=400m"), At: m.at, Files: m.files, Join: &j, Log: filepath.Join(m.dir, "log"),
	}}
	start := func() {
		t.Helper()
		if err := third.start(t); err != nil {
			t.Fatal(err)
		}
	}
	start()
	defer third.kill()
	if err := all[0].Promote(t.Context(), "m3"); err != nil {
		t.Fatal(err)
	}
	third.must(t, request{Op: "swap", Key: "n", Value: "first"})
	ballast := filepath.Join(third.Dir, "ballast")
	f, err := os.Create(ballast)
	if err != nil {
		t.Fatal(err)
	}
	for chunk := make([]byte, 64<<10); err == nil; {
		_, err = f.Write(chunk)
	}
	f.Close()
	if a, err := third.ask(request{Op: "swap", Key: "n", Value: "refused"}); err != nil || a.Kind != NoSpace {
		t.Errorf("got %+v, %v", a, err)
	}
	noise := make([]byte, 1<<20)
	for rev, stopped := model.Revision(0), false; !stopped; {
		for i := range noise {
			noise[i] = 'a' + byte(rand.IntN(26))
		}
		if rev = commit(t, all[0].Store, change("set", node("big", "custom.noise", string(noise)))); rev > 400 {
			t.Fatal("it takes more than its disk has place for")
		}
		select {
		case <-third.gone:
			stopped = true
		default:
		}
	}
	if b, err := os.ReadFile(third.Log); err != nil || !bytes.Contains(b, []byte("store stopped")) || !bytes.Contains(b, []byte("no space left")) {
		t.Errorf("%v, its log:\n%s", err, b)
	}
	rev := commit(t, all[0].Store, change("set", node("after")))
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	start()
	if a := third.must(t, request{Op: "read", Key: "n", After: rev}); a.Value != "first" || a.Torn {
		t.Errorf("got %+v", a)
	}
	third.must(t, request{Op: "swap", Key: "n", Value: "again"})
}

func TestStopForWantOfSpaceSaysSo(t *testing.T) {
	s := open(t, Options{})
	s.giveUp(fmt.Errorf("failed to commit tx: %w", unix.ENOSPC))
	if err := s.Err(); !IsKind(err, NoSpace) || !strings.Contains(err.Error(), s.opt.Dir) || !strings.Contains(err.Error(), "start muster again") {
		t.Errorf("got %v", err)
	}
}

// A new store has a snapshot of its log: so one that joins gets the database and not a log that begins beside it.
func TestANewStoreHasASnapshotOfItsLog(t *testing.T) {
	s := open(t, Options{})
	commit(t, s, change("set", node("a")))
	_, file := backup(t, s, nil)
	for how, s := range map[string]*Store{"made": s, "restored": restored(t, file)} {
		if got, err := filepath.Glob(filepath.Join(s.opt.Dir, "etcd", "member", "snap", "*.snap")); err != nil || len(got) == 0 {
			t.Errorf("%s: %v, %v", how, got, err)
		}
	}
}
