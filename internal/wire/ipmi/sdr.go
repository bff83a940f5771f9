package ipmi

import (
	"encoding/binary"
	"errors"
	"math"
	"strconv"
)

// Record types of the sensor data repository (§43).
const (
	recordFull      = 0x01
	recordCompact   = 0x02
	recordEventOnly = 0x03
	recordFRU       = 0x11
)

// Factors make a value of a reading (§36.3): y = L[(M·x + B·10^K1) · 10^K2].
type Factors struct {
	M, B   int16
	K1, K2 int8 // exponents of B and of the result
}

// SensorRecord is one sensor as its SDR describes it (§43.1 to §43.3). A compact record that several sensors share becomes one for each.
type SensorRecord struct {
	Owner    byte // slave address of the controller that has the sensor, or the software id of its owner
	Channel  byte
	LUN      byte
	Number   byte
	Entity   byte // table 43-13
	Instance byte
	Type     byte // table 42-3
	Reading  byte // event/reading type code, table 42-1: 1 is threshold, 6Fh is sensor-specific
	Name     string
	Unit     string
	Readable bool // false: it makes events only
	Analog   bool // a reading is a value
	Format   byte // of the reading: 0 unsigned, 1 ones' complement, 2 two's complement
	Linear   byte // linearisation, table 43-1; 70h and above: the factors depend on the reading
	Factors  Factors
	Access   byte   // to thresholds: 0 none, 1 readable, 2 settable too, 3 fixed
	Mask     byte   // thresholds that can be read, in the order of Limits
	Limits   Limits // of the record; where the mask allows, the controller has the present ones
}

// Limits are raw thresholds: lower non-critical, critical, non-recoverable, then upper ones (§35.9). Has tells by bit which there are.
type Limits struct {
	Has byte
	Raw [6]byte
}

// FRULocator says where inventory data are and what they are about (§43.8).
type FRULocator struct {
	Device   byte // FRU device id, when Logical
	Logical  bool // reached by Read FRU Data; others lie behind a private bus
	Owner    byte // controller that has them
	LUN      byte
	Channel  byte
	Entity   byte
	Instance byte
	Type     byte // device type; 10h with Modifier 2 is a memory module's SPD
	Modifier byte
	Name     string
}

// Repository is what of the sensor data repository muster uses.
type Repository struct {
	Sensors []SensorRecord
	FRUs    []FRULocator
}

var errRecord = errors.New("not a sensor data record")

// Add reads one record and adds it; records of other types are left out. The octets are header and body; it keeps none.
func (r *Repository) Add(b []byte) error {
	if len(b) < 6 || len(b) < 5+int(b[4]) {
		return errRecord
	}
	b = b[:5+int(b[4])]
	switch b[3] {
	case recordFull, recordCompact, recordEventOnly:
		return r.addSensor(b)
	case recordFRU:
		if len(b) < 16 {
			return errRecord
		}
		r.FRUs = append(r.FRUs, FRULocator{
			Device: b[6], Logical: b[7]&0x80 != 0, Owner: b[5] &^ 1, LUN: b[7] >> 3 & 3, Channel: b[8] >> 4, Entity: b[12], Instance: b[13], Type: b[10], Modifier: b[11],
			Name: sdrText(b, 15),
		})
	}
	return nil
}

// sdrText reads the id string whose type/length octet is at i.
func sdrText(b []byte, i int) string {
	if i >= len(b) {
		return ""
	}
	n := int(b[i] & 0x1f)
	return decodeText(b[i]>>6, b[i+1:min(i+1+n, len(b))])
}

func (r *Repository) addSensor(b []byte) error {
	kind := b[3]
	name, least := 47, 48
	switch kind {
	case recordCompact:
		name, least = 31, 32
	case recordEventOnly:
		name, least = 16, 17
	}
	if len(b) < least {
		return errRecord
	}
	s := SensorRecord{Owner: b[5], Channel: b[6] >> 4, LUN: b[6] & 3, Number: b[7], Entity: b[8], Instance: b[9], Name: sdrText(b, name)}
	if kind == recordEventOnly {
		s.Type, s.Reading = b[10], b[11]&0x7f
		r.share(s, b[12:])
		return nil
	}
	s.Type, s.Reading, s.Readable = b[12], b[13]&0x7f, true
	s.Unit = unitText(b[20], b[21], b[22])
	if kind == recordCompact {
		r.share(s, b[23:])
		return nil
	}
	s.Format = b[20] >> 6
	s.Analog = s.Format != 3 && (s.Reading == 1 || s.Reading == 0x6f && b[21] != 0)
	s.Linear = b[23] & 0x7f
	s.Factors = parseFactors(b[24], b[25], b[26], b[27], b[29])
	s.Access = b[11] >> 2 & 3
	if s.Reading == 1 && s.Access != 0 {
		s.Mask = b[18] & 0x3f
		s.Limits = Limits{Raw: [6]byte{b[41], b[40], b[39], b[38], b[37], b[36]}, Has: s.Mask}
		if s.Access == 3 { // fixed: the mask tells which there are (§43.1, octets 19 and 20)
			s.Mask = 0
		}
	}
	r.Sensors = append(r.Sensors, s)
	return nil
}

