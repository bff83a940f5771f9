package tftpd

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

func TestParseReadsRequestsAndTheirOptions(t *testing.T) {
	for in, want := range map[string]request{
		"\x00\x01f\x00octet\x00":                                            {name: "f", block: 512},
		"\x00\x01f\x00OCTET\x00blksize\x001468\x00":                         {name: "f", block: 1468, options: true},
		"\x00\x01f\x00octet\x00BLKSIZE\x00999999\x00":                       {name: "f", block: 65464, options: true},
		"\x00\x01f\x00octet\x00blksize\x007\x00":                            {name: "f", block: 512},
		"\x00\x01f\x00octet\x00tsize\x000\x00timeout\x003\x00":              {name: "f", block: 512, size: true, timeout: 3 * time.Second, options: true},
		"\x00\x01f\x00octet\x00windowsize\x004\x00":                         {name: "f", block: 512, window: 4, options: true},
		"\x00\x01f\x00octet\x00windowsize\x0065535\x00":                     {name: "f", block: 512, window: maxWindow, options: true},
		"\x00\x01f\x00octet\x00windowsize\x00zero\x00x\x001\x00timeout\x00": {name: "f", block: 512},
	} {
		if got, err := parse([]byte(in)); err != nil || got != want {
			t.Errorf("%q: got %+v, %v; want %+v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "\x00\x01f", "\x00\x01f\x00", "\x00\x01f\x00mail\x00", "\x00\x02f\x00octet\x00", "\x00\x03\x00\x01", "\x00\x01f\x00octet"} {
		if _, err := parse([]byte(in)); err == nil {
			t.Errorf("%q was taken", in)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("\x00\x01f\x00octet\x00blksize\x001468\x00windowsize\x008\x00tsize\x000\x00"))
	f.Add([]byte("\x00\x02f\x00octet\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parse(b)
		if err == nil && (r.block < minBlock || r.block > maxBlock || r.window < 0 || r.window > maxWindow || r.timeout < 0) {
			t.Fatalf("%q: %+v", b, r)
		}
	})
}

// lossy is a client that hears only some of what is sent to it. It takes blocks in their order, as RFC 7440 §4 has it.
type lossy struct {
	conn  *net.UDPConn
	block int
	drop  func(packet int) bool
	acks  int
}

// receive acknowledges the end of a window and the last block before a gap.
func (l *lossy) receive(window int) ([]byte, error) {
	var got []byte
	buf := make([]byte, 2048)
	next, inWindow, gap := 1, 0, false
	for packet := 0; ; packet++ {
		_ = l.conn.SetReadDeadline(time.Now().Add(20 * time.Second))
		n, err := l.conn.Read(buf)
		if err != nil {
			return got, err
		}
		if l.drop(packet) {
			continue
		}
		switch op := binary.BigEndian.Uint16(buf); {
		case op == opOAck:
			l.ack(0)
			continue
		case op != opData:
			return got, errors.New(string(buf[:n]))
		case int(binary.BigEndian.Uint16(buf[2:])) != next&0xffff:
			if !gap || window == 1 {
				l.ack(next - 1)
			}
			gap, inWindow = true, 0
			continue
		}
		gap = false
		got = append(got, buf[4:n]...)
		next++
		if inWindow++; inWindow == window || n-4 < l.block {
			l.ack(next - 1)
			inWindow = 0
		}
		if n-4 < l.block {
			return got, nil
		}
	}
}

func (l *lossy) ack(block int) {
	l.acks++
	_, _ = l.conn.Write([]byte{0, opAck, byte(block >> 8), byte(block)})
}

func TestTransferComesWholeWhateverIsLost(t *testing.T) {
	data := make([]byte, 70_000*8+3) // more blocks than a block number counts
	for i := range data {
		data[i] = byte(i * 7 / 5)
	}
	for name, c := range map[string]struct {
		r    request
		size int
		drop func(int) bool
	}{
		"lock step":                      {request{block: 512}, 100_000, nil},
		"a file of whole blocks":         {request{block: 512}, 1024, nil},
		"an empty file":                  {request{block: 512}, 0, nil},
		"block numbers that go round":    {request{block: 8, window: 32, options: true}, len(data), nil},
		"a window, some lost":            {request{block: 512, window: 8, options: true, timeout: time.Second}, 100_000, func(p int) bool { return p == 3 || p == 40 || p == 41 }},
		"the first of a window lost":     {request{block: 512, window: 4, options: true}, 100_000, func(p int) bool { return p == 5 }},
		"the answer to the options lost": {request{block: 512, size: true, options: true}, 2000, func(p int) bool { return p == 0 }},
		"the last block lost":            {request{block: 512, window: 4, options: true}, 2000, func(p int) bool { return p == 4 }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
			if err != nil {
				t.Fatal(err)
			}
			client, err := net.DialUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}, a.LocalAddr().(*net.UDPAddr))
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			at := a.LocalAddr().(*net.UDPAddr)
			_ = a.Close()
			server, err := net.DialUDP("udp", at, client.LocalAddr().(*net.UDPAddr))
			if err != nil {
				t.Fatal(err)
			}
			defer server.Close()
			done := make(chan error, 1)
			want := data[:c.size]
			go func() {
				done <- (&transfer{conn: server, request: c.r, content: Content{Name: name, Size: int64(len(want)), Data: bytes.NewReader(want)}}).run()
			}()
			drop := c.drop
			if drop == nil {
				drop = func(int) bool { return false }
			}
			got, err := (&lossy{conn: client, block: c.r.block, drop: drop}).receive(max(1, c.r.window))
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("got %d octets of %d, %v", len(got), len(want), err)
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

func TestTransferEndsWithAClientThatIsSilentOrHasEnough(t *testing.T) {
	pair := func() (*net.UDPConn, *net.UDPConn) {
		a, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		b, err := net.DialUDP("udp", nil, a.LocalAddr().(*net.UDPAddr))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = a.Close(); _ = b.Close() })
		return a, b
	}
	data := bytes.NewReader(make([]byte, 5000))
	_, server := pair()
	if err := (&transfer{conn: server, request: request{block: 512, timeout: time.Millisecond, options: true}, content: Content{Size: 5000, Data: data}}).run(); !errors.Is(err, errSilent) {
		t.Errorf("silent: got %v", err)
	}
	client, server := pair()
	if _, err := client.WriteTo([]byte{0, opError, 0, 0, 0}, server.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	if err := (&transfer{conn: server, request: request{block: 512}, content: Content{Size: 5000, Data: data}}).run(); !errors.Is(err, errEnded) {
		t.Errorf("error: got %v", err)
	}
	_, server = pair()
	if err := (&transfer{conn: server, request: request{block: 512}, content: Content{Size: 9000, Data: data}}).run(); !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("cut file: got %v", err)
	}
}
