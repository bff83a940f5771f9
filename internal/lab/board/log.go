package board

import (
	"encoding/binary"
	"sync"
	"time"

	"github.com/bougou/go-ipmi/pkg/types"
)

// Event is the fixed part of a SEL record that one sensor makes: sensor type, number, and sensor-specific offsets
// (IPMI 2.0 table 42-3).
type Event struct{ SensorType, Sensor uint8 }

// Events that a machine and its BMC make.
var (
	EventACPI      = Event{0x22, SensorACPI} // 00h working, 05h soft-off
	EventPowerUnit = Event{0x09, 0x80}       // 01h power cycle, 04h AC lost
	EventCritical  = Event{0x13, 0x81}       // 00h diagnostic interrupt
	EventRestart   = Event{0x1d, 0x82}       // 07h system restart
)

// Sizes of a log, and the event type of sensor-specific offsets.
const (
	RecordSize   = 16
	MaxRecords   = 512
	SensorDirect = 0x6f // event type: sensor-specific, asserted
)

// EventLog is the system event log of one BMC. When it is full the oldest record goes.
type EventLog struct {
	Now func() time.Time // the clock of the BMC

	mu          sync.Mutex
	records     [][RecordSize]byte
	last        uint16 // id of the newest record
	reservation uint16
	added       time.Time
	erased      time.Time
}

// Add records that the sensor of e came into the state of the offset.
func (l *EventLog) Add(e Event, offset uint8) {
	l.Append([RecordSize]byte{2: 0x02, 7: 0x20, 9: 0x04, 10: e.SensorType, 11: e.Sensor, 12: SensorDirect, 13: offset, 14: 0xff, 15: 0xff})
}

// Append gives the record an id and, for system events (type 02h), the time (IPMI 2.0 table 32-1).
func (l *EventLog) Append(r [RecordSize]byte) uint16 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last++
	if l.last == 0 || l.last == 0xffff { // reserved: first and last in requests
		l.last = 1
	}
	binary.LittleEndian.PutUint16(r[0:], l.last)
	l.added = l.Now()
	if r[2] < 0xe0 {
		binary.LittleEndian.PutUint32(r[3:], uint32(l.added.Unix()))
	}
	if len(l.records) == MaxRecords {
		l.records = append(l.records[:0], l.records[1:]...)
	}
	l.records = append(l.records, r)
	return l.last
}

// Get returns the record of an id and the id of the one after it; 0000h is the first, FFFFh the last.
func (l *EventLog) Get(id uint16) (r [RecordSize]byte, next uint16, ok bool) {
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

func (l *EventLog) remove(id uint16) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, x := range l.records {
		if id == binary.LittleEndian.Uint16(x[:]) || id == 0 && i == 0 || id == 0xffff && i == len(l.records)-1 {
			l.records = append(l.records[:i], l.records[i+1:]...)
			l.erased = l.Now()
			return true
		}
	}
	return false
}

// Clear removes all records.
func (l *EventLog) Clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.records, l.erased = nil, l.Now()
}

func (l *EventLog) reserve() uint16 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reservation++
	if l.reservation == 0 {
		l.reservation = 1
	}
	return l.reservation
}

func (l *EventLog) reserved(id uint16) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return id != 0 && id == l.reservation
}

// info is the answer to Get SEL Info (IPMI 2.0 table 31-2).
func (l *EventLog) info() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := []byte{0x51} // SEL version 1.5, as for 2.0
	b = binary.LittleEndian.AppendUint16(b, uint16(len(l.records)))
	b = binary.LittleEndian.AppendUint16(b, uint16((MaxRecords-len(l.records))*RecordSize))
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

// LogCommands are the commands of network function Storage that [EventLog.Answer] knows (§31).
var LogCommands = []byte{0x40, 0x42, 0x43, 0x44, 0x46, 0x47, 0x48, 0x49, 0x5c}

// Answer does a command of [LogCommands] and returns its answer and completion code.
func (l *EventLog) Answer(command byte, q []byte) ([]byte, types.CompletionCode) {
	word := binary.LittleEndian.Uint16
	if len(q) < map[byte]int{0x43: 6, 0x44: RecordSize, 0x46: 4, 0x47: 6, 0x49: 4}[command] {
		return nil, types.CodeRequestDataLengthInvalid
	}
	switch command {
	case 0x40: // Get SEL Info
		return l.info(), types.CodeOK
	case 0x42: // Reserve SEL
		return binary.LittleEndian.AppendUint16(nil, l.reserve()), types.CodeOK
	case 0x43: // Get SEL Entry
		record, next, ok := l.Get(word(q[2:]))
		if !ok {
			return nil, types.CodeRequestedDataNotPresent
		}
		from, n := int(q[4]), int(q[5])
		if from > RecordSize {
			return nil, types.CodeParameterOutOfRange
		}
		to := min(from+n, RecordSize) // n is FFh for all
		return append(binary.LittleEndian.AppendUint16(nil, next), record[from:to]...), types.CodeOK
	case 0x44: // Add SEL Entry
		return binary.LittleEndian.AppendUint16(nil, l.Append([RecordSize]byte(q))), types.CodeOK
	case 0x46: // Delete SEL Entry
		if !l.remove(word(q[2:])) {
			return nil, types.CodeRequestedDataNotPresent
		}
		return q[2:4], types.CodeOK
	case 0x47: // Clear SEL
		if !l.reserved(word(q)) {
			return nil, types.CodeReservationCanceled
		}
		if string(q[2:5]) != "CLR" {
			return nil, types.CodeRequestDataFieldInvalid
		}
		if q[5] == 0xaa {
			l.Clear()
		}
		return []byte{0x01}, types.CodeOK // erasure completed
	case 0x48: // Get SEL Time
		return binary.LittleEndian.AppendUint32(nil, uint32(l.Now().Unix())), types.CodeOK
	case 0x49: // Set SEL Time: the clock is that of the host, setting it is accepted and changes nothing
		return nil, types.CodeOK
	case 0x5c: // Get SEL Time UTC Offset
		return []byte{0, 0}, types.CodeOK
	}
	return nil, types.CodeInvalidCommand
}
