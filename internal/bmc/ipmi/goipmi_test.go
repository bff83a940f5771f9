package ipmi

import (
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	ipmibmc "github.com/bougou/go-ipmi/pkg/bmc"
	"github.com/bougou/go-ipmi/pkg/hal"
	"github.com/bougou/go-ipmi/pkg/hal/mock"
	"github.com/bougou/go-ipmi/pkg/server"
	"github.com/bougou/go-ipmi/pkg/transport/udp"
	"github.com/bougou/go-ipmi/pkg/types"

	"muster/internal/bmc"
	"muster/internal/model"
)

// goBMC is a BMC of go-ipmi's server in this process.
type goBMC struct {
	conn    *net.UDPConn
	chassis *goChassis
	console *goConsole
	bmc     *ipmibmc.BMC
}

// goHAL is go-ipmi's simulated hardware with a chassis that tells what it did.
type goHAL struct {
	*mock.HAL
	chassis *goChassis
}

func (h goHAL) Chassis() hal.ChassisHAL { return h.chassis }

type goChassis struct {
	mock.Chassis
	mu   sync.Mutex
	done []string
}

func (c *goChassis) did(what string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done = append(c.done, what)
	return nil
}

func (c *goChassis) PowerCycle(context.Context) error { return c.did("cycle") }
func (c *goChassis) ColdReset(context.Context) error  { return c.did("reset") }
func (c *goChassis) WarmReset(context.Context) error  { return c.did("soft") }

// startGo starts it with the given suites.
func startGo(t *testing.T, suites ...types.CipherSuiteID) *goBMC {
	t.Helper()
	h := goHAL{mock.New(), &goChassis{}}
	g := &goBMC{console: newGoConsole(), chassis: h.chassis}
	h.SetConsole(&mock.Console{OpenHook: func(context.Context) (hal.ConsoleConn, error) { return g.console, nil }})
	g.bmc = ipmibmc.New(ipmibmc.DeviceInfo{IPMIVersion: 0x20}, [16]byte{1, 2, 3}, h)
	u, err := g.bmc.Users.Add(2, "admin")
	if err != nil {
		t.Fatal(err)
	}
	u.SetPassword([]byte("secret"))
	u.Enabled = true
	u.ChannelAccess[1] = ipmibmc.UserChannelAccess{MaxPrivilege: ipmibmc.PrivilegeLevelAdministrator, Enabled: true}
	g.conn, err = net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	s := server.NewServer(g.bmc, udp.Wrap(g.conn), server.WithCipherSuites(suites))
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Serve(ctx) })
	t.Cleanup(func() {
		cancel()
		_ = s.Close()
		wg.Wait()
	})
	return g
}

func (g *goBMC) target() bmc.Target {
	return bmc.Target{Address: "127.0.0.1", Port: g.conn.LocalAddr().(*net.UDPAddr).Port, User: "admin", Password: model.NewSecret("secret")}
}

// goConsole is the serial port: what the machine writes waits to be read, what is typed goes through a pipe.
type goConsole struct {
	mu     sync.Mutex
	out    []byte
	breaks int
	typed  *io.PipeReader
	input  *io.PipeWriter
}

func newGoConsole() *goConsole {
	c := &goConsole{}
	c.typed, c.input = io.Pipe()
	return c
}

func (c *goConsole) ReadAvailable(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := copy(p, c.out)
	c.out = c.out[n:]
	return n, nil
}

func (c *goConsole) Close() error { return nil }

func (c *goConsole) Write(p []byte) (int, error) {
	if len(p) == 0 { // a pipe would wait for a reader
		return 0, nil
	}
	return c.input.Write(p)
}

func (c *goConsole) SendBreak(context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.breaks++
	return nil
}

// goMachine is the other end of the serial port.
type goMachine struct{ *goConsole }

func (m goMachine) Read(p []byte) (int, error) { return m.typed.Read(p) }

func (m goMachine) Write(p []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.out = append(m.out, p...)
	return len(p), nil
}

