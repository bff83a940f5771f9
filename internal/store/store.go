// Package store is the only room that remembers: the replicated truth, the snapshot that all readers share, and the timeline.
//
//	Commit, Update ──► one etcd transaction ──► watch ──► model.Apply ──► Snapshot (atomic pointer)
//	                   documents + record                     │
//	Observe ─(500 ms, newest wins)──┤                         ├──► timeline (files)    ──► Events, Follow
//	Tell ────(50 ms, all of them)───┘                         └──► audit trail (files) ──► Changes, Change
//
// What it promises:
//
//   - A change is all or nothing, also for readers: every revision of etcd is applied to the snapshot whole.
//   - A commit that returned without error is on disk; kill -9 neither loses nor tears it. Its events are on the timeline, once, and it is in the audit
//     trail, once, with what it did to each document.
//   - When Commit returns, Snapshot holds the change, Events has its events, and Changes has it.
//   - All managers have one timeline: an event has the same number, revision<<16 | part, on each.
//   - Two writers never overwrite each other unseen: Update builds again on the newer snapshot.
//   - Readers and writers of the timeline never wait for a slow follower.
//   - What is told costs twenty transactions a second at most, but for floods of more than 80,000 events a second. Those of the last 50 ms may be lost
//     with a killed process. Where nothing can be committed they wait in memory, 16 MiB of them, and then are counted and dropped.
//   - A damaged directory is named and left as it is. A full disk refuses writes and goes on reading.
//   - In a pool of managers a commit that returned is on the disks of the majority: a manager that dies or is cut off loses none. A manager
//     without a majority refuses writes ([NoMajority]) and goes on reading what it has.
//
// What it never does: judge a change (model.Check does), open a port or a socket (the members of a pool reach each other through
// [Options].Mount, on the caller's listener), keep a readable secret.
//
// One directory, mode 0700, belongs to one process:
//
//	lock                  flock(2) and the process id
//	store.json            written when etcd's files were made: says that they must be there, and keeps this manager's name
//	join.json             a pool that is to be joined; goes away when that is done
//	etcd/                 one embedded etcd member (bbolt database and write-ahead log)
//	restore.unfinished    there while a backup is restored into the directory
//	events/<seq>.jsonl    the timeline, one JSON line an event
//	changes/<seq>.jsonl   the audit trail, one JSON line a change; chatty events never push it out
//
// In etcd: /muster/schema is the version of the schema (schema.go); /muster/1/<kind>/<name> is one document, JSON, compressed where it came with many (large.go);
// /muster/1/change/<order, 16 hex digits>-<8 letters of the process> is the record of one change, written in the change's own transaction, and
// /muster/1/told/… that of a batch of told events. The newest records are kept: 10,000 of changes (Options.Changes), 4,096 of batches, apart from each other, so that a
// manager that was away finds the audit trail however much was told; those of changes stay three minutes in any case. What is older is in the files only. /muster/live/<name>, under a lease,
// says that a manager lives; it is not kept in a backup.
package store

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"muster/internal/durable"
	"muster/internal/model"
)

// Options say where the store lies and how much it keeps. The zero value of all but Dir is good.
type Options struct {
	// Dir is the store's directory; it is made, with mode 0700, when it is not there. Any length of path will do.
	Dir string
	// Program is the name and version of the program, for the header of a backup.
	Program string
	// Log takes warnings: cut lines, slow disks. Nil is silent.
	Log *slog.Logger
	// Reserve is how many bytes of the file system are left alone: commits are refused when they would use them, because
	// etcd stops for good when a write fails. Zero means 128 MiB, negative none.
	Reserve int64
	// Changes is how many records of changes with a verb are kept in etcd, of 256 MiB in all at most: what a manager that was away finds when it
	// is back. Zero means 10,000.
	Changes int
	// EventFile is the size in bytes from which a new file of the timeline, or of the audit trail, is begun. Zero means 8 MiB.
	EventFile int64
	// EventBytes is how many bytes of timeline are kept; the oldest files go first. Zero means 1 GiB.
	EventBytes int64
	// ChangeBytes is how many bytes of audit trail are kept; the oldest files go first. Zero means 1 GiB.
	ChangeBytes int64

	// Name is this manager's in the pool. A store keeps the one that it was made with, whatever is said here later; see [Store.Name]. Empty
	// means "muster".
	Name model.ManagerName
	// Prepare is called once the directory belongs to this process, and before anything is opened: it may set Peer, Join and Mount. fresh says that there is no store
	// yet; o.Name is the one that counts. Nil does nothing.
	Prepare func(ctx context.Context, o *Options, fresh bool) error
	// Peer is what this manager shows and trusts when it calls the others.
	Peer PeerFiles
	// Join makes a new directory's store a member of the pool; once it has become one it makes no difference. Nil: a new directory gets a
	// store of its own.
	Join *Join
	// Mount gets the handler for the other managers' members (see peerHandler) before Open waits for the others: without it no majority may come about. Nil: Open
	// waits for nobody who has to reach this manager, so no Join.
	Mount func(http.Handler)
	// External says where etcd runs when it does not run in this process; the directory has the timeline only. Nil: it runs in this process.
	External *External

	trimAge time.Duration // change records younger than that are not removed; zero means settleLimit and a minute
}

