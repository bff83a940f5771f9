package ipmi

import (
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// exchangeOld is one request of a recording and its answer.
type exchangeOld struct {
	request Request
	answer  answer
}

// recordedOld reads what ipmitool and a BMC said in IPMI 1.5, and proves every code in it.
func recordedOld(t testing.TB) (all []exchangeOld) {
	text, err := os.ReadFile("testdata/ipmitool-md5.txt")
	if err != nil {
		t.Fatal(err)
	}
	requests := map[string]Request{}
	for line := range strings.Lines(string(text)) {
		direction, digits, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok || direction == "#" {
			continue
		}
		b := unhex(t, digits)
		p, err := parseOld(b)
		if err != nil {
			t.Fatalf("%s: %v", digits, err)
		}
		if again := appendOld(p.authentication, "secret", p.session, p.sequence, p.message); string(again) != string(b) {
			t.Errorf("%s: we would send %x", digits, again)
		}
		m := p.message
		if direction == ">" {
			r := Request{NetFn: m[1] >> 2, LUN: m[1] & 3, Command: m[5], Data: m[6 : len(m)-1]}
			requests[fmt.Sprint(m[4]>>2, r.Command)] = r
			continue
		}
		a, ok := parseAnswer(m)
		if !ok {
			t.Fatalf("%x is no answer", m)
		}
		if r, ok := requests[fmt.Sprint(a.number, a.command)]; ok {
			all = append(all, exchangeOld{r, a})
		}
	}
	return all
}

// TestRecorded_IPMI_15 replays a recording: the session's messages are those that we would send, and what the BMC told of its hardware reads as ipmitool
// showed it.
func TestRecorded_IPMI_15(t *testing.T) {
	sdr, fru := map[uint16][]byte{}, []byte(nil)
	var order []uint16
	var events []string
	sessions := 0
	for _, x := range recordedOld(t) {
		r, a := x.request, x.answer
		if a.code != CodeOK {
			continue
		}
		switch {
		case r.NetFn == netFnApp && r.Command == 0x39:
			if d := cmp.Diff(sessionChallenge("admin").Data, r.Data); d != "" {
				t.Error(d)
			}
		case r.NetFn == netFnApp && r.Command == 0x3a:
			s := setup{step: stepActivate, oldCommand: r.Command, packet: []byte{0}, oldNumber: a.number}
			if v, err := s.inputOld(a); v != opened || err != nil || s.oldAuth != authMD5 || s.firstOut == 0 {
				t.Errorf("activation: %v %v %+v", v, err, s)
			}
			if d := cmp.Diff(activateSession(Administrator, r.Data[2:18], binary.LittleEndian.Uint32(r.Data[18:])).Data, r.Data); d != "" {
				t.Error(d)
			}
			sessions++
		case r.NetFn == netFnStorage && r.Command == 0x23:
			id, offset := binary.LittleEndian.Uint16(r.Data[2:]), int(r.Data[4])
			if len(a.data) > 2 && offset == 0 {
				id = binary.LittleEndian.Uint16(a.data[2:])
				if sdr[id] == nil {
					order = append(order, id)
				}
				sdr[id] = nil
			}
			if offset == len(sdr[id]) {
				sdr[id] = append(sdr[id], a.data[2:]...)
			} else if offset < len(sdr[id]) {
				sdr[id] = append(sdr[id][:offset:offset], a.data[2:]...)
			}
		case r.NetFn == netFnStorage && r.Command == 0x43:
			e, ok := ParseEvent(a.data[2:])
			if !ok {
				t.Fatalf("%x is no event", a.data)
			}
			text, _ := e.Text(nil)
			if s := fmt.Sprintf("%d %s", e.ID, text); len(events) == 0 || events[len(events)-1] != s {
				events = append(events, s)
			}
		case r.NetFn == netFnStorage && r.Command == 0x11 && r.Data[0] == 0:
			at := int(binary.LittleEndian.Uint16(r.Data[1:]))
			for len(fru) < at+len(a.data)-1 {
				fru = append(fru, 0)
			}
			copy(fru[at:], a.data[1:])
		}
	}
	if sessions != 4 {
		t.Errorf("%d sessions were opened, want 4", sessions)
	}
	var repository Repository
	for _, id := range order {
		if err := repository.Add(sdr[id]); err != nil {
			t.Errorf("record %d %x: %v", id, sdr[id], err)
		}
	}
	var names []string
	for _, s := range repository.Sensors {
		names = append(names, s.Name+" "+s.Kind()+" "+s.Unit)
	}
	if d := cmp.Diff([]string{
		"CPU Temp temperature °C", "FAN1 fan RPM", "P12V voltage V", "Inlet temperature °C", "PSU 1 Power power W", "Hot temperature °C", "Root voltage V",
		"PSU 1 Status power supply ", "DIMM A1 memory ", "Riser slot ", "PS Redundancy power unit ",
	}, names); d != "" {
		t.Error(d)
	}
	if len(repository.FRUs) != 2 {
		t.Errorf("%d devices", len(repository.FRUs))
	}
	if d := cmp.Diff([]string{
		"1 upper critical going high: reading raw 5b, threshold raw 5a", "2 upper non-critical going high: reading raw 54, threshold raw 55 (no longer)",
		"3 failure detected", "4 uncorrectable ECC error: module 3", "5 front panel NMI", "6 hard reset: SMS/OS",
		"7 OEM record c1 of Dell: 010203040506", "8 OEM record e5: 0102030405060708090a0b0c0d",
	}, events); d != "" {
		t.Error(d)
	}
	f, err := ParseFRU(fru)
	if err != nil || f.Product == nil || f.Product.Name != "VirtualNode 2" || f.Product.Serial != "SRV0001" || f.Chassis.Serial != "CHS0001" || f.Board.Made.Year() != 2020 {
		t.Errorf("inventory of %d octets: %+v %v", len(fru), f.Product, err)
	}
}
