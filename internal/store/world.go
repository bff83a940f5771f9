package store

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tidwall/btree"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"muster/internal/model"
)

// The keys. schemaKey is outside the versioned prefix, so that every version finds it.
const (
	root         = "/muster/"
	schemaKey    = root + "schema"
	prefix       = root + "1/"
	changeFamily = "change"
	changePrefix = prefix + changeFamily + "/"
	schema       = 1
)

// page is how many keys one read of the store takes at a start.
const page = 10_000

// world is a snapshot with what the store knows beside it. It is immutable; next is closed when it is replaced.
type world struct {
	snap *model.Snapshot
	docs *btree.Map[string, doc] // by "kind/name"
	next chan struct{}

	order uint64 // of the newest change record, at a load

	live map[model.ManagerName]bool // managers whose lease holds; not changed, replaced
}

// doc is the last revision of one document. A removed document stays, so that a change built before is refused.
type doc struct {
	rev     model.Revision
	removed bool
}

func docKey(op model.Op) string { return string(op.Kind) + "/" + op.Name }

func changeKey(order uint64) string { return fmt.Sprintf("%s%016x", changePrefix, order) }

// orderOf reads the order from the key of a change record: 16 hex digits, and, since there are pools, a dot and who wrote it.
func orderOf(key []byte) (uint64, error) {
	hex, _, _ := strings.Cut(strings.TrimPrefix(string(key), changePrefix), ".")
	return strconv.ParseUint(hex, 16, 64)
}

// record is a change as it lies in the store, and on the timeline.
// Its Revision is that of its key; order is the number in the key. An empty record keeps its key from being used.
type record struct {
	model.Change
	order uint64
	void  bool // there is no such change
}

func readRecord(kv *mvccpb.KeyValue) (*record, error) {
	r := new(record)
	if len(kv.Value) == 0 { // keeps a transaction out, see settle
		r.void = true
	} else if err := json.Unmarshal(kv.Value, &r.Change); err != nil {
		return nil, fmt.Errorf("document %s: %w", kv.Key, err)
	}
	order, err := orderOf(kv.Key)
	if err != nil {
		return nil, fmt.Errorf("document %s: %w", kv.Key, err)
	}
	r.Revision, r.order = model.Revision(kv.ModRevision), order
	return r, nil
}

