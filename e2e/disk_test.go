package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// diskPackages are what an image needs to write itself to any disk of these tests.
const diskPackages = "fdisk,dosfstools,e2fsprogs,xfsprogs,mdadm,lvm2,grub2-common,grub-pc-bin,grub-efi-amd64-bin,xz-utils"

// layoutFile writes a layout for deploy --layout.
func (s *site) layoutFile(text string) string {
	s.t.Helper()
	file := filepath.Join(s.t.TempDir(), "layout")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return file
}

// ran is what a command on a node prints, without the node's name.
func (s *site) ran(node, command string) string {
	s.t.Helper()
	return strings.TrimSpace(strings.ReplaceAll(s.must("run", node, "--", command), node+": ", ""))
}

// count is how often a step is on the timeline of a node.
func (s *site) count(node, step string) int {
	n := 0
	for _, e := range s.events(node) {
		if e.Step == step {
			n++
		}
	}
	return n
}

// restart power cycles a node and waits until it has reported from another boot.
func (s *site) restart(node string) {
	s.t.Helper()
	before := s.status(node).Facts.BootID
	s.must("power", node, "cycle")
	s.until(5*time.Minute, node+" is up after a restart", func() (bool, string) {
		st := s.status(node)
		return st.Status == "up" && st.Facts != nil && st.Facts.BootID != before, fmt.Sprintf("%s %s", st.Status, st.Reason)
	})
}

const plainLayout = "disk system: local\n  boot 400M ext4 /boot\n  root 1800M ext4 / label=root\n  swap 200M swap\n  data rest xfs /data preserve\n"

// From an empty disk to a system that boots from it, comes back after a power cycle without being installed again, and keeps what is to be preserved when it
// is installed again.
func TestDisk_bios(t *testing.T) { installs(t, "bios") }

func TestDisk_uefi(t *testing.T) {
	onlyLong(t)
	installs(t, "uefi")
}

// onlyLong leaves a test to make test-long.
func onlyLong(t *testing.T) {
	t.Helper()
	if !long {
		t.Skip("takes minutes: make test-long, or MUSTER_LONG=1")
	}
}

// heldBy deploys with a layout that cannot be, and checks that the node says why, that it stays up, and that its disks are as they were.
func (s *site) heldBy(layout string, words ...string) {
	s.t.Helper()
	before := s.disks("r1n1")
	s.must("deploy", "r1n1", "disk", "--disk", "--layout", s.layoutFile(layout), "--reboot")
	s.reach(10*time.Minute, "held", "r1n1")
	st := s.status("r1n1")
	for _, w := range append(words, "nothing was written") {
		if !strings.Contains(st.Reason, w) {
			s.t.Errorf("held with %q, which lacks %q", st.Reason, w)
		}
	}
	s.t.Log(st.Reason)
	if after := s.disks("r1n1"); after != before {
		s.t.Errorf("the disks were %s, and are %s", before, after)
	}
}

// disks are the digests of what is on the disks of a machine.
func (s *site) disks(node string) string {
	s.t.Helper()
	files, err := filepath.Glob(filepath.Join(filepath.Dir(s.bmcFile), node, "disk*.raw"))
	if err != nil || len(files) == 0 {
		s.t.Fatal(files, err)
	}
	var out []string
	for _, f := range files {
		sum, err := exec.Command("sha256sum", f).Output()
		if err != nil {
			s.t.Fatal(err)
		}
		out = append(out, filepath.Base(f)+" "+string(sum[:16]))
	}
	return strings.Join(out, ", ")
}

