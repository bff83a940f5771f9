package ipmi

import (
	"bytes"
	"crypto/sha1"
	"encoding/hex"
	"testing"

	"github.com/bougou/go-ipmi/pkg/crypto"
	"github.com/bougou/go-ipmi/pkg/types"

	"muster/internal/wire/ipmi/ipmitest"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func testExchange(s Suite) exchange {
	alg, _ := s.algorithms()
	x := exchange{suite: alg, console: 0xa4a3a2a0, bmc: 0x02000118, role: 0x14, user: "admin", password: "secret"}
	for i := range 16 {
		x.consoleRand[i], x.bmcRand[i], x.guid[i] = byte(i), byte(0x80+i), byte(0xf0-i)
	}
	return x
}

// The known answers were made with Python's hmac and hashlib from the formulas of §13.31 and §13.32.
func TestExchange_known_answers(t *testing.T) {
	for _, tt := range exchangeAnswers {
		x := testExchange(tt.suite)
		sik := x.integrityKey()
		for _, v := range []struct {
			name string
			got  []byte
			want string
		}{
			{"RAKP 2", x.rakp2(), tt.rakp2},
			{"RAKP 3", x.rakp3(), tt.rakp3},
			{"SIK", sik, tt.sik},
			{"K1", x.mac(sik, constant(1)), tt.k1},
			{"K2", x.mac(sik, constant(2)), tt.k2},
			{"RAKP 4", x.rakp4(sik), tt.rakp4},
		} {
			if got := hex.EncodeToString(v.got); got != v.want {
				t.Errorf("suite %d %s: got %s, want %s", tt.suite, v.name, got, v.want)
			}
		}
	}
}

// The same with the cryptography of go-ipmi.
func TestExchange_agrees_with_go_ipmi(t *testing.T) {
	for suite, alg := range map[Suite]types.AuthAlg{Suite3: types.AuthAlg_HMAC_SHA1, Suite17: types.AuthAlg_HMAC_SHA256} {
		x := testExchange(suite)
		key := crypto.PadPassword20([]byte(x.password))
		code, err := crypto.RAKP2AuthCode(alg, x.console, x.bmc, x.consoleRand[:], x.bmcRand[:], x.guid[:], x.role, x.user, key)
		if err != nil || !bytes.Equal(code, x.rakp2()) {
			t.Errorf("suite %d: RAKP 2 differs (%v)", suite, err)
		}
		sik, k1, k2, err := crypto.DeriveSessionKeys(alg, x.consoleRand[:], x.bmcRand[:], x.role, x.user, key)
		if err != nil || !bytes.Equal(sik, x.integrityKey()) || !bytes.Equal(k1, x.mac(sik, constant(1))) || !bytes.Equal(k2, x.mac(sik, constant(2))) {
			t.Errorf("suite %d: keys differ (%v)", suite, err)
		}
	}
}

func TestChannel_opens_what_it_seals(t *testing.T) {
	for _, suite := range []Suite{Suite3, Suite17} {
		for _, encrypt := range []bool{false, true} {
			for n := range 70 {
				a, b := testChannels(suite)
				want := text(n)
				raw := a.seal(payloadSerial, encrypt, want)
				if encrypt && n > 8 && bytes.Contains(raw, want) {
					t.Fatalf("suite %d: %d octets are in the clear", suite, n)
				}
				p, err := parsePacket(raw)
				if err != nil {
					t.Fatal(err)
				}
				if got, err := b.open(p); err != nil || !bytes.Equal(got, want) {
					t.Fatalf("suite %d encrypt %v: got %q %v, want %q", suite, encrypt, got, err, want)
				}
			}
		}
	}
}

func TestChannel_refuses_what_was_touched_or_seen(t *testing.T) {
	for _, suite := range []Suite{Suite3, Suite17} {
		a, b := testChannels(suite)
		raw := a.seal(payloadMessage, true, text(30))
		for i := range raw {
			bad := bytes.Clone(raw)
			bad[i] ^= 1
			if p, err := parsePacket(bad); err == nil && i >= rmcpSize {
				if _, err := b.open(p); err == nil {
					t.Fatalf("suite %d: octet %d changed, and opened", suite, i)
				}
			}
		}
		p, _ := parsePacket(bytes.Clone(raw))
		if _, err := b.open(p); err != nil {
			t.Fatal(err)
		}
		p, _ = parsePacket(bytes.Clone(raw))
		if _, err := b.open(p); err != errReplay {
			t.Errorf("suite %d: the same packet again: %v", suite, err)
		}
	}
}

// testChannels returns both ends of a session.
func testChannels(s Suite) (a, b *channel) {
	x := testExchange(s)
	sik := x.integrityKey()
	random := func(b []byte) {
		sum := sha1.Sum([]byte("not random"))
		copy(b, sum[:])
	}
	return newChannel(&x, s, sik, random), newChannel(&x, s, sik, random)
}

func TestWindow(t *testing.T) {
	tests := []struct {
		name string
		in   []uint32
		want string // y taken, n not
	}{
		{"in_order", []uint32{1, 2, 3}, "yyy"},
		{"nothing_twice", []uint32{1, 1, 2, 1, 2}, "ynynn"},
		{"late_but_new", []uint32{1, 5, 3, 3, 4, 2, 2}, "yyynyyn"},
		{"too_late", []uint32{100, 36, 37, 300, 100, 236, 237}, "ynyynny"},
		{"zero_never", []uint32{0, 1, 0}, "nyn"},
		{"round_the_end", []uint32{0xfffffffe, 0xffffffff, 1, 0xfffffffe, 2}, "yyyny"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var w window
			got := ""
			for _, n := range tt.in {
				if w.take(n) {
					got += "y"
				} else {
					got += "n"
				}
			}
			if got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

// Figures of the message layer: a Get Device ID as ipmitool sends it.
func TestMessage_golden(t *testing.T) {
	got := appendMessage(nil, GetDeviceID(), 1)
	if want := unhex(t, "2018c88104017a"); !bytes.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
	a, ok := parseAnswer(unhex(t, "811c63200401c0"+"1b"))
	if !ok || a.code != CodeBusy || a.netFn != netFnApp || a.number != 1 || a.command != 1 {
		t.Errorf("got %+v %v", a, ok)
	}
}

func TestBootFlags_golden(t *testing.T) {
	tests := []struct {
		flags BootFlags
		want  string
	}{
		{BootFlags{Valid: true, Device: BootNetwork}, "058004000000"},
		{BootFlags{Valid: true, Device: BootDisk, Persist: true, EFI: true}, "05e008000000"},
		{BootFlags{Valid: true, Device: BootSetup}, "058018000000"},
		{BootFlags{Valid: true, Device: BootCD}, "058014000000"},
	}
	for _, tt := range tests {
		if got := hex.EncodeToString(SetBootFlags(tt.flags)[3].Request.Data); got != tt.want {
			t.Errorf("%+v: got %s, want %s", tt.flags, got, tt.want)
		}
	}
}

func TestSerialRoom_survives_nonsense(t *testing.T) {
	for _, tt := range []struct {
		sizes string
		want  int
	}{{"", 64}, {"00000000" + "0000", 64}, {"00000000" + "ff00", 180}, {"00000000" + "00ff", 180}, {"00000000" + "2400", 32}} {
		if got := serialRoom(unhex(t, tt.sizes)); got != tt.want {
			t.Errorf("%q: got %d, want %d", tt.sizes, got, tt.want)
		}
	}
}

func FuzzPacket(f *testing.F) {
	a, _ := testChannels(Suite17)
	f.Add(a.seal(payloadMessage, true, text(20)))
	f.Add(a.seal(payloadSerial, false, text(3)))
	f.Add(setupPacket(payloadRAKP1, make([]byte, 28)))
	f.Add([]byte{6, 0, 0xff, 7, 6, 0xc0})
	f.Fuzz(func(t *testing.T, b []byte) {
		Addressee(b)
		p, err := parsePacket(b)
		if err != nil {
			return
		}
		_, c := testChannels(Suite3)
		if _, err := c.open(p); err == nil {
			t.Errorf("%x was taken for a packet of a session", b)
		}
	})
}

// FuzzSession feeds arbitrary messages to a peer in each step of the setup, and inside a session with a right code.
func FuzzSession(f *testing.F) {
	f.Add(uint8(0x11), []byte{1, 0, 4, 0, 0, 0, 0, 0}, []byte{1})
	f.Add(uint8(0x13), []byte{2, 0x0d, 0, 0}, []byte{0x81, 0x1c, 0x63, 0x20, 4, 1, 0xc0, 0x1b})
	f.Add(uint8(0x15), []byte{3, 0, 0, 0}, []byte{1, 0, 0, 0, 'x'})
	f.Fuzz(func(t *testing.T, kind uint8, message, inside []byte) {
		for stop := range 4 {
			w := newFuzzWorld()
			w.peer.Do(w.now, ChassisStatus(), "status")
			w.peer.OpenSerial(w.now)
			for range stop {
				for _, b := range w.peer.Packets() {
					w.bmc.Input(w.now, b)
				}
				for _, b := range w.bmc.Output() {
					w.peer.Input(w.now, b)
				}
			}
			m := bytes.Clone(message)
			if s := w.peer.setup; s != nil && len(m) >= 8 {
				m[0] = s.tag
				copy(m[4:], le32(s.console))
			}
			w.peer.Input(w.now, setupPacket(payloadType(kind&0x3f), m))
			if c := w.peer.live; c != nil {
				twin := *c
				twin.bmc, twin.out = c.console, 1000
				w.peer.Input(w.now, twin.seal(payloadType(kind&1), kind&2 != 0, inside))
			}
			for range 50 {
				n := w.peer.Next()
				if n.IsZero() {
					break
				}
				w.now = n
				w.peer.Tick(w.now)
				w.peer.Packets()
				w.peer.Events()
			}
		}
	})
}

func newFuzzWorld() *world {
	var n byte
	random := func(b []byte) {
		for i := range b {
			n++
			b[i] = n
		}
	}
	p, err := NewPeer(Config{User: "admin", Password: "secret", Rand: random})
	if err != nil {
		panic(err)
	}
	w := &world{peer: p, bmc: &ipmitest.BMC{User: "admin", Password: "secret", Rand: random}}
	w.now = w.now.AddDate(2000, 0, 0)
	return w
}

// FuzzSerial: whatever the BMC says, the line delivers at most what it said and goes on or ends.
func FuzzSerial(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0, 'a'}, []byte{2, 1, 3, 0x40}, true)
	f.Add([]byte{0, 1, 0, 0}, []byte{0, 1, 2, 0x50}, false)
	f.Fuzz(func(t *testing.T, first, second []byte, held bool) {
		s := serial{room: 10}
		s.write([]byte("some characters to send"))
		s.sendBreak()
		now := newFuzzWorld().now
		got, sent := 0, 0
		for range 20 {
			for _, b := range [][]byte{first, second} {
				s.hold(held)
				if p, _ := s.output(now); p != nil {
					sent++
				}
				_, data, _ := s.input(now, b)
				got += len(data)
				now = now.Add(serialPause)
			}
		}
		if most := 20 * (len(first) + len(second)); got > most {
			t.Errorf("%d octets of %d", got, most)
		}
		if s.waiting < 0 {
			t.Errorf("%d octets wait", s.waiting)
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	c, _ := testChannels(Suite17)
	m := appendMessage(nil, ChassisStatus(), 1)
	b.ReportAllocs()
	for b.Loop() {
		c.seal(payloadMessage, true, m)
	}
}
