package lab

import (
	"fmt"
	"math"
	"net/netip"
	"regexp"
	"strconv"

	"muster/internal/api"
)

// Firmware is what a machine starts with.
type Firmware string

// The firmwares: SeaBIOS with iPXE in the network card, or OVMF with its own network stack.
const (
	BIOS Firmware = "bios"
	UEFI Firmware = "uefi"
)

// shape is what a person asks of a lab: two labs of one shape are interchangeable.
type shape struct {
	machines int
	firmware Firmware
	memory   int   // MiB for each machine
	disk     int64 // bytes of each machine's disk, sparse
	more     int   // disks of this size besides the first
}

const (
	maxMachines = 200 // the last byte of MAC and BMC address is the machine's number
	maxDisks    = 8
	minMemory   = 128 // MiB; iPXE under SeaBIOS does not fit in less
)

var labName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`)

// check reports all that is wrong with the request, not the first.
func (s shape) check(name string) error {
	var wrong []*api.Error
	say := func(why, do string) {
		wrong = append(wrong, &api.Error{Code: api.Usage, What: "lab up", Why: why, Do: do})
	}
	if !labName.MatchString(name) {
		say(fmt.Sprintf("%q is not a name for a lab", name), "Use up to 32 lower case letters, digits and hyphens")
	}
	if s.machines < 1 || s.machines > maxMachines {
		say(fmt.Sprintf("-n %d machines", s.machines), fmt.Sprintf("Ask for 1 to %d", maxMachines))
	}
	if s.firmware != BIOS && s.firmware != UEFI {
		say(fmt.Sprintf("unknown firmware %q", s.firmware), "Choose --firmware bios or --firmware uefi")
	}
	if s.memory < minMemory {
		say(fmt.Sprintf("--memory %d MiB is too little for firmware and a kernel", s.memory), fmt.Sprintf("Give at least %d", minMemory))
	}
	if s.disk < 1<<20 {
		say(fmt.Sprintf("--disk of %d bytes", s.disk), "Give at least 1M")
	}
	if s.more < 0 || s.more > maxDisks-1 {
		say(fmt.Sprintf("--disks %d", s.more+1), fmt.Sprintf("Give each machine 1 to %d", maxDisks))
	}
	if len(wrong) == 0 {
		return nil
	}
	wrong[0].More = wrong[1:]
	return wrong[0]
}

// parseSize reads a size as people write it: a whole number of bytes, or with K, M, G or T for powers of 1024.
func parseSize(text string) (int64, error) {
	number, shift := text, 0
	if len(text) > 0 {
		switch text[len(text)-1] {
		case 'K', 'k':
			shift = 10
		case 'M', 'm':
			shift = 20
		case 'G', 'g':
			shift = 30
		case 'T', 't':
			shift = 40
		}
		if shift > 0 {
			number = text[:len(text)-1]
		}
	}
	n, err := strconv.ParseUint(number, 10, 63)
	if err != nil || n > uint64(math.MaxInt64)>>shift {
		return 0, fmt.Errorf("%q is not a size: write a number with K, M, G or T, such as 4G", text)
	}
	return int64(n) << shift, nil
}

// formatSize is the shortest text that parseSize reads back as n.
func formatSize(n int64) string {
	for _, u := range []struct {
		shift int
		unit  string
	}{{40, "T"}, {30, "G"}, {20, "M"}, {10, "K"}} {
		if n > 0 && n&(1<<u.shift-1) == 0 {
			return strconv.FormatInt(n>>u.shift, 10) + u.unit
		}
	}
	return strconv.FormatInt(n, 10)
}

// The addresses of every lab. Labs do not see each other, so all have the same.
var (
	bridgeAddress = netip.MustParsePrefix("10.77.0.1/16")
	bootNetwork   = netip.MustParseAddr("10.77.1.0")
	bmcNetwork    = netip.MustParseAddr("10.78.0.0")
)

func numbered(base netip.Addr, n int) netip.Addr {
	b := base.As4()
	b[3] = byte(n)
	return netip.AddrFrom4(b)
}
