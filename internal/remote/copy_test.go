package remote

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"muster/internal/remote/pack"
)

func copyOne(t testing.TB, target Target, p []byte, dest string, o Options) CopyResult {
	t.Helper()
	for r := range Copy(t.Context(), []Target{target}, bytes.NewReader(p), int64(len(p)), dest, o) {
		return r
	}
	t.Fatal("no result")
	panic("unreachable")
}

func packed(t testing.TB, paths ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	if _, _, err := pack.Pack(&b, paths...); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func put(t testing.TB, name, content string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, mode); err != nil {
		t.Fatal(err)
	}
}

func content(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

func noLeftovers(t testing.TB, dir string) {
	t.Helper()
	left, _ := filepath.Glob(filepath.Join(dir, ".muster-copy.*"))
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestCopy_to_a_real_sshd(t *testing.T) {
	target, o := sshd(t)
	src := t.TempDir()
	put(t, src+"/conf/app.conf", "new", 0o640)
	put(t, src+"/conf/sub/.hidden", "h", 0o600)
	put(t, src+"/conf/sub/it's $(here)", "odd", 0o755|os.ModeSetuid)
	put(t, src+"/conf/..twodots", "d", 0o644)
	for i := range 450 {
		put(t, fmt.Sprintf("%s/conf/many/%03d", src, i), "m", 0o644)
	}
	if err := os.Symlink("/nowhere", src+"/conf/link"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(src+"/conf/empty", 0o711); err != nil {
		t.Fatal(err)
	}
	old := time.Date(2020, 2, 3, 4, 5, 6, 0, time.UTC)
	if err := os.Chtimes(src+"/conf/app.conf", old, old); err != nil {
		t.Fatal(err)
	}
	if err := os.Lchown(src+"/conf/app.conf", 12345, 54321); err != nil {
		t.Fatal(err)
	}
	p := packed(t, src+"/conf")

	dest := filepath.Join(t.TempDir(), "it's a new", "$(dir)")
	r := copyOne(t, target, p, dest, o)
	if r.Err != nil || r.Files != 450+9 || r.Bytes != 450+3+1+3+1 {
		t.Fatalf("%+v", r)
	}
	for name, want := range map[string]string{"app.conf": "new", "sub/.hidden": "h", "sub/it's $(here)": "odd", "..twodots": "d", "many/449": "m"} {
		if got := content(t, dest+"/conf/"+name); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
	st, err := os.Stat(dest + "/conf/app.conf")
	if err != nil {
		t.Fatal(err)
	}
	if sys := st.Sys().(*syscall.Stat_t); st.Mode() != 0o640 || !st.ModTime().Equal(old) || sys.Uid != 0 || sys.Gid != 0 {
		t.Errorf("mode %v time %v owner %d:%d", st.Mode(), st.ModTime(), sys.Uid, sys.Gid)
	}
	if st, err := os.Stat(dest + "/conf/sub/it's $(here)"); err != nil || st.Mode()&os.ModeSetuid == 0 {
		t.Errorf("setuid bit: %v %v", st, err)
	}
	if l, _ := os.Readlink(dest + "/conf/link"); l != "/nowhere" {
		t.Errorf("link to %q", l)
	}
	if st, err := os.Stat(dest + "/conf/empty"); err != nil || st.Mode().Perm() != 0o711 {
		t.Errorf("empty directory: %v %v", st, err)
	}
	noLeftovers(t, dest)

	t.Run("merges_into_what_is_there", func(t *testing.T) {
		put(t, dest+"/conf/app.conf", "old", 0o600)
		put(t, dest+"/conf/many/own", "own", 0o600)
		os.Chmod(dest+"/conf/many", 0o700)
		if r := copyOne(t, target, p, dest, o); r.Err != nil {
			t.Fatal(r.Err)
		}
		if content(t, dest+"/conf/app.conf") != "new" || content(t, dest+"/conf/many/own") != "own" {
			t.Error("not merged")
		}
		if st, _ := os.Stat(dest + "/conf/many"); st.Mode().Perm() != 0o700 {
			t.Errorf("a directory that existed has now mode %v", st.Mode())
		}
		noLeftovers(t, dest)
	})
	t.Run("cut_tar_changes_nothing", func(t *testing.T) {
		dest := t.TempDir()
		put(t, dest+"/conf/app.conf", "old", 0o600)
		// The tar is whole here and cut on its way: the reader fails after the check.
		src := &failing{p: p}
		for r := range Copy(t.Context(), []Target{target}, src, int64(len(p)), dest, o) {
			if kindOf(r.Err) != Failed || r.Files != 0 || !errors.Is(r.Err, io.ErrUnexpectedEOF) {
				t.Errorf("%+v", r)
			}
		}
		if content(t, dest+"/conf/app.conf") != "old" {
			t.Error("changed")
		}
		noLeftovers(t, dest)
	})
	t.Run("time_limit_leaves_nothing", func(t *testing.T) {
		o := o
		o.Timeout = 1500 * time.Millisecond
		dest := t.TempDir()
		src := &stalling{p: p}
		for r := range Copy(t.Context(), []Target{target}, src, int64(len(p)), dest, o) {
			if kindOf(r.Err) != Timeout {
				t.Errorf("%+v", r)
			}
		}
		waitFor(t, "the temporary directory to go", func() bool {
			left, _ := os.ReadDir(dest)
			return len(left) == 0
		})
	})
	t.Run("what_stands_in_the_way_is_named", func(t *testing.T) {
		dest := t.TempDir()
		put(t, dest+"/conf/app.conf/x", "x", 0o600) // a directory where a file should go
		r := copyOne(t, target, p, dest, o)
		if kindOf(r.Err) != Failed || !strings.Contains(r.Err.Error(), "app.conf") || !strings.Contains(r.Err.Error(), "have been replaced") {
			t.Errorf("%v", r.Err)
		}
		noLeftovers(t, dest)
	})
	t.Run("destination_is_a_file", func(t *testing.T) {
		file := t.TempDir() + "/f"
		put(t, file, "x", 0o600)
		if r := copyOne(t, target, p, file, o); kindOf(r.Err) != Failed || !strings.Contains(r.Err.Error(), "Nothing was changed") {
			t.Errorf("%v", r.Err)
		}
		if content(t, file) != "x" {
			t.Error("changed")
		}
	})
	t.Run("destination_cannot_be_written", func(t *testing.T) {
		if r := copyOne(t, target, p, "/proc/nothing", o); kindOf(r.Err) != Failed || !strings.Contains(r.Err.Error(), "/proc/nothing") {
			t.Errorf("%v", r.Err)
		}
	})
}

// failing is whole when it is read the first time, and fails in the middle after that.
type failing struct {
	p    []byte
	once bool
}

func (f *failing) ReadAt(p []byte, off int64) (int, error) {
	if f.once && off > int64(len(f.p)/2) {
		return 0, io.ErrUnexpectedEOF
	}
	n := copy(p, f.p[off:])
	f.once = f.once || off+int64(n) == int64(len(f.p))
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// stalling sends only the first half until the copy is over.
type stalling struct {
	p    []byte
	once bool
}

func (s *stalling) ReadAt(p []byte, off int64) (int, error) {
	if s.once && off > int64(len(s.p)/2) {
		time.Sleep(2 * time.Second) // longer than the time limit
		return 0, io.ErrUnexpectedEOF
	}
	n := copy(p, s.p[off:])
	s.once = s.once || off+int64(n) == int64(len(s.p))
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func TestCopy_sends_no_bad_tar(t *testing.T) {
	host, _ := newKey(t)
	ours, _ := newKey(t)
	port := stub(t, host, func(string, ssh.Channel) int {
		t.Error("something was run")
		return 0
	})
	target := Target{Node: "n", Address: "127.0.0.1", Port: port, HostKeys: []string{authorized(host)}}
	with := func(name, link string) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		h := &tar.Header{Name: name, Mode: 0o600, Typeflag: tar.TypeReg}
		if link != "" {
			h.Typeflag, h.Linkname = tar.TypeLink, link
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		w.Close()
		return b.Bytes()
	}
	good := with("a", "")
	for name, c := range map[string]struct {
		tar  []byte
		dest string
	}{
		"above":         {with("../a", ""), "/tmp"},
		"above_inside":  {with("a/../../b", ""), "/tmp"},
		"absolute":      {with("/etc/passwd", ""), "/tmp"},
		"hard_link":     {with("a", "../../etc/shadow"), "/tmp"},
		"end_mark":      {with("./.muster-copy-end", ""), "/tmp"},
		"cut":           {good[:300], "/tmp"},
		"junk":          {bytes.Repeat([]byte("junk"), 1000), "/tmp"},
		"relative_dest": {good, "tmp"},
		"nul_dest":      {good, "/tmp\x00"},
	} {
		t.Run(name, func(t *testing.T) {
			if r := copyOne(t, target, c.tar, c.dest, Options{Signer: ours}); kindOf(r.Err) != Failed {
				t.Errorf("%v", r.Err)
			}
		})
	}
}
