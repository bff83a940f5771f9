package pack

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func put(t *testing.T, name, content string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
}

// list is one line for each entry of a tar.
func list(t *testing.T, p []byte) (out []string) {
	t.Helper()
	r := tar.NewReader(bytes.NewReader(p))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			slices.Sort(out)
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if h.Uid != 0 || h.Gid != 0 || h.Uname != "" || h.Gname != "" {
			t.Errorf("%s belongs to %d:%d %s:%s", h.Name, h.Uid, h.Gid, h.Uname, h.Gname)
		}
		out = append(out, strings.TrimSpace(fmt.Sprintf("%c %s %o %s %s", h.Typeflag, h.Name, h.Mode, h.Linkname, b)))
	}
}

func TestPack(t *testing.T) {
	dir := t.TempDir()
	put(t, dir+"/conf/a", "one", 0o640)
	put(t, dir+"/conf/sub/b", "", 0o600)
	put(t, dir+"/hosts", "localhost", 0o644)
	if err := os.Symlink("a", dir+"/conf/link"); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(dir+"/conf/a", dir+"/conf/same"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("conf", dir+"/to-conf"); err != nil {
		t.Fatal(err)
	}
	tree := []string{"0 conf/a 640  one", "0 conf/sub/b 600", "1 conf/same 640 a", "2 conf/link 777 a", "5 conf/ 755", "5 conf/sub/ 755"}
	inner := []string{"0 a 640  one", "0 sub/b 600", "1 same 640 a", "2 link 777 a", "5 sub/ 755"}
	tree[2] = "1 conf/same 640 conf/a"
	var linked []string
	for _, l := range tree {
		linked = append(linked, strings.ReplaceAll(l, "conf/", "to-conf/"))
	}
	for name, c := range map[string]struct {
		paths []string
		want  []string
	}{
		"directory":         {[]string{dir + "/conf"}, tree},
		"directory_slash":   {[]string{dir + "/conf/"}, tree},
		"content":           {[]string{dir + "/conf/."}, inner},
		"content_of_a_link": {[]string{dir + "/to-conf/."}, inner},
		"link":              {[]string{dir + "/to-conf"}, linked},
		"file_and_tree":     {[]string{dir + "/hosts", dir + "/conf/sub"}, []string{"0 hosts 644  localhost", "0 sub/b 600", "5 sub/ 755"}},
		"nothing":           {nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			files, n, err := Pack(&b, c.paths...)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, list(t, b.Bytes())); d != "" {
				t.Error(d)
			}
			if files != len(c.want) || n > 20 {
				t.Errorf("%d entries, %d bytes", files, n)
			}
		})
	}
}

func TestPack_makes_nothing_set_user_id_for_root_that_is_not(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: files of two owners")
	}
	dir := t.TempDir()
	for name, id := range map[string]int{"of-root": 0, "of-ann": 1000} {
		put(t, dir+"/"+name, "", 0o755)
		if err := errors.Join(os.Chown(dir+"/"+name, id, id), os.Chmod(dir+"/"+name, 0o755|os.ModeSetuid|os.ModeSetgid)); err != nil {
			t.Fatal(err)
		}
	}
	var b bytes.Buffer
	if _, _, err := Pack(&b, dir+"/."); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"0 of-ann 755", "0 of-root 6755"}, list(t, b.Bytes())); d != "" {
		t.Error(d)
	}
}

func TestPack_keeps_times_to_the_nanosecond(t *testing.T) {
	name := t.TempDir() + "/f"
	put(t, name, "x", 0o600)
	at := time.Date(2021, 1, 2, 3, 4, 5, 123456789, time.UTC)
	if err := os.Chtimes(name, at, at); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, _, err := Pack(&b, name); err != nil {
		t.Fatal(err)
	}
	h, err := tar.NewReader(&b).Next()
	if err != nil || !h.ModTime.Equal(at) {
		t.Errorf("%v, %v", h.ModTime, err)
	}
}

func TestPack_refuses(t *testing.T) {
	dir := t.TempDir()
	put(t, dir+"/a/x", "1", 0o600)
	put(t, dir+"/b/x", "2", 0o600)
	l, err := net.Listen("unix", dir+"/sock")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := syscall.Mkfifo(dir+"/pipe", 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		paths []string
		want  string
	}{
		"two_with_one_name": {[]string{dir + "/a/x", dir + "/b/x"}, "would both be x"},
		"socket":            {[]string{dir + "/sock"}, "/sock is neither a file"},
		"pipe":              {[]string{dir + "/pipe"}, "/pipe is neither a file"},
		"missing":           {[]string{dir + "/none"}, "no such file"},
		"parent":            {[]string{".."}, "has no name of its own"},
		"empty":             {[]string{""}, "a path is empty"},
		"endless":           {[]string{"/proc/self/cmdline"}, "became longer"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := Pack(io.Discard, c.paths...)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want …%s…", err, c.want)
			}
		})
	}
}
