package lab

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/bougou/go-ipmi/pkg/bmc"
	"github.com/bougou/go-ipmi/pkg/handlers"
	"github.com/bougou/go-ipmi/pkg/types"

	"muster/internal/api"
	"muster/internal/lab/board"
)

func FuzzParseSize(f *testing.F) {
	for _, s := range []string{"4G", "512M", "1", "0", "9223372036854775807", "8388608T", "-1", "4GB", "", "K", "٤"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := parseSize(s)
		if err != nil {
			return
		}
		if back, err := parseSize(formatSize(n)); n < 0 || err != nil || back != n {
			t.Errorf("%q is %d, written %s, read back %d, %v", s, n, formatSize(n), back, err)
		}
	})
}

func FuzzParseStat(f *testing.F) {
	own, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		f.Skip(err)
	}
	f.Add(string(own))
	f.Add("1 (a) b) c) S 0 1 1 0 -1 4194560 0 0 0 0 7 5 0 0 20 0 1 0 321 0 0")
	f.Add(")")
	f.Fuzz(func(_ *testing.T, s string) { _, _ = parseStat([]byte(s)) })
}

func TestParseStat(t *testing.T) {
	got, err := parseStat([]byte("1 (a) b) c) S 0 1 1 0 -1 4194560 0 0 0 0 7 5 0 0 20 0 1 0 321 0 0"))
	if want := (procStat{state: 'S', ticks: 12, start: 321}); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}

func TestProcessIsNotAnotherOfTheSameNumber(t *testing.T) {
	self, err := identify(os.Getpid())
	if err != nil || !self.alive() {
		t.Fatalf("this process is not alive: %v", err)
	}
	other := self
	other.Start++
	if other.alive() {
		t.Error("a process with another start time is taken for this one")
	}
	if err := other.end(9, time.Second); err != nil { // must not end the test
		t.Error(err)
	}
}

func TestAllThatIsMissingIsSaidAtOnce(t *testing.T) {
	err := missing(1000, []need{{what: "no-such-program", pkg: "one"}, {what: "/no/such/file", pkg: "two"}, {what: "/no/device", without: "load it"}, {what: "/", pkg: "three"}})
	got, ok := errors.AsType[*api.Error](err)
	want := api.Error{
		Code: api.Denied, What: "lab up",
		Why: "it needs root (namespaces and taps); no-such-program is missing; /no/such/file is missing; /no/device is missing",
		Do:  "To do: run it with sudo; load it; apt-get install one two",
	}
	if !ok || got.Error() != want.Error() || got.Code != want.Code {
		t.Errorf("got %v, want %v", err, &want)
	}
	if err := missing(0, []need{{what: "/"}}); err != nil {
		t.Errorf("nothing is missing, got %v", err)
	}
}

func TestAllThatIsWrongWithAShapeIsSaidAtOnce(t *testing.T) {
	err := shape{machines: 0, firmware: "coreboot", memory: 1, disk: 1}.check("Lab!")
	e, ok := errors.AsType[*api.Error](err)
	if !ok || e.Exit() != 2 || len(e.More) != 4 {
		t.Errorf("got %v, want five problems and exit status 2", err)
	}
	if err := (shape{machines: 3, firmware: UEFI, memory: 768, disk: 4 << 30}).check("lab"); err != nil {
		t.Error(err)
	}
}

func TestSensors(t *testing.T) {
	for i := range sensors {
		s := &sensors[i]
		if busy, idle := s.Status(s.Reading(1)), s.Status(s.Reading(0)); busy != 0 || idle != 0 {
			t.Errorf("%s is alarming by itself: status %#x busy, %#x idle", s.Name, busy, idle)
		}
		if r := s.Record(uint16(i + 1)); int(r[4]) != len(r)-5 {
			t.Errorf("%s: record length %d, want %d", s.Name, r[4], len(r)-5)
		}
	}
	if got := sensorByNumber(3).Status(sensorByNumber(3).Raw(900)); got != 0x03 {
		t.Errorf("fan at 900/min has status %#x, want lower non-critical and critical", got)
	}
}

func TestBootPlan(t *testing.T) {
	for device, want := range map[string]bootPlan{
		"default": {0, 1, false}, "network": {0, -1, false}, "disk": {-1, 0, false}, "setup": {0, 1, true}, "cd": {-1, -1, false}, "floppy": {-1, -1, false},
	} {
		if got := planFor(device); got != want {
			t.Errorf("%s: got %+v, want %+v", device, got, want)
		}
	}
}

