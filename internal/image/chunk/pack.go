package chunk

import (
	"encoding/binary"
	"fmt"
	"os"
)

// The parts of a pack: see the package comment.
const (
	magic      = "musterP1"
	entrySize  = 32 + 8 + 4 + 4
	footerSize = 4 + 8 + len(magic)
	packSuffix = ".pack"
	newPrefix  = ".new-"
)

// place is where a chunk lies.
type place struct {
	pack   *pack
	offset int64
	packed uint32 // bytes as stored
	plain  uint32 // bytes of content
}

// pack is an open pack. Its file is closed when nobody can read from it any more, by the runtime: a reader may be in the midst of one
// that Collect has just removed.
type pack struct {
	name string // of the file
	file *os.File
	size int64
}

// appendEntry writes an entry of an index.
func appendEntry(b []byte, d Digest, p place) []byte {
	b = append(b, d[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(p.offset))
	b = binary.BigEndian.AppendUint32(b, p.packed)
	return binary.BigEndian.AppendUint32(b, p.plain)
}

// appendFooter ends a pack whose index of count entries begins at offset.
func appendFooter(b []byte, count int, offset int64) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(count))
	b = binary.BigEndian.AppendUint64(b, uint64(offset))
	return append(b, magic...)
}

// openPack opens a pack and calls each for every chunk in it.
func openPack(path, name string, each func(Digest, place)) (*pack, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	p := &pack{name: name, file: f}
	if err := p.read(each); err != nil {
		f.Close()
		return nil, err
	}
	return p, nil
}

func (p *pack) read(each func(Digest, place)) error {
	damaged := func(format string, args ...any) error {
		return &DamagedError{Where: p.name, Why: fmt.Sprintf(format, args...)}
	}
	info, err := p.file.Stat()
	if err != nil {
		return err
	}
	p.size = info.Size()
	if p.size < int64(len(magic)+footerSize) {
		return damaged("it has %d bytes, too few for a pack", p.size)
	}
	footer := make([]byte, footerSize)
	if _, err := p.file.ReadAt(footer, p.size-int64(footerSize)); err != nil {
		return err
	}
	count, offset := int64(binary.BigEndian.Uint32(footer)), int64(binary.BigEndian.Uint64(footer[4:]))
	if string(footer[12:]) != magic || offset < int64(len(magic)) || offset != p.size-int64(footerSize)-count*entrySize {
		return damaged("its end is not that of a pack: it may be cut off")
	}
	index := make([]byte, count*entrySize)
	if _, err := p.file.ReadAt(index, offset); err != nil {
		return err
	}
	if got := Sum(index).String() + packSuffix; got != p.name {
		return damaged("its index is not what its name says")
	}
	return parseIndex(index, offset, func(d Digest, at place) {
		at.pack = p
		each(d, at)
	})
}

// parseIndex calls each for every entry of an index; end is where the frames end.
func parseIndex(index []byte, end int64, each func(Digest, place)) error {
	for i := 0; len(index) >= entrySize; i++ {
		var d Digest
		copy(d[:], index)
		at := place{
			offset: int64(binary.BigEndian.Uint64(index[32:])),
			packed: binary.BigEndian.Uint32(index[40:]), plain: binary.BigEndian.Uint32(index[44:]),
		}
		if at.offset < int64(len(magic)) || at.offset > end || int64(at.packed) > end-at.offset || at.plain > MaxSize {
			return fmt.Errorf("entry %d of a pack's index lies outside of it", i)
		}
		each(d, at)
		index = index[entrySize:]
	}
	if len(index) != 0 {
		return fmt.Errorf("a pack's index has %d bytes after its last entry", len(index))
	}
	return nil
}