// share adds a sensor, once for each that its record stands for (§43.2, octets 24 and 25).
func (r *Repository) share(s SensorRecord, b []byte) {
	n := int(b[0] & 0x0f)
	if n <= 1 {
		r.Sensors = append(r.Sensors, s)
		return
	}
	number, instance, offset := s.Number, s.Instance, int(b[1]&0x7f)
	name := s.Name
	for i := range n {
		s.Number = number + byte(i)
		if b[1]&0x80 != 0 {
			s.Instance = instance + byte(i)
		}
		s.Name = name + strconv.Itoa(offset+i)
		if b[0]>>4&3 == 1 {
			s.Name = name + letters(offset+i)
		}
		r.Sensors = append(r.Sensors, s)
	}
}

// letters counts A, B, … Z, AA, AB.
func letters(n int) string {
	if n < 26 {
		return string(rune('A' + n))
	}
	return letters(n/26-1) + letters(n%26)
}

// parseFactors reads M, B and the exponents (§43.1, octets 25 to 30).
func parseFactors(m, mt, b, ba, k byte) Factors {
	ten := func(low, high byte) int16 { return int16(uint16(high>>6)<<14|uint16(low)<<6) >> 6 }
	return Factors{M: ten(m, mt), B: ten(b, ba), K1: int8(k<<4) >> 4, K2: int8(k) >> 4}
}

// number is the reading as its format has it.
func (s *SensorRecord) number(raw byte) float64 {
	switch s.Format {
	case 1:
		if raw&0x80 != 0 {
			return -float64(^raw)
		}
	case 2:
		return float64(int8(raw))
	}
	return float64(raw)
}

// Value makes a value in s.Unit of a raw reading or threshold; ok is false when there is none.
func (s *SensorRecord) Value(raw byte) (v float64, ok bool) {
	if !s.Analog {
		return 0, false
	}
	return s.ValueBy(s.Factors, raw)
}

// NonLinear says that the factors depend on the reading: see [GetReadingFactors].
func (s *SensorRecord) NonLinear() bool { return s.Linear >= 0x70 }

// ValueBy is Value with factors that the controller gave for this reading.
func (s *SensorRecord) ValueBy(f Factors, raw byte) (v float64, ok bool) {
	v = (float64(f.M)*s.number(raw) + float64(f.B)*math.Pow10(int(f.K1))) * math.Pow10(int(f.K2))
	switch s.Linear {
	case 1:
		v = math.Log(v)
	case 2:
		v = math.Log10(v)
	case 3:
		v = math.Log2(v)
	case 4:
		v = math.Exp(v)
	case 5:
		v = math.Pow(10, v)
	case 6:
		v = math.Exp2(v)
	case 7:
		v = 1 / v
	case 8:
		v *= v
	case 9:
		v = v * v * v
	case 10:
		v = math.Sqrt(v)
	case 11:
		v = math.Cbrt(v)
	}
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return 0, false
	}
	// A reading is one octet: more than six digits are noise of the arithmetic, and would be printed.
	v, err := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 6, 64), 64)
	return v, err == nil
}

// GetReadingFactors asks for the factors of a non-linear sensor at a reading (§35.5).
func GetReadingFactors(s *SensorRecord, raw byte) Request {
	return Request{NetFn: netFnSensor, LUN: s.LUN, Command: 0x23, Data: []byte{s.Number, raw}}
}

// ParseReadingFactors reads the answer to [GetReadingFactors].
func ParseReadingFactors(b []byte) (f Factors, ok bool) {
	if len(b) < 7 {
		return Factors{}, false
	}
	return parseFactors(b[1], b[2], b[3], b[4], b[6]), true
}

// Stamp is when a repository was changed last and how much there is in it: as long as it is the same, so are the records.
type Stamp struct {
	Added, Erased uint32
	Records       uint16
	Device        bool // of the device SDR repository, where there is no other
}

// GetStamp asks for the repository's stamp: of the SDR repository, or of the device SDRs where the controller has nothing else (§33.9, §35.2).
func GetStamp(ask Ask, d Device) (Stamp, error) {
	if d.DeviceSDR && !d.SDR {
		b, err := ask(Request{NetFn: netFnSensor, Command: 0x20, Data: []byte{1}}) // number of SDRs
		if err != nil {
			return Stamp{}, err
		}
		if len(b) < 2 {
			return Stamp{}, &Error{Cause: Protocol, Step: "get device SDR info"}
		}
		s := Stamp{Device: true, Records: uint16(b[0])}
		if b[1]&0x80 != 0 && len(b) >= 6 { // they may change: then there is a time
			s.Added = binary.LittleEndian.Uint32(b[2:])
		}
		return s, nil
	}
	b, err := ask(Request{NetFn: netFnStorage, Command: 0x20})
	if err != nil {
		return Stamp{}, err
	}
	if len(b) < 13 {
		return Stamp{}, &Error{Cause: Protocol, Step: "get SDR repository info"}
	}
	return Stamp{
		Records: binary.LittleEndian.Uint16(b[1:]), Added: binary.LittleEndian.Uint32(b[5:]), Erased: binary.LittleEndian.Uint32(b[9:]),
	}, nil
}

