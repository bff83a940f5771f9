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

// Events returns the wanted events in the order of Seq. Everything that was told or committed before the call is there; where what was told
// cannot be committed, the others are returned, after two seconds at most.
func (s *Store) Events(q EventQuery) ([]model.Event, error) {
	s.awaitTold()
	to, err := s.events.now()
	if err != nil {
		return nil, err
	}
	return s.events.past(q, to)
}

// Follow yields the wanted events in the order of Seq: those of the past, then those to come, until ctx ends or the store is closed.
// It reads from the files, so a slow follower costs nobody but itself. To resume, on this manager or another, give the Seq of the last event as
// After. An error ends the sequence; only *[GapError] does not: events that came after q.After, or that the follower was too slow to read, are
// no longer kept.
func (s *Store) Follow(ctx context.Context, q EventQuery) iter.Seq2[model.Event, error] {
	return func(yield func(model.Event, error) bool) {
		s.awaitTold()
		if s.isOfAnotherTimeline(ctx, q.After) {
			gap := &GapError{After: q.After, Oldest: s.events.oldest()}
			if q.After = 0; !yield(model.Event{}, gap) {
				return
			}
		}
		s.events.follow(ctx, q, yield)
	}
}

// isOfAnotherTimeline says that a number was never given out: it is of a store whose files are gone. A manager that is behind the others, or cut off from them,
// cannot know by itself.
func (s *Store) isOfAnotherTimeline(ctx context.Context, seq int64) bool {
	rev := seq >> partBits
	if rev <= int64(s.Snapshot().Revision) {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, toldLimit)
	defer cancel()
	res, err := s.engine.client.Get(ctx, schemaKey)
	return err == nil && res.Header.Revision < rev
}

// past returns the wanted events before the place.
func (j *journal) past(q EventQuery, to place) ([]model.Event, error) {
	if q.Limit < 0 {
		return nil, nil
	}
	var out []model.Event
	err := j.back(to, span{after: q.After, since: q.Since}, func(_ int64, b []byte) bool {
		if e, ok := q.want(b); ok {
			out = append(out, e)
		}
		return q.Limit == 0 || len(out) < q.Limit
	})
	slices.Reverse(out)
	return out, err
}

// want decodes a line when it is an event that is wanted. Node names are looked for in the bytes first: most lines of a
// long timeline are never decoded. Inside a JSON string the quotes of the mark would be escaped, so it is no accident.
func (q *EventQuery) want(b []byte) (model.Event, bool) {
	seq, ok := lineSeq(b)
	if !ok || seq <= q.After || !isEvent(b) || q.Nodes != nil && !q.Nodes[lineNode(b)] || q.Bad && !bytes.Contains(b, []byte(`,"bad":true`)) {
		return model.Event{}, false
	}
	var e model.Event
	if json.Unmarshal(b, &e) != nil || e.Time.Before(q.Since) {
		return model.Event{}, false
	}
	return e, q.Nodes == nil || q.Nodes[e.Node]
}

// isEvent tells an event's line from that of a gap.
func isEvent(b []byte) bool {
	return bytes.HasPrefix(b[bytes.IndexByte(b, ','):], []byte(`,"time":`))
}

func lineNode(b []byte) model.NodeName {
	_, rest, ok := bytes.Cut(b, []byte(`,"node":"`))
	if !ok {
		return ""
	}
	name, _, _ := bytes.Cut(rest, []byte(`"`))
	return model.NodeName(name)
}

func (j *journal) follow(ctx context.Context, q EventQuery, yield func(model.Event, error) bool) {
	at, err := j.now()
	if err != nil {
		yield(model.Event{}, err)
		return
	}
	if q.Limit < 0 || q.Limit > 0 {
		past, err := j.past(q, at)
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
		if at, gap = j.find(q.After); gap != nil && !yield(model.Event{}, gap) {
			return
		}
	}
	r := &reader{j: j, at: at, last: q.After}
	defer r.close()
	for {
		j.mu.Lock()
		grown := j.grown
		j.mu.Unlock()
		if !r.read(ctx, &q, yield) {
			return
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return
		case <-j.quit:
			return
		}
	}
}

// oldest is the smallest number that may be kept.
func (j *journal) oldest() int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.files) == 0 {
		return j.last + 1
	}
	return j.files[0]
}

// find returns the beginning of the file that has the line after seq, and a gap when that is no longer kept.
func (j *journal) find(seq int64) (place, *GapError) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.files) == 0 {
		return place{}, nil
	}
	i := sort.Search(len(j.files), func(i int) bool { return j.files[i] > seq+1 })
	if i > 0 {
		return place{file: j.files[i-1]}, nil
	}
	at := place{file: j.files[0]}
	if seq > 0 {
		return at, &GapError{After: seq, Oldest: at.file}
	}
	return at, nil
}

// reader reads the journal of events forward with a file handle of its own.
type reader struct {
	j    *journal
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
		r.j.mu.Lock()
		i := sort.Search(len(r.j.files), func(i int) bool { return r.j.files[i] > r.at.file })
		newest := i == len(r.j.files)
		next, end := int64(0), r.j.end
		if !newest {
			next = r.j.files[i]
		}
		kept := i > 0 && r.j.files[i-1] == r.at.file
		r.j.mu.Unlock()

		if r.f == nil && kept {
			f, err := os.Open(r.j.path(r.at.file))
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
		if seq, ok := lineSeq(b); ok {
			if seq > r.last && r.last > 0 && isGap(b) &&
				!yield(model.Event{}, &GapError{After: r.last, Oldest: seq + 1}) {
				return false
			}
			r.last = max(r.last, seq)
		}
		if e, ok := q.want(b); ok && (ctx.Err() != nil || !yield(e, nil)) {
			return false
		}
	}
	return true
}
