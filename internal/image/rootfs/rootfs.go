// Package rootfs is the tree of an operating system as a value: every file with all that makes it that file, and its content by
// digest. It takes trees from a directory or a tar into a [chunk.Store] and puts them back, on all cores.
//
//	muster-tree 1
//	d . 755 0 0 1700000000.000000000
//	f bin/ping 755 0 0 1700000000.250000000 90568 2c26…7ae:90568 x:security.capability=0100000200200000
//	h bin/ping4 bin/ping
//	l bin/sh 777 0 0 1700000000.000000000 dash
//	c dev/null 666 0 0 1700000000.000000000 1:3
//	p run/initctl 600 0 0 1700000000.000000000
//	f var/disk 600 0 0 1700000000.000000000 1052672 ~1048576,9f86…a08:4096
//	end 8
//
// A line is: type (file, directory, link, hard link, character or block device, pipe), path, permissions in octal, owner, group, time of
// the last change, and by type: size and parts (digest and bytes of a chunk, or "~" and bytes of a hole; "-" for none), target, device
// numbers; then extended attributes in hex, which hold ACLs (system.posix_acl_*) and capabilities (security.capability). In paths,
// targets and names of attributes "\ooo" is one byte: all but the printable characters of ASCII are written so. Sockets are not part of a
// tree: whoever listens makes them.
//
// Entries are sorted by the parts of their paths, a directory before what is in it; the first name of a file is the file, its others are
// hard links to it. So a tree has exactly one form, and the digest of that form names the tree.
package rootfs

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"muster/internal/image/chunk"
)

// Type is what an entry is, as its line begins.
type Type byte

// The types of entries.
const (
	File      Type = 'f'
	Directory Type = 'd'
	Link      Type = 'l' // symbolic
	HardLink  Type = 'h'
	Char      Type = 'c'
	Block     Type = 'b'
	Pipe      Type = 'p'
)

// Entry is one name of a tree.
type Entry struct {
	Path   string // "." is the tree itself; "usr/bin/env"
	Type   Type
	Mode   uint32 // permission bits, with set-user-id, set-group-id and sticky
	UID    uint32
	GID    uint32
	Time   time.Time // of the last change of its content
	Target string    // of a link as it stands; of a hard link the path of the file
	Major  uint32
	Minor  uint32
	Size   int64  // of a file, with its holes
	Parts  []Part // of a file, in order; they add up to Size
	Xattrs []Xattr
}

// Part is a piece of a file: a chunk, or a hole where Hole is set.
type Part struct {
	Digest chunk.Digest
	Size   int64
	Hole   bool
}

// Xattr is an extended attribute; those of an entry are sorted by name.
type Xattr struct {
	Name  string
	Value []byte
}

// Tree is all entries, sorted. See the package comment for what makes it valid.
type Tree []Entry

const (
	header   = "muster-tree 1"
	maxPath  = 4096
	maxBytes = 1 << 30 // of a tree's text: some five million entries
)

// Compare orders paths by their parts.
func Compare(a, b string) int {
	for i := 0; i < len(a) && i < len(b); i++ {
		if a[i] != b[i] {
			return cmp.Compare(rank(a, i), rank(b, i))
		}
	}
	return cmp.Compare(len(a), len(b))
}

// rank puts the tree itself before all, and the end of a part before all characters.
func rank(p string, i int) int {
	switch {
	case p == ".":
		return -1
	case p[i] == '/':
		return 0
	}
	return int(p[i]) + 1
}

// Find returns the entry of a path, nil when there is none.
func (t Tree) Find(p string) *Entry {
	i, ok := slices.BinarySearchFunc(t, p, func(e Entry, p string) int { return Compare(e.Path, p) })
	if !ok {
		return nil
	}
	return &t[i]
}

