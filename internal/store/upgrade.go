package store

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"muster/internal/durable"
	"muster/internal/model"
)

// A store of schema 1 had events and changes in one journal, numbered by a counter of its own file:
//
//	{"seq":7,"time":"…","node":"r1n1","step":"power.on","what":"…"}            told
//	{"seq":8,"rev":42,"change":{…}}                                           a committed change, its audit record
//	{"seq":9,"time":"…","node":"r1n1","step":"boot.script",…,"rev":42,"part":1}  first event of that change
//	{"seq":10,"closed":true}                                                  end of a clean run
//
// oldLine is any of them.
type oldLine struct {
	Revision model.Revision `json:"rev"`
	Part     int            `json:"part"`
	Change   *model.Change  `json:"change"`
	Closed   bool           `json:"closed"`
}

// oldPart is the change (n = 0) or the n-th event of a change.
type oldPart struct {
	rev model.Revision
	n   int
}

// upgradeEvents makes two journals of one of schema 1, which is there when there are events and no audit trail. It keeps the numbers of events
// unless they are so large that later ones could have them too. Killed at any time, it is done anew or ended at the next start.
func (s *Store) upgradeEvents(ctx context.Context) error {
	events, audit := s.eventsDir(), s.auditDir()
	newEvents, newAudit, old := events+".new", audit+".new", events+".old"
	_, err := os.Stat(audit)
	if err == nil {
		return os.RemoveAll(old)
	}
	if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if _, err := os.Stat(old); errors.Is(err, os.ErrNotExist) { // the new ones are not complete
		if !hasFiles(events) {
			return nil
		}
		if err := errors.Join(os.RemoveAll(newEvents), os.RemoveAll(newAudit)); err != nil {
			return err
		}
		if done, err := s.convert(ctx, events, newEvents, newAudit); err != nil || !done {
			return err
		}
		if err := os.Rename(events, old); err != nil {
			return err
		}
	}
	if _, err := os.Stat(newEvents); err == nil {
		if err := os.Rename(newEvents, events); err != nil {
			return err
		}
	}
	if err := durable.SyncDir(s.opt.Dir); err != nil { // before the audit trail says that all is done
		return err
	}
	if err := os.Rename(newAudit, audit); err != nil {
		return err
	}
	if err := durable.SyncDir(s.opt.Dir); err != nil {
		return err
	}
	return os.RemoveAll(old)
}

// convert writes the new journals of the old one, with what that lacks of the change records in etcd. It returns false when the journal is none of schema 1.
func (s *Store) convert(ctx context.Context, from, toEvents, toAudit string) (done bool, err error) {
	records, err := s.recordsSince(ctx, lacks{})
	if err != nil {
		return false, err
	}
	res, err := s.engine.client.Get(ctx, schemaKey)
	if err != nil {
		return false, err
	}
	files, err := journalFiles(from)
	if err != nil {
		return false, err
	}
	limit := res.Header.Revision<<partBits | maxPart // all that comes has larger numbers
	u := &upgrade{has: map[oldPart]bool{}}
	if len(records) > 0 {
		u.oldest = records[0].Revision
	}
	for _, file := range files {
		if err := u.look(journalPath(from, file)); err != nil {
			return false, err
		}
	}
	if u.first.rev == 0 && !u.closed && len(records) > 0 {
		return false, nil // not of schema 1: the audit trail was lost
	}
	u.addMissing(records)
	if count := u.count + int64(len(u.missing)); u.last+int64(len(u.missing)) >= limit {
		for limit <= count { // all numbers up to now are too few: let some revisions pass
			put, err := s.engine.client.Put(ctx, schemaKey, string(res.Kvs[0].Value))
			if err != nil {
				return false, err
			}
			limit = put.Header.Revision<<partBits | maxPart
		}
		u.renumber = limit - count
	}
	if u.events, err = openJournal("timeline", toEvents, s.opt.EventFile, s.opt.EventBytes, s.log, func() {}); err != nil {
		return false, err
	}
	if u.audit, err = openJournal("audit trail", toAudit, s.opt.EventFile, s.opt.ChangeBytes, s.log, func() {}); err != nil {
		return false, errors.Join(err, u.events.close())
	}
	if err := errors.Join(u.write(from, files), u.events.close(), u.audit.close()); err != nil {
		return false, err
	}
	// The next lines begin files of their own, so that what etcd's records say is never sought among these.
	for _, dir := range []string{toEvents, toAudit} {
		if err := errors.Join(durable.WriteFile(journalPath(dir, limit), nil, 0o600), durable.SyncDir(s.opt.Dir)); err != nil {
			return false, err
		}
	}
	s.log.Info("store: the timeline of schema 1 was converted", "events", u.count, "changes", len(u.changes), "told again", len(u.missing))
	return true, nil
}

