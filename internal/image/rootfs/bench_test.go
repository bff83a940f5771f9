package rootfs

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"muster/internal/image/chunk"
	"muster/internal/need"
)

// BenchmarkTree takes a root and puts it back, beside tar and zstd -3 on the same files and disk. MUSTER_BENCH_ROOT names the root.
//
//	MUSTER_BENCH_ROOT=DIR go test -bench Tree -benchtime 3x ./internal/image/rootfs
func BenchmarkTree(b *testing.B) {
	root := os.Getenv("MUSTER_BENCH_ROOT")
	if root == "" {
		b.Skip("MUSTER_BENCH_ROOT names no directory")
	}
	need.Programs(b, "tar zstd", "tar", "zstd")
	work := b.TempDir()
	archive := filepath.Join(work, "root.tar.zst")
	s, err := chunk.Open(filepath.Join(work, "chunks"))
	if err != nil {
		b.Fatal(err)
	}
	var tree Tree
	shell := func(b *testing.B, text string) {
		b.Helper()
		if out, err := exec.Command("sh", "-c", text).CombinedOutput(); err != nil {
			b.Fatalf("%v: %s", err, out)
		}
	}
	again := func(b *testing.B, prepare, do func()) {
		b.Helper()
		for b.Loop() {
			b.StopTimer()
			prepare()
			b.StartTimer()
			do()
		}
	}
	to := filepath.Join(work, "to")
	empty := func() {
		if err := os.RemoveAll(to); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("warm", func(b *testing.B) {
		for b.Loop() {
			shell(b, fmt.Sprintf("tar -C %s -cf - . | cat > /dev/null", root))
		}
	})
	b.Run("capture/tar+zstd", func(b *testing.B) {
		again(b, func() { os.Remove(archive) }, func() {
			shell(b, fmt.Sprintf("tar --xattrs --xattrs-include='*' --numeric-owner -C %s -cf - . | zstd -3 -q -o %s && sync %s", root, archive, archive))
		})
	})
	b.Run("capture/muster", func(b *testing.B) {
		again(b, func() {
			if err := os.RemoveAll(filepath.Join(work, "chunks")); err != nil {
				b.Fatal(err)
			}
			if s, err = chunk.Open(filepath.Join(work, "chunks")); err != nil {
				b.Fatal(err)
			}
		}, func() {
			var added chunk.Size
			tree, added = put(b, s, root, PutOptions{})
			b.ReportMetric(float64(added.Packed)/1e6, "MB")
		})
	})
	b.Run("again/muster", func(b *testing.B) {
		for b.Loop() {
			put(b, s, root, PutOptions{})
		}
	})
	b.Run("restore/tar+zstd", func(b *testing.B) {
		again(b, empty, func() {
			shell(b, fmt.Sprintf("mkdir %s && zstd -dc %s | tar --xattrs --xattrs-include='*' --numeric-owner -xpf - -C %s", to, archive, to))
		})
	})
	b.Run("restore/muster", func(b *testing.B) {
		again(b, empty, func() {
			if err := Restore(b.Context(), tree, s, to, RestoreOptions{}); err != nil {
				b.Fatal(err)
			}
		})
	})
}
