package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sys/unix"

	"muster/internal/model"
)

// Of the conflicts that [Store.Update] meets, polite many are with others at work; after these it has the store for itself, where only
// another manager can be in the way. After patience many the caller gets the conflict.
const (
	polite   = 3
	patience = 100
)

// Commit writes the change as one transaction, all or nothing, with its record (who, when, why), and sets c.Revision.
// When it returns without error the change is on disk, Snapshot is of at least that revision, and Events has its events.
//
// It sets c.Touches too, as the record has them.
//
// c.Revision says on entry which snapshot the change was built on: when a document that it puts or removes was changed
// since, nothing is written and the error is a *[ConflictError]. Zero: the change was built on nothing, and replaces
// whatever is there.
//
// The documents, the events and c.What must hold no readable secret; the documents are not changed afterwards. An event without a
// time or an actor gets those of the change. Cancelling ctx does not stop a commit that is on its way: it is waited for, so
// that its outcome is known.
func (s *Store) Commit(ctx context.Context, c *model.Change) (model.Revision, error) {
	if err := s.enter(); err != nil {
		return 0, err
	}
	defer s.inflight.Done()
	s.turn.RLock()
	defer s.turn.RUnlock()
	rev, err := s.commit(ctx, c)
	return rev, s.blame(ctx, err)
}

// Update commits what build makes of the newest snapshot. When one of the documents was changed by somebody else meanwhile, build
// is called again with the newer snapshot: it must do nothing but look and return, and not write to the store itself. A nil change commits nothing, and the
// revision of the snapshot is returned.
func (s *Store) Update(ctx context.Context, build func(*model.Snapshot) (*model.Change, error)) (model.Revision, error) {
	if err := s.enter(); err != nil {
		return 0, err
	}
	defer s.inflight.Done()
	for try := 1; ; try++ {
		rev, err := s.attempt(ctx, build, try > polite)
		if conflict := (*ConflictError)(nil); !errors.As(err, &conflict) || try == patience {
			return rev, s.blame(ctx, err)
		} else if err := s.reach(ctx, conflict.Revision); err != nil {
			return 0, err
		}
	}
}

// attempt builds and commits once; alone means that no other commit of this process is on its way meanwhile.
func (s *Store) attempt(ctx context.Context, build func(*model.Snapshot) (*model.Change, error), alone bool) (model.Revision, error) {
	if alone {
		s.turn.Lock()
		defer s.turn.Unlock()
	} else {
		s.turn.RLock()
		defer s.turn.RUnlock()
	}
	snap := s.Snapshot()
	c, err := build(snap)
	if err != nil {
		return 0, err
	}
	if c == nil {
		return snap.Revision, nil
	}
	c.Revision = snap.Revision
	return s.commit(ctx, c)
}

// enter counts a writer in, unless the store is closed.
func (s *Store) enter() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return &Error{Kind: Closed, What: "commit", Why: "the store is closed"}
	}
	if err := s.Err(); err != nil {
		return err
	}
	s.inflight.Add(1)
	return nil
}

