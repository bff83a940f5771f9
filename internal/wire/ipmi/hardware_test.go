package ipmi

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"muster/internal/wire/ipmi/ipmitest"
)

// fullRecord is a full sensor record (§43.1) with the fields that tests turn.
func fullRecord(name string, edit func(b []byte)) []byte {
	b := make([]byte, 48)
	b[2], b[3] = 0x51, recordFull
	b[5], b[7], b[8], b[9] = 0x20, 1, 3, 1
	b[11], b[12], b[13], b[18], b[21], b[24] = 0x68, 1, 1, 0x38, 1, 1
	b[36], b[37], b[38] = 95, 90, 85
	b[47] = 0xc0 | byte(len(name))
	if edit != nil {
		edit(b)
	}
	b = append(b, name...)
	b[4] = byte(len(b) - 5)
	return b
}

func compactRecord(name string, edit func(b []byte)) []byte {
	b := make([]byte, 32)
	b[2], b[3] = 0x51, recordCompact
	b[5], b[7], b[8], b[9], b[12], b[13], b[20], b[23] = 0x20, 0x30, 10, 1, 0x08, 0x6f, 0xc0, 1
	b[31] = 0xc0 | byte(len(name))
	if edit != nil {
		edit(b)
	}
	b = append(b, name...)
	b[4] = byte(len(b) - 5)
	return b
}

func eventOnlyRecord(name string) []byte {
	b := make([]byte, 17)
	b[2], b[3] = 0x51, recordEventOnly
	b[5], b[7], b[10], b[11], b[12] = 0x21, 0x90, 0x12, 0x6f, 1
	b[16] = 0xc0 | byte(len(name))
	b = append(b, name...)
	b[4] = byte(len(b) - 5)
	return b
}

func locatorRecord(device byte, name string) []byte {
	b := []byte{0, 0, 0x51, recordFRU, 0, 0x20, device, 0x80, 0, 0, 0x10, 2, 32, 1, 0, 0xc0 | byte(len(name))}
	b = append(b, name...)
	b[4] = byte(len(b) - 5)
	return b
}

func one(t *testing.T, record []byte) SensorRecord {
	t.Helper()
	var r Repository
	if err := r.Add(record); err != nil || len(r.Sensors) != 1 {
		t.Fatalf("%x: %d sensors, %v", record, len(r.Sensors), err)
	}
	return r.Sensors[0]
}

// The values are worked out from the formula of §36.3 by hand.
func TestSensorRecord_value(t *testing.T) {
	tests := []struct {
		name string
		edit func(b []byte)
		raw  byte
		want float64
	}{
		{"plain", nil, 41, 41},
		{"factor_and_exponents", func(b []byte) { b[24], b[26], b[29] = 6, 30, 0xe1 }, 150, 12},
		{"two's_complement", func(b []byte) { b[20] = 0x80 }, 0xfb, -5},
		{"ones'_complement", func(b []byte) { b[20] = 0x40 }, 0xfa, -5},
		{"negative_factor_of_ten_bits", func(b []byte) { b[24], b[25] = 0x9c, 0xc0 }, 2, -200}, // M = -100
		{"negative_B", func(b []byte) { b[26], b[27] = 0xf6, 0xc0 }, 60, 50},                   // B = -10
		{"1/x", func(b []byte) { b[23] = 7 }, 4, 0.25},
		{"square_root", func(b []byte) { b[23], b[24] = 10, 4 }, 100, 20},
		{"cube", func(b []byte) { b[23] = 9 }, 3, 27},
		{"logarithm", func(b []byte) { b[23] = 2 }, 100, 2},
		{"power_of_two", func(b []byte) { b[23] = 6 }, 8, 256},
		{"no_noise_of_arithmetic", func(b []byte) { b[24], b[29] = 59, 0xd0 }, 203, 11.977},
	}
	for _, tt := range tests {
		s := one(t, fullRecord("x", tt.edit))
		if got, ok := s.Value(tt.raw); !ok || got != tt.want {
			t.Errorf("%s: got %v %v, want %v", tt.name, got, ok, tt.want)
		}
	}
	for _, linear := range []byte{1, 2, 3, 7} { // of 0: no value rather than infinity
		s := one(t, fullRecord("x", func(b []byte) { b[23] = linear }))
		if v, ok := s.Value(0); ok {
			t.Errorf("linearisation %d of 0 is %v", linear, v)
		}
	}
}

