package redfish

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"muster/internal/bmc"
)

// console says how the serial line is reached by ssh.
type console struct {
	port    int
	command string // typed into the command shell; "": the port is the line itself
}

// console finds out, from ComputerSystem.SerialConsole (newer), or Manager.SerialConsole and CommandShell with the command of the quirks.
func (p *peer) console(ctx context.Context, at *place) (console, error) {
	now, err := p.system(ctx, at)
	if err != nil {
		return console{}, err
	}
	if s := now.Serial.SSH; s.ServiceEnabled {
		c := console{int(s.Port.int()), string(s.ConsoleEntryCommand)}
		if c.port == 0 {
			c.port = 22
		}
		if c.command == "" && c.port == 22 {
			c.command = p.quirk.serial
		}
		return c, nil
	}
	_, m, err := p.manager(ctx, at)
	if err != nil {
		return console{}, err
	}
	if !m.SerialConsole.ssh() && !m.CommandShell.ssh() {
		return console{}, &missing{"it does not offer its serial line by ssh"}
	}
	if p.quirk.serial == "" {
		return console{}, &missing{"it does not say how to get to the serial line from its command shell (ConsoleEntryCommand)"}
	}
	var n networkProtocol
	if m.NetworkProtocol.ID != "" {
		if _, err := p.get(ctx, m.NetworkProtocol.ID, &n); err != nil && !absent(err) {
			return console{}, err
		}
	}
	if on := n.SSH.ProtocolEnabled; on != nil && !*on {
		return console{}, &bmc.Error{Kind: bmc.Unsupported, What: "console", Why: fmt.Sprintf("the ssh of BMC %s is switched off", p.key), Do: "Switch it on: muster bmc set NODE service.ssh=true"}
	}
	c := console{int(n.SSH.Port.int()), p.quirk.serial}
	if c.port == 0 {
		c.port = 22
	}
	return c, nil
}

