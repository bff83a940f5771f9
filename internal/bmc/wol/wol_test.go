package wol

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"net"
	"slices"
	"testing"
	"time"

	"muster/internal/bmc"
	"muster/internal/bmc/bmctest"
	"muster/internal/model"
)

func TestDriver_conforms(t *testing.T) {
	passed := bmctest.Run(t.Context(), t, Open(bmc.Target{Node: "r1n1", MAC: "52:54:00:00:00:01", Address: "127.0.0.1"}))
	if !slices.Contains(passed, "power off and on") || !slices.Contains(passed, "unknown action of power") {
		t.Errorf("passed %q", passed)
	}
}

func TestMagic(t *testing.T) {
	const words = "ffffffffffff"
	mac := "0250c2000a01"
	for password, want := range map[string]string{"": "", "00:11:22:33:44:55": "001122334455", "10.0.0.1": "0a000001", "a word": ""} {
		p, _, err := magic(bmc.Target{MAC: "02:50:C2:00:0A:01", Password: model.NewSecret(password)})
		full := words
		for range 16 {
			full += mac
		}
		if got := hex.EncodeToString(p); err != nil || got != full+want {
			t.Errorf("%q: got %s, %v; want %s", password, got, err, full+want)
		}
	}
	var e *bmc.Error
	if err := Open(bmc.Target{MAC: "none"}).SetPower(t.Context(), bmc.On); !errors.As(err, &e) || e.Kind != bmc.Invalid {
		t.Errorf("without a MAC address: %v", err)
	}
}

// Somebody at bmc.address hears it.
func TestOn_is_heard(t *testing.T) {
	l, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	target := bmc.Target{MAC: "52:54:00:00:00:01", Address: "127.0.0.1", Port: l.LocalAddr().(*net.UDPAddr).Port}
	if err := Open(target).SetPower(t.Context(), bmc.On); err != nil {
		t.Fatal(err)
	}
	if err := l.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 200)
	n, _, err := l.ReadFromUDP(got)
	want, _, _ := magic(target)
	if err != nil || !bytes.Equal(got[:n], want) {
		t.Errorf("heard % x, %v; want % x", got[:n], err, want)
	}
	gone, stop := context.WithCancel(t.Context())
	stop()
	if err := Open(target).SetPower(gone, bmc.On); err == nil {
		t.Error("sent although the context has ended")
	}
}

func TestBroadcast(t *testing.T) {
	for network, want := range map[string]string{"10.1.2.3/16": "10.1.255.255", "192.168.0.5/24": "192.168.0.255", "10.0.0.1/30": "10.0.0.3", "10.0.0.1/31": "<nil>", "10.0.0.1/32": "<nil>", "fe80::1/64": "<nil>"} {
		ip, n, err := net.ParseCIDR(network)
		if err != nil {
			t.Fatal(err)
		}
		if got := broadcast(&net.IPNet{IP: ip, Mask: n.Mask}).String(); got != want {
			t.Errorf("%s: got %s; want %s", network, got, want)
		}
	}
}
