package agent

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"muster/internal/model/layout"
)

// blockDisks lists the whole disks below root ("/" for this machine), with what udev found out about them.
func blockDisks(root string) []layout.BlockDisk {
	read := func(parts ...string) string { return readLine(filepath.Join(append([]string{root}, parts...)...)) }
	entries, _ := os.ReadDir(filepath.Join(root, "sys/block"))
	var out []layout.BlockDisk
	for _, e := range entries {
		dir := "sys/block/" + e.Name()
		if _, err := os.Stat(filepath.Join(root, dir, "device")); err != nil {
			continue // loop, ram, device mapper, arrays
		}
		if read(dir, "device/type") == "5" { // an optical drive
			continue
		}
		sectors, _ := strconv.ParseInt(read(dir, "size"), 10, 64) // of 512 bytes, always
		if sectors == 0 {
			continue
		}
		props := udevProperties(filepath.Join(root, "run/udev/data/b"+read(dir, "dev")))
		d := layout.BlockDisk{Name: e.Name(), Size: sectors * 512, Locked: read(dir, "ro") == "1", Path: props["ID_PATH"]}
		d.Sector, _ = strconv.ParseInt(read(dir, "queue/logical_block_size"), 10, 64)
		first := func(values ...string) string {
			for _, v := range values {
				if v = strings.Join(strings.Fields(v), " "); v != "" {
					return v
				}
			}
			return ""
		}
		d.Model = first(read(dir, "device/model"), strings.ReplaceAll(props["ID_MODEL"], "_", " "))
		d.Serial = first(props["ID_SCSI_SERIAL"], props["ID_SERIAL_SHORT"], read(dir, "device/serial"), read(dir, "serial"))
		d.WWN = first(read(dir, "wwid"), read(dir, "device/wwid"), props["ID_WWN_WITH_EXTENSION"], props["ID_WWN"])
		place, _ := filepath.EvalSymlinks(filepath.Join(root, dir))
		transport := read(dir, "device/transport")
		d.Bus, d.Fabric = attachment(place, transport)
		holders, _ := filepath.Glob(filepath.Join(root, dir, "holders/dm-*"))
		for _, h := range holders {
			if strings.HasPrefix(readLine(filepath.Join(h, "dm/uuid")), "mpath-") {
				d.Fabric = "multipath"
			}
		}
		if strings.HasPrefix(props["ID_FS_TYPE"], "mpath_member") || props["DM_MULTIPATH_DEVICE_PATH"] == "1" {
			d.Fabric = "multipath"
		}
		out = append(out, d)
	}
	return out
}

// attachment reads from the place of a disk in sysfs (kernel: Documentation/ABI/testing/sysfs-…) and from the transport of an NVMe controller by which
// bus it is attached, and behind which fabric it is.
func attachment(place, transport string) (bus, fabric string) {
	has := func(part string) bool { return strings.Contains(place, part) }
	switch {
	case has("/rport-"), has("/fc_remote_ports/"):
		fabric = "fc"
	case has("/session"):
		fabric = "iscsi"
	case has("/srp"), has("/port-") && has("/infiniband"):
		fabric = "srp"
	case has("/rbd"), has("/nbd"):
		fabric = "network"
	case transport != "" && transport != "pcie":
		fabric = "nvme-" + transport
	case has("/nvme-fabrics/"):
		fabric = "nvme"
	}
	switch {
	case has("/usb"):
		bus = "usb"
	case has("/nvme"):
		bus = "nvme"
	case has("/ata"):
		bus = "sata"
	case has("/end_device-"):
		bus = "sas"
	case has("/mmc"):
		bus = "mmc"
	case has("/vbd-"):
		bus = "xen"
	case has("/host"):
		bus = "scsi"
	case has("/virtio"):
		bus = "virtio"
	default:
		bus = "other"
	}
	return bus, fabric
}

// udevProperties reads the record of a device in udev's database: lines E:KEY=VALUE.
func udevProperties(path string) map[string]string {
	out := make(map[string]string)
	f, err := os.Open(path)
	if err != nil {
		return out
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if rest, ok := strings.CutPrefix(s.Text(), "E:"); ok {
			key, value, _ := strings.Cut(rest, "=")
			out[key] = value
		}
	}
	return out
}

// probe says what lies on a device of this machine.
func probe(dev string) layout.Content {
	f, err := os.Open(dev)
	if err != nil {
		return layout.Content{}
	}
	defer f.Close()
	b := make([]byte, layout.ProbeSize)
	n, _ := io.ReadFull(f, b)
	return layout.Probe(b[:n])
}

// disksSettle is for how long the list of disks has to stay the same before anything is decided by it: drivers find them one after the other.
const disksSettle = 3 * time.Second

// findMachine describes the disks of this machine and what is on them.
func findMachine(ctx context.Context) (layout.Machine, error) {
	_ = exec.CommandContext(ctx, "udevadm", "settle", "--timeout=120").Run() // what it does not see yet, the second look does
	m := layout.Machine{}
	for same := time.Duration(0); same < disksSettle; {
		now := blockDisks("/")
		if !slices.Equal(now, m.Disks) {
			same, m.Disks = 0, now
		}
		select {
		case <-ctx.Done():
			return m, ctx.Err()
		case <-time.After(disksSettle / 10):
			same += disksSettle / 10
		}
	}
	_, err := os.Stat("/sys/firmware/efi")
	m.UEFI = err == nil
	for i := range m.Disks {
		if err := tableOf(ctx, &m, &m.Disks[i]); err != nil {
			return m, err
		}
	}
	m.Arrays = runningArrays()
	lvm := slices.ContainsFunc(m.Partitions, func(p layout.Partition) bool { return p.FS.Type == "lvm" }) ||
		slices.ContainsFunc(m.Arrays, func(a layout.Array) bool { return a.FS.Type == "lvm" })
	if lvm {
		if m.Groups, err = volumeGroups(ctx); err != nil {
			return m, err
		}
	}
	return m, nil
}

