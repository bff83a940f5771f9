package sim

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	driver "muster/internal/bmc"
	engine "muster/internal/bmc/ipmi"
	"muster/internal/model"
)

func TestParseFaults(t *testing.T) {
	for _, c := range []struct {
		words string
		want  Faults
		err   string
	}{
		{words: "dead", want: Faults{Dead: true}},
		{words: "dead alive"},
		{words: "drop=30% delay=200ms duplicate=0.05 reorder=1%", want: Faults{Drop: 0.3, Delay: 200 * time.Millisecond, Duplicate: 0.05, Reorder: 0.01}},
		{words: "slow password=wrong firmware=hang", want: Faults{Delay: Slow, Password: true, Hang: true}},
		{words: "password=wrong password=right firmware=hang firmware=ok"},
		{words: "certificate=new drop=1 none certificate=new", want: Faults{Renew: 2}},
		{words: "drop=30 delay=-1s sleepy", err: `"drop=30": "30" is no share: write 5% or 0.05; "delay=-1s": a delay is between 0s and 1m; "sleepy": no such fault`},
		{words: "drop=NaN", err: "no share"},
		{words: "firmware=broken", err: "firmware is ok or hang"},
	} {
		got, err := ParseFaults(Faults{}, strings.Fields(c.words))
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: got %v, want %s", c.words, err, c.err)
			}
			continue
		}
		if err != nil || got != c.want {
			t.Errorf("%s: got %+v %v, want %+v", c.words, got, err, c.want)
		}
	}
}

func FuzzParseFaults(f *testing.F) {
	f.Add("drop=30% delay=200ms dead")
	f.Add("none certificate=new slow")
	f.Fuzz(func(t *testing.T, words string) {
		got, err := ParseFaults(Faults{}, strings.Fields(words))
		if err == nil && !(got.Drop >= 0 && got.Drop <= 1 && got.Delay >= 0) {
			t.Errorf("%q became %+v", words, got)
		}
	})
}

func (b *bmc) driver(e *engine.Engine) driver.Driver {
	return e.Open(driver.Target{Node: "n1", Address: b.address.Addr().String(), Port: int(b.address.Port()), User: "admin", Password: model.NewSecret("secret")})
}

func wantKind(t *testing.T, what string, err error, kind driver.Kind) {
	t.Helper()
	e, ok := errors.AsType[*driver.Error](err)
	if !ok || e.Kind != kind {
		t.Errorf("%s: got %v, want an error of kind %s", what, err, kind)
	}
}

// Faults come and go while the fleet runs, each where it was ordered and nowhere else.
func TestFault_over_IPMI(t *testing.T) {
	f := startFleet(t, Options{IPMI: 20})
	order := func(expr string, words ...string) {
		t.Helper()
		if _, err := f.Fault(expr, words); err != nil {
			t.Fatal(err)
		}
	}
	e, err := engine.New(engine.Options{Waits: []time.Duration{50 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = e.Close() }()
	power := func(i int) error { _, err := f.bmcs[i-1].driver(e).Power(t.Context()); return err }

	order("n[1-2]", "dead")
	wantKind(t, "dead", power(1), driver.Timeout)
	if err := power(3); err != nil {
		t.Errorf("a neighbour of the dead: %v", err)
	}
	order("n1", "alive")
	if err := power(1); err != nil {
		t.Errorf("alive again: %v", err)
	}
	order("n4", "password=wrong")
	wantKind(t, "wrong password", power(4), driver.Refused)
	order("n4", "none")
	if err := power(4); err != nil {
		t.Errorf("the right password again: %v", err)
	}
	order("n5", "delay=300ms")
	begin := time.Now()
	if err := power(5); err != nil || time.Since(begin) < 300*time.Millisecond {
		t.Errorf("delayed: %v after %v", err, time.Since(begin))
	}
	order("n[6-20]", "drop=5%", "duplicate=20%", "reorder=20%")
	for i := 6; i <= 20; i++ {
		if err := power(i); err != nil {
			t.Errorf("n%d on a bad line: %v", i, err)
		}
	}
	if s := f.Status(); s.Dead != 1 || s.Faulty != 16 || s.Dropped == 0 {
		t.Errorf("status: %+v", s)
	}
	if _, err := f.Fault("n21", []string{"dead"}); err == nil || !strings.Contains(err.Error(), "there are n[1-20]") {
		t.Errorf("a node that is not there: %v", err)
	}
	if _, err := f.Fault("n[1-20]", []string{"dead", "sleepy"}); err == nil || f.Status().Dead != 1 {
		t.Errorf("half an order was carried out: %v, %d dead", err, f.Status().Dead)
	}
}

// webClient trusts what it is told to; no certificates: anything.
func webClient(t *testing.T, authority *x509.Certificate) *http.Client {
	c := &tls.Config{InsecureSkipVerify: true} //nolint:gosec // the fleet's
	if authority != nil {
		pool := x509.NewCertPool()
		pool.AddCert(authority)
		c = &tls.Config{RootCAs: pool}
	}
	transport := &http.Transport{TLSClientConfig: c}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 10 * time.Second}
}

// call asks a controller and returns the status, the document and the rest.
func (b *bmc) call(t *testing.T, c *http.Client, method, path, kind string, body []byte) (int, object, *http.Response) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "https://"+b.address.String()+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth("admin", "secret")
	r.Header.Set("Content-Type", kind)
	r.Header.Set("If-Match", "*")
	a, err := c.Do(r)
	if err != nil {
		return 0, nil, nil
	}
	defer func() { _ = a.Body.Close() }()
	data, err := io.ReadAll(a.Body)
	if err != nil {
		t.Fatal(err)
	}
	var doc object
	_ = json.Unmarshal(data, &doc)
	return a.StatusCode, doc, a
}

