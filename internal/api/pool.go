package api

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/zstd"
)

// base is what every request's URL begins with until a manager is chosen.
const base = "http://muster"

// manager is one address of the service.
type manager struct {
	server string // as it was given
	scheme string
	host   string
	http   *http.Transport
}

func newManager(server, identity string, patience time.Duration) (*manager, error) {
	t := &http.Transport{MaxIdleConnsPerHost: 4, DisableCompression: true, ExpectContinueTimeout: dialTimeout}
	m := &manager{server: server, scheme: "http", host: "muster", http: t}
	if path, ok := strings.CutPrefix(server, "unix:"); ok {
		if !filepath.IsAbs(path) {
			return nil, badServer(server, "the path of the socket is not absolute")
		}
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		}
		return m, nil
	}
	u, err := url.Parse(server)
	if err != nil {
		return nil, badServer(server, err.Error())
	}
	if u.Scheme != "https" || u.Host == "" || (u.Path != "" && u.Path != "/") {
		return nil, badServer(server, "it is neither unix:/path nor https://host:port")
	}
	if t.TLSClientConfig, err = identityTLS(identity); err != nil {
		return nil, err
	}
	t.DialContext = (&net.Dialer{Timeout: patience}).DialContext
	t.TLSHandshakeTimeout = dialTimeout
	m.scheme, m.host = u.Scheme, u.Host
	return m, nil
}

// pool asks the managers of a service, one after the other until one can be connected. A request that a connection was made for may
// have been taken, and is never repeated.
type pool struct {
	managers []*manager
	current  atomic.Int32 // the one that answered last
	seen     atomic.Int64 // largest revision that an answer told of
	stale    func(since string)
}

// RoundTrip makes the pool an [http.RoundTripper]. Errors are [*Error], or the context's.
func (p *pool) RoundTrip(r *http.Request) (*http.Response, error) {
	body := &keptBody{ReadCloser: r.Body}
	first := int(p.current.Load())
	var problems []*Error
	for i := range p.managers {
		at := (first + i) % len(p.managers)
		m := p.managers[at]
		res, err := m.ask(r, body, p.seen.Load())
		if err == nil && i < len(p.managers)-1 && notTaken(res) {
			if next, ok := again(r); ok { // it cannot, another one may
				_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 1<<20))
				_ = res.Body.Close()
				r, body = next, &keptBody{ReadCloser: next.Body}
				continue
			}
		}
		if err == nil {
			p.current.Store(int32(at))
			if since := res.Header.Get(StaleHeader); since != "" && p.stale != nil {
				p.stale(since)
			}
			rev, _ := strconv.ParseInt(res.Header.Get(RevisionHeader), 10, 64) // 0 of a service that does not say
			p.note(rev)
			return res, nil
		}
		if r.Context().Err() != nil {
			body.drop()
			return nil, err
		}
		problems = append(problems, explain(m.server, err))
		if body.connected.Load() || !unconnected(err) {
			break
		}
	}
	body.drop()
	e := problems[len(problems)-1]
	if len(problems) > 1 && e.Code == Unreachable {
		c := *problems[0]
		c.More = problems[1:]
		e = &c
	}
	return nil, e
}

// notTaken says that a manager did nothing with a request: it is cut off from the majority, or still starting.
func notTaken(res *http.Response) bool {
	return res.StatusCode == (&Error{Code: Minority}).Status() || res.StatusCode == (&Error{Code: Unreachable}).Status()
}

// again is the same request for another manager, where its body can be had once more.
func again(r *http.Request) (*http.Request, bool) {
	next := r.Clone(r.Context())
	if r.Body == nil || r.Body == http.NoBody {
		return next, true
	}
	if r.GetBody == nil {
		return nil, false
	}
	body, err := r.GetBody()
	next.Body = body
	return next, err == nil
}

// note keeps the largest revision.
func (p *pool) note(rev int64) {
	for old := p.seen.Load(); rev > old && !p.seen.CompareAndSwap(old, rev); old = p.seen.Load() {
	}
}

