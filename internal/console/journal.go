package console

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// The recorder brings the bytes of all consoles to the disk. A console's file is written rarely and in large pieces; what
// has arrived since stands in the journal, which is one sequential file for all consoles and is synced with every batch. When a
// segment of the journal is a minute old, the consoles that stand in it are written to their files, the file system is
// synced once, and the segment is removed.
const (
	journalDir = ".journal"
	segmentMax = 16 << 20
	segmentAge = time.Minute
	flushSize  = 8 << 10 // a console with this much is written to its file at the next batch
	flushSlice = 500     // consoles written to their files between two batches, so that no batch waits long
)

type recorder struct {
	h       *Hub
	kick    chan struct{} // capacity 1: a console has become dirty
	rotated chan closedFile
	lock    *os.File
	top     *os.File // the hub's directory

	mu    sync.Mutex // guards dirty
	dirty []*console

	work    sync.Mutex // guards what follows; held during a batch
	seg     *os.File
	segNum  uint64
	segSize int64
	segTime time.Time  // of the first record; zero for an empty segment
	pending []*console // have bytes in this segment that may not be in their files
	old     []*console // the same for the segments before
	oldSegs []uint64
	spare   []*console
	buf     []byte
	failing bool
}

// closedFile is a file that the record has left.
type closedFile struct{ node, name string }