// A layout that fits two disks, none, or too small ones writes nothing. Then both disks become an array with volumes on it, which boots, also from what is
// left of it, and of which a volume is kept.
func TestDisk_two(t *testing.T) {
	onlyLong(t)
	s := newSite(t, 1, "bios", "--disks", "2", "--disk", "3G")
	s.define("r1n1")
	s.image("disk", diskPackages)
	s.heldBy("disk system: local\n  root rest ext4 /\n", "2 disks are local", "serial=r1n1", "serial=r1n1-2", "line 1")
	s.heldBy("disk system: serial=r1n1\n  root 40G ext4 /\ndisk data: usb\n  data rest xfs /data\n", "no disk is usb")
	s.heldBy("disk system: serial=r1n1\n  root 40G ext4 /\n", "is too small", "42.95GB")

	file := s.layoutFile("disks pair: 2 local\n  half rest raid\nraid mirror: 1 pair.half\n  lvm\nlvm vg0: mirror\n  root 1800M xfs /\n  home 400M ext4 /home preserve\n  swap 100M swap\n")
	s.must("deploy", "r1n1", "disk", "--disk", "--layout", file, "--reboot")
	s.reach(15*time.Minute, "up", "r1n1")
	if out := s.ran("r1n1", "findmnt -no SOURCE,FSTYPE / && findmnt -no SOURCE,FSTYPE /home && swapon --show=TYPE --noheadings && cat /sys/block/md*/md/level && systemctl is-system-running; systemctl --failed --no-legend"); strings.Join(strings.Fields(out), " ") != "/dev/mapper/vg0-root xfs /dev/mapper/vg0-home ext4 partition raid1 running" {
		t.Errorf("the system on the array: %s", out)
	}
	s.ran("r1n1", "echo kept > /home/kept && echo lost > /root/lost && sync")
	s.restart("r1n1")
	if out := s.ran("r1n1", "cat /root/lost"); out != "lost" {
		t.Errorf("after a power cycle: %s", out)
	}
	s.must("deploy", "r1n1", "disk", "--disk", "--layout", file, "--reboot")
	s.until(15*time.Minute, "installed again and up", func() (bool, string) {
		st := s.status("r1n1")
		return st.Status == "up" && s.count("r1n1", "node.installed") == 2, st.Status + " " + st.Reason
	})
	if out := s.ran("r1n1", "cat /home/kept; ls /root; findmnt -no FSTYPE /home"); out != "kept\next4" {
		t.Errorf("after it was installed again: %s", out)
	}
}

// An installation ends well although the service is killed in the middle of it; one whose machine is reset in the middle is begun anew, and ends well.
func TestDisk_faults(t *testing.T) {
	onlyLong(t)
	s := newSite(t, 1, "bios")
	s.define("r1n1")
	s.image("disk", diskPackages)
	writing := func(times int) {
		s.until(10*time.Minute, "the disk is being written", func() (bool, string) {
			n := 0
			for _, e := range s.events("r1n1") {
				if e.Step == "node.writing" && strings.Contains(e.What, "copies") {
					n++
				}
			}
			return n >= times, s.status("r1n1").Status
		})
	}
	s.must("deploy", "r1n1", "disk", "--disk", "--reboot")
	writing(1)
	s.must("power", "r1n1", "reset")
	writing(2)
	s.kill()
	s.start()
	s.reach(10*time.Minute, "up", "r1n1")
	if n := s.count("r1n1", "node.installed"); n != 1 {
		t.Errorf("installed %d times, want once", n)
	}
	if out := s.ran("r1n1", "findmnt -no FSTYPE / && systemctl is-system-running"); out != "ext4\nrunning" {
		t.Errorf("the system on disk: %s", out)
	}
}

func installs(t *testing.T, firmware string) {
	s := newSite(t, 1, firmware)
	s.define("r1n1")
	s.image("disk", diskPackages)
	file := s.layoutFile(plainLayout)
	s.must("deploy", "r1n1", "disk", "--disk", "--layout", file, "--reboot")
	s.reach(10*time.Minute, "up", "r1n1")
	w := s.why("r1n1")
	t.Logf("empty disk to up from disk: %.1f s, our own answers %.3f s", float64(w.TookMS)/1e3, float64(w.OursUS)/1e6)
	var got []string
	for _, e := range s.events("r1n1") {
		got = append(got, e.Step)
		if strings.HasPrefix(e.Step, "node.") {
			t.Log(e.Time.Format("15:04:05"), e.Step, e.What)
		}
	}
	inOrder(t, got, "deploy.armed", "boot.script", "node.enrolled", "node.fetching", "node.starting", "node.writing", "node.installed", "boot.script", "node.up")
	if out := s.ran("r1n1", "findmnt -no FSTYPE / && findmnt -no FSTYPE /data && swapon --show=TYPE --noheadings && hostname && systemctl is-system-running; systemctl --failed --no-legend"); out != "ext4\nxfs\npartition\nr1n1\nrunning" {
		t.Errorf("the system on disk: %s", out)
	}
	s.ran("r1n1", "echo kept > /data/kept && echo lost > /root/lost && sync")
	s.restart("r1n1")
	if out := s.ran("r1n1", "cat /root/lost; findmnt -no FSTYPE /"); out != "lost\next4" {
		t.Errorf("after a power cycle: %s", out)
	}
	if n := s.count("r1n1", "node.installed"); n != 1 {
		t.Errorf("installed %d times after a restart, want once", n)
	}
	s.must("deploy", "r1n1", "disk", "--disk", "--layout", file, "--reboot")
	s.until(10*time.Minute, "installed again and up", func() (bool, string) {
		st := s.status("r1n1")
		return st.Status == "up" && s.count("r1n1", "node.installed") == 2, st.Status + " " + st.Reason
	})
	if out := s.ran("r1n1", "cat /data/kept; ls /root; findmnt -no FSTYPE /data"); out != "kept\nxfs" {
		t.Errorf("after it was installed again: %s", out)
	}
}
