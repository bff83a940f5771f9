package agent

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"muster/internal/api"
	"muster/internal/model"
	"muster/internal/model/layout"
)

// Times of an installation.
const (
	stepTime    = 30 * time.Minute // for one command
	copyTime    = 2 * time.Hour    // for the root
	copyReport  = time.Second      // between two reports of how far the copy is
	failedPause = 10 * time.Second // as the init's: for people to read
)

const (
	targetDir = runDir + "/target" // the system to be
	sourceDir = runDir + "/source" // the image
)

// install writes the image to disk and starts the machine again, from there: then it waits for the end of ctx. It returns nil without that where nothing
// may be done: the node is held, and stays up for people to look at it. Whatever was begun before, by an agent that ended, is begun anew.
func (a *agent) install(ctx context.Context) error {
	a.current().say = func(format string, args ...any) { fmt.Fprintf(a.log, format+"\n", args...) }
	// Writing disks fills the page cache, which the unit's limit counts; without systemd there is no limit.
	_ = exec.CommandContext(ctx, "systemctl", "set-property", "--runtime", "muster-agent.service", "MemoryMax=infinity").Run()
	in := &installation{agent: a, began: time.Now()}
	err := in.all(ctx)
	var held *layout.Held
	var f *failure
	switch {
	case ctx.Err() != nil:
		return nil
	case err == nil:
		return a.restart(ctx)
	case errors.As(err, &held):
		text := strings.Join(held.Reasons, "; ")
		fmt.Fprintln(a.log, "held, nothing was written:", text)
		return a.say(ctx, api.Progress{
			Step: "failed", Final: true, Text: "nothing was written: " + text,
			Do: "the layout; change it, and then: muster deploy " + string(a.id.Node) + " " + a.id.Image + " --disk --layout FILE --reboot",
		})
	case !errors.As(err, &f):
		f = &failure{What: "installation", Err: err}
	}
	fmt.Fprintln(a.log, "failed:", f)
	if err := a.say(ctx, api.Progress{Step: "failed", Text: f.Error(), Do: f.Do}); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return nil
	case <-time.After(failedPause):
	}
	return a.restart(ctx)
}

// say tells the service what it has to know before anything else happens.
func (a *agent) say(ctx context.Context, p api.Progress) error {
	return a.current().patiently(ctx, p.Step, 24*time.Hour, func() error { return a.current().post(ctx, "/v1/node/progress", p, nil) })
}

// restart starts the machine again; it returns when that ends this program.
func (a *agent) restart(ctx context.Context) error {
	unix.Sync()
	if err := exec.CommandContext(ctx, "systemctl", "reboot").Run(); err != nil && ctx.Err() == nil {
		return os.NewSyscallError("reboot", unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART))
	}
	<-ctx.Done()
	return nil
}

// installation is one run of an installation.
type installation struct {
	*agent
	began   time.Time
	machine layout.Machine
	plan    *layout.Plan
	loader  loader
	args    arguments // of the kernel that runs
	kernel  string    // its arguments, less those that are the network boot's
	release string    // of the kernel
	content int64     // bytes of the image
}

// tell reports progress; a report that does not get through is not worth an installation.
func (in *installation) tell(ctx context.Context, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	fmt.Fprintln(in.log, text)
	in.report(ctx, api.Progress{Text: text, Output: text})
}

func (in *installation) report(ctx context.Context, p api.Progress) {
	ctx, cancel := context.WithTimeout(ctx, reportWait)
	defer cancel()
	p.Step = "writing"
	if err := in.current().post(ctx, "/v1/node/progress", p, nil); err != nil {
		fmt.Fprintf(in.log, "report: %v\n", err)
	}
}

// all goes through the installation. Up to write nothing of the machine is changed.
func (in *installation) all(ctx context.Context) error {
	for _, step := range []func(context.Context) error{in.prepare, in.decide, in.write, in.mount, in.copy, in.own, in.boot, in.finish} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return in.say(ctx, api.Progress{Step: "installed", Text: fmt.Sprintf("after %.0f s", time.Since(in.began).Seconds())})
}