// tableOf reads the partitions of a disk.
func tableOf(ctx context.Context, m *layout.Machine, d *layout.BlockDisk) error {
	out, err := exec.CommandContext(ctx, "sfdisk", "--json", "/dev/"+d.Name).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) { // it has none
		d.FS = probe("/dev/" + d.Name).Type
		return nil
	}
	if err != nil {
		return &failure{What: "partitions of /dev/" + d.Name, Err: err, Do: "Build the image again with the package fdisk."}
	}
	parts, err := readTable(out, d)
	if err != nil {
		return err
	}
	for _, p := range parts {
		p.FS = probe(partitionDevice(d.Name, p.Number))
		m.Partitions = append(m.Partitions, p)
	}
	return nil
}

func partitionDevice(disk string, number int) string {
	if c := disk[len(disk)-1]; '0' <= c && c <= '9' {
		disk += "p"
	}
	return "/dev/" + disk + strconv.Itoa(number)
}

// readTable reads what sfdisk --json prints of a disk.
func readTable(out []byte, d *layout.BlockDisk) ([]layout.Partition, error) {
	var doc struct {
		PartitionTable struct {
			Label, ID  string
			SectorSize int64
			Partitions []struct {
				Node                    string
				Start, Size             int64
				Type, UUID, Name, Attrs string
			}
		}
	}
	if err := json.Unmarshal(out, &doc); err != nil {
		return nil, fmt.Errorf("sfdisk on /dev/%s: %w", d.Name, err)
	}
	t := doc.PartitionTable
	d.Table, d.ID = t.Label, t.ID
	if t.SectorSize == 0 {
		t.SectorSize = 512
	}
	var parts []layout.Partition
	for _, p := range t.Partitions {
		number := strings.TrimPrefix(strings.TrimPrefix(p.Node, "/dev/"+d.Name), "p")
		n, err := strconv.Atoi(number)
		if err != nil {
			return nil, fmt.Errorf("sfdisk on /dev/%s: %q is no partition of it", d.Name, p.Node)
		}
		parts = append(parts, layout.Partition{Disk: d.Name, Number: n, Name: p.Name, Start: p.Start * t.SectorSize, Size: p.Size * t.SectorSize, Type: p.Type, UUID: p.UUID, Attrs: p.Attrs})
	}
	return parts, nil
}

// runningArrays lists the MD arrays that the kernel has, also those that wait for members.
func runningArrays() []layout.Array {
	dirs, _ := filepath.Glob("/sys/block/md*/md")
	var out []layout.Array
	for _, dir := range dirs {
		name := filepath.Base(filepath.Dir(dir))
		slaves, _ := filepath.Glob(filepath.Join("/sys/block", name, "slaves/*"))
		if len(slaves) == 0 {
			continue
		}
		a := layout.Array{Device: "/dev/" + name}
		for _, s := range slaves {
			a.Members = append(a.Members, filepath.Base(s))
		}
		member := probe("/dev/" + a.Members[0])
		a.UUID, a.Name, a.FS = member.UUID, member.Label, probe(a.Device)
		out = append(out, a)
	}
	return out
}

// volumeGroups asks LVM for what there is.
func volumeGroups(ctx context.Context) ([]layout.Group, error) {
	ask := func(args ...string) ([]map[string]string, error) {
		out, err := exec.CommandContext(ctx, args[0], append(args[1:], "--reportformat", "json", "--units", "b", "--nosuffix")...).Output()
		if err != nil {
			return nil, &failure{What: args[0], Err: err, Do: "There is LVM on the disks: build the image again with the package lvm2."}
		}
		var doc struct {
			Report []map[string][]map[string]string
		}
		if err := json.Unmarshal(out, &doc); err != nil {
			return nil, fmt.Errorf("%s: %w", args[0], err)
		}
		var rows []map[string]string
		for _, r := range doc.Report {
			for _, part := range r {
				rows = append(rows, part...)
			}
		}
		return rows, nil
	}
	volumes, err := ask("pvs", "-o", "pv_name,vg_name")
	if err != nil {
		return nil, err
	}
	logical, err := ask("lvs", "-o", "vg_name,lv_name,lv_size")
	if err != nil {
		return nil, err
	}
	var out []layout.Group
	for _, v := range volumes {
		if v["vg_name"] == "" {
			continue
		}
		i := slices.IndexFunc(out, func(g layout.Group) bool { return g.Name == v["vg_name"] })
		if i < 0 {
			i, out = len(out), append(out, layout.Group{Name: v["vg_name"]})
		}
		dev, err := filepath.EvalSymlinks(v["pv_name"])
		if err != nil {
			dev = v["pv_name"]
		}
		out[i].Members = append(out[i].Members, strings.TrimPrefix(dev, "/dev/"))
	}
	for _, v := range logical {
		for i := range out {
			if out[i].Name == v["vg_name"] {
				size, _ := strconv.ParseInt(v["lv_size"], 10, 64)
				out[i].Volumes = append(out[i].Volumes, layout.Logical{Name: v["lv_name"], Size: size, FS: probe("/dev/" + v["vg_name"] + "/" + v["lv_name"])})
			}
		}
	}
	return out, nil
}
