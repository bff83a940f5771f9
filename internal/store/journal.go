package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"muster/internal/durable"
)

const (
	syncAfter = 100 * time.Millisecond // longest time that a written line is not on disk
	backlog   = 16 << 20               // bytes that wait for a disk that takes none
)

// journal is a sequence of JSON lines in files, each with a number that is larger than that of the line before:
//
//	{"seq":2752513,"time":"…","node":"r1n1","step":"power.on","what":"…"}
//
// A file is named after the smallest number that its first line may have: all lines with that number or a larger one, up to the
// name of the next file, are in it. Lines are only ever added at the end of the newest file; whole files are removed at the beginning. When a file is full
// its time of modification is set to the latest time of its lines, if that is later: clocks jump, and the lines of other managers have the times of theirs.
//
// All that is in it can be had again from the change records in etcd, as long as these are kept: what the number of the newest line says is
// missing is added at the next start.
type journal struct {
	what       string // for errors
	dir        string
	size, keep int64
	log        *slog.Logger
	free       func() // called when lines that were refused may be given again

	mu     sync.Mutex
	last   int64         // number of the newest line
	buf    []byte        // lines that are not written yet
	first  int64         // smallest number that the first line in buf may have
	bufs   time.Time     // latest time of the lines in buf
	latest time.Time     // latest time of the lines in the newest file
	behind bool          // lines were refused; all are until catchUp
	files  []int64       // names of the files, oldest first
	end    int64         // bytes of the newest file that readers may read
	grown  chan struct{} // closed and replaced when there is more to read

	writing sync.Mutex // held while the file is written; taken before mu
	file    *os.File
	spare   []byte
	dirty   bool
	failing bool
	harmed  bool // damaged lines lie between good ones of the newest file; see mend

	kick, quit chan struct{}
	running    sync.WaitGroup
	once       sync.Once
	err        error
}

// openJournal opens the files in dir. A line that was torn at the end of the newest file is cut off; where a damaged line lies before good
// ones, harmed is set and mend is to be called. Readers pass over damaged lines.
func openJournal(what, dir string, size, keep int64, log *slog.Logger, free func()) (*journal, error) {
	j := &journal{
		what: what, dir: dir, size: size, keep: keep, log: log, free: free, grown: make(chan struct{}),
		kick: make(chan struct{}, 1), quit: make(chan struct{}),
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fileError("open "+what+" "+dir, dir, err)
	}
	var err error
	if j.files, err = journalFiles(dir); err == nil && len(j.files) > 0 {
		err = j.recover()
	}
	if err != nil {
		return nil, fileError("open "+what+" "+dir, dir, err)
	}
	j.running.Go(j.run)
	return j, nil
}

// journalFiles lists the files of a journal by their names, oldest first.
func journalFiles(dir string) ([]int64, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var files []int64
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), ".jsonl"); ok && len(name) == 20 {
			if n, err := strconv.ParseInt(name, 10, 64); err == nil && n > 0 {
				files = append(files, n)
			}
		}
	}
	slices.Sort(files)
	return files, nil
}

func journalPath(dir string, file int64) string {
	return filepath.Join(dir, fmt.Sprintf("%020d.jsonl", file))
}

func (j *journal) path(file int64) string { return journalPath(j.dir, file) }

// entry is a line with its number; the text ends with a line feed.
type entry struct {
	seq  int64
	text []byte
}

// scan returns the good lines of a file whose first line has at least that number, and how many bytes lie behind the last of them. Damaged says that there
// are bad lines between them.
func scan(text []byte, from int64) (good []entry, rest int, damaged bool) {
	bad := false
	for last := from - 1; ; {
		i := bytes.IndexByte(text, '\n')
		if i < 0 {
			return good, rest + len(text), damaged
		}
		line := text[:i+1]
		text = text[i+1:]
		seq, ok := lineSeq(line)
		if !ok || seq <= last || !json.Valid(line) {
			bad, rest = true, rest+len(line)
			continue
		}
		last = seq
		good = append(good, entry{seq, line})
		damaged, bad, rest = damaged || bad, false, 0
	}
}

