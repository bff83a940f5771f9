package api

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// AskedHeader of a stream's answer says, before the first line, how many answers will come. A service that knows it sets
// it, so that a client can show progress and say of how many a cut answer is.
const AskedHeader = "Muster-Asked"

// dialTimeout is how long a service over TLS may take to accept the connection; nextTimeout where there is another manager to ask.
const (
	dialTimeout = 10 * time.Second
	nextTimeout = 1500 * time.Millisecond // one lost packet is sent again after a second
)

// Options say where the service is and who is asking.
type Options struct {
	// Server is "unix:/path/to/muster.sock" or "https://host:port", or several of them with commas: managers of one pool. When
	// one cannot be connected the next one is asked.
	Server string
	// Identity is a PEM file that holds a client certificate, its key, and the CA that the service's certificate is
	// verified against. It is needed for https and not looked at for unix.
	Identity string
	// AtLeast is a revision that the answers must not be older than; 0 takes any. The client sees its own writes anyway.
	AtLeast int64
	// Stale is told when an answer comes from a manager that is cut off from the majority since then: it may be old. Nil is nobody.
	Stale func(since string)
}

// Client asks one service, which may have several managers. It sees its own writes on each of them. It is safe for any number of
// goroutines.
type Client struct {
	server string
	pool   *pool
	http   *http.Client
}

// NewClient prepares a client; it opens no connection. Errors are [*Error].
func NewClient(o Options) (*Client, error) {
	c := &Client{server: o.Server, pool: &pool{stale: o.Stale}}
	c.pool.seen.Store(o.AtLeast)
	c.http = &http.Client{Transport: c.pool}
	patience := dialTimeout
	if strings.Contains(o.Server, ",") {
		patience = nextTimeout
	}
	for addr := range strings.SplitSeq(o.Server, ",") {
		m, err := newManager(strings.TrimSpace(addr), o.Identity, patience)
		if err != nil {
			return nil, err
		}
		c.pool.managers = append(c.pool.managers, m)
	}
	return c, nil
}

func badServer(server, why string) *Error {
	return &Error{
		Code: Usage, What: fmt.Sprintf("server %q", server), Why: why,
		Do: "Give unix:/path/to/muster.sock or https://host:port",
	}
}

// identityTLS reads an identity file: every certificate that the key does not belong to is a CA.
func identityTLS(file string) (*tls.Config, error) {
	bad := func(why string) error {
		return &Error{
			Code: Usage, What: "identity " + file, Why: why,
			Do: "Give a PEM file with certificate, key and CA: --identity FILE, or MUSTER_IDENTITY",
		}
	}
	if file == "" {
		return nil, &Error{
			Code: Usage, What: "identity", Why: "a service over https asks who you are",
			Do: "Give a PEM file with certificate, key and CA: --identity FILE, or MUSTER_IDENTITY",
		}
	}
	b, err := os.ReadFile(file)
	if err != nil {
		var pe *fs.PathError
		if errors.As(err, &pe) {
			return nil, bad(pe.Err.Error())
		}
		return nil, bad(err.Error())
	}
	pair, err := tls.X509KeyPair(b, b)
	if err != nil {
		return nil, bad(strings.TrimPrefix(err.Error(), "tls: "))
	}
	roots := x509.NewCertPool()
	found := false
	for _, der := range pair.Certificate {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, bad(err.Error())
		}
		if cert.IsCA {
			roots.AddCert(cert)
			found = true
		}
	}
	if !found {
		return nil, bad("it holds no CA certificate")
	}
	pair.Certificate = pair.Certificate[:1]
	return &tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: roots,
		Certificates: []tls.Certificate{pair},
	}, nil
}

// URL is the address of a path for [Client.HTTP]; it is needed for web sockets only.
func (c *Client) URL(path string) string { return base + path }

// Revision is the largest revision of the store that an answer told of: what is asked next is answered from it, or a newer one.
func (c *Client) Revision() int64 { return c.pool.seen.Load() }

// HTTP is the HTTP client that reaches the service; it is needed for web sockets only.
func (c *Client) HTTP() *http.Client { return c.http }

// Explain turns an error of [Client.HTTP] into one that says what, why and what to do.
func (c *Client) Explain(err error) error { return explain(c.server, err) }

