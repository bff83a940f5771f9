package store

import (
	"bytes"
	"io/fs"
	"maps"
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
