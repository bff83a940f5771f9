package image

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"muster/internal/image/rootfs"
)

// rpmDatabases are where the tools of rpm keep what is installed: EL 9, Fedora and SUSE 15 from the second on, the rest in the first.
var rpmDatabases = []string{"var/lib/rpm", "usr/lib/sysimage/rpm"}

// packageList lists what is installed in the tree, sorted by name: of dpkg's status, or of an rpm database by the rpm program.
func (b *build) packageList(ctx context.Context) ([]Package, error) {
	status, err := content(ctx, b.full, b.store, "var/lib/dpkg/status")
	if err == nil {
		return readStatus(string(status)), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, dir := range rpmDatabases {
		at := b.full.Follow(dir)
		if at == nil || at.Type != rootfs.Directory {
			continue
		}
		if _, err := exec.LookPath("rpm"); err != nil {
			return nil, errors.New("the tree is of rpm packages, and rpm is not installed here to list them. Install it: apt-get install rpm")
		}
		return b.rpmList(ctx, at.Path)
	}
	return nil, nil
}

func (b *build) rpmList(ctx context.Context, dir string) ([]Package, error) {
	work, err := os.MkdirTemp(b.o.Cache, ".build-rpm-")
	if err != nil {
		return nil, err
	}
	unlock, err := lock(work)
	if err != nil {
		return nil, err
	}
	defer unlock()
	defer os.RemoveAll(work)
	for i := range b.full {
		e := &b.full[i]
		if filepath.Dir(e.Path) != dir || e.Type != rootfs.File {
			continue
		}
		db, err := content(ctx, b.full, b.store, e.Path)
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(work, filepath.Base(e.Path)), db, 0o600); err != nil {
			return nil, err
		}
	}
	out := ""
	err = b.run(ctx, nil, func(line string) { out += line + "\n" }, nil, "rpm", "--dbpath", work, "-qa", "--qf", `%{NAME} %|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE}\n`)
	if err != nil {
		return nil, err
	}
	return readNames(out), nil
}

// readNames reads lines "NAME VERSION", as packages.txt and our queries of package databases have them; keys of rpm's are left out.
func readNames(text string) []Package {
	var ps []Package
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 2 && f[0] != "gpg-pubkey" {
			ps = append(ps, Package{f[0], f[1]})
		}
	}
	slices.SortFunc(ps, func(a, b Package) int {
		return strings.Compare(a.Name+" "+a.Version, b.Name+" "+b.Version)
	})
	return ps
}
