package agent

import (
	"bytes"
	"compress/gzip"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"muster/internal/image/cpio"
	"muster/internal/image/kmod"
)

// diskModules drive disks, and read what is on them. Those of the machine's own devices come on top.
var diskModules = []string{
	"virtio_pci", "virtio_blk", "virtio_scsi", "ahci", "ata_piix", "sd_mod", "nvme", "mpt3sas", "megaraid_sas", "smartpqi", "hpsa", "aacraid", "isci", "mptspi", "mvsas",
	"vmw_pvscsi", "hv_storvsc", "xen-blkfront", "uas", "usb-storage", "xhci_pci", "ehci_pci", "mmc_block", "sdhci_pci",
	"ext4", "xfs", "crc32c_generic", "crc32c-intel", "dm_mod", "raid0", "raid1", "raid10", "raid456",
}

// always are loaded on each boot: what no device asks for by itself.
var always = []string{"crc32c_generic", "crc32c-intel", "sd_mod", "ext4", "xfs"}

// writeInitramfs writes the initramfs of a system on disk: this program, the kernel modules that bring its root, and the tools that it needs for that.
// root is where the system lies.
func writeInitramfs(ctx context.Context, w io.Writer, root, release string, arrays, lvm bool) error {
	z, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		return err
	}
	a := cpio.New(z)
	dirs := map[string]bool{}
	var dir func(name string)
	dir = func(name string) {
		if name != "." && !dirs[name] {
			dir(filepath.Dir(name))
			dirs[name] = true
			a.Dir(name, 0o755)
		}
	}
	for _, d := range []string{"dev", "etc", "lib/modules", "new", "proc", "run", "sbin", "sys", "tmp"} {
		dir(d)
	}
	a.Char("dev/console", 0o600, 5, 1)
	a.Char("dev/null", 0o666, 1, 3)
	program, err := os.ReadFile(filepath.Join(root, "usr/lib/muster/muster-node"))
	if err != nil {
		return err
	}
	a.File("init", 0o755, program)
	load := slices.Clone(always)
	var programs []string
	if arrays {
		programs, load = append(programs, "mdadm"), append(load, "raid0", "raid1", "raid10", "raid456")
	}
	if lvm {
		programs, load = append(programs, "lvm"), append(load, "dm_mod")
	}
	if err := addModules(ctx, a, filepath.Join(root, "lib/modules", release), load); err != nil {
		return err
	}
	for _, p := range programs {
		files, err := programFiles(root, p)
		if err != nil {
			return err
		}
		for _, f := range files {
			b, err := os.ReadFile(filepath.Join(root, f.from))
			if err != nil {
				return err
			}
			if !dirs[f.to] {
				dir(filepath.Dir(f.to))
				dirs[f.to] = true
				a.File(f.to, 0o755, b)
			}
		}
	}
	return errors.Join(a.Close(), z.Close())
}

func addModules(ctx context.Context, a *cpio.Writer, dir string, load []string) error {
	open := func(name string) (*os.File, error) { return os.Open(filepath.Join(dir, name)) }
	f, err := open("modules.dep")
	if err != nil {
		return err
	}
	defer f.Close()
	all, err := kmod.ReadDeps(f)
	if err != nil {
		return err
	}
	sub, _, err := all.Subset(append(loadedModules(), diskModules...)) // what is missing is built in
	if err != nil {
		return err
	}
	flat := func(file string) string { return kmod.Name(file) + ".ko" }
	deps := make(kmod.Deps)
	for _, file := range slices.Sorted(maps.Keys(sub)) {
		b, err := readModule(ctx, filepath.Join(dir, file))
		if err != nil {
			return err
		}
		a.File("lib/modules/"+flat(file), 0o644, b)
		var needs []string
		for _, n := range sub[file] {
			needs = append(needs, flat(n))
		}
		deps[flat(file)] = needs
	}
	g, err := open("modules.alias")
	if err != nil {
		return err
	}
	defer g.Close()
	have := deps.Names()
	aliases, err := kmod.ReadAliases(g, func(m string) bool { return have[m] != "" })
	if err != nil {
		return err
	}
	var dep, alias bytes.Buffer
	if err := deps.Write(&dep); err != nil {
		return err
	}
	for _, al := range aliases {
		if strings.Contains(al.Pattern, ":") {
			fmt.Fprintf(&alias, "alias %s %s\n", al.Pattern, al.Module)
		}
	}
	a.File("lib/modules/modules.dep", 0o644, dep.Bytes())
	a.File("lib/modules/modules.alias", 0o644, alias.Bytes())
	a.File("lib/modules/load", 0o644, []byte(strings.Join(load, "\n")+"\n"))
	return nil
}