func TestRepository_records(t *testing.T) {
	var r Repository
	for _, b := range [][]byte{
		fullRecord("CPU Temp", nil),
		compactRecord("PSU", func(b []byte) { b[23], b[24] = 3, 0x81 }),
		compactRecord("Bay", func(b []byte) { b[7], b[23], b[24] = 0x40, 0x12, 25 }),
		eventOnlyRecord("OS"),
		locatorRecord(7, "DIMM A1"),
		{0, 0, 0x51, 0xc0, 2, 1, 2}, // OEM: left out
	} {
		if err := r.Add(b); err != nil {
			t.Errorf("%x: %v", b, err)
		}
	}
	var got []string
	for _, s := range r.Sensors {
		got = append(got, fmt.Sprintf("%s %02x %d %s %v %v", s.Name, s.Number, s.Instance, s.Kind(), s.Readable, s.Analog))
	}
	want := []string{
		"CPU Temp 01 1 temperature true true",
		"PSU1 30 1 power supply true false", "PSU2 31 2 power supply true false", "PSU3 32 3 power supply true false",
		"BayZ 40 1 power supply true false", "BayAA 41 1 power supply true false",
		"OS 90 0 system event false false",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if len(r.FRUs) != 1 || r.FRUs[0].Device != 7 || r.FRUs[0].Name != "DIMM A1" || !r.FRUs[0].Logical {
		t.Errorf("locators: %+v", r.FRUs)
	}
	for _, b := range [][]byte{nil, {0, 0, 0x51, 1, 40}, fullRecord("x", nil)[:47], {0, 0, 0x51, 2, 3, 1, 2, 3}} {
		if err := r.Add(b); err == nil {
			t.Errorf("%x is taken", b)
		}
	}
}

func TestUnits(t *testing.T) {
	for _, tt := range []struct {
		flags, base, modifier byte
		want                  string
	}{{0, 1, 0, "°C"}, {0, 18, 0, "RPM"}, {0x18, 18, 0, "RPM"}, {1, 0, 0, "%"}, {0x02, 7, 22, "J/s"}, {0x04, 6, 24, "W·h"}, {0x18, 85, 0, "packets/s"}, {0, 200, 0, ""}} {
		if got := unitText(tt.flags, tt.base, tt.modifier); got != tt.want {
			t.Errorf("%02x %d %d: got %q, want %q", tt.flags, tt.base, tt.modifier, got, tt.want)
		}
	}
}

func TestDecodeText(t *testing.T) {
	for _, tt := range []struct {
		encoding byte
		b        []byte
		want     string
	}{
		{encodingBCD, []byte{0x12, 0x3b, 0x4c}, "123-4."},
		{encodingSix, []byte{0x29, 0xdc, 0xa6}, "IPMI"}, // the example of §43.16
		{encodingASCII, []byte("  Fan\x00\x00 "), "Fan"},
		{encodingASCII, []byte{0xb5, 'V'}, "µV"},
		{encodingSix, nil, ""},
	} {
		if got := decodeText(tt.encoding, tt.b); got != tt.want {
			t.Errorf("%d %x: got %q, want %q", tt.encoding, tt.b, got, tt.want)
		}
	}
}

func TestParseDevice(t *testing.T) {
	d, ok := ParseDevice([]byte{0x20, 0x81, 0x02, 0x35, 0x02, 0xbf, 0x7c, 0x2a, 0x00, 0x21, 0x09, 0, 0, 0, 0})
	want := Device{ID: 0x20, Revision: 1, Firmware: "2.35", Version: "2.0", Manufacturer: 10876, Product: 0x0921, DeviceSDR: true, SDR: true, SEL: true, FRU: true}
	if !ok || d != want || Vendor(d.Manufacturer) != "Supermicro" {
		t.Errorf("got %+v %v", d, ok)
	}
	if Vendor(0) != "" || Vendor(99999) != "enterprise 99999" {
		t.Error(Vendor(0), Vendor(99999))
	}
}

func TestParseGUID_finds_the_order_of_the_octets(t *testing.T) {
	const want = "4c4c4544-0051-4abc-8004-b9c04f4e3632"
	for name, digits := range map[string]string{
		"smbios":  "44454c4c5100bc4a8004b9c04f4e3632",
		"reverse": "32364e4fc0b90480bc4a510044454c4c",
		"rfc":     "4c4c454400514abc8004b9c04f4e3632",
	} {
		if got, ok := ParseGUID(unhex(t, digits)); !ok || got != want {
			t.Errorf("%s: got %q %v", name, got, ok)
		}
	}
	if _, ok := ParseGUID(make([]byte, 16)); ok {
		t.Error("no GUID is one")
	}
}

func TestLogEvent_text(t *testing.T) {
	sensor := one(t, fullRecord("CPU Temp", nil))
	stamp := []byte{0, 0, 0, 0x66}
	event := func(kind, number, reading byte, data ...byte) []byte {
		return append(append(append([]byte{1, 0, 2}, stamp...), 0x20, 0, 4, kind, number, reading), data...)
	}
	for _, tt := range []struct {
		b    []byte
		want string
		c    Condition
	}{
		{event(1, 1, 1, 0x59, 91, 90), "upper critical going high: reading 91 °C, threshold 90 °C", Severe},
		{event(1, 1, 1, 0x50, 2, 5), "lower non-critical going low: reading 2 °C, threshold 5 °C", Warn},
		{event(1, 1, 0x81, 0x59, 80, 90), "upper critical going high: reading 80 °C, threshold 90 °C (no longer)", Good},
		{event(0x0c, 2, 0x6f, 0x30, 0xff, 2), "correctable ECC error: module 2", Warn},
		{event(0x0d, 2, 0x6f, 0x01, 0xff, 0xff), "drive fault", Severe},
		{event(0x0f, 2, 0x6f, 0xc2, 0x13, 0xff), "system firmware progress: starting OS boot", Good},
		{event(0x2a, 2, 0x6f, 0xc2, 3, 0xff), "invalid user name or password: user 3", Warn},
		{event(0x10, 2, 0x6f, 0x35, 0xff, 90), "log almost full: 90 % full", Warn},
		{event(0xc5, 2, 0x70, 0xa3, 0x12, 0x34), "event 3 of type 70, data 12 34", Unread},
		{event(0x04, 2, 0x04, 0x01, 0xff, 0xff), "failure predicted", Warn},
		{[]byte{1, 0, 0xdf, 0, 0, 0, 0x66, 0x7c, 0x2a, 0, 1, 2, 3, 4, 5, 6}, "OEM record df of Supermicro: 010203040506", Unread},
		{[]byte{1, 0, 0xff, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13}, "OEM record ff: 0102030405060708090a0b0c0d", Unread},
		{[]byte{1, 0, 0x20, 0, 0, 0, 0x66, 1, 2, 3, 4, 5, 6, 7, 8, 9}, "record of type 20", Unread},
	} {
		e, ok := ParseEvent(tt.b)
		if got, c := e.Text(&sensor); !ok || got != tt.want || c != tt.c {
			t.Errorf("%x: got %q %d, want %q %d", tt.b, got, c, tt.want, tt.c)
		}
	}
	e, _ := ParseEvent(event(1, 1, 1, 0x59, 91, 90))
	if want := time.Unix(0x66000000, 0); !e.Time.Equal(want) {
		t.Errorf("time: got %v, want %v", e.Time, want)
	}
	if text, _ := e.Text(nil); text != "upper critical going high: reading raw 5b, threshold raw 5a" {
		t.Errorf("without the sensor: %q", text)
	}
	before := event(1, 1, 1, 0x59, 91, 90)
	copy(before[3:], []byte{0x10, 0, 0, 0})
	if e, _ := ParseEvent(before); !e.Time.IsZero() {
		t.Errorf("a time since the start of the controller is taken for %v", e.Time)
	}
}

func TestFRU_of_words_and_cut_data(t *testing.T) {
	b := unhex(t, "0100000001000000fe"[:16])
	b[7] = checksum(b[:7])
	if f, err := ParseFRU(b); err != nil || f.Board != nil {
		t.Errorf("a board area past the end: %+v %v", f, err)
	}
	if _, err := ParseFRU([]byte{1, 2, 3, 4, 5, 6, 7, 8}); err == nil {
		t.Error("a header with a wrong checksum is taken")
	}
	if n := FRUNeed([]byte{1, 0, 0, 0}); n != 8 {
		t.Errorf("of half a header %d octets are needed", n)
	}
}

// ask makes the world a function to ask with: each request runs to its end in simulated time.
func (w *world) ask(r Request) ([]byte, error) { return w.do(r) }

// testHardware is a machine of some sensors, events and devices.
func testHardware() (h ipmitest.Hardware, board []byte) {
	for i := range 12 {
		h.Records = append(h.Records, fullRecord(fmt.Sprintf("Sensor %d", i), func(b []byte) { b[7] = byte(i) }))
	}
	h.Records = append(h.Records, compactRecord("PSU", func(b []byte) { b[23], b[24] = 3, 0x81 }), eventOnlyRecord("OS"), locatorRecord(7, "DIMM A1"))
	for i := range 40 {
		h.Events = append(h.Events, []byte{0, 0, 2, byte(i), 0, 0, 0x66, 0x20, 0, 4, 1, 1, 1, 0x59, byte(i), 90})
	}
	board = append([]byte{1, 0, 25, 0, 0, 0}, 0xc3, 'L', 'a', 'b', 0xc4, 'L', 'B', '-', '1', 0xc4, '0', '0', '0', '1', 0xc0, 0xc0, 0xc1)
	for len(board)%8 != 7 {
		board = append(board, 0)
	}
	board[1] = byte(len(board)+1) / 8
	board = append(board, checksum(board))
	head := []byte{1, 0, 0, 1, 0, 0, 0}
	h.FRU = map[byte][]byte{0: append(append(head, checksum(head)), board...)}
	return h, board
}

// TestHardware_through_a_bad_network reads and erases everything while packets are dropped, doubled, delayed and overtake each other, answers hold a few
// octets only and reservations get lost: nothing may be missing, doubled or mixed up.
func TestHardware_through_a_bad_network(t *testing.T) {
	whole := 0
	for seed := range uint64(120) {
		h, _ := testHardware()
		device := seed%7 == 3
		w := newWorld(t, seed, loss{drop: 0.08, double: 0.1, delay: 0.2, jitter: 600 * time.Millisecond}, func(c *Config, b *ipmitest.BMC) {
			h.Most = []int{0, 16, 22, 70}[seed%4]
			h.Device = device
			h.Cancel, h.Erasing = int(seed%3), int(seed%5)
			b.Hardware = h
			if seed%5 == 0 {
				b.Faults.Only15, c.Known = true, IPMI15
			}
		})
		h.Device = device
		if err := w.readAll(h); err != nil {
			t.Logf("seed %d: %v", seed, err)
			continue
		}
		whole++
	}
	t.Logf("%d of 120 worlds were read whole", whole)
	if whole < 110 {
		t.Errorf("%d of 120 worlds were read whole", whole)
	}
}

// readAll reads and compares; an error is one of the network, everything else fails the test.
func (w *world) readAll(h ipmitest.Hardware) error {
	w.t.Helper()
	b, err := w.ask(GetDeviceID())
	if err != nil {
		return err
	}
	d, ok := ParseDevice(b)
	if !ok || d.DeviceSDR != h.Device {
		w.t.Fatalf("the device id %x is %+v", b, d)
	}
	stamp, err := GetStamp(w.ask, d)
	if err != nil {
		return err
	}
	records, err := ReadRepository(w.ask, stamp)
	if err != nil {
		return err
	}
	if len(records) != len(h.Records) {
		w.t.Fatalf("%d records, want %d", len(records), len(h.Records))
	}
	for i, b := range records {
		if !bytes.Equal(b[2:], h.Records[i][2:]) {
			w.t.Fatalf("record %d is %x, want %x", i, b, h.Records[i])
		}
	}
	events, err := ReadLog(w.ask)
	if err != nil {
		return err
	}
	for i, e := range events {
		if len(events) != len(h.Events) || int(e.ID) != i || int(e.Data[1]) != i {
			w.t.Fatalf("event %d of %d is %+v", i, len(events), e)
		}
	}
	b, err = ReadFRU(w.ask, 0)
	if err != nil {
		return err
	}
	if f, err := ParseFRU(b); err != nil || f.Board == nil || f.Board.Vendor != "Lab" || f.Board.Name != "LB-1" || f.Board.Serial != "0001" {
		w.t.Fatalf("inventory is %+v, %v, of %x", f.Board, err, b)
	}
	reservation, done, err := ClearLog(w.ask)
	for n := 0; err == nil && !done && n < 20; n++ {
		done, err = LogCleared(w.ask, reservation)
	}
	if err != nil {
		return err
	}
	if !done || len(w.bmc.Hardware.Events) != 0 {
		w.t.Fatalf("erased %v, %d events are left", done, len(w.bmc.Hardware.Events))
	}
	return nil
}

func TestSensorRecord_state(t *testing.T) {
	s := one(t, fullRecord("x", nil))
	for states, want := range map[uint16]string{0: " 1", 0x08: "above upper non-critical 3", 0x38: "above upper non-recoverable 4", 0x01: "below lower non-critical 3", 0x03: "below lower critical 4"} {
		if text, c := s.State(Reading{Valid: true, States: states}); fmt.Sprintf("%s %d", text, c) != want {
			t.Errorf("%x: got %q %d, want %q", states, text, c, want)
		}
	}
	if _, c := s.State(Reading{}); c != Unread {
		t.Error("what was not read has a condition")
	}
	r, ok := ParseReading([]byte{41, 0xe0})
	if !ok || r.Valid {
		t.Error("an unavailable reading is valid")
	}
}