// load reads the whole world at one revision, and the records of the changes of revision since and later, in the order of their
// revisions.
func load(ctx context.Context, c *clientv3.Client, since model.Revision, reads ...clientv3.OpOption) (*world, []*record, error) {
	w := &world{docs: new(btree.Map[string, doc]), next: make(chan struct{}), live: make(map[model.ManagerName]bool)}
	var (
		ops     []model.Op
		revs    []model.Revision
		records []*record
		rev     int64
		from    = prefix
	)
	for more := true; more; {
		res, err := c.Get(ctx, from, append([]clientv3.OpOption{
			clientv3.WithRange(clientv3.GetPrefixRangeEnd(prefix)), clientv3.WithRev(rev), clientv3.WithLimit(page),
		}, reads...)...)
		if err != nil {
			return nil, nil, err
		}
		got, err := decode(res.Kvs)
		if err != nil {
			return nil, nil, err
		}
		for i, kv := range res.Kvs {
			mod := model.Revision(kv.ModRevision)
			if got[i].Doc != nil {
				w.docs.Load(docKey(got[i]), doc{rev: mod})
				ops, revs = append(ops, got[i]), append(revs, mod)
			} else if r, err := readRecord(kv); err != nil {
				return nil, nil, err
			} else if mod >= since || w.order < r.order {
				w.order = max(w.order, r.order)
				if mod >= since {
					records = append(records, r)
				}
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
	live, err := c.Get(ctx, livePrefix, append([]clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithRev(rev)}, reads...)...)
	if err != nil {
		return nil, nil, err
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
	slices.SortFunc(records, func(a, b *record) int { return cmp.Compare(a.Revision, b.Revision) })
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

// decode reads the documents of the keys, on all processors when there are many. The place of a change record is left empty.
func decode(kvs []*mvccpb.KeyValue) ([]model.Op, error) {
	ops := make([]model.Op, len(kvs))
	errs := make([]error, runtime.GOMAXPROCS(0))
	var wg sync.WaitGroup
	share := max(500, (len(kvs)+len(errs)-1)/len(errs))
	for n := 0; n*share < len(kvs); n++ {
		part := func() {
			for i := n * share; i < min(len(kvs), (n+1)*share); i++ {
				op, err := decodeOne(kvs[i])
				if err != nil {
					errs[n] = err
					return
				}
				ops[i] = op
			}
		}
		if len(kvs) <= share {
			part()
			break
		}
		wg.Go(part)
	}
	wg.Wait()
	return ops, errors.Join(errs...)
}

func decodeOne(kv *mvccpb.KeyValue) (model.Op, error) {
	kind, name, ok := strings.Cut(string(kv.Key[len(prefix):]), "/")
	if !ok || name == "" {
		return model.Op{}, fmt.Errorf("key %s names no document", kv.Key)
	}
	if kind == changeFamily {
		return model.Op{}, nil
	}
	d, err := model.Decode(model.Kind(kind), kv.Value)
	if err != nil {
		return model.Op{}, fmt.Errorf("document %s/%s: %w", kind, name, err)
	}
	return model.Op{Kind: model.Kind(kind), Name: name, Doc: d}, nil
}

// watch feeds the world from the store's one ordered stream until ctx ends. Every revision is applied whole.
func (s *Store) watch(ctx context.Context) error {
	for {
		err := s.watchFrom(ctx, int64(s.world.Load().snap.Revision)+1)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, rpctypes.ErrCompacted): // we lag behind what is kept: read the whole again
			s.log.Warn("store: the watch fell behind the history that is kept; reading everything again")
			old := s.world.Load()
			w, records, err := load(ctx, s.engine.client, old.snap.Revision+1, s.engine.reads...)
			if errors.Is(err, rpctypes.ErrCompacted) {
				continue
			}
			if err != nil {
				return err
			}
			w.removeAbsent(old)
			for _, r := range records {
				s.timeline.tellChange(r, nil)
			}
			s.noteOrder(w.order)
			s.publish(w)
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

// brokenError says that the watch ended, not what it brought was wrong.
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
	for _, e := range events {
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
		switch {
		case kind != changeFamily && e.Type == clientv3.EventTypeDelete:
			ops = append(ops, op)
			n.docs.Set(docKey(op), doc{rev, true})
		case kind != changeFamily:
			puts = append(puts, e.Kv)
			n.docs.Set(docKey(op), doc{rev, false})
		case e.Type == clientv3.EventTypePut:
			r, err := readRecord(e.Kv)
			if err != nil {
				return nil, err
			}
			s.noteOrder(r.order)
			s.timeline.tellChange(r, nil)
		}
	}
	docs, err := decode(puts)
	if err != nil {
		return nil, err
	}
	n.snap, err = model.Apply(w.snap, &model.Change{Revision: rev, Ops: append(ops, docs...)})
	return n, err
}

func (s *Store) publish(w *world) {
	old := s.world.Swap(w)
	if old != w {
		close(old.next)
	}
	if s.order.Load() >= s.trimmed.Load()+uint64(s.opt.Changes)+trimEvery {
		wake(s.trim)
	}
}

// setSchema writes the version of the schema into a new store.
func setSchema(ctx context.Context, c *clientv3.Client) error {
	_, err := c.Put(ctx, schemaKey, strconv.Itoa(schema))
	return err
}

// checkSchema refuses a store of a newer version.
func checkSchema(ctx context.Context, c *clientv3.Client, reads ...clientv3.OpOption) error {
	res, err := c.Get(ctx, schemaKey, reads...)
	if err != nil {
		return err
	}
	if len(res.Kvs) == 0 {
		return fmt.Errorf("document %s is not there", schemaKey)
	}
	n, err := strconv.Atoi(string(res.Kvs[0].Value))
	switch {
	case err != nil || n < 1:
		return fmt.Errorf("document %s: %q is no version", schemaKey, res.Kvs[0].Value)
	case n > schema:
		return &Error{
			Kind: Newer,
			Why:  fmt.Sprintf("it has schema %d, this program knows schemas up to %d", n, schema),
			Do:   "Use the muster that wrote it, or a newer one",
		}
	}
	return nil
}
