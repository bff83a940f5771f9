// Package exec drives controllers by plugins: programs in any language that read requests and write answers, a JSON object a line (docs/plugins.md).
//
//	engine                                   program
//	  ── start, no arguments, clean environment ─▶
//	  ◀─ {"hello":"bmc","versions":[1],"name":"acme","can":["power","setPower"]}
//	  ─▶ {"id":1,"do":"open","version":1,"target":{"node":"r1n1","address":"…","password":"…"}}
//	  ◀─ {"id":1}
//	  ─▶ {"id":2,"do":"power"}
//	  ◀─ {"id":2,"answer":"on"}
//
// There is a process for each node that is in use; it is asked one thing at a time, and ended after a minute without use. A serial line and a watch for
// events have a process of their own. Secrets go through stdin and are struck out of what a program says. A program that does not answer in time, or
// answers what is no answer, is killed with its children; the next request starts another.
package exec

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"muster/internal/bmc"
	"muster/internal/model"
)

// version is that of the contract in docs/plugins.md.
const version = 1

// lineLimit is what one answer may have, in octets.
const lineLimit = 16 << 20

// Options of an engine. The zero value works.
type Options struct {
	// Processes bounds how many programs run at once, those for serial lines and events not counted; 64 when zero.
	Processes int
	// Timeout bounds a request; 1 min when zero. A firmware update is bounded by its context alone.
	Timeout time.Duration
	// Idle is the time after which an unused program is ended; 1 min when zero.
	Idle time.Duration
	// Log gets what programs write to stderr, at level debug. Nil is silent.
	Log *slog.Logger
}

// Engine holds the processes. Make it with [New]; its methods may be called by any goroutine.
type Engine struct {
	opt   Options
	log   *slog.Logger
	slots chan struct{} // one for each process that counts
	work  sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	hosts   map[key]*host
	running map[*process]bool
	waiting int // who wait for a slot
}

// key tells targets apart: drivers of the same target share a process.
type key struct {
	program, node, address, user, system, mac string
	port                                      int
	password                                  [sha256.Size]byte // its digest: nothing that holds a key can print the secret
}

// host is a target and its process, when there is one. Who holds turn may use it.
type host struct {
	turn chan struct{}
	p    *process
	idle *time.Timer
	used time.Time
}

