package redfish

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"muster/internal/bmc"
)

var (
	errNoAddress = errors.New("no BMC address is set")
	errClosed    = errors.New("the engine is closed")
	errUnsure    = errors.New("it may have been done")
)

// statusError is an answer that is an error (DSP0266, "Error responses").
type statusError struct {
	method, path string
	status       int
	messages     []message
	retry        time.Duration // Retry-After; 0: not said
	login        bool          // it was the login that was refused
}

func (e *statusError) Error() string {
	s := fmt.Sprintf("%s %s: %d %s", e.method, e.path, e.status, http.StatusText(e.status))
	for i, m := range e.messages {
		if m.Message != "" && i < 3 {
			s += ": " + string(m.Message)
		}
	}
	return s
}

// has says whether one of the messages has one of these names, whatever registry and version it is of: "Base.1.8.NoValidSession".
func (e *statusError) has(names ...string) bool {
	return slices.ContainsFunc(e.messages, func(m message) bool { return slices.Contains(names, m.name()) })
}

// answerError is an answer that makes no sense.
type answerError struct{ why string }

func (e *answerError) Error() string { return e.why }

// missing is something that the controller does not have.
type missing struct{ why string }

func (e *missing) Error() string { return e.why }

// wrong is a request that cannot be; nothing was sent.
type wrong struct{ why, do string }

func (e *wrong) Error() string { return e.why }

func status(err error) int {
	if e := (*statusError)(nil); errors.As(err, &e) {
		return e.status
	}
	return 0
}

// absent says that there is no such resource or method.
func absent(err error) bool {
	switch status(err) {
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusGone, http.StatusNotImplemented:
		return true
	}
	return false
}

const (
	doReach = "Look at bmc.address, the network and the power of the BMC, and that HTTPS and Redfish are enabled there (TCP port 443)"
	doLogin = "Set bmc.user and bmc.password to a login of the BMC that may use Redfish"
)

// explain makes an error for people: what was tried, which controller, what to do.
func (d *driver) explain(what string, err error) *bmc.Error {
	done := (*bmc.Error)(nil)
	if errors.As(err, &done) {
		return done
	}
	t := d.target
	k := key{address: t.Address, port: t.Port}
	if k.port == 0 {
		k.port = Port
	}
	name := "BMC " + k.String()
	e := &bmc.Error{Kind: bmc.Failed, What: what, Err: err}
	var (
		answer *statusError
		odd    *answerError
		none   *missing
		bad    *wrong
		cert   *bmc.CertificateError
		dns    *net.DNSError
		wait   interface{ Timeout() bool }
	)
	switch {
	case errors.As(err, &answer):
		explainStatus(e, answer, name, t)
	case errors.As(err, &cert):
		e.Kind, e.Why = bmc.Refused, name+" showed another certificate: "+cert.Error()
		e.Do = "When the BMC was replaced or got a new certificate, set bmc.pin to " + cert.Seen + "; else somebody may stand between"
		if len(cert.Pins) == 0 {
			e.Why = name + ": " + cert.Error()
			e.Do = "Compare it with that of the BMC and set bmc.pin to it (muster bmc trust takes it as it is), or install its authority on the manager"
		}
	case errors.As(err, &none):
		e.Kind, e.Why = bmc.Unsupported, name+": "+none.why
	case errors.As(err, &bad):
		e.Kind, e.Why, e.Do = bmc.Invalid, bad.why, bad.do
	case errors.As(err, &odd):
		e.Why, e.Do = name+" gave an unexpected answer ("+odd.why+")", "Reset the BMC; when that does not help, report its model and firmware"
	case errors.Is(err, errNoAddress):
		e.Kind, e.Why, e.Do = bmc.Invalid, "no BMC address is known", "Set bmc.address"
	case errors.As(err, &dns):
		e.Kind, e.Why = bmc.Invalid, fmt.Sprintf("bmc.address %q is neither an address nor a host name that can be resolved", t.Address)
		e.Do = "Set bmc.address to the address of the BMC"
	case errors.Is(err, errClosed):
		e.Kind, e.Why = bmc.Lost, "the service is stopping"
	case errors.Is(err, context.Canceled):
		e.Kind, e.Why = bmc.Lost, "stopped while waiting for "+name
	case errors.Is(err, errUnsure):
		e.Kind, e.Why, e.Do = bmc.Timeout, name+" did not answer; it may have done it", "Look how it is before trying again"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &wait) && wait.Timeout():
		e.Kind, e.Why, e.Do = bmc.Timeout, name+" did not answer in time", doReach
	default: // of the network
		e.Kind, e.Why, e.Do = bmc.Timeout, name+" does not answer ("+plain(err)+")", doReach
	}
	return e
}

// plain is the innermost reason: what wraps it repeats addresses and URLs.
func plain(err error) string {
	for next := errors.Unwrap(err); next != nil; next = errors.Unwrap(err) {
		err = next
	}
	return err.Error()
}

func explainStatus(e *bmc.Error, s *statusError, name string, t bmc.Target) {
	said := ""
	for _, m := range s.messages {
		if said = strings.TrimSuffix(string(m.Message), "."); said != "" {
			break
		}
	}
	if said == "" {
		said = strings.ToLower(http.StatusText(s.status))
	}
	e.Why = fmt.Sprintf("%s answered %q (Redfish %d)", name, said, s.status)
	switch {
	case s.has("SessionLimitExceeded"):
		e.Kind, e.Why, e.Do = bmc.Busy, name+" has no free session", "Close other Redfish sessions, or wait until they expire"
	case s.status == http.StatusUnauthorized, s.login && s.status < 500 && s.status != http.StatusTooManyRequests:
		e.Kind, e.Why, e.Do = bmc.Refused, fmt.Sprintf("%s refused user %s (Redfish %d)", name, t.User, s.status), doLogin
	case s.status == http.StatusForbidden:
		e.Kind, e.Why = bmc.Refused, fmt.Sprintf("%s does not let user %s do this (%s)", name, t.User, said)
		e.Do = "Give the user operator or administrator privilege in the BMC"
	case s.status == http.StatusServiceUnavailable, s.status == http.StatusTooManyRequests, s.status == http.StatusLocked,
		s.has("ServiceTemporarilyUnavailable", "ResourceInUse", "ServiceShuttingDown", "ResourceInStandby"):
		e.Kind, e.Do = bmc.Busy, "Try again in a minute"
		if s.retry > 0 {
			e.Do = "Try again in " + s.retry.Round(time.Second).String()
		}
	case s.status == http.StatusNotFound, s.status == http.StatusMethodNotAllowed, s.status == http.StatusNotImplemented,
		s.has("ActionNotSupported", "ActionParameterNotSupported", "ActionParameterValueNotInList", "PropertyNotWritable", "PropertyUnknown", "PropertyValueNotInList",
			"ActionParameterUnknown", "UnsupportedOperation", "OperationNotAllowed"):
		e.Kind, e.Why = bmc.Unsupported, fmt.Sprintf("%s cannot do this (%s)", name, said)
	case s.status == http.StatusConflict:
		e.Why = fmt.Sprintf("%s cannot do this in the present state (%s)", name, said)
	}
}
