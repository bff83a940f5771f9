package ipmi

import (
	"bytes"
	"encoding/binary"
)

// presentChannel stands for the channel that a request comes over (§6.3).
const presentChannel = 0x0e

// ChannelNumber asks for the number of the channel that we talk over: settings are kept by it (§22.24). Controllers that do not tell have it as 1.
func ChannelNumber(ask Ask) (byte, error) {
	b, err := ask(Request{NetFn: netFnApp, Command: 0x42, Data: []byte{presentChannel}})
	switch {
	case commandCode(err) != CodeOK, err == nil && (len(b) < 1 || b[0]&0x0f == 0):
		return 1, nil
	case err != nil:
		return 0, err
	}
	return b[0] & 0x0f, nil
}

// LANParameter is a parameter of the LAN configuration (table 23-4).
type LANParameter byte

// The parameters.
const (
	LANProgress LANParameter = 0  // set in progress
	LANAddress  LANParameter = 3  // 4 octets
	LANSource   LANParameter = 4  // of the address: see LANSources
	LANMAC      LANParameter = 5  // 6 octets
	LANNetmask  LANParameter = 6  // 4 octets
	LANGateway  LANParameter = 12 // 4 octets
	LANVLAN     LANParameter = 20 // 12 bits, little-endian, and bit 15: enabled
)

// LANSources are the names of LANSource's values.
var LANSources = [...]string{"unspecified", "static", "dhcp", "bios", "other"}

// GetLAN asks for a parameter (§23.2); see [ParameterData].
func GetLAN(channel byte, p LANParameter) Request {
	return Request{NetFn: netFnTransport, Command: 0x02, Data: []byte{channel, byte(p), 0, 0}}
}

// SetLAN sets it (§23.1).
func SetLAN(channel byte, p LANParameter, data ...byte) Request {
	return Request{NetFn: netFnTransport, Command: 0x01, Data: append([]byte{channel, byte(p)}, data...)}
}

// ParameterData is the answer to [GetLAN] and [GetSOL] without its revision; ok says that it has at least so many octets.
func ParameterData(b []byte, least int) (data []byte, ok bool) {
	if len(b) < 1+least {
		return nil, false
	}
	return b[1:], true
}

// SOLParameter is a parameter of serial over LAN (table 26-5).
type SOLParameter byte

// The parameters.
const (
	SOLProgress    SOLParameter = 0 // set in progress
	SOLEnable      SOLParameter = 1 // bit 0
	SOLAccess      SOLParameter = 2 // bit 7 encrypted always, bit 6 authenticated always, privilege
	SOLCollect     SOLParameter = 3 // collect for so many times 5 ms, or so many characters
	SOLRetry       SOLParameter = 4 // sendings after the first; 10 ms between them
	SOLRate        SOLParameter = 5 // see SOLRates
	SOLPresentRate SOLParameter = 6 // until the controller starts anew
)

// SOLRates are the bit rates of SOLRate by their value; 0 is that of the serial channel.
var SOLRates = map[byte]string{0: "serial", 6: "9600", 7: "19200", 8: "38400", 9: "57600", 10: "115200"}

// GetSOL asks for a parameter (§26.3); see [ParameterData].
func GetSOL(channel byte, p SOLParameter) Request {
	return Request{NetFn: netFnTransport, Command: 0x22, Data: []byte{channel, byte(p), 0, 0}}
}

// SetSOL sets it (§26.2).
func SetSOL(channel byte, p SOLParameter, data ...byte) Request {
	return Request{NetFn: netFnTransport, Command: 0x21, Data: append([]byte{channel, byte(p)}, data...)}
}

// User is one of the logins of a controller (§22.27, §22.29).
type User struct {
	ID        byte
	Name      string
	Privilege Privilege // 15: no access
	Enabled   bool
	// Known tells that the controller says whether the user is enabled; some do not, then it is whether IPMI messages are.
	Known     bool
	Messaging bool // may use IPMI on this channel
	Link      bool // may be authenticated by the link
	Callback  bool // may only be called back
}

// Privileges are the names of levels by their value (table 22-19 and §22.26).
var Privileges = map[Privilege]string{1: "callback", 2: "user", 3: "operator", 4: "administrator", 5: "oem", 15: "none"}