func TestFault_over_Redfish(t *testing.T) {
	f := startFleet(t, Options{Redfish: 3})
	b := &f.bmcs[0]
	order := func(words ...string) {
		t.Helper()
		if _, err := f.Fault("n1", words); err != nil {
			t.Fatal(err)
		}
	}
	system := b.redfish.profile.systemPath()
	shown := func() string {
		_, _, a := b.call(t, webClient(t, f.web.authority), http.MethodGet, system, "", nil)
		if a == nil {
			return ""
		}
		return a.TLS.PeerCertificates[0].SerialNumber.String()
	}
	first := shown()
	if shown() != first || first == "" {
		t.Error("the certificate changes by itself")
	}
	order("certificate=new")
	if second := shown(); second == first || second == "" {
		t.Errorf("certificate %s became %s", first, second)
	}
	c := webClient(t, nil)
	order("password=wrong")
	if status, _, _ := b.call(t, c, http.MethodGet, system, "", nil); status != http.StatusUnauthorized {
		t.Errorf("wrong password: status %d", status)
	}
	order("none", "delay=200ms")
	begin := time.Now()
	if status, _, _ := b.call(t, c, http.MethodGet, system, "", nil); status != http.StatusOK || time.Since(begin) < 200*time.Millisecond {
		t.Errorf("delayed: status %d after %v", status, time.Since(begin))
	}
	order("none", "drop=100%")
	if status, _, _ := b.call(t, c, http.MethodGet, system, "", nil); status != 0 {
		t.Errorf("broken off: status %d", status)
	}
	order("none", "dead")
	dead := webClient(t, nil)
	dead.Timeout = 200 * time.Millisecond
	if status, _, _ := b.call(t, dead, http.MethodGet, system, "", nil); status != 0 {
		t.Errorf("dead: status %d", status)
	}
	if status, _, _ := f.bmcs[1].call(t, c, http.MethodGet, root, "", nil); status != http.StatusOK {
		t.Errorf("a neighbour of the dead: status %d", status)
	}
}

// form is an upload as DSP0266 has it: parameters and image as parts.
func form(t *testing.T, parameters, image string) (kind string, body []byte) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	_ = w.WriteField("UpdateParameters", parameters)
	part, err := w.CreateFormFile("UpdateFile", "fw.bin")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(part, image)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return w.FormDataContentType(), b.Bytes()
}

