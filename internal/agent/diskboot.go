package agent

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Times of a boot from disk.
const (
	rootWait     = 90 * time.Second // for the root's disk to appear
	degradedWait = 20 * time.Second // for all members of an array; then it is started without those that are missing
)

// disk boots the system that lies on disk: it finds the root by its UUID, mounts it read-only, as the system's own check wants it, and becomes its init.
func (b *boot) disk(ctx context.Context) error {
	modules, err := openModules("/lib/modules")
	if err != nil {
		return err
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	start := time.Now()
	for {
		modules.devices() // disks appear one after the other, and want drivers
		b.activate(ctx, time.Since(start) > degradedWait)
		if dev, kind := findRoot(b.args.Root); dev != "" {
			if err := os.MkdirAll(newDir, 0o755); err != nil {
				return err
			}
			if err := unix.Mount(dev, newDir, kind, unix.MS_RDONLY, ""); err != nil {
				return &failure{What: "mount of the root " + dev, Err: err, Do: "Look at the disk: muster deploy " + string(b.args.Node) + " IMAGE boots the node in memory."}
			}
			b.con.say("starting from %s (%s)", dev, kind)
			return switchRoot()
		}
		if time.Since(start) > rootWait {
			return &failure{What: "no disk holds the root " + b.args.Root, Do: "Look at the disks, or install it again: muster deploy " + string(b.args.Node) + " IMAGE --disk"}
		}
		<-tick.C
	}
}

// activate starts the arrays and the logical volume that the root lies on; what is not there yet is tried again.
func (b *boot) activate(ctx context.Context, degraded bool) {
	for i, id := range b.args.Arrays {
		if arrayRuns(id) {
			continue
		}
		dev := fmt.Sprintf("/dev/md%d", 127-i)
		// Without --run mdadm starts only an array that has all of its members; one that it left waiting for them is taken apart and tried again.
		_ = quiet(ctx, "/sbin/mdadm", "--stop", "--quiet", dev)
		args := []string{"--assemble", "--quiet", "--config=none", "--uuid=" + id, dev}
		if degraded {
			args = append(args, "--run")
		}
		_ = quiet(ctx, "/sbin/mdadm", append(args, blockDevices()...)...)
	}
	if v := b.args.Volume; v != "" {
		if _, err := os.Stat("/dev/mapper/" + strings.ReplaceAll(strings.ReplaceAll(v, "-", "--"), "/", "-")); err != nil {
			_ = quiet(ctx, "/sbin/lvm", "lvchange", "-q", "-a", "y", "--config", "activation{udev_sync=0 udev_rules=0} devices{use_devicesfile=0 obtain_device_list_from_udev=0 external_device_info_source=\"none\"}", v)
		}
	}
}

func quiet(ctx context.Context, program string, args ...string) error {
	c := exec.CommandContext(ctx, program, args...)
	c.Env = []string{"LVM_SUPPRESS_FD_WARNINGS=1", "PATH=/sbin", "LD_LIBRARY_PATH=/usr/lib"}
	return c.Run()
}

func arrayRuns(id string) bool {
	for _, a := range runningArrays() {
		state := readLine("/sys/block/" + strings.TrimPrefix(a.Device, "/dev/") + "/md/array_state")
		if a.UUID == id && state != "inactive" && state != "clear" {
			return true
		}
	}
	return false
}

// blockDevices are all that the kernel shows.
func blockDevices() []string {
	all, _ := filepath.Glob("/sys/class/block/*")
	var out []string
	for _, p := range all {
		if n := filepath.Base(p); !strings.HasPrefix(n, "loop") && !strings.HasPrefix(n, "ram") && !strings.HasPrefix(n, "sr") && !strings.HasPrefix(n, "md") {
			out = append(out, "/dev/"+n)
		}
	}
	return out
}

// findRoot looks for the file system with a UUID on all block devices.
func findRoot(id string) (dev, kind string) {
	all, _ := filepath.Glob("/sys/class/block/*")
	for _, p := range all {
		dev := "/dev/" + filepath.Base(p)
		if c := probe(dev); c.UUID == id && (c.Type == "ext4" || c.Type == "xfs") {
			return dev, c.Type
		}
	}
	return "", ""
}
