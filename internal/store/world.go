package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/tidwall/btree"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"muster/internal/model"
)

// The keys. What is outside the versioned prefix is found by every version.
const (
	root         = "/muster/"
	prefix       = root + "1/"
	changePrefix = prefix + changeFamily + "/"
)

// page is how many keys one read of the store takes at a start.
const page = 10_000

// world is a snapshot with what the store knows beside it. It is immutable; next is closed when it is replaced.
type world struct {
	snap *model.Snapshot
	docs *btree.Map[string, doc] // by "kind/name"
	next chan struct{}

	live map[model.ManagerName]bool // managers whose lease holds; not changed, replaced
}

// doc is the last revision of one document. A removed document stays, so that a change built before is refused.
type doc struct {
	rev     model.Revision
	removed bool
}

func docKey(op model.Op) string { return string(op.Kind) + "/" + op.Name }

// load reads the whole world at one revision, and the records of which the journals lack something, in the order of their
// revisions. It begins again when others write so much meanwhile that the revision is not kept.
func (s *Store) load(ctx context.Context, lack lacks) (w *world, records []*record, err error) {
	for {
		w, records, err = s.loadOnce(ctx, lack)
		if !errors.Is(err, rpctypes.ErrCompacted) || ctx.Err() != nil {
			return w, records, err
		}
		s.log.Warn("store: the revision that was read is not kept any more; reading everything again")
	}
}

func (s *Store) loadOnce(ctx context.Context, lack lacks) (*world, []*record, error) {
	w := &world{docs: new(btree.Map[string, doc]), next: make(chan struct{}), live: make(map[model.ManagerName]bool)}
	var (
		ops     []model.Op
		revs    []model.Revision
		records []*record
		sizes   = map[string][]recordSize{}
		rev     int64
		from    = prefix
	)
	for more := true; more; {
		res, err := s.engine.client.Get(ctx, from, append([]clientv3.OpOption{
			clientv3.WithRange(clientv3.GetPrefixRangeEnd(prefix)), clientv3.WithRev(rev), clientv3.WithLimit(page),
		}, s.engine.reads...)...)
		if err != nil {
			return nil, nil, &brokenError{err}
		}
		got, err := s.decoders.decode(res.Kvs)
		if err != nil {
			return nil, nil, err
		}
		for i, kv := range res.Kvs {
			mod := model.Revision(kv.ModRevision)
			if got[i].Doc != nil {
				w.docs.Load(docKey(got[i]), doc{rev: mod})
				ops, revs = append(ops, got[i]), append(revs, mod)
				continue
			}
			r, err := newRecord(kv)
			if err != nil {
				return nil, nil, err
			}
			sizes[r.family] = append(sizes[r.family], recordSize{r.order, r.Revision, int64(len(kv.Value)), time.Now()})
			if lack.has(kv) {
				if err := r.read(kv); err != nil {
					return nil, nil, err
				}
				records = append(records, r)
			}
		}
		if rev == 0 { // the header says the newest revision, not the one that was read
			rev = res.Header.Revision
		}
		more = res.More
		if n := len(res.Kvs); n > 0 {
			from = string(res.Kvs[n-1].Key) + "\x00"
		}
	}
	live, err := s.engine.client.Get(ctx, livePrefix, append([]clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithRev(rev)}, s.engine.reads...)...)
	if err != nil {
		return nil, nil, &brokenError{err}
	}
	for _, kv := range live.Kvs {
		name, _ := liveName(kv.Key)
		w.live[name] = true
	}
	snap, err := model.Apply(model.Empty(), &model.Change{Revision: model.Revision(rev), Ops: ops})
	if err != nil {
		return nil, nil, err
	}
	for i, op := range ops { // Apply has stamped all with one revision; each keeps its own
		model.SetRevision(op.Doc, revs[i])
	}
	w.snap = snap
	sortRecords(records)
	for _, f := range []*family{s.changes, s.told} {
		f.reset(sizes[f.name])
	}
	return w, records, nil
}

// removeAbsent notes what an older world has and w has not: it was removed since.
func (w *world) removeAbsent(old *world) {
	old.docs.Scan(func(key string, d doc) bool {
		if _, ok := w.docs.Get(key); !ok {
			if !d.removed {
				d = doc{w.snap.Revision, true}
			}
			w.docs.Set(key, d)
		}
		return true
	})
}

// decoders are those that are not in use. What they know of documents makes the next ones share it.
type decoders struct {
	mu   sync.Mutex
	free []*model.Decoder
}

func (d *decoders) take() *model.Decoder {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := len(d.free) - 1
	if n < 0 {
		return new(model.Decoder)
	}
	x := d.free[n]
	d.free = d.free[:n]
	return x
}

func (d *decoders) put(x *model.Decoder) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.free = append(d.free, x)
}

// decode reads the documents of the keys, on all processors when there are many. The place of a change record is left empty.
func (d *decoders) decode(kvs []*mvccpb.KeyValue) ([]model.Op, error) {
	ops := make([]model.Op, len(kvs))
	err := parallel(len(kvs), func(from, to int) (err error) {
		x := d.take()
		defer d.put(x)
		var buf []byte
		for i, kv := range kvs[from:to] {
			if ops[from+i], buf, err = decodeOne(kv, x, buf); err != nil {
				return err
			}
		}
		return nil
	})
	return ops, err
}

