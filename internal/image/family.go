package image

import (
	"fmt"
	"path/filepath"
	"strings"
)

// The families of distributions: by which program their trees are made.
const (
	familyDebian = "debian" // mmdebstrap
	familyEL     = "el"     // dnf
	familySUSE   = "suse"   // zypper
)

// A script is what makes a package tree: files that it needs, then commands in their order. It is data, so that tests can show what would
// run. The tree is in tree.tar of the working directory when all commands have ended well.
type script struct {
	Files    []scriptFile
	Commands [][]string
	// Programs are all that must be there, each with the Debian package that has it.
	Programs [][2]string
}

type scriptFile struct {
	Name    string // in the working directory
	Mode    uint32
	Content string
}

// script makes the package tree of a recipe in work: from mirror, or where that is "" from the host's own sources. Hooks are the programs
// that change the tree before it is packed.
func (r Recipe) script(work, mirror string, sources []sourceFile, hooks [][]byte) (script, error) {
	s := script{}
	var run []string // paths of the hooks
	for i, h := range hooks {
		name := fmt.Sprintf("hook-%d", i+1)
		s.Files = append(s.Files, scriptFile{name, 0o755, string(h)})
		run = append(run, filepath.Join(work, name))
	}
	switch r.Family {
	case familyDebian:
		s.mmdebstrap(r, work, mirror, sources, run)
		return s, nil
	case familyEL, familySUSE:
	default:
		return s, fmt.Errorf("recipe %s is of no known family: %q", r.Name, r.Family)
	}
	if mirror == "" {
		return s, fmt.Errorf("this host has no packages of %s. Say where they are: --mirror URL (it holds %s)", r.Name, strings.Join(r.repositoryPaths(), ", "))
	}
	root := filepath.Join(work, "root")
	if r.Family == familyEL {
		s.dnf(r, work, root, mirror)
	} else {
		s.zypper(r, root, mirror)
	}
	for _, h := range run {
		s.Commands = append(s.Commands, []string{h, root})
	}
	s.Commands = append(s.Commands, []string{"tar", "--format=posix", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-cf", filepath.Join(work, "tree.tar"), "-C", root, "."})
	return s, nil
}

// mmdebstrap fetches and unpacks packages of Debian's kind, into a tar at once.
func (s *script) mmdebstrap(r Recipe, work, mirror string, sources []sourceFile, hooks []string) {
	args := []string{
		"mmdebstrap", "--variant=minbase", "--format=tar", "--include=" + strings.Join(r.Packages, ","),
		"--hook-dir=/usr/share/mmdebstrap/hooks/maybe-merged-usr",
		`--aptopt=APT::Install-Recommends "false"`, `--aptopt=Acquire::Languages "none"`, `--aptopt=Acquire::Retries "3"`,
		"--dpkgopt=force-unsafe-io",
	}
	if len(r.Components) > 0 {
		args = append(args, "--components="+strings.Join(r.Components, ","))
	}
	for _, x := range r.Exclude {
		args = append(args, "--dpkgopt=path-exclude="+x)
	}
	for _, x := range r.Include {
		args = append(args, "--dpkgopt=path-include="+x)
	}
	for _, h := range hooks {
		args = append(args, "--customize-hook="+h) // it gets the tree's path as its argument
	}
	args = append(args, r.Suite, filepath.Join(work, "tree.tar"))
	if mirror != "" {
		args = append(args, mirror)
	} else {
		for _, f := range sources {
			s.Files = append(s.Files, scriptFile{f.Name, 0o644, f.Text})
			args = append(args, filepath.Join(work, f.Name))
		}
	}
	s.Commands = append(s.Commands, args)
	s.Programs = [][2]string{{"mmdebstrap", "mmdebstrap"}}
}

// repositoryPaths are the repositories of a recipe below its mirror.
func (r Recipe) repositoryPaths() (paths []string) {
	for _, p := range r.Repositories {
		paths = append(paths, p.Path)
	}
	return paths
}

// dnf installs packages into a directory (dnf(8): --installroot; dnf.conf(5) for the options of repositories).
func (s *script) dnf(r Recipe, work, root, mirror string) {
	var repos strings.Builder
	for _, p := range r.Repositories {
		// What is signed is checked with the keys that the distribution's own release package would bring: they lie beside the packages.
		fmt.Fprintf(&repos, "[%s]\nname=%s\nbaseurl=%s\nenabled=1\ngpgcheck=%d\ngpgkey=%s\n\n", p.Name, p.Name, joinURL(mirror, p.Path), btoi(p.Key != ""), joinURL(mirror, p.Key))
	}
	s.Files = append(s.Files, scriptFile{"repos/muster.repo", 0o644, repos.String()})
	args := []string{
		"dnf", "--assumeyes", "--installroot=" + root, "--releasever=" + r.Suite, "--setopt=reposdir=" + filepath.Join(work, "repos"), "--setopt=varsdir=/nonexistent",
		"--setopt=cachedir=" + filepath.Join(work, "dnf"), "--setopt=install_weak_deps=False", "--setopt=tsflags=nodocs", "--setopt=keepcache=False",
		"--forcearch=x86_64", "install",
	}
	s.Commands = append(s.Commands, append(args, r.Packages...))
	s.Programs = [][2]string{{"dnf", "dnf"}, {"tar", "tar"}}
}

// zypper installs packages into a directory (zypper(8): --root).
func (s *script) zypper(r Recipe, root, mirror string) {
	base := []string{"zypper", "--root", root, "--non-interactive", "--gpg-auto-import-keys"}
	for _, p := range r.Repositories {
		s.Commands = append(s.Commands, append(base[:len(base):len(base)], "addrepo", "--refresh", joinURL(mirror, p.Path), p.Name))
	}
	s.Commands = append(s.Commands, append(append(base[:len(base):len(base)], "install", "--no-recommends", "--auto-agree-with-licenses"), r.Packages...))
	s.Programs = [][2]string{{"zypper", "zypper"}, {"tar", "tar"}}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func joinURL(base, path string) string {
	if path == "" {
		return ""
	}
	return strings.TrimRight(base, "/") + "/" + strings.TrimLeft(path, "/")
}

// Repository is a source of packages below a mirror.
type Repository struct {
	Name string `json:"name"`
	Path string `json:"path"`          // below the mirror
	Key  string `json:"key,omitempty"` // of the packages' signatures, below the mirror; without one they are not checked
}

// ubuntu, el and suse are the recipes of the other families. Their kernels bring their own modules; what of Debian's lists has a sense
// there is taken over.
func ubuntu(debian Recipe, name, suite string) Recipe {
	r := debian
	r.Name, r.Suite = name, suite
	r.Components = []string{"main", "universe"}
	r.Packages = []string{
		"linux-image-generic", "linux-modules-extra-generic", "systemd-sysv", "udev", "dbus",
		"openssh-server", "iproute2", "kmod", "zstd", "procps", "ca-certificates",
	}
	return r
}

func el(debian Recipe, name, release string) Recipe {
	r := debian
	r.Name, r.Suite, r.Family = name, release, familyEL
	r.Packages = []string{
		"basesystem", "bash", "coreutils", "kernel-core", "kernel-modules", "systemd", "systemd-udev", "dbus-daemon",
		"openssh-server", "iproute", "kmod", "zstd", "procps-ng", "ca-certificates", "rpm", "passwd",
	}
	if release == "10" {
		r.Packages = append(r.Packages, "kernel-modules-core")
	}
	if release != "8" {
		r.Packages = append(r.Packages, "dbus-broker")
	}
	r.Exclude, r.Include = nil, nil
	r.Repositories = []Repository{{"baseos", "BaseOS/x86_64/os", ""}, {"appstream", "AppStream/x86_64/os", ""}}
	r.Drop = append(append([]string(nil), identityDrop...), "boot/initramfs", "boot/loader/", "var/cache/dnf/", "var/lib/dnf/", "var/log/")
	return r
}

func suse(debian Recipe, name, release string, repositories ...Repository) Recipe {
	r := debian
	r.Name, r.Suite, r.Family = name, release, familySUSE
	r.Packages = []string{
		"filesystem", "bash", "coreutils", "kernel-default", "systemd", "udev", "dbus-1", "openssh-server", "iproute2", "kmod", "zstd", "procps",
		"ca-certificates-mozilla", "rpm", "shadow",
	}
	r.Exclude, r.Include = nil, nil
	r.Repositories = repositories
	r.Drop = append(append([]string(nil), identityDrop...), "boot/initrd", "var/cache/zypp/", "var/log/")
	return r
}
