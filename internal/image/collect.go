package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"muster/internal/image/chunk"
	"muster/internal/image/rootfs"
)

// Tree reads the tree of an image directory. An image of before there were trees has none: that is fs.ErrNotExist.
func Tree(dir string) (rootfs.Tree, error) {
	t, err := rootfs.ReadFile(filepath.Join(dir, TreeFile))
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", filepath.Base(dir), err)
	}
	return t, nil
}

// Collect gives back the space of chunks that no image below dir needs any more. It waits for builds that write chunks, as long as ctx
// lasts. A tree that cannot be read ends it: what it would keep is not known.
func Collect(ctx context.Context, dir string, s *chunk.Store) (chunk.Freed, error) {
	return s.Collect(ctx, func(keep func(chunk.Digest)) error {
		images, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, i := range images {
			// A hidden directory is of a build that has not begun to write chunks, or was killed.
			if !i.IsDir() || strings.HasPrefix(i.Name(), ".") {
				continue
			}
			t, err := Tree(filepath.Join(dir, i.Name()))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return fmt.Errorf("%w. Build the image again, or remove it", err)
			}
			t.Chunks(func(d chunk.Digest, _ int64) { keep(d) })
		}
		return nil
	})
}