const (
	lastRecord   = 0xffff
	recordsMost  = 4096 // of a repository or a log; a controller whose chain of records is a circle ends here
	reserveMost  = 8    // times that a reservation is lost to others, for one record
	wholeRecord  = 0xff
	headerRecord = 5
)

// ReadRepository reads all records, each as it is on the wire (§33.12). Whole ones where the controller can send them, else in parts under a reservation;
// a part that the controller cannot send is asked for in a smaller size.
func ReadRepository(ask Ask, s Stamp) (records [][]byte, err error) {
	if s.Records == 0 {
		return nil, nil
	}
	r := recordReader{ask: ask, netFn: netFnStorage, get: 0x23, reserve: 0x22, size: wholeRecord}
	if s.Device {
		r.netFn, r.get = netFnSensor, 0x21
	}
	for id, n := uint16(0), 0; n < recordsMost; n++ {
		b, next, err := r.record(id)
		if err != nil {
			return nil, err
		}
		records = append(records, b)
		if next == lastRecord || next == id {
			break
		}
		id = next
	}
	return records, nil
}

// recordReader reads records of the SDR repository in parts.
type recordReader struct {
	ask          Ask
	netFn        byte
	get, reserve byte
	reservation  uint16
	size         int // octets that one answer may hold; wholeRecord: not known yet
}

func (r *recordReader) record(id uint16) (b []byte, next uint16, err error) {
	for try := 0; ; try++ {
		b, next, err = r.once(id)
		switch code := commandCode(err); {
		case err == nil:
			return b, next, nil
		case code == CodeReservation && try < reserveMost:
			if err := r.renew(); err != nil {
				return nil, 0, err
			}
		case tooMuch(code) && r.smaller():
		default:
			return nil, 0, err
		}
	}
}

// tooMuch are the codes with which controllers say that an answer would be too long.
func tooMuch(c Code) bool {
	switch c {
	case CodeTooMany, CodeTooLong, CodeLength, CodeField, CodeRange, 0xff:
		return true
	}
	return false
}

func (r *recordReader) smaller() bool {
	switch {
	case r.size == wholeRecord:
		r.size = 64
	case r.size > 8:
		r.size /= 2
	default:
		return false
	}
	return true
}

func (r *recordReader) renew() error {
	b, err := r.ask(Request{NetFn: r.netFn, Command: r.reserve})
	if err != nil {
		return err
	}
	if len(b) < 2 {
		return &Error{Cause: Protocol, Step: "reserve SDR repository"}
	}
	r.reservation = binary.LittleEndian.Uint16(b)
	return nil
}

// once reads a record with the present size and reservation.
func (r *recordReader) once(id uint16) (b []byte, next uint16, err error) {
	part := func(offset, n int) ([]byte, error) {
		d := binary.LittleEndian.AppendUint16(nil, r.reservation)
		d = binary.LittleEndian.AppendUint16(d, id)
		a, err := r.ask(Request{NetFn: r.netFn, Command: r.get, Data: append(d, byte(offset), byte(n))})
		if err != nil {
			return nil, err
		}
		if len(a) < 3 {
			return nil, &Error{Cause: Protocol, Step: "get SDR"}
		}
		next = binary.LittleEndian.Uint16(a)
		return a[2:], nil
	}
	if r.size == wholeRecord {
		b, err = part(0, wholeRecord)
		if err == nil && (len(b) < headerRecord || len(b) < headerRecord+int(b[4])) { // cut silently
			r.size = 64
			err = nil
		} else {
			return b, next, err
		}
	}
	if r.reservation == 0 {
		if err := r.renew(); err != nil {
			return nil, 0, err
		}
	}
	if b, err = part(0, headerRecord); err != nil {
		return nil, 0, err
	}
	if len(b) < headerRecord {
		return nil, 0, &Error{Cause: Protocol, Step: "get SDR"}
	}
	follow := next
	b = b[:headerRecord:headerRecord]
	for all := min(headerRecord+int(b[4]), 0xff); len(b) < all; { // the offset is one octet
		a, err := part(len(b), min(all-len(b), r.size))
		if err != nil {
			return nil, 0, err
		}
		b = append(b, a[:min(len(a), all-len(b))]...)
	}
	return b, follow, nil
}

// commandCode is the completion code in an error, CodeOK when it is about something else.
func commandCode(err error) Code {
	var e *Error
	if errors.As(err, &e) && e.Cause == Command {
		return e.Code
	}
	return CodeOK
}
