package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
)

// Times of bringing the network up.
const (
	linkWait = 20 * time.Second // for the boot port to appear after its module was loaded
	dhcpWait = 60 * time.Second
)

// network brings the boot port up: with the address of the kernel arguments, else by DHCP. It returns what was set.
func network(ctx context.Context, want *Net) (*Net, error) {
	nl, err := openNetlink()
	if err != nil {
		return nil, err
	}
	defer nl.Close()
	if err := nl.up(1); err != nil { // lo is always the first
		return nil, fmt.Errorf("loopback: %w", err)
	}
	if want != nil {
		l, err := waitLink(ctx, want.MAC.String())
		if err != nil {
			return nil, err
		}
		if err := nl.up(l.Index); err != nil {
			return nil, fmt.Errorf("%s: %w", l.Name, err)
		}
		if !want.Address.IsValid() {
			return lease(ctx, nl, []link{l})
		}
		return want, nl.configure(l, want)
	}
	if _, err := waitLink(ctx, ""); err != nil {
		return nil, err
	}
	ls, err := links()
	if err != nil {
		return nil, err
	}
	for _, l := range ls {
		if err := nl.up(l.Index); err != nil {
			return nil, fmt.Errorf("%s: %w", l.Name, err)
		}
	}
	return lease(ctx, nl, ls)
}

func (n *netlink) configure(l link, want *Net) error {
	if err := n.address(l.Index, want.Address); err != nil {
		return fmt.Errorf("%s: address %s: %w", l.Name, want.Address, err)
	}
	if want.Gateway.IsValid() {
		if err := n.gateway(l.Index, want.Gateway); err != nil {
			return fmt.Errorf("%s: gateway %s: %w", l.Name, want.Gateway, err)
		}
	}
	return nil
}

// waitLink waits for the port with a MAC address, or for any port when mac is empty.
func waitLink(ctx context.Context, mac string) (link, error) {
	ctx, cancel := context.WithTimeout(ctx, linkWait)
	defer cancel()
	for {
		ls, err := links()
		if err != nil {
			return link{}, err
		}
		var have []string
		for _, l := range ls {
			if l.MAC == mac || mac == "" {
				return l, nil
			}
			have = append(have, l.Name+" "+l.MAC)
		}
		select {
		case <-ctx.Done():
			if len(have) == 0 {
				return link{}, errors.New("the machine shows no network port: the image's initramfs has no driver for it")
			}
			return link{}, fmt.Errorf("no port has the MAC address %s; there are: %s", mac, strings.Join(have, ", "))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// lease asks on all ports at once by DHCP and sets the port that is answered first.
func lease(ctx context.Context, nl *netlink, ls []link) (*Net, error) {
	ctx, cancel := context.WithTimeout(ctx, dhcpWait)
	defer cancel()
	type answer struct {
		link link
		net  *Net
		err  error
	}
	answers := make(chan answer, len(ls))
	for _, l := range ls {
		go func() {
			n, err := ask(ctx, l)
			answers <- answer{l, n, err}
		}()
	}
	var errs []error
	for range ls {
		a := <-answers
		if a.err == nil {
			return a.net, nl.configure(a.link, a.net)
		}
		errs = append(errs, fmt.Errorf("%s: %w", a.link.Name, a.err))
	}
	return nil, fmt.Errorf("DHCP: %w", errors.Join(errs...))
}

func ask(ctx context.Context, l link) (*Net, error) {
	c, err := nclient4.New(l.Name, nclient4.WithTimeout(2*time.Second), nclient4.WithRetry(30))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	got, err := c.Request(ctx, dhcpv4.WithRequestedOptions(dhcpv4.OptionSubnetMask, dhcpv4.OptionRouter, dhcpv4.OptionDomainNameServer))
	if err != nil {
		return nil, err
	}
	n := &Net{MAC: c.InterfaceAddr()}
	ip, ok := netip.AddrFromSlice(got.ACK.YourIPAddr.To4())
	if !ok {
		return nil, errors.New("the answer has no address")
	}
	bits, size := got.ACK.SubnetMask().Size()
	if size == 0 {
		bits = 24
	}
	n.Address = netip.PrefixFrom(ip, bits)
	if r := got.ACK.Router(); len(r) > 0 {
		n.Gateway, _ = netip.AddrFromSlice(r[0].To4())
	}
	for _, d := range got.ACK.DNS() {
		if a, ok := netip.AddrFromSlice(d.To4()); ok {
			n.DNS = append(n.DNS, a)
		}
	}
	return n, nil
}
