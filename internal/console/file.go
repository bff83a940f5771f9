package console

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// A record is a row of files, each named by the time it was begun and the position of its first byte in the console's stream:
// STAMP-POSITION.log with the bytes, or .log.zst when it is closed and compressed, and .idx with the blocks.
const stamp = "20060102T150405.000Z"

type file struct {
	name   string // without extension
	base   int64  // position of the first byte
	start  time.Time
	packed bool // .log.zst
}

func fileName(start time.Time, base int64) string {
	return fmt.Sprintf("%s-%016x", start.UTC().Format(stamp), base)
}

func parseFileName(name string) (f file, ok bool) {
	base, found := strings.CutSuffix(name, ".log")
	if !found {
		if base, found = strings.CutSuffix(name, ".log.zst"); !found {
			return f, false
		}
		f.packed = true
	}
	s, hex, found := strings.Cut(base, "-")
	pos, err := strconv.ParseInt(hex, 16, 64)
	start, err2 := time.Parse(stamp, s)
	if !found || pos < 0 || err != nil || err2 != nil || fileName(start, pos) != base {
		return f, false
	}
	f.name, f.base, f.start = base, pos, start
	return f, true
}

// files lists the record of a node, oldest first; none is no error.
func files(root *os.Root, node string) ([]file, error) {
	d, err := root.Open(node)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var out []file
	for _, n := range names {
		if f, ok := parseFileName(n); ok {
			out = append(out, f)
		}
	}
	slices.SortFunc(out, func(a, b file) int {
		switch {
		case a.base != b.base:
			return int(min(1, max(-1, a.base-b.base)))
		case a.packed != b.packed && a.name == b.name: // a crash between compressing and removing: the plain one counts
			if a.packed {
				return 1
			}
			return -1
		}
		return a.start.Compare(b.start)
	})
	return slices.CompactFunc(out, func(a, b file) bool { return a.name == b.name }), nil
}

