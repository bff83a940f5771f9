// Package remote runs commands on many nodes at once over ssh, in this process, and copies trees to them.
//
//	targets ──► a fixed number of workers ──► dial ── handshake ── exec ──► results as nodes finish
//
// It promises:
//   - a node is who it was when it enrolled: its host key is one of the enrolled keys, or nothing is sent to it;
//   - a slow or dead node costs its own place among the workers and its own time limit, nothing more;
//   - a command that runs into the time limit is killed on the node, with its process group, and not only left alone;
//   - what was cut says so: an answer without an exit status is an error, output over the limit carries a note.
//
// It never runs a shell on this side, and puts no data into a shell's words on the other side except by [Quote].
package remote

import (
	"context"
	"fmt"
	"io"
	"iter"
	"net"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"muster/internal/model"
)

// Target is a node to talk to.
type Target struct {
	Node    model.NodeName
	Address string // IP address or name, without port
	Port    int    // 0 means 22
	User    string // "" means root
	// HostKeys are the keys that the node enrolled, in authorized_keys form. One of them must answer.
	HostKeys []string
}

// Options are common to Run and Copy. The zero value cannot log in: Signer is needed.
type Options struct {
	Signer ssh.Signer
	// Fanout is how many nodes are worked on at once. Zero means 128: enough to hide the round trips, few enough that
	// the handshakes of the first do not wait for those of the last.
	Fanout int
	// Timeout ends the work on one node, from dialling to the last byte. Zero means no limit but ctx.
	Timeout time.Duration
	// Connect ends dialling and handshake. Zero means 10 s.
	Connect time.Duration
	// Stdin is given to the command of every node. Nil closes its standard input at once.
	Stdin []byte
	// Limit is how much of standard output, and of standard error, is kept of each node, in bytes. Zero means 8 MiB.
	Limit int
	// Dial replaces net.Dialer, for a server that reaches its nodes in another way.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

func (o Options) withDefaults() Options {
	if o.Fanout <= 0 {
		o.Fanout = 128
	}
	if o.Connect <= 0 {
		o.Connect = 10 * time.Second
	}
	if o.Limit <= 0 {
		o.Limit = 8 << 20
	}
	if o.Dial == nil {
		o.Dial = (&net.Dialer{}).DialContext
	}
	return o
}

// Result is what a command did on one node.
type Result struct {
	Node           model.NodeName
	Stdout, Stderr []byte
	Exit           int           // the command's exit status, 128+n when signal n killed it, -1 when it is not known
	Note           string        // what a reader of the output must know: that it was cut
	Err            error         // an *Error when Exit is -1, else nil
	Took           time.Duration // from dialling to the end
}

// Run gives command to the shell of every target's user and yields the results as they come. Leaving the loop early, like the
// end of ctx, kills what still runs. Each range over it runs the command again.
func Run(ctx context.Context, targets []Target, command string, o Options) iter.Seq[Result] {
	o = o.withDefaults()
	return each(ctx, targets, o.Fanout, func(ctx context.Context, t Target) Result {
		start := time.Now()
		out, err := o.exec(ctx, t, "run", command, byteReader(o.Stdin))
		return Result{t.Node, out.stdout.kept, out.stderr.kept, out.exit, out.note(), err, time.Since(start)}
	})
}

// each works on the targets with so many workers, and yields what they return in the order of completion.
func each[R any](ctx context.Context, targets []Target, workers int, work func(context.Context, Target) R) iter.Seq[R] {
	return func(yield func(R) bool) {
		ctx, cancel := context.WithCancel(ctx)
		todo, done := make(chan Target), make(chan R)
		var wg sync.WaitGroup
		defer wg.Wait()
		defer cancel()
		wg.Go(func() {
			defer close(todo)
			for _, t := range targets { // all of them, also after the end of ctx: work answers at once then
				todo <- t
			}
		})
		for range min(workers, len(targets)) {
			wg.Go(func() {
				for t := range todo {
					done <- work(ctx, t)
				}
			})
		}
		left := false
		for range targets {
			if r := <-done; !left && !yield(r) {
				left = true
				cancel()
			}
		}
	}
}

// byteReader gives each node its own reader; nil stays nil.
func byteReader(p []byte) io.Reader {
	if p == nil {
		return nil
	}
	return &sliceReader{p}
}

type sliceReader struct{ p []byte }

func (r *sliceReader) Read(p []byte) (int, error) {
	if len(r.p) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.p)
	r.p = r.p[n:]
	return n, nil
}

// Kind says what went wrong, for callers that branch.
type Kind string

// The kinds of errors.
const (
	NoIdentity Kind = "no identity" // the node has enrolled no host key, or we have no key of our own
	Refused    Kind = "refused"     // nothing listens, or no way leads there
	Timeout    Kind = "timeout"     // the time limit, or the caller's ctx
	HostKey    Kind = "host key"    // another key than the enrolled ones answered
	Auth       Kind = "auth"        // our key is not accepted
	Cut        Kind = "cut"         // the connection ended before the command did
	Failed     Kind = "failed"      // the node answered that it could not be done
)

// Error says what happened with one node, why, and what to do.
type Error struct {
	Kind          Kind
	What, Why, Do string
	Err           error // what was underneath, nil when nothing was
}

func (e *Error) Error() string {
	s := e.What + ": " + e.Why
	if e.Do != "" {
		s += ". " + e.Do
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// limited keeps the beginning of what is written to it.
type limited struct {
	kept  []byte
	limit int
	total int64
}

func (l *limited) Write(p []byte) (int, error) {
	l.total += int64(len(p))
	if room := l.limit - len(l.kept); room > 0 {
		l.kept = append(l.kept, p[:min(room, len(p))]...)
	}
	return len(p), nil
}

type outcome struct {
	stdout, stderr limited
	exit           int
}

func (o *outcome) note() (s string) {
	for _, x := range []struct {
		name string
		*limited
	}{{"standard output", &o.stdout}, {"standard error", &o.stderr}} {
		if x.total > int64(len(x.kept)) {
			if s != "" {
				s += "; "
			}
			s += fmt.Sprintf("%s cut after %d of %d bytes", x.name, len(x.kept), x.total)
		}
	}
	return s
}
