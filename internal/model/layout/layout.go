// Package layout is the language in which people say how a node's disks are to look, and the decision of what to do about it.
//
//	disk system: local size>=100G          # which disk: exactly one has to match
//	  boot  1G    ext4  /boot
//	  root  40G   ext4  /
//	  data  rest  xfs   /data  preserve    # is kept when the node is installed again
//
//	disks pair: 2 local model="SAMSUNG*"   # two alike, with the same partitions
//	  half  rest  raid
//	raid mirror: 1 pair.half
//	  lvm
//	lvm vg0: mirror
//	  root  40%   xfs   /
//	  swap  8G    swap
//
// A line that is not indented describes a device, the indented ones below it what is on it: name, size, use, then mount point and
// options where there are any. Sizes are in powers of 1024 (K M G T), with B behind them of 1000 (GB), a share (30%), or what is left (rest).
//
// What it promises: [Parse] tells every problem with its line and column. [Make] is pure: from a layout and what was found in the
// machine it makes the steps, or says why nothing may be done. A selector that fits no disk or several is a reason, never a guess; a
// disk behind a fabric (FC, iSCSI, NVMe over fabrics, multipath) is not taken unless it is named by serial, wwn or path.
package layout

import (
	"fmt"
	"strconv"
	"strings"
)

// Default is the layout of nodes that have none: the one local disk, and all of it the root.
const Default = "disk system: local\n  root rest ext4 /\n"

// Layout is what the devices of a machine are to be, in the order of the text. A device uses only what stands above it.
type Layout struct{ Devices []Device }

// Kind is what a device is made of.
type Kind string

// The kinds of devices.
const (
	Disk Kind = "disk" // with a GPT (UEFI specification §5.3)
	Raid Kind = "raid" // of Linux MD, metadata 1.2
	LVM  Kind = "lvm"  // a volume group
)

// Device is a disk (or several alike), an array or a volume group, with what is on it.
type Device struct {
	Kind    Kind
	Name    string
	Line    int      // of the text
	Count   int      // of disks alike; 1 for all else
	Select  []Term   // of a disk
	Keep    bool     // of a disk: partitions that the layout does not name stay
	Level   string   // of an array: "0", "1", "4", "5", "6", "10"
	Members []string // of an array or volume group: "pair.half", "mirror"
	Volumes []Volume // of an array exactly one, of its name
}

// Use is what a volume is for.
type Use string

// The uses. Of these EXT4, XFS and VFAT are mounted.
const (
	EXT4   Use = "ext4"
	XFS    Use = "xfs"
	VFAT   Use = "vfat"
	Swap   Use = "swap"
	ESP    Use = "esp"  // EFI system partition: vfat, at /boot/efi unless said otherwise
	BIOS   Use = "bios" // where GRUB lies on a GPT that a BIOS boots
	Member Use = "raid" // of an array
	PV     Use = "lvm"  // of a volume group
	None   Use = "none" // is made, and left as it is
)

var uses = []Use{EXT4, XFS, VFAT, Swap, ESP, BIOS, Member, PV, None}

// Volume is a partition, the one volume of an array, or a logical volume.
type Volume struct {
	Line     int
	Name     string
	Size     Size
	Use      Use
	Mount    string // "" for none
	Options  string // of the mount, "" for defaults
	Label    string // of the file system, "" for none
	Preserve bool   // what is there by this name stays; it is made where the disk is empty
}

// Size is one of three: bytes, a share of the device in percent, or the rest.
type Size struct {
	Bytes   int64
	Percent int
	Rest    bool
}

// Term is one condition on a disk: all of a selector hold. A word alone ("local", "usb", "smallest", "largest") has no Op.
type Term struct{ Key, Op, Value string }

// Problem is one thing wrong in the text of a layout. Line and Column count from 1.
type Problem struct {
	Line, Column int
	What, Do     string
}

func (p *Problem) Error() string {
	s := fmt.Sprintf("line %d, column %d: %s", p.Line, p.Column, p.What)
	if p.Do != "" {
		s += ". " + p.Do
	}
	return s
}

// Problems are all of them, in the order of the text.
type Problems []*Problem

func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, one := range p {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// String gives the text that [Parse] reads.
func (l *Layout) String() string {
	var b strings.Builder
	for _, d := range l.Devices {
		word := string(d.Kind)
		var rest []string
		switch d.Kind {
		case Disk:
			if d.Count > 1 {
				word = "disks"
				rest = append(rest, strconv.Itoa(d.Count))
			}
			for _, t := range d.Select {
				rest = append(rest, t.String())
			}
			if d.Keep {
				rest = append(rest, "preserve")
			}
		case Raid:
			rest = append([]string{d.Level}, d.Members...)
		case LVM:
			rest = d.Members
		}
		fmt.Fprintf(&b, "%s %s: %s\n", word, d.Name, strings.Join(rest, " "))
		for _, v := range d.Volumes {
			b.WriteString("  " + v.text(d.Kind == Raid) + "\n")
		}
	}
	return b.String()
}

func (v Volume) text(bare bool) string {
	var w []string
	if !bare {
		w = append(w, v.Name, v.Size.String())
	}
	w = append(w, string(v.Use))
	if v.Mount != "" {
		w = append(w, v.Mount)
	}
	if v.Label != "" {
		w = append(w, "label="+v.Label)
	}
	if v.Options != "" {
		w = append(w, "options="+v.Options)
	}
	if v.Preserve {
		w = append(w, "preserve")
	}
	return strings.Join(w, " ")
}

// String gives the one form of a size, which parses to the same value.
func (s Size) String() string {
	switch {
	case s.Rest:
		return "rest"
	case s.Percent > 0:
		return strconv.Itoa(s.Percent) + "%"
	}
	return amount(s.Bytes)
}

// amount writes bytes with the largest unit of 1024 that goes into them whole.
func amount(n int64) string {
	for i, u := range "TGMK" {
		if unit := int64(1) << (40 - 10*i); n >= unit && n%unit == 0 {
			return strconv.FormatInt(n/unit, 10) + string(u)
		}
	}
	return strconv.FormatInt(n, 10)
}

func (t Term) String() string {
	if t.Op == "" {
		return t.Key
	}
	if t.Value == "" || strings.ContainsAny(t.Value, " \t\"#") {
		return t.Key + t.Op + `"` + t.Value + `"`
	}
	return t.Key + t.Op + t.Value
}