func readAll(root *os.Root, name string) ([]byte, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

// content reads the bytes of a file, compressed or not; it may have been compressed since it was listed.
func (f file) content(root *os.Root, node string) ([]byte, error) {
	if !f.packed {
		b, err := readAll(root, node+"/"+f.name+".log")
		if !errors.Is(err, fs.ErrNotExist) {
			return b, err
		}
	}
	r, err := root.Open(node + "/" + f.name + ".log.zst")
	if err != nil {
		return nil, err
	}
	defer r.Close()
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	defer z.Close()
	return io.ReadAll(z)
}

// load reads a file with its blocks. Bytes that no block describes (torn off before the index was written) get a block
// with the time of the last one.
func (f file) load(root *os.Root, node string) (text []byte, blocks []block, err error) {
	if text, err = f.content(root, node); err != nil {
		return nil, nil, err
	}
	idx, err := readAll(root, node+"/"+f.name+".idx")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	blocks, _ = parseIndex(idx)
	for i, b := range blocks {
		if b.pos < f.base || b.end() > f.base+int64(len(text)) {
			blocks = blocks[:i]
			break
		}
	}
	end, at := f.base, f.start.UnixMilli()
	if n := len(blocks); n > 0 {
		end, at = blocks[n-1].end(), blocks[n-1].time+blocks[n-1].last().at
	}
	if rest := text[end-f.base:]; len(rest) > 0 {
		blocks = append(blocks, plainBlock(end, at, rest))
	}
	return text, blocks, nil
}

// plainBlock describes bytes of which only the time of the first is known.
func plainBlock(pos, at int64, text []byte) block {
	n := int64(len(text))
	return block{pos: pos, n: n, time: at, sum: crc32.Checksum(text, castagnoli), entries: appendEntry(nil, entry{n: n})}
}

// tail is the newest file of a node's record, where bytes are added. It holds no open file: a hub has more consoles
// than a process may have files.
type tail struct {
	root *os.Root
	dir  func() (int, error) // a descriptor of root, open as long as the hub
	node string

	name   string // "" before the first byte
	base   int64
	size   int64 // indexed bytes
	idx    int64 // valid bytes of the index
	start  time.Time
	last   int64 // Unix milliseconds of the newest entry, 0 when there is none
	closed bool  // the record ends with an ending mark
}

func (t *tail) end() int64 { return t.base + t.size }

// openTail finds the end of a node's record. What the index does not describe is left for the journal or adopt.
func (r *recorder) openTail(node string) (*tail, error) {
	root := r.h.root
	t := &tail{root: root, dir: r.dir, node: node}
	list, err := files(root, node)
	if err != nil || len(list) == 0 {
		return t, err
	}
	f := list[len(list)-1]
	if f.packed { // only by hand; go on behind it
		text, blocks, err := f.load(root, node)
		if err != nil {
			return nil, err
		}
		t.base = f.base + int64(len(text))
		t.note(blocks)
		return t, nil
	}
	t.name, t.base, t.start = f.name, f.base, f.start
	idx, err := readAll(root, t.path(".idx"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	info, err := root.Stat(t.path(".log"))
	if err != nil {
		return nil, err
	}
	blocks, valid := parseIndex(idx)
	for n := len(blocks); n > 0 && blocks[n-1].end() > t.base+info.Size(); n = len(blocks) {
		blocks = blocks[:n-1] // a power cut kept the index and lost the bytes
		valid = indexLen(blocks)
	}
	t.idx = int64(valid)
	if n := len(blocks); n > 0 {
		t.size = blocks[n-1].end() - t.base
	}
	t.note(blocks)
	return t, nil
}

func indexLen(blocks []block) (n int) {
	for _, b := range blocks {
		n += len(appendFrame(nil, appendBlock(nil, b)))
	}
	return n
}

func (t *tail) note(blocks []block) {
	if n := len(blocks); n > 0 {
		e := blocks[n-1].last()
		t.last, t.closed = blocks[n-1].time+e.at, e.kind == ending
	}
}

// adopt describes the bytes behind the last block, which a killed predecessor wrote and did not index.
func (t *tail) adopt() error {
	if t.name == "" {
		return nil
	}
	f, err := t.root.Open(t.path(".log"))
	if err != nil {
		return err
	}
	defer f.Close()
	rest, err := io.ReadAll(io.NewSectionReader(f, t.size, 1<<40))
	if err != nil || len(rest) == 0 {
		return err
	}
	return t.index(plainBlock(t.end(), max(t.last, t.start.UnixMilli()), rest))
}

func (t *tail) path(ext string) string { return t.node + "/" + t.name + ext }

// begin makes a new file for the byte at position pos.
func (t *tail) begin(pos int64, now time.Time) error {
	if err := t.root.Mkdir(t.node, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	t.name, t.base, t.size, t.idx, t.start = fileName(now, pos), pos, 0, 0, now
	f, err := t.root.OpenFile(t.path(".log"), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		t.name = ""
		return err
	}
	return f.Close()
}

// sync puts the file on stable storage; it is called before the record goes on in another one.
func (t *tail) sync() error {
	for _, ext := range []string{".log", ".idx"} {
		f, err := t.root.Open(t.path(ext))
		if err != nil {
			return err
		}
		err = f.Sync()
		f.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// add writes a block's bytes at their place, and then the block. It may be repeated. Bytes that are there already are
// passed over; a block behind the end begins a new file, and readers tell of the gap.
func (t *tail) add(b block, text []byte) error {
	if b.end() <= t.end() {
		return nil
	}
	if b.pos < t.end() {
		text = text[t.end()-b.pos:]
		b = plainBlock(t.end(), b.time, text)
	}
	if t.name == "" || b.pos > t.end() {
		if err := t.begin(b.pos, time.UnixMilli(b.time)); err != nil {
			return err
		}
	}
	if err := t.write(".log", text, b.pos-t.base); err != nil {
		return err
	}
	return t.index(b)
}

func (t *tail) index(b block) error {
	p := appendFrame(nil, appendBlock(nil, b))
	if err := t.write(".idx", p, t.idx); err != nil {
		return err
	}
	t.idx += int64(len(p))
	t.size = b.end() - t.base
	t.note([]block{b})
	return nil
}

// write opens the file for one write: openat2 does it with one call where os.Root needs six, and like it leaves neither the
// directory nor follows a link. This is most of what a talking console costs.
func (t *tail) write(ext string, p []byte, at int64) error {
	d, err := t.dir()
	if err != nil {
		return err
	}
	how := unix.OpenHow{Flags: unix.O_WRONLY | unix.O_CREAT | unix.O_CLOEXEC, Mode: 0o600, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS}
	fd, err := unix.Openat2(d, t.path(ext), &how)
	if err != nil {
		return &fs.PathError{Op: "openat2", Path: t.path(ext), Err: err}
	}
	for len(p) > 0 && err == nil {
		var n int
		n, err = unix.Pwrite(fd, p, at)
		p, at = p[max(0, n):], at+int64(max(0, n))
		if errors.Is(err, unix.EINTR) {
			err = nil
		}
	}
	if err = errors.Join(err, unix.Close(fd)); err != nil {
		return &fs.PathError{Op: "write", Path: t.path(ext), Err: err}
	}
	return nil
}
