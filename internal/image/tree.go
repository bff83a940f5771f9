package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"muster/internal/image/kmod"
	"muster/internal/model"
)

// A tree is a package tree in a tar file, as mmdebstrap wrote it. It is read in passes; contents that a pass does not
// want are skipped by seeking.
type tree struct{ file string }

// entries calls f for every entry with its path cleaned: "usr/bin/env", no leading "./" or "/", folders without the
// trailing one. Content may be read from r until f returns.
func (t tree) entries(f func(name string, h *tar.Header, r io.Reader) error) error {
	file, err := os.Open(t.file)
	if err != nil {
		return err
	}
	defer file.Close()
	r := tar.NewReader(file)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("package tree %s: %w", path.Base(t.file), err)
		}
		if err := f(clean(h.Name), h, r); err != nil {
			return err
		}
	}
}

func clean(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }

// contents is what the build reads out of a tree.
type contents struct {
	Packages []Package
	Release  string // of the kernel
	Kernel   []byte
	Deps     kmod.Deps
	Aliases  []kmod.Alias
	Builtin  map[string]bool // names of modules that are part of the kernel
	Modules  string          // path of the release's folder in the tree: "usr/lib/modules/RELEASE"
}

// inspect finds packages, kernel and module tables.
func (t tree) inspect() (*contents, error) {
	c := &contents{Builtin: make(map[string]bool)}
	kernels := make(map[string][]byte)
	tables := make(map[string][]byte)
	err := t.entries(func(name string, h *tar.Header, r io.Reader) error {
		if h.Typeflag != tar.TypeReg {
			return nil
		}
		switch release, isKernel := strings.CutPrefix(name, "boot/vmlinuz-"); {
		case isKernel:
			b, err := io.ReadAll(r)
			kernels[release] = b
			return err
		case name == "var/lib/dpkg/status":
			b, err := io.ReadAll(r)
			c.Packages = readStatus(string(b))
			return err
		case strings.Contains(name, "lib/modules/") && slices.Contains([]string{"modules.dep", "modules.alias", "modules.builtin"}, path.Base(name)):
			b, err := io.ReadAll(r)
			tables[name] = b
			return err
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(kernels) == 0 {
		return nil, errors.New("the package tree has no kernel (boot/vmlinuz-…): the recipe's packages do not bring one")
	}
	// Several kernels: the newest one.
	releases := make([]string, 0, len(kernels))
	for r := range kernels {
		releases = append(releases, r)
	}
	c.Release = slices.MaxFunc(releases, model.Natural)
	c.Kernel = kernels[c.Release]
	for _, dir := range []string{"usr/lib/modules/", "lib/modules/"} {
		if dep, ok := tables[dir+c.Release+"/modules.dep"]; ok {
			c.Modules = dir + c.Release
			if c.Deps, err = kmod.ReadDeps(strings.NewReader(string(dep))); err != nil {
				return nil, err
			}
			if c.Aliases, err = kmod.ReadAliases(strings.NewReader(string(tables[c.Modules+"/modules.alias"])), nil); err != nil {
				return nil, err
			}
			for line := range strings.Lines(string(tables[c.Modules+"/modules.builtin"])) {
				c.Builtin[kmod.Name(strings.TrimSpace(line))] = true
			}
		}
	}
	if c.Deps == nil {
		return nil, fmt.Errorf("the package tree has no modules.dep for kernel %s: depmod did not run in it", c.Release)
	}
	return c, nil
}

// files reads the contents of the named paths; one that is missing is an error.
func (t tree) files(names []string) (map[string][]byte, error) {
	found := make(map[string][]byte, len(names))
	err := t.entries(func(name string, h *tar.Header, r io.Reader) error {
		if h.Typeflag != tar.TypeReg || !slices.Contains(names, name) {
			return nil
		}
		b, err := io.ReadAll(r)
		found[name] = b
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, n := range names {
		if _, ok := found[n]; !ok {
			return nil, fmt.Errorf("the package tree has no file %s", n)
		}
	}
	return found, nil
}

// A put is a file, link or folder that the build adds to a tree, in the place of what has the same path.
type put struct {
	Path    string `json:"path"`
	Mode    int64  `json:"mode"`
	Link    string `json:"link,omitempty"` // target of a symbolic link
	Dir     bool   `json:"dir,omitempty"`
	Content []byte `json:"content,omitempty"`
}

// filter copies the tree to w without what drop names by prefix, and with puts at its end. All that is put carries the time when.
func (t tree) filter(w io.Writer, drop []string, puts []put, when time.Time) error {
	replaced := make(map[string]bool, len(puts))
	for _, p := range puts {
		replaced[p.Path] = !p.Dir
	}
	have := map[string]bool{"": true}
	out := tar.NewWriter(w)
	err := t.entries(func(name string, h *tar.Header, r io.Reader) error {
		dropped := func(n string) bool {
			return slices.ContainsFunc(drop, func(d string) bool { return strings.HasPrefix(n, d) })
		}
		if name == "" || replaced[name] || dropped(name) || h.Typeflag == tar.TypeLink && (dropped(clean(h.Linkname)) || replaced[clean(h.Linkname)]) {
			return nil
		}
		if h.Typeflag == tar.TypeDir {
			if _, mine := replaced[name]; mine {
				return nil // comes with its own mode
			}
			have[name] = true
		}
		h.Format = tar.FormatPAX
		if err := out.WriteHeader(h); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		_, err := io.Copy(out, r)
		return err
	})
	if err != nil {
		return err
	}
	for _, p := range puts {
		if err := p.write(out, have, when); err != nil {
			return fmt.Errorf("%s: %w", p.Path, err)
		}
	}
	return out.Close()
}

func (p put) write(out *tar.Writer, have map[string]bool, when time.Time) error {
	for i, c := range p.Path {
		if dir := p.Path[:i]; c == '/' && !have[dir] {
			have[dir] = true
			if err := out.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "./" + dir + "/", Mode: 0o755, ModTime: when}); err != nil {
				return err
			}
		}
	}
	h := &tar.Header{Typeflag: tar.TypeReg, Name: "./" + p.Path, Mode: p.Mode, Size: int64(len(p.Content)), ModTime: when}
	switch {
	case p.Dir:
		h.Typeflag, h.Name = tar.TypeDir, h.Name+"/"
		have[p.Path] = true
	case p.Link != "":
		h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, p.Link, 0o777
	}
	if err := out.WriteHeader(h); err != nil {
		return err
	}
	_, err := out.Write(p.Content)
	return err
}

// Package is an installed package of the distribution.
type Package struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// readStatus lists the installed packages of a dpkg status file, by name.
func readStatus(text string) []Package {
	var ps []Package
	for stanza := range strings.SplitSeq(text, "\n\n") {
		var p Package
		var installed bool
		for line := range strings.Lines(stanza) {
			key, value, _ := strings.Cut(strings.TrimRight(line, "\n"), ": ")
			switch key {
			case "Package":
				p.Name = value
			case "Version":
				p.Version = value
			case "Status":
				installed = strings.HasSuffix(value, " installed")
			}
		}
		if installed && p.Name != "" {
			ps = append(ps, p)
		}
	}
	slices.SortFunc(ps, func(a, b Package) int { return strings.Compare(a.Name, b.Name) })
	return ps
}