// An update goes on, ends, and the version is a new one; a bad image fails half way; one that hangs hangs, and goes on
// when it is let.
func TestFirmware(t *testing.T) {
	f := startFleet(t, Options{Redfish: len(profiles)})
	c := webClient(t, nil)
	for i := range f.bmcs {
		b := &f.bmcs[i]
		p := b.redfish.profile
		t.Run(p.name, func(t *testing.T) {
			upload := func(image string) (string, int) {
				t.Helper()
				kind, body := "application/octet-stream", []byte(image)
				if p.multipart {
					kind, body = form(t, `{"Targets":["/redfish/v1/UpdateService/FirmwareInventory/BIOS"]}`, image)
				}
				status, _, a := b.call(t, c, http.MethodPost, p.update, kind, body)
				if status != http.StatusAccepted {
					t.Fatalf("upload: status %d", status)
				}
				b.hasten(updateTime / 5)
				return a.Header.Get("Location"), status
			}
			task := func(at string) (any, any) {
				_, doc, _ := b.call(t, c, http.MethodGet, at, "", nil)
				return doc["TaskState"], doc["PercentComplete"]
			}
			at, _ := upload("image")
			if state, n := task(at); state != "Running" || n.(float64) < 20 || n.(float64) > 60 {
				t.Errorf("under way: %v %v", state, n)
			}
			b.hasten(updateTime)
			if state, n := task(at); state != "Completed" || n != 100.0 {
				t.Errorf("at the end: %v %v", state, n)
			}
			name, version := "BMC", "2.10.1"
			if p.multipart {
				name, version = "BIOS", "1.4.3"
			}
			if _, doc, _ := b.call(t, c, http.MethodGet, root+"/UpdateService/FirmwareInventory/"+name, "", nil); doc["Version"] != version {
				t.Errorf("%s is %v, want %s", name, doc["Version"], version)
			}
			at, _ = upload("corrupt image")
			b.hasten(updateTime)
			if state, _ := task(at); state != "Exception" {
				t.Errorf("corrupt image: %v", state)
			}
			if _, err := f.Fault(b.machine.name, []string{"firmware=hang"}); err != nil {
				t.Fatal(err)
			}
			at, _ = upload("image")
			b.hasten(time.Hour)
			if state, n := task(at); state != "Running" || n != 40.0 {
				t.Errorf("hanging: %v %v", state, n)
			}
			if _, err := f.Fault(b.machine.name, []string{"none"}); err != nil {
				t.Fatal(err)
			}
			if state, _ := task(at); state != "Completed" {
				t.Errorf("let go: %v", state)
			}
		})
	}
}

// hasten makes tasks older.
func (b *bmc) hasten(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, t := range b.redfish.tasks {
		t.begin = t.begin.Add(-d)
	}
}

// BIOS settings are pending until the machine starts.
func TestBIOS_settings_take_effect_at_the_next_start(t *testing.T) {
	f := startFleet(t, Options{Redfish: len(profiles), Delay: time.Millisecond})
	c := webClient(t, nil)
	for i := range f.bmcs {
		b := &f.bmcs[i]
		p := b.redfish.profile
		b.turn(true)
		now, later := p.systemPath()+"/"+p.bios, p.systemPath()+"/"+p.biosSettings
		name := ""
		for name = range p.biosNames {
			break
		}
		value := func(at string) any {
			_, doc, _ := b.call(t, c, http.MethodGet, at, "", nil)
			return doc["Attributes"].(object)[name]
		}
		body, _ := json.Marshal(object{"Attributes": object{name: "Other"}})
		if status, doc, _ := b.call(t, c, http.MethodPatch, later, "application/json", body); status != http.StatusOK {
			t.Errorf("%s: status %d %v", p.name, status, doc)
		}
		if status, _, _ := b.call(t, c, http.MethodPatch, later, "application/json", []byte(`{"Attributes":{"NoSuch":1}}`)); status != http.StatusBadRequest {
			t.Errorf("%s: an unknown setting: status %d", p.name, status)
		}
		if value(now) == "Other" || value(later) != "Other" {
			t.Errorf("%s before the start: %v, then %v", p.name, value(now), value(later))
		}
		b.call(t, c, http.MethodPost, p.systemPath()+"/Actions/ComputerSystem.Reset", "application/json", []byte(`{"ResetType":"ForceRestart"}`))
		if value(now) != "Other" {
			t.Errorf("%s after the start: %v", p.name, value(now))
		}
	}
}

