package lab

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/bougou/go-ipmi/pkg/types"
)

// client is the other half of a SOL exchange: it takes characters, sometimes only some of them, and acknowledges.
type client struct {
	seen uint8 // sequence number of the last characters
	took int
	got  []byte
}

func (c *client) receive(p *types.SOLPayloadPacket, limit int) *types.SOLPayloadPacket {
	if p.SequenceNumber == 0 {
		return nil
	}
	if p.SequenceNumber != c.seen {
		n := min(limit, len(p.CharacterData))
		c.seen, c.took = p.SequenceNumber, n
		c.got = append(c.got, p.CharacterData[:n]...)
	}
	return &types.SOLPayloadPacket{AckedSequenceNumber: c.seen, AcceptedCharacterCount: uint8(c.took)}
}

// TestLinkLosesNothing exchanges characters over a line that loses and repeats packets, with a client that takes
// packets in part (IPMI 2.0 §15.11). The seed is printed when it fails.
func TestLinkLosesNothing(t *testing.T) {
	for seed := range uint64(200) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			text := make([]byte, 1+r.IntN(5000))
			for i := range text {
				text[i] = byte(r.Uint32())
			}
			l, c, left := link{write: func(b []byte) int { return len(b) }}, client{}, text
			for steps := 0; len(left) > 0 || l.busy(); steps++ {
				if steps > 100000 {
					t.Fatal("the exchange does not end")
				}
				var p *types.SOLPayloadPacket
				if l.busy() {
					p = l.again()
				} else {
					n := min(len(left), 1+r.IntN(maxCharacters))
					p, left = l.transmit(left[:n]), left[n:]
				}
				for p != nil && r.IntN(4) > 0 { // else lost
					ack := c.receive(p, 1+r.IntN(300))
					if p = nil; ack == nil || r.IntN(4) == 0 {
						break
					}
					if r.IntN(5) == 0 {
						l.receive(ack) // repeated
					}
					p = l.receive(ack)
				}
			}
			if !bytes.Equal(c.got, text) {
				t.Errorf("got %d bytes, want %d", len(c.got), len(text))
			}
		})
	}
}

func TestLinkAnswers(t *testing.T) {
	var keys []byte
	take := 100
	l := link{write: func(b []byte) int { n := min(take, len(b)); keys = append(keys, b[:n]...); return n }}
	send := func(p types.SOLPayloadPacket) string {
		out := l.receive(&p)
		if out == nil {
			return "nothing"
		}
		return fmt.Sprintf("seq %d ack %d count %d nack %v data %q", out.SequenceNumber, out.AckedSequenceNumber, out.AcceptedCharacterCount, out.NACK, out.CharacterData)
	}
	type packet = types.SOLPayloadPacket
	check := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: got %s, want %s", what, got, want)
		}
	}
	check("characters are acknowledged", send(packet{SequenceNumber: 1, CharacterData: []byte("ls")}), `seq 0 ack 1 count 2 nack false data ""`)
	check("a retry is not written twice", send(packet{SequenceNumber: 1, CharacterData: []byte("ls")}), `seq 0 ack 1 count 2 nack false data ""`)
	take = 1
	check("what the system did not take is refused", send(packet{SequenceNumber: 2, CharacterData: []byte("xy")}), `seq 0 ack 2 count 1 nack true data ""`)
	check("an acknowledgement is not acknowledged", send(packet{AckedSequenceNumber: 9, AcceptedCharacterCount: 3}), "nothing")
	if string(keys) != "lsx" {
		t.Errorf("the system got %q, want lsx", keys)
	}
	l.transmit([]byte("output"))
	check("a part taken: the rest comes under a new number", send(packet{AckedSequenceNumber: 1, AcceptedCharacterCount: 3}), `seq 2 ack 2 count 1 nack true data "put"`)
	check("suspended", send(packet{AckedSequenceNumber: 2, NACK: true}), "nothing")
	if l.again() != nil {
		t.Error("sent again while suspended")
	}
	check("resumed", send(packet{AckedSequenceNumber: 2}), `seq 2 ack 2 count 1 nack true data "put"`)
	check("taken", send(packet{AckedSequenceNumber: 2, AcceptedCharacterCount: 3}), "nothing")
	if l.busy() {
		t.Error("busy after all was taken")
	}
}

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
