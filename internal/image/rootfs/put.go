package rootfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"muster/internal/image/chunk"
)

// PutOptions is how a directory is taken. The zero value takes all of it.
type PutOptions struct {
	// Skip tells of a path inside the tree that it, and what is in it, is left out; nil leaves nothing out.
	Skip func(path string) bool
	// OneFileSystem leaves the contents of mount points out; the directories stay.
	OneFileSystem bool
	// Vanished is told of a file that went away while it was read: it is left out. Nil makes that an error.
	Vanished func(path string)
}

// Put takes the tree below dir into the store, on all cores. The chunks are durable after w.Flush.
func Put(ctx context.Context, w *chunk.Writer, dir string, o PutOptions) (Tree, error) {
	g, ctx := errgroup.WithContext(ctx)
	p := &putter{w: w, dir: dir, o: o, inodes: make(map[inode]string), files: make(chan *Entry, 256), pieces: make(chan piece)}
	g.Go(func() error {
		defer close(p.files)
		return p.walk(ctx)
	})
	n := runtime.GOMAXPROCS(0)
	var readers sync.WaitGroup
	readers.Add(n)
	for range n {
		g.Go(func() error {
			defer readers.Done()
			return p.read(ctx)
		})
		g.Go(func() error { return p.store(ctx) })
	}
	g.Go(func() error {
		readers.Wait()
		close(p.pieces)
		return nil
	})
	if err := g.Wait(); err != nil {
		return nil, err
	}
	t := make(Tree, 0, len(p.entries))
	gone := make(map[string]bool)
	for _, e := range p.entries {
		switch {
		case e.Type == 0:
			gone[e.Path] = true
		case e.Type == HardLink && gone[e.Target]:
			p.o.Vanished(e.Path)
		default:
			t = append(t, *e)
		}
	}
	return t, t.check()
}

type inode struct{ dev, ino uint64 }

// putter is one run of Put. The walk makes the entries in their order and hands them on; readers fill in what only reading tells, small
// files from end to end; the pieces of large ones go to whoever is free.
type putter struct {
	w       *chunk.Writer
	dir     string
	o       PutOptions
	entries []*Entry
	inodes  map[inode]string // the first names of files with several
	files   chan *Entry
	pieces  chan piece
}

// piece is a chunk of a large file, to be stored.
type piece struct {
	plain *[]byte
	size  int
	to    func(chunk.Digest)
}

func (p *putter) walk(ctx context.Context) error {
	var top unix.Stat_t
	if err := unix.Lstat(p.dir, &top); err != nil {
		return fmt.Errorf("%s: %w", p.dir, err)
	}
	if top.Mode&unix.S_IFMT != unix.S_IFDIR {
		return fmt.Errorf("%s is no directory", p.dir)
	}
	return p.enter(ctx, ".", &top, uint64(top.Dev))
}

// enter adds an entry and, of a directory, what is in it.
func (p *putter) enter(ctx context.Context, name string, st *unix.Stat_t, dev uint64) error {
	e := &Entry{
		Path: name, Mode: st.Mode & 0o7777, UID: st.Uid, GID: st.Gid, Time: time.Unix(st.Mtim.Unix()),
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		e.Type, e.Size = File, st.Size
	case unix.S_IFDIR:
		e.Type = Directory
	case unix.S_IFLNK:
		e.Type = Link
	case unix.S_IFCHR, unix.S_IFBLK:
		e.Type = Char
		if st.Mode&unix.S_IFMT == unix.S_IFBLK {
			e.Type = Block
		}
		e.Major, e.Minor = unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev))
	case unix.S_IFIFO:
		e.Type = Pipe
	default:
		return nil // a socket
	}
	if e.Type != Directory && st.Nlink > 1 {
		i := inode{uint64(st.Dev), st.Ino}
		if first, ok := p.inodes[i]; ok {
			p.entries = append(p.entries, &Entry{Path: name, Type: HardLink, Target: first})
			return nil
		}
		p.inodes[i] = name
	}
	p.entries = append(p.entries, e)
	kind := e.Type // the readers have e from now on
	select {
	case p.files <- e:
	case <-ctx.Done():
		return ctx.Err()
	}
	if kind != Directory || p.o.OneFileSystem && uint64(st.Dev) != dev {
		return nil
	}
	full := filepath.Join(p.dir, name)
	list, err := os.ReadDir(full) // sorted by name
	if err != nil {
		return p.vanished(name, err)
	}
	for _, c := range list {
		at := c.Name()
		if name != "." {
			at = name + "/" + at
		}
		if p.o.Skip != nil && p.o.Skip(at) {
			continue
		}
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(full, c.Name()), &st); err != nil {
			if err := p.vanished(at, err); err != nil {
				return err
			}
			continue
		}
		if err := p.enter(ctx, at, &st, dev); err != nil {
			return err
		}
	}
	return nil
}

// vanished is the error of reading a path, or nil when the path is gone and may be.
func (p *putter) vanished(name string, err error) error {
	if errors.Is(err, fs.ErrNotExist) && p.o.Vanished != nil {
		p.o.Vanished(name)
		return nil
	}
	return fmt.Errorf("%s: %w", name, err)
}

