package tree

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"
)

// DepType is the kind of a file that a profile depends on.
type DepType uint8

// The types, in panc's order.
const (
	Pan          DepType = iota // a template in NAME.pan
	Tpl                         // a template in NAME.tpl
	TextFile                    // a file that file_contents or file_exists found
	AbsentSource                // a template that was looked for in vain: one that comes changes the profile
	AbsentText                  // a file that was looked for in vain
)

var depTypes = [...]string{"PAN", "TPL", "TEXT", "ABSENT_SOURCE", "ABSENT_TEXT"}

func (t DepType) String() string { return depTypes[t] }

// Dep is one file that a profile depends on.
type Dep struct {
	Name string // of the template or file: quattor/schema
	Type DepType
	// Dir is the absolute path of the directory below which Name was found; "" for what is absent.
	Dir string
}

// Compare orders as panc does: by name, type and place.
func (d Dep) Compare(o Dep) int {
	if c := cmp.Or(strings.Compare(d.Name, o.Name), cmp.Compare(d.Type, o.Type)); c != 0 || d.Dir == o.Dir {
		return c
	}
	return strings.Compare(d.Dir+"/", o.Dir+"/")
}

// WriteDeps writes the dep format: a line per file, sorted, each file once: name, type, and the directory as a file: URI.
func WriteDeps(w io.Writer, deps []Dep) error {
	deps = slices.Clone(deps)
	slices.SortFunc(deps, Dep.Compare)
	b := bufio.NewWriter(w)
	for _, d := range slices.Compact(deps) {
		b.WriteString(d.Name)
		b.WriteByte(' ')
		b.WriteString(d.Type.String())
		b.WriteByte(' ')
		if d.Dir != "" {
			b.WriteString("file:")
			b.WriteString(uriPath(d.Dir))
		}
		b.WriteByte('\n')
	}
	return b.Flush()
}

// uriPath is a directory as java.io.File.toURI and URI.toASCIIString give it: with a slash at the end, percent-escaped but for what a path
// may hold (RFC 2396 section 3.3).
func uriPath(dir string) string {
	if !strings.HasSuffix(dir, "/") {
		dir += "/"
	}
	b := make([]byte, 0, len(dir))
	for i := range len(dir) {
		if c := dir[i]; isWord(c) || strings.IndexByte("-!.~'()*,;:$&+=@/", c) >= 0 {
			b = append(b, c)
		} else {
			b = append(b, '%', "0123456789ABCDEF"[c>>4], "0123456789ABCDEF"[c&15])
		}
	}
	return string(b)
}

// ParseDeps reads what WriteDeps writes.
func ParseDeps(s string) ([]Dep, error) {
	var deps []Dep
	for n := 1; s != ""; n++ {
		var line string
		line, s, _ = strings.Cut(s, "\n")
		fields := strings.Split(line, " ")
		if len(fields) != 3 {
			return nil, fmt.Errorf("line %d: %q is not a name, a type and a URI", n, line)
		}
		t := slices.Index(depTypes[:], fields[1])
		if t < 0 {
			return nil, fmt.Errorf("line %d: type %q is none of %s", n, fields[1], strings.Join(depTypes[:], " "))
		}
		d := Dep{Name: fields[0], Type: DepType(t)}
		if !ValidTemplateName(d.Name) {
			return nil, fmt.Errorf("line %d: %q cannot be a template's name", n, d.Name)
		}
		if absent := d.Type >= AbsentSource; absent != (fields[2] == "") {
			return nil, fmt.Errorf("line %d: type %s with place %q", n, d.Type, fields[2])
		} else if !absent {
			path, ok := strings.CutPrefix(fields[2], "file:")
			dir, err := url.PathUnescape(path)
			if !ok || err != nil || !strings.HasPrefix(dir, "/") || !utf8.ValidString(dir) {
				return nil, fmt.Errorf("line %d: %q is not the file: URI of a directory", n, fields[2])
			}
			if dir != "/" {
				dir = strings.TrimSuffix(dir, "/")
			}
			d.Dir = dir
		}
		deps = append(deps, d)
	}
	return deps, nil
}
