package lab

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestSerialPortMakesTheGuestWaitOnlyForAReader(t *testing.T) {
	log, err := os.Create(filepath.Join(t.TempDir(), "serial.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	p := newSerialPort(log)
	if n := p.write([]byte("keys")); n != 4 {
		t.Errorf("a machine that is off took %d keys, want 4", n)
	}
	start := func() net.Conn {
		guest, ours := net.Pipe()
		p.plug(ours)
		return guest
	}
	send := func(guest net.Conn, n int) chan error {
		sent := make(chan error, 1)
		go func() {
			_, err := guest.Write(bytes.Repeat([]byte("x"), n))
			_ = guest.Close()
			sent <- err
		}()
		return sent
	}
	// Nobody reads: the guest does not wait.
	if err := <-send(start(), 3*backlog); err != nil {
		t.Fatal(err)
	}
	p.wait()
	// The reader is behind: the guest waits, and nothing is lost.
	r := p.attach()
	sent := send(start(), 2*backlog)
	for r.waiting() < backlog {
		<-r.wake
	}
	select {
	case <-sent:
		t.Error("the guest did not wait for a reader that is behind")
	case <-time.After(20 * time.Millisecond):
	}
	got := 0
	for got < 2*backlog {
		n := len(r.take(1000))
		if got += n; n == 0 {
			<-r.wake
		}
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	p.wait()
	if got != 2*backlog || r.waiting() != 0 {
		t.Errorf("the reader got %d bytes and %d wait, want %d and 0", got, r.waiting(), 2*backlog)
	}
	if st, err := log.Stat(); err != nil || st.Size() != 5*backlog {
		t.Errorf("the log has %d bytes (%v), want %d", st.Size(), err, 5*backlog)
	}
	// A reader that leaves lets the guest go on.
	sent = send(start(), 3*backlog)
	for r.waiting() < backlog {
		<-r.wake
	}
	r.detach()
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	p.wait()
	r2 := p.attach()
	next := start()
	if _, err := next.Write([]byte("banner")); err != nil {
		t.Fatal(err)
	}
	_ = next.Close()
	p.wait()
	if got, stale := string(r2.take(100)), r.take(100); got != "banner" || len(stale) != 0 {
		t.Errorf("the new reader got %q, the old one %q; want banner and nothing", got, stale)
	}
}