// GetUser asks for a login on a channel. Most is how many logins the controller has room for.
func GetUser(ask Ask, channel, id byte) (u User, most byte, err error) {
	b, err := ask(Request{NetFn: netFnApp, Command: 0x44, Data: []byte{channel, id}})
	if err != nil {
		return User{}, 0, err
	}
	if len(b) < 4 {
		return User{}, 0, &Error{Cause: Protocol, Step: "get user access"}
	}
	u = User{ID: id, Privilege: Privilege(b[3] & 0x0f), Messaging: b[3]&0x10 != 0, Link: b[3]&0x20 != 0, Callback: b[3]&0x40 != 0}
	switch b[1] >> 6 {
	case 0:
		u.Enabled = u.Messaging
	case 1:
		u.Enabled, u.Known = true, true
	default:
		u.Known = true
	}
	name, err := ask(Request{NetFn: netFnApp, Command: 0x46, Data: []byte{id}})
	if err != nil && commandCode(err) == CodeOK {
		return User{}, 0, err
	}
	u.Name = decodeText(encodingASCII, bytes.TrimRight(name, "\x00"))
	return u, b[0] & 0x3f, nil
}

// SetUserName names a login, with at most 16 octets (§22.28).
func SetUserName(id byte, name string) Request {
	return Request{NetFn: netFnApp, Command: 0x45, Data: append([]byte{id}, padded(name, 16)...)}
}

// SetUserAccess gives a login its privilege and messaging on a channel (§22.26).
func SetUserAccess(channel byte, u User) Request {
	flags := 0x80 | channel&0x0f
	for bit, on := range map[byte]bool{0x40: u.Callback, 0x20: u.Link, 0x10: u.Messaging} {
		if on {
			flags |= bit
		}
	}
	return Request{NetFn: netFnApp, Command: 0x43, Data: []byte{flags, u.ID, byte(u.Privilege), 0}}
}

// EnableUser lets a login in, or not (§22.30).
func EnableUser(id byte, on bool) Request {
	r := Request{NetFn: netFnApp, Command: 0x47, Data: []byte{id, 0}}
	if on {
		r.Data[1] = 1
	}
	return r
}

// SetPassword sets a password; TestPassword asks whether it is this. A password of more than 16 octets takes the longer form, of at most 20 (§22.30).
func SetPassword(id byte, password string) Request { return userPassword(id, 2, password) }

// TestPassword is answered with CodeWrongPassword when it is another.
func TestPassword(id byte, password string) Request { return userPassword(id, 3, password) }

// CodeWrongPassword is the answer to [TestPassword] when the password differs; 81h when only its size does.
const CodeWrongPassword Code = 0x80

func userPassword(id, operation byte, password string) Request {
	size := 16
	if len(password) > size {
		size = 20
		id |= 0x80
	}
	return Request{NetFn: netFnApp, Command: 0x47, Data: append([]byte{id, operation}, padded(password, size)...)}
}

func padded(s string, n int) []byte {
	b := make([]byte, n)
	copy(b, s)
	return b
}

// Watchdog is the timer that resets a machine whose system is stuck (§27).
type Watchdog struct {
	Running bool
	Quiet   bool // does not log
	Use     byte // see WatchdogUses
	Action  byte // see WatchdogActions
	Warning byte // pre-timeout interrupt
	Before  byte // pre-timeout interval in s
	Tenths  uint16
	Left    uint16 // tenths of a second
}

// Names of the values of a watchdog (§27.6).
var (
	WatchdogUses    = [...]string{"reserved", "bios-frb2", "bios-post", "os-load", "sms-os", "oem"}
	WatchdogActions = [...]string{"none", "reset", "off", "cycle"}
)

// GetWatchdog asks for it (§27.7); see [ParseWatchdog].
func GetWatchdog() Request { return Request{NetFn: netFnApp, Command: 0x25} }

// ParseWatchdog reads the answer to [GetWatchdog].
func ParseWatchdog(b []byte) (w Watchdog, ok bool) {
	if len(b) < 8 {
		return Watchdog{}, false
	}
	return Watchdog{
		Running: b[0]&0x40 != 0, Quiet: b[0]&0x80 != 0, Use: b[0] & 7, Action: b[1] & 7, Warning: b[1] >> 4 & 7, Before: b[2],
		Tenths: binary.LittleEndian.Uint16(b[4:]), Left: binary.LittleEndian.Uint16(b[6:]),
	}, true
}

// SetWatchdog sets it. A timer that is to go on keeps running with the new time; another one is stopped (§27.6).
func SetWatchdog(w Watchdog) Request {
	use := w.Use & 7
	if w.Running {
		use |= 0x40
	}
	if w.Quiet {
		use |= 0x80
	}
	d := []byte{use, w.Action&7 | w.Warning&7<<4, w.Before, 0}
	return Request{NetFn: netFnApp, Command: 0x24, Data: binary.LittleEndian.AppendUint16(d, w.Tenths)}
}

// ResetWatchdog starts the timer (§27.5).
func ResetWatchdog() Request { return Request{NetFn: netFnApp, Command: 0x22} }