// Two fleets of one seed are the same: who is dead, what is drawn, which certificates and values they show.
func TestFleet_of_a_seed_is_the_same_again(t *testing.T) {
	see := func(seed uint64) []string {
		o := Options{IPMI: 40, Redfish: 5, Dead: 0.1, Slow: 0.05, Seed: seed, Version15: 0.1}
		o.IPMIPort, o.RedfishPort = 19623, 19443
		o.Prefix, o.User, o.Password, o.First = "n", "admin", model.NewSecret("secret"), after(startAddress, 0)
		f, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.close() }()
		var all []string
		for i := range f.bmcs {
			b := &f.bmcs[i]
			raw, _ := b.machine.value(time.Now(), &sensors[0], true)
			s := fmt.Sprint(b.machine.name, b.faults, b.machine.on, b.model.only15, b.random.Uint64(), raw, b.machine.uuidText())
			if b.redfish != nil {
				s += fmt.Sprintf(" %x", b.redfish.certificate.Certificate[0])
			}
			all = append(all, s)
		}
		return all
	}
	if d := cmp.Diff(see(3), see(3)); d != "" {
		t.Error(d)
	}
	if cmp.Equal(see(3), see(4)) {
		t.Error("another seed makes the same fleet")
	}
}

// Orders go over a unix socket; the commands are its other end.
func TestControl(t *testing.T) {
	f := startFleet(t, Options{IPMI: 10, Redfish: 5})
	socket := filepath.Join(t.TempDir(), "s")
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- f.Control(ctx, socket, "/p") }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	run := func(args ...string) (string, error) {
		var out bytes.Buffer
		c := Command()
		c.SetArgs(append([]string{"--socket", socket}, args...))
		c.SetOut(&out)
		c.SilenceErrors, c.SilenceUsage = true, true
		err := c.ExecuteContext(t.Context())
		return out.String(), err
	}
	eventually(t, "socket", func() bool { _, err := run("status"); return err == nil })
	for _, c := range []struct{ args, out, err string }{
		{args: "fault n[1-3] drop=30% slow", out: "n[1-3]: 3 BMCs\n"},
		{args: "fault n4 sleepy", err: "no such fault"},
		{args: "fault r1 dead", err: "there is no node r1: there are n[1-15]"},
		{args: "fault n1", err: "requires at least 2 arg"},
		{args: "talk n[1-10] 2.5", out: "n[1-10]: 10 BMCs\n"},
		{args: "talk n1 many", err: "no number of lines"},
		{args: "talk n1 -- -1", err: "0 to 1,000,000 lines"},
		{args: "status", out: "10 IPMI, 5 Redfish, seed 7"},
		{args: "status --json", out: `"faulty":3`},
		{args: "nodes", out: fmt.Sprintf("node,bmc.driver,bmc.address,bmc.port,bmc.user,bmc.password,bmc.pin\nn1,ipmi,127.21.0.1,%d,admin,@/p,\n", f.opt.IPMIPort)},
		{args: "nodes", out: fmt.Sprintf("n15,redfish,127.21.0.15,%d,admin,@/p,any\n", f.opt.RedfishPort)},
		{args: "authority", out: "BEGIN CERTIFICATE"},
	} {
		out, err := run(strings.Fields(c.args)...)
		if c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) || c.err == "" && (err != nil || !strings.Contains(out, c.out)) {
			t.Errorf("%s: %q %v, want %q %q", c.args, out, err, c.out, c.err)
		}
	}
	if rate := f.bmcs[0].machine.speech.rate; rate != 2.5 {
		t.Errorf("n1 says %v lines a second", rate)
	}
	if err := f.Control(t.Context(), socket, "/p"); err == nil || !strings.Contains(err.Error(), "runs already") {
		t.Errorf("a second fleet at the socket: %v", err)
	}
}

