package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"muster/internal/api"
	"muster/internal/bmc"
	"muster/internal/model"
)

// talkers stand in for bmc.driver=redfish: controllers that say something in every field that there is.
type talkers struct {
	mu   sync.Mutex
	asks int
}

func (t *talkers) open(bmc.Target) bmc.Driver { return &talker{bmc.Incapable{Protocol: "talker"}, t} }

type talker struct {
	bmc.Incapable
	t *talkers
}

func (*talker) Power(context.Context) (bmc.PowerState, error) { return bmc.PowerOn, nil }

func (*talker) SetPower(context.Context, bmc.Action) error { return nil }

func (*talker) BootDevice(context.Context) (bmc.BootDevice, error) {
	return bmc.BootDevice{Device: "disk", Persist: true, Firmware: "uefi"}, nil
}

func (*talker) Info(context.Context) (bmc.Info, error) {
	return bmc.Info{Protocol: "p", Vendor: "v", Model: "m", Firmware: "f", MAC: "00:00:00:00:00:01", Address: "10.0.0.1", GUID: "g", Machine: "m", Serial: "s", Session: "s"}, nil
}

func (*talker) SetBootDevice(context.Context, bmc.BootDevice) error { return nil }

func (*talker) Identify(context.Context, bool, time.Duration) error { return nil }

func (*talker) Sensors(context.Context) ([]bmc.Sensor, error) {
	v := 1.5
	return []bmc.Sensor{{Name: "n", Kind: "fan", Value: &v, Unit: "RPM", State: "s", Health: bmc.Critical, LowCritical: &v, LowWarning: &v, HighWarning: &v, HighCritical: &v}}, nil
}

func (*talker) EventLog(context.Context) ([]bmc.LogEntry, error) {
	return []bmc.LogEntry{{ID: "1", Time: time.Unix(1, 0), Sensor: "s", Kind: "k", Text: "t", Health: bmc.Warning, Over: true}}, nil
}

func (*talker) ClearEventLog(context.Context) error { return nil }

// Inventory has another firmware and another DIMM at each reading.
func (d *talker) Inventory(context.Context) ([]bmc.Part, error) {
	d.t.mu.Lock()
	defer d.t.mu.Unlock()
	d.t.asks++
	return []bmc.Part{
		{
			Slot: "s", Kind: "port", Vendor: "v", Model: "m", Serial: "s", Number: "n", Firmware: fmt.Sprint(d.t.asks), MAC: "m", WWN: "w",
			Bytes: 1, Cores: 1, Threads: 1, Mbps: 1, Health: bmc.OK, Other: map[string]string{"asset tag": "a"},
		},
		{Slot: fmt.Sprintf("DIMM %d", d.t.asks), Kind: "memory"},
	}, nil
}

func (*talker) Settings(context.Context) ([]bmc.Setting, error) {
	return []bmc.Setting{{Name: "n", Value: "v", Fixed: true, Pending: "p"}}, nil
}

func (*talker) Set(context.Context, []bmc.Setting) ([]string, error) { return []string{"n"}, nil }

func (*talker) ResetController(context.Context) error { return nil }

func (*talker) Firmware(context.Context) ([]bmc.Firmware, error) {
	return []bmc.Firmware{{Name: "n", Version: "v", Updatable: true}}, nil
}

func (*talker) Raw(context.Context, string) (string, error) { return "00", nil }

var day = time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)

func dimm(slot, serial string) model.Part {
	return model.Part{Slot: slot, Kind: "memory", Vendor: "V", Model: "M", Serial: serial, Bytes: 32 << 30}
}

