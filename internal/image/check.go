package image

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"

	"muster/internal/image/chunk"
	"muster/internal/image/cpio"
	"muster/internal/image/kmod"
	"muster/internal/image/rootfs"
	"muster/internal/model"
)

// CheckOptions is what an image is looked at for.
type CheckOptions struct {
	// Chunks is the store of its content; nil leaves the tree's content alone.
	Chunks *chunk.Store
	// Memory is the least memory of the nodes that are to boot it, in bytes. Zero asks nothing.
	Memory int64
	// Modules are names of kernel modules that the hardware needs to reach the network; none: any that the recipes know.
	Modules []string
	// Verify checks the manifest's signature; nil leaves it alone.
	Verify func(m *Manifest) error
}

// memoryShare is how much of a node's memory the files of the image may take, in percent: the system needs the rest to run.
const memoryShare = 60

// Examine looks at an image directory from all sides and returns everything that is wrong with it, so that nobody finds out at a boot.
func Examine(ctx context.Context, dir string, o CheckOptions) ([]model.ImageFinding, error) {
	e := &examination{ctx: ctx, dir: dir, o: o}
	for _, p := range Check(dir) {
		e.wrong("files", "Build or import the image again", "%s", p)
	}
	var err error
	if e.m, err = Load(dir); err != nil {
		return e.found, ctx.Err() // Check has told
	}
	if o.Verify != nil {
		if err := o.Verify(e.m); err != nil {
			e.wrong("signature", "Build it here, or import it", "%v", err)
		}
	}
	e.kernel()
	e.initramfs()
	e.root()
	e.size()
	if err := e.tree(); err != nil {
		return nil, err
	}
	return e.found, ctx.Err()
}

type examination struct {
	ctx   context.Context
	dir   string
	o     CheckOptions
	m     *Manifest
	arch  string // of the kernel
	found []model.ImageFinding
}

func (e *examination) wrong(check, do, format string, args ...any) {
	e.found = append(e.found, model.ImageFinding{Check: check, What: fmt.Sprintf(format, args...), Do: do})
}

// arches are the architectures that nodes have, as ELF, PE and kernels call them.
var arches = map[elf.Machine]string{elf.EM_X86_64: "x86-64", elf.EM_AARCH64: "arm64", elf.EM_386: "x86", elf.EM_PPC64: "ppc64", elf.EM_RISCV: "riscv64", elf.EM_S390: "s390x", elf.EM_ARM: "arm"}

// bootArch is the architecture that the boot path serves.
const bootArch = "x86-64"

// kernel looks at the kernel as the loader does. The x86 header is in kernel: Documentation/arch/x86/boot.rst, that of arm64 in
// Documentation/arch/arm64/booting.rst.
func (e *examination) kernel() {
	b, err := os.ReadFile(filepath.Join(e.dir, KernelFile))
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) { // Check has told
			e.wrong("kernel", "", "%v", err)
		}
		return
	}
	release := ""
	e.arch, release = readKernel(b)
	switch {
	case e.arch == "":
		e.wrong("kernel", "Is it a bzImage? Take the distribution's own", "the file is no Linux kernel that a loader starts")
	case e.arch != bootArch:
		e.wrong("architecture", "Take a kernel for "+bootArch, "the kernel is for %s, nodes boot %s", e.arch, bootArch)
	case release != "" && release != e.m.Kernel:
		e.wrong("kernel", "Build the image again", "the kernel says that it is %s, the manifest and the modules are for %s", release, e.m.Kernel)
	}
}

// readKernel tells the architecture of a kernel, and its release where it says it.
func readKernel(b []byte) (arch, release string) {
	le := binary.LittleEndian
	if len(b) > 0x250 && string(b[0x202:0x206]) == "HdrS" {
		arch = "x86"
		if le.Uint16(b[0x206:]) >= 0x20c && le.Uint16(b[0x236:])&1 != 0 { // xloadflags: XLF_KERNEL_64
			arch = "x86-64"
		}
		if at := int(le.Uint16(b[0x20e:])) + 0x200; at > 0x200 && at < len(b) {
			text, _, _ := bytes.Cut(b[at:min(len(b), at+256)], []byte{0})
			release, _, _ = strings.Cut(string(text), " ")
		}
		return arch, release
	}
	if len(b) > 64 && string(b[56:60]) == "ARM\x64" {
		return "arm64", ""
	}
	return "", ""
}

