package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// loader is a boot loader that the image has.
type loader string

// The boot loaders, in the order in which they are looked for.
const (
	grub        loader = "grub-install"
	grub2       loader = "grub2-install" // as distributions with RPM name it
	systemdBoot loader = "bootctl"
)

// findLoader finds a boot loader below root that boots by the machine's firmware. The error says what is missing.
func findLoader(root string, uefi bool) (loader, error) {
	there := func(path string) bool {
		_, err := os.Stat(filepath.Join(root, path))
		return err == nil
	}
	modules, pkg := "usr/lib/grub/i386-pc", "grub-pc-bin"
	if uefi {
		modules, pkg = "usr/lib/grub/x86_64-efi", "grub-efi-amd64-bin"
	}
	for _, l := range []loader{grub, grub2} {
		if _, err := exec.LookPath(string(l)); err == nil && there(modules) {
			return l, nil
		}
	}
	if _, err := exec.LookPath(string(systemdBoot)); err == nil && uefi && there("usr/lib/systemd/boot/efi/systemd-bootx64.efi") {
		return systemdBoot, nil
	}
	firmware := map[bool]string{false: "BIOS", true: "UEFI"}[uefi]
	return "", fmt.Errorf("the machine boots by %s, and the image has no boot loader for that: there is no grub-install with /%s (build it again with --package grub2-common,%s)", firmware, modules, pkg)
}

// install puts the boot loader onto the disks. On UEFI it takes the path that firmware looks for by itself (UEFI specification §3.5.1.1): the firmware's own
// list of boot entries is left as it is, and with it the network first.
func (l loader) install(ctx context.Context, in *installation, args string) error {
	for _, where := range in.plan.Loader {
		var err error
		esp := filepath.Join(targetDir, where)
		switch {
		case l == systemdBoot:
			err = in.systemdBoot(ctx, esp, args)
		case in.plan.UEFI:
			err = in.command(ctx, stepTime, "", string(l), "--target=x86_64-efi", "--efi-directory="+esp, "--boot-directory="+filepath.Join(targetDir, "boot"), "--removable", "--no-nvram")
		default:
			err = in.command(ctx, stepTime, "", string(l), "--target=i386-pc", "--boot-directory="+filepath.Join(targetDir, "boot"), where)
		}
		if err != nil {
			return &failure{What: "boot loader on " + where, Err: err, Do: "Look at the image: muster image show " + in.id.Image}
		}
	}
	if l == systemdBoot {
		return nil
	}
	dir := filepath.Join(targetDir, "boot", strings.TrimSuffix(string(l), "-install"))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return replace(filepath.Join(dir, "grub.cfg"), 0o600, grubConfig(in.plan.Boot, in.plan.BootPath, in.release, in.id.Image, args))
}

// grubConfig is the configuration of GRUB (its manual, "Writing your own configuration"). The menu waits a second: long enough for a key on a serial console.
func grubConfig(bootUUID, path, release, image, args string) string {
	var b strings.Builder
	b.WriteString("# by muster, when the node was installed\nset default=0\nset timeout=1\n")
	for w := range strings.FieldsSeq(args) {
		unit, ok := strings.CutPrefix(w, "console=ttyS")
		if !ok {
			continue
		}
		unit, speed, _ := strings.Cut(unit, ",")
		speed = strings.TrimRight(speed, "noe78")
		fmt.Fprintf(&b, "if serial --unit=%s --speed=%s; then\n  terminal_input console serial\n  terminal_output console serial\nfi\n", unit, map[bool]string{true: "9600", false: speed}[speed == ""])
		break
	}
	fmt.Fprintf(&b, `insmod part_gpt
insmod ext2
insmod xfs
insmod fat
insmod mdraid1x
insmod lvm
search --no-floppy --fs-uuid --set=root %s
menuentry "%s, Linux %s" {
  linux %s/vmlinuz-%s %s
  initrd %s/initrd.img-%s
}
`, bootUUID, image, release, path, release, args, path, release)
	return b.String()
}

// systemdBoot installs systemd-boot, which reads kernel and initramfs from the EFI system partition only (Boot Loader Specification, type 1).
func (in *installation) systemdBoot(ctx context.Context, esp, args string) error {
	if err := in.command(ctx, stepTime, "", "bootctl", "--esp-path="+esp, "--no-variables", "install"); err != nil {
		return err
	}
	dir := filepath.Join(esp, "muster")
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.MkdirAll(filepath.Join(esp, "loader/entries"), 0o755)); err != nil {
		return err
	}
	for _, f := range []string{"vmlinuz-" + in.release, "initrd.img-" + in.release} {
		if err := copyFile(filepath.Join(dir, f), filepath.Join(targetDir, "boot", f)); err != nil {
			return err
		}
	}
	entry := fmt.Sprintf("title %s, Linux %s\nlinux /muster/vmlinuz-%s\ninitrd /muster/initrd.img-%s\noptions %s\n", in.id.Image, in.release, in.release, in.release, args)
	return errors.Join(os.WriteFile(filepath.Join(esp, "loader/entries/muster.conf"), []byte(entry), 0o644),
		os.WriteFile(filepath.Join(esp, "loader/loader.conf"), []byte("default muster.conf\ntimeout 1\n"), 0o644))
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
