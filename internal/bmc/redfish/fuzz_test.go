package redfish

import (
	"bytes"
	"encoding/json"
	"io"
	"math"
	"strings"
	"testing"
	"unicode/utf8"
)

// seeds are the resources of the simulated controllers.
func seeds(f *testing.F) {
	for _, s := range shapes {
		for line := range strings.Lines(s.tree) {
			if _, text, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
				f.Add([]byte(text))
			}
		}
	}
	f.Add([]byte(`{"error":{"@Message.ExtendedInfo":{"MessageId":"Base.1.8.X","Message":7}}}`))
	f.Add([]byte(`{"Reading":1e999,"Id":{},"PercentComplete":"1e300","Members":[null,7,{}],"Messages":null}`))
}

// Whatever a controller sends is taken or refused, and what is taken makes sense to those who get it.
func FuzzDecode(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, v := range []any{
			&serviceRoot{}, &collection{}, &actionInfo{}, &system{}, &controller{}, &chassis{}, &sensor{}, &thermal{}, &power{}, &logService{}, &logEntry{}, &event{},
			&processor{}, &memory{}, &storage{}, &storageController{}, &drive{}, &simpleStorage{}, &adapter{}, &port{}, &ethernet{}, &pcieDevice{}, &networkProtocol{},
			&account{}, &bios{}, &software{}, &updateService{}, &task{}, &eventService{}, &virtualMedia{}, &failure{}, &powerSupply{},
		} {
			if err := decode(data, v); err != nil && json.Valid(data) {
				t.Errorf("%T: %v of valid JSON", v, err)
			}
		}
		var s sensor
		if decode(data, &s) == nil {
			if p := s.plain(); p.Value != nil && (math.IsNaN(*p.Value) || math.IsInf(*p.Value, 0)) || p.Health == "" {
				t.Errorf("%+v", p)
			}
		}
		var e logEntry
		if decode(data, &e) == nil && e.plain().Health == "" {
			t.Errorf("%+v", e.plain())
		}
		var r resources
		if decode(data, &r.lan) == nil && decode(data, &r.net) == nil && decode(data, &r.bios) == nil && decode(data, &r.pending) == nil {
			all := r.settings()
			if _, err := r.plan(all, quirk{}); err != nil && len(all) == 0 {
				t.Errorf("no settings are refused: %v", err)
			}
			if _, off := r.compare(all); len(off) > 0 && utf8.Valid(data) {
				t.Errorf("what was read differs from itself: %q", off)
			}
		}
		var k task
		if decode(data, &k) == nil {
			_, _ = k.done(func(_ string, percent int) {
				if percent < -1 || percent > 100 {
					t.Errorf("%d percent", percent)
				}
			})
		}
		var x failure
		if decode(data, &x) == nil {
			for _, m := range x.messages() {
				_ = m.name()
			}
		}
		var root serviceRoot
		if decode(data, &root) == nil {
			_ = quirkOf(root)
		}
		var l link
		if decode(data, &l) == nil {
			if p := pathOf(l.ID); p != "" && !strings.HasPrefix(p, "/") {
				t.Errorf("path %q", p)
			}
		}
	})
}

// A stream of events gives the same events however it is cut into reads, and never more than was sent.
func FuzzSSE(f *testing.F) {
	f.Add([]byte("data: {\"Events\":[]}\n\n: beat\n\ndata: a\r\ndata: b\r\n\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var whole, cut [][]byte
		_ = sse(bytes.NewReader(data), func(b []byte) { whole = append(whole, b) })
		_ = sse(&slow{data}, func(b []byte) { cut = append(cut, b) })
		if !bytes.Equal(bytes.Join(whole, []byte{0}), bytes.Join(cut, []byte{0})) || len(whole) != len(cut) {
			t.Errorf("%q in one, %q in pieces", whole, cut)
		}
		n := 0
		for _, b := range whole {
			n += len(b)
		}
		if n > len(data) {
			t.Errorf("%d octets of %d", n, len(data))
		}
	})
}

type slow struct{ b []byte }

func (s *slow) Read(b []byte) (int, error) {
	n := copy(b[:min(1, len(b))], s.b)
	s.b = s.b[n:]
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}
