package store

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"os"
	"slices"
	"sort"
	"time"

	"muster/internal/model"
)

// EventQuery says which events are wanted; the zero value wants all.
type EventQuery struct {
	Nodes map[model.NodeName]bool // of these nodes; nil means all, and events that are about no node
	Since time.Time               // of this time or later
	After int64                   // with a larger Seq
	Bad   bool                    // only what a person should look at
	// Limit is how many of the past at most, the newest ones. Zero means no limit; negative means none of the past,
	// which is for Follow.
	Limit int
}

// Tell appends events to the timeline. An event without a time gets that of now. It does not wait for the disk: lines are
// written at once by another goroutine and synced within 100 ms.
func (s *Store) Tell(events ...model.Event) { s.timeline.tell(events) }

// Events returns the wanted events in the order of Seq. Everything that was told or committed before the call is
// there.
func (s *Store) Events(q EventQuery) ([]model.Event, error) {
	to, err := s.timeline.now()
	if err != nil {
		return nil, err
	}
	return s.timeline.past(q, to)
}

// Follow yields the wanted events in the order of Seq: those of the past, then those to come, until ctx ends or the store is closed.
// It reads from the files, so a slow follower costs nobody but itself. To resume, give the Seq of the last event as After. An error ends the sequence;
// only *[GapError] does not: events that came after q.After, or that the follower was too slow to read, are no longer kept.
func (s *Store) Follow(ctx context.Context, q EventQuery) iter.Seq2[model.Event, error] {
	return func(yield func(model.Event, error) bool) { s.timeline.follow(ctx, q, yield) }
}

// place is a byte of the timeline: an offset in a file.
type place struct{ file, off int64 }

// now flushes and returns the end of the timeline. A disk that takes no lines does not keep the others from being read.
func (t *timeline) now() (place, error) {
	if err := t.flush(); err != nil && !IsKind(err, NoSpace) {
		return place{}, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.files) == 0 {
		return place{}, nil
	}
	return place{t.files[len(t.files)-1], t.end}, nil
}

// upto returns the files up to that one, oldest first.
func (t *timeline) upto(file int64) []int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := sort.Search(len(t.files), func(i int) bool { return t.files[i] > file })
	return slices.Clone(t.files[:i])
}

// past returns the wanted events before the place.
func (t *timeline) past(q EventQuery, to place) ([]model.Event, error) {
	var out []model.Event
	if q.Limit < 0 {
		return nil, nil
	}
	files := t.upto(to.file)
	for _, file := range slices.Backward(files) {
		f, err := os.Open(t.path(file))
		if errors.Is(err, os.ErrNotExist) { // removed as too old since we looked
			break
		}
		if err != nil {
			return nil, err
		}
		fi, err := f.Stat()
		if err != nil {
			f.Close()
			return nil, err
		}
		// The file was last written before the time that is wanted; so were those before it. A minute is for clocks that are set back.
		if !q.Since.IsZero() && fi.ModTime().Before(q.Since.Add(-time.Minute)) {
			f.Close()
			break
		}
		end := fi.Size()
		if file == to.file {
			end = to.off
		}
		err = backward(f, end, func(b []byte) bool {
			if seq, _, ok := lineSeq(b); ok && seq <= q.After {
				return false
			}
			if e, ok := q.want(b); ok {
				out = append(out, e)
			}
			return q.Limit == 0 || len(out) < q.Limit
		})
		f.Close()
		if err != nil {
			return nil, err
		}
		if q.Limit > 0 && len(out) == q.Limit || file <= q.After {
			break
		}
	}
	slices.Reverse(out)
	return out, nil
}

// want decodes a line when it is an event that is wanted. Node names are looked for in the bytes first: most lines of a
// long timeline are never decoded. Inside a JSON string the quotes of the mark would be escaped, so it is no accident.
func (q *EventQuery) want(b []byte) (model.Event, bool) {
	seq, event, ok := lineSeq(b)
	if !ok || !event || seq <= q.After || q.Nodes != nil && !q.Nodes[lineNode(b)] || q.Bad && !bytes.Contains(b, []byte(`,"bad":true`)) {
		return model.Event{}, false
	}
	var e model.Event
	if json.Unmarshal(b, &e) != nil || e.Time.Before(q.Since) {
		return model.Event{}, false
	}
	return e, q.Nodes == nil || q.Nodes[e.Node]
}

func lineNode(b []byte) model.NodeName {
	_, rest, ok := bytes.Cut(b, []byte(`,"node":"`))
	if !ok {
		return ""
	}
	name, _, _ := bytes.Cut(rest, []byte(`"`))
	return model.NodeName(name)
}