// buffers hold chunks on their way.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, chunk.MinSize); return &b }}

func (p *putter) read(ctx context.Context) error {
	r := &fileReader{putter: p, list: make([]byte, 4096), value: make([]byte, 64<<10)}
	for e := range p.files {
		err := r.fill(ctx, e)
		if err == nil {
			continue
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := p.vanished(e.Path, err); err != nil {
			return err
		}
		e.Type = 0
	}
	return nil
}

func (p *putter) store(ctx context.Context) error {
	for c := range p.pieces {
		var d chunk.Digest
		err := ctx.Err()
		if err == nil {
			d, err = p.w.Put((*c.plain)[:c.size])
		}
		buffers.Put(c.plain)
		c.to(d) // always: a reader waits for it
		if err != nil {
			return err
		}
	}
	return nil
}

// fileReader reads one entry after the other.
type fileReader struct {
	*putter
	cutter      chunk.Cutter
	list, value []byte
}

func (r *fileReader) fill(ctx context.Context, e *Entry) (err error) {
	full := filepath.Join(r.dir, e.Path)
	if e.Xattrs, err = r.xattrs(full); err != nil {
		return err
	}
	switch e.Type {
	case Link:
		e.Target, err = os.Readlink(full)
		return err
	case File:
		return r.content(ctx, e, full)
	}
	return nil
}

// xattrs reads the extended attributes of a path, not following it. A file system without them has none.
func (r *fileReader) xattrs(full string) ([]Xattr, error) {
	n, err := unix.Llistxattr(full, r.list)
	for errors.Is(err, unix.ERANGE) {
		r.list = make([]byte, 2*len(r.list))
		n, err = unix.Llistxattr(full, r.list)
	}
	if errors.Is(err, unix.ENOTSUP) || n == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []Xattr
	for name := range strings.SplitSeq(strings.TrimRight(string(r.list[:n]), "\x00"), "\x00") {
		n, err := unix.Lgetxattr(full, name, r.value)
		if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("attribute %s: %w", name, err)
		}
		out = append(out, Xattr{name, slices.Clone(r.value[:n])})
	}
	slices.SortFunc(out, func(a, b Xattr) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// content stores a file's content. Its size is that of what was read: the file may grow meanwhile.
func (r *fileReader) content(ctx context.Context, e *Entry, full string) error {
	fd, err := unix.Open(full, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NOATIME, 0)
	if errors.Is(err, unix.EPERM) {
		fd, err = unix.Open(full, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), full)
	defer f.Close()
	if e.Size <= chunk.MinSize {
		return r.small(e, fd)
	}
	expected := e.Size
	e.Size = 0
	for e.Size < expected {
		// SEEK_DATA and SEEK_HOLE give the extents that are there; a file system without them says that all is data.
		data, err := unix.Seek(fd, e.Size, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			data = expected
		} else if err != nil {
			return err
		}
		if data > e.Size {
			data = min(data, expected)
			e.Parts = append(e.Parts, Part{Hole: true, Size: data - e.Size})
			e.Size = data
			continue
		}
		hole, err := unix.Seek(fd, data, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		if _, err := unix.Seek(fd, data, unix.SEEK_SET); err != nil {
			return err
		}
		before := e.Size
		if err := r.extent(ctx, e, io.LimitReader(f, min(hole, expected)-data)); err != nil {
			return err
		}
		if e.Size == before {
			break // it became shorter
		}
	}
	return nil
}

// small stores a file of one chunk at most.
func (r *fileReader) small(e *Entry, fd int) error {
	room := buffers.Get().(*[]byte)
	defer buffers.Put(room)
	b := (*room)[:chunk.MinSize]
	n := 0
	for n < len(b) {
		got, err := unix.Read(fd, b[n:])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		if n += got; got == 0 || int64(n) == e.Size {
			break
		}
	}
	e.Size, e.Parts = int64(n), nil
	if n == 0 {
		return nil
	}
	d, err := r.w.Put(b[:n])
	e.Parts = []Part{{Digest: d, Size: int64(n)}}
	return err
}

// extent cuts a piece of a file into chunks, stored by whoever is free.
func (r *fileReader) extent(ctx context.Context, e *Entry, from io.Reader) error {
	var room *[]byte
	var wait sync.WaitGroup
	var parts []*Part
	err := r.cutter.Cut(from, func() []byte {
		room = buffers.Get().(*[]byte)
		return (*room)[:cap(*room)]
	}, func(plain []byte) error {
		part := &Part{Size: int64(len(plain))}
		parts = append(parts, part)
		*room = plain[:0] // it may have grown
		wait.Add(1)
		select {
		case r.pieces <- piece{plain: room, size: len(plain), to: func(d chunk.Digest) { part.Digest = d; wait.Done() }}:
			return nil
		case <-ctx.Done():
			wait.Done()
			return ctx.Err()
		}
	})
	wait.Wait()
	if err != nil {
		return err
	}
	for _, p := range parts {
		e.Parts = append(e.Parts, *p)
		e.Size += p.Size
	}
	return nil
}
