package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"

	"muster/internal/image/cpio"
	"muster/internal/image/kmod"
)

// The paths of the module tables inside the initramfs; the boot init reads them.
const (
	initrdModules = "lib/modules"
	initrdDeps    = "lib/modules/modules.dep"
	initrdAliases = "lib/modules/modules.alias"
	initrdLoad    = "lib/modules/load" // one module name a line: loaded on every machine
)

// writeInitramfs packs the init and the modules of a recipe. Modules that the kernel has built in are left out; what is
// neither a module nor built in is returned in missing.
func writeInitramfs(w io.Writer, r Recipe, c *contents, modules map[string][]byte, program []byte) error {
	var archive bytes.Buffer
	if err := writeCpio(&archive, r, c, modules, program); err != nil {
		return err
	}
	return compress(w, archive.Bytes())
}

// compress packs an archive as the kernel unpacks it.
func compress(w io.Writer, archive []byte) error {
	z, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedBetterCompression), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20))
	if err != nil {
		return err
	}
	_, err = z.Write(archive)
	return errors.Join(err, z.Close())
}

func writeCpio(w io.Writer, r Recipe, c *contents, modules map[string][]byte, program []byte) error {
	sub, _, err := bootDeps(r, c)
	if err != nil {
		return err
	}
	a := cpio.New(w)
	for _, d := range []string{"dev", "lib", "lib/modules", "new", "proc", "run", "sys"} {
		a.Dir(d, 0o755)
	}
	// The kernel opens /dev/console for the init before anything is mounted.
	a.Char("dev/console", 0o600, 5, 1)
	a.Char("dev/null", 0o666, 1, 3)
	a.File("init", 0o755, program)
	flat := make(kmod.Deps, len(sub))
	for f, needs := range sub {
		var n []string
		for _, need := range needs {
			n = append(n, flatName(need))
		}
		flat[flatName(f)] = n
	}
	names := make([]string, 0, len(sub))
	for f := range sub {
		names = append(names, f)
	}
	slices.Sort(names)
	for _, f := range names {
		a.File(initrdModules+"/"+flatName(f), 0o644, modules[c.Modules+"/"+f])
	}
	var dep, alias strings.Builder
	if err := flat.Write(&dep); err != nil {
		return err
	}
	have := flat.Names()
	for _, al := range c.Aliases {
		// Others (filesystems, network protocols) are asked for by name.
		if _, ok := have[al.Module]; ok && strings.Contains(al.Pattern, ":") {
			fmt.Fprintf(&alias, "alias %s %s\n", al.Pattern, al.Module)
		}
	}
	a.File(initrdDeps, 0o644, []byte(dep.String()))
	a.File(initrdAliases, 0o644, []byte(alias.String()))
	a.File(initrdLoad, 0o644, []byte(strings.Join(r.Load, "\n")+"\n"))
	return a.Close()
}

// flatName is the file of a module in the initramfs, where modules lie in one folder, uncompressed.
func flatName(file string) string {
	base := path.Base(file)
	if i := strings.Index(base, ".ko"); i >= 0 {
		base = base[:i+3]
	}
	return base
}

// bootDeps chooses the modules of the initramfs; missing are those that this kernel knows neither as a module nor built in.
func bootDeps(r Recipe, c *contents) (sub kmod.Deps, missing []string, err error) {
	sub, absent, err := c.Deps.Subset(r.Modules)
	for _, m := range absent {
		if !c.Builtin[kmod.Name(m)] {
			missing = append(missing, m)
		}
	}
	for _, m := range missing {
		if slices.Contains(r.Load, m) {
			return nil, nil, fmt.Errorf("kernel %s has no module %s, which the boot needs", c.Release, m)
		}
	}
	return sub, missing, err
}

// unpackModule returns the module as the kernel loads it: distributions compress them with xz, zstd or gzip.
func unpackModule(ctx context.Context, command func(context.Context, string, ...string) *exec.Cmd, name string, b []byte) ([]byte, error) {
	var tool []string
	switch path.Ext(name) {
	case ".ko":
		return b, nil
	case ".zst":
		z, err := zstd.NewReader(nil)
		if err != nil {
			return nil, err
		}
		defer z.Close()
		return z.DecodeAll(b, nil)
	case ".xz":
		tool = []string{"xz", "-dc"}
	case ".gz":
		tool = []string{"gzip", "-dc"}
	default:
		return nil, fmt.Errorf("module %s: this compression is not known", name)
	}
	cmd := command(ctx, tool[0], tool[1:]...)
	cmd.Stdin = bytes.NewReader(b)
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("module %s: %s: %w", name, tool[0], err)
	}
	return out, nil
}
