package image

import (
	"fmt"
	"slices"
	"strings"
)

// Recipe is how to make an image of one distribution: data only. It is written to recipe.json with every image, and its
// content is part of the key of cached trees.
type Recipe struct {
	Name     string   `json:"name"`     // "debian12"
	Family   string   `json:"family"`   // "debian", "el" or "suse": which program makes the tree
	Suite    string   `json:"suite"`    // as the archive knows it: "bookworm", "9"
	Packages []string `json:"packages"` // besides the essential ones
	// Components of an archive of Debian's kind, where it is named by --mirror; none is the archive's first.
	Components []string `json:"components,omitempty"`
	// Repositories lie below the mirror, where packages are not of Debian's kind.
	Repositories []Repository `json:"repositories,omitempty"`
	// Exclude and Include are dpkg's path filters (globs in which * matches "/" too), applied while packages are unpacked:
	// what servers do not need is never written. Include wins over Exclude.
	Exclude []string `json:"exclude"`
	Include []string `json:"include"`
	// Drop are path prefixes left out of the root that a package's scripts made and a node must not share.
	Drop []string `json:"drop"`
	// Mask are units that a node without disk and with its network set by the init has no use for: each of them costs boot time.
	Mask []string `json:"mask"`
	// Modules go into the initramfs with what they need; those of a device are loaded when the device is there.
	Modules []string `json:"modules"`
	// Load are loaded in the initramfs on every machine.
	Load []string `json:"load"`
	// Squashfs are the options of the compressed root.
	Squashfs []string `json:"squashfs"`
}

// Recipes returns the known recipes, in the order of their names.
func Recipes() []Recipe {
	debian := func(name, suite string) Recipe {
		return Recipe{
			Name: name, Family: familyDebian, Suite: suite,
			Packages: debianPackages, Exclude: debianExclude(), Include: debianInclude(), Drop: slices.Concat(identityDrop, debianDrop),
			Mask: systemdMask, Modules: bootModules, Load: []string{"squashfs", "overlay", "loop"},
			// Level 15 saves 5 % and takes eight times as long; larger blocks make every small read dearer.
			Squashfs: []string{"-comp", "zstd", "-Xcompression-level", "9", "-b", "128K"},
		}
	}
	twelve := debian("debian12", "bookworm")
	leap := []Repository{{"oss", "distribution/leap/15.6/repo/oss", ""}, {"update", "update/leap/15.6/oss", ""}}
	return []Recipe{
		twelve, debian("debian13", "trixie"),
		el(twelve, "el10", "10"), el(twelve, "el8", "8"), el(twelve, "el9", "9"),
		suse(twelve, "suse15", "15.6", leap...), suse(twelve, "suse16", "16.0", Repository{"oss", "distribution/leap/16.0/repo/oss/x86_64", ""}),
		ubuntu(twelve, "ubuntu22.04", "jammy"), ubuntu(twelve, "ubuntu24.04", "noble"),
	}
}

// findRecipe returns the recipe of a name; the error names those there are.
func findRecipe(name string) (Recipe, error) {
	all := Recipes()
	names := make([]string, 0, len(all))
	for _, r := range all {
		if r.Name == name {
			return r, nil
		}
		names = append(names, r.Name)
	}
	return Recipe{}, fmt.Errorf("no image source %q. Known are: %s", name, strings.Join(names, ", "))
}

// debianPackages keeps a tree lean: usr-is-merged and tiny-initramfs stand in for usrmerge (which wants all of perl) and
// initramfs-tools (whose work the image build does itself).
var debianPackages = []string{
	"linux-image-amd64", "usr-is-merged", "tiny-initramfs", "systemd-sysv", "udev", "dbus",
	"openssh-server", "iproute2", "kmod", "zstd", "procps", "ca-certificates",
}

// moduleExclude are folders of a kernel's modules that a server has no use for.
var moduleExclude = []string{
	"sound", "drivers/media", "drivers/gpu/drm/*", "drivers/net/wireless", "drivers/net/wwan", "drivers/net/can", "drivers/net/hamradio",
	"drivers/net/arcnet", "drivers/net/fddi", "drivers/net/hippi", "drivers/net/ieee802154", "drivers/net/plip", "drivers/net/slip",
	"drivers/bluetooth", "drivers/iio", "drivers/staging", "drivers/comedi", "drivers/isdn", "drivers/atm", "drivers/nfc",
	"drivers/input/joystick", "drivers/input/touchscreen", "drivers/input/tablet", "drivers/input/misc", "drivers/pcmcia", "drivers/firewire",
	"drivers/parport", "drivers/soundwire", "drivers/mtd", "drivers/video", "drivers/w1", "drivers/mmc", "drivers/memstick",
	"drivers/thunderbolt", "drivers/usb/gadget", "drivers/usb/serial", "drivers/usb/misc", "drivers/usb/atm", "drivers/gnss", "drivers/greybus", "drivers/most",
	"drivers/leds", "drivers/rtc", "drivers/power", "drivers/ssb", "drivers/bcma", "drivers/accessibility", "drivers/auxdisplay", "drivers/platform/surface",
	"drivers/platform/chrome", "drivers/extcon", "drivers/hid/amd-sfh-hid", "drivers/hid/intel-ish-hid", "drivers/hid/surface-hid", "drivers/counter", "drivers/gameport", "drivers/siox",
	"net/wireless", "net/mac80211", "net/mac802154", "net/ieee802154", "net/6lowpan", "net/bluetooth", "net/nfc", "net/can", "net/atm", "net/ax25",
	"net/netrom", "net/rose", "net/x25", "net/lapb", "net/appletalk", "net/phonet", "net/qrtr", "net/batman-adv", "net/hsr", "net/caif", "net/dccp",
	"fs/ubifs", "fs/jffs2", "fs/hfs", "fs/hfsplus", "fs/hpfs", "fs/affs", "fs/adfs", "fs/befs", "fs/bfs", "fs/efs", "fs/freevxfs", "fs/minix", "fs/ntfs",
	"fs/omfs", "fs/qnx4", "fs/qnx6", "fs/reiserfs", "fs/romfs", "fs/sysv", "fs/ufs", "fs/coda", "fs/afs", "fs/nilfs2", "fs/jfs", "fs/zonefs", "fs/ecryptfs", "fs/ocfs2", "fs/gfs2", "fs/dlm", "fs/orangefs", "fs/f2fs",
}

