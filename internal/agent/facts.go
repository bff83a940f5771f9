package agent

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"muster/internal/model"
)

// facts describes the machine from /proc and /sys below root ("/" for this one). What cannot be read is left empty.
func facts(root, imageDigest string) *model.Facts {
	read := func(parts ...string) string { return readLine(filepath.Join(append([]string{root}, parts...)...)) }
	f := &model.Facts{
		Image: imageDigest, Kernel: read("proc/sys/kernel/osrelease"), BootID: read("proc/sys/kernel/random/boot_id"),
		Serial: read("sys/class/dmi/id/product_serial"), UUID: strings.ToLower(read("sys/class/dmi/id/product_uuid")),
		Vendor: read("sys/class/dmi/id/sys_vendor"), Model: read("sys/class/dmi/id/product_name"),
		UptimeMS: uptime().Milliseconds(),
	}
	release, _ := os.ReadFile(filepath.Join(root, "etc/os-release"))
	f.OS = osName(string(release))
	cpu, _ := os.ReadFile(filepath.Join(root, "proc/cpuinfo"))
	f.CPUs, f.CPU = processors(string(cpu))
	if f.CPUs == 0 {
		f.CPUs = runtime.NumCPU()
	}
	mem, _ := os.ReadFile(filepath.Join(root, "proc/meminfo"))
	f.Memory = memory(string(mem))
	f.Disks = disks(root)
	_, err := os.Stat(filepath.Join(root, "sys/firmware/efi"))
	f.UEFI = err == nil
	f.NICs = nics(root)
	return f
}

func osName(release string) string {
	for line := range strings.Lines(release) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "PRETTY_NAME="); ok {
			return strings.Trim(v, `"'`)
		}
	}
	return ""
}

// processors reads /proc/cpuinfo: how many, and the model of the first.
func processors(cpuinfo string) (n int, name string) {
	for line := range strings.Lines(cpuinfo) {
		key, value, _ := strings.Cut(line, ":")
		switch strings.TrimSpace(key) {
		case "processor":
			n++
		case "model name":
			if name == "" {
				name = strings.Join(strings.Fields(value), " ")
			}
		}
	}
	return n, name
}

// memory reads MemTotal of /proc/meminfo, in bytes.
func memory(meminfo string) int64 {
	for line := range strings.Lines(meminfo) {
		if v, ok := strings.CutPrefix(line, "MemTotal:"); ok {
			kb, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(v), " kB"), 10, 64)
			return kb << 10
		}
	}
	return 0
}

// disks lists whole block devices that hardware (or its emulation) is behind.
func disks(root string) []model.Disk {
	var ds []model.Disk
	for _, d := range blockDisks(root) {
		ds = append(ds, model.Disk{Name: d.Name, Size: d.Size, Model: d.Model, WWN: d.WWN, Serial: d.Serial, Bus: d.Bus, Path: d.Path, Fabric: d.Fabric})
	}
	return ds
}

// nics lists network ports that hardware (or its emulation) is behind.
func nics(root string) []model.NIC {
	entries, _ := os.ReadDir(filepath.Join(root, "sys/class/net"))
	var ns []model.NIC
	for _, e := range entries {
		dir := filepath.Join(root, "sys/class/net", e.Name())
		if _, err := os.Stat(filepath.Join(dir, "device")); err != nil {
			continue // loopback, bridges, tunnels
		}
		n := model.NIC{Name: e.Name(), MAC: strings.ToLower(readLine(filepath.Join(dir, "address")))}
		if driver, err := os.Readlink(filepath.Join(dir, "device/driver")); err == nil {
			n.Driver = filepath.Base(driver)
		}
		// -1 is what a port without a link says.
		if speed, err := strconv.Atoi(readLine(filepath.Join(dir, "speed"))); err == nil && speed > 0 {
			n.Speed = speed
		}
		ns = append(ns, n)
	}
	return ns
}

// sameFacts says whether two descriptions differ in nothing but when they were taken.
func sameFacts(a, b *model.Facts) bool {
	x, y := *a, *b
	x.UptimeMS, y.UptimeMS = 0, 0
	return slices.Equal(x.Disks, y.Disks) && slices.Equal(x.NICs, y.NICs) && scalars(x) == scalars(y)
}

func scalars(f model.Facts) [12]string {
	return [...]string{
		f.Kernel, f.OS, f.Image, strconv.Itoa(f.CPUs), f.CPU, strconv.FormatInt(f.Memory, 10), f.BootID, f.Serial, f.UUID, f.Vendor, f.Model, strconv.FormatBool(f.UEFI),
	}
}
