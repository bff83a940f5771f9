package sim

import (
	"bytes"
	"encoding/binary"
	"slices"
	"time"

	"github.com/bougou/go-ipmi/pkg/types"

	"muster/internal/lab/board"
	"muster/internal/model"
)

// Network functions (table 5-1).
const (
	chassis   = 0x00
	sensor    = 0x04
	app       = 0x06
	storage   = 0x0a
	transport = 0x0c
)

// Who may do what (appendix G): outside of a session, as operator, as administrator; all else as user.
var (
	anybody   = map[[2]byte]bool{{app, 0x38}: true, {app, 0x39}: true, {app, 0x54}: true, {app, 0x37}: true}
	operators = map[[2]byte]bool{
		{chassis, 0x02}: true, {chassis, 0x04}: true, {chassis, 0x06}: true, {chassis, 0x08}: true, {app, 0x24}: true, {storage, 0x44}: true,
		{storage, 0x46}: true, {storage, 0x47}: true, {storage, 0x49}: true,
	}
	administrators = map[[2]byte]bool{
		{app, 0x02}: true, {app, 0x03}: true, {app, 0x40}: true, {app, 0x43}: true, {app, 0x45}: true, {app, 0x47}: true, {transport, 0x01}: true, {transport, 0x21}: true,
	}
)

// run does a command. s is nil outside of a session.
func (b *bmc) run(now time.Time, s *session, netFn, command byte, q []byte) ([]byte, types.CompletionCode) {
	which := [2]byte{netFn, command}
	switch {
	case anybody[which]:
	case s == nil || !s.open && which != [2]byte{app, 0x3a}:
		return nil, types.CodeInsufficientPrivilege
	case operators[which] && s.privilege < 3, administrators[which] && s.privilege < 4:
		return nil, types.CodeInsufficientPrivilege
	}
	switch netFn {
	case chassis:
		return b.chassis(now, command, q)
	case sensor:
		return b.sensor(now, command, q)
	case app:
		return b.app(now, s, command, q)
	case storage:
		return b.storage(command, q)
	case transport:
		return b.transport(command, q)
	}
	return nil, types.CodeInvalidCommand
}

// chassis answers §28.
func (b *bmc) chassis(now time.Time, command byte, q []byte) ([]byte, types.CompletionCode) {
	m := &b.machine
	switch command {
	case 0x00: // Get Chassis Capabilities
		return []byte{0x00, 0x20, 0x20, 0x20, 0x20, 0x20}, types.CodeOK
	case 0x01: // Get Chassis Status
		r := []byte{m.policy << 5, 0x10, 0x40, 0} // the last start was by command; identify can be read
		if m.on {
			r[0] |= 0x01
		}
		switch on, forever := m.lit(now); {
		case forever:
			r[2] |= 0x20
		case on:
			r[2] |= 0x10
		}
		return r, types.CodeOK
	case 0x02: // Chassis Control
		if len(q) < 1 {
			return nil, types.CodeRequestDataLengthInvalid
		}
		if q[0]&0x0f > softShutdown {
			return nil, types.CodeParameterOutOfRange
		}
		if !m.act(now, int(q[0]&0x0f), b.model.delay) {
			return nil, types.CodeNotSupported
		}
		return nil, types.CodeOK
	case 0x04: // Chassis Identify: 15 s when not given
		seconds, forever := byte(15), len(q) > 1 && q[1]&1 != 0
		if len(q) > 0 {
			seconds = q[0]
		}
		m.light(now, true, time.Duration(seconds)*time.Second)
		m.identify.forever = forever
		return nil, types.CodeOK
	case 0x06: // Set Power Restore Policy
		if len(q) < 1 {
			return nil, types.CodeRequestDataLengthInvalid
		}
		if q[0]&7 < 3 {
			m.policy = q[0] & 7
		}
		return []byte{0x07}, types.CodeOK
	case 0x07: // Get System Restart Cause
		return []byte{m.cause, 1}, types.CodeOK
	case 0x08:
		return nil, b.setBoot(q)
	case 0x09:
		if len(q) < 1 {
			return nil, types.CodeRequestDataLengthInvalid
		}
		switch n := q[0] & 0x7f; n {
		case 0, 3:
			return []byte{1, n, 0}, types.CodeOK
		case 4:
			return []byte{1, n, 0, 0}, types.CodeOK
		case 5:
			return append([]byte{1, n}, m.boot[:]...), types.CodeOK
		}
		return nil, types.CodeParameterNotSupported
	case 0x0f: // Get POH Counter, in hours
		return binary.LittleEndian.AppendUint32([]byte{60}, uint32(m.mark%20000)), types.CodeOK
	}
	return nil, types.CodeInvalidCommand
}

