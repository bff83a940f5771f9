package ipmi

import "fmt"

// Memory is what the SPD of a memory module says.
type Memory struct {
	Kind   string // "DDR3", "DDR4"
	Bytes  int64
	Speed  int // MT/s
	Vendor string
	Number string
	Serial string
}

// jedecVendors are the makers of modules by bank (count of continuation codes) and code, without parity (JEP106).
var jedecVendors = map[[2]byte]string{
	{0, 0x2c}: "Micron", {0, 0x4e}: "Samsung", {0, 0x2d}: "SK hynix", {1, 0x18}: "Kingston", {3, 0x0b}: "Nanya", {5, 0x1b}: "Crucial",
	{2, 0x1e}: "Corsair", {4, 0x4d}: "G.Skill", {1, 0x7a}: "Apacer", {1, 0x4f}: "Transcend", {0, 0x41}: "Infineon", {4, 0x4b}: "A-DATA", {3, 0x25}: "Kingmax",
	{2, 0x7e}: "Elpida", {1, 0x14}: "Smart Modular",
}

// parseSPD reads the SPD of a DDR3 or DDR4 module (JESD21-C, annexes K and L).
func parseSPD(b []byte) (*Memory, error) {
	m := &Memory{}
	var density, width, ranks, bus, dies, vendor, serial, number, length int
	switch {
	case b[2] == 0x0b && len(b) >= 146:
		m.Kind = "DDR3"
		density, width, ranks, bus, dies = int(b[4]&0x0f), int(b[7]&7), int(b[7]>>3&7)+1, int(b[8]&7), 1
		vendor, serial, number, length = 117, 122, 128, 18
		if b[11] != 0 && b[10] != 0 && b[12] != 0 { // medium time base in ns: b[10]/b[11]
			m.Speed = roundSpeed(2000 * int(b[11]) / (int(b[12]) * int(b[10])))
		}
	case b[2] == 0x0c && len(b) >= 349:
		m.Kind = "DDR4"
		density, width, ranks, bus, dies = int(b[4]&0x0f), int(b[12]&7), int(b[12]>>3&7)+1, int(b[13]&7), 1
		if b[6]&3 == 2 { // stacked dies that look like one each
			dies = int(b[6]>>4&7) + 1
		}
		if density >= 8 { // 12 and 24 Gbit
			return nil, fmt.Errorf("inventory data: SPD with a density that is not known here")
		}
		vendor, serial, number, length = 320, 325, 329, 20
		if ps := int(b[18])*125 + int(int8(b[125])); ps > 0 {
			m.Speed = roundSpeed(2_000_000 / ps)
		}
	default:
		return nil, fmt.Errorf("inventory data: SPD cut after %d octets", len(b))
	}
	if density > 9 || width > 3 || bus > 3 {
		return nil, fmt.Errorf("inventory data: SPD that makes no sense")
	}
	m.Bytes = int64(256<<20/8) << density * int64(8<<bus) / int64(4<<width) * int64(ranks*dies)
	bank, code := b[vendor]&0x7f, b[vendor+1]&0x7f
	m.Vendor = jedecVendors[[2]byte{bank, code}]
	if m.Vendor == "" && code != 0 {
		m.Vendor = fmt.Sprintf("JEDEC bank %d code %02x", bank+1, code)
	}
	m.Serial = fmt.Sprintf("%02X%02X%02X%02X", b[serial], b[serial+1], b[serial+2], b[serial+3])
	m.Number = decodeText(encodingASCII, b[number:number+length])
	return m, nil
}

// roundSpeed takes a rate that was computed of a rounded cycle to the grade that it stands for.
func roundSpeed(mts int) int {
	for _, grade := range []int{800, 1066, 1333, 1600, 1866, 2133, 2400, 2666, 2933, 3200} {
		if d := mts - grade; d >= -20 && d <= 20 {
			return grade
		}
	}
	return mts
}
