package image

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"

	"muster/internal/image/rootfs"
	"muster/internal/model"
)

// Diff compares two image directories.
func Diff(before, after string) (*model.ImageDifference, error) {
	a, err := Load(before)
	if err != nil {
		return nil, err
	}
	b, err := Load(after)
	if err != nil {
		return nil, err
	}
	d := &model.ImageDifference{Before: a.Kernel, After: b.Kernel, Packages: diffPackages(a.Packages, b.Packages), Files: []model.FileChange{}}
	at, aerr := Tree(before)
	bt, berr := Tree(after)
	if errors.Is(aerr, fs.ErrNotExist) || errors.Is(berr, fs.ErrNotExist) {
		d.NoTree = true
		return d, nil
	}
	if err := errors.Join(aerr, berr); err != nil {
		return nil, err
	}
	for _, f := range rootfs.Diff(at, bt) {
		what := f.What()
		if len(what) == 1 && what[0] == "time" && f.Before.Type == rootfs.Directory {
			continue // the names in it tell
		}
		d.Files = append(d.Files, model.FileChange{Path: filepath.Clean("/" + f.Path), What: what})
	}
	d.New = newBytes(at, bt)
	return d, nil
}

func newBytes(before, after rootfs.Tree) (n int64) {
	have := make(map[string]bool)
	for i := range before {
		for _, p := range before[i].Parts {
			have[string(p.Digest[:])] = true
		}
	}
	for i := range after {
		for _, p := range after[i].Parts {
			if d := string(p.Digest[:]); !p.Hole && !have[d] {
				have[d] = true
				n += p.Size
			}
		}
	}
	return n
}

// diffPackages compares two lists that are sorted by name.
func diffPackages(before, after []Package) []model.PackageChange {
	out := []model.PackageChange{}
	versions := func(ps []Package, name string) (string, []Package) {
		var v []string
		for len(ps) > 0 && ps[0].Name == name {
			v = append(v, ps[0].Version)
			ps = ps[1:]
		}
		return strings.Join(v, ","), ps
	}
	for len(before) > 0 || len(after) > 0 {
		name := ""
		switch {
		case len(before) == 0:
			name = after[0].Name
		case len(after) == 0:
			name = before[0].Name
		default:
			name = min(before[0].Name, after[0].Name)
		}
		c := model.PackageChange{Name: name}
		c.Before, before = versions(before, name)
		c.After, after = versions(after, name)
		if c.Before != c.After {
			out = append(out, c)
		}
	}
	return out
}
