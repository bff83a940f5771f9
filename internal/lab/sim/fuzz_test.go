package sim

import (
	"encoding/binary"
	"encoding/json"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"testing"
	"time"

	"github.com/bougou/go-ipmi/pkg/crypto"
	"github.com/bougou/go-ipmi/pkg/protocol"
	"github.com/bougou/go-ipmi/pkg/types"

	"muster/internal/model"
)

var (
	testTime = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	console  = netip.MustParseAddrPort("127.0.0.1:40000")
)

// lone is a controller without a fleet; one of Redfish when there is a profile.
func lone(p *profile) *bmc {
	b := new(bmc)
	k := &kind{
		users: newUsers("admin", model.NewSecret("secret")), delay: time.Second, deterministic: true, lines: 10,
		counters: new(counters),
	}
	b.init(k, 0, "n1", netip.MustParseAddrPort("127.21.0.1:623"), 7, testTime)
	if p != nil {
		b.initRedfish(p, grow(p))
	}
	return b
}

// logged is an administrator's open session of suite 3, with keys of zeros.
func (b *bmc) logged() *session {
	s := b.begin(testTime, console)
	s.open, s.user, s.most, s.privilege = true, b.users[1], 4, 4
	s.auth, s.integrity, s.crypt = types.AuthAlg_HMAC_SHA1, types.IntegrityAlg_HMAC_SHA1_96, types.CryptAlg_AES_CBC_128
	s.k1, s.k2 = make([]byte, 20), make([]byte, 20)
	return s
}

// FuzzPacket gives a controller any datagram: outside of a session, and with a right authentication code inside of one,
// so that hostile bytes get past it.
func FuzzPacket(f *testing.F) {
	f.Add(byte(0), []byte{6, 0, 0xff, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0x20, 0x18, 0xc8, 0x81, 0, 0x38, 0x8e, 4, 0xb5})
	f.Add(byte(0), []byte{6, 0, 0xff, 6, 0, 0, 0x11, 0xbe, 0x80, 1, 0, 0})
	open := []byte{6, 0, 0xff, 7, 6, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0, 0, 0, 0, 1, 2, 3, 4, 0, 0, 0, 8, 1, 0, 0, 0, 1, 0, 0, 8, 1, 0, 0, 0, 2, 0, 0, 8, 1, 0, 0, 0}
	f.Add(byte(0), open)
	f.Add(byte(1), []byte{0x20, 0x18, 0xc8, 0x81, 0x04, 0x48, 0x33, 1, 1, 0x40, 0, 0, 0})
	f.Add(byte(2), []byte{1, 0, 0, 0, 'l', 's'})
	f.Fuzz(func(_ *testing.T, how byte, data []byte) {
		b := lone(nil)
		s := b.logged()
		now := testTime
		if how&4 != 0 {
			b.faults = Faults{Drop: 0.2, Duplicate: 0.3, Reorder: 0.3}
		}
		for range 2 {
			now = now.Add(time.Second)
			if how&3 == 0 || len(data) > 1000 {
				b.input(now, console, data)
			} else {
				b.input(now, console, s.signed(how&3-1, data))
			}
			b.tick(now.Add(50 * time.Millisecond))
			b.due()
		}
		if len(b.sessions) > maxSessions || len(b.out) > 100 {
			panic("grows with what is sent to it")
		}
	})
}

// signed is a packet of the session in the clear, with a right code.
func (s *session) signed(kind byte, payload []byte) []byte {
	data := protocol.BuildRMCPPlusPacket(kind, 0x40, s.id, s.in.newest+1, payload)
	n := types.IntegrityPadLen(12, len(payload))
	for range n {
		data = append(data, 0xff)
	}
	data = append(data, byte(n), 0x07)
	sum, _ := crypto.SessionIntegrityAuthCode(s.integrity, data[4:], s.k1, "")
	return append(data, sum...)
}

