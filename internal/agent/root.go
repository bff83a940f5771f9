package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const rootImage = "root.squashfs"

// mountMemory makes the place in memory for the root image and for what is written over it.
func mountMemory(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0755,size=90%"); err != nil {
		return &failure{What: "mount " + dir, Err: err, Do: "The kernel of the image does not support it: choose another kernel."}
	}
	return nil
}

// mountRoot mounts the fetched image read-only, and over it a writable layer in memory, on /new.
func mountRoot() error {
	fail := func(what string, err error) error {
		return &failure{What: what, Err: err, Do: "The kernel of the image must have squashfs, loop and overlay: choose another kernel."}
	}
	for _, d := range []string{lowerDir, newDir, filepath.Join(memDir, "upper"), filepath.Join(memDir, "work")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	loop, err := attachLoop(filepath.Join(memDir, rootImage))
	if err != nil {
		return fail("loop device", err)
	}
	if err := unix.Mount(loop, lowerDir, "squashfs", unix.MS_RDONLY, ""); err != nil {
		return fail("mount of the root image", err)
	}
	layers := fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work", lowerDir, memDir, memDir)
	if err := unix.Mount("overlay", newDir, "overlay", 0, layers); err != nil {
		return fail("mount of the writable layer", err)
	}
	return nil
}

// attachLoop makes a read-only block device of a file (loop(4)).
func attachLoop(path string) (device string, err error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer control.Close()
	n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
	if err != nil {
		return "", os.NewSyscallError("LOOP_CTL_GET_FREE", err)
	}
	device = fmt.Sprintf("/dev/loop%d", n)
	dev, err := os.OpenFile(device, os.O_RDONLY, 0)
	if err != nil {
		return "", err
	}
	defer dev.Close()
	conf := unix.LoopConfig{Fd: uint32(file.Fd()), Size: 4096}
	conf.Info.Flags = unix.LO_FLAGS_READ_ONLY
	if err := unix.IoctlLoopConfigure(int(dev.Fd()), &conf); err != nil {
		return "", os.NewSyscallError("LOOP_CONFIGURE", err)
	}
	return device, nil
}

// personalize writes into the root what is this node's own.
func (b *boot) personalize(root string) error {
	host := b.plan.Hostname
	if host == "" {
		host = string(b.id.Node)
	}
	var resolv strings.Builder
	for _, d := range b.net.DNS {
		fmt.Fprintf(&resolv, "nameserver %s\n", d)
	}
	short, _, _ := strings.Cut(host, ".")
	names := host
	if short != host {
		names += " " + short
	}
	kernel := kernelName(host)
	files := []struct {
		path string
		mode os.FileMode
		text string
	}{
		{"etc/hostname", 0o644, kernel + "\n"},
		{"etc/hosts", 0o644, "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n" + b.net.Address.Addr().String() + " " + names + "\n"},
		{"etc/resolv.conf", 0o644, resolv.String()},
		{"etc/machine-id", 0o444, machineID(readLine("/sys/class/dmi/id/product_uuid"), host) + "\n"},
		{"etc/ssh/ssh_host_ed25519_key", 0o600, b.host.private},
		{"etc/ssh/ssh_host_ed25519_key.pub", 0o644, b.host.public + "\n"},
	}
	var errs []error
	for _, f := range files {
		errs = append(errs, replace(filepath.Join(root, f.path), f.mode, f.text))
	}
	if len(b.plan.AuthorizedKeys) > 0 {
		path := filepath.Join(root, "root/.ssh/authorized_keys")
		old, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
		errs = append(errs, os.MkdirAll(filepath.Dir(path), 0o700),
			replace(path, 0o600, string(old)+strings.Join(b.plan.AuthorizedKeys, "\n")+"\n"))
	}
	errs = append(errs, unix.Sethostname([]byte(kernel)))
	return errors.Join(errs...)
}

// kernelName is the host name that the kernel takes: at most 64 octets (sethostname(2)). Of a longer one it is the first label,
// which RFC 1123 holds to 63.
func kernelName(host string) string {
	if len(host) <= 64 {
		return host
	}
	short, _, _ := strings.Cut(host, ".")
	return short[:min(len(short), 64)]
}

// replace writes a file anew, whatever was there: in the image it may be a link.
func replace(path string, mode os.FileMode, text string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		return err
	}
	return os.Chmod(path, mode)
}

// machineID is the same at every boot of a machine under one name (machine-id(5)).
func machineID(uuid, host string) string {
	h := sha256.Sum256([]byte("muster machine-id\x00" + strings.ToLower(uuid) + "\x00" + host))
	h[6] = h[6]&0x0f | 0x40 // a version 4 UUID in form
	h[8] = h[8]&0x3f | 0x80
	return hex.EncodeToString(h[:16])
}

// switchRoot makes /new the root and runs its init; it returns only on failure. The initramfs is emptied: it is memory.
func switchRoot() error {
	fail := func(what string, err error) error {
		return &failure{What: what, Err: err, Do: "Build the image again with a recipe that has an init (systemd-sysv)."}
	}
	if _, err := os.Stat(newDir + "/usr"); err != nil {
		return fail("the new root", err)
	}
	for _, d := range []string{"/dev", "/proc", "/sys", "/run"} {
		if err := unix.Mount(d, newDir+d, "", unix.MS_MOVE, ""); err != nil {
			return fail("moving "+d, err)
		}
	}
	for _, p := range []string{"/lib", "/init"} {
		_ = os.RemoveAll(p) // memory that is not given back, no more
	}
	if err := unix.Chdir(newDir); err != nil {
		return fail("the new root", err)
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fail("moving the root", err)
	}
	if err := unix.Chroot("."); err != nil {
		return fail("chroot", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return fail("the new root", err)
	}
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "GODEBUG=") {
			env = append(env, v)
		}
	}
	return fail("/sbin/init", unix.Exec("/sbin/init", []string{"/sbin/init"}, env))
}