// touch says that a console has bytes that the journal does not have.
func (r *recorder) touch(c *console) {
	r.mu.Lock()
	r.dirty = append(r.dirty, c)
	r.mu.Unlock()
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

// open locks the directory and brings the journal of a killed predecessor into the files.
func (r *recorder) open() error {
	root := r.h.root
	if err := root.Mkdir(journalDir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return &Error{"console record", err.Error(), "Give the service a directory that it may write"}
	}
	lock, err := root.OpenFile(journalDir+"/lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return &Error{"console record", err.Error(), "Give the service a directory that it may write"}
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		return &Error{"console record", "another process records into " + r.h.o.Dir, "Stop it, or give this one another directory"}
	}
	r.lock = lock
	if r.top, err = root.Open("."); err != nil {
		lock.Close()
		return &Error{"console record", err.Error(), "Give the service a directory that it may read"}
	}
	segs, err := r.segments()
	if err == nil {
		err = r.recover(segs)
	}
	if err == nil {
		if n := len(segs); n > 0 {
			r.segNum = segs[n-1]
		}
		err = r.nextSegment()
	}
	if err != nil {
		r.shut()
		return fmt.Errorf("console record in %s: %w", r.h.o.Dir, err)
	}
	return nil
}

// shut lets go what open took.
func (r *recorder) shut() {
	if r.seg != nil {
		r.seg.Close()
	}
	r.top.Close()
	r.lock.Close()
}

// dir is the descriptor that files are opened from.
func (r *recorder) dir() (int, error) {
	if r.top == nil {
		return 0, &Error{"console record", "it is not running", ""}
	}
	return int(r.top.Fd()), nil
}

func (r *recorder) segments() ([]uint64, error) {
	d, err := r.h.root.Open(journalDir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var out []uint64
	for _, n := range names {
		if v, err := strconv.ParseUint(n, 16, 64); err == nil && len(n) == 16 {
			out = append(out, v)
		}
	}
	slices.Sort(out)
	return out, nil
}

func segmentName(n uint64) string { return fmt.Sprintf("%s/%016x", journalDir, n) }

// recover adds what the journal has and the files have not. It may be cut and repeated.
func (r *recorder) recover(segs []uint64) error {
	tails := map[string]*tail{}
	for _, s := range segs {
		p, err := readAll(r.h.root, segmentName(s))
		if err != nil {
			return err
		}
		for {
			payload, rest, ok := nextFrame(p)
			if !ok {
				break // the end, or torn by the kill: what follows was never acknowledged
			}
			p = rest
			node, b, text, err := decodeJournal(payload)
			if err != nil {
				return fmt.Errorf("journal segment %016x was written by another version of muster: move it away", s)
			}
			t := tails[node]
			if t == nil {
				if t, err = r.openTail(node); err != nil {
					return err
				}
				tails[node] = t
			}
			if err := t.add(b, text); err != nil {
				return err
			}
		}
	}
	for _, t := range tails {
		if err := t.adopt(); err != nil {
			return err
		}
	}
	if err := r.syncAll(); err != nil {
		return err
	}
	return r.removeSegments(segs)
}

// syncAll puts everything on stable storage with one call instead of one for each file.
func (r *recorder) syncAll() error {
	if err := unix.Syncfs(int(r.top.Fd())); err != nil {
		return os.NewSyscallError("syncfs", err)
	}
	return nil
}

func (r *recorder) removeSegments(segs []uint64) error {
	for _, s := range segs {
		if err := r.h.root.Remove(segmentName(s)); err != nil {
			return err
		}
	}
	return nil
}

func (r *recorder) nextSegment() error {
	f, err := r.h.root.OpenFile(segmentName(r.segNum+1), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	d, err := r.h.root.Open(journalDir)
	if err == nil {
		err = d.Sync() // the name, too, survives a power cut
		d.Close()
	}
	if err != nil {
		f.Close()
		return err
	}
	if r.seg != nil {
		r.seg.Close()
	}
	r.seg, r.segNum, r.segSize, r.segTime = f, r.segNum+1, 0, time.Time{}
	return nil
}

// run writes batches until ctx ends. A hub whose consoles are silent sleeps.
func (r *recorder) run(ctx context.Context) {
	timer := time.NewTimer(segmentAge)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-r.kick:
			timer.Reset(r.h.o.Batch)
			select {
			case <-ctx.Done():
				return
			case <-timer.C:
			}
		}
		if err := r.batch(); err != nil && !r.failing {
			r.failing = true
			r.h.o.Log.Error("console record not written: the newest output is kept in memory only", "error", err)
		} else if err == nil && r.failing {
			r.failing = false
			r.h.o.Log.Info("console record is written again")
		}
		switch {
		case len(r.old) > 0 || len(r.oldSegs) > 0:
			timer.Reset(r.h.o.Batch) // go on with the next slice
		case !r.segTime.IsZero():
			timer.Reset(segmentAge)
		default:
			timer.Stop()
		}
	}
}

// batch writes what has arrived to the journal, syncs it, and does the flushes that are due.
func (r *recorder) batch() error {
	r.work.Lock()
	defer r.work.Unlock()
	r.mu.Lock()
	dirty := r.dirty
	r.dirty = r.spare[:0]
	r.mu.Unlock()
	defer func() {
		clear(dirty)
		r.spare = dirty[:0]
	}()

	var large []*console
	r.buf = r.buf[:0]
	var errs []error
	for _, c := range dirty {
		if size := r.journal(c); size >= flushSize {
			large = append(large, c)
		}
		if len(r.buf) > 1<<20 {
			errs = append(errs, r.write())
		}
	}
	errs = append(errs, r.write(), r.sync())
	if errors.Join(errs...) != nil { // the disk is full: all of it once more with the next batch
		for _, c := range dirty {
			c.rewind()
			r.touch(c)
		}
	}
	for _, c := range large {
		errs = append(errs, c.flush(false))
	}
	errs = append(errs, r.turn())
	if cap(r.buf) > 2<<20 {
		r.buf = nil
	}
	return errors.Join(errs...)
}

func (r *recorder) write() error {
	if len(r.buf) == 0 {
		return nil
	}
	if r.segTime.IsZero() {
		r.segTime = time.Now()
	}
	// What a failed write has torn is written over by the next one: it would hide what follows.
	n, err := r.seg.WriteAt(r.buf, r.segSize)
	r.buf = r.buf[:0]
	if err == nil {
		r.segSize += int64(n)
	}
	return err
}

func (r *recorder) sync() error {
	if r.segSize == 0 {
		return nil
	}
	return os.NewSyscallError("fdatasync", unix.Fdatasync(int(r.seg.Fd())))
}

// journal adds to the buffer what the journal does not have of a console. size is what its file does not have.
func (r *recorder) journal(c *console) (size int64) {
	var first bool
	if r.buf, size, first = c.journal(r.buf); first {
		r.pending = append(r.pending, c)
	}
	return size
}

// leave goes on in a new segment; the one left is removed by turn.
func (r *recorder) leave() error {
	left := r.segNum
	if err := r.nextSegment(); err != nil {
		return err
	}
	for _, c := range r.pending {
		c.mu.Lock()
		c.inSegment = false
		c.mu.Unlock()
	}
	r.old = append(r.old, r.pending...)
	r.oldSegs = append(r.oldSegs, left)
	clear(r.pending)
	r.pending = r.pending[:0]
	return nil
}

// turn moves the journal on: a slice of the old segments' consoles is written to their files; when none is left the
// segments go; and a full or old segment is left. A console whose file cannot be written goes into the present segment
// once more, so that one of them does not keep the journal growing.
func (r *recorder) turn() error {
	var errs []error
	if n := min(flushSlice, len(r.old)); n > 0 {
		for _, c := range r.old[:n] {
			if err := c.flush(false); err != nil {
				errs = append(errs, err)
				c.rewind()
				r.journal(c)
			}
		}
		if len(errs) > 0 {
			if err := errors.Join(r.write(), r.sync()); err != nil {
				return errors.Join(append(errs, err)...) // they stay on the list, and the segments with them
			}
		}
		r.old = slices.Delete(r.old, 0, n)
	}
	if len(r.old) == 0 && len(r.oldSegs) > 0 {
		if err := r.syncAll(); err != nil {
			return errors.Join(append(errs, err)...)
		}
		if err := r.removeSegments(r.oldSegs); err != nil {
			return errors.Join(append(errs, err)...)
		}
		r.oldSegs = nil
	}
	if len(r.oldSegs) == 0 && (r.segSize >= segmentMax || !r.segTime.IsZero() && time.Since(r.segTime) >= segmentAge) {
		errs = append(errs, r.leave())
	}
	return errors.Join(errs...)
}

// close writes everything to the files and lets the directory go.
func (r *recorder) close(all []*console) error {
	var errs []error
	for _, c := range all {
		errs = append(errs, c.flush(false))
	}
	errs = append(errs, r.syncAll())
	r.work.Lock()
	defer r.work.Unlock()
	err := errors.Join(errs...)
	if err == nil {
		err = r.removeSegments(append(r.oldSegs, r.segNum))
	} else { // the journal gets what could not be written
		for _, c := range all {
			r.journal(c)
		}
		err = errors.Join(err, r.write(), r.sync())
	}
	r.shut()
	if err != nil {
		return fmt.Errorf("console record in %s: %w", r.h.o.Dir, err)
	}
	return nil
}

// closeEntry ends the run of bytes that is being gathered. c.mu is held.
func (c *console) closeEntry() {
	if c.cur.n > 0 {
		c.entries = appendEntry(c.entries, c.cur)
		c.cur = entry{}
	}
}

// note adds n bytes of kind k to the entries; bytes that came within 20 ms are one entry. c.mu is held.
func (c *console) note(now time.Time, k kind, n int) {
	ms := now.UnixMilli()
	if len(c.entries) == 0 && c.cur.n == 0 {
		c.t0 = ms
	}
	at := max(0, ms-c.t0) // the clock may have been set back
	if c.cur.n > 0 && k == output && c.cur.kind == output && at-c.cur.at < 20 {
		c.cur.n += int64(n)
		return
	}
	c.closeEntry()
	c.cur = entry{at: at, n: int64(n), kind: k}
}

// journal appends what the journal does not have yet to dst. size is what the console's file does not have; first says
// that the console was not in this segment before.
func (c *console) journal(dst []byte) (_ []byte, size int64, first bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dirty = false
	c.closeEntry()
	if !c.idle && c.journaled < c.ring.high {
		x, y := c.ring.parts(c.journaled, c.ring.high)
		b := block{
			pos: c.journaled, n: c.ring.high - c.journaled, time: c.t0, entries: c.entries[c.jidx:],
			sum: crc32.Update(crc32.Checksum(x, castagnoli), castagnoli, y),
		}
		dst = appendJournal(dst, c.node, b, x, y)
		c.journaled, c.jidx = c.ring.high, len(c.entries)
		first, c.inSegment = !c.inSegment, true
	}
	return dst, c.ring.high - c.flushed, first
}

// rewind lets the next record of the journal have everything that the file has not. Parts of it may be there already: who
// reads the journal passes over them.
func (c *console) rewind() {
	c.file.Lock() // a flush under way has the entries
	defer c.file.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.journaled, c.jidx, c.dirty = c.flushed, 0, true
}

var scratch = sync.Pool{New: func() any { b := make([]byte, 0, ringMax); return &b }}

// flush writes what the console's file does not have. With must the bytes leave memory even when they cannot be
// written; the gap is seen in the record.
func (c *console) flush(must bool) error {
	if c.h.rec == nil {
		return nil
	}
	c.file.Lock()
	defer c.file.Unlock()
	c.mu.Lock()
	c.closeEntry()
	from, to := c.flushed, c.ring.high
	if from == to || c.idle && !must {
		c.mu.Unlock()
		return nil
	}
	buf := scratch.Get().(*[]byte)
	defer scratch.Put(buf)
	text := c.ring.appendTo((*buf)[:0], from, to)
	b := block{pos: from, n: to - from, time: c.t0, entries: c.entries}
	journaled := c.journaled
	c.entries, c.jidx, c.journaled = nil, 0, to
	c.mu.Unlock()

	b.sum = crc32.Checksum(text, castagnoli)
	err := c.write(b, text)

	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err == nil:
		c.failed = ""
	case must:
		c.lost, c.lostWhy = c.lost+to-from, oneLine(err.Error())
		c.failed = "not recorded: " + c.lostWhy
	default: // keep it for another time, with the time of its first byte
		c.failed = "not recorded: " + oneLine(err.Error())
		c.closeEntry()
		c.t0 = b.time
		c.entries, c.jidx, c.journaled = nil, 0, journaled
		if journaled > from {
			c.entries = appendEntry(nil, entry{n: journaled - from})
			c.jidx = len(c.entries)
		}
		if journaled < c.ring.high {
			c.entries = appendEntry(c.entries, entry{n: c.ring.high - journaled})
		}
		return fmt.Errorf("console %s: %w", c.node, err)
	}
	c.flushed = to
	if len(c.sessions) == 0 {
		c.ring.forget(to)
	}
	return err
}

