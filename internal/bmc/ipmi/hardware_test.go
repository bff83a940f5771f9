package ipmi

import (
	"fmt"
	"net/netip"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"muster/internal/bmc"
	"muster/internal/model"
	"muster/internal/need"
	wire "muster/internal/wire/ipmi"
	"muster/internal/wire/ipmi/ipmitest"
)

// octets writes them as ipmi_sim's commands want them.
func octets(b []byte) string {
	var s strings.Builder
	for _, c := range b {
		fmt.Fprintf(&s, " 0x%02x", c)
	}
	return s.String()
}

// simSensor is a full record (§43.1) and what ipmi_sim shall say of the sensor.
type simSensor struct {
	number, kind, unit byte
	entity             byte
	name               string
	format             byte // octet 21
	linear             byte
	m, b               int
	k1, k2             int
	value              byte
	limits             [6]byte // lower non-critical, critical, non-recoverable, upper ones
	mask               byte
}

func (s simSensor) commands() string {
	body := []byte{
		0x20, 0, s.number, s.entity, 1, 0x7f, 0x68, s.kind, 1, 0xff, 0x7f, 0xff, 0x7f, s.mask, s.mask, s.format, s.unit, 0, s.linear,
		byte(s.m), byte(s.m >> 2 & 0xc0), byte(s.b), byte(s.b >> 2 & 0xc0), 0, byte(s.k2<<4) | byte(s.k1)&0x0f, 0, 0, 0, 0, 0xff, 0,
		s.limits[5], s.limits[4], s.limits[3], s.limits[2], s.limits[1], s.limits[0], 0, 0, 0, 0, 0, 0xc0 | byte(len(s.name)),
	}
	body = append(body, s.name...)
	record := append([]byte{0, 0, 0x51, 1, byte(len(body))}, body...)
	l := s.limits
	return fmt.Sprintf("sensor_add 0x20 0 %d %d 1\n", s.number, s.kind) +
		fmt.Sprintf("sensor_set_threshold 0x20 0 %d settable %06b%s\n", s.number, s.mask, octets([]byte{l[5], l[4], l[3], l[2], l[1], l[0]})) +
		fmt.Sprintf("sensor_set_event_support 0x20 0 %d enable scanning per-state 000111111000000 000111111000000 000111111000000 000111111000000\n", s.number) +
		fmt.Sprintf("sensor_set_value 0x20 0 %d %d 0\n", s.number, s.value) +
		"main_sdr_add 0x20" + octets(record) + "\n"
}

// simDiscrete is a compact record (§43.2) of a sensor with states.
func simDiscrete(number, kind, reading, entity byte, name string, bits ...int) string {
	body := []byte{0x20, 0, number, entity, 1, 0x67, 0x40, kind, reading, 0xff, 0x7f, 0xff, 0x7f, 0xff, 0x7f, 0xc0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0xc0 | byte(len(name))}
	body = append(body, name...)
	record := append([]byte{0, 0, 0x51, 2, byte(len(body))}, body...)
	s := fmt.Sprintf("sensor_add 0x20 0 %d %d %d\n", number, kind, reading) +
		fmt.Sprintf("sensor_set_event_support 0x20 0 %d enable scanning per-state 111111111111111 111111111111111 111111111111111 111111111111111\n", number)
	for _, bit := range bits {
		s += fmt.Sprintf("sensor_set_bit 0x20 0 %d %d 1 0\n", number, bit)
	}
	return s + "main_sdr_add 0x20" + octets(record) + "\n"
}

// fruText is a field of inventory data in 8-bit characters.
func fruText(all ...string) (b []byte) {
	for _, s := range all {
		b = append(append(b, 0xc0|byte(len(s))), s...)
	}
	return b
}

// fruArea ends an area and gives it length and checksum.
func fruArea(b []byte) []byte {
	b = append(b, 0xc1)
	for (len(b)+1)%8 != 0 {
		b = append(b, 0)
	}
	b[1] = byte((len(b) + 1) / 8)
	return append(b, sum(b))
}

