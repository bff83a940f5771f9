package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"muster/internal/api"
	"muster/internal/auth"
	"muster/internal/identity"
	"muster/internal/model"
	"muster/internal/store"
)

// openStore opens the listeners, the keys and the store, in this order, because the other managers of a pool have to reach this one before its
// store is ready; all of it under the store's lock, which keeps a second service out of the directory.
func (s *Server) openStore(ctx context.Context, g *errgroup.Group) (ls *listeners, err error) {
	var invited Join
	made := false
	if s.cfg.Join != "" {
		if invited, err = ParseJoin(s.cfg.Join); err != nil {
			return nil, err
		}
		s.cfg.Name = invited.Name
	}
	o := store.Options{
		Dir: filepath.Join(s.cfg.Data, "store"), Log: s.log, Program: s.cfg.Version, External: s.cfg.External,
		Name: model.ManagerName(or(s.cfg.Name, hostName())), Mount: s.gate.mount,
	}
	o.Prepare = func(ctx context.Context, o *store.Options, fresh bool) (err error) {
		if ls, err = s.listen(); err != nil {
			return err
		}
		if fresh && s.cfg.Join != "" {
			if o.Join, err = s.join(ctx, invited); err != nil {
				return err
			}
		}
		// With an etcd of the site's own nobody knows yet whether something is sealed in it: without keys it is begun with new ones only where
		// the directory is new; the end of this function looks.
		if s.keys, made, err = identity.Open(identity.Options{Dir: filepath.Join(s.cfg.Data, "keys"), Fresh: fresh && s.cfg.Join == "", SiteKey: s.cfg.SiteKey}); err != nil {
			return err
		}
		if s.cfg.Join != "" && s.keys.Pin() != invited.Pin {
			return &api.Error{
				Code: api.Conflict, What: "serve --join", Why: s.cfg.Data + " is of another installation, or was started without --join before",
				Do: "Start it without --join to use what is there; to become a manager of the pool give an empty directory, or move this one away",
			}
		}
		if made {
			s.log.Info("first start: made the CA, the service's keys and an administrator", "identity", s.keys.AdminBundle())
		}
		files, err := s.certify(o.Name, s.hosts(), time.Now())
		if err != nil {
			return err
		}
		o.Peer = store.PeerFiles(files)
		if err := s.peers.open(files); err != nil {
			return err
		}
		s.serveTLS(ctx, g, ls)
		return nil
	}
	if s.store, err = store.Open(ctx, o); err != nil {
		if ls != nil {
			ls.close()
		}
		return nil, err
	}
	if made && !empty(s.store.Snapshot()) {
		ls.close()
		keys := filepath.Join(s.cfg.Data, "keys")
		return nil, errors.Join(&api.Error{
			Code: api.Usage, What: "keys", Why: "the store is not empty, and the keys that its secrets and nodes hang on are not in " + keys,
			Do: "Remove that directory, copy keys/ of another manager to its place (but for manager.key and manager.crt), and start again",
		}, s.store.Close())
	}
	return ls, nil
}

// empty says that nothing was described yet, so nothing was sealed or signed.
func empty(snap *model.Snapshot) bool {
	for range snap.Groups() {
		return false
	}
	for range snap.SealKeys() {
		return false
	}
	return snap.Len() == 0
}

// hostName is the first word of the host's name, where that can be a name.
func hostName() string {
	h, _ := os.Hostname()
	h, _, _ = strings.Cut(h, ".")
	if model.CheckName(h) != nil {
		return ""
	}
	return h
}

// name is this manager's name in the pool.
func (s *Server) name() model.ManagerName { return s.store.Name() }

// hosts are the names and addresses that this manager's certificates are for.
func (s *Server) hosts() []string {
	var hosts []string
	for _, a := range append(slices.Clone(s.apis), s.cfg.Advertise) {
		h, _, err := net.SplitHostPort(strings.TrimPrefix(a, "https://"))
		if ip := net.ParseIP(h); ip != nil && ip.IsUnspecified() {
			hosts = append(hosts, ownAddresses()...)
		} else if err == nil {
			hosts = append(hosts, h)
		}
	}
	if name, err := os.Hostname(); err == nil {
		hosts = append(hosts, name)
	}
	hosts = append(hosts, "localhost", "127.0.0.1", "::1")
	slices.Sort(hosts)
	return slices.Compact(hosts)
}

// ownAddresses are those of this host that others can reach.
func ownAddresses() (out []string) {
	all, _ := net.InterfaceAddrs()
	for _, a := range all {
		if p, ok := a.(*net.IPNet); ok && p.IP.IsGlobalUnicast() {
			out = append(out, p.IP.String())
		}
	}
	return out
}

// recertify is how often certificates are looked at; see [identity.Authority.Manager].
const recertify = 24 * time.Hour

// certificates are those that this manager shows to clients and to other managers, and what they were made for.
type certificates struct {
	server atomic.Pointer[tls.Config]
	hosts  []string
	at     time.Time
}

