package redfish

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stmcginnis/gofish"
	"go.uber.org/goleak"

	"muster/internal/bmc"
	"muster/internal/bmc/bmctest"
	"muster/internal/model"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func wantError(t *testing.T, err error, kind bmc.Kind, parts ...string) {
	t.Helper()
	var e *bmc.Error
	if !errors.As(err, &e) || e.Kind != kind {
		t.Fatalf("got %v; want kind %s", err, kind)
	}
	for _, p := range parts {
		if !strings.Contains(e.Error(), p) {
			t.Errorf("got %q; want %q in it", e, p)
		}
	}
	if strings.Contains(e.Error(), secret) {
		t.Errorf("%q shows the password", e)
	}
}

func TestDriver_conforms(t *testing.T) {
	for name, s := range shapes {
		t.Run(name, func(t *testing.T) {
			f := startFake(t, s)
			if name != "older" {
				f.startShell(t)
			}
			passed := bmctest.Run(t.Context(), t, f.open(t, Options{}))
			want := []string{"info", "power status", "power off and on", "power reset", "boot device network, for every boot, uefi", "boot device cd", "identify", "firmware", "inventory"}
			if name != "older" {
				want = append(want, "serial line")
			}
			if name != "small" {
				want = append(want, "sensors", "event log", "clear event log", "settings", "unknown setting")
			}
			for _, w := range want {
				if !slices.Contains(passed, w) {
					t.Errorf("%s did not pass", w)
				}
			}
		})
	}
}

// The simulated controllers are judged by a client that is not ours.
func TestFake_is_taken_by_gofish(t *testing.T) {
	for name, s := range shapes {
		t.Run(name, func(t *testing.T) {
			f := startFake(t, s)
			c, err := gofish.Connect(gofish.ClientConfig{
				Endpoint: f.server.URL, Username: admin, Password: secret, Insecure: true, BasicAuth: s.basic, ReuseConnections: false,
			})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { c.Logout(); c.HTTPClient.CloseIdleConnections() }()
			all, err := c.Service.Systems()
			if err != nil || len(all) != 1 {
				t.Fatalf("%d systems, %v", len(all), err)
			}
			state, err := f.open(t, Options{}).Power(t.Context())
			if err != nil || strings.ToLower(string(all[0].PowerState)) != string(state) {
				t.Errorf("gofish says %q, we say %q, %v", all[0].PowerState, state, err)
			}
		})
	}
}

