package ipmi

import "fmt"

// Cause says what kind of trouble it is; callers branch by it, never by the text.
type Cause int

// The causes.
const (
	NoAnswer      Cause = iota + 1 // the BMC was asked several times and did not answer
	AnswerLost                     // as NoAnswer, for a [Request] with Once: it may have been done
	UnknownUser                    // the BMC does not know the user, or does not let it in over LAN
	WrongPassword                  // the BMC's proof does not fit the password
	NoPrivilege                    // the user may neither be administrator nor operator
	NoSuite                        // the BMC accepts none of the cipher suites
	NoSession                      // all sessions of the BMC are taken
	Protocol                       // the BMC said something that does not fit the specification
	Command                        // the BMC answered the command with a completion code
	SerialEnded                    // the BMC ended serial over LAN: someone else took it, or it was switched off
	SerialSilent                   // the BMC does not acknowledge what is typed
	Closed                         // the peer was shut down
)

// Error is what went wrong in the talk with a BMC. Address and node are the caller's to add.
type Error struct {
	Cause  Cause
	Step   string // what was being done: "open session", "RAKP 1", "command"
	Status Status // of the session setup, when the BMC gave one
	Code   Code   // of a command, for Cause Command
}

func (e *Error) Error() string {
	switch e.Cause {
	case NoAnswer:
		return "no answer to " + e.Step
	case AnswerLost:
		return "the answer to " + e.Step + " was lost; it may have been done"
	case UnknownUser:
		return "user unknown or not allowed over LAN" + e.status()
	case WrongPassword:
		return "wrong password" + e.status()
	case NoPrivilege:
		return "the user has neither administrator nor operator privilege" + e.status()
	case NoSuite:
		return "no common cipher suite" + e.status()
	case NoSession:
		return "all sessions are taken" + e.status()
	case Command:
		return e.Step + ": " + e.Code.String()
	case SerialEnded:
		return "the BMC ended serial over LAN"
	case SerialSilent:
		return "the BMC does not acknowledge serial data"
	case Closed:
		return "closed"
	}
	return "unexpected answer to " + e.Step + e.status()
}

func (e *Error) status() string {
	if e.Status == 0 {
		return ""
	}
	return " (" + e.Step + ": " + e.Status.String() + ")"
}

// Status is what a BMC answers to a message of the session setup (table 13-15).
type Status byte

var statusTexts = [...]string{
	"no error", "insufficient resources to create a session", "invalid session id", "invalid payload type",
	"invalid authentication algorithm", "invalid integrity algorithm", "no matching authentication payload",
	"no matching integrity payload", "inactive session id", "invalid role", "unauthorized role or privilege level",
	"insufficient resources to create a session at the requested role", "invalid name length", "unauthorized name",
	"unauthorized GUID", "invalid integrity check value", "invalid confidentiality algorithm",
	"no cipher suite match", "illegal or unrecognized parameter",
}

func (s Status) String() string {
	if int(s) < len(statusTexts) {
		return statusTexts[s]
	}
	return fmt.Sprintf("status %02Xh", byte(s))
}

// cause sorts the statuses; 0 means that a new attempt from the start may help.
func (s Status) cause() Cause {
	switch s {
	case 0x03, 0x04, 0x05, 0x06, 0x07, 0x10, 0x11:
		return NoSuite
	case 0x09, 0x0a:
		return NoPrivilege
	case 0x01, 0x0b:
		return NoSession
	case 0x0c, 0x0d:
		return UnknownUser
	case 0x0f:
		return WrongPassword
	case 0x02, 0x08:
		return 0
	}
	return Protocol
}

// Code is the completion code of a command (table 5-2).
type Code byte

// Completion codes that callers branch by.
const (
	CodeOK           Code = 0x00
	CodeBusy         Code = 0xc0
	CodeInvalid      Code = 0xc1
	CodeInvalidLUN   Code = 0xc2
	CodeReservation  Code = 0xc5 // reservation cancelled
	CodeLength       Code = 0xc7 // request data length invalid
	CodeTooLong      Code = 0xc8 // request data field length exceeded
	CodeRange        Code = 0xc9 // parameter out of range
	CodeTooMany      Code = 0xca // cannot return the requested number of octets
	CodeAbsent       Code = 0xcb // requested sensor, data or record not present
	CodeField        Code = 0xcc // invalid data field
	CodeIllegal      Code = 0xcd // command illegal for this sensor or record
	CodeDuplicate    Code = 0xcf
	CodeInitializing Code = 0xd2
	CodePrivilege    Code = 0xd4
	CodeState        Code = 0xd5
	CodeDisabled     Code = 0xd6
	CodeParameter    Code = 0x80 // of Set and Get System Boot Options: parameter not supported
)

var codeTexts = map[Code]string{
	0x00: "done", 0xc0: "node busy", 0xc1: "invalid command", 0xc2: "command invalid for this LUN",
	0xc3: "timeout while processing the command", 0xc4: "out of space", 0xc5: "reservation cancelled",
	0xc6: "request data truncated", 0xc7: "request data length invalid", 0xc8: "request data field length exceeded",
	0xc9: "parameter out of range", 0xca: "cannot return the requested number of octets",
	0xcb: "requested sensor, data or record not present", 0xcc: "invalid data field in request",
	0xcd: "command illegal for this sensor or record", 0xce: "response could not be provided",
	0xcf: "cannot execute duplicated request", 0xd0: "SDR repository in update mode", 0xd1: "device in firmware update mode",
	0xd2: "BMC initialization in progress", 0xd3: "destination unavailable", 0xd4: "insufficient privilege level",
	0xd5: "not supported in the present state", 0xd6: "sub-function disabled", 0xff: "unspecified error",
}

func (c Code) String() string {
	if t, ok := codeTexts[c]; ok {
		return t
	}
	return fmt.Sprintf("completion code %02Xh", byte(c))
}