// upgrade is what is known of a journal of schema 1 while it is converted.
type upgrade struct {
	oldest  model.Revision   // of the records that are kept in etcd
	has     map[oldPart]bool // of these records
	closed  bool             // there is the end of a clean run
	first   oldPart          // the first one in the journal
	last    int64            // number of the last line
	count   int64            // of events
	changes []*changeLine
	missing []model.Event

	renumber      int64 // the first event's number; zero: they keep theirs
	events, audit *journal
}

// look notes what a file holds, beside the events themselves.
func (u *upgrade) look(path string) error {
	return eachLine(path, func(seq int64, b []byte) error {
		u.last = max(u.last, seq)
		var l oldLine
		if json.Unmarshal(b, &l) != nil {
			return nil
		}
		if p := (oldPart{l.Revision, l.Part}); p.rev > 0 {
			if p.rev >= u.oldest {
				u.has[p] = true
			}
			if u.first.rev == 0 || p.rev < u.first.rev || p.rev == u.first.rev && p.n < u.first.n {
				u.first = p
			}
		}
		u.closed = u.closed || l.Closed
		switch {
		case l.Change != nil:
			c := *l.Change
			c.Revision = l.Revision
			u.changes = append(u.changes, &changeLine{Seq: int64(l.Revision) << partBits, Change: c})
		case isEvent(b):
			u.count++
		}
		return nil
	})
}

// addMissing adds what the records say that the journal has not, though it had once begun with older ones.
func (u *upgrade) addMissing(records []*record) {
	for _, r := range records {
		missing := func(n int) bool {
			p := oldPart{r.Revision, n}
			return !u.has[p] && (p.rev > u.first.rev || p.rev == u.first.rev && p.n >= u.first.n)
		}
		r.lines(func(_ int64, l *changeLine) {
			if missing(0) {
				u.changes = append(u.changes, l)
			}
		}, func(seq int64, e *model.Event) {
			if missing(int(seq & maxPart)) {
				u.missing = append(u.missing, *e)
			}
		})
	}
	slices.SortFunc(u.changes, func(a, b *changeLine) int { return cmp.Compare(a.Seq, b.Seq) })
}

func (u *upgrade) write(from string, files []int64) error {
	next := u.last
	if u.renumber > 0 {
		next = u.renumber - 1
	}
	var lines int
	put := func(j *journal, seq int64, line any) error {
		j.append(seq, line)
		if lines++; lines%1000 > 0 {
			return nil
		}
		return j.flush()
	}
	for _, file := range files {
		err := eachLine(journalPath(from, file), func(seq int64, b []byte) error {
			if !isEvent(b) {
				return nil
			}
			var e model.Event
			if json.Unmarshal(b, &e) != nil {
				return nil
			}
			if u.renumber > 0 {
				next++
				e.Seq = next
			}
			return put(u.events, e.Seq, &e)
		})
		if err != nil {
			return err
		}
	}
	for i := range u.missing {
		next++
		u.missing[i].Seq = next
		if err := put(u.events, next, &u.missing[i]); err != nil {
			return err
		}
	}
	for _, c := range u.changes {
		if err := put(u.audit, c.Seq, c); err != nil {
			return err
		}
	}
	return nil
}

// eachLine calls see for the lines of a file that have a number.
func eachLine(path string, see func(seq int64, b []byte) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, 1<<20)
	for {
		b, err := r.ReadBytes('\n')
		if err == io.EOF {
			return nil // a line without its end was torn
		}
		if err != nil {
			return fmt.Errorf("%s: %w", filepath.Base(path), err)
		}
		if seq, ok := lineSeq(bytes.TrimSpace(b)); ok {
			if err := see(seq, b); err != nil {
				return err
			}
		}
	}
}