// initramfs unpacks it as the kernel would.
func (e *examination) initramfs() {
	b, err := os.ReadFile(filepath.Join(e.dir, InitrdFile))
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			e.wrong("initramfs", "", "%v", err)
		}
		return
	}
	const again = "Build the image again"
	z, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(1<<30), zstd.WithDecoderConcurrency(1))
	if err != nil {
		return
	}
	defer z.Close()
	archive, err := z.DecodeAll(b, nil)
	if err != nil {
		e.wrong("initramfs", again, "it does not unpack: %v", err)
		return
	}
	entries, err := cpio.Read(archive)
	if err != nil {
		e.wrong("initramfs", again, "%v", err)
		return
	}
	init, ok := entries["init"]
	switch machine := machineOf(init); {
	case !ok:
		e.wrong("initramfs", again, "it has no init: the kernel would stop")
	case machine != "" && e.arch != "" && machine != e.arch:
		e.wrong("architecture", again, "the init of the initramfs is for %s, the kernel for %s", machine, e.arch)
	}
	e.modules(entries)
}

// modules sees that the node can reach the network from its initramfs, and find its root.
func (e *examination) modules(entries map[string][]byte) {
	have := make(map[string]bool)
	for name := range entries {
		if rest, ok := strings.CutPrefix(name, initrdModules+"/"); ok && strings.HasSuffix(rest, ".ko") {
			have[kmod.Name(rest)] = true
		}
	}
	builtin, tree := e.kernelModules()
	there := func(name string) bool { return have[kmod.Name(name)] || builtin[kmod.Name(name)] }
	do := "Take the full kernel of the distribution, not one for the cloud, or put the module's package into the recipe"
	if len(e.o.Modules) > 0 {
		for _, m := range e.o.Modules {
			switch {
			case there(m):
			case tree[kmod.Name(m)]:
				e.wrong("modules", "Put "+m+" into the recipe's modules", "the initramfs has no %s, which the hardware needs; the kernel has it", m)
			default:
				e.wrong("modules", do, "kernel %s has no module %s, which the hardware needs", e.m.Kernel, m)
			}
		}
	} else if !slices.ContainsFunc(networkModules, there) {
		e.wrong("modules", do, "the initramfs has no driver of a network card: no node would reach its manager")
	}
	for _, m := range []string{"squashfs", "overlay", "loop"} {
		if !there(m) && (builtin != nil || tree != nil) {
			e.wrong("modules", do, "the initramfs has no %s, which the root needs", m)
		}
	}
}

// kernelModules tells what the kernel has built in, and which modules are in the tree; nil when the tree cannot say.
func (e *examination) kernelModules() (builtin, modules map[string]bool) {
	t, err := Tree(e.dir)
	if err != nil || e.o.Chunks == nil {
		return nil, nil
	}
	c, err := inspect(e.ctx, t, e.o.Chunks)
	if err != nil {
		return nil, nil
	}
	modules = make(map[string]bool)
	for name := range c.Deps.Names() {
		modules[name] = true
	}
	return c.Builtin, modules
}

// root looks at the squashfs: its superblock says how long it is (squashfs-tools: squashfs_fs.h, bytes_used at 40).
func (e *examination) root() {
	f, err := os.Open(filepath.Join(e.dir, RootFile))
	if err != nil {
		return // Check has told
	}
	defer f.Close()
	head := make([]byte, 96)
	info, err := f.Stat()
	if err != nil {
		return
	}
	if n, _ := f.ReadAt(head, 0); n < len(head) || string(head[:4]) != "hsqs" {
		e.wrong("root", "Build the image again", "%s is no squashfs", RootFile)
	} else if used := binary.LittleEndian.Uint64(head[40:]); used > uint64(info.Size()) {
		e.wrong("root", "Build the image again", "%s is cut off: it has %d bytes and says that it is %d long", RootFile, info.Size(), used)
	}
}

