package server

import (
	"archive/tar"
	"bytes"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"muster/internal/api"
	"muster/internal/image"
	"muster/internal/model"
	"muster/internal/need"
)

// tinySystem is a tar of the least that an image can be made of.
func tinySystem(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, text := range map[string]string{
		"boot/vmlinuz-6.1":                    "kernel",
		"usr/lib/modules/6.1/modules.dep":     "",
		"usr/lib/modules/6.1/modules.builtin": "kernel/fs/squashfs/squashfs.ko\nkernel/fs/overlayfs/overlay.ko\nkernel/drivers/block/loop.ko\n",
		"etc/ssh/ssh_host_rsa_key":            "the golden machine's",
		"etc/motd":                            "hello",
	} {
		if err := w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(text))}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// importImage imports the tiny system under a name.
func (s *service) importImage(name string) {
	s.t.Helper()
	need.Programs(s.t, "squashfs-tools", "mksquashfs")
	s.srv.cfg.Node = []byte("node program")
	res, err := s.client.HTTP().Post(s.client.URL("/v1/images/import?source=tiny.tar&name="+name), "application/octet-stream", bytes.NewReader(tinySystem(s.t.(*testing.T))))
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	if b, err := io.ReadAll(res.Body); err != nil || res.StatusCode != http.StatusOK || !strings.Contains(string(b), `"failed":0`) || s.srv.store.Snapshot().Image(model.ImageName(name)) == nil {
		s.t.Fatalf("import: %s, %v: %s", res.Status, err, b)
	}
}

func TestImage_is_imported_signed_checked_exported_and_removed(t *testing.T) {
	s := start(t, shortDir(t))
	s.add("r1n1", attr("net.boot.mac", "52:54:00:77:00:01"), attr("net.boot.address", "127.0.0.1"))
	s.importImage("compute")
	if i := s.srv.store.Snapshot().Image("compute"); i.Recipe != "import" || i.Tree.Digest == "" || i.Kernel != "6.1" {
		t.Errorf("got %+v", i)
	}
	_, b := s.get("/v1/images/compute/check?memory=1000")
	for _, want := range []string{"no Linux kernel", "no init", "of memory", "no driver of a network card"} {
		if !strings.Contains(string(b), want) {
			t.Errorf("check does not say %q: %s", want, b)
		}
	}
	if strings.Contains(string(b), "signature") || strings.Contains(string(b), "secrets") {
		t.Errorf("check says what is not: %s", b)
	}
	names := make(map[string]bool)
	_, b = s.get("/v1/images/compute/export")
	for r := tar.NewReader(bytes.NewReader(b)); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names[h.Name] = true
	}
	if !names["./etc/motd"] || !names["./usr/lib/muster/muster-node"] || names["./etc/ssh/ssh_host_rsa_key"] {
		t.Errorf("exported: %v", names)
	}
	if res, b := s.get("/v1/images/compute/export?format=zip"); res.StatusCode != http.StatusBadRequest || !strings.Contains(string(b), "There is: tar") {
		t.Errorf("an unknown format: %s %s", res.Status, b)
	}
	s.deploy("r1n1")
	s.must("/v1/deploy", api.Deploy{Range: api.Range{Range: "r1n1"}, None: true}, nil)

	// Somebody puts an image there that this site did not make.
	dir := s.srv.imageDir("compute")
	manifest := filepath.Join(dir, image.ManifestFile)
	text, err := os.ReadFile(manifest)
	if err != nil {
		t.Fatal(err)
	}
	m, err := image.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	forged := strings.Replace(string(text), m.Signature, strings.Repeat("A", 86)+"==", 1)
	if err := os.WriteFile(manifest, []byte(forged), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := s.asks("/v1/deploy", api.Deploy{Range: api.Range{Range: "r1n1"}, Image: "compute"}); err == nil || !strings.Contains(err.Error(), "is not signed by this site") {
		t.Errorf("deploy of a forged image: %v", err)
	}
	if _, b := s.get("/v1/images/compute/check"); !strings.Contains(string(b), "is not signed by this site") {
		t.Errorf("check of a forged image: %s", b)
	}
	if err := s.client.Do(t.Context(), "DELETE", "/v1/images/compute", nil, nil); err != nil {
		t.Fatal(err)
	}
	if size := s.srv.chunks.Size(); size.Chunks != 0 {
		t.Errorf("after the last image was removed there are left: %+v", size)
	}
}