func (o *Options) setDefaults() {
	o.Dir = filepath.Clean(o.Dir)
	if o.Name == "" {
		o.Name = "muster"
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Reserve == 0 {
		o.Reserve = 128 << 20
	}
	o.Reserve = max(o.Reserve, 0)
	if o.Changes == 0 {
		o.Changes = 10_000
	}
	if o.trimAge == 0 {
		o.trimAge = settleLimit + time.Minute
	}
	if o.EventFile == 0 {
		o.EventFile = 8 << 20
	}
	if o.EventBytes == 0 {
		o.EventBytes = 1 << 30
	}
	if o.ChangeBytes == 0 {
		o.ChangeBytes = 1 << 30
	}
}

// Store is an open store. All methods may be called from any goroutine.
type Store struct {
	opt      Options
	log      *slog.Logger
	lock     *lock
	engine   *engine
	events   *journal   // the timeline
	audit    *journal   // changes with a verb
	telling  sync.Mutex // held while lines are added to both
	teller   *teller
	changes  *family
	told     *family
	world    atomic.Pointer[world]
	decoders decoders
	pulse    *pulse
	mark     mark       // as in store.json
	fresh    bool       // there is no store.json yet
	marking  sync.Mutex // guards mark once the store is open

	turn     sync.RWMutex   // held for writing by an Update that others have overtaken too often
	inflight sync.WaitGroup // writers between enter and Done
	mu       sync.Mutex     // guards closed and what is observed
	closed   bool
	observed map[model.NodeName]*model.State
	writing  map[model.NodeName]*model.State // the batch on its way; read only

	turnToObserve chan struct{} // holds one while a batch is on its way

	observe chan struct{} // wakes tend: something was observed
	trim    chan struct{} // wakes tend: many change records
	swollen chan struct{} // wakes rest: a large change was made or read
	raise   chan struct{} // wakes tend: a manager's document changed, perhaps all know a newer schema now
	schema  atomic.Int64  // of the store
	missed  chan struct{} // wakes tend: a journal refused lines, and takes some again
	beat    chan struct{} // wakes keepAlive: the pool may have grown

	stop    context.CancelFunc
	running sync.WaitGroup
	done    chan struct{} // closed when the store cannot go on, or is closed
	err     error         // why; set before done is closed
	fail    sync.Once
	close   sync.Once
	closing error
}

// Open opens the store, and makes it where there is none. It reads all documents into the snapshot, and tells the events of
// changes that the timeline lost. Errors are of type *[Error] where a person can mend the cause.
func Open(ctx context.Context, o Options) (*Store, error) {
	if o.Dir == "" {
		return nil, errors.New("open store: no directory given")
	}
	o.setDefaults()
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fileError("open store "+o.Dir, o.Dir, err)
	}
	if err := os.Chmod(o.Dir, 0o700); err != nil {
		return nil, fileError("open store "+o.Dir, o.Dir, err)
	}
	l, err := acquire(ctx, o.Dir)
	if err != nil {
		return nil, err
	}
	tag := rand.Text()[:8]
	s := &Store{
		opt: o, log: o.Log, lock: l, teller: newTeller(), missed: make(chan struct{}, 1),
		changes: &family{name: changeFamily, tag: tag, keep: o.Changes, bytes: changeBytes, age: o.trimAge},
		told:    &family{name: toldFamily, tag: tag, keep: toldKept, bytes: toldBytes, age: o.trimAge},
		pulse:   newPulse(), beat: make(chan struct{}, 1),
		observed: make(map[model.NodeName]*model.State),
		observe:  make(chan struct{}, 1), trim: make(chan struct{}, 1), raise: make(chan struct{}, 1), swollen: make(chan struct{}, 1), turnToObserve: make(chan struct{}, 1),
		done: make(chan struct{}),
	}
	if err := s.open(ctx); err != nil {
		_ = s.closeJournals()
		if s.engine != nil {
			s.engine.close(time.Second)
		}
		_ = l.release()
		return nil, err
	}
	return s, nil
}

