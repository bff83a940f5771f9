package ipmi

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
)

// Device is who a BMC says it is (§20.1).
type Device struct {
	ID, Revision byte
	Firmware     string // "2.35": major, minor as two decimal digits
	Version      string // of IPMI: "2.0"
	Manufacturer uint32 // by its IANA enterprise number; see [Vendor]
	Product      uint16
	Updating     bool // its firmware is being updated, or it starts
	DeviceSDR    bool // has a device SDR repository of its own
	SDR          bool // has the SDR repository
	SEL, FRU     bool
}

// ParseDevice reads the answer to [GetDeviceID].
func ParseDevice(b []byte) (d Device, ok bool) {
	if len(b) < 5 {
		return Device{}, false
	}
	d = Device{
		ID: b[0], Revision: b[1] & 0x0f, DeviceSDR: b[1]&0x80 != 0, Updating: b[2]&0x80 != 0,
		Firmware: fmt.Sprintf("%d.%02x", b[2]&0x7f, b[3]), Version: fmt.Sprintf("%d.%d", b[4]&0x0f, b[4]>>4),
	}
	if len(b) >= 11 { // IPMI 1.0 ends before
		d.SDR, d.SEL, d.FRU = b[5]&0x02 != 0, b[5]&0x04 != 0, b[5]&0x08 != 0
		d.Manufacturer = uint32(b[6]) | uint32(b[7])<<8 | uint32(b[8]&0x0f)<<16
		d.Product = binary.LittleEndian.Uint16(b[9:])
	}
	return d, true
}

// vendors are those whose controllers one meets, by their IANA enterprise number. 47488 is another's at IANA, and what Supermicro's controllers say.
var vendors = map[uint32]string{
	2: "IBM", 9: "Cisco", 11: "HP", 42: "Sun", 116: "Hitachi", 119: "NEC", 343: "Intel", 674: "Dell", 2011: "Huawei", 2623: "ASUSTek", 4337: "RadiSys",
	4753: "MontaVista", 5703: "NVIDIA", 5771: "Cisco", 6569: "Inventec", 6653: "Tyan", 7244: "Quanta", 9237: "Viking", 10297: "Advantech", 10368: "Fujitsu",
	10418: "Avocent", 10437: "Peppercon", 10876: "Supermicro", 11129: "Google", 12634: "PICMG", 13742: "Raritan", 15000: "Kontron", 15370: "Gigabyte",
	16394: "nVent", 19046: "Lenovo", 20301: "IBM", 20569: "Inventec", 20974: "AMI", 24339: "ADLINK", 25506: "H3C", 28458: "Nokia", 33049: "Mellanox",
	37945: "Inspur", 40092: "Wiwynn", 40981: "Facebook", 42817: "IBM", 45065: "Insyde", 46045: "ByteDance", 47196: "HPE", 47488: "Supermicro",
	49150: "Vertiv", 49622: "ASRock Rack", 49769: "YADRO", 51974: "Raptor", 52538: "Ampere",
}

// Vendor names the holder of an IANA enterprise number, or says the number.
func Vendor(n uint32) string {
	if name, ok := vendors[n]; ok {
		return name
	}
	if n == 0 || n == 0xfffff {
		return ""
	}
	return fmt.Sprintf("enterprise %d", n)
}

// GetSystemGUID asks for the UUID of the machine (§22.14).
func GetSystemGUID() Request { return Request{NetFn: netFnApp, Command: 0x37} }

// ParseGUID reads the answer to [GetSystemGUID] as a UUID in lower case. The specification has all octets in reverse, most controllers do as SMBIOS does
// (the first three fields in reverse) and some follow RFC 4122: the first order that gives a UUID with a sensible version and variant is taken, that of SMBIOS
// when none does.
func ParseGUID(b []byte) (uuid string, ok bool) {
	if len(b) < 16 {
		return "", false
	}
	smbios := [16]byte{b[3], b[2], b[1], b[0], b[5], b[4], b[7], b[6], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]}
	var reverse [16]byte
	for i := range reverse {
		reverse[i] = b[15-i]
	}
	u := smbios
	for _, v := range [][16]byte{smbios, reverse, [16]byte(b)} {
		if version := v[6] >> 4; v[8]&0xc0 == 0x80 && version >= 1 && version <= 5 {
			u = v
			break
		}
	}
	s := hex.EncodeToString(u[:])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:], u != [16]byte{}
}

// ColdReset starts the BMC anew (§20.2). Many do not answer before they go.
func ColdReset() Request { return Request{NetFn: netFnApp, Command: 0x02, Once: true} }

// Identify lights the locator for so many seconds, 0 puts it out; always leaves it on (§28.5). Controllers of IPMI 1.5 know no always.
func Identify(seconds byte, always bool) Request {
	r := Request{NetFn: netFnChassis, Command: 0x04, Data: []byte{seconds}}
	if always {
		r.Data = append(r.Data, 1)
	}
	return r
}

// Ask sends one request and waits for the answer's data: the procedures of this room that take several requests are written over it. Its errors come
// back as they are, except an [*Error] with the cause Command where a procedure knows what to do.
type Ask func(Request) ([]byte, error)
