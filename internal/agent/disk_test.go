package agent

import (
	"bytes"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muster/internal/model/layout"
	"muster/internal/need"
)

// tree writes files below a folder: the machine as /sys, /run and /proc would show it. A value "-> x" is a link.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if to, ok := strings.CutPrefix(text, "-> "); ok {
			err = os.Symlink(to, path)
		} else {
			err = os.WriteFile(path, []byte(text+"\n"), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestBlockDisks_says_what_a_selector_asks_for(t *testing.T) {
	const sda, sdb, nvme, remote = "sys/devices/pci0000:00/0000:00:17.0/ata1/host0/target0:0:0/0:0:0:0/block/sda", "sys/devices/pci0000:00/0000:03:00.0/host2/rport-2:0-0/target2:0:0/2:0:0:1/block/sdb",
		"sys/devices/pci0000:00/0000:01:00.0/nvme/nvme0/nvme0n1", "sys/devices/virtual/nvme-fabrics/ctl/nvme1/nvme1n1"
	root := tree(t, map[string]string{
		"sys/block/sda": "-> ../../" + sda, "sys/block/sdb": "-> ../../" + sdb, "sys/block/nvme0n1": "-> ../../" + nvme, "sys/block/nvme1n1": "-> ../../" + remote, "sys/block/loop0": "-> ../devices/virtual/block/loop0",
		sda + "/size": "937703088", sda + "/ro": "0", sda + "/dev": "8:0", sda + "/queue/logical_block_size": "512", sda + "/device/model": "SAMSUNG MZ7L3480 ", sda + "/device/wwid": "naa.5002538f00000001",
		sdb + "/size": "2000000", sdb + "/ro": "1", sdb + "/dev": "8:16", sdb + "/device/model": "VIRTUAL-DISK",
		nvme + "/size": "1000000", nvme + "/dev": "259:0", nvme + "/wwid": "eui.0025385b91000001", nvme + "/device/model": "KIOXIA", nvme + "/device/serial": "K1", nvme + "/device/transport": "pcie", nvme + "/queue/logical_block_size": "4096",
		remote + "/size": "1000000", remote + "/dev": "259:1", remote + "/device/transport": "tcp",
		"sys/devices/virtual/block/loop0/size": "100",
		"run/udev/data/b8:0":                   "S:disk/by-id/x\nE:ID_PATH=pci-0000:00:17.0-ata-1\nE:ID_SERIAL_SHORT=S6X1\nE:ID_BUS=ata",
	})
	want := []layout.BlockDisk{
		{Name: "nvme0n1", Size: 512000000, Sector: 4096, Model: "KIOXIA", Serial: "K1", WWN: "eui.0025385b91000001", Bus: "nvme"},
		{Name: "nvme1n1", Size: 512000000, Bus: "nvme", Fabric: "nvme-tcp"},
		{Name: "sda", Size: 480103981056, Sector: 512, Model: "SAMSUNG MZ7L3480", Serial: "S6X1", WWN: "naa.5002538f00000001", Bus: "sata", Path: "pci-0000:00:17.0-ata-1"},
		{Name: "sdb", Size: 1024000000, Model: "VIRTUAL-DISK", Bus: "scsi", Fabric: "fc", Locked: true},
	}
	if d := cmp.Diff(want, blockDisks(root)); d != "" {
		t.Error(d)
	}
}

func TestAttachment_knows_buses_and_fabrics(t *testing.T) {
	const at = "/sys/devices/pci0000:00/"
	for place, want := range map[string][2]string{
		at + "0000:00:1f.2/ata3/host2/target2:0:0/2:0:0:0/block/sda":                                 {"sata", ""},
		at + "0000:02:00.0/host0/port-0:0/end_device-0:0/target0:0:0/0:0:0:0/block/sdb":              {"sas", ""},
		at + "0000:02:00.0/host0/target0:2:0/0:2:0:0/block/sdc":                                      {"scsi", ""},
		at + "0000:00:14.0/usb2/2-1/2-1:1.0/host6/target6:0:0/6:0:0:0/block/sdd":                     {"usb", ""},
		at + "0000:00:05.0/virtio2/block/vda":                                                        {"virtio", ""},
		at + "0000:00:06.0/virtio3/host7/target7:0:0/7:0:0:0/block/sdg":                              {"scsi", ""},
		"/sys/devices/platform/host8/session1/target8:0:0/8:0:0:1/block/sde":                         {"scsi", "iscsi"},
		at + "0000:04:00.0/host9/rport-9:0-2/target9:0:0/9:0:0:1/block/sdf":                          {"scsi", "fc"},
		at + "0000:05:00.0/infiniband/mlx5_0/host10/port-10:1/rport/target10:0:0/10:0:0:1/block/sdh": {"scsi", "srp"},
		"/sys/devices/virtual/nvme-fabrics/ctl/nvme2/nvme2n1":                                        {"nvme", "nvme"},
		"/sys/devices/vbd-51712/block/xvda":                                                          {"xen", ""},
	} {
		bus, fabric := attachment(place, "")
		if [2]string{bus, fabric} != want {
			t.Errorf("%s: %s %q, want %v", place, bus, fabric, want)
		}
	}
}

// What sfdisk says of a real table is what a plan begins with.
func TestReadTable_reads_what_sfdisk_prints(t *testing.T) {
	need.Programs(t, "fdisk", "sfdisk")
	file := filepath.Join(t.TempDir(), "vda")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, 1<<30); err != nil {
		t.Fatal(err)
	}
	c := exec.Command("sfdisk", "-q", file)
	c.Stdin = strings.NewReader("label: gpt\nlabel-id: 11111111-2222-3333-4444-555555555555\nunit: sectors\n2 : start=2048, size=4096, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4, uuid=AAAAAAAA-2222-3333-4444-555555555555, name=\"root\", attrs=\"RequiredPartition\"\n")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	out, err := exec.Command("sfdisk", "--json", file).Output()
	if err != nil {
		t.Fatal(err)
	}
	d := layout.BlockDisk{Name: "vda"}
	got, err := readTable(bytes.ReplaceAll(out, []byte(file), []byte("/dev/vda")), &d)
	want := []layout.Partition{{
		Disk: "vda", Number: 2, Name: "root", Start: 1 << 20, Size: 2 << 20, Type: "0FC63DAF-8483-4772-8E79-3D69D8477DE4", UUID: "AAAAAAAA-2222-3333-4444-555555555555", Attrs: "RequiredPartition",
	}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil || d.Table != "gpt" || d.ID != "11111111-2222-3333-4444-555555555555" {
		t.Errorf("%v %+v %s", err, d, diff)
	}
}

func FuzzReadTable(f *testing.F) {
	f.Add([]byte(`{"partitiontable":{"label":"gpt","id":"X","unit":"sectors","sectorsize":512,"partitions":[{"node":"/dev/vda1","start":2048,"size":1,"type":"T"}]}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		d := layout.BlockDisk{Name: "vda"}
		parts, err := readTable(b, &d)
		if err != nil && parts != nil {
			t.Errorf("%v and %v", parts, err)
		}
	})
}

func TestKeptArguments_are_those_that_a_boot_from_disk_wants(t *testing.T) {
	got := keptArguments("console=ttyS1,57600 panic=10 muster.server=https://10.0.0.1:1 muster.token=secret BOOTIF=01-52 initrd=initrd root=/dev/x ro nosmt dyndbg=\"file x +p\"")
	if want := `console=ttyS1,57600 panic=10 nosmt "dyndbg=file x +p"`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestParseArguments_of_a_boot_from_disk(t *testing.T) {
	a, err := parseArguments("muster.root=ABCD muster.node=r1n1 muster.array=x,y muster.volume=vg0/root")
	if err != nil || a.Root != "abcd" || a.Node != "r1n1" || strings.Join(a.Arrays, " ") != "x y" || a.Volume != "vg0/root" {
		t.Errorf("%+v %v", a, err)
	}
	if _, err := parseArguments("muster.root=ABCD"); err == nil || !strings.Contains(err.Error(), "muster.node") {
		t.Error(err)
	}
}

func TestGrubConfig_finds_kernel_by_UUID_and_talks_on_the_serial_port(t *testing.T) {
	got := grubConfig("B", "", "6.1", "compute", "root=UUID=R ro console=ttyS1,57600n8")
	for _, want := range []string{
		"serial --unit=1 --speed=57600;", "terminal_output console serial\n", "search --no-floppy --fs-uuid --set=root B\n", "linux /vmlinuz-6.1 root=UUID=R ro console=ttyS1,57600n8\n", "initrd /initrd.img-6.1\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	need.Programs(t, "grub-common", "grub-script-check")
	c := exec.Command("grub-script-check")
	c.Stdin = strings.NewReader(got)
	if out, err := c.CombinedOutput(); err != nil {
		t.Errorf("grub-script-check: %v %s\n%s", err, out, got)
	}
}

func TestWriteNetwork_fits_the_service_that_the_system_has(t *testing.T) {
	mac, _ := net.ParseMAC("52:54:00:77:00:01")
	n := &Net{MAC: mac, Address: netip.MustParsePrefix("10.77.1.1/16"), Gateway: netip.MustParseAddr("10.77.0.1"), DNS: []netip.Addr{netip.MustParseAddr("10.77.0.2")}}
	networkd, manager := tree(t, map[string]string{"usr/lib/systemd/systemd-networkd": ""}), t.TempDir()
	for _, root := range []string{networkd, networkd, manager} { // twice: an installation may be begun anew
		if err := writeNetwork(root, n); err != nil {
			t.Fatal(err)
		}
	}
	read := func(path string) string {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Error(err)
		}
		return string(b)
	}
	if got := read(filepath.Join(networkd, "etc/systemd/network/10-muster.network")); got != "# by muster, as the node booted\n[Match]\nMACAddress=52:54:00:77:00:01\n\n[Network]\nAddress=10.77.1.1/16\nGateway=10.77.0.1\nDNS=10.77.0.2\n" {
		t.Error(got)
	}
	if to, err := os.Readlink(filepath.Join(networkd, "etc/systemd/system/multi-user.target.wants/systemd-networkd.service")); to == "" {
		t.Error(err)
	}
	file := filepath.Join(manager, "etc/NetworkManager/system-connections/muster.nmconnection")
	if got := read(file); !strings.Contains(got, "[ipv4]\nmethod=manual\naddress1=10.77.1.1/16,10.77.0.1\ndns=10.77.0.2;\n\n[ipv6]\nmethod=auto\n") {
		t.Error(got)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 { // NetworkManager reads no other
		t.Error(info, err)
	}
	if got := networkdFiles(nil)["etc/systemd/network/10-muster.network"]; !strings.Contains(got, "Type=ether\n\n[Network]\nDHCP=yes\n") {
		t.Error(got)
	}
}

// A program comes with its interpreter and all libraries, so that it runs in the initramfs: seen by running it in a root of nothing else.
func TestProgramFiles_are_all_that_a_program_needs(t *testing.T) {
	need.Root(t, "uses chroot")
	need.Programs(t, "fdisk", "sfdisk")
	files, err := programFiles("/", "sfdisk")
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join("/", f.from))
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(root, f.to)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, b, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	c := exec.Command("chroot", root, "/sbin/sfdisk", "--version")
	c.Env = []string{"LD_LIBRARY_PATH=/usr/lib"}
	if out, err := c.CombinedOutput(); err != nil || !strings.Contains(string(out), "util-linux") {
		t.Errorf("%v %s (of %v)", err, out, files)
	}
	if _, err := programFiles("/", "no-such-program"); err == nil || !strings.Contains(err.Error(), "no-such-program") {
		t.Error(err)
	}
}

func TestFindLoader_names_what_is_missing(t *testing.T) {
	_, err := findLoader(t.TempDir(), true)
	if err == nil || !strings.Contains(err.Error(), "UEFI") || !strings.Contains(err.Error(), "grub-efi-amd64-bin") {
		t.Error(err)
	}
	_, err = findLoader(t.TempDir(), false)
	if err == nil || !strings.Contains(err.Error(), "BIOS") || !strings.Contains(err.Error(), "grub-pc-bin") {
		t.Error(err)
	}
}