// Name is this manager's in the pool.
func (s *Store) Name() model.ManagerName { return s.opt.Name }

func (s *Store) open(ctx context.Context) error {
	if err := s.prepare(ctx); err != nil {
		return err
	}
	var err error
	if s.opt.External != nil {
		err = s.openExternal(ctx)
	} else {
		err = s.openMember(ctx)
	}
	if err != nil {
		return err
	}
	if err := s.readSchema(ctx); err != nil {
		return s.unread(ctx, err)
	}
	s.raiseSchema(ctx)
	if err := s.openJournals(ctx); err != nil {
		return err
	}
	w, records, err := s.load(ctx, s.lacking())
	if err != nil {
		return s.unread(ctx, err)
	}
	if err := s.mendJournals(records); err != nil {
		return err
	}
	s.tellRecords(records)
	s.world.Store(w)
	if w.docs.Len() > 1_000 {
		wake(s.swollen)
	}
	run, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.running.Go(func() {
		if err := s.watch(run); err != nil {
			s.giveUp(err)
		}
	})
	if m := s.engine.member; m != nil {
		s.pulse.see(m.Lead())
		s.running.Go(func() { s.watchLeader(run) })
	} else {
		s.pulse.see(1)
	}
	s.running.Go(func() { s.keepAlive(run) })
	s.running.Go(func() { s.tend(run) })
	s.running.Go(func() { s.rest(run) })
	s.running.Go(func() { s.gather(run) })
	s.running.Go(func() {
		select {
		case <-s.engine.failed:
			s.giveUp(s.engine.failure())
		case <-run.Done():
		}
	})
	return nil
}

// prepare reads store.json, when there is one, and lets the caller say what else it takes.
func (s *Store) prepare(ctx context.Context) error {
	if err := checkFinished(s.opt.Dir); err != nil {
		return err
	}
	path := s.markPath()
	b, err := os.ReadFile(path)
	switch {
	case err == nil:
		if err := json.Unmarshal(b, &s.mark); err != nil {
			return s.damaged(fmt.Errorf("%s: %w", path, err))
		}
		if s.mark.Name != "" {
			s.opt.Name = s.mark.Name
		}
	case !errors.Is(err, os.ErrNotExist):
		return fileError("open store "+s.opt.Dir, path, err)
	default: // a join that was begun goes on under its name
		s.opt.Name = cmp.Or(Joining(s.opt.Dir).Name, s.opt.Name)
	}
	if s.fresh = err != nil; s.opt.Prepare == nil {
		return nil
	}
	return s.opt.Prepare(ctx, &s.opt, s.fresh)
}

// unread says why the documents could not be read.
func (s *Store) unread(ctx context.Context, err error) error {
	switch x := s.opt.External; {
	case ctx.Err() != nil:
		return ctx.Err()
	case x != nil && errors.As(err, new(*brokenError)):
		return x.silent(err)
	case x == nil && s.engine.failure() != nil: // it stopped meanwhile
		err = s.engine.failure()
	}
	return s.damaged(err)
}

