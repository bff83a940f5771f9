package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// The limits of one commit. Both are far above etcd's defaults, so that a change of 100,000 nodes stays one transaction;
// raft keeps the bytes of a transaction in memory for a while, hence the bound.
const (
	maxOps   = 300_000
	maxBytes = 128 << 20
	quota    = 8 << 30
)

// startLimit is how long a member may take until it serves, once its files are read.
const startLimit = time.Minute

// engine is one embedded etcd member that listens nowhere: no TCP port, no unix socket. The client calls its functions.
type engine struct {
	etcd   *embed.Etcd
	client *clientv3.Client
	once   sync.Once

	mu     sync.Mutex
	err    error
	failed chan struct{} // closed when etcd gave up
}

// startEngine starts the member whose files lie in dir and waits until it serves. etcd ends the process or panics when
// it meets a damaged file; both become the error here.
func startEngine(ctx context.Context, dir string, log *slog.Logger) (*engine, error) {
	g := &engine{failed: make(chan struct{})}
	lg := zap.New(&zapToSlog{log: log}, zap.WithFatalHook(giveUp{g}), zap.WithPanicHook(giveUp{g}))

	cfg := embed.NewConfig()
	cfg.Name = "muster"
	cfg.Dir = dir
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(lg)
	self := []url.URL{{Scheme: "unix", Host: "muster"}} // a name for the member; nothing is bound to it
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = nil, self
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = nil, self
	cfg.InitialCluster = cfg.Name + "=" + self[0].String()
	cfg.InitialClusterToken = "muster"

	// One member elects itself after one to two election times, which is what a start waits for.
	cfg.TickMs, cfg.ElectionMs = 50, 250

	cfg.MaxTxnOps, cfg.MaxRequestBytes, cfg.QuotaBackendBytes = maxOps, maxBytes, quota
	cfg.AutoCompactionMode, cfg.AutoCompactionRetention = embed.CompactorModeRevision, "1000"
	// Entries since the last raft snapshot are read into memory at start, and kept there: few, for they may be large.
	cfg.SnapshotCount, cfg.SnapshotCatchUpEntries = 500, 1
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
	ctx, cancel := context.WithTimeoutCause(ctx, startLimit, fmt.Errorf("etcd was not ready after %v", startLimit))
	defer cancel()
	select {
	case <-g.etcd.Server.ReadyNotify():
	case <-g.failed:
		g.close(time.Second)
		return nil, g.failure()
	case <-ctx.Done():
		g.close(time.Second)
		return nil, context.Cause(ctx)
	}
	g.client = v3client.New(g.etcd.Server)
	return g, nil
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
		done := make(chan struct{})
		go func() {
			defer close(done)
			if g.client != nil {
				g.client.Close()
			}
			g.etcd.Close()
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

func (z *zapToSlog) Check(e zapcore.Entry, c *zapcore.CheckedEntry) *zapcore.CheckedEntry {
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
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Second})
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