func (s *Store) commit(ctx context.Context, c *model.Change) (model.Revision, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if c.Verb == "" {
		return 0, errors.New("commit: a change without a verb; the audit trail has to say what was done")
	}
	if c.Time.IsZero() {
		c.Time = time.Now()
	}
	for i := range c.Events {
		e := &c.Events[i]
		if e.Time.IsZero() {
			e.Time = c.Time
		}
		if e.Actor == "" {
			e.Actor = c.Actor
		}
	}
	base := c.Revision
	if err := fits(c, len(c.Ops), 0); err != nil {
		return 0, err
	}
	puts, size, err := encode(c.Ops, s.schema.Load() > 1)
	if err != nil {
		return 0, fmt.Errorf("commit %s: %w", c.Verb, err)
	}
	for {
		w := s.world.Load()
		ifs, err := unchanged(w, c.Ops, base)
		if err != nil {
			return 0, err
		}
		if c.Touches, err = touchesOf(w.snap, c.Ops); err != nil {
			return 0, fmt.Errorf("commit %s: %w", c.Verb, err)
		}
		rec, err := encodeRecord(c)
		if err != nil {
			return 0, fmt.Errorf("commit %s: record: %w", c.Verb, err)
		}
		size := size + len(rec)
		if err := fits(c, len(puts), size); err != nil {
			return 0, err
		}
		if err := s.room("commit "+c.Verb, 4*size); err != nil { // in the log, in the database, and its pages copied
			return 0, err
		}
		key := s.changes.nextKey()
		ifs = append(ifs, clientv3.Compare(clientv3.CreateRevision(key), "=", 0))
		then := append(puts[:len(puts):len(puts)], clientv3.OpPut(key, string(rec)))
		res, err := s.transact(ctx, "commit "+c.Verb, ifs, then)
		switch {
		case err == nil && res.Succeeded:
			c.Revision = model.Revision(res.Header.Revision)
		case err == nil:
			// A document was written meanwhile; the newer world tells which.
			if err := s.reach(ctx, model.Revision(res.Header.Revision)); err != nil {
				return 0, err
			}
			continue
		case refused(err):
			return 0, s.commitError(c, len(then), size, err)
		default:
			rev, settled := s.settle(context.WithoutCancel(ctx), key)
			if settled != nil {
				return 0, s.uncertain(c, fmt.Errorf("%w; %w", err, settled))
			}
			if rev == 0 {
				continue
			}
			c.Revision = rev
		}
		return c.Revision, s.reach(context.WithoutCancel(ctx), c.Revision)
	}
}

// transact makes one transaction. It is refused, and not made, when there is no majority for it. Cancelling ctx does not stop it; another leader
// does, soon after it has come: what was on its way to the one before may be lost, and no answer comes then for a long time.
func (s *Store) transact(ctx context.Context, what string, ifs []clientv3.Cmp, then []clientv3.Op) (*clientv3.TxnResponse, error) {
	begin := time.Now()
	for {
		if err := s.majority(ctx, what); err != nil {
			return nil, err
		}
		if err := s.catchUp(ctx); err != nil { // the leader is lost again, most likely
			switch {
			case ctx.Err() != nil || s.Err() != nil:
				return nil, &unsentError{errors.Join(s.Err(), err)}
			case time.Since(begin) > busyLimit: // it is there, and says nothing: it may be cut off, and not know it yet
				_, since, _, _ := s.pulse.now()
				if since.IsZero() {
					since = begin
				}
				return nil, s.noMajority(what, since)
			}
			continue
		}
		res, err := s.send(context.WithoutCancel(ctx), ifs, then)
		// etcd takes nothing while it has much to apply: after a while apart from the others, or on a slow disk.
		if !errors.Is(err, rpctypes.ErrTooManyRequests) || time.Since(begin) > busyLimit {
			return res, err
		}
		select {
		case <-time.After(leaderLook):
		case <-ctx.Done():
			return nil, &unsentError{ctx.Err()}
		}
	}
}

// catchUp sees to it, after a time without a leader, that the world is as new as the majority's: the numbers of the change records begin above
// those that the others have used meanwhile, and perhaps removed.
func (s *Store) catchUp(ctx context.Context) error {
	if !s.pulse.behind.Load() {
		return nil
	}
	limit, cancel := context.WithTimeout(ctx, leaderLimit)
	defer cancel()
	res, err := s.engine.client.Get(limit, schemaKey)
	if err == nil {
		err = s.reach(limit, model.Revision(res.Header.Revision))
	}
	if err == nil {
		s.pulse.behind.Store(false)
	}
	return err
}

// unsentError says why nothing was sent.
type unsentError struct{ error }

func (e *unsentError) Unwrap() error { return e.error }

// busyLimit is how long a transaction waits for an etcd that has too much to do, before it is refused.
const busyLimit = 10 * time.Second

