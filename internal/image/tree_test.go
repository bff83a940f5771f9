package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"muster/internal/image/chunk"
	"muster/internal/image/rootfs"
	"muster/internal/model"
)

// netRaw is cap_net_raw+ep as the kernel keeps it (capability.h, VFS_CAP_REVISION_2).
const netRaw = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// smallTree is the tar of a package tree in miniature, with what a build looks for.
func smallTree(t *testing.T) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add := func(h tar.Header, text string) {
		t.Helper()
		h.Size = int64(len(text))
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
	}
	const mods = "./usr/lib/modules/6.1.0-56-amd64/"
	add(tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755}, "")
	add(tar.Header{Name: "./boot/vmlinuz-6.1.0-9-amd64"}, "old kernel")
	add(tar.Header{Name: "./boot/vmlinuz-6.1.0-56-amd64"}, "kernel")
	add(tar.Header{Name: "./etc/", Typeflag: tar.TypeDir, Mode: 0o755}, "")
	add(tar.Header{Name: "./etc/machine-id"}, "0123\n")
	add(tar.Header{Name: "./etc/ssh/ssh_host_rsa_key", Mode: 0o600}, "the distribution's")
	add(tar.Header{Name: "./root/", Typeflag: tar.TypeDir, Mode: 0o700}, "")
	add(tar.Header{Name: "./root/.ssh/", Typeflag: tar.TypeDir, Mode: 0o755}, "")
	add(tar.Header{Name: "./usr/bin/ping", Mode: 0o755, PAXRecords: map[string]string{"SCHILY.xattr.security.capability": netRaw}}, "elf")
	add(tar.Header{Name: "./usr/bin/ping4", Typeflag: tar.TypeLink, Linkname: "./usr/bin/ping"}, "")
	add(tar.Header{Name: mods + "kernel/net/core/failover.ko"}, "failover")
	add(tar.Header{Name: mods + "kernel/drivers/net/virtio_net.ko"}, "virtio_net")
	add(tar.Header{Name: mods + "kernel/fs/squashfs/squashfs.ko"}, "squashfs")
	add(tar.Header{Name: mods + "kernel/fs/overlayfs/overlay.ko"}, "overlay")
	add(tar.Header{Name: mods + "modules.dep"}, "kernel/net/core/failover.ko:\nkernel/drivers/net/virtio_net.ko: kernel/net/core/failover.ko\nkernel/fs/squashfs/squashfs.ko:\nkernel/fs/overlayfs/overlay.ko:\n")
	add(tar.Header{Name: mods + "modules.alias"}, "alias virtio:d00000001v* virtio_net\nalias fs-squashfs squashfs\nalias pci:v1* absent\n")
	add(tar.Header{Name: mods + "modules.builtin"}, "kernel/drivers/block/loop.ko\nkernel/drivers/virtio/virtio_pci.ko\n")
	add(tar.Header{Name: "./var/lib/dpkg/status"}, "Package: zstd\nStatus: install ok installed\nVersion: 1.5\n\nPackage: gone\nStatus: deinstall ok config-files\nVersion: 1\n\nPackage: bash\nStatus: install ok installed\nVersion: 5.2-1\n")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "tree.tar")
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// openTree takes the tar of a tree into a store of its own.
func openTree(t *testing.T, file string) (rootfs.Tree, *chunk.Store, *chunk.Writer) {
	t.Helper()
	s, err := chunk.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	w, err := s.Write(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	tree, err := rootfs.PutTar(t.Context(), w, f)
	if err := errors.Join(err, w.Flush()); err != nil {
		t.Fatal(err)
	}
	return tree, s, w
}

func TestInspectFindsTheNewestKernel(t *testing.T) {
	tree, s, _ := openTree(t, smallTree(t))
	c, err := inspect(t.Context(), tree, s)
	if err != nil {
		t.Fatal(err)
	}
	if c.Release != "6.1.0-56-amd64" || string(c.Kernel) != "kernel" || c.Modules != "usr/lib/modules/6.1.0-56-amd64" || !c.Builtin["loop"] || len(c.Deps) != 4 {
		t.Errorf("got %+v", c)
	}
}

func TestAmendDropsReplacesAndAdds(t *testing.T) {
	when := time.Unix(1e9, 0)
	tree, s, w := openTree(t, smallTree(t))
	got, err := amend(w, tree, []string{"etc/ssh/ssh_host_", "boot/"}, []put{
		{Path: "etc/machine-id", Mode: 0o444},
		{Path: "root/.ssh", Mode: 0o700, Dir: true},
		{Path: "root/.ssh/authorized_keys", Mode: 0o600, Content: []byte("key")},
		{Path: "etc/systemd/system/x.timer", Link: "/dev/null"},
	}, when)
	if err := errors.Join(err, w.Flush()); err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]uint32{"etc/machine-id": 0o444, "root/.ssh": 0o700, "root/.ssh/authorized_keys": 0o600, "root": 0o700, "etc/systemd": 0o755} {
		if e := got.Find(name); e == nil || e.Mode != mode {
			t.Errorf("%s: got %v, want mode %o", name, e, mode)
		}
	}
	if e := got.Find("etc/systemd/system/x.timer"); e == nil || e.Target != "/dev/null" || !e.Time.Equal(when) {
		t.Errorf("x.timer: got %v", e)
	}
	if e := got.Find("usr/bin/ping"); e == nil || len(e.Xattrs) != 1 || string(e.Xattrs[0].Value) != netRaw {
		t.Errorf("ping lost its capability: %v", e)
	}
	if b, err := content(t.Context(), got, s, "root/.ssh/authorized_keys"); err != nil || string(b) != "key" {
		t.Errorf("authorized_keys: %q, %v", b, err)
	}
	for i := range got {
		if n := got[i].Path; strings.HasPrefix(n, "boot/") || strings.Contains(n, "ssh_host") {
			t.Errorf("what was to be dropped is there: %s", n)
		}
	}
	again, err := amend(w, tree, []string{"etc/ssh/ssh_host_", "boot/"}, nil, when)
	if err != nil || again.Digest() == got.Digest() {
		t.Errorf("without additions: %v", err)
	}
}

func TestNaturalOrderOfKernels(t *testing.T) {
	got := []string{"6.12.1-amd64", "6.1.0-56-amd64", "6.1.0-9-amd64", "6.1.0-56"}
	slices.SortFunc(got, model.Natural)
	if want := []string{"6.1.0-9-amd64", "6.1.0-56", "6.1.0-56-amd64", "6.12.1-amd64"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func FuzzReadStatus(f *testing.F) {
	f.Add("Package: a\nStatus: install ok installed\nVersion: 1\n")
	f.Fuzz(func(_ *testing.T, s string) { readStatus(s) })
}

func FuzzReadNames(f *testing.F) {
	f.Add("bash 5.1.8-9.el9\ngpg-pubkey x\n")
	f.Fuzz(func(t *testing.T, s string) {
		for _, p := range readNames(s) {
			if p.Name == "" || p.Version == "" {
				t.Errorf("%q gave %+v", s, p)
			}
		}
	})
}
