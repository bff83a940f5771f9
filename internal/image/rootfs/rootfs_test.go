package rootfs

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"muster/internal/image/chunk"
	"muster/internal/need"
)

func store(t testing.TB) *chunk.Store {
	t.Helper()
	s, err := chunk.Open(filepath.Join(t.TempDir(), "chunks"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// put takes a directory and returns its tree and what was stored for it.
func put(t testing.TB, s *chunk.Store, dir string, o PutOptions) (Tree, chunk.Size) {
	t.Helper()
	w, err := s.Write(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	tree, err := Put(t.Context(), w, dir, o)
	if err := errors.Join(err, w.Flush()); err != nil {
		t.Fatal(err)
	}
	return tree, w.Added()
}

func random(seed byte, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

// everything makes a directory with one of each that a tree can hold.
func everything(t *testing.T) string {
	t.Helper()
	need.Root(t, "devices, owners and capabilities")
	dir := filepath.Join(t.TempDir(), "root")
	do := func(errs ...error) {
		t.Helper()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	file := func(name string, content []byte, mode os.FileMode) {
		do(os.WriteFile(at(name), content, mode), os.Chmod(at(name), mode))
	}
	do(os.MkdirAll(at("usr/bin"), 0o755), os.MkdirAll(at("a b\n\\ü\xff"), 0o755), os.Mkdir(at("closed"), 0o000), os.Mkdir(at("tmp"), 0o777), unix.Chmod(at("tmp"), 0o1777))
	file("usr/bin/su", []byte("set-user-id"), 0o755)
	do(unix.Chmod(at("usr/bin/su"), 0o4755), os.Lchown(at("usr/bin/su"), 12, 34), unix.Chmod(at("usr/bin/su"), 0o4755))
	file("usr/bin/ping", []byte("capable"), 0o755)
	// VFS_CAP_REVISION_2, cap_net_raw+ep: capabilities(7).
	do(unix.Setxattr(at("usr/bin/ping"), "security.capability", []byte("\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), 0))
	// POSIX_ACL_XATTR_VERSION 2; user::rw- user:1000:r-- group::r-- mask::r-- other::---: acl(5).
	file("acl", []byte("acl"), 0o640)
	do(unix.Setxattr(at("acl"), "system.posix_acl_access", []byte("\x02\x00\x00\x00\x01\x00\x06\x00\xff\xff\xff\xff\x02\x00\x04\x00\xe8\x03\x00\x00\x04\x00\x04\x00\xff\xff\xff\xff\x10\x00\x04\x00\xff\xff\xff\xff\x20\x00\x00\x00\xff\xff\xff\xff"), 0))
	do(unix.Setxattr(at("acl"), "user.note", []byte("line\nend\x00"), 0), unix.Setxattr(at("tmp"), "user.empty", nil, 0))
	file("empty", nil, 0o600)
	file("large", random(1, 9<<20), 0o644)
	file("a b\n\\ü\xff/name \t", []byte("odd"), 0o644)
	do(os.Link(at("large"), at("zlarge")), os.Link(at("large"), at("usr/large")))
	do(os.Symlink("../nowhere", at("usr/link")), os.Link(at("usr/link"), at("usr/link2")), os.Lchown(at("usr/link"), 5, 6))
	do(unix.Mknod(at("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))), unix.Mknod(at("disk"), unix.S_IFBLK|0o660, int(unix.Mkdev(259, 70000))), unix.Mkfifo(at("pipe"), 0o622))
	sparse, err := os.Create(at("sparse"))
	do(err)
	_, err1 := sparse.WriteAt(random(2, 4096), 1<<30)
	_, err2 := sparse.WriteAt(random(3, 600<<10), 5<<30)
	do(err1, err2, sparse.Truncate(6<<30), sparse.Close())
	when := time.Unix(1_600_000_000, 123_456_789)
	do(os.Chtimes(at("acl"), when, when), os.Chtimes(at("usr"), when, when))
	return dir
}

func TestRestore_gives_back_all_that_Put_took(t *testing.T) {
	dir := everything(t)
	s := store(t)
	before, _ := put(t, s, dir, PutOptions{})
	if size := s.Size().Plain; size > 12<<20 {
		t.Errorf("%d bytes are stored: holes are, or links", size)
	}
	to := filepath.Join(t.TempDir(), "to")
	var told int64
	if err := Restore(t.Context(), before, s, to, RestoreOptions{Done: func(n int64) { told = n }}); err != nil {
		t.Fatal(err)
	}
	if told < 6<<30 {
		t.Errorf("told of %d bytes", told)
	}
	after, added := put(t, s, to, PutOptions{})
	if !bytes.Equal(before.Text(), after.Text()) {
		t.Errorf("before:\n%s\nafter:\n%s", before.Text(), after.Text())
	}
	if added.Chunks != 0 {
		t.Errorf("the same content was stored again: %+v", added)
	}
	info, err := os.Stat(filepath.Join(to, "sparse"))
	if err != nil || info.Sys().(*syscall.Stat_t).Blocks > 2000 {
		t.Errorf("sparse: %+v, %v", info.Sys(), err)
	}
	if e := before.Find("usr/large"); e == nil || e.Type != HardLink || e.Target != "large" {
		t.Errorf("usr/large: %v", e)
	}
	if e := before.Find("closed"); e == nil || e.Mode != 0 {
		t.Errorf("closed: %v", e)
	}
	if err := Restore(t.Context(), before, s, to, RestoreOptions{}); err == nil || !strings.Contains(err.Error(), "is not empty") {
		t.Errorf("into a directory with files: %v", err)
	}
}

// TestPut_says_what_rsync_says lets another program compare both trees, attributes and all.
func TestPut_says_what_rsync_says(t *testing.T) {
	need.Programs(t, "rsync", "rsync")
	dir, s := everything(t), store(t)
	tree, _ := put(t, s, dir, PutOptions{})
	to := filepath.Join(t.TempDir(), "to")
	if err := Restore(t.Context(), tree, s, to, RestoreOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(dir, "sparse"), 1<<20); err != nil { // rsync would read 6 GB of zeros
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(to, "sparse"), 1<<20); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("rsync", "-aHAXcni", "--delete", dir+"/", to+"/").CombinedOutput()
	if err != nil || len(strings.ReplaceAll(strings.TrimSpace(string(out)), ".f..t...... sparse", "")) != 0 {
		t.Errorf("%v:\n%s", err, out)
	}
}

func TestTar_in_and_out_is_the_same_tree(t *testing.T) {
	need.Programs(t, "tar", "tar")
	dir, s := everything(t), store(t)
	if err := os.Remove(filepath.Join(dir, "sparse")); err != nil {
		t.Fatal(err)
	}
	want, _ := put(t, s, dir, PutOptions{})
	var first, second bytes.Buffer
	if err := WriteTar(t.Context(), &first, want, s); err != nil {
		t.Fatal(err)
	}
	if err := WriteTar(t.Context(), &second, want, s); err != nil || !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Errorf("the same tree gave another tar: %v", err)
	}
	fromTar := func(r io.Reader, s *chunk.Store) Tree {
		t.Helper()
		w, err := s.Write(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		tree, err := PutTar(t.Context(), w, r)
		if err := errors.Join(err, w.Flush()); err != nil {
			t.Fatal(err)
		}
		return tree
	}
	if got := fromTar(bytes.NewReader(first.Bytes()), store(t)); !bytes.Equal(got.Text(), want.Text()) {
		t.Errorf("from our tar:\n%s\nwant:\n%s", got.Text(), want.Text())
	}
	// GNU tar reads ours, and we read what it writes, which keeps whole seconds only outside of pax.
	to := filepath.Join(t.TempDir(), "to")
	cmd := exec.Command("tar", "--xattrs", "--xattrs-include=*", "--numeric-owner", "--same-permissions", "-xf", "-", "-C", to)
	cmd.Stdin = &first
	if err := os.Mkdir(to, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got, _ := put(t, s, to, PutOptions{}); !bytes.Equal(got.Text(), want.Text()) {
		t.Errorf("GNU tar made of ours:\n%s\nwant:\n%s", got.Text(), want.Text())
	}
	out, err := exec.Command("tar", "--format=posix", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-cf", "-", "-C", dir, ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := fromTar(bytes.NewReader(out), s); !bytes.Equal(got.Text(), want.Text()) {
		t.Errorf("from GNU tar:\n%s\nwant:\n%s", got.Text(), want.Text())
	}
}

func TestTar_that_no_tree_is_made_of_is_refused(t *testing.T) {
	for name, hs := range map[string][]tar.Header{
		"is a hard link to gone":         {{Name: "a", Typeflag: tar.TypeLink, Linkname: "gone"}},
		"which is no file of the tree":   {{Name: "a", Typeflag: tar.TypeLink, Linkname: "b"}, {Name: "b", Typeflag: tar.TypeLink, Linkname: "a"}},
		"lies in no directory":           {{Name: "lib", Typeflag: tar.TypeSymlink, Linkname: "usr/lib"}, {Name: "lib/x", Typeflag: tar.TypeReg}},
		"it links to nothing":            {{Name: "a", Typeflag: tar.TypeSymlink}},
		"make the tar with --xattrs":     {{Name: "a", Typeflag: tar.TypeReg, PAXRecords: map[string]string{"SCHILY.acl.access": "user::rw-"}}},
		"it is a directory first, and a": {{Name: "a", Typeflag: tar.TypeDir}, {Name: "a", Typeflag: tar.TypeReg}},
	} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, h := range hs {
			if err := w.WriteHeader(&h); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		cw, err := store(t).Write(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := PutTar(t.Context(), cw, &b); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("want %q, got %v", name, err)
		}
		cw.Close()
	}
	// Paths that lead out of a tar stay inside of the tree.
	if inside("../../etc/passwd") != "etc/passwd" || inside("/") != "." {
		t.Error("a path leads out")
	}
}

func TestPut_leaves_out_what_it_is_told_to_and_what_vanished(t *testing.T) {
	dir := t.TempDir()
	for _, f := range []string{"keep/a", "skip/b", "keep/gone"} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(dir, f)), 0o755), os.WriteFile(filepath.Join(dir, f), []byte(f), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(filepath.Join(dir, "keep/gone"), filepath.Join(dir, "keep/gone2")); err != nil {
		t.Fatal(err)
	}
	var vanished []string
	o := PutOptions{Skip: func(p string) bool {
		if p == "keep/gone2" { // asked for after gone was seen, before it is read: as when a program removes it
			// The readers may be ahead: then nothing vanishes.
			_ = os.Remove(filepath.Join(dir, "keep/gone"))
		}
		return p == "skip"
	}, Vanished: func(p string) { vanished = append(vanished, p) }}
	tree, _ := put(t, store(t), dir, o)
	if tree.Find("keep/a") == nil || tree.Find("skip") != nil || tree.Find("skip/b") != nil {
		t.Errorf("got\n%s", tree.Text())
	}
	if (tree.Find("keep/gone") == nil) != (len(vanished) == 1) {
		t.Errorf("vanished: %v of\n%s", vanished, tree.Text())
	}
	w, err := store(t).Write(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := Put(t.Context(), w, filepath.Join(dir, "keep/a"), PutOptions{}); err == nil || !strings.Contains(err.Error(), "is no directory") {
		t.Errorf("a file: %v", err)
	}
}

func TestFollow_goes_through_links_as_the_system_would(t *testing.T) {
	var tree Tree
	for _, l := range []string{
		"d . 755 0 0 0.000000000", "l bin 777 0 0 0.000000000 usr/bin", "d usr 755 0 0 0.000000000", "d usr/bin 755 0 0 0.000000000",
		"l usr/bin/init 777 0 0 0.000000000 /bin/../sbin/real", "l usr/bin/loop 777 0 0 0.000000000 loop", "l usr/bin/up 777 0 0 0.000000000 ../../../sbin/real",
		"d usr/sbin 755 0 0 0.000000000", "f usr/sbin/real 755 0 0 0.000000000 0 -",
	} {
		e, err := parseEntry(l)
		if err != nil {
			t.Fatal(err)
		}
		tree = append(tree, e)
	}
	sbin, _ := parseEntry("l sbin 777 0 0 0.000000000 usr/sbin")
	tree = slices.Insert(tree, 2, sbin)
	if err := tree.check(); err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string]string{"bin/init": "usr/sbin/real", "bin/up": "usr/sbin/real", "bin/loop": "", "bin/none": "", "bin": "usr/bin", "usr/sbin/real": "usr/sbin/real"} {
		if e := tree.Follow(p); (e == nil) != (want == "") || e != nil && e.Path != want {
			t.Errorf("%s: got %v, want %q", p, e, want)
		}
	}
}

func TestRestore_ends_at_the_first_chunk_that_is_missing(t *testing.T) {
	dir := t.TempDir()
	for i := range 1000 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), fmt.Append(nil, i), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	tree, _ := put(t, store(t), dir, PutOptions{})
	err := Restore(t.Context(), tree, store(t), filepath.Join(t.TempDir(), "to"), RestoreOptions{})
	var missing *chunk.MissingError
	if !errors.As(err, &missing) {
		t.Errorf("got %v", err)
	}
	if err := WriteTar(t.Context(), io.Discard, tree, store(t)); !errors.As(err, &missing) {
		t.Errorf("tar: %v", err)
	}
	ended, stop := context.WithCancel(t.Context())
	stop()
	if err := Restore(ended, tree, store(t), filepath.Join(t.TempDir(), "to"), RestoreOptions{}); err == nil {
		t.Error("an ended one did not end")
	}
}

func TestParse_refuses_all_but_the_one_form(t *testing.T) {
	dir := everything(t)
	tree, _ := put(t, store(t), dir, PutOptions{})
	text := string(tree.Text())
	again, err := Parse([]byte(text))
	if err != nil || again.Digest() != tree.Digest() {
		t.Fatalf("%v", err)
	}
	for _, c := range []struct{ old, new, want string }{
		{"muster-tree 1", "muster-tree 2", "another version"},
		{"\nend ", "\nend 1", "the end of the tree"},
		{"d closed 0 0", "d closed 00 0", "is to be written"},
		{"f empty", "f ../empty", "no path inside"},
		{"f empty", "f usr/../empty", "no path inside"},
		{"f empty", "f aempty", "are sorted"},
		{"f empty", "f empty/x", "in no directory"},
		{"h usr/large large", "h usr/large zlarge", "no earlier file"},
		{"h usr/large large", "h usr/large usr", "no earlier file"},
		{" 9437184 ", " 9437185 ", "its parts have"},
		{"c null 644 0 0", "s null 644 0 0", "no type of entry"},
		{"l usr/link 777", "l usr/link 77777", "out of range"},
		{" 1:3", " 1", "invalid syntax"},
		{"1600000000.123456789", "1600000000.12345678", "is to be written"},
		{"\nend ", "\nEND ", "no type of entry"},
	} {
		broken := strings.Replace(text, c.old, c.new, 1)
		if broken == text {
			t.Errorf("%q is not in the tree:\n%s", c.old, text)
		} else if _, err := Parse([]byte(broken)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q for %q: got %v, want %q", c.new, c.old, err, c.want)
		}
	}
	for i := range len(text) {
		if _, err := Parse([]byte(text[:i])); err == nil {
			t.Fatalf("a tree cut off after %d bytes was taken", i)
		}
	}
}

func FuzzParse(f *testing.F) {
	d := chunk.Sum(nil).String()
	f.Add([]byte(header + "\nd . 755 0 0 1.000000000\nf a\\040b 644 1 2 -5.000000001 4106 " + d + ":10,~4096 x:user.a=00 x:user.b=\nh c a\\040b\nl d 777 0 0 0.000000000 x\nc e 600 0 0 0.000000000 1:3\np f 600 0 0 0.000000000\nend 6\n"))
	f.Add([]byte(header + "\nend 0\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		tree, err := Parse(b)
		if err != nil {
			return
		}
		if !bytes.Equal(tree.Text(), b) {
			t.Errorf("%q became %q", b, tree.Text())
		}
		for i := range tree {
			if tree.Find(tree[i].Path) != &tree[i] {
				t.Errorf("%q is not found", tree[i].Path)
			}
		}
	})
}

func parse(t testing.TB, lines ...string) Tree {
	t.Helper()
	tree, err := Parse(fmt.Appendf(nil, "%s\n%s\nend %d\n", header, strings.Join(lines, "\n"), len(lines)))
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func TestWithout_keeps_files_that_have_another_name(t *testing.T) {
	tree := parse(t, "d . 755 0 0 0.000000000", "f a 600 0 0 0.000000000 4096 ~4096", "h b a", "d c 755 0 0 0.000000000", "h c/x a", "f c.y 644 0 0 0.000000000 0 -", "d d 755 0 0 0.000000000", "h d/z a")
	got := tree.Without(func(p string) bool { return p == "a" || p == "c" })
	want := parse(t, "d . 755 0 0 0.000000000", "f b 600 0 0 0.000000000 4096 ~4096", "f c.y 644 0 0 0.000000000 0 -", "d d 755 0 0 0.000000000", "h d/z b")
	if !bytes.Equal(got.Text(), want.Text()) {
		t.Errorf("got\n%s", got.Text())
	}
}

func TestWith_replaces_and_makes_the_way(t *testing.T) {
	tree := parse(t, "d . 755 0 0 0.000000000", "f a 600 0 0 0.000000000 4096 ~4096", "h b a", "d c 755 0 0 0.000000000", "f c/x 644 0 0 0.000000000 0 -", "d d 755 0 0 0.000000000", "f d/x 644 0 0 0.000000000 0 -")
	when := time.Unix(7, 0)
	got, err := tree.With([]Entry{
		{Path: "a", Type: Link, Mode: 0o777, Target: "new", Time: when},
		{Path: "c", Type: Directory, Mode: 0o700, Time: when},
		{Path: "d", Type: File, Mode: 0o600, Time: when},
		{Path: "e/f/g", Type: Pipe, Mode: 0o600, Time: when},
	}, when)
	if err != nil {
		t.Fatal(err)
	}
	want := parse(t, "d . 755 0 0 0.000000000", "l a 777 0 0 7.000000000 new", "f b 600 0 0 0.000000000 4096 ~4096", "d c 700 0 0 7.000000000", "f c/x 644 0 0 0.000000000 0 -",
		"f d 600 0 0 7.000000000 0 -", "d e 755 0 0 7.000000000", "d e/f 755 0 0 7.000000000", "p e/f/g 600 0 0 7.000000000")
	if !bytes.Equal(got.Text(), want.Text()) {
		t.Errorf("got\n%s", got.Text())
	}
}

func TestDiff_names_each_path_once_with_what_changed(t *testing.T) {
	before := parse(t, "d . 755 0 0 0.000000000", "f a 600 0 0 0.000000000 4096 ~4096", "f b 600 0 0 0.000000000 0 -", "l c 777 0 0 0.000000000 x", "f same 600 0 0 0.000000000 0 -")
	after := parse(t, "d . 755 0 0 0.000000000", "f a 644 1 0 3.000000000 4097 ~4097 x:user.a=00", "d c 755 0 0 0.000000000", "f d 600 0 0 0.000000000 0 -", "f same 600 0 0 0.000000000 0 -")
	var got []string
	for _, d := range Diff(before, after) {
		got = append(got, d.Path+": "+strings.Join(d.What(), ", "))
	}
	want := []string{"a: content, mode, owner, attributes, time", "b: removed", "c: type, mode", "d: added"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if len(Diff(before, before)) != 0 {
		t.Error("a tree differs from itself")
	}
}

// TestSecondTree_costs_what_changed: one percent of the bytes in other files, and one insertion into a large one.
func TestSecondTree_costs_what_changed(t *testing.T) {
	dir, s := t.TempDir(), store(t)
	write := func(i int, seed byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), random(seed, 10_000+i*400), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 400 {
		write(i, byte(i))
	}
	_, first := put(t, s, dir, PutOptions{})
	for _, i := range []int{3, 150, 250, 390} {
		write(i, 255)
	}
	tree, second := put(t, s, dir, PutOptions{})
	if share := float64(second.Packed) / float64(first.Packed); share < 0.005 || share > 0.02 {
		t.Errorf("the second tree costs %.2f %%", 100*share)
	}
	packed, err := tree.Pack()
	if err != nil {
		t.Fatal(err)
	}
	if again, err := Unpack(packed); err != nil || again.Digest() != tree.Digest() {
		t.Errorf("unpacked: %v", err)
	}
	if _, err := Unpack(packed[:len(packed)-1]); err == nil {
		t.Error("a tree that is cut off was read")
	}
	e, err := os.Create(filepath.Join(dir, "large"))
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	large := random(99, 40<<20)
	if _, err := e.Write(large); err != nil {
		t.Fatal(err)
	}
	put(t, s, dir, PutOptions{})
	if _, err := e.WriteAt(append([]byte("insertion"), large[20<<20:]...), 20<<20); err != nil {
		t.Fatal(err)
	}
	if _, third := put(t, s, dir, PutOptions{}); third.Chunks == 0 || third.Plain > 5<<20 {
		t.Errorf("an insertion into 40 MiB costs %+v", third)
	}
}