func TestPower_is_one_request_when_warm(t *testing.T) {
	for name, s := range shapes {
		t.Run(name, func(t *testing.T) {
			f := startFake(t, s)
			d := f.open(t, Options{})
			for range 2 {
				if _, err := d.Power(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			f.asked()
			if _, err := d.Power(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := d.SetPower(t.Context(), bmc.On); err != nil && !s.weak {
				t.Fatal(err)
			}
			got := f.asked()
			want := []string{"GET " + s.system, "POST " + s.system + "/Actions/ComputerSystem.Reset"}
			if len(got) > 2 {
				got = got[:2] // where it is on, the state is looked at after the refusal
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestSession_is_renewed_when_it_has_expired(t *testing.T) {
	f := startFake(t, modern)
	d := f.open(t, Options{})
	for range 3 {
		if _, err := d.Power(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.expire()
	}
	if f.logins != 3 {
		t.Errorf("%d logins; want 3", f.logins)
	}
}

// A controller locks an account after a few wrong passwords: many who ask at once try it once.
func TestSession_wrong_password_is_tried_once_however_many_ask(t *testing.T) {
	f := startFake(t, modern)
	f.delay = 50 * time.Millisecond
	e := startEngine(t, Options{})
	target := f.target()
	target.Password = model.NewSecret("guess")
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			_, err := e.Open(target).Power(t.Context())
			var b *bmc.Error
			if !errors.As(err, &b) || !b.Refused() || strings.Contains(b.Error(), "guess") {
				t.Errorf("got %v; want refused", err)
			}
		})
	}
	all.Wait()
	if f.logins != 1 {
		t.Errorf("%d logins; want 1", f.logins)
	}
	_, err := e.Open(target).Power(t.Context())
	wantError(t, err, bmc.Refused, "refused user admin", "Set bmc.user and bmc.password")
}

func TestSession_ends_with_the_engine_and_when_idle(t *testing.T) {
	f := startFake(t, modern)
	open := func() int {
		f.mu.Lock()
		defer f.mu.Unlock()
		return len(f.tokens)
	}
	e := startEngine(t, Options{Idle: 20 * time.Millisecond})
	if _, err := e.Open(f.target()).Power(t.Context()); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); open() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the idle session is not ended")
		}
	}
	e = startEngine(t, Options{})
	if _, err := e.Open(f.target()).Power(t.Context()); err != nil || open() != 1 {
		t.Fatal(err, open())
	}
	_ = e.Close()
	if open() != 0 {
		t.Error("the session outlives the engine")
	}
	_, err := e.Open(f.target()).Power(t.Context())
	wantError(t, err, bmc.Lost, "stopping")
}

func TestSession_none_free_is_busy(t *testing.T) {
	f := startFake(t, modern)
	f.full = true
	_, err := f.open(t, Options{}).Power(t.Context())
	wantError(t, err, bmc.Busy, "has no free session")
}

func TestCertificate(t *testing.T) {
	f, other := startFake(t, modern), startFake(t, modern)
	roots := x509.NewCertPool()
	roots.AddCert(f.server.Certificate())
	e, trusting := startEngine(t, Options{}), startEngine(t, Options{Roots: roots})
	with := func(e *Engine, pins ...string) error {
		target := f.target()
		target.Pins = pins
		_, err := e.Open(target).Power(t.Context())
		return err
	}
	for name, err := range map[string]error{
		"pinned": with(e, f.pin()), "one of two": with(e, other.pin(), f.pin()), "any": with(e, "any"), "upper case": with(e, "sha256:"+strings.ToUpper(f.pin()[7:])),
		"verified": with(trusting),
	} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	f.logins = 0
	err := with(e, other.pin())
	wantError(t, err, bmc.Refused, f.pin(), other.pin())
	var c *bmc.CertificateError
	if !errors.As(err, &c) || c.Seen != f.pin() {
		t.Errorf("got %#v; want a CertificateError that has seen %s", err, f.pin())
	}
	t.Log(err)
	err = with(e)
	wantError(t, err, bmc.Refused, f.pin(), "is not trusted")
	t.Log(err)
	if f.logins != 0 {
		t.Error("the password was sent to a controller with a wrong certificate")
	}
}

func TestErrors(t *testing.T) {
	f := startFake(t, modern)
	e := startEngine(t, Options{Timeout: 200 * time.Millisecond})
	dead := f.target()
	dead.Address = "127.9.77.77"
	_, err := e.Open(dead).Power(t.Context())
	wantError(t, err, bmc.Timeout, "power status", "does not answer", "connection refused")
	t.Log(err)
	_, err = e.Open(bmc.Target{}).Power(t.Context())
	wantError(t, err, bmc.Invalid, "Set bmc.address")
	none := f.target()
	none.System = "Blade7"
	_, err = e.Open(none).Power(t.Context())
	wantError(t, err, bmc.Invalid, `no system "Blade7"`, "System.Embedded.1", "bmc.system")
	f.with("/redfish/v1/Systems", func(o map[string]any) {
		o["Members"] = append(o["Members"].([]any), map[string]any{"@odata.id": "/redfish/v1/Systems/Blade2"})
	})
	_, err = startEngine(t, Options{}).Open(f.target()).Power(t.Context())
	wantError(t, err, bmc.Invalid, "several systems: Blade2, System.Embedded.1", "bmc.system")
	f.delay = time.Second
	_, err = e.Open(f.target()).Power(t.Context())
	wantError(t, err, bmc.Timeout, "did not answer in time")
}

func TestRaw(t *testing.T) {
	f := startFake(t, older)
	d := f.open(t, Options{})
	got, err := d.Raw(t.Context(), "/redfish/v1/Managers/Self")
	if err != nil || !strings.Contains(got, `"12.61.17"`) {
		t.Errorf("%q %v", got, err)
	}
	if _, err := d.Raw(t.Context(), `post /redfish/v1/Systems/Self/Actions/ComputerSystem.Reset {"ResetType": "ForceOff"}`); err != nil {
		t.Error(err)
	}
	if s := f.value("/redfish/v1/Systems/Self", "PowerState"); s != "Off" {
		t.Errorf("power %v after the raw reset", s)
	}
	_, err = d.Raw(t.Context(), "PATCH /redfish/v1/Systems/Self {oops")
	wantError(t, err, bmc.Invalid, "no JSON")
	_, err = d.Raw(t.Context(), "/redfish/v1/Nothing")
	wantError(t, err, bmc.Unsupported, "There is nothing at")
}

// What is asked goes to the controller that is meant, whatever it answers.
func TestRequest_never_leaves_the_controller(t *testing.T) {
	f := startFake(t, modern)
	other := startFake(t, modern)
	f.with("/redfish/v1/Systems", func(o map[string]any) {
		o["Members"] = []any{map[string]any{"@odata.id": other.server.URL + "/redfish/v1/Systems/System.Embedded.1"}}
	})
	if _, err := f.open(t, Options{}).Power(t.Context()); err != nil {
		t.Error(err)
	}
	f.server.Config.Handler = http.RedirectHandler(other.server.URL, http.StatusTemporaryRedirect)
	_, err := f.open(t, Options{}).Power(t.Context())
	wantError(t, err, bmc.Failed, "was redirected")
	if got := other.asked(); len(got) > 0 {
		t.Errorf("the other controller was asked %q", got)
	}
}

func TestBootDevice_in_the_words_of_the_family(t *testing.T) {
	for _, c := range []struct {
		shape shape
		set   bmc.BootDevice
		want  map[string]any
	}{
		{modern, bmc.BootDevice{Device: "network", Firmware: "uefi"}, map[string]any{"BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": "Pxe", "BootSourceOverrideMode": "UEFI"}},
		{modern, bmc.BootDevice{Device: "disk", Persist: true}, map[string]any{"BootSourceOverrideEnabled": "Continuous", "BootSourceOverrideTarget": "Hdd", "BootSourceOverrideMode": "UEFI"}},
		{older, bmc.BootDevice{Device: "cd", Firmware: "bios"}, map[string]any{"BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": "UsbCd", "BootSourceOverrideMode": "Legacy"}},
		{older, bmc.BootDevice{Device: "default"}, map[string]any{"BootSourceOverrideEnabled": "Disabled", "BootSourceOverrideTarget": "None"}},
	} {
		f := startFake(t, c.shape)
		if err := f.open(t, Options{}).SetBootDevice(t.Context(), c.set); err != nil {
			t.Fatal(err)
		}
		path := c.shape.system
		if c.shape.settings != "" {
			path = c.shape.settings
		}
		got := f.value(path, "Boot").(map[string]any)
		for k, v := range c.want {
			if got[k] != v {
				t.Errorf("%+v: %s is %v; want %v", c.set, k, got[k], v)
			}
		}
	}
	f := startFake(t, modern)
	f.with(modern.system, func(o map[string]any) {
		o["Boot"].(map[string]any)["BootSourceOverrideTarget@Redfish.AllowableValues"] = []any{"None", "Hdd"}
	})
	err := f.open(t, Options{}).SetBootDevice(t.Context(), bmc.BootDevice{Device: "network"})
	wantError(t, err, bmc.Unsupported, "None, Hdd", "Pxe")
}

func TestPower_type_is_chosen_from_those_allowed(t *testing.T) {
	f := startFake(t, older)
	d := f.open(t, Options{})
	if err := d.SetPower(t.Context(), bmc.Cycle); err != nil { // no PowerCycle: ForceRestart
		t.Error(err)
	}
	err := d.SetPower(t.Context(), bmc.Diag)
	wantError(t, err, bmc.Unsupported, "ForceRestart", "Nmi")
}

func TestIdentify_goes_out_after_its_time(t *testing.T) {
	f := startFake(t, older)
	e := startEngine(t, Options{})
	d := e.Open(f.target())
	led := func() any { return f.value("/redfish/v1/Systems/Self", "IndicatorLED") }
	if err := d.Identify(t.Context(), true, time.Hour); err != nil || led() != "Lit" {
		t.Fatal(err, led())
	}
	_ = e.Close()
	if led() != "Off" {
		t.Error("the locator is lit when the engine is gone")
	}
	f = startFake(t, small)
	if err := f.open(t, Options{}).Identify(t.Context(), true, 0); err != nil {
		t.Fatal(err)
	}
	if on := f.value("/redfish/v1/Chassis/chassis", "LocationIndicatorActive"); on != true {
		t.Error("the chassis has no light")
	}
}

// A button does the opposite of what is: it is pressed only when that is what is wanted.
func TestPower_button_is_pressed_only_when_it_helps(t *testing.T) {
	f := startFake(t, modern) // it is off
	f.with(modern.system, func(o map[string]any) {
		o["Actions"].(map[string]any)["#ComputerSystem.Reset"].(map[string]any)["ResetType@Redfish.AllowableValues"] = []any{"On", "ForceOff", "PushPowerButton"}
	})
	d := f.open(t, Options{})
	pressed := func() bool {
		return slices.ContainsFunc(f.asked(), func(r string) bool { return strings.HasPrefix(r, "POST "+modern.system) })
	}
	if err := d.SetPower(t.Context(), bmc.SoftOff); err != nil || pressed() {
		t.Errorf("off: %v, or the button was pressed", err)
	}
	f.with(modern.system, func(o map[string]any) { o["PowerState"] = "On" })
	_ = d.SetPower(t.Context(), bmc.SoftOff) // the fake knows no button
	if !pressed() {
		t.Error("on: the button was not pressed")
	}
}

// A reset whose answer is lost may have been done: it is not sent again, and the error says so.
func TestPower_reset_is_sent_once(t *testing.T) {
	f := startFake(t, older)
	d := f.open(t, Options{})
	if _, err := d.Power(t.Context()); err != nil {
		t.Fatal(err)
	}
	handler := f.server.Config.Handler
	resets := 0
	f.server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			resets++
			panic(http.ErrAbortHandler)
		}
		handler.ServeHTTP(w, r)
	})
	wantError(t, d.SetPower(t.Context(), bmc.Reset), bmc.Timeout, "it may have done it", "Look how it is")
	if resets != 1 {
		t.Errorf("sent %d times", resets)
	}
	if err := d.ResetController(t.Context()); err != nil {
		t.Errorf("a controller that resets does not answer: %v", err)
	}
}