func TestQemuArguments(t *testing.T) {
	s := plan("x", "/dir,with comma", shape{machines: 1, firmware: UEFI, memory: 768, disk: 1 << 30})
	got := strings.Join(qemuArguments(s, s.Machines[0], planFor("network")), " ")
	for _, want := range []string{
		"-accel tcg,tb-size=96 -cpu max", "mac=52:54:00:77:00:01,bootindex=0,romfile=", "bootindex=-1", "ifname=tap1,script=no",
		"file=/dir,,with comma/r1n1/vars.fd", "strict=on,reboot-timeout=5000",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %s", want, got)
		}
	}
	if strings.Contains(got, "kvm") {
		t.Error("KVM must not be used")
	}
}

// offline is a BMC without socket and without a machine that could start.
func offline(t testing.TB) (*handlers.Registry, *handlers.HandlerContext) {
	t.Helper()
	d := &daemon{log: slog.New(slog.NewTextHandler(io.Discard, nil)), spawner: newSpawner(), spec: plan("x", t.TempDir(), shape{machines: 1, firmware: BIOS})}
	d.state = d.spec
	c := &chassis{lab: d, log: d.log, serial: newSerialPort(nil), sel: &board.EventLog{Now: time.Now}, resets: make(chan struct{}, 1)}
	b := bmc.New(bmc.DeviceInfo{}, [16]byte{}, &hardware{fru: fruOf(d.spec.Machines[0])})
	r := handlers.NewRegistry()
	handlers.RegisterAllHandlers(r)
	registerChassis(r, c)
	registerLog(r, c.sel)
	registerSensors(r, c)
	s := newSOL(b, nil, c)
	s.register(r)
	session := &bmc.Session{PrivilegeLevel: bmc.PrivilegeLevelAdministrator}
	return r, &handlers.HandlerContext{BMC: b, Session: session}
}

// FuzzRequests sends any bytes as the data of every command that the lab answers itself.
func FuzzRequests(f *testing.F) {
	f.Add(uint8(types.NetFnChassisRequest), uint8(0x08), []byte{5, 0x80, 0x04, 0, 0, 0})
	f.Add(uint8(types.NetFnChassisRequest), uint8(0x02), []byte{1})
	f.Add(uint8(types.NetFnStorageRequest), uint8(0x43), []byte{0, 0, 0, 0, 0, 0xff})
	f.Add(uint8(types.NetFnStorageRequest), uint8(0x47), []byte{1, 0, 'C', 'L', 'R', 0xaa})
	f.Add(uint8(types.NetFnSensorEventRequest), uint8(0x2d), []byte{1})
	f.Add(uint8(types.NetFnAppRequest), uint8(0x49), []byte{1, 1})
	r, ctx := offline(f)
	activate := types.CommandActivatePayload
	f.Fuzz(func(_ *testing.T, netFn, command uint8, data []byte) {
		if netFn == uint8(activate.NetFn) && command == activate.ID {
			return // needs a socket
		}
		_, _, _ = r.Dispatch(context.Background(), ctx, netFn, command, data)
	})
}

func FuzzSOLPacket(f *testing.F) {
	f.Add([]byte{6, 0, 0xff, 7, 6, 0x41, 1, 0, 0, 0, 1, 0, 0, 0, 4, 0, 1, 0, 0, 0})
	session := &bmc.Session{BMCID: 1, IntegrityAlg: types.IntegrityAlg_HMAC_SHA256_128, K1: make([]byte, 32), K2: make([]byte, 16)}
	b := bmc.New(bmc.DeviceInfo{}, [16]byte{}, nil)
	s, a := newSOL(b, nil, nil), &solSession{session: session}
	f.Fuzz(func(_ *testing.T, wire []byte) {
		solPacketOf(wire)
		s.open(a, solPacket{wire: wire})
		session.IntegrityAlg ^= types.IntegrityAlg_HMAC_SHA256_128 // with and without authentication
		l := board.Link{Write: func(b []byte) int { return len(b) / 2 }}
		var p types.SOLPayloadPacket
		if p.Unpack(wire) == nil {
			l.Transmit([]byte("pending"))
			l.Receive(&p)
		}
	})
}