func (s *Store) send(ctx context.Context, ifs []clientv3.Cmp, then []clientv3.Op) (*clientv3.TxnResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, settleLimit)
	defer cancel()
	_, _, _, reign := s.pulse.now()
	defer context.AfterFunc(reign, cancel)()
	return s.engine.client.Txn(ctx).If(ifs...).Then(then...).Commit()
}

// refused says that etcd did not make the transaction, and will not; after any other error that is not known.
func refused(err error) bool {
	for _, no := range []error{
		rpctypes.ErrNoSpace, rpctypes.ErrTooManyOps, rpctypes.ErrRequestTooLarge, rpctypes.ErrDuplicateKey, rpctypes.ErrTooManyRequests,
		rpctypes.ErrPermissionDenied, rpctypes.ErrEmptyKey, rpctypes.ErrUserEmpty, rpctypes.ErrAuthFailed,
	} {
		if errors.Is(err, no) {
			return true
		}
	}
	return errors.As(err, new(*Error)) || errors.As(err, new(*unsentError)) || overLimit(err)
}

// settleLimit is how long the outcome of a commit is asked for to which etcd gave no answer in its own time (6.5 s); lostLimit is how long
// without a leader: most users would rather know that it is not known.
const (
	settleLimit = 2 * time.Minute
	lostLimit   = 10 * time.Second
)

// settle finds out whether the transaction with that change record was made, and sees to it that it is not made later: the transaction wants the
// key not to be there, so either the key is there, or putting an empty one there keeps the transaction out for ever. It returns
// the transaction's revision, zero when it was not and will not be made.
func (s *Store) settle(ctx context.Context, key string) (model.Revision, error) {
	ctx, cancel := context.WithTimeout(ctx, settleLimit)
	defer cancel()
	for {
		reign, err := s.leader(ctx)
		if err != nil {
			return 0, err
		}
		try, end := context.WithTimeout(ctx, lostLimit)
		stop := context.AfterFunc(reign, end)
		res, err := s.engine.client.Txn(try).If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0)).
			Then(clientv3.OpPut(key, "")).Else(clientv3.OpGet(key)).Commit()
		stop()
		end()
		if failed := s.Err(); failed != nil {
			return 0, failed
		}
		switch {
		case err != nil && (ctx.Err() != nil || refused(err) && !errors.Is(err, rpctypes.ErrTooManyRequests)):
			return 0, err
		case err != nil:
			select { // an error that came at once must not be asked for in a loop
			case <-time.After(leaderLook):
			case <-ctx.Done():
			}
			continue
		case res.Succeeded:
			return 0, nil
		}
		kv := res.Responses[0].GetResponseRange().Kvs[0]
		if len(kv.Value) == 0 { // an earlier call of ours, whose answer was late
			return 0, nil
		}
		return model.Revision(kv.ModRevision), nil
	}
}

// leader waits until there is a leader, and returns the context of its time.
func (s *Store) leader(ctx context.Context) (context.Context, error) {
	for {
		leader, since, changed, reign := s.pulse.now()
		if leader != 0 {
			return reign, nil
		}
		left := time.NewTimer(lostLimit - time.Since(since))
		defer left.Stop()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-s.done:
			return nil, s.err
		case <-left.C:
			return nil, fmt.Errorf("this manager has been cut off from the majority of the managers for %v", lostLimit)
		}
	}
}

