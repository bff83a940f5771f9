package board

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

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
			l, c, left := Link{Write: func(b []byte) int { return len(b) }}, client{}, text
			for steps := 0; len(left) > 0 || l.Busy(); steps++ {
				if steps > 100000 {
					t.Fatal("the exchange does not end")
				}
				var p *types.SOLPayloadPacket
				if l.Busy() {
					p = l.Again()
				} else {
					n := min(len(left), 1+r.IntN(MaxCharacters))
					p, left = l.Transmit(left[:n]), left[n:]
				}
				for p != nil && r.IntN(4) > 0 { // else lost
					ack := c.receive(p, 1+r.IntN(300))
					if p = nil; ack == nil || r.IntN(4) == 0 {
						break
					}
					if r.IntN(5) == 0 {
						l.Receive(ack) // repeated
					}
					p = l.Receive(ack)
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
	l := Link{Write: func(b []byte) int { n := min(take, len(b)); keys = append(keys, b[:n]...); return n }}
	send := func(p types.SOLPayloadPacket) string {
		out := l.Receive(&p)
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
	l.Transmit([]byte("output"))
	check("a part taken: the rest comes under a new number", send(packet{AckedSequenceNumber: 1, AcceptedCharacterCount: 3}), `seq 2 ack 2 count 1 nack true data "put"`)
	check("suspended", send(packet{AckedSequenceNumber: 2, NACK: true}), "nothing")
	if l.Again() != nil {
		t.Error("sent again while suspended")
	}
	check("resumed", send(packet{AckedSequenceNumber: 2}), `seq 2 ack 2 count 1 nack true data "put"`)
	check("taken", send(packet{AckedSequenceNumber: 2, AcceptedCharacterCount: 3}), "nothing")
	if l.Busy() {
		t.Error("busy after all was taken")
	}
}