// FuzzCommand does any command with any data, as anybody and as administrator of both versions.
func FuzzCommand(f *testing.F) {
	for _, c := range [][2]byte{{chassis, 0x02}, {chassis, 0x08}, {chassis, 0x09}, {sensor, 0x2d}, {app, 0x3b}, {app, 0x47}, {app, 0x48}, {storage, 0x11}, {storage, 0x23}, {storage, 0x43}, {storage, 0x47}, {transport, 0x01}, {transport, 0x02}, {transport, 0x22}} {
		f.Add(byte(1), c[0], c[1], []byte{1, 3, 0, 0, 0, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	}
	f.Fuzz(func(t *testing.T, who, netFn, command byte, data []byte) {
		b := lone(nil)
		var s *session
		if who > 0 {
			s = b.logged()
			s.old = who == 2
		}
		before := b.users
		answer, code := b.run(testTime, s, netFn, command, data)
		if code != types.CodeOK && len(answer) != 0 {
			t.Errorf("code %#x and an answer of %d octets", code, len(answer))
		}
		if s == nil && (len(b.users) != len(before) || b.line != nil || len(b.machine.next) != 0) {
			t.Error("somebody without a session changed something")
		}
		if len(answer) > 255 {
			t.Errorf("an answer of %d octets", len(answer))
		}
		b.tick(testTime.Add(time.Hour))
	})
}

// FuzzRedfish asks anything of all vendors' services, as administrator and as nobody.
func FuzzRedfish(f *testing.F) {
	f.Add(byte(0), "GET", "/redfish/v1/Systems?$expand=*($levels=9)", "", []byte(nil))
	f.Add(byte(1), "PATCH", "/redfish/v1/Systems/1", "", []byte(`{"Boot":{"BootSourceOverrideTarget":"Pxe"}}`))
	f.Add(byte(2), "POST", "/redfish/v1/AccountService/Accounts", "", []byte(`{"UserName":"a","Password":"b","RoleId":"Operator"}`))
	f.Add(byte(0), "POST", "/redfish/v1/UpdateService/MultipartUpload", "multipart/form-data; boundary=x", []byte("--x\r\nContent-Disposition: form-data; name=\"UpdateFile\"; filename=\"f\"\r\n\r\nabc\r\n--x--\r\n"))
	f.Add(byte(13), "POST", "/redfish/v1/SessionService/Sessions", "", []byte(`{"UserName":"admin","Password":"secret"}`))
	f.Fuzz(func(t *testing.T, who byte, method, target, kind string, body []byte) {
		u, err := url.Parse(target)
		if err != nil {
			return
		}
		p := &profiles[int(who)%len(profiles)]
		b := lone(p)
		before := b.users
		q := request{method: method, path: path.Clean(u.Path), query: u.Query(), header: http.Header{"Content-Type": {kind}, "If-Match": {"*"}}, body: body}
		known := int(who) < len(profiles)
		if known {
			r := &http.Request{Header: q.header}
			r.SetBasicAuth("admin", "secret")
		}
		a := view{b, p, testTime}.serve(q)
		if _, err := json.Marshal(a.doc); err != nil {
			t.Error(err)
		}
		if a.status < 200 || a.status > 599 {
			t.Errorf("status %d", a.status)
		}
		if !known && (len(b.users) != len(before) || len(b.machine.next) != 0 || len(b.redfish.tasks) != 0) {
			t.Error("somebody without a session changed something")
		}
		b.settleRedfish(testTime.Add(time.Hour))
		b.tell()
	})
}

// FuzzOrder reads any order of the control socket.
func FuzzOrder(f *testing.F) {
	f.Add([]byte(`{"range":"n[1-2]","faults":["dead"]}`))
	f.Add([]byte(`{"range":"n1","lines":1e300,"burst":-1}`))
	fleet := &Fleet{opt: Options{Prefix: "n", IPMI: 2}, bmcs: make([]bmc, 2)}
	for i := range fleet.bmcs {
		fleet.bmcs[i].init(&kind{counters: &fleet.counters}, i, "n1", netip.MustParseAddrPort("127.21.0.1:623"), 7, testTime)
	}
	f.Fuzz(func(_ *testing.T, data []byte) {
		var o order
		if json.Unmarshal(data, &o) != nil || len(o.Range) > 40 {
			return
		}
		_, _ = fleet.Fault(o.Range, o.Faults)
		_, _ = fleet.Talk(o.Range, o.Lines, o.Burst)
	})
}

func FuzzControlMessage(f *testing.F) {
	f.Add(fromAddress(netip.MustParseAddr("127.20.0.1")))
	f.Fuzz(func(_ *testing.T, oob []byte) { askedAddress(oob) })
}

// The address that we answer from is read as the address that was asked, when the kernel puts it there.
func TestControlMessage(t *testing.T) {
	oob := fromAddress(netip.MustParseAddr("127.20.3.4"))
	copy(oob[infoHeader+8:], oob[infoHeader+4:infoHeader+8])
	if got, ok := askedAddress(oob); !ok || got != netip.MustParseAddr("127.20.3.4") {
		t.Errorf("got %v %v", got, ok)
	}
}

// What may be done needs the privilege that it needs (appendix G): nothing is changed by who has not logged in, nor by
// a user who asks for more than he has.
func TestPrivilege(t *testing.T) {
	for _, c := range []struct {
		name      string
		privilege byte // 0: no session
		netFn     byte
		command   byte
		want      types.CompletionCode
	}{
		{"anybody asks for capabilities", 0, app, 0x38, types.CodeOK},
		{"anybody asks for the power", 0, chassis, 0x01, types.CodeInsufficientPrivilege},
		{"anybody turns it off", 0, chassis, 0x02, types.CodeInsufficientPrivilege},
		{"a user asks for the power", 2, chassis, 0x01, types.CodeOK},
		{"a user turns it off", 2, chassis, 0x02, types.CodeInsufficientPrivilege},
		{"an operator turns it off", 3, chassis, 0x02, types.CodeOK},
		{"an operator sets a password", 3, app, 0x47, types.CodeInsufficientPrivilege},
		{"an administrator sets a password", 4, app, 0x47, types.CodeOK},
		{"an operator sets the address", 3, transport, 0x01, types.CodeInsufficientPrivilege},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := lone(nil)
			var s *session
			if c.privilege > 0 {
				s = b.logged()
				s.privilege = c.privilege
			}
			data := []byte{0, 4}
			if c.command == 0x47 {
				data = append([]byte{2, 2}, make([]byte, 16)...)
			}
			if _, code := b.run(testTime, s, c.netFn, c.command, data); code != c.want {
				t.Errorf("code %#x, want %#x", byte(code), byte(c.want))
			}
		})
	}
}

