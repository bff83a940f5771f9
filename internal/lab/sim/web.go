package sim

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"path"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// web is the Redfish side of a fleet: one HTTPS server for all, which tells controllers apart by the address, or the
// port, that was connected to.
type web struct {
	fleet     *Fleet
	listeners []net.Listener
	server    *http.Server
	authority *x509.Certificate
	key       crypto.Signer

	mu   sync.Mutex
	dead map[net.Conn]bool // connections to dead controllers
	wait sync.WaitGroup
}

const (
	maxBody   = 1 << 20
	maxUpload = 64 << 20
)

func (f *Fleet) openWeb() (*web, error) {
	w := &web{fleet: f, dead: map[net.Conn]bool{}}
	names := f.opt.Profiles
	if len(names) == 0 {
		names = Profiles()
	}
	trees := map[string]tree{}
	if err := w.makeAuthority(); err != nil {
		return nil, err
	}
	for i := f.opt.IPMI; i < len(f.bmcs); i++ {
		p, err := profileOf(names[(i-f.opt.IPMI)%len(names)])
		if err != nil {
			return nil, err
		}
		if trees[p.name] == nil {
			trees[p.name] = grow(p)
		}
		f.bmcs[i].initRedfish(p, trees[p.name])
		if err := w.certify(&f.bmcs[i]); err != nil {
			return nil, err
		}
	}
	w.server = &http.Server{
		Handler: w, ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: time.Minute, IdleTimeout: 10 * time.Minute,
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: w.certificate, NextProtos: []string{"http/1.1"}},
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connected{}, w.asked(c))
		},
	}
	if !f.opt.Ports {
		l, err := net.Listen("tcp4", fmt.Sprint("0.0.0.0:", f.opt.RedfishPort))
		if err != nil {
			return nil, fmt.Errorf("port of Redfish: %w", err)
		}
		w.listeners = []net.Listener{l}
		return w, nil
	}
	for i := f.opt.IPMI; i < len(f.bmcs); i++ {
		l, err := net.Listen("tcp4", f.bmcs[i].address.String())
		if err != nil {
			return nil, errors.Join(fmt.Errorf("port of Redfish: %w", err), w.close())
		}
		w.listeners = append(w.listeners, l)
	}
	return w, nil
}

func (w *web) serve(g *errgroup.Group) {
	for _, l := range w.listeners {
		g.Go(func() error {
			err := w.server.ServeTLS(&listener{l, w}, "", "")
			if errors.Is(err, http.ErrServerClosed) {
				return nil
			}
			return err
		})
	}
}

func (w *web) close() error {
	var errs []error
	for _, l := range w.listeners {
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	if w.server != nil {
		errs = append(errs, w.server.Close())
	}
	w.mu.Lock()
	for c := range w.dead {
		_ = c.Close()
	}
	w.mu.Unlock()
	w.wait.Wait()
	return errors.Join(errs...)
}

// connected is the key under which a request finds its controller.
type connected struct{}

// asked is the controller that a connection is for, nil for none.
func (w *web) asked(c net.Conn) *bmc {
	a, err := netip.ParseAddrPort(c.LocalAddr().String())
	if err != nil {
		return nil
	}
	if w.fleet.opt.Ports {
		i := int(a.Port()) - int(w.fleet.opt.RedfishPort) - 1
		if i < w.fleet.opt.IPMI || i >= len(w.fleet.bmcs) {
			return nil
		}
		return &w.fleet.bmcs[i]
	}
	return w.fleet.at(a.Addr())
}

// listener keeps connections to dead controllers away from the server: they are taken, since the kernel takes them, and
// never answered.
type listener struct {
	net.Listener
	web *web
}

func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		b := l.web.asked(c)
		if b == nil || b.redfish == nil {
			_ = c.Close()
			continue
		}
		b.mu.Lock()
		dead := b.faults.Dead
		b.mu.Unlock()
		if !dead {
			return c, nil
		}
		l.web.bury(c)
	}
}

func (w *web) bury(c net.Conn) {
	w.mu.Lock()
	w.dead[c] = true
	w.mu.Unlock()
	w.wait.Go(func() {
		_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
		_, _ = io.Copy(io.Discard, c)
		_ = c.Close()
		w.mu.Lock()
		delete(w.dead, c)
		w.mu.Unlock()
	})
}

// signer is a key made of the fleet's seed and a purpose. It protects nothing.
func (w *web) signer(purpose string) (*ecdsa.PrivateKey, error) {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %s", w.fleet.seed, purpose))
	return ecdsa.ParseRawPrivateKey(elliptic.P256(), sum[:])
}

var (
	notBefore = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	notAfter  = time.Date(2044, 1, 1, 0, 0, 0, 0, time.UTC)
)

