package lab

import (
	"encoding/binary"
	"sync"
	"time"
)

// event is the fixed part of a SEL record that one sensor makes: sensor type, number, and sensor-specific offsets
// (IPMI 2.0 table 42-3).
type event struct{ sensorType, sensor uint8 }

var (
	eventACPI      = event{0x22, sensorACPI} // 00h working, 05h soft-off
	eventPowerUnit = event{0x09, 0x80}       // 01h power cycle, 04h AC lost
	eventCritical  = event{0x13, 0x81}       // 00h diagnostic interrupt
	eventRestart   = event{0x1d, 0x82}       // 07h system restart
)

const (
	recordSize   = 16
	maxRecords   = 512
	sensorDirect = 0x6f // event type: sensor-specific, asserted
)

// eventLog is the system event log of one BMC. When it is full the oldest record goes.
type eventLog struct {
	now func() time.Time

	mu          sync.Mutex
	records     [][recordSize]byte
	last        uint16 // id of the newest record
	reservation uint16
	added       time.Time
	erased      time.Time
}

// add records that the event's sensor came into the state of the offset.
func (l *eventLog) add(e event, offset uint8) {
	l.append([recordSize]byte{2: 0x02, 7: 0x20, 9: 0x04, 10: e.sensorType, 11: e.sensor, 12: sensorDirect, 13: offset, 14: 0xff, 15: 0xff})
}

// append gives the record an id and, for system events (type 02h), the time (IPMI 2.0 table 32-1).
func (l *eventLog) append(r [recordSize]byte) uint16 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last++
	if l.last == 0 || l.last == 0xffff { // reserved: first and last in requests
		l.last = 1
	}
	binary.LittleEndian.PutUint16(r[0:], l.last)
	l.added = l.now()
	if r[2] < 0xe0 {
		binary.LittleEndian.PutUint32(r[3:], uint32(l.added.Unix()))
	}
	if len(l.records) == maxRecords {
		l.records = append(l.records[:0], l.records[1:]...)
	}
	l.records = append(l.records, r)
	return l.last
}

// get returns the record of an id and the id of the one after it; 0000h is the first, FFFFh the last.
func (l *eventLog) get(id uint16) (r [recordSize]byte, next uint16, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, x := range l.records {
		if id == 0 || id == binary.LittleEndian.Uint16(x[:]) || id == 0xffff && i == len(l.records)-1 {
			next = 0xffff
			if i+1 < len(l.records) {
				next = binary.LittleEndian.Uint16(l.records[i+1][:])
			}
			return x, next, true
		}
	}
	return r, 0, false
}

func (l *eventLog) delete(id uint16) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, x := range l.records {
		if id == binary.LittleEndian.Uint16(x[:]) || id == 0 && i == 0 || id == 0xffff && i == len(l.records)-1 {
			l.records = append(l.records[:i], l.records[i+1:]...)
			l.erased = l.now()
			return true
		}
	}
	return false
}

func (l *eventLog) clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.records, l.erased = nil, l.now()
}

func (l *eventLog) reserve() uint16 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reservation++
	if l.reservation == 0 {
		l.reservation = 1
	}
	return l.reservation
}

func (l *eventLog) reserved(id uint16) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return id != 0 && id == l.reservation
}

// info is the answer to Get SEL Info (IPMI 2.0 table 31-2).
func (l *eventLog) info() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := []byte{0x51} // SEL version 1.5, as for 2.0
	b = binary.LittleEndian.AppendUint16(b, uint16(len(l.records)))
	b = binary.LittleEndian.AppendUint16(b, uint16((maxRecords-len(l.records))*recordSize))
	b = binary.LittleEndian.AppendUint32(b, stamp(l.added))
	b = binary.LittleEndian.AppendUint32(b, stamp(l.erased))
	return append(b, 0x0a) // delete and reserve are supported
}

func stamp(t time.Time) uint32 {
	if t.IsZero() {
		return 0xffffffff // unspecified
	}
	return uint32(t.Unix())
}