// New returns an engine. No program is started before the first command.
func New(o Options) (*Engine, error) {
	if o.Processes == 0 {
		o.Processes = 64
	}
	if o.Timeout == 0 {
		o.Timeout = time.Minute
	}
	if o.Idle == 0 {
		o.Idle = time.Minute
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Engine{opt: o, log: o.Log, slots: make(chan struct{}, o.Processes), hosts: map[key]*host{}, running: map[*process]bool{}}, nil
}

// Open returns the driver of a target. It costs nothing: a wrong one is told by the first call.
func (e *Engine) Open(t bmc.Target) bmc.Driver {
	return &driver{engine: e, target: t, streams: map[*stream]bool{}}
}

// Close ends all programs and waits for them.
func (e *Engine) Close() error {
	e.mu.Lock()
	e.closed = true
	for _, h := range e.hosts {
		h.idle.Stop()
	}
	for p := range e.running {
		p.kill()
	}
	e.mu.Unlock()
	e.work.Wait()
	return nil
}

var errClosed = errors.New("the engine is closed")

// host returns the host of a target, and takes the turn.
func (e *Engine) host(ctx context.Context, t bmc.Target) (*host, error) {
	if !filepath.IsAbs(t.Program) {
		return nil, errNoProgram
	}
	k := key{t.Program, string(t.Node), t.Address, t.User, t.System, t.MAC, t.Port, sha256.Sum256([]byte(t.Password.Reveal()))}
	e.mu.Lock()
	h := e.hosts[k]
	if h == nil {
		h = &host{turn: make(chan struct{}, 1)}
		h.idle = time.AfterFunc(time.Hour, func() { e.expire(k, h) })
		h.idle.Stop()
		e.hosts[k] = h
	}
	closed := e.closed
	e.mu.Unlock()
	if closed {
		return nil, errClosed
	}
	select {
	case h.turn <- struct{}{}:
		h.idle.Stop()
		return h, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

var errNoProgram = errors.New("bmc.plugin is no absolute path of a program")

// release gives the turn back. A process whose place others wait for is ended.
func (e *Engine) release(h *host) {
	e.mu.Lock()
	h.used = time.Now()
	if h.p != nil && e.waiting > 0 && !e.closed {
		h.p.end()
		h.p = nil
	}
	if !e.closed {
		h.idle.Reset(e.opt.Idle)
	}
	e.mu.Unlock()
	<-h.turn
}

// expire ends the process of a host that was idle, and forgets the host.
func (e *Engine) expire(k key, h *host) {
	select {
	case h.turn <- struct{}{}:
	default:
		return // in use again
	}
	e.mu.Lock()
	if h.p != nil && !e.closed {
		h.p.end()
		h.p = nil
	}
	if time.Since(h.used) >= e.opt.Idle && e.hosts[k] == h {
		delete(e.hosts, k)
	}
	e.mu.Unlock()
	<-h.turn
}

// slot waits for leave to start one more process; an idle one is ended for it.
func (e *Engine) slot(ctx context.Context) error {
	select {
	case e.slots <- struct{}{}:
		return nil
	default:
	}
	e.mu.Lock()
	e.waiting++
	var oldest *host
	for _, h := range e.hosts {
		if h.p != nil && len(h.turn) == 0 && (oldest == nil || h.used.Before(oldest.used)) {
			oldest = h
		}
	}
	if oldest != nil {
		select {
		case oldest.turn <- struct{}{}:
			if oldest.p != nil && !e.closed {
				oldest.p.end()
				oldest.p = nil
			}
			<-oldest.turn
		default: // taken in this moment: it gives its place back when done
		}
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

// process is a program that runs.
type process struct {
	engine *Engine
	cmd    *exec.Cmd
	in     io.WriteCloser
	lines  chan []byte   // what it writes; closed when it has ended
	done   chan struct{} // closed with the end of the process
	said   *tail         // of stderr
	secret string
	hello  hello
	next   int // id of the last request

	mu     sync.Mutex
	killed bool
	reaped bool
}

// hello is the first line of a program.
type hello struct {
	Hello    string   `json:"hello"`
	Versions []int    `json:"versions"`
	Name     string   `json:"name"`
	Version  string   `json:"version"`
	Can      []string `json:"can"`
}

// request is a line to a program.
type request struct {
	ID      int    `json:"id"`
	Do      string `json:"do"`
	Version int    `json:"version,omitempty"`
	Target  *where `json:"target,omitempty"`

	Action   string    `json:"action,omitempty"`
	Device   string    `json:"device,omitempty"`
	Persist  bool      `json:"persist,omitempty"`
	Firmware string    `json:"firmware,omitempty"`
	On       *bool     `json:"on,omitempty"`
	Seconds  int       `json:"seconds,omitempty"`
	Settings []setting `json:"settings,omitempty"`
	Request  string    `json:"request,omitempty"`
	File     string    `json:"file,omitempty"`
	Name     string    `json:"name,omitempty"`
	Size     int64     `json:"size,omitempty"`
	Targets  []string  `json:"targets,omitempty"`
}

// where is a [bmc.Target] for a program. It goes nowhere but to its stdin.
type where struct {
	Node     string `json:"node"`
	Address  string `json:"address,omitempty"`
	Port     int    `json:"port,omitempty"`
	User     string `json:"user,omitempty"`
	Password string `json:"password,omitempty"`
	System   string `json:"system,omitempty"`
	MAC      string `json:"mac,omitempty"`
}

type setting struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	Secret string `json:"secret,omitempty"`
}

// line is a line of a program, after the first.
type line struct {
	ID     int             `json:"id"`
	Answer json.RawMessage `json:"answer"`
	Error  *struct {
		Kind bmc.Kind `json:"kind"`
		Why  string   `json:"why"`
		Do   string   `json:"do"`
	} `json:"error"`
	Progress *struct {
		Step    string `json:"step"`
		Percent *int   `json:"percent"`
	} `json:"progress"`
	Event *bmc.LogEntry `json:"event"`
	Data  []byte        `json:"data"` // of a serial line, in base64
	End   *string       `json:"end"`
}

// odd is something that a program must not do.
type odd struct{ why string }

func (o *odd) Error() string { return o.why }

// ended is the end of a program before its answer.
type ended struct{ said string }

func (e *ended) Error() string {
	if e.said == "" {
		return "it ended without an answer"
	}
	return "it ended without an answer, saying: " + e.said
}

// start starts a program and opens the target. The process is killed when that does not work.
func (e *Engine) start(ctx context.Context, t bmc.Target, counts bool) (*process, error) {
	free := func() {}
	if counts {
		if err := e.slot(ctx); err != nil {
			return nil, err
		}
		free = func() { <-e.slots }
	}
	p, err := e.spawn(t, free)
	if err != nil {
		free()
		return nil, err
	}
	if err := p.greet(ctx, t); err != nil {
		p.kill()
		return nil, err
	}
	return p, nil
}

// environment is all that a program gets.
var environment = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "HOME=/"}

// spawn starts the process. free is called when it has ended.
func (e *Engine) spawn(t bmc.Target, free func()) (*process, error) {
	out, theirs, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer func() { _ = theirs.Close() }()
	p := &process{
		engine: e, cmd: exec.Command(t.Program), lines: make(chan []byte), done: make(chan struct{}), secret: t.Password.Reveal(), said: &tail{},
	}
	p.cmd.Env, p.cmd.Dir = environment, "/"
	p.cmd.Stdout, p.cmd.Stderr = theirs, p.said
	p.cmd.WaitDelay = time.Second
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if p.in, err = p.cmd.StdinPipe(); err == nil {
		e.mu.Lock()
		if err = errClosed; !e.closed {
			if err = p.cmd.Start(); err == nil {
				e.running[p] = true
				e.work.Add(2)
			}
		}
		e.mu.Unlock()
	}
	if err != nil {
		_ = out.Close()
		return nil, err
	}
	go func() {
		defer e.work.Done()
		p.reap()
		_ = out.SetReadDeadline(time.Now().Add(time.Second)) // some child may have got away with the pipe
		e.mu.Lock()
		delete(e.running, p)
		e.mu.Unlock()
		free()
	}()
	go func() {
		defer e.work.Done()
		defer func() { _ = out.Close() }()
		defer close(p.lines)
		s := bufio.NewScanner(out)
		s.Buffer(make([]byte, 0, 4096), lineLimit)
		for s.Scan() {
			select {
			case p.lines <- bytes.Clone(s.Bytes()):
			case <-p.done:
				// What it said last may still be waited for.
				select {
				case p.lines <- bytes.Clone(s.Bytes()):
				case <-time.After(time.Second):
					return
				}
			}
		}
	}()
	return p, nil
}

// reap waits for the end of the program and then kills what is left of its group. Until it is reaped, its number is nobody else's.
func (p *process) reap() {
	for {
		err := unix.Waitid(unix.P_PID, p.cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			break
		}
	}
	p.mu.Lock()
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	p.reaped = true
	p.mu.Unlock()
	_ = p.cmd.Wait() // how it ended does not matter: it was asked to, or did not answer
	close(p.done)
}

// kill ends the program and its children at once.
func (p *process) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.killed = true
	if !p.reaped {
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	}
}

// end closes stdin, upon which a program ends; one that does not within two seconds is killed. The engine is not closed: that kills.
func (p *process) end() {
	_ = p.in.Close()
	p.engine.work.Go(func() {
		t := time.NewTimer(2 * time.Second)
		defer t.Stop()
		select {
		case <-p.done:
		case <-t.C:
			p.kill()
		}
	})
}

// gone says that the program has ended, or is about to.
func (p *process) gone() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.killed || p.reaped
}

// greet reads the hello and opens the target.
func (p *process) greet(ctx context.Context, t bmc.Target) error {
	b, err := p.line(ctx)
	if err != nil {
		return err
	}
	switch err := json.Unmarshal(b, &p.hello); {
	case err != nil:
		return &odd{fmt.Sprintf("its first line is no hello but %.80q", p.clean(string(b)))}
	case p.hello.Hello != "bmc":
		return &odd{fmt.Sprintf("its hello is %q and not \"bmc\"", p.hello.Hello)}
	case !slices.Contains(p.hello.Versions, version):
		return &odd{fmt.Sprintf("it speaks versions %v, not %d", p.hello.Versions, version)}
	}
	_, err = p.ask(ctx, request{Do: "open", Version: version, Target: &where{
		Node: string(t.Node), Address: t.Address, Port: t.Port, User: t.User, Password: t.Password.Reveal(), System: t.System, MAC: t.MAC,
	}}, nil)
	return err
}

// line reads the next line. When ctx ends, the program is killed: nobody knows what it is at.
func (p *process) line(ctx context.Context) ([]byte, error) {
	select {
	case b, ok := <-p.lines:
		if !ok {
			p.kill() // one that has closed its stdout has nothing more to say
			<-p.done
			return nil, &ended{p.clean(p.said.String())}
		}
		return b, nil
	case <-ctx.Done():
		p.kill()
		return nil, ctx.Err()
	}
}

// send writes a line.
func (p *process) send(ctx context.Context, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, p.kill) // a program that does not read
	defer stop()
	if _, err := p.in.Write(append(b, '\n')); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		p.kill()
		<-p.done
		return &ended{p.clean(p.said.String())}
	}
	return nil
}

