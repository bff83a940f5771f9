package bmc

import (
	"errors"
	"io"
	"testing"
)

func TestError_says_what_why_and_do(t *testing.T) {
	e := &Error{
		Kind: Refused, What: "power on", Why: "BMC 10.1.7.7 refused user admin",
		Do: "Set bmc.user and bmc.password for group rack1", Err: io.ErrUnexpectedEOF,
	}
	if got, want := e.Error(), "power on: BMC 10.1.7.7 refused user admin. Set bmc.user and bmc.password for group rack1"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if !errors.Is(e, io.ErrUnexpectedEOF) {
		t.Error("does not wrap what the protocol said")
	}
}