func (e *examination) size() {
	root, _ := e.m.File(RootFile)
	initrd, _ := e.m.File(InitrdFile)
	need := root.Size + initrd.Size
	if e.o.Memory > 0 && need > e.o.Memory/100*memoryShare {
		e.wrong("size", "Take packages out, give the nodes more memory, or deploy it to disk",
			"%s of files for nodes with %s of memory: at most %d %% may be the image", size(need), size(e.o.Memory), memoryShare)
	}
}

// tree looks at the system itself.
func (e *examination) tree() error {
	t, err := Tree(e.dir)
	if errors.Is(err, fs.ErrNotExist) {
		e.wrong("chunks", "Build it again to have it looked through", "the image is of an older muster and has no tree")
		return nil
	}
	if err != nil {
		e.wrong("chunks", "Build or import the image again", "%v", err)
		return nil
	}
	if len(kernels(t)) == 0 {
		e.wrong("kernel", "Install the distribution's kernel in it", "%v", errNoKernel)
	} else if t.Follow("usr/lib/modules/"+e.m.Kernel) == nil && t.Follow("lib/modules/"+e.m.Kernel) == nil {
		e.wrong("modules", "Install them: they are in the kernel's package", "the system has no modules for its kernel %s", e.m.Kernel)
	}
	for _, f := range []struct {
		check, what, do string
		paths           []string
	}{
		{"init", "the system has no init (sbin/init, usr/lib/systemd/systemd): nothing would start", "Install systemd-sysv, or what the distribution starts with", []string{"sbin/init", "usr/lib/systemd/systemd", "lib/systemd/systemd"}},
		{"agent", "the system has no muster agent (" + nodeProgramPath + "): nodes would never report that they are up", "Import or build it with muster, which puts it in", []string{nodeProgramPath}},
	} {
		i := slices.IndexFunc(f.paths, func(p string) bool {
			at := t.Follow(p)
			return at != nil && at.Type == rootfs.File && at.Mode&0o111 != 0
		})
		if i < 0 {
			e.wrong(f.check, f.do, "%s", f.what)
			continue
		}
		if machine := machineOf(e.head(t, f.paths[i])); machine != "" && e.arch != "" && machine != e.arch {
			e.wrong("architecture", "Take packages for "+e.arch, "%s is for %s, the kernel for %s", f.paths[i], machine, e.arch)
		}
	}
	if unit := t.Find(agentWanted); unit == nil && t.Follow(nodeProgramPath) != nil {
		e.wrong("agent", "Enable it: systemctl enable muster-agent", "the muster agent is there and is never started: there is no %s", agentWanted)
	}
	e.secrets(t)
	if e.o.Chunks == nil {
		return nil
	}
	want := make(map[chunk.Digest]bool)
	t.Chunks(func(d chunk.Digest, _ int64) { want[d] = true })
	bad, err := e.o.Chunks.Verify(e.ctx, func(d chunk.Digest) bool { return want[d] })
	if err != nil {
		return err
	}
	for _, b := range bad {
		e.wrong("chunks", "Build or import the image again: that stores them anew", "%v", b)
	}
	gone := 0
	for d := range want {
		if !e.o.Chunks.Has(d) {
			gone++
		}
	}
	if gone -= len(bad); gone > 0 {
		e.wrong("chunks", "Build or import the image again: that stores them anew", "%d of its %d chunks are not in the store", gone, len(want))
	}
	return nil
}

// head reads the first chunk of a file.
func (e *examination) head(t rootfs.Tree, name string) []byte {
	at := t.Follow(name)
	if e.o.Chunks == nil || at == nil || len(at.Parts) == 0 || at.Parts[0].Hole {
		return nil
	}
	b, err := e.o.Chunks.Get(e.ctx, at.Parts[0].Digest, nil)
	if err != nil {
		return nil // the chunks are looked at as well
	}
	return b
}

