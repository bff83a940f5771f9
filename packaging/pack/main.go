// Command pack compresses a file for embedding: pack IN OUT. The output is replaced only when its content changes, so that
// the build cache holds.
package main

import (
	"bytes"
	"fmt"
	"os"

	"github.com/klauspost/compress/zstd"

	"muster/internal/durable"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: pack IN OUT")
		os.Exit(2)
	}
	if err := pack(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "pack:", err)
		os.Exit(1)
	}
}

func pack(in, out string) error {
	b, err := os.ReadFile(in)
	if err != nil {
		return err
	}
	w, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedDefault))
	if err != nil {
		return err
	}
	packed := w.EncodeAll(b, nil)
	if old, err := os.ReadFile(out); err == nil && bytes.Equal(old, packed) {
		return nil
	}
	return durable.WriteFile(out, packed, 0o644) // whole: another build may be reading it
}
