package store

import (
	"context"
	"errors"
	"expvar"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3rpc"
	"go.etcd.io/etcd/server/v3/proxy/grpcproxy/adapter"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc"
)

// The limits of one commit. Both are far above etcd's defaults, so that a change of 100,000 nodes stays one transaction;
// raft keeps the bytes of a transaction in memory for a while, hence the bound.
const (
	maxOps   = 300_000
	maxBytes = 128 << 20
	quota    = 8 << 30
)

// The pace of a pool: the leader is heard of every tick; who hears nothing for one to two election times asks for votes. A lone member
// does not wait for that, see campaign.
const (
	tick     = 50 * time.Millisecond
	election = 750 * time.Millisecond
)

// How long a start may take once the files are read: startLimit for a lone member until it serves; joinLimit for a new one until it has all
// documents; a member of a pool goes on after aloneLimit with what it has, for others may start later.
const (
	startLimit = time.Minute
	joinLimit  = 10 * time.Minute
	aloneLimit = 5 * time.Second
)

// engine is one embedded etcd member, or a client of etcd servers elsewhere (member is nil then). The member listens nowhere: no TCP
// port, no unix socket. The client calls its functions, and the other members reach it through the server that serves peers.
type engine struct {
	client *clientv3.Client
	reads  []clientv3.OpOption    // for reads that need not be of the newest revision
	member *etcdserver.EtcdServer // nil with etcd elsewhere
	files  PeerFiles
	dir    string // of the store, for errors
	etcd   *embed.Etcd
	once   sync.Once

	closing chan struct{}
	running sync.WaitGroup

	mu     sync.Mutex
	err    error
	failed chan struct{} // closed when etcd gave up
}

// memberConfig says which member is started.
type memberConfig struct {
	dir   string // its files
	name  string
	token string // of a new store: makes its number, and its members', unlike all others
	files PeerFiles
	url   string             // by which the others reach it, when it knows that
	fresh bool               // of a store that is being made
	join  *joining           // for a member of a pool that never had all documents yet; nil for all others
	mount func(http.Handler) // gets the handler of the peers' traffic before anything is waited for; may be nil
}

// startEngine starts the member and waits until it serves, or, in a pool, until it is clear that there is no majority to serve with. etcd ends
// the process or panics when it meets a damaged file; both become the error here.
func startEngine(ctx context.Context, m memberConfig, log *slog.Logger) (*engine, error) {
	g := &engine{failed: make(chan struct{}), closing: make(chan struct{}), files: m.files, dir: filepath.Dir(m.dir), reads: []clientv3.OpOption{clientv3.WithSerializable()}}
	lg := zap.New(&zapToSlog{log: log}, zap.WithFatalHook(giveUp{g}), zap.WithPanicHook(giveUp{g}))

	cfg := embed.NewConfig()
	cfg.Name = m.name
	cfg.Dir = m.dir
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(lg)
	self := []url.URL{{Scheme: "unix", Host: "muster"}} // a name for the member until it has an address; nothing is bound to it
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = nil, self
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = nil, self
	cfg.InitialCluster = cfg.Name + "=" + self[0].String()
	cfg.InitialClusterToken = m.token
	if m.files != (PeerFiles{}) {
		cfg.PeerTLSInfo.CertFile, cfg.PeerTLSInfo.KeyFile, cfg.PeerTLSInfo.TrustedCAFile = m.files.Cert, m.files.Key, m.files.CA
	}
	if u, err := url.Parse(m.url); err == nil && m.url != "" {
		cfg.AdvertisePeerUrls = []url.URL{*u}
	}
	var urls map[string]string
	if m.join != nil {
		urls = m.join.urls
		cfg.ClusterState = embed.ClusterStateFlagExisting
		cfg.Name, cfg.InitialCluster, cfg.AdvertisePeerUrls = m.join.name, m.join.cluster, m.join.self
	}
	cfg.TickMs, cfg.ElectionMs = uint(tick.Milliseconds()), uint(election.Milliseconds())
	cfg.MaxLearners = maxLearners

	cfg.MaxTxnOps, cfg.MaxRequestBytes, cfg.QuotaBackendBytes = maxOps, maxBytes, quota
	cfg.AutoCompactionMode, cfg.AutoCompactionRetention = embed.CompactorModeRevision, "1000"
	// Entries since the last raft snapshot are read into memory at start, and kept there: few, for they may be large. A member that missed
	// more gets the whole database.
	cfg.SnapshotCount, cfg.SnapshotCatchUpEntries = 500, catchUp
	// The log of a new store begins with a snapshot: a database that a restore fills beside it is sent to those that join, and not the log.
	if m.fresh {
		cfg.SnapshotCount = 1
	}
	cfg.WarningApplyDuration, cfg.WarningUnaryRequestDuration = 2*time.Second, 10*time.Second

	started := make(chan *embed.Etcd, 1)
	go func() {
		defer func() {
			if r := recover(); r != nil {
				g.fail(fmt.Errorf("%v", r))
			}
		}()
		e, err := embed.StartEtcd(cfg)
		if err != nil {
			g.fail(err)
			return
		}
		started <- e
	}()
	select {
	case g.etcd = <-started:
	case <-g.failed:
		return nil, g.failure()
	}
	g.member = g.etcd.Server
	peers := peerHandler(lg, g.member, urls)
	g.client = v3client.New(g.member)
	g.client.KV = clientv3.NewKVFromKVClient(&guard{adapter.KvServerToKvClient(v3rpc.NewQuotaKVServer(g.member)), g}, g.client)
	g.running.Go(g.attend)
	if m.mount != nil {
		m.mount(peers)
	}
	if err := g.ready(ctx, m.join != nil, m.join != nil || len(g.member.Cluster().Members()) > 1); err != nil {
		g.close(time.Second)
		return nil, err
	}
	return g, nil
}

