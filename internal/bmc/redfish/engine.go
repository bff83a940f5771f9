// Package redfish drives BMCs over Redfish (DMTF DSP0266): HTTPS and JSON.
//
// The engine keeps of each controller what makes the next command one request: connection, session, and the map of where things are.
//
//	driver.Power ─▶ peer.open ─── once: GET /redfish/v1/ ─ POST Sessions ─ GET Systems ─ GET Systems/1
//	      │                                                      │
//	      └──▶ GET Systems/1 (X-Auth-Token) ◀── token ◀──────────┘
//	                └─ 401: log in anew, once, and ask again
//
// A session is shared by all drivers of the same controller, user and pins, and ended after five minutes without use: controllers have few. A refused
// login is told to all who wait for it and not tried again by itself, since controllers lock accounts. Controllers are slow and get few requests at a time;
// one that does not answer delays nobody else. Where vendors differ from the standard, a line in the table of quirks.go says so; no code asks for a vendor.
//
// What decides that a controller is the right one is its certificate: see [muster/internal/bmc.Target]. It is judged before a password is sent.
package redfish

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"muster/internal/bmc"
	"muster/internal/model"
)

// Port is the TCP port of Redfish.
const Port = 443

// Options of an engine. The zero value works.
type Options struct {
	// PerBMC bounds the connections to one controller; 4 when zero.
	PerBMC int
	// Connections bounds the connections to all controllers, in use and kept; 4096 when zero. Those unused for longest make room.
	Connections int
	// Idle is the time after which an unused session is ended; 5 min when zero.
	Idle time.Duration
	// Timeout bounds one request, its connecting included; 30 s when zero. Uploads and streams of events are not bounded by it.
	Timeout time.Duration
	// Poll is the time between two looks at a task when the controller does not say (Retry-After); 2 s when zero.
	Poll time.Duration
	// Stall is the time after which a task that neither ends nor gets on is given up; 30 min when zero.
	Stall time.Duration
	// Away is how long a controller may be silent while it installs firmware on itself; 10 min when zero.
	Away time.Duration
	// Roots are the authorities for targets without pins; those of the system when nil.
	Roots *x509.CertPool
	// Serve makes an image available to controllers that fetch their firmware by themselves, and returns its URL. Nil: such an update is Unsupported.
	Serve func(ctx context.Context, name string, image io.ReadSeeker) (url string, done func(), err error)
	// Log gets sessions opened and lost at level debug. Nil is silent.
	Log *slog.Logger
}

// Engine holds the connections and the sessions. Make it with [New]; its methods may be called by any goroutine.
type Engine struct {
	opt   Options
	log   *slog.Logger
	ctx   context.Context // ends with the engine
	end   context.CancelFunc
	work  sync.WaitGroup // goroutines
	slots chan struct{}  // one for each open connection

	mu     sync.Mutex // taken after a peer's, never before
	closed bool
	peers  map[key]*peer

	waiting  int // who wait for a slot
	evicting bool
}

// key tells controllers and logins apart: drivers of the same key share a session.
type key struct {
	address  string
	port     int
	user     string
	password [sha256.Size]byte // its digest: a secret is not compared, and nothing that holds a key can print it
	pins     string
}

// New returns an engine. Nothing is connected before the first command.
func New(o Options) (*Engine, error) {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&o.Idle, 5*time.Minute)
	def(&o.Timeout, 30*time.Second)
	def(&o.Poll, 2*time.Second)
	def(&o.Stall, 30*time.Minute)
	def(&o.Away, 10*time.Minute)
	if o.PerBMC == 0 {
		o.PerBMC = 4
	}
	if o.Connections == 0 {
		o.Connections = 4096
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	e := &Engine{opt: o, log: o.Log, slots: make(chan struct{}, o.Connections), peers: map[key]*peer{}}
	e.ctx, e.end = context.WithCancel(context.Background())
	return e, nil
}

