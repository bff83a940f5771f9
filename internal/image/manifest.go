package image

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"muster/internal/model"
)

// Manifest says all about one build. Digest names it: it is the SHA-256 of the manifest itself without the digest, and
// since the manifest holds the digest of every other file, it covers the whole image.
type Manifest struct {
	Format   int             `json:"format"` // 1
	Name     model.ImageName `json:"name"`
	Built    time.Time       `json:"built"`
	Tool     string          `json:"tool"`
	Recipe   string          `json:"recipe"`
	Suite    string          `json:"suite"`
	Kernel   string          `json:"kernel"` // release, as uname -r prints it
	Files    []model.File    `json:"files"`
	Packages []Package       `json:"packages"`
	Digest   string          `json:"digest,omitempty"`
	// Signature is the site's, of the digest: ed25519, in base64. It tells an image of this site from one that somebody put there.
	Signature string `json:"signature,omitempty"`
}

// signed is what a signature of a manifest is made of: nothing else that the key signs begins so.
func (m *Manifest) signed() []byte { return []byte("muster image manifest\x00" + m.Digest) }

// sign signs the manifest, whose digest is there.
func (m *Manifest) sign(key ed25519.PrivateKey) {
	m.Signature = base64.StdEncoding.EncodeToString(ed25519.Sign(key, m.signed()))
}

// Verify checks the signature with the site's key. An image without one is of an older muster, or of elsewhere.
func (m *Manifest) Verify(key ed25519.PublicKey) error {
	if m.Signature == "" {
		return fmt.Errorf("image %s is not signed", m.Name)
	}
	if b, err := base64.StdEncoding.DecodeString(m.Signature); err != nil || !ed25519.Verify(key, m.signed(), b) {
		return fmt.Errorf("image %s is not signed by this site", m.Name)
	}
	return nil
}

const manifestFormat = 1

// digest computes the manifest's own digest.
func (m Manifest) digest() (string, error) {
	m.Digest, m.Signature = "", ""
	b, err := json.Marshal(m)
	if err != nil {
		return "", err
	}
	return sum(b), nil
}

// File returns a file of the image by name.
func (m *Manifest) File(name string) (model.File, bool) {
	for _, f := range m.Files {
		if f.Name == name {
			return f, true
		}
	}
	return model.File{}, false
}

// Image is the image as the managers know it.
func (m *Manifest) Image() *model.Image {
	img := &model.Image{Name: m.Name, Digest: m.Digest, Built: m.Built, Kernel: m.Kernel, Recipe: m.Recipe}
	img.Kernelf, _ = m.File(KernelFile)
	img.Initrd, _ = m.File(InitrdFile)
	img.Root, _ = m.File(RootFile)
	img.Tree, _ = m.File(TreeFile)
	img.Size = img.Root.Size
	return img
}

// Load reads the manifest of an image directory. It checks the manifest, not the files: see [Check]. No manifest is an
// error that is fs.ErrNotExist.
func Load(dir string) (*Manifest, error) {
	b, err := os.ReadFile(filepath.Join(dir, ManifestFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is no image: %w", dir, err)
	}
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", filepath.Base(dir), err)
	}
	m := new(Manifest)
	if err := json.Unmarshal(b, m); err != nil {
		return nil, fmt.Errorf("image %s: %s is damaged: %w. Build the image again", filepath.Base(dir), ManifestFile, err)
	}
	if m.Format != manifestFormat {
		return nil, fmt.Errorf("image %s: its manifest has form %d, this muster reads %d. Build the image again", filepath.Base(dir), m.Format, manifestFormat)
	}
	want, err := m.digest()
	if err != nil {
		return nil, err
	}
	if m.Digest != want {
		return nil, fmt.Errorf("image %s: %s was changed after the build: it names itself %s and is %s. Build the image again", filepath.Base(dir), ManifestFile, m.Digest, want)
	}
	for _, name := range []string{KernelFile, InitrdFile, RootFile} {
		if _, ok := m.File(name); !ok {
			return nil, fmt.Errorf("image %s: its manifest names no %s. Build the image again", filepath.Base(dir), name)
		}
	}
	return m, nil
}

// Check compares every file of an image directory with the manifest and returns every problem, each one line that names
// its file. No problems is an empty slice.
func Check(dir string) []string {
	m, err := Load(dir)
	if err != nil {
		return []string{err.Error()}
	}
	var problems []string
	known := map[string]bool{ManifestFile: true}
	for _, f := range m.Files {
		known[f.Name] = true
		switch got, err := describe(filepath.Join(dir, f.Name)); {
		case errors.Is(err, fs.ErrNotExist):
			problems = append(problems, f.Name+": the file is missing")
		case err != nil:
			problems = append(problems, f.Name+": "+err.Error())
		case got.Size != f.Size:
			problems = append(problems, fmt.Sprintf("%s: has %d bytes, the manifest says %d", f.Name, got.Size, f.Size))
		case got.Digest != f.Digest:
			problems = append(problems, fmt.Sprintf("%s: is %s, the manifest says %s", f.Name, got.Digest, f.Digest))
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		problems = append(problems, err.Error())
	}
	for _, e := range entries {
		if !known[e.Name()] {
			problems = append(problems, e.Name()+": the manifest does not name this file")
		}
	}
	return problems
}

// describe gives a file's name, size and digest.
func describe(path string) (model.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return model.File{}, err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.CopyBuffer(struct{ io.Writer }{h}, f, make([]byte, 1<<20))
	if err != nil {
		return model.File{}, err
	}
	return model.File{Name: filepath.Base(path), Digest: "sha256:" + hex.EncodeToString(h.Sum(nil)), Size: n}, nil
}

func sum(b []byte) string {
	h := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(h[:])
}