func sum(b []byte) (s byte) {
	for _, c := range b {
		s -= c
	}
	return s
}

// fruData puts areas together; nil ones are not there.
func fruData(chassis, board, product, records []byte) []byte {
	b := []byte{1, 0, 0, 0, 0, 0, 0, 0}
	for i, a := range [][]byte{chassis, board, product, records} {
		if a != nil {
			b[2+i] = byte(len(b) / 8)
			b = append(b, a...)
			for len(b)%8 != 0 {
				b = append(b, 0)
			}
		}
	}
	b[7] = sum(b[:7])
	return b
}

func fruRecord(kind byte, last bool, data []byte) []byte {
	b := []byte{kind, 2, byte(len(data)), sum(data)}
	if last {
		b[1] |= 0x80
	}
	return append(append(b, sum(b)), data...)
}

func fruLocator(device, entity, instance byte, name string) string {
	body := append([]byte{0x20, device, 0x80, 0, 0, 0x10, 0, entity, instance, 0, 0xc0 | byte(len(name))}, name...)
	return "main_sdr_add 0x20" + octets(append([]byte{0, 0, 0x51, 0x11, byte(len(body))}, body...)) + "\n"
}

func simFRU(device byte, data []byte) string {
	return fmt.Sprintf("mc_add_fru_data 0x20 %d %d data%s\n", device, len(data)+64, octets(append(data, make([]byte, 64)...)))
}

// spd is that of a DDR4 module: 32 GiB of two ranks of 8 Gbit chips, 4 bits wide.
func spd() []byte {
	b := make([]byte, 384)
	copy(b, []byte{0x23, 0x11, 0x0c, 0x01, 0x85, 0x21})
	b[12], b[13], b[18], b[125] = 0x08, 0x0b, 0x06, 0x00
	copy(b[320:], []byte{0x80, 0xce})
	copy(b[325:], []byte{0x12, 0x34, 0xab, 0xcd})
	copy(b[329:], "M393A4K40CB2-CTD    ")
	return b
}

// eventTime of the events that the simulated log begins with.
const simEvents = 0x66000000 // 2024-03-24

func simEvent(kind, sensor, reading byte, data ...byte) string {
	b := []byte{byte(simEvents & 0xff), byte(simEvents >> 8 & 0xff), byte(simEvents >> 16 & 0xff), byte(simEvents >> 24), 0x20, 0, 4, kind, sensor, reading}
	return "sel_add 0x20 2" + octets(append(b, data...)) + "\n"
}

// simHardware is a machine as ipmi_sim plays it.
func simHardware() string {
	s := ""
	for _, x := range simSensors {
		s += x.commands()
	}
	s += simDiscrete(10, 0x08, 0x6f, 10, "PSU 1 Status", 0, 1)
	s += simDiscrete(11, 0x0c, 0x6f, 32, "DIMM A1", 6)
	s += simDiscrete(12, 0x21, 0x08, 7, "Riser", 0)
	s += simDiscrete(13, 0x09, 0x0b, 10, "PS Redundancy", 0)
	s += fruLocator(1, 10, 1, "PSU 1") + fruLocator(2, 32, 1, "DIMM A1 FRU")
	s += simFRU(0, fruData(
		fruArea(append([]byte{1, 0, 23}, fruText("CH-9", "CHS0001", "rack A")...)),
		fruArea(append([]byte{1, 0, 25, 0x40, 0xe2, 0xc0}, fruText("Lab Boards", "LB-1", "BRD0001", "PN-77", "file", "rev C")...)),
		fruArea(append([]byte{1, 0, 25}, fruText("Lab", "VirtualNode 2", "PN-1", "v1", "SRV0001", "asset 5", "")...)), nil))
	supply := make([]byte, 24)
	supply[0], supply[1] = 0xee, 0x02 // 750 W
	s += simFRU(1, fruData(nil, nil, fruArea(append([]byte{1, 0, 25}, fruText("Delta", "DPS-750", "DP-1", "01", "PSU0001", "", "")...)), fruRecord(0, true, supply)))
	s += simFRU(2, spd())
	s += simEvent(1, 1, 0x01, 0x59, 91, 90)              // CPU Temp: upper critical going high, reading 91, threshold 90
	s += simEvent(1, 1, 0x81, 0x57, 84, 85)              // and its upper non-critical is over
	s += simEvent(0x08, 10, 0x6f, 0x01, 0xff, 0xff)      // failure detected
	s += simEvent(0x0c, 11, 0x6f, 0x31|0x80, 0x00, 0x03) // uncorrectable ECC, module 3
	s += simEvent(0x13, 0x81, 0x6f, 0x00, 0xff, 0xff)    // front panel NMI, of a sensor without record
	s += simEvent(0x23, 0x90, 0x6f, 0xc1, 0x04, 0xff)    // watchdog 2: hard reset, SMS/OS
	s += "sel_add 0x20 0xc1 0x00 0x00 0x00 0x66 0xa2 0x02 0x00 1 2 3 4 5 6\n"
	s += "sel_add 0x20 0xe5 1 2 3 4 5 6 7 8 9 10 11 12 13\n"
	return s
}

