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
	r := new(record)
	if len(kv.Value) == 0 { // keeps a transaction out, see settle
		r.void = true
	} else if err := json.Unmarshal(kv.Value, r); err != nil {
		return nil, fmt.Errorf("document %s: %w", kv.Key, err)
	}
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
	age   time.Duration // younger ones are not removed
	order atomic.Uint64 // of the newest record

	mu   sync.Mutex
	have []recordSize // oldest first
	size int64        // of all of them, in bytes
}

type recordSize struct {
	order uint64
	rev   model.Revision
	size  int64
	at    time.Time // when this process saw it
}

// from is a key that no record of that order, or a larger one, lies before.
func (f *family) from(order uint64) string { return fmt.Sprintf("%s%s/%016x", prefix, f.name, order) }

// nextKey gives the key of the next record.
func (f *family) nextKey() string { return f.from(f.order.Add(1)) + "-" + f.tag }

// note takes in that a record is there.
func (f *family) note(r *record, size int) {
	for { // our numbers stay above those that other managers have used
		have := f.order.Load()
		if r.order <= have || f.order.CompareAndSwap(have, r.order) {
			break
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.have = append(f.have, recordSize{r.order, r.Revision, int64(size), time.Now()})
	f.size += int64(size)
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
	now := time.Now()
	for i, r := range have {
		have[i].at = now
		f.size += r.size
	}
}

// trimAt returns the order below which records are to be removed, zero when there are too few for that. Young ones stay, however many they are:
// another manager may still have to find out by them whether its transaction was made, see settle.
func (f *family) trimAt(now time.Time) uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, size := 0, f.size
	for n < len(f.have) && (len(f.have)-n > f.keep || size > f.bytes) && now.Sub(f.have[n].at) >= f.age {
		size -= f.have[n].size
		n++
	}
	if n < trimEvery && (n == 0 || f.size <= f.bytes+f.bytes/8) {
		return 0
	}
	below := f.order.Load() + 1
	for _, r := range f.have[n:] {
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

// recordsSince reads the records of that revision and later, in the order of their revisions.
func (s *Store) recordsSince(ctx context.Context, since model.Revision) ([]*record, error) {
	var out []*record
	for _, f := range []*family{s.changes, s.told} {
		from, rev := f.from(0), int64(0)
		for more := true; more; {
			res, err := s.engine.client.Get(ctx, from, clientv3.WithRange(clientv3.GetPrefixRangeEnd(prefix+f.name+"/")), clientv3.WithRev(rev),
				clientv3.WithMinModRev(int64(since)), clientv3.WithLimit(page), clientv3.WithSerializable())
			if err != nil {
				return nil, err
			}
			for _, kv := range res.Kvs {
				r, err := readRecord(kv)
				if err != nil {
					return nil, err
				}
				out = append(out, r)
				from = string(kv.Key) + "\x00"
			}
			more, rev = res.More, res.Header.Revision
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
		order := f.trimAt(time.Now())
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
