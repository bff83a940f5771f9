package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	etcdschema "go.etcd.io/etcd/server/v3/storage/schema"

	"muster/internal/durable"
)

// unfinished is there from the first to the last moment of a restore: a directory that has it is not opened.
const unfinished = "restore.unfinished"

// gap is how many revisions a restored store leaves out after that of the backup: the old store has gone on after it, and
// what is known outside by a revision of those (the place of a follower, an ETag) must not be taken for something of the new one.
const gap = 1 << 24

// Restore makes a store of a backup: every document and change record as it was, of the revision that it had. The directory is made,
// or empty, or that of a restore that was not finished. The whole file is checked before anything is made, and the store can be opened
// only when all of it is there.
//
// The store has one manager, the one that opens it: documents of managers are left out, for a manager of the old pool joins the new one
// as any other. It has the schema of this program. Revisions go on far above that of the backup.
//
// With Options.External the documents go into that etcd, which must have none of muster's; the directory stays empty. Revisions are its own there:
// documents and changes get new ones, in the same order.
func Restore(ctx context.Context, o Options, r io.ReadSeeker) (BackupInfo, error) {
	if o.Dir == "" {
		return BackupInfo{}, errors.New("restore: no directory given")
	}
	o.setDefaults()
	what := "restore into " + o.Dir
	if o.External != nil {
		what = "restore into etcd at " + o.External.at()
	}
	info, _, err := CheckBackup(r)
	if err != nil {
		return BackupInfo{}, inRestore(what, err)
	}
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return BackupInfo{}, fmt.Errorf("%s: %w", what, err)
	}
	if err := vacant(what, o.Dir); err != nil { // a first look, so that not even a lock is left there
		return BackupInfo{}, err
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return BackupInfo{}, fileError(what, o.Dir, err)
	}
	if err := os.Chmod(o.Dir, 0o700); err != nil {
		return BackupInfo{}, fileError(what, o.Dir, err)
	}
	l, err := acquire(ctx, o.Dir)
	if err != nil {
		return BackupInfo{}, inRestore(what, err)
	}
	s := &Store{opt: o, log: o.Log}
	err = s.restore(ctx, what, info, r)
	if err := errors.Join(err, l.release()); err != nil {
		return BackupInfo{}, err
	}
	return info, nil
}

// inRestore says what was to be done in an error of one of its parts.
func inRestore(what string, err error) error {
	if e := (*Error)(nil); errors.As(err, &e) {
		e.What = what
		return e
	}
	return fmt.Errorf("%s: %w", what, err)
}

// vacant refuses a directory that has anything in it, but for what a restore that was not finished left.
func vacant(what, dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fileError(what, dir, err)
	}
	if isUnfinished(dir) {
		return nil
	}
	for _, e := range entries {
		if e.Name() != "lock" {
			return &Error{
				Kind: Occupied, What: what, Why: fmt.Sprintf("there is something in it (%s)", e.Name()),
				Do: fmt.Sprintf("Nothing was changed. Stop muster, move what is there away (mv %s %s.old), and ask again", dir, dir),
			}
		}
	}
	return nil
}

func isUnfinished(dir string) bool {
	_, err := os.Lstat(filepath.Join(dir, unfinished))
	return !errors.Is(err, os.ErrNotExist)
}

func (s *Store) restore(ctx context.Context, what string, info BackupInfo, r io.Reader) error {
	if err := vacant(what, s.opt.Dir); err != nil {
		return err
	}
	if s.opt.External != nil {
		return s.refillElsewhere(ctx, what, info, r)
	}
	if err := s.room(what, firstStart+3*int(info.Content)); err != nil {
		return err
	}
	mark := filepath.Join(s.opt.Dir, unfinished)
	f, err := os.OpenFile(mark, os.O_WRONLY|os.O_CREATE, 0o600)
	if err == nil {
		err = errors.Join(f.Close(), durable.SyncDir(s.opt.Dir))
	}
	if err != nil {
		return fileError(what, mark, err)
	}
	if err := s.refill(ctx, what, info, r); err != nil {
		// What is there is none of a person's: the directory was empty.
		if left := s.clear(); left != nil {
			return errors.Join(err, left) // the mark stays
		}
		return errors.Join(err, os.Remove(mark))
	}
	if err := os.Remove(mark); err != nil {
		return fileError(what, mark, err)
	}
	return durable.SyncDir(s.opt.Dir)
}

// clear removes what an earlier try has left.
func (s *Store) clear() error {
	var errs []error
	halves, err := filepath.Glob(filepath.Join(s.opt.Dir, ".store.json.new*")) // see durable.WriteFile
	for _, name := range append(halves, "store.json", "etcd", "etcd.new") {
		errs = append(errs, os.RemoveAll(filepath.Join(s.opt.Dir, filepath.Base(name))))
	}
	return errors.Join(append(errs, err)...)
}

