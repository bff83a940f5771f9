package layout

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Machine is what was found of the disks of a machine, and of what is on them.
type Machine struct {
	UEFI       bool // it was booted by UEFI; else by BIOS
	Disks      []BlockDisk
	Partitions []Partition
	Arrays     []Array
	Groups     []Group
}

// BlockDisk is a whole disk.
type BlockDisk struct {
	Name   string // of the kernel: "sda", "nvme0n1"
	Size   int64  // bytes
	Sector int64  // bytes of a logical sector; 0 is 512
	Model  string
	Serial string
	WWN    string
	Bus    string // one of Buses
	Path   string // as below /dev/disk/by-path: "pci-0000:00:1f.2-ata-1"
	Fabric string // "fc", "iscsi", "nvme-tcp", "multipath", …: it is not the machine's own; "" is
	Table  string // "gpt", "dos", …; "" for none
	ID     string // of the GPT
	FS     string // file system, array member or physical volume on the disk itself, without partitions
	Locked bool   // read-only
}

// Partition is what a GPT has.
type Partition struct {
	Disk   string
	Number int
	Name   string // label of the partition
	Start  int64  // bytes
	Size   int64
	Type   string // GUID, in capitals
	UUID   string
	Attrs  string
	FS     Content
}

// Content is what lies on a partition or volume.
type Content struct {
	Type  string // "ext4", "xfs", "vfat", "swap", "raid" (member of an array), "lvm" (physical volume); "" for nothing known
	UUID  string // of the file system, as blkid writes it; of a member that of its array
	Label string // of a member the name of its array
}

// Array is an array that runs.
type Array struct {
	Device  string // "/dev/md127"
	UUID    string
	Name    string
	Members []string // devices: "vda2"
	FS      Content
}

// Group is a volume group.
type Group struct {
	Name    string
	Members []string // devices: "vda2", "md127"
	Volumes []Logical
}

// Logical is a logical volume.
type Logical struct {
	Name string
	Size int64
	FS   Content
}

// device is the path of a partition: disks whose name ends in a digit take a p between.
func device(disk string, number int) string {
	if c := disk[len(disk)-1]; '0' <= c && c <= '9' {
		disk += "p"
	}
	return "/dev/" + disk + strconv.Itoa(number)
}

// String is a disk in words, so that a person finds it in the machine and in the layout.
func (d BlockDisk) String() string {
	w := []string{"/dev/" + d.Name, human(d.Size), cmp.Or(d.Bus, "other")}
	if d.Model != "" {
		w = append(w, d.Model)
	}
	if d.Serial != "" {
		w = append(w, "serial="+d.Serial)
	}
	if d.Path != "" {
		w = append(w, "path="+d.Path)
	}
	if d.Fabric != "" {
		w = append(w, "behind "+d.Fabric)
	}
	return strings.Join(w, " ")
}

// human writes bytes as makers of disks do, by 1000.
func human(n int64) string {
	f, i := float64(n), 0
	for f >= 1000 && i < 5 {
		f, i = f/1000, i+1
	}
	return strconv.FormatFloat(f, 'g', 4, 64) + []string{"B", "kB", "MB", "GB", "TB", "PB"}[i]
}

// choose finds the disks of each device of the layout. Every reason why one cannot be told is returned.
func choose(l *Layout, m Machine) (map[string][]BlockDisk, []string) {
	chosen := map[string][]BlockDisk{}
	taken := map[string]string{}
	var reasons []string
	for _, d := range l.Devices {
		if d.Kind != Disk {
			continue
		}
		found, near := d.matching(m.Disks)
		where := fmt.Sprintf("line %d, disk %s", d.Line, d.Name)
		switch {
		case len(found) < d.Count && len(found) == 0:
			reasons = append(reasons, fmt.Sprintf("%s: no disk is %s; the machine has %s", where, d.selector(), list(near)))
		case len(found) != d.Count:
			reasons = append(reasons, fmt.Sprintf("%s: %d disks are %s, and %d is wanted: %s. Tell them apart by serial=, wwn= or path=, or take all: disks %s: %d %s",
				where, len(found), d.selector(), d.Count, list(found), d.Name, max(2, len(found)), d.selector()))
		default:
			for _, f := range found {
				if other := taken[f.Name]; other != "" {
					reasons = append(reasons, fmt.Sprintf("%s: %s is disk %s already", where, f, other))
				}
				if f.Locked {
					reasons = append(reasons, fmt.Sprintf("%s: %s is read-only", where, f))
				}
				taken[f.Name] = d.Name
			}
			chosen[d.Name] = found
		}
	}
	return chosen, reasons
}