func TestGo_suites(t *testing.T) {
	for _, tt := range []struct {
		name   string
		suites []types.CipherSuiteID
		cipher int
		want   int
	}{
		{"17_where_both_are_offered", []types.CipherSuiteID{3, 17}, 0, 17},
		{"17_alone", []types.CipherSuiteID{17}, 17, 17},
		{"3_where_17_is_refused", []types.CipherSuiteID{3}, 17, 3},
		{"3_where_told", []types.CipherSuiteID{3, 17}, 3, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := startGo(t, tt.suites...)
			e := startEngine(t, Options{})
			target := g.target()
			target.Cipher = tt.cipher
			if got, err := e.Open(target).Power(t.Context()); err != nil || got != bmc.PowerOff {
				t.Fatalf("got %q %v", got, err)
			}
			if got := e.suites[g.conn.LocalAddr().(*net.UDPAddr).AddrPort()]; int(got) != tt.want {
				t.Errorf("suite %d, want %d", got, tt.want)
			}
		})
	}
}

func TestGo_power_and_boot_device(t *testing.T) {
	g := startGo(t, 17)
	d := startEngine(t, Options{}).Open(g.target())
	for _, a := range []bmc.Action{bmc.On, bmc.Cycle, bmc.Reset, bmc.SoftOff} {
		if err := d.SetPower(t.Context(), a); err != nil {
			t.Errorf("%s: %v", a, err)
		}
	}
	if got, err := d.Power(t.Context()); err != nil || got != bmc.PowerOn {
		t.Errorf("got %q %v", got, err)
	}
	g.chassis.mu.Lock()
	if got := strings.Join(g.chassis.done, " "); got != "cycle reset soft" {
		t.Errorf("the BMC did %s, want cycle reset soft", got)
	}
	g.chassis.mu.Unlock()
	wantError(t, d.SetPower(t.Context(), bmc.Diag), bmc.Unsupported, "cannot do this")
	for _, want := range []bmc.BootDevice{{Device: "network", Firmware: "uefi"}, {Device: "disk", Persist: true}, {Device: "default"}} {
		if err := d.SetBootDevice(t.Context(), want); err != nil {
			t.Fatal(err)
		}
		if got, err := d.BootDevice(t.Context()); err != nil || got != want {
			t.Errorf("got %+v %v, want %+v", got, err, want)
		}
	}
	f, err := g.chassis.GetBootFlags(t.Context())
	if err != nil || !f.BootFlagsValid || f.Persist {
		t.Errorf("boot flags %+v %v", f, err)
	}
}

func TestGo_refuses(t *testing.T) {
	g := startGo(t, 3, 17)
	e := startEngine(t, Options{})
	for _, cipher := range []int{3, 17} {
		wrong := g.target()
		wrong.Cipher, wrong.Password = cipher, model.NewSecret("guess")
		_, err := e.Open(wrong).Power(t.Context())
		wantError(t, err, bmc.Refused, "refused user admin (wrong password")
		unknown := g.target()
		unknown.Cipher, unknown.User = cipher, "root"
		_, err = e.Open(unknown).Power(t.Context())
		wantError(t, err, bmc.Refused, "refused user root")
	}
}

func TestGo_serial(t *testing.T) {
	for _, cipher := range []int{3, 17} {
		g := startGo(t, 3, 17)
		target := g.target()
		target.Cipher = cipher
		d := startEngine(t, Options{}).Open(target)
		st, err := d.Serial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		exchange(t, st, goMachine{g.console})
		if err := st.Break(); err != nil {
			t.Error(err)
		}
		eventually(t, "break", func() bool { g.console.mu.Lock(); defer g.console.mu.Unlock(); return g.console.breaks == 1 })

		other := startEngine(t, Options{}).Open(target)
		taken, err := other.Serial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_, err = st.Read(make([]byte, 10))
		wantError(t, err, bmc.Lost, "another console took it")
		exchange(t, taken, goMachine{g.console})
		if err := taken.Close(); err != nil {
			t.Error(err)
		}
		eventually(t, "free line", func() bool { return g.bmc.SOL.ActiveSessionID(1) == 0 })
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestGo_serial_latency_is_not_that_of_polling(t *testing.T) {
	g := startGo(t, 17)
	st, err := startEngine(t, Options{}).Open(g.target()).Serial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = st.Close() }()
	echo := make(chan time.Duration)
	begin := time.Now()
	go func() {
		_, _ = io.ReadFull(goMachine{g.console}, make([]byte, 1))
		echo <- time.Since(begin)
	}()
	if _, err := st.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if d := <-echo; d > 100*time.Millisecond {
		t.Errorf("a key reached the machine after %v", d)
	}
}