// prepare clears what an ended run left, and finds out about machine and image.
func (in *installation) prepare(ctx context.Context) error {
	for _, dir := range []string{targetDir, sourceDir} {
		_ = exec.CommandContext(ctx, "umount", "-R", dir).Run() // mostly there is nothing
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := mountSource(); err != nil {
		return &failure{What: "the image that runs", Err: err}
	}
	in.release = readLine("/proc/sys/kernel/osrelease")
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	in.args, _ = parseArguments(string(line)) // they brought us here
	in.kernel = keptArguments(string(line))
	in.content = contentOf(sourceDir)
	in.machine, err = findMachine(ctx)
	return err
}

// mountSource shows the image without what was written over it since the start: its squashfs once more, or where there is none the root itself.
func mountSource() error {
	loops, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, l := range loops {
		if filepath.Base(readLine(l)) == rootImage {
			dev := "/dev/" + strings.Split(l, "/")[3]
			return unix.Mount(dev, sourceDir, "squashfs", unix.MS_RDONLY, "")
		}
	}
	return unix.Mount("/", sourceDir, "", unix.MS_BIND, "")
}

// contentOf is how many bytes the files of a tree take on a disk, in blocks of 4 KiB.
func contentOf(dir string) (n int64) {
	_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if info, err := e.Info(); err == nil && !e.IsDir() {
			n += (info.Size() + 4095) / 4096 * 4096
		}
		return nil
	})
	return n
}

// keptArguments are the kernel arguments that a boot from disk is to have, too: console and what people set.
func keptArguments(line string) string {
	var out []string
	for _, w := range words(line) {
		key, _, _ := strings.Cut(w, "=")
		if strings.HasPrefix(key, "muster.") || slices.Contains([]string{"initrd", "BOOTIF", "BOOT_IMAGE", "rdinit", "root", "ro", "rw"}, key) {
			continue
		}
		if strings.ContainsAny(w, " \t") {
			w = `"` + w + `"`
		}
		out = append(out, w)
	}
	return strings.Join(out, " ")
}

// decide makes the plan, and sees that everything that it needs is in the image.
func (in *installation) decide(context.Context) error {
	l, err := layout.Parse(in.id.Disk.Layout)
	if err != nil {
		return &layout.Held{Reasons: []string{err.Error()}}
	}
	if in.plan, err = layout.Make(l, in.machine, layout.Options{UUID: newUUID, Content: in.content}); err != nil {
		return err
	}
	var missing []string
	for _, t := range append(in.plan.Tools(), "cp", "umount") {
		if _, err := exec.LookPath(t); err != nil {
			missing = append(missing, fmt.Sprintf("the image has no program %s%s", t, from(t)))
		}
	}
	if in.loader, err = findLoader("/", in.machine.UEFI); err != nil {
		missing = append(missing, err.Error())
	}
	if len(missing) > 0 {
		return &layout.Held{Reasons: missing}
	}
	return nil
}

// from says which package of Debian brings a program; other distributions name them alike.
func from(tool string) string {
	p := map[string]string{
		"sfdisk": "fdisk", "mkfs.ext4": "e2fsprogs", "mkfs.xfs": "xfsprogs", "mkfs.vfat": "dosfstools", "mdadm": "mdadm",
		"pvcreate": "lvm2", "vgcreate": "lvm2", "lvcreate": "lvm2", "lvremove": "lvm2", "vgchange": "lvm2", "partx": "util-linux", "wipefs": "util-linux",
	}[tool]
	if p == "" {
		return ""
	}
	return " (build it again with --package " + p + ")"
}

func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails (crypto/rand)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// write goes through the steps of the plan.
func (in *installation) write(ctx context.Context) error {
	for _, k := range in.plan.Kept {
		in.tell(ctx, "stays: %s", k)
	}
	for _, s := range in.plan.Steps {
		in.tell(ctx, "%s", s.Text)
		if err := in.command(ctx, stepTime, s.Input, s.Args...); err != nil {
			return &failure{What: s.Text, Err: err, Do: "Look at the disk: muster console " + string(in.id.Node) + " --log"}
		}
	}
	return in.command(ctx, stepTime, "", "udevadm", "settle")
}

// command runs a program to its end; its error has the last of what it said.
func (in *installation) command(ctx context.Context, limit time.Duration, input string, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	c := exec.CommandContext(ctx, args[0], args[1:]...)
	c.Stdin = strings.NewReader(input)
	c.WaitDelay = 5 * time.Second
	c.Env = append(os.Environ(), "LC_ALL=C")
	out, err := c.CombinedOutput()
	if err == nil {
		return nil
	}
	said := strings.Join(strings.Fields(string(out[max(0, len(out)-600):])), " ")
	return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, said)
}

func (in *installation) mount(context.Context) error {
	for _, m := range in.plan.Mounts {
		dir := filepath.Join(targetDir, m.Path)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.Device, dir, m.Type, 0, ""); err != nil {
			return &failure{What: "mount of " + m.Device, Err: err, Do: "The kernel of the image must have " + m.Type + "."}
		}
	}
	return nil
}