func (w *web) makeAuthority() error {
	key, err := w.signer("authority")
	if err != nil {
		return err
	}
	t := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "muster lab sim"}, NotBefore: notBefore, NotAfter: notAfter,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(nil, t, t, key.Public(), key)
	if err != nil {
		return err
	}
	w.authority, err = x509.ParseCertificate(der)
	w.key = key
	return err
}

// certify gives a controller its certificate, another one after each renewal.
func (w *web) certify(b *bmc) error {
	key, err := w.signer(fmt.Sprint(b.index, " ", b.faults.Renew))
	if err != nil {
		return err
	}
	t := &x509.Certificate{
		SerialNumber: big.NewInt(int64(b.index)<<16 + int64(b.faults.Renew) + 2), Subject: pkix.Name{CommonName: b.machine.name + "-bmc"}, NotBefore: notBefore, NotAfter: notAfter,
		IPAddresses: []net.IP{b.address.Addr().AsSlice()}, DNSNames: []string{b.machine.name + "-bmc"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(nil, t, w.authority, key.Public(), w.key)
	if err != nil {
		return err
	}
	b.redfish.certificate = &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	return nil
}

// Authority is the certificate (PEM) that all others are signed with, nil without Redfish.
func (f *Fleet) Authority() []byte {
	if f.web == nil {
		return nil
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.web.authority.Raw})
}

func (w *web) certificate(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
	b := w.asked(h.Conn)
	if b == nil || b.redfish == nil {
		return nil, errors.New("no controller has this address")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.redfish.certificate, nil
}

func (w *web) ServeHTTP(out http.ResponseWriter, r *http.Request) {
	b, _ := r.Context().Value(connected{}).(*bmc)
	if b == nil {
		panic(http.ErrAbortHandler)
	}
	w.fleet.counters.requests.Add(1)
	b.mu.Lock()
	lost, delay := b.faults.Dead || b.chance(b.faults.Drop), b.faults.Delay
	b.mu.Unlock()
	if lost || !slow(r, delay) {
		panic(http.ErrAbortHandler)
	}
	q := request{method: r.Method, path: path.Clean(r.URL.Path), query: r.URL.Query(), header: r.Header}
	limit := int64(maxBody)
	if q.path == b.redfish.profile.update {
		limit = maxUpload
	}
	var err error
	if q.body, err = io.ReadAll(http.MaxBytesReader(out, r.Body, limit)); err != nil {
		reply(out, refuse(http.StatusRequestEntityTooLarge, "PayloadTooLarge", "The body is longer than %d octets.", limit))
		return
	}
	if q.path == eventPath && b.redfish.profile.events && r.Method == http.MethodGet {
		w.stream(out, r, b, q)
		return
	}
	var a answer
	w.fleet.ask(b, func(v view) { a = v.serve(q) })
	reply(out, a)
}

// ask calls a function on a controller as it is now.
func (f *Fleet) ask(b *bmc, call func(v view)) {
	now := time.Now()
	f.do(b, now, func() {
		b.settleRedfish(now)
		call(view{b, b.redfish.profile, now})
		b.settleRedfish(now)
	})
}

func reply(out http.ResponseWriter, a answer) {
	h := out.Header()
	for k, v := range a.header {
		h[http.CanonicalHeaderKey(k)] = v
	}
	h.Set("OData-Version", "4.0")
	h.Set("Cache-Control", "no-cache")
	if a.doc == nil {
		out.WriteHeader(a.status)
		return
	}
	h.Set("Content-Type", "application/json")
	body, err := json.Marshal(a.doc)
	if err != nil {
		panic(err) // the documents are ours
	}
	h.Set("Content-Length", fmt.Sprint(len(body)))
	out.WriteHeader(a.status)
	_, _ = out.Write(body)
}

// stream tells events as they happen (server-sent events, DSP0266), with a comment now and then.
func (w *web) stream(out http.ResponseWriter, r *http.Request, b *bmc, q request) {
	c := make(chan []byte, 64)
	allowed, refusal := false, answer{}
	w.fleet.ask(b, func(v view) {
		if _, allowed = v.who(q.header); allowed {
			v.redfish.streams[c] = true
		} else {
			refusal = v.unauthorized()
		}
	})
	if !allowed {
		reply(out, refusal)
		return
	}
	defer w.fleet.ask(b, func(v view) { delete(v.redfish.streams, c) })
	w.fleet.counters.streams.Add(1)
	out.Header().Set("Content-Type", "text/event-stream")
	out.Header().Set("Cache-Control", "no-cache")
	out.WriteHeader(http.StatusOK)
	flush := http.NewResponseController(out)
	alive := time.NewTicker(30 * time.Second)
	defer alive.Stop()
	line := []byte(": here\n\n")
	for {
		if _, err := out.Write(line); err != nil || flush.Flush() != nil {
			return
		}
		select {
		case line = <-c:
		case <-alive.C:
			line = []byte(": here\n\n")
		case <-r.Context().Done():
			return
		}
	}
}
