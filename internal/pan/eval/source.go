package eval

import (
	"crypto/sha256"
	"io/fs"
	"iter"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
)

// Dir is one directory of the include path: where it is in the file system given, and how messages and dependencies print it
// (panc prints absolute paths).
type Dir struct {
	Path  string // of io/fs: no leading slash, cleaned
	Shown string
}

// Source is the answer to one look-up of a name along the load path. It is shared and does not change.
type Source struct {
	Name   string
	Text   bool   // looked up by file_contents or file_exists, not as a template
	Path   string // of io/fs; "" when there is no such file
	Shown  string // the file as printed
	Dir    string // the directory that Name was found below, as printed
	IsDir  bool
	Absent []string // the files of io/fs that would have been taken before Path, had they been there
}

// Found says whether a file was found.
func (s *Source) Found() bool { return s.Path != "" }

// extensions are what a template's file may end in, in panc's order.
var extensions = []string{".pan", ".tpl"}

// loadpath is one value of LOADPATH, interned, so that a look-up is one map access.
type loadpath struct {
	dirs []string // the first is ""
	mu   sync.RWMutex
	pan  map[string]*Source
	text map[string]*Source
}

// sources answers look-ups, each once.
type sources struct {
	fsys    fs.FS
	include []Dir

	mu    sync.RWMutex
	paths map[string]*loadpath
	dirs  map[string]map[string]bool   // directory -> its names, true for a directory; nil when it is none
	texts map[string][sha256.Size]byte // what file_contents() has read
	empty *loadpath
}

func newSources(fsys fs.FS, include []Dir) *sources {
	s := &sources{fsys: fsys, include: include, paths: map[string]*loadpath{}, dirs: map[string]map[string]bool{}, texts: map[string][sha256.Size]byte{}}
	s.empty = s.loadpath([]string{""})
	return s
}

// loadpath interns the directories that are looked at below each directory of the include path.
func (s *sources) loadpath(dirs []string) *loadpath {
	key := strings.Join(dirs, "\x00")
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.paths[key]
	if l == nil {
		l = &loadpath{dirs: slices.Clone(dirs), pan: map[string]*Source{}, text: map[string]*Source{}}
		s.paths[key] = l
	}
	return l
}

// lookup finds a template (or with text any file): for each include directory, for each directory of the load path, for each
// extension.
func (s *sources) lookup(l *loadpath, name string, text bool) *Source {
	cache := l.pan
	if text {
		cache = l.text
	}
	l.mu.RLock()
	found := cache[name]
	l.mu.RUnlock()
	if found != nil {
		return found
	}
	found = s.find(l, name, text)
	l.mu.Lock()
	defer l.mu.Unlock()
	if other := cache[name]; other != nil {
		return other
	}
	cache[name] = found
	return found
}

func (s *sources) find(l *loadpath, name string, text bool) *Source {
	r := &Source{Name: name, Text: text}
	suffixes := extensions
	if text {
		suffixes = []string{""}
	}
	for _, d := range s.include {
		for _, rel := range l.dirs {
			for _, suffix := range suffixes {
				p := path.Join(d.Path, rel, name+suffix)
				there, isDir := s.stat(p)
				if !there {
					r.Absent = append(r.Absent, p)
					continue
				}
				r.Path, r.IsDir = p, isDir
				r.Dir = joinShown(d.Shown, rel)
				r.Shown = joinShown(r.Dir, name+suffix)
				return r
			}
		}
	}
	return r
}

// joinShown joins as java.io.File does: no cleaning but of doubled and trailing slashes.
func joinShown(dir, rel string) string {
	rel = strings.Trim(rel, "/")
	for strings.Contains(rel, "//") {
		rel = strings.ReplaceAll(rel, "//", "/")
	}
	switch {
	case rel == "":
		return dir
	case dir == "":
		return rel
	}
	return strings.TrimSuffix(dir, "/") + "/" + rel
}