// unconnected says of an error without a connection that another manager may be there. One that shows a certificate which is not
// trusted is not passed over: somebody has to look.
func unconnected(err error) bool {
	var verify *tls.CertificateVerificationError
	var unknown x509.UnknownAuthorityError
	var own *Error
	return !errors.As(err, &verify) && !errors.As(err, &unknown) && !errors.As(err, &own)
}

// ask sends the request to one manager.
func (m *manager) ask(r *http.Request, body *keptBody, seen int64) (*http.Response, error) {
	trace := &httptrace.ClientTrace{
		// A transport comes here again only when the connection that it had was dead before it wrote, or the request changes nothing.
		GetConn: func(string) { body.connected.Store(false) },
		GotConn: func(httptrace.GotConnInfo) { body.connected.Store(true) },
	}
	r = r.Clone(httptrace.WithClientTrace(r.Context(), trace))
	r.URL.Scheme, r.URL.Host, r.Host = m.scheme, m.host, m.host
	if seen > 0 && r.Header.Get(AtLeastHeader) == "" {
		r.Header.Set(AtLeastHeader, strconv.FormatInt(seen, 10))
	}
	if r.GetBody != nil {
		var err error
		if r.Body, err = r.GetBody(); err != nil {
			return nil, err
		}
	} else if body.ReadCloser != nil && body.ReadCloser != http.NoBody {
		r.Body = body
	}
	far := m.scheme == "https" && r.Header.Get("Upgrade") == ""
	if far {
		if err := pack(r); err != nil {
			return nil, err
		}
	}
	if far && r.Header.Get("Accept-Encoding") == "" {
		r.Header.Set("Accept-Encoding", "zstd")
	}
	res, err := m.http.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if far && res.Header.Get("Content-Encoding") == "zstd" {
		res.Header.Del("Content-Encoding")
		res.Header.Del("Content-Length")
		res.ContentLength, res.Uncompressed = -1, true
		res.Body = &unpacked{raw: res.Body}
	}
	return res, nil
}

// packFrom is the size in bytes from which a request's document is compressed on its way over the network.
const packFrom = 16 << 10

// pack compresses a large document. A stream is sent as it is: it may be compressed already.
func pack(r *http.Request) error {
	if r.GetBody == nil || r.ContentLength < packFrom {
		return nil
	}
	plain, err := r.GetBody()
	if err != nil {
		return err
	}
	b, err := io.ReadAll(plain)
	if err != nil {
		return err
	}
	e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		return err
	}
	b = e.EncodeAll(b, nil)
	r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }
	r.Body, _ = r.GetBody()
	r.ContentLength = int64(len(b))
	r.Header.Set("Content-Encoding", "zstd")
	return nil
}

// keptBody is a request's body that outlives the attempts to connect: a transport closes the body of each.
type keptBody struct {
	io.ReadCloser
	connected atomic.Bool
	once      sync.Once
}

func (b *keptBody) Close() error {
	if b.connected.Load() {
		b.drop()
	}
	return nil
}

// drop closes the body.
func (b *keptBody) drop() {
	if b.ReadCloser != nil {
		b.once.Do(func() { _ = b.ReadCloser.Close() })
	}
}

// decoders keeps those that are not in use.
var decoders = sync.Pool{New: func() any {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(8<<20))
	if err != nil {
		panic(err) // of an option that we chose
	}
	return d
}}

// unpacked reads what the service has compressed. What was flushed there can be read here at once.
type unpacked struct {
	raw io.ReadCloser
	d   *zstd.Decoder
	end error // of what was read
}

func (u *unpacked) Read(b []byte) (int, error) {
	if u.end != nil {
		return 0, u.end
	}
	if u.d == nil {
		u.d = decoders.Get().(*zstd.Decoder)
		if u.end = u.d.Reset(u.raw); u.end != nil {
			return 0, u.end
		}
	}
	n, err := u.d.Read(b)
	if u.end = err; err != nil {
		if u.d.Reset(nil) == nil {
			decoders.Put(u.d)
		}
		u.d = nil
	}
	return n, err
}

// Close ends a read that waits, too.
func (u *unpacked) Close() error { return u.raw.Close() }
