package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"muster/internal/image/kmod"
)

// moduleSet loads kernel modules of the initramfs: those listed in lib/modules/load, and those that the devices want.
type moduleSet struct {
	dir     string // holds the modules and their tables
	deps    kmod.Deps
	names   map[string]string
	aliases []kmod.Alias
	loaded  map[string]bool // by file
}

func openModules(dir string) (*moduleSet, error) {
	s := &moduleSet{dir: dir, loaded: make(map[string]bool)}
	dep, err := os.Open(filepath.Join(dir, "modules.dep"))
	if err != nil {
		return nil, err
	}
	defer dep.Close()
	if s.deps, err = kmod.ReadDeps(dep); err != nil {
		return nil, err
	}
	s.names = s.deps.Names()
	alias, err := os.Open(filepath.Join(dir, "modules.alias"))
	if err != nil {
		return nil, err
	}
	defer alias.Close()
	s.aliases, err = kmod.ReadAliases(alias, nil)
	return s, err
}

// always loads the modules that every machine needs.
func (s *moduleSet) always() error {
	b, err := os.ReadFile(filepath.Join(s.dir, "load"))
	if err != nil {
		return err
	}
	for _, name := range strings.Fields(string(b)) {
		if err := s.load(name); err != nil {
			return err
		}
	}
	return nil
}

// devices loads what the devices of the machine want. A driver may bring a bus with more devices (virtio), so it goes
// round until nothing new is found. A module that does not load is no reason to stop: another port may be the one.
func (s *moduleSet) devices() (loaded []string, problems []error) {
	seen := make(map[string]bool)
	for {
		before := len(seen)
		paths, _ := filepath.Glob("/sys/bus/*/devices/*/modalias")
		for _, p := range paths {
			modalias := readLine(p)
			if modalias == "" || seen[modalias] {
				continue
			}
			seen[modalias] = true
			for _, m := range kmod.Match(s.aliases, modalias) {
				if s.loaded[s.names[m]] {
					continue
				}
				if err := s.load(m); err != nil {
					problems = append(problems, err)
					continue
				}
				loaded = append(loaded, m)
			}
		}
		if len(seen) == before {
			return loaded, problems
		}
	}
}

// load loads a module with what it needs. A name that the initramfs does not have is built into the kernel.
func (s *moduleSet) load(name string) error {
	file, ok := s.names[kmod.Name(name)]
	if !ok {
		return nil
	}
	order, err := s.deps.Order(file)
	if err != nil {
		return err
	}
	for _, f := range order {
		if s.loaded[f] {
			continue
		}
		if err := insert(filepath.Join(s.dir, f)); err != nil {
			return fmt.Errorf("module %s: %w", kmod.Name(f), err)
		}
		s.loaded[f] = true
	}
	return nil
}

// insert gives a module file to the kernel (finit_module(2)); one that is there already is fine.
func insert(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	return nil
}
