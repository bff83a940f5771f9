package console

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"iter"
)

// kind says what an entry of the index stands for.
type kind uint8

const (
	output kind = iota // bytes of the machine
	mark               // a line of ours: a gap, a reconnection
	ending             // the mark that closes a record properly; a record that ends otherwise was interrupted
	kinds
)

// entry is a run of bytes that came together: at is milliseconds after the block's time.
type entry struct {
	at   int64
	n    int64
	kind kind
}

// appendEntry encodes e: uvarint at<<2|kind, uvarint n. A line a second takes 4 bytes.
func appendEntry(dst []byte, e entry) []byte {
	dst = binary.AppendUvarint(dst, uint64(e.at)<<2|uint64(e.kind))
	return binary.AppendUvarint(dst, uint64(e.n))
}

// block describes consecutive bytes of a console's stream. Framed, it is the unit of the index beside a file; with the
// name and the bytes, the unit of the journal.
type block struct {
	pos     int64  // of the first byte
	n       int64  // number of bytes: the sum of the entries
	time    int64  // Unix milliseconds of the first byte
	sum     uint32 // CRC-32C of the bytes
	entries []byte
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (b block) end() int64 { return b.pos + b.n }

// all yields the entries of a block that decodeBlock has accepted.
func (b block) all() iter.Seq[entry] {
	return func(yield func(entry) bool) {
		for p := b.entries; len(p) > 0; {
			e, rest, ok := nextEntry(p)
			if !ok || !yield(e) {
				return
			}
			p = rest
		}
	}
}

// last returns the newest entry.
func (b block) last() (e entry) {
	for e = range b.all() {
	}
	return e
}

func nextEntry(p []byte) (e entry, rest []byte, ok bool) {
	head, a := binary.Uvarint(p)
	if a <= 0 {
		return e, nil, false
	}
	n, c := binary.Uvarint(p[a:])
	if c <= 0 || head>>2 > 1<<50 || n > 1<<40 || kind(head&3) >= kinds {
		return e, nil, false
	}
	return entry{at: int64(head >> 2), n: int64(n), kind: kind(head & 3)}, p[a+c:], true
}

// appendBlock encodes b without a frame.
func appendBlock(dst []byte, b block) []byte {
	dst = binary.AppendUvarint(dst, uint64(b.pos))
	dst = binary.AppendUvarint(dst, uint64(b.n))
	dst = binary.AppendVarint(dst, b.time)
	dst = binary.LittleEndian.AppendUint32(dst, b.sum)
	return append(dst, b.entries...)
}

var errBlock = errors.New("not a block of a console index")

// decodeBlock reads what appendBlock wrote; the entries share memory with p.
func decodeBlock(p []byte) (b block, err error) {
	pos, i := binary.Uvarint(p)
	if i <= 0 || pos > 1<<60 {
		return b, errBlock
	}
	n, j := binary.Uvarint(p[i:])
	if j <= 0 || n > 1<<40 {
		return b, errBlock
	}
	i += j
	t, j := binary.Varint(p[i:])
	if j <= 0 || len(p) < i+j+4 {
		return b, errBlock
	}
	i += j
	b = block{pos: int64(pos), n: int64(n), time: t, sum: binary.LittleEndian.Uint32(p[i:]), entries: p[i+4:]}
	var sum int64
	for rest := b.entries; len(rest) > 0; {
		e, r, ok := nextEntry(rest)
		if !ok {
			return block{}, errBlock
		}
		if sum += e.n; sum > b.n {
			return block{}, errBlock
		}
		rest = r
	}
	if sum != b.n {
		return block{}, errBlock
	}
	return b, nil
}

// frameMax bounds a frame, so that a damaged length is seen as damage.
const frameMax = 1 << 20

// appendFrame encodes payload: u32 length, u32 CRC-32C, payload; little endian.
func appendFrame(dst, payload []byte) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(payload)))
	dst = binary.LittleEndian.AppendUint32(dst, crc32.Checksum(payload, castagnoli))
	return append(dst, payload...)
}

// nextFrame takes one frame off p. It is not ok at the end and at a torn or damaged frame, which look the same from
// here: what follows cannot be trusted.
func nextFrame(p []byte) (payload, rest []byte, ok bool) {
	if len(p) < 8 {
		return nil, p, false
	}
	n := binary.LittleEndian.Uint32(p)
	if n == 0 || n > frameMax || len(p) < 8+int(n) {
		return nil, p, false
	}
	payload = p[8 : 8+n]
	if crc32.Checksum(payload, castagnoli) != binary.LittleEndian.Uint32(p[4:]) {
		return nil, p, false
	}
	return payload, p[8+n:], true
}

// parseIndex reads the blocks of an index file up to the first one that is torn, damaged or not in order; valid is the
// length of what was read.
func parseIndex(p []byte) (blocks []block, valid int) {
	rest := p
	for {
		payload, next, ok := nextFrame(rest)
		if !ok {
			break
		}
		b, err := decodeBlock(payload)
		if err != nil || len(blocks) > 0 && b.pos < blocks[len(blocks)-1].end() {
			break
		}
		blocks = append(blocks, b)
		rest = next
	}
	return blocks, len(p) - len(rest)
}

// appendJournal encodes one record of the journal: a frame of the node's name, the block and its bytes.
func appendJournal(dst []byte, node string, b block, text ...[]byte) []byte {
	start := len(dst)
	dst = append(dst, 0, 0, 0, 0, 0, 0, 0, 0)
	dst = binary.AppendUvarint(dst, uint64(len(node)))
	dst = append(dst, node...)
	at := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	dst = appendBlock(dst, b)
	binary.LittleEndian.PutUint32(dst[at:], uint32(len(dst)-at-4))
	for _, t := range text {
		dst = append(dst, t...)
	}
	payload := dst[start+8:]
	binary.LittleEndian.PutUint32(dst[start:], uint32(len(payload)))
	binary.LittleEndian.PutUint32(dst[start+4:], crc32.Checksum(payload, castagnoli))
	return dst
}

// decodeJournal reads the payload of a journal frame.
func decodeJournal(p []byte) (node string, b block, text []byte, err error) {
	n, i := binary.Uvarint(p)
	if i <= 0 || n > 253 || len(p) < i+int(n)+4 {
		return "", b, nil, errBlock
	}
	node, p = string(p[i:i+int(n)]), p[i+int(n):]
	size := binary.LittleEndian.Uint32(p)
	if p = p[4:]; uint64(size) > uint64(len(p)) {
		return "", b, nil, errBlock
	}
	if b, err = decodeBlock(p[:size]); err != nil {
		return "", b, nil, err
	}
	if text = p[size:]; int64(len(text)) != b.n || !validName(node) {
		return "", block{}, nil, errBlock
	}
	return node, b, text, nil
}