// openExternal connects to etcd elsewhere.
func (s *Store) openExternal(ctx context.Context) (err error) {
	if len(s.opt.External.Endpoints) == 0 {
		return errors.New("open store: no address of etcd given")
	}
	if hasFiles(filepath.Join(s.opt.Dir, "etcd")) {
		return s.occupied()
	}
	if s.engine, err = connect(ctx, s.opt.External, s.log); err != nil {
		return err
	}
	return checkRestored(ctx, s.engine.client, s.opt.External)
}

// openMember starts the member whose files lie in the directory, and makes them where there are none.
func (s *Store) openMember(ctx context.Context) error {
	dir := filepath.Join(s.opt.Dir, "etcd")
	j, how, err := s.create(ctx, dir)
	if err != nil {
		return err
	}
	if how == nil || !how.fresh {
		if err := examine(dir); err != nil {
			return s.damaged(err)
		}
	}
	m := s.member(dir)
	m.join = how
	if s.engine, err = startEngine(ctx, m, s.log); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return s.damaged(err)
	}
	if j != nil {
		return s.joined(j)
	}
	return nil
}

func (s *Store) member(dir string) memberConfig {
	return memberConfig{dir: dir, name: string(s.opt.Name), token: rand.Text(), url: s.mark.URL, files: s.opt.Peer, mount: s.opt.Mount}
}

// firstStart is how many bytes a new store takes: two files of the log and the database.
const firstStart = 160 << 20

// mark is the text of store.json.
type mark struct {
	Store   string            `json:"store"`
	Name    model.ManagerName `json:"name,omitempty"`
	Schema  int               `json:"schema"`
	Created time.Time         `json:"created"`
	Member  string            `json:"member,omitempty"` // that joined a pool, in hex
	URL     string            `json:"url,omitempty"`    // by which the others reach it
}

// create makes a new store's etcd directory, under another name until it is complete: a process killed meanwhile leaves nothing that
// could be taken for a store, or for a damaged one. What it returns is for a member that has to join a pool first.
func (s *Store) create(ctx context.Context, dir string) (*Join, *joining, error) {
	what := "open store " + s.opt.Dir
	if !s.fresh {
		if s.mark.Name == "" { // made before managers had names, or by Restore
			next := s.mark
			next.Name = s.opt.Name
			if err := s.writeMark(next); err != nil {
				return nil, nil, err
			}
		}
		if s.opt.Join != nil && s.opt.Join.ID != s.mark.Member {
			return nil, nil, s.occupied()
		}
		path := filepath.Join(s.opt.Dir, joinFile)
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) { // killed at the end of joined
			return nil, nil, fileError(what, path, err)
		}
		return nil, nil, nil
	}
	if j, how, err := s.join(ctx, dir); j != nil || err != nil {
		return j, how, err
	}
	for _, journal := range []string{s.eventsDir(), s.auditDir()} { // made after store.json, see open
		if hasFiles(journal) {
			return nil, nil, s.damaged(fmt.Errorf("%s is missing beside %s", s.markPath(), journal))
		}
	}
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		if err := s.room(what, firstStart); err != nil {
			return nil, nil, err
		}
		raw := dir + ".new"
		if err := os.RemoveAll(raw); err != nil {
			return nil, nil, fileError(what, raw, err)
		}
		m := s.member(raw)
		m.mount, m.fresh = nil, true
		g, err := startEngine(ctx, m, s.log)
		if err == nil {
			err = setSchema(ctx, g.client)
			g.close(time.Second)
		}
		if ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
		if err != nil {
			return nil, nil, fileError(what, raw, err)
		}
		if err := os.Rename(raw, dir); err != nil {
			return nil, nil, fileError(what, dir, err)
		}
		if err := durable.SyncDir(s.opt.Dir); err != nil { // before store.json says that it is there
			return nil, nil, fileError(what, dir, err)
		}
	}
	return nil, nil, s.writeMark(mark{Store: "muster", Name: s.opt.Name, Schema: Schema, Created: time.Now().UTC().Truncate(time.Second)})
}

func (s *Store) writeMark(m mark) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	path := s.markPath()
	if err := durable.WriteFile(path, append(b, '\n'), 0o600); err != nil {
		return fileError("write "+path, path, err)
	}
	s.mark = m
	return nil
}

func (s *Store) markPath() string { return filepath.Join(s.opt.Dir, "store.json") }

