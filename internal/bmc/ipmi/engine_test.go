package ipmi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"muster/internal/bmc"
	"muster/internal/model"
	"muster/internal/wire/ipmi/ipmitest"
)

func TestMain(m *testing.M) { fleetOr(m, func() { goleak.VerifyTestMain(m) }) }

func TestDriver_power(t *testing.T) {
	s := startStub(t, "127.0.0.1", 0)
	d := startEngine(t, Options{}).Open(s.target())
	ctx := t.Context()
	steps := []struct {
		action bmc.Action
		want   bmc.PowerState
	}{{bmc.On, "on"}, {bmc.Cycle, "on"}, {bmc.Reset, "on"}, {bmc.Diag, "on"}, {bmc.SoftOff, "off"}, {bmc.On, "on"}, {bmc.Off, "off"}}
	for _, step := range steps {
		if err := d.SetPower(ctx, step.action); err != nil {
			t.Fatal(err)
		}
		if got, err := d.Power(ctx); err != nil || got != step.want {
			t.Errorf("after %s: got %q %v, want %q", step.action, got, err, step.want)
		}
	}
	s.with(func(b *ipmitest.BMC) {
		if want := []byte{1, 2, 3, 4, 5, 1, 0}; !bytes.Equal(b.Actions, want) {
			t.Errorf("the BMC did % x, want % x", b.Actions, want)
		}
	})
	err := d.SetPower(ctx, bmc.Cycle)
	wantError(t, err, bmc.Failed, "cannot do this in the present power state")
	wantError(t, d.SetPower(ctx, "explode"), bmc.Invalid, "no such action")
}

func TestDriver_boot_device(t *testing.T) {
	d := startEngine(t, Options{}).Open(startStub(t, "127.0.0.1", 0).target())
	for _, want := range []bmc.BootDevice{
		{Device: "network"}, {Device: "disk", Persist: true, Firmware: "uefi"}, {Device: "cd"}, {Device: "setup"}, {Device: "default"},
	} {
		if err := d.SetBootDevice(t.Context(), want); err != nil {
			t.Fatal(err)
		}
		if got, err := d.BootDevice(t.Context()); err != nil || got != want {
			t.Errorf("got %+v %v, want %+v", got, err, want)
		}
	}
	wantError(t, d.SetBootDevice(t.Context(), bmc.BootDevice{Device: "floppy"}), bmc.Invalid, "no such boot device")
}

func wantError(t *testing.T, err error, kind bmc.Kind, text string) {
	t.Helper()
	var e *bmc.Error
	if !errors.As(err, &e) || e.Kind != kind || !strings.Contains(e.Error(), text) {
		t.Errorf("got %v, want kind %s and %q", err, kind, text)
	}
	if err != nil && strings.Contains(err.Error(), "secret") {
		t.Errorf("the password is in %q", err)
	}
}

func TestDriver_errors_say_what_why_and_do(t *testing.T) {
	tests := []struct {
		name   string
		target func(*bmc.Target)
		bmc    func(*ipmitest.BMC)
		kind   bmc.Kind
		text   string
	}{
		{"wrong_password", func(t *bmc.Target) { t.Password = model.NewSecret("guess") }, nil, bmc.Refused, "refused user admin (wrong password"},
		{"wrong_user", func(t *bmc.Target) { t.User = "root" }, nil, bmc.Refused, "refused user root (user unknown"},
		{"dead_address", nil, func(b *ipmitest.BMC) { b.Faults.Mute = true }, bmc.Timeout, "does not answer (no answer to open session). Look at bmc.address"},
		{"no_suite", nil, func(b *ipmitest.BMC) { b.Faults.Refuse17, b.Faults.Refuse3 = true, true }, bmc.Unsupported, "neither cipher suite 17 nor 3"},
		{"only_17", func(t *bmc.Target) { t.Cipher = 3 }, func(b *ipmitest.BMC) { b.Faults.Refuse3 = true }, bmc.Unsupported, "Set bmc.cipher=17"},
		{"no_address", func(t *bmc.Target) { t.Address = "" }, nil, bmc.Invalid, "Set bmc.address"},
		{"bad_suite", func(t *bmc.Target) { t.Cipher = 8 }, nil, bmc.Invalid, "cipher suite 8"},
		{"long_password", func(t *bmc.Target) { t.Password = model.NewSecret("secret secret secret secret") }, nil, bmc.Invalid, "20 octets"},
		{"bad_name", func(t *bmc.Target) { t.Address = "no such host" }, nil, bmc.Invalid, "neither an address nor a host name"},
	}
	e := startEngine(t, Options{Waits: hasty})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := startStub(t, "127.0.0.1", 0)
			if tt.bmc != nil {
				s.with(tt.bmc)
			}
			target := s.target()
			if tt.target != nil {
				tt.target(&target)
			}
			_, err := e.Open(target).Power(t.Context())
			wantError(t, err, tt.kind, tt.text)
			_, err = e.Open(target).Serial(t.Context())
			wantError(t, err, tt.kind, tt.text)
			t.Log(err)
		})
	}
}