// Follow is Find that follows symbolic links, as the running system would.
func (t Tree) Follow(p string) *Entry {
	for range 40 {
		done, rest := "", strings.Split(p, "/")
		next := ""
		for i, part := range rest {
			at := strings.TrimPrefix(done+"/"+part, "/")
			e := t.Find(at)
			if e == nil {
				return nil
			}
			if e.Type == Link {
				to := e.Target
				if !path.IsAbs(to) {
					to = path.Join("/", path.Dir(at), to)
				}
				next = strings.TrimPrefix(path.Join("/", to, strings.Join(rest[i+1:], "/")), "/")
				break
			}
			done = at
		}
		if next == "" {
			e := t.Find(done)
			if e != nil && e.Type == HardLink {
				return t.Find(e.Target)
			}
			return e
		}
		p = next
	}
	return nil
}

// Chunks calls each for every chunk of the tree, one that occurs twice twice.
func (t Tree) Chunks(each func(chunk.Digest, int64)) {
	for i := range t {
		for _, p := range t[i].Parts {
			if !p.Hole {
				each(p.Digest, p.Size)
			}
		}
	}
}

// Size is how many bytes the files of the tree have, holes not counted.
func (t Tree) Size() (n int64) {
	t.Chunks(func(_ chunk.Digest, size int64) { n += size })
	return n
}

// Digest names the tree.
func (t Tree) Digest() chunk.Digest { return chunk.Sum(t.Text()) }

// Text is the tree's one form.
func (t Tree) Text() []byte {
	b := append(make([]byte, 0, 160*len(t)+64), header+"\n"...)
	for i := range t {
		b = append(t[i].append(b), '\n')
	}
	return fmt.Appendf(b, "end %d\n", len(t))
}

// String is the entry's line.
func (e *Entry) String() string { return string(e.append(nil)) }

func (e *Entry) append(b []byte) []byte {
	b = append(b, byte(e.Type), ' ')
	b = escape(b, e.Path)
	if e.Type == HardLink {
		return escape(append(b, ' '), e.Target)
	}
	b = strconv.AppendUint(append(b, ' '), uint64(e.Mode), 8)
	b = strconv.AppendUint(append(b, ' '), uint64(e.UID), 10)
	b = strconv.AppendUint(append(b, ' '), uint64(e.GID), 10)
	b = strconv.AppendInt(append(b, ' '), e.Time.Unix(), 10)
	b = append(b, '.')
	nsec := strconv.Itoa(e.Time.Nanosecond())
	b = append(append(b, "000000000"[len(nsec):]...), nsec...)
	switch e.Type {
	case Link:
		b = escape(append(b, ' '), e.Target)
	case Char, Block:
		b = fmt.Appendf(b, " %d:%d", e.Major, e.Minor)
	case File:
		b = strconv.AppendInt(append(b, ' '), e.Size, 10)
		b = append(b, ' ')
		for i, p := range e.Parts {
			if i > 0 {
				b = append(b, ',')
			}
			if p.Hole {
				b = append(b, '~')
			} else {
				b = append(hex.AppendEncode(b, p.Digest[:]), ':')
			}
			b = strconv.AppendInt(b, p.Size, 10)
		}
		if len(e.Parts) == 0 {
			b = append(b, '-')
		}
	}
	for _, x := range e.Xattrs {
		b = append(escape(append(b, " x:"...), x.Name), '=')
		b = hex.AppendEncode(b, x.Value)
	}
	return b
}

// escape writes text so that it has neither spaces nor line ends.
func escape(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c > ' ' && c < 0x7f && c != '\\' {
			b = append(b, c)
		} else {
			b = append(b, '\\', '0'+c>>6, '0'+c>>3&7, '0'+c&7)
		}
	}
	return b
}

func unescape(s string) (string, error) {
	if !strings.Contains(s, "\\") {
		return s, nil
	}
	var b []byte
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b = append(b, s[i])
			continue
		}
		if i+4 > len(s) {
			return "", fmt.Errorf("%q ends in half a character", s)
		}
		n, err := strconv.ParseUint(s[i+1:i+4], 8, 8)
		if err != nil {
			return "", fmt.Errorf("%q: want three octal digits after a backslash", s)
		}
		b = append(b, byte(n))
		i += 3
	}
	return string(b), nil
}