// setBoot is Set System Boot Options: the flags are kept, the parameters around them are accepted.
func (b *bmc) setBoot(q []byte) types.CompletionCode {
	if len(q) < 1 {
		return types.CodeRequestDataLengthInvalid
	}
	switch q[0] & 0x7f {
	case 0, 3, 4:
		return types.CodeOK
	case 5:
		if len(q) == 1 {
			return types.CodeOK // only the lock of the parameter
		}
		if len(q) < 6 {
			return types.CodeRequestDataLengthInvalid
		}
		copy(b.machine.boot[:], q[1:])
		return types.CodeOK
	}
	return types.CodeParameterNotSupported
}

func (b *bmc) sensor(now time.Time, command byte, q []byte) ([]byte, types.CompletionCode) {
	return board.Sensors{
		Analog: analogOf, Discrete: discreteOf, State: b.machine.states,
		Raw: func(s *board.Sensor) (byte, bool) { return b.machine.value(now, s, b.model.deterministic) },
	}.Answer(command, q)
}

// app answers the commands about the controller, its sessions and users (§20, §22, §24, §27).
func (b *bmc) app(now time.Time, s *session, command byte, q []byte) ([]byte, types.CompletionCode) {
	if n, known := map[byte]int{0x22: 0, 0x24: 6, 0x2e: 1, 0x38: 2, 0x3b: 1, 0x3c: 4, 0x3d: 1, 0x40: 3, 0x41: 2, 0x42: 1, 0x54: 3}[command]; known && len(q) < n {
		return nil, types.CodeRequestDataLengthInvalid
	}
	switch command {
	case 0x01: // Get Device ID: of no vendor's; supports chassis, FRU, SEL, SDR, sensors
		version := byte(0x02)
		if b.model.only15 {
			version = 0x51
		}
		return []byte{0x20, 0x81, 0x02, 0x45, version, 0xbf, 0, 0, 0, 0x01, 0x00, 0, 0, 0, 0}, types.CodeOK
	case 0x02, 0x03: // Cold Reset, Warm Reset: the controller forgets its consoles
		b.sessions, b.line = nil, nil
		return nil, types.CodeOK
	case 0x04: // Get Self Test Results
		return []byte{0x55, 0}, types.CodeOK
	case 0x07: // Get ACPI Power State
		if b.machine.on {
			return []byte{0x00, 0x00}, types.CodeOK
		}
		return []byte{0x05, 0x03}, types.CodeOK
	case 0x08, 0x37: // Get Device GUID, Get System GUID
		g := b.guid()
		return g[:], types.CodeOK
	case 0x22: // Reset Watchdog Timer
		if b.watchdog[4]|b.watchdog[5] == 0 {
			return nil, 0x80 // was never set
		}
		b.watchdog[0] |= 0x40
		return nil, types.CodeOK
	case 0x24: // Set Watchdog Timer; it does not run down
		copy(b.watchdog[:6], q)
		copy(b.watchdog[6:], q[4:6])
		return nil, types.CodeOK
	case 0x25: // Get Watchdog Timer
		return b.watchdog[:], types.CodeOK
	case 0x2e: // Set BMC Global Enables
		return nil, types.CodeOK
	case 0x2f:
		return []byte{0x0f}, types.CodeOK
	case 0x38:
		return b.capabilities(q), types.CodeOK
	case 0x39:
		return b.challenge(now, q)
	case 0x3a:
		return b.activate(s, q)
	case 0x3b: // Set Session Privilege Level
		switch level := q[0] & 0x0f; {
		case level == 0:
			return []byte{s.privilege}, types.CodeOK
		case level > s.user.access&0x0f:
			return nil, types.CodeSetSessionPrivilegeLevelLevelNotAvailable
		case level > s.most:
			return nil, types.CodeSetSessionPrivilegeLevelExceedsLimit
		default:
			s.privilege = level
			return []byte{level}, types.CodeOK
		}
	case 0x3c: // Close Session. The answer still goes out under it
		other := b.find(binary.LittleEndian.Uint32(q))
		if other == nil || other != s && s.privilege < 4 {
			return nil, types.CodeCloseSessionInvalidSessionID
		}
		b.end(other)
		return nil, types.CodeOK
	case 0x3d:
		return b.sessionInfo(s), types.CodeOK
	case 0x40: // Set Channel Access: accepted
		return nil, types.CodeOK
	case 0x41: // Get Channel Access: always available, alerts off
		if !ours(q[0]) {
			return nil, types.CodeRequestDataFieldInvalid
		}
		return []byte{0x22, 0x04}, types.CodeOK
	case 0x42: // Get Channel Info: 802.3 LAN, IPMB, several sessions
		if !ours(q[0]) {
			return nil, types.CodeRequestDataFieldInvalid
		}
		return []byte{1, 0x04, 0x01, 0x80 | byte(len(b.sessions)), 0xf2, 0x1b, 0, 0, 0}, types.CodeOK
	case 0x43, 0x44, 0x45, 0x46, 0x47:
		return b.account(command, q)
	case 0x48, 0x49, 0x4a, 0x4b, 0x4c, 0x4e, 0x4f:
		return b.payload(now, s, command, q)
	case 0x54: // Get Channel Cipher Suites (§22.15): 3 and 17
		if q[2]&0x3f != 0 || b.model.only15 {
			return []byte{1}, types.CodeOK
		}
		return []byte{1, 0xc0, 3, 0x01, 0x41, 0x81, 0xc0, 17, 0x03, 0x44, 0x81}, types.CodeOK
	}
	return nil, types.CodeInvalidCommand
}

