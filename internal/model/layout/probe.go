package layout

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
)

// ProbeSize is how many bytes from the beginning of a partition [Probe] looks at.
const ProbeSize = 8 << 10

// Probe says what lies on a partition, from its first bytes: the magic numbers and UUIDs of ext2 to ext4 (kernel: fs/ext4/ext4.h, struct
// ext4_super_block at 1024), XFS (fs/xfs/libxfs/xfs_format.h, struct xfs_dsb), swap (include/linux/swap.h, at the end of the first
// page of 4096), FAT (volume serial number behind an extended boot signature), MD 1.2 (include/uapi/linux/raid/md_p.h, at 4096), LVM2
// ("LABELONE" in one of the first four sectors). Of these the ones that can hide others come first.
func Probe(b []byte) Content {
	at := func(offset, length int) []byte {
		if offset+length > len(b) {
			return make([]byte, length)
		}
		return b[offset : offset+length]
	}
	is := func(offset int, magic string) bool { return string(at(offset, len(magic))) == magic }
	if is(4096, "\xfc\x4e\x2b\xa9") && binary.LittleEndian.Uint32(at(4100, 4)) == 1 {
		_, name, ok := strings.Cut(text(at(4096+32, 32)), ":") // HOST:NAME
		if !ok {
			name = text(at(4096+32, 32))
		}
		return Content{Type: "raid", UUID: uuid(at(4096+16, 16)), Label: name}
	}
	for sector := range 4 {
		if is(sector*512, "LABELONE") && is(sector*512+24, "LVM2 001") {
			return Content{Type: "lvm", UUID: text(at(sector*512+32, 32))}
		}
	}
	if is(0, "XFSB") {
		return Content{Type: "xfs", UUID: uuid(at(32, 16)), Label: text(at(108, 12))}
	}
	if is(1024+0x38, "\x53\xef") {
		return Content{Type: "ext4", UUID: uuid(at(1024+0x68, 16)), Label: text(at(1024+0x78, 16))}
	}
	if is(4096-10, "SWAPSPACE2") {
		return Content{Type: "swap", UUID: uuid(at(1024+12, 16)), Label: text(at(1024+28, 16))}
	}
	if is(510, "\x55\xaa") {
		for _, fat := range []struct{ kind, serial, label int }{{82, 67, 71}, {54, 39, 43}} { // FAT32; FAT12 and FAT16
			if is(fat.kind, "FAT") {
				id := binary.LittleEndian.Uint32(at(fat.serial, 4))
				return Content{Type: "vfat", UUID: fmt.Sprintf("%04X-%04X", id>>16, id&0xffff), Label: strings.TrimRight(text(at(fat.label, 11)), " ")}
			}
		}
	}
	return Content{}
}

func uuid(b []byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:16])
}

// text is a field that ends with a zero, if it is printable ASCII.
func text(b []byte) string {
	b, _, _ = bytes.Cut(b, []byte{0})
	for _, c := range b {
		if c < ' ' || c > '~' {
			return ""
		}
	}
	return string(b)
}
