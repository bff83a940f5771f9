package ipmi

import (
	"context"
	"errors"
	"fmt"
	"net"

	"muster/internal/bmc"
	wire "muster/internal/wire/ipmi"
)

// answered says that the controller did answer, with a completion code: it lives, and only this request was wrong for it.
func answered(err error) bool {
	var e *wire.Error
	return errors.As(err, &e) && e.Cause == wire.Command
}

// explainSent is explain for a request that was sent; a reason why it could not be is told with it.
func (d *driver) explainSent(what string, err error, p *peer) *bmc.Error {
	e := d.explain(what, err)
	p.mu.Lock()
	defer p.mu.Unlock()
	if e.Kind == bmc.Timeout && p.unsent != nil {
		var op *net.OpError
		if errors.As(p.unsent, &op) {
			e.Why += " (sending: " + op.Err.Error() + ")"
		}
	}
	return e
}

// explain makes an error for people: what was tried, which controller, what to do.
func (d *driver) explain(what string, err error) *bmc.Error {
	t := d.target
	k := key{address: t.Address, port: t.Port}
	if k.port == 0 {
		k.port = Port
	}
	name := "BMC " + k.String()
	e := &bmc.Error{Kind: bmc.Failed, What: what, Err: err}
	var w *wire.Error
	var dns *net.DNSError
	var crowded *crowdedError
	switch {
	case errors.As(err, &crowded) && errors.Is(err, context.DeadlineExceeded):
		e.Kind, e.Why, e.Do = bmc.Busy, name+" was not asked in time: too many others are", "Try again, or give more time"
	case errors.As(err, &w):
		explainWire(e, w, name, t)
	case errors.Is(err, context.DeadlineExceeded):
		e.Kind, e.Why, e.Do = bmc.Timeout, name+" did not answer in time", doReach
	case errors.Is(err, context.Canceled):
		e.Kind, e.Why = bmc.Lost, "stopped while waiting for "+name
	case errors.Is(err, errNoAddress):
		e.Kind, e.Why, e.Do = bmc.Invalid, "no BMC address is known", "Set bmc.address"
	case errors.As(err, &dns):
		e.Kind, e.Why = bmc.Invalid, fmt.Sprintf("bmc.address %q is neither an address nor a host name that can be resolved", t.Address)
		e.Do = "Set bmc.address to the address of the BMC"
	case errors.Is(err, errClosed):
		e.Kind, e.Why = bmc.Lost, "the service is stopping"
	default: // of NewPeer: what cannot be, and of the sockets
		e.Kind, e.Why, e.Do = bmc.Invalid, name+": "+err.Error(), "Look at bmc.address, bmc.user, bmc.password and bmc.cipher"
	}
	return e
}

const (
	doReach = "Look at bmc.address, the network and the power of the BMC, and that IPMI over LAN is enabled there (UDP port 623)"
	doLogin = "Set bmc.user and bmc.password to a login of the BMC that may use IPMI over LAN"
)

func explainWire(e *bmc.Error, w *wire.Error, name string, t bmc.Target) {
	switch w.Cause {
	case wire.NoAnswer:
		e.Kind, e.Why, e.Do = bmc.Timeout, name+" does not answer ("+w.Error()+")", doReach
	case wire.AnswerLost:
		e.Kind, e.Why, e.Do = bmc.Timeout, name+" did not answer; it may have done it", "Look at the power status before trying again"
	case wire.UnknownUser:
		e.Kind, e.Why, e.Do = bmc.Refused, fmt.Sprintf("%s refused user %s (%s)", name, t.User, w), doLogin
	case wire.WrongPassword:
		e.Kind, e.Why, e.Do = bmc.Refused, fmt.Sprintf("%s refused user %s (wrong password; some BMCs say so of unknown users too)", name, t.User), doLogin
	case wire.NoPrivilege:
		e.Kind, e.Why = bmc.Refused, fmt.Sprintf("%s refused user %s (%s)", name, t.User, w)
		e.Do = "Give the user operator or administrator privilege on the LAN channel of the BMC, or set bmc.user to one that has it"
	case wire.NoSuite:
		e.Kind, e.Why = bmc.Unsupported, name+" accepts neither cipher suite 17 nor 3, nor MD5 of IPMI 1.5"
		e.Do = "Enable one of them in the BMC"
		if t.Cipher == int(wire.Suite3) {
			e.Why, e.Do = name+" refused cipher suite 3", "Set bmc.cipher=17"
		}
	case wire.NoSession:
		e.Kind, e.Why, e.Do = bmc.Busy, name+" has no free session", "Close other IPMI sessions, or wait a minute until they expire"
	case wire.Command:
		explainCode(e, w.Code, name, t)
	case wire.SerialEnded:
		e.Kind, e.Why = bmc.Lost, name+" ended the serial line: another console took it, or the BMC is resetting"
	case wire.SerialSilent:
		e.Kind, e.Why = bmc.Lost, name+" does not acknowledge what is typed any more"
	case wire.Closed:
		e.Kind, e.Why = bmc.Lost, "the session with "+name+" was closed"
	default:
		e.Why = name + " gave an unexpected answer (" + w.Error() + ")"
		e.Do = "Reset the BMC; when that does not help, report its model and firmware"
	}
}

func explainCode(e *bmc.Error, c wire.Code, name string, t bmc.Target) {
	e.Why = fmt.Sprintf("%s answered %q", name, c)
	switch {
	case e.What == "console" && c == wire.CodeSerialDisabled:
		e.Kind, e.Why = bmc.Unsupported, "serial over LAN is disabled in "+name
		e.Do = "Enable it there, for the user too (ipmitool sol set enabled true; ipmitool sol payload enable)"
	case c == wire.CodePrivilege:
		e.Kind, e.Why = bmc.Refused, fmt.Sprintf("%s does not let user %s do this (%s)", name, t.User, c)
		e.Do = "Give the user operator or administrator privilege in the BMC"
	case c == wire.CodeInvalid, c == wire.CodeInvalidLUN, c == wire.CodeDisabled, c == wire.CodeRange, c == wire.CodeField,
		c == wire.CodeParameter && e.What != "console":
		e.Kind, e.Why = bmc.Unsupported, fmt.Sprintf("%s cannot do this (%s)", name, c)
	case c == wire.CodeState:
		e.Why = fmt.Sprintf("%s cannot do this in the present power state", name)
		e.Do = "Power the node on first"
	case c == wire.CodeBusy, c == wire.CodeInitializing:
		e.Kind, e.Do = bmc.Busy, "Try again in a minute"
	case e.What == "console":
		e.Kind, e.Why = bmc.Busy, fmt.Sprintf("%s does not give the serial line (%s)", name, c)
		e.Do = "Look who else holds it (ipmitool sol info)"
	}
}
