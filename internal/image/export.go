package image

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"muster/internal/image/chunk"
	"muster/internal/image/rootfs"
)

// Formats of an export.
const (
	FormatTar      = "tar"      // the tree, with owners, attributes and devices
	FormatOCI      = "oci"      // an OCI layout of one layer, in a tar
	FormatSquashfs = "squashfs" // the compressed root as nodes without disk get it
)

// Formats are all of them.
var Formats = []string{FormatTar, FormatOCI, FormatSquashfs}

// Export writes the image in dir to w. Every chunk is verified on the way. work is a place for what does not fit into memory.
func Export(ctx context.Context, dir string, s *chunk.Store, format, work string, w io.Writer) error {
	switch format {
	case FormatSquashfs:
		f, err := os.Open(filepath.Join(dir, RootFile))
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(w, f)
		return err
	case FormatTar, FormatOCI:
	default:
		return fmt.Errorf("there is no format %q. There is: %s, %s, %s", format, FormatTar, FormatOCI, FormatSquashfs)
	}
	t, err := Tree(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("image %s is of an older muster and has no tree. Export it as %s, or build it again", filepath.Base(dir), FormatSquashfs)
	}
	if err != nil {
		return err
	}
	if format == FormatTar {
		return rootfs.WriteTar(ctx, w, t, s)
	}
	return exportOCI(ctx, t, s, work, w)
}

func exportOCI(ctx context.Context, t rootfs.Tree, s *chunk.Store, work string, w io.Writer) error {
	place, err := os.MkdirTemp(work, ".build-export-")
	if err != nil {
		return err
	}
	unlock, err := lock(place)
	if err != nil {
		return err
	}
	defer unlock()
	defer os.RemoveAll(place)
	plain := filepath.Join(place, "layer.tar")
	if err := writeFile(plain, func(w io.Writer) error { return rootfs.WriteTar(ctx, w, t, s) }); err != nil {
		return err
	}
	layer, err := tarball.LayerFromFile(plain, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return err
	}
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	if img, err = mutate.AppendLayers(img, layer); err != nil {
		return err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return err
	}
	config.OS, config.Architecture = "linux", "amd64"
	if img, err = mutate.ConfigFile(img, config); err != nil {
		return err
	}
	out := filepath.Join(place, "oci")
	p, err := layout.Write(out, empty.Index)
	if err != nil {
		return err
	}
	if err := p.AppendImage(img, layout.WithPlatform(v1.Platform{OS: "linux", Architecture: "amd64"})); err != nil {
		return err
	}
	a := tar.NewWriter(w)
	if err := a.AddFS(os.DirFS(out)); err != nil {
		return err
	}
	return a.Close()
}