// ours says that a channel number is that of the LAN: 1, or Eh for "this one".
func ours(channel byte) bool { return channel&0x0f == 1 || channel&0x0f == 0x0e }

// capabilities is Get Channel Authentication Capabilities (§22.13).
func (b *bmc) capabilities(q []byte) []byte {
	const md5AndPassword = 0x14
	r := []byte{1, md5AndPassword, 0x04, 0, 0, 0, 0, 0} // there are named users
	if q[0]&0x80 != 0 && !b.model.only15 {
		r[1] |= 0x80
		r[3] = 0x03 // both versions
	}
	return r
}

// sessionInfo is Get Session Info of the session that asks (§22.20), whatever session it asks about.
func (b *bmc) sessionInfo(s *session) []byte {
	open := 0
	for _, x := range b.sessions {
		if x.open {
			open++
		}
	}
	id := byte(1 + slices.IndexFunc(b.users, func(u user) bool { return u.name == s.user.name }))
	version := byte(0x10)
	if s.old {
		version = 0
	}
	mac := b.machine.mac(0)
	ip := s.from.Addr().As4()
	r := []byte{byte(1 + slices.Index(b.sessions, s)), maxSessions, byte(open), id, s.privilege, version | 1}
	r = append(append(r, ip[:]...), mac[:]...)
	return binary.LittleEndian.AppendUint16(r, s.from.Port())
}

