package port

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"muster/internal/boot"
)

func TestMissingInterfaceIsNamedWithThoseThatThereAre(t *testing.T) {
	_, err := Listen(context.Background(), "DHCP", "nosuch0", netip.MustParseAddrPort("127.0.0.1:0"))
	var e *boot.Error
	if !errors.As(err, &e) || e.What != "DHCP on nosuch0" || !strings.Contains(e.Why, `no interface "nosuch0"; there are`) || e.Do == "" {
		t.Errorf("got %v", err)
	}
}

func TestTakenPortIsNamedWithItsHolder(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to bind to an interface")
	}
	ctx := context.Background()
	first, err := Listen(ctx, "DHCP", "lo", netip.MustParseAddrPort("127.77.67.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	at := first.LocalAddr().(interface{ AddrPort() netip.AddrPort }).AddrPort()
	_, err = Listen(ctx, "DHCP", "lo", at)
	var e *boot.Error
	want := fmt.Sprintf("UDP port %d is taken by port.test (pid %d)", at.Port(), os.Getpid())
	if !errors.As(err, &e) || e.Why != want || e.Do == "" {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestAddressOfAnotherHostSaysHowToGetIt(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to bind to an interface")
	}
	_, err := Listen(context.Background(), "TFTP", "lo", netip.MustParseAddrPort("192.0.2.1:0"))
	var e *boot.Error
	if !errors.As(err, &e) || e.Why != "192.0.2.1 is not an address of this host" {
		t.Errorf("got %v", err)
	}
}
