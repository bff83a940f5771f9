package cpio

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"muster/internal/need"
)

func smallArchive(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	c := New(&b)
	c.Dir("dev", 0o755)
	c.Char("dev/console", 0o600, 5, 1)
	c.File("init", 0o755, []byte("#!/bin/true\n\x00")) // 13 bytes: needs padding
	c.File("empty", 0o644, nil)
	c.Link("sbin", "usr/sbin")
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestCpioWritesTheSameBytesAlways(t *testing.T) {
	a, b := smallArchive(t), smallArchive(t)
	if !bytes.Equal(a, b) {
		t.Error("two archives of the same entries differ")
	}
	const first = "070701" + "00000001" + "000041ED" + "00000000" + "00000000" + "00000002" + "00000000" + "00000000" +
		"00000000" + "00000000" + "00000000" + "00000000" + "00000004" + "00000000" + "dev\x00"
	if got := string(a[:len(first)]); got != first {
		t.Errorf("first entry:\ngot  %q\nwant %q", got, first)
	}
	if len(a)%4 != 0 || !bytes.Contains(a, []byte("TRAILER!!!\x00")) {
		t.Errorf("archive of %d bytes has no padded trailer", len(a))
	}
}

func TestCpioIsReadByCpio(t *testing.T) {
	need.Programs(t, "cpio", "cpio")
	cmd := exec.Command("cpio", "-tv", "--numeric-uid-gid", "--quiet")
	cmd.Stdin = bytes.NewReader(smallArchive(t))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("cpio: %v: %s", err, out)
	}
	var got []string
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		got = append(got, f[0]+" "+f[len(f)-1])
	}
	want := "[drwxr-xr-x dev crw------- dev/console -rwxr-xr-x init -rw-r--r-- empty lrwxrwxrwx usr/sbin]"
	if fmt.Sprint(got) != want {
		t.Errorf("got  %v\nwant %s\n%s", got, want, out)
	}
	dir := t.TempDir()
	unpack := exec.Command("cpio", "-id", "--quiet", "init", "empty", "sbin")
	unpack.Dir, unpack.Stdin = dir, bytes.NewReader(smallArchive(t))
	if out, err := unpack.CombinedOutput(); err != nil {
		t.Fatalf("cpio -i: %v: %s", err, out)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "init")); err != nil || string(b) != "#!/bin/true\n\x00" {
		t.Errorf("init: %q, %v", b, err)
	}
	if l, err := os.Readlink(filepath.Join(dir, "sbin")); err != nil || l != "usr/sbin" {
		t.Errorf("sbin: %q, %v", l, err)
	}
}

type full struct{ left int }

func (f *full) Write(p []byte) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, errors.New("no space")
	}
	return len(p), nil
}

func TestCpioReportsAFullDisk(t *testing.T) {
	c := New(&full{left: 200})
	for range 10 {
		c.File("x", 0o644, make([]byte, 100))
	}
	if err := c.Close(); err == nil {
		t.Error("no error")
	}
}

func FuzzCpioKeepsItsAlignment(f *testing.F) {
	f.Add("init", []byte("x"))
	f.Add("a/b", []byte{})
	f.Fuzz(func(t *testing.T, name string, content []byte) {
		var b bytes.Buffer
		c := New(&b)
		c.File(name, 0o644, content)
		at := b.Len()
		if err := c.Close(); err != nil || at%4 != 0 || b.Len()%4 != 0 {
			t.Fatalf("%q: %d, %d bytes, %v", name, at, b.Len(), err)
		}
		if !bytes.HasPrefix(b.Bytes()[at:], []byte("070701")) {
			t.Fatalf("%q: the trailer is not where it should be", name)
		}
	})
}