// Open returns the driver of a controller. It costs nothing: a wrong target is told by the first call.
func (e *Engine) Open(t bmc.Target) bmc.Driver {
	return &driver{Incapable: bmc.Incapable{Protocol: "Redfish"}, engine: e, target: t, streams: map[*stream]bool{}}
}

// Close ends all sessions, telling the controllers once, and waits for the goroutines. What is under way is cut off.
func (e *Engine) Close() error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return nil
	}
	e.closed = true
	peers := make([]*peer, 0, len(e.peers))
	for _, p := range e.peers {
		peers = append(peers, p)
	}
	e.mu.Unlock()
	e.end()
	e.work.Wait()
	var out sync.WaitGroup
	for _, p := range peers {
		out.Go(p.logout)
	}
	out.Wait()
	return nil
}

// peer returns the peer of a target and counts one more user of it, who calls release.
func (e *Engine) peer(t bmc.Target) (*peer, error) {
	if t.Address == "" {
		return nil, errNoAddress
	}
	k := key{t.Address, t.Port, t.User, sha256.Sum256([]byte(t.Password.Reveal())), strings.Join(t.Pins, " ")}
	if k.port == 0 {
		k.port = Port
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, errClosed
	}
	p := e.peers[k]
	if p == nil {
		p = newPeer(e, k, t)
		e.peers[k] = p
	}
	p.users++
	p.idle.Stop()
	return p, nil
}

// release counts one user less. A peer that nobody uses stays until it has been idle for a while: the next command is quick.
func (e *Engine) release(p *peer) {
	e.mu.Lock()
	defer e.mu.Unlock()
	p.users--
	p.used = time.Now()
	if p.users == 0 && !e.closed {
		p.idle.Reset(e.opt.Idle)
	}
}

// expire forgets a peer that was idle, and ends its session.
func (e *Engine) expire(p *peer) {
	e.mu.Lock()
	if e.closed || p.users > 0 || e.peers[p.key] != p {
		e.mu.Unlock()
		return
	}
	delete(e.peers, p.key)
	e.work.Add(1)
	e.mu.Unlock()
	defer e.work.Done()
	p.logout()
}

// slot waits for leave to open one more connection.
func (e *Engine) slot(ctx context.Context) error {
	select {
	case e.slots <- struct{}{}:
		return nil
	default:
	}
	e.mu.Lock()
	e.waiting++
	if !e.evicting && !e.closed {
		e.evicting = true
		e.work.Go(e.evict)
	}
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		e.waiting--
		e.mu.Unlock()
	}()
	select {
	case e.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// evict closes connections of peers that nobody uses, unused for longest first, as long as somebody waits for a slot. It looks again and again: a connection
// becomes idle some time after its last user has gone.
func (e *Engine) evict() {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		e.mu.Lock()
		if e.waiting == 0 || e.closed {
			e.evicting = false
			e.mu.Unlock()
			return
		}
		var quiet []*peer
		for _, p := range e.peers {
			if p.users == 0 {
				quiet = append(quiet, p)
			}
		}
		slices.SortFunc(quiet, func(a, b *peer) int { return a.used.Compare(b.used) })
		quiet = quiet[:min(len(quiet), e.waiting)]
		e.mu.Unlock()
		for _, p := range quiet {
			p.transport.CloseIdleConnections()
		}
		select {
		case <-tick.C:
		case <-e.ctx.Done():
		}
	}
}

// counted is a connection that gives its slot back, once.
type counted struct {
	net.Conn
	free func()
}

func (c *counted) Close() error {
	c.free()
	return c.Conn.Close()
}

// peer is what is known of a controller under one login.
type peer struct {
	engine    *Engine
	key       key
	password  model.Secret
	pins      []string
	host      string // as URLs have it: "10.1.1.1", "[fe80::1]:8443"
	transport *http.Transport
	client    http.Client
	idle      *time.Timer

	users int       // under the engine's mutex
	used  time.Time // under the engine's mutex

	mu      sync.Mutex
	root    *serviceRoot // nil: not asked yet
	quirk   quirk
	token   string // of the session
	session string // its path
	basic   bool   // there are no sessions: every request carries the login
	opening *flight
	places  map[string]*place // by Target.System
	shell   string            // fingerprint of its ssh key, as first seen
	seen    string            // fingerprint of its certificate, as last seen
}

