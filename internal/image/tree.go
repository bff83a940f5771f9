package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"muster/internal/image/chunk"
	"muster/internal/image/kmod"
	"muster/internal/image/rootfs"
	"muster/internal/model"
)

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

// fileLimit is the size of the largest file that is read out of a tree as a whole: kernels and package lists are far from it.
const fileLimit = 256 << 20

// content reads a file of a tree.
func content(ctx context.Context, t rootfs.Tree, from rootfs.Source, name string) ([]byte, error) {
	return t.Content(name, fileLimit, func(d chunk.Digest, buf []byte) ([]byte, error) { return from.Get(ctx, d, buf) })
}

// errNoKernel is the error of inspect for a tree without one.
var errNoKernel = errors.New("the tree has no kernel: neither boot/vmlinuz-RELEASE nor usr/lib/modules/RELEASE/vmlinuz. The packages of the recipe do not bring one")

// kernels finds the kernels of a tree: the path of each by its release.
func kernels(t rootfs.Tree) map[string]string {
	found := make(map[string]string)
	for i := range t {
		name := t[i].Path
		if release, ok := strings.CutPrefix(name, "boot/vmlinuz-"); ok && !strings.Contains(release, "/") && !strings.HasPrefix(release, "0-rescue-") {
			found[release] = name
		}
		dir, base := path.Split(name)
		if (base == "vmlinuz" || base == "vmlinux") && path.Dir(path.Clean(dir)) == "usr/lib/modules" && found[path.Base(dir)] == "" {
			found[path.Base(dir)] = name
		}
	}
	for release, name := range found {
		if t.Follow(name) == nil { // a link to what is not there
			delete(found, release)
		}
	}
	return found
}

// inspect finds packages, kernel and module tables.
func inspect(ctx context.Context, t rootfs.Tree, from rootfs.Source) (*contents, error) {
	c := &contents{Builtin: make(map[string]bool)}
	all := kernels(t)
	if len(all) == 0 {
		return nil, errNoKernel
	}
	// Several kernels: the newest one.
	releases := make([]string, 0, len(all))
	for r := range all {
		releases = append(releases, r)
	}
	c.Release = slices.MaxFunc(releases, model.Natural)
	var err error
	if c.Kernel, err = content(ctx, t, from, all[c.Release]); err != nil {
		return nil, err
	}
	dir := cmp.Or(t.Follow("usr/lib/modules/"+c.Release), t.Follow("lib/modules/"+c.Release))
	if dir == nil || t.Find(dir.Path+"/modules.dep") == nil {
		return nil, fmt.Errorf("the tree has no modules.dep for kernel %s: depmod did not run in it", c.Release)
	}
	c.Modules = dir.Path
	table := func(name string) string {
		b, terr := content(ctx, t, from, c.Modules+"/"+name)
		if !errors.Is(terr, fs.ErrNotExist) {
			err = errors.Join(err, terr)
		}
		return string(b)
	}
	dep, alias, builtin := table("modules.dep"), table("modules.alias"), table("modules.builtin")
	if err != nil {
		return nil, err
	}
	if c.Deps, err = kmod.ReadDeps(strings.NewReader(dep)); err != nil {
		return nil, err
	}
	if c.Aliases, err = kmod.ReadAliases(strings.NewReader(alias), nil); err != nil {
		return nil, err
	}
	for line := range strings.Lines(builtin) {
		c.Builtin[kmod.Name(strings.TrimSpace(line))] = true
	}
	return c, nil
}

// files reads the contents of the named paths; one that is missing is an error.
func files(ctx context.Context, t rootfs.Tree, from rootfs.Source, names []string) (map[string][]byte, error) {
	found := make(map[string][]byte, len(names))
	for _, n := range names {
		b, err := content(ctx, t, from, n)
		if err != nil {
			return nil, fmt.Errorf("the tree: %w", err)
		}
		found[n] = b
	}
	return found, nil
}

// A put is a file, link or folder that the build adds to a tree, in the place of what has the same path.
type put struct {
	Path    string `json:"path"`
	Mode    uint32 `json:"mode"`
	Link    string `json:"link,omitempty"` // target of a symbolic link
	Dir     bool   `json:"dir,omitempty"`
	Content []byte `json:"content,omitempty"`
}

// amend returns the tree without what drop names by prefix, and with puts, which carry the time when.
func amend(w *chunk.Writer, t rootfs.Tree, drop []string, puts []put, when time.Time) (rootfs.Tree, error) {
	t = t.Without(dropped(drop))
	entries := make([]rootfs.Entry, 0, len(puts))
	for _, p := range puts {
		e := rootfs.Entry{Path: p.Path, Type: rootfs.Directory, Mode: p.Mode, Time: when}
		switch {
		case p.Link != "":
			e.Type, e.Target, e.Mode = rootfs.Link, p.Link, 0o777
		case !p.Dir:
			var err error
			if e, err = rootfs.NewFile(w, p.Path, p.Mode, p.Content, when); err != nil {
				return nil, err
			}
		}
		if to := t.Follow(path.Dir(e.Path)); to != nil { // where the folder is a link, what it leads to
			e.Path = path.Join(to.Path, path.Base(e.Path))
		}
		entries = append(entries, e)
	}
	return t.With(entries, when)
}

// dropped tells of paths that one of the prefixes names; "run/" is all in that folder and not the folder.
func dropped(prefixes []string) func(string) bool {
	return func(n string) bool {
		return slices.ContainsFunc(prefixes, func(d string) bool { return strings.HasPrefix(n, d) })
	}
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