// hostKey accepts the key of the controller's ssh that is pinned, else the one that it showed first since this engine was made.
func (p *peer) hostKey(_ string, _ net.Addr, k ssh.PublicKey) error {
	seen := fingerprint(k.Marshal())
	for _, pin := range p.pins {
		if pin == seen {
			return nil
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shell == "" {
		p.shell = seen
	}
	if p.shell != seen {
		return &bmc.CertificateError{Seen: seen, Pins: []string{p.shell}}
	}
	return nil
}

// Serial connects the serial line over the ssh of the controller.
func (d *driver) Serial(ctx context.Context) (bmc.Stream, error) {
	var s *stream
	err := d.with(ctx, "console", func(ctx context.Context, p *peer, at *place) error {
		c, err := p.console(ctx, at)
		if err != nil {
			return err
		}
		if s, err = p.connect(ctx, c); err != nil {
			return err
		}
		s.driver = d
		d.mu.Lock()
		d.streams[s] = true
		d.mu.Unlock()
		return nil
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (p *peer) connect(ctx context.Context, c console) (*stream, error) {
	ctx, stop := context.WithTimeout(ctx, p.engine.opt.Timeout)
	defer stop()
	var dialer net.Dialer
	address := net.JoinHostPort(p.key.address, strconv.Itoa(c.port))
	raw, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, &bmc.Error{
			Kind: bmc.Timeout, What: "console", Why: fmt.Sprintf("BMC %s does not answer on its ssh port %d (%s)", p.key, c.port, plain(err)),
			Do: "Enable ssh in the BMC, and let TCP port " + strconv.Itoa(c.port) + " through to it", Err: err,
		}
	}
	// The context bounds the connecting only.
	cut := context.AfterFunc(ctx, func() { _ = raw.Close() })
	password := p.password.Reveal()
	conn, channels, requests, err := ssh.NewClientConn(raw, address, &ssh.ClientConfig{
		User: p.key.user, HostKeyCallback: p.hostKey,
		Auth: []ssh.AuthMethod{ssh.Password(password), ssh.KeyboardInteractive(func(_, _ string, questions []string, _ []bool) ([]string, error) {
			answers := make([]string, len(questions))
			for i := range answers {
				answers[i] = password
			}
			return answers, nil
		})},
	})
	if err != nil {
		_ = raw.Close()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if changed := (*bmc.CertificateError)(nil); errors.As(err, &changed) {
			return nil, &bmc.Error{
				Kind: bmc.Refused, What: "console", Why: fmt.Sprintf("the ssh key of BMC %s is another one: %s and not %s", p.key, changed.Seen, changed.Pins[0]), Err: changed,
				Do: "When the BMC was replaced or got a new key, add " + changed.Seen + " to bmc.pin; else somebody may stand between",
			}
		}
		var op *net.OpError
		if errors.As(err, &op) || errors.Is(err, io.EOF) {
			return nil, err
		}
		return nil, &bmc.Error{
			Kind: bmc.Refused, What: "console", Why: fmt.Sprintf("BMC %s refused user %s (ssh port %d: %v)", p.key, p.key.user, c.port, err), Do: doLogin, Err: err,
		}
	}
	client := ssh.NewClient(conn, channels, requests)
	s := &stream{peer: p, client: client}
	if err = s.start(c); err == nil && !cut() {
		err = ctx.Err()
	}
	if err != nil {
		_ = client.Close()
		return nil, err
	}
	return s, nil
}

// stream is a serial line over ssh.
type stream struct {
	driver  *driver
	peer    *peer
	client  *ssh.Client
	session *ssh.Session
	in      io.WriteCloser
	out     io.Reader

	mu     sync.Mutex
	closed bool
}

func (s *stream) start(c console) error {
	var err error
	if s.session, err = s.client.NewSession(); err != nil {
		return err
	}
	if s.in, err = s.session.StdinPipe(); err != nil {
		return err
	}
	if s.out, err = s.session.StdoutPipe(); err != nil {
		return err
	}
	// Without a terminal some shells give no line.
	if err = s.session.RequestPty("vt100", 25, 80, ssh.TerminalModes{ssh.ECHO: 0}); err != nil {
		return err
	}
	if err = s.session.Shell(); err != nil {
		return err
	}
	if c.command != "" {
		_, err = io.WriteString(s.in, c.command+"\r")
	}
	return err
}

// Read reads from the machine.
func (s *stream) Read(b []byte) (int, error) {
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return 0, io.EOF
	}
	n, err := s.out.Read(b)
	if err == nil {
		return n, nil
	}
	return n, s.ended(err)
}

// Write types to the machine.
func (s *stream) Write(b []byte) (int, error) {
	n, err := s.in.Write(b)
	if err != nil {
		err = s.ended(err)
	}
	return n, err
}

func (s *stream) ended(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return io.EOF
	}
	return &bmc.Error{Kind: bmc.Lost, What: "console", Why: fmt.Sprintf("BMC %s ended the serial line: another console took it, or the BMC is resetting", s.peer.key), Err: err}
}

// Break sends a break (RFC 4335) of half a second.
func (s *stream) Break() error {
	ok, err := s.session.SendRequest("break", true, ssh.Marshal(struct{ Milliseconds uint32 }{uint32(500 * time.Millisecond / time.Millisecond)}))
	if err != nil {
		return s.ended(err)
	}
	if !ok {
		return &bmc.Error{Kind: bmc.Unsupported, What: "break", Why: fmt.Sprintf("BMC %s takes no break over ssh", s.peer.key)}
	}
	return nil
}

// Close lets go of the line.
func (s *stream) Close() error {
	s.mu.Lock()
	was := s.closed
	s.closed = true
	s.mu.Unlock()
	if was {
		return nil
	}
	if s.driver != nil {
		s.driver.mu.Lock()
		delete(s.driver.streams, s)
		s.driver.mu.Unlock()
	}
	_ = s.client.Close() // it may have been lost already
	return nil
}
