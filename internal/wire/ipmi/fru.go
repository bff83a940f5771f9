package ipmi

import (
	"encoding/binary"
	"fmt"
	"time"
)

// Inventory data of a field replaceable unit, by the Platform Management FRU Information Storage Definition v1.0 ("FRU spec." below).
//
//	header(8) │ internal use │ chassis │ board │ product │ records
//	            offsets in the header, in units of 8 octets; 0: there is none

// FRU is what inventory data say. Fields are empty where the data have none.
type FRU struct {
	Chassis *FRUArea
	Board   *FRUArea
	Product *FRUArea
	Supply  *FRUSupply
	Memory  *Memory // the device is the SPD of a memory module instead
}

// FRUArea is one area. Not each kind of area has each field.
type FRUArea struct {
	Type    byte // of a chassis, as SMBIOS has it
	Made    time.Time
	Vendor  string
	Name    string
	Number  string // part number, or model
	Version string
	Serial  string
	Asset   string
	Custom  []string
}

// FRUSupply is a power supply (FRU spec. §18.1).
type FRUSupply struct {
	Watts int // zero: not specified
}

const (
	fruHeader = 8
	fruMost   = 64 << 10
	spdMost   = 384 // octets of a DDR4 SPD that tell who made it
)

// fruAreas are the offsets of chassis, board and product area, in octets.
func fruAreas(b []byte) (areas [3]int, records int) {
	for i := range areas {
		areas[i] = int(b[2+i]) * 8
	}
	return areas, int(b[5]) * 8
}

// isSPD says that the data are those of a memory module: DDR3 or DDR4 by the third octet, and a count of octets in the first that no FRU header has.
func isSPD(b []byte) bool { return len(b) > 2 && b[0] != 0x01 && (b[2] == 0x0b || b[2] == 0x0c) }

// FRUNeed says how many octets of a device have to be read before [ParseFRU] can read it all, as far as the octets that are there tell: read on until it
// asks for no more than there are.
func FRUNeed(b []byte) int {
	if len(b) < fruHeader {
		return fruHeader
	}
	if isSPD(b) {
		return spdMost
	}
	if checksum(b[:fruHeader]) != 0 || b[0]&0x0f != 1 {
		return len(b)
	}
	need := fruHeader
	areas, records := fruAreas(b)
	for _, at := range areas {
		switch {
		case at == 0:
		case len(b) < at+2:
			need = max(need, at+2)
		default:
			need = max(need, at+int(b[at+1])*8)
		}
	}
	for at := records; at != 0 && at < fruMost; {
		if need = max(need, at+5); len(b) < at+5 || b[at]&0x0f == 0 && b[at+1] == 0 {
			break
		}
		last := b[at+1]&0x80 != 0
		at += 5 + int(b[at+2])
		if need = max(need, at); last {
			break
		}
	}
	return min(need, fruMost)
}

// ParseFRU reads inventory data. An area whose checksum is wrong is read all the same, as vendors get it wrong; one that is cut is left out.
func ParseFRU(b []byte) (f FRU, err error) {
	if isSPD(b) {
		m, err := parseSPD(b)
		f.Memory = m
		return f, err
	}
	if len(b) < fruHeader || b[0]&0x0f != 1 || checksum(b[:fruHeader]) != 0 {
		return FRU{}, fmt.Errorf("inventory data: not a FRU header")
	}
	areas, records := fruAreas(b)
	for i, at := range areas {
		if at == 0 || len(b) < at+3 {
			continue
		}
		a := b[at:min(at+int(b[at+1])*8, len(b))]
		if len(a) < 8 {
			continue
		}
		switch i {
		case 0:
			f.Chassis = &FRUArea{Type: a[2]}
			f.Chassis.read(a[3:], &f.Chassis.Number, &f.Chassis.Serial)
		case 1:
			f.Board = &FRUArea{}
			if minutes := uint32(a[3]) | uint32(a[4])<<8 | uint32(a[5])<<16; minutes != 0 {
				f.Board.Made = time.Date(1996, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(minutes) * time.Minute)
			}
			f.Board.read(a[6:], &f.Board.Vendor, &f.Board.Name, &f.Board.Serial, &f.Board.Number, nil)
		case 2:
			f.Product = &FRUArea{}
			p := f.Product
			p.read(a[3:], &p.Vendor, &p.Name, &p.Number, &p.Version, &p.Serial, &p.Asset, nil)
		}
	}
	f.readRecords(b, records)
	return f, nil
}

