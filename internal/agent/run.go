package agent

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"muster/internal/api"
	"muster/internal/model"
)

// Intervals of the agent.
const (
	defaultBeat = 30 * time.Second // until the service says otherwise
	minBeat     = time.Second
	maxBeat     = time.Hour
	factsEvery  = 10 * time.Minute // between two looks whether the machine changed
	settling    = 5 * time.Minute  // after the start devices still appear: it looks at every heartbeat
)

// Run is the agent of the running system. It ends when ctx does, without error, or when there is no identity to report
// with. A service that is away is waited for, without end. log hears one line for each change for the better or the worse.
func Run(ctx context.Context, log io.Writer) error {
	path := identityFile
	id, err := loadIdentity(path)
	if errors.Is(err, os.ErrNotExist) { // a system on disk has it there
		path = diskIdentity
		id, err = loadIdentity(path)
	}
	if err == nil {
		err = os.MkdirAll(runDir, 0o700)
	}
	if err != nil {
		return err
	}
	a := &agent{id: id, path: path, reported: reportedFile, root: "/", log: log, beat: defaultBeat}
	a.worker = &worker{
		client: a.current, dir: jobsDir, last: lastWorkFile, boot: bootID("/"), log: log,
		env: []string{"MUSTER_NODE=" + string(id.Node), "MUSTER_IMAGE=" + id.Image, "MUSTER_SERVER=" + id.Server},
	}
	if err := a.connect(); err != nil {
		return err
	}
	if id.Disk != nil {
		if err := a.install(ctx); err != nil || ctx.Err() != nil {
			return err
		}
	}
	return a.run(ctx)
}

// agent is the reporting half of the program.
type agent struct {
	id       *identity
	path     string // where the identity lies
	reported string // holds the boot id for which "up" was told
	root     string // of the machine described
	log      io.Writer

	worker *worker // nil: it does no work

	using   sync.Mutex // guards client, which the worker uses, too
	client  *client
	expires time.Time     // end of the certificate
	renewal time.Duration // uptime at which it is renewed: the clock of the machine may be set wrong at any time
	beat    time.Duration
	facts   *model.Facts // as last told; nil to tell them again
	looked  time.Time    // when they were last taken
	broken  bool         // the last request did not get through
}

func (a *agent) connect() error {
	cert, expires, err := a.id.tls()
	if err != nil {
		return err
	}
	life := halfLife(cert)
	a.use(cert, expires, min(max(0, time.Until(cert.Leaf.NotBefore.Add(life))), life))
	return nil
}

// use takes a certificate into use, to be renewed after a time.
func (a *agent) use(cert *tls.Certificate, expires time.Time, renew time.Duration) {
	a.using.Lock()
	defer a.using.Unlock()
	if a.client != nil {
		a.client.http.CloseIdleConnections()
	}
	a.client, a.expires, a.renewal = newClient(a.id.Server, a.id.Pin, cert), expires, uptime()+renew
}

// current is the client with the newest certificate.
func (a *agent) current() *client {
	a.using.Lock()
	defer a.using.Unlock()
	return a.client
}

func (a *agent) run(ctx context.Context) error {
	attempt := 0
	var working sync.WaitGroup
	defer working.Wait()
	begin := sync.OnceFunc(func() {
		if a.worker != nil {
			working.Go(func() { a.worker.run(ctx) })
		}
	})
	for {
		var wait time.Duration
		if err := a.once(ctx); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if !a.broken {
				a.broken = true
				fmt.Fprintf(a.log, "service %s: %v; trying again\n", a.id.Server, err)
			}
			if wait = min(backoff(attempt), a.beat); lasting(err) {
				wait = a.beat // nothing is gained by asking sooner
			}
			attempt++
		} else {
			if a.broken {
				fmt.Fprintf(a.log, "service %s: reached again\n", a.id.Server)
			}
			a.broken, attempt = false, 0
			wait = a.beat
			begin() // the service knows that the node is up
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// once renews the certificate when it is time, and tells "up" or that the node lives, also when there is no new certificate:
// the old one is good for as long again.
func (a *agent) once(ctx context.Context) error {
	var old error
	if uptime() >= a.renewal {
		if err := a.renew(ctx); err != nil {
			old = fmt.Errorf("renew the certificate: %w", err)
		}
	}
	return cmp.Or(a.report(ctx), old)
}

// report tells "up" or that the node lives, with what changed in it.
func (a *agent) report(ctx context.Context) error {
	if now := time.Now(); a.facts == nil || now.Sub(a.looked) > factsEvery || uptime() < settling {
		fresh := facts(a.root, a.id.Digest)
		if a.looked = now; a.facts == nil || !sameFacts(a.facts, fresh) {
			return a.tell(ctx, fresh, fresh.BootID)
		}
	}
	return a.tell(ctx, nil, a.facts.BootID)
}

// tell sends one report; "up" is the first of each boot, also when the agent itself starts again.
func (a *agent) tell(ctx context.Context, f *model.Facts, bootID string) error {
	path, first := "/v1/node/heartbeat", false
	if told, err := os.ReadFile(a.reported); err != nil || string(told) != bootID {
		path, first = "/v1/node/up", true
	}
	var beat api.Heartbeat
	if err := a.current().post(ctx, path, api.Up{BootID: bootID, Facts: f}, &beat); err != nil {
		return err
	}
	if first {
		fmt.Fprintf(a.log, "told %s that %s is up with %s\n", a.id.Server, a.id.Node, a.id.Image)
		if err := os.WriteFile(a.reported, []byte(bootID), 0o600); err != nil {
			return err
		}
	}
	if f != nil {
		a.facts = f
	}
	if beat.Facts {
		a.facts = nil
	}
	if beat.IntervalMS > 0 {
		a.beat = min(max(time.Duration(beat.IntervalMS)*time.Millisecond, minBeat), maxBeat)
	}
	return nil
}

// halfLife is half of the time for which a certificate is good. The certificate is renewed after it.
func halfLife(c *tls.Certificate) time.Duration { return c.Leaf.NotAfter.Sub(c.Leaf.NotBefore) / 2 }

// renew gets a new certificate for the same key.
func (a *agent) renew(ctx context.Context) error {
	csr, err := csrOf(a.id.Key, a.id.Node)
	if err != nil {
		return err
	}
	var got api.Enrolled
	if err := a.current().post(ctx, "/v1/node/renew", api.Renew{CSR: csr}, &got); err != nil {
		return err
	}
	next := *a.id
	next.Certificate = got.Certificate
	if got.CA != "" {
		next.CA = got.CA
	}
	cert, expires, err := next.tls()
	if err != nil {
		return err
	}
	if !expires.After(a.expires) {
		return errors.New("the service gave a certificate that does not last longer")
	}
	if err := next.save(a.path); err != nil {
		return err
	}
	*a.id = next
	a.use(cert, expires, halfLife(cert))
	fmt.Fprintf(a.log, "certificate renewed until %s\n", expires.UTC().Format(time.RFC3339))
	return nil
}