// Parse reads a tree's text. It takes exactly what [Tree.Text] writes for a valid tree; an error names the line.
func Parse(text []byte) (Tree, error) {
	if len(text) > maxBytes {
		return nil, fmt.Errorf("a tree of %d bytes is too long: at most %d", len(text), maxBytes)
	}
	line, rest, _ := bytes.Cut(text, []byte("\n"))
	if string(line) != header {
		return nil, fmt.Errorf("this is no tree, or of another version: it begins with %.40q, want %q", line, header)
	}
	t := make(Tree, 0, bytes.Count(rest, []byte("\n")))
	var again []byte
	for n := 2; ; n++ {
		var ok bool
		if line, rest, ok = bytes.Cut(rest, []byte("\n")); !ok {
			return nil, fmt.Errorf("the tree is cut off after line %d", n-1)
		}
		if count, found := bytes.CutPrefix(line, []byte("end ")); found {
			if string(count) != strconv.Itoa(len(t)) || len(rest) != 0 {
				return nil, fmt.Errorf("line %d: the end of the tree stands after %d entries and says %q", n, len(t), count)
			}
			return t, t.check()
		}
		e, err := parseEntry(string(line))
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if again = e.append(again[:0]); !bytes.Equal(again, line) {
			return nil, fmt.Errorf("line %d: %q is to be written %q", n, line, again)
		}
		t = append(t, e)
	}
}

func parseEntry(line string) (e Entry, err error) {
	fields := strings.Split(line, " ")
	next := func() string {
		if len(fields) == 0 {
			if err == nil {
				err = fmt.Errorf("%q is too short", line)
			}
			return ""
		}
		f := fields[0]
		fields = fields[1:]
		return f
	}
	text := func() string {
		s, uerr := unescape(next())
		err = cmp.Or(err, uerr)
		return s
	}
	number := func(s string, base, bits int) uint64 {
		n, nerr := strconv.ParseUint(s, base, bits)
		err = cmp.Or(err, nerr)
		return n
	}
	if t := next(); len(t) == 1 && strings.Contains("fdlhcbp", t) {
		e.Type = Type(t[0])
	} else {
		return e, fmt.Errorf("%q is no type of entry", t)
	}
	e.Path = text()
	if e.Type == HardLink {
		e.Target = text()
	} else {
		e.Mode = uint32(number(next(), 8, 12))
		e.UID, e.GID = uint32(number(next(), 10, 32)), uint32(number(next(), 10, 32))
		sec, nsec, _ := strings.Cut(next(), ".")
		s, serr := strconv.ParseInt(sec, 10, 64)
		err = cmp.Or(err, serr)
		e.Time = time.Unix(s, int64(number(nsec, 10, 30)))
	}
	switch e.Type {
	case Link:
		e.Target = text()
	case Char, Block:
		major, minor, _ := strings.Cut(next(), ":")
		e.Major, e.Minor = uint32(number(major, 10, 32)), uint32(number(minor, 10, 32))
	case File:
		e.Size = int64(number(next(), 10, 63))
		parts := next()
		if parts == "-" {
			break
		}
		for p := range strings.SplitSeq(parts, ",") {
			var part Part
			size, hole := strings.CutPrefix(p, "~")
			if part.Hole = hole; !hole {
				var digest string
				digest, size, _ = strings.Cut(p, ":")
				var derr error
				part.Digest, derr = chunk.ParseDigest(digest)
				err = cmp.Or(err, derr)
			}
			part.Size = int64(number(size, 10, 63))
			e.Parts = append(e.Parts, part)
		}
	}
	for len(fields) > 0 && err == nil {
		name, value, ok := strings.Cut(strings.TrimPrefix(next(), "x:"), "=")
		if !ok {
			return e, fmt.Errorf("%q has something that is no attribute", line)
		}
		var x Xattr
		if x.Name, err = unescape(name); err != nil {
			return e, err
		}
		if x.Value, err = hex.DecodeString(value); err != nil {
			return e, err
		}
		e.Xattrs = append(e.Xattrs, x)
	}
	return e, err
}

