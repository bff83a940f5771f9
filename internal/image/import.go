package image

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/klauspost/compress/zstd"

	"muster/internal/image/rootfs"
)

// importRecipe is what becomes of a tree that somebody else made: what one machine must not share with another goes, what muster needs
// comes. No unit is masked.
func importRecipe(source string) Recipe {
	r := Recipes()[0]
	return Recipe{Name: "import", Suite: source, Drop: identityDrop, Modules: r.Modules, Load: r.Load, Squashfs: r.Squashfs}
}

// Import makes an image of a tree in a file: a tar, plain or compressed, an OCI layout in a tar, or a squashfs. o.Source says where it
// came from, for people; packages and mirror of o are not used. When it returns an error, what was there before is unchanged. The error
// is a [*StepError] where a step is at fault.
func Import(ctx context.Context, o Options, from *os.File) (*Manifest, error) {
	source := o.Source
	o.Packages, o.Mirror = nil, ""
	if err := o.check(); err != nil {
		return nil, &OptionsError{err}
	}
	b, err := o.start(importRecipe(source))
	if err != nil {
		return nil, err
	}
	return b.all(ctx, []step{
		{"tree", func(ctx context.Context, s *Step) error { return b.importTree(ctx, s, from) }},
		{"kernel", b.kernel},
		{"initramfs", b.initramfs},
		{"root", b.root},
	})
}

func (b *build) importTree(ctx context.Context, s *Step, from *os.File) error {
	work, err := os.MkdirTemp(b.o.Cache, ".build-import-")
	if err != nil {
		return err
	}
	unlock, err := lock(work)
	if err != nil {
		return err
	}
	defer unlock()
	defer os.RemoveAll(work)
	put, kind, err := b.opened(ctx, from, work)
	if err != nil {
		return err
	}
	s.Text = "from " + kind
	return b.take(ctx, s, b.now(), put)
}

// opened finds out what a file is and returns how its tree is put into the chunks.
func (b *build) opened(ctx context.Context, from *os.File, work string) (put func() (rootfs.Tree, error), kind string, err error) {
	switch kind, err := kindOf(from); {
	case err != nil:
		return nil, "", err
	case kind == "squashfs":
		return func() (rootfs.Tree, error) {
			dir := filepath.Join(work, "root")
			file := filepath.Join(work, "squashfs")
			if err := spoolTo(file, from); err != nil {
				return nil, err
			}
			if err := b.run(ctx, nil, nil, nil, "unsquashfs", "-no-progress", "-quiet", "-d", dir, file); err != nil {
				return nil, err
			}
			return rootfs.Put(ctx, b.writer, dir, rootfs.PutOptions{})
		}, kind, nil
	case kind == "oci":
		dir := filepath.Join(work, "oci")
		return func() (rootfs.Tree, error) {
			r, err := b.decompress(ctx, from)
			if err != nil {
				return nil, err
			}
			if err := untarBlobs(r, dir); err != nil {
				return nil, err
			}
			img, err := ociImage(dir)
			if err != nil {
				return nil, err
			}
			flat := mutate.Extract(img)
			defer flat.Close()
			return rootfs.PutTar(ctx, b.writer, flat)
		}, "an OCI layout", nil
	default:
		return func() (rootfs.Tree, error) {
			r, err := b.decompress(ctx, from)
			if err != nil {
				return nil, err
			}
			return rootfs.PutTar(ctx, b.writer, r)
		}, "a tar", nil
	}
}

// foreign are files that no tree can be read from here, by what stands where, with what to do about it.
var foreign = []struct {
	at    int
	magic string
	what  string
	do    string
}{
	{0, "QFI\xfb", "a qcow2 disk", "Mount it (qemu-nbd, guestmount) and import the directory"},
	{32769, "CD001", "an ISO", "Mount it and import the squashfs that is in it"},
	{510, "\x55\xaa", "a disk", "Mount its root (losetup -P) and import the directory"},
	{1080, "\x53\xef", "an ext4 file system", "Mount it and import the directory"},
	{0, "XFSB", "an XFS file system", "Mount it and import the directory"},
}

