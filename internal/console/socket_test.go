package console

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"muster/internal/model"
	"muster/internal/need"
)

func source(t testing.TB, text string) model.ConsoleSource {
	t.Helper()
	s, err := model.ParseConsoleSource(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// far listens where a source points to and gives the other end of its next connection.
func far(t *testing.T, network string) (at model.ConsoleSource, accept func() net.Conn) {
	t.Helper()
	address, listen := "127.0.0.1:0", "tcp"
	if network == "unix" {
		address, listen = filepath.Join(t.TempDir(), "s"), "unix"
	}
	l, err := net.Listen(listen, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return source(t, network+":"+l.Addr().String()), func() net.Conn {
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
}

// dialed is a connected source with its far end.
func dialed(t *testing.T, network string) (Stream, net.Conn) {
	t.Helper()
	at, accept := far(t, network)
	s, err := Dial(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, accept()
}

func expectBytes(t *testing.T, r io.Reader, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(r, got); err != nil || string(got) != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}

func TestDial(t *testing.T) {
	for _, network := range []string{"unix", "tcp"} {
		t.Run(network, func(t *testing.T) {
			s, there := dialed(t, network)
			send(t, there, "\xff\xf3login: \r\x00")
			expectBytes(t, s, "\xff\xf3login: \r\x00")
			if _, err := s.Write([]byte("root\r\xff")); err != nil {
				t.Fatal(err)
			}
			expectBytes(t, there, "root\r\xff")
			if e := (*Error)(nil); !errors.As(s.Break(), &e) || !strings.Contains(e.Do, "telnet:") {
				t.Errorf("a break over %s: %v", network, s.Break())
			}
			there.Close()
			if _, err := s.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
				t.Errorf("after the other side has closed: %v", err)
			}
		})
	}
	_, err := Dial(t.Context(), source(t, "unix:"+filepath.Join(t.TempDir(), "none")))
	if e := (*Error)(nil); !errors.As(err, &e) || e.Why != "no such file or directory" {
		t.Errorf("a socket that is not there: %v", err)
	}
}

// The bytes are those of RFC 854, 856, 857 and 858.
func TestDial_telnet(t *testing.T) {
	s, there := dialed(t, "telnet")
	read := make(chan string)
	go func() {
		b := make([]byte, 100)
		n, _ := io.ReadAtLeast(s, b, len("hi\r\n\xff\rx"))
		read <- string(b[:n])
	}()
	// WILL ECHO, WILL SGA, DO TERMINAL-TYPE, DO BINARY, WILL SGA again, a subnegotiation, text.
	send(t, there, "\xff\xfb\x01\xff\xfb\x03\xff\xfd\x18")
	expectBytes(t, there, "\xff\xfd\x01\xff\xfd\x03\xff\xfc\x18")
	if _, err := s.Write([]byte("a\r\xff")); err != nil {
		t.Fatal(err)
	}
	expectBytes(t, there, "a\r\x00\xff\xff")
	send(t, there, "\xff\xfd\x00\xff\xfb\x03\xff\xfa\x18\x01\xff\xf0hi\r")
	expectBytes(t, there, "\xff\xfb\x00")
	send(t, there, "\n\xff")
	send(t, there, "\xff\r\x00x")
	if got := <-read; got != "hi\r\n\xff\rx" {
		t.Errorf("read %q", got)
	}
	if _, err := s.Write([]byte("\r")); err != nil { // BINARY is agreed
		t.Fatal(err)
	}
	if err := s.Break(); err != nil {
		t.Fatal(err)
	}
	expectBytes(t, there, "\r\xff\xf3")
}

// QEMU is a terminal server that nobody here wrote: its firmware prints on the line as soon as somebody has connected.
func TestDial_qemu(t *testing.T) {
	const qemu = "qemu-system-x86_64"
	need.Programs(t, "qemu-system-x86", qemu)
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free.Close()
	for _, at := range []string{"unix:" + filepath.Join(t.TempDir(), "s"), "tcp:" + free.Addr().String(), "telnet:" + free.Addr().String()} {
		network, _, _ := strings.Cut(at, ":")
		t.Run(network, func(t *testing.T) {
			h, stop := startHub(t, Options{Backoff: 10 * time.Millisecond, BackoffMax: 10 * time.Millisecond})
			set(t, h, "r1n1", at, func(ctx context.Context) (Stream, error) { return Dial(ctx, source(t, at)) })
			s := attach(t, h, "r1n1", AttachOptions{})
			c := exec.Command(qemu, "-M", "q35,graphics=off", "-accel", "tcg", "-m", "32", "-display", "none", "-nodefaults", "-serial", at+",server=on,wait=on")
			var says strings.Builder
			c.Stderr = &says
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			late := time.AfterFunc(time.Minute, func() { s.Close() })
			if got := readUntil(t, s, "SeaBIOS"); strings.Contains(got, "\xff") || strings.Contains(got, "\ufffd") {
				t.Errorf("telnet's commands are in what the machine says: %q", got)
			}
			late.Stop()
			stop()
			c.Process.Kill()
			c.Wait()
			if t.Failed() {
				t.Log(says.String())
			}
		})
	}
}

// What is sent by one is read by another as it was, in whatever pieces; and no bytes make the machine go out of its way.
func FuzzTelnet(f *testing.F) {
	f.Add([]byte("a\r\nb\xff\r\x00\r"), 3, false)
	f.Add([]byte("\xff\xfb\x01\xff\xfa\x18\xff\xf0x"), 2, true)
	f.Fuzz(func(t *testing.T, p []byte, piece int, binary bool) {
		piece = max(1, piece%9)
		pieces := func(m *telnet, p []byte) (text, reply []byte) {
			for p = bytes.Clone(p); len(p) > 0; {
				k := min(piece, len(p))
				n, r := m.take(p[:k])
				text, reply, p = append(text, p[:n]...), append(reply, r...), p[k:]
			}
			return text, reply
		}
		var m telnet
		m.agreed[theyDo][telnetBinary] = binary
		if got, reply := pieces(&m, appendTelnet(nil, p, binary)); !bytes.Equal(got, p) || len(reply) > 0 {
			t.Errorf("%q comes out as %q, reply %q", p, got, reply)
		}
		var whole, cut telnet
		b := bytes.Clone(p)
		n, reply := whole.take(b)
		text, reply2 := pieces(&cut, p)
		if !bytes.Equal(text, b[:n]) || !bytes.Equal(reply, reply2) || whole != cut {
			t.Errorf("in pieces of %d: %q and %q, whole: %q and %q", piece, text, reply2, b[:n], reply)
		}
		if len(reply) > len(p) {
			t.Errorf("%d bytes are answered with %d", len(p), len(reply))
		}
	})
}
