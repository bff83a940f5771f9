package store

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// restoreKey is in etcd elsewhere from the first to the last moment of a restore: a store that has it is not opened. Its value is that of the one
// restore that may write.
const restoreKey = root + "restore"

// restoreOps is how many documents whose changes are no longer known make a transaction: fewer than etcd's own limit of 128.
const restoreOps = 100

// refillElsewhere writes a backup into etcd elsewhere that has no documents. Revisions are etcd's own: what is written gets new ones, in the order of
// the old, so that no two changes share one, and a document has that of the change that wrote it last.
func (s *Store) refillElsewhere(ctx context.Context, what string, info BackupInfo, r io.Reader) error {
	kvs, err := inOrder(info, r)
	if err != nil {
		return inRestore(what, err)
	}
	g, err := connect(ctx, s.opt.External, s.log)
	if err != nil {
		return inRestore(what, err)
	}
	defer g.close(time.Second)
	f := &elsewhere{client: g.client, etcd: s.opt.External, what: what, token: rand.Text()}
	if err := f.begin(ctx); err != nil {
		return err
	}
	if err := f.fill(ctx, kvs); err != nil {
		return errors.Join(err, f.clear(context.WithoutCancel(ctx)))
	}
	return nil
}

// inOrder reads what of a backup is restored, in the order of revisions; the record of a change stands behind its documents.
func inOrder(info BackupInfo, r io.Reader) ([]*mvccpb.KeyValue, error) {
	var all []*mvccpb.KeyValue
	again, _, err := readBackup(r, func(kvs []*mvccpb.KeyValue) error {
		all = append(all, kvs...)
		if info.Content > large {
			return packDocuments(kvs)
		}
		return nil
	})
	if err == nil && again != info {
		err = errors.New("the backup was changed while it was read; nothing of it was used")
	}
	all = slices.DeleteFunc(all, func(kv *mvccpb.KeyValue) bool { return strings.HasPrefix(string(kv.Key), managerPrefix) })
	slices.SortStableFunc(all, func(a, b *mvccpb.KeyValue) int {
		if a.ModRevision == b.ModRevision && ofRecord(a) != ofRecord(b) {
			return map[bool]int{true: 1, false: -1}[ofRecord(a)]
		}
		return cmp.Compare(a.ModRevision, b.ModRevision)
	})
	return all, err
}

// ofRecord says that the key is that of a change record.
func ofRecord(kv *mvccpb.KeyValue) bool {
	kind, _, _ := strings.Cut(strings.TrimPrefix(string(kv.Key), prefix), "/")
	return isRecord(kind)
}

// elsewhere is a restore into etcd elsewhere.
type elsewhere struct {
	client      *clientv3.Client
	etcd        *External
	what, token string
}

// begin takes an etcd that has no documents, or those only of a restore that was not finished.
func (f *elsewhere) begin(ctx context.Context) error {
	claim := clientv3.OpPut(restoreKey, f.token)
	empty := clientv3.Compare(clientv3.CreateRevision(prefix), "=", 0).WithPrefix()
	if ok, err := f.transact(ctx, empty, claim); ok || err != nil {
		return err
	}
	if ok, err := f.transact(ctx, clientv3.Compare(clientv3.CreateRevision(restoreKey), ">", 0), claim, clientv3.OpDelete(prefix, clientv3.WithPrefix())); ok || err != nil {
		return err
	}
	return &Error{
		Kind: Occupied, What: f.what, Why: "a store of muster is in it",
		Do: "Nothing was changed. Name another etcd; or, when nobody needs what is there, stop all its managers, remove it (etcdctl del --prefix " + root + "), and ask again",
	}
}

// fill writes keys that are in order, each change as a transaction of its own. Documents whose change is no longer known go along with a later one.
func (f *elsewhere) fill(ctx context.Context, kvs []*mvccpb.KeyValue) error {
	from := 0
	for i, kv := range kvs {
		if ofRecord(kv) || i+1 == len(kvs) || i-from > restoreOps && kvs[i+1].ModRevision > kv.ModRevision {
			if err := f.put(ctx, kvs[from:i+1]); err != nil {
				return err
			}
			from = i + 1
		}
	}
	return f.mine(ctx, 0, clientv3.OpPut(schemaKey, strconv.Itoa(Schema)), clientv3.OpDelete(restoreKey))
}

// put writes keys in one transaction, or where etcd's limits do not allow that, in several. Then their change cannot be taken back any more.
func (f *elsewhere) put(ctx context.Context, kvs []*mvccpb.KeyValue) error {
	size := 0
	ops := make([]clientv3.Op, len(kvs))
	for i, kv := range kvs {
		ops[i] = clientv3.OpPut(string(kv.Key), string(kv.Value))
		size += len(kv.Key) + len(kv.Value)
	}
	err := f.mine(ctx, size, ops...)
	if n := len(kvs) / 2; n > 0 && IsKind(err, TooLarge) {
		if err = f.put(ctx, kvs[:n]); err == nil {
			err = f.put(ctx, kvs[n:])
		}
	}
	return err
}

// clear takes away what was written.
func (f *elsewhere) clear(ctx context.Context) error {
	return f.mine(ctx, 0, clientv3.OpDelete(prefix, clientv3.WithPrefix()), clientv3.OpDelete(restoreKey))
}

// mine makes a transaction, unless another restore has begun since.
func (f *elsewhere) mine(ctx context.Context, size int, ops ...clientv3.Op) error {
	ok, err := f.transact(ctx, clientv3.Compare(clientv3.Value(restoreKey), "=", f.token), ops...)
	switch {
	case errors.Is(err, rpctypes.ErrTooManyOps), errors.Is(err, rpctypes.ErrRequestTooLarge), overLimit(err):
		return f.etcd.tooLarge(f.what, len(ops), size, err)
	case err == nil && !ok:
		return &Error{Kind: Occupied, What: f.what, Why: "another restore into it has begun meanwhile", Do: "Let one of them come to its end"}
	}
	return err
}

func (f *elsewhere) transact(ctx context.Context, when clientv3.Cmp, ops ...clientv3.Op) (bool, error) {
	limit, cancel := context.WithTimeout(ctx, settleLimit)
	defer cancel()
	res, err := f.client.Txn(limit).If(when).Then(ops...).Commit()
	switch {
	case err == nil:
		return res.Succeeded, nil
	case ctx.Err() != nil:
		return false, ctx.Err()
	case refused(err):
		return false, fmt.Errorf("%s: %w", f.what, err)
	}
	return false, inRestore(f.what, f.etcd.silent(err))
}

// checkRestored refuses etcd elsewhere into which a restore was begun and not finished.
func checkRestored(ctx context.Context, c *clientv3.Client, x *External) error {
	res, err := c.Get(ctx, restoreKey)
	switch {
	case err != nil:
		return x.silent(err)
	case len(res.Kvs) > 0:
		return notFinished(x.what(), "or remove what is there to begin empty: etcdctl del --prefix "+root)
	}
	return nil
}
