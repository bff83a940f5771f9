package console

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"iter"
	"os"
	"regexp"
	"slices"
	"time"

	"muster/internal/model"
)

// LogOptions choose a part of a record; the zero value is all of it.
type LogOptions struct {
	Since time.Time      // from the first output at or after; zero from the beginning
	Until time.Time      // up to the last output before; zero to the end
	Tail  int            // the last so many lines of that; 0 all
	Times bool           // begin each line with its time, RFC 3339 in UTC
	Grep  *regexp.Regexp // only lines that it matches without their escape sequences; Tail counts these
}

// Chunk is output that came together, to the millisecond. Mark says that it is muster's line and not the machine's.
type Chunk struct {
	Time time.Time
	Data []byte // not to be changed, and valid for good
	Mark bool
}

// Log reads the record of a node, also of one that is not there any more. Nodes without one are an error that matches
// ErrUnknown. The whole record is never in memory, a file of it is.
func (h *Hub) Log(node model.NodeName, o LogOptions) (io.ReadCloser, error) {
	from, to, err := h.extent(node)
	if err != nil {
		return nil, err
	}
	if o.Tail > 0 && o.Grep == nil {
		if from, err = h.tailStart(node, o, to); err != nil {
			return nil, h.readError(node, err)
		}
	}
	next, stop := iter.Pull2(h.chunks(string(node), from, to, o.Since, o.Until))
	all := &logReader{next: next, stop: stop, times: o.Times, fresh: true}
	if o.Grep == nil {
		return all, nil
	}
	return &grepReader{all: all, in: bufio.NewReaderSize(all, 4<<10), o: o}, nil
}

// Replay gives the record of a node between two times, either of which may be zero, with the times to play it by.
func (h *Hub) Replay(node model.NodeName, since, until time.Time) (iter.Seq2[Chunk, error], error) {
	from, to, err := h.extent(node)
	if err != nil {
		return nil, err
	}
	return h.chunks(string(node), from, to, since, until), nil
}

func (h *Hub) readError(node model.NodeName, err error) error {
	return &Error{"console log of " + string(node), err.Error(), "Look at the directory of the console record"}
}

