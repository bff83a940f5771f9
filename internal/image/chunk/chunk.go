// Package chunk keeps content by its digest: each piece once, compressed, and never given out unless it is what its name says.
//
//	plain ──▶ SHA-256 = Digest ──▶ zstd ──▶ appended to a pack ──▶ sync, rename
//
//	DIR/lock               held shared by writers, exclusively by Collect
//	    .new-…             a pack that is being written; nobody's after kill -9, removed by Collect
//	    SHA256.pack        named by the digest of its own index:
//
//	        "musterP1"                               8 bytes
//	        zstd frames, one a chunk
//	        index: digest 32, offset 8, packed 4, plain 4 bytes (big endian), one a chunk
//	        entries of the index 4, offset of the index 8, "musterP1"
//
// An operating system has some ten thousand files, most of them small. As a file each they would cost a system call each and a sync
// each, so they lie in packs of some 64 MB: one sync, one rename. A chunk is there when the pack that holds it has its name.
//
// Safe beside others: who writes holds the lock shared from his first question ("is it there?") until his manifest lies on the disk;
// [Store.Collect] waits for all writers and keeps new ones waiting. Locks end with their process. Readers hold none: what they have
// open stays with them.
package chunk

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"

	"github.com/restic/chunker"
)

// Digest is the SHA-256 of a chunk's plain content.
type Digest [sha256.Size]byte

// Sum is the digest of content.
func Sum(plain []byte) Digest { return sha256.Sum256(plain) }

// String prints 64 hex digits.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// Compare orders digests by their bytes.
func (d Digest) Compare(e Digest) int { return bytes.Compare(d[:], e[:]) }

// ParseDigest reads 64 hex digits in lower case, and nothing else: a digest has one spelling.
func ParseDigest(s string) (Digest, error) {
	var d Digest
	if len(s) != 2*len(d) {
		return d, fmt.Errorf("%q is no digest: want 64 hex digits", s)
	}
	if _, err := hex.Decode(d[:], []byte(s)); err != nil || d.String() != s {
		return d, fmt.Errorf("%q is no digest: want 64 hex digits in lower case", s)
	}
	return d, nil
}

// Sizes of chunks, bytes of plain content. A file up to MinSize is one chunk; longer ones are cut where their content says so.
const (
	MinSize     = 256 << 10
	MaxSize     = 4 << 20
	averageBits = 19 // a cut every 512 KiB after MinSize, in the mean
)

// polynomial of the rolling hash. It is a constant for ever: with another one nothing that is cut anew is found again.
const polynomial = chunker.Pol(0x3DA3358B4DC173)

// A Cutter cuts content into chunks at places that depend on the content around them only, so that an insertion moves no cut but its
// own. It is for one goroutine and may be used again.
type Cutter struct{ c *chunker.Chunker }

// Cut calls each for every chunk of r in order. The bytes are the caller's: each comes in a buffer that buffer gave.
func (c *Cutter) Cut(r io.Reader, buffer func() []byte, each func(plain []byte) error) error {
	if c.c == nil {
		c.c = chunker.New(r, polynomial, chunker.WithBoundaries(MinSize, MaxSize), chunker.WithAverageBits(averageBits))
	} else {
		c.c.Reset(r, polynomial, chunker.WithBoundaries(MinSize, MaxSize), chunker.WithAverageBits(averageBits))
	}
	for {
		part, err := c.c.Next(buffer())
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := each(part.Data); err != nil {
			return err
		}
	}
}

// DamagedError is a chunk whose stored form does not give what its digest names, or a pack whose index is not what its name says.
type DamagedError struct {
	Digest Digest // zero for a whole pack
	Where  string // the pack's file, or the address it came from
	Why    string
}

func (e *DamagedError) Error() string {
	if e.Digest == (Digest{}) {
		return fmt.Sprintf("%s is damaged: %s", e.Where, e.Why)
	}
	return fmt.Sprintf("chunk %s in %s is damaged: %s", e.Digest, e.Where, e.Why)
}

// MissingError is a chunk that is not there.
type MissingError struct {
	Digest Digest
	Where  string
}

func (e *MissingError) Error() string { return fmt.Sprintf("chunk %s is not in %s", e.Digest, e.Where) }