// Do asks one question. In is sent as JSON, or as it is when it is an [io.Reader]; nil sends nothing. The answer is decoded
// into out unless that is nil. Errors are [*Error], or the context's.
func (c *Client) Do(ctx context.Context, method, path string, in, out any) error {
	res, err := c.send(ctx, method, path, in)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(res.Body).Decode(out); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return &CutError{Why: cutWhy(err)}
	}
	return nil
}

// Open asks for plain bytes, which end with the answer. The caller closes them.
func (c *Client) Open(ctx context.Context, path string) (io.ReadCloser, error) {
	res, err := c.send(ctx, http.MethodGet, path, nil)
	if err != nil {
		return nil, err
	}
	return res.Body, nil
}

// Post asks a question that is answered by plain bytes. The caller closes them.
func (c *Client) Post(ctx context.Context, path string, in any) (io.ReadCloser, error) {
	res, err := c.send(ctx, http.MethodPost, path, in)
	if err != nil {
		return nil, err
	}
	return res.Body, nil
}

// CutError says that an answer ended before it was complete: what came is not all. Asked is 0 where the service did not
// say how many there would be.
type CutError struct {
	Got, Asked int
	Why        string
}

func (e *CutError) Error() string {
	s := "the answer was cut after " + strconv.Itoa(e.Got)
	switch {
	case e.Asked > 0:
		s += " of " + strconv.Itoa(e.Asked)
	case e.Got == 1:
		s += " line"
	default:
		s += " lines"
	}
	if e.Why != "" {
		s += ": " + e.Why
	}
	return s + ". What came is not all: ask again"
}

// Lines asks a question that is answered by a stream, and gives its lines as they come, without the trailer. The sequence
// ends with an error when the service reported one, or with [*CutError] when the trailer did not come. Trailer may be nil;
// else its Asked is set from [AskedHeader] before the first line, and all of it at the end.
func (c *Client) Lines(ctx context.Context, method, path string, in any, trailer *Trailer) iter.Seq2[Raw, error] {
	if trailer == nil {
		trailer = new(Trailer)
	}
	return func(yield func(Raw, error) bool) {
		res, err := c.send(ctx, method, path, in)
		if err != nil {
			yield(nil, err)
			return
		}
		defer res.Body.Close()
		asked, _ := strconv.Atoi(res.Header.Get(AskedHeader))
		trailer.Asked = asked
		r := bufio.NewReaderSize(res.Body, 32<<10)
		for got := 0; ; got++ {
			line, err := r.ReadBytes('\n')
			if err != nil {
				if ctx.Err() != nil {
					yield(nil, context.Cause(ctx))
					return
				}
				yield(nil, &CutError{Got: got, Asked: asked, Why: cutWhy(err)})
				return
			}
			line = bytes.TrimSpace(line)
			if len(line) == 0 {
				got--
				continue
			}
			if t, ok := parseTrailer(line); ok {
				*trailer = t
				c.pool.note(t.Revision)
				if t.Error != nil {
					yield(nil, t.Error)
				}
				return
			}
			if !yield(line, nil) {
				return
			}
		}
	}
}

// parseTrailer tells a trailer from a line. A quote inside a JSON string is always escaped, so a line without
// these bytes cannot be one.
func parseTrailer(line []byte) (Trailer, bool) {
	if !bytes.Contains(line, []byte(`"trailer"`)) {
		return Trailer{}, false
	}
	var t Trailer
	if err := json.Unmarshal(line, &t); err != nil || !t.Trailer {
		return Trailer{}, false
	}
	return t, true
}

// cutWhy keeps the ordinary end of a killed service short.
func cutWhy(err error) string {
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the service closed the connection"
	case errors.Is(err, syscall.ECONNRESET):
		return "the connection was reset"
	}
	return err.Error()
}

// Stream is [Client.Lines] decoded.
func Stream[T any](ctx context.Context, c *Client, method, path string, in any, trailer *Trailer) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for line, err := range c.Lines(ctx, method, path, in, trailer) {
			var v T
			if err == nil {
				if err = json.Unmarshal(line, &v); err != nil {
					err = &Error{Code: Failed, What: "answer of the service", Why: err.Error(), Do: "Compare: muster version"}
				}
			}
			if !yield(v, err) || err != nil {
				return
			}
		}
	}
}