func list(disks []BlockDisk) string {
	if len(disks) == 0 {
		return "no disk at all (is the driver of its controller in the image?)"
	}
	out := make([]string, len(disks))
	for i, d := range disks {
		out[i] = d.String()
	}
	return strings.Join(out, "; ")
}

func (d Device) selector() string {
	out := make([]string, len(d.Select))
	for i, t := range d.Select {
		out[i] = t.String()
	}
	return strings.Join(out, " ")
}

// matching returns the disks that a selector fits, in the order of their names, and all there are.
func (d Device) matching(all []BlockDisk) (found, near []BlockDisk) {
	near = slices.SortedFunc(slices.Values(all), func(a, b BlockDisk) int {
		return cmp.Or(cmp.Compare(len(a.Name), len(b.Name)), cmp.Compare(a.Name, b.Name))
	})
	var extreme string
	wantsUSB := false
	for _, t := range d.Select {
		wantsUSB = wantsUSB || t.Key == "usb" || t.Key == "bus" && t.Value == "usb"
		if t.Key == "smallest" || t.Key == "largest" {
			extreme = t.Key
		}
	}
	for _, disk := range near {
		named, fits := false, disk.Size > 0
		for _, t := range d.Select {
			ok, byName := t.holds(disk)
			fits, named = fits && ok, named || byName && ok
		}
		// Only by its own name is a disk taken that may be another machine's too, or somebody's stick.
		if fits && (named || disk.Fabric == "" && (disk.Bus != "usb" || wantsUSB)) {
			found = append(found, disk)
		}
	}
	if extreme != "" && len(found) > d.Count {
		sizes := make([]int64, len(found))
		for i, f := range found {
			sizes[i] = f.Size
		}
		slices.Sort(sizes)
		limit := sizes[d.Count-1]
		if extreme == "largest" {
			limit = sizes[len(sizes)-d.Count]
		}
		found = slices.DeleteFunc(found, func(b BlockDisk) bool {
			return extreme == "smallest" && b.Size > limit || extreme == "largest" && b.Size < limit
		})
	}
	return found, near
}

// holds says whether a condition holds of a disk, and whether it names this very disk.
func (t Term) holds(d BlockDisk) (ok, named bool) {
	match := func(values ...string) (bool, bool) {
		exact := !strings.ContainsAny(t.Value, `*?[\`)
		for _, v := range values {
			if v == "" {
				continue
			}
			if m, _ := path.Match(strings.ToLower(t.Value), strings.ToLower(v)); m {
				return true, exact
			}
		}
		return false, false
	}
	switch t.Key {
	case "local":
		return d.Fabric == "" && d.Bus != "usb", false
	case "usb":
		return d.Bus == "usb", false
	case "bus":
		return d.Bus == t.Value, false
	case "model":
		ok, _ = match(d.Model)
		return ok, false
	case "serial":
		return match(d.Serial)
	case "wwn":
		return match(d.WWN, "0x"+d.WWN, strings.TrimPrefix(d.WWN, "0x"), strings.TrimPrefix(d.WWN, "naa."), strings.TrimPrefix(d.WWN, "eui."))
	case "path":
		return match(d.Path, "/dev/"+d.Name, "/dev/disk/by-path/"+d.Path)
	case "size":
		low, high, isRange := strings.Cut(t.Value, "..")
		n, err := parseBytes(low)
		if err != nil {
			return false, false
		}
		switch {
		case isRange:
			most, err := parseBytes(high)
			return err == nil && n <= d.Size && d.Size <= most, false
		case t.Op == ">=":
			return d.Size >= n, false
		case t.Op == "<=":
			return d.Size <= n, false
		case t.Op == ">":
			return d.Size > n, false
		case t.Op == "<":
			return d.Size < n, false
		}
		// What is sold as 480 GB is so but for a few in a hundred, and 480G says the same to people: 8 % cover both ways to count up to G.
		return d.Size >= n-n/100*8 && d.Size <= n+n/100*8, false
	}
	return true, false // smallest, largest: of all together
}