// read takes the fields of an area one after the other; those past the list are custom.
func (a *FRUArea) read(b []byte, fields ...*string) {
	for i := 0; len(b) > 0 && b[0] != 0xc1; i++ {
		n := int(b[0] & 0x3f)
		if len(b) < 1+n {
			return
		}
		text := decodeText(b[0]>>6, b[1:1+n])
		if b[0]>>6 == encodingBinary {
			text = decodeBinary(b[1 : 1+n])
		}
		switch {
		case i >= len(fields):
			if text != "" {
				a.Custom = append(a.Custom, text)
			}
		case fields[i] != nil:
			*fields[i] = text
		}
		b = b[1+n:]
	}
}

// decodeBinary is a binary field as text: as it is where it is ASCII, else in hexadecimal.
func decodeBinary(b []byte) string {
	for _, c := range b {
		if c != 0 && (c < 0x20 || c > 0x7e) {
			return fmt.Sprintf("%x", b)
		}
	}
	return decodeText(encodingASCII, b)
}

// readRecords reads the multi-record area (FRU spec. §16).
func (f *FRU) readRecords(b []byte, at int) {
	for at != 0 && len(b) >= at+5 && checksum(b[at:at+5]) == 0 {
		kind, last, n := b[at], b[at+1]&0x80 != 0, int(b[at+2])
		if len(b) < at+5+n {
			return
		}
		if d := b[at+5 : at+5+n]; kind == 0 && n >= 2 {
			f.Supply = &FRUSupply{Watts: int(binary.LittleEndian.Uint16(d) & 0x0fff)}
		}
		if at += 5 + n; last {
			return
		}
	}
}

// ReadFRU reads as many octets of a device as [ParseFRU] wants, in parts that get smaller when the controller cannot send them (§34.1, §34.2). A device that
// is not there answers an [*Error] with CodeAbsent or another code.
func ReadFRU(ask Ask, device byte) ([]byte, error) {
	info, err := ask(Request{NetFn: netFnStorage, Command: 0x10, Data: []byte{device}})
	if err != nil {
		return nil, err
	}
	if len(info) < 3 {
		return nil, &Error{Cause: Protocol, Step: "get FRU inventory area info"}
	}
	size, unit := int(binary.LittleEndian.Uint16(info)), 1
	if info[2]&1 != 0 { // counts words
		unit = 2
	}
	var b []byte
	for chunk := 128; ; {
		need := min(FRUNeed(b), size)
		if len(b) >= need {
			return b, nil
		}
		n := min(chunk, (need-len(b)+unit-1)/unit*unit)
		d := binary.LittleEndian.AppendUint16([]byte{device}, uint16(len(b)/unit))
		a, err := ask(Request{NetFn: netFnStorage, Command: 0x11, Data: append(d, byte(n/unit))})
		switch {
		case tooMuch(commandCode(err)) && chunk > 8:
			chunk /= 2
			continue
		case err != nil && len(b) > 0 && commandCode(err) != CodeOK: // the data say that there is more than there is
			return b, nil
		case err != nil:
			return nil, err
		}
		if len(a) < 1 || a[0] == 0 || len(a)-1 < int(a[0])*unit {
			return b, nil
		}
		b = append(b, a[1:1+int(a[0])*unit]...)
	}
}