// recover finds the end of the newest file. What lies in the files before was on disk before it was begun.
func (j *journal) recover() error {
	newest := j.files[len(j.files)-1]
	path := j.path(newest)
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	good, rest, damaged := scan(text, newest)
	j.last, j.harmed, j.end = newest-1, damaged, int64(len(text)-rest)
	if len(good) > 0 {
		j.last = good[len(good)-1].seq
	}
	for _, l := range good {
		j.latest = later(j.latest, lineTime(l.text))
	}
	if j.file, err = os.OpenFile(path, os.O_RDWR, 0); err != nil {
		return err
	}
	if rest > 0 {
		j.log.Warn(j.what+": cutting off a torn end", "file", path, "bytes", rest)
		return j.file.Truncate(j.end)
	}
	return nil
}

// since is the smallest number from which on lines may be missing.
func (j *journal) since() int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.harmed {
		return j.files[len(j.files)-1]
	}
	return j.last + 1
}

// mend writes the newest file anew when it is harmed: its good lines, with those of lines in their places that it has not; damaged ones are
// left out. Lines are in the order of their numbers. It is called before anything is read or appended.
func (j *journal) mend(lines []entry) error {
	j.writing.Lock()
	defer j.writing.Unlock()
	if !j.harmed {
		return nil
	}
	newest := j.files[len(j.files)-1]
	path := j.path(newest)
	text, err := os.ReadFile(path)
	if err != nil {
		return fileError(j.what, path, err)
	}
	good, _, _ := scan(text, newest)
	all := make([]byte, 0, len(text))
	again := 0
	for _, l := range lines {
		if l.seq < newest || l.seq > j.last {
			continue
		}
		for len(good) > 0 && good[0].seq < l.seq {
			all, good = append(all, good[0].text...), good[1:]
		}
		if len(good) == 0 || good[0].seq != l.seq {
			all, again = append(all, l.text...), again+1
		}
	}
	for _, l := range good {
		all = append(all, l.text...)
	}
	if err := durable.WriteFile(path, all, 0o600); err != nil {
		return fileError(j.what, path, err)
	}
	j.log.Warn(j.what+": a file with damaged lines was written anew", "file", path, "written again", again)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return fileError(j.what, path, err)
	}
	_ = j.file.Close() // it was replaced
	j.mu.Lock()
	defer j.mu.Unlock()
	j.file, j.end, j.harmed = f, int64(len(all)), false
	return nil
}

// append adds a line, unless that number was there already. It never waits for the disk: when that has taken nothing for long, the line is
// refused, and all after it until catchUp.
func (j *journal) append(seq int64, line any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if seq <= j.last {
		return
	}
	if j.behind || len(j.buf) > backlog {
		j.behind = true
		return
	}
	b, err := json.Marshal(line)
	if err != nil { // a time outside the years 0 to 9999
		j.log.Error(j.what+": a line cannot be written", "err", err)
		return
	}
	if len(j.buf) == 0 {
		j.first = j.last + 1
	}
	j.last = seq
	j.buf = append(append(j.buf, b...), '\n')
	j.bufs = later(j.bufs, lineTime(b))
	wake(j.kick)
}

// catchUp takes lines again after some were refused. Those are to be given first.
func (j *journal) catchUp() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.behind = false
}

// run writes lines as they come and syncs them soon after.
func (j *journal) run() {
	var due <-chan time.Time
	kick := j.kick
	fail := func() { kick, due = nil, time.After(10*syncAfter) } // not for every line: what waits is written whole
	for {
		select {
		case <-kick:
			if err := j.flush(); err != nil {
				fail()
			} else if due == nil {
				due = time.After(syncAfter)
			}
		case <-due:
			kick, due = j.kick, nil
			if err := j.sync(); err != nil {
				fail()
			}
		case <-j.quit:
			return
		}
	}
}

