package console

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"muster/internal/model"
)

// Dial connects a console that is a socket: the serial line of a virtual machine, or a port of a terminal server. One that does not say when its other side
// is gone is found out by TCP within a minute.
func Dial(ctx context.Context, s model.ConsoleSource) (Stream, error) {
	d := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 3}}
	network := "tcp"
	if s.Network == "unix" {
		network = "unix"
	}
	c, err := d.DialContext(ctx, network, s.Address)
	if err != nil {
		if op := (*net.OpError)(nil); errors.As(err, &op) {
			err = op.Err
		}
		return nil, &Error{s.String(), strings.TrimPrefix(err.Error(), "connect: "), "Look at console.source, and whether it listens"}
	}
	if s.Network == "telnet" {
		return &telnetLine{Conn: c}, nil
	}
	return socketLine{c, s}, nil
}

// socketLine is a socket that carries the bytes of the line and nothing else.
type socketLine struct {
	conn   io.ReadWriteCloser
	source model.ConsoleSource
}

func (l socketLine) Read(p []byte) (int, error)  { return l.conn.Read(p) }
func (l socketLine) Write(p []byte) (int, error) { return l.conn.Write(p) }
func (l socketLine) Close() error                { return l.conn.Close() }

func (l socketLine) Break() error {
	return &Error{l.source.String(), "a plain socket carries no break", "Use telnet:host:port where the terminal server offers it"}
}

// telnetLine is a line behind a terminal server's telnet port.
type telnetLine struct {
	net.Conn
	in telnet // only the one who reads

	mu  sync.Mutex // guards writing, and what both sides have agreed
	raw bool       // we send BINARY: a carriage return is one byte
}

func (l *telnetLine) Read(p []byte) (int, error) {
	for {
		n, err := l.Conn.Read(p)
		text, reply := l.in.take(p[:n])
		if len(reply) > 0 || l.in.agreed[weDo][telnetBinary] != l.raw {
			l.mu.Lock()
			l.raw = l.in.agreed[weDo][telnetBinary]
			_, werr := l.Conn.Write(reply)
			l.mu.Unlock()
			err = errors.Join(err, werr)
		}
		if text > 0 || err != nil {
			return text, err
		}
	}
}

func (l *telnetLine) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := l.Conn.Write(appendTelnet(nil, p, l.raw)); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (l *telnetLine) Break() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err := l.Conn.Write([]byte{iac, telnetBreak})
	return err
}

var _ io.ReadWriteCloser = (*telnetLine)(nil)
