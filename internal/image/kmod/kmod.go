// Package kmod reads what depmod wrote about the modules of one kernel: who needs whom (modules.dep) and which device
// wants which module (modules.alias).
//
//	kernel/drivers/net/virtio_net.ko: kernel/net/core/failover.ko kernel/drivers/virtio/virtio.ko
//	alias virtio:d00000001v* virtio_net
//
// The image build uses it to choose the modules of the initramfs; the boot init uses it to load them. It is pure: text in,
// values out.
package kmod

import (
	"bufio"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
)

// Deps tells for every module file, as its path below /lib/modules/RELEASE, the module files it needs, in the order of
// modules.dep: the last one is to be loaded first.
type Deps map[string][]string

// ReadDeps parses a modules.dep. A line without a colon is an error that names its number.
func ReadDeps(r io.Reader) (Deps, error) {
	d := make(Deps)
	s := scanner(r)
	for n := 1; s.Scan(); n++ {
		line := strings.TrimSpace(s.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		file, needs, ok := strings.Cut(line, ":")
		if !ok || file == "" {
			return nil, fmt.Errorf("modules.dep line %d: %q is not \"FILE: NEEDED…\"", n, line)
		}
		d[file] = strings.Fields(needs)
	}
	return d, s.Err()
}

// Write prints the table in the form of modules.dep, sorted by file.
func (d Deps) Write(w io.Writer) error {
	for _, f := range d.files() {
		line := f + ":"
		for _, n := range d[f] {
			line += " " + n
		}
		if _, err := io.WriteString(w, line+"\n"); err != nil {
			return err
		}
	}
	return nil
}

func (d Deps) files() []string {
	files := make([]string, 0, len(d))
	for f := range d {
		files = append(files, f)
	}
	slices.Sort(files)
	return files
}

// Names maps the name of every module to its file.
func (d Deps) Names() map[string]string {
	names := make(map[string]string, len(d))
	for f := range d {
		names[Name(f)] = f
	}
	return names
}

// Order returns the files to load for one module file, those that it needs first and itself last. A file that the table
// does not hold is an error.
func (d Deps) Order(file string) ([]string, error) {
	needs, ok := d[file]
	if !ok {
		return nil, fmt.Errorf("module %s is not in modules.dep", file)
	}
	order := make([]string, 0, len(needs)+1)
	for _, n := range slices.Backward(needs) {
		if _, ok := d[n]; !ok {
			return nil, fmt.Errorf("module %s needs %s, which is not in modules.dep", file, n)
		}
		if !slices.Contains(order, n) && n != file {
			order = append(order, n)
		}
	}
	return append(order, file), nil
}

// Subset keeps the named modules and all that they need. Missing holds the names that this kernel does not have as
// modules: they may be built in.
func (d Deps) Subset(names []string) (sub Deps, missing []string, err error) {
	all := d.Names()
	sub = make(Deps)
	for _, n := range names {
		f, ok := all[canonical(n)]
		if !ok {
			missing = append(missing, n)
			continue
		}
		order, err := d.Order(f)
		if err != nil {
			return nil, nil, err
		}
		for _, o := range order {
			sub[o] = d[o]
		}
	}
	return sub, missing, nil
}

// Name is the name of the module in a file: without folders and endings, with "-" written as "_" as the kernel does.
func Name(file string) string {
	base := path.Base(file)
	if i := strings.Index(base, ".ko"); i >= 0 {
		base = base[:i]
	}
	return canonical(base)
}

func canonical(name string) string { return strings.ReplaceAll(name, "-", "_") }

// Alias says that a device whose modalias matches Pattern (as fnmatch does) wants Module.
type Alias struct{ Pattern, Module string }

// ReadAliases parses a modules.alias; keep tells which modules are of interest, nil means all.
func ReadAliases(r io.Reader, keep func(module string) bool) ([]Alias, error) {
	var as []Alias
	s := scanner(r)
	for n := 1; s.Scan(); n++ {
		line := strings.TrimSpace(s.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		f := strings.Fields(line)
		if len(f) < 3 || f[0] != "alias" {
			return nil, fmt.Errorf("modules.alias line %d: %q is not \"alias PATTERN MODULE\"", n, line)
		}
		// A pattern may hold spaces (dmi strings); the module never does.
		module := canonical(f[len(f)-1])
		if keep == nil || keep(module) {
			as = append(as, Alias{Pattern: strings.Join(f[1:len(f)-1], " "), Module: module})
		}
	}
	return as, s.Err()
}

// Match returns the modules that want the device, in the order of the table, each once.
func Match(as []Alias, modalias string) []string {
	var mods []string
	for _, a := range as {
		// Most patterns differ in their first letters: a table has thousands of them.
		if i := strings.IndexAny(a.Pattern, `*?[\`); i > 0 && !strings.HasPrefix(modalias, a.Pattern[:i]) {
			continue
		}
		if ok, err := path.Match(a.Pattern, modalias); err == nil && ok && !slices.Contains(mods, a.Module) {
			mods = append(mods, a.Module)
		}
	}
	return mods
}

func scanner(r io.Reader) *bufio.Scanner {
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	return s
}