func (s *Store) refill(ctx context.Context, what string, info BackupInfo, r io.Reader) error {
	dir := filepath.Join(s.opt.Dir, "etcd")
	raw := dir + ".new"
	if err := s.clear(); err != nil {
		return fileError(what, s.opt.Dir, err)
	}
	m := s.member(raw)
	m.mount, m.fresh = nil, true
	g, err := startEngine(ctx, m, s.log)
	if err != nil {
		return fileError(what, raw, err)
	}
	g.close(startLimit)
	if err := fill(ctx, filepath.Join(raw, "member", "snap", "db"), info, r); err != nil {
		return fileError(what, raw, err)
	}
	if err := examine(raw); err != nil {
		return fileError(what, raw, err)
	}
	if err := os.Rename(raw, dir); err != nil {
		return fileError(what, dir, err)
	}
	if err := durable.SyncDir(s.opt.Dir); err != nil {
		return fileError(what, dir, err)
	}
	return s.writeMark(mark{Store: "muster", Schema: Schema, Created: time.Now().UTC().Truncate(time.Second)})
}

// fill writes the keys of a backup into the database of a member that has none yet, each at its revision. A transaction could not do that:
// it gives a revision of its own. etcd's own tool for backups writes the database, too.
func fill(ctx context.Context, path string, info BackupInfo, r io.Reader) error {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second, NoFreelistSync: true})
	if err != nil {
		return err
	}
	defer db.Close()
	db.NoSync = true // until the end
	subs := map[int64]int64{}
	put := func(b *bbolt.Bucket, kv *mvccpb.KeyValue) error {
		sub := subs[kv.ModRevision]
		subs[kv.ModRevision]++
		return b.Put(mvcc.RevToBytes(mvcc.Revision{Main: kv.ModRevision, Sub: sub}, mvcc.NewRevBytes()), keyValue(kv))
	}
	again, _, err := readBackup(r, func(kvs []*mvccpb.KeyValue) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if info.Content > large {
			if err := packDocuments(kvs); err != nil {
				return err
			}
		}
		return db.Update(func(tx *bbolt.Tx) error {
			b := tx.Bucket(etcdschema.Key.Name())
			b.FillPercent = 0.9 // most come in the order of their revisions
			for _, kv := range kvs {
				if strings.HasPrefix(string(kv.Key), managerPrefix) {
					continue
				}
				if err := put(b, kv); err != nil {
					return err
				}
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	if again != info {
		return errors.New("the backup was changed while it was read; nothing of it was used")
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		rev := mvcc.RevToBytes(mvcc.Revision{Main: int64(info.Revision)}, mvcc.NewRevBytes())
		meta := tx.Bucket(etcdschema.Meta.Name())
		// There is no history before: a watch from there is told so.
		return errors.Join(
			meta.Put(etcdschema.ScheduledCompactKeyName, rev), meta.Put(etcdschema.FinishedCompactKeyName, rev),
			put(tx.Bucket(etcdschema.Key.Name()), &mvccpb.KeyValue{
				Key: []byte(schemaKey), Value: []byte(strconv.Itoa(Schema)), ModRevision: int64(info.Revision) + gap,
			}))
	})
	if err != nil {
		return err
	}
	return db.Sync()
}

// packDocuments compresses the documents among the keys.
func packDocuments(kvs []*mvccpb.KeyValue) error {
	values := make([][]byte, len(kvs))
	for i, kv := range kvs {
		if kind, _, _ := strings.Cut(strings.TrimPrefix(string(kv.Key), prefix), "/"); !isRecord(kind) {
			values[i] = kv.Value
		}
	}
	if err := packDocs(values); err != nil {
		return err
	}
	for i, v := range values {
		if v != nil {
			kvs[i].Value = v
		}
	}
	return nil
}

// keyValue is the message KeyValue of etcd (api/mvccpb/kv.proto) of a key that was written once.
func keyValue(kv *mvccpb.KeyValue) []byte {
	const varint, bytes = 0, 2
	b := make([]byte, 0, len(kv.Key)+len(kv.Value)+32)
	b = append(binary.AppendUvarint(append(b, 1<<3|bytes), uint64(len(kv.Key))), kv.Key...)
	b = binary.AppendUvarint(append(b, 2<<3|varint), uint64(kv.ModRevision)) // created
	b = binary.AppendUvarint(append(b, 3<<3|varint), uint64(kv.ModRevision))
	b = binary.AppendUvarint(append(b, 4<<3|varint), 1) // version
	return append(binary.AppendUvarint(append(b, 5<<3|bytes), uint64(len(kv.Value))), kv.Value...)
}

// checkFinished refuses a directory in which a restore was begun and not finished.
func checkFinished(dir string) error {
	if !isUnfinished(dir) {
		return nil
	}
	return notFinished("open store "+dir, "or remove the directory to begin empty")
}

func notFinished(what, or string) error {
	return &Error{Kind: Damaged, What: what, Why: "a restore into it was not finished", Do: "Run the restore again, it begins anew; " + or}
}