// ready waits until the member serves, no longer than its kind of start may take.
func (g *engine) ready(ctx context.Context, young, pool bool) error {
	limit := startLimit
	if young {
		limit = joinLimit
	} else if pool {
		limit = aloneLimit
	}
	wait, cancel := context.WithTimeoutCause(ctx, limit, &Error{
		Kind: Closed, What: "open store " + g.dir, Why: fmt.Sprintf("it was not ready after %v", limit),
		Do: "Nothing is lost. This machine or its disk may have too much to do: start muster again; what etcd said is in the log",
	})
	defer cancel()
	err := g.await(wait, pool)
	if failed := g.failure(); failed != nil { // which a wait for etcd's answer may have outlasted
		return failed
	}
	if err != nil && pool && !young && ctx.Err() == nil {
		return nil
	}
	return err
}

func (g *engine) await(ctx context.Context, pool bool) error {
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	published := g.member.ReadyNotify()
	if pool { // it is published soon; that takes a majority, and is of no interest to those who read
		published = nil
	}
	for {
		select {
		case <-g.failed:
			return g.failure()
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-published:
			return nil
		case <-again.C:
		}
		if !pool {
			g.campaign(ctx)
		} else if g.member.Lead() != 0 {
			// What the majority has committed up to now is applied here, too, when this returns.
			if res, err := g.client.Get(ctx, schemaKey); err == nil && len(res.Kvs) > 0 {
				return nil
			}
		}
	}
}

// guard keeps reads from a member that has stopped: etcd does not, and they panic on its closed database.
type guard struct {
	pb.KVClient
	g *engine
}

func (u *guard) Range(ctx context.Context, in *pb.RangeRequest, opts ...grpc.CallOption) (*pb.RangeResponse, error) {
	return guarded(ctx, u.g, func() (*pb.RangeResponse, error) { return u.KVClient.Range(ctx, in, opts...) })
}

func (u *guard) Txn(ctx context.Context, in *pb.TxnRequest, opts ...grpc.CallOption) (*pb.TxnResponse, error) {
	return guarded(ctx, u.g, func() (*pb.TxnResponse, error) { return u.KVClient.Txn(ctx, in, opts...) })
}

// guarded asks a member that runs. For one that stopped, or stops meanwhile, the answer is why.
func guarded[T any](ctx context.Context, g *engine, ask func() (T, error)) (out T, err error) {
	defer func() {
		select {
		case <-g.member.StoppingNotify():
			if r := recover(); r != nil {
				err = g.stopped(ctx)
			}
		default:
		}
	}()
	select {
	case <-g.member.StoppingNotify():
		return out, g.stopped(ctx)
	default:
		return ask()
	}
}

