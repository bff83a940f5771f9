package redfish

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"muster/internal/bmc"
	"muster/internal/model"
)

func ptr[T any](v T) *T { return &v }

func TestInfo(t *testing.T) {
	for name, want := range map[string]bmc.Info{
		"modern": {
			Protocol: "redfish 1.18.0", Vendor: "Dell", Model: "17G", Firmware: "7.10.30", MAC: "02:00:00:00:00:aa", Address: "10.1.1.7",
			GUID: "4c4c4544-0001-0002-0003-000000000004", Machine: "Rackmaker R7", Serial: "SN0001", Session: "session",
		},
		"older": {
			Protocol: "redfish 1.5.0", Vendor: "Boardmaker", Model: "2500", Firmware: "12.61.17", MAC: "02:00:00:00:00:bb", Address: "10.1.1.8",
			GUID: "00112233-4455-6677-8899-aabbccddeeff", Machine: "Boardmaker B2", Session: "session",
		},
		"small": {Protocol: "redfish 1.15.0", Vendor: "OpenBMC", Model: "OpenBmc Manager", Firmware: "2.14", Session: "basic"},
	} {
		got, err := startFake(t, shapes[name]).open(t, Options{}).Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestSensors(t *testing.T) {
	for name, want := range map[string][]bmc.Sensor{
		"modern": {
			{Name: "Inlet Temp", Kind: "temperature", Value: ptr(21.5), Unit: "°C", Health: bmc.OK, LowCritical: ptr(-7.0), LowWarning: ptr(3.0), HighWarning: ptr(38.0), HighCritical: ptr(42.0)},
			{Name: "Fan 1", Kind: "fan", Value: ptr(34.0), Unit: "%", Health: bmc.OK},
			{Name: "System Power", Kind: "power", Value: ptr(312.0), Unit: "W", Health: bmc.OK},
			{Name: "CPU Temp", Kind: "temperature", Unit: "°C", Health: bmc.Absent},
		},
		"older": {
			{Name: "CPU0_TEMP", Kind: "temperature", Value: ptr(95.0), Unit: "°C", Health: bmc.Warning, HighWarning: ptr(90.0), HighCritical: ptr(100.0)},
			{Name: "SYS_FAN1", Kind: "fan", Value: ptr(4200.0), Unit: "RPM", Health: bmc.OK, LowCritical: ptr(600.0)},
			{Name: "P12V", Kind: "voltage", Value: ptr(12.05), Unit: "V", Health: bmc.OK},
			{Name: "Chassis Power", Kind: "power", Value: ptr(210.0), Unit: "W", Health: bmc.Unknown},
			{Name: "PSU1", Kind: "power", Value: ptr(105.0), Unit: "W", Health: bmc.OK},
			{Name: "PSU2", Kind: "power", Unit: "W", Health: bmc.Absent},
		},
	} {
		f := startFake(t, shapes[name])
		d := f.open(t, Options{})
		got, err := d.Sensors(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		f.asked()
		if _, err := d.Sensors(t.Context()); err != nil {
			t.Fatal(err)
		}
		most := map[string]int{"modern": 2, "older": 4}[name] // chassis, and the collection with its members, or Thermal and Power
		if n := len(f.asked()); n > most {
			t.Errorf("%s: %d requests when warm; want at most %d", name, n, most)
		}
	}
}

func TestEventLog(t *testing.T) {
	central := time.FixedZone("", -6*3600)
	for name, want := range map[string][]bmc.LogEntry{
		"modern": {
			{ID: "1", Time: time.Date(2026, 3, 1, 4, 5, 6, 0, central), Sensor: "Fan1", Kind: "fan", Text: "Fan 1 has failed.", Health: bmc.Critical},
			{ID: "2", Time: time.Date(2026, 3, 2, 4, 5, 6, 0, central), Kind: "fan", Text: "Fan 1 runs again.", Health: bmc.OK, Over: true},
		},
		"older": {
			{ID: "1", Text: "The clock was not set.", Health: bmc.Warning},
			{ID: "2", Time: time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC), Text: "PSU 2 lost its input.", Health: bmc.Critical},
			{ID: "3", Time: time.Date(2026, 2, 1, 0, 0, 1, 0, time.UTC), Text: "PSU 2 has input again.", Health: bmc.OK},
			{ID: "4", Time: time.Date(2026, 2, 2, 0, 0, 1, 0, time.UTC), Text: "Power button pressed.", Health: bmc.OK},
			{ID: "10", Time: time.Date(2026, 2, 3, 0, 0, 1, 0, time.UTC), Text: "OS boot.", Health: bmc.Unknown},
		},
	} {
		d := startFake(t, shapes[name]).open(t, Options{})
		got, err := d.EventLog(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateApproxTime(0)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if err := d.ClearEventLog(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func TestInventory(t *testing.T) {
	for name, want := range map[string][]bmc.Part{
		"modern": {
			{Slot: "BMC", Kind: "bmc", Model: "17G", Firmware: "7.10.30"},
			{Slot: "CPU.Socket.1", Kind: "cpu", Vendor: "Chipmaker", Model: "Chip 9", Cores: 32, Threads: 64, Health: bmc.OK, Other: map[string]string{"speed": "3500 MHz"}},
			{Slot: "DIMM A1", Kind: "memory", Vendor: "Dimmaker", Serial: "M1", Number: "MP-1", Bytes: 32 << 30, Health: bmc.OK, Other: map[string]string{"speed": "4800 MHz", "type": "DDR5"}},
			{
				Slot: "Disk.0", Kind: "disk", Model: "SSD1", Serial: "D1", Firmware: "D3", WWN: "5000c500a1b2c3d4", Bytes: 960197124096, Health: bmc.OK,
				Other: map[string]string{"type": "SSD", "protocol": "SAS"},
			},
			{Slot: "GPU 82-0", Kind: "gpu", Model: "G100", Serial: "G2"},
			{Slot: "GPU.1", Kind: "gpu", Vendor: "Cardmaker", Model: "G100", Serial: "G1", Firmware: "96.0", Health: bmc.Warning},
			{Slot: "NIC.1", Kind: "nic", Vendor: "Cardmaker", Model: "E810", Serial: "N1", Firmware: "4.20"},
			{Slot: "NIC.1 port 1", Kind: "port", MAC: "02:00:00:00:0a:01", Mbps: 25000, Other: map[string]string{"link": "linkup"}},
			{Slot: "NIC.1 port 2", Kind: "port", MAC: "02:00:00:00:0a:02", Other: map[string]string{"link": "linkdown"}},
			{Slot: "PCIe 59-0", Kind: "pcie", Vendor: "Cardmaker", Model: "Ethernet Controller", Firmware: "22.1", Health: bmc.OK},
			{Slot: "PCIe 7-0", Kind: "pcie", Model: "Screen of the BMC"},
			{Slot: "PSU.1", Kind: "power", Model: "P800", Serial: "P1", Firmware: "0.1", Health: bmc.OK, Other: map[string]string{"capacity": "800 W"}},
			{Slot: "chassis System.Embedded.1", Kind: "chassis", Health: bmc.OK, Other: map[string]string{"type": "RackMount"}},
			{
				Slot: "machine", Kind: "machine", Vendor: "Rackmaker", Model: "R7", Serial: "SN0001", Number: "TAG0001", Firmware: "2.19.1",
				Other: map[string]string{"uuid": "4c4c4544-0001-0002-0003-000000000004"},
			},
			{Slot: "storage RAID.1", Kind: "storage", Model: "H900", Firmware: "52.1", Health: bmc.OK},
		},
		"older": {
			{Slot: "BMC", Kind: "bmc", Model: "2500", Firmware: "12.61.17"},
			{Slot: "CPU0", Kind: "cpu", Model: "Chip 5", Cores: 16, Threads: 32, Health: bmc.OK},
			{Slot: "CPU1", Kind: "cpu", Model: "Chip 5", Cores: 16, Threads: 32, Health: bmc.OK},
			{Slot: "DIMM P0_A0", Kind: "memory", Serial: "S1", Bytes: 16 << 30, Health: bmc.OK},
			{Slot: "DIMM P0_A0 #2", Kind: "memory", Serial: "S2", Bytes: 16 << 30},
			{Slot: "Disk 1", Kind: "disk", Model: "HDD1", Bytes: 1000204886016},
			{Slot: "NIC eth0", Kind: "port", MAC: "02:00:00:00:0b:01", Mbps: 10000, Other: map[string]string{"link": "linkup"}},
			{Slot: "PSU 0", Kind: "power", Serial: "PS1", Health: bmc.OK, Other: map[string]string{"capacity": "800 W"}},
			{Slot: "chassis Self", Kind: "chassis", Vendor: "Boardmaker", Serial: "C1"},
			{Slot: "machine", Kind: "machine", Vendor: "Boardmaker", Model: "B2", Firmware: "F12", Other: map[string]string{"uuid": "00112233-4455-6677-8899-aabbccddeeff"}},
		},
	} {
		got, err := startFake(t, shapes[name]).open(t, Options{}).Inventory(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// A list with a part missing would look whole: trouble with one part is trouble, and only what is said not to be there is left out.
func TestInventory_is_whole_or_an_error(t *testing.T) {
	f := startFake(t, older)
	d := f.open(t, Options{})
	handler := f.server.Config.Handler
	f.server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/Memory/2") {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		handler.ServeHTTP(w, r)
	})
	_, err := d.Inventory(t.Context())
	wantError(t, err, bmc.Failed, "500")
}

func TestExpand_that_fails_is_done_without(t *testing.T) {
	f := startFake(t, modern)
	handler := f.server.Config.Handler
	f.server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("$expand") {
			w.WriteHeader(http.StatusNotImplemented)
			return
		}
		handler.ServeHTTP(w, r)
	})
	got, err := f.open(t, Options{}).Sensors(t.Context())
	if err != nil || len(got) != 4 {
		t.Errorf("%d sensors, %v", len(got), err)
	}
}

func TestSettings_are_read_back(t *testing.T) {
	f := startFake(t, modern)
	d := f.open(t, Options{})
	read := func() map[string]bmc.Setting {
		all, err := d.Settings(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		m := map[string]bmc.Setting{}
		for _, s := range all {
			m[s.Name] = s
		}
		return m
	}
	before := read()
	for name, want := range map[string]string{
		"lan.address": "10.1.1.7", "lan.netmask": "255.255.0.0", "lan.gateway": "10.1.0.1", "lan.source": "static", "lan.mac": "02:00:00:00:00:aa", "lan.vlan": "off",
		"dns.servers": "10.1.0.2", "host.name": "bmc-7", "ntp.enabled": "false", "service.ssh": "true", "service.ipmi": "false", "user.2.name": "admin",
		"user.2.role": "Administrator", "bios.BootMode": "Uefi", "bios.ProcCores": "8", "bios.SriovGlobalEnable": "false", "tls.certificate": f.pin(),
	} {
		if before[name].Value != want {
			t.Errorf("%s is %q; want %q", name, before[name].Value, want)
		}
	}
	pending, err := d.Set(t.Context(), []bmc.Setting{
		{Name: "bios.BootMode", Value: "Bios"},
		{Name: "bios.ProcCores", Value: "16"},
		{Name: "bios.SriovGlobalEnable", Value: "true"},
		{Name: "ntp.enabled", Value: "true"},
		{Name: "ntp.servers", Value: "10.1.0.3,10.1.0.4"},
		{Name: "service.ipmi", Value: "on"},
		{Name: "lan.gateway", Value: "10.1.0.9"},
		{Name: "lan.vlan", Value: "20"},
		{Name: "user.new.name", Value: "muster"},
		{Name: "user.new.role", Value: "Operator"},
		{Name: "user.new.password", Secret: ptr(model.NewSecret("pw"))},
	})
	if err != nil || !slices.Equal(pending, []string{"bios.BootMode", "bios.ProcCores", "bios.SriovGlobalEnable"}) {
		t.Errorf("pending %q, %v", pending, err)
	}
	after := read()
	if s := after["bios.BootMode"]; s.Value != "Uefi" || s.Pending != "Bios" {
		t.Errorf("%+v", s)
	}
	if got := f.value("/redfish/v1/AccountService/Accounts/3"); got.(map[string]any)["Password"] != "pw" || after["user.3.name"].Value != "muster" {
		t.Errorf("the new user is %v", got)
	}
	if v := f.value("/redfish/v1/Systems/System.Embedded.1/Bios/Settings", "@Redfish.SettingsApplyTime", "ApplyTime"); v != "OnReset" {
		t.Errorf("apply time %v", v)
	}

	f.asked()
	_, err = d.Set(t.Context(), []bmc.Setting{
		{Name: "bios.NoSuch", Value: "1"},
		{Name: "lan.vlan", Value: "5000"},
		{Name: "lan.mac", Value: "x"},
		{Name: "service.ssh", Value: "maybe"},
		{Name: "user.9.name", Value: "x"},
		{Name: "user.2.password", Value: "plain"},
	})
	wantError(t, err, bmc.Invalid, "bios.NoSuch is no attribute", "lan.vlan is off, or a number", "lan.mac cannot be set", "service.ssh is true or false", "user.9.name is of no user", "user.2.password is a secret")
	if slices.ContainsFunc(f.asked(), func(r string) bool { return strings.HasPrefix(r, "PATCH") }) {
		t.Error("something was sent although the request was wrong")
	}
}

func TestSet_that_does_not_take_says_so(t *testing.T) {
	f := startFake(t, older)
	d := f.open(t, Options{})
	if _, err := d.Set(t.Context(), []bmc.Setting{{Name: "host.name", Value: "new-8"}, {Name: "bios.HYP", Value: "false"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Set(t.Context(), []bmc.Setting{{Name: "user.new.name", Value: "helper"}, {Name: "user.new.password", Secret: ptr(model.NewSecret("pw"))}}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Set(t.Context(), []bmc.Setting{{Name: "user.helper.name"}}); err != nil {
		t.Fatal(err)
	}
	handler := f.server.Config.Handler
	f.server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPatch {
			w.WriteHeader(http.StatusNoContent) // and does nothing
			return
		}
		handler.ServeHTTP(w, r)
	})
	_, err := d.Set(t.Context(), []bmc.Setting{{Name: "host.name", Value: "other"}})
	wantError(t, err, bmc.Failed, `host.name is "new-8" and not "other"`)
}

func TestSet_without_the_time_that_is_offered_and_refused(t *testing.T) {
	s := modern
	s.noTimes = true
	pending, err := startFake(t, s).open(t, Options{}).Set(t.Context(), []bmc.Setting{{Name: "bios.BootMode", Value: "Bios"}})
	if err != nil || !slices.Equal(pending, []string{"bios.BootMode"}) {
		t.Errorf("pending %q, %v", pending, err)
	}
}

func TestMedia(t *testing.T) {
	for name, drive := range map[string]string{"modern": "1", "older": "CD1"} {
		d := startFake(t, shapes[name]).open(t, Options{}).(bmc.VirtualMedia)
		for _, url := range []string{"http://10.1.0.1/a.iso", "http://10.1.0.1/b.iso"} { // the second takes out the first
			if err := d.InsertMedia(t.Context(), "", bmc.Medium{URL: url}); err != nil {
				t.Fatal(name, err)
			}
			all, err := d.Media(t.Context())
			if err != nil || all[0].Name != drive || all[0].Image != url {
				t.Errorf("%s: %+v %v", name, all, err)
			}
		}
		if err := d.EjectMedia(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		if all, err := d.Media(t.Context()); err != nil || all[0].Image != "" {
			t.Errorf("%s: %+v %v", name, all, err)
		}
		err := d.InsertMedia(t.Context(), "Floppy9", bmc.Medium{URL: "http://10.1.0.1/a.iso"})
		wantError(t, err, bmc.Invalid, "The drives are: "+drive)
	}
}

func TestFirmware(t *testing.T) {
	want := []bmc.Firmware{
		{Name: "BIOS", Version: "2.19.1", Updatable: true}, {Name: "NIC (Installed-NIC.1)", Version: "22.1", Updatable: true}, {Name: "NIC (Installed-NIC.2)", Version: "22.1"},
	}
	got, err := startFake(t, modern).open(t, Options{}).Firmware(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// update is a firmware image of 100,000 octets, and what is told of its way.
func update(targets ...string) (bmc.Update, *[]string) {
	said := &[]string{}
	content := bytes.Repeat([]byte("firmware! "), 10_000)
	return bmc.Update{
		Image: bytes.NewReader(content), Name: "dir/bios.bin", Size: int64(len(content)), Targets: targets,
		Progress: func(step string, percent int) { *said = append(*said, fmt.Sprintf("%s %d", step, percent)) },
	}, said
}

func taskState(state string, percent int, messages ...string) map[string]any {
	var all []any
	for _, m := range messages {
		all = append(all, map[string]any{"MessageId": "Update.1.0." + m, "Message": m + "."})
	}
	return map[string]any{
		"@odata.id": "/redfish/v1/TaskService/Tasks/1", "@odata.type": "#Task.v1_7_0.Task", "TaskState": state, "TaskStatus": "OK", "PercentComplete": percent, "Messages": all,
	}
}

func TestUpdate_multipart_follows_the_monitor(t *testing.T) {
	f := startFake(t, modern)
	f.task = func(polls int) (int, map[string]any) {
		return []int{202, 202, 200}[min(polls-1, 2)], []map[string]any{taskState("Running", 30), taskState("Running", 60), taskState("Completed", 100, "ResetRequired")}[min(polls-1, 2)]
	}
	d := f.open(t, Options{})
	if _, err := d.Power(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.expire() // in the middle: the image is sent again
	u, said := update("BIOS")
	if err := d.UpdateFirmware(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	steps := slices.DeleteFunc(slices.Compact(*said), func(s string) bool { return strings.HasPrefix(s, "upload") && s != "upload 100" })
	if diff := cmp.Diff([]string{"upload 100", "running 30", "running 60", "done; the machine has to be started anew for it 100"}, steps); diff != "" {
		t.Error(diff)
	}
	if len(f.uploads) != 1 || !strings.HasPrefix(f.uploads[0], "multipart/form-data; boundary=") || strings.Count(f.uploads[0], "firmware! ") != 10_000 ||
		!strings.Contains(f.uploads[0], `{"Targets":["/redfish/v1/UpdateService/FirmwareInventory/Installed-BIOS"]}`) || !strings.Contains(f.uploads[0], `filename="bios.bin"`) {
		t.Errorf("%d uploads: %.500s", len(f.uploads), f.uploads)
	}
	u, _ = update("NIC (Installed-NIC.2)")
	wantError(t, d.UpdateFirmware(t.Context(), u), bmc.Invalid, "cannot be updated")
	u, _ = update("Toaster")
	wantError(t, d.UpdateFirmware(t.Context(), u), bmc.Invalid, `no firmware "Toaster"`)
}

func TestUpdate_push_tells_why_it_failed(t *testing.T) {
	f := startFake(t, older)
	f.task = func(polls int) (int, map[string]any) {
		if polls < 3 {
			return 200, taskState("Running", 10*polls)
		}
		return 200, taskState("Exception", 20, "ImageNotForThisBoard")
	}
	u, said := update("BMC")
	err := f.open(t, Options{}).UpdateFirmware(t.Context(), u)
	wantError(t, err, bmc.Failed, "Exception", "ImageNotForThisBoard")
	if len(f.uploads) != 1 || !strings.HasPrefix(f.uploads[0], "application/octet-stream\nfirmware! firm") || !slices.Contains(*said, "running 20") {
		t.Errorf("%d uploads, %q", len(f.uploads), *said)
	}
	if v := f.value("/redfish/v1/UpdateService", "HttpPushUriTargets"); !cmp.Equal(v, []any{"/redfish/v1/UpdateService/FirmwareInventory/BMC"}) {
		t.Errorf("targets %v", v)
	}
}

func TestUpdate_that_hangs_is_given_up(t *testing.T) {
	f := startFake(t, modern)
	f.task = func(int) (int, map[string]any) { return 202, taskState("Running", 42) }
	u, _ := update()
	err := f.open(t, Options{Stall: 50 * time.Millisecond}).UpdateFirmware(t.Context(), u)
	wantError(t, err, bmc.Timeout, "has not got on", "Running")
}

// A controller that updates itself is away for minutes, and has forgotten sessions and tasks when it is back.
func TestUpdate_of_the_controller_itself(t *testing.T) {
	f := startFake(t, modern)
	f.task = func(polls int) (int, map[string]any) {
		switch {
		case polls == 1:
			return 202, taskState("Running", 90)
		case polls < 5:
			return 503, nil
		}
		return 404, nil
	}
	u, said := update()
	if err := f.open(t, Options{}).UpdateFirmware(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	if last := (*said)[len(*said)-1]; !strings.Contains(last, "restarted") {
		t.Errorf("%q", *said)
	}
}

func TestUpdate_fetched_by_the_controller(t *testing.T) {
	f := startFake(t, small)
	f.task = func(int) (int, map[string]any) { return 200, taskState("Completed", 100) }
	u, _ := update()
	wantError(t, f.open(t, Options{}).UpdateFirmware(t.Context(), u), bmc.Unsupported, "only fetches")
	served := 0
	serve := func(_ context.Context, name string, _ io.ReadSeeker) (string, func(), error) {
		return "http://10.1.0.1/" + name, func() { served++ }, nil
	}
	if err := f.open(t, Options{Serve: serve}).UpdateFirmware(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(f.uploads, []string{"\nhttp://10.1.0.1/bios.bin"}) || served != 1 {
		t.Errorf("%q, %d served", f.uploads, served)
	}
}

func TestWatch(t *testing.T) {
	f := startFake(t, modern)
	d := f.open(t, Options{})
	seen := make(chan bmc.LogEntry)
	end := make(chan error, 1)
	go func() { end <- d.Watch(t.Context(), func(e bmc.LogEntry) { seen <- e }) }()
	f.events <- "id: 7\ndata: {\"@odata.type\":\"#Event.v1_7_0.Event\",\"Events\":[{\"EventId\":\"7\",\r\ndata: \"EventTimestamp\":\"2026-03-01T00:00:00Z\",\"MessageSeverity\":\"Critical\",\"Message\":\"Fan 2 has failed.\",\"OriginOfCondition\":{\"@odata.id\":\"/redfish/v1/Chassis/1/Sensors/Fan2\"}}]}\r\n\r\n"
	f.events <- "data: {\"MetricValues\":[]}\n\n: beat\n\ndata: {broken\n\n"
	want := bmc.LogEntry{ID: "7", Time: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), Text: "Fan 2 has failed.", Sensor: "Fan2", Health: bmc.Critical}
	if diff := cmp.Diff(want, <-seen); diff != "" {
		t.Error(diff)
	}
	close(f.events)
	wantError(t, <-end, bmc.Lost, "ended the stream")
	wantError(t, startFake(t, older).open(t, Options{}).Watch(t.Context(), nil), bmc.Unsupported, "sends no events")

	f = startFake(t, modern)
	ctx, stop := context.WithCancel(t.Context())
	go func() { end <- f.open(t, Options{}).Watch(ctx, func(bmc.LogEntry) { stop() }) }()
	f.events <- "data: {\"Events\":[{\"EventId\":\"8\",\"Message\":\"x\"}]}\n\n"
	if err := <-end; err != nil {
		t.Errorf("after the end of the context: %v", err)
	}
}
