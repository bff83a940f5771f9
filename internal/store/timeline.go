package store

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"muster/internal/durable"
	"muster/internal/model"
)

const (
	syncAfter = 100 * time.Millisecond // longest time that a written line is not on disk
	backlog   = 16 << 20               // bytes that wait for a disk that takes none, before events are dropped
	// unclean is what sequence numbers jump by when the timeline was not closed: a follower may have seen numbers of lines that
	// a power failure took.
	unclean = 1 << 20
)

// timeline is the sequence of events, as JSON lines in files:
//
//	{"seq":7,"time":"…","node":"r1n1","step":"power.on","what":"…"}            told
//	{"seq":8,"rev":42,"change":{…}}                                           a committed change, its audit record
//	{"seq":9,"time":"…","node":"r1n1","step":"boot.script",…,"rev":42,"part":1}  first event of that change
//	{"seq":10,"closed":true}                                                  end of a clean run
//
// Changes are in the order of their revisions, but for lines with "again":true: those stood in a damaged line, and were told
// again at the next start.
//
// A file is named after the sequence number of its first line. Lines are only ever added at the end of the newest file; whole files are
// removed at the beginning.
type timeline struct {
	dir        string
	size, keep int64
	log        *slog.Logger

	mu    sync.Mutex
	seq   int64         // of the newest line
	buf   []byte        // lines that are not written yet
	first int64         // sequence number of the first line in buf
	lost  int           // events dropped since the disk took the last line
	files []int64       // names of the files, oldest first
	end   int64         // bytes of the newest file that readers may read
	grown chan struct{} // closed and replaced when there is more to read

	writing sync.Mutex // held while the file is written; taken before mu
	file    *os.File
	spare   []byte
	dirty   bool
	failing bool

	kick, quit chan struct{}
	running    sync.WaitGroup
	once       sync.Once
	err        error
}

// line is any line of the timeline, as it is read.
type line struct {
	model.Event
	Revision model.Revision `json:"rev"`
	Part     int            `json:"part"`
	Again    bool           `json:"again"`
	Change   *model.Change  `json:"change"`
	Closed   bool           `json:"closed"`
}

// eventLine and changeLine are how lines are written.
type eventLine struct {
	*model.Event
	Revision model.Revision `json:"rev,omitempty"`
	Part     int            `json:"part,omitempty"`
	Again    bool           `json:"again,omitempty"`
}

type changeLine struct {
	Seq      int64          `json:"seq"`
	Revision model.Revision `json:"rev,omitempty"`
	Again    bool           `json:"again,omitempty"`
	Change   *model.Change  `json:"change,omitempty"`
	Closed   bool           `json:"closed,omitempty"`
}

// told is what the newest files have of committed changes: every change of revision since and later has its parts in parts,
// or they were lost.
type told struct {
	since model.Revision
	last  part // the newest
	parts map[part]bool
}

// part is the change line (n = 0) or the n-th event of a change.
type part struct {
	rev model.Revision
	n   int
}

// openTimeline opens the files in dir. A line that was torn at the end of the newest file is cut off; a damaged line elsewhere is
// logged and passed over.
func openTimeline(dir string, size, keep int64, log *slog.Logger) (*timeline, *told, error) {
	t := &timeline{
		dir: dir, size: size, keep: keep, log: log, grown: make(chan struct{}),
		kick: make(chan struct{}, 1), quit: make(chan struct{}),
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, fileError("open timeline "+dir, dir, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, nil, fileError("open timeline "+dir, dir, err)
	}
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), ".jsonl"); ok && len(name) == 20 {
			if n, err := strconv.ParseInt(name, 10, 64); err == nil && n > 0 {
				t.files = append(t.files, n)
			}
		}
	}
	slices.Sort(t.files)
	have, err := t.recover()
	if err != nil {
		return nil, nil, fileError("open timeline "+dir, dir, err)
	}
	t.running.Go(t.run)
	return t, have, nil
}

func (t *timeline) path(file int64) string {
	return filepath.Join(t.dir, fmt.Sprintf("%020d.jsonl", file))
}

