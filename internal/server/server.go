// Package server is the daemon: it wires the rooms together and answers the API, one file a verb.
//
// [Run] starts, in this order: keys, store, interfaces, listeners, BMC engine, consoles, boot services. Whatever cannot
// start is named with the reason, and nothing is left half-started. The world is read from one snapshot at the top of
// each request or packet. On the end of its context everything is told to stop and is waited for.
//
//	unix socket ─┐                     ┌─ bmc/ipmi ── console
//	TLS         ─┼─ verbs ── snapshot ─┤
//	boot HTTP   ─┤     │               └─ remote (ssh)
//	DHCP, TFTP  ─┘     └── store.Commit, Observe, Tell
package server

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"muster/internal/api"
	"muster/internal/auth"
	"muster/internal/boot"
	"muster/internal/console"
	"muster/internal/identity"
	"muster/internal/image/chunk"
	"muster/internal/store"
)

// Config is what needs a restart to change. The zero value of each field is good but for Data and Node.
type Config struct {
	// Data is the directory that holds all state; made with mode 0700.
	Data string
	// Boot names the interfaces on which DHCP, TFTP and boot HTTP answer; none means no boot services.
	Boot []string
	// Listen are the addresses "host:port" of the TLS API. Empty: port 7443 on the boot interfaces' addresses, or on
	// the loopback address without any.
	Listen []string
	// HTTPPort serves boot scripts, kernels and initramfs on the boot interfaces; 0 is 7080.
	HTTPPort int
	// ConsoleDays and ConsoleGiB limit what consoles printed and is kept: how long ago, and how much of all together; 0 is 90 days and 8 GiB.
	ConsoleDays, ConsoleGiB int
	// Outside is the path of a network namespace with a way to the package mirrors, for image builds; empty is ours.
	Outside string
	// Node is the node program that image builds put into images.
	Node []byte
	// Log gets what the service has to say; nil is silent.
	Log *slog.Logger
	// Ready is called when every listener listens.
	Ready func(*Server)
	// SiteKey says what the key is unlocked with under which secrets are sealed; nothing: it lies in Data, readable.
	SiteKey identity.Source
	// Name is this manager's name in a pool; a store keeps the one that it was made with. Empty: the host's name.
	Name string
	// Advertise is the "host:port" at which other managers reach this one; empty: the first address of Listen that is not of this host only.
	Advertise string
	// Join is a join string of a pool that this host is to become a manager of; empty: none.
	Join string
	// External is an etcd of the site's own instead of the member in this process.
	External *store.External
	// Drivers are further ways to talk to controllers by the name of bmc.driver, or stand in for the service's own: for tests.
	Drivers map[string]Driver
	// Version is what GET /v1/version answers.
	Version string
}

// Defaults of the ports.
const (
	APIPort  = 7443
	HTTPPort = 7080
)

// Server is the running daemon.
type Server struct {
	cfg      Config
	log      *slog.Logger
	started  time.Time
	keys     *identity.Authority
	store    *store.Store
	drivers  map[string]Driver
	consoles *console.Hub
	chunks   *chunk.Store
	seen     sightings
	works    works
	made     made
	unknown  machines
	repeated boot.Seen
	ifaces   []iface
	apis     []string
	building atomic.Bool
	gate     gate
	peers    peers
	stock    sync.Mutex // one comparison of an inventory with its record at a time
	siteKey  sync.Mutex // one change of the site key at a time
	members  poolMembers
	shown    certificates
	was      atomic.Bool // this manager's own document was there
	// stale says since when this manager is cut off from the majority, so that what it answers may be old. Nil: never.
	stale func() time.Time

	description sync.Once
	described   []byte // the API, once it was asked for
	undescribed error
}

// Run runs the service until ctx ends. It returns nil when it was told to stop and everything stopped cleanly.
func Run(ctx context.Context, cfg Config) error {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.HTTPPort == 0 {
		cfg.HTTPPort = HTTPPort
	}
	s := &Server{cfg: cfg, log: cfg.Log, started: time.Now()}
	s.stale = s.cutOff
	if err := os.MkdirAll(cfg.Data, 0o700); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	var err error
	if s.ifaces, err = findInterfaces(cfg.Boot); err != nil {
		return err
	}
	parent := ctx
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	ls, err := s.openStore(ctx, g)
	if err != nil {
		cancel()
		return errors.Join(err, g.Wait())
	}
	defer func() {
		if err := s.store.Close(); err != nil {
			s.log.Error("store", "err", err)
		}
	}()
	if err = s.openDrivers(); err != nil {
		return err
	}
	defer s.closeDrivers()
	s.consoles, err = console.New(console.Options{
		Dir: filepath.Join(cfg.Data, "console"), Log: s.log, Alarm: s.consoleAlarm,
		KeepFor: time.Duration(cfg.ConsoleDays) * 24 * time.Hour, KeepBytes: int64(cfg.ConsoleGiB) << 30,
	})
	if err != nil {
		return err
	}

	if s.chunks, err = chunk.Open(s.chunksDir()); err != nil {
		return fmt.Errorf("the chunks of images: %w", err)
	}

	if err := ls.serve(ctx, g, s); err != nil {
		cancel()
		return errors.Join(err, g.Wait())
	}
	g.Go(func() error { return s.consoles.Run(ctx) })
	g.Go(func() error { return s.reconcileConsoles(ctx) })
	g.Go(func() error { return s.watchPower(ctx) })
	g.Go(func() error { return s.followWork(ctx) })
	g.Go(func() error { return s.keepDeployments(ctx) })
	g.Go(func() error { return s.followKeys(ctx) })
	g.Go(func() error { return s.keepPool(ctx) })
	g.Go(func() error {
		select {
		case <-ctx.Done():
			return nil
		case <-s.store.Done():
			return s.store.Err()
		}
	})
	s.tell(event("service.start", "muster "+cfg.Version+" started"))
	if cfg.Ready != nil {
		cfg.Ready(s)
	}
	err = g.Wait()
	if parent.Err() != nil && errors.Is(err, context.Canceled) {
		err = nil // told to stop
	}
	s.tell(event("service.stop", "muster stops"))
	return err
}

// Socket is the path of the unix socket.
func (s *Server) Socket() string { return filepath.Join(s.cfg.Data, "muster.sock") }

// APIs are the addresses of the TLS API, as URLs.
func (s *Server) APIs() []string { return s.apis }

func (s *Server) certificates() auth.Certificates {
	return auth.Certificates{
		NodeUnit: identity.UnitNode, AdminUnit: identity.UnitAdmin, ManagerUnit: identity.UnitManager,
		Fingerprint: func(k any) string { return identity.Fingerprint(k) },
	}
}

func (s *Server) version(q *request) error {
	return q.answer(api.Version{
		Version: s.cfg.Version, Started: s.started, Revision: int64(q.snap.Revision), Manager: string(s.name()), Stale: s.cutOff(), Who: q.who.Name,
		Pin: s.keys.Pin(), API: s.apis, Boot: s.cfg.Boot, Data: s.cfg.Data,
	})
}

// The numbers of requests: those of one start of the service have the same beginning, by chance unlike any other's.
var (
	requestStart = func() string {
		b := make([]byte, 5)
		_, _ = rand.Read(b)
		return hex.EncodeToString(b) + "-"
	}()
	requestCount atomic.Uint64
)

func requestID() string { return requestStart + strconv.FormatUint(requestCount.Add(1), 36) }