// certify makes the certificates of this manager, where those that it has do not do any more.
func (s *Server) certify(name model.ManagerName, hosts []string, now time.Time) (identity.PeerFiles, error) {
	files, err := s.keys.Manager(name, hosts, now)
	if err != nil {
		return files, err
	}
	c, err := s.keys.ServerTLS(hosts)
	if err != nil {
		return files, err
	}
	s.shown.server.Store(c)
	s.shown.hosts, s.shown.at = hosts, now
	return files, nil
}

// renewCertificates is asked every second: it does something once a day, and when this host has other addresses.
func (s *Server) renewCertificates(hosts []string, now time.Time) {
	if slices.Equal(hosts, s.shown.hosts) && now.Sub(s.shown.at) < recertify {
		return
	}
	if _, err := s.certify(s.name(), hosts, now); err != nil {
		s.log.Error("the certificates of this manager are not renewed", "err", err)
		s.shown.hosts, s.shown.at = hosts, now.Add(time.Minute-recertify) // again in a minute
	}
}

// serveTLS serves what other managers' stores ask from the first moment on, and the API once the gate opens.
func (s *Server) serveTLS(ctx context.Context, g *errgroup.Group, ls *listeners) {
	s.gate.certificates = s.certificates()
	c := &tls.Config{MinVersion: tls.VersionTLS13, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return s.shown.server.Load(), nil }}
	for _, l := range ls.tls {
		s.webTLS(ctx, g, l, &s.gate, c)
	}
}

// gate is the handler of the TLS listeners. Until the store is ready it lets nothing in but the stores of other managers.
type gate struct {
	certificates auth.Certificates
	peers, admin atomic.Pointer[http.Handler]
	// removed says of a manager that it was in the pool and was taken out. Before it is there, the members of the store judge by
	// themselves: this one may have missed how the pool has become.
	removed atomic.Pointer[func(model.ManagerName) bool]
}

// mount takes the handler for the other managers' stores.
func (g *gate) mount(h http.Handler) { g.peers.Store(&h) }

// open lets the API in.
func (g *gate) open(h http.Handler) { g.admin.Store(&h) }

// peerPaths are what etcd's members ask of each other; see store.Options.Mount.
var peerPaths = []string{"/raft", "/members", "/leases", "/version", "/downgrade"}

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	to := &g.admin
	if slices.ContainsFunc(peerPaths, func(p string) bool { return r.URL.Path == p || strings.HasPrefix(r.URL.Path, p+"/") }) {
		who := g.certificates.From(r)
		if who.Kind != auth.Manager {
			fail(w, &api.Error{Code: api.Denied, What: r.URL.Path, Why: "only the managers of the pool ask this"})
			return
		}
		// Who the members are it may ask: so it learns that it is none any more.
		if removed := g.removed.Load(); removed != nil && (*removed)(who.Manager) && r.URL.Path != "/members" {
			fail(w, &api.Error{Code: api.Denied, What: r.URL.Path, Why: who.Name + " was removed from the pool"})
			return
		}
		to = &g.peers
		// Their streams go on for ever, and the stop of the service would wait for them: it ends them. Messages still go out.
		c := http.NewResponseController(w)
		defer context.AfterFunc(r.Context(), func() { _ = c.SetReadDeadline(time.Now()) })()
	}
	h := to.Load()
	if h == nil {
		w.Header().Set("Retry-After", "1")
		fail(w, &api.Error{Code: api.Unreachable, What: "muster", Why: "it is starting", Do: "Ask again in a second"})
		return
	}
	(*h).ServeHTTP(w, r)
}

// open makes the client with which this manager asks others: it shows its certificate and trusts the pool's CA.
func (p *peers) open(f identity.PeerFiles) error {
	pem, err := os.ReadFile(f.CA)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	p.http = &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{
			MinVersion: tls.VersionTLS13, RootCAs: roots,
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { // it is renewed while the service runs
				c, err := tls.LoadX509KeyPair(f.Cert, f.Key)
				return &c, err
			},
		},
		DialContext: (&net.Dialer{Timeout: time.Second, KeepAlive: -1, Control: mortal}).DialContext, MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute,
		ResponseHeaderTimeout: vanished,
	}}
	return nil
}

// vanished is how long a manager that is asked may not take a byte, or not begin its answer: its host is gone then. TCP itself gives up after a
// quarter of an hour.
const vanished = 10 * time.Second

// mortal ends a connection whose other side is gone, also when nothing is sent on it.
func mortal(_, _ string, c syscall.RawConn) error {
	var errs []error
	err := c.Control(func(fd uintptr) {
		for _, o := range []struct{ level, name, value int }{
			{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(vanished.Milliseconds())},
			{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
			{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, int(vanished.Seconds()) / 2},
			{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 1},
		} {
			errs = append(errs, unix.SetsockoptInt(int(fd), o.level, o.name, o.value))
		}
	})
	return errors.Join(append(errs, err)...)
}

// cutOff says since when this manager is cut off from the majority: what it answers may be old, and it takes no change. Zero: it is not.
func (s *Server) cutOff() time.Time { return s.store.CutOff() }