func hasFiles(dir string) bool {
	entries, err := os.ReadDir(dir)
	return err == nil && len(entries) > 0
}

// damaged names the directory and what is wrong in it.
func (s *Store) damaged(err error) error {
	if e := (*Error)(nil); errors.As(err, &e) {
		return e
	}
	if e := fileError("open store "+s.opt.Dir, s.opt.Dir, err); errors.As(e, new(*Error)) {
		return e
	}
	if newer := (*model.UnknownKindError)(nil); errors.As(err, &newer) {
		return &Error{
			Kind: Newer, What: "open store " + s.opt.Dir, Why: newer.Error(), Err: err,
			Do: "Use the muster that wrote it, or a newer one",
		}
	}
	return &Error{
		Kind: Damaged, What: "open store " + s.opt.Dir, Why: "its files are damaged: " + err.Error(), Err: err,
		Do: "Nothing was changed. Restore a backup into a new directory, or move this one away to begin empty; check the disk",
	}
}

// giveUp ends the store with the reason: from now on writes and waits return it.
func (s *Store) giveUp(err error) {
	s.fail.Do(func() {
		if e := (*Error)(nil); errors.As(err, &e) {
			s.err = e
		} else if errors.As(fileError("store "+s.opt.Dir+" stopped", s.opt.Dir, err), &e) { // a full disk, most likely
			e.Do += "; then start muster again"
			s.err = e
		} else {
			s.err = &Error{
				Kind: Closed, What: "store " + s.opt.Dir, Why: "it stopped: " + err.Error(), Err: err,
				Do: "Start muster again; what was acknowledged is on disk. If it does not start, its message says what is wrong",
			}
		}
		if IsKind(err, Newer) { // it would not start
			s.err = err
		}
		s.log.Error("store stopped", "reason", err)
		close(s.done)
	})
}

// Done is closed when the store cannot go on (Err says why) or is closed. The service ends then.
func (s *Store) Done() <-chan struct{} { return s.done }

// Err says why the store cannot go on; nil while it can.
func (s *Store) Err() error {
	select {
	case <-s.done:
		return s.err
	default:
		return nil
	}
}

// Snapshot returns the newest world. A reader takes it once and uses only that.
func (s *Store) Snapshot() *model.Snapshot { return s.world.Load().snap }

// Wait returns nil as soon as cond holds of a snapshot, beginning with the newest one. cond is called once for each newer
// snapshot at most, not for each revision, and must be quick. The error is that of ctx, or says that the store is closed.
func (s *Store) Wait(ctx context.Context, cond func(*model.Snapshot) bool) error {
	for {
		w := s.world.Load()
		if cond(w.snap) {
			return nil
		}
		select {
		case <-w.next:
		case <-ctx.Done():
			return ctx.Err()
		case <-s.done:
			return s.err
		}
	}
}

// closeLimit is how long Close may take, but for a disk that hangs: a service that has no majority stops within two seconds, too.
const closeLimit = 800 * time.Millisecond

// Close writes what was observed and told, and ends the store. Commits that are on their way are waited for, half a second, and what cannot be
// written in that time is lost: the error says so. Further calls do nothing and return the same.
func (s *Store) Close() error {
	s.close.Do(func() {
		end := time.Now().Add(closeLimit)
		s.mu.Lock()
		s.closed = true
		s.mu.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), closeLimit*5/8)
		defer cancel()
		idle := make(chan struct{})
		go func() { s.inflight.Wait(); close(idle) }()
		select {
		case <-idle:
		case <-ctx.Done():
		case <-s.done:
		}
		if s.Err() == nil {
			s.closing = s.writeObserved(ctx)
			for s.closing == nil && !s.teller.idle() {
				s.closing = s.commitTold(ctx)
			}
		}
		s.stop()
		s.running.Wait()
		s.fail.Do(func() {
			s.err = &Error{Kind: Closed, What: "store " + s.opt.Dir, Why: "it is closed"}
			close(s.done)
		})
		s.closing = errors.Join(s.closing, s.closeJournals())
		s.engine.close(max(time.Until(end), closeLimit/10))
		s.closing = errors.Join(s.closing, s.lock.release())
	})
	return s.closing
}