// copy fills the new root from the image.
func (in *installation) copy(ctx context.Context) error {
	in.tell(ctx, "copies %.0f MB", float64(in.content)/1e6)
	done := make(chan struct{})
	told := make(chan struct{})
	before := used(targetDir)
	go func() {
		defer close(told)
		tick := time.NewTicker(copyReport)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				in.report(ctx, api.Progress{Made: model.Progress{Done: int(min(99, max(0, used(targetDir)-before)*100/max(1, in.content))), Of: 100}})
			}
		}
	}()
	err := in.command(ctx, copyTime, "", "cp", "-a", "-x", sourceDir+"/.", targetDir)
	close(done)
	<-told
	if err != nil {
		return &failure{What: "copy of the image", Err: err, Do: "Look at the disk: muster console " + string(in.id.Node) + " --log"}
	}
	return nil
}

// used is how many bytes of a file system are taken.
func used(dir string) int64 {
	var s unix.Statfs_t
	if unix.Statfs(dir, &s) != nil {
		return 0
	}
	return int64(s.Blocks-s.Bfree) * s.Bsize
}

// ownFiles are those that the init made for the node, in memory.
var ownFiles = []string{"etc/hostname", "etc/hosts", "etc/resolv.conf", "etc/machine-id", "etc/ssh/ssh_host_ed25519_key", "etc/ssh/ssh_host_ed25519_key.pub", "root/.ssh/authorized_keys"}

// unmasked are units that make no sense in memory, and do on a disk.
var unmasked = []string{"systemd-remount-fs.service", "systemd-fsck-root.service", "systemd-random-seed.service", "systemd-networkd.service", "fstrim.timer", "ldconfig.service"}

// arrayRule has udev look for volume groups on arrays that the init started: LVM's own rules (69-lvm.rules) take an array that was there before udev for one that is
// not ready, and the volumes beside the root would never come.
const arrayRule = `# by muster: the array that the root lies on runs before udev does
ACTION=="add", SUBSYSTEM=="block", KERNEL=="md[0-9]*", ATTR{md/array_state}!="clear*|inactive", ENV{LVM_MD_PV_ACTIVATED}="1"
`

// own writes what is this node's: names, keys, identity, network, fstab.
func (in *installation) own(context.Context) error {
	at := func(p string) string { return filepath.Join(targetDir, p) }
	var errs []error
	for _, f := range ownFiles {
		b, err := os.ReadFile("/" + f)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		info, serr := os.Stat("/" + f)
		if err = errors.Join(err, serr); err == nil {
			err = replace(at(f), info.Mode().Perm(), string(b))
		}
		errs = append(errs, err)
	}
	for _, u := range unmasked {
		link := at("etc/systemd/system/" + u)
		if to, err := os.Readlink(link); err == nil && to == "/dev/null" {
			errs = append(errs, os.Remove(link))
		}
	}
	if err := os.Remove(at("etc/systemd/journald.conf.d/10-muster.conf")); err != nil && !errors.Is(err, os.ErrNotExist) {
		errs = append(errs, err)
	}
	errs = append(errs, replace(at("etc/fstab"), 0o644, in.plan.Fstab))
	if len(in.plan.Arrays) > 0 && in.plan.Volume != "" {
		rules := at("etc/udev/rules.d")
		errs = append(errs, os.MkdirAll(rules, 0o755), replace(filepath.Join(rules, "68-muster-md.rules"), 0o644, arrayRule))
	}
	id := *in.id
	id.Disk = nil
	errs = append(errs, id.save(at(diskIdentity)), writeNetwork(targetDir, in.args.Net))
	return errors.Join(errs...)
}

// writeNetwork configures the boot port for the network service that the system has: systemd-networkd or NetworkManager.
func writeNetwork(root string, n *Net) error {
	files := networkdFiles(n)
	_, none := os.Stat(filepath.Join(root, "usr/lib/systemd/systemd-networkd"))
	if errors.Is(none, fs.ErrNotExist) {
		_, none = os.Stat(filepath.Join(root, "lib/systemd/systemd-networkd"))
	}
	if none == nil {
		wants := filepath.Join(root, "etc/systemd/system/multi-user.target.wants")
		err := os.MkdirAll(wants, 0o755)
		link := filepath.Join(wants, "systemd-networkd.service")
		if _, lerr := os.Lstat(link); err == nil && errors.Is(lerr, fs.ErrNotExist) {
			err = os.Symlink("/usr/lib/systemd/system/systemd-networkd.service", link)
		}
		if err != nil {
			return err
		}
	} else {
		files = keyfiles(n)
	}
	for path, text := range files {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		mode := os.FileMode(0o644)
		if strings.HasSuffix(path, ".nmconnection") {
			mode = 0o600
		}
		if err := replace(path, mode, text); err != nil {
			return err
		}
	}
	return nil
}