// stat asks the file system for whole directories, once each: a look-up of one name tries many files that are not there.
func (s *sources) stat(p string) (there, isDir bool) {
	if !fs.ValidPath(p) {
		return false, false
	}
	dir, base := path.Split(p)
	dir = path.Clean(dir)
	s.mu.RLock()
	names, known := s.dirs[dir]
	s.mu.RUnlock()
	if !known {
		names = s.list(dir)
		s.mu.Lock()
		s.dirs[dir] = names
		s.mu.Unlock()
	}
	isDir, there = names[base]
	return there, isDir
}

// read reads a file for file_contents().
func (s *sources) read(src *Source) ([]byte, error) {
	b, err := fs.ReadFile(s.fsys, src.Path)
	if err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.texts[src.Path] = sha256.Sum256(b)
	}
	return b, err
}

// names are what a directory holds.
func (s *sources) names(dir string) iter.Seq[string] {
	s.stat(path.Join(dir, "."+extensions[0])) // so that it has been read
	s.mu.RLock()
	defer s.mu.RUnlock()
	return maps.Keys(s.dirs[dir])
}

// list reads a directory; where that is not allowed or the directory is a link loop, it is as if it were empty.
func (s *sources) list(dir string) map[string]bool {
	if dir != "." {
		// a directory that its parent does not list is not there: no need to ask
		parent := path.Dir(dir)
		s.mu.RLock()
		names, known := s.dirs[parent]
		s.mu.RUnlock()
		if known {
			if _, there := names[path.Base(dir)]; !there && names != nil {
				return nil
			}
		}
	}
	entries, err := fs.ReadDir(s.fsys, dir)
	if err != nil {
		return nil
	}
	names := make(map[string]bool, len(entries))
	for _, e := range entries {
		isDir := e.IsDir()
		if e.Type()&fs.ModeSymlink != 0 {
			i, err := fs.Stat(s.fsys, path.Join(dir, e.Name()))
			if err != nil {
				continue // a link to nowhere does not exist, for Java neither
			}
			isDir = i.IsDir()
		}
		names[e.Name()] = isDir
	}
	return names
}

// changed adds to files those whose presence makes a look-up come out otherwise now, and files that are no templates: those may have
// another content.
func (s *sources) changed(files map[string]bool) {
	now := newSources(s.fsys, s.include)
	for _, l := range s.paths {
		fresh := now.loadpath(l.dirs)
		for _, cache := range []map[string]*Source{l.pan, l.text} {
			for name, old := range cache {
				src := now.lookup(fresh, name, old.Text)
				if src.Path != old.Path {
					files[or(src.Path, old.Path)] = true
					continue
				}
				if _, read := s.texts[old.Path]; !read {
					continue
				}
				if b, err := fs.ReadFile(s.fsys, old.Path); err != nil || sha256.Sum256(b) != s.texts[old.Path] {
					files[old.Path] = true
				}
			}
		}
	}
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// forget drops what is known of the files given, and tells which look-ups had to do with them.
func (s *sources) forget(changed map[string]bool) map[*Source]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p := range changed {
		for d := path.Dir(p); ; d = path.Dir(d) {
			delete(s.dirs, d)
			if d == "." {
				break
			}
		}
	}
	gone := map[*Source]bool{}
	for _, l := range s.paths {
		for _, cache := range []map[string]*Source{l.pan, l.text} {
			for name, src := range cache {
				if changed[src.Path] || slices.ContainsFunc(src.Absent, func(p string) bool { return changed[p] }) {
					gone[src] = true
					delete(cache, name)
				}
			}
		}
	}
	return gone
}

// validInclude is the stricter form for include: it starts with a word character, and no part is empty.
func validInclude(name string) bool {
	for i, p := range strings.Split(name, "/") {
		if p == "" || i == 0 && !wordByte(p[0]) {
			return false
		}
		for j := 0; j < len(p); j++ {
			if c := p[j]; !wordByte(c) && c != '.' && c != '+' && c != '-' {
				return false
			}
		}
	}
	return true
}

func wordByte(c byte) bool {
	return c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}
