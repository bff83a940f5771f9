package lab

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
)

// bootPlan is what the firmware is told to boot from.
type bootPlan struct {
	network, disk int  // place in the order from 0; -1: not at all
	menu          bool // stop in the firmware's menu
}

// planFor returns the order for a boot device; "default" tries the network and then the disk.
func planFor(device string) bootPlan {
	switch device {
	case "network":
		return bootPlan{network: 0, disk: -1}
	case "disk":
		return bootPlan{network: -1, disk: 0}
	case "setup":
		return bootPlan{network: 0, disk: 1, menu: true}
	case "default":
		return bootPlan{network: 0, disk: 1}
	}
	return bootPlan{network: -1, disk: -1} // cd, floppy: the machine has none
}

// The file descriptors that a machine inherits.
const (
	serialFD = 3
	qmpFD    = 4
)

// processor is everything that TCG can emulate, but for fast string instructions: it runs rep movsb byte by byte, and a kernel that
// is told of them uses them for every copy, which costs a boot some 15 % of its processor time.
const processor = "max,-erms"

// qemuArguments is the command line of one machine. It is started stopped (-S) with serial port and monitor on
// inherited sockets: nothing that the firmware prints can be missed, and nobody else can take the sockets.
//
// The order comes by bootindex and not by -boot order=: OVMF reads nothing else, and the indexes can be set again while
// the machine runs (they count from the next reset). Strict, so that a machine told to boot from disk never asks the network.
func qemuArguments(s *State, m Machine, p bootPlan) []string {
	dir := s.machineDir(m.Name)
	index := func(i int) string { return ",bootindex=" + strconv.Itoa(i) }
	nic := "virtio-net-pci,id=net0,netdev=n0,mac=" + m.MAC + index(p.network)
	boot := "strict=on,reboot-timeout=5000" // without a timeout a failed boot hangs at "No bootable device"
	if p.menu {
		boot += ",menu=on,splash-time=65535"
	}
	a := []string{
		"-name", m.Name, "-uuid", m.UUID, "-S", "-nodefaults", "-no-user-config", "-display", "none", "-msg", "timestamp=on",
		"-accel", "tcg,tb-size=" + strconv.Itoa(translationCache(s.Memory)), "-cpu", processor, "-smp", "1", "-m", strconv.Itoa(s.Memory),
		"-boot", boot,
		"-smbios", "type=1,manufacturer=muster,product=lab machine,serial=" + m.Name,
		"-chardev", "socket,id=serial0,fd=" + strconv.Itoa(serialFD), "-serial", "chardev:serial0",
		"-chardev", "socket,id=monitor0,fd=" + strconv.Itoa(qmpFD), "-mon", "chardev=monitor0,mode=control",
		"-netdev", "tap,id=n0,ifname=" + m.Tap + ",script=no,downscript=no",
		"-drive", "if=none,id=d0,file.driver=file,file.filename=" + escape(diskFile(dir, 1)) + ",format=raw,cache=unsafe,discard=unmap",
		"-device", "virtio-blk-pci,id=disk0,drive=d0,serial=" + m.Name + index(p.disk),
		"-object", "rng-random,id=r0,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=r0",
	}
	for n := 2; n <= s.More+1; n++ {
		id := strconv.Itoa(n)
		a = append(a, "-drive", "if=none,id=d"+id+",file.driver=file,file.filename="+escape(diskFile(dir, n))+",format=raw,cache=unsafe,discard=unmap",
			"-device", "virtio-blk-pci,id=disk"+id+",drive=d"+id+",serial="+m.Name+"-"+id)
	}
	if s.Firmware == UEFI {
		return append(a, "-M", "q35",
			"-drive", "if=pflash,unit=0,format=raw,readonly=on,file="+ovmfCode,
			"-drive", "if=pflash,unit=1,format=raw,file="+escape(filepath.Join(dir, "vars.fd")),
			"-device", nic+",romfile=") // with a ROM, iPXE's EFI driver takes the card from OVMF's own stack
	}
	return append(a, "-M", "q35,graphics=off", "-device", nic) // graphics=off puts SeaBIOS and iPXE on the serial port
}

// escape doubles the commas, as QEMU's option parser wants it.
func escape(file string) string {
	var out []byte
	for i := range len(file) {
		out = append(out, file[i])
		if file[i] == ',' {
			out = append(out, ',')
		}
	}
	return string(out)
}

// translationCache is QEMU's tb-size in MiB. QEMU's own choice of 1 GiB lets idle machines grow; a distribution's
// kernel and user space want some 60 MiB of translated code before they are flushed and made again.
func translationCache(memory int) int {
	if memory < 512 {
		return 32
	}
	return 96
}

// diskFile is the file of a machine's disk, counted from 1: disk.raw, disk2.raw.
func diskFile(dir string, n int) string {
	name := "disk.raw"
	if n > 1 {
		name = "disk" + strconv.Itoa(n) + ".raw"
	}
	return filepath.Join(dir, name)
}

// makeMachine makes the directory of a machine: empty disks and, with UEFI, its own variables.
func makeMachine(s *State, m Machine) error {
	dir := s.machineDir(m.Name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	for n := range s.More + 1 {
		disk, err := os.OpenFile(diskFile(dir, n+1), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		if err := errors.Join(disk.Truncate(s.Disk), disk.Close()); err != nil {
			return fmt.Errorf("disk of %s: %w", m.Name, err)
		}
	}
	if s.Firmware != UEFI {
		return nil
	}
	return copyFile(filepath.Join(dir, "vars.fd"), ovmfVars)
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		_ = out.Close()
		return err
	}
	return out.Close()
}