// However much is asked at once, one controller has few connections, and power does not wait behind an inventory.
func TestConnections_are_bounded(t *testing.T) {
	f := startFake(t, older, "0.0.0.0:0")
	port := f.target().Port
	e := startEngine(t, Options{PerBMC: 3, Connections: 8})
	var all sync.WaitGroup
	for i := range 24 {
		target := f.target()
		target.Address, target.Port = fmt.Sprintf("127.60.0.%d", 1+i), port
		all.Go(func() {
			var each sync.WaitGroup
			for range 6 {
				each.Go(func() {
					if _, err := e.Open(target).Power(t.Context()); err != nil {
						t.Error(err)
					}
				})
			}
			each.Wait()
		})
	}
	all.Wait()
	f.conns.mu.Lock()
	defer f.conns.mu.Unlock()
	for host, n := range f.conns.most {
		if host != "" && n > 3 {
			t.Errorf("%d connections to %s; want 3 at most", n, host)
		}
	}
	// The server learns of a closed connection a little after the engine has let go of it.
	if n := f.conns.most[""]; len(f.conns.most) != 1+24 || n > 2*8 {
		t.Errorf("%d controllers, %d connections at most; want 24 and about 8", len(f.conns.most)-1, n)
	}
	if n := len(e.slots); n > 8 {
		t.Errorf("%d connections are counted; want 8 at most", n)
	}
}

