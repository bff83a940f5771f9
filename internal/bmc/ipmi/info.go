package ipmi

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"muster/internal/bmc"
	wire "muster/internal/wire/ipmi"
)

// code is the completion code in an error; ok is false when the controller did not answer.
func code(err error) (c wire.Code, ok bool) {
	var e *wire.Error
	if errors.As(err, &e) && e.Cause == wire.Command {
		return e.Code, true
	}
	return 0, false
}

func device(ask wire.Ask) (wire.Device, error) {
	b, err := ask(wire.GetDeviceID())
	if err != nil {
		return wire.Device{}, err
	}
	v, ok := wire.ParseDevice(b)
	if !ok {
		return wire.Device{}, &wire.Error{Cause: wire.Protocol, Step: "get device id"}
	}
	return v, nil
}

// Info asks for the device id, the machine's GUID, the LAN configuration and the product area of the inventory. What a controller does not have stays empty.
func (d *driver) Info(ctx context.Context) (info bmc.Info, err error) {
	err = d.talk(ctx, "bmc info", func(p *peer, ask wire.Ask) error {
		v, err := device(ask)
		if err != nil {
			return err
		}
		info = bmc.Info{Protocol: "ipmi " + v.Version, Vendor: wire.Vendor(v.Manufacturer), Firmware: v.Firmware, Session: p.session()}
		b, err := ask(wire.GetSystemGUID())
		switch {
		case err == nil:
			info.GUID, _ = wire.ParseGUID(b)
		case !answered(err):
			return err
		}
		channel, err := wire.ChannelNumber(ask)
		if err != nil {
			return err
		}
		for _, s := range []struct {
			to   *string
			name string
		}{{&info.Address, "lan.address"}, {&info.MAC, "lan.mac"}} {
			if *s.to, err = lanValues[s.name].read(ask, channel); err != nil && !answered(err) {
				return err
			}
		}
		f, err := fru(ask, 0)
		if err != nil && !answered(err) {
			return err
		}
		if a := f.Product; a != nil {
			info.Machine, info.Serial = strings.TrimSpace(a.Vendor+" "+a.Name), a.Serial
		}
		if f.Chassis != nil && info.Serial == "" {
			info.Serial = f.Chassis.Serial
		}
		return nil
	})
	return info, err
}

// Firmware lists what IPMI knows of: that of the controller.
func (d *driver) Firmware(ctx context.Context) ([]bmc.Firmware, error) {
	b, err := d.do(ctx, wire.GetDeviceID(), "firmware")
	if err != nil {
		return nil, err
	}
	v, ok := wire.ParseDevice(b)
	if !ok {
		return nil, d.explain("firmware", &wire.Error{Cause: wire.Protocol, Step: "get device id"})
	}
	return []bmc.Firmware{{Name: "BMC", Version: v.Firmware}}, nil
}

// identifyMost is the longest time that the command has room for.
const identifyMost = 255 * time.Second

// Identify lights the locator.
func (d *driver) Identify(ctx context.Context, on bool, duration time.Duration) error {
	const what = "identify"
	if duration > identifyMost || duration < 0 {
		return &bmc.Error{
			Kind: bmc.Invalid, What: what, Why: "IPMI lights the locator for 1 s to 255 s, or until it is put out",
			Do: "Give a duration up to 255s, or none",
		}
	}
	seconds := byte((duration + time.Second - 1) / time.Second)
	if !on {
		seconds = 0
	}
	_, err := d.do(ctx, wire.Identify(seconds, on && duration == 0), what)
	if c, _ := code(err); on && duration == 0 && (c == wire.CodeLength || c == wire.CodeField) { // IPMI 1.5 has no "always"
		_, err = d.do(ctx, wire.Identify(byte(identifyMost/time.Second), false), what)
	}
	return err
}

// ResetController starts the controller anew. One that goes without an answer has done what it was asked for.
func (d *driver) ResetController(ctx context.Context) error {
	_, err := d.do(ctx, wire.ColdReset(), "bmc reset")
	var e *wire.Error
	if errors.As(err, &e) && e.Cause == wire.AnswerLost && ctx.Err() == nil {
		return nil
	}
	return err
}

// Raw sends "NETFN COMMAND DATA…", octets in hexadecimal with or without 0x, and returns the octets of the answer. It is sent once.
func (d *driver) Raw(ctx context.Context, request string) (string, error) {
	const what = "bmc raw"
	invalid := func(why string) error {
		return &bmc.Error{Kind: bmc.Invalid, What: what, Why: why, Do: `Give network function, command and data in hexadecimal: "0x06 0x01"`}
	}
	var octets []byte
	for _, f := range strings.Fields(request) {
		n, err := strconv.ParseUint(strings.TrimPrefix(strings.ToLower(f), "0x"), 16, 8)
		if err != nil {
			return "", invalid(fmt.Sprintf("%q is not an octet", f))
		}
		octets = append(octets, byte(n))
	}
	switch {
	case len(octets) < 2:
		return "", invalid("a request has a network function and a command")
	case octets[0] > 0x3f || octets[0]&1 != 0:
		return "", invalid(fmt.Sprintf("network function %02x is not that of a request: they are even, up to 3e", octets[0]))
	case len(octets) > 200:
		return "", invalid("the request is too long for a packet")
	}
	b, err := d.do(ctx, wire.Request{NetFn: octets[0], Command: octets[1], Data: octets[2:], Once: true}, what)
	if err != nil {
		return "", err
	}
	digits := make([]string, len(b))
	for i, c := range b {
		digits[i] = hex.EncodeToString([]byte{c})
	}
	return strings.Join(digits, " "), nil
}