// recover finds the end of the newest file, and what the newest files have of changes.
func (t *timeline) recover() (*told, error) {
	have := &told{parts: make(map[part]bool)}
	clean := len(t.files) == 0
	for i, file := range slices.Backward(t.files) {
		newest := i == len(t.files)-1
		end, bad, size, err := scan(t.path(file), func(l *line) {
			t.seq = max(t.seq, l.Seq)
			if newest {
				clean = l.Closed
			}
			if l.Revision == 0 {
				return
			}
			p := part{l.Revision, l.Part}
			have.parts[p] = true
			if l.Again {
				return
			}
			if have.since == 0 {
				have.since = l.Revision
			}
			have.last = p
		})
		if err != nil {
			return nil, err
		}
		if bad > 0 {
			t.log.Warn("timeline: passing over damaged lines", "file", t.path(file), "lines", bad)
		}
		if newest {
			if t.file, err = os.OpenFile(t.path(file), os.O_RDWR, 0); err != nil {
				return nil, err
			}
			if end < size {
				clean = false
				t.log.Warn("timeline: cutting off a torn end", "file", t.path(file), "bytes", size-end)
				if err := t.file.Truncate(end); err != nil {
					return nil, err
				}
			}
			t.end = end
		}
		t.seq = max(t.seq, file-1)
		if have.since > 0 {
			break
		}
	}
	// The file may begin in the middle of the oldest change: its parts before are in the file before.
	for n := 0; have.since > 0 && !have.parts[part{have.since, n}]; n++ {
		have.parts[part{have.since, n}] = true
	}
	if !clean {
		t.seq += unclean
	}
	return have, nil
}

// scan calls see for every good line of the file. It returns where the last good line ends, how many bad lines are before
// that, and the size.
func scan(path string, see func(*line)) (end int64, bad int, size int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, 0, 0, err
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, 1<<20)
	pending := 0
	for {
		b, err := r.ReadBytes('\n')
		size += int64(len(b))
		if err == io.EOF {
			return end, bad, size, nil
		}
		if err != nil {
			return 0, 0, 0, err
		}
		var l line
		if json.Unmarshal(b, &l) != nil || l.Seq <= 0 {
			pending++
			continue
		}
		end, bad, pending = size, bad+pending, 0
		see(&l)
	}
}

// tell appends events. It never waits for the disk; when the disk has taken nothing for long, events are dropped and counted.
func (t *timeline) tell(events []model.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.buf) > backlog {
		t.lost += len(events)
		return
	}
	if t.lost > 0 {
		lost := model.Event{
			Time: time.Now(), Step: "events.lost", Bad: true,
			What:   fmt.Sprintf("%d events were not written", t.lost),
			Reason: "the disk took none for too long",
		}
		t.lost = 0
		t.append(&lost, part{}, false)
	}
	for i := range events {
		e := events[i]
		t.append(&e, part{}, false)
	}
}