// stopped waits until it is known why the member stopped.
func (g *engine) stopped(ctx context.Context) error {
	select {
	case <-g.closing:
		return errors.New("the store is closed")
	case <-g.failed:
		return g.failure()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// campaign makes a member that has no leader ask for votes at once: a lone one elects itself so, without waiting for an election time. It waits
// until raft knows that what it has committed is applied: before that raft looks through its log for changes of the pool, and panics
// where etcd has let go of entries meanwhile. etcd tells raft's own view by expvar only, and only that of the member that was started last: another
// one elects itself as it always would.
func (g *engine) campaign(ctx context.Context) {
	self := uint64(g.member.MemberID())
	published, _ := expvar.Get("raft.status").(expvar.Func)
	if g.member.Lead() != 0 || published == nil {
		return
	}
	if st, ok := published.Value().(raft.Status); ok && st.ID == self && st.HardState != nil && st.Applied >= st.GetCommit() {
		_ = g.member.Process(ctx, &raftpb.Message{Type: raftpb.MsgTimeoutNow.Enum(), To: &self, From: &self})
	}
}

// attend notices that the member stopped by itself.
func (g *engine) attend() {
	<-g.member.StopNotify()
	select {
	case <-g.closing:
	default:
		g.fail(g.whyStopped())
	}
}

func (g *engine) fail(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err == nil {
		g.err = err
		close(g.failed)
	}
}

func (g *engine) failure() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err
}

// close stops the member. It waits no longer than the grace: a member that gave up may never stop. The second call does
// nothing (etcd's own Close panics then).
func (g *engine) close(grace time.Duration) {
	g.once.Do(func() {
		close(g.closing)
		done := make(chan struct{})
		go func() {
			defer close(done)
			g.client.Close()
			if g.etcd != nil {
				g.etcd.Close()
			}
			g.running.Wait()
		}()
		select {
		case <-done:
		case <-time.After(grace):
		}
	})
}

// giveUp takes the place of os.Exit and panic where etcd meets what it cannot go on with: the goroutine ends there and
// the engine is failed.
type giveUp struct{ g *engine }

func (h giveUp) OnWrite(e *zapcore.CheckedEntry, fields []zapcore.Field) {
	err := errors.New(e.Message)
	for _, f := range fields {
		if cause, ok := f.Interface.(error); ok && f.Type == zapcore.ErrorType {
			err = fmt.Errorf("%w: %w", err, cause)
		}
	}
	h.g.fail(err)
	runtime.Goexit()
}

// zapToSlog hands etcd's warnings and errors to the service's log; the rest is dropped before it is formatted.
type zapToSlog struct {
	log    *slog.Logger
	fields []zapcore.Field
}

// quiet are warnings about choices that were made on purpose.
var quiet = map[string]bool{
	"Running http and grpc server on single port. This is not recommended for production.": true, // it runs neither
	"exceeded recommended request limit":                                                   true, // maxBytes
	"simple token is not cryptographically signed":                                         true, // nobody logs in
	"failed to find remote peer in cluster":                                                true, // a new member, until it has the log
	// The first start asks for versions before it has written them, and asks again.
	"failed to update cluster version": true,
	"Failed to detect schema version":  true,
	"failed to update storage version": true,
}

// early is what a member says of its first election, which it tries again at the next tick.
const early = "since there are still pending configuration changes to apply"

func (z *zapToSlog) Enabled(l zapcore.Level) bool { return l >= zapcore.WarnLevel }

func (z *zapToSlog) With(f []zapcore.Field) zapcore.Core {
	return &zapToSlog{z.log, append(z.fields[:len(z.fields):len(z.fields)], f...)}
}

// unpublished is what a member says whose name and addresses are not in the pool's log yet, and, while it has much to catch up on, says again and again
// without a pause.
const unpublished = "failed to publish local member to cluster through raft"

func (z *zapToSlog) Check(e zapcore.Entry, c *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if e.Message == unpublished {
		time.Sleep(tick) // it is in etcd's loop
		return c
	}
	if z.Enabled(e.Level) && !quiet[e.Message] && !strings.HasSuffix(e.Message, early) {
		return c.AddCore(e, z)
	}
	return c
}

func (z *zapToSlog) Write(e zapcore.Entry, fields []zapcore.Field) error {
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range append(z.fields[:len(z.fields):len(z.fields)], fields...) {
		f.AddTo(enc)
	}
	args := make([]any, 0, 2*len(enc.Fields))
	for k, v := range enc.Fields {
		args = append(args, k, v)
	}
	level := slog.LevelWarn
	if e.Level >= zapcore.ErrorLevel {
		level = slog.LevelError
	}
	z.log.Log(context.Background(), level, "etcd: "+e.Message, args...)
	return nil
}

func (z *zapToSlog) Sync() error { return nil }

// examine reads every page of the database in an etcd directory, before etcd opens it, so that damage is an error here and not a
// crash in one of etcd's goroutines; and it looks for the log, without which etcd would begin anew.
func examine(dir string) error {
	wal := filepath.Join(dir, "member", "wal")
	entries, err := os.ReadDir(wal)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(entries, func(e os.DirEntry) bool { return filepath.Ext(e.Name()) == ".wal" }) {
		return fmt.Errorf("%s: no log (*.wal)", wal)
	}
	return readAll(filepath.Join(dir, "member", "snap", "db"))
}

func readAll(path string) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true)) // a page beyond the end of a cut file is a fault, not an error
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%s: %v", path, r)
		}
	}()
	if fi, err := os.Stat(path); err != nil {
		return err
	} else if fi.Size() == 0 {
		return fmt.Errorf("%s: empty file", path)
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: 10 * time.Second})
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	defer db.Close()
	return db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
			var last []byte
			return b.ForEach(func(k, _ []byte) error {
				if last != nil && string(k) <= string(last) {
					return fmt.Errorf("%s: bucket %s: keys out of order", path, name)
				}
				last = k
				return nil
			})
		})
	})
}
