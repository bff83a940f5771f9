package store

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"muster/internal/model"
)

// The families of change records. They are apart, and each has limits of its own, so that however much is told while a manager is away, it
// finds the audit trail when it is back.
const (
	changeFamily = "change" // changes with a verb: the audit trail
	toldFamily   = "told"   // batches of told events
)

// What is kept of records in etcd, for managers that were away; what is older is in the files only. Of changes Options.Changes says
// how many.
const (
	toldKept    = 4096
	toldBytes   = 64 << 20
	changeBytes = 256 << 20
)

func isRecord(kind string) bool { return kind == changeFamily || kind == toldFamily }

// record is a change as it lies in the store, and in the journals. Its Revision is that of its key; order is the number in the key. An
// empty record keeps its key from being used.
type record struct {
	model.Change
	// In place of Change.Touches: as they were written, a few plainly, many packed.
	Touches  json.RawMessage `json:"touches,omitempty"`
	TouchesZ json.RawMessage `json:"touchesz,omitempty"`

	order  uint64
	family string
	void   bool // there is no such change
}

// encodeRecord writes the record of a change.
func encodeRecord(c *model.Change) ([]byte, error) {
	r := record{Change: *c}
	r.Revision, r.Ops = 0, nil
	var err error
	if r.Touches, r.TouchesZ, err = packTouches(c.Touches); err != nil {
		return nil, err
	}
	return json.Marshal(&r)
}

func readRecord(kv *mvccpb.KeyValue) (*record, error) {
	r, err := newRecord(kv)
	if err == nil {
		err = r.read(kv)
	}
	return r, err
}

// read reads what the record says.
func (r *record) read(kv *mvccpb.KeyValue) error {
	if r.void {
		return nil
	}
	if err := json.Unmarshal(kv.Value, r); err != nil {
		return fmt.Errorf("document %s: %w", kv.Key, err)
	}
	r.Revision = model.Revision(kv.ModRevision)
	return nil
}

// newRecord is a record as far as its key says.
func newRecord(kv *mvccpb.KeyValue) (*record, error) {
	r := &record{void: len(kv.Value) == 0} // keeps a transaction out, see settle
	var number string
	r.family, number, _ = strings.Cut(strings.TrimPrefix(string(kv.Key), prefix), "/")
	number, _, _ = strings.Cut(number, "-")
	order, err := strconv.ParseUint(number, 16, 64)
	if err != nil {
		return nil, fmt.Errorf("document %s: %w", kv.Key, err)
	}
	r.Revision, r.order = model.Revision(kv.ModRevision), order
	return r, nil
}

// family is what a store knows of one family of records in etcd.
type family struct {
	name  string
	tag   string // of this process: two managers never use the same key
	keep  int
	bytes int64
	age   time.Duration // younger ones stay: by its record a manager finds out whether its change was made, see settle
	order atomic.Uint64 // of the newest record

	mu   sync.Mutex
	have []recordSize // oldest first
	size int64        // of all of them, in bytes
}

type recordSize struct {
	order uint64
	rev   model.Revision
	size  int64
	seen  time.Time
}

// from is a key that no record of that order, or a larger one, lies before.
func (f *family) from(order uint64) string { return fmt.Sprintf("%s%s/%016x", prefix, f.name, order) }

// nextKey gives the key of the next record.
func (f *family) nextKey() string { return f.from(f.order.Add(1)) + "-" + f.tag }

// note takes in that a record is there.
func (f *family) note(r *record, size int) {
	f.raise(r.order)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.have = append(f.have, recordSize{r.order, r.Revision, int64(size), time.Now()})
	f.size += int64(size)
}

// raise keeps our numbers above those that other managers, and this one before its start, have used.
func (f *family) raise(order uint64) {
	for {
		have := f.order.Load()
		if order <= have || f.order.CompareAndSwap(have, order) {
			return
		}
	}
}

// forget takes in that the records up to that order are removed.
func (f *family) forget(order uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.have = slices.DeleteFunc(f.have, func(r recordSize) bool {
		if r.order <= order {
			f.size -= r.size
		}
		return r.order <= order
	})
}

// reset takes in what is there anew.
func (f *family) reset(have []recordSize) {
	f.mu.Lock()
	defer f.mu.Unlock()
	slices.SortFunc(have, func(a, b recordSize) int { return cmp.Compare(a.rev, b.rev) })
	f.have, f.size = have, 0
	for _, r := range have {
		f.raise(r.order)
		f.size += r.size
	}
}

// trimAt returns the order below which records are to be removed, zero when there are too few for that. However large they are, young ones of
// changes stay.
func (f *family) trimAt() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	size, i := f.size, 0
	for _, r := range f.have {
		few, small, young := len(f.have)-i <= f.keep, size <= f.bytes, time.Since(r.seen) < f.age
		if few && small || young && (small || f.name == changeFamily) {
			break
		}
		size -= r.size
		i++
	}
	switch {
	case i < trimEvery && f.size-size < f.bytes/8: // it is not worth a transaction yet
		return 0
	case i == len(f.have):
		return f.order.Load() + 1
	}
	below := f.order.Load() + 1
	for _, r := range f.have[i:] { // not in the order of their numbers, where several managers write
		below = min(below, r.order)
	}
	return below
}

// hole is the revision from which on a family is complete in etcd, when that is after the given one: records between were removed.
func (f *family) hole(told model.Revision) model.Revision {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.have) > 0 && f.have[0].order > 1 && f.have[0].rev > told {
		return f.have[0].rev
	}
	return 0
}

// familyOf is the family of that name.
func (s *Store) familyOf(name string) *family {
	if name == toldFamily {
		return s.told
	}
	return s.changes
}

// recordsSince reads the records of which the journals lack something, in the order of their revisions. All are read at one revision: what comes
// meanwhile is in none, or a journal would go over what it has not got yet.
func (s *Store) recordsSince(ctx context.Context, lack lacks) ([]*record, error) {
	var out []*record
	rev := int64(0)
	for _, f := range []*family{s.changes, s.told} {
		from := f.from(0)
		for more := true; more; {
			res, err := s.engine.client.Get(ctx, from, append([]clientv3.OpOption{
				clientv3.WithRange(clientv3.GetPrefixRangeEnd(prefix + f.name + "/")), clientv3.WithRev(rev),
				clientv3.WithMinModRev(int64(lack.since())), clientv3.WithLimit(page),
			}, s.engine.reads...)...)
			if err != nil {
				return nil, err
			}
			if rev == 0 { // the header says the newest revision, not the one that was read
				rev = res.Header.Revision
			}
			for _, kv := range res.Kvs {
				from = string(kv.Key) + "\x00"
				if !lack.has(kv) {
					continue
				}
				r, err := readRecord(kv)
				if err != nil {
					return nil, err
				}
				out = append(out, r)
			}
			more = res.More
		}
	}
	sortRecords(out)
	return out, nil
}

func sortRecords(records []*record) {
	slices.SortFunc(records, func(a, b *record) int { return cmp.Compare(a.Revision, b.Revision) })
}

// trimRecords removes the records beyond those that are kept, once the journals have them on disk.
func (s *Store) trimRecords(ctx context.Context) error {
	for _, f := range []*family{s.changes, s.told} {
		order := f.trimAt()
		if order == 0 {
			continue
		}
		for _, j := range []*journal{s.events, s.audit} {
			if err := j.sync(); err != nil {
				return err
			}
		}
		if _, err := s.engine.client.Delete(ctx, f.from(0), clientv3.WithRange(f.from(order))); err != nil {
			return err
		}
		f.forget(order - 1)
	}
	return nil
}