// extent brings what is in memory to the file, and says where the record begins and ends now.
func (h *Hub) extent(node model.NodeName) (from, to int64, err error) {
	what := "console log of " + string(node)
	c := h.lookup(node)
	if h.root == nil || !validName(string(node)) || c == nil && !h.has(string(node)) {
		return 0, 0, &Error{what, noConsole, "Nothing was recorded of it; see: muster console list"}
	}
	if c == nil {
		return 0, 1 << 62, nil
	}
	c.wake() // who reads a record has it written
	if err := c.flush(false); err != nil {
		h.o.Log.Error("console record not written", "node", string(node), "error", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if to = c.flushed; to == 0 {
		to = 1 << 62 // not running yet: what is there
	}
	return 0, to, nil
}

func (h *Hub) has(node string) bool {
	_, err := h.root.Stat(node)
	return err == nil
}

// chunks walks a record from position from to position to.
func (h *Hub) chunks(node string, from, to int64, since, until time.Time) iter.Seq2[Chunk, error] {
	return func(yield func(Chunk, error) bool) {
		list, err := files(h.root, node)
		if err != nil {
			yield(Chunk{}, err)
			return
		}
		end := int64(-1)
		for i, f := range list {
			if i+1 < len(list) {
				if next := list[i+1]; next.base <= from || !since.IsZero() && next.start.Before(since) {
					continue
				}
			}
			if f.base >= to {
				return
			}
			text, blocks, err := f.load(h.root, node)
			if errors.Is(err, fs.ErrNotExist) {
				continue // retention took it meanwhile
			}
			if err != nil {
				yield(Chunk{}, err)
				return
			}
			if end >= 0 && f.base > end {
				if !yield(gap(f.start, fmt.Sprintf("%d bytes of the record are missing here", f.base-end)), nil) {
					return
				}
			}
			for _, b := range blocks {
				data := text[b.pos-f.base : b.end()-f.base]
				at := time.UnixMilli(b.time)
				if crc32.Checksum(data, castagnoli) != b.sum && !yield(gap(at, fmt.Sprintf("the next %d bytes do not match their checksum: the disk has changed them", b.n)), nil) {
					return
				}
				pos := b.pos
				for e := range b.all() {
					ch := Chunk{Time: time.UnixMilli(b.time + e.at), Data: data[:e.n:e.n], Mark: e.kind != output}
					lo, hi := max(0, from-pos), min(e.n, to-pos)
					data, pos = data[e.n:], pos+e.n
					if lo >= hi || ch.Time.Before(since) {
						continue
					}
					if !until.IsZero() && !ch.Time.Before(until) {
						return
					}
					if ch.Data = ch.Data[lo:hi]; !yield(ch, nil) {
						return
					}
				}
			}
			end = f.base + int64(len(text))
		}
	}
}

func gap(at time.Time, text string) Chunk {
	return Chunk{Time: at, Mark: true, Data: fmt.Appendf(nil, "\r\n[muster: %s %s]\r\n", at.Format(time.TimeOnly), text)}
}

// tailStart is the position where the last o.Tail lines before to begin.
func (h *Hub) tailStart(node model.NodeName, o LogOptions, to int64) (int64, error) {
	list, err := files(h.root, string(node))
	if err != nil {
		return 0, err
	}
	lines := 0
	var start int64
	for i := len(list) - 1; i >= 0; i-- {
		f := list[i]
		text, blocks, err := f.load(h.root, string(node))
		if errors.Is(err, fs.ErrNotExist) {
			return start, nil
		}
		if err != nil {
			return 0, err
		}
		limit := min(to-f.base, int64(len(text)))
		if !o.Until.IsZero() {
			limit = min(limit, before(blocks, o.Until)-f.base)
		}
		if limit < 0 {
			continue
		}
		text = text[:limit]
		if lines == 0 && len(text) > 0 && text[len(text)-1] != '\n' {
			lines++ // an unfinished last line counts
		}
		for {
			j := bytes.LastIndexByte(text, '\n')
			if j < 0 {
				break
			}
			if lines++; lines > o.Tail {
				return f.base + int64(j) + 1, nil
			}
			text = text[:j]
		}
		start = f.base
		if f.start.Before(o.Since) {
			break
		}
	}
	return start, nil
}

// before is the position behind the last byte that came before t.
func before(blocks []block, t time.Time) int64 {
	var pos int64
	for _, b := range blocks {
		pos = b.pos
		for e := range b.all() {
			if !time.UnixMilli(b.time + e.at).Before(t) {
				return pos
			}
			pos += e.n
		}
	}
	return pos
}

// readBefore reads up to n bytes of a node's record that end at position end.
func readBefore(root *os.Root, node string, end int64, n int) ([]byte, error) {
	list, err := files(root, node)
	if err != nil {
		return nil, err
	}
	var out []byte
	for i := len(list) - 1; i >= 0 && len(out) < n; i-- {
		f := list[i]
		if f.base >= end {
			continue
		}
		from := max(f.base, end-int64(n-len(out)))
		text, err := f.part(root, node, from, end)
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return nil, err
		}
		out = append(text, out...)
		end = f.base
	}
	return out, nil
}

// part reads the bytes [from, to) of a file, or less when it ends before.
func (f file) part(root *os.Root, node string, from, to int64) ([]byte, error) {
	if !f.packed {
		r, err := root.Open(node + "/" + f.name + ".log")
		if err == nil {
			defer r.Close()
			return io.ReadAll(io.NewSectionReader(r, from-f.base, to-from))
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	text, err := f.content(root, node)
	if err != nil {
		return nil, err
	}
	hi := min(int64(len(text)), to-f.base)
	return text[min(hi, from-f.base):hi], nil
}

// logReader turns chunks into bytes.
type logReader struct {
	next  func() (Chunk, error, bool)
	stop  func()
	times bool
	fresh bool // at the beginning of a line
	rest  []byte
	buf   []byte
}

func (l *logReader) Read(p []byte) (int, error) {
	for len(l.rest) == 0 {
		ch, err, ok := l.next()
		switch {
		case !ok:
			return 0, io.EOF
		case err != nil:
			return 0, err
		case l.times:
			l.rest = l.stamp(ch)
		default:
			l.rest = ch.Data
		}
	}
	n := copy(p, l.rest)
	l.rest = l.rest[n:]
	return n, nil
}

func (l *logReader) stamp(ch Chunk) []byte {
	l.buf = l.buf[:0]
	for line := range bytes.Lines(ch.Data) {
		if l.fresh {
			l.buf = ch.Time.UTC().AppendFormat(l.buf, "2006-01-02T15:04:05.000Z ")
		}
		l.buf = append(l.buf, line...)
		l.fresh = line[len(line)-1] == '\n'
	}
	return l.buf
}

func (l *logReader) Close() error {
	l.stop()
	return nil
}

// grepReader passes on the lines that match.
type grepReader struct {
	all  *logReader
	in   *bufio.Reader
	o    LogOptions
	rest []byte
	last [][]byte // with Tail: the newest matches
	over bool
	mid  bool // the piece before this one did not end its line
}

// stampSize is how long the time before a line is.
const stampSize = len("2006-01-02T15:04:05.000Z ")

func (g *grepReader) Read(p []byte) (int, error) {
	for len(g.rest) == 0 {
		if len(g.last) > 0 && g.over {
			g.rest, g.last = g.last[0], g.last[1:]
			continue
		}
		if g.over {
			return 0, io.EOF
		}
		line, err := g.line()
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		g.over = err != nil
		switch {
		case !g.matches(line):
		case g.o.Tail == 0:
			g.rest = line
		default:
			if len(g.last) == g.o.Tail {
				g.last = slices.Delete(g.last, 0, 1)
			}
			g.last = append(g.last, line)
		}
	}
	n := copy(p, g.rest)
	g.rest = g.rest[n:]
	return n, nil
}

// line reads the next line; of one without an end, 64 KiB at a time.
func (g *grepReader) line() (line []byte, err error) {
	for len(line) < ringMax {
		piece, err := g.in.ReadSlice('\n')
		line = append(line, piece...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
	return line, nil
}

func (g *grepReader) matches(line []byte) bool {
	if g.o.Times && !g.mid {
		line = line[min(stampSize, len(line)):]
	}
	g.mid = !bytes.HasSuffix(line, []byte("\n"))
	line = bytes.TrimRight(line, "\r\n")
	if bytes.IndexByte(line, 0x1b) >= 0 {
		line = plainText(line)
	}
	return len(line) > 0 && g.o.Grep.Match(line)
}

func (g *grepReader) Close() error { return g.all.Close() }