// account answers the commands about users (§22.26 to §22.30).
func (b *bmc) account(command byte, q []byte) ([]byte, types.CompletionCode) {
	if len(q) < map[byte]int{0x43: 3, 0x44: 2, 0x45: 17, 0x46: 1, 0x47: 2}[command] {
		return nil, types.CodeRequestDataLengthInvalid
	}
	id := q[0] & 0x3f
	if command == 0x43 || command == 0x44 {
		id = q[1] & 0x3f
	}
	if id < 1 || id > maxUsers {
		return nil, types.CodeParameterOutOfRange
	}
	u := noUsers[0]
	if int(id) <= len(b.users) {
		u = b.users[id-1]
	}
	switch command {
	case 0x44: // Get User Access
		on, enabled := byte(0), byte(0x80)
		for _, x := range b.users {
			if x.enabled {
				on++
			}
		}
		if u.enabled {
			enabled = 0x40
		}
		return []byte{maxUsers, enabled | on, 1, u.access}, types.CodeOK
	case 0x46: // Get User Name
		if u.name == "" && id != 1 {
			return nil, types.CodeRequestDataFieldInvalid
		}
		return append([]byte(u.name), make([]byte, 16-len(u.name))...), types.CodeOK
	case 0x43: // Set User Access
		if q[0]&0x80 != 0 {
			u.access = q[0] & 0x70
		} else {
			u.access &= 0x70
		}
		u.access |= q[2] & 0x0f
	case 0x45: // Set User Name
		if id == 1 {
			return nil, types.CodeRequestDataFieldInvalid
		}
		u.name = string(bytes.TrimRight(q[1:17], "\x00"))
	case 0x47: // Set User Password
		size := 16
		if q[0]&0x80 != 0 {
			size = 20
		}
		operation := q[1] & 3
		if operation >= 2 && len(q) < 2+size {
			return nil, types.CodeRequestDataLengthInvalid
		}
		switch operation {
		case 0, 1:
			u.enabled = operation == 1
		case 2:
			u.password = model.NewSecret(string(bytes.TrimRight(q[2:2+size], "\x00")))
		case 3:
			if u.password.Reveal() != string(bytes.TrimRight(q[2:2+size], "\x00")) {
				return nil, 0x80 // it is another
			}
			return nil, types.CodeOK
		}
	}
	b.editUsers()[id-1] = u
	return nil, types.CodeOK
}

// storage answers for SDR repository (§33), SEL (§31) and FRU (§34).
func (b *bmc) storage(command byte, q []byte) ([]byte, types.CompletionCode) {
	word := binary.LittleEndian.Uint16
	switch command {
	case 0x10: // Get FRU Inventory Area Info
		if len(q) < 1 || q[0] != 0 {
			return nil, types.CodeRequestedDataNotPresent
		}
		return append(binary.LittleEndian.AppendUint16(nil, uint16(len(b.machine.fru()))), 0), types.CodeOK
	case 0x11: // Read FRU Data
		if len(q) < 4 {
			return nil, types.CodeRequestDataLengthInvalid
		}
		fru, from := b.machine.fru(), int(word(q[1:]))
		if q[0] != 0 || from >= len(fru) {
			return nil, types.CodeRequestedDataNotPresent
		}
		part := fru[from:min(len(fru), from+min(int(q[3]), 32))]
		return append([]byte{byte(len(part))}, part...), types.CodeOK
	case 0x20: // Get SDR Repository Info
		r := binary.LittleEndian.AppendUint16([]byte{0x51}, uint16(len(records)))
		return append(r, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0x02), types.CodeOK // reservations; never changed
	case 0x22: // Reserve SDR Repository
		if b.reserved++; b.reserved == 0 {
			b.reserved = 1
		}
		return binary.LittleEndian.AppendUint16(nil, b.reserved), types.CodeOK
	case 0x23:
		return b.record(q)
	case 0x28: // Get SDR Repository Time
		return binary.LittleEndian.AppendUint32(nil, uint32(b.machine.at.Unix())), types.CodeOK
	}
	if slices.Contains(board.LogCommands, command) {
		return b.machine.log.Answer(command, q)
	}
	return nil, types.CodeInvalidCommand
}

// record is Get SDR (§33.12): reservation, id, offset, count.
func (b *bmc) record(q []byte) ([]byte, types.CompletionCode) {
	if len(q) < 6 {
		return nil, types.CodeRequestDataLengthInvalid
	}
	word := binary.LittleEndian.Uint16
	reservation, id, from, n := word(q), int(word(q[2:])), int(q[4]), int(q[5])
	switch id {
	case 0:
		id = 1
	case 0xffff:
		id = len(records)
	}
	if id > len(records) {
		return nil, types.CodeRequestedDataNotPresent
	}
	if from > 0 && reservation != b.reserved {
		return nil, types.CodeReservationCanceled
	}
	r := records[id-1]
	if from >= len(r) {
		return nil, types.CodeParameterOutOfRange
	}
	const most = 64 // what an answer has room for: a client that wants more asks in parts
	if n != 0xff && n > most || n == 0xff && len(r)-from > 2*most {
		return nil, types.CodeCannotReturnRequestedDataBytes
	}
	next := uint16(id + 1)
	if id == len(records) {
		next = 0xffff
	}
	return append(binary.LittleEndian.AppendUint16(nil, next), r[from:min(len(r), from+n)]...), types.CodeOK
}