// loadedModules are those of the running kernel whose names say that they are about disks: the drivers of this very machine.
func loadedModules() []string {
	b, _ := os.ReadFile("/proc/modules")
	var out []string
	for line := range strings.Lines(string(b)) {
		name, _, _ := strings.Cut(line, " ")
		for _, part := range []string{"ata", "scsi", "nvme", "sas", "raid", "mmc", "sdhci", "usb", "xhci", "virtio_blk", "virtio_scsi"} {
			if strings.Contains(name, part) {
				out = append(out, name)
				break
			}
		}
	}
	return out
}

// readModule reads a module as the kernel loads it.
func readModule(ctx context.Context, path string) ([]byte, error) {
	tool := map[string]string{".xz": "xz", ".zst": "zstd", ".gz": "gzip"}[filepath.Ext(path)]
	if tool == "" {
		return os.ReadFile(path)
	}
	b, err := exec.CommandContext(ctx, tool, "-dc", path).Output()
	if err != nil {
		return nil, fmt.Errorf("%s -dc %s: %w", tool, path, err)
	}
	return b, nil
}

// copied is a file of the system and its place in the initramfs.
type copied struct{ from, to string }

// programFiles are a program of the system below root, at /sbin, and every library that it loads (ELF gABI: PT_INTERP and DT_NEEDED).
func programFiles(root, name string) ([]copied, error) {
	var files []copied
	for _, d := range []string{"usr/sbin", "sbin", "usr/bin", "bin"} {
		if _, err := os.Stat(filepath.Join(root, d, name)); err == nil {
			files = append(files, copied{filepath.Join(d, name), "sbin/" + name})
			break
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("the system has no program %s", name)
	}
	for i := 0; i < len(files); i++ {
		f, err := elf.Open(filepath.Join(root, files[i].from))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", files[i].from, err)
		}
		needs, err := f.ImportedLibraries()
		for _, p := range f.Progs {
			if p.Type == elf.PT_INTERP && err == nil {
				var b []byte
				b, err = io.ReadAll(p.Open())
				needs = append(needs, strings.TrimRight(string(b), "\x00"))
			}
		}
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", files[i].from, err)
		}
		for _, n := range needs {
			c, ok := library(root, n)
			if !ok {
				return nil, fmt.Errorf("%s needs %s, which the system does not have", name, n)
			}
			if !slices.ContainsFunc(files, func(o copied) bool { return o.to == c.to }) {
				files = append(files, c)
			}
		}
	}
	return files, nil
}

func library(root, name string) (copied, bool) {
	if strings.HasPrefix(name, "/") { // the program interpreter
		_, err := os.Stat(filepath.Join(root, name))
		return copied{name, strings.TrimPrefix(name, "/")}, err == nil
	}
	for _, d := range []string{"usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu", "usr/lib64", "lib64", "usr/lib", "lib", "usr/lib/x86_64-linux-gnu/systemd", "usr/lib/systemd", "usr/lib64/systemd"} {
		if _, err := os.Stat(filepath.Join(root, d, name)); err == nil {
			return copied{filepath.Join(d, name), "usr/lib/" + name}, true
		}
	}
	return copied{}, false
}