// check sees that a tree is valid: what Restore would write lies inside the tree, and the form is the only one.
func (t Tree) check() error {
	if len(t) == 0 || t[0].Path != "." || t[0].Type != Directory {
		return errors.New("a tree begins with its own directory, \".\"")
	}
	directories := map[string]bool{".": true}
	files := make(map[string]Type)
	for i := range t {
		e := &t[i]
		if err := e.check(); err != nil {
			return fmt.Errorf("entry %q: %w", e.Path, err)
		}
		if i > 0 {
			if c := Compare(t[i-1].Path, e.Path); c >= 0 {
				return fmt.Errorf("entry %q stands after %q: entries are sorted, each once", e.Path, t[i-1].Path)
			}
			if !directories[path.Dir(e.Path)] {
				return fmt.Errorf("entry %q lies in no directory of the tree", e.Path)
			}
		}
		switch e.Type {
		case Directory:
			directories[e.Path] = true
		case HardLink:
			if files[e.Target] == 0 {
				return fmt.Errorf("entry %q is a link to %q, which is no earlier file", e.Path, e.Target)
			}
		default:
			files[e.Path] = e.Type
		}
	}
	return nil
}

func (e *Entry) check() error {
	switch {
	case e.Path == "" || len(e.Path) > maxPath || e.Path != path.Clean(e.Path) || e.Path[0] == '/' || e.Path == ".." || strings.HasPrefix(e.Path, "../") || strings.Contains(e.Path, "\x00"):
		return errors.New("this is no path inside a tree")
	case (e.Type == Link || e.Type == HardLink) && (e.Target == "" || len(e.Target) > maxPath || strings.Contains(e.Target, "\x00")):
		return errors.New("it links to nothing")
	case e.Time.Nanosecond() >= 1e9:
		return errors.New("its time is none")
	}
	var size int64
	for i, p := range e.Parts {
		if p.Size <= 0 || !p.Hole && p.Size > chunk.MaxSize || p.Hole && i > 0 && e.Parts[i-1].Hole || p.Size > e.Size-size {
			return errors.New("its parts are not those of a file of its size")
		}
		size += p.Size
	}
	if size != e.Size {
		return fmt.Errorf("its parts have %d bytes, it has %d", size, e.Size)
	}
	for i, x := range e.Xattrs {
		if x.Name == "" || strings.ContainsAny(x.Name, "=\x00") || i > 0 && e.Xattrs[i-1].Name >= x.Name {
			return errors.New("its attributes are not sorted, each once")
		}
	}
	return nil
}

// Reader returns the content of a file, read from where its chunks are.
func (e *Entry) Reader(get func(d chunk.Digest, buf []byte) ([]byte, error)) io.Reader {
	return &reader{parts: e.Parts, get: get}
}

type reader struct {
	parts []Part
	get   func(chunk.Digest, []byte) ([]byte, error)
	buf   []byte
	have  []byte
	zeros int64
}

func (r *reader) Read(p []byte) (int, error) {
	for len(r.have) == 0 && r.zeros == 0 {
		if len(r.parts) == 0 {
			return 0, io.EOF
		}
		part := r.parts[0]
		r.parts = r.parts[1:]
		if part.Hole {
			r.zeros = part.Size
			continue
		}
		b, err := r.get(part.Digest, r.buf)
		if err != nil {
			return 0, err
		}
		if int64(len(b)) != part.Size {
			return 0, fmt.Errorf("chunk %s has %d bytes, the tree says %d", part.Digest, len(b), part.Size)
		}
		r.buf, r.have = b, b
	}
	if r.zeros > 0 {
		n := int(min(r.zeros, int64(len(p))))
		clear(p[:n])
		r.zeros -= int64(n)
		return n, nil
	}
	n := copy(p, r.have)
	r.have = r.have[n:]
	return n, nil
}