// tellChange appends the record of a change and its events, those parts of it that have does not hold.
func (t *timeline) tellChange(r *record, have *told) {
	if r.void {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for n := range len(r.Events) + 1 {
		p, again := part{r.Revision, n}, false
		if have != nil {
			if have.parts[p] {
				continue
			}
			again = p.rev < have.last.rev || p.rev == have.last.rev && p.n < have.last.n
		}
		if n == 0 {
			c := r.Change
			c.Events = nil
			t.line(&changeLine{Seq: t.next(), Revision: p.rev, Again: again, Change: &c})
		} else {
			e := r.Events[n-1]
			t.append(&e, p, again)
		}
	}
}

func (t *timeline) append(e *model.Event, p part, again bool) {
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	e.Seq = t.next()
	t.line(&eventLine{e, p.rev, p.n, again})
}

func (t *timeline) next() int64 {
	t.seq++
	if len(t.buf) == 0 {
		t.first = t.seq
	}
	return t.seq
}

func (t *timeline) line(l any) {
	b, err := json.Marshal(l)
	if err != nil { // a time outside the years 0 to 9999
		t.log.Error("timeline: a line cannot be written", "err", err)
		return
	}
	t.buf = append(append(t.buf, b...), '\n')
	wake(t.kick)
}

// run writes lines as they come and syncs them soon after.
func (t *timeline) run() {
	var due <-chan time.Time
	kick := t.kick
	fail := func() { kick, due = nil, time.After(10*syncAfter) } // not for every event: what waits is written whole
	for {
		select {
		case <-kick:
			if err := t.flush(); err != nil {
				fail()
			} else if due == nil {
				due = time.After(syncAfter)
			}
		case <-due:
			kick, due = t.kick, nil
			if err := t.sync(); err != nil {
				fail()
			}
		case <-t.quit:
			return
		}
	}
}

// flush writes the lines that wait, so that readers find them.
func (t *timeline) flush() error {
	t.writing.Lock()
	defer t.writing.Unlock()
	return t.write()
}

// sync writes the lines that wait, and has them on disk when it returns nil.
func (t *timeline) sync() error {
	t.writing.Lock()
	defer t.writing.Unlock()
	if err := t.write(); err != nil {
		return err
	}
	if !t.dirty {
		return nil
	}
	if err := t.file.Sync(); err != nil {
		return fileError("timeline", t.file.Name(), err)
	}
	t.dirty = false
	return nil
}

func (t *timeline) write() error {
	t.mu.Lock()
	buf, first, end := t.buf, t.first, t.end
	t.buf, t.spare = t.spare[:0], nil
	t.mu.Unlock()
	if len(buf) == 0 {
		t.spare = buf
		return nil
	}
	err := t.rotate(first, &end)
	if err == nil {
		if _, err = t.file.WriteAt(buf, end); err != nil {
			err = errors.Join(err, t.file.Truncate(end))
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		if !t.failing {
			t.failing = true
			t.log.Error("timeline: not written, trying again", "err", fileError("timeline", t.dir, err))
		}
		t.buf, t.first = append(buf, t.buf...), first
		return fileError("timeline", t.dir, err)
	}
	t.failing, t.dirty = false, true
	t.end = end + int64(len(buf))
	if cap(buf) <= 1<<20 {
		t.spare = buf
	}
	close(t.grown)
	t.grown = make(chan struct{})
	return nil
}

// rotate begins a new file when there is none or the newest is full, and removes the oldest beyond what is kept.
func (t *timeline) rotate(first int64, end *int64) error {
	if t.file != nil && *end < t.size {
		return nil
	}
	f, err := os.OpenFile(t.path(first), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	err = durable.SyncDir(t.dir)
	if t.file != nil && err == nil {
		err = t.file.Sync()
	}
	if err != nil { // the full file stays open: it is tried again
		f.Close()
		return err
	}
	if t.file != nil {
		_ = t.file.Close() // it is on disk
	}
	t.file, *end = f, 0
	t.mu.Lock()
	defer t.mu.Unlock()
	t.files, t.end = append(t.files, first), 0
	total := int64(0)
	for i, file := range slices.Backward(t.files) {
		if fi, err := os.Stat(t.path(file)); err == nil {
			total += fi.Size()
		}
		if total > t.keep && i < len(t.files)-1 {
			for _, old := range t.files[:i+1] {
				if err := os.Remove(t.path(old)); err != nil && !errors.Is(err, os.ErrNotExist) {
					t.log.Warn("timeline: an old file is not removed", "err", err)
				}
			}
			t.files = slices.Clone(t.files[i+1:])
			break
		}
	}
	return nil
}

// close writes and syncs what waits, with the mark of a clean end. Followers end.
func (t *timeline) close() error {
	t.once.Do(func() {
		close(t.quit)
		t.running.Wait()
		t.mu.Lock()
		t.line(&changeLine{Seq: t.next(), Closed: true})
		t.mu.Unlock()
		t.err = t.sync()
		t.writing.Lock()
		defer t.writing.Unlock()
		if t.file != nil {
			t.err = errors.Join(t.err, t.file.Close())
		}
	})
	return t.err
}

// lineSeq reads the sequence number of a line without decoding it, and says whether the line is an event.
func lineSeq(b []byte) (seq int64, event, ok bool) {
	rest, ok := bytes.CutPrefix(b, []byte(`{"seq":`))
	if !ok {
		return 0, false, false
	}
	i := bytes.IndexByte(rest, ',')
	if i < 0 {
		return 0, false, false
	}
	seq, err := strconv.ParseInt(string(rest[:i]), 10, 64)
	return seq, bytes.HasPrefix(rest[i:], []byte(`,"time":`)), err == nil && seq > 0
}
