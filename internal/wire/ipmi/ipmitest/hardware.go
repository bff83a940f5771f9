package ipmitest

import (
	"encoding/binary"
	"slices"
)

// Hardware is what a BMC tells of its machine: records as they are on the wire, and what is wrong with the telling.
type Hardware struct {
	Records  [][]byte        // of the SDR repository
	Readings map[byte][]byte // by sensor number: the answer to Get Sensor Reading
	Limits   map[byte][]byte // and to Get Sensor Thresholds
	Events   [][]byte        // of the log; their first two octets are set here
	FRU      map[byte][]byte
	LAN      map[byte][]byte // parameters
	SOL      map[byte][]byte // and those of serial over LAN
	Watchdog []byte          // as Get Watchdog Timer answers, eight octets
	Changed  uint32          // time stamp of the repository

	Device bool // the records are device SDRs: there is no repository

	Most    int  // octets of data that one answer can hold; 0: all
	Cancel  int  // this many reservations are lost to others
	Erasing int  // this many questions find the log not erased yet
	Leaves  bool // is not there any more once its address was set
	Resets  int  // cold resets that were asked for
	Reads   int  // requests for records of the repository

	gone bool

	reservation uint16
}

// run is the answer to a command about the hardware; ok is false when it is about something else.
func (h *Hardware) run(netFn, cmd byte, data []byte) (code byte, answer []byte, ok bool) {
	u16 := func(i int) uint16 { return binary.LittleEndian.Uint16(data[i:]) }
	cut := func(b []byte) (byte, []byte, bool) {
		if h.Most > 0 && len(b) > h.Most {
			return 0xca, nil, true
		}
		return 0, b, true
	}
	next := func(id int, n int) []byte {
		if id+1 >= n {
			return []byte{0xff, 0xff}
		}
		return binary.LittleEndian.AppendUint16(nil, uint16(id+1))
	}
	if h.Device && netFn == 4 && cmd >= 0x20 && cmd <= 0x22 {
		if netFn, cmd = 0x0a, cmd+(0x23-0x21); cmd == 0x22 { // info
			return 0, binary.LittleEndian.AppendUint32([]byte{byte(len(h.Records)), 0x81}, h.Changed), true
		} else if cmd == 0x24 {
			cmd = 0x22
		}
	} else if h.Device && netFn == 0x0a && cmd < 0x30 && cmd > 0x11 {
		return 0xc1, nil, true
	}
	switch {
	case netFn == 6 && cmd == 0x01 && h.Device:
		return 0, []byte{0x20, 0x81, 2, 3, 0x02, 0x0d, 0, 0, 0, 0, 0}, true
	case netFn == 6 && cmd == 0x02:
		h.Resets++
		return 0, nil, true
	case netFn == 0x0a && cmd == 0x20:
		b := binary.LittleEndian.AppendUint16([]byte{0x51}, uint16(len(h.Records)))
		b = binary.LittleEndian.AppendUint32(append(b, 0, 0), h.Changed)
		return 0, append(b, 0, 0, 0, 0, 0x02), true
	case netFn == 0x0a && (cmd == 0x22 || cmd == 0x42):
		h.reservation++
		return 0, binary.LittleEndian.AppendUint16(nil, h.reservation), true
	case netFn == 0x0a && cmd == 0x23 && len(data) == 6:
		id, offset, n := int(u16(2)), int(data[4]), int(data[5])
		h.Reads++
		if id >= len(h.Records) {
			return 0xcb, nil, true
		}
		if offset > 0 {
			if h.Cancel > 0 {
				h.Cancel--
				h.reservation++
			}
			if u16(0) != h.reservation {
				return 0xc5, nil, true
			}
		}
		r := slices.Clone(h.Records[id])
		binary.LittleEndian.PutUint16(r, uint16(id))
		part := r[min(offset, len(r)):min(offset+n, len(r))]
		if h.Most > 0 && len(part) > h.Most {
			return 0xca, nil, true
		}
		return 0, append(next(id, len(h.Records)), part...), true
	case netFn == 4 && cmd == 0x2d && len(data) == 1 && h.Readings[data[0]] != nil:
		return 0, h.Readings[data[0]], true
	case netFn == 4 && cmd == 0x27 && len(data) == 1 && h.Limits[data[0]] != nil:
		return 0, h.Limits[data[0]], true
	case netFn == 4:
		return 0xcb, nil, true
	case netFn == 0x0a && cmd == 0x40:
		b := binary.LittleEndian.AppendUint16([]byte{0x51}, uint16(len(h.Events)))
		return 0, append(b, make([]byte, 11)...), true
	case netFn == 0x0a && cmd == 0x43 && len(data) == 6:
		id := int(u16(2))
		if id >= len(h.Events) {
			return 0xcb, nil, true
		}
		r := slices.Clone(h.Events[id])
		binary.LittleEndian.PutUint16(r, uint16(id))
		return 0, append(next(id, len(h.Events)), r...), true
	case netFn == 0x0a && cmd == 0x47 && len(data) == 6:
		switch {
		case h.Cancel > 0:
			h.Cancel--
			return 0xc5, nil, true
		case u16(0) != h.reservation:
			return 0xc5, nil, true
		case h.Erasing > 0:
			h.Erasing--
			return 0, []byte{0}, true
		}
		h.Events = nil
		return 0, []byte{1}, true
	case netFn == 0x0a && cmd == 0x10 && len(data) == 1 && h.FRU[data[0]] != nil:
		return 0, append(binary.LittleEndian.AppendUint16(nil, uint16(len(h.FRU[data[0]]))), 0), true
	case netFn == 0x0a && cmd == 0x11 && len(data) == 4 && h.FRU[data[0]] != nil:
		b := h.FRU[data[0]]
		offset, n := int(u16(1)), int(data[3])
		b = b[min(offset, len(b)):min(offset+n, len(b))]
		return cut(append([]byte{byte(len(b))}, b...))
	case netFn == 0x0a && cmd == 0x10:
		return 0xcb, nil, true
	case netFn == 0x0c && cmd == 0x22 && len(data) == 4 && h.SOL[data[1]] != nil:
		return 0, append([]byte{0x11}, h.SOL[data[1]]...), true
	case netFn == 0x0c && cmd == 0x21 && len(data) > 2 && h.SOL[data[1]] != nil:
		h.SOL[data[1]] = slices.Clone(data[2:])
		return 0, nil, true
	case netFn == 6 && cmd == 0x24 && len(data) == 6 && h.Watchdog != nil: // stops, unless told not to (§27.6)
		h.Watchdog = append(slices.Clone(data), data[4:]...)
		return 0, nil, true
	case netFn == 6 && cmd == 0x25 && h.Watchdog != nil:
		return 0, h.Watchdog, true
	case netFn == 6 && cmd == 0x22 && h.Watchdog != nil:
		h.Watchdog[0] |= 0x40
		return 0, nil, true
	case netFn == 0x0c && cmd == 0x02 && len(data) == 4 && h.LAN[data[1]] != nil:
		return 0, append([]byte{0x11}, h.LAN[data[1]]...), true
	case netFn == 0x0c && cmd == 0x02:
		return 0x80, nil, true
	case netFn == 0x0c && cmd == 0x01 && len(data) > 2:
		if h.LAN == nil {
			h.LAN = map[byte][]byte{}
		}
		h.LAN[data[1]] = slices.Clone(data[2:])
		h.gone = h.Leaves && data[1] == 3
		return 0, nil, true
	}
	return 0, nil, false
}
