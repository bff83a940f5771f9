package lab

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// namespaces is where named network namespaces are kept, the same place as ip-netns(8) uses.
const namespaces = "/run/netns"

const bridgeName = "br0"

// onThread runs fn on an operating system thread that is thrown away afterwards, so that fn may change its namespaces.
func onThread(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		done <- fn()
	}()
	return <-done
}

// inside runs fn on a thread in the namespace. Processes that fn starts are in the namespace too.
func inside(namespace string, fn func() error) error {
	return onThread(func() error {
		if err := enter(namespace); err != nil {
			return err
		}
		return fn()
	})
}

// enter moves the calling thread, which must be locked, into the namespace.
func enter(namespace string) error {
	h, err := netns.GetFromName(namespace)
	if err != nil {
		return fmt.Errorf("namespace %s: %w", namespace, err)
	}
	err = netns.Set(h)
	return errors.Join(err, h.Close())
}

// makeNamespace makes the named namespace, by ip(8): what it does to share /run/netns between mount namespaces has to be done
// by all who put names there, or a later ip netns add covers the name of an earlier one. It is an error when the name is
// taken.
func makeNamespace(name string) error {
	if namespaceExists(name) {
		return fmt.Errorf("namespace %s exists and is not of this lab: remove it with ip netns delete %s, or choose another --name", name, name)
	}
	if out, err := exec.Command("ip", "netns", "add", name).CombinedOutput(); err != nil {
		return errors.Join(fmt.Errorf("namespace %s: ip netns add: %w: %s", name, err, bytes.TrimSpace(out)), removeNamespace(name))
	}
	return nil
}

// removeNamespace removes the name; the namespace itself ends with its last process. Nil when there is none.
func removeNamespace(name string) error {
	if !namespaceExists(name) {
		return nil
	}
	out, err := exec.Command("ip", "netns", "delete", name).CombinedOutput()
	if err != nil && namespaceExists(name) {
		return fmt.Errorf("namespace %s: ip netns delete: %w: %s", name, err, bytes.TrimSpace(out))
	}
	return nil
}

func namespaceExists(name string) bool {
	_, err := os.Lstat(filepath.Join(namespaces, name))
	return err == nil
}

// makeNetwork fills the namespace: loopback with the BMC addresses, the bridge, a tap for each machine.
func makeNetwork(s *State) error {
	return inside(s.Namespace, func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		if err := netlink.LinkSetUp(lo); err != nil {
			return fmt.Errorf("lo: %w", err)
		}
		for _, m := range s.Machines {
			if err := addAddress(lo, m.BMC+"/32", 0); err != nil {
				return err
			}
		}
		bridge, err := makeBridge()
		if err != nil {
			return fmt.Errorf("%s: %w", bridgeName, err)
		}
		for _, m := range s.Machines {
			if err := makeTap(m.Tap, bridge); err != nil {
				return fmt.Errorf("%s: %w", m.Tap, err)
			}
		}
		return nil
	})
}

// makeBridge makes a bridge that forwards from the first packet: no spanning tree, no multicast snooping, and an IPv6
// link-local address that needs no duplicate detection (router advertisements must be answered at once).
func makeBridge() (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = bridgeName
	attrs.HardwareAddr = net.HardwareAddr{0x52, 0x54, 0x00, 0x77, 0xff, 0x01} // fixed: else it is that of the lowest tap
	snooping := false
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &snooping}); err != nil {
		return nil, err
	}
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+bridgeName+"/accept_dad", []byte("0"), 0); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err // absent: a host without IPv6
	}
	bridge, err := netlink.LinkByName(bridgeName)
	if err != nil {
		return nil, err
	}
	if err := addAddress(bridge, bridgeAddress.String(), 0); err != nil {
		return nil, err
	}
	return bridge, netlink.LinkSetUp(bridge)
}

func makeTap(name string, bridge netlink.Link) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	tap := &netlink.Tuntap{LinkAttrs: attrs, Mode: netlink.TUNTAP_MODE_TAP, Flags: netlink.TUNTAP_NO_PI}
	if err := netlink.LinkAdd(tap); err != nil {
		return err
	}
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	if err := netlink.LinkSetMaster(link, bridge); err != nil {
		return err
	}
	return netlink.LinkSetUp(link)
}

func addAddress(link netlink.Link, address string, flags int) error {
	a, err := netlink.ParseAddr(address)
	if err != nil {
		return err
	}
	a.Flags = flags
	if err := netlink.AddrAdd(link, a); err != nil {
		return fmt.Errorf("%s on %s: %w", address, link.Attrs().Name, err)
	}
	return nil
}

// removeNetwork takes bridge and taps away, so that nothing of them stays when a foreign process keeps the namespace alive.
func removeNetwork(s *State) error {
	// What ip netns add leaves when it is killed is a name and no namespace.
	var st unix.Statfs_t
	if unix.Statfs(filepath.Join(namespaces, s.Namespace), &st) != nil || st.Type != unix.NSFS_MAGIC {
		return nil
	}
	return inside(s.Namespace, func() error {
		var all []error
		names := []string{bridgeName}
		for _, m := range s.Machines {
			names = append(names, m.Tap)
		}
		for _, name := range names {
			link, err := netlink.LinkByName(name)
			if _, gone := errors.AsType[netlink.LinkNotFoundError](err); gone {
				continue
			}
			if err == nil {
				err = netlink.LinkDel(link)
			}
			if err != nil {
				all = append(all, fmt.Errorf("%s: %w", name, err))
			}
		}
		return errors.Join(all...)
	})
}