var simSensors = []simSensor{
	{number: 1, kind: 1, unit: 1, entity: 3, name: "CPU Temp", m: 1, value: 41, limits: [6]byte{0, 0, 0, 85, 90, 95}, mask: 0x38},
	{number: 2, kind: 4, unit: 18, entity: 29, name: "FAN1", m: 75, value: 96, limits: [6]byte{20, 15, 10, 0, 0, 0}, mask: 0x07},
	{number: 3, kind: 2, unit: 4, entity: 7, name: "P12V", m: 6, b: 30, k1: 1, k2: -2, value: 150, limits: [6]byte{140, 138, 0, 160, 165, 0}, mask: 0x1b},
	{number: 4, kind: 1, unit: 1, entity: 64, name: "Inlet", format: 0x80, m: 1, value: 0xfb, limits: [6]byte{0xf6, 0xec, 0, 40, 45, 0}, mask: 0x1b},
	{number: 5, kind: 3, unit: 6, entity: 10, name: "PSU 1 Power", m: 4, value: 60, limits: [6]byte{0, 0, 0, 180, 190, 0}, mask: 0x18},
	{number: 6, kind: 1, unit: 1, entity: 3, name: "Hot", m: 1, value: 99, limits: [6]byte{0, 0, 0, 70, 80, 90}, mask: 0x38},
	{number: 7, kind: 2, unit: 4, entity: 7, name: "Root", linear: 10, m: 4, value: 100},
}

// rows reads the comma-separated lines of FreeIPMI's tools, without their heading.
func rows(out string) (all [][]string) {
	for line := range strings.Lines(out) {
		if f := strings.Split(strings.TrimSpace(line), ","); len(f) > 3 && f[0] != "ID" {
			all = append(all, f)
		}
	}
	return all
}