// machineOf is the architecture of a program; "" where it is none, or not known.
func machineOf(b []byte) string {
	if len(b) < 20 || string(b[:4]) != elf.ELFMAG {
		return ""
	}
	order := binary.ByteOrder(binary.LittleEndian)
	if elf.Data(b[5]) == elf.ELFDATA2MSB {
		order = binary.BigEndian
	}
	machine := elf.Machine(order.Uint16(b[18:]))
	if name := arches[machine]; name != "" {
		return name
	}
	return machine.String()
}

// secretPaths are what every machine has its own of, by path; a file that is empty is none.
var secretPaths = []struct{ pattern, what string }{
	{"etc/ssh/ssh_host_*_key", "a host key: all nodes would be one to their users"},
	{"etc/machine-id", "a machine-id: all nodes would have the same"},
	{"var/lib/dbus/machine-id", "a machine-id: all nodes would have the same"},
	{"var/lib/systemd/random-seed", "a random seed: all nodes would begin with the same"},
	{"var/lib/systemd/credential.secret", "the key of systemd's credentials"},
	{"root/.ssh/id_*", "a private ssh key"},
	{"home/*/.ssh/id_*", "a private ssh key"},
	{"etc/krb5.keytab", "a Kerberos key"},
	{"etc/munge/munge.key", "the key of MUNGE"},
	{"etc/wireguard/*", "a WireGuard key"},
	{"etc/muster/*", "keys of a muster node"},
	{"var/lib/muster/*", "keys of a muster node or manager"},
	{"root/.bash_history", "what somebody typed"},
	{"home/*/.bash_history", "what somebody typed"},
	{"var/lib/dhcp/*.leases", "leases of another machine"},
	{"root/.aws/credentials", "credentials of a cloud"},
	{"root/.docker/config.json", "credentials of a registry"},
}

// privateKey finds keys in PEM form by their content, wherever they lie.
var privateKey = regexp.MustCompile(`-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----\r?\n[A-Za-z0-9+/=]`)

// secretFolders are where files are looked into; in usr lie those of packages only.
var secretFolders = []string{"etc/", "root/", "home/", "var/lib/", "srv/", "opt/"}

const secretSize = 64 << 10 // longer files are no keys

func (e *examination) secrets(t rootfs.Tree) {
	const do = "Take it out of the tree; muster makes each node its own at boot"
	for i := range t {
		at := &t[i]
		if at.Type != rootfs.File || at.Size == 0 {
			continue
		}
		i := slices.IndexFunc(secretPaths, func(s struct{ pattern, what string }) bool {
			ok, _ := path.Match(s.pattern, at.Path)
			return ok && !strings.HasSuffix(at.Path, ".pub")
		})
		if i >= 0 {
			if at.Path == "etc/machine-id" && e.is(at, "uninitialized\n") {
				continue // machine-id(5): systemd makes one at the first boot
			}
			e.wrong("secrets", do, "/%s is %s", at.Path, secretPaths[i].what)
			continue
		}
		if e.o.Chunks == nil || at.Size > secretSize || !slices.ContainsFunc(secretFolders, func(f string) bool { return strings.HasPrefix(at.Path, f) }) {
			continue
		}
		b, err := e.o.Chunks.Get(e.ctx, at.Parts[0].Digest, nil)
		if err != nil {
			continue // the chunks are looked at as well
		}
		if privateKey.Match(b) {
			e.wrong("secrets", do, "/%s holds a private key", at.Path)
		}
		if at.Path == "etc/shadow" {
			for line := range strings.Lines(string(b)) {
				if f := strings.Split(line, ":"); len(f) > 1 && strings.HasPrefix(f[1], "$") {
					e.wrong("secrets", "Lock it (passwd -l "+f[0]+"), or set it by a job", "/etc/shadow has a password for %s, the same on all nodes", f[0])
				}
			}
		}
	}
}

func (e *examination) is(at *rootfs.Entry, text string) bool {
	return e.o.Chunks != nil && len(at.Parts) == 1 && at.Parts[0].Digest == chunk.Sum([]byte(text))
}