// write puts a block into the node's files. c.file is held.
func (c *console) write(b block, text []byte) error {
	t, err := c.openTail()
	if err != nil {
		return err
	}
	if t.name != "" && (t.size >= c.h.o.Rotate || t.size > 0 && time.Since(t.start) > c.h.o.KeepFor/3) {
		if err := t.sync(); err != nil {
			return err
		}
		left := closedFile{c.node, t.name}
		if err := t.begin(b.pos, time.UnixMilli(b.time)); err != nil {
			c.tail = nil
			return err
		}
		select {
		case c.h.rec.rotated <- left:
		default: // found by the next round of the keeper
		}
	}
	if err := t.add(b, text); err != nil {
		c.tail = nil // where it ends is asked again
		return err
	}
	return nil
}

// openTail finds where the record of the node goes on. c.file is held.
func (c *console) openTail() (*tail, error) {
	if c.tail == nil {
		t, err := c.h.rec.openTail(c.node)
		if err == nil {
			err = t.adopt()
		}
		if err != nil {
			return nil, err
		}
		c.tail = t
	}
	return c.tail, nil
}

// oneLine makes a reason fit for a mark: one line of at most 200 bytes without control characters.
func oneLine(s string) string {
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 }), " ")
	if len(s) > 200 {
		s = strings.ToValidUTF8(s[:200], "") + "…"
	}
	return s
}
