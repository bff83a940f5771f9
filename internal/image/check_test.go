package image

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"muster/internal/image/chunk"
	"muster/internal/image/cpio"
	"muster/internal/image/rootfs"
	"muster/internal/model"
	"muster/internal/need"
)

// elfOf is the head of a program for a machine: elf(5).
func elfOf(machine uint16) []byte {
	b := make([]byte, 64)
	copy(b, "\x7fELF\x02\x01\x01")
	b[16] = 2
	binary.LittleEndian.PutUint16(b[18:], machine)
	return b
}

// bzImage is the head of an x86-64 kernel of a release.
func bzImage(release string) []byte {
	b := make([]byte, 1024)
	copy(b[0x202:], "HdrS\x0f\x02")
	binary.LittleEndian.PutUint16(b[0x20e:], 0x300-0x200)
	b[0x236] = 1
	copy(b[0x300:], release+" (builder) #1 SMP")
	return b
}

const (
	x86   = 62
	arm64 = 183
)

// system is the tar of a tree that can boot, in miniature: a small tree with a true kernel and an init.
func system(t *testing.T) *os.File {
	t.Helper()
	in, err := os.Open(smallTree(t))
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.Create(filepath.Join(t.TempDir(), "system.tar"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { out.Close() })
	w := tar.NewWriter(out)
	add := func(h *tar.Header, b []byte) {
		t.Helper()
		h.Size = int64(len(b))
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	for r := tar.NewReader(in); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		b, rerr := io.ReadAll(r)
		if err := errors.Join(err, rerr); err != nil {
			t.Fatal(err)
		}
		if release, ok := strings.CutPrefix(h.Name, "./boot/vmlinuz-"); ok {
			b = bzImage(release)
		}
		add(h, b)
	}
	add(&tar.Header{Name: "./sbin", Typeflag: tar.TypeSymlink, Linkname: "usr/sbin"}, nil)
	add(&tar.Header{Name: "./usr/sbin/init", Typeflag: tar.TypeSymlink, Linkname: "../lib/systemd/systemd"}, nil)
	add(&tar.Header{Name: "./usr/lib/systemd/systemd", Mode: 0o755}, elfOf(x86))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out
}

// imported makes an image of the system.
func imported(t *testing.T) (Options, string) {
	t.Helper()
	o := options(t, good)
	o.Source, o.NodeProgram = "system.tar", elfOf(x86)
	if _, err := Import(t.Context(), o, system(t)); err != nil {
		t.Fatal(err)
	}
	return o, filepath.Join(o.Dir, string(o.Name))
}

func store(t *testing.T, o Options) *chunk.Store {
	t.Helper()
	s, err := chunk.Open(o.Chunks)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// again writes the manifest of a directory anew, as one would who changed an image and meant it.
func again(t *testing.T, dir string) {
	t.Helper()
	m, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range m.Files {
		if _, err := os.Stat(filepath.Join(dir, f.Name)); err == nil {
			names = append(names, f.Name)
		}
	}
	if m.Files, err = modelFiles(dir, names...); err != nil {
		t.Fatal(err)
	}
	if m.Digest, err = m.digest(); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(m)
	if err := errors.Join(err, os.WriteFile(filepath.Join(dir, ManifestFile), b, 0o644)); err != nil {
		t.Fatal(err)
	}
}

func TestExamineNamesWhatIsWrong(t *testing.T) {
	need.Programs(t, "squashfs-tools", "mksquashfs", "unsquashfs")
	file := func(name string, content []byte) func(*testing.T, string, Options) {
		return func(t *testing.T, dir string, _ Options) {
			if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
				t.Fatal(err)
			}
			again(t, dir)
		}
	}
	// tree changes the tree of an image: puts nil drops the paths.
	tree := func(drop []string, puts ...put) func(*testing.T, string, Options) {
		return func(t *testing.T, dir string, o Options) {
			before, err := Tree(dir)
			if err != nil {
				t.Fatal(err)
			}
			w, err := store(t, o).Write(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			after, err := amend(w, before, drop, puts, time.Unix(1, 0))
			if err := errors.Join(err, w.Flush()); err != nil {
				t.Fatal(err)
			}
			packed, err := after.Pack()
			if err != nil {
				t.Fatal(err)
			}
			file(TreeFile, packed)(t, dir, o)
		}
	}
	initramfs := func(with ...string) []byte {
		var b bytes.Buffer
		c := cpio.New(&b)
		for _, n := range with {
			c.File(n, 0o755, elfOf(x86))
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		var z bytes.Buffer
		if err := compress(&z, b.Bytes()); err != nil {
			t.Fatal(err)
		}
		return z.Bytes()
	}
	all := []string{"init", "lib/modules/virtio_net.ko", "lib/modules/squashfs.ko", "lib/modules/overlay.ko"}
	key := []byte("-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEA\n-----END OPENSSH PRIVATE KEY-----\n")
	for name, c := range map[string]struct {
		do   func(t *testing.T, dir string, o Options)
		look CheckOptions
		want []string // check names with what must be said; nothing else may be found
	}{
		"nothing":                         {nil, CheckOptions{Memory: 1 << 30}, nil},
		"a kernel file that is none":      {file(KernelFile, []byte("kernel")), CheckOptions{}, []string{"kernel: the file is no Linux kernel"}},
		"no kernel file":                  {func(t *testing.T, dir string, _ Options) { os.Remove(filepath.Join(dir, KernelFile)) }, CheckOptions{}, []string{"files: kernel: the file is missing"}},
		"another kernel than its modules": {file(KernelFile, bzImage("6.12.1-amd64")), CheckOptions{}, []string{"kernel: the kernel says that it is 6.12.1-amd64, the manifest and the modules are for 6.1.0-56-amd64"}},
		"no kernel in the tree":           {tree([]string{"boot/"}), CheckOptions{}, []string{"kernel: the tree has no kernel"}},
		"a kernel for arm64":              {file(KernelFile, append(append(make([]byte, 56), "ARM\x64"...), make([]byte, 64)...)), CheckOptions{}, []string{"architecture: the kernel is for arm64", "architecture: the init of the initramfs is for x86-64, the kernel for arm64", "architecture: sbin/init is for x86-64", "architecture: usr/lib/muster/muster-node is for x86-64"}},
		"no initramfs":                    {func(t *testing.T, dir string, _ Options) { os.Remove(filepath.Join(dir, InitrdFile)) }, CheckOptions{}, []string{"files: initramfs: the file is missing"}},
		"an initramfs that is cut off": {func(t *testing.T, dir string, o Options) {
			b := initramfs(all...)
			file(InitrdFile, b[:len(b)-9])(t, dir, o)
		}, CheckOptions{}, []string{"initramfs: it does not unpack"}},
		"an initramfs without init":    {file(InitrdFile, initramfs(all[1:]...)), CheckOptions{}, []string{"initramfs: it has no init"}},
		"no driver of a network card":  {file(InitrdFile, initramfs("init", all[2], all[3])), CheckOptions{}, []string{"modules: the initramfs has no driver of a network card"}},
		"no squashfs in the initramfs": {file(InitrdFile, initramfs("init", all[1], all[3])), CheckOptions{}, []string{"modules: the initramfs has no squashfs"}},
		"not the driver that is asked for": {
			nil,
			CheckOptions{Modules: []string{"virtio-net", "mlx5_core", "failover", "loop"}},
			[]string{"modules: kernel 6.1.0-56-amd64 has no module mlx5_core"},
		},
		"no modules in the tree":      {tree([]string{"usr/lib/modules/"}), CheckOptions{}, []string{"modules: the system has no modules for its kernel"}},
		"no init":                     {tree([]string{"usr/lib/systemd/systemd"}), CheckOptions{}, []string{"init: the system has no init"}},
		"an init that may not run":    {tree(nil, put{Path: "usr/lib/systemd/systemd", Mode: 0o644, Content: elfOf(x86)}), CheckOptions{}, []string{"init: the system has no init"}},
		"programs for arm64":          {tree(nil, put{Path: "usr/lib/systemd/systemd", Mode: 0o755, Content: elfOf(arm64)}), CheckOptions{}, []string{"architecture: sbin/init is for arm64, the kernel for x86-64"}},
		"no agent":                    {tree([]string{nodeProgramPath}), CheckOptions{}, []string{"agent: the system has no muster agent"}},
		"an agent that nobody starts": {tree([]string{agentWanted}), CheckOptions{}, []string{"agent: the muster agent is there and is never started"}},
		"secrets": {
			tree(nil, put{Path: "etc/ssh/ssh_host_rsa_key", Mode: 0o600, Content: key}, put{Path: "etc/ssh/ssh_host_rsa_key.pub", Mode: 0o644, Content: []byte("ssh-rsa AAAA")},
				put{Path: "root/.ssh/id_ed25519", Mode: 0o600, Content: key}, put{Path: "etc/machine-id", Mode: 0o444, Content: []byte("0123456789abcdef0123456789abcdef\n")},
				put{Path: "etc/nginx/tls.key", Mode: 0o600, Content: key}, put{Path: "usr/share/doc/example.key", Mode: 0o644, Content: key},
				put{Path: "etc/shadow", Mode: 0o640, Content: []byte("root:$y$j9T$abc:19000:::::\nann:!:19000:::::\n")}),
			CheckOptions{},
			[]string{"secrets: /etc/machine-id is a machine-id", "secrets: /etc/nginx/tls.key holds a private key", "secrets: /etc/shadow has a password for root", "secrets: /etc/ssh/ssh_host_rsa_key is a host key", "secrets: /root/.ssh/id_ed25519 is a private ssh key"},
		},
		"a machine-id that asks for one": {tree(nil, put{Path: "etc/machine-id", Mode: 0o444, Content: []byte("uninitialized\n")}), CheckOptions{}, nil},
		"a root that is cut off": {
			func(t *testing.T, dir string, o Options) {
				b, _ := os.ReadFile(filepath.Join(dir, RootFile))
				file(RootFile, b[:len(b)/2])(t, dir, o)
			},
			CheckOptions{},
			[]string{"root: root.squashfs is cut off"},
		},
		"a root that changed": {
			func(t *testing.T, dir string, o Options) {
				b, _ := os.ReadFile(filepath.Join(dir, RootFile))
				b[len(b)/2] ^= 1
				if err := os.WriteFile(filepath.Join(dir, RootFile), b, 0o644); err != nil {
					t.Fatal(err)
				}
			},
			CheckOptions{},
			[]string{"files: root.squashfs: is sha256:"},
		},
		"a root that is none": {file(RootFile, make([]byte, 4096)), CheckOptions{}, []string{"root: root.squashfs is no squashfs"}},
		"too little memory":   {nil, CheckOptions{Memory: 6000}, []string{"size: 0."}},
		"a damaged tree":      {file(TreeFile, []byte("tree")), CheckOptions{}, []string{"chunks: image compute: tree.zst"}},
		"chunks that are gone": {
			func(t *testing.T, _ string, o Options) {
				if _, err := store(t, o).Collect(t.Context(), func(func(chunk.Digest)) error { return nil }); err != nil {
					t.Fatal(err)
				}
			},
			CheckOptions{},
			[]string{"chunks: "},
		},
		"a signature that is not the site's": {nil, CheckOptions{Verify: func(*Manifest) error { return errors.New("it is signed by nobody") }}, []string{"signature: it is signed by nobody"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, dir := imported(t)
			if c.do != nil {
				c.do(t, dir, o)
			}
			c.look.Chunks = store(t, o)
			found, err := Examine(t.Context(), dir, c.look)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range found {
				got = append(got, f.String())
			}
			slices.Sort(got)
			slices.Sort(c.want)
			ok := len(got) == len(c.want)
			for i := range min(len(got), len(c.want)) {
				ok = ok && strings.HasPrefix(got[i], c.want[i])
			}
			if !ok {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestImportTakesWhatOthersMade(t *testing.T) {
	need.Programs(t, "squashfs-tools zstd xz-utils", "mksquashfs", "unsquashfs", "zstd", "xz", "gzip")
	plain := system(t).Name()
	work := t.TempDir()
	shell := func(text string) {
		t.Helper()
		cmd := exec.Command("sh", "-ec", text)
		cmd.Dir = work
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", text, err, out)
		}
	}
	shell("cp " + plain + " a.tar; gzip -k a.tar; zstd -q a.tar; xz -k a.tar; mkdir root; tar --xattrs --xattrs-include='*' -xf a.tar -C root; mksquashfs root a.squashfs -no-progress -quiet")
	o, dir := imported(t)
	want, err := Tree(dir)
	if err != nil {
		t.Fatal(err)
	}
	s := store(t, o)
	for _, format := range []string{FormatTar, FormatOCI, FormatSquashfs} {
		f, err := os.Create(filepath.Join(work, "export."+format))
		if err := errors.Join(err, Export(t.Context(), dir, s, format, o.Cache, f), f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if err := Export(t.Context(), dir, s, "zip", o.Cache, io.Discard); err == nil || !strings.Contains(err.Error(), "There is: tar, oci, squashfs") {
		t.Errorf("an unknown format: %v", err)
	}
	for _, file := range []string{"a.tar.gz", "a.tar.zst", "a.tar.xz", "a.squashfs", "export.tar", "export.oci"} {
		t.Run(file, func(t *testing.T) {
			f, err := os.Open(filepath.Join(work, file))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			o.Name = "other"
			m, err := Import(t.Context(), o, f)
			if err != nil {
				t.Fatal(err)
			}
			if m.Kernel != "6.1.0-56-amd64" || len(m.Packages) != 2 {
				t.Errorf("got %+v", m)
			}
			got, err := Tree(filepath.Join(o.Dir, "other"))
			if err != nil {
				t.Fatal(err)
			}
			// What the import itself adds is as old as the import, and a squashfs keeps whole seconds.
			for _, d := range rootfs.Diff(want, got) {
				if what := strings.Join(d.What(), ","); what != "time" && d.Path != "." {
					t.Errorf("%s: %s", d.Path, what)
				}
			}
		})
	}
	for text, file := range map[string]string{
		"is a qcow2 disk":        "QFI\xfb" + strings.Repeat("\x00", 600),
		"neither a tar":          "something else",
		"is an ISO":              strings.Repeat("\x00", 32769) + "CD001",
		"is an ext4 file system": strings.Repeat("\x00", 1080) + "\x53\xef",
	} {
		path := filepath.Join(work, "wrong")
		if err := os.WriteFile(path, []byte(file), 0o644); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Import(t.Context(), o, f); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("want %q, got %v", text, err)
		}
		f.Close()
	}
	if left, _ := filepath.Glob(filepath.Join(o.Cache, ".build-*")); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	ended, stop := context.WithCancel(t.Context())
	stop()
	if _, err := Import(ended, o, system(t)); !errors.Is(err, context.Canceled) {
		t.Errorf("an ended one: %v", err)
	}
}

func TestDiffTellsPackagesAndFiles(t *testing.T) {
	o, dir := imported(t)
	o.Name, o.RootKeys = "second", []string{"ssh-ed25519 BBBB other@manager"}
	if _, err := Import(t.Context(), o, system(t)); err != nil {
		t.Fatal(err)
	}
	d, err := Diff(dir, filepath.Join(o.Dir, "second"))
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, f := range d.Files {
		found = found || f.Path == "/root/.ssh/authorized_keys" && slices.Contains(f.What, "content")
	}
	if !found || len(d.Packages) != 0 || d.New == 0 || d.New > 100 {
		t.Errorf("got %+v", d)
	}
	got := diffPackages([]Package{{"a", "1"}, {"b", "1"}, {"k", "5"}, {"k", "6"}}, []Package{{"b", "2"}, {"c", "1"}, {"k", "5"}, {"k", "6"}})
	want := []model.PackageChange{{Name: "a", Before: "1"}, {Name: "b", Before: "1", After: "2"}, {Name: "c", After: "1"}}
	if !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if err := os.Remove(filepath.Join(dir, TreeFile)); err != nil {
		t.Fatal(err)
	}
	if d, err := Diff(dir, filepath.Join(o.Dir, "second")); err != nil || !d.NoTree {
		t.Errorf("without a tree: %+v, %v", d, err)
	}
}

func FuzzReadCpio(f *testing.F) {
	var b bytes.Buffer
	c := cpio.New(&b)
	c.File("init", 0o755, []byte("x"))
	c.Link("a", "b")
	if err := c.Close(); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		if files, err := cpio.Read(b); err == nil {
			for n, c := range files {
				if len(c) > len(b) {
					t.Errorf("%q has %d bytes of %d", n, len(c), len(b))
				}
			}
		}
	})
}

func FuzzReadKernel(f *testing.F) {
	f.Add(bzImage("6.1"))
	f.Fuzz(func(t *testing.T, b []byte) {
		readKernel(b)
		machineOf(b)
	})
}