// encode makes the puts and removals of the documents, and tells their size in bytes. Many are compressed where the schema has that.
func encode(ops []model.Op, compress bool) ([]clientv3.Op, int, error) {
	docs := make([][]byte, len(ops))
	var all atomic.Int64
	err := parallel(len(ops), func(from, to int) (err error) {
		var room []byte
		for i, op := range ops[from:to] {
			if docs[from+i], err = encodeOne(op); err != nil {
				return err
			}
			if all.Add(int64(len(docs[from+i]))) <= large || !compress {
				continue
			}
			if docs[from+i], err = pack(docs[from+i], &room); err != nil { // at once, so that the text of all is never in memory
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, 0, err
	}
	if compress && all.Load() > large { // the first ones
		if err := packDocs(docs); err != nil {
			return nil, 0, err
		}
	}
	puts := make([]clientv3.Op, 0, len(ops)+1)
	size := 0
	for i, op := range ops {
		key := prefix + docKey(op)
		size += 3*len(key) + 32 + len(docs[i]) // the key is in the comparison too
		if docs[i] == nil {
			puts = append(puts, clientv3.OpDelete(key))
		} else {
			puts = append(puts, clientv3.OpPut(key, string(docs[i])))
		}
		docs[i] = nil
	}
	return puts, size, nil
}

// encodeOne is the JSON of a document; nil when it is removed.
func encodeOne(op model.Op) ([]byte, error) {
	if op.Name == "" || strings.Contains(string(op.Kind), "/") || op.Kind == "" || isRecord(string(op.Kind)) {
		return nil, fmt.Errorf("%q is no name of a document of family %q", op.Name, op.Kind)
	}
	if op.Doc == nil {
		return nil, nil
	}
	b, err := model.Encode(op.Doc)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", op.Kind, op.Name, err)
	}
	if string(b) == "null" { // a typed nil removes, too
		return nil, nil
	}
	if model.KindOf(op.Doc) != op.Kind { // nobody could read it again
		return nil, fmt.Errorf("%s %s: %T is no such document", op.Kind, op.Name, op.Doc)
	}
	return b, nil
}

// unchanged are the conditions of a change built on revision base: every document is as it was then. With base zero, those whose touches are
// recorded are as w has them.
func unchanged(w *world, ops []model.Op, base model.Revision) ([]clientv3.Cmp, error) {
	ifs := make([]clientv3.Cmp, 0, len(ops)+1)
	for _, op := range ops {
		if op.Kind == model.KindState && op.Doc == nil {
			continue // what is observed twice a second must not keep a node from being removed
		}
		if _, ok := touched(w.snap, op); base == 0 && !ok {
			continue
		}
		d, _ := w.docs.Get(docKey(op))
		if base > 0 && d.rev > base {
			return nil, &ConflictError{Kind: op.Kind, Name: op.Name, Revision: d.rev, Removed: d.removed}
		}
		rev := int64(d.rev)
		if d.removed {
			rev = 0
		}
		ifs = append(ifs, clientv3.Compare(clientv3.ModRevision(prefix+docKey(op)), "=", rev))
	}
	return ifs, nil
}

// blame names the other change in the conflict that a caller gets. It reads all change records: too much for the conflicts
// that Update goes over.
func (s *Store) blame(ctx context.Context, err error) error {
	e := (*ConflictError)(nil)
	if !errors.As(err, &e) {
		return err
	}
	res, get := s.engine.client.Get(ctx, changePrefix, append([]clientv3.OpOption{
		clientv3.WithPrefix(), clientv3.WithMinModRev(int64(e.Revision)), clientv3.WithMaxModRev(int64(e.Revision)),
	}, s.engine.reads...)...)
	if get != nil || len(res.Kvs) == 0 {
		return err
	}
	if r, read := readRecord(res.Kvs[0]); read == nil {
		e.Actor, e.Verb, e.Request, e.Time = r.Actor, r.Verb, r.Request, r.Time
	}
	return err
}

// fits refuses a change that is too large for one transaction.
func fits(c *model.Change, ops, size int) error {
	if len(c.Events) >= maxPart {
		return &Error{
			Kind: TooLarge, What: "commit " + c.Verb,
			Why: fmt.Sprintf("%d events are more than one change takes (%d)", len(c.Events), maxPart-1),
			Do:  "Tell one event of many nodes in place of one for each",
		}
	}
	if ops < maxOps && size <= maxBytes-1<<20 {
		return nil
	}
	return &Error{
		Kind: TooLarge,
		What: "commit " + c.Verb,
		Why: fmt.Sprintf("%d documents of %d MiB in all are more than one change takes (%d, %d MiB)",
			ops, (size+1<<20-1)>>20, maxOps-1, maxBytes>>20-1),
		Do: "Ask for it in parts, or set what is equal on a group",
	}
}

// room refuses a write when so little would be left of the file system that etcd, which stops for good when a write fails, would
// be put at risk.
func (s *Store) room(what string, size int) error {
	if s.opt.External != nil { // its disks are elsewhere
		return nil
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(s.opt.Dir, &fs); err != nil {
		return fileError(what, s.opt.Dir, err)
	}
	if free, need := int64(fs.Bavail)*fs.Bsize, s.opt.Reserve+int64(size); s.opt.Reserve > 0 && free < need {
		return &Error{
			Kind: NoSpace,
			What: what,
			Why: fmt.Sprintf("the file system of %s has %d MiB left, and %d MiB must be free (%d MiB of it as reserve)",
				s.opt.Dir, free>>20, (need+1<<20-1)>>20, s.opt.Reserve>>20),
			Do:  "Make room there and ask again; nothing was written, nothing is lost, reading goes on",
			Err: unix.ENOSPC,
		}
	}
	return nil
}

func (s *Store) commitError(c *model.Change, ops, size int, err error) error {
	what := "commit " + c.Verb
	if failed := s.Err(); failed != nil {
		return failed
	}
	if e := (*Error)(nil); errors.As(err, &e) {
		return e
	}
	if e := (*unsentError)(nil); errors.As(err, &e) {
		return fmt.Errorf("%s: nothing was written: %w", what, e.error)
	}
	switch x := s.opt.External; {
	case x != nil && errors.Is(err, rpctypes.ErrNoSpace):
		return &Error{
			Kind: NoSpace, What: what, Err: err, Why: "etcd at " + x.at() + " has grown to its quota",
			Do: "Compact and defragment it (etcdctl compact, defrag, alarm disarm), and start it with --auto-compaction-retention 1h and a larger --quota-backend-bytes",
		}
	case x != nil && (errors.Is(err, rpctypes.ErrTooManyOps) || errors.Is(err, rpctypes.ErrRequestTooLarge) || overLimit(err)):
		return x.tooLarge(what, ops, size, err)
	case errors.Is(err, rpctypes.ErrNoSpace):
		return &Error{
			Kind: NoSpace, What: what, Err: err,
			Why: fmt.Sprintf("the store has grown to its quota of %d GiB", int64(quota)>>30),
			Do:  "Stop muster, compact the store with etcdutl defrag, and tell us: it should not grow so",
		}
	case errors.Is(err, rpctypes.ErrTooManyOps), errors.Is(err, rpctypes.ErrRequestTooLarge):
		return &Error{
			Kind: TooLarge, What: what, Err: err, Why: "more than one change takes",
			Do: "Ask for it in parts, or set what is equal on a group",
		}
	case errors.Is(err, rpctypes.ErrDuplicateKey):
		return fmt.Errorf("%s: the change names a document twice: %w", what, err)
	case errors.Is(err, rpctypes.ErrTooManyRequests):
		return fmt.Errorf("%s: the disk is slower than the commits that wait for it; ask again: %w", what, err)
	}
	return s.uncertain(c, err)
}

// uncertain says that it is not known whether the change was made.
func (s *Store) uncertain(c *model.Change, err error) error {
	if failed := s.Err(); failed != nil {
		return failed
	}
	return &Error{
		Kind: Uncertain, What: "commit " + c.Verb, Err: err, Why: err.Error(),
		Do: "It may have been committed or not: look, then ask again",
	}
}

// reach waits until the world is of at least that revision.
func (s *Store) reach(ctx context.Context, rev model.Revision) error {
	return s.Wait(ctx, func(n *model.Snapshot) bool { return n.Revision >= rev })
}