// send makes the request and returns an answer whose status is 2xx.
func (c *Client) send(ctx context.Context, method, path string, in any) (*http.Response, error) {
	var body io.Reader
	kind := ""
	switch v := in.(type) {
	case nil:
	case io.Reader:
		body, kind = v, "application/octet-stream"
	default:
		b, err := json.Marshal(v)
		if err != nil {
			return nil, err
		}
		body, kind = bytes.NewReader(b), "application/json"
	}
	req, err := http.NewRequestWithContext(ctx, method, base+path, body)
	if err != nil {
		return nil, &Error{Code: Usage, What: method + " " + path, Why: err.Error()}
	}
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	if _, large := in.(io.Reader); large {
		req.Header.Set("Expect", "100-continue") // a request that is refused is not sent (RFC 9110 § 10.1.1)
	}
	res, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, explain(c.server, err)
	}
	if res.StatusCode/100 == 2 {
		return res, nil
	}
	defer res.Body.Close()
	return nil, ReadError(res)
}

// ReadError is the error that an answer with a status other than 2xx carries.
func ReadError(res *http.Response) *Error {
	b, err := io.ReadAll(io.LimitReader(res.Body, 16<<20))
	if err != nil {
		return &Error{Code: Failed, What: "answer of the service", Why: cutWhy(err), Do: "Ask again"}
	}
	e := new(Error)
	if json.Unmarshal(b, e) == nil && e.Code != "" {
		return e
	}
	text, _, _ := strings.Cut(strings.TrimSpace(string(b)), "\n")
	e = &Error{Code: Failed, What: "answer of the service", Why: fmt.Sprintf("HTTP %s: %s", res.Status, text)}
	switch res.StatusCode {
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		e.Do = "The service may be of another version than this program. Compare: muster version"
	case http.StatusUnauthorized, http.StatusForbidden:
		e.Code = Denied
	}
	return e
}

// explain says why the service was not reached. Decided by types and numbers, never by text.
func explain(server string, err error) *Error {
	var own *Error
	if errors.As(err, &own) {
		return own // of a request body that could not be made, or explained already
	}
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err
	}
	e := &Error{Code: Unreachable, What: "no muster service at " + server}
	sock, unix := strings.CutPrefix(server, "unix:")
	start := "Start it: muster serve --data DIR; or say where it is: --server unix:DIR/muster.sock, or MUSTER_SERVER"
	if unix {
		start = "Start it: muster serve --data " + filepath.Dir(sock) + "; or say where it is: --server unix:DIR/muster.sock, or MUSTER_SERVER"
	}
	var (
		remote   *net.OpError
		unknown  x509.UnknownAuthorityError
		hostname x509.HostnameError
		invalid  x509.CertificateInvalidError
		dns      *net.DNSError
		timeout  net.Error
	)
	switch {
	case unix && errors.Is(err, fs.ErrPermission):
		e.Code, e.What, e.Why = Denied, "open "+server, fmt.Sprintf("permission denied for uid %d", os.Getuid())
		e.Do = "Ask as root, or as a member of the group muster"
	case errors.Is(err, fs.ErrNotExist):
		e.Why, e.Do = "there is no such socket", start
	case errors.Is(err, syscall.ECONNREFUSED):
		e.Why, e.Do = "nobody listens there", start
	case errors.As(err, &remote) && remote.Op == "remote error": // crypto/tls: an alert that the other side sent
		e.Code, e.What, e.Why = Denied, server+" refused the identity", remote.Err.Error()
		e.Do = "Use an identity that this service issued: --identity FILE"
	case errors.As(err, &unknown):
		e.What, e.Why = server+" is not trusted", "its certificate is not of the CA in the identity file"
		e.Do = "Use an identity that this service issued: --identity FILE"
	case errors.As(err, &hostname):
		e.What, e.Why = server+" is not trusted", hostname.Error()
		e.Do = "Use a name or an address that the service's certificate holds"
	case errors.As(err, &invalid):
		e.What, e.Why = server+" is not trusted", invalid.Error()
		e.Do = "Compare the clocks of both machines"
	case errors.As(err, &dns):
		e.Why, e.Do = dns.Error(), "Compare the name in --server or MUSTER_SERVER"
	case errors.As(err, &timeout) && timeout.Timeout():
		e.Why, e.Do = "no answer in time", "Compare the address in --server or MUSTER_SERVER, and the firewall between"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		e.What, e.Why = "no answer of "+server, "it closed the connection"
		e.Do = "Ask again; look at the service's log"
	default:
		e.Why, e.Do = err.Error(), "Compare the address in --server or MUSTER_SERVER"
	}
	return e
}
