package rootfs

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"muster/internal/image/chunk"
)

// Without returns the tree less the paths that drop names, and what lies below them. A file that loses its first name keeps the others.
func (t Tree) Without(drop func(path string) bool) Tree {
	out := make(Tree, 0, len(t))
	gone := make(map[string]*Entry) // files whose first name went
	moved := make(map[string]string)
	below := ""
	for i := range t {
		e := t[i]
		if i > 0 && (below != "" && strings.HasPrefix(e.Path, below) || drop(e.Path)) {
			switch e.Type {
			case Directory:
				if below == "" || !strings.HasPrefix(e.Path, below) {
					below = e.Path + "/"
				}
			case HardLink:
			default:
				gone[e.Path] = &t[i]
			}
			continue
		}
		if e.Type == HardLink {
			if first := gone[e.Target]; first != nil && moved[e.Target] == "" {
				moved[e.Target] = e.Path
				path := e.Path
				e = *first
				e.Path = path
			} else if first != nil {
				e.Target = moved[e.Target]
			}
		}
		out = append(out, e)
	}
	return out
}

// With returns the tree with entries added, in the place of what has the same paths. Directories that they need belong to root and are of
// the time when. A directory that takes the place of a directory keeps what is in it.
func (t Tree) With(add []Entry, when time.Time) (Tree, error) {
	replaced := make(map[string]Type, len(add))
	for i := range add {
		replaced[add[i].Path] = add[i].Type
	}
	entries := make(map[string]*Entry, len(t)+len(add))
	rest := t.Without(func(p string) bool {
		kind, ok := replaced[p]
		return ok && !(kind == Directory && t.Find(p).Type == Directory)
	})
	for i := range rest {
		entries[rest[i].Path] = &rest[i]
	}
	for _, e := range add {
		entries[e.Path] = &e
	}
	for _, e := range add {
		for dir := path.Dir(e.Path); entries[dir] == nil; dir = path.Dir(dir) {
			entries[dir] = &Entry{Path: dir, Type: Directory, Mode: 0o755, Time: when}
		}
	}
	return assemble(entries)
}

// NewFile stores content and returns the entry of a file of root's with it.
func NewFile(w *chunk.Writer, path string, mode uint32, content []byte, when time.Time) (Entry, error) {
	e := Entry{Path: path, Type: File, Mode: mode, Time: when, Size: int64(len(content))}
	for len(content) > 0 {
		n := min(len(content), chunk.MaxSize)
		d, err := w.Put(content[:n])
		if err != nil {
			return e, err
		}
		e.Parts = append(e.Parts, Part{Digest: d, Size: int64(n)})
		content = content[n:]
	}
	return e, nil
}

// Pack is the tree's text, compressed, as it lies on disks and goes over networks.
func (t Tree) Pack() ([]byte, error) {
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	defer z.Close()
	return z.EncodeAll(t.Text(), nil), nil
}

// Unpack reads what Pack wrote.
func Unpack(packed []byte) (Tree, error) {
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxBytes))
	if err != nil {
		return nil, err
	}
	defer z.Close()
	text, err := z.DecodeAll(packed, nil)
	if err != nil {
		return nil, fmt.Errorf("a tree of %d bytes does not unpack: %w", len(packed), err)
	}
	return Parse(text)
}

// ReadFile reads a packed tree from a file.
func ReadFile(file string) (Tree, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	t, err := Unpack(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path.Base(file), err)
	}
	return t, nil
}

// Difference is one path that two trees do not have alike. Before is nil where it came, After where it went.
type Difference struct {
	Path          string
	Before, After *Entry
}

// What tells what differs, in words: "added", "removed", or of "type", "content", "mode", "owner", "time", "target", "device",
// "attributes" those that changed.
func (d *Difference) What() []string {
	switch {
	case d.Before == nil:
		return []string{"added"}
	case d.After == nil:
		return []string{"removed"}
	}
	b, a := d.Before, d.After
	var out []string
	differs := func(word string, is bool) {
		if is {
			out = append(out, word)
		}
	}
	differs("type", b.Type != a.Type)
	if b.Type == a.Type {
		differs("content", b.Size != a.Size || !slices.Equal(b.Parts, a.Parts))
		differs("target", b.Target != a.Target)
		differs("device", b.Major != a.Major || b.Minor != a.Minor)
	}
	differs("mode", b.Mode != a.Mode)
	differs("owner", b.UID != a.UID || b.GID != a.GID)
	differs("attributes", !slices.EqualFunc(b.Xattrs, a.Xattrs, func(x, y Xattr) bool { return x.Name == y.Name && string(x.Value) == string(y.Value) }))
	differs("time", !b.Time.Equal(a.Time))
	return out
}

// Diff lists what differs between two trees, in the order of the paths.
func Diff(before, after Tree) []Difference {
	var out []Difference
	for i, j := 0, 0; i < len(before) || j < len(after); {
		order := 0
		switch {
		case i == len(before):
			order = 1
		case j == len(after):
			order = -1
		default:
			order = Compare(before[i].Path, after[j].Path)
		}
		var d Difference
		if order <= 0 {
			d.Path, d.Before = before[i].Path, &before[i]
			i++
		}
		if order >= 0 {
			d.Path, d.After = after[j].Path, &after[j]
			j++
		}
		if len(d.What()) > 0 {
			out = append(out, d)
		}
	}
	return out
}

// Content reads all of a file of the tree, following links; fs.ErrNotExist is for none. limit is the most bytes that it may have.
func (t Tree) Content(name string, limit int64, get func(d chunk.Digest, buf []byte) ([]byte, error)) ([]byte, error) {
	e := t.Follow(name)
	if e == nil || e.Type != File {
		return nil, fmt.Errorf("%s: %w", name, os.ErrNotExist)
	}
	if e.Size > limit {
		return nil, fmt.Errorf("%s has %d bytes, more than the %d that it may have", name, e.Size, limit)
	}
	b := make([]byte, 0, e.Size)
	for _, p := range e.Parts {
		if p.Hole {
			b = append(b, make([]byte, p.Size)...)
			continue
		}
		plain, err := get(p.Digest, nil)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		b = append(b, plain...)
	}
	if int64(len(b)) != e.Size {
		return nil, errors.New(name + ": its chunks are not as long as the tree says")
	}
	return b, nil
}