func TestDriver_obeys_its_context(t *testing.T) {
	s := startStub(t, "127.0.0.1", 0)
	s.with(func(b *ipmitest.BMC) { b.Faults.Mute = true })
	e := startEngine(t, Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	_, err := e.Open(s.target()).Power(ctx)
	wantError(t, err, bmc.Timeout, "did not answer in time")
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v does not wrap the context's error", err)
	}
	_, err = e.Open(s.target()).Serial(ctx)
	wantError(t, err, bmc.Timeout, "did not answer in time")
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.peers) != 0 || len(e.due) != 0 {
		t.Errorf("%d peers and %d deadlines are left of a BMC that nobody waits for", len(e.peers), len(e.due))
	}
}

func TestDriver_says_that_a_reset_may_have_been_done(t *testing.T) {
	s := startStub(t, "127.0.0.1", 0)
	d := startEngine(t, Options{}).Open(s.target())
	if _, err := d.Power(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.with(func(b *ipmitest.BMC) { b.Faults.Mute = true })
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	wantError(t, d.SetPower(ctx, bmc.Reset), bmc.Timeout, "it may have done it. Look at the power status before trying again")
}

func TestDriver_speaks_IPv6(t *testing.T) {
	if c, err := net.ListenPacket("udp6", "[::1]:0"); err != nil {
		t.Skip("no IPv6 loopback: " + err.Error())
	} else {
		_ = c.Close()
	}
	s := startStub(t, "::1", 0)
	d := startEngine(t, Options{}).Open(s.target())
	if got, err := d.Power(t.Context()); err != nil || got != bmc.PowerOff {
		t.Errorf("got %q %v", got, err)
	}
}

func TestEngine_one_session_for_all_drivers_of_a_BMC(t *testing.T) {
	s := startStub(t, "127.0.0.1", 0)
	e := startEngine(t, Options{})
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			d := e.Open(s.target())
			defer func() { _ = d.Close() }()
			if _, err := d.Power(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	st, err := e.Open(s.target()).Serial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = st.Close() }()
	s.with(func(b *ipmitest.BMC) {
		if b.Opened != 1 {
			t.Errorf("%d sessions, want 1", b.Opened)
		}
	})
}

func TestEngine_closes_idle_sessions_and_forgets_their_BMC(t *testing.T) {
	s := startStub(t, "127.0.0.1", 0)
	e := startEngine(t, Options{Idle: 50 * time.Millisecond})
	if _, err := e.Open(s.target()).Power(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "end of the session", func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		return len(e.peers) == 0 && len(e.due) == 0
	})
	if _, err := e.Open(s.target()).Power(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.with(func(b *ipmitest.BMC) {
		if b.Opened != 2 {
			t.Errorf("%d sessions, want 2", b.Opened)
		}
	})
}

func TestEngine_remembers_the_suite_of_a_BMC(t *testing.T) {
	s := startStub(t, "127.0.0.1", 0)
	s.with(func(b *ipmitest.BMC) { b.Faults.Refuse17 = true })
	e := startEngine(t, Options{Idle: 20 * time.Millisecond})
	for range 2 {
		if _, err := e.Open(s.target()).Power(t.Context()); err != nil {
			t.Fatal(err)
		}
		eventually(t, "end of the session", func() bool { e.mu.Lock(); defer e.mu.Unlock(); return len(e.peers) == 0 })
		if len(e.suites) != 1 || e.suites[s.conn.LocalAddr().(*net.UDPAddr).AddrPort()] != 3 {
			t.Errorf("remembers %v", e.suites)
		}
	}
}

func TestEngine_dead_BMCs_do_not_delay_live_ones(t *testing.T) {
	e := startEngine(t, Options{})
	live := startStub(t, "127.0.0.1", 0)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i := range 200 {
		target := live.target()
		target.Address, target.Port = fmt.Sprintf("127.8.0.%d", i+1), 9
		wg.Go(func() {
			if _, err := e.Open(target).Power(ctx); err == nil {
				t.Error("a dead address answered")
			}
		})
	}
	begin := time.Now()
	for range 20 {
		if _, err := e.Open(live.target()).Power(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if took := time.Since(begin); took > 400*time.Millisecond {
		t.Errorf("20 answers of a live BMC took %v beside 200 dead ones", took)
	}
	cancel()
	wg.Wait()
}

func TestEngine_opens_another_session_when_the_BMC_has_restarted(t *testing.T) {
	s := startStub(t, "127.0.0.1", 0)
	d := startEngine(t, Options{Waits: hasty}).Open(s.target())
	for i := range 3 {
		if _, err := d.Power(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.with(func(b *ipmitest.BMC) {
			if b.Opened != i+1 {
				t.Errorf("%d sessions, want %d", b.Opened, i+1)
			}
			b.Restart()
		})
	}
}

func TestEngine_close_ends_everything(t *testing.T) {
	s := startStub(t, "127.0.0.1", 0)
	mute := startStub(t, "127.0.0.1", 0)
	mute.with(func(b *ipmitest.BMC) { b.Faults.Mute = true })
	e := startEngine(t, Options{})
	st, err := e.Open(s.target()).Serial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan error)
	go func() {
		_, err := e.Open(mute.target()).Power(t.Context())
		asked <- err
	}()
	eventually(t, "request", func() bool { e.mu.Lock(); defer e.mu.Unlock(); return len(e.peers) == 2 })
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	wantError(t, <-asked, bmc.Lost, "closed")
	if _, err := st.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("read after the engine's end: %v", err)
	}
	eventually(t, "end of the BMC's session", func() bool {
		has := false
		s.with(func(b *ipmitest.BMC) { has = b.HasLine() })
		return !has
	})
	_, err = e.Open(s.target()).Power(t.Context())
	wantError(t, err, bmc.Lost, "stopping")
	_ = st.Close()
}

func TestStream_ends_with_its_reason(t *testing.T) {
	s := startStub(t, "127.0.0.1", 0)
	d := startEngine(t, Options{Waits: hasty}).Open(s.target())
	st, err := d.Serial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Serial(t.Context()); err == nil {
		t.Error("two streams of one line")
	} else {
		wantError(t, err, bmc.Busy, "in use by this service")
	}
	s.with(func(b *ipmitest.BMC) { b.Restart() })
	if _, err := st.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Power(t.Context()); err != nil { // finds out that the BMC has forgotten the session
		t.Fatal(err)
	}
	_, err = st.Read(make([]byte, 10))
	wantError(t, err, bmc.Lost, "does not answer any more")
	if _, err := st.Write([]byte("y")); err == nil {
		t.Error("a dead line takes characters")
	}
	if err := st.Close(); err != nil {
		t.Error(err)
	}
	st, err = d.Serial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Error(err)
	}
	if _, err := st.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("read after Close: %v, want EOF", err)
	}
	if _, err := st.Write([]byte("z")); err != io.ErrClosedPipe {
		t.Errorf("write after Close: %v", err)
	}
}