func debianExclude() []string {
	x := []string{
		"/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/lintian/*", "/usr/share/bug/*",
		"/usr/share/bash-completion/*", "/usr/share/zsh/*",
		"/etc/kernel/postinst.d/*initramfs*", "/etc/kernel/postrm.d/*initramfs*",
		"/lib/udev/hwdb.d/*", "/usr/lib/udev/hwdb.d/*",
		"/boot/System.map*",
	}
	for _, m := range moduleExclude {
		x = append(x, "/lib/modules/*/kernel/"+m+"/*", "/usr/lib/modules/*/kernel/"+m+"/*")
	}
	return x
}

// debianInclude keeps licences, and the drivers of the video chips that management controllers show on their remote screens.
func debianInclude() []string {
	in := []string{"/usr/share/doc/*/copyright"}
	for _, m := range []string{"ast", "mgag200"} {
		in = append(in, "/lib/modules/*/kernel/drivers/gpu/drm/"+m+"/*", "/usr/lib/modules/*/kernel/drivers/gpu/drm/"+m+"/*")
	}
	return in
}

// bootDrop is left out of the compressed root of nodes without disk: their kernel is served beside it.
var bootDrop = []string{"boot/vmlinuz", "boot/initrd", "boot/initramfs"}

// identityDrop is what one machine must not share with another, and what is of its last boot: keys and ids are made at boot.
var identityDrop = []string{
	"etc/ssh/ssh_host_", "etc/machine-id", "var/lib/dbus/machine-id", "etc/hostname", "etc/resolv.conf", "etc/fstab", "etc/muster/",
	"dev/", "proc/", "sys/", "run/", "tmp/", "var/lib/systemd/random-seed", "var/lib/systemd/credential.secret", "root/.ssh/", "var/lib/dhcp/", "var/lib/NetworkManager/secret_key", ".dockerenv",
	"etc/udev/rules.d/70-persistent-net.rules", "var/lib/cloud/",
}

// debianDrop is besides that what a fresh Debian has and no node needs.
var debianDrop = []string{
	"boot/initrd", "vmlinuz", "initrd.img",
	"var/cache/apt/archives/", "var/cache/apt/pkgcache", "var/cache/apt/srcpkgcache", "var/cache/debconf/", "var/cache/ldconfig/", "var/lib/apt/lists/",
	"var/log/apt/", "var/log/dpkg.log", "var/log/bootstrap.log", "var/log/alternatives.log", "var/lib/dpkg/status-old", "var/lib/dpkg/available-old",
	"etc/modules-load.d/modules.conf",
}

var systemdMask = []string{
	"apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "e2scrub_reap.service", "fstrim.timer",
	"systemd-networkd.service", "systemd-networkd-wait-online.service", "systemd-resolved.service", "networking.service",
	"systemd-hwdb-update.service", "systemd-update-done.service", "systemd-journal-catalog-update.service", "ldconfig.service",
	"systemd-firstboot.service", "systemd-machine-id-commit.service", "systemd-random-seed.service", "systemd-pstore.service",
	"systemd-binfmt.service", "proc-sys-fs-binfmt_misc.automount", "systemd-remount-fs.service", "systemd-fsck-root.service",
	"systemd-rfkill.service", "systemd-rfkill.socket", "systemd-backlight@.service", "systemd-boot-system-token.service", "systemd-repart.service",
	"systemd-udev-settle.service", "sys-kernel-debug.mount", "sys-kernel-tracing.mount", "sys-fs-fuse-connections.mount", "sys-kernel-config.mount",
	"systemd-sysusers.service", "modprobe@drm.service", "modprobe@efi_pstore.service", "getty@tty1.service",
}

// bootModules: ways to the network first, then what the root needs.
var bootModules = slices.Concat([]string{"virtio_pci", "virtio_rng"}, networkModules, []string{"realtek", "broadcom", "squashfs", "overlay", "loop"})

// networkModules are the drivers of network ports: virtual ones, then those of common servers.
var networkModules = []string{
	"virtio_net", "vmxnet3", "hv_netvsc", "xen-netfront",
	"e1000", "e1000e", "igb", "igc", "ixgbe", "i40e", "ice", "bnx2", "bnx2x", "bnxt_en", "tg3", "r8169", "8139cp", "be2net", "mlx4_en", "mlx5_core", "qede", "sfc", "atlantic", "ena", "cxgb4",
}

// with returns the recipe with packages added.
func (r Recipe) with(packages []string) Recipe {
	r.Packages = slices.Compact(slices.Sorted(slices.Values(append(slices.Clone(r.Packages), packages...))))
	return r
}
