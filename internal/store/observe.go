package store

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"muster/internal/model"
)

const (
	observeEvery = 500 * time.Millisecond
	trimEvery    = 1024 // change records
)

// Observe notes what was seen of a node. see gets a copy of what is known, the newest observation included even when it is not in
// the snapshot yet, and sets what it saw; so the power poller and the agent's heartbeat do not undo each other. It is called at once,
// under a lock: it must only set fields, and put a new Facts in place of the old.
//
// Observations are written twice a second in one transaction, newest wins, and appear in the snapshot then. Those of the last half second may
// be lost with a killed process, and those of a node that does not exist are dropped.
func (s *Store) Observe(n model.NodeName, see func(*model.State)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	st := s.observed[n]
	if st == nil {
		st = &model.State{}
		if old := s.writing[n]; old != nil { // newer than the snapshot's, perhaps
			*st = *old
		} else if old := s.Snapshot().State(n); old != nil {
			*st = *old
		}
		st.Node = n
		s.observed[n] = st
	}
	see(st)
	wake(s.observe)
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// tend writes what is observed and removes old change records. It sleeps as long as there is nothing to do.
func (s *Store) tend(ctx context.Context) {
	var due, again <-chan time.Time
	for {
		select {
		case <-s.observe:
			if due == nil {
				due = time.After(observeEvery)
			}
		case <-due:
			due = nil
			if err := s.writeObserved(ctx); err != nil && ctx.Err() == nil {
				s.log.Warn("store: what was observed is not written yet", "err", err)
				due = time.After(10 * observeEvery)
			}
		case <-s.trim:
			if err := s.trimRecords(ctx); err != nil && ctx.Err() == nil {
				s.log.Warn("store: old change records are not removed yet", "err", err)
			}
		case <-s.raise:
			s.raiseSchema(ctx)
		case <-s.missed:
			if err := s.tellMissed(ctx); err != nil && ctx.Err() == nil {
				s.log.Warn("store: the timeline still lacks what was refused while the disk was full", "err", err)
				again = time.After(10 * observeEvery) // nothing else would: a journal that lacks lines takes none
			}
		case <-again:
			again = nil
			wake(s.missed)
		case <-ctx.Done():
			return
		}
	}
}

// writeObserved writes all observations in as few transactions as their number allows. On error they are kept, unless newer
// ones came.
func (s *Store) writeObserved(ctx context.Context) error {
	select { // one at a time, or an older batch may be written over a newer one
	case s.turnToObserve <- struct{}{}:
		defer func() { <-s.turnToObserve }()
	case <-ctx.Done():
		return ctx.Err()
	}
	s.mu.Lock()
	batch := s.observed
	s.observed, s.writing = make(map[model.NodeName]*model.State), batch
	s.mu.Unlock()

	var err error
	for part := range slices.Chunk(slices.Collect(maps.Keys(batch)), page) {
		if err = s.writeStates(ctx, part, batch); err != nil {
			break
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writing = nil
	if err != nil {
		for n, st := range batch {
			if _, newer := s.observed[n]; !newer {
				s.observed[n] = st
			}
		}
	}
	return err
}

// writeStates writes the states of those nodes that are there when it does.
func (s *Store) writeStates(ctx context.Context, names []model.NodeName, batch map[model.NodeName]*model.State) error {
	for {
		snap := s.Snapshot()
		var ifs []clientv3.Cmp
		var puts []clientv3.Op
		size := 0
		for _, n := range names {
			if snap.Node(n) == nil {
				continue
			}
			b, err := json.Marshal(batch[n])
			if err != nil {
				return fmt.Errorf("state of %s: %w", n, err)
			}
			size += len(b)
			ifs = append(ifs, clientv3.Compare(clientv3.CreateRevision(prefix+docKey(model.Op{Kind: model.KindNode, Name: string(n)})), ">", 0))
			puts = append(puts, clientv3.OpPut(prefix+docKey(model.Op{Kind: model.KindState, Name: string(n)}), string(b)))
		}
		if len(puts) == 0 {
			return nil
		}
		c := &model.Change{Verb: "observe"}
		if err := s.room("commit observe", 4*size); err != nil {
			return err
		}
		if err := s.majority(ctx, "commit observe"); err != nil {
			return err
		}
		res, err := s.send(ctx, ifs, puts)
		if err != nil {
			return s.commitError(c, len(puts), size, err)
		}
		if err := s.reach(ctx, model.Revision(res.Header.Revision)); err != nil || res.Succeeded {
			return err
		}
		// A node was removed meanwhile, and its state with it.
	}
}

// Note writes documents that build makes of the newest snapshot without a record in the audit trail: how far work is that goes on, which comes too often
// for one. When one of them was changed meanwhile, build is called again. It must do nothing but look and return; no operations write nothing.
func (s *Store) Note(ctx context.Context, build func(*model.Snapshot) []model.Op) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.inflight.Done()
	for range patience {
		if done, err := s.note(ctx, build); done || err != nil {
			return err
		}
	}
	return &Error{Kind: Uncertain, What: "commit note", Why: "others change the same documents all the time", Do: "Nothing was written; it is tried again"}
}

// note says whether the documents are written, or there are none.
func (s *Store) note(ctx context.Context, build func(*model.Snapshot) []model.Op) (done bool, err error) {
	s.turn.RLock()
	defer s.turn.RUnlock()
	w := s.world.Load()
	ops := build(w.snap)
	if len(ops) == 0 {
		return true, nil
	}
	puts, size, err := encode(ops, s.schema.Load() > 1)
	if err != nil {
		return false, err
	}
	ifs, err := unchanged(w, ops, w.snap.Revision)
	if err != nil {
		return false, err
	}
	c := &model.Change{Verb: "note"}
	if err := fits(c, len(puts), size); err != nil {
		return false, err
	}
	if err := s.room("commit note", 4*size); err != nil {
		return false, err
	}
	res, err := s.transact(ctx, "commit note", ifs, puts)
	if err != nil {
		return false, s.commitError(c, len(puts), size, err)
	}
	return res.Succeeded, s.reach(ctx, model.Revision(res.Header.Revision))
}
