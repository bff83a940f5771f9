package e2e

import (
	"fmt"
	"os"
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

func TestDisk_uefi(t *testing.T) { installs(t, "uefi") }

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