// kindOf tells what a file is: "squashfs", "oci" or "tar".
func kindOf(f *os.File) (string, error) {
	head := make([]byte, 32776)
	n, err := f.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	head = head[:n]
	if bytes.HasPrefix(head, []byte("hsqs")) {
		return "squashfs", nil
	}
	isTar := n >= 262 && string(head[257:262]) == "ustar"
	for _, o := range foreign {
		if !isTar && len(head) >= o.at+len(o.magic) && string(head[o.at:o.at+len(o.magic)]) == o.magic {
			return "", fmt.Errorf("the file is %s, of which no tree is made here. %s", o.what, o.do)
		}
	}
	if isTar {
		oci, err := hasOCI(io.NewSectionReader(f, 0, 1<<62))
		if oci {
			return "oci", err
		}
		return "tar", err
	}
	if compression(head) == "" {
		return "", errors.New("the file is neither a tar (plain, gzip, zstd, xz, bzip2) nor a squashfs nor an OCI layout")
	}
	return "tar", nil
}

// hasOCI tells whether a tar is an OCI layout (image-spec, image-layout.md): it has the file "oci-layout" at its top.
func hasOCI(r io.Reader) (bool, error) {
	// Its entries are few; a root's are many, and the file is not behind the first of its folders.
	for t, n := tar.NewReader(r), 0; n < 1000; n++ {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("tar: %w", err)
		}
		if path.Clean("/"+h.Name) == "/oci-layout" {
			return true, nil
		}
	}
	return false, nil
}

// compression names how a file is compressed, by its first bytes; "" for not at all, or in a way that is not known.
func compression(head []byte) string {
	for magic, name := range map[string]string{"\x1f\x8b": "gzip", "\x28\xb5\x2f\xfd": "zstd", "\xfd7zXZ\x00": "xz", "BZh": "bzip2"} {
		if bytes.HasPrefix(head, []byte(magic)) {
			return name
		}
	}
	return ""
}

// decompress reads a file from its beginning, unpacked.
func (b *build) decompress(ctx context.Context, f *os.File) (io.Reader, error) {
	r := bufio.NewReaderSize(io.NewSectionReader(f, 0, 1<<62), 1<<20)
	head, err := r.Peek(6)
	if err != nil {
		return nil, err
	}
	switch compression(head) {
	case "gzip":
		return gzip.NewReader(r)
	case "zstd":
		z, err := zstd.NewReader(r)
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	case "bzip2":
		return bzip2.NewReader(r), nil
	case "xz":
		cmd := b.o.Command(ctx, "xz", "-dc")
		cmd.Stdin = r
		pr, pw := io.Pipe()
		cmd.Stdout = pw
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		go func() {
			err := cmd.Wait()
			if err != nil {
				err = fmt.Errorf("xz: %w", err)
			}
			pw.CloseWithError(err)
		}()
		return pr, nil
	}
	return r, nil
}

func spoolTo(file string, from *os.File) error {
	return writeFile(file, func(w io.Writer) error {
		_, err := io.Copy(w, io.NewSectionReader(from, 0, 1<<62))
		return err
	})
}

// untarBlobs unpacks the plain files of a layout. What else is in the tar has no business there.
func untarBlobs(r io.Reader, dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for t := tar.NewReader(r); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("tar: %w", err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		name := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
		if err := root.MkdirAll(path.Dir(name), 0o700); err != nil {
			return err
		}
		f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, t)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
}

// ociImage finds the image for this architecture in a layout; the digests of what is read are checked as it is read.
func ociImage(dir string) (v1.Image, error) {
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, fmt.Errorf("OCI layout: %w", err)
	}
	return imageOf(index, 0)
}

func imageOf(index v1.ImageIndex, depth int) (v1.Image, error) {
	m, err := index.IndexManifest()
	if err != nil {
		return nil, fmt.Errorf("OCI index: %w", err)
	}
	var others []string
	for _, d := range m.Manifests {
		if p := d.Platform; p != nil && (p.OS != "linux" || p.Architecture != "amd64") {
			others = append(others, p.OS+"/"+p.Architecture)
			continue
		}
		if d.MediaType.IsIndex() && depth < 4 {
			sub, err := index.ImageIndex(d.Digest)
			if err != nil {
				return nil, fmt.Errorf("OCI index: %w", err)
			}
			return imageOf(sub, depth+1)
		}
		if d.MediaType.IsImage() {
			return index.Image(d.Digest)
		}
	}
	return nil, fmt.Errorf("the OCI layout has no image for linux/amd64; it has: %s", strings.Join(append(others, "nothing"), ", "))
}
