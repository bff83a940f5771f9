package tftpd

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"muster/internal/boot"
)

// Dir is where Debian's package ipxe puts its loaders.
const Dir = "/usr/lib/ipxe"

// packaged is where Debian's packages ipxe, shim-signed and grub-efi-amd64-signed put the loaders.
func packaged(name string) string {
	switch name {
	case boot.ShimLoader:
		return "/usr/lib/shim/shimx64.efi.signed"
	case boot.GrubLoader:
		return "/usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed"
	}
	return filepath.Join(Dir, name)
}

// File is a loader in memory.
type File struct {
	Name   string
	Path   string // where it came from
	Digest string // "sha256:…"
	Data   []byte
}

// Files are the loaders by the name that clients ask for.
type Files map[string]File

// Load reads the loaders: each from the first of the directories that has it, and else from where Debian's package puts it. Without one of
// [boot.Loaders] the error says how to get it. A file SHA256SUMS in one of the directories, as sha256sum writes it, says what the
// loaders have to be, wherever they come from.
func Load(dirs ...string) (Files, error) { return find(dirs, packaged) }

func find(dirs []string, packaged func(string) string) (Files, error) {
	files := Files{}
	want, err := sums(dirs)
	if err != nil {
		return nil, err
	}
	var missing []string
	for i, name := range append(append([]string(nil), boot.Loaders...), boot.MoreLoaders...) {
		f, ok, err := load(name, dirs, packaged)
		switch {
		case err != nil:
			return nil, err
		case !ok && i < len(boot.Loaders):
			missing = append(missing, name)
			continue
		case !ok:
			continue
		}
		if w := want[name]; w != "" && w != f.Digest {
			return nil, &boot.Error{What: "boot loader " + name, Why: f.Path + " has " + f.Digest + ", and SHA256SUMS says " + w, Do: "Put the right file there, or take the line out of SHA256SUMS"}
		}
		files[name] = f
	}
	if len(missing) > 0 {
		return nil, &boot.Error{What: "boot loaders", Why: strings.Join(missing, ", ") + " missing in " + strings.Join(append(dirs, filepath.Dir(packaged(boot.BIOSLoader))), " and "), Do: "apt-get install ipxe"}
	}
	return files, nil
}

// load reads one loader; false when there is none.
func load(name string, dirs []string, packaged func(string) string) (File, bool, error) {
	var paths []string
	for _, d := range dirs {
		paths = append(paths, filepath.Join(d, name))
	}
	paths = append(paths, packaged(name))
	for _, path := range paths {
		b, err := os.ReadFile(path)
		switch {
		case os.IsNotExist(err) || err == nil && len(b) == 0:
			continue
		case err != nil:
			return File{}, false, fmt.Errorf("boot loader %s: %w", name, err)
		}
		sum := sha256.Sum256(b)
		return File{name, path, "sha256:" + hex.EncodeToString(sum[:]), b}, true, nil
	}
	return File{}, false, nil
}

// sums reads the files SHA256SUMS: lines of a digest in hex and a name.
func sums(dirs []string) (map[string]string, error) {
	out := map[string]string{}
	for _, d := range dirs {
		b, err := os.ReadFile(filepath.Join(d, "SHA256SUMS"))
		if err != nil && !os.IsNotExist(err) {
			return nil, fmt.Errorf("digests of the boot loaders: %w", err)
		}
		for l := range strings.Lines(string(b)) {
			sum, name, _ := strings.Cut(strings.TrimSpace(l), " ")
			name = strings.TrimLeft(name, " *")
			out[name] = cmp.Or(out[name], "sha256:"+strings.ToLower(sum))
		}
	}
	return out, nil
}

// Assets are the digests of the loaders by name, as [boot.Server] has them.
func (f Files) Assets() map[string]string {
	out := map[string]string{}
	for name, file := range f {
		out[name] = file.Digest
	}
	return out
}