func TestRecord_says_what_changed_between_two_readings(t *testing.T) {
	a, b := dimm("DIMM 1", "a"), dimm("DIMM 2", "b")
	cpu := model.Part{Slot: "CPU 1", Kind: "cpu", Model: "X", Cores: 8, Firmware: "1"}
	with := func(p model.Part, do func(*model.Part)) model.Part { do(&p); return p }
	empty := model.Part{Slot: "DIMM 2", Kind: "memory", Health: model.HealthAbsent}
	for name, tt := range map[string]struct {
		was, is []model.Part
		off     bool
		want    []string
		unseen  int
	}{
		"nothing":                    {[]model.Part{a, b}, []model.Part{b, a}, false, nil, 0},
		"vanished":                   {[]model.Part{a, b}, []model.Part{a}, false, []string{"DIMM 2 missing: V M 32 GiB serial b"}, 0},
		"an empty slot":              {[]model.Part{a, b}, []model.Part{a, empty}, false, []string{"DIMM 2 missing: V M 32 GiB serial b"}, 0},
		"an empty slot filled":       {[]model.Part{a, empty}, []model.Part{a, b}, false, []string{"DIMM 2 added: V M 32 GiB serial b"}, 0},
		"an empty slot stays":        {[]model.Part{a, empty}, []model.Part{a, empty}, false, nil, 0},
		"added":                      {[]model.Part{a}, []model.Part{a, b}, false, []string{"DIMM 2 added: V M 32 GiB serial b"}, 0},
		"replaced":                   {[]model.Part{a}, []model.Part{dimm("DIMM 1", "c")}, false, []string{"DIMM 1 replaced: V M 32 GiB serial a -> V M 32 GiB serial c"}, 0},
		"firmware":                   {[]model.Part{cpu}, []model.Part{with(cpu, func(p *model.Part) { p.Firmware = "2" })}, false, []string{"CPU 1 changed: firmware 1 -> firmware 2"}, 0},
		"fewer cores, and ill":       {[]model.Part{with(cpu, func(p *model.Part) { p.Health = "ok" })}, []model.Part{with(cpu, func(p *model.Part) { p.Cores, p.Health = 7, "critical" })}, false, []string{"CPU 1 changed: cores 8, health ok -> cores 7, health critical"}, 0},
		"tells more than before":     {[]model.Part{{Slot: "CPU 1", Kind: "cpu"}}, []model.Part{cpu}, false, nil, 0},
		"off: what is not seen":      {[]model.Part{a, b, cpu}, []model.Part{with(cpu, func(p *model.Part) { p.Firmware, p.Cores = "", 0 })}, true, nil, 2},
		"off: what is seen all same": {[]model.Part{a}, []model.Part{dimm("DIMM 1", "c")}, true, []string{"DIMM 1 replaced: V M 32 GiB serial a -> V M 32 GiB serial c"}, 0},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			first, none, _ := (&stocked{}).compare(tt.was, day, false)
			if len(none) > 0 {
				t.Errorf("the first reading has changes: %v", none)
			}
			old := stocked{first, day}
			next, changes, unseen := old.compare(tt.is, day.Add(time.Hour), tt.off)
			var got []string
			for _, c := range changes {
				got = append(got, c.String())
				if !c.Time.Equal(day.Add(time.Hour)) || !c.Before.Equal(day) {
					t.Errorf("between %v and %v", c.Before, c.Time)
				}
			}
			if d := cmp.Diff(tt.want, got); d != "" || unseen != tt.unseen {
				t.Errorf("unseen %d, want %d; changes (-want +got):\n%s", unseen, tt.unseen, d)
			}
			// Read on, with all that was there before: what is missing is back, and nothing else of it was forgotten.
			mended := stocked{next, day.Add(time.Hour)}
			back, _, _ := mended.compare(tt.was, day.Add(2*time.Hour), false)
			for _, p := range tt.was {
				if p.Health == model.HealthAbsent {
					continue
				}
				if i := slices.IndexFunc(back.Parts, func(q api.NodePart) bool { return q.Slot == p.Slot }); i < 0 || !back.Parts[i].Missing.IsZero() {
					t.Errorf("%s is not back: %v", p.Slot, back.Parts)
				}
			}
		})
	}
}

func TestRecord_keeps_since_when_a_part_is_missing(t *testing.T) {
	r := stocked{}
	at := day
	read := func(parts ...model.Part) []api.PartChange {
		at = at.Add(time.Hour)
		next, changes, _ := r.compare(parts, at, false)
		r = stocked{next, at}
		return changes
	}
	a, b := dimm("DIMM 1", "a"), dimm("DIMM 2", "b")
	read(a, b)
	read(a)
	since := at
	for range 3 {
		if c := read(a); len(c) > 0 {
			t.Errorf("told again: %v", c)
		}
	}
	if got := r.Parts[1].Missing; !got.Equal(since) {
		t.Errorf("missing since %v, want %v", got, since)
	}
	if c := read(a, dimm("DIMM 2", "c")); len(c) != 1 || c[0].Did != "replaced" {
		t.Errorf("another part in its place: %v", c)
	}
	read(a)
	if c := r.accept(at); len(c) != 1 || len(r.Parts) != 1 {
		t.Errorf("accepted %v, left %v", c, r.Parts)
	}
	if c := read(a); len(c) > 0 {
		t.Errorf("missed after it was taken for gone: %v", c)
	}
}