// transport answers for LAN (§23) and serial over LAN (§26) parameters.
func (b *bmc) transport(command byte, q []byte) ([]byte, types.CompletionCode) {
	if len(q) < 2 || !ours(q[0]) {
		return nil, types.CodeRequestDataFieldInvalid
	}
	switch command {
	case 0x01: // Set LAN Configuration Parameters
		if old, ok := b.parameter(q[1]); !ok || q[1] == 1 || q[1] == 22 || q[1] == 23 {
			return nil, types.CodeParamConfigSetReadOnly
		} else if len(q)-2 < len(old) {
			return nil, types.CodeRequestDataLengthInvalid
		} else {
			if b.lan == nil {
				b.lan = map[byte][]byte{}
			}
			b.lan[q[1]] = slices.Clone(q[2 : 2+len(old)])
		}
		return nil, types.CodeOK
	case 0x02: // Get LAN Configuration Parameters
		if q[0]&0x80 != 0 {
			return []byte{0x11}, types.CodeOK
		}
		data, ok := b.parameter(q[1])
		if !ok {
			return nil, types.CodeParameterNotSupported
		}
		return append([]byte{0x11}, data...), types.CodeOK
	case 0x21: // Set SOL Configuration Parameters
		if len(q) < 3 {
			return nil, types.CodeRequestDataLengthInvalid
		}
		switch q[1] {
		case 0, 3, 4, 6:
		case 1:
			b.sol[0] = q[2] & 1
		case 2:
			b.sol[1] = q[2]
		case 5:
			b.sol[2] = q[2] & 0x0f
		default:
			return nil, types.CodeParameterNotSupported
		}
		return nil, types.CodeOK
	case 0x22: // Get SOL Configuration Parameters
		port := b.address.Port()
		data, ok := map[byte][]byte{
			0: {0}, 1: {b.sol[0]}, 2: {b.sol[1]}, 3: {2, board.MaxCharacters}, 4: {7, byte(lineRetry / 10e6)}, 5: {b.sol[2]}, 6: {b.sol[2]}, 7: {1},
			8: {byte(port), byte(port >> 8)},
		}[q[1]]
		if !ok {
			return nil, types.CodeParameterNotSupported
		}
		return append([]byte{0x11}, data...), types.CodeOK
	}
	return nil, types.CodeInvalidCommand
}

// parameter is a LAN parameter (table 23-4).
func (b *bmc) parameter(n byte) ([]byte, bool) {
	if v, ok := b.lan[n]; ok {
		return v, true
	}
	ip, mac := b.address.Addr().As4(), b.machine.mac(0)
	gateway := ip
	gateway[3] = 254
	router := [6]byte{0x52, 0x54, 0, 0, 0, 0xfe}
	switch n {
	case 0: // set complete
		return []byte{0}, true
	case 1: // MD5, password
		return []byte{0x14}, true
	case 2:
		return []byte{0x14, 0x14, 0x14, 0x14, 0}, true
	case 3:
		return ip[:], true
	case 4: // static
		return []byte{1}, true
	case 5:
		return mac[:], true
	case 6:
		return []byte{255, 255, 0, 0}, true
	case 7:
		return []byte{0x40, 0x40, 0x10}, true
	case 8, 9: // RMCP ports
		return binary.LittleEndian.AppendUint16(nil, b.address.Port()), true
	case 10: // gratuitous ARP
		return []byte{0}, true
	case 11:
		return []byte{4}, true
	case 12:
		return gateway[:], true
	case 13:
		return router[:], true
	case 14:
		return make([]byte, 4), true
	case 15:
		return make([]byte, 6), true
	case 16:
		return append([]byte("public"), make([]byte, 12)...), true
	case 20: // no VLAN
		return []byte{0, 0}, true
	case 21:
		return []byte{0}, true
	case 22:
		return []byte{2}, true
	case 23:
		return append([]byte{0, 3, 17}, make([]byte, 14)...), true
	case 24: // administrator for all suites
		return append([]byte{0}, bytes.Repeat([]byte{0x44}, 8)...), true
	case 26: // lock out after bad passwords: never
		return make([]byte, 6), true
	}
	return nil, false
}
