package redfish

import (
	"bufio"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"

	"muster/internal/bmc"
)

// shell is the ssh of a controller: a command leads to the line, which gives back what is typed.
type shell struct {
	command string
	config  *ssh.ServerConfig
	work    sync.WaitGroup

	mu     sync.Mutex
	breaks int
	conns  []net.Conn
}

// startShell starts one and tells the controller's resources of it.
func (f *fake) startShell(tb testing.TB) *shell {
	tb.Helper()
	s := &shell{config: &ssh.ServerConfig{PasswordCallback: func(c ssh.ConnMetadata, p []byte) (*ssh.Permissions, error) {
		if c.User() != admin || string(p) != secret {
			return nil, errors.New("wrong password")
		}
		return nil, nil
	}}}
	s.rekey(tb)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	if f.shape.basic {
		f.with(f.shape.system, func(o map[string]any) { o["SerialConsole"].(map[string]any)["SSH"].(map[string]any)["Port"] = port })
	} else {
		s.command = "console com2"
		f.with("/redfish/v1/Managers/BMC.1/NetworkProtocol", func(o map[string]any) { o["SSH"].(map[string]any)["Port"] = port })
	}
	s.work.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns = append(s.conns, c)
			config := s.config
			s.mu.Unlock()
			s.work.Go(func() { s.serve(c, config) })
		}
	})
	tb.Cleanup(func() {
		_ = l.Close()
		s.cut()
		s.work.Wait()
	})
	return s
}

func (s *shell) rekey(tb testing.TB) {
	tb.Helper()
	_, k, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(k)
	if err != nil {
		tb.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.config = &ssh.ServerConfig{PasswordCallback: s.config.PasswordCallback}
	s.config.AddHostKey(signer)
}

func (s *shell) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		_ = c.Close()
	}
}

func (s *shell) serve(raw net.Conn, config *ssh.ServerConfig) {
	defer func() { _ = raw.Close() }()
	_, channels, requests, err := ssh.NewServerConn(raw, config)
	if err != nil {
		return
	}
	s.work.Go(func() { ssh.DiscardRequests(requests) })
	for c := range channels {
		line, asked, err := c.Accept()
		if err != nil {
			return
		}
		s.work.Go(func() {
			for r := range asked {
				if r.Type == "break" {
					s.mu.Lock()
					s.breaks++
					s.mu.Unlock()
				}
				_ = r.Reply(true, nil)
			}
		})
		s.work.Go(func() {
			in := bufio.NewReader(line)
			if s.command != "" {
				got, err := in.ReadString('\r')
				if err != nil || strings.TrimSuffix(got, "\r") != s.command {
					_, _ = io.WriteString(line, "unknown command\r\n")
					_ = line.Close()
					return
				}
			}
			_, _ = io.WriteString(line, "login: ")
			_, _ = io.Copy(line, in)
		})
	}
}

func TestSerial(t *testing.T) {
	for name, s := range map[string]shape{"modern": modern, "small": small} {
		t.Run(name, func(t *testing.T) {
			f := startFake(t, s)
			sh := f.startShell(t)
			e := startEngine(t, Options{})
			d := e.Open(f.target())
			line, err := d.Serial(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := line.Write([]byte("root\r")); err != nil {
				t.Fatal(err)
			}
			got := make([]byte, len("login: root\r"))
			if _, err := io.ReadFull(line, got); err != nil || string(got) != "login: root\r" {
				t.Errorf("got %q %v", got, err)
			}
			if err := line.Break(); err != nil || sh.breaks != 1 {
				t.Errorf("%d breaks, %v", sh.breaks, err)
			}
			sh.cut()
			_, err = line.Read(got)
			wantError(t, err, bmc.Lost, "ended the serial line")
			_ = line.Close()

			sh.rekey(t)
			_, err = d.Serial(t.Context())
			wantError(t, err, bmc.Refused, "sha256:", "ssh key", "another")
			t.Log(err)
			if line, err = startEngine(t, Options{}).Open(f.target()).Serial(t.Context()); err != nil {
				t.Fatal(err)
			}
			_ = line.Close()
			if n, err := line.Read(got); n > 0 || err != io.EOF {
				t.Errorf("after Close: %d %v", n, err)
			}
		})
	}
	f := startFake(t, modern)
	f.startShell(t)
	target := f.target()
	target.Pins = []string{"any"}
	e := startEngine(t, Options{})
	if _, err := e.Open(target).Power(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.with("/redfish/v1/Managers/BMC.1/NetworkProtocol", func(o map[string]any) { o["SSH"].(map[string]any)["Port"] = 1 })
	_, err := e.Open(target).Serial(t.Context())
	wantError(t, err, bmc.Timeout, "ssh", "port 1")
	f.with("/redfish/v1/Managers/BMC.1/NetworkProtocol", func(o map[string]any) { o["SSH"].(map[string]any)["ProtocolEnabled"] = false })
	_, err = e.Open(target).Serial(t.Context())
	wantError(t, err, bmc.Unsupported, "ssh of BMC", "switched off", "service.ssh=true")
	_, err = startFake(t, older).open(t, Options{}).Serial(t.Context())
	wantError(t, err, bmc.Unsupported, "serial line by ssh")
}
