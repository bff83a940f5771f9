package agent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"muster/internal/api"
)

// client speaks to the managers whose public key has the digest pin: to one of them, until that does not answer.
type client struct {
	servers []string // base addresses
	at      atomic.Int32
	http    *http.Client
	// say hears of waits between attempts; nil is silence.
	say func(format string, args ...any)
}

// dialTimeout bounds connecting and the TLS handshake, each.
const dialTimeout = 10 * time.Second

// server is the manager that is spoken to.
func (c *client) server() string {
	if len(c.servers) == 0 {
		return ""
	}
	return c.servers[int(c.at.Load())%len(c.servers)]
}

// other goes on to the manager after one that did not answer.
func (c *client) other(than string) {
	if at := c.at.Load(); len(c.servers) > 1 && c.server() == than {
		c.at.CompareAndSwap(at, (at+1)%int32(len(c.servers)))
	}
}

// newClient makes a client for the managers of muster.server, which are separated by commas; cert is nil before enrolment. Names and times of the server's certificate are not looked at:
// the key is pinned, and the clock of a machine that just started may be years off.
func newClient(server, pin string, cert *tls.Certificate) *client {
	conf := &tls.Config{
		MinVersion:         tls.VersionTLS13,
		InsecureSkipVerify: true, // replaced by the pin, which is stronger
		VerifyConnection:   func(s tls.ConnectionState) error { return checkPin(s.PeerCertificates, pin) },
	}
	if cert != nil {
		// Always this one, whatever authorities the server names.
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
	}
	return &client{servers: strings.Split(server, ","), http: &http.Client{
		Transport: &http.Transport{
			TLSClientConfig: conf, TLSHandshakeTimeout: dialTimeout, ResponseHeaderTimeout: 30 * time.Second,
			ReadBufferSize: 64 << 10, MaxIdleConnsPerHost: 2, IdleConnTimeout: 2 * time.Minute, DisableCompression: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// pinError says that the server's key is not the one of the boot script.
type pinError struct{ Got, Want string }

func (e *pinError) Error() string {
	return "the server's key is " + e.Got + ", the boot script pins " + e.Want
}

func checkPin(chain []*x509.Certificate, pin string) error {
	if len(chain) == 0 {
		return &pinError{Got: "missing", Want: pin}
	}
	h := sha256.Sum256(chain[0].RawSubjectPublicKeyInfo)
	got := "sha256:" + hex.EncodeToString(h[:])
	if subtle.ConstantTimeCompare([]byte(got), []byte(pin)) != 1 {
		return &pinError{Got: got, Want: pin}
	}
	return nil
}

// statusError is an answer that is no success.
type statusError struct {
	Status int
	API    *api.Error // as the server said it, where it did
}

func (e *statusError) Error() string {
	if e.API != nil {
		return e.API.Error()
	}
	return fmt.Sprintf("the server answered %d %s", e.Status, http.StatusText(e.Status))
}

// lasting says that asking again will not help: the server understood and refused, or it is not our server.
func lasting(err error) bool {
	var se *statusError
	if errors.As(err, &se) {
		return se.Status >= 400 && se.Status < 500 && se.Status != http.StatusTooManyRequests && se.Status != http.StatusRequestTimeout
	}
	var pe *pinError
	var de *digestError
	var f *failure
	return errors.As(err, &pe) || errors.As(err, &de) || errors.As(err, &f)
}

// maxAnswer bounds a JSON answer.
const maxAnswer = 1 << 20

// post sends a document and reads the answer into out, which may be nil. Each manager is asked, until one of them answers.
func (c *client) post(ctx context.Context, path string, in, out any) error {
	var err error
	for range c.servers {
		at := c.server()
		if err = c.postTo(ctx, at, path, in, out); err == nil || lasting(err) || ctx.Err() != nil {
			return err
		}
		c.other(at)
	}
	return err
}

func (c *client) postTo(ctx context.Context, server, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, server+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if err := checkStatus(res); err != nil {
		return err
	}
	b, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil || out == nil {
		return err
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("%s: the answer is no %T: %w", path, out, err)
	}
	return nil
}

func checkStatus(res *http.Response) error {
	if res.StatusCode/100 == 2 {
		return nil
	}
	e := &statusError{Status: res.StatusCode}
	b, _ := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	doc := new(api.Error)
	if json.Unmarshal(b, doc) == nil && doc.What != "" {
		e.API = doc
	}
	return e
}

// backoff is the wait before each further attempt: from a quarter of a second up to five, with a quarter of chance in it,
// so that a thousand nodes do not come back at once.
func backoff(attempt int) time.Duration {
	d := min(250*time.Millisecond<<min(attempt, 5), 5*time.Second)
	return d*3/4 + rand.N(d/2)
}

// progressed marks the error of an attempt that broke after it had brought something: patience begins anew.
type progressed struct{ error }

func (p *progressed) Unwrap() error { return p.error }

// patiently repeats do until it ends well, or its error lasts with every manager, or nothing was brought for so long. Managers are asked
// in turn, and it waits when all of them were.
func (c *client) patiently(ctx context.Context, what string, long time.Duration, do func() error) error {
	end := time.Now().Add(long)
	managers := max(1, len(c.servers))
	refused := 0 // managers that said no, one after the other
	for attempt := 0; ; attempt++ {
		at := c.server()
		err := do()
		if err == nil || ctx.Err() != nil {
			return err
		}
		var f *failure
		if lasting(err) {
			refused++
		} else {
			refused = 0
		}
		if errors.As(err, &f) || refused == managers {
			return err
		}
		var p *progressed
		if errors.As(err, &p) {
			attempt, end = 0, time.Now().Add(long)
		}
		c.other(at)
		round := attempt / managers
		wait := backoff(round)
		if time.Now().Add(wait).After(end) {
			return fmt.Errorf("tried for %s: %w", long, err)
		}
		if c.say != nil && (round < 3 || round%10 == 0) {
			c.say("%s: %v; trying again", what, err)
		}
		if (attempt+1)%managers != 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait):
		}
	}
}