// decodeOne reads one document. buf is room for its text, and is returned for the next one.
func decodeOne(kv *mvccpb.KeyValue, x *model.Decoder, buf []byte) (model.Op, []byte, error) {
	kind, name, ok := strings.Cut(string(kv.Key[len(prefix):]), "/")
	if !ok || name == "" {
		return model.Op{}, buf, fmt.Errorf("key %s names no document", kv.Key)
	}
	if isRecord(kind) {
		return model.Op{}, buf, nil
	}
	text := kv.Value
	if bytes.HasPrefix(text, frame) {
		var err error
		if buf, err = unpack(text, buf[:0]); err != nil {
			return model.Op{}, buf, fmt.Errorf("document %s/%s: %w", kind, name, err)
		}
		text = buf
	}
	d, err := x.Decode(model.Kind(kind), text)
	if err != nil {
		return model.Op{}, buf, fmt.Errorf("document %s/%s: %w", kind, name, err)
	}
	return model.Op{Kind: model.Kind(kind), Name: name, Doc: d}, buf, nil
}

// watch feeds the world from the store's one ordered stream until ctx ends. Every revision is applied whole.
func (s *Store) watch(ctx context.Context) error {
	for {
		err := s.watchFrom(ctx, int64(s.world.Load().snap.Revision)+1)
		if ctx.Err() == nil && errors.Is(err, rpctypes.ErrCompacted) { // we lag behind what is kept
			s.log.Warn("store: the watch fell behind the history that is kept; reading everything again")
			err = s.readAgain(ctx)
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.As(err, new(*brokenError)) && s.engine.member == nil: // etcd elsewhere: it will come back, and nothing is missed
			s.log.Warn("store: the watch of etcd broke off; asking again", "err", err)
			select {
			case <-time.After(leaseRenew / 4):
			case <-ctx.Done():
			}
		case err != nil:
			return err
		}
	}
}

// readAgain replaces the world by one that is read whole.
func (s *Store) readAgain(ctx context.Context) error {
	if err := s.readSchema(ctx); err != nil {
		return err
	}
	old := s.world.Load()
	w, records, err := s.load(ctx, s.lacking())
	if err != nil {
		return err
	}
	w.removeAbsent(old)
	s.tellRecords(records)
	s.publish(w)
	return nil
}

// brokenError says that the watch ended or a read did not go, not that what they brought was wrong.
type brokenError struct{ error }

func (e *brokenError) Unwrap() error { return e.error }

func (s *Store) watchFrom(ctx context.Context, rev int64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watch := ctx
	if s.engine.member == nil { // else a server that is cut off from its own would keep us waiting
		watch = clientv3.WithRequireLeader(ctx)
	}
	for res := range s.engine.client.Watch(watch, root, clientv3.WithPrefix(), clientv3.WithRev(rev)) {
		if err := res.Err(); err != nil {
			return &brokenError{err}
		}
		w := s.world.Load()
		for ev := res.Events; len(ev) > 0; {
			n := 1
			for n < len(ev) && ev[n].Kv.ModRevision == ev[0].Kv.ModRevision {
				n++
			}
			next, err := s.step(w, ev[:n])
			if err != nil {
				return err
			}
			w, ev = next, ev[n:]
		}
		s.publish(w)
	}
	if ctx.Err() == nil {
		return &brokenError{errors.New("the watch ended")}
	}
	return ctx.Err()
}

// step returns the world after the events of one revision, and hands its change's events to the timeline.
func (s *Store) step(w *world, events []*clientv3.Event) (*world, error) {
	rev := model.Revision(events[0].Kv.ModRevision)
	n := &world{docs: w.docs.Copy(), next: make(chan struct{}), live: w.live}
	puts := make([]*mvccpb.KeyValue, 0, len(events))
	var ops []model.Op
	size := 0
	for _, e := range events {
		if string(e.Kv.Key) == schemaKey {
			if err := s.noteSchema(e.Kv); err != nil {
				return nil, err
			}
		}
		if name, ok := liveName(e.Kv.Key); ok {
			n.live = maps.Clone(n.live)
			if n.live[name] = true; e.Type == clientv3.EventTypeDelete {
				delete(n.live, name)
			}
		}
		if !strings.HasPrefix(string(e.Kv.Key), prefix) {
			continue
		}
		kind, name, _ := strings.Cut(string(e.Kv.Key[len(prefix):]), "/")
		op := model.Op{Kind: model.Kind(kind), Name: name}
		switch op.Kind {
		case model.KindManager:
			wake(s.raise)
		case model.KindState: // comes often
		default:
			size += len(e.Kv.Value)
		}
		switch {
		case !isRecord(kind) && e.Type == clientv3.EventTypeDelete:
			ops = append(ops, op)
			n.docs.Set(docKey(op), doc{rev, true})
		case !isRecord(kind):
			puts = append(puts, e.Kv)
			n.docs.Set(docKey(op), doc{rev, false})
		case e.Type == clientv3.EventTypePut:
			r, err := readRecord(e.Kv)
			if err != nil {
				return nil, err
			}
			s.familyOf(kind).note(r, len(e.Kv.Value))
			s.tellRecord(r)
		default:
			r, err := readRecord(e.Kv)
			if err != nil {
				return nil, err
			}
			s.familyOf(kind).forget(r.order)
		}
	}
	docs, err := s.decoders.decode(puts)
	if err != nil {
		return nil, err
	}
	n.snap, err = model.Apply(w.snap, &model.Change{Revision: rev, Ops: append(ops, docs...)})
	if size > large {
		wake(s.swollen)
	}
	return n, err
}

func (s *Store) publish(w *world) {
	old := s.world.Swap(w)
	if old != w {
		close(old.next)
	}
	if s.changes.trimAt() > 0 || s.told.trimAt() > 0 {
		wake(s.trim)
	}
}
