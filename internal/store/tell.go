package store

import (
	"context"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"muster/internal/model"
)

const (
	gatherFor  = 50 * time.Millisecond // told events are gathered so long; also the least time between two transactions
	batchSize  = 4096                  // events; so many are not gathered longer
	batchBytes = 1 << 20
	toldLimit  = 2 * time.Second // a reader waits no longer for what was told to be committed
	tellAgain  = time.Second     // after a transaction that did not go
)

// teller holds the told events that are not committed yet.
type teller struct {
	mu      sync.Mutex
	waiting []model.Event
	bytes   int           // of them, about
	lost    int           // told while too many waited
	in, out int64         // how many were told, and how many of them are committed or lost
	round   chan struct{} // closed and replaced at the end of every try to commit
	refused bool          // the newest try failed

	kick  chan struct{} // something waits
	hurry chan struct{} // somebody waits for it

	turn  chan struct{} // holds one while a batch is on its way
	batch []model.Event
	key   string // of the batch when it was tried last; it is in no other transaction
	doubt bool   // it may be there: no answer came
}

func newTeller() *teller {
	return &teller{round: make(chan struct{}), kick: make(chan struct{}, 1), hurry: make(chan struct{}, 1), turn: make(chan struct{}, 1)}
}

// Tell puts events that belong to no change on the timeline of all managers. An event without a time gets that of now. It does not wait: events are gathered
// for 50 ms and committed together, after the changes that are committed meanwhile; those of the last moment are lost with a killed
// process. Where nothing can be committed they wait in memory; when they are too many there, they are counted and dropped.
func (s *Store) Tell(events ...model.Event) {
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return
	}
	s.teller.tell(events)
}

func (t *teller) tell(events []model.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range events {
		size := sizeOf(&e)
		if t.bytes > backlog || size > batchBytes {
			t.lost++
			continue
		}
		if y := e.Time.Year(); e.Time.IsZero() || y < 0 || y > 9999 { // such a year has no place in JSON
			e.Time = time.Now()
		}
		e.Time = e.Time.UTC()
		t.waiting = append(t.waiting, e)
		t.bytes += size
		t.in++
	}
	wake(t.kick)
}

// sizeOf is about how many bytes an event takes.
func sizeOf(e *model.Event) int {
	return 150 + len(e.Node) + len(e.MAC) + len(e.Step) + len(e.What) + len(e.Reason) + len(e.Actor)
}

// full says that enough waits for a batch.
func (t *teller) full() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.waiting) >= batchSize || t.bytes >= batchBytes
}

// idle says that nothing waits.
func (t *teller) idle() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.waiting) == 0 && t.lost == 0 && t.batch == nil
}

// take makes the next batch of what waits, unless there is one that was tried already.
func (t *teller) take() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.batch != nil {
		return
	}
	if t.lost > 0 {
		t.waiting = append(t.waiting, model.Event{
			Time: time.Now().UTC(), Step: "events.lost", Bad: true,
			What: fmt.Sprintf("%d events were not kept", t.lost), Reason: "none could be committed for too long, or they were too large",
		})
		t.in, t.lost = t.in+1, 0
	}
	n, size := 0, 0
	for n < min(len(t.waiting), batchSize) && (n == 0 || size < batchBytes) {
		size += sizeOf(&t.waiting[n])
		n++
	}
	if n == 0 {
		return
	}
	t.batch = t.waiting[:n:n]
	t.waiting, t.bytes = t.waiting[n:], max(0, t.bytes-size)
	if len(t.waiting) == 0 {
		t.waiting, t.bytes = nil, 0
	}
}

// ended notes how the try to commit the batch ended.
func (t *teller) ended(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.refused = err != nil; !t.refused {
		t.out += int64(len(t.batch))
		t.batch = nil
	}
	close(t.round)
	t.round = make(chan struct{})
}

// gather commits what is told until ctx ends. It sleeps as long as nothing is.
func (s *Store) gather(ctx context.Context) {
	t := s.teller
	var last time.Time // when the last transaction was begun
	pause := func(d time.Duration, enough func() bool) {
		due := time.NewTimer(d)
		defer due.Stop()
		soon := time.NewTimer(gatherFor - time.Since(last))
		defer soon.Stop()
		hurry, mayHurry := false, false
		for !enough() {
			select {
			case <-due.C:
				return
			case <-soon.C:
				if mayHurry = true; hurry {
					return
				}
			case <-t.hurry:
				if hurry = true; mayHurry {
					return
				}
			case <-t.kick:
			case <-ctx.Done():
				return
			}
		}
	}
	for {
		if t.idle() {
			select {
			case <-t.kick:
			case <-ctx.Done():
				return
			}
		}
		pause(gatherFor, t.full)
		if ctx.Err() != nil {
			return
		}
		last = time.Now()
		if err := s.commitTold(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("store: what was told is not committed yet", "err", err)
			pause(tellAgain, func() bool { return false })
		}
	}
}

// commitTold commits the next batch of what waits. Of a batch whose outcome is not known it finds that out first, so it is never there twice, and
// its record, which has a new number then, is not among the old ones that are removed first.
func (s *Store) commitTold(ctx context.Context) (err error) {
	t := s.teller
	select {
	case t.turn <- struct{}{}:
		defer func() { <-t.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if t.take(); t.batch == nil {
		return nil
	}
	defer func() { t.ended(err) }()
	if t.doubt {
		limit, cancel := context.WithTimeout(ctx, toldLimit)
		defer cancel()
		rev, err := s.settle(limit, t.key)
		if err != nil {
			return err
		}
		if t.doubt = false; rev > 0 {
			return s.reach(ctx, rev)
		}
	}
	rec, err := encodeRecord(&model.Change{Time: time.Now(), Events: t.batch})
	if err != nil {
		return err
	}
	if err := s.room("commit events", 4*len(rec)); err != nil {
		return err
	}
	if err := s.majority(ctx, "commit events"); err != nil {
		return err
	}
	if err := s.catchUp(ctx); err != nil {
		return err
	}
	t.key = s.told.nextKey()
	res, err := s.send(ctx, []clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(t.key), "=", 0)}, []clientv3.Op{clientv3.OpPut(t.key, string(rec))})
	if err != nil {
		t.doubt = !refused(err)
		return s.commitError(&model.Change{Verb: "events"}, 1, len(rec), err)
	}
	return s.reach(ctx, model.Revision(res.Header.Revision))
}

// awaitTold waits until what was told before the call is committed, or cannot be, or two seconds are over.
func (s *Store) awaitTold() {
	t := s.teller
	limit := time.NewTimer(toldLimit)
	defer limit.Stop()
	t.mu.Lock()
	defer t.mu.Unlock()
	for target, tried := t.in, false; t.out < target && !(tried && t.refused); tried = true {
		round := t.round
		t.mu.Unlock()
		wake(t.hurry)
		over := false
		select {
		case <-round:
		case <-limit.C:
			over = true
		case <-s.done:
			over = true
		}
		t.mu.Lock()
		if over {
			return
		}
	}
}