// The expression that is printed gives the address of every node.
func TestNodeCommands_follow_the_addresses(t *testing.T) {
	f := &Fleet{opt: Options{IPMI: 300, Redfish: 2, Prefix: "n", First: startAddress, IPMIPort: 9623, RedfishPort: 9443, User: "admin"}}
	f.bmcs = make([]bmc, 302)
	want := []string{
		"muster node add 'n[1-300]' bmc.driver=ipmi 'bmc.address=127.21.{n0/256}.{n0%256}' 'bmc.port=9623' bmc.user=admin bmc.password=@/p",
		"muster node add 'n[301-302]' bmc.driver=redfish 'bmc.address=127.21.{n0/256}.{n0%256}' 'bmc.port=9443' bmc.user=admin bmc.password=@/p bmc.pin=any",
	}
	if d := cmp.Diff(want, f.NodeCommands("/p")); d != "" {
		t.Error(d)
	}
	for i := range f.bmcs {
		n := i + 1
		if got, want := f.Address(i).Addr().String(), fmt.Sprintf("127.21.%d.%d", n/256, n%256); got != want || f.at(f.Address(i).Addr()) != &f.bmcs[i] {
			t.Errorf("n%d is at %s, want %s", n, got, want)
		}
	}
	for _, a := range []string{"127.21.0.0", "127.21.1.47", "127.20.0.1", "::1"} {
		if b := f.at(mustAddress(a)); b != nil {
			t.Errorf("%s is node %d", a, b.index)
		}
	}
}

func TestOptions_all_that_is_wrong_is_told(t *testing.T) {
	err := (&Options{IPMI: -1, Dead: 2, First: mustAddress("10.0.0.0"), Profiles: []string{"sun"}}).check()
	for _, want := range []string{"up to 65000", "letters before the number", "user of IPMI", "password has", "share of dead", "127.20.0.0", "no profile sun"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
}

// With a port for each, the controllers of one address are told apart by it, over both protocols.
func TestFleet_by_ports(t *testing.T) {
	const n = 3
	o := Options{IPMI: n, Redfish: n, Ports: true}
	// Ports in a row that are free: some try finds them.
	var f *Fleet
	eventually(t, "row of free ports", func() bool {
		o.IPMIPort, o.RedfishPort = freePorts(t)
		o.Prefix, o.User, o.Password, o.First = "n", "admin", model.NewSecret("secret"), startAddress
		probe, err := New(o)
		if err != nil {
			return false
		}
		_ = probe.close()
		f = startFleet(t, o)
		return true
	})
	e, err := engine.New(engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = e.Close() }()
	c := webClient(t, nil)
	for i := range n {
		b := &f.bmcs[i]
		if got, want := b.address.Port(), o.IPMIPort+uint16(i+1); got != want || b.address.Addr() != startAddress {
			t.Errorf("n%d is at %s, want port %d", i+1, b.address, want)
		}
		b.turn(i%2 == 0)
		if got, err := b.driver(e).Power(t.Context()); err != nil || (got == driver.PowerOn) != (i%2 == 0) {
			t.Errorf("n%d: %s %v", i+1, got, err)
		}
		r := &f.bmcs[n+i]
		if _, doc, _ := r.call(t, c, http.MethodGet, r.redfish.profile.systemPath(), "", nil); doc["SerialNumber"] != r.machine.serial() {
			t.Errorf("n%d is %v, want %s", n+i+1, doc["SerialNumber"], r.machine.serial())
		}
	}
}

// What vendors refuse differs: On of a machine that is on, and reset types that others have.
func TestReset_as_the_vendor_has_it(t *testing.T) {
	for i := range profiles {
		p := &profiles[i]
		b := lone(p)
		b.machine.on = true
		v := view{b, p, testTime}
		want := http.StatusNoContent
		if p.strictOn {
			want = http.StatusConflict
		}
		if a := v.reset("On"); a.status != want {
			t.Errorf("%s: On of a machine that is on: status %d, want %d", p.name, a.status, want)
		}
		for _, kind := range p.resets {
			b.machine.on, b.machine.next = kind != "On" && kind != "ForceOn", nil
			if a := v.reset(kind); a.status != http.StatusNoContent {
				t.Errorf("%s: %s: status %d", p.name, kind, a.status)
			}
		}
		if a := v.reset("FullPowerCycle"); a.status != http.StatusBadRequest {
			t.Errorf("%s: FullPowerCycle: status %d", p.name, a.status)
		}
	}
}