// networkdFiles are for systemd-networkd (systemd.network(5)).
func networkdFiles(n *Net) map[string]string {
	var b strings.Builder
	b.WriteString("# by muster, as the node booted\n[Match]\n")
	if n == nil || !n.Address.IsValid() {
		match := "Type=ether"
		if n != nil {
			match = "MACAddress=" + n.MAC.String()
		}
		b.WriteString(match + "\n\n[Network]\nDHCP=yes\n")
		return map[string]string{"etc/systemd/network/10-muster.network": b.String()}
	}
	fmt.Fprintf(&b, "MACAddress=%s\n\n[Network]\nAddress=%s\n", n.MAC, n.Address)
	if n.Gateway.IsValid() {
		fmt.Fprintf(&b, "Gateway=%s\n", n.Gateway)
	}
	for _, d := range n.DNS {
		fmt.Fprintf(&b, "DNS=%s\n", d)
	}
	return map[string]string{"etc/systemd/network/10-muster.network": b.String()}
}

// keyfiles are for NetworkManager (nm-settings-keyfile(5)).
func keyfiles(n *Net) map[string]string {
	var b strings.Builder
	b.WriteString("# by muster, as the node booted\n[connection]\nid=muster\ntype=ethernet\n\n[ethernet]\n")
	if n != nil {
		fmt.Fprintf(&b, "mac-address=%s\n", n.MAC)
	}
	kind, other := "ipv4", "ipv6"
	if n != nil && n.Address.Addr().Is6() {
		kind, other = other, kind
	}
	fmt.Fprintf(&b, "\n[%s]\n", kind)
	if n == nil || !n.Address.IsValid() {
		b.WriteString("method=auto\n")
	} else {
		fmt.Fprintf(&b, "method=manual\naddress1=%s", n.Address)
		if n.Gateway.IsValid() {
			fmt.Fprintf(&b, ",%s", n.Gateway)
		}
		b.WriteString("\n")
		if len(n.DNS) > 0 {
			b.WriteString("dns=")
			for _, d := range n.DNS {
				fmt.Fprintf(&b, "%s;", d)
			}
			b.WriteString("\n")
		}
	}
	fmt.Fprintf(&b, "\n[%s]\nmethod=auto\n", other)
	return map[string]string{"etc/NetworkManager/system-connections/muster.nmconnection": b.String()}
}

// boot puts kernel and initramfs in place, and the boot loader.
func (in *installation) boot(ctx context.Context) error {
	in.tell(ctx, "installs kernel %s and boot loader %s", in.release, in.loader)
	at := func(p string) string { return filepath.Join(targetDir, p) }
	if err := os.MkdirAll(at("boot"), 0o755); err != nil {
		return err
	}
	kernel := at("boot/vmlinuz-" + in.release)
	if err := in.current().fetch(ctx, in.id.Disk.Kernel, kernel, func(int) {}); err != nil {
		return &failure{What: "kernel of " + in.id.Image, Err: err, Do: "Check the image on the manager: muster image show " + in.id.Image}
	}
	if err := os.Chmod(kernel, 0o644); err != nil {
		return err
	}
	var initrd bytes.Buffer
	if err := writeInitramfs(ctx, &initrd, targetDir, in.release, len(in.plan.Arrays) > 0, in.plan.Volume != ""); err != nil {
		return &failure{What: "initramfs", Err: err, Do: "Build the image again."}
	}
	if err := os.WriteFile(at("boot/initrd.img-"+in.release), initrd.Bytes(), 0o600); err != nil {
		return err
	}
	args := fmt.Sprintf("root=UUID=%s ro muster.root=%s muster.node=%s", in.plan.Root, in.plan.Root, in.id.Node)
	if len(in.plan.Arrays) > 0 {
		args += " muster.array=" + strings.Join(in.plan.Arrays, ",")
	}
	if in.plan.Volume != "" {
		args += " muster.volume=" + in.plan.Volume
	}
	if in.kernel != "" {
		args += " " + in.kernel
	}
	return in.loader.install(ctx, in, args)
}

// finish makes sure that all of it is on the disks.
func (in *installation) finish(ctx context.Context) error {
	unix.Sync()
	if err := in.command(ctx, stepTime, "", "umount", "-R", targetDir); err != nil {
		return &failure{What: "unmounting the new system", Err: err}
	}
	_ = unix.Unmount(sourceDir, 0)
	unix.Sync()
	return nil
}
