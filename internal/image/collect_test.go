package image

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"muster/internal/image/chunk"
)

func TestCollectKeepsWhatImagesNeed(t *testing.T) {
	o := options(t, good)
	if _, err := Build(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	o.Name, o.RootKeys = "second", []string{"ssh-ed25519 BBBB other@manager"}
	if _, err := Build(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	s, err := chunk.Open(o.Chunks)
	if err != nil {
		t.Fatal(err)
	}
	whole := func(image string) {
		t.Helper()
		tree, err := Tree(filepath.Join(o.Dir, image))
		if err != nil {
			t.Fatal(err)
		}
		tree.Chunks(func(d chunk.Digest, _ int64) {
			if _, err := s.Get(t.Context(), d, nil); err != nil {
				t.Errorf("%s: %v", image, err)
			}
		})
	}
	if f, err := Collect(t.Context(), o.Dir, s); err != nil || f.Kept == 0 {
		t.Errorf("got %+v, %v", f, err)
	}
	whole("compute")
	whole("second")
	if err := os.RemoveAll(filepath.Join(o.Dir, "second")); err != nil {
		t.Fatal(err)
	}
	if f, err := Collect(t.Context(), o.Dir, s); err != nil || f.Chunks != 1 {
		t.Errorf("the other key: %+v, %v", f, err)
	}
	whole("compute")
	if err := os.WriteFile(filepath.Join(o.Dir, "compute", TreeFile), []byte("damaged"), 0o644); err != nil {
		t.Fatal(err)
	}
	before := s.Size()
	if _, err := Collect(t.Context(), o.Dir, s); err == nil || !strings.Contains(err.Error(), "image compute: tree.zst") || s.Size() != before {
		t.Errorf("with a damaged tree: %v", err)
	}
}