// ask sends a request and waits for its answer. Lines between go to see.
func (p *process) ask(ctx context.Context, r request, see func(line)) (json.RawMessage, error) {
	p.next++
	r.ID = p.next
	if err := p.send(ctx, r); err != nil {
		return nil, err
	}
	for {
		b, err := p.line(ctx)
		if err != nil {
			return nil, err
		}
		l, err := parse(b)
		switch {
		case err != nil || l.ID != r.ID:
			p.kill()
			return nil, &odd{fmt.Sprintf("to %s it says %.80q", r.Do, p.clean(string(b)))}
		case l.Error != nil:
			return nil, p.judge(l)
		case l.Progress != nil && see != nil:
			see(l)
			continue
		}
		return l.Answer, nil
	}
}

// parse reads a line of a program.
func parse(b []byte) (line, error) {
	var l line
	err := json.Unmarshal(b, &l)
	return l, err
}

// judge is an error of a program as one of ours.
func (p *process) judge(l line) error {
	e := &bmc.Error{Kind: l.Error.Kind, Why: p.clean(l.Error.Why), Do: p.clean(l.Error.Do)}
	switch e.Kind {
	case bmc.Timeout, bmc.Refused, bmc.Unsupported, bmc.Busy, bmc.Invalid, bmc.Failed, bmc.Lost:
	default:
		e.Kind = bmc.Failed
	}
	if e.Why == "" {
		e.Why = "the plugin does not say why"
	}
	return e
}

// clean strikes the password out.
func (p *process) clean(s string) string {
	if p.secret != "" {
		s = strings.ReplaceAll(s, p.secret, model.Secret{}.String())
	}
	return strings.TrimSpace(s)
}

// tail keeps the last of what is written to it.
type tail struct {
	mu sync.Mutex
	b  []byte
}

// Write keeps the last 2 KiB.
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, b...)
	if n := len(t.b) - 2048; n > 0 {
		t.b = slices.Delete(t.b, 0, n)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.b)
}