func TestQuirks(t *testing.T) {
	for _, c := range []struct {
		root serviceRoot
		want string
	}{
		{serviceRoot{Vendor: "Dell Inc."}, "console com2"},
		{serviceRoot{Vendor: "HPE"}, "vsp"},
		{serviceRoot{Oem: map[string]json.RawMessage{"Hp": nil}}, "vsp"},
		{serviceRoot{Vendor: "Supermicro", Oem: map[string]json.RawMessage{"Ami": nil}}, "cd system1/sol1\rstart"},
		{serviceRoot{Vendor: "Nobody"}, ""},
	} {
		if got := quirkOf(c.root).serial; got != c.want {
			t.Errorf("%+v: got %q; want %q", c.root, got, c.want)
		}
	}
}

// A controller of several systems is one session: each node has its own.
func TestSystem_is_chosen_by_its_id(t *testing.T) {
	f := startFake(t, modern)
	f.mu.Lock()
	f.tree["/redfish/v1/Systems"]["Members"] = append(f.tree["/redfish/v1/Systems"]["Members"].([]any), map[string]any{"@odata.id": "/redfish/v1/Systems/Blade2"})
	f.tree["/redfish/v1/Systems/Blade2"] = map[string]any{"@odata.id": "/redfish/v1/Systems/Blade2", "Id": "Blade2", "PowerState": "On"}
	f.mu.Unlock()
	e := startEngine(t, Options{})
	for id, want := range map[string]bmc.PowerState{"System.Embedded.1": bmc.PowerOff, "Blade2": bmc.PowerOn} {
		target := f.target()
		target.System = id
		if got, err := e.Open(target).Power(t.Context()); err != nil || got != want {
			t.Errorf("%s: %q %v; want %s", id, got, err, want)
		}
	}
	if f.logins != 1 {
		t.Errorf("%d logins; want 1", f.logins)
	}
}

func TestRetryAfter(t *testing.T) {
	for said, want := range map[string]time.Duration{"": 0, "7": 7 * time.Second, "-1": 0, "99999": 5 * time.Minute, "Wed, 21 Oct 2026 07:28:00 GMT": 0} {
		a := answer{header: http.Header{"Retry-After": {said}}}
		if got := a.retryAfter(); got != want {
			t.Errorf("%q: got %s; want %s", said, got, want)
		}
	}
	f := startFake(t, modern)
	f.server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "30")
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	_, err := f.open(t, Options{}).Power(t.Context())
	wantError(t, err, bmc.Busy, "Try again in 30s")
}
