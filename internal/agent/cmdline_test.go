package agent

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

const (
	somePin  = "sha256:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
	someLine = "BOOT_IMAGE=kernel console=ttyS0,115200 quiet muster.server=https://10.77.0.1:7443 muster.pin=" + somePin +
		" muster.token=secret-token muster.node=r1n1 muster.net=52:54:00:77:00:01,10.77.1.1/16,10.77.0.1,10.77.0.2,10.77.0.3\n"
)

func TestArgumentsOfABootScript(t *testing.T) {
	a, err := parseArguments(someLine)
	if err != nil {
		t.Fatal(err)
	}
	if a.Server != "https://10.77.0.1:7443" || a.Pin != somePin || a.Token.Reveal() != "secret-token" || a.Node != "r1n1" || a.Debug {
		t.Errorf("got %+v", a)
	}
	n := a.Net
	if n.MAC.String() != "52:54:00:77:00:01" || n.Address != netip.MustParsePrefix("10.77.1.1/16") || n.Gateway != netip.MustParseAddr("10.77.0.1") || len(n.DNS) != 2 {
		t.Errorf("net: %+v", n)
	}
	if s := fmt.Sprintf("%v %+v %#v", a, a, a); strings.Contains(s, "secret-token") {
		t.Errorf("the token is printed: %s", s)
	}
}

func TestArgumentsWithoutAddressAskByDHCP(t *testing.T) {
	base := "muster.server=https://[fd77::1]:7443 muster.pin=" + somePin + " muster.token=t muster.node=r1n1 muster.debug"
	a, err := parseArguments(base)
	if err != nil || a.Net != nil || !a.Debug || a.Server != "https://[fd77::1]:7443" {
		t.Errorf("got %+v, %v", a, err)
	}
	a, err = parseArguments(base + " muster.net=52:54:00:77:00:01")
	if err != nil || a.Net == nil || a.Net.Address.IsValid() {
		t.Errorf("got %+v, %v", a, err)
	}
	a, err = parseArguments(base + ` muster.net="52:54:00:77:00:01,10.0.0.2/24,,10.0.0.1"`)
	if err != nil || a.Net.Gateway.IsValid() || len(a.Net.DNS) != 1 {
		t.Errorf("got %+v, %v", a, err)
	}
}

func TestWrongArgumentsAreAllNamed(t *testing.T) {
	_, err := parseArguments("muster.server=http://x muster.pin=sha256:12 muster.net=nonsense,10.0.0.1/24 muster.token=hidden")
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"muster.server=http://x", "muster.pin=sha256:12", "muster.net=nonsense", "muster.node is missing"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not name %s", err, want)
		}
	}
	if strings.Contains(err.Error(), "hidden") {
		t.Errorf("the token is shown: %v", err)
	}
	_, err = parseArguments("quiet")
	for _, want := range []string{"muster.server", "muster.pin", "muster.token", "muster.node"} {
		if err == nil || !strings.Contains(err.Error(), want+" is missing") {
			t.Errorf("%v does not name %s", err, want)
		}
	}
}

func FuzzParseArguments(f *testing.F) {
	f.Add(someLine)
	f.Add(`a="b c" muster.net=52:54:00:77:00:01,::1/128,::2 "`)
	f.Fuzz(func(t *testing.T, line string) {
		a, err := parseArguments(line)
		if err != nil || a.Net == nil {
			return
		}
		again, err := parseNet(a.Net.String())
		if err != nil || again.String() != a.Net.String() {
			t.Errorf("%q: %q read again is %v, %v", line, a.Net, again, err)
		}
	})
}
