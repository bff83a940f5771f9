package tftpd

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"

	"muster/internal/boot"
)

// Dir is where Debian's package ipxe puts the loaders.
const Dir = "/usr/lib/ipxe"

// File is a loader in memory.
type File struct {
	Name   string
	Path   string // where it came from
	Digest string // "sha256:…"
	Data   []byte
}

// Files are the loaders by the name that clients ask for.
type Files map[string]File

// Load reads all of [boot.Loaders] from a directory, "" being [Dir]. Without the package, the error says how to get it.
func Load(dir string) (Files, error) {
	if dir == "" {
		dir = Dir
	}
	files := Files{}
	var missing []string
	for _, name := range boot.Loaders {
		path := filepath.Join(dir, name)
		b, err := os.ReadFile(path)
		if err != nil || len(b) == 0 {
			missing = append(missing, name)
			continue
		}
		sum := sha256.Sum256(b)
		files[name] = File{name, path, "sha256:" + hex.EncodeToString(sum[:]), b}
	}
	if len(missing) > 0 {
		return nil, &boot.Error{What: "boot loaders", Why: strings.Join(missing, ", ") + " missing in " + dir, Do: "apt-get install ipxe"}
	}
	return files, nil
}