func TestRecord_is_read_as_it_was_packed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r record
		for i := range rapid.IntRange(0, 20).Draw(t, "parts") {
			p := api.NodePart{Part: dimm(fmt.Sprint("DIMM ", i), rapid.String().Draw(t, "serial"))}
			if rapid.Bool().Draw(t, "missing") {
				p.Missing = day
			}
			r.Parts = append(r.Parts, p)
		}
		hw, err := r.pack(day)
		if err != nil {
			t.Fatal(err)
		}
		got, err := unpackRecord(hw)
		if err != nil {
			t.Fatal(err)
		}
		want, _ := json.Marshal(r)
		have, _ := json.Marshal(got.record)
		if string(have) != string(want) || !got.read.Equal(day) {
			t.Errorf("got %s of %v, want %s", have, got.read, want)
		}
	})
}

func FuzzUnpackRecord(f *testing.F) {
	hw, err := (&record{Parts: []api.NodePart{{Part: dimm("DIMM 1", "a")}}}).pack(day)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(hw.Packed)
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := unpackRecord(&model.Hardware{Read: day, Packed: b})
		var e *api.Error
		if err != nil && !errors.As(err, &e) {
			t.Fatalf("an error that says nothing: %v", err)
		}
		if err == nil {
			next, _, _ := r.compare([]model.Part{dimm("DIMM 1", "a")}, day.Add(time.Hour), false)
			if len(next.Parts) == 0 {
				t.Error("what was read is not in the record")
			}
		}
	})
}

func TestInventory_is_kept_when_something_else_is_observed(t *testing.T) {
	data := shortDir(t)
	s := start(t, data)
	s.add("h1", attr("bmc.driver", "redfish"), attr("bmc.address", "10.78.0.1"), attr("console.record", "false"))
	s.must("/v1/inventory", api.Inventory{Range: api.Range{Range: "h1"}}, nil)
	s.must("/v1/inventory", api.Inventory{Range: api.Range{Range: "h1"}}, nil)
	s.srv.sawPower("h1", "off")
	s.srv.sawPower("h1", "on")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := s.srv.store.Wait(ctx, func(snap *model.Snapshot) bool {
		st := snap.State("h1")
		return st != nil && st.Hardware != nil && st.Power == "on"
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	s = start(t, data)
	r, err := s.srv.hardware("h1")
	if err != nil {
		t.Fatal(err)
	}
	var did []string
	for _, c := range r.Changes {
		did = append(did, c.Did)
	}
	if d := cmp.Diff([]string{"missing", "added", "changed"}, did); d != "" {
		t.Errorf("after a restart (-want +got):\n%s", d)
	}
}

func TestSettings_of_a_request_keep_secrets(t *testing.T) {
	got, err := settings([]api.Assignment{
		{Attr: "lan.gateway", Value: "10.0.0.1"}, {Attr: "user.2.password", Value: "hidden"}, {Attr: "x", Secret: &api.SecretValue{Plain: "hidden"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if text := fmt.Sprintf("%+v", got); strings.Contains(text, "hidden") {
		t.Error(text)
	}
	if got[0].Secret != nil || got[1].Secret.Reveal() != "hidden" || got[2].Secret.Reveal() != "hidden" {
		t.Errorf("%+v", got)
	}
	for _, bad := range [][]api.Assignment{nil, {{Attr: "password", Value: ""}}, {{Attr: "a", Op: "+=", Value: "1"}}} {
		if _, err := settings(bad); err == nil {
			t.Errorf("%v is taken", bad)
		}
	}
}

// BenchmarkRecord is what keeping the record of one machine of 60 parts costs: read, compare, pack.
func BenchmarkRecord(b *testing.B) {
	var parts []model.Part
	for i := range 60 {
		parts = append(parts, dimm(fmt.Sprintf("DIMM %d", i), fmt.Sprintf("%08X", i*2654435761)))
	}
	first, _, _ := (&stocked{}).compare(parts, day, false)
	hw, err := first.pack(day)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ReportMetric(float64(len(hw.Packed)), "octets")
	for b.Loop() {
		r, err := unpackRecord(hw)
		if err != nil {
			b.Fatal(err)
		}
		next, _, _ := r.compare(parts, day, false)
		if _, err := next.pack(day); err != nil {
			b.Fatal(err)
		}
	}
}