// flight is a login that is under way; all who need it wait for the same one.
type flight struct {
	done chan struct{}
	err  error
}

func newPeer(e *Engine, k key, t bmc.Target) *peer {
	p := &peer{engine: e, key: k, password: t.Password, pins: t.Pins, host: k.String(), places: map[string]*place{}}
	if strings.Contains(k.address, ":") && k.port == Port {
		p.host = "[" + k.address + "]"
	}
	p.transport = &http.Transport{
		DialContext:         p.dial,
		TLSClientConfig:     p.tls(),
		TLSHandshakeTimeout: e.opt.Timeout,
		MaxConnsPerHost:     e.opt.PerBMC,
		MaxIdleConnsPerHost: e.opt.PerBMC,
		IdleConnTimeout:     e.opt.Idle,
		// Controllers have small processors and fast networks; and a length that is known shows a cut answer.
		DisableCompression: true,
	}
	p.client = http.Client{Transport: p.transport, CheckRedirect: p.redirect}
	p.idle = time.AfterFunc(e.opt.Idle, func() { e.expire(p) })
	p.idle.Stop()
	return p
}

// connecting is how long a controller may take to accept a connection. A busy one takes long to answer, not to accept.
const connecting = 10 * time.Second

func (p *peer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if err := p.engine.slot(ctx); err != nil {
		return nil, err
	}
	d := net.Dialer{Timeout: min(p.engine.opt.Timeout, connecting)}
	c, err := d.DialContext(ctx, network, address)
	if err != nil {
		<-p.engine.slots
		return nil, err
	}
	return &counted{c, sync.OnceFunc(func() { <-p.engine.slots })}, nil
}

// tls is the configuration that judges the certificate by pins, or by the authorities where there are none.
func (p *peer) tls() *tls.Config {
	c := &tls.Config{
		InsecureSkipVerify: true, // VerifyConnection does it
		VerifyConnection:   p.verify,
		MinVersion:         tls.VersionTLS12,
	}
	for _, s := range tls.CipherSuites() {
		c.CipherSuites = append(c.CipherSuites, s.ID)
	}
	// Controllers of before 2018 or so know nothing else.
	c.CipherSuites = append(c.CipherSuites, tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_RSA_WITH_AES_128_CBC_SHA, tls.TLS_RSA_WITH_AES_256_CBC_SHA)
	return c
}

func (p *peer) verify(s tls.ConnectionState) error {
	leaf := s.PeerCertificates[0] // a TLS client gets at least one
	seen := fingerprint(leaf.Raw)
	p.mu.Lock()
	p.seen = seen
	p.mu.Unlock()
	if len(p.pins) > 0 {
		if slices.ContainsFunc(p.pins, func(pin string) bool { return pin == "any" || strings.EqualFold(pin, seen) }) {
			return nil
		}
		return &bmc.CertificateError{Seen: seen, Pins: p.pins}
	}
	o := x509.VerifyOptions{Roots: p.engine.opt.Roots, DNSName: p.key.address, Intermediates: x509.NewCertPool()}
	for _, c := range s.PeerCertificates[1:] {
		o.Intermediates.AddCert(c)
	}
	if _, err := leaf.Verify(o); err != nil {
		return &bmc.CertificateError{Seen: seen, Err: err}
	}
	return nil
}

// redirect follows to other paths of the same controller, and nowhere else: requests carry the session.
func (p *peer) redirect(r *http.Request, via []*http.Request) error {
	if r.URL.Host != via[0].URL.Host || r.URL.Scheme != "https" || len(via) > 3 {
		return &answerError{r.Method + " " + via[0].URL.Path + " was redirected to " + r.URL.Redacted()}
	}
	return nil
}

// name is how messages name a controller.
func (k key) String() string {
	if k.port == Port {
		return k.address
	}
	return net.JoinHostPort(k.address, strconv.Itoa(k.port))
}
