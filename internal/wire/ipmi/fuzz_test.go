package ipmi

import (
	"math"
	"testing"
)

// seeds adds the data of all recorded answers to a command.
func seeds(f *testing.F, netFn, command byte, skip int) {
	for _, x := range recordedOld(f) {
		if x.request.NetFn == netFn && x.request.Command == command && len(x.answer.data) > skip {
			f.Add(x.answer.data[skip:])
		}
	}
}

func FuzzRepository(f *testing.F) {
	seeds(f, netFnStorage, 0x23, 2)
	f.Add(fullRecord("CPU Temp", nil))
	f.Add(compactRecord("PSU", func(b []byte) { b[23], b[24] = 0x1f, 0xff }))
	f.Add(eventOnlyRecord("OS"))
	f.Add(locatorRecord(7, "DIMM A1"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var r Repository
		if err := r.Add(b); err != nil && len(r.Sensors)+len(r.FRUs) > 0 {
			t.Errorf("%v, and %+v", err, r)
		}
		for i := range r.Sensors {
			s := &r.Sensors[i]
			_ = s.Kind()
			for raw := range 256 {
				v, ok := s.Value(byte(raw))
				if ok && (math.IsNaN(v) || math.IsInf(v, 0)) {
					t.Fatalf("%+v: %d is %v", s, raw, v)
				}
				s.State(Reading{Valid: true, Raw: byte(raw), States: uint16(raw) * 129})
			}
		}
	})
}

func FuzzEvent(f *testing.F) {
	seeds(f, netFnStorage, 0x43, 2)
	f.Add([]byte{1, 0, 2, 0, 0, 0, 0x66, 0x20, 0, 4, 0x2a, 1, 0x6f, 0xc2, 3, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		e, ok := ParseEvent(b)
		if ok != (len(b) >= eventSize) {
			t.Fatalf("%x: %v", b, ok)
		}
		s := SensorRecord{Analog: true, Factors: Factors{M: 1}, Unit: "V"}
		for _, sensor := range []*SensorRecord{nil, &s} {
			if text, _ := e.Text(sensor); ok && text == "" {
				t.Errorf("%x says nothing", b)
			}
		}
	})
}

// FuzzFRU reads a device as it would be read over the wire: it has to come to an end, within the size that the device tells.
func FuzzFRU(f *testing.F) {
	var whole []byte
	for _, x := range recordedOld(f) {
		if x.request.NetFn == netFnStorage && x.request.Command == 0x11 && len(x.answer.data) > 1 {
			whole = append(whole, x.answer.data[1:]...)
		}
	}
	f.Add(whole)
	d4 := make([]byte, 384)
	copy(d4, []byte{0x23, 0x11, 0x0c, 0x01, 0x85, 0x21})
	d4[12], d4[13], d4[18] = 0x08, 0x0b, 0x06
	f.Add(d4)
	d3 := make([]byte, 256)
	copy(d3, []byte{0x92, 0x11, 0x0b, 0x01, 0x04, 0x21, 0, 0x08, 0x0b, 0, 1, 8, 10})
	f.Add(d3)
	f.Fuzz(func(t *testing.T, b []byte) {
		asked := 0
		ask := func(r Request) ([]byte, error) {
			if r.Command == 0x10 {
				return []byte{byte(len(b)), byte(len(b) >> 8), 0}, nil
			}
			if asked++; asked > len(b)+2 {
				t.Fatalf("asked %d times for %d octets", asked, len(b))
			}
			at := int(r.Data[1]) | int(r.Data[2])<<8
			part := b[min(at, len(b)):min(at+int(r.Data[3]), len(b))]
			return append([]byte{byte(len(part))}, part...), nil
		}
		if len(b) > 0xffff {
			return
		}
		got, err := ReadFRU(ask, 0)
		if err != nil || len(got) > len(b) || string(got) != string(b[:len(got)]) {
			t.Fatalf("read %d of %d octets, %v", len(got), len(b), err)
		}
		if m, err := ParseFRU(got); err == nil && m.Memory != nil && m.Memory.Bytes < 0 {
			t.Errorf("%+v", m.Memory)
		}
		_, _ = ParseFRU(b)
	})
}

// FuzzAnswers lets a BMC answer everything with the same: the procedures have to come to an end.
func FuzzAnswers(f *testing.F) {
	f.Add(byte(0), []byte{0x11, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17})
	f.Add(byte(0xca), []byte{})
	f.Add(byte(0xc5), []byte{1, 0})
	for _, x := range recordedOld(f) {
		f.Add(byte(x.answer.code), x.answer.data)
	}
	f.Fuzz(func(t *testing.T, code byte, b []byte) {
		asked := 0
		ask := func(Request) ([]byte, error) {
			if asked++; asked > 20*recordsMost {
				t.Fatal("it asks for ever")
			}
			if code != 0 {
				return nil, &Error{Cause: Command, Code: Code(code)}
			}
			return b, nil
		}
		d, _ := ParseDevice(b)
		ParseGUID(b)
		for _, device := range []Device{d, {DeviceSDR: true}, {SDR: true}} {
			if s, err := GetStamp(ask, device); err == nil {
				_, _ = ReadRepository(ask, s)
			}
		}
		_, _ = ReadLog(ask)
		if r, done, err := ClearLog(ask); err == nil && !done {
			_, _ = LogCleared(ask, r)
		}
		_, _ = ReadFRU(ask, 0)
		channel, _ := ChannelNumber(ask)
		_, _, _ = GetUser(ask, channel, 2)
		ParseWatchdog(b)
		ParseReading(b)
		ParseLimits(b)
		ParseReadingFactors(b)
		for least := range 8 {
			if data, ok := ParameterData(b, least); ok && len(data) < least {
				t.Errorf("%d octets, want %d", len(data), least)
			}
		}
	})
}

// FuzzOld gives a peer packets of IPMI 1.5 at each step of a session: nothing that does not know the password opens one or answers a request.
func FuzzOld(f *testing.F) {
	for i, x := range recordedOld(f) {
		if i < 12 {
			f.Add(appendOld(authNone, "", 0, 0, appendMessage(nil, x.request, 1)), byte(i))
			f.Add(appendOld(authMD5, "guess", 5, 9, append([]byte{0x81, 0x1c, 0x63, 0x20, 0, x.answer.command, 0}, x.answer.data...)), byte(i))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, stop byte) {
		Addressee(b)
		if p, err := parseOld(b); err == nil && len(p.message) > len(b) {
			t.Fatal(p)
		}
		w := newFuzzWorld()
		w.bmc.Faults.Only15 = true
		w.peer.cfg.Known = IPMI15
		w.peer.Do(w.now, ChassisStatus(), "status")
		for range stop % 5 {
			for _, p := range w.peer.Packets() {
				w.bmc.Input(w.now, p)
			}
			for _, p := range w.bmc.Output() {
				w.peer.Input(w.now, p)
			}
		}
		w.peer.Events()
		w.peer.Input(w.now, b)
		for _, e := range w.peer.Events() {
			if e.Kind == SessionOpen && b[4] == authMD5 || e.Kind == Answered && e.Err == nil {
				t.Errorf("%x: %+v", b, e)
			}
		}
	})
}
