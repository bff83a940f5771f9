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

// tend writes what is observed and removes old change records. It sleeps as long as there is neither.
func (s *Store) tend(ctx context.Context) {
	var due <-chan time.Time
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
			if err := s.trimChanges(ctx); err != nil && ctx.Err() == nil {
				s.log.Warn("store: old change records are not removed yet", "err", err)
			}
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
		res, err := s.engine.client.Txn(ctx).If(ifs...).Then(puts...).Commit()
		if err != nil {
			return s.commitError(c, len(puts), size, err)
		}
		if err := s.reach(ctx, model.Revision(res.Header.Revision)); err != nil || res.Succeeded {
			return err
		}
		// A node was removed meanwhile, and its state with it.
	}
}

// orderAt is how far the change records were at some time.
type orderAt struct {
	order uint64
	at    time.Time
}

// trimChanges removes the change records beyond those that are kept, once the timeline has them on disk. Young ones stay, however many they are:
// another manager may still have to find out by them whether its commit was made, see settle. Only tend calls it.
func (s *Store) trimChanges(ctx context.Context) error {
	now := orderAt{s.order.Load(), time.Now()}
	if n := len(s.orders); n == 0 || now.order >= s.orders[n-1].order+trimEvery {
		s.orders = append(s.orders, now)
	}
	i := 0
	for i < len(s.orders) && now.at.Sub(s.orders[i].at) >= s.opt.trimAge {
		i++
	}
	if i == 0 || now.order < uint64(s.opt.Changes) {
		return nil
	}
	below := min(s.orders[i-1].order, now.order-uint64(s.opt.Changes))
	if below < s.trimmed.Load()+trimEvery {
		return nil
	}
	if err := s.timeline.sync(); err != nil {
		return err
	}
	if _, err := s.engine.client.Delete(ctx, changePrefix, clientv3.WithRange(changeKey(below))); err != nil {
		return err
	}
	s.orders = slices.Delete(s.orders, 0, i-1)
	s.trimmed.Store(below)
	return nil
}