// flush writes the lines that wait, so that readers find them.
func (j *journal) flush() error {
	j.writing.Lock()
	defer j.writing.Unlock()
	return j.write()
}

// sync writes the lines that wait, and has them on disk when it returns nil.
func (j *journal) sync() error {
	j.writing.Lock()
	defer j.writing.Unlock()
	if err := j.write(); err != nil {
		return err
	}
	if !j.dirty {
		return nil
	}
	if err := j.file.Sync(); err != nil {
		return fileError(j.what, j.file.Name(), err)
	}
	j.dirty = false
	return nil
}

func (j *journal) write() error {
	j.mu.Lock()
	buf, first, end, times := j.buf, j.first, j.end, j.bufs
	j.buf, j.spare, j.bufs = j.spare[:0], nil, time.Time{}
	j.mu.Unlock()
	if len(buf) == 0 {
		j.spare = buf
		return nil
	}
	err := j.rotate(first, &end)
	if err == nil {
		if _, err = j.file.WriteAt(buf, end); err != nil {
			err = errors.Join(err, j.file.Truncate(end))
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if err != nil {
		err = fileError(j.what, j.dir, err)
		if !j.failing {
			j.failing = true
			j.log.Error(j.what+": not written, trying again", "err", err)
		}
		j.buf, j.first, j.bufs = append(buf, j.buf...), first, later(j.bufs, times)
		return err
	}
	j.latest = later(j.latest, times)
	j.failing, j.dirty = false, true
	j.end = end + int64(len(buf))
	if cap(buf) <= 1<<20 {
		j.spare = buf
	}
	if j.behind {
		j.free()
	}
	close(j.grown)
	j.grown = make(chan struct{})
	return nil
}

// rotate begins a new file when there is none or the newest is full, and removes the oldest beyond what is kept.
func (j *journal) rotate(first int64, end *int64) error {
	if j.file != nil && *end < j.size {
		return nil
	}
	if j.file != nil { // recover looks at the newest file only
		if err := errors.Join(j.stamp(), j.file.Sync()); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(j.path(first), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if err := durable.SyncDir(j.dir); err != nil { // the full file stays open: it is tried again
		f.Close()
		return err
	}
	if j.file != nil {
		_ = j.file.Close() // it is on disk
	}
	j.file, *end = f, 0
	j.mu.Lock()
	defer j.mu.Unlock()
	j.files, j.end, j.latest = append(j.files, first), 0, time.Time{}
	total := int64(0)
	for i, file := range slices.Backward(j.files) {
		if fi, err := os.Stat(j.path(file)); err == nil {
			total += fi.Size()
		}
		if total > j.keep && i < len(j.files)-1 {
			for _, old := range j.files[:i+1] {
				if err := os.Remove(j.path(old)); err != nil && !errors.Is(err, os.ErrNotExist) {
					j.log.Warn(j.what+": an old file is not removed", "err", err)
				}
			}
			j.files = slices.Clone(j.files[i+1:])
			break
		}
	}
	return nil
}

// stamp says in a full file's time of modification of what time its lines are at most.
func (j *journal) stamp() error {
	j.mu.Lock()
	latest := j.latest
	j.mu.Unlock()
	fi, err := j.file.Stat()
	if err != nil || !fi.ModTime().Before(latest) {
		return err
	}
	return os.Chtimes(j.file.Name(), time.Time{}, latest)
}

// close writes and syncs what waits. Followers end.
func (j *journal) close() error {
	j.once.Do(func() {
		close(j.quit)
		j.running.Wait()
		j.err = j.sync()
		j.writing.Lock()
		defer j.writing.Unlock()
		if j.file != nil {
			j.err = errors.Join(j.err, j.file.Close())
		}
	})
	return j.err
}

// place is a byte of a journal: an offset in a file.
type place struct{ file, off int64 }

// now flushes and returns the end. A disk that takes no lines does not keep the others from being read.
func (j *journal) now() (place, error) {
	if err := j.flush(); err != nil && !IsKind(err, NoSpace) {
		return place{}, err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.files) == 0 {
		return place{}, nil
	}
	return place{j.files[len(j.files)-1], j.end}, nil
}

// upto returns the files up to that one, oldest first.
func (j *journal) upto(file int64) []int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	i := sort.Search(len(j.files), func(i int) bool { return j.files[i] > file })
	return slices.Clone(j.files[:i])
}

// span is a part of a journal: lines with numbers larger than after and smaller than before (0: no bound) in files written
// since.
type span struct {
	after, before int64
	since         time.Time
}

// back calls see for the lines of a span that lie before the place, the last one first, until it returns false.
func (j *journal) back(to place, in span, see func(seq int64, line []byte) bool) error {
	files := j.upto(to.file)
	for i, file := range slices.Backward(files) {
		if in.before > 0 && file >= in.before {
			continue
		}
		more, err := j.backFile(file, i == len(files)-1, to, in, see)
		if errors.Is(err, os.ErrNotExist) && i < len(files)-1 { // removed as too old since we looked
			return nil
		}
		if err != nil || !more || file <= in.after {
			return err
		}
	}
	return nil
}

func (j *journal) backFile(file int64, newest bool, to place, in span, see func(seq int64, line []byte) bool) (more bool, err error) {
	f, err := os.Open(j.path(file))
	if err != nil {
		return false, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return false, err
	}
	if !newest && !in.since.IsZero() && fi.ModTime().Before(in.since) {
		return true, nil // all its lines are older; those before it need not be
	}
	end := fi.Size()
	if file == to.file {
		end = to.off
	}
	more = true
	err = backward(f, end, func(b []byte) bool {
		seq, ok := lineSeq(b)
		switch {
		case !ok || in.before > 0 && seq >= in.before:
		case seq <= in.after:
			more = false
		default:
			more = see(seq, b)
		}
		return more
	})
	return more, err
}

// backward calls see for the lines of the file before end, the last one first, until it returns false.
func backward(f io.ReaderAt, end int64, see func([]byte) bool) error {
	const block = 256 << 10
	var rest []byte // the beginning of the lines read last, whose own beginning is not read yet
	var ends []int  // of the lines that end in the block, but for the last one of the file
	for end > 0 {
		n := min(max(block, int64(len(rest))), end) // a long line is not copied again and again
		buf := make([]byte, n, n+int64(len(rest)))
		if _, err := f.ReadAt(buf, end-n); err != nil {
			return err
		}
		end -= n
		ends = ends[:0]
		for at := 0; ; {
			i := bytes.IndexByte(buf[at:], '\n')
			if i < 0 || at+i == len(buf)-1 && len(rest) == 0 {
				break
			}
			at += i + 1
			ends = append(ends, at)
		}
		buf = append(buf, rest...)
		for _, i := range slices.Backward(ends) {
			if !see(buf[i:]) {
				return nil
			}
			buf = buf[:i]
		}
		rest = buf
	}
	if len(rest) > 0 {
		see(rest)
	}
	return nil
}

// lineTime reads the time of a line without decoding it; zero when it has none. Before it in a line there are numbers only.
func lineTime(b []byte) time.Time {
	_, rest, _ := bytes.Cut(b, []byte(`,"time":"`))
	i := bytes.IndexByte(rest, '"')
	if i < 0 {
		return time.Time{}
	}
	at, _ := time.Parse(time.RFC3339Nano, string(rest[:i]))
	return at
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// lineSeq reads the number of a line without decoding it.
func lineSeq(b []byte) (int64, bool) {
	rest, ok := bytes.CutPrefix(b, []byte(`{"seq":`))
	if !ok {
		return 0, false
	}
	i := bytes.IndexByte(rest[:min(len(rest), 20)], ',')
	if i < 0 {
		return 0, false
	}
	seq, err := strconv.ParseInt(string(rest[:i]), 10, 64)
	return seq, err == nil && seq > 0
}