func TestSim_sensors_are_what_ipmi_sensors_and_ipmitool_say(t *testing.T) {
	s := startSimWith(t, "127.9.200.7", "", simHardware())
	all, err := startEngine(t, Options{}).Open(s.target()).Sensors(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	figure := func(v *float64) string {
		if v == nil {
			return "N/A"
		}
		return fmt.Sprintf("%.2f", *v)
	}
	theirs := rows(tool(t, s, "ipmi-sensors --output-sensor-thresholds --comma-separated-output"))
	if len(all) != len(theirs) || len(all) < 11 {
		t.Fatalf("%d sensors, ipmi-sensors has %d", len(all), len(theirs))
	}
	units := map[string]string{"°C": "C", "": "N/A"}
	for i, f := range theirs {
		x := all[i]
		unit, ok := units[x.Unit]
		if !ok {
			unit = x.Unit
		}
		got := []string{x.Name, figure(x.Value), unit, figure(x.LowCritical), figure(x.LowWarning), figure(x.HighWarning), figure(x.HighCritical)}
		if want := []string{f[1], f[3], f[4], f[6], f[7], f[8], f[9]}; !slices.Equal(got, want) {
			t.Errorf("got %v, ipmi-sensors says %v", got, want)
		}
	}
	short := strings.Split(strings.TrimSpace(tool(t, s, "ipmitool -c sdr")), "\n")
	words := map[string]string{"ok": "ok", "cr": "critical", "nr": "critical"}
	if len(short) < len(simSensors) {
		t.Fatalf("ipmitool says only %q", short)
	}
	for i := range simSensors {
		f := strings.Split(short[i], ",")
		if len(f) < 4 || f[0] != all[i].Name || words[f[3]] != string(all[i].Health) {
			t.Errorf("%s is %s, ipmitool says %q", all[i].Name, all[i].Health, short[i])
		}
	}
	states := map[string]string{}
	for _, x := range all {
		states[x.Name] = x.Kind + "|" + x.State + "|" + string(x.Health)
	}
	for name, want := range map[string]string{
		"PSU 1 Power":   "power||ok",
		"Hot":           "temperature|above upper non-recoverable|critical",
		"PSU 1 Status":  "power supply|presence detected, failure detected|critical",
		"DIMM A1":       "memory|presence detected|ok",
		"Riser":         "slot|absent|absent",
		"PS Redundancy": "power unit|fully redundant|ok",
	} {
		if states[name] != want {
			t.Errorf("%s: got %q, want %q", name, states[name], want)
		}
	}
}

func TestSim_event_log_is_what_ipmi_sel_says(t *testing.T) {
	s := startSimWith(t, "127.9.200.8", "", simHardware())
	d := startEngine(t, Options{}).Open(s.target())
	all, err := d.EventLog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	theirs := rows(tool(t, s, "ipmi-sel --comma-separated-output"))
	if len(all) != len(theirs) {
		t.Fatalf("%d events, ipmi-sel has %d", len(all), len(theirs))
	}
	want := []string{
		"upper critical going high: reading 91 °C, threshold 90 °C|critical",
		"upper non-critical going high: reading 84 °C, threshold 85 °C (no longer)|ok",
		"failure detected|critical",
		"uncorrectable ECC error: module 3|critical",
		"front panel NMI|critical",
		"hard reset: SMS/OS|critical",
		"OEM record c1 of Dell: 010203040506|unknown",
		"OEM record e5: 0102030405060708090a0b0c0d|unknown",
	}
	for i, f := range theirs {
		e := all[i]
		name := strings.Replace(e.Sensor, "sensor ", "Sensor #", 1)
		if name == "" {
			name = "N/A"
		}
		if e.ID != f[0] || name != f[3] {
			t.Errorf("event %s of %q, ipmi-sel says %v", e.ID, e.Sensor, f)
		}
		if got := e.Text + "|" + string(e.Health); got != want[i] {
			t.Errorf("got %q, want %q (ipmi-sel: %v)", got, want[i], f)
		}
	}
	if !all[1].Over || all[0].Over {
		t.Error("the second event is the end of a condition, the first is not")
	}
	if err := d.ClearEventLog(t.Context()); err != nil {
		t.Fatal(err)
	}
	if all, err = d.EventLog(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("after clearing: %v %v", all, err)
	}
	if left := rows(tool(t, s, "ipmi-sel --comma-separated-output")); len(left) != 0 {
		t.Errorf("ipmi-sel still has %v", left)
	}
}

func TestSim_inventory_is_what_ipmi_fru_says(t *testing.T) {
	s := startSimWith(t, "127.9.200.9", "", simHardware())
	parts, err := startEngine(t, Options{}).Open(s.target()).Inventory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []bmc.Part{
		{Slot: "DIMM A1 FRU", Kind: "memory", Vendor: "Samsung", Model: "DDR4", Number: "M393A4K40CB2-CTD", Serial: "1234ABCD", Bytes: 32 << 30, Other: map[string]string{"speed": "2666 MT/s"}},
		{Slot: "PSU 1", Kind: "power", Vendor: "Delta", Model: "DPS-750", Serial: "PSU0001", Number: "DP-1", Other: map[string]string{"capacity": "750 W", "version": "01"}},
		{Slot: "bmc", Kind: "bmc", Vendor: "MontaVista", Firmware: "9.08"},
		{Slot: "board", Kind: "board", Vendor: "Lab Boards", Model: "LB-1", Serial: "BRD0001", Number: "PN-77", Other: map[string]string{"made": "2020-01-13", "custom 1": "rev C"}},
		{Slot: "chassis", Kind: "chassis", Serial: "CHS0001", Number: "CH-9", Other: map[string]string{"chassis type": "rack mount chassis", "custom 1": "rack A"}},
		{Slot: "machine", Kind: "machine", Vendor: "Lab", Model: "VirtualNode 2", Serial: "SRV0001", Number: "PN-1", Other: map[string]string{"version": "v1", "asset tag": "asset 5"}},
	}
	if d := cmp.Diff(want, parts); d != "" {
		t.Error(d)
	}
	theirs := tool(t, s, "ipmi-fru")
	for _, p := range parts {
		for _, v := range []string{p.Vendor, p.Model, p.Serial, p.Number, p.Other["custom 1"], p.Other["asset tag"], p.Other["version"]} {
			if p.Slot != "bmc" && p.Kind != "memory" && !strings.Contains(theirs, v) {
				t.Errorf("%s: ipmi-fru does not know %q", p.Slot, v)
			}
		}
	}
	if !strings.Contains(theirs, "Overall Capacity: 750 Watts") {
		t.Errorf("ipmi-fru says %s", theirs)
	}
}

func TestSim_info_and_settings(t *testing.T) {
	s := startSimWith(t, "127.9.200.10", "", simHardware())
	d := startEngine(t, Options{}).Open(s.target())
	ctx := t.Context()
	info, err := d.Info(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(bmc.Info{
		Protocol: "ipmi 2.0", Vendor: "MontaVista", Firmware: "9.08", MAC: "00:00:00:00:00:00", Address: "0.0.0.0",
		GUID: "674523a1-ab89-efcd-a123-456789abcdef", Machine: "Lab VirtualNode 2", Serial: "SRV0001", Session: "suite 3",
	}, info); d != "" {
		t.Error(d)
	}
	if all, err := d.Firmware(ctx); err != nil || len(all) != 1 || all[0].Version != "9.08" {
		t.Errorf("firmware: %v %v", all, err)
	}
	if got, err := d.Raw(ctx, "0x06 01"); err != nil || got != "00 03 09 08 02 9f 91 12 00 02 0f 00 00 00 00" {
		t.Errorf("raw: %q %v", got, err)
	}
	_, err = d.Raw(ctx, "0x07 0x01")
	wantError(t, err, bmc.Invalid, "not that of a request")
	for _, duration := range []time.Duration{0, 5 * time.Second} {
		if err := d.Identify(ctx, true, duration); err != nil {
			t.Error(err)
		}
	}
	wantError(t, d.Identify(ctx, true, time.Hour), bmc.Invalid, "1 s to 255 s")
	wantError(t, d.ResetController(ctx), bmc.Unsupported, "cannot do this")

	if _, err := d.Set(ctx, []bmc.Setting{
		{Name: "user.4.enable", Value: "true"},
		{Name: "user.4.privilege", Value: "operator"},
		{Name: "user.4.name", Value: "night"},
		{Name: "user.4.password", Secret: secret("shift")},
	}); err != nil {
		t.Fatal(err)
	}
	theirs := tool(t, s, "ipmitool user list 1")
	if !regexp.MustCompile(`(?m)^4 +night +true +false +true +OPERATOR`).MatchString(theirs) {
		t.Errorf("ipmitool says %s", theirs)
	}
	all, err := d.Settings(ctx)
	if err != nil {
		t.Fatal(err)
	}
	has := map[string]bmc.Setting{}
	for _, x := range all {
		has[x.Name] = x
	}
	for name, want := range map[string]string{"user.4.name": "night", "user.4.privilege": "operator", "user.4.enable": "true", "user.2.name": "admin", "lan.vlan": "off", "lan.address": "0.0.0.0"} {
		if has[name].Value != want {
			t.Errorf("%s is %q, want %q", name, has[name].Value, want)
		}
	}
	if !has["lan.mac"].Fixed || has["lan.address"].Fixed {
		t.Error("the hardware address cannot be set, the address can")
	}
	night := s.target()
	night.User, night.Password = "night", model.NewSecret("shift")
	if _, err := startEngine(t, Options{}).Open(night).Power(ctx); err != nil {
		t.Errorf("the new user cannot log in: %v", err)
	}
	// Without a program behind it, ipmi_sim takes LAN parameters and forgets them.
	_, err = d.Set(ctx, []bmc.Setting{{Name: "lan.gateway", Value: "10.0.0.1"}})
	wantError(t, err, bmc.Failed, `took lan.gateway=10.0.0.1 and has "0.0.0.0" now`)
	_, err = d.Set(ctx, []bmc.Setting{
		{Name: "lan.adress", Value: "10.0.0.1"},
		{Name: "lan.netmask", Value: "255.0.255.0"},
		{Name: "lan.mac", Value: "02:00:00:00:00:01"},
		{Name: "user.70.name", Value: "x"},
		{Name: "user.4.password", Value: "in the clear"},
		{Name: "sol.rate", Value: "300"},
	})
	for _, text := range []string{
		"there is no setting lan.adress", "is not a netmask", "lan.mac cannot be set", "user 70", "user.4.password: the value came in the clear", "none of 9600",
	} {
		wantError(t, err, bmc.Invalid, text)
	}
}

func secret(s string) *model.Secret { v := model.NewSecret(s); return &v }

// tool runs ipmitool or a tool of FreeIPMI on the BMC and returns what it says.
func tool(tb testing.TB, s *simBMC, command string) string {
	tb.Helper()
	f := strings.Fields(command)
	need.Programs(tb, "ipmitool freeipmi-tools", f[0])
	var args []string
	if f[0] == "ipmitool" {
		args = append([]string{"-I", "lanplus", "-C", "3", "-H", s.address, "-p", fmt.Sprint(s.port), "-U", "admin", "-P", "secret"}, f[1:]...)
	} else {
		args = append([]string{"-h", fmt.Sprintf("%s:%d", s.address, s.port), "-u", "admin", "-p", "secret", "-D", "LAN_2_0", "-I", "3", "-l", "admin", "-W", "opensesspriv", "--sdr-cache-directory", tb.TempDir(), "--quiet-cache"}, f[1:]...)
	}
	out, err := exec.Command(f[0], args...).CombinedOutput()
	if err != nil {
		tb.Logf("%s: %v", command, err)
	}
	return string(out)
}

// ipmi_sim speaks IPMI 1.5 as well: here as if it had nothing newer.
func TestSim_session_of_IPMI_15(t *testing.T) {
	s := startSimWith(t, "127.9.200.11", "", simHardware())
	to := netip.AddrPortFrom(netip.MustParseAddr(s.address), uint16(s.port))
	old := func() *Engine {
		e := startEngine(t, Options{})
		e.suites[to] = wire.IPMI15
		return e
	}
	d := old().Open(s.target())
	if err := d.SetPower(t.Context(), bmc.On); err != nil {
		t.Fatal(err)
	}
	if got, err := d.Power(t.Context()); err != nil || got != bmc.PowerOn {
		t.Errorf("power: %q %v", got, err)
	}
	info, err := d.Info(t.Context())
	if err != nil || info.Session != "IPMI 1.5, MD5" {
		t.Errorf("session %q, %v", info.Session, err)
	}
	now, err := startEngine(t, Options{}).Open(s.target()).Sensors(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	all, err := d.Sensors(t.Context())
	if diff := cmp.Diff(now, all); err != nil || diff != "" {
		t.Errorf("sensors over 1.5 and 2.0 differ: %v %s", err, diff)
	}
	_, err = d.Serial(t.Context())
	wantError(t, err, bmc.Unsupported, "cannot do this")
	unknown := s.target()
	unknown.User = "root"
	_, err = old().Open(unknown).Power(t.Context())
	wantError(t, err, bmc.Refused, "refused user root")
	wrong := s.target()
	wrong.Password = model.NewSecret("guess")
	e := startEngine(t, Options{Waits: hasty})
	e.suites[to] = wire.IPMI15
	_, err = e.Open(wrong).Power(t.Context())
	wantError(t, err, bmc.Refused, "wrong password")
}

func TestEngine_finds_IPMI_15_where_there_is_nothing_else(t *testing.T) {
	s := startStub(t, "127.0.0.1", 0)
	s.with(func(b *ipmitest.BMC) { b.Faults.Only15, b.On = true, true })
	e := startEngine(t, Options{Waits: hasty})
	for range 2 {
		if got, err := e.Open(s.target()).Power(t.Context()); err != nil || got != bmc.PowerOn {
			t.Errorf("got %q %v", got, err)
		}
	}
	target := s.target()
	target.Cipher = 17 // the first to try, not the only one
	if _, err := startEngine(t, Options{Waits: hasty}).Open(target).Power(t.Context()); err != nil {
		t.Error(err)
	}
}

// records are those of two sensors, as the wire has them.
func records() [][]byte {
	var all [][]byte
	for _, x := range simSensors[:2] {
		_, line, _ := strings.Cut(x.commands(), "main_sdr_add 0x20 ")
		var b []byte
		for f := range strings.FieldsSeq(line) {
			n, _ := strconv.ParseUint(f, 0, 8)
			b = append(b, byte(n))
		}
		all = append(all, b)
	}
	return all
}

func TestDriver_reads_the_repository_when_it_has_changed(t *testing.T) {
	e := startEngine(t, Options{})
	var stubs []*stub
	for range 2 {
		s := startStub(t, "127.0.0.1", 0)
		s.with(func(b *ipmitest.BMC) {
			b.Hardware = ipmitest.Hardware{Records: records(), Changed: 1, Readings: map[byte][]byte{1: {41, 0xc0, 0}, 2: {0, 0xe0, 0}}}
		})
		stubs = append(stubs, s)
	}
	read := func(s *stub) (n int) {
		all, err := e.Open(s.target()).Sensors(t.Context())
		if err != nil || len(all) != 2 || *all[0].Value != 41 || *all[0].HighWarning != 85 || all[1].Value != nil || all[1].Health != bmc.Absent {
			t.Fatalf("got %v %v", all, err)
		}
		s.with(func(b *ipmitest.BMC) { n = b.Hardware.Reads })
		return n
	}
	first := read(stubs[0])
	if again := read(stubs[0]); first == 0 || again != first {
		t.Errorf("the records were asked for %d times, then %d times in all", first, again)
	}
	stubs[0].with(func(b *ipmitest.BMC) { b.Hardware.Changed++ })
	if third := read(stubs[0]); third <= first {
		t.Error("a changed repository is not read again")
	}
	read(stubs[1])
	if n := len(e.repositories.same); n != 1 {
		t.Errorf("the same records are kept %d times", n)
	}
}

func TestDriver_sets_the_LAN(t *testing.T) {
	s := startStub(t, "127.0.0.1", 0)
	s.with(func(b *ipmitest.BMC) {
		b.Hardware.LAN = map[byte][]byte{3: {10, 0, 0, 5}, 4: {2}, 5: {2, 0, 0, 0, 0, 1}, 6: {255, 0, 0, 0}, 12: {0, 0, 0, 0}, 20: {0, 0}}
	})
	d := startEngine(t, Options{Waits: hasty}).Open(s.target())
	if _, err := d.Set(t.Context(), []bmc.Setting{
		{Name: "lan.address", Value: "10.1.0.7"},
		{Name: "lan.vlan", Value: "70"},
		{Name: "lan.source", Value: "static"},
		{Name: "lan.netmask", Value: "255.255.0.0"},
		{Name: "lan.gateway", Value: "10.1.0.1"},
	}); err != nil {
		t.Fatal(err)
	}
	s.with(func(b *ipmitest.BMC) {
		want := map[byte][]byte{0: {0}, 3: {10, 1, 0, 7}, 4: {1}, 5: {2, 0, 0, 0, 0, 1}, 6: {255, 255, 0, 0}, 12: {10, 1, 0, 1}, 20: {70, 0x80}}
		if diff := cmp.Diff(want, b.Hardware.LAN); diff != "" {
			t.Error(diff)
		}
		b.Hardware.Leaves = true
	})
	all, err := d.Settings(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, x := range all {
		got[x.Name] = x.Value
	}
	want := map[string]string{
		"lan.address": "10.1.0.7", "lan.source": "static", "lan.netmask": "255.255.0.0", "lan.gateway": "10.1.0.1", "lan.vlan": "70", "lan.mac": "02:00:00:00:00:01",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	_, err = d.Set(t.Context(), []bmc.Setting{{Name: "lan.address", Value: "10.1.0.8"}})
	wantError(t, err, bmc.Lost, "does not answer at this address any more. Set bmc.address")
}

func TestDriver_erases_the_log_and_resets_the_controller(t *testing.T) {
	s := startStub(t, "127.0.0.1", 0)
	event := []byte{0, 0, 2, 0, 0, 0, 0x66, 0x20, 0, 4, 1, 1, 1, 0x59, 91, 90}
	s.with(func(b *ipmitest.BMC) {
		b.Hardware = ipmitest.Hardware{Events: [][]byte{event, event}, Cancel: 2, Erasing: 2}
	})
	d := startEngine(t, Options{Waits: hasty}).Open(s.target())
	all, err := d.EventLog(t.Context())
	if err != nil || len(all) != 2 || !all[0].Time.Equal(time.Unix(simEvents, 0)) || all[0].Sensor != "sensor 1" {
		t.Errorf("got %v %v", all, err)
	}
	if err := d.ClearEventLog(t.Context()); err != nil {
		t.Error(err)
	}
	if err := d.ResetController(t.Context()); err != nil {
		t.Error(err)
	}
	s.with(func(b *ipmitest.BMC) {
		if len(b.Hardware.Events) != 0 || b.Hardware.Erasing != 0 || b.Hardware.Resets != 1 {
			t.Errorf("left: %+v", b.Hardware)
		}
		b.Faults.Mute = true
	})
	if err := d.ResetController(t.Context()); err != nil { // many go without an answer
		t.Error(err)
	}
}

func TestDriver_sets_serial_over_LAN_and_watchdog(t *testing.T) {
	s := startStub(t, "127.0.0.1", 0)
	s.with(func(b *ipmitest.BMC) {
		b.Hardware = ipmitest.Hardware{SOL: map[byte][]byte{1: {0}, 2: {0x42}, 4: {0x02, 25}, 5: {0x0a}}, Watchdog: []byte{0x04, 0, 0, 0, 0, 0, 0, 0}}
	})
	d := startEngine(t, Options{}).Open(s.target())
	want := map[string]string{
		"sol.enable": "true", "sol.encrypt": "true", "sol.privilege": "administrator", "sol.retries": "7", "sol.interval": "500", "sol.rate": "57600",
		"watchdog.use": "os-load", "watchdog.action": "cycle", "watchdog.seconds": "90.5", "watchdog.running": "true",
	}
	var changes []bmc.Setting
	for name, value := range want {
		changes = append(changes, bmc.Setting{Name: name, Value: value})
	}
	if _, err := d.Set(t.Context(), changes); err != nil {
		t.Fatal(err)
	}
	all, err := d.Settings(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, x := range all {
		got[x.Name] = x.Value
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	s.with(func(b *ipmitest.BMC) { // what was not set has stayed: authentication always
		if diff := cmp.Diff(map[byte][]byte{1: {1}, 2: {0xc4}, 4: {0x07, 50}, 5: {0x09}}, b.Hardware.SOL); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]byte{0x43, 3, 0, 0, 0x89, 3, 0x89, 3}, b.Hardware.Watchdog); diff != "" {
			t.Error(diff)
		}
	})
	if _, err := d.Set(t.Context(), []bmc.Setting{{Name: "watchdog.running", Value: "false"}}); err != nil {
		t.Error(err)
	}
}