// Nobody gets in by leaving RAKP 1 out, or after one that named nobody, with a proof made of an empty password.
func TestRAKP3_without_a_user(t *testing.T) {
	for _, name := range []string{"", "nobody"} {
		b := lone(nil)
		open := make([]byte, 32)
		binary.LittleEndian.PutUint32(open[4:], 0x01020304)
		copy(open[8:], []byte{0, 0, 0, 8, 1, 0, 0, 0, 1, 0, 0, 8, 1, 0, 0, 0, 2, 0, 0, 8, 1, 0, 0, 0})
		r := b.openSession(testTime, console, open)
		id := binary.LittleEndian.Uint32(r[8:])
		if name != "" {
			one := append(make([]byte, 28), name...)
			binary.LittleEndian.PutUint32(one[4:], id)
			one[24], one[27] = 0x14, byte(len(name))
			if r := b.rakp1(one); r[1] != statusName {
				t.Fatalf("RAKP 1 of %s: status %#x", name, r[1])
			}
		}
		s := b.find(id)
		proof, err := crypto.RAKP3AuthCode(s.auth, s.bmcRand[:], s.console, s.role, "", crypto.PadPassword20(nil))
		if err != nil {
			t.Fatal(err)
		}
		three := make([]byte, 8)
		binary.LittleEndian.PutUint32(three[4:], id)
		if r := b.rakp3(testTime, console, append(three, proof...)); r[1] != statusSession || s.open {
			t.Errorf("after %q: status %#x, open %v", name, r[1], s.open)
		}
	}
}