// backward calls see for the lines of the file before end, the last one first, until it returns false.
func backward(f io.ReaderAt, end int64, see func([]byte) bool) error {
	const block = 256 << 10
	var rest []byte // the beginning of the lines read last, whose own beginning is not read yet
	for end > 0 {
		n := min(block, end)
		buf := make([]byte, n, n+int64(len(rest)))
		if _, err := f.ReadAt(buf, end-n); err != nil {
			return err
		}
		end -= n
		buf = append(buf, rest...)
		for {
			i := bytes.LastIndexByte(bytes.TrimSuffix(buf, []byte("\n")), '\n')
			if i < 0 {
				break
			}
			if !see(buf[i+1:]) {
				return nil
			}
			buf = buf[:i+1]
		}
		rest = buf
	}
	if len(rest) > 0 {
		see(rest)
	}
	return nil
}

func (t *timeline) follow(ctx context.Context, q EventQuery, yield func(model.Event, error) bool) {
	at, err := t.now()
	if err != nil {
		yield(model.Event{}, err)
		return
	}
	if q.Limit < 0 || q.Limit > 0 {
		past, err := t.past(q, at)
		if err != nil {
			yield(model.Event{}, err)
			return
		}
		for _, e := range past {
			if !yield(e, nil) {
				return
			}
			q.After = e.Seq
		}
	} else {
		var gap *GapError
		if at, gap = t.find(&q); gap != nil && !yield(model.Event{}, gap) {
			return
		}
	}
	r := &reader{t: t, at: at, last: q.After}
	defer r.close()
	for {
		t.mu.Lock()
		grown := t.grown
		t.mu.Unlock()
		if !r.read(ctx, &q, yield) {
			return
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return
		case <-t.quit:
			return
		}
	}
}

// find returns the beginning of the file that has the line after q.After, and a gap when that is no longer kept. A number that was
// not given out yet is of another timeline, whose files are gone: q begins anew then.
func (t *timeline) find(q *EventQuery) (place, *GapError) {
	t.mu.Lock()
	defer t.mu.Unlock()
	seq := q.After
	if seq > t.seq {
		q.After = 0
		gap := &GapError{After: seq, Oldest: 1}
		if len(t.files) == 0 {
			return place{}, gap
		}
		gap.Oldest = t.files[0]
		return place{file: t.files[0]}, gap
	}
	if len(t.files) == 0 {
		return place{}, nil
	}
	i := sort.Search(len(t.files), func(i int) bool { return t.files[i] > seq+1 })
	if i == 0 {
		if seq > 0 {
			return place{file: t.files[0]}, &GapError{After: seq, Oldest: t.files[0]}
		}
		return place{file: t.files[0]}, nil
	}
	return place{file: t.files[i-1]}, nil
}

// reader reads the timeline forward with a file handle of its own.
type reader struct {
	t    *timeline
	at   place
	f    *os.File
	last int64 // Seq of the last line read, or of the one to begin after
}

func (r *reader) close() {
	if r.f != nil {
		r.f.Close()
	}
}

// read yields what there is beyond the reader's place. It returns false when the sequence has ended.
func (r *reader) read(ctx context.Context, q *EventQuery, yield func(model.Event, error) bool) bool {
	for ctx.Err() == nil {
		r.t.mu.Lock()
		i := sort.Search(len(r.t.files), func(i int) bool { return r.t.files[i] > r.at.file })
		newest := i == len(r.t.files)
		next, end := int64(0), r.t.end
		if !newest {
			next = r.t.files[i]
		}
		kept := i > 0 && r.t.files[i-1] == r.at.file
		r.t.mu.Unlock()

		if r.f == nil && kept {
			f, err := os.Open(r.t.path(r.at.file))
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				yield(model.Event{}, err)
				return false
			}
			if err != nil {
				f, kept = nil, false
			}
			r.f = f
		}
		if r.f != nil {
			if !newest {
				fi, err := r.f.Stat()
				if err != nil {
					yield(model.Event{}, err)
					return false
				}
				end = fi.Size()
			}
			if !r.lines(ctx, end, q, yield) {
				return false
			}
		}
		if newest {
			return true
		}
		if r.at.file > 0 && !kept && next != r.last+1 && !yield(model.Event{}, &GapError{After: r.last, Oldest: next}) {
			return false
		}
		r.close()
		r.f, r.at = nil, place{file: next}
	}
	return false
}

// lines yields what is wanted of the file up to end.
func (r *reader) lines(ctx context.Context, end int64, q *EventQuery, yield func(model.Event, error) bool) bool {
	in := bufio.NewReaderSize(io.NewSectionReader(r.f, r.at.off, end-r.at.off), 64<<10)
	for r.at.off < end {
		b, err := in.ReadBytes('\n')
		if err != nil {
			if err != io.EOF {
				yield(model.Event{}, err)
			}
			return err == io.EOF
		}
		r.at.off += int64(len(b))
		if seq, _, ok := lineSeq(b); ok {
			r.last = seq
		}
		if e, ok := q.want(b); ok && (ctx.Err() != nil || !yield(e, nil)) {
			return false
		}
	}
	return true
}
