package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"muster/internal/model"
)

// The timeline is the sequence of all events of a pool, the same on every manager: Event.Seq is revision<<16 | part. The events of one
// transaction are parts 1, 2, 3 … of its revision; part 0 is the change itself. A transaction is a change with a verb, or a batch of
// told events. Every manager's watch adds them to its own two journals:
//
//	events/   {"seq":2752513,"time":"…","node":"r1n1","step":"boot.script",…}
//	          {"seq":2818047,"gap":true}                              what was told before is not all there: it was no longer in etcd
//	changes/  {"seq":2752512,"revision":42,"time":"…","verb":"set",…,"touches":[…]}      the audit trail
//	          {"seq":2818048,"revision":43,…,"touchesz":[{"from":{"kind":"node","name":"r1n1"},"z":"…"},…]}
//	          {"seq":2949119,"gap":true,"time":"…"}                   as in events/, of changes
const (
	partBits = 16
	maxPart  = 1<<partBits - 1 // no event's: for lines between revisions
)

// gapMark begins a gap's line after its number.
const gapMark = `,"gap":`

type gapLine struct {
	Seq  int64     `json:"seq"`
	Gap  bool      `json:"gap"`
	Time time.Time `json:"time,omitzero"` // of the change after it, in the audit trail
}

// isGap tells a gap's line from the others.
func isGap(b []byte) bool {
	i := bytes.IndexByte(b, ',')
	return i > 0 && bytes.HasPrefix(b[i:], []byte(gapMark))
}

// changeLine is a change in the audit trail. The touches come last, see [wanted].
type changeLine struct {
	Seq int64 `json:"seq"`
	model.Change
	Touches  json.RawMessage `json:"touches,omitempty"`
	TouchesZ json.RawMessage `json:"touchesz,omitempty"`
}

// lines calls the functions for the lines of a record.
func (r *record) lines(change func(seq int64, l *changeLine), event func(seq int64, e *model.Event)) {
	if r.void {
		return
	}
	seq := int64(r.Revision) << partBits
	if r.Verb != "" {
		c := r.Change
		c.Events = nil
		change(seq, &changeLine{seq, c, r.Touches, r.TouchesZ})
	}
	for i := range r.Events {
		e := r.Events[i]
		e.Seq = seq + 1 + int64(i)
		event(e.Seq, &e)
	}
}

// openJournals opens the timeline and the audit trail.
func (s *Store) openJournals(ctx context.Context) error {
	err := s.upgradeEvents(ctx)
	if err != nil {
		return fileError("convert timeline "+s.eventsDir(), s.eventsDir(), err)
	}
	missed := func() { wake(s.missed) }
	s.events, err = openJournal("timeline", s.eventsDir(), s.opt.EventFile, s.opt.EventBytes, s.log, missed)
	if err != nil {
		return err
	}
	s.audit, err = openJournal("audit trail", s.auditDir(), s.opt.EventFile, s.opt.ChangeBytes, s.log, missed)
	return err
}

func (s *Store) eventsDir() string { return filepath.Join(s.opt.Dir, "events") }
func (s *Store) auditDir() string  { return filepath.Join(s.opt.Dir, "changes") }

func (s *Store) closeJournals() error {
	var errs []error
	for _, j := range []*journal{s.events, s.audit} {
		if j != nil {
			errs = append(errs, j.close())
		}
	}
	return errors.Join(errs...)
}

// lacks says from which revision on the journals may lack something. The zero value says that they lack everything.
type lacks struct{ events, changes model.Revision }

func (s *Store) lacking() lacks {
	return lacks{events: model.Revision(s.events.since() >> partBits), changes: model.Revision(s.audit.since() >> partBits)}
}

// since is the revision before which they lack nothing.
func (l lacks) since() model.Revision { return min(l.events, l.changes) }

// has says that the journals may lack something of a record. Most changes have no events; where there were none for long, all that
// the records of changes say since then is in the audit trail, and reading them would be in vain.
func (l lacks) has(kv *mvccpb.KeyValue) bool {
	rev := model.Revision(kv.ModRevision)
	return rev >= l.changes || rev >= l.events && bytes.Contains(kv.Value, []byte(`"events":[`))
}

// mendJournals puts back what damaged lines of the journals said.
func (s *Store) mendJournals(records []*record) error {
	if !s.events.harmed && !s.audit.harmed {
		return nil
	}
	var events, changes []entry
	put := func(to *[]entry, seq int64, line any) {
		if b, err := json.Marshal(line); err == nil { // it was JSON
			*to = append(*to, entry{seq, append(b, '\n')})
		}
	}
	for _, r := range records {
		r.lines(func(seq int64, l *changeLine) { put(&changes, seq, l) }, func(seq int64, e *model.Event) { put(&events, seq, e) })
	}
	return errors.Join(s.events.mend(events), s.audit.mend(changes))
}

// tellRecord adds the lines of a record to the journals, but for those that are there. Records come in the order of their revisions, or are
// there.
func (s *Store) tellRecord(r *record) {
	s.telling.Lock()
	defer s.telling.Unlock()
	s.tellLocked(r)
}

func (s *Store) tellLocked(r *record) {
	r.lines(func(seq int64, l *changeLine) { s.audit.append(seq, l) }, func(seq int64, e *model.Event) { s.events.append(seq, e) })
}

// tellRecords adds what the journals lack of the records, all that are kept of what is lacking. Where records were removed
// before the timeline had them, it says so.
func (s *Store) tellRecords(records []*record) {
	s.telling.Lock()
	defer s.telling.Unlock()
	s.tellAllLocked(records)
}

func (s *Store) tellAllLocked(records []*record) {
	told := model.Revision((s.events.since() - 1) >> partBits)
	hole := max(s.changes.hole(told), s.told.hole(told))
	lost := s.changes.hole(model.Revision((s.audit.since() - 1) >> partBits))
	gap := func() {
		seq := int64(hole)<<partBits - 1
		s.events.append(seq, &gapLine{Seq: seq, Gap: true})
		hole = 0
	}
	for _, r := range records {
		if lost > 0 && r.Revision >= lost {
			s.log.Warn("store: the audit trail of this manager lacks changes: they were no longer kept when it asked for them", "before", lost)
			seq := int64(lost)<<partBits - 1
			s.audit.append(seq, &gapLine{seq, true, r.Time})
			lost = 0
		}
		if hole > 0 && r.Revision >= hole {
			gap()
		}
		s.tellLocked(r)
	}
	if hole > 0 { // no record after it had events
		gap()
	}
}

// tellMissed adds what the journals refused while the disk took nothing. The watch waits meanwhile.
func (s *Store) tellMissed(ctx context.Context) error {
	s.telling.Lock()
	defer s.telling.Unlock()
	records, err := s.recordsSince(ctx, s.lacking())
	if err != nil {
		return fmt.Errorf("change records: %w", err)
	}
	s.events.catchUp()
	s.audit.catchUp()
	s.tellAllLocked(records)
	return nil
}
